"""Target encodings of columns whose values repeat."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.preprocessing import TargetEncoder

from sklearn_vae.imputation import MAX_BINS, TargetEncoding
from tests.conftest import reread_part


def groups(n_classes=0):
    """Rows of 1,000 groups, whose number says nothing of their target, which they share."""
    rng = np.random.default_rng(0)
    group = rng.integers(1_000, size=3_000)
    if n_classes:
        share = rng.random(1_000) < 0.8
        target = rng.integers(n_classes, size=1_000)[group]
        target = np.where(share[group], target, rng.integers(n_classes, size=3_000)).astype(float)
    else:
        target = rng.normal(size=1_000)[group] + 0.3 * rng.normal(size=3_000)
        target = (target - target.mean()) / target.std()
    return np.column_stack([group.astype(float), target])


def fit(X, n_classes=0):
    return TargetEncoding.fit(X[:, 0], X[:, 1], 0, n_classes)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_encodings_are_those_of_scikit_learn(n_classes):
    """It shrinks towards the mean of all targets, which is 0 for numbers; ours are shares."""
    X = groups(n_classes)
    encoded = fit(X, n_classes).transform(X)
    indicators = X[:, 1:] == np.arange(3) if n_classes else X[:, 1:]
    oracle = TargetEncoder(target_type="continuous", smooth=1.0)
    count = np.bincount(X[:, 0].astype(int))[X[:, 0].astype(int)]
    is_frequent = count * MAX_BINS > len(X)

    for column, y in zip(encoded.T, indicators.T.astype(float), strict=True):
        expected = oracle.fit(X[:, :1], y).transform(X[:, :1])[:, 0] - y.mean() / (count + 1)
        np.testing.assert_allclose(column, np.where(is_frequent, np.nan, expected), atol=1e-6)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_training_rows_do_not_see_their_own_target(n_classes):
    """Not even in the last bits of their encoding."""
    X = groups(n_classes)
    encoding = fit(X, n_classes)
    expected = encoding.transform(X, X[:, 1])[:20]
    for row in range(20):
        alone = fit(np.delete(X, row, axis=0), n_classes)
        np.testing.assert_array_equal(alone.transform(X[[row]])[0], expected[row])


def test_values_of_no_other_row_have_no_encoding():
    """New values, missing ones, and those of one training row."""
    X = np.vstack([groups(), [3_000.0, 1.0]])
    encoding = fit(X)
    rows = np.array([[2_000.0, np.nan], [np.nan, np.nan], [-1.0, np.nan], [3_000.0, np.nan]])

    assert np.isnan(encoding.transform(rows)).tolist() == [[True], [True], [True], [False]]
    assert np.isnan(encoding.transform(X[-1:], X[-1:, 1])).all()


def test_columns_are_encoded_only_if_their_equal_values_say_more_than_near_ones():
    """Not smooth relations, independent targets, or few values, which boosting tells apart."""
    X = groups()
    rng = np.random.default_rng(1)
    smooth = np.column_stack([X[:, 0], np.sin(X[:, 0] / 200) + 0.3 * rng.normal(size=3_000)])

    assert fit(X) is not None
    assert fit(smooth) is None
    assert fit(np.column_stack([X[:, 0], rng.permutation(X[:, 1])])) is None
    assert fit(X[X[:, 0] < MAX_BINS]) is None
    assert fit(np.column_stack([np.arange(3_000.0), X[:, 1]])) is None
    assert fit(np.column_stack([np.arange(3_000.0), np.arange(3_000.0)])) is None
    assert fit(np.column_stack([np.arange(3_000.0), np.arange(3_000.0) % 3]), 3) is None
    assert fit(np.column_stack([X[:, 0], np.zeros(3_000)])) is None


def test_frequent_values_are_left_out():
    """They have bins of their own; a mean of many others would say which target is left out."""
    X = groups()
    X[:1_000, 0] = 7.0
    encoding = fit(X)

    assert 7.0 not in encoding.values
    assert np.isnan(encoding.transform(X[:10], X[:10, 1])).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"totals": np.zeros((3, 1))}, "shape"),
        ({"values": np.array(["a"])}, "numbers"),
        ({"counts": np.array([1, 2, 3])}, "shape"),
        ({"values": np.zeros(0), "counts": np.zeros(0, int), "totals": np.zeros((0, 1))}, "shape"),
    ],
)
def test_forged_encodings_are_refused(changes, message):
    """A file makes no array that is too large, or of other rows."""
    with pytest.raises(ValueError, match=message):
        reread_part(replace(fit(groups()), **changes))
