"""Held-out codes: a VAE at its defaults beside PCA, FactorAnalysis and KernelPCA of its size.

    python benchmarks/codes.py                                 # four tables, seeds 0,1,2
    python benchmarks/codes.py --quick                         # digits and wine, one seed
    python benchmarks/codes.py --tables wine --sizes 8 --param beta=0.5

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

Rivals' results are kept in benchmarks/.cache/codes.json, as density.py keeps its own.
"""

import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from common import cached, digest, options, print_frame, summary, tell, timed, wins
from sklearn.decomposition import PCA, FactorAnalysis, KernelPCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import LABELLED, load_each

from sklearn_vae import VAETransformer

PROTOCOL = 2  # raise it when a rival changes: what the cache holds is then not used
TABLES = ["digits", "wine", "breast_cancer", "mnist"]
QUICK_TABLES = ["digits", "wine"]
OURS = "VAETransformer"
FIGURES = {
    "r2": "R²",
    "own": "R², own units",
    "knn": "5-NN",
    "logistic": "logistic",
    "accuracy": "mean accuracy",
}

# training rows, test rows, the labels of both, and the columns' scales
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def factor_analysis(size: int, seed: int, n_columns: int) -> FactorAnalysis:
    options = {"tol": 1e-4, "max_iter": 3000} if n_columns <= 100 else {}
    return FactorAnalysis(size, **options, random_state=seed)


def kernel_pca(size: int, seed: int, _n_columns: int) -> KernelPCA:
    return KernelPCA(size, kernel="rbf", fit_inverse_transform=True, random_state=seed)


RIVALS: dict[str, Callable[[int, int, int], Any]] = {
    "PCA": lambda size, seed, _n_columns: PCA(size, random_state=seed),
    "FactorAnalysis": factor_analysis,
    "KernelPCA": kernel_pca,
}


def run(args: Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per table, size, seed and model, and tell of it on stderr."""
    for table, (X, y) in load_each(args.tables, lambda name: LABELLED[name]()):
        for size in (size for size in args.sizes if size < X.shape[1]):
            for seed in args.seeds:
                rows = split(X, y, seed)
                ours = VAETransformer(size, random_state=seed).set_params(**args.param)
                results = {OURS: figures(ours, rows)}
                for name, make in RIVALS.items():
                    key = f"v{PROTOCOL}/{table}/{size}/{seed}/{digest(*rows[:2])}/{name}"
                    model = make(size, seed, X.shape[1])
                    results[name] = cached(
                        "codes", key, lambda model=model, rows=rows: figures(model, rows)
                    )
                for name, found in results.items():
                    shown = " ".join(f"{key} {value:.3f}" for key, value in found.items())
                    tell(f"{table:14} {size:3} seed {seed} {name:16}{shown}")
                    yield {"table": f"{table}, {size}", "seed": seed, "model": name, **found}


def split(X: np.ndarray, y: np.ndarray, seed: int) -> Rows:
    """Training and test rows, 75/25, standardized by the training rows, and their labels."""
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=seed)
    scaler = StandardScaler().fit(train)

    return scaler.transform(train), scaler.transform(test), y_train, y_test, scaler.scale_


def figures(model: Any, rows: Rows) -> dict[str, float]:
    train, test, y_train, y_test, scale = rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        seconds, _ = timed(lambda: model.fit(train))
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


def report(records: pd.DataFrame) -> None:
    """R², accuracies, wins and losses, CPU seconds."""
    by_split = records.pivot(index=["table", "seed"], columns="model")
    cases, models = records["table"].unique(), [OURS, *RIVALS]
    for name, label in FIGURES.items():
        values = by_split[name][models]
        less = values.assign(**{"less PCA's": values[OURS] - values["PCA"]})
        print_frame(label, summary(less, digits=3).loc[cases])
        if name in ("r2", "accuracy"):
            gaps = values.drop(columns=OURS).rsub(values[OURS], axis=0)
            print_frame(f"{OURS}'s {label} against", wins(gaps, digits=3))
    means = by_split["accuracy"][models].mean().to_frame("mean accuracy")
    print_frame("all tables and sizes", means, ".3f")
    print_frame("CPU seconds", summary(by_split["seconds"][models]).loc[cases])


def main() -> None:
    args = options(
        __doc__, tables=TABLES, sizes=[2, 4, 8, 16], seeds=[0, 1, 2], quick=False, param={}
    )
    if args.quick:
        args.tables, args.seeds = QUICK_TABLES, args.seeds[:1]
    report(pd.DataFrame(run(args)))


if __name__ == "__main__":
    main()
