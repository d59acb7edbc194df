"""Every parameter is alive, and wrong values are refused by name."""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.feature_selection import mutual_info_regression

from sklearn_vae import (
    VAEClassifier,
    VAEDensity,
    VAEImputer,
    VAEOutlierDetector,
    VAETransformer,
)
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.networks import GRUNet
from sklearn_vae.objectives import ELBO, IWAE, MMD, LinearWarmup, TotalCorrelation
from sklearn_vae.posteriors import RelaxedCategorical
from sklearn_vae.priors import MixturePrior, VampPrior
from sklearn_vae.training.jobs import TrainingConfig
from tests.conftest import bent_rows

X = bent_rows(400)


# another value for each parameter
OTHER = {
    VAETransformer: {
        "n_components": 3,
        "network": "gru",
        "hidden_layer_sizes": (16,),
        "likelihood": Gaussian(scale="per_column"),
        "prior": "normal",
        "posterior": "gaussian",
        "objective": "iwae",
        "beta": 2.0,
        "max_iter": 3,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "weight_decay": 1.0,
        "early_stopping": False,
        "validation_fraction": 0.3,
        "n_iter_no_change": 1,
        "refit": False,
        "n_init": 3,
        "ensemble": True,
        "random_state": 1,
    },
    VAEDensity: {
        "n_components": 1,
        "mixtures": [(3, "diag")],
        "hidden_layer_sizes": (16,),
        "likelihood": "zero_inflated",
        "max_iter": 3,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "weight_decay": 1.0,
        "early_stopping": False,
        "validation_fraction": 0.4,
        "n_iter_no_change": 1,
        "refit": False,
        "random_state": 1,
    },
    VAEOutlierDetector: {
        "contamination": 0.3,
        "novelty": True,
        "method": "neighbors",
        "n_components": 1,
        "hidden_layer_sizes": 7,
        "max_iter": 1,
        "calibration": "conformal",
        "calibration_fraction": 0.5,
        "random_state": 1,
    },
}
# others beside which a parameter matters: with one start there is nothing to choose from
BESIDE = {
    "ensemble": {"n_init": 2},
    "n_init": {"ensemble": True},
    "calibration_fraction": {"calibration": "conformal"},
}
# these say where the work is done and who is told, not what is learned
BESIDE_THE_MODEL = {"callbacks", "device", "handle_unknown", "verbose"}
# what it changes shows on rows that something is given with, in test_conditional
ELSEWHERE = {"conditional"}
# their fits are long enough for the rules about stopping to be met; others show at once
STOPPING = {"early_stopping", "n_iter_no_change", "validation_fraction"}


def fit(**params):
    return VAETransformer(**{"n_components": 2, "max_iter": 12, "random_state": 0, **params}).fit(X)


def fit_density(**params):
    usual = {"n_iter_no_change": 3, "early_stopping": True, "random_state": 0}
    small = {"mixtures": [(1, "full"), (2, "diag")], "hidden_layer_sizes": (8,)}
    return VAEDensity(**{**usual, **small, **params}).fit(X[:150].round(2))


def fit_detector(**params):
    usual = {"method": "log_likelihood", "random_state": 0}
    return VAEOutlierDetector(**{**usual, **params}).fit(X[:120])


# how an estimator is fitted, briefly and for long
BRIEF = {"max_iter": 2, "hidden_layer_sizes": (8,)}
FITS = {
    VAETransformer: (fit, BRIEF, {**BRIEF, "max_iter": 30, "n_iter_no_change": 2}),
    VAEDensity: (fit_density, {"max_iter": 2}, {"max_iter": 12}),
    VAEOutlierDetector: (fit_detector, {**BRIEF, "max_iter": 4}, {}),
}


@cache
def decisions(cls, is_long, *changes):
    """Scores of a few rows, above the threshold if there is one, after a fit with these changes."""
    fit, brief, long = FITS[cls]
    fitted = fit(**{**(long if is_long else brief), **dict(changes)})
    return getattr(fitted, "decision_function", fitted.score_samples)(X[:20])


