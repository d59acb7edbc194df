"""Presets of the detector and its scorers by name."""

import numpy as np
import pytest

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly.base import Scorer
from sklearn_vae.anomaly.frequencies import ClassSurprisal, NegativeLogFrequency
from sklearn_vae.anomaly.knn import NeighborDistance
from sklearn_vae.anomaly.presets import CLEAN, CONTAMINATED, METHODS


def test_every_parameter_that_defaults_to_auto_has_a_value_in_both_presets():
    """But for the method, and the latent dimensions, which depend on the columns."""
    params = VAEOutlierDetector().get_params()
    automatic = {name for name, value in params.items() if value == "auto"}
    automatic -= {"method", "device", "n_components"}

    assert all(hasattr(preset, name) for preset in (CLEAN, CONTAMINATED) for name in automatic)


def test_every_method_has_a_scorer_for_clean_and_for_contaminated_rows():
    """All of them fulfil the protocol."""
    assert all(isinstance(scorer, Scorer) for pair in METHODS.values() for scorer in pair)


def test_the_third_part_of_the_default_score_depends_on_the_table():
    """Surprisal of classes where there are any, frequencies of values elsewhere."""
    pd = pytest.importorskip("pandas")
    X = np.random.default_rng(0).normal(size=(300, 3))
    numbers = pd.DataFrame(X, columns=list("abc"))
    label = np.where(X[:, 0] > 0, "high", "low")
    frequencies = {NeighborDistance: 1.0, NegativeLogFrequency: 0.25}
    surprisal = {NeighborDistance: 1.0, ClassSurprisal: 0.5}

    def parts(table, **params):
        scorer = VAEOutlierDetector(max_iter=1, random_state=0, **params).fit(table).scorer_
        return dict(zip(map(type, scorer.scorers), scorer.weights, strict=True))

    assert parts(X) == parts(numbers) == frequencies
    many = (np.arange(300) // 2).astype(str)
    assert parts(numbers.assign(label=many)) == frequencies
    assert parts(numbers.assign(label=label)) == parts(numbers.assign(c=X[:, 2] > 0)) == surprisal
    assert parts(numbers.assign(label=label), novelty=True) == parts(X, novelty=True)


@pytest.mark.parametrize("n_rows", [3, 100, 3_000, 20_000])
def test_training_has_about_as_many_steps_on_every_table(n_rows):
    """25 steps are an iteration; a long table has fewer epochs, of at least two batches."""
    config = CLEAN.training_config(n_rows, seed=0, batch_size=128, weight_decay=0.0)

    n_steps, expected = config.max_iter * config.n_steps(n_rows), 25 * CLEAN.max_iter
    assert abs(n_steps - expected) <= config.n_steps(n_rows) / 2
    assert config.batch_size < n_rows
