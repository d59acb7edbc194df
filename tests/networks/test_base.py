"""Layouts and row structures: columns of X behind the inputs and outputs of a network."""

import numpy as np
import pytest

from sklearn_vae.likelihoods import Bernoulli, Categorical, Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.networks import RowStructure


def layout_of(column_indices):
    """Two numbers, a column of three classes and a binary one."""
    blocks = ((Gaussian(), 2), (Categorical(3), 1), (Bernoulli(), 1))
    return Architecture(2, (3,), blocks, 1, column_indices, n_factors=1)


def test_inputs_and_outputs_belong_to_columns_of_x():
    """An encoding and the parameters of a column are numbered from 0."""
    layout = layout_of((4, 0, 3, 1))  # column 2 is constant
    inputs = [(4, 0), (0, 0), (3, 0), (3, 1), (3, 2), (1, 0)]
    outputs = [(4, 0), (0, 0), (4, 1), (0, 1), (3, 0), (3, 1), (3, 2), (1, 0)]

    assert layout.input_positions.tolist() == [list(pair) for pair in inputs]
    assert layout.output_positions.tolist() == [list(pair) for pair in outputs]
    assert (layout.n_encoded, layout.encoder_sizes[0]) == (6, 13)
    assert layout.decoder_sizes == (3, 8)


def test_without_indices_the_columns_keep_their_order():
    """Networks without a structure of rows need no indices."""
    assert layout_of(()).input_positions[:, 0].tolist() == [0, 1, 2, 2, 2, 3]


NAN, ONE = np.nan, 1.0


@pytest.mark.parametrize(
    "row",
    [[ONE] * 6, [ONE] * 4 + [NAN] * 2, [NAN] * 6],
    ids=["three steps", "two steps", "no step"],
)
def test_whole_steps_may_be_missing_at_the_end_of_a_sequence(row):
    """Rows of up to three steps of two values."""
    RowStructure(n_steps=3, values_per_step=2).check_missing(np.array([[ONE] * 6, row]))


def test_half_a_step_may_not_be_missing():
    """A time step is observed as a whole."""
    X = np.array([[ONE] * 6, [ONE] * 3 + [NAN] * 3])
    with pytest.raises(ValueError, match=r"in row 1, column 3, .* until column 3"):
        RowStructure(n_steps=3, values_per_step=2).check_missing(X)


def test_missing_values_before_the_end_of_a_sequence_are_refused():
    """Without time steps any value may be missing."""
    X = np.array([[ONE, ONE, NAN, NAN, ONE, ONE]])

    RowStructure(shared_scale=True).check_missing(X)
    with pytest.raises(ValueError, match=r"in row 0, column 2, .* until column 5"):
        RowStructure(n_steps=3, values_per_step=2).check_missing(X)
