"""Checkpoint of a search: a file of the results so far, from which it resumes."""

from collections.abc import Mapping
from typing import Any

import joblib

from sklearn_vae.persistence.checkpoint import CheckpointFile
from sklearn_vae.persistence.file_format import PathLike


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
        self.results: dict[tuple[int, int], dict[str, Any]] = {}
        self.file = None if path is None else CheckpointFile(path, "search")
        if self.file is None:
            return
        self.origin = {name: _digest(name, value) for name, value in origin.items()}
        if saved := self.file.read():
            self.file.check_digests(self.origin, saved["origin"])
            self.results = dict(saved["results"])

    def add(self, results: Mapping[tuple[int, int], dict[str, Any]]) -> None:
        """Add results and save all of them."""
        self.results.update(results)
        if self.file is not None:
            self.file.write(origin=self.origin, results=list(self.results.items()))

    def remove(self) -> None:
        """Remove the file at the end of the search."""
        if self.file is not None:
            self.file.remove()


def _digest(name: str, value: Any) -> str:
    try:
        return str(joblib.hash(value))
    except Exception as error:  # pickling fails in many ways
        raise ValueError(
            f"The 'checkpoint' parameter must be None if the {name} of the search cannot be "
            f"pickled, as they could not be compared with those of another search: {error}"
        ) from error
