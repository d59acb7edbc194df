"""VAESearchCV: a whole grid with all its folds, trained at once."""

import math
import time
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import (
    _fit_and_score,
    _insert_error_scores,
    _score,
    _warn_or_raise_about_fit_failures,
)
from sklearn.pipeline import Pipeline
from sklearn.utils import indexable
from sklearn.utils._param_validation import Interval
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params

from sklearn_vae.base import BaseVAE
from sklearn_vae.training import Fit, Fitted, Heats, fit_all


class VAESearchCV(BaseSearchCV):
    """Cross-validated search over a VAE's parameters that trains the whole grid at once.

    It is scikit-learn's ``GridSearchCV`` in all but speed: the same parameters, results
    and attributes. The fits of all candidates on all folds are members of one program,
    as far as their shapes allow: latent size, beta, step size, seeds and stopping may
    differ between members, while widths, activation, batch size and kinds of columns
    divide them into fleets. In a Pipeline, the steps before the VAE are fitted once per
    fold.

    What cannot ride (a candidate whose last step is no VAE, one with callbacks, or with
    fit parameters other than sample_weight) is fitted in the ordinary way, with a warning
    that says why.

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
        once for every further stop. None trains all to their end. Then, ``n_jobs`` is
        not used.
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
    >>> from sklearn_vae import VAESearchCV, VAETransformer
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
        self.random_state = random_state

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
        """
        self._validate_params()
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        folds = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(folds.split(X, y, **routed.splitter.split))
        candidates = list(self._candidates())
        work = Work(
            self.estimator, X, y, splits, candidates, scorers,
            routed.estimator.fit, routed.scorer.score, self.error_score, self.return_train_score,
        )  # fmt: skip
        if self.verbose > 0:
            print(  # noqa: T201
                f"Fitting {len(splits)} folds for each of {len(candidates)} candidates, "
                f"totalling {len(splits) * len(candidates)} fits"
            )
        more: dict[str, list[int]] = {}
        if self.factor is None:
            out = self._evaluate(work)
        else:
            candidates, out, more = self._halve(work, float(self.factor))
        if not out:
            raise ValueError("No fits were performed: there are no candidates or no folds.")
        _warn_or_raise_about_fit_failures(out, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(out, self.error_score)
        results = self._format_results(candidates, len(splits), out, more)

        self.multimetric_ = isinstance(out[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(out[0]["test_scores"])
            refit_metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]
        if self.refit:
            self._fit_best(X, y, routed.estimator.fit)
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        self.n_splits_ = len(splits)
        self.cv_results_ = results
        return self

    def _candidates(self) -> Any:
        if self.n_iter is None:
            return ParameterGrid(self.param_grid)
        return ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)

    def _evaluate(self, work: "Work") -> list[dict[str, Any]]:
        """Train all fits, divided among the processes; results in the order of candidates."""
        tasks = [(c, s) for s, c in product(range(len(work.splits)), range(len(work.candidates)))]
        n_parts = min(effective_n_jobs(self.n_jobs), len(tasks))
        if n_parts == 0:
            return []
        parts = [
            tasks[part[0] : part[-1] + 1] for part in np.array_split(range(len(tasks)), n_parts)
        ]
        parallel = Parallel(n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch)
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for part, results in zip(
            parts, parallel(delayed(evaluate)(work, p) for p in parts), strict=True
        ):
            found.update(zip(part, results, strict=True))
        return [found[task] for task in sorted(found)]

    def _halve(
        self, work: "Work", factor: float
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, list[int]]]:
        """Give candidates up on the way: rows of results, one per candidate and stop."""
        n_splits, alive = len(work.splits), list(range(len(work.candidates)))
        try:
            rides = {task: work.ride(*task) for task in product(alive, range(n_splits))}
        except NoRideError as obstacle:
            raise ValueError(
                f"The 'factor' parameter must be None where a fit cannot be trained with the "
                f"others, here because {obstacle}. Got {factor!r} instead."
            ) from obstacle
        number = {task: place for place, task in enumerate(rides)}
        heats = Heats([ride.wanted for ride in rides.values()])
        n_stops = 1 + math.floor(math.log(max(len(alive), 1), factor) + 1e-9)
        longest = max(ride.wanted.plan.max_iter for ride in rides.values())
        rows: list[dict[str, Any]] = []
        out: list[dict[str, Any]] = []
        more: dict[str, list[int]] = {"iter": [], "n_resources": []}
        self.n_candidates_, self.n_resources_ = [], []
        for stop in range(n_stops):
            started = time.perf_counter()
            tasks = list(product(alive, range(n_splits)))
            n_iterations = max(int(longest / factor ** (n_stops - 1 - stop)), 1)
            if stop < n_stops - 1:
                heats.advance(n_iterations)
                for task in tasks:
                    rides[task].stand_at(heats.weights(number[task]))
            else:
                for task, found in zip(tasks, heats.end([number[t] for t in tasks]), strict=True):
                    rides[task].take(found)
            fit_time = (time.perf_counter() - started) / len(tasks)
            here = [work.judge(rides[task], fit_time) for task in tasks]
            out += here
            rows += [work.candidates[candidate] for candidate in alive]
            more["iter"] += [stop] * len(alive)
            more["n_resources"] += [n_iterations] * len(alive)
            self.n_candidates_.append(len(alive))
            self.n_resources_.append(n_iterations)
            if stop < n_stops - 1:
                alive = self._survivors(alive, here, math.ceil(len(alive) / factor))
                heats.give_up(number[task] for task in tasks if task[0] not in alive)
        return rows, out, more

    def _survivors(self, alive: list[int], results: list[dict[str, Any]], n_kept: int) -> list[int]:
        """Those with the highest mean test scores."""
        scores = [result["test_scores"] for result in results]
        if isinstance(scores[0], dict):
            scores = [score[self.refit] for score in scores]
        means = np.reshape(scores, (len(alive), -1)).mean(axis=1)
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

    def _fit_best(self, X: Any, y: Any, fit_params: dict[str, Any]) -> None:
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        started = time.perf_counter()
        self.best_estimator_ = best.fit(X, **({} if y is None else {"y": y}), **fit_params)
        self.refit_time_ = time.perf_counter() - started
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_


