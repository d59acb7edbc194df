"""Learning curves: training and validation losses by iteration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_vae.inspection.base import DisplayMixin
from sklearn_vae.persistence.validation import invalid_parameter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

TERMS = ("loss", "reconstruction_loss", "kl_loss")


@dataclass(kw_only=True, eq=False, repr=False)
class LossCurveDisplay(DisplayMixin):
    """Learning curves: the losses of ``history_`` by iteration.

    Use :meth:`from_estimator` to create one. All parameters are kept as attributes.

    Parameters
    ----------
    history : list of dict
        Records of one training, as in an estimator's ``history_``; also those read from a file.

    Attributes
    ----------
    axes_ : ndarray of matplotlib axes of shape (3,)
        Axes of the loss, the reconstruction loss and the KL; the first alone if it was given.
    figure_ : matplotlib figure
        Their figure.
    lines_ : dict of Line2D
        Lines by the names of the losses in ``history``.

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

    history: Sequence[Mapping[str, Any]]
    axes_: np.ndarray = field(init=False)
    lines_: "dict[str, Line2D]" = field(init=False)

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, *, member: int = 0, ax: "Axes | None" = None, **kwargs: Any
    ) -> Self:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : VAETransformer, VAEDensity or VAEOutlierDetector
            A fitted estimator, or a pipeline or a search that ends in one.
        member : int, default=0
            Number of the ensemble member.
        ax : matplotlib axes, default=None
            Axes on which the loss is drawn; None makes a figure with a panel for the loss and for
            each of its terms.
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        LossCurveDisplay
            The display.
        """
        final, _ = cls._final_step(estimator, None, ())
        model = getattr(final, "estimator_", final)
        vae, _ = cls._final_step(model, None, ("history_",))
        history = [record for record in vae.history_ if record.get("member", 0) == member]
        if not history:
            raise ValueError(f"The history has no records of member={member!r}.")
        return cls(history=history).plot(ax, **kwargs)

    def _draw(self, ax: "Axes | None", style: dict[str, Any]) -> None:
        from matplotlib import pyplot as plt

        history: Any = self.history
        is_list = isinstance(history, Sequence) and len(history) > 0
        if not is_list or any("iteration" not in record for record in history):
            expected = "be a list of records with an 'iteration', as history_ of an estimator"
            raise invalid_parameter(self, "history", expected, history)
        if ax is None:
            size = 3.2 * len(TERMS), 3
            self.axes_ = plt.subplots(1, len(TERMS), figsize=size, layout="constrained")[1]
        else:
            self.axes_ = np.array([ax], dtype=object)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.lines_ = {}
        for term, panel in zip(TERMS, self.axes_, strict=False):
            self._draw_term(panel, term, style)
        if len(self.lines_) > len(self.axes_):
            self.ax_.legend(frameon=False, fontsize="small")

    def _draw_term(self, ax: "Axes", term: str, style: dict[str, Any]) -> None:
        """Draw the curves of a term, with a gap before the refit, which has new weights."""
        from matplotlib.ticker import MaxNLocator

        iterations = np.array([record["iteration"] for record in self.history], dtype=float)
        n_before = sum(not record.get("refit") for record in self.history)
        gap = [n_before] if 0 < n_before < len(iterations) else []
        of_train = (term, "training rows", "tab:blue")
        of_valid = (f"val_{term}", "validation rows", "tab:red")
        for name, rows, color in (of_train, of_valid):
            if not any(name in record for record in self.history):
                continue
            losses = np.array([record.get(name, np.nan) for record in self.history], dtype=float)
            x, y = (np.insert(part, gap, np.nan) for part in (iterations, losses))
            line = {"label": rows, "color": color, **_marks(y), **style}
            (self.lines_[name],) = ax.plot(x, y, **line)
        ax.set_title(term, loc="left", fontsize="medium")
        ax.set(xlabel="iteration", ylabel="nats per row")
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if gap:
            ax.axvline(iterations[n_before] - 0.5, color="0.5", linewidth=0.8, linestyle=":")
            label: dict[str, Any] = {"color": "0.4", "size": "small", "ha": "right", "va": "bottom"}
            ax.text(1.0, 1.0, "refit on all rows", transform=ax.transAxes, **label)


def _marks(y: np.ndarray) -> dict[str, Any]:
    """Options of a line that mark values without a neighbour, of which it would show nothing."""
    is_gap = np.isnan(np.pad(y, 1, constant_values=np.nan))
    alone = np.flatnonzero(is_gap[:-2] & ~is_gap[1:-1] & is_gap[2:]).tolist()
    return {"marker": "o", "markersize": 4, "markevery": alone} if alone else {}
