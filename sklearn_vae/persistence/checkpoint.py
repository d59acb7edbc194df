"""Checkpoint files: values by name."""

import errno
import os
from typing import Any

import numpy as np

from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.serialization import (
    Serializer,
    deserialize,
    extract_arrays,
    insert_arrays,
    memory_budget,
)
from sklearn_vae.warnings import warn


def check_path(path: str | bytes) -> None:
    """Refuse a folder, or a file in a missing one, before hours of work fail to be written."""
    if os.path.isdir(os.path.realpath(path)):
        raise ValueError(
            f"The 'checkpoint' parameter must be the path of a file. Got {path!r} instead."
        )
    if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def write_checkpoint(path: file_format.PathLike, kind: str, **values: Any) -> None:
    """Write values to a checkpoint file of this kind, atomically.

    If a later write fails, as on a full disk, the file keeps its last values: a warning says so,
    and the work goes on. The first write raises its error.
    """
    arrays: dict[str, np.ndarray] = {}
    header = {
        name: extract_arrays(Serializer().serialize(value), arrays, name)
        for name, value in values.items()
    }
    try:
        file_format.write(path, {"kind": kind, **header}, arrays)
    except OSError as error:
        if not os.path.exists(path):
            raise
        warn(f"The checkpoint was not written, and {path!r} keeps an earlier state: {error}.")


def read_checkpoint(path: file_format.PathLike, kind: str) -> dict[str, Any]:
    """Values of a checkpoint file of this kind by name."""
    header, arrays = file_format.read(path)
    if header.pop("kind", None) != kind:
        raise ValueError(f"{path}: the file holds no {kind}, but other data.")
    with memory_budget(os.path.getsize(path)):
        return {name: deserialize(insert_arrays(value, arrays)) for name, value in header.items()}
