"""Fits to sources of batches equal fits to tables, or come close where rows are on disk."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.data import sources

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(2, 6))


def rows(n):
    return np.tanh(RNG.normal(size=(n, 2)) @ WEIGHTS) + 0.3 * RNG.normal(size=(n, 6))


TEST = rows(1000)
TRAIN = rows(4000)
TRAIN = TRAIN[np.argsort(TRAIN[:, 0])]  # batches in their order would be of few rows' kind


def batches(X=TRAIN, size=300):
    return lambda: (X[first : first + size] for first in range(0, len(X), size))


@pytest.fixture
def on_disk(monkeypatch):
    """Windows of 500 rows of six columns."""
    monkeypatch.setattr(sources, "WINDOW_NUMBERS", 3000)
    monkeypatch.setattr(sources, "FEWEST_WINDOW_ROWS", 1)


SMALL = {"random_state": 0, "max_iter": 3, "hidden_layer_sizes": (16,)}


@pytest.mark.parametrize("cls", [VAETransformer, VAEDensity])
def test_a_source_that_fits_into_memory_gives_the_table_s_model(cls):
    """Bit for bit: it is the table."""
    table = cls(2, **SMALL).fit(TRAIN)
    source = cls(2, **SMALL).fit(batches())

    np.testing.assert_array_equal(table.score_samples(TEST), source.score_samples(TEST))


@pytest.mark.parametrize("cls", [VAETransformer, VAEDensity])
def test_a_model_of_rows_on_disk_is_as_good(cls, on_disk):
    """Other batches and validation rows: held-out nats differ by little."""
    table = cls(2, **SMALL).fit(TRAIN)
    source = cls(2, **SMALL).fit(batches())
    again = cls(2, **SMALL).fit(batches(size=4000))

    assert abs(table.score(TEST) - source.score(TEST)) < 0.05
    assert abs(table.score(TEST) - again.score(TEST)) < 0.05


def test_the_same_source_gives_the_same_model(on_disk):
    first, second = (VAETransformer(2, **SMALL).fit(batches()) for _ in range(2))

    np.testing.assert_array_equal(first.score_samples(TEST), second.score_samples(TEST))


@pytest.mark.parametrize(
    "params", [{"n_init": 2}, {"refit": False}, {"early_stopping": False}, {"prior": "vamp"}]
)
def test_options_of_the_training_work_with_rows_on_disk(params, on_disk):
    vae = VAETransformer(2, **{**SMALL, "max_iter": 2}, **params).fit(batches())

    assert np.isfinite(vae.score(TEST))
    assert vae.transform(TEST).shape == (1000, 2)


@pytest.mark.parametrize("cls", [VAETransformer, VAEDensity])
def test_missing_cells_after_the_first_window_are_imputed(cls, on_disk):
    """A single missing cell decides that the model takes missing ones."""
    X = TRAIN.copy()
    X[3000, 1] = np.nan
    incomplete = TEST.copy()
    incomplete[:, 1] = np.nan
    model = cls(2, **SMALL).fit(batches(X))
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


def test_a_category_outside_the_sample_is_unseen(on_disk):
    """The fit passes over it, and its score is that of an unseen value."""
    pl = pytest.importorskip("polars")
    x, color = TRAIN[:, 0], ["red", "blue"] * 2000
    sampled, _ = sources.as_source(pl.LazyFrame({"x": x, "color": color})).sample()
    color[int(np.flatnonzero(~np.isin(x, sampled["x"].to_numpy()))[0])] = "green"
    vae = VAETransformer(1, **SMALL).fit(pl.LazyFrame({"x": x, "color": color}))
    green, red = (pl.DataFrame({"x": [0.0], "color": [color]}) for color in ("green", "red"))

    assert vae.score(green) < vae.score(red) - 3
    assert set(vae.sample(300)["color"]) == {"red", "blue"}


def test_a_fit_that_fails_leaves_the_old_model(on_disk):
    vae = VAETransformer(2, **SMALL).fit(batches())
    before = vae.score_samples(TEST)

    def broken():
        yield from batches()()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        vae.fit(broken)
    with pytest.raises(ValueError, match="infinity"):
        vae.fit(batches(np.where(np.arange(4000)[:, None] == 3999, np.inf, TRAIN)))
    np.testing.assert_array_equal(before, vae.score_samples(TEST))


def test_partial_fit_and_warm_start_take_sources(on_disk):
    vae = VAETransformer(2, **SMALL, warm_start=True).fit(batches())
    n_iter, score = vae.n_iter_, vae.score(TEST)
    vae.partial_fit(batches())

    assert vae.n_iter_ == n_iter + 1
    assert vae.score(TEST) > score - 0.3
    assert vae.fit(batches()).n_iter_ > 0


@pytest.mark.parametrize(
    ("params", "arguments", "name"),
    [
        ({}, {"sample_weight": np.ones(4000)}, "sample_weight"),
        ({"conditional": True}, {"y": np.zeros(4000)}, "conditional=True"),
        ({"robust": True}, {}, "robust=True"),
    ],
)
def test_what_needs_a_table_in_memory_says_so(params, arguments, name):
    with pytest.raises(ValueError, match=f"{name} needs a table in memory"):
        VAETransformer(2, **SMALL, **params).fit(batches(), **arguments)
