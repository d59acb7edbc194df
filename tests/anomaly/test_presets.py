"""Presets of the detector and its scorers by name."""

from sklearn_vae import VAEOutlierDetector
from sklearn_vae.anomaly.presets import CLEAN, CONTAMINATED, METHODS
from sklearn_vae.anomaly.rows import Scorer


def test_every_parameter_that_defaults_to_auto_has_a_value_in_both_presets():
    """But for the method, and the latent dimensions, which depend on the columns."""
    params = VAEOutlierDetector().get_params()
    automatic = {name for name, value in params.items() if value == "auto"}
    automatic -= {"method", "device", "n_components"}

    assert all(hasattr(preset, name) for preset in (CLEAN, CONTAMINATED) for name in automatic)


def test_every_method_has_a_scorer_for_clean_and_for_contaminated_rows():
    """All of them fulfil the protocol."""
    assert all(isinstance(scorer, Scorer) for pair in METHODS.values() for scorer in pair)
