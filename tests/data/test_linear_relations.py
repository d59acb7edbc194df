"""Columns that follow from others by an equation: totals, products, changes of units."""

import re

import numpy as np
import pytest
from scipy.stats import ks_2samp, norm

from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from sklearn_vae.data.find_linear_relations import find_linear_relations
from sklearn_vae.data.fit import fit_encoder
from tests.conftest import assert_file_agrees, decode_samples, reread, slow

pd = pytest.importorskip("pandas")

N_ROWS = 300


@pytest.fixture(scope="module")
def table():
    """Cents, whole numbers, a class, a total of cents and a product."""
    rng = np.random.default_rng(0)
    v = rng.normal(size=N_ROWS)
    table = pd.DataFrame(
        {
            "net": np.exp(3 + 0.5 * v + 0.3 * rng.normal(size=N_ROWS)).round(2),
            "tax": np.exp(1 + 0.4 * rng.normal(size=N_ROWS)).round(2),
            "pieces": 1 + rng.poisson(4, N_ROWS),
            "shop": rng.choice(list("xyz"), N_ROWS),
        }
    )
    table["gross"] = (table.net + table.tax).round(2)
    table["weight"] = (table.pieces * (0.5 + rng.random(N_ROWS)).round(1)).round(1)
    table["each"] = (table.weight / table.pieces).round(1)
    return table


def fit(model, X):
    return model(2, hidden_layer_sizes=(8,), random_state=0, max_iter=2).fit(X)


@pytest.fixture(scope="module", params=[VAETransformer, *slow(VAEDensity)])
def fitted(request, table):
    return fit(request.param, table)


def is_total(table):
    """Rows in which the total is that of its parts, up to the last digit."""
    return np.abs(table.net + table.tax - table.gross) < 1e-9


def is_product(table):
    """Rows in which the weight is that of all pieces, up to the last digit."""
    return np.abs(table.pieces * table.each - table.weight) < 1e-9


def derived(X):
    X = np.asarray(X, dtype=float)
    return {
        relation.derived: dict(
            zip(relation.sources.tolist(), relation.coefficients.tolist(), strict=True)
        )
        for relation in find_linear_relations(X, [*range(X.shape[1])], np.ones(len(X)))
    }


@pytest.mark.parametrize(
    ("sign", "derives"), [(1, {2: {0: 1.0, 1: 1.0}}), (-1, {2: {0: 1.0, 1: -1.0}})]
)
def test_totals_and_differences_are_found(sign, derives, rng):
    """Whatever the order of the columns, beside others, with holes, in single precision."""
    a, b, c = rng.normal(size=(3, 200)).astype(np.float32)
    b = 0.5 * b
    X = np.column_stack([a, b, a + np.float32(sign) * b, c])

    assert derived(X) == derives
    assert derived(X[:, ::-1]) == {1: {2: float(sign), 3: 1.0}}
    assert derived(1e6 * X) == derives
    X[::7, 0], X[1::7, 2] = np.nan, np.nan
    assert derived(X) == derives


def test_products_and_changes_of_units_are_found(rng):
    """Rounded ones, too: degrees of one scale from those of the other, amounts from prices."""
    celsius = rng.normal(15, 8, 300).round(1)
    price, pieces = np.exp(rng.normal(size=300)).round(2) + 0.01, 1.0 + rng.poisson(5, 300)
    X = np.column_stack([celsius, (1.8 * celsius + 32).round(1), price, pieces, price * pieces])
    amount, fahrenheit = find_linear_relations(X, [*range(5)], np.ones(len(X)))

    assert (fahrenheit.derived, fahrenheit.sources.tolist(), fahrenheit.is_log) == (1, [0], False)
    assert fahrenheit.coefficients == 1.8
    assert fahrenheit.intercept == 32
    assert (amount.derived, sorted(amount.sources), amount.is_log) == (4, [2, 3], True)
    np.testing.assert_array_equal(amount.coefficients, [1, 1])
    assert amount.intercept == 0


@pytest.mark.parametrize("model", [VAETransformer, *slow(VAEDensity)])
def test_products_with_zeros(model):
    """As of an order of no pieces: the product is 0, which tells nothing of the price."""
    rng = np.random.default_rng(0)
    price, pieces = np.exp(rng.normal(3, 0.5, 300)).round(2), rng.poisson(1.5, 300)
    X = np.column_stack([price, pieces, (price * pieces).round(2), rng.normal(size=300)])
    fitted = fit(model, X)
    assert derived(X) == {2: {0: 1, 1: 1}}
    sample = fitted.sample(500, random_state=0)
    assert (np.abs(sample[:, 0] * sample[:, 1] - sample[:, 2]) < 0.0051).all()
    assert 0.1 < (sample[:, 2] == 0).mean() < 0.4

    nan = np.nan
    rows = [[3.5, 2, 7], [3.5, 0, 0], [nan, 0, 0], [nan, 0, nan], [3.5, 0, 1], [3.5, nan, 0]]
    rows = np.column_stack([rows, np.zeros(len(rows))])
    scores, filled = fitted.score_samples(rows), fitted.impute(rows)
    assert scores[2] == pytest.approx(scores[3] - np.log(0.01), abs=0.01)
    assert scores[4] < scores[:3].min() - 8
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(filled[2:4, 1:3], 0)
    assert (filled[2:4, 0] > 5).all()
    assert filled[5, 1] == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_payroll(seed):
    """A rounded rate is derived, not the salary; a product has the rate, not the salary near it."""
    rng = np.random.default_rng(seed)
    salary = (rng.normal(3200, 600, 300) / 10).round() * 10
    rate = (salary / 128).round(2)
    hours = np.where(rng.random(300) < 0.6, 0, rng.integers(1, 60, 300) * 0.25)
    overtime = (hours * rate).round(2)
    X = np.column_stack([salary, rate, hours, overtime, (salary + overtime).round(2)])

    assert derived(X) == {1: {0: 1 / 128}, 3: {1: 1, 2: 1}, 4: {0: 1, 3: 1}}


