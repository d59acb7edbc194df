"""Successive halving: fit tasks are trained rung by rung, and some are eliminated at each."""

from collections.abc import Iterable, Sequence

import numpy as np

from sklearn_vae.model_selection.tasks import (
    FitTask,
    Task,
    bisect_failures,
    max_verbose,
    train_again,
)
from sklearn_vae.system.device import default_modes
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
    tasks : dict of FitTask
        Fits by candidate and fold. Those that remain end with the results that they have alone.
    """

    def __init__(self, tasks: dict[Task, FitTask]):
        self.tasks, fits = tasks, list(tasks.values())
        jobs, verbose = [job for fit in fits for job in fit.jobs], max_verbose(fits)
        self.groups = [
            StackedGroup({number: jobs[number] for number in numbers}, verbose)
            for numbers in group_jobs(jobs)
        ]
        ends = np.cumsum([len(fit.jobs) for fit in fits]).tolist()
        self.job_numbers = {
            task: range(end - len(fit.jobs), end)
            for end, (task, fit) in zip(ends, tasks.items(), strict=True)
        }

    @default_modes()
    def train_rung(self, n_iter: int | None = None) -> None:
        """Train until ``n_iter`` iterations are done, and set the results.

        By default, training is completed, with second trainings. A task whose training fails is
        eliminated.
        """
        self._train_until(n_iter)
        first = self._results()
        pairs = [(self.tasks[task], results) for task, results in first.items()]
        selected: Sequence[list[TrainingResult] | None]
        if n_iter is None:
            self.groups = []
            selected = bisect_failures(train_again, pairs)
        else:
            selected = [fit.vae._select(fit.jobs, results, fit.rows)[0] for fit, results in pairs]
        is_final, succeeded = n_iter is None, set()
        for task, results in zip(first, selected, strict=True):
            if results is not None:
                self.tasks[task].set_results(results, is_final=is_final)
                succeeded.add(task)
        self.eliminate([task for task in self.tasks if task not in succeeded])

    @default_modes()
    def eliminate(self, tasks: Iterable[Task]) -> None:
        """Remove tasks from the training, and free their memory."""
        eliminated: set[int] = set()
        for task in tasks:
            del self.tasks[task]
            eliminated.update(self.job_numbers.pop(task))
        for group in self.groups:
            group.eliminate(eliminated)
        self.groups = [group for group in self.groups if group.jobs]

    def _train_until(self, n_iter: int | None) -> None:
        """Train until ``n_iter`` iterations are done, or all; halve groups whose training fails."""
        queue, self.groups = self.groups, []
        while queue:
            group = queue.pop()
            try:
                group.train_until(n_iter)
            except Exception:
                queue += group.halve()
            else:
                self.groups.append(group)

    def _results(self) -> dict[Task, list[TrainingResult]]:
        """Results of the tasks none of whose jobs failed."""
        results: dict[int, TrainingResult] = {}
        for group in self.groups:
            results |= group.results()
        return {
            task: [results[number] for number in numbers]
            for task, numbers in self.job_numbers.items()
            if results.keys() >= set(numbers)
        }
