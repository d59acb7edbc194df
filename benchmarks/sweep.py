"""Every estimator at its defaults on every table of a folder: nats, seconds and faults, by table.

    python benchmarks/sweep.py                          # ../shared/data/real, two processes
    python benchmarks/sweep.py --folder FOLDER --estimators VAETransformer,VAEDensity
    python benchmarks/sweep.py --tables Caschool,Hedonic

A table is a CSV file as a person gets it: read by pandas, without its column ``rownames``. Of its
rows, in random order, 70 % (at most 1,400) are for ``fit`` and at most 600 others for scores. What
is noted of each estimator:

- CPU seconds of ``fit``, and milliseconds a scored row; the warnings of ``fit``.
- Nats: the mean log-density of the held-out rows. Nats of two estimators can be compared as far as
  both read a column as the same kind of measure.
- Faults: an error; a score that is not finite; a sample or an imputed cell below the smallest or
  above the largest possible value of its column (0 for a column without negative numbers), one
  between whole numbers where the column has only these, or one that is no class of the column; a
  model that scores otherwise after ``save`` and ``load``.
"""

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
from common import options, print_frame, table, tell
from tables import DATA

import sklearn_vae
from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer

ESTIMATORS = {
    cls.__name__: cls for cls in (VAETransformer, VAEDensity, VAEOutlierDetector, VAEImputer)
}
MAX_FIT_ROWS, MAX_TEST_ROWS = 1_400, 600
N_SAMPLES = 500
HIDDEN = 0.1  # of the cells of held-out rows, to be imputed


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
    figures["nats"] = float(scores.mean())
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


def run(path: Path, names: list[str]) -> list[dict[str, Any]]:
    """Figures of all estimators on one table."""
    torch.set_num_threads(1)
    train, test = read(path)
    records = []
    for name in names:
        try:
            figures = measure(name, train, test)
        except Exception as error:
            figures = {"faults": [f"{type(error).__name__}: {str(error)[:150]}"]}
        notes = "; ".join(figures.pop("faults") + figures.pop("warnings", []))
        records.append({"table": path.stem, "estimator": name, **figures, "notes": notes})
        tell(records[-1])
    return records


def report(records: pd.DataFrame) -> None:
    """Print a table per estimator, and what the densities have in common."""
    for name, group in records.groupby("estimator", sort=False):
        numbers = group.reindex(columns=["nats", "fit", "score"]).map("{:.2f}".format)
        rows = np.column_stack([group["table"], numbers, group["notes"]]).tolist()
        header = ["table", "nats", "fit, CPU s", "score, ms a row", "faults and warnings"]
        table(f"{name}, default fits", header, rows)
        print(f"\n{name}: {group['fit'].sum():.0f} CPU seconds of fits")
    nats = records.pivot(index="table", columns="estimator", values="nats")
    if {"VAEDensity", "VAETransformer"} <= set(nats):
        gaps = (nats["VAEDensity"] - nats["VAETransformer"]).dropna()
        shares = {f"at most {limit} nats behind": (gaps <= limit).mean() for limit in (0.5, 3)}
        shares["more than .5 nats ahead"] = (gaps < -0.5).mean()
        title = f"Share of {len(gaps)} tables on which VAETransformer is beside VAEDensity"
        print_frame(title, pd.DataFrame([shares], index=["VAETransformer"]), ".2f")


def main() -> None:
    args = options(__doc__, folder=DATA / "real", estimators=[*ESTIMATORS], tables=[".csv"], jobs=2)
    paths = sorted(args.folder.glob("*.csv"))
    paths = [path for path in paths if any(part in path.name for part in args.tables)]
    if not paths:
        raise SystemExit(f"{args.folder} has no such CSV file; SKLEARN_VAE_DATA names another.")
    with ProcessPoolExecutor(args.jobs) as pool:
        found = pool.map(partial(run, names=args.estimators), paths)
        report(pd.DataFrame([record for records in found for record in records]))


if __name__ == "__main__":
    main()
