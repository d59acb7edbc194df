"""What "auto" stands for in the detector's two settings, and its scores by name."""

from dataclasses import dataclass

from sklearn_vae.anomaly.combination import CombinedScore
from sklearn_vae.anomaly.knn import (
    SPANNING,
    FilteredReference,
    HyperplaneDistance,
    NeighborDistance,
    Space,
    codes,
    inputs,
    residuals_and_codes,
)
from sklearn_vae.anomaly.scores import (
    MaskedReconstructionError,
    NegativeELBO,
    NegativeLogLikelihood,
    ReconstructionError,
    Scorer,
)
from sklearn_vae.inference.predictor import SCORE_DRAWS

# Neighbours that say of a row whether it may serve as reference, and those it is compared with.
CLEANING_SHARE = 0.1
NEIGHBOUR_SHARE = 0.02
FEWEST_NEIGHBOURS = 20
# Share of the rows that does not serve as reference.
LEFT_OUT = 0.4


@dataclass(frozen=True)
class Preset:
    """What "auto" stands for in one of the two settings.

    Attributes
    ----------
    n_init, hidden_layer_sizes, max_iter, learning_rate, input_noise, mask_fraction,
    trim_fraction
        The parameters of these names.
    components_per_column : float
        Latent dimensions per column.
    warm_up : float
        Share of the iterations in which the weight of the KL rises.
    plain : float
        Share of the iterations before rows are left out.
    anneals : bool
        Whether the step size falls.
    contamination : float
        Share of the training rows below the threshold.
    """

    n_init: int
    hidden_layer_sizes: tuple[int, ...]
    max_iter: int
    learning_rate: float
    input_noise: float
    mask_fraction: float
    trim_fraction: float
    components_per_column: float
    warm_up: float
    plain: float
    anneals: bool
    contamination: float


CLEAN = Preset(
    n_init=4,
    hidden_layer_sizes=(128, 64),
    max_iter=60,
    learning_rate=6e-3,
    input_noise=0.3,
    mask_fraction=0.0,
    trim_fraction=0.0,
    components_per_column=1.0,
    warm_up=0.3,
    plain=0.0,
    anneals=True,
    contamination=0.05,
)
CONTAMINATED = Preset(
    n_init=4,
    hidden_layer_sizes=(64, 32),
    max_iter=16,
    learning_rate=2e-3,
    input_noise=0.0,
    mask_fraction=0.3,
    trim_fraction=0.3,
    components_per_column=0.5,
    warm_up=0.0,
    plain=0.15,
    anneals=False,
    contamination=0.1,
)


NEIGHBOURS_OF_CLEAN = (
    NeighborDistance(inputs, 1),
    NeighborDistance(inputs, 1, metric="manhattan"),
    HyperplaneDistance(inputs, SPANNING),
)


def _near(space: Space) -> Scorer:
    return NeighborDistance(space, FEWEST_NEIGHBOURS, NEIGHBOUR_SHARE)


def _far(space: Space) -> Scorer:
    return NeighborDistance(space, 1, CLEANING_SHARE)


# For each method: the measure for clean training rows, and for contaminated ones.
METHODS: dict[str, tuple[Scorer, Scorer]] = {
    "auto": (
        CombinedScore((*NEIGHBOURS_OF_CLEAN, ReconstructionError(CLEAN.input_noise))),
        FilteredReference(
            CombinedScore((_near(inputs), MaskedReconstructionError())),
            (_far(codes), MaskedReconstructionError()),
            LEFT_OUT,
        ),
    ),
    "knn": (
        CombinedScore(NEIGHBOURS_OF_CLEAN),
        FilteredReference(_near(inputs), (_far(inputs),), LEFT_OUT),
    ),
    "latent": (
        NeighborDistance(residuals_and_codes, 1),
        FilteredReference(_near(residuals_and_codes), (_far(codes),), LEFT_OUT),
    ),
    "log_likelihood": (NegativeLogLikelihood(SCORE_DRAWS),) * 2,
    "elbo": (NegativeELBO(SCORE_DRAWS),) * 2,
    "reconstruction_probability": (NegativeELBO(SCORE_DRAWS, with_kl=False),) * 2,
    "reconstruction": (ReconstructionError(),) * 2,
    "denoising": (ReconstructionError(CLEAN.input_noise),) * 2,
    "masked": (MaskedReconstructionError(),) * 2,
}
