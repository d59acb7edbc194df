"""Evidence p(x) and posterior p(z|x) of codes of every kind.

Real numbers are sampled as in ``log_density.py``. One-hot codes are summed over. Of real numbers
behind a class, those of each class are sampled, and the classes are summed over: by PyTorch alone.
"""

import math
from types import SimpleNamespace

from sklearn_vae.inference import log_density
from sklearn_vae.inference.importance_sampling import WeightedCodes
from sklearn_vae.inference.laplace import JointDensity
from sklearn_vae.inference.log_density import Points
from sklearn_vae.models.base import BaseVAE
from sklearn_vae.numerics.array_api import Array, concatenate
from sklearn_vae.priors import StandardNormal


class ClassConditional:
    """p(x|z, class) of real numbers z, of a model whose codes are classes and real numbers.

    Its rows are all pairs of a row and a class, whose one-hot code lies behind the row.
    """

    def __init__(self, model: BaseVAE):
        self.model, self.likelihood, self.n_members = model, model.likelihood, model.n_members
        self.classes = model.posterior.enumerate_codes(model.free).flatten(0, 2)  # (C, C)
        self.n_latent = model.architecture.n_components - len(self.classes)
        variable_length = model.architecture.variable_length
        self.architecture = SimpleNamespace(decodes_per_row=False, variable_length=variable_length)

    def pairs(self, x: Array) -> Array:
        """Pair rows with classes: (M, B, n) -> (M, B C, n + C)."""
        n_members, n_rows, _ = x.shape
        classes = self.classes.repeat(n_members, n_rows, 1)
        return concatenate([x.repeat_interleave(len(self.classes), 1), classes])

    def prior_distribution(self) -> StandardNormal:
        """p(z)."""
        return StandardNormal()

    def _split(self, x: Array) -> tuple[Array, Array]:
        """Rows, and their classes: (M, B C, n + C) -> (M, B C, n), (M, B C, C)."""
        n_columns = x.shape[-1] - len(self.classes)
        return x[..., :n_columns], x[..., n_columns:]

    def mean_code(self, x: Array) -> Array:
        """Mean of q(z|x): (M, B C, n + C) -> (M, B C, l)."""
        rows, _ = self._split(x)
        return self.model.mean_code(rows)[..., len(self.classes) :]

    def codes(self, z: Array, x: Array) -> Array:
        """Put the classes of pairs in front of codes: (M, K, B C or 1, l) -> (M, K, B C, C + l)."""
        _, classes = self._split(x)
        classes = classes.unsqueeze(1).expand(-1, z.shape[1], -1, -1)
        return concatenate([classes, z.expand(*classes.shape[:3], -1)])

    def decode(self, z: Array, x: Array) -> list[list[Array]]:
        """Parameters of p(x|z, class): (M, K, B C, l), (M, B C, n + C) -> (M, K, B C, size)."""
        return self.model.decode(self.codes(z, x), self._split(x)[0])


def log_evidence(
    model: BaseVAE, x: Array, points: Points, rows_per_chunk: int, *, refines: bool = True
) -> Array:
    """Log p(x) in nats, of rows whose missing values are NaN: (M, B).

    The parameters are those of ``log_density.log_evidence``.
    """
    if model.architecture.n_codes is not None:
        codes = (all_codes(model, rows) for rows in x.split(rows_per_chunk, 1))
        return concatenate((each.log_weight.logsumexp(1) for each in codes), 1)
    if model.architecture.has_density:
        return log_density.log_evidence(model, x, points, rows_per_chunk, refines=refines)
    by_class = ClassConditional(model)
    log_p = log_density.log_evidence(
        by_class, by_class.pairs(x), points.last(by_class.n_latent), rows_per_chunk, refines=refines
    )
    n_classes = len(by_class.classes)
    return log_p.unflatten(-1, (-1, n_classes)).logsumexp(-1) - math.log(n_classes)


def sample_posterior(
    model: BaseVAE, x: Array, points: Points, *, refines_incomplete: bool = True
) -> WeightedCodes:
    """Weighted codes of rows (M, B, n_columns + n_conditions), whose missing values are NaN.

    The parameters are those of ``log_density.sample_posterior``.
    """
    if model.architecture.n_codes is not None:
        return all_codes(model, x)
    if model.architecture.has_density:
        return log_density.sample_posterior(model, x, points, refines_incomplete=refines_incomplete)
    by_class = ClassConditional(model)
    pairs, of_numbers = by_class.pairs(x), points.last(by_class.n_latent)
    z, log_weight = log_density.sample_posterior(
        by_class, pairs, of_numbers, refines_incomplete=refines_incomplete
    )
    # draws of all classes of a row lie together: (M, K, B C, ...) -> (M, C K, B, ...)
    z, log_weight = (
        part.unflatten(2, (-1, len(by_class.classes))).movedim(3, 1).flatten(1, 2)
        for part in (by_class.codes(z, pairs), log_weight - math.log(len(by_class.classes)))
    )
    return WeightedCodes(z, log_weight)


def all_codes(model: BaseVAE, x: Array) -> WeightedCodes:
    """All codes of a categorical posterior, whose weights sum to p(x)."""
    z = model.posterior.enumerate_codes(x).expand(len(x), -1, -1, -1)  # (M, n_codes, 1, l)
    log_joint = JointDensity.from_rows(model, x).log_prob(z)
    return WeightedCodes(z.expand(-1, -1, x.shape[1], -1), log_joint)


def class_probabilities(model: BaseVAE, x: Array) -> Array:
    """Code of rows, where NaN is a missing value: (M, B, n) -> (M, B, l).

    It is the posterior mean of the classes; with numbers beside them, the encoder's mean.
    """
    if model.architecture.n_codes is None:
        return model.mean_code(x)
    codes = all_codes(model, x)
    return (codes.log_weight.softmax(1).unsqueeze(-1) * codes.z).sum(1)


def conditional_mean(model: BaseVAE, x: Array, points: Points) -> Array:
    """Mean of every column given the observed values: (M, B, n) -> (B, n_columns)."""
    # a mean needs no more codes where the encoder has learned from rows with missing values
    codes = sample_posterior(model, x, points, refines_incomplete=model.filler is None)
    return model.likelihood.average_over_draws(model.decode(codes.z, x), codes.weight)
