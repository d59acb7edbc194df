"""Finding anomalies: a VAE detector at its defaults beside other detectors.

    python benchmarks/anomaly.py                              # both settings, seeds 0,1,2
    python benchmarks/anomaly.py --quick                      # six small tables, one seed
    python benchmarks/anomaly.py --settings clean --tables wine,glass --param "method='neighbors'"
    python benchmarks/anomaly.py --no-ours --detectors ECOD,COPOD,HBOS    # fill the cache
    python benchmarks/anomaly.py --keep ours --methods all --choose       # choose honestly
    python benchmarks/anomaly.py --tables oddbench --seeds 0 --settings clean,contaminated=0.05
    python benchmarks/anomaly.py --tables oddbench --seeds 0 --thresholds  # shares of rows flagged

How each figure is obtained:

- A table is a file of ADBench, looked for in the folder ``adbench`` of what the environment
  variable SKLEARN_VAE_DATA names, or else of ``../shared/data`` beside the repository; or, as
  ``oddbench/NAME``, of OddBench in the folder of that name. ``oddbench`` are all of them.
- Setting `clean`: train on one half of the normal rows, test on the other half and all anomalies.
  Setting `contaminated`: train on 70 % of all rows, anomalies included, test on the other 30 %.
  The rows of OddBench are divided already: `clean` takes them as they are, and for
  `contaminated=0.05` anomalies are moved from the test rows until they are 5 % of the training rows
  or half of them are moved; without a number, 10 %.
  Of both parts no more than `--max-rows` rows are used, drawn by seed with the share of anomalies
  that the part has, but ten anomalies at least, if there are ten (`--fewest-anomalies`).
- Columns are standardized by the training rows.
- A figure is the area under the ROC curve (AUROC) or the average precision (AP), times 100, on
  the test rows, averaged over the seeds.
- "Rank" is the mean over tables of a detector's rank by that figure, 1 for the best. "Wins" counts
  tables against a rival by mean over seeds; a difference below 0.05 is a tie. The interval behind a
  mean difference holds 95 % of its means over tables drawn with replacement (10,000 draws).
- `--choose` says whether the default is a choice that holds. The tables are halved by chance, 1,000
  times. On one half the best rival is chosen by its mean, and the best of our methods by
  consistency: mean difference from that rival over its standard deviation. On the other half both
  the default and the method chosen are compared with the rival chosen, and the default with the
  rival that is best there.
- With `--methods`, a table is fitted once per seed, and all methods score with its autoencoders,
  which do not depend on the method; only the first method's seconds hold the fit.
- With `--thresholds` there are no rivals and no test rows. Our detector is fitted to one half of
  the training rows, and the other half, of the same distribution, is scored. Shown are the share of
  rows below the threshold of each contamination, averaged over tables; the tables whose share is
  outside the 99 % interval of the beta-binomial distribution, which exchangeable scores have; and
  those where Kolmogorov and Smirnov's test refuses uniform p-values at the level of 1 %. Rows
  with tied scores are flagged less often.
- CPU seconds (`time.process_time`, one thread) hold fit and scoring. A process's first fit by torch
  also holds what torch imports then, about a second.

Every result is kept in benchmarks/.cache/anomaly.json by detector, its parameters, table, setting
and seed, and is not computed again: a run that was stopped goes on where it was. Results of ours
are kept with `--keep`, under the label given, for they depend on the code. Detectors whose package
is not there are shown if the cache holds their results.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from density import parameter, print_table
from scipy.stats import betabinom, ks_2samp
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from tables import DATA, with_oddbench
from threadpoolctl import threadpool_limits

PROTOCOL = 1  # raise it when the rows or a detector change: what the cache holds is then not used
CACHE = Path(__file__).resolve().parent / ".cache" / "anomaly.json"
TABLES = (
    "ALOI,Cardiotocography,Hepatitis,Ionosphere,SpamBase,WBC,breastw,campaign,cardio,cover,fault,"
    "glass,http,landsat,magic.gamma,musk,optdigits,satellite,satimage-2,smtp,vowels,wine"
)
QUICK_TABLES = "Hepatitis,Ionosphere,WBC,glass,vowels,wine"
EVERY_METHOD = "auto,neighbors,log_likelihood,reconstruction_probability,reconstruction"
MIN_ANOMALIES = 10
MAX_TABLES_SHOWN = 40
MIN_TO_HALVE = 6  # tables: a spread takes more than one or two
TIE = 0.05
LEVEL = 0.01
CONTAMINATIONS = (0.05, 0.1)
DRAWS = 10_000
HALVINGS = 1000

Scores = np.ndarray  # (n_test,), higher is stranger
Detector = Callable[[np.ndarray, np.ndarray, int], Scores]  # train, test, seed

# Detectors


def nearest(k: int | float) -> Detector:
    """Distance to the k-th nearest training row; a share of the rows gives the mean of so many."""

    def scores(train: np.ndarray, test: np.ndarray, _seed: int) -> Scores:
        n = k if isinstance(k, int) else max(round(k * len(train)), 1)
        distance, _ = NearestNeighbors(n_neighbors=min(n, len(train))).fit(train).kneighbors(test)
        return distance[:, -1] if isinstance(k, int) else distance.mean(axis=1)

    return scores


def scikit_learn(make: Callable[[int], Any]) -> Detector:
    return lambda train, test, seed: -make(seed).fit(train).score_samples(test)


def pyod(module: str, name: str, *, seeded: bool = False, **params: Any) -> Detector:
    """A detector of PyOD, at its defaults but for what is given."""

    def scores(train: np.ndarray, test: np.ndarray, seed: int) -> Scores:
        from importlib import import_module

        seeds = {"random_state": seed} if seeded else {}
        detector = getattr(import_module(f"pyod.models.{module}"), name)(**params, **seeds)
        return detector.fit(train).decision_function(test)

    return scores


def dte(k: int = 5) -> Detector:
    """DTE-NP (Livernoche et al., ICLR 2024): the mean distance to the nearest training rows."""

    def scores(train: np.ndarray, test: np.ndarray, _seed: int) -> Scores:
        return NearestNeighbors(n_neighbors=k).fit(train).kneighbors(test)[0].mean(axis=1)

    return scores


def denoising_autoencoder(train: np.ndarray, test: np.ndarray, seed: int) -> Scores:
    """DDAE (Sattarov et al., KDD 2025) with the settings of its authors."""
    from parts.ddae import ddae

    return ddae(train, test, seed)


def denoising_autoencoder_of_normal_scores(
    train: np.ndarray, test: np.ndarray, seed: int
) -> Scores:
    """DDAE that is trained and scored on normal scores of the columns."""
    from parts.ddae import ddae_normal_scores

    return ddae_normal_scores(train, test, seed)


def among_normal_scores(detector: Detector) -> Detector:
    """Return a detector of the columns' normal scores."""

    def scores(train: np.ndarray, test: np.ndarray, seed: int) -> Scores:
        from parts.ddae import normal_scores

        return detector(*normal_scores(train, test), seed)

    return scores


