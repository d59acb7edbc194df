"""Time and accuracy of `score_samples` of `VAEDensity`.

    python benchmarks/density_scores.py
    python benchmarks/density_scores.py --tables wine,titanic --scramblings 1

How each figure is obtained:

- Rows come from tables.py and mixed_density.py; `gauss` is 1,000 rows of a normal distribution of
  20 correlated columns. The default `VAEDensity` (`random_state=0`) is fitted to 80% of the rows;
  the others are scored.
- Error: the mean over rows of the absolute difference from the log of the mean density by
  independent sets of 4,096 points, of which rows with uneven weights get 2 or 16 times as many.
- Microseconds: CPU time of `score_samples` per row, on one thread, of the test rows repeated to at
  least 1,000.
"""

import argparse
import time

import mixed_density
import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp
from sklearn.model_selection import train_test_split
from tables import load_table
from threadpoolctl import threadpool_limits

from sklearn_vae import VAEDensity

TABLES = "wine,breast_cancer,penguins,titanic,gauss"
MANY_DRAWS, MIN_ROWS = 4096, 1000


def rows_of(name: str) -> np.ndarray | pd.DataFrame:
    if name == "gauss":
        generator = np.random.default_rng(0)
        mixing = generator.normal(size=(20, 20))
        return generator.normal(size=(1000, 20)) @ mixing
    if name in ("penguins", "titanic", "mpg", "taxis"):
        return getattr(mixed_density, name)()

    return load_table(name).X


def report(name: str, n_scramblings: int) -> None:
    """Fit one model and print its line."""
    train, test = train_test_split(rows_of(name), test_size=0.2, random_state=0)
    density = VAEDensity(random_state=0).fit(train)
    long_runs = [
        density._predictor().log_density(density._validate(test), MANY_DRAWS, 1 + scrambling)
        for scrambling in range(n_scramblings)
    ]
    truth = logsumexp(long_runs, axis=0) - np.log(n_scramblings)
    error = np.abs(density.score_samples(test) - truth).mean()
    repeats = -(-MIN_ROWS // len(test))
    many = pd.concat([test] * repeats) if hasattr(test, "iloc") else np.tile(test, (repeats, 1))
    start = time.process_time()
    density.score_samples(many)
    microseconds = 1e6 * (time.process_time() - start) / len(many)
    print(f"| {name} | {len(test)} | {microseconds:.0f} | {error:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and accuracy of VAEDensity's scores.")
    add = parser.add_argument
    add("--tables", default=TABLES, help="names with commas between: %(default)s")
    add("--scramblings", type=int, default=4, help="sets of points of a long run: %(default)s")
    args = parser.parse_args()

    torch.set_num_threads(1)
    print("| table | rows | µs a row | mean absolute error in nats |\n|---|---|---|---|")
    with threadpool_limits(1):
        for name in args.tables.split(","):
            report(name, args.scramblings)


if __name__ == "__main__":
    main()
