"""A small configuration and dataset for the tests of training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sklearn_vae.objectives import Constant
from sklearn_vae.training import Dataset, TrainingConfig

CONFIG = TrainingConfig(
    seed=0,
    max_iter=8,
    min_steps_per_epoch=4,
    batch_size=20,
    learning_rate=1e-2,
    weight_decay=0.01,
    beta=Constant(1.0),
    patience=3,
    tol=1e-3,
)
NO_STEPS = replace(CONFIG, n_iter_per_stage=(0, 0, 0))
LIKE = torch.zeros(0, dtype=torch.float64)


def to_dataset(x, weight=None, offset=0.0):
    """Rows in memory."""
    weight = None if weight is None else torch.as_tensor(weight / weight.mean())
    return Dataset.from_x(torch.as_tensor(x), weight, float(len(x)), offset)


@pytest.fixture
def bent(rng):
    """Rows on a noisy parabola, which no linear model fits: (120, 2)."""
    u = rng.standard_normal(120)
    X = np.column_stack([u, u**2]) + 0.1 * rng.standard_normal((120, 2))
    return (X - X.mean(axis=0)) / X.std(axis=0)
