"""The average of VAEImputer: a model and trees, weighted on hidden cells."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_vae import VAEDensity, VAEImputer, VAETransformer, load
from sklearn_vae.estimators.averaging import AverageFitter, HiddenCells
from sklearn_vae.imputation import fit_boosted_trees
from tests.conftest import reread, slow

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def clusters():
    """Rows of six separate clusters on a curve, 30 % of the cells missing; and all their values."""
    rng = np.random.default_rng(0)
    label = rng.integers(6, size=300)
    loc = np.array([[0, 0, 4], [1, 4, 0], [2, -2, 3], [3, 3, -3], [4, -4, -1], [5, 1, 1.0]])
    X = loc[label] + 0.1 * rng.normal(size=(300, 3))
    missing = rng.random(X.shape) < 0.3
    missing[missing.all(axis=1), 0] = False
    return X, np.where(missing, np.nan, X)


def fit_briefly(X, sample_weight=None):
    """Fit an imputer whose model is the default one, but for its number of iterations."""
    with pytest.MonkeyPatch.context() as patch:
        model = VAETransformer(3, max_iter=8, random_state=0)
        patch.setattr(VAEImputer, "_model", lambda *_: model)
        return VAEImputer(random_state=0).fit(X, sample_weight=sample_weight)


def with_fitted(imputer, *, n_imputations=None, **attributes):
    """Make an imputer with the attributes of a fitted one, and other values of some."""
    same = VAEImputer(n_imputations=n_imputations, random_state=0)
    vars(same).update({name: v for name, v in vars(imputer).items() if name.endswith("_")})
    vars(same).update(attributes)
    return same


def test_an_interrupted_choice_of_the_spread_keeps_the_trees(clusters, monkeypatch):
    """Ctrl-C after the training: what is complete by then."""

    def press_ctrl_c(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(HiddenCells, "cover", press_ctrl_c)
    model = VAETransformer(3, max_iter=8, random_state=0)
    monkeypatch.setattr(VAEImputer, "_model", lambda *_: model)
    imputer = VAEImputer(random_state=0)
    with (
        pytest.warns(ConvergenceWarning, match=r"VAEImputer\.fit was interrupted"),
        pytest.raises(KeyboardInterrupt),
    ):
        imputer.fit(clusters[1][:100])

    assert imputer.trees_ is not None
    assert imputer.spread_ is None
    assert not np.isnan(imputer.transform(clusters[1][:100])).any()


@pytest.mark.parametrize("estimator", [VAETransformer(2, max_iter=1), VAEDensity(max_iter=0)])
def test_a_given_model_is_not_averaged(estimator, clusters):
    """It imputes as it does alone."""
    incomplete = clusters[1]
    imputer = VAEImputer(estimator, random_state=0).fit(incomplete)

    assert imputer.trees_ is None
    np.testing.assert_array_equal(
        imputer.transform(incomplete), imputer.estimator_.impute(incomplete)
    )


def test_few_rows_have_no_trees(clusters):
    """There are no held-out rows to weigh them by."""
    imputer = fit_briefly(clusters[1][:90])

    assert imputer.trees_ is None
    assert imputer.trees_weight_ == 0


def test_a_fit_warns_once_of_texts_and_weights(clusters):
    """Trees are fitted to the rows and weights that the model has validated."""
    table = pd.DataFrame(np.tile(clusters[1], (2, 1)), columns=["a", "b", "c"])
    table["name"] = [f"name {row}" for row in range(600)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        imputer = fit_briefly(table, np.full(600, 0.2))
    messages = [str(warning.message) for warning in caught]

    assert imputer.trees_ is not None
    assert [sum(text in m for m in messages) for text in ("sample_weight", "'name'")] == [1, 1]


def test_classes_are_the_models_own_in_a_data_frame(clusters):
    """Numbers are averaged; of two classes or of more, the likeliest one is imputed."""
    X, incomplete = clusters
    table = pd.DataFrame(incomplete, columns=["a", "b", "c"])
    table["d"] = pd.Series(np.where(X[:, 2] > 0, "high", "low")).mask(np.arange(300) % 4 == 0)
    table["e"] = pd.Series(np.arange(300) % 3).map({0: "x", 1: "y", 2: "z"}).astype("category")
    table.loc[::5, "e"] = None
    imputer = fit_briefly(table)
    imputed, by_model = imputer.transform(table), imputer.estimator_.impute(table)

    assert imputer.trees_weight_ > 0
    pd.testing.assert_frame_equal(imputed[["d", "e"]], by_model[["d", "e"]])
    assert not np.allclose(imputed["c"], by_model["c"])


@pytest.fixture(scope="module")
def independent():
    """Imputer of 12 independent columns, 30 % of the cells missing; and new rows of them."""
    rng = np.random.default_rng(0)
    X = rng.random((300, 12))
    X[:, 0] = np.ceil(3 * X[:, 0])
    incomplete = np.where(rng.random(X.shape) < 0.3, np.nan, X)
    model = VAETransformer(12, max_iter=15, random_state=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAEImputer, "_model", lambda *_: model)
        return VAEImputer(n_imputations=39, random_state=0).fit(incomplete[:200]), X, incomplete


def test_draws_of_a_column_of_few_values_are_some_of_them(independent):
    """As the model's own draws are; in other columns they are real numbers."""
    imputer, _, incomplete = independent
    incomplete = incomplete[:60]
    draws = imputer.transform(incomplete)
    by_model = imputer.estimator_.impute(incomplete, 3, random_state=0)

    assert set(np.unique(draws[:, :, 0])) == {1, 2, 3}
    assert set(np.unique(by_model[:, :, 0])) == {1, 2, 3}
    assert len(np.unique(draws[:, np.isnan(incomplete[:, 1]), 1])) > 500


