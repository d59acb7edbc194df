"""Missing cells imputed: `VAEImputer` at its defaults beside other imputers.

    python benchmarks/imputation.py                            # all five parts
    python benchmarks/imputation.py --quick                    # one seed, one mask of 4,000 rows
    python benchmarks/imputation.py --parts tables --mechanisms MCAR,MAR --seeds 0
    python benchmarks/imputation.py --parts tables --tables oddbench --seeds 0 --imputers \
        mean,KNN,IterativeImputer,VAEImputer
    python benchmarks/imputation.py --parts adult --masks 20_1,20_2,20_3,50_1
    python benchmarks/imputation.py --parts draws --mechanisms MCAR,MAR --seeds 0 --rows 1500

How each figure is obtained:

- **tables.** The 11 tables in the folder ``impute`` that tables.py says, or normal rows of
  ``adbench/NAME`` and ``oddbench/NAME`` (``oddbench`` are all of OddBench), at most `--rows` rows
  of each, drawn at random. Columns are scaled to between 0 and 1 before anything is hidden, as
  ReMasker and HyperImpute do it. 30 % of the cells are hidden, as described at ``hide``. Imputers
  learn from 80 % of the rows. "RMSE" is the root of the mean squared error over all hidden cells of
  these rows, and of the other 20 % of the rows ("new"). All imputers get arrays of numbers.
  "MissForest" is IterativeImputer with 30 trees, a square root of the columns tried at each split,
  and 5 rounds. Mean over `--seeds`. "VAEImputer / it" is the geometric mean over tables of the
  RMSE's ratio. "Cover" is the share of the hidden cells of the new rows whose rank among
  VAEImputer's 99 draws is not in the lowest or the highest twentieth. Among equal values, the rank
  is drawn at random, so that draws that are right cover 90 % in columns of few values, too.
- **protocol.** The one of MIWAE's notebook: scikit-learn's breast_cancer, every column
  standardized before anything is hidden, NumPy's legacy generator seeded by 1234, and half of the
  cells, drawn without replacement, hidden. A figure is the mean squared error over the hidden
  cells. "Other masks" are those of `--seeds`. GaussianEM is a normal distribution fitted by
  expectation-maximization to the rows with holes (40 steps; one imagined row with unit
  covariance), a hidden cell its conditional mean.
- **adult.** Adult as in the HI-VAE paper: the folder ``hivae_adult``, with its types and masks;
  cells that the table itself lacks are hidden, and not counted. Errors are those of the paper's
  code, column by column: the root of the mean squared error over the column's range (numbers), the
  share of wrong classes (classes), and the mean distance in classes over their number (ordered).
  "All" is the mean over the columns. VAEImputer gets a data frame with categories, ordered ones and
  integers. SimpleImputer fills in means and, in both kinds of classes, modes. IterativeImputer gets
  every class as its number. HistGradientBoosting is a classifier or a regressor per column, of
  scikit-learn's defaults, that foretells the column from the others with their holes.
- **intervals.** Linear-Gaussian rows (ten columns, three factors), 40 % of the cells hidden. Models
  learn from 2,000 rows and fill 1,000 fresh ones. "RMSE" is over the hidden cells, as a ratio to
  that of the exact conditional means. Intervals reach from the 5th least of 99 draws of a cell to
  the 5th greatest, which covers 90 % of cells if the draws are right; "width" is the mean width
  over that of as many draws from the exact conditional distributions.
- **draws.** The tables of the first part, all rows of them training rows, columns of unit standard
  deviation. Five imputed tables each are compared with the complete one by the energy distance of
  their rows (Székely and Rizzo, 2013), 2 E|X - Y| - E|X - X'| - E|Y - Y'|, whose mean times 1,000
  is printed: 0 is best. "miceforest" is the package of this name at its defaults, five iterations,
  if it is installed (its version 6.0.5 needs a ``lightgbm`` below 4.6).
- CPU seconds (`time.process_time`, one thread) hold fit and transform.
"""

