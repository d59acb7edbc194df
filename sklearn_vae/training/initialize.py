"""Where runs start from: the linear model of their rows, or clusters of them."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import numpy as np

from sklearn_vae.initialization.factor_analysis import FactorModel
from sklearn_vae.initialization.kmeans import kmeans_initialization
from sklearn_vae.initialization.ppca import CorrelationPCA, LinearGaussian, recording_steps
from sklearn_vae.initialization.regression import ConditionRegression, Residuals
from sklearn_vae.random import Stream, stream_seed
from sklearn_vae.training.run import TrainingRun

# Conditions never leave less of a column than this, in standard deviations: where they say all of
# it, a step of training would be many times as wide as what is left.
LEAST_LEFT = 0.05


def starts(n_components: int) -> Callable[[TrainingRun], LinearGaussian]:
    """Give the start of each run; runs on the same rows share what they can.

    Parameters
    ----------
    n_components : int
        Latent dimensions of the largest model.
    """
    models: dict[Hashable, Any] = {}

    def linear(run: TrainingRun) -> Any:
        """Fit the linear model of a run's rows, once."""
        key = id(run.train)
        if key not in models:
            models[key] = _linear_model(run, n_components)
        return models[key]

    def start(run: TrainingRun) -> LinearGaussian:
        own = run.architecture
        codes = own.posterior.one_hot_block(own.n_components)
        if not codes.n_variables:
            return linear(run).linear_gaussian(own.n_components, run.prior_rows)
        key = id(run.train), run.config.seed, run.prior_rows
        if key not in models:
            generator = np.random.default_rng(stream_seed(run.config.seed, Stream.CLUSTERS))
            x, weight, effects = _rest(run)
            found = kmeans_initialization(
                x, weight, codes, own.n_components, generator, run.prior_rows
            )
            models[key] = replace(found, regression=effects)
        if not own.n_factors:
            return models[key]
        return replace(models[key], imputation=linear(run).linear_gaussian(1).imputation)

    return start


def _rest(run: TrainingRun) -> tuple[Any, np.ndarray | None, ConditionRegression | None]:
    """What conditions leave of a run's rows, what these count, and what conditions change."""
    rows, weight = run.train.arrays()
    weight = None if weight is None else run.train.sample_weight()
    if not run.architecture.n_conditions:
        return rows, weight, None
    effects = ConditionRegression.fit(rows, run.train.sample_weight(), run.architecture.n_columns)
    return Residuals(rows, effects), weight, effects


def _linear_model(run: TrainingRun, n_components: int) -> CorrelationPCA | FactorModel:
    """Fit the linear model of a run's rows, given their conditions if they have any."""
    (x, weight, effects), n_factors = _rest(run), run.architecture.n_factors
    if effects is None:
        if n_factors:
            return FactorModel.fit(x, weight, n_factors)
        return CorrelationPCA.fit(x, weight, n_components)
    model: CorrelationPCA | FactorModel
    if n_factors:
        model = FactorModel.fit(x, weight, n_factors)
        model = replace(model, residual=np.maximum(model.residual, LEAST_LEFT))
    else:
        model = CorrelationPCA.fit(x, weight, n_components, LEAST_LEFT)
        model = replace(model, min_residual_variance=LEAST_LEFT**2)
    # columns were recorded in steps, what is left of them was not
    steps = recording_steps(run.train.arrays()[0])[: run.architecture.n_columns]
    return replace(model, regression=effects, steps=steps)
