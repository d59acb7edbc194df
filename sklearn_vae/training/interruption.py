"""Interruption of a training by Ctrl-C.

After Ctrl-C, training stops at once, and the estimator keeps the result so far. skorch's callbacks
raise ``KeyboardInterrupt`` to stop a training, and so does Ctrl-C. A signal handler records which
of the two it was.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from sklearn.exceptions import ConvergenceWarning

from sklearn_vae.system import warn


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
