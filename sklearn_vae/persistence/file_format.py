"""File format for data only: a JSON header, arrays, and a checksum.

A file consists of, with little-endian numbers::

    8   magic bytes, which a transfer in text mode would change
    4   version of the format
    4   length of the header, J
    8   length of the arrays, A
    J   header, JSON in ASCII
    A   arrays, in the format of safetensors
    32  SHA-256 of all bytes before

No part of a file is executed. A file is refused before its contents are parsed if its lengths
do not add up to its size, so a damaged file takes no more memory than its size.
"""

import errno
import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeAlias

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays, save as save_arrays

MAGIC = b"\x89SKVAE\r\n"
VERSION = 1
# Largest header in bytes. It has names and settings; numbers are in arrays.
MAX_HEADER_BYTES = 32 << 20
# Kinds of dtype: boolean, signed and unsigned integer, floating point.
NUMERIC_TYPES = "biuf"

_PREFIX = struct.Struct("<8sIIQ")

PathLike = str | os.PathLike[str]
Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


def write(path: PathLike, header: dict[str, Json], arrays: dict[str, np.ndarray]) -> None:
    """Write a JSON header and arrays by name to a file, atomically.

    An existing file keeps its mode, and is unchanged if the new one cannot be written.
    """
    text = json.dumps(header, separators=(",", ":"))
    if len(text) > MAX_HEADER_BYTES or _has_too_many_containers(text):
        raise ValueError(f"{path}: the names and settings take {len(text)} bytes, too many.")
    body = save_arrays({name: np.require(x, requirements="C") for name, x in arrays.items()})
    if _has_too_many_arrays(body):
        raise ValueError(f"{path}: {len(arrays)} arrays are too many.")
    prefix = _PREFIX.pack(MAGIC, VERSION, len(text), len(body))
    data = b"".join([prefix, text.encode("ascii"), body])
    replace_file(path, [data, hashlib.sha256(data).digest()])


def read(path: PathLike) -> tuple[dict[str, Json], dict[str, np.ndarray]]:
    """Read the header and the arrays of a file that ``write`` has written.

    A file that is damaged, of another kind, or in a newer format is a ValueError.
    """
    path = os.fsdecode(path)
    with open(path, "rb") as file:
        prefix = file.read(_PREFIX.size)
        if not prefix.startswith(MAGIC) or len(prefix) < _PREFIX.size:
            raise ValueError(
                f"{path}: not a file of sklearn_vae{'' if prefix else ', it is empty'}."
            )
        data = memoryview(prefix + file.read())
    _, version, n_header, n_arrays = _PREFIX.unpack(prefix)
    if version > VERSION:
        raise ValueError(
            f"{path}: the file has format {version}, and this version of sklearn_vae reads "
            f"formats up to {VERSION}. A newer version reads it."
        )
    start, end = _PREFIX.size + n_header, len(data) - 32
    if version < 1 or start + n_arrays != end or n_header > MAX_HEADER_BYTES:
        raise ValueError(
            f"{path}: truncated or damaged, {len(data)} bytes instead of {start + n_arrays + 32}."
        )
    if hashlib.sha256(data[:end]).digest() != data[end:]:
        raise ValueError(f"{path}: damaged, the checksum does not match.")
    try:
        arrays = _parse_arrays(data[start:end], len(data))
        text = str(data[_PREFIX.size : start], "ascii")
        if _has_too_many_containers(text):
            raise ValueError("the header has too many lists and objects")
        header = json.loads(text)
        if not isinstance(header, dict):
            raise ValueError("the header is not a JSON object")
    except (ValueError, RecursionError, SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: the contents cannot be read: {error}") from error
    return header, arrays


def _parse_arrays(body: memoryview, n_bytes: int) -> dict[str, np.ndarray]:
    """Copy the arrays of a file of so many bytes."""
    if _has_too_many_arrays(body):
        raise ValueError("there are too many arrays")
    arrays = load_arrays(body.tobytes())
    for name, value in arrays.items():
        # an empty array could have any dimensions otherwise
        if math.prod(n for n in value.shape if n) > n_bytes + (1 << 16):
            raise ValueError(f"array {name!r} has the shape {value.shape}")
        if value.dtype.kind not in NUMERIC_TYPES:
            raise ValueError(f"array {name!r} has the dtype {value.dtype}")
        # numpy's bool must be 0 or 1; other bytes count as True
        is_bool = value.dtype == bool
        arrays[name] = value.view(np.uint8) != 0 if is_bool else value.copy()
    return arrays


def _has_too_many_containers(text: str) -> bool:
    """Whether lists and objects, parsed, would take many times more memory than their text."""
    n_containers = text.count("[") + text.count("{")
    return n_containers > 80_000 + len(text) // 24


def _has_too_many_arrays(body: bytes | memoryview) -> bool:
    """Whether the list of names and shapes is long: parsed, it takes dozens of times more."""
    (length,) = struct.unpack_from("<Q", body) if len(body) >= 8 else (0,)
    return length > 4 << 20


def replace_file(path: PathLike, parts: Iterable[bytes]) -> None:
    """Write bytes to a temporary file and rename it to ``path``, atomically."""
    path = os.fsdecode(path)
    target = os.path.realpath(path)
    mode = None
    with suppress(FileNotFoundError):
        existing = os.stat(target).st_mode
        if stat.S_ISDIR(existing):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(existing):
            raise OSError(f"{path}: a device or a pipe, which a file cannot replace.")
        mode = stat.S_IMODE(existing)
    name = f".sklearn_vae-{os.urandom(8).hex()}.tmp"
    temporary = os.path.join(os.path.dirname(target), name)
    try:
        with open(temporary, "xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):  # of the user's path, not of the temporary file's
            raise type(error)(error.errno, error.strerror, path) from None
        raise
