"""Disentanglement scores: codes and factors whose scores follow by arithmetic."""

import numpy as np
import pytest

from sklearn_vae.metrics import disentanglement_scores, mutual_information_gap

ROTATION = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)


@pytest.fixture
def factors():
    """Two independent factors, one of them of four classes."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.uniform(size=1000), rng.integers(0, 4, 1000)])


def test_the_gap_of_a_noisy_binary_code_is_its_mutual_information():
    """A fair coin with an error rate of a tenth: log 2 less the entropy of the errors."""
    coin = np.repeat([0, 1], 500)
    code = coin.copy()
    code[:50], code[500:550] = 1, 0
    error = np.array([0.1, 0.9])
    expected = (np.log(2) + error @ np.log(error)) / np.log(2)
    noise = np.tile([0.0, 1.0], 500)

    assert mutual_information_gap(code[:, None], coin) == pytest.approx(expected)
    assert mutual_information_gap(np.c_[noise, code], coin) == pytest.approx(expected, abs=0.01)
    assert mutual_information_gap(np.c_[code, code], coin) == pytest.approx(0)


def test_the_gap_is_one_for_factors_and_zero_for_noise_and_duplicates(factors):
    """For codes in any order and unit."""
    noise = np.random.default_rng(1).normal(size=(1000, 2))
    rescaled = np.c_[noise[:, 0], np.exp(-3 * factors[:, 0]), -factors[:, 1]]

    # the estimate from 20 bins is biased: 19 * 3 / 2000 nats between noise and four classes
    assert mutual_information_gap(factors, factors) > 0.9
    assert mutual_information_gap(rescaled, factors) > 0.9
    assert mutual_information_gap(noise, factors) < 0.05
    assert mutual_information_gap(np.c_[factors, factors], factors) == pytest.approx(0)


def test_rotated_factors_are_entangled():
    """Each dimension is as informative of one factor as of the other."""
    factors = np.random.default_rng(0).normal(size=(1500, 2))
    aligned = disentanglement_scores(factors, factors)
    rotated = disentanglement_scores(factors @ ROTATION, factors)

    assert min(aligned[:3]) > 0.95
    assert rotated.disentanglement < 0.05
    assert rotated.completeness < 0.05
    assert rotated.informativeness > 0.9
    np.testing.assert_allclose(rotated.importance, 0.5, atol=0.1)
    assert mutual_information_gap(factors, factors) > 0.7
    assert mutual_information_gap(factors @ ROTATION, factors) < 0.05


def test_two_dimensions_of_one_factor_are_disentangled_but_not_complete(factors):
    """Each dimension is important for one factor only, but that factor has two."""
    angle = 2 * np.pi * factors[:, 0]
    codes = np.c_[np.cos(angle), np.sin(angle), factors[:, 1]]
    scores = disentanglement_scores(codes, factors)

    assert scores.disentanglement > 0.9
    assert scores.completeness < 0.85
    assert scores.informativeness > 0.9


def test_constant_codes_are_neither_disentangled_nor_complete(factors):
    """As those of a posterior that has collapsed."""
    scores = disentanglement_scores(np.zeros((1000, 3)), factors)

    assert (scores.disentanglement, scores.completeness) == pytest.approx((0, 0))
    assert (scores.importance == 0).all()


def test_invalid_arguments_are_refused(factors):
    """The error names the argument."""
    with pytest.raises(ValueError, match=r"Factor 1 is 3\.0 in all rows"):
        disentanglement_scores(factors, np.c_[factors[:, 0], np.full(1000, 3.0)])
    for n_bins in (1, 2.5, None):
        with pytest.raises(
            ValueError, match=f"n_bins must be .* between 2 and .* Got {n_bins} instead"
        ):
            mutual_information_gap(factors, factors, n_bins=n_bins)
    with pytest.raises(
        ValueError, match=r"factors must have a value for each row .* Got 3 instead"
    ):
        disentanglement_scores(factors, 3)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        mutual_information_gap(factors, factors[:-1])
    with pytest.raises(ValueError, match="Z contains NaN"):
        mutual_information_gap(np.full((1000, 2), np.nan), factors)
