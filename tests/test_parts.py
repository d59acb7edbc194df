"""The contract of parts of a model as parameters: values, which files hold."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_vae import VAETransformer, load
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.networks import ConvNet, GRUNet
from sklearn_vae.objectives import IWAE, MMD, OBJECTIVES, LinearWarmup, TotalCorrelation
from sklearn_vae.posteriors import RelaxedCategorical
from sklearn_vae.priors import MixturePrior, UniformCategorical, VampPrior
from tests.objectives.test_contract import ALL as ALL_OBJECTIVES
from tests.posteriors.test_contract import ALL as ALL_POSTERIORS
from tests.priors.test_contract import ALL as ALL_PRIORS

PARTS = [
    *(("prior", part) for part in ALL_PRIORS),
    *(("posterior", part) for part in ALL_POSTERIORS),
    *(("objective", part) for part in ALL_OBJECTIVES),
]
UNIFORM = "prior", UniformCategorical(2)  # of a posterior, and no parameter of its own


@pytest.mark.parametrize(("name", "part"), [*PARTS, UNIFORM], ids=repr)
def test_parts_are_values(name, part):
    """Estimators' parameters are compared, hashed, printed, copied, pickled and cloned."""
    assert eval(repr(part), {type(part).__name__: type(part)}) == part
    for again in (copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        assert again == part
        assert hash(again) == hash(part)
    assert getattr(clone(VAETransformer(**{name: part})), name) == part
    assert sum(part == other for _, other in [*PARTS, UNIFORM]) == 1


@pytest.mark.parametrize(
    ("name", "part"), [*PARTS, *(("objective", name) for name in OBJECTIVES)], ids=repr
)
def test_a_fitted_estimator_saves_its_parts(name, part, table, tmp_path):
    """In a file that holds data only; their fields are parameters of the estimator."""
    vae = VAETransformer(4, **{name: part}, max_iter=1, refit=False, random_state=0)
    vae.fit(table).save(tmp_path / "own.vae")
    again = load(tmp_path / "own.vae")

    assert getattr(again, name) == part
    np.testing.assert_array_equal(again.score_samples(table), vae.score_samples(table))
    np.testing.assert_array_equal(again.transform(table), vae.transform(table))
    for field, value in ({} if isinstance(part, str) else vars(part)).items():
        assert again.get_params()[f"{name}__{field}"] == value


COUNTS, WEIGHTS = (0, -1, 2.5, True, "ten", None), (-1.0, float("nan"), True, "much", None, 10**30)
WRONG = [
    *((kind, "n_components", n) for kind in (MixturePrior, VampPrior) for n in COUNTS),
    (RelaxedCategorical, "n_variables", 0),
    *((RelaxedCategorical, "temperature", value) for value in (0.0, None)),
    *((IWAE, "n_draws", n) for n in (*COUNTS, 65537)),
    *(
        (kind, name, weight)
        for kind, name in ((TotalCorrelation, "weight"), (MMD, "weight"))
        for weight in WEIGHTS
    ),
    *((LinearWarmup, "n_iter", n) for n in (0, 2.5)),
    *((LinearWarmup, "beta", beta) for beta in (-1.0, float("nan"), "1")),
    *((Gaussian, "scale", scale) for scale in ("row", None, 0.0, -1.0, 2000, True, float("nan"))),
    *((ConvNet, "image_shape", shape) for shape in ((28,), (28, 7), (28, 28, 0), 28, (28.0, 28))),
    *((ConvNet, "channels", channels) for channels in ((), (16, 0), "16", 16)),
    *((GRUNet, "sequence_shape", shape) for shape in ((6,), (6, 0), "6")),
    *((GRUNet, "n_units", n_units) for n_units in (0, True)),
    (GRUNet, "autoregressive", 1),
    *((GRUNet, "word_dropout", share) for share in (-0.1, 1.5, "half")),
]


@pytest.mark.parametrize(("kind", "name", "value"), WRONG, ids=str)
def test_a_value_out_of_range_is_refused(kind, name, value):
    """When the part is made, by the parameter's name."""
    with pytest.raises(ValueError, match=f"'{name}' parameter of {kind.__name__} must") as e:
        kind(**{name: value})

    given = [value, *value] if isinstance(value, tuple) else [value]  # or the number at fault
    assert any(f"Got {each!r} instead" in str(e.value) for each in given)
