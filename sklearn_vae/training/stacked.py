"""Stacked training: jobs whose models have one shape are trained as members of one model.

Also several starts of a job, and the linear models of rows, or k-means, that models start from.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from sklearn_vae.initialization.factor_analysis import FactorModel, n_imputation_factors
from sklearn_vae.initialization.kmeans import MAX_ROWS, kmeans_initialization
from sklearn_vae.initialization.ppca import (
    MIN_VARIANCE,
    ConditionRegression,
    CorrelationPCA,
    LinearGaussian,
    observed_moments,
)
from sklearn_vae.likelihoods import Ordinal
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.build import build
from sklearn_vae.networks import ConvNet, CustomNetwork
from sklearn_vae.numerics.random import (
    Stream,
    make_generator,
    sample_categorical,
    start_seeds,
    stream_seed,
)
from sklearn_vae.numerics.rows import rows_in_memory, spread_out
from sklearn_vae.system.compute import threads_for
from sklearn_vae.training.dataset import CHUNK_ROWS
from sklearn_vae.training.jobs import TrainingJob, TrainingResult
from sklearn_vae.training.trainer import Trainer

# Learning rate of random starts, relative to that of the first one.
RANDOM_START_RATE = 0.15
# Rows that linear models are fitted to, at least; and for columns that are no input, at most.
ROWS_FOR_LINEAR_MODELS = 20_000


def train(
    jobs: Sequence[TrainingJob], results: dict[int, TrainingResult] | None = None, **kwargs: Any
) -> list[TrainingResult]:
    """Train all jobs, in as few stacked models as their shapes and the cache allow.

    Each result equals that of the job alone, up to rounding. Ctrl-C leaves those so far in
    ``results``, by index. Other arguments are the trainer's.
    """
    results = {} if results is None else results
    linear_model_of = make_initializer()
    for indices in group_jobs(jobs):
        group = [jobs[index] for index in indices]
        with threads_for_jobs(group):
            trainer = make_trainer(group, linear_model_of, **kwargs)
            try:
                results |= zip(indices, trainer.train(), strict=True)
            except KeyboardInterrupt:
                with suppress(Exception):  # interrupted in the middle of an update
                    trainer.end()
                    results |= {indices[k]: result for k, result in trainer.results_.items()}
                raise
    return [results[index] for index in range(len(jobs))]


def make_trainer(
    jobs: Sequence[TrainingJob],
    linear_model_of: Callable[[TrainingJob], LinearGaussian],
    **kwargs: Any,
) -> Trainer:
    """Make the trainer of a group of jobs, with the initial weights of every member."""
    model = build(jobs[0].architecture, len(jobs)).to(jobs[0].train.like)
    model.flatten()
    rows = []
    for member, job in enumerate(jobs):
        if job.weights is not None:
            model.load(job.weights, member)
            continue
        linear_model = linear_model_of(job)
        model.reset_parameters(member, job.config.seed)
        model.initialize(member, linear_model)
        if job.steps is not None:
            model.set_recording_steps(member, job.steps)
        if job.is_random:
            model.initialize_at_prior(member, linear_model, job.config.seed)
        if model.prior.n_rows:
            rows.append(_quantile_rows(job, linear_model, model.prior.n_rows))
    if rows:
        model.initialize_prior(torch.stack(rows))
    return Trainer(model, jobs, **kwargs)


def _quantile_rows(job: TrainingJob, linear_model: LinearGaussian, n_rows: int) -> torch.Tensor:
    """Draw training rows at random quantiles of the first principal axis: (n_rows, n_columns).

    Quantiles are weighted: a row of weight 2 is as two rows.
    """
    train, like = job.train, job.train.like
    axis = torch.as_tensor(linear_model.posterior_weights[:, 0]).to(like)
    inputs = torch.as_tensor(job.architecture.inputs).to(like.device)
    n_first = min(train.rows_per_window or len(train), len(train))
    rows = torch.arange(n_first, device=like.device)
    along, counts = like.new_empty(len(rows)), torch.ones(len(rows), dtype=torch.double)
    for chunk in rows.split(CHUNK_ROWS):
        x, weight = train.take(chunk.unsqueeze(0))
        along[chunk] = x[0].nan_to_num().index_select(1, inputs) @ axis
        if weight is not None:
            counts[chunk.cpu()] = weight[0].cpu().double()
    order = along.argsort()
    ends = counts[order.cpu()].cumsum(0)
    generator = make_generator(job.config.seed, Stream.PRIOR)
    chance = torch.rand(n_rows, generator=generator, dtype=torch.double)
    quantiles = (torch.arange(n_rows) + chance) / n_rows * ends[-1]
    chosen = sample_categorical(ends, quantiles)
    return train.take(order[chosen.to(order.device)].unsqueeze(0))[0][0]


def group_jobs(jobs: Sequence[TrainingJob]) -> Iterator[list[int]]:
    """Group jobs by shape, as many as fit in the cache; yield the indices of each group."""
    alike: dict[Hashable, list[int]] = {}
    for index, job in enumerate(jobs):
        alike.setdefault(job.shape, []).append(index)
    for indices in alike.values():
        job = jobs[indices[0]]
        architecture, x, device = job.architecture, job.train.x, job.train.like.device
        # read and written in a step, roughly: layers' values and gradients, twice; four per weight
        widths = sum(architecture.hidden_layer_sizes) + 2 * x.shape[1]
        n_values = 4 * sum(job.config.rows_per_step(len(job.train))) * widths
        n_bytes = x.dtype.itemsize * (4 * architecture.n_products + n_values)
        max_bytes = 16 << 20  # they fit in the last cache
        if device.type == "cuda":
            max_bytes = torch.cuda.mem_get_info(device)[0] // 16  # of its free memory
        # 0 bytes of a model without weights, as of a constant column
        largest = max(max_bytes // max(n_bytes, 1), 1)
        n_groups = -(-len(indices) // largest)
        yield from (group.tolist() for group in np.array_split(indices, n_groups))


def threads_for_jobs(jobs: Sequence[TrainingJob]) -> AbstractContextManager[None]:
    """Set torch's number of threads for the gradient steps of a group of jobs."""
    job = jobs[0]
    _, n_decoded = job.config.rows_per_step(len(job.train))
    return threads_for(len(jobs) * n_decoded * job.architecture.n_products)


