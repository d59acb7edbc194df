"""Nearly collinear numbers, as times of an event, are residuals of regressions."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from sklearn_vae.data.fit import fit_encoder
from sklearn_vae.data.residuals import Residuals
from tests.conftest import assert_file_agrees, reread_part, slow

pd = pytest.importorskip("pandas")

TRUTH = stats.multivariate_normal([0, 1], [[1, 3], [3, 9.09]])


def pair(n_rows=600, seed=0):
    """A normal variable, and three times that, with a hundredth of its variance as noise."""
    return TRUTH.rvs(n_rows, random_state=seed)


def encode(X, **kwargs):
    return fit_encoder(X, None, "auto", **kwargs)


def events(n_rows, seed=0):
    """Start, middle and end of events of minutes in a month, and a number."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 30 * 24 * 60, n_rows)
    middle = start + rng.lognormal(2.5, 0.5, n_rows)
    minutes = {"start": start, "middle": middle, "end": middle + rng.lognormal(3, 0.4, n_rows)}
    first = pd.Timestamp("2024-01-01")
    table = {
        name: first + pd.to_timedelta(values.round(), "min") for name, values in minutes.items()
    }
    return pd.DataFrame({**table, "size": rng.normal(size=n_rows)})


def minutes(times):
    return times.dt.total_seconds() / 60


@pytest.fixture(scope="module", params=[VAETransformer, *slow(VAEDensity)])
def fitted(request):
    return request.param(random_state=0).fit(pair())


def test_densities_are_those_of_a_normal_distribution(fitted):
    """Of both columns, of each alone, and of one given the other by Bayes' theorem."""
    X, rest = pair(300, seed=1), np.full(300, np.nan)

    assert fitted.columns_.residuals
    assert np.abs(fitted.score_samples(X) - TRUTH.logpdf(X)).mean() < 0.1
    for j, marginal in (0, stats.norm(0, 1)), (1, stats.norm(1, np.sqrt(9.09))):
        alone = np.column_stack([X[:, 0] if j == 0 else rest, X[:, 1] if j == 1 else rest])
        assert np.abs(fitted.score_samples(alone) - marginal.logpdf(X[:, j])).mean() < 0.1


def test_densities_integrate_to_one(fitted):
    """That of each column alone, and given a value of the other one."""
    for j, values in enumerate((np.linspace(-6, 6, 301), np.linspace(-18, 20, 301))):
        rows = np.full((len(values), 2), np.nan)
        rows[:, j] = values
        alone = np.exp(fitted.score_samples(rows))
        rows[:, 1 - j] = [0.8, 4.0][1 - j]
        given = np.exp(fitted.score_samples(rows, columns=[j], given=[1 - j]))

        assert np.trapezoid(alone, values) == pytest.approx(1, abs=0.01)
        assert np.trapezoid(given, values) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("known", [0, 1])
def test_draws_of_either_column_given_the_other(fitted, known):
    value = [0.8, 4.0][known]
    samples = fitted.sample(2000, given={known: value}, random_state=0)
    mean, variance = (3 * value + 1, 0.09) if known == 0 else (3 * 3 / 9.09, 0.09 / 9.09)

    assert (samples[:, known] == value).all()
    assert samples[:, 1 - known].mean() == pytest.approx(mean, abs=0.5 * np.sqrt(variance))
    assert samples[:, 1 - known].std() == pytest.approx(np.sqrt(variance), rel=0.25)


