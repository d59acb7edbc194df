"""TableEncoder: likelihoods of columns, units, log-abs-det-Jacobian, unseen values, messages."""

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.preprocessing import StandardScaler

from sklearn_vae.data.fields import Field
from sklearn_vae.data.fit import MIN_ROWS_FOR_BINARY, check_requested_likelihoods, fit_encoder
from sklearn_vae.likelihoods import Bernoulli, Gaussian, ZeroInflated


def fit(X, likelihood="auto", weight=None, names=None):
    """Fit an encoder to X."""
    fields = [Field(name, "number", None, "float64") for name in names or range(X.shape[1])]
    return fit_encoder(X, weight, likelihood, fields)


@pytest.fixture
def mixed(rng):
    """A constant, a real, a binary (3 and 7), another real and a 0/1 column: (30, 5)."""
    X = rng.standard_normal((30, 5))
    X[:, 0] = 2.5
    X[:, 2] = np.where(X[:, 2] > 0, 7.0, 3.0)
    X[:, 3] = 100 + 0.01 * X[:, 3]
    X[:, 4] = X[:, 4] > 0
    return X


# -- likelihoods ---------------------------------------------------------------------------


def test_columns_of_one_likelihood_are_adjacent(mixed):
    """The model computes a block at a time."""
    columns = fit(mixed, ["auto", "auto", "auto", Gaussian("per_column"), "auto"])

    assert columns.order.tolist() == [1, 2, 4, 3]
    assert columns.blocks == ((Gaussian(), 1), (Bernoulli(), 2), (Gaussian("per_column"), 1))


def test_logarithms_are_adjacent_to_the_numbers_that_they_are_encoded_as(mixed):
    mixed[:, 3] = np.exp(mixed[:, 3])
    columns = fit(mixed, ["auto", "auto", "auto", "lognormal", "auto"])

    assert columns.order.tolist() == [1, 3, 2, 4]
    assert columns.blocks == ((Gaussian(), 2), (Bernoulli(), 2))


def test_logarithms_beside_numbers_of_a_sequence_have_a_scale_of_their_own(rng):
    """Numbers of a thousand have the same scale in all steps, and logarithms of a tenth another."""
    X = np.hstack([rng.normal(1_000, 50, (500, 2)), np.exp(rng.normal(0, 0.1, (500, 2)))])
    encoder = fit_encoder(X, None, ["gaussian", "gaussian", "lognormal", "lognormal"], period=1)

    np.testing.assert_allclose(encoder.transform(X).std(axis=0), 1, rtol=0.1)


@pytest.mark.parametrize(
    ("values", "n_rows", "kind"),
    [
        ((3.0, 7.0), MIN_ROWS_FOR_BINARY - 1, ZeroInflated(2)),
        ((3.0, 7.0), MIN_ROWS_FOR_BINARY, Bernoulli()),
        ((0.0, 1.0), 2, Bernoulli()),
    ],
)
def test_two_values_are_binary_from_ten_rows_on_or_if_they_are_0_and_1(values, n_rows, kind):
    """Two rows always have two values; 0 and 1 are binary in any table."""
    assert fit(np.resize(values, (n_rows, 1))).likelihoods == [kind]


@pytest.mark.parametrize("value", [0.0, -3.5, 1e300, 5e-324])
def test_a_column_of_one_value_is_constant_for_any_requested_likelihood(value):
    """Its scale is 0, so neither Gaussian nor Bernoulli fits it."""
    X = np.full((12, 1), value)

    for likelihood in ("auto", "gaussian", "bernoulli"):
        assert fit(X, likelihood).likelihoods == [None]
    assert fit(X).blocks == ((Gaussian(), 0),)
    assert fit(X).transform(X).shape == (12, 0)
    assert fit(X).inverse_transform(np.empty((12, 0))).tolist() == X.tolist()


# -- units -------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_real_columns_are_standardized(weighted, mixed, rng):
    """As scikit-learn's StandardScaler does it, weights included."""
    weight = rng.uniform(0.5, 2, len(mixed)) if weighted else None
    expected = StandardScaler().fit_transform(mixed[:, [1, 3]], sample_weight=weight)

    np.testing.assert_allclose(
        fit(mixed, weight=weight).transform(mixed)[:, :2], expected, atol=1e-9
    )


def test_binary_columns_are_encoded_as_0_and_1(mixed):
    """Whatever their two values are."""
    expected = np.column_stack([mixed[:, 2] == 7, mixed[:, 4] == 1])

    np.testing.assert_array_equal(fit(mixed).transform(mixed)[:, 2:], expected)


