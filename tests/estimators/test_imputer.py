"""VAEImputer: empty columns, indicators, values of missing cells, and tables of any library."""

import signal
from functools import partial

import narwhals as nw
import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAEImputer, VAETransformer
from sklearn_vae.training.trainer import Trainer
from tests.conftest import as_table, reread

pd = pytest.importorskip("pandas")


def test_draws_of_a_model_have_its_seed():
    """The imputer's own seed is None by default."""
    X = np.random.default_rng(0).normal(size=(60, 2))
    X[::3, 0] = np.nan
    imputer = VAEImputer(VAETransformer(1, max_iter=1, random_state=0), n_imputations=2).fit(X)

    np.testing.assert_array_equal(imputer.transform(X), imputer.transform(X))
    np.testing.assert_array_equal(imputer.transform(X), imputer.estimator_.impute(X, 2))


@pytest.mark.parametrize("model", [VAETransformer, VAEDensity])
def test_conditional_models_are_refused(model, rng):
    """With a y, the error said that y was None."""
    imputer = VAEImputer(model(conditional=True))

    with pytest.raises(ValueError, match="'estimator' parameter of VAEImputer must have cond"):
        imputer.fit(rng.normal(size=(20, 2)), np.arange(20) % 2)


EMPTY = [("boolean", False), ("Int64", 0), ("object", 0), (pd.CategoricalDtype(["x", "y"]), "x")]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_empty_columns_that_are_kept_have_no_missing_cells(library, tmp_path, rng):
    """Numbers are filled as by scikit-learn's imputers, classes by the first one."""
    for dtype, expected in EMPTY if library == "pandas" else EMPTY[:2]:
        empty = pd.Series([None] * 40, dtype=dtype)
        table = as_table(pd.DataFrame({"a": rng.normal(size=40), "b": empty}), library)
        model = VAETransformer(1, max_iter=1, random_state=0)
        imputer = VAEImputer(model, keep_empty_features=True).fit(table)
        for each in (imputer, reread(imputer, tmp_path)):
            column = each.transform(table)["b"]

            assert (column.to_pylist() if library == "pyarrow" else list(column)) == [expected] * 40


