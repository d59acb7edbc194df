"""Fits with default parameters on small tables: each estimator, a mixture, the textbook's loop."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from mixed_density import penguins, titanic
from parts.measure import alternate, ratio, table, timed
from peers import WORKLOADS, Workload, train_textbook
from sklearn import datasets
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

Table = np.ndarray | pd.DataFrame
TEXTBOOK = "textbook loop"
MIXTURE = "GaussianMixture(8)"
BATCH_SIZE, WIDTHS = 128, (128, 64)  # of VAETransformer, for tables as short as these
# Rows of a first fit of each, which pays for imports.
WARM_UP = replace(WORKLOADS["W3"], n_rows=200)


def load() -> dict[str, Table]:
    """Return the tables, without those whose files are missing."""
    tables: dict[str, Table] = {
        "wine": datasets.load_wine().data,
        "breast_cancer": datasets.load_breast_cancer().data,
        "digits": datasets.load_digits().data,
        "curved": replace(WORKLOADS["W1"], n_rows=1_000, n_columns=20, n_components=5).rows(),
    }
    for loader in (penguins, titanic):
        try:
            tables[loader.__name__] = loader()
        except FileNotFoundError as error:
            print(f"{loader.__name__} is left out: {error.filename} is missing.")
    return tables


def as_numbers(X: Table) -> np.ndarray:
    """Return the rows as the peers need them: imputed, one-hot, standardized, single precision."""
    if isinstance(X, pd.DataFrame):
        numbers = make_column_selector(dtype_include="number")
        classes = make_column_selector(dtype_exclude="number")
        one_hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
        encoder = make_column_transformer((SimpleImputer(), numbers), (one_hot, classes))
        X = encoder.fit_transform(X)

    return make_pipeline(SimpleImputer(), StandardScaler()).fit_transform(X).astype(np.float32)


def fits(X: Table) -> dict[str, Callable[[], object]]:
    """Return the fits of one table; the textbook's takes as many steps as VAETransformer's."""
    import sklearn_vae as ours

    estimators = {
        name: getattr(ours, name)
        for name in ("VAETransformer", "VAEDensity", "VAEImputer", "VAEOutlierDetector")
    }
    estimators["VAEOutlierDetector(novelty=True)"] = partial(ours.VAEOutlierDetector, novelty=True)
    vae = ours.VAETransformer(random_state=0).fit(X)
    rows = as_numbers(X)
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
    with threadpool_limits(1):
        for X in tables.values():
            runs = {name: partial(timed, run) for name, run in fits(X).items()}
            times = {
                name: [cpu for cpu, _ in results]
                for name, results in alternate(runs, rounds).items()
            }
            for name in times:
                seconds.setdefault(name, []).append(f"{np.median(times[name]):.2f}")
                slower.setdefault(name, []).append(ratio(times[name], times[TEXTBOOK]))
    header = ["model", *(f"{name}, {len(X)}×{X.shape[1]}" for name, X in tables.items())]
    for title, columns in {"CPU s": seconds, f"time, {TEXTBOOK} = 1": slower}.items():
        rows = [[name, *cells] for name, cells in columns.items()]
        table(f"Fits with default parameters: {title}, rounds: {rounds}", header, rows)
