"""Files of models where there is neither PyTorch nor a library of data frames."""

import datetime as dt
import os
import pickle
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import sklearn_vae
from sklearn_vae import VAEDensity, VAEImputer, VAETransformer
from tests.conftest import run_python

pd = pytest.importorskip("pandas")

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "persistence" / "golden"
ABSENT = "torch", "skorch", "pandas", "polars", "pyarrow"
N_ROWS = 40
METHODS = {
    "density-1": ("score_samples", "impute"),
    "transformer-1": ("transform", "score_samples", "impute"),
    "conditional-1": ("transform", "score_samples"),
    "detector-1": ("score_samples", "decision_function", "predict", "p_values", "explain"),
    "novelty-1": ("score_samples", "decision_function", "predict", "p_values", "explain"),
    "imputer-1": ("transform",),
}


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """A function that runs code where the packages in ``ABSENT`` are not installed."""
    packages = tmp_path_factory.mktemp("packages")
    for folder in {sysconfig.get_path(name) for name in ("purelib", "platlib")}:
        for entry in Path(folder).iterdir():
            if entry.name.partition(".")[0] not in ABSENT and entry.suffix != ".pth":
                (packages / entry.name).symlink_to(entry)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{packages}"}

    def run(code, *arguments):
        only_these = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        return run_python(only_these + code, *map(str, arguments), env=env)

    return run


COMPUTE = """
import numpy as np, sklearn_vae
folder, rows, results, *calls = sys.argv[1:]
X, found = np.loadtxt(rows), {}
for name, method in (call.split(".") for call in calls):
    model = sklearn_vae.load(f"{folder}/{name}.vae")
    found[f"{name}.{method}"] = getattr(model, method)(X)
np.savez(results, **found)
"""


def test_models_compute_what_they_compute_with_torch(without, tmp_path):
    """Those of every estimator, also of rows with missing cells."""
    rows = sklearn_vae.load(GOLDEN / "transformer-1.vae").sample(N_ROWS, random_state=0)
    rows[::9, 0], rows[1::9, 2] = np.nan, np.nan
    np.savetxt(tmp_path / "rows", rows)
    calls = [f"{name}.{method}" for name, methods in METHODS.items() for method in methods]
    without(COMPUTE, GOLDEN, tmp_path / "rows", tmp_path / "results.npz", *calls)
    results = np.load(tmp_path / "results.npz")

    for call in calls:
        name, method = call.split(".")
        expected = getattr(sklearn_vae.load(GOLDEN / f"{name}.vae"), method)(rows)
        np.testing.assert_allclose(results[call], expected, rtol=1e-6, atol=1e-6, err_msg=call)


OF_LISTS = """
import pickle, warnings, sklearn_vae
warnings.filterwarnings("ignore", "X does not have valid feature names")
model, (rows, results) = sklearn_vae.load(sys.argv[1]), map(open, sys.argv[2:], ("rb", "wb"))
table = pickle.load(rows)
imputed = getattr(model, "impute", getattr(model, "transform", None))(table)
scores = model.score_samples(table) if hasattr(model, "score_samples") else None
pickle.dump((imputed, scores), results)
"""


@pytest.mark.parametrize(
    "model",
    [
        VAEDensity(1, mixtures=[(2, "full")], max_iter=1, random_state=0),
        VAETransformer(1, max_iter=1, random_state=0),
        VAEImputer(VAETransformer(1, max_iter=1, random_state=0)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_rows_of_a_data_frame_are_lists_of_their_values(model, without, tmp_path, rng):
    """Categories, dates, durations and missing cells; imputed rows are arrays of objects."""
    table = [
        [x, dt.datetime(2020, 6, 1) + dt.timedelta(int(50 * x)), dt.timedelta(hours=np.exp(x)), c]
        for x, c in zip(rng.normal(size=80).tolist(), rng.choice(["red", "blue"], 80), strict=True)
    ]
    for i in range(20):
        table[i][i % 4] = None
    names = ["real", "day", "lasted", "colour"]
    frame = pd.DataFrame(table, columns=names)
    paths = [tmp_path / name for name in ("model", "rows", "results")]
    model.fit(frame).save(paths[0])
    paths[1].write_bytes(pickle.dumps(table))
    without(OF_LISTS, *paths)
    imputed, scores = pickle.loads(paths[2].read_bytes())
    imputed = pd.DataFrame(imputed, columns=names)
    is_imputer = isinstance(model, VAEImputer)
    expected = model.transform(frame) if is_imputer else model.impute(frame)

    if not is_imputer:
        np.testing.assert_allclose(scores, model.score_samples(frame), rtol=1e-6, atol=1e-6)
    assert imputed["colour"].tolist() == expected["colour"].tolist()
    np.testing.assert_allclose(imputed["real"].astype(float), expected["real"], rtol=1e-6)
    for name in ("day", "lasted"):
        error = imputed[name].astype(expected[name].dtype) - expected[name]
        assert error.abs().max() < pd.Timedelta("1ms")


def test_what_needs_torch_says_so(without, tmp_path):
    """Fits, random draws, and networks of torch's modules, also in a file."""
    X = np.random.default_rng(0).normal(size=(40, 4))
    VAETransformer(2, network="gru", max_iter=1).fit(X).save(tmp_path / "gru.vae")
    code = (
        "import numpy as np, sklearn_vae\n"
        "model = sklearn_vae.load(sys.argv[1])\n"
        "for call in (lambda: model.fit(np.ones((9, 4))), model.sample,\n"
        "             lambda: sklearn_vae.load(sys.argv[2])):\n"
        "    try: call()\n"
        "    except ModuleNotFoundError as error: print(error.name)\n"
    )
    printed = without(code, GOLDEN / "transformer-1.vae", tmp_path / "gru.vae")

    assert printed.split() == ["torch"] * 3
