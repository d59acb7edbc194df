"""Epistemic uncertainty of scores by posteriors over weights: none, a deep ensemble, the bootstrap,
or a Laplace approximation of the decoder's last layer.

    python benchmarks/bayesian.py                   # a known density, four tables, seeds 0,1,2

On a density that is known (three columns, x2 and x3 curved functions of x1), 300 training rows:
nats per row on fresh rows, and how well a row's epistemic part ranks the rows by the true error of
the score, |log p - score|, on rows that are spread wider than the training rows (Spearman's
correlation). On real tables (those of density.py): nats per row on test rows.

    single      one model, VAETransformer at its defaults
    starts      five starts, n_init=5 and ensemble=True
    resampled   five models, each of rows drawn with replacement (by sample_weight)
    last layer  five draws of the last layer and the linear path of the decoder of the single
                model, from a normal distribution with the diagonal empirical Fisher information
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from density import print_table
from scipy import stats
from scipy.special import logsumexp
from tables import Dataset, load_tables, split
from threadpoolctl import threadpool_limits

TABLES = "wine,breast_cancer,diabetes,red_wine"
N_MEMBERS = 5
N_DRAWS = 64
KNOWN = "known density"
N_ROWS, N_FRESH, SPREAD = 300, 2000, 1.5
PRIOR_PRECISION = 1.0


def curved(n: int, seed: int, width: float = 1.0) -> np.ndarray:
    """Rows of the known density, or rows that are spread ``width`` times as wide."""
    rng = np.random.default_rng(seed)
    first = width * rng.normal(size=n)
    rows = np.stack([first, first**2, np.sin(2 * first)], axis=1)
    rows[:, 1:] += 0.3 * width * rng.normal(size=(n, 2))
    return rows


def log_p(X: np.ndarray) -> np.ndarray:
    """The known density, in nats."""
    first, *others = X.T
    curves = first**2, np.sin(2 * first)
    parts = [stats.norm(loc, 0.3).logpdf(x) for loc, x in zip(curves, others, strict=True)]
    return stats.norm.logpdf(first) + sum(parts)


def single(X: np.ndarray, seed: int) -> list[Any]:
    from sklearn_vae import VAETransformer

    return [VAETransformer(random_state=seed).fit(X)]


def starts(X: np.ndarray, seed: int) -> list[Any]:
    from sklearn_vae import VAETransformer

    return [VAETransformer(random_state=seed, n_init=N_MEMBERS, ensemble=True).fit(X)]


def resampled(X: np.ndarray, seed: int) -> list[Any]:
    from sklearn_vae import VAETransformer

    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(X), np.full(len(X), 1 / len(X)), size=N_MEMBERS)
    return [
        VAETransformer(random_state=seed + k).fit(X, sample_weight=sample_weight)
        for k, sample_weight in enumerate(weights.astype(float))
    ]


def last_layer(X: np.ndarray, seed: int) -> list[Any]:
    (vae,) = single(X, seed)
    model = vae.module_.requires_grad_(True)
    params = [model.decoder.last, model.decoder.linear.weight, model.decoder.linear.bias]
    x = torch.as_tensor(vae.columns_.transform(X))[None]
    generator = torch.Generator().manual_seed(seed)
    shape = 1, 1, len(X), vae.architecture_.n_components
    noise = torch.randn(shape, generator=generator, dtype=x.dtype)
    squares = [torch.zeros_like(param) for param in params]
    for row in range(len(X)):  # the empirical Fisher information, row by row
        log_prob, kl, _ = model.elbo_terms(x[:, [row]], noise[:, :, [row]])
        gradient = torch.autograd.grad((log_prob - kl.sum(-1)).sum(), params)
        squares = [square + grad.square() for square, grad in zip(squares, gradient, strict=True)]
    names = ["decoder.last", "decoder.linear.weight", "decoder.linear.bias"]
    rng = np.random.default_rng(seed)
    weights = {name: np.repeat(array, N_MEMBERS, axis=0) for name, array in vae.state_dict_.items()}
    for name, square in zip(names, squares, strict=True):
        spread = 1 / np.sqrt(square.numpy() + PRIOR_PRECISION)
        weights[name] = weights[name] + spread * rng.normal(size=weights[name].shape)
    vae.state_dict_ = weights
    return [vae]


def members_of(models: list[Any], X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all members, and of them together: (n_members, n), (n,)."""
    scores = np.concatenate(
        [model._predictor().log_density_per_member(X, N_DRAWS) for model in models]
    )
    return scores, logsumexp(scores, axis=0) - np.log(len(scores))


KINDS = {"single": single, "starts": starts, "resampled": resampled, "last layer": last_layer}


def on_known_density(seed: int) -> Iterator[dict[str, Any]]:
    """Nats on fresh rows, and how the epistemic part ranks rows by the score's error."""
    X, fresh = curved(N_ROWS, seed), curved(N_FRESH, 100 + seed)
    spread = curved(N_FRESH, 200 + seed, SPREAD)
    record = {"table": KNOWN, "seed": seed}
    yield {**record, "kind": "truth", "nats": log_p(fresh).mean()}
    for name, fit in KINDS.items():
        begin = time.process_time()
        models = fit(X, seed)
        seconds = time.process_time() - begin
        scores, together = members_of(models, spread)
        epistemic, error = together - scores.mean(axis=0), np.abs(log_p(spread) - together)
        rank = stats.spearmanr(epistemic, error)[0] if len(scores) > 1 else np.nan
        nats = members_of(models, fresh)[1].mean()
        yield {**record, "kind": name, "nats": nats, "rank": rank, "seconds": seconds}


def on_table(table: Dataset, seed: int) -> Iterator[dict[str, Any]]:
    """Nats on test rows."""
    train, test = split(table.X, seed)
    for name, fit in KINDS.items():
        begin = time.process_time()
        models = fit(train, seed)
        seconds = time.process_time() - begin
        nats = members_of(models, test)[1].mean()
        yield {"table": table.name, "seed": seed, "kind": name, "nats": nats, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Posteriors over weights, compared.")
    parser.add_argument("--tables", default=TABLES, help="names with commas between: %(default)s")
    parser.add_argument("--seeds", default="0,1,2", help="seeds: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    with threadpool_limits(1):
        show([record for seed in seeds for record in on_known_density(seed)])
        for table in load_tables(args.tables.split(",")):
            show([record for seed in seeds for record in on_table(table, seed)])


def show(records: list[dict[str, Any]]) -> None:
    """Print means over seeds, a line per kind."""
    frame = pd.DataFrame(records)
    means = frame.groupby("kind", sort=False).mean(numeric_only=True).drop(columns="seed").round(2)
    text = means.map(lambda value: "" if np.isnan(value) else f"{value:.2f}")
    print_table(str(frame["table"][0]), text)


if __name__ == "__main__":
    main()
