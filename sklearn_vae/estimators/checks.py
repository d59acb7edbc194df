"""Checks of the estimators' parameters and of their methods' arguments."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback

from sklearn_vae._compat import HasMethods, Interval, StrOptions, validate_parameter_constraints
from sklearn_vae.data.sources import as_source
from sklearn_vae.device import is_out_of_memory
from sklearn_vae.estimators.parts import ModelParts
from sklearn_vae.likelihoods import LIKELIHOODS
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.networks import ACTIVATIONS, NETWORKS, Network
from sklearn_vae.objectives import OBJECTIVES, TrimmedELBO
from sklearn_vae.posteriors import POSTERIORS, GaussianCategorical
from sklearn_vae.priors import PRIORS

CONSTRAINTS: dict[str, Any] = {
    "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "network": [StrOptions(set(NETWORKS)), HasMethods(["encoder", "decoder", "for_n_features"])],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "encoder": [callable, None],
    "decoder": [callable, None],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "likelihood": [
        StrOptions({"auto", *LIKELIHOODS}), *LIKELIHOODS.values(), list, tuple, Mapping
    ],
    "handle_unknown": [StrOptions({"infrequent", "missing", "error"})],
    "conditional": ["boolean"],
    "prior": [StrOptions(set(PRIORS)), *map(type, PRIORS.values())],
    "posterior": [
        StrOptions(set(POSTERIORS)), *map(type, POSTERIORS.values()), GaussianCategorical
    ],
    "objective": [StrOptions(set(OBJECTIVES)), *map(type, OBJECTIVES.values()), TrimmedELBO],
    "robust": ["boolean"],
    "beta": [Interval(Real, 0, None, closed="left"), callable],
    "free_bits": [Interval(Real, 0, None, closed="left")],
    "scale_prior_strength": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "early_stopping": [StrOptions({"auto"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "refit": ["boolean"],
    "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "ensemble": ["boolean"],
    "callbacks": [list, tuple, None],
    "checkpoint": [str, os.PathLike, None],
    "warm_start": ["boolean"],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}  # fmt: skip


def check_callbacks(estimator: Any) -> None:
    """Check that the callbacks are ones that skorch can call."""
    for entry in estimator.callbacks:
        listener = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
        if not isinstance(listener, Callback):
            raise ValueError(
                f"The 'callbacks' parameter of {type(estimator).__name__} must hold skorch "
                f"callbacks, or tuples of a name and one. Got {entry!r} instead."
            )


def check_checkpoint(estimator: Any) -> None:
    """Refuse a checkpoint without a seed: another fit could not resume it."""
    if estimator.random_state is None:
        raise ValueError(
            f"The 'checkpoint' parameter of {type(estimator).__name__} needs a random_state: with "
            f"None every fit begins at other weights, and none could go on from another's. Got "
            f"{estimator.checkpoint!r} and random_state=None instead."
        )


def check_is_table(X: Any, name: str) -> None:
    """Refuse a source of batches where all rows must be in memory."""
    if as_source(X) is not None:
        raise ValueError(
            f"{name} needs a table in memory, and X is a source of batches: give a random sample "
            f"of its rows, or each batch in turn."
        )


def check_not_autoregressive(estimator: Any, method: str) -> None:
    """Refuse an autoregressive decoder in a method that needs columns independent given z."""
    network = estimator.architecture_.network
    if network.row_structure.is_autoregressive:
        raise ValueError(
            f"{method} needs columns that are independent given a code, and those of {network!r} "
            f"follow on one another. With autoregressive=False they do not."
        )


def check_allows_missing(estimator: Any, method: str) -> None:
    """Refuse a network that does not allow missing values anywhere in a row."""
    check_not_autoregressive(estimator, method)
    network = estimator.architecture_.network
    if network.row_structure.variable_length:
        raise ValueError(
            f"{method} needs rows that may have missing values anywhere, and those of {network!r} "
            f"end at a missing value."
        )


def check_row_lengths(architecture: Architecture, X: np.ndarray) -> None:
    """Refuse sequences with gaps, and shorter ones if all training rows had full length."""
    structure = architecture.network.row_structure
    structure.check_missing(X)
    if structure.variable_length and not architecture.n_factors and np.isnan(X).any():
        row = int(np.isnan(X).any(axis=1).argmax())
        raise ValueError(
            f"Row {row} of X ends early, and all rows in fit had their full length. Fit rows of "
            f"several lengths to have such rows scored."
        )


def check_one_member(estimator: Any) -> None:
    """Refuse to train an ensemble further."""
    if estimator.ensemble:
        raise ValueError(
            f"The 'ensemble' parameter of {type(estimator).__name__} must be False with warm_start "
            f"and in partial_fit, which train one model further. Got True instead."
        )


def check_same_architecture(
    estimator: Any, parts: ModelParts, network: Network, fitted: Architecture
) -> None:
    """Refuse parameters that do not fit the shapes of the weights to train further."""
    estimator.columns_.check_requested_likelihoods(estimator.likelihood)
    parameters = {
        "n_components": (estimator.n_components, fitted.n_components),
        "hidden_layer_sizes": (parts.hidden_layer_sizes, fitted.hidden_layer_sizes),
        "activation": (estimator.activation, fitted.activation),
        "network, encoder or decoder": (network, fitted.network),
        "prior": (parts.prior, fitted.prior),
        "posterior": (parts.posterior, fitted.posterior),
    }
    for name, (now, before) in parameters.items():
        if now not in (before, "auto"):
            raise ValueError(
                f"The '{name}' parameter must be {before!r}, as in the fit that this one "
                f"goes on from. Got {now!r} instead."
            )


@contextmanager
def restore_on_error(estimator: BaseEstimator, *, keep: bool = False) -> Iterator[None]:
    """Delete the fitted attributes, and restore them if an error is raised.

    Parameters
    ----------
    estimator : estimator
        Estimator that is fitted in the context.
    keep : bool, default=False
        Whether to keep the attributes, for a fit that continues the last one.
    """
    before = {name: value for name, value in vars(estimator).items() if name.endswith("_")}
    for name in () if keep else before:
        delattr(estimator, name)
    try:
        yield
    except BaseException as error:
        for name in [name for name in vars(estimator) if name.endswith("_")]:
            delattr(estimator, name)
        vars(estimator).update(before)
        if is_out_of_memory(error) and not isinstance(error, MemoryError):
            raise MemoryError(str(error)) from error
        raise


def check_random_state(random_state: object, caller: str) -> None:
    """Check a method's ``random_state`` as the constructor's parameter is checked."""
    validate_parameter_constraints(CONSTRAINTS, {"random_state": random_state}, caller)
