"""Synthetic rows of a mixed table with holes: a VAE beside the CTGAN package's TVAE.

    python benchmarks/synthesis.py                                   # everything, seed 0
    python benchmarks/synthesis.py --models vae,vae16 --seeds 0,1,2
    python benchmarks/synthesis.py --models tvae --epochs 30         # a shortened rival
    python benchmarks/synthesis.py --quick                           # 4,000 rows, few iterations

The table is UCI Adult as it comes: ``tables/adult-train.csv`` (32,561 rows) and
``tables/adult-test.csv`` (16,281) of the folder that SKLEARN_VAE_DATA names, or else of
``../shared/data`` beside the repository. Six columns of integers, nine of strings; a ``?`` is a
missing cell. How each figure is obtained:

- A model is fitted to the training rows (`--rows` of them, by a fixed draw, where that is fewer),
  and 5,000 rows are drawn from it.
- "Judge" is the area under the ROC curve of a gradient-boosted classifier
  (HistGradientBoostingClassifier, defaults) that is to tell the 5,000 drawn rows from 5,000 rows
  of the test file without holes, by five-fold cross-validation. 0.5 is the best that a model can
  reach, 1 says that no row passes.
- "Utility" is the area under the ROC curve, on all rows of the test file, of the same classifier
  trained to tell incomes from the drawn rows; "ratio" divides it by that of the classifier
  trained on 5,000 training rows.
- "By column" is the judge with one column only: which ones give a model away.
- `vae` is VAETransformer with its defaults, `vae16` the one with n_components=16; both see the
  table with its holes. `tvae` is TVAE of the package ``ctgan`` (0.12), which takes no holes: it
  sees the training rows without any. It is left out where the package is not there; its epochs are
  those of its defaults (300), or `--epochs`. `columns` draws every column by itself from the
  training rows, `real` takes training rows without holes: what the judge says of a model
  without any dependence, and of a perfect one.
- CPU seconds (`time.process_time`, one thread) of fit and of drawing; a process's first fit by
  torch also holds what torch imports then, about a second.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from density import parameter, print_table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from tables import DATA
from threadpoolctl import threadpool_limits

NUMBERS = ["age", "fnlwgt", "education_num", "gain", "loss", "hours"]
NAMES = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education_num",
    "marital",
    "occupation",
    "relationship",
    "race",
    "sex",
    "gain",
    "loss",
    "hours",
    "country",
    "income",
]
TARGET, POSITIVE = "income", ">50K"
N_DRAWN = 5_000
QUICK_ROWS = 4_000
QUICK_ITERATIONS, QUICK_EPOCHS = 10, 10

# training rows, a seed, the command line's arguments -> how to draw so many rows
Draw = Callable[[int], pd.DataFrame]
Model = Callable[[pd.DataFrame, int, argparse.Namespace], Draw]


# The table


def adult() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows, missing cells as NaN."""
    train = read(DATA / "tables" / "adult-train.csv")
    test = read(DATA / "tables" / "adult-test.csv")
    test[TARGET] = test[TARGET].str.rstrip(".")

    return train, test


def read(path: Path) -> pd.DataFrame:
    """Read a file of UCI's, one of which begins with a line that is no row."""
    return pd.read_csv(
        path, names=NAMES, skipinitialspace=True, na_values="?", header=None, comment="|"
    )


# Models


def vae(train: pd.DataFrame, seed: int, args: argparse.Namespace, **params: Any) -> Draw:
    import torch

    from sklearn_vae import VAETransformer

    torch.set_num_threads(1)
    model = VAETransformer(**{"random_state": seed, **params, **args.param}).fit(train)
    drawn = model.sample(10)
    kept = list(drawn.columns) == list(train.columns) and (drawn.dtypes == train.dtypes).all()
    note = f"n_components {model.architecture_.n_components}, {model.n_iter_} iterations, columns "
    print(note + f"and types of the table kept: {kept}", file=sys.stderr)

    return lambda n: model.sample(n, random_state=seed + 1)


def vae16(train: pd.DataFrame, seed: int, args: argparse.Namespace) -> Draw:
    return vae(train, seed, args, n_components=16)


def tvae(train: pd.DataFrame, seed: int, args: argparse.Namespace) -> Draw:
    import torch
    from ctgan import TVAE

    torch.set_num_threads(1)
    model = TVAE(epochs=args.epochs)
    model.set_random_state(seed)
    model.fit(train.dropna(), [name for name in train if name not in NUMBERS])

    return model.sample


def columns(train: pd.DataFrame, seed: int, _args: argparse.Namespace) -> Draw:
    rng = np.random.default_rng(seed)
    whole = train.dropna()
    return lambda n: pd.DataFrame({name: rng.choice(whole[name], n) for name in whole})


def real(train: pd.DataFrame, seed: int, _args: argparse.Namespace) -> Draw:
    whole = train.dropna()
    return lambda n: whole.sample(n, random_state=seed + 1, replace=n > len(whole))


MODELS: dict[str, Model] = {model.__name__: model for model in (real, columns, tvae, vae, vae16)}


# Judging


