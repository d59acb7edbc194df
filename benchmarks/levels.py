"""Time, memory and held-out density of tables with a column of many categories (levels).

    python benchmarks/levels.py                                    # both parts
    python benchmarks/levels.py --parts cost --levels 10,1000 --estimators transformer
    python benchmarks/levels.py --parts density --seeds 0

How each figure is obtained:

- ``cost``: tables of `--rows` rows, five columns (four numbers and one of two classes) and a column
  of strings, whose r-th level has a probability proportional to 1/(r + 5). Each level shifts the
  other columns by two random effects. A fresh process per table and estimator first fits 200 rows,
  so that all imports are done. Then come the CPU seconds of fit (`--max-iter` iterations;
  VAEImputer's defaults), `score_samples` and `sample` of 2,000 rows (`transform` for the imputer,
  whose tables lack 10 % of the cells), and by how much the peak memory rises. Ratios are to the
  first number of levels.
- ``density``: mean log-density of held-out rows, with rare levels in shared classes and with one
  class per level (``likelihood={"level": Categorical(n)}``). The difference is "shared" minus
  "each", with its standard error over rows. `uniform` and `zipf` are 9,000 rows with 1,000 levels,
  `none` has levels that tell nothing of the other columns, and `taxis` has two columns of about 200
  zones (skipped where the file is missing). Two thirds of the rows are for training; rows with
  levels that have no training row are left out.

All with one thread.
"""

import argparse
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from parts.measure import fresh, table
from parts.processes import peak_mib
from tables import DATA

from sklearn_vae import VAEDensity, VAEImputer, VAETransformer
from sklearn_vae.likelihoods import Categorical

TABLES = ("uniform", "zipf", "none", "taxis")
ZONES = ["pickup_zone", "dropoff_zone"]


def levels_table(
    n_rows: int, n_levels: int, seed: int, *, is_uniform: bool = False, strength: float = 1.0
) -> pd.DataFrame:
    """Five columns, and a column of levels that shift them."""
    rng = np.random.default_rng(seed)
    p = np.ones(n_levels) if is_uniform else 1 / (np.arange(n_levels) + 5.0)
    level = rng.choice(n_levels, n_rows, p=p / p.sum())
    effects = strength * rng.normal(size=(n_levels, 2))
    numbers = effects[level] @ rng.normal(size=(2, 4))
    numbers += rng.normal(size=(n_rows, 1)) @ rng.normal(size=(1, 4))
    numbers += 0.5 * rng.normal(size=(n_rows, 4))
    frame = pd.DataFrame(numbers, columns=list("abcd"))
    is_member = rng.random(n_rows) < 1 / (1 + np.exp(-2 * effects[level, 0]))
    frame["member"] = np.where(is_member, "yes", "no")
    frame["level"] = pd.Series([f"level {i}" for i in level], dtype=object)
    return frame


# -- cost ------------------------------------------------------------------------------


def use(name: str, frame: pd.DataFrame, max_iter: int) -> None:
    """Fit an estimator, and call the methods that all rows go through."""
    if name == "imputer":
        holes = frame.mask(np.random.default_rng(0).random(frame.shape) < 0.1)
        VAEImputer(random_state=0).fit(holes).transform(holes[:2000])
        return
    cls = {"transformer": VAETransformer, "density": VAEDensity}[name]
    model = cls(max_iter=max_iter, random_state=0).fit(frame)
    model.score_samples(frame[:2000])
    model.sample(2000)


def print_cost(name: str, n_rows: int, n_levels: int, max_iter: int) -> None:
    """In a fresh process: print CPU seconds, and MiB that are added to the peak."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    use(name, levels_table(200, 5, 0), 1)
    frame = levels_table(n_rows, n_levels, 0)
    before, start = peak_mib(), time.process_time()
    use(name, frame, max_iter)
    print(time.process_time() - start, peak_mib() - before, frame["level"].nunique())


def report_cost(estimators: list[str], levels: list[int], n_rows: int, max_iter: int) -> None:
    rows = []
    for name in estimators:
        first: list[float] = []
        for n_levels in levels:
            call = f"print_cost({name!r}, {n_rows}, {n_levels}, {max_iter})"
            printed = fresh(f"from levels import print_cost; {call}").split()
            seconds, mib = map(float, printed[-3:-1])
            first = first or [seconds, mib]
            ratios = [f"{seconds / first[0]:.2f}", f"{mib / first[1]:.2f}"]
            occurring = f"{int(printed[-1]):,}"
            rows.append([name, f"{n_levels:,}", occurring, f"{seconds:.1f}", f"{mib:.0f}", *ratios])
    table(
        f"Cost ({n_rows:,} rows, max_iter={max_iter})",
        [
            "estimator",
            "levels",
            "in the rows",
            "CPU s",
            "MiB",
            "times the time",
            "times the memory",
        ],
        rows,
    )


# -- density ---------------------------------------------------------------------------


def split(name: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, list[str]] | None:
    """Training rows, test rows, and the columns of many levels."""
    columns = ["level"]
    if name == "taxis":
        path = DATA / "mixed" / "taxis.csv"
        if not path.exists():
            print(f"{path} is missing: taxis are skipped")
            return None
        columns = ZONES
        frame = pd.read_csv(path)[
            ["passengers", "distance", "fare", "tip", "color", "payment", *columns]
        ].dropna()
        frame = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    else:
        frame = levels_table(
            9000, 1000, seed, is_uniform=name == "uniform", strength=float(name != "none")
        )
    n_train = 2 * len(frame) // 3
    train, test = frame[:n_train], frame[n_train:]
    for column in columns:
        test = test[test[column].isin(train[column])]
    return train, test, columns


def report_density(estimators: list[str], tables: list[str], seeds: list[int]) -> None:
    rows = []
    for name in estimators:
        cls: Any = {"transformer": VAETransformer, "density": VAEDensity}[name]
        for dataset in tables:
            for seed in seeds:
                parts = split(dataset, seed)
                if parts is None:
                    break
                train, test, columns = parts
                each = {column: Categorical(train[column].nunique()) for column in columns}
                scores, seconds = [], []
                for likelihood in ("auto", each):
                    start = time.process_time()
                    model = cls(likelihood=likelihood, random_state=seed).fit(train)
                    seconds.append(f"{time.process_time() - start:.0f}")
                    scores.append(model.score_samples(test))
                gain = scores[0] - scores[1]
                error = gain.std() / np.sqrt(len(gain))
                means = [f"{score.mean():.3f}" for score in scores]
                rows.append([name, dataset, str(seed), *means, f"{gain.mean():.3f} ± {error:.3f}"])
                rows[-1] += seconds
    table(
        "Held-out log-density, nats per row",
        ["estimator", "table", "seed", "shared", "each", "gain", "CPU s: shared", "each"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", default="cost,density")
    parser.add_argument("--estimators", default="transformer,density,imputer")
    parser.add_argument("--levels", default="10,1000,10000,100000")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--max-iter", type=int, default=10)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--seeds", default="0,1,2")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    estimators = args.estimators.split(",")
    if "cost" in args.parts:
        levels = [int(n) for n in args.levels.split(",")]
        report_cost(estimators, levels, args.rows, args.max_iter)
    if "density" in args.parts:
        densities = [name for name in estimators if name != "imputer"]
        seeds = [int(seed) for seed in args.seeds.split(",")]
        report_density(densities, args.tables.split(","), seeds)


if __name__ == "__main__":
    main()
