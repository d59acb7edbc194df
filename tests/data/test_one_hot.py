"""Binary columns of which at most one is 1: they are found, and read as one class."""

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.preprocessing import OneHotEncoder

from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from sklearn_vae.data.columns.binary import OneHotColumns
from sklearn_vae.data.fit import fit_encoder
from sklearn_vae.likelihoods import Bernoulli, OneHot
from tests.conftest import assert_file_agrees, reread_part, slow

pd = pytest.importorskip("pandas")

N_ROWS = 300
QUICK = {"max_iter": 10, "random_state": 0}
DENSITIES = [VAETransformer(2, **QUICK), VAEDensity(2, mixtures=[(2, "diag")], **QUICK)]
densities = pytest.mark.parametrize("estimator", [DENSITIES[0], *slow(DENSITIES[1])])


def make_table(n_rows=N_ROWS):
    """A number, the columns of a class that has it, those of a class but one, and a flag."""
    rng = np.random.default_rng(0)
    kind = rng.choice(4, n_rows, p=[0.4, 0.3, 0.2, 0.1])
    color = rng.choice(["blue", "green", "red"], n_rows)
    table = pd.DataFrame({"x": (2.0 * kind + rng.normal(size=n_rows)).round(2)})
    table["flag"] = (rng.random(n_rows) < 0.3).astype(int)
    table = table.join(pd.get_dummies(pd.Series(kind), prefix="kind", dtype=int))
    return table.join(pd.get_dummies(pd.Series(color), prefix="color", drop_first=True))


KIND, COLOR = [f"kind_{k}" for k in range(4)], ["color_green", "color_red"]


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def fitted(table):
    return clone(DENSITIES[0]).fit(table)


def likelihoods(X, **kwargs):
    return fit_encoder(np.asarray(X, float), None, "auto", **kwargs).likelihoods


@pytest.mark.parametrize(("low", "scale"), [(0, 1), (-2, 3), (0, 1e-300), (-1e300, 2e300)])
def test_groups_are_found(table, low, scale):
    """In any units of 0 and 1, as long as the rare value is the higher one; flags are none."""
    X = np.array(table, float)
    X[:, 1:] = low + X[:, 1:] * scale
    found = likelihoods(X)
    assert found[1] == Bernoulli()
    assert found[2:6] == [OneHot(4, has_none=False)] * 4
    assert found[6:] == [OneHot(2, has_none=True)] * 2


def test_columns_of_a_group_name_each_other(fitted):
    """Two groups of equal sizes could not be told apart otherwise."""
    lines = dict(line.split(maxsplit=1) for line in str(fitted.columns_).splitlines())

    assert lines["kind_1"].endswith(", excludes kind_0, kind_2, kind_3")
    assert lines["color_red"].endswith(", excludes color_green")


def test_holes_weights_and_the_order_of_columns_do_not_matter(table):
    """A row of weight 2 counts as two, and one of weight 0 is not there."""
    rng = np.random.default_rng(1)
    X = np.array(table, float)
    holed = np.where(rng.random(X.shape) < 0.2, np.nan, X)
    assert likelihoods(holed) == likelihoods(X)
    assert likelihoods(X[:, ::-1])[::-1] == likelihoods(X)

    few = X[:60]
    assert likelihoods(few)[7] == Bernoulli()
    weight = np.resize([4, 4, 4, 4, 1], 60)
    encoder = fit_encoder(few, weight.astype(float), "auto")
    assert encoder.likelihoods == likelihoods(few.repeat(weight, axis=0))
    assert encoder.likelihoods[7] == OneHot(2, has_none=True)


@pytest.mark.parametrize("n_rows", [40, 1000])
def test_rare_levels_belong_to_a_class_that_all_rows_have(n_rows, rng):
    """Few rows show it, as each column follows from the others; not where some rows have none."""
    level = np.append(rng.choice(3, n_rows - 2, p=[0.5, 0.3, 0.2]), [3, 3])
    X = np.column_stack([rng.normal(size=n_rows), np.eye(4)[level]])

    assert likelihoods(X)[1:] == [OneHot(4, has_none=False)] * 4
    assert likelihoods(np.delete(X, 1, axis=1))[3] == Bernoulli()


def test_columns_that_exclude_each_other_by_chance_are_none(rng):
    """Rare ones do in few rows; and one row that has both is enough."""
    X = (rng.random((200, 12)) < 0.05).astype(float)
    assert likelihoods(X) == [Bernoulli()] * 12

    X = np.eye(3)[rng.integers(3, size=500)]
    assert likelihoods(X) == [OneHot(3, has_none=False)] * 3
    X[7, :2] = 1
    assert likelihoods(X) == [Bernoulli()] * 3 or likelihoods(X)[2] == OneHot(2, has_none=True)


