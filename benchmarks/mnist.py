"""Statically binarized MNIST, for the record: held-out log-likelihood beside published figures.

    python benchmarks/mnist.py                                          # VAE, 100 epochs
    python benchmarks/mnist.py --objective iwae --train-draws 50
    python benchmarks/mnist.py --prior vamp --components 500
    python benchmarks/mnist.py --epochs 10 --test-rows 500 --draws 500  # a shortened run

How the figure is obtained:

- Data: binarized_mnist.npz in the folder that tables.py names, 50,000 training, 10,000 validation
  and 10,000 test rows of 784 bits. Training and validation rows are put together; the estimator
  sets as many aside by chance as there were validation rows. Test rows, where not all, are drawn by
  the seed.
- Model: a `VAETransformer` with layers of 200 and 200, 50 latent dimensions and Bernoulli columns;
  a linear path beside each network and the start at probabilistic PCA are the package's own. Pixels
  that never change in training are constant columns, with a probability by the rule of succession.
- Training: Adam with the package's three stages of step sizes, within so many epochs; the weights
  with the lowest loss on the validation rows are kept, and there is no second run on all rows.
  `--param` sets any other parameter of the estimator.
- Figure: the mean of `score_samples` over the test rows, in nats: on average a lower bound.
  The draws are Sobol points a little wider than q(z|x), as the package scores everywhere.

In the literature, with 5,000 draws on all test rows: VAE -89.9 and IWAE with 50 draws -87.1 (Burda
et al. 2016), VampPrior -85.57 (Tomczak & Welling 2018).
"""

import argparse
import ast
import os
import platform
import shlex
import sys
import time
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from tables import DATA

from sklearn_vae import VAETransformer
from sklearn_vae.objectives import IWAE
from sklearn_vae.priors import MixturePrior, VampPrior

N_VALID = 10_000
ROWS_AT_A_TIME = 50


class JobProgress(Callback):
    """A line per epoch on standard error, and the seconds that epochs took."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        row = net.history[-1]
        print(
            f"epoch {row['epoch']}: loss {row['loss']:.2f}, validation {row['val_loss']:.2f} "
            f"(kl {row['val_kl_loss']:.2f}), step size {row['learning_rate']:.0e}, "
            f"{self.seconds[-1]:.1f} s",
            file=sys.stderr,
            flush=True,
        )


def load_rows(n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on, and rows to score."""
    path = DATA / "images" / "binarized_mnist.npz"
    if not path.exists():
        sys.exit(f"{path} is missing; the environment variable SKLEARN_VAE_DATA names its folder.")
    with np.load(path) as file:
        parts = {name: np.unpackbits(file[name], axis=1) for name in ("train", "valid", "test")}
    order = np.random.default_rng(seed).permutation(len(parts["test"]))
    fit_rows = np.concatenate([parts["train"], parts["valid"]])
    return fit_rows.astype(np.float32), parts["test"][order[:n_test]].astype(np.float32)


def build(options: argparse.Namespace, progress: JobProgress, n_rows: int) -> VAETransformer:
    """The estimator that was asked for."""
    priors: dict[str, Any] = {"mixture": MixturePrior, "vamp": VampPrior}
    prior: Any = options.prior
    if prior != "normal" and options.components:
        prior = priors[prior](options.components)
    objective: Any = options.objective
    if objective == "iwae":
        objective = IWAE(options.train_draws)
    params = dict(param.split("=", 1) for param in options.param)
    return VAETransformer(
        50,
        hidden_layer_sizes=(200, 200),
        likelihood="bernoulli",
        prior=prior,
        objective=objective,
        max_iter=options.epochs,
        batch_size=128,
        early_stopping=True,
        validation_fraction=N_VALID / n_rows,
        refit=False,
        callbacks=[progress],
        random_state=options.seed,
        device=options.device,
    ).set_params(**{name: ast.literal_eval(value) for name, value in params.items()})


def score(vae: VAETransformer, rows: np.ndarray, n_draws: int) -> np.ndarray:
    """Nats of each row, with a line on standard error now and then."""
    scores: list[np.ndarray] = []
    for first in range(0, len(rows), ROWS_AT_A_TIME):
        scores.append(vae.score_samples(rows[first : first + ROWS_AT_A_TIME], n_draws=n_draws))
        if first // ROWS_AT_A_TIME % 10 == 9:
            done = np.concatenate(scores)
            print(f"{len(done)} rows: {done.mean():.2f}", file=sys.stderr, flush=True)
    return np.concatenate(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prior", choices=["normal", "mixture", "vamp"], default="normal")
    parser.add_argument("--components", type=int, help="of a learned prior")
    parser.add_argument("--objective", choices=["elbo", "iwae"], default="elbo")
    parser.add_argument("--train-draws", type=int, default=50, help="per row, for iwae")
    parser.add_argument("--epochs", type=int, default=100, help="at the most")
    parser.add_argument("--draws", type=int, default=5000, help="per test row")
    parser.add_argument("--test-rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on the CPU")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    rows, test = load_rows(options.test_rows, options.seed)
    progress = JobProgress()
    vae = build(options, progress, len(rows))
    started = time.perf_counter()
    vae.fit(rows)
    fit_seconds = time.perf_counter() - started
    best = min(row["val_loss"] for row in vae.history_)
    started = time.perf_counter()
    scores = score(vae, test, options.draws)

    print(f"    {shlex.join(['python', *sys.argv])}\n")
    where = f"GPU {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "CPU"
    print(
        f"torch {torch.__version__}, {where} ({platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads)\n"
    )
    print(
        f"| {' | '.join(['epochs', 'seconds per epoch', 'fit seconds', 'validation loss'])} ",
        end="",
    )
    print(
        "| test rows | draws | test log-likelihood | standard error over rows | scoring seconds |"
    )
    print("| " + " | ".join(["---"] * 9) + " |")
    print(
        f"| {vae.n_iter_} | {np.median(progress.seconds):.1f} | {fit_seconds:.0f} | {best:.2f} "
        f"| {len(test)} | {options.draws} | {scores.mean():.2f} "
        f"| {scores.std() / len(scores) ** 0.5:.2f} | {time.perf_counter() - started:.0f} |"
    )


if __name__ == "__main__":
    main()
