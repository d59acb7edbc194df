"""Held-out density of mixed tables: VAEDensity, the mixture that it starts at, and VAETransformer.

    python benchmarks/mixed_density.py                                  # every table, seeds 0,1,2
    python benchmarks/mixed_density.py --tables titanic,mpg --seeds 0 --rows 1000
    python benchmarks/mixed_density.py --models start,density           # without VAETransformer

How each figure is obtained:

- The tables are those of ``mixed``, ``impute`` and ``tables`` of the folder that SKLEARN_VAE_DATA
  names, or else of ``../shared/data`` beside the repository: adult, shoppers, titanic, penguins,
  mpg, taxis, credit and obesity, with their missing cells. Columns that repeat another one
  (titanic) or name the rows (mpg), and the taxis' zones are left out. Of a longer table, `--rows`
  rows are drawn.
- What a column is follows from the whole table by ``likelihood="auto"``, once for all models and
  splits: classes and counts have probabilities, numbers have densities, and a common value among
  numbers, as no tip, has a probability. Numbers that were recorded in steps get uniform noise of
  one step with a fixed seed, common values excepted.
- Rows are split 80/20 by seed. A figure is the mean log-density of the test rows in nats, in the
  units of the columns; that of a row with missing cells is the log-density of its other cells.
- `start` is ``VAEDensity(max_iter=0)``: stacked mixtures of independent columns, and of a normal
  distribution with covariances. `density` is VAEDensity, `transformer` VAETransformer, both with
  their defaults.
- CPU seconds (`time.process_time`, one thread) hold fit and score.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from density import parameter, print_table
from tables import DATA, recording_steps
from threadpoolctl import threadpool_limits

NOISE_SEED = 0
TEST_SHARE = 0.2
MODELS = ("start", "density", "transformer")


# The tables


def adult() -> pd.DataFrame:
    return pd.read_csv(
        DATA / "tables" / "adult-train.csv", header=None, skipinitialspace=True, na_values="?"
    ).rename(columns=str)


def shoppers() -> pd.DataFrame:
    frame = pd.read_csv(DATA / "mixed" / "shoppers_train.csv")
    whole = ["Administrative", "Informational", "ProductRelated"]
    classes = ["OperatingSystems", "Browser", "Region", "TrafficType"]
    return frame.astype(dict.fromkeys(whole, int) | dict.fromkeys(classes, str))


def titanic() -> pd.DataFrame:
    frame = pd.read_csv(DATA / "mixed" / "titanic.csv").astype({"pclass": str})
    return frame.drop(columns=["class", "embark_town", "alive", "who", "adult_male", "alone"])


def penguins() -> pd.DataFrame:
    return pd.read_csv(DATA / "mixed" / "penguins.csv")


def mpg() -> pd.DataFrame:
    return pd.read_csv(DATA / "mixed" / "mpg.csv").drop(columns="name").astype({"cylinders": str})


def taxis() -> pd.DataFrame:
    frame = pd.read_csv(DATA / "mixed" / "taxis.csv", parse_dates=["pickup", "dropoff"])
    frame = frame.drop(columns=["pickup_zone", "dropoff_zone"])
    minutes = (frame["dropoff"] - frame["pickup"]).dt.total_seconds() / 60
    days = (frame["pickup"] - pd.Timestamp("2019-03-01")).dt.total_seconds() / 86400
    return frame.drop(columns=["pickup", "dropoff"]).assign(minutes=minutes, days=days)


def credit() -> pd.DataFrame:
    return coded("credit")


def obesity() -> pd.DataFrame:
    return coded("obesity")


def coded(name: str) -> pd.DataFrame:
    """A table of numbers among which the classes are coded: whole numbers below 15."""
    frame = pd.read_csv(DATA / "impute" / f"{name}.csv", index_col=0)
    for column, values in frame.items():
        if (values == values.round()).all() and values.nunique() <= 15:
            frame[column] = "c" + values.astype(int).astype(str)
        elif (values == values.round()).all():
            frame[column] = values.astype(int)
    return frame


LOADERS: dict[str, Callable[[], pd.DataFrame]] = {
    loader.__name__: loader
    for loader in (adult, shoppers, titanic, penguins, mpg, taxis, credit, obesity)
}


def prepare(frame: pd.DataFrame, n_rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows with noise of one recording step, and the likelihood of each column."""
    from sklearn_vae import VAEDensity
    from sklearn_vae.likelihoods import Gaussian, ZeroInflated

    frame = frame.drop_duplicates().reset_index(drop=True)
    # every split has the categories of the whole table
    frame = frame.astype(dict.fromkeys(frame.select_dtypes(["object", "string"]), "category"))
    rng = np.random.default_rng(NOISE_SEED)
    if len(frame) > n_rows:
        frame = frame.loc[np.sort(rng.permutation(len(frame))[:n_rows])].reset_index(drop=True)
    columns = VAEDensity(max_iter=0, mixtures=[(1, "diag")], random_state=0).fit(frame).columns_
    likelihoods = dict(zip(columns.names, columns.likelihoods, strict=True))
    masses = {
        columns.names[j]: group.point_masses[k]
        for group in columns.groups
        if isinstance(group.likelihood, ZeroInflated)
        for k, j in enumerate(group.indices.tolist())
    }
    for name, likelihood in likelihoods.items():
        if isinstance(likelihood, Gaussian | ZeroInflated):
            values = frame[name].to_numpy(dtype=float, na_value=np.nan).copy()
            moves = ~(np.isnan(values) | np.isin(values, masses.get(name, [])))
            if moves.sum() > 1 and np.ptp(values[moves]):
                noise = rng.uniform(size=moves.sum()) - 0.5 * isinstance(likelihood, ZeroInflated)
                values[moves] += noise * recording_steps(values[moves, None])[0]
            frame[name] = values
    return frame, {name: value for name, value in likelihoods.items() if value is not None}