def test_a_balance_far_above_zero(rng):
    """It would be negative only if the least of one part met the most of another."""
    before = rng.normal(1000, 300, 300).clip(200).round(2)
    paid_in = np.exp(rng.normal(5, 1, 300)).round(2)
    paid_out = (paid_in * rng.random(300)).round(2)
    X = np.column_stack([before, paid_in, paid_out, (before + paid_in - paid_out).round(2)])
    sample = fit(VAETransformer, X).sample(1000, random_state=0)

    assert derived(X) == {3: {0: 1, 1: 1, 2: -1}}
    np.testing.assert_allclose(sample[:, :3] @ [1, 1, -1], sample[:, 3], atol=1e-9)
    assert (sample[:, 3] >= 0).all()


def shares(rng):
    """Parts of a whole, of which two may be more than it."""
    parts = rng.dirichlet([3, 2, 1], 400).round(3)
    parts[:, 0] = (1 - parts[:, 1:].sum(axis=1)).round(3)
    return parts, [1, 1, 1], 1


def balances(rng):
    """Before, paid in, paid out, after: near 0, so that others may be negative."""
    a, b = np.exp(rng.normal(4, 1, (2, 400))).round(2)
    paid_out = ((a + b) * rng.beta(4, 2, 400)).round(2)
    return np.column_stack([a, b, paid_out, (a + b - paid_out).round(2)]), [1, 1, -1, -1], 0


@pytest.mark.parametrize("model", [VAETransformer, *slow(VAEDensity)])
@pytest.mark.parametrize("make", [shares, balances])
def test_derived_values_keep_their_sign(make, model):
    """Samples and imputations change the parts where the equation alone would give others."""
    rng = np.random.default_rng(0)
    X, coefficients, total = make(rng)
    fitted = fit(model, X)
    sample = fitted.sample(1000, random_state=0)
    holed = np.where(rng.random(X.shape) < 0.4, np.nan, X)

    assert len(derived(X)) == 1
    for table in (sample, fitted.impute(holed), *fitted.impute(holed, n_imputations=2)):
        np.testing.assert_allclose(table @ coefficients, total, atol=0.0051)  # of rounded means
        assert (table >= 0).all()
    np.testing.assert_allclose(sample @ coefficients, total, atol=1e-9)
    low = np.quantile(X, 0.1, axis=0)
    assert (np.abs((sample < low).mean(axis=0) - 0.1) < 0.08).all()


@pytest.mark.parametrize("model", [VAETransformer, *slow(VAEDensity)])
def test_samples_of_derived_values_are_none_that_are_far_from_all(model, rng):
    """Of a turnout in percent: as of other columns, within a step of the values in fit."""
    registered = np.exp(rng.normal(7, 1, 300)).round() + 50
    votes = rng.binomial(registered.astype(int), rng.beta(6, 1.5, 300).clip(0.2, 0.98))
    X = np.column_stack([registered, votes, (100 * votes / registered).round(2)])
    estimator = model(random_state=0).fit(X)
    samples = estimator.sample(2000)
    (relation,) = estimator.columns_.linear_relations

    assert relation.derived == 2
    assert np.abs(samples[:, 2] - 100 * samples[:, 1] / samples[:, 0]).max() < 0.0051
    assert samples[:, 2].min() >= X[:, 2].min() - 0.011
    assert samples[:, 2].max() <= X[:, 2].max() + 0.011
    assert np.std(samples[:, 2]) > 0.8 * np.std(X[:, 2])


def test_a_small_movement_between_two_large_stocks_is_not_derived(rng):
    """As their difference, it would have the errors of both."""
    before = rng.poisson(np.exp(rng.normal(3.5, 0.8, 600)))
    received = np.where(rng.random(600) < 0.6, 0, rng.choice([10, 20, 50, 100], 600))
    sold = np.minimum(rng.poisson(12, 600), before + received)
    X = np.column_stack([before, received, sold, before + received - sold]).astype(float)
    sample = fit(VAETransformer, X).sample(1000, random_state=0)

    assert derived(X).keys() <= {0, 3}
    np.testing.assert_array_equal(sample[:, :2].sum(axis=1), sample[:, 2:].sum(axis=1))
    assert ks_2samp(sample[:, 2], sold).statistic < 0.08


def test_a_rounded_change_of_units_is_derived_and_not_its_source(rng):
    """Rounded multiples leave gaps between values, which are no point masses."""
    pounds, inches = rng.normal(150, 30, 500).round(), rng.normal(70, 3, 500).round(1)

    assert derived(np.column_stack([pounds, (pounds * 0.4536).round(1)])).keys() == {1}
    assert derived(np.column_stack([inches, (inches * 2.54).round(1)])).keys() == {1}


def test_round_payments_are_not_derived(rng):
    """Of bill, tip and payment the bill is, as the others have common values."""
    bill = rng.gamma(4, 8, 600).round(2)
    paid = np.where(rng.random(600) < 0.6, 5 * np.ceil(bill / 5), bill)
    X = np.column_stack([bill, (paid - bill).round(2), paid])

    assert derived(X).keys() == {0}