def test_an_unseen_value_of_a_binary_column_is_encoded_as_the_nearer_one(mixed):
    """A Bernoulli distribution has no values between 0 and 1."""
    X = mixed[:5].copy()
    X[:, 2] = [-100.0, 4.9, 5.1, 7.5, 1e300]

    assert fit(mixed).transform(X)[:, 2].tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_encoding_keeps_the_dtype_and_does_not_change_x(dtype, mixed):
    """What came in as float32 is computed in float32, and X is the user's."""
    X = mixed.astype(dtype)
    before = X.copy()
    columns = fit(X)

    assert columns.transform(X).dtype == dtype
    assert columns.inverse_transform(columns.transform(X)).dtype == dtype
    np.testing.assert_array_equal(X, before)


TINY = 5e-324  # the smallest subnormal number


@pytest.mark.parametrize(
    ("scale", "offset", "rtol"),
    [
        (1.0, 0.0, 1e-14), (1e300, 0.0, 1e-14), (1e-300, 0.0, 1e-14), (1.0, 1e8, 1e-15),
        (1e-8, 1e8, 1e-15), (1e200, -1e203, 1e-15), (1e-310, 0.0, 1e-12), (30 * TINY, 0.0, 0.0),
    ],
)  # fmt: skip
def test_decoding_inverts_encoding_in_any_unit(scale, offset, rtol, rng):
    """One table may hold metres beside light years; no square may overflow."""
    X = np.column_stack(
        [rng.standard_normal(50), offset + scale * rng.standard_normal(50), rng.standard_normal(50)]
    )
    columns = fit(X)
    again = columns.inverse_transform(columns.transform(X))
    # next to the largest value of its column
    tolerance = rtol * np.abs(X).max(axis=0)

    assert (np.abs(again - X) <= tolerance + 1e-14 * np.array([1, 0, 1])).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_of_encoded_values_are_finite(dtype, rng):
    """A new row may be anything that validation lets through."""
    X = rng.standard_normal((20, 3)).astype(dtype)
    far = np.full((1, 3), np.finfo(dtype).max, dtype)
    encoded = fit(X).transform(np.vstack([far, -far]))

    assert np.isfinite(np.square(encoded)).all()
    assert (encoded[0] > 30).all()
    assert (encoded[1] < -30).all()


def test_far_values_are_on_a_logarithmic_scale_whose_density_integrates_to_one(rng):
    """The encoding is smooth and can be undone; a far value has no square in its density."""
    X = rng.standard_normal((200, 1))
    encoder = fit(X)
    grid = np.sinh(np.linspace(-12, 12, 20_001))[:, None]
    encoded = encoder.transform(grid)
    log_slope = encoder.log_abs_det_jacobian(grid)
    density = np.exp(stats.cauchy.logpdf(encoded[:, 0]) + log_slope)

    np.testing.assert_allclose(encoder.inverse_transform(encoded), grid, rtol=1e-9, atol=1e-9)
    slope = np.gradient(encoded[:, 0], grid[:, 0])
    np.testing.assert_allclose(np.exp(log_slope), slope, rtol=2e-3)
    mass = stats.cauchy.cdf(encoded[[0, -1], 0])
    np.testing.assert_allclose(
        integrate.trapezoid(density, grid[:, 0]), np.diff(mass)[0], atol=1e-4
    )
    assert encoded[-1] < 8 + np.log(grid[-1]) + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_decoded_values_beyond_the_largest_number_are_this_number_without_a_warning(dtype):
    """A sample of a column near the end of its type is no reason for a warning."""
    largest = np.finfo(dtype).max
    X = largest * np.array([[1.0], [-1.0], [0.5], [0.1]], dtype)
    decoded = fit(X).inverse_transform(np.array([[3.0], [-3.0]], dtype))

    np.testing.assert_array_equal(decoded, [[largest], [-largest]])


# -- density -----------------------------------------------------------------------------


def test_log_abs_det_jacobian_is_the_change_of_variables(rng):
    """A normal density in the model's units plus log|det| is the normal density of X."""
    X = rng.standard_normal((40, 3)) * [1e-3, 1.0, 1e5] + [0, 50, -1e6]
    columns = fit(X)
    expected = stats.norm(X.mean(axis=0), X.std(axis=0)).logpdf(X).sum(axis=1)
    inside = stats.norm.logpdf(columns.transform(X)).sum(axis=1)

    np.testing.assert_allclose(inside + columns.log_abs_det_jacobian(X), expected, rtol=1e-9)


@pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (np.float64, np.float32)])
def test_values_are_equal_up_to_the_rounding_of_the_coarser_precision(dtypes):
    """A value that is further away is unseen."""
    before, now = dtypes
    X = np.resize([0.1, 0.3], (20, 1))
    columns = fit(X.astype(before))
    cost = columns.log_abs_det_jacobian(
        (X * (1 + 5e-7)).astype(now)
    ) - columns.log_abs_det_jacobian(X.astype(now))

    np.testing.assert_allclose(columns.log_abs_det_jacobian(X.astype(now)), np.log(21 / 22))
    np.testing.assert_allclose(cost, -np.log(21))


