"""Write the golden files of the present format, for a format that has none yet.

    python tests/persistence/golden/make.py

A file that is here is never written again: that it can be read for ever is what is tested.
"""

import json
from pathlib import Path

import numpy as np

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
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


MODELS = {
    "transformer": VAETransformer(
        2,
        hidden_layer_sizes=(3,),
        max_iter=3,
        prior=MixturePrior(2),
        beta=LinearWarmup(1.0, 2),
        random_state=0,
    ),
    "density": VAEDensity(
        1, hidden_layer_sizes=(3,), max_iter=2, mixtures=[(1, "full"), (2, "diag")], random_state=0
    ),
    "detector": VAEOutlierDetector(hidden_layer_sizes=(3,), max_iter=2, n_init=1, random_state=0),
    "novelty": VAEOutlierDetector(
        hidden_layer_sizes=(3,), max_iter=2, n_init=1, novelty=True, random_state=0
    ),
}


if __name__ == "__main__":
    expected = {}
    for name, model in MODELS.items():
        model.fit(rows()).save(HERE / f"{name}-{VERSION}.vae")
        expected[name] = model.score_samples(rows()[:5]).tolist()
    (HERE / f"scores-{VERSION}.json").write_text(json.dumps(expected, indent=1) + "\n")