def test_ratios_are_derived_from_what_is_coarser(rng):
    area = np.exp(rng.normal(4.5, 0.4, 400)).round()
    price = 1000 * np.exp(rng.normal(5.6, 0.5, 400)).round()

    assert derived(np.column_stack([area, price, (price / area).round()])).keys() == {2}


@pytest.mark.parametrize("has_zeros", [False, True])
def test_ratios_to_zero_are_finite(has_zeros, rng):
    """A rate of 0 where no hours were worked is an exception; later rows may have it."""
    hours = rng.gamma(3, size=200).round(1) + 0.1
    hours[:60] *= not has_zeros
    total = rng.gamma(3, 20, size=200).round(2)
    X = np.column_stack([total, hours, np.divide(total, hours, out=0 * hours, where=hours > 0)])
    new = [[50, 0, np.nan], [50, 2, np.nan]]
    imputed = fit(VAETransformer, X).impute(new)[:, 2]

    assert bool(derived(X)) != has_zeros
    assert (imputed >= 0).all()
    assert (imputed <= X[:, 2].max()).all()


def test_rates_are_derived_from_counts(rng):
    """As a share of many, recorded more finely than whole numbers of them tell."""
    sessions = np.exp(rng.normal(7, 0.3, 300)).round()
    bounces = rng.binomial(sessions.astype(int), 0.45)

    assert derived(np.column_stack([sessions, bounces, (100 * bounces / sessions).round(2)])) == {
        2: {0: -1, 1: 1}
    }


def test_amounts_that_rounding_would_break_are_not_derived(rng):
    """Net follows from pieces and price, not from gross: a cent of it is more than one of gross."""
    price, pieces = np.exp(rng.normal(3, 0.7, 400)).round(2), 1 + rng.poisson(4, 400)
    net = (price * pieces).round(2)
    discount = (net * rng.choice([0, 0.05, 0.1], 400)).round(2)
    gross = (1.19 * (net - discount)).round(2)

    assert derived(np.column_stack([price, pieces, net, discount, gross])) == {
        2: {0: 1, 1: 1},
        4: {2: 1.19, 3: -1.19},
    }


def test_ratios_follow_from_columns_that_are_not_derived(rng):
    """Two columns tell each, though a derived one stands for either."""
    pupils = np.exp(rng.normal(6, 1, 300)).round()
    teachers = (pupils / rng.normal(20, 2, 300)).round(1)
    computers = (pupils * rng.beta(3, 12, 300)).round()
    X = np.column_stack([pupils, teachers, computers, pupils / teachers, computers / pupils])

    assert derived(X) == {3: {0: 1, 1: -1}, 4: {0: -1, 2: 1}}


def test_a_product_beside_a_total_of_it(rng):
    """Net, rate, tax and gross amount: with two rates the logarithm of gross hides the product."""
    net = (5 + np.exp(rng.normal(4, 1, 600))).round(2)
    rate = rng.choice([7.0, 19.0], 600)
    tax = (net * rate / 100).round(2)

    assert derived(np.column_stack([rate, net, tax, (net + tax).round(2)])).keys() == {2, 3}


def test_totals_of_few_values():
    adults, children = np.random.default_rng(0).integers([[1], [0]], [[4], [4]], (2, 400))
    other = np.random.default_rng(1).normal(size=400)

    assert derived(np.column_stack([adults, children, adults + children, other])).keys() == {2}
    assert derived(np.column_stack([adults, children, adults + children])).keys() == {2}


def test_means_of_few_marks(rng):
    """They are halves; a mark that followed from the mean would be beyond its bounds."""
    marks = rng.integers(1, 6, (200, 2)).astype(float)

    assert derived(np.column_stack([marks, marks.mean(axis=1)])) == {2: {0: 0.5, 1: 0.5}}


def test_two_parts_and_their_total_alone(rng):
    a = rng.exponential(1000, 300).round(2)
    b = np.where(rng.random(300) < 0.3, a, rng.exponential(1000, 300).round(2))

    assert fit_encoder(np.column_stack([a, b, a + b]), None, "auto")


def test_no_part_follows_from_its_total():
    """It would take a label of the total's that contradicts the equation."""
    home = np.random.default_rng(0).normal(50, 8, 600).round()
    encoder = fit_encoder(np.column_stack([home, 100 - home]), None, "auto")

    assert encoder.linear_relations
    assert not encoder.many_to_one


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_share_of_a_whole_is_negative(dtype, rng):
    """Neither beside given ones that leave little for the others, nor by rounding errors."""
    X = rng.dirichlet(np.full(5, 0.4), 500)
    X[:, -1] = np.abs(1 - X[:, :-1].sum(axis=1))
    X = X.astype(dtype)
    encoder = fit_encoder(X, None, "auto")
    encoded = rng.permuted(encoder.transform(X), axis=0)
    values = encoder.inverse_transform(encoded)
    holed = np.where(rng.random(X.shape) < 0.4, np.nan, X)
    draws = decode_samples(encoder, encoded)

    assert encoder.linear_relations
    (drawn,) = encoder.complete(holed, values[None], rng)
    for shares in (encoder.complete(holed, values), drawn, draws):
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_two_totals_of_the_same_parts():
    """Each is derived, the sources of the one before the others."""
    a, b, c = np.random.default_rng(0).normal(size=(3, 200))

    assert derived(np.column_stack([a, b, c, a + b, a + b + c])).keys() == {3, 4}


