"""Several starts of one training job, and the tables that need a random one."""

from dataclasses import replace

import numpy as np
from scipy.stats import norm

from sklearn_vae.initialization.ppca import MIN_VARIANCE, CorrelationPCA
from sklearn_vae.initialization.regression import ConditionRegression
from sklearn_vae.random import start_seeds
from sklearn_vae.training.jobs import TrainingJob

# Learning rate of random starts, relative to that of the first one.
RANDOM_START_RATE = 0.15
# Significance level of the test for light tails, and number of rows that it examines.
SIGNIFICANCE = 0.001
MAX_ROWS = 1 << 13


def make_starts(
    job: TrainingJob, n_init: int | str, *, ensemble: bool = False
) -> list[TrainingJob]:
    """Make one job per start; the first has the job's own seed and initialization.

    The others are initialized at random where validation rows choose the best one: from
    probabilistic PCA, training may stay near it, where small steps gain next to nothing.
    Every second one of the random starts has homoscedastic scales until the last stage:
    most tables do best if scales depend on z from the first step, and curved surfaces if
    they do not. Random networks have a smaller learning rate: they learn more in each step.

    Parameters
    ----------
    job : TrainingJob
        The job.
    n_init : int or "auto"
        Number of starts. ``"auto"`` is one, and a second, random one with homoscedastic scales
        for tables with light tails.
    ensemble : bool, default=False
        Whether the models of all starts are kept, and none is chosen.
    """
    chooses = job.valid is not None and not ensemble
    is_curved = n_init == "auto" and chooses and has_light_tails(job)
    n_starts = 1 + is_curved if n_init == "auto" else int(n_init)
    starts = []
    for number, seed in enumerate(start_seeds(job.config.seed, n_starts)):
        is_random = number > 0 and chooses
        # all starts are validated with the same draws of z
        config = replace(
            job.config,
            seed=seed,
            validation_seed=job.config.seed,
            learning_rate=job.config.learning_rate * (RANDOM_START_RATE if is_random else 1),
            is_homoscedastic=is_random and number % 2 == is_curved,
        )
        starts.append(replace(job, config=config, is_random=is_random))
    return starts


def has_light_tails(job: TrainingJob) -> bool:
    """Test whether the principal components of real columns have lighter tails than normal.

    By Mardia's test of kurtosis. Rows on a curved surface of few dimensions lie within bounds of
    their mean, so that principal components have light tails; those of most tables have heavy
    ones. Only for complete rows and models that can start at random.
    """
    architecture, train = job.architecture, job.train
    if architecture.n_factors or not architecture.supports_random_start:
        return False
    rows = np.unique(np.linspace(0, len(train) - 1, min(len(train), MAX_ROWS)).astype(int))
    x, weight = train.arrays()[0][rows].astype(np.float64), train.sample_weight()[rows]
    x = ConditionRegression.fit(x, weight, architecture.n_columns).residuals(x)
    x = x[:, architecture.has_scale]
    pca = CorrelationPCA.fit(x, weight, architecture.n_components)
    varies = pca.variances > MIN_VARIANCE
    if not varies.any():
        return False
    z = (x - pca.loc) / pca.scale @ (pca.axes / np.sqrt(pca.variances))[:, varies]
    return kurtosis_statistic(z, weight) < norm.ppf(SIGNIFICANCE)


def kurtosis_statistic(z: np.ndarray, weight: np.ndarray) -> float:
    r"""Compute Mardia's standardised multivariate kurtosis of rows [1]_.

    The statistic is standard normal where rows are normal. It is negative where the distances of
    rows from their mean vary less than those of normal rows do, as on a ring or a sphere.

    .. math::

        \sqrt{\frac{n}{8p(p+2)}} \Big(
        \frac{1}{n} \sum_i \|z_i\|^4 - p(p+2)\frac{n-1}{n+1}\Big)

    Parameters
    ----------
    z : ndarray of shape (n, p)
        Rows with mean 0 and identity covariance.
    weight : ndarray of shape (n,)
        Sample weights, the sum of which is the number of rows.

    Returns
    -------
    float
        The statistic.

    References
    ----------
    .. [1] K. V. Mardia, "Measures of Multivariate Skewness and Kurtosis with Applications",
       Biometrika 57, 1970.
    """
    n_rows, n_columns = weight.sum(), z.shape[1]
    moment = n_columns * (n_columns + 2)
    kurtosis = weight @ np.square(np.square(z).sum(axis=1)) / n_rows
    excess = kurtosis - moment * (n_rows - 1) / (n_rows + 1)
    return float(excess * np.sqrt(n_rows / (8 * moment)))
