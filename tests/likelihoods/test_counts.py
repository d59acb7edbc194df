"""Counts: probabilities that sum to one."""

import pytest
import torch

from sklearn_vae.likelihoods import LIKELIHOODS, Counts

KINDS = [kind() for kind in LIKELIHOODS.values() if issubclass(kind, Counts)]


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_probabilities_of_counts_sum_to_one(kind):
    """Scores of models can be compared only if each spends a mass of one."""
    params = [torch.full((1, 1), 0.7).double()] * len(kind.depends_on_z)
    counts = torch.arange(400.0).double().unsqueeze(1)

    assert kind.log_prob_per_column(params, counts.sqrt()).exp().sum().item() == pytest.approx(
        1, abs=1e-6
    )
