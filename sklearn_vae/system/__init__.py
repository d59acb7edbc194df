"""One thread for other libraries than PyTorch, warnings at the user's line of code, progress.

PyTorch is imported by ``compute`` alone, which has devices and threads.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from shutil import get_terminal_size
from time import perf_counter

from threadpoolctl import ThreadpoolController

# Seconds between two states of a line, where it is overwritten and in a log.
LIVE_SECONDS, LOG_SECONDS = 0.1, 10.0
# Seconds that imputation or sampling takes before its first line.
QUIET_SECONDS = 2.0


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line outside of this package and those that call it.

    No ``stacklevel`` is right: scikit-learn's decorators and pipelines add frames of their own.
    """
    frame, level = sys._getframe(1), 2
    internal = "sklearn_vae", "sklearn", "skorch", "torch", "joblib", "contextlib"
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in internal:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def one_thread(user_api: str) -> AbstractContextManager[None]:
    """Compute on one thread of the loaded libraries of ``"blas"`` or ``"openmp"``.

    Threads wait for each other after each of many small operations: on a busy machine, these take
    up to two hundred times as long. OpenMP's limit is that of the calling Python thread.
    """
    return _libraries(user_api).limit(limits=1)


@cache
def _libraries(user_api: str) -> ThreadpoolController:
    import_module("scipy.linalg")  # loads scipy's BLAS, which is another one than numpy's
    return ThreadpoolController().select(user_api=user_api)


# -- lines of progress ----------------------------------------------------------------------


class ProgressLine:
    """A line of the standard output with the state of a computation.

    A terminal or a notebook overwrites the line. Any other output, such as a log, gets a line every
    ``LOG_SECONDS``, and one at the end.
    """

    def __init__(self) -> None:
        self.begin = self.printed = perf_counter()
        # whether a carriage return begins the line again: in terminals and notebooks
        is_notebook = type(sys.stdout).__module__.startswith("ipykernel")
        self.is_live = is_notebook or getattr(sys.stdout, "isatty", lambda: False)()
        self.width = 0

    @property
    def seconds(self) -> float:
        """Seconds since the line was made."""
        return perf_counter() - self.begin

    @property
    def is_due(self) -> bool:
        """The last state is old enough for a new one."""
        return perf_counter() - self.printed >= (LIVE_SECONDS if self.is_live else LOG_SECONDS)

    def print(self, text: str, *, is_last: bool = False) -> None:
        """Print a state."""
        end = "\n"
        if self.is_live:
            width = get_terminal_size((0, 0)).columns  # 0 in a notebook
            if 0 < width <= len(text):  # only an unbroken line is overwritten
                text = "..." + text[len(text) - width + 4 :]
            # spaces erase the rest of a longer line
            text, self.width = "\r" + text.ljust(self.width), len(text)
            end = "\n" if is_last else ""
        print(text, end=end, flush=True)  # noqa: T201
        self.printed = perf_counter()


class RowProgress:
    """The progress of a computation on rows, printed if it takes more than ``QUIET_SECONDS``."""

    def __init__(self, verb: str, n_rows: int):
        self.title = f"{verb} {n_rows} rows:" if n_rows else f"{verb} rows:"
        self.n_rows = n_rows
        self.n_done = 0
        self.line = ProgressLine()

    def advance(self, n_rows: int) -> None:
        """Count rows that are done, and print the state if it is due."""
        self.n_done += n_rows
        if self.line.seconds >= QUIET_SECONDS and self.line.is_due:
            rate = self.n_done / self.line.seconds
            text = f"{self.title} {self.n_done} done, {rate:.3g} per second"
            if self.n_done <= self.n_rows:  # the number may not be known
                text += f", {(self.n_rows - self.n_done) / rate:.0f} s left"
            self.line.print(text)

    def end(self) -> None:
        """Print the last state."""
        if self.line.seconds >= QUIET_SECONDS:
            text = f"{self.title} {self.n_done} done, {self.line.seconds:.1f} s"
            self.line.print(text, is_last=True)


_shown: ContextVar[RowProgress | None] = ContextVar("shown", default=None)


@contextmanager
def show_progress(verb: str, n_rows: int, verbose: bool | int) -> Iterator[None]:
    """Print the progress of ``n_rows`` (0 if unknown) that ``advance`` counts, if ``verbose``."""
    progress = RowProgress(verb, n_rows) if verbose else None
    token = _shown.set(progress)
    try:
        yield
    finally:
        _shown.reset(token)
        if progress is not None:
            progress.end()


def uncounted() -> AbstractContextManager[None]:
    """Return a context in which ``advance`` counts nothing."""
    return show_progress("", 0, verbose=False)


def advance(n_rows: int) -> None:
    """Count rows that are done."""
    if (progress := _shown.get()) is not None:
        progress.advance(n_rows)
