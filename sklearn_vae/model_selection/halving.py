"""Heats: fits that go forward a stretch at a time, of which some are given up."""

from collections.abc import Iterable, Sequence

import numpy as np

from sklearn_vae.training.jobs import (
    JobProgress,
    TrainingJob,
    TrainingResult,
    apart,
    begin_all,
    end_all,
)
from sklearn_vae.training.run import RunResult, TrainingRun
from sklearn_vae.training.stacked import fleets_of, launch, speed_for, tables_of
from sklearn_vae.training.trainer import Trainer


class HalvingGroup:
    """The first runs of one fleet, by their places among all."""

    def __init__(self, runs: dict[int, TrainingRun]):
        self.runs = runs
        self.members = {place: member for member, place in enumerate(runs)}
        self.trainer: Trainer | None = None

    def advance(self, n_iterations: int | None) -> None:
        """Train until so many iterations are done, from the start if nothing is yet."""
        own = list(self.runs.values())
        with speed_for(own):
            if self.trainer is None:
                trainer = launch(own, verbose=0)
                trainer.begin(*tables_of(own))
                self.trainer = trainer
            self.trainer.train_epochs(n_iterations)

    def result_of(self) -> dict[int, RunResult]:
        """Tell what the runs that are left have come to."""
        if self.trainer is None:
            return {}
        return {place: self.trainer.result_of(self.members[place]) for place in self.runs}

    def give_up(self, places: set[int]) -> None:
        """Go on without some of the runs."""
        gone = places & self.runs.keys()
        for place in gone:
            del self.runs[place]
        if self.trainer is not None:
            own = [self.members[place] for place in gone]
            self.trainer.remove_finished(np.isin(self.trainer.members_, own))

    def halves(self) -> list["HalvingGroup"]:
        """Divide the runs, to be trained from their start; none of a single one."""
        runs = list(self.runs.items())
        middle = len(runs) // 2
        return [HalvingGroup(dict(half)) for half in (runs[:middle], runs[middle:]) if middle]


class SuccessiveHalving:
    """Fits whose first runs go forward a stretch at a time, and of which some are given up.

    A fit that fails in training is not the others' failure: the runs that were trained with
    it start again without it, and come to the same.

    Parameters
    ----------
    fits : sequence of TrainingJob
        What is wanted. Those that remain end as they would have without the others.
    """

    def __init__(self, fits: Sequence[TrainingJob]):
        self.under_way = dict(enumerate(begin_all(fits)))
        runs = [run for progress in self.under_way.values() for run in progress.first]
        self.heats = [
            HalvingGroup({place: runs[place] for place in places}) for places in fleets_of(runs)
        ]
        ends = np.cumsum([len(progress.first) for progress in self.under_way.values()]).tolist()
        self.places = {
            fit: range(end - len(progress.first), end)
            for end, (fit, progress) in zip(ends, self.under_way.items(), strict=True)
        }

    def advance(self, n_iterations: int | None = None) -> None:
        """Train until so many iterations are done, to the end by default."""
        waiting, self.heats = self.heats, []
        while waiting:
            heat = waiting.pop()
            try:
                heat.advance(n_iterations)
            except Exception:
                waiting += heat.halves()
            else:
                self.heats.append(heat)

    def so_far(self, fits: Sequence[int]) -> list[TrainingResult | None]:
        """Tell what fits have led to until here, without their second runs; None if failed."""
        return [
            None if outcomes is None else self.under_way[fit].go_on(outcomes).end([])
            for fit, outcomes in zip(fits, self._outcomes(fits), strict=True)
        ]

    def give_up(self, fits: Iterable[int]) -> None:
        """Train some fits no further, and let go of all that is only theirs."""
        gone: set[int] = set()
        for fit in fits:
            del self.under_way[fit]
            gone.update(self.places.pop(fit))
        for heat in self.heats:
            heat.give_up(gone)
        self.heats = [heat for heat in self.heats if heat.runs]

    def end(self, fits: Sequence[int]) -> list[TrainingResult | None]:
        """Finish some fits, their second runs too; None for those that fail."""
        self.advance()
        first = self._outcomes(fits)
        self.heats = []
        rest = [(self.under_way[fit], own) for fit, own in zip(fits, first, strict=True) if own]
        ended = iter(apart(_end, rest))
        return [None if own is None else next(ended) for own in first]

    def _outcomes(self, fits: Sequence[int]) -> list[list[RunResult] | None]:
        found: dict[int, RunResult] = {}
        for heat in self.heats:
            found |= heat.result_of()
        return [
            [found[place] for place in places] if found.keys() >= set(places) else None
            for places in (self.places[fit] for fit in fits)
        ]


def _end(pairs: Sequence[tuple[JobProgress, list[RunResult]]]) -> list[TrainingResult]:
    return end_all([own for own, _ in pairs], [first for _, first in pairs], verbose=0)
