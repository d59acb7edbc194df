"""File format: atomic writes, and validation of what is read."""

import hashlib
import io
import json
import os
import pickle
import re
import resource
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_vae.persistence import file_format

HEADER = {"kind": "test", "numbers": [1, 2.5, None, "ä"]}
ARRAYS = {
    "a": np.arange(6.0).reshape(2, 3),
    "empty": np.empty((0, 3), dtype=np.float32),
    "scalar": np.array(7),
    "flags": np.array([True, False]),
}


@pytest.fixture
def path(tmp_path):
    """A valid file."""
    file_format.write(tmp_path / "right", HEADER, ARRAYS)
    return tmp_path / "right"


def with_checksum(data: bytes) -> bytes:
    """Bytes with a valid checksum."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def framed(header: bytes, arrays: bytes, version: int = 1) -> bytes:
    start = struct.pack("<8sIIQ", file_format.MAGIC, version, len(header), len(arrays))
    return with_checksum(start + header + arrays + bytes(32))


def assert_refused(path, data, match=None):
    """A file of these bytes is refused, by its path if nothing else is to be said."""
    path.write_bytes(data)
    with pytest.raises(ValueError, match=match or str(path)):
        file_format.read(path)


def test_a_file_is_read_as_it_was_written(path):
    """Bits, dtypes and shapes are equal."""
    header, arrays = file_format.read(path)

    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert arrays[name].dtype == value.dtype
        assert arrays[name].shape == value.shape
        assert arrays[name].tobytes() == value.tobytes()


def test_arrays_of_any_memory_layout_are_written(tmp_path):
    """Transposed, strided, big-endian."""
    x = np.arange(12.0).reshape(3, 4)
    given = {"t": x.T, "s": x[:, ::2], "big": x.astype(">f8")}
    file_format.write(tmp_path / "f", {}, given)
    _, found = file_format.read(tmp_path / "f")

    assert all((found[name] == value).all() for name, value in given.items())


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_is_detected(path, seed):
    """Anywhere in the file, by the checksum."""
    data = bytearray(path.read_bytes())
    place = int(np.random.default_rng(seed).integers(8 * len(data)))
    data[place // 8] ^= 1 << place % 8

    assert_refused(path, data)


@pytest.mark.parametrize("share", np.linspace(0, 0.99, 10))
def test_a_truncated_file_is_refused(path, share):
    """At any length."""
    data = path.read_bytes()

    assert_refused(path, data[: int(share * len(data))])


def test_a_file_with_additional_bytes_is_refused(path):
    """Its size is not the sum of its lengths."""
    assert_refused(path, path.read_bytes() + b"x", "damaged")


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def _torch(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("write", [pickle.dumps, _torch], ids=["pickle", "torch"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_code_in_a_file_is_not_executed(tmp_path, write, wrapped):
    """Of a pickle alone, and of one in the place of the arrays with a valid checksum."""
    trace = tmp_path / "trace"
    data = write(Bomb(trace))
    said = "cannot be read" if wrapped else "not a file of"

    assert_refused(tmp_path / "model.vae", framed(b"{}", data) if wrapped else data, said)
    assert not trace.exists()


def test_an_empty_file_and_a_text_are_refused(tmp_path):
    assert_refused(tmp_path / "f", b"", "empty")
    assert_refused(tmp_path / "f", b"hello", "not a file of sklearn_vae")


def test_devices_folders_and_missing_files_are_errors(tmp_path):
    """A device has no end, and is not replaced."""
    with pytest.raises(ValueError, match="not a file of sklearn_vae"):
        file_format.read("/dev/zero")
    with pytest.raises(OSError, match="a device or a pipe"):
        file_format.write("/dev/null", {}, {})
    with pytest.raises(IsADirectoryError):
        file_format.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        file_format.read(tmp_path / "nothing")
    # a file that cannot be written is named, not the temporary one beside it
    for place, error in ((tmp_path, IsADirectoryError), (tmp_path / "no" / "m", FileNotFoundError)):
        with pytest.raises(error, match=re.escape(f"'{place}'")):
            file_format.write(place, {}, {})


def test_a_newer_format_is_refused_with_both_version_numbers(tmp_path):
    """Before the contents are read."""
    assert_refused(tmp_path / "f", framed(b"?", b"?", version=7), r"format 7.*up to 1")


@pytest.mark.parametrize(
    "header",
    [b"[" * 100_000, b"[]", b"", b"\xff", b'{"a": 1', b"9" * 10_000, b'{"a": NaN}]'],
    ids=["deep", "list", "empty", "no-ascii", "open", "long", "rest"],
)
def test_a_header_that_is_not_a_json_object_is_refused(tmp_path, header):
    """With a valid checksum."""
    assert_refused(tmp_path / "f", framed(header, framed_arrays({})))


@pytest.mark.parametrize("one", [b"[]", b"{}", b"[[]]", b'{"a":1}'])
def test_too_many_lists_are_refused_before_they_are_parsed(tmp_path, one):
    """Each takes dozens of times its text in memory."""
    header = b'{"a":[' + b",".join([one] * 200_000) + b"]}"
    data = framed(header, framed_arrays({}))

    tracemalloc.start()
    assert_refused(tmp_path / "f", data, "lists and objects")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * len(header)
    with pytest.raises(ValueError, match="too many"):
        file_format.write(tmp_path / "g", json.loads(header), {})


def test_too_many_or_too_large_empty_arrays_are_refused(tmp_path):
    """Names take dozens of times their text in memory, and no array has 10^12 rows."""
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    body = framed_arrays({f"{number:x}": entry for number in range(100_000)})
    assert_refused(tmp_path / "f", framed(b"{}", body), "too many arrays")
    body = framed_arrays({"x": {**entry, "shape": [10**12, 0]}})
    said = r"'x' has the shape \(1000000000000, 0\)"
    assert_refused(tmp_path / "f", framed(b"{}", body), said)


def framed_arrays(entries: dict, n_bytes: int = 0) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(n_bytes)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [1], "data_offsets": [0, 1 << 40]},
        {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "object", "shape": [1], "data_offsets": [0, 8]},
    ],
    ids=["overflow", "beyond", "negative", "bfloat16", "complex", "object"],
)
def test_arrays_with_invalid_entries_are_refused(tmp_path, entry):
    """Without allocating the memory that they claim."""
    assert_refused(tmp_path / "f", framed(b"{}", framed_arrays({"x": entry}, 8)))


def test_nonzero_bytes_are_read_as_true(tmp_path):
    """numpy's bool must be 0 or 1."""
    entry = {"dtype": "BOOL", "shape": [8], "data_offsets": [0, 8]}
    data = framed_arrays({"x": entry}) + bytes([0, 1, 2, 255, 0, 7, 1, 0])
    (tmp_path / "f").write_bytes(framed(b"{}", data))
    _, arrays = file_format.read(tmp_path / "f")

    assert arrays["x"].view(np.uint8).tolist() == [0, 1, 1, 1, 0, 1, 1, 0]


