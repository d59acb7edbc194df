"""Outlier detection: `VAEOutlierDetector` at its defaults beside other detectors.

    python benchmarks/anomaly.py                             # ADBench, both settings, seeds 0,1,2
    python benchmarks/anomaly.py --quick                     # six small tables, one seed
    python benchmarks/anomaly.py --settings clean --tables wine,glass --param "method='neighbors'"
    python benchmarks/anomaly.py --tables oddbench --seeds 0 --settings clean,contaminated=0.05

How each figure is obtained:

- A table is a file of ADBench, in the folder ``adbench`` that tables.py says; or, as
  ``oddbench/NAME``, of OddBench in the folder of that name. ``oddbench`` are all of them.
- Setting `clean`: train on one half of the normal rows, test on the other half and all anomalies.
  Setting `contaminated`: train on 70 % of all rows, anomalies included, test on the other 30 %.
  The rows of OddBench are divided already: `clean` takes them as they are, and for
  `contaminated=0.05` anomalies are moved from the test rows until they are 5 % of the training rows
  or half of them are moved; without a number, 10 %.
  Of both parts no more than `--max-rows` rows are used, drawn by seed with the share of anomalies
  that the part has, but ten anomalies at least, if there are ten.
- Columns are standardized by the training rows.
- A figure is the area under the ROC curve (AUROC) or the average precision (AP), times 100, on
  the test rows, averaged over the seeds.
- "Rank" is the mean over tables of a detector's rank by that figure, 1 for the best. "Won" counts
  tables against a rival by mean over seeds; a difference below 0.05 is a tie. Behind ± stands the
  standard error over tables.
- CPU seconds (`time.process_time`, one thread) hold fit and scoring.

Rivals' results are kept in benchmarks/.cache/anomaly.json by detector, table, setting and seed.
Detectors of PyOD are left out where it is not installed.
"""

import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from common import cached, options, print_frame, tell, timed
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from tables import DATA, with_oddbench

from sklearn_vae import VAEOutlierDetector

PROTOCOL = 1  # raise it when the rows or a detector change: what the cache holds is then not used
TABLES = (
    "ALOI,Cardiotocography,Hepatitis,Ionosphere,SpamBase,WBC,breastw,campaign,cardio,cover,fault,"
    "glass,http,landsat,magic.gamma,musk,optdigits,satellite,satimage-2,smtp,vowels,wine"
)
QUICK_TABLES = ["Hepatitis", "Ionosphere", "WBC", "glass", "vowels", "wine"]
OURS = "VAEOutlierDetector"
MIN_ANOMALIES = 10
MAX_TABLES_SHOWN = 40
TIE = 0.05

Detector = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # train, test, seed -> (n_test,)


# Detectors: a higher score is stranger


def nearest(k: int | float, *, mean: bool = False) -> Detector:
    """Distance to the k-th nearest training row, or their mean; k may be a share of the rows."""

    def scores(train: np.ndarray, test: np.ndarray, _seed: int) -> np.ndarray:
        n = k if isinstance(k, int) else max(round(k * len(train)), 1)
        distance, _ = NearestNeighbors(n_neighbors=min(n, len(train))).fit(train).kneighbors(test)
        return distance.mean(axis=1) if mean else distance[:, -1]

    return scores


def scikit_learn(make: Callable[[int], Any]) -> Detector:
    return lambda train, test, seed: -make(seed).fit(train).score_samples(test)


