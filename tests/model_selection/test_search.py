"""VAESearchCV: scikit-learn's search in all but speed, and candidates given up on the way."""

import pickle
import weakref
from collections import Counter

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import (
    ConvergenceWarning,
    FitFailedWarning,
    NotFittedError,
    UnsetMetadataPassedError,
)
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.callbacks import Callback

from sklearn_vae import VAETransformer
from sklearn_vae.model_selection import VAESearchCV, tasks
from sklearn_vae.objectives import IWAE, LinearWarmup
from sklearn_vae.priors import MixturePrior
from sklearn_vae.training.trainer import Trainer

pd = pytest.importorskip("pandas")


def bent_rows(n=240, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2))
    return np.hstack([z, z**2]) + 0.2 * rng.normal(size=(n, 4))


X = bent_rows()
GRID = {"n_components": [1, 2], "beta": [0.5, 2.0]}
IN_PIPELINE = {f"vae__{name}": values for name, values in GRID.items()}


def make_vae(**params):
    few = {"max_iter": 2, "hidden_layer_sizes": (6,), "random_state": 0}
    return VAETransformer(**{**few, **params})


def in_pipeline(*head, **params):
    return Pipeline([*(head or [("scale", StandardScaler())]), ("vae", make_vae(**params))])


def assert_same_results(ours, theirs, atol=1e-6):
    """The tables of two searches, but for the times."""
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


def both(estimator, grid, X=X, y=None, fit=None, atol=1e-6, **params):
    """Fit our search and scikit-learn's, and compare all that they have found."""
    params = {"cv": 2, **params}
    theirs = GridSearchCV(estimator, grid, **params).fit(X, y, **(fit or {}))
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
    return both(make_vae(), GRID, return_train_score=True)


def test_the_table_of_results_is_that_of_scikit_learn(found):
    """Keys, order, masks, ranks and scores; and the best one fitted again on all rows."""
    ours, theirs = found

    assert len(ours.cv_results_["params"]) == 4
    assert ours.refit_time_ > 0
    np.testing.assert_array_equal(ours.score_samples(X), theirs.score_samples(X))


def test_single_precision_keeps_to_the_stated_tolerance():
    """Tables of several batches are trained in float32: scores agree to 1e-3 nats."""
    grid = {**GRID, "learning_rate": [1e-3, 1e-2]}
    both(make_vae(batch_size=32, max_iter=4), grid, atol=1e-3)


def test_everything_that_may_ride_together_may_differ():
    """Seeds, stopping, schedules, widths, decay, starts: in one fleet or several, the same."""
    grid = [
        {"random_state": [1, np.random.RandomState(3)], "n_components": [1, "auto"]},
        {"beta": [LinearWarmup(1.0, 2)], "weight_decay": [0.0, 1.0], "free_bits": [0.3]},
        {"early_stopping": [False], "scale_prior_strength": [0.0], "max_iter": [1, 3]},
        {"hidden_layer_sizes": [(), (3, 2)], "activation": ["tanh"], "refit": [False]},
        {"n_init": [2], "ensemble": [False, True]},
        {"validation_fraction": [0.4], "tol": [10.0], "n_iter_no_change": [1]},
        {"likelihood": ["gaussian", ["gaussian"] * 4], "batch_size": [500]},
    ]
    both(make_vae(), grid)


def test_priors_and_objectives_are_searched():
    """Each combination is a fleet of its own, in which latent sizes ride together."""
    grid = [
        {"prior": ["vamp", MixturePrior(3)], "n_components": [1, 3]},
        {"prior": ["normal", "mixture"], "objective": [IWAE(2)]},
    ]
    ours, theirs = both(make_vae(), grid)

    assert len(set(ours.cv_results_["mean_test_score"])) == 6
    np.testing.assert_array_equal(ours.score_samples(X), theirs.score_samples(X))


def test_combinations_that_are_refused_get_the_error_score():
    """As in scikit-learn's search."""
    grid = {"objective": ["elbo", "iwae"], "beta": [1.0, 2.0]}
    with pytest.warns(FitFailedWarning, match="'beta' parameter of VAETransformer must be 1"):
        ours = VAESearchCV(make_vae(), grid, cv=2, error_score=-99.0).fit(X)

    assert (ours.cv_results_["mean_test_score"] == -99.0).tolist() == [False, False, False, True]


@pytest.mark.parametrize("refit", [False, True, lambda results: 1])
def test_refit_is_as_in_scikit_learn(refit):
    """No estimator, the best one, or the one of a function's choice."""
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


@pytest.mark.parametrize("scoring", [TWO, two_scores])
@pytest.mark.parametrize("refit", ["nats", False])
def test_several_scores_are_as_in_scikit_learn(scoring, refit):
    """In a dict or from a function that returns one."""
    grid = {"n_components": [1, 2]}
    ours, _ = both(make_vae(), grid, scoring=scoring, refit=refit, return_train_score=True)

    assert "split1_train_code" in ours.cv_results_
    if refit:
        assert ours.score(X) == pytest.approx(ours.best_estimator_.score(X))


