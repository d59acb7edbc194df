"""CPU time of default fits and predictions from commit to commit, in `history.json`.

    python benchmarks/history.py                        # measure this commit and print it
    python benchmarks/history.py --add                  # and add it to the record

How each figure is obtained:

- Everything is at its defaults, on rows that scikit-learn has or that are drawn by a seed. Of fits,
  the mean log p(x) of rows that the fit did not see is recorded too, so that speed which is bought
  with quality is seen.
- A time is that of the call over that of a reference, 1,000 products of two 256 × 256 matrices by
  numpy, in the same round on one thread; the record has the median over the rounds. So records
  of one kind of processor can be compared.
- An earlier commit is measured by this file with ``PYTHONPATH`` set to its checkout.
"""

import json
import subprocess
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import HERE, alternate, options, print_frame, timed
from sklearn.datasets import load_wine
from tables import LABELLED

import sklearn_vae
from sklearn_vae.model_selection import VAESearchCV

RECORD = HERE / "history.json"


def bent(n_rows: int, seed: int) -> np.ndarray:
    """Rows of 20 columns around a curved surface of five dimensions."""
    weight = np.random.default_rng(0).normal(size=(5, 20))
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n_rows, 5))
    return np.tanh(z @ weight) + 0.3 * rng.normal(size=(n_rows, 20))


def mixed() -> pd.DataFrame:
    """Wine with its cultivar, a column of classes, a count, and a tenth of the cells missing."""
    wine = load_wine(as_frame=True)
    frame = wine.data.assign(
        cultivar=wine.target.map({0: "a", 1: "b", 2: "c"}),
        proline=wine.data["proline"].round(),
        colour=pd.cut(wine.data["hue"], 4, labels=["w", "x", "y", "z"]).astype(str),
    )
    return frame.mask(np.random.default_rng(0).random(frame.shape) < 0.1)


def runs() -> dict[str, Callable[[], tuple[float, float | None]]]:
    """Return the runs, each of which returns CPU seconds and nats of held-out rows, if any."""
    rows, others = bent(1_000, 1), bent(20_000, 2)
    tables = {
        **{name: LABELLED[name]()[0] for name in ("wine", "breast_cancer", "digits")},
        "1000x20": rows,
        "mixed": mixed(),
    }
    grid = {"n_components": [2, 4, 8], "beta": [0.5, 1.0, 2.0]}
    vae = partial(sklearn_vae.VAETransformer, random_state=0)
    search = partial(VAESearchCV, cv=3)
    detector = partial(sklearn_vae.VAEOutlierDetector, random_state=0)
    density = partial(sklearn_vae.VAEDensity, random_state=0)
    incomplete = np.where(np.random.default_rng(0).random(rows.shape) < 0.2, np.nan, rows)
    fitted, fitted_density = vae().fit(rows), density().fit(rows)

    def fit(make: Callable[[], Any], X: Any) -> tuple[float, float | None]:
        order = np.random.default_rng(0).permutation(len(X))
        train, test = (
            X.iloc[part] if isinstance(X, pd.DataFrame) else X[part]
            for part in np.split(order, [int(0.8 * len(X))])
        )
        seconds, model = timed(lambda: make().fit(train))
        return seconds, float(model.score(test)) if hasattr(model, "score") else None

    def predict(method: Callable[[np.ndarray], Any], X: np.ndarray) -> tuple[float, None]:
        return timed(lambda: method(X))[0], None

    return {
        **{name: partial(fit, vae, X) for name, X in tables.items()},
        "density": partial(fit, density, rows),
        "detector": partial(fit, detector, rows),
        "detector, novelty": partial(fit, partial(detector, novelty=True), rows),
        "imputer": partial(fit, partial(sklearn_vae.VAEImputer, random_state=0), incomplete),
        "search": partial(fit, lambda: search(vae(), grid), tables["wine"]),
        "transform": partial(predict, fitted.transform, others),
        "score_samples": partial(predict, fitted.score_samples, others),
        "score_samples of the density": partial(
            predict, fitted_density.score_samples, others[:1_000]
        ),
    }


def reference() -> tuple[float, None]:
    """CPU seconds of 1,000 matrix products."""
    a = np.ones((256, 256), dtype=np.float32)
    return timed(lambda: [a @ a for _ in range(1_000)])[0], None


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Median times in units of the reference, and held-out nats."""
    found = alternate({"reference": reference, **runs()}, rounds)
    unit = [seconds for seconds, _ in found.pop("reference")]
    times, nats = {}, {}
    for name, results in found.items():
        seconds, scores = zip(*results, strict=True)
        times[name] = round(float(np.median(np.divide(seconds, unit))), 3)
        if scores[0] is not None:
            nats[name] = round(scores[0], 3)
    return {"times": times, "nats": nats}


def git(*args: str) -> str:
    """Return what git prints of the checkout that the package is imported from."""
    home = Path(sklearn_vae.__file__).parent
    return subprocess.check_output(["git", *args], cwd=home, text=True).strip()


def main() -> None:
    args = options(__doc__, rounds=3, add=False)
    warnings.simplefilter("ignore")
    found = measure(args.rounds)
    commit, date = git("log", "-1", "--format=%h %cs").split()
    print_frame(f"{commit}, {date}", pd.DataFrame(found), ".3f")
    if args.add:
        record = [old for old in json.loads(RECORD.read_text()) if old["commit"] != commit]
        record.append({"commit": commit, "date": date, **found})
        RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
