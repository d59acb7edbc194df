"""A diffusion-scheduled denoising autoencoder, from the paper and its settings.

DDAE (Sattarov, Schreyer and Borth, KDD 2025, arXiv 2508.00758) maps a noisy row and the level of
its noise to the row without noise. A row's score is the length of its error, summed over all
levels, with one draw of noise each.

The settings are those that the authors publish with their code for clean training rows: 50 levels
with linear variances, two layers of 512 leaky rectifiers, four sines and cosines of the level, and
100 epochs of Adam. As there, a batch is the power of two nearest to a tenth of the rows, where ours
are the training rows. The settings are the same for all tables.

By `ddae_normal_scores` it is trained and scored on normal scores of the columns. There, a row's
score is the sum of logarithms of root mean squared errors at seven levels. Noise is the same for
all rows, with both signs.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn

LEVELS = 50
FIRST_VARIANCE, LAST_VARIANCE = 1e-4, 0.02
HIDDEN = 512
LEVEL_FEATURES = 4
EPOCHS = 100
LEARNING_RATE = 1e-3
BATCH_SIZES = 2 ** np.arange(3, 14)
SCORE_LEVELS = (1, 4, 9, 16, 25, 36, 49)  # of normal scores
MIN_SQUARE = 1e-24


class Denoiser(nn.Module):
    """A network from a noisy row and its level to the row."""

    def __init__(self, n_columns: int):
        super().__init__()
        variances = torch.linspace(FIRST_VARIANCE, LAST_VARIANCE, LEVELS)
        self.signal = torch.cumprod(1 - variances, 0)  # share of a row's variance that is left
        frequencies = 1e4 ** -torch.linspace(0, 1, LEVEL_FEATURES // 2 + 1)[:-1]
        angles = torch.arange(LEVELS)[:, None] * frequencies
        self.features = torch.cat([angles.cos(), angles.sin()], 1)
        self.network = nn.Sequential(
            nn.Linear(n_columns + LEVEL_FEATURES, HIDDEN),
            nn.LeakyReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.LeakyReLU(),
            nn.Linear(HIDDEN, n_columns),
        )

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Errors of the reconstruction from noisy rows: (n, d), (n,) -> (n, d)."""
        return self.errors(x, level, torch.randn_like(x))

    def errors(self, x: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Errors with given noise: (n, d), (n,), (n, d) or (d,) -> (n, d)."""
        signal = self.signal[level][:, None]
        noisy = signal.sqrt() * x + (1 - signal).sqrt() * noise
        return self.network(torch.cat([noisy, self.features[level]], 1)) - x


def ddae(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Scores of the test rows: (n_test,)."""
    return fit_score(train, test, seed, scores)


def ddae_normal_scores(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Scores of the test rows by a denoiser of normal scores: (n_test,)."""
    train, test = normal_scores(train, test)
    train = train[np.lexsort(train.T[::-1])]  # the order of rows makes no difference
    return fit_score(train, test, seed, log_scores)


def fit_score(
    train: np.ndarray, test: np.ndarray, seed: int, score: Callable[[Denoiser, Tensor], np.ndarray]
) -> np.ndarray:
    """Train on some rows, and score others: (n_train, d), (n_test, d) -> (n_test,)."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = fit(torch.from_numpy(train).float())
        return score(denoiser, torch.from_numpy(test).float())


def fit(x: Tensor) -> Denoiser:
    """Train a denoiser on rows (n, d)."""
    batch_size = int(min(BATCH_SIZES, key=lambda size: abs(size - len(x) // 10)))
    denoiser = Denoiser(x.shape[1])
    optimizer = torch.optim.Adam(denoiser.parameters(), LEARNING_RATE, fused=True)
    for _ in range(EPOCHS):
        for rows in x[torch.randperm(len(x))].split(batch_size):
            level = torch.randint(1, LEVELS, (len(rows),))
            loss = denoiser(rows, level).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return denoiser


@torch.no_grad()
def scores(denoiser: Denoiser, x: Tensor) -> np.ndarray:
    """Length of the errors, summed over all levels: (n, d) -> (n,)."""
    total = torch.zeros(len(x))
    for level in range(1, LEVELS):
        total += denoiser(x, torch.full((len(x),), level)).norm(dim=1)
    return total.numpy()


@torch.no_grad()
def log_scores(denoiser: Denoiser, x: Tensor) -> np.ndarray:
    """Sum of logarithms of root mean squared errors, with the same noise for all rows: (n,)."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for level, noise in zip(SCORE_LEVELS, torch.randn(len(SCORE_LEVELS), x.shape[1]), strict=True):
        levels = torch.full((len(x),), level)
        errors = [denoiser.errors(x, levels, sign * noise).double() for sign in (1, -1)]
        square = sum(error.square().sum(1) for error in errors) / 2
        total += square.clamp_min(MIN_SQUARE).log() / 2
    return total.numpy()


def normal_scores(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal quantiles of mid-ranks among the training rows, scaled to a variance of 1.

    They are linear between training values. Beyond them, the slope is that of the column.
    """
    transformed = np.empty_like(train), np.empty_like(test)
    for j, column in enumerate(train.T):
        values, counts = np.unique(column, return_counts=True)
        frequency = counts / len(column)
        quantiles = ndtri(frequency.cumsum() - frequency / 2)
        scale = np.sqrt(frequency @ quantiles**2 - (frequency @ quantiles) ** 2) or 1.0
        for rows, result in zip((train, test), transformed, strict=True):
            x = rows[:, j]
            score = np.interp(x, values, quantiles) + x - x.clip(values[0], values[-1])
            result[:, j] = score / scale
    return transformed