# -- starts and initialization -------------------------------------------------------------


def make_starts(
    job: TrainingJob, n_init: int | str, *, ensemble: bool = False
) -> list[TrainingJob]:
    """Make one job per start; the first has the job's own seed and initialization.

    The others are initialized at random where validation rows choose the best one, not in an
    ensemble. Every second random start has homoscedastic scales until the last stage, with which
    curved surfaces do best. Random networks learn more in each step, and have a smaller rate.
    ``n_init="auto"`` is one start, two for tables with light tails, and in an ensemble five.
    """
    chooses = job.valid is not None and not ensemble
    is_curved = n_init == "auto" and chooses and has_light_tails(job)
    n_auto = 5 if ensemble else 1 + is_curved
    n_starts = n_auto if n_init == "auto" else int(n_init)
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

    By Mardia's test of kurtosis, at a level of .1 %. Those of rows on a curved surface of few
    dimensions do, most tables have heavy ones. Only for complete rows and models that can start at
    random.
    """
    architecture, train = job.architecture, job.train
    can_start_at_random = architecture.is_textbook and architecture.hidden_layer_sizes
    if architecture.n_factors or not can_start_at_random:
        return False
    x, weight = train.arrays(min(MAX_ROWS, rows_in_memory(architecture.n_columns)))
    if architecture.n_conditions:
        x = x.astype(np.float64)
        x = ConditionRegression.fit(x, weight, architecture.n_columns).residuals(x)
    x = x[:, architecture.is_number].astype(np.float64)
    pca = CorrelationPCA.fit(x, weight, architecture.n_components)
    varies = pca.variances > MIN_VARIANCE
    if not varies.any():
        return False
    axes = pca.axes[:, varies] / np.sqrt(pca.variances[varies])
    x -= pca.loc
    x /= pca.scale
    return kurtosis_statistic(x @ axes, weight) < norm.ppf(0.001)


def kurtosis_statistic(z: np.ndarray, weight: np.ndarray) -> float:
    r"""Compute Mardia's (1970) standardized multivariate kurtosis of rows (n, p).

    Rows have mean 0 and identity covariance, and the sum of their weights is their number. It is
    standard normal where rows are, and negative where their distances vary less, as on a ring.

    .. math::

        \sqrt{\frac{n}{8p(p+2)}} \Big(
        \frac{1}{n} \sum_i \|z_i\|^4 - p(p+2)\frac{n-1}{n+1}\Big)
    """
    n_rows, n_columns = weight.sum(), z.shape[1]
    moment = n_columns * (n_columns + 2)
    kurtosis = weight @ np.square(np.square(z).sum(axis=1)) / n_rows
    excess = kurtosis - moment * (n_rows - 1) / (n_rows + 1)
    return float(excess * np.sqrt(n_rows / (8 * moment)))


def make_initializer() -> Callable[[TrainingJob], LinearGaussian]:
    """Make a function of jobs that fits their linear models; jobs on the same rows share them."""
    factors: dict[int, FactorModel] = {}
    models: dict[tuple[int, ...], LinearGaussian] = {}

    def initialize(job: TrainingJob) -> LinearGaussian:
        n_components, n_factors = job.architecture.n_components, job.architecture.n_factors
        n_variables, table = job.architecture.posterior.n_variables, id(job.train)
        seed = stream_seed(job.config.seed, Stream.CLUSTERS) if n_variables else 0
        key = table, n_components, n_variables, seed
        if key in models:
            return models[key]
        x, weight, regression = _residuals(job)
        # where conditions determine a column, a step would be many times as wide as residuals
        min_residual = 0.0 if regression is None else 0.05
        if n_factors and table not in factors:
            factors[table] = FactorModel.fit(x, weight, n_factors, min_residual)
        if n_variables:
            n_classes = n_components // n_variables
            model = kmeans_initialization(x, weight, n_variables, n_classes, seed)
        elif n_factors:
            model = factors[table].pca(n_components).linear_gaussian(n_components)
        else:
            pca = CorrelationPCA.fit(x, weight, n_components, min_residual)
            model = pca.linear_gaussian(n_components)
        imputation = factors[table].imputation(regression) if n_factors else None
        model = replace(model, regression=regression, imputation=imputation)
        models[key] = _of_all_columns(model, job)
        return models[key]

    return initialize


def _of_all_columns(model: LinearGaussian, job: TrainingJob) -> LinearGaussian:
    """Add rows, and the columns that the encoder does not read: their loadings are regressions."""
    inputs, n_columns = job.architecture.inputs, job.architecture.n_columns
    if any(isinstance(likelihood, Ordinal) for likelihood, _ in job.architecture.blocks):
        rows = job.train.arrays(min(ROWS_FOR_LINEAR_MODELS, rows_in_memory(n_columns)))
        model = replace(model, rows=rows)
    if len(inputs) == n_columns:
        return model
    x, weight, regression = _residuals(job, inputs_only=False)
    chosen = spread_out(len(x), min(ROWS_FOR_LINEAR_MODELS, rows_in_memory(n_columns)))
    x, weight = x[chosen].astype(np.float64), weight[chosen]
    loc, variance = observed_moments(x, weight)
    codes = np.nan_to_num(x[:, inputs] - loc[inputs]) @ model.posterior_weights
    loadings = ConditionRegression.fit(np.hstack([x, codes]), weight, n_columns).coef
    residual = np.sqrt(np.maximum(variance - np.square(loadings).sum(axis=0), MIN_VARIANCE))
    loc[inputs], residual[inputs], loadings[:, inputs] = model.loc, model.residual, model.loadings
    return replace(model, loc=loc, loadings=loadings, residual=residual, regression=regression)


def _residuals(
    job: TrainingJob, *, inputs_only: bool = True
) -> tuple[np.ndarray, np.ndarray, ConditionRegression | None]:
    """Regress a job's training rows on their conditions: residuals, weights, regression."""
    n_columns = job.architecture.n_columns
    x, weight = job.train.arrays(max(ROWS_FOR_LINEAR_MODELS, rows_in_memory(n_columns)))
    inputs = job.architecture.inputs if inputs_only else np.arange(n_columns)
    regression = None
    if job.architecture.n_conditions:
        regression = ConditionRegression.fit(x, weight, n_columns)
        x = regression.residuals(x)
        regression = replace(regression, coef=regression.coef[:, inputs])
    return x if len(inputs) == n_columns else x[:, inputs], weight, regression


