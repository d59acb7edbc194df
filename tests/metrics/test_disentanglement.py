"""Codes against known factors: cases whose scores are known by arithmetic."""

import subprocess
import sys

import numpy as np
import pytest

from sklearn_vae.metrics import disentanglement_scores, mutual_information_gap

EIGHTH = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)


@pytest.fixture
def factors():
    """Two independent factors, one of them of four classes."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.uniform(size=1000), rng.integers(0, 4, 1000)])


def test_the_gap_of_a_code_with_errors_is_known():
    """A fair coin seen with a tenth of errors: log 2 minus the entropy of the errors."""
    coin = np.repeat([0, 1], 500)
    seen = coin.copy()
    seen[:50], seen[500:550] = 1, 0
    error = np.array([0.1, 0.9])
    expected = (np.log(2) + error @ np.log(error)) / np.log(2)
    silent = np.tile([0.0, 1.0], 500)

    assert mutual_information_gap(seen[:, None], coin) == pytest.approx(expected)
    assert mutual_information_gap(np.c_[silent, seen], coin) == pytest.approx(expected, abs=0.01)
    assert mutual_information_gap(np.c_[seen, seen], coin) == pytest.approx(0)


def test_the_gap_is_one_for_factors_and_nothing_for_noise_and_twins(factors):
    """Whatever the codes' order and units."""
    noise = np.random.default_rng(1).normal(size=(1000, 2))
    other = np.c_[noise[:, 0], np.exp(-3 * factors[:, 0]), -factors[:, 1]]

    # a continuous noise of 20 bins seems to say 19 * 3 / 2000 nats of four classes, and more of 20
    assert mutual_information_gap(factors, factors) > 0.9
    assert mutual_information_gap(other, factors) > 0.9
    assert mutual_information_gap(noise, factors) < 0.05
    assert mutual_information_gap(np.c_[factors, factors], factors) == pytest.approx(0)


def test_turned_factors_are_entangled():
    """Each dimension says as much of both."""
    factors = np.random.default_rng(0).normal(size=(1500, 2))
    straight = disentanglement_scores(factors, factors)
    turned = disentanglement_scores(factors @ EIGHTH, factors)

    assert min(straight[:3]) > 0.95
    assert turned.disentanglement < 0.05
    assert turned.completeness < 0.05
    assert turned.informativeness > 0.9
    np.testing.assert_allclose(turned.importance, 0.5, atol=0.1)
    assert mutual_information_gap(factors, factors) > 0.7
    assert mutual_information_gap(factors @ EIGHTH, factors) < 0.05


def test_scores_do_not_hang_on_the_codes_order_and_units(factors):
    """Forests look at orders only; a silent dimension costs nothing."""
    noise = np.random.default_rng(1).normal(size=1000)
    found = disentanglement_scores(np.c_[noise, 7 - 3 * factors[:, 1], factors[:, 0]], factors)

    assert min(found[:3]) > 0.9
    assert found.importance.argmax(axis=0).tolist() == [2, 1]
    np.testing.assert_allclose(found.importance.sum(axis=0), 1)


def test_two_dimensions_for_one_factor_are_disentangled_but_not_complete(factors):
    """Each is of one factor only, and that factor has two."""
    angle = 2 * np.pi * factors[:, 0]
    codes = np.c_[np.cos(angle), np.sin(angle), factors[:, 1]]
    found = disentanglement_scores(codes, factors)

    assert found.disentanglement > 0.9
    assert found.completeness < 0.85
    assert found.informativeness > 0.9


def test_one_factor_or_one_dimension_is_all_there_is(factors):
    """There is nothing else that it could be confused with."""
    found = disentanglement_scores(factors, factors[:, 1])
    single = disentanglement_scores(factors[:, :1], factors)

    assert found.importance.shape == (2, 1)
    assert found.disentanglement == 1
    assert single.completeness == 1


def test_what_cannot_be_measured_is_refused(factors):
    """By name."""
    with pytest.raises(ValueError, match=r"Factor 1 is 3\.0 in all rows"):
        disentanglement_scores(factors, np.c_[factors[:, 0], np.full(1000, 3.0)])
    with pytest.raises(ValueError, match="n_bins"):
        mutual_information_gap(factors, factors, n_bins=1)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        mutual_information_gap(factors, factors[:-1])
    with pytest.raises(ValueError, match="Z contains NaN"):
        mutual_information_gap(np.full((1000, 2), np.nan), factors)


def test_importing_it_does_not_import_torch():
    """It serves other codes as well."""
    code = "import sys, sklearn_vae.metrics.disentanglement; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "False"
