"""Shared by the benchmarks: options, times, fresh processes, a cache of results, tables."""

import argparse
import ast
import gc
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
Result = TypeVar("Result")


# -- options ---------------------------------------------------------------------------


def parameter(text: str) -> tuple[str, Any]:
    """Read `name=value`: the value is a Python literal, or else a word."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def options(doc: str | None, **defaults: Any) -> argparse.Namespace:
    """Read the command line, and compute on one thread from here on.

    The type of an option is that of its default: a list is given with commas between its items,
    a dict as `NAME=VALUE` any number of times, and False as a flag.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in defaults.items():
        flag = "--" + name.replace("_", "-")
        if default is False:
            parser.add_argument(flag, action="store_true")
        elif isinstance(default, dict):
            parser.add_argument(flag, action="append", default=[], type=parameter)
        elif isinstance(default, list):
            shown = ",".join(map(str, default)).replace("%", "%%")
            parser.add_argument(flag, type=items(type(default[0])), default=default, help=shown)
        else:
            parser.add_argument(flag, type=type(default), default=default, help="%(default)s")
    args = parser.parse_args()
    for name, default in defaults.items():
        if isinstance(default, dict):
            setattr(args, name, default | dict(getattr(args, name)))
    torch.set_num_threads(1)
    threadpool_limits(1)

    return args


def items(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Return a parser of items with commas between."""
    return lambda text: [kind(word) for word in text.split(",") if word]


# -- times and processes ---------------------------------------------------------------


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


def fresh(code: str) -> str:
    """Run code in a fresh interpreter with one thread, and return what it prints."""
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code]

    return subprocess.check_output(command, cwd=HERE, env=env, text=True)


def peak_mib() -> float:
    """Return this process's highest resident memory so far."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


# -- a cache of results ----------------------------------------------------------------


def cached(file: str, key: str, compute: Callable[[], Result]) -> Result:
    """Take a result from a file of `.cache`, or compute it and keep it there."""
    path = HERE / ".cache" / f"{file}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if key in kept:
        return kept[key]
    result = compute()
    path.parent.mkdir(exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {}
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(kept | {key: result}, indent=1, sort_keys=True))
    part.replace(path)

    return result


def digest(*arrays: np.ndarray) -> str:
    """Return a short name of the contents of arrays."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:12]


# -- tables ----------------------------------------------------------------------------


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a titled markdown table."""
    print(f"\n### {title}\n")
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(row) + " |", flush=True)


def print_frame(title: str, cells: pd.DataFrame, form: str | None = None) -> None:
    """Print a data frame with its index; numbers in a format such as `.2f`."""
    if form is not None:
        cells = cells.map(lambda value: "" if pd.isna(value) else format(value, form))
    rows = [[", ".join(map(str, np.atleast_1d(i))), *row] for i, *row in cells.itertuples()]
    table(title, ["", *map(str, cells)], rows)


def summary(values: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """Mean ± standard deviation over the seeds, by the level `table`."""
    by_table = values.groupby(level="table", sort=False)
    spread = by_table.std().map(lambda std: f" ± {std:.{digits}f}" if np.isfinite(std) else "")
    means = by_table.mean().map(lambda mean: f"{mean:.{digits}f}" if mean == mean else "")
    return means + spread


def wins(gaps: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """Count the positive gaps, by table (their mean over the seeds) and by split."""
    by_table = gaps.groupby(level="table").mean()

    def won(values: pd.DataFrame) -> pd.Series:
        return (values > 0).sum().astype(str) + " of " + values.notna().sum().astype(str)

    columns = {
        "tables won": won(by_table),
        "splits won": won(gaps),
        "mean gap": by_table.mean().map(f"{{:+.{digits}f}}".format),
        "worst table": by_table.min().map(f"{{:+.{digits}f}}".format),
    }
    return pd.DataFrame(columns)


def tell(*words: object) -> None:
    """Print on standard error, as a result comes."""
    print(*words, file=sys.stderr, flush=True)
