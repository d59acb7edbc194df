"""What several test files share: small tables and models at a known start."""

import os
import signal
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from scipy import stats
from threadpoolctl import threadpool_limits

from sklearn_vae import load
from sklearn_vae.initialization.ppca import CorrelationPCA
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import VAE
from sklearn_vae.numerics.array_api import log_mean_exp
from sklearn_vae.persistence.serialization import Reader, Writer
from sklearn_vae.training.jobs import TrainingConfig


def pytest_collection_modifyitems(items):
    """Skip what needs an accelerator where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU on this machine"))


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Handle Ctrl-C as Python does: jobs in the background inherit that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Compute on one thread: tensors are tiny, and threads that wait for a busy core cost most.

    So do threads of BLAS: a step of scipy's L-BFGS took milliseconds in place of microseconds.
    Processes that tests start inherit it as a variable of their environment.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1), pytest.MonkeyPatch.context() as patch:
        if "OMP_NUM_THREADS" not in os.environ:
            patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


def slow(*cases):
    """Further cases of a parametrization, which are slow tests; a tuple has several parameters."""
    cases = (case if isinstance(case, tuple) else (case,) for case in cases)
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]


@pytest.fixture(scope="module")
def few_steps():
    """Iterations of four steps at least, not 25, where it does not matter how well a model fits."""

    def n_steps(self, n_rows):
        return max(-(-n_rows // self.batch_size), min(self.min_steps_per_epoch, 4))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingConfig, "n_steps", n_steps)
        yield


def run_python(code, *arguments, **options):
    """What code prints that runs in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, **options)
    assert run.returncode == 0, run.stderr
    return run.stdout


def as_table(frame, library):
    """A data frame of pandas as a table of this library."""
    if library == "pandas":
        return frame
    table = pytest.importorskip("pyarrow").Table.from_pandas(frame, preserve_index=False)
    return table if library == "pyarrow" else pytest.importorskip("polars").from_arrow(table)


def correlated_rows(n=200, d=4, seed=0):
    """Rows of normal columns, each of which has a part of the one before."""
    return np.random.default_rng(seed).normal(size=(n, d)) @ np.triu(np.ones((d, d)))


def reread(model, folder):
    """What is read from the file of a model."""
    model.save(folder / "model.vae")
    return load(folder / "model.vae")


def reread_part(part):
    """What is read of an object within a file, which is checked as it is read."""
    writer = Writer()
    written = writer.write(part, "part")
    return Reader(writer.arrays, 1 << 20).read(written)


def decode_samples(encoder, values):
    """Rows of encoded samples, such that all relations hold."""
    generator = np.random.default_rng(0)
    X = encoder.inverse_transform(values, generator)
    encoder.relate(X, generator)
    return X


def assert_file_agrees(model, X, folder):
    """Save a model, and return what is read: it has the same scores, and imputed values."""
    again = reread(model, folder)
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(again.impute(X), model.impute(X))
    return again


def assert_same_on_threads(n_threads, function, items):
    """Results for all items, to the last bit, one after the other and on several threads."""
    expected = [function(item) for item in items]
    on_threads = joblib.Parallel(n_threads, backend="threading")
    found = on_threads(joblib.delayed(function)(item) for item in items)
    for own, alone in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own, alone)


def iwae_bound(model, x, noise, scale=None):
    """Importance-weighted bound on log p(x): (M, B, n) -> (M, B).

    Codes are drawn from q(z|x), or from a normal distribution ``scale`` times as wide.
    """
    if scale is None:
        return log_mean_exp(model.log_weights(x, noise).log_weight, 1)
    loc, log_scale = (part.unsqueeze(1) for part in model.posterior_params(x))
    wide = torch.distributions.Normal(loc, scale * log_scale.exp())
    z = wide.loc + wide.scale * noise
    log_prob = model.likelihood.log_prob(model.decode(z, x), x.unsqueeze(1))
    log_ratio = model.prior_distribution().log_prob(z) - wide.log_prob(z).sum(-1)
    return log_mean_exp(log_prob + log_ratio, 1)


def condition_normal(loc, covariance, row):
    """Log-density of a row's observed cells, mean and covariance of the others given these."""
    seen = ~np.isnan(row)
    own, cross = covariance[np.ix_(seen, seen)], covariance[np.ix_(~seen, seen)]
    gain = np.linalg.solve(own, cross.T).T
    log_prob = stats.multivariate_normal(loc[seen], own).logpdf(row[seen])
    mean = loc[~seen] + gain @ (row - loc)[seen]
    return log_prob, mean, covariance[np.ix_(~seen, ~seen)] - gain @ cross.T


def bent_rows(n=300, seed=0):
    """Rows about a curve in three dimensions."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, 1))
    return np.hstack([a, a**2, np.sin(2 * a)]) + 0.2 * rng.normal(size=(n, 3))


def bent_cloud(n=500, seed=0):
    """Rows about a parabola in the plane."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.column_stack([a, a**2 + 0.3 * rng.normal(size=n)])


@pytest.fixture
def two_threads():
    """Two threads of torch, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def rng():
    """numpy's generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def generator():
    """torch's generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def table(rng):
    """Correlated Gaussian columns, standardized: (80, 4)."""
    X = rng.standard_normal((80, 4)) @ rng.standard_normal((4, 4))
    return (X - X.mean(axis=0)) / X.std(axis=0)


@pytest.fixture
def make_model():
    """Build a model in float64, one member per table, each at its own linear start."""

    def make(*tables, n_components=2, hidden_layer_sizes=(6, 5), blocks=None, seeds=None):
        blocks = blocks or ((Gaussian(), tables[0].shape[1]),)
        architecture = Architecture(n_components, hidden_layer_sizes, blocks)
        model = VAE(architecture, len(tables)).double()
        model.flatten()
        for member, x in enumerate(tables):
            model.reset_parameters(member, member if seeds is None else seeds[member])
            pca = CorrelationPCA.fit(x, np.ones(len(x)), n_components)
            model.initialize(member, pca.linear_gaussian(n_components))
        return model

    return make
