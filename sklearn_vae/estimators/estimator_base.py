"""Base of all estimators: nested parameters, display, tags; and of those that fit another one.

The estimator that the user has called is the one that messages name.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from inspect import signature
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_vae.data.arrays import Rows, Target, Weights
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.estimators.checks import CONSTRAINTS
from sklearn_vae.networks import NETWORKS
from sklearn_vae.objectives import OBJECTIVES
from sklearn_vae.persistence.estimators import SerializationMixin
from sklearn_vae.posteriors import POSTERIORS
from sklearn_vae.priors import PRIORS
from sklearn_vae.system.compute import default_modes, is_out_of_memory
from sklearn_vae.training.interruption import raise_interruption

# Objects by parameter and by the name that a user may pass instead.
NAMED: dict[str, Mapping[str, Any]] = {
    "network": NETWORKS,
    "prior": PRIORS,
    "posterior": POSTERIORS,
    "objective": OBJECTIVES,
}
# Objects that "auto" stands for, the simpler ones where others do not go with other parameters.
AUTO = {"prior": ("mixture", "normal"), "posterior": ("full", "gaussian")}
# Names of parameters in other libraries, and those that they have here.
NAMES_HERE = {
    **dict.fromkeys(
        ("latent_dim", "latent_dims", "latent_size", "n_latent", "z_dim"), "n_components"
    ),
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "max_epochs", "n_iter"), "max_iter"),
    **dict.fromkeys(("hidden_dims", "hidden_units", "hidden_layers"), "hidden_layer_sizes"),
    **dict.fromkeys(("lr", "learning_rate_init"), "learning_rate"),
    **dict.fromkeys(("seed", "random_seed"), "random_state"),
    "patience": "n_iter_no_change",
    "kl_weight": "beta",
}
# Fitted attributes that are no answer to a user's question.
INTERNAL = (
    "architecture_", "attribution_baseline_", "calibration_scores_", "code_range_",
    "condition_encoder_", "decoder_correction_", "distance_encoder_", "dtype_", "history_",
    "indicated_", "module_", "optimizer_state_", "reference_samples_",
    "schema_", "scorer_", "seed_", "state_dict_", "trees_",
)  # fmt: skip


@dataclass(frozen=True)
class ValidatedRows:
    """Rows of numbers that another estimator has read, in the place of a table X in ``fit``."""

    rows: np.ndarray  # (n, n_features), all or some of them
    validated_by: Any  # the estimator that has read the table


# Rows to fit.
FitRows = Rows | ValidatedRows
# The estimator that was called, which works by another one, ``estimator_``; None otherwise.
_CALLER: ContextVar[Any] = ContextVar("caller", default=None)


class EstimatorBase(SerializationMixin, BaseEstimator):
    """Base of an estimator of tables, whose parameters may have nested parameters.

    Fields of dataclasses are parameters of the estimator, such as ``prior__n_components``, as the
    parameters of a Pipeline's steps are. Dataclasses are frozen: setting a field replaces the
    object.
    """

    _parameter_constraints: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _with_names_here(cls.__init__)  # type: ignore[method-assign]
            shared, names = cls._parameter_constraints, signature(cls.__init__).parameters
            cls._parameter_constraints = {name: shared[name] for name in names if name in shared}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags

    def _get_params_html(self, deep: bool = True, *args: Any, **kwargs: Any) -> Any:
        return super()._get_params_html(False, *args, **kwargs)  # no fields of dataclasses

    def _get_fitted_attr_html(self, *args: Any, **kwargs: Any) -> dict[str, object]:
        attributes = super()._get_fitted_attr_html(*args, **kwargs)
        for name in INTERNAL:
            attributes.pop(name, None)
        return attributes

    def fit(self, X: FitRows, y: Target = None, sample_weight: Weights = None) -> Self:
        """Fit the model to the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, in their own units. Give a table that exceeds memory as a callable that
            returns a new iterator of arrays or data frames (not to VAEClassifier).
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Classes for VAEClassifier; with ``conditional=True``, classes, or numbers of a
            floating-point type. Else ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of times that each row counts.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid. The estimator is then as before.
        """
        with default_modes():
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X: Any, y: Target, sample_weight: Weights) -> object:
        """Set the fitted attributes; an error restores them."""
        raise NotImplementedError

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include fields of dataclasses.

        Returns
        -------
        dict
            Values by name.
        """
        params: dict[str, Any] = super().get_params(deep)
        nested = {
            f"{name}__{field}": nested_value
            for name, value in (params.items() if deep else ())
            for field, nested_value in _fields_of(name, value).items()
        }
        return {**params, **nested}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Parameters
        ----------
        **params
            Values by name, those of fields as ``prior__n_components``.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If there is no parameter of that name, or its object refuses the value.
        """
        names = super().get_params(deep=False)
        nested: dict[str, dict[str, object]] = defaultdict(dict)
        for key in list(params):
            name, separator, field = key.partition("__")
            value = params.get(name, names.get(name))
            if separator and name in names and not hasattr(value, "set_params"):
                nested[name][field] = params.pop(key)
        super().set_params(**params)
        for name, changes in nested.items():
            value = getattr(self, name)
            value = AUTO[name][0] if name in AUTO and value == "auto" else value
            arguments = list(_fields_of(name, value))
            for field in sorted(changes.keys() - set(arguments)):
                has = f"has the arguments {arguments}" if arguments else "has no arguments"
                advice = " Set estimator to an estimator first, such as VAETransformer()."
                raise ValueError(
                    f"Invalid parameter {name + '__' + field!r} for estimator {self}: "
                    f"{name}={getattr(self, name)!r} {has}.{advice if name == 'estimator' else ''}"
                )
            setattr(self, name, replace(resolve(name, value), **changes))
        return self


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


def resolve(parameter: str, value: object) -> Any:
    """Replace the name of an object by the object; other values stay as they are."""
    return NAMED.get(parameter, {}).get(value, value) if isinstance(value, str) else value


def _fields_of(name: str, value: object) -> dict[str, object]:
    """Nested parameters of a parameter's value, by name; empty for plain values."""
    resolved = resolve(name, value)
    if not is_dataclass(resolved) or isinstance(resolved, type):
        return {}
    return {field.name: getattr(resolved, field.name) for field in fields(resolved) if field.init}


