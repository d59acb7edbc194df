"""The border: what columns are, their units, what a row's units weigh, and messages."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from scipy import stats
from sklearn.preprocessing import StandardScaler

from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.data.infer import FEWEST_ROWS_FOR_BINARY
from sklearn_vae.likelihoods import Bernoulli, Gaussian


def learn(X, likelihood="auto", weight=None, names=None):
    """What the columns of X are."""
    return TableEncoder.fit(X, weight, likelihood, names)


@pytest.fixture
def mixed(rng):
    """A constant, a real, a binary (3 and 7), another real and a 0/1 column: (30, 5)."""
    X = rng.standard_normal((30, 5))
    X[:, 0] = 2.5
    X[:, 2] = np.where(X[:, 2] > 0, 7.0, 3.0)
    X[:, 3] = 100 + 0.01 * X[:, 3]
    X[:, 4] = X[:, 4] > 0
    return X


# -- kinds -------------------------------------------------------------------------------


def test_kinds_are_found(mixed):
    """likelihood='auto' takes two values as binary, more as real, one as constant."""
    assert learn(mixed).likelihoods == [None, Gaussian(), Bernoulli(), Gaussian(), Bernoulli()]
    assert learn(mixed).is_constant.tolist() == [True, False, False, False, False]
    assert learn(mixed).is_binary.tolist() == [False, False, True, False, True]


def test_columns_of_one_kind_stand_side_by_side(mixed):
    """The model computes a block at a time."""
    columns = learn(mixed, ["auto", "auto", "auto", Gaussian("per_column"), "auto"])

    assert columns.order.tolist() == [1, 2, 4, 3]
    assert columns.blocks == ((Gaussian(), 1), (Bernoulli(), 2), (Gaussian("per_column"), 1))


def test_counts_are_real():
    """Three values are not two."""
    X = np.array([[0.0], [1.0], [2.0]] * 5)

    assert learn(X).likelihoods == [Gaussian()]


@pytest.mark.parametrize(
    ("values", "n_rows", "kind"),
    [
        ((3.0, 7.0), FEWEST_ROWS_FOR_BINARY - 1, Gaussian()),
        ((3.0, 7.0), FEWEST_ROWS_FOR_BINARY, Bernoulli()),
        ((0.0, 1.0), 2, Bernoulli()),
    ],
)
def test_a_small_table_does_not_show_that_two_values_are_all(values, n_rows, kind):
    """Two rows always have two values; only 0 and 1 speak for themselves."""
    assert learn(np.resize(values, (n_rows, 1))).likelihoods == [kind]


def test_the_rows_that_show_two_values_are_counted_by_weight():
    """Six rows of weight 2 are twelve rows."""
    X = np.resize([3.0, 7.0], (6, 1))

    assert (
        learn(X, weight=np.full(6, 2.0)).likelihoods == learn(np.repeat(X, 2, axis=0)).likelihoods
    )
    assert learn(X, weight=np.full(6, 1.0)).likelihoods == learn(X).likelihoods == [Gaussian()]


def test_weights_that_sum_to_the_rows_but_for_rounding_show_as_much():
    """weight / weight.mean() sums to 9.999999999999998 or so."""
    X = np.resize([3.0, 7.0], (10, 1))

    assert learn(X, weight=np.full(10, np.nextafter(1, 0))).likelihoods == [Bernoulli()]


@pytest.mark.parametrize("value", [0.0, -3.5, 1e300, 5e-324])
def test_one_value_is_a_constant_whatever_is_wished(value):
    """Its scale is 0: neither Gaussian nor Bernoulli has anything to say of it."""
    X = np.full((12, 1), value)

    for likelihood in ("auto", "gaussian", "bernoulli"):
        assert learn(X, likelihood).likelihoods == [None]
    assert learn(X).blocks == ((Gaussian(), 0),)
    assert learn(X).transform(X).shape == (12, 0)
    assert learn(X).inverse_transform(np.empty((12, 0))).tolist() == X.tolist()


def test_values_that_differ_by_rounding_alone_are_one_value():
    """A column of 0.1 + 0.2 and 0.3 says nothing."""
    X = np.array([[0.3], [0.1 + 0.2]] * 6)

    assert learn(X).likelihoods == [None]


# -- units -------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_real_columns_are_standardised(weighted, mixed, rng):
    """As scikit-learn's StandardScaler does it, weights included."""
    weight = rng.uniform(0.5, 2, len(mixed)) if weighted else None
    expected = StandardScaler().fit_transform(mixed[:, [1, 3]], sample_weight=weight)

    np.testing.assert_allclose(
        learn(mixed, weight=weight).transform(mixed)[:, :2], expected, atol=1e-9
    )


