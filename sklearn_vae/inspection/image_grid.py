"""Grids of images on one pair of axes."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour of missing pixels.
MISSING = "#e8a33d"
RGB = 3


def check_image_shape(image_shape: Any, n_columns: int) -> tuple[int, ...]:
    """Image shape as a tuple whose product is the number of columns."""
    shape = tuple(np.ravel(image_shape).tolist())
    is_shape = len(shape) in (2, 3) and all(isinstance(n, int) and n > 0 for n in shape)
    if is_shape and len(shape) == 3:
        is_shape = bool({shape[0], shape[2]} & {1, RGB})
    if not is_shape:
        raise ValueError(
            f"image_shape must be (height, width), (channels, height, width) or (height, width, "
            f"channels) with 1 or 3 channels. Got {image_shape!r} instead."
        )
    if np.prod(shape) != n_columns:
        raise ValueError(
            f"image_shape must have {n_columns} pixels, as the rows have {n_columns} columns. "
            f"Got {image_shape!r}, of {np.prod(shape)} pixels, instead."
        )
    return shape


def as_images(rows: np.ndarray, image_shape: Any) -> np.ndarray:
    """Rows of pixels as images, channels last: (..., d) -> (..., h, w) or (..., h, w, 3)."""
    shape = check_image_shape(image_shape, rows.shape[-1])
    images = rows.reshape(*rows.shape[:-1], *shape)
    if len(shape) == 2:
        return images
    if shape[0] in (1, RGB):
        images = np.moveaxis(images, -3, -1)
    return images[..., 0] if images.shape[-1] == 1 else images


def draw_tiles(
    ax: "Axes",
    images: np.ndarray,
    limits: tuple[float, float] | None,
    *,
    gap: float = 0.08,
    upward: bool = False,
    cmap: Any = "gray",
    **kwargs: Any,
) -> np.ndarray:
    """Draw images in a grid.

    The image in row i and column j is centred at (j, i), so that ticks label rows and columns.

    Parameters
    ----------
    ax : matplotlib axes
        Axes to draw on.
    images : ndarray of shape (n_rows, n_columns, height, width) or (..., 3)
        Grey levels or colours.
    limits : tuple of float or None
        Values of the darkest and the brightest pixel; None for the extremes of the images.
    gap : float, default=0.08
        Gap between images, as a fraction of their distance.
    upward : bool, default=False
        Whether row 0 is at the bottom.
    cmap : str or matplotlib colour map, default="gray"
        Colour map of grey levels.
    **kwargs : dict
        Passed to ``ax.imshow``.

    Returns
    -------
    ndarray of AxesImage of shape (n_rows, n_columns)
        The artists.
    """
    import matplotlib as mpl

    colormap = mpl.colormaps[cmap] if isinstance(cmap, str) else cmap
    low, high = value_range(images) if limits is None else limits
    style = {"vmin": low, "vmax": high, **kwargs}
    style["cmap"] = colormap.with_extremes(bad=MISSING)
    half = 0.5 - gap / 2
    n_rows, n_columns, height, width = images.shape[:4]
    if images.ndim == 5:
        images = _rgb(images, style["vmin"], style["vmax"])
    artists = np.empty((n_rows, n_columns), dtype=object)
    for i, j in np.ndindex(n_rows, n_columns):
        bottom, top = (i - half, i + half) if upward else (i + half, i - half)
        extent = (j - half, j + half, bottom, top)
        artists[i, j] = ax.imshow(images[i, j], extent=extent, **style)
    ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(-0.5, n_rows - 0.5), aspect=height / width)
    if not upward:
        ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return artists


def _rgb(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Colours scaled to between 0 and 1."""
    from matplotlib.colors import to_rgb

    scaled = np.clip((pixels - low) / (high - low), 0, 1)
    return np.where(np.isnan(scaled), to_rgb(MISSING), scaled)


def value_range(rows: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value, made to differ if they are equal."""
    if np.isnan(rows).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(rows)), float(np.nanmax(rows))
    return low, high if high > low else low + 1.0
