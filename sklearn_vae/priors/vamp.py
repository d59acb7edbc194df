"""The VampPrior: a mixture of the encoder's posteriors at learned pseudo-inputs."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sklearn_vae.compatibility import Requirement
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer
from sklearn_vae.priors.base import NO_FREE_BITS, Encode, Prior
from sklearn_vae.priors.mixture import DiagonalMixture


@serializable
@dataclass(frozen=True)
class VampPrior(Prior):
    r"""A mixture of the encoder's posteriors, :math:`p(z) = \frac{1}{C} \sum_c q(z | u_c)`.

    The pseudo-inputs u are learned: rows as the encoder sees them, whose posteriors are the
    components of the mixture. They are initialised at random training rows, with repetition
    if the table has fewer rows.

    Parameters
    ----------
    n_components : int, default=50
        Number of pseudo-inputs.

    Raises
    ------
    ValueError
        If ``n_components`` is not an integer >= 1.

    References
    ----------
    .. [1] J. M. Tomczak and M. Welling, "VAE with a VampPrior", AISTATS 2018.

    Examples
    --------
    >>> from sklearn_vae.priors import VampPrior
    >>> VampPrior(n_components=20)
    VampPrior(n_components=20)
    """

    requirements = (
        Requirement(
            "posterior",
            lambda posterior: posterior.is_diagonal_gaussian,
            "'gaussian'",
            "which is a mixture of diagonal Gaussian posteriors",
        ),
        NO_FREE_BITS,
    )

    n_components: int = 50

    def __post_init__(self) -> None:
        check_integer(self, "n_components", self.n_components)

    @property
    def n_rows(self) -> int:
        """One row per pseudo-input."""
        return self.n_components

    def param_shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's parameters, by name."""
        return {"pseudo_input": (self.n_components, n_columns)}

    def initial_params(self, x: Tensor, encode: Encode) -> dict[str, Tensor]:
        """Initialise at the rows (M, C, n_columns)."""
        return {"pseudo_input": x}

    def distribution(
        self, params: Mapping[str, Tensor], encode: Encode, mask: Tensor | None
    ) -> DiagonalMixture:
        """Make the mixture of posteriors; the encoder applies the mask."""
        loc, log_scale = encode(params["pseudo_input"])
        return DiagonalMixture(loc.new_zeros(loc.shape[:2]), loc, log_scale)