@pytest.mark.parametrize("model", [VAETransformer, *slow(VAEDensity)])
def test_times_of_events(model, tmp_path):
    """Durations of samples are those of rows; a missing time is within minutes of the others."""
    table, new = events(500), events(150, seed=1)
    fitted = model(random_state=0).fit(table)
    samples = fitted.sample(1000, random_state=0)
    for first, last in ("start", "middle"), ("middle", "end"):
        durations = [minutes(each[last] - each[first]) for each in (samples, table)]
        assert durations[0].mean() == pytest.approx(durations[1].mean(), rel=0.2)
        assert durations[0].std() == pytest.approx(durations[1].std(), rel=0.6)
        assert durations[0].min() >= 0

    hidden = np.random.default_rng(0).integers(0, 3, len(new))  # all but one of the three times
    holes = new.copy()
    for j, name in enumerate(["start", "middle", "end"]):
        holes.loc[hidden != j, name] = pd.NaT
    imputed = fitted.impute(holes)
    for j, name in enumerate(["start", "middle", "end"]):
        error = minutes(imputed[name] - new[name]).abs()
        assert error.mean() < 20
        assert (error[hidden == j] == 0).all()
    assert_file_agrees(fitted, new, tmp_path)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_encoded_rows_are_decoded(dtype):
    """Also where cells are missing: those of the others are told by them, or stay missing."""
    X = np.column_stack([pair(), pair(seed=1)[:, 0]]).astype(dtype)
    encoder, tolerance = encode(X), 1e4 * np.finfo(dtype).eps
    values = encoder.transform(X)
    np.testing.assert_allclose(encoder.inverse_transform(values), X, atol=tolerance)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=0.02)

    holes = X.copy()
    holes[::2, 0], holes[::3, 1] = np.nan, np.nan
    decoded = encoder.inverse_transform(np.nan_to_num(encoder.transform(holes)), observed=holes)
    known = ~np.isnan(holes)
    np.testing.assert_allclose(decoded[known], X[known], atol=tolerance)
    assert np.isnan(encoder.transform(holes)).sum(axis=1).tolist() == (~known).sum(axis=1).tolist()


def test_log_det_is_that_of_differences():
    """The log-determinant of central differences, also of rows with a missing source."""
    X = np.column_stack([pair(), pair(seed=1)[:, 0]])
    encoder = encode(X)
    for holes in [], [0]:
        rows = X[:20].copy()
        rows[:, holes] = np.nan
        known = [j for j in range(3) if j not in holes]
        difference = np.zeros((len(rows), 3, 3))
        for j in known:
            shift = 1e-6 * np.eye(3)[j]
            both = encoder.transform(rows + shift) - encoder.transform(rows - shift)
            difference[:, :, j] = both / 2e-6
        is_known = ~np.isnan(encoder.transform(rows[:1])[0])
        jacobian = difference[:, is_known][:, :, known]
        expected = np.linalg.slogdet(jacobian)[1]
        np.testing.assert_allclose(encoder.log_abs_det_jacobian(rows), expected, atol=1e-6)


def test_which_columns_are_residuals(rng):
    """Of two or three near columns, but neither many indicators of a factor nor a far value."""
    z, noise = rng.normal(size=(2, 400))
    three = np.column_stack([z, 5 - z + 0.1 * noise, 1e6 * (z + 0.1 * rng.normal(size=400))])
    many = z[:, None] + 0.1 * rng.normal(size=(400, 5))
    twin = np.column_stack([many, many[:, 0] + 0.01 * noise])  # nearer than the others
    far = np.column_stack([noise, rng.normal(size=400)])
    far[0] = 300

    assert len(encode(three).residuals.inputs) == 2
    assert len(encode(three[:, ::-1]).residuals.inputs) == 2
    assert not encode(many).residuals
    assert encode(twin).residuals.sources.tolist() == [0]
    assert encode(twin).residuals.inputs.tolist() == [5]
    assert not encode(far).residuals
    assert not fit_encoder(three, None, "gaussian").residuals


def test_weights_are_copies():
    X, weight = pair(200), np.random.default_rng(0).integers(1, 4, 200)
    weighted = fit_encoder(X, weight.astype(float), "auto")
    copies = encode(X.repeat(weight, axis=0))

    for one, other in zip(weighted.residuals, copies.residuals, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)


@pytest.mark.parametrize("column", ["middle", *slow("start", "end")])
def test_a_wrong_time_is_reported(column):
    table, new = events(400), events(50, seed=1)
    new.loc[3, column] += pd.Timedelta("5D") * (1 if column == "end" else -1)
    detector = VAEOutlierDetector(novelty=True, random_state=0).fit(table)

    assert detector.score_samples(new).argmin() == 3
    assert detector.explain(new[3:4]).iloc[0].idxmax() == column


def test_impossible_residuals_are_refused():
    residuals = encode(pair()).residuals
    for name, value in ("scales", [0.0]), ("slopes", [0.0]), ("sources", residuals.inputs):
        parts = {**vars(residuals), name: np.array(value)}
        with pytest.raises(ValueError, match=r"source|slopes|scales"):
            reread_part(Residuals(**parts))
