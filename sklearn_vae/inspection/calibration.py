"""Calibration: whether rows lie where the model expects them, column by column."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy import stats

from sklearn_vae.inspection.axes import axes_for, check_matplotlib
from sklearn_vae.inspection.validation import column_names, last_step
from sklearn_vae.metrics import pit_calibration

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

SIZE = (7.2, 4.4)
KINDS = ("curve", "histogram")
BAND = 0.95
# Columns that are named in the legend, the worst ones.
MOST_NAMED = 6
# Rows that a bar of a histogram holds on average, about.
ROWS_IN_BAR, FEWEST_BARS, MOST_BARS = 20, 5, 20


class PITCalibrationDisplay:
    """Probability integral transforms of held-out rows, which are uniform if the model is right.

    Curves show, column by column, the share of rows whose transform is at most u. Above the
    diagonal on the left and below it on the right, there are too many rows in both tails: the
    model is too sure of itself. The band holds the whole curve of a calibrated column in 95 %
    of the cases (Kolmogorov and Smirnov); in a histogram, each bar.

    It is recommended to use :meth:`from_estimator`. All parameters are kept as attributes.

    Parameters
    ----------
    pit : ndarray of shape (n_samples, n_features)
        Transforms, as :func:`~sklearn_vae.metrics.pit_calibration` gives them; NaN in columns that
        are left out.
    feature_names : list of str, default=None
        Names of the columns; None numbers them.

    Attributes
    ----------
    ax_ : matplotlib axes
        What it was drawn on.
    figure_ : matplotlib figure
        Its figure.
    lines_ : dict of Line2D
        Curves, or outlines of histograms, by the number of the column.
    band_ : matplotlib artist
        The band.

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

    ax_: "Axes"
    figure_: "Figure | SubFigure"
    lines_: "dict[int, Line2D]"
    band_: "Artist"

    def __init__(self, *, pit: np.ndarray, feature_names: Any = None) -> None:
        self.pit = pit
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        distribution: str = "marginal",
        n_draws: int = 4096,
        feature_names: Any = None,
        kind: str = "curve",
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw where rows lie in the distributions that a fitted estimator predicts.

        Parameters
        ----------
        estimator : VAETransformer or VAEDensity
            A fitted estimator, or a pipeline or a search that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows that it was not fitted to, in the units of the training rows.
        distribution : {"marginal", "conditional"}, default="marginal"
            Predicted distribution of a value, as in
            :func:`~sklearn_vae.metrics.pit_calibration`.
        n_draws : int, default=4096
            Codes over which distributions are averaged.
        feature_names : list of str, default=None
            Names of the columns; None takes those that the estimator was fitted with.
        kind : {"curve", "histogram"}, default="curve"
            Curves over the diagonal, or outlines of histograms.
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to ``ax.plot``.

        Returns
        -------
        PITCalibrationDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator predicts no distributions.
        ValueError
            If an argument is not as it must be.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls)
        vae, rows = last_step(estimator, X)
        if not (hasattr(vae, "sample") and hasattr(vae, "history_")):
            raise TypeError(
                f"{cls.__name__} needs an estimator of a density, such as VAETransformer or "
                f"VAEDensity. Got {type(vae).__name__} instead."
            )
        found = pit_calibration(vae, rows, distribution=distribution, n_draws=n_draws)
        names = getattr(vae, "feature_names_in_", None)
        display = cls(
            pit=found.pit, feature_names=names if feature_names is None else feature_names
        )
        return display.plot(ax, kind=kind, **kwargs)

    def plot(self, ax: "Axes | None" = None, *, kind: str = "curve", **kwargs: Any) -> Self:
        """Draw the transforms.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        kind : {"curve", "histogram"}, default="curve"
            Curves over the diagonal, or outlines of histograms.
        **kwargs : dict
            Handed to ``ax.plot``.

        Returns
        -------
        PITCalibrationDisplay
            The display itself.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be 'curve' or 'histogram'. Got {kind!r} instead.")
        names = column_names(self.feature_names, self.pit.shape[1])
        known = {j: own[~np.isnan(own)] for j, own in enumerate(self.pit.T)}
        known = {j: own for j, own in known.items() if len(own)}
        if not known:
            raise ValueError("pit has no column with values: all columns were constant.")
        ax = axes_for(self, ax, SIZE)
        self.lines_ = {}
        draw = self._draw_curves if kind == "curve" else self._draw_histograms
        draw(ax, known, names, kwargs)
        ax.set(xlim=(0, 1), xlabel="probability that the model gives to smaller values")
        # beside the curves, which leave no corner free
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_curves(
        self, ax: "Axes", known: dict[int, np.ndarray], names: list[str], style: dict[str, Any]
    ) -> None:
        """Draw shares of rows over the diagonal."""
        n_rows = min(map(len, known.values()))
        far = stats.kstwo.ppf(BAND, n_rows)
        u = np.linspace(0, 1, 101)
        ax.plot([0, 1], [0, 1], color="0.4", linewidth=0.8)
        band: dict[str, Any] = {"color": "0.85", "linewidth": 0, "label": f"{BAND:.0%} band"}
        self.band_ = ax.fill_between(u, np.maximum(u - far, 0), np.minimum(u + far, 1), **band)
        distances = {j: float(stats.kstest(own, "uniform").statistic) for j, own in known.items()}
        worst = sorted(distances, key=lambda j: -distances[j])[:MOST_NAMED]
        for j in _worst_last(known, worst):
            own = known[j]
            shares = np.arange(len(own) + 1) / len(own)
            steps = np.concatenate([[0.0], np.sort(own)])
            look = self._look(j, worst, f"{names[j]}, {distances[j]:.2f} off")
            ends = np.append(steps, 1.0), np.append(shares, 1.0)
            (self.lines_[j],) = ax.plot(*ends, drawstyle="steps-post", **{**look, **style})
        ax.set(ylim=(0, 1), ylabel="share of rows")

    def _draw_histograms(
        self, ax: "Axes", known: dict[int, np.ndarray], names: list[str], style: dict[str, Any]
    ) -> None:
        """Draw densities, which would be 1."""
        n_rows = min(map(len, known.values()))
        n_bars = int(np.clip(n_rows // ROWS_IN_BAR, FEWEST_BARS, MOST_BARS))
        tails = (1 - BAND) / 2
        low, high = stats.binom.ppf([tails, 1 - tails], n_rows, 1 / n_bars) * n_bars / n_rows
        ax.axhline(1, color="0.4", linewidth=0.8)
        self.band_ = ax.axhspan(low, high, color="0.85", linewidth=0, label=f"{BAND:.0%} per bar")
        edges = np.linspace(0, 1, n_bars + 1)
        densities = {j: np.histogram(own, edges, density=True)[0] for j, own in known.items()}
        worst = sorted(densities, key=lambda j: -np.abs(densities[j] - 1).max())[:MOST_NAMED]
        for j in _worst_last(known, worst):
            heights = densities[j]
            outline = np.append(heights, heights[-1])
            look = self._look(j, worst, names[j])
            (self.lines_[j],) = ax.plot(edges, outline, drawstyle="steps-post", **{**look, **style})
        ax.set_ylim(bottom=0)
        ax.set_ylabel("density of rows")

    def _look(self, column: int, worst: list[int], label: str) -> dict[str, Any]:
        """Colour and label of the worst columns; the others stay in the background."""
        if column not in worst:
            return {"color": "0.6", "linewidth": 0.7, "zorder": 1.5}
        return {"color": f"C{worst.index(column)}", "linewidth": 1.4, "label": label}


def _worst_last(columns: Iterable[int], worst: list[int]) -> list[int]:
    """The order in which columns are drawn: the worst above the others, the very worst first."""
    return [j for j in columns if j not in worst] + worst
