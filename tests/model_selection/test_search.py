"""VAESearchCV: equality with scikit-learn's searches."""

import pickle
from collections import Counter

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.callbacks import Callback

from sklearn_vae import VAETransformer, model_selection
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.networks import GRUNet
from sklearn_vae.objectives import IWAE, LinearWarmup
from sklearn_vae.posteriors import RelaxedCategorical
from sklearn_vae.priors import MixturePrior
from sklearn_vae.training.trainer import Trainer
from tests.conftest import bent_rows, slow

pd = pytest.importorskip("pandas")


X = bent_rows(120)
VALIDATED = bent_rows(240)  # its folds have enough rows to hold some out, as those of X have not
GRID = {"n_components": [1, 2], "beta": [0.5, 2.0]}
IN_PIPELINE = {f"vae__{name}": values for name, values in GRID.items()}


def make_vae(**params):
    few = {"max_iter": 2, "prior": "normal", "hidden_layer_sizes": (6,), "random_state": 0}
    return VAETransformer(**{**few, **params})


def in_pipeline(*head, **params):
    return Pipeline([*(head or [("scale", StandardScaler())]), ("vae", make_vae(**params))])


def assert_same_results(ours, theirs, atol=1e-6):
    """The cv_results_ of two searches, without times."""
    assert list(ours) == list(theirs)
    assert ours["params"] == theirs["params"]
    for name, expected in theirs.items():
        if name.startswith("param_"):
            assert isinstance(ours[name], np.ma.MaskedArray)
            assert ours[name].dtype == expected.dtype
            np.testing.assert_array_equal(ours[name].mask, expected.mask)
            assert ours[name].tolist() == expected.tolist()
        elif name.startswith("rank_"):
            assert ours[name].dtype == expected.dtype
            np.testing.assert_array_equal(ours[name], expected)
        elif name != "params" and not name.endswith("_time"):
            assert ours[name].dtype == expected.dtype
            assert_allclose(ours[name], expected, rtol=0, atol=atol, err_msg=name)
        elif name.endswith("_time"):
            assert (ours[name] >= 0).all()


def both(estimator, grid, X=X, y=None, fit=None, atol=1e-6, search=GridSearchCV, **params):
    """Fit our search and scikit-learn's, and compare their results."""
    params = {"cv": 2, **params}
    theirs = search(estimator, grid, **params).fit(X, y, **(fit or {}))
    ours = VAESearchCV(estimator, grid, **params).fit(X, y, **(fit or {}))
    assert_same_results(ours.cv_results_, theirs.cv_results_, atol)
    for name in ("best_index_", "best_params_", "multimetric_", "n_splits_"):
        assert getattr(ours, name, None) == getattr(theirs, name, None), name
    if hasattr(theirs, "best_score_"):
        assert ours.best_score_ == pytest.approx(theirs.best_score_, abs=atol)
    assert {name for name in vars(ours) if name.endswith("_")} == {
        name for name in vars(theirs) if name.endswith("_")
    } - {"_checked_cv_orig"}
    return ours, theirs


# -- the same as GridSearchCV ----------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    """Ours and scikit-learn's, in double precision."""
    return both(make_vae(), GRID, X=VALIDATED, return_train_score=True)


def test_cv_results_equal_those_of_grid_search_cv(found):
    """Keys, order, masks, ranks, scores, and the refitted best estimator."""
    ours, theirs = found

    assert len(ours.cv_results_["params"]) == 4
    assert ours.refit_time_ > 0
    np.testing.assert_array_equal(ours.score_samples(X), theirs.score_samples(X))


