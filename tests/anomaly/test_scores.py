"""How strange rows are to a model alone."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch.distributions import Normal, kl_divergence

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly.scores import MaskedReconstructionError, ScoredRows


@pytest.fixture(scope="module")
def wine():
    return load_wine().data


@pytest.fixture(scope="module")
def fitted(wine):
    return VAEOutlierDetector(max_iter=4, random_state=0).fit(wine)._fitted()


def test_the_bound_is_that_of_torchs_distributions(wine, fitted):
    """Both parts, of q, p(x|z) and p(z) as torch.distributions know them, by random draws."""
    torch.manual_seed(0)
    X, scale = wine[:20], wine.std(axis=0)
    x = torch.as_tensor((X - wine.mean(axis=0)) / scale)[None].expand(4, -1, -1)
    model = fitted.module(np.dtype(float))
    loc, log_scale = model.posterior_params(x)
    q = Normal(loc, log_scale.exp())
    z = q.rsample((4000,)).movedim(0, 1)  # (M, K, B, l)
    ((mean, raw),) = model.decode(z)
    p = Normal(mean, (7 * torch.tanh(raw / 7)).exp())
    expected = p.log_prob(x[:, None]).sum(-1).mean((0, 1)).numpy() - np.log(scale).sum()
    log_prob, kl = (part.mean(axis=0) for part in fitted.bound(X, 1024))

    np.testing.assert_allclose(log_prob, expected, atol=0.15)
    of_q = kl_divergence(q, Normal(0.0, 1.0)).sum(-1).mean(0).numpy()
    np.testing.assert_allclose(kl, of_q, rtol=1e-6)


def test_the_methods_by_the_bound_give_its_parts(wine):
    """elbo is reconstruction_probability less the KL, and no more than log_likelihood."""
    scores = {
        method: VAEOutlierDetector(method=method, max_iter=4, n_init=1, random_state=0)
        .fit(wine)
        .score_samples(wine)
        for method in ("elbo", "reconstruction_probability", "log_likelihood")
    }
    fitted = VAEOutlierDetector(max_iter=4, n_init=1, random_state=0).fit(wine)._fitted()

    np.testing.assert_allclose(
        scores["reconstruction_probability"] - scores["elbo"], fitted.bound(wine, 64)[1][0]
    )
    assert (scores["elbo"] < scores["log_likelihood"] + 0.05).all()


def test_a_model_that_knows_nothing_foretells_means(wine, fitted):
    """With weights of zero, every value's distance is that to its column's mean."""
    silent = VAEOutlierDetector(max_iter=1, random_state=0).fit(wine)
    silent.state_dict_ = {name: np.zeros_like(value) for name, value in silent.state_dict_.items()}
    found = MaskedReconstructionError().of(ScoredRows(wine, silent._fitted()))

    np.testing.assert_allclose(found, np.abs(StandardScaler().fit_transform(wine)).sum(axis=1))


def test_hidden_columns_do_not_matter(wine, fitted):
    """Codes and what they foretell are the same whatever stands there."""
    hidden = np.zeros((4, 13), dtype=bool)
    hidden[:, 5] = hidden[0, 7] = True
    other = wine.copy()
    other[:, 5] = other[::-1, 5]
    codes, residuals = fitted.reconstruct(wine, hidden=hidden)
    codes_of_other, residuals_of_other = fitted.reconstruct(other, hidden=hidden)

    np.testing.assert_array_equal(codes, codes_of_other)
    kept = np.arange(13) != 5
    np.testing.assert_array_equal(residuals[..., kept], residuals_of_other[..., kept])
    assert not np.array_equal(codes[0], fitted.reconstruct(wine)[0][0])
