"""Missing cells imputed: a VAE beside other imputers.

    python benchmarks/imputation.py                            # all four parts
    python benchmarks/imputation.py --parts tables --mechanisms MCAR,MAR --seeds 0
    python benchmarks/imputation.py --parts protocol,intervals
    python benchmarks/imputation.py --parts adult --masks 20_1,20_2,20_3,50_1
    python benchmarks/imputation.py --parts tables --tables oddbench --seeds 0 --imputers \
        mean,KNN,IterativeImputer,VAEImputer
    python benchmarks/imputation.py --quick                    # one mask, one seed, no forests

How each figure is obtained:

- **protocol.** The one of MIWAE's notebook: scikit-learn's breast_cancer, every column
  standardized before anything is hidden, NumPy's legacy generator seeded by 1234, and half of the
  cells, drawn without replacement, hidden. A figure is the mean squared error over the hidden
  cells. "Other masks" are those of `--seeds`. GaussianEM is a normal distribution fitted by
  expectation-maximization to the rows with holes (40 steps; one imagined row with unit
  covariance), a hidden cell its conditional mean.
- **adult.** Adult as in the HI-VAE paper: the folder ``hivae_adult`` of what SKLEARN_VAE_DATA
  names, with its types and masks; cells that the table itself lacks are hidden, and not counted.
  Errors are those of the paper's code, column by column: the root of the mean squared error over
  the column's range (numbers: of kinds real, positive and count), the share of wrong classes
  (classes), and the mean distance in classes over their number (ordered). "All" is the mean over
  the twelve columns. VAEImputer gets a data frame with categories, ordered ones and integers.
  SimpleImputer fills in means and, in both kinds of classes, modes. KNNImputer gets standardized
  columns, with classes as columns of 0 and 1, of which the one with the largest filled-in value is
  taken, and learns from `--knn-rows` rows. IterativeImputer gets every class as its number; with
  columns of 0 and 1 it stays at the means, as those of one cell, all missing, foretell each other.
  HistGradientBoosting is a classifier or a regressor per column, of scikit-learn's defaults, that
  foretells the column from the others with their holes.
- **intervals.** Linear-Gaussian rows (ten columns, three factors), 40 % of the cells hidden. Models
  learn from 2,000 rows and fill 1,000 fresh ones. "RMSE" is over the hidden cells, as a ratio to
  that of the exact conditional means. Intervals reach from the k-th least of 20 k - 1 draws of a
  cell to the k-th greatest, which covers 90 % of cells if the draws are right; "width" is the mean
  width over that of as many draws from the exact conditional distributions. "nats" is the mean
  log-density of the observed part of the fresh rows, less the exact one. Mean ± standard deviation
  over `--seeds`.
- **tables.** The 11 tables in the folder ``impute`` of what SKLEARN_VAE_DATA names, or normal
  rows of ``adbench/NAME`` and ``oddbench/NAME`` (``oddbench`` are all of OddBench), at most
  `--table-rows` rows of each, drawn at random. Columns are scaled to between 0 and 1 by their
  least and greatest values, before anything is hidden, as ReMasker and HyperImpute do it. 30 % of
  the cells are hidden as ``amputation.py`` says. Imputers learn from 80 % of the rows. "RMSE" is
  the root of the mean squared error over all hidden cells of these rows, and of the other 20 % of
  the rows ("new"). All imputers get arrays of numbers. "MissForest" is IterativeImputer with 30
  trees, a square root of the columns tried at each split, and 5 rounds. miceforest takes part
  where it is installed: one data set of 5 rounds, with its own defaults; its points are draws.
  Mean over `--seeds`. "VAEImputer / it" is the geometric mean over tables of the RMSE's ratio.
  "Cover" is the share of the hidden cells of the new rows whose rank among VAEImputer's `--draws`
  draws is not in the lowest or the highest twentieth. Among equal values, the rank is drawn at
  random, so that draws that are right cover 90 % in columns of few values, too.
- CPU seconds (`time.process_time`, one thread) hold fit and transform; a process's first fit by
  torch also holds what torch imports then, about a second.
"""

