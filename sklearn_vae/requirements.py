"""Conditions between parameters: each part states its own, and estimators check them all."""

from collections.abc import Callable
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
