"""Ctrl-C: training stops at once, and what it has come to is kept and says so.

skorch's callbacks end a run by raising ``KeyboardInterrupt``, and users end a fit by the
same. A handler notes when it was the keyboard.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_vae.training.run import RunResult
from sklearn_vae.warnings import warn


class _Keyboard:
    """Whether Ctrl-C was pressed while somebody listens."""

    def __init__(self) -> None:
        self.was_pressed = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Note Ctrl-C, where it does what Python lets it do; put the handler back after."""
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        self.was_pressed = False
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.was_pressed = True
        signal.default_int_handler(number, frame)


keyboard = _Keyboard()


class InterruptHandler(Callback):
    """Remembers the trainings of one fit, to tell what they have come to if it is interrupted."""

    def __init__(self) -> None:
        self.nets: list[NeuralNet] = []
        self.is_interrupted = False

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Take note of a training."""
        self.nets.append(net)

    @contextmanager
    def watch(self, estimator: Any) -> Iterator[None]:
        """Let Ctrl-C through once the estimator is what training has come to.

        Within, who asks for ``outcomes`` has to make the estimator of them.
        """
        with keyboard.listen():
            yield
        estimator.interrupted_ = self.is_interrupted
        if not self.is_interrupted:
            return
        try:
            warn(
                f"{type(estimator).__name__}.fit was interrupted. The estimator is what training "
                f"had come to by then (n_iter_={estimator.n_iter_}), and interrupted_ is True.",
                ConvergenceWarning,
            )
        finally:  # whatever becomes of warnings, a search is to stop, too
            raise KeyboardInterrupt

    def outcomes(self) -> dict[int, list[RunResult]]:
        """Tell what the trainings of each seed have come to, those with an iteration at least.

        Raises
        ------
        KeyboardInterrupt
            If there is none, or none that can be told: the estimator is to stay as it was.
        """
        found: dict[int, list[RunResult]] = {}
        try:
            for net in self.nets:
                for seed, outcome in _outcomes(net):
                    found.setdefault(seed, []).append(outcome)
        except Exception as error:  # interrupted where numbers did not agree with each other
            raise KeyboardInterrupt from error
        if not found:
            raise KeyboardInterrupt
        self.is_interrupted = True
        return found

    def best(self) -> RunResult:
        """Give the best first run."""
        return min((own[0] for own in self.outcomes().values()), key=lambda own: own.loss)


def _outcomes(net: NeuralNet) -> Iterator[tuple[int, RunResult]]:
    """What members have come to, without the iteration that was interrupted."""
    if len(net.members_):
        n_done = int(net.course_.spent.sum(axis=1).max())
        del net.history[n_done:], net.records_[n_done:]
    for member, config in enumerate(net.configs):
        outcome = net.result_of(member)
        if outcome.history:
            yield config.seed, outcome
