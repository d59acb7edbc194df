"""Bias and noise of `score_samples` by number and kind of draws.

    python benchmarks/score_draws.py                      # four tables, 2 and 8 components
    python benchmarks/score_draws.py --tables wine --n-components 4 --repeats 32
    python benchmarks/score_draws.py --part errors --tables wine,MASS__Boston.csv

How each figure is obtained:

- Rows come from tables.py. A `VAETransformer` with the default parameters, but for `n_components`
  and `random_state=0`, is fitted on the training rows of split 0; the test rows are scored.
- A row's score is the importance-weighted bound with a set of points that all rows share, as in
  `score_samples`. It is computed with independent sets of points of three kinds: scramblings of
  the Sobol points, a little wider than q(z|x), as the score draws them; the same, just as wide as
  q(z|x); and standard normal random points, just as wide.
- Bias: the mean score over rows and sets, minus that of four sets of 4,096 Sobol points. The
  bound lies below log p(x) on average, so a bias is below 0 but for noise.
- Noise of the mean: standard deviation over the sets of the mean score over the rows. It is the
  luck in `score`, by which a comparison of models could be decided.
- Noise of a row: the same of a single row's score (what `return_std=True` reports), as the root of
  the mean square over rows.
- Milliseconds: CPU time of one set for 1,000 rows on one thread.

All figures but the last are nats, and follow from the seeds. With ``--part errors``, 60 test rows
at most are scored by fits with the default parameters; a name with ``.csv`` is a file of
``../shared/data/real``, read as in sweep.py.

- Coverage: share of the rows whose score ± 1.645 `std` of `return_std=True` has the reference
  (eight sets of 1,024 points, whose own standard error is added); the mean over sets of points for
  the score, and the standard deviation between them. One table is scored with one set.
- ONNX: mean absolute error in nats of the score of `to_onnx`, by PyTorch, of `score_samples`, and
  of the encoder's bound with 64 points, of a `VAETransformer` with `likelihood="gaussian"`.
"""

import argparse
import time
import warnings
from collections.abc import Callable
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
from sklearn_vae.numerics.random import sobol_normal
from sklearn_vae.onnx import Score

TABLES = "wine,breast_cancer,red_wine,digits"
DRAWS = [2**power for power in range(11)]
REFERENCE_DRAWS, REFERENCE_SETS = 4096, 4
FIRST_REFERENCE_SEED = 1_000_000
# Of the part "errors": rows, points and sets of the reference, and the quantile of 90 % intervals.
MAX_ERROR_ROWS, ERROR_DRAWS, ERROR_SETS, QUANTILE = 60, 1024, 8, 1.645


def random_normal(n_draws: int, n_dims: int, seed: int) -> np.ndarray:
    """Points without any plan, in the place of Sobol's."""
    return np.random.default_rng(seed).standard_normal((n_draws, n_dims))


class Error(NamedTuple):
    """Bias, noise (in nats) and cost of a score with one kind and number of points."""

    bias: float
    noise_of_mean: float
    noise_of_row: float
    milliseconds: float


class Sampler(NamedTuple):
    """A way to draw points."""

    name: str
    draw: Callable[[int, int, int], np.ndarray]
    wide: bool


SAMPLERS = (
    Sampler("Sobol, wider", sobol_normal, True),
    Sampler("Sobol", sobol_normal, False),
    Sampler("random", random_normal, False),
)


def scores(fitted: Predictor, X: np.ndarray, points: np.ndarray, wide: bool) -> np.ndarray:
    """Score rows with the given standard normal points, as `score_samples` does with its own."""
    model = fitted.module(X.dtype)
    noise = torch.as_tensor(points.astype(X.dtype))[None, :, None, :]  # (1, K, 1, l)
    x = torch.as_tensor(fitted.columns.transform(X))
    with torch.no_grad():
        scale = fitted.architecture.proposal_scale if wide else 1.0
        parts = [
            log_mean_exp(model.log_weights(rows[None], noise, scale).log_weight, 1)[0]
            for rows in x.split(fitted.rows_per_chunk(len(points)))
        ]
    return torch.cat(parts).numpy() + fitted.columns.log_abs_det_jacobian(X)


