"""Checkpoint files: what a fit or a search resumes from."""

import errno
import os
import re
from collections.abc import Mapping
from typing import Any

import joblib

from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.serialization import Reader, Writer
from sklearn_vae.system import warn

# Address of an object in its repr, which differs in another process.
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class CheckpointFile:
    """File from which a task resumes, of the parameter ``checkpoint``.

    It holds values of each run of the task, "fit" or "search", one after the other: a search is one
    run, and a fit has a run for each training. A file of the other task is refused.
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
        self.saved: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        if os.path.exists(self.path):
            header, arrays = file_format.read(self.path)
            if header.pop("task", None) != self.task:
                raise ValueError(f"{self.path}: the file holds no checkpoint of a {self.task}.")
            self.saved = Reader(arrays, os.path.getsize(self.path)).read(header["runs"])

    def begin(self, params: Mapping[str, object], **origin: Any) -> dict[str, Any]:
        """Begin the next run: its saved values, none if the file does not have it.

        A file is refused if the values that determine its results, ``origin``, are others.
        """
        described = {name: ADDRESS.sub("", repr(value)) for name, value in params.items()}
        digests = {name: self._digest(name, value) for name, value in origin.items()}
        run: dict[str, Any] = {"origin": digests, "params": described}
        if len(self.runs) < len(self.saved):
            saved = self.saved[len(self.runs)]
            differing = [k for k, v in run["origin"].items() if saved["origin"].get(k) != v]
            if differing:
                if params and "rows" in differing:
                    differing = ["rows"]  # on which a fit's starting weights depend
                saved_params = saved["params"].items()
                changed = [f"{k}={v}" for k, v in saved_params if described.get(k, v) != v]
                reason = ", ".join(changed) or f"other {' and other '.join(differing)}"
                raise ValueError(
                    f"The file of the 'checkpoint' parameter, {self.path!r}, belongs to another "
                    f"{self.task}, with {reason}. Remove the file to start a new {self.task}, or "
                    f"use another file."
                )
            run = saved
        self.runs.append(run)
        return {name: value for name, value in run.items() if name not in ("origin", "params")}

    def _digest(self, name: str, value: object) -> str:
        try:
            return str(joblib.hash(value))
        except Exception as error:  # pickling fails in many ways
            raise ValueError(
                f"The 'checkpoint' parameter must be None if the {name} of the {self.task} cannot "
                f"be pickled, as they could not be compared with those of another: {error}"
            ) from error

    def write(self, **values: Any) -> None:
        """Write values of the run, atomically.

        If a later write than the first fails, as on a full disk, a warning says so.
        """
        self.runs[-1] |= values
        writer = Writer()
        header = {"task": self.task, "runs": writer.write(self.runs, "runs")}
        try:
            file_format.write(self.path, header, writer.arrays)
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
