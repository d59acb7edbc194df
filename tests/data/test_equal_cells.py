"""Cells that often equal another cell of their row: a point mass at the other column's value."""

import numpy as np
import pytest

from sklearn_vae import VAETransformer
from sklearn_vae.data.equal_cells import find_equal_cells
from sklearn_vae.data.fit import fit_encoder
from tests.conftest import assert_file_agrees, slow
from tests.data.test_many_to_one import density

A, B, C = 2, 0, 1


def made(seed, n_rows=600, share=0.2, decimals=None):
    """Bills, their logarithms with noise, and payments that equal some of the bills."""
    rng = np.random.default_rng(seed)
    bill = np.exp(rng.normal(3, 0.7, n_rows))
    payment = bill * np.exp(rng.normal(-0.3, 0.4, n_rows))
    other = np.log(bill) + rng.normal(size=n_rows)
    if decimals is not None:
        bill, payment = bill.round(decimals), payment.round(decimals)
    return np.column_stack([bill, other, np.where(rng.random(n_rows) < share, bill, payment)])


def share_of(X, a=A, b=B):
    """Share of the rows with both in which two columns are equal."""
    return (X[..., a] == X[..., b]).sum() / (~np.isnan(X[..., a] + X[..., b])).sum()


def transformer():
    return VAETransformer(2, max_iter=5, random_state=0)


@pytest.fixture(scope="module", params=[density, transformer])
def fitted(request):
    """A model of numbers without recording steps, and its rows."""
    X = made(0)
    return request.param().fit(X), X


@pytest.mark.parametrize("decimals", [*slow(None), 2])
@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("make", [density, transformer])
def test_samples_are_equal_as_often_as_rows(make, share, decimals):
    X = made(1, 1000, share * 1.2, decimals)
    samples = make().fit(X).sample(4000, random_state=0)

    error = np.sqrt(share * (1 - share) * (1 / len(X) + 1 / len(samples)))
    assert abs(share_of(samples) - share_of(X)) < 3.5 * error
    if decimals is not None:
        np.testing.assert_array_equal(samples[:, A], samples[:, A].round(decimals))
    low, high = X.min(axis=0), X.max(axis=0)
    assert ((samples >= low) & (samples <= high))[:, A].all()


@pytest.mark.parametrize("make", [density, *slow(transformer)])
def test_a_chain_of_three_columns_with_holes(make, rng):
    """Each equals the one before it in some rows, and so also the first."""
    X = made(2, 1500, 0.5)
    last = np.where(rng.random(len(X)) < 0.4, X[:, A], X[:, A] + rng.normal(size=len(X)))
    X = np.column_stack([last, X])
    X[rng.random(X.shape) < 0.1] = np.nan
    model = make().fit(X)
    samples = model.sample(6000, random_state=0)

    columns = {equal.column for equal in model.columns_.equal_cells}
    assert len(model.columns_.equal_cells) == len(columns) == 2
    for a, b in (0, 3), (3, 1), (0, 1):
        assert abs(share_of(samples, a, b) - share_of(X, a, b)) < 0.04
    imputed = model.impute(X, 5, random_state=0)
    for a, b in (0, 3), (3, 1):
        assert abs(share_of(imputed, a, b) - share_of(X, a, b)) < 0.05
    known = ~np.isnan(X)
    np.testing.assert_array_equal(imputed[:, known], np.broadcast_to(X[known], (5, known.sum())))


def test_densities_integrate_to_one(fitted):
    """The density of other numbers, and the probability of the equal one."""
    model, X = fitted
    for row in X[:1]:
        grid = np.exp(np.linspace(-6, 6, 501)) * row[B]
        rows = np.tile(row, (len(grid), 1))
        rows[:, A] = grid
        log_p = model.score_samples(rows, columns=[A], given=[B, C])
        equal = np.isclose(grid, row[B], rtol=1e-9)
        rest = np.trapezoid(np.where(equal, 0, np.exp(log_p)), grid)
        rows[0, A] = row[B]
        mass = np.exp(model.score_samples(rows[:1], columns=[A], given=[B, C])[0])

        assert 0.02 < mass < 0.6
        assert abs(rest + mass - 1) < 0.02


def test_densities_of_recorded_values_integrate_to_one():
    X = made(0, decimals=0)
    model = transformer().fit(X)
    grid = np.arange(-100.0, 500.0)
    for row in X[:1]:
        rows = np.tile(row, (len(grid), 1))
        rows[:, A] = grid
        p = np.exp(model.score_samples(rows, columns=[A], given=[B, C]))

        assert p[grid == row[B]] > 3 * p[grid == row[B] + 1]
        # of the density of numbers, the step at the equal one is not used
        assert 0.93 < p.sum() < 1.01


def test_missing_cells_equal_known_ones(fitted):
    """A column's cells and its partner's: of draws some are equal, and means lie between."""
    model, X = fitted
    X = X[:150]
    p = share_of(X)
    for j, other in (A, B), (B, A):
        hidden = X.copy()
        hidden[:, j] = np.nan
        draws, mean = model.impute(hidden, 20, random_state=0), model.impute(hidden)

        assert abs(share_of(draws) - p) < 0.06
        np.testing.assert_array_equal(draws[0][:, C], X[:, C])
        without = np.where(draws == hidden[:, [other]], np.nan, draws)[..., j]
        expected = p * X[:, other] + (1 - p) * np.nanmean(without, axis=0)
        assert np.corrcoef(mean[:, j], expected)[0, 1] > 0.9


