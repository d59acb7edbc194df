"""scikit-learn's callbacks, where the installed version has them (1.9 and later)."""

from collections.abc import Callable
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands where scikit-learn has no callbacks yet."""

        def _init_callback_context(self, **kwargs: Any) -> None:
            return None

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Give back the method as it is."""
        return method


class IterationReporter(Callback):
    """Tell scikit-learn's callbacks of every iteration of a skorch net.

    Parameters
    ----------
    estimator : estimator
        Who is being fitted.
    context : sklearn.callback.CallbackContext
        The fit's context, of which every iteration is a task.
    fitted_attributes : callable
        Gives a dict of the attributes that the estimator would have, did the fit stop
        at this point.
    """

    def __init__(
        self,
        estimator: Any,
        context: Any,
        fitted_attributes: Callable[[NeuralNet], dict[str, Any]],
    ):
        self.estimator = estimator
        self.context = context
        self.fitted_attributes = fitted_attributes

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open a task for the iteration."""
        self.task_ = self.context.subcontext(task_name="iteration")
        self.task_.call_on_fit_task_begin(estimator=self.estimator)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Close it, and stop the training if a callback asks for it."""
        stop = self.task_.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=lambda: self.fitted_attributes(net),
        )
        if stop:
            raise KeyboardInterrupt("a callback asked the fit to stop")
