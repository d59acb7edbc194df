"""Weighted mixture of fitted ``MixtureVAE`` models: all components of all members together.

N codes are stored as (d, N), features first, which is faster in both libraries. The weights are
those of :class:`sklearn_vae.models.mixture_vae.MixtureVAE`, where the model is documented.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from sklearn_vae.likelihoods.base import Generator, draw_normal, draw_uniform
from sklearn_vae.likelihoods.columnwise import MAX_REDRAWS, Limits
from sklearn_vae.models.architecture import MixtureArchitecture
from sklearn_vae.models.incomplete_normal import conditional_step, marginal_of_normal
from sklearn_vae.networks.perceptron import FittedPerceptron
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import HALF_LOG_2PI, Array, namespace
from sklearn_vae.numerics.rows import DRAWS_AT_A_TIME, NUMBERS_AT_A_TIME, batches, rows_in_cache
from sklearn_vae.posteriors import DiagonalGaussian

# A whitened scale lies between 0.05 and 20 times the component's own. The bound keeps the density
# of rounded numbers finite: nowhere is it e^3 times the mixture's per column.
COMPONENT_LOG_SCALE_BOUND = 3.0
# Log-weight of padded components.
LOG_ZERO_WEIGHT = -1e4


class MixtureEnsemble:
    """Variational autoencoders that are initialized as mixtures, as one mixture of all components.

    ``weights`` are parameters of ``MixtureVAE`` by name, ``weight`` (M,) those of members. Codes
    are in the order of their components' members. Samples alone need ``TableEncoder.limits``.
    """

    def __init__(
        self,
        architecture: MixtureArchitecture,
        weights: Mapping[str, Array],
        weight: Array,
        limits: Limits | None = None,
    ):
        self.architecture, self.others, self.weights = architecture, architecture.others, weights
        n_hidden, n_members = len(architecture.hidden_layer_sizes), len(weight)
        self.encoder = FittedPerceptron(weights, "encoder", n_hidden)
        of_members = [
            {name: value[member : member + 1] for name, value in weights.items()}
            for member in range(n_members)
        ]
        self.decoders = [FittedPerceptron(each, "decoder", n_hidden) for each in of_members]
        log_weight = ops.log_softmax(weights["mixture_logit"][:, 0])  # (M, C)
        xp = namespace(log_weight)
        chosen = xp.where(log_weight > 0.5 * LOG_ZERO_WEIGHT)  # the others are padding
        # member of each component, in ascending order, and log-weight: (C,), (C,)
        self.member, self.log_weight = chosen[0], (log_weight + xp.log(weight)[:, None])[chosen]
        self.first_component = xp.searchsorted(self.member, ops.arange(n_members + 1, weight))
        self.ends: list[int] = self.first_component.tolist()  # and their number
        self.of_code, self.of_component = self._first_layers(chosen)
        self.loc, self.whiten, self.log_det = (
            weights[name][chosen] for name in ("loc", "whiten", "log_det")
        )
        params = weights["params"][chosen]
        self.params, self.least_params = (
            part.swapaxes(0, 1) for part in (params, least_params(architecture, params))
        )
        least = least_log_scale(architecture, self.whiten, weights["min_log_scale"][chosen])
        self.least_log_scale = least.swapaxes(0, 1)  # (d, C)
        self.has_least_scales = bool((least > -COMPONENT_LOG_SCALE_BOUND).any())
        self.real_columns, self.other_columns = (
            ops.as_array(np.flatnonzero(mask), weight)
            for mask in (architecture.is_normal, ~architecture.is_normal)
        )
        if limits is not None:
            is_real = ops.as_array(architecture.is_real_value, weight)
            self.limits, self.others.limits = (
                Limits._make(limit[mask] for limit in limits) for mask in (is_real, ~is_real)
            )
        ends = np.cumsum([0, *architecture.output_sizes]).tolist()
        self.outputs, self.n_out = list(map(slice, ends, ends[1:])), ends[-1]
        n_real, n_shears = architecture.output_sizes[1:3]
        shears = weights["shears"].reshape(n_members, n_shears, n_real, n_real)
        # (M, e, S d): of column e, and of the columns d before it
        shape = n_members, n_real, n_shears * n_real
        self.shears = xp.moveaxis(xp.triu(shears, 1), 3, 1).reshape(shape)

    def _first_layers(self, components: tuple[Array, ...]) -> tuple[Array, Array]:
        """Weights of codes (M, n, l) and biases of components (n, C), whose inputs are one-hot.

        Rows are those of the skip connection and of the first hidden layer.
        """
        names = ["linear", "hidden.0"][: 1 + bool(self.architecture.hidden_layer_sizes)]
        weight, bias = (
            ops.concatenate(self.weights[f"decoder.{name}.{part}"] for name in names)
            for part in ("weight", "bias")
        )
        n_latent = self.architecture.n_components
        of_component = bias[components[0], 0] + weight[:, n_latent:][components]  # (C, n)
        return weight[:, :n_latent].swapaxes(1, 2), of_component.swapaxes(0, 1)

    # -- networks --------------------------------------------------------------------

    def codes_per_chunk(self, *, is_complete: bool) -> int:
        """Codes to decode at a time: each needs a matrix, unless rows are complete."""
        n_codes = min(rows_in_cache(max(self.n_out, 1)), DRAWS_AT_A_TIME)
        if is_complete or self.architecture.is_independent:
            return n_codes
        return min(max(NUMBERS_AT_A_TIME // max(self.loc.shape[1], 1) ** 2, 1), n_codes)

    @cached_property
    def depends_on_code(self) -> bool:
        """True if p(x|z, c) depends on z: it does not before the first gradient step."""
        matrices = [self.weights["decoder.linear.weight"][:, : self.architecture.n_components]]
        if self.architecture.hidden_layer_sizes:
            matrices.append(self.weights["decoder.last"])
        return any(bool((matrix != 0).any()) for matrix in matrices)

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Location and log-scale of members' q(z|x): (B, n_columns) -> (M, B, l), (M, B, l)."""
        inputs = self.architecture.encoder_input(x)
        inputs = namespace(x).broadcast_to(inputs, (len(self.decoders), *inputs.shape))
        return DiagonalGaussian().split(self.encoder(inputs))

    def _by_member(self, function: Callable[..., Array], component: Array, *arrays: Array) -> Array:
        """Apply a function of a member to the numbers of its codes: (..., N) -> (..., N)."""
        if len(self.decoders) == 1 or not len(component):
            return function(0, *arrays)
        ends = namespace(component).searchsorted(component, self.first_component).tolist()
        parts = [
            function(member, *(array[..., i:j] for array in arrays))
            for member, (i, j) in enumerate(pairwise(ends))
            if i < j
        ]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts)

    def decode(self, z: Array, component: Array) -> tuple[Array, ...]:
        """Shift, log-scale, weights of the shears and other parameters, of codes (N, l): (..., N).

        They are features of p(x|z, c); log-scales and parameters are within their bounds.
        """
        xp, z = namespace(z), z.swapaxes(0, 1)
        first = ops.take(self.of_component, component, 1)
        out = self._by_member(self._decoder, component, z, first)
        shift, raw, mix, params = (out[part] for part in self.outputs)
        log_scale = ops.bounded(raw, COMPONENT_LOG_SCALE_BOUND)
        if self.has_least_scales:
            log_scale = xp.maximum(log_scale, ops.take(self.least_log_scale, component, 1))
        if self.others.blocks:
            params = params + ops.take(self.params, component, 1)
            params = xp.maximum(params, ops.take(self.least_params, component, 1))
        return shift, log_scale, mix, params

    def _decoder(self, member: int, z: Array, first: Array) -> Array:
        """Outputs of a member's decoder, of codes (l, N) and first biases (n, N): (n_out, N)."""
        first = first + self.of_code[member] @ z
        if not self.architecture.hidden_layer_sizes:
            return first
        first = first[None]
        return self.decoders[member].add_hidden(first[:, : self.n_out], first[:, self.n_out :])[0]

    # -- density ---------------------------------------------------------------------

    def whitened(self, x: Array) -> Array:
        """Rows in each component's coordinates, zeros for NaN: (B, n_columns) -> (d, C, B)."""
        xp = namespace(x)
        real = xp.nan_to_num(ops.take(x, self.real_columns, 1)).swapaxes(0, 1)
        residual = real[:, None] - self.loc.swapaxes(0, 1)[..., None]
        if self.whiten.ndim == 2:
            return residual * self.whiten.swapaxes(0, 1)[..., None]
        return xp.moveaxis(self.whiten @ xp.moveaxis(residual, 1, 0), 0, 1)

    def standardize(
        self, white: Array, decoded: Sequence[Array], component: Array, observed: Array | None
    ) -> tuple[Array, Array, Array, Array]:
        """Rows (d, N) in the coordinates where p(x|z, c) is standard normal.

        Missing values, those that are not ``observed`` (N, d) if any, are integrated out. Return
        real columns standardized given those before them, and logarithms of their scales (d, N),
        parameters of the other columns (n_params, N), and the rest of the log-determinant (N,).
        """
        xp, (shift, log_scale, mix, params) = namespace(white), decoded
        residual = white - shift
        standard = residual * ops.exp(-log_scale)
        if self.architecture.n_shears:
            standard += self._by_member(self._shear, component, residual, mix)
        log_det = self.log_det[component]
        if observed is not None and not observed.all():
            incomplete = xp.where(~observed.all(-1))[0]
            chosen, mask = component[incomplete], observed[incomplete]
            whiten, scales = self.whiten[chosen], log_scale[:, incomplete]
            of_rows, marginal = standard[:, incomplete].swapaxes(0, 1), []
            if self.architecture.is_independent:
                of_values = scales.swapaxes(0, 1) - xp.log(whiten)
                marginal = [xp.where(mask, part, 0.0) for part in (of_rows, of_values)]
            else:
                root = _matrices(self._root(scales, mix[:, incomplete], chosen))
                marginal = [*marginal_of_normal(_matrices(whiten), of_rows, mask, root)]
            standard[:, incomplete], log_scale[:, incomplete] = (
                part.swapaxes(0, 1) for part in marginal
            )
            # ``log_normal`` subtracts a constant of all columns
            log_det[incomplete] = HALF_LOG_2PI * ops.as_type((~mask).sum(-1), log_det)
        return standard, log_scale, params, log_det

    def _shear(self, member: int, residual: Array, mix: Array) -> Array:
        """Sum of the shears of each column by those before it: (d, N), (S, N) -> (d, N)."""
        parts = (mix[:, None] * residual).reshape(-1, residual.shape[1])  # (S d, N)
        return self.shears[member] @ parts

    def _root(self, log_scale: Array, mix: Array, component: Array) -> Array:
        """Roots of the precisions: (d, N), (S, N) -> (N, d) or lower triangular (N, d, d)."""
        xp, n_real = namespace(log_scale), len(log_scale)
        diagonal = xp.exp(-log_scale.swapaxes(0, 1))
        if not self.architecture.n_shears:
            return diagonal
        shears = self.shears.reshape(len(self.decoders), n_real, -1, n_real)  # (M, e, S, d)
        of_shears = self._by_member(
            lambda member, mix: xp.einsum("esd,sn->edn", shears[member], mix), component, mix
        )
        return xp.moveaxis(of_shears, 2, 0) + ops.diagonal_matrix(diagonal)

    # -- samples and missing values --------------------------------------------------

    def conditional(
        self, x: Array, z: Array, component: Array, generator: Generator = None
    ) -> tuple[Array, Array]:
        """Real columns (N, d) given the observed ones, and parameters of the others (N, n_params).

        Rows x (N, n_columns) are encoded, and NaN where a value is missing; codes are (N, l), and
        components (N,). Missing values become draws of the generator, by default conditional means.
        """
        xp, real = namespace(x), ops.take(x, self.real_columns, 1)
        shift, log_scale, mix, params = self.decode(z, component)
        params, observed = params.swapaxes(0, 1), ~xp.isnan(real)
        if observed.all():
            return real, params
        white = shift.swapaxes(0, 1)
        whiten, root = self.whiten[component], self._root(log_scale, mix, component)
        if generator is not None:
            white = white + ops.solve_lower(root, draw_normal(white, generator))
        start = self.loc[component] + ops.solve_lower(whiten, white)  # a draw, or the mean
        if not self.architecture.is_independent and observed.any():
            # values that are missing move with those that are observed
            residual = xp.where(observed, real - start, 0.0)
            start += conditional_step(_matrices(whiten), residual, observed, _matrices(root))
        return xp.where(observed, real, start), params

    def sample_given(self, x: Array, z: Array, component: Array, generator: Generator) -> Array:
        """Draw rows given their observed real values, of codes and components: (N, n_columns)."""
        order = ops.argsort(component, 0)  # codes of a member lie together
        rows, step = ops.zeros(x.shape, x), self.codes_per_chunk(is_complete=False)
        for part in batches(len(x), step):
            at = order[part]
            real, params = self.conditional(x[at], z[at], component[at], generator)
            rows[at[:, None], self.real_columns] = real
            if self.others.blocks:
                blocks = self.others.split_params(params)
                rows[at[:, None], self.other_columns] = self.others.sample(blocks, generator)
        return rows

    def sample(self, n_rows: int, generator: Generator) -> Array:
        """Draw rows, again where beyond limits: (n_rows, n_columns)."""
        rows = self._draw_rows(n_rows, generator)
        for _ in range(MAX_REDRAWS):
            beyond = self.limits.exceeded(rows[:, self.real_columns]).any(-1)
            if not beyond.any():
                break
            rows[beyond] = self._draw_rows(int(beyond.sum()), generator)
        return rows

    def _draw_rows(self, n_rows: int, generator: Generator) -> Array:
        """Draw rows: (n_rows, n_columns)."""
        z = draw_normal(ops.zeros((n_rows, self.architecture.n_components), self.loc), generator)
        uniform = draw_uniform(ops.zeros((n_rows,), self.loc), generator)
        ends = ops.softmax(self.log_weight, 0).cumsum(0)[:-1]
        component = namespace(ends).searchsorted(ends, uniform, side="right")
        missing = ops.zeros((n_rows, self.architecture.n_columns), z) + math.nan
        return self.sample_given(missing, z, component, generator)


