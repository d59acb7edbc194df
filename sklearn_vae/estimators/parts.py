"""Objects that parameters name: network, prior, posterior, objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Integral
from typing import Any, Self

import numpy as np

from sklearn_vae.networks import NETWORKS, Network
from sklearn_vae.objectives import OBJECTIVES, Checked, Constant, Objective, Schedule
from sklearn_vae.persistence.validation import MAX_COUNT, invalid_parameter
from sklearn_vae.posteriors import POSTERIORS, Posterior
from sklearn_vae.priors import PRIORS, Prior
from sklearn_vae.requirements import are_met, check_requirements, needs_elbo

# Objects by parameter and by the name that a user may pass instead.
NAMED: dict[str, Mapping[str, Any]] = {
    "network": NETWORKS,
    "prior": PRIORS,
    "posterior": POSTERIORS,
    "objective": OBJECTIVES,
}


def resolve(parameter: str, value: object) -> Any:
    """Replace the name of an object by the object; other values stay as they are."""
    return NAMED.get(parameter, {}).get(value, value) if isinstance(value, str) else value


def resolve_widths(
    hidden_layer_sizes: int | Sequence[int] | np.ndarray, caller: str
) -> tuple[int, ...]:
    """Convert the parameter ``hidden_layer_sizes`` to a tuple of integers in a range."""
    sizes: Any = hidden_layer_sizes
    is_one = isinstance(sizes, Integral) or getattr(sizes, "ndim", 1) == 0
    widths = [sizes] if is_one else list(sizes)
    for width in widths:
        is_integer = isinstance(width, Integral) and not isinstance(width, bool)
        if not is_integer or not 1 <= width <= MAX_COUNT:
            expected = f"hold integers between 1 and {MAX_COUNT}"
            raise invalid_parameter(caller, "hidden_layer_sizes", expected, hidden_layer_sizes)
    return tuple(int(width) for width in widths)


@dataclass(frozen=True)
class ModelParts:
    """Objects that the parameters of a VAETransformer stand for."""

    network: Network  # encoder and decoder
    hidden_layer_sizes: tuple[int, ...]  # widths of the encoder's hidden layers
    prior: Prior  # p(z)
    posterior: Posterior  # q(z|x)
    objective: Objective
    beta: Schedule  # weight of the KL divergence as a function of the epoch

    @classmethod
    def from_params(cls, params: Mapping[str, Any], caller: str) -> Self:
        """Resolve a VAETransformer's parameters, and check that they go together."""
        beta = params["beta"]
        resolved = {name: resolve(name, value) for name, value in params.items()}
        network, posterior, objective, prior = (
            resolved[name] for name in ("network", "posterior", "objective", "prior")
        )
        requirements = {
            "objective": objective.requirements,
            "posterior": posterior.requirements,
        }
        if network.row_structure.is_autoregressive:  # scales depend on the steps before
            requirements["network"] = (needs_elbo("whose decoder is autoregressive"),)
        if isinstance(prior, str):  # a mixture, but where other parameters require the normal one
            prior = PRIORS["mixture"]
            of_all = [*prior.requirements, *chain.from_iterable(requirements.values())]
            if not are_met(of_all, {**resolved, "prior": prior}):
                prior = PRIORS["normal"]
        requirements["prior"] = prior.requirements
        check_requirements(caller, requirements, {**resolved, "prior": prior}, params)
        return cls(
            network=network,
            hidden_layer_sizes=resolve_widths(params["hidden_layer_sizes"], caller),
            prior=prior,
            posterior=posterior,
            objective=objective,
            beta=Checked(beta) if callable(beta) else Constant(float(beta)),
        )