class NoRideError(Exception):
    """A fit that has to be done in the ordinary way."""


@dataclass
class Ride:
    """One candidate on one fold: its estimator, about to be trained with others."""

    estimator: BaseEstimator
    vae: BaseVAE
    wanted: Fit
    split: int

    def take(self, found: Fitted) -> None:
        """End up fitted."""
        self.vae._take(found)

    def stand_at(self, weights: dict[str, np.ndarray]) -> None:
        """Be fitted with what there is so far."""
        self.vae.weights_ = weights


@dataclass
class Work:
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

    def ride(self, candidate: int, split: int) -> Ride:
        """Prepare one fit, or raise what stands in its way."""
        params = self.candidates[candidate]
        estimator = clone(self.estimator).set_params(**clone(params, safe=False))
        steps = estimator.steps if isinstance(estimator, Pipeline) else [("", estimator)]
        name, vae = steps[-1]
        if not isinstance(vae, BaseVAE):
            raise NoRideError(f"{vae!r} is not a VAE")
        if vae.callbacks or getattr(vae, "_skl_callbacks", None):
            raise NoRideError("it has callbacks of its own")
        known = f"{name}__sample_weight" if name else "sample_weight"
        if unknown := set(self.fit_params) - {known}:
            raise NoRideError(f"fit is given {', '.join(sorted(unknown))}")

        head, X = self._head(estimator, params, split)
        weights = _check_method_params(self.X, self.fit_params, self.splits[split][0])
        if name:
            estimator.steps = [*head, steps[-1]]
        wanted = vae._prepare(X, weights.get(known), known=self.tables)
        return Ride(estimator, vae, wanted, split)

    def _fold(self, split: int) -> tuple[Any, Any, Any, Any]:
        """Rows of one fold: X_train, y_train, X_test, y_test."""
        if split not in self.folds:
            train, test = self.splits[split]
            self.folds[split] = (
                *_safe_split(self.estimator, self.X, self.y, train),
                *_safe_split(self.estimator, self.X, self.y, test, train),
            )
        return self.folds[split]

    def _head(
        self, estimator: BaseEstimator, params: dict[str, Any], split: int
    ) -> tuple[list[Any], Any]:
        """Fitted steps before the last one, and the training rows as they leave them."""
        X, y, *_ = self._fold(split)
        if not isinstance(estimator, Pipeline) or len(estimator.steps) == 1:
            return [], X
        own = f"{estimator.steps[-1][0]}__"
        key = (
            split,
            *((name, id(value)) for name, value in params.items() if not name.startswith(own)),
        )
        if key not in self.heads:
            head = Pipeline(estimator.steps[:-1], memory=estimator.memory)
            rows = head.fit_transform(X, y)
            self.heads[key] = head.steps, rows
        return self.heads[key]

    def judge(self, ride: Ride, fit_time: float) -> dict[str, Any]:
        """Score a ride that is over, as scikit-learn's searches do."""
        X_train, y_train, X_test, y_test = self._fold(ride.split)
        train, test = self.splits[ride.split]
        started = time.perf_counter()
        params = _check_method_params(self.X, self.score_params, test)
        scores = _score(ride.estimator, X_test, y_test, self.scorer, params, self.error_score)
        result = {
            "fit_error": None,
            "fit_time": fit_time,
            "score_time": time.perf_counter() - started,
            "test_scores": scores,
            "n_test_samples": len(test),
        }
        if self.return_train_score:
            params = _check_method_params(self.X, self.score_params, train)
            result["train_scores"] = _score(
                ride.estimator, X_train, y_train, self.scorer, params, self.error_score
            )
        return result

    def fit_alone(self, candidate: int, split: int) -> dict[str, Any]:
        """Do one fit in scikit-learn's own way, and report its error if it has one."""
        train, test = self.splits[split]
        return _fit_and_score(
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


def evaluate(work: Work, tasks: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Do some of the fits, (candidate, split) each; one after the other what cannot ride."""
    started = time.perf_counter()
    rides: dict[tuple[int, int], Ride] = {}
    reasons: dict[str, int] = {}
    for task in tasks:
        try:
            rides[task] = work.ride(*task)
        except NoRideError as obstacle:
            reasons[str(obstacle)] = reasons.get(str(obstacle), 0) + 1
        except Exception:
            pass  # the ordinary fit meets the same error, and deals with it as it should
    try:
        found = fit_all([ride.wanted for ride in rides.values()], verbose=0)
    except Exception:
        found, rides = [], {}  # one fit's failure is not the others'
    fit_time = (time.perf_counter() - started) / max(len(rides), 1)
    for reason, number in reasons.items():
        warnings.warn(
            f"{number} of {len(tasks)} fits were done one by one, because {reason}.",
            UserWarning,
            stacklevel=3,
        )
    for ride, fitted in zip(rides.values(), found, strict=True):
        ride.take(fitted)
    return [
        work.judge(rides[task], fit_time) if task in rides else work.fit_alone(*task)
        for task in tasks
    ]
