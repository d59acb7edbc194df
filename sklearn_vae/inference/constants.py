"""Constants of importance sampling, which PyTorch's models and the numpy runtime share."""

import math

# Sobol points of the score; benchmarks/score_draws.py shows bias and noise by number.
SCORE_DRAWS = 64
# Weighted draws of the latent variables per row for imputation: a mean needs fewer of them than
# several imputations do.
MEAN_DRAWS = 128
IMPUTE_DRAWS = 256
# Rows drawn from the same weighted draws of the latent variables, at most. There are as many
# of these as rows, up to a power of two, and at least so many.
MAX_GIVEN_DRAWS = 1 << 12
MIN_GIVEN_DRAWS = 1 << 8

# -- proposals ---------------------------------------------------------------------------

# Further proposals per row at most, and the fewest draws from each.
MAX_PROPOSALS = 6
MIN_DRAWS = 128
# Starting points of Newton's method times latent dimensions, at most; but at least so many starting
# points where values are missing or the prior is a mixture.
MAX_START_DIMENSIONS = 12
MIN_STARTS = 3
# Further starting points are so many times as far out as draws from the prior.
FAR_START = 3.0
# Where a draw from the prior is decoded separately for each row, there are so many times fewer.
PRIOR_ONE_IN = 8
# Bias of the log of an average of weights, in nats, that needs no further proposal.
TOLERANCE = 0.025
# Control variates change an estimate by no more than this factor.
MAX_FACTOR = 1.5
# A proposal is too narrow where the posterior has 1 / (1 - 0.5) = 2 times its variance.
WIDTH_TOLERANCE = 0.5
# With more products of dimensions, or fewer draws, only the squares are regressors.
MAX_PRODUCTS = 64
DRAWS_PER_FEATURE = 1.3
# Curvatures are clipped here.
MAX_CURVATURE = 1e12
# One in so many draws from a Laplace approximation is from a wider one: heavier tails.
WIDE_ONE_IN = 4
# Every mode but the largest gets one in so many draws.
OTHER_MODE_ONE_IN = 8
# Clusters of candidate codes per further starting point of Newton's method.
CLUSTERS_PER_START = 2
# Two modes are the same within so many standard deviations (root mean square).
SAME_MODE = 1.0

# -- Laplace approximations --------------------------------------------------------------

# Newton steps at most, and the step lengths of the line search.
MAX_NEWTON_STEPS = 8
STEP_LENGTHS = (1.0, 0.5, 0.2, 0.05, 0.0)
# Newton's method has converged after a step of fewer standard deviations.
CONVERGED = 0.1
# Distance of the finite differences of gradients: at the first step, and in standard deviations of
# the previous step's Laplace approximation.
FIRST_DIFFERENCE = 1e-2
DIFFERENCE = 0.3
# Upper bound of the Laplace approximation's standard deviations.
MAX_SCALE = 1.5
# Gradients and curvatures are clipped to this share of the largest number, so that sums are finite.
CLIP_SHARE = 1e-8


def wide_scale(n_latent: int) -> float:
    """Factor of the standard deviations of a wider Laplace approximation, for heavier tails."""
    return 1 + 2 / math.sqrt(n_latent)
