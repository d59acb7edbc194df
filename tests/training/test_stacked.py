"""Stacked training: jobs that are trained together have the results that each has alone."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from sklearn_vae.models.architecture import Architecture
from sklearn_vae.objectives import IWAE, MMD, OBJECTIVES, KLWeight, LinearWarmup, TotalCorrelation
from sklearn_vae.priors import PRIORS, MixturePrior, VampPrior
from sklearn_vae.training import stacked
from sklearn_vae.training.jobs import TrainingConfig, TrainingJob
from tests.conftest import slow
from tests.training.conftest import BLOCKS, PLAN, make_rows


def train(runs):
    """In silence."""
    return stacked.train(runs, verbose=0)


def make_run(train, valid=None, *, n_components=2, prior="normal", **config):
    architecture = Architecture(n_components, (6, 5), BLOCKS, prior=PRIORS.get(prior, prior))
    return TrainingJob(architecture, replace(PLAN, **config), train, valid)


def different_runs(**table):
    """Members that differ in everything that may differ in one stacked."""
    a, b = make_rows(0, **table), make_rows(1, **table)
    va, vb = make_rows(2, 20, **table), make_rows(3, 20, **table)
    return [
        make_run(a, va),
        make_run(b, vb, seed=5),
        make_run(a, va, beta=KLWeight(0.3)),
        make_run(b, vb, beta=LinearWarmup(2.0, 3), learning_rate=3e-3),
        make_run(a, va, learning_rate=3e-2, max_iter=3, weight_decay=0.0),
        make_run(a, va, patience=1),
        make_run(b, vb, learning_rate=1e200, n_iter_per_stage=(2, 1, 0)),
    ]


def assert_same(one, other, **tolerance):
    assert one.n_iter_per_stage == other.n_iter_per_stage
    assert one.diverged == other.diverged
    assert len(one.history) == len(other.history)
    for name, value in one.weights.items():
        assert value.shape == other.weights[name].shape
        np.testing.assert_allclose(other.weights[name], value, err_msg=name, **tolerance)
    for row, own in zip(one.history, other.history, strict=True):
        numbers = [name for name, value in row.items() if isinstance(value, float)]
        np.testing.assert_allclose(
            [own[name] for name in numbers], [row[name] for name in numbers], **tolerance
        )


def assert_equal_to_each_alone(runs):
    assert len(list(stacked.group_jobs(runs))) == 1
    for run, together in zip(runs, train(runs), strict=True):
        (alone,) = train([run])
        assert_same(alone, together, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("batch_size", "weighted"), [(16, True), (100, False), *slow((16, False), (100, True))]
)
def test_a_stacked_member_equals_a_member_trained_alone(batch_size, weighted):
    """To 1e-9 in double precision; with noise of each row's own, and shared by the rows."""
    runs = [
        replace(run, config=replace(run.config, batch_size=batch_size))
        for run in different_runs(weighted=weighted)
    ]

    assert_equal_to_each_alone(runs)


@pytest.mark.parametrize(
    ("batch_size", "weighted"), [(16, True), *slow((100, False), (16, False), (100, True))]
)
@pytest.mark.parametrize(
    ("prior", "objective"),
    [
        (MixturePrior(3), OBJECTIVES["elbo"]),
        (VampPrior(4), OBJECTIVES["elbo"]),
        (PRIORS["normal"], IWAE(3)),
        (VampPrior(4), IWAE(2)),
        (PRIORS["normal"], TotalCorrelation()),
        (PRIORS["normal"], MMD()),
    ],
    ids=repr,
)
def test_so_is_one_with_another_prior_or_objective(prior, objective, batch_size, weighted):
    """They have no written-out gradient."""
    runs = [
        replace(
            run,
            architecture=replace(run.architecture, prior=prior),
            config=replace(run.config, batch_size=batch_size, objective=objective, max_iter=3),
        )
        for run in different_runs(weighted=weighted)
    ]

    assert_equal_to_each_alone(runs)


# another value of each field of TrainingConfig
OTHER_SETTINGS = {
    "seed": 5,
    "max_iter": 3,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "weight_decay": 1.0,
    "beta": KLWeight(0.3),
    "patience": 1,
    "min_steps_per_epoch": 6,
    "n_iter_per_stage": (2, 1, 0),
    "rise": 1e-3,
    "first_epoch": 3,
    "validation_seed": 7,
    "objective": IWAE(3),
    "ema_decay": 0.5,
    "max_grad_norm_ratio": 0.5,
    "is_homoscedastic": True,
}
# it matters only if losses rise, as with this learning rate
BESIDE = {"rise": {"learning_rate": 0.5, "patience": 6, "max_iter": 16}}


