"""Conditional models: densities, accuracy beside Gaussian classifiers, and mutual information.

    python benchmarks/conditional.py                          # every table, seeds 0,1,2
    python benchmarks/conditional.py --tables wine --seeds 0
    python benchmarks/conditional.py --parts densities --tables wine,concrete

How each figure is obtained:

- Rows are split 75/25 by seed and stratified by class; columns are standardized by the training
  rows, and a figure is the mean over the seeds. "log loss" is minus the mean log-probability of
  the true class, with probabilities of at least 1e-15, as scikit-learn clips them.
- `VAEClassifier` is at its defaults. "VAE per class" is the same model without conditions, one for
  the rows of each class, with the same rule of Bayes. GaussianNB and LinearDiscriminantAnalysis
  are at their defaults, QuadraticDiscriminantAnalysis has reg_param=0.01, without which it fails
  on digits; "mixture per class" is a GaussianMixture per class with 1, 2 or 4 full or diagonal
  components, chosen by BIC, with reg_covar=1e-2.
- CPU seconds (`time.process_time`, one thread) are those of fit and predict_proba.
- Densities: held-out log p(x|y) in nats per row, of tables with uniform noise of one recording step
  in each column (fixed seed), at the models' defaults: VAEDensity and VAETransformer given y, one
  VAEDensity for the rows of each class, and VAEDensity without y. In diabetes, concrete (without
  duplicates) and abalone (its first 2,000 rows), y are numbers: the progression, the strength, the
  rings.
- Mutual information: rows follow a line in y with normal residuals of three factors, so that
  I(x; y) has a closed form. "found" is the difference of the held-out scores of a conditional and
  of an unconditional model, both at their defaults.

Red wine is the file tables/winequality-red.csv, its qualities of 3 and 4 and of 7 and 8 as one
class each; banknote is tables/banknote_authentication.csv, in the folder that tables.py says.
"""

import argparse
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from density import print_table
from scipy.special import logsumexp
from sklearn import datasets
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.metrics import accuracy_score, log_loss
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler
from tables import DATA, abalone, concrete, drop_duplicates, recording_steps
from threadpoolctl import threadpool_limits

from sklearn_vae import VAEClassifier, VAEDensity, VAETransformer

ROWS = (500, 2000)
N_TEST = 5000


class PerClass:
    """Bayes' rule on a density per class."""

    def __init__(self, make: Any):
        self.make = make

    def fit(self, X: np.ndarray, y: np.ndarray) -> "PerClass":
        self.classes = np.unique(y)
        self.models = [self.make(X[y == label]) for label in self.classes]
        self.log_share = np.log([np.mean(y == label) for label in self.classes])
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        joint = np.stack([model.score_samples(X) for model in self.models], axis=1) + self.log_share
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))


def best_mixture(X: np.ndarray, seed: int) -> GaussianMixture:
    tried = [
        GaussianMixture(n, covariance_type=covariance, reg_covar=1e-2, random_state=seed).fit(X)
        for n in (1, 2, 4)
        for covariance in ("full", "diag")
    ]
    return min(tried, key=lambda mixture: mixture.bic(X))


def models(seed: int) -> dict[str, Any]:
    return {
        "VAEClassifier": VAEClassifier(random_state=seed),
        "VAE per class": PerClass(lambda X: VAETransformer(random_state=seed).fit(X)),
        "GaussianNB": GaussianNB(),
        "LDA": LinearDiscriminantAnalysis(),
        "QDA": QuadraticDiscriminantAnalysis(reg_param=0.01),
        "mixture per class": PerClass(lambda X: best_mixture(X, seed)),
    }


def banknote() -> tuple[np.ndarray, np.ndarray]:
    table = np.loadtxt(DATA / "tables" / "banknote_authentication.csv", delimiter=",")
    return table[:, :-1], table[:, -1].astype(int)


def red_wine() -> tuple[np.ndarray, np.ndarray]:
    path = DATA / "tables" / "winequality-red.csv"
    with path.open() as file:
        delimiter = ";" if ";" in file.readlines()[1] else ","
    table = np.genfromtxt(path, delimiter=delimiter)
    table = table[~np.isnan(table).any(axis=1)]  # a head, where there is one
    return table[:, :-1], np.clip(table[:, -1], 4, 7).astype(int)


LOADERS = {
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "breast_cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "banknote": banknote,
    "red_wine": red_wine,
    "digits": lambda: datasets.load_digits(return_X_y=True),
}