@pytest.mark.slow
def test_members_round_as_fits_that_are_alone(rng):
    """Training amplifies a last bit: after hundreds of iterations scores would differ by nats."""
    a, b = torch.rand(4, 64, 65), torch.rand(4, 65, 128)
    if not all((torch.bmm(a, b)[[i]] == torch.bmm(a[[i]], b[[i]])).all() for i in range(4)):
        pytest.skip("matrix products of several members round otherwise on this machine")
    price = np.exp(rng.normal(3, 1.5, 600))
    table = pd.DataFrame({"price": price, "age": rng.normal(40, 9, 600)})
    table["rent"] = price * np.exp(rng.normal(0, 0.3, 600))
    holed = table.mask(rng.random(table.shape) < 0.05)
    grid = {"n_components": [1, 2], "beta": [0.5]}
    for rows in (table, holed):
        both(make_vae(max_iter=1, hidden_layer_sizes=(64, 64)), grid, X=rows, atol=0)


def test_candidates_in_one_stacked_model_may_differ():
    """In seeds, stopping, schedules, widths, weight decay and numbers of restarts."""
    grid = [
        {"random_state": [np.random.RandomState(3)], "n_components": [1, "auto"]},
        {"beta": [LinearWarmup(1.0, 2)], "weight_decay": [0.0, 1.0], "objective__free_bits": [0.3]},
        {"early_stopping": [False], "max_iter": [1, 3]},
        {"hidden_layer_sizes": [(), (3, 2)], "refit": [False]},
        {"n_init": [2], "ensemble": [False, True]},
        {"validation_fraction": [0.4], "n_iter_no_change": [1]},
        {"likelihood": ["gaussian", ["gaussian"] * 3], "batch_size": [500]},
    ]
    both(make_vae(max_iter=1), grid, X=VALIDATED)


def test_parts_of_models_are_searched():
    """Each combination is one stacked model, whose members have different latent dimensions."""
    grid = [
        {"prior": ["vamp", MixturePrior(3)], "n_components": [1, 3]},
        {"prior": ["normal", "mixture"], "objective": [IWAE(2)]},
        {"posterior": ["gaussian", "categorical"], "hidden_layer_sizes": [(6,), (6, 5)]},
        # of one latent size, and different starts
        {"posterior": [RelaxedCategorical(), RelaxedCategorical(2)], "n_components": [4]},
        {"network": ["mlp", GRUNet((3, 1), 2)]},  # the second has one scale for all columns
    ]
    ours, theirs = both(make_vae(max_iter=1), grid)

    assert len(set(ours.cv_results_["mean_test_score"])) == 14
    np.testing.assert_array_equal(ours.score_samples(X), theirs.score_samples(X))


@pytest.mark.parametrize("refit", [False, *slow(True), lambda results: 1])
def test_refit_is_as_in_grid_search_cv(refit):
    """No estimator, the best one, or the one that a function selects."""
    ours, _ = both(make_vae(max_iter=1), {"n_components": [1, 2]}, refit=refit)

    assert hasattr(ours, "best_estimator_") == bool(refit)
    assert hasattr(ours, "score_samples") == bool(refit)
    if callable(refit):
        assert ours.best_index_ == 1
        assert not hasattr(ours, "best_score_")


def mean_code(estimator, X, y=None):
    return float(np.abs(estimator.transform(X)).mean())


def mean_density(estimator, X, y=None):
    return estimator.score(X)


def two_scores(estimator, X, y=None):
    return {"nats": estimator.score(X), "code": mean_code(estimator, X)}


TWO = {"nats": mean_density, "code": mean_code}


@pytest.mark.parametrize(("scoring", "refit"), [(TWO, "nats"), (two_scores, False)])
def test_several_scores_are_as_in_grid_search_cv(scoring, refit):
    """In a dict, or from a function that returns one."""
    grid = {"n_components": [1, 2]}
    ours, _ = both(make_vae(), grid, scoring=scoring, refit=refit, return_train_score=True)

    assert "split1_train_code" in ours.cv_results_
    if refit:
        assert ours.score(X) == pytest.approx(ours.best_estimator_.score(X))


