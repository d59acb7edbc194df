"""A fit that was killed goes on where it stood, and ends as one that was not."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

import sklearn_vae.data.sources as sources
import sklearn_vae.estimators.density as density
import sklearn_vae.training.callbacks as callbacks
from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.objectives import IWAE
from sklearn_vae.persistence import file_format
from tests.conftest import correlated_rows as rows, run_python

pytestmark = pytest.mark.usefixtures("few_steps")

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _writes_at_every_iteration(monkeypatch):
    """And not only as often as it costs little."""
    monkeypatch.setattr(callbacks, "MAX_WRITING_FRACTION", np.inf)


class Dies(Callback):
    """The process ends, after so many iterations of all trainings."""

    def __init__(self, after):
        self.left = after

    def on_epoch_begin(self, net, **kwargs):
        if self.left == 0:
            raise SystemExit
        self.left -= 1


SMALL = {"hidden_layer_sizes": (8,), "random_state": 0}
FITS = {
    "two runs": VAETransformer(**SMALL, max_iter=5),
    "stages": VAETransformer(**SMALL, max_iter=12, n_iter_no_change=2),
    "trained further": VAETransformer(**SMALL, max_iter=30, learning_rate=1e-3),
    "starts that leave": VAETransformer(**SMALL, max_iter=8, n_iter_no_change=1, n_init=3),
    "all starts": VAETransformer(**SMALL, max_iter=4, n_init=2, ensemble=True),
    "one run": VAETransformer(**SMALL, max_iter=4, early_stopping=False),
    "importance weighted": VAETransformer(**SMALL, max_iter=5, objective=IWAE(2), prior="mixture"),
    "density": VAEDensity(**SMALL, max_iter=3, mixtures=[(1, "full"), (2, "diag")]),
    "detector": VAEOutlierDetector(**SMALL, max_iter=4),
    "novelty": VAEOutlierDetector(**SMALL, max_iter=4, novelty=True),
}


def dead(model, after, path, X=None):
    """The same estimator, without callbacks, after a fit of it that died."""
    model.set_params(checkpoint=path, callbacks=[Dies(after)])
    with pytest.raises(SystemExit):
        model.fit(rows() if X is None else X)
    return model.set_params(callbacks=None)


def assert_equal(found, expected):
    """Bits of the weights, of all records and of scores."""
    models = [getattr(each, "estimator_", each) for each in (found, expected)]
    assert models[0].history_ == models[1].history_
    own, other = (model.state_dict_ for model in models)
    assert all((own[name] == other[name]).all() for name in other)
    np.testing.assert_array_equal(found.score_samples(rows(9)), expected.score_samples(rows(9)))


def fit_that_dies(model, after, path):
    """A fit that is resumed until it ends, and the number of its deaths."""
    deaths = 0
    while True:
        trial = clone(model).set_params(checkpoint=path, callbacks=[Dies(after)])
        try:
            return trial.fit(rows()), deaths
        except SystemExit:
            deaths += 1
            assert path.exists()
            assert not any(name.endswith("_") for name in vars(trial))


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("after", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_fit_that_dies_again_and_again_ends_as_one_that_did_not(name, after, tmp_path):
    """At every iteration, in either run, between two runs, with members that have left."""
    model, path = FITS[name], tmp_path / "fit.ckpt"
    expected = clone(model).fit(rows())
    trial, deaths = fit_that_dies(model, after, path)

    assert_equal(trial, expected)
    assert deaths >= (2 if after == 1 else 1)
    assert not path.exists()


def test_iterations_that_were_done_are_not_done_again(tmp_path):
    """It would end alike if all were: they are counted."""
    done = []

    class Counts(Callback):
        def on_epoch_end(self, net, **kwargs):
            done.append(len(net.history))

    model = VAETransformer(**SMALL, max_iter=6, early_stopping=False)
    dead(model, 4, tmp_path / "f").set_params(callbacks=[Counts()]).fit(rows())

    assert done == [5, 6]


class FullDisk:
    """The disk of ``file_format.write`` is full for all but the first ``n_writes`` files."""

    def __init__(self, monkeypatch, n_writes):
        self.left, self.write = n_writes, file_format.write
        monkeypatch.setattr(file_format, "write", self)

    def __call__(self, path, *args):
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        self.left -= 1
        self.write(path, *args)


@pytest.mark.parametrize("in_a_search", [False, True])
def test_a_disk_that_fills_up_ends_no_fit(tmp_path, monkeypatch, in_a_search):
    """The file keeps its first state, from which a fit resumes."""
    path = tmp_path / "fit.ckpt"
    model = VAETransformer(**SMALL, max_iter=6, early_stopping=False)
    if in_a_search:
        model = VAESearchCV(model, {"n_components": [1, 2]}, cv=2, n_jobs=1)
    expected = clone(model).fit(rows())
    FullDisk(monkeypatch, n_writes=1)
    trial = clone(model).set_params(checkpoint=path)
    with pytest.warns(UserWarning, match=r"checkpoint was not written, .* keeps .*No space left"):
        trial.fit(rows())

    np.testing.assert_array_equal(trial.transform(rows()), expected.transform(rows()))
    assert not path.exists()


def test_a_fit_resumes_from_what_a_full_disk_kept(tmp_path, monkeypatch):
    path = tmp_path / "fit.ckpt"
    model = VAETransformer(**SMALL, max_iter=6, early_stopping=False)
    expected = clone(model).fit(rows())
    with monkeypatch.context() as patch:
        FullDisk(patch, n_writes=2)
        with pytest.warns(UserWarning, match="not written"):
            dead(model, 4, path)

    assert_equal(model.fit(rows()), expected)


def test_a_disk_that_is_full_from_the_start_is_an_error(tmp_path, monkeypatch):
    FullDisk(monkeypatch, n_writes=0)
    model = VAETransformer(**SMALL, max_iter=6, checkpoint=tmp_path / "fit.ckpt")
    with pytest.raises(OSError, match="No space left"):
        model.fit(rows())
    assert not hasattr(model, "history_")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_iter": 7}, "max_iter=6"),
        ({"learning_rate": 1e-4}, "learning_rate=0.01"),
        ({"beta": lambda iteration: 0.5}, "beta=1.0"),
        ({"random_state": 1}, "random_state=0"),
        ({"hidden_layer_sizes": (9,)}, r"hidden_layer_sizes=\(8,\)"),
        ({"weight_decay": 1.0}, "weight_decay=0.01"),
        ({"prior": "normal", "n_components": 1}, "n_components='auto', prior='auto'"),
        ({"likelihood": "gaussian"}, None),
    ],
)
def test_a_checkpoint_of_other_parameters_is_refused(change, said, tmp_path):
    """By name and value in the file; one that changes nothing is the same fit."""
    model = dead(VAETransformer(**SMALL, max_iter=6), 2, tmp_path / "f").set_params(**change)
    if said is None:
        model.fit(rows())
        return
    with pytest.raises(ValueError, match=f"belongs to another fit, with {said}. Remove"):
        model.fit(rows())
    assert (tmp_path / "f").exists()


@pytest.mark.parametrize("place", [0, 199])
def test_a_checkpoint_of_other_rows_is_refused(place, tmp_path):
    """A single value tells, wherever it is."""
    X = rows()
    model = dead(VAETransformer(**SMALL, max_iter=6), 2, tmp_path / "f", X)
    X[place, 0] += 1e-3
    with pytest.raises(ValueError, match=r"belongs to another fit, with other rows\. Remove"):
        model.fit(X)


def test_a_source_is_compared_by_its_values(tmp_path, monkeypatch):
    """Its rows are in a file, which is another one in another process."""
    monkeypatch.setattr(sources, "MIN_SAMPLE_ROWS", 100)
    monkeypatch.setattr(sources, "SAMPLE_NUMBERS", 100)
    X = rows()

    def table():
        return iter(np.array_split(X, 3))

    model = VAETransformer(**SMALL, max_iter=5)
    expected = clone(model).fit(table)
    dead(model, 3, tmp_path / "f", table)
    other = np.vstack([X[:-1], X[-1:] + 1e-3])
    with pytest.raises(ValueError, match="belongs to another fit, with other rows"):
        clone(model).fit(lambda: iter(np.array_split(other, 3)))

    assert_equal(model.fit(table), expected)


def test_a_checkpoint_needs_a_seed():
    """Without one, no two fits begin alike."""
    with pytest.raises(ValueError, match=r"'checkpoint' parameter.*random_state=None"):
        VAETransformer(checkpoint="f").fit(rows())


def test_a_file_that_is_no_checkpoint_is_not_overwritten(tmp_path):
    """A model under the checkpoint's name is not written over."""
    path = tmp_path / "f"
    VAETransformer(**SMALL, max_iter=1).fit(rows()).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="the file holds no checkpoint"):
        VAETransformer(**SMALL, max_iter=1, checkpoint=path).fit(rows())
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match="not a file of sklearn_vae"):
        VAETransformer(**SMALL, max_iter=1, checkpoint=path).fit(rows())

    assert path.read_bytes() == b"mine"
    assert before[:8] == file_format.MAGIC


