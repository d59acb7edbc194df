"""The model that starts at a mixture, against scikit-learn, scipy and integrals."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

from sklearn_vae.estimators.density import stacking_weights
from sklearn_vae.inference.mixture_log_density import log_density as log_density_of
from sklearn_vae.likelihoods import Bernoulli, Gaussian
from sklearn_vae.models.mixture_init import SMALLEST_VARIANCE, learn_anchors
from sklearn_vae.models.mixture_vae import MixtureArchitecture, MixtureInit, draw_components
from sklearn_vae.models.vae import build
from sklearn_vae.posteriors import log_mean_exp
from sklearn_vae.random import sobol_normal


def make(
    anchors, *, blocks=None, n_shears=2, n_mixture=None, covariance_type=None, steps=(), seed=0
):
    """A model in double precision that stands at its mixture."""
    blocks = blocks or ((Gaussian(), anchors.loc.shape[1]),)
    kind = "full" if anchors.whiten.ndim == 3 else "diag"
    architecture = MixtureArchitecture(
        2,
        (8,),
        "tanh",
        blocks,
        n_mixture=n_mixture or len(anchors.weight),
        covariance_type=covariance_type or kind,
        n_shears=n_shears,
        steps=steps,
    )
    model = build(architecture).double()
    model.reset_parameters(0, seed)
    model.initialize(0, anchors)
    return model.requires_grad_(False)


def shaken(model, size, seed=0):
    """The same model with its decoder away from the start."""
    generator = torch.Generator().manual_seed(seed)
    for param in [*model.decoder.parameters(), model.shears]:
        param += size * torch.randn(param.shape, generator=generator, dtype=param.dtype)
    return model


def noise_of(n_draws, model, seed=0):
    points = sobol_normal(n_draws, model.architecture.n_noise, seed)
    return torch.as_tensor(points)[None, :, None, :]


def log_density(model, X, n_draws=64):
    weight, noise = torch.zeros(1, dtype=torch.double), noise_of(n_draws, model)[0, :, 0]
    return log_density_of([model], weight, torch.as_tensor(X), noise).numpy()


@pytest.fixture(scope="module")
def iris():
    X = load_iris().data
    return (X - X.mean(axis=0)) / X.std(axis=0)


def anchors_of(X, n_mixture, covariance_type):
    return learn_anchors(X, None, np.zeros(X.shape[1], bool), n_mixture, covariance_type, seed=0)


@pytest.mark.parametrize(("n_mixture", "covariance_type"), [(1, "diag"), (3, "full"), (5, "diag")])
def test_before_the_first_step_it_is_the_gaussian_mixture(iris, n_mixture, covariance_type):
    rng = np.random.default_rng(0)
    X = iris + 0.01 * rng.random(iris.shape)  # nothing is recorded in steps
    oracle = GaussianMixture(
        n_mixture, covariance_type=covariance_type, reg_covar=SMALLEST_VARIANCE, random_state=0
    ).fit(X)
    model = make(anchors_of(X, n_mixture, covariance_type))

    np.testing.assert_allclose(log_density(model, X), oracle.score_samples(X), rtol=1e-9)


def test_components_that_training_has_moved_are_found(iris):
    """Against the mixture with its means moved, where the start's responsibilities are wrong."""
    anchors = anchors_of(iris, 3, "full")
    model = make(anchors)
    moved = 4 * np.random.default_rng(0).normal(size=(3, 4))  # in each component's coordinates
    model.decoder.linear.weight[0, 2:, :4] = torch.as_tensor(moved)
    parts = []
    for weight, loc, whiten, shift in zip(
        anchors.weight, anchors.loc, anchors.whiten, moved, strict=True
    ):
        root = np.linalg.inv(whiten)
        normal = stats.multivariate_normal(loc + root @ shift, root @ root.T)
        parts.append(np.log(weight) + normal.logpdf(iris))

    np.testing.assert_allclose(log_density(model, iris), np.logaddexp.reduce(parts), rtol=1e-6)


def test_components_that_fill_up_change_nothing(iris):
    anchors = anchors_of(iris, 3, "diag")
    alone, padded = make(anchors), make(anchors, n_mixture=7, covariance_type="full")

    np.testing.assert_allclose(log_density(padded, iris), log_density(alone, iris), rtol=1e-9)
    found = padded.sample(500, torch.Generator().manual_seed(0))
    assert np.abs(found.numpy()).max() < 10


