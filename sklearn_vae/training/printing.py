"""The table that ``verbose`` prints: a title, and one line per iteration."""

from collections.abc import Iterator
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import PrintLog


class PrintIterations(PrintLog):
    """Prints the history of a training as a table with a title.

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
