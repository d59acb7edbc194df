"""Samples with missing cells: patterns of the training rows, in every container."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAETransformer, load
from sklearn_vae.data.missing_patterns import MissingPatterns

QUICK = {"max_iter": 1, "hidden_layer_sizes": (8,), "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    """Of 400 rows, 100 lack the second cell and 50 the second and the third."""
    X = np.random.default_rng(0).normal(size=(400, 3))
    X[:150, 1] = X[:50, 2] = np.nan
    return X


def test_frequencies_are_those_of_the_rows(rows):
    patterns = MissingPatterns.fit(rows, None)
    shares = {tuple(mask): share for mask, share in zip(*vars(patterns).values(), strict=True)}
    weighted = MissingPatterns.fit(rows, np.repeat([2.0, 1.0], [50, 350]))

    assert shares == pytest.approx(
        {(False, True, True): 0.125, (False, True, False): 0.25, (False, False, False): 0.625}
    )
    assert weighted.probability.max() == pytest.approx(250 / 450)


def test_a_long_table_that_alternates_keeps_its_patterns():
    """Of rows at equal distances, all could be of one kind."""
    X = np.zeros((2_048, 2))
    X[1::2, 0] = np.nan

    assert MissingPatterns.fit(X, None).probability == pytest.approx([0.5, 0.5], abs=0.05)


@pytest.mark.parametrize("estimator", [VAETransformer(2, **QUICK), VAEDensity(2, **QUICK)])
def test_samples_have_the_patterns_of_the_rows(rows, estimator, tmp_path):
    vae = estimator.fit(rows)
    vae.save(tmp_path / "vae")
    sample = vae.sample(2000, random_state=0, missing=True)
    hidden, whole = np.isnan(sample), vae.sample(2000, random_state=0)

    assert hidden.mean(axis=0) == pytest.approx([0, 0.375, 0.125], abs=0.03)
    assert not (hidden[:, 2] & ~hidden[:, 1]).any()
    np.testing.assert_array_equal(sample[~hidden], whole[~hidden])
    assert not np.isnan(whole).any()
    again = load(tmp_path / "vae").sample(2000, random_state=0, missing=True)
    np.testing.assert_array_equal(again, sample)


def test_given_values_are_not_missing_and_rules_see_complete_rows(rows):
    vae = VAETransformer(2, **QUICK).fit(rows)
    given = vae.sample(200, given={1: 0.5}, missing=True, random_state=0)
    ruled = vae.sample(200, rules=[lambda X: X[:, 1] > 0], missing=True, random_state=0)

    assert (given[:, 1] == 0.5).all()
    assert np.isnan(given[:, 2]).any()
    assert np.isnan(ruled[:, 1]).any()
    assert (ruled[~np.isnan(ruled[:, 1]), 1] > 0).all()
