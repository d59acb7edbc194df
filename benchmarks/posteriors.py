"""Densities and clusterings with other posteriors than the diagonal Gaussian.

    python benchmarks/posteriors.py                    # both questions
    python benchmarks/posteriors.py --part density --tables banknote --seeds 0
    python benchmarks/posteriors.py --part digits --n-rows 4000 --seeds 0

Density: how tight is the bound, and how good the density?

- Rows come from tables.py, and `ring` and `banana`, 1,500 rows made here about a curve in the
  plane, of which no exact posterior has independent dimensions. Rows are split 80/20 by seed.
- `VAETransformer` with n_components=2 (or another number), max_iter=40 and otherwise its defaults,
  with the split's seed as `random_state`, once with each posterior on the same rows.
- Score: mean of `score_samples` over the test rows with 1,024 draws, in nats. Gap: the score minus
  the evidence lower bound on the same rows with 256 draws, which is the KL of q(z|x) from p(z|x)
  but for what the score still lacks. CPU seconds: of the fit.

Digits: are classes found, without labels?

- Rows are drawn by seed from the training images of mnist.npz, in the folder that tables.py names;
  a pixel is 1 if it is brighter than 127.
- k-means: scikit-learn's, ten clusters, ten starts, on the grey pixels and on the binary ones.
- `VAETransformer` with Bernoulli columns, max_iter=40, refit=False and otherwise its defaults, with
  ten classes, and with ten classes and so many numbers beside them. A row's cluster is its
  likeliest class.
- ARI: adjusted Rand index against the digits' labels, over all rows of the fit. No label is seen by
  any of them. The number of numbers was not chosen by anything: all that were tried are shown.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from tables import DATA, load_tables, split

from sklearn_vae import VAETransformer
from sklearn_vae.posteriors import GaussianCategorical

POSTERIORS = ("gaussian", "full")
TABLES = "wine,banknote"
N_CLASSES = 10


def ring() -> np.ndarray:
    """Rows about a circle."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 1500)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    return 2 * circle + 0.25 * rng.normal(size=(1500, 2))


def banana() -> np.ndarray:
    """Rows about a parabola."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=1500)
    return np.column_stack([x, x**2]) + 0.3 * rng.normal(size=(1500, 2))


CURVES = {"ring": ring, "banana": banana}


def timed(fit: Callable[[], VAETransformer]) -> tuple[VAETransformer, float]:
    started = time.process_time()
    return fit(), time.process_time() - started


def density(X: np.ndarray, posterior: str, seed: int, size: int) -> tuple[float, float, float]:
    """Held-out score, gap of the bound, seconds."""
    train, test = split(X, seed)
    vae = VAETransformer(size, posterior=posterior, max_iter=40, random_state=seed)
    vae, seconds = timed(lambda: vae.fit(train))
    score = vae.score_samples(test, n_draws=1024).mean()
    log_prob, kl = vae._predictor().elbo_terms(test, 256)
    return float(score), float(score - (log_prob - kl).mean()), seconds


def compare_densities(names: list[str], seeds: list[int], size: int) -> None:
    tables = [(name, CURVES[name]()) for name in names if name in CURVES]
    tables += [
        (table.name, table.X) for table in load_tables([n for n in names if n not in CURVES])
    ]
    titles = [f"{name}: {what}" for what in ("score", "gap", "CPU s") for name in POSTERIORS]
    print(f"| n_components={size} | " + " | ".join(titles) + " |")
    print("| " + " | ".join(["---"] * (1 + len(titles))) + " |")
    for name, X in tables:
        scores = np.array([[density(X, q, seed, size) for q in POSTERIORS] for seed in seeds])
        mean, spread = scores.mean(axis=0), scores.std(axis=0, ddof=min(len(seeds) - 1, 1))
        beside = (scores[..., 0] - scores[:, :1, 0]).mean(axis=0)
        scores = [f"{m:.2f} ± {s:.2f}" for m, s in zip(mean[:, 0], spread[:, 0], strict=True)]
        scores[1:] = [f"{s} ({b:+.2f})" for s, b in zip(scores[1:], beside[1:], strict=True)]
        gaps = [f"{gap:.2f}" for gap in mean[:, 1]]
        print(f"| {name} | " + " | ".join([*scores, *gaps, *(f"{s:.0f}" for s in mean[:, 2])]), "|")
        sys.stdout.flush()


def digits(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    path = DATA / "images" / "mnist.npz"
    if not path.exists():
        sys.exit(f"{path} is missing; the environment variable SKLEARN_VAE_DATA names its folder.")
    with np.load(path) as file:
        chosen = np.random.default_rng(seed).permutation(len(file["x_train"]))[:n_rows]
        return file["x_train"][chosen].reshape(len(chosen), -1), file["y_train"][chosen]


def cluster(rows: np.ndarray, n_numbers: int, seed: int) -> tuple[np.ndarray, float]:
    """Likeliest class of each row, and seconds."""
    posterior = GaussianCategorical(N_CLASSES) if n_numbers else "categorical"
    vae = VAETransformer(
        N_CLASSES + n_numbers,
        posterior=posterior,
        likelihood="bernoulli",
        max_iter=40,
        refit=False,
        random_state=seed,
    )
    vae, seconds = timed(lambda: vae.fit(rows))
    return vae.transform(rows)[:, :N_CLASSES].argmax(axis=1), seconds


def compare_clusters(n_rows: int, seeds: list[int], numbers: list[int]) -> None:
    titles = ["k-means, grey", "k-means, binary", "10 classes"]
    titles += [f"10 classes, numbers: {n}" for n in numbers]
    print("| ARI | " + " | ".join(titles) + " |")
    print("| " + " | ".join(["---"] * (1 + len(titles))) + " |")
    scores, seconds = [], []
    for seed in seeds:
        grey, digit = digits(n_rows, seed)
        bits = (grey > 127).astype(np.float32)
        row = []
        for rows in (grey / 255.0, bits):
            labels = KMeans(N_CLASSES, n_init=10, random_state=seed).fit_predict(rows)
            row.append(adjusted_rand_score(digit, labels))
        for n in (0, *numbers):
            labels, took = cluster(bits, n, seed)
            row.append(adjusted_rand_score(digit, labels))
            seconds.append(took)
        print(f"| seed {seed} | " + " | ".join(f"{ari:.3f}" for ari in row) + " |", flush=True)
        scores.append(row)
    print("| mean | " + " | ".join(f"{ari:.3f}" for ari in np.mean(scores, axis=0)) + " |")
    print(f"\n{n_rows} rows; CPU seconds of a fit {min(seconds):.0f} to {max(seconds):.0f}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=["density", "digits", "both"], default="both")
    parser.add_argument("--tables", default=f"{','.join(CURVES)},{TABLES}")
    parser.add_argument("--n-components", type=int, default=2, help="density")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--n-rows", type=int, default=10_000, help="digits")
    parser.add_argument("--numbers", default="1,2,3,4", help="beside the classes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in options.seeds.split(",")]

    print(f"    {shlex.join(['python', *sys.argv])}\n")
    if options.part != "digits":
        compare_densities(options.tables.split(","), seeds, options.n_components)
        print()
    if options.part != "density":
        compare_clusters(options.n_rows, seeds, [int(n) for n in options.numbers.split(",")])


if __name__ == "__main__":
    main()