import itertools
import warnings
import zlib
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from common import options, print_frame, summary, tell, timed
from scipy.optimize import brentq
from scipy.spatial.distance import cdist
from scipy.special import expit
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from tables import DATA, FOLDERS, load_each, with_oddbench

from sklearn_vae import VAEDensity, VAEImputer

OURS = "VAEImputer"
N_DRAWS, OUTSIDE = 99, 5  # draws of a cell, and those on each side of an interval of 90 %


def missing_forest(seed: int) -> IterativeImputer:
    forest = RandomForestRegressor(30, max_features="sqrt", random_state=seed)
    return IterativeImputer(forest, max_iter=5, random_state=seed)


# By name and seed: imputers of arrays of numbers.
IMPUTERS: dict[str, Callable[[int], Any]] = {
    "mean": lambda _seed: SimpleImputer(),
    "KNN": lambda _seed: KNNImputer(),
    "IterativeImputer": lambda seed: IterativeImputer(random_state=seed),
    "MissForest": missing_forest,
    OURS: lambda seed: VAEImputer(random_state=seed),
}


# -- tables ----------------------------------------------------------------------------

TABLES = "airfoil,bike,blood,climate,compression,credit,drug,obesity,parkinsons,wine,yacht"
HIDDEN, NEW_SHARE = 0.3, 0.2
MECHANISMS = ["MCAR", "MAR", "MNAR", "self-masked"]


