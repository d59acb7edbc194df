"""Planted faults in tables of numbers and classes, found by detectors.

    python benchmarks/mixed_anomaly.py                                   # both settings, seeds 0,1
    python benchmarks/mixed_anomaly.py --tables penguins,mpg --seeds 0 --settings clean
    python benchmarks/mixed_anomaly.py --no-ours --detectors "kNN k=1,LOF"    # fill the cache
    python benchmarks/mixed_anomaly.py --keep ours                       # keep our results

How each figure is obtained:

- The tables are those of ``mixed_density.py``, with their missing cells: titanic, penguins, mpg,
  taxis, adult and shoppers. By seed, 60 % of the rows and at most `--max-rows` are training rows,
  and at most 600 of the others are test rows.
- Faults are planted in other held-out rows, one fault in a row. Of each kind there are a ninth as
  many rows as the normal test rows, so that a tenth is faulty:
  `swap`, a cell gets the value of another row's;
  `category`, a cell of a class or of a Boolean gets another of the column's levels, each with
  equal probability;
  `number`, a number gets the value of a row of another group, outside of the central 98 % of its
  own group's values, if there is one, and else lies half the group's range above it; groups are
  those of the table's class;
  `class`, a row's class becomes another one (species, origin, survived, payment, income, Revenue),
  so that all other cells are those of another class.
- Setting `clean`: no training row is faulty. Setting `contaminated`: a tenth of the training rows,
  a quarter of which is of each kind.
- A figure is the area under the ROC curve (AUROC) or the average precision (AP), times 100, of the
  rows of one kind of fault against the normal test rows, averaged over kinds, seeds and tables.
- Rivals get one-hot columns: missing numbers are the median with a column that says so, missing
  classes a level of their own, and all columns have unit variance or are 0 and 1.
- Rank and CPU seconds are those of ``anomaly.py``; a rank is that of one table and fault.

Every result is kept in benchmarks/.cache/mixed_anomaly.json and is not computed again. Results of
ours are kept with `--keep`, under the label given, for they depend on the code.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import mixed_density
import numpy as np
import pandas as pd
from anomaly import Detector, nearest, pyod, scikit_learn, standing
from density import parameter, print_table
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

PROTOCOL = 1  # raise it when the rows or a detector change: what the cache holds is then not used
CACHE = Path(__file__).resolve().parent / ".cache" / "mixed_anomaly.json"
# By table: the column of its class.
CLASSES = {
    "titanic": "survived",
    "penguins": "species",
    "mpg": "origin",
    "taxis": "payment",
    "adult": "14",
    "shoppers": "Revenue",
}
TRAIN_SHARE = 0.6
MAX_TEST_ROWS = 600
FAULTY = 1 / 10
CENTRAL = 0.98

FrameDetector = Callable[[pd.DataFrame, pd.DataFrame, int], np.ndarray]  # train, test, seed


# Faults


def is_class(column: pd.Series) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype) or column.dtype == bool


def levels(column: pd.Series) -> np.ndarray:
    return np.unique(column.dropna().to_numpy().astype(str)) if is_class(column) else np.empty(0)


def replace_cell(column: pd.Series, row: int, value: Any) -> pd.Series:
    column = column.copy()
    column.iloc[row] = column.dtype.type(value) if column.dtype.kind in "iuf" else value
    return column


def another_level(column: pd.Series, row: int, rng: np.random.Generator) -> Any:
    values = [value for value in column.dropna().unique() if value != column.iloc[row]]
    return values[rng.integers(len(values))]


def swap(frame: pd.DataFrame, row: int, rng: np.random.Generator, _: str) -> tuple[str, Any]:
    """A cell of a column drawn by chance, and another row's value of it."""
    for name in rng.permutation(frame.columns):
        column = frame[name]
        others = np.flatnonzero((column != column.iloc[row]) & column.notna())
        if pd.notna(column.iloc[row]) and len(others):
            return name, column.iloc[rng.choice(others)]
    raise ValueError("no column has two values")


def category(frame: pd.DataFrame, row: int, rng: np.random.Generator, _: str) -> tuple[str, Any]:
    """A cell of a class, and another of its levels."""
    names = [n for n in frame if is_class(frame[n]) and pd.notna(frame[n].iloc[row])]
    name = names[rng.integers(len(names))]
    return name, another_level(frame[name], row, rng)


def number(frame: pd.DataFrame, row: int, rng: np.random.Generator, label: str) -> tuple[str, Any]:
    """A number, and one of the whole table's out of the range of the row's group."""
    names = [n for n in frame if not is_class(frame[n]) and n != label]
    name = names[rng.integers(len(names))]
    values = frame[name].dropna()
    values_of_group = frame.loc[frame[label] == frame[label].iloc[row], name].dropna()
    low, high = values_of_group.quantile([(1 - CENTRAL) / 2, (1 + CENTRAL) / 2])
    outside = values[(values < low) | (values > high)]
    outside = outside[~outside.index.isin(values_of_group.index)]
    if len(outside):
        return name, outside.iloc[rng.integers(len(outside))]
    return name, values_of_group.max() + 0.5 * (values_of_group.max() - values_of_group.min())


