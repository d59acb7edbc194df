"""Held-out density: a VAE at its defaults beside four classical models, each tuned.

    python benchmarks/density.py                                # every table, seeds 0,1,2
    python benchmarks/density.py --quick --param n_components=4 --param hidden_layer_sizes="(64,)"
    python benchmarks/density.py --tables digits,adbench/glass --seeds 0 --json digits.json
    python benchmarks/density.py --only-rivals                  # fill the cache of rivals
    python benchmarks/density.py --estimator VAEDensity --tables oddbench --seeds 0 --no-rivals

How each figure is obtained:

- Rows come from tables.py: duplicates dropped, dequantized with a fixed seed, then split 80/20 by
  seed. A figure is the mean of log p(x) over the test rows, in nats, in the table's own units,
  averaged over the seeds; behind ± stands the standard deviation over the seeds.
- The rivals see standardized columns; the log-determinant of the scaling is added back.
  GaussianMixture: components (1 to 20, 25, 30, 40, 50) and covariance type by BIC, for reg_covar
  1e-6 and 1e-5, between which 5-fold cross-validation decides. A component has at least ten
  training rows on average, and with full covariances more rows than columns: beyond that, BIC is
  fooled by components that have collapsed. FactorAnalysis (tol 1e-4, max_iter 3000) and
  probabilistic PCA: components by 5-fold cross-validation. KernelDensity: Gaussian, bandwidth by
  5-fold cross-validation.
- The VAE sees the columns as they are, and its `random_state` is the seed.
- "Best rival" is the one that is best on the test rows of each split: a choice that nobody could
  have made beforehand. "Gap" is the VAE's figure minus that. The table of wins counts tables by
  their mean gap over the seeds, and splits one by one.
- CPU seconds (`time.process_time`, one thread) hold tuning, fit and scoring; the VAE's first fit
  of a process also holds what torch imports then, about a second.

Rivals' results are kept in benchmarks/.cache/rivals.json by table, seed, protocol and a digest of
the rows, so that tuning the VAE does not fit them again. Delete the file to time them anew.
"""

import argparse
import ast
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler
from tables import LOADERS, load_tables, split
from threadpoolctl import threadpool_limits

PROTOCOL = 1  # raise it when a rival or its tuning changes: what the cache holds is then not used
CACHE = Path(__file__).resolve().parent / ".cache" / "rivals.json"
QUICK_TABLES = "wine,diabetes,banknote"
MIXTURE_SIZES = [*range(1, 21), 25, 30, 40, 50]
LATENT_SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]
BANDWIDTHS = np.logspace(-1.5, 0.5, 25)
FOLDS = KFold(5, shuffle=True, random_state=0)


Figures = dict[str, Any]  # nats, seconds, choice: one model on one split, a row of JSON

# The rivals: standardized rows and a seed -> a fitted estimator with score_samples


def gaussian_mixture(Z: np.ndarray, seed: int) -> GaussianMixture:
    """Winner by BIC over sizes and covariance types; reg_covar by cross-validation."""

    def winner(reg_covar: float) -> GaussianMixture:
        fewest_rows = {"full": max(10, Z.shape[1] + 1), "tied": 10, "diag": 10, "spherical": 10}
        options = {"reg_covar": reg_covar, "random_state": seed}
        fitted = (
            GaussianMixture(size, covariance_type=covariance, **options).fit(Z)
            for covariance, fewest in fewest_rows.items()
            for size in MIXTURE_SIZES
            if size == 1 or size * fewest <= len(Z)
        )
        return min(fitted, key=lambda mixture: mixture.bic(Z))

    return max(map(winner, (1e-6, 1e-5)), key=lambda m: cross_val_score(m, Z, cv=FOLDS).mean())


def factor_analysis(Z: np.ndarray, seed: int) -> FactorAnalysis:
    # the exact SVD is the faster one on narrow tables, and fifty times slower on 64 columns
    svd_method = "lapack" if Z.shape[1] < 40 else "randomized"
    model = FactorAnalysis(tol=1e-4, max_iter=3000, svd_method=svd_method, random_state=seed)
    return by_cross_validation(model, Z, n_components=LATENT_SIZES)


def probabilistic_pca(Z: np.ndarray, seed: int) -> PCA:
    model = PCA(svd_solver="full", random_state=seed)
    return by_cross_validation(model, Z, n_components=LATENT_SIZES)


def kernel_density(Z: np.ndarray, _seed: int) -> KernelDensity:
    return by_cross_validation(KernelDensity(), Z, bandwidth=BANDWIDTHS)


def by_cross_validation(model: Any, Z: np.ndarray, **grid: Iterable) -> Any:
    if "n_components" in grid:
        grid["n_components"] = [size for size in grid["n_components"] if size < Z.shape[1]]
    return GridSearchCV(model, grid, cv=FOLDS, error_score="raise").fit(Z).best_estimator_


RIVALS: dict[str, Callable[[np.ndarray, int], Any]] = {
    "GaussianMixture": gaussian_mixture,
    "FactorAnalysis": factor_analysis,
    "pPCA": probabilistic_pca,
    "KernelDensity": kernel_density,
}