def with_checkpoint(vae, path, in_a_search):
    """The estimator with a checkpoint, or a search of it."""
    if in_a_search:
        return VAESearchCV(vae, {"beta": [1.0]}, cv=2, checkpoint=path)
    return vae.set_params(checkpoint=path)


@pytest.mark.parametrize("in_a_search", [False, True])
def test_a_checkpoint_in_a_missing_folder_is_refused_before_training(tmp_path, in_a_search):
    """Its first write comes after an epoch, or in a search after the first fold."""
    path = tmp_path / "no" / "f"
    vae = VAETransformer(**SMALL, max_iter=1, callbacks=[Dies(after=0)])
    model = with_checkpoint(vae, path, in_a_search)
    with pytest.raises(FileNotFoundError, match=f"'{path}'"):
        model.fit(rows())


@pytest.mark.parametrize("in_a_search", [False, True])
@pytest.mark.parametrize("path", ["", "."])
def test_a_folder_is_refused_as_a_checkpoint(path, in_a_search):
    """An empty path is the folder of the process."""
    model = with_checkpoint(VAETransformer(**SMALL, max_iter=1), path, in_a_search)
    with pytest.raises(ValueError, match=f"'checkpoint' parameter must be .*Got '{path}' instead"):
        model.fit(rows())


