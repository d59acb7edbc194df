"""Files of data: whole or not at all, and nothing else is ever read."""

import hashlib
import io
import json
import os
import pickle
import resource
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import joblib
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
    """A file that is right."""
    file_format.write(tmp_path / "right", HEADER, ARRAYS)
    return tmp_path / "right"


def sealed(data: bytes) -> bytes:
    """Bytes with the checksum that they should have."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def framed(header: bytes, arrays: bytes, version: int = 1) -> bytes:
    start = struct.pack("<8sIIQ", file_format.MAGIC, version, len(header), len(arrays))
    return sealed(start + header + arrays + bytes(32))


def test_what_is_written_is_read(path):
    """To the last bit, with types and shapes."""
    header, arrays = file_format.read(path)

    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert arrays[name].dtype == value.dtype
        assert arrays[name].shape == value.shape
        assert arrays[name].tobytes() == value.tobytes()


def test_any_layout_of_an_array_is_written(tmp_path):
    """Transposed, strided, of another byte order."""
    x = np.arange(12.0).reshape(3, 4)
    given = {"t": x.T, "s": x[:, ::2], "big": x.astype(">f8")}
    file_format.write(tmp_path / "f", {}, given)
    _, found = file_format.read(tmp_path / "f")

    assert all((found[name] == value).all() for name, value in given.items())


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_is_noticed(path, seed):
    """Wherever it is: the checksum is over all."""
    data = bytearray(path.read_bytes())
    place = int(np.random.default_rng(seed).integers(8 * len(data)))
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)

    with pytest.raises(ValueError, match=str(path)):
        file_format.read(path)


@pytest.mark.parametrize("share", np.linspace(0, 0.99, 10))
def test_a_cut_off_file_is_noticed(path, share):
    """At any length."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])

    with pytest.raises(ValueError, match=str(path)):
        file_format.read(path)


def test_a_file_with_something_after_it_is_refused(path):
    """Its lengths are not its size."""
    path.write_bytes(path.read_bytes() + b"x")

    with pytest.raises(ValueError, match="damaged"):
        file_format.read(path)


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def _joblib(value):
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    return buffer.getvalue()


def _torch(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _npz(value):
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([value], dtype=object), allow_pickle=True)
    return buffer.getvalue()