def test_requested_likelihoods_are_kept(table):
    """Only columns with the default one are in a group, and no user can ask for it."""
    encoder = fit_encoder(np.array(table, float), None, {4: "bernoulli"})
    assert encoder.likelihoods[4] == Bernoulli()
    assert encoder.likelihoods[2] == OneHot(3, has_none=True)
    with pytest.raises(ValueError, match="OneHot for column 2"):
        fit_encoder(np.array(table, float), None, {2: OneHot(4, has_none=False)})


@densities
def test_samples_have_one_class(estimator, table):
    """And what is given holds."""
    model = clone(estimator).fit(table)
    for given in ({}, {"kind_0": 0, "kind_1": 0}, {"kind_3": 1}, {"color_red": 1}):
        sample = model.sample(400, given=given or None)
        assert (sample[KIND].sum(axis=1) == 1).all()
        assert sample[COLOR].sum(axis=1).max() == 1
        assert all((sample[name] == value).all() for name, value in given.items())
    assert sample["color_red"].all()
    free = model.sample(2000)
    np.testing.assert_allclose(free[KIND].mean(), table[KIND].mean(), atol=0.06)
    np.testing.assert_allclose(free.groupby(KIND)["x"].mean().sort_values(), [0, 2, 4, 6], atol=0.8)


def test_contradictions_in_given_are_refused(fitted):
    """Two classes, and none of all."""
    with pytest.raises(ValueError, match=r"'kind_1' has the value 1, .* beside those of 'kind_0'"):
        fitted.sample(3, given={"kind_0": 1, "kind_1": 1})
    with pytest.raises(ValueError, match="contradicts itself: column 'kind_0' has the value 0"):
        fitted.sample(3, given=dict.fromkeys(KIND, 0))
    assert not fitted.sample(5, given=dict.fromkeys(COLOR, 0))[COLOR].to_numpy().any()


@densities
def test_the_density_of_holes_is_the_sum_over_what_they_may_be(estimator, rng):
    """Over all 2^6 rows of bits it is 1, but for that of unseen rows."""
    kind, color = rng.choice(3, 1000, p=[0.5, 0.3, 0.2]), rng.integers(4, size=1000)
    color = np.where(rng.random(1000) < 0.6, kind, color)
    X = np.hstack([np.eye(3)[kind], np.eye(4)[color][:, :3]])
    model = clone(estimator).fit(X)
    rows = np.array([*itertools.product([0.0, 1.0], repeat=6)])
    log_p = model.score_samples(rows)
    possible = (rows[:, :3].sum(axis=1) == 1) & (rows[:, 3:].sum(axis=1) <= 1)
    assert np.isfinite(log_p).all()
    assert np.exp(log_p[possible]).sum() == pytest.approx(1, abs=0.02)
    assert log_p[~possible].max() < log_p[possible].max() - 3

    for row in X[:12]:
        holed = np.where(rng.random(6) < 0.5, np.nan, row)
        agrees = possible & ((rows == holed) | np.isnan(holed)).all(axis=1)
        assert model.score_samples(holed[None])[0] == pytest.approx(
            logsumexp(log_p[agrees]), abs=0.05
        )


@densities
def test_a_class_and_its_columns_have_one_density(estimator, rng):
    """One-hot encoded with all columns, or without the first one."""
    kind = rng.choice(["a", "b", "c", "d"], 1500, p=[0.4, 0.3, 0.2, 0.1])
    x = np.array([{"a": 0, "b": 3, "c": 0, "d": 6}[each] for each in kind]) + rng.normal(size=1500)
    frame = pd.DataFrame({"x": x, "kind": kind})
    scores = [estimator.fit(frame[:1000]).score(frame[1000:])]
    for drop in (None, "first"):
        encoder = OneHotEncoder(sparse_output=False, drop=drop)
        X = np.column_stack([x, encoder.fit_transform(frame[["kind"]])])
        scores.append(estimator.fit(X[:1000]).score(X[1000:]))
    assert np.ptp(scores) < 0.1


def test_holes_that_follow_are_filled(fitted, table):
    """The others of a class are 0, and the last one left is 1."""
    holed = table.astype(float)
    holed.loc[0, KIND] = [1, np.nan, np.nan, np.nan]
    holed.loc[1, KIND] = [0, np.nan, 0, 0]
    imputed = fitted.impute(holed[:2])
    np.testing.assert_array_equal(imputed[KIND], [[1, 0, 0, 0], [0, 1, 0, 0]])
    scores = fitted.score_samples(imputed)
    np.testing.assert_allclose(fitted.score_samples(holed[:2]), scores, atol=4 / N_ROWS)


