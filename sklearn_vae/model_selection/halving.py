"""Successive halving: fit tasks are trained rung by rung, and some are eliminated at each."""

from collections.abc import Iterable, Sequence

import numpy as np

from sklearn_vae.model_selection.tasks import (
    FitTask,
    bisect_failures,
    max_verbose,
    train_again,
)
from sklearn_vae.training import (
    Trainer,
    TrainingJob,
    TrainingResult,
    group_jobs,
    make_trainer,
    stack_tables,
    threads_for_jobs,
)


class StackedGroup:
    """The jobs of one stacked model, by their numbers among all jobs.

    With ``verbose``, the progress of each rung is printed.
    """

    def __init__(self, jobs: dict[int, TrainingJob], verbose: int):
        self.jobs, self.verbose = jobs, verbose
        self.members = {number: member for member, number in enumerate(jobs)}
        self.trainer: Trainer | None = None

    def train_until(self, n_iter: int | None) -> None:
        """Train until ``n_iter`` iterations are done, all by default."""
        jobs = list(self.jobs.values())
        with threads_for_jobs(jobs):
            if self.trainer is None:
                trainer = make_trainer(jobs, verbose=self.verbose)
                trainer.begin(*stack_tables(jobs))
                self.trainer = trainer
            else:
                self.trainer.notify("on_train_begin")
            self.trainer.train_epochs(n_iter)
            self.trainer.notify("on_train_end")

    def results(self) -> dict[int, TrainingResult]:
        """Results so far, by job number."""
        if self.trainer is None:
            return {}
        return {
            number: job.finish(self.trainer.result_of(self.members[number]))
            for number, job in self.jobs.items()
        }

    def eliminate(self, numbers: set[int]) -> None:
        """Remove jobs from the training."""
        eliminated = numbers & self.jobs.keys()
        for number in eliminated:
            del self.jobs[number]
        if self.trainer is not None:
            members = [self.members[number] for number in eliminated]
            self.trainer.remove_finished(np.isin(self.trainer.members_, members))

    def halve(self) -> list["StackedGroup"]:
        """Split into two untrained groups; a single job is dropped."""
        jobs = list(self.jobs.items())
        middle = len(jobs) // 2
        halves = (jobs[:middle], jobs[middle:]) if middle else ()
        return [StackedGroup(dict(half), self.verbose) for half in halves]


class SuccessiveHalving:
    """Fit tasks whose first trainings proceed together, and of which some are eliminated.

    A task that fails does not affect any other task: jobs that were stacked with its jobs
    are trained again without it, with the same results.

    Parameters
    ----------
    tasks : sequence of FitTask
        Those that remain end with the results that they have alone.
    """

    def __init__(self, tasks: Sequence[FitTask]):
        self.tasks = dict(enumerate(tasks))
        jobs, verbose = [job for task in tasks for job in task.jobs], max_verbose(tasks)
        self.groups = [
            StackedGroup({number: jobs[number] for number in numbers}, verbose)
            for numbers in group_jobs(jobs)
        ]
        ends = np.cumsum([len(task.jobs) for task in tasks]).tolist()
        self.job_numbers = {
            index: range(end - len(task.jobs), end)
            for index, (end, task) in enumerate(zip(ends, tasks, strict=True))
        }

    def train_until(self, n_iter: int | None = None) -> None:
        """Train until ``n_iter`` iterations are done, all by default."""
        queue, self.groups = self.groups, []
        while queue:
            group = queue.pop()
            try:
                group.train_until(n_iter)
            except Exception:
                queue += group.halve()
            else:
                self.groups.append(group)

    def partial_results(self, indices: Sequence[int]) -> list[list[TrainingResult] | None]:
        """Results so far, without second trainings; None for failed tasks."""
        tasks = [self.tasks[index] for index in indices]
        return [
            None if results is None else task.vae._select(task.jobs, results, task.rows)[0]
            for task, results in zip(tasks, self._results(indices), strict=True)
        ]

    def eliminate(self, indices: Iterable[int]) -> None:
        """Remove tasks from the training, and free their memory."""
        eliminated: set[int] = set()
        for index in indices:
            del self.tasks[index]
            eliminated.update(self.job_numbers.pop(index))
        for group in self.groups:
            group.eliminate(eliminated)
        self.groups = [group for group in self.groups if group.jobs]

    def finish(self, indices: Sequence[int]) -> list[list[TrainingResult] | None]:
        """Train some tasks to their end, with second trainings; None for failed tasks."""
        self.train_until()
        first = self._results(indices)
        self.groups = []
        pairs = [
            (self.tasks[index], results)
            for index, results in zip(indices, first, strict=True)
            if results is not None
        ]
        finished = iter(bisect_failures(_train_pairs, pairs))
        return [None if results is None else next(finished) for results in first]

    def _results(self, indices: Sequence[int]) -> list[list[TrainingResult] | None]:
        """Results of each task's jobs, or None if one of them failed."""
        results: dict[int, TrainingResult] = {}
        for group in self.groups:
            results |= group.results()
        return [
            [results[number] for number in numbers] if results.keys() >= set(numbers) else None
            for numbers in (self.job_numbers[index] for index in indices)
        ]


def _train_pairs(
    pairs: Sequence[tuple[FitTask, list[TrainingResult]]],
) -> list[list[TrainingResult]]:
    return train_again([task for task, _ in pairs], [results for _, results in pairs])
