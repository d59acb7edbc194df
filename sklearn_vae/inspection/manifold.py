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
    latent_kl,
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
        Shape of an image: (height, width), (channels, height, width) or (height, width,
        channels), with 1 or 3 channels.
    limits : tuple of float, default=None
        Values of the darkest and the brightest pixel; by default the extremes of ``rows``.
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
    >>> ManifoldDisplay.from_estimator(vae, image_shape=(8, 8), n_steps=5).rows.shape
    (5, 5, 64)
    """

    rows: np.ndarray
    values: np.ndarray
    image_shape: Sequence[int]
    limits: tuple[float, float] | None = None
    components: Sequence[int] = (0, 1)
    images_: np.ndarray = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        image_shape: Sequence[int],
        components: Sequence[int] | None = None,
        n_steps: int = 15,
        coverage: float = 0.96,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Decode and draw a grid of codes.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator with at least two components, or a pipeline or a search that ends
            in one. All other components are fixed at 0.
        X : array-like of shape (n_samples, n_features), default=None
            Rows that determine the darkest and the brightest pixel and the default components.
        image_shape : tuple of int
            Shape of a row.
        components : sequence of 2 int, default=None
            Latent dimensions on the two axes; by default those with the largest KL, or without
            X the first two.
        n_steps : int, default=15
            Images along each axis.
        coverage : float, default=0.96
            Probability of the prior between the smallest and the largest code of a dimension.
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to :meth:`plot`.

        Returns
        -------
        ManifoldDisplay
            The display.
        """
        needs_kl = X is not None and components is None
        requires = (*CODES, "history_") if needs_kl else CODES
        vae, rows = cls._final_estimator(estimator, X, requires=requires)
        cls._check_decodes_codes_alone(vae)
        if vae.architecture_.posterior.has_categorical:
            raise ValueError(
                f"ManifoldDisplay draws codes that are real numbers, and some of those of "
                f"posterior={vae.architecture_.posterior!r} are classes."
            )
        values = ndtri(central_quantiles(n_steps, coverage))
        n_components = len(vae.get_feature_names_out())
        kl = latent_kl(vae, rows) if needs_kl else None
        dimensions = cls._two_components(components, n_components, kl)
        codes = np.zeros((n_steps, n_steps, n_components))
        codes[..., dimensions[0]] = values
        codes[..., dimensions[1]] = values[:, None]
        decoded = estimator.inverse_transform(codes.reshape(-1, n_components))
        rows = as_numbers("inverse_transform(Z)", decoded).reshape(n_steps, n_steps, -1)
        display = cls(
            rows=rows,
            values=values,
            image_shape=image_shape,
            limits=None if X is None else value_range(as_numbers("X", X)),
            components=dimensions,
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, *, gap: float = 0.0, **kwargs: Any) -> Self:
        """Draw the grid.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        gap : float, default=0.0
            Gap between images, as a fraction of their distance.
        **kwargs : dict
            Passed to ``ax.imshow``, such as ``cmap="gray_r"``.

        Returns
        -------
        ManifoldDisplay
            The display.
        """
        images = as_images(self.rows, self.image_shape)
        ax = self._set_axes(ax, SIZE)
        self.images_ = draw_tiles(ax, images, self.limits, gap=gap, upward=True, **kwargs)
        ticks = range(0, len(self.values), -(-len(self.values) // MAX_TICKS))
        labels = [f"{self.values[tick]:.1f}" for tick in ticks]
        ax.set_xticks(ticks, labels)
        ax.set_yticks(ticks, labels)
        ax.set(xlabel=f"component {self.components[0]}", ylabel=f"component {self.components[1]}")
        return self