def test_binary_columns_are_coded_0_and_1(mixed):
    """Whatever their two values are."""
    expected = np.column_stack([mixed[:, 2] == 7, mixed[:, 4] == 1])

    np.testing.assert_array_equal(learn(mixed).transform(mixed)[:, 2:], expected)


def test_a_value_that_a_binary_column_never_had_is_taken_for_the_nearer_one(mixed):
    """A Bernoulli knows nothing between 0 and 1; what such a value costs is told elsewhere."""
    X = mixed[:5].copy()
    X[:, 2] = [-100.0, 4.9, 5.1, 7.5, 1e300]

    assert learn(mixed).transform(X)[:, 2].tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_encoding_keeps_the_type_and_the_table(dtype, mixed):
    """What came in as float32 is computed in float32, and X is the user's."""
    X = mixed.astype(dtype)
    before = X.copy()
    columns = learn(X)

    assert columns.transform(X).dtype == dtype
    assert columns.inverse_transform(columns.transform(X)).dtype == dtype
    np.testing.assert_array_equal(X, before)


TINY = 5e-324  # the smallest subnormal number


@pytest.mark.parametrize(
    ("scale", "offset", "rtol"),
    [
        (1.0, 0.0, 1e-14),
        (1e300, 0.0, 1e-14),
        (1e-300, 0.0, 1e-14),
        (1.0, 1e8, 1e-15),
        (1e-8, 1e8, 1e-15),
        (1e200, -1e203, 1e-15),
        (1e-310, 0.0, 1e-12),
        (30 * TINY, 0.0, 0.0),
    ],
)
def test_a_round_trip_gives_the_row_back_in_any_unit(scale, offset, rtol, rng):
    """One table may hold metres beside light years; no square may overflow."""
    X = np.column_stack(
        [rng.standard_normal(50), offset + scale * rng.standard_normal(50), rng.standard_normal(50)]
    )
    columns = learn(X)
    again = columns.inverse_transform(columns.transform(X))
    # next to the largest value of its column
    tolerance = rtol * np.abs(X).max(axis=0)

    assert (np.abs(again - X) <= tolerance + 1e-14 * np.array([1, 0, 1])).all()


