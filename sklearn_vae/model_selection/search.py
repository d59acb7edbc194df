"""VAESearchCV: a whole grid with all its folds, trained at once."""

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, product
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone, is_classifier
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
from sklearn_vae.estimators.callbacks import CallbackAdapter, with_callbacks
from sklearn_vae.estimators.checks import restore_on_error
from sklearn_vae.model_selection.checkpoint import SearchCheckpoint
from sklearn_vae.model_selection.halving import SuccessiveHalving
from sklearn_vae.model_selection.tasks import SearchRun, Task, evaluate
from sklearn_vae.warnings import warn


class VAESearchCV(BaseSearchCV):
    """Cross-validated search over a VAE's parameters that trains the whole grid at once.

    It is scikit-learn's ``GridSearchCV`` in all but speed: the same parameters, results
    and attributes. The fits of all candidates on all folds are members of one program,
    as far as their shapes allow: latent size, beta, step size, patience and seeds may
    differ between members, while widths, activation, batch size, kinds of columns, prior,
    objective and the number of rows to train on divide them into fleets. In a Pipeline,
    the steps before the VAE are fitted once per fold.

    What cannot ride (a candidate whose last step is no VAE or has a fit of its own, one
    with callbacks, or with fit parameters other than sample_weight) is fitted in the
    ordinary way, with a warning that says why.

    Parameters
    ----------
    estimator : estimator
        A VAE, or a Pipeline whose last step is one.
    param_grid : dict or list of dict
        Values to try by parameter, as in ``GridSearchCV``; with ``n_iter`` also
        distributions, as in ``RandomizedSearchCV``.
    n_iter : int, default=None
        Number of candidates to draw from ``param_grid``; None tries all combinations.
    factor : float, default=None
        Keeps one in ``factor`` candidates at each of several stops on the way, by their
        mean test score there, and trains only those further: successive halving in which
        nobody starts again. The first stop is after ``max_iter`` divided by ``factor``
        once for every further stop. None trains all to their end. With a factor, all
        fits have to ride, on one process; where there are several scores, ``refit`` names
        the one that counts.
    scoring : str, callable, list, tuple or dict, default=None
        As in ``GridSearchCV``; None takes the estimator's ``score``, the mean log-density
        in nats.
    n_jobs : int, default=None
        Number of processes that the fits are divided among.
    refit : bool, str or callable, default=True
        Whether to fit ``best_estimator_`` on all rows; as in ``GridSearchCV``.
    cv : int, cross-validation generator or iterable, default=None
        The folds; None makes 5.
    verbose : int, default=0
        Whether to say what is trained.
    checkpoint : str or path-like, default=None
        A file in which ``fit`` writes down the results of every fold that is done. The same
        ``fit`` in another process does only the others; one of other rows, candidates, folds or
        scores is an error. The file is removed when the search is over. The candidates
        are then trained together fold by fold, and not all folds at once. Not with ``factor``.
    pre_dispatch : int or str, default="2*n_jobs"
        As in ``GridSearchCV``.
    random_state : int, RandomState instance or None, default=None
        What decides the draws of candidates.
    error_score : "raise" or float, default=np.nan
        Score of a candidate that cannot be fitted; ``"raise"`` raises its error.
    return_train_score : bool, default=False
        Whether to score on the training folds, too.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        As in ``GridSearchCV``. A fit's time is its share of the time of all. With
        ``factor``, a candidate has a row per stop that it came to, and ``iter`` and
        ``n_resources`` (iterations) tell which, as in ``HalvingGridSearchCV``.
    best_estimator_ : estimator
        Fitted on all rows with the best parameters.
    best_params_, best_score_, best_index_ : dict, float, int
        The best candidate.
    refit_time_ : float
        Seconds that its last fit took.
    n_candidates_, n_resources_ : list of int
        Only with ``factor``: how many candidates came to each stop, and after how many
        iterations it was.
    scorer_, n_splits_, multimetric_ : function, int, bool
        As in ``GridSearchCV``.

    Notes
    -----
    A member of a fleet is what it would have been alone, but for the order of sums. Scores
    equal those of ``GridSearchCV`` with the same ``random_state`` to about 1e-3 nats in
    single precision, where rounding grows in some hundred steps, and to 1e-6 where a
    small table is trained in double precision.

    References
    ----------
    .. [1] K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and
       Hyperparameter Optimization", AISTATS 2016, for the halving.

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
        "n_iter": [Interval(Integral, 1, None, closed="left"), None],
        "factor": [Interval(Real, 1, None, closed="neither"), None],
        "checkpoint": [str, os.PathLike, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        n_iter: int | None = None,
        factor: float | None = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        checkpoint: Any = None,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
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
        self.checkpoint = checkpoint
        self.random_state = random_state

    @with_callbacks
    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Try all candidates and fit the best one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Passed to the steps before the VAE, the folds and the scorer.
        **params : dict
            For the estimator's ``fit`` (sample_weight), the scorer and, as ``groups``,
            the folds.

        Returns
        -------
        self : object
            With the results as attributes.

        Raises
        ------
        ValueError
            If a parameter is not as it must be, or if no fit succeeds. The search is then
            as before.
        """
        self._validate_params()
        if self.factor is not None and self.checkpoint is not None:
            raise ValueError(
                f"The 'checkpoint' parameter must be None where candidates are given up on the "
                f"way, with factor={self.factor!r}. Got {self.checkpoint!r} instead."
            )
        with restore_on_error(self):
            scorers, refit_metric = self._get_scorers()
            X, y = indexable(X, y)
            params = check_method_params(X, params=params)
            routed = self._get_routed_params_for_fit(params)
            report = CallbackAdapter(self, max_iterations=1)  # the last fit
            report.begin(X, y)
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
            results = self._try_all(run, checkpoint)
            if callable(self.scoring) and self.multimetric_:
                refit_metric = self.refit
            if self.refit or not self.multimetric_:
                self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
                if not callable(self.refit):
                    self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
                self.best_params_ = results["params"][self.best_index_]
            if self.refit:
                self._fit_best(X, y, routed.estimator.fit, report)
            self.scorer_ = getattr(scorers, "_scorers", scorers)
            self.n_splits_ = len(run.splits)
            self.cv_results_ = results
            checkpoint.remove()
            report.end()
        return self

    def _try_all(self, run: SearchRun, checkpoint: SearchCheckpoint) -> dict[str, Any]:
        """Fit and score all candidates on all folds, and make a table of it."""
        if not run.tasks:
            raise ValueError("No fits were performed: there are no candidates or no folds.")
        n_splits = len(run.splits)
        if self.verbose > 0:
            print(  # noqa: T201
                f"Fitting {n_splits} folds for each of {len(run.candidates)} candidates, "
                f"totalling {len(run.tasks)} fits"
            )
        rows: Sequence[dict[str, Any]] = run.candidates
        more: dict[str, list[int]] = {}
        if self.factor is None:
            out = self._evaluate(run, checkpoint)
        else:
            rows, out, more = self._halve(run.without_caches(), float(self.factor))
        warn_or_raise_about_fit_failures(out, self.error_score)
        if callable(self.scoring):
            insert_error_scores(out, self.error_score)
        self.multimetric_ = isinstance(out[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(out[0]["test_scores"])
        return self._format_results(rows, n_splits, out, more)

    def _candidates(self) -> Any:
        if self.n_iter is None:
            return ParameterGrid(self.param_grid)
        return ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)

    def _evaluate(self, run: SearchRun, checkpoint: SearchCheckpoint) -> list[dict[str, Any]]:
        """Train all fits, divided among the processes; results in the order of candidates."""
        # by folds, so that one process has the tables of a few of them only
        tasks = sorted(run.tasks, key=lambda task: task[::-1])
        parallel = Parallel(
            n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch, return_as="generator"
        )
        reasons: Counter[str] = Counter()
        left = [task for task in tasks if task not in checkpoint.results]
        for results, more in parallel(delayed(evaluate)(run, part) for part in self._parts(left)):
            checkpoint.add(results)
            reasons.update(more)
        for reason, number in reasons.items():
            warn(
                f"{number} of {len(tasks)} fits were done one by one, because {reason}.",
                UserWarning,
            )
        return [checkpoint.results[task] for task in run.tasks]

    def _parts(self, tasks: list[Task]) -> list[list[Task]]:
        """Divide fits among the processes, or into those that are written down together."""
        if self.checkpoint is not None:
            return [list(own) for _, own in groupby(tasks, key=lambda task: task[1])]
        n_parts = min(effective_n_jobs(self.n_jobs), len(tasks))
        return [
            tasks[part[0] : part[-1] + 1] for part in np.array_split(range(len(tasks)), n_parts)
        ]

    def _halve(
        self, run: SearchRun, factor: float
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, list[int]]]:
        """Search by successive halving: candidates, results and columns, by rung."""
        tasks, reasons = run.prepare(run.tasks)
        if reasons:
            raise ValueError(
                f"The 'factor' parameter must be None where a fit cannot be trained with the "
                f"others, here because {' and because '.join(reasons)}. Got {factor!r} instead."
            )
        # each task holds its rows from here on, so that eliminated ones free their memory
        run.tables.clear()
        run.steps.clear()
        index = {task: number for number, task in enumerate(tasks)}
        halving = SuccessiveHalving(list(tasks.values()))
        candidates = list(range(len(run.candidates)))
        n_rungs = 1 + math.floor(math.log(len(candidates), factor) + 1e-9)
        max_iter = max((task.jobs[0].config.max_iter for task in tasks.values()), default=1)
        rows: list[dict[str, Any]] = []
        out: list[dict[str, Any]] = []
        columns: dict[str, list[int]] = {"iter": [], "n_resources": []}
        self.n_candidates_, self.n_resources_ = [], []
        for rung in range(n_rungs):
            started, is_final = time.perf_counter(), rung == n_rungs - 1
            wanted = list(product(candidates, range(len(run.splits))))
            remaining = [task for task in wanted if task in tasks]
            indices = [index[task] for task in remaining]
            n_iter = max(int(max_iter / factor ** (n_rungs - 1 - rung)), 1)
            if is_final:
                results = halving.finish(indices)
            else:
                halving.train_until(n_iter)
                results = halving.partial_results(indices)
            for task, found in zip(remaining, results, strict=True):
                if found is None:
                    del tasks[task]
                else:
                    tasks[task].set_results(found, is_final=is_final)
            fit_time = (time.perf_counter() - started) / max(len(remaining), 1)
            scored = [run.result(task, tasks, fit_time) for task in wanted]
            out += scored
            rows += [run.candidates[candidate] for candidate in candidates]
            columns["iter"] += [rung] * len(candidates)
            columns["n_resources"] += [n_iter] * len(candidates)
            self.n_candidates_.append(len(candidates))
            self.n_resources_.append(n_iter)
            if not is_final:
                n_kept = math.ceil(len(candidates) / factor)
                candidates = self._survivors(candidates, scored, n_kept)
                eliminated = [
                    task for task in remaining if task not in tasks or task[0] not in candidates
                ]
                halving.eliminate(index[task] for task in eliminated)
                for task in eliminated:
                    tasks.pop(task, None)
        return rows, out, columns

    def _survivors(self, alive: list[int], results: list[dict[str, Any]], n_kept: int) -> list[int]:
        """Those with the highest mean test scores."""
        if callable(self.scoring):
            insert_error_scores(results, self.error_score)
        scores = [result["test_scores"] for result in results]
        failed = [result["fit_error"] is not None for result in results]
        if isinstance(scores[0], dict):
            if not isinstance(self.refit, str) or self.refit not in scores[0]:
                raise ValueError(
                    f"The 'refit' parameter must name the score that 'factor' keeps candidates by, "
                    f"one of {sorted(scores[0])}. Got {self.refit!r} instead."
                )
            scores = [score[self.refit] for score in scores]
        counted = np.where(failed, np.nan, scores)
        means = counted.reshape(len(alive), -1).mean(axis=1)
        order = np.argsort(np.where(np.isnan(means), np.inf, -means), kind="stable")
        return sorted(alive[place] for place in order[:n_kept])

    @staticmethod
    def _select_best_index(refit: Any, refit_metric: Any, results: dict[str, Any]) -> int:
        """With stops on the way, the best of those that came to the last one."""
        if "iter" not in results or callable(refit):
            return BaseSearchCV._select_best_index(refit, refit_metric, results)
        last = np.flatnonzero(results["iter"] == np.max(results["iter"]))
        scores = results[f"mean_test_{refit_metric}"][last]
        return int(last[0 if np.isnan(scores).all() else np.nanargmax(scores)])

    def _fit_best(
        self, X: Any, y: Any, fit_params: dict[str, Any], report: CallbackAdapter
    ) -> None:
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        with report.task("refit-with-best-params", best):
            started = time.perf_counter()
            self.best_estimator_ = best.fit(X, **({} if y is None else {"y": y}), **fit_params)
            self.refit_time_ = time.perf_counter() - started
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
