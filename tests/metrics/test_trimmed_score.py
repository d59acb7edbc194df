"""Scorers of a search: the mean without the lowest rows."""

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAETransformer
from sklearn_vae.metrics import trimmed_score

SMALL = VAETransformer(1, hidden_layer_sizes=(4,), max_iter=2, random_state=0)


def test_the_trimmed_score_is_the_mean_without_the_lowest_twentieth(rng):
    """scipy's trimmed mean is the oracle; conditions are passed on."""
    X, y = rng.normal(size=(80, 3)), np.repeat([0, 1], 40)
    vae = SMALL.fit(X)
    expected = stats.trim1(vae.score_samples(X), 0.05, tail="left").mean()
    of_classes = VAETransformer(1, conditional=True, max_iter=1, random_state=0).fit(X, y)
    given_y = pytest.approx(stats.trim1(of_classes.score_samples(X, y), 0.05, tail="left").mean())

    assert trimmed_score(vae, X) == pytest.approx(expected)
    assert trimmed_score(vae, X[:1]) == vae.score(X[:1])  # as in leave-one-out
    assert trimmed_score(of_classes, X, y) == given_y
    assert trimmed_score(make_pipeline(of_classes), X, y) == given_y


def test_a_far_row_does_not_decide_a_search(rng):
    """In any fold, and at the end of a Pipeline."""
    X = np.vstack([rng.normal(size=(90, 3)), [1e4, 0, 0]])
    pipeline = make_pipeline(StandardScaler(), SMALL)
    search = GridSearchCV(pipeline, {"vaetransformer__n_components": [1, 2]}, scoring=trimmed_score)
    scores = search.fit(X).cv_results_["mean_test_score"]

    assert (scores > -20).all()
