"""A small configuration and dataset for the tests of training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sklearn_vae.likelihoods import Bernoulli, Gaussian
from sklearn_vae.objectives import KLWeight
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.jobs import TrainingConfig

CONFIG = TrainingConfig(
    seed=0,
    max_iter=8,
    min_steps_per_epoch=4,
    batch_size=20,
    learning_rate=1e-2,
    weight_decay=0.01,
    beta=KLWeight(1.0),
    patience=3,
)
PLAN = replace(CONFIG, batch_size=16, patience=2)
NO_STEPS = replace(CONFIG, n_iter_per_stage=(0, 0, 0))
BLOCKS = ((Gaussian("per_row"), 2), (Gaussian("per_column"), 1), (Bernoulli(), 1))
LIKE = torch.zeros(0, dtype=torch.float64)


def to_dataset(x, weight=None, offset=0.0):
    """Rows in memory."""
    weight = None if weight is None else torch.as_tensor(weight / weight.mean())
    return Dataset.from_x(torch.as_tensor(x), weight, float(len(x)), offset)


def make_rows(seed=0, n_rows=60, *, dtype=torch.float64, weighted=False, far=1.0):
    """Rows on a bent sheet, the last column binary."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n_rows, 2))
    x = np.column_stack([u[:, 0], u[:, 0] ** 2 - 1, u[:, 1] * far, u[:, 1] > 0.3])
    x[:, :3] += 0.2 * rng.standard_normal((n_rows, 3))
    weight = torch.as_tensor(rng.integers(1, 4, n_rows) / 2.0).to(dtype) if weighted else None
    return Dataset.from_x(torch.as_tensor(x).to(dtype), weight, float(n_rows), seed)


@pytest.fixture
def bent(rng):
    """Rows on a noisy parabola, which no linear model fits: (120, 2)."""
    u = rng.standard_normal(120)
    X = np.column_stack([u, u**2]) + 0.1 * rng.standard_normal((120, 2))
    return (X - X.mean(axis=0)) / X.std(axis=0)
