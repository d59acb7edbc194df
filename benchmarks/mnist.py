"""Statically binarized MNIST, for the record: held-out log-likelihood beside published figures.

    python benchmarks/mnist.py                                          # VAE, 100 epochs
    python benchmarks/mnist.py --objective iwae --train-draws 50
    python benchmarks/mnist.py --prior vamp --components 500
    python benchmarks/mnist.py --epochs 10 --test-rows 500 --draws 500  # a shortened run

How the figure is obtained:

- Data: binarized_mnist.npz in the folder that tables.py names, 50,000 training, 10,000 validation
  and 10,000 test rows of 784 bits. Training and validation rows are put together; the estimator
  sets as many aside by chance as there were validation rows. Test rows, where not all, are drawn at
  random.
- Model: a `VAETransformer` with layers of 200 and 200, 50 latent dimensions and Bernoulli columns;
  a linear path beside each network and the start at probabilistic PCA are the package's own. Pixels
  that never change in training are constant columns, with a probability by the rule of succession.
- Training: Adam with the package's three stages of step sizes, within so many epochs; the weights
  with the lowest loss on the validation rows are kept, and there is no second run on all rows.
  `--param` sets any parameter of the estimator.
- Figure: the mean of `score_samples` over the test rows, in nats: on average a lower bound.
  The draws are Sobol points a little wider than q(z|x), as the package scores everywhere.

In the literature, with 5,000 draws on all test rows: VAE -89.9 and IWAE with 50 draws -87.1 (Burda
et al. 2016), VampPrior -85.57 (Tomczak & Welling 2018).
"""

import os
import platform
import time
from argparse import Namespace
from typing import Any

import numpy as np
import torch
from common import options, table, tell
from skorch.callbacks import Callback
from tables import binarized_mnist

from sklearn_vae import VAETransformer
from sklearn_vae.objectives import IWAE
from sklearn_vae.priors import MixturePrior, VampPrior

N_VALID = 10_000
ROWS_AT_A_TIME = 50


class Clock(Callback):
    """Times at which epochs end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.times.append(time.perf_counter())


def load_rows(n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on, and rows to score."""
    parts = binarized_mnist()
    order = np.random.default_rng(seed).permutation(len(parts["test"]))
    fit_rows = np.concatenate([parts["train"], parts["valid"]])
    return fit_rows.astype(np.float32), parts["test"][order[:n_test]].astype(np.float32)


def build(args: Namespace, clock: Clock, n_rows: int) -> VAETransformer:
    """The estimator that was asked for."""
    priors = {"mixture": MixturePrior, "vamp": VampPrior}
    return VAETransformer(
        50,
        hidden_layer_sizes=(200, 200),
        likelihood="bernoulli",
        prior=priors[args.prior](args.components) if args.prior in priors else args.prior,
        objective=IWAE(args.train_draws) if args.objective == "iwae" else args.objective,
        max_iter=args.epochs,
        batch_size=128,
        early_stopping=True,
        validation_fraction=N_VALID / n_rows,
        refit=False,
        verbose=True,
        callbacks=[clock],
        random_state=0,
    ).set_params(**args.param)


def score(vae: VAETransformer, rows: np.ndarray, n_draws: int) -> np.ndarray:
    """Nats of each row, with a line on standard error now and then."""
    scores: list[np.ndarray] = []
    for first in range(0, len(rows), ROWS_AT_A_TIME):
        scores.append(vae.score_samples(rows[first : first + ROWS_AT_A_TIME], n_draws=n_draws))
        if first // ROWS_AT_A_TIME % 10 == 9:
            done = np.concatenate(scores)
            tell(f"{len(done)} rows: {done.mean():.2f}")
    return np.concatenate(scores)


def main() -> None:
    args = options(
        __doc__,
        prior="normal",
        components=500,
        objective="elbo",
        train_draws=50,
        epochs=100,
        draws=5000,
        test_rows=10_000,
        param={},
    )
    rows, test = load_rows(args.test_rows, 0)
    clock = Clock()
    vae, started = build(args, clock, len(rows)), time.perf_counter()
    vae.fit(rows)
    fit_seconds, started = time.perf_counter() - started, time.perf_counter()
    scores = score(vae, test, args.draws)
    score_seconds = time.perf_counter() - started
    where = f"GPU {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "CPU"
    cells = {
        "epochs": f"{vae.n_iter_}",
        "seconds per epoch": f"{np.median(np.diff(clock.times)):.1f}",
        "fit seconds": f"{fit_seconds:.0f}",
        "validation loss": f"{min(row['val_loss'] for row in vae.history_):.2f}",
        "test rows": f"{len(test)}",
        "draws": f"{args.draws}",
        "test log-likelihood": f"{scores.mean():.2f}",
        "standard error": f"{scores.std() / len(scores) ** 0.5:.2f}",
        "scoring seconds": f"{score_seconds:.0f}",
    }
    title = f"torch {torch.__version__}, {where} ({platform.machine()}, {os.cpu_count()} cores)"
    table(title, [*cells], [[*cells.values()]])


if __name__ == "__main__":
    main()
