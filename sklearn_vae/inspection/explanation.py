"""Bar chart of the feature attributions of an anomaly score, and the labels of its bars."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from sklearn_vae.data.frames import cells_of, format_value
from sklearn_vae.inspection.base import DisplayMixin, check_axes, column_names, fitted_names
from sklearn_vae.persistence.validation import check_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer


# Methods of the detector whose scores are distances.
DISTANCES = ("reconstruction",)
# Width of a figure in inches, without labels and at least.
BAR_WIDTH, MIN_WIDTH = 3.5, 6.0
POSITIVE, NEGATIVE = "tab:red", "tab:blue"
# Longest line with several parts, longest line at all and most lines of a new figure's labels.
JOINED_LENGTH, LINE_LENGTH, MAX_LINES = 48, 60, 3
# Texts are not shortened below this number of characters, which most numbers have.
MIN_TEXT_LENGTH = 12
# Longest line relative to the width of the axes, where these are given.
RELATIVE_LENGTH = 0.75
# Mean width of a character and height of a line, relative to the size of the font.
CHARACTER_WIDTH, LINE_HEIGHT = 0.6, 1.2


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
    feature_names: Sequence[str] | np.ndarray | None = None
    values: np.ndarray | None = None
    expected_values: np.ndarray | None = None
    unit: str = "nats"
    bars_: "BarContainer" = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        feature_names: Sequence[str] | np.ndarray | None = None,
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
            Axes to draw on; None makes a figure, as large as the labels need. A figure with
            ``layout="constrained"`` has room for them, too.
        **kwargs : dict
            Passed to ``ax.barh``.

        Returns
        -------
        ExplanationDisplay
            The display.
        """
        detector, rows = cls._final_estimator(
            estimator, X, requires=("explain", "expected_values"), such_as="VAEOutlierDetector"
        )
        attributions = np.asarray(detector.explain(rows))
        values = expected_values = None
        if len(attributions) == 1:
            values = first_row(rows, attributions.shape[1])
            largest = np.sort(by_size(attributions[0])[: check_count("n_columns", n_columns)])
            names = detector.estimator_._names_or_indices()
            expected = detector.expected_values(rows, columns=[names[j] for j in largest])
            expected_values = np.full(len(values), None)
            expected_values[largest] = first_row(expected, len(largest))
        is_distance = getattr(detector, "method", "auto") in DISTANCES
        display = cls(
            attributions=attributions.mean(axis=0),
            feature_names=fitted_names(detector, feature_names),
            values=values,
            expected_values=expected_values,
            unit="units of the score" if is_distance else "nats",
        )
        return display.plot(ax, n_columns=n_columns, **kwargs)

    def plot(self, ax: "Axes | None" = None, *, n_columns: int = 10, **kwargs: Any) -> Self:
        """Draw the bars, the largest attribution on top.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure, as large as the labels need. A figure with
            ``layout="constrained"`` has room for them, too.
        n_columns : int, default=10
            Number of columns with a bar, those with the largest absolute attributions.
        **kwargs : dict
            Passed to ``ax.barh``.

        Returns
        -------
        ExplanationDisplay
            The display.
        """
        self._check_matplotlib()
        order = by_size(self.attributions)
        largest, rest = np.split(order, [check_count("n_columns", n_columns)])
        largest = largest[np.argsort(-self.attributions[largest], kind="stable")]
        parts, lengths = self._parts(), self.attributions[largest]
        parts = [parts[j] for j in largest]
        if len(rest):
            # so that the bars add up to the anomaly score
            parts.append([Part("", f"{len(rest)} other column{'s' * (len(rest) > 1)}", "")])
            lengths = np.append(lengths, self.attributions[rest].sum())
        labels = fit_labels(parts, None if ax is None else check_axes(ax))
        ax = self._set_axes(ax, figure_size(labels))
        colors = np.where(lengths > 0, POSITIVE, NEGATIVE).tolist()
        positions = np.arange(len(labels))
        self.bars_ = ax.barh(positions, lengths, **{"color": colors, **kwargs})
        ax.set_yticks(positions, labels, parse_math=False)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.axvline(0, color=ax.spines["left"].get_edgecolor(), linewidth=0.8)
        ax.set_xlabel(f"attribution of the anomaly score ({self.unit})")
        return self

    def _parts(self) -> "list[list[Part]]":
        """Name of each column, its value and its expected value, as far as they are known."""
        names = column_names(self.feature_names, len(self.attributions))
        parts = [[Part("", " ".join(name.split()), "")] for name in names]
        if self.values is not None:
            for label, value in zip(parts, self.values, strict=True):
                label.append(Part("= ", format_value(value), ""))
        if self.expected_values is not None:
            for label, value in zip(parts, self.expected_values, strict=True):
                if value is not None:
                    label.append(Part("(expected ", format_value(value), ")"))
        return parts


