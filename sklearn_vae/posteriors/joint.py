"""A class and numbers side by side."""

from dataclasses import dataclass

from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer
from sklearn_vae.posteriors.base import Codes
from sklearn_vae.posteriors.categorical import Discrete


@serializable
@dataclass(frozen=True)
class GaussianCategorical(Discrete):
    r"""One categorical variable and a diagonal Gaussian side by side.

    The first ``n_classes`` numbers of a code are the class, the others are continuous:

    .. math::
        p(x) = \sum_{c=1}^{C} \frac{1}{C} \int p(x | c, u) \, \mathcal{N}(u | 0, I) \, du,
        \qquad q(c, u | x) = q(c | x) \, q(u | x).

    So a class may say of what kind a row is, and the numbers how it differs from others of its
    kind. The class is trained by relaxed draws, as in :class:`RelaxedCategorical`, and
    scores draw both by importance. ``n_components`` of the estimator is the width of both
    together, and has to be larger than ``n_classes``.

    Parameters
    ----------
    n_classes : int, default=10
        Classes.
    temperature, final_temperature : float, default=1.0 and 0.3
        Where the temperature of the relaxed draws starts and ends.
    n_iter : int, default=30
        Iterations until it is at its end; it falls geometrically.

    Raises
    ------
    ValueError
        If one of these is not as it must be.

    References
    ----------
    .. [1] E. Dupont, "Learning Disentangled Joint Continuous and Discrete
       Representations", NeurIPS 2018.

    Examples
    --------
    >>> from sklearn_vae.posteriors import GaussianCategorical
    >>> GaussianCategorical(n_classes=5)
    GaussianCategorical(n_classes=5, temperature=1.0, final_temperature=0.3, n_iter=30)
    """

    n_classes: int = 10
    temperature: float = 1.0
    final_temperature: float = 0.3
    n_iter: int = 30

    def __post_init__(self) -> None:
        check_integer(self, "n_classes", self.n_classes, 2)
        self._check_schedule()

    def codes(self, n_components: int) -> Codes:
        """One variable."""
        return Codes(1, self.n_classes)

    def is_width(self, n_components: int) -> bool:
        """Whether there are continuous dimensions behind the classes."""
        return n_components > self.n_classes

    @property
    def allowed_widths(self) -> str:
        """More than the number of classes."""
        return f"larger than {self.n_classes}"

    def width(self, n_factors: int) -> int:
        """The class, and as many numbers as the table shows factors."""
        return self.n_classes + n_factors