def test_scores_by_name_take_what_the_last_step_predicts():
    """A list of names, with y: here on codes in one dimension that stand for a prediction."""

    class Predictor(VAETransformer):
        def predict(self, X):
            return self.transform(X)[:, 0]

    vae = Predictor(1, max_iter=1, hidden_layer_sizes=(4,), random_state=0)
    names = ["r2", "neg_mean_squared_error"]
    both(vae, {"beta": [0.5, 1]}, y=X[:, 0], scoring=names, refit="r2")


@pytest.mark.parametrize("scoring", [TWO, two_scores])
def test_several_scores_need_a_name_to_refit_by(scoring):
    """In scikit-learn's words."""
    with pytest.raises(ValueError, match="refit must be set to a scorer key"):
        VAESearchCV(make_vae(max_iter=1), GRID, scoring=scoring, cv=2).fit(X)


@pytest.mark.parametrize("scoring", [None, TWO, two_scores])
def test_a_candidate_that_cannot_be_fitted_gets_the_error_score(scoring):
    """The others are unhurt, and the warning is scikit-learn's."""
    grid = {"learning_rate": [-1.0, 1e-3], "n_components": [1, 2]}
    refit = "nats" if scoring else True
    params = {"scoring": scoring, "refit": refit, "cv": 2, "return_train_score": True}
    with pytest.warns(FitFailedWarning, match="4 fits failed out of a total of 8") as caught:
        ours = VAESearchCV(make_vae(max_iter=1), grid, error_score=-99.0, **params).fit(X)
    assert any("learning_rate" in str(one.message) for one in caught)
    with pytest.warns(FitFailedWarning):
        theirs = GridSearchCV(make_vae(max_iter=1), grid, error_score=-99.0, **params).fit(X)

    assert_same_results(ours.cv_results_, theirs.cv_results_)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_the_error_score_is_nan_by_default():
    """It ranks last."""
    with pytest.warns(FitFailedWarning):
        ours = VAESearchCV(make_vae(max_iter=1), {"tol": [-1, 0.1]}, cv=2).fit(X)

    assert np.isnan(ours.cv_results_["mean_test_score"]).tolist() == [True, False]
    assert ours.best_params_ == {"tol": 0.1}


@pytest.mark.parametrize("factor", [None, 2])
def test_the_error_is_raised_if_asked_for(factor, monkeypatch):
    """Before anything is trained."""
    monkeypatch.setattr(Trainer, "train", None)
    grid = {"learning_rate": [1e-3, -1.0]}
    with pytest.raises(ValueError, match="'learning_rate' parameter"):
        VAESearchCV(make_vae(), grid, factor=factor, error_score="raise", cv=2).fit(X)


def test_nothing_but_failures_is_an_error():
    """In scikit-learn's words; and the search is not fitted by it."""
    search = VAESearchCV(make_vae(), {"tol": [-1, -2]}, cv=2)
    with pytest.raises(ValueError, match="All the 4 fits failed"):
        search.fit(X)

    with pytest.raises(NotFittedError):
        search.transform(X)


def test_a_parameter_that_does_not_exist_is_an_error(monkeypatch):
    """At once, whatever the error score."""
    monkeypatch.setattr(Trainer, "train", None)
    with pytest.raises(ValueError, match="Invalid parameter 'lernrate'"):
        VAESearchCV(make_vae(), [{"beta": [1]}, {"lernrate": [1]}], cv=2).fit(X)


def test_a_scorer_that_fails_gets_the_error_score():
    """As in scikit-learn, the fit itself has not failed."""

    def broken(estimator, X, y=None):
        if estimator.n_components == 1:
            raise RuntimeError("no luck")
        return 0.0

    params = {"scoring": broken, "cv": 2, "error_score": -1.0}
    with pytest.warns(UserWarning, match="Scoring failed"):
        ours = VAESearchCV(make_vae(max_iter=1), {"n_components": [1, 2]}, **params).fit(X)

    assert ours.cv_results_["mean_test_score"].tolist() == [-1, 0]


def test_groups_decide_the_folds():
    """GroupKFold gets them, the estimator does not."""
    groups = np.arange(len(X)) % 5
    both(make_vae(max_iter=1), GRID, fit={"groups": groups}, cv=GroupKFold(3))


@pytest.mark.parametrize(
    "cv",
    [
        KFold(2, shuffle=True, random_state=3),
        ShuffleSplit(2, test_size=0.3, random_state=0),
        [(np.arange(130), np.arange(130, 240)), (np.arange(120, 240), np.arange(60))],
    ],
)
def test_any_splitter_will_do(cv):
    """Of several lengths, too."""
    both(make_vae(max_iter=1), GRID, cv=cv)


def test_sample_weights_ride():
    """They reach fit and, where scikit-learn passes them on, the scorer."""
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    both(make_vae(), GRID, fit={"sample_weight": weight})


