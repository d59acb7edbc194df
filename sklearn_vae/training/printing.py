"""The table that ``verbose`` prints: a line per iteration, under a title."""

from collections.abc import Iterator
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import PrintLog


class PrintIterations(PrintLog):
    """Print the records of a training as a table that says which training it is.

    The table is skorch's, with the word ``iteration`` of the estimators' ``history_``.
    """

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print one line, and before the first one the title."""
        if self.first_iteration_:
            self._sink(_title(net), net.verbose)
        super().on_epoch_end(net, **kwargs)

    def _yield_keys_formatted(self, row: Any) -> Iterator[tuple[str, str]]:
        for key, text in super()._yield_keys_formatted(row):
            yield "iteration" if key == "epoch" else key, text


def _title(net: NeuralNet) -> str:
    """Say which rows a training learns from."""
    if net.is_refit:
        return f"Refit on all {len(net.train_)} rows:"
    validation = "" if net.valid_ is None else f", validation on {len(net.valid_)}"
    return f"Training on {len(net.train_)} rows{validation}:"
