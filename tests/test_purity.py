"""No luck, no traces: same seed, same bits, and nothing global is changed."""

import os
import pickle
import random
import warnings
from contextlib import contextmanager
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from sklearn_vae.model_selection import VAESearchCV
from tests.conftest import correlated_rows as rows, slow

pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture(scope="module")
def fitted():
    return VAETransformer(max_iter=4, random_state=0).fit(rows(400))


@pytest.mark.parametrize("n", [60, 700])
def test_the_same_seed_gives_the_same_bits(n):
    """For a tiny table and one of several batches."""
    X = rows(n)
    a, b = (VAETransformer(max_iter=4, random_state=3).fit(X) for _ in range(2))

    assert all((a.state_dict_[name] == b.state_dict_[name]).all() for name in a.state_dict_)
    assert (a.transform(X) == b.transform(X)).all()
    assert (a.score_samples(X) == b.score_samples(X)).all()
    assert (a.sample(5) == b.sample(5)).all()


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


MODES = {
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": partial(torch.autocast, "cpu"),
    "default device": partial(torch.device, "meta"),  # as "cuda" where there is a GPU
    "default dtype": default_dtype,
}


def results(estimator, X):
    """Scores, then samples or what else the estimator returns."""
    if isinstance(estimator, VAEImputer):
        return [estimator.transform(X)]
    methods = {
        "sample": lambda: estimator.sample(5, given={0: 0.5}, random_state=0),
        "inverse_transform": lambda: estimator.inverse_transform(estimator.transform(X)),
        "explain": lambda: estimator.explain(X[:5]),
    }
    scores = estimator.score_samples(X)
    return [scores, *(call() for name, call in methods.items() if hasattr(estimator, name))]


@pytest.mark.parametrize(
    "mode", ["inference", "default device", *slow("no gradients", "autocast", "default dtype")]
)
@pytest.mark.parametrize(
    "estimator",
    [
        VAETransformer(prior="mixture", max_iter=1, random_state=0),
        VAETransformer(objective="tc", max_iter=1, random_state=0),
        VAEDensity(mixtures=[(2, "full")], max_iter=1, random_state=0),
        VAEOutlierDetector(max_iter=1, random_state=0),
        VAEImputer(VAETransformer(max_iter=1), random_state=0),
    ],
)
def test_modes_of_torch_change_nothing(estimator, mode):
    """Models that are fitted or first used within one score the same, and go on to work outside."""
    X = rows(40).astype(np.float32)
    X[::7, 1] = np.nan
    fitted = clone(estimator).fit(X)
    expected = results(clone(estimator).fit(X), X)
    with MODES[mode]():
        refitted = clone(estimator).fit(X)
        found = [results(refitted, X), results(fitted, X)]
    found.append(results(fitted, X))

    for each in found:
        for array, expected_array in zip(each, expected, strict=True):
            np.testing.assert_array_equal(array, expected_array)


@pytest.mark.parametrize(
    "mode", ["autocast", "no gradients", *slow("default device", "inference", "default dtype")]
)
def test_modes_of_torch_change_no_search(mode):
    """Fits that failed together were done again one by one, for all iterations."""
    vae = VAETransformer(2, objective="tc", max_iter=4, early_stopping=False, random_state=0)
    search = VAESearchCV(vae, {"beta": [0.5, 1.0]}, cv=2)
    X = rows(60).astype(np.float32)
    expected = clone(search).fit(X).cv_results_["mean_test_score"]
    with MODES[mode]():
        found = clone(search).fit(X).cv_results_["mean_test_score"]

    np.testing.assert_array_equal(found, expected)


def test_no_seed_gives_fresh_luck_at_fit_and_none_after():
    """random_state=None draws a seed once, at fit."""
    X = rows(200)
    a, b = (VAETransformer(max_iter=2, early_stopping=False).fit(X) for _ in range(2))

    assert not np.array_equal(a.transform(X), b.transform(X))
    assert (a.score_samples(X) == a.score_samples(X)).all()
    assert not np.array_equal(a.sample(5), a.sample(5))


@pytest.mark.parametrize("method", ["score_samples", "transform"])
def test_a_row_is_treated_alike_in_any_company(fitted, method):
    """Alone, in another order, in any batch: to 1e-7 in double precision."""
    X = rows(300, seed=1)
    expected = getattr(fitted, method)(X)
    order = np.random.default_rng(0).permutation(len(X))

    np.testing.assert_allclose(getattr(fitted, method)(X[order]), expected[order], rtol=1e-7)
    np.testing.assert_allclose(getattr(fitted, method)(X[7:8]), expected[7:8], rtol=1e-7)
    np.testing.assert_allclose(getattr(fitted, method)(X[:37]), expected[:37], rtol=1e-7)


def test_global_states_are_as_before():
    """Random states, thread count, grad mode, default type and warnings filters."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)

    def state():
        return pickle.dumps(
            (
                random.getstate(),
                np.random.get_state(),
                torch.random.get_rng_state().numpy(),
                torch.get_num_threads(),
                torch.is_grad_enabled(),
                torch.get_default_dtype(),
                [str(entry) for entry in warnings.filters],
                np.geterr(),
                sorted(os.environ.items()),
            )
        )

    before = state()
    vae = VAETransformer(max_iter=2).fit(rows(300))
    vae.score_samples(rows(10), return_std=True)
    vae.transform(rows(10)), vae.sample(3), vae.partial_fit(rows(50))

    assert state() == before


def test_an_estimator_whose_arrays_are_read_only_is_trained_further_in_silence(tmp_path):
    """Moments of the optimizer are copied, too."""
    X = rows(50)
    vae = VAETransformer(random_state=0).partial_fit(X)
    joblib.dump(vae, tmp_path / "vae.joblib")
    mapped = joblib.load(tmp_path / "vae.joblib", mmap_mode="r")

    assert mapped.partial_fit(X).score(X) == vae.partial_fit(X).score(X)
