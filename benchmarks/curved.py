"""Curved surfaces in many noisy columns: percentage of a textbook VAE's gain over pPCA.

    python benchmarks/curved.py                                  # every surface, seed 0
    python benchmarks/curved.py --surfaces ring,sphere --seeds 0,1 --param n_init=1

How each figure is obtained:

- 1,000 training rows and 2,000 test rows lie on a surface of one or two dimensions. Its columns are
  standardized, rotated by chance into 24 columns, and get normal noise of standard deviation .1.
- Figures are held-out nats per row. pPCA is exact, with as many axes as the surface has columns.
- The textbook VAE (`ScaledVAE` of peers.py) is written in plain torch: the same hidden layers, a
  random start, one scale per column, 6,000 Adam steps of 128 rows whose size falls along a cosine,
  nothing set aside. Its score takes 2,048 draws from a distribution a little wider than q(z|x).
- Beside our nats stand (ours - pPCA) / (textbook - pPCA) and CPU seconds of the fit; figures are
  means over the seeds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import options, table, timed
from peers import scaled_vae
from sklearn.datasets import make_moons, make_s_curve, make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAETransformer

N_TRAIN, N_TEST, N_COLUMNS, NOISE = 1_000, 2_000, 24, 0.1


def ring(n_rows: int, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, n_rows)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def sphere(n_rows: int, rng: np.random.Generator) -> np.ndarray:
    x = rng.normal(size=(n_rows, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def of_sklearn(make: Callable[..., Any]) -> Callable[[int, np.random.Generator], np.ndarray]:
    return lambda n_rows, rng: make(n_rows, random_state=int(rng.integers(2**31)))[0]


SURFACES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "ring": ring,
    "s_curve": of_sklearn(make_s_curve),
    "swiss_roll": of_sklearn(make_swiss_roll),
    "moons": of_sklearn(make_moons),
    "sphere": sphere,
}


def rows_on(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Training rows, test rows and the number of columns that the surface has of its own."""
    rng = np.random.default_rng(seed)
    x = SURFACES[name](N_TRAIN + N_TEST, rng)
    x = x[rng.permutation(len(x))]  # two moons come one after the other
    x = (x - x.mean(0)) / x.std(0)
    axes = np.linalg.qr(rng.normal(size=(N_COLUMNS, x.shape[1])))[0].T
    X = x @ axes + NOISE * rng.normal(size=(len(x), N_COLUMNS))
    return X[:N_TRAIN], X[N_TRAIN:], x.shape[1]


def textbook(train: np.ndarray, test: np.ndarray, n_latent: int, seed: int) -> float:
    """Nats of the textbook's VAE on standardized columns, in the rows' own units."""
    scaler = StandardScaler().fit(train)
    model = scaled_vae(scaler.transform(train), n_latent, seed)
    torch.manual_seed(seed)
    return model.score(scaler.transform(test)) - float(np.log(scaler.scale_).sum())


def main() -> None:
    args = options(__doc__, surfaces=[*SURFACES], seeds=[0], param={})
    VAETransformer(max_iter=1).fit(np.random.default_rng(0).normal(size=(200, 3)))  # imports
    lines = []
    for name in args.surfaces:
        figures = []
        for seed in args.seeds:
            train, test, n_latent = rows_on(name, seed)
            linear = PCA(n_latent).fit(train).score(test)
            vae = VAETransformer(random_state=seed).set_params(**args.param)
            seconds, _ = timed(lambda vae=vae, train=train: vae.fit(train))
            rival = textbook(train, test, n_latent, seed)
            figures.append([linear, vae.score(test), rival, seconds])
        linear, nats, rival, seconds = np.mean(figures, axis=0)
        share = 100 * (nats - linear) / (rival - linear)
        lines.append([name, f"{linear:.2f}", f"{nats:.2f}", f"{share:.0f} %", f"{seconds:.1f}"])
        lines[-1].append(f"{rival:.2f}")
    header = ["surface", "pPCA", "VAETransformer", "share of the gain", "CPU s", "textbook"]
    table("Held-out nats on curved surfaces", header, lines)


if __name__ == "__main__":
    main()
