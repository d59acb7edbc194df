"""The model: a density whose start, bound, gradient and members have oracles elsewhere."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from sklearn_vae.likelihoods import Gaussian, ZeroInflated
from sklearn_vae.models.architecture import INPUT_CLIP, Architecture, MixtureArchitecture
from sklearn_vae.models.build import build
from sklearn_vae.numerics.random import sobol_normal
from tests.conftest import iwae_bound


def shared_noise(n_draws, n_components, seed=0):
    """Sobol draws that all rows share: (1, K, 1, l)."""
    return torch.as_tensor(sobol_normal(n_draws, n_components, seed))[None, :, None]


def disturb(model, size=0.3):
    """Move every weight, so that no network is silent any more."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _, param in sorted(model.named_parameters()):
            param += size * torch.randn(param.shape, generator=generator, dtype=torch.float64)
    return model


def rows(x):
    """Rows with a member axis."""
    return torch.as_tensor(x)[None]


@pytest.mark.parametrize("hidden_layer_sizes", [(), (6, 5)])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_the_start_scores_as_sklearns_pca(n_components, hidden_layer_sizes, table, make_model):
    """Training begins at probabilistic PCA, and early stopping can always come back to it."""
    model = make_model(table, n_components=n_components, hidden_layer_sizes=hidden_layer_sizes)
    # maximum likelihood divides by n, sklearn's PCA by n - 1
    pca = PCA(n_components).fit(table * np.sqrt(1 - 1 / len(table)))
    scores = iwae_bound(model, rows(table), shared_noise(16, n_components))[0]

    np.testing.assert_allclose(scores.detach().numpy(), pca.score_samples(table), atol=1e-6)
    assert scores.mean().item() == pytest.approx(pca.score(table), abs=1e-6)


def test_rows_far_out_are_seen_at_the_farthest_input_but_scored_where_they_are(table, make_model):
    """A cell of 1e6 standard deviations must neither blow the network up nor look harmless."""
    model = disturb(make_model(table))
    far = np.array([[1e6, 0, 0, 0], [1e3, 0, 0, 0], [INPUT_CLIP, 0, 0, 0]])
    codes = model.encode(rows(far))[0]
    scores = iwae_bound(model, rows(far), shared_noise(16, 2))[0]

    assert codes[0].tolist() == codes[1].tolist() == codes[2].tolist()
    assert scores.isfinite().all()
    assert scores[0] < scores[1] < scores[2]


def test_only_the_networks_matrices_decay(table, make_model):
    """Weight decay must not pull the model away from its known start, nor shrink a bias."""
    model = make_model(table, blocks=((Gaussian("per_column"), 4),))
    model.flat.fill_(1)
    model.flat[:, model.decays.bool()] = 0
    decayed = {name for name, param in model.named_parameters() if (param == 0).all()}
    names = {name for name, _ in model.named_parameters()}
    matrices = {"hidden.0.weight", "hidden.1.weight", "last"}
    kept = {"linear.weight", "linear.bias", "hidden.0.bias", "hidden.1.bias"}

    def both(parts):
        return {f"{side}.{part}" for side in ("encoder", "decoder") for part in parts}

    assert decayed == both(matrices)
    assert names - decayed == both(kept) | {"free"}


@pytest.mark.parametrize(
    ("architecture", "likelihood"),
    [
        (Architecture, Gaussian("per_row")),
        (Architecture, ZeroInflated(3)),  # of which the encoder reads the number alone
        (MixtureArchitecture, Gaussian("per_row")),
    ],
)
def test_wide_inputs_limit_the_learning_rate(architecture, likelihood):
    """By the numbers of a row that are not 0: the more, the less each weight may move."""
    limits = []
    for n_columns in (9, 200):
        model = build(architecture(2, (8,), ((likelihood, n_columns),)))
        model.flatten()
        limits.append(min(model.lr_spans))

    assert limits == [np.inf, pytest.approx(1.28 / 200)]
