"""Export to ONNX: onnxruntime computes what the estimator does, for any number of rows."""

import logging
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.networks import ConvNet, GRUNet
from sklearn_vae.onnx import to_onnx
from sklearn_vae.priors import MixturePrior
from tests.conftest import correlated_rows

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}


def rows(n=300):
    """Columns of scale 1, 1e-9 and 1e9, with an offset of 1e8, a binary and a constant one."""
    X = correlated_rows(n, 6)
    X[:, 1] *= 1e-9
    X[:, 2] = 1e8 + X[:, 2]
    X[:, 3] *= 1e9
    X[:, 4], X[:, 5] = X[:, 4] > 0, 1e5
    return X


def pixels(n=300):
    """Columns that are pixels, or values of steps."""
    return correlated_rows(n, 64)


CONV, STEPS = ConvNet((8, 8), (3, 4)), GRUNet((16, 4), n_units=5, autoregressive=False)
MODELS = {
    "plain": (VAETransformer(2, **SMALL), rows),
    "members": (VAETransformer(2, **SMALL, n_init=2, ensemble=True, prior=MixturePrior(3)), rows),
    "conv": (VAETransformer(2, **SMALL, network=CONV, likelihood="gaussian"), pixels),
    "steps": (VAETransformer(2, **SMALL, network=STEPS, likelihood="gaussian"), pixels),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_onnxruntime_agrees_with_the_estimator(name, part):
    """To 1e-4, for one row and for many, with values that the column did not have in training."""
    vae, make = MODELS[name]
    vae.fit(make())
    model = runtime.InferenceSession(to_onnx(vae, part).SerializeToString())
    (model_input,) = model.get_inputs()
    for n in (1, 57):
        X = make(n)
        if make is rows:
            X[0, 4], X[-1, 5] = 0.3, 7.0
        Z = vae.transform(X)
        expected = Z if part == "encoder" else vae.inverse_transform(Z)
        (found,) = model.run(None, {model_input.name: Z if part == "decoder" else X})
        scale = make().std(axis=0).clip(1e-12) if part == "decoder" else 1

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
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-vae\[onnx\]'"):
        to_onnx(vae)


def test_columns_with_normal_scores_are_refused(rng):
    """Their transform has no counterpart there; the advice leads to a model that is exported."""
    skewed = np.where(rng.random(4000) < 0.3, 0.01 * rng.random(4000), rng.gamma(0.8, 2.0, 4000))
    X = np.column_stack([rng.normal(size=4000), skewed - 1])
    vae = VAETransformer(1, hidden_layer_sizes=(4,), max_iter=1, random_state=0)

    with pytest.raises(ValueError, match=r"normal scores .* Fit numbers with likelihood="):
        to_onnx(vae.fit(X), "encoder")
    assert to_onnx(vae.set_params(likelihood="gaussian").fit(X), "encoder")
