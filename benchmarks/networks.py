"""Networks that know what their columns are, beside a perceptron: images and sequences.

    python benchmarks/networks.py                     # all parts
    python benchmarks/networks.py --parts images      # 10,000 rows of binarized MNIST
    python benchmarks/networks.py --parts sequences   # AR(1) and sines of 8 to 24 steps
    python benchmarks/networks.py --parts sentences   # annealing, word dropout and the KL

How the pairs are made equal:

- Parameters: the perceptron's widths are chosen so that both models have about the same number.
- CPU seconds: the network is trained until its validation loss no longer falls, without a second
  run on all rows. The perceptron stops sooner. It is then fitted again with other seeds until it
  has had as many seconds, and the fit with the best validation loss is taken.
- The figure is the mean of `score_samples` over test rows, in nats, with 128 draws per row. The
  standard error is that of the differences row by row.

Sequences are drawn from a known process, with lengths of their own; those of AR(1) have a density
in closed form, which is shown as well. Sentences are pieces of a poem by William Blake (1794), as
letters; the KL is the sum of `kl_per_dimension` over other pieces of it.
"""

import re
from argparse import Namespace
from dataclasses import replace
from typing import Any

import numpy as np
from common import options, table, tell, timed
from sklearn.base import clone
from tables import binarized_mnist

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import kl_per_dimension
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.build import build
from sklearn_vae.networks import FullyConnected, GRUNet
from sklearn_vae.objectives import LinearWarmup

DRAWS = 128
N_TEST = 1_000
N_STEPS, SLOPE = 24, 0.8


def size_of(architecture: Architecture) -> int:
    """Numbers that training learns."""
    return sum(parameter.numel() for parameter in build(architecture, 1).parameters())