import argparse
import importlib.util
import itertools
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import amputation
import numpy as np
import pandas as pd
from density import parameter, print_table
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from tables import DATA, FOLDERS, with_oddbench
from threadpoolctl import threadpool_limits

PROTOCOL_SEED = 1234
EM_STEPS, EM_ROWS = 40, 1.0
N_ROWS, N_FRESH, N_COLUMNS, N_FACTORS, HIDDEN = 2_000, 1_000, 10, 3, 0.4
OUTSIDE = 0.1  # of the draws, half on either side

Filler = Callable[[np.ndarray, int], np.ndarray]  # rows with holes and a seed -> rows without


def timed(fill: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Result and CPU seconds."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        filled = fill(*arguments)

    return filled, time.process_time() - start


def tell(*words: Any) -> None:
    print(*words, file=sys.stderr, flush=True)


def vae_imputer(seed: int, **params: Any) -> Any:
    import torch

    from sklearn_vae import VAEImputer

    torch.set_num_threads(1)
    return VAEImputer(random_state=seed, **params)


# The published protocol


def forests(X: np.ndarray, seed: int) -> np.ndarray:
    forest = RandomForestRegressor(30, max_features="sqrt", random_state=seed)
    return IterativeImputer(forest, max_iter=5, random_state=seed).fit_transform(X)


def gaussian_em(X: np.ndarray, _seed: int) -> np.ndarray:
    """Conditional means of a normal distribution, by expectation-maximization."""
    there = ~np.isnan(X)
    n, d = X.shape
    loc, covariance = np.nanmean(X, axis=0), np.eye(d)
    for _ in range(EM_STEPS):
        filled, left = np.where(there, X, 0.0), np.zeros((d, d))
        for row, observed in zip(filled, there, strict=True):
            cov = covariance[np.ix_(observed, observed)]
            cross = covariance[np.ix_(observed, ~observed)]
            slopes = np.linalg.solve(cov, cross)
            row[~observed] = loc[~observed] + (row - loc)[observed] @ slopes
            left[np.ix_(~observed, ~observed)] += (
                covariance[np.ix_(~observed, ~observed)] - cross.T @ slopes
            )
        loc = filled.mean(axis=0)
        centred = filled - loc
        covariance = (centred.T @ centred + left + EM_ROWS * np.eye(d)) / (n + EM_ROWS)

    return filled


PROTOCOL_FILLERS: dict[str, Filler] = {
    "SimpleImputer (mean)": lambda X, _: SimpleImputer().fit_transform(X),
    "KNNImputer": lambda X, _: KNNImputer().fit_transform(X),
    "IterativeImputer (BayesianRidge)": lambda X, seed: IterativeImputer(
        random_state=seed
    ).fit_transform(X),
    "IterativeImputer (30 trees)": forests,
    "GaussianEM": gaussian_em,
    "VAEImputer": lambda X, seed: vae_imputer(seed).fit_transform(X),
}


def protocol(args: argparse.Namespace) -> None:
    """Mean squared errors of standardized cells of breast_cancer."""
    X = load_breast_cancer().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rows = {}
    for name, fill in PROTOCOL_FILLERS.items():
        if args.quick and "trees" in name:
            continue
        errors, seconds = {}, []
        for seed in [PROTOCOL_SEED, *args.seeds]:
            legacy = np.random.RandomState(seed)
            hole = np.zeros(X.size, bool)
            hole[legacy.choice(X.size, X.size // 2, replace=False)] = True
            hole = hole.reshape(X.shape)
            holey = np.where(hole, np.nan, X)
            filled, spent = timed(fill, holey, args.seeds[0])
            errors[seed] = float(np.square(filled - X)[hole].mean())
            seconds.append(spent)
            tell(f"protocol {name:34} mask {seed:5} {errors[seed]:.4f} {spent:7.2f} s")
        others = [errors[seed] for seed in args.seeds]
        rows[name] = {
            "mask 1234": f"{errors[PROTOCOL_SEED]:.3f}",
            "other masks": mean_and_spread(others, 3),
            "CPU s": f"{np.median(seconds):.2f}",
        }
    print_table("breast_cancer, half hidden", pd.DataFrame(rows).T)


# Adult, as in the HI-VAE paper


class Adult:
    """The table, its types, and one mask."""

    def __init__(self, mask: str, max_rows: int):
        folder = DATA / "hivae_adult"
        table = pd.read_csv(folder / "data.csv", header=None).iloc[:max_rows]
        types = pd.read_csv(folder / "data_types.csv")
        self.types = types["type"].tolist()
        self.sizes = types["dim"].tolist()
        self.X = table.to_numpy(np.float64)
        cells = pd.read_csv(folder / f"Missing{mask}.csv", header=None).to_numpy() - 1
        cells = cells[cells[:, 0] < len(table)]
        hole = np.zeros(self.X.shape, bool)
        hole[tuple(cells.T)] = True
        self.holey = np.where(hole, np.nan, self.X)
        self.scored = hole & ~np.isnan(self.X)
        self.classes = [
            np.unique(column[~np.isnan(column)]) if type_ in ("cat", "ordinal") else None
            for column, type_ in zip(self.X.T, self.types, strict=True)
        ]

    def frame(self) -> pd.DataFrame:
        """Give the table with holes as a data frame whose types say what its columns are."""
        columns = {}
        for j, (type_, classes) in enumerate(zip(self.types, self.classes, strict=True)):
            column = self.holey[:, j]
            columns[f"c{j}"] = (
                pd.array(column, dtype="Int64")
                if classes is None
                else pd.Categorical(column, classes, ordered=type_ == "ordinal")
            )
        return pd.DataFrame(columns)

    def spread(self) -> tuple[np.ndarray, list[slice]]:
        """Give the table with holes as numbers, classes as zeros with a one, standardized."""
        parts, slices, first = [], [], 0
        for j, (type_, classes) in enumerate(zip(self.types, self.classes, strict=True)):
            column = self.holey[:, [j]]
            if type_ == "cat":
                column = np.where(np.isnan(column), np.nan, column == classes)
            parts.append(column)
            slices.append(slice(first, first := first + column.shape[1]))
        return np.concatenate(parts, axis=1), slices

    def gathered(self, filled: np.ndarray, slices: list[slice]) -> np.ndarray:
        """Undo ``spread``."""
        columns = [
            classes[filled[:, part].argmax(axis=1)] if type_ == "cat" else filled[:, part.start]
            for part, type_, classes in zip(slices, self.types, self.classes, strict=True)
        ]
        return self.rounded(np.column_stack(columns))

    def rounded(self, filled: np.ndarray) -> np.ndarray:
        """Put numbers on classes that there are."""
        filled = filled.copy()
        for j, classes in enumerate(self.classes):
            if classes is not None:
                filled[:, j] = np.clip(np.rint(filled[:, j]), classes[0], classes[-1])
        return filled

    def errors(self, filled: np.ndarray) -> list[float]:
        """One error per column, as the paper's code has them."""
        errors = []
        for j, type_ in enumerate(self.types):
            scored = self.scored[:, j]
            truth, guess = self.X[scored, j], filled[scored, j]
            if type_ == "cat":
                errors.append(np.mean(truth != guess))
            elif type_ == "ordinal":
                errors.append(np.abs(truth - guess).mean() / self.sizes[j])
            else:
                span = np.nanmax(self.X[:, j]) - np.nanmin(self.X[:, j])
                errors.append(np.sqrt(np.square(truth - guess).mean()) / span)
        return [float(error) for error in errors]


def by_means(table: Adult, _args: argparse.Namespace, _seed: int) -> np.ndarray:
    has_classes = np.array([classes is not None for classes in table.classes])
    filled = table.holey.copy()
    for strategy, mask in (("most_frequent", has_classes), ("mean", ~has_classes)):
        filled[:, mask] = SimpleImputer(strategy=strategy).fit_transform(filled[:, mask])
    return filled


def by_neighbours(table: Adult, args: argparse.Namespace, seed: int) -> np.ndarray:
    spread, slices = table.spread()
    loc, scale = np.nanmean(spread, axis=0), np.nanstd(spread, axis=0)
    scaled = (spread - loc) / scale
    sample = np.random.default_rng(seed).permutation(len(scaled))[: args.knn_rows]
    filled = KNNImputer().fit(scaled[sample]).transform(scaled)
    return table.gathered(filled * scale + loc, slices)


def by_regression(table: Adult, _args: argparse.Namespace, seed: int) -> np.ndarray:
    return table.rounded(IterativeImputer(random_state=seed).fit_transform(table.holey))


def by_boosting(table: Adult, _args: argparse.Namespace, seed: int) -> np.ndarray:
    is_class = np.array([type_ == "cat" for type_ in table.types])
    filled = table.holey.copy()
    for j, type_ in enumerate(table.types):
        others = np.delete(table.holey, j, axis=1)
        classes = np.flatnonzero(np.delete(is_class, j))
        estimators = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
        model = estimators[type_ != "cat"](categorical_features=classes, random_state=seed)
        hole = np.isnan(table.holey[:, j])
        model.fit(others[~hole], table.holey[~hole, j])
        filled[hole, j] = model.predict(others[hole])
    return table.rounded(filled)


def by_vae(table: Adult, args: argparse.Namespace, seed: int) -> np.ndarray:
    imputer = vae_imputer(seed, estimator=estimator(args))
    filled = imputer.fit_transform(table.frame())
    tell(f"{imputer.estimator_.columns_}\n{imputer.estimator_.n_iter_} iterations")
    return np.column_stack([filled[name].astype(np.float64) for name in filled])


def estimator(args: argparse.Namespace) -> Any:
    """None for VAEImputer's own choice."""
    if not args.param:
        return None
    from sklearn_vae import VAETransformer

    return VAETransformer(**args.param)


ADULT_FILLERS: dict[str, Callable[[Adult, argparse.Namespace, int], np.ndarray]] = {
    "SimpleImputer (mean, mode)": by_means,
    "KNNImputer": by_neighbours,
    "IterativeImputer": by_regression,
    "HistGradientBoosting": by_boosting,
    "VAEImputer": by_vae,
}


def adult(args: argparse.Namespace) -> None:
    """Errors per kind of column, mask by mask."""
    seed = args.seeds[0]
    for mask in args.masks:
        try:
            table = Adult(mask, args.rows)
        except FileNotFoundError as error:
            print(f"\nadult: skipped, {error.filename} is not there (set SKLEARN_VAE_DATA)")
            return
        rows, columns = {}, {}
        for name, fill in ADULT_FILLERS.items():
            filled, spent = timed(fill, table, args, seed)
            errors = pd.Series(table.errors(filled), index=table.types)
            groups = errors.groupby(errors.index.map(GROUPS.get)).mean()
            figures = {**groups.loc[[*dict.fromkeys(GROUPS.values())]], "all": errors.mean()}
            rows[name] = {key: f"{value:.4f}" for key, value in figures.items()}
            rows[name]["CPU s"] = f"{spent:.1f}"
            columns[name] = [f"{error:.3f}" for error in errors]
            tell(f"adult {mask} {name:28}{rows[name]}")
        print_table(f"Adult, mask {mask}", pd.DataFrame(rows).T)
        known_as = [f"{j + 1} ({type_})" for j, type_ in enumerate(table.types)]
        print_table(f"mask {mask}, by column", pd.DataFrame(columns, index=known_as))


GROUPS = {
    "real": "numbers",
    "pos": "numbers",
    "count": "numbers",
    "cat": "classes",
    "ordinal": "ordered",
}


# Intervals


class Linear:
    """A normal distribution of which every conditional one is known."""

    def __init__(self, seed: int):
        rng = np.random.default_rng([seed, 0])
        loadings = rng.normal(size=(N_FACTORS, N_COLUMNS))
        self.loc = 3 * rng.normal(size=N_COLUMNS)
        self.covariance = loadings.T @ loadings + np.diag(rng.uniform(0.2, 0.6, N_COLUMNS))
        self.rng = rng

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows, and the same with holes; at least one cell of a row is left."""
        X = self.rng.multivariate_normal(self.loc, self.covariance, n)
        hole = self.rng.random(X.shape) < HIDDEN
        hole[hole.all(axis=1), 0] = False
        return X, np.where(hole, np.nan, X)

    def completed(self, holey: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Conditional means, draws, and the mean log-density of what is there."""
        mean, draws, nats = holey.copy(), np.repeat(holey[None], n_draws, axis=0), 0.0
        for i, row in enumerate(holey):
            hole = np.isnan(row)
            if not hole.any():
                nats += stats.multivariate_normal(self.loc, self.covariance).logpdf(row) / len(
                    holey
                )
                continue
            cov = self.covariance[np.ix_(~hole, ~hole)]
            cross = self.covariance[np.ix_(~hole, hole)]
            slopes = np.linalg.solve(cov, cross)
            mean[i, hole] = self.loc[hole] + (row - self.loc)[~hole] @ slopes
            left = self.covariance[np.ix_(hole, hole)] - cross.T @ slopes
            draws[:, i, hole] = self.rng.multivariate_normal(mean[i, hole], left, n_draws)
            nats += stats.multivariate_normal(self.loc[~hole], cov).logpdf(row[~hole]) / len(holey)
        return mean, draws, nats


def intervals(args: argparse.Namespace) -> None:
    """Errors, cover and width of 90 % intervals, log-densities of parts of rows."""
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        linear = Linear(seed)
        (_, train), (X, holey) = linear.draw(N_ROWS), linear.draw(N_FRESH)
        exact, draws, nats = linear.completed(holey, args.draws)
        (model, *ours), spent = timed(vae_completed, train, holey, args, seed)
        theirs, spent_theirs = timed(iterative_completed, train, holey, args, seed)
        imputers = {
            "exact": ((exact, draws), {"nats": 0.0, "CPU s": np.nan}),
            f"VAEImputer, {args.draws} draws": (
                ours,
                {"nats": float(model.estimator_.score(holey)) - nats, "CPU s": spent},
            ),
            f"IterativeImputer, {args.few_draws} draws": (
                theirs,
                {"nats": np.nan, "CPU s": spent_theirs},
            ),
        }
        hole = np.isnan(holey)
        for name, ((mean, imputed), others) in imputers.items():
            like = draws[: len(imputed), hole]
            judged = judge(X[hole], mean[hole], imputed[:, hole], exact[hole], like)
            rows.append({"model": name, **judged, **others})
            figures = {key: round(value, 3) for key, value in rows[-1].items() if key != "model"}
            tell(f"intervals seed {seed} {name:30}{figures}")

    records = pd.DataFrame(rows).groupby("model", sort=False)
    digits = {"RMSE": 3, "cover, %": 1, "width": 3, "nats": 3, "CPU s": 1}
    columns = {
        key: records[key].apply(lambda values, n=n: mean_and_spread(values, n))
        for key, n in digits.items()
    }
    print_table("linear-Gaussian, 40 % hidden", pd.DataFrame(columns))


def judge(
    truth: np.ndarray, mean: np.ndarray, draws: np.ndarray, exact: np.ndarray, like: np.ndarray
) -> dict[str, float]:
    """Compare what is said of hidden cells with the exact means and with draws like these."""
    error, best = (np.sqrt(np.mean((values - truth) ** 2)) for values in (mean, exact))
    (low, high), (exact_low, exact_high) = ends(draws), ends(like)
    return {
        "RMSE": error / best,
        "cover, %": 100 * np.mean((low <= truth) & (truth <= high)),
        "width": np.mean(high - low) / np.mean(exact_high - exact_low),
    }


def ends(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of intervals: (20 k - 1, n) -> (n,), (n,)."""
    k = round((len(draws) + 1) * OUTSIDE / 2)
    ordered = np.sort(draws, axis=0)
    return ordered[k - 1], ordered[-k]


def vae_completed(
    train: np.ndarray, holey: np.ndarray, args: argparse.Namespace, seed: int
) -> tuple[Any, np.ndarray, np.ndarray]:
    model = vae_imputer(seed, estimator=estimator(args)).fit(train)
    return model, model.transform(holey), model.estimator_.impute(holey, args.draws)


def iterative_completed(
    train: np.ndarray, holey: np.ndarray, args: argparse.Namespace, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    mean = IterativeImputer(random_state=seed).fit(train).transform(holey)
    draws = [
        IterativeImputer(sample_posterior=True, random_state=100 * seed + k)
        .fit(train)
        .transform(holey)
        for k in range(args.few_draws)
    ]
    return mean, np.stack(draws)


def mean_and_spread(values: Any, digits: int) -> str:
    values = np.asarray(values, float)
    if np.isnan(values).all():
        return ""
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


# Tables

TABLES = (
    "airfoil", "bike", "blood", "climate", "compression", "credit", "drug", "obesity",
    "parkinsons", "wine", "yacht",
)  # fmt: skip
TABLE_HIDDEN, NEW_SHARE = 0.3, 0.2
OURS = "VAEImputer"


class MiceForest:
    """miceforest with the interface of scikit-learn's imputers."""

    def __init__(self, seed: int):
        self.seed = seed

    def fit_transform(self, X: np.ndarray) -> np.ndarray:
        import miceforest

        frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])])
        self.kernel = miceforest.ImputationKernel(
            frame, num_datasets=1, random_state=self.seed, save_all_iterations_data=True
        )
        self.kernel.mice(5)
        return self.kernel.complete_data(0).to_numpy()

    def transform(self, X: np.ndarray) -> np.ndarray:
        frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])])
        return self.kernel.impute_new_data(frame).complete_data(0).to_numpy()


