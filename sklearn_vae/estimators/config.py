"""What the parameters of a VAETransformer stand for: architecture, training configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sklearn_vae.data.fit import check_requested_likelihoods
from sklearn_vae.estimators.checks import resolve_widths
from sklearn_vae.estimators.density_estimator import DensityEstimator
from sklearn_vae.estimators.estimator_base import AUTO, caller_name, resolve
from sklearn_vae.initialization.factor_analysis import n_factors, n_imputation_factors
from sklearn_vae.initialization.ppca import ConditionRegression
from sklearn_vae.likelihoods import Columnwise
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.networks import FullyConnected, Network
from sklearn_vae.objectives import KLWeight, Objective, Schedule
from sklearn_vae.persistence.validation import Requirement, invalid_parameter, needs_elbo
from sklearn_vae.posteriors import Posterior
from sklearn_vae.priors import Prior

if TYPE_CHECKING:
    from sklearn_vae.training.dataset import Dataset
    from sklearn_vae.training.jobs import TrainingConfig

# Maximum of n_components="auto", in total and per row, also with more columns than rows, and the
# numbers for tables of numbers whose correlations need more factors.
MAX_AUTO_COMPONENTS = 8
MORE_COMPONENTS = (12, 16, 20)
ROWS_PER_COMPONENT, ROWS_PER_COMPONENT_IF_WIDE = 20, 10
# Rows by which the number of factors is chosen, at most.
ROWS_FOR_FACTORS = 1 << 17


@dataclass(frozen=True)
class ModelParts:
    """Objects that the parameters of a VAETransformer stand for."""

    network: Network  # encoder and decoder
    hidden_layer_sizes: tuple[int, ...]  # widths of the encoder's hidden layers
    prior: Prior  # p(z)
    posterior: Posterior  # q(z|x)
    objective: Objective
    beta: Schedule  # weight of the KL divergence as a function of the epoch

    @classmethod
    def of(cls, vae: DensityEstimator) -> Self:
        """Resolve a VAETransformer's parameters, and check that they go together."""
        params = vars(vae)  # a subclass may have fewer parameters, and sets the others itself
        resolved = {name: resolve(name, value) for name, value in params.items()}
        chosen = [part for part in AUTO if resolved[part] == "auto"]
        resolved |= {part: resolve(part, AUTO[part][0]) for part in chosen}
        n_components, is_mlp = params["n_components"], type(resolved["network"]) is FullyConnected
        # a full covariance of more dimensions takes twice the time
        is_narrow = n_components == "auto" or n_components <= 64
        for part in chosen:
            if _unmet(resolved) or (part == "posterior" and not (is_mlp and is_narrow)):
                resolved[part] = resolve(part, AUTO[part][1])
        for part, (parameter, _, allowed, reason) in _unmet(resolved):
            expected = f"be {allowed} with {part}={params[part]!r}, {reason}"
            raise invalid_parameter(caller_name(vae), parameter, expected, params[parameter])
        return cls(
            network=resolved["network"],
            hidden_layer_sizes=resolve_widths(params["hidden_layer_sizes"], caller_name(vae)),
            prior=resolved["prior"],
            posterior=resolved["posterior"],
            objective=resolved["objective"],
            beta=KLWeight(params["beta"]),
        )


def _unmet(parts: Mapping[str, Any]) -> list[tuple[str, Requirement]]:
    """Conditions of parts that other parameters do not meet, each with the name of its part."""
    is_autoregressive = parts["network"].row_structure.is_autoregressive
    requirements = {
        "objective": parts["objective"].requirements,
        "posterior": parts["posterior"].requirements,
        # scales depend on the steps before
        "network": (needs_elbo("whose decoder is autoregressive"),) if is_autoregressive else (),
        "prior": parts["prior"].requirements,
    }
    return [
        (part, condition)
        for part, conditions in requirements.items()
        for condition in conditions
        if not condition.is_met(parts[condition.parameter])
    ]


