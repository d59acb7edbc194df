"""Many at once: threads, processes, forks give what one alone gives; and what a process costs."""

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from tests.conftest import assert_same_on_threads, correlated_rows as rows, run_python, slow

pytestmark = pytest.mark.usefixtures("few_steps")

ROOT = Path(__file__).parents[1]
SMALL = {"hidden_layer_sizes": (16,), "random_state": 0}
MODELS = {
    "transformer": VAETransformer(**SMALL, max_iter=2),
    "density": VAEDensity(**SMALL, max_iter=1, mixtures=[(1, "full"), (2, "diag")]),
    "detector": VAEOutlierDetector(**SMALL, max_iter=1),
    "novelty": VAEOutlierDetector(**SMALL, max_iter=1, novelty=True),
}


def run_alone(code, *arguments, n_threads=1):
    """Run code in a process of its own; what it prints, as JSON."""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(n_threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin for a busy processor take it from others
    }
    return json.loads(run_python(code, *arguments, env=env, timeout=900))


@pytest.fixture(
    params=[1, pytest.param(2, marks=pytest.mark.slow)],
    ids=["on one torch thread", "on two torch threads"],
)
def torch_threads(request):
    """Compute on so many threads: with more than one, small steps limit themselves to one."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", MODELS)
def test_eight_threads_score_one_model_as_one_does(name, torch_threads):
    """To the last bit: nothing in it changes while it is used."""
    model = clone(MODELS[name]).fit(rows())
    parts = [rows(100, seed=seed) for seed in range(9)]

    assert_same_on_threads(8, model.score_samples, parts)


def fit_and_score(name, seed):
    return clone(MODELS[name]).fit(rows(seed=seed)).score_samples(rows(20))


@pytest.mark.parametrize("name", ["transformer", "detector", *slow("density", "novelty")])
def test_four_threads_fit_four_models_as_one_does(name, torch_threads):
    """To the last bit, and the number of torch's threads is as before."""
    assert_same_on_threads(4, partial(fit_and_score, name), range(4))
    assert torch.get_num_threads() == torch_threads


def fit_and_score_wide(seed):
    """Of every second model products are so large that another routine computes them."""
    is_large = seed % 2 == 1
    model = VAETransformer(
        max_iter=2,
        batch_size=1024 if is_large else 128,
        hidden_layer_sizes=(300, 200) if is_large else (16,),
        early_stopping=False,
        random_state=0,
    )
    X = rows(1100, seed=seed).astype(np.float32)
    return model.fit(X).score_samples(X[:200])


def test_a_wide_model_in_another_thread_changes_no_bits(torch_threads):
    """Which routine computes a product is decided by the product, not for the whole process."""
    assert_same_on_threads(4, fit_and_score_wide, range(4))


BACKENDS = """
import json, sys
import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import cross_val_score
from sklearn_vae import VAETransformer

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)) @ np.triu(np.ones((4, 4)))
    model = VAETransformer(hidden_layer_sizes=(16,), max_iter=2, random_state=0).fit(X)
    scores = {"serial": [model.score(X[i::4]) for i in range(4)]}
    fits = {"serial": cross_val_score(model, X, cv=3).tolist()}
    for backend in ("loky", "threading", "multiprocessing"):
        parallel = Parallel(n_jobs=2, backend=backend)
        scores[backend] = parallel(delayed(model.score)(X[i::4]) for i in range(4))
        from joblib import parallel_config
        with parallel_config(backend=backend, n_jobs=2):
            fits[backend] = cross_val_score(model, X, cv=3).tolist()
    print(json.dumps([scores, fits]))
"""


