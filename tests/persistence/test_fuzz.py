"""Files that nobody would write on purpose: load says ValueError, and nothing worse.

``make check`` reads 20,000 of them. ``python tests/persistence/fuzz_load.py 1000000`` reads a
million, and measures time and memory of each.
"""

import hashlib

import numpy as np
import pytest

from tests.persistence.fuzz_load import Mutator, many, read, small


def read_mutants(n_files, files, path, seed):
    """Load and use so many mutants; say how many were refused, and how many answered."""
    mutator, found = Mutator([data for data, _ in files]), {"refused": 0, "used": 0}
    for number in range(n_files):
        original, data = mutator.mutant(np.random.default_rng([seed, number]))
        path.write_bytes(data)
        try:
            found[read(path, files[original][1], number)] += 1
        except Exception as error:
            error.add_note(f"mutant {number} of seed {seed}")
            raise
    return found


@pytest.fixture(scope="module")
def files():
    """Files that are right, each with rows for its model."""
    pytest.importorskip("pandas")
    return small()


def test_a_mutated_file_loads_or_raises_a_value_error(files, tmp_path):
    """No other error, no crash, no hang; one that is used has other numbers in valid places."""
    found = read_mutants(100, files, tmp_path / "mutant.vae", 0)

    assert found["refused"] + found["used"] == 100  # all refusals name the file
    assert 0.01 < found["used"] / 100 < 0.4


@pytest.mark.slow
def test_twenty_thousand_mutated_files_load_or_raise_value_errors(tmp_path):
    """Of models of every network, posterior, prior and method."""
    pytest.importorskip("pandas")
    found = read_mutants(20_000, many(), tmp_path / "mutant.vae", 1)

    assert found["refused"] + found["used"] == 20_000


def test_saved_files_load(files, tmp_path):
    """Unchanged, they are not refused: what mutants are refused for is the mutation."""
    for data, X in files:
        (tmp_path / "model.vae").write_bytes(data)

        assert read(tmp_path / "model.vae", X) == "used"


def test_most_mutants_have_a_valid_checksum(files):
    """Otherwise only the checksum would be tested."""
    mutator = Mutator([data for data, _ in files])
    mutants = [mutator.mutant(np.random.default_rng(number))[1] for number in range(50)]

    assert sum(hashlib.sha256(data[:-32]).digest() == data[-32:] for data in mutants) > 40
