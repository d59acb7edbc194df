"""Serialization of estimators: ``save``, pickles and copies."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from sklearn_vae._version import __version__
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.registry import find, is_serializable
from sklearn_vae.persistence.serialization import (
    DESERIALIZERS,
    Serializer,
    deserialize,
    extract_arrays,
)
from sklearn_vae.persistence.validation import annotations_of, check_annotations
from sklearn_vae.persistence.values import NotSerializableError
from sklearn_vae.system.warnings import warn

# Kind of a file that holds an estimator.
MODEL = "model"
# Packages whose versions are written to a file.
VERSIONED = ("sklearn_vae", "numpy", "sklearn", "torch")
# The setting of ``set_output``, saved with the fitted attributes.
OUTPUT_CONFIG = "_sklearn_output_config"
# Parameters that are not saved, with the value that replaces them.
NOT_SAVED = {"callbacks": None, "checkpoint": None}
# Keys of a pickle's state: the package's version, and the serialized fitted attributes.
VERSION_KEY, FITTED_KEY = "_sklearn_vae_version", "_fitted_attributes"


class SerializationMixin:
    """Estimator with ``save``, whose fitted attributes are serialized in files and pickles.

    Fitted attributes are those whose names end in an underscore. A pickle holds them
    serialized, so it is small and needs no class of torch.
    """

    def save(self, path: file_format.PathLike) -> None:
        """Write the fitted estimator to a file, which :func:`load` reads.

        If it fails, an earlier file of this name is as it was.

        Parameters
        ----------
        path : str or path-like
            Where to write.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If a parameter or the estimator is a user's own function or object.
        ValueError
            If a parameter or attribute that was set after ``fit`` is invalid.
        OSError
            If the file cannot be written.

        Warns
        -----
        UserWarning
            If callbacks, or requests of scikit-learn's metadata routing, are not saved.

        See Also
        --------
        sklearn_vae.load : Read an estimator from a file.
        """
        check_is_fitted(self)
        name = type(self).__name__
        if not is_serializable(type(self)):
            raise TypeError(
                f"save supports the estimators of sklearn_vae only, and {name} is a user's class. "
                f"Save an estimator of sklearn_vae, or pickle it."
            )
        self._check_settable()
        parameters, fitted = self._state_of_file()
        serializer, arrays = Serializer(), dict[str, np.ndarray]()
        header = {
            "kind": MODEL,
            "class": name,
            "versions": {each: str(import_module(each).__version__) for each in VERSIONED},
        }
        for section, noun, values in (
            ("fitted", "attribute", fitted),
            ("parameters", "parameter", parameters),
        ):
            header[section] = {
                key: extract_arrays(self._serialized(serializer, noun, key, value), arrays, key)
                for key, value in values.items()
            }
        file_format.write(path, header, arrays)

    def serialize(self, serializer: Serializer) -> Any:
        """Serialize an estimator that is an attribute of another one; a pickle holds itself."""
        if serializer.keep_unserializable:
            return self
        if not is_serializable(type(self)):
            raise NotSerializableError(f"{self!r} cannot be serialized")
        parameters, fitted = self._state_of_file()
        return {
            "@estimator": type(self).__name__,
            "parameters": serializer.serialize(parameters),
            "fitted": serializer.serialize(fitted),
        }

    def _state_of_file(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and fitted attributes that a file holds; warn of what it cannot hold.

        Parameters that ``load`` would refuse, which were set after ``fit``, are an error.
        """
        parameters, fitted, others = self._split_state()
        for parameter, default in NOT_SAVED.items():
            if parameters.get(parameter) is not default:
                parameters[parameter] = default
                others[parameter] = ()
        if others:
            warn(
                f"{type(self).__name__}.save left out {', '.join(sorted(others))}: a file of data "
                f"cannot hold them, and a fitted model does not need them."
            )
        estimator: Any = type(self)(**parameters)
        estimator._validate_params()
        return parameters, fitted

    def _serialized(self, serializer: Serializer, noun: str, name: str, value: object) -> Any:
        try:
            return serializer.serialize(value)
        except (NotSerializableError, RecursionError) as error:  # the second of what holds itself
            reason = (
                f"is {value!r}, which a file of data cannot hold. A fitted model does not need it: "
                f"replace it by set_params({name}=...)."
                if noun == "parameter"
                else f"holds what a file of data cannot: {error}. Pickle the model instead; "
                f"of lambdas, and functions and classes within others, cloudpickle does."
            )
            raise TypeError(
                f"{type(self).__name__} cannot be saved: {noun} {name!r} {reason}"
            ) from error

    def _check_settable(self) -> None:
        """Check fitted attributes that the documentation allows users to set."""

    def _split_state(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Parameters, fitted attributes with the setting of ``set_output``, and others."""
        others = dict(vars(self))
        names = self.get_params(deep=False)  # type: ignore[attr-defined]
        parameters = {name: others.pop(name) for name in names}
        is_fitted = [name for name in others if name.endswith("_") or name == OUTPUT_CONFIG]
        fitted = {name: others.pop(name) for name in is_fitted}
        return parameters, fitted, others

    def __getstate__(self) -> dict[str, Any]:
        parameters, fitted, others = self._split_state()
        serializer = Serializer(keep_unserializable=True)
        return {
            **parameters,
            **others,
            FITTED_KEY: {name: serializer.serialize(value) for name, value in fitted.items()},
            VERSION_KEY: __version__,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        warn_if_other_version(type(self).__name__, state.pop(VERSION_KEY, "unknown"))
        fitted = state.pop(FITTED_KEY, {})
        vars(self).update(state)
        vars(self).update({name: deserialize(value) for name, value in fitted.items()})

    def _check_annotations(self) -> None:
        """Check the types of fitted attributes against the annotations of the class."""
        cls: Any = type(self)
        names = [name for name in annotations_of(cls) if name.endswith("_")]
        check_annotations(self, [name for name in names if not name.startswith("_")])
        for container in getattr(self, OUTPUT_CONFIG, {}).values():
            if container not in (None, "default", "pandas", "polars"):
                raise ValueError(f"set_output does not have {container!r:.100}")


@contextmanager
def on_cpu(estimator: Any) -> Iterator[None]:
    """Set ``device`` to the CPU for a while; this machine may not have the saved device."""
    model = getattr(estimator, "estimator_", estimator)
    device, model.device = model.device, "cpu"
    try:
        yield
    finally:
        model.device = device


def build_estimator(cls: Any, parameters: dict[str, Any], fitted: dict[str, Any]) -> Any:
    """Construct an estimator from its parameters and its fitted attributes."""
    estimator = cls(**parameters)
    estimator._validate_params()
    for key in fitted:
        is_fitted_name = key.endswith("_") and key[0].isalpha() and key.isidentifier()
        if key != OUTPUT_CONFIG and not is_fitted_name:
            raise ValueError(f"{key!r} is not the name of a fitted attribute")
    vars(estimator).update(fitted)
    return estimator


def _estimator(name: Any, parameters: Any, fitted: Any) -> Any:
    """Deserialize an estimator that is an attribute of another one."""
    cls = find(name)
    if not (isinstance(cls, type) and issubclass(cls, SerializationMixin)):
        raise ValueError(f"{name!r} is not an estimator")
    return build_estimator(cls, deserialize(parameters), deserialize(fitted))


DESERIALIZERS["@estimator"] = _estimator


def warn_if_other_version(name: str, written_by: str) -> None:
    """Warn if another version of this package wrote an estimator of this class."""
    if written_by != __version__:
        warn(
            InconsistentVersionWarning(
                estimator_name=name,
                current_sklearn_version=f"{__version__} of sklearn_vae",
                original_sklearn_version=f"{written_by} of sklearn_vae",
            )
        )
