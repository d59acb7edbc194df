"""Kinds of networks, posteriors, objectives and conditions go together, on a table with holes."""

import numpy as np
import pytest

import sklearn_vae
from sklearn_vae import VAETransformer

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

TOGETHER = [
    {"posterior": "categorical", "hidden_layer_sizes": ()},
    {"posterior": "categorical", "conditional": True},
    {"posterior": "full", "prior": "mixture", "n_init": 2, "ensemble": True},
    {"posterior": "full", "conditional": True},
    {"objective": "tc", "conditional": True, "n_init": 2, "ensemble": True},
    {"objective": "mmd"},
    {"objective": "iwae", "conditional": True, "posterior": "full"},
    {"prior": "vamp", "conditional": True},
]


@pytest.fixture(scope="module")
def table():
    """A data frame of numbers, classes and counts with holes, and a class per row."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=120)
    frame = pd.DataFrame({"a": a, "b": a**2 + 0.1 * rng.normal(size=120)})
    frame["c"], frame["k"] = rng.choice(["x", "y", "z"], 120), rng.poisson(3, 120)
    frame.loc[::7, "b"] = np.nan
    return frame, rng.choice(["u", "v"], 120)


@pytest.mark.parametrize("together", TOGETHER, ids=str)
def test_any_parts_make_a_model(table, together, tmp_path):
    """Each part keeps to its own business, so a score, a file and a draw come of all of them."""
    X, y = table
    vae = VAETransformer(3, max_iter=2, random_state=0).set_params(**together).fit(X, y)
    given = {"y": y} if vae.conditional else {}
    scores = vae.score_samples(X, **given)
    vae.save(tmp_path / "own.vae")

    assert np.isfinite(scores).all()
    again = sklearn_vae.load(tmp_path / "own.vae")
    np.testing.assert_array_equal(again.score_samples(X, **given), scores)
    assert not vae.impute(X, **given).isna().any(axis=None)
    assert vae.sample(3, **({"y": "u"} if given else {})).shape == (3, 4)
    assert vae.transform(X, **given).shape == (120, 3)
