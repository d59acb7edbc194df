"""Held-out codes: a VAE at its defaults beside PCA, FactorAnalysis and KernelPCA of its size.

    python benchmarks/codes.py                                 # every table, seeds 0,1,2
    python benchmarks/codes.py --quick                         # digits and wine, one seed
    python benchmarks/codes.py --tables wine --sizes 8 --param beta=0.5 --json wine.json
    python benchmarks/codes.py --only-rivals                   # fill the cache of rivals

How each figure is obtained:

- Rows are split 75/25 by seed and standardized by the training rows; every model sees these
  columns. A figure is the mean over the seeds; behind ± stands the standard deviation over them.
- R² is that of the reconstruction: one minus the squared error of `inverse_transform(transform(X))`
  over the squares of X about the training rows' mean, both summed over all test rows and columns.
  "R², own units" is the same in the columns' own units, where a pixel that is hardly ever inked
  weighs little; standardized it may weigh more than all others. FactorAnalysis has no inverse: its
  mean of p(x|z) is taken. KernelPCA is that of a Gaussian kernel, as its linear one is PCA; its
  inverse is the ridge regression that scikit-learn fits. A size is left out where the table has no
  more columns.
- Accuracies are those of 5-NN on the codes as they come and of LogisticRegression on standardized
  codes, both trained on the training rows' codes; "mean accuracy" is the mean of the two.
- Apart from its size each model has its defaults, and the seed as `random_state`. FactorAnalysis
  has tol 1e-4 and max_iter 3000, as in density.py, where the table has at most 100 columns.
- CPU seconds (`time.process_time`, one thread) are those of the fit; the VAE's first one of a
  process also holds what torch imports then, about a second.

MNIST is the file images/mnist.npz of the folder that tables.py says; 10,000 of its training rows,
by a fixed draw. Rivals' results are kept in benchmarks/.cache/codes.json, as density.py keeps its
own.
"""

import argparse
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from density import parameter, print_table, summary
from sklearn import datasets
from sklearn.decomposition import PCA, FactorAnalysis, KernelPCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import DATA
from threadpoolctl import threadpool_limits

PROTOCOL = 2  # raise it when a rival changes: what the cache holds is then not used
CACHE = Path(__file__).resolve().parent / ".cache" / "codes.json"
QUICK_TABLES = "digits,wine"
SIZES = "2,4,8,16"
MNIST_ROWS = 10_000

# training rows, test rows, the labels of both, and the columns' scales
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Figures = dict[str, float]  # r2, own, knn, logistic, accuracy, seconds: one model on one split


def digits() -> tuple[np.ndarray, np.ndarray]:
    return datasets.load_digits(return_X_y=True)


def wine() -> tuple[np.ndarray, np.ndarray]:
    return datasets.load_wine(return_X_y=True)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    return datasets.load_breast_cancer(return_X_y=True)


def mnist() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DATA / "images" / "mnist.npz") as file:
        X, y = file["x_train"].reshape(-1, 784) / 255.0, file["y_train"]
    rows = np.random.default_rng(0).permutation(len(X))[:MNIST_ROWS]

    return X[rows], y[rows]


LOADERS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    loader.__name__: loader for loader in (digits, wine, breast_cancer, mnist)
}

FIGURES = {"r2": "R²", "own": "R², own units", "knn": "5-NN", "logistic": "logistic"}

# The rivals: standardized rows, a size and a seed -> a fitted transformer


def pca(Z: np.ndarray, size: int, seed: int) -> PCA:
    return PCA(size, random_state=seed).fit(Z)


def factor_analysis(Z: np.ndarray, size: int, seed: int) -> FactorAnalysis:
    options = {"tol": 1e-4, "max_iter": 3000} if Z.shape[1] <= 100 else {}
    return FactorAnalysis(size, **options, random_state=seed).fit(Z)


def kernel_pca(Z: np.ndarray, size: int, seed: int) -> KernelPCA:
    return KernelPCA(
        size, kernel="rbf", fit_inverse_transform=True, eigen_solver="auto", random_state=seed
    ).fit(Z)


RIVALS: dict[str, Callable[[np.ndarray, int, int], Any]] = {
    "PCA": pca,
    "FactorAnalysis": factor_analysis,
    "KernelPCA": kernel_pca,
}


# Fitting and scoring


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per table, size, seed and model, and tell of it on stderr."""
    for table in args.tables:
        if table not in LOADERS:
            raise SystemExit(f"table {table!r} is unknown: use one of {', '.join(LOADERS)}")
        try:
            X, y = LOADERS[table]()
        except FileNotFoundError as error:
            print(f"{table}: skipped, {error.filename} is not there (set SKLEARN_VAE_DATA)\n")
            continue
        for size in (size for size in args.sizes if size < X.shape[1]):
            for seed in args.seeds:
                rows = split(X, y, seed)
                results = rival_results(f"{table}/{size}/{seed}", rows, size, seed)
                if not args.only_rivals:
                    results[args.estimator] = run_ours(args.estimator, args.param, rows, size, seed)
                for name, figures in results.items():
                    note = "R² {r2:6.3f}  5-NN {knn:.3f}  logistic {logistic:.3f}  {seconds:6.2f} s"
                    note = note.format(**figures)
                    print(f"{table:14} {size:3} seed {seed} {name:16}{note}", file=sys.stderr)
                    yield {"table": table, "size": size, "seed": seed, "model": name, **figures}


def split(X: np.ndarray, y: np.ndarray, seed: int) -> Rows:
    """Training and test rows, 75/25, standardized by the training rows, and their labels."""
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=seed)
    scaler = StandardScaler().fit(train)

    return scaler.transform(train), scaler.transform(test), y_train, y_test, scaler.scale_


def rival_results(key: str, rows: Rows, size: int, seed: int) -> dict[str, Figures]:
    """Take the rivals' figures from the cache; fit those that it lacks."""
    kept = json.loads(CACHE.read_text()) if CACHE.exists() else {}
    digest = hashlib.sha256(rows[0].tobytes() + rows[1].tobytes()).hexdigest()[:12]
    keys = {name: f"v{PROTOCOL}/{key}/{digest}/{name}" for name in RIVALS}
    missing = [name for name in RIVALS if keys[name] not in kept]
    for name in missing:
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = RIVALS[name](rows[0], size, seed)
        kept[keys[name]] = figures_of(model, rows, time.process_time() - start)
    if missing:
        CACHE.parent.mkdir(exist_ok=True)
        CACHE.write_text(json.dumps(kept, indent=1, sort_keys=True))

    return {name: kept[key] for name, key in keys.items()}