def test_huge_beside_tiny_units_are_standardised_all_the_same(rng):
    """1e300 and 1e-300 in one table are, in units of their own, the same numbers."""
    x = rng.standard_normal((50, 1))
    X = x * np.array([1.0, 2.0**1000, 2.0**-1000])
    encoded = learn(X).transform(X)

    np.testing.assert_array_equal(encoded[:, [0]], encoded[:, [1]])
    np.testing.assert_array_equal(encoded[:, [0]], encoded[:, [2]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_far_out_stay_finite_when_squared(dtype, rng):
    """A new row may be anything that validation lets through."""
    X = rng.standard_normal((20, 3)).astype(dtype)
    far = np.full((1, 3), np.finfo(dtype).max, dtype)
    encoded = learn(X).transform(np.vstack([far, -far]))

    assert np.isfinite(np.square(encoded)).all()
    assert (encoded[0] > 1e13).all()
    assert (encoded[1] < -1e13).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_beyond_the_largest_number_are_silently_infinite(dtype):
    """A sample of a column near the end of its type is no reason for a warning."""
    X = np.finfo(dtype).max * np.array([[1.0], [-1.0], [0.5], [0.1]], dtype)

    assert np.isposinf(learn(X).inverse_transform(np.array([[3.0]], dtype))).all()


# -- density -----------------------------------------------------------------------------


def test_log_measure_is_the_change_of_variables(rng):
    """A normal density in the model's units plus log|det| is the normal density of X."""
    X = rng.standard_normal((40, 3)) * [1e-3, 1.0, 1e5] + [0, 50, -1e6]
    columns = learn(X)
    expected = stats.norm(X.mean(axis=0), X.std(axis=0)).logpdf(X).sum(axis=1)
    inside = stats.norm.logpdf(columns.transform(X)).sum(axis=1)

    np.testing.assert_allclose(inside + columns.log_abs_det_jacobian(X), expected, rtol=1e-9)


@pytest.mark.parametrize("exponent", [-1000, -3, 1000])
def test_other_units_move_the_log_density_by_their_log(exponent, rng):
    """A density per metre is 1/1000 of the density per kilometre, at 1e-300 too."""
    X = rng.standard_normal((40, 2))
    other = X * np.array([1.0, 2.0**exponent])
    expected = learn(X).log_abs_det_jacobian(X) - exponent * np.log(2)

    np.testing.assert_allclose(learn(other).log_abs_det_jacobian(other), expected, rtol=1e-12)


def test_binary_columns_count_as_probabilities(mixed):
    """They have no units, and keep a little for values that they never had."""
    expected = learn(mixed[:, [1, 3]]).log_abs_det_jacobian(mixed[:, [1, 3]]) + 2 * np.log(31 / 32)

    np.testing.assert_allclose(learn(mixed[:, 1:]).log_abs_det_jacobian(mixed[:, 1:]), expected)


@pytest.mark.parametrize("weight", [None, np.full(30, 2.5)])
def test_a_constant_column_says_its_value_by_the_rule_of_succession(weight, mixed):
    """After n rows of one value, the next has it with probability (n + 1) / (n + 2)."""
    n_rows = 30 if weight is None else 75
    rest = learn(mixed[:, 1:], weight=weight).log_abs_det_jacobian(mixed[:, 1:])
    seen = learn(mixed, weight=weight).log_abs_det_jacobian(mixed)
    other = mixed + np.array([1e-3, 0, 0, 0, 0])
    unseen = learn(mixed, weight=weight).log_abs_det_jacobian(other)

    np.testing.assert_allclose(seen - rest, np.log((n_rows + 1) / (n_rows + 2)), rtol=1e-6)
    np.testing.assert_allclose(unseen - rest, np.log(1 / (n_rows + 2)), rtol=1e-6)


@pytest.mark.parametrize("value", [5.0, 3.0001, -7.0, 0.0, 1e300])
def test_a_value_that_a_binary_column_never_had_has_probability_1_in_n_plus_2(value, mixed):
    """An unseen value is unlikely, not impossible, and never as good as a seen one."""
    other = mixed.copy()
    other[:, 2] = value
    columns = learn(mixed)
    cost = columns.log_abs_det_jacobian(mixed) - columns.log_abs_det_jacobian(other)

    np.testing.assert_allclose(cost, np.log(31 / 32) - np.log(1 / 32), rtol=1e-9)


def test_values_are_known_again_in_single_precision(mixed):
    """A float32 copy of the training rows has no unseen values."""
    X = mixed.copy()
    X[:, 2] = np.where(X[:, 2] == 7, 0.3, 0.1)
    X[:, 0] = 0.7
    columns = learn(X)

    np.testing.assert_allclose(
        columns.log_abs_det_jacobian(X.astype(np.float32)),
        columns.log_abs_det_jacobian(X),
        rtol=1e-12,
    )


@pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (np.float64, np.float32)])
def test_only_the_coarser_of_two_precisions_blurs_what_is_known(dtypes):
    """A copy in single precision is known; what is more than a rounding away is not."""
    before, now = dtypes
    X = np.resize([0.1, 0.3], (20, 1))
    columns = learn(X.astype(before))
    cost = columns.log_abs_det_jacobian(
        (X * (1 + 5e-7)).astype(now)
    ) - columns.log_abs_det_jacobian(X.astype(now))

    np.testing.assert_allclose(columns.log_abs_det_jacobian(X.astype(now)), np.log(21 / 22))
    np.testing.assert_allclose(cost, -np.log(21))


@pytest.mark.parametrize("other", [500.0, 1.0, 1e-3])
def test_large_numbers_are_told_apart_as_well_as_small_ones(other):
    """A time stamp 500 seconds later is another one."""
    X = np.full((20, 1), 1.7e9)
    columns = learn(X)

    np.testing.assert_allclose(columns.log_abs_det_jacobian(X + other), -np.log(22))


def test_values_between_those_of_a_binary_column_are_unknown_however_near_these_are():
    """Single precision blurs more than the distance of the two values, but not all of it."""
    X = np.resize([1.7e9, 1.7e9 + 4], (20, 1))
    columns = learn(X)

    np.testing.assert_allclose(columns.log_abs_det_jacobian(X), np.log(21 / 22))
    np.testing.assert_allclose(
        columns.log_abs_det_jacobian(X.astype(np.float32) + 256), -np.log(22)
    )
    np.testing.assert_allclose(columns.log_abs_det_jacobian(X + 2), -np.log(22))


# -- wishes ------------------------------------------------------------------------------

NAMES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("likelihood", "kind"),
    [
        ("gaussian", Gaussian()),
        (Gaussian(), Gaussian()),
        (Gaussian("per_column"), Gaussian("per_column")),
    ],
)
def test_one_likelihood_serves_all_columns(likelihood, kind, mixed):
    """Binary columns too, if the user says so."""
    assert learn(mixed, likelihood).likelihoods == [None, *[kind] * 4]


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
def test_a_list_or_a_dict_gives_each_column_its_own(likelihood, mixed):
    """Columns that a dict does not name are found out."""
    expected = [None, Gaussian("per_column"), Gaussian(), Gaussian(), Bernoulli()]

    assert learn(mixed, likelihood, names=NAMES).likelihoods == expected


