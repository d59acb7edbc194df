"""Checks of parameters and of the methods' arguments."""

import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback

from sklearn_vae._compat import Interval, StrOptions, validate_parameter_constraints
from sklearn_vae.likelihoods import LIKELIHOODS, Likelihood
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.networks import NETWORKS, Network
from sklearn_vae.objectives import OBJECTIVES
from sklearn_vae.persistence.validation import MAX_COUNT, invalid_parameter
from sklearn_vae.posteriors import POSTERIORS, GaussianCategorical
from sklearn_vae.priors import PRIORS

# Of all parameters that estimators share; an estimator has the constraints of its own.
CONSTRAINTS: dict[str, Any] = {
    "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "network": [StrOptions(set(NETWORKS)), Network],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, MAX_COUNT, closed="both")],
    "likelihood": [StrOptions({"auto", *LIKELIHOODS}), Likelihood, list, tuple, Mapping],
    "handle_unknown": [StrOptions({"infrequent", "missing", "error"})],
    "conditional": ["boolean"],
    "prior": [StrOptions({"auto", *PRIORS}), *map(type, PRIORS.values())],
    "posterior": [
        StrOptions(set(POSTERIORS)), *map(type, POSTERIORS.values()), GaussianCategorical
    ],
    "objective": [StrOptions(set(OBJECTIVES)), *map(type, OBJECTIVES.values())],
    "beta": [Interval(Real, 0, None, closed="left"), callable],
    "max_iter": [Interval(Integral, 1, MAX_COUNT, closed="both")],
    "batch_size": [Interval(Integral, 1, MAX_COUNT, closed="both")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "early_stopping": [StrOptions({"auto"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, MAX_COUNT, closed="both")],
    "refit": ["boolean"],
    "n_init": [StrOptions({"auto"}), Interval(Integral, 1, 1000, closed="both")],  # all in memory
    "ensemble": ["boolean"],
    "callbacks": [list, tuple, None],
    "checkpoint": [str, os.PathLike, None],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}  # fmt: skip


def resolve_widths(
    hidden_layer_sizes: int | Sequence[int] | np.ndarray, caller: str
) -> tuple[int, ...]:
    """Convert the parameter ``hidden_layer_sizes`` to a tuple of integers in a range."""
    sizes: Any = hidden_layer_sizes
    is_one = isinstance(sizes, Integral) or getattr(sizes, "ndim", 1) == 0
    widths = [sizes] if is_one else list(sizes)
    for width in widths:
        is_integer = isinstance(width, Integral) and not isinstance(width, bool)
        if not is_integer or not 1 <= width <= MAX_COUNT:
            expected = f"hold integers between 1 and {MAX_COUNT}"
            raise invalid_parameter(caller, "hidden_layer_sizes", expected, hidden_layer_sizes)
    return tuple(int(width) for width in widths)


def check_network(estimator: BaseEstimator) -> None:
    """Name CustomNetwork to users who give a module of their own."""
    network = getattr(estimator, "network", "mlp")
    if callable(network) and not isinstance(network, Network):
        expected = (
            f"be one of {sorted(NETWORKS)} or a network of sklearn_vae.networks; "
            f"CustomNetwork(encoder=..., decoder=...) takes modules of your own"
        )
        raise invalid_parameter(estimator, "network", expected, network)


def check_run(estimator: BaseEstimator) -> None:
    """Check the callbacks of a training, and that its checkpoint has a seed to resume by."""
    for entry in estimator.callbacks or ():
        listener = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
        if not isinstance(listener, Callback):
            expected = "hold skorch callbacks, or tuples of a name and one"
            raise invalid_parameter(estimator, "callbacks", expected, entry)
    if estimator.checkpoint is not None and estimator.random_state is None:
        raise ValueError(
            f"The 'checkpoint' parameter of {type(estimator).__name__} needs a random_state: with "
            f"None every fit begins at other weights, and none could go on from another's. Got "
            f"{estimator.checkpoint!r} and random_state=None instead."
        )


def check_not_autoregressive(network: Network, method: str) -> None:
    """Refuse an autoregressive decoder in a method that needs columns independent given z."""
    if network.row_structure.is_autoregressive:
        raise ValueError(
            f"{method} needs columns that are independent given a code, and those of {network!r} "
            f"follow on one another. With autoregressive=False they do not."
        )


def check_allows_missing(estimator: BaseEstimator, method: str) -> None:
    """Refuse a network that does not allow missing values anywhere in a row."""
    network = estimator.architecture_.network
    check_not_autoregressive(network, method)
    if network.row_structure.variable_length:
        raise ValueError(
            f"{method} needs rows that may have missing values anywhere, and those of {network!r} "
            f"end at a missing value."
        )


def check_row_lengths(architecture: Architecture, X: np.ndarray, is_empty: np.ndarray) -> None:
    """Refuse sequences with gaps, and shorter ones if all training rows had one length.

    Columns of the mask ``is_empty`` (n_features,) lie beyond the end of all training rows.
    """
    structure = architecture.network.row_structure
    structure.check_missing(X)
    ends_early = np.isnan(X[:, ~is_empty]).any(axis=1)
    if structure.variable_length and not architecture.n_factors and ends_early.any():
        raise ValueError(
            f"Row {int(ends_early.argmax())} of X ends early, and all rows in fit had one length. "
            f"Fit rows of several lengths to have such rows scored."
        )


def check_random_state(random_state: object, caller: str) -> None:
    """Check a method's ``random_state`` as the constructor's parameter is checked."""
    validate_parameter_constraints(CONSTRAINTS, {"random_state": random_state}, caller)
