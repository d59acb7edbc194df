"""Boosted trees that are computed by numpy alone."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from sklearn_vae.imputation import (
    OF_IMPUTED_ROWS,
    OF_INCOMPLETE_ROWS,
    fit_boosted_trees,
)
from tests.conftest import reread_part, slow


def table(scale=1.0):
    """Rows whose columns depend on each other, and a mask of those that are observed."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 4))
    X[:, 2] = scale * (np.sin(2 * X[:, 0]) + (X[:, 1] > 0) + 0.1 * X[:, 2])
    return X, rng.random(X.shape) < 0.7


@pytest.mark.parametrize("scale", [1.0, 1e-100, 1e100])
def test_predictions_are_those_of_scikit_learn(scale):
    """Of each column from the others, on new rows, too; observed cells keep their bits."""
    X, observed = table(scale)
    columns = np.array([0, 2])
    trees = fit_boosted_trees(X[:100], observed[:100], columns, None)
    trees.check()
    predicted = trees.predict(X, ~observed)

    for column in columns:
        others, rows = np.arange(4) != column, observed[:100, column]
        y = X[:100][rows, column]
        regressor = HistGradientBoostingRegressor(early_stopping=False, **OF_IMPUTED_ROWS)
        regressor.fit(X[:100][rows][:, others], (y - y.mean()) / y.std())
        expected = y.mean() + y.std() * regressor.predict(X[:, others])
        expected = np.clip(expected, y.min(), y.max())
        missing = ~observed[:, column]
        np.testing.assert_allclose(predicted[missing, column], expected[missing], rtol=1e-9)
        np.testing.assert_array_equal(predicted[~missing, column], X[~missing, column])
    np.testing.assert_array_equal(predicted[:, [1, 3]], X[:, [1, 3]])


