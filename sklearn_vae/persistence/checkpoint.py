"""Checkpoint files: values by name."""

import errno
import os
from collections.abc import Mapping
from typing import Any

from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.serialization import Reader, Writer
from sklearn_vae.system.warnings import warn


class CheckpointFile:
    """File from which a fit or a search resumes, of the parameter ``checkpoint``.

    Parameters
    ----------
    path : str or path-like
        The file, which need not exist yet.
    task : {"fit", "search"}
        Task that resumes. A file of the other task is refused.
    """

    def __init__(self, path: file_format.PathLike, task: str):
        self.path, self.task = os.fspath(path), task
        # an error here comes before hours of training
        if os.path.isdir(os.path.realpath(self.path)):
            raise ValueError(
                f"The 'checkpoint' parameter must be the path of a file. Got {self.path!r} instead."
            )
        if not os.path.isdir(os.path.dirname(os.path.realpath(self.path))):
            message = "The 'checkpoint' parameter must be a path in an existing folder"
            raise FileNotFoundError(errno.ENOENT, message, self.path)
        self.path = os.path.abspath(self.path)  # a callback may change the folder

    def read(self) -> dict[str, Any]:
        """Values by name; none if there is no file."""
        if not os.path.exists(self.path):
            return {}
        header, arrays = file_format.read(self.path)
        if header.pop("task", None) != self.task:
            raise ValueError(f"{self.path}: the file holds no checkpoint of a {self.task}.")
        values: dict[str, Any] = Reader(arrays, os.path.getsize(self.path)).read(header)
        return values

    def check_digests(self, actual: Mapping[str, str], saved: Mapping[str, str]) -> None:
        """Refuse a file whose digests differ from those of the present task."""
        differing = [name for name, digest in actual.items() if saved.get(name) != digest]
        if differing:
            raise ValueError(
                f"The file of the 'checkpoint' parameter, {self.path!r}, belongs to another "
                f"{self.task}, with other {' and other '.join(differing)}. Remove the file to "
                f"start a new {self.task}, or use another file."
            )

    def write(self, **values: Any) -> None:
        """Write values, atomically.

        If a later write fails, as on a full disk, the file keeps its last values: a warning says
        so, and the task goes on. The first write raises its error.
        """
        writer = Writer()
        header = {name: writer.write(value, name) for name, value in values.items()}
        try:
            file_format.write(self.path, {"task": self.task, **header}, writer.arrays)
        except OSError as error:
            if not os.path.exists(self.path):
                raise
            warn(
                f"The checkpoint was not written, and {self.path!r} keeps an earlier state: "
                f"{error}."
            )

    def remove(self) -> None:
        """Remove the file at the end of the task, if there is one."""
        if os.path.exists(self.path):
            os.unlink(self.path)