def test_every_setting_has_a_case_here():
    """A new setting belongs to each member, or to ``TrainingJob.shape``."""
    assert set(OTHER_SETTINGS) == {field.name for field in fields(TrainingConfig)}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_a_setting_of_one_member_changes_no_other(name):
    """In a search, candidates would otherwise be compared by settings that are not theirs."""
    run = make_run(make_rows(0), make_rows(2, 20), **BESIDE.get(name, {}))
    other = replace(run, config=replace(run.config, **{name: OTHER_SETTINGS[name]}))
    alone = [train([job])[0] for job in (run, other)]
    for one, together in zip(alone, train([run, other]), strict=True):
        assert_same(one, together, rtol=1e-9, atol=1e-9)
    with pytest.raises(AssertionError):
        assert_same(*alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch_size", [16, 100])
def test_so_is_one_that_starts_at_random(batch_size):
    """Beside linear starts, and with as few dimensions as it has."""
    runs = [
        replace(
            run,
            is_random=place % 2 > 0,
            config=replace(run.config, batch_size=batch_size, is_homoscedastic=place % 4 > 1),
        )
        for place, run in enumerate(different_runs())
    ]

    assert_equal_to_each_alone(runs)


@pytest.mark.parametrize("objective", [OBJECTIVES["elbo"], IWAE(3)], ids=repr)
def test_scales_that_are_held_depend_on_z_in_the_last_stage(objective):
    """Before it each column has one scale, which is learned; other members' are free."""
    table, scales = make_rows(0), slice(2, 4)  # after the means of the first two columns

    def slopes(*lengths, is_homoscedastic=True):
        """Weights by which the scales depend on z, and their offsets, before and after."""
        config = {"objective": objective, "patience": 9, "is_homoscedastic": is_homoscedastic}
        run = make_run(table, n_iter_per_stage=lengths, **config)
        other = replace(run, config=replace(run.config, seed=1, is_homoscedastic=False))
        outcome, _ = train([run, other])
        names = "decoder.linear.weight", "decoder.last", "decoder.linear.bias"
        return [outcome.weights[name][0][..., scales] for name in names]

    start = slopes(0, 0, 0)[2]
    linear, last, offset = slopes(2, 1, 0)
    assert (linear == 0).all()
    assert (last == 0).all()
    assert (offset != start).all()
    for free in (slopes(2, 1, 1), slopes(3, 0, 0, is_homoscedastic=False)):
        assert (free[0] != 0).all()
        assert (free[1] != 0).all()


def test_a_stacked_member_nearly_equals_a_member_trained_alone_in_single_precision():
    """After some dozens of steps, 1e-4: rounding is all that differs, and it grows."""
    runs = different_runs(dtype=torch.float32)[:-1]
    for run, together in zip(runs, train(runs), strict=True):
        (alone,) = train([run])
        assert_same(alone, together, rtol=1e-3, atol=1e-4)


def test_finished_members_are_removed(monkeypatch):
    """And the rest goes on with fewer."""
    seen = []
    step = stacked.Trainer.train_step

    def counted(self, *arguments):
        seen.append(len(self.module_.flat))
        return step(self, *arguments)

    monkeypatch.setattr(stacked.Trainer, "train_step", counted)
    table = make_rows(0)
    train([make_run(table, n_iter_per_stage=(n, 0, 0)) for n in (1, 3, 3)])

    assert seen == [3] * 4 + [2] * 8


@pytest.mark.parametrize("weighted", [False, True])
def test_the_last_remaining_member_trains_on_its_rows(weighted):
    """When all others have left, the second table is still the second one."""
    a, b = make_rows(0, weighted=weighted), make_rows(1, weighted=weighted)
    runs = [make_run(a, n_iter_per_stage=(1, 0, 0)), make_run(b, n_iter_per_stage=(3, 0, 0))]

    assert_equal_to_each_alone(runs)


def test_jobs_of_other_shapes_are_not_stacked():
    """Latent sizes, widths, columns, lengths, batches, precision, prior, objective; no more."""
    table = make_rows(0)
    runs = [make_run(table), make_run(table, batch_size=32), make_run(make_rows(0, 61))]
    runs.append(make_run(make_rows(0, dtype=torch.float32)))
    runs.append(replace(runs[0], architecture=Architecture(2, (6,), BLOCKS)))
    runs.append(make_run(table, make_rows(2, 20)))
    runs.append(make_run(table, prior="mixture"))
    runs.append(make_run(table, prior=MixturePrior(3)))
    runs.append(make_run(table, objective=IWAE(3)))
    runs.append(make_run(table, n_components=1))
    runs += different_runs()

    together = sorted(map(sorted, stacked.group_jobs(runs)))
    assert together == [[0], [1], [2], [3], [4], [5, *range(10, 17)], [6], [7], [8], [9]]
