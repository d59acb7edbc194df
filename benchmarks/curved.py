"""Curved surfaces in many noisy columns: percentage of a textbook VAE's gain over pPCA.

    python benchmarks/curved.py                                  # every surface, seed 0
    python benchmarks/curved.py --surfaces ring,sphere --seeds 0,1 --settings "n_init=2; beta=0.5"

How each figure is obtained:

- 1,000 training rows and 2,000 test rows lie on a surface of one or two dimensions. Its columns are
  standardized, rotated by chance into 24 columns, and get normal noise of standard deviation .1.
- Figures are held-out nats per row. pPCA is exact, with as many axes as the surface has columns.
- The textbook VAE is written in plain torch: the same hidden layers, a random start, one scale per
  column, 6,000 Adam steps of 128 rows whose size falls along a cosine, nothing set aside. Its score
  takes 2,048 draws from a distribution a little wider than q(z|x).
- Beside our nats stand (ours - pPCA) / (textbook - pPCA) and CPU seconds of the fit; figures are
  means over the seeds.
"""

import argparse
import ast
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_moons, make_s_curve, make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from sklearn_vae import VAETransformer

N_TRAIN, N_TEST, N_COLUMNS, NOISE = 1_000, 2_000, 24, 0.1
HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


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


class Textbook(nn.Module):
    """The VAE of the textbook: standard normal z, diagonal posterior, one scale per column."""

    def __init__(self, n_columns: int, n_latent: int, widths: tuple[int, ...] = (128, 64)):
        super().__init__()
        self.encoder = perceptron(n_columns, widths, 2 * n_latent)
        self.decoder = perceptron(n_latent, widths[::-1], n_columns)
        self.log_scale = nn.Parameter(torch.zeros(n_columns))

    def log_weight(self, x: Tensor, n_draws: int, widen: float = 1.0) -> Tensor:
        """log p(x|z) + log p(z) - log q(z|x) of draws of z: (n_draws, B)."""
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        log_scale = log_scale.clamp(-7, 7) + np.log(widen)
        noise = torch.randn(n_draws, *loc.shape)
        z = loc + log_scale.exp() * noise
        residual = (x - self.decoder(z)) * (-self.log_scale).exp()
        log_lik = -(0.5 * residual**2 + self.log_scale + HALF_LOG_2PI).sum(-1)
        return log_lik + (0.5 * noise**2 + log_scale - 0.5 * z**2).sum(-1)

    def fit(self, X: np.ndarray, n_steps: int = 6_000, batch_size: int = 128) -> "Textbook":
        x = torch.as_tensor(X, dtype=torch.float32)
        adam = torch.optim.Adam(self.parameters(), lr=2e-3)
        rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps)
        for _ in range(n_steps):
            batch = x[torch.randint(len(x), (batch_size,))]
            adam.zero_grad()
            (-self.log_weight(batch, 1).mean()).backward()
            adam.step()
            rates.step()
        return self

    @torch.no_grad()
    def score(self, X: np.ndarray, n_draws: int = 2_048) -> float:
        parts = torch.as_tensor(X, dtype=torch.float32).split(50)
        weights = torch.cat([self.log_weight(x, n_draws, widen=1.2) for x in parts], dim=1)
        return float((weights.logsumexp(0) - np.log(n_draws)).mean())


def perceptron(n_in: int, widths: tuple[int, ...], n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(n_in, width), nn.SiLU()]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))


def textbook_of(X: np.ndarray, n_latent: int, seed: int, n_steps: int = 6_000) -> Textbook:
    """Train the textbook's VAE on standardized rows."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Textbook(X.shape[1], n_latent).fit(X, n_steps)


def textbook(train: np.ndarray, test: np.ndarray, n_latent: int, seed: int) -> float:
    """Nats of the textbook's VAE on standardized columns, in the rows' own units."""
    scaler = StandardScaler().fit(train)
    model = textbook_of(scaler.transform(train), n_latent, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model.score(scaler.transform(test)) - float(np.log(scaler.scale_).sum())


def settings_of(text: str) -> dict[str, Any]:
    """Read `name=value` with semicolons between; each value is a Python literal, or else a word."""
    pairs = (part.split("=", 1) for part in text.split(";") if part)
    return {name.strip(): literal(value.strip()) for name, value in pairs}


def literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def ours(settings: str, train: np.ndarray, test: np.ndarray, seed: int) -> tuple[float, float]:
    """Nats of VAETransformer with such settings, and CPU seconds of the fit."""
    vae = VAETransformer(random_state=seed, **settings_of(settings))
    start = time.process_time()
    vae.fit(train)
    return vae.score(test), time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out nats on curved surfaces.")
    add = parser.add_argument
    add("--surfaces", default=",".join(SURFACES), help="names with commas between: %(default)s")
    add("--seeds", default="0", help="seeds of rows and fits: %(default)s")
    add("--settings", action="append", metavar="NAME=VALUE;...", help="repeat to compare several")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tried = ["", *(args.settings or ["n_init=1", "n_init=3"])]

    VAETransformer(max_iter=1).fit(np.random.default_rng(0).normal(size=(200, 3)))  # imports
    print("| surface | pPCA |", " | ".join(text or "defaults" for text in tried), "| textbook |")
    print("|---" * (len(tried) + 3) + "|")
    for name in args.surfaces.split(","):
        ends, figures = [], []
        for seed in map(int, args.seeds.split(",")):
            train, test, n_latent = rows_on(name, seed)
            linear = PCA(n_latent).fit(train).score(test)
            ends.append((linear, textbook(train, test, n_latent, seed)))
            figures.append([ours(settings, train, test, seed) for settings in tried])
        linear, rival = np.mean(ends, axis=0)
        cells = [
            f"{nats:.2f}, {100 * (nats - linear) / (rival - linear):.0f} %, {seconds:.1f} s"
            for nats, seconds in np.mean(figures, axis=0)
        ]
        print(f"| {name} | {linear:.2f} |", " | ".join(cells), f"| {rival:.2f} |", flush=True)


if __name__ == "__main__":
    main()