def test_a_checkpoint_takes_little_time(tmp_path, monkeypatch):
    """A twentieth of it: where an iteration and a write take a second each, one in 20 writes."""
    monkeypatch.undo()
    seconds, written = [0.0], []
    real = file_format.write

    def write(*args):
        seconds[0] += 1
        written.append(seconds[0])
        real(*args)

    class TakesASecond(Callback):
        def on_epoch_begin(self, net, **kwargs):
            seconds[0] += 1

    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    monkeypatch.setattr(file_format, "write", write)
    options = {"early_stopping": False, "callbacks": [TakesASecond()]}
    VAETransformer(**SMALL, max_iter=40, checkpoint=tmp_path / "fit", **options).fit(rows())

    # after the first iteration, at second 21, at second 41 and at the end
    assert written == [2, 22, 42, 44]


KILLS = """
import os, signal, sys, time
import numpy as np
import sklearn_vae, sklearn_vae.training.callbacks as callbacks
from sklearn_vae import VAETransformer

callbacks.MAX_WRITING_FRACTION = np.inf
rng = np.random.default_rng(0)
X = rng.normal(size=(300, 5)) @ np.triu(np.ones((5, 5)))

def begin(name):
    child = os.fork()  # a process of its own, without the second that imports take
    if child == 0:
        vae = VAETransformer(hidden_layer_sizes=(8,), max_iter=60, n_iter_no_change=60,
                             random_state=0, checkpoint=name + ".ckpt")
        vae.fit(X).save(name + ".vae")
        os._exit(0)
    return child

started = time.monotonic()
assert os.waitpid(begin("whole"), 0)[1] == 0
length = time.monotonic() - started
expected = sklearn_vae.load("whole.vae")
kills = went_on = ends = 0
while kills < 20 or not ends:
    child = begin("killed")
    time.sleep(rng.uniform(0, length / 3))
    if kills < 20:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status == signal.SIGKILL:
        kills += 1
        went_on += os.path.exists("killed.ckpt")
    if os.path.exists("killed.vae"):
        found = sklearn_vae.load("killed.vae")
        assert found.history_ == expected.history_
        weights = expected.state_dict_
        assert all((found.state_dict_[name] == value).all() for name, value in weights.items())
        os.unlink("killed.vae")
        ends += 1
print(kills, went_on, ends)
"""


