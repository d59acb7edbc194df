"""Marginal distributions by evidence."""

import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.data.fields import Field
from sklearn_vae.data.fit import fit_encoder
from sklearn_vae.data.marginals import Values, find_candidates
from sklearn_vae.data.training_column import TrainingColumn
from sklearn_vae.likelihoods import Gaussian, LogNormal, NegativeBinomial, Poisson, ZeroInflated
from sklearn_vae.numerics.rows import spread_out
from tests.conftest import decode_samples, slow


def fit(values):
    """Encoder of one column, or of several."""
    return fit_encoder(values.reshape(len(values), -1), None, "auto")


def candidates(values, weights=None):
    """Candidates for the distribution of a column, and the evidence for each in nats per row."""
    n_rows = len(values) if weights is None else weights.sum()
    column = TrainingColumn(0, values, weights, n_rows, Field(0, "number", None, ""))
    unique = Values.of(column)
    return [
        (marginal, float(unique.rows @ log_density) / unique.n_rows)
        for marginal, log_density in find_candidates(unique)
    ]


def bic_per_row(log_density, n_params):
    """Evidence in nats per row, of the log-densities of all rows."""
    return (log_density.sum() - 0.5 * n_params * np.log(len(log_density))) / len(log_density)


def by_kind(found):
    """Largest evidence by what candidates are: point masses, logarithm, knots, counts."""
    return {
        (len(m.point_masses), m.is_log, len(m.knots) > 0, type(m.counts)): evidence
        for m, evidence in sorted(found, key=lambda pair: pair[1])
    }


NONE = type(None)


# -- evidence of one column ----------------------------------------------------------------------


def test_the_evidence_is_the_log_density_less_schwarz_penalty(rng):
    """Of normal and log-normal distributions: scipy is the oracle."""
    x = rng.gamma(9.0, size=400) + np.pi
    found = by_kind(candidates(x))
    log = np.log(x)
    normal = bic_per_row(stats.norm.logpdf(x, x.mean(), x.std()), 2)
    log_normal = bic_per_row(stats.norm.logpdf(log, log.mean(), log.std()) - log, 3)

    assert found[0, False, False, NONE] == pytest.approx(normal, abs=0.02)
    assert found[0, True, False, NONE] == pytest.approx(log_normal, rel=1e-9)


@pytest.mark.parametrize("step", [0.01, 0.5, 1.0, 5.0])
def test_a_recorded_log_normal_value_has_the_probability_of_its_cell(step, rng):
    """Over the step: scipy is the oracle, in the tails too."""
    x = step * np.ceil(rng.lognormal(0.4, 0.5, 500)).clip(max=4)
    x[:2] = step, 900 * step
    log = np.log(x)
    oracle = stats.lognorm(log.std(), scale=np.exp(log.mean()))
    low, high = x - step / 2, x + step / 2
    upper, lower = oracle.sf(low) - oracle.sf(high), oracle.cdf(high) - oracle.cdf(low)
    log_density = np.log(np.where(x > 10 * step, upper, lower) / step)
    evidence = bic_per_row(log_density, 3)

    assert by_kind(candidates(x))[0, True, False, NONE] == pytest.approx(evidence, rel=1e-6)


def test_two_clusters_are_two_normal_distributions(rng):
    """No transform is worth more: the codes have the clusters. GaussianMixture's BIC agrees."""
    x = np.where(rng.random(2000) < 0.3, -4.0, 4.0) + rng.normal(size=2000)
    found = by_kind(candidates(x))
    mixture = GaussianMixture(2, covariance_type="tied", random_state=0).fit(x[:, None])
    expected = -0.5 * mixture.bic(x[:, None]) / len(x)

    assert found[0, False, False, NONE] == pytest.approx(expected, abs=0.01)
    assert not fit(x).groups[0].has_knots.any()


@pytest.mark.parametrize(
    ("expected", "mean", "dist"), [(Poisson, 3.0, None), (NegativeBinomial, 3.0, 0.5)]
)
def test_counts_have_the_evidence_of_their_distribution(expected, mean, dist, rng):
    """By scipy, at the moments of the column."""
    x = (rng.poisson(mean, 3000) if dist is None else rng.negative_binomial(dist, 0.1, 3000)) * 1.0
    counts, evidence = next((m.counts, e) for m, e in candidates(x) if m.counts is not None)
    shape = x.mean() ** 2 / (x.var() - x.mean())
    log_prob = (
        stats.poisson(x.mean()).logpmf(x)
        if dist is None
        else stats.nbinom(shape, shape / (shape + x.mean())).logpmf(x)
    )

    assert type(counts) is expected
    assert evidence == pytest.approx(bic_per_row(log_prob, 1 + (dist is not None)))