@pytest.mark.parametrize("cls", OTHER)
def test_every_parameter_has_a_case_here(cls):
    """A new parameter has to show what it changes."""
    beside = (BESIDE_THE_MODEL | ELSEWHERE) & {*cls().get_params(deep=False)}
    assert set(cls().get_params(deep=False)) == set(OTHER[cls]) | beside


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, name) for cls, others in OTHER.items() for name in others],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_parameter_changes_the_fitted_model(cls, name):
    """A parameter that changes nothing is a lie (PyOD's beta is one)."""
    is_long, beside = name in STOPPING, BESIDE.get(name, {}).items()
    usual = decisions(cls, is_long, *beside)
    other = decisions.__wrapped__(cls, is_long, *beside, (name, OTHER[cls][name]))

    assert not np.array_equal(usual, other)


def test_a_detector_has_few_parameters():
    """More than 15 would be too many."""
    assert len(VAEOutlierDetector().get_params()) <= 15
    assert repr(VAEOutlierDetector(novelty=True)) == "VAEOutlierDetector(novelty=True)"


def test_verbose_prints_the_progress_of_each_training(capsys):
    """A table of iterations for each; nothing is printed without it."""
    fit(max_iter=2)
    silence = capsys.readouterr().out
    fit(max_iter=2, verbose=True)
    heads = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]

    assert silence == ""
    assert ["val_loss" in head for head in heads] == [True, False]


def test_the_kl_decreases_with_beta():
    """beta is alive: 0.1, 1, 10 give less and less KL."""
    ends = [fit(beta=beta, early_stopping=False).history_[-1]["kl_loss"] for beta in (0.1, 1, 10)]

    assert ends[0] > ends[1] > ends[2]


def test_total_correlation_falls_with_its_weight():
    """Two dimensions for a bent line depend on each other, until that is to be paid for."""
    plain, paid = (
        fit(objective=objective, beta=0.3, early_stopping=False, max_iter=8, learning_rate=1e-2)
        for objective in ("elbo", TotalCorrelation(30.0))
    )

    dependence = []
    for vae in (plain, paid):
        rows = torch.as_tensor(vae.columns_.transform(X))[None]
        loc, log_scale = (part[0].numpy() for part in vae.module_.posterior_params(rows))
        Z = loc + np.exp(log_scale) * np.random.default_rng(0).normal(size=loc.shape)
        dependence.append(mutual_info_regression(Z[:, :1], Z[:, 1], random_state=0)[0])

    assert dependence[0] > 0.15
    assert dependence[1] < 0.3 * dependence[0]


def test_a_term_of_weight_0_leaves_the_elbo():
    """As autograd has it; the usual gradient is written out and rounds elsewhere."""
    settings = {"max_iter": 2, "early_stopping": False, "prior": "normal"}
    usual = fit(posterior="gaussian", **settings)
    for objective in (TotalCorrelation(0.0), MMD(0.0)):
        own = fit(objective=objective, **settings)

        np.testing.assert_allclose(own.transform(X), usual.transform(X), rtol=0, atol=1e-4)


def test_mmd_draws_the_aggregated_posterior_to_the_prior():
    """Where the KL counts little, codes lie where it suits the decoder."""
    settings = {"beta": 0.01, "early_stopping": False, "max_iter": 8, "learning_rate": 1e-2}
    free = fit(prior="normal", **settings)
    held = fit(objective=MMD(300.0), **settings)
    far = [np.abs(np.cov(vae.transform(X).T) - np.eye(2)).max() for vae in (free, held)]

    assert far[1] < 0.3 < 0.5 < far[0]


def test_the_loss_is_in_the_units_of_the_score():
    """At beta = 1 the negative loss bounds the score from below, and not by much."""
    vae = fit(early_stopping=False)

    assert 0 < vae.score(X) + vae.history_[-1]["loss"] < 0.5


def test_free_bits_prevent_posterior_collapse():
    """Where beta would silence a dimension, its free bits are spent all the same."""
    silent, spent = (
        fit(beta=20.0, objective=ELBO(free_bits=bits), early_stopping=False).history_[-1]["kl_loss"]
        for bits in (0.0, 1.0)
    )

    assert silent < 0.5
    assert spent == pytest.approx(2.0, abs=0.3)


