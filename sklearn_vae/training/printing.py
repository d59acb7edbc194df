"""The output of ``verbose=1``: a line with the progress of a training."""

from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_vae.system.progress import ProgressLine


class PrintProgress(Callback):
    """Prints iteration, loss, rate and time left in one line."""

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Start the clock."""
        self.line_ = ProgressLine()
        self.n_iter_ = 0

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print the state if it is due."""
        self.n_iter_ += 1
        self.title_ = _title(net)  # the net forgets its rows before the end
        if self.line_.is_due:
            rate = self.n_iter_ / self.line_.seconds
            left = (net.n_epochs_ - len(net.history)) / rate
            self._print(net, f"{rate:.3g} iterations per second, at most {left:.0f} s left")

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print the last state."""
        if self.n_iter_:
            self._print(net, f"{self.line_.seconds:.1f} s", is_last=True)

    def _print(self, net: NeuralNet, time: str, *, is_last: bool = False) -> None:
        row = net.history[-1]  # without losses, if it was interrupted
        losses = [f"{key} {row[key]:.2f}" for key in ("loss", "val_loss") if key in row]
        text = ", ".join([f"iteration {row['epoch']}", *(losses or ["interrupted"]), time])
        self.line_.print(f"{self.title_} {text}", is_last=is_last)


def _title(net: NeuralNet) -> str:
    """Return the title, with the numbers of training and validation rows."""
    if net.is_refit:
        return f"Refit on all {len(net.train_)} rows:"
    validation = "" if net.valid_ is None else f", validation on {len(net.valid_)}"
    return f"Training on {len(net.train_)} rows{validation}:"