def test_totals_of_derived_columns(rng):
    """An amount of pieces and prices, and its total with shipping: any one missing is known."""
    price, pieces = np.exp(rng.normal(2, 0.5, 400)).round(2), 1.0 + rng.poisson(3, 400)
    amount, shipping = (price * pieces).round(2), rng.choice([0, 3.9, 4.9, 6.9], 400)
    X = np.column_stack([price, pieces, amount, shipping, (amount + shipping).round(2)])
    first, last = find_linear_relations(X, [*range(5)], np.ones(len(X)))
    assert (first.derived, last.derived) == (2, 4)

    model, X = fit(VAEDensity, X), X[:40]
    score, seen = model.score_samples(X), np.log(401 / 402)
    for j in range(5):
        holed = X.copy()
        holed[:, j] = np.nan
        np.testing.assert_allclose(model.impute(holed), X, rtol=1e-12)
        # the density of a cell, 1 / width of a derived one or 1 / slope, is that of the others
        slope = {0: X[:, 2] / X[:, 0], 1: X[:, 2] / X[:, 1]}.get(j, 1.0)
        log_ratio = np.log(0.01) - np.log(slope) - seen * (j in (2, 4))
        np.testing.assert_allclose(model.score_samples(holed), score + log_ratio, atol=1e-9)
    sample = model.sample(300, random_state=0)
    np.testing.assert_allclose(sample[:, 0] * sample[:, 1], sample[:, 2], rtol=1e-12)
    np.testing.assert_allclose(sample[:, 2] + sample[:, 3], sample[:, 4], rtol=1e-12)


def test_a_derived_column_is_a_source(rng):
    """A total of an amount that is a product; and no circle where all follow from all."""
    price, pieces = np.exp(rng.normal(2, 0.5, 400)).round(2), 1.0 + rng.poisson(3, 400)
    amount = (price * pieces).round(2)
    discount = np.where(rng.random(400) < 0.5, 0, (amount * rng.random(400)).round(2))
    X = np.column_stack([price, pieces, amount, discount, (amount - discount).round(2)])
    first, last = find_linear_relations(X, [*range(5)], np.ones(len(X)))

    assert (first.derived, sorted(first.sources)) == (2, [0, 1])
    assert (last.derived, sorted(last.sources)) == (4, [2, 3])
    sample = fit(VAEDensity, X).sample(200, random_state=0)
    np.testing.assert_allclose(sample[:, 2], (sample[:, 0] * sample[:, 1]).round(2), atol=1e-9)
    np.testing.assert_allclose(sample[:, 2] - sample[:, 3], sample[:, 4], atol=1e-9)
    assert derived(np.column_stack([price, 2 * price, 3 * price])).keys() == {1, 2}


@pytest.mark.parametrize("estimator", [VAETransformer, VAEDensity])
def test_two_equations_of_the_same_columns(estimator, rng):
    """Contributions are shares of a total of which they are parts; a total is a product, too."""
    gross = np.exp(rng.normal(8, 0.3, 400)).round(2)
    tax, pension = (gross * rng.uniform(0.1, 0.3, 400)).round(2), (0.05 * gross).round(2)
    care = (0.073 * gross).round(2)
    X = np.column_stack([gross, tax, pension, care, (gross - tax - pension - care).round(2)])
    model, holed = fit(estimator, X), X.copy()
    holed[:, 2] = np.nan
    np.testing.assert_allclose(model.impute(holed), X, atol=1e-9)
    sample = model.sample(200, random_state=0)
    np.testing.assert_allclose(sample[:, 1:].sum(axis=1), sample[:, 0], atol=1e-9)
    for part, share in ((2, 0.05), (3, 0.073)):
        assert np.abs(sample[:, part] - share * sample[:, 0]).max() < 0.00501

    pieces, price = rng.integers(1, 12, 400) * 1.0, np.exp(rng.normal(3, 0.6, 400)).round(2)
    goods = (pieces * price).round(2)
    shipping = np.where(goods > 100, 0, 4.95)
    X = np.column_stack([pieces, price, goods, shipping, (goods + shipping).round(2)])
    assert {key: {*value} for key, value in derived(X).items()} == {2: {0, 1}, 4: {2, 3}}


def test_the_simplest_coefficients_that_hold(rng):
    """Rounding errors neither shift them nor drop a source that tells the last digits."""
    inch, year, month = rng.normal(66, 9, 900).round(), *rng.integers(1, 13, (2, 900)) * 1.0
    for x, factor in ((inch, 2.54), (np.exp(rng.normal(4, 1, 900)).round(2), 1.0847)):
        (found,) = find_linear_relations(
            np.column_stack([x, (factor * x).round(2)]), [0, 1], np.ones(900)
        )
        assert found.coefficients == factor
        assert found.intercept == 0
    assert derived(np.column_stack([1e6 * inch, inch + year, 1e6 * inch + inch + year])) == {
        2: {0: 1.0, 1: 1.0}
    }
    (found,) = find_linear_relations(
        np.column_stack([year, month, 12 * year + month]), [0, 1, 2], np.ones(900)
    )
    assert sorted(found.coefficients) == [1, 12]


@pytest.mark.parametrize("n_rows", [12, 16, *slow(24, 40)])
def test_near_misses_in_few_rows(n_rows):
    """No coefficients are found that hold in these rows only, as most others break them."""
    rng = np.random.default_rng(n_rows)
    for _ in range(5):
        common, noise = 10 * rng.normal(size=(n_rows, 1)), rng.normal(size=(n_rows, 12))
        assert derived(np.rint(common + 0.5 * noise)) == {}
        a, b = rng.integers(0, 100, size=(2, n_rows))
        error = np.eye(n_rows)[3]  # a column that is 0 but in this row would explain it
        assert derived(np.column_stack([a, b, a + b + 586 * error, error])) == {}


