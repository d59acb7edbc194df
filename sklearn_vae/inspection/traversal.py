"""Latent traversals: decoded rows along single latent dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sklearn_vae.inspection.base import (
    CODES,
    DisplayMixin,
    Names,
    as_numbers,
    by_kl,
    central_quantiles,
    check_components,
    column_names,
    column_scales,
    fitted_names,
    label_columns,
    latent_kl,
)
from sklearn_vae.inspection.image_grid import as_images, draw_tiles, value_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sklearn_vae.posteriors.base import OneHotBlock

# Default number of latent dimensions.
MAX_COMPONENTS = 6
TILE = 0.75  # inches


@dataclass(kw_only=True, eq=False, repr=False)
class TraversalDisplay(DisplayMixin):
    """Decoded rows along single latent dimensions, as images or as a heat map of changes.

    Use :meth:`from_estimator` to create one. All parameters are kept as attributes.

    Parameters
    ----------
    rows : ndarray of shape (n_traversed, n_steps, n_features)
        Decoded rows along each dimension.
    values : ndarray of shape (n_traversed, n_steps)
        Codes along each dimension, in standard deviations of the prior.
    quantiles : ndarray of shape (n_steps,)
        Fractions of the codes of X that lie below ``values``.
    components : list of int
        Numbers of the latent dimensions.
    kl : ndarray of shape (n_traversed,)
        Mean KL of each dimension, in nats.
    limits : tuple of float
        Values of the darkest and the brightest pixel.
    scale : ndarray of shape (n_features,)
        Standard deviations of the columns, the unit of changes in the heat map.
    image_shape : tuple of int, default=None
        Shape of an image: (height, width) or (height, width, channels), with 1 or 3 channels.
        None draws a heat map of each column's difference from its mean along the dimension.
    feature_names : list of str, default=None
        Names of the columns; by default their numbers.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes, matplotlib figure
        Axes and figure of the drawing.
    images_ : ndarray of AxesImage
        With ``image_shape`` of shape (n_traversed, n_steps). Without, heat maps of shape
        (n_traversed, 1), each with one row per step.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_vae.inspection import TraversalDisplay
    >>> from sklearn_vae import VAETransformer
    >>> X = load_digits().data[:300]
    >>> vae = VAETransformer(n_components=3, max_iter=20, random_state=0).fit(X)
    >>> TraversalDisplay.from_estimator(vae, X, image_shape=(8, 8), n_steps=7).rows.shape
    (3, 7, 64)
    """

    rows: np.ndarray
    values: np.ndarray
    quantiles: np.ndarray
    components: list[int]
    kl: np.ndarray
    limits: tuple[float, float]
    scale: np.ndarray
    image_shape: Sequence[int] | None = None
    feature_names: Names = None
    images_: np.ndarray = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        row: int | None = None,
        components: int | Sequence[int] | None = None,
        n_steps: int = 9,
        image_shape: Sequence[int] | None = None,
        feature_names: Names = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Decode and draw codes along latent dimensions, at quantiles of the rows' codes.

        Quantiles keep the traversal within the range of the training rows' codes.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator, or a pipeline or a search that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows of numbers, in the units of the training rows, which determine each
            dimension's KL and quantiles.
        row : int, default=None
            Index of the row in X whose code is used in all other dimensions; by default their
            codes are 0, and those of classes equal probabilities. Along the probability of a
            class, those of the other classes of its variable are in proportion to their own.
        components : int or sequence of int, default=None
            Latent dimensions to traverse; by default the six with the largest KL.
        n_steps : int, default=9
            Codes along each dimension, between the quantiles of 2.5 and 97.5 %.
        image_shape : tuple of int, default=None
            Shape of a row that is an image; None draws a heat map.
        feature_names : list of str, default=None
            Names of the columns; by default those that the estimator was fitted with.
        ax : matplotlib axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to ``ax.imshow``, such as ``cmap="gray_r"``.

        Returns
        -------
        TraversalDisplay
            The display.
        """
        quantiles = central_quantiles(n_steps)
        vae, rows = cls._final_estimator(estimator, X, requires=(*CODES, "history_"))
        cls._check_decodes_codes_alone(vae)
        kl = latent_kl(vae, rows)
        codes = as_numbers("transform(X)", vae.transform(rows))
        dimensions = by_kl(kl)[:MAX_COMPONENTS]
        if components is not None:
            dimensions = check_components(components, len(kl))
        block = vae.architecture_.posterior.one_hot_block(len(kl))
        origin = np.zeros(len(kl))
        origin[: block.width] = 1 / max(block.n_classes, 1)
        if row is not None:
            if row not in range(-len(codes), len(codes)):
                raise ValueError(
                    f"row must be None or an integer from {-len(codes)} to {len(codes) - 1}. "
                    f"Got {row!r} instead."
                )
            origin = codes[int(row)]
        values = np.quantile(codes[:, dimensions], quantiles, axis=0).T  # (n_components, n_steps)
        decoded = estimator.inverse_transform(_traverse(origin, values, dimensions, block))
        X = as_numbers("X", X)
        display = cls(
            rows=as_numbers("inverse_transform(Z)", decoded).reshape(len(dimensions), n_steps, -1),
            values=values,
            quantiles=quantiles,
            components=dimensions,
            kl=kl[dimensions],
            limits=value_range(X),
            scale=column_scales(X),
            image_shape=image_shape,
            feature_names=fitted_names(estimator, feature_names),
        )
        return display.plot(ax, **kwargs)

    def _draw(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        if self.image_shape is None:
            self._draw_heat_maps(ax, style)
        else:
            self._draw_images(ax, style)

    def _draw_images(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        images = as_images(self.rows, self.image_shape)
        n_components, n_steps, height, width = images.shape[:4]
        size = (TILE * n_steps + 1.8, TILE * n_components * height / width + 0.5)
        ax = self._set_axes(ax, size)
        self.images_ = draw_tiles(ax, images, self.limits, **style)
        ax.set_xticks(range(n_steps), [_percent(quantile) for quantile in self.quantiles])
        ax.set_yticks(range(n_components), self._labels())
        ax.set_xlabel("quantile of the code")

    def _draw_heat_maps(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        n_components, _, n_columns = self.rows.shape
        names = column_names(self.feature_names, n_columns)
        size = (0.3 * min(n_columns, 30) + 3.2, max(0.9 * n_components + 1.5, 4.0))
        ax = self._set_axes(ax, size)
        changes = (self.rows - self.rows.mean(axis=1, keepdims=True)) / self.scale
        largest = float(np.nanmax(np.abs(changes), initial=0.0)) or 1.0  # NaN in empty columns
        style = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest, "aspect": "auto", **style}
        self.images_ = np.empty((n_components, 1), dtype=object)
        for i, change in enumerate(changes):
            extent = (-0.5, n_columns - 0.5, i + 0.45, i - 0.45)
            self.images_[i, 0] = ax.imshow(change, extent=extent, origin="lower", **style)
        ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_components - 0.5, -0.5))
        ax.set_yticks(range(n_components), self._labels())
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        label_columns(ax, names)
        low, high = _percent(self.quantiles[0]), _percent(self.quantiles[-1])
        label = f"change in standard deviations\n({high} quantile on top, {low} below)"
        ax.figure.colorbar(self.images_[0, 0], ax=ax, label=label)

    def _labels(self) -> list[str]:
        pairs = zip(self.components, self.kl, strict=True)
        return [f"component {component}\nKL {kl:.2f} nats" for component, kl in pairs]


def _traverse(
    origin: np.ndarray, values: np.ndarray, components: list[int], block: "OneHotBlock"
) -> np.ndarray:
    """Codes along each component in turn: (n_traversed * n_steps, n_components)."""
    codes = np.tile(origin, (*values.shape, 1))
    for k, component in enumerate(components):
        if component < block.width:  # the other classes have the rest of the probability
            first = component - component % block.n_classes
            others = [j for j in range(first, first + block.n_classes) if j != component]
            weights = np.maximum(origin[others], np.finfo(float).tiny)
            codes[k][:, others] = (1 - values[k])[:, None] * weights / weights.sum()
        codes[k, :, component] = values[k]
    return codes.reshape(-1, len(origin))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"
