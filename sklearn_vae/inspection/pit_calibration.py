"""Calibration plot of probability integral transforms (PIT), column by column."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy import stats

from sklearn_vae.inspection.base import DisplayMixin, column_names, fitted_names
from sklearn_vae.metrics import pit_calibration

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

SIZE = (7.2, 4.4)
KINDS = ("curve", "histogram")
BAND = 0.95
# Columns in the legend, those farthest from uniform.
MAX_NAMED = 6
# Expected rows per bin of a histogram, and bounds of the number of bins.
ROWS_PER_BIN, MIN_BINS, MAX_BINS = 20, 5, 20


@dataclass(kw_only=True, eq=False, repr=False)
class PITCalibrationDisplay(DisplayMixin):
    """Probability integral transforms of held-out rows, which are uniform if calibrated.

    Curves are the empirical distribution functions of the transforms [1]_. A curve above the
    diagonal on the left and below it on the right has too many rows in both tails: the model is
    overconfident. The band contains the whole curve of a calibrated column with a probability
    of 95 % (Kolmogorov-Smirnov); in a histogram, each bar.

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
        Curves, or outlines of histograms, by column number.
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
    feature_names: Sequence[str] | np.ndarray | None = None
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
        feature_names: Sequence[str] | np.ndarray | None = None,
        kind: str = "curve",
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
        kind : {"curve", "histogram"}, default="curve"
            Curves over the diagonal, or outlines of histograms.
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
        return display.plot(ax, kind=kind, **kwargs)

    def plot(self, ax: "Axes | None" = None, *, kind: str = "curve", **kwargs: Any) -> Self:
        """Draw the transforms.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        kind : {"curve", "histogram"}, default="curve"
            Curves over the diagonal, or outlines of histograms.
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        PITCalibrationDisplay
            The display.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be 'curve' or 'histogram'. Got {kind!r} instead.")
        names = column_names(self.feature_names, self.pit.shape[1])
        observed = {j: column[~np.isnan(column)] for j, column in enumerate(self.pit.T)}
        observed = {j: pit for j, pit in observed.items() if len(pit)}
        if not observed:
            raise ValueError(
                "pit has no values: all columns were constant, or all cells are missing."
            )
        ax = self._set_axes(ax, SIZE)
        self.lines_ = {}
        draw = self._draw_curves if kind == "curve" else self._draw_histograms
        draw(ax, observed, names, kwargs)
        ax.set(xlim=(0, 1), xlabel="predicted cumulative probability")
        # outside the axes, whose corners hold curves
        ax.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), frameon=False, fontsize="small")
        return self

    def _draw_curves(
        self, ax: "Axes", pits: dict[int, np.ndarray], names: list[str], style: dict[str, Any]
    ) -> None:
        """Draw empirical distribution functions over the diagonal."""
        n_rows = min(map(len, pits.values()))
        width = stats.kstwo.ppf(BAND, n_rows)
        u = np.linspace(0, 1, 101)
        ax.plot([0, 1], [0, 1], color="0.4", linewidth=0.8)
        band: dict[str, Any] = {"color": "0.85", "linewidth": 0, "label": f"{BAND:.0%} band"}
        self.band_ = ax.fill_between(u, np.maximum(u - width, 0), np.minimum(u + width, 1), **band)
        distances = {j: float(stats.kstest(pit, "uniform").statistic) for j, pit in pits.items()}
        worst = sorted(distances, key=lambda j: -distances[j])[:MAX_NAMED]
        for j in _worst_last(pits, worst):
            steps = np.concatenate([[0.0], np.sort(pits[j]), [1.0]])
            fractions = np.append(np.arange(len(pits[j]) + 1) / len(pits[j]), 1.0)
            line = {**_line_style(j, worst, f"{names[j]}, KS {distances[j]:.2f}"), **style}
            (self.lines_[j],) = ax.plot(steps, fractions, drawstyle="steps-post", **line)
        ax.set(ylim=(0, 1), ylabel="fraction of rows")

    def _draw_histograms(
        self, ax: "Axes", pits: dict[int, np.ndarray], names: list[str], style: dict[str, Any]
    ) -> None:
        """Draw histograms, whose expected density is 1."""
        n_rows = min(map(len, pits.values()))
        n_bins = int(np.clip(n_rows // ROWS_PER_BIN, MIN_BINS, MAX_BINS))
        tails = (1 - BAND) / 2
        low, high = stats.binom.ppf([tails, 1 - tails], n_rows, 1 / n_bins) * n_bins / n_rows
        ax.axhline(1, color="0.4", linewidth=0.8)
        self.band_ = ax.axhspan(low, high, color="0.85", linewidth=0, label=f"{BAND:.0%} per bar")
        edges = np.linspace(0, 1, n_bins + 1)
        densities = {j: np.histogram(pit, edges, density=True)[0] for j, pit in pits.items()}
        worst = sorted(densities, key=lambda j: -np.abs(densities[j] - 1).max())[:MAX_NAMED]
        for j in _worst_last(pits, worst):
            outline = np.append(densities[j], densities[j][-1])
            line = {**_line_style(j, worst, names[j]), **style}
            (self.lines_[j],) = ax.plot(edges, outline, drawstyle="steps-post", **line)
        ax.set_ylim(bottom=0)
        ax.set_ylabel("density")


def _line_style(column: int, worst: list[int], label: str) -> dict[str, Any]:
    """Colour and label of the worst columns; thin grey lines for all other columns."""
    if column not in worst:
        return {"color": "0.6", "linewidth": 0.7, "zorder": 1.5}
    return {"color": f"C{worst.index(column)}", "linewidth": 1.4, "label": label}


def _worst_last(columns: Iterable[int], worst: list[int]) -> list[int]:
    """Order of drawing: the worst columns above all others, in the order of the legend."""
    return [j for j in columns if j not in worst] + worst
