"""Ctrl-C, failures at any point, memory that runs out: all the new or all the old."""

import os
import pickle
import signal
import threading
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.training.trainer import Trainer
from tests.conftest import correlated_rows as rows, slow

pytestmark = pytest.mark.usefixtures("few_steps")


SMALL = {"hidden_layer_sizes": (8,), "random_state": 0}
LONG = {**SMALL, "max_iter": 100_000}
MODELS = {
    "transformer": VAETransformer(**LONG, n_iter_no_change=100_000),
    "all rows": VAETransformer(**LONG, early_stopping=False),
    "starts": VAETransformer(**LONG, n_iter_no_change=100_000, n_init=3, ensemble=True),
    "density": VAEDensity(
        **LONG, mixtures=[(1, "full"), (2, "diag")], n_iter_no_change=100_000
    ),
    "detector": VAEOutlierDetector(**{**LONG, "max_iter": 10_000}),
    "novelty": VAEOutlierDetector(**{**LONG, "max_iter": 10_000}, novelty=True),
}  # fmt: skip


class Presses(Callback):
    """Press Ctrl-C so many seconds after an iteration."""

    def __init__(self, after, seconds):
        self.after, self.seconds = after, seconds
        self.is_pressed = False

    def on_epoch_end(self, net, **kwargs):
        if not self.is_pressed and len(net.history) == self.after:
            self.is_pressed = True
            threading.Timer(self.seconds, press).start()


def press():
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


class StepsAfterCtrlC:
    """Counts gradient steps, and those that begin after the handler of SIGINT was called."""

    def __init__(self, monkeypatch):
        self.is_pressed = False
        self.n_before = self.n_after = 0
        real_step, real_handler = Trainer.train_step, signal.default_int_handler

        def train_step(*args):
            self.n_after += self.is_pressed
            self.n_before += not self.is_pressed
            return real_step(*args)

        def handler(number, frame):
            self.is_pressed = True
            real_handler(number, frame)

        monkeypatch.setattr(Trainer, "train_step", train_step)
        monkeypatch.setattr(signal, "default_int_handler", handler)


@pytest.fixture
def steps(monkeypatch):
    """Counter of gradient steps; the handler of SIGINT is Python's again after the test."""
    previous = signal.getsignal(signal.SIGINT)
    counter = StepsAfterCtrlC(monkeypatch)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield counter
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seconds", [0.0, *slow(0.011), 0.037])
def test_ctrl_c_keeps_the_fit_so_far_with_interrupted_true(name, seconds, steps):
    """Wherever it comes: no step follows, there is a warning, and the model can be used."""
    model = clone(MODELS[name]).set_params(callbacks=[Presses(3, seconds)])
    before = signal.getsignal(signal.SIGINT)
    with (
        pytest.warns(ConvergenceWarning, match="fit was interrupted"),
        pytest.raises(KeyboardInterrupt),
    ):
        model.fit(rows())

    assert steps.n_before > 0
    assert steps.n_after == 0
    assert signal.getsignal(signal.SIGINT) is before
    trained = getattr(model, "estimator_", model)
    assert trained.interrupted_
    assert 3 <= trained.n_iter_ < 10_000
    assert all({"loss", "kl_loss", "beta"} <= row.keys() for row in trained.history_)
    assert np.isfinite(model.score_samples(rows(20))).all()
    assert pickle.loads(pickle.dumps(trained)).interrupted_


def test_ctrl_c_in_the_refit_keeps_the_first_training():
    """It was complete, and a second one in its beginnings is worse."""
    X = rows() ** 2  # the start, which is linear, is not the best model
    expected = VAETransformer(**SMALL, max_iter=4, refit=False).fit(X)

    class InSecondRun(Callback):
        def on_epoch_end(self, net, **kwargs):
            if net.valid_ is None:
                os.kill(os.getpid(), signal.SIGINT)

    model = VAETransformer(**SMALL, max_iter=4, callbacks=[InSecondRun()])
    with pytest.warns(ConvergenceWarning, match="n_iter_=4"), pytest.raises(KeyboardInterrupt):
        model.fit(X)

    np.testing.assert_array_equal(model.score_samples(X), expected.score_samples(X))


