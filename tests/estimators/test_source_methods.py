"""Fits to sources of batches equal fits to tables, or come close where rows are on disk."""

import tracemalloc

import numpy as np
import pytest

from sklearn_vae import VAEClassifier, VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from sklearn_vae.data import sources
from sklearn_vae.estimators import density
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.networks import GRUNet
from tests.conftest import as_table, slow

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(2, 6))


def rows(n):
    return np.tanh(RNG.normal(size=(n, 2)) @ WEIGHTS) + 0.3 * RNG.normal(size=(n, 6))


TEST = rows(1000)
TRAIN = rows(2400)
TRAIN = TRAIN[np.argsort(TRAIN[:, 0])]  # batches in their order would be of few rows' kind


def batches(X=TRAIN, size=300):
    return lambda: (X[first : first + size] for first in range(0, len(X), size))


@pytest.fixture
def on_disk(monkeypatch):
    """Samples and windows of 500 rows of six columns."""
    monkeypatch.setattr(sources, "SAMPLE_NUMBERS", 3000)
    monkeypatch.setattr(sources, "MIN_SAMPLE_ROWS", 1)


SMALL = {"random_state": 0, "max_iter": 3, "hidden_layer_sizes": (16,)}


def small(cls, **params):
    """Return a model of two dimensions that is fitted within a second."""
    if cls is VAEDensity:
        params = {"mixtures": [(4, "diag"), (1, "full")], **params}
    return cls(2, **SMALL, **params)


@pytest.mark.parametrize("cls", [VAETransformer, *slow(VAEDensity)])
def test_a_source_that_fits_into_memory_gives_the_table_s_model(cls):
    """Bit for bit: it is the table."""
    table = small(cls).fit(TRAIN)
    source = small(cls).fit(batches())

    np.testing.assert_array_equal(table.score_samples(TEST), source.score_samples(TEST))


@pytest.mark.parametrize("cls", [VAETransformer, *slow(VAEDensity)])
def test_a_model_of_rows_on_disk_is_as_good(cls, on_disk):
    """Other batches and validation rows: held-out nats differ by little."""
    table = small(cls).fit(TRAIN)
    source = small(cls).fit(batches())
    again = small(cls).fit(batches(size=2400))

    assert abs(table.score(TEST) - source.score(TEST)) < 0.05
    assert abs(table.score(TEST) - again.score(TEST)) < 0.05


