"""Bar chart of the feature attributions of an anomaly score, and the labels of its bars."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_vae.data.arrays import Rows, cells_of, format_value
from sklearn_vae.data.fields import shown_name
from sklearn_vae.inspection.base import DisplayMixin
from sklearn_vae.persistence.validation import check_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer

Names = Sequence[str] | np.ndarray | None


@dataclass(kw_only=True, eq=False, repr=False)
class ExplanationDisplay(DisplayMixin):
    """Feature attributions of an anomaly score, as bars.

    Use :meth:`from_estimator` to create one. All parameters are kept as attributes.

    Parameters
    ----------
    attributions : ndarray of shape (n_features,)
        Attributions of the anomaly score; the largest columns are the most anomalous.
    feature_names : list of str, default=None
        Names of the columns; by default their numbers.
    values : ndarray of shape (n_features,), default=None
        Values of the row, which are shown beside the names.
    expected_values : ndarray of shape (n_features,), default=None
        Expected value of each column given the row's other values, shown beside the values; None
        is not shown.
    unit : str, default="nats"
        Unit of the attributions.
    n_columns : int, default=10
        Number of columns with a bar, those with the largest absolute attributions.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes, matplotlib figure
        Axes and figure of the drawing.
    bars_ : BarContainer
        The bars in descending order, and last the sum of the attributions not shown.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_vae.inspection import ExplanationDisplay
    >>> from sklearn_vae import VAEOutlierDetector
    >>> X = load_wine().data
    >>> detector = VAEOutlierDetector(random_state=0).fit(X)
    >>> display = ExplanationDisplay.from_estimator(detector, X[:1], n_columns=5)
    >>> len(display.attributions), len(display.bars_)
    (13, 6)
    """

    attributions: np.ndarray
    feature_names: Names = None
    values: np.ndarray | None = None
    expected_values: np.ndarray | None = None
    unit: str = "nats"
    n_columns: int = 10
    bars_: "BarContainer" = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Rows,
        *,
        feature_names: Names = None,
        n_columns: int = 10,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what ``explain`` returns for a row, or the average over several rows.

        Parameters
        ----------
        estimator : VAEOutlierDetector
            A fitted detector, or a pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            One row, such as ``X[[3]]``, or several whose attributions are averaged.
        feature_names : list of str, default=None
            Names of the columns; by default those that the estimator was fitted with.
        n_columns : int, default=10
            Number of columns with a bar, those with the largest absolute attributions.
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure. A figure with ``layout="constrained"`` has room
            for the labels, too.
        **kwargs : dict
            Passed to ``ax.barh``.

        Returns
        -------
        ExplanationDisplay
            The display.
        """
        detector, rows = cls._final_step(
            estimator, X, ("explain", "expected_values"), "VAEOutlierDetector"
        )
        attributions = np.asarray(detector.explain(rows))
        values = expected_values = None
        names = detector.columns_.names
        if len(attributions) == 1:
            values = _first_row(rows, attributions.shape[1])
            largest = np.sort(_by_size(attributions[0])[: check_count("n_columns", n_columns)])
            expected = detector.expected_values(rows, columns=[names[j] for j in largest])
            expected_values = np.full(len(values), None)
            expected_values[largest] = _first_row(expected, len(largest))
        display = cls(
            attributions=attributions.mean(axis=0),
            feature_names=names if feature_names is None else feature_names,
            values=values,
            expected_values=expected_values,
            unit="units of the score" if detector.method == "reconstruction" else "nats",
            n_columns=n_columns,
        )
        return display.plot(ax, **kwargs)

    def _draw(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        order, names = _by_size(self.attributions), self.feature_names
        if names is not None and np.shape(names) != (len(order),):
            raise ValueError(
                f"feature_names must have one name for each of {len(order)} columns. Got "
                f"{names!r} instead."
            )
        largest, rest = np.split(order, [check_count("n_columns", self.n_columns)])
        largest = largest[np.argsort(-self.attributions[largest], kind="stable")]
        lengths, labels = self.attributions[largest], [self._label(j) for j in largest]
        if len(rest):
            # so that the bars add up to the anomaly score
            labels.append(f"{len(rest)} other column{'s' * (len(rest) > 1)}")
            lengths = np.append(lengths, self.attributions[rest].sum())
        n_lines = 1 + any("\n" in label for label in labels)
        ax = self._set_axes(ax, (8, len(labels) * (n_lines * 0.17 + 0.13) + 1.2))
        colors = np.where(lengths > 0, "tab:red", "tab:blue").tolist()
        positions = np.arange(len(labels))
        self.bars_ = ax.barh(positions, lengths, **{"color": colors, **style})
        ax.set_yticks(positions, labels, parse_math=False)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.axvline(0, color=ax.spines["left"].get_edgecolor(), linewidth=0.8)
        ax.set_xlabel(f"attribution of the anomaly score ({self.unit})")

    def _label(self, column: int) -> str:
        """Name of a column, its value and its expected value, as far as they are known."""
        names = self.feature_names
        label = _shortened(shown_name(column if names is None else names[column]))
        if self.values is not None:
            label += f" = {_shortened(format_value(self.values[column]))}"
        if self.expected_values is None or self.expected_values[column] is None:
            return label
        expected = f"(expected {_shortened(format_value(self.expected_values[column]))})"
        is_long = len(label) + len(expected) >= 40
        return f"{label}\n{expected}" if is_long else f"{label} {expected}"


def _by_size(attributions: np.ndarray) -> np.ndarray:
    """Indices of the columns in descending order of their absolute attributions."""
    return np.argsort(-np.abs(attributions), kind="stable")


def _first_row(X: object, n_columns: int) -> np.ndarray:
    """Cells of the first row of a table: (n_columns,)."""
    return np.array([*cells_of(X, [0] * n_columns, range(n_columns))], dtype=object)


def _shortened(text: str) -> str:
    """Text on one line of 28 characters at most, with an ellipsis in place of its middle."""
    text = " ".join(text.split())
    return text if len(text) <= 28 else f"{text[:13]}…{text[-14:]}"
