"""Rows beside their reconstructions, as images or as lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sklearn_vae.inspection.base import (
    CODES,
    DisplayMixin,
    as_numbers,
    column_moments,
    column_names,
    fitted_names,
    label_columns,
)
from sklearn_vae.inspection.image_grid import as_images, draw_tiles, value_range
from sklearn_vae.persistence.validation import check_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TILE = 0.75  # inches
TABLE_SIZE = (7.0, 4.0)
DEFAULT_IMAGES, DEFAULT_LINES = 10, 3
STYLES: dict[str, dict[str, Any]] = {
    "true": {"linestyle": ":", "linewidth": 1.0},
    "input": {"linestyle": "-", "linewidth": 1.4},
    "reconstructed": {"linestyle": "--", "linewidth": 1.4},
}


@dataclass(kw_only=True, eq=False, repr=False)
class ReconstructionDisplay(DisplayMixin):
    """Rows above their reconstructions, as images or as lines over the columns.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create one. All parameters are kept
    as attributes.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Input rows; NaN where a value is missing.
    X_reconstructed : ndarray of shape (n_samples, n_features)
        Their reconstructions.
    X_true : ndarray of shape (n_samples, n_features), default=None
        Rows without noise or missing values.
    image_shape : tuple of int, default=None
        Shape of an image: (height, width), (channels, height, width) or (height, width,
        channels), with 1 or 3 channels; if both of the latter fit, channels
        come first. None draws lines.
    feature_names : list of str, default=None
        Names of the columns; by default their numbers.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes, matplotlib figure
        Axes and figure of the drawing.
    images_ : ndarray of AxesImage of shape (2 or 3, n_rows)
        With ``image_shape``: a row of images of ``X_true``, unless it is None, one of X and one
        of ``X_reconstructed``.
    lines_ : ndarray of Line2D of shape (2 or 3, n_rows)
        Without: lines in the same order, in standardized units of X's columns.

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

    X: np.ndarray
    X_reconstructed: np.ndarray
    X_true: np.ndarray | None = None
    image_shape: Sequence[int] | None = None
    feature_names: Sequence[str] | np.ndarray | None = None
    images_: np.ndarray = field(init=False)
    lines_: np.ndarray = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        X_true: Any = None,
        image_shape: Sequence[int] | None = None,
        feature_names: Sequence[str] | np.ndarray | None = None,
        n_rows: int | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw rows and the ``inverse_transform`` of their codes.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator, or a pipeline or a search that ends in one; or any other with
            ``transform`` and ``inverse_transform``, such as PCA.
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.
        X_true : array-like of shape (n_samples, n_features), default=None
            Rows without noise or missing values.
        image_shape : tuple of int, default=None
            Shape of a row that is an image; None draws lines.
        feature_names : list of str, default=None
            Names of the columns; by default those that the estimator was fitted with.
        n_rows : int, default=None
            Number of rows to draw; by default 10 images, or 3 lines.
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to :meth:`plot`.

        Returns
        -------
        ReconstructionDisplay
            The display.
        """
        vae, _ = cls._final_estimator(estimator, requires=CODES)
        cls._check_decodes_codes_alone(vae)
        return cls.from_predictions(
            X,
            estimator.inverse_transform(estimator.transform(X)),
            X_true=X_true,
            image_shape=image_shape,
            feature_names=fitted_names(estimator, feature_names),
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
        image_shape: Sequence[int] | None = None,
        feature_names: Sequence[str] | np.ndarray | None = None,
        n_rows: int | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw rows and any predictions of them, such as those of ``impute``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Input rows.
        X_reconstructed : array-like of shape (n_samples, n_features)
            Their reconstructions.
        X_true : array-like of shape (n_samples, n_features), default=None
            Rows without noise or missing values.
        image_shape : tuple of int, default=None
            Shape of a row that is an image; None draws lines.
        feature_names : list of str, default=None
            Names of the columns; by default their numbers.
        n_rows : int, default=None
            Number of rows to draw; by default 10 images, or 3 lines.
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to :meth:`plot`.

        Returns
        -------
        ReconstructionDisplay
            The display.
        """
        X = as_numbers("X", X)
        tables = {"X_reconstructed": X_reconstructed, "X_true": X_true}
        for name, rows in tables.items():
            if rows is not None:
                tables[name] = as_numbers(name, rows)
                if tables[name].shape != X.shape:
                    raise ValueError(
                        f"{name} must have the shape of X, {X.shape}. "
                        f"Got {tables[name].shape} instead."
                    )
        display = cls(X=X, **tables, image_shape=image_shape, feature_names=feature_names)
        return display.plot(ax, n_rows=n_rows, **kwargs)

    def plot(self, ax: "Axes | None" = None, *, n_rows: int | None = None, **kwargs: Any) -> Self:
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        n_rows : int, default=None
            Number of rows to draw; by default 10 images, or 3 lines.
        **kwargs : dict
            Passed to ``ax.imshow`` for each image, such as ``cmap="gray_r"``, or to ``ax.plot``
            for each line. Grey levels range from the smallest to the largest value of X.

        Returns
        -------
        ReconstructionDisplay
            The display.
        """
        default = DEFAULT_LINES if self.image_shape is None else DEFAULT_IMAGES
        n_rows = min(default if n_rows is None else check_count("n_rows", n_rows), len(self.X))
        tables = {"true": self.X_true, "input": self.X, "reconstructed": self.X_reconstructed}
        layers = {name: rows[:n_rows] for name, rows in tables.items() if rows is not None}
        if self.image_shape is None:
            self._draw_lines(ax, layers, kwargs)
        else:
            self._draw_images(ax, layers, kwargs)
        return self

    def _draw_images(
        self, ax: "Axes | None", layers: dict[str, np.ndarray], style: dict[str, Any]
    ) -> None:
        images = as_images(np.stack(list(layers.values())), self.image_shape)
        n_layers, n_rows, height, width = images.shape[:4]
        ax = self._set_axes(ax, (TILE * n_rows + 1.2, TILE * n_layers * height / width))
        true = self.X if self.X_true is None else self.X_true
        self.images_ = draw_tiles(ax, images, value_range(true), **style)
        names = list(layers) if "true" in layers else ["original", "reconstructed"]
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks([])

    def _draw_lines(
        self, ax: "Axes | None", layers: dict[str, np.ndarray], style: dict[str, Any]
    ) -> None:
        ax = self._set_axes(ax, TABLE_SIZE)
        names = column_names(self.feature_names, self.X.shape[1])
        true = self.X if self.X_true is None else self.X_true
        mean, scale = column_moments(true)
        scale[scale == 0] = 1.0
        self.lines_ = np.empty((len(layers), len(layers["input"])), dtype=object)
        for i, (name, rows) in enumerate(layers.items()):
            for j, row in enumerate((rows - mean) / scale):
                line = {"color": f"C{j % 10}", **STYLES[name], **style}
                (self.lines_[i, j],) = ax.plot(row, **line)
        label_columns(ax, names)
        ax.set_ylabel("standard deviations")
        self._add_legend(ax, list(layers))

    def _add_legend(self, ax: "Axes", layers: list[str]) -> None:
        """Explain line styles, which distinguish layers; colours distinguish rows."""
        from matplotlib.lines import Line2D

        names = {"input": "input" if "true" in layers else "original"}
        handles = [
            Line2D([], [], color="0.3", label=names.get(name, name), **STYLES[name])
            for name in layers
        ]
        ax.legend(handles=handles, frameon=False, fontsize="small")
