"""Fuzz ``load`` under atheris: python tests/fuzz_load.py -max_total_time=600."""

import hashlib
import struct
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports():
    import sklearn_vae

PATH = Path(tempfile.mkdtemp()) / "fuzzed.vae"
GOLDEN = Path(__file__).parent / "golden"


def read(data: bytes) -> None:
    """Load the bytes as they are, and as contents with a right frame and checksum."""
    half = len(data) // 2
    framed = struct.pack("<8sIIQ", b"\x89SKVAE\r\n", 1, half, len(data) - half) + data
    for whole in (data, framed + hashlib.sha256(framed).digest()):
        PATH.write_bytes(whole)
        with suppress(ValueError, OSError):
            sklearn_vae.load(PATH)


if __name__ == "__main__":
    atheris.Setup([*sys.argv, str(GOLDEN)], read)
    atheris.Fuzz()
