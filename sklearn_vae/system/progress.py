"""Lines of progress: of a training, and of rows that are imputed or sampled."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from shutil import get_terminal_size
from time import perf_counter

# Seconds between two states of a line, where it is overwritten and in a log.
LIVE_SECONDS = 0.1
LOG_SECONDS = 10.0
# Seconds that imputation or sampling takes before its first line.
QUIET_SECONDS = 2.0


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
