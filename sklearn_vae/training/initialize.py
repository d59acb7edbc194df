"""Initialization of training jobs: several starts, a linear model of the rows, or k-means."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import norm

from sklearn_vae.initialization.factor_analysis import FactorModel
from sklearn_vae.initialization.kmeans import kmeans_initialization
from sklearn_vae.initialization.ppca import (
    MIN_VARIANCE,
    CorrelationPCA,
    LinearGaussian,
    recording_steps,
)
from sklearn_vae.initialization.regression import ConditionRegression, Residuals
from sklearn_vae.random import Stream, start_seeds, stream_seed
from sklearn_vae.row_subsets import evenly_spaced
from sklearn_vae.training.jobs import TrainingJob

# Least standard deviation of a residual given the conditions: where conditions determine a column,
# a gradient step would be many times as wide as the residuals.
MIN_RESIDUAL = 0.05
# Learning rate of random starts, relative to that of the first one.
RANDOM_START_RATE = 0.15
# Significance level of the test for light tails, and number of rows that it examines.
SIGNIFICANCE = 0.001
MAX_ROWS = 1 << 13


def make_starts(
    job: TrainingJob, n_init: int | str, *, ensemble: bool = False
) -> list[TrainingJob]:
    """Make one job per start; the first has the job's own seed and initialization.

    The others are initialized at random where validation rows choose the best one, not in an
    ensemble: from probabilistic PCA, training may stay near it, where small steps gain next to
    nothing. Every second one of the random starts has homoscedastic scales until the last stage:
    most tables do best if scales depend on z from the first step, and curved surfaces if they do
    not. Random networks have a smaller learning rate: they learn more in each step.
    ``n_init="auto"`` is one start, and a second, random one with homoscedastic scales for tables
    with light tails.
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
    rows = evenly_spaced(len(train), MAX_ROWS)
    x, weight = train.arrays()[0][rows].astype(np.float64), np.ones(len(rows))
    if train.weight is not None:
        weight = train.sample_weight()[rows]
    if architecture.n_conditions:
        x = ConditionRegression.fit(x, weight, architecture.n_columns).residuals(x)
    x = x[:, architecture.has_scale]
    pca = CorrelationPCA.fit(x, weight, architecture.n_components)
    varies = pca.variances > MIN_VARIANCE
    if not varies.any():
        return False
    axes = pca.axes[:, varies] / np.sqrt(pca.variances[varies])
    z = (x - pca.loc) / pca.scale @ axes
    return kurtosis_statistic(z, weight) < norm.ppf(SIGNIFICANCE)


def kurtosis_statistic(z: np.ndarray, weight: np.ndarray) -> float:
    r"""Compute Mardia's standardised multivariate kurtosis of rows (n, p) [1]_.

    The rows have mean 0 and identity covariance, and the sum of their weights is their number. The
    statistic is standard normal where rows are normal. It is negative where the distances of rows
    from their mean vary less than those of normal rows do, as on a ring or a sphere.

    .. math::

        \sqrt{\frac{n}{8p(p+2)}} \Big(
        \frac{1}{n} \sum_i \|z_i\|^4 - p(p+2)\frac{n-1}{n+1}\Big)

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


def make_initializer(n_components: int) -> Callable[[TrainingJob], LinearGaussian]:
    """Make a function of jobs that fits their linear models; jobs on the same rows share them.

    ``n_components`` are those of the largest model.
    """
    linear: dict[int, CorrelationPCA | FactorModel] = {}
    clusters: dict[tuple[int, int, float], LinearGaussian] = {}

    def initialize(job: TrainingJob) -> LinearGaussian:
        table, architecture, codes = id(job.train), job.architecture, job.architecture.codes
        if table not in linear and (architecture.n_factors or not codes.n_variables):
            linear[table] = _linear_model(job, n_components)
        if not codes.n_variables:
            return linear[table].linear_gaussian(architecture.n_components, job.pseudo_observations)
        key = table, job.config.seed, job.pseudo_observations
        if key not in clusters:
            generator = np.random.default_rng(stream_seed(job.config.seed, Stream.CLUSTERS))
            x, weight, regression = _residuals(job)
            model = kmeans_initialization(
                x, weight, codes, architecture.n_components, generator, job.pseudo_observations
            )
            clusters[key] = replace(model, regression=regression)
        if not architecture.n_factors:
            return clusters[key]
        return replace(clusters[key], imputation=linear[table].linear_gaussian(1).imputation)

    return initialize


def _residuals(job: TrainingJob) -> tuple[Any, np.ndarray | None, ConditionRegression | None]:
    """Regress a job's training rows on their conditions: residuals, weights, regression."""
    rows, weight = job.train.arrays()
    weight = None if weight is None else job.train.sample_weight()
    if not job.architecture.n_conditions:
        return rows, weight, None
    regression = ConditionRegression.fit(
        rows, job.train.sample_weight(), job.architecture.n_columns
    )
    return Residuals(rows, regression), weight, regression


def _linear_model(job: TrainingJob, n_components: int) -> CorrelationPCA | FactorModel:
    """Fit the linear model of a job's training rows, given their conditions if there are any."""
    (x, weight, regression), n_factors = _residuals(job), job.architecture.n_factors
    if regression is None:
        if n_factors:
            return FactorModel.fit(x, weight, n_factors)
        return CorrelationPCA.fit(x, weight, n_components)
    model: CorrelationPCA | FactorModel
    if n_factors:
        model = FactorModel.fit(x, weight, n_factors)
        model = replace(model, residual=np.maximum(model.residual, MIN_RESIDUAL))
    else:
        model = CorrelationPCA.fit(x, weight, n_components, MIN_RESIDUAL)
        model = replace(model, min_residual_variance=MIN_RESIDUAL**2)
    # columns were recorded in steps, residuals were not
    steps = recording_steps(job.train.arrays()[0])[: job.architecture.n_columns]
    return replace(model, regression=regression, steps=steps)
