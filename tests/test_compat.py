"""Private names of other libraries: one file has them all, and each works as we use it."""

import ast
import re
from pathlib import Path

import torch
from scipy import stats

from sklearn_vae import _compat

PACKAGE = Path(_compat.__file__).parent
LIBRARIES = {"sklearn", "torch", "skorch", "numpy", "scipy", "joblib", "narwhals", "np", "nw", "nn"}
PRIVATE = {
    "sklearn.model_selection._search.BaseSearchCV",
    "sklearn.model_selection._validation._fit_and_score",
    "sklearn.model_selection._validation._insert_error_scores",
    "sklearn.model_selection._validation._score",
    "sklearn.model_selection._validation._warn_or_raise_about_fit_failures",
    "sklearn.utils._missing.is_pandas_na",
    "sklearn.utils._missing.is_scalar_nan",
    "sklearn.utils._param_validation.HasMethods",
    "sklearn.utils._param_validation.Interval",
    "sklearn.utils._param_validation.MissingValues",
    "sklearn.utils._param_validation.StrOptions",
    "sklearn.utils._param_validation.validate_parameter_constraints",
    "sklearn.utils._set_output._get_output_config",
    "sklearn.utils.metaestimators._safe_split",
    "sklearn.utils.validation._check_feature_names_in",
    "sklearn.utils.validation._check_method_params",
    "sklearn.utils.validation._check_sample_weight",
    "sklearn.utils.validation._num_features",
    "sklearn.utils.validation._num_samples",
    "torch._fused_adam_",
    "torch._standard_gamma",
}


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


def test_the_private_names_are_these_and_in_one_file():
    """A new one is a decision: what is private may be gone with any release."""
    files = {path: set(private_names(path)) for path in PACKAGE.rglob("*.py")}

    assert files.pop(Path(_compat.__file__)) == PRIVATE
    assert {path: names for path, names in files.items() if names} == {}


def test_gamma_draws_have_the_gamma_distribution():
    """From the generator that is given, and from no other."""
    draws = [
        _compat.standard_gamma(torch.full((4000,), 2.5), torch.Generator().manual_seed(0))
        for _ in range(2)
    ]

    torch.testing.assert_close(*draws, rtol=0, atol=0)
    assert stats.kstest(draws[0].numpy(), stats.gamma(2.5).cdf).pvalue > 0.01


def test_a_fused_step_is_the_one_of_torch_optim():
    """The moments start at zero, so the first step is the learning rate times the sign."""
    grad = torch.tensor([0.5, -2.0])
    mine, theirs = torch.zeros(2), torch.nn.Parameter(torch.zeros(2))
    _compat.fused_adam_(
        [mine], [grad], [torch.zeros(2)], [torch.zeros(2)], [], [torch.ones(())],
        lr=0.1, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
    )  # fmt: skip
    theirs.grad = grad
    torch.optim.Adam([theirs], lr=0.1).step()

    torch.testing.assert_close(mine, theirs.detach())