@pytest.fixture(scope="module")
def ratings():
    """Ratings of 0 in most rows, beside a number they depend on; their imputer, a large table."""
    rng = np.random.default_rng(0)
    number = rng.normal(size=600)
    rating = np.clip(np.round(2 * (number + 0.5 * rng.normal(size=600))), 0, 3) / 5
    X = np.column_stack([number, rating])
    incomplete = X.copy()
    incomplete[rng.random(600) < 0.3, 1] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn_vae.estimators.averaging.MAX_ROWS_TO_IMPUTE", 399)
        return fit_briefly(incomplete[:400]).set_params(n_imputations=39), X, incomplete


def test_draws_of_repeated_values_are_some_of_them(ratings):
    """And hidden cells lie in their intervals as often as they should."""
    imputer, X, incomplete = ratings
    hidden = np.isnan(incomplete[400:, 1])

    def cover(imputer):
        draws = imputer.transform(incomplete[400:])[:, hidden, 1]
        low, high = np.sort(draws, axis=0)[[1, -2]]
        return np.mean((low <= X[400:][hidden, 1]) & (X[400:][hidden, 1] <= high))

    assert set(imputer.transform(incomplete)[:, :, 1].ravel()) <= set(X[:, 1])
    assert cover(imputer) > 0.85


def test_draws_of_new_rows_cover_more_hidden_cells_than_the_models_own(independent):
    """Of 90 % intervals; those of a model that overfits are too narrow."""
    imputer, X, incomplete = independent
    hidden = np.isnan(incomplete[200:, 1:])

    def cover(draws):
        ordered, values = np.sort(draws[:, :, 1:][:, hidden], axis=0), X[200:, 1:][hidden]
        return np.mean((ordered[1] <= values) & (values <= ordered[-2]))

    by_model = cover(imputer.estimator_.impute(incomplete[200:], 39, random_state=0))
    assert by_model + 0.03 < cover(imputer.transform(incomplete[200:])) < 0.95