@pytest.mark.parametrize("step", [1.0, 0.25])
def test_a_point_mass_has_the_probability_of_its_rows_by_the_others(step, rng):
    """Each row is left out once, by brute force; a probability is spread over a step."""
    x = step * rng.permutation(np.repeat([0.0, 1, 2, 3, 5], [400, 60, 50, 90, 30]))
    unique, counts = np.unique(x, return_counts=True)
    found = by_kind(candidates(x))[5, False, False, NONE]
    left_out = [
        np.log((counts[unique == value][0] - 1 + 0.5) / (len(x) - 1 + 0.5 * 5)) for value in x
    ]
    expected = bic_per_row(np.array(left_out) - np.log(step), 5)

    assert found == pytest.approx(expected, rel=1e-9)


TABLES = {
    "normal": lambda rng: rng.normal(size=300),
    "skewed": lambda rng: np.exp(2 * rng.normal(size=3000)),
    "cents": lambda rng: rng.gamma(2, 10, 800).round(2),
    "counts": lambda rng: rng.poisson(2.0, 500) * 1.0,
    "excess of zeros": lambda rng: np.r_[np.zeros(360), rng.gamma(3, size=540)],
    "few values": lambda rng: rng.choice([1.0, 2.0, 5.0, 9.0], 400, p=[0.1, 0.6, 0.1, 0.2]),
    "far code": lambda rng: np.where(rng.random(400) < 0.03, 999, rng.normal(50, 5, 400).round()),
}


@pytest.mark.parametrize("name", TABLES)
def test_order_weights_and_dtype_decide_nothing(name, rng):
    """Rows in another order, weights for copies, and single precision: the same evidence."""
    x = TABLES[name](rng)
    weights = rng.integers(1, 4, len(x))
    expected = candidates(np.repeat(x, weights))
    others = [
        candidates(rng.permutation(np.repeat(x, weights))),
        candidates(x, weights.astype(float)),
    ]
    if (x % 1 == 0).all():
        others.append(candidates(np.repeat(x, weights).astype(np.float32)))
    for found in others:
        assert len(found) == len(expected)
        for (one, evidence), (other, expected_evidence) in zip(found, expected, strict=True):
            assert evidence == pytest.approx(expected_evidence, rel=1e-6)
            np.testing.assert_array_equal(one.point_masses, other.point_masses)


def test_other_columns_decide_nothing(rng):
    """Unless one follows from another."""
    columns = np.column_stack([rng.choice(make(rng), 300) for make in TABLES.values()])
    together = fit(columns)
    encoded = np.split(
        together.transform(columns), np.flatnonzero(np.diff(together.column_of_input)) + 1, axis=1
    )

    for j, of_column in zip(together.order, encoded, strict=True):
        alone = fit(columns[:, j])
        assert alone.likelihoods[0] == together.likelihoods[j]
        np.testing.assert_array_equal(alone.transform(columns[:, [j]]), of_column)


@pytest.mark.parametrize("code", [-1.0, 999.0, 99991231.0])
def test_far_values_that_occur_again_are_point_masses(code, rng):
    """They do not set the scale of the others."""
    x = rng.normal(50, 5, 500).round(1)
    x[:12] = code
    columns = fit(x)

    assert columns.groups[0].point_masses.tolist() == [[code]]
    numbers = columns.transform(np.array([[45.0], [55.0]]))[:, -1]
    np.testing.assert_allclose(numbers, [-1, 1], atol=0.15)


