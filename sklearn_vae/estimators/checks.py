"""Checks of parameters, of the methods' arguments and of tables; schemas of tables."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import narwhals as nw
import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback

from sklearn_vae._compat import (
    HasMethods,
    Interval,
    StrOptions,
    check_sample_weight,
    num_samples,
    validate_parameter_constraints,
)
from sklearn_vae.data.arrays import as_array
from sklearn_vae.data.schema import Schema
from sklearn_vae.data.sources import as_narwhals
from sklearn_vae.device import is_out_of_memory
from sklearn_vae.estimators.parts import ModelParts
from sklearn_vae.likelihoods import LIKELIHOODS, Likelihood
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.networks import ACTIVATIONS, NETWORKS, Network
from sklearn_vae.objectives import OBJECTIVES, TrimmedELBO
from sklearn_vae.persistence.validation import MAX_COUNT
from sklearn_vae.posteriors import POSTERIORS, GaussianCategorical
from sklearn_vae.priors import PRIORS
from sklearn_vae.warnings import warn

# Beginnings of scikit-learn's messages about the values of a table.
VALUE_ERRORS = ("Input X contains", "could not convert")
# Advice for tables of more than two dimensions.
RESHAPE_ADVICE = (
    "Make each sample a row: FlattenImages() does it in a Pipeline, for images, and "
    "X.reshape(len(X), -1) for sequences."
)
# Columns that a message names, at most.
MAX_COLUMNS_NAMED = 5
# A text column is taken for row identifiers if it has more distinct values, in total and per row.
MAX_CLASSES_UNCHECKED = 20
MAX_CLASSES_PER_ROW = 0.5
# Largest sum of weights: the next number of copies is no floating-point number.
MAX_TOTAL_WEIGHT = 2.0**53
# Maximum of n_init: all initializations are in memory at once.
MAX_STARTS = 1000
# Weights of a smaller mean are hardly meant as numbers of copies.
MIN_MEAN_WEIGHT = 0.25

CONSTRAINTS: dict[str, Any] = {
    "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "network": [StrOptions(set(NETWORKS)), HasMethods(["encoder", "decoder", "for_n_features"])],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, MAX_COUNT, closed="both")],
    "encoder": [callable, None],
    "decoder": [callable, None],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "likelihood": [StrOptions({"auto", *LIKELIHOODS}), Likelihood, list, tuple, Mapping],
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
    "max_iter": [Interval(Integral, 1, MAX_COUNT, closed="both")],
    "batch_size": [Interval(Integral, 1, MAX_COUNT, closed="both")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "early_stopping": [StrOptions({"auto"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, MAX_COUNT, closed="both")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "refit": ["boolean"],
    "n_init": [StrOptions({"auto"}), Interval(Integral, 1, MAX_STARTS, closed="both")],
    "ensemble": ["boolean"],
    "callbacks": [list, tuple, None],
    "checkpoint": [str, os.PathLike, None],
    "warm_start": ["boolean"],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}  # fmt: skip


def check_callbacks(estimator: Any) -> None:
    """Check that the callbacks are ones that skorch can call; warn of methods that are not called.

    Those of skorch's callbacks have other uses.
    """
    for entry in estimator.callbacks:
        listener = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
        if not isinstance(listener, Callback):
            raise ValueError(
                f"The 'callbacks' parameter of {type(estimator).__name__} must hold skorch "
                f"callbacks, or tuples of a name and one. Got {entry!r} instead."
            )
        cls = type(listener)
        for name in ("on_batch_begin", "on_batch_end"):
            if not getattr(cls, name).__module__.startswith("skorch."):
                warn(
                    f"{cls.__name__}.{name} is not called. on_grad_computed is called in each "
                    f"gradient step, and on_epoch_end at the end of each iteration.",
                    UserWarning,
                )


def check_checkpoint(estimator: Any) -> None:
    """Refuse a checkpoint without a seed: another fit could not resume it."""
    if estimator.random_state is None:
        raise ValueError(
            f"The 'checkpoint' parameter of {type(estimator).__name__} needs a random_state: with "
            f"None every fit begins at other weights, and none could go on from another's. Got "
            f"{estimator.checkpoint!r} and random_state=None instead."
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

    With ``keep`` they are not deleted, for a fit that continues the last one.
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


# -- tables ------------------------------------------------------------------------------


def warn_of_identifiers(X: np.ndarray, schema: Schema) -> None:
    """Warn of columns of strings in which few values occur twice."""
    found, n_rows = [], len(X)
    for j, field in enumerate(schema.fields):
        texts = [value for value in field.categories or () if isinstance(value, str)]
        if len(texts) <= MAX_CLASSES_UNCHECKED:
            continue
        n_unique = len(np.unique(X[:, j]))
        if n_unique > max(MAX_CLASSES_UNCHECKED, MAX_CLASSES_PER_ROW * n_rows):
            found.append(f"{field.name!r} ({n_unique})")
    if found:
        warn(
            f"Columns of X hold a different string in most of the {n_rows} rows, which are taken "
            f"for classes: {_first_of(found)}. A model cannot learn from classes of one row each. "
            f"Leave a column out if it names the rows, parse it if it holds dates or numbers, or "
            f"encode its meaning."
        )


def fit_schema(X: Any, network: Network) -> Schema | None:
    """Fit the schema of a table whose columns have types; refuse columns of numbers and text."""
    X = as_array(X)
    if isinstance(X, np.ndarray | list | tuple):
        has_types = np.asarray(X).dtype.kind in "USOTVMm"
    else:
        has_types = issparse(X) or isinstance(as_narwhals(X), nw.DataFrame)
    if not has_types:  # an array of numbers
        return None
    schema = Schema.fit(X)
    structure = network.for_n_features(len(schema.fields)).row_structure
    if structure.shared_scale:
        schema = schema.shared_categories(structure.values_per_step)
    for field in schema.fields:
        texts = [value for value in field.categories or () if isinstance(value, str)]
        if texts and len(texts) < len(field.categories or ()):
            raise ValueError(
                f"Column {field.name!r} of X holds text, such as {texts[0]!r}, and numbers. Give "
                f"numbers (NaN where one is missing), or text alone for categories."
            )
    return schema


def check_weights(sample_weight: Any, X: np.ndarray, min_rows: int) -> np.ndarray:
    """Check the numbers of times that rows count: (n,)."""
    weight: np.ndarray = check_sample_weight(
        as_array(sample_weight), X, dtype=np.float64, ensure_non_negative=True
    )
    total, n_positive = weight.sum(), (weight > 0).sum()
    if n_positive < min_rows:
        raise ValueError(
            f"Too many sample weights are zero: {n_positive} of {len(weight)} rows have a weight "
            f"above 0, and at least {min_rows} are needed."
        )
    if total > MAX_TOTAL_WEIGHT:
        raise ValueError(
            f"sample_weight is the number of times that each row counts, and its sum must be at "
            f"most {MAX_TOTAL_WEIGHT:.3g}. Got {total:.3g} instead; divide it by its mean to have "
            f"each row count once on average."
        )
    if total < MIN_MEAN_WEIGHT * n_positive:
        warn(
            f"sample_weight is the number of times that each row counts, and its sum makes a "
            f"table of {total:.3g} rows of the {n_positive} with a weight above 0. Divide it by "
            f"its mean to have each row count once on average.",
            UserWarning,
        )
    return weight


def without_weight_0(X: Any, sample_weight: Any, min_rows: int) -> tuple[Any, Any]:
    """Leave rows of weight 0 out of a data frame or array, whose categories do not count, either.

    Invalid weights, and those of too few rows, are left as they are: ``check_weights`` refuses
    them.
    """
    try:
        weight = np.asarray(as_array(sample_weight), dtype=np.float64)
    except (TypeError, ValueError):
        return X, sample_weight
    is_array = isinstance(X, np.ndarray) and X.ndim == 2
    frame = as_narwhals(X)
    if weight.ndim != 1 or not (is_array or isinstance(frame, list | nw.DataFrame)):
        return X, sample_weight
    is_positive = weight > 0
    is_valid = len(weight) == num_samples(X) and (weight >= 0).all()
    if not is_valid or is_positive.all() or is_positive.sum() < min_rows:
        return X, sample_weight
    if is_array:
        return X[is_positive], weight[is_positive]
    if isinstance(X, list):
        return [row for row, kept in zip(X, is_positive, strict=True) if kept], weight[is_positive]
    return frame.filter(is_positive.tolist()).to_native(), weight[is_positive]


def with_column_names(error: ValueError, X: Any, names: Any = None) -> ValueError:
    """Add to scikit-learn's error the columns at fault, and advice."""
    message = str(error).partition("\n")[0]  # what follows is advice on other estimators
    if message.startswith("Found array with dim"):
        return ValueError(f"{message} {RESHAPE_ADVICE}")
    if not message.startswith(VALUE_ERRORS) or (table := np.asarray(X)).ndim != 2:
        return error
    counts = [_count_invalid(column) for column in table.T]
    columns = [
        f"column {name!r} ({n} {'value' if n == 1 else 'values'})"
        for name, n in zip(range(len(counts)) if names is None else names, counts, strict=True)
        if n > 0
    ]
    if not columns:
        return error
    return ValueError(f"{message.rstrip('.')}, in {_first_of(columns)}.")


def _first_of(columns: Sequence[str]) -> str:
    """Name the first columns and the number of others."""
    n_others = len(columns) - MAX_COLUMNS_NAMED
    others = [f"and {n_others} more"] if n_others > 0 else []
    return ", ".join([*columns[:MAX_COLUMNS_NAMED], *others])


def _count_invalid(column: np.ndarray) -> int:
    """Count the values that are neither finite numbers nor missing."""
    if column.dtype.kind in "biuf":
        return int(np.isinf(column).sum())
    return sum(not _is_valid(value) for value in column)


def _is_valid(value: Any) -> bool:
    try:
        number = float(value)
        return not math.isinf(number)
    except (TypeError, ValueError, OverflowError):
        return False
