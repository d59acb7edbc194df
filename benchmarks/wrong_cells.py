"""Wrong cells in everyday tables, found by detectors.

    python benchmarks/wrong_cells.py                       # ../shared/data/real, seed 1
    python benchmarks/wrong_cells.py --seeds 1,2 --cells 2
    python benchmarks/wrong_cells.py --numbers             # tables of numbers alone, as arrays

How each figure is obtained:

- A table is a CSV file with at least 150 rows (a random 1,200 of more), four columns and one column
  of at most 20 classes. In 5 % of the rows, drawn by seed, ``--cells`` random cells get the value
  of another row. All rows are both the training rows and those that are ranked.
- With ``--numbers``, columns are those of numbers with more than two values, and rows complete.
- Rivals get imputed, standardized numbers and one-hot encoded classes; ours get the data frame, or
  with ``--numbers`` the array. All have their default parameters; ``mean distance`` is that to a
  tenth of the rows.
- A figure is the area under the ROC curve (AUROC) or the average precision (AP), times 100, and its
  difference to that of `VAEOutlierDetector` with the standard error over tables and seeds.
"""

import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from common import options, table, tell
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from tables import DATA, as_numbers, is_number

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer

MAX_ROWS, MIN_ROWS, MIN_COLUMNS, MAX_CLASSES = 1_200, 150, 4, 20
WRONG = 0.05
MIN_WRONG = 8


def read(path: Path, *, numbers: bool) -> pd.DataFrame | None:
    """Columns of numbers and classes of a file; None if they are too few, or their rows are."""
    frame = pd.read_csv(path).drop(columns="rownames", errors="ignore")
    frame = frame.sample(min(len(frame), MAX_ROWS), random_state=0).reset_index(drop=True)
    if numbers:
        kept = [c for c in frame if is_number(frame[c]) and frame[c].nunique() > 2]
        frame = frame[kept].dropna(axis=1, thresh=int(0.8 * len(frame))).dropna()
        frame = frame.astype(float).reset_index(drop=True)
        has_kinds = True
    else:
        kept = [c for c in frame if is_number(frame[c]) or frame[c].nunique() <= MAX_CLASSES]
        frame = frame[kept]
        has_kinds = not all(is_number(frame[c]) for c in frame)
    is_large = len(frame) >= MIN_ROWS and frame.shape[1] >= MIN_COLUMNS
    return frame if is_large and has_kinds else None


def with_wrong_cells(
    frame: pd.DataFrame, n_cells: int, seed: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with cells of other rows, and the mask of its rows that have some."""
    rng, faulty = np.random.RandomState(seed), frame.copy()
    rows = rng.choice(len(frame), max(int(WRONG * len(frame)), MIN_WRONG), replace=False)
    for row in rows:
        for column in rng.permutation(frame.columns)[:n_cells]:
            values = frame[column]
            others = values[values.notna() & (values != values[row])]
            if len(others):
                faulty.loc[row, column] = others.iloc[rng.randint(len(others))]
    return faulty, np.isin(np.arange(len(frame)), rows)


def forest(frame: pd.DataFrame, seed: int) -> np.ndarray:
    X = as_numbers(frame)
    return -IsolationForest(random_state=seed).fit(X).score_samples(X)


def mean_distance(frame: pd.DataFrame, _seed: int) -> np.ndarray:
    X = as_numbers(frame)
    return NearestNeighbors(n_neighbors=max(5, len(X) // 10)).fit(X).kneighbors()[0].mean(axis=1)


def ours(estimator: type) -> Callable[[pd.DataFrame, int], np.ndarray]:
    """Minus the score of an estimator with default parameters."""

    def score(frame: pd.DataFrame, seed: int) -> np.ndarray:
        X = frame.to_numpy() if frame.dtypes.eq(float).all() else frame
        return -estimator(random_state=seed).fit(X).score_samples(X)

    return score


DETECTORS = {
    "VAEOutlierDetector": ours(VAEOutlierDetector),
    "VAETransformer": ours(VAETransformer),
    "VAEDensity": ours(VAEDensity),
    "IsolationForest": forest,
    "mean distance": mean_distance,
}


def figures(args: Namespace) -> Iterator[np.ndarray]:
    """AUROC and AP of each detector on each table and seed: (n_detectors, 2)."""
    for path in sorted(args.folder.glob("*.csv")):
        frame = read(path, numbers=args.numbers)
        for seed in args.seeds if frame is not None else ():
            faulty, is_wrong = with_wrong_cells(frame, args.cells, seed)
            scores = [detector(faulty, seed) for detector in DETECTORS.values()]
            tell(path.stem, seed)
            yield 100 * np.array(
                [[m(is_wrong, s) for m in (roc_auc_score, average_precision_score)] for s in scores]
            )


def main() -> None:
    args = options(__doc__, folder=DATA / "real", seeds=[1], cells=1, numbers=False)
    warnings.simplefilter("ignore")
    all_figures = np.stack(list(figures(args)))  # (tables and seeds, detectors, 2)
    differences = all_figures - all_figures[:, :1]
    errors = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
    lines = [
        [name, *(f"{value:.1f}" for value in all_figures.mean(axis=0)[k])]
        + [
            f"{d:+.1f} ± {e:.1f}"
            for d, e in zip(differences.mean(axis=0)[k], errors[k], strict=True)
        ]
        for k, name in enumerate(DETECTORS)
    ]
    title = f"{len(all_figures)} tables and seeds, {args.cells} wrong cells in a wrong row"
    table(title, ["", "AUROC", "AP", "difference", "difference"], lines)


if __name__ == "__main__":
    main()
