"""Odd tables work, or are refused in words that help."""

import narwhals as nw
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn import config_context

from sklearn_vae import (
    VAEClassifier,
    VAEDensity,
    VAEImputer,
    VAEOutlierDetector,
    VAETransformer,
)
from tests.conftest import slow

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(300, 3))


def fit(X, **params):
    return VAETransformer(**{"n_components": 2, "max_iter": 2, "random_state": 0, **params}).fit(X)


def assert_sound(vae, X):
    """All that a model gives is finite and of the right shape."""
    outputs = [vae.score_samples(X), vae.transform(X), vae.inverse_transform(vae.transform(X))]

    assert [output.shape for output in outputs] == [(len(X),), (len(X), 2), X.shape]
    assert all(np.isfinite(output).all() for output in [*outputs, vae.sample(20)])


TABLES = {
    "two rows": NORMAL[:2],
    "a batch less one": RNG.normal(size=(255, 3)),
    "a batch and one": RNG.normal(size=(257, 3)),
    "last without validation": RNG.normal(size=(99, 3)),
    "first with validation": RNG.normal(size=(100, 3)),
    "one column": NORMAL[:, :1],
    "a constant column": NORMAL * [1, 0, 1] + [0, 3, 0],
    "nothing but constants": np.full((300, 3), 2.0),
    "five rows many times": np.repeat(NORMAL[:5], 40, axis=0),
    "1e-8 beside 1e8": NORMAL * [1e-8, 1, 1e8],
    "1e-300 beside 1e300": NORMAL * [1e-300, 1, 1e300],
    "an offset of 1e8": NORMAL + 1e8,
    "Cauchy tails": RNG.standard_cauchy(size=(500, 3)),
    "more columns than rows": RNG.normal(size=(20, 300)),
    "integers": RNG.integers(0, 100, size=(300, 3)),
    "booleans": RNG.random((300, 3)) > 0.5,
    "half precision": NORMAL.astype(np.float16),
    "Fortran order": np.asfortranarray(NORMAL),
}


@pytest.mark.filterwarnings("ignore:Every column of X has one value")
@pytest.mark.filterwarnings("ignore:Training diverged")  # of two rows, as every third such fit
@pytest.mark.parametrize("name", TABLES)
def test_unusual_tables_have_finite_results_of_the_right_shape(name):
    """Each of these breaks a peer."""
    assert_sound(fit(TABLES[name]), TABLES[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_method_keeps_the_dtype(dtype):
    """float32 stays float32 through every method."""
    X = NORMAL.astype(dtype)
    vae = fit(X)
    outputs = [vae.transform(X), vae.inverse_transform(vae.transform(X)), vae.sample(3)]

    assert {output.dtype for output in [*outputs, vae.score_samples(X)]} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    "X",
    [
        torch.tensor(NORMAL, requires_grad=True),
        torch.complex(torch.zeros(NORMAL.shape).double(), -torch.tensor(NORMAL)).conj().imag,
    ],
    ids=["gradient", "negative"],
)
def test_torch_tensors_are_accepted_as_arrays(X):
    """Even those that want a gradient, or whose sign is in their view."""
    np.testing.assert_array_equal(fit(X).transform(X), fit(NORMAL).transform(NORMAL))


@pytest.mark.parametrize("dtype", [np.float32, *slow(np.float64)])
@pytest.mark.parametrize("estimator", [VAETransformer, VAEDensity])
def test_imputed_numbers_are_finite_and_positive_where_they_must_be(estimator, dtype):
    """The exponential of a mean far from all rows overflows, or is 0."""
    x = RNG.normal(size=200)
    X = np.column_stack([np.exp(3 * x), x]).astype(dtype)
    model = estimator(2, likelihood={0: "lognormal"}, max_iter=2, random_state=0).fit(X)
    far = np.array([[np.nan, sign * size] for sign in (-1, 1) for size in (1e3, 1e6, 1e15)], dtype)
    imputed = [model.impute(far), *model.impute(far, n_imputations=2)]

    assert np.isfinite(imputed).all()
    assert (np.array(imputed)[:, :, 0] > 0).all()
    if estimator is VAETransformer:
        decoded = model.inverse_transform(np.array([[-1e4, 0], [1e4, 0]], dtype))
        assert np.isfinite(decoded).all()
        assert (decoded[:, 0] > 0).all()


@pytest.mark.parametrize("convert", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_sparse_rows_are_scored_by_a_model_of_an_array(convert):
    """The format of a table is none of its values, as for other estimators."""
    vae = fit(NORMAL)

    np.testing.assert_array_equal(vae.score_samples(convert(NORMAL)), vae.score_samples(NORMAL))


def test_a_long_sparse_table_keeps_its_precision(rng):
    """As of a ``ColumnTransformer``: sums and dates were rounded, and so were rows by the batch."""
    classes = np.eye(30)[rng.integers(30, size=1000)]
    amounts = rng.lognormal(9, 1, size=(1000, 2)).round(2)
    X = np.hstack([classes, amounts, amounts.sum(axis=1, keepdims=True).round(2)])
    own, dense = fit(sparse.csr_array(X)), fit(X)

    np.testing.assert_array_equal(own.score_samples(sparse.csr_array(X)), dense.score_samples(X))
    assert own.transform(sparse.csr_array(X)).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.int64, object])