def test_columns_with_numbers_near_the_largest_ones_are_left_out():
    """Sums of two of them overflow, and so would trees on them."""
    X, observed = table()
    columns = np.array([0, 2, 3])
    expected = fit_boosted_trees(X[:, :3], observed[:, :3], columns[:2], None).predict(X, ~observed)
    X[5, 3] = 1.7e308
    trees = fit_boosted_trees(X, observed, columns, None)

    assert trees.columns.tolist() == [0, 2]
    np.testing.assert_array_equal(trees.predict(X, ~observed)[:, :3], expected[:, :3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_large_number_hides_no_others(dtype, rng):
    """Such as a forgotten code for missing values in a column of small numbers."""
    small = rng.uniform(1e-30, 2e-30, 1_000)
    X = np.column_stack([small, np.where(small > 1.5e-30, 3.0, 0.0)]).astype(dtype)
    X[0, 0] = 1e20
    missing = np.tile([False, True], (1_000, 1))
    trees = fit_boosted_trees(X, np.ones(X.shape, bool), np.array([1]), None)

    assert abs(trees.predict(X, missing)[:, 1] - X[:, 1]).mean() < 0.05


def incomplete_table():
    """Rows with missing values whose last columns are two classes, four and one: (n, 6)."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 6))
    X[:, 2] += np.where(X[:, 0] > 0, 3.0, X[:, 1])
    X[:, 3] = np.where(X[:, 0] + 0.3 * X[:, 3] > 0, 7.0, 3.0)
    X[:, 4] = np.digitize(X[:, 0] + 0.5 * X[:, 1] * X[:, 4], [-1, 0, 1])
    X[:, 5] = 2.0
    X[rng.random(X.shape) < 0.2] = np.nan
    X[::3, 0] = np.nan  # missing values that say something
    X[::3, 2] = -9.0
    return X


@pytest.mark.parametrize("weighted", [*slow(False), True])
def test_predictions_from_incomplete_rows_are_those_of_scikit_learn(weighted):
    """Missing values take the side that they take there; classes are the likeliest ones."""
    X = incomplete_table()
    is_class = np.arange(6) > 2
    weight = np.random.default_rng(1).uniform(size=600) if weighted else None
    trees = fit_boosted_trees(
        X[:400],
        ~np.isnan(X[:400]),
        np.arange(6),
        None if weight is None else weight[:400],
        is_class,
    )
    trees.check()
    predicted = trees.predict(X, np.ones(X.shape, bool))

    for column in (0, 2, 3, 4):
        others, rows = np.arange(6) != column, ~np.isnan(X[:400, column])
        y, loc, scale = X[:400][rows, column], 0.0, 1.0
        kind = HistGradientBoostingClassifier if is_class[column] else HistGradientBoostingRegressor
        if not is_class[column]:
            loc, scale = y.mean(), y.std()
        oracle = kind(early_stopping=False, random_state=0, **OF_INCOMPLETE_ROWS)
        of_rows = None if weight is None else weight[:400][rows]
        oracle.fit(X[:400][rows][:, others], (y - loc) / scale, of_rows)
        expected = np.clip(loc + scale * oracle.predict(X[:, others]), y.min(), y.max())
        np.testing.assert_allclose(predicted[:, column], expected, rtol=1e-9)
    assert trees.columns.tolist() == [0, 1, 2, 3, 4]
    assert [len(part.baselines) for part in trees.parts] == [1, 1, 1, 2, 4]
    np.testing.assert_array_equal(predicted[:, 5], X[:, 5])


def shared_values():
    """Rows with missing values of 600 groups, which share a number and two classes: (n, 4)."""
    rng = np.random.default_rng(0)
    group = rng.integers(600, size=4_000)
    parts = [group, rng.normal(size=600)[group], rng.integers(3, size=(2, 600))[:, group].T]
    X = np.column_stack(parts)
    missing = rng.random(X.shape) < 0.2
    missing[:, 0] = False
    return X, np.where(missing, np.nan, X), missing


def test_rows_that_share_a_value_predict_each_other():
    """Of a number and of classes, with and without order; values beside it say nothing."""
    X, incomplete, missing = shared_values()
    arguments = ~missing, np.arange(1, 4), None, np.arange(4) > 1
    trees = fit_boosted_trees(incomplete, *arguments)
    trees.check()
    predicted = trees.predict(incomplete, missing)
    assert [part.column for part in trees.parts if part.encodings] == [1, 2, 3]
    number, *classes = (each[missing[:, j]] for j, each in enumerate((predicted - X).T) if j)

    assert np.square(number).mean() < 0.2
    assert max((each != 0).mean() for each in classes) < 0.1
    for column in (1, 3):  # encoded by one column, and by three
        part = trees.select(np.array([column]))
        assert part.columns.tolist() == [column]
        found = part.predict(incomplete, missing)[:, column]
        np.testing.assert_array_equal(found, predicted[:, column])


def test_encodings_of_columns_that_do_not_exist_are_refused():
    """Nor do nodes split by encodings that there are none of."""
    _, incomplete, missing = shared_values()
    trees = fit_boosted_trees(incomplete, ~missing, np.array([1]), None)
    (part,) = trees.parts
    (encoding,) = part.encodings
    for encodings, message in (((replace(encoding, column=4),), "column"), ((), "'features'")):
        with pytest.raises(ValueError, match=message):
            replace(trees, parts=(replace(part, encodings=encodings),)).check()


def test_of_ordered_classes_the_median_is_predicted():
    """The least class with at least half of the probability up to it."""
    X = incomplete_table()
    trees = fit_boosted_trees(X, ~np.isnan(X), np.array([4]), None, np.arange(6) > 2)
    ordered = replace(trees, is_ordered=np.arange(6) == 4)
    params = {"early_stopping": False, "random_state": 0, **OF_INCOMPLETE_ROWS}
    others, rows = np.arange(6) != 4, ~np.isnan(X[:, 4])
    oracle = HistGradientBoostingClassifier(**params).fit(X[rows][:, others], X[rows, 4])
    up_to = oracle.predict_proba(X[:, others]).cumsum(axis=1)
    predicted, likeliest = (
        each.predict(X, np.ones(X.shape, bool))[:, 4] for each in (ordered, trees)
    )

    np.testing.assert_array_equal(predicted, (up_to < 0.5).sum(axis=1))
    assert (predicted != likeliest).any()


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_numbers_are_averaged_and_classes_replaced(weight):
    """Observed cells keep their bits, and other columns their imputations."""
    X = incomplete_table()[:200]
    trees = fit_boosted_trees(X, ~np.isnan(X), np.arange(1, 6), None, np.arange(6) > 2)
    missing, imputed = np.isnan(X), np.where(np.isnan(X), 5.0, X)
    predicted = trees.predict(X, missing)
    corrected = trees.correct(X, imputed, weight)

    np.testing.assert_array_equal(corrected[~missing], X[~missing])
    np.testing.assert_array_equal(corrected[:, [0, 5]], imputed[:, [0, 5]])
    np.testing.assert_array_equal(corrected[:, 3:5], predicted[:, 3:5])
    expected = (1 - weight) * imputed[:, 1:3] + weight * predicted[:, 1:3]
    np.testing.assert_allclose(corrected[:, 1:3], expected, rtol=1e-12)
    # rows without other imputations are complete where none is needed
    is_left = (missing & ~trees.replaces(weight)).any(axis=1)
    np.testing.assert_array_equal(
        is_left, missing[:, [0, 5] if weight == 1 else [0, 1, 2, 5]].any(axis=1)
    )
    alone = trees.correct(X, np.where(is_left[:, None], imputed, X), weight)
    np.testing.assert_array_equal(alone, corrected)


def test_columns_that_are_never_observed_together_do_not_predict_each_other():
    """scikit-learn cannot bin a column that is empty in the rows of a target."""
    X = np.random.default_rng(0).normal(size=(200, 3))
    X[:100, 0], X[100:, 1] = np.nan, np.nan
    trees = fit_boosted_trees(X, ~np.isnan(X), np.arange(3), None)
    changed = np.where(np.arange(3) == 1, 100.0, X)

    predicted = trees.predict(X, np.ones(X.shape, bool))
    np.testing.assert_array_equal(
        trees.predict(changed, np.ones(X.shape, bool))[:, 0], predicted[:, 0]
    )
    alone = fit_boosted_trees(X[:, :2], ~np.isnan(X[:, :2]), np.arange(2), None)
    assert len(alone.columns) == 0


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("children", lambda children: children[::-1], "parents of trees"),
        ("children", lambda children: children + 1, "parents of trees"),
        ("roots", lambda roots: roots - 1, "'roots'"),
        ("features", lambda features: features + 4, "'features'"),
        ("column", lambda column: column - 4, "column"),
        ("targets", lambda targets: targets + 1, "'targets'"),
        ("values", lambda values: values[1:], "shape"),
        ("bounds", lambda bounds: -bounds, "'bounds'"),
        ("thresholds", lambda thresholds: thresholds + np.nan, "finite"),
        ("classes", lambda classes: np.full(len(classes), np.inf), "finite"),
        (
            "classes",
            lambda classes: np.where(np.arange(len(classes)), classes[0], classes),
            "differ",
        ),
        ("missing_left", lambda missing_left: missing_left[1:], "shape"),
        ("is_real", lambda is_real: is_real[1:], "shape"),
        ("is_ordered", lambda is_ordered: is_ordered[1:], "shape"),
        ("parts", lambda parts: 2 * parts, "once"),
    ],
)
def test_forged_trees_are_refused(name, change, message):
    """No array of a file makes a loop that does not end, or reads beyond an array."""
    X, observed = table()
    is_class = np.array([False, False, False, True]) if name == "classes" else None
    if is_class is not None:
        X[:, 3] = np.digitize(X[:, 0], [-0.5, 0.5])
    trees = fit_boosted_trees(
        X, observed, np.array([3 if name == "classes" else 2]), None, is_class
    )
    (part,) = trees.parts
    owner = part if hasattr(part, name) else trees
    forged = replace(owner, **{name: change(getattr(owner, name))})

    with pytest.raises(ValueError, match=message):
        reread_part(replace(trees, parts=(forged,)) if owner is part else forged)