class Judge:
    """What is asked of drawn rows."""

    def __init__(self, train: pd.DataFrame, test: pd.DataFrame, seed: int):
        self.seed = seed
        self.categories = {
            name: sorted({*train[name].dropna(), *test[name].dropna()})
            for name in NAMES
            if name not in NUMBERS
        }
        self.whole = self._ready(test.dropna().sample(N_DRAWN, random_state=seed))
        self.test = self._ready(test)

    def _ready(self, table: pd.DataFrame) -> pd.DataFrame:
        """Strings as categories; integers stay what they are."""
        ready = {
            name: pd.Categorical(table[name], self.categories[name])
            if name in self.categories
            else table[name].astype(np.float64).to_numpy()
            for name in NAMES
        }
        return pd.DataFrame(ready)

    def classifier(self, **options: Any) -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(
            random_state=self.seed, categorical_features="from_dtype", **options
        )

    def tells(self, drawn: pd.DataFrame, names: list[str], **options: Any) -> float:
        """How well drawn rows are told from real ones by some of their columns."""
        both = pd.concat([self.whole, self._ready(drawn)], ignore_index=True)[names]
        is_real = np.arange(len(both)) < len(self.whole)
        folds = StratifiedKFold(5, shuffle=True, random_state=self.seed)
        probability = cross_val_predict(
            self.classifier(**options), both, is_real, cv=folds, method="predict_proba"
        )
        return float(roc_auc_score(is_real, probability[:, 1]))

    def utility(self, rows: pd.DataFrame) -> float:
        """How well incomes are told by what the rows teach."""
        ready = self._ready(rows)
        model = self.classifier().fit(ready.drop(columns=TARGET), ready[TARGET] == POSITIVE)
        probability = model.predict_proba(self.test.drop(columns=TARGET))[:, 1]
        return float(roc_auc_score(self.test[TARGET] == POSITIVE, probability))


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record per seed and model, and tell of it on stderr."""
    train, test = adult()
    if args.rows < len(train):
        train = train.sample(args.rows, random_state=0).reset_index(drop=True)
    for seed in args.seeds:
        judge = Judge(train, test, seed)
        by_real = judge.utility(train.sample(min(N_DRAWN, len(train)), random_state=seed))
        for name in args.models:
            start = time.process_time()
            try:
                draw = MODELS[name](train, seed, args)
            except ImportError as error:
                print(f"{name}: left out, {error.name} is not installed\n", file=sys.stderr)
                continue
            fitted = time.process_time()
            drawn = draw(N_DRAWN)
            done = time.process_time()
            record = {
                "model": name,
                "seed": seed,
                "judge": judge.tells(drawn, NAMES),
                "utility": judge.utility(drawn),
                "fit": fitted - start,
                "draw": done - fitted,
            }
            record["ratio"] = record["utility"] / by_real
            record |= {f"{key} alone": judge.tells(drawn, [key], max_iter=50) for key in NAMES}
            note = "judge {judge:.3f}  utility {utility:.3f}  ratio {ratio:.3f}  {fit:6.1f} s"
            print(f"seed {seed} {name:10}" + note.format(**record), file=sys.stderr)
            yield record


# Printing


def report(records: pd.DataFrame) -> None:
    """Two tables: what the judge says and what it costs; and column by column."""
    means = records.drop(columns="seed").groupby("model", sort=False).mean()
    digits = {"judge": 3, "utility": 3, "ratio": 3, "fit": 1, "draw": 2}
    shown = {key: means[key].map(f"{{:.{n}f}}".format) for key, n in digits.items()}
    names = {"fit": "fit, CPU s", "draw": "drawing 5,000, CPU s"}
    print_table("Adult", pd.DataFrame(shown).rename(columns=names))
    alone = means[[f"{name} alone" for name in NAMES]].T
    alone.index = NAMES
    print_table("judge, by column", alone.map("{:.3f}".format))


# The command line


def main() -> None:
    parser = argparse.ArgumentParser(description="Rows drawn from models of Adult, judged.")
    add = parser.add_argument
    add("--models", default=",".join(MODELS), help="names with commas between: %(default)s")
    add("--seeds", default="0", help="seeds of models and of the judge: %(default)s")
    add("--rows", default=40_000, type=int, help="training rows at the most: all by default")
    add("--epochs", default=300, type=int, help="passes of TVAE: %(default)s")
    add("--param", action="append", default=[], type=parameter, metavar="NAME=VALUE")
    add("--quick", action="store_true", help=f"{QUICK_ROWS} rows, short training, first seed")
    add("--json", type=Path, metavar="FILE", help="write every result there")
    args = parser.parse_args()
    args.models = args.models.split(",")
    if unknown := set(args.models) - set(MODELS):
        parser.error(f"unknown models {sorted(unknown)}: use some of {', '.join(MODELS)}")
    args.seeds = [int(seed) for seed in args.seeds.split(",")][: 1 if args.quick else None]
    args.param = dict(args.param)
    if args.quick:
        args.rows, args.epochs = QUICK_ROWS, QUICK_EPOCHS
        args.param = {"max_iter": QUICK_ITERATIONS, **args.param}

    try:
        with threadpool_limits(1):
            records = pd.DataFrame(run(args))
    except FileNotFoundError as error:
        parser.exit(message=f"skipped: {error.filename} is not there (set SKLEARN_VAE_DATA)\n")
    if records.empty:
        parser.exit(message="nothing to show: no model's package is there\n")
    report(records)
    if args.json:
        records.to_json(args.json, orient="records", indent=1)


if __name__ == "__main__":
    main()