def test_masked_cells_are_missing(dtype, rng):
    """numpy.ma keeps a value in a masked cell, which took part in the fit."""
    X, mask = rng.poisson(5, size=(60, 3)).astype(dtype), rng.random((60, 3)) < 0.1
    missing = np.where(mask, np.nan, X)
    masked = np.ma.masked_array(np.where(mask, 999, X).astype(dtype), mask)
    own, expected = fit(masked), fit(missing)

    np.testing.assert_allclose(own.score_samples(masked), expected.score_samples(missing))
    np.testing.assert_array_equal(own.score_samples(X), own.score_samples(np.ma.masked_array(X)))


def test_cells_of_1e300_beside_a_positive_column_have_finite_scores(rng):
    """Differences of their gradients are infinite, of which there are no eigenvalues."""
    X = np.column_stack([rng.normal(size=(200, 3)), np.exp(rng.normal(size=200))])
    far = X[:2].copy()
    far[:, 0] = [1e200, 1e300]

    assert np.isfinite(VAETransformer(random_state=0).fit(X).score_samples(far)).all()


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (NORMAL[:1], "1 sample"),
        (np.full((20, 3), np.nan), "Every cell of X is missing"),
        (np.where(NORMAL > 2, np.inf, NORMAL), "infinity"),
        (NORMAL[:0], "0 sample"),
        (NORMAL[:, 0], "1D array"),
    ],
)
def test_an_invalid_table_is_refused_and_nothing_is_fitted(X, words):
    """And nothing is left behind that looks fitted."""
    vae = VAETransformer()
    with pytest.raises(ValueError, match=words):
        vae.fit(X)

    assert not [name for name in vars(vae) if name.endswith("_")]


def test_a_dict_is_refused_with_advice():
    """A newcomer's table; numpy makes a scalar of it, of which scikit-learn's messages speak."""
    for X in ({"a": [1.0, 2.0]}, [{"a": 1.0}, {"a": 2.0}]):
        with pytest.raises(TypeError, match=r"a dict of the keys \['a'\].*pandas.DataFrame\(X\)"):
            fit(X)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 2 has this dtype")
def test_variable_width_strings_of_numpy_are_categories():
    """As strings of a fixed width are."""
    texts = np.array([["u", "v"], ["u", "w"], ["x", "w"]] * 10)
    X = texts.astype(np.dtypes.StringDType())
    vae = fit(X)

    np.testing.assert_array_equal(vae.score_samples(X), fit(texts).score_samples(texts))
    assert set(VAEImputer(missing_values="u").fit(X).transform(X)[:, 0]) == {"x"}


