"""Shallow mixtures over columns of all kinds with missing values, fitted by EM.

A component is a normal distribution of the real columns times independent distributions of the
other columns. Missing values are integrated out [1]_.

References
----------
.. [1] Z. Ghahramani and M. I. Jordan, "Supervised Learning from Incomplete Data via an EM
   Approach", NIPS 1993.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_vae.initialization.kmeans import k_means
from sklearn_vae.initialization.ppca import MIN_VARIANCE, CorrelationPCA, LinearGaussian
from sklearn_vae.likelihoods import Bernoulli, Categorical, ZeroInflated
from sklearn_vae.likelihoods.base import MAX_SLOPE, weighted_mean
from sklearn_vae.models.architecture import Dependence, MixtureArchitecture, MixtureInit
from sklearn_vae.models.incomplete_normal import missing_columns
from sklearn_vae.models.mixture_ensemble import COMPONENT_LOG_SCALE_BOUND
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import HALF_LOG_2PI
from sklearn_vae.numerics.random import sobol_normal
from sklearn_vae.numerics.rows import batches, rows_in_cache, rows_in_memory

# Rows of fewer values, or pairs of them, count as so many in their moments.
MIN_PAIRS = 10
# Rows with a pattern of missing values that fewer rows have are computed one by one, in batches.
COMMON_PATTERN = 16


class _PatternBlocks(NamedTuple):
    """Precisions of the at most M missing values of each of R patterns, given the observed ones.

    A precision costs one inverse per component, and few values of a row are missing.
    """

    columns: Tensor  # (R, M), of the missing values; observed ones where a pattern has fewer
    is_missing: Tensor  # (R, M)
    root: Tensor  # (C, R, M, M), Cholesky factors, of the identity where values are observed
    residual: Tensor  # (C, R, m, d), of the m rows of each pattern, 0 where values are missing
    gradient: Tensor  # (C, R, m, M), precisions times residuals, 0 where values are observed
    square: Tensor  # (C, R, m), squared Mahalanobis distances of the residuals


class EM:
    """Expectation-maximization of a mixture, in double precision.

    Rows x (n, n_columns) are encoded, and NaN where values are missing.
    """

    weight: Tensor  # of the components: (C,)
    loc: Tensor  # means of the real columns: (C, d)
    params: Tensor  # of the other columns: (C, n_params)

    def __init__(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        architecture: MixtureArchitecture,
        covariance_type: str,
    ):
        rows, is_real = torch.as_tensor(x[:].astype(np.float64)), architecture.is_normal
        real, self.others = rows[:, is_real], rows[:, ~is_real]
        self.architecture, self.likelihood = architecture, architecture.others
        self.is_full = covariance_type == "full"
        self.row_weight = torch.as_tensor(weight.astype(np.float64))
        self.observed = ~real.isnan()
        mean, variance = _moments(real.nan_to_num(), self.observed, self.row_weight[None])
        self.filled = torch.where(self.observed, real, mean)
        self._table_mean, self._table_variance = mean[0], variance[0]
        self.min_rows = 5 + 2 * self.is_full * real.shape[1]  # see _completion
        self.rows_by_pattern: list[Tensor] = []  # of common patterns of observed values
        self.rare_rows = torch.zeros(0, dtype=torch.long)
        if real.shape[1]:
            _, index, counts = self.observed.unique(dim=0, return_inverse=True, return_counts=True)
            is_common = counts >= COMMON_PATTERN
            order = index.argsort(stable=True).split(counts.tolist())
            self.rows_by_pattern = [rows for rows, c in zip(order, is_common, strict=True) if c]
            self.rare_rows = (~is_common[index]).nonzero()[:, 0]
        # other columns with zeros for missing values, and their mask: None if none is missing
        self.observed_others = self.likelihood.split_missing(self.others)
        # without a fit, missing values have the columns' own moments
        self.loc, self._precision = mean, torch.diag_embed(1 / (variance + MIN_VARIANCE))

    def initial(self, n_mixture: int, seed: int, n_class_columns: int = 0) -> MixtureInit:
        """Fit the mixture from the clusters of k-means, and return it as a model's start.

        Beside a single full covariance, classes and counts depend on the real columns. It is that
        of Ledoit and Wolf [1]_, which is not singular where rows are few. The last
        ``n_class_columns`` encode classes: rows of different classes are in different clusters, if
        there are as many clusters as classes.

        References
        ----------
        .. [1] O. Ledoit and M. Wolf, "A Well-Conditioned Estimator for Large-Dimensional
           Covariance Matrices", Journal of Multivariate Analysis 88, 2004.
        """
        self.fit(self.clusters(n_mixture, seed, n_class_columns))
        architecture, is_real = self.architecture, self.architecture.is_real_value
        steps = np.broadcast_to(architecture.steps or 0.0, is_real.shape)[is_real]
        floor = np.maximum(np.square(steps) / 12 - MIN_VARIANCE, 0)
        covariance = self.covariance(shrinks=n_mixture == 1).numpy()
        above = 1.001  # times the smallest scale, at which there is no gradient
        least = above * architecture.least_scales[is_real]
        least_params = architecture.least_params + math.log(above)
        is_small = (self.weight * self.row_weight.sum() < self.min_rows).numpy()
        whiten = _whitening(covariance, floor, least)
        depends = len(self.likelihood.blocks) > 0 and n_mixture == 1 and self.is_full
        latent = architecture.n_components
        return MixtureInit(
            weight=self.weight.numpy(),
            loc=self.loc.numpy(),
            whiten=whiten,
            params=np.maximum(self.params.numpy(), least_params),
            dependence=self.dependence(latent, whiten[0]) if depends else None,
            min_log_scale=np.where(is_small, -math.log(above), -COMPONENT_LOG_SCALE_BOUND),
        )

    def clusters(self, n_mixture: int, seed: int, n_class_columns: int = 0) -> Tensor:
        """Responsibilities (C, n) of k-means on rows whose missing values are the means."""
        x = torch.cat([self.filled, self.others], dim=1)
        if n_mixture == 1 or not x.shape[1]:
            return torch.full((n_mixture, len(x)), 1 / n_mixture, dtype=x.dtype)
        weight = torch.where(x.isnan(), 0.0, self.row_weight.unsqueeze(1))
        x = torch.where(x.isnan(), (weight * x).nansum(0) / weight.sum(0), x)
        x[:, x.shape[1] - n_class_columns :] *= 1e3  # standard deviations of a real column
        _, labels = k_means(x.numpy(), self.row_weight.numpy(), n_mixture, seed, n_init=1)
        return torch.as_tensor(np.eye(n_mixture)[labels].T.copy())

    def fit(self, responsibility: Tensor, tol: float = 1e-3, max_iter: int = 100) -> "EM":
        """Fit the mixture from responsibilities (C, n), until log-density rises by less (nats)."""
        before = -math.inf
        self._maximize(responsibility)
        if len(responsibility) == 1 and (not self.is_full or self.observed.all()):
            return self
        for _ in range(max_iter):
            log_joint = self.log_joint()
            log_density = log_joint.logsumexp(0)
            bound = float((log_density @ self.row_weight) / self.row_weight.sum())
            self._maximize((log_joint - log_density).exp())
            if abs(bound - before) < tol:
                break
            before = bound
        return self

    # -- maximization ----------------------------------------------------------------

    def _maximize(self, responsibility: Tensor) -> None:
        """Fit the components to rows with responsibilities (C, n)."""
        weights = responsibility * self.row_weight
        total = weights.sum(1) + 10 * torch.finfo(weights.dtype).eps
        self.weight = total / total.sum()
        if self.is_full:
            self._maximize_full(weights, total)
        else:
            loc, variance = _moments(self.filled * self.observed, self.observed, weights)
            counts = weights @ self.observed.to(weights)
            self.loc, share, shift = self._completion(loc, counts)
            variance = (1 - share) * variance + share * self._table_variance + shift.square()
            self._covariance = variance + MIN_VARIANCE
        # one pseudo-observation of the whole table: no class has probability 0
        pseudo = self.row_weight / self.row_weight.sum()
        self.params = weights.new_zeros(len(weights), 0)
        if self.likelihood.blocks:
            weights = weights + pseudo
            self.params = self.likelihood.maximum_likelihood(self.others, weights)

    def _maximize_full(self, weights: Tensor, total: Tensor) -> None:
        """Fit means and covariances, with conditional means and covariances of missing values."""
        n_mixture, n_real = len(weights), self.filled.shape[1]
        rows, extra = self.filled[None], weights.new_zeros(n_mixture, n_real**2)
        if not self.observed.all():
            rows = rows.repeat(n_mixture, 1, 1)
            for mask, index in self._groups(n_mixture):
                if mask.all():
                    continue
                block = self._pattern_blocks(mask, index)
                both = block.is_missing.unsqueeze(2) & block.is_missing.unsqueeze(1)
                cells = (n_real * block.columns.unsqueeze(2) + block.columns.unsqueeze(1)).flatten()
                conditional = torch.cholesky_inverse(block.root) * both
                conditional = conditional * weights[:, index].sum(-1)[..., None, None]
                extra.index_add_(1, cells, conditional.flatten(1))
                step = torch.cholesky_solve(block.gradient.mT, block.root).mT  # (C, R, m, M)
                columns = block.columns.unsqueeze(1).expand(step.shape)
                mean = (self.loc[:, None, None] + block.residual).scatter_add(-1, columns, -step)
                rows[:, index] = torch.where(mask.unsqueeze(1), self.filled[index], mean)
        loc = (weights.unsqueeze(1) @ rows).squeeze(1) / total.unsqueeze(1)
        covariances = []
        for component, weight in enumerate(weights):
            residual = rows[component % len(rows)] - loc[component]
            covariances.append((residual.T * weight) @ residual)
        extra = extra.view(n_mixture, n_real, n_real)
        covariance = (torch.stack(covariances) + extra) / total[:, None, None]
        self.loc, share, shift = self._completion(loc, total.unsqueeze(1))
        share = share.unsqueeze(1)
        self._covariance = (1 - share) * covariance + share * torch.diag(self._table_variance)
        self._covariance += shift.unsqueeze(2) * shift.unsqueeze(1)
        self._covariance.diagonal(dim1=-2, dim2=-1).add_(MIN_VARIANCE)
        self._root = torch.linalg.cholesky(self._covariance)
        self._precision = torch.cholesky_inverse(self._root)
        self.rows = rows

    def _completion(self, loc: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Complete components of few rows: their means, the added share of rows, and the shifts.

        Rows of the table's means and variances are added, of which the products of the shifts are
        what the distance of the means adds to the covariance. Without more rows, a component of one
        outlier would have a variance of 0.
        """
        missing = (self.min_rows - counts).clamp(min=0)
        share, distance = missing / (counts + missing), self._table_mean - loc
        return loc + share * distance, share, (share * (1 - share)).sqrt() * distance

    def covariance(self, *, shrinks: bool = False) -> Tensor:
        """Covariances (C, d, d), shrunk as by Ledoit and Wolf if asked to, or variances (C, d)."""
        n_columns, total = self.filled.shape[1], self.row_weight.sum()
        if not (shrinks and self.is_full and n_columns):
            return self._covariance
        eye = torch.eye(n_columns, dtype=self.filled.dtype)
        covariance, residual = self._covariance[0] - MIN_VARIANCE * eye, self.rows[0] - self.loc[0]
        mean = covariance.trace() / n_columns
        distance = (covariance - mean * eye).square().sum()
        spread = self.row_weight @ residual.square().sum(1).square() / total
        excess = (spread - covariance.square().sum()) / total
        shrinkage = (excess / distance).clamp(0, 1) if distance > 0 else 0.0
        shrunk = (1 - shrinkage) * covariance + shrinkage * mean * eye
        return (shrunk + MIN_VARIANCE * eye)[None]

    def dependence(self, n_latent: int, whiten: np.ndarray) -> Dependence | None:
        """Regress classes, counts and point masses on a single component's real columns.

        Along directions with correlations above .05; factors of the rest are added. Columns of
        mostly numbers, beside point masses, are left out. None if they are independent.
        """
        weight, observed = self.row_weight.numpy(), ~self.others.isnan().numpy()
        loc = weighted_mean(self.others, self.row_weight[None])[0].numpy()
        residual = np.nan_to_num(self.others.numpy() - loc)
        counts = np.maximum(weight @ observed, MIN_PAIRS)
        scale = np.sqrt(weight @ residual**2 / counts + MIN_VARIANCE)
        is_number = self.likelihood.has_density(np.nan_to_num(self.others.numpy())) & observed
        value = self._values()
        is_left_out = np.isin(value, value[weight @ is_number > 0.5 * weight @ observed])
        residual = residual / scale * ~is_left_out
        real_scale = self._covariance[0].diagonal().sqrt().numpy()
        real = (self.rows[0] - self.loc[0]).numpy() / real_scale
        # the numbers beside point masses have other slopes
        is_number = self.likelihood.has_density(np.zeros(len(loc)))
        slopes = ridge_regression(real, residual * ~is_number, weight, counts)
        residual -= real @ slopes * observed
        # in the component's coordinates, in which directions have the same variance
        slopes = np.linalg.inv(whiten).T @ (slopes / real_scale[:, None])
        axes, values, of_others = np.linalg.svd(slopes, full_matrices=False)
        n_axes = min(n_latent, int((values > 0.05).sum()))
        factors = self._factors(residual, observed, n_latent - n_axes)
        n_codes = n_axes + len(factors.loadings)
        if n_codes == 0:
            return None
        most = 0.8  # of a variance is due to the codes
        share = values[:n_axes, None].clip(max=most)  # the same of both sides
        of_real = np.sqrt(share) * axes[:, :n_axes].T
        of_others = values[:n_axes, None] * of_others[:n_axes] / np.sqrt(share)
        of_others = np.vstack([of_others, factors.loadings])
        left = scale * np.sqrt(1 - np.square(of_others).sum(0).clip(max=most))
        loadings, loc, left = map(torch.as_tensor, (of_others * scale, loc, left))
        initial, *_ = self.likelihood.initialize(loadings, loc, left)
        of_params = np.zeros((n_codes, self.likelihood.n_params))
        of_params[:, self.likelihood.is_decoded] = initial
        at_zero = self._match_moments(of_params, loadings, n_axes)
        of_rest = factors.posterior_weights
        coef = np.pad(of_rest / scale[:, None], [(len(whiten), 0), (n_axes, 0)])
        coef[: len(whiten)] = whiten.T @ np.hstack([of_real.T, -slopes @ of_rest])
        code = -torch.cat([self.loc[0], loc]).numpy() @ coef
        code_scale = np.append(np.sqrt(1 - np.square(of_real).sum(1)), factors.posterior_scale)
        of_real = np.pad(of_real, [(0, n_codes - n_axes), (0, 0)])
        return Dependence(of_real, of_params, at_zero, coef, code, code_scale)

    def _values(self) -> np.ndarray:
        """Index of the value that each number of a row encodes."""
        blocks = self.likelihood.blocks
        sizes = [getattr(part, "n_columns", part.width) for part, _ in blocks]
        n_values = [n * part.width // size for (part, n), size in zip(blocks, sizes, strict=True)]
        return np.repeat(np.arange(sum(n_values)), np.repeat(sizes, n_values))

    def _factors(self, rows: np.ndarray, observed: np.ndarray, n_most: int) -> LinearGaussian:
        """Probabilistic PCA of rows (n, k), without the axes that independent values may have.

        Axes are those of the first thousand numbers of classes and point masses. Their eigenvalues
        are up to the bound of Marchenko and Pastur (1967).
        """
        weight, inputs = self.row_weight.numpy(), self.likelihood.inputs[:1000]
        pairs = (observed[:, inputs].T * weight) @ observed
        of_inputs = (rows[:, inputs].T * weight) @ rows / np.maximum(pairs, MIN_PAIRS)
        value, covariance = self._values()[inputs], of_inputs[:, inputs]
        # numbers of a class, which depend on each other, are made independent
        within = np.where(value[:, None] == value, covariance, 0)
        within.flat[:: len(value) + 1] += MIN_VARIANCE
        root = np.linalg.inv(np.linalg.cholesky(within))
        covariance = root @ covariance @ root.T
        np.fill_diagonal(covariance, 1)  # the classes of a row have the sum 1
        pca = CorrelationPCA.of_covariance(np.zeros(len(value)), covariance, n_most)
        largest = (1 + math.sqrt(len(value) / max(pairs.mean(), 1))) ** 2
        model = pca.linear_gaussian(int((pca.variances > largest).sum()))
        coef = np.zeros((rows.shape[1], len(model.loadings)))
        coef[inputs] = root.T @ model.posterior_weights
        loadings = coef[inputs].T @ of_inputs
        loadings[:, self.likelihood.has_density(np.zeros(len(coef)))] = 0
        return replace(model, loadings=loadings, posterior_weights=coef)

    def _match_moments(self, slopes: np.ndarray, loadings: Tensor, n_fixed: int) -> np.ndarray:
        """Additions (n_params,) to logits by which classes keep frequencies over codes.

        Slopes (r, n_params) behind ``n_fixed`` become those with which they have the loadings.
        """
        codes = torch.as_tensor(sobol_normal(256, len(slopes), seed=0))
        added = np.zeros(self.likelihood.n_params)
        params = self.params[0], torch.as_tensor(slopes), torch.as_tensor(added)
        blocks = *map(self.likelihood.split_params, params), self.likelihood.split_blocks(loadings)
        for likelihood, *block, linear in zip(self.likelihood.likelihoods, *blocks, strict=True):
            if not isinstance(likelihood, Bernoulli | Categorical | ZeroInflated):
                continue
            params, (slope, *_), (offset, *_) = block
            linear = codes @ _of_classes(likelihood, linear)
            target = _of_classes(likelihood, likelihood.mean(params))
            for _ in range(30):
                of_codes = [a + c + codes @ b for a, b, c in zip(*block, strict=True)]
                p = _of_classes(likelihood, likelihood.mean(of_codes))
                offset += target.logit() - p.mean(0).logit()
                step = codes.T @ (linear - p) / (len(codes) * target * (1 - target)).clamp(min=1)
                slope[n_fixed:] = (slope + step)[n_fixed:].clamp(-MAX_SLOPE, MAX_SLOPE)
        return added

    # -- expectation -----------------------------------------------------------------

    def log_joint(self) -> Tensor:
        """Log-density of each row and component, in nats: (C, n)."""
        log_joint = self.weight.log().unsqueeze(1) + self._log_normal()
        if not self.likelihood.blocks:
            return log_joint
        params = self.likelihood.split_params(self.params[None])
        others, observed = self.observed_others
        n_rows = rows_in_cache(self.likelihood.n_values, len(self.weight))
        for rows in batches(len(others), n_rows):
            mask = None if observed is None else observed[None, rows]
            log_joint[:, rows] += self.likelihood.log_prob_by_component(
                params, others[None, rows], mask
            )[0]
        return log_joint

    def _log_normal(self) -> Tensor:
        """Log-density of the real columns: (C, n)."""
        constant = HALF_LOG_2PI * self.observed.to(self.filled).sum(1)
        if not self.is_full:
            mask, x = self.observed.to(self.filled), self.filled * self.observed
            precision = 1 / self._covariance
            square = (self.loc.square() * precision) @ mask.T
            square = square - 2 * (self.loc * precision) @ x.T + precision @ x.square().T
            return -0.5 * (square + self._covariance.log() @ mask.T) - constant
        log_normal = self.filled.new_zeros(len(self.weight), len(self.filled))
        half_log_det = self._root.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None, None]
        for mask, index in self._groups(len(self.weight)):
            block = self._pattern_blocks(mask, index)
            white = torch.linalg.solve_triangular(block.root, block.gradient.mT, upper=False)
            square = block.square - white.square().sum(-2)
            log_det = half_log_det + block.root.diagonal(dim1=-2, dim2=-1).log().sum(-1, True)
            log_normal[:, index] = -0.5 * square - log_det
        return log_normal - constant

    def _pattern_blocks(self, mask: Tensor, index: Tensor) -> _PatternBlocks:
        """Blocks of the precisions of patterns (R, d), and the residuals of their rows (R, m)."""
        columns, is_padding = missing_columns(mask)
        is_missing = ~is_padding
        both = is_missing.unsqueeze(2) & is_missing.unsqueeze(1)
        precision = self._precision[:, columns.unsqueeze(2), columns.unsqueeze(1)]
        eye = torch.eye(columns.shape[1], dtype=precision.dtype)
        residual = (self.filled[index] - self.loc[:, None, None]) * mask.unsqueeze(1)
        scaled = (residual.flatten(1, 2) @ self._precision).view(residual.shape)
        gradient = scaled.gather(-1, columns.unsqueeze(1).expand(*residual.shape[:3], -1))
        return _PatternBlocks(
            columns=columns,
            is_missing=is_missing,
            root=torch.linalg.cholesky(torch.where(both, precision, eye)),
            residual=residual,
            gradient=gradient * is_missing.unsqueeze(1),
            square=(residual * scaled).sum(-1),
        )

    def _groups(self, n_mixture: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield masks of observed values (R, d), and the m rows that have each: (R, m)."""
        for rows in self.rows_by_pattern:
            yield self.observed[rows[:1]], rows[None]
        n_rows = rows_in_memory(n_mixture * self.filled.shape[1] ** 2)
        for rows in self.rare_rows.split(n_rows) if len(self.rare_rows) else ():
            yield self.observed[rows], rows[:, None]


def _of_classes(likelihood: Any, x: Tensor) -> Tensor:
    """Numbers of encoded values that are those of classes or point masses: (..., n) -> (..., m)."""
    n_classes = getattr(likelihood, "n_spikes", likelihood.width)
    return ops.flatten(ops.unflatten(x, likelihood.width)[..., :n_classes])


def _moments(x: Tensor, observed: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Means and variances of observed values, zeros where missing: (n, d), (C, n) -> (C, d)."""
    total = weights @ observed.to(x) + 10 * torch.finfo(x.dtype).eps
    mean = weights @ x / total
    variance = weights @ x.square() / total - mean.square()
    return mean, variance.clamp(min=0)


def ridge_regression(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, total: np.ndarray | float
) -> np.ndarray:
    """Coefficients (d, k) of ridge regressions, each with the penalty of the largest evidence [1]_.

    Columns x (n, d) and y (n, k) have a mean of 0, x a variance of 1; y is 0 where it is missing,
    and observed in ``total`` rows (k,). Coefficients are 0 where the log-evidence of dependence is
    at most 1.

    References
    ----------
    .. [1] D. MacKay, "Bayesian Interpolation", Neural Computation 4, 1992.
    """
    variance, axes = np.linalg.eigh((x.T * weight) @ x / weight.sum())
    variance = variance.clip(min=MIN_VARIANCE)[:, None]
    along = axes.T @ ((x.T * weight) @ y / total)  # (d, k)
    ridges = 2.0 ** np.arange(-2, 15)  # pseudo-observations
    of_prior = 1 + total / ridges[:, None, None] * variance  # (R, d, k)
    square = (weight @ y**2 / total).clip(min=MIN_VARIANCE)
    left = square - ((1 - 1 / of_prior) * (along**2 / variance)).sum(1)  # (R, k)
    log_ratio = np.log(left.clip(min=MIN_VARIANCE) / square)
    evidence = -0.5 * (total * log_ratio + np.log(of_prior).sum(1))
    ridge = np.where(evidence.max(0) > 1, ridges[evidence.argmax(0)], np.inf)
    return axes @ (along / (variance + ridge / total))


def _whitening(covariance: np.ndarray, floor: np.ndarray, least_scale: np.ndarray) -> np.ndarray:
    """Root of each precision: lower triangular (C, d, d), or (C, d) for variances.

    Variances are raised by ``floor``, and scales of columns, given those before them, to the least.
    """
    if covariance.ndim == 2:
        whiten = 1 / np.sqrt(covariance + floor)
        return whiten / np.maximum(whiten * least_scale, 1)
    lower = np.linalg.cholesky(covariance + np.diag(floor))
    whiten = np.tril(np.linalg.inv(lower))
    diagonal = np.diagonal(whiten, axis1=1, axis2=2)  # (C, d)
    return whiten / np.maximum(diagonal * least_scale, 1)[..., None]