def test_an_iteration_has_at_least_25_steps():
    """An iteration has 25 steps at the least: 150 rows in one batch are seen 25 times."""
    vae = VAETransformer(max_iter=4, early_stopping=False, random_state=0).fit(X[:150])

    assert vae.n_steps_ == 4 * 25


def test_early_stopping_keeps_probabilistic_pca_on_noise():
    """On rows without any structure, the start (probabilistic PCA) is kept."""
    noise = np.random.default_rng(0).normal(size=(300, 5))
    vae = VAETransformer(random_state=0).fit(noise)
    start = VAETransformer(learning_rate=1e-12, max_iter=1, random_state=0).fit(noise)
    fresh = np.random.default_rng(1).normal(size=(500, 5))

    assert vae.score(fresh) > start.score(fresh) - 0.05


WRONG = [
    ("n_components", 0), ("n_components", 1.5), ("n_components", 21202), ("n_components", True),
    ("network", "transformer"), ("network", VAETransformer()), ("hidden_layer_sizes", 0),
    ("hidden_layer_sizes", (10, 0)), ("hidden_layer_sizes", np.array(10)),
    ("hidden_layer_sizes", (10.5,)), ("hidden_layer_sizes", (10, True)),
    ("hidden_layer_sizes", 10**30), ("likelihood", "cauchy"),
    ("likelihood", ["gaussian"]), ("likelihood", ["gaussian", "gaussian", "normal"]),
    ("likelihood", {"no such column": "gaussian"}), ("likelihood", {7: "gaussian"}),
    ("conditional", "yes"), ("prior", "gaussian"), ("prior", MixturePrior), ("posterior", "normal"),
    ("posterior", RelaxedCategorical), ("objective", "vib"), ("objective", IWAE),
    ("objective", TotalCorrelation), ("beta", -1.0), ("beta", "high"), ("beta", LinearWarmup),
    ("beta", lambda: 1.0), ("beta", lambda iteration: -1.0),
    ("beta", lambda iteration: float("nan")), ("beta", lambda iteration: "high"),
    ("max_iter", 0), ("max_iter", 10**30), ("batch_size", 0),
    ("batch_size", 10**30), ("learning_rate", 0.0), ("learning_rate", 10**30),
    ("weight_decay", -1.0), ("early_stopping", "yes"), ("validation_fraction", 1.0),
    ("n_iter_no_change", 0), ("n_iter_no_change", 10**30), ("refit", "no"),
    ("n_init", 0), ("n_init", 2.0), ("n_init", 1001), ("n_init", 10**30), ("ensemble", "some"),
    ("callbacks", "ProgressBar"), ("callbacks", [3]),
    ("device", "gpu"), ("random_state", "luck"), ("verbose", "loud"),
]  # fmt: skip
WRONG_OF_DETECTOR = [
    ("contamination", 0.0), ("contamination", 0.6), ("contamination", "some"),
    ("method", "forest"), ("method", "elbo"), ("novelty", "yes"), ("calibration", "split"),
    ("calibration_fraction", 1.0), ("n_components", 0), ("max_iter", 10**30), ("max_iter", 0),
    ("hidden_layer_sizes", [0]), ("callbacks", print), ("verbose", "no"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        *((VAETransformer, *case) for case in WRONG),
        *((VAEOutlierDetector, *case) for case in WRONG_OF_DETECTOR),
    ],
)
def test_a_wrong_value_is_refused_by_name(cls, name, value):
    """The message says which parameter, which value and what is allowed, each once, at fit."""
    with pytest.raises(ValueError, match=f"'{name}' parameter") as caught:
        cls(**{name: value}).fit(X)

    assert "must" in str(caught.value) or "columns" in str(caught.value)
    if cls is VAEOutlierDetector:
        assert f"parameter of {cls.__name__} must" in str(caught.value)
        assert str(caught.value).count("'auto'") <= 1


@pytest.mark.parametrize("objective", ["tc", "mmd"])
@pytest.mark.parametrize("posterior", ["full", "categorical"])
def test_tc_and_mmd_refuse_posteriors_of_dependent_dimensions(objective, posterior):
    """Both objectives integrate over each dimension by itself."""
    with pytest.raises(ValueError, match=r"'(posterior|objective)' parameter"):
        VAETransformer(3, objective=objective, posterior=posterior).fit(X)