def test_ctrl_c_leaves_gradients_on():
    """It may come between the lines of torch's no_grad, which then never ends."""

    class InNoGrad(Callback):
        def on_epoch_end(self, net, **kwargs):
            torch.set_grad_enabled(False)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.warns(ConvergenceWarning), pytest.raises(KeyboardInterrupt):
        VAETransformer(**SMALL, max_iter=4, callbacks=[InNoGrad()]).fit(rows())

    assert torch.is_grad_enabled()


def test_ctrl_c_before_the_first_iteration_leaves_the_old_model():
    """There is nothing new yet."""
    model = VAETransformer(**SMALL, max_iter=2).fit(rows())
    before = pickle.dumps(model)

    class AtOnce(Callback):
        def on_epoch_begin(self, net, **kwargs):
            os.kill(os.getpid(), signal.SIGINT)

    model.set_params(callbacks=[AtOnce()])
    with pytest.raises(KeyboardInterrupt):
        model.fit(rows(seed=1))

    assert pickle.dumps(model.set_params(callbacks=None)) == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("search", [GridSearchCV, VAESearchCV])
def test_ctrl_c_stops_a_search(search, steps, monkeypatch):
    """And not one of its fits, with the next one going on."""
    model = VAETransformer(**LONG, early_stopping=False)
    found = search(model, {"beta": [0.5, 1.0]}, cv=2)
    real = Trainer.train_step

    def press_at_step_20(*args):
        if steps.n_before == 20 and not steps.is_pressed:
            press()
        return real(*args)

    monkeypatch.setattr(Trainer, "train_step", press_at_step_20)
    with pytest.raises(KeyboardInterrupt):
        found.fit(rows())

    assert steps.n_before == 20
    assert steps.n_after == 0
    assert not hasattr(found, "best_estimator_")


def test_warnings_that_are_errors_do_not_keep_a_search_going():
    """An error would be the failure of one candidate only."""
    model = VAETransformer(**LONG, early_stopping=False, callbacks=[Presses(2, 0.0)])
    with pytest.raises(KeyboardInterrupt):  # pytest has all warnings made errors
        model.fit(rows())


class Stops(Callback):
    """Ends a training as skorch's callbacks do."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_a_callback_that_stops_a_run_is_no_ctrl_c():
    """It is skorch's way to end one, and the fit goes on."""
    model = VAETransformer(**SMALL, max_iter=5, callbacks=[Stops()]).fit(rows())

    assert not model.interrupted_
    assert model.n_iter_ >= 2


