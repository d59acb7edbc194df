"""Grids of images on one pair of axes."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour of missing pixels.
MISSING = "#e8a33d"
# Half the side of an image, whose centre is 1 from that of the next one.
HALF = 0.46


def as_images(rows: np.ndarray, image_shape: Any) -> np.ndarray:
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
    """Draw images in a grid.

    The image in row i and column j is centred at (j, i), so that ticks label rows and columns.

    Parameters
    ----------
    ax : matplotlib axes
        Axes to draw on.
    images : ndarray of shape (n_rows, n_columns, height, width) or (..., 3)
        Grey levels or colours.
    limits : tuple of float
        Values of the darkest and the brightest pixel.
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
    from matplotlib.colors import to_rgb

    colormap = mpl.colormaps[cmap] if isinstance(cmap, str) else cmap
    style = {
        "vmin": limits[0],
        "vmax": limits[1],
        **kwargs,
        "cmap": colormap.with_extremes(bad=MISSING),
    }
    n_rows, n_columns, height, width = images.shape[:4]
    if images.ndim == 5:  # colours are between 0 and 1
        scaled = np.clip((images - style["vmin"]) / (style["vmax"] - style["vmin"]), 0, 1)
        images = np.where(np.isnan(scaled), to_rgb(MISSING), scaled)
    artists = np.empty((n_rows, n_columns), dtype=object)
    half = HALF if upward else -HALF
    for i, j in np.ndindex(n_rows, n_columns):
        extent = (j - HALF, j + HALF, i - half, i + half)
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