def test_sample_weights_of_a_pipelines_last_step_ride():
    """By the step's name; without it a Pipeline refuses them, here as there."""
    weight = np.random.default_rng(0).integers(1, 3, len(X))
    both(in_pipeline(), IN_PIPELINE, fit={"vae__sample_weight": weight})


# scikit-learn asks first whether the scorer takes weights, and says that it does not
@pytest.mark.filterwarnings("ignore:.*does not support sample_weight")
@pytest.mark.filterwarnings("ignore:.*fits were done one by one")
@pytest.mark.parametrize("searched", [GridSearchCV, VAESearchCV])
def test_a_pipeline_refuses_weights_without_the_steps_name(searched):
    """In its own words."""
    with pytest.raises(ValueError, match=r"Pipeline.fit does not accept the sample_weight"):
        searched(in_pipeline(), IN_PIPELINE, cv=2).fit(X, sample_weight=np.ones(len(X)))


def test_a_pipeline_fits_its_head_once_per_fold():
    """And once more for each of the head's own candidates, but not for those of the VAE."""
    fitted = Counter()

    class Counted(StandardScaler):
        def fit(self, X, y=None, sample_weight=None):
            fitted[self.with_mean] += 1
            return super().fit(X, y, sample_weight)

    pipeline = in_pipeline(("scale", Counted()), ("rotate", PCA(3)))
    grid = {**IN_PIPELINE, "scale__with_mean": [True, False]}
    VAESearchCV(pipeline, grid, cv=3, refit=False).fit(X)
    assert fitted == {True: 3, False: 3}

    both(pipeline, grid)


@pytest.mark.parametrize(
    "head",
    [
        [("scale", "passthrough")],
        [("scale", StandardScaler()), ("rotate", "passthrough")],
        [("scale", "passthrough"), ("rotate", PCA(2))],
        [("rotate", PCA(2, svd_solver="randomized", random_state=np.random.RandomState(0)))],
    ],
)
def test_heads_of_all_kinds(head):
    """Steps that do nothing, and ones with a RandomState that every candidate gets anew."""
    both(in_pipeline(*head), {"vae__n_components": [1, 2]})


def test_a_pipeline_of_one_step_and_whole_steps_as_candidates():
    """Scalers and VAEs are values as others are."""
    both(Pipeline([("vae", make_vae())]), IN_PIPELINE)
    steps = {
        "scale": [StandardScaler(), MinMaxScaler(), "passthrough"],
        "vae": [make_vae(), make_vae(n_components=1)],
    }
    both(in_pipeline(), steps)


def test_a_cached_head_is_as_good(tmp_path):
    """Pipeline's own memory."""
    both(in_pipeline().set_params(memory=str(tmp_path)), IN_PIPELINE)


def test_another_estimator_is_fitted_in_the_ordinary_way():
    """A mixture beside the VAE, with a warning that says why."""
    grid = [{"vae": [GaussianMixture(2, random_state=0)]}, {"vae__n_components": [1, 2]}]
    theirs = GridSearchCV(in_pipeline(), grid, cv=2).fit(X)
    with pytest.warns(UserWarning, match="2 of 6 fits were done one by one") as caught:
        ours = VAESearchCV(in_pipeline(), grid, cv=2).fit(X)

    assert len(caught) == 1
    assert "GaussianMixture" in str(caught[0].message)
    assert "is not a VAE" in str(caught[0].message)
    assert_same_results(ours.cv_results_, theirs.cv_results_)


class Shifted(VAETransformer):
    """A fit of its own."""

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(np.asarray(X) + 1, y, sample_weight)


class PipelineOfMyOwn(Pipeline):
    """Who knows what it does."""


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (make_vae(callbacks=[Callback()], max_iter=1), "it has callbacks of its own"),
        (Shifted(max_iter=1, random_state=0), "Shifted has a fit of its own"),
        (PipelineOfMyOwn([("vae", make_vae(max_iter=1))]), "is not a VAE"),
    ],
)
def test_what_cannot_ride_is_fitted_in_the_ordinary_way(estimator, reason):
    """With a warning that says why, and with the same result."""
    name = "vae__beta" if isinstance(estimator, Pipeline) else "beta"
    theirs = GridSearchCV(estimator, {name: [1, 2]}, cv=2).fit(X)
    search = VAESearchCV(estimator, {name: [1, 2]}, cv=2)
    with pytest.warns(UserWarning, match=f"4 of 4 fits were done one by one, .*{reason}"):
        search.fit(X)

    assert_same_results(search.cv_results_, theirs.cv_results_)
    with pytest.raises(ValueError, match=f"'factor' parameter must be None .*{reason}"):
        search.set_params(factor=2).fit(X)


def test_two_jobs_find_what_one_finds(found):
    """The fits are divided among the processes; and their warnings reach the user."""
    ours = VAESearchCV(make_vae(), GRID, cv=2, n_jobs=2, return_train_score=True).fit(X)
    assert_same_results(ours.cv_results_, found[0].cv_results_)

    with pytest.warns(UserWarning, match="4 of 4 fits were done one by one"):
        VAESearchCV(make_vae(callbacks=[Callback()]), {"beta": [1, 2]}, cv=2, n_jobs=2).fit(X)


