"""Batches: random orders, batch sizes and noise."""

from dataclasses import replace

import pytest
import torch
from scipy import stats

from sklearn_vae.objectives import IWAE
from sklearn_vae.training import trainer
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.trainer import iterate_batches
from tests.training.conftest import CONFIG, LIKE


def table(n_rows):
    """Rows of zeros."""
    return Dataset.from_x(LIKE.new_zeros(n_rows, 1), None, n_rows, 0.0)


def steps(config=CONFIG, iteration=0, n_rows=103, n_components=2):
    """Return the batches of one epoch."""
    return list(iterate_batches(config, [config.seed], iteration, table(n_rows), n_components))


@pytest.mark.parametrize(("n_rows", "batch_size"), [(103, 25), (100, 25), (7, 25), (1, 1), (9, 1)])
def test_each_pass_sees_each_row_once(n_rows, batch_size):
    """All batches have one size: one may end a pass and begin the next."""
    n_batches = -(-n_rows // batch_size)
    found = steps(
        replace(CONFIG, min_steps_per_epoch=3 * n_batches, batch_size=batch_size), n_rows=n_rows
    )

    assert len(found) == 3 * n_batches
    (size,) = {step.rows.shape[1] for step in found}
    assert size == min(batch_size, n_rows)
    rows = torch.cat([step.rows[0] for step in found])
    for passed in rows[: 3 * n_rows].split(n_rows):
        assert sorted(passed.tolist()) == list(range(n_rows))


@pytest.mark.parametrize(("n_rows", "size"), [(128, 128), (129, 96), (142, 96), (300, 128)])
def test_batches_of_a_pass_are_nearly_equal(n_rows, size):
    """As many rows as equal batches have, up to a multiple of two vectors."""
    found = steps(replace(CONFIG, batch_size=128), n_rows=n_rows)

    assert {step.rows.shape[1] for step in found} == {size}


@pytest.mark.parametrize("batch_size", [7, 25, 60, 103])
def test_windows_keep_their_order_and_are_shuffled(batch_size):
    """Rows 0 to 39 come first, then 40 to 79, then the rest, in each of two passes."""
    config = replace(CONFIG, batch_size=batch_size, min_steps_per_epoch=2 * -(-103 // batch_size))
    windows = replace(table(103), rows_per_window=40)
    found = iterate_batches(config, [0, 1], 0, windows, 2)
    rows = torch.cat([batch.rows for batch in found], dim=1)[:, :206]

    assert rows.shape == (2, 206)
    for seed in range(2):
        for first in (0, 103):
            for window in torch.arange(103).split(40):
                seen = rows[seed, first:][window]
                assert not torch.equal(seen, window)
                assert torch.equal(seen.sort().values, window)


def test_every_pass_has_an_order_of_its_own():
    """The same batches again and again would be part of the model."""
    found = steps(replace(CONFIG, min_steps_per_epoch=3, batch_size=200))
    orders = {tuple(step.rows[0].tolist()) for step in found}

    assert len(orders) == 3


def test_batches_depend_on_seed_and_epoch_only():
    """A resumed training takes the same steps."""

    def numbers(seed, iteration):
        found = steps(replace(CONFIG, seed=seed), iteration)
        return [part.flatten().tolist() for step in found for part in step]

    assert numbers(3, 5) == numbers(3, 5)
    assert numbers(3, 5) != numbers(3, 6)
    assert numbers(3, 5) != numbers(4, 5)


def test_the_noise_of_full_batches_does_not_depend_on_the_number_of_rows():
    """A row of weight 2 is then two rows, which have the same noise."""
    config = replace(CONFIG, batch_size=200)
    few, many = (steps(config, n_rows=n_rows) for n_rows in (103, 200))

    assert all(torch.equal(one.noise, other.noise) for one, other in zip(few, many, strict=True))
    assert few[0].noise.shape == (1, 1, 200, 2)
    assert not torch.equal(few[0].noise, few[1].noise)


@pytest.mark.parametrize("n_draws", [1, 2, 3, 7])
@pytest.mark.parametrize("noise_rows", [1, 45, 1 << 16])
@pytest.mark.parametrize("batch_size", [20, 103])
def test_each_row_has_as_many_draws_as_the_objective_asks_for(
    n_draws, noise_rows, batch_size, monkeypatch
):
    """Standard normal, independent between rows, steps and blocks of steps."""
    monkeypatch.setattr(trainer, "CHUNK_ROWS", noise_rows)
    options = {"batch_size": batch_size, "objective": IWAE(n_draws)}
    found = steps(replace(CONFIG, min_steps_per_epoch=20, **options))
    noise = torch.cat([step.noise.flatten() for step in found])

    assert all(step.noise.shape == (1, n_draws, step.rows.shape[1], 2) for step in found)
    assert len(noise.unique()) == noise.numel()
    assert stats.kstest(noise.numpy(), "norm").pvalue > 0.001


@pytest.mark.parametrize("batch_size", [20, 103])
def test_more_components_leave_the_first_ones_noise_as_it_is(batch_size):
    """A grid of latent sizes is compared on the same numbers."""
    few, many = (
        steps(replace(CONFIG, batch_size=batch_size), n_components=n_components)
        for n_components in (2, 5)
    )
    for one, other in zip(few, many, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert one.noise.tolist() == other.noise[..., :2].tolist()
