"""VAEDensity as its users meet it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine, make_moons
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from skorch.callbacks import Callback

from sklearn_vae import VAEDensity
from sklearn_vae.estimators.density import stacking_weights
from sklearn_vae.inference.mixture_log_density import ComponentConditional
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.metrics import kl_per_dimension, pit_calibration
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.build import build
from sklearn_vae.objectives import KLWeight
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.jobs import TrainingConfig, TrainingJob
from sklearn_vae.training.optimizer import FlatAdam
from sklearn_vae.training.trainer import Trainer
from tests.conftest import slow

pd = pytest.importorskip("pandas")

QUICK = {"max_iter": 3, "random_state": 0}


@pytest.fixture(scope="module")
def wine():
    return load_wine(as_frame=True).data


@pytest.fixture(scope="module")
def fitted(wine):
    return VAEDensity(**QUICK).fit(wine)


def test_samples_of_a_small_table_keep_the_dependence_of_a_class_on_numbers():
    """A response and eight correlated measurements of 120 rows: the other columns had lost it."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(120, 1))
    table = pd.DataFrame(common + 0.7 * rng.normal(size=(120, 8))).add_prefix("v")
    table["response"] = rng.random(120) < 1 / (1 + np.exp(-1.2 * common[:, 0]))
    drawn = VAEDensity(random_state=0).fit(table).sample(2000, random_state=0)

    def correlation(rows):
        return np.corrcoef(rows.iloc[:, :8].mean(axis=1), rows["response"].astype(float))[0, 1]

    assert correlation(drawn) > 0.6 * correlation(table)


def test_a_rare_class_that_numbers_tell_is_as_rare_in_samples(rng):
    """Logits with steep slopes by the codes keep the class's frequency: it was drawn 5 times."""
    rare = np.arange(400) < 6
    table = pd.DataFrame(rng.normal(size=(400, 4)) + 2.0 * rare[:, None]).add_prefix("v")
    table["fraud"], table["kind"] = rare, np.where(rare, "x", np.where(table["v0"] > 0, "y", "z"))
    table.loc[:1, "kind"] = "y"
    drawn = VAEDensity(mixtures=[(1, "full")], max_iter=0, random_state=0).fit(table).sample(5000)

    assert drawn["fraud"].mean() == pytest.approx(0.015, abs=0.006)
    assert (drawn["kind"] == "x").mean() == pytest.approx(0.01, abs=0.006)


@pytest.mark.slow
def test_it_explains_rows_better_than_what_it_starts_at():
    """Two half moons, which no mixture of a few independent columns follows; held-out nats.

    Its rivals are chosen on the training rows, and scores differ by .01 from seed to seed.
    """
    X, _ = make_moons(1200, noise=0.08, random_state=0)
    train, test = X[:800], X[800:]
    mixtures = [(1, "full"), (1, "diag"), (8, "diag"), (16, "diag")]
    options = {"mixtures": mixtures, "random_state": 0}
    score = VAEDensity(**options).fit(train).score(test)
    start = VAEDensity(max_iter=0, **options).fit(train).score(test)
    mixtures = [GaussianMixture(n, random_state=0).fit(train) for n in range(1, 13)]
    mixture = min(mixtures, key=lambda mixture: mixture.bic(train))
    kernels = GridSearchCV(KernelDensity(), {"bandwidth": [0.03, 0.05, 0.1, 0.2]}).fit(train)

    assert score > start + 0.01
    assert score > kernels.best_estimator_.score(test) / len(test) + 0.01
    assert score > mixture.score(test) - 0.02


@pytest.mark.parametrize(("n_clusters", "length"), [(6, 1.0), (40, 0.0)])
def test_the_initial_mixtures_follow_narrow_clusters_and_many(n_clusters, length, rng):
    """Training finds no clusters that no mixture began with: 6 lines, or 40 points, with noise."""
    loc, angle = rng.uniform(0, 10, (n_clusters, 2)), np.pi * rng.random(n_clusters)
    axis = length * np.column_stack([np.cos(angle), np.sin(angle)])
    covariance = axis[:, :, None] * axis[:, None] + 0.01 * np.eye(2)
    clusters = [stats.multivariate_normal(*each) for each in zip(loc, covariance, strict=True)]
    members = rng.integers(n_clusters, size=2000)
    X = np.array([clusters[member].rvs(random_state=rng) for member in members])
    train, test = X[:1000], X[1000:]
    score = VAEDensity(max_iter=0, random_state=0).fit(train).score(test)
    truth = logsumexp([cluster.logpdf(test) for cluster in clusters], axis=0).mean()

    assert score == pytest.approx(truth - np.log(n_clusters), abs=0.5)


