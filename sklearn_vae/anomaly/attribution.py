"""Feature attribution of anomaly scores, and a sentence for a reported cell."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Self

import numpy as np

from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import score_in_batches
from sklearn_vae.data.arrays import format_value
from sklearn_vae.data.fields import Name
from sklearn_vae.inference.fitted_models import FittedVAE
from sklearn_vae.numerics.array_api import softplus
from sklearn_vae.numerics.rows import spread_out
from sklearn_vae.persistence.validation import serializable

# Draws of codes from which conditional densities are computed.
N_DRAWS = 64


@serializable
@dataclass(frozen=True)
class AttributionBaseline:
    """Averages over training rows, relative to which anomaly scores are attributed to columns."""

    # mean of -log p(x_j | the other columns), in nats
    conditional_nll: Annotated[np.ndarray, "f", "n_features"]
    score: float  # median anomaly score: a gross error has thousands of nats

    @classmethod
    def fit(cls, rows: ScoredRows, scores: np.ndarray) -> Self:
        """Average over some of the reference rows, and over the anomaly scores (n,) of all."""
        n_rows = np.clip(1_000 // rows.X.shape[1], 10, 100)  # time grows with their values
        X = rows.X[spread_out(len(rows), int(n_rows))]
        nll, observed = conditional_nll(rows.model, X), ~np.isnan(X)
        baseline = (nll * observed).sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
        return cls(baseline, float(np.median(scores)))

    def attribute(self, rows: ScoredRows, scores: np.ndarray) -> np.ndarray:
        """Attribute scores (n,) less the baseline's score to columns: (n, n_features).

        A number's deviation from the median counts beyond four standard deviations, as its
        logarithm: the model may have learned a gross error among the training rows.
        """
        X, columns = rows.X, rows.model.columns
        if not len(X):
            return X
        excess = conditional_nll(rows.model, X) - self.conditional_nll
        numbers = list(rows.reference.numbers_of_columns)
        with np.errstate(over="ignore"):
            nats = score_in_batches(lambda part: part.deviations[:, numbers].T, rows).T ** 2 / 2
        beyond = np.log1p(np.maximum(nats - 4**2 / 2, 0))
        excess[:, rows.columns.column_of_input[numbers]] += beyond
        is_usual = columns.is_constant & ~columns.is_unseen(X)  # a constant, as in all rows
        return softplus_attribution(scores - self.score, excess, np.isnan(X) | is_usual)


def conditional_nll(predictor: FittedVAE, X: np.ndarray) -> np.ndarray:
    """-log p(x_j | the row's other columns), in nats of the model's units: (n, n_features).

    It is 0 for missing values, and that of the rule of succession for unseen ones.
    """
    columns, nll = predictor.columns, np.zeros(X.shape)
    with np.errstate(over="ignore"):
        nll[:, columns.order] = -predictor.log_conditionals(X, N_DRAWS)
    if columns.residuals:
        log_density = partial(predictor.log_density, n_draws=N_DRAWS, refines=False, in_units=False)
        log_p = log_density(X)
        for j in np.unique(columns.column_of_input[columns.residuals.sources]).tolist():
            hidden = X.copy()  # without the source, residuals on it are others
            hidden[:, j] = np.nan
            nll[:, j] = log_density(hidden) - log_p
    nll[columns.is_unseen(X)] = -columns.log_unseen
    return np.clip(np.nan_to_num(nll, nan=np.inf), -1e300, 1e300)


def softplus_attribution(
    deviation: np.ndarray, excess: np.ndarray, is_none: np.ndarray
) -> np.ndarray:
    """Attributions that add up to the deviation (n,), in the order of the excess: (n, d).

    That of column j is the deviation times softplus(excess_j) / sum_k softplus(excess_k); for a
    negative deviation, whose attributions are negative, with softplus(-excess). Values of the mask
    (n, d) get none, unless a row has no others.
    """
    sign = np.where(deviation < 0, -1.0, 1.0)[:, None]
    weights = softplus(sign * excess)
    weights = np.maximum(weights, np.finfo(float).tiny)  # softplus may be 0 in all columns
    weights = np.where(is_none & ~is_none.all(axis=1, keepdims=True), 0, weights)
    weights /= weights.max(axis=1, keepdims=True)
    return deviation[:, None] * (weights / weights.sum(axis=1, keepdims=True))


def largest_cells(
    attributions: np.ndarray, n_columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the columns of the largest attributions of each row: rows, columns, shares.

    Beside the first one, attributions are positive. A share is of the positive ones of the row.
    """
    columns = np.argsort(-attributions, axis=1, kind="stable")[:, :n_columns]
    is_listed = np.take_along_axis(attributions, columns, axis=1) > 0
    is_listed[:, 0] = True
    positive = np.maximum(attributions, 0.0)
    total = np.maximum(positive.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    shares = np.take_along_axis(positive / total, columns, axis=1)
    return np.nonzero(is_listed)[0], columns[is_listed], shares[is_listed]


def describe(name: Name, value: object, expected: object, p_value: float) -> str:
    """Describe an anomalous cell, and how rare its row is, to a reader of the table."""
    column = name if isinstance(name, str) else f"Column {name}"
    text, expected_text = format_value(value), format_value(expected)
    cell = f"{column} is {text}, where the rest of the row suggests {expected_text}."
    if text == expected_text:
        cell = f"{column} is {text}, as expected, but the row as a whole is unusual."
    if p_value > 0.1:
        return f"{cell} {p_value:.0%} of the rows are as unusual."
    return f"{cell} About 1 in {round(1 / p_value):,} rows is as unusual."