@contextmanager
def called(estimator: BaseEstimator) -> Iterator[None]:
    """Let messages of other estimators name this one, or its own caller, within a block."""
    token = _CALLER.set(_CALLER.get() or estimator)
    try:
        yield
    finally:
        _CALLER.reset(token)


def has_caller() -> bool:
    """Return True within a method of another estimator that was called."""
    return _CALLER.get() is not None


def caller_name(estimator: BaseEstimator) -> str:
    """Return the name of the class of the estimator that was called: this one or another."""
    return type(_CALLER.get() or estimator).__name__


def validate_columns(estimator: BaseEstimator, X: Rows, *, reset: bool, **checks: Any) -> Any:
    """Call scikit-learn's ``validate_data``, whose messages name the estimator that was called."""
    caller = _CALLER.get()
    named = caller if getattr(caller, "estimator_", None) is estimator else estimator
    X = validate_data(named, X, reset=reset, **checks)
    if reset:
        copy_columns(named, estimator)
    return X


def copy_columns(source: BaseEstimator, target: BaseEstimator) -> None:
    """Set the number of columns and their names, if any, to those of another estimator."""
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def _with_names_here(init: Callable[..., None]) -> Callable[..., None]:
    """Let a constructor's error of an unknown parameter name the one that is meant."""
    names = signature(init).parameters

    @wraps(init)
    def named_init(self: object, *args: Any, **kwargs: Any) -> None:
        for name in kwargs.keys() - names.keys():
            here, owner = NAMES_HERE.get(name, name), type(self).__name__
            is_of_model = "estimator" in names and here in CONSTRAINTS and here not in names
            use = f"{owner}(VAETransformer({here}=...))" if is_of_model else repr(here)
            if is_of_model or here in names:
                raise TypeError(f"{owner} has no parameter {name!r}: use {use}.")
        init(self, *args, **kwargs)

    return named_init


class MetaEstimator(EstimatorBase):
    """Base of an estimator that fits another one to the rows, and is the one that messages name."""

    estimator_: Any
    n_features_in_: int

    @property
    def columns_(self) -> TableEncoder:
        """Distribution of each column in the model."""
        check_is_fitted(self)
        return self.estimator_.columns_

    @property
    def n_components_(self) -> int:
        """Number of latent dimensions of the model."""
        check_is_fitted(self)
        return self.estimator_.n_components_

    @property
    def n_iter_(self) -> int:
        """Number of iterations of the model's training."""
        check_is_fitted(self)
        return self.estimator_.n_iter_

    def _clone(self, estimator: Any) -> Any:
        """Return an unfitted copy, with this estimator's seed unless it has one."""
        model = clone(estimator)
        if model.random_state is None:
            model.random_state = self.random_state  # a subclass may have fewer parameters
        return model

    def _fit(self, X: Rows, y: Target, sample_weight: Weights) -> None:
        with called(self), restore_on_error(self):
            self._validate_params()
            self._train(X, y, sample_weight)
        if self.estimator_.interrupted_:
            raise_interruption(
                f"{type(self).__name__}.fit was interrupted. It keeps what was fitted by then: "
                f"estimator_ has n_iter_={self.estimator_.n_iter_}, and its interrupted_ is True."
            )

    def _train(self, X: Rows, y: Target, sample_weight: Weights) -> None:
        """Set the fitted attributes."""
        raise NotImplementedError

    @contextmanager
    def _keep_interrupted(self) -> Iterator[None]:
        """Go on after Ctrl-C with ``estimator_`` as it is, if its training came to anything."""
        try:
            yield
        except KeyboardInterrupt:
            if not hasattr(self.estimator_, "n_iter_"):
                raise
            self.estimator_.interrupted_ = True

    def _validate(self, X: Rows) -> np.ndarray:
        with called(self):
            return self.estimator_._validate(X)

    def _validate_fitted(self) -> None:
        """Validate fitted attributes that were read from a file, those of the model included."""
        model = self.estimator_
        model._validate_fitted()
        self._check_annotations()
        names = [getattr(each, "feature_names_in_", np.array([])) for each in (self, model)]
        is_same = type(names[0]) is type(names[1]) and np.array_equal(names[0], names[1])
        if self.n_features_in_ != model.n_features_in_ or not is_same:
            raise ValueError("the columns are not those of the model")