def exact_log_density(density, X, most=9, n=601):
    """By the trapezoidal rule over the one code of each component."""
    z = np.linspace(-most, most, n).repeat(len(X))[:, None]
    fitted, row = density._predictor(), np.tile(np.arange(len(X)), n)
    model, columns = fitted.backend(X).model, fitted.encoder
    given, parts = ComponentConditional(model, columns.transform(X)), []
    for component, log_weight in enumerate(model.log_weight):
        log_prob = given.log_likelihood(z, np.full(len(z), component), row)
        log_joint = (log_prob + stats.norm.logpdf(z[:, 0])).reshape(n, len(X))
        parts.append(log_weight + logsumexp(log_joint, axis=0) + np.log(2 * most / (n - 1)))
    return logsumexp(parts, axis=0) + columns.log_abs_det_jacobian(X)


@pytest.mark.parametrize("options", [{"max_iter": 5}, *slow({}, {"max_iter": 1})])
def test_a_score_is_the_log_density_of_the_row(options):
    """Against numerical integration, after few steps and many; and all of it is 1."""
    X, _ = make_moons(400, noise=0.08, random_state=0)
    params = {"mixtures": [(1, "full"), (8, "diag")], "max_iter": 10, "random_state": 0}
    density = VAEDensity(1, **{**params, **options}).fit(X)
    error = density.score_samples(X[:60]) - exact_log_density(density, X[:60])

    assert abs(error.mean()) < 0.02
    assert abs(error).max() < 0.3
    axes = np.arange(-2.4, 3.4, 0.14), np.arange(-2, 2.6, 0.14)
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    assert np.exp(density.score_samples(grid)).sum() * 0.14**2 == pytest.approx(1, abs=0.02)


def test_samples_are_like_the_rows(wine, fitted):
    rows = fitted.sample(20_000, random_state=1)

    np.testing.assert_allclose(rows.mean(axis=0), wine.mean(), rtol=0.1)
    difference = np.corrcoef(rows.T) - np.corrcoef(wine.T)
    assert np.abs(difference).max() < 0.35  # one pair, which differs by the seed
    assert np.abs(difference).mean() < 0.06
    np.testing.assert_array_equal(
        fitted.sample(5, random_state=1), fitted.sample(5, random_state=1)
    )


@pytest.mark.filterwarnings("ignore:Every column of X has one value")
@pytest.mark.parametrize("n_rows", [30, 150])
def test_a_table_of_constants_is_certain(n_rows):
    """Also one with validation rows."""
    density = VAEDensity(max_iter=1, random_state=0).fit(np.full((n_rows, 2), 7.0))
    expected = 2 * np.log1p(-1 / (n_rows + 2))

    np.testing.assert_allclose(density.score_samples([[7, 7]]), expected, rtol=1e-6)
    np.testing.assert_array_equal(density.sample(3), np.full((3, 2), 7.0))


def test_wide_tables_have_diagonal_mixtures():
    X = np.random.default_rng(0).normal(size=(120, 130))
    density = VAEDensity(max_iter=1, random_state=0).fit(X)

    assert {kind for _, kind in density.mixtures_} == {"diag"}
    assert density.sample(3).shape == (3, 130)
    assert density.state_dict_["shears"].size == 0


def test_small_tables_have_no_rows_set_aside():
    X = np.random.default_rng(0).normal(size=(9, 3))
    density = VAEDensity(random_state=0).fit(X)

    assert all("val_loss" not in row for row in density.history_)
    np.testing.assert_allclose(density.weights_, 0.5)
    assert np.isfinite(density.score_samples(10 * X)).all()