def test_drawn_candidates_are_those_of_the_randomized_search():
    """The same draws from the same distributions."""
    space = {"learning_rate": loguniform(1e-4, 1e-2), "n_components": [1, 2, 3]}
    params = {"n_iter": 4, "cv": 2, "random_state": 5}
    theirs = RandomizedSearchCV(make_vae(max_iter=1), space, **params).fit(X)
    ours = VAESearchCV(make_vae(max_iter=1), space, **params).fit(X)

    assert_same_results(ours.cv_results_, theirs.cv_results_)


@pytest.mark.parametrize("warm_start", [False, True])
def test_a_random_state_is_cloned_for_every_fit(warm_start):
    """As GridSearchCV does, so all candidates have the same luck; a warm start starts cold."""
    vae = make_vae(random_state=np.random.RandomState(7), warm_start=warm_start)
    both(vae, {"n_components": [1, 2]})


def test_without_a_random_state_every_fit_has_its_own():
    """Fresh entropy: three folds on the same rows differ."""
    rows = np.arange(len(X))
    search = VAESearchCV(make_vae(random_state=None), {"beta": [1]}, cv=[(rows, rows)] * 3).fit(X)

    assert len({search.cv_results_[f"split{k}_test_score"][0] for k in range(3)}) == 3


def test_data_frames_keep_their_names():
    """Names go in, and frames come out where they are asked for."""
    frame = pd.DataFrame(X, columns=list("abcd"))
    pipeline = in_pipeline().set_output(transform="pandas")
    ours, theirs = both(pipeline, IN_PIPELINE, X=frame)
    codes = ours.transform(frame)

    assert list(ours.feature_names_in_) == list("abcd")
    assert list(codes.columns) == list(theirs.transform(frame).columns)
    with pytest.raises(ValueError, match="feature names"):
        ours.transform(frame[list("dcba")])


@pytest.mark.parametrize("kind", [list, np.float32])
def test_rows_of_other_kinds(kind):
    """Lists of lists and single precision."""
    rows = X.tolist() if kind is list else X.astype(kind)
    both(make_vae(max_iter=1), GRID, X=rows, atol=1e-3)


# -- an estimator as others are --------------------------------------------------------------


def test_a_search_is_an_estimator():
    """clone, get_params, set_params, repr, and no state before fit."""
    search = VAESearchCV(make_vae(), GRID, factor=2, cv=3)
    other = clone(search).set_params(factor=None, estimator__beta=3.0)

    assert other.estimator.beta == 3.0
    assert other.get_params(deep=False).keys() == search.get_params(deep=False).keys()
    assert repr(search).startswith("VAESearchCV(cv=3,")
    with pytest.raises(NotFittedError):
        search.transform(X)


def test_the_methods_are_those_of_the_best_estimator(found):
    """Codes, densities, rows."""
    search, _ = found
    best = search.best_estimator_
    Z = search.transform(X)

    np.testing.assert_array_equal(Z, best.transform(X))
    np.testing.assert_array_equal(search.inverse_transform(Z), best.inverse_transform(Z))
    np.testing.assert_array_equal(search.score_samples(X), best.score_samples(X))
    assert search.score(X) == best.score(X)
    assert search.n_features_in_ == 4
    assert not hasattr(search, "predict")


def test_a_fitted_search_can_be_pickled(found):
    """With all its results."""
    other = pickle.loads(pickle.dumps(found[0]))

    assert_same_results(other.cv_results_, found[0].cv_results_, atol=0)
    np.testing.assert_array_equal(other.transform(X), found[0].transform(X))


def test_a_search_can_be_cross_validated():
    """Nested, as scikit-learn's."""
    scores = cross_val_score(VAESearchCV(make_vae(max_iter=1), {"beta": [1, 2]}, cv=2), X, cv=2)

    assert np.isfinite(scores).all()


def test_nothing_of_an_earlier_fit_is_left():
    """Nor of a fit that failed: the earlier one stays as it was."""
    search = VAESearchCV(make_vae(max_iter=1), {"beta": [1, 2]}, cv=2, factor=2).fit(X)
    search.set_params(factor=None, refit=False).fit(X)
    assert not hasattr(search, "n_candidates_")
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
        ("estimator", "vae"),
        ("param_grid", 3),
        ("n_iter", 0),
        ("factor", 1),
        ("factor", "two"),
        ("scoring", 3),
        ("n_jobs", "all"),
        ("refit", 2),
        ("cv", "many"),
        ("verbose", "loud"),
        ("pre_dispatch", None),
        ("random_state", "luck"),
        ("error_score", "none"),
        ("return_train_score", "yes"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value):
    """The message says which parameter, which value and what is allowed."""
    search = VAESearchCV(make_vae(), GRID).set_params(**{name: value})
    with pytest.raises(ValueError, match=f"'{name}' parameter of VAESearchCV must be"):
        search.fit(X)


