"""What codes have lost is given back: ridge regression and PCA as oracles."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAETransformer
from sklearn_vae.data.columns.binary import BinaryColumns
from sklearn_vae.inference import decoder_correction as module
from sklearn_vae.inference.decoder_correction import correction_at, fit_ridge
from tests.conftest import slow


@pytest.fixture
def rows(rng):
    """Codes of unequal spread and residuals that depend on them a little: (60, 3), (60, 4)."""
    codes = rng.normal(size=(60, 3)) * [1.0, 0.5, 0.1] + [0.3, 0.0, -1.0]
    return codes, codes @ rng.normal(size=(3, 4)) * 0.5 + rng.normal(size=(60, 4)) + 0.2


def test_the_penalty_has_the_lowest_generalized_cross_validation_error(rows):
    """Of all on the list, by the formula with the hat matrix written out."""
    codes, residual = rows
    z = StandardScaler().fit_transform(codes)
    n, centre = len(z), np.full((len(z), len(z)), 1 / len(z))

    def hat(penalty):
        return centre + z @ np.linalg.solve(z.T @ z / n + penalty * np.eye(3), z.T) / n

    def error(penalty):
        left = residual - hat(penalty) @ residual
        return np.square(left).sum() / (1 - np.trace(hat(penalty)) / n) ** 2

    best = min(module.PENALTIES, key=error)
    found = fit_ridge(codes, residual, np.ones(len(codes)))

    np.testing.assert_allclose(found[0] + codes @ found[1:], hat(best) @ residual, atol=1e-9)


def test_before_the_first_step_rows_come_back_as_pca_gives_them_back(monkeypatch):
    """The start is probabilistic PCA, whose codes are shrunk; least squares take that back."""
    monkeypatch.setattr(module, "PENALTIES", np.array([1e-12]))
    X = StandardScaler().fit_transform(load_wine().data)
    train, test = train_test_split(X, random_state=0)
    train = StandardScaler().fit_transform(train)
    vae = VAETransformer(
        8,
        likelihood="gaussian",
        learning_rate=1e-12,
        max_iter=1,
        early_stopping=False,
        random_state=0,
    ).fit(train)
    pca = PCA(8).fit(train)
    expected = pca.inverse_transform(pca.transform(test))
    shrunk = vae.module_.reconstruct(vae.module_.posterior.mean(as_rows(vae, test)))[0].numpy()

    assert np.abs(vae.inverse_transform(vae.transform(test)) - expected).max() < 1e-3
    assert np.abs(shrunk * train.std(axis=0) + train.mean(axis=0) - expected).max() > 0.5


def as_tensor(x):
    return torch.as_tensor(x)[None]


def as_rows(vae, X):
    return vae.module_.encode(as_tensor(vae.columns_.transform(X)))


@pytest.mark.parametrize("seed", [0, *slow(1)])
def test_wine_comes_back_no_worse_than_from_pca(seed):
    """A short table and trailing variances near the residual's: where shrinkage costs most."""
    X = load_wine().data
    train, test = train_test_split(X, random_state=seed)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    pca, vae = PCA(8).fit(train), VAETransformer(8, random_state=seed).fit(train)

    def r2(model):
        left = np.square(test - model.inverse_transform(model.transform(test))).sum()
        return 1 - left / np.square(test).sum()

    assert r2(vae) > r2(pca) - 0.01


@pytest.mark.parametrize("beta", [*slow(1.0), 10.0])
def test_codes_from_the_prior_come_back_among_the_rows(beta):
    """A silent dimension's means hardly vary; a code as large as the prior's is none of them."""
    X = StandardScaler().fit_transform(load_wine().data)
    vae = VAETransformer(2, beta=beta, max_iter=10, random_state=0).fit(X)
    Z = np.random.default_rng(0).normal(size=(2000, 2))

    assert np.abs(vae.inverse_transform(Z)).max() <= 2 * np.abs(X).max()