def test_steep_powers():
    """A value that halves every year is near a power of the year, of any size."""
    year = np.arange(2000.0, 2021.0)
    for sign in (-1, 1):
        assert derived(np.column_stack([year, 2.0 ** (sign * (year - 2000))])) == {}


@pytest.mark.parametrize("case", ["exceptions", "near", "few rows", "few values", "bounds"])
def test_others_are_not(case, rng):
    """Exceptions, an error beyond rounding, agreement by chance, or samples beyond bounds."""
    a, b = rng.integers(0, 100, size=(2, 200)).astype(float)
    total = a + b
    if case == "exceptions":
        total[17:200:40] += 2
    elif case == "near":
        total += rng.choice([-1, 0, 1], 200)
    elif case == "few rows":
        a, b, total = a[:5], b[:5], total[:5]
    elif case == "few values":
        a, b = a // 50, b // 50
        total = a + b
    X = np.column_stack([a, b, total])
    if case == "bounds":  # shares of a whole, many of which are 0
        X = rng.dirichlet([0.1, 0.1, 0.1], size=200).round(2)

    assert derived(X) == {}


def test_scores_are_those_without_the_columns(fitted, table):
    """But for the steps of the columns, and the probability that a row contradicts none."""
    (_, total), (_, amount) = sorted(
        (relation.is_log, relation) for relation in fitted.columns_.linear_relations
    )
    names = [*table.columns]
    reduced = table.drop(columns=[names[total.derived], names[amount.derived]])
    log_width = np.log(total.width) + np.log(amount.width)
    seen = 2 * np.log((N_ROWS + 1) / (N_ROWS + 2))

    np.testing.assert_allclose(
        fitted.score_samples(table),
        fit(type(fitted), reduced).score_samples(reduced) + seen - log_width,
        rtol=1e-9,
    )
    assert re.search(r"gross +(net \+ tax|tax \+ net)\n", repr(fitted.columns_))


def test_a_missing_part_is_known(fitted, table):
    """Its density is that of the total; a total that is missing adds nothing to its parts'."""
    score, seen = fitted.score_samples(table), np.log((N_ROWS + 1) / (N_ROWS + 2))
    total, amount = sorted(fitted.columns_.linear_relations, key=lambda each: each.is_log)
    source = table.columns[amount.sources[0]]
    derived, x = (table[table.columns[j]].to_numpy() for j in (amount.derived, amount.sources[0]))
    slope = np.abs(amount.coefficients[0]) * derived / x

    np.testing.assert_allclose(
        fitted.score_samples(table.assign(tax=np.nan)), score + np.log(total.width), rtol=1e-9
    )
    np.testing.assert_allclose(
        fitted.score_samples(table.assign(gross=np.nan)),
        score + np.log(total.width) - seen,
        rtol=1e-9,
    )
    # a value that is recorded in steps follows up to its step
    np.testing.assert_allclose(
        fitted.score_samples(table.assign(**{source: np.nan})),
        score + np.log(amount.width) - np.log(slope),
        atol=1e-6,
    )


def test_a_contradiction_is_unseen(fitted, table):
    """Its density is one in n + 2 of a Cauchy density at its distance."""
    wrong = table.assign(gross=table.gross + 1)
    scale = table.gross.std(ddof=0)
    expected = np.log(N_ROWS + 1) - np.log(0.01) + np.log(np.pi * scale * (1 + scale**-2))

    np.testing.assert_allclose(
        fitted.score_samples(table) - fitted.score_samples(wrong), expected, rtol=1e-6
    )


def test_values_between_the_steps_of_an_exact_column_contradict():
    """A percentage of 50 points is even, and an odd one is wrong."""
    points = np.random.default_rng(0).integers(0, 51, size=(200, 1)).astype(float)
    X = np.hstack([points, 2 * points])
    model = fit(VAEDensity, X)

    assert not model.columns_.is_unseen(X).any()
    assert model.columns_.is_unseen(X + [0, 1])[:, model.columns_.linear_relations[0].derived].all()


def test_samples_and_imputations_keep_the_equations(fitted, table):
    """Exactly, on the columns' steps and without negative values."""
    sample = fitted.sample(500, random_state=0)
    assert (is_total(sample) & is_product(sample)).all()
    assert (sample.drop(columns="shop") >= 0).all().all()

    holed = table.mask(np.random.default_rng(1).random(table.shape) < 0.3)
    imputed, known = fitted.impute(holed), holed.notna()
    assert imputed.where(known, table).equals(table.astype(imputed.dtypes))
    # a weight is not always a product of whole pieces and tenths
    has_factors = known[["pieces", "each"]].any(axis=1) | ~known.weight
    for table in (imputed, *fitted.impute(holed, n_imputations=2, random_state=0)):
        assert is_total(table).all()
        assert is_product(table)[has_factors].all()