def test_the_history_tells_of_each_member(fitted):
    members = {row["member"] for row in fitted.history_}

    assert members == set(range(len(fitted.mixtures_)))
    assert fitted.n_iter_ == len(fitted.history_)
    assert fitted.weights_.sum() == pytest.approx(1)
    assert (np.diff(fitted.weights_) <= 0).all()
    first = next(row for row in fitted.history_ if "val_loss" in row)
    assert first["loss"] == pytest.approx(first["reconstruction_loss"] + first["kl_loss"], abs=1e-4)


def test_members_are_weighted_by_their_log_densities_of_the_validation_rows():
    """The weights come from bounds, which take a quarter of the time of scores."""
    X, _ = make_moons(400, noise=0.1, random_state=0)
    density = VAEDensity(mixtures=[(2, "full"), (8, "diag")], refit=False, **QUICK).fit(X)
    assert len(density.weights_) == 2
    jobs, _ = clone(density)._make_jobs(X, None, None)
    rows = X[jobs[0].valid.indices().numpy()]
    predictor = density._make_predictor("cpu")
    scores = []
    for member in range(2):
        weights = {name: value[[member]] for name, value in predictor.weights.items()}
        alone = replace(predictor, weights=weights, weight=np.ones(1))
        scores.append(alone.log_density(rows, n_draws=256))

    np.testing.assert_allclose(
        density.weights_, stacking_weights(np.stack(scores), None), atol=0.02
    )


@pytest.mark.parametrize("n_rows", [60, 99])
def test_samples_of_a_small_table_of_clusters_are_in_the_clusters(n_rows):
    """A third each had come from one component and from independent columns: .6 were in none."""
    rng = np.random.default_rng(n_rows)
    centers = np.array([[0, 0, 0], [30, 10, 20], [10, 30, 0], [20, 20, 30]])
    X = centers[rng.integers(4, size=n_rows)] + rng.normal(size=(n_rows, 3))
    drawn = VAEDensity(random_state=0).fit(X).sample(1000, random_state=0)
    distance = np.abs(drawn[:, None] - centers).max(axis=2).min(axis=1)

    assert (distance > 5).mean() < 0.15


def test_members_of_small_weight_are_left_out():
    """They cost a second training and scores; a pseudo-observation gives each of them a weight."""
    X = np.random.default_rng(0).normal(size=(400, 2))
    X[:200] += 10
    density = VAEDensity(mixtures=[(1, "diag"), (2, "diag")], max_iter=0, random_state=0).fit(X)

    assert density.mixtures_ == [(2, "diag")]
    np.testing.assert_array_equal(density.weights_, 1)


@pytest.mark.parametrize(
    "mixtures",
    [
        [], [(0, "full")], [(1, "tied")], [(10**6, "diag")], [3], [(True, "full")], [(1,)],
        [(170, "diag")],
    ],
)  # fmt: skip
def test_mixtures_that_cannot_be_are_named(wine, mixtures):
    with pytest.raises(ValueError, match="'mixtures' parameter of VAEDensity must be 'auto' or"):
        VAEDensity(mixtures=mixtures).fit(wine)


def test_scales_are_not_for_the_user_to_choose(wine):
    with pytest.raises(
        ValueError, match=r"'likelihood' parameter of VAEDensity .*scale='per_column'"
    ):
        VAEDensity(likelihood=Gaussian("per_column")).fit(wine)


@pytest.mark.parametrize("mixtures", [[(2, "full")], *slow([(8, "diag")])])
@pytest.mark.parametrize("max_iter", [0, 15])
def test_an_outlier_among_the_training_rows_has_a_low_score(mixtures, max_iter, wine):
    """A component of its own is as wide as the table, and training does not narrow it."""
    X = np.array(wine)
    X[20, 3] = 100 * X[:, 3].max()
    scores = (
        VAEDensity(mixtures=mixtures, max_iter=max_iter, random_state=0).fit(X).score_samples(X)
    )

    assert (scores < scores[20]).mean() < 0.05


@pytest.mark.parametrize("mixtures", [[(4, "full")], [(32, "diag")]])
def test_no_component_of_a_dozen_rows_explains_an_outlier(mixtures):
    """With a full covariance of eight columns it would fit each of its rows."""
    ranks = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 8)) + 0.5 * rng.normal(size=(400, 8))
        X[0, 3] -= 8 * X[:, 3].std()
        scores = VAEDensity(mixtures=mixtures, max_iter=0, random_state=0).fit(X).score_samples(X)
        ranks.append((scores < scores[0]).sum())

    assert max(ranks) < 20, ranks