def test_files(fitted, tmp_path):
    model, X = fitted
    rows = X[:100].copy()
    rows[::3, A], rows[1::3, B] = np.nan, np.nan
    assert_file_agrees(model, rows, tmp_path)
    in_single = model.score_samples(rows.astype(np.float32))
    np.testing.assert_allclose(in_single, model.score_samples(rows), atol=1e-2)


def test_weights_count_as_copies():
    X = made(4, decimals=2)
    weight = np.random.default_rng(0).integers(1, 4, len(X))
    (one,), (other,) = (
        find_equal_cells(rows, [0, 1, 2], counts)
        for rows, counts in (
            (X, weight.astype(float)),
            (X.repeat(weight, axis=0), np.ones(weight.sum())),
        )
    )
    assert one.fraction == pytest.approx(other.fraction)
    assert one.step == other.step


def table_of(kind, seed, n_rows=2000):
    """Columns that are equal in some rows by chance, by common values, or always."""
    rng = np.random.default_rng(seed)
    if kind == "integers":
        X = rng.poisson(6, (n_rows, 3))
    elif kind == "steps":  # of one quantity, measured twice
        X = (10 * rng.normal(size=(n_rows, 1)) + rng.normal(size=(n_rows, 3))).round()
    elif kind == "zeros":
        X = np.where(rng.random((n_rows, 3)) < 0.6, 0, np.exp(rng.normal(size=(n_rows, 3))))
    elif kind == "rare":
        X = made(seed, n_rows, 0.02)
    else:
        X = rng.normal(size=(n_rows, 3))
        X[:, 2] = X[:, 0]
    return X.astype(float)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["integers", "steps", "zeros", "rare", "always"])
def test_other_tables_are_encoded_as_without(kind, seed, monkeypatch):
    X = table_of(kind, seed)
    encoder = fit_encoder(X, None, "auto")
    monkeypatch.setattr("sklearn_vae.data.fit.find_equal_cells", lambda *_: [])
    without = fit_encoder(X, None, "auto")

    assert encoder.equal_cells == []
    np.testing.assert_array_equal(encoder.transform(X), without.transform(X))


@pytest.mark.parametrize("finer", [A, B])
def test_the_column_of_larger_steps_comes_first(finer):
    """Values of the finer one may lie between the steps of the coarser one."""
    X = made(4, 1500, 0.0, 1)
    coarse = A + B - finer
    X[:, coarse] = (2 * X[:, coarse]).round() / 2
    rows = np.random.default_rng(0).random(len(X)) < 0.3
    X[rows, finer] = X[rows, coarse]
    model = transformer().fit(X)
    samples = model.sample(2000, random_state=0)

    (equal,) = model.columns_.equal_cells
    assert (equal.column, equal.partner) == (finer, coarse)
    assert abs(share_of(samples) - share_of(X)) < 0.06
    np.testing.assert_allclose(samples[:, coarse] % 0.5, 0, atol=1e-9)


@pytest.mark.parametrize("make", [density, *slow(transformer)])
def test_a_common_value_says_nothing_about_a_missing_partner(make):
    """Where the column is 0, the other one is not, and is imputed as in such rows."""
    X = made(5, 1500, 0.5)
    X[np.random.default_rng(0).random(len(X)) < 0.4, A] = 0
    model = make().fit(X)
    (equal,) = model.columns_.equal_cells
    incomplete = X[X[:, A] == 0]
    incomplete[:, B] = np.nan
    drawn = model.impute(incomplete, 3, random_state=0)[..., B]

    assert np.isin(0, equal.common)
    assert np.isin(drawn, equal.bounds).mean() < 0.01


def orders(decimals=2):
    """What was paid for an order, its amount, price and pieces, and the payment in cents."""
    rng = np.random.default_rng(0)
    price, pieces = np.exp(rng.normal(3, 0.5, 600)).round(decimals), 1 + rng.poisson(2, 600)
    amount = (price * pieces).round(decimals)
    paid = np.where(rng.random(600) < 0.5, amount, (amount * rng.random(600)).round(decimals))
    return np.column_stack([paid, amount, price, pieces, (100 * paid).round()])


@pytest.mark.parametrize("make", [density, transformer])
def test_cells_that_equal_a_derived_number(make):
    """As a payment and an amount that is the product of price and pieces."""
    X = orders()
    holed = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
    model = make().fit(X)
    imputed = model.impute(holed, 1, random_state=0).reshape(X.shape)
    for rows in model.sample(2000, random_state=0), imputed:
        assert abs(share_of(rows, 0, 1) - share_of(X, 0, 1)) < 0.06
        assert (np.abs(rows[:, 2] * rows[:, 3] - rows[:, 1]) < 0.0051).all()
        assert (np.abs(100 * rows[:, 0] - rows[:, 4]) < 1e-6).all()


def test_densities_of_cells_that_equal_a_derived_number_sum_to_one():
    X = orders(decimals=0)[:, :4]
    model = transformer().fit(X)
    for row in X[:1]:
        rows = np.tile(row, (2 * int(row[1]) + 200, 1))
        rows[:, 0] = np.arange(len(rows)) - 100
        p = np.exp(model.score_samples(rows, columns=[0], given=[1, 2, 3]))

        assert p[rows[:, 0] == row[1]] > 0.3
        assert abs(p.sum() - 1) < 0.04