# -- requests -----------------------------------------------------------------------------

NAMES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("likelihood", ["gaussian", Gaussian(), Gaussian("per_column")])
def test_one_likelihood_holds_for_all_columns(likelihood, mixed):
    """Binary columns too, if the user requests it."""
    kind = Gaussian() if likelihood == "gaussian" else likelihood

    assert fit(mixed, likelihood).likelihoods == [None, *[kind] * 4]


@pytest.mark.parametrize(
    "likelihood",
    [
        ["auto", Gaussian("per_column"), "gaussian", "auto", Bernoulli()],
        ("auto", Gaussian("per_column"), "gaussian", "auto", "bernoulli"),
        {"b": Gaussian("per_column"), "c": "gaussian"},
        {1: Gaussian("per_column"), 2: "gaussian", 4: "bernoulli"},
        {"b": Gaussian("per_column"), 2: "gaussian", "d": "auto"},
    ],
    ids=["list", "tuple", "names", "numbers", "both"],
)
def test_a_list_or_a_dict_sets_the_likelihood_by_column(likelihood, mixed):
    """Columns that a dict does not name are inferred."""
    expected = [None, Gaussian("per_column"), Gaussian(), Gaussian(), Bernoulli()]

    assert fit(mixed, likelihood, names=NAMES).likelihoods == expected


@pytest.mark.parametrize("value", ["gausian", "", 3, None, Gaussian, 1.0])
def test_an_unknown_likelihood_is_refused(value, mixed):
    """The message holds the value, its column, and what is allowed, in a list or alone."""
    for likelihood in (value, [value] * 5, {0: value}):
        with pytest.raises(ValueError, match=r"must be 'auto', one of \['bernoulli', 'cat") as e:
            fit(mixed, likelihood)

        where = "" if likelihood is value else " for column 0"
        assert str(e.value).endswith(f"Got {value!r}{where} instead.")


@pytest.mark.parametrize("key", ["f", 5, -1, 1.5])
def test_a_dict_that_names_no_column_is_refused(key, mixed):
    """A typing error in a column's name would silently leave it to 'auto'."""
    with pytest.raises(ValueError, match="is no column of X; its columns are") as e:
        fit(mixed, {"a": "auto", key: "gaussian"}, names=NAMES)

    assert repr(key) in str(e.value)
    assert str(NAMES)[1:-1] in str(e.value)


@pytest.mark.parametrize("likelihood", ["auto", "gaussian", {0: "bernoulli", 2: "auto"}])
def test_the_fitted_likelihoods_may_be_requested(likelihood):
    """By name, by column or as "auto"; a constant column agrees with any request."""
    X = np.column_stack([np.full(20, 3.0), np.arange(20), -(np.arange(20) ** 2)])

    check_requested_likelihoods(fit(X), likelihood)


def test_a_request_for_another_likelihood_than_the_fitted_one_is_refused(mixed):
    """partial_fit keeps the likelihoods of the first fit."""
    with pytest.raises(ValueError, match=r"must be Bernoulli\(\) or 'auto' for column 'c'") as e:
        check_requested_likelihoods(fit(mixed, names=NAMES), "gaussian")

    assert "Got Gaussian instead" in str(e.value)


# -- table -------------------------------------------------------------------------------


def test_columns_print_as_a_table(mixed):
    """print(vae.columns_) lists names and likelihoods."""
    names = ["id", "height", "sex", "t", "smokes"]
    expected = [
        "id      constant",
        "height  Gaussian(scale='per_row')",
        "sex     Bernoulli()",
        "t       Gaussian(scale='per_column')",
        "smokes  Bernoulli()",
    ]

    columns = fit(mixed, {"t": Gaussian("per_column")}, names=names)

    assert str(columns).splitlines() == expected
    assert repr(columns) == str(columns)
    assert "<tr><td>sex</td><td>Bernoulli()</td></tr>" in columns._repr_html_()


def test_means_of_a_column_of_few_values_lie_between_them(rng):
    """No row trains the mean of other numbers, which may be anywhere."""
    X = rng.integers(1, 6, size=(300, 1)).astype(float)
    columns = fit(X, ZeroInflated(5))
    probability = np.array([0.1, 0.2, 0.4, 0.2, 0.099])
    encoded = np.append(probability, -1000.0)  # the rest, a thousandth, is at -1000

    decoded = columns.inverse_transform(encoded[None])

    expected = probability @ np.arange(1, 6) / probability.sum()
    assert decoded.item() == pytest.approx(expected, abs=0.02)  # a mean of normal scores
