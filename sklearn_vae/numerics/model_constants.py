"""Constants of the models: those of PyTorch and those of numpy (``runtime/``) have the same."""

import math

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

# The encoder's input is clipped at so many standard deviations: otherwise a pixel that is inked in
# one row of thousands would dominate the codes. The likelihood takes the values as they are.
INPUT_CLIP = 5.0
# Bound of log-scales of q(z|x), for scales between 6e-6 and 2e5: a thousand redundant columns
# determine z to 1e-4.
POSTERIOR_LOG_SCALE_BOUND = 12.0

# Bounds of raw parameters of p(x|z). Scales lie between 0.0009 and 1097 standard deviations of the
# column.
LOG_SCALE_BOUND = 7.0
# Least raw parameter where there is none: any is larger.
NO_LEAST = -1e4
# Rates lie between e^-12 and e^12 times the unit's square.
LOG_RATE_BOUND = 12.0
# The shape of a negative binomial lies between e^-7 and e^7.
LOG_SHAPE_BOUND = 7.0
# Times that a sample beyond its limits is drawn again.
MAX_REDRAWS = 16

# In a VAE of a mixture, a whitened scale lies between 0.05 and 20 times the component's own. The
# bound keeps the density of rounded numbers finite: nowhere is it e^3 times the mixture's per
# column.
COMPONENT_LOG_SCALE_BOUND = 3.0
# Log-weight of padded components.
LOG_ZERO_WEIGHT = -1e4
# A scale is at least a recording step divided by this. A normal density of that scale is nowhere
# above 1 per step, so that a recorded value gets no more of it than a probability can be.
STEPS_PER_SCALE = math.sqrt(2 * math.pi)
# Step of an additive sequence of quantiles, which are evenly spread however many there are.
GOLDEN_RATIO = 0.6180339887498949