TABLE_IMPUTERS: dict[str, Callable[[int, argparse.Namespace], Any]] = {
    "mean": lambda _seed, _args: SimpleImputer(),
    "KNN": lambda _seed, _args: KNNImputer(),
    "IterativeImputer": lambda seed, _args: IterativeImputer(random_state=seed),
    "MissForest": lambda seed, _args: IterativeImputer(
        RandomForestRegressor(30, max_features="sqrt", random_state=seed),
        max_iter=5,
        random_state=seed,
    ),
    OURS: lambda seed, args: vae_imputer(seed, estimator=estimator(args)),
}
if importlib.util.find_spec("miceforest") is not None:
    TABLE_IMPUTERS["miceforest"] = lambda seed, _args: MiceForest(seed)


def scaled_table(name: str, most_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Rows in random order, columns that change scaled to between 0 and 1."""
    folder, _, file_name = name.rpartition("/")
    if folder:
        X = FOLDERS[folder](file_name)
    else:
        X = pd.read_csv(DATA / "impute" / f"{name}.csv", index_col=0).to_numpy(np.float64)
    X = X[rng.permutation(len(X))[:most_rows]]
    X = X[:, np.ptp(X, axis=0) > 0]
    return (X - X.min(axis=0)) / np.ptp(X, axis=0)


def tables(args: argparse.Namespace) -> None:
    """RMSE of each table and mechanism, on training and new rows."""
    for mechanism in args.mechanisms:
        records: list[dict[str, Any]] = []
        for name, seed in itertools.product(args.tables, args.seeds):
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            try:
                X = scaled_table(name, args.table_rows, rng)
            except FileNotFoundError as error:
                print(f"\ntables: skipped, {error.filename} is not there (set SKLEARN_VAE_DATA)")
                return
            hidden = amputation.hide(X, mechanism, TABLE_HIDDEN, rng)
            incomplete = np.where(hidden, np.nan, X)
            n_train = round((1 - NEW_SHARE) * len(X))
            for label in args.imputers:
                imputer = TABLE_IMPUTERS[label](seed, args)
                imputed, spent = timed(fit_and_impute, imputer, incomplete, n_train)
                squares = np.where(hidden, np.square(imputed - X), np.nan)
                train, new = np.split(squares, [n_train])
                train_rmse, new_rmse = (float(np.sqrt(np.nanmean(part))) for part in (train, new))
                covered = np.nan
                if label == OURS:
                    draws = imputer.set_params(n_imputations=args.draws).transform(
                        incomplete[n_train:]
                    )
                    covered = cover(draws, X[n_train:], hidden[n_train:], rng)
                records.append(
                    {
                        "table": name,
                        "imputer": label,
                        "train": train_rmse,
                        "new": new_rmse,
                        "cover": covered,
                        "CPU s": spent,
                    }
                )
                tell(
                    f"tables {mechanism} seed {seed} {name:12}{label:18}"
                    f"{train_rmse:.4f} {new_rmse:.4f} {covered:5.1f} % {spent:7.1f} s"
                )
        means = pd.DataFrame(records).groupby(["table", "imputer"], sort=False).mean().unstack()
        for figure in ("train", "new"):
            errors = means[figure]
            best = errors.idxmin(axis=1)
            cells = pd.concat([errors, errors.mean().to_frame("mean").T]).map("{:.3f}".format)
            cells.loc["first on"] = [str((best == label).sum()) for label in errors]
            if OURS in errors:
                ratios = np.exp(np.log(errors.rdiv(errors[OURS], axis=0)).mean())
                cells.loc[f"{OURS} / it"] = ratios.map("{:.3f}".format)
            print_table(f"RMSE, {mechanism}, {figure} rows", cells)
        covers = means["cover"].dropna(axis=1).map("{:.1f}".format)
        print_table(f"cover of 90 % intervals, %, {mechanism}, new rows", covers)
        print_table(
            f"CPU seconds, {mechanism}", means["CPU s"].mean().map("{:.1f}".format).to_frame("s")
        )


def cover(
    draws: np.ndarray, X: np.ndarray, hidden: np.ndarray, generator: np.random.Generator
) -> float:
    """Share in per cent of the hidden cells that lie in the intervals of their draws."""
    values, rounding = X[hidden], 1e-9
    lower = (draws[:, hidden] < values - rounding).sum(axis=0)
    equal = (np.abs(draws[:, hidden] - values) <= rounding).sum(axis=0)
    rank = lower + generator.integers(equal + 1)
    outside = round((len(draws) + 1) * OUTSIDE / 2)
    return 100 * float(np.mean((outside <= rank) & (rank <= len(draws) - outside)))


def fit_and_impute(imputer: Any, X: np.ndarray, n_train: int) -> np.ndarray:
    """Fit to the first rows, and impute them and the others."""
    return np.vstack([imputer.fit_transform(X[:n_train]), imputer.transform(X[n_train:])])


# The command line

PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "protocol": protocol,
    "adult": adult,
    "intervals": intervals,
    "tables": tables,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Holes filled in by a VAE and its rivals.")
    add = parser.add_argument
    add("--parts", default=",".join(PARTS), help="names with commas between: %(default)s")
    add("--seeds", default="0,1,2", help="of models, of linear rows, of other masks: %(default)s")
    add("--masks", default="20_1", help="of adult: percentage and number: %(default)s")
    add("--rows", default=40_000, type=int, help="of adult at the most: all by default")
    add("--knn-rows", default=5_000, type=int, help="that KNNImputer learns from: %(default)s")
    add("--draws", default=99, type=int, help="per cell, 20 k - 1: %(default)s")
    add("--few-draws", default=19, type=int, help="of IterativeImputer, 20 k - 1: %(default)s")
    add("--tables", default=",".join(TABLES), help="names with commas between: %(default)s")
    add("--mechanisms", default=",".join(amputation.MECHANISMS), help="%(default)s")
    add("--imputers", default=",".join(TABLE_IMPUTERS), help="of the tables: %(default)s")
    add("--table-rows", default=2_000, type=int, help="of each table at most: %(default)s")
    add("--param", action="append", default=[], type=parameter, metavar="NAME=VALUE")
    add("--quick", action="store_true", help="one mask of 4,000 rows, one seed, no forests")
    args = parser.parse_args()
    args.seeds = [int(seed) for seed in args.seeds.split(",")][: 1 if args.quick else None]
    args.tables = with_oddbench(args.tables.split(","))
    args.mechanisms = args.mechanisms.split(",")
    args.imputers = args.imputers.split(",")
    args.masks = args.masks.split(",")[: 1 if args.quick else None]
    args.rows = min(args.rows, 4_000) if args.quick else args.rows
    args.param = dict(args.param)
    for option in ("draws", "few_draws"):
        if (getattr(args, option) + 1) % 20:
            parser.error(f"--{option.replace('_', '-')} must be 19, 39, 59 and so on")

    with threadpool_limits(1):
        for part in args.parts.split(","):
            PARTS[part](args)


if __name__ == "__main__":
    main()
