"""The latent space: rows where their codes are."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d

from sklearn_vae.inspection.axes import axes_for, check_matplotlib
from sklearn_vae.inspection.validation import as_numbers, kl_of, two_components

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure, SubFigure

# Numbers with more values than this are no classes, but a quantity.
MOST_CLASSES = 20
CLASSES_OF_TAB10 = 10
SIZE = (6.0, 5.0)


class LatentSpaceDisplay:
    """Codes of rows in the plane of two latent dimensions.

    It is recommended to use :meth:`from_estimator`. All parameters are kept as attributes.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, 2)
        Mean codes in the two dimensions, which have no unit: the prior's standard deviation
        is 1 in each of them.
    components : sequence of 2 int, default=(0, 1)
        Which latent dimensions they are.
    y : array-like of shape (n_samples,), default=None
        What the rows are coloured by: classes, which get a legend, or a quantity, which gets a
        colour bar.
    kl : array-like of shape (2,), default=None
        Nats that each of the two dimensions says of a row, on average.

    Attributes
    ----------
    ax_ : matplotlib axes
        What it was drawn on.
    figure_ : matplotlib figure
        Its figure.
    scatters_ : list of PathCollection
        One per class, in the order of the classes, or one.

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

    ax_: "Axes"
    figure_: "Figure | SubFigure"
    scatters_: "list[PathCollection]"

    def __init__(
        self, *, codes: Any, components: Any = (0, 1), y: Any = None, kl: Any = None
    ) -> None:
        self.codes = codes
        self.components = components
        self.y = y
        self.kl = kl

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        components: Any = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the codes that a fitted estimator gives.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator with at least two components, or a pipeline or a search that ends
            in one.
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.
        y : array-like of shape (n_samples,), default=None
            What the rows are coloured by.
        components : sequence of 2 int, default=None
            Latent dimensions on the two axes; None takes the two of the most KL.
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to ``ax.scatter``.

        Returns
        -------
        LatentSpaceDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no codes.
        ValueError
            If it has one component, or none of these numbers, or y is not as long as X.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls)
        kl = kl_of(estimator, X, cls)
        shown = two_components(components, len(kl), kl, cls)
        if y is not None:
            check_consistent_length(X, y)
        codes = as_numbers("transform(X)", estimator.transform(X))[:, shown]
        return cls(codes=codes, components=shown, y=y, kl=kl[shown]).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> Self:
        """Draw the codes.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to ``ax.scatter``.

        Returns
        -------
        LatentSpaceDisplay
            The display itself.
        """
        ax = axes_for(self, ax, SIZE)
        style = {"s": 14, "linewidths": 0, **kwargs}
        y = None if self.y is None else column_or_1d(self.y)
        if y is None:
            self.scatters_ = [ax.scatter(*self.codes.T, **style)]
        elif _are_classes(y):
            self.scatters_ = self._scatter_classes(ax, y, style)
        else:
            self.scatters_ = [ax.scatter(*self.codes.T, **{"c": y.astype(float), **style})]
            ax.figure.colorbar(self.scatters_[0], ax=ax, label=getattr(self.y, "name", None))
        ax.set(xlabel=self._name(0), ylabel=self._name(1))
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _scatter_classes(
        self, ax: "Axes", y: np.ndarray, style: dict[str, Any]
    ) -> "list[PathCollection]":
        import matplotlib as mpl

        classes = np.unique(y)
        name = "tab10" if len(classes) <= CLASSES_OF_TAB10 else "tab20"
        colours = mpl.colormaps[name]
        scatters = [
            ax.scatter(*self.codes[y == own].T, **{"color": colours(k % colours.N), **style})
            for k, own in enumerate(classes)
        ]
        # beside the codes, which leave no corner free
        ax.legend(
            scatters,
            [str(own) for own in classes],
            title=getattr(self.y, "name", None),
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            frameon=False,
            markerscale=1.8,
            handletextpad=0.1,
            ncols=1 + len(classes) // (MOST_CLASSES + 1),
        )
        return scatters

    def _name(self, axis: int) -> str:
        name = f"component {self.components[axis]}"
        return name if self.kl is None else f"{name} (KL {self.kl[axis]:.2f} nats)"


def _are_classes(y: np.ndarray) -> bool:
    """Whether y names classes: words, or a few whole numbers."""
    if y.dtype.kind not in "iuf":
        return True
    return len(np.unique(y)) <= MOST_CLASSES and bool((y == np.round(y)).all())
