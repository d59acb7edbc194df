"""One fit: beside other systems, beside its matrix products, inside, and as it grows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from parts.measure import alternate, ratio, table, timed
from peers import OURS, SYSTEMS, WORKLOADS, Workload, fit_once
from threadpoolctl import threadpool_limits

LIMIT = "products alone"
STEPS, FIT, STEP = range(3)  # the rows of a record

Prepare = Callable[[np.ndarray, Workload], Callable[[], int]]


def costs(
    prepare: Prepare, X: np.ndarray, work: Workload
) -> Callable[[], tuple[int, float, float]]:
    """Return what measures a fit: its steps, CPU ms per step, and CPU ms of a step alone."""
    runs = prepare(X, replace(work, epochs=1)), prepare(X, work)

    def measure() -> tuple[int, float, float]:
        (short, few), (long, many) = map(timed, runs)
        return many, 1e3 * long / many, 1e3 * (long - short) / (many - few)

    return measure


# -- beside other systems --------------------------------------------------------------


def products(_: np.ndarray, work: Workload) -> Callable[[], int]:
    """Return a run of the textbook's matrix products without anything else.

    In a step every layer has its output and its weights' gradient, and all but the first have
    their input's; the encoder's two heads count as one. ``torch.mm`` writes into buffers made
    beforehand, by torch's usual library or by oneDNN, whichever a first run finds faster.
    """
    n_codes = work.n_components
    encoder = pairwise((work.n_columns, *work.widths, 2 * n_codes))
    decoder = pairwise((n_codes, *reversed(work.widths), work.n_columns))
    batch = work.batch_size
    layers = [
        (torch.randn(batch, i), torch.randn(o, i), torch.randn(batch, o), torch.empty(batch, o))
        + (torch.empty(o, i), torch.empty(batch, i))
        for i, o in (*encoder, *decoder)
    ]
    # as many full batches as the passes have rows: their last batches are shorter
    n_batches = max(work.epochs * work.n_rows // batch, 1)

    def step() -> None:
        for number, (x, weight, grad, out, grad_weight, grad_x) in enumerate(layers):
            torch.mm(x, weight.T, out=out)
            torch.mm(grad.T, x, out=grad_weight)
            if number:
                torch.mm(grad, weight, out=grad_x)

    def run(precision: str, n_times: int) -> int:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            for _ in range(n_times):
                step()
        finally:
            torch.set_float32_matmul_precision(before)

        return work.n_steps

    def seconds(precision: str) -> float:
        run(precision, 3)
        return min(timed(partial(run, precision, 10))[0] for _ in range(5))

    return partial(run, min(("highest", "medium"), key=seconds), n_batches)


def report_fit(name: str, work: Workload, systems: list[str], rounds: int) -> None:
    """Print the costs of one workload, their paired ratios and their share of the limit."""
    X = work.rows()
    for system in systems:
        fit_once(system, replace(work, n_rows=2 * work.batch_size))
    with threadpool_limits(1):  # after the warm-up, which has loaded every library that has a pool
        prepare = {LIMIT: products, **{system: SYSTEMS[system] for system in systems}}
        measured = alternate({s: costs(prepare[s], X, work) for s in prepare}, rounds)
    records = {system: np.transpose(record) for system, record in measured.items()}

    def ratios(over: str, under: str) -> list[str]:
        if over not in records or under not in records:
            return ["not run"] * 2
        return [ratio(records[over][cost], records[under][cost]) for cost in (FIT, STEP)]

    table(
        f"{name}: {work.n_rows} rows × {work.n_columns} {'binary ' * work.binary}columns, "
        f"batch {work.batch_size}, widths {work.widths}, latent size {work.n_components}, "
        f"rounds: {rounds}",
        ["system", "steps", "CPU ms per step: fit", "step alone"]
        + ["speed, textbook = 1: fit", "step alone", f"{OURS}'s speed over it: fit", "step alone"]
        + ["share of the GEMM limit: fit", "step alone"],
        [
            [system, f"{record[STEPS][0]:.0f}"]
            + [f"{np.median(record[cost]):.3f}" for cost in (FIT, STEP)]
            + ratios("textbook", system)
            + ratios(system, OURS)
            + ratios(LIMIT, system)
            for system, record in records.items()
        ],
    )


# -- inside ----------------------------------------------------------------------------


def share_outside_steps(system: str, work: Workload) -> float:
    """Return the share of a fit's CPU time that is spent outside ``Trainer._train_on_batches``."""
    from unittest import mock

    from sklearn_vae.training import Trainer

    inside = []
    original = Trainer._train_on_batches

    def clocked(self: Trainer, *args: object) -> np.ndarray:
        start = time.process_time()
        result = original(self, *args)
        inside.append(time.process_time() - start)
        return result

    run = SYSTEMS[system](work.rows(), work)
    with mock.patch.object(Trainer, "_train_on_batches", clocked):
        total, _ = timed(run)

    return 1 - sum(inside) / total