@pytest.mark.parametrize("factor", [None, 2])
@pytest.mark.parametrize(("grid", "cv"), [([], 2), (GRID, [])])
def test_no_candidates_and_no_folds_are_refused(grid, cv, factor):
    """In words like scikit-learn's."""
    with pytest.raises(ValueError, match="No fits were performed"):
        VAESearchCV(make_vae(), grid, cv=cv, factor=factor).fit(X)


def test_verbose_says_what_is_done(capsys):
    """And nothing is printed without it."""
    VAESearchCV(make_vae(max_iter=1), GRID, cv=2).fit(X)
    assert capsys.readouterr().out == ""
    VAESearchCV(make_vae(max_iter=1), GRID, cv=2, verbose=1).fit(X)
    assert capsys.readouterr().out == "Fitting 2 folds for each of 4 candidates, totalling 8 fits\n"


# -- metadata routing ------------------------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_routed_weights_ride(routing):
    """Where the VAE asks for them; groups go to the folds."""
    rng = np.random.default_rng(0)
    vae = make_vae().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    fit = {"sample_weight": rng.integers(1, 3, len(X)), "groups": np.arange(len(X)) % 4}
    both(vae, GRID, fit=fit, cv=GroupKFold(2))


def test_weights_that_a_pipeline_routes_do_not_ride(routing):
    """It decides which steps get them: ordinary fits, with the same result."""
    vae = make_vae(max_iter=1).set_fit_request(sample_weight=True)
    vae.set_score_request(sample_weight=True)
    scaler = StandardScaler().set_fit_request(sample_weight=True)
    pipeline = Pipeline([("scale", scaler), ("vae", vae)])
    weight = np.random.default_rng(0).integers(1, 3, len(X))
    try:
        theirs = GridSearchCV(pipeline, IN_PIPELINE, cv=2).fit(X, sample_weight=weight)
    except UnsetMetadataPassedError:
        pytest.skip("this scikit-learn's pipelines route no weights to score")
    with pytest.warns(UserWarning, match="because fit is given sample_weight"):
        ours = VAESearchCV(pipeline, IN_PIPELINE, cv=2).fit(X, sample_weight=weight)

    assert_same_results(ours.cv_results_, theirs.cv_results_)


# -- halving ---------------------------------------------------------------------------------

MANY = {"n_components": [1, 2, 3], "learning_rate": [1e-5, 3e-3, 3e-2]}


@pytest.fixture(scope="module")
def halved():
    search = VAESearchCV(make_vae(max_iter=9), MANY, cv=2, factor=3, return_train_score=True)
    return search.fit(X)


def rows_of(search, stop):
    """Scores by candidate at one stop."""
    results = search.cv_results_
    here = np.flatnonzero(results["iter"] == stop)
    return {tuple(results["params"][row].values()): results["mean_test_score"][row] for row in here}


def test_survivors_are_the_best_at_each_stop(halved):
    """By mean test score; one in three goes on."""
    assert halved.n_candidates_ == [9, 3, 1]
    assert halved.n_resources_ == [1, 3, 9]
    for stop in (0, 1):
        scores, survivors = rows_of(halved, stop), rows_of(halved, stop + 1)
        kept = sorted(scores, key=scores.get, reverse=True)[: len(survivors)]
        assert set(kept) == set(survivors)


def test_the_table_says_where_a_candidate_was_given_up(halved):
    """A row per candidate and stop, as in HalvingGridSearchCV."""
    results = halved.cv_results_

    assert list(results)[:2] == ["iter", "n_resources"]
    assert results["iter"].tolist() == [0] * 9 + [1] * 3 + [2]
    assert results["n_resources"].tolist() == [1] * 9 + [3] * 3 + [9]
    assert len(results["params"]) == len(results["split1_train_score"]) == 13
    assert halved.best_index_ == 12
    assert halved.best_score_ == results["mean_test_score"][12]
    assert halved.best_estimator_.n_iter_ > 0


@pytest.mark.parametrize(
    "params",
    [{}, {"early_stopping": False}, {"n_init": 2, "ensemble": True}, {"n_iter_no_change": 1}],
)
@pytest.mark.parametrize("estimator", [make_vae, in_pipeline])
def test_who_survives_ends_as_if_nobody_had_been_given_up(estimator, params):
    """Nothing restarts: the last stop's scores are those of the whole search."""
    grid = {"n_components": [1, 2], "learning_rate": [1e-5, 1e-2]}
    if estimator is in_pipeline:
        grid = {f"vae__{name}": values for name, values in grid.items()}
    vae = estimator(**{"max_iter": 6, **params})
    ours = VAESearchCV(vae, grid, cv=2, factor=2, refit=False).fit(X)
    full = VAESearchCV(vae, grid, cv=2, refit=False).fit(X)
    scores = dict(
        zip(
            [tuple(row.values()) for row in full.cv_results_["params"]],
            full.cv_results_["mean_test_score"],
            strict=True,
        )
    )
    (best, score), *_ = rows_of(ours, 2).items()

    assert ours.n_candidates_ == [4, 2, 1]
    assert score == pytest.approx(scores[best], abs=1e-6)


