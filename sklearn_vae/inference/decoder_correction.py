"""Decoder correction: ridge regression of the residuals of reconstructions on the codes.

It is added to the decoder's mean. torch is not imported at the top: ``sklearn_vae.runtime`` needs
none.
"""

from typing import TYPE_CHECKING

import numpy as np

from sklearn_vae.numerics.row_subsets import batches, spread_out

if TYPE_CHECKING:
    from sklearn_vae.models.vae import VAE

# Ridge penalties among which generalized cross-validation chooses, for codes of variance 1.
PENALTIES = np.logspace(-6, 3, 28)
# Rows that the regression is fitted to, at most.
MAX_ROWS = 10_000
# Lower bound of standard deviations and ranges of the codes.
MIN_SPREAD = 1e-6


def fit_decoder_correction(
    model: "VAE", x: np.ndarray, weight: np.ndarray | None, rows_per_chunk: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Fit the correction of a model's normal columns to encoded rows, with weights (n,).

    Return offset and slopes (1 + l, n_columns), and the range of the codes (2, l); None without
    such columns, and for an autoregressive decoder, whose mean has no linear correction. The
    model has one member. Of a long table, rows of all parts are used. In a column with point
    masses, the mean of the other numbers is corrected. The residual of a missing cell is 0, and so
    is that of the number at a point mass.
    """
    import torch

    architecture = model.architecture
    if model.decoder.is_autoregressive or not architecture.is_number.any():
        return None, None
    if len(x) > MAX_ROWS:
        rows = spread_out(len(x), MAX_ROWS)
        x, weight = x[rows], None if weight is None else weight[rows]
    n_columns = architecture.n_columns
    correction = DecoderCorrection(architecture.n_components, n_columns)
    with torch.no_grad():
        for chunk in batches(len(x), rows_per_chunk):
            encoded = torch.as_tensor(x[chunk]).to(model.device)[None]
            z = model.posterior.mean(model.encode(encoded))
            residual = (encoded[..., :n_columns] - model.reconstruct(z, encoded))[0].cpu().numpy()
            has_density = model.likelihood.has_density(x[chunk])
            has_residual = has_density & ~np.isnan(residual)
            residual = np.where(has_residual, residual, 0)
            codes = z[0].cpu().numpy()
            row_weight = np.ones(len(codes)) if weight is None else weight[chunk]
            correction.add(codes, residual, row_weight)
    return correction.solve(), correction.code_range


class DecoderCorrection:
    r"""Ridge regression of residuals on codes, from sums over rows.

    The mean of q(z|x), a code :math:`\bar z`, is shrunk towards 0 by the prior. The mean of p(x|z)
    at :math:`z = \bar z` is therefore shrunk, too, and differs from :math:`E[x | \bar z]`: in
    probabilistic PCA by the factor :math:`1 - \sigma^2 / \lambda` along an axis of variance
    :math:`\lambda`, which a linear map of the codes corrects exactly [1]_.

    Attributes
    ----------
    total : float
        Sum of the row weights.
    sums : ndarray of shape (l + d,)
        Sums of codes and residuals.
    products : ndarray of shape (l, l + d)
        Sums of products of codes with codes and residuals.
    squares : float
        Sum of the residuals' squares.
    code_range : ndarray of shape (2, l)
        Minimum and maximum of the codes of rows with positive weight.

    References
    ----------
    .. [1] M. E. Tipping and C. M. Bishop, "Probabilistic Principal Component
       Analysis", Journal of the Royal Statistical Society B 61, 1999, section 3.3.
    .. [2] G. H. Golub, M. Heath and G. Wahba, "Generalized Cross-Validation as a
       Method for Choosing a Good Ridge Parameter", Technometrics 21, 1979.
    """

    def __init__(self, n_components: int, n_columns: int):
        self.total = 0.0
        self.sums = np.zeros(n_components + n_columns)
        self.products = np.zeros((n_components, n_components + n_columns))
        self.squares = 0.0
        self.code_range = np.repeat([[np.inf], [-np.inf]], n_components, axis=1)

    def add(self, codes: np.ndarray, residual: np.ndarray, weight: np.ndarray) -> None:
        """Accumulate rows: codes (n, l), residuals (n, d) and row weights (n,)."""
        stacked = np.hstack([codes, residual]).astype(np.float64)
        self.total += weight.sum()
        self.sums += weight @ stacked
        self.products += (codes * weight[:, None]).T @ stacked
        self.squares += float(weight @ np.square(residual.astype(np.float64)).sum(axis=1))
        if (weight > 0).any():
            counted = codes[weight > 0]
            self.code_range[0] = np.minimum(self.code_range[0], counted.min(axis=0))
            self.code_range[1] = np.maximum(self.code_range[1], counted.max(axis=0))

    def solve(self) -> np.ndarray:
        """Offset and slopes (1 + l, d); the ridge penalty by generalized cross-validation [2]_.

        Zeros if the rows are too few.
        """
        n_components = len(self.products)
        zeros = np.zeros((1 + n_components, len(self.sums) - n_components))
        if self.total <= 0:
            return zeros
        mean = self.sums / self.total
        mean_code, mean_residual = np.split(mean, [n_components])
        covariance = self.products / self.total - np.outer(mean_code, mean)
        code_covariance, cross = np.split(covariance, [n_components], axis=1)  # (l, l), (l, d)
        spread = np.maximum(np.sqrt(np.maximum(np.diag(code_covariance), 0)), MIN_SPREAD)
        variances, axes = np.linalg.eigh(code_covariance / np.outer(spread, spread))
        variances = np.maximum(variances, 0)
        rotated = axes.T @ (cross / spread[:, None])  # (l, d)

        gain = 1 / (variances + PENALTIES[:, None])  # (n_penalties, l)
        freedom = 1 + (variances * gain).sum(axis=1)
        explained = (gain * (2 - variances * gain)) @ np.square(rotated).sum(axis=1)
        unexplained = self.squares / self.total - np.square(mean_residual).sum() - explained
        is_determined = 2 * freedom < self.total
        if not is_determined.any():
            return zeros
        with np.errstate(divide="ignore"):
            error = np.where(
                is_determined, unexplained / np.square(1 - freedom / self.total), np.inf
            )
        slopes = axes @ (gain[error.argmin()][:, None] * rotated) / spread[:, None]
        return np.vstack([mean_residual - mean_code @ slopes, slopes])


def correction_at(
    codes: np.ndarray, correction: np.ndarray, code_range: np.ndarray | None
) -> np.ndarray:
    """Correction of the decoder's mean, in the dtype of the codes: (n, l) -> (n, n_columns).

    ``correction`` (1 + l, n_columns) is offset and slopes, ``code_range`` (2, l) minimum and
    maximum of the codes that they were fitted to.
    """
    correction = correction.astype(codes.dtype)
    added = correction[0] + codes @ correction[1:]
    return added if code_range is None else added * decay(codes, code_range.astype(codes.dtype))


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


def decay(codes: np.ndarray, code_range: np.ndarray) -> np.ndarray:
    """Factor of the correction: codes (n, l), their fitted range (2, l) -> (n, 1).

    It is 1 within twice the range of the codes that the correction was fitted to. Beyond, it
    falls with the square of the distance from the centre: a code far outside is not a mean of
    q(z|x) of any row. The prior draws many such codes in an inactive dimension, whose means
    hardly vary.
    """
    low, high = code_range
    width = np.maximum(high - low, MIN_SPREAD)
    distance = np.abs(codes - (low + high) / 2) / width
    return distance.max(axis=1, keepdims=True, initial=1.0) ** -2.0
