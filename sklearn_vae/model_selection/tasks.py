"""Fit tasks of a search, candidates on folds: prepared, trained together, and scored."""

import time
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from operator import itemgetter
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from sklearn_vae._compat import check_method_params, fit_and_score, safe_split
from sklearn_vae.data.arrays import Table, Target
from sklearn_vae.estimators.density_estimator import DensityEstimator
from sklearn_vae.estimators.transformer import TableCache, VAETransformer
from sklearn_vae.system.compute import default_modes
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.jobs import TrainingJob, TrainingResult
from sklearn_vae.training.stacked import train

# Number of a candidate and number of a fold.
Task = tuple[int, int]
Scores = dict[str, object]
Results = dict[Task, Scores]

# Folds are trained together up to so many bytes of encoded rows.
MAX_TABLE_BYTES = 256 << 20


class CannotStackError(Exception):
    """Reason why a fit cannot be stacked."""


@dataclass
class FitTask:
    """One candidate on one fold: the estimator and the jobs that train it."""

    estimator: BaseEstimator  # the candidate, a VAE or a Pipeline whose last step is one
    vae: VAETransformer
    jobs: list[TrainingJob]  # of its first training
    rows: Dataset  # all training rows


@default_modes()
def train_tasks(tasks: Sequence[FitTask]) -> None:
    """Train all tasks together, with their second trainings, and set the fitted attributes."""
    first = _train_nested(tasks, [task.jobs for task in tasks])
    selected = [
        task.vae._select(task.jobs, results, task.rows)
        for task, results in zip(tasks, first, strict=True)
    ]
    again = _train_nested(tasks, [jobs for _, jobs in selected])
    for task, (best, _), second in zip(tasks, selected, again, strict=True):
        task.vae._set_results(second or best, task.rows)


def _train_nested(
    tasks: Sequence[FitTask], nested: Sequence[list[TrainingJob]]
) -> list[list[TrainingResult]]:
    """Train each task's list of jobs, all together."""
    jobs = [job for jobs in nested for job in jobs]
    verbose = max((int(task.vae.verbose) for task in tasks), default=0)
    results = iter(train(jobs, verbose=verbose))
    return [[next(results) for _ in jobs] for jobs in nested]