# Fitting and scoring


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per table, seed and model, and tell of it on stderr."""
    import torch

    torch.set_num_threads(1)
    for name in args.tables:
        try:
            frame, likelihood = prepare(LOADERS[name](), args.rows)
        except FileNotFoundError as error:
            print(f"{name}: skipped, {error.filename} is not there (set SKLEARN_VAE_DATA)\n")
            continue
        for seed in args.seeds:
            order = np.random.default_rng(seed).permutation(len(frame))
            n_test = int(TEST_SHARE * len(frame))
            train, test = frame.iloc[order[n_test:]], frame.iloc[order[:n_test]]
            for model in args.models:
                nats, seconds, note = figures(model, likelihood, train, test, seed, args.param)
                line = f"{name:10} seed {seed} {model:12}{nats:9.3f} nats {seconds:7.1f} s  {note}"
                print(line, file=sys.stderr, flush=True)
                yield {
                    "table": name, "seed": seed, "model": model, "nats": nats, "seconds": seconds
                }  # fmt: skip


def figures(
    name: str,
    likelihood: dict[str, Any],
    train: pd.DataFrame,
    test: pd.DataFrame,
    seed: int,
    params: dict[str, Any],
) -> tuple[float, float, str]:
    """Held-out nats, CPU seconds, and what the members started at."""
    from sklearn_vae import VAEDensity, VAETransformer

    options = {"likelihood": likelihood, "random_state": seed}
    model: Any = VAETransformer(**options) if name == "transformer" else VAEDensity(**options)
    if name == "start":
        model.set_params(max_iter=0)
    if name == "density":
        model.set_params(**params)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        scores = model.fit(train).score_samples(test)
    parts = zip(getattr(model, "mixtures_", []), getattr(model, "weights_", []), strict=True)
    note = " ".join(f"{n}{covariance[0]}:{weight:.2f}" for (n, covariance), weight in parts)
    return float(scores.mean()), time.process_time() - start, note


# Printing


def report(records: pd.DataFrame) -> None:
    """Nats, gaps and CPU seconds by table, means over the seeds."""
    tables, models = records["table"].unique(), records["model"].unique()
    means = records.groupby(["table", "model"])[["nats", "seconds"]].mean()
    nats = means["nats"].unstack().loc[tables, models]
    print_table("held-out nats", nats.map("{:.2f}".format))
    if {"start", "density"} <= set(models):
        by_split = records.pivot(index=["table", "seed"], columns="model", values="nats")
        gaps = by_split.drop(columns="density").rsub(by_split["density"], axis=0)
        columns = {f"over {other}": f"{gap.mean():+.2f} (least {gap.min():+.2f})"
                 for other, gap in gaps.items()}  # fmt: skip
        print_table("VAEDensity, all splits", pd.DataFrame(columns, index=["nats"]))
        by_table = gaps.groupby(level="table").agg(["mean", "min"]).loc[tables]
        by_table.columns = [f"over {model}, {what}" for model, what in by_table.columns]
        print_table("VAEDensity", by_table.map("{:+.2f}".format))
    print_table("CPU seconds", means["seconds"].unstack().loc[tables, models].map("{:.0f}".format))


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out nats of mixed tables.")
    add = parser.add_argument
    add("--tables", default=",".join(LOADERS), help="names with commas between: %(default)s")
    add("--models", default=",".join(MODELS), help="names with commas between: %(default)s")
    add("--seeds", default="0,1,2", help="seeds of the splits: %(default)s")
    add("--rows", default=4000, type=int, help="most rows of a table: %(default)s")
    add("--param", action="append", default=[], type=parameter, metavar="NAME=VALUE")
    add("--json", type=Path, metavar="FILE", help="write every result there")
    args = parser.parse_args()
    args.tables, args.models = args.tables.split(","), args.models.split(",")
    args.seeds = [int(seed) for seed in args.seeds.split(",")]
    args.param = dict(args.param)

    with threadpool_limits(1):
        records = pd.DataFrame(run(args))
    if len(records):
        report(records)
        if args.json:
            records.to_json(args.json, orient="records", indent=1)


if __name__ == "__main__":
    main()
