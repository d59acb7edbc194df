"""The manifold: images for a grid of codes in the plane of two latent dimensions."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import ndtri

from sklearn_vae.inspection.axes import axes_for, check_matplotlib
from sklearn_vae.inspection.image_grid import as_images, check_image_shape, draw_tiles, limits_of
from sklearn_vae.inspection.validation import (
    as_numbers,
    check_count,
    check_has_codes,
    check_share,
    kl_of,
    n_components_of,
    two_components,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

SIZE = (6.5, 6.5)
MOST_TICKS = 9


class ManifoldDisplay:
    """Images that a grid of codes stands for, at quantiles of the standard normal.

    Each image of the grid stands for an equal share of the prior, so that codes lie closer
    together where there are more rows [1]_. A component that has fallen silent is of no use here:
    no row has such codes. It is recommended to use :meth:`from_estimator`. All
    parameters are kept as attributes.

    Parameters
    ----------
    rows : ndarray of shape (n_steps, n_steps, n_features)
        Mean rows; the second of the two latent dimensions goes along the first axis.
    values : ndarray of shape (n_steps,)
        Codes along both dimensions, which have no unit: the prior's standard deviation is 1.
    image_shape : tuple of int
        (height, width), (channels, height, width) or (height, width, channels), with 1 or 3
        channels.
    limits : tuple of float, default=None
        Values of the darkest and the brightest pixel; None takes the least and the largest
        in ``rows``.
    components : sequence of 2 int, default=(0, 1)
        Which latent dimensions they are.

    Attributes
    ----------
    ax_ : matplotlib axes
        What it was drawn on.
    figure_ : matplotlib figure
        Its figure.
    images_ : ndarray of AxesImage of shape (n_steps, n_steps)
        The images; [0, 0] is that of the least codes, at the lower left.

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

    ax_: "Axes"
    figure_: "Figure | SubFigure"
    images_: np.ndarray

    def __init__(
        self,
        *,
        rows: np.ndarray,
        values: np.ndarray,
        image_shape: Any,
        limits: tuple[float, float] | None = None,
        components: Any = (0, 1),
    ) -> None:
        self.rows = rows
        self.values = values
        self.image_shape = image_shape
        self.limits = limits
        self.components = components

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        image_shape: Any,
        components: Any = None,
        n_steps: int = 15,
        coverage: float = 0.96,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what codes in a plane stand for.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator with at least two components, or a pipeline or a search that ends
            in one. Components that span no part of the plane are held at 0.
        X : array-like of shape (n_samples, n_features), default=None
            Rows from which the darkest and the brightest pixel are taken and, if there are more
            than two components and none are named, the two of the most KL.
        image_shape : tuple of int
            Shape of a row.
        components : sequence of 2 int, default=None
            Latent dimensions on the two axes; None takes those of the most KL, or without X the
            first two.
        n_steps : int, default=15
            Images along each axis.
        coverage : float, default=0.96
            Share of the prior between the least and the largest code, in each dimension.
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to :meth:`plot`.

        Returns
        -------
        ManifoldDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no codes.
        ValueError
            If it has one component, or none of these numbers, or another argument is not as
            it must be.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls)
        check_has_codes(estimator, cls)
        check_count("n_steps", n_steps, least=2)
        check_share("coverage", coverage)
        n_components = n_components_of(estimator)
        kl = None if X is None or components is not None else kl_of(estimator, X, cls)
        shown = two_components(components, n_components, kl, cls)
        values = ndtri(0.5 + coverage * np.linspace(-0.5, 0.5, n_steps))
        codes = np.zeros((n_steps, n_steps, n_components))
        codes[..., shown[0]] = values
        codes[..., shown[1]] = values[:, None]
        decoded = estimator.inverse_transform(codes.reshape(-1, n_components))
        rows = as_numbers("inverse_transform(Z)", decoded).reshape(n_steps, n_steps, -1)
        display = cls(
            rows=rows,
            values=values,
            image_shape=image_shape,
            limits=None if X is None else limits_of(as_numbers("X", X)),
            components=shown,
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, *, gap: float = 0.0, **kwargs: Any) -> Self:
        """Draw the grid.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        gap : float, default=0.0
            Space between images, as a share of their distance.
        **kwargs : dict
            Handed to ``ax.imshow``, such as ``cmap="gray_r"``.

        Returns
        -------
        ManifoldDisplay
            The display itself.
        """
        shape = check_image_shape(self.image_shape, self.rows.shape[-1])
        ax = axes_for(self, ax, SIZE)
        limits = limits_of(self.rows) if self.limits is None else self.limits
        images = as_images(self.rows, shape)
        self.images_ = draw_tiles(ax, images, limits, gap=gap, upward=True, **kwargs)
        places = range(0, len(self.values), -(-len(self.values) // MOST_TICKS))
        labels = [f"{self.values[place]:.1f}" for place in places]
        ax.set_xticks(places, labels)
        ax.set_yticks(places, labels)
        ax.set(xlabel=f"component {self.components[0]}", ylabel=f"component {self.components[1]}")
        self.ax_, self.figure_ = ax, ax.figure
        return self