# -- point masses ------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1.0, 0.1])
def test_few_values_are_point_masses_with_a_density_per_step(step, rng):
    """Probabilities over the step, so that their sum times the step is 1, less the unseen."""
    values = step * rng.choice([0, 1, 2, 5, 8, 9], 2000, p=[0.1, 0.3, 0.05, 0.05, 0.4, 0.1])
    columns = fit(values)
    group = columns.groups[0]
    unique = np.unique(values)
    log_det = columns.log_abs_det_jacobian(unique[:, None])

    assert columns.likelihoods == [ZeroInflated(len(unique))]
    np.testing.assert_allclose(log_det, np.log1p(-1 / 2002) - np.log(step), rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(group.point_masses[0], unique)
    encoded = columns.transform(unique[:, None])
    np.testing.assert_array_equal(decode_samples(columns, encoded)[:, 0], unique)


@pytest.mark.parametrize(
    "values",
    [
        np.log1p([0.0, 1, 2, 3, 4]),  # of counts
        np.random.default_rng(0).normal(size=9),  # means of classes
        [0.123456789, 1.7320508, 9.8696044],
    ],
    ids=["logarithms", "encoded classes", "irregular"],
)
def test_values_that_recur_without_a_step_are_point_masses(values, rng):
    """All of them, and not those alone whose neighbours are rare; measured numbers are none."""
    share = 0.5 ** np.arange(len(values)) + 0.02
    recurring = rng.choice(values, 600, p=share / share.sum())
    measured = np.append(recurring, rng.normal(size=12))
    for x in (recurring, measured):
        (columns,) = fit(x).groups
        assert columns.point_masses.tolist() == [sorted(values)]
    assert not columns.is_unseen(rng.normal(size=(9, 1))).any()


def test_numbers_that_recur_a_few_times_are_no_point_masses(rng):
    """As those of a bootstrap sample."""
    assert fit(rng.choice(rng.normal(size=400), 400)).likelihoods == [Gaussian()]


@pytest.mark.parametrize("share", [0.94, 0.99])
def test_a_value_of_most_rows_is_a_point_mass_beside_whole_numbers(share, rng):
    """Such as hours of snow: normal scores would fit the few other values, but not their number."""
    x = np.where(rng.random(6000) < share, 0, np.minimum(rng.geometric(0.15, 6000), 25.0))
    (columns,) = fit(x).groups

    assert isinstance(columns.likelihood, ZeroInflated)
    assert 0 in columns.point_masses


BESIDE = {
    "0 below amounts": lambda rng: np.where(rng.random(400) < 0.4, 0, rng.uniform(20, 60, 400)),
    "0 below skewed amounts": lambda rng: np.where(
        rng.random(400) < 0.4, 0, np.exp(3 + rng.normal(size=400)).round(2) + 1
    ),
    "a code above": lambda rng: np.where(rng.random(400) < 0.3, 999, rng.normal(50, 9, 400)),
    "off the steps": lambda rng: np.where(
        rng.random(400) < 0.2, 9481.469, rng.integers(0, 999, 400)
    ),
    "more decimals": lambda rng: np.array([float(f"{x:.3g}") for x in rng.weibull(0.5, 300)]),
}


@pytest.mark.parametrize("name", [*TABLES, *BESIDE])
def test_values_of_the_training_rows_are_possible(name, rng):
    """As means, as imputed ones and as results of rounding; samples are between the extremes."""
    x = (TABLES | BESIDE)[name](rng)[:, None]
    columns = fit(x)
    encoded = columns.transform(x)
    filled = columns.fill_missing(np.full_like(x, np.nan), encoded, np.array([False]))
    far = decode_samples(columns, np.tile(np.sign(encoded - encoded.mean()) * 50, (2, 1)))

    for possible in (filled, columns.within_bounds(x)):
        np.testing.assert_allclose(possible, x, rtol=1e-9, atol=1e-9)
    masses = np.isin(x, getattr(columns.groups[0], "point_masses", []))
    np.testing.assert_array_equal(columns.on_steps(x)[masses], x[masses])
    if columns.groups[0].width == 1:
        assert x.min() <= far.min() <= far.max() <= x.max()


@pytest.mark.parametrize("unit", [5000, *slow(2, 1000)])
@pytest.mark.parametrize("estimator", [VAETransformer, *slow(VAEDensity)])
def test_counts_of_thousands_are_counts(estimator, unit, rng):
    """The model is that of ones, and the density that of a unit; samples are whole units."""
    z = rng.normal(size=300)
    X = np.column_stack([rng.poisson(np.exp(1.5 + z)) * 1.0, z + rng.normal(size=300)])
    in_units = X * [unit, 1]
    ones, units = (estimator(1, max_iter=3, random_state=0).fit(table) for table in (X, in_units))

    assert units.columns_.likelihoods == ones.columns_.likelihoods
    np.testing.assert_allclose(
        units.score_samples(in_units) + np.log(unit), ones.score_samples(X), rtol=1e-6
    )
    np.testing.assert_allclose(
        units.sample(50, random_state=0), ones.sample(50, random_state=0) * [unit, 1], rtol=1e-6
    )
    in_units[::3, 0] = np.nan
    draws = units.impute(in_units, 2, random_state=0)
    np.testing.assert_array_equal(draws[..., 0] % unit, 0)
    is_unseen = units.columns_.is_unseen(np.array([[unit + 1.0, 0], [unit, 0]]))
    np.testing.assert_array_equal(is_unseen[:, 0], [True, False])


# -- counts that other columns tell ----------------------------------------------------------------

TOLD = {
    "pupils": lambda x, rng: x - rng.binomial(3, 0.2, len(x)),
    "half time": lambda x, rng: rng.binomial(x, 0.45),
    "a class": lambda x, rng: np.searchsorted([18, 22, 25, 29], x).astype(float),
}


@pytest.mark.parametrize("name", TOLD)
def test_counts_that_another_column_tells_are_none(name, rng):
    """Given codes, a Poisson variable's variance is its mean, whatever the codes are."""
    x = rng.poisson(24, 600)
    beside = rng.permutation(x), TOLD[name](x, rng), rng.normal(size=600)
    alone, told = (np.column_stack([x, each, beside[2]]).astype(float) for each in beside[:2])
    weight = rng.integers(1, 4, 600)
    encoders = [
        fit_encoder(X, weights, "auto")
        for X, weights in [
            (alone, None),
            (told, None),
            (told, weight.astype(float)),
            (told.repeat(weight, axis=0), None),
        ]
    ]

    assert [type(encoder.likelihoods[0]) for encoder in encoders] == [Poisson, *[Gaussian] * 3]


@pytest.mark.parametrize("n_rows", [80, 99])
def test_counts_that_four_columns_tell_are_none_in_short_tables(n_rows, rng):
    """Below 100 rows one column predicted them, and samples lost most of the correlation."""
    z, others = rng.normal(size=(2, n_rows, 4))
    ranks = z.sum(axis=1).argsort().argsort()
    counts = stats.poisson.ppf((ranks + 0.5) / n_rows, 6)
    chosen = [fit_encoder(np.column_stack([counts, each]), None, "auto") for each in (others, z)]

    assert [isinstance(e.likelihoods[0], (Poisson, NegativeBinomial)) for e in chosen] == [1, 0]


def test_counts_of_a_large_mean_are_numbers(rng):
    """Rents in tens are as whole as counts, and a deposit of two or three has no variance."""
    rent = np.rint(np.exp(rng.normal(4.3, 0.4, 600)))
    X = np.column_stack([rent, rent * rng.choice([2, 3], 600), rng.poisson(4, 600)])
    likelihoods = fit_encoder(X * [10, 10, 1], None, "auto").likelihoods

    assert [isinstance(each, (Poisson, NegativeBinomial)) for each in likelihoods] == [0, 0, 1]


@pytest.mark.parametrize("name", ["holes", "few rows", "small weights", "rare", "hidden"])
def test_counts_that_no_other_column_tells_stay_counts(name, rng):
    X = np.column_stack([rng.poisson(20, 1000), rng.normal(size=1000), rng.poisson(2, 1000)])
    weight = None
    if name == "holes":
        X[rng.random(X.shape) < 0.5] = np.nan
    elif name == "few rows":
        X = np.array([[3, 6.5, 1], [5, 1.25, 2], [1, 2, 7], [4, 9, 3], [7, 3, 4]])
    elif name == "small weights":
        weight = np.full(1000, 1 / 200)
    elif name == "hidden":  # none of the counts is in the rows that are looked at
        X = np.tile(X, (5, 1))
        X[spread_out(len(X), 2048), 0] = np.nan
    else:
        X = np.column_stack([np.eye(1, 1000)[0] * 2, X])
    encoder = fit_encoder(X, weight, "auto")

    if name != "few rows":
        counts = Poisson, NegativeBinomial
        assert isinstance(encoder.likelihoods[-3], counts)
        assert isinstance(encoder.likelihoods[-1], counts)


@pytest.mark.parametrize("model", [VAETransformer, *slow(VAEDensity)])
def test_samples_of_counts_keep_their_correlation(model, rng):
    """Visits, and bookings, of which few are missed: nearly the nats of the truth."""
    visits = rng.poisson(8, 1200)
    X = np.column_stack([visits, visits + rng.binomial(2, 0.3, 1200)]).astype(float)
    fitted = model(random_state=0, max_iter=20).fit(X[:800])
    missed = stats.binom.logpmf(X[800:, 1] - X[800:, 0], 2, 0.3)
    truth = (stats.poisson.logpmf(X[800:, 0], 8) + missed).mean()

    assert np.corrcoef(fitted.sample(1000, random_state=0).T)[0, 1] > 0.94
    assert fitted.score(X[800:]) > truth - 0.3


# -- whole numbers and logarithms -----------------------------------------------------------------

AMOUNTS = {
    "persons": lambda rng: 1.0 + rng.poisson(1.3, 300),
    "pieces": lambda rng: 1.0 + rng.geometric(0.4, 300),
    "prices": lambda rng: np.rint(rng.lognormal(3, 1.2, 300)).clip(1),
}


@pytest.mark.parametrize("model", [VAETransformer, *slow(VAEDensity)])
@pytest.mark.parametrize(
    ("name", "step"), [("persons", 1.0), ("pieces", 1.0), ("prices", 1.0), ("prices", 0.5)]
)
def test_densities_of_small_multiples_of_a_step_are_probabilities(model, name, step, rng):
    """A step is wide among their logarithms: the densities of whole numbers added up to 3 to 30."""
    x = AMOUNTS[name](rng)[:, None] * step
    fitted = model(random_state=0, max_iter=5).fit(x)
    lattice = np.arange(1, 5 * x.max() / step)[:, None] * step

    assert type(fitted.columns_.likelihoods[0]) is LogNormal
    assert 0.9 < step * np.exp(fitted.score_samples(lattice)).sum() < 1.05


def test_requested_logarithms_of_values_within_half_a_step_are_finite(rng):
    """Cells of the smallest values reach below 0, where there is no logarithm."""
    x = 0.1 + 0.5 * rng.poisson(1.0, (300, 1))
    encoder = fit_encoder(x, None, "lognormal")
    noisy = encoder.dequantize(x, rng)

    assert noisy.min() > 0
    assert np.abs(noisy - x).max() <= 0.25
    assert noisy[x > 0.2].std() > x[x > 0.2].std()


@pytest.mark.parametrize("estimator", [VAETransformer, *slow(VAEDensity)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_standardized_counts_are_counts(estimator, dtype, rng):
    """As of a pipeline with a StandardScaler: they were normal, or had a point mass for each."""
    size = rng.normal(size=(300, 1))
    counts = rng.poisson(np.exp([0.5, 1.0] + 0.6 * size)).astype(float)
    table = np.column_stack([counts, size + rng.normal(size=(300, 1))])
    mean, scale = np.append(counts.mean(axis=0), 0), np.append(counts.std(axis=0), 1)
    scaled = ((table - mean) / scale).astype(dtype)
    one, other = (estimator(1, max_iter=3, random_state=0).fit(x) for x in (table, scaled))

    assert other.columns_.likelihoods[:2] == one.columns_.likelihoods[:2]
    assert isinstance(one.columns_.likelihoods[0], NegativeBinomial | Poisson)
    np.testing.assert_allclose(
        other.score(scaled), one.score(table) + np.log(scale).sum(), atol=0.05
    )
    drawn = other.sample(50)[:, :2] * scale[:2] + mean[:2]
    np.testing.assert_allclose(drawn, np.rint(drawn), atol=1e-4)
    assert other.score_samples(scaled + dtype(0.3)).mean() < other.score(scaled) - 5


def test_numbers_with_a_rare_lowest_value_are_not_counted_from_it(rng):
    """Centred whole numbers of mean 100 are normal."""
    x = rng.poisson(100, size=400).astype(float)

    assert fit((x - x.mean()) / x.std()).likelihoods == [Gaussian()]
