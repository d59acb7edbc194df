"""One fit of this package beside its peers': time per gradient step, memory, start.

    python benchmarks/one_fit.py                 # all workloads
    python benchmarks/one_fit.py --quick         # W1 and W3, less of each: under a minute
    python benchmarks/one_fit.py --workloads W1,W4 --systems textbook,sklearn_vae --parts speed

How each figure is obtained:

- Speed: all systems fit the same rows in one process on one thread, in turn, round after round,
  every second round in reverse. A round gives each system two costs: of a fit, its CPU time over
  its gradient steps; of a step alone, what the passes after the first add, over their steps, so
  that work done once per fit drops out. Costs are medians over the rounds; speeds are medians and
  quartiles of the ratios within a round. Compare the ratios, not the milliseconds.
- Memory: one fresh process per system loads the rows, makes a toy fit, so that every lazy import
  is behind it, and notes its highest resident memory so far; the table says what one pass over
  all rows then adds. Where there is /proc, the kernel's VmHWM is read and not ``ru_maxrss``,
  which a process inherits from the one that started it.
- Start: wall and CPU seconds of fresh processes that import, or import and make a first fit (one
  pass over W3's 500 rows); median of the runs, the interpreter's own start included.

A system that is not installed is named and left out.
"""

import argparse
import dataclasses
import gc
import importlib.metadata
import importlib.util
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from peers import PACKAGES, SYSTEMS, WORKLOADS, Workload
from threadpoolctl import threadpool_limits

OURS = "sklearn_vae"
STEPS, FIT, STEP = range(3)  # the rows of a record
TOY = {"n_rows": 64, "n_columns": 4, "batch_size": 32, "widths": (8,), "n_components": 2}
IMPORTS = {
    "Python alone": "",
    "`import sklearn_vae`": "import sklearn_vae",
    "`from sklearn_vae import VAETransformer`": "from sklearn_vae import VAETransformer",
    "`import sklearn`": "import sklearn",
    "`import torch`": "import torch",
}


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a titled markdown table."""
    print(f"\n### {title}\n")
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(row) + " |", flush=True)


def fit_once(system: str, work: Workload) -> None:
    """Fit one pass over fresh rows: a warm-up, or the first fit of a process."""
    once = dataclasses.replace(work, epochs=1)
    SYSTEMS[system](once.rows(), once)()


def timed(run: Callable[[], int]) -> tuple[float, int]:
    """Return the CPU milliseconds of one fit, and its gradient steps."""
    gc.collect()
    start = time.process_time()
    n_steps = run()
    return 1e3 * (time.process_time() - start), n_steps


def alternate(systems: list[str], work: Workload, rounds: int) -> dict[str, np.ndarray]:
    """Fit with every system in every round; return their records, shape (3, rounds)."""
    X, once = work.rows(), dataclasses.replace(work, epochs=1)
    runs = {s: (SYSTEMS[s](X, once), SYSTEMS[s](X, work)) for s in systems}
    records = {system: [] for system in systems}
    for i in range(rounds):
        for system in systems[:: -1 if i % 2 else 1]:
            (short, few), (long, many) = map(timed, runs[system])
            records[system].append((many, long / many, (long - short) / (many - few)))

    return {system: np.transpose(record) for system, record in records.items()}


def ratio(records: dict[str, np.ndarray], over: str, under: str, cost: int) -> str:
    """Return the median and the quartiles of two systems' paired ratios as text."""
    if over not in records or under not in records:
        return "not run"
    low, median, high = np.percentile(records[over][cost] / records[under][cost], [25, 50, 75])

    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def report_speed(name: str, work: Workload, systems: list[str], rounds: int) -> None:
    """Print the costs of one workload and their paired ratios."""
    for system in systems:
        fit_once(system, dataclasses.replace(work, n_rows=2 * work.batch_size))
    with threadpool_limits(1):  # after the warm-up, which has loaded every library that has a pool
        records = alternate(systems, work, rounds)
    table(
        f"{name}: {work.n_rows} rows × {work.n_columns} {'binary ' * work.binary}columns, "
        f"batch {work.batch_size}, widths {work.widths}, latent size {work.n_components}, "
        f"{rounds} rounds",
        ["system", "steps", "CPU ms per step: fit", "step alone"]
        + ["speed, textbook = 1: fit", "step alone", f"{OURS}'s speed over it: fit", "step alone"],
        [
            [system, f"{record[STEPS][0]:.0f}"]
            + [f"{np.median(record[cost]):.3f}" for cost in (FIT, STEP)]
            + [ratio(records, "textbook", system, cost) for cost in (FIT, STEP)]
            + [ratio(records, system, OURS, cost) for cost in (FIT, STEP)]
            for system, record in records.items()
        ],
    )


