"""Explanations: which columns make a row strange."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_vae.inspection.axes import axes_for, check_matplotlib
from sklearn_vae.inspection.validation import as_numbers, check_count, column_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure, SubFigure

# Methods of the detector whose scores are distances and no surprises.
NOT_IN_NATS = ("latent", "masked", "denoising", "reconstruction")
STRANGER, MORE_USUAL = "tab:red", "tab:blue"


class ExplanationDisplay:
    """Each column's part in how far a row's score lies from the usual one, as bars.

    It is recommended to use :meth:`from_estimator`. All parameters are kept as attributes.

    Parameters
    ----------
    parts : ndarray of shape (n_features,)
        Parts of the departure; the largest are to blame.
    feature_names : list of str, default=None
        Names of the columns; None numbers them.
    values : ndarray of shape (n_features,), default=None
        The row, whose values are written beside the names.
    unit : str, default="nats"
        What parts are measured in.

    Attributes
    ----------
    ax_ : matplotlib axes
        What it was drawn on.
    figure_ : matplotlib figure
        Its figure.
    bars_ : BarContainer
        The bars, from the largest part down, and last the sum of the parts not shown.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_vae.inspection import ExplanationDisplay
    >>> from sklearn_vae import VAEOutlierDetector
    >>> X = load_wine().data
    >>> detector = VAEOutlierDetector(random_state=0).fit(X)
    >>> display = ExplanationDisplay.from_estimator(detector, X[:1], n_columns=5)
    >>> len(display.parts), len(display.bars_)
    (13, 6)
    """

    ax_: "Axes"
    figure_: "Figure | SubFigure"
    bars_: "BarContainer"

    def __init__(
        self,
        *,
        parts: np.ndarray,
        feature_names: Any = None,
        values: np.ndarray | None = None,
        unit: str = "nats",
    ) -> None:
        self.parts = parts
        self.feature_names = feature_names
        self.values = values
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        feature_names: Any = None,
        n_columns: int = 10,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what a fitted detector's ``explain`` says of a row, or of several on average.

        Parameters
        ----------
        estimator : VAEOutlierDetector
            A fitted detector, or anything fitted with ``explain``.
        X : array-like of shape (n_samples, n_features)
            One row, such as ``X[[3]]``, or several whose parts are averaged.
        feature_names : list of str, default=None
            Names of the columns; None takes those that the estimator was fitted with.
        n_columns : int, default=10
            How many columns have a bar of their own, those with the largest parts in size.
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to ``ax.barh``.

        Returns
        -------
        ExplanationDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no ``explain``.
        ValueError
            If ``feature_names`` does not fit X, or ``n_columns`` is no positive integer.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls)
        check_is_fitted(estimator)
        if not hasattr(estimator, "explain"):
            raise TypeError(
                f"{cls.__name__} needs an estimator with explain, such as VAEOutlierDetector. "
                f"Got {type(estimator).__name__} instead."
            )
        parts = estimator.explain(X)
        is_distance = getattr(estimator, "method", "auto") in NOT_IN_NATS
        names = getattr(estimator, "feature_names_in_", None)
        display = cls(
            parts=parts.mean(axis=0),
            feature_names=names if feature_names is None else feature_names,
            values=as_numbers("X", X)[0] if len(parts) == 1 else None,
            unit="units of the score" if is_distance else "nats",
        )
        return display.plot(ax, n_columns=n_columns, **kwargs)

    def plot(self, ax: "Axes | None" = None, *, n_columns: int = 10, **kwargs: Any) -> Self:
        """Draw the bars, the largest part on top.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        n_columns : int, default=10
            How many columns have a bar of their own, those with the largest parts in size.
        **kwargs : dict
            Handed to ``ax.barh``.

        Returns
        -------
        ExplanationDisplay
            The display itself.
        """
        names = self._names()
        largest = np.argsort(-np.abs(self.parts), kind="stable")
        shown, others = np.split(largest, [check_count("n_columns", n_columns)])
        shown = shown[np.argsort(-self.parts[shown], kind="stable")]
        labels, lengths = [names[j] for j in shown], self.parts[shown]
        if len(others):
            # so that what is seen adds up to the whole departure
            labels.append(f"{len(others)} other column{'s' * (len(others) > 1)}")
            lengths = np.append(lengths, self.parts[others].sum())
        ax = axes_for(self, ax, (6.0, 0.3 * len(labels) + 1.2))
        colours = np.where(lengths > 0, STRANGER, MORE_USUAL).tolist()
        places = np.arange(len(labels))
        self.bars_ = ax.barh(places, lengths, **{"color": colours, **kwargs})
        ax.set_yticks(places, labels)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.axvline(0, color="0.3", linewidth=0.8)
        ax.set_xlabel(f"part of the score's departure ({self.unit})")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _names(self) -> list[str]:
        names = column_names(self.feature_names, len(self.parts))
        if self.values is None:
            return names
        return [f"{name} = {value:.4g}" for name, value in zip(names, self.values, strict=True)]
