"""Several processes train one model: the model of one process, to rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.training import data_parallel

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo"
)
ROOT = Path(__file__).parents[2]
# Each process: the fits of the models in its arguments, as losses and weights, or as an error.
SCRIPT = """
import json, sys
import numpy as np, torch.distributed as dist
from sklearn_vae.training import data_parallel
from tests.training.test_distributed import MODELS, rows

dist.init_process_group("gloo")
found = {}
with data_parallel():
    for name in sys.argv[1:]:
        model = MODELS[name]
        if name == "other seeds":
            model = model.set_params(random_state=dist.get_rank())
        try:
            model.fit(rows())
            found[name] = [model.score(rows()), [row["loss"] for row in model.history_]]
        except ValueError as error:
            found[name] = str(error)
print("\\n" + json.dumps([dist.get_rank(), found]))
dist.destroy_process_group()
"""
FEW = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 3}
MODELS = {
    "small batches": VAETransformer(2, batch_size=50, **FEW),
    "one batch": VAETransformer(2, batch_size=512, **FEW),
    "importance weights": VAETransformer(2, objective="iwae", **FEW),
    "mixtures": VAEDensity(2, mixtures=[(1, "full"), (2, "diag")], **FEW),
    "free bits": VAETransformer(2, free_bits=0.1, **FEW),
    "other seeds": VAETransformer(2, **FEW),
    "tiny batches": VAETransformer(2, batch_size=1, **FEW),
}
EQUAL = ["small batches", "one batch", "importance weights", "mixtures"]


def rows():
    """301 rows, so that shares of batches differ in size."""
    return np.random.default_rng(0).normal(size=(301, 4)) @ np.triu(np.ones((4, 4)))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes have found."""
    script = tmp_path_factory.mktemp("script") / "script.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*torchrun, str(script), *MODELS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    answers = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    return dict(answers)


@pytest.mark.slow
@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_train_the_model_of_one(found, name):
    alone = MODELS[name].fit(rows())
    score, losses = found[0][name]

    assert found[0][name] == found[1][name]
    assert score == pytest.approx(alone.score(rows()), abs=1e-6)
    np.testing.assert_allclose(losses, [row["loss"] for row in alone.history_], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("free bits", "'free_bits' 0"),
        ("other seeds", "an integer random_state"),
        ("tiny batches", "batch of 1 rows cannot be shared by 2 processes"),
    ],
)
def test_what_processes_cannot_share_is_refused(found, name, message):
    assert message in found[0][name]
    assert message in found[1][name]


def test_processes_must_have_been_started():
    with pytest.raises(RuntimeError, match="init_process_group first"), data_parallel():
        pass
