"""Fits to a table in memory and to the same rows in Parquet files: nats, seconds, memory.

    python benchmarks/streaming.py                       # 10^5 and 10^6 rows of 20 columns
    python benchmarks/streaming.py --rows 10000000 --inputs parquet --estimators VAETransformer

The rows are a smooth function of three latent variables with noise, written in files of 10^5
rows, and sorted by the first column within each file. Each fit has a process of its own, which
prints the mean log-density of 2,000 other rows, the wall and CPU seconds of the fit and the
process's highest resident memory (VmHWM), beside that before the fit. The data frame in memory is
read from the same files by ``pyarrow`` and given as an array.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import sklearn_vae

ROWS_PER_FILE, N_COLUMNS, N_LATENT = 100_000, 20, 3


def make_rows(n_rows: int, seed: int) -> np.ndarray:
    weights = np.random.default_rng(0).normal(size=(N_LATENT, N_COLUMNS))
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n_rows, N_LATENT))
    return np.tanh(z @ weights) + 0.2 * rng.normal(size=(n_rows, N_COLUMNS))


def write(folder: Path, n_rows: int) -> None:
    for number, first in enumerate(range(0, n_rows, ROWS_PER_FILE)):
        X = make_rows(min(ROWS_PER_FILE, n_rows - first), 1 + number)
        X = X[np.argsort(X[:, 0])]
        names = [f"x{j}" for j in range(N_COLUMNS)]
        pq.write_table(
            pa.table(dict(zip(names, X.T, strict=True))), folder / f"{number:04}.parquet"
        )


def memory() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def fit(estimator: str, source: str, folder: str, max_iter: int) -> None:
    paths = sorted(str(path) for path in Path(folder).glob("*.parquet"))
    model = getattr(sklearn_vae, estimator)(random_state=0)
    model.set_params(max_iter=max_iter)
    sklearn_vae.VAETransformer(2, max_iter=1).fit(make_rows(200, 0))  # all is imported
    before, wall, cpu = memory(), time.perf_counter(), time.process_time()
    X = paths
    if source == "memory":
        X = pq.read_table(folder).to_pandas().to_numpy()
    model.fit(X)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    test = make_rows(2000, 0)
    if source == "parquet":
        test = pa.table({f"x{j}": column for j, column in enumerate(test.T)})
    print(
        f"{model.score(test):.3f} {wall:.0f} {cpu:.0f} {before:.0f} {memory():.0f} {model.n_iter_}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--inputs", default="memory,parquet")
    parser.add_argument("--estimators", default="VAETransformer,VAEDensity")
    parser.add_argument("--max-iter", type=int, default=5)
    args = parser.parse_args()
    print(
        "| estimator | rows | input | nats | wall s | CPU s | MB before | MB highest | iterations |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for n_rows in map(int, args.rows.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), n_rows)
            for estimator in args.estimators.split(","):
                for source in args.inputs.split(","):
                    call = f"fit({estimator!r}, {source!r}, {folder!r}, {args.max_iter})"
                    code = f"from streaming import fit; {call}"
                    command = [sys.executable, "-W", "ignore", "-c", code]
                    result = subprocess.run(
                        command,
                        cwd=Path(__file__).parent,
                        check=True,
                        capture_output=True,
                        text=True,
                    )
                    row = " | ".join([estimator, f"{n_rows:,}", source, *result.stdout.split()])
                    print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
