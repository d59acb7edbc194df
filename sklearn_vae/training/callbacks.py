"""Callbacks of training: lines of progress, and checkpoints; interruption by Ctrl-C.

After Ctrl-C, training stops at once, and the estimator keeps the result so far. skorch's callbacks
raise ``KeyboardInterrupt`` to stop a training, and so does Ctrl-C. A signal handler records which
of the two it was.

A fit that was killed resumes from its checkpoint, to the bit. Random streams depend on the seed,
their purpose and the epoch only, so a checkpoint holds numbers. The same fit in another process
initializes its models as before and then restores the saved state.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor

from sklearn_vae.persistence.checkpoint import CheckpointFile
from sklearn_vae.persistence.file_format import PathLike
from sklearn_vae.system import ProgressLine, warn
from sklearn_vae.training.jobs import TrainingResult

Value = TypeVar("Value")

# Maximum fraction of the time spent on writing.
MAX_WRITING_FRACTION = 0.05
# Parameters of an estimator that change no result.
OF_RUNS = ("callbacks", "checkpoint", "device", "verbose")


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


class Checkpoint(Callback):
    """Saves the state of a fit's trainers at the end of epochs, and restores it."""

    def __init__(self, path: PathLike, params: Mapping[str, object]):
        self.file = CheckpointFile(path, "fit")
        self.params = {name: value for name, value in params.items() if name not in OF_RUNS}
        self.next_write = 0.0

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the state of a trainer, if the file has it."""
        if saved := self.file.begin(self.params, **_origin(net)):
            _restore(net, saved)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the file, unless that would take too large a fraction of the time."""
        started = time.monotonic()
        if started < self.next_write:
            return
        self.file.write(state=_state(net), results=_results(net))
        finished = time.monotonic()
        self.next_write = started + (finished - started) / MAX_WRITING_FRACTION

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the results of a trainer that has finished."""
        if len(net.results_) == len(net.jobs):
            self.file.write(state=None, results=_results(net))


def _state(net: NeuralNet) -> dict[str, object]:
    """Return all that determines how training continues, between two epochs."""
    return {
        "members": net.members_,
        "params": _array(net.module_.flat),
        "ema": None if net.ema_ is None else _array(net.ema_.average),
        "optimizer": net.optimizer_.state_dict(),
        "scheduler": {name: _array(value) for name, value in vars(net.scheduler_).items()},
        "records": {
            name: np.stack([record[name] for record in net.records_]) for name in net.records_[-1]
        },
        "history": [dict(row) for row in net.history],
    }


def _restore(net: NeuralNet, saved: dict[str, Any]) -> None:
    """Restore the saved state in a trainer before its first epoch."""
    results = {member: TrainingResult(**values) for member, values in saved["results"]}
    state = saved["state"]
    remaining = [] if state is None else state["members"].tolist()
    # this stores results of the initial parameters, which the saved ones replace
    net.remove_finished(~np.isin(net.members_, remaining))
    net.results_ = results
    if state is None:
        return
    with torch.no_grad():
        net.module_.flat.copy_(torch.tensor(state["params"]))
        if net.ema_ is not None:
            net.ema_.average.copy_(torch.tensor(state["ema"]))
    for name, value in vars(net.scheduler_).items():
        saved_value = state["scheduler"][name].copy()
        if isinstance(value, Tensor):
            saved_value = torch.as_tensor(saved_value).to(value)
        setattr(net.scheduler_, name, saved_value)
    net.optimizer_.load_state_dict(state["optimizer"])
    records = state["records"]
    rows = zip(*records.values(), strict=True)
    net.records_.extend(dict(zip(records, row, strict=True)) for row in rows)
    net.history_.extend(state["history"])


def _results(net: NeuralNet) -> list[tuple[int, dict[str, object]]]:
    return [(member, vars(result)) for member, result in net.results_.items()]


def _array(value: Value) -> Value | np.ndarray:
    """Convert a tensor to an array; all else stays as it is."""
    return value.cpu().numpy() if isinstance(value, Tensor) else value


def _origin(net: NeuralNet) -> dict[str, object]:
    """Return all that determines training: rows, settings and initial parameters."""
    datasets = [net.train_] if net.valid_ is None else [net.train_, net.valid_]
    # schedules by their values: functions cannot be compared
    settings = []
    for config in net.configs:
        epochs = range(config.first_epoch, config.first_epoch + config.max_iter)
        settings.append({**vars(config), "beta": [config.beta(epoch) for epoch in epochs]})
    module = net.module_
    return {
        "rows": [_array(value) for dataset in datasets for value in vars(dataset).values()],
        "settings": repr([*settings, net.criterion_]),
        "starting weights (of the model, or by random_state)": (
            repr((module.architecture, module.n_members)),
            _array(module.flat),
        ),
    }
