"""Time of a fitted model's methods: scores per row and draw, codes per row."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from common import alternate, ratio, table, timed
from peers import (
    WORKLOADS,
    TextbookVAE,
    Workload,
    pyod_vae_detector,
    pythae_model,
    vae_transformer,
    vae_transformer_like_textbook,
)

DRAWS = 64
FEW = 500  # rows for pythae, which takes them one at a time
OURS = {"sklearn_vae": vae_transformer_like_textbook, "sklearn_vae_defaults": vae_transformer}

# A task is what to call, and for how many rows times draws it answers.
Task = tuple[Callable[[], object], int]


def nll_of_pythae(X: np.ndarray, work: Workload) -> Task:
    """pythae's importance-weighted likelihood.

    ``get_nll`` takes the rows one by one and draws ``batch_size`` times per row whatever
    ``n_samples`` is, as long as that is smaller; it encodes the row anew for each draw. Both
    are set to the number of draws here, and it is spared the graph for gradients.
    """
    model, data = pythae_model(work).eval(), torch.from_numpy(X[:FEW])

    def run() -> None:
        with torch.no_grad():
            model.get_nll(data, n_samples=DRAWS, batch_size=DRAWS)

    return run, DRAWS * len(data)


def codes_of_textbook(X: np.ndarray, work: Workload) -> Task:
    """The textbook's encoder in a DataLoader loop, without gradients."""
    from torch.utils.data import DataLoader, TensorDataset

    model = TextbookVAE(work).eval()

    def run() -> np.ndarray:
        loader = DataLoader(TensorDataset(torch.from_numpy(X)), work.batch_size)
        with torch.no_grad():
            return torch.cat([model.loc(model.encoder(x)) for (x,) in loader]).numpy()

    return run, len(X)


def scores_of_pyod(X: np.ndarray, work: Workload) -> Task:
    """PyOD VAE's outlier score: the error of one reconstruction, of one draw."""
    detector = pyod_vae_detector(work).fit(X[: 2 * work.batch_size])

    return lambda: detector.decision_function(X), len(X)


def tasks(X: np.ndarray, work: Workload, systems: list[str]) -> tuple[dict, dict]:
    """Return what scores rows and what encodes them, by name."""
    scores, codes = {}, {}
    if "pythae" in systems:
        scores["pythae: get_nll"] = nll_of_pythae(X, work)
    if "pyod_vae" in systems:
        scores["pyod_vae: decision_function"] = scores_of_pyod(X, work)
    if "textbook" in systems:
        codes["textbook: DataLoader loop"] = codes_of_textbook(X, work)
    for system in [system for system in OURS if system in systems]:
        model = OURS[system](replace(work, epochs=1)).fit(X[: 20 * work.batch_size])
        scores[f"{system}: score_samples"] = (
            lambda model=model: model.score_samples(X, n_draws=DRAWS),
            DRAWS * len(X),
        )
        codes[f"{system}: transform"] = (lambda model=model: model.transform(X), len(X))

    return scores, codes


def report_inference(n_rows: int, systems: list[str], rounds: int) -> None:
    """Print the cost of scores per row and draw, and that of codes per row."""
    work = replace(WORKLOADS["W1"], n_rows=n_rows)
    scores, codes = tasks(work.rows(), work, systems)
    for what, runs, base, unit in (
        (f"Scores, {DRAWS} draws per row (PyOD: one)", scores, "pythae: get_nll", "row and draw"),
        ("Codes", codes, "textbook: DataLoader loop", "row"),
    ):
        seconds = alternate(
            {name: lambda run=run, n=n: timed(run)[0] / n for name, (run, n) in runs.items()},
            rounds,
        )
        table(
            f"{what}: {n_rows} rows × {work.n_columns} columns, rounds: {rounds}",
            ["what", f"CPU ns per {unit}", f"speed, {base} = 1"],
            [
                [name, f"{1e9 * np.median(cost):.0f}", ratio(seconds.get(base), cost)]
                for name, cost in seconds.items()
            ],
        )
