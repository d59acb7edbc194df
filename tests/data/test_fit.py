"""Inferred likelihoods: positive numbers, classes, counts, point masses; scipy is the oracle."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae import VAETransformer
from sklearn_vae.data.fields import Field
from sklearn_vae.data.fit import fit_encoder
from sklearn_vae.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gaussian,
    LogNormal,
    NegativeBinomial,
    OneHot,
    Ordinal,
    Poisson,
    ZeroInflated,
)
from tests.conftest import slow

pd = pytest.importorskip("pandas")


def test_point_masses_of_integers_are_inferred_and_decoded(rng):
    """Zeros and forties among whole numbers, where the evidence is for them."""
    hours = np.where(rng.random(500) < 0.5, 40, rng.normal(40, 12, 500).round())
    gains = np.where(rng.random(500) < 0.9, 0, np.exp(rng.normal(8, 1, 500)).round())
    X = np.column_stack([hours, gains, rng.normal(40, 12, 500).round()])
    X[::9, 0] = np.nan
    columns = fit_encoder(X, None, "auto")
    encoded = columns.transform(X)

    assert columns.likelihoods == [ZeroInflated(1), ZeroInflated(1), Gaussian()]
    masses = [mass for group in columns.groups for mass in getattr(group, "point_masses", [])]
    assert sorted(map(list, masses)) == [[0], [40]]
    np.testing.assert_allclose(columns.inverse_transform(encoded), X, rtol=1e-9, atol=1e-9)


# -- inference ---------------------------------------------------------------------------


def infer(values, likelihood="auto", *, n_classes=None, is_integer=False, is_ordered=False):
    """Infer the likelihood of one column."""
    X = np.asarray(values, dtype=float).reshape(-1, 1)
    field = Field("a", "integer" if is_integer else "number", None, "")
    if n_classes is not None:
        logical_type = "ordered" if is_ordered else "category"
        field = Field("a", logical_type, tuple(range(n_classes)), "")
    return fit_encoder(X, None, likelihood, [field]).likelihoods[0]


def test_dtypes_decide_between_classes_ordered_classes_and_integers(rng):
    """A data frame declares categories and their order; numbers are read by their values."""
    assert infer([0, 1, 2] * 10, n_classes=3) == Categorical(3)
    assert infer([0, 1, 2] * 10, n_classes=4) == Categorical(4)
    assert infer([0, 1, 2] * 10, n_classes=3, is_ordered=True) == Ordinal(3)
    assert infer([0, 1] * 10, n_classes=2) == Bernoulli()
    assert infer([2] * 10, n_classes=3) is None
    assert isinstance(infer(rng.poisson(2, 500), is_integer=True), Poisson)
    assert isinstance(infer(rng.negative_binomial(1, 0.2, 500), is_integer=True), NegativeBinomial)
    assert infer(rng.normal(50, 3, 500).round(), is_integer=True) == Gaussian()
    assert isinstance(infer(rng.poisson(2, 500)), Poisson)
    assert isinstance(infer(rng.poisson(2, 500) - 1), ZeroInflated)


def test_values_over_orders_of_magnitude_are_log_normal(rng):
    """A normal distribution of the logarithms is better, and only then."""
    assert infer(np.exp(2 * rng.standard_normal(500))) == LogNormal()
    assert infer(np.exp(0.1 * rng.standard_normal(500))) == Gaussian()
    assert infer(-np.exp(2 * rng.standard_normal(500))) == Gaussian()
    assert infer(np.exp(2 * rng.standard_normal(500)) * 1e300 / 1e5) == LogNormal()


@pytest.mark.parametrize(
    ("likelihood", "values", "message"),
    [
        ("lognormal", [0.0, 1.0, 2.0], "column 'a' to have values above 0, but it has 0.0"),
        ("poisson", [0.0, 1.5, 2.0], "column 'a' to have whole numbers of 0 or more, but .* 1.5"),
        ("negative_binomial", [-1.0, 1.0, 2.0], "whole numbers of 0 or more, but it has -1.0"),
        ("bernoulli", [0.0, 1.0, 2.0], "two values, but it has 0.0, 1.0 and 2.0"),
        (Categorical(4), [0.0, 1.0, 2.0], "to have 4 classes, but it has 3"),
    ],
)
def test_a_requested_likelihood_that_values_contradict_is_refused(likelihood, values, message):
    """The message names the column, the value and an alternative."""
    with pytest.raises(ValueError, match=message):
        infer(values, likelihood)


def test_a_likelihood_without_a_class_of_columns_is_refused():
    """Whoever adds one reads what is left to do."""

    class Half(Gaussian):
        pass

    with pytest.raises(ValueError, match=r"Half for column 'a', and no class of columns in .*COLU"):
        infer([1.0, 2.0, 3.0], Half())
    with pytest.raises(ValueError, match=r"OneHot for column 'a', and it cannot be requested: fit"):
        infer([1.0, 2.0, 3.0], OneHot(n_columns=2, has_none=False))


@pytest.mark.parametrize("name", sorted(LIKELIHOODS))
def test_every_likelihood_can_be_requested_by_name(name):
    """likelihood='poisson' and so on, and in a dict by column."""
    values = [1.0, 2.0] * 5 if name == "bernoulli" else [1.0, 2.0, 3.0, 2.0] * 5

    assert isinstance(infer(values, name), LIKELIHOODS[name])
    assert isinstance(infer(values, {"a": name}), LIKELIHOODS[name])


def test_a_number_that_names_a_column_is_not_the_index_of_another(rng):
    """As in a frame whose columns were selected in another order."""
    X = rng.normal(size=(50, 3))

    fields = [Field(name, "number", None, "float64") for name in (1, 0, 7)]
    columns = fit_encoder(X, None, {1: Gaussian(0.5), 2: Gaussian("per_column")}, fields)

    assert columns.likelihoods == [Gaussian(0.5), Gaussian(), Gaussian("per_column")]


def test_numbers_are_classes_if_requested():
    """Their values are kept, whatever they are, and others refused."""
    X = np.array([[10.0], [20.0], [40.0]] * 5)
    columns = fit_encoder(X, None, "categorical")

    assert columns.likelihoods == [Categorical(3)]
    assert columns.transform(X[:3]).tolist() == np.eye(3).tolist()
    assert columns.inverse_transform(columns.transform(X)).tolist() == X.tolist()
    with pytest.raises(ValueError, match=r"Column 0 has the value 30.0.*10.0, 20.0, 40.0"):
        columns.check_values(np.array([[30.0]]), None, "error")
    assert np.isnan(columns.check_values(np.array([[30.0]]), None, "missing")).all()


# -- round trip --------------------------------------------------------------------------


@pytest.fixture
def table(rng):
    """A column of each likelihood, with missing values: (60, 7)."""
    X = np.column_stack(
        [
            rng.normal(100, 5, 60),
            np.exp(3 * rng.standard_normal(60)),
            rng.integers(3, size=60),
            rng.integers(5, size=60),
            rng.poisson(30, size=60),
            rng.choice([3.0, 7.0], size=60),
            np.full(60, 2.5),
        ]
    )
    X[::7, :6] = np.nan
    X[::3, 2] = np.nan
    return X


KINDS_OF_TABLE = ["gaussian", "auto", "categorical", "ordinal", "poisson", "auto", "auto"]


def test_decoding_inverts_encoding_for_each_likelihood(table):
    """Missing values stay missing, integers stay integers."""
    columns = fit_encoder(table, None, KINDS_OF_TABLE)
    encoded = columns.transform(table)

    assert encoded.shape == (60, columns.n_columns) == (60, 8)
    np.testing.assert_allclose(columns.inverse_transform(encoded), table, rtol=1e-12)
    np.testing.assert_allclose(
        columns.inverse_transform(columns.transform(table.astype(np.float32)), is_rounded=True)[
            :, 2:
        ],
        table[:, 2:],
    )


def test_log_abs_det_jacobian_is_that_of_observed_values(table):
    """The scales of standardized columns, and the derivative of logarithms."""
    columns = fit_encoder(table, None, KINDS_OF_TABLE)
    scale = [group.scale[0] * 2.0 ** group.exponent[0] for group in columns.groups[:2]]
    there = ~np.isnan(table)
    expected = -np.log(scale[0]) * there[:, 0]
    logs = np.nan_to_num(np.log(table[:, 1]))
    expected -= (np.log(scale[1]) + logs) * there[:, 1]
    # the constant column, and those that keep some probability for values never seen
    expected += np.log1p(-1 / 62) * (1 + there[:, 1:6].sum(axis=1))

    np.testing.assert_allclose(columns.log_abs_det_jacobian(table), expected, rtol=1e-9)


def test_a_column_without_observed_values_is_constant(rng):
    """It stays missing after decoding."""
    X = rng.standard_normal((20, 2))
    X[:, 1] = np.nan
    columns = fit_encoder(X, None, "auto")

    assert columns.likelihoods == [Gaussian(), None]
    assert np.isnan(columns.inverse_transform(columns.transform(X))[:, 1]).all()
    assert np.isfinite(columns.log_abs_det_jacobian(X)).all()


# -- fits --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("lognormal", stats.lognorm(1.5, scale=3)),
        ("poisson", stats.poisson(3)),
        ("negative_binomial", stats.nbinom(2, 0.2)),
        *slow(("gaussian", stats.norm(2, 3)), ("bernoulli", stats.bernoulli(0.3))),
        ("ordinal", stats.binom(4, 0.4)),
        ("categorical", stats.rv_discrete(values=([0, 1, 2], [0.2, 0.5, 0.3]))),
    ],
)
def test_the_density_of_one_column_is_near_the_true_density(name, oracle):
    """Held-out mean log-density within 0.03 nats of scipy's."""
    train, test = (
        oracle.rvs(size=(n, 1), random_state=np.random.default_rng(seed)).astype(float)
        for seed, n in enumerate((2000, 500))
    )
    vae = VAETransformer(1, likelihood=name, max_iter=8, random_state=0).fit(train)
    log_prob = oracle.logpdf if hasattr(oracle, "pdf") else oracle.logpmf
    try:
        expected = log_prob(test).mean()
    except AttributeError:
        expected = oracle.logpmf(test).mean()

    assert vae.score(test) == pytest.approx(expected, abs=0.03)


P = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])  # of classes given a hidden class


def mixed(n, seed):
    """Columns that depend on a hidden class, as a data frame."""
    rng = np.random.default_rng(seed)
    hidden = rng.integers(2, size=n)
    classes = [rng.choice(3, p=P[h]) for h in hidden]
    return pd.DataFrame(
        {
            "bit": rng.random(n) < np.array([0.2, 0.8])[hidden],
            "class": pd.Categorical.from_codes(classes, ["x", "y", "z"]),
            "count": rng.poisson(np.array([2.0, 6.0])[hidden]),
            "real": rng.normal(np.array([-1.0, 2.0])[hidden], 1.0),
        }
    )


def log_density_of_mixed(df):
    """The true log-density of these rows."""
    parts = [
        np.log(0.5)
        + stats.bernoulli.logpmf(df["bit"], (0.2, 0.8)[h])
        + np.log(P[h][df["class"].cat.codes])
        + stats.poisson.logpmf(df["count"], (2.0, 6.0)[h])
        + stats.norm.logpdf(df["real"], (-1.0, 2.0)[h], 1.0)
        for h in (0, 1)
    ]
    return np.logaddexp(*parts)


def test_the_density_of_a_mixed_table_is_near_the_true_density():
    """Bits, classes, counts and numbers that depend on a hidden class."""
    train, test = mixed(4000, 0), mixed(2000, 1)
    vae = VAETransformer(2, max_iter=50, early_stopping=False, random_state=0).fit(train)

    kinds = [type(kind) for kind in vae.columns_.likelihoods]
    assert kinds == [Bernoulli, Categorical, NegativeBinomial, Gaussian]  # counts of two groups
    assert vae.score(test) == pytest.approx(log_density_of_mixed(test).mean(), abs=0.03)
