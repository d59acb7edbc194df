"""The public surface, and what importing it costs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_vae

ROOT = Path(__file__).parents[1]


PUBLIC = {
    "": [
        "VAEClassifier", "VAEDensity", "VAEImputer", "VAEOutlierDetector", "VAETransformer", "load",
    ],
    "inspection": [
        "ExplanationDisplay", "LatentSpaceDisplay", "LossCurveDisplay", "ManifoldDisplay",
        "PITCalibrationDisplay", "ReconstructionDisplay", "TraversalDisplay",
    ],
    "likelihoods": [
        "Bernoulli", "Categorical", "Gaussian", "LogNormal", "NegativeBinomial", "Ordinal",
        "Poisson", "StudentT", "ZeroInflated",
    ],
    "metrics": [
        "active_units", "check_posterior_collapse", "decompose_uncertainty",
        "disentanglement_scores", "generalization_gap", "kl_per_dimension",
        "mutual_information_gap", "pit_calibration", "quality_report", "total_correlation",
    ],
    "model_selection": ["VAESearchCV"],
    "networks": ["ConvNet", "GRUNet", "ResidualMLP"],
    "objectives": [
        "ELBO", "IWAE", "MMD", "CapacityELBO", "LinearWarmup", "TotalCorrelation", "TrimmedELBO",
    ],
    "onnx": ["to_onnx"],
    "posteriors": [
        "FullCovarianceGaussian", "GaussianCategorical", "RelaxedCategorical",
    ],
    "preprocessing": ["FlattenImages"],
    "runtime": ["DensityModel", "OutlierModel", "TransformerModel", "load"],
    "priors": ["MixturePrior", "StandardNormal", "VampPrior"],
    "training": ["data_parallel"],
}  # fmt: skip


def test_the_public_names_are_these():
    """A name that comes or goes is a decision."""
    for module, names in PUBLIC.items():
        home = getattr(sklearn_vae, module) if module else sklearn_vae
        assert set(names) <= set(dir(home))
        assert all(getattr(home, name).__name__ == name for name in names)
    assert sklearn_vae.__all__ == PUBLIC[""]
    with pytest.raises(AttributeError, match="no attribute 'VAE'"):
        _ = sklearn_vae.VAE


def test_importing_the_package_imports_nothing_heavy():
    """No torch, no pandas, no matplotlib until an estimator is asked for."""
    code = "import sys, sklearn_vae; print(sorted({m.split('.')[0] for m in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {"torch", "sklearn", "pandas", "matplotlib", "numpy"} & set(
        ast.literal_eval(run.stdout)
    )


def test_encoding_a_table_needs_numpy_alone():
    """A saved encoder is read and used where neither torch nor scipy nor scikit-learn is."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'scipy', 'sklearn', 'narwhals']));"
        "import numpy as np; from sklearn_vae.data.columns import ConstantColumns as Constant;"
        "from sklearn_vae.data.encoder import TableEncoder;"
        "columns = [Constant(np.array([0]), None, np.array([[7.0]]))];"
        "print(TableEncoder(['a'], columns, -1.0).inverse_transform(np.empty((2, 0))))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout == "[[7.]\n [7.]]\n"


def test_the_first_fit_imports_no_pictures_and_no_compiler():
    """torch's compiler costs a second in every new process; nothing here needs it.

    Nor its symbolic shapes, also where the gradient is autograd's.
    """
    code = (
        "import sys, numpy as np; from sklearn_vae import VAETransformer;"
        "X = np.random.default_rng(0).integers(0, 4, (150, 3));"
        "VAETransformer(max_iter=1).fit(X + np.random.rand(150, 3));"
        "likelihood = ['ordinal', 'poisson', 'student_t'];"
        "VAETransformer(1, likelihood=likelihood, max_iter=1).fit(X).score(X);"
        "print([m for m in ('matplotlib', 'polars', 'torch._dynamo', 'sympy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"


def test_the_code_in_the_readme_runs(tmp_path):
    """What a newcomer copies works."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path,
        check=True,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def test_the_readme_is_short():
    """At most 120 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
