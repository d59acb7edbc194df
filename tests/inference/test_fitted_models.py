"""The torch module of a fitted model: built once, and never out of date; few rows without it."""

import pickle
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from sklearn_vae.models import build
from sklearn_vae.networks import CustomNetwork
from tests.conftest import assert_same_on_threads

pytestmark = pytest.mark.usefixtures("few_steps")

QUICK = {"max_iter": 2, "random_state": 0}
MODELS = {
    "transformer": VAETransformer(2, **QUICK),
    "ensemble": VAETransformer(2, n_init=2, ensemble=True, **QUICK),
    "density": VAEDensity(2, mixtures=[(1, "full"), (2, "diag")], **QUICK),
    "detector": VAEOutlierDetector(**QUICK),
}


@pytest.fixture(scope="module")
def X():
    """120 rows of four correlated columns."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(120, 4))


@pytest.fixture
def built(monkeypatch):
    """The modules that are built during the test."""
    modules = []

    def counted(*args):
        modules.append(original(*args))
        return modules[-1]

    original = build.build
    monkeypatch.setattr(build, "build", counted)
    return modules


def fresh_scores(model, X):
    """Scores of a copy of the fitted attributes, whose module is built anew."""
    return pickle.loads(pickle.dumps(model)).score_samples(X)


@pytest.mark.parametrize("name", MODELS)
def test_a_second_fit_leaves_no_module_of_the_first(name, X):
    """Scores are those of the last fit."""
    model = clone(MODELS[name]).fit(X)
    before = model.score_samples(X)
    after = model.fit(X[:80]).score_samples(X)

    assert (after != before).any()
    assert (after == fresh_scores(model, X)).all()


def test_the_weights_of_a_model_that_has_scored_are_read_only(X):
    """A change of the numbers would not reach the module, so numpy refuses it."""
    model = VAETransformer(2, **QUICK).fit(X)
    model.score_samples(X)

    with pytest.raises(ValueError, match="read-only"):
        model.state_dict_["free"][0] = 1


def test_the_public_module_is_a_copy(X):
    """Whoever changes ``module_`` leaves the estimator as it is."""
    model = VAETransformer(2, **QUICK).fit(X)
    expected = model.transform(X)
    with torch.no_grad():
        for parameter in model.module_.parameters():
            parameter.zero_()

    assert (model.transform(X) == expected).all()


class Layer(nn.Module):
    """A module of the user's, which lets other threads run while torch has replaced its weights."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)

    def forward(self, x):
        time.sleep(1e-3)
        return torch.tanh(self.layer(x))


def test_four_threads_score_by_a_users_module_as_one_does(X):
    """To the last bit: members have different weights in one module of the user's."""
    model = VAETransformer(2, network=CustomNetwork(Layer), n_init=3, ensemble=True, **QUICK).fit(X)

    assert_same_on_threads(4, model.score_samples, np.array_split(X, 24))


@pytest.mark.parametrize("name", MODELS)
def test_predictions_have_the_same_bits_with_any_number_of_threads(name, X):
    """Chunks of rows do not depend on the number, and each is computed on one thread."""
    model = clone(MODELS[name]).fit(X)
    rows = np.tile(X, (2, 1))
    incomplete = np.where(np.random.default_rng(1).random(rows.shape) < 0.2, np.nan, rows)
    calls = {"score_samples": (rows,), "transform": (rows,), "impute": (incomplete, 2)}
    results, before = [], torch.get_num_threads()
    try:
        for n_threads in (1, 5):
            torch.set_num_threads(n_threads)
            results.append(
                [
                    getattr(model, call)(*args)
                    for call, args in calls.items()
                    if hasattr(model, call)
                ]
            )
    finally:
        torch.set_num_threads(before)

    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)
