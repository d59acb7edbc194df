"""Checkpoint of a search: a file of the results so far, from which it resumes."""

import os
from collections.abc import Mapping
from typing import Any

import joblib

from sklearn_vae.persistence.checkpoint import check_path, read_checkpoint, write_checkpoint
from sklearn_vae.persistence.file_format import PathLike

KIND = "search"


class SearchCheckpoint:
    """Results by candidate and fold, saved to a file whenever some are added.

    Parameters
    ----------
    path : str, path-like or None
        Path of the file; None for no file.
    **origin
        All values that determine the results. A file with other values is refused.

    Attributes
    ----------
    results : dict of (int, int) to dict
        Results so far.
    """

    def __init__(self, path: PathLike | None, **origin: Any):
        self.path = None if path is None else os.fspath(path)
        self.results: dict[tuple[int, int], dict[str, Any]] = {}
        if self.path is None:
            return
        self.origin = {name: _digest(name, value) for name, value in origin.items()}
        check_path(self.path)
        if os.path.exists(self.path):
            saved = read_checkpoint(self.path, KIND)
            expected = saved["origin"]
            changed = [name for name, hash_ in self.origin.items() if expected.get(name) != hash_]
            if changed:
                raise ValueError(
                    f"The file of the 'checkpoint' parameter, {self.path!r}, is of a search with "
                    f"other {' and other '.join(changed)}. Remove it to begin anew, or name "
                    f"another one."
                )
            self.results = dict(saved["results"])

    def add(self, results: Mapping[tuple[int, int], dict[str, Any]]) -> None:
        """Add results and save all of them."""
        self.results.update(results)
        if self.path is not None:
            items = list(self.results.items())
            write_checkpoint(self.path, KIND, origin=self.origin, results=items)

    def remove(self) -> None:
        """Remove the file at the end of the search."""
        if self.path is not None and os.path.exists(self.path):
            os.unlink(self.path)


def _digest(name: str, value: Any) -> str:
    try:
        return str(joblib.hash(value))
    except Exception as error:  # pickling fails in many ways
        raise ValueError(
            f"The 'checkpoint' parameter must be None if the {name} of the search cannot be "
            f"pickled, as they could not be compared with those of another search: {error}"
        ) from error
