"""Saved models of VAETransformer for numpy: what they refuse, tables of any library, dates."""

import datetime as dt
import pickle
from pathlib import Path

import numpy as np
import pytest

from sklearn_vae import VAETransformer, runtime
from tests.runtime.conftest import rows, saved

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

GOLDEN = Path(__file__).parents[1] / "persistence" / "golden"
SMALL = {"hidden_layer_sizes": (8, 6), "max_iter": 3, "random_state": 0}


def test_unsupported_parts_are_named(tmp_path):
    """A file that needs torch says so, and what of it does."""
    X = rows()[:, [0, 1, 8]]
    models = {
        "GRUNet": VAETransformer(2, network="gru", **SMALL),
        "RelaxedCategorical": VAETransformer(2, posterior="categorical", **SMALL),
    }
    for name, estimator in models.items():
        with pytest.raises(ValueError, match=f"runtime does not support {name}"):
            saved(estimator.fit(X), tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.transform([[1.0]]), r"X must be of shape \(n_samples, 4\)"),
        (
            lambda model: model.transform(np.full((1, 4), np.inf)),
            "X contains infinity, in column 0",
        ),
        (lambda model: model.inverse_transform([[1.0]]), r"X must be of shape \(n_samples, \d\)"),
        (
            lambda model: model.score_samples(np.zeros((1, 4)), n_draws=0),
            "n_draws must be an integer",
        ),
        (
            lambda model: model.score_samples(np.zeros((1, 4)), n_draws=1 << 20),
            "n_draws must be an integer between 1 and 65536",
        ),
        (
            lambda model: model.inverse_transform(np.full((1, model.n_components), -1e308)),
            "X must have codes between",
        ),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(runtime.load(GOLDEN / "transformer-1.vae"))


def test_a_model_can_be_sent_to_another_process():
    """After scoring as well, when its points are kept."""
    model, X = runtime.load(GOLDEN / "transformer-1.vae"), rows()[:, [0, 1, 2, 9]]
    scores = model.score_samples(X)
    again = pickle.loads(pickle.dumps(model))

    np.testing.assert_array_equal(again.score_samples(X), scores)
    np.testing.assert_array_equal(model.score_samples(X), scores)


def frames_of_other_libraries():
    """Dates with a time zone, durations and classes with missing cells: polars and pyarrow."""
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    dates = pd.date_range("2024-01-01", periods=60, freq="5h").to_series()
    frame = pl.DataFrame(
        {
            "a": rng.normal(size=60),
            "date": pl.Series(dates.to_numpy()).dt.replace_time_zone("Asia/Tokyo"),
            "duration": pl.Series(dates.to_numpy() - dates.to_numpy()[0]),
            "color": pl.Series(["red", None, "blue"] * 20, dtype=pl.Categorical),
        }
    )
    return {"polars": frame, "pyarrow": pa.table(frame.to_arrow())}


@pytest.mark.parametrize("name", ["polars", "pyarrow"])
def test_frames_of_other_libraries_are_read(name, tmp_path):
    """numpy makes numbers of polars' dates, and other classes of pyarrow's missing ones."""
    frame = frames_of_other_libraries()[name]
    estimator = VAETransformer(1, max_iter=1, random_state=0).fit(frame)
    scores = saved(estimator, tmp_path).score_samples(frame)

    np.testing.assert_allclose(scores, estimator.score_samples(frame), rtol=1e-6)


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_dates_have_a_time_zone_if_the_column_has_one(zone, tmp_path):
    """As for the estimator; rows that the model imputes are rows that it reads."""
    days = pd.date_range("2024-01-01 03:00", periods=60, freq="5h", tz=zone)
    a = np.random.default_rng(0).normal(size=60)
    frame = pd.DataFrame({"a": a, "{when}": days})  # a name that str.format would read
    estimator = VAETransformer(1, max_iter=1, random_state=0).fit(frame)
    model, naive = saved(estimator, tmp_path), dt.datetime(2024, 1, 5)
    aware = naive.replace(tzinfo=dt.UTC)
    good, bad = (aware, [naive]) if zone else (naive, [aware])
    expected = estimator.score_samples(pd.DataFrame({"a": [0.0], "{when}": [good]}))

    np.testing.assert_allclose(model.score_samples([[0.0, good]]), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"'\{when\}', which h"):
        model.score_samples([[0.0, "NaT"]])
    for when in (*bad, np.datetime64("2024-01-05")) if zone else bad:
        with pytest.raises(
            ValueError, match=rf"'{{when}}', .* give a date with{'' if zone else 'out'} "
        ):
            model.score_samples([[0.0, when]])
    np.testing.assert_allclose(
        model.score_samples(model.impute(frame)), estimator.score_samples(frame), rtol=1e-6
    )
    frame.loc[:3, "{when}"] = None
    imputed = pd.Series(model.impute(frame)[:, 1].tolist()).astype(frame["{when}"].dtype)
    error = imputed - estimator.impute(frame)["{when}"]
    assert error.abs().max() < pd.Timedelta("1ms")


def test_a_model_that_refuses_unseen_values_is_read(tmp_path):
    """Also where the mean of a column is none of its two values."""
    X = np.random.default_rng(0).normal(size=(40, 2))
    X[:, 1] = np.where(X[:, 1] > 0, -5.5, 3.25)
    vae = VAETransformer(1, handle_unknown="error", max_iter=1, random_state=0).fit(X)
    by_numpy = saved(vae, tmp_path)

    np.testing.assert_allclose(by_numpy.score_samples(X), vae.score_samples(X), atol=1e-6)
    with pytest.raises(ValueError, match="Column 1 has the value 0"):
        by_numpy.score_samples([[1.0, 0.0]])


@pytest.mark.filterwarnings("ignore:Every column of X has one value")
@pytest.mark.parametrize("hidden", [(), (4,)])
def test_a_model_of_constant_columns_with_missing_cells_is_read(hidden, tmp_path):
    """Its decoder has no output."""
    X = np.where(np.random.default_rng(0).random((40, 2)) < 0.3, np.nan, 1.0)
    vae = VAETransformer(1, hidden_layer_sizes=hidden, max_iter=1, random_state=0).fit(X)
    by_numpy = saved(vae, tmp_path)

    np.testing.assert_allclose(by_numpy.score_samples(X), vae.score_samples(X), atol=1e-6)
    np.testing.assert_allclose(by_numpy.transform(X), vae.transform(X), atol=1e-6)