def equal_widths(other: Architecture) -> tuple[int, ...]:
    """Widths of a perceptron of about as many parameters."""
    sizes = [(width, width // 2) for width in range(16, 513, 8)]
    perceptrons = [
        replace(other, network=FullyConnected(), hidden_layer_sizes=widths) for widths in sizes
    ]
    target = size_of(other)
    apart = [abs(size_of(perceptron) - target) for perceptron in perceptrons]
    return sizes[int(np.argmin(apart))]


def best_loss(vae: VAETransformer) -> float:
    """Lowest validation loss."""
    return min(row["val_loss"] for row in vae.history_ if "val_loss" in row)


def for_as_long(vae: VAETransformer, X: np.ndarray, seconds: float) -> tuple[VAETransformer, float]:
    """Fit with one seed after another until the seconds are spent; the best by validation."""
    spent, fits = 0.0, []
    while spent < seconds:
        fits.append(clone(vae).set_params(random_state=len(fits)))
        spent += timed(lambda: fits[-1].fit(X))[0]
    return min(fits, key=best_loss), spent


def compare(name: str, vae: VAETransformer, X: np.ndarray, test: np.ndarray) -> None:
    """A network against a perceptron of the same size, for the same time."""
    seconds, _ = timed(lambda: vae.fit(X))
    widths = equal_widths(vae.architecture_)
    mlp = clone(vae).set_params(network="mlp", hidden_layer_sizes=widths)
    mlp, mlp_seconds = for_as_long(mlp, X, seconds)
    lines, scores = [], []
    for label, model, spent in (("network", vae, seconds), ("MLP", mlp, mlp_seconds)):
        scores.append(model.score_samples(test, n_draws=DRAWS).astype(float))
        lines.append([label, f"{size_of(model.architecture_)}", f"{spent:.0f}", f"{model.n_iter_}"])
        lines[-1] += [f"{best_loss(model):.2f}", f"{scores[-1].mean():.2f}"]
    header = ["", "parameters", "CPU seconds", "iterations", "validation loss", "test nats"]
    table(name, header, lines)
    gain = scores[0] - scores[1]
    print(f"\nLead: {gain.mean():.2f} nats (± {gain.std() / len(gain) ** 0.5:.2f})")


def images(args: Namespace) -> None:
    parts, rng = binarized_mnist(), np.random.default_rng(0)
    X = parts["train"][rng.permutation(len(parts["train"]))[: args.rows]]
    test = parts["test"][rng.permutation(len(parts["test"]))[:N_TEST]]
    vae = make_vae(args, n_components=20, network="conv", likelihood="bernoulli")
    compare("MNIST", vae, X.astype(np.float32), test.astype(np.float32))


def sequences(args: Namespace) -> None:
    rng = np.random.default_rng(0)
    for name, draw in (("AR(1)", autoregression), ("sines", sines)):
        X, test = (ended(draw(rng, n), rng).astype(np.float32) for n in (2_000, N_TEST))
        network = GRUNet(sequence_shape=(N_STEPS, 1), n_units=48)
        vae = make_vae(args, n_components=4, network=network)
        compare(name, vae.set_params(max_iter=min(args.iterations, 40)), X, test)
        if name == "AR(1)":
            print(f"exact: {log_autoregression(test).mean():.2f}")


VERSE = """
Tyger Tyger, burning bright, In the forests of the night; What immortal hand or eye, Could frame thy
fearful symmetry? In what distant deeps or skies. Burnt the fire of thine eyes? On what wings dare
he aspire? What the hand, dare seize the fire? And what shoulder, & what art, Could twist the sinews
of thy heart? And when thy heart began to beat. What dread hand? & what dread feet? What the hammer?
what the chain, In what furnace was thy brain? What the anvil? what dread grasp. Dare its deadly
terrors clasp? When the stars threw down their spears And water'd heaven with their tears: Did he
smile his work to see? Did he who made the Lamb make thee?
"""


def sentences(args: Namespace) -> None:
    text, length = re.sub("[^a-z]+", " ", VERSE.lower()), 16
    begins = np.random.default_rng(0).integers(len(text) - length, size=2_000)
    letters = np.array([list(text[begin : begin + length]) for begin in begins], dtype=object)
    X, test = letters[:1_500], letters[1_500:]
    ways = {
        "neither": (0.0, 1.0),
        "annealing": (0.0, LinearWarmup(n_iter=20)),
        "word dropout": (0.6, 1.0),
        "both": (0.6, LinearWarmup(n_iter=20)),
    }
    lines = []
    for name, (dropout, beta) in ways.items():
        network = GRUNet(n_units=64, word_dropout=dropout)
        vae = make_vae(args, n_components=2, network=network, hidden_layer_sizes=(32,), beta=beta)
        vae.set_params(max_iter=min(args.iterations, 30), learning_rate=5e-3)
        seconds, _ = timed(lambda vae=vae: vae.fit(X))
        kl = kl_per_dimension(vae, test).sum()
        lines.append([name, f"{seconds:.0f}", f"{kl:.2f}", f"{vae.score(test):.2f}"])
        tell(lines[-1])
    table("Pieces of a poem", ["", "CPU seconds", "KL of other pieces", "test nats"], lines)


def autoregression(rng: np.random.Generator, n: int) -> np.ndarray:
    """Each step is SLOPE times the one before, and new noise."""
    x = rng.normal(size=(n, N_STEPS))
    x[:, 0] /= np.sqrt(1 - SLOPE**2)
    for step in range(1, N_STEPS):
        x[:, step] += SLOPE * x[:, step - 1]
    return x


def log_autoregression(x: np.ndarray) -> np.ndarray:
    """Exact log-density of what is there of each row."""
    first = -0.5 * x[:, :1] ** 2 * (1 - SLOPE**2) + 0.5 * np.log(1 - SLOPE**2)
    later = -0.5 * np.square(x[:, 1:] - SLOPE * x[:, :-1])
    return np.nansum(np.hstack([first, later]) - 0.5 * np.log(2 * np.pi), axis=1)


def sines(rng: np.random.Generator, n: int) -> np.ndarray:
    """Of any phase, of one to three periods, with noise."""
    phase, periods, height = (rng.uniform(*ends, (n, 1)) for ends in ((0, 6.3), (1, 3), (0.5, 2)))
    steps = 2 * np.pi * np.arange(N_STEPS) / N_STEPS
    return height * np.sin(periods * steps + phase) + 0.2 * rng.normal(size=(n, N_STEPS))


def ended(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut rows after a third of their steps at the least."""
    lengths = rng.integers(N_STEPS // 3, N_STEPS + 1, (len(x), 1))
    return np.where(np.arange(N_STEPS) < lengths, x, np.nan)


def make_vae(args: Namespace, **params: Any) -> VAETransformer:
    vae = VAETransformer(hidden_layer_sizes=(64,), early_stopping=True, refit=False, random_state=0)
    return vae.set_params(max_iter=args.iterations, **params)


PARTS = {part.__name__: part for part in (images, sequences, sentences)}


def main() -> None:
    args = options(__doc__, parts=[*PARTS], rows=10_000, iterations=150)
    for part in args.parts:
        PARTS[part](args)


if __name__ == "__main__":
    main()
