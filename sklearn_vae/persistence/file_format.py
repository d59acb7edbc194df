"""One file that holds data only: JSON, arrays, and a checksum over both.

Its bytes are, numbers in little-endian order::

    8   magic, in which a transfer as text shows itself
    4   version of the format
    4   length of the header, J
    8   length of the arrays, A
    J   header, JSON in ASCII
    A   arrays, in the format of safetensors
    32  SHA-256 of all bytes before

Nothing in it is a program, and reading it runs none. A file is read only as far as its
lengths agree with its size, so a broken one costs no more than its own bytes.
"""

import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

MAGIC = b"\x89SKVAE\r\n"
VERSION = 1
# Bytes of a header at the most: names and settings, while numbers are arrays.
LONGEST_HEADER = 32 << 20
# Bytes of names and shapes of arrays at the most, which take dozens of times that in memory.
LONGEST_LIST = 4 << 20
# What arrays may hold: truth values, integers, floating-point numbers.
KINDS = "biuf"
# Lists and objects of a header at the most, which take many times their text in memory: so
# many, and one more for so many bytes.
MOST_CONTAINERS, BYTES_PER_CONTAINER = 80_000, 24
# Zeros aside, the product of an array's dimensions at the most, beside the bytes of the file: an
# array of no numbers may have any dimensions otherwise.
MOST_EMPTY = 1 << 16

_FRAME = struct.Struct("<8sIIQ")
_DIGEST = hashlib.sha256().digest_size
# How well-known files begin that stand under our name by mistake.
_STRANGERS = (
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a pickle"),
    ((b"PK\x03\x04",), "a zip archive, as torch.save, numpy.savez and skops write it"),
    ((b"\x93NUMPY",), "an array of numpy"),
    ((b"\x1f\x8b", b"\x78\x9c", b"BZh", b"\xfd7zXZ"), "a compressed file"),
)

PathLike = str | os.PathLike[str]


