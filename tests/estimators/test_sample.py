"""A model's samples are rows of its table: on the lattice, within bounds, as likely as it says."""

import numpy as np
import pytest

from sklearn_vae import VAETransformer
from tests.conftest import reread

pd = pytest.importorskip("pandas")
hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

QUICK = {"max_iter": 2, "hidden_layer_sizes": (8,), "random_state": 0}


def columns_of_every_kind(rng, unit=1.0, n=150):
    """A column of each likelihood, in some unit, as a data frame."""
    code = rng.standard_normal(n)
    number = np.where(rng.random(n) < 0.4, 0.1, 3 + rng.standard_normal(n))
    return {
        "gaussian": unit * (5 + code + rng.standard_normal(n)),
        "lognormal": unit * np.exp(2 * code),
        "zero_inflated": unit * number,
        "bernoulli": unit * np.where(rng.random(n) < 0.3, 0.1, 0.3),
        "categorical": unit * rng.choice([0.1, 0.3, 0.7], n),
        "ordinal": unit * rng.choice([0.1, 0.2, 0.3, 0.7], n),
        "poisson": rng.poisson(3 * np.exp(code / 2)).astype(float),
        "negative_binomial": rng.negative_binomial(2, 0.1, n).astype(float),
    }


@hypothesis.settings(max_examples=2, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 2**20),
    unit=st.sampled_from([1.0, 1 / 3, 1e-9, 1e7]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_samples_of_every_likelihood_are_valid_values(seed, unit, dtype):
    """Of every kind: values of a lattice are those of training to the last bit."""
    rng = np.random.default_rng(seed)
    table = [*columns_of_every_kind(rng, unit).items(), ("auto", np.full(150, unit))]
    names, columns = zip(*(table[j] for j in rng.permutation(len(table))), strict=True)
    X = np.column_stack(columns).astype(dtype)
    model = VAETransformer(2, likelihood=list(names), handle_unknown="error", **QUICK).fit(X)
    drawn = model.sample(200, random_state=seed)
    imputed = model.impute(np.full((50, X.shape[1]), np.nan), n_imputations=4)

    for rows in (drawn, imputed.reshape(200, -1)):
        assert np.isfinite(model.score_samples(rows[:50], n_draws=4)).all()
        assert np.isfinite(model.transform(rows[:50])).all()
        for name, before, now in zip(names, X.T, rows.T, strict=True):
            if name in ("bernoulli", "categorical", "ordinal", "auto"):
                assert np.isin(now, before).all()
            elif name in ("poisson", "negative_binomial"):
                np.testing.assert_array_equal(now, np.rint(now))
            elif name == "zero_inflated":
                spike = np.asarray(unit * 0.1, dtype=dtype)
                assert 0.15 < (now == spike).mean() < 0.7
                assert np.abs(now[now != spike] / spike - 1).min() > 1e-4


@pytest.mark.parametrize("name", [*columns_of_every_kind(np.random.default_rng(0))])
def test_the_mean_score_of_samples_is_the_negative_entropy(name):
    """The mean score of samples is the entropy, which an integral or a sum gives."""
    values = columns_of_every_kind(np.random.default_rng(0), n=2000)[name]
    model = VAETransformer(1, likelihood=[name], **QUICK).fit(values[:, None])
    drawn = model.sample(4000, random_state=1)
    points, step = np.unique(np.append(values, drawn)), 1.0
    if name in ("gaussian", "lognormal", "zero_inflated"):
        points = np.linspace(values.min() - 3, values.max() + 3, 8001)
        step = np.gradient(points)
    if name == "lognormal":
        u = np.linspace(-25, 25, 8001)
        points, step = np.exp(u), np.exp(u) * np.gradient(u)
    score = model.score_samples(points[:, None], n_draws=64)
    entropy = -float(np.sum(np.exp(score) * score * step))
    if name == "zero_inflated":
        at = float(model.score_samples([[0.1]], n_draws=64)[0])
        entropy -= np.exp(at) * at
    scores = model.score_samples(drawn, n_draws=64)
    noise = scores.std() / np.sqrt(len(scores))

    assert -scores.mean() == pytest.approx(entropy, abs=4 * noise + 0.03)


def test_samples_keep_recording_steps_that_are_no_decimals(rng):
    """Whole days, which are seconds inside, and quarters; impute draws them, too."""
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 365, 400), "D")
    table = pd.DataFrame(
        {"day": days, "quarters": (20 * rng.normal(size=400)).round() / 4, "free": rng.random(400)}
    )
    table.loc[:30, ["day", "quarters"]] = [pd.NaT, np.nan]
    model = VAETransformer(2, **QUICK).fit(table)

    for drawn in (model.sample(2000), model.impute(table.head(31), 20, random_state=0)[0]):
        assert (drawn["day"] == drawn["day"].dt.normalize()).all()
        assert (4 * drawn["quarters"] % 1 == 0).all()
    assert np.isfinite(model.score_samples(model.sample(50))).all()


def test_a_column_that_is_mostly_at_its_minimum_keeps_to_it(tmp_path, rng):
    """And to its recording step, after a file as well."""
    some = np.r_[rng.choice([0.25, 1, 2, 3, 3.75, 4, 5, 6], 52), 60, 60, 61]
    X = np.column_stack([rng.permutation(np.r_[np.zeros(260), some]), rng.normal(size=315)])
    model = VAETransformer(1, **QUICK).fit(X)
    again = reread(model, tmp_path)

    for drawn in (model.sample(500), again.impute([[np.nan, 0.0]], 500)[0]):
        assert (4 * drawn[:, 0] % 1 == 0).all()
        assert drawn[:, 0].min() >= 0
