"""What the fits of a search have come to, in a file: those that are done are not done again."""

import os
from collections.abc import Mapping
from typing import Any

import joblib

from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.serialization import (
    Serializer,
    deserialize,
    extract_arrays,
    insert_arrays,
    memory_budget,
)

KIND = "search"


class SearchCheckpoint:
    """Results by candidate and fold, written down as they come.

    Parameters
    ----------
    path : str, path-like or None
        The file; None writes nothing.
    **origin
        All that decides the fits, by name. A file of a search with another origin is refused.

    Attributes
    ----------
    results : dict of tuple of int to dict
        What is known so far.
    """

    def __init__(self, path: file_format.PathLike | None, **origin: Any):
        self.path = None if path is None else os.fspath(path)
        self.results: dict[tuple[int, int], dict[str, Any]] = {}
        if self.path is None:
            return
        self.origin = {name: _digest(name, value) for name, value in origin.items()}
        if os.path.exists(self.path):
            header, arrays = file_format.read(self.path)
            if header.get("kind") != KIND:
                raise ValueError(f"{self.path}: it holds no results of a search, but other data.")
            self._check_origin(header["origin"])
            with memory_budget(os.path.getsize(self.path)):
                self.results = dict(deserialize(insert_arrays(header["results"], arrays)))

    def _check_origin(self, expected: Mapping[str, str]) -> None:
        other = [name for name, digest in self.origin.items() if expected.get(name) != digest]
        if other:
            raise ValueError(
                f"The file of the 'checkpoint' parameter, {self.path!r}, is of a search with other "
                f"{' and other '.join(other)}. Remove it to begin anew, or name another one."
            )

    def add(self, results: Mapping[tuple[int, int], dict[str, Any]]) -> None:
        """Write down what some more fits have come to."""
        self.results.update(results)
        if self.path is not None:
            arrays: dict[str, Any] = {}
            found = extract_arrays(
                Serializer().serialize(list(self.results.items())), arrays, "results"
            )
            header = {"kind": KIND, "origin": self.origin, "results": found}
            file_format.write(self.path, header, arrays)

    def remove(self) -> None:
        """Remove the file of a search that is over."""
        if self.path is not None and os.path.exists(self.path):
            os.unlink(self.path)


def _digest(name: str, value: Any) -> str:
    try:
        return str(joblib.hash(value))
    except Exception as error:  # pickling fails in many ways
        raise ValueError(
            f"The 'checkpoint' parameter must be None for a search whose {name} cannot be pickled, "
            f"and so not be compared with those of a later one: {error}"
        ) from error
