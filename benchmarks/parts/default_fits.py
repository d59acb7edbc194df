"""Fits with default parameters on small tables: each estimator, a mixture, the textbook's loop."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from common import alternate, ratio, table, timed
from peers import WORKLOADS, Workload, train_textbook
from sklearn.mixture import GaussianMixture
from tables import LABELLED, MIXED, as_numbers, load_each

import sklearn_vae as ours

Table = np.ndarray | pd.DataFrame
TEXTBOOK = "textbook loop"
MIXTURE = "GaussianMixture(8)"
BATCH_SIZE, WIDTHS = 128, (128, 64)  # of VAETransformer, for tables as short as these
# Rows of a first fit of each, which pays for imports.
WARM_UP = replace(WORKLOADS["W3"], n_rows=200)


def load() -> dict[str, Table]:
    """Return the tables, without those whose files are missing."""
    return {
        **{name: LABELLED[name]()[0] for name in ("wine", "breast_cancer", "digits")},
        "curved": replace(WORKLOADS["W1"], n_rows=1_000, n_columns=20, n_components=5).rows(),
        **dict(load_each([*MIXED], lambda name: MIXED[name]())),
    }


def fits(X: Table) -> dict[str, Callable[[], object]]:
    """Return the fits of one table; the textbook's takes as many steps as VAETransformer's."""
    estimators = {
        name: getattr(ours, name)
        for name in ("VAETransformer", "VAEDensity", "VAEImputer", "VAEOutlierDetector")
    }
    estimators["VAEOutlierDetector(novelty=True)"] = partial(ours.VAEOutlierDetector, novelty=True)
    vae = ours.VAETransformer(random_state=0).fit(X)
    rows = as_numbers(X).astype(np.float32)
    n_codes = len(vae.get_feature_names_out())
    n_epochs = math.ceil(vae.n_steps_ / math.ceil(len(rows) / BATCH_SIZE))
    work = Workload(*rows.shape, BATCH_SIZE, WIDTHS, n_codes, n_epochs)

    def train() -> object:
        torch.manual_seed(0)
        return train_textbook(rows, work)

    return {
        **{
            name: lambda make=make: make(random_state=0).fit(X) for name, make in estimators.items()
        },
        TEXTBOOK: train,
        MIXTURE: lambda: GaussianMixture(8, random_state=0).fit(rows.astype(np.float64)),
    }


def report_defaults(rounds: int) -> None:
    """Print CPU seconds of fits, and the time of each beside that of the textbook's loop."""
    for run in fits(WARM_UP.rows()).values():
        run()
    seconds, slower, tables = {}, {}, load()
    for X in tables.values():
        runs = {name: lambda run=run: timed(run)[0] for name, run in fits(X).items()}
        times = alternate(runs, rounds)
        for name, own in times.items():
            seconds.setdefault(name, []).append(f"{np.median(own):.2f}")
            slower.setdefault(name, []).append(ratio(own, times[TEXTBOOK]))
    header = ["model", *(f"{name}, {len(X)}×{X.shape[1]}" for name, X in tables.items())]
    for title, columns in {"CPU s": seconds, f"time, {TEXTBOOK} = 1": slower}.items():
        rows = [[name, *cells] for name, cells in columns.items()]
        table(f"Fits with default parameters: {title}, rounds: {rounds}", header, rows)