def add_mask_inputs(
    job: TrainingJob, state_dict: dict[str, np.ndarray]
) -> tuple[Architecture, dict[str, np.ndarray]]:
    """Add the mask of observed cells to the inputs of a fitted model's encoder.

    Their weights are zero: the model of complete rows is unchanged. The encoder's imputation layer
    is a factor analysis of the job's rows. A user's encoder is refused.
    """
    network, n_columns = job.architecture.network, len(job.architecture.inputs)
    if isinstance(network, CustomNetwork) and network.encoder is not None:
        raise ValueError(
            f"X has missing cells, and the fit that this one goes on from had none: the encoder "
            f"{network.encoder!r} was made for whole rows. Fit rows with missing "
            f"cells first, or all rows at once."
        )
    n_factors = n_imputation_factors(job.train.n_weighted_rows, n_columns)
    architecture = replace(job.architecture, n_factors=n_factors)
    model = build(architecture)
    model.initialize(0, make_initializer()(replace(job, architecture=architecture)))
    params = {}
    for name, initial in model.weights().items():
        value = state_dict.get(name, initial)
        for axis in np.flatnonzero(np.not_equal(value.shape, initial.shape)):
            # inputs are columns, mask and conditions; of a convolution, values and mask by channel
            n_new = initial.shape[axis] - value.shape[axis]
            width = n_columns
            if isinstance(network, ConvNet) and n_new != n_columns:
                width = n_new // network.n_image_channels
            positions = np.repeat(np.arange(width, n_new + 1, width), width)
            value = np.insert(value, positions, 0, axis=axis)
        params[name] = value
    return architecture, params
