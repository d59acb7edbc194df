"""The output of ``verbose``: a line with the progress of a training, or a table of iterations."""

import sys
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback, PrintLog

# Seconds between two states of the line, where it is overwritten and in a log.
LIVE_SECONDS = 0.1
LOG_SECONDS = 10.0


class ProgressLine(Callback):
    """Prints iteration, loss, rate and time left in one line.

    A terminal or a notebook overwrites the line. Any other output, such as a log, gets a line every
    ``LOG_SECONDS``, and one at the end.
    """

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Start the clock."""
        self.begin_ = self.printed_ = perf_counter()
        self.n_iter_ = 0
        self.is_live_ = _overwrites(sys.stdout)
        self.width_ = 0

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print the state if it is due."""
        self.n_iter_ += 1
        self.title_ = _title(net)  # the net forgets its rows before the end
        now = perf_counter()
        if now - self.printed_ >= (LIVE_SECONDS if self.is_live_ else LOG_SECONDS):
            rate = self.n_iter_ / (now - self.begin_)
            left = max(config.max_iter for config in net.configs) - self.n_iter_
            self._print(net, f"{rate:.3g} per second, at most {left / rate:.0f} s left")
            self.printed_ = now

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print the last state."""
        if self.n_iter_:
            self._print(net, f"{perf_counter() - self.begin_:.1f} s", end="\n")

    def _print(self, net: NeuralNet, time: str, end: str = "") -> None:
        row = net.history[-1]
        losses = ", ".join(f"{key} {row[key]:.2f}" for key in ("loss", "val_loss") if key in row)
        text = f"{self.title_} iteration {row['epoch']}, {losses}, {time}"
        if self.is_live_:
            # spaces erase the rest of a longer line
            text, self.width_ = "\r" + text.ljust(self.width_), len(text)
        print(text, end=end if self.is_live_ else "\n", flush=True)  # noqa: T201


class PrintIterations(PrintLog):
    """Prints the history of a training as a table with a title, for ``verbose`` above 1.

    The table is skorch's, with the word ``iteration`` of the estimators' ``history_``.
    """

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print one line, after the title if it is the first."""
        if self.first_iteration_:
            self._sink(_title(net), net.verbose)
        super().on_epoch_end(net, **kwargs)

    def _yield_keys_formatted(self, row: Any) -> Iterator[tuple[str, str]]:
        for key, text in super()._yield_keys_formatted(row):
            yield "iteration" if key == "epoch" else key, text


def _title(net: NeuralNet) -> str:
    """Return the title, with the numbers of training and validation rows."""
    if net.is_refit:
        return f"Refit on all {len(net.train_)} rows:"
    validation = "" if net.valid_ is None else f", validation on {len(net.valid_)}"
    return f"Training on {len(net.train_)} rows{validation}:"


def _overwrites(stream: Any) -> bool:
    """Return whether a carriage return begins the line again: in terminals and notebooks."""
    is_terminal = getattr(stream, "isatty", lambda: False)()
    return is_terminal or type(stream).__module__.startswith("ipykernel")
