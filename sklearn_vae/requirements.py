"""Conditions between parameters: each part states its own, and one function checks all."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Requirement(NamedTuple):
    """A condition that a part (prior, posterior, objective ...) puts on another parameter."""

    parameter: str  # name of the other parameter
    is_met: Callable[[Any], bool]  # takes its value, an object where it may be a name
    allowed: str  # description of the values that are allowed
    reason: str  # relative clause about the part, which ends the message's sentence


def no_free_bits(reason: str) -> Requirement:
    """Return the condition that the objective has no free bits."""
    allowed = "one whose free_bits are 0"
    return Requirement("objective", lambda objective: not objective.free_bits, allowed, reason)


def needs_elbo(reason: str) -> Requirement:
    """Return the condition that the objective is an ELBO without a penalty."""
    return Requirement("objective", lambda objective: objective.is_elbo, "'elbo'", reason)


def needs_normal_prior(reason: str) -> Requirement:
    """Return the condition that the prior is a standard normal distribution."""
    return Requirement("prior", lambda prior: prior.is_standard_normal, "'normal'", reason)


def needs_diagonal_gaussian(reason: str) -> Requirement:
    """Return the condition that q(z|x) is a diagonal Gaussian."""
    return Requirement("posterior", lambda q: q.is_diagonal_gaussian, "'gaussian'", reason)


def are_met(requirements: Iterable[Requirement], resolved: Mapping[str, Any]) -> bool:
    """Whether the values of parameters meet requirements."""
    return all(is_met(resolved[parameter]) for parameter, is_met, *_ in requirements)


def check_requirements(
    caller: str,
    parts: Mapping[str, Iterable[Requirement]],
    resolved: Mapping[str, Any],
    params: Mapping[str, Any],
) -> None:
    """Check the requirements of all parts, by the parameter that each part is.

    ``resolved`` are the values of the parameters, with names replaced by the objects that they
    stand for, and ``params`` those that the user passed; they and ``caller`` are for the message.
    """
    for part, requirements in parts.items():
        for parameter, is_met, allowed, reason in requirements:
            if not is_met(resolved[parameter]):
                raise ValueError(
                    f"The {parameter!r} parameter of {caller} must be {allowed} with "
                    f"{part}={params[part]!r}, {reason}. Got {params[parameter]!r} instead."
                )
