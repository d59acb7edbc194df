"""``python -m sklearn_vae inspect FILE``: what a saved model holds, without making one."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from sklearn_vae import storage

# Characters of a value that are shown.
LONGEST_SHOWN = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the command line.
    """
    parser = argparse.ArgumentParser(prog="sklearn_vae", description="Look at saved models.")
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="print what a saved model holds")
    inspect.add_argument("file", help="a file that save has written")
    wanted = parser.parse_args(arguments)
    try:
        header, arrays = storage.read(wanted.file)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"sklearn_vae inspect: {error}\n")
        return 1
    sys.stdout.write("\n".join(_lines(header, arrays)) + "\n")
    return 0


def _lines(header: dict[str, Any], arrays: dict[str, Any]) -> list[str]:
    lines = [f"{header.get('class', 'no model')}, format {storage.VERSION}, checksum right"]
    for title in ("versions", "parameters", "learned"):
        found = header.get(title)
        if isinstance(found, dict):
            lines += ["", title]
            lines += [f"  {name:<24} {_short(value)}" for name, value in found.items()]
    n_bytes = sum(own.nbytes for own in arrays.values())
    lines += ["", f"arrays, {len(arrays)} of {n_bytes} bytes together"]
    lines += [f"  {name:<40} {own.dtype} {own.shape}" for name, own in arrays.items()]
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


if __name__ == "__main__":
    sys.exit(main())
