"""Time and errors of `score_samples`: bias, noise and cover by number of draws.

    python benchmarks/score_draws.py                      # four tables, both densities
    python benchmarks/score_draws.py --tables wine --draws 16,64,256 --repeats 32
    python benchmarks/score_draws.py --tables wine,MASS__Boston.csv

How each figure is obtained:

- Rows come from tables.py (of digits and the like, split 0), and a name with ``.csv`` is a file of
  the folder ``real`` beside them, read as in sweep.py. Estimators have their defaults and
  `random_state=0`; at most 60 test rows are scored, with several independent sets of points.
- The reference is log p(x) by eight sets of 1,024 points. The estimate lies below log p(x) on
  average, so a bias is below 0 but for noise.
- Noise of the mean: standard deviation over the sets of the mean score over the rows. It is the
  luck in `score`, by which a comparison of models could be decided.
- Error: mean absolute difference of a row's score from the reference.
- Cover: share of the rows whose score ± 1.645 `std` of `return_std=True` has the reference (whose
  own standard error is added), with the default number of draws: the mean over sets of points for
  the score, and the standard deviation between them. One table is scored with one set.
- Microseconds: CPU time of one set for one row on one thread.
"""

import warnings
from typing import Any

import numpy as np
from common import options, table, timed
from sweep import read
from tables import DATA, load_table, split

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.estimators.density_estimator import STD_SCRAMBLINGS
from sklearn_vae.inference.log_density import SCORE_DRAWS
from sklearn_vae.numerics.array_api import log_mean_exp

MAX_ROWS = 60
# Points and sets of the reference, and the quantile of 90 % intervals.
REFERENCE_DRAWS, REFERENCE_SETS, FIRST_SEED, QUANTILE = 1024, 8, 1_000_000, 1.645


def rows_of(name: str) -> tuple[Any, Any]:
    """Rows to fit and to score: of a table of tables.py, or of a CSV file."""
    is_file = name.endswith(".csv")
    train, test = read(DATA / "real" / name) if is_file else split(load_table(name).X, seed=0)
    return train, test[:MAX_ROWS]


def scores(model: Any, X: Any, n_draws: int, seeds: range) -> np.ndarray:
    """Scores with independent sets of points: (n_sets, n_rows)."""
    rows, fitted = model._rows_and_model(X, None)
    return np.array([fitted.log_density(rows, n_draws, seed).astype(float) for seed in seeds])


def reference(model: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Log p(x) by many draws, and its standard error."""
    sets = scores(model, X, REFERENCE_DRAWS, range(FIRST_SEED, FIRST_SEED + REFERENCE_SETS))
    return log_mean_exp(sets, 0), sets.std(axis=0, ddof=1) / np.sqrt(REFERENCE_SETS)


def cover(sets: np.ndarray, truth: np.ndarray, own_error: np.ndarray) -> str:
    """Share of intervals of 90 % that have log p(x), in percent: mean and standard deviation."""
    shares = []
    for first in range(len(sets)):
        used = np.roll(sets, -first, axis=0)[:STD_SCRAMBLINGS]
        error = np.hypot(used.std(axis=0, ddof=1), own_error)
        shares.append(100 * (np.abs(used[0] - truth) <= QUANTILE * error + 1e-9).mean())
    return f"{np.mean(shares):.1f} ± {np.std(shares):.0f}"


def report(name: str, draws: list[int], repeats: int) -> None:
    """Fit both densities to a table, and print their errors by number of draws."""
    lines = []
    train, test = rows_of(name)
    for cls in (VAETransformer, VAEDensity):
        model = cls(random_state=0).fit(train)
        truth, own_error = reference(model, test)
        for n_draws in draws:
            seconds, sets = timed(
                lambda model=model, n=n_draws: scores(model, test, n, range(repeats))
            )
            mean, error = sets.mean(axis=1), np.abs(sets - truth).mean()
            lines.append([cls.__name__, str(n_draws), f"{mean.mean() - truth.mean():+.3f}"])
            lines[-1] += [f"{mean.std(ddof=1):.3f}", f"{error:.3f}"]
            is_default = n_draws == SCORE_DRAWS
            lines[-1].append(cover(sets, truth, own_error) if is_default else "")
            lines[-1].append(f"{1e6 * seconds / sets.size:.0f}")
    header = ["estimator", "draws", "bias", "noise of the mean", "error", "cover, %", "µs a row"]
    table(f"{name}: {len(test)} rows of {test.shape[1]} columns", header, lines)


def main() -> None:
    args = options(
        __doc__,
        tables=["wine", "breast_cancer", "red_wine", "digits"],
        draws=[SCORE_DRAWS],
        repeats=18,
    )
    warnings.simplefilter("ignore")
    for name in args.tables:
        report(name, args.draws, args.repeats)


if __name__ == "__main__":
    main()
