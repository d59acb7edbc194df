"""Datasets: subsets, splits, sample weights and loss offsets."""

import numpy as np
import pytest
import torch

from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.training.dataset import Dataset
from tests.training.conftest import to_dataset


def test_a_split_gives_every_row_to_one_side(generator):
    """Validation rows that were trained on validate nothing."""
    x = np.arange(30.0)[:, None]
    train, valid = to_dataset(x).split(8, generator)
    both = np.concatenate([part.arrays(30)[0] for part in (train, valid)])

    assert (len(train), len(valid)) == (22, 8)
    assert sorted(both.ravel().tolist()) == x.ravel().tolist()


def test_take_returns_rows_with_their_weights(rng):
    """Rows by number and member."""
    x, weight = rng.standard_normal((10, 3)), rng.uniform(0.5, 2, 10)
    rows = torch.tensor([[1, 2, 7], [0, 9, 9]])
    ours, own = to_dataset(x, weight).take(rows)

    np.testing.assert_array_equal(ours.numpy(), x[rows.numpy()])
    np.testing.assert_array_equal(own.numpy(), (weight / weight.mean())[rows.numpy()])
    assert to_dataset(x).take(rows)[1] is None


def test_subsets_have_the_mean_loss_offset_of_their_rows(rng):
    """Weighted means, which numpy takes."""
    offset, weight = rng.normal(size=20), rng.random(20)
    table = Dataset.from_x(torch.zeros(20, 1), torch.as_tensor(weight), 20.0, offset)
    for part in (table, *table.split(5, make_generator(0, Stream.SPLIT))):
        own = part.indices().numpy()

        assert part.loss_offset[0] == pytest.approx(np.average(offset[own], weights=weight[own]))


def test_the_first_rows_of_a_file_are_for_validation(generator):
    """They are in random order, and windows of the others are shuffled."""
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    table = Dataset.from_file(x, 0.5, torch.device("cpu"))
    train, valid = table.split(4, generator)

    np.testing.assert_array_equal(valid.arrays(10)[0], x[:4])
    np.testing.assert_array_equal(train.arrays(10)[0], x[4:])
    np.testing.assert_array_equal(train.take(torch.tensor([[5, 0]]))[0][0], x[[9, 4]])
    assert (train.n_weighted_rows, valid.n_weighted_rows) == (6, 4)
    assert (train.rows_per_window, valid.rows_per_window) == (table.rows_per_window, None)
    assert not table.has_missing


def test_arrays_of_a_long_table_are_rows_of_all_its_parts(generator):
    """With their weights."""
    table = to_dataset(np.arange(100.0)[:, None], np.arange(1.0, 101.0)).subset(torch.arange(50))
    x, weight = table.arrays(5)

    assert (np.diff(x[:, 0]) > 0).all()
    assert np.histogram(x, np.arange(0, 51, 10))[0].tolist() == [1] * 5
    np.testing.assert_allclose(weight / weight[0], (x[:, 0] + 1) / (x[0, 0] + 1))
