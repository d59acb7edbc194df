"""Tables that are refused or warned of, with a way out."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer

pd = pytest.importorskip("pandas")

SMALL = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}
X = np.random.default_rng(0).normal(size=(40, 3))
ESTIMATORS = [VAETransformer(), VAEDensity(2, **SMALL), VAEOutlierDetector(**SMALL)]


def test_the_message_about_infinity_does_not_advise_an_imputer():
    """No imputer helps there."""
    with pytest.raises(ValueError, match="infinity") as caught:
        VAEDensity(**SMALL).fit(np.where(X > 2, np.inf, X))

    assert "VAEImputer" not in str(caught.value)


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