def make_architecture(vae: DensityEstimator, parts: ModelParts, table: Dataset) -> Architecture:
    """Make the architecture for a table, whose number of columns the network has."""
    columns = vae.columns_
    n_components, inputs = vae.n_components, Columnwise(columns.blocks).inputs
    if n_components == "auto":
        n_components = parts.posterior.default_n_components(_choose_n_factors(vae, table, inputs))
    n_rows = table.n_weighted_rows
    has_order = parts.network.row_structure.period is not None
    return Architecture(
        n_components=int(n_components),
        hidden_layer_sizes=parts.hidden_layer_sizes,
        blocks=columns.blocks,
        prior=parts.prior.for_rows(n_rows),
        n_factors=n_imputation_factors(n_rows, len(inputs)) if columns.has_missing else 0,
        network=parts.network,
        posterior=parts.posterior,
        n_conditions=columns.n_conditions,
        column_indices=tuple(columns.order.tolist()) if has_order else (),
    )


def _choose_n_factors(vae: DensityEstimator, table: Dataset, inputs: np.ndarray) -> int:
    """Choose the number of latent dimensions by a factor model, or by the table's shape.

    ``inputs`` are the indices of the columns that the encoder reads.
    """
    is_wide = vae.n_features_in_ > table.n_weighted_rows
    per_component = ROWS_PER_COMPONENT_IF_WIDE if is_wide else ROWS_PER_COMPONENT
    most = max(2, table.n_weighted_rows // per_component)
    most = min(len(inputs), vae.n_features_in_, most)
    max_factors = max(min(MAX_AUTO_COMPONENTS, most), 1)
    if vae.columns_.has_missing:
        return max_factors
    x, weight = table.arrays(ROWS_FOR_FACTORS)
    if vae.columns_.n_conditions:
        x = ConditionRegression.fit(x, weight, vae.columns_.n_columns).residuals(x)
    x = x[:, inputs].astype(np.float64)
    # binary columns of a class depend on each other: their correlations are no factor model's
    has_classes = len(inputs) > vae.n_features_in_
    more = () if has_classes or most < min(MORE_COMPONENTS) else MORE_COMPONENTS
    return n_factors(x, weight, max_factors, more)


def check_same_architecture(vae: DensityEstimator, parts: ModelParts, fitted: Architecture) -> None:
    """Refuse parameters that do not fit the shapes of the weights to train further."""
    check_requested_likelihoods(vae.columns_, vae.likelihood)
    values = {**vars(parts), "n_components": vae.n_components}
    for name in ("n_components", "hidden_layer_sizes", "network", "prior", "posterior"):
        now, before = values[name], getattr(fitted, name)
        is_auto = getattr(now, "n_components", "") == "auto" and type(now) is type(before)
        if now not in (before, "auto") and not is_auto:
            raise ValueError(
                f"The '{name}' parameter must be {before!r}, as in the fit that this one "
                f"goes on from. Got {now!r} instead."
            )


def make_config(vae: DensityEstimator, parts: ModelParts, table: Dataset) -> TrainingConfig:
    """Make the configuration of a training on a table, with or without validation rows."""
    from sklearn_vae.training.jobs import MIN_STEPS, TrainingConfig

    max_iter, beta = vae.max_iter, parts.beta
    n_rows = table.n_weighted_rows
    if vae.early_stopping == "auto" and not vae._has_rows_to_validate(n_rows):
        max_iter = min(max_iter, vae._iterations_of_small_tables)
        beta = KLWeight(beta(vae.max_iter - 1))  # there is no time to warm up
    batch_size = vae.batch_size
    if batch_size == "auto":
        batch_size = 128 if n_rows <= 128 * MIN_STEPS else 256
    return TrainingConfig(
        seed=vae.seed_,
        max_iter=max_iter,
        batch_size=min(batch_size, max(n_rows, len(table))),
        learning_rate=vae.learning_rate,
        weight_decay=vae.weight_decay,
        beta=beta,
        patience=vae.n_iter_no_change,
        objective=parts.objective,
    )
