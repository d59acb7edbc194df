"""Conditional models: classes beside scikit-learn's classifiers, and densities given y.

    python benchmarks/conditional.py                          # both parts, every table, three seeds
    python benchmarks/conditional.py --parts classes --tables wine --seeds 0

How each figure is obtained:

- Rows are split 75/25 by seed and stratified by class; a figure is the mean over the seeds.
- Classes: columns are standardized by the training rows. "log loss" is minus the mean
  log-probability of the true class, with probabilities of at least 1e-15, as scikit-learn clips
  them. `VAEClassifier` is at its defaults. "VAE per class" is the same model without conditions,
  one for the rows of each class, with the same rule of Bayes. GaussianNB and
  LinearDiscriminantAnalysis are at their defaults, QuadraticDiscriminantAnalysis has
  reg_param=0.01, without which it fails on digits; "mixture per class" is a GaussianMixture per
  class with 1, 2 or 4 full or diagonal components, chosen by BIC, with reg_covar=1e-2. CPU seconds
  (`time.process_time`, one thread) are those of fit and predict_proba.
- Densities: held-out log p(x|y) in nats per row, of tables with uniform noise of one recording step
  in each column, at the models' defaults: VAEDensity and VAETransformer given y, one VAEDensity for
  the rows of each class, and VAEDensity without y. In diabetes, concrete and abalone (its first
  2,000 rows), y are numbers: the progression, the strength, the rings.
"""

import warnings
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from common import options, print_frame, tell, timed
from scipy.special import logsumexp
from sklearn.datasets import load_diabetes
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.metrics import accuracy_score, log_loss
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler
from tables import LABELLED, LOADERS, drop_duplicates, load_each, recording_steps

from sklearn_vae import VAEClassifier, VAEDensity, VAETransformer

TABLES = [name for name in LABELLED if name != "mnist"]


def last_column(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    X = with_noise(X)
    return X[:, :-1], X[:, -1]


NUMBERS = {
    "diabetes": lambda: load_diabetes(return_X_y=True),
    "concrete": lambda: last_column(drop_duplicates(LOADERS["concrete"]())),
    "abalone": lambda: last_column(LOADERS["abalone"]()[:2000]),
}


def with_noise(X: np.ndarray) -> np.ndarray:
    return X + recording_steps(X) * (np.random.default_rng(0).random(X.shape) - 0.5)


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


def classifiers(seed: int) -> dict[str, Any]:
    return {
        "VAEClassifier": VAEClassifier(random_state=seed),
        "VAE per class": PerClass(lambda X: VAETransformer(random_state=seed).fit(X)),
        "GaussianNB": GaussianNB(),
        "LDA": LinearDiscriminantAnalysis(),
        "QDA": QuadraticDiscriminantAnalysis(reg_param=0.01),
        "mixture per class": PerClass(lambda X: best_mixture(X, seed)),
    }


def classes(_name: str, X: np.ndarray, y: np.ndarray, seed: int) -> Iterator[dict[str, Any]]:
    """Accuracy and log loss of each classifier on the test rows."""
    train, test, y_train, y_test = train_test_split(X, y, random_state=seed, stratify=y)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    labels = np.unique(y)
    for label, model in classifiers(seed).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rank, and of convergence
            seconds, proba = timed(
                lambda model=model: model.fit(train, y_train).predict_proba(test)
            )
        yield {
            "model": label,
            "accuracy": accuracy_score(y_test, labels[proba.argmax(axis=1)]),
            "log loss": log_loss(y_test, proba, labels=labels),
            "CPU seconds": seconds,
        }


def densities(name: str, X: np.ndarray, y: np.ndarray, seed: int) -> Iterator[dict[str, Any]]:
    """Nats per test row, with and without y."""
    X = X if name in ("concrete", "abalone") else with_noise(X)  # these have it, y as well
    stratify = None if name in NUMBERS else y
    train, test, y_train, y_test = train_test_split(X, y, random_state=seed, stratify=stratify)
    density = partial(VAEDensity, random_state=seed)
    for model in (density, partial(VAETransformer, random_state=seed)):
        nats = model(conditional=True).fit(train, y_train).score(test, y_test)
        yield {"model": f"{model.func.__name__} given y", "nats": nats}
    if stratify is not None:
        scores = [
            density().fit(train[y_train == k]).score_samples(test[y_test == k])
            for k in np.unique(y_train)
        ]
        yield {"model": "VAEDensity per class", "nats": np.concatenate(scores).mean()}
    yield {"model": "VAEDensity", "nats": density().fit(train).score(test)}


def run(args: Namespace, part: Any, names: list[str]) -> pd.DataFrame:
    records = []
    for name, (X, y) in load_each(names, lambda name: {**LABELLED, **NUMBERS}[name]()):
        for seed in args.seeds:
            for record in part(name, X, y, seed):
                tell(name, seed, record)
                records.append({"table": name, "seed": seed, **record})
    return pd.DataFrame(records)


def main() -> None:
    args = options(
        __doc__, parts=["classes", "densities"], tables=[*TABLES, *NUMBERS], seeds=[0, 1, 2]
    )
    if "classes" in args.parts:
        records = run(args, classes, [name for name in args.tables if name in LABELLED])
        for figure in ("accuracy", "log loss", "CPU seconds"):
            print_frame(figure, records.pivot_table(figure, "table", "model", sort=False), ".3f")
    if "densities" in args.parts:
        records = run(args, densities, args.tables)
        print_frame("nats", records.pivot_table("nats", "table", "model", sort=False), ".2f")


if __name__ == "__main__":
    main()
