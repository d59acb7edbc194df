"""scikit-learn's own checks, without one expected failure."""

import os

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_vae import VAEClassifier, VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from tests.conftest import run_python

pytestmark = pytest.mark.usefixtures("few_steps")

# Checks that scikit-learn runs on its own estimators, but not in check_estimator.
BESIDE = [
    "check_all_zero_sample_weights_error", "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error", "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars", "check_inplace_ensure_writeable",
    "check_param_validation", "check_set_output_transform", "check_set_output_transform_pandas",
    "check_set_output_transform_polars", "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]  # fmt: skip

# Only the check that wants the array API switched on is skipped.
SMALL = (
    VAETransformer(hidden_layer_sizes=(8,), max_iter=1),
    VAEDensity(mixtures=[(2, "full")], hidden_layer_sizes=(8,), max_iter=1),
    VAEOutlierDetector(hidden_layer_sizes=8, max_iter=1),
)
PASSED = {"passed", "skipped"}

ARRAY_API = """
from collections import Counter
from sklearn.utils.estimator_checks import check_estimator
from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer

results = [
    result
    for estimator in (
        VAETransformer(max_iter=2),
        VAEDensity(max_iter=2),
        VAEImputer(),
        VAEOutlierDetector(max_iter=2),
        VAEOutlierDetector(novelty=True, max_iter=2),
    )
    for result in check_estimator(estimator, on_fail=None, on_skip=None)
]
print(dict(Counter(result["status"] for result in results)))
"""


@parametrize_with_checks(
    [
        *SMALL,
        VAEClassifier(VAETransformer(2, hidden_layer_sizes=(8,), max_iter=1), n_draws=16),
    ]
)
def test_every_check_of_scikit_learn_passes(estimator, check):
    """Every check of check_estimator passes, check_sample_weight_equivalence among them."""
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        VAETransformer(conditional=True, hidden_layer_sizes=(8,), max_iter=2),
        VAEDensity(mixtures=[(1, "diag")], conditional=True, max_iter=1),
        VAETransformer(prior="mixture"),
        VAETransformer(prior="vamp"),
        # at the default rate a change of the last bit of X grows to 4e-6, as weights' rounding does
        VAETransformer(objective="iwae", learning_rate=0.001),
        VAETransformer(objective="tc"),
        VAETransformer(objective="mmd"),
        VAETransformer(posterior="full", max_iter=2),
        VAETransformer(posterior="categorical", max_iter=2),
    ]
)
def test_every_check_passes_with_other_models(estimator, check):
    """Every prior, objective and posterior, and a condition."""
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        VAETransformer(),
        VAEDensity(),
        VAEOutlierDetector(),
        VAEOutlierDetector(novelty=True),
        VAEImputer(),
        VAEClassifier(),
    ],
    ids=str,
)
def test_checks_pass_with_default_parameters(estimator):
    """As users get them."""
    results = estimator_checks.check_estimator(estimator, on_fail=None, on_skip=None)

    bad = {r["check_name"]: r["exception"] for r in results if r["status"] not in PASSED}
    assert bad == {}
    assert not any(result["expected_to_fail"] for result in results)


@pytest.mark.parametrize(
    "name", ["check_sample_weights_not_an_array", "check_transformer_data_not_an_array"]
)
def test_the_default_imputer_takes_array_likes_that_refuse_numpy(name):
    """An array-like may refuse numpy's functions; its default latent size asks for its width."""
    getattr(estimator_checks, name)("VAEImputer", VAEImputer())


# the checks themselves fit a frame and transform an array
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("name", BESIDE)
def test_private_checks_of_scikit_learn_pass(name):
    """Column names, set_output, parameter validation and read-only input."""
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip(f"this scikit-learn has no {name}")

    n_checked = 1 if "transform" in name or "names_out" in name else 2 if "weights" in name else 3
    for estimator in SMALL[:n_checked]:
        check(type(estimator).__name__, estimator)


@pytest.mark.slow
def test_no_check_is_skipped_with_the_array_api_switched_on():
    """SCIPY_ARRAY_API is read when scipy is imported, hence a process of its own."""
    env = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONWARNINGS": "ignore"}
    statuses = eval(run_python(ARRAY_API, env=env))

    assert list(statuses) == ["passed"]
