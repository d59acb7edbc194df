"""Negative log tail probabilities and their sum."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae.anomaly.combination import CombinedScore, TailDistribution


def test_the_survival_function_is_the_empirical_one_in_the_body():
    """scipy's empirical survival function, counting ties as at least as large."""
    scores = np.random.default_rng(0).integers(1, 30, size=200).astype(float)
    tail = TailDistribution.fit(scores)
    body = np.unique(scores[scores <= np.quantile(scores, 0.7)])
    expected = [(scores >= score).mean() for score in body]

    np.testing.assert_allclose(np.exp(-tail.negative_log_survival(body)), expected, rtol=1e-6)


def test_the_tail_of_pareto_scores_is_pareto():
    """log P(S >= s) is linear in log s, with the shape parameter as its slope."""
    shape = 3.0
    scores = stats.pareto(shape).rvs(20_000, random_state=0)
    tail = TailDistribution.fit(scores)
    far = np.array([5.0, 50.0, 5e3])

    np.testing.assert_allclose(
        tail.negative_log_survival(far), -stats.pareto(shape).logsf(far), rtol=0.05
    )


def test_tied_scores_have_a_finite_negative_log_survival():
    """All scores zero, or all equal: neither has a scale."""
    for scores in (np.zeros(20), np.ones(20)):
        found = TailDistribution.fit(scores).negative_log_survival(np.array([0.0, 1.0, 1e300]))

        assert np.isfinite(found).all()
        assert (np.diff(found) >= 0).all()


def test_a_combined_score_needs_one_tail_per_scorer():
    """As a loaded file might not have it."""
    with pytest.raises(ValueError, match="one tail distribution per scorer"):
        CombinedScore(()).check()
