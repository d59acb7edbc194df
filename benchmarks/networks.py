"""Networks that know what their columns are, beside a perceptron: images and sequences.

    python benchmarks/networks.py images      # 10,000 rows of binarized MNIST
    python benchmarks/networks.py faces       # Frey's face in 256 greys, dequantized
    python benchmarks/networks.py sequences   # AR(1) and sines of 8 to 24 steps
    python benchmarks/networks.py sentences   # what annealing and word dropout do to the KL

How the pairs of images are made equal:

- Parameters: the perceptron's widths are chosen so that both models have about the same number.
- CPU seconds: the convolutions are trained until their validation loss no longer falls, without a
  second run on all rows. The perceptron stops sooner. It is then fitted again with other seeds
  until it has had as many seconds, and the fit with the best validation loss is taken.
- The figure is the mean of `score_samples` over test rows, in nats, with 128 draws per row. The
  standard error is that of the differences row by row.

Sequences are drawn from a known process, with lengths of their own; those of AR(1) have a density
in closed form, which is shown as well. Sentences are pieces of a poem by William Blake (1794), as
letters; the KL is the sum of `kl_per_dimension` over other pieces of it.
"""

import argparse
import re
import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from tables import DATA

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import kl_per_dimension
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import build
from sklearn_vae.networks import ConvNet, FullyConnected, GRUNet
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


def timed(vae: VAETransformer, X: np.ndarray) -> float:
    """Fit, and say how many CPU seconds it took."""
    started = time.process_time()
    vae.fit(X)
    return time.process_time() - started


def best_loss(vae: VAETransformer) -> float:
    """Lowest validation loss."""
    return min(row["val_loss"] for row in vae.history_ if "val_loss" in row)


def for_as_long(vae: VAETransformer, X: np.ndarray, seconds: float) -> tuple[VAETransformer, float]:
    """Fit with one seed after another until the seconds are spent; the best by validation."""
    spent, best, seed = 0.0, None, 0
    while spent < seconds:
        fitted = VAETransformer(**vae.get_params()).set_params(random_state=seed)
        spent += timed(fitted, X)
        best = fitted if best is None or best_loss(fitted) < best_loss(best) else best
        seed += 1
    return cast(VAETransformer, best), spent


def compare(name: str, vae: VAETransformer, X: np.ndarray, test: np.ndarray) -> None:
    """A network against a perceptron of the same size, for the same time."""
    seconds = timed(vae, X)
    label = "gru" if isinstance(vae.network, GRUNet) else "conv"
    rows = [figures_of(name, label, vae, seconds, test)]
    widths = equal_widths(vae.architecture_)
    mlp = VAETransformer(**vae.get_params()).set_params(network="mlp", hidden_layer_sizes=widths)
    rows.append(figures_of(name, "mlp", *for_as_long(mlp, X, seconds), test))
    gain = rows[0] - rows[1]
    print(
        f"\n{label} is better by {gain.mean():.2f} nats (± {gain.std() / len(gain) ** 0.5:.2f})\n"
    )


def figures_of(
    name: str, label: str, vae: VAETransformer, seconds: float, test: np.ndarray
) -> np.ndarray:
    """Scores of the test rows, and a line on how they came about."""
    scores = vae.score_samples(test, n_draws=DRAWS).astype(float)
    print(
        f"| {name} | {label} | {size_of(vae.architecture_)} | {seconds:.0f} | {vae.n_iter_} "
        f"| {best_loss(vae):.2f} | {scores.mean():.2f} |",
        flush=True,
    )
    return scores


HEAD = (
    "| rows | network | parameters | CPU seconds | iterations | validation loss | test nats |\n"
    "|---|---|---|---|---|---|---|"
)


def images(options: argparse.Namespace) -> None:
    with np.load(DATA / "images" / "binarized_mnist.npz") as file:
        X, test = (np.unpackbits(file[part], axis=1) for part in ("train", "test"))
    rng = np.random.default_rng(options.seed)
    X = X[rng.permutation(len(X))[: options.rows]].astype(np.float32)
    test = test[rng.permutation(len(test))[:N_TEST]].astype(np.float32)
    print(HEAD)
    compare("MNIST", make_vae(options, n_components=20, likelihood="bernoulli"), X, test)