def test_an_early_stop_shows_what_a_shorter_plan_would():
    """After one iteration of nine, the score is that of the weights then, not of the end."""
    grid = {"n_components": [1, 2, 3]}
    vae = make_vae(max_iter=8, early_stopping=False)
    ours = VAESearchCV(vae, grid, cv=2, factor=3, refit=False).fit(X)
    # 2 of 8 iterations lie within the first stage: so do all of a plan of 4's
    first = [make_vae(n_components=n, max_iter=4, early_stopping=False) for n in (1, 2, 3)]
    expected = []
    for one in first:
        one.set_params(callbacks=[StopAfter(2)])
        expected.append(cross_val_score(one, X, cv=2).mean())

    assert ours.n_resources_ == [2, 8]
    assert_allclose(list(rows_of(ours, 0).values()), expected, atol=1e-6)


def n_iter(estimator, X, y=None):
    assert len(estimator.history_) == estimator.n_iter_
    return -estimator.n_iter_


@pytest.mark.parametrize("ensemble", [False, True])
def test_estimators_at_a_stop_are_fitted(ensemble):
    """Scorers find the history as far as it goes, and all members of a mixture."""
    weights = []

    def noting(estimator, X, y=None):
        weights.append(len(estimator.state_dict_["free"]))
        return n_iter(estimator, X)

    vae = make_vae(max_iter=4, n_init=2, ensemble=ensemble, early_stopping=False)
    grid = {"n_components": [1, 2]}
    ours = VAESearchCV(vae, grid, cv=2, factor=2, scoring=noting, refit=False).fit(X)

    assert ours.cv_results_["mean_test_score"].tolist() == [-2, -2, -4]
    assert set(weights) == {2 if ensemble else 1}


class StopAfter(Callback):
    """End a run after so many iterations."""

    def __init__(self, n):
        self.n = n

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.n:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("factor", "n_candidates"), [(5, [4]), (1.5, [4, 3, 2, 2]), (4, [4, 1])])
def test_the_number_of_stops_follows_from_factor_and_candidates(factor, n_candidates):
    """Too few for even one stop are all trained to their end; the last stop is the best's."""
    ours = VAESearchCV(make_vae(), GRID, cv=2, factor=factor, refit=False).fit(X)

    assert ours.n_candidates_ == n_candidates
    assert ours.n_resources_[-1] == 2
    assert ours.cv_results_["iter"][ours.best_index_] == len(n_candidates) - 1


def test_small_tables_can_be_halved():
    """They have one iteration, after which all members have left at the first stop."""
    ours = VAESearchCV(make_vae(), GRID, cv=2, factor=2).fit(X[:80])

    assert ours.n_candidates_ == [4, 2, 1]
    assert ours.n_resources_ == [1, 1, 1]


def test_candidates_may_have_different_lengths():
    """One that is done sooner waits for the others."""
    grid = {"max_iter": [1, 2, 8]}
    ours = VAESearchCV(make_vae(), grid, cv=2, factor=3, refit=False).fit(X)
    full = VAESearchCV(make_vae(), grid, cv=2, refit=False).fit(X)

    assert ours.n_resources_ == [2, 8]
    first = rows_of(ours, 0)
    # those that were at their end after two iterations have only their second run to come
    assert set(first) == {(1,), (2,), (8,)}
    ((survivor,),) = rows_of(ours, 1)
    assert rows_of(ours, 1)[survivor,] == pytest.approx(
        full.cv_results_["mean_test_score"][grid["max_iter"].index(survivor)], abs=1e-6
    )


@pytest.mark.parametrize("scoring", [TWO, two_scores])
def test_halving_by_one_of_several_scores(scoring):
    """The one that refit names; no other way is accepted."""
    search = VAESearchCV(make_vae(), GRID, cv=2, factor=4, scoring=scoring, refit="code").fit(X)
    first = search.cv_results_["mean_test_code"][:4]

    assert search.cv_results_["params"][-1] == search.cv_results_["params"][first.argmax()]
    with pytest.raises(ValueError, match="'refit' parameter must name the score"):
        search.set_params(refit=False).fit(X)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
@pytest.mark.parametrize("scoring", [None, TWO, two_scores])
def test_halving_drops_candidates_that_cannot_be_fitted(scoring):
    """They get the error score at the first stop and go no further."""
    grid = {"learning_rate": [-1.0, 1e-3], "n_components": [1, 2]}
    refit = "nats" if scoring else True
    search = VAESearchCV(make_vae(), grid, cv=2, factor=2, scoring=scoring, refit=refit)
    with pytest.warns(FitFailedWarning, match="4 fits failed out of a total of 14"):
        search.fit(X)
    scores = search.cv_results_[f"mean_test_{refit if scoring else 'score'}"]

    assert np.isnan(scores).tolist() == [True] * 2 + [False] * 5
    assert search.best_params_["learning_rate"] == 1e-3


