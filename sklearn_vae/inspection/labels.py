"""Labels of bars: a column's name, its value and its expected value, in lines that fit."""

from collections.abc import Sequence
from datetime import datetime
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sklearn_vae.data.arrays import is_missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Longest line with several parts, longest line at all and most lines of a new figure's labels.
JOINED_LENGTH, LINE_LENGTH, MAX_LINES = 48, 60, 3
# Texts are not shortened below this number of characters, which most numbers have.
MIN_TEXT_LENGTH = 12
# Longest line relative to the width of the axes, where these are given.
RELATIVE_LENGTH = 0.75
# Mean width of a character and height of a line, relative to the size of the font.
CHARACTER_WIDTH, LINE_HEIGHT = 0.6, 1.2


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


def format_value(value: Any) -> str:
    """A cell as text in one line.

    Whole numbers below 10^15 are written in full, other numbers with four digits, times to
    seconds, and dates without a time.
    """
    if is_missing(value):
        return "missing"
    if isinstance(value, datetime):
        text = value.isoformat(sep=" ", timespec="seconds")
        return text.removesuffix(" 00:00:00")
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return " ".join(str(value).split())
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.4g}"
