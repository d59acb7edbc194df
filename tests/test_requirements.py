"""Parameters that exclude each other are refused before the fit, by the names of both."""

import re

import numpy as np
import pytest
import torch

from sklearn_vae import VAETransformer
from sklearn_vae.networks import CustomNetwork
from sklearn_vae.objectives import ELBO, MMD, LinearWarmup
from sklearn_vae.posteriors import DiagonalGaussian, FullCovarianceGaussian, RelaxedCategorical
from sklearn_vae.priors import MixturePrior, StandardNormal, VampPrior

NO_KL = "whose bound has no KL of its own"
BITS = {"objective": ELBO(free_bits=0.1)}
NONE = "one whose free_bits are 0"
# A part, the parameter that it excludes, what that must be, and why.
CASES = [
    ({"objective": "iwae"}, {"beta": 0.5}, "1", NO_KL),
    ({"objective": "iwae"}, {"beta": LinearWarmup()}, "1", NO_KL),
    *(
        (
            {"objective": objective},
            {"prior": prior},
            "'normal'",
            "which compares the aggregated posterior with independent dimensions",
        )
        for objective, prior in [("tc", "mixture"), (MMD(), "vamp")]
    ),
    *(
        (
            {"objective": objective},
            {"posterior": posterior},
            "'gaussian'",
            "which integrates over each dimension separately",
        )
        for objective, posterior in [("tc", "full"), ("mmd", "categorical")]
    ),
    *(
        ({"prior": prior}, BITS, NONE, "from which the KL is not a sum over latent dimensions")
        for prior in ("mixture", VampPrior(3))
    ),
    (
        {"prior": "vamp"},
        {"posterior": "full"},
        "'gaussian'",
        "which is a mixture of diagonal Gaussian posteriors",
    ),
    (
        {"posterior": "categorical"},
        {"prior": "mixture"},
        "'normal'",
        "whose classes have equal prior probabilities",
    ),
    (
        {"posterior": RelaxedCategorical(2)},
        {"objective": "iwae"},
        "'elbo'",
        "whose relaxed draws have no importance weights",
    ),
    (
        {"posterior": RelaxedCategorical(2)},
        {"n_components": 7},
        "a multiple of 2 up to 128",
        "which has that many latent dimensions",
    ),
]


@pytest.mark.parametrize(("part", "refused", "allowed", "reason"), CASES, ids=str)
def test_a_parameter_that_a_part_excludes_is_refused(part, refused, allowed, reason):
    """The message names both parameters, what is allowed, why, and what was given."""
    ((name, value),) = part.items()
    ((parameter, given),) = refused.items()
    message = (
        f"The {parameter!r} parameter of VAETransformer must be {allowed} with "
        f"{name}={value!r}, {reason}. Got {given!r} instead."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VAETransformer(**part, **refused).fit(np.zeros((9, 2)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("params", "prior", "posterior"),
    [
        ({}, MixturePrior, FullCovarianceGaussian),
        ({"objective": BITS["objective"]}, StandardNormal, FullCovarianceGaussian),
        ({"objective": "iwae"}, MixturePrior, FullCovarianceGaussian),
        ({"objective": "tc"}, StandardNormal, DiagonalGaussian),
        ({"prior": "vamp"}, VampPrior, DiagonalGaussian),
        ({"n_components": 65}, MixturePrior, DiagonalGaussian),
        (
            {"n_components": 2, "network": CustomNetwork(encoder=torch.nn.Linear)},
            MixturePrior,
            DiagonalGaussian,
        ),
    ],
    ids=str,
)
def test_auto_is_what_other_parameters_allow(params, prior, posterior):
    """Prior and posterior are the simpler ones where the better ones are not supported."""
    X = np.random.default_rng(0).normal(size=(80, 3))
    vae = VAETransformer(hidden_layer_sizes=(4,), max_iter=1, random_state=0, **params).fit(X)

    assert isinstance(vae.prior_, prior)
    assert isinstance(vae.posterior_, posterior)