def least_log_scale(
    architecture: MixtureArchitecture, whiten: Array, min_log_scale: Array
) -> Array:
    """Least log-scales of components, of recording steps and few rows: (..., d).

    A component of few rows does not become narrower: it would suit these rows alone.
    """
    xp, is_full = namespace(whiten), architecture.covariance_type == "full"
    root = whiten.diagonal(0, -2, -1) if is_full else whiten
    least = ops.as_array(architecture.least_scales[architecture.is_real_value], root)
    with np.errstate(divide="ignore"):
        of_steps = xp.log(ops.as_type(least, root) * root)
    return xp.maximum(of_steps, min_log_scale[..., None])


def least_params(architecture: MixtureArchitecture, params: Array) -> Array:
    """Least parameters of the other columns in components: (..., n_params)."""
    xp, is_scale = namespace(params), ops.as_array(architecture.others.is_scale_param, params)
    least = ops.as_type(ops.as_array(architecture.least_params, params), params)
    return xp.where(is_scale, xp.maximum(params - COMPONENT_LOG_SCALE_BOUND, least), least)


def log_normal(standard: Array, log_scale: Array, log_det: Array, axis: int) -> Array:
    """Log-density of standardized real columns along an axis, in nats."""
    square = namespace(standard).square(standard)
    constant = standard.shape[axis] * HALF_LOG_2PI
    return log_det - (0.5 * square + log_scale).sum(axis) - constant


def _matrices(roots: Array) -> Array:
    """Matrices of diagonals: (N, d) or (N, d, d) -> (N, d, d)."""
    return roots if roots.ndim == 3 else ops.diagonal_matrix(roots)
