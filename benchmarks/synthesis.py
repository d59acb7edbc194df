"""Samples of mixed tables judged by the protocol of TabSyn, TabDiff and TabPC.

    python benchmarks/synthesis.py                                      # all tables and models
    python benchmarks/synthesis.py --tables shoppers --models density --seeds 0,1,2
    python benchmarks/synthesis.py --quick                              # 3,000 rows, short training

The tables are Online Shoppers with TabSyn's split (``mixed/shoppers_*.csv``) and UCI Adult as it
comes (``tables/adult-*.csv``), and Beijing's air (``mixed/beijing.csv``, rows without a missing
value, a random tenth of them held out), in the folder that SKLEARN_VAE_DATA names, or else in
``../shared/data`` beside the repository. In Adult a ``?`` stays a level of its own, and in Beijing
times are classes, as in the protocol. A model is fitted to the training rows, and as many rows
are sampled from it.

- **c2st** is the judge of [1]_: XGBClassifier(enable_categorical=True, random_state=0), defaults
  otherwise, fitted to separate samples from training rows; numbers as they are, other columns
  one-hot encoded; three stratified folds. The score is 2 - 2 AUC, averaged over the folds, an AUC
  below 0.5 counting as 0.5: 1 if samples cannot be told from rows, 0 if always.
- **mle** is the area under the ROC curve on the test rows of an XGBClassifier that was trained on
  the samples. Its parameters are those of the grid of [1]_ that are best on a ninth of the samples.
  Beijing, whose target is a number, has none.
- **shape** is 1 - the Kolmogorov-Smirnov statistic (numbers) or the total variation distance
  (others), averaged over the columns.
- **seconds** are CPU seconds of fit and sample.

Published, each the mean of several runs [1]_ (c2st on shoppers and adult, then mle):
TabDiff .736 .841, .917 .913; TabPC .894 .855, .897 .916; TabSyn .655 .794, .914 .910; a shallow
mixture of 20,000 components .290 .773, .863 .902; TVAE 0 0. On beijing c2st is .772 (TabDiff) and
.570 (TabPC). `real` (rows drawn with
replacement), `columns` (every column shuffled by itself) and `tvae` (the package ``ctgan``) show
what the judge makes of samples that are as good as rows, or bad.

References
----------
.. [1] D. Scassola, D. Ponsford et al., "A Sobering Look at Tabular Data Generation via
   Probabilistic Circuits", arXiv:2603.23016, 2026.
.. [2] H. Zhang et al., "Mixed-Type Tabular Data Synthesis with Score-based Diffusion in Latent
   Space", ICLR 2024.
"""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from common import options, print_frame, tell, timed
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterGrid, StratifiedKFold, train_test_split
from tables import DATA, load_each

from sklearn_vae import VAEDensity

ADULT_NAMES = (
    "age workclass fnlwgt education education_num marital occupation relationship race sex gain "
    "loss hours country income"
)
# Training rows of TabSyn's split; a longer file has others after them.
ROWS_OF_SHOPPERS = 11_097
GRID = ParameterGrid(
    {
        "n_estimators": [10, 50, 100],
        "min_child_weight": [1, 10],
        "max_depth": [5, 10, 20],
        "gamma": [0.0, 1.0],
    }
)
QUICK_ROWS, QUICK_ITERATIONS = 3_000, 5
METRICS = ["c2st", "mle", "shape", "seconds"]

# training rows, seed, further parameters -> samples, as many as rows
Model = Callable[[pd.DataFrame, int, dict[str, Any]], pd.DataFrame]


class Table(NamedTuple):
    """A table in the protocol's split; ``numbers`` are the columns that are not categories."""

    train: pd.DataFrame
    test: pd.DataFrame
    numbers: list[str]
    target: str


# Tables


def shoppers() -> Table:
    info = json.loads((DATA / "mixed" / "shoppers.json").read_text())
    train = pd.read_csv(DATA / "mixed" / "shoppers_train.csv", nrows=ROWS_OF_SHOPPERS)
    test = pd.read_csv(DATA / "mixed" / "shoppers_test.csv")
    categories = train.columns[info["cat_col_idx"] + info["target_col_idx"]]
    for table in (train, test):
        table[categories] = table[categories].astype(str)
    numbers = list(train.columns[info["num_col_idx"]])
    return Table(train, test, numbers, train.columns[info["target_col_idx"][0]])


def adult() -> Table:
    options = {
        "names": ADULT_NAMES.split(),
        "skipinitialspace": True,
        "header": None,
        "comment": "|",
    }
    train = pd.read_csv(DATA / "tables" / "adult-train.csv", **options)
    test = pd.read_csv(DATA / "tables" / "adult-test.csv", **options)
    test["income"] = test["income"].str.rstrip(".")
    numbers = ["age", "fnlwgt", "education_num", "gain", "loss", "hours"]
    return Table(train, test, numbers, "income")


def beijing() -> Table:
    rows = pd.read_csv(DATA / "mixed" / "beijing.csv").drop(columns="No").dropna()
    times = ["year", "month", "day", "hour"]
    rows[times] = rows[times].astype(str)
    train, test = train_test_split(rows, test_size=0.1, random_state=0)
    return Table(train, test, list(rows.columns.difference([*times, "cbwd"])), "pm2.5")


