"""Objects that parameters name: network, prior, posterior, objective."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, Self

from sklearn_vae.networks import NETWORKS, CustomNetwork, EncoderDecoderPair, Network
from sklearn_vae.objectives import OBJECTIVES, Checked, Constant, Objective, Schedule
from sklearn_vae.persistence.validation import MAX_COUNT, invalid_parameter
from sklearn_vae.posteriors import POSTERIORS, Posterior
from sklearn_vae.priors import PRIORS, Prior
from sklearn_vae.requirements import Requirement, check_requirements

# Objects by parameter and by the name that a user may pass instead.
NAMED: dict[str, Mapping[str, Any]] = {
    "network": NETWORKS,
    "prior": PRIORS,
    "posterior": POSTERIORS,
    "objective": OBJECTIVES,
}
# Requirements of an autoregressive decoder, whose scales depend on the steps before.
AUTOREGRESSIVE = (
    Requirement(
        "objective",
        lambda objective: objective.supports_autoregressive,
        "'elbo' or TrimmedELBO",
        "whose decoder is autoregressive",
    ),
)


def resolve(parameter: str, value: Any) -> Any:
    """Replace the name of an object by the object; other values stay as they are."""
    return NAMED.get(parameter, {}).get(value, value) if isinstance(value, str) else value


def resolve_widths(hidden_layer_sizes: Any, caller: str) -> tuple[int, ...]:
    """Convert the parameter ``hidden_layer_sizes`` to a tuple of integers in a range."""
    is_one = isinstance(hidden_layer_sizes, Integral) or getattr(hidden_layer_sizes, "ndim", 1) == 0
    widths = [hidden_layer_sizes] if is_one else list(hidden_layer_sizes)
    for width in widths:
        is_integer = isinstance(width, Integral) and not isinstance(width, bool)
        if not is_integer or not 1 <= width <= MAX_COUNT:
            expected = f"hold integers between 1 and {MAX_COUNT}"
            raise invalid_parameter(caller, "hidden_layer_sizes", expected, hidden_layer_sizes)
    return tuple(int(width) for width in widths)


@dataclass(frozen=True)
class ModelParts:
    """Objects that the parameters of a VAETransformer stand for.

    Attributes
    ----------
    network : Network
        Encoder and decoder, with a user's modules in the place of ours.
    hidden_layer_sizes : tuple of int
        Widths of the encoder's hidden layers.
    prior : Prior
        p(z).
    posterior : Posterior
        q(z|x).
    objective : Objective
        Objective to maximize.
    beta : Schedule
        Weight of the KL divergence as a function of the epoch.
    """

    network: Network
    hidden_layer_sizes: tuple[int, ...]
    prior: Prior
    posterior: Posterior
    objective: Objective
    beta: Schedule

    @classmethod
    def from_params(cls, params: Mapping[str, Any], caller: str) -> Self:
        """Resolve a VAETransformer's parameters, and check that they go together.

        ``caller`` is the name of the estimator's class, for messages.
        """
        network = resolve("network", params["network"])
        custom = [_custom_network(name, params[name], caller) for name in ("encoder", "decoder")]
        if custom != [None, None]:
            network = EncoderDecoderPair(network, *custom)
        beta = params["beta"]
        parts = cls(
            network=network,
            hidden_layer_sizes=resolve_widths(params["hidden_layer_sizes"], caller),
            prior=resolve("prior", params["prior"]),
            posterior=resolve("posterior", params["posterior"]),
            objective=resolve("objective", params["objective"]),
            beta=Checked(beta) if callable(beta) else Constant(float(beta)),
        )
        requirements = {
            "objective": parts.objective.requirements,
            "posterior": parts.posterior.requirements,
            "prior": parts.prior.requirements,
            "network": AUTOREGRESSIVE if network.row_structure.is_autoregressive else (),
        }
        names = "objective", "posterior", "prior"
        resolved = {**params, **{name: getattr(parts, name) for name in names}}
        check_requirements(caller, requirements, resolved, params)
        return parts


def _custom_network(name: str, value: Any, caller: str) -> CustomNetwork | None:
    """Make the network of the parameter ``encoder`` or ``decoder``; a module is copied."""
    if isinstance(value, partial) and value.args:
        raise ValueError(
            f"The {name!r} parameter of {caller} is called with the widths of its input and "
            f"output, so functools.partial must give its other arguments by name. Got {value!r} "
            f"instead."
        )
    return None if value is None else CustomNetwork.from_param(value).copied()
