"""Lines of progress of a training, and its interruption by Ctrl-C.

After Ctrl-C, training stops at once, and the estimator keeps the result so far. skorch's callbacks
raise ``KeyboardInterrupt`` to stop a training, and so does Ctrl-C. A signal handler records which
of the two it was.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_vae.system import ProgressLine, warn


class _Keyboard:
    """Records whether Ctrl-C was pressed during a fit."""

    was_pressed = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Record Ctrl-C if SIGINT has Python's default handler, which is restored after."""
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        self.was_pressed = False
        signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.was_pressed = False  # fits in threads do not listen

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.was_pressed = True
        signal.default_int_handler(number, frame)


keyboard = _Keyboard()


def raise_interruption(message: str) -> NoReturn:
    """Warn of a fit that was interrupted, and raise ``KeyboardInterrupt``."""
    try:
        warn(message, ConvergenceWarning)
    finally:  # also where warnings are errors: a search has to stop, too
        raise KeyboardInterrupt


class PrintProgress(Callback):
    """Prints iteration, loss, rate and time left in one line: ``verbose=1``."""

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Start the clock."""
        self.line_ = ProgressLine()
        self.n_iter_ = 0
        validation = "" if net.valid_ is None else f", validation on {len(net.valid_)}"
        title = "Refit on all" if net.jobs[0].is_refit else "Training on"
        self.title_ = f"{title} {len(net.train_)} rows{validation}:"

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print the state if it is due."""
        self.n_iter_ += 1
        if self.line_.is_due:
            rate = self.n_iter_ / self.line_.seconds
            left = (net.n_epochs_ - len(net.history)) / rate
            self._print(net, f"{rate:.3g} iterations per second, at most {left:.0f} s left")

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print the last state."""
        if self.n_iter_:
            self._print(net, f"{self.line_.seconds:.1f} s", is_last=True)

    def _print(self, net: NeuralNet, duration: str, *, is_last: bool = False) -> None:
        row = net.history[-1]  # without losses, if it was interrupted
        losses = [f"{key} {row[key]:.2f}" for key in ("loss", "val_loss") if key in row]
        text = ", ".join([f"iteration {row['epoch']}", *(losses or ["interrupted"]), duration])
        self.line_.print(f"{self.title_} {text}", is_last=is_last)
