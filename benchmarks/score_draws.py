"""Bias and noise of `score_samples` by number of draws.

    python benchmarks/score_draws.py                      # four tables
    python benchmarks/score_draws.py --tables wine --n-components 4 --repeats 32
    python benchmarks/score_draws.py --part errors --tables wine,MASS__Boston.csv

How each figure is obtained:

- Rows come from tables.py. A `VAETransformer` with the default parameters, but for `n_components`
  and `random_state=0`, is fitted on the training rows of split 0; the test rows are scored.
- A row's score is that of `score_samples`, with several independent sets of points.
- Bias: the mean score over rows and sets, minus log p(x) by eight sets of 1,024 points. The
  estimate lies below log p(x) on average, so a bias is below 0 but for noise.
- Noise of the mean: standard deviation over the sets of the mean score over the rows. It is the
  luck in `score`, by which a comparison of models could be decided.
- Noise of a row: the same of a single row's score (what `return_std=True` reports), as the root of
  the mean square over rows.
- Microseconds: CPU time of one set for one row on one thread.

All figures but the last are nats, and follow from the seeds. With ``--part errors``, 60 test rows
at most are scored by fits with the default parameters; a name with ``.csv`` is a file of
``../shared/data/real``, read as in sweep.py.

- Coverage: share of the rows whose score ± 1.645 `std` of `return_std=True` has the reference
  (eight sets of 1,024 points, whose own standard error is added); the mean over sets of points for
  the score, and the standard deviation between them. One table is scored with one set.
- ONNX: mean absolute error in nats of the score of `to_onnx`, by PyTorch, and of `score_samples`,
  of a `VAETransformer` with `likelihood="gaussian"`.
"""

import argparse
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sweep import read
from tables import DATA, load_table, load_tables, split
from threadpoolctl import threadpool_limits

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.estimators.density_estimator import STD_SCRAMBLINGS
from sklearn_vae.inference.constants import SCORE_DRAWS
from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.numerics.functional import log_mean_exp
from sklearn_vae.onnx import Score

TABLES = "wine,breast_cancer,red_wine,digits"
DRAWS = [2**power for power in range(3, 9)]
MAX_ROWS = 200
FIRST_REFERENCE_SEED = 1_000_000
# Of the part "errors": rows, points and sets of the reference, and the quantile of 90 % intervals.
MAX_ERROR_ROWS, ERROR_DRAWS, ERROR_SETS, QUANTILE = 60, 1024, 8, 1.645


class Error(NamedTuple):
    """Error of a score with a number of draws in nats, and its cost."""

    bias: float
    of_mean: float
    of_row: float
    absolute: float
    microseconds: float


def measure(
    fitted: Predictor, X: np.ndarray, n_draws: int, repeats: int, truth: np.ndarray
) -> Error:
    """Compare scores with independent sets of points with log p(x) by many draws."""
    start = time.process_time()
    sets = np.array([fitted.log_density(X, n_draws, seed) for seed in range(repeats)])
    seconds = time.process_time() - start

    return Error(
        bias=sets.mean() - truth.mean(),
        of_mean=sets.mean(axis=1).std(ddof=1),
        of_row=np.sqrt(sets.var(axis=0, ddof=1).mean()),
        absolute=np.abs(sets - truth).mean(),
        microseconds=1e6 * seconds / sets.size,
    )


def report(name: str, n_components: int | str, X: np.ndarray, repeats: int) -> None:
    """Fit one model and print its table."""
    train, test = split(X, seed=0)
    test = test[:MAX_ROWS]
    model = VAETransformer(n_components=n_components, random_state=0, device="cpu").fit(train)
    fitted, truth = model._predictor(), reference(model, test)[0]

    print(f"\n### {name}: {len(test)} rows × {X.shape[1]} columns, n_components={n_components}\n")
    print("| draws | bias | noise of the mean | of a row | mean absolute error | µs a row |")
    print("|---|---|---|---|---|---|")
    for n_draws in DRAWS:
        error = measure(fitted, test, n_draws, repeats, truth)
        cells = " | ".join(f"{value:.3f}" for value in error[:-1])
        print(f"| {n_draws} | {cells} | {error.microseconds:.0f} |", flush=True)