def write(path: PathLike, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a file, or leave the one that was there.

    Parameters
    ----------
    path : str or path-like
        Where to write. A file that is there is replaced at once and as a whole, and
        keeps its mode.
    header : dict
        What JSON can say, without infinities.
    arrays : dict of ndarray
        Numbers, by name.

    Raises
    ------
    OSError
        If the file cannot be written. The file that was there is then as before, and
        nothing is left beside it.
    """
    words = json.dumps(header, allow_nan=False, separators=(",", ":"))
    if len(words) > LONGEST_HEADER or _has_too_many_containers(words):
        raise ValueError(f"{path}: the names and settings take {len(words)} bytes, too many.")
    text = words.encode("ascii")
    body = save_arrays({name: np.require(own, requirements="C") for name, own in arrays.items()})
    if _has_too_many_arrays(body):
        raise ValueError(f"{path}: {len(arrays)} arrays are too many.")
    parts = [_FRAME.pack(MAGIC, VERSION, len(text), len(body)), text, body]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    replace_file(path, [*parts, digest.digest()])


def read(path: PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what ``write`` has written.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    header : dict
        What JSON said.
    arrays : dict of ndarray
        Numbers, by name.

    Raises
    ------
    ValueError
        If it is no such file, is damaged, or has a newer format than this version reads.
    OSError
        If it cannot be read.
    """
    path = os.fspath(path)
    data = _contents(path)
    _, _, n_header, _ = _FRAME.unpack_from(data)
    start, end = _FRAME.size + n_header, len(data) - _DIGEST
    if hashlib.sha256(data[:end]).digest() != data[end:]:
        raise ValueError(f"{path}: damaged, its checksum is not that of its bytes.")
    try:
        arrays = _arrays(data[start:end], len(data))
        header = _header(data[_FRAME.size : start])
    except (ValueError, RecursionError, SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: its contents cannot be read: {error}") from error
    return header, arrays


def _header(text: memoryview) -> dict[str, Any]:
    """Read names and settings, if they take no more memory than their length explains."""
    words = str(text, "ascii")
    if _has_too_many_containers(words):
        raise ValueError("its header has too many lists and objects")
    header = json.loads(words)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header


def _has_too_many_containers(words: str) -> bool:
    n_containers = words.count("[") + words.count("{")
    return n_containers > MOST_CONTAINERS + len(words) // BYTES_PER_CONTAINER


def _has_too_many_arrays(body: bytes | memoryview) -> bool:
    (length,) = struct.unpack_from("<Q", body) if len(body) >= 8 else (0,)
    return length > LONGEST_LIST


def _arrays(body: memoryview, n_bytes: int) -> dict[str, np.ndarray]:
    """Read arrays, if a file of so many bytes may have them."""
    if _has_too_many_arrays(body):
        raise ValueError("it has too many arrays")
    arrays = load_arrays(body.tobytes())
    for name, value in arrays.items():
        if math.prod(n for n in value.shape if n) > n_bytes + MOST_EMPTY:
            raise ValueError(f"array {name!r} has the shape {value.shape}")
    return {name: _own(name, value) for name, value in arrays.items()}


def _contents(path: str) -> memoryview:
    """Read all bytes of a file whose magic, version and lengths are as they must be."""
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise ValueError(f"{path}: not a file of sklearn_vae, but a device or a pipe.")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(_FRAME.size)
        if not start.startswith(MAGIC):
            raise ValueError(f"{path}: not a file of sklearn_vae{_what_else(start)}.")
        if len(start) < _FRAME.size:
            raise ValueError(f"{path}: cut off, it has {size} bytes.")
        _, version, n_header, n_arrays = _FRAME.unpack(start)
        if version != VERSION:
            raise ValueError(_about_version(path, version))
        expected = _FRAME.size + n_header + n_arrays + _DIGEST
        if expected != size or n_header > LONGEST_HEADER:
            raise ValueError(
                f"{path}: cut off or damaged, its parts take {expected} bytes and it has {size}."
            )
        rest = file.read(expected - _FRAME.size)
    if len(rest) != expected - _FRAME.size:
        raise ValueError(f"{path}: it became shorter while it was read.")
    return memoryview(start + rest)


def _about_version(path: str, version: int) -> str:
    if version > VERSION:
        return (
            f"{path}: it has format {version}, and this version of sklearn_vae reads formats up "
            f"to {VERSION}. A newer version reads it."
        )
    return f"{path}: damaged, there is no format {version}; formats are 1 to {VERSION}."


def _what_else(start: bytes) -> str:
    if not start:
        return ", it is empty"
    for beginnings, name in _STRANGERS:
        if start.startswith(beginnings):
            return f", but {name}, which is not opened"
    return ""


def _own(name: str, value: np.ndarray) -> np.ndarray:
    """Copy an array out of the file's bytes."""
    if value.dtype.kind not in KINDS:
        raise ValueError(f"array {name!r} holds {value.dtype}, which is none of ours")
    # any byte but 0 is true, and numpy knows two only
    return value.view(np.uint8) != 0 if value.dtype == bool else value.copy()


def replace_file(path: PathLike, parts: Iterable[bytes]) -> None:
    """Put a file of these bytes in the place of ``path``, at once and as a whole."""
    target = os.path.realpath(path)
    mode = None
    with suppress(FileNotFoundError):
        found = os.stat(target).st_mode
        if not stat.S_ISREG(found) and not stat.S_ISDIR(found):
            raise OSError(f"{path}: a device or a pipe, which a file cannot replace.")
        mode = stat.S_IMODE(found)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".sklearn_vae-{os.urandom(8).hex()}.tmp")
    created = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(created, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _settle(Path(folder))


def _settle(folder: Path) -> None:
    """Have the folder's new entry on the disk, where the system lets folders be opened."""
    with suppress(PermissionError, IsADirectoryError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
