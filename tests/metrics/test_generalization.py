"""Generalization gap: the scores and the history as oracles."""

import pytest

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import generalization_gap


def test_the_gap_is_that_of_the_history_or_of_two_tables(linear):
    """By default it is taken at the lowest validation loss."""
    X, new, vae = linear
    expected = vae.score(X) - vae.score(new)
    trained = VAETransformer(2, max_iter=6, random_state=0).fit(X)
    first_run = [row for row in trained.history_ if not row["refit"]]
    best = min(first_run, key=lambda row: row["val_loss"])

    assert generalization_gap(vae, X, new) == pytest.approx(expected)
    assert generalization_gap(trained) == pytest.approx(best["val_loss"] - best["loss"])


def test_a_gap_without_validation_rows_is_refused(linear):
    """No validation rows in the fit, or one table of two."""
    X, _, vae = linear
    with pytest.raises(ValueError, match="early_stopping=True"):
        generalization_gap(vae)
    with pytest.raises(ValueError, match="both or neither"):
        generalization_gap(vae, X)