def rows_of(name: str) -> tuple[Any, Any]:
    """Rows to fit and to score: of a table of tables.py, or of a CSV file."""
    if name.endswith(".csv"):
        train, test = read(DATA / "real" / name)
    else:
        train, test = split(load_table(name).X, seed=0)
    return train, test[:MAX_ERROR_ROWS]


def reference(model: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Log p(x) by many draws, and its standard error."""
    rows, fitted = model._rows_and_model(X, None)
    sets = np.array(
        [
            fitted.log_density(rows, ERROR_DRAWS, FIRST_REFERENCE_SEED + s).astype(float)
            for s in range(ERROR_SETS)
        ]
    )
    return log_mean_exp(sets, 0), sets.std(axis=0, ddof=1) / np.sqrt(ERROR_SETS)


def coverage(model: Any, X: Any, repeats: int) -> str:
    """Share of intervals of 90 % that have log p(x), in percent: mean and standard deviation."""
    truth, own_error = reference(model, X)
    rows, fitted = model._rows_and_model(X, None)
    sets = np.array([fitted.log_density(rows, SCORE_DRAWS, s) for s in range(repeats)])
    shares = []
    for first in range(repeats):
        used = np.roll(sets, -first, axis=0)[:STD_SCRAMBLINGS]
        error = np.hypot(used.std(axis=0, ddof=1), own_error)
        shares.append(100 * (np.abs(used[0] - truth) <= QUANTILE * error + 1e-9).mean())
    return f"{np.mean(shares):.1f} ± {np.std(shares):.0f}"


def onnx_errors(train: Any, test: Any) -> str:
    """Mean absolute errors of the scores of ONNX and of the estimator."""
    if isinstance(train, pd.DataFrame):
        names = train.select_dtypes("number").columns
        train, test = (part[names].dropna().to_numpy(float) for part in (train, test))
    model = VAETransformer(likelihood="gaussian", random_state=0).fit(train)
    truth, _ = reference(model, test)
    fitted = model._predictor()
    with torch.no_grad():
        onnx = Score(fitted, SCORE_DRAWS)(torch.as_tensor(test)).numpy()
    found = onnx, model.score_samples(test)
    return " | ".join(f"{np.abs(each - truth).mean():.3f}" for each in found)


def report_errors(names: list[str], repeats: int) -> None:
    """Print coverage and errors of ONNX by table."""
    print("| table | VAETransformer covers | VAEDensity | error of ONNX | estimator |")
    print("|---|---|---|---|---|")
    for name in names:
        train, test = rows_of(name)
        models = (cls(random_state=0).fit(train) for cls in (VAETransformer, VAEDensity))
        covered = " | ".join(coverage(model, test, repeats) for model in models)
        print(f"| {name} | {covered} | {onnx_errors(train, test)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bias and noise of the score by its draws.")
    add = parser.add_argument
    add("--part", default="draws", choices=["draws", "errors"], help="%(default)s")
    add("--tables", default=TABLES, help="names with commas between: %(default)s")
    add("--n-components", default="2,auto", help="latent sizes: %(default)s")
    add("--repeats", type=int, default=16, help="sets of points: %(default)s")
    args = parser.parse_args()

    torch.set_num_threads(1)
    with threadpool_limits(1):
        if args.part == "errors":
            warnings.simplefilter("ignore")
            report_errors(args.tables.split(","), args.repeats)
            return
        for table in load_tables(args.tables.split(",")):
            for size in args.n_components.split(","):
                n_components = int(size) if size.isdigit() else size
                report(table.name, n_components, table.X, args.repeats)


if __name__ == "__main__":
    main()
