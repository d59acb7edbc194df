"""Training of wide layers in bfloat16, beside single precision: held-out nats and CPU time.

    python benchmarks/bfloat16.py                          # six tables, four seeds: 25 minutes
    python benchmarks/bfloat16.py --tables digits --seeds 2

The processor must have instructions for bfloat16 (`avx512_bf16` in /proc/cpuinfo); on others the
package does not use it. Both models have the same seed and the same number of iterations, without
early stopping. They take turns, and differ in the products of gradients and hidden layers alone.
Printed are the difference of `score_samples` over test rows, its standard error over seeds, the
standard deviation of the score over seeds, and the median ratio of the CPU times of whole fits.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from common import table, timed
from peers import WORKLOADS
from sklearn.datasets import load_digits
from tables import DATA

from sklearn_vae import VAETransformer
from sklearn_vae.networks import matmul

# The default rate diverges on faces in some fits, whose scores then differ by hundreds of nats.
N_COMPONENTS, MAX_ITER, LEARNING_RATE = 16, 40, 3e-3


def dequantized(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey values of 256 levels with noise, between 0 and 1."""
    return (values + rng.random(values.shape)) / 256


def digits(rng: np.random.Generator) -> np.ndarray:
    """Digits of 8 x 8 pixels in 17 greys: (1797, 64)."""
    return dequantized(15 * load_digits().data, rng)


def faces(rng: np.random.Generator) -> np.ndarray:
    """Frey's face in 256 greys: (1965, 560)."""
    return dequantized(np.load(DATA / "images" / "freyfaces.npz")["x"].reshape(-1, 560), rng)


def bits(rng: np.random.Generator) -> np.ndarray:
    """Binarized MNIST: (10000, 784)."""
    packed = np.load(DATA / "images" / "binarized_mnist.npz")["train"]
    return np.unpackbits(packed[rng.permutation(len(packed))[:10_000]], axis=1)


def spectra(rng: np.random.Generator) -> np.ndarray:
    """Five peaks of random heights and places, with little noise: (5000, 500)."""
    x, codes = np.linspace(0, 1, 500), rng.normal(size=(5, 5000, 1))
    places = 0.2 + 0.12 * np.arange(5)[:, None, None] + 0.03 * codes
    peaks = np.exp(0.3 * codes - 0.5 * np.square((x - places) / 0.05))
    return peaks.sum(axis=0) + 0.003 * rng.normal(size=(5000, 500))


TABLES: dict[str, tuple[Callable[[np.random.Generator], np.ndarray], dict[str, Any]]] = {
    "W1, wide layers": (lambda rng: WORKLOADS["W1"].rows(), {"hidden_layer_sizes": (512, 256)}),
    "W4": (lambda rng: WORKLOADS["W4"].rows()[:10_000], {"hidden_layer_sizes": (512, 256)}),
    "digits": (digits, {"hidden_layer_sizes": (512, 512)}),
    "faces": (faces, {}),
    "spectra": (spectra, {}),
    "bits": (bits, {}),
}


@contextmanager
def bfloat16(used: bool) -> Iterator[None]:
    """Use bfloat16 in training, or single precision."""
    found = matmul._has_bfloat16
    matmul._has_bfloat16 = lambda: used
    try:
        yield
    finally:
        matmul._has_bfloat16 = found


def report(names: list[str], n_seeds: int) -> None:
    """Print a line per table."""
    lines = []
    for name in names:
        make, options = TABLES[name]
        rng = np.random.default_rng(0)
        X = make(rng).astype(np.float32)
        X = X[rng.permutation(len(X))]
        train, test = X[len(X) // 5 :], X[: len(X) // 5]
        scores: dict[bool, list[float]] = {True: [], False: []}
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for seed in range(n_seeds):
            for used in (True, False) if seed % 2 else (False, True):
                vae = VAETransformer(
                    N_COMPONENTS,
                    max_iter=MAX_ITER,
                    early_stopping=False,
                    learning_rate=LEARNING_RATE,
                    random_state=seed,
                    **options,
                )
                with bfloat16(used):
                    seconds[used].append(timed(partial(vae.fit, train))[0])
                scores[used].append(vae.score(test))
        difference = np.subtract(scores[True], scores[False])
        error = difference.std(ddof=1) / np.sqrt(n_seeds) if n_seeds > 1 else np.nan
        ratios = np.divide(seconds[True], seconds[False])
        lines.append(
            [f"{name}, {len(X)} × {X.shape[1]}", f"{np.mean(scores[False]):.2f}"]
            + [f"{difference.mean():+.3f} ± {error:.3f}", f"{np.std(scores[False], ddof=1):.2f}"]
            + [f"{statistics.median(ratios):.2f}"]
        )
        print(lines[-1], flush=True)
    table(
        f"Training in bfloat16 minus single precision, {MAX_ITER} iterations, {n_seeds} seeds",
        [
            "table",
            "nats, single",
            "difference",
            "standard deviation over seeds",
            "time, single = 1",
        ],
        lines,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=lambda text: text.split(","), default=list(TABLES))
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    report(args.tables, args.seeds)