def last_column(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    table = dequantized(X)
    return table[:, :-1], table[:, -1]


NUMBERS = {
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "concrete": lambda: last_column(drop_duplicates(concrete())),
    "abalone": lambda: last_column(abalone()[:2000]),
}


def dequantized(X: np.ndarray) -> np.ndarray:
    return X + recording_steps(X) * (np.random.default_rng(0).random(X.shape) - 0.5)


def densities(names: list[str], seeds: list[int]) -> Iterator[dict[str, Any]]:
    for name in names:
        try:
            X, y = {**LOADERS, **NUMBERS}[name]()
        except OSError as error:
            print(f"{name}: left out, {error}")
            continue
        X = X if name in ("concrete", "abalone") else dequantized(X)
        for seed in seeds:
            classes = None if name in NUMBERS else y
            train, test, y_train, y_test = train_test_split(
                X, y, random_state=seed, stratify=classes
            )
            for label, nats in scores(train, test, y_train, y_test, seed).items():
                yield {"table": name, "seed": seed, "model": label, "nats": nats}


def scores(
    train: np.ndarray, test: np.ndarray, y_train: np.ndarray, y_test: np.ndarray, seed: int
) -> dict[str, float]:
    found = {
        f"{model.__name__} given y": model(conditional=True, random_state=seed)
        .fit(train, y_train)
        .score(test, y_test)
        for model in (VAEDensity, VAETransformer)
    }
    if y_train.dtype.kind != "f":
        of_class = [
            VAEDensity(random_state=seed).fit(train[y_train == k]).score_samples(test[y_test == k])
            for k in np.unique(y_train)
        ]
        found["VAEDensity per class"] = float(np.concatenate(of_class).mean())
    return {**found, "VAEDensity": VAEDensity(random_state=seed).fit(train).score(test)}


def classified(names: list[str], seeds: list[int]) -> Iterator[dict[str, Any]]:
    for name in names:
        try:
            X, y = LOADERS[name]()
        except OSError as error:
            print(f"{name}: left out, {error}")
            continue
        for seed in seeds:
            train, test, y_train, y_test = train_test_split(X, y, random_state=seed, stratify=y)
            scaler = StandardScaler().fit(train)
            train, test = scaler.transform(train), scaler.transform(test)
            for label, model in models(seed).items():
                started = time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of rank, and of convergence
                    proba = model.fit(train, y_train).predict_proba(test)
                classes = np.unique(y)
                yield {
                    "table": name,
                    "seed": seed,
                    "model": label,
                    "accuracy": accuracy_score(y_test, classes[proba.argmax(axis=1)]),
                    "log loss": log_loss(y_test, proba, labels=classes),
                    "CPU seconds": time.process_time() - started,
                }


def informed(n_rows: int, seed: int) -> tuple[float, float]:
    """Mutual information of x and y, in closed form and by two models' scores."""
    rng = np.random.default_rng(seed)
    slope, loadings = rng.normal(size=8), rng.normal(size=(3, 8))
    covariance = loadings.T @ loadings + 0.25 * np.eye(8)
    y = rng.normal(size=n_rows + N_TEST)
    rest = rng.normal(size=(len(y), 3)) @ loadings + 0.5 * rng.normal(size=(len(y), 8))
    X = np.outer(y, slope) + rest
    marginal = covariance + np.outer(slope, slope)
    expected = 0.5 * (np.linalg.slogdet(marginal)[1] - np.linalg.slogdet(covariance)[1])
    train, test = slice(n_rows), slice(n_rows, None)
    marginal = VAETransformer(random_state=seed).fit(X[train]).score(X[test])
    conditional = VAETransformer(conditional=True, random_state=seed).fit(X[train], y[train])
    return expected, conditional.score(X[test], y[test]) - marginal


def main() -> None:
    parser = argparse.ArgumentParser(description="Conditional models, and classifiers of them.")
    add = parser.add_argument
    tables = ",".join([*LOADERS, *NUMBERS])
    add("--tables", default=tables, help="names with commas between: %(default)s")
    add("--parts", default="densities,classifiers,information", help="what: %(default)s")
    add("--seeds", default="0,1,2", help="seeds of the splits: %(default)s")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    names, parts = args.tables.split(","), args.parts.split(",")
    with threadpool_limits(1):
        if "densities" in parts:
            records = pd.DataFrame(densities(names, seeds))
            means = records.pivot_table("nats", "table", "model", sort=False)
            print_table("nats", means.map("{:.2f}".format))
        if "classifiers" in parts:
            records = pd.DataFrame(classified([name for name in names if name in LOADERS], seeds))
            for figure in ("accuracy", "log loss", "CPU seconds"):
                means = records.pivot_table(figure, "table", "model", sort=False)
                print_table(figure, means.map("{:.3f}".format))
        if "information" in parts:
            records = pd.DataFrame(
                [(f"{n}, seed {seed}", *informed(n, seed)) for n in ROWS for seed in seeds],
                columns=["rows", "mutual information", "found"],
            )
            print_table("rows", records.set_index("rows").map("{:.2f}".format))


if __name__ == "__main__":
    main()
