"""Fitted estimators that outlive their process: ``save`` and ``load``, pickles, copies."""

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
    MEANINGS,
    NotPlainError,
    Serializer,
    detach,
    unpack,
)
from sklearn_vae.persistence.validation import annotations_of, check_annotated
from sklearn_vae.warnings import warn

# What a file of a model calls itself, among other things that this package may store.
MODEL = "model"
# Packages whose versions a file tells.
TOLD = ("sklearn_vae", "numpy", "sklearn", "torch")
# Settings beside parameters and fitted attributes that a file keeps.
KEPT = "_sklearn_output_config"
# Parameters that are not part of a model, and what they are without it.
LEFT_OUT = {"callbacks": None, "checkpoint": None}
# How a pickle's state calls the package's version and the plain form of what was learned.
STAMP, LEARNED = "_sklearn_vae_version", "_learned"


class SerializationMixin:
    """An estimator whose fitted attributes can be written down as plain values.

    Its fitted attributes are those whose names end in an underscore. Pickles and copies
    hold them in plain form, so that they need no class of torch and little room.
    """

    def save(self, path: file_format.PathLike) -> None:
        """Write the fitted estimator to a file of data only, for :func:`load`.

        The file is written beside its place and moved there when it is complete, so a
        failure of any kind leaves the file that was there. It keeps that one's mode.

        Parameters
        ----------
        path : str or path-like
            Where to write.

        Raises
        ------
        NotFittedError
            If there is nothing to save.
        TypeError
            If a parameter is neither a number, a string nor an object of this package,
            such as a function of your own as ``beta``; or if the estimator is of a class of your
            own.
        OSError
            If the file cannot be written.

        Warns
        -----
        UserWarning
            If something is left out that scores and codes do not need: callbacks, and requests
            of scikit-learn's metadata routing.

        See Also
        --------
        sklearn_vae.load : Read it again.
        """
        check_is_fitted(self)
        name = type(self).__name__
        if not is_serializable(type(self)):
            raise TypeError(
                f"save writes estimators of sklearn_vae, and {name} is a class of your own, which "
                f"a file of data cannot hold. Save an estimator of sklearn_vae, or pickle it."
            )
        packer, arrays = Serializer(), dict[str, np.ndarray]()
        parameters, learned, others = self._parts()
        if KEPT in others:
            learned[KEPT] = others.pop(KEPT)
        for parameter, without in LEFT_OUT.items():
            if parameters.get(parameter) is not without:
                parameters[parameter] = without
                others[parameter] = ()
        header = {
            "kind": MODEL,
            "class": name,
            "versions": {own: str(import_module(own).__version__) for own in TOLD},
        }
        for title, what, parts in (
            ("parameters", "parameter", parameters),
            ("learned", "attribute", learned),
        ):
            header[title] = {
                key: detach(self._packed(packer, what, key, value), arrays, key)
                for key, value in parts.items()
            }
        file_format.write(path, header, arrays)
        if others:
            warn(
                f"{name}.save left out {', '.join(sorted(others))}: a file of data cannot hold "
                f"them, and a fitted model does not need them.",
                UserWarning,
            )

    def as_plain(self, packer: Serializer) -> dict[str, Any]:
        """Give the plain form of an estimator that is a part of another one."""
        name = type(self).__name__
        if not is_serializable(type(self)):
            raise NotPlainError(f"{self!r} has no plain form")
        parameters, learned, _ = self._parts()
        without = {name: LEFT_OUT[name] for name in LEFT_OUT if name in parameters}
        parts = {"parameters": {**parameters, **without}, "learned": learned}
        return {"@estimator": name, **{key: packer.pack(part) for key, part in parts.items()}}

    def _packed(self, packer: Serializer, what: str, name: str, value: Any) -> Any:
        try:
            return packer.pack(value)
        except NotPlainError as error:
            advice = (
                f"A fitted model does not need it: put another value in its place by "
                f"set_params({name}=...), or pickle the model."
                if what == "parameter"
                else "Pickle the model instead."
            )
            raise TypeError(
                f"{type(self).__name__} cannot be saved: {what} {name!r} is {value!r}, which a "
                f"file of data cannot hold. {advice}"
            ) from error

    def _parts(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Parameters, fitted attributes, and what else there is."""
        others = dict(vars(self))
        names = self.get_params(deep=False)  # type: ignore[attr-defined]
        parameters = {name: others.pop(name) for name in names}
        learned = {name: others.pop(name) for name in list(others) if name.endswith("_")}
        return parameters, learned, others

    def __getstate__(self) -> dict[str, Any]:
        parameters, learned, others = self._parts()
        packer = Serializer(keeps_others=True)
        return {
            **parameters,
            **others,
            LEARNED: {name: packer.pack(value) for name, value in learned.items()},
            STAMP: __version__,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        written_by = state.pop(STAMP, "unknown")
        compare_versions(type(self).__name__, written_by)
        learned = {name: unpack(plain) for name, plain in state.pop(LEARNED, {}).items()}
        vars(self).update({**state, **learned})

    def _check_learned(self) -> None:
        """Check that what was read from a file can be a model; raise an error if not."""
        known: Any = self
        self._check_annotated()
        known._fitted().check()
        n_features = known.columns_.n_features
        if known.n_features_in_ != n_features or known.dtype_.kind != "f":
            raise ValueError(f"the model's rows are not of {n_features} numbers")
        schema = getattr(self, "schema_", None)
        if schema is not None and len(schema.fields) != n_features:
            raise ValueError(f"the table has {len(schema.fields)} columns and not {n_features}")
        names = getattr(self, "feature_names_in_", np.array(known.columns_.names))
        if np.shape(names) != (n_features,):
            raise ValueError(f"there must be {n_features} names of columns. Got {names!r:.100}.")

    def _check_wrapped(self, model: Any) -> None:
        """Check an estimator that has another one learn: both see the same columns."""
        model._check_learned()
        self._check_annotated()
        own: Any = self
        names: list[Any] = [getattr(part, "feature_names_in_", None) for part in (own, model)]
        if own.n_features_in_ != model.n_features_in_ or not np.array_equal(names[0], names[1]):
            raise ValueError("the columns are not those of the model")

    def _check_annotated(self) -> None:
        """Check that fitted attributes are there, and what the class's annotations say."""
        kind: Any = type(self)
        names = [name for name in annotations_of(kind) if name.endswith("_")]
        check_annotated(self, [name for name in names if not name.startswith("_")])
        for container in getattr(self, KEPT, {}).values():
            if container not in (None, "default", "pandas", "polars"):
                raise ValueError(f"no transform gives {container!r:.100}")


@contextmanager
def computing_on_cpu(estimator: Any) -> Iterator[None]:
    """Compute on the CPU for a while: this machine may not have the model's device."""
    model = getattr(estimator, "estimator_", estimator)
    asked, model.device = model.device, "cpu"
    try:
        yield
    finally:
        model.device = asked


def _part(name: Any, parameters: Any, learned: Any) -> Any:
    """Make an estimator that is a part of another one."""
    cls = find(name)
    if not (isinstance(cls, type) and issubclass(cls, SerializationMixin)):
        raise ValueError(f"{name!r} is no estimator")
    return made_estimator(cls, unpack(parameters), unpack(learned))


def made_estimator(cls: Any, parameters: dict[str, Any], learned: dict[str, Any]) -> Any:
    """Make an estimator of its parameters and what it has learned."""
    estimator = cls(**parameters)
    estimator._validate_params()
    for key in learned:
        if key != KEPT and not (key.endswith("_") and key[0].isalpha() and key.isidentifier()):
            raise ValueError(f"{key!r} is the name of no fitted attribute")
    vars(estimator).update(learned)
    return estimator


MEANINGS["@estimator"] = _part


def compare_versions(name: str, written_by: str) -> None:
    """Warn if another version of this package wrote an estimator of this class."""
    if written_by != __version__:
        warn(
            InconsistentVersionWarning(
                estimator_name=name,
                current_sklearn_version=f"{__version__} of sklearn_vae",
                original_sklearn_version=f"{written_by} of sklearn_vae",
            ),
        )
