"""Packages that need not be there: without one of them, its tests are skipped and no others."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
NEEDED = {"pytest"}


def optional():
    """Names of the packages that the extras and the tests' group have beside the needed ones."""
    groups = [
        *PROJECT["project"]["optional-dependencies"].values(),
        PROJECT["dependency-groups"]["test"],
    ]
    names = {re.split(r"[<>=\[ ]", own)[0] for group in groups for own in group}
    return {name.replace("-", "_") for name in names if not name.startswith(("pytest-", "sklearn"))}


def imported(tree):
    """Packages that import statements name, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (own.name.split(".")[0] for own in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", sorted(HERE.rglob("test_*.py")), ids=lambda path: path.stem)
def test_no_missing_package_stops_the_collection(path):
    """``pytest.importorskip`` skips where an import statement would be an error of all tests."""
    found = set(imported(ast.parse(path.read_text())))

    assert not found & (optional() - NEEDED)


def test_loading_without_torch_points_to_the_runtime():
    """It reads the same file without."""
    code = (
        "import sys, sklearn_vae\n"
        "class Finder:\n"
        "    def find_spec(name, path, target=None):\n"
        "        if name == 'torch': raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "try: sklearn_vae.load\n"
        "except ImportError as error: print(error.__notes__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "sklearn_vae.runtime.load reads a saved model without PyTorch" in run.stdout
