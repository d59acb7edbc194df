"""What "auto" stands for in the detector's two settings, and its scores by name."""

from dataclasses import dataclass

from sklearn_vae.estimator import SCORE_DRAWS
from sklearn_vae.neighbours import (
    SPANNING,
    Cleaned,
    Nearest,
    Space,
    ToHyperplane,
    codes,
    inputs,
    residuals_and_codes,
)
from sklearn_vae.strangeness import Bound, Masked, Measure, Residual, Unlikelihood
from sklearn_vae.surprise import Together

# Neighbours that say of a row whether it may serve as reference, and those it is compared with.
CLEANING_SHARE = 0.1
NEIGHBOUR_SHARE = 0.02
FEWEST_NEIGHBOURS = 20
# Share of the rows that does not serve as reference.
LEFT_OUT = 0.4


@dataclass(frozen=True)
class Design:
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


CLEAN = Design(
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
CONTAMINATED = Design(
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
    Nearest(inputs, 1),
    Nearest(inputs, 1, metric="manhattan"),
    ToHyperplane(inputs, SPANNING),
)


def _near(space: Space) -> Measure:
    return Nearest(space, FEWEST_NEIGHBOURS, NEIGHBOUR_SHARE)


def _far(space: Space) -> Measure:
    return Nearest(space, 1, CLEANING_SHARE)


# For each method: the measure for clean training rows, and for contaminated ones.
METHODS: dict[str, tuple[Measure, Measure]] = {
    "auto": (
        Together((*NEIGHBOURS_OF_CLEAN, Residual(CLEAN.input_noise))),
        Cleaned(Together((_near(inputs), Masked())), (_far(codes), Masked()), LEFT_OUT),
    ),
    "neighbours": (
        Together(NEIGHBOURS_OF_CLEAN),
        Cleaned(_near(inputs), (_far(inputs),), LEFT_OUT),
    ),
    "latent": (
        Nearest(residuals_and_codes, 1),
        Cleaned(_near(residuals_and_codes), (_far(codes),), LEFT_OUT),
    ),
    "log_likelihood": (Unlikelihood(SCORE_DRAWS),) * 2,
    "elbo": (Bound(SCORE_DRAWS),) * 2,
    "reconstruction_probability": (Bound(SCORE_DRAWS, with_kl=False),) * 2,
    "reconstruction": (Residual(),) * 2,
    "denoising": (Residual(CLEAN.input_noise),) * 2,
    "masked": (Masked(),) * 2,
}