TABLES = {table.__name__: table for table in (shoppers, adult, beijing)}


# Models


def real(train: pd.DataFrame, seed: int, _params: dict[str, Any]) -> pd.DataFrame:
    return train.sample(len(train), replace=True, random_state=seed)


def columns(train: pd.DataFrame, seed: int, _params: dict[str, Any]) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: rng.permutation(train[name]) for name in train})


def density(train: pd.DataFrame, seed: int, params: dict[str, Any]) -> pd.DataFrame:
    model = VAEDensity(random_state=seed, **params).fit(train)
    return model.sample(len(train), random_state=seed)


def tvae(train: pd.DataFrame, seed: int, params: dict[str, Any]) -> pd.DataFrame:
    from ctgan import TVAE

    model = TVAE(epochs=params.get("max_iter", 300))
    model.set_random_state(seed)
    model.fit(train, [name for name in train if not pd.api.types.is_numeric_dtype(train[name])])
    return model.sample(len(train))


MODELS: dict[str, Model] = {
    "real": real,
    "columns": columns,
    "density": density,
}
if find_spec("ctgan") is not None:
    MODELS["tvae"] = tvae


# Metrics


def features(rows: pd.DataFrame, table: Table) -> np.ndarray:
    """Numbers as they are, other columns one-hot encoded by all levels of the real rows."""
    parts = []
    for name in table.train:
        if name in table.numbers:
            parts.append(rows[name].to_numpy(float)[:, None])
        else:
            levels = sorted({*table.train[name], *table.test[name]})
            codes = pd.Categorical(rows[name].astype(str), levels).codes
            parts.append(codes[:, None] == np.arange(len(levels)))
    return np.hstack(parts).astype(np.float32)


def c2st(samples: pd.DataFrame, table: Table, seed: int) -> float:
    from xgboost import XGBClassifier

    X = np.vstack([features(table.train, table), features(samples, table)])
    y = np.arange(len(X)) < len(table.train)
    distances = []
    for fit, held_out in StratifiedKFold(3, shuffle=True, random_state=seed).split(X, y):
        judge = XGBClassifier(eval_metric="logloss", enable_categorical=True, random_state=0)
        probability = judge.fit(X[fit], y[fit]).predict_proba(X[held_out])[:, 1]
        distances.append(2 * max(roc_auc_score(y[held_out], probability), 0.5) - 1)
    return 1 - float(np.mean(distances))


def mle(samples: pd.DataFrame, table: Table, seed: int) -> float:
    from xgboost import XGBClassifier

    def split(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        y = rows[table.target].astype(str).to_numpy()
        return features(rows.assign(**{table.target: y[0]}), table), y == positive

    positive = sorted(set(table.train[table.target]))[-1]
    X, y = split(samples)
    X_fit, X_valid, y_fit, y_valid = train_test_split(X, y, test_size=1 / 9, random_state=seed)
    X_test, y_test = split(table.test)

    def auc(model: Any, X: np.ndarray, y: np.ndarray) -> float:
        return float(roc_auc_score(y, model.predict_proba(X)[:, 1]))

    models = [XGBClassifier(random_state=0, **params).fit(X_fit, y_fit) for params in GRID]
    best = max(models, key=lambda model: auc(model, X_valid, y_valid))
    return auc(best, X_test, y_test)


def shape(samples: pd.DataFrame, table: Table) -> float:
    scores = []
    for name in table.train:
        if name in table.numbers:
            scores.append(1 - ks_2samp(table.train[name], samples[name].astype(float)).statistic)
        else:
            parts = [
                rows[name].astype(str).value_counts(normalize=True)
                for rows in (table.train, samples)
            ]
            scores.append(1 - parts[0].sub(parts[1], fill_value=0).abs().sum() / 2)
    return float(np.mean(scores))


# The command line


def run(args: Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per table, seed and model."""
    for table_name, table in load_each(args.tables, lambda name: TABLES[name]()):
        if args.rows < len(table.train):
            table = table._replace(train=table.train.sample(args.rows, random_state=0))
        table = table._replace(train=table.train.reset_index(drop=True))
        is_number = table.target in table.numbers
        for seed in args.seeds:
            for name in args.models:
                seconds, samples = timed(
                    lambda name=name, rows=table.train, seed=seed: MODELS[name](
                        rows, seed, args.param
                    ),
                )
                record = {
                    "table": table_name,
                    "model": name,
                    "seed": seed,
                    "c2st": c2st(samples, table, seed),
                    "mle": np.nan if is_number or args.quick else mle(samples, table, seed),
                    "shape": shape(samples, table),
                    "seconds": seconds,
                }
                tell(record)
                yield record


def main() -> None:
    args = options(
        __doc__,
        tables=[*TABLES],
        models=[*MODELS],
        seeds=[0],
        rows=1_000_000,
        param={},
        quick=False,
    )
    if args.quick:
        args.rows, args.param = QUICK_ROWS, {"max_iter": QUICK_ITERATIONS, **args.param}
    if find_spec("xgboost") is None:
        raise SystemExit("The judge, xgboost, is not installed.")
    for name, group in pd.DataFrame(run(args)).groupby("table", sort=False):
        print_frame(name, group.groupby("model", sort=False)[METRICS].mean(), ".3f")


if __name__ == "__main__":
    main()