def test_bits_are_independent_given_the_component():
    rng = np.random.default_rng(0)
    group = rng.integers(2, size=400)
    bits = (rng.random((400, 3)) < np.array([[0.1, 0.8, 0.5], [0.9, 0.3, 0.5]])[group]).astype(
        float
    )
    X = np.column_stack([rng.normal(size=400) + 6 * group, bits])
    is_bit = np.array([False, True, True, True])
    anchors = learn_anchors(X, None, is_bit, 2, "full", seed=0)
    model = make(anchors, blocks=((Gaussian(), 1), (Bernoulli(), 3)))

    probability = 1 / (1 + np.exp(-anchors.logit))  # (C, 3)
    parts = [
        np.log(anchors.weight[c])
        + stats.norm.logpdf(X[:, 0], anchors.loc[c, 0], 1 / anchors.whiten[c, 0, 0])
        + stats.bernoulli.logpmf(bits, probability[c]).sum(axis=1)
        for c in range(2)
    ]
    np.testing.assert_allclose(log_density(model, X), np.logaddexp(*parts), rtol=1e-9)
    np.testing.assert_allclose(np.sort(probability[:, 0]), [0.1, 0.9], atol=0.06)


def test_a_table_of_bits_alone_has_a_probability():
    """All patterns together have probability 1."""
    patterns = np.array(list(np.ndindex(2, 2, 2)), dtype=float)
    rng = np.random.default_rng(0)
    X = patterns[rng.choice(8, 300, p=rng.dirichlet(np.ones(8)))]
    anchors = learn_anchors(X, None, np.ones(3, bool), 2, "diag", seed=0)
    model = shaken(make(anchors, blocks=((Bernoulli(), 3),), n_shears=0), 0.3)

    assert np.exp(log_density(model, patterns, 4096)).sum() == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_density_integrates_to_one_and_samples_follow_it(covariance_type):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ [[1, 0.7], [0, 0.4]] + 3 * rng.integers(2, size=(300, 1))
    model = shaken(make(anchors_of(X, 2, covariance_type)), 0.15)
    axis = np.linspace(-8, 11, 100)
    step = axis[1] - axis[0]
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    parts = [log_density(model, part, 128) for part in np.array_split(grid, 20)]
    mass = np.exp(np.concatenate(parts)) * step**2

    assert mass.sum() == pytest.approx(1, abs=0.01)
    found = model.sample(40_000, torch.Generator().manual_seed(1)).numpy()
    mean = mass @ grid
    covariance = (grid - mean).T @ ((grid - mean) * mass[:, None])
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=0.1)
    np.testing.assert_allclose(np.cov(found.T), covariance, rtol=0.1, atol=0.1)


