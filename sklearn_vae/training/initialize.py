"""Initialization of training jobs: a linear model of the training rows, or k-means."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sklearn_vae.initialization.factor_analysis import FactorModel
from sklearn_vae.initialization.kmeans import kmeans_initialization
from sklearn_vae.initialization.ppca import CorrelationPCA, LinearGaussian, recording_steps
from sklearn_vae.initialization.regression import ConditionRegression, Residuals
from sklearn_vae.random import Stream, stream_seed
from sklearn_vae.training.jobs import TrainingJob

# Least standard deviation of a residual given the conditions: where conditions determine a column,
# a gradient step would be many times as wide as the residuals.
MIN_RESIDUAL = 0.05


def make_initializer(n_components: int) -> Callable[[TrainingJob], LinearGaussian]:
    """Make a function of jobs that fits their linear models; jobs on the same rows share them.

    Parameters
    ----------
    n_components : int
        Latent dimensions of the largest model.
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
