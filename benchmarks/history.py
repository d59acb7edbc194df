"""CPU time of default fits and predictions from commit to commit: a record, and its picture.

    python benchmarks/history.py                        # measure this commit and print it
    python benchmarks/history.py --add                  # and add it to history.json
    python benchmarks/history.py --picture speed.png    # draw the record; nothing is measured

How each figure is obtained:

- Everything is at its defaults, on rows that scikit-learn has or that are drawn by a seed. Of fits,
  the mean log p(x) of rows that the fit did not see is recorded too, so that speed which is bought
  with quality is seen.
- A time is that of the call over that of a reference, 1,000 products of two 256 × 256 matrices by
  numpy, in the same round on one thread; the record has the median over the rounds. So records
  of one kind of processor can be compared.
- An earlier commit is measured by this file with ``PYTHONPATH`` set to its checkout.
"""

import argparse
import json
import subprocess
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from parts.measure import alternate, table, timed
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from threadpoolctl import threadpool_limits

import sklearn_vae

RECORD = Path(__file__).with_name("history.json")
# Panels of the picture, and the runs in each with their labels.
PANELS = {
    "fits of VAETransformer, by table": {
        "wine": "wine",
        "breast_cancer": "breast cancer",
        "digits": "digits",
        "1000x20": "1,000 × 20, curved",
        "mixed": "wine, mixed columns",
    },
    "fits of other estimators": {
        "density": "VAEDensity",
        "detector": "VAEOutlierDetector",
        "detector, novelty": "VAEOutlierDetector(novelty=True)",
        "imputer": "VAEImputer",
        "search": "VAESearchCV",
    },
    "predictions": {
        "transform": "VAETransformer.transform",
        "score_samples": "VAETransformer.score_samples",
        "score_samples of the density": "VAEDensity.score_samples",
    },
}


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
        "wine": load_wine().data,
        "breast_cancer": load_breast_cancer().data,
        "digits": load_digits().data,
        "1000x20": rows,
        "mixed": mixed(),
    }
    grid = {"n_components": [2, 4, 8], "beta": [0.5, 1.0, 2.0]}
    vae = partial(sklearn_vae.VAETransformer, random_state=0)
    search = partial(sklearn_vae.model_selection.VAESearchCV, cv=3)
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


def draw(record: list[dict[str, Any]], path: Path) -> None:
    """Draw the times of all commits, one panel for each kind of call."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    times = pd.DataFrame([entry["times"] for entry in record])
    labels = [f"{entry['date'][5:]}\n{entry['commit']}" for entry in record]
    figure, axes = plt.subplots(len(PANELS), 1, figsize=(8.4, 2.7 * len(PANELS)), sharex=True)
    for panel, (title, names) in zip(axes, PANELS.items(), strict=True):
        for name in times[list(names)].iloc[-1].sort_values(ascending=False).index:
            panel.plot(times[name], marker="o", ms=4, label=names[name])
        panel.set_yscale("log")
        panel.set_title(title, loc="left")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_minor_formatter("")
        panel.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes[-1].set_xticks(range(len(labels)), labels)
    axes[-1].set_xlabel("date and commit")
    figure.supylabel("time over 1,000 matrix products", fontsize="medium")
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s")
    parser.add_argument("--add", action="store_true", help="add the figures to the record")
    parser.add_argument("--picture", type=Path, help="draw the record into this file")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    record = json.loads(RECORD.read_text()) if RECORD.exists() else []
    if args.picture:
        draw(record, args.picture)
        return
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = measure(args.rounds)
    commit, date = git("log", "-1", "--format=%h %cs").split()
    cells = pd.DataFrame(found).map(lambda value: "" if pd.isna(value) else f"{value}")
    cells = cells.reset_index()
    table(f"{commit}, {date}", ["run", *found], cells.to_numpy().tolist())
    if args.add:
        entry = {"commit": commit, "date": date, **found}
        record = [old for old in record if old["commit"] != commit] + [entry]
        RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
