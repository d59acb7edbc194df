"""Columns that exclude each other: the density of all rows, one by one, is the oracle."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from sklearn_vae.likelihoods import Columnwise, OneHot

N_GROUPS, SIZE = 2, 3
EACH = [OneHot(SIZE, has_none) for has_none in (True, False)]
# all rows of bits
ROWS = np.array([*itertools.product([0.0, 1.0], repeat=N_GROUPS * SIZE)])

each = pytest.mark.parametrize("likelihood", EACH, ids=repr)
libraries = pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])


@pytest.fixture
def logit(rng):
    """Logits of the columns: (4, n)."""
    return 2 * rng.normal(size=(4, N_GROUPS * SIZE))


def probabilities(likelihood, logit):
    """Probability of each of ``ROWS``, one number per row of logits: (4, 64)."""
    groups = logit.reshape(len(logit), N_GROUPS, SIZE)
    if likelihood.has_none:
        groups = np.concatenate([groups, np.zeros((len(logit), N_GROUPS, 1))], axis=2)
    p = softmax(groups, axis=2)
    total = np.zeros((len(logit), len(ROWS)))
    for classes in itertools.product(range(p.shape[2]), repeat=N_GROUPS):
        row = np.concatenate([np.arange(SIZE) == k for k in classes])
        total[:, (row == ROWS).all(axis=1)] = p[:, [0, 1], classes].prod(axis=1, keepdims=True)
    return total


def possible(likelihood):
    """Indices of the rows that have a probability: (m,)."""
    return np.flatnonzero(probabilities(likelihood, np.zeros((1, N_GROUPS * SIZE)))[0])


@each
@libraries
def test_all_rows_have_their_probability(likelihood, convert, logit):
    """At most one of a group is 1, or exactly one. By column they add up to the same."""
    rows = possible(likelihood)
    expected = np.log(probabilities(likelihood, logit)[:, rows])
    params, x = [convert(logit[:, None])], convert(ROWS[rows])

    np.testing.assert_allclose(likelihood.log_prob(params, x), expected, rtol=1e-9)
    per_column = likelihood.log_prob_per_column(params, x)
    np.testing.assert_allclose(per_column.sum(-1), expected, rtol=1e-9)
    components = likelihood.log_prob_by_component([convert(logit[None])], x[None], None)
    np.testing.assert_allclose(components[0], expected, rtol=1e-9)


@each
@libraries
def test_missing_values_are_summed_over(likelihood, convert, logit, rng):
    """Every pattern of holes, for rows that have a probability."""
    rows = Columnwise([(likelihood, N_GROUPS * SIZE)])
    log_p = np.full((len(logit), len(ROWS)), -np.inf)
    log_p[:, possible(likelihood)] = np.log(
        probabilities(likelihood, logit)[:, possible(likelihood)]
    )
    for pattern in (ROWS == 1)[:: 1 if convert is np.asarray else 7]:
        for row in ROWS[possible(likelihood)][::3]:
            agrees = (ROWS[:, pattern] == row[pattern]).all(axis=1)
            expected = logsumexp(log_p[:, agrees], axis=1)
            x, observed = convert((row * pattern)[None]), convert(pattern[None])
            actual = rows.log_prob([[convert(logit[:, None])]], x, observed)
            np.testing.assert_allclose(actual[:, 0], expected, atol=1e-9)
            by_component = rows.log_prob_by_component(
                [[convert(logit[None])]], x[None], observed[None]
            )
            np.testing.assert_allclose(by_component[0, :, 0], expected, atol=1e-9)


@each
def test_gradients_of_numpy_are_those_of_autograd(likelihood, logit, rng):
    """With and without missing values."""
    rows = Columnwise([(likelihood, N_GROUPS * SIZE)])
    x = ROWS[rng.choice(possible(likelihood), len(logit))]
    for observed in (None, rng.random(x.shape) < 0.6):
        values = x if observed is None else x * observed
        torch_mask = None if observed is None else torch.as_tensor(observed)
        expected = rows.value_and_gradient(
            [[torch.as_tensor(logit)]], torch.as_tensor(values), torch_mask
        )
        actual = rows.value_and_gradient([[logit]], values, observed)
        np.testing.assert_allclose(actual[0], expected[0], rtol=1e-9)
        np.testing.assert_allclose(actual[1][0][0], expected[1][0][0], atol=1e-9)


@each
@libraries
def test_moments_are_those_of_all_rows(likelihood, convert, logit):
    """Mean, mode and Fisher information."""
    p = probabilities(likelihood, logit)
    mean = likelihood.mean([convert(logit)])
    np.testing.assert_allclose(mean, p @ ROWS, rtol=1e-9)

    slope = np.random.default_rng(1).normal(size=(2, *logit.shape))
    features = np.asarray(likelihood.fisher_features([convert(logit)], [convert(slope)]))
    information = np.einsum("krnf,lrnf->rkl", features, features)
    score = ROWS - np.asarray(mean)[:, None]  # of the logits: (4, 64, n)
    of_z = np.einsum("rxn,krn->rxk", score, slope)
    np.testing.assert_allclose(information, np.einsum("rx,rxk,rxl->rkl", p, of_z, of_z), rtol=1e-8)


@each
def test_the_mode_is_the_most_probable_row(likelihood, logit):
    """Which may have no one."""
    expected = ROWS[probabilities(likelihood, logit).argmax(axis=1)]
    np.testing.assert_array_equal(likelihood.mode([torch.as_tensor(logit)]), expected)


@each
def test_samples_have_the_probabilities(likelihood, logit):
    """Of whole rows."""
    params = torch.as_tensor(np.repeat(logit[:1], 40_000, axis=0))
    x = likelihood.sample([params], torch.Generator().manual_seed(0), None).numpy()
    index = (x @ 2.0 ** np.arange(N_GROUPS * SIZE)[::-1]).astype(int)
    frequency = np.bincount(index, minlength=len(ROWS)) / len(x)

    p = probabilities(likelihood, logit)[0]
    assert (frequency[p == 0] == 0).all()
    np.testing.assert_allclose(frequency, p, atol=4 * np.sqrt(p.max() / len(x)))


@each
def test_maximum_likelihood_has_the_frequencies(likelihood, rng):
    """Of weighted rows with holes."""
    x = ROWS[rng.choice(possible(likelihood), 500)]
    weights = rng.random((2, 500))
    (params,) = likelihood.maximum_likelihood(torch.as_tensor(x), torch.as_tensor(weights))
    expected = weights @ x / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(likelihood.mean([params]), expected, rtol=1e-6)

    x[::7] = np.nan
    (params,) = likelihood.maximum_likelihood(torch.as_tensor(x), torch.as_tensor(weights))
    expected = weights @ np.nan_to_num(x) / (weights @ ~np.isnan(x))
    np.testing.assert_allclose(likelihood.mean([params]), expected, rtol=1e-6)


@each
def test_initialization_is_the_linear_model(likelihood):
    """The mean and its slope at z = 0."""
    loc = torch.tensor([0.2, 0.5, 0.1, 0.3, 0.3, 0.2]).double()
    loadings = 0.05 * torch.as_tensor(np.random.default_rng(0).normal(size=(2, 6)))
    if not likelihood.has_none:
        groups = loc.unflatten(0, (2, 3))
        loc = (groups / groups.sum(1, keepdim=True)).flatten()
        loadings = loadings.unflatten(1, (2, 3)) - loadings.unflatten(1, (2, 3)).mean(2)[..., None]
        loadings = loadings.flatten(1)
    ((slope, offset),) = likelihood.initialize(loadings, loc, torch.ones(6).double())
    zero = torch.zeros(2).double()

    torch.testing.assert_close(likelihood.mean([offset]), loc)
    actual = torch.autograd.functional.jacobian(
        lambda z: likelihood.mean([z @ slope + offset]), zero
    )
    torch.testing.assert_close(actual.T, loadings)