def fresh(code: str) -> str:
    """Run code in a fresh interpreter on one thread and return what it prints."""
    return subprocess.check_output(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
    )


def peak_mib() -> float:
    """Return this process's highest resident memory so far."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def print_memory(system: str, name: str, path: str) -> None:
    """In a fresh process: print the peak before one pass over the rows and after it."""
    torch.set_num_threads(1)
    X, work = np.load(path), dataclasses.replace(WORKLOADS[name], epochs=1)
    fit_once(system, dataclasses.replace(work, **TOY))
    before = peak_mib()
    SYSTEMS[system](X, work)()
    print(before, peak_mib())


def report_memory(name: str, systems: list[str]) -> None:
    """Print what one pass over the rows adds to the memory of a fresh process."""
    X = WORKLOADS[name].rows()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.npy")
        np.save(path, X)
        for system in systems:
            code = f"import one_fit; one_fit.print_memory({system!r}, {name!r}, {path!r})"
            before, after = map(float, fresh(code).split()[-2:])
            rows.append([system, f"{before:.0f}", f"{after - before:.1f}"])
    table(
        f"{name}: peak memory ({X.nbytes / 2**20:.1f} MiB of rows)",
        ["system", "after a toy fit, MiB", "a fit adds, MiB"],
        rows,
    )


def start_cost(code: str, runs: int) -> list[str]:
    """Return median wall and CPU seconds of fresh processes, and whether torch was loaded."""
    walls, cpus = [], []
    for _ in range(runs):
        usage, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        printed = fresh(code + "\nimport sys; print('torch' in sys.modules)")
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime)
    loaded = "yes" if printed.split()[-1] == "True" else "no"

    return [f"{np.median(walls):.2f}", f"{np.median(cpus):.2f}", loaded]


def report_start(systems: list[str], runs: int) -> None:
    """Print the cost of imports and of a first fit in fresh processes."""
    codes = {k: code for k, code in IMPORTS.items() if OURS in systems or "sklearn_vae" not in k}
    for system in systems:
        code = f"from one_fit import *; fit_once({system!r}, WORKLOADS['W3'])"
        codes[f"{system}: imports and a first fit"] = code
    table(
        f"Start of a fresh process ({runs} runs)",
        ["what", "wall s", "CPU s", "torch loaded"],
        [[what, *start_cost(code, runs)] for what, code in codes.items()],
    )


def available(systems: list[str]) -> list[str]:
    """Return the installed systems; print their versions and name those left out."""
    packages = {system: PACKAGES.get(system, system) for system in systems}
    found = [system for system in systems if importlib.util.find_spec(packages[system])]
    for system in [system for system in systems if system not in found]:
        print(f"{system} is left out: {packages[system]} is not installed.")
    peers = dict.fromkeys(["numpy", *(packages[s] for s in found if s != OURS)])
    versions = [f"{peer} {importlib.metadata.version(peer)}" for peer in peers]
    print(f"Python {platform.python_version()}, {', '.join(versions)}; one thread.")

    return found


def names(choices: dict) -> Callable[[str], list[str]]:
    """Return a parser of comma-separated names that refuses unknown ones."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(choices):
            raise argparse.ArgumentTypeError(f"{unknown} not among {', '.join(choices)}")
        return chosen

    return parse


def main() -> None:
    """Run the parts that were asked for."""
    parts = dict.fromkeys(["speed", "memory", "start"])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--workloads", type=names(WORKLOADS), help="default: all (quick: W1,W3)")
    parser.add_argument("--systems", type=names(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--parts", type=names(parts), default=list(parts))
    parser.add_argument("--rounds", type=int, help="default: 5 (quick: 3)")
    args = parser.parse_args()

    torch.set_num_threads(1)
    systems = available(args.systems)
    chosen = args.workloads or (["W1", "W3"] if args.quick else list(WORKLOADS))
    if "speed" in args.parts:
        for name in chosen:
            work = WORKLOADS[name]
            epochs = work.epochs // 2 if args.quick else work.epochs
            rounds = args.rounds or (3 if args.quick else 5)
            report_speed(name, dataclasses.replace(work, epochs=epochs), systems, rounds)
    if "memory" in args.parts:
        for name in chosen[:1] if args.quick else chosen:
            report_memory(name, systems)
    if "start" in args.parts:
        few = [s for s in systems if s in ("textbook", OURS)]
        report_start(few if args.quick else systems, runs=1 if args.quick else 5)


if __name__ == "__main__":
    main()