def test_any_missing_cell_agrees_with_the_others(rng):
    """The finest of several copies says most; rounding errors of the others are none of the row."""
    kg, cm = rng.normal(75, 14, 400).round(1), rng.normal(172, 9, 400).round()
    X = np.column_stack(
        [kg, (kg / 1000).round(3), (2.2 * kg).round(), 2 * kg, cm, (kg / (cm / 100) ** 2).round(1)]
    )
    for columns in ([0, 1, 2, 3], [0, 1, 2, 4, 5]):
        table = X[:, columns]
        model = fit(VAETransformer, table)
        assert len(model.columns_.linear_relations) == 3
        for j in range(table.shape[1]):
            holed = table.copy()
            holed[:, j] = np.nan
            assert not model.columns_.is_unseen(holed).any()
    model = fit(VAETransformer, X[:, :4])
    np.testing.assert_allclose(model.impute(X[:, :4] * [np.nan, 1, 1, 1])[:, 0], kg)


def test_totals_within_totals(rng):
    """Half-years and a year of quarters, of which any are missing."""
    X = np.exp(rng.normal(5, 0.7, (200, 4))).round()
    X = np.column_stack([X, X[:, :2].sum(axis=1), X[:, 2:].sum(axis=1), X.sum(axis=1)])
    model = fit(VAEDensity, X)
    imputed = model.impute(np.where(rng.random(X.shape) < 0.4, np.nan, X))

    # derived totals of means are whole numbers
    np.testing.assert_allclose(imputed[:, :2].sum(axis=1), imputed[:, 4], atol=0.5)
    np.testing.assert_allclose(imputed[:, 2:4].sum(axis=1), imputed[:, 5], atol=0.5)
    np.testing.assert_allclose(imputed[:, :4].sum(axis=1), imputed[:, 6], atol=0.5)


def test_ties_are_rounded_as_by_numpy():
    """Half a cent is rounded to the even one, whatever the smallest value is."""
    hours = np.random.default_rng(0).uniform(5, 9, 200).round(2)
    X = np.column_stack([hours, (15.5 * hours).round(2)])

    np.testing.assert_array_equal(fit(VAEDensity, X).impute(X * [1, np.nan])[:, 1], X[:, 1])


def test_a_known_total_moves_its_parts(rng):
    """Of two normal parts, the mean given the total is that of the normal distribution."""
    a, b = 2 * rng.normal(size=1000), 1.0 * rng.normal(size=1000)
    X = np.column_stack([a, b, a + b])
    imputed = fit(VAEDensity, X).impute([[np.nan, np.nan, 5.0]])

    assert norm.cdf(abs(imputed[0, 0] - 4.0), scale=0.2) < 0.995
    assert imputed.sum() == pytest.approx(10)


@pytest.mark.parametrize("model", [VAETransformer, *slow(VAEDensity)])
def test_a_known_total_tells_columns_that_are_no_parts(model, rng):
    """Given a sum of points, the budget has its conditional distribution, not that of all rows."""
    budget = rng.normal(50, 10, size=N_ROWS)
    home, away = ((budget * 0.5 + rng.normal(size=(2, N_ROWS)) * 4).round(1)) + 20
    X = pd.DataFrame({"budget": budget, "home": home, "away": away})
    X["points"] = (home + away).round(1)
    fitted = fit(model, X)
    of_normal = np.cov(X.T)
    slope = of_normal[0, 3] / of_normal[3, 3]

    for points in (X.points.mean() + 20).round(1), (X.points.mean() - 10).round(1):
        drawn = fitted.sample(500, given={"points": points}, random_state=0)
        expected = X.budget.mean() + slope * (points - X.points.mean())
        spread = np.sqrt(of_normal[0, 0] - slope * of_normal[0, 3])

        assert np.allclose(drawn.home + drawn.away, points)
        assert drawn.budget.mean() == pytest.approx(expected, abs=0.3 * spread)
        assert drawn.budget.std() == pytest.approx(spread, rel=0.2)
        row = drawn.head(1).assign(budget=np.nan, home=np.nan, away=np.nan)
        imputed = fitted.impute(row, n_imputations=100, random_state=0)
        mean = np.mean([table.budget.item() for table in imputed])
        assert mean == pytest.approx(expected, abs=0.3 * spread)


def test_impossible_totals_leave_finite_imputations(fitted, table):
    """A known weight of 0 or less has no logarithm, and its factors are imputed as without it."""
    holed = table.iloc[:3].assign(pieces=np.nan, each=np.nan, net=np.nan, tax=np.nan)
    imputed = fitted.impute(holed.assign(weight=[0.0, -2.5, 1e6], gross=[-5.0, 0.0, 1e9]))

    assert np.isfinite(imputed.drop(columns="shop")).all().all()
    assert (imputed[["pieces", "each", "net", "tax"]] >= 0).all().all()


def test_given_values_are_kept(fitted):
    """Of a total, too; a contradiction is refused."""
    sample = fitted.sample(50, given={"gross": 60.0}, random_state=0)
    assert (sample.gross == 60).all()
    assert is_total(sample).all()
    with pytest.raises(ValueError, match=r"'gross' has the value 60\.0, which no row with its val"):
        fitted.sample(5, given={"gross": 60.0, "net": 50.0, "tax": 5.0})


def test_a_contradiction_says_which_values_follow(rng):
    """The duration was not given, but it follows from the start and the end."""
    table = pd.DataFrame({"start": rng.integers(0, 300, 200), "stay": rng.integers(1, 15, 200)})
    model = fit(VAETransformer, table.assign(end=table.start + table.stay))

    with pytest.raises(ValueError, match=r"contradicts itself.*'stay' \(which follows\)"):
        model.sample(1, given={"start": 50, "end": 40})


