"""Boosted trees that are computed by numpy alone."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from sklearn_vae.estimators.boosting import MIN_ROWS_PER_LEAF, N_TREES, fit_boosted_trees


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
        regressor = HistGradientBoostingRegressor(
            max_iter=N_TREES, min_samples_leaf=MIN_ROWS_PER_LEAF, early_stopping=False
        )
        regressor.fit(X[:100][rows][:, others], (y - y.mean()) / y.std())
        expected = y.mean() + y.std() * regressor.predict(X[:, others])
        expected = np.clip(expected, y.min(), y.max())
        missing = ~observed[:, column]
        np.testing.assert_allclose(predicted[missing, column], expected[missing], rtol=1e-9)
        np.testing.assert_array_equal(predicted[~missing, column], X[~missing, column])
    np.testing.assert_array_equal(predicted[:, [1, 3]], X[:, [1, 3]])


def test_columns_with_missing_values_are_not_used():
    """An empty column leaves the trees as they are."""
    X, observed = table()
    empty = np.full((150, 1), np.nan)
    columns = np.array([2])
    alone = fit_boosted_trees(X, observed, columns, None).predict(X, ~observed)
    beside = fit_boosted_trees(np.hstack([X, empty]), observed, columns, None)
    predicted = beside.predict(np.hstack([X, empty]), np.hstack([~observed, empty == 0]))

    np.testing.assert_array_equal(predicted[:, :4], alone)


@pytest.mark.parametrize("columns", [[0], []])
def test_without_other_columns_nothing_is_predicted(columns):
    """Nor without columns to predict."""
    X = table()[0][:, [0]]
    trees = fit_boosted_trees(X, np.ones(X.shape, bool), np.array(columns, int), None)
    trees.check()

    np.testing.assert_array_equal(trees.predict(X, np.ones(X.shape, bool)), X)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("children", lambda children: children[::-1], "parents of trees"),
        ("children", lambda children: children + 1, "parents of trees"),
        ("roots", lambda roots: roots - 1, "'roots'"),
        ("features", lambda features: features + 4, "'features'"),
        ("columns", lambda columns: columns - 3, "'columns'"),
        ("targets", lambda targets: targets + 1, "'targets'"),
        ("values", lambda values: values[1:], "shape"),
        ("bounds", lambda bounds: -bounds, "'bounds'"),
        ("thresholds", lambda thresholds: thresholds + np.nan, "finite"),
    ],
)
def test_forged_trees_are_refused(name, change, message):
    """No array of a file makes a loop that does not end, or reads beyond an array."""
    X, observed = table()
    trees = fit_boosted_trees(X, observed, np.array([2]), None)
    forged = replace(trees, **{name: change(getattr(trees, name))})

    with pytest.raises(ValueError, match=message):
        forged.check()
