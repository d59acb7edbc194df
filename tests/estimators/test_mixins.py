"""Fields of settings objects are parameters: they are set, shown, cloned and searched."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_vae import (
    VAEClassifier,
    VAEDensity,
    VAEImputer,
    VAEOutlierDetector,
    VAETransformer,
)
from sklearn_vae.likelihoods import StudentT
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.networks import ConvNet
from sklearn_vae.objectives import IWAE, LinearWarmup
from sklearn_vae.posteriors import RelaxedCategorical
from sklearn_vae.priors import MixturePrior, VampPrior

X = np.random.default_rng(0).normal(size=(60, 4))
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}

# a parameter's value, a field of it, another value of the field, and what the parameter is then
FIELDS = [
    ("objective", IWAE(5), "n_draws", 2, IWAE(2)),
    ("objective", "iwae", "n_draws", 2, IWAE(2)),
    ("network", ConvNet((8, 8), (2,)), "channels", (3,), ConvNet((8, 8), (3,))),
    ("prior", MixturePrior(3), "n_components", 4, MixturePrior(4)),
    ("prior", "vamp", "n_components", 4, VampPrior(4)),
    ("posterior", "categorical", "n_variables", 2, RelaxedCategorical(2)),
    ("beta", LinearWarmup(1.0, 5), "n_iter", 7, LinearWarmup(1.0, 7)),
]


@pytest.mark.parametrize(("name", "value", "field", "other", "expected"), FIELDS)
def test_fields_of_dataclasses_are_nested_parameters(name, value, field, other, expected):
    """It is set by name, and the object that it was a field of stays as it is."""
    vae = VAETransformer(**{name: value})
    before = repr(value)
    again = clone(vae).set_params(**{f"{name}__{field}": other})

    assert vae.get_params()[f"{name}__{field}"] != other
    assert again.get_params()[f"{name}__{field}"] == other
    assert getattr(again, name) == expected
    assert (getattr(vae, name), repr(value)) == (value, before)
    assert clone(again).get_params() == again.get_params()


def test_default_parameters_have_no_nested_parameters():
    """At its defaults, an estimator has the parameters of its signature."""
    for estimator in (VAETransformer(), VAEDensity()):
        assert estimator.get_params().keys() == estimator.get_params(deep=False).keys()


def test_a_value_is_set_before_its_fields():
    """Whatever their order, as a grid may hold both."""
    vae = VAETransformer().set_params(prior__n_components=3, prior="mixture")

    assert vae.prior == MixturePrior(3)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"prior__n": 3}, r"'prior__n'.*prior='auto' has no arguments"),
        ({"prior": "vamp", "prior__n": 3}, r"'prior__n'.*arguments \['n_components'\]"),
        ({"max_iter__n": 3}, "'max_iter__n'.*max_iter=200 has no arguments"),
        ({"nothing__n": 3}, "Invalid parameter 'nothing'"),
        ({"objective": "iwae", "objective__n_draws": 0}, "n_draws"),
    ],
)
def test_unknown_fields_are_refused_by_name(params, said):
    """With those that there are."""
    with pytest.raises(ValueError, match=f"(?s){said}"):
        VAETransformer().set_params(**params)


@pytest.mark.parametrize("cls", [VAEClassifier, VAEImputer])
def test_parameters_of_a_default_estimator_are_refused_with_advice(cls):
    """Until one is set, there is none to have them; it may be set together with them."""
    with pytest.raises(ValueError, match=r"(?s)'estimator__beta'.*Set estimator to an estimator"):
        cls().set_params(estimator__beta=2.0)

    assert cls().set_params(estimator=VAETransformer(), estimator__beta=2.0).estimator.beta == 2.0


def test_fields_of_a_likelihood_are_nested_parameters():
    """Every estimator that takes settings has them as parameters."""
    density = VAEDensity(likelihood=StudentT())

    assert density.get_params()["likelihood__scale"] == StudentT().scale


GRID = {"prior__n_components": [2, 4], "objective__n_draws": [1, 3]}


@pytest.mark.parametrize("search", [GridSearchCV, VAESearchCV])
def test_searches_set_nested_parameters(search):
    """In scikit-learn's grid and in ours: four candidates, four scores, the best one refitted."""
    vae = VAETransformer(2, prior="mixture", objective=IWAE(), **SMALL)
    found = search(vae, GRID, cv=2, error_score="raise").fit(X)

    assert len(set(found.cv_results_["mean_test_score"])) == 4
    assert found.best_estimator_.prior == MixturePrior(found.best_params_["prior__n_components"])
    assert found.best_estimator_.objective == IWAE(found.best_params_["objective__n_draws"])


def test_a_search_sets_nested_parameters_in_a_pipeline():
    """By the step's name, then the parameter's, then the field's."""
    pipeline = make_pipeline(StandardScaler(), VAETransformer(2, prior="mixture", **SMALL))
    grid = {"vaetransformer__prior__n_components": [2, 4]}
    found = VAESearchCV(pipeline, grid, cv=2, error_score="raise").fit(X)

    assert found.best_estimator_[-1].prior.n_components in (2, 4)


@pytest.mark.parametrize(
    ("cls", "other", "here"),
    [
        (VAETransformer, "latent_dim", "n_components"),
        (VAETransformer, "lr", "learning_rate"),
        (VAETransformer, "hidden_dims", "hidden_layer_sizes"),
        (VAEDensity, "epochs", "max_iter"),
        (VAEOutlierDetector, "seed", "random_state"),
    ],
)
def test_names_of_other_libraries_are_answered_with_those_here(cls, other, here):
    """A newcomer's first line has the name that another library taught."""
    with pytest.raises(TypeError, match=f"{cls.__name__} has no parameter '{other}': use '{here}'"):
        cls(**{other: 2})


def test_other_unknown_parameters_have_the_error_of_python():
    """No name here means the same, or the class does not have it."""
    for cls, name in ((VAETransformer, "colour"), (VAEOutlierDetector, "lr")):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            cls(**{name: 2})


def test_a_subclass_has_the_signature_that_it_declares():
    """scikit-learn reads parameters from it."""

    class Own(VAETransformer):
        def __init__(self, latent_dim=2):
            super().__init__(latent_dim, max_iter=1, random_state=0)
            self.latent_dim = latent_dim

    assert Own._get_param_names() == ["latent_dim"]
    assert clone(Own(latent_dim=3)).latent_dim == 3
    assert VAETransformer._get_param_names() == sorted(VAETransformer().get_params())


@pytest.mark.parametrize("cls", [VAETransformer, VAEDensity, VAEOutlierDetector])
def test_values_that_auto_stands_for_are_attributes(cls):
    """And the display in a notebook shows them, without internal attributes."""
    model = cls(**SMALL).fit(X)

    vae = getattr(model, "estimator_", model)
    assert model.n_components_ == vae.architecture_.n_components
    if cls is VAETransformer:
        assert isinstance(model.prior_, MixturePrior)
    if hasattr(model, "_get_fitted_attr_html"):  # scikit-learn 1.9
        shown = set(model._get_fitted_attr_html())
        assert {"n_components_", "n_iter_", "columns_"} <= shown
        assert not shown & {"architecture_", "schema_", "optimizer_state_", "state_dict_"}


def test_choices_are_listed_in_one_order():
    """A message that changes from run to run cannot be searched for."""
    with pytest.raises(ValueError, match=r"among \{'gelu', 'identity', 'logistic', 'relu', "):
        VAETransformer(activation="swish").fit(X)
