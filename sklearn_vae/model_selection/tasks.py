"""The fits of a search: candidates on folds, made ready to be trained together, and judged."""

import time
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from operator import itemgetter
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from sklearn_vae._compat import check_method_params, fit_and_score, safe_split, score_estimator
from sklearn_vae.estimators.base import BaseVAE
from sklearn_vae.estimators.table import DensityEstimator
from sklearn_vae.training import TrainingJob, TrainingResult, apart, fit_all

# A candidate's number and a fold's.
Task = tuple[int, int]
Results = dict[Task, dict[str, Any]]

# Folds are trained together until their encoded rows have so many bytes.
TABLES_TOGETHER = 256 << 20


class CannotStackError(Exception):
    """A fit that has to be done in the ordinary way."""


@dataclass
class FitTask:
    """One candidate on one fold: its estimator, about to be trained with others."""

    estimator: BaseEstimator
    vae: BaseVAE
    wanted: TrainingJob
    split: int

    def take(self, found: TrainingResult) -> None:
        """End up fitted."""
        self.vae._take(found, self.wanted.table)

    def stand_at(self, so_far: TrainingResult) -> None:
        """Be fitted with what there is so far; what there is to warn of is said at the end."""
        self.vae._take(replace(so_far, diverged=False), self.wanted.table)


@dataclass
class SearchRun:
    """What a search has to do, and how its results are to look."""

    estimator: BaseEstimator
    X: Any
    y: Any
    splits: Sequence[tuple[np.ndarray, np.ndarray]]
    candidates: Sequence[dict[str, Any]]
    scorer: Any
    fit_params: dict[str, Any]
    score_params: dict[str, Any]
    error_score: Any
    return_train_score: bool
    folds: dict[int, tuple[Any, Any, Any, Any]] = field(default_factory=dict)
    heads: dict[Hashable, tuple[list[Any], Any]] = field(default_factory=dict)
    tables: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> list[Task]:
        """All fits: a candidate and a fold each."""
        return list(product(range(len(self.candidates)), range(len(self.splits))))

    def afresh(self) -> Self:
        """Give the same work without the rows that are held for it."""
        return replace(self, folds={}, heads={}, tables={})

    @property
    def bytes_encoded(self) -> int:
        """Bytes of the encoded rows that are held."""
        return sum(table.x.nbytes for _, table in self.tables.values())

    def board(self, tasks: Sequence[Task]) -> tuple[dict[Task, FitTask], Counter[str]]:
        """Prepare the fits that can ride; tell what stands in others' way, and how often."""
        rides: dict[Task, FitTask] = {}
        obstacles: Counter[str] = Counter()
        for candidate, split in tasks:
            params = clone(self.candidates[candidate], safe=False)
            estimator = clone(self.estimator).set_params(**params)
            try:
                rides[candidate, split] = self.ride(estimator, candidate, split)
            except CannotStackError as obstacle:
                obstacles[str(obstacle)] += 1
            except Exception:
                # the ordinary fit meets the same error, and deals with it as it should
                if self.error_score == "raise":
                    raise
        return rides, obstacles

    def ride(self, estimator: BaseEstimator, candidate: int, split: int) -> FitTask:
        """Prepare one fit, or raise what stands in its way."""
        # not a subclass, whose fit may do more
        is_pipeline = type(estimator) is Pipeline
        name, vae = estimator.steps[-1] if is_pipeline else ("", estimator)
        if not isinstance(vae, DensityEstimator):
            raise CannotStackError(
                f"{vae if isinstance(vae, str) else type(vae).__name__} is not a VAE"
            )
        if not isinstance(vae, BaseVAE) or type(vae).fit is not BaseVAE.fit:
            raise CannotStackError(f"{type(vae).__name__} has a fit of its own")
        if vae.checkpoint is not None:
            raise CannotStackError("it has a checkpoint of its own")
        if vae.callbacks or any(getattr(one, "_skl_callbacks", None) for one in (estimator, vae)):
            raise CannotStackError("it has callbacks of its own")
        known = f"{name}__sample_weight" if is_pipeline else "sample_weight"
        if unknown := set(self.fit_params) - {known}:
            raise CannotStackError(f"fit is given {', '.join(sorted(unknown))}")

        X, y, *_ = self._fold(split)
        if is_pipeline and len(estimator.steps) > 1:
            head, X = self._head(estimator, candidate, split)
            estimator.steps = [*head, (name, vae)]
        weights = check_method_params(self.X, self.fit_params, self.splits[split][0])
        wanted = vae._prepare(X, weights.get(known), y, go_on=vae.warm_start, known=self.tables)
        return FitTask(estimator, vae, wanted, split)

    def _fold(self, split: int) -> tuple[Any, Any, Any, Any]:
        """Rows of one fold: X_train, y_train, X_test, y_test."""
        if split not in self.folds:
            train, test = self.splits[split]
            fold = (
                *safe_split(self.estimator, self.X, self.y, train),
                *safe_split(self.estimator, self.X, self.y, test, train),
            )
            self.folds.setdefault(split, fold)  # another thread may have been faster
        return self.folds[split]

    def _head(self, estimator: Pipeline, candidate: int, split: int) -> tuple[list[Any], Any]:
        """Fitted steps before the last one, and the training rows as they leave them."""
        last = estimator.steps[-1][0]
        params = self.candidates[candidate].items()
        # a list of candidates holds each value once, so values that are alike are one object
        own = ((name, id(value)) for name, value in params if name.split("__")[0] != last)
        key = (split, *own)
        if key not in self.heads:
            X, y, *_ = self._fold(split)
            head = Pipeline(estimator.steps[:-1], memory=estimator.memory)
            rows = head.fit_transform(X, y)
            self.heads.setdefault(key, (head.steps, rows))
        return self.heads[key]

    def result(self, task: Task, rides: dict[Task, FitTask], fit_time: float) -> dict[str, Any]:
        """Score a fit that has ridden, or do it now in the ordinary way."""
        return self.judge(rides[task], fit_time) if task in rides else self.fit_alone(*task)

    def judge(self, ride: FitTask, fit_time: float) -> dict[str, Any]:
        """Score a ride that is over, as scikit-learn's searches do."""
        X_train, y_train, X_test, y_test = self._fold(ride.split)
        train, test = self.splits[ride.split]
        started = time.perf_counter()
        params = check_method_params(self.X, self.score_params, test)
        scores = score_estimator(
            ride.estimator, X_test, y_test, self.scorer, params, self.error_score
        )
        result = {
            "fit_error": None,
            "fit_time": fit_time,
            "score_time": time.perf_counter() - started,
            "test_scores": scores,
            "n_test_samples": len(test),
        }
        if self.return_train_score:
            params = check_method_params(self.X, self.score_params, train)
            result["train_scores"] = score_estimator(
                ride.estimator, X_train, y_train, self.scorer, params, self.error_score
            )
        return result

    def fit_alone(self, candidate: int, split: int) -> dict[str, Any]:
        """Do one fit in scikit-learn's own way, and report its error if it has one."""
        train, test = self.splits[split]
        return fit_and_score(
            clone(self.estimator),
            self.X,
            self.y,
            scorer=self.scorer,
            train=train,
            test=test,
            verbose=0,
            parameters=self.candidates[candidate],
            fit_params=self.fit_params,
            score_params=self.score_params,
            return_train_score=self.return_train_score,
            return_n_test_samples=True,
            return_times=True,
            error_score=self.error_score,
        )


