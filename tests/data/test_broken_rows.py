"""Rows that break an equation of all others."""

import numpy as np
import pytest

from sklearn_vae import VAEOutlierDetector, VAETransformer
from sklearn_vae.data.find_broken_rows import find_broken_rows
from sklearn_vae.data.fit import fit_encoder
from tests.conftest import slow

BROKEN = {1: [7], 3: [7, 100, 202]}


def make(kind, n_rows, rng):
    """Cents, or whole numbers and prices, of which the last column is a sum or a product."""
    a, b = np.exp(rng.normal([3, 1.5], [0.6, 0.4], (n_rows, 2))).round(2).T
    if kind == "sum":
        return np.column_stack([a, b, rng.normal(size=n_rows).round(3), a + b])
    pieces = rng.choice([1.0, 2.0, 5.0], n_rows, p=[0.8, 0.1, 0.1])
    return np.column_stack([pieces, b, rng.normal(size=n_rows).round(3), (pieces * b).round(2)])


@pytest.mark.parametrize("n_rows", [400, *slow(20_000)])
@pytest.mark.parametrize("n_broken", BROKEN)
@pytest.mark.parametrize("kind", ["sum", "product"])
@pytest.mark.parametrize("column", [1, 3])
def test_broken_rows_are_found(column, kind, n_broken, n_rows, rng):
    """Also where a column that is not needed has holes, and a value is a hundred times as large."""
    X, rows = make(kind, n_rows, rng), BROKEN[n_broken]
    X[rows, column] *= [1.4, 0.8, 100][:n_broken]
    X[rng.random(n_rows) < 0.05, 2] = np.nan

    assert np.flatnonzero(find_broken_rows(X, [0, 1, 2, 3])).tolist() == rows
    assert not find_broken_rows(X, [0, 1, 2]).any()


@pytest.mark.parametrize("kind", ["sum", "product"])
def test_a_few_broken_rows_hide_no_equation(kind, rng):
    """They have the lowest scores, and samples keep the equation."""
    X, rows = make(kind, 400, rng), BROKEN[3]
    X[rows, 3] += [2.5, -1.25, 7]
    model = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    drawn = model.sample(300, random_state=0)
    (relation,) = model.columns_.linear_relations

    assert sorted(np.argsort(model.score_samples(X))[:3].tolist()) == rows
    assert relation.agrees(drawn).all()
    assert np.flatnonzero(~relation.agrees(X)).tolist() == rows


@pytest.mark.slow
def test_the_detector_finds_broken_rows(rng):
    X, rows = make("sum", 400, rng), BROKEN[3]
    X[rows, 3] += [2.5, -1.25, 7]
    scores = VAEOutlierDetector(random_state=0).fit(X).score_samples(X)

    assert set(np.argsort(scores)[:6].tolist()) >= set(rows)


def test_rows_with_a_rare_source_are_not_broken(rng):
    """A discount in two rows is a part of the total."""
    X = make("sum", 400, rng)
    X[:, 2] = 0
    X[[7, 300], 2] = 2.5, 4
    X[:, 3] = (X[:, 3] - X[:, 2]).round(2)

    assert find_broken_rows(X, [0, 1, 3]).sum() == 2
    assert not find_broken_rows(X, [0, 1, 2, 3]).any()


def test_an_equation_that_more_rows_break_is_none(rng):
    X = make("sum", 400, rng)
    X[rng.choice(400, 12, replace=False), 3] += 1

    assert not find_broken_rows(X, [0, 1, 2, 3]).any()
    assert not fit_encoder(X, None, "auto").linear_relations


def test_no_rows_are_broken_by_chance(rng):
    """Neither in correlated columns, nor in small whole numbers, nor in few rows."""
    for n_rows in (60, 300):
        z = rng.normal(size=(n_rows, 3))
        tables = [
            z @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(n_rows, 8)),
            rng.poisson(np.exp(z[:, :1] @ np.ones((1, 6)))).astype(float),
            rng.integers(1, 4, (n_rows, 5)).astype(float),
            np.exp(2 * z @ rng.normal(size=(3, 5))).round(2),
        ]
        for X in tables:
            assert not find_broken_rows(X, [*range(X.shape[1])]).any()
