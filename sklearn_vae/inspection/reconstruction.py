"""Images above their reconstructions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sklearn_vae.inspection.base import CODES, DisplayMixin, as_numbers
from sklearn_vae.inspection.image_grid import as_images, draw_tiles, value_range
from sklearn_vae.persistence.validation import check_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TILE = 0.75  # inches


@dataclass(kw_only=True, eq=False, repr=False)
class ReconstructionDisplay(DisplayMixin):
    """Images above their reconstructions.

    Use :meth:`from_estimator` to create one. All parameters are kept as attributes; give them to
    draw other predictions of rows, such as those of ``impute``.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Images as rows; NaN where a pixel is missing.
    X_reconstructed : array-like of shape (n_samples, n_features)
        Their reconstructions.
    image_shape : tuple of int
        Shape of an image: (height, width) or (height, width, channels), with 1 or 3 channels.
    X_true : array-like of shape (n_samples, n_features), default=None
        Images without noise or missing pixels.
    n_rows : int, default=10
        Number of rows to draw.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes, matplotlib figure
        Axes and figure of the drawing.
    images_ : ndarray of AxesImage of shape (2 or 3, n_rows)
        A row of images of ``X_true``, unless it is None, one of X and one of ``X_reconstructed``.

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

    X: Any
    X_reconstructed: Any
    image_shape: Sequence[int]
    X_true: Any = None
    n_rows: int = 10
    images_: np.ndarray = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        image_shape: Sequence[int],
        X_true: Any = None,
        n_rows: int = 10,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw images and the ``inverse_transform`` of their codes.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator, or a pipeline or a search that ends in one; or any other with
            ``transform`` and ``inverse_transform``, such as PCA.
        X : array-like of shape (n_samples, n_features)
            Images as rows, in the units of the training rows.
        image_shape : tuple of int
            Shape of a row.
        X_true : array-like of shape (n_samples, n_features), default=None
            Images without noise or missing pixels.
        n_rows : int, default=10
            Number of rows to draw.
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to ``ax.imshow`` for each image, such as ``cmap="gray_r"``. Grey levels range
            from the smallest to the largest value of ``X_true`` or X.

        Returns
        -------
        ReconstructionDisplay
            The display.
        """
        vae, _ = cls._final_estimator(estimator, requires=CODES)
        cls._check_decodes_codes_alone(vae)
        display = cls(
            X=X,
            X_reconstructed=estimator.inverse_transform(estimator.transform(X)),
            image_shape=image_shape,
            X_true=X_true,
            n_rows=n_rows,
        )
        return display.plot(ax, **kwargs)

    def _draw(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        tables = {"X_true": self.X_true, "X": self.X, "X_reconstructed": self.X_reconstructed}
        layers = {name: as_numbers(name, X) for name, X in tables.items() if X is not None}
        shape = layers["X"].shape
        for name, rows in layers.items():
            if rows.shape != shape:
                raise ValueError(
                    f"{name} must have the shape of X, {shape}. Got {rows.shape} instead."
                )
        limits = value_range(next(iter(layers.values())))
        n_rows = check_count("n_rows", self.n_rows)
        images = as_images(np.stack([rows[:n_rows] for rows in layers.values()]), self.image_shape)
        n_layers, n_rows, height, width = images.shape[:4]
        ax = self._set_axes(ax, (TILE * n_rows + 1.2, TILE * n_layers * height / width))
        self.images_ = draw_tiles(ax, images, limits, **style)
        first = ["original"] if n_layers == 2 else ["true", "input"]
        ax.set_yticks(range(n_layers), [*first, "reconstructed"])
        ax.set_xticks([])
