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
# Starting points of the search for modes times latent dimensions, but at least so many starting
# points.
MAX_START_DIMENSIONS = 12
MIN_STARTS = 3
# Further starting points are so many times as far out as draws from the prior.
FAR_START = 3.0
# In no more dimensions, draws from the prior find modes of p(z|x) that are far from the encoder's
# mean. In more, the first scores of rows have so many times fewer, before poor ones are refined;
# also where each draw is decoded separately for each row.
MAX_PRIOR_DIMENSIONS = 3
PRIOR_ONE_IN = 8
# Bias of the log of an average of weights, in nats, that needs no further proposal.
TOLERANCE = 0.015
# Control variates change an estimate by no more than this factor.
MAX_FACTOR = 1.5
# One in so many draws from a Laplace approximation is from a wider one: heavier tails.
WIDE_ONE_IN = 4
# Every mode but the largest gets one in so many draws.
OTHER_MODE_ONE_IN = 8
# Two modes are the same within so many standard deviations (root mean square).
SAME_MODE = 1.0

# -- Laplace approximations --------------------------------------------------------------

# Steps of Fisher scoring at most, for rows far from all others, and twice the gain in nats that a
# further step is worth: without it, the code is within about a quarter of a standard deviation of
# the mode. The search of a row's first proposal ends sooner, with a step that needs no expansion.
# Codes of rows with missing values are modes.
MAX_STEPS = 20
CONVERGED = 0.05
FIRST_CONVERGED = 2.0
CODE_CONVERGED = 1e-3
# Backtracking factor of a rejected step.
BACKTRACKING = 0.25
# Distance of the finite differences of the decoder's outputs.
DIFFERENCE = 0.05
# Factor of the proposals' standard deviations, as far as the likelihood determines them. Where the
# likelihood is flat, the proposal of a fitted mode is the prior, and the estimate is exact.
PROPOSAL_SCALE = 1.2


def wide_scale(n_latent: int) -> float:
    """Factor of the standard deviations of a wider Laplace approximation, for heavier tails."""
    return 1 + 2 / math.sqrt(n_latent)
