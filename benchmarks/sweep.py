"""Every estimator at its defaults on every table of a folder: nats, seconds and faults, by table.

    python benchmarks/sweep.py                          # ../shared/data/real, two processes
    python benchmarks/sweep.py FOLDER --out now.json    # keep the figures
    python benchmarks/sweep.py --against before.json    # and compare them with earlier ones
    python benchmarks/sweep.py --estimators VAETransformer,VAEDensity --tables Caschool,Hedonic

A table is a CSV file as a person gets it: read by pandas, without its column ``rownames``. Of its
rows, in random order, 70 % (at most 1,400) are for ``fit`` and at most 600 others for scores. What
is noted of each estimator:

- CPU seconds of ``fit``, and milliseconds a scored row; the warnings of ``fit``.
- Nats: the mean log-density of the held-out rows. Nats of two estimators can be compared as far as
  both read a column as the same kind of measure; a median of the rows' differences is noted beside
  the mean, which one row may decide.
- Faults: an error; a score that is not finite; a sample or an imputed cell below the smallest or
  above the largest possible value of its column (0 for a column without negative numbers), one
  between whole numbers where the column has only these, or one that is no class of the column; a
  model that scores otherwise after ``save`` and ``load``, or in ``sklearn_vae.runtime``.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from parts.measure import table
from tables import DATA

import sklearn_vae
from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer, runtime

ESTIMATORS = {
    cls.__name__: cls for cls in (VAETransformer, VAEDensity, VAEOutlierDetector, VAEImputer)
}
MAX_FIT_ROWS, MAX_TEST_ROWS = 1_400, 600
N_SAMPLES = 500
HIDDEN = 0.1  # of the cells of held-out rows, to be imputed
LARGEST_DIFFERENCE = 1e-5  # of scores of a model and its copy without torch


def read(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows for ``fit`` and held-out rows."""
    frame = pd.read_csv(path).drop(columns="rownames", errors="ignore")
    order = np.random.RandomState(0).permutation(len(frame))
    n_train = int(0.7 * len(frame))
    train, test = frame.iloc[order[:n_train]], frame.iloc[order[n_train:]]
    return train.iloc[:MAX_FIT_ROWS], test.iloc[:MAX_TEST_ROWS]


def column_faults(cells: pd.Series, column: pd.Series) -> Iterator[str]:
    """Faults of cells that should be possible values of a column of the training rows."""
    known, cells = column.dropna(), cells.dropna()
    if not len(known) or not len(cells):
        return
    if not pd.api.types.is_numeric_dtype(known):
        if set(cells) - set(known):
            yield "no class of the column"
        return
    if not pd.api.types.is_numeric_dtype(cells):
        yield f"of dtype {cells.dtype}"
        return
    cells, known = cells.astype(float), known.astype(float)
    if (known >= 0).all() and (cells < 0).any():
        yield "below 0"
    if (known <= 0).all() and (cells > 0).any():
        yield "above 0"
    if (known % 1 == 0).all() and (cells % 1 != 0).any():
        yield "between whole numbers"
    spread = known.max() - known.min()
    if (cells > known.max() + spread).any() or (cells < known.min() - spread).any():
        yield "far from all values"


def table_faults(
    rows: pd.DataFrame, train: pd.DataFrame, what: str, mask: pd.DataFrame | None = None
) -> list[str]:
    """Faults of samples, or of imputed cells, which are those of the mask."""
    if list(rows.columns) != list(train.columns):
        return [f"{what}: other columns"]
    return [
        f"{what}: {name} {fault}"
        for name in train.columns
        for fault in column_faults(
            rows[name] if mask is None else rows[name][mask[name]], train[name]
        )
    ]


def copy_faults(model: Any, X: pd.DataFrame, scores: np.ndarray) -> list[str]:
    """Faults of a saved model."""
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        if not np.array_equal(sklearn_vae.load(path).score_samples(X), scores):
            faults.append("other scores after load")
        difference = np.abs(runtime.load(path).score_samples(X) - scores).max()
        if not difference < LARGEST_DIFFERENCE * (1 + np.abs(scores).max()):
            faults.append(f"runtime differs by {difference:.1e}")
    return faults


def hide(test: pd.DataFrame) -> pd.DataFrame:
    """Held-out rows with a tenth of their cells missing."""
    mask = np.random.default_rng(0).random(test.shape) < HIDDEN
    return test.astype(dict.fromkeys(test.columns, object)).mask(mask)


