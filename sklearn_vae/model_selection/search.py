"""VAESearchCV: hyperparameter search in which the fits are trained as stacked models."""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, product
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel, delayed

from sklearn_vae._compat import (
    BaseSearchCV,
    Interval,
    check_method_params,
    insert_error_scores,
    warn_or_raise_about_fit_failures,
)
from sklearn_vae.data.sources import check_is_table
from sklearn_vae.estimators.restore import restore_on_error
from sklearn_vae.model_selection.checkpoint import SearchCheckpoint
from sklearn_vae.model_selection.halving import SuccessiveHalving
from sklearn_vae.model_selection.tasks import SearchRun, Task, evaluate
from sklearn_vae.persistence.file_format import PathLike
from sklearn_vae.persistence.validation import MAX_COUNT
from sklearn_vae.system.warnings import warn


class VAESearchCV(BaseSearchCV):
    """Cross-validated hyperparameter search that trains all candidates at once.

    It has the parameters, results and attributes of scikit-learn's ``GridSearchCV``, and is faster.
    A warning names candidates that have to be fitted one by one.

    Parameters
    ----------
    estimator : estimator
        A VAE, or a Pipeline whose last step is one.
    param_grid : dict or list of dict
        Values by parameter name, as in ``GridSearchCV``; with ``n_iter`` also distributions, as
        in ``RandomizedSearchCV``.
    n_iter : int, default=None
        Number of candidates drawn from ``param_grid``; None for all combinations.
    factor : float, default=None
        Factor of successive halving: after each rung, the best 1 / ``factor`` of the candidates
        are trained further. None trains all to the end.
    min_resources : int, default=4
        Iterations of the first rung of successive halving. Each later one has ``factor`` times as
        many, and the last one ``max_iter``.
    scoring : str, callable, list, tuple or dict, default=None
        As in ``GridSearchCV``. None is the estimator's ``score``, the mean log-density in nats.
    n_jobs : int, default=None
        Number of processes.
    refit : bool, str or callable, default=True
        If true, ``best_estimator_`` is fitted on all rows; otherwise as in ``GridSearchCV``.
    cv : int, cross-validation generator or iterable, default=None
        Folds; None for 5.
    verbose : int, default=0
        If positive, the number of fits is printed, and with ``factor`` each rung. ``verbose`` of
        the VAE prints the progress of the training.
    checkpoint : str or path-like, default=None
        File from which the same ``fit`` resumes after a crash. Folds are then trained one after
        the other. Not with ``factor``.
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
        As in ``GridSearchCV``. The time of all fits is divided equally among them. With
        ``factor`` there is a row per candidate and rung, with the rung's number ``iter`` and
        its iterations ``n_resources``, as in ``HalvingGridSearchCV``.
    best_estimator_ : estimator
        Fitted on all rows with the best parameters.
    best_params_, best_score_, best_index_ : dict, float, int
        The best candidate, its mean test score, and its row in ``cv_results_``.
    refit_time_ : float
        Seconds of the refit of ``best_estimator_``.
    n_candidates_, n_resources_ : list of int
        Number of candidates and of iterations at each rung. Only with ``factor``.
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
        "factor": [Interval(Real, 1, None, closed="neither"), None],
        "min_resources": [Interval(Integral, 1, MAX_COUNT, closed="both")],
        "checkpoint": [str, os.PathLike, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        n_iter: int | None = None,
        factor: float | None = None,
        min_resources: int = 4,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[..., int] = True,
        cv: Any = None,
        verbose: int = 0,
        checkpoint: PathLike | None = None,
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
        self.factor = factor
        self.min_resources = min_resources
        self.checkpoint = checkpoint
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
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
        if self.factor is not None and self.checkpoint is not None:
            raise ValueError(
                f"The 'checkpoint' parameter must be None in successive halving, with "
                f"factor={self.factor!r}. Got {self.checkpoint!r} instead."
            )
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
            checkpoint = SearchCheckpoint(
                self.checkpoint,
                estimator=self.estimator,
                rows=(X, y, routed.estimator.fit, routed.scorer.score),
                folds=run.splits,
                candidates=run.candidates,
                scores=(self.scoring, self.error_score, self.return_train_score),
            )
            results = self._run(run, checkpoint)
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
            checkpoint.remove()
        return self

    def _run(self, run: SearchRun, checkpoint: SearchCheckpoint) -> dict[str, Any]:
        """Fit and score all candidates on all folds: ``cv_results_``."""
        if not run.tasks:
            raise ValueError("No fits were performed: there are no candidates or no folds.")
        n_splits = len(run.splits)
        if self.verbose > 0:
            print(  # noqa: T201
                f"Fitting {n_splits} folds for each of {len(run.candidates)} candidates, "
                f"totalling {len(run.tasks)} fits"
            )
        candidates: Sequence[dict[str, Any]] = run.candidates
        columns: dict[str, list[int]] = {}
        if self.factor is None:
            results = self._evaluate(run, checkpoint)
        else:
            candidates, results, columns = self._halve(run.without_caches(), float(self.factor))
        warn_or_raise_about_fit_failures(results, self.error_score)
        if callable(self.scoring):
            insert_error_scores(results, self.error_score)
        self.multimetric_ = isinstance(results[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(results[0]["test_scores"])
        return self._format_results(candidates, n_splits, results, columns)

    def _candidates(self) -> ParameterGrid | ParameterSampler:
        if self.n_iter is None:
            try:
                return ParameterGrid(self.param_grid)
            except TypeError as error:
                advice = "Distributions need n_iter, the number of candidates to draw."
                raise TypeError(f"{error} {advice}") from None
        return ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)

    def _evaluate(self, run: SearchRun, checkpoint: SearchCheckpoint) -> list[dict[str, Any]]:
        """Fit and score all tasks in parallel: results in the order of ``run.tasks``."""
        # sorted by fold, so that each process encodes the rows of few folds
        tasks = sorted(run.tasks, key=lambda task: task[::-1])
        parallel = Parallel(
            n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch, return_as="generator"
        )
        reasons: Counter[str] = Counter()
        remaining = [task for task in tasks if task not in checkpoint.results]
        batches = self._batches(remaining)
        for results, more in parallel(delayed(evaluate)(run, batch) for batch in batches):
            checkpoint.add(results)
            reasons.update(more)
        for reason, n_fits in reasons.items():
            warn(f"{n_fits} of {len(tasks)} fits were done one by one, because {reason}.")
        return [checkpoint.results[task] for task in run.tasks]

    def _batches(self, tasks: list[Task]) -> list[list[Task]]:
        """Divide tasks into one batch per process, or per fold if there is a checkpoint."""
        if self.checkpoint is not None:
            return [list(fold) for _, fold in groupby(tasks, key=lambda task: task[1])]
        n_batches = min(effective_n_jobs(self.n_jobs), len(tasks))
        indices = np.array_split(range(len(tasks)), n_batches)
        return [tasks[batch[0] : batch[-1] + 1] for batch in indices]

    def _halve(
        self, run: SearchRun, factor: float
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, list[int]]]:
        """Search by successive halving: candidates, results and columns of ``cv_results_``."""
        tasks, reasons = run.prepare(run.tasks)
        if reasons:
            raise ValueError(
                f"The 'factor' parameter must be None if a fit cannot be stacked with all others, "
                f"here because {' and because '.join(reasons)}. Got {factor!r} instead."
            )
        # each task holds its own rows from here on, so that eliminated tasks free their memory
        run.tables.clear()
        run.steps.clear()
        halving = SuccessiveHalving(tasks)
        candidates = list(range(len(run.candidates)))
        n_rungs = 1 + math.floor(math.log(len(candidates), factor) + 1e-9)
        if n_rungs > len(candidates):
            warn(
                f"With factor={factor!r} there are {n_rungs} rungs of {len(candidates)} "
                f"candidates, most of which eliminate none. With a factor of 2 or more, each does."
            )
        max_iter = max((task.jobs[0].config.max_iter for task in tasks.values()), default=1)
        params: list[dict[str, Any]] = []
        all_results: list[dict[str, Any]] = []
        columns: dict[str, list[int]] = {"iter": [], "n_resources": []}
        self.n_candidates_, self.n_resources_ = [], []
        for rung in range(n_rungs):
            start, is_final = time.perf_counter(), rung == n_rungs - 1
            rung_tasks = list(product(candidates, range(len(run.splits))))
            n_stacked = len(halving.tasks)
            n_iter = max(int(max_iter / factor ** (n_rungs - 1 - rung)), 1)
            if not is_final:
                n_iter = min(n_iter, int(self.min_resources * factor**rung))
            if self.verbose > 0:
                print(  # noqa: T201
                    f"Rung {rung + 1} of {n_rungs}: n_candidates={len(candidates)}, "
                    f"n_resources={n_iter}"
                )
            halving.train_rung(None if is_final else n_iter)
            fit_time = (time.perf_counter() - start) / max(n_stacked, 1)
            results = [run.result(task, halving.tasks, fit_time) for task in rung_tasks]
            all_results += results
            params += [run.candidates[candidate] for candidate in candidates]
            columns["iter"] += [rung] * len(candidates)
            columns["n_resources"] += [n_iter] * len(candidates)
            self.n_candidates_.append(len(candidates))
            self.n_resources_.append(n_iter)
            if not is_final:
                n_best = math.ceil(len(candidates) / factor)
                candidates = self._best_candidates(candidates, results, n_best)
                halving.eliminate([task for task in halving.tasks if task[0] not in candidates])
        return params, all_results, columns

    def _best_candidates(
        self, candidates: list[int], results: list[dict[str, Any]], n_best: int
    ) -> list[int]:
        """Candidates with the highest mean test scores, in their order."""
        if callable(self.scoring):
            insert_error_scores(results, self.error_score)
        scores = [result["test_scores"] for result in results]
        failed = [result["fit_error"] is not None for result in results]
        if isinstance(scores[0], dict):
            if not isinstance(self.refit, str) or self.refit not in scores[0]:
                raise ValueError(
                    f"The 'refit' parameter must name the score by which 'factor' eliminates "
                    f"candidates, one of {sorted(scores[0])}. Got {self.refit!r} instead."
                )
            scores = [score[self.refit] for score in scores]
        means = np.where(failed, np.nan, scores).reshape(len(candidates), -1).mean(axis=1)
        order = np.argsort(np.where(np.isnan(means), np.inf, -means), kind="stable")
        return sorted(candidates[i] for i in order[:n_best])

    @staticmethod
    def _select_best_index(refit: Any, refit_metric: Any, results: dict[str, Any]) -> int:
        """Index of the best candidate; in successive halving, of those at the last rung."""
        if "iter" not in results or callable(refit):
            return BaseSearchCV._select_best_index(refit, refit_metric, results)
        last = np.flatnonzero(results["iter"] == np.max(results["iter"]))
        return int(last[results[f"rank_test_{refit_metric}"][last].argmin()])

    def _refit(self, X: Any, y: Any, fit_params: dict[str, Any]) -> None:
        """Fit the best candidate on all rows."""
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        start = time.perf_counter()
        self.best_estimator_ = best.fit(X, **({} if y is None else {"y": y}), **fit_params)
        self.refit_time_ = time.perf_counter() - start
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