@pytest.mark.parametrize("scoring", [None, two_scores])
def test_a_candidate_whose_fit_fails_gets_the_error_score(scoring):
    """All other candidates have their scores, and the warning is scikit-learn's."""
    grid = {"learning_rate": [-1.0, 1e-3], "n_components": [1, 2]}
    refit = "nats" if scoring else True
    params = {"scoring": scoring, "refit": refit, "error_score": -99.0}
    with pytest.warns(FitFailedWarning, match="4 fits failed out of a total of 8") as caught:
        both(make_vae(max_iter=1), grid, return_train_score=True, **params)

    assert ["learning_rate" in str(one.message) for one in caught] == [True, True]


def test_error_score_raise_raises_the_error(monkeypatch):
    """Before the training begins."""
    monkeypatch.setattr(Trainer, "train", None)
    grid = {"learning_rate": [1e-3, -1.0]}
    with pytest.raises(ValueError, match="'learning_rate' parameter"):
        VAESearchCV(make_vae(), grid, error_score="raise", cv=2).fit(X)


def test_a_failing_scorer_gets_the_error_score():
    """As in scikit-learn, the fit itself has not failed."""

    def broken(estimator, X, y=None):
        if estimator.n_components == 1:
            raise RuntimeError("no luck")
        return 0.0

    params = {"scoring": broken, "cv": 2, "error_score": -1.0}
    with pytest.warns(UserWarning, match="Scoring failed"):
        ours = VAESearchCV(make_vae(max_iter=1), {"n_components": [1, 2]}, **params).fit(X)

    assert ours.cv_results_["mean_test_score"].tolist() == [-1, 0]


@pytest.mark.parametrize(
    "cv",
    [
        *slow(KFold(2, shuffle=True, random_state=3)),
        [(np.arange(65), np.arange(65, 120)), (np.arange(60, 120), np.arange(30))],
    ],
)
def test_folds_of_any_splitter_are_used(cv):
    """Their sizes may differ."""
    both(make_vae(max_iter=1), GRID, cv=cv)


def test_fits_with_sample_weights_of_a_pipelines_last_step_are_stacked():
    """The parameter has the step's name as its prefix."""
    weight = np.random.default_rng(0).integers(1, 3, len(X))
    both(in_pipeline(), IN_PIPELINE, fit={"vae__sample_weight": weight})


def test_the_first_steps_of_a_pipeline_are_fitted_once_per_fold():
    """And once per combination of their own parameters, but not for those of the VAE."""
    fitted = Counter()

    class Counted(StandardScaler):
        def fit(self, X, y=None, sample_weight=None):
            fitted[self.with_mean] += 1
            return super().fit(X, y, sample_weight)

    pipeline = in_pipeline(("scale", Counted()), ("rotate", PCA(2)))
    grid = {**IN_PIPELINE, "scale__with_mean": [True, False]}
    VAESearchCV(pipeline, grid, cv=3, refit=False).fit(X)
    assert fitted == {True: 3, False: 3}

    both(pipeline, grid)


def test_whole_steps_may_be_candidates():
    """Scalers and VAEs are values of parameters."""
    both(Pipeline([("vae", make_vae())]), IN_PIPELINE)
    steps = {
        "scale": [MinMaxScaler(), "passthrough"],
        "vae": [make_vae(), make_vae(n_components=1)],
    }
    both(in_pipeline(), steps)


def test_an_estimator_that_is_not_a_vae_is_fitted_separately():
    """A mixture and a VAE are candidates, with a warning that names the reason."""
    grid = [{"vae": [GaussianMixture(2, random_state=0)]}, {"vae__n_components": [1, 2]}]
    with pytest.warns(UserWarning, match="2 of 6 fits were done one by one") as caught:
        both(in_pipeline(), grid)

    assert len(caught) == 1
    assert "GaussianMixture is not a VAETransformer" in str(caught[0].message)


class Shifted(VAETransformer):
    """A VAE with its own fit."""

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(np.asarray(X) + 1, y, sample_weight)


