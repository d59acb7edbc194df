"""Fields of settings objects are parameters: they are set, shown, cloned and searched."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV

from sklearn_vae import VAEClassifier, VAEImputer, VAETransformer
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


def test_arguments_of_the_default_prior_are_those_of_what_it_stands_for():
    """The prior by default is "auto", a mixture."""
    assert VAETransformer().set_params(prior__n_components=4).prior == MixturePrior(4)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"prior__n": 3}, r"'prior__n'.*prior='auto' has the arguments \['n_components'\]"),
        ({"batch_size__n": 3}, r"'batch_size__n'.*batch_size='auto' has no arguments"),
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


GRID = {"prior__n_components": [2, 4], "objective__n_draws": [1, 3]}


@pytest.mark.parametrize("search", [GridSearchCV, VAESearchCV])
def test_searches_set_nested_parameters(search):
    """In scikit-learn's grid and in ours: four candidates, four scores, the best one refitted."""
    vae = VAETransformer(2, prior="mixture", objective=IWAE(), **SMALL)
    found = search(vae, GRID, cv=2, error_score="raise").fit(X)

    assert len(set(found.cv_results_["mean_test_score"])) == 4
    assert found.best_estimator_.prior == MixturePrior(found.best_params_["prior__n_components"])
    assert found.best_estimator_.objective == IWAE(found.best_params_["objective__n_draws"])


@pytest.mark.skipif(not hasattr(BaseEstimator, "_get_params_html"), reason="scikit-learn 1.6")
def test_notebooks_show_the_parameters_of_the_constructor_only():
    """Fields of a default, as of the objective, are none that the user has set."""
    shown = VAETransformer()._get_params_html()

    assert set(shown) == set(VAETransformer().get_params(deep=False))
    assert shown.non_default == ()
