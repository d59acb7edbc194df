"""Regret of a grid search by `score`: the selected candidate and the best one on test rows.

    python benchmarks/pick.py                       # five tables, seeds 0,1,2
    python benchmarks/pick.py --tables wine --seeds 0

Rows and splits are those of density.py. VAESearchCV searches n_components × beta by `score` on
the training rows, in five folds; then every candidate is fitted to all training rows and scored
on the test rows, in nats. "Lost" is the best candidate's figure there minus that of the one that
was picked: nobody could have known the best beforehand.
"""

import numpy as np
import pandas as pd
from common import options, print_frame, summary, tell, timed
from sklearn.base import clone
from sklearn.model_selection import KFold, ParameterGrid
from tables import load_tables, split

from sklearn_vae import VAETransformer
from sklearn_vae.model_selection import VAESearchCV

TABLES = ["wine", "breast_cancer", "diabetes", "red_wine", "banknote"]
GRID = {"n_components": [2, 4, 8], "beta": [0.5, 1.0, 2.0]}


def regret(X: np.ndarray, seed: int) -> dict[str, float]:
    """Nats of the picked candidate and of the best one on the test rows of one split."""
    train, test = split(X, seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    search = VAESearchCV(VAETransformer(random_state=seed), GRID, cv=folds, refit=False)
    seconds, _ = timed(lambda: search.fit(train))
    nats = {
        str(params): clone(search.estimator).set_params(**params).fit(train).score(test)
        for params in ParameterGrid(GRID)
    }
    best, chosen = max(nats.values()), nats[str(search.best_params_)]
    return {
        "picked": chosen,
        "best": best,
        "lost": best - chosen,
        "worst": min(nats.values()),
        "search s": seconds,
    }


def main() -> None:
    args = options(__doc__, tables=TABLES, seeds=[0, 1, 2])
    records = []
    for table in load_tables(args.tables):
        for seed in args.seeds:
            records.append({"table": table.name, "seed": seed, **regret(table.X, seed)})
            tell(records[-1])
    print_frame("held-out nats", summary(pd.DataFrame(records).set_index(["table", "seed"])))


if __name__ == "__main__":
    main()