def test_an_interrupted_fit_keeps_its_model(monkeypatch):
    """Ctrl-C during the training: the best weights so far, without trees."""

    train_epoch = Trainer.train_epoch

    def press_ctrl_c(net):
        if len(net.history) == 3:
            signal.raise_signal(signal.SIGINT)
        return train_epoch(net)

    X = np.random.default_rng(0).normal(size=(300, 4))
    X[::5, 1] = np.nan
    imputer = VAEImputer(random_state=0)
    monkeypatch.setattr(Trainer, "train_epoch", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        imputer.fit(X)

    assert imputer.trees_ is None
    assert not np.isnan(imputer.transform(X)).any()


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_set_output_keeps_the_dtypes_of_frames(library):
    """scikit-learn makes columns of objects from a frame of another library."""
    frame = pd.DataFrame({"number": [0.5, None, 2.5], "text": ["a", "b", None]})
    table = as_table(frame, library)
    model = VAETransformer(1, max_iter=1, random_state=0)
    imputed = VAEImputer(model).set_output(transform="pandas").fit_transform(table)

    assert isinstance(imputed, pd.DataFrame)
    assert imputed["number"].dtype == float
    assert imputed["text"].isin(["a", "b"]).all()


def test_indicators_replace_no_columns(rng):
    """As those of another imputer before: the column would be lost."""
    frame = pd.DataFrame({"a": rng.normal(size=30), "missingindicator_a": rng.normal(size=30)})
    frame.loc[::3, "a"] = np.nan
    imputer = VAEImputer(VAETransformer(1, max_iter=1), add_indicator=True, random_state=0)

    with pytest.raises(ValueError, match="have no column 'missingindicator_a'"):
        imputer.fit(frame)
    assert imputer.fit_transform(frame.assign(a=1.0)).shape == (30, 2)


@pytest.mark.parametrize("ordered", [False, True])
def test_the_value_of_missing_cells_is_no_category(ordered, rng):
    """A dtype that declares "?" made it a class, which draws imputed now and then."""
    x = rng.normal(size=150)
    cells = np.where(rng.random(150) < 0.3, "?", np.where(x > 0, "a", "b"))
    frame = pd.DataFrame({"c": pd.Categorical(cells, ordered=ordered), "x": x})
    imputer = VAEImputer(
        VAETransformer(1, max_iter=1), n_imputations=40, missing_values="?", random_state=0
    )
    draws = np.array([table["c"].to_numpy() for table in imputer.fit_transform(frame)])

    assert set(draws.ravel().tolist()) == {"a", "b"}
    np.testing.assert_array_equal(draws[:, cells != "?"], np.tile(cells[cells != "?"], (40, 1)))


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_a_number_for_missing_cells_is_replaced_in_every_library(library):
    """Columns of pyarrow have no names of their own: a column more was an error."""
    x = np.random.default_rng(0).normal(size=40)
    cells = [3, *range(4, 43)]
    table = as_table(pd.DataFrame({"n": cells, "x": x}), library)
    imputer = VAEImputer(VAETransformer(1, max_iter=1), missing_values=3, random_state=0)
    imputed = nw.from_native(imputer.fit_transform(table))

    assert imputed.columns == ["n", "x"]
    assert imputed["n"].to_list()[1:] == cells[1:]
    assert imputed["n"].to_list()[0] >= 4


@pytest.mark.parametrize("missing_values", [-1, np.nan])
def test_sparse_columns_of_pandas_are_imputed_as_dense_ones(missing_values, rng):
    """The number of missing cells was not sought in them, and whole numbers raised an error."""
    frame = pd.DataFrame({"n": rng.poisson(0.5, 80), "x": rng.normal(size=80).round(1)})
    if missing_values == -1:
        frame.loc[::7] = frame[::7].assign(n=-1)
    frame.loc[::9, "x"] = missing_values
    sparse = frame.astype({"n": "Sparse[int64, 0]", "x": pd.SparseDtype(float, 0.0)})
    make = partial(VAEImputer, missing_values=missing_values, random_state=0)

    pd.testing.assert_frame_equal(make().fit_transform(sparse), make().fit_transform(frame))


@pytest.mark.parametrize(
    "names", [["*", "b"], ["^a.*$", "a"], pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])]
)
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_columns_with_missing_values_have_any_names(names, library, rng):
    """Patterns of polars, and tuples, are names of several columns to some libraries."""
    X = rng.normal(size=(40, 2))
    X[::5, 0] = -1
    frame = pd.DataFrame(X, columns=names)
    if library != "pandas":
        if isinstance(names, pd.MultiIndex):
            pytest.skip("only pandas has such names")
        frame = as_table(frame, library)
    imputer = VAEImputer(VAETransformer(1, max_iter=1), missing_values=-1)
    imputed = np.asarray(imputer.fit_transform(frame))

    assert (imputed[::5, 0] != -1).all()
    np.testing.assert_array_equal(imputed[1::5], X[1::5])


def test_observed_cells_of_an_empty_column_are_kept(tmp_path):
    """As scikit-learn's imputers keep them."""
    X = np.random.default_rng(0).normal(size=(30, 2))
    X[:, 1] = np.nan
    imputer = VAEImputer(VAETransformer(1, max_iter=1), keep_empty_features=True).fit(X)

    for model in (imputer, reread(imputer, tmp_path)):
        imputed = model.transform(np.array([[1.0, 5.0], [2.0, np.nan]]))
        np.testing.assert_array_equal(imputed[:, 1], [5, 0])


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_indicators_are_columns_of_every_library(library):
    x = np.random.default_rng(0).normal(size=30)
    table = as_table(pd.DataFrame({"a": x, "b": [None, *x[1:]]}), library)
    imputed = VAEImputer(VAETransformer(1, max_iter=1), add_indicator=True).fit_transform(table)

    assert imputed.shape == (30, 3)