@pytest.mark.parametrize("dispatch", [*slow(False), True])
def test_arrays_of_the_array_api_are_accepted(dispatch, monkeypatch):
    """Also where scikit-learn dispatches them to their own library."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    xp = pytest.importorskip("array_api_strict")
    if dispatch:  # earlier versions need a further package
        pytest.importorskip("sklearn", "1.7")
    y, few = (NORMAL[:, 0] > 0).astype(int), VAETransformer(1, max_iter=1)
    with config_context(array_api_dispatch=dispatch):
        own = VAEClassifier(few, random_state=0).fit(xp.asarray(NORMAL), xp.asarray(y))
        codes = fit(xp.asarray(NORMAL)).transform(xp.asarray(NORMAL))
        probabilities = own.predict_proba(xp.asarray(NORMAL))
    expected = VAEClassifier(few, random_state=0).fit(NORMAL, y)

    np.testing.assert_array_equal(probabilities, expected.predict_proba(NORMAL))
    np.testing.assert_array_equal(codes, fit(NORMAL).transform(NORMAL))


BROKEN = np.where(NORMAL > [9, 1.5, 2], np.inf, NORMAL)
COUNTS = np.isinf(BROKEN).sum(axis=0)


@pytest.mark.parametrize(
    ("X", "columns"),
    [
        (BROKEN, "column 1 ({} values), column 2 ({} values)"),
        (BROKEN.tolist(), "column 1 ({} values), column 2 ({} values)"),
        (
            pd.DataFrame(BROKEN, columns=list("abc")),
            "column 'b' ({} values), column 'c' ({} values)",
        ),
        (
            pl.DataFrame(BROKEN, schema=list("abc")),
            "column 'b' ({} values), column 'c' ({} values)",
        ),
    ],
    ids=["array", "list", "pandas", "polars"],
)
def test_columns_of_infinite_values_are_named(X, columns):
    """In a table of a thousand columns, that is what one has to know."""
    with pytest.raises(ValueError, match="infinity") as e:
        fit(X)

    assert str(e.value).endswith(f", in {columns.format(*COUNTS[1:])}.")
    assert "VAEImputer" not in str(e.value)  # no imputer helps there


def test_columns_of_text_are_named():
    """A word among numbers is a mistake, and not a category among hundreds."""
    frame = pd.DataFrame(NORMAL, columns=list("abc")).astype(object)
    frame.iloc[6, 1] = "0.5"  # as pandas leaves the numbers of a chunk with a word
    frame.iloc[7, 1] = "seven"

    with pytest.raises(
        ValueError, match=r"Column 'b' of X holds text, such as 'seven', and numbers"
    ):
        fit(frame)


@pytest.mark.parametrize("estimator", [VAETransformer(1), VAEOutlierDetector(), VAEImputer()])
@pytest.mark.parametrize("weight", [5e-324, 1e-20, 1e300, 1e308])
def test_sample_weights_of_an_enormous_or_tiny_sum_are_refused(estimator, weight):
    """They are no numbers of copies, and overflowed, as did the reciprocals of tiny ones."""
    X = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(ValueError, match=r"its sum must be between 1\.11e-16 and 9\.01e\+15\. Got"):
        estimator.fit(X, sample_weight=np.full(30, weight))


def test_sample_weights_that_sum_to_1_are_warned_of():
    """Weights that sum to 1 make a table of one row; copies of rows were hardly meant."""
    weight = RNG.random(len(NORMAL))
    vae = VAETransformer(2, max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match="a table of 1 rows of the 300"):
        vae.fit(NORMAL, sample_weight=weight / weight.sum())

    vae.fit(NORMAL, sample_weight=weight / weight.mean())


@pytest.mark.parametrize("convert", [
    lambda frame: frame,
    lambda frame: frame.astype({"c": object}),
    lambda frame: frame.astype({"c": "string"}),
    lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    pl.from_pandas,
    lambda frame: pl.from_pandas(frame).to_arrow(),
    lambda frame: frame.astype(object).to_numpy(),
], ids=["str", "object", "string", "pyarrow strings", "polars", "pyarrow", "objects"])  # fmt: skip
def test_observed_texts_are_kept_by_imputation(convert, rng):
    """A text that ``fit`` did not see was replaced by one that it saw."""
    frame = pd.DataFrame({"c": rng.choice(["a", "b"], 60), "x": rng.normal(size=60)})
    new = pd.DataFrame({"c": ["new", "a", None], "x": [0.0, np.nan, 2.0]})
    model = VAETransformer(1, max_iter=1, random_state=0)
    imputer = VAEImputer(model, random_state=0).fit(convert(frame))

    for imputed in (
        imputer.transform(convert(new)),
        imputer.estimator_.impute(convert(new)),
        *imputer.estimator_.impute(convert(new), n_imputations=2),
    ):
        texts = imputed[:, 0] if isinstance(imputed, np.ndarray) else imputed["c"]
        texts = texts.to_pylist() if hasattr(texts, "to_pylist") else list(texts)
        assert texts[:2] == ["new", "a"]
        assert texts[2] in ("a", "b")
    replaced = imputer.set_params(estimator__handle_unknown="missing").fit(convert(frame))
    texts = pd.DataFrame(np.asarray(replaced.transform(convert(new))))[0].tolist()
    assert texts[0] in ("a", "b")


def test_columns_without_names_are_read_by_position():
    """As an array's, which scikit-learn warns of; in another order they are refused."""
    frame = pd.DataFrame(RNG.normal(size=(40, 2)), columns=["a", "b"])
    model = VAETransformer(1, max_iter=1, random_state=0).fit(frame)
    numbered = pd.DataFrame(frame.to_numpy())

    with pytest.warns(UserWarning, match="feature names"):
        np.testing.assert_array_equal(model.score_samples(numbered), model.score_samples(frame))


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_columns_of_one_name_are_refused_after_fit_and_in_y(library):
    """The error of scikit-learn or narwhals says neither X nor y."""
    frame = pd.DataFrame(RNG.normal(size=(40, 3)), columns=["a", "b", "c"])
    doubled = frame.set_axis(["a", "b", "a"], axis=1)
    if library == "pyarrow":
        pa = pytest.importorskip("pyarrow")
        doubled = pa.Table.from_arrays([pa.array(frame["a"])] * 3, names=["a", "b", "a"])
    vae = VAETransformer(1, max_iter=1, conditional=True, random_state=0).fit(frame, frame)
    of_x = r"X has several columns of one name(?s:.*)'a'"
    of_y = r"y has several columns of one name(?s:.*)'a'"

    with pytest.raises(ValueError, match=of_x):
        vae.transform(doubled, frame)
    with pytest.raises(ValueError, match=of_x):
        vae.score_samples(doubled, frame, columns=["a"])
    with pytest.raises(ValueError, match=of_x):
        VAEImputer(missing_values=-1).fit(doubled)
    with pytest.raises(ValueError, match=of_y):
        vae.score_samples(frame, doubled)
    with pytest.raises(ValueError, match=of_y):
        VAEDensity(2, max_iter=1, conditional=True).fit(frame, doubled)
    with pytest.raises(ValueError, match=of_y):
        VAEClassifier().fit(frame, doubled)


