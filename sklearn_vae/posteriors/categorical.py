"""Codes of which a part, or all, says which class a row is of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from sklearn_vae.compatibility import Requirement
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer, check_number
from sklearn_vae.posteriors.base import Codes
from sklearn_vae.posteriors.diagonal import DiagonalGaussian
from sklearn_vae.priors import Prior, UniformCategorical, one_hot

# Of no more codes a score sums over all; of more it draws some.
MOST_CODES = 4096
# Of no more codes each step of a training by importance-weighted draws takes all.
MOST_CODES_OF_A_STEP = 256
# One in so many draws of a score is of a class by pure chance, in case that q(z|x) errs.
ONE_IN = 16
# Classes of a variable where nobody has asked for a number.
USUAL_CLASSES = 10


@dataclass(frozen=True)
class Temperature:
    """How soft the relaxed draws of a training are: it falls by the same factor each time.

    Attributes
    ----------
    first, last : float
        Where it starts and ends.
    n_iter : int
        Iterations until it is there.
    """

    first: float
    last: float
    n_iter: int

    def __call__(self, iteration: int) -> float:
        """Temperature in the iteration of this number, counted from 0."""
        share = min(iteration / self.n_iter, 1.0)
        return self.first ** (1 - share) * self.last**share


class Discrete:
    """What kinds of posteriors with categorical variables have in common."""

    temperature: float
    final_temperature: float
    n_iter: int

    is_diagonal_gaussian: ClassVar[bool] = False
    has_codes = True
    supports_padding = False
    # a variable is a unit
    kl_is_per_unit = True
    exact_for = (UniformCategorical,)

    @property
    def requirements(self) -> Sequence[Requirement]:
        """Equal prior probabilities, objectives for relaxed draws, and a latent size."""
        return (
            Requirement(
                "prior",
                lambda prior: prior.is_standard_normal,
                "'normal'",
                "whose classes have equal prior probabilities",
            ),
            Requirement(
                "objective",
                lambda objective: objective.supports_relaxed_draws,
                "'elbo' or TrimmedELBO",
                "whose relaxed draws have no importance weights",
            ),
            Requirement(
                "n_components",
                lambda n: n == "auto" or self.is_width(int(n)),
                self.allowed_widths,
                "which has that many latent dimensions",
            ),
        )

    def is_width(self, n_components: int) -> bool:
        """Whether the categorical variables fit into so many latent dimensions."""
        raise NotImplementedError

    @property
    def allowed_widths(self) -> str:
        """Description of the numbers of latent dimensions that are allowed."""
        raise NotImplementedError

    def codes(self, n_components: int) -> Codes:
        """Categorical variables in front of z."""
        raise NotImplementedError

    def n_params(self, n_components: int) -> int:
        """A logit per class, a location and a log-scale per number that is none."""
        return 2 * n_components - self.codes(n_components).width

    def n_noise(self, n_components: int) -> int:
        """One normal number per class and per dimension."""
        return n_components

    def n_codes(self, n_components: int) -> int | None:
        """How many codes there are, where they are so few that a score sums over all."""
        n_variables, n_classes = codes = self.codes(n_components)
        has_rest = n_components > codes.width
        few = not has_rest and n_variables * math.log(max(n_classes, 1)) <= math.log(MOST_CODES)
        return n_classes**n_variables if few else None

    def prior(self, asked: Prior, n_components: int) -> Prior:
        """Classes of equal probability, whatever was asked for."""
        return UniformCategorical(*self.codes(n_components))

    def build(self, n_members: int, n_components: int) -> "DiscreteLaw":
        """Make the law; it has no weights."""
        schedule = Temperature(self.temperature, self.final_temperature, self.n_iter)
        n_codes = self.n_codes(n_components)
        n_codes = None if (n_codes or 0) > MOST_CODES_OF_A_STEP else n_codes
        return DiscreteLaw(self.codes(n_components), n_codes, schedule)

    def _check_schedule(self) -> None:
        check_number(self, "temperature", self.temperature, positive=True)
        check_number(self, "final_temperature", self.final_temperature, positive=True)
        check_integer(self, "n_iter", self.n_iter)


@serializable
@dataclass(frozen=True)
class RelaxedCategorical(Discrete):
    r"""Categorical variables, trained by draws that are relaxed.

    A code is one-hot: ``n_components`` numbers, of which each variable has an equal part, one
    per class. With one variable the model is a mixture of ``n_components`` distributions,
    and :math:`q(z | x) = \mathrm{softmax}(a(x))` says which one a row is of. In training a draw is

    .. math::
        z = \mathrm{softmax}\left( (\log q(z | x) + g) / \tau \right),
        \qquad g = -\log(-\log \Phi(\epsilon)),

    with Gumbel numbers g, so that a gradient passes through it; as the temperature
    :math:`\tau` falls it tends to one-hot codes. It falls geometrically,

    .. math::
        \tau_i = \tau_{first}^{1 - s} \, \tau_{last}^{s}, \qquad s = \min(i / n_{iter}, 1),

    by the iteration i, counted from 0. Where no gradient is asked for, in validation and in
    scores, a draw is a one-hot code: neither depends on the temperature. The prior is
    uniform, and the KL from it exact. Of at most 4,096 codes the score sums over all, so it is
    log p(x) itself; of more it draws some. ``transform`` gives the probabilities of the classes,
    of which ``argmax`` is the likeliest. Training starts at k-means of the rows.

    Parameters
    ----------
    n_variables : int, default=1
        Categorical variables, among which ``n_components`` is divided.
    temperature, final_temperature : float, default=1.0 and 0.3
        Where the temperature starts and ends.
    n_iter : int, default=30
        Iterations until it is at its end.

    Raises
    ------
    ValueError
        If one of these is not as it must be.

    References
    ----------
    .. [1] E. Jang, S. Gu and B. Poole, "Categorical Reparameterization with
       Gumbel-Softmax", ICLR 2017.
    .. [2] C. J. Maddison, A. Mnih and Y. W. Teh, "The Concrete Distribution: A Continuous
       Relaxation of Discrete Random Variables", ICLR 2017.

    Examples
    --------
    >>> from sklearn_vae.posteriors import RelaxedCategorical
    >>> RelaxedCategorical(n_variables=2)
    RelaxedCategorical(n_variables=2, temperature=1.0, final_temperature=0.3, n_iter=30)
    """

    n_variables: int = 1
    temperature: float = 1.0
    final_temperature: float = 0.3
    n_iter: int = 30

    def __post_init__(self) -> None:
        check_integer(self, "n_variables", self.n_variables)
        self._check_schedule()

    def codes(self, n_components: int) -> Codes:
        """Variables of as many classes as the width suffices for."""
        return Codes(self.n_variables, n_components // self.n_variables)

    def is_width(self, n_components: int) -> bool:
        """Whether each variable has the same number of classes."""
        return 0 < self.codes(n_components).width == n_components

    @property
    def allowed_widths(self) -> str:
        """Multiples of the number of variables."""
        return f"a multiple of {self.n_variables}"

    def width(self, n_factors: int) -> int:
        """Ten classes of each variable, whatever the table shows."""
        return USUAL_CLASSES * self.n_variables


class DiscreteLaw:
    """Draws and probabilities of one-hot codes, and of normal numbers behind them.

    Its parameters are logits, then locations, then raw log-scales.

    Parameters
    ----------
    codes : Codes
        The categorical variables.
    n_codes : int or None
        How many codes there are, where a step takes all of them.
    schedule : Temperature
        How soft relaxed draws are.
    """

    def __init__(self, codes: Codes, n_codes: int | None, schedule: Temperature):
        self.codes, self.n_codes = codes, n_codes
        self.base = DiagonalGaussian()
        self.schedule = schedule
        self.temperature = schedule(0)

    def begin_iteration(self, iteration: int) -> None:
        """Let the temperature fall."""
        self.temperature = self.schedule(iteration)

    def start(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Parameters of these logits and locations, and scales: (l), (l) -> (n_params)."""
        width = self.codes.width
        return torch.cat([loc[:width], self.base.start(loc[width:], scale[width:])])

    def mean(self, params: Tensor) -> Tensor:
        """Probabilities of the classes, and locations: (..., n_params) -> (..., l)."""
        log_share, rest = self._parts(params)
        return torch.cat([log_share.exp().flatten(-2), self.base.mean(rest)], dim=-1)

    def rsample(self, params: Tensor, noise: Tensor, proposal_scale: float = 1.0) -> Tensor:
        """Draws for (M, B, n_params) and normal numbers (M or 1, K, B or 1, l): (M, K, B, l).

        They are relaxed where a gradient is to pass through them, and else one-hot.
        """
        log_share, rest = self._parts(params)
        chance, normal = self._noise(noise)
        if params.requires_grad:
            codes = self._relaxed(log_share, chance)
        else:
            codes = self._chosen(log_share, chance)
        return self._joined(codes, self.base.rsample(rest, normal, proposal_scale))

    def log_prob(
        self, params: Tensor, z: Tensor, proposal_scale: float = 1.0, *, stop_gradient: bool = False
    ) -> Tensor:
        """Log-probability of one-hot codes, and log-density of the rest: (M, K, B)."""
        log_share, rest = self._parts(params.detach() if stop_gradient else params)
        return self._log_prob(log_share, rest, z, proposal_scale)

    def propose(
        self,
        params: Tensor,
        noise: Tensor,
        proposal_scale: float = 1.0,
        *,
        stop_gradient: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Draws (M, K, B, l) for weighting by importance, and their log-probability.

        They are all codes, each once, where these are few. Else one in sixteen is of a class by
        pure chance, so that no weight is more than sixteen times what it would be with the
        right class.
        """
        if self.n_codes is not None:
            z = self.every(params).expand(len(params), -1, params.shape[1], -1)
            return z, z.new_full(z.shape[:-1], -math.log(self.n_codes))
        log_share, rest = self._parts(params)
        uniform = log_share.new_tensor(1 / (self.codes.n_classes * ONE_IN)).log()
        log_share = torch.logaddexp(log_share + math.log(1 - 1 / ONE_IN), uniform)
        chance, normal = self._noise(noise)
        codes = self._chosen(log_share, chance)
        z = self._joined(codes, self.base.rsample(rest, normal, proposal_scale))
        return z, self._log_prob(log_share, rest, z, proposal_scale)

    def every(self, like: Tensor) -> Tensor:
        """All codes, where they are few: (1, n_codes, 1, l)."""
        n_variables, n_classes = self.codes
        places = torch.tensor([*product(range(n_classes), repeat=n_variables)])
        return one_hot(places, n_classes, like.dtype).to(like.device)[None, :, None]

    def kl(self, params: Tensor) -> Tensor:
        """KL in nats from the prior, by variable and then by dimension: (..., V + l')."""
        log_share, rest = self._parts(params)
        of_codes = (log_share.exp() * log_share).sum(-1) + math.log(self.codes.n_classes)
        return torch.cat([of_codes, self.base.kl(rest)], dim=-1)

    def _parts(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the classes (..., V, C), and parameters of the rest."""
        logits, rest = params[..., : self.codes.width], params[..., self.codes.width :]
        return logits.unflatten(-1, tuple(self.codes)).log_softmax(-1), rest

    def _noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Normal numbers of the classes (..., V, C), and those of the rest."""
        own, rest = noise[..., : self.codes.width], noise[..., self.codes.width :]
        return own.unflatten(-1, tuple(self.codes)), rest

    def _relaxed(self, log_share: Tensor, chance: Tensor) -> Tensor:
        """Draw points of the simplex: (M, B, V, C), (M or 1, K, B or 1, V, C)."""
        gumbel = -(-torch.special.log_ndtr(chance)).clamp_min(smallest(chance)).log()
        return ((log_share.unsqueeze(1) + gumbel) / self.temperature).softmax(-1)

    def _chosen(self, log_share: Tensor, chance: Tensor) -> Tensor:
        """Draw classes, by one number per variable: spread as evenly as the numbers are."""
        ends = log_share.exp().cumsum(-1).unsqueeze(1)  # (M, 1, B, V, C)
        place = torch.special.ndtr(chance[..., :1]) * ends[..., -1:]  # (M, K, B, V, 1)
        chosen = (place >= ends).sum(-1).clamp(max=self.codes.n_classes - 1)
        return one_hot(chosen, self.codes.n_classes, log_share.dtype, flat=False)

    def _joined(self, codes: Tensor, rest: Tensor) -> Tensor:
        """Put the classes of all variables and the rest side by side."""
        return torch.cat([codes.flatten(-2), rest], dim=-1)

    def _log_prob(
        self, log_share: Tensor, rest: Tensor, z: Tensor, proposal_scale: float
    ) -> Tensor:
        codes = z[..., : self.codes.width].unflatten(-1, tuple(self.codes))
        of_codes = (codes * log_share.unsqueeze(1)).sum((-1, -2))
        return of_codes + self.base.log_prob(rest, z[..., self.codes.width :], proposal_scale)


def smallest(like: Tensor) -> float:
    """Smallest number of a type that has a finite logarithm and gradient."""
    return torch.finfo(like.dtype).tiny
