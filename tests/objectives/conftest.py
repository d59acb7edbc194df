"""A model away from its start."""

import pytest
import torch


@pytest.fixture
def model(table, make_model):
    """A model of two dimensions whose every weight has been moved."""
    model = make_model(table)
    generator = torch.Generator().manual_seed(7)
    model.flat += 0.2 * torch.randn(model.flat.shape, generator=generator, dtype=torch.float64)
    return model
