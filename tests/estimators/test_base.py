"""A second fit is a first fit: no attribute of an earlier one is left, and no answer differs."""

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_vae import VAEClassifier, VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from sklearn_vae.model_selection import VAESearchCV

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

RNG = np.random.default_rng(0)
ARRAY = RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 3))
NAMED = pd.DataFrame(ARRAY, columns=["a", "b", "c"])
HOLEY = NAMED.mask(RNG.random(NAMED.shape) < 0.2)
MIXED = NAMED.assign(d=pd.Categorical.from_codes(RNG.integers(0, 3, 60), ["x", "y", "z"]))
CLASSES = np.array(["one", "two"])[(ARRAY[:, 0] > 0).astype(int)]
WEIGHT = RNG.integers(0, 3, 60)

SMALL = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}
VAE = VAETransformer(2, **SMALL)
CONDITIONAL = VAETransformer(2, conditional=True, **SMALL)

TWO_SCORES = {"mean": lambda vae, X: vae.score(X), "last": lambda vae, X: vae.score(X[-2:])}

# for each estimator: settings and what they are fitted to; each is followed by one that leaves
# fewer attributes, the last by the first
FITS = {
    VAETransformer(2, **SMALL): [
        ({}, (ARRAY,)),
        ({"conditional": True}, (MIXED, CLASSES)),
        ({"n_init": 2, "ensemble": True, "early_stopping": True}, (HOLEY,)),
        ({"prior": "vamp"}, (ARRAY.astype(np.float32), None, WEIGHT)),
    ],
    VAEDensity(2, mixtures=[(2, "diag")], **SMALL): [
        ({}, (ARRAY,)),
        ({"early_stopping": True}, (NAMED, None, WEIGHT)),
        ({"mixtures": [(1, "full")]}, (NAMED.astype("float32"),)),
        ({"conditional": True}, (MIXED, CLASSES)),
    ],
    VAEOutlierDetector(**SMALL): [
        ({}, (ARRAY,)),
        ({"novelty": True}, (NAMED,)),
        (
            {"novelty": True, "calibration": "conformal", "contamination": 0.2},
            (ARRAY.astype(np.float32),),
        ),
        ({"method": "log_likelihood"}, (NAMED,)),
        ({"novelty": True}, (MIXED,)),
    ],
    VAEImputer(VAE, random_state=0): [
        ({}, (ARRAY,)),
        ({"add_indicator": True}, (HOLEY,)),
        ({"estimator": VAETransformer(1, **SMALL), "n_imputations": 2}, (MIXED,)),
    ],
    VAEClassifier(CONDITIONAL): [
        ({}, (ARRAY, CLASSES)),
        ({"priors": [0.1, 0.9]}, (HOLEY, CLASSES)),
    ],
    VAESearchCV(VAE, {"beta": [0.5, 1.0]}, cv=2): [
        ({}, (ARRAY,)),
        ({}, (NAMED,)),
        ({"refit": False}, (ARRAY,)),
        ({"refit": "mean", "scoring": TWO_SCORES}, (NAMED,)),
    ],
}


def fitted(estimator):
    """Names of the attributes that a fit has left."""
    return {name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")}


def assert_equal_weights(one, other):
    """Equal to the last bit, whether one model's arrays or those of several."""
    for own, others in zip(*([w] if isinstance(w, dict) else w for w in (one, other)), strict=True):
        assert own.keys() == others.keys()
        for name in own:
            np.testing.assert_array_equal(own[name], others[name])


@pytest.mark.parametrize("estimator", FITS, ids=lambda own: type(own).__name__)
def test_a_second_fit_deletes_the_attributes_of_the_first(estimator):
    """Fitted again with other settings and rows, it has what one fit with the last ones leaves."""
    used, settings = clone(estimator), FITS[estimator]
    used.set_params(**settings[0][0]).fit(*settings[0][1])
    for params, rows in [*settings[1:], settings[0]]:
        used.set_params(**estimator.get_params(deep=False)).set_params(**params).fit(*rows)
        fresh = clone(estimator).set_params(**params).fit(*rows)

        assert fitted(used) == fitted(fresh)
        if hasattr(fresh, "state_dict_"):
            assert_equal_weights(used.state_dict_, fresh.state_dict_)


def test_a_failed_second_fit_restores_the_attributes_of_the_first():
    """What is cleared first comes back."""
    vae = clone(VAE).fit(NAMED)
    before = {name: getattr(vae, name) for name in fitted(vae)}
    with pytest.raises(ValueError, match="'beta' parameter"):
        vae.set_params(beta=-1.0).fit(ARRAY)

    assert {name: getattr(vae, name) for name in fitted(vae)} == before


def test_partial_fit_sets_interrupted_to_false():
    """The attribute is there after a first chunk, and is not that of an earlier fit."""
    vae = clone(VAE).fit(ARRAY)
    vae.interrupted_ = True
    chunks = clone(VAE).partial_fit(ARRAY), vae.partial_fit(ARRAY)

    assert [own.interrupted_ for own in chunks] == [False, False]
    assert fitted(chunks[0]) == fitted(chunks[1])


@pytest.mark.parametrize("cls", [VAETransformer, VAEDensity])
def test_a_subclass_may_have_fewer_parameters(cls):
    """As one of a scikit-learn estimator may: it passes values of its own for the others."""

    class Own(cls):
        def __init__(self, random_state=0):
            super().__init__(2, **{**SMALL, "random_state": random_state})

    expected = cls(2, **SMALL).fit(ARRAY).score_samples(ARRAY)

    np.testing.assert_array_equal(clone(Own()).fit(ARRAY).score_samples(ARRAY), expected)
