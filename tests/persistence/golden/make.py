"""Write the golden files of the present format that are missing.

    python tests/persistence/golden/make.py

A file that is here is never written again: that it can be read for ever is what is tested.
"""

import json
from pathlib import Path

import numpy as np

from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer, imputation
from sklearn_vae.estimators.averaging import AverageFitter
from sklearn_vae.objectives import LinearWarmup
from sklearn_vae.persistence.file_format import VERSION
from sklearn_vae.priors import MixturePrior

HERE = Path(__file__).parent


def rows():
    """Two real columns, a binary one and a constant one: (60, 4)."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4))
    X[:, 2], X[:, 3] = X[:, 2] > 0, 7.0
    return X


def incomplete():
    """The same with three classes and missing cells in two columns: (60, 4)."""
    X = rows()
    X[:, 2] = np.digitize(X[:, 0], [-1, 1])
    X[::7, 0], X[3::7, 2] = np.nan, np.nan
    return X


def classes():
    """A class for each row: (60,)."""
    return np.tile(["a", "b", "c"], 20)


def frame():
    """Columns of several kinds with missing cells: (60, 6)."""
    import pandas as pd

    rng = np.random.default_rng(0)
    code = rng.normal(size=60)
    X = pd.DataFrame(
        {
            "real": code + rng.normal(size=60) / 2,
            "count": rng.poisson(np.exp(code)),
            "colour": pd.Categorical(np.array(["red", "green", "blue"])[rng.integers(0, 3, 60)]),
            "size": pd.Categorical.from_codes((code + 1).clip(0, 2).astype(int), list("sml"), True),
            "yes": rng.random(60) < 0.4,
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 99, 60), "D"),
        }
    )
    for start, name in enumerate(["real", "colour", "size", "when"]):
        X.loc[start : start + 2, name] = None
    return X


MODELS = {
    "transformer": VAETransformer(
        2,
        hidden_layer_sizes=(3,),
        max_iter=3,
        prior=MixturePrior(2),
        beta=LinearWarmup(1.0, 2),
        random_state=0,
    ),
    "conditional": VAETransformer(
        2, hidden_layer_sizes=(3,), max_iter=3, conditional=True, random_state=0
    ),
    "density": VAEDensity(
        1, hidden_layer_sizes=(3,), max_iter=2, mixtures=[(1, "full"), (2, "diag")], random_state=0
    ),
    "detector": VAEOutlierDetector(hidden_layer_sizes=(3,), max_iter=2, random_state=0),
    "novelty": VAEOutlierDetector(
        hidden_layer_sizes=(3,), max_iter=2, novelty=True, random_state=0
    ),
    "mixed": VAEDensity(
        1,
        hidden_layer_sizes=(3,),
        max_iter=2,
        mixtures=[(2, "diag")],
        likelihood={"count": "poisson"},
        random_state=0,
    ),
    "imputer": VAEImputer(
        VAETransformer(
            1, hidden_layer_sizes=(3,), max_iter=2, likelihood={2: "categorical"}, random_state=0
        )
    ),
}
ROWS = {name: {"mixed": frame, "imputer": incomplete}.get(name, rows) for name in MODELS}


def add_parts(imputer, X):
    """Add trees of numbers and classes, as in large tables."""
    imputation.OF_INCOMPLETE_ROWS["max_iter"] = 2
    fitter = AverageFitter(imputer, imputer.estimator_.state_dict_, X, None)
    fitter.is_large = True
    imputer.trees_ = fitter._fit_trees(imputer.estimator_, X, None, np.arange(3))
    imputer.trees_weight_ = 0.5


def answers(model, X):
    """Scores of rows, or the rows that an imputer makes."""
    return (model.transform if isinstance(model, VAEImputer) else model.score_samples)(X)


if __name__ == "__main__":
    scores = HERE / f"scores-{VERSION}.json"
    expected = json.loads(scores.read_text()) if scores.exists() else {}
    for name in MODELS.keys() - expected.keys():
        X = ROWS[name]()
        model = MODELS[name].fit(X, classes())  # of the conditional one
        if name == "imputer":
            add_parts(model, X)
        model.save(HERE / f"{name}-{VERSION}.vae")
        expected[name] = answers(model, X[:5]).tolist()
    scores.write_text(json.dumps(expected, indent=1) + "\n")