def report_frame(rounds: int) -> None:
    """Print the share of W3's fit that is not spent in gradient steps."""
    rows = []
    for system in (OURS, f"{OURS}_defaults"):
        fit_once(system, WORKLOADS["W3"])
        for epochs in (100, 25):
            work = replace(WORKLOADS["W3"], epochs=epochs)
            percentages = [100 * share_outside_steps(system, work) for _ in range(rounds)]
            low, median, high = np.percentile(percentages, [25, 50, 75])
            rows.append([system, f"{work.n_steps}", f"{median:.1f} ({low:.1f} to {high:.1f})"])
    table(
        f"W3: a fit's CPU time outside its gradient steps (fits: {rounds})",
        ["system", "steps", "percent of the fit"],
        rows,
    )


# -- as it grows -----------------------------------------------------------------------

SMALL = replace(WORKLOADS["W1"], n_rows=5_000, epochs=3)
GROWTH = {
    "rows": {n: replace(SMALL, n_rows=n) for n in (5_000, 10_000, 20_000, 40_000)},
    "columns": {n: replace(SMALL, n_columns=n) for n in (16, 32, 64, 128, 256)},
    "latent size": {n: replace(SMALL, n_columns=64, n_components=n) for n in (4, 8, 16, 32)},
    "first width (the second is half)": {
        n: replace(SMALL, widths=(n, n // 2)) for n in (32, 64, 128, 256, 512)
    },
}


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> str:
    """Return the slope of the least-squares line through logarithms."""
    return f"{np.polyfit(np.log(sizes), np.log(seconds), 1)[0]:.2f}"


def report_growth(rounds: int) -> None:
    """Print how the cost of a pass grows with a table and a network, one size at a time."""
    fit_once(OURS, SMALL)
    rows = []
    for what, works in GROWTH.items():
        runs = {str(n): costs(SYSTEMS[OURS], work.rows(), work) for n, work in works.items()}
        records = alternate(runs, rounds)
        steps = [work.steps_per_pass for work in works.values()]
        medians = np.median(list(records.values()), axis=1)  # (sizes, 3)
        fit, step = (medians[:, cost] * steps for cost in (FIT, STEP))
        sizes = list(works)
        rows.append(
            [what, ", ".join(map(str, sizes)), f"{step[0]:.0f} to {step[-1]:.0f}"]
            + [exponent(sizes, fit), exponent(sizes, step)]
        )
    table(
        f"Growth of the cost of a pass ({SMALL.n_rows} rows × {SMALL.n_columns} columns, batch "
        f"{SMALL.batch_size}, widths {SMALL.widths}, latent size {SMALL.n_components}, where not "
        f"said otherwise; rounds: {rounds})",
        ["what grows", "sizes", "CPU ms per pass", f"exponent: fit of {SMALL.epochs} passes"]
        + ["passes alone"],
        rows,
    )