@pytest.mark.parametrize("mixtures", [[(1, "full")], *slow("auto", [(3, "diag"), (4, "full")])])
def test_integers_get_no_more_density_than_probability(mixtures, rng):
    """Two dependent columns of the integers 0 to 3: the scores' sum over the lattice.

    A normal density whose scale is 1 / sqrt(2 π) has up to 1.0864 in all on whole numbers, and
    it may be so in each column.
    """
    first = rng.choice(4, 1500, p=[0.1, 0.4, 0.3, 0.2])
    second = np.where(rng.random(1500) < 0.6, first, rng.choice(4, 1500, p=[0.4, 0.3, 0.2, 0.1]))
    X = np.column_stack([first, second]).astype(float)
    density = VAEDensity(mixtures=mixtures, likelihood="gaussian", random_state=0, max_iter=5).fit(
        X[:1000]
    )
    lattice = np.stack(np.meshgrid(np.arange(-4, 9), np.arange(-4, 9)), -1).reshape(-1, 2) * 1.0
    most = np.exp(-np.pi * np.arange(-9, 10) ** 2).sum() ** 2  # 1.18
    noisy = X[1000:] + rng.uniform(-0.5, 0.5, size=(500, 2))

    assert 0.9 < np.exp(density.score_samples(lattice)).sum() < most + 0.01
    assert density.score(X[1000:]) - density.score(noisy) < 0.6


def test_it_is_calibrated_on_rows_it_has_not_seen(wine, rng):
    """Normal rows, whose transforms by the fitted density are near the exact ones."""
    X = np.column_stack([rng.normal(3, 2, size=4000), rng.random(4000) < 0.3]).astype(float)
    density = VAEDensity(**QUICK).fit(X[:2000])
    found = pit_calibration(density, X[2000:])

    exact = stats.norm.cdf(X[2000:, 0], 3, 2)
    assert np.abs(found.pit[:, 0] - exact).max() < 0.05
    assert (found.statistic < 0.05).all()
    with pytest.raises(TypeError, match="VAEDensity"):
        kl_per_dimension(density, X)


def test_an_average_of_weights_is_what_is_kept():
    """Against the same average made by hand of the weights before and after each step."""
    X = torch.as_tensor(load_diabetes().data[:50, :3])
    seen = []

    class Watch(Callback):
        def on_grad_computed(self, net, **kwargs):
            seen.append(net.module_.flat.clone())

    def trained(averaging, **kwargs):
        model = build(Architecture(2, (4,), ((Gaussian(), 3),))).double()
        model.flatten()
        model.reset_parameters(0, 0)
        config = TrainingConfig(
            seed=0, max_iter=1, min_steps_per_epoch=6, batch_size=50, learning_rate=0.1,
            beta=KLWeight(1.0), patience=9, n_iter_per_stage=(1, 0, 0), ema_decay=averaging,
        )  # fmt: skip
        rows = Dataset.from_x(X, None, 50.0, 0.0)
        job = TrainingJob(model.architecture, config, rows)
        trainer = Trainer(model, [job], verbose=0, **kwargs)
        trainer.train()
        return trainer.module_.flat

    last = trained(0.0, callbacks=[Watch()])
    first, *others = seen
    average = first
    for weights in [*others, last]:
        average = 0.7 * average + 0.3 * weights

    assert len(seen) == 6
    torch.testing.assert_close(trained(0.7), average)


def test_a_gradient_far_longer_than_usual_is_cut(rng):
    """To three times the root of the sum of Adam's second moments, in its own direction."""
    model = build(Architecture(2, (4,), ((Gaussian(), 3),)), 2).double()
    model.flatten()
    config = TrainingConfig(0, 1, 1, 0.1, KLWeight(1.0), patience=1, max_grad_norm_ratio=3.0)
    adam = FlatAdam(model, [config, config])
    square, n_steps, n_cut = np.zeros(model.flat.shape), np.zeros(2), np.zeros(2)
    for step in range(40):
        gradient = rng.normal(size=square.shape) * rng.choice([1, 2, 30], (2, 1), p=[0.5, 0.3, 0.2])
        gradient[1] *= step != 25  # a gradient of zeros is not cut
        if step == 20:
            adam.reset(np.array([False, True]))
            square[1] = n_steps[1] = 0
        model.flat_grad.copy_(torch.from_numpy(gradient))
        adam.step()

        for member in np.flatnonzero(n_steps):  # the first gradient is all that is known
            limit = 3 * np.sqrt(square[member].sum() / (1 - 0.999 ** n_steps[member]))
            norm = np.linalg.norm(gradient[member])
            if norm > limit:
                n_cut[member] += 1
                gradient[member] *= limit / norm
        n_steps += 1
        square = 0.999 * square + 0.001 * gradient**2
        np.testing.assert_allclose(model.flat_grad.numpy(), gradient, rtol=1e-5)
    np.testing.assert_allclose(adam.square.numpy(), square, rtol=1e-5)

    assert (n_cut > 1).all()


