"""Scatter plot of codes in two latent dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import narwhals as nw
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length, column_or_1d

from sklearn_vae.data.arrays import Rows, Target, find_objects, is_missing
from sklearn_vae.inspection.base import DisplayMixin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection


@dataclass(kw_only=True, eq=False, repr=False)
class LatentSpaceDisplay(DisplayMixin):
    """Scatter plot of the codes of rows in two latent dimensions.

    Use :meth:`from_estimator` to create one. All parameters are kept as attributes.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, 2)
        Mean codes in the two dimensions, in standard deviations of the prior.
    components : sequence of 2 int, default=(0, 1)
        Numbers of the two latent dimensions.
    y : array-like of shape (n_samples,), default=None
        Colour of the rows: classes, with a legend if they are at most 20, or continuous values or
        dates, with a colour bar. Rows with a missing value are grey.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes, matplotlib figure
        Axes and figure of the drawing.
    scatters_ : list of PathCollection
        One per class, in the order of ordered categories or sorted, or a single one; then one of
        the rows with a missing value of ``y``, if there are any.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae.inspection import LatentSpaceDisplay
    >>> from sklearn_vae import VAETransformer
    >>> X, y = load_iris(return_X_y=True)
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(vae, X, y)
    >>> display.codes.shape, len(display.scatters_)
    ((150, 2), 3)
    """

    codes: Any
    components: Sequence[int] = (0, 1)
    y: Target = None
    scatters_: "list[PathCollection]" = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Rows,
        y: Target = None,
        *,
        components: Sequence[int] | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the codes of rows.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator with at least two components, or a pipeline or a search that ends
            in one.
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.
        y : array-like of shape (n_samples,), default=None
            Colour of the rows.
        components : sequence of 2 int, default=None
            Latent dimensions on the two axes; by default those whose codes vary most.
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to ``ax.scatter``.

        Returns
        -------
        LatentSpaceDisplay
            The display.
        """
        codes, dimensions = cls._codes(estimator, X, components)
        if y is not None:
            check_consistent_length(codes, y)
        return cls(codes=codes[:, dimensions], components=dimensions, y=y).plot(ax, **kwargs)

    def _draw(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        import matplotlib as mpl
        import matplotlib.dates

        ax = self._set_axes(ax, (6, 5))
        ax.set(xlabel=f"component {self.components[0]}", ylabel=f"component {self.components[1]}")
        style = {"s": 14, "linewidths": 0, **style}
        if self.y is None:
            self.scatters_ = [ax.scatter(*self.codes.T, **style)]
            return
        y, title = column_or_1d(self.y), getattr(self.y, "name", None)
        missing = find_objects(is_missing, y)
        codes, y = self.codes[~missing], y[~missing]
        y = np.array(y.tolist()) if y.dtype == object else y  # as beside None
        is_date = y.dtype.kind == "M"
        y = mpl.dates.date2num(y) if is_date else y
        classes = _in_order(np.unique(y), self.y)
        are_many = len(classes) > 20
        is_continuous = is_date or (
            y.dtype.kind in "iuf" and (are_many or bool((y != np.round(y)).any()))
        )
        if is_continuous:
            self.scatters_ = [ax.scatter(*codes.T, **{"c": y, **style})]
            ticks = mpl.dates.AutoDateLocator() if is_date else None
            form = mpl.dates.AutoDateFormatter(ticks) if ticks else None
            ax.figure.colorbar(self.scatters_[0], ax=ax, label=title, ticks=ticks, format=form)
        else:
            colormap = mpl.colormaps["tab10" if len(classes) <= 10 else "tab20"]
            self.scatters_ = [
                ax.scatter(
                    *codes[y == label].T,
                    **{"color": colormap(k % colormap.N), "label": str(label), **style},
                )
                for k, label in enumerate(classes)
            ]
        if missing.any():
            # behind the others, and without a colormap
            options = "c", "cmap", "norm", "vmin", "vmax"
            grey = {name: style[name] for name in style if name not in options}
            grey = {"color": "lightgrey", "zorder": 0.9, "label": "missing", **grey}
            self.scatters_.append(ax.scatter(*self.codes[missing].T, **grey))
        if not (is_continuous or are_many):
            # outside the axes, whose corners hold codes
            ax.legend(title=title, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _in_order(classes: np.ndarray, y: Target) -> np.ndarray:
    """Put classes in the order of their categories, if y is a series of ordered ones."""
    series = nw.from_native(y, pass_through=True, series_only=True)
    if not isinstance(series, nw.Series) or not isinstance(series.dtype, nw.Enum):
        return classes
    order = [value for value in series.dtype.categories if value in classes]
    return np.array(order, dtype=classes.dtype)
