"""Training jobs: starts, resumed trainings and refits."""

from dataclasses import replace

import numpy as np
import torch

from sklearn_vae.models.architecture import Architecture
from sklearn_vae.objectives import LinearWarmup
from sklearn_vae.training.jobs import TrainingJob, TrainingResult
from sklearn_vae.training.stacked import train
from tests.training.conftest import BLOCKS, PLAN, make_rows


def make_job(rows, *, n_valid=15, **config):
    architecture = Architecture(2, (6, 5), BLOCKS)
    rows, valid = rows.split(n_valid, torch.Generator().manual_seed(0)) if n_valid else (rows, None)
    return TrainingJob(architecture, replace(PLAN, **config), rows, valid)


def test_a_refit_trains_on_all_rows_for_the_best_number_of_iterations():
    """It has no validation rows, and its history follows that of the first training."""
    rows = make_rows()
    job = make_job(rows, max_iter=30)
    (first,) = train([job], verbose=0)
    refit = job.refit(first, rows)
    (result,) = train([refit], verbose=0)
    second = result.history[len(first.history) :]

    assert refit.weights is None
    assert result.history[: len(first.history)] == first.history
    assert [record["iteration"] for record in result.history] == [
        *range(1, len(result.history) + 1)
    ]
    assert len(second) == sum(first.n_iter_per_stage)
    assert all("val_loss" in record and not record["refit"] for record in first.history)
    assert all("val_loss" not in record and record["refit"] for record in second)
    assert result.n_steps == 4 * len(result.history)


def test_halves_are_held_out_of_each_other_and_all_rows_have_the_iterations_of_both():
    rows = make_rows().subset(torch.arange(59))  # an odd one is in neither
    job = make_job(rows, n_valid=0, max_iter=7)
    halves = job.halve(rows)
    first, second = halves
    results = train(halves, verbose=0)
    joined = halves[0].join(results, rows)
    (result,) = train([joined], verbose=0)

    assert first.train is second.valid
    assert second.train is first.valid
    seen = torch.cat([half.train.indices() for half in halves])
    assert len(first.train) == len(second.train) == 29
    assert len(seen.unique()) == 58
    assert [half.config.max_iter for half in halves] == [3, 3]
    assert first.shape == second.shape  # trained in one stacked model
    assert joined.train is rows
    assert joined.valid is None
    assert joined.previous is min(results, key=lambda each: each.loss)
    n_iter = sum(joined.config.n_iter_per_stage)
    assert len(result.history) == 3 + n_iter
    assert [record["refit"] for record in result.history] == [False] * 3 + [True] * n_iter


def test_a_long_training_of_a_half_goes_on_with_all_rows():
    """For the iterations of the other half; a short one begins anew, for those of both."""
    rows = make_rows()
    half = make_job(rows, n_valid=0, max_iter=10).halve(rows)[0]
    worse, better = (
        TrainingResult({"name": np.ones(1)}, n_iter, loss)
        for n_iter, loss in (((2, 1, 0), 2.0), ((1, 0, 1), 1.0))
    )
    long = half.join([worse, better], rows)
    short = half.join([replace(worse, n_iter_per_stage=(1, 1, 0)), better], rows)

    assert long.weights is better.weights
    assert long.config.n_iter_per_stage == (2, 1, 0)
    assert short.weights is None
    assert short.config.n_iter_per_stage == (2, 1, 1)


def test_a_long_training_goes_on_where_it_ended_on_all_rows():
    """With its weights, a smaller learning rate and the last beta, for a fifth as long."""
    rows = make_rows()
    job = make_job(rows, max_iter=60, patience=60, learning_rate=1e-3, beta=LinearWarmup(2.0, 4))
    (first,) = train([job], verbose=0)
    n_iter = sum(first.n_iter_per_stage)
    assert n_iter >= 20
    refit = job.refit(first, rows)
    second = train([refit], verbose=0)[0].history[len(first.history) :]

    assert len(refit.train) == 60
    assert len(second) == np.ceil(n_iter / 5)
    assert {record["beta"] for record in second} == {2.0}
    np.testing.assert_allclose([record["learning_rate"] for record in second], 3e-4)
    np.testing.assert_equal(refit.weights, first.weights)


def test_a_short_training_and_a_homoscedastic_one_begin_anew_on_all_rows():
    """Scales depend on the stage."""
    rows, result = make_rows(), TrainingResult({}, n_iter_per_stage=(19, 0, 0))
    long_result = replace(result, n_iter_per_stage=(10, 9, 1))

    assert make_job(rows).refit(result, rows).weights is None
    assert make_job(rows, is_homoscedastic=True).refit(long_result, rows).weights is None
    assert make_job(rows).refit(long_result, rows).weights == {}


def test_a_resumed_training_starts_at_the_weights_of_the_result():
    """Without a step, they are the same."""
    job = make_job(make_rows(), n_valid=0, max_iter=2)
    (first,) = train([job], verbose=0)
    no_steps = replace(job.config, n_iter_per_stage=(0, 0, 0))
    again = replace(job, config=no_steps, weights=first.weights, previous=first)
    (still,) = train([again], verbose=0)

    for name, value in first.weights.items():
        np.testing.assert_array_equal(still.weights[name], value)
    assert still.history == first.history
    assert still.n_steps == first.n_steps


def test_divergence_of_the_first_training_is_remembered():
    """Also where the second one converges."""
    rows = make_rows()
    job = make_job(rows, learning_rate=1e200)
    (first,) = train([job], verbose=0)
    tame = replace(job, config=replace(job.config, learning_rate=1e-3))
    (second,) = train([tame.refit(first, rows)], verbose=0)

    assert first.diverged
    assert second.diverged


def test_jobs_and_refits_together_have_the_results_that_they_have_alone():
    """On one table and on several, with one seed and with several."""
    a, b = make_rows(0), make_rows(1)
    rows = [a, a, b, b]
    jobs = [make_job(a), make_job(a, seed=4), make_job(b), make_job(b, learning_rate=3e-2)]
    first = train(jobs, verbose=0)
    refits = [job.refit(one, own) for job, one, own in zip(jobs, first, rows, strict=True)]

    for refit, together in zip(refits, train(refits, verbose=0), strict=True):
        (alone,) = train([refit], verbose=0)
        assert together.n_steps == alone.n_steps
        assert len(together.history) == len(alone.history)
        for name, value in alone.weights.items():
            np.testing.assert_allclose(together.weights[name], value, rtol=1e-9, atol=1e-9)
