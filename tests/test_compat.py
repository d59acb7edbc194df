"""Private names of other libraries: one file has them all, and each works as we use it."""

import ast
import re
from pathlib import Path

import torch
from scipy import stats

from sklearn_vae import _compat

PACKAGE = Path(_compat.__file__).parent
LIBRARIES = {"sklearn", "torch", "skorch", "numpy", "scipy", "joblib", "narwhals", "np", "nw", "nn"}


def is_private(name):
    if not re.fullmatch(r"[\w.]+", name):  # calls and the like
        return False
    parts = name.split(".")
    return parts[0] in LIBRARIES and any(
        part.startswith("_") and not part.startswith("__") for part in parts
    )


def private_names(path):
    """Private names of other libraries that a file imports or reads."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        yield from filter(is_private, names)


def test_private_names_are_in_one_file():
    """What is private may be gone with any release."""
    files = {path: set(private_names(path)) for path in PACKAGE.rglob("*.py")}

    assert len(files.pop(Path(_compat.__file__))) > 10
    assert {path: names for path, names in files.items() if names} == {}


def test_gamma_draws_have_the_gamma_distribution():
    """From the generator that is given, and from no other."""
    draws = [
        _compat.standard_gamma(torch.full((4000,), 2.5), torch.Generator().manual_seed(0))
        for _ in range(2)
    ]

    torch.testing.assert_close(*draws, rtol=0, atol=0)
    assert stats.kstest(draws[0].numpy(), stats.gamma(2.5).cdf).pvalue > 0.01
