"""``save`` of estimators, and their pickles."""

from importlib import import_module
from typing import Any, Self

from numpy.random import RandomState
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from sklearn_vae._version import __version__
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.file_format import Json
from sklearn_vae.persistence.serialization import NotSerializableError, Writer
from sklearn_vae.persistence.validation import annotations_of, check_annotations, is_serializable
from sklearn_vae.system import has_torch, warn

# The setting of ``set_output``, saved with the fitted attributes.
OUTPUT_CONFIG = "_sklearn_output_config"
# Key of the package's version in a pickle's state.
VERSION_KEY = "_sklearn_vae_version"


class SerializationMixin:
    """Estimator with ``save``, and pickles that know the version of this package.

    Fitted attributes are those whose names end in an underscore.
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
            If callbacks, the state of a ``RandomState``, or requests of scikit-learn's metadata
            routing are not saved.

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
        writer = Writer()
        packages = "sklearn_vae", "numpy", "sklearn", *(["torch"] if has_torch() else [])
        versions: dict[str, Json] = {p: str(import_module(p).__version__) for p in packages}
        header: dict[str, Json] = {"class": name, "versions": versions, **self.to_file(writer)}
        file_format.write(path, header, writer.arrays)

    def to_file(self, writer: Writer, prefix: str = "") -> dict[str, Json]:
        """Return parameters and fitted attributes as JSON; warn of what a file cannot hold.

        Parameters that ``load`` would refuse, which were set after ``fit``, are an error. Names of
        arrays begin with the prefix.
        """
        if not is_serializable(type(self)):
            raise NotSerializableError(f"{self!r} cannot be serialized")
        others = dict(vars(self))
        parameters = {name: others.pop(name) for name in self.get_params(deep=False)}  # type: ignore[attr-defined]
        names = [name for name in others if name.endswith("_") or name == OUTPUT_CONFIG]
        fitted = {name: others.pop(name) for name in names}
        for name, value in parameters.items():
            if (name == "callbacks" and value is not None) or isinstance(value, RandomState):
                parameters[name], others[name] = None, value
        if others:
            warn(
                f"{type(self).__name__}.save left out {', '.join(sorted(others))}: a file of data "
                f"cannot hold them, and a fitted model does not need them."
            )
        type(self)(**parameters)._validate_params()  # type: ignore[attr-defined]
        sections: dict[str, dict[str, Json]] = {"fitted": {}, "parameters": {}}
        for name, value in (fitted | parameters).items():
            is_parameter = name in parameters
            section = sections["parameters" if is_parameter else "fitted"]
            try:
                section[name] = writer.write(value, prefix + name)
            except (NotSerializableError, RecursionError) as error:  # the second: it holds itself
                reason = (
                    f"parameter {name!r} is {value!r}, which a file of data cannot hold. A fitted "
                    f"model does not need it: replace it by set_params({name}=...)."
                    if is_parameter
                    else f"attribute {name!r} holds what a file of data cannot: {error}. Pickle "
                    f"the model instead; of lambdas, and functions and classes within others, "
                    f"cloudpickle does."
                )
                raise TypeError(f"{type(self).__name__} cannot be saved: {reason}") from error
        return dict(sections)

    @classmethod
    def from_file(cls, parameters: dict[str, object], fitted: dict[str, object]) -> Self:
        """Construct an estimator from its parameters and its fitted attributes."""
        estimator: Any = cls(**parameters)
        estimator._validate_params()
        for key in fitted:
            is_fitted_name = key.endswith("_") and key[0].isalpha() and key.isidentifier()
            if key != OUTPUT_CONFIG and not is_fitted_name:
                raise ValueError(f"{key!r} is not the name of a fitted attribute")
        vars(estimator).update(fitted)
        return estimator

    def _check_settable(self) -> None:
        """Check fitted attributes that the documentation allows users to set."""

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), VERSION_KEY: __version__}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        warn_if_other_version(type(self).__name__, vars(self).pop(VERSION_KEY, "unknown"))

    def _check_annotations(self) -> None:
        """Check the types of fitted attributes against the annotations of the class."""
        cls: Any = type(self)
        check_annotations(self, [name for name in annotations_of(cls) if name.endswith("_")])
        for container in getattr(self, OUTPUT_CONFIG, {}).values():
            if container not in (None, "default", "pandas", "polars"):
                raise ValueError(f"set_output does not have {container!r:.100}")


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