def evaluate(work: SearchRun, tasks: Sequence[Task]) -> tuple[Results, Counter[str]]:
    """Do some of the fits, those of a fold in a row; let a fold's rows go when they are done."""
    folds = [list(own) for _, own in groupby(tasks, key=itemgetter(1))]
    results: Results = {}
    obstacles: Counter[str] = Counter()
    while folds:
        found, met = _evaluate_some(work.afresh(), folds)
        results |= found
        obstacles += met
    return results, obstacles


def _evaluate_some(work: SearchRun, folds: list[list[Task]]) -> tuple[Results, Counter[str]]:
    """Take folds off the list and do them together; those that cannot ride one by one."""
    started = time.perf_counter()
    tasks: list[Task] = []
    rides: dict[Task, FitTask] = {}
    obstacles: Counter[str] = Counter()
    while folds and work.bytes_encoded < TABLES_TOGETHER:
        tasks += (fold := folds.pop(0))
        boarded, met = work.board(fold)
        rides |= boarded
        obstacles += met
    wanted = [ride.wanted for ride in rides.values()]
    ends = apart(lambda some: fit_all(some, verbose=0), wanted)
    for task, end in zip(list(rides), ends, strict=True):
        if end is None:
            del rides[task]
        else:
            rides[task].take(end)
    fit_time = (time.perf_counter() - started) / max(len(rides), 1)
    return {task: work.result(task, rides, fit_time) for task in tasks}, obstacles
