"""The real tables that the benchmarks run on: numeric columns, dequantized, split 80/20.

What is done to every table, in this order:

1. Duplicate rows are dropped, so that no test row was seen in training.
2. Columns whose values repeat are dequantized: uniform noise of one recording step, with a fixed
   seed, before the split. A density of rounded numbers has no upper limit (it can be made infinite
   on the lattice), so without this the held-out nats of two models could not be compared. The
   recording step is the smallest gap between distinct values, taken at the 5% quantile of the gaps
   so that a few values recorded more finely than the rest do not decide it. A column that never
   changes is given the table's usual step; where there is none, the column is left out.
3. `split` draws the 80/20 split by seed: the rows of one (table, seed) are always the same.

Tables of scikit-learn are always there. The others are files, looked for in the folder that the
environment variable SKLEARN_VAE_DATA names, or else in ``../shared/data`` beside the repository;
a table whose file is missing is skipped, and `load_tables` says so. Any ADBench table is
loaded as ``adbench/<file name>``: its normal rows, at most 5,000 of them. So is any table of
OddBench, as ``oddbench/<file name>``; ``oddbench`` are all of them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
DATA = Path(os.environ.get("SKLEARN_VAE_DATA") or BESIDE)
NOISE_SEED = 0
TEST_SHARE = 0.2
MAX_ROWS = 5_000
MNIST_ROWS = 10_000


@dataclass(frozen=True)
class Dataset:
    """Rows ready for a density comparison."""

    name: str
    X: np.ndarray  # (n_rows, n_columns), float64, dequantized
    steps: np.ndarray  # (n_columns,), width of the noise in each column; 0 where none was added


def csv(name: str, **options: Any) -> np.ndarray:
    """Numbers of a file of the folder `tables`."""
    return np.loadtxt(DATA / "tables" / name, delimiter=",", **options)


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """A fixed draw of 10,000 training images, and their digits."""
    with np.load(DATA / "images" / "mnist.npz") as file:
        X, y = file["x_train"].reshape(-1, 784) / 255.0, file["y_train"]
    rows = np.random.default_rng(NOISE_SEED).permutation(len(X))[:MNIST_ROWS]

    return X[rows], y[rows]


def binarized_mnist() -> dict[str, np.ndarray]:
    """Bits of the parts `train`, `valid` and `test`."""
    with np.load(DATA / "images" / "binarized_mnist.npz") as file:
        return {name: np.unpackbits(file[name], axis=1) for name in ("train", "valid", "test")}


def last_column(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return X[:, :-1], X[:, -1].astype(int)


def qualities() -> tuple[np.ndarray, np.ndarray]:
    """Red wine, its qualities of 3 and 4 and of 7 and 8 as one class each."""
    X, y = last_column(csv("winequality-red.csv"))
    return X, y.clip(4, 7)


# Rows and their classes, as they come.
LABELLED: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "wine": partial(datasets.load_wine, return_X_y=True),
    "iris": partial(datasets.load_iris, return_X_y=True),
    "breast_cancer": partial(datasets.load_breast_cancer, return_X_y=True),
    "banknote": lambda: last_column(csv("banknote_authentication.csv")),
    "red_wine": qualities,
    "digits": partial(datasets.load_digits, return_X_y=True),
    "mnist": mnist,
}


def adbench(name: str) -> np.ndarray:
    """Normal rows of an ADBench table; of a long one, a fixed draw of MAX_ROWS of them."""
    with np.load(DATA / "adbench" / f"{name}.npz") as file:
        return some_of(file["X"][file["y"] == 0].astype(np.float64))


def oddbench(name: str) -> np.ndarray:
    """Normal rows of an OddBench table, of both parts; of a long one, as of ADBench."""
    with np.load(DATA / "oddbench" / f"{name}.npz") as file:
        normal = file["test"][file["test_labels"] == 0]
        return some_of(np.concatenate([file["train"], normal]).astype(np.float64))


def some_of(X: np.ndarray) -> np.ndarray:
    return np.random.default_rng(NOISE_SEED).permutation(X)[:MAX_ROWS] if len(X) > MAX_ROWS else X


# Rows of numbers. Diabetes is without `sex`, which takes two values, digits are shares of the
# brightest grey, abalone has seven measurements and the rings, and red wine no quality.
LOADERS: dict[str, Callable[[], np.ndarray]] = {
    "wine": lambda: LABELLED["wine"]()[0],
    "breast_cancer": lambda: LABELLED["breast_cancer"]()[0],
    "diabetes": lambda: np.delete(datasets.load_diabetes().data, 1, axis=1),
    "red_wine": lambda: LABELLED["red_wine"]()[0],
    "banknote": lambda: LABELLED["banknote"]()[0],
    "digits": lambda: LABELLED["digits"]()[0] / 16.0,
    "abalone": lambda: csv("abalone.csv", usecols=range(1, 9)),
    "concrete": lambda: np.loadtxt(DATA / "tables" / "concrete.txt"),
}
FOLDERS: dict[str, Callable[[str], np.ndarray]] = {"adbench": adbench, "oddbench": oddbench}


def load_table(name: str) -> Dataset:
    """Return the table of that name, or raise FileNotFoundError where its file is not there."""
    folder, _, file_name = name.rpartition("/")
    if folder in FOLDERS:
        X = FOLDERS[folder](file_name)
    elif name in LOADERS:
        X = LOADERS[name]()
    else:
        known = [*LOADERS, *(f"{folder}/<name>" for folder in FOLDERS)]
        raise ValueError(f"table {name!r} is unknown: use one of {known}")

    X = drop_duplicates(X)
    steps = recording_steps(X)
    noise = np.random.default_rng(NOISE_SEED).uniform(size=X.shape)
    X = X + noise * steps
    varies = np.ptp(X, axis=0) > 0

    return Dataset(name, X[:, varies], steps[varies])


def penguins() -> pd.DataFrame:
    return pd.read_csv(DATA / "mixed" / "penguins.csv")


def titanic() -> pd.DataFrame:
    """Passengers, without the columns that repeat others."""
    frame = pd.read_csv(DATA / "mixed" / "titanic.csv").astype({"pclass": str})
    return frame.drop(columns=["class", "embark_town", "alive", "who", "adult_male", "alone"])


MIXED: dict[str, Callable[[], pd.DataFrame]] = {"penguins": penguins, "titanic": titanic}


def is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


def as_numbers(X: np.ndarray | pd.DataFrame) -> np.ndarray:
    """Rows as other estimators need them: imputed, standardized numbers and one-hot classes."""
    frame = pd.DataFrame(X)
    numbers = [c for c in frame if is_number(frame[c])]
    fill = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    one_hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    classes = [c for c in frame if c not in numbers]
    encoder = make_column_transformer((fill, numbers), (one_hot, classes))
    encoded: np.ndarray = np.nan_to_num(encoder.fit_transform(frame))
    return encoded


def with_oddbench(names: Sequence[str]) -> list[str]:
    """Names of tables, those of OddBench's in the place of ``oddbench``."""
    every = [f"oddbench/{file.stem}" for file in sorted((DATA / "oddbench").glob("*.npz"))]
    return [each for name in names for each in (every if name == "oddbench" else [name])]