@pytest.fixture(scope="module")
def steps():
    """Rows whose last column is a step function of the others; imputer of the first 400 rows."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 4, size=(600, 3))
    X[:, 2] = np.floor(X[:, 0]) * np.floor(X[:, 1]) % 3 + 0.1 * rng.normal(size=600)
    incomplete = X.copy()
    incomplete[rng.random(600) < 0.3, 2] = np.nan
    return fit_briefly(incomplete[:400]), X[400:], incomplete[400:]


def test_trees_impute_what_the_models_do_not_find(steps):
    """Jumps along the columns are what trees are made of."""
    imputer, X, incomplete = steps
    hidden = np.isnan(incomplete)

    def error(same):
        return np.sqrt(np.mean(np.square(same.transform(incomplete) - X)[hidden]))

    assert imputer.trees_weight_ > 0.5
    assert error(imputer) < 0.9 * error(with_fitted(imputer, trees_=None))


def test_a_missing_cell_is_moved_towards_the_prediction_of_the_trees(steps):
    """By their weight; observed cells keep their bits."""
    imputer, _, incomplete = steps
    average = with_fitted(imputer, trees_=None).transform(incomplete)
    predicted = with_fitted(imputer, trees_weight_=1.0).transform(incomplete)
    weight = imputer.trees_weight_
    imputed = imputer.transform(incomplete)

    np.testing.assert_allclose(imputed, (1 - weight) * average + weight * predicted, rtol=1e-9)
    observed = ~np.isnan(incomplete)
    np.testing.assert_array_equal(imputed[observed], incomplete[observed])


def test_draws_have_the_mean_that_is_imputed(steps):
    """The trees shift them, and they stay within the bounds of their column."""
    imputer, _, incomplete = steps
    hidden = np.isnan(incomplete)
    means = imputer.transform(incomplete)[hidden]

    def distance(same):
        return np.abs(same.transform(incomplete)[:, hidden].mean(axis=0) - means).mean()

    shifted = with_fitted(imputer, n_imputations=400)
    assert distance(shifted) < 0.5 * distance(with_fitted(imputer, n_imputations=400, trees_=None))
    low, high = next(
        group.bounds[group.indices.tolist().index(2)]
        for group in imputer.estimator_.columns_.groups
        if 2 in group.indices
    )
    draws = shifted.transform(incomplete)[:, hidden]
    assert low <= draws.min() < draws.max() <= high


@pytest.mark.parametrize(
    ("too_wide_by", "factor"), [(1.25, 0.8), *slow((0.9, 1 / 0.9), (5.0, 0.3)), (0.5, 1.5)]
)
def test_the_spread_of_draws_is_that_of_hidden_cells(too_wide_by, factor, steps):
    """From .3 to 1.5; all are normal, and have the same mean."""
    np.testing.assert_allclose(fitted_spread([too_wide_by], 4000, steps), factor, atol=0.02)


def test_each_column_has_a_spread_of_its_own(steps):
    """A model may be too certain of one column and too uncertain of another."""
    spread = fitted_spread([0.8, 2.0], 4000, steps)

    np.testing.assert_allclose(spread[1:], [1.25, 0.5], rtol=0.1)
    assert spread[1] > spread[0] > spread[2]  # that of all, where no cell is hidden


def fitted_spread(too_wide_by, n, steps):
    """Spread for normal draws of the last columns, whose standard deviation is wrong by factors."""
    rng = np.random.default_rng(0)
    is_hidden = np.arange(3) >= 3 - len(too_wide_by)
    rows, hidden = np.full((n, 3), 1.0), np.tile(is_hidden, (n, 1))
    rows[hidden] += 0.1 * rng.normal(size=hidden.sum())
    draws = np.tile(rows, (39, 1, 1))
    draws[:, :, is_hidden] = 1 + 0.1 * np.array(too_wide_by) * rng.normal(
        size=(39, n, len(too_wide_by))
    )
    imputer = with_fitted(steps[0], trees_=None, trees_weight_=0.0, spread_=None)
    fitter = AverageFitter(imputer, imputer.estimator_.state_dict_, rows, None)
    fitter.hidden_cells = HiddenCells(rows, hidden, hidden.astype(float), 0 * rows, np.ones(n))
    fitter.mean = np.ones(rows.shape)
    fitter._fit_spread(draws, None)

    return imputer.spread_


def test_the_spread_is_saved(steps, tmp_path):
    imputer, _, incomplete = steps
    imputer = with_fitted(imputer, n_imputations=2)
    imputer.save(tmp_path / "imputer.vae")
    again = load(tmp_path / "imputer.vae")

    np.testing.assert_array_equal(again.transform(incomplete), imputer.transform(incomplete))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("trees_weight_", 1.5, "between 0 and 1"),
        ("spread_", np.ones(2), "'spread_' must"),
        ("spread_", np.array([1.0, 0.0, 1.0]), "'spread_' must"),
    ],
)
def test_invalid_attributes_are_refused(name, value, message, steps, tmp_path):
    with_fitted(steps[0], **{name: value}).save(tmp_path / "imputer.vae")

    with pytest.raises(ValueError, match=message):
        load(tmp_path / "imputer.vae")


def test_rows_of_no_weight_have_no_influence_on_the_trees(rng):
    """Their values are far from the predictions."""
    X = rng.normal(size=(200, 3))
    X[:, 2] += X[:, 0] > 0
    weight = np.repeat([1.0, 0.0], 100)
    X[100:, 2] = 9.0
    trees = fit_boosted_trees(X, np.ones(X.shape, bool), np.array([2]), weight)
    predicted = trees.predict(X, np.ones(X.shape, bool))

    assert predicted[:, 2].max() < 5


def test_single_precision_is_kept(steps):
    rows = steps[2][:80].astype(np.float32)
    imputer = fit_briefly(rows)

    for same in (imputer, with_fitted(imputer, trees_=None)):
        assert same.transform(rows).dtype == np.float32


@pytest.fixture(scope="module")
def large():
    """Rows of two numbers and three classes by steps; imputer of the first 800, a large table."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 4, size=(1_200, 2))
    cell = np.floor(X)
    label = (cell[:, 0] + 2 * cell[:, 1]) % 3
    table = pd.DataFrame({
        "a": X[:, 0],
        "b": X[:, 1],
        "c": cell[:, 0] * cell[:, 1] % 3 + 0.1 * rng.normal(size=1_200),
        "label": np.array(["x", "y", "z"])[label.astype(int)],
    })  # fmt: skip
    incomplete = table.copy()
    incomplete.loc[rng.random(1_200) < 0.3, "label"] = None
    incomplete.loc[rng.random(1_200) < 0.3, "c"] = np.nan
    incomplete.loc[rng.random(1_200) < 0.1, "a"] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn_vae.estimators.averaging.MAX_ROWS_TO_IMPUTE", 799)
        imputer = fit_briefly(incomplete[:800])
    return imputer, table[800:], incomplete[800:]


