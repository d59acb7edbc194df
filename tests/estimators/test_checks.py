"""What is refused is refused with a way out."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer

pd = pytest.importorskip("pandas")

SMALL = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}
X = np.random.default_rng(0).normal(size=(40, 3))
ESTIMATORS = [VAETransformer(), VAEDensity(2, **SMALL), VAEOutlierDetector(**SMALL)]


def test_y_is_refused_by_methods_of_an_unconditional_model():
    """Silence would pass rows of any class for rows of one."""
    vae = VAETransformer(2, **SMALL).fit(X)
    Z = vae.transform(X)
    for call in (
        lambda: vae.sample(3, y="a"),
        lambda: vae.inverse_transform(Z, y=np.zeros(40)),
        lambda: vae.interpolate(X[0], X[1], y="a"),
        lambda: vae.impute(X, y=np.zeros(40)),
    ):
        with pytest.raises(ValueError, match=r"takes y if.*conditional=True\) to X and y"):
            call()
    assert vae.score(X, np.zeros(40)) == vae.score(X)  # as scikit-learn's Pipelines pass it


def test_grey_values_are_refused_as_bernoulli_columns():
    """The message names what takes them."""
    X = load_digits().data / 16
    with pytest.raises(ValueError, match=r"grey value: X > 0\.5.*use 'gaussian' or 'auto'"):
        VAETransformer(likelihood="bernoulli").fit(X)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda o: type(o).__name__)
def test_n_components_outside_its_range_is_refused(estimator):
    """Where the largest comes from is said to those alone who ask for more."""
    wrong_values = (
        (0, r"\[1, inf\)"),
        (True, "Got True instead"),  # an integer in Python, but no number of dimensions
        (30_000, "at most 2120.*Sobol's sequence"),
    )
    for wrong, said in wrong_values:
        with pytest.raises(ValueError, match=f"'n_components' parameter.*must be.*{said}"):
            estimator.__class__(n_components=wrong).fit(X)


def test_likelihoods_are_not_listed_by_class_in_a_message():
    """The message had a line for each class."""
    with pytest.raises(ValueError, match=r"'likelihood' parameter .* Got 3 instead") as error:
        VAETransformer(likelihood=3).fit(X)

    assert "base.Likelihood" in str(error.value)
    assert "ZeroInflated" not in str(error.value)


@pytest.mark.parametrize("missing", [0, None])
def test_integers_beyond_floating_point_numbers_are_named(missing):
    """Python's integers have no largest one, and its own error says nothing of where it is."""
    frame = pd.DataFrame({"size": pd.Series([missing, 10**400] * 20, dtype=object), "x": X[:, 0]})
    with pytest.raises(ValueError, match="Column 'size' of X has a number beyond the range"):
        VAETransformer(2, **SMALL).fit(frame)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda o: type(o).__name__)
def test_complex_weights_are_refused_without_a_warning(estimator):
    """numpy warns where it drops the imaginary part, and warnings are errors here."""
    with pytest.raises(ValueError, match="Complex data not supported"):
        estimator.fit(X, sample_weight=np.full(len(X), 1j))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda o: type(o).__name__)
def test_three_dimensional_arrays_are_refused_with_advice(estimator):
    """Three dimensions are one too many."""
    with pytest.raises(ValueError, match=r"dim 3.*X\.reshape\(len\(X\), -1\)"):
        estimator.fit(load_digits().images)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("library", ["polars", "dask.dataframe"])
def test_lazy_tables_are_refused_with_advice(estimator, library):
    """numpy would make objects of them, or an array without the names of the columns."""
    lazy = pytest.importorskip(library)
    frame = pd.DataFrame(X, columns=list("abc"))
    table = lazy.from_pandas(frame, 1) if library != "polars" else lazy.from_pandas(frame).lazy()
    fitted = VAETransformer(1, **SMALL).fit(X)
    for call in (estimator.fit, fitted.score_samples):
        with pytest.raises(TypeError, match=r"X is a lazy table; call collect\(\)"):
            call(table)