@dataclass
class SearchRun:
    """Rows, folds, candidates and scorers of a search, and caches that the fits share."""

    estimator: BaseEstimator
    X: Table
    y: Target
    splits: Sequence[tuple[np.ndarray, np.ndarray]]
    candidates: Sequence[dict[str, Any]]
    scorer: Any
    fit_params: dict[str, Any]
    score_params: dict[str, Any]
    error_score: Any
    return_train_score: bool
    folds: dict[int, tuple[Table, Target]] = field(default_factory=dict)  # training rows, y
    steps: dict[Hashable, tuple[list[tuple[str, BaseEstimator]], Table]] = field(
        default_factory=dict
    )
    tables: TableCache = field(default_factory=dict)

    @property
    def tasks(self) -> list[Task]:
        """All pairs of a candidate and a fold."""
        return list(product(range(len(self.candidates)), range(len(self.splits))))

    def prepare(self, tasks: Sequence[Task], reasons: Counter[str]) -> dict[Task, FitTask]:
        """Prepare the fits that can be stacked; count the reasons of those that cannot."""
        prepared: dict[Task, FitTask] = {}
        for candidate, split in tasks:
            params = clone(self.candidates[candidate], safe=False)
            estimator = clone(self.estimator).set_params(**params)
            try:
                prepared[candidate, split] = self._prepare_one(estimator, candidate, split)
            except CannotStackError as reason:
                reasons[str(reason)] += 1
            except Exception:
                # fit_and_score meets the same error and records it
                if self.error_score == "raise":
                    raise
        return prepared

    def _prepare_one(self, estimator: BaseEstimator, candidate: int, split: int) -> FitTask:
        # a subclass may override fit
        is_pipeline = type(estimator) is Pipeline
        name, vae = estimator.steps[-1] if is_pipeline else ("", estimator)
        if not isinstance(vae, DensityEstimator):
            raise CannotStackError(
                f"{vae if isinstance(vae, str) else type(vae).__name__} is not a VAETransformer"
            )
        if not isinstance(vae, VAETransformer) or type(vae).fit is not VAETransformer.fit:
            raise CannotStackError(f"{type(vae).__name__} has a fit of its own")
        if vae.checkpoint is not None:
            raise CannotStackError(f"{type(vae).__name__} has a checkpoint of its own")
        if vae.callbacks:
            raise CannotStackError(f"{type(vae).__name__} has callbacks of its own")
        weight_name = f"{name}__sample_weight" if is_pipeline else "sample_weight"
        if unsupported := set(self.fit_params) - {weight_name}:
            raise CannotStackError(f"fit is given {', '.join(sorted(unsupported))}")

        X, y = self._fold(split)
        if is_pipeline and len(estimator.steps) > 1:
            steps, X = self._fitted_steps(estimator, candidate, split)
            estimator.steps = [*steps, (name, vae)]
        weights = check_method_params(self.X, self.fit_params, self.splits[split][0])
        with default_modes():
            jobs, rows = vae._make_jobs(X, y, weights.get(weight_name), cache=self.tables)
        return FitTask(estimator, vae, jobs, rows)

    def _fold(self, split: int) -> tuple[Table, Target]:
        """Training rows of one fold, and their y."""
        if split not in self.folds:
            train, _ = self.splits[split]
            self.folds[split] = safe_split(self.estimator, self.X, self.y, train)
        return self.folds[split]

    def _fitted_steps(
        self, estimator: Pipeline, candidate: int, split: int
    ) -> tuple[list[tuple[str, BaseEstimator]], Table]:
        """Fitted steps before the last one, and the training rows that they transform."""
        last = estimator.steps[-1][0]
        params = self.candidates[candidate].items()
        # equal values are one object, as the candidates are made from the same lists
        values = ((name, id(value)) for name, value in params if name.split("__")[0] != last)
        key = (split, *values)
        if key not in self.steps:
            X, y = self._fold(split)
            pipeline = Pipeline(estimator.steps[:-1], memory=estimator.memory)
            rows = pipeline.fit_transform(X, y)
            self.steps[key] = pipeline.steps, rows
        return self.steps[key]

    def fit_and_score(self, task: Task, trained: FitTask | None) -> Scores:
        """Fit and score a candidate on a fold as scikit-learn does, unless it has been trained."""
        candidate, split = task
        train, test = self.splits[split]
        estimator: Any = clone(self.estimator) if trained is None else trained.estimator

        def keep(*_: Any, **_params: Any) -> None:
            del estimator.fit  # the next call is one of the scorer

        if trained is not None:
            estimator.fit = keep  # scikit-learn fits what it scores
        return fit_and_score(
            estimator,
            self.X,
            self.y,
            scorer=self.scorer,
            train=train,
            test=test,
            verbose=0,
            parameters=self.candidates[candidate] if trained is None else None,
            fit_params=self.fit_params,
            score_params=self.score_params,
            return_train_score=self.return_train_score,
            return_n_test_samples=True,
            return_times=True,
            error_score=self.error_score,
        )


def evaluate(run: SearchRun, tasks: Sequence[Task]) -> tuple[Results, Counter[str]]:
    """Fit and score tasks, sorted by fold, those of as many folds together as fit in memory."""
    folds = [list(group) for _, group in groupby(tasks, key=itemgetter(1))]
    results: Results = {}
    reasons: Counter[str] = Counter()
    while folds:
        run, start = replace(run, folds={}, steps={}, tables={}), time.perf_counter()
        together: list[Task] = []
        prepared: dict[Task, FitTask] = {}
        while folds and sum(rows.x.nbytes for _, rows, _ in run.tables.values()) < MAX_TABLE_BYTES:
            together += (fold := folds.pop(0))
            prepared |= run.prepare(fold, reasons)
        try:
            train_tasks(list(prepared.values()))
        except Exception:  # of one of them, or of memory: all are fitted one by one
            prepared = {}
        fit_time = (time.perf_counter() - start) / max(len(prepared), 1)
        for task in together:
            results[task] = run.fit_and_score(task, prepared.get(task))
            if task in prepared:
                results[task]["fit_time"] = fit_time
    return results, reasons