def test_trees_impute_classes_of_large_tables(large):
    """And numbers; the trees take rows with missing cells."""
    imputer, table, incomplete = large
    hidden = incomplete["label"].isna()

    def n_errors(same):
        return (same.transform(incomplete)["label"] != table["label"])[hidden].sum()

    assert imputer.trees_.takes_missing
    assert imputer.trees_weight_ == 1
    assert n_errors(imputer) < 0.8 * n_errors(with_fitted(imputer, trees_=None))
    hidden = incomplete["c"].isna()
    error, of_model = (
        np.square(same.transform(incomplete)["c"] - table["c"])[hidden].mean()
        for same in (imputer, with_fitted(imputer, trees_=None))
    )
    assert error < 0.8 * of_model


def test_trees_and_model_impute_medians_of_ordered_classes(monkeypatch, rng):
    """The likeliest class is another one."""
    codes = rng.choice(4, 400, p=[0.4, 0.3, 0.2, 0.1])
    sizes = pd.Categorical.from_codes(codes, list("smlx"), True)
    table = pd.DataFrame({"size": sizes, "noise": rng.normal(size=400)})
    incomplete = table.copy()
    incomplete.loc[:99, "size"] = None
    incomplete.loc[50:149, "noise"] = np.nan
    monkeypatch.setattr("sklearn_vae.estimators.averaging.MAX_ROWS_TO_IMPUTE", 99)
    monkeypatch.setattr(HiddenCells, "has_no_more_errors", lambda *_: True)
    imputer = fit_briefly(incomplete)

    assert 0 in imputer.trees_.columns
    assert imputer.trees_.is_ordered.tolist() == [True, False]
    for same in (imputer, with_fitted(imputer, trees_=None)):
        imputed = same.transform(incomplete[50:100])["size"]
        assert (imputed == "m").all()