# -- tables of any kind --------------------------------------------------------------------


@pytest.fixture(scope="module")
def passengers():
    """A made-up table of every kind of column, with missing cells and related columns."""
    rng = np.random.default_rng(0)
    n = 400
    group = rng.integers(3, size=n)
    age = np.clip(rng.normal(20 + 15 * group, 6), 0.5, None).round(1)
    frame = pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.2, np.nan, age),
            "fare": np.exp(rng.normal(2 + group, 1.6)),
            "income": np.where(rng.random(n) < 0.4, 0.0, rng.normal(10, 3, size=n)),
            "siblings": rng.poisson(0.5 + group),
            "class": np.array(["first", "second", "third"])[group],
            "deck": pd.Categorical(rng.choice(["low", "mid", "top"], n), ordered=True),
            "alone": rng.random(n) < 0.3 + 0.2 * group,
            "born": pd.Timestamp("1880-01-01") + pd.to_timedelta(rng.integers(9000, size=n), "D"),
        }
    )
    frame.loc[rng.random(n) < 0.1, "class"] = None
    return frame


@pytest.fixture(scope="module")
def of_passengers(passengers):
    return VAEDensity(**QUICK).fit(passengers[:300])


def test_a_table_of_every_kind_is_scored(passengers, of_passengers):
    """Rows that belong together score above rows whose columns were shuffled."""
    kinds = {type(own).__name__ for own in of_passengers.columns_.likelihoods}
    rng = np.random.default_rng(1)
    test = passengers[300:].reset_index(drop=True)
    shuffled = test.apply(lambda column: column.to_numpy()[rng.permutation(len(test))])

    assert {"Gaussian", "LogNormal", "ZeroInflated", "Categorical", "Ordinal", "Bernoulli"} <= kinds
    assert np.isfinite(of_passengers.score_samples(test)).all()
    assert of_passengers.score(test) > of_passengers.score(shuffled.astype(test.dtypes)) + 0.3


def test_training_does_not_fall_below_the_mixture_that_it_starts_at(passengers):
    """On the validation rows, whose loss is recorded; and max_iter=0 is the mixture itself."""
    params = {"mixtures": [(4, "diag")], "random_state": 0, "refit": False}
    start = VAEDensity(max_iter=0, **params).fit(passengers)
    trained = VAEDensity(max_iter=4, **params).fit(passengers)
    test = passengers[300:]  # among the rows of fit: what is compared is the fit

    assert start.history_ == []
    assert start.n_iter_ == 0
    assert trained.score(passengers) > start.score(passengers) - 0.01
    model = build(start.architecture_).double().requires_grad_(False)
    model.load(start.state_dict_)
    assert all((part == 0).all() for part in (model.decoder.linear.weight, model.decoder.last))
    assert np.isfinite(start.score_samples(test)).all()


