"""The model that starts at a mixture, against scikit-learn, scipy and integrals."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, stats
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from sklearn_vae.estimators.density import VAEDensity, stacking_weights
from sklearn_vae.inference.log_density import Points
from sklearn_vae.inference.mixture_log_density import (
    ComponentConditional,
    log_density as log_density_of,
)
from sklearn_vae.likelihoods import (
    Bernoulli,
    Categorical,
    Columnwise,
    Gaussian,
    Limits,
    NegativeBinomial,
    Ordinal,
    Poisson,
    ZeroInflated,
)
from sklearn_vae.models.architecture import MixtureArchitecture, MixtureInit
from sklearn_vae.models.build import build
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.models.mixture_init import EM
from sklearn_vae.models.mixture_vae import draw_components
from sklearn_vae.numerics.array_api import log_mean_exp
from sklearn_vae.numerics.random import sobol_normal


def make(
    anchors, *, blocks=None, n_shears=2, n_mixture=None, covariance_type=None, steps=(), seed=0
):
    """A model in double precision that stands at its mixture."""
    blocks = blocks or ((Gaussian(), anchors.loc.shape[1]),)
    kind = "full" if anchors.whiten.ndim == 3 else "diag"
    architecture = MixtureArchitecture(
        2,
        (8,),
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


def ensemble_of(model):
    """The only member of an ensemble, whose samples have no limits."""
    n_values = len(model.architecture.is_real_value)
    bound, none = torch.full((n_values,), math.inf), torch.empty(n_values, 0)
    limits = Limits(-bound, bound, none, torch.zeros(n_values))
    weight = torch.ones(1).double()
    return MixtureEnsemble(model.architecture, model.state_dict(), weight, limits)


def log_density(model, X, n_draws=64):
    points = Points.make(n_draws, lambda n_draws, seed: noise_of(n_draws, model, seed))
    return log_density_of(ensemble_of(model), torch.as_tensor(X), points.last(2)).numpy()


@pytest.fixture(scope="module")
def iris():
    X = load_iris().data
    return (X - X.mean(axis=0)) / X.std(axis=0)


def anchors_of(X, n_mixture, covariance_type, *, blocks=None, steps=(), counts=None):
    blocks = blocks or ((Gaussian(), X.shape[1]),)
    architecture = MixtureArchitecture(1, (2,), blocks, steps=steps)
    counts = np.ones(len(X)) if counts is None else counts
    return EM(X, counts, architecture, covariance_type).initial(n_mixture, seed=0)


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
    found = ensemble_of(padded).sample(500, torch.Generator().manual_seed(0))
    assert np.abs(found.numpy()).max() < 10


def test_bits_are_independent_given_the_component(rng):
    group = rng.integers(2, size=400)
    bits = (rng.random((400, 3)) < np.array([[0.1, 0.8, 0.5], [0.9, 0.3, 0.5]])[group]).astype(
        float
    )
    X = np.column_stack([rng.normal(size=400) + 6 * group, bits])
    blocks = ((Gaussian(), 1), (Bernoulli(), 3))
    anchors = anchors_of(X, 2, "full", blocks=blocks)
    model = make(anchors, blocks=blocks)

    probability = 1 / (1 + np.exp(-anchors.params))  # (C, 3)
    parts = [
        np.log(anchors.weight[c])
        + stats.norm.logpdf(X[:, 0], anchors.loc[c, 0], 1 / anchors.whiten[c, 0, 0])
        + stats.bernoulli.logpmf(bits, probability[c]).sum(axis=1)
        for c in range(2)
    ]
    np.testing.assert_allclose(log_density(model, X), np.logaddexp(*parts), rtol=1e-9)
    np.testing.assert_allclose(np.sort(probability[:, 0]), [0.1, 0.9], atol=0.06)


def test_a_table_of_bits_alone_has_a_probability(rng):
    """All patterns together have probability 1."""
    patterns = np.array(list(np.ndindex(2, 2, 2)), dtype=float)
    X = patterns[rng.choice(8, 300, p=rng.dirichlet(np.ones(8)))]
    blocks = ((Bernoulli(), 3),)
    model = shaken(make(anchors_of(X, 2, "diag", blocks=blocks), blocks=blocks, n_shears=0), 0.3)

    assert np.exp(log_density(model, patterns, 4096)).sum() == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_density_integrates_to_one_and_samples_follow_it(covariance_type, rng):
    X = rng.normal(size=(300, 2)) @ [[1, 0.7], [0, 0.4]] + 3 * rng.integers(2, size=(300, 1))
    model = shaken(make(anchors_of(X, 2, covariance_type)), 0.15)
    axis = np.linspace(-8, 11, 48)
    step = axis[1] - axis[0]
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    parts = [log_density(model, part, 128) for part in np.array_split(grid, 8)]
    mass = np.exp(np.concatenate(parts)) * step**2

    assert mass.sum() == pytest.approx(1, abs=0.01)
    found = ensemble_of(model).sample(40_000, torch.Generator().manual_seed(1)).numpy()
    mean = mass @ grid
    covariance = (grid - mean).T @ ((grid - mean) * mass[:, None])
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=0.1)
    np.testing.assert_allclose(np.cov(found.T), covariance, rtol=0.1, atol=0.1)


# -- columns of all kinds, and missing values


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_a_class_depends_on_numbers_that_keep_their_normal_density(missing):
    """The oracles are scipy's normal distribution and scikit-learn's logistic regression."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(400, 1)) + 0.7 * rng.normal(size=(400, 4))
    binary = rng.random(400) < 1 / (1 + np.exp(-real.mean(axis=1)))
    real[rng.random(real.shape) < missing] = np.nan
    real -= np.nanmean(real, axis=0)
    X = np.column_stack([binary, real])
    blocks = ((Bernoulli(), 1), (Gaussian(), 4))
    anchors = anchors_of(X, 1, "full", blocks=blocks)
    model = make(anchors, blocks=blocks)
    X = X[~np.isnan(X).any(axis=1)]
    numbers = np.where(np.arange(5) > 0, X, np.nan)

    of_numbers = log_density(model, numbers, n_draws=1024)
    precision = anchors.whiten[0].T @ anchors.whiten[0]
    oracle = stats.multivariate_normal(anchors.loc[0], np.linalg.inv(precision))
    np.testing.assert_allclose(of_numbers, oracle.logpdf(X[:, 1:]), atol=0.02)

    of_class = log_density(model, X, n_draws=1024) - of_numbers
    p = LogisticRegression().fit(X[:, 1:], X[:, 0]).predict_proba(X[:, 1:])
    best, marginal = np.log(p[np.arange(len(X)), X[:, 0].astype(int)]).mean(), -math.log(2)
    assert of_class.mean() > marginal + 0.8 * (best - marginal)


