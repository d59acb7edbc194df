"""Files that nobody would write on purpose: load says ValueError, and nothing worse.

``make check`` reads 100,000 of them. To look for more, with coverage as guide, for ten minutes::

    pip install atheris && python tests/fuzz_load.py -max_total_time=600
"""

import copy
import hashlib
import json
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

import sklearn_vae

GOLDEN = Path(__file__).parent / "golden"
FRAME, DIGEST = 24, 32


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with a few of them changed, put in, left out, repeated or exchanged."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        place, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
        match int(rng.integers(6)):
            case 0:
                data[place] ^= 1 << int(rng.integers(8))
            case 1:
                data[place : place + length] = rng.bytes(length)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + length]
            case 4:
                words = [b"null", b"-1", b"1e999", b"[]", b"{}", b'"@object"', b"9" * 30, b"true"]
                data[place : place + length] = words[int(rng.integers(len(words)))]
            case _:
                digits = [spot for spot in range(FRAME, len(data)) if 48 <= data[spot] <= 57]
                data[digits[int(rng.integers(len(digits)))]] = int(rng.integers(48, 58))
        if len(data) < 100:
            break
    return bytes(data)


def exchanged(header: bytes, rng: np.random.Generator) -> bytes:
    """Put other values in the places of some, or leave them out: JSON that is right as such."""
    tree = json.loads(header)
    for _ in range(int(rng.integers(1, 4))):
        spots = [*_spots(tree)]
        holder, key = spots[int(rng.integers(len(spots)))]
        values = [None, -1, 0, 2.5, 10**12, -(10**30), "", "codes", [], {}, True, holder[key], tree]
        other, place = spots[int(rng.integers(len(spots)))]
        values += [{"@object": "Gaussian"}, {"@array": "x"}, {"@tuple": [1]}, other[place]]
        if rng.random() < 0.1:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(values[int(rng.integers(len(values)))])
    return json.dumps(tree).encode()


def _spots(tree):
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _spots(tree[key])


def sealed(data: bytes, rng: np.random.Generator) -> bytes:
    """Give mutated contents lengths and a checksum that are right, so that all else is read."""
    n_header = struct.unpack_from("<I", data, 12)[0]
    header = data[FRAME : FRAME + n_header]
    header = mutated(header, rng) if rng.random() < 0.2 else exchanged(header, rng)
    arrays = data[FRAME + n_header : -DIGEST]
    if rng.random() < 0.3:
        arrays = mutated(arrays, rng)
    whole = data[:12] + struct.pack("<IQ", len(header), len(arrays)) + header + arrays
    return whole + hashlib.sha256(whole).digest()


def read_mutants(n_files: int, path: Path, seed: int) -> dict[str, int]:
    """Load so many mutants of the golden files; tell how many were refused, and how."""
    rng, found = np.random.default_rng(seed), {"refused": 0, "read": 0}
    originals = [file.read_bytes() for file in sorted(GOLDEN.glob("*.vae"))]
    for number in range(n_files):
        original = originals[int(rng.integers(len(originals)))]
        path.write_bytes(sealed(original, rng) if number % 2 else mutated(original, rng))
        try:
            sklearn_vae.load(path)
        except ValueError as error:
            found["refused"] += str(path) in str(error)
        else:
            found["read"] += 1
    return found


@pytest.mark.parametrize(
    ("n_files", "seed"), [(400, 0), pytest.param(100_000, 1, marks=pytest.mark.slow)]
)
def test_a_mutated_file_is_read_or_refused(n_files, seed, tmp_path):
    """No other error, no crash, no hang; one that is read has other numbers in valid places."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_mutants(n_files, tmp_path / "mutant.vae", seed)

    assert found["refused"] + found["read"] == n_files  # all refusals name the file
    assert 0.001 < found["read"] / n_files < 0.4
