"""What a mean of codes has lost: a linear map from codes to residuals, by least squares."""

import numpy as np

# Ridge penalties among which generalised cross-validation chooses, for codes of variance 1.
PENALTIES = np.logspace(-6, 3, 28)
# A code that varies less is not divided by how much it varies.
SMALLEST_SPREAD = 1e-6


class Correction:
    r"""Least squares of residuals on codes, from sums over rows.

    A code is the mean of q(z|x), which the prior has drawn towards 0. The row that a code
    :math:`\bar z` stands for is :math:`E[x | \bar z]`, not the mean of p(x|z) at
    :math:`z = \bar z`, which is drawn towards the mean in turn: in probabilistic PCA by
    the factor :math:`1 - \sigma^2 / \lambda` along an axis of variance :math:`\lambda`.
    There a linear map of the codes makes good what is lacking, to the last bit [1]_.

    Attributes
    ----------
    total : float
        What all rows count.
    sums : ndarray of shape (l + d,)
        Sums of codes and residuals.
    products : ndarray of shape (l, l + d)
        Sums of products of codes with codes and residuals.
    squares : float
        Sum of the residuals' squares.
    code_range : ndarray of shape (2, l)
        Smallest and largest codes of rows that count.

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
        """Take some rows in: codes (n, l), residuals (n, d) and what each row counts (n,)."""
        both = np.hstack([codes, residual]).astype(np.float64)
        self.total += weight.sum()
        self.sums += weight @ both
        self.products += (codes * weight[:, None]).T @ both
        self.squares += float(weight @ np.square(residual.astype(np.float64)).sum(axis=1))
        if (weight > 0).any():
            counted = codes[weight > 0]
            self.code_range[0] = np.minimum(self.code_range[0], counted.min(axis=0))
            self.code_range[1] = np.maximum(self.code_range[1], counted.max(axis=0))

    def solve(self) -> np.ndarray:
        """Give offset and slopes, (1 + l, d); zeros where there are too few rows to tell."""
        n_components = len(self.products)
        nothing = np.zeros((1 + n_components, len(self.sums) - n_components))
        if self.total <= 0:
            return nothing
        mean = self.sums / self.total
        mean_code, mean_residual = np.split(mean, [n_components])
        covariance = self.products / self.total - np.outer(mean_code, mean)
        own, cross = np.split(covariance, [n_components], axis=1)  # (l, l), (l, d)
        spread = np.maximum(np.sqrt(np.maximum(np.diag(own), 0)), SMALLEST_SPREAD)
        variances, axes = np.linalg.eigh(own / np.outer(spread, spread))
        variances = np.maximum(variances, 0)
        turned = axes.T @ (cross / spread[:, None])  # (l, d)

        gain = 1 / (variances + PENALTIES[:, None])  # (n_penalties, l)
        freedom = 1 + (variances * gain).sum(axis=1)
        explained = (gain * (2 - variances * gain)) @ np.square(turned).sum(axis=1)
        left = self.squares / self.total - np.square(mean_residual).sum() - explained
        possible = 2 * freedom < self.total
        if not possible.any():
            return nothing
        with np.errstate(divide="ignore"):
            error = np.where(possible, left / np.square(1 - freedom / self.total), np.inf)
        slopes = axes @ (gain[error.argmin()][:, None] * turned) / spread[:, None]
        return np.vstack([mean_residual - mean_code @ slopes, slopes])


def decay(codes: np.ndarray, code_range: np.ndarray) -> np.ndarray:
    """Share of the correction that codes get: (n, l), (2, l) -> (n, 1).

    It is 1 within twice the range of the codes that the correction was learned from, so
    that rows like theirs get it as a whole. Beyond, it falls with the square of the distance
    from the centre: a code far outside is no mean of q(z|x) of any row, and the prior draws
    many such codes in a dimension that says little, where means hardly vary.
    """
    low, high = code_range
    reach = np.maximum(high - low, SMALLEST_SPREAD)
    distance = np.abs(codes - (low + high) / 2) / reach
    return distance.max(axis=1, keepdims=True, initial=1.0) ** -2.0
