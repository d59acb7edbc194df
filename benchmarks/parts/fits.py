"""One fit beside those of other systems."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from common import alternate, ratio, table, timed
from peers import OURS, SYSTEMS, Workload, fit_once

STEPS, FIT, STEP = range(3)  # the rows of a record


def costs(
    prepare: Callable, X: np.ndarray, work: Workload
) -> Callable[[], tuple[int, float, float]]:
    """Return what measures a fit: its steps, CPU ms per step, and CPU ms of a step alone."""
    runs = prepare(X, replace(work, epochs=1)), prepare(X, work)

    def measure() -> tuple[int, float, float]:
        (short, few), (long, many) = map(timed, runs)
        return many, 1e3 * long / many, 1e3 * (long - short) / (many - few)

    return measure


def report_fit(name: str, work: Workload, systems: list[str], rounds: int) -> None:
    """Print the costs of one workload and their paired ratios."""
    X = work.rows()
    for system in systems:
        fit_once(system, replace(work, n_rows=2 * work.batch_size))
    measured = alternate({s: costs(SYSTEMS[s], X, work) for s in systems}, rounds)
    records = {system: np.transpose(record) for system, record in measured.items()}

    def ratios(over: str, under: str) -> list[str]:
        if over not in records:
            return ["not run"] * 2
        return [ratio(records[over][cost], records[under][cost]) for cost in (FIT, STEP)]

    lines = []
    for system, record in records.items():
        medians = [f"{np.median(record[cost]):.3f}" for cost in (FIT, STEP)]
        lines.append([system, f"{record[STEPS][0]:.0f}", *medians])
        lines[-1] += [*ratios("textbook", system), *ratios(system, OURS)]
    table(
        f"{name}: {work.n_rows} rows × {work.n_columns} {'binary ' * work.binary}columns, "
        f"batch {work.batch_size}, widths {work.widths}, latent size {work.n_components}, "
        f"rounds: {rounds}",
        ["system", "steps", "CPU ms per step: fit", "step alone"]
        + ["speed, textbook = 1: fit", "step alone", f"{OURS}'s speed over it: fit", "step alone"],
        lines,
    )