def test_a_validation_fraction_without_training_rows_is_refused():
    """Only where early stopping was asked for by name."""
    with pytest.raises(ValueError, match="validation_fraction"):
        VAETransformer(early_stopping=True, validation_fraction=0.9).fit(X[:4])


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "expected"), [(400, 3, 3), (400, 20, 8), (100, 20, 5), (30, 20, 2)]
)
def test_n_components_auto_depends_on_columns_and_rows(n_rows, n_columns, expected):
    """Eight, the columns, or a twentieth of the rows: whichever is least."""
    X = np.random.default_rng(0).normal(size=(n_rows, n_columns))

    assert VAETransformer(max_iter=1).fit_transform(X).shape[1] == expected


def test_n_components_auto_does_not_depend_on_the_order_of_rows(monkeypatch, rng):
    """A machine at rest, then at work: the first rows have no factor, and all have two."""
    monkeypatch.setattr("sklearn_vae.estimators.config.ROWS_FOR_FACTORS", 600)
    rows = rng.normal(size=(1200, 2)) @ rng.normal(size=(2, 8))
    rows[:700] = 0
    rows += 0.3 * rng.normal(size=rows.shape)

    for table in (rows, rng.permutation(rows)):
        assert VAETransformer(max_iter=1).fit_transform(table).shape[1] == 2


@pytest.mark.parametrize(
    "params",
    [
        lambda n: {"batch_size": n, "max_iter": n, "n_iter_no_change": n},
        lambda n: {"network": GRUNet(n_units=n), "prior": MixturePrior(n)},
        lambda n: {"prior": VampPrior(n), "objective": IWAE(n // 50)},
        lambda n: {"n_components": n, "posterior": RelaxedCategorical(n // 100)},
    ],
)
def test_integers_of_8_bits_do_not_overflow(params, monkeypatch):
    """As those of a grid ``np.array([50, 100], dtype=np.int8)``."""
    monkeypatch.setattr(TrainingConfig, "n_steps", lambda *_: 1)
    fits = [
        VAETransformer(**{"n_components": 2, "max_iter": 1, "random_state": 0, **params(n)})
        for n in (100, np.int8(100))
    ]
    fits = [vae.set_params(hidden_layer_sizes=(4,)).fit(X[:150]) for vae in fits]

    np.testing.assert_array_equal(*(vae.score_samples(X[:9]) for vae in fits))


def test_draws_of_a_classifier_may_be_an_integer_of_8_bits():
    """Sizes of arrays are products of it."""
    model, y = VAEClassifier(VAETransformer(2, max_iter=1, random_state=0)), X[:, 0] > 0
    expected = model.set_params(n_draws=100).fit(X, y).predict_proba(X)

    actual = model.set_params(n_draws=np.int8(100)).predict_proba(X)

    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("name", "here"),
    [("latent_dim", "n_components"), ("epochs", "max_iter"), ("kl_weight", "beta")],
)
def test_names_of_other_libraries_are_answered_by_those_here(name, here):
    """Python's own error would name neither the estimator nor the parameter that is meant."""
    with pytest.raises(TypeError, match=f"VAETransformer has no parameter '{name}': use '{here}'"):
        VAETransformer(**{name: 3})
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        VAETransformer(colour=3)


@pytest.mark.parametrize(("name", "here"), [("max_iter", "max_iter"), ("epochs", "max_iter")])
@pytest.mark.parametrize("cls", [VAEClassifier, VAEImputer])
def test_a_parameter_of_the_model_is_given_to_the_model(cls, name, here):
    """IterativeImputer has max_iter of its own."""
    wrapped = rf"{cls.__name__}\(VAETransformer\({here}=\.\.\.\)\)"
    with pytest.raises(TypeError, match=f"has no parameter '{name}': use {wrapped}"):
        cls(**{name: 3})
    with pytest.raises(TypeError, match="has no parameter 'seed': use 'random_state'"):
        cls(seed=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        cls(colour=3)
