"""Fraction of new rows that `VAEOutlierDetector` flags, on tables without outliers.

    python benchmarks/thresholds.py
    python benchmarks/thresholds.py --seeds 3

How each figure is obtained:

- A random half of wine, of the benign samples of breast_cancer and of digits, with at most 500 rows
  each, are the training rows, the other half new rows. "Normal, n × d" are n rows of independent
  normal columns (360 × 30: of correlated ones), with 2,000 new rows.
- Detectors have `contamination=0.05` and otherwise default parameters.
- A figure is the mean over the seeds of the fraction of new rows that are flagged, with its
  standard error. The seed draws the rows and is the `random_state`.
"""

from functools import partial

import numpy as np
from common import options, table
from tables import LABELLED

from sklearn_vae import VAEOutlierDetector

N_NEW = 2000


def normal(n: int, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw n training rows and 2,000 new ones."""
    mixing = rng.normal(size=(d, d)) if d == 30 else np.eye(d)
    return rng.normal(size=(n, d)) @ mixing, rng.normal(size=(N_NEW, d)) @ mixing


def halves(X: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    X = rng.permutation(X)[:1000]
    return X[::2], X[1::2]


def benign() -> np.ndarray:
    X, y = LABELLED["breast_cancer"]()
    return X[y == 1]


TABLES = {
    "normal, 360 × 30": partial(normal, 360, 30),
    "wine": partial(halves, LABELLED["wine"]()[0]),
    "benign samples": partial(halves, benign()),
    "digits": partial(halves, LABELLED["digits"]()[0]),
    "normal, 80 × 2": partial(normal, 80, 2),
    "normal, 80 × 6": partial(normal, 80, 6),
    "normal, 80 × 100": partial(normal, 80, 100),
}


def main() -> None:
    n_seeds = options(__doc__, seeds=10).seeds
    lines = []
    for name, draw in TABLES.items():
        flagged = np.empty((2, n_seeds))
        for seed in range(n_seeds):
            train, new = draw(np.random.default_rng(seed))
            for row, novelty in zip(flagged, (True, False), strict=True):
                detector = VAEOutlierDetector(
                    contamination=0.05, novelty=novelty, random_state=seed
                ).fit(train)
                row[seed] = (detector.predict(new) == -1).mean()
        errors = flagged.std(axis=1, ddof=1) / np.sqrt(n_seeds)
        cells = [f"{m:.3f} ± {e:.3f}" for m, e in zip(flagged.mean(axis=1), errors, strict=True)]
        lines.append([name, *cells])
    table("New rows flagged at 0.05", ["", "`novelty=True`", "`novelty=False`"], lines)


if __name__ == "__main__":
    main()
