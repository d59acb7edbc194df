"""Normal rows with missing values, against scipy's normal distribution, in both libraries."""

import numpy as np
import pytest
import torch
from scipy import stats

from sklearn_vae.models.incomplete_normal import (
    conditional_step,
    marginal_of_normal,
    missing_columns,
)

libraries = pytest.mark.parametrize("library", [np, torch])
N_ROWS, N_COLUMNS = 6, 4


@pytest.fixture
def normal():
    """Rows with their own means, roots of precisions, factors of these, and masks."""
    rng = np.random.default_rng(0)
    rows, loc = rng.normal(size=(2, N_ROWS, N_COLUMNS))
    shape = N_ROWS, N_COLUMNS, N_COLUMNS
    root, left = np.tril(rng.normal(size=(2, *shape)), -1) + np.eye(N_COLUMNS) * [1, 2, 0.5, 1]
    observed = rng.random((N_ROWS, N_COLUMNS)) < 0.6
    observed[0], observed[1] = True, False
    return rows, loc, root, left, observed


def arrays(library, *parts):
    return [library.asarray(part) for part in parts]


@libraries
@pytest.mark.parametrize("has_factor", [False, True])
def test_the_density_of_observed_values_is_that_of_the_marginal(normal, library, has_factor):
    rows, loc, root, left, observed = normal
    product = left @ root if has_factor else root
    standard = (product @ (rows - loc)[..., None])[..., 0]
    given = arrays(library, root, standard, observed)
    residual, log_scale = marginal_of_normal(*given, library.asarray(left) if has_factor else None)
    log_prob = -0.5 * (residual**2).sum(-1) - log_scale.sum(-1)

    for row in range(N_ROWS):
        seen = observed[row]
        covariance = np.linalg.inv(product[row].T @ product[row])[np.ix_(seen, seen)]
        constant = 0.5 * seen.sum() * np.log(2 * np.pi)
        expected = 0.0
        if seen.any():
            marginal = stats.multivariate_normal(loc[row, seen], covariance)
            expected = marginal.logpdf(rows[row, seen]) + constant
        assert float(log_prob[row]) == pytest.approx(expected, abs=1e-9)


@libraries
def test_missing_values_move_to_their_conditional_means(normal, library):
    rows, loc, root, left, observed = normal
    residual = np.where(observed, rows - loc, 0)
    step = conditional_step(*arrays(library, root, residual, observed, left))

    assert (np.asarray(step)[observed] == 0).all()
    for row in range(1, N_ROWS):
        seen, product = observed[row], left[row] @ root[row]
        covariance = np.linalg.inv(product.T @ product)
        gain = covariance[np.ix_(~seen, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
        np.testing.assert_allclose(step[row][~seen], gain @ residual[row, seen], atol=1e-9)


@libraries
def test_columns_of_missing_values_are_padded_by_observed_ones(library):
    observed = library.asarray(np.array([[True, False, False], [False, True, True]]))
    columns, is_padding = missing_columns(observed)

    assert columns[0].tolist() == [1, 2]
    assert int(columns[1][0]) == 0
    assert is_padding.tolist() == [[False, False], [False, True]]
    assert missing_columns(observed[:0])[0].shape == (0, 0)
