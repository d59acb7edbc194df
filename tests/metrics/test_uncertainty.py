"""Epistemic uncertainty: scores of the single members as the oracle."""

import copy

import numpy as np
import pytest

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import decompose_uncertainty


def parabola(n, seed, width=1.0):
    rng = np.random.default_rng(seed)
    a = width * rng.normal(size=n)
    return np.stack([a, a**2 + 0.3 * width * rng.normal(size=n)], axis=1)


@pytest.fixture(scope="module")
def ensemble():
    vae = VAETransformer(n_components=2, n_init=3, ensemble=True, max_iter=30, random_state=0)
    return vae.fit(parabola(200, 0))


def test_both_parts_follow_from_the_members_scores(ensemble):
    """The epistemic part is Jensen's gap of the members' scores."""
    X = parabola(40, 1)
    scores = []
    for member in range(3):
        single = copy.deepcopy(ensemble)
        single.state_dict_ = {k: w[[member]] for k, w in ensemble.state_dict_.items()}
        scores.append(single.score_samples(X))
    expected, epistemic = decompose_uncertainty(ensemble, X)

    np.testing.assert_allclose(expected, np.mean(scores, axis=0), atol=0.02)
    np.testing.assert_allclose(expected + epistemic, ensemble.score_samples(X), atol=0.02)
    assert (epistemic > -1e-6).all()


def test_epistemic_uncertainty_grows_away_from_the_training_rows(ensemble):
    """Members disagree where no training row constrains them."""
    near, far = (
        decompose_uncertainty(ensemble, parabola(200, 1, width)).epistemic for width in (1, 4)
    )

    assert np.median(far) > 3 * np.median(near)


def test_a_single_member_is_refused():
    """The error says how to fit an ensemble."""
    vae = VAETransformer(max_iter=1, random_state=0).fit(parabola(60, 0))
    with pytest.raises(ValueError, match="n_init=5 and ensemble=True"):
        decompose_uncertainty(vae, parabola(3, 1))
