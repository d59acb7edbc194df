"""Saved models for numpy: bounded memory, mixed tables, extreme rows, tables of few columns."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAETransformer
from tests.runtime.conftest import mixed_frame, rows, saved

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}
MIXTURES = [(3, "full"), (4, "diag")]


def test_rows_are_scored_in_bounded_memory(tmp_path, monkeypatch):
    """A row at a time gives the same scores."""
    X = rows(120)[:, [0, 1, 8]]
    model = saved(VAEDensity(2, mixtures=MIXTURES, **SMALL).fit(X), tmp_path)
    expected = model.score_samples(X)
    monkeypatch.setattr("sklearn_vae.inference.fitted_models.MAX_MIXTURE_ROWS", 1)
    # few codes, or few outputs of one code
    for name in ("models.mixture_ensemble.DRAWS_AT_A_TIME", "numerics.rows.CACHED_NUMBERS"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sklearn_vae.{name}", 7)
            np.testing.assert_allclose(model.score_samples(X), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "estimator", [VAEDensity(1, mixtures=MIXTURES, **SMALL), VAETransformer(2, **SMALL)]
)
def test_mixed_tables_are_lists_of_their_values(estimator, tmp_path):
    """Categories and missing cells as themselves; unknown categories are unlikely."""
    frame = mixed_frame()
    model = saved(estimator.fit(frame), tmp_path)
    new = pd.concat([frame, pd.DataFrame({"size": 0.5, "colour": ["red", "black"], "n": 3})])

    actual = model.score_samples(new.to_numpy(dtype=object).tolist())
    assert actual[-1] < actual[-2] - 2
    np.testing.assert_allclose(actual, estimator.score_samples(new), rtol=1e-6, atol=1e-6)
    imputed = pd.DataFrame(model.impute(frame.to_numpy(dtype=object)), columns=frame.columns)
    expected = estimator.impute(frame)
    pd.testing.assert_frame_equal(imputed.astype(expected.dtypes), expected, rtol=1e-6)
    if isinstance(estimator, VAETransformer):
        Z, expected = (
            estimator.transform(frame),
            estimator.inverse_transform(model.transform(frame)),
        )
        np.testing.assert_allclose(model.transform(frame.to_numpy(dtype=object)), Z, atol=1e-6)
        decoded = pd.DataFrame(model.inverse_transform(Z), columns=frame.columns)
        pd.testing.assert_frame_equal(decoded.astype(expected.dtypes), expected, rtol=1e-6)


@pytest.mark.parametrize("max_iter", [0, 2])
def test_extreme_rows(max_iter, tmp_path):
    """Of rows whose curvature overflows, and of padding, which is no component of a far row."""
    params = SMALL | {"max_iter": max_iter}
    estimator = VAEDensity(2, mixtures=[(1, "full"), (4, "diag")], **params).fit(
        rows(120)[:, [0, 1, 8]]
    )
    model = saved(estimator, tmp_path)
    extreme = np.array([[1e20, 1e20, 0], [100, -100, 0], [0, 1, 2]])
    incomplete = np.array([[np.nan, 1e20, 0], [np.nan, 100, 0]])

    np.testing.assert_allclose(
        model.score_samples(extreme), estimator.score_samples(extreme), rtol=1e-6
    )
    far = np.eye(3)[:, None] * 10.0 ** np.arange(5, 16, 2)[:, None]  # curvatures are singular
    assert np.isfinite(model.score_samples(far.reshape(-1, 3))).all()
    imputed, expected = model.impute(incomplete), estimator.impute(incomplete)
    # beside 1e20, log-weights of draws are about -1e38: which draw counts is due to rounding
    np.testing.assert_allclose(imputed[0], expected[0], rtol=0.01, atol=1e17)
    np.testing.assert_allclose(imputed[1], expected[1], rtol=0.01)


@pytest.mark.parametrize("columns", [[0], [2], [2, 3], [0, 2]])
def test_tables_of_no_or_one_real_column(columns, tmp_path):
    """They have no covariance; a file of such a model could not be loaded."""
    X = rows(120)[:, columns]
    estimator = VAEDensity(2, **SMALL).fit(X)
    model = saved(estimator, tmp_path)

    np.testing.assert_allclose(model.score_samples(X), estimator.score_samples(X), atol=1e-6)
