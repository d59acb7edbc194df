"""Likelihood of binary columns that exclude each other, as those of a class that was encoded."""

from dataclasses import dataclass

import numpy as np

from sklearn_vae.likelihoods.base import (
    LinearParameters,
    fisher_features_of_classes,
    linear_logits,
    logits_of,
    weighted_mean,
)
from sklearn_vae.likelihoods.columnwise import Limits, Parameters
from sklearn_vae.likelihoods.discrete import Bernoulli
from sklearn_vae.likelihoods.draws import Generator, draw_classes
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import Array, namespace
from sklearn_vae.persistence.validation import check_integer, serializable


@serializable
@dataclass(frozen=True)
class OneHot(Bernoulli):
    r"""Binary columns of which at most one is 1, :math:`p(x = e_k | z) = \mathrm{softmax}_k(\eta)`.

    ``fit`` finds them: the columns of a class that was one-hot encoded, or dummy encoded. Groups of
    columns are adjacent.

    Parameters
    ----------
    n_columns : int
        Number of columns of a group.
    has_none : bool
        Whether all columns of a group may be 0. The logit of that is 0.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import OneHot
    >>> OneHot(n_columns=3, has_none=True)
    OneHot(n_columns=3, has_none=True)
    """

    n_columns: int
    has_none: bool

    def __post_init__(self) -> None:
        check_integer(self, "n_columns", self.n_columns, 2)

    def _with_none(self, params: Array) -> Array:
        """Numbers of each group, and 0 for no column: (..., n) -> (..., groups, classes)."""
        return ops.pad(ops.unflatten(params, self.n_columns), 0, int(self.has_none))

    def _of_columns(self, of_classes: Array) -> Array:
        """Numbers of the columns, without those of none: (..., groups, classes) -> (..., n)."""
        return ops.flatten(of_classes[..., : self.n_columns])

    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-probability of the group, by its column of 1, or in equal parts: (..., n)."""
        log_p = ops.log_softmax(self._with_none(params[0]))
        groups = ops.unflatten(x, self.n_columns)
        log_prob = groups * log_p[..., : self.n_columns]
        if self.has_none:
            is_none = 1 - groups.sum(-1)
            log_prob = log_prob + (is_none * log_p[..., -1] / self.n_columns)[..., None]
        return ops.flatten(log_prob)

    def log_prob(self, params: Parameters, x: Array, observed: Array | None = None) -> Array:
        """Log-probability of the observed values: (..., n) -> (...)."""
        logit = self._with_none(params[0])
        if observed is None:
            return (x * params[0]).sum(-1) - ops.logsumexp(logit, -1).sum(-1)
        return ops.logsumexp(ops.log_softmax(logit) + self._log_possible(x, observed), -1).sum(-1)

    def log_prob_by_component(self, params: Parameters, x: Array, observed: Array | None) -> Array:
        """Log-probability of the rows in each component, of complete ones as a product."""
        if observed is not None:
            return super().log_prob_by_component(params, x, observed)
        log_total = ops.logsumexp(self._with_none(params[0]), -1).sum(-1)  # (M, C)
        return params[0] @ x.swapaxes(-1, -2) - log_total[..., None]

    def _log_possible(self, x: Array, observed: Array) -> Array:
        """0 for classes that observed values allow, otherwise -inf: (..., groups, classes)."""
        xp, groups = namespace(x), ops.unflatten(x, self.n_columns)
        is_one = groups > 0.5
        has_one = is_one.any(-1)[..., None]
        is_missing = ops.unflatten(observed, self.n_columns) < 0.5
        is_possible = is_one | (is_missing & ~has_one)
        if self.has_none:
            is_possible = ops.concatenate([is_possible, ~has_one])
        return xp.where(is_possible, 0.0, -xp.inf)

    def observed_gradient(
        self, params: Parameters, x: np.ndarray, observed: np.ndarray
    ) -> list[np.ndarray]:
        """Gradient of ``log_prob`` of the observed values in the logits: (..., n)."""
        log_p = ops.log_softmax(self._with_none(params[0])) + self._log_possible(x, observed)
        return [self._of_columns(ops.softmax(log_p, -1)) - self.mean(params)]

    def mean(self, params: Parameters) -> Array:
        """Probability of a one: (..., n)."""
        return self._of_columns(ops.softmax(self._with_none(params[0]), -1))

    def mode(self, params: Parameters) -> Array:
        """Most probable group: (..., n)."""
        logit = self._with_none(params[0])
        codes = ops.one_hot(logit.argmax(-1), logit.shape[-1], logit.dtype, flat=False)
        return self._of_columns(codes)

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> Array:
        """Sample rows from p(x|z): (..., n)."""
        p = ops.softmax(self._with_none(params[0]), -1)
        codes = ops.one_hot(draw_classes(p, generator), p.shape[-1], p.dtype, flat=False)
        return self._of_columns(codes)

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """Logits whose probabilities and their slopes at z = 0 are the linear model's."""
        slope, p = (ops.unflatten(part, self.n_columns) for part in (loadings, loc))
        slope, logit = linear_logits(slope, p, has_rest=self.has_none)
        return [(ops.flatten(slope), ops.flatten(logit))]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """One feature per column, and one for none, in equal parts."""
        log_p, slope = (self._with_none(part) for part in (params[0], slopes[0]))
        features = fisher_features_of_classes(ops.log_softmax(log_p), slope)
        of_columns = self._of_columns(features)[..., None]
        if not self.has_none:
            return of_columns
        of_none = features[..., -1:] / self.n_columns**0.5
        of_none = namespace(slope).broadcast_to(of_none, (*of_none.shape[:-1], self.n_columns))
        return ops.concatenate([of_columns, ops.flatten(of_none)[..., None]])

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """Logits of the frequencies of ones."""
        frequency = ops.unflatten(weighted_mean(x, weights), self.n_columns)
        return [ops.flatten(logits_of(frequency, has_rest=self.has_none))]