def faces(options: argparse.Namespace) -> None:
    with np.load(DATA / "images" / "freyfaces.npz") as file:
        (greys,) = (file[name] for name in file.files[:1])
    rng = np.random.default_rng(options.seed)
    X = greys.reshape(-1, 28 * 20).astype(np.float64)
    X = ((X + rng.uniform(size=X.shape)) / 256).astype(np.float32)
    order = rng.permutation(len(X))
    network = ConvNet(image_shape=(28, 20), channels=(16, 32))
    print(HEAD)
    compare(
        "faces", make_vae(options, n_components=20, network=network), X[order[400:]], X[order[:400]]
    )


def sequences(options: argparse.Namespace) -> None:
    rng = np.random.default_rng(options.seed)
    print(HEAD)
    for name, draw in (("AR(1)", autoregression), ("sines", sines)):
        X, test = (ended(draw(rng, n), rng).astype(np.float32) for n in (2_000, N_TEST))
        network = GRUNet(sequence_shape=(N_STEPS, 1), n_units=48)
        vae = make_vae(options, n_components=4, network=network).set_params(max_iter=40)
        compare(name, vae, X, test)
        if name == "AR(1)":
            print(f"exact: {log_autoregression(test).mean():.2f}\n")


VERSE = """
Tyger Tyger, burning bright, In the forests of the night; What immortal hand or eye, Could frame thy
fearful symmetry? In what distant deeps or skies. Burnt the fire of thine eyes? On what wings dare
he aspire? What the hand, dare seize the fire? And what shoulder, & what art, Could twist the sinews
of thy heart? And when thy heart began to beat. What dread hand? & what dread feet? What the hammer?
what the chain, In what furnace was thy brain? What the anvil? what dread grasp. Dare its deadly
terrors clasp? When the stars threw down their spears And water'd heaven with their tears: Did he
smile his work to see? Did he who made the Lamb make thee?
"""


def sentences(options: argparse.Namespace) -> None:
    text, length = re.sub("[^a-z]+", " ", VERSE.lower()), 16
    rng = np.random.default_rng(options.seed)
    begins = rng.integers(len(text) - length, size=2_000)
    letters = np.array([list(text[begin : begin + length]) for begin in begins], dtype=object)
    X, test = letters[:1_500], letters[1_500:]
    ways = {
        "neither": (0.0, 1.0),
        "annealing": (0.0, LinearWarmup(n_iter=20)),
        "word dropout": (0.6, 1.0),
        "both": (0.6, LinearWarmup(n_iter=20)),
    }
    print("| | CPU seconds | KL of other pieces | test nats |\n|---|---|---|---|")
    for name, (dropout, beta) in ways.items():
        network = GRUNet(n_units=64, word_dropout=dropout)
        vae = make_vae(
            options, n_components=2, network=network, hidden_layer_sizes=(32,), beta=beta
        )
        vae.set_params(max_iter=30, learning_rate=5e-3)
        seconds = timed(vae, X)
        kl = kl_per_dimension(vae, test).sum()
        print(f"| {name} | {seconds:.0f} | {kl:.2f} | {vae.score(test):.2f} |", flush=True)


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


def make_vae(options: argparse.Namespace, **params: Any) -> VAETransformer:
    return VAETransformer(
        **{"network": "conv", "hidden_layer_sizes": (64,), **params},
        max_iter=options.iterations,
        early_stopping=True,
        refit=False,
        random_state=options.seed,
    )


PARTS = {"images": images, "faces": faces, "sequences": sequences, "sentences": sentences}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--rows", type=int, default=10_000, help="of MNIST")
    parser.add_argument("--iterations", type=int, default=150, help="at the most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    PARTS[options.part](options)


if __name__ == "__main__":
    main()
