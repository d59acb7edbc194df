"""Numpy's and scipy's matrix operations have one thread in fits and scores."""

import numpy as np
import pytest
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController

from sklearn_vae import VAETransformer
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.system import one_thread

BLAS = ThreadpoolController().select(user_api="blas")


def n_threads():
    return {library["num_threads"] for library in BLAS.info()}


@pytest.fixture(autouse=True)
def two_blas_threads():
    with BLAS.limit(limits=2):
        yield


def test_one_thread_within_the_block_and_all_after_it():
    """Also where blocks are nested."""
    with one_thread("blas"):
        with one_thread("blas"):
            pass
        assert n_threads() == {1}

    assert n_threads() == {2}


@pytest.mark.parametrize("n_rows", [2, 20])  # in numpy and in PyTorch
def test_fits_and_scores_have_one_thread(n_rows, monkeypatch):
    """The columns' code sees one, in every method."""
    transform, seen = TableEncoder.transform, []

    def spy(*args, **params):
        seen.append(n_threads())
        return transform(*args, **params)

    monkeypatch.setattr(TableEncoder, "transform", spy)
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = VAETransformer(max_iter=1, random_state=0).fit(X)
    n_calls = len(seen)
    model.score_samples(X[:n_rows])

    assert 0 < n_calls < len(seen)
    assert seen == [{1}] * len(seen)
    assert n_threads() == {2}