def test_trees_of_large_tables_are_saved(large, tmp_path):
    """A model that is read has the same means and classes."""
    imputer, _, incomplete = large
    incomplete = incomplete[:150]

    assert reread(imputer, tmp_path).transform(incomplete).equals(imputer.transform(incomplete))


def test_target_encodings_are_saved(monkeypatch, tmp_path, rng):
    """Rows that share a value of one column impute each other, after loading, too."""
    monkeypatch.setattr("sklearn_vae.estimators.averaging.MAX_ROWS_TO_IMPUTE", 1_999)
    group = rng.integers(700, size=2_000)
    X = np.column_stack([group, rng.normal(size=700)[group], rng.normal(size=2_000)])
    incomplete = X.copy()
    incomplete[rng.random(2_000) < 0.2, 1] = np.nan
    imputer = fit_briefly(incomplete)
    imputed = imputer.transform(incomplete)

    assert any(part.encodings for part in imputer.trees_.parts)
    assert np.square(imputed - X)[np.isnan(incomplete)].mean() < 0.5
    again = reread(imputer, tmp_path)
    np.testing.assert_allclose(again.transform(incomplete), imputed, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "forge", "message"),
    [
        ("classes", lambda classes: classes + 1, r"other values in column \d"),
        ("column", lambda column: 3 - column, r"other values in column \d"),
        (
            "is_real is_ordered",
            lambda mask: np.append(mask, False),
            "of 5 columns, the table has 4",
        ),
        ("is_real", lambda is_real: is_real[1:], "shape"),
        ("is_real", lambda is_real: is_real | True, r"column \d, which has classes"),
    ],
)
def test_trees_of_other_columns_are_refused(name, forge, message, large, tmp_path):
    """Of classes that a column does not have, or of numbers in place of classes."""
    trees, names = large[0].trees_, name.split()
    if hasattr(trees, names[0]):
        changes = {each: forge(getattr(trees, each)) for each in names}
    else:
        parts = [replace(part, **{name: forge(getattr(part, name))}) for part in trees.parts]
        changes = {"parts": tuple(parts)}
    with_fitted(large[0], trees_=replace(trees, **changes)).save(tmp_path / "imputer.vae")

    with pytest.raises(ValueError, match=message):
        load(tmp_path / "imputer.vae")


def test_unseen_categories_are_missing_for_trees(large):
    """They keep their place, and other cells are imputed as if they were missing."""
    imputer, _, incomplete = large
    rows = incomplete[incomplete["c"].isna()][:20]
    unseen, missing = rows.assign(label="w"), rows.assign(label=None)
    expected = imputer.transform(missing)["c"].to_numpy()

    imputed = imputer.transform(unseen)
    np.testing.assert_array_equal(imputed["c"].to_numpy(), expected)
    assert (imputed["label"] == "w").all()


@pytest.mark.filterwarnings("ignore:Columns of X hold no value")
def test_columns_of_many_classes_get_no_trees(monkeypatch, rng):
    """scikit-learn warns of them; an empty column does not need the model."""
    X = rng.normal(size=(150, 2))
    X[rng.random(X.shape) < 0.2] = np.nan
    names = np.array([f"k{i}" for i in range(30)], dtype=object)[np.arange(150) % 30]
    names[40:] = None
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "name": names, "empty": np.nan})
    monkeypatch.setattr("sklearn_vae.estimators.averaging.MAX_ROWS_TO_IMPUTE", 99)
    imputer = fit_briefly(table)

    assert imputer.trees_ is None or not np.isin(imputer.trees_.columns, [2, 3]).any()
    assert not imputer.transform(table).isna().any(axis=None)
