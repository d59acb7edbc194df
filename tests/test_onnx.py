"""Export to ONNX: onnxruntime computes what the estimator does, for any number of rows."""

import logging
import sys

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.exceptions import NotFittedError

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.onnx import to_onnx
from sklearn_vae.priors import MixturePrior
from tests.conftest import exported_score

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}


def rows(n=300):
    """Columns of scale 1, 1e-9 and 1e9, with an offset of 1e8, a binary and a constant one."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6)) @ np.triu(np.ones((6, 6)))
    X[:, 1] *= 1e-9
    X[:, 2] = 1e8 + X[:, 2]
    X[:, 3] *= 1e9
    X[:, 4], X[:, 5] = X[:, 4] > 0, 1e5
    return X


MODELS = {
    "plain": VAETransformer(2, **SMALL),
    "members": VAETransformer(2, **SMALL, n_init=2, ensemble=True, prior=MixturePrior(3)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("part", ["encoder", "decoder", "score"])
def test_onnxruntime_agrees_with_the_estimator(name, part):
    """To 1e-4, for one row and for many, with values that the column did not have in training."""
    vae = MODELS[name].fit(rows())
    model = runtime.InferenceSession(to_onnx(vae, part).SerializeToString())
    (model_input,) = model.get_inputs()
    for n in (1, 57):
        X = rows(n)
        X[0, 4], X[-1, 5] = 0.3, 7.0
        Z = vae.transform(X)
        expected = {
            "encoder": Z, "decoder": vae.inverse_transform(Z), "score": exported_score(vae, X)
        }[part]  # fmt: skip
        (found,) = model.run(None, {model_input.name: Z if part == "decoder" else X})
        scale = rows().std(axis=0).clip(1e-12) if part == "decoder" else 1

        assert found.dtype == np.float64
        np.testing.assert_allclose(found / scale, expected / scale, rtol=1e-7, atol=1e-4)


@pytest.mark.parametrize(
    ("trained", "dtype"),
    [(np.float64, "float32"), pytest.param(np.float32, np.float64, marks=pytest.mark.slow)],
)
def test_the_input_has_the_requested_dtype_and_nothing_is_printed(dtype, trained, capfd, caplog):
    """An ONNX input has one dtype, which may differ from that of the training rows."""
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(trained)
    vae = VAETransformer(2, **SMALL).fit(X)
    model = runtime.InferenceSession(to_onnx(vae, "encoder", dtype=dtype).SerializeToString())
    (found,) = model.run(None, {"X": X.astype(dtype)})

    assert found.dtype == dtype
    np.testing.assert_allclose(found, vae.transform(X), rtol=0, atol=1e-4)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize(
    ("trained", "dtype"),
    [("float64", "float32"), ("float32", "float64")],
)
@pytest.mark.slow
def test_discrete_values_are_those_of_fit_in_another_dtype(trained, dtype, monkeypatch):
    """0.1 in single precision is no unseen value of a column of 0.1 in double precision."""
    monkeypatch.setattr("sklearn_vae.onnx.ROUNDS", 0)  # a third of the time of the export
    X = np.random.default_rng(0).normal(size=(40, 3))
    X[:, 1], X[:, 2] = np.where(X[:, 0] > 0, 0.1, 0.7), 0.3
    vae = VAETransformer(2, **SMALL).fit(X.astype(trained))
    model = runtime.InferenceSession(to_onnx(vae, "score", dtype=dtype).SerializeToString())
    (found,) = model.run(None, {"X": X.astype(dtype)})

    np.testing.assert_allclose(found, vae.score_samples(X, n_draws=1024), rtol=0, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "largest"),
    [({"beta": 0.1}, 0.2), ({"n_init": 2, "ensemble": True}, 0.05)],
    ids=str,
)
def test_the_exported_score_is_log_p(how, largest):
    """As near as that of the estimator, unless the encoder is a poor proposal."""
    X = load_wine().data
    vae = VAETransformer(
        4, hidden_layer_sizes=(16,), likelihood="gaussian", max_iter=20, random_state=0, **how
    ).fit(X[::2])
    expected = vae.score_samples(X[1::2], n_draws=4096)

    assert np.abs(exported_score(vae, X[1::2]) - expected).mean() < largest


def test_invalid_arguments_are_refused(monkeypatch):
    """The message names the allowed values or the packages to install."""
    vae = VAETransformer(2, **SMALL)
    with pytest.raises(NotFittedError):
        to_onnx(vae)
    vae.fit(rows())
    with pytest.raises(ValueError, match="part must be one of"):
        to_onnx(vae, "all")
    with pytest.raises(ValueError, match="must be a VAETransformer"):
        to_onnx(VAEDensity())
    with pytest.raises(ValueError, match="dtype must be float64 or float32"):
        to_onnx(vae, dtype=int)
    with pytest.raises(ValueError, match="n_draws"):
        to_onnx(vae, n_draws=0)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-vae\[onnx\]'"):
        to_onnx(vae)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.filterwarnings("ignore:Every column of X has one value")
def test_scores_of_constant_columns_are_exported():
    X = np.ones((20, 2))
    vae = VAETransformer(2, **SMALL).fit(X)
    model = runtime.InferenceSession(to_onnx(vae, "score").SerializeToString())
    (found,) = model.run(None, {"X": X})

    np.testing.assert_allclose(found, vae.score_samples(X))


def test_columns_with_normal_scores_are_refused_by_name(rng):
    """Their transform has no counterpart there; the advice leads to a model that is exported."""
    skewed = np.where(rng.random(4000) < 0.3, 0.01 * rng.random(4000), rng.gamma(0.8, 2.0, 4000))
    X = np.column_stack([rng.normal(size=4000), skewed - 1])
    vae = VAETransformer(1, hidden_layer_sizes=(4,), max_iter=1, random_state=0)

    with pytest.raises(ValueError, match=r"normal scores, .*: 1\. Fit numbers with likelihood="):
        to_onnx(vae.fit(X), "encoder")
    assert to_onnx(vae.set_params(likelihood="gaussian").fit(X), "encoder")
