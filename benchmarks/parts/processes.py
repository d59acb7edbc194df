"""Measurements of whole processes: peak memory and start-up."""

import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import fresh, peak_mib, table
from peers import OURS, PACKAGES, SYSTEMS, WORKLOADS, fit_once

TOY = {"n_rows": 64, "n_columns": 4, "batch_size": 32, "widths": (8,), "n_components": 2}
IMPORTS = {
    "Python alone": "",
    "`import sklearn_vae`": "import sklearn_vae",
    "`from sklearn_vae import VAETransformer`": "from sklearn_vae import VAETransformer",
    "`import torch`": "import torch",
}


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
    title = f"{name}: peak memory ({X.nbytes / 2**20:.1f} MiB of rows)"
    table(title, ["system", "after a toy fit, MiB", "a fit adds, MiB"], rows)


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
