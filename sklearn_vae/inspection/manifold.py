"""Decoded images of a grid of codes in two latent dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import ndtri

from sklearn_vae.inspection.base import (
    CODES,
    DisplayMixin,
    as_numbers,
    central_quantiles,
)
from sklearn_vae.inspection.image_grid import as_images, draw_tiles, value_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (6.5, 6.5)
MAX_TICKS = 9


@dataclass(kw_only=True, eq=False, repr=False)
class ManifoldDisplay(DisplayMixin):
    """Decoded images of a grid of codes, at quantiles of the standard normal prior.

    Each image represents an equal probability of the prior, so that codes are closer together
    where there are more rows [1]_. Inactive components are of no use here: their codes are all
    near 0. Use :meth:`from_estimator` to create one. All parameters are kept as attributes.

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
        estimator: Any,
        X: Any,
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
        vae, rows = cls._final_estimator(estimator, X, requires=(*CODES, "history_"))
        cls._check_decodes_codes_alone(vae)
        if vae.architecture_.posterior.has_categorical:
            raise ValueError(
                f"ManifoldDisplay draws codes that are real numbers, and some of those of "
                f"posterior={vae.architecture_.posterior!r} are classes."
            )
        values = ndtri(central_quantiles(n_steps))
        codes_of_rows = as_numbers("transform(X)", vae.transform(rows))
        dimensions = cls._two_components(components, codes_of_rows)
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
        images, ax = as_images(self.rows, self.image_shape), self._set_axes(ax, SIZE)
        self.images_ = draw_tiles(ax, images, self.limits, upward=True, **style)
        ticks = range(0, len(self.values), -(-len(self.values) // MAX_TICKS))
        labels = [f"{self.values[tick]:.1f}" for tick in ticks]
        ax.set_xticks(ticks, labels)
        ax.set_yticks(ticks, labels)
        ax.set(xlabel=f"component {self.components[0]}", ylabel=f"component {self.components[1]}")