def test_a_total_alone_has_no_density(fitted, table):
    """It is refused; with one of its parts it stands for the other."""
    with pytest.raises(ValueError, match=r"'gross' follows from others \((net \+ tax|tax \+ net)"):
        fitted.score_samples(table, columns=["gross", "pieces"])
    np.testing.assert_allclose(
        fitted.score_samples(table, columns=["gross", "net"]),
        fitted.score_samples(table, columns=["tax", "net"]) + np.log((N_ROWS + 1) / (N_ROWS + 2)),
        rtol=1e-9,
    )


@pytest.mark.parametrize("zeros", [0, 0.3])
def test_a_total_that_leaves_missing_parts_out_tells_nothing_of_them(zeros, rng):
    """As of pandas: its sum of parts is that of those which are there. True totals do tell."""
    parts = pd.DataFrame(rng.gamma(2, 30, (N_ROWS, 3)).round(2), columns=list("abc"))
    parts = parts.mask(rng.random(parts.shape) < zeros, 0)
    holed = parts.mask(rng.random(parts.shape) < 0.05)

    assert derived(holed.assign(total=parts.sum(axis=1))) == {3: {0: 1, 1: 1, 2: 1}}
    assert derived(holed.assign(total=holed.sum(axis=1))) == {}


def test_estimators_that_use_the_model(table):
    """The detector names the wrong cell's row; imputations of the average keep the equations."""
    wrong = table.copy()
    wrong.loc[7, "gross"] += 3
    detector = VAEOutlierDetector(max_iter=2, random_state=0).fit(table)
    assert detector.score_samples(wrong).argmin() == 7
    assert detector.explain(wrong.iloc[[7]]).iloc[0].idxmax() == "gross"
    assert detector.expected_values(wrong.iloc[[7]]).gross.item() == table.gross[7]

    holed = table.mask(np.random.default_rng(2).random(table.shape) < 0.2)
    imputer = VAEImputer(VAETransformer(max_iter=2), random_state=0)
    assert is_total(imputer.fit_transform(holed)).all()


@pytest.mark.slow
def test_files_of_imputers(tmp_path, rng):
    """Trees predict the columns that have a likelihood."""
    a, b = rng.normal(size=(2, 200))
    X = np.column_stack([a, np.sin(3 * a) + 0.1 * b, a**2 + 0.1 * rng.normal(size=200)])
    X = np.column_stack([X, X[:, 1] + X[:, 2]])
    imputer = VAEImputer(random_state=0).fit(X)
    X[::3, 1:] = np.nan

    assert imputer.trees_ is not None
    np.testing.assert_array_equal(reread(imputer, tmp_path).transform(X), imputer.transform(X))


def test_files(fitted, table, tmp_path):
    assert_file_agrees(fitted, table, tmp_path)


@pytest.mark.parametrize("estimator", [VAETransformer, *slow(VAEDensity)])
def test_sums_of_items_of_two_values(estimator, rng):
    """As scores of questionnaires; also if the sum is known and some items are not."""
    ability, difficulty = rng.normal(size=(500, 1)), np.linspace(-2, 2, 10)
    items = (rng.random((500, 10)) < 1 / (1 + np.exp(difficulty - 1.5 * ability))).astype(float)
    X = np.column_stack([items, items.sum(axis=1)])
    holed = np.where(rng.random(X.shape) < 0.3, np.nan, X)
    model = fit(estimator, X)

    for rows in (model.sample(300), *model.impute(holed, 2, random_state=0)):
        np.testing.assert_array_equal(rows[:, :10].sum(axis=1), rows[:, 10])
        assert np.isin(rows[:, :10], [0, 1]).all()