# -- writing ---------------------------------------------------------------------------


def test_the_mode_of_an_existing_file_is_kept(path):
    """A new file has the mode of the umask."""
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    file_format.write(path, {}, {})

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_symbolic_link_is_kept(path, tmp_path):
    """Its target is replaced."""
    (tmp_path / "link").symlink_to(path)
    file_format.write(tmp_path / "link", {"new": 1}, {})

    assert (tmp_path / "link").is_symlink()
    assert file_format.read(path)[0] == {"new": 1}


@pytest.mark.parametrize("name", ["write", "fsync", "replace", "chmod"])
def test_a_failure_leaves_the_existing_file_and_no_temporary_file(path, name, monkeypatch):
    """At any step of writing."""

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    if name == "write":
        # an array whose bytes cannot be made is found before the file is touched
        with pytest.raises(TypeError):
            file_format.write(path, {"x": object()}, {})
    else:
        monkeypatch.setattr(os, name, fail)
        with pytest.raises(OSError, match=re.escape(f"No space left on device: '{path}'")):
            file_format.write(path, {}, {})

    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_leaves_the_existing_file(path):
    """A limit on file sizes has the same effect: some bytes are written."""
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=re.escape(f"'{path}'")):
            file_format.write(path, {}, {"x": np.random.default_rng(0).normal(size=10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_reader_sees_a_complete_file_while_four_threads_write(tmp_path):
    """That of one writer, never parts of two."""
    path, stop, wrong = tmp_path / "f", threading.Event(), []
    file_format.write(path, {"by": 0}, {"x": np.zeros(1000)})

    def keep_writing(number):
        while not stop.is_set():
            file_format.write(path, {"by": number}, {"x": np.full(1000 * (1 + number), number)})

    writers = [threading.Thread(target=keep_writing, args=(own,)) for own in range(1, 5)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(200):
            header, arrays = file_format.read(path)
            if not (arrays["x"] == header["by"]).all():
                wrong.append(header)
    finally:
        stop.set()
        for writer in writers:
            writer.join()

    assert not wrong
    assert os.listdir(tmp_path) == ["f"]


KILLED = """
import sys, numpy as np
from sklearn_vae.persistence import file_format
x = np.random.default_rng(0).normal(size=300_000)
print("ready", flush=True)
number = 0
while True:
    number += 1
    file_format.write(sys.argv[1], {"number": number}, {"x": x})
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_a_complete_file(tmp_path):
    """kill -9 at 20 random moments of saving."""
    rng, path = np.random.default_rng(0), tmp_path / "f"
    file_format.write(path, {"number": 0}, {})
    for _ in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        ) as process:
            process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=rng.uniform(0.0, 0.15))
            process.kill()
        header, arrays = file_format.read(path)
        assert header["number"] == 0 or len(arrays["x"]) == 300_000
