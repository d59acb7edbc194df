"""Loss curves: how training went."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sklearn_vae.inspection.axes import check_axes, check_matplotlib, new_figure
from sklearn_vae.inspection.validation import last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

TERMS = ("loss", "reconstruction_loss", "kl_loss")
OF_ROWS = {"": ("training rows", "tab:blue"), "val_": ("validation rows", "tab:red")}
WIDTH, HEIGHT = 3.8, 3.2  # inches of one panel


class LossCurveDisplay:
    """The losses of ``history_``, iteration by iteration.

    It is recommended to use :meth:`from_estimator` or :meth:`from_history`. All parameters are
    kept as attributes.

    Parameters
    ----------
    iterations : ndarray of shape (n_iterations,)
        Numbers of the iterations.
    curves : dict of ndarray of shape (n_iterations,)
        Losses in nats per row by their names in ``history_``; NaN where there is none.
    refit_from : int, default=None
        Iteration with which the second run begins, on all rows and from the start. None where
        there is one run.

    Attributes
    ----------
    axes_ : ndarray of matplotlib axes of shape (n_terms,)
        What each term was drawn on.
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

    axes_: np.ndarray
    figure_: "Figure | SubFigure"
    lines_: "dict[str, Line2D]"

    def __init__(
        self,
        *,
        iterations: np.ndarray,
        curves: Mapping[str, np.ndarray],
        refit_from: int | None = None,
    ) -> None:
        self.iterations = iterations
        self.curves = curves
        self.refit_from = refit_from

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        member: int = 0,
        terms: Sequence[str] = TERMS,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : VAETransformer, VAEDensity or VAEOutlierDetector
            A fitted estimator, or a pipeline or a search that ends in one.
        member : int, default=0
            Which one of several that were trained side by side.
        terms : sequence of str, default=("loss", "reconstruction_loss", "kl_loss")
            Which losses to draw.
        ax : matplotlib axes or array-like of them, default=None
            One for each term, or one for all; None makes a figure.
        **kwargs : dict
            Handed to ``ax.plot``.

        Returns
        -------
        LossCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no history.
        ValueError
            If there is no such member, or no such term.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls)
        vae, _ = last_step(estimator)
        if not hasattr(vae, "history_"):
            raise TypeError(
                f"{cls.__name__} needs an estimator with a history_, such as VAETransformer. "
                f"Got {type(vae).__name__} instead."
            )
        return cls.from_history(vae.history_, member=member, terms=terms, ax=ax, **kwargs)

    @classmethod
    def from_history(
        cls,
        history: Iterable[Mapping[str, Any]],
        *,
        member: int = 0,
        terms: Sequence[str] = TERMS,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a history, such as one that was kept.

        Parameters
        ----------
        history : list of dict
            Records as in an estimator's ``history_``.
        member : int, default=0
            Which one of several that were trained side by side.
        terms : sequence of str, default=("loss", "reconstruction_loss", "kl_loss")
            Which losses to draw.
        ax : matplotlib axes or array-like of them, default=None
            One for each term, or one for all; None makes a figure.
        **kwargs : dict
            Handed to ``ax.plot``.

        Returns
        -------
        LossCurveDisplay
            The display, drawn.
        """
        records = [record for record in history if record.get("member", 0) == member]
        if not records:
            raise ValueError(f"The history has no records of member={member!r}.")
        names = [prefix + term for term in TERMS for prefix in OF_ROWS]
        curves = {
            name: np.array([record.get(name, np.nan) for record in records], dtype=float)
            for name in names
            if any(name in record for record in records)
        }
        iterations = np.array([record["iteration"] for record in records])
        again = [record["iteration"] for record in records if record.get("refit")]
        refit_from = int(again[0]) if 0 < len(again) < len(records) else None
        display = cls(iterations=iterations, curves=curves, refit_from=refit_from)
        return display.plot(ax, terms=terms, **kwargs)

    def plot(self, ax: Any = None, *, terms: Sequence[str] = TERMS, **kwargs: Any) -> Self:
        """Draw the curves; they are interrupted where the second run begins.

        Parameters
        ----------
        ax : matplotlib axes or array-like of them, default=None
            One for each term, or one for all; None makes a figure with a panel per term, as the
            KL is small beside the other two.
        terms : sequence of str, default=("loss", "reconstruction_loss", "kl_loss")
            Which losses to draw.
        **kwargs : dict
            Handed to ``ax.plot``.

        Returns
        -------
        LossCurveDisplay
            The display itself.
        """
        terms = [terms] if isinstance(terms, str) else list(terms)
        if not terms or any(term not in self.curves for term in terms):
            known = [name for name in self.curves if not name.startswith("val_")]
            raise ValueError(f"terms must be among {known}. Got {terms!r} instead.")
        self.axes_ = self._panels(ax, len(terms))
        self.figure_ = self.axes_[0].figure
        together = len(terms) > 1 and self.axes_[0] is self.axes_[-1]
        self.lines_ = {}
        for term, panel in zip(terms, self.axes_, strict=True):
            self._draw(panel, term, together, kwargs)
        for panel in dict.fromkeys(self.axes_):
            self._finish(panel)
        return self

    def _panels(self, ax: Any, n_terms: int) -> np.ndarray:
        """The axes of each term, as an array of objects."""
        if ax is None:
            figure = new_figure(self, (WIDTH * n_terms, HEIGHT))
            return figure.subplots(1, n_terms, squeeze=False)[0]
        given = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(given) not in (1, n_terms):
            raise ValueError(
                f"ax must be one pair of axes or {n_terms}, one for each term. "
                f"Got {len(given)} instead."
            )
        return np.array([check_axes(own) for own in np.resize(given, n_terms)], dtype=object)

    def _draw(self, ax: "Axes", term: str, together: bool, style: dict[str, Any]) -> None:
        for prefix, (rows, colour) in OF_ROWS.items():
            name = prefix + term
            if name not in self.curves:
                continue
            # where several terms share the axes, matplotlib's cycle tells them apart
            label = {"label": f"{term}, {rows}"} if together else {"label": rows, "color": colour}
            (self.lines_[name],) = ax.plot(*self._interrupted(name), **{**label, **style})
        if not together:
            ax.set_title(term, loc="left", fontsize="medium")

    def _interrupted(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Iterations and losses, with a gap before the second run."""
        iterations, losses = self.iterations.astype(float), self.curves[name]
        if self.refit_from is None:
            return iterations, losses
        at = int(np.searchsorted(self.iterations, self.refit_from))
        return np.insert(iterations, at, self.refit_from - 0.5), np.insert(losses, at, np.nan)

    def _finish(self, ax: "Axes") -> None:
        ax.set(xlabel="iteration", ylabel="nats per row")
        if self.refit_from is not None:
            at = self.refit_from - 0.5
            ax.axvline(at, color="0.5", linewidth=0.8, linestyle=":")
            look: dict[str, Any] = {"color": "0.4", "size": "small", "ha": "right", "va": "bottom"}
            ax.text(1.0, 1.0, "refit on all rows", transform=ax.transAxes, **look)
        if ax is self.axes_[-1] and len(self.lines_) > 1:
            ax.legend(frameon=False, fontsize="small")