RIVALS: dict[str, Detector] = {
    "kNN k=1": nearest(1),
    "kNN k=5": nearest(5),
    "DTE-NP": dte(),
    "kNN 10%": nearest(0.1),
    "IsolationForest": scikit_learn(lambda seed: IsolationForest(random_state=seed)),
    "LOF": scikit_learn(lambda _: LocalOutlierFactor(novelty=True)),
    "OneClassSVM": scikit_learn(lambda _: OneClassSVM()),
    "GaussianMixture": scikit_learn(
        lambda seed: GaussianMixture(4, reg_covar=1e-3, random_state=seed)
    ),
    "PCA": pyod("pca", "PCA"),
    "ECOD": pyod("ecod", "ECOD"),
    "COPOD": pyod("copod", "COPOD"),
    "HBOS": pyod("hbos", "HBOS"),
    "PyOD AutoEncoder": pyod("auto_encoder", "AutoEncoder", seeded=True, verbose=0),
    "PyOD VAE": pyod("vae", "VAE", seeded=True, verbose=0),
    "DDAE": denoising_autoencoder,
    "kNN k=1 (normal scores)": among_normal_scores(nearest(1)),
    "DTE-NP (normal scores)": among_normal_scores(dte()),
    "DDAE (normal scores)": denoising_autoencoder_of_normal_scores,
}