@pytest.mark.slow
def test_a_fit_is_killed_at_20_random_moments_and_ends_alike(tmp_path):
    """kill -9, whatever it is doing, and the same call again."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    kills, went_on, ends = map(int, run_python(KILLS, cwd=tmp_path, env=env).split())

    assert kills == 20
    assert went_on >= 10
    assert ends >= 1


# -- searches --------------------------------------------------------------------------


class Counted(StandardScaler):
    """A step that says when it is fitted, and may end the process."""

    fits: ClassVar[list[int]] = []
    most = 1000

    def fit(self, X, y=None, sample_weight=None):
        if len(self.fits) == self.most:
            raise SystemExit
        self.fits.append(len(X))
        return super().fit(X, y, sample_weight)


def search(path, **params):
    pipe = Pipeline([("scale", Counted()), ("vae", VAETransformer(**SMALL, max_iter=2))])
    grid = {"vae__beta": [0.5, 1.0], "vae__n_components": [1, 2]}
    return VAESearchCV(pipe, grid, **{"cv": 4, "checkpoint": path, **params})


@pytest.fixture
def _none_yet(monkeypatch):
    monkeypatch.setattr(Counted, "fits", [])


def scores_of(found):
    return [values for name, values in found.cv_results_.items() if "test_score" in name]


@pytest.mark.usefixtures("_none_yet")
def test_a_search_does_no_fold_twice(tmp_path, monkeypatch):
    """One that ended after three folds of four does the last one, and fits the best."""
    path = tmp_path / "search.ckpt"
    expected = search(path).fit(rows())
    assert not path.exists()
    Counted.fits.clear()
    monkeypatch.setattr(Counted, "most", 3)
    with pytest.raises(SystemExit):
        search(path).fit(rows())
    assert path.exists()
    monkeypatch.undo()
    Counted.fits.clear()
    found = search(path).fit(rows())

    assert len(Counted.fits) == 2
    assert not path.exists()
    assert found.best_params_ == expected.best_params_
    np.testing.assert_array_equal(scores_of(found), scores_of(expected))
    np.testing.assert_array_equal(found.score_samples(rows(9)), expected.score_samples(rows(9)))


@pytest.mark.usefixtures("_none_yet")
def test_results_of_another_search_are_refused(tmp_path, monkeypatch):
    """By name of what is not the same."""
    path = tmp_path / "search.ckpt"
    monkeypatch.setattr(Counted, "most", 2)
    with pytest.raises(SystemExit):
        search(path).fit(rows())
    for change, said in [
        ({"cv": 3}, "other folds"),
        ({"scoring": lambda model, X, y=None: 0.0}, "cannot be pickled"),
        ({"return_train_score": True}, "other scores"),
        ({"param_grid": {"vae__beta": [0.5, 2.0]}}, "other candidates"),
        ({"estimator__vae__max_iter": 3}, "other estimator"),
    ]:
        with pytest.raises(ValueError, match=said):
            search(path).set_params(**change).fit(rows())
    with pytest.raises(ValueError, match="other rows"):
        search(path).fit(rows(seed=1))


@pytest.mark.parametrize("after", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_fit_that_dies_clips_the_same_gradients(after, monkeypatch, tmp_path):
    """Few steps are below the limit, which follows from the gradients of the former ones."""
    monkeypatch.setattr(density, "MAX_GRAD_NORM_RATIO", 1.0)
    model, path = FITS["density"], tmp_path / "fit.ckpt"
    model = clone(model).set_params(batch_size=20, max_iter=6)
    expected = clone(model).fit(rows())
    unclipped = clone(model)
    with monkeypatch.context() as patch:
        patch.setattr(density, "MAX_GRAD_NORM_RATIO", np.inf)
        unclipped.fit(rows())
    assert unclipped.history_ != expected.history_

    assert_equal(fit_that_dies(model, after, path)[0], expected)
