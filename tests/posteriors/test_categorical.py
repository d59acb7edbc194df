"""Posteriors of classes: relaxed draws, exact scores, and clusters, against scipy and numpy."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from torch.distributions import Categorical, kl_divergence

from sklearn_vae import VAETransformer
from sklearn_vae.initialization.kmeans import k_means
from sklearn_vae.likelihoods.columnwise import LOG_SCALE_BOUND
from sklearn_vae.metrics import kl_per_dimension
from sklearn_vae.numerics.random import sobol_normal
from sklearn_vae.objectives import ELBO
from sklearn_vae.posteriors import RelaxedCategorical

TWO_OF_THREE = RelaxedCategorical(n_variables=2, temperature=1.0)


@pytest.fixture
def params(generator):
    """Logits (M, B, 6) = (2, 5, 6) of two variables with three classes each."""
    return 1.5 * torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)


def by_torch(params):
    """The same variables as torch.distributions states them: (2, 5, 2)."""
    return Categorical(logits=params.unflatten(-1, (2, 3)))


def relaxed(params, noise, temperature):
    """Draws of a training at some temperature."""
    posterior = replace(TWO_OF_THREE, temperature=temperature)
    return posterior.rsample(params.clone().requires_grad_(), noise).detach()


# -- draws ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_the_largest_share_of_a_relaxed_draw_is_of_the_posteriors_class(
    temperature, params, generator
):
    """Gumbel's theorem: the argmax has the classes' probabilities at any temperature."""
    noise = torch.randn(1, 40_000, 1, 6, generator=generator, dtype=torch.float64)
    z = relaxed(params, noise, temperature).unflatten(-1, (2, 3))
    found = torch.nn.functional.one_hot(z.argmax(-1), 3).double().mean(1)

    torch.testing.assert_close(found, by_torch(params).probs, rtol=0, atol=0.015)


def test_draws_without_a_gradient_are_one_hot_and_have_the_posteriors_frequencies(params):
    """Validation and scores do not depend on the temperature."""
    noise = torch.as_tensor(sobol_normal(4096, 6, 0))[None, :, None]
    z = TWO_OF_THREE.rsample(params, noise)

    assert ((z == 0) | (z == 1)).all()
    found = z.mean(1).unflatten(-1, (2, 3))
    torch.testing.assert_close(found, by_torch(params).probs, rtol=0, atol=2e-3)
    pairs = torch.einsum("mkba,mkbc->mbac", z[..., :3], z[..., 3:]) / 4096
    expected = torch.einsum("mba,mbc->mbac", *by_torch(params).probs.unbind(2))
    torch.testing.assert_close(pairs, expected, rtol=0, atol=0.02)


def test_relaxed_draws_pass_the_gradient_on_to_the_encoder(params, generator):
    """That is what they are relaxed for."""
    noise = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda own: TWO_OF_THREE.rsample(own, noise), params.requires_grad_()
    )


@pytest.mark.parametrize("extreme", [-40.0, 40.0])
def test_noise_far_out_leaves_draws_finite(extreme):
    """Single precision knows no double exponentials."""
    params = torch.zeros(1, 1, 6, requires_grad=True)
    z = TWO_OF_THREE.rsample(params, torch.full((1, 1, 1, 6), extreme))
    (gradient,) = torch.autograd.grad(z.square().sum(), params)

    assert z.isfinite().all()
    assert gradient.isfinite().all()


def test_the_kl_is_that_from_equal_probabilities(params):
    """Per variable, exact."""
    equal = Categorical(logits=torch.zeros(2, 5, 2, 3).double())

    torch.testing.assert_close(TWO_OF_THREE.kl(params), kl_divergence(by_torch(params), equal))


def test_all_codes_are_enumerated(params):
    """Nine different ones, each of one class per variable."""
    codes = TWO_OF_THREE.enumerate_codes(6, params)

    assert codes.unique(dim=0).shape == codes.shape == (9, 6)
    assert (codes.unflatten(-1, (2, 3)).sum(-1) == 1).all()


@pytest.mark.parametrize(("n_variables", "most"), [(1, 4096), (3, 48), (4, 32), (5, 25), (12, 24)])
def test_codes_are_few_enough_to_sum_over(n_variables, most):
    posterior = RelaxedCategorical(n_variables)

    assert posterior.fits(most)
    assert posterior.fits(posterior.default_n_components(2))
    with pytest.raises(ValueError, match=f"a multiple of {n_variables} up to {most}"):
        VAETransformer(most + n_variables, posterior=posterior).fit(BLOBS)


# -- clusters ------------------------------------------------------------------------


@pytest.mark.parametrize("n_clusters", [6, 400])
def test_weights_of_k_means_count_as_copies_do(n_clusters, rng):
    """Rows without clusters, in any order, also fewer of them than clusters."""
    X, weight = rng.random((300, 3)), rng.integers(0, 4, 300)
    centres, labels = k_means(X, weight, n_clusters, seed=0, n_init=8, tol=0)
    copies = np.repeat(X, weight, axis=0)[::-1]
    again, labels_of_copies = k_means(
        copies, np.ones(len(copies)), n_clusters, seed=0, n_init=8, tol=0
    )

    np.testing.assert_allclose(again, centres, rtol=1e-9)
    np.testing.assert_array_equal(labels_of_copies, np.repeat(labels, weight)[::-1])


def test_rows_without_any_number_that_varies_have_all_classes_alike():
    """A table of constants has nothing to cluster."""
    X = np.full((6, 2), 3.0)
    vae = VAETransformer(3, posterior="categorical", max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match="nothing to learn from"):
        codes = vae.fit_transform(X)

    assert np.ptp(codes) == 0


# -- models --------------------------------------------------------------------------

BLOBS, KIND = make_blobs(300, centers=5, n_features=4, random_state=3)


@pytest.fixture(scope="module")
def vae():
    return VAETransformer(5, posterior="categorical", max_iter=10, random_state=0).fit(BLOBS)


def test_five_clusters_are_found(vae):
    """Adjusted Rand index above 0.9 against the clusters that the rows were drawn from."""
    assert adjusted_rand_score(KIND, vae.transform(BLOBS).argmax(axis=1)) > 0.9


def test_training_finds_clusters_that_k_means_does_not():
    """Long ones that cross: the start is k-means, and training goes on from there."""
    rng = np.random.default_rng(2)
    kind = rng.integers(3, size=400)
    scale = np.array([[0.3, 3.0], [3.0, 0.3], [0.5, 0.5]])[kind]
    loc = np.array([[-1.5, 0.0], [1.5, 2.0], [4.0, -2.0]])[kind]
    X = loc + scale * rng.standard_normal((400, 2))
    how = {"early_stopping": False, "max_iter": 15, "random_state": 0}
    codes = VAETransformer(3, posterior="categorical", **how).fit_transform(X)
    start = KMeans(3, n_init=10, random_state=0).fit_predict(X / X.std(axis=0))

    found = adjusted_rand_score(kind, codes.argmax(axis=1))
    assert found > adjusted_rand_score(kind, start) + 0.2


def test_free_bits_are_those_of_a_variable():
    """Where beta would silence it, it spends them all the same."""
    how = {"posterior": "categorical", "beta": 30.0, "refit": False}
    how |= {"max_iter": 4, "early_stopping": False, "random_state": 0}
    silent, spent = (
        VAETransformer(5, objective=ELBO(free_bits=bits), **how).fit(BLOBS).history_[-1]["kl_loss"]
        for bits in (0.0, 0.5)
    )

    assert silent < 0.4
    assert spent >= 0.5


def by_hand(vae, X, codes, *y):
    """Log p(x, code) of rows for each code, by scipy from what the decoder says: (n, n_codes)."""
    columns, X = vae._predictor().columns, np.column_stack([X, *y])
    x, z = columns.transform(X), torch.as_tensor(codes)[None, :, None]
    given = [torch.as_tensor(x)[None]] if y else []
    with torch.no_grad():
        ((loc, raw),) = vae.module_.decode(z.expand(-1, -1, len(X) if y else 1, -1), *given)
    scale = np.exp(LOG_SCALE_BOUND * np.tanh(raw.numpy() / LOG_SCALE_BOUND))[0]  # (codes, 1, d)
    log_density = stats.norm(loc.numpy()[0], scale).logpdf(x[:, : loc.shape[-1]]).sum(-1).T
    return log_density + columns.log_abs_det_jacobian(X)[:, None] - np.log(len(codes))


def test_codes_are_about_the_exact_posterior(vae):
    """By Bayes' rule on the decoder's densities."""
    expected = special.softmax(by_hand(vae, BLOBS, np.eye(5)), axis=1)

    assert np.abs(vae.transform(BLOBS) - expected).sum(axis=1).mean() < 0.05


def test_the_score_is_the_sum_over_all_codes(vae):
    """Exact: no draws, no error of its own, the same for any number of draws."""
    scores, error = vae.score_samples(BLOBS, return_std=True)

    np.testing.assert_allclose(scores, special.logsumexp(by_hand(vae, BLOBS, np.eye(5)), axis=1))
    np.testing.assert_allclose(error, 0, atol=1e-12)
    np.testing.assert_array_equal(vae.score_samples(BLOBS, n_draws=1), scores)


@pytest.mark.parametrize(("n_classes", "conditional"), [(3, False), (20, True)])
def test_the_score_of_two_variables_is_the_sum_over_their_pairs(n_classes, conditional):
    """Three times three classes are nine codes, not six; twenty times twenty are 400."""
    given = [KIND] if conditional else []
    own = VAETransformer(
        2 * n_classes, posterior=TWO_OF_THREE, max_iter=4, conditional=conditional, random_state=0
    ).fit(BLOBS, *given)
    codes = np.array([[*a, *b] for a, b in product(np.eye(n_classes), np.eye(n_classes))])
    expected = special.logsumexp(by_hand(own, BLOBS, codes, *given), axis=1)

    np.testing.assert_allclose(own.score_samples(BLOBS, *given), expected, rtol=1e-6)
    assert kl_per_dimension(own, BLOBS, *given).shape == (2,)


def test_samples_are_of_all_classes_in_equal_parts(vae):
    """p(z) is uniform over them."""
    drawn = vae.sample(2000, random_state=0)
    share = np.bincount(vae.transform(drawn).argmax(axis=1), minlength=5) / 2000

    np.testing.assert_allclose(share, 0.2, atol=0.04)


def test_codes_of_rows_with_missing_values_are_the_exact_posterior(vae):
    """All codes are tried; what is missing is integrated out."""
    rows = BLOBS[:30].copy()
    rows[:, [0, 2]] = np.nan
    with torch.no_grad():
        ((loc, raw),) = vae.module_.decode(torch.eye(5).double()[None, :, None])
    scale = np.exp(LOG_SCALE_BOUND * np.tanh(raw.numpy() / LOG_SCALE_BOUND))[0]
    own = stats.norm(loc.numpy()[0], scale).logpdf(vae.columns_.transform(BLOBS[:30]))
    expected = special.softmax(own[..., [1, 3]].sum(-1).T, axis=1)

    np.testing.assert_allclose(vae.transform(rows), expected, atol=1e-9)
    assert np.isfinite(vae.impute(rows)).all()


def test_rows_with_missing_values_are_fitted(rng):
    """The encoder is told where they are; clusters start from the rest."""
    rows = np.where(rng.random(BLOBS.shape) < 0.15, np.nan, BLOBS)
    own = VAETransformer(5, posterior="categorical", max_iter=10, random_state=0).fit(rows)

    assert adjusted_rand_score(KIND, own.transform(rows).argmax(axis=1)) > 0.8