@pytest.mark.parametrize("wish", ["gausian", "", 3, None, Gaussian, 1.0])
def test_an_unknown_likelihood_is_refused(wish, mixed):
    """The message holds the value and what is allowed, in a list or alone."""
    for likelihood in (wish, [wish] * 5, {0: wish}):
        with pytest.raises(ValueError, match=r"must be 'auto', one of \['bernoulli', 'cat") as e:
            learn(mixed, likelihood)

        assert repr(wish) in str(e.value)


@pytest.mark.parametrize("likelihood", [[], ["auto"] * 4, ["auto"] * 6])
def test_a_list_of_another_length_is_refused(likelihood, mixed):
    """One likelihood per column, or the reader cannot know which is whose."""
    with pytest.raises(ValueError, match=f"list of {len(likelihood)}, but X has 5 columns"):
        learn(mixed, likelihood)


@pytest.mark.parametrize("key", ["f", 5, -1, 1.5, True])
def test_a_dict_that_names_no_column_is_refused(key, mixed):
    """A typing error in a column's name would silently leave it to 'auto'."""
    with pytest.raises(ValueError, match="is no column of X; its columns are") as e:
        learn(mixed, {"a": "auto", key: "gaussian"}, names=NAMES)

    assert repr(key) in str(e.value)
    assert str(NAMES) in str(e.value)


@pytest.mark.parametrize("key", ["column 1", 5, True])
def test_columns_without_names_are_listed_by_the_numbers_that_a_dict_may_hold(key, mixed):
    """What the message offers is what works."""
    with pytest.raises(ValueError, match=r"its columns are \[0, 1, 2, 3, 4\]"):
        learn(mixed, {key: "gaussian"})


@pytest.mark.parametrize(("names", "said"), [(None, "column 1"), (NAMES, "column 'b'")])
def test_bernoulli_for_more_than_two_values_is_refused(names, said, mixed):
    """The message names the column, values that it has and what to use instead."""
    X = mixed.copy()
    X[:, 1] = np.resize([0.0, 4.0, 9.0], 30)

    with pytest.raises(ValueError, match=rf"needs {said} to have two values") as e:
        learn(X, "bernoulli", names=names)

    assert "it has 0.0, 4.0 and 9.0; use 'gaussian' or 'auto'" in str(e.value)


@pytest.mark.parametrize("likelihood", ["auto", "gaussian", {0: "bernoulli", 2: "auto"}])
def test_what_the_columns_are_may_be_asked_for_again(likelihood):
    """In any words; a constant column is what it is."""
    X = np.column_stack([np.full(20, 3.0), np.arange(20), np.arange(20) ** 2])

    learn(X).check_requested_likelihoods(likelihood)


def test_other_likelihoods_than_the_columns_have_are_refused(mixed):
    """A model that goes on cannot turn a column into another."""
    with pytest.raises(ValueError, match=r"must be Bernoulli\(\) or 'auto' for column 'c'") as e:
        learn(mixed, names=NAMES).check_requested_likelihoods("gaussian")

    assert "Got Gaussian instead" in str(e.value)


# -- table -------------------------------------------------------------------------------


def test_columns_print_as_a_table(mixed):
    """print(vae.columns_) answers what the model took the columns for."""
    names = ["id", "height", "sex", "t", "smokes"]
    expected = [
        "id      constant",
        "height  Gaussian(scale='per_row')",
        "sex     Bernoulli()",
        "t       Gaussian(scale='per_column')",
        "smokes  Bernoulli()",
    ]

    columns = learn(mixed, {"t": Gaussian("per_column")}, names=names)

    assert str(columns).splitlines() == expected
    assert repr(columns) == str(columns)


def test_a_notebook_shows_the_same_table(mixed):
    """As HTML, in which a name like "a<b" is text."""
    columns = learn(mixed, names=["a<b", "b", "c", "d", "e"])
    rows = [[cell.text for cell in row] for row in ET.fromstring(columns._repr_html_())]

    assert rows[0] == ["a<b", "constant"]
    assert rows == [line.split(maxsplit=1) for line in repr(columns).splitlines()]


def test_columns_without_names_are_numbered(mixed):
    """As they are in X, from 0."""
    assert learn(mixed).names == [0, 1, 2, 3, 4]
    assert str(learn(mixed)).startswith("column 0  constant\ncolumn 1  Gaussian")
