"""Ensemble of VAEs of Gaussian mixtures in numpy.

It is the counterpart of :class:`sklearn_vae.models.mixture_vae.MixtureVAE`, of all members. Rows
lie first: N codes, or B rows, of d real columns.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sklearn_vae.columnwise import Columnwise, Limits
from sklearn_vae.model_constants import (
    COMPONENT_LOG_SCALE_BOUND,
    HALF_LOG_2PI,
    INPUT_CLIP,
    LOG_SCALE_BOUND,
    LOG_ZERO_WEIGHT,
    MAX_REDRAWS,
    POSTERIOR_LOG_SCALE_BOUND,
)
from sklearn_vae.runtime.functions import (
    bounded,
    cholesky,
    log_softmax,
    nan_to_num,
    perceptron,
    perceptron_after_first,
    sum_last,
)
from sklearn_vae.runtime.likelihoods import Gaussian
from sklearn_vae.runtime.vae import Architecture

# Codes that are decoded at a time: they fit the cache.
CODES_PER_CHUNK = 1 << 10
# Numbers in their matrices, if each needs one.
MATRICES_PER_CHUNK = 1 << 20


@dataclass(frozen=True)
class MixtureArchitecture(Architecture):
    """Shapes, with the fields of :class:`sklearn_vae.models.mixture_vae.MixtureArchitecture`."""

    n_mixture: int = 1
    covariance_type: str = "full"
    n_shears: int = 0
    steps: tuple[float, ...] = ()
    has_missing: bool = False


class Standardised(NamedTuple):
    """Rows as seen by p(x|z, c), for draws of z and c.

    Attributes
    ----------
    standard, log_scale : ndarray of shape (N, d)
        Real columns standardised given those before them, and logarithms of their scales.
    params : ndarray of shape (N, n_params)
        Parameters of the other columns.
    log_det : ndarray of shape (N,)
        The rest of the log-determinant.
    """

    standard: np.ndarray
    log_scale: np.ndarray
    params: np.ndarray
    log_det: np.ndarray


class MixtureEnsemble:
    """Variational autoencoders that are initialized as mixtures, as one mixture of all components.

    Codes are in the order of their components' members.

    Parameters
    ----------
    architecture : MixtureArchitecture
        Shapes, of all members.
    members : sequence of dict of ndarray
        Parameters of each member by name, with an axis of length 1 in front.
    weight : ndarray of shape (n_members,)
        Weights of the members.
    limits : tuple of ndarray
        Limits of samples, see ``TableEncoder.limits``.

    Attributes
    ----------
    member : ndarray of shape (C,)
        Member of each component, in ascending order.
    log_weight : ndarray of shape (C,)
        Log-weight of each component.
    """

    def __init__(
        self,
        architecture: MixtureArchitecture,
        members: Sequence[dict[str, np.ndarray]],
        weight: np.ndarray,
        limits: Limits,
    ):
        self.architecture, self.members = architecture, members
        log_weight = log_softmax(self._stacked("mixture_logit")[:, 0])
        chosen = (log_weight > 0.5 * LOG_ZERO_WEIGHT).nonzero()  # the others are padding
        self.member, self.log_weight = chosen[0], (log_weight + np.log(weight)[:, None])[chosen]
        self.first_component = np.searchsorted(self.member, np.arange(len(members) + 1))
        self.of_code, self.of_component = self._first_layers(chosen)
        self.loc, self.whiten, self.log_det, self.params = (
            self._stacked(name)[chosen] for name in ("loc", "whiten", "log_det", "params")
        )
        blocks = [(isinstance(block[0], Gaussian), *block) for block in architecture.blocks]
        self.others = Columnwise([block for is_real, *block in blocks if not is_real])  # type: ignore[misc]
        is_real_value = np.repeat([block[0] for block in blocks], [block[2] for block in blocks])
        widths = [likelihood.width * n for _, likelihood, n in blocks]
        self.is_real = np.repeat([block[0] for block in blocks], widths)
        self.limits, self.others.limits = (
            Limits._make(limit[mask] for limit in limits)
            for mask in (is_real_value, ~is_real_value)
        )
        n_real, n_shears = self.loc.shape[1], architecture.n_shears
        ends = np.cumsum([0, n_real, n_real, n_shears, self.others.n_params]).tolist()
        self.outputs = list(map(slice, ends, ends[1:]))
        shears = self._stacked("shears").reshape(len(members), n_shears, n_real, n_real)
        self.shears = np.triu(shears, 1).swapaxes(1, 2).copy()  # (M, d, S, d)
        least = np.array(architecture.steps or np.zeros(len(is_real_value)))
        least = least / math.sqrt(2 * math.pi)
        is_full = self.whiten.ndim == 3
        diagonal = self.whiten.diagonal(axis1=1, axis2=2) if is_full else self.whiten
        with np.errstate(divide="ignore"):
            least_log_scale = np.log(least[is_real_value] * diagonal)  # (C, d)
            min_log_scale = self._stacked("min_log_scale")[chosen][:, None]
            self.least_log_scale = np.maximum(least_log_scale, min_log_scale)
            self.has_least_scales = (self.least_log_scale > -COMPONENT_LOG_SCALE_BOUND).any()
            self._set_least_params(np.log(least[~is_real_value]))

    def _stacked(self, name: str) -> np.ndarray:
        """Parameters of all members: (M, ...)."""
        return np.concatenate([weights[name] for weights in self.members])

    def _first_layers(self, components: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Weights of codes (M, l, n) and biases of components (C, n), whose inputs are one-hot.

        Columns are those of the skip connection and of the first hidden layer.
        """
        names = ["linear", "hidden.0"][: 1 + bool(self.architecture.hidden_layer_sizes)]
        weight, bias = (
            np.concatenate([self._stacked(f"decoder.{name}.{part}") for name in names], axis=-1)
            for part in ("weight", "bias")
        )
        n_latent = self.architecture.n_components
        of_component = bias[components[0], 0] + weight[:, n_latent:][components]
        return weight[:, :n_latent], of_component

    def _set_least_params(self, least_log_scale: np.ndarray) -> None:
        """Set the mask of scales among the other columns' parameters, and their bounds."""
        bound = LOG_SCALE_BOUND
        raw = bound * np.arctanh(np.clip(least_log_scale / bound, -0.999, 0.999))
        raw = np.where(np.isfinite(least_log_scale), raw, -np.inf)
        has_scale = [
            part.scale_param is not None for part, n in self.others.blocks for _ in range(n)
        ]
        self.is_scale_param = self.others.is_scale_param
        self.least_params = np.full(self.others.n_params, -np.inf)
        self.least_params[self.is_scale_param] = raw[np.array(has_scale, dtype=bool)]

    @property
    def is_diagonal(self) -> bool:
        """True if real columns are independent given component and code: no matrix is needed."""
        return self.whiten.ndim == 2 and not self.shears.size

    def codes_per_chunk(self, *, is_complete: bool) -> int:
        """Codes to decode at a time: each needs a matrix, unless rows are complete."""
        if is_complete or self.is_diagonal:
            return CODES_PER_CHUNK
        return min(max(MATRICES_PER_CHUNK // max(self.loc.shape[1], 1) ** 2, 1), CODES_PER_CHUNK)

    @cached_property
    def depends_on_code(self) -> bool:
        """True if p(x|z, c) depends on z: it does not before the first gradient step."""
        matrices = [self._stacked("decoder.linear.weight")[:, : self.architecture.n_components]]
        if self.architecture.hidden_layer_sizes:
            matrices.append(self._stacked("decoder.last"))
        return any(matrix.any() for matrix in matrices)

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Location and log-scale of members' q(z|x): (B, n_columns) -> (M, B, l), (M, B, l)."""
        inputs = nan_to_num(x.clip(-INPUT_CLIP, INPUT_CLIP))
        if self.architecture.has_missing:
            inputs = np.hstack([inputs, np.isnan(x)])
        out = [self._network("encoder", member, inputs) for member in range(len(self.members))]
        loc, raw = np.split(np.stack(out), 2, axis=-1)
        return loc, bounded(raw, POSTERIOR_LOG_SCALE_BOUND)

    def _network(self, name: str, member: int, x: np.ndarray) -> np.ndarray:
        """Outputs of a member's network: (N, n_in) -> (N, n_out)."""
        architecture, weights = self.architecture, self.members[member]
        n_hidden = len(architecture.hidden_layer_sizes)
        return perceptron(weights, name, n_hidden, architecture.activation, x[None])[0]

    def _by_member(
        self, function: Callable[..., np.ndarray], component: np.ndarray, *arrays: np.ndarray
    ) -> np.ndarray:
        """Apply a function of a member to the rows of its codes: (N, ...) -> (N, ...)."""
        if len(self.members) == 1:
            return function(0, *arrays)
        ends = component.searchsorted(self.first_component).tolist()
        parts = [
            function(member, *(array[i:j] for array in arrays))
            for member, (i, j) in enumerate(pairwise(ends))
            if i < j
        ]
        return np.concatenate(parts)

    def whitened(self, x: np.ndarray) -> np.ndarray:
        """Rows in each component's coordinates, zeros for NaN: (B, n_columns) -> (C, B, d)."""
        residual = nan_to_num(x[:, self.is_real]) - self.loc[:, None]
        if self.whiten.ndim == 2:
            return residual * self.whiten[:, None]
        return residual @ self.whiten.swapaxes(1, 2)

    def decode(self, z: np.ndarray, component: np.ndarray) -> tuple[np.ndarray, ...]:
        """Shift, log-scale, weights of the shears and other parameters: (N, ...) each."""
        out = self._by_member(self._decoder, component, z, component)
        shift, raw, mix, params = (out[:, part] for part in self.outputs)
        log_scale = bounded(raw, COMPONENT_LOG_SCALE_BOUND)
        if self.has_least_scales:
            log_scale = np.maximum(log_scale, self.least_log_scale[component])
        if self.others.blocks:
            added = np.where(
                self.is_scale_param, np.maximum(params, -COMPONENT_LOG_SCALE_BOUND), params
            )
            params = np.maximum(self.params[component] + added, self.least_params)
        return shift, log_scale, mix, params

    def _decoder(self, member: int, z: np.ndarray, component: np.ndarray) -> np.ndarray:
        """Outputs of a member's decoder: (N, l), (N,) -> (N, n_out)."""
        first = self.of_component[component]
        first += z @ self.of_code[member]
        if not (n_hidden := len(self.architecture.hidden_layer_sizes)):
            return first
        n_out = self.outputs[-1].stop
        args = self.members[member], "decoder", n_hidden, self.architecture.activation
        return first[:, :n_out] + perceptron_after_first(*args, first[None, :, n_out:])[0]

    def standardise(
        self,
        white: np.ndarray,
        decoded: Sequence[np.ndarray],
        component: np.ndarray,
        observed: np.ndarray | None,
    ) -> Standardised:
        """Rows (N, d) in the coordinates where p(x|z, c) is standard normal.

        Of missing values, those that are not ``observed`` (N, d), the density is integrated out.
        Without a mask, none is missing.
        """
        shift, log_scale, mix, params = decoded
        residual = white - shift
        standard = residual * np.exp(-log_scale)
        if self.shears.size:
            sheared = self._by_member(self._shear, component, residual)
            standard += np.einsum("ns,nsd->nd", mix, sheared)
        log_det = self.log_det[component]
        if observed is not None and not observed.all():
            incomplete = np.flatnonzero(~observed.all(-1))
            chosen, mask = component[incomplete], observed[incomplete]
            whiten, scales = self.whiten[chosen], log_scale[incomplete]
            if self.is_diagonal:
                residual = standard[incomplete]
                marginal = np.where(mask, residual, 0), np.where(mask, scales - np.log(whiten), 0)
            else:
                root = self._root(scales, mix[incomplete], chosen) @ self._square(whiten)
                marginal = marginal_of_normal(root, standard[incomplete], mask)
            standard[incomplete], log_scale[incomplete] = marginal
            # ``log_prob_of`` subtracts a constant of all columns
            log_det[incomplete] = HALF_LOG_2PI * (~mask).sum(-1)
        return Standardised(standard, log_scale, params, log_det)

    def _shear(self, member: int, residual: np.ndarray) -> np.ndarray:
        """Residuals times each shear of a member: (N, d) -> (N, S, d)."""
        n_real, n_shears = self.shears.shape[1:3]
        sheared = residual @ self.shears[member].reshape(n_real, -1)
        return sheared.reshape(-1, n_shears, n_real)

    def _root(self, log_scale: np.ndarray, mix: np.ndarray, component: np.ndarray) -> np.ndarray:
        """Lower triangular roots of the precisions: (N, d), (N, S), (N,) -> (N, d, d)."""
        root = self._square(np.exp(-log_scale))
        return root + self._by_member(
            lambda member, mix: np.einsum("ns,dse->ned", mix, self.shears[member]), component, mix
        )

    @staticmethod
    def _square(roots: np.ndarray) -> np.ndarray:
        """Matrices of diagonals: (N, d) or (N, d, d) -> (N, d, d)."""
        return roots if roots.ndim == 3 else roots[..., None] * np.eye(roots.shape[1])

    def log_prob_of(
        self, parts: Standardised, others: np.ndarray, observed: np.ndarray | None
    ) -> np.ndarray:
        """Log p(x|z, c) in nats, of ``standardise``'s parts and the other columns: (N,)."""
        standard, log_scale, params, log_det = parts
        log_prob = log_det - sum_last(0.5 * np.square(standard) + log_scale)
        log_prob -= standard.shape[1] * HALF_LOG_2PI
        if not self.others.blocks:
            return log_prob
        return log_prob + self.others.log_prob(self.others.split_params(params), others, observed)

    def conditional(
        self,
        x: np.ndarray,
        z: np.ndarray,
        component: np.ndarray,
        generator: Generator | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means of real columns given the observed ones, and parameters of the other columns.

        Or draws with a generator. Rows (N, n_columns), codes and components (N, ...) -> (N, d),
        (N, n_params).
        """
        white, log_scale, mix, params = self.decode(z, component)
        whiten, real = self.whiten[component], x[:, self.is_real]
        root = np.exp(-log_scale) if self.is_diagonal else self._root(log_scale, mix, component)
        if generator is not None:
            white = white + _solve(root, generator.standard_normal(white.shape))
        start, observed = self.loc[component] + _solve(whiten, white), ~np.isnan(real)
        if self.is_diagonal or not observed.any():
            return np.where(observed, real, start), params
        # the values that are missing move with those that are observed
        root = root @ self._square(whiten)
        of_missing, precision = missing_block(root, observed)
        residual = root @ np.where(observed, real - start, 0)[..., None]
        step = _solve(precision, (of_missing.swapaxes(1, 2) @ residual)[..., 0])
        return np.where(observed, real, start - step), params

    def sample_given(
        self, x: np.ndarray, z: np.ndarray, component: np.ndarray, generator: Generator
    ) -> np.ndarray:
        """Draw rows given their observed real values, of codes and components: (N, n_columns)."""
        rows, step = np.empty_like(x), self.codes_per_chunk(is_complete=False)
        for first in range(0, len(x), step):
            part = slice(first, first + step)
            real, params = self.conditional(x[part], z[part], component[part], generator)
            rows[part, self.is_real] = real
            if self.others.blocks:
                blocks = self.others.split_params(params)
                rows[part, ~self.is_real] = self.others.sample(blocks, generator)
        return rows

    def sample(self, n_rows: int, generator: Generator) -> np.ndarray:
        """Draw rows, again where beyond limits: (n_rows, n_columns)."""
        rows = self._draw_rows(n_rows, generator)
        for _ in range(MAX_REDRAWS):
            beyond = self.limits.exceeded(rows[:, self.is_real]).any(-1)
            if not beyond.any():
                break
            rows[beyond] = self._draw_rows(int(beyond.sum()), generator)
        return rows

    def _draw_rows(self, n_rows: int, generator: Generator) -> np.ndarray:
        """Draw rows: (n_rows, n_columns)."""
        z = generator.standard_normal((n_rows, self.architecture.n_components))
        weight = np.exp(self.log_weight)
        component = np.sort(generator.choice(len(weight), n_rows, p=weight / weight.sum()))
        missing = np.full((n_rows, self.architecture.n_columns), np.nan)
        return generator.permutation(self.sample_given(missing, z, component, generator))


def _solve(root: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Solve systems of matrices (N, d, d), or of diagonals (N, d): (N, d) -> (N, d)."""
    return x / root if root.ndim == 2 else np.linalg.solve(root, x[..., None])[..., 0]


def missing_block(root: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision of the missing values of normal rows given the observed ones.

    Of the root of the precision (N, d, d) and the mask of observed values (N, d), return the root's
    columns, 0 where values are observed, and the precision (N, d, d), of the identity there.
    """
    of_missing = root * ~observed[:, None]
    return of_missing, of_missing.swapaxes(1, 2) @ of_missing + observed[..., None] * np.eye(
        root.shape[1]
    )


def marginal_of_normal(
    root: np.ndarray, standard: np.ndarray, observed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Standardise the observed values of normal rows, the other values integrated out.

    Parameters
    ----------
    root : ndarray of shape (N, d, d)
        Lower triangular root of the precision.
    standard : ndarray of shape (N, d)
        Complete rows standardised by it, with any values where some are missing.
    observed : ndarray of shape (N, d), bool
        Mask of observed values.

    Returns
    -------
    standard, log_scale : ndarray of shape (N, d)
        Residuals of the rows from the missing values that fit them best, and logarithms of
        scales, as those of ``sklearn_vae.models.mixture_vae.marginal_of_normal``.
    """
    of_missing, precision = missing_block(root, observed)
    lower = cholesky(precision)
    fitted = np.linalg.solve(precision, of_missing.swapaxes(1, 2) @ standard[..., None])
    log_scale = np.log(lower.diagonal(axis1=1, axis2=2)) - np.log(root.diagonal(axis1=1, axis2=2))
    return standard - (of_missing @ fitted)[..., 0], log_scale
