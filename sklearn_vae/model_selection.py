"""VAESearchCV: hyperparameter search in which the fits are trained as stacked models.

Its tasks, candidates on folds, are prepared, trained together and scored.
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from numbers import Integral
from operator import itemgetter
from typing import Any, ClassVar, Literal, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection import BaseCrossValidator, ParameterGrid, ParameterSampler, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel, delayed

from sklearn_vae._compat import (
    BaseSearchCV,
    Interval,
    check_method_params,
    fit_and_score,
    insert_error_scores,
    safe_split,
    warn_or_raise_about_fit_failures,
)
from sklearn_vae.data.arrays import Table, Target
from sklearn_vae.data.sources import check_is_table
from sklearn_vae.estimators.density_estimator import DensityEstimator
from sklearn_vae.estimators.estimator_base import restore_on_error
from sklearn_vae.estimators.transformer import TableCache, VAETransformer
from sklearn_vae.persistence.validation import MAX_COUNT
from sklearn_vae.system import warn
from sklearn_vae.system.compute import default_modes
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.jobs import TrainingJob, TrainingResult
from sklearn_vae.training.stacked import train

__all__ = ["VAESearchCV"]

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


class VAESearchCV(BaseSearchCV):
    """Cross-validated hyperparameter search that trains all candidates at once.

    It has the parameters, results and attributes of scikit-learn's ``GridSearchCV``, and is faster.
    A warning says how many fits have to be done one by one, and why.

    Parameters
    ----------
    estimator : estimator
        A VAE, or a Pipeline whose last step is one.
    param_grid : dict or list of dict
        Values by parameter name, as in ``GridSearchCV``; with ``n_iter`` also distributions, as
        in ``RandomizedSearchCV``.
    n_iter : int, default=None
        Number of candidates drawn from ``param_grid``; None for all combinations.
    scoring : str, callable, list, tuple or dict, default=None
        As in ``GridSearchCV``. None is the estimator's ``score``, the mean log-density in nats.
    n_jobs : int, default=None
        Number of processes; None for one, -1 for all cores.
    refit : bool, str or callable, default=True
        If true, ``best_estimator_`` is fitted on all rows; otherwise as in ``GridSearchCV``.
    cv : int, cross-validation generator or iterable, default=None
        Folds; None for 5.
    verbose : int, default=0
        If positive, the number of fits is printed. ``verbose`` of the VAE prints its
        iterations.
    pre_dispatch : int or str, default="2*n_jobs"
        As in ``GridSearchCV``.
    random_state : int, RandomState instance or None, default=None
        Seed of the candidates that are drawn.
    error_score : "raise" or float, default=np.nan
        Score of a candidate whose fit fails; ``"raise"`` raises its error.
    return_train_score : bool, default=False
        If true, scores on the training folds are computed.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        As in ``GridSearchCV``. The time of all fits is divided equally among them.
    best_estimator_ : estimator
        Fitted on all rows with the best parameters.
    best_params_, best_score_, best_index_ : dict, float, int
        The best candidate, its mean test score, and its row in ``cv_results_``.
    refit_time_ : float
        Seconds of the refit of ``best_estimator_``.
    scorer_, n_splits_, multimetric_ : function, int, bool
        As in ``GridSearchCV``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae.model_selection import VAESearchCV
    >>> from sklearn_vae import VAETransformer
    >>> X = load_iris().data
    >>> search = VAESearchCV(
    ...     VAETransformer(max_iter=5, random_state=0),
    ...     {"n_components": [1, 2], "beta": [0.5, 1.0]},
    ...     cv=3,
    ... ).fit(X)
    >>> len(search.cv_results_["params"])
    4
    >>> search.transform(X).shape == (150, search.best_params_["n_components"])
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseSearchCV._parameter_constraints,
        "param_grid": [Mapping, list],
        "n_iter": [Interval(Integral, 1, MAX_COUNT, closed="both"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        param_grid: Mapping[str, object] | Sequence[Mapping[str, object]],
        *,
        n_iter: int | None = None,
        scoring: str | Callable[..., float] | Sequence[str] | Mapping[str, object] | None = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[..., int] = True,
        cv: int | BaseCrossValidator | Iterable[tuple[np.ndarray, np.ndarray]] | None = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: int | np.random.RandomState | None = None,
        error_score: float | Literal["raise"] = np.nan,
        return_train_score: bool = False,
    ):
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid = param_grid
        self.n_iter = n_iter
        self.random_state = random_state

    def fit(self, X: Table, y: Target = None, **params: Any) -> Self:
        """Score all candidates by cross-validation and fit the best one on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Target of the steps before the VAE, the splitter and the scorer.
        **params : dict
            Parameters of the estimator's ``fit`` (sample_weight), of the scorer and of the
            splitter (groups).

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If a parameter is invalid or all fits fail. The search is then unchanged.
        """
        self._validate_params()
        with restore_on_error(self):
            check_is_table(X, type(self).__name__)
            scorers, refit_metric = self._get_scorers()
            X, y = indexable(X, y)
            params = check_method_params(X, params=params)
            routed = self._get_routed_params_for_fit(params)
            folds = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
            run = SearchRun(
                self.estimator, X, y, list(folds.split(X, y, **routed.splitter.split)),
                list(self._candidates()), scorers, routed.estimator.fit, routed.scorer.score,
                self.error_score, self.return_train_score,
            )  # fmt: skip
            results = self._run(run)
            if callable(self.scoring) and self.multimetric_:
                refit_metric = self.refit
            if self.refit or not self.multimetric_:
                self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
                if not callable(self.refit):
                    self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
                self.best_params_ = results["params"][self.best_index_]
            if self.refit:
                self._refit(X, y, routed.estimator.fit)
            self.scorer_ = getattr(scorers, "_scorers", scorers)
            self.n_splits_ = len(run.splits)
            self.cv_results_ = results
        return self

    def _run(self, run: SearchRun) -> dict[str, Any]:
        """Fit and score all candidates on all folds: ``cv_results_``."""
        if not run.tasks:
            raise ValueError("No fits were performed: there are no candidates or no folds.")
        n_splits = len(run.splits)
        if self.verbose > 0:
            print(  # noqa: T201
                f"Fitting {n_splits} folds for each of {len(run.candidates)} candidates, "
                f"totalling {len(run.tasks)} fits"
            )
        results = self._evaluate(run)
        warn_or_raise_about_fit_failures(results, self.error_score)
        if callable(self.scoring):
            insert_error_scores(results, self.error_score)
        self.multimetric_ = isinstance(results[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(results[0]["test_scores"])
        return self._format_results(run.candidates, n_splits, results)

    def _candidates(self) -> ParameterGrid | ParameterSampler:
        if self.n_iter is None:
            try:
                return ParameterGrid(self.param_grid)
            except TypeError as error:
                advice = "For a distribution, set n_iter, the number of candidates to draw."
                raise TypeError(f"{error} {advice}") from None
        return ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)

    def _evaluate(self, run: SearchRun) -> list[Scores]:
        """Fit and score the tasks, one batch per process; results in the order of ``run.tasks``."""
        # sorted by fold, so that each process encodes the rows of few folds
        tasks = sorted(run.tasks, key=lambda task: task[::-1])
        n_batches = min(effective_n_jobs(self.n_jobs), len(tasks))
        batches = np.array_split(range(len(tasks)), n_batches)
        parallel = Parallel(n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch)
        results: Results = {}
        reasons: Counter[str] = Counter()
        for batch_results, batch_reasons in parallel(
            delayed(evaluate)(run, [tasks[index] for index in batch]) for batch in batches
        ):
            results |= batch_results
            reasons.update(batch_reasons)
        for reason, n_fits in reasons.items():
            warn(f"{n_fits} of {len(tasks)} fits were done one by one, because {reason}.")
        return [results[task] for task in run.tasks]

    def _refit(self, X: Table, y: Target, fit_params: dict[str, object]) -> None:
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        start = time.perf_counter()
        self.best_estimator_ = best.fit(X, **({} if y is None else {"y": y}), **fit_params)
        self.refit_time_ = time.perf_counter() - start
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
