"""Disentanglement of independent factors, by beta alone and by a total-correlation penalty.

    python benchmarks/disentanglement.py           # three seeds, under six minutes of one core
    python benchmarks/disentanglement.py --quick   # one seed, two values of each

How each figure is obtained:

- Rows are images of 8 x 8 pixels: one round spot whose place (x, y), size and intensity are four
  independent uniform numbers, plus noise. 1,500 are learned from, 2,000 others are asked about.
- `VAETransformer` with six latent dimensions and a fixed number of iterations learns them: with
  `objective="elbo"` and several values of `beta`, and with `TotalCorrelation` of several weights at
  `beta=1`. A seed decides rows, weights and noise; both objectives see the same.
- R² is that of the reconstruction of held-out rows; KL the mean KL of q(z|x) from the prior in
  nats; MIG is `mutual_information_gap` of the mean codes, D, C and I are those of
  `disentanglement_scores`.
- The judge: boosted trees are to tell mean codes from mean codes whose dimensions were shuffled,
  each on its own. Its AUC on other rows is 0.5 where dimensions are independent.
- "At equal reconstruction": the figures of a weight minus beta's on the line between the two values
  of beta whose R² lies around, seed by seed. A weight whose R² lies outside of what the values of
  beta reach is left out.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import (
    disentanglement_scores,
    kl_per_dimension,
    mutual_information_gap,
)
from sklearn_vae.objectives import TotalCorrelation

SIDE = 8
N_TRAIN, N_TEST = 1500, 2000
NOISE = 0.05
BETAS = (1.0, 2.0, 4.0, 8.0, 16.0)
WEIGHTS = (1.0, 3.0, 10.0, 30.0)
FIGURES = ("R²", "judge", "KL", "MIG", "D", "C", "I")
SETTINGS = {"n_components": 6, "hidden_layer_sizes": (64, 64), "early_stopping": False}


def spots(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, SIDE²) and the four numbers that each was made of (n, 4)."""
    rng = np.random.default_rng(seed)
    factors = rng.uniform(size=(n, 4))
    x, y, size, intensity = factors.T[:, :, None, None]
    row, column = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    squared = (column - 0.2 - 0.6 * x) ** 2 + (row - 0.2 - 0.6 * y) ** 2
    images = (0.5 + intensity) * np.exp(-0.5 * squared / (0.1 + 0.12 * size) ** 2)
    return images.reshape(n, -1) + NOISE * rng.normal(size=(n, SIDE**2)), factors


def measure(vae: VAETransformer, X: np.ndarray, factors: np.ndarray) -> dict[str, float]:
    """Figures of a fitted model on held-out rows."""
    Z = vae.transform(X)
    left = ((X - vae.inverse_transform(Z)) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum()
    scores = disentanglement_scores(Z, factors)
    gap, kl = mutual_information_gap(Z, factors), kl_per_dimension(vae, X).sum()
    numbers = [1 - left, judged(Z), kl, gap]
    return dict(zip(FIGURES, [*numbers, *scores[:3]], strict=True))


def judged(Z: np.ndarray) -> float:
    """AUC of a classifier that separates codes from codes with permuted dimensions."""
    shuffled = np.random.default_rng(0).permuted(Z, axis=0)
    half = len(Z) // 2
    halves = [(np.vstack([Z[part], shuffled[part]])) for part in (slice(half), slice(half, None))]
    is_real = np.repeat([1, 0], half)
    judge = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(halves[0], is_real)
    return roc_auc_score(is_real, judge.predict_proba(halves[1])[:, 1])


def at_equal_reconstruction(records: pd.DataFrame) -> pd.DataFrame:
    """For each weight and seed, its figures minus beta's at the same R²."""
    rows = []
    for seed, group in records.groupby("seed"):
        by_beta = group[group["objective"] == "elbo"].sort_values("R²")
        for _, one in group[group["objective"] == "tc"].iterrows():
            if not by_beta["R²"].iloc[0] <= one["R²"] <= by_beta["R²"].iloc[-1]:
                continue
            row = {"weight": one["setting"], "seed": seed, "R²": one["R²"]}
            for name in FIGURES[1:]:
                row[name] = one[name] - np.interp(one["R²"], by_beta["R²"], by_beta[name])
            rows.append(row)
    return pd.DataFrame(rows)


def print_table(table: pd.DataFrame) -> None:
    """Print a table as markdown."""
    print("| " + " | ".join(table.columns) + " |")
    print("| " + " | ".join("---" for _ in table.columns) + " |")
    for _, row in table.iterrows():
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def summary(records: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean ± standard deviation over the seeds."""
    rows = []
    for keys, group in records.groupby(by, sort=False):
        means = {
            name: f"{group[name].mean():.3f} ± {group[name].std(ddof=0):.3f}"
            for name in group.columns
            if name not in (*by, "seed", "seconds")
        }
        rows.append({**dict(zip(by, keys, strict=True)), "seeds": len(group), **means})
    return pd.DataFrame(rows)


def run(seeds: list[int], betas: tuple[float, ...], weights: tuple[float, ...], max_iter: int):
    """Fit and measure everything."""
    fits: list[tuple[str, float, Callable[[], dict]]] = [
        *(("elbo", beta, lambda beta=beta: {"beta": beta}) for beta in betas),
        *(
            ("tc", weight, lambda weight=weight: {"objective": TotalCorrelation(weight)})
            for weight in weights
        ),
    ]
    rows = []
    for seed in seeds:
        (X, _), (held_out, factors) = spots(N_TRAIN, 2 * seed), spots(N_TEST, 2 * seed + 1)
        for objective, setting, parameters in fits:
            vae = VAETransformer(**SETTINGS, max_iter=max_iter, random_state=seed, **parameters())
            start = time.process_time()
            vae.fit(X)
            seconds = time.process_time() - start
            figures = measure(vae, held_out, factors)
            where = {"objective": objective, "setting": setting, "seed": seed, "seconds": seconds}
            rows.append({**where, **figures})
    return pd.DataFrame(rows)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--max-iter", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="one seed, two values of each")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    chosen = slice(0, None, 3) if args.quick else slice(None)
    start = time.process_time()
    with threadpool_limits(1):
        records = run(
            seeds[:1] if args.quick else seeds, BETAS[chosen], WEIGHTS[chosen], args.max_iter
        )
    print_table(summary(records, ["objective", "setting"]))
    print("At equal reconstruction, by total correlation minus by beta:\n")
    print_table(summary(at_equal_reconstruction(records), ["weight"]))
    per_fit = records.groupby("objective")["seconds"].mean()
    print(f"CPU seconds per fit: {per_fit['elbo']:.1f} (elbo), {per_fit['tc']:.1f} (tc); ")
    print(f"of everything: {time.process_time() - start:.0f}")


if __name__ == "__main__":
    main()