def run_ours(name: str, param: dict, rows: Rows, size: int, seed: int) -> Figures:
    """Fit the estimator of that name."""
    import torch

    import sklearn_vae

    torch.set_num_threads(1)
    model = getattr(sklearn_vae, name)(**{"n_components": size, "random_state": seed, **param})
    start = time.process_time()
    model.fit(rows[0])

    return figures_of(model, rows, time.process_time() - start)


def figures_of(model: Any, rows: Rows, seconds: float) -> Figures:
    train, test, y_train, y_test, scale = rows
    codes, new_codes = model.transform(train), model.transform(test)
    if isinstance(model, FactorAnalysis):
        back = new_codes @ model.components_ + model.mean_
    else:
        back = model.inverse_transform(new_codes)
    knn = KNeighborsClassifier(5).fit(codes, y_train)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    accuracies = knn.score(new_codes, y_test), logistic.fit(codes, y_train).score(new_codes, y_test)

    def r2(units: np.ndarray | float) -> float:
        return float(1 - np.square((test - back) * units).sum() / np.square(test * units).sum())

    return {
        "r2": r2(1.0),
        "own": r2(scale),
        "knn": float(accuracies[0]),
        "logistic": float(accuracies[1]),
        "accuracy": float(np.mean(accuracies)),
        "seconds": seconds,
    }


# Printing


def report(records: pd.DataFrame, ours: str) -> None:
    """R², accuracies, wins and losses, CPU seconds."""
    # one row per table and size, in the order in which they came
    records["table"] = records["table"] + ", " + records["size"].astype(str)
    cases, present = records["table"].unique(), set(records["model"])
    models = [name for name in [ours, *RIVALS] if name in present]
    by_split = records.pivot(index=["table", "seed"], columns="model")
    gaps = {}
    for name, label in FIGURES.items():
        values = by_split[name][models]
        if ours in present:
            values = values.assign(**{"less PCA's": values[ours] - values["PCA"]})
        print_table(label, summary(values, digits=3).loc[cases])
    for name, label in {"r2": "R²", "accuracy": "mean accuracy"}.items():
        if ours in present:
            values = by_split[name][models]
            gaps[label] = values.drop(columns=ours).rsub(values[ours], axis=0)
    for label, of_rivals in gaps.items():
        print_table(f"{ours}'s {label} against", wins(of_rivals))
    means = (
        by_split[["knn", "logistic", "accuracy"]].mean().unstack(0)[["knn", "logistic", "accuracy"]]
    )
    print_table("mean accuracy", means.loc[models].map("{:.3f}".format))
    print_table("CPU seconds", summary(by_split["seconds"][models]).loc[cases])


def wins(gaps: pd.DataFrame) -> pd.DataFrame:
    """Count gains and losses, by case (their mean over the seeds) and by split."""
    by_case = gaps.groupby(level="table").mean()

    def counted(values: pd.DataFrame) -> pd.Series:
        return (values > 0).sum().astype(str) + " : " + (values < 0).sum().astype(str)

    columns = {
        "cases won : lost": counted(by_case),
        "splits won : lost": counted(gaps),
        "mean gap": by_case.mean().map("{:+.3f}".format),
        "worst case": by_case.min().map("{:+.3f}".format) + " (" + by_case.idxmin() + ")",
    }
    return pd.DataFrame(columns)


# The command line


def main() -> None:
    parser = argparse.ArgumentParser(description="Codes of a VAE beside those of its rivals.")
    add = parser.add_argument
    add("--tables", default=",".join(LOADERS), help="names with commas between: %(default)s")
    add("--sizes", default=SIZES, help="numbers of components: %(default)s")
    add("--seeds", default="0,1,2", help="seeds of the splits: %(default)s")
    add("--quick", action="store_true", help=f"only {QUICK_TABLES}; only the first seed")
    add("--estimator", default="VAETransformer", help="a name in sklearn_vae: %(default)s")
    add("--param", action="append", default=[], type=parameter, metavar="NAME=VALUE")
    add("--only-rivals", action="store_true", help="fit the rivals only")
    add("--json", type=Path, metavar="FILE", help="write every result there")
    args = parser.parse_args()
    args.tables = (QUICK_TABLES if args.quick else args.tables).split(",")
    args.sizes = [int(size) for size in args.sizes.split(",")]
    args.seeds = [int(seed) for seed in args.seeds.split(",")][: 1 if args.quick else None]
    args.param = dict(args.param)

    with threadpool_limits(1):
        records = pd.DataFrame(run(args))
    if records.empty:
        parser.exit(message="nothing to show: no table\n")
    if args.json:
        records.to_json(args.json, orient="records", indent=1)
    report(records, args.estimator)


if __name__ == "__main__":
    main()
