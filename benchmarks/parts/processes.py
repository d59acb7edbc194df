"""Measurements of whole processes: peak memory, start-up, threads and parallel processes."""

import json
import resource
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from parts.measure import alternate, fresh, ratio, table, timed
from peers import OURS, PACKAGES, SYSTEMS, WORKLOADS, Workload, fit_once

TOY = {"n_rows": 64, "n_columns": 4, "batch_size": 32, "widths": (8,), "n_components": 2}
IMPORTS = {
    "Python alone": "",
    "`import sklearn_vae`": "import sklearn_vae",
    "`from sklearn_vae import VAETransformer`": "from sklearn_vae import VAETransformer",
    "`import sklearn`": "import sklearn",
    "`import torch`": "import torch",
}

# -- memory ----------------------------------------------------------------------------


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
    X, work = np.load(path), replace(WORKLOADS[name], epochs=1)
    fit_once(system, replace(work, **TOY))
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
            call = f"print_memory({system!r}, {name!r}, {path!r})"
            printed = fresh(f"from parts.processes import print_memory; {call}")
            before, after = map(float, printed.split()[-2:])
            rows.append([system, f"{before:.0f}", f"{after - before:.1f}"])
    table(
        f"{name}: peak memory ({X.nbytes / 2**20:.1f} MiB of rows)",
        ["system", "after a toy fit, MiB", "a fit adds, MiB"],
        rows,
    )


# -- start -----------------------------------------------------------------------------


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
    """Print the cost of imports and of each package's first fit in fresh processes."""
    codes = {k: code for k, code in IMPORTS.items() if OURS in systems or "sklearn_vae" not in k}
    for system in {PACKAGES.get(s, s): s for s in reversed(systems)}.values():
        code = f"from peers import WORKLOADS, fit_once; fit_once({system!r}, WORKLOADS['W3'])"
        codes[f"{system}: imports and a first fit"] = code
    table(
        f"Start of a fresh process (runs: {runs})",
        ["what", "wall s", "CPU s", "torch loaded"],
        [[what, *start_cost(code, runs)] for what, code in codes.items()],
    )


# -- threads and neighbours ------------------------------------------------------------


def fit_rows(X: np.ndarray, work: Workload) -> int:
    """Fit this package; a function that joblib can send to another process."""
    return SYSTEMS[OURS](X, work)()


def print_walls(name: str, epochs: int, rounds: int) -> None:
    """In a fresh process: print wall seconds by round of a fit on one thread, and so on."""
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    work = replace(WORKLOADS[name], epochs=epochs)
    X, n_threads = work.rows(), torch.get_num_threads()

    def on_one_thread() -> None:
        torch.set_num_threads(1)
        with threadpool_limits(1):
            fit_rows(X, work)
        torch.set_num_threads(n_threads)

    def side_by_side(work: Workload) -> None:
        Parallel(n_jobs=2)(delayed(fit_rows)(X, work) for _ in range(2))

    side_by_side(replace(work, epochs=1))  # starts the workers and imports torch there
    fit_rows(X, replace(work, epochs=1))
    runs = {
        "one thread": on_one_thread,
        "default": partial(fit_rows, X, work),
        "two": partial(side_by_side, work),
    }
    clocked = {k: lambda run=run: timed(run, time.perf_counter)[0] for k, run in runs.items()}
    print(json.dumps({"threads": n_threads, **alternate(clocked, rounds)}))


def report_threads(works: dict[str, int], rounds: int) -> None:
    """Print what a second thread and a second process do to the wall time of fits."""
    rows = []
    for name, epochs in works.items():
        call = f"print_walls({name!r}, {epochs}, {rounds})"
        printed = fresh(f"from parts.processes import print_walls; {call}", n_threads=None)
        walls = json.loads(printed.splitlines()[-1])
        one, default, two = (np.array(walls[k]) for k in ("one thread", "default", "two"))
        rows.append(
            [f"{name}, {epochs} passes", str(walls["threads"])]
            + [f"{np.median(times):.2f}" for times in (one, default, two)]
            + [ratio(one, default), ratio(2 * default, two), ratio(2 * one, two)]
        )
    table(
        f"{OURS}: threads and two processes side by side (joblib), rounds: {rounds}",
        ["fit", "torch's threads", "wall s: one thread", "torch's threads", "two fits, n_jobs=2"]
        + ["speed by threads", "n_jobs=2 over one after the other", "the same on one thread"],
        rows,
    )