class CustomPipeline(Pipeline):
    """A subclass of Pipeline, whose fit might do more."""


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (make_vae(callbacks=[Callback()], max_iter=1), "VAETransformer has callbacks of its own"),
        (Shifted(1, max_iter=1, random_state=0), "Shifted has a fit of its own"),
        (CustomPipeline([("vae", make_vae(max_iter=1))]), "is not a VAETransformer"),
    ],
)
def test_fits_that_cannot_be_stacked_are_done_one_by_one(estimator, reason):
    """The warning names the reason, and the results are the same."""
    name = "vae__beta" if isinstance(estimator, Pipeline) else "beta"
    with pytest.warns(UserWarning, match=f"4 of 4 fits were done one by one, .*{reason}"):
        both(estimator, {name: [1, 2]})


def test_two_processes_have_the_results_of_one(found):
    """Fits are divided among the processes, whose warnings are repeated."""
    ours = VAESearchCV(make_vae(), GRID, cv=2, n_jobs=2, return_train_score=True).fit(VALIDATED)
    assert_same_results(ours.cv_results_, found[0].cv_results_)

    with pytest.warns(UserWarning, match="4 of 4 fits were done one by one"):
        VAESearchCV(make_vae(callbacks=[Callback()]), {"beta": [1, 2]}, cv=2, n_jobs=2).fit(
            VALIDATED
        )


def test_drawn_candidates_are_those_of_randomized_search_cv():
    """The same draws from the same distributions."""
    space = {"learning_rate": loguniform(1e-4, 1e-2), "n_components": [1, 2, 3]}
    both(make_vae(max_iter=1), space, search=RandomizedSearchCV, n_iter=4, random_state=5)


def test_a_random_state_is_cloned_for_every_fit():
    """As in GridSearchCV: candidates have the same seeds."""
    both(make_vae(random_state=np.random.RandomState(7)), {"n_components": [1, 2]})


def test_data_frames_keep_their_column_names():
    """And set_output returns data frames."""
    frame = pd.DataFrame(X, columns=list("abc"))
    pipeline = in_pipeline().set_output(transform="pandas")
    ours, theirs = both(pipeline, IN_PIPELINE, X=frame)
    codes = ours.transform(frame)

    assert list(ours.feature_names_in_) == list("abc")
    assert list(codes.columns) == list(theirs.transform(frame).columns)
    with pytest.raises(ValueError, match="feature names"):
        ours.transform(frame[list("cba")])


# -- an estimator as others are --------------------------------------------------------------


def test_a_search_is_an_estimator():
    """clone, get_params, set_params and repr work, and it has no fitted attributes before fit."""
    search = VAESearchCV(make_vae(), GRID, cv=3)
    other = clone(search).set_params(estimator__beta=3.0)

    assert other.estimator.beta == 3.0
    assert other.get_params(deep=False).keys() == search.get_params(deep=False).keys()
    assert repr(search).startswith("VAESearchCV(cv=3,")
    with pytest.raises(NotFittedError):
        search.transform(X)


def test_methods_are_those_of_the_best_estimator(found):
    """transform, score_samples, sample."""
    search, _ = found
    best = search.best_estimator_
    Z = search.transform(X)

    np.testing.assert_array_equal(Z, best.transform(X))
    np.testing.assert_array_equal(search.inverse_transform(Z), best.inverse_transform(Z))
    np.testing.assert_array_equal(search.score_samples(X), best.score_samples(X))
    assert search.score(X) == best.score(X)
    assert search.n_features_in_ == 3
    assert not hasattr(search, "predict")


def test_a_fitted_search_can_be_pickled(found):
    """With its results."""
    other = pickle.loads(pickle.dumps(found[0]))

    assert_same_results(other.cv_results_, found[0].cv_results_, atol=0)
    np.testing.assert_array_equal(other.transform(X), found[0].transform(X))


