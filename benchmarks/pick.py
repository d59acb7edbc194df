"""Regret of a grid search by `score`: the selected candidate and the best one on test rows.

    python benchmarks/pick.py                       # five tables, seeds 0,1,2
    python benchmarks/pick.py --tables wine --seeds 0

Rows and splits are those of density.py. VAESearchCV searches n_components × beta by `score` on
the training rows, in five folds; then every candidate is fitted to all training rows and scored
on the test rows, in nats. "Lost" is the best candidate's figure there minus that of the one that
was picked: nobody could have known the best beforehand. "Halving lost" is the same for successive
halving, and "times faster" the CPU time of the whole search over its own.
"""

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from density import print_table, summary
from sklearn.base import clone
from sklearn.model_selection import KFold, ParameterGrid
from tables import load_tables, split
from threadpoolctl import threadpool_limits

TABLES = "wine,breast_cancer,diabetes,red_wine,banknote"
GRID = {"n_components": [2, 4, 8], "beta": [0.5, 1.0, 2.0]}
HALVING = 3  # factor of successive halving


def regret(X: np.ndarray, seed: int) -> dict[str, float]:
    """Nats of the picked candidate and of the best one on the test rows of one split."""
    from sklearn_vae import VAETransformer
    from sklearn_vae.model_selection import VAESearchCV

    train, test = split(X, seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    search = VAESearchCV(VAETransformer(random_state=seed), GRID, cv=folds, refit=False)
    picked, seconds = pick(search, train)
    halved, halving_seconds = pick(search.set_params(factor=HALVING), train)
    nats = {
        tuple(sorted(params.items())): clone(search.estimator)
        .set_params(**params)
        .fit(train)
        .score(test)
        for params in ParameterGrid(GRID)
    }
    best, worst, chosen = max(nats.values()), min(nats.values()), nats[picked]
    return {
        "picked": chosen, "best": best, "lost": best - chosen, "worst": worst,
        "halving lost": best - nats[halved], "search s": seconds,
        "times faster": seconds / halving_seconds,
    }  # fmt: skip


def pick(search: Any, X: np.ndarray) -> tuple[tuple[tuple[str, Any], ...], float]:
    """The best candidate of a search, and the search's CPU seconds."""
    start = time.process_time()
    params = search.fit(X).best_params_
    return tuple(sorted(params.items())), time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="What a grid search by score loses, in nats.")
    parser.add_argument("--tables", default=TABLES, help="names with commas between: %(default)s")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of the splits: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        records = [
            {"table": table.name, "seed": seed, **regret(table.X, seed)}
            for table in load_tables(args.tables.split(","))
            for seed in map(int, args.seeds.split(","))
        ]
    frame = pd.DataFrame(records).set_index(["table", "seed"])
    print_table("held-out nats", summary(frame))


if __name__ == "__main__":
    main()
