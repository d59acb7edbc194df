"""A saved VAEImputer that numpy computes is the one that torch computes."""

from copy import copy

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAEImputer, VAETransformer, load, runtime
from sklearn_vae.estimators.averaging import AverageFitter
from tests.runtime.conftest import saved

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.filterwarnings("ignore:Columns of X hold no value")

SMALL = {"hidden_layer_sizes": (6,), "max_iter": 2, "random_state": 0}


def rows(n_rows=110):
    """Real columns, one of classes and an empty one, with missing cells: (n, 6)."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(n_rows, 4))
    X = np.column_stack([X, X[:, 0] > 0, np.zeros(n_rows)])
    X[rng.random(X.shape) < 0.15] = np.nan
    X[:, 5] = np.nan
    return X


@pytest.fixture(scope="module")
def averaged():
    """An imputer that averages all three imputations, whichever of them is the best one."""
    imputer = VAEImputer(random_state=0).fit(rows())
    assert imputer.mixture_ is not None
    imputer.mixture_weight_, imputer.trees_weight_ = 0.4, 0.3
    model = imputer.estimator_
    fitter = AverageFitter(model, model.state_dict_, rows(), None)
    imputer.trees_ = fitter._fit_trees(model, rows(), None, np.arange(4))
    return imputer


@pytest.mark.parametrize(
    "imputer",
    [
        None,
        VAEImputer(VAETransformer(2, **SMALL), add_indicator=True, keep_empty_features=True),
        VAEImputer(VAEDensity(1, mixtures=[(2, "full")], **SMALL)),
    ],
    ids=["averaged with a mixture", "indicators", "density"],
)
def test_imputed_tables_are_those_of_the_estimator(imputer, averaged, tmp_path):
    """With columns of indicators, and without empty columns unless they are kept."""
    X = rows()
    imputer = averaged if imputer is None else imputer.fit(X)
    imputed = saved(imputer, tmp_path).transform(X)

    np.testing.assert_allclose(imputed, imputer.transform(X), rtol=1e-6, atol=1e-6)


def test_draws_are_shifted_and_spread_as_those_of_the_estimator(averaged, tmp_path):
    """Both have means and standard deviations of 400 draws."""
    X = rows()
    imputer = copy(averaged).set_params(n_imputations=400)
    imputer.spread_ = np.array([0.5, 0.5, 0.5, 0.5, 1.0, 1.0])
    hidden = np.isnan(X[:30, :4])
    draws, expected = (
        each.transform(X[:30])[:, :, :4][:, hidden] for each in (saved(imputer, tmp_path), imputer)
    )
    imputer.spread_ = None
    own = imputer.transform(X[:30])[:, :, :4][:, hidden]

    spread = expected.std(axis=0)
    np.testing.assert_array_less(abs(draws.mean(axis=0) - expected.mean(axis=0)), 0.3 * spread)
    np.testing.assert_allclose(draws.std(axis=0).mean(), spread.mean(), rtol=0.05)
    np.testing.assert_allclose(own.std(axis=0).mean(), 2 * spread.mean(), rtol=0.05)


def test_values_that_mark_missing_cells_are_replaced(tmp_path):
    X = rows()[:, :5]
    marked = np.where(np.isnan(X), -999.0, X)
    imputer = VAEImputer(VAETransformer(2, **SMALL), missing_values=-999.0).fit(marked)
    model = saved(imputer, tmp_path)

    np.testing.assert_allclose(model.transform(marked), imputer.transform(marked), rtol=1e-6)
    np.testing.assert_array_equal(model.transform(X), model.transform(marked))


@pytest.mark.parametrize("missing_values", [-999.0, "?", pd.NA, None, np.nan], ids=repr)
def test_cells_of_pandas_na_are_missing_beside_those_of_the_mark(missing_values, tmp_path):
    """A comparison with it has no truth value."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"real": rng.normal(size=80), "k": rng.choice(["a", "b"], 80)}).astype(
        {"real": "Float64", "k": "string"}
    )
    table.loc[:4, "real"], table.loc[5:9, "k"] = pd.NA, pd.NA
    if not pd.isna(missing_values):
        table.loc[10:14, "k" if missing_values == "?" else "real"] = missing_values
    imputer = VAEImputer(VAETransformer(1, **SMALL), missing_values=missing_values).fit(table)
    imputed = saved(imputer, tmp_path).transform(table.to_numpy(object))
    expected = imputer.transform(table)

    assert load(tmp_path / "model.vae").transform(table).equals(expected)
    assert imputed[:, 1].tolist() == expected["k"].tolist()
    np.testing.assert_allclose(imputed[:, 0].astype(float), expected["real"].astype(float))


