"""Adapter to scikit-learn's callbacks, which exist from scikit-learn 1.9 on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from skorch import NeuralNet
from skorch.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks as _wrap
except ImportError:  # scikit-learn < 1.9
    _wrap = None

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Empty base class for versions of scikit-learn without callbacks."""


__all__ = ["CallbackAdapter", "CallbackSupportMixin", "with_callbacks"]


Method = TypeVar("Method", bound=Callable[..., Any])


def with_callbacks(fit: Method) -> Method:
    """Decorate a ``fit`` so that scikit-learn calls its callbacks; keeps the type of ``fit``."""
    # scikit-learn's decorator is untyped
    return fit if _wrap is None else cast(Method, _wrap(fit))


class CallbackAdapter(Callback):
    """Skorch callback that reports a fit to scikit-learn's callbacks, if the estimator has any.

    The fit's task begins with the adapter, and every iteration is a task within it.

    Parameters
    ----------
    estimator : estimator
        The estimator that is fitted.
    X, y : array-like
        The arguments of ``fit``.
    max_iterations : int
        Largest number of iterations, or of other tasks within the fit.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, *, max_iterations: int):
        self.estimator = estimator
        # X replaces a missing y: ScoringMonitor records nothing without one
        self.data = {"X": X, "y": X if y is None else y}
        self.context: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(max_subtasks=max_iterations)
            self.context.call_on_fit_task_begin(estimator=estimator, **self.data)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin the iteration's task."""
        if self.context is not None:
            self.iteration = self.context.subcontext(task_name="iteration")
            self.iteration.call_on_fit_task_begin(estimator=self.estimator)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """End the iteration's task, and stop the training if a callback requests it."""
        if self.context is not None and self._end_task(self.iteration, net):
            raise KeyboardInterrupt("a callback asked the fit to stop")

    def end(self) -> None:
        """End the fit's task."""
        if self.context is not None:
            self._end_task(self.context)

    def _end_task(self, task: Any, net: NeuralNet | None = None) -> bool:
        """End a task, and return whether a callback requests the end of the fit.

        The task is the context of the fit or of an iteration, which has the net in training.
        """
        return task.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=lambda: self._fitted_attributes(net),
            **self.data,
        )

    def _fitted_attributes(self, net: NeuralNet | None) -> dict[str, Any] | None:
        """Return the fitted attributes, with those of a net in training if one is given.

        None if the estimator cannot score rows in the middle of a fit.
        """
        fitted = {name: value for name, value in vars(self.estimator).items() if name[-1] == "_"}
        if net is None:
            return fitted
        if (of_member := self.estimator._attributes_of(net.module_.weights())) is None:
            return None
        return fitted | of_member | {"beta_": net.history[-1]["beta"], "decoder_correction_": None}

    @contextmanager
    def task(self, name: str, estimator: Any) -> Iterator[None]:
        """Begin and end a task within the fit, in which another estimator is fitted."""
        if self.context is None:
            yield
            return
        task = self.context.subcontext(task_name=name)
        with task.propagate_callback_context(estimator):
            task.call_on_fit_task_begin(estimator=self.estimator, **self.data)
            yield
        task.call_on_fit_task_end(estimator=self.estimator, **self.data)
