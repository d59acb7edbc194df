"""VAESearchCV: hyperparameter search in which the fits are trained as stacked models."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection import BaseCrossValidator, ParameterGrid, ParameterSampler, check_cv
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel, delayed

from sklearn_vae._compat import (
    BaseSearchCV,
    Interval,
    check_method_params,
    insert_error_scores,
    warn_or_raise_about_fit_failures,
)
from sklearn_vae.data.arrays import Table, Target
from sklearn_vae.data.sources import check_is_table
from sklearn_vae.estimators.estimator_base import restore_on_error
from sklearn_vae.model_selection.tasks import Results, Scores, SearchRun, Task, evaluate
from sklearn_vae.persistence.checkpoint import CheckpointFile
from sklearn_vae.persistence.file_format import PathLike
from sklearn_vae.persistence.validation import MAX_COUNT
from sklearn_vae.system import warn


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
    scoring : str, callable, list, tuple or dict, default=None
        As in ``GridSearchCV``. None is the estimator's ``score``, the mean log-density in nats.
    n_jobs : int, default=None
        Number of processes.
    refit : bool, str or callable, default=True
        If true, ``best_estimator_`` is fitted on all rows; otherwise as in ``GridSearchCV``.
    cv : int, cross-validation generator or iterable, default=None
        Folds; None for 5.
    verbose : int, default=0
        If positive, the number of fits is printed. ``verbose`` of the VAE prints the progress of
        the training.
    checkpoint : str or path-like, default=None
        File from which the same ``fit`` resumes after a crash. Folds are then trained one after
        the other.
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
        "checkpoint": [str, os.PathLike, None],
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
        self.checkpoint = checkpoint
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
            file, saved = None, []
            if self.checkpoint is not None:
                file = CheckpointFile(self.checkpoint, "search")
                saved = file.begin(
                    {},
                    estimator=self.estimator,
                    rows=(X, y, routed.estimator.fit, routed.scorer.score),
                    folds=run.splits,
                    candidates=run.candidates,
                    scores=(self.scoring, self.error_score, self.return_train_score),
                ).get("results", [])
            results = self._run(run, file, dict(saved))
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
            if file is not None:
                file.remove()
        return self

    def _run(self, run: SearchRun, file: CheckpointFile | None, saved: Results) -> dict[str, Any]:
        """Fit and score all candidates on all folds, but for saved results: ``cv_results_``."""
        if not run.tasks:
            raise ValueError("No fits were performed: there are no candidates or no folds.")
        n_splits = len(run.splits)
        if self.verbose > 0:
            print(  # noqa: T201
                f"Fitting {n_splits} folds for each of {len(run.candidates)} candidates, "
                f"totalling {len(run.tasks)} fits"
            )
        results = self._evaluate(run, file, saved)
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
                advice = "Distributions need n_iter, the number of candidates to draw."
                raise TypeError(f"{error} {advice}") from None
        return ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)

    def _evaluate(
        self, run: SearchRun, file: CheckpointFile | None, results: Results
    ) -> list[Scores]:
        """Fit and score the tasks without results in parallel: in the order of ``run.tasks``."""
        # sorted by fold, so that each process encodes the rows of few folds
        tasks = sorted(run.tasks, key=lambda task: task[::-1])
        parallel = Parallel(
            n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch, return_as="generator"
        )
        reasons: Counter[str] = Counter()
        remaining = [task for task in tasks if task not in results]
        batches = self._batches(remaining)
        for batch_results, batch_reasons in parallel(delayed(evaluate)(run, b) for b in batches):
            results |= batch_results
            reasons.update(batch_reasons)
            if file is not None:
                file.write(results=list(results.items()))
        for reason, n_fits in reasons.items():
            warn(f"{n_fits} of {len(tasks)} fits were done one by one, because {reason}.")
        return [results[task] for task in run.tasks]

    def _batches(self, tasks: list[Task]) -> list[list[Task]]:
        """Divide tasks into one batch per process, or per fold if there is a checkpoint."""
        if self.checkpoint is not None:
            return [list(fold) for _, fold in groupby(tasks, key=lambda task: task[1])]
        n_batches = min(effective_n_jobs(self.n_jobs), len(tasks))
        indices = np.array_split(range(len(tasks)), n_batches)
        return [tasks[batch[0] : batch[-1] + 1] for batch in indices]

    def _refit(self, X: Table, y: Target, fit_params: dict[str, object]) -> None:
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        start = time.perf_counter()
        self.best_estimator_ = best.fit(X, **({} if y is None else {"y": y}), **fit_params)
        self.refit_time_ = time.perf_counter() - start
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