@pytest.mark.parametrize(("likelihood", "words"), [
    *[(name, "to have numbers, but it has categories without an order; use 'auto'")
      for name in ("gaussian", "lognormal", "poisson", "negative_binomial", "zero_inflated")],
    ("bernoulli", "to have two values, but it has 3 categories; use 'auto'"),
])  # fmt: skip
def test_distributions_of_numbers_are_refused_for_categories_without_an_order(likelihood, words):
    """Counts took the codes of the categories for numbers."""
    frame = pd.DataFrame({"c": list("uvw") * 20, "x": RNG.normal(size=60)})

    with pytest.raises(ValueError, match=f"needs column 'c' {words}"):
        fit(frame, likelihood={"c": likelihood})


@pytest.mark.parametrize(
    "convert",
    [lambda frame: frame, lambda frame: pytest.importorskip("pyarrow").Table.from_pandas(frame)],
)
def test_computed_dates_of_whole_days_are_midnights(convert, rng):
    """Means had a time of day."""
    days = pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 900, 120), "D")
    frame = pd.DataFrame({"day": days, "x": rng.normal(size=120)})
    hidden = convert(frame.assign(day=frame["day"].mask(rng.random(120) < 0.3)))
    model = VAETransformer(1, max_iter=1, random_state=0).fit(convert(frame))
    imputer = VAEImputer(model).fit(hidden)
    computed = [
        model.inverse_transform(np.array([[-50.0], [0.1], [3.0]])),
        model.impute(hidden),
        imputer.transform(hidden),
        *model.impute(hidden, n_imputations=2, random_state=0),
        model.sample(500, random_state=0),
    ]

    for table in computed:
        times = pd.to_datetime(pd.Series(nw.from_native(table)["day"].to_list()))
        assert (times == times.dt.normalize()).all()


