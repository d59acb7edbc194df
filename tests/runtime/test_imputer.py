"""A saved VAEImputer that numpy computes is the one that torch computes."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAEImputer, VAETransformer
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
    """An imputer that averages both imputations, whichever of them is the best one."""
    imputer = VAEImputer(random_state=0).fit(rows())
    imputer.trees_weight_ = 0.3
    model = imputer.estimator_
    fitter = AverageFitter(imputer, model.state_dict_, rows(), None)
    imputer.trees_ = fitter._fit_trees(model, rows(), None, np.arange(4))
    return imputer


@pytest.mark.parametrize(
    "imputer",
    [
        None,
        VAEImputer(VAETransformer(2, **SMALL), add_indicator=True, keep_empty_features=True),
        VAEImputer(VAEDensity(1, mixtures=[(2, "full")], **SMALL)),
    ],
    ids=["averaged with trees", "indicators", "density"],
)
def test_imputed_tables_are_those_of_the_estimator(imputer, averaged, tmp_path):
    """With columns of indicators, and without empty columns unless they are kept."""
    X = rows()
    imputer = averaged if imputer is None else imputer.fit(X)
    imputed = saved(imputer, tmp_path).transform(X)

    np.testing.assert_allclose(imputed, imputer.transform(X), rtol=1e-6, atol=1e-6)


def test_values_that_mark_missing_cells_are_replaced(tmp_path):
    X = rows()[:, :5]
    marked = np.where(np.isnan(X), -999.0, X)
    imputer = VAEImputer(VAETransformer(2, **SMALL), missing_values=-999.0).fit(marked)
    model = saved(imputer, tmp_path)

    np.testing.assert_allclose(model.transform(marked), imputer.transform(marked), rtol=1e-6)
    np.testing.assert_array_equal(model.transform(X), model.transform(marked))


def test_tables_of_dates_and_categories_are_lists_of_their_values(tmp_path, rng):
    """Dates are rounded to their unit; categories are the likeliest ones."""
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


def test_an_imputer_of_random_draws_is_refused(tmp_path):
    """The runtime draws nothing."""
    imputer = VAEImputer(VAETransformer(1, **SMALL), n_imputations=3).fit(rows())
    with pytest.raises(ValueError, match="does not support n_imputations=3"):
        saved(imputer, tmp_path)
