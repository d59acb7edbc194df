"""Correction of the decoder's mean: ridge regression of residuals of reconstructions on codes."""

from typing import TYPE_CHECKING

import numpy as np

from sklearn_vae.likelihoods import Counts
from sklearn_vae.numerics.rows import batches

if TYPE_CHECKING:
    from sklearn_vae.models.vae import VAE

# Ridge penalties among which generalized cross-validation chooses, for codes of variance 1.
PENALTIES = np.logspace(-6, 3, 28)
# Lower bound of standard deviations and ranges of the codes.
MIN_SPREAD = 1e-6


def fit_decoder_correction(
    model: "VAE", x: np.ndarray, weight: np.ndarray, rows_per_chunk: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Fit the correction of a model's normal columns and counts to encoded rows, with weights (n,).

    Return offset and slopes (1 + l, n_columns), and the range of the codes (2, l); None without
    such columns, and for an autoregressive decoder, whose mean has no linear correction. The model
    has one member. Missing cells and point masses have residuals of 0; those of counts
    are linearized, as a mean of roots is less than the root of a mean.
    """
    import torch

    architecture, is_count = model.architecture, model.architecture.columns_of(Counts)
    if model.decoder.time_steps is not None or not (architecture.is_number | is_count).any():
        return None, None
    n_columns = architecture.n_columns
    codes, residual = np.empty((len(x), architecture.n_components)), np.empty((len(x), n_columns))
    with torch.no_grad():
        for rows in batches(len(x), rows_per_chunk):
            encoded = torch.as_tensor(x[rows]).to(model.free.device)[None]
            z = model.posterior.mean(model.encode(encoded))
            codes[rows] = z[0].cpu().numpy()
            mean, values = model.reconstruct(z, encoded)[0].cpu().numpy(), x[rows, :n_columns]
            # linearized at no smaller root than .5, in the column's unit
            of_counts = (np.square(values) - np.square(mean)) / (2 * np.maximum(mean, 0.5))
            has_residual = model.likelihood.has_density(x[rows]) | is_count
            residual[rows] = np.where(is_count, of_counts, values - mean) * has_residual
    np.nan_to_num(residual, copy=False)
    code_range = np.stack([codes.min(axis=0), codes.max(axis=0)])
    return fit_ridge(codes, residual, weight), code_range


def fit_ridge(codes: np.ndarray, residual: np.ndarray, weight: np.ndarray) -> np.ndarray:
    r"""Ridge regression of residuals (n, d) on codes (n, l), with weights (n,): (1 + l, d).

    The mean of q(z|x), a code :math:`\bar z`, is shrunk towards 0 by the prior. The mean of p(x|z)
    at :math:`z = \bar z` is therefore shrunk, too, and differs from :math:`E[x | \bar z]`: in
    probabilistic PCA by the factor :math:`1 - \sigma^2 / \lambda` along an axis of variance
    :math:`\lambda`, which a linear map of the codes corrects exactly [1]_.

    Return offset and slopes, with the penalty of the lowest error of generalized cross-validation
    [2]_; zeros if the rows are too few.

    References
    ----------
    .. [1] M. E. Tipping and C. M. Bishop, "Probabilistic Principal Component
       Analysis", Journal of the Royal Statistical Society B 61, 1999, section 3.3.
    .. [2] G. H. Golub, M. Heath and G. Wahba, "Generalized Cross-Validation as a
       Method for Choosing a Good Ridge Parameter", Technometrics 21, 1979.
    """
    total, weight = weight.sum(), weight / weight.sum()
    mean_code, mean_residual = weight @ codes, weight @ residual
    spread = np.maximum(np.sqrt(weight @ np.square(codes - mean_code)), MIN_SPREAD)
    scaled = (codes - mean_code) / spread
    variances, axes = np.linalg.eigh((scaled.T * weight) @ scaled)
    variances = np.maximum(variances, 0)
    rotated = axes.T @ ((scaled.T * weight) @ residual)  # (l, d)

    gain = 1 / (variances + PENALTIES[:, None])  # (n_penalties, l)
    freedom = 1 + (variances * gain).sum(axis=1)
    explained = (gain * (2 - variances * gain)) @ np.square(rotated).sum(axis=1)
    variance = weight @ np.einsum("nd,nd->n", residual, residual) - mean_residual @ mean_residual
    unexplained = variance - explained
    is_determined = 2 * freedom < total
    if not is_determined.any():
        return np.zeros((1 + codes.shape[1], residual.shape[1]))
    left = np.where(is_determined, 1 - freedom / total, 1.0)
    error = np.where(is_determined, unexplained / np.square(left), np.inf)
    slopes = axes @ (gain[error.argmin()][:, None] * rotated) / spread[:, None]
    return np.vstack([mean_residual - mean_code @ slopes, slopes])


def correction_at(codes: np.ndarray, correction: np.ndarray, code_range: np.ndarray) -> np.ndarray:
    """Correction of the decoder's mean, in the dtype of the codes: (n, l) -> (n, n_columns).

    ``correction`` (1 + l, n_columns) is offset and slopes, ``code_range`` (2, l) the range of the
    codes that they were fitted to. Beyond twice the range, where no mean of q(z|x) is, it stays.
    """
    correction, (low, high) = correction.astype(codes.dtype), code_range.astype(codes.dtype)
    middle, width = (low + high) / 2, (high - low).clip(min=MIN_SPREAD)
    return correction[0] + codes.clip(middle - width, middle + width) @ correction[1:]


def check_range(codes: np.ndarray) -> None:
    """Refuse codes whose products in the decoder may overflow: (n, l)."""
    largest = float(np.abs(codes).max(initial=0))
    limit = float(np.sqrt(np.finfo(codes.dtype).max))
    if largest > limit:
        raise ValueError(
            f"X must have codes between {-limit:.3g} and {limit:.3g}, in standard deviations of "
            f"the prior, as products of larger ones overflow {codes.dtype}. Got codes up to "
            f"{largest:.3g} instead."
        )
