"""Starts of a training job, and the tables that need a random one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Bernoulli, Gaussian, ZeroInflated
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.jobs import TrainingJob
from sklearn_vae.training.stacked import (
    has_light_tails,
    kurtosis_statistic,
    make_initializer,
    make_starts,
    train,
)
from tests.training.conftest import PLAN, make_rows
from tests.training.test_jobs import make_job

REAL = ((Gaussian("per_row"), 6),)
COLUMNS = np.arange(6)
ROWS = np.random.default_rng(0).normal(size=(400, 6))


def ring(n_rows=400, seed=0):
    """A noisy ring in six columns."""
    rng = np.random.default_rng(seed)
    angle, noise = rng.uniform(0, 2 * np.pi, n_rows), rng.normal(size=(n_rows, 6))
    axes = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    return np.column_stack([np.cos(angle), np.sin(angle)]) @ axes + 0.1 * noise


def job_on(x, weight=None, *, n_valid=60, blocks=REAL, **architecture):
    n_rows = len(x) if weight is None else weight.sum()
    weight = None if weight is None else torch.as_tensor(weight / weight.mean())
    rows = Dataset.from_x(torch.as_tensor(x), weight, float(n_rows), 0.0)
    rows, valid = rows.split(n_valid, torch.Generator().manual_seed(0)) if n_valid else (rows, None)
    shapes = Architecture(2, (6, 5), blocks)
    return TrainingJob(replace(shapes, **architecture), PLAN, rows, valid)


def test_starts_are_compared_with_the_same_draws():
    """Not by who had the luckier ones: equal weights have equal losses."""
    jobs = make_starts(make_job(make_rows()), 3)
    no_steps = [replace(job.config, n_iter_per_stage=(0, 0, 0)) for job in jobs]
    still = [
        replace(job, config=config, is_random=False)
        for job, config in zip(jobs, no_steps, strict=True)
    ]

    assert len({job.config.seed for job in jobs}) == 3
    assert len({round(result.loss, 9) for result in train(still, verbose=0)}) == 1


@pytest.mark.parametrize(("n_valid", "ensemble"), [(15, False), (15, True), (0, False), (0, True)])
def test_starts_are_random_where_validation_rows_choose_the_best(n_valid, ensemble):
    """All but the first; every second one has homoscedastic scales at first."""
    jobs = make_starts(make_job(make_rows(), n_valid=n_valid), 5, ensemble=ensemble)
    chooses = bool(n_valid) and not ensemble

    assert jobs[0].config.seed == 0
    assert [job.is_random for job in jobs] == [False, *[chooses] * 4]
    assert [job.config.is_homoscedastic for job in jobs] == [
        False, False, chooses, False, chooses,
    ]  # fmt: skip


def test_missing_cells_change_no_frequency_at_the_start(rng):
    """The start has the point masses of the cells that are observed, not of 0 for all others."""
    is_mass = rng.random((2000, 3)) < [0.2, 0.5, 0.8]
    x = np.stack([is_mass, np.where(is_mass, -2.0, rng.normal(size=(2000, 3)))], axis=2)
    x[rng.random((2000, 3)) < 0.4] = np.nan
    x = x.reshape(2000, 6)
    start = make_initializer()(job_on(x, blocks=((ZeroInflated(1), 3),), n_factors=1, n_valid=0))

    np.testing.assert_allclose(start.loc[::2], np.nanmean(x, axis=0)[::2])
    assert (start.residual[::2] <= np.nanstd(x, axis=0)[::2]).all()


@pytest.mark.parametrize("share", [0.7, 0.95])
def test_training_starts_near_the_marginals_of_columns_with_point_masses(share, rng):
    """The first 25 steps have a mean loss at most a nat above that of independent columns."""
    X = 50 + 5 * (rng.normal(size=(500, 1)) + 0.5 * rng.normal(size=(500, 3)))
    X[rng.random(X.shape) < share] = 0
    vae = VAETransformer(1, max_iter=1, random_state=0).fit(X)
    independent = 0.0
    for x in X.T:
        number = x[x != 0]
        log_prob = stats.norm(number.mean(), number.std()).logpdf(number).mean()
        rest = len(number) / len(x)
        independent += stats.bernoulli(rest).entropy() - rest * log_prob

    assert vae.history_[0]["loss"] < independent + 1


def test_a_ring_has_light_tails_and_normal_and_heavy_tailed_rows_have_none():
    """Also where a part of the columns is constant, or binary and even less spread."""
    real, binary = Gaussian("per_row"), Bernoulli()
    coins = (ROWS > 0).astype(float)
    heavy = np.random.default_rng(0).standard_t(4, size=(400, 6))

    assert has_light_tails(job_on(ring()))
    assert has_light_tails(job_on(ring() * (COLUMNS > 0)))
    assert has_light_tails(job_on(np.where(COLUMNS < 5, ring(), coins),
                                  blocks=((real, 5), (binary, 1))))  # fmt: skip
    assert not has_light_tails(job_on(ROWS))
    assert not has_light_tails(job_on(heavy))
    assert not has_light_tails(job_on(coins, blocks=((binary, 6),)))
    assert not has_light_tails(job_on(np.zeros((400, 6))))


@pytest.mark.parametrize("n_valid", [60, 0])
def test_light_tails_get_a_second_start_where_validation_rows_choose(n_valid):
    """At random, with homoscedastic scales at first; the first start is as ever."""
    automatic, one = (make_starts(job_on(ring(), n_valid=n_valid), n) for n in ("auto", 1))
    is_second = n_valid > 0

    assert [job.config for job in automatic[:1]] == [job.config for job in one]
    assert [job.is_random for job in automatic] == [False, True][: 1 + is_second]
    assert [job.config.is_homoscedastic for job in automatic] == [False, True][: 1 + is_second]
    assert len(make_starts(job_on(ROWS, n_valid=n_valid), "auto")) == 1
    assert len(make_starts(job_on(ring(), n_valid=n_valid), "auto", ensemble=True)) == 5


def whitened(x):
    """Rows with mean 0 and identity covariance."""
    x = x - x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / len(x))).T


def test_normal_rows_have_a_standard_normal_statistic(rng):
    """Over many samples of 400 rows: mean and standard deviation."""
    values = [kurtosis_statistic(whitened(rng.normal(size=(400, 3))), np.ones(400))
              for _ in range(400)]  # fmt: skip

    assert np.mean(values) == pytest.approx(0, abs=0.2)
    assert np.std(values) == pytest.approx(1, abs=0.15)


def test_one_column_is_the_kurtosis_of_scipy(rng):
    """Which is the fourth moment of a standardized column."""
    z = whitened(rng.uniform(size=(300, 1)))
    expected = stats.kurtosis(z[:, 0], fisher=False) - 3 * 299 / 301

    assert kurtosis_statistic(z, np.ones(300)) == pytest.approx(expected * np.sqrt(300 / 24))
