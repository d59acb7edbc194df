"""scikit-learn's callbacks, where the installed version has them (1.9 and later)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from skorch import NeuralNet
from skorch.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback import with_callbacks as _wrap
except ImportError:  # scikit-learn < 1.9
    _wrap = None

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands where scikit-learn has no callbacks yet."""


__all__ = ["CallbackAdapter", "CallbackSupportMixin", "with_callbacks"]


Method = TypeVar("Method", bound=Callable[..., Any])


def with_callbacks(fit: Method) -> Method:
    """Let scikit-learn's callbacks into a ``fit``, where the installed version has them.

    scikit-learn's own decorator has no types: what it wraps is ``Any`` to a type checker, and
    so is all that is done with its result.
    """
    return fit if _wrap is None else cast(Method, _wrap(fit))


class CallbackAdapter:
    """What scikit-learn's callbacks are told of a fit; silent where there are none.

    Parameters
    ----------
    estimator : estimator or None
        Who is being fitted; None tells nobody.
    max_iterations : int, default=0
        Iterations, or other tasks within the fit, at the most.
    """

    def __init__(self, estimator: Any, max_iterations: int = 0):
        self.estimator = estimator
        self.context: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(max_subtasks=max_iterations)

    def begin(self, X: Any, y: Any) -> None:
        """Tell that the fit begins."""
        # X stands in for y: ScoringMonitor records nothing where there is none
        self.data = {"X": X, "y": X if y is None else y}
        if self.context is not None:
            self.context.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end(self) -> None:
        """Tell that it is over."""
        if self.context is not None:
            self.tell_end(self.context)

    def tell_end(self, task: Any, **changed: Any) -> bool:
        """Tell that a task is over, and whether a callback wants to stop.

        Parameters
        ----------
        task : sklearn.callback.CallbackContext
            The fit's own, or an iteration's.
        **changed
            Fitted attributes that the estimator does not have yet, as functions.
        """
        return task.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=lambda: {
                **{name: value for name, value in vars(self.estimator).items() if name[-1] == "_"},
                **{name: value() for name, value in changed.items()},
            },
            **self.data,
        )

    @contextmanager
    def task(self, name: str, estimator: Any) -> Iterator[None]:
        """Tell of a task within the fit that another estimator does, and let it tell its own."""
        if self.context is None:
            yield
            return
        task = self.context.subcontext(task_name=name)
        with task.propagate_callback_context(estimator):
            task.call_on_fit_task_begin(estimator=self.estimator, **self.data)
            yield
        task.call_on_fit_task_end(estimator=self.estimator, **self.data)

    def callbacks(self) -> list[Callback]:
        """Callbacks for skorch that tell of every iteration."""
        return [] if self.context is None else [_Iterations(self)]


class _Iterations(Callback):
    """Make every iteration a task of the fit."""

    def __init__(self, report: CallbackAdapter):
        self.report = report

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open a task for the iteration."""
        self.task_ = self.report.context.subcontext(task_name="iteration")
        self.task_.call_on_fit_task_begin(estimator=self.report.estimator)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Close it, and stop the training if a callback asks for it."""
        if self.report.tell_end(
            self.task_, state_dict_=net.module_.weights, decoder_correction_=lambda: None
        ):
            raise KeyboardInterrupt("a callback asked the fit to stop")