def peak_of_fit(cls, n_rows):
    """Return the most bytes of arrays and objects at any time of a fit to a source."""

    def chunks():
        for seed in range(n_rows // 1000):
            yield np.random.default_rng(seed).normal(size=(1000, 6))

    model = small(cls, batch_size=2048, validation_fraction=1000 / n_rows)
    model.set_params(max_iter=1, hidden_layer_sizes=(64,))
    if cls is VAEDensity:
        model.set_params(mixtures=[(1, "diag")])
    tracemalloc.start()
    try:
        model.fit(chunks)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cls", [VAETransformer, *slow(VAEDensity)])
def test_memory_does_not_grow_with_the_rows_of_a_source(cls, on_disk, monkeypatch):
    """Not even by one number per row: 10^7 weights of 1 would take 80 MB."""
    monkeypatch.setattr(density, "ROWS_OF_MIXTURE", 2048)  # rows of the initial mixture
    peak_of_fit(cls, 3000)  # all is imported

    assert peak_of_fit(cls, 60_000) < 1.1 * peak_of_fit(cls, 12_000)


@pytest.mark.parametrize("cls", [VAETransformer, *slow(VAEDensity)])
def test_missing_cells_after_the_first_window_are_imputed(cls, on_disk):
    """A single missing cell decides that the model takes missing ones."""
    X = TRAIN.copy()
    X[2000, 1] = np.nan
    incomplete = TEST.copy()
    incomplete[:, 1] = np.nan
    model = small(cls).fit(batches(X))
    error = np.square(model.impute(incomplete)[:, 1] - TEST[:, 1]).mean()

    assert model.columns_.has_missing
    assert error < 0.5 * TEST[:, 1].var()


def test_frames_keep_names_types_and_categories(on_disk):
    """Rows are drawn in the library of the batches."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(TRAIN[:, :3], columns=["a", "b", "c"])
    frame["color"] = pd.Categorical(np.where(frame["a"] > 0, "red", "blue"))
    frame["count"] = RNG.poisson(3.0, len(frame))
    vae = VAETransformer(2, **SMALL).fit(
        lambda: (frame[first : first + 700] for first in range(0, len(frame), 700))
    )
    drawn = vae.sample(500)

    assert drawn.dtypes.to_dict() == frame.dtypes.to_dict()
    assert list(vae.feature_names_in_) == list(frame.columns)
    assert set(drawn["color"]) == {"red", "blue"}
    assert abs((drawn["color"] == "red").mean() - (frame["color"] == "red").mean()) < 0.15


def test_a_fit_that_fails_leaves_the_old_model(on_disk):
    vae = VAETransformer(2, **SMALL).fit(batches())
    before = vae.score_samples(TEST)

    def broken():
        yield from batches()()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        vae.fit(broken)
    with pytest.raises(ValueError, match="infinity"):
        vae.fit(batches(np.where(np.arange(2400)[:, None] == 2399, np.inf, TRAIN)))
    np.testing.assert_array_equal(before, vae.score_samples(TEST))


def test_partial_fit_takes_sources(on_disk):
    vae = VAETransformer(2, **SMALL).fit(batches())
    n_iter, score = vae.n_iter_, vae.score(TEST)
    vae.partial_fit(batches())

    assert vae.n_iter_ == n_iter + 1
    assert vae.score(TEST) > score - 0.3


@pytest.mark.parametrize(
    ("model", "arguments", "name"),
    [
        (VAETransformer(2), {"sample_weight": np.ones(2400)}, "sample_weight"),
        (VAETransformer(2, conditional=True), {"y": np.zeros(2400)}, "conditional=True"),
        (VAEOutlierDetector(), {"sample_weight": np.ones(2400)}, "sample_weight"),
        (VAEClassifier(), {"y": np.zeros(2400)}, ""),
        (VAESearchCV(VAETransformer(2), {}), {}, "VAESearchCV"),
    ],
)
def test_what_needs_a_table_in_memory_says_so(model, arguments, name):
    """Before the source is read."""
    with pytest.raises(ValueError, match=f"{name} needs a table in memory"):
        model.fit(lambda: pytest.fail("the source is read"), **arguments)


def test_fit_transform_of_an_imputer_is_refused_before_the_fit(monkeypatch):
    """If there is no table to return; the errors came after the whole training."""
    monkeypatch.setattr(VAEImputer, "fit", lambda *_, **__: pytest.fail("it is fitted"))
    with pytest.raises(ValueError, match=r"^fit_transform needs a table in memory"):
        VAEImputer().fit_transform(batches())
    imputer = VAEImputer(n_imputations=2).set_output(transform="pandas")
    with pytest.raises(ValueError, match=r"'n_imputations' parameter .* with set_output"):
        imputer.fit_transform(TRAIN)


@pytest.mark.parametrize(
    ("model", "method"),
    [
        (VAETransformer(2, **SMALL), "inverse_transform"),
        (VAETransformer(2, **SMALL), "impute"),
        (VAEOutlierDetector(**SMALL), "explain"),
        (VAEOutlierDetector(**SMALL), "expected_values"),
        (VAEImputer(VAETransformer(2, **SMALL)), "transform"),
    ],
)
def test_other_methods_need_a_table_in_memory_and_say_their_name(model, method):
    model.fit(TRAIN[:200])
    with pytest.raises(ValueError, match=f"^{method} needs a table in memory"):
        getattr(model, method)(batches())


def test_a_detector_of_a_longer_source_is_that_of_a_random_sample(on_disk):
    detector = VAEOutlierDetector(max_iter=1, contamination=0.05, random_state=0)
    detector.fit(batches())

    sample = detector.reference_samples_
    assert len(sample) == 500
    np.testing.assert_allclose(sample.mean(axis=0), TRAIN.mean(axis=0), atol=0.2)
    assert (detector.predict(np.full((1, 6), 30.0)) == -1).all()


def with_holes(X, seed=0):
    return np.where(np.random.default_rng(seed).random(X.shape) < 0.2, np.nan, X)


@pytest.mark.parametrize("missing", [np.nan, -9.0])
def test_an_imputer_fits_rows_on_disk(missing, on_disk):
    """Better than the columns' means, and with indicators of the columns with missing cells."""
    X, test = with_holes(TRAIN), with_holes(TEST)
    X[:, 5] = TRAIN[:, 5]
    imputer = VAEImputer(
        VAETransformer(2, **SMALL), missing_values=missing, add_indicator=True
    ).fit(batches(np.where(np.isnan(X), missing, X)))
    hidden = np.isnan(test)
    imputed = imputer.transform(np.where(hidden, missing, test))[:, :6]
    means = np.broadcast_to(TRAIN.mean(axis=0), TEST.shape)

    assert imputer.indicated_.tolist() == [0, 1, 2, 3, 4]
    error, naive = (np.square(values - TEST)[hidden].mean() for values in (imputed, means))
    assert error < 0.7 * naive


# -- results of sources ----------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    X = TRAIN[::10]
    return {
        "transformer": VAETransformer(2, **SMALL).fit(X),
        "density": small(VAEDensity).fit(X),
        "detector": VAEOutlierDetector(max_iter=1, random_state=0).fit(X),
        "classifier": VAEClassifier(VAETransformer(1, max_iter=1)).fit(X, X[:, 0] > 0),
    }


METHODS = [
    ("transformer", "transform", {}), ("transformer", "score_samples", {}),
    ("transformer", "score_samples", {"columns": [0], "given": [1], "n_draws": 8}),
    ("transformer", "score", {}), ("density", "score_samples", {}), ("density", "score", {}),
    ("detector", "score_samples", {}), ("detector", "predict", {}),
    ("classifier", "predict_proba", {}), ("classifier", "predict", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "method", "options"), METHODS)
def test_results_of_a_source_are_those_of_the_table(name, method, options, fitted):
    """One array, in the order of the rows."""
    function = getattr(fitted[name], method)

    np.testing.assert_allclose(
        function(batches(TEST[:90], 40), **options), function(TEST[:90], **options), rtol=1e-5
    )


def test_an_array_y_with_a_source_is_refused():
    """It would be that of every batch."""
    model = VAETransformer(2, conditional=True, **SMALL).fit(TRAIN[:200], np.arange(200) % 2)

    with pytest.raises(ValueError, match="y must be one value for all rows"):
        model.score_samples(batches(TEST[:80], 40), np.arange(40) % 2)
    assert model.score_samples(batches(TEST[:80], 40), 1).shape == (80,)


# -- imputed tables, as the guide writes them ------------------------------------------


@pytest.fixture(scope="module")
def incomplete():
    return with_holes(TRAIN[:90, :3])


def small_imputer(X):
    return VAEImputer(VAETransformer(1, max_iter=1, random_state=0)).fit(X)


def test_polars_writes_imputed_batches(incomplete, tmp_path):
    pl = pytest.importorskip("polars", minversion="1.34")
    table = pl.DataFrame(incomplete, schema=list("abc"))
    imputer = small_imputer(table)
    for number, batch in enumerate(table.lazy().collect_batches(chunk_size=40)):
        imputer.transform(batch).write_parquet(tmp_path / f"{number}.parquet")
    found = pl.read_parquet(tmp_path / "*.parquet").to_numpy()

    np.testing.assert_allclose(imputer.transform(table).to_numpy(), found, rtol=1e-5)


def test_pyarrow_writes_imputed_batches(incomplete, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table(dict(zip("abc", incomplete.T, strict=True)))
    imputer, dataset = small_imputer(table), pytest.importorskip("pyarrow.dataset").dataset(table)
    with pq.ParquetWriter(tmp_path / "imputed.parquet", dataset.schema) as writer:
        for batch in dataset.to_batches(batch_size=40):
            writer.write(imputer.transform(pa.table(batch)))
    found = pq.read_table(tmp_path / "imputed.parquet")

    for expected, column in zip(imputer.transform(table).columns, found.columns, strict=True):
        np.testing.assert_allclose(expected.to_numpy(), column.to_numpy(), rtol=1e-5)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_batches_may_differ_in_dtype(library, rng):
    """As chunks of a file do: whole numbers in one, fractions in the next, and no text yet."""
    first = {"a": rng.integers(0, 9, 60), "b": rng.normal(size=60), "c": [None] * 60}
    second = {"a": rng.normal(size=60), "b": rng.normal(size=60), "c": ["x", "y"] * 30}
    pd = pytest.importorskip("pandas")
    parts = [as_table(pd.DataFrame(columns), library) for columns in (first, second)]
    vae = VAETransformer(2, max_iter=1, random_state=0).fit(lambda: iter(parts))

    assert np.isfinite(vae.score_samples(lambda: iter(parts))).all()


def test_a_sequence_with_a_gap_is_refused_wherever_it_is(on_disk):
    """The sample need not have it."""
    model = VAETransformer(2, network=GRUNet(n_units=4))
    X = TRAIN.copy()
    X[2000, 1] = np.nan
    with pytest.raises(ValueError, match="no missing values before its end"):
        model.fit(batches(X))
