"""Calibration plot of probability integral transforms (PIT), column by column."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy import stats

from sklearn_vae.inspection.base import DisplayMixin, Names, column_names, fitted_names
from sklearn_vae.metrics import pit_calibration

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

SIZE = (7.2, 4.4)
BAND = 0.95
# Columns in the legend, those farthest from uniform.
MAX_NAMED = 6


@dataclass(kw_only=True, eq=False, repr=False)
class PITCalibrationDisplay(DisplayMixin):
    """Probability integral transforms of held-out rows, which are uniform if calibrated.

    Curves are the empirical distribution functions of the transforms [1]_. A curve above the
    diagonal on the left and below it on the right has too many rows in both tails: the model is
    overconfident. The band contains the whole curve of a calibrated column with a probability
    of 95 % (Kolmogorov-Smirnov).

    Use :meth:`from_estimator` to create one. All parameters are kept as attributes.

    Parameters
    ----------
    pit : ndarray of shape (n_samples, n_features)
        Transforms, as :func:`~sklearn_vae.metrics.pit_calibration` returns them; columns
        of NaN are not drawn.
    feature_names : list of str, default=None
        Names of the columns; by default their numbers.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes, matplotlib figure
        Axes and figure of the drawing.
    lines_ : dict of Line2D
        Curves by column number.
    band_ : matplotlib artist
        The 95 % band.

    References
    ----------
    .. [1] A. P. Dawid, "Present Position and Potential Developments: Some Personal
       Views: Statistical Theory: The Prequential Approach", Journal of the Royal
       Statistical Society A 147, 1984.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae.inspection import PITCalibrationDisplay
    >>> from sklearn_vae import VAETransformer
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X[::2])
    >>> display = PITCalibrationDisplay.from_estimator(vae, X[1::2], n_draws=64)
    >>> sorted(display.lines_)
    [0, 1, 2, 3]
    """

    pit: np.ndarray
    feature_names: Names = None
    lines_: "dict[int, Line2D]" = field(init=False)
    band_: "Artist" = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        y: Any = None,
        distribution: str = "marginal",
        n_draws: int = 4096,
        feature_names: Names = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the transforms of rows by the distributions that a fitted estimator predicts.

        Parameters
        ----------
        estimator : VAETransformer or VAEDensity
            A fitted estimator, or a pipeline or a search that ends in one.
        X : array-like of shape (n_samples, n_features)
            Held-out rows, in the units of the training rows.
        y : array-like of shape (n_samples,), default=None
            Conditions of a conditional model.
        distribution : {"marginal", "conditional"}, default="marginal"
            Predicted distribution of a value, as in
            :func:`~sklearn_vae.metrics.pit_calibration`.
        n_draws : int, default=4096
            Codes over which distributions are averaged.
        feature_names : list of str, default=None
            Names of the columns; by default those that the estimator was fitted with.
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        PITCalibrationDisplay
            The display.
        """
        vae, rows = cls._final_estimator(estimator, X, requires=("sample", "history_"))
        calibration = pit_calibration(vae, rows, y, distribution=distribution, n_draws=n_draws)
        display = cls(pit=calibration.pit, feature_names=fitted_names(vae, feature_names))
        return display.plot(ax, **kwargs)

    def _draw(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        names = column_names(self.feature_names, self.pit.shape[1])
        observed = {j: column[~np.isnan(column)] for j, column in enumerate(self.pit.T)}
        pits = {j: np.sort(pit) for j, pit in observed.items() if len(pit)}
        if not pits:
            raise ValueError(
                "pit has no values: all columns were constant, or all cells are missing."
            )
        ax = self._set_axes(ax, SIZE)
        u, width = np.linspace(0, 1, 101), stats.kstwo.ppf(BAND, min(map(len, pits.values())))
        ax.plot([0, 1], [0, 1], color="0.4", linewidth=0.8)
        band: dict[str, Any] = {"color": "0.85", "linewidth": 0, "label": f"{BAND:.0%} band"}
        self.band_ = ax.fill_between(u, np.maximum(u - width, 0), np.minimum(u + width, 1), **band)
        distances = {j: float(stats.kstest(pit, "uniform").statistic) for j, pit in pits.items()}
        worst = sorted(distances, key=lambda j: -distances[j])[:MAX_NAMED]
        self.lines_ = {}
        for j in [*(j for j in pits if j not in worst), *worst]:  # the worst columns above
            line: dict[str, Any] = {"color": "0.6", "linewidth": 0.7, "zorder": 1.5}
            if j in worst:
                label = f"{names[j]}, KS {distances[j]:.2f}"
                line = {"color": f"C{worst.index(j)}", "linewidth": 1.4, "label": label}
            steps = np.concatenate([[0.0], pits[j], [1.0]])
            fractions = np.append(np.arange(len(pits[j]) + 1) / len(pits[j]), 1.0)
            line = {"drawstyle": "steps-post", **line, **style}
            (self.lines_[j],) = ax.plot(steps, fractions, **line)
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.set(xlabel="predicted cumulative probability", ylabel="fraction of rows")
        # outside the axes, whose corners hold curves
        ax.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), frameon=False, fontsize="small")
