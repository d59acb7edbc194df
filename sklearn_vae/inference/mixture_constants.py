"""Constants of a mixture's log-density, which PyTorch's models and the numpy runtime share."""

# Steps of Fisher scoring at most, and twice the gain in nats that a further step is worth: without
# it, the code is within about a quarter of a standard deviation of the mode.
MAX_STEPS = 8
CONVERGED = 0.05
# Backtracking factor of a rejected step.
BACKTRACKING = 0.25
# Distance of the finite differences of the decoder's outputs.
DIFFERENCE = 0.05
# Components with an evidence so many nats below the row's best get no (further) steps: of a
# member's at the encoder's mean, and of all after a step. No more components of a member get any.
MAX_FIRST_GAP = 12.0
MAX_GAP = 5.0
MAX_COMPONENTS = 3
# Factor of the proposals' standard deviations, as far as the likelihood determines them. Where the
# likelihood is flat, the proposal of a fitted mode is the prior, and the estimate is exact.
PROPOSAL_SCALE = 1.2
# Shares of the draws of z that are from the Laplace approximation, from a wider one and from the
# prior. The wider ones are for curved posteriors.
PROPOSAL_SHARES = (5 / 8, 1 / 4, 1 / 8)
# A row is far if its squared distance from the mode of its likeliest component is so many standard
# deviations above the mean of a chi-squared distribution. Its code is searched once more, from the
# best of N_STARTS normal codes of each of these scales, in FAR_COMPONENTS components.
FAR = 10.0
N_STARTS = 32
START_SCALES = (1.0, 2.0, 4.0)
FAR_COMPONENTS = 4
FAR_STEPS = 20
# A score of a larger standard error, in nats, is computed again with more draws, in proportion to
# it: as many times more as the next power of two, up to MAX_FACTOR. Standard errors of few draws
# predict errors badly, so that more draws for the largest ones would lower the mean error less.
MAX_ERROR = 0.014
MAX_DOUBLINGS = 4
MAX_FACTOR = 1 << MAX_DOUBLINGS
# Draws that are made again at a time.
MAX_DRAWS = 1 << 17
# Components of a smaller posterior probability get none, if the density does not depend on codes.
MIN_PROBABILITY = 1e-9
