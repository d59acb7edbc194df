"""Images: above their reconstructions, and decoded from a grid of codes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import ndtri
from sklearn.base import BaseEstimator

from sklearn_vae.data.arrays import Rows, Table
from sklearn_vae.inspection.base import DisplayMixin, as_numbers
from sklearn_vae.metrics import CODES
from sklearn_vae.persistence.validation import check_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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

    X: Rows
    X_reconstructed: Any
    image_shape: Sequence[int]
    X_true: Table | None = None
    n_rows: int = 10
    images_: np.ndarray = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Rows,
        *,
        image_shape: Sequence[int],
        X_true: Table | None = None,
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
        cls._final_step(estimator, None, CODES)
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
        ax = self._set_axes(ax, (0.75 * n_rows + 1.2, 0.75 * n_layers * height / width))
        self.images_ = draw_tiles(ax, images, limits, **style)
        first = ["original"] if n_layers == 2 else ["true", "input"]
        ax.set_yticks(range(n_layers), [*first, "reconstructed"])
        ax.set_xticks([])


@dataclass(kw_only=True, eq=False, repr=False)
class ManifoldDisplay(DisplayMixin):
    """Decoded images of a grid of codes, at quantiles of the standard normal distribution.

    With ``prior="normal"``, each image represents an equal probability of the prior, so that codes
    are closer together where there are more rows [1]_. Inactive components are of no use here:
    their codes are all near 0. Use :meth:`from_estimator` to create one. All parameters are kept as
    attributes.

    Parameters
    ----------
    rows : ndarray of shape (n_steps, n_steps, n_features)
        Decoded rows; the second of the two latent dimensions varies along the first axis.
    values : ndarray of shape (n_steps,)
        Codes along both dimensions, in standard deviations of the prior.
    image_shape : tuple of int
        Shape of an image: (height, width) or (height, width, channels), with 1 or 3 channels.
    limits : tuple of float
        Values of the darkest and the brightest pixel.
    components : sequence of 2 int, default=(0, 1)
        Numbers of the two latent dimensions.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes, matplotlib figure
        Axes and figure of the drawing.
    images_ : ndarray of AxesImage of shape (n_steps, n_steps)
        The images; [0, 0] is that of the smallest codes, at the lower left.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014, figure 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_vae.inspection import ManifoldDisplay
    >>> from sklearn_vae import VAETransformer
    >>> X = load_digits().data[:300]
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> ManifoldDisplay.from_estimator(vae, X, image_shape=(8, 8), n_steps=5).rows.shape
    (5, 5, 64)
    """

    rows: np.ndarray
    values: np.ndarray
    image_shape: Sequence[int]
    limits: tuple[float, float]
    components: Sequence[int] = (0, 1)
    images_: np.ndarray = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Rows,
        *,
        image_shape: Sequence[int],
        components: Sequence[int] | None = None,
        n_steps: int = 15,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Decode and draw a grid of codes.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator with at least two components, or a pipeline or a search that ends
            in one. All other components are fixed at 0.
        X : array-like of shape (n_samples, n_features)
            Rows that determine the darkest and the brightest pixel and the default components.
        image_shape : tuple of int
            Shape of a row.
        components : sequence of 2 int, default=None
            Latent dimensions on the two axes; by default those whose codes vary most.
        n_steps : int, default=15
            Images along each axis.
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to ``ax.imshow``, such as ``cmap="gray_r"``.

        Returns
        -------
        ManifoldDisplay
            The display.
        """
        vae, _ = cls._final_step(estimator, None, (*CODES, "history_"))
        if vae.posterior_.n_variables:
            raise ValueError(
                f"ManifoldDisplay draws codes that are real numbers, and those of "
                f"posterior={vae.posterior_!r} are classes."
            )
        n_steps = check_count("n_steps", n_steps, minimum=2)
        values = ndtri(0.5 + 0.95 * np.linspace(-0.5, 0.5, n_steps))  # most codes lie within
        codes_of_rows, dimensions = cls._codes(estimator, X, components)
        n_components = codes_of_rows.shape[1]
        codes = np.zeros((n_steps, n_steps, n_components))
        codes[..., dimensions[0]] = values
        codes[..., dimensions[1]] = values[:, None]
        decoded = estimator.inverse_transform(codes.reshape(-1, n_components))
        display = cls(
            rows=as_numbers("inverse_transform(Z)", decoded).reshape(n_steps, n_steps, -1),
            values=values,
            image_shape=image_shape,
            limits=value_range(as_numbers("X", X)),
            components=dimensions,
        )
        return display.plot(ax, **kwargs)

    def _draw(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        images, ax = as_images(self.rows, self.image_shape), self._set_axes(ax, (6.5, 6.5))
        self.images_ = draw_tiles(ax, images, self.limits, upward=True, **style)
        ticks = range(0, len(self.values), -(-len(self.values) // 9))
        labels = [f"{self.values[tick]:.1f}" for tick in ticks]
        ax.set_xticks(ticks, labels)
        ax.set_yticks(ticks, labels)
        ax.set(xlabel=f"component {self.components[0]}", ylabel=f"component {self.components[1]}")


def as_images(rows: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Rows of pixels as images: (..., d) -> (..., h, w) or (..., h, w, 3)."""
    shape, n_columns = tuple(np.ravel(image_shape).tolist()), rows.shape[-1]
    are_sizes = all(isinstance(n, int) and n > 0 for n in shape)
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    if not are_sizes or not is_image or math.prod(shape) != n_columns:
        raise ValueError(
            f"image_shape must be (height, width) or (height, width, channels), with 1 or 3 "
            f"channels, for rows of {n_columns} columns. Got {image_shape!r} instead."
        )
    images = rows.reshape(*rows.shape[:-1], *shape)
    return images[..., 0] if shape[2:] == (1,) else images


def draw_tiles(
    ax: "Axes",
    images: np.ndarray,
    limits: tuple[float, float],
    *,
    upward: bool = False,
    cmap: Any = "gray",
    **kwargs: Any,
) -> np.ndarray:
    """Draw images (n_rows, n_columns, height, width), or (..., 3), in a grid.

    The image in row i and column j is centred at (j, i), so that ticks label rows and columns.
    Limits are the values of the darkest and the brightest pixel. With ``upward`` row 0 is at the
    bottom. It returns the artists (n_rows, n_columns).
    """
    import matplotlib as mpl
    from matplotlib.colors import to_rgb

    missing = "#e8a33d"
    colormap = mpl.colormaps.get_cmap(cmap).with_extremes(bad=missing)
    style = {"vmin": limits[0], "vmax": limits[1], **kwargs, "cmap": colormap}
    n_rows, n_columns, height, width = images.shape[:4]
    if images.ndim == 5:  # colours are between 0 and 1
        scaled = np.clip((images - style["vmin"]) / (style["vmax"] - style["vmin"]), 0, 1)
        images = np.where(np.isnan(scaled), to_rgb(missing), scaled)
    artists = np.empty((n_rows, n_columns), dtype=object)
    half = 0.46  # the side of an image, whose centre is 1 from that of the next one
    up = half if upward else -half
    for i, j in np.ndindex(n_rows, n_columns):
        extent = (j - half, j + half, i - up, i + up)
        artists[i, j] = ax.imshow(images[i, j], extent=extent, **style)
    ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(-0.5, n_rows - 0.5), aspect=height / width)
    if not upward:
        ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return artists


def value_range(rows: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value, made to differ if they are equal."""
    if np.isnan(rows).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(rows)), float(np.nanmax(rows))
    return low, high if high > low else low + 1.0