def test_tables_of_dates_and_categories_are_lists_of_their_values(tmp_path):
    """Dates are rounded to their unit; categories are the likeliest ones."""
    rng = np.random.default_rng(0)
    code = rng.normal(size=80)
    frame = pd.DataFrame({
        "real": code,
        "day": pd.Timestamp("2020-01-01") + pd.to_timedelta((50 * code).astype(int), "D"),
        "lasted": pd.to_timedelta(np.exp(code), "h"),
        "colour": np.where(code > 0, "red", "blue"),
    })  # fmt: skip
    for j, name in enumerate(frame.columns):
        frame.loc[5 * j : 5 * j + 4, name] = None
    imputer = VAEImputer(VAETransformer(2, **SMALL)).fit(frame)
    table = [[None if pd.isna(v) else v for v in row] for row in frame.itertuples(index=False)]
    expected = imputer.transform(frame)
    imputed = pd.DataFrame(saved(imputer, tmp_path).transform(table), columns=frame.columns)

    assert imputed["colour"].tolist() == expected["colour"].tolist()
    np.testing.assert_allclose(imputed["real"].astype(float), expected["real"], rtol=1e-6)
    for name in ("day", "lasted"):
        error = imputed[name].astype(expected[name].dtype) - expected[name]
        assert error.abs().max() < pd.Timedelta("1ms")


@pytest.mark.parametrize(
    "model",
    [
        None,
        VAETransformer(2, n_init=2, ensemble=True, **SMALL),
        VAEDensity(1, mixtures=[(2, "full")], **SMALL),
        VAEDensity(1, mixtures=[(3, "diag")], **SMALL | {"max_iter": 0}),
    ],
    ids=["averaged with a mixture", "transformer", "density", "mixture"],
)
def test_draws_have_the_distribution_of_the_estimators(model, averaged, tmp_path):
    """Means and standard deviations of cells over 400 tables; the random numbers are others."""
    imputer = copy(averaged).set_params(n_imputations=400)
    if model is not None:
        imputer = VAEImputer(model, n_imputations=400, random_state=0).fit(rows())
    light, X = saved(imputer, tmp_path), rows()[:20]
    draws, expected = light.transform(X), imputer.transform(X)

    assert draws.shape == expected.shape
    np.testing.assert_array_equal(draws, light.transform(X))
    is_observed = ~np.isnan(X[:, :5])
    np.testing.assert_array_equal(draws[:, is_observed], np.tile(X[:, :5][is_observed], (400, 1)))
    own, other = draws[:, ~is_observed], expected[:, ~is_observed]
    error = np.sqrt((own.var(axis=0) + other.var(axis=0) + 1e-6) / 400)
    assert (abs(own.mean(axis=0) - other.mean(axis=0)) / error).max() < 5
    scale = np.sqrt((own.var(axis=0) + 1e-6) / (other.var(axis=0) + 1e-6))
    assert abs(np.log(scale).mean()) < 0.1


def test_draws_of_categories_and_dates(tmp_path):
    """One table, or several, of values of the columns; of the wrapped model, too."""
    rng = np.random.default_rng(0)
    day = np.datetime64("2020-01-01") + rng.integers(0, 99, 60).astype("timedelta64[D]")
    frame = pd.DataFrame({"day": day, "colour": rng.choice(["red", "blue"], 60)})
    frame.loc[:4, "day"], frame.loc[3:9, "colour"] = None, None
    imputer = VAEImputer(VAETransformer(1, **SMALL), n_imputations=1, random_state=0).fit(frame)
    one = saved(imputer, tmp_path)
    draws = saved(imputer.set_params(n_imputations=3), tmp_path).transform(frame)

    assert one.transform(frame).shape == (60, 2)
    assert draws.shape == (3, 60, 2)
    assert set(draws[:, :, 1].ravel()) == {"red", "blue"}
    assert {value.year for value in draws[:, :, 0].ravel()} <= {2019, 2020}
    tables = one.model.impute(frame, 2, random_state=1)
    assert tables.shape == (2, 60, 2)
    np.testing.assert_array_equal(tables, one.model.impute(frame, 2, random_state=1))
    with pytest.raises(ValueError, match="n_imputations must be an integer"):
        one.model.impute(frame, 0)


@pytest.mark.parametrize("as_table", [lambda frame: frame, lambda frame: frame.to_numpy().tolist()])
def test_texts_that_were_not_in_fit_are_kept(as_table, tmp_path):
    """As the estimator keeps them."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"c": rng.choice(["a", "b"], 60), "x": rng.normal(size=60)})
    new = pd.DataFrame({"c": ["new", "a", None], "x": [0.0, np.nan, 2.0]})
    imputer = VAEImputer(VAETransformer(1, **SMALL), random_state=0).fit(frame)
    model = saved(imputer, tmp_path)
    imputer.estimator_.save(tmp_path / "transformer.vae")
    transformer = runtime.load(tmp_path / "transformer.vae")

    expected = imputer.transform(new)["c"].tolist()
    assert expected[0] == "new"
    assert model.transform(as_table(new))[:, 0].tolist() == expected
    assert transformer.impute(as_table(new))[:, 0].tolist() == expected
    for draw in transformer.impute(as_table(new), 2):
        assert draw[:2, 0].tolist() == ["new", "a"]