def measure(name: str, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """Fit one estimator, and note its figures and faults."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.process_time()
        model = ESTIMATORS[name](random_state=0).fit(train)
        figures: dict[str, Any] = {"fit": time.process_time() - start}
    figures["warnings"] = sorted({str(each.message).partition(".")[0] for each in caught})
    faults: list[str] = []
    warnings.simplefilter("ignore")
    if name == "VAEImputer":
        holes = hide(test)
        imputed = model.transform(holes)  # without columns that were empty in fit
        faults += table_faults(imputed, train.dropna(axis=1, how="all"), "imputed", holes.isna())
        return figures | {"faults": faults}
    start = time.process_time()
    scores = model.score_samples(test)
    figures["score"] = 1e3 * (time.process_time() - start) / len(test)
    figures["scores"] = scores.tolist()
    if not np.isfinite(scores).all():
        faults.append("a score is not finite")
    few = test.iloc[:20]
    faults += copy_faults(model, few, model.score_samples(few))
    if name == "VAEOutlierDetector":
        faults += table_faults(model.expected_values(few), train, "expected")
        return figures | {"faults": faults}
    faults += table_faults(model.sample(N_SAMPLES, random_state=1), train, "sampled")
    holes = hide(test)
    faults += table_faults(model.impute(holes), train, "imputed", holes.isna())
    return figures | {"faults": faults}


def run(path: Path, names: list[str]) -> dict[str, Any]:
    """Figures of all estimators on one table."""
    torch.set_num_threads(1)
    train, test = read(path)
    results = {}
    for name in names:
        try:
            results[name] = measure(name, train, test)
        except Exception as error:
            results[name] = {"faults": [f"{type(error).__name__}: {str(error)[:150]}"]}
        shown = {k: v for k, v in results[name].items() if k != "scores"}
        print(f"{path.stem} {name}: {shown}", file=sys.stderr, flush=True)
    return results


def nats(figures: dict[str, Any]) -> np.ndarray:
    """Scores of the held-out rows, NaN where there are none."""
    return np.array(figures.get("scores", [np.nan]))


def report(results: dict[str, dict[str, Any]], before: dict[str, dict[str, Any]]) -> None:
    """Print a row per table, and what they have in common."""
    for name in dict.fromkeys(name for figures in results.values() for name in figures):
        lines = []
        for stem, figures in results.items():
            mine, was = figures[name], before.get(stem, {}).get(name, {})
            mean = nats(mine).mean()
            line = [stem, f"{mean:.2f}", f"{mine.get('fit', np.nan):.1f}"]
            line.append(f"{mine.get('score', np.nan):.1f}")
            if before:
                was_fit = was.get("fit", np.nan) / mine.get("fit", np.nan)
                line += [f"{mean - nats(was).mean():+.2f}", f"{was_fit:.2f}"]
            lines.append([*line, "; ".join(mine["faults"] + mine.get("warnings", []))])
        header = ["table", "nats", "fit, CPU s", "score, ms a row"]
        header += ["nats gained", "times as fast"] if before else []
        table(f"{name}, default fits", [*header, "faults and warnings"], lines)
    rows = {"before": before, "now": results} if before else {"now": results}
    lines = [[when, *summary(figures)] for when, figures in rows.items()]
    header = ["", "at most .5 nats behind VAEDensity", "at most 3", "tables on which VAEDensity is"]
    header[-1] += " more than .5 behind"
    table("VAETransformer beside VAEDensity", [*header, "fits, CPU s"], lines)


def summary(results: dict[str, dict[str, Any]]) -> list[str]:
    """Shares of tables on which VAETransformer is not far behind VAEDensity, and total times."""
    gaps = np.array([
        nats(figures["VAEDensity"]).mean() - nats(figures["VAETransformer"]).mean()
        for figures in results.values()
        if {"VAEDensity", "VAETransformer"} <= figures.keys()
    ])  # fmt: skip
    gaps = gaps[np.isfinite(gaps)]
    names = list(ESTIMATORS)
    seconds = [
        sum(figures.get(name, {}).get("fit", 0) for figures in results.values()) for name in names
    ]
    times = ", ".join(f"{name} {s:.0f}" for name, s in zip(names, seconds, strict=True) if s)
    shares = (
        [f"{100 * np.mean(gaps <= limit):.0f} %" for limit in (0.5, 3)] if len(gaps) else ["", ""]
    )
    return [*shares, f"{int((gaps < -0.5).sum())} of {len(gaps)}", times]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=DATA / "real")
    parser.add_argument("--estimators", type=lambda text: text.split(","), default=[*ESTIMATORS])
    parser.add_argument("--tables", type=lambda text: text.split(","), default=[""])
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("--against", type=Path, help="such a file, to compare with")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    paths = sorted(args.folder.glob("*.csv"))
    paths = [path for path in paths if any(part in path.stem for part in args.tables)]
    if not paths:
        sys.exit(f"{args.folder} has no such CSV file; SKLEARN_VAE_DATA names another folder.")
    with ProcessPoolExecutor(args.jobs) as pool:
        figures = list(pool.map(partial(run, names=args.estimators), paths))
    results = {path.stem: each for path, each in zip(paths, figures, strict=True)}
    if args.out:
        args.out.write_text(json.dumps(results))
    report(results, json.loads(args.against.read_text()) if args.against else {})


if __name__ == "__main__":
    main()
