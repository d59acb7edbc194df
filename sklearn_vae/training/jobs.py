"""Fits: what estimators ask for, each made of one run or of several.

A fit is trained once, or twice: on most rows, to find out how long, and again on all of
them; from one start or from several. The runs of all fits ride together.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np

from sklearn_vae.models.architecture import Architecture
from sklearn_vae.random import Stream, make_generator, start_seeds
from sklearn_vae.training.config import TrainingConfig
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.run import RunResult, TrainingRun
from sklearn_vae.training.stacked import train

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True)
class TrainingJob:
    """One model that is wanted.

    Attributes
    ----------
    architecture : Architecture
        Shapes of the weights.
    config : TrainingConfig
        How to train.
    table : Dataset
        All rows.
    n_valid : int
        How many of them to set aside, by weight; 0 trains on all of them at once.
    refit : bool
        Whether to train again on all rows, for the iterations found with rows set aside.
    free_bits, scale_prior_strength : float
        What the objective takes; the prior in rows of the table.
    n_init : int
        Number of starts.
    keeps_all : bool
        Whether all of them are kept, or only the one with the lowest loss.
    weights : dict of ndarray or None
        Where to go on from; None starts at probabilistic PCA.
    """

    architecture: Architecture
    config: TrainingConfig
    table: Dataset
    n_valid: int
    refit: bool
    free_bits: float
    scale_prior_strength: float
    n_init: int = 1
    keeps_all: bool = False
    weights: dict[str, np.ndarray] | None = None

    def divide(self) -> tuple[Dataset, Dataset | None]:
        """Set rows aside: those to train on, and those to validate on if there are any."""
        if not self.n_valid:
            return self.table, None
        return self.table.split(self.n_valid, make_generator(self.config.seed, Stream.SPLIT))

    def runs(self, train: Dataset, valid: Dataset | None) -> list[TrainingRun]:
        """Make the first run of each start; the first start has the fit's own seed.

        It is linear. The others are random where rows set aside choose the best one: training
        may stay near probabilistic PCA, where small steps gain next to nothing. Every second
        one of these holds its scales back: most tables do best if scales depend on z from the
        first step, and curved surfaces if they do not.
        """
        seed = self.config.seed
        seeds = start_seeds(seed, self.n_init)
        chooses = valid is not None and not self.keeps_all
        runs = []
        for start, own in enumerate(seeds):
            is_random = start > 0 and chooses
            # starts are compared on the same rows, with the same draws
            config = replace(
                self.config,
                seed=own,
                validation_seed=seed,
                homoscedastic_first_stage=is_random and start % 2 == 0,
            )
            runs.append(self.run(config, train, valid, is_random=is_random))
        return runs

    def run(
        self,
        config: TrainingConfig,
        train: Dataset,
        valid: Dataset | None,
        *,
        is_random: bool = False,
    ) -> TrainingRun:
        """Make one run."""
        prior_rows = self.scale_prior_strength / float(train.total_weight[0])
        given = self.free_bits, prior_rows, self.weights, is_random
        return TrainingRun(self.architecture, config, train, valid, *given)

    def cut_short(self, outcome: RunResult) -> "TrainingResult":
        """Make of a first run that was interrupted what there is."""
        n_steps = self.config.n_steps(len(self.divide()[0])) * len(outcome.history)
        return TrainingResult(outcome.weights, history_of([outcome]), n_steps, outcome.diverged)


@dataclass(frozen=True)
class TrainingResult:
    """What a fit has led to.

    Attributes
    ----------
    weights : dict of ndarray
        By name, with a member axis.
    history : list of dict
        One record per iteration, both runs in a row; those of the best start.
    n_steps : int
        Gradient steps that the history tells of.
    diverged : bool
        Whether training ever diverged.
    """

    weights: dict[str, np.ndarray]
    history: list[dict[str, Any]]
    n_steps: int
    diverged: bool


def history_of(outcomes: Sequence[RunResult]) -> list[dict[str, Any]]:
    """Put the records of several runs in a row, as plain dicts."""
    rows = [
        {**row, "refit": number > 0}
        for number, outcome in enumerate(outcomes)
        for row in outcome.history
    ]
    skorchs_own = {"epoch", "batches"}
    return [
        {"iteration": iteration, **{k: v for k, v in row.items() if k not in skorchs_own}}
        for iteration, row in enumerate(rows, start=1)
    ]


class JobProgress:
    """One fit under way: its first runs, and the second ones that follow from them."""

    def __init__(self, fit: TrainingJob, tables: tuple[Dataset, Dataset | None]):
        self.fit = fit
        self.first = fit.runs(*tables)
        self.again: list[TrainingRun] = []
        self.outcomes: list[RunResult] = []

    def go_on(self, outcomes: Sequence[RunResult]) -> Self:
        """Choose among the starts, and make the second runs."""
        fit, later = self.fit, copy(self)
        order = np.argsort([outcome.loss for outcome in outcomes], kind="stable")
        kept = order if fit.keeps_all else order[:1]
        later.outcomes = [outcomes[place] for place in kept]
        later.first = [self.first[place] for place in kept]
        if fit.refit and fit.n_valid:
            later.again = [
                fit.run(
                    replace(run.config, n_iter_per_stage=outcome.path),
                    fit.table,
                    None,
                    is_random=run.is_random,
                )
                for run, outcome in zip(later.first, later.outcomes, strict=True)
            ]
        return later

    def end(self, outcomes: Sequence[RunResult]) -> TrainingResult:
        """Put together what both runs have led to."""
        last = outcomes or self.outcomes
        runs = [(self.first[0], self.outcomes[0])]
        runs += [(self.again[0], outcomes[0])] if outcomes else []
        return TrainingResult(
            {
                name: np.concatenate([outcome.weights[name] for outcome in last])
                for name in last[0].weights
            },
            history_of([outcome for _, outcome in runs]),
            sum(len(out.history) * run.config.n_steps(len(run.train)) for run, out in runs),
            any(outcome.diverged for outcome in [*self.outcomes, *outcomes]),
        )


def fit_all(fits: Sequence[TrainingJob], **kwargs: Any) -> list[TrainingResult]:
    """Carry out all fits; what can be done at once is done at once.

    Parameters
    ----------
    fits : sequence of TrainingJob
        What is wanted.
    **kwargs
        For the trainers: callbacks, verbose.

    Returns
    -------
    list of Fitted
        One per fit, in their order. Each is what the fit alone would have led to.
    """
    under_way = begin_all(fits)
    first = _train([progress.first for progress in under_way], **kwargs)
    return end_all(under_way, first, **kwargs)


def apart(
    do: Callable[[Sequence[Item]], Sequence[Found]], items: Sequence[Item]
) -> list[Found | None]:
    """Do all at once, or in halves if that fails; None for an item that fails alone."""
    try:
        return [*do(items)]
    except Exception:
        if len(items) == 1:
            return [None]
    middle = len(items) // 2
    return [*apart(do, items[:middle]), *apart(do, items[middle:])]


def begin_all(fits: Sequence[TrainingJob]) -> list[JobProgress]:
    """Set rows aside, the same ones where fits agree, and make the first runs."""
    splits: dict[tuple[int, int, int], tuple[Dataset, Dataset | None]] = {}
    under_way = []
    for fit in fits:
        key = (id(fit.table), fit.n_valid, fit.config.seed)
        if key not in splits:
            splits[key] = fit.divide()
        under_way.append(JobProgress(fit, splits[key]))
    return under_way


def end_all(
    under_way: Sequence[JobProgress], first: Sequence[Sequence[RunResult]], **kwargs: Any
) -> list[TrainingResult]:
    """Do the second runs that follow from the first ones, and put both together."""
    later = [own.go_on(outcomes) for own, outcomes in zip(under_way, first, strict=True)]
    second = _train([progress.again for progress in later], is_refit=True, **kwargs)
    return [own.end(outcomes) for own, outcomes in zip(later, second, strict=True)]


def _train(nested: Sequence[Sequence[TrainingRun]], **kwargs: Any) -> list[list[RunResult]]:
    """Train runs in nested lists together."""
    found = iter(train([run for own in nested for run in own], **kwargs))
    return [[next(found) for _ in own] for own in nested]