def test_a_fit_replaces_all_attributes_of_an_earlier_fit():
    """A fit that fails leaves them unchanged."""
    search = VAESearchCV(make_vae(max_iter=1), {"beta": [1, 2]}, cv=2).fit(X)
    search.set_params(refit=False).fit(X)
    assert not hasattr(search, "best_estimator_")

    before = dict(vars(search))
    with pytest.raises(ValueError, match="infinity"):
        search.set_params(error_score="raise").fit(np.full_like(X, np.inf))
    assert {name for name in vars(search) if name.endswith("_")} == {
        name for name in before if name.endswith("_")
    }
    assert search.cv_results_ is before["cv_results_"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("estimator", "vae"), ("param_grid", 3), ("n_iter", 0), ("scoring", 3), ("n_jobs", "all"),
        ("refit", 2), ("cv", "many"), ("verbose", "loud"), ("pre_dispatch", None),
        ("random_state", "luck"), ("error_score", "none"), ("return_train_score", "yes"),
    ],
)  # fmt: skip
def test_invalid_parameters_are_named(name, value):
    """The message has the parameter's name, its value and the allowed values."""
    search = VAESearchCV(make_vae(), GRID).set_params(**{name: value})
    with pytest.raises(ValueError, match=f"'{name}' parameter of VAESearchCV must be"):
        search.fit(X)


@pytest.mark.parametrize(("grid", "cv"), [([], 2), (GRID, [])])
def test_a_search_without_candidates_or_folds_is_an_error(grid, cv):
    """With a message like scikit-learn's."""
    with pytest.raises(ValueError, match="No fits were performed"):
        VAESearchCV(make_vae(), grid, cv=cv).fit(X)


def test_verbose_prints_the_number_of_fits_and_the_progress_of_the_training(capsys):
    """The former with that of the search, the latter with that of the VAE."""
    vae = make_vae(max_iter=4, early_stopping=False, verbose=True)
    VAESearchCV(vae, {"beta": [0.5, 1.0]}, cv=2, refit=False, verbose=1).fit(X)
    first, *table = capsys.readouterr().out.splitlines()

    assert first == "Fitting 2 folds for each of 2 candidates, totalling 4 fits"
    assert len(table) == 2 + 4


# -- metadata routing ------------------------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_fits_with_routed_weights_are_stacked(routing, rng):
    """If the VAE requests them; groups are routed to the splitter."""
    vae = make_vae().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    fit = {
        "sample_weight": rng.integers(1, 3, len(VALIDATED)),
        "groups": np.arange(len(VALIDATED)) % 4,
    }
    both(vae, GRID, X=VALIDATED, fit=fit, cv=GroupKFold(2))


# -- when something goes wrong in training ---------------------------------------------------


class Unlucky:
    """A schedule that fails in the second iteration."""

    def __call__(self, iteration):
        return 1.0 if iteration == 0 else float("nan")


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_fit_that_fails_in_training_does_not_affect_other_fits(n_jobs):
    """All others are then done one by one."""
    grid = {"beta": [0.5, Unlucky(), 2.0], "early_stopping": [False]}
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 6"):
        theirs = GridSearchCV(make_vae(), grid, cv=2).fit(X)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 6"):
        ours = VAESearchCV(make_vae(), grid, cv=2, n_jobs=n_jobs).fit(X)

    assert_same_results(ours.cv_results_, theirs.cv_results_)


def test_fits_that_fail_together_are_done_one_by_one(monkeypatch, found):
    """For example if memory does not suffice for all members."""
    train = model_selection.train

    def limited(runs, **kwargs):
        if len(runs) > 2:
            raise MemoryError
        return train(runs, **kwargs)

    monkeypatch.setattr(model_selection, "train", limited)
    ours = VAESearchCV(make_vae(), GRID, cv=2, return_train_score=True, refit=False).fit(VALIDATED)

    assert_same_results(ours.cv_results_, found[0].cv_results_)


# -- it is one program -----------------------------------------------------------------------


def test_candidates_of_one_latent_size_are_one_stacked_model(monkeypatch):
    """Two of them on three folds of one size are six members."""
    sizes = []
    begin = Trainer.begin

    def seen(self, *arguments):
        sizes.append(len(self.configs))
        return begin(self, *arguments)

    monkeypatch.setattr(Trainer, "begin", seen)
    VAESearchCV(make_vae(early_stopping=False), GRID, cv=3, refit=False).fit(X)

    assert sizes == [6, 6]
