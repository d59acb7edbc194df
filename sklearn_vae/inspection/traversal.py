"""Traversals: what changes in a row when one latent dimension changes."""

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
from sklearn_vae.inspection.validation import (
    as_numbers,
    check_components,
    check_count,
    check_row_number,
    check_share,
    column_names,
    kl_of,
    most_telling,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Dimensions that are drawn where none are named.
MOST_COMPONENTS = 6
TILE = 0.75  # inches


class TraversalDisplay:
    """Rows along single latent dimensions, the others being held, as images or as a table.

    It is recommended to use :meth:`from_estimator`. All parameters are kept as attributes.

    Parameters
    ----------
    rows : ndarray of shape (n_components_shown, n_steps, n_features)
        Mean rows along each dimension.
    values : ndarray of shape (n_components_shown, n_steps)
        The codes at which they stand, which have no unit: the prior's standard deviation is 1.
    shares : ndarray of shape (n_steps,)
        Shares of the codes of X that lie below these.
    components : list of int
        Which latent dimensions are shown.
    kl : ndarray of shape (n_components_shown,), default=None
        Nats that each says of a row, on average.
    limits : tuple of float, default=None
        Values of the darkest and the brightest pixel; None takes the least and the largest
        in ``rows``.
    scale : ndarray of shape (n_features,), default=None
        Standard deviations of the columns, in which changes are drawn where rows are no
        images; None draws them in X's units.
    image_shape : tuple of int, default=None
        (height, width), (channels, height, width) or (height, width, channels), with 1 or 3
        channels. None draws how far each column is from its mean along the dimension.
    feature_names : list of str, default=None
        Names of the columns; None numbers them.

    Attributes
    ----------
    ax_ : matplotlib axes
        What it was drawn on.
    figure_ : matplotlib figure
        Its figure.
    images_ : ndarray of AxesImage
        With ``image_shape`` of shape (n_components_shown, n_steps), one per row. Without, of
        shape (n_components_shown, 1): in each, steps are rows and columns are columns.

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

    ax_: "Axes"
    figure_: "Figure | SubFigure"
    images_: np.ndarray

    def __init__(
        self,
        *,
        rows: np.ndarray,
        values: np.ndarray,
        shares: np.ndarray,
        components: list[int],
        kl: np.ndarray | None = None,
        limits: tuple[float, float] | None = None,
        scale: np.ndarray | None = None,
        image_shape: Any = None,
        feature_names: Any = None,
    ) -> None:
        self.rows = rows
        self.values = values
        self.shares = shares
        self.components = components
        self.kl = kl
        self.limits = limits
        self.scale = scale
        self.image_shape = image_shape
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        row: int | None = None,
        components: Any = None,
        n_steps: int = 9,
        coverage: float = 0.95,
        image_shape: Any = None,
        feature_names: Any = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Walk along latent dimensions of a fitted estimator, at quantiles of the rows' codes.

        So a walk goes where rows are: of codes that no row has, the decoder has learned
        nothing.

        Parameters
        ----------
        estimator : VAETransformer
            A fitted estimator, or a pipeline or a search that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows, which say how much each dimension tells and
            between which codes.
        row : int, default=None
            Number of the row in X whose code is held in the other dimensions; None is the
            middle of the prior, a code of zeros.
        components : int or sequence of int, default=None
            Latent dimensions to walk along; None takes the six of the most KL, largest first.
        n_steps : int, default=9
            Rows along each dimension.
        coverage : float, default=0.95
            Share of the rows between the least and the largest code.
        image_shape : tuple of int, default=None
            Shape of a row that is an image; None draws a table of changes.
        feature_names : list of str, default=None
            Names of the columns; None takes those that the estimator was fitted with.
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to ``ax.imshow``.

        Returns
        -------
        TraversalDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no codes.
        ValueError
            If it has no such component, X no such row, or another argument is not as it must be.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls)
        check_count("n_steps", n_steps, least=2)
        check_share("coverage", coverage)
        kl = kl_of(estimator, X, cls)
        all_codes = as_numbers("transform(X)", estimator.transform(X))
        shown = most_telling(kl, MOST_COMPONENTS)
        if components is not None:
            shown = check_components(components, len(kl))
        start = np.zeros(len(kl))
        if row is not None:
            start = all_codes[check_row_number(row, len(all_codes))]
        shares = 0.5 + coverage * np.linspace(-0.5, 0.5, n_steps)
        values = np.quantile(all_codes[:, shown], shares, axis=0).T  # (n_shown, n_steps)
        decoded = estimator.inverse_transform(_walks(start, values, shown))
        rows = as_numbers("inverse_transform(Z)", decoded).reshape(len(shown), n_steps, -1)
        names = getattr(estimator, "feature_names_in_", None)
        known = as_numbers("X", X)
        display = cls(
            rows=rows,
            values=values,
            shares=shares,
            components=shown,
            kl=kl[shown],
            limits=limits_of(known),
            scale=np.nanstd(known, axis=0),
            image_shape=image_shape,
            feature_names=names if feature_names is None else feature_names,
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> Self:
        """Draw the walks.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to ``ax.imshow``, such as ``cmap="gray_r"``.

        Returns
        -------
        TraversalDisplay
            The display itself.
        """
        if self.image_shape is None:
            self._draw_table(ax, kwargs)
        else:
            self._draw_images(ax, kwargs)
        return self

    def _draw_images(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        n_shown, n_steps, n_columns = self.rows.shape
        shape = check_image_shape(self.image_shape, n_columns)
        ax = axes_for(self, ax, (TILE * n_steps + 1.8, TILE * n_shown * aspect_of(shape) + 0.5))
        limits = limits_of(self.rows) if self.limits is None else self.limits
        self.images_ = draw_tiles(ax, as_images(self.rows, shape), limits, **style)
        ax.set_xticks(range(n_steps), [_percent(share) for share in self.shares])
        ax.set_yticks(range(n_shown), self._names())
        ax.set_xlabel("share of rows with a smaller code")
        self.ax_, self.figure_ = ax, ax.figure

    def _draw_table(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        n_shown, _, n_columns = self.rows.shape
        names = column_names(self.feature_names, n_columns)
        size = (0.3 * min(n_columns, 30) + 3.2, 0.9 * n_shown + 1.5)
        ax = axes_for(self, ax, size)
        changes = self._changes()
        largest = float(np.abs(changes).max()) or 1.0
        style = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest, "aspect": "auto", **style}
        self.images_ = np.empty((n_shown, 1), dtype=object)
        for i, own in enumerate(changes):
            extent = (-0.5, n_columns - 0.5, i + 0.45, i - 0.45)
            self.images_[i, 0] = ax.imshow(own, extent=extent, origin="lower", **style)
        ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_shown - 0.5, -0.5))
        ax.set_yticks(range(n_shown), self._names())
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        name_columns(ax, names)
        unit = "X's units" if self.scale is None else "standard deviations"
        least, most = _percent(self.shares[0]), _percent(self.shares[-1])
        label = f"change in {unit}\n(codes of {most} above, {least} below)"
        ax.figure.colorbar(self.images_[0, 0], ax=ax, label=label)
        self.ax_, self.figure_ = ax, ax.figure

    def _changes(self) -> np.ndarray:
        """Each column's distance from its mean along the walk: (n_shown, n_steps, n_features)."""
        changes = self.rows - self.rows.mean(axis=1, keepdims=True)
        if self.scale is None:
            return changes
        return changes / np.where(self.scale > 0, self.scale, 1.0)

    def _names(self) -> list[str]:
        names = [f"component {component}" for component in self.components]
        if self.kl is None:
            return names
        return [f"{name}\nKL {kl:.2f} nats" for name, kl in zip(names, self.kl, strict=True)]


def _walks(start: np.ndarray, values: np.ndarray, components: list[int]) -> np.ndarray:
    """Codes along each component in turn: (n_components_shown * n_steps, n_components)."""
    codes = np.tile(start, (*values.shape, 1))
    for k, component in enumerate(components):
        codes[k, :, component] = values[k]
    return codes.reshape(-1, len(start))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
