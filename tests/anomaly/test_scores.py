"""Anomaly scores of a model alone."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch.distributions import Normal, kl_divergence

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import (
    MaskedReconstructionError,
    NegativeELBO,
    NegativeLogLikelihood,
)


@pytest.fixture(scope="module")
def wine():
    return load_wine().data


@pytest.fixture(scope="module")
def predictor(wine):
    return VAEOutlierDetector(max_iter=4, n_init=4, random_state=0).fit(wine)._predictor()


def test_the_elbo_is_that_of_torch_distributions(wine, predictor):
    """Both terms, from q, p(x|z) and p(z) as torch.distributions, by Monte Carlo."""
    torch.manual_seed(0)
    X, scale = wine[:20], wine.std(axis=0)
    x = torch.as_tensor((X - wine.mean(axis=0)) / scale)[None].expand(4, -1, -1)
    model = predictor.module(np.dtype(float))
    loc, log_scale = model.posterior_params(x)
    q = Normal(loc, log_scale.exp())
    z = q.rsample((4000,)).movedim(0, 1)  # (M, K, B, l)
    ((mean, raw),) = model.decode(z)
    p = Normal(mean, (7 * torch.tanh(raw / 7)).exp())
    expected = p.log_prob(x[:, None]).sum(-1).mean((0, 1)).numpy() - np.log(scale).sum()
    expected_kl = kl_divergence(q, Normal(0.0, 1.0)).sum(-1).mean(0).numpy()
    log_prob, kl = (term.mean(axis=0) for term in predictor.elbo_terms(X, 1024))

    np.testing.assert_allclose(log_prob, expected, atol=0.15)
    np.testing.assert_allclose(kl, expected_kl, rtol=1e-6)


def test_the_elbo_is_the_reconstruction_probability_less_the_kl(wine):
    """And no more than the log-likelihood."""
    scores = {
        method: VAEOutlierDetector(method=method, max_iter=4, n_init=1, random_state=0)
        .fit(wine)
        .score_samples(wine)
        for method in ("elbo", "reconstruction_probability", "log_likelihood")
    }
    detector = VAEOutlierDetector(method="elbo", max_iter=4, n_init=1, random_state=0)
    predictor = detector.fit(wine)._predictor()

    np.testing.assert_allclose(
        scores["reconstruction_probability"] - scores["elbo"], predictor.elbo_terms(wine, 64)[1][0]
    )
    assert (scores["elbo"] < scores["log_likelihood"] + 0.05).all()


def test_a_model_of_zero_weights_predicts_column_means(wine):
    """Masked reconstruction errors are then distances from the column means."""
    model = VAEOutlierDetector(max_iter=1, random_state=0).fit(wine)
    model.state_dict_ = {name: np.zeros_like(value) for name, value in model.state_dict_.items()}
    scores = MaskedReconstructionError().score(ScoredRows(wine, model._predictor()))

    np.testing.assert_allclose(scores, np.abs(StandardScaler().fit_transform(wine)).sum(axis=1))


def test_masked_columns_do_not_affect_reconstructions(wine, predictor):
    """Codes and the other columns' residuals do not depend on masked values."""
    mask = np.zeros((4, 13), dtype=bool)
    mask[:, 5] = mask[0, 7] = True
    changed = wine.copy()
    changed[:, 5] = changed[::-1, 5]
    codes, residuals = predictor.codes_and_residuals(wine, mask=mask)
    changed_codes, changed_residuals = predictor.codes_and_residuals(changed, mask=mask)
    other_columns = np.arange(13) != 5

    np.testing.assert_array_equal(codes, changed_codes)
    np.testing.assert_array_equal(
        residuals[..., other_columns], changed_residuals[..., other_columns]
    )
    assert not np.array_equal(codes[0], predictor.codes_and_residuals(wine)[0][0])


def test_a_reference_row_is_scored_by_the_members_not_trained_on_it(wine, predictor):
    """New rows, and rows that all members were trained on, are scored by all members."""
    out_of_fold = np.zeros((4, 6), dtype=bool)
    out_of_fold[0, 0] = out_of_fold[1:3, 4] = True
    reference = ScoredRows(wine[:6], predictor, out_of_fold=out_of_fold)
    rows = ScoredRows(np.vstack([wine[[4, 0, 5]], wine[:1] * 1.5]), predictor, reference)

    assert rows.reference_indices.tolist() == [4, 0, 5, -1]
    assert rows.scoring_members.T.astype(int).tolist() == [
        [0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1],
    ]  # fmt: skip
    np.testing.assert_allclose(
        rows.mean_over_members(np.arange(16.0).reshape(4, 4)), [6.0, 1.0, 8.0, 9.0]
    )


@pytest.mark.parametrize("cls", [NegativeLogLikelihood, NegativeELBO])
def test_a_loaded_scorer_has_draws_for_which_a_row_takes_little_memory(cls):
    """65,536 draws for one row took 74 MiB, beyond what reading a small file may take."""
    cls(4096).check()
    with pytest.raises(ValueError, match="n_draws"):
        cls(65_536).check()