def test_halving_draws_candidates_too():
    """n_iter and factor go together."""
    space = {"learning_rate": loguniform(1e-4, 1e-2)}
    search = VAESearchCV(make_vae(), space, n_iter=4, factor=2, cv=2, random_state=0).fit(X)

    assert search.n_candidates_ == [4, 2, 1]


# -- when something goes wrong in training ---------------------------------------------------


class Unlucky:
    """A schedule that fails in the second iteration."""

    def __call__(self, iteration):
        return 1.0 if iteration == 0 else float("nan")


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_fit_that_fails_in_training_is_not_the_others_failure(n_jobs):
    """The others are trained together without it."""
    grid = {"beta": [0.5, Unlucky(), 2.0], "early_stopping": [False]}
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 6"):
        theirs = GridSearchCV(make_vae(), grid, cv=2).fit(X)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 6"):
        ours = VAESearchCV(make_vae(), grid, cv=2, n_jobs=n_jobs).fit(X)

    assert_same_results(ours.cv_results_, theirs.cv_results_)


class FailsAt:
    """A schedule that fails when it is asked for one iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def __call__(self, iteration):
        return float("nan") if iteration == self.iteration else 1.0


def lowest_beta(estimator, X, y=None):
    return 0.0 if callable(estimator.beta) else -estimator.beta


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
@pytest.mark.parametrize(("iteration", "stop"), [(0, 0), (3, 1), (7, 0)])
@pytest.mark.parametrize("n_init", [1, 2])
def test_halving_drops_candidates_that_fail_in_training(iteration, stop, n_init):
    """At once, on the way, or before they start; the others go on as if it had not been there."""
    vae = make_vae(max_iter=8, early_stopping=False, n_init=n_init)
    params = {"cv": 2, "scoring": {"beta": lowest_beta, "nats": mean_density}, "refit": "beta"}
    grid = {"beta": [2.0, FailsAt(iteration), 0.5, 1.0]}
    search = VAESearchCV(vae, grid, factor=2, **params)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 14"):
        search.fit(X)
    results = search.cv_results_
    (end,) = VAESearchCV(vae, {"beta": [0.5]}, **params).fit(X).cv_results_["mean_test_nats"]

    assert search.n_candidates_ == [4, 2, 1]
    assert search.best_params_ == {"beta": 0.5}
    assert results["mean_test_nats"][-1] == pytest.approx(end, abs=1e-6)
    failed = np.isnan(results["mean_test_nats"])
    assert failed.sum() == 1
    assert results["iter"][failed] == [stop]
    assert results["params"][failed.argmax()]["beta"] is grid["beta"][1]


def test_halving_raises_the_error_of_training_if_asked_for():
    """As GridSearchCV does."""
    search = VAESearchCV(make_vae(early_stopping=False), {"beta": [1.0, Unlucky()]}, cv=2)
    with pytest.raises(ValueError, match="beta"):
        search.set_params(factor=2, error_score="raise").fit(X)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_second_run_that_fails_in_a_halving_is_not_the_others_failure(monkeypatch):
    """They are trained again without it."""
    train = tasks.train

    def limited(runs, **kwargs):
        if any(run.architecture.n_components == 2 for run in runs):
            raise MemoryError
        return train(runs, **kwargs)

    monkeypatch.setattr(tasks, "train", limited)
    monkeypatch.setattr("sklearn_vae.estimators.base.train", limited)
    grid = {"n_components": [1, 2]}
    search = VAESearchCV(make_vae(), grid, cv=2, factor=3, refit=False, error_score=-99.0)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 4"):
        search.fit(X)

    assert (search.cv_results_["mean_test_score"] == -99).tolist() == [False, True]


def test_what_cannot_be_trained_together_is_trained_apart(monkeypatch, found):
    """As where memory does not suffice for the whole fleet."""
    sizes = []
    train = tasks.train

    def limited(runs, **kwargs):
        sizes.append(len(runs))
        if len(runs) > 2:
            raise MemoryError
        return train(runs, **kwargs)

    monkeypatch.setattr(tasks, "train", limited)
    ours = VAESearchCV(make_vae(), GRID, cv=2, return_train_score=True, refit=False).fit(X)

    assert sizes[:3] == [8, 4, 2]
    assert_same_results(ours.cv_results_, found[0].cv_results_)


@pytest.mark.parametrize("factor", [None, 2])
def test_ctrl_c_stops_the_search(monkeypatch, factor):
    """At once, and nothing is fitted."""
    steps = []

    def interrupted(self, *arguments):
        steps.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    search = VAESearchCV(make_vae(), GRID, cv=2, factor=factor)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)

    assert len(steps) == 1
    assert not hasattr(search, "cv_results_")


def test_a_diverging_candidate_warns_and_has_finite_scores():
    """As it would alone."""
    grid = {"learning_rate": [1e-3, 1e6]}
    with pytest.warns(ConvergenceWarning, match="learning_rate=1000000.0"):
        ours = VAESearchCV(make_vae(), grid, cv=2, refit=False).fit(X)

    assert np.isfinite(ours.cv_results_["mean_test_score"]).all()


# -- it is one program -----------------------------------------------------------------------


def test_the_whole_grid_is_one_fleet(monkeypatch):
    """Four candidates on three folds: twelve members, of one length of table."""
    sizes = []
    begin = Trainer.begin

    def seen(self, *arguments):
        sizes.append(len(self.configs))
        return begin(self, *arguments)

    monkeypatch.setattr(Trainer, "begin", seen)
    VAESearchCV(make_vae(early_stopping=False), GRID, cv=3, refit=False).fit(X)

    assert sizes == [12]


def test_a_fold_is_encoded_once(monkeypatch):
    """And not once per candidate."""
    calls = []
    encode = VAETransformer._to_table
    monkeypatch.setattr(
        VAETransformer, "_to_table", lambda *arguments: calls.append(1) or encode(*arguments)
    )
    VAESearchCV(make_vae(), GRID, cv=3, refit=False).fit(X)

    assert len(calls) == 3


def alive(references):
    return sum(reference() is not None for reference in references)


@pytest.mark.parametrize("estimator", [make_vae, in_pipeline])
def test_rows_of_a_fold_go_when_it_is_done(monkeypatch, estimator):
    """Where they are many, the next fold's are encoded only then; and the results are the same."""
    encoded, before = [], []
    encode = VAETransformer._to_table

    def watched(self, X, weight):
        before.append(alive(encoded))
        table = encode(self, X, weight)
        encoded.extend(weakref.ref(rows) for rows in (table.x, X))
        return table

    monkeypatch.setattr(VAETransformer, "_to_table", watched)
    grid = GRID if estimator is make_vae else IN_PIPELINE
    search = VAESearchCV(estimator(), grid, cv=3, refit=False)
    together = search.fit(X).cv_results_
    assert before[1] > 0
    assert alive(encoded) == 0
    before.clear()
    monkeypatch.setattr(tasks, "TABLES_TOGETHER", 1)

    assert_same_results(search.fit(X).cv_results_, together)
    assert before == [0, 0, 0]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_fleets_of_which_nobody_is_left_go(monkeypatch, early_stopping):
    """At each stop of a halving, with all that they hold."""
    trainers, left = [], []
    begin = Trainer.begin

    def watched(self, *arguments):
        trainers.append(weakref.ref(self))
        return begin(self, *arguments)

    def counting(estimator, X, y=None):
        left.append(alive(trainers))
        return -estimator.hidden_layer_sizes[0]

    monkeypatch.setattr(Trainer, "begin", watched)
    vae = make_vae(max_iter=4, early_stopping=early_stopping)
    grid = {"hidden_layer_sizes": [(6,), (5,), (4,), (3,)]}
    VAESearchCV(vae, grid, cv=2, factor=2, scoring=counting, refit=False).fit(X)

    assert left == [4] * 8 + [2] * 4 + [0] * 2