def load_tables(names: Sequence[str]) -> Iterator[Dataset]:
    """Yield the tables that are there; say which are not."""
    for _, table in load_each(with_oddbench(names), load_table):
        yield table


def load_each(names: Sequence[str], load: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and what is loaded by them; say which files are missing."""
    for name in names:
        try:
            loaded = load(name)
        except FileNotFoundError as error:
            print(f"{name}: skipped, {error.filename} is not there (set SKLEARN_VAE_DATA)\n")
        else:
            yield name, loaded


def drop_duplicates(X: np.ndarray) -> np.ndarray:
    """Keep the first of equal rows, in the order they came in."""
    _, first = np.unique(X, axis=0, return_index=True)
    return X[np.sort(first)]


def recording_steps(X: np.ndarray) -> np.ndarray:
    """Step in which each column was recorded; 0 for a column whose values do not repeat."""
    steps = np.array([_recording_step(column) for column in X.T])
    constant = np.ptp(X, axis=0) == 0  # as the outermost pixels of a picture
    steps[constant] = np.median(steps[~constant])

    return steps


def _recording_step(column: np.ndarray) -> float:
    values = np.unique(column)
    if len(values) == len(column):
        return 0.0
    gaps = np.diff(values)
    gaps = gaps[gaps > 1e-9 * np.ptp(column)]  # 0.1 + 0.2 and 0.3 are one recorded value

    return float(np.quantile(gaps, 0.05, method="lower")) if len(gaps) else 0.0


def split(X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows, 80/20."""
    order = np.random.default_rng(seed).permutation(len(X))
    n_test = int(TEST_SHARE * len(X))

    return X[order[n_test:]], X[order[:n_test]]