def test_a_mean_is_not_rounded_to_its_steps(rng):
    """All recorded means are whole tens; those of samples are what their parts have."""
    low = 10.0 * rng.integers(10, 60, 400)
    high = low + 20.0 * rng.integers(0, 20, 400)
    samples = fit(VAEDensity, np.column_stack([low, high, (low + high) / 2])).sample(300)

    np.testing.assert_allclose(samples[:, :2].mean(axis=1), samples[:, 2], rtol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_hole_makes_no_row_a_contradiction(scale, rng):
    """Of a rounded total, a part that is next to 0 is known up to half a step, and above 0."""
    part, other = np.exp(rng.normal(size=300)) * scale, rng.integers(1, 500, 300) * scale
    X = np.column_stack([part, other, (part / scale + other / scale).round() * scale])
    columns = fit_encoder(X, None, "auto")
    assert columns.linear_relations

    for j in range(3):
        holed = X.copy()
        holed[:, j] = np.nan
        assert not columns.is_unseen(holed).any()
        filled = columns.complete(holed, X)
        assert not columns.is_unseen(filled).any()
        np.testing.assert_allclose(filled, X, atol=0.5 * scale)


@pytest.mark.parametrize("seed", [11, 16, 28])
def test_a_source_that_varies_less_than_rounding_errors_is_none(seed):
    """It would follow from these errors, where it is missing."""
    rng = np.random.default_rng(seed)
    a, b = rng.gamma(2, 5, 100).round(1), np.exp(rng.normal(size=100))

    X = np.column_stack([-a, b, (-a - b).round(), (-a / 2.54).round(1)])
    assert derived(X).get(3, {0: 1 / 2.54}).keys() == {0}


def rounded_tables(rng):
    """Tables of a missing column and of those that tell it up to rounding."""
    minutes = (rng.beta(1.2, 1, N_ROWS) * 3400).round()
    income = np.exp(rng.normal(10, 0.5, N_ROWS)).round(-2)
    payment = (income / 1200 * rng.uniform(2, 30, N_ROWS)).round(2)
    grams = rng.normal(3400, 700, N_ROWS).round()
    start, months = rng.integers(0, 400, N_ROWS), rng.gamma(3, 80, N_ROWS).round(1)
    end = (start + months).round(1)
    return {
        "minutes": {"minutes": minutes, "apps": np.ceil(minutes / 75)},
        "payment": {
            "payment": payment,
            "income": income,
            "dti": (100 * payment * 12 / income).round(1),
        },
        "grams": {"grams": grams, "kilos": (grams / 1000).round(1)},
        "end": {"end": end, "start": start, "months": (end - start).round()},
    }


@pytest.mark.parametrize("column", ["minutes", "payment", "grams", "end"])
def test_a_column_that_a_rounded_one_tells(column, rng):
    """Its draws and its mean round to the known value; an exact relation tells it without error."""
    table = pd.DataFrame(rounded_tables(rng)[column]).assign(fee=rng.integers(1, 90, N_ROWS))
    table["total"] = table["fee"] + table[column]
    model = fit(VAETransformer, table)
    holed, is_told = table.copy(), np.arange(N_ROWS) < 50
    holed[column] = np.nan
    holed["total"] = np.where(is_told, holed["total"], np.nan)

    for imputed in (model.impute(holed), *model.impute(holed, 2, random_state=0)):
        X = imputed.to_numpy(float)
        assert all(relation.agrees(X).all() for relation in model.columns_.linear_relations)
        np.testing.assert_allclose(imputed[column][is_told], table[column][is_told], rtol=1e-9)


@pytest.mark.parametrize("days", [300, 5000])
def test_ages_follow_from_dates(days, rng):
    """In whole years of the calendar, at dates of one year or of many; samples are ages, too."""
    born = pd.Timestamp("1940-01-01") + pd.to_timedelta(rng.integers(0, 22000, 300), "D")
    seen = pd.Timestamp("2005-01-01") + pd.to_timedelta(rng.integers(0, days, 300), "D")
    is_before = (seen.month < born.month) | ((seen.month == born.month) & (seen.day < born.day))
    table = pd.DataFrame({"born": born, "seen": seen, "age": seen.year - born.year - is_before})
    drawn = VAETransformer(2, max_iter=2, random_state=0).fit(table).sample(500, random_state=0)
    years = (drawn.seen - drawn.born).dt.days / 365.25

    assert (drawn.age + 0.5 - years).abs().max() < 0.51


def test_either_of_two_values_that_are_as_near(rng):
    """Ages at the end of a year or of the one before: half of the samples and imputations each."""
    year, born = rng.integers(2000, 2020, 400), rng.integers(1930, 1990, 400)
    table = pd.DataFrame({"year": year, "born": born, "age": year - born - rng.integers(0, 2, 400)})
    model = VAETransformer(2, max_iter=2, random_state=0).fit(table)
    (imputed,) = model.impute(table.assign(age=np.nan), n_imputations=1)
    pair = table.assign(age=year - born), table.assign(age=year - born - 1)

    for drawn in (model.sample(1000, random_state=0), imputed):
        assert abs((drawn.age % 2).mean() - 0.5) < 0.1
        assert (drawn.year - drawn.born - drawn.age).isin([0, 1]).all()
    np.testing.assert_allclose(  # the two share the probability of the sources
        np.logaddexp(*map(model.score_samples, pair)),
        model.score_samples(table, columns=["year", "born"]),
        atol=0.01,
    )


def test_ties_that_are_rounded_to_even_numbers_stay_so(rng):
    """As numpy's means of two whole numbers."""
    X = rng.integers(0, 100, (300, 2)).astype(float)
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "mean": X.mean(axis=1).round()})
    drawn = VAETransformer(2, max_iter=2, random_state=0).fit(table).sample(500, random_state=0)

    assert (drawn["mean"] == drawn[["a", "b"]].mean(axis=1).round()).all()


def test_a_product_whose_factor_tells_a_class(rng):
    """The factor that varies the most takes what a known or drawn power tells, and no other."""
    mode = rng.choice(["off", "idle", "run"], 600)
    load = np.where(mode == "run", rng.beta(3, 2, 600), 0)
    amp = np.where(mode == "off", 0, 2 + 10 * load * (1 + 0.05 * rng.normal(size=600))).round(2)
    table = pd.DataFrame({"mode": mode, "amp": amp, "volt": rng.normal(400, 3, 600).round(1)})
    table["kw"] = (amp * table.volt * 1.732 / 1000).round(2)
    model = VAETransformer(2, max_iter=2, random_state=0).fit(table)
    imputed = model.impute(table.assign(amp=np.nan, volt=np.nan))
    drawn = model.sample(1000, random_state=0)
    columns = model.columns_
    X = model._validate(table)[mode == "off"]
    holed = X.copy()
    holed[:, 1:3] = np.nan
    # the mean of several models is none of the recorded values
    filled = columns.complete(holed, X + [0, 0.01, 0, 0])

    assert len(columns.linear_relations) == len(columns.many_to_one[0].labels) == 1
    assert drawn.volt.between(table.volt.min(), table.volt.max()).all()
    assert (drawn.volt.round(1) == drawn.volt).all()
    assert (np.abs(drawn.amp * drawn.volt * 1.732 / 1000 - drawn.kw) < 0.00501).all()
    assert np.abs(imputed.volt - 400).max() < 12
    np.testing.assert_allclose(imputed.amp, table.kw / 0.6928, rtol=0.02)
    np.testing.assert_array_equal(filled, X)
