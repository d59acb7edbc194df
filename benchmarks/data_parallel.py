"""Milliseconds of an iteration over two processes of ``torchrun``, beside one process.

    python benchmarks/data_parallel.py

One process with one thread, one with two threads, and two with one thread each, in turns, train
on 4,096 rows of 784 columns (a network of 512 and 256 units) or 16,384 of 20 columns (128 and
64). The time of an iteration is the median of a fit's, and the table shows the median of the
turns. Wall seconds: a machine that does other work gives no usable figures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FIT = """
import json, sys, time
import numpy as np, torch, torch.distributed as dist
from skorch.callbacks import Callback
from sklearn_vae import VAETransformer
from sklearn_vae.training import data_parallel

n_columns, batch_size, n_threads = map(int, sys.argv[1:])
torch.set_num_threads(n_threads)
wide = n_columns > 100
shape = 4096 if wide else 16384, n_columns
X = np.random.default_rng(0).normal(size=shape).astype(np.float32)
times = []

class Clock(Callback):
    def on_epoch_end(self, net, **kwargs):
        times.append(time.perf_counter())

vae = VAETransformer(
    8, hidden_layer_sizes=(512, 256) if wide else (128, 64), batch_size=batch_size,
    max_iter=4, early_stopping=False, n_init=1, callbacks=[Clock()], random_state=0,
)
dist.init_process_group("gloo")
with data_parallel():
    vae.fit(X)
if dist.get_rank() == 0:
    print(json.dumps(1e3 * float(np.median(np.diff(times)))))
dist.destroy_process_group()
"""
WAYS = {"one thread": (1, 1), "two threads": (1, 2), "two processes": (2, 1)}


def milliseconds(script: Path, n_processes: int, n_threads: int, *case: int) -> float:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    run = subprocess.run(
        [*torchrun, f"--nproc_per_node={n_processes}", str(script), *map(str, [*case, n_threads])],
        env={**os.environ, "OMP_NUM_THREADS": str(n_threads)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(run.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    n_turns = parser.parse_args().turns
    print("| columns | batch | " + " | ".join(WAYS) + " | two processes / two threads |")
    print("| --- " * (len(WAYS) + 3) + "|")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "fit.py")
        script.write_text(FIT)
        for case in [(784, 256), (784, 4096), (20, 256), (20, 8192)]:
            turns = [
                [milliseconds(script, *way, *case) for way in WAYS.values()] for _ in range(n_turns)
            ]
            found = np.median(turns, axis=0)
            cells = [*case, *(f"{ms:.0f} ms" for ms in found), f"{found[2] / found[1]:.2f}"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
