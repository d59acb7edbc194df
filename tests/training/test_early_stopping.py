"""The learning-rate scheduler: stages, patience and the best parameters."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sklearn_vae.training.optimizer import STAGES, StageScheduler, split_stages
from tests.training.conftest import CONFIG


@pytest.mark.parametrize("max_iter", range(1, 40))
def test_the_stages_divide_all_iterations(max_iter):
    """None is lost to rounding, and the first stage gets the most."""
    lengths = split_stages(max_iter)

    assert sum(lengths) == max_iter
    assert lengths[0] >= max(lengths[1:])


def go(config, val_losses, losses=None):
    """A scheduler whose weights count: each iteration adds its step size to them.

    Losses are (iterations, members); the scheduler ends with them or by itself.
    """
    val_losses = np.atleast_2d(np.asarray(val_losses, dtype=float).T).T
    losses = np.zeros_like(val_losses) if losses is None else np.asarray(losses, dtype=float)
    flat = torch.zeros(val_losses.shape[1], 1).double()
    scheduler = StageScheduler([config] * len(flat), flat)
    for loss, val_loss in zip(losses, val_losses, strict=True):
        if scheduler.done.all():
            break
        flat += torch.as_tensor(scheduler.learning_rates())[:, None]
        scheduler.step(loss, None if np.isnan(val_losses).all() else val_loss, flat)
    return scheduler, flat[:, 0].numpy()


def test_step_sizes_fall_by_stage():
    """1, 0.3 and 0.1 of the first, then nothing."""
    scheduler = StageScheduler([replace(CONFIG, learning_rate=0.5)] * 4, torch.zeros(4, 1))
    scheduler.stage[:] = [0, 1, 2, 3]

    np.testing.assert_allclose(scheduler.learning_rates(), [0.5, 0.15, 0.05, 0])
    assert scheduler.done.tolist() == [False, False, False, True]


def test_a_stage_ends_when_patience_does():
    """Two iterations without a gain end it; the next one starts from the best weights."""
    patient = replace(CONFIG, max_iter=100, patience=2)
    scheduler, flat = go(patient, [5, 4, 4.5, 4.2])

    assert scheduler.stage.tolist() == [1]
    assert scheduler.n_iter.tolist() == [[4, 0, 0]]
    assert scheduler.best_loss.tolist() == [4]
    assert scheduler.best_n_iter.tolist() == [[2, 0, 0]]
    np.testing.assert_allclose(flat, 0.02)


def test_gains_below_the_tolerance_are_kept_but_try_the_patience():
    """Creeping on for ever is no progress; small gains that add up are."""
    patient = replace(CONFIG, max_iter=100, patience=3)
    creeping, _ = go(patient, [5, 4.9996, 4.9995, 4.9994])
    adding, _ = go(patient, [5, 4.9996, 4.9992, 4.9988, 4.9984, 4.9980])

    assert creeping.stage.tolist() == [1]
    assert creeping.best_loss.tolist() == [4.9994]
    assert creeping.best_n_iter.tolist() == [[4, 0, 0]]
    assert adding.stage.tolist() == [0]


def test_epochs_far_above_the_lowest_loss_try_the_patience_more():
    """.1 above is two epochs, .2 above three, and no epoch more than four."""
    config = replace(CONFIG, patience=10, rise=0.1, n_iter_per_stage=(30, 0, 0))
    lengths = []
    for height in (0.0, 0.1, 0.2, 0.3, 5.0):
        scheduler, _ = go(config, [1.0, *[1.0 + height] * 30])
        lengths.append(int(scheduler.n_iter.sum()) - 1)

    assert lengths == [10, 5, 4, 3, 3]


@pytest.mark.parametrize("seed", range(20))
def test_best_n_iter_leads_to_the_best_parameters(seed):
    """Training again for best_n_iter epochs gives best_params, which have the lowest loss."""
    rng = np.random.default_rng(seed)
    val_losses = rng.standard_normal((40, 3)).cumsum(axis=0).round(1)
    losses = np.where(rng.random((40, 3)) < 0.05, np.inf, 0.0)
    wild = replace(CONFIG, max_iter=30, patience=4)
    scheduler, flat = go(wild, val_losses, losses)
    rates = 0.01 * np.array(STAGES)

    assert scheduler.done.all()
    np.testing.assert_allclose(
        scheduler.best_params[:, 0], scheduler.best_n_iter @ rates, atol=1e-12
    )
    np.testing.assert_allclose(flat, scheduler.best_params[:, 0], atol=1e-12)
    assert (scheduler.best_n_iter <= scheduler.n_iter).all()
    assert (scheduler.n_iter <= split_stages(30)).all()
    for member, n_seen in enumerate(scheduler.n_iter.sum(axis=1)):
        finite = np.isfinite(losses[:n_seen, member])
        best = val_losses[:n_seen, member][finite].min(initial=np.inf)
        assert scheduler.best_loss[member] == best


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("validates", [True, False])
def test_a_member_that_diverges_goes_back_and_takes_smaller_steps(validates, loss):
    """The other members do not notice."""
    val_losses = (
        np.full((3, 2), 5.0) - np.arange(3)[:, None] if validates else np.full((3, 2), np.nan)
    )
    losses = np.zeros((3, 2))
    losses[2, 1] = loss
    scheduler, flat = go(replace(CONFIG, max_iter=100), val_losses, losses)

    assert scheduler.diverged.tolist() == [False, False]
    assert scheduler.stage.tolist() == [0, 1]
    assert scheduler.best_n_iter.tolist() == [[3, 0, 0], [2, 0, 0]]
    np.testing.assert_allclose(flat, [0.03, 0.02])


def test_a_member_whose_last_stage_diverges_has_diverged():
    """Then no step size was small enough; before, the next stage goes on from good weights."""
    scheduler, _ = go(replace(CONFIG, max_iter=100), np.full((3, 1), 5.0), np.full((3, 1), np.nan))

    assert scheduler.done.all()
    assert scheduler.diverged.all()