def test_the_training_bound_lies_below_the_density():
    """And the more draws there are, the less so."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    model = shaken(make(anchors_of(X, 3, "full")), 0.3)
    exact = log_density(model, X, 8192).mean()
    generator = torch.Generator().manual_seed(0)

    def bound(n_draws):
        noise = torch.randn(1, n_draws, 100, 3, generator=generator, dtype=torch.double)
        return np.mean(
            [
                log_mean_exp(
                    model.log_weights(torch.as_tensor(X)[None], noise.roll(k, 2)).log_weight, 1
                ).mean()
                for k in range(100)
            ]
        )

    few, many = bound(1), bound(5)
    assert few < many - 0.01
    assert many < exact


def test_draws_of_components_follow_their_shares():
    share = torch.tensor([[0.5], [0.3], [0.15], [0.05]], dtype=torch.double)  # (C, 1)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 5, 20_000, generator=generator, dtype=torch.double)
    chosen = draw_components(share.expand(1, 4, 20_000), noise)[0]  # (5, 20000)

    for draw in chosen:
        found = np.bincount(draw, minlength=4) / 20_000
        np.testing.assert_allclose(found, share[:, 0], atol=0.015)
    # five in a row spread evenly: the largest component is met twice or three times
    assert set(np.unique((chosen == 0).sum(0))) <= {2, 3}


def test_a_column_recorded_in_steps_cannot_make_the_density_infinite():
    """The variance within a component is at least that of rounding."""
    X = np.random.default_rng(0).integers(3, size=(600, 1)).astype(float)
    anchors = anchors_of(X, 3, "diag")

    np.testing.assert_allclose(1 / anchors.whiten**2, 1 / 12, rtol=0.01)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_components_start_no_narrower_than_their_least_scales(covariance_type):
    """The scale of a column given those before it, against the covariance matrix."""
    X = np.random.default_rng(0).normal(size=(300, 3)) @ [[1, 1, 0], [0, 0.1, 1], [0, 0, 0.1]]
    least = np.array([0.0, 2.0, 0.05])
    was, wide = (
        learn_anchors(X, None, np.zeros(3, bool), 2, covariance_type, 0, own).padded(2, "full")
        for own in (None, least)
    )
    variances = []
    for whiten in wide.whiten:
        covariance = np.linalg.inv(whiten.T @ whiten)
        parts = [np.linalg.slogdet(covariance[:n, :n])[1] for n in range(4)]
        variances.append(np.exp(np.diff(parts)))
    scale = np.sqrt(variances)  # of each column, given those before it

    assert (scale > least).all()
    np.testing.assert_allclose(scale[:, 1], 2.0, rtol=0.01)
    np.testing.assert_allclose(wide.whiten[:, ::2], was.whiten[:, ::2])  # wide enough before


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_density_of_columns_recorded_in_steps_is_at_most_one_per_step(covariance_type):
    """Though the network asks for scales of a twentieth; of the other column nothing is asked."""
    X = np.random.default_rng(0).normal(size=(300, 3)) @ [[1, 0.7, 0], [0, 0.4, 1], [0, 0, 0.3]]
    anchors, steps = anchors_of(X, 1, covariance_type), (0.8, 0.5, 0.0)
    free, held = (make(anchors, steps=own, n_shears=0) for own in ((), steps))
    for model in (free, held):
        model.decoder.linear.bias[0, 0, 3:] = -50.0
    _, log_scale, *_ = free._decode(torch.zeros(1, 1, 1, 2).double(), torch.zeros(1, 1, 1).long())
    assert log_scale.exp().max() < 0.051

    mode = log_density(held, X.mean(axis=0)[None])[0]
    scale = anchors.padded(1, "full").whiten[0].diagonal()
    third = np.log(20 * scale[2]) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(mode, third - np.log(0.8 * 0.5), atol=0.01)
    assert log_density(free, X.mean(axis=0)[None])[0] > mode + 1


@pytest.mark.parametrize("steps", [(1.0,), (1.0, -1.0), (1.0, np.nan), (1.0, np.inf)])
def test_steps_that_cannot_be_are_refused(steps):
    blocks = ((Gaussian(), 2), (Bernoulli(), 1))
    MixtureArchitecture(2, (8,), "tanh", blocks, steps=(1.0, 0.0)).check_sizes([1000] * 9)
    with pytest.raises(ValueError, match="'steps' must be those of the real columns"):
        MixtureArchitecture(2, (8,), "tanh", blocks, steps=steps).check_sizes([1000] * 9)


def test_a_row_that_counts_twice_is_two_rows():
    rng = np.random.default_rng(0)
    X, counts = rng.normal(size=(40, 3)), rng.integers(1, 4, size=40)
    weighted = learn_anchors(X, counts.astype(float), np.zeros(3, bool), 1, "full", seed=0)
    copied = anchors_of(np.repeat(X, counts, axis=0), 1, "full")

    np.testing.assert_allclose(weighted.whiten, copied.whiten, rtol=1e-9)
    np.testing.assert_allclose(weighted.loc, copied.loc, rtol=1e-9)


def test_weights_that_are_no_counts_are_followed_by_chance():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(500, 1)), 9 + rng.normal(size=(500, 1))])
    counts = np.repeat([1.9, 0.1], 500)
    anchors = learn_anchors(X, counts, np.zeros(1, bool), 2, "diag", seed=0)

    np.testing.assert_allclose(np.sort(anchors.weight), [0.05, 0.95], atol=0.03)


def test_shares_are_the_most_likely_ones():
    """Against a general optimiser, on rows with weights."""
    rng = np.random.default_rng(0)
    log_density, weight = rng.normal(size=(3, 2000)) + [[0.2], [0], [-3]], rng.random(2000)

    def loss(raw):
        share = np.exp(raw - np.logaddexp.reduce(raw))
        return -np.average(np.log(share @ np.exp(log_density)), weights=weight)

    best = optimize.minimize(loss, np.zeros(3)).x
    best = np.exp(best - np.logaddexp.reduce(best))
    np.testing.assert_allclose(stacking_weights(log_density, weight), best, atol=2e-3)
    assert stacking_weights(log_density, None).sum() == pytest.approx(1)


def test_anchors_keep_their_type():
    anchors = MixtureInit(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)), np.zeros((1, 0)))

    assert anchors.padded(3, "full").whiten.shape == (3, 2, 2)
    np.testing.assert_array_equal(anchors.padded(1, "full").whiten[0], np.eye(2))
