"""Parameters that exclude each other are refused before the fit, by the names of both."""

import re

import numpy as np
import pytest

from sklearn_vae import VAETransformer
from sklearn_vae.objectives import IWAE, MMD, CapacityELBO, LinearWarmup, TotalCorrelation
from sklearn_vae.posteriors import GaussianCategorical, RelaxedCategorical
from sklearn_vae.priors import MixturePrior, VampPrior

NO_KL = "whose bound has no KL of its own"
CASES = [
    ({"objective": "iwae"}, {"beta": 0.5}, "1", NO_KL),
    ({"objective": "iwae"}, {"beta": LinearWarmup()}, "1", NO_KL),
    ({"objective": IWAE(3)}, {"free_bits": 0.1}, "0", NO_KL),
    ({"objective": "capacity"}, {"free_bits": 0.1}, "0", "which itself determines the KL"),
    ({"objective": CapacityELBO(2.0)}, {"free_bits": 0.1}, "0", "which itself determines the KL"),
    *(
        (
            {"objective": objective},
            {"prior": prior},
            "'normal'",
            "which compares the aggregated posterior with independent dimensions",
        )
        for objective in ("tc", "mmd", TotalCorrelation(1.0), MMD())
        for prior in ("mixture", "vamp")
    ),
    *(
        (
            {"objective": objective},
            {"posterior": posterior},
            "'gaussian'",
            "which integrates over each dimension separately",
        )
        for objective in ("tc", "mmd")
        for posterior in ("full", "categorical")
    ),
    *(
        (
            {"prior": prior},
            {"free_bits": 0.1},
            "0",
            "from which the KL is not a sum over latent dimensions",
        )
        for prior in ("mixture", "vamp", MixturePrior(3), VampPrior(3))
    ),
    (
        {"prior": "vamp"},
        {"posterior": "full"},
        "'gaussian'",
        "which is a mixture of diagonal Gaussian posteriors",
    ),
    (
        {"posterior": "full"},
        {"free_bits": 0.1},
        "0",
        "whose KL is not a sum over latent dimensions",
    ),
    *(
        (
            {"posterior": posterior},
            {"prior": prior},
            "'normal'",
            "whose classes have equal prior probabilities",
        )
        for posterior in ("categorical", GaussianCategorical(3))
        for prior in ("mixture", "vamp")
    ),
    *(
        (
            {"posterior": posterior},
            {"objective": objective},
            "'elbo' or TrimmedELBO",
            "whose relaxed draws have no importance weights",
        )
        for posterior in ("categorical", GaussianCategorical(3))
        for objective in ("iwae", "capacity")
    ),
    *(
        (
            {"posterior": posterior},
            {"n_components": n},
            allowed,
            "which has that many latent dimensions",
        )
        for posterior, n, allowed in [
            (RelaxedCategorical(2), 7, "a multiple of 2 up to 128"),
            (RelaxedCategorical(2), 1, "a multiple of 2 up to 128"),
            (GaussianCategorical(10), 10, "larger than 10"),
        ]
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


def test_a_name_that_is_no_posterior_is_refused():
    """By the parameter's name."""
    with pytest.raises(ValueError, match="'posterior' parameter of VAETransformer"):
        VAETransformer(posterior="discrete").fit(np.zeros((9, 2)))
