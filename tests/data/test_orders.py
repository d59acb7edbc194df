"""Columns that are in order in all rows: starts and ends, parts and totals, minima and maxima."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from sklearn_vae.data.fit import fit_encoder
from sklearn_vae.data.relations import Orders, find_orders
from tests.conftest import assert_file_agrees, slow

pd = pytest.importorskip("pandas")


def make(n_rows=400, seed=0):
    """Dates of an order and its delivery, often the same day; three temperatures; a price."""
    rng = np.random.default_rng(seed)
    days = rng.integers(0, 700, n_rows)
    duration = np.where(rng.random(n_rows) < 0.4, 0, rng.poisson(3, n_rows))
    low = rng.normal(5, 8, n_rows).round(1)
    mean = (low + rng.gamma(2, 1.5, n_rows)).round(1)
    start = np.datetime64("2024-01-01", "s")
    return pd.DataFrame(
        {
            "ordered": start + days * np.timedelta64(86400, "s"),
            "delivered": start + (days + duration) * np.timedelta64(86400, "s"),
            "t_max": (mean + rng.gamma(2, 1.5, n_rows)).round(1),
            "t_min": low,
            "t_mean": mean,
            "price": np.exp(rng.normal(3, 1, n_rows)).round(2),
        }
    )


def is_in_order(table):
    return (
        (table.ordered <= table.delivered)
        & (table.t_min <= table.t_mean)
        & (table.t_mean <= table.t_max)
    )


@pytest.fixture(scope="module", params=[VAETransformer, *slow(VAEDensity)])
def fitted(request):
    return request.param(2, random_state=0, max_iter=2).fit(make())


def pairs(X, units=None):
    columns = list(range(X.shape[1]))
    orders = find_orders(X, columns, units or [None] * len(columns))
    return set(map(tuple, orders.pairs.tolist()))


def test_pairs_that_follow_from_others_are_left_out():
    """Of low, mean and high, low and high are in order as both are with the mean."""
    X = make()[["t_max", "t_min", "t_mean"]].to_numpy()

    assert pairs(X) == {(1, 2), (2, 0)}
    assert pairs(np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)) == pairs(X)
    assert pairs(-X) == {(2, 1), (0, 2)}


def test_pairs_in_a_circle_are_none(rng):
    """Of three columns of which each row has two, all three pairs may be in order."""
    X = rng.normal(size=(600, 3))
    for k in range(3):
        pair = X[k::3, [k, (k + 1) % 3]]
        X[k::3, k], X[k::3, (k + 1) % 3] = pair.min(axis=1), pair.max(axis=1)
        X[k::3, (k + 2) % 3] = np.nan

    assert pairs(X) == set()
    assert pairs(X[::3]) == {(0, 1)}


@pytest.mark.parametrize("case", ["exception", "few rows", "copies", "apart", "units", "binary"])
def test_others_are_not(case, rng):
    """One exception, order by chance, ranges that do not meet, other units, and two values."""
    low = rng.normal(size=300)
    X, units = np.column_stack([low, low + rng.gamma(2, size=300)]), None
    if case == "exception":
        X[17] = X[17, ::-1]
    elif case in ("few rows", "copies"):
        X = X[:5].repeat(1 if case == "few rows" else 60, axis=0)
    elif case == "apart":
        X[:, 1] += 10
    elif case == "units":
        units = [None, "date"]
    else:
        X = np.column_stack([low > 1, low > 0]).astype(float)

    assert pairs(X, units) == set()


def test_a_share_of_few_rows_is_at_most_one(rng):
    """The columns of a ratio need less evidence than any two columns."""
    whole = np.exp(rng.normal(6, 0.7, 60)).round()
    part = rng.binomial(whole.astype(int), rng.beta(5, 5, 60))
    X = np.column_stack([whole, part, part / whole])
    encoder = fit_encoder(X, None, "auto")

    assert not pairs(X[:, :2])
    assert encoder.linear_relations[0].derived == 2
    np.testing.assert_array_equal(encoder.orders.pairs, [[1, 0]])


def test_samples_and_imputations_are_in_order(fitted):
    """With any cells missing, given a cell, and after the change of a chain of columns."""
    table = make(300, seed=1)
    rng = np.random.default_rng(0)
    holed = table.mask(rng.random(table.shape) < 0.4)
    drawn = fitted.sample(1000, random_state=0)
    given = fitted.sample(200, given={"t_mean": 12.5}, random_state=0)

    for filled in (drawn, given, fitted.impute(holed), *fitted.impute(holed, n_imputations=2)):
        assert is_in_order(filled).all()
    assert (given.t_mean == 12.5).all()
    assert (drawn.t_max.sub(drawn.t_max.round(1)).abs() < 1e-9).all()


def test_each_column_keeps_its_distribution(fitted):
    """Values change places, so the fraction of samples below a quantile is its level."""
    table, drawn = make(4000, seed=2), fitted.sample(4000, random_state=0)
    for name in table:
        for level in (0.25, 0.75):
            below = (drawn[name] < table[name].quantile(level)).mean()
            assert abs(below - level) < 0.1, name


def test_means_between_fixed_cells():
    """A mean is at most the fixed value above it; a sample is reflected there."""
    X = np.array([[3.0, 2.0], [3.0, 2.0], [3.0, 2.0]])
    is_fixed = np.array([[True, False], [False, True], [False, False]])
    orders = Orders(np.array([[0, 1]]), np.zeros((1, 2), bool))
    means, samples = X.copy(), X.copy()
    orders.restore(means, is_fixed, reach=0)
    orders.restore(samples, is_fixed, reach=1)

    np.testing.assert_array_equal(means, [[3, 3], [2, 2], [2, 3]])
    np.testing.assert_array_equal(samples, [[3, 4], [1, 2], [2, 3]])


@pytest.mark.parametrize("model", [VAETransformer, *slow(VAEDensity)])
def test_a_column_without_values_in_a_class_moves_no_other(model, rng):
    """Bicycles have no power: its draws, of cars, are above the weight of a bicycle."""
    is_car = rng.random(400) < 0.7
    weight = np.where(is_car, rng.normal(1300, 200, 400), rng.normal(15, 2, 400)).round(1)
    power = np.where(is_car, rng.normal(100, 20, 400).round(), np.nan)
    table = pd.DataFrame({"kind": np.where(is_car, "car", "bicycle"), "power": power})
    table["weight"] = weight
    drawn = model(2, random_state=0, max_iter=2).fit(table).sample(1000, random_state=0)

    assert (drawn.power <= drawn.weight).all()
    assert drawn.weight[drawn.kind == "bicycle"].median() < 40


def test_a_column_that_stays_stays_where_possible():
    """Values are moved beyond it; between two that stay, out of order, it does not."""
    X = np.array([[3.0, 2.0, 4.0], [3.0, 1.0, 2.0]])
    pairs, stays = np.array([[0, 1], [1, 2]]), np.array([[True, False], [False, True]])
    Orders(pairs, stays).restore(X, np.zeros(X.shape, bool), reach=0)

    np.testing.assert_array_equal(X, [[3, 3, 4], [2, 2, 3]])


@pytest.mark.parametrize("case", ["long chain", "days and minutes", "a factor", "a band"])
def test_any_given_cells(case, rng):
    """Between two of them; days below minutes; where a product or a label moves numbers."""
    if case == "long chain":
        X = np.cumsum(rng.poisson(0.7, (400, 25)), axis=1)[:, ::-1].astype(float)
    elif case == "days and minutes":
        X = rng.integers(0, 700, 400)[:, None] + rng.integers(0, 4000, (400, 2)) / 1440 * [0, 1]
    elif case == "a band":
        age = rng.integers(18, 80, 400)
        X = np.column_stack([age - rng.poisson(4, 400), age, age // 10]).astype(float)
    else:
        price, pieces = np.exp(rng.normal(2, 0.6, 400)).round(2), rng.integers(1, 9, 400)
        full = (price * rng.choice([1, 1.1, 1.3], 400)).round(2)
        X = np.column_stack([price, full, pieces, (price * pieces).round(2)])
    encoder = fit_encoder(X, None, "auto")
    holed = np.where(rng.random(X.shape) < 0.5, np.nan, X)
    values = encoder.inverse_transform(rng.permuted(encoder.transform(X), axis=0))
    means = encoder.complete(holed, values)
    (draws,) = encoder.complete(holed, encoder.on_steps(values)[None], rng)

    assert encoder.orders
    assert bool(encoder.linear_relations) == (case == "a factor")
    for filled in (means, draws):
        assert not encoder.orders.are_broken(filled).any()
        assert all(relation.agrees(filled).all() for relation in encoder.linear_relations)
    if case == "days and minutes":
        np.testing.assert_array_equal(draws[:, 0], draws[:, 0].round())
    if case == "a band":
        np.testing.assert_array_equal(draws[:, 2], draws[:, 1] // 10)


def test_given_values_beyond_all_of_the_fit(rng):
    """A start after all ends: no other value is in order, so the end equals it."""
    start = rng.integers(0, 365, 400).astype(float)
    X = np.column_stack([start, start + rng.poisson(5, 400)])
    model = VAETransformer(1, max_iter=2, random_state=0).fit(X)
    ends = np.concatenate(model.impute([[500.0, np.nan]], n_imputations=20))

    np.testing.assert_array_equal(ends[:, 1], 500)


def test_given_values_out_of_order_are_warned_of(fitted):
    """They are those of all samples, and of no row."""
    with pytest.warns(UserWarning, match="at most another: 't_min', 't_mean'"):
        drawn = fitted.sample(5, given={"t_min": 12.0, "t_mean": 10.0}, random_state=0)
    assert (drawn[["t_min", "t_mean"]] == [12, 10]).all().all()


def test_codes_of_a_class_stay_those_of_the_class(rng):
    """A capacity that follows from a zone is not moved by the visitors that exceed it."""
    zone = rng.integers(0, 5, 400)
    capacity = 10.0 * np.array([7, 12, 15, 21, 28])[zone]
    visitors = capacity + rng.poisson(30, 400)
    table = pd.DataFrame({"zone": np.array(list("abcde"))[zone], "capacity": capacity})
    table["visitors"] = visitors
    imputed = VAETransformer(1, max_iter=2, random_state=0).fit(table)
    imputed = imputed.impute(table.assign(zone=None, capacity=np.nan), n_imputations=1)
    pairs = set(zip(table.zone, table.capacity, strict=True))

    assert set(zip(imputed[0].zone, imputed[0].capacity, strict=True)) <= pairs


def test_rounding_errors_break_no_order():
    """As of a part that follows from a total and the other part."""
    orders = Orders(np.array([[0, 1]]), np.zeros((1, 2), bool))

    assert not orders.are_broken(np.array([[0.1 + 0.2, 0.3], [np.inf, np.inf]])).any()
    assert orders.are_broken(np.array([[0.3001, 0.3]])).all()


def test_small_counts_are_in_order(rng):
    """Rows of few values are copies by chance; independent ones are in no order."""
    goals = rng.poisson(1.4, 300)
    X = np.column_stack([goals, rng.binomial(goals, 0.45)]).astype(float)
    assert find_orders(X, [0, 1], ["", ""]).pairs.tolist() == [[1, 0]]

    for _ in range(40):
        apart = rng.poisson([0.3, 0.7, 1, 2], (300, 4)) + np.array([0, 0, 0, 1.0])
        assert not len(find_orders(apart, [0, 1, 2, 3], [""] * 4).pairs)


def test_copies_of_rows_with_holes_are_no_evidence(rng):
    """A bootstrap repeats rows, with missing values, too."""
    low = rng.normal(size=5)
    X = np.column_stack([low, low + rng.gamma(2, size=5), [np.nan] * 4 + [1.0]])

    assert pairs(X.repeat(40, axis=0)) == set()


def test_a_row_out_of_order_scores_low(fitted):
    """It loses the logarithm of the number of rows, by the rule of succession."""
    table = make(200, seed=3)
    broken = table.assign(delivered=table.ordered - np.timedelta64(86400, "s"))
    same = table.assign(delivered=table.ordered)

    assert (fitted.score_samples(same) - fitted.score_samples(broken) > 4).all()
    assert fitted.score_samples(broken, columns=["ordered"]) == pytest.approx(
        fitted.score_samples(table, columns=["ordered"])
    )


def test_a_detector_finds_it():
    """Among the first of 300 rows, while each of its cells is usual."""
    table = make(300, seed=4)
    table.loc[7, ["t_min", "t_mean"]] = [6.0, 4.0]
    detector = VAEOutlierDetector(novelty=True, max_iter=5, random_state=0).fit(make())
    scores = detector.score_samples(table)

    assert (scores < scores[7]).sum() < 10


def test_files(fitted, tmp_path):
    """They keep orders."""
    table = make(40, seed=5).assign(t_max=np.nan)
    imputed = assert_file_agrees(fitted, table, tmp_path).impute(table)
    assert is_in_order(imputed).all()