def test_imputations_have_one_class():
    """Whole numbers are rounded together; means of an array add up."""
    rng, table = np.random.default_rng(2), make_table(500)
    holed = table.astype(float)
    holed = holed.mask(rng.random(holed.shape) < 0.25)
    vae = VAETransformer(2, max_iter=2, random_state=0)
    model, holed = VAEImputer(vae, random_state=0).fit(holed), holed[:150]
    imputed = model.transform(holed)
    imputed = pd.DataFrame(np.asarray(imputed, float), columns=table.columns)
    np.testing.assert_allclose(imputed[KIND].sum(axis=1), 1)
    assert (imputed[COLOR].sum(axis=1) < 1 + 1e-9).all()
    for draw in model.set_params(n_imputations=3).transform(holed):
        draw = pd.DataFrame(np.asarray(draw, float), columns=table.columns)
        assert (draw[KIND].sum(axis=1) == 1).all()
        assert draw[COLOR].sum(axis=1).max() == 1

    means = vae.fit(np.array(holed)).impute(np.array(holed))[:, 2:6]
    np.testing.assert_allclose(means.sum(axis=1), 1, atol=1e-6)
    known = ~np.isnan(np.array(holed)[:, 2:6])
    np.testing.assert_array_equal(means[known], np.array(holed)[:, 2:6][known])


def test_contradictions_are_outliers(table):
    """Rows with two classes, and with none."""
    model = VAEOutlierDetector(max_iter=5, random_state=0).fit(table)
    rows = table[:40].copy()
    rows.loc[:9, "kind_0"], rows.loc[:9, "kind_1"] = 1, 1
    rows.loc[10:19, KIND] = 0
    scores = model.score_samples(rows)
    assert scores[:20].max() < np.sort(scores[20:])[4]


def test_files(fitted, table, tmp_path):
    holes = np.random.default_rng(3).random(table.shape) < 0.2
    assert_file_agrees(fitted, table.astype(float).mask(holes)[:80], tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("frequency", np.ones(2), "frequency"),
        ("indices", np.arange(3), "shape|complete"),
        ("likelihood", Bernoulli(), "cannot have"),
    ],
)
def test_what_a_file_says_is_checked(name, value, message):
    """As of other columns."""
    columns = OneHotColumns(
        np.arange(4), OneHot(2, has_none=True), np.tile([0.0, 1.0], (4, 1)), np.full(4, 0.2)
    )
    reread_part(columns)
    setattr(columns, name, value)
    with pytest.raises(ValueError, match=message):
        reread_part(columns)


def test_an_expected_class_does_not_follow_from_its_other_columns(table):
    """A class that does not suit its number is named, and so is the one that would."""
    model = VAEOutlierDetector(max_iter=5, random_state=0).fit(table)
    row = table[:1].copy()
    row["x"], row[KIND] = 0.0, [[0, 0, 0, 1]]
    expected = model.expected_values(row)
    assert expected[KIND].iloc[0].tolist() == [1, 0, 0, 0]
    assert model.explain(row)[[*KIND, "flag", *COLOR]].iloc[0].idxmax() == "kind_3"


def test_no_rows_have_groups(fitted, table):
    """As a chunk of a file may have none."""
    columns = fitted.columns_
    X = np.asarray(table, float)[:0]

    assert columns.inverse_transform(columns.transform(X)).shape == X.shape
    assert columns.complete(X, X).shape == X.shape


@pytest.mark.parametrize("beside", ["class", *slow("equal cells")])
@densities
def test_groups_beside_other_relations_are_whole(estimator, beside):
    """A class beside its columns, some of which follow from it; numbers that are often equal."""
    rng = np.random.default_rng(1)
    kind = rng.choice(4, 400, p=[0.4, 0.3, 0.2, 0.1])
    table = pd.DataFrame(np.eye(4)[kind], columns=KIND)
    if beside == "class":
        table["kind"] = kind * 1.5
    else:
        table["bill"] = np.exp(kind + rng.normal(size=400))
        table["paid"] = np.where(rng.random(400) < 0.3, table.bill, np.exp(rng.normal(size=400)))
    X = np.asarray(table)
    holed = X.copy()
    holed[:, :4][rng.random((400, 4)) < 0.4] = np.nan
    model = clone(estimator).set_params(max_iter=2).fit(X)
    ones = [model.sample(200), *model.impute(holed, 3, random_state=0)]

    assert [type(each) for each in model.columns_.likelihoods[:2]] == [OneHot] * 2
    for rows in ones:
        np.testing.assert_array_equal(rows[:, :4].sum(axis=1), 1)
    np.testing.assert_allclose(model.impute(holed)[:, :4].sum(axis=1), 1)


@pytest.mark.slow
def test_an_expected_class_is_the_same_with_few_columns_and_all(table):
    model = VAEOutlierDetector(max_iter=2, random_state=0).fit(table)
    expected = model.expected_values(table[:20])
    for name in KIND:
        of_column = model.expected_values(table[:20], columns=[name])
        np.testing.assert_array_equal(of_column[name], expected[name])
