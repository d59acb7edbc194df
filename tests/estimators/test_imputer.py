"""VAEImputer: empty columns, indicators, values of missing cells, and tables of any library."""

import signal

import numpy as np
import pytest

from sklearn_vae import VAEImputer, VAETransformer, load, runtime
from sklearn_vae.estimators.imputer import _FirstWeights

pd = pytest.importorskip("pandas")


def test_draws_of_a_model_have_its_seed():
    """The imputer's own seed is None by default."""
    X = np.random.default_rng(0).normal(size=(60, 2))
    X[::3, 0] = np.nan
    imputer = VAEImputer(VAETransformer(1, max_iter=1, random_state=0), n_imputations=2).fit(X)

    np.testing.assert_array_equal(imputer.transform(X), imputer.transform(X))
    np.testing.assert_array_equal(imputer.transform(X), imputer.estimator_.impute(X, 2))


EMPTY = {
    "pandas": [
        ("string", "missing_value"), ("object", 0), ("boolean", False), ("Int64", 0),
        (pd.CategoricalDtype(["x", "y"]), "x"),
        (pd.CategoricalDtype(pd.Index([], dtype="int64")), 0),
        (pd.CategoricalDtype(pd.Index([], dtype="str")), "missing_value"),
    ],
    "polars": [
        ("String", "missing_value"), ("Categorical", "missing_value"), ("Int64", 0),
        ("Boolean", False),
    ],
    "pyarrow": [("string", "missing_value"), ("int64", 0), ("bool_", False)],
}  # fmt: skip


@pytest.mark.parametrize("library", EMPTY)
def test_empty_columns_that_are_kept_have_no_missing_cells(library, tmp_path):
    """Text is filled as by scikit-learn's SimpleImputer; it stayed missing."""
    namespace = pytest.importorskip(library)
    rng = np.random.default_rng(0)
    for dtype, expected in EMPTY[library]:
        if library == "pandas":
            table = pd.DataFrame(
                {"a": rng.normal(size=40), "b": pd.Series([None] * 40, dtype=dtype)}
            )
        elif library == "polars":
            empty = namespace.Series([None] * 40, dtype=getattr(namespace, dtype))
            table = namespace.DataFrame({"a": rng.normal(size=40), "b": empty})
        else:
            empty = namespace.array([None] * 40, getattr(namespace, dtype)())
            table = namespace.table({"a": rng.normal(size=40), "b": empty})
        model = VAETransformer(1, max_iter=1, random_state=0)
        imputer = VAEImputer(model, keep_empty_features=True).fit(table)
        imputer.save(tmp_path / "imputer.vae")
        for each in (imputer, load(tmp_path / "imputer.vae")):
            column = each.transform(table)["b"]

            assert (column.to_pylist() if library == "pyarrow" else list(column)) == [expected] * 40
        rows = np.column_stack([np.zeros(40), np.full(40, None)])
        by_numpy = runtime.load(tmp_path / "imputer.vae").transform(rows)

        assert by_numpy[:, 1].tolist() == [expected] * 40


def test_an_interrupted_fit_keeps_its_model():
    """Ctrl-C during the training: the best weights so far, without a mixture."""

    def press_ctrl_c(_, net, **kwargs):
        if len(net.history) == 3:
            signal.raise_signal(signal.SIGINT)

    X = np.random.default_rng(0).normal(size=(300, 4))
    X[::5, 1] = np.nan
    imputer, handler = VAEImputer(random_state=0), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_FirstWeights, "on_epoch_end", press_ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                imputer.fit(X)
    finally:
        signal.signal(signal.SIGINT, handler)

    assert imputer.mixture_ is None
    assert imputer.estimator_.callbacks is None
    assert not np.isnan(imputer.transform(X)).any()


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_set_output_keeps_the_dtypes_of_frames(library):
    """scikit-learn makes columns of objects from a frame of another library."""
    module = pytest.importorskip(library)
    frame = {"number": [0.5, None, 2.5], "text": ["a", "b", None]}
    table = module.table(frame) if library == "pyarrow" else module.DataFrame(frame)
    model = VAETransformer(1, max_iter=1, random_state=0)
    imputed = VAEImputer(model).set_output(transform="pandas").fit_transform(table)

    assert isinstance(imputed, pd.DataFrame)
    assert imputed["number"].dtype == float
    assert imputed["text"].isin(["a", "b"]).all()


@pytest.mark.parametrize("in_batches", [False, True])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "Int64"])
def test_integers_with_a_value_for_missing_cells_stay_integers(dtype, in_batches):
    """pandas makes floats of them, which were imputed by fractions such as 2.39."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=150)
    counts = pd.Series(1 + rng.poisson(np.exp(x))).mask(rng.random(150) < 0.3, 99).astype(dtype)
    frame = pd.DataFrame({"n": counts, "x": x})
    imputer = VAEImputer(VAETransformer(1, max_iter=1), missing_values=99, random_state=0)
    imputer.fit((lambda: iter([frame[:60], frame[60:]])) if in_batches else frame)
    imputed = imputer.transform(frame)
    nullable = frame.assign(n=counts.astype("Int64").mask(counts == 99))
    same = VAEImputer(VAETransformer(1, max_iter=1), random_state=0).fit_transform(nullable)

    assert imputed.dtypes.tolist() == frame.dtypes.tolist()
    assert imputed["n"].tolist() == same["n"].tolist()
    assert imputed["n"][counts != 99].equals(counts[counts != 99])


def test_observed_cells_of_an_empty_column_are_kept(tmp_path):
    """As scikit-learn's imputers keep them."""
    X = np.random.default_rng(0).normal(size=(30, 2))
    X[:, 1] = np.nan
    imputer = VAEImputer(VAETransformer(1, max_iter=1), keep_empty_features=True).fit(X)
    imputer.save(tmp_path / "imputer.vae")

    for model in (imputer, runtime.load(tmp_path / "imputer.vae")):
        imputed = model.transform(np.array([[1.0, 5.0], [2.0, np.nan]]))
        np.testing.assert_array_equal(imputed[:, 1], [5, 0])


@pytest.mark.parametrize(("library", "make"), [("polars", "DataFrame"), ("pyarrow", "table")])
def test_indicators_are_columns_of_every_library(library, make):
    x = np.random.default_rng(0).normal(size=30)
    table = getattr(pytest.importorskip(library), make)({"a": x, "b": [None, *x[1:]]})
    imputed = VAEImputer(VAETransformer(1, max_iter=1), add_indicator=True).fit_transform(table)

    assert imputed.shape == (30, 3)