class Ours:
    """Our detector; only ``novelty`` depends on the setting. The last fit serves all methods."""

    def __init__(self, param: dict[str, Any], setting: str):
        self.params = {"novelty": setting == "clean", **param}
        self.rows: np.ndarray | None = None

    def by(self, method: str) -> Detector:
        def scores(train: np.ndarray, test: np.ndarray, seed: int) -> Scores:
            self._fit(train, seed)
            return -self._with(method).score_samples(test)

        return scores

    def _fit(self, train: np.ndarray, seed: int) -> None:
        import torch

        from sklearn_vae import VAEOutlierDetector

        if self.rows is train:
            return
        torch.set_num_threads(1)
        self.rows = train
        self.fitted = VAEOutlierDetector(**{"random_state": seed, **self.params}).fit(train)

    def _with(self, method: str) -> Any:
        """The detector that a fit with this method would have given, but for its threshold."""
        from sklearn_vae.anomaly.methods import find_scorer

        if method != self.fitted.method:
            rows = self.fitted._reference_rows()
            has_classes = len(rows.class_columns) > 0
            scorer = find_scorer(method, novelty=self.params["novelty"], has_classes=has_classes)
            self.fitted.scorer_, _ = scorer.fit_score(rows)
            self.fitted.method = method
        return self.fitted


def ours(args: argparse.Namespace, setting: str) -> dict[str, Detector]:
    """Our detectors by label: the default has none but the one given."""
    label = args.keep or "ours"
    fits = Ours(args.param, setting)
    return {
        label if method == "auto" else f"{label}: {method}": fits.by(method)
        for method in args.methods
    }


# Rows