# -- scikit-learn's callbacks ----------------------------------------------------------------


class Recorder:
    """Note the tasks that begin and end."""

    def __init__(self):
        self.begun, self.ended = [], []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((type(estimator).__name__, context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.ended.append((type(estimator).__name__, context.task_name))


@pytest.mark.parametrize("factor", [None, 2])
def test_callbacks_of_the_search_hear_of_its_fit(factor):
    """Of its beginning, of the last fit, and of its end."""
    pytest.importorskip("sklearn.callback", reason="scikit-learn < 1.9")
    recorder = Recorder()
    search = VAESearchCV(make_vae(max_iter=1), GRID, cv=2, factor=factor)
    search.set_callbacks(recorder).fit(X)

    fit, refit = ("VAESearchCV", "fit"), ("VAESearchCV", "refit-with-best-params")
    assert recorder.begun == [fit, refit]
    assert recorder.ended == [refit, fit]


def test_a_progress_bar_shows_the_last_fit(capsys):
    """Its iterations are those of the best estimator."""
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn < 1.9")
    pytest.importorskip("rich")
    bar = callback.ProgressBar(max_propagation_depth=None)
    VAESearchCV(in_pipeline(), IN_PIPELINE, cv=2).set_callbacks(bar).fit(X)
    shown = capsys.readouterr().out

    assert "VAESearchCV" in shown
    assert "VAETransformer" in shown


@pytest.mark.parametrize("where", ["vae", "pipeline"])
def test_callbacks_of_the_estimator_are_told_of_every_fit(where):
    """What has them does not ride."""
    pytest.importorskip("sklearn.callback", reason="scikit-learn < 1.9")
    recorder = Recorder()
    pipeline = in_pipeline(max_iter=1)
    (pipeline if where == "pipeline" else pipeline[-1]).set_callbacks(recorder)
    with pytest.warns(UserWarning, match="it has callbacks of its own"):
        VAESearchCV(pipeline, {"vae__beta": [1, 2]}, cv=2).fit(X)

    assert len([name for _, name in recorder.begun if name == "fit"]) == 5