def figure_size(labels: list[str]) -> tuple[float, float]:
    """Width and height in inches of a figure of bars with these labels."""
    line_height, character_width = text_size()
    n_lines = 1 + max(label.count("\n") for label in labels)
    n_characters = max(len(line) for label in labels for line in label.split("\n"))
    width = max(n_characters * character_width + BAR_WIDTH, MIN_WIDTH)
    return width, len(labels) * (n_lines * line_height + 0.13) + 1.2


def by_size(attributions: np.ndarray) -> np.ndarray:
    """Indices of the columns in descending order of their absolute attributions."""
    return np.argsort(-np.abs(attributions), kind="stable")


def first_row(X: Any, n_columns: int) -> np.ndarray:
    """Cells of the first row of a table: (n_columns,)."""
    values = np.empty(n_columns, dtype=object)
    values[:] = cells_of(X, [0] * n_columns, range(n_columns))
    return values


class Part(NamedTuple):
    """Part of a label, whose text may be shortened, but not what is around it."""

    before: str
    text: str
    after: str

    def shorten(self, length: int) -> str:
        """Part with an ellipsis in place of the middle of a longer text."""
        text, n_last = self.text, (length - 1) // 2
        if len(text) > length:
            text = f"{text[: length - 1 - n_last]}…{text[len(text) - n_last :]}"
        return f"{self.before}{text}{self.after}"


def fit_labels(parts: Sequence[Sequence[Part]], ax: "Axes | None") -> list[str]:
    """Join the parts of labels to lines that fit the axes, or a new figure.

    Parameters
    ----------
    parts : sequence of sequence of Part
        Parts of the labels.
    ax : matplotlib axes or None
        Axes that the labels have to fit; a new figure is made to fit them.
    """
    if ax is None:
        return [fit_label(label, JOINED_LENGTH, LINE_LENGTH, MAX_LINES) for label in parts]
    line_height, character_width = text_size()
    box = ax.get_window_extent()
    width, height = box.width / ax.figure.dpi, box.height / ax.figure.dpi
    length = min(int(RELATIVE_LENGTH * width / character_width), JOINED_LENGTH)
    n_lines = min(max(int(height / (line_height * len(parts))), 1), MAX_LINES)
    return [fit_label(label, length, length, n_lines) for label in parts]


def fit_label(parts: Sequence[Part], joined_length: int, line_length: int, n_lines: int) -> str:
    """Join parts to lines; their texts are shortened until they fit, if they can."""
    lines: list[str] = []
    for length in range(max(line_length, MIN_TEXT_LENGTH), MIN_TEXT_LENGTH - 1, -1):
        lines = []
        for text in (part.shorten(length) for part in parts):
            if lines and len(lines[-1]) + 1 + len(text) <= joined_length:
                lines[-1] += " " + text
            else:
                lines.append(text)
        if len(lines) <= n_lines and max(map(len, lines)) <= line_length:
            break
    return ("\n" if len(lines) <= n_lines else " ").join(lines)


def text_size() -> tuple[float, float]:
    """Height of a line and mean width of a character of tick labels, in inches."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    inches = FontProperties(size=rcParams["ytick.labelsize"]).get_size_in_points() / 72
    return LINE_HEIGHT * inches, CHARACTER_WIDTH * inches
