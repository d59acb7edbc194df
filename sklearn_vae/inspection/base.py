"""Base of the displays: validation of estimators and components, axes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

from sklearn_vae.data.arrays import Rows, as_array
from sklearn_vae.metrics import CODES, final_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


class DisplayMixin:
    """Base of the displays, which import matplotlib when they draw.

    ``from_estimator`` raises ImportError if matplotlib is not installed, and NotFittedError or
    TypeError if the estimator is not fitted or of the wrong type. It raises ValueError if another
    argument is invalid.
    """

    ax_: "Axes"
    figure_: "Figure | SubFigure"

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to matplotlib's method that draws, as in ``from_estimator``.

        Returns
        -------
        Display
            The display.
        """
        self._check_matplotlib()
        from matplotlib.axes import Axes

        if ax is not None and not isinstance(ax, Axes):
            raise TypeError(f"ax must be matplotlib axes or None. Got {type(ax).__name__} instead.")
        self._draw(ax, kwargs)
        return self

    def _draw(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        """Draw with options of matplotlib."""
        raise NotImplementedError

    @classmethod
    def _check_matplotlib(cls) -> None:
        try:
            import matplotlib  # noqa: F401, ICN001
        except ImportError as error:
            raise ImportError(
                f"{cls.__name__} needs matplotlib, which is not installed. "
                f"`pip install sklearn_vae[plot]` installs it."
            ) from error

    @classmethod
    def _final_step(cls, estimator: BaseEstimator, X: Rows | None, *needs: Any) -> tuple[Any, Any]:
        """Check that matplotlib is installed, and return what ``final_step`` does."""
        cls._check_matplotlib()
        return final_step(estimator, X, cls.__name__, *needs)

    @classmethod
    def _codes(
        cls, estimator: BaseEstimator, X: Rows, components: Sequence[int] | None
    ) -> tuple[np.ndarray, list[int]]:
        """Return codes, and the components on the two axes, by default those of most variance."""
        vae, rows = cls._final_step(estimator, X, (*CODES, "history_"))
        codes = as_numbers("transform(X)", vae.transform(rows))
        n_components = codes.shape[1]
        if n_components == 1:
            raise ValueError(
                f"{cls.__name__} needs at least two components, and the estimator has 1."
            )
        if components is None:
            by_variance = np.argsort(-codes.var(axis=0), kind="stable")
            return codes, [0, 1] if n_components == 2 else by_variance[:2].tolist()
        indices = np.ravel(components)
        are_two = len(indices) == 2 and len({*indices.tolist()} & {*range(n_components)}) == 2
        if indices.dtype.kind != "i" or not are_two:
            raise ValueError(
                f"components must be 2 different integers from 0 to {n_components - 1}, or None. "
                f"Got {components!r} instead."
            )
        return codes, indices.tolist()

    def _set_axes(self, ax: "Axes | None", size: tuple[float, float]) -> "Axes":
        """Set ``ax_`` and ``figure_``, to a new figure if ``ax`` is None, and return the axes."""
        from matplotlib import pyplot as plt

        self.ax_ = plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        return self.ax_


def as_numbers(name: str, X: Rows) -> np.ndarray:
    """Rows as float64, NaN where a value is missing."""
    try:
        return check_array(
            as_array(X), dtype=np.float64, ensure_all_finite="allow-nan", input_name=name
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a table of numbers to be drawn: {error}") from error
