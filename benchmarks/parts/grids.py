"""A grid of fits with cross-validation: the textbook's, scikit-learn's over ours, and ours."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from common import alternate, ratio, table, timed
from peers import (
    WORKLOADS,
    NegativeELBO,
    Workload,
    train_textbook,
    vae_transformer_like_textbook,
)
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from tables import load_table

from sklearn_vae import VAETransformer
from sklearn_vae.model_selection import VAESearchCV

FOLDS = 5
GRID = {"n_components": [2, 4, 6, 8], "beta": [0.5, 1.0, 2.0, 4.0]}
TEXTBOOK = "GridSearchCV of the textbook loop"
ALONE = "GridSearchCV of VAETransformer"
TOGETHER = "VAESearchCV of VAETransformer"

# Whole tables; the passes are those over the four folds that a fit sees.
TABLES = {
    "500×10": replace(WORKLOADS["W3"], epochs=57),
    "5000×20": replace(WORKLOADS["W1"], n_rows=5_000, n_columns=20, epochs=8),
}

# A user's search: default networks, training and refit, on real tables.
REAL_TABLES = ("wine", "diabetes", "breast_cancer")
REAL_GRID = {"n_components": [2, 4, 8], "beta": [0.5, 1.0, 2.0]}


class TextbookEstimator(BaseEstimator):
    """The textbook loop with what a search asks for: parameters, ``fit`` and ``score``."""

    def __init__(
        self, work: Workload, n_components: int = 2, beta: float = 1.0, random_state: int = 0
    ):
        self.work = work
        self.n_components = n_components
        self.beta = beta
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: None = None) -> "TextbookEstimator":
        torch.manual_seed(self.random_state)
        work = replace(self.work, n_components=self.n_components)
        self.model_, self.n_steps_ = train_textbook(X, work, self.beta)

        return self

    def score(self, X: np.ndarray, y: None = None) -> float:
        """Minus the loss of one draw per row, averaged over the rows."""
        self.model_.eval()
        x = torch.from_numpy(X)
        with torch.no_grad():
            return -NegativeELBO(self.work.binary, self.beta)(self.model_(x), x).item()


def searches(work: Workload, systems: Sequence[str]) -> dict[str, Callable]:
    """Return constructors of the searches, and print the gradient steps of their fits."""
    fold = replace(work, n_rows=work.n_rows * (FOLDS - 1) // FOLDS)
    textbook, ours = TextbookEstimator(fold), vae_transformer_like_textbook(fold)
    options = {"cv": FOLDS, "refit": False, "n_jobs": None}
    found = {
        ALONE: lambda: GridSearchCV(ours, GRID, **options),
        TOGETHER: lambda: VAESearchCV(ours, GRID, **options),
    }
    steps = {"VAETransformer": ours.fit(fold.rows()).n_steps_}  # the warm-up, too
    if "textbook" in systems:
        found = {TEXTBOOK: lambda: GridSearchCV(textbook, GRID, **options), **found}
        steps["the textbook loop"] = textbook.fit(fold.rows()).n_steps_
    print("\nGradient steps per fit:", ", ".join(f"{n} of {name}" for name, n in steps.items()))

    return found


def report_grid(name: str, work: Workload, systems: Sequence[str], rounds: int) -> None:
    """Print the CPU seconds of whole searches and their paired ratios."""
    X = work.rows()
    runs = {
        search: lambda make=make: timed(lambda: make().fit(X))[0]
        for search, make in searches(work, systems).items()
    }
    seconds = alternate(runs, rounds)
    n_fits = FOLDS * np.prod([len(values) for values in GRID.values()])
    table(
        f"{n_fits} fits on {name}: batch {work.batch_size}, widths {work.widths}, rounds: {rounds}",
        ["search", "CPU s", "speed, textbook's grid = 1", "GridSearchCV of VAETransformer = 1"],
        [
            [search, f"{np.median(times):.2f}"]
            + [ratio(seconds.get(TEXTBOOK), times), ratio(seconds[ALONE], times)]
            for search, times in seconds.items()
        ],
    )


def report_default_grid(names: Sequence[str], rounds: int) -> None:
    """Print what VAESearchCV gains over GridSearchCV where everything but the grid is a default."""
    lines = []
    for name in names:
        X = load_table(name).X
        runs = {
            search: lambda make=make, X=X: timed(
                lambda: make(VAETransformer(random_state=0), REAL_GRID, cv=FOLDS).fit(X)
            )[0]
            for search, make in ((ALONE, GridSearchCV), (TOGETHER, VAESearchCV))
        }
        seconds = alternate(runs, rounds)
        alone, together = (seconds[search] for search in runs)
        size = f"{name}, {len(X)}×{X.shape[1]}"
        lines.append([size, *(f"{np.median(s):.1f}" for s in (alone, together))])
        lines[-1].append(ratio(alone, together))
    n_fits = FOLDS * np.prod([len(values) for values in REAL_GRID.values()])
    table(
        f"{n_fits} fits and a refit, all at defaults, rounds: {rounds}",
        ["table", "GridSearchCV, CPU s", "VAESearchCV, CPU s", "times as fast"],
        lines,
    )
