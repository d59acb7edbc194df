"""Shared by all parts: costs, rounds, paired ratios, fresh processes, tables."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")


def timed(
    run: Callable[[], Result], clock: Callable[[], float] = time.process_time
) -> tuple[float, Result]:
    """Return the seconds that a call takes, of CPU unless told otherwise, and what it returns."""
    gc.collect()
    start = clock()
    result = run()

    return clock() - start, result


def alternate(runs: dict[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Call each run in every round, in every second one in reverse; return what they return."""
    gc.collect()
    gc.freeze()  # collections pass over what imports and warm-ups have left behind
    results = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: -1 if i % 2 else 1]:
            results[name].append(runs[name]())

    return results


def ratio(over: Sequence[float] | None, under: Sequence[float] | None) -> str:
    """Return the median and the quartiles of the ratios within rounds as text."""
    if over is None or under is None:
        return "not run"
    low, median, high = np.percentile(np.divide(over, under), [25, 50, 75])

    return f"{median:.2f}" + (f" ({low:.2f} to {high:.2f})" if len(over) > 1 else "")


def fresh(code: str, n_threads: int | None = 1) -> str:
    """Run code in a fresh interpreter and return what it prints.

    ``n_threads=None`` leaves the number of threads to the libraries.
    """
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    if n_threads is not None:
        env["OMP_NUM_THREADS"] = str(n_threads)

    return subprocess.check_output(
        [sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[1], env=env, text=True
    )


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a titled markdown table."""
    print(f"\n### {title}\n")
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(row) + " |", flush=True)
