"""Fits with hand-written gradients beside fits with autograd's, paired.

    python benchmarks/gradients.py             # ten minutes on one thread of a busy machine
    python benchmarks/gradients.py --quick     # two minutes, fewer rounds and iterations

In each round every model is fitted with both gradients, in turns, in one process on one thread.
Printed are the CPU seconds of a fit less those of one iteration, per step, as medians over the
rounds, and the median ratio within a round.
"""

from statistics import median
from unittest import mock

import numpy as np
from common import options, table, timed
from sklearn.base import BaseEstimator, clone

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.training import gradients

MODELS: dict[str, BaseEstimator] = {
    "normal prior": VAETransformer(),
    "mixture prior": VAETransformer(prior="mixture"),
    "VampPrior": VAETransformer(prior="vamp"),
    "total correlation": VAETransformer(objective="tc"),
    "MMD": VAETransformer(objective="mmd"),
    "VAEDensity": VAEDensity(n_components=2),
}
STEPS_PER_ITERATION = 25  # of a table of fewer than 25 batches


def rows() -> np.ndarray:
    """Twenty correlated normal columns of 1,000 rows."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(1000, 20)) @ rng.normal(size=(20, 20))


def seconds(model: BaseEstimator, X: np.ndarray, max_iter: int) -> float:
    """CPU seconds of a fit."""
    model = clone(model).set_params(max_iter=max_iter, early_stopping=False, random_state=0)
    return timed(lambda: model.fit(X))[0]


def seconds_per_step(model: BaseEstimator, X: np.ndarray, max_iter: int) -> float:
    """CPU seconds of a step, without what a fit computes once."""
    difference = seconds(model, X, max_iter) - seconds(model, X, 1)
    return difference / ((max_iter - 1) * STEPS_PER_ITERATION)


def main() -> None:
    args = options(__doc__, quick=False)
    rounds, max_iter = (2, 6) if args.quick else (7, 21)
    X, lines = rows(), []
    for name, model in MODELS.items():
        seconds(model, X, 2)  # imports, and torch's first calls
        times = []
        for _ in range(rounds):
            with mock.patch.object(gradients, "HAND_WRITTEN", ()):
                autograd = seconds_per_step(model, X, max_iter)
            times.append((autograd, seconds_per_step(model, X, max_iter)))
        slow, fast = (f"{1e3 * median(column):.2f}" for column in zip(*times, strict=True))
        lines.append([name, slow, fast, f"{median(a / b for a, b in times):.2f}"])
    table("ms per step", ["model", "autograd", "hand-written", "ratio"], lines)


if __name__ == "__main__":
    main()