@pytest.mark.parametrize("mixtures", [[(16, "diag")], [(2, "full")]])
def test_samples_keep_values_steps_bounds_and_marginal_distributions(mixtures, rng):
    """Few values, common values, cents and a hard edge, without being asked; dtypes too."""
    n = 3000
    stars = rng.binomial(4, 0.3 + 0.4 * (rng.random(n) < 0.5))
    hours = np.where(rng.random(n) < 0.4, 40, rng.gamma(1.5, 20, n).round())
    price = np.round(0.5 + rng.gamma(0.7, 2 + stars), 2)
    X = pd.DataFrame({"stars": stars, "hours": hours.astype(int), "price": price})
    X["delay"] = np.where(rng.random(n) < 0.4, 0.0, rng.gamma(0.6, 2, n))
    density = VAEDensity(mixtures=mixtures, max_iter=2, random_state=0).fit(X[:2000])
    samples = density.sample(4000, random_state=0)

    assert (samples.dtypes == X.dtypes).all()
    assert set(samples["stars"]) <= set(X["stars"])
    np.testing.assert_array_equal(samples["price"], samples["price"].round(2))
    for name in X:
        assert samples[name].between(X[name][:2000].min(), X[name][:2000].max()).all()
        assert stats.ks_2samp(samples[name], X[name]).statistic < 0.06
    for name, value in (("hours", 40), ("delay", 0)):
        share = (X[name][:2000] == value).mean()
        assert (samples[name] == value).mean() == pytest.approx(share, abs=0.05)
    assert density.score(samples) == pytest.approx(density.score(X[:2000]), abs=0.25)


def test_few_values_have_the_density_of_their_steps(rng):
    """A column of tenths: the probabilities of its values, over a tenth."""
    X = 0.1 * rng.binomial(5, 0.4, (2000, 1))
    density = VAEDensity(mixtures=[(1, "diag")], max_iter=0, random_state=0).fit(X)

    oracle = stats.binom.logpmf(np.arange(6), 5, 0.4) - np.log(0.1)
    scores = density.score_samples(0.1 * np.arange(6)[:, None])
    np.testing.assert_allclose(scores, oracle, atol=0.25)
    assert (0.1 * np.exp(scores)).sum() == pytest.approx(1, abs=1e-3)


def test_unseen_values_are_unlikely(passengers, of_passengers):
    """A class that no row had in fit has the probability of the rule of succession."""
    rows = passengers[:20].dropna()
    strange = rows.assign(**{"class": "fourth"})
    without = of_passengers.score_samples(rows.assign(**{"class": None}))

    np.testing.assert_allclose(
        of_passengers.score_samples(strange), without - np.log(302), atol=0.05
    )


def test_missing_numbers_are_imputed_by_their_conditional_distribution(rng):
    """Of a normal distribution, whose conditional means and variances are known."""
    root = np.array([[1, 0.8, 0.3], [0, 0.6, 0.5], [0, 0, 0.4]])
    X = rng.normal(size=(400, 3)) @ root
    density = VAEDensity(mixtures=[(1, "full")], max_iter=0, random_state=0).fit(X)
    covariance = np.cov(X.T)  # nearly that of the fit, which is on fewer rows
    rows = X[:50].copy()
    rows[:, 1] = np.nan
    gain = np.linalg.solve(covariance[np.ix_([0, 2], [0, 2])], covariance[[0, 2], 1])
    mean = X[:, 1].mean() + (rows[:, [0, 2]] - X[:, [0, 2]].mean(axis=0)) @ gain
    spread = np.sqrt(covariance[1, 1] - covariance[1, [0, 2]] @ gain)
    imputed, drawn = density.impute(rows), density.impute(rows, 400, random_state=0)

    np.testing.assert_allclose(imputed[:, 1], mean, atol=0.1)
    np.testing.assert_array_equal(imputed[:, [0, 2]], rows[:, [0, 2]])
    np.testing.assert_allclose(drawn[:, :, 1].mean(axis=0), mean, atol=0.15)
    np.testing.assert_allclose(drawn[:, :, 1].std(axis=0).mean(), spread, rtol=0.1)


def test_missing_cells_of_every_kind_are_imputed(passengers, of_passengers):
    """A group of columns tells the class, which is nearly the likeliest one of the table's."""
    rows = passengers[300:].copy()
    hidden = rows["class"].notna()
    truth = rows["class"][hidden]
    rows["class"] = None
    imputed = of_passengers.impute(rows.astype({"class": passengers.dtypes["class"]}))
    drawn = of_passengers.impute(rows.astype({"class": passengers.dtypes["class"]}), 3)

    assert imputed.notna().all().all()
    assert imputed.dtypes.drop("age").equals(passengers.dtypes.drop("age"))
    assert (imputed["class"][hidden] == truth).mean() > 0.6
    assert all(table.notna().all().all() for table in drawn)
    assert not drawn[0].equals(drawn[1])