def pyod(module: str, name: str, **params: Any) -> Detector:
    """A detector of PyOD, at its defaults but for what is given."""

    def scores(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        seeds = {"random_state": seed} if params else {}
        detector = getattr(import_module(f"pyod.models.{module}"), name)(**params, **seeds)
        return detector.fit(train).decision_function(test)

    return scores


RIVALS: dict[str, Detector] = {
    "kNN k=1": nearest(1),
    "kNN k=5": nearest(5),
    "DTE-NP": nearest(5, mean=True),  # Livernoche et al., ICLR 2024
    "kNN 10%": nearest(0.1, mean=True),
    "IsolationForest": scikit_learn(lambda seed: IsolationForest(random_state=seed)),
    "LOF": scikit_learn(lambda _: LocalOutlierFactor(novelty=True)),
    "OneClassSVM": scikit_learn(lambda _: OneClassSVM()),
    "GaussianMixture": scikit_learn(
        lambda seed: GaussianMixture(4, reg_covar=1e-3, random_state=seed)
    ),
}
if find_spec("pyod") is not None:
    RIVALS |= {
        "ECOD": pyod("ecod", "ECOD"),
        "PyOD AutoEncoder": pyod("auto_encoder", "AutoEncoder", verbose=0),
        "PyOD VAE": pyod("vae", "VAE", verbose=0),
    }


# Rows


def adbench(name: str, setting: str, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Rows, whether they are anomalies, and the indices of training and of test rows."""
    with np.load(DATA / "adbench" / f"{name}.npz") as file:
        X, y = file["X"].astype(np.float64), file["y"].astype(bool)
    if setting == "clean":
        normal = rng.permutation(np.flatnonzero(~y))
        half = len(normal) // 2
        return X, y, normal[:half], np.concatenate([normal[half:], np.flatnonzero(y)])
    order = rng.permutation(len(y))
    return X, y, *np.split(order, [int(0.7 * len(y))])


def oddbench(name: str, setting: str, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Rows, whether they are anomalies, and the indices of training and of test rows."""
    with np.load(DATA / f"{name}.npz") as file:
        X = np.concatenate([file["train"], file["test"]]).astype(np.float64)
        n_train = len(file["train"])
        y = np.concatenate([np.zeros(n_train, dtype=bool), file["test_labels"].astype(bool)])
    train, test = np.split(np.arange(len(y)), [n_train])
    if setting != "clean":
        fraction = float(setting.partition("=")[2] or 0.1)
        anomalies = rng.permutation(np.flatnonzero(y))
        n_moved = min(round(fraction / (1 - fraction) * n_train), len(anomalies) // 2)
        train = np.concatenate([train, anomalies[:n_moved]])
        test = np.setdiff1d(test, train)
    return X, y, train, test


@lru_cache(maxsize=1)
def rows_of(
    name: str, setting: str, seed: int, max_rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows and whether each of these is an anomaly."""
    rng = np.random.default_rng(seed)
    divided = oddbench if name.startswith("oddbench/") else adbench
    X, y, train, test = divided(name, setting, rng)
    train, test = (some_of(part, y, max_rows, rng) for part in (train, test))
    scaler = StandardScaler().fit(X[train])

    return scaler.transform(X[train]), scaler.transform(X[test]), y[test]


def some_of(rows: np.ndarray, y: np.ndarray, max_rows: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many of the rows, with their share of anomalies."""
    rows = rng.permutation(rows)
    if len(rows) <= max_rows:
        return rows
    anomalies, normal = rows[y[rows]], rows[~y[rows]]
    n_proportional = round(max_rows * len(anomalies) / len(rows))
    n_anomalies = max(n_proportional, min(len(anomalies), MIN_ANOMALIES))

    return np.concatenate([anomalies[:n_anomalies], normal[: max_rows - n_anomalies]])


# Fitting and scoring


def run(args: Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per setting, table, seed and detector."""
    for setting in args.settings:
        params = {"novelty": setting == "clean", **args.param}
        ours = scikit_learn(
            lambda seed, params=params: VAEOutlierDetector(**{"random_state": seed, **params})
        )
        for table in with_oddbench(args.tables):
            for seed in args.seeds:
                task = (table, setting, seed, args.max_rows)
                results = {OURS: figures(ours, task)}
                for name in args.detectors:
                    key = f"v{PROTOCOL}/{name}/" + "/".join(map(str, task))
                    results[name] = cached(
                        "anomaly", key, lambda name=name, task=task: figures(RIVALS[name], task)
                    )
                for name, found in results.items():
                    tell(f"{setting:13}{table:17}seed {seed} {name:17}{found}")
                    where = {"setting": setting, "table": table, "seed": seed}
                    yield {**where, "detector": name, **found}


def figures(detector: Detector, task: tuple[str, str, int, int]) -> dict[str, float]:
    """AUROC, average precision and CPU seconds of a detector."""
    train, test, is_anomaly = rows_of(*task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds, scores = timed(lambda: detector(train, test, task[2]))
    scores = np.nan_to_num(scores.astype(np.float64), nan=np.inf, posinf=1e300, neginf=-1e300)
    return {
        "AUROC": round(100 * float(roc_auc_score(is_anomaly, scores)), 3),
        "AP": round(100 * float(average_precision_score(is_anomaly, scores)), 3),
        "seconds": round(seconds, 2),
    }


def report(records: pd.DataFrame) -> None:
    """Per setting: every table, means, ranks, wins, differences, seconds."""
    for setting, group in records.groupby("setting", sort=False):
        for measure in ("AUROC", "AP"):
            means = group.pivot_table(index="table", columns="detector", values=measure, sort=False)
            if len(means) <= MAX_TABLES_SHOWN:
                print_frame(f"{setting}, {measure}", means, ".2f")
            print_frame(f"{setting}, {measure}: means, and {OURS} minus", standing(means))
        seconds = group.groupby("detector", sort=False)["seconds"].agg(["median", "max"])
        print_frame(f"{setting}, CPU seconds", seconds, ".2f")


def standing(means: pd.DataFrame) -> pd.DataFrame:
    """Compare detectors over the tables."""
    gaps = means.rsub(means[OURS], axis=0)
    columns = {
        "mean": means.mean().map("{:.2f}".format),
        "rank": means.rank(axis=1, ascending=False).mean().map("{:.2f}".format),
        "difference": gaps.mean().map("{:+.2f}".format) + gaps.sem().map(" ± {:.2f}".format),
        "won": (gaps > TIE).sum().astype(str),
        "lost": (gaps < -TIE).sum().astype(str),
        "worst table": gaps.min().map("{:+.2f}".format),
    }
    return pd.DataFrame(columns)


def main() -> None:
    args = options(
        __doc__,
        settings=["clean", "contaminated"],
        tables=TABLES.split(","),
        seeds=[0, 1, 2],
        max_rows=1500,
        quick=False,
        detectors=[*RIVALS],
        param={},
    )
    if args.quick:
        args.tables, args.seeds = QUICK_TABLES, args.seeds[:1]
    report(pd.DataFrame(run(args)))


if __name__ == "__main__":
    main()