# Fitting and scoring


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per table, seed and model, and tell of it on stderr."""
    for table in load_tables(args.tables):
        for seed in args.seeds:
            rows = split(table.X, seed)
            results = rival_results(f"{table.name}/{seed}", *rows, seed, fit=not args.no_rivals)
            if not args.only_rivals:
                results[args.estimator] = run_ours(args.estimator, args.param, *rows, seed)
            for name, figures in results.items():
                note = "{nats:9.3f} nats {seconds:7.2f} s  {choice}".format(**figures)
                print(f"{table.name:14} seed {seed} {name:16}{note}", file=sys.stderr)
                yield {"table": table.name, "seed": seed, "model": name, **figures}


def rival_results(
    key: str, train: np.ndarray, test: np.ndarray, seed: int, *, fit: bool
) -> dict[str, Figures]:
    """Take the rivals' figures from the cache; fit those that it lacks, if asked to."""
    kept = json.loads(CACHE.read_text()) if CACHE.exists() else {}
    digest = hashlib.sha256(train.tobytes() + test.tobytes()).hexdigest()[:12]
    keys = {name: f"v{PROTOCOL}/{key}/{digest}/{name}" for name in RIVALS}
    missing = [name for name in RIVALS if keys[name] not in kept]
    if missing and not fit:
        print(f"{key}: not in the cache, left out: {', '.join(missing)}", file=sys.stderr)
    elif missing:
        kept |= {keys[name]: run_rival(RIVALS[name], train, test, seed) for name in missing}
        CACHE.parent.mkdir(exist_ok=True)
        CACHE.write_text(json.dumps(kept, indent=1, sort_keys=True))

    return {name: kept[key] for name, key in keys.items() if key in kept}


def run_rival(fit: Callable, train: np.ndarray, test: np.ndarray, seed: int) -> Figures:
    """Fit on standardized rows; give nats in the rows' own units."""
    start = time.process_time()
    scaler = StandardScaler().fit(train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = fit(scaler.transform(train), seed)
    log_density = model.score_samples(scaler.transform(test)) - np.log(scaler.scale_).sum()

    return figures_of(model, log_density, start)


def run_ours(name: str, param: dict, train: np.ndarray, test: np.ndarray, seed: int) -> Figures:
    """Fit the estimator of that name on the rows as they are."""
    import torch

    import sklearn_vae

    torch.set_num_threads(1)
    model = getattr(sklearn_vae, name)(**{"random_state": seed, **param})
    start = time.process_time()

    return figures_of(model, model.fit(train).score_samples(test), start)


def figures_of(model: Any, log_density: np.ndarray, start: float) -> Figures:
    nats = float(log_density.mean())
    tuned = ("n_components", "covariance_type", "reg_covar", "bandwidth", "n_iter_")
    return {
        "nats": nats if np.isfinite(nats) else -np.inf,  # a row without a density loses the table
        "seconds": time.process_time() - start,
        "choice": " ".join(f"{key}={getattr(model, key)}" for key in tuned if hasattr(model, key)),
    }


# Printing


def report(records: pd.DataFrame, ours: str) -> None:
    """Three tables: nats, wins, CPU seconds."""
    tables, present = records["table"].unique(), set(records["model"])
    models = [name for name in [ours, *RIVALS] if name in present]
    by_split = records.pivot(index=["table", "seed"], columns="model")
    nats = by_split["nats"][models]
    nats["best rival"] = nats.drop(columns=ours, errors="ignore").max(axis=1)
    if ours in present:
        gaps = nats.drop(columns=ours).rsub(nats[ours], axis=0)
        nats["gap"] = gaps["best rival"]
    print_table("held-out nats", summary(nats).loc[tables])
    if ours in present:
        print_table(f"{ours} against", wins(gaps))
    print_table("CPU seconds", summary(by_split["seconds"][models]).loc[tables])


def summary(values: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """Mean over the seeds ± standard deviation."""
    by_table = values.groupby(level="table")
    spread = by_table.std().map(lambda std: f" ± {std:.{digits}f}" if np.isfinite(std) else "")
    return by_table.mean().map(f"{{:.{digits}f}}".format) + spread


def wins(gaps: pd.DataFrame) -> pd.DataFrame:
    """Count the positive gaps, by table and by split."""
    by_table = gaps.groupby(level="table").mean()

    def won(values: pd.DataFrame) -> pd.Series:
        return (values > 0).sum().astype(str) + " of " + values.notna().sum().astype(str)

    columns = {
        "tables won": won(by_table),
        "splits won": won(gaps),
        "mean gap": by_table.mean().map("{:+.2f}".format),
        "worst table": by_table.min().map("{:+.2f}".format),
    }
    return pd.DataFrame(columns)


def print_table(corner: str, cells: pd.DataFrame) -> None:
    print()
    for row in [[corner, *cells], ["---"] * (cells.shape[1] + 1), *cells.itertuples()]:
        print("| " + " | ".join(row) + " |")


# The command line


def parameter(text: str) -> tuple[str, Any]:
    """`name=value`: the value is a Python literal, or else a word."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out nats of a VAE beside tuned rivals.")
    add = parser.add_argument
    add("--tables", default=",".join(LOADERS), help="names with commas between: %(default)s")
    add("--seeds", default="0,1,2", help="seeds of the splits: %(default)s")
    add("--quick", action="store_true", help=f"only {QUICK_TABLES}; only the first seed")
    add("--estimator", default="VAETransformer", help="a name in sklearn_vae: %(default)s")
    add("--param", action="append", default=[], type=parameter, metavar="NAME=VALUE")
    add("--no-rivals", action="store_true", help="fit no rivals, show those in the cache")
    add("--only-rivals", action="store_true", help="fit the rivals only")
    add("--json", type=Path, metavar="FILE", help="write every result there")
    args = parser.parse_args()
    args.tables = (QUICK_TABLES if args.quick else args.tables).split(",")
    args.seeds = [int(seed) for seed in args.seeds.split(",")][: 1 if args.quick else None]
    args.param = dict(args.param)

    with threadpool_limits(1):
        records = pd.DataFrame(run(args))
    if records.empty:
        parser.exit(message="nothing to show: no table, or no rival in the cache\n")
    report(records, args.estimator)
    if args.json:
        records.to_json(args.json, orient="records", indent=1)


if __name__ == "__main__":
    main()
