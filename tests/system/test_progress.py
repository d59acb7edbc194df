"""The progress of imputation and sampling."""

import io
import re
import sys
from contextlib import suppress
from functools import cache, partial

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris

from sklearn_vae import VAEDensity, VAETransformer, system
from sklearn_vae.inference import predictor
from sklearn_vae.metrics import pit_calibration
from sklearn_vae.numerics import rows as sizes

pytestmark = pytest.mark.usefixtures("few_steps")

X, Y = load_iris(return_X_y=True)
INCOMPLETE = np.where(np.arange(4) == 1, np.nan, X)
MODELS = {
    "transformer": VAETransformer(2, max_iter=1, random_state=0, verbose=True),
    "density": VAEDensity(2, max_iter=1, random_state=0, verbose=True),
    "classes": VAETransformer(2, max_iter=1, random_state=0, verbose=True, conditional=True),
}
TASKS = {
    "Sampling": lambda model: model.sample(150),
    "Sampling given a value": lambda model: model.sample(150, given={0: 5.0}),
    "Imputing": lambda model: model.impute(INCOMPLETE),
    "Imputing draws": lambda model: model.impute(INCOMPLETE, 3),
    "Sampling for a calibration": lambda model: pit_calibration(model, X, n_draws=150),
}
CASES = [(model, task) for model in ("transformer", "density") for task in TASKS]
CASES += [("classes", task) for task in list(TASKS)[:2]]


@cache
def fit(model):
    return MODELS[model].fit(X, Y if model == "classes" else None)


@pytest.fixture(params=CASES, ids=" ".join)
def task(request, capsys):
    """A function of no arguments, and the word for it."""
    model, name = request.param
    fitted = fit(model)
    capsys.readouterr()
    return partial(TASKS[name], fitted), name.split()[0]


def test_every_row_is_counted_once(task, monkeypatch, capsys):
    """Chunk by chunk, whatever computes them."""
    monkeypatch.setattr(system, "LOG_SECONDS", 0.0)
    monkeypatch.setattr(system, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(predictor, "ROWS_AT_A_TIME", 50)
    call, verb = task
    # a row that is imputed takes more numbers than one that is sampled
    monkeypatch.setattr(sizes, "CACHED_NUMBERS", 1 << (16 if verb == "Imputing" else 12))
    call()
    *states, last = capsys.readouterr().out.splitlines()
    pattern = rf"{verb} 150 rows: (\d+) done, \S+ per second, (\d+) s left"
    counts = [int(re.fullmatch(pattern, state).group(1)) for state in states]

    assert counts == sorted(set(counts))
    assert counts[-1] == 150
    assert re.fullmatch(rf"{verb} 150 rows: 150 done, \d+\.\d s", last)


@pytest.mark.parametrize(("verbose", "quiet_seconds"), [(True, 600.0), (False, 0.0)])
def test_nothing_is_printed_without_need(verbose, quiet_seconds, monkeypatch, capsys):
    """Of what takes a moment, and without verbose however long it takes."""
    monkeypatch.setattr(system, "QUIET_SECONDS", quiet_seconds)
    model = (
        clone(MODELS["transformer"]).set_params(verbose=False).fit(X).set_params(verbose=verbose)
    )
    model.impute(INCOMPLETE)
    model.sample(10)

    assert capsys.readouterr().out == ""


def test_the_line_is_overwritten_in_a_terminal(monkeypatch):
    """It ends where the work ends, with an error, too."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(system, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(system, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr("sys.stdout", Terminal())
    with suppress(RuntimeError), system.show_progress("Imputing", 20, verbose=True):
        system.advance(10)
        system.advance(5)
        raise RuntimeError
    system.advance(5)
    _, first, second, last = sys.stdout.getvalue().split("\r")

    assert first.startswith("Imputing 20 rows: 10 done, ")
    assert second.startswith("Imputing 20 rows: 15 done, ")
    assert last.startswith("Imputing 20 rows: 15 done, ")
    assert last.endswith("\n")
    assert len(last) > len(second.rstrip())
