"""The public surface, and what importing it costs."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import sklearn_vae
from sklearn_vae import VAEOutlierDetector, VAETransformer
from sklearn_vae.anomaly.scores import METHODS
from sklearn_vae.likelihoods import LIKELIHOODS
from sklearn_vae.networks import NETWORKS
from sklearn_vae.objectives import OBJECTIVES
from sklearn_vae.posteriors import POSTERIORS
from sklearn_vae.priors import PRIORS
from tests.conftest import run_python

ROOT = Path(__file__).parents[1]


def public_names():
    """Names of the API reference by module, those of the package itself under an empty name."""
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    names = {}
    for block in re.findall(r"^```{eval-rst}\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        for name in re.findall(r"^   ([\w.]+)$", block, re.MULTILINE):
            module, _, last = name.rpartition(".")
            names.setdefault(module, []).append(last)
    return names


PUBLIC = public_names()
# names of parameters by module; the defaults are classes that are not public
REGISTRIES = {
    "likelihoods": LIKELIHOODS,
    "networks": {name: part for name, part in NETWORKS.items() if name != "mlp"},
    "objectives": OBJECTIVES,
    "posteriors": {name: part for name, part in POSTERIORS.items() if name != "gaussian"},
    "priors": PRIORS,
}


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_those_of_the_reference(module):
    """A name that comes or goes is a decision; some modules also have names for the package."""
    home = getattr(sklearn_vae, module) if module else sklearn_vae
    assert {*PUBLIC[module]} <= {*dir(home)}
    assert all(getattr(home, name).__name__ == name for name in PUBLIC[module])
    if module in ("", "inspection", "metrics", "model_selection"):
        assert sorted(home.__all__) == sorted(PUBLIC[module])


@pytest.mark.parametrize("module", REGISTRIES)
def test_the_reference_has_the_class_of_every_name(module):
    """A likelihood, prior, network, posterior or objective can be given as an object, too."""
    parts = REGISTRIES[module].values()
    assert {getattr(part, "__name__", type(part).__name__) for part in parts} <= {*PUBLIC[module]}


@pytest.mark.parametrize(
    ("estimator", "parameter", "names"),
    [
        (VAETransformer, "likelihood", LIKELIHOODS),
        (VAETransformer, "network", NETWORKS),
        (VAETransformer, "prior", PRIORS),
        (VAETransformer, "posterior", POSTERIORS),
        (VAETransformer, "objective", OBJECTIVES),
        (VAEOutlierDetector, "method", ["auto", "neighbors", *METHODS]),
    ],
)
def test_a_parameters_description_has_all_its_names(estimator, parameter, names):
    """What fit takes can be read there."""
    text = inspect.cleandoc(estimator.__doc__)
    pattern = rf"^{parameter} : .*?(?=^\S)"
    (described,) = re.findall(pattern, text, re.DOTALL | re.MULTILINE)
    assert [name for name in names if f'"{name}"' not in described] == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("likelihoods.md", LIKELIHOODS),
        ("objectives.md", OBJECTIVES),
        ("outliers.md", METHODS),
        ("posteriors.md", POSTERIORS),
    ],
)
def test_a_table_of_the_guide_has_all_names(page, names):
    """They are compared there."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    rows = "".join(line for line in text.splitlines() if line.startswith("| "))
    assert [name for name in names if f'`"{name}"`' not in rows] == []


def test_importing_the_package_imports_nothing_heavy():
    """No torch until a fit, and no matplotlib until a plot."""
    code = "import sys; heavy = {'torch', 'sklearn', 'pandas', 'matplotlib', 'numpy'}"
    for module in ("sklearn_vae", "sklearn_vae.metrics", "sklearn_vae.inspection"):
        code += f"; import {module}; print(sorted(heavy & sys.modules.keys()))"
    code += "; from sklearn_vae import *; print(sorted(heavy & sys.modules.keys()))"
    package, metrics, displays, every = map(ast.literal_eval, run_python(code).splitlines())

    assert package == []
    assert "matplotlib" not in displays
    for imported in (metrics, displays, every):
        assert "torch" not in imported


def test_reading_and_encoding_a_table_need_numpy_and_narwhals_alone():
    """A saved encoder is read and used where neither torch nor scipy nor scikit-learn is."""
    code = (
        "import sys; absent = 'torch', 'scipy', 'sklearn', 'pandas', 'polars', 'pyarrow';"
        "sys.modules.update(dict.fromkeys(absent));"
        "import numpy as np; "
        "from sklearn_vae.data.columns.binary import ConstantColumns as Constant;"
        "from sklearn_vae.data.schema import Schema;"
        "from sklearn_vae.data.table_encoder import TableEncoder;"
        "X = np.array([['b', 1], [None, 2.5]], dtype=object); schema = Schema.fit(X);"
        "print(schema.inverse_transform(schema.transform(X)).tolist());"
        "columns = [Constant(np.array([0]), None, np.array([[7.0]]))];"
        "print(TableEncoder(['a'], columns, -1.0).inverse_transform(np.empty((2, 0))))"
    )

    assert run_python(code) == "[['b', 1.0], [nan, 2.5]]\n[[7.]\n [7.]]\n"


def test_the_first_fit_imports_no_pictures_and_no_compiler():
    """torch's compiler costs a second in every new process; nothing here needs it.

    Nor its symbolic shapes, also where the gradient is autograd's.
    """
    code = (
        "import sys, numpy as np; from sklearn_vae import VAETransformer;"
        "X = np.random.default_rng(0).integers(0, 4, (60, 3));"
        "VAETransformer(max_iter=1).fit(X + np.random.rand(60, 3));"
        "likelihood = ['ordinal', 'poisson', 'categorical'];"
        "VAETransformer(1, likelihood=likelihood, max_iter=1).fit(X).score(X);"
        "print([m for m in ('matplotlib', 'polars', 'torch._dynamo', 'sympy') if m in sys.modules])"
    )

    assert run_python(code).strip() == "[]"


def test_the_code_in_the_readme_runs(tmp_path):
    """What a newcomer copies works."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    run_python(block, cwd=tmp_path, env=env)