def adbench(
    name: str, setting: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, whether they are anomalies, and the indices of training and of test rows."""
    with np.load(DATA / "adbench" / f"{name}.npz") as file:
        X, y = file["X"].astype(np.float64), file["y"].astype(bool)
    if setting == "clean":
        normal = rng.permutation(np.flatnonzero(~y))
        half = len(normal) // 2
        return X, y, normal[:half], np.concatenate([normal[half:], np.flatnonzero(y)])
    order = rng.permutation(len(y))
    return X, y, *np.split(order, [int(0.7 * len(y))])


def oddbench(
    name: str, setting: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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
    name: str, setting: str, seed: int, max_rows: int, fewest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows and whether each of these is an anomaly."""
    rng = np.random.default_rng(seed)
    divided = oddbench if name.startswith("oddbench/") else adbench
    X, y, train, test = divided(name, setting, rng)
    train, test = (some_of(part, y, max_rows, fewest, rng) for part in (train, test))
    scaler = StandardScaler().fit(X[train])

    return scaler.transform(X[train]), scaler.transform(X[test]), y[test]


def some_of(
    rows: np.ndarray, y: np.ndarray, max_rows: int, fewest: int, rng: np.random.Generator
) -> np.ndarray:
    """At most so many of the rows, with their share of anomalies."""
    rows = rng.permutation(rows)
    if len(rows) <= max_rows:
        return rows
    anomalies, normal = rows[y[rows]], rows[~y[rows]]
    n_proportional = round(max_rows * len(anomalies) / len(rows))
    n_anomalies = max(n_proportional, min(len(anomalies), fewest))

    return np.concatenate([anomalies[:n_anomalies], normal[: max_rows - n_anomalies]])


# Fitting and scoring


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per setting, table, seed and detector."""
    label = args.keep or "ours"
    for setting in args.settings:
        detectors: dict[str, Detector] = {name: RIVALS[name] for name in args.detectors}
        if not args.no_ours:
            detectors |= ours(args, setting)
        for table in args.tables:
            for seed in args.seeds:
                for name, detector in detectors.items():
                    keeps = not name.startswith(label) or bool(args.keep)
                    task = (table, setting, seed, args.max_rows, args.fewest_anomalies)
                    figures = result(name, detector, task, keeps=keeps)
                    if figures is not None:
                        where = {"setting": setting, "table": table, "seed": seed}
                        yield {**where, "detector": name, **figures}


def result(
    name: str, detector: Detector, task: tuple[str, str, int, int, int], *, keeps: bool
) -> dict[str, float] | None:
    """Take a result from the cache, or compute it; None if its package is not there."""
    has_default = task[-1] == MIN_ANOMALIES
    key = f"v{PROTOCOL}/{name}/" + "/".join(map(str, task[:-1] if has_default else task))
    kept = json.loads(CACHE.read_text()) if CACHE.exists() else {}
    if keeps and key in kept:
        return kept[key]
    train, test, is_anomaly = rows_of(*task)
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = detector(train, test, task[2])
    except ImportError:
        return None
    seconds = time.process_time() - start
    scores = np.nan_to_num(scores.astype(np.float64), nan=np.inf, posinf=1e300, neginf=-1e300)
    figures = {
        "AUROC": 100 * float(roc_auc_score(is_anomaly, scores)),
        "AP": 100 * float(average_precision_score(is_anomaly, scores)),
        "seconds": seconds,
    }
    text = " ".join(f"{value:7.2f}" for value in figures.values())
    print(f"{task[1]:13}{task[0]:17}seed {task[2]} {name:17}{text}", file=sys.stderr)
    if keeps:
        CACHE.parent.mkdir(exist_ok=True)
        kept = json.loads(CACHE.read_text()) if CACHE.exists() else {}
        beside = CACHE.with_suffix(f".{os.getpid()}.part")
        beside.write_text(json.dumps(kept | {key: figures}, indent=1, sort_keys=True))
        os.replace(beside, CACHE)

    return figures


# Thresholds


def flagged(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the shares of fresh rows that are flagged, by setting, table and seed."""
    for setting, table, seed in product(args.settings, args.tables, args.seeds):
        rows, _, _ = rows_of(table, setting, seed, args.max_rows, args.fewest_anomalies)
        train, fresh = np.array_split(np.random.default_rng(seed).permutation(rows), 2)
        fits = Ours(args.param, setting)
        scores = -fits.by(fits.params.get("method", "auto"))(train, fresh, seed)
        calibration = fits.fitted.calibration_scores_
        n = len(calibration)
        record = {"setting": setting, "table": table, "rows": n, "columns": rows.shape[1]}
        record["KS < .01"] = ks_2samp(scores, calibration).pvalue < LEVEL
        for share in CONTAMINATIONS:
            n_flagged = (scores < np.quantile(calibration, share)).sum()
            counts = betabinom(len(fresh), share * (n + 1), (1 - share) * (n + 1))
            record[f"flagged at {share}"] = n_flagged / len(fresh)
            record[f"above at {share}"] = counts.sf(n_flagged - 1) < LEVEL / 2
            record[f"below at {share}"] = counts.cdf(n_flagged) < LEVEL / 2
        print(setting, table, file=sys.stderr)
        yield record


def report_thresholds(records: pd.DataFrame) -> None:
    for setting, own in records.groupby("setting", sort=False):
        figures = own.drop(columns=["setting", "table"])
        summary = figures.agg(
            {name: "sum" if figures[name].dtype == bool else "mean" for name in figures}
        )
        print_table(
            f"{setting}, {len(own)} tables", summary.to_frame("mean or tables").map("{:.3g}".format)
        )


# Printing


def report(records: pd.DataFrame, first: str) -> None:
    """Per setting: every table, means, ranks, wins, differences, seconds."""
    for setting, group in records.groupby("setting", sort=False):
        for measure in ("AUROC", "AP"):
            means = group.pivot_table(index="table", columns="detector", values=measure, sort=False)
            if len(means) <= MAX_TABLES_SHOWN:
                print_table(f"{setting}, {measure}", with_mean(means))
            print_table(f"{setting}, {measure}", standing(means))
            if first in means:
                print_table(f"{first} minus", differences(means, first))
        seconds = group.groupby("detector", sort=False)["seconds"]
        columns = {"median": seconds.median(), "longest": seconds.max()}
        print_table(f"{setting}, CPU seconds", pd.DataFrame(columns).map("{:.2f}".format))


def with_mean(means: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([means, means.mean().to_frame("mean").T]).map("{:.2f}".format)


def standing(means: pd.DataFrame) -> pd.DataFrame:
    ranks = means.rank(axis=1, ascending=False).mean()
    return pd.DataFrame({"mean": means.mean(), "rank": ranks}).map("{:.2f}".format)


def differences(means: pd.DataFrame, first: str) -> pd.DataFrame:
    """Compare table by table, with an interval by bootstrap over tables."""
    rng = np.random.default_rng(0)
    rows = {}
    for rival in means.columns.drop(first):
        gap = (means[first] - means[rival]).dropna().to_numpy()
        drawn = gap[rng.integers(len(gap), size=(DRAWS, len(gap)))].mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        rows[rival] = {
            "mean": f"{gap.mean():+.2f}",
            "95 % interval": f"{low:+.2f} to {high:+.2f}",
            "won": str((gap > TIE).sum()),
            "lost": str((gap < -TIE).sum()),
            "worst table": f"{gap.min():+.2f}",
        }
    return pd.DataFrame(rows).T


def choose(records: pd.DataFrame, first: str) -> None:
    """Choose among methods on half of the tables and confirm on the other, many times."""
    for setting, group in records.groupby("setting", sort=False):
        for measure in ("AUROC", "AP"):
            means = group.pivot_table(index="table", columns="detector", values=measure, sort=False)
            is_ours = means.columns.str.startswith(first)
            methods, rivals = means.loc[:, is_ours], means.loc[:, ~is_ours]
            rng = np.random.default_rng(0)
            halvings = pd.DataFrame(
                halving(methods, rivals, first, rng.permutation(len(means)))
                for _ in range(HALVINGS)
            )
            leads = halvings.drop(columns=["chosen", "rival"])
            table = pd.DataFrame(
                {
                    "mean": leads.mean().map("{:+.2f}".format),
                    "90 % of halves": [
                        "{:+.2f} to {:+.2f}".format(*np.quantile(lead, [0.05, 0.95]))
                        for _, lead in leads.items()
                    ],
                    "ahead": (leads > 0).mean().map("{:.0%}".format),
                }
            )
            print_table(f"{setting}, {measure}, on the halves not chosen on", table)
            for name in ("chosen", "rival"):
                frequencies = halvings[name].value_counts(normalize=True).map("{:.0%}".format)
                print_table(f"{setting}, {measure}: {name}", frequencies.to_frame("of halvings"))


def halving(
    methods: pd.DataFrame, rivals: pd.DataFrame, first: str, order: np.ndarray
) -> dict[str, Any]:
    """Selection of methods on one half of the tables, and their comparison on the other half."""
    here, there = np.array_split(order, 2)
    rival = rivals.iloc[here].mean().idxmax()
    gaps = methods.sub(rivals[rival], axis=0)
    chosen = (gaps.iloc[here].mean() / gaps.iloc[here].std()).idxmax()
    best = rivals.iloc[there].mean().max()

    return {
        "default less the rival chosen": gaps[first].iloc[there].mean(),
        "default less the best rival there": methods[first].iloc[there].mean() - best,
        "method chosen less the rival chosen": gaps[chosen].iloc[there].mean(),
        "chosen": chosen,
        "rival": rival,
    }


# The command line


def main() -> None:
    parser = argparse.ArgumentParser(description="Anomalies found by a VAE and its rivals.")
    add = parser.add_argument
    default_detectors = ",".join(RIVALS)
    add("--settings", default="clean,contaminated", help="one of them or both: %(default)s")
    add("--tables", default=TABLES, help="names with commas between: %(default)s")
    add("--seeds", default="0,1,2", help="seeds of the splits and the detectors: %(default)s")
    add("--max-rows", default=1500, type=int, help="rows to train on, and to test: %(default)s")
    add("--quick", action="store_true", help=f"only {QUICK_TABLES}; only the first seed")
    add("--detectors", default=default_detectors, help="rivals: %(default)s")
    add("--methods", default="auto", help="ours, or all of them: %(default)s")
    add("--choose", action="store_true", help="choose on half of the tables, confirm on the other")
    add("--fewest-anomalies", default=MIN_ANOMALIES, type=int, help="in a part: %(default)s")
    add("--param", action="append", default=[], type=parameter, metavar="NAME=VALUE")
    add("--keep", metavar="LABEL", help="keep our results, or take them from the cache, by a name")
    add("--thresholds", action="store_true", help="shares of fresh rows that are flagged")
    add("--no-ours", action="store_true", help="rivals only")
    add("--json", type=Path, metavar="FILE", help="write every result there")
    args = parser.parse_args()
    args.settings = args.settings.split(",")
    args.tables = with_oddbench((QUICK_TABLES if args.quick else args.tables).split(","))
    args.seeds = [int(seed) for seed in args.seeds.split(",")][: 1 if args.quick else None]
    args.detectors = [name for name in args.detectors.split(",") if name]
    args.methods = (EVERY_METHOD if args.methods == "all" else args.methods).split(",")
    args.param = dict(args.param)
    if args.choose and len(args.tables) < MIN_TO_HALVE:
        parser.error(f"--choose halves the tables, and takes {MIN_TO_HALVE} of them at least")

    with threadpool_limits(1):
        records = pd.DataFrame(flagged(args) if args.thresholds else run(args))
    if records.empty:
        parser.exit(message="nothing to show: no detector's package is there\n")
    if args.thresholds:
        report_thresholds(records)
    else:
        report(records, args.keep or "ours")
    if args.choose:
        choose(records, args.keep or "ours")
    if args.json:
        records.to_json(args.json, orient="records", indent=1)


if __name__ == "__main__":
    main()
