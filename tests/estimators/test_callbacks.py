"""scikit-learn's own callbacks, from scikit-learn 1.9 on."""

import numpy as np
import pytest

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn < 1.9")

from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from sklearn_vae import VAEDensity, VAETransformer  # noqa: E402
from sklearn_vae.model_selection import VAESearchCV  # noqa: E402

X = np.random.default_rng(0).normal(size=(150, 4)) @ np.triu(np.ones((4, 4)))


class Recorder:
    """Count the tasks, and stop after so many iterations."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.begun, self.ended, self.scores = [], [], []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.ended.append(context.task_name)
        self.scores.append(fitted_estimator.score(X, y))
        return self.stop_after is not None and self.ended.count("iteration") >= self.stop_after


def test_every_iteration_is_a_task_with_an_estimator_that_can_score():
    """Every task that begins ends, and the estimator at the end is the fitted one."""
    recorder = Recorder()
    vae = VAETransformer(max_iter=3, early_stopping=False, random_state=0).set_callbacks(recorder)
    vae.fit(X)

    assert recorder.begun == ["fit", *["iteration"] * 3]
    assert sorted(recorder.ended) == sorted(recorder.begun)
    assert recorder.scores[-1] == pytest.approx(vae.score(X))


SHORT = {"max_iter": 3, "random_state": 0}


@pytest.mark.parametrize(
    "estimator",
    [
        VAETransformer(2, n_init=2, **SHORT),
        VAETransformer(2, n_init=2, ensemble=True, **SHORT),
        VAETransformer(2, n_init=2, robust=True, **SHORT),
        VAETransformer(2, early_stopping=False, **SHORT),
        VAEDensity(2, **SHORT),
        VAESearchCV(VAETransformer(2, n_init=2, **SHORT), {"beta": [0.5, 1.0]}, cv=2),
    ],
    ids=str,
)
def test_the_number_of_iterations_is_at_most_max_subtasks(estimator, monkeypatch):
    """Even if every member is trained alone, as wide networks and wide tables are."""
    monkeypatch.setattr("sklearn_vae.training.stacked.WORKING_SET", 1)
    counts = []

    class Counter(Recorder):
        def on_fit_task_end(self, estimator, context):
            if context.max_subtasks:
                counts.append((len(context._children_map), context.max_subtasks))

    estimator.set_callbacks(Counter()).fit(X, (X[:, 0] > 0).astype(int))

    assert counts
    assert all(0 < done <= announced for done, announced in counts)


def test_a_callback_can_stop_the_training():
    """The estimator is then fitted."""
    recorder = Recorder(stop_after=2)
    vae = VAETransformer(max_iter=9, early_stopping=False, random_state=0).set_callbacks(recorder)

    assert vae.fit(X).n_iter_ == 2


def mean_log_density(estimator, X, y):
    return estimator.score(X)


def test_scoring_monitor_records_scores_without_y():
    """ScoringMonitor itself records nothing if y is None; the adapter passes X as y."""
    monitor = callback.ScoringMonitor(scoring={"nats": mean_log_density})
    VAETransformer(max_iter=2, early_stopping=False).set_callbacks(monitor).fit(X)

    assert len(monitor.get_logs().data) > 0


@pytest.mark.parametrize("conditional", [False, True])
def test_scoring_monitor_records_scores_of_a_density_in_the_middle_of_its_fit(conditional):
    """They are those of one member; the weights of all are chosen at the end."""
    monitor = callback.ScoringMonitor(scoring={"nats": lambda vae, X, y: vae.score(X)})
    density = VAEDensity(2, conditional=conditional, **SHORT).set_callbacks(monitor)
    density.fit(X, (X[:, 0] > 0).astype(int))

    assert len(monitor.get_logs().data) > 1


def test_a_progress_bar_is_one_line_in_a_log(capsys):
    """Where the output is no terminal, a bar is printed when the fit has ended."""
    pytest.importorskip("rich")
    VAETransformer(max_iter=2, random_state=0).set_callbacks(callback.ProgressBar()).fit(X)
    (line,) = capsys.readouterr().out.splitlines()

    assert line.startswith("VAETransformer - fit")
    assert "100%" in line


def test_progress_bars_show_search_pipeline_and_iterations(capsys):
    """One bar each for the search, its pipelines and their iterations."""
    pytest.importorskip("rich")
    pipeline = make_pipeline(StandardScaler(), VAETransformer(max_iter=2, random_state=0))
    search = GridSearchCV(pipeline, {"vaetransformer__n_components": [1, 2]}, cv=2)
    search.set_callbacks(callback.ProgressBar(max_propagation_depth=None)).fit(X)
    shown = capsys.readouterr().out

    assert "GridSearchCV" in shown
    assert "VAETransformer" in shown