def test_ctrl_c_does_not_outlast_its_fit():
    """A callback's stop in a thread, whose fits record no Ctrl-C, was taken for an earlier one."""
    interrupted = VAETransformer(**LONG, callbacks=[Presses(3, 0.0)])
    with pytest.warns(ConvergenceWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        interrupted.fit(rows())
    model = VAETransformer(**SMALL, max_iter=5, callbacks=[Stops()])
    thread = threading.Thread(target=model.fit, args=(rows(),))
    thread.start()
    thread.join()

    assert model.interrupted_ is False


# -- failures at any point -------------------------------------------------------------


class Fault(Exception):
    """What goes wrong."""


def fail_at(monkeypatch, place, error):
    """Raise an error at the so-manieth call of a function of the package or of torch's.

    Memory that has run out stays so: scores would else be computed with half as many rows.
    """
    from sklearn_vae.anomaly.scores import NeighborDistance
    from sklearn_vae.data import table_encoder
    from sklearn_vae.inference import decoder_correction, fitted_models
    from sklearn_vae.initialization import ppca
    from sklearn_vae.models import vae as models
    from sklearn_vae.training import optimizer, stacked, trainer

    calls = [0]

    def counting(function):
        def wrapped(*args, **kwargs):
            calls[0] += 1
            stays = isinstance(error, MemoryError)
            if calls[0] == place or (stays and 0 < place < calls[0]):
                raise error
            return function(*args, **kwargs)

        return wrapped

    for owner, name in [
        (table_encoder.TableEncoder, "transform"),
        (table_encoder.TableEncoder, "log_abs_det_jacobian"),
        (decoder_correction, "fit_ridge"),
        (fitted_models.FittedVAE, "module"),
        (models.StackedModule, "flatten"),
        (models.StackedModule, "weights"),
        (models.StackedModule, "load"),
        (optimizer.FlatAdam, "step"),
        (ppca.CorrelationPCA, "linear_gaussian"),
        (NeighborDistance, "score"),
        (trainer.Trainer, "begin"),
        (trainer.Trainer, "validate"),
        (trainer.Trainer, "remove_finished"),
        (trainer.Trainer, "train_step"),
        (stacked, "make_trainer"),
    ]:
        monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    return calls


FAULTY = {
    "transformer": VAETransformer(**SMALL, max_iter=1),
    "density": VAEDensity(**SMALL, max_iter=1, mixtures=[(1, "full"), (2, "diag")]),
    "detector": VAEOutlierDetector(**SMALL, max_iter=1),
}


@pytest.mark.filterwarnings("ignore:.*was interrupted", "ignore:Memory has run out")
@pytest.mark.parametrize("name", FAULTY)
@pytest.mark.parametrize("seed", [*range(3), *slow(*range(3, 12))])
def test_a_fit_that_fails_anywhere_leaves_the_old_model_or_none(name, seed, monkeypatch):
    """To the last bit, or not fitted; never a mix."""
    rng = np.random.default_rng(seed)
    error = (Fault("here"), MemoryError("here"), KeyboardInterrupt("here"))[seed % 3]
    calls = fail_at(monkeypatch, 0, error)
    clone(FAULTY[name]).fit(rows())
    n_calls = calls[0]
    old = clone(FAULTY[name]).fit(rows(150, 3, seed=1))
    before = pickle.dumps(old)
    monkeypatch.undo()

    for place in rng.integers(1, n_calls + 1, size=2):
        new = clone(FAULTY[name])
        for model in (old, new):
            with monkeypatch.context() as patch:
                fail_at(patch, place, error)
                with pytest.raises(type(error)):
                    model.fit(rows())
        if isinstance(error, KeyboardInterrupt):
            # all that it may be beside the old model: one that is marked
            if pickle.dumps(old) != before:
                assert getattr(old, "estimator_", old).interrupted_
                assert np.isfinite(old.score_samples(rows(9))).all()
                old = clone(FAULTY[name]).fit(rows(150, 3, seed=1))
            continue
        assert pickle.dumps(old) == before
        with pytest.raises(NotFittedError):
            new.score_samples(rows())


# -- memory ----------------------------------------------------------------------------


def out_of_memory():
    return RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 1 bytes. Error code 12 (Cannot allocate memory)"
    )


@pytest.mark.parametrize("shape", [(1 << 60,), (1 << 31, 1 << 33)])
def test_torchs_own_words_are_those(shape):
    """What is recognized is what torch says."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(shape, dtype=torch.int8)

    from sklearn_vae.system.compute import is_out_of_memory

    assert is_out_of_memory(error.value)
    assert is_out_of_memory(out_of_memory())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    "error", [out_of_memory(), torch.OutOfMemoryError("CUDA out of memory"), MemoryError()]
)
def test_a_chunk_that_is_too_large_is_halved(error, monkeypatch):
    """Once with a warning, and the scores are the same."""
    from sklearn_vae.models.base import BaseVAE

    model = VAETransformer(**SMALL, max_iter=1).fit(rows())
    X, real = rows(500), BaseVAE.encode
    expected = model.score_samples(X)

    def small_memory(self, x):
        if x.shape[1] > 40:
            raise error
        return real(self, x)

    monkeypatch.setattr(BaseVAE, "encode", small_memory)
    with pytest.warns(UserWarning, match="half as many rows") as told:
        found = model.score_samples(X)

    assert len(told) == 1
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("search", [GridSearchCV, VAESearchCV])
@pytest.mark.parametrize("error", [out_of_memory(), torch.OutOfMemoryError("CUDA out of memory")])
def test_memory_that_runs_out_in_training_costs_one_candidate(search, error, monkeypatch):
    """A MemoryError, which a search scores as a failure and goes on."""
    real = Trainer.train_step

    def small_memory(self, *args):
        if any(config.weight_decay == 0.5 for config in self.configs):
            raise error
        return real(self, *args)

    monkeypatch.setattr(Trainer, "train_step", small_memory)
    model = VAETransformer(**SMALL, max_iter=1)
    with pytest.raises(MemoryError):
        clone(model).set_params(weight_decay=0.5).fit(rows())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = search(model, {"weight_decay": [0.1, 0.5]}, cv=2).fit(rows())

    assert np.isnan(found.cv_results_["mean_test_score"]).tolist() == [False, True]
    assert found.best_params_ == {"weight_decay": 0.1}