def test_an_unrelated_class_depends_on_no_number(rng):
    X = np.column_stack([rng.random(60) < 0.5, rng.normal(size=(60, 4))])

    assert anchors_of(X, 1, "full", blocks=((Bernoulli(), 1), (Gaussian(), 4))).dependence is None


@pytest.mark.parametrize("n_levels", [2, 5])
@pytest.mark.parametrize("has_age", [False, True])
@pytest.mark.parametrize("dtype", [float, str])
def test_answers_of_a_battery_depend_on_factors_at_the_start(dtype, has_age, n_levels):
    """Samples have nearly the correlations of the rows, before any training."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 1)) @ rng.uniform(1, 2, (1, 12)) + rng.logistic(size=(500, 12))
    answers = np.digitize(logits, np.linspace(-3, 3, n_levels + 1)[1:-1])
    X = pd.DataFrame(answers).add_prefix("q").astype(dtype)
    if has_age:
        X["age"] = 40 + 12 * rng.normal(size=500)
    model = VAEDensity(mixtures=[(1, "full")], max_iter=0, random_state=0).fit(X)
    drawn = model.sample(4000, random_state=0).filter(like="q").astype(float)
    pairs = np.triu_indices(12, 1)
    found, expected = (np.corrcoef(rows.T)[pairs] for rows in (drawn, answers))

    assert found.mean() == pytest.approx(expected.mean(), rel=0.15)
    assert np.abs(drawn.mean() - answers.mean(axis=0)).max() < 0.1


def test_missing_cells_do_not_make_answers_less_dependent_at_the_start(rng):
    """Everyone is asked two of three thirds of the questions."""
    logits = 1.5 * rng.normal(size=(500, 1)) + rng.logistic(size=(500, 9))
    answers = np.digitize(logits, [-2, 0, 2])
    X = pd.DataFrame(answers, dtype=float).mask(np.arange(9) // 3 == rng.integers(3, size=(500, 1)))
    model = VAEDensity(mixtures=[(1, "full")], max_iter=0, random_state=0).fit(X)
    pairs = np.triu_indices(9, 1)
    found = np.corrcoef(model.sample(4000, random_state=0).T)[pairs]

    assert found.mean() == pytest.approx(np.corrcoef(answers.T)[pairs].mean(), rel=0.15)


def test_point_masses_depend_on_numbers_at_the_start(rng):
    ability = rng.normal(size=500)
    X = np.stack([ability + 0.5 * rng.normal(size=500), np.digitize(ability, [-1, 0, 1])], axis=1)
    model = VAEDensity(
        mixtures=[(1, "full")],
        likelihood=["gaussian", "zero_inflated"],
        max_iter=0,
        random_state=0,
    ).fit(X)

    assert np.corrcoef(model.sample(4000, random_state=0).T)[0, 1] > 0.4


def test_unrelated_classes_have_no_factors(rng):
    X = np.hstack([np.eye(3)[rng.integers(3, size=200)] for _ in range(8)])

    assert anchors_of(X, 1, "full", blocks=((Categorical(3), 8),)).dependence is None


OTHERS = [Bernoulli(), Categorical(3), Ordinal(4), Poisson(), NegativeBinomial(), ZeroInflated(2)]


def mixed(likelihood, n_mixture, covariance_type, *, n_real=2, seed=0):
    """A disturbed model of real columns and one other column, with random components."""
    rng = np.random.default_rng(seed)
    blocks = ((likelihood, 1), (Gaussian(), n_real))  # the real columns need not come first
    root = 1.2 * np.eye(n_real) + 0.5 * np.tril(rng.normal(size=(n_mixture, n_real, n_real)), -1)
    anchors = MixtureInit(
        rng.dirichlet(5 * np.ones(n_mixture)),
        rng.normal(size=(n_mixture, n_real)),
        root if covariance_type == "full" else 1 + rng.random((n_mixture, n_real)),
        rng.normal(size=(n_mixture, Columnwise(blocks[:1]).n_params)),
        np.full(n_mixture, -np.inf),
    )
    return shaken(make(anchors, blocks=blocks), 0.15, seed)


def values_of(likelihood):
    """All values of a column, encoded, and the logarithm of the volume that each stands for."""
    if isinstance(likelihood, Bernoulli):
        return np.array([[0.0], [1.0]]), np.zeros(2)
    if isinstance(likelihood, Categorical):
        return np.eye(likelihood.n_classes), np.zeros(likelihood.n_classes)
    if isinstance(likelihood, Ordinal):
        return np.linspace(0, 1, likelihood.n_classes)[:, None], np.zeros(likelihood.n_classes)
    if isinstance(likelihood, Poisson | NegativeBinomial):
        return np.sqrt(np.arange(60.0))[:, None], np.zeros(60)
    grid = np.linspace(-9, 9, 60)
    volume = np.log(np.gradient(grid))
    spikes = np.hstack([np.eye(2), np.zeros((2, 1))])
    numbers = np.hstack([np.zeros((60, 2)), grid[:, None]])
    return np.concatenate([spikes, numbers]), np.concatenate([np.zeros(2), volume])


AXIS = np.linspace(-8, 8, 25)


def grid_of(likelihood, n_real):
    """Complete rows over all values of all columns, and the logarithms of their volumes."""
    values, volume = values_of(likelihood)
    mesh = np.stack(np.meshgrid(*[AXIS] * n_real, indexing="ij"), axis=-1).reshape(-1, n_real)
    rows = np.hstack([np.repeat(values, len(mesh), axis=0), np.tile(mesh, (len(values), 1))])
    step = n_real * np.log(AXIS[1] - AXIS[0])
    return rows, np.repeat(volume, len(mesh)) + step


def cases(of_three, of_one, *quick):
    """Each likelihood with three components, and with one, where all but a few are slow tests."""
    found = []
    for likelihood in OTHERS:
        marks = [] if isinstance(likelihood, quick) else [pytest.mark.slow]
        found += [
            pytest.param(likelihood, 3, of_three, id=f"3-{of_three}-{likelihood!r}"),
            pytest.param(likelihood, 1, of_one, id=f"1-{of_one}-{likelihood!r}", marks=marks),
        ]
    return found


@pytest.mark.parametrize(
    ("likelihood", "n_mixture", "covariance_type"),
    cases("diag", "full", Bernoulli, Ordinal),
)
def test_the_density_of_mixed_columns_integrates_to_one(likelihood, n_mixture, covariance_type):
    model = mixed(likelihood, n_mixture, covariance_type, n_real=1)
    rows, volume = grid_of(likelihood, 1)

    mass = np.exp(log_density(model, rows, 256) + volume)
    assert mass.sum() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("likelihood", "n_mixture", "covariance_type"), cases("full", "diag"))
def test_missing_cells_are_integrated_out(likelihood, n_mixture, covariance_type):
    """The density of rows without one column, or more, against sums over all their values."""
    n_real = 2 if len(values_of(likelihood)[0]) < 5 else 1
    model = mixed(likelihood, n_mixture, covariance_type, n_real=n_real)
    rows, volume = grid_of(likelihood, n_real)
    log_mass = log_density(model, rows, 128) + volume
    columns = [np.arange(likelihood.width), *([likelihood.width + j] for j in range(n_real))]
    rng, step = np.random.default_rng(0), np.log(AXIS[1] - AXIS[0])
    for hidden in ([0], [1], [2], [0, 1], [1, 2])[: 5 if n_real == 2 else 2]:
        left = np.concatenate([columns[j] for j in range(n_real + 1) if j not in hidden])
        seen, first, index = np.unique(
            rows[:, left], axis=0, return_index=True, return_inverse=True
        )
        total = np.bincount(index.ravel(), np.exp(log_mass))
        incomplete = np.full((len(seen), rows.shape[1]), np.nan)
        incomplete[:, left] = seen
        # the volumes of the observed cells are part of the sums
        n_seen = n_real - sum(j > 0 for j in hidden)
        log_volume = n_seen * step + (0 if 0 in hidden else volume[first] - n_real * step)
        likely = np.flatnonzero(total > 0.02 * total.max())
        rows_of_total = rng.choice(likely, min(64, len(likely)), replace=False)
        expected = np.log(total[rows_of_total])
        log_volume = np.broadcast_to(log_volume, len(seen))[rows_of_total]
        for n_draws, mean_error, largest in ((64, 0.03, 0.15), (1024, 0.02, 0.06)):
            found = log_density(model, incomplete[rows_of_total], n_draws) + log_volume
            error = np.abs(found - expected)
            assert error.mean() < mean_error
            assert error.max() < largest


@pytest.mark.parametrize("likelihood", OTHERS, ids=repr)
def test_samples_of_mixed_columns_follow_the_density(likelihood):
    """Frequencies of the values of the other column, and the real columns' means given these."""
    model = mixed(likelihood, 3, "full")
    drawn = ensemble_of(model).sample(40_000, torch.Generator().manual_seed(1)).numpy()
    values, volume = values_of(likelihood)
    width = likelihood.width
    rows = np.hstack([values, np.full((len(values), 2), np.nan)])
    mass = np.exp(log_density(model, rows, 512) + volume)
    nearest = np.square(drawn[:, None, :width] - values).sum(-1).argmin(1)
    found = np.bincount(nearest, minlength=len(values)) / len(drawn)

    assert np.abs(found.cumsum() - mass.cumsum()).max() < 0.02