def hide(X: np.ndarray, mechanism: str, rng: np.random.Generator) -> np.ndarray:
    """Return the mask of hidden cells of scaled rows, as HyperImpute and Muzellec et al. hide them.

    - MCAR: each cell is hidden with probability p.
    - MAR: half of the columns, drawn at random, are always observed. In each of the others, a cell
      is hidden with probability s(x · w + b), where s is the logistic function, x the row's
      observed columns, w uniform weights, scaled so that x · w has unit standard deviation, and b
      such that the mean probability is p.
    - MNAR: the same, and then each cell of the observed columns is hidden with probability p.
    - self-masked: a cell x is hidden with probability s(x / std + b): larger values are hidden more
      often.
    """
    hidden = rng.random(X.shape) < HIDDEN
    if mechanism == "MCAR":
        return hidden
    if mechanism == "self-masked":
        return np.column_stack([hide_by(values / values.std(), rng) for values in X.T])
    n_inputs = max(X.shape[1] // 2, 1)
    inputs, others = np.split(rng.permutation(X.shape[1]), [n_inputs])
    for column in others:
        score = X[:, inputs] @ rng.random(n_inputs)
        hidden[:, column] = hide_by(score / score.std(), rng)
    if mechanism == "MAR":
        hidden[:, inputs] = False
    return hidden


def hide_by(score: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hide cells with logistic probabilities, whose mean is p: (n,) -> (n,)."""
    intercept = brentq(lambda b: expit(score + b).mean() - HIDDEN, -50, 50)
    return rng.random(len(score)) < expit(score + intercept)


def load(name: str) -> np.ndarray:
    folder, _, file_name = name.rpartition("/")
    if folder:
        return FOLDERS[folder](file_name)
    return pd.read_csv(DATA / "impute" / f"{name}.csv", index_col=0).to_numpy(np.float64)


def draw_rows(
    rows: np.ndarray, name: str, seed: int, n_rows: int
) -> tuple[np.ndarray, np.random.Generator]:
    """Draw rows of a table, without its constant columns; the generator goes on to hide cells."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    X = rows[rng.permutation(len(rows))[:n_rows]]
    return X[:, np.ptp(X, axis=0) > 0], rng


def tables(args: Namespace) -> None:
    """RMSE of each table and mechanism, on training and new rows."""
    records: list[dict[str, Any]] = []
    for name, rows in load_each(with_oddbench(args.tables), load):
        for mechanism, seed in itertools.product(args.mechanisms, args.seeds):
            X, rng = draw_rows(rows, name, seed, args.rows)
            X = (X - X.min(axis=0)) / np.ptp(X, axis=0)
            hidden = hide(X, mechanism, rng)
            for label in args.imputers:
                imputer = IMPUTERS[label](seed)
                figures = judge_imputer(imputer, X, hidden, rng)
                where = {"mechanism": mechanism, "table": name, "seed": seed, "imputer": label}
                records.append(where | figures)
                tell(records[-1])
    for mechanism, group in pd.DataFrame(records).groupby("mechanism", sort=False):
        figures = [name for name in ("train", "new", "cover", "seconds") if name in group]
        means = group.pivot_table(figures, "table", "imputer", sort=False)
        for figure in ("train", "new"):
            errors = means[figure][args.imputers]
            print_frame(f"RMSE, {mechanism}, {figure} rows", errors, ".3f")
            best, others = errors.idxmin(axis=1), {"mean": errors.mean().map("{:.3f}".format)}
            others["first on"] = [str((best == label).sum()) for label in errors]
            if OURS in errors:
                ratios = np.exp(np.log(errors.rdiv(errors[OURS], axis=0)).mean())
                others[f"{OURS} / it"] = ratios.map("{:.3f}".format)
                others["ahead of it on"] = [str((errors[OURS] < errors[k]).sum()) for k in errors]
            print_frame(f"RMSE, {mechanism}, {figure} rows", pd.DataFrame(others))
        if OURS in args.imputers:
            print_frame(f"cover of 90 % intervals, %, {mechanism}", means["cover"], ".1f")
        print_frame(f"CPU seconds, {mechanism}", means["seconds"].mean().to_frame("s"), ".1f")


def judge_imputer(
    imputer: Any, X: np.ndarray, hidden: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Errors on training and new rows, cover of new rows, and CPU seconds."""
    incomplete, n_train = np.where(hidden, np.nan, X), round((1 - NEW_SHARE) * len(X))
    old, new = np.split(incomplete, [n_train])
    seconds, imputed = timed(
        lambda: np.vstack([imputer.fit_transform(old), imputer.transform(new)])
    )
    squares = np.where(hidden, np.square(imputed - X), np.nan)
    parts = np.split(squares, [n_train])
    figures = dict(
        zip(("train", "new"), (float(np.sqrt(np.nanmean(part))) for part in parts), strict=True)
    )
    if isinstance(imputer, VAEImputer):
        draws = imputer.set_params(n_imputations=N_DRAWS).transform(new)
        figures["cover"] = cover(draws, X[n_train:], hidden[n_train:], rng)
    return {**figures, "seconds": seconds}


def cover(draws: np.ndarray, X: np.ndarray, hidden: np.ndarray, rng: np.random.Generator) -> float:
    """Share in per cent of the hidden cells that lie in the intervals of their draws."""
    values, rounding = X[hidden], 1e-9
    lower = (draws[:, hidden] < values - rounding).sum(axis=0)
    equal = (np.abs(draws[:, hidden] - values) <= rounding).sum(axis=0)
    rank = lower + rng.integers(equal + 1)
    return 100 * float(np.mean((rank >= OUTSIDE) & (rank <= len(draws) - OUTSIDE)))


# -- the published protocol ------------------------------------------------------------


class GaussianEM:
    """Conditional means of a normal distribution, by expectation-maximization."""

    def fit_transform(self, X: np.ndarray) -> np.ndarray:
        there, (n, d) = ~np.isnan(X), X.shape
        loc, covariance = np.nanmean(X, axis=0), np.eye(d)
        for _ in range(40):
            filled, left = np.where(there, X, 0.0), np.zeros((d, d))
            for row, observed in zip(filled, there, strict=True):
                row[~observed], rest = given(loc, covariance, row, observed)
                left[np.ix_(~observed, ~observed)] += rest
            loc = filled.mean(axis=0)
            centred = filled - loc
            covariance = (centred.T @ centred + left + np.eye(d)) / (n + 1)

        return filled


def given(
    loc: np.ndarray, covariance: np.ndarray, row: np.ndarray, observed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the cells that are not observed, given the others."""
    cross = covariance[np.ix_(observed, ~observed)]
    slopes = np.linalg.solve(covariance[np.ix_(observed, observed)], cross)
    mean = loc[~observed] + (row - loc)[observed] @ slopes
    return mean, covariance[np.ix_(~observed, ~observed)] - cross.T @ slopes


def protocol(args: Namespace) -> None:
    """Mean squared errors of standardized cells of breast_cancer."""
    X = load_breast_cancer().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    records = []
    for name, make in {**IMPUTERS, "GaussianEM": lambda _seed: GaussianEM()}.items():
        for seed in [1234, *args.seeds]:
            hole = np.zeros(X.size, bool)
            chosen = np.random.RandomState(seed).choice(X.size, X.size // 2, replace=False)
            hole[chosen] = True
            hole = hole.reshape(X.shape)
            holey, imputer = np.where(hole, np.nan, X), make(args.seeds[0])
            seconds, filled = timed(lambda imputer=imputer, X=holey: imputer.fit_transform(X))
            mask = "mask 1234" if seed == 1234 else "other masks"
            error = float(np.square(filled - X)[hole].mean())
            records.append({"table": name, "mask": mask, "error": error, "CPU s": seconds})
            tell(records[-1])
    frame = pd.DataFrame(records)
    errors = {
        mask: summary(group.set_index("table")[["error"]], 3)["error"]
        for mask, group in frame.groupby("mask", sort=False)
    }
    seconds = frame.groupby("table", sort=False)["CPU s"].median().map("{:.2f}".format)
    print_frame("breast_cancer, half hidden", pd.DataFrame({**errors, "CPU s": seconds}))


# -- Adult, as in the HI-VAE paper -----------------------------------------------------

GROUPS = {"cat": "classes", "ordinal": "ordered"}  # all other types are numbers


class Adult:
    """The table, its types, and one mask."""

    def __init__(self, mask: str, max_rows: int):
        folder = DATA / "hivae_adult"
        table = pd.read_csv(folder / "data.csv", header=None).iloc[:max_rows]
        types = pd.read_csv(folder / "data_types.csv")
        self.types, self.sizes = types["type"].tolist(), types["dim"].tolist()
        self.X = table.to_numpy(np.float64)
        cells = pd.read_csv(folder / f"Missing{mask}.csv", header=None).to_numpy() - 1
        hole = np.zeros(self.X.shape, bool)
        hole[tuple(cells[cells[:, 0] < len(table)].T)] = True
        self.holey = np.where(hole, np.nan, self.X)
        self.scored = hole & ~np.isnan(self.X)

    def errors(self, filled: np.ndarray) -> pd.Series:
        """One error per column, as the paper's code has them, by the kind of column."""
        errors = []
        for j, (kind, size) in enumerate(zip(self.types, self.sizes, strict=True)):
            scored = self.scored[:, j]
            truth, guess = self.X[scored, j], filled[scored, j]
            if kind in GROUPS:
                classes = self.X[:, j][~np.isnan(self.X[:, j])]
                guess = np.rint(guess).clip(classes.min(), classes.max())
            if kind == "cat":
                errors.append(np.mean(truth != guess))
            elif kind == "ordinal":
                errors.append(np.abs(truth - guess).mean() / size)
            else:
                span = np.ptp(self.X[:, j][~np.isnan(self.X[:, j])])
                errors.append(np.sqrt(np.square(truth - guess).mean()) / span)
        return pd.Series(errors, index=[GROUPS.get(kind, "numbers") for kind in self.types])


def by_means(table: Adult, _seed: int) -> np.ndarray:
    has_classes = np.array([kind in GROUPS for kind in table.types])
    filled = table.holey.copy()
    for strategy, mask in (("most_frequent", has_classes), ("mean", ~has_classes)):
        filled[:, mask] = SimpleImputer(strategy=strategy).fit_transform(filled[:, mask])
    return filled


def by_boosting(table: Adult, seed: int) -> np.ndarray:
    is_class = np.array([kind == "cat" for kind in table.types])
    filled = table.holey.copy()
    for j, hole in enumerate(np.isnan(table.holey).T):
        others = np.delete(table.holey, j, axis=1)
        classes = np.flatnonzero(np.delete(is_class, j))
        make = HistGradientBoostingClassifier if is_class[j] else HistGradientBoostingRegressor
        model = make(categorical_features=classes, random_state=seed)
        model.fit(others[~hole], table.holey[~hole, j])
        filled[hole, j] = model.predict(others[hole])
    return filled


def by_vae(table: Adult, seed: int) -> np.ndarray:
    """Fit to a data frame whose types say what its columns are."""
    columns = {}
    for j, (kind, column) in enumerate(zip(table.types, table.holey.T, strict=True)):
        classes = np.unique(table.X[~np.isnan(table.X[:, j]), j])
        columns[f"c{j}"] = (
            pd.Categorical(column, classes, ordered=kind == "ordinal")
            if kind in GROUPS
            else pd.array(column, dtype="Int64")
        )
    filled = VAEImputer(random_state=seed).fit_transform(pd.DataFrame(columns))
    return np.column_stack([filled[name].astype(np.float64) for name in filled])


FILLERS: dict[str, Callable[[Adult, int], np.ndarray]] = {
    "SimpleImputer (mean, mode)": by_means,
    "IterativeImputer": lambda table, seed: IterativeImputer(random_state=seed).fit_transform(
        table.holey
    ),
    "HistGradientBoosting": by_boosting,
    OURS: by_vae,
}


def adult(args: Namespace) -> None:
    """Errors per kind of column, mask by mask."""
    max_rows = 4_000 if args.quick else 40_000
    for mask, table in load_each(args.masks, lambda mask: Adult(mask, max_rows)):
        rows = {}
        for name, fill in FILLERS.items():
            seconds, filled = timed(lambda fill=fill, table=table: fill(table, args.seeds[0]))
            errors = table.errors(filled)
            groups = errors.groupby(level=0, sort=False).mean()
            rows[name] = {key: f"{value:.4f}" for key, value in groups.items()}
            rows[name] |= {"all": f"{errors.mean():.4f}", "CPU s": f"{seconds:.1f}"}
            tell(mask, name, rows[name])
        print_frame(f"Adult, mask {mask}", pd.DataFrame(rows).T)


# -- intervals -------------------------------------------------------------------------


def intervals(args: Namespace) -> None:
    """Errors, cover and width of 90 % intervals where conditional distributions are known."""
    records = []
    for seed in args.seeds:
        rng = np.random.default_rng([seed, 0])
        loadings, loc = rng.normal(size=(3, 10)), 3 * rng.normal(size=10)
        covariance = loadings.T @ loadings + np.diag(rng.uniform(0.2, 0.6, 10))
        X = rng.multivariate_normal(loc, covariance, 3_000)
        hidden = rng.random(X.shape) < 0.4
        hidden[hidden.all(axis=1), 0] = False
        train, holey = np.split(np.where(hidden, np.nan, X), [2_000])
        hole, truth = hidden[2_000:], X[2_000:][hidden[2_000:]]
        best, right = holey.copy(), np.repeat(holey[None], N_DRAWS, axis=0)
        for i in np.flatnonzero(hole.any(axis=1)):
            best[i, hole[i]], left = given(loc, covariance, holey[i], ~hole[i])
            right[:, i, hole[i]] = rng.multivariate_normal(best[i, hole[i]], left, N_DRAWS)
        model = VAEImputer(random_state=seed).fit(train)
        simple = IterativeImputer(random_state=seed).fit(train)
        mean = model.transform(holey)
        found = {
            "exact": (best, right),
            OURS: (mean, model.set_params(n_imputations=N_DRAWS).transform(holey)),
            "IterativeImputer": (simple.transform(holey), None),
        }
        for name, (mean, draws) in found.items():
            error, least = (np.sqrt(np.mean((m[hole] - truth) ** 2)) for m in (mean, best))
            record = {"table": name, "RMSE": error / least}
            if draws is not None:
                (low, high), (exact_low, exact_high) = ends(draws[:, hole]), ends(right[:, hole])
                record["cover, %"] = 100 * np.mean((low <= truth) & (truth <= high))
                record["width"] = np.mean(high - low) / np.mean(exact_high - exact_low)
            records.append(record)
            tell(seed, record)
    print_frame(
        "linear-Gaussian, 40 % hidden", summary(pd.DataFrame(records).set_index("table"), 3)
    )


def ends(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of intervals: (n_draws, n) -> (n,), (n,)."""
    ordered = np.sort(draws, axis=0)
    return ordered[OUTSIDE - 1], ordered[-OUTSIDE]


# -- draws -----------------------------------------------------------------------------

N_TABLES = 5


def draws_by_forests(X: np.ndarray, seed: int) -> list[np.ndarray]:
    from miceforest import ImputationKernel

    frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])])
    kernel = ImputationKernel(frame, num_datasets=N_TABLES, random_state=seed)
    kernel.mice(5, num_threads=1, verbosity=-1)
    return [kernel.complete_data(k).to_numpy() for k in range(N_TABLES)]


def draws_in_turn(X: np.ndarray, seed: int) -> list[np.ndarray]:
    return [
        IterativeImputer(sample_posterior=True, random_state=seed + k).fit_transform(X)
        for k in range(N_TABLES)
    ]


def draws_by(model: Any) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return a function that draws imputations by a model, or by the default one."""

    def draw(X: np.ndarray, seed: int) -> np.ndarray:
        return VAEImputer(model, n_imputations=N_TABLES, random_state=seed).fit_transform(X)

    return draw


DRAWS: dict[str, Callable[[np.ndarray, int], Any]] = {
    "IterativeImputer": draws_in_turn,
    OURS: draws_by(None),
    f"{OURS}(VAEDensity())": draws_by(VAEDensity()),
}
if find_spec("miceforest") is not None:
    DRAWS["miceforest"] = draws_by_forests


def energy_distance(X: np.ndarray, Y: np.ndarray) -> float:
    return 2 * cdist(X, Y).mean() - cdist(X, X).mean() - cdist(Y, Y).mean()


def draws(args: Namespace) -> None:
    """Energy distances of imputed tables from the complete ones."""
    for mechanism in args.mechanisms:
        records: list[dict[str, Any]] = []
        for name, rows in load_each(args.tables, load):
            for seed in args.seeds:
                X, rng = draw_rows(rows, name, seed, args.rows)
                X = (X - X.mean(axis=0)) / X.std(axis=0)
                incomplete = np.where(hide(X, mechanism, rng), np.nan, X)
                for label, draw in DRAWS.items():
                    seconds, imputed = timed(partial(draw, incomplete, seed))
                    energy = 1000 * np.mean([energy_distance(table, X) for table in imputed])
                    records.append(
                        {"table": name, "imputer": label, "energy": energy, "s": seconds}
                    )
                    tell(mechanism, records[-1])
        means = pd.DataFrame(records).pivot_table(["energy", "s"], "table", "imputer", sort=False)
        print_frame(f"energy distance x 1,000, {mechanism}", means["energy"][[*DRAWS]], ".2f")
        print_frame(f"CPU seconds, {mechanism}", means["s"].mean().to_frame("s"), ".1f")


PARTS = {part.__name__: part for part in (tables, protocol, adult, intervals, draws)}


def main() -> None:
    args = options(
        __doc__,
        parts=[*PARTS],
        seeds=[0, 1, 2],
        quick=False,
        tables=TABLES.split(","),
        mechanisms=MECHANISMS,
        imputers=[*IMPUTERS],
        rows=2_000,
        masks=["20_1"],
    )
    args.seeds = args.seeds[: 1 if args.quick else None]
    warnings.simplefilter("ignore", ConvergenceWarning)
    for part in args.parts:
        PARTS[part](args)


if __name__ == "__main__":
    main()
