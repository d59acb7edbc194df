"""Golden files in a process that does not import PyTorch."""

from pathlib import Path

import numpy as np
import pytest

import sklearn_vae
from sklearn_vae import runtime
from tests.conftest import run_python

GOLDEN = Path(__file__).parents[1] / "persistence" / "golden"
N_ROWS = 40
METHODS = {
    "density-1": ("score_samples",),
    "transformer-1": ("transform", "score_samples"),
    "conditional-1": ("transform", "score_samples"),
    "detector-1": ("score_samples", "decision_function", "predict", "p_values"),
    "novelty-1": ("score_samples", "decision_function", "predict", "p_values"),
    "imputer-1": ("transform",),
}

IN_A_BARE_PROCESS = """
import sys
import numpy as np
from sklearn_vae import runtime
print({"torch", "pandas", "scipy", "sklearn"} & sys.modules.keys())
folder, rows, results, *calls = sys.argv[1:]
X, found = np.loadtxt(rows), {}
for name, method in (call.split(".") for call in calls):
    model = runtime.load(f"{folder}/{name}.vae")
    found[f"{name}.{method}"] = getattr(model, method)(X)
np.savez(results, **found)
print({"torch"} & sys.modules.keys())
"""


def test_golden_models_compute_without_torch_what_they_compute_by_torch(tmp_path):
    rows = sklearn_vae.load(GOLDEN / "transformer-1.vae").sample(N_ROWS, random_state=0)
    rows[::9, 0], rows[1::9, 2] = np.nan, np.nan
    np.savetxt(tmp_path / "rows", rows)
    calls = [f"{name}.{method}" for name, methods in METHODS.items() for method in methods]
    files = GOLDEN, tmp_path / "rows", tmp_path / "results.npz"
    printed = run_python(IN_A_BARE_PROCESS, *files, *calls)
    results = np.load(tmp_path / "results.npz")

    assert printed.split() == ["set()", "set()"]  # after the import, and at the end
    for call in calls:
        name, method = call.split(".")
        expected = getattr(sklearn_vae.load(GOLDEN / f"{name}.vae"), method)(rows)
        np.testing.assert_allclose(results[call], expected, rtol=1e-6, atol=1e-6, err_msg=call)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("load", [sklearn_vae.load, runtime.load])
def test_tables_without_rows_are_refused(load, name):
    """By estimators and by the runtime."""
    model = load(GOLDEN / f"{name}.vae")
    for method in METHODS[name]:
        with pytest.raises(ValueError, match=r"shape.*\(0, \d+\)"):
            getattr(model, method)(np.empty((0, model.n_features_in_)))


def test_rows_of_a_golden_model_with_dates_are_lists_of_their_values():
    """Scores, and imputed rows, of dates, categories and truth values."""
    pd = pytest.importorskip("pandas")
    estimator = sklearn_vae.load(GOLDEN / "mixed-1.vae")
    model = runtime.load(GOLDEN / "mixed-1.vae")
    frame = estimator.sample(N_ROWS, random_state=0)
    frame.loc[:3, "colour"], frame.loc[2:5, "when"] = None, None
    table = [[None if pd.isna(v) else v for v in row] for row in frame.itertuples(index=False)]

    expected = estimator.score_samples(frame)
    np.testing.assert_allclose(model.score_samples(table), expected, rtol=1e-6, atol=1e-6)
    imputed = pd.DataFrame(model.impute(table), columns=frame.columns)
    expected = estimator.impute(frame)
    imputed = imputed.astype(expected.dtypes)
    days = (table.pop("when").astype("datetime64[us]").astype(int) for table in (imputed, expected))
    np.testing.assert_allclose(*days, rtol=1e-12)  # means of dates are rounded to microseconds
    pd.testing.assert_frame_equal(imputed, expected, rtol=1e-6)