@pytest.mark.slow
def test_every_backend_of_joblib_gives_the_same(tmp_path):
    """The same bits, in this process and in others."""
    path = tmp_path / "backends.py"
    path.write_text(BACKENDS)
    scores, fits = run_alone(f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')")

    assert all(found == scores["serial"] for found in scores.values())
    assert all(found == fits["serial"] for found in fits.values())


FORK = """
import faulthandler, json, os
import numpy as np, torch
from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer

torch.set_num_threads(2)
X = np.random.default_rng(0).normal(size=(1500, 20))
vae = VAETransformer(hidden_layer_sizes=(256, 256), batch_size=1500, early_stopping=False,
                     max_iter=1, random_state=0)
torch.set_num_threads(1)
expected = vae.fit(X).score_samples(X)
torch.set_num_threads(2)
vae.fit(X)
scores = vae.score_samples(X)
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(100, exit=True)
    same = np.allclose(vae.score_samples(X), scores, atol=1e-6)
    again = vae.fit(X).score_samples(X)
    few = [(1, "full"), (2, "diag")]
    for other in (VAEDensity(max_iter=1, mixtures=few), VAEOutlierDetector(max_iter=1)):
        other.fit(X[:200]).score_samples(X[:9])
    os._exit(0 if same and np.allclose(again, expected, atol=1e-6) else 1)
print(json.dumps([os.waitpid(child, 0)[1], torch.get_num_threads()]))
"""


@pytest.mark.slow
def test_a_fork_after_a_parallel_fit_does_not_hang():
    """The child has none of the threads that its parent's pool counts on: it computes on one."""
    assert run_alone(FORK, n_threads=2) == [0, 2]


FORKS = """
import faulthandler, json, os
import numpy as np, torch
from sklearn_vae import VAETransformer

torch.set_num_threads(2)
rng = np.random.default_rng(0)
X = np.tile(rng.normal(size=(300, 20)), (2, 1))
incomplete = np.where(rng.random(X.shape) < 0.2, np.nan, X)
vae = VAETransformer(max_iter=2, hidden_layer_sizes=(64,), random_state=0).fit(X[:300])
status = []
for _ in range(15):
    scores = vae.score_samples(X)
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(60, exit=True)
        same = np.array_equal(vae.score_samples(X), scores)
        vae.score_samples(incomplete[:100])
        os._exit(0 if same else 1)
    status.append(os.waitpid(child, 0)[1])
print(json.dumps(status))
"""


@pytest.mark.slow
def test_a_fork_after_scores_on_several_threads_does_not_hang():
    """What MKL keeps for threads that have ended is freed; a third of such forks hung before."""
    assert run_alone(FORKS, n_threads=2) == [0] * 15


BITS = """
import hashlib, json, sys
import numpy as np, torch
from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer

torch.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
X = rng.normal(size=(600, 12)) @ np.triu(np.ones((12, 12)))
found = []
wide = {"hidden_layer_sizes": (300, 300), "batch_size": 600}
for model in (VAETransformer(max_iter=2, random_state=0, **wide),
              VAEDensity(max_iter=1, random_state=0, mixtures=[(1, "full"), (2, "diag")]),
              VAEOutlierDetector(max_iter=2, random_state=0)):
    found.append(model.fit(X).score_samples(X[:50]).tolist())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_another_process_gives_the_same_bits_and_other_threads_nearly():
    """The same machine, versions, device and number of threads: the same bits; else to 1e-3."""
    one, again, two = (run_alone(BITS, n, n_threads=n) for n in ("1", "1", "2"))

    assert one == again
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


# -- what it costs -----------------------------------------------------------------------


GROWTH = """
import gc, json, os
import numpy as np
from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer

def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

X = np.random.default_rng(0).normal(size=(80, 5))
models = (VAETransformer(hidden_layer_sizes=(16,), max_iter=1),
          VAEDensity(hidden_layer_sizes=(16,), max_iter=1, mixtures=[(1, "full")]),
          VAEOutlierDetector(hidden_layer_sizes=(16,), max_iter=1))
found = []
for seeds in (range(100), range(100, 200), range(200, 300)):
    for model in models:
        for seed in seeds:
            model.set_params(random_state=seed).fit(X).score_samples(X)
    found.append(resident() / 2**20)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_hundred_fits_grow_by_less_than_one_mib():
    """A leak grows in each hundred; what is loaded or kept once, in one of them."""
    assert min(np.diff(run_alone(GROWTH))) < 1


WATCH = """
import json, sys, threading, time
import numpy as np
from scipy.sparse import random_array
from sklearn_vae import VAEDensity, VAETransformer

def private():  # without the pages of a memory map
    with open("/proc/self/status") as status:
        return int(status.read().split("RssAnon:")[1].split()[0]) / 1024

def added(call):
    before, most, going = private(), [0], [True]
    def watch():
        while going[0]:
            most[0] = max(most[0], private())
            time.sleep(0.002)
    watcher = threading.Thread(target=watch)
    watcher.start()
    result = call()
    going[0] = False
    watcher.join()
    return most[0] - before - getattr(result, "nbytes", 0) / 2**20
"""

PEAK = """
X = np.random.default_rng(0).normal(size=(50_000, 20))
models = [VAETransformer(max_iter=1, random_state=0),
          VAEDensity(2, max_iter=1, random_state=0, mixtures=[(1, "full"), (4, "diag")])]
for model in models:
    model.fit(X[:500])
    model.score_samples(X[:5000])
print(json.dumps([added(lambda: model.score_samples(X)) for model in models]))
"""


@pytest.mark.slow
def test_scoring_a_long_table_adds_less_than_40_mib():
    """50,000 rows of 20 columns: chunk by chunk. The draws of all rows at once would take 488 MiB.

    Measured: 25 to 35 MiB for the transformer, 3 to 11 for the density.
    """
    assert max(run_alone(WATCH + PEAK)) < 40


LARGE = """
X = np.lib.format.open_memmap(sys.argv[1], "w+", np.float32, (200_000, 50))
rng = np.random.default_rng(0)
loadings = rng.normal(size=(2, 50))
for start in range(0, len(X), 50_000):
    z = rng.normal(size=(50_000, 2))
    X[start : start + 50_000] = z @ loadings + rng.normal(size=(50_000, 50))
X.flush()
X = np.load(sys.argv[1], mmap_mode="r")
sparse = random_array((5000, 2000), density=0.02, format="csr", dtype=np.float32, rng=0)
model = VAETransformer(2, hidden_layer_sizes=(16,), likelihood="gaussian", max_iter=1,
                       refit=False, batch_size=2048, random_state=0)
model.fit(X[:5000])
model.score_samples(X[:1000])
found = {
    "score": added(lambda: model.score_samples(X[:30_000])),
    "transform": added(lambda: model.transform(X)),
    "sample": added(lambda: model.sample(100_000)) - 20,
    "fit": added(lambda: model.fit(X)) - X.nbytes / 2**20,
    "sparse fit": added(lambda: model.set_params(batch_size=256).fit(sparse)) - 220,
    "sparse transform": added(lambda: model.transform(sparse)),
}
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_tables_are_not_copied(tmp_path):
    """A memory map of 38 MiB, beside the encoded rows of a fit; a sparse table, dense 38 MiB.

    Measured: 12 MiB for scores, 0 for codes, 25 for samples and 0 to 33 for the fit; 265 for the
    fit to the sparse table of 2,000 columns, with matrices of 32 MiB for its principal components.
    """
    found = run_alone(WATCH + LARGE, str(tmp_path / "X.npy"))
    assert max(found.values()) < 70, found