STRANGERS = {
    "pickle": (pickle.dumps, "a pickle"),
    "joblib": (_joblib, "a pickle"),
    "torch": (_torch, "a zip archive"),
    "npz": (_npz, "a zip archive"),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_that_runs_code_elsewhere_runs_none_here(tmp_path, name, wrapped):
    """Bare, and in the place of our arrays with a right checksum."""
    trace = tmp_path / "trace"
    write, said = STRANGERS[name]
    data = write(Bomb(trace))
    path = tmp_path / "model.vae"
    path.write_bytes(framed(b"{}", data) if wrapped else data)

    with pytest.raises(ValueError, match="cannot be read" if wrapped else said):
        file_format.read(path)
    assert not trace.exists()


def test_an_empty_file_and_a_text_are_refused(tmp_path):
    """By what they are."""
    path = tmp_path / "f"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        file_format.read(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="not a file of sklearn_vae"):
        file_format.read(path)


def test_what_is_no_file_is_an_error_at_once(tmp_path):
    """A pipe would wait for a writer, a device has no end."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="a device or a pipe"):
        file_format.read(tmp_path / "pipe")
    with pytest.raises(ValueError, match="a device or a pipe"):
        file_format.read("/dev/zero")
    with pytest.raises(OSError, match="a device or a pipe"):
        file_format.write("/dev/null", {}, {})
    with pytest.raises(IsADirectoryError):
        file_format.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        file_format.read(tmp_path / "nothing")


def test_a_newer_format_is_told_with_both_numbers(tmp_path):
    """Before anything else is looked at: what follows may be anything."""
    (tmp_path / "f").write_bytes(framed(b"?", b"?", version=7))

    with pytest.raises(ValueError, match=r"format 7.*up to 1"):
        file_format.read(tmp_path / "f")


@pytest.mark.parametrize(
    "header",
    [b"[" * 100_000, b"[]", b"", b"\xff", b'{"a": 1', b"9" * 10_000, b'{"a": NaN}]'],
    ids=["deep", "list", "empty", "no-ascii", "open", "long", "rest"],
)
def test_a_header_that_is_no_object_is_refused(tmp_path, header):
    """With a right checksum, too."""
    (tmp_path / "f").write_bytes(framed(header, framed_arrays({})))

    with pytest.raises(ValueError, match=str(tmp_path)):
        file_format.read(tmp_path / "f")


@pytest.mark.parametrize("one", [b"[]", b"{}", b"[[]]", b'{"a":1}'])
def test_many_lists_are_refused_before_they_are_made(tmp_path, one):
    """In memory each takes dozens of times its text."""
    header = b'{"a":[' + b",".join([one] * 200_000) + b"]}"
    (tmp_path / "f").write_bytes(framed(header, framed_arrays({})))

    tracemalloc.start()
    with pytest.raises(ValueError, match="lists and objects"):
        file_format.read(tmp_path / "f")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * len(header)
    with pytest.raises(ValueError, match="too many"):
        file_format.write(tmp_path / "g", json.loads(header), {})


def test_many_arrays_of_nothing_are_refused(tmp_path):
    """Their names alone take dozens of times their text; and none has 10^12 rows."""
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    body = framed_arrays({f"{number:x}": entry for number in range(100_000)})
    (tmp_path / "f").write_bytes(framed(b"{}", body))
    with pytest.raises(ValueError, match="too many arrays"):
        file_format.read(tmp_path / "f")
    body = framed_arrays({"x": {**entry, "shape": [10**12, 0]}})
    (tmp_path / "f").write_bytes(framed(b"{}", body))
    with pytest.raises(ValueError, match=r"'x' has the shape \(1000000000000, 0\)"):
        file_format.read(tmp_path / "f")


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
def test_arrays_that_are_not_there_are_refused(tmp_path, entry):
    """No memory is asked for on the word of a file."""
    (tmp_path / "f").write_bytes(framed(b"{}", framed_arrays({"x": entry}, 8)))

    with pytest.raises(ValueError, match=str(tmp_path)):
        file_format.read(tmp_path / "f")


def test_any_byte_but_zero_is_true(tmp_path):
    """numpy's own truth values are 0 and 1, and others misbehave."""
    entry = {"dtype": "BOOL", "shape": [8], "data_offsets": [0, 8]}
    data = framed_arrays({"x": entry}) + bytes([0, 1, 2, 255, 0, 7, 1, 0])
    (tmp_path / "f").write_bytes(framed(b"{}", data))
    _, arrays = file_format.read(tmp_path / "f")

    assert arrays["x"].view(np.uint8).tolist() == [0, 1, 1, 1, 0, 1, 1, 0]


# -- writing ---------------------------------------------------------------------------


def test_the_mode_of_the_old_file_is_kept(path):
    """And a new file has the mode that the system gives to files."""
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    file_format.write(path, {}, {})

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_goes_on_to_point_at_its_file(path, tmp_path):
    """The file is replaced, not the link."""
    (tmp_path / "link").symlink_to(path)
    file_format.write(tmp_path / "link", {"new": 1}, {})

    assert (tmp_path / "link").is_symlink()
    assert file_format.read(path)[0] == {"new": 1}


@pytest.mark.parametrize("name", ["write", "fsync", "replace", "chmod"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(path, name, monkeypatch):
    """Wherever it comes."""

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    if name == "write":
        # an array whose bytes cannot be made is found before the file is touched
        with pytest.raises(TypeError):
            file_format.write(path, {"x": object()}, {})
    else:
        monkeypatch.setattr(os, name, fail)
        with pytest.raises(OSError, match="No space left"):
            file_format.write(path, {}, {})

    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_leaves_the_old_file(path):
    """A limit on the size of files does what a full disk does: some bytes are written."""
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError):
            file_format.write(path, {}, {"x": np.random.default_rng(0).normal(size=10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_reader_sees_a_whole_file_while_four_write(tmp_path):
    """One of theirs, never parts of two."""
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
def test_a_killed_writer_leaves_a_whole_file(tmp_path):
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