@pytest.mark.parametrize("n_mixture", [1, 3])
def test_the_encoder_may_see_what_is_missing(n_mixture, rng):
    """The training bound of incomplete rows lies below their density, and near it."""
    likelihood = Categorical(3)
    blocks = ((likelihood, 1), (Gaussian(), 2))
    model = mixed(likelihood, n_mixture, "full")
    architecture = replace(model.architecture, has_missing=True)
    wide = build(architecture).double().requires_grad_(False)
    state = model.state_dict()
    for name in ("encoder.linear.weight", "encoder.hidden.0.weight"):
        state[name] = torch.cat([state[name], torch.zeros_like(state[name])], dim=1)
    wide.load_state_dict(state)
    X = np.hstack([np.eye(3)[rng.integers(3, size=60)], rng.normal(size=(60, 2))])
    missing = rng.random((60, 3)) < 0.4
    X[missing[:, [0, 0, 0, 1, 2]]] = np.nan
    noise = torch.randn(
        1, 4000, 60, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        bound = log_mean_exp(wide.log_weights(torch.as_tensor(X)[None], noise).log_weight, 1)[0]

    assert blocks == architecture.blocks
    np.testing.assert_allclose(bound, log_density(wide, X, 512), atol=0.2)
    assert abs(float(bound.mean()) - log_density(wide, X, 512).mean()) < 0.01


def test_the_training_bound_lies_below_the_density(rng, generator):
    """And the more draws there are, the less so."""
    X = rng.normal(size=(100, 2))
    model = shaken(make(anchors_of(X, 3, "full")), 0.3)
    exact = log_density(model, X, 8192).mean()

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


def test_the_bound_of_a_model_that_has_diverged_is_nan(iris):
    model = make(anchors_of(iris, 3, "full"), n_mixture=4)
    for parameter in model.parameters():
        parameter.fill_(math.nan)

    assert (
        model.log_weights(torch.as_tensor(iris)[None], noise_of(5, model)).log_weight.isnan().all()
    )


def test_padding_that_is_drawn_by_rounding_has_a_density(iris, monkeypatch):
    """As the last component of shares whose sum is below 1, though its own share is 0."""
    model = make(anchors_of(iris, 3, "full"), n_mixture=4)
    last = torch.full((1, 5, len(iris)), 3)
    monkeypatch.setattr("sklearn_vae.models.mixture_vae.draw_components", lambda *_: last)
    draws = model.log_weights(torch.as_tensor(iris)[None], noise_of(5, model))

    expected = stats.multivariate_normal(np.zeros(4)).logpdf(iris)
    np.testing.assert_allclose(draws.log_prob[0], np.tile(expected, (5, 1)))


def test_draws_of_components_follow_their_shares(generator):
    share = torch.tensor([[0.5], [0.3], [0.15], [0.05]], dtype=torch.double)  # (C, 1)
    noise = torch.randn(1, 5, 20_000, generator=generator, dtype=torch.double)
    chosen = draw_components(share.expand(1, 4, 20_000), noise)[0]  # (5, 20000)

    for draw in chosen:
        found = np.bincount(draw, minlength=4) / 20_000
        np.testing.assert_allclose(found, share[:, 0], atol=0.015)
    # five in a row spread evenly: the largest component is met twice or three times
    assert set(np.unique((chosen == 0).sum(0))) <= {2, 3}


def test_variances_of_columns_recorded_in_steps_have_that_of_rounding(rng):
    """In addition: what is rounded away is uniform within a step."""
    X = 3 * rng.normal(size=(600, 1))
    smooth, rounded = (anchors_of(X, 2, "diag", steps=steps).whiten for steps in ((), (1.0,)))

    np.testing.assert_allclose(1 / rounded**2 - 1 / smooth**2, 1 / 12, rtol=0.01)


def matrices(anchors):
    """Roots of the precisions, also of components that have variances alone."""
    whiten = anchors.whiten
    return whiten if whiten.ndim == 3 else whiten[:, None] * np.eye(whiten.shape[1])


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_components_start_no_narrower_than_their_least_scales(covariance_type):
    """The scale of a column given those before it, against the covariance matrix."""
    X = np.random.default_rng(0).normal(size=(300, 3)) @ [[1, 1, 0], [0, 0.1, 1], [0, 0, 0.1]]
    least = np.array([0.0, 2.0, 0.05])
    was, wide = (
        matrices(anchors_of(X, 2, covariance_type, steps=steps))
        for steps in ((), tuple(math.sqrt(2 * math.pi) * least))
    )
    variances = []
    for whiten in wide:
        covariance = np.linalg.inv(whiten.T @ whiten)
        parts = [np.linalg.slogdet(covariance[:n, :n])[1] for n in range(4)]
        variances.append(np.exp(np.diff(parts)))
    scale = np.sqrt(variances)  # of each column, given those before it

    assert (scale > least).all()
    np.testing.assert_allclose(scale[:, 1], 2.0, rtol=0.01)
    np.testing.assert_allclose(wide[:, 0], was[:, 0])  # without steps


def mixed_model():
    """A model of a column of each kind, far from its start, with scales that are held."""
    blocks = ((Gaussian(), 2), (ZeroInflated(1), 2), (Categorical(3), 1), (ZeroInflated(2), 1))
    generator = torch.Generator().manual_seed(0)
    n_params = Columnwise(blocks[1:]).n_params
    anchors = MixtureInit(
        np.array([0.2, 0.3, 0.5]),
        np.zeros((3, 2)),
        np.ones((3, 2)),
        torch.randn(3, n_params, generator=generator).numpy(),
        np.full(3, -np.inf),
    )
    steps = (0.0, 0.0, 4.0, 0.0, 0.0, 4.0)
    return shaken(make(anchors, blocks=blocks, steps=steps), 1.0)


def test_scales_of_other_columns_are_bounded_and_no_other_parameters():
    model, generator = mixed_model(), torch.Generator().manual_seed(1)
    z, component = 6 * torch.randn(20, 2, generator=generator).double(), torch.arange(20) % 3
    inputs = torch.cat([z, torch.eye(3)[component]], dim=1)
    added = model.decoder(inputs[None])[0].T[-model.others.n_params :]
    start = model.params[0, component].T
    is_scale = torch.as_tensor(model.others.is_scale_param)[:, None]
    least = torch.as_tensor(model.architecture.least_params)[:, None]
    held = torch.maximum(start + added.clamp(min=-3), least)
    *_, found = ensemble_of(model).decode(z, component)

    assert (found > start + added + 1).any()
    torch.testing.assert_close(found, torch.where(is_scale, held, start + added))


def test_the_search_of_codes_expands_the_density_that_draws_are_weighted_by(monkeypatch):
    """Its value and its gradient at a code, with missing values."""
    monkeypatch.setattr("sklearn_vae.inference.laplace.DIFFERENCE", 1e-6)
    model, generator = mixed_model(), torch.Generator().manual_seed(2)
    x = torch.randn(6, model.architecture.n_columns, generator=generator).double()
    x[:, 2:6:2] = (x[:, 2:6:2] > 0).double()  # at the point mass
    x[:, 6:9] = torch.eye(3).double().repeat(2, 1)
    x[3:, [0, 5, 9]] = math.nan
    z = torch.randn(1, 18, 2, generator=generator).double()
    component, row = torch.arange(18) // 6, torch.arange(18) % 6
    target = ComponentConditional(ensemble_of(model), x).target(component, row)
    expansion = target.expand(z, torch.arange(18))
    with torch.enable_grad():
        codes = z.clone().requires_grad_()
        log_joint = target.log_prob(codes[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(log_joint.sum(), codes)

    torch.testing.assert_close(expansion.log_joint, log_joint.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(expansion.gradient, gradient, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_density_of_columns_recorded_in_steps_is_at_most_one_per_step(covariance_type):
    """Though the network asks for scales of a twentieth; of the other column nothing is asked."""
    X = np.random.default_rng(0).normal(size=(300, 3)) @ [[1, 0.7, 0], [0, 0.4, 1], [0, 0, 0.3]]
    anchors, steps = anchors_of(X, 1, covariance_type), (0.8, 0.5, 0.0)
    free, held = (make(anchors, steps=own, n_shears=0) for own in ((), steps))
    for model in (free, held):
        model.decoder.linear.bias[0, 0, 3:] = -50.0
    _, log_scale, *_ = ensemble_of(free).decode(torch.zeros(1, 2).double(), torch.zeros(1).long())
    assert log_scale.exp().max() < 0.051

    mode = log_density(held, X.mean(axis=0)[None])[0]
    scale = matrices(anchors)[0].diagonal()
    third = np.log(20 * scale[2]) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(mode, third - np.log(0.8 * 0.5), atol=0.01)
    assert log_density(free, X.mean(axis=0)[None])[0] > mode + 1


def test_shares_are_the_most_likely_ones(rng):
    """Against a general optimizer, on rows with weights."""
    log_density, weight = rng.normal(size=(3, 2000)) + [[0.2], [0], [-3]], rng.random(2000)

    def loss(raw):
        share = np.exp(raw - np.logaddexp.reduce(raw))
        return -np.average(np.log(share @ np.exp(log_density)), weights=weight)

    best = optimize.minimize(loss, np.zeros(3)).x
    best = np.exp(best - np.logaddexp.reduce(best))
    np.testing.assert_allclose(stacking_weights(log_density, weight), best, atol=2e-3)
    assert stacking_weights(log_density, None).sum() == pytest.approx(1)
