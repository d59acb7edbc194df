"""Interface of the priors p(z)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast

from sklearn_vae.numerics.array_api import Array
from sklearn_vae.requirements import Requirement, no_free_bits

NO_FREE_BITS = no_free_bits("from which the KL is not a sum over latent dimensions")

# Encoder: rows (M, B, n_columns) to location and log-scale of q(z|x), both (M, B, l).
Encode = Callable[[Array], tuple[Array, Array]]
# Parameters by name, with a member axis.
Params = Mapping[str, Array]
# Shape of codes: members, rows, latent dimensions.
Shape = tuple[int, int, int]


class PriorDistribution(Protocol):
    """Distribution p(z) of given parameters."""

    def log_prob(self, z: Array) -> Array:
        """Log-density in nats: (M, K, B, l) -> (M, K, B)."""

    def sample(self, shape: Shape, generator: Any, dtype: Any) -> Array:
        """Sample codes of each member, of the shape (M, n_rows, l)."""


class Prior:
    """Base class of the priors: frozen dataclasses of hyperparameters.

    A prior states the shapes of its parameters, which the model holds and trains with the
    networks, and makes p(z) from them. By default there are no parameters.
    """

    # Conditions on other parameters of an estimator, checked by sklearn_vae.requirements.
    requirements: ClassVar[Sequence[Requirement]] = ()
    is_standard_normal: ClassVar[bool] = False
    # Whether it has no parameters, and the posteriors have the KL from it in closed form.
    has_closed_form_kl: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """Numbers per code that its density takes."""
        return 0

    @property
    def n_rows(self) -> int:
        """Number of training rows that the parameters are initialized from; 0 without any."""
        return 0

    def param_shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's parameters, by name."""
        return {}

    def initial_params(self, x: Array, encode: Encode) -> dict[str, Array]:
        """Initial values of the parameters, from rows (M, n_rows, n_columns)."""
        return {}

    def distribution(self, params: Params, encode: Encode, mask: Array | None) -> PriorDistribution:
        """Make p(z) of parameters, by default the prior itself.

        The mask (M, l) is 0 where dimensions pad.
        """
        return cast(PriorDistribution, self)
