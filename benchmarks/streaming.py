"""Fits to a table in memory and to the same rows in Parquet files: nats, seconds, memory.

    python benchmarks/streaming.py                       # 10^5 and 10^6 rows of 20 columns
    python benchmarks/streaming.py --rows 10000000 --inputs parquet --estimators VAETransformer

The rows are a smooth function of three latent variables with noise, written in files of 10^5
rows, and sorted by the first column within each file. Each fit has a process of its own, which
prints the mean log-density of 2,000 other rows, the wall and CPU seconds of the fit and the
process's highest resident memory (VmHWM), beside that before the fit. The table in memory is read
from the same files by ``pyarrow`` and given as an array.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import fresh, options, peak_mib, table
from pyarrow.dataset import dataset

import sklearn_vae

ROWS_PER_FILE, N_COLUMNS, N_LATENT = 100_000, 20, 3


def make_rows(n_rows: int, seed: int) -> np.ndarray:
    weights = np.random.default_rng(0).normal(size=(N_LATENT, N_COLUMNS))
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n_rows, N_LATENT))
    return np.tanh(z @ weights) + 0.2 * rng.normal(size=(n_rows, N_COLUMNS))


def as_table(X: np.ndarray) -> pa.Table:
    return pa.table({f"x{j}": column for j, column in enumerate(X.T)})


def write(folder: Path, n_rows: int) -> None:
    for number, first in enumerate(range(0, n_rows, ROWS_PER_FILE)):
        X = make_rows(min(ROWS_PER_FILE, n_rows - first), 1 + number)
        pq.write_table(as_table(X[np.argsort(X[:, 0])]), folder / f"{number:04}.parquet")


def fit(estimator: str, source: str, folder: str, max_iter: int) -> None:
    """In a fresh process: print nats, seconds, memory and iterations of a fit."""
    model = getattr(sklearn_vae, estimator)(random_state=0).set_params(max_iter=max_iter)
    sklearn_vae.VAETransformer(2, max_iter=1).fit(make_rows(200, 0))  # all is imported
    before, wall, cpu = peak_mib(), time.perf_counter(), time.process_time()
    if source == "memory":
        X, test = pq.read_table(folder).to_pandas().to_numpy(), make_rows(2000, 0)
    else:
        X, test = dataset(folder).to_batches, as_table(make_rows(2000, 0))
    model.fit(X)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    figures = f"{model.score(test):.3f} {wall:.0f} {cpu:.0f} {before:.0f} {peak_mib():.0f}"
    print(figures, model.n_iter_)


def main() -> None:
    args = options(
        __doc__,
        rows=[100_000, 1_000_000],
        inputs=["memory", "parquet"],
        estimators=["VAETransformer", "VAEDensity"],
        max_iter=5,
    )
    lines = []
    for n_rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), n_rows)
            for estimator in args.estimators:
                for source in args.inputs:
                    call = f"fit({estimator!r}, {source!r}, {folder!r}, {args.max_iter})"
                    printed = fresh(f"from streaming import fit; {call}").split()
                    lines.append([estimator, f"{n_rows:,}", source, *printed])
    header = ["estimator", "rows", "input", "nats", "wall s", "CPU s", "MiB before", "MiB highest"]
    table("Fits to files and to rows in memory", [*header, "iterations"], lines)


if __name__ == "__main__":
    main()
