"""Training jobs of the detector's autoencoders."""

import numpy as np
import torch

from sklearn_vae.anomaly.autoencoders import make_jobs, trimmed_job
from sklearn_vae.anomaly.presets import CONTAMINATED
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.training import Dataset, TrainingResult

ARCHITECTURE = Architecture(1, (2,), "silu", ((Gaussian("per_column"), 3),))
CONFIG = CONTAMINATED.training_config(5, seed=3, batch_size=128, weight_decay=0.0)
TABLE = Dataset.from_x(torch.rand(10, 3), None, 10.0, 0.0)
LEFT_OUT = np.arange(10) % 2 == [[0], [1]]


def test_an_autoencoder_is_not_trained_on_the_rows_that_it_leaves_out():
    """Their scores are out of fold."""
    jobs = make_jobs(ARCHITECTURE, CONFIG, TABLE, LEFT_OUT)

    for job, left_out in zip(jobs, LEFT_OUT, strict=True):
        assert job.train.indices().tolist() == np.flatnonzero(~left_out).tolist()
    assert jobs[0].config.seed == 3 != jobs[1].config.seed


def test_trimmed_training_takes_the_iterations_that_are_left():
    """Together they are ``max_iter``, and batches and noise go on in the next one."""
    job, _ = make_jobs(ARCHITECTURE, CONFIG, TABLE, LEFT_OUT)
    trimmed = trimmed_job(job, TrainingResult({}), 0.2).config

    assert sum(CONFIG.n_iter_per_stage) + sum(trimmed.n_iter_per_stage) == CONFIG.max_iter
    assert trimmed.first_epoch == sum(CONFIG.n_iter_per_stage) > 0
    assert trimmed.objective.trim_fraction == 0.2