@pytest.mark.parametrize("dtype", ["int64", "Int16", "decimal", "duration"])
def test_decoded_numbers_of_a_positive_column_are_positive_in_its_dtype(dtype, rng):
    """A number of 0 would have hardly any probability in its own model."""
    pa = pytest.importorskip("pyarrow")
    dtype = {
        "decimal": pd.ArrowDtype(pa.decimal128(10, 2)), "duration": "timedelta64[s]"
    }.get(dtype, dtype)  # fmt: skip
    positive = np.clip(np.rint(np.exp(2 * rng.normal(size=100))), 1, 1000)
    frame = pd.DataFrame({"p": pd.Series(positive).astype(dtype), "x": rng.normal(size=100)})
    model = VAETransformer(1, max_iter=1, likelihood={"p": "lognormal"}, random_state=0).fit(frame)
    decoded = model.inverse_transform(np.array([[-1e3], [1e3]]))

    assert decoded["p"].dtype == dtype
    assert (decoded["p"] > type(decoded["p"].iloc[0])(0)).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([0, 1, 2], "Missing: 3"),
        ([0, 1, 3, 2], "Column 2 is 3 instead of 2"),
        ([0, 1, 2, 3, 4], "Unexpected: 4"),
    ],
)
def test_columns_at_fault_are_named_by_their_numbers(columns, message):
    """scikit-learn checks names of text only, and counts the others."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 5)))
    model = VAETransformer(1, max_iter=1, random_state=0).fit(frame[[0, 1, 2, 3]])
    with pytest.raises(ValueError, match=f"X must have the columns of X in fit, .*{message}"):
        model.transform(frame[columns])


@pytest.mark.parametrize("estimator", [VAETransformer, *slow(VAEDensity)])
def test_decimals_in_double_precision_are_those_of_single(estimator, rng):
    """A model of single precision missed its point masses in JSON's rows: .7 is not float32(.7)."""
    few, two = rng.integers(1, 6, size=200) / 10, rng.choice([0.1, 0.9], size=200)
    some = np.where(rng.random(200) < 0.3, 0.7, rng.lognormal(size=200).round(2))
    X = np.column_stack([few, two, some, rng.normal(size=200)])
    model = estimator(max_iter=1, random_state=0).fit(X.astype(np.float32))
    expected = model.score_samples(X.astype(np.float32))

    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-4)
