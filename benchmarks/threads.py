"""Time by the clock of predictions whose chunks of rows have threads of their own, and of trees.

    python benchmarks/threads.py
    python benchmarks/threads.py --rounds 5 --rows 4000

How each figure is obtained:

- The models are fitted to 1,000 rows of 20 columns, sines of three hidden variables with noise.
  Imputed rows lack a fifth of their cells.
- Each call is made in two ways, which take turns. In the first, torch's threads share every
  operation on large chunks of rows. In the second, the package's way, each thread has chunks of
  its own. Gradient boosting is on all of OpenMP's threads in the first way, on one in the second.
- A figure is the median over the rounds of the ratio of both ways: above 1, the second way
  takes less time. Seconds by the clock and CPU seconds are compared.
- "Busy": another process computes on one core all the while.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import numpy as np
import torch

from sklearn_vae import VAEDensity, VAEImputer, VAETransformer
from sklearn_vae.imputation import fit_boosted_trees as boosting
from sklearn_vae.inference import ensemble, predictor
from sklearn_vae.models import sizes

OTHER_WORK = "import torch; torch.set_num_threads(1); a = torch.randn(512, 512)\nwhile True: a @ a"


@contextmanager
def shared_operations() -> Iterator[None]:
    """Let torch's threads share the operations of chunks that are as large as the cache allows."""
    with (
        mock.patch.object(predictor, "map_on_threads", lambda f, rows, **_: map(f, rows)),
        mock.patch.object(sizes, "N_CHUNKS", 1),
        mock.patch.object(ensemble, "MAX_ROWS", 512),
        mock.patch.object(boosting, "one_openmp_thread", nullcontext),
    ):
        yield


def seconds(call: Callable[[], object]) -> np.ndarray:
    """Seconds by the clock, and CPU seconds."""
    before = np.array([time.perf_counter(), time.process_time()])
    call()

    return np.array([time.perf_counter(), time.process_time()]) - before


def ratios(call: Callable[[], object], n_rounds: int) -> np.ndarray:
    """Median ratio of both ways, by the clock and in CPU seconds."""
    call()
    found = []
    for _ in range(n_rounds):
        with shared_operations():
            shared = seconds(call)
        found.append(shared / seconds(call))

    return np.median(found, axis=0)


def rows(n: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    hidden, mixing = generator.normal(size=(n, 3)), generator.normal(size=(3, 20))

    return np.sin(hidden @ mixing) + 0.3 * generator.normal(size=(n, 20))


def main() -> None:
    parser = argparse.ArgumentParser(description="Chunks of rows on threads of their own.")
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="turns of both ways: %(default)s")
    add("--rows", type=int, default=1000, help="rows of a call: %(default)s")
    args = parser.parse_args()

    X = rows(1000 + args.rows)
    train, X = X[:1000], X[1000:]
    incomplete = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
    vae, density = (model(random_state=0).fit(train) for model in (VAETransformer, VAEDensity))
    imputer = VAEImputer(random_state=0).fit(np.where(np.isnan(incomplete[:1000]), np.nan, train))
    complete, observed, four = imputer.transform(incomplete), ~np.isnan(incomplete), np.arange(4)
    many = np.tile(X, (-(-50_000 // len(X)), 1))
    calls = {
        "VAETransformer.transform, 50,000 rows": lambda: vae.transform(many),
        "VAETransformer.score_samples": lambda: vae.score_samples(X),
        "VAETransformer.impute": lambda: vae.impute(incomplete),
        "VAEDensity.score_samples": lambda: density.score_samples(X),
        "VAEDensity.impute": lambda: density.impute(incomplete),
        "VAEImputer.transform": lambda: imputer.transform(incomplete),
        "trees of 4 columns": lambda: boosting.fit_boosted_trees(complete, observed, four, None),
    }
    print(f"{torch.get_num_threads()} threads")
    print("| call | quiet: clock | CPU | busy: clock | CPU |\n|---|---|---|---|---|")
    for name, call in calls.items():
        quiet = ratios(call, args.rounds)
        other = subprocess.Popen([sys.executable, "-c", OTHER_WORK])
        try:
            time.sleep(3)
            busy = ratios(call, args.rounds)
        finally:
            other.kill()
        print(f"| {name} | " + " | ".join(f"{ratio:.2f}" for ratio in (*quiet, *busy)) + " |")


if __name__ == "__main__":
    main()
