"""Anomaly scores of a model alone."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch.distributions import Normal

from sklearn_vae import VAEOutlierDetector, VAETransformer
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import (
    NegativeLogLikelihood,
    ReconstructionError,
    ReconstructionProbability,
)
from sklearn_vae.inference.log_density import SCORE_DRAWS
from tests.conftest import reread_part, slow


@pytest.fixture(scope="module")
def wine():
    return load_wine().data


@pytest.fixture(scope="module")
def model(wine):
    """All columns are normal given z."""
    return VAETransformer(3, likelihood="gaussian", max_iter=4, random_state=0).fit(wine)


def new_rows(X, model):
    """Rows that no reference row equals."""
    predictor = model._predictor()
    return ScoredRows(X, model.columns_, predictor, ScoredRows(X + 1, model.columns_, predictor))


def test_the_reconstruction_probability_is_that_of_torch_distributions(wine, model):
    """From q and p(x|z) as torch.distributions, by Monte Carlo."""
    torch.manual_seed(0)
    X, scale = wine[:20], wine.std(axis=0)
    x = torch.as_tensor((X - wine.mean(axis=0)) / scale)[None]
    module = model._predictor().module(np.dtype(float))
    loc, log_scale = module.posterior_params(x)
    z = Normal(loc, log_scale.exp()).rsample((4000,)).movedim(0, 1)  # (1, K, B, l)
    ((mean, raw),) = module.decode(z)
    p = Normal(mean, (7 * torch.tanh(raw / 7)).exp())
    expected = p.log_prob(x[:, None]).sum(-1).mean((0, 1)).numpy() - np.log(scale).sum()

    found = ReconstructionProbability(n_draws=1024).score(new_rows(X, model))
    np.testing.assert_allclose(-found, expected, atol=0.15)


def test_a_model_of_zero_weights_reconstructs_column_means(wine, model):
    """Errors are then squared distances from the column means."""
    mean = VAETransformer(**model.get_params(deep=False)).fit(wine)
    mean.state_dict_ = {name: np.zeros_like(value) for name, value in mean.state_dict_.items()}
    scores = ReconstructionError().score(new_rows(wine, mean))

    expected = np.square(StandardScaler().fit_transform(wine)).sum(axis=1)
    np.testing.assert_allclose(scores, expected)


@pytest.mark.parametrize("novelty", [*slow(False), True])
def test_log_likelihoods_of_new_rows_are_the_models(wine, novelty):
    """In nats and X's units; the mean of log p(x|z) less the KL is no more."""
    train, new = wine[::2], wine[1::2]
    params = {"novelty": novelty, "max_iter": 2, "random_state": 0}
    detector = VAEOutlierDetector(method="log_likelihood", **params).fit(train)
    scores, model = detector.score_samples(new), detector.estimator_

    np.testing.assert_allclose(scores, model.score_samples(new), rtol=1e-12)
    by_reconstruction = VAEOutlierDetector(method="reconstruction_probability", **params).fit(train)
    predictor, columns = model._predictor(), model.columns_
    x = torch.as_tensor(columns.transform(new))[None]
    terms = predictor.module(new.dtype).elbo_terms(x, torch.as_tensor(predictor.noise(SCORE_DRAWS)))
    log_prob, kl = (term[0].numpy() for term in terms)
    log_prob += columns.log_abs_det_jacobian(new)
    assert (log_prob - kl.sum(-1) < scores + 0.05).all()
    np.testing.assert_allclose(by_reconstruction.score_samples(new), log_prob, rtol=1e-12)


def test_scores_of_training_rows_are_corrected(wine):
    """Alone or with other rows; by more if the score is higher."""
    train = np.unique(wine, axis=0)
    detector = VAEOutlierDetector(method="log_likelihood", max_iter=2, random_state=0).fit(train)
    scorer, found = detector.scorer_, detector.score_samples(train)
    of_new = detector.estimator_.score_samples(train)

    assert 0 <= scorer.optimism[0] < scorer.optimism[-1]
    np.testing.assert_allclose(scorer.knots, np.quantile(-of_new, [0.1, 0.3, 0.5, 0.7, 0.9]))
    np.testing.assert_allclose(found, of_new - np.interp(-of_new, scorer.knots, scorer.optimism))
    np.testing.assert_allclose(detector.score_samples(train[7:8]), found[7:8])
    np.testing.assert_array_equal(detector.calibration_scores_, np.sort(found))


def test_the_correction_is_that_of_models_of_halves_of_the_rows(wine, monkeypatch):
    """Each has not seen the other half, whose scores are higher: by the difference of quantiles."""
    seen = []

    def record(self, rows, scores):
        seen.append((rows, correct(self, rows, scores)[0]))
        return self, scores

    correct = NegativeLogLikelihood.correct
    monkeypatch.setattr(NegativeLogLikelihood, "correct", record)
    VAEOutlierDetector(method="log_likelihood", max_iter=2, random_state=0).fit(wine)
    ((rows, scorer),) = seen
    (first, is_new), (second, is_old) = rows.folds

    np.testing.assert_array_equal(is_new, ~is_old)
    assert abs(is_new.sum() - is_old.sum()) <= 1
    for model, other, mask in ((first, second, is_new), (second, first, is_old)):
        seen_rows = rows.X[~mask]  # which the other model has not seen
        assert (
            model.log_density(seen_rows, 16).mean() > other.log_density(seen_rows, 16).mean() + 0.1
        )
    differences = []
    for model, mask in rows.folds:
        score = -model.log_density(rows.X, 64)
        differences.append(np.subtract(*(np.median(score[part]) for part in (mask, ~mask))))
    assert scorer.optimism[2] == pytest.approx(np.mean(differences), rel=0.05)


@pytest.mark.parametrize("cls", [NegativeLogLikelihood, ReconstructionProbability])
def test_a_loaded_scorer_has_draws_for_which_a_row_takes_little_memory(cls):
    """65,536 draws for one row took 74 MiB, beyond what reading a small file may take."""
    cls(n_draws=4096).check()
    with pytest.raises(ValueError, match="n_draws"):
        cls(n_draws=65_536).check()


def test_the_optimism_of_a_loaded_scorer_does_not_fall():
    """Scores of training rows would change their order."""
    for wrong in ([1.0, 0.0], [0.0, 1.0]), ([0.0, 1.0], [1.0, 0.5]), ([], []), ([0.0], []):
        with pytest.raises(ValueError, match=r"knots|optimism"):
            reread_part(ReconstructionError(*map(np.array, wrong)))


def test_equal_rows_have_equal_scores_where_most_rows_are_equal():
    """Quantiles of the scores are then equal up to rounding, which must not decide."""
    rng = np.random.default_rng(2)
    X = rng.exponential(size=(300, 6)) * (rng.random((300, 6)) < 0.5)
    X[rng.random(300) < 0.5] = 0
    detector = VAEOutlierDetector(max_iter=2, random_state=0).fit(X)
    scores = detector.score_samples(X)[~X.any(axis=1)]

    np.testing.assert_allclose(scores, scores[0], rtol=0, atol=1e-5)
