"""Values of the detector's parameters set to "auto", and its scorers by name."""

from dataclasses import dataclass, replace
from typing import Any

from sklearn_vae.anomaly.base import Scorer
from sklearn_vae.anomaly.combination import CombinedScore
from sklearn_vae.anomaly.frequencies import ClassSurprisal, NegativeLogFrequency
from sklearn_vae.anomaly.knn import (
    HyperplaneDistance,
    NeighborDistance,
    Space,
    deviations,
    inputs,
    normal_scores,
    residuals_and_codes,
)
from sklearn_vae.anomaly.scores import (
    MaskedReconstructionError,
    NegativeELBO,
    NegativeLogLikelihood,
    ReconstructionError,
)
from sklearn_vae.inference.constants import SCORE_DRAWS
from sklearn_vae.objectives import Constant, LinearWarmup
from sklearn_vae.training import MIN_STEPS, TrainingConfig

# k of outlier detection, as a fraction of the reference rows and at least. It is to exceed the size
# of a group of outliers, which would be each other's neighbours.
NEIGHBOR_FRACTION = 0.1
MIN_NEIGHBORS = 20
# Largest n_components="auto".
MAX_COMPONENTS = 32
# Noise of the denoising reconstruction error, in standard deviations.
DENOISING_NOISE = 0.3
# Learning rate of the autoencoder that only explains: its attributions and expected values are
# better than with those of autoencoders that score rows (docs/defaults.md).
EXPLAINING_LEARNING_RATE = 0.008
# k of the hyperplane distance.
HYPERPLANE_NEIGHBORS = 8


@dataclass(frozen=True)
class Preset:
    """Values of "auto" for clean or for contaminated training rows.

    Attributes
    ----------
    n_init, max_iter, learning_rate, trim_fraction, contamination
        The detector's parameters of these names.
    components_per_column : float
        Latent dimensions per column.
    warmup_fraction : float
        Fraction of the iterations in which the weight of the KL is annealed from 0 to 1.
    untrimmed_fraction : float
        Fraction of the iterations before the objective is trimmed.
    decays_learning_rate : bool
        Whether the learning rate decays in steps.
    """

    n_init: int
    max_iter: int
    learning_rate: float
    trim_fraction: float
    components_per_column: float
    warmup_fraction: float
    untrimmed_fraction: float
    decays_learning_rate: bool
    contamination: float

    def n_components(self, n_columns: int) -> int:
        """Latent dimensions of ``n_components="auto"``."""
        return min(max(round(self.components_per_column * n_columns), 1), MAX_COMPONENTS)

    def training_config(self, n_rows: int, *, batch_size: int, **options: Any) -> TrainingConfig:
        """Configuration of the training on so many rows, before the ELBO is trimmed.

        ``options`` are further fields of the configuration.
        """
        # at least two batches: one batch of all rows would have the same noise for every row
        batch_size = min(batch_size, -(-n_rows // 2))
        n_steps = max(-(-n_rows // batch_size), MIN_STEPS)
        n_iter = max(round(self.max_iter * MIN_STEPS / n_steps), 1)
        n_warmup = round(self.warmup_fraction * n_iter)
        n_iter_per_stage = None if self.decays_learning_rate else (n_iter, 0, 0)
        if self.trim_fraction:
            n_iter_per_stage = (round(self.untrimmed_fraction * n_iter), 0, 0)
        return TrainingConfig(
            max_iter=n_iter,
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            beta=LinearWarmup(1.0, n_warmup) if n_warmup > 1 else Constant(1.0),
            patience=n_iter,
            tol=0.0,
            n_iter_per_stage=n_iter_per_stage,
            **options,
        )


CLEAN = Preset(
    n_init=4,
    max_iter=30,
    learning_rate=4e-3,
    trim_fraction=0.0,
    components_per_column=1.0,
    warmup_fraction=0.3,
    untrimmed_fraction=0.0,
    decays_learning_rate=True,
    contamination=0.05,
)
CONTAMINATED = Preset(
    n_init=4,
    max_iter=16,
    learning_rate=2e-3,
    trim_fraction=0.3,
    components_per_column=0.5,
    warmup_fraction=0.0,
    untrimmed_fraction=0.15,
    decays_learning_rate=False,
    contamination=0.1,
)


# Parts of the default score of clean training rows, and their weights.
CLEAN_SCORES: tuple[Scorer, ...] = (
    *(HyperplaneDistance(space, HYPERPLANE_NEIGHBORS) for space in (inputs, normal_scores)),
    *(NeighborDistance(space, 1, metric="manhattan") for space in (inputs, normal_scores)),
    NegativeLogFrequency(),
)
CLEAN_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 0.5)


def _knn(space: Space) -> Scorer:
    """Mean distance to many neighbours, for contaminated training rows."""
    return NeighborDistance(space, MIN_NEIGHBORS, NEIGHBOR_FRACTION)


# Parts of the default score of contaminated training rows, and their weights: in tables without
# classes, and in those with classes.
DISTANCES = (_knn(inputs), _knn(deviations))
NUMBERS_SCORES = (*DISTANCES, NegativeLogFrequency())
NUMBERS_WEIGHTS = (1.0, 1.0, 0.25)
CLASSES_SCORES = (*DISTANCES, ClassSurprisal())
CLASSES_WEIGHTS = (1.0, 1.0, 0.5)

# By method: the scorer for clean training rows, and that for contaminated ones. In tables with
# classes "auto" has another one, see ``find_scorer``. Scores of the autoencoders do not improve the
# defaults (docs/defaults.md).
METHODS: dict[str, tuple[Scorer, Scorer]] = {
    "auto": (
        CombinedScore(CLEAN_SCORES, CLEAN_WEIGHTS),
        CombinedScore(NUMBERS_SCORES, NUMBERS_WEIGHTS),
    ),
    "latent": (
        NeighborDistance(residuals_and_codes, 1),
        _knn(residuals_and_codes),
    ),
    "log_likelihood": (NegativeLogLikelihood(SCORE_DRAWS),) * 2,
    "elbo": (NegativeELBO(SCORE_DRAWS),) * 2,
    "reconstruction_probability": (NegativeELBO(SCORE_DRAWS, with_kl=False),) * 2,
    "reconstruction": (ReconstructionError(),) * 2,
    "denoising": (ReconstructionError(DENOISING_NOISE),) * 2,
    "masked": (MaskedReconstructionError(),) * 2,
}


def find_preset(method: str, *, novelty: bool) -> Preset:
    """Values of "auto" for clean training rows or contaminated ones.

    The default score is not of autoencoders: there is one of them, on all rows, which explains it.
    """
    preset = CLEAN if novelty else CONTAMINATED
    if method == "auto":
        preset = replace(preset, n_init=1, learning_rate=EXPLAINING_LEARNING_RATE)
    return preset


def find_scorer(method: str, *, novelty: bool, has_classes: bool) -> Scorer:
    """Scorer of a method, for clean training rows or contaminated ones with or without classes."""
    if method == "auto" and has_classes and not novelty:
        return CombinedScore(CLASSES_SCORES, CLASSES_WEIGHTS)
    return METHODS[method][0 if novelty else 1]
