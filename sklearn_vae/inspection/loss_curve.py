"""Learning curves: training and validation losses by iteration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sklearn_vae.inspection.base import DisplayMixin, check_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

TERMS = ("loss", "reconstruction_loss", "kl_loss")
SPLITS = {"": ("training rows", "tab:blue"), "val_": ("validation rows", "tab:red")}
WIDTH, HEIGHT = 3.2, 3.0  # inches of one panel


@dataclass(kw_only=True, eq=False, repr=False)
class LossCurveDisplay(DisplayMixin):
    """Learning curves: the losses of ``history_`` by iteration.

    Use :meth:`from_estimator` or :meth:`from_history` to create one. All parameters are kept as
    attributes.

    Parameters
    ----------
    iterations : ndarray of shape (n_iterations,)
        Numbers of the iterations.
    curves : dict of ndarray of shape (n_iterations,)
        Losses in nats per row by their names in ``history_``; NaN if not recorded.
    refit_from : int, default=None
        First iteration of the refit on all rows; None if there is no refit.

    Attributes
    ----------
    axes_ : ndarray of matplotlib axes of shape (n_terms,)
        Axes of each term.
    figure_ : matplotlib figure
        Their figure.
    lines_ : dict of Line2D
        Lines by the names of the curves.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae.inspection import LossCurveDisplay
    >>> from sklearn_vae import VAETransformer
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> display = LossCurveDisplay.from_estimator(vae)
    >>> sorted(display.lines_)[:2]
    ['kl_loss', 'loss']
    """

    iterations: np.ndarray
    curves: Mapping[str, np.ndarray]
    refit_from: int | None = None
    axes_: np.ndarray = field(init=False)
    lines_: "dict[str, Line2D]" = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        member: int = 0,
        terms: Sequence[str] = TERMS,
        ax: "Axes | Sequence[Axes] | np.ndarray | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : VAETransformer, VAEDensity or VAEOutlierDetector
            A fitted estimator, or a pipeline or a search that ends in one.
        member : int, default=0
            Number of the ensemble member.
        terms : sequence of str, default=("loss", "reconstruction_loss", "kl_loss")
            Losses to draw.
        ax : matplotlib axes or array-like of them, default=None
            One for each term, or one for all; None makes a figure.
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        LossCurveDisplay
            The display.
        """
        final, _ = cls._final_estimator(estimator, requires=())
        model = getattr(final, "estimator_", final)
        vae, _ = cls._final_estimator(model, requires=("history_",))
        return cls.from_history(vae.history_, member=member, terms=terms, ax=ax, **kwargs)

    @classmethod
    def from_history(
        cls,
        history: Iterable[Mapping[str, Any]],
        *,
        member: int = 0,
        terms: Sequence[str] = TERMS,
        ax: "Axes | Sequence[Axes] | np.ndarray | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a history, for instance one read from a file.

        Parameters
        ----------
        history : list of dict
            Records as in an estimator's ``history_``.
        member : int, default=0
            Number of the ensemble member.
        terms : sequence of str, default=("loss", "reconstruction_loss", "kl_loss")
            Losses to draw.
        ax : matplotlib axes or array-like of them, default=None
            One for each term, or one for all; None makes a figure.
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        LossCurveDisplay
            The display.
        """
        records = [record for record in history if record.get("member", 0) == member]
        if not records:
            raise ValueError(f"The history has no records of member={member!r}.")
        names = [prefix + term for term in TERMS for prefix in SPLITS]
        curves = {
            name: np.array([record.get(name, np.nan) for record in records], dtype=float)
            for name in names
            if any(name in record for record in records)
        }
        iterations = np.array([record["iteration"] for record in records])
        refit = [record["iteration"] for record in records if record.get("refit")]
        refit_from = int(refit[0]) if 0 < len(refit) < len(records) else None
        display = cls(iterations=iterations, curves=curves, refit_from=refit_from)
        return display.plot(ax, terms=terms, **kwargs)

    def plot(
        self,
        ax: "Axes | Sequence[Axes] | np.ndarray | None" = None,
        *,
        terms: Sequence[str] = TERMS,
        **kwargs: Any,
    ) -> Self:
        """Draw the curves, with a gap before the refit.

        Parameters
        ----------
        ax : matplotlib axes or array-like of them, default=None
            One for each term, or one for all; None makes a figure with a panel per term, as the
            KL is much smaller than the other terms.
        terms : sequence of str, default=("loss", "reconstruction_loss", "kl_loss")
            Losses to draw.
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        LossCurveDisplay
            The display.
        """
        terms = [terms] if isinstance(terms, str) else list(terms)
        if not terms or any(term not in self.curves for term in terms):
            allowed = [name for name in self.curves if not name.startswith("val_")]
            raise ValueError(f"terms must be among {allowed}. Got {terms!r} instead.")
        self.axes_ = self._panels(ax, len(terms))
        self.figure_ = self.axes_[0].figure
        is_shared = len(terms) > 1 and self.axes_[0] is self.axes_[-1]
        self.lines_ = {}
        for term, panel in zip(terms, self.axes_, strict=True):
            self._draw(panel, term, is_shared, kwargs)
        for panel in dict.fromkeys(self.axes_):
            self._annotate(panel)
        return self

    def _panels(self, ax: "Axes | Sequence[Axes] | np.ndarray | None", n_terms: int) -> np.ndarray:
        """Return the axes of each term, as an array of objects."""
        if ax is None:
            figure = self._new_figure((WIDTH * n_terms, HEIGHT))
            return figure.subplots(1, n_terms, squeeze=False)[0]
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) not in (1, n_terms):
            raise ValueError(
                f"ax must be one pair of axes or {n_terms}, one for each term. "
                f"Got {len(axes)} instead."
            )
        return np.array([check_axes(axis) for axis in np.resize(axes, n_terms)], dtype=object)

    def _draw(self, ax: "Axes", term: str, is_shared: bool, style: dict[str, Any]) -> None:
        for prefix, (rows, color) in SPLITS.items():
            name = prefix + term
            if name not in self.curves:
                continue
            # terms that share axes take their colours from matplotlib's cycle
            label = {"label": f"{term}, {rows}"} if is_shared else {"label": rows, "color": color}
            (self.lines_[name],) = ax.plot(*self._with_gap(name), **{**label, **style})
        if not is_shared:
            ax.set_title(term, loc="left", fontsize="medium")

    def _with_gap(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return iterations and losses, with a gap before the refit."""
        iterations, losses = self.iterations.astype(float), self.curves[name]
        if self.refit_from is None:
            return iterations, losses
        at = int(np.searchsorted(self.iterations, self.refit_from))
        return np.insert(iterations, at, self.refit_from - 0.5), np.insert(losses, at, np.nan)

    def _annotate(self, ax: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        ax.set(xlabel="iteration", ylabel="nats per row")
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if self.refit_from is not None:
            at = self.refit_from - 0.5
            ax.axvline(at, color="0.5", linewidth=0.8, linestyle=":")
            style: dict[str, Any] = {"color": "0.4", "size": "small", "ha": "right", "va": "bottom"}
            ax.text(1.0, 1.0, "refit on all rows", transform=ax.transAxes, **style)
        if ax is self.axes_[0] and len(self.lines_) > 1:
            ax.legend(frameon=False, fontsize="small")