def other_class(
    frame: pd.DataFrame, row: int, rng: np.random.Generator, label: str
) -> tuple[str, Any]:
    """The row's class, and another one."""
    return label, another_level(frame[label], row, rng)


FAULTS: dict[str, Callable[..., tuple[str, Any]]] = {
    "swap": swap,
    "category": category,
    "number": number,
    "class": other_class,
}


def plant(
    frame: pd.DataFrame, rows: np.ndarray, fault: str, label: str, rng: np.random.Generator
) -> pd.DataFrame:
    """Rows of the frame with one fault each."""
    faulty = frame.iloc[rows].reset_index(drop=True)
    for index, row in enumerate(rows):
        name, value = FAULTS[fault](frame, row, rng, label)
        faulty[name] = replace_cell(faulty[name], index, value)
    return faulty


# Rows


def load(name: str) -> pd.DataFrame:
    """The table, with classes as categories and whole numbers as numbers."""
    frame = mixed_density.LOADERS[name]().drop_duplicates().reset_index(drop=True)
    label = CLASSES[name]
    frame[label] = frame[label].astype(str).where(frame[label].notna())
    text = frame.select_dtypes(["object", "string"])
    return frame.astype(dict.fromkeys(text, "category"))


@lru_cache(maxsize=1)
def rows_of(
    name: str, setting: str, seed: int, max_rows: int
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Training rows, test rows, and what is wrong with each of these ("" for nothing)."""
    frame, label, rng = load(name), CLASSES[name], np.random.default_rng(seed)
    has_class = frame[label].notna().to_numpy()
    order = rng.permutation(np.flatnonzero(has_class))
    n_train = min(int(TRAIN_SHARE * len(order)), max_rows)
    rest = order[n_train:][: round(MAX_TEST_ROWS / (1 - len(FAULTS) * FAULTY / (1 - FAULTY)))]
    n_per_fault = round(
        len(rest) * FAULTY / (1 - FAULTY) / (1 + len(FAULTS) * FAULTY / (1 - FAULTY))
    )
    parts = [frame.iloc[rest[len(FAULTS) * n_per_fault :]]]
    wrong = [""] * len(parts[0])
    for k, fault in enumerate(FAULTS):
        parts.append(plant(frame, rest[k * n_per_fault : (k + 1) * n_per_fault], fault, label, rng))
        wrong += [fault] * n_per_fault
    train = frame.iloc[order[:n_train]]
    if setting == "contaminated":
        n_each = round(FAULTY * n_train / len(FAULTS))
        faulty = [
            plant(frame, order[k * n_each : (k + 1) * n_each], fault, label, rng)
            for k, fault in enumerate(FAULTS)
        ]
        train = pd.concat([*faulty, train.iloc[len(FAULTS) * n_each :]])
    test = pd.concat(parts)
    return train.reset_index(drop=True), test.reset_index(drop=True), np.array(wrong)


# Detectors


def encoded(detector: Detector) -> FrameDetector:
    """A detector of numbers, on one-hot columns."""

    def scores(train: pd.DataFrame, test: pd.DataFrame, seed: int) -> np.ndarray:
        classes = [name for name in train if is_class(train[name])]
        numbers = [name for name in train if name not in classes]
        encoder = make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
             numbers),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), classes),
        )  # fmt: skip
        as_text = dict.fromkeys(classes, object)
        train, test = train.astype(as_text), test.astype(as_text)
        return detector(encoder.fit_transform(train), encoder.transform(test), seed)

    return scores


def ours(name: str, **params: Any) -> FrameDetector:
    """One of our estimators' score_samples."""

    def scores(train: pd.DataFrame, test: pd.DataFrame, seed: int) -> np.ndarray:
        import torch

        import sklearn_vae

        torch.set_num_threads(1)
        model = getattr(sklearn_vae, name)(random_state=seed, **params)
        return -model.fit(train).score_samples(test)

    return scores


RIVALS: dict[str, FrameDetector] = {
    "IsolationForest": encoded(scikit_learn(lambda seed: IsolationForest(random_state=seed))),
    "LOF": encoded(scikit_learn(lambda _: LocalOutlierFactor(novelty=True))),
    "kNN k=1": encoded(nearest(1)),
    "kNN k=5": encoded(nearest(5)),
    "ECOD": encoded(pyod("ecod", "ECOD")),
    "VAETransformer": ours("VAETransformer"),
    "mixture": ours("VAEDensity", max_iter=0),
    "VAEDensity": ours("VAEDensity"),
}


# Fitting and scoring


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per setting, table, seed, detector and kind of fault."""
    label = args.keep or "ours"
    for setting in args.settings:
        detectors = {name: RIVALS[name] for name in args.detectors}
        if not args.no_ours:
            params = {"novelty": setting == "clean", **args.param}
            detectors[label] = ours("VAEOutlierDetector", **params)
        for table in args.tables:
            for seed in args.seeds:
                for name, detector in detectors.items():
                    keeps = name in RIVALS or bool(args.keep)
                    task = table, setting, seed, args.max_rows
                    figures = result(name, detector, task, keeps=keeps)
                    where = {"setting": setting, "table": table, "seed": seed, "detector": name}
                    for fault in FAULTS if figures else ():
                        yield {**where, "fault": fault, **figures[fault], **figures["cost"]}


def result(
    name: str, detector: FrameDetector, task: tuple[str, str, int, int], *, keeps: bool
) -> dict[str, dict[str, float]] | None:
    """Take a result from the cache, or compute it; None if its package is not there."""
    key = f"v{PROTOCOL}/{name}/" + "/".join(map(str, task))
    kept = json.loads(CACHE.read_text()) if CACHE.exists() else {}
    if keeps and key in kept:
        return kept[key]
    train, test, wrong = rows_of(*task)
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = detector(train, test, task[2]).astype(np.float64)
    except ImportError:
        return None
    seconds = time.process_time() - start
    figures = {"cost": {"seconds": seconds}}
    for fault in FAULTS:
        rows = np.isin(wrong, ["", fault])
        figures[fault] = {
            "AUROC": 100 * float(roc_auc_score(wrong[rows] == fault, scores[rows])),
            "AP": 100 * float(average_precision_score(wrong[rows] == fault, scores[rows])),
        }
    text = " ".join(f"{fault} {figures[fault]['AUROC']:5.1f}" for fault in FAULTS)
    print(f"{task[1]:13}{task[0]:9} seed {task[2]} {name:16}{text} {seconds:6.1f} s",
          file=sys.stderr, flush=True)  # fmt: skip
    if keeps:
        CACHE.parent.mkdir(exist_ok=True)
        kept = json.loads(CACHE.read_text()) if CACHE.exists() else {}
        beside = CACHE.with_suffix(f".{os.getpid()}.part")
        beside.write_text(json.dumps(kept | {key: figures}, indent=1, sort_keys=True))
        os.replace(beside, CACHE)

    return figures


# Printing


def report(records: pd.DataFrame) -> None:
    """Per setting: means of every table and of every kind of fault, ranks, seconds."""
    for setting, group in records.groupby("setting", sort=False):
        for measure in ("AUROC", "AP"):
            options = {"columns": "detector", "values": measure, "sort": False}
            for index in ("table", "fault"):
                means = group.pivot_table(index=index, **options)
                print_table(f"{setting}, {measure}", means.map("{:.2f}".format))
            print_table(
                f"{setting}, {measure}",
                standing(group.pivot_table(index=["table", "fault"], **options)),
            )
        seconds = group.groupby("detector", sort=False)["seconds"]
        columns = {"median": seconds.median(), "longest": seconds.max()}
        print_table(f"{setting}, CPU seconds", pd.DataFrame(columns).map("{:.2f}".format))


def main() -> None:
    parser = argparse.ArgumentParser(description="Planted faults found in mixed tables.")
    add = parser.add_argument
    add("--settings", default="clean,contaminated", help="one of them or both: %(default)s")
    add("--tables", default=",".join(CLASSES), help="names with commas between: %(default)s")
    add("--seeds", default="0,1", help="seeds of rows, faults and detectors: %(default)s")
    add("--max-rows", default=1500, type=int, help="rows to train on: %(default)s")
    add("--detectors", default=",".join(RIVALS), help="rivals: %(default)s")
    add("--param", action="append", default=[], type=parameter, metavar="NAME=VALUE")
    add("--keep", metavar="LABEL", help="keep our results, or take them from the cache, by a name")
    add("--no-ours", action="store_true", help="rivals only")
    add("--json", type=Path, metavar="FILE", help="write every result there")
    args = parser.parse_args()
    args.settings, args.tables = args.settings.split(","), args.tables.split(",")
    args.seeds = [int(seed) for seed in args.seeds.split(",")]
    args.detectors = [name for name in args.detectors.split(",") if name]
    args.param = dict(args.param)

    with threadpool_limits(1):
        records = pd.DataFrame(run(args))
    if records.empty:
        parser.exit(message="nothing to show: no detector's package is there\n")
    report(records)
    if args.json:
        records.to_json(args.json, orient="records", indent=1)


if __name__ == "__main__":
    main()
