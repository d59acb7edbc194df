"""Held-out scores of rounded numbers, with and without noise of one step.

    python benchmarks/rounded.py

How each figure is obtained:

- The rows are 1,500 of six dependent columns of the integers 0 to 4, of which 1,000 are the
  training rows. By default each column has point masses at its values.
- Scores are means over the other rows, as recorded or with uniform noise of one step, by a
  `VAEDensity` that was fitted to the training rows as recorded, or with noise (`random_state=0`).
- "Exact" is the mean log-probability of the six columns, by the distribution that they are drawn
  from.
"""

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from sklearn_vae import VAEDensity

N_LEVELS, N_COLUMNS = 5, 6


def six_columns(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a Markov chain of integers, whose next is the same with probability .6: rows, log p."""
    X, log_p = np.empty((n, N_COLUMNS), dtype=int), np.zeros(n)
    X[:, 0] = rng.integers(N_LEVELS, size=n)
    log_p -= np.log(N_LEVELS)
    for j in range(1, N_COLUMNS):
        stays = rng.random(n) < 0.6
        X[:, j] = np.where(stays, X[:, j - 1], rng.integers(N_LEVELS, size=n))
        log_p += np.log(0.4 / N_LEVELS + 0.6 * (X[:, j] == X[:, j - 1]))
    return X.astype(float), log_p


def main() -> None:
    torch.set_num_threads(1)
    print("| nats per row | as recorded | with noise | exact |\n|---|---|---|---|")
    with threadpool_limits(1):
        X, log_p = six_columns(np.random.default_rng(0), 1500)
        train, test = X[:1000], X[1000:]
        noisy = test + np.random.default_rng(1).uniform(-0.5, 0.5, size=test.shape)
        noise = np.random.default_rng(2).uniform(-0.5, 0.5, size=train.shape)
        for name, rows in (("as recorded", train), ("with noise", train + noise)):
            density = VAEDensity(random_state=0).fit(rows)
            scores = density.score(test), density.score(noisy), log_p[1000:].mean()
            cells = " | ".join(f"{score:.2f}" for score in scores)
            print(f"| fitted {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