def repeated(
    fitted: Predictor, X: np.ndarray, sampler: Sampler, n_draws: int, seeds: range
) -> np.ndarray:
    """Scores with an independent set of points per seed: (n_sets, n_rows)."""
    n_components = fitted.architecture.n_components
    points = (sampler.draw(n_draws, n_components, seed) for seed in seeds)
    return np.array([scores(fitted, X, noise, sampler.wide) for noise in points])


def measure(
    fitted: Predictor, X: np.ndarray, sampler: Sampler, n_draws: int, repeats: int, truth: float
) -> Error:
    start = time.process_time()
    sets = repeated(fitted, X, sampler, n_draws, range(repeats))
    seconds = time.process_time() - start

    return Error(
        bias=sets.mean() - truth,
        noise_of_mean=sets.mean(axis=1).std(ddof=1),
        noise_of_row=np.sqrt(sets.var(axis=0, ddof=1).mean()),
        milliseconds=1e6 * seconds / sets.size,
    )


def report(name: str, n_components: int, X: np.ndarray, repeats: int) -> None:
    """Fit one model and print its table."""
    train, test = split(X, seed=0)
    model = VAETransformer(n_components=n_components, random_state=0, device="cpu").fit(train)
    fitted = model._predictor()
    seeds = range(FIRST_REFERENCE_SEED, FIRST_REFERENCE_SEED + REFERENCE_SETS)
    truth = repeated(fitted, test, SAMPLERS[0], REFERENCE_DRAWS, seeds).mean()

    print(f"\n### {name}: {len(test)} rows × {X.shape[1]} columns, n_components={n_components}, ")
    print(f"{truth:.3f} nats at {REFERENCE_DRAWS} draws\n")
    heads = " | ".join(f"{sampler.name}: bias | of the mean | of a row" for sampler in SAMPLERS)
    print(f"| draws | {heads} | ms per 1,000 rows |")
    print("|" + "---|" * (3 * len(SAMPLERS) + 2))
    for n_draws in DRAWS:
        errors = [measure(fitted, test, sampler, n_draws, repeats, truth) for sampler in SAMPLERS]
        cells = " | ".join(
            f"{error.bias:+.3f} | {error.noise_of_mean:.3f} | {error.noise_of_row:.3f}"
            for error in errors
        )
        print(f"| {n_draws} | {cells} | {errors[0].milliseconds:.1f} |", flush=True)


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
    """Mean absolute errors of scores: of ONNX, of the estimator, of the encoder's bound."""
    if isinstance(train, pd.DataFrame):
        names = train.select_dtypes("number").columns
        train, test = (part[names].dropna().to_numpy(float) for part in (train, test))
    model = VAETransformer(likelihood="gaussian", random_state=0).fit(train)
    truth, _ = reference(model, test)
    fitted = model._predictor()
    noise = fitted.noise(SCORE_DRAWS, test.dtype)[0, :, 0].numpy()
    with torch.no_grad():
        onnx = Score(fitted, SCORE_DRAWS)(torch.as_tensor(test)).numpy()
    found = onnx, model.score_samples(test), scores(fitted, test, noise, True)
    return " | ".join(f"{np.abs(each - truth).mean():.3f}" for each in found)


def report_errors(names: list[str], repeats: int) -> None:
    """Print coverage and errors of ONNX by table."""
    print("| table | VAETransformer covers | VAEDensity | error of ONNX | estimator | bound |")
    print("|---|---|---|---|---|---|")
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
    add("--n-components", default="2,8", help="latent sizes: %(default)s")
    add("--repeats", type=int, default=16, help="sets of points: %(default)s")
    args = parser.parse_args()

    torch.set_num_threads(1)
    with threadpool_limits(1):
        if args.part == "errors":
            warnings.simplefilter("ignore")
            report_errors(args.tables.split(","), args.repeats)
            return
        for table in load_tables(args.tables.split(",")):
            for n_components in map(int, args.n_components.split(",")):
                report(table.name, n_components, table.X, args.repeats)


if __name__ == "__main__":
    main()
