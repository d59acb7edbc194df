"""scikit-learn's own checks, without one expected failure."""

import os
import subprocess
import sys

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_vae import VAEClassifier, VAEDensity, VAEOutlierDetector, VAETransformer

# Checks that scikit-learn runs on its own estimators, but not in check_estimator.
BESIDE = [
    "check_all_zero_sample_weights_error",
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]

ARRAY_API = """
from collections import Counter
from sklearn.utils.estimator_checks import check_estimator
from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer

results = [
    result
    for estimator in (
        VAETransformer(max_iter=2),
        VAEDensity(max_iter=2),
        VAEImputer(VAETransformer(2, max_iter=2)),
        VAEOutlierDetector(max_iter=2),
        VAEOutlierDetector(novelty=True, max_iter=2),
    )
    for result in check_estimator(estimator, on_fail=None, on_skip=None)
]
print(dict(Counter(result["status"] for result in results)))
"""


@parametrize_with_checks(
    [
        VAETransformer(),
        VAEDensity(),
        VAEOutlierDetector(max_iter=2),
        VAEOutlierDetector(novelty=True, max_iter=2),
        VAETransformer(conditional=True),
        VAEClassifier(VAETransformer(2, conditional=True, max_iter=2)),
    ]
)
def test_scikit_learn_finds_no_fault(estimator, check):
    """Every check of check_estimator passes, check_sample_weight_equivalence among them."""
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        VAETransformer(prior="mixture"),
        VAETransformer(prior="vamp"),
        VAETransformer(objective="iwae"),
        VAETransformer(objective="tc"),
        VAETransformer(objective="capacity"),
        VAETransformer(objective="mmd"),
        VAETransformer(posterior="full", max_iter=2),
        VAETransformer(posterior="flow", max_iter=2),
        VAETransformer(posterior="categorical", max_iter=2),
        # "conv" and "gru" take rows of a shape, and these checks bring tables of one to five
        # columns, and of another number of columns in the next line
        VAETransformer(network="residual"),
    ]
)
def test_nor_with_any_other_part(estimator, check):
    """The same checks, of which weights as copies of rows are the hardest."""
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("novelty", [False, True])
def test_the_detector_passes_at_its_defaults(novelty):
    """As many iterations as users get: nothing failed, nothing expected to fail."""
    results = estimator_checks.check_estimator(
        VAEOutlierDetector(novelty=novelty), on_fail=None, on_skip=None
    )

    assert {result["status"] for result in results} <= {"passed", "skipped"}
    assert not any(result["expected_to_fail"] for result in results)


# the checks themselves fit a frame and transform an array
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("name", BESIDE)
def test_the_checks_that_scikit_learn_keeps_for_itself_pass(name):
    """Column names, set_output, parameter validation and read-only input."""
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip(f"this scikit-learn has no {name}")

    check("VAETransformer", VAETransformer(max_iter=2))
    if "transform" not in name and "names_out" not in name:
        check("VAEDensity", VAEDensity(max_iter=2))
    if "transform" not in name and "names_out" not in name and "weights" not in name:
        check("VAEOutlierDetector", VAEOutlierDetector(max_iter=2))


@pytest.mark.slow
def test_no_check_is_skipped_with_the_array_api_switched_on():
    """SCIPY_ARRAY_API is read when scipy is imported, hence a process of its own."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ARRAY_API],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    statuses = eval(run.stdout)

    assert list(statuses) == ["passed"]
