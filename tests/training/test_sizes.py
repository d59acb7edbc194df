"""Sizes of a training: which jobs are trained together."""

from dataclasses import replace

from sklearn_vae.objectives import IWAE
from sklearn_vae.training import sizes
from sklearn_vae.training.sizes import group_jobs, memory_of_jobs
from tests.training.test_stacked import make_run, to_table


def test_a_stacked_model_fits_in_the_working_set(monkeypatch):
    """What does not fit the cache goes in turn."""
    runs = [make_run(to_table(seed)) for seed in range(7)]
    monkeypatch.setattr(sizes, "WORKING_SET", 3 * sizes.working_set(runs[0]))

    assert [len(places) for places in group_jobs(runs)] == [3, 2, 2]


def test_draws_add_to_the_decoders_rows_only():
    """The encoder sees each row once, so several draws take less than several times the memory."""
    one, three = (make_run(to_table(0), objective=IWAE(n_draws)) for n_draws in (1, 3))
    n_weights = one.architecture.n_products
    values = sizes.working_set(one) - 4 * n_weights * one.train.x.dtype.itemsize  # of both networks

    assert sizes.working_set(three) - sizes.working_set(one) == values


def test_a_stacked_model_fits_in_memory(monkeypatch):
    """Rows of several tables are copied to be side by side, which those of one are not."""
    tables = [to_table(seed, 4000) for seed in range(4)]
    apart = [make_run(table) for table in tables]
    shared = [make_run(tables[0]) for _ in tables]
    monkeypatch.setattr(sizes, "MEMORY", memory_of_jobs(shared))

    assert [len(places) for places in group_jobs(shared)] == [4]
    assert [len(places) for places in group_jobs(apart)] == [1, 1, 1, 1]
    monkeypatch.setattr(sizes, "MEMORY", memory_of_jobs(apart))
    assert [len(places) for places in group_jobs(apart)] == [4]


def test_memory_grows_with_the_validation_rows():
    """And with its weights, but with the rows of a table that is there anyway it does not."""
    table, valid = to_table(0), to_table(1)
    run = make_run(table, valid)
    wide = replace(run, architecture=replace(run.architecture, hidden_layer_sizes=(50, 5)))

    assert memory_of_jobs([make_run(table)]) < memory_of_jobs([run]) < memory_of_jobs([wide])
    assert memory_of_jobs([run, run]) == 2 * memory_of_jobs([run])
    assert memory_of_jobs([make_run(to_table(0, 120))]) == memory_of_jobs([make_run(table)])
