"""Reconstructions: rows, and the rows that come back from their codes."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sklearn_vae.inspection.axes import axes_for, check_matplotlib, name_columns
from sklearn_vae.inspection.image_grid import (
    as_images,
    aspect_of,
    check_image_shape,
    draw_tiles,
    limits_of,
)
from sklearn_vae.inspection.validation import as_numbers, check_count, check_has_codes, column_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

TILE = 0.75  # inches
TABLE_SIZE = (7.0, 4.0)
FEW_IMAGES, FEW_LINES = 10, 3
STYLES: dict[str, dict[str, Any]] = {
    "true": {"linestyle": ":", "linewidth": 1.0},
    "given": {"linestyle": "-", "linewidth": 1.4},
    "reconstructed": {"linestyle": "--", "linewidth": 1.4},
}


class ReconstructionDisplay:
    """Rows above the rows that a model makes of them, as images or as lines over columns.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters
    are kept as attributes.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows that the model was given; NaN where a cell is missing.
    X_reconstructed : ndarray of shape (n_samples, n_features)
        What it made of them.
    X_true : ndarray of shape (n_samples, n_features), default=None
        What X was before noise was added or cells were hidden.
    image_shape : tuple of int, default=None
        (height, width), (channels, height, width) or (height, width, channels), with 1 or 3
        channels; where both of the latter fit, the first is meant. None draws lines.
    feature_names : list of str, default=None
        Names of the columns; None numbers them.

    Attributes
    ----------
    ax_ : matplotlib axes
        What it was drawn on.
    figure_ : matplotlib figure
        Its figure.
    images_ : ndarray of AxesImage of shape (2 or 3, n_rows)
        With ``image_shape``: one row of images of ``X_true``, where it was given, one of X and
        one of ``X_reconstructed``.
    lines_ : ndarray of Line2D of shape (2 or 3, n_rows)
        Without: lines in the same order, in standard deviations of X's columns from
        their means.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_vae.inspection import ReconstructionDisplay
    >>> from sklearn_vae import VAETransformer
    >>> X = load_digits().data[:300]
    >>> vae = VAETransformer(n_components=8, max_iter=20, random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(vae, X, image_shape=(8, 8), n_rows=5)
    >>> display.images_.shape
    (2, 5)
    """

    ax_: "Axes"
    figure_: "Figure | SubFigure"
    images_: np.ndarray
    lines_: np.ndarray

    def __init__(
        self,
        *,
        X: np.ndarray,
        X_reconstructed: np.ndarray,
        X_true: np.ndarray | None = None,
        image_shape: Any = None,
        feature_names: Any = None,
    ) -> None:
        self.X = X
        self.X_reconstructed = X_reconstructed
        self.X_true = X_true
        self.image_shape = image_shape
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        X_true: Any = None,
        image_shape: Any = None,
        feature_names: Any = None,
        n_rows: int | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw rows and what ``inverse_transform`` makes of their codes.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator, or a pipeline or a search that ends in one. Any other with
            ``transform`` and ``inverse_transform`` does as well, such as PCA.
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.
        X_true : array-like of shape (n_samples, n_features), default=None
            What X was before noise was added or cells were hidden.
        image_shape : tuple of int, default=None
            Shape of a row that is an image; None draws lines.
        feature_names : list of str, default=None
            Names of the columns; None takes those that the estimator was fitted with.
        n_rows : int, default=None
            How many rows are drawn, the first ones; None draws 10 images, or 3 lines.
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to :meth:`plot`.

        Returns
        -------
        ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator gives no rows for codes.
        ValueError
            If ``image_shape``, ``feature_names`` or ``X_true`` does not fit X, or X holds
            more than numbers.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls)
        check_has_codes(estimator, cls)
        back = estimator.inverse_transform(estimator.transform(X))
        names = getattr(estimator, "feature_names_in_", None)
        return cls.from_predictions(
            X,
            back,
            X_true=X_true,
            image_shape=image_shape,
            feature_names=names if feature_names is None else feature_names,
            n_rows=n_rows,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        X_reconstructed: Any,
        *,
        X_true: Any = None,
        image_shape: Any = None,
        feature_names: Any = None,
        n_rows: int | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw rows and what some model made of them, such as those that ``impute`` gives.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that the model was given.
        X_reconstructed : array-like of shape (n_samples, n_features)
            What it made of them.
        X_true : array-like of shape (n_samples, n_features), default=None
            What X was before noise was added or cells were hidden.
        image_shape : tuple of int, default=None
            Shape of a row that is an image; None draws lines.
        feature_names : list of str, default=None
            Names of the columns; None numbers them.
        n_rows : int, default=None
            How many rows are drawn, the first ones; None draws 10 images, or 3 lines.
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to :meth:`plot`.

        Returns
        -------
        ReconstructionDisplay
            The display, drawn.
        """
        X = as_numbers("X", X)
        others = {"X_reconstructed": X_reconstructed, "X_true": X_true}
        for name, rows in others.items():
            if rows is not None:
                others[name] = as_numbers(name, rows)
                if others[name].shape != X.shape:
                    raise ValueError(
                        f"{name} must have the shape of X, {X.shape}. "
                        f"Got {others[name].shape} instead."
                    )
        display = cls(X=X, **others, image_shape=image_shape, feature_names=feature_names)
        return display.plot(ax, n_rows=n_rows, **kwargs)

    def plot(self, ax: "Axes | None" = None, *, n_rows: int | None = None, **kwargs: Any) -> Self:
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        n_rows : int, default=None
            How many rows are drawn, the first ones; None draws 10 images, or 3 lines.
        **kwargs : dict
            Handed to ``ax.imshow`` for each image, such as ``cmap="gray_r"``, or to ``ax.plot``
            for each line. Grey levels go from the least to the largest value of X.

        Returns
        -------
        ReconstructionDisplay
            The display itself.
        """
        default = FEW_LINES if self.image_shape is None else FEW_IMAGES
        n_rows = min(default if n_rows is None else check_count("n_rows", n_rows), len(self.X))
        layers = {"true": self.X_true, "given": self.X, "reconstructed": self.X_reconstructed}
        shown = {name: rows[:n_rows] for name, rows in layers.items() if rows is not None}
        if self.image_shape is None:
            self._draw_lines(ax, shown, kwargs)
        else:
            self._draw_images(ax, shown, kwargs)
        return self

    def _draw_images(
        self, ax: "Axes | None", shown: dict[str, np.ndarray], style: dict[str, Any]
    ) -> None:
        shape = check_image_shape(self.image_shape, self.X.shape[1])
        rows = np.stack(list(shown.values()))  # (2 or 3, n_rows, d)
        ax = axes_for(self, ax, (TILE * rows.shape[1] + 1.2, TILE * len(rows) * aspect_of(shape)))
        known = self.X if self.X_true is None else self.X_true
        self.images_ = draw_tiles(ax, as_images(rows, shape), limits_of(known), **style)
        # without a third layer, what was given is the truth
        names = list(shown) if "true" in shown else ["original", "reconstructed"]
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks([])
        self.ax_, self.figure_ = ax, ax.figure

    def _draw_lines(
        self, ax: "Axes | None", shown: dict[str, np.ndarray], style: dict[str, Any]
    ) -> None:
        ax = axes_for(self, ax, TABLE_SIZE)
        names = column_names(self.feature_names, self.X.shape[1])
        known = self.X if self.X_true is None else self.X_true
        centre, scale = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        scale[scale == 0] = 1.0
        n_rows = len(shown["given"])
        colours = [f"C{k % 10}" for k in range(n_rows)]
        self.lines_ = np.empty((len(shown), n_rows), dtype=object)
        for i, (name, rows) in enumerate(shown.items()):
            own = {**STYLES[name], **style}
            for j, row in enumerate((rows - centre) / scale):
                (self.lines_[i, j],) = ax.plot(row, **{"color": colours[j], **own})
        name_columns(ax, names)
        ax.set_ylabel("standard deviations")
        self._add_legend(ax, list(shown))
        self.ax_, self.figure_ = ax, ax.figure

    def _add_legend(self, ax: "Axes", layers: list[str]) -> None:
        """Say what dashes mean; colours only tell rows apart."""
        from matplotlib.lines import Line2D

        names = {"given": "given" if "true" in layers else "original"}
        handles = [
            Line2D([], [], color="0.3", label=names.get(own, own), **STYLES[own]) for own in layers
        ]
        ax.legend(handles=handles, frameon=False, fontsize="small")
