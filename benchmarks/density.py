"""Held-out density: a VAE at its defaults beside four classical models, each tuned.

    python benchmarks/density.py                                # every table, seeds 0,1,2
    python benchmarks/density.py --quick --param n_components=4 --param hidden_layer_sizes="(64,)"
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

import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from common import cached, digest, options, print_frame, summary, tell, timed, wins
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler
from tables import LOADERS, load_tables, split

import sklearn_vae

PROTOCOL = 1  # raise it when a rival or its tuning changes: what the cache holds is then not used
QUICK_TABLES = ["wine", "diabetes", "banknote"]
MIXTURE_SIZES = [*range(1, 21), 25, 30, 40, 50]
LATENT_SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]
BANDWIDTHS = np.logspace(-1.5, 0.5, 25)
FOLDS = KFold(5, shuffle=True, random_state=0)
TUNED = ("n_components", "covariance_type", "reg_covar", "bandwidth", "n_iter_")

Figures = dict[str, Any]  # nats, seconds, choice: one model on one split, a row of JSON

# The rivals: standardized rows and a seed -> a fitted estimator with score_samples


def gaussian_mixture(Z: np.ndarray, seed: int) -> GaussianMixture:
    """Winner by BIC over sizes and covariance types; reg_covar by cross-validation."""

    def winner(reg_covar: float) -> GaussianMixture:
        fewest_rows = {"full": max(10, Z.shape[1] + 1), "tied": 10, "diag": 10, "spherical": 10}
        fitted = (
            GaussianMixture(
                size, covariance_type=covariance, reg_covar=reg_covar, random_state=seed
            ).fit(Z)
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


def by_cross_validation(model: Any, Z: np.ndarray, **grid: Any) -> Any:
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


def run(args: Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per table, seed and model, and tell of it on stderr."""
    for table in load_tables(args.tables):
        for seed in args.seeds:
            rows = split(table.X, seed)
            where = f"{table.name}/{seed}/{digest(*rows)}"
            results = {args.estimator: run_ours(args.estimator, args.param, *rows, seed)}
            for name, fit in {} if args.no_rivals else RIVALS.items():
                key = f"v{PROTOCOL}/{where}/{name}"
                results[name] = cached(
                    "rivals", key, lambda fit=fit, rows=rows, seed=seed: run_rival(fit, *rows, seed)
                )
            for name, figures in results.items():
                note = "{nats:9.3f} nats {seconds:7.2f} s  {choice}".format(**figures)
                tell(f"{table.name:14} seed {seed} {name:16}{note}")
                yield {"table": table.name, "seed": seed, "model": name, **figures}


def run_rival(fit: Callable, train: np.ndarray, test: np.ndarray, seed: int) -> Figures:
    """Fit on standardized rows; give nats in the rows' own units."""
    scaler = StandardScaler().fit(train)
    own_units = np.log(scaler.scale_).sum()

    def score() -> tuple[Any, np.ndarray]:
        model = fit(scaler.transform(train), seed)
        return model, model.score_samples(scaler.transform(test)) - own_units

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return figures_of(*timed(score))


def run_ours(name: str, param: dict, train: np.ndarray, test: np.ndarray, seed: int) -> Figures:
    """Fit the estimator of that name on the rows as they are."""
    model = getattr(sklearn_vae, name)(**{"random_state": seed, **param})

    return figures_of(*timed(lambda: (model, model.fit(train).score_samples(test))))


def figures_of(seconds: float, scored: tuple[Any, np.ndarray]) -> Figures:
    model, log_density = scored
    nats = float(log_density.mean())
    return {
        "nats": nats if np.isfinite(nats) else -np.inf,  # a row without a density loses the table
        "seconds": seconds,
        "choice": " ".join(f"{key}={getattr(model, key)}" for key in TUNED if hasattr(model, key)),
    }


def report(records: pd.DataFrame, ours: str) -> None:
    """Three tables: nats, wins, CPU seconds."""
    models = records["model"].unique()
    by_split = records.pivot(index=["table", "seed"], columns="model")
    nats, tables = by_split["nats"][models], records["table"].unique()
    if len(models) > 1:
        nats["best rival"] = nats.drop(columns=ours).max(axis=1)
        gaps = nats.drop(columns=ours).rsub(nats[ours], axis=0)
        nats["gap"] = gaps["best rival"]
    print_frame("held-out nats", summary(nats).loc[tables])
    if len(models) > 1:
        print_frame(f"{ours} against", wins(gaps))
    print_frame("CPU seconds", summary(by_split["seconds"][models]).loc[tables])


def main() -> None:
    args = options(
        __doc__,
        tables=[*LOADERS],
        seeds=[0, 1, 2],
        quick=False,
        estimator="VAETransformer",
        param={},
        no_rivals=False,
    )
    if args.quick:
        args.tables, args.seeds = QUICK_TABLES, args.seeds[:1]
    report(pd.DataFrame(run(args)), args.estimator)


if __name__ == "__main__":
    main()