def test_the_correction_ends_beyond_the_codes_that_were_seen(rng):
    """At twice their range, in each dimension."""
    codes = rng.uniform(-1, 3, size=(50, 2)) * [1.0, 1e-3]
    code_range, correction = (
        np.array([codes.min(axis=0), codes.max(axis=0)]),
        rng.normal(size=(3, 4)),
    )
    centre, reach = code_range.mean(axis=0), np.ptp(code_range, axis=0)
    inside = centre + rng.uniform(-1, 1, size=(9, 2)) * reach
    beyond = centre + [[3, 0], [0.5, -9]] * reach
    ends = centre + [[1, 0], [0.5, -1]] * reach

    for z, at in ((inside, inside), (beyond, ends)):
        expected = correction[0] + at @ correction[1:]
        found = correction_at(z, correction, code_range)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_binary_columns_keep_their_probabilities(rng):
    """What is added to a mean could leave 0 and 1."""
    X = rng.normal(size=(200, 3))
    X[:, 1] = X[:, 0] + X[:, 1] > 0
    vae = VAETransformer(1, max_iter=3, random_state=0).fit(X)
    (place,) = np.flatnonzero(vae.columns_.mask(BinaryColumns)[vae.columns_.order])

    assert (vae.decoder_correction_[:, place] == 0).all()
    assert np.abs(np.delete(vae.decoder_correction_, place, axis=1)).max() > 0


def test_numbers_beside_point_masses_are_corrected(rng, monkeypatch):
    """By Ridge on residuals, which are 0 at a point mass and in a missing cell.

    Probabilities are kept.
    The mean of a few large amounts is far from them, where a wide scale raises the density.
    """
    monkeypatch.setattr(module, "PENALTIES", np.array([0.1]))
    X = rng.normal(size=(200, 1)) + 0.3 * rng.normal(size=(200, 3))
    X[:, 2] = np.where(rng.random(200) < 0.4, 0.0, np.exp(X[:, 2]))
    X[:20, 2] = np.nan
    vae = VAETransformer(2, max_iter=5, random_state=0).fit(X)
    x, Z = vae.columns_.transform(X), vae.transform(X)
    *_, mass, number = np.arange(x.shape[1])
    left = (x - vae.module_.reconstruct(as_tensor(Z))[0].numpy())[:, number]
    left[(x[:, mass] == 1) | np.isnan(left)] = 0
    scaler = StandardScaler().fit(Z)
    ridge = Ridge(alpha=0.1 * len(x)).fit(scaler.transform(Z), left)
    found = vae.decoder_correction_

    assert (found[:, mass] == 0).all()
    np.testing.assert_allclose(
        found[0, number] + Z @ found[1:, number], ridge.predict(scaler.transform(Z)), atol=1e-4
    )


def test_the_density_knows_nothing_of_it(rng):
    """Scores and samples are those of p(x|z) itself; a stream of chunks has no correction."""
    X = rng.normal(size=(150, 4)) @ rng.normal(size=(4, 4))
    vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    score, sample, Z = vae.score_samples(X), vae.sample(5), vae.transform(X)
    back = vae.inverse_transform(Z)
    vae.decoder_correction_ = None

    np.testing.assert_array_equal(vae.score_samples(X), score)
    np.testing.assert_array_equal(vae.sample(5), sample)
    assert np.abs(vae.inverse_transform(Z) - back).max() > 1e-3
    assert VAETransformer(2, random_state=0).partial_fit(X).decoder_correction_ is None


def test_counts_come_back(rng, monkeypatch):
    """Two counts, two dimensions: most of the error was shrinkage."""
    rate = np.exp(3 + 0.8 * rng.normal(size=(400, 1)) + 0.3 * rng.normal(size=(400, 2)))
    X = rng.poisson(rate).astype(float)

    def r2(vae):
        error = X[300:] - vae.inverse_transform(vae.transform(X[300:]))
        return 1 - (error.var(axis=0) / X[300:].var(axis=0)).mean()

    corrected = r2(VAETransformer(2, likelihood="negative_binomial", random_state=0).fit(X[:300]))
    monkeypatch.setattr(module, "fit_ridge", lambda codes, residual, _: np.zeros((3, 2)))
    plain = r2(VAETransformer(2, likelihood="negative_binomial", random_state=0).fit(X[:300]))
    assert 1 - corrected < (1 - plain) / 2
