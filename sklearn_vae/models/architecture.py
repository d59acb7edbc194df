"""Everything that decides the shapes of a model's weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sklearn_vae.likelihoods import Likelihood
from sklearn_vae.networks import ACTIVATIONS, NETWORKS, Layout, Network
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import agrees
from sklearn_vae.posteriors import POSTERIORS, Posterior
from sklearn_vae.priors import PRIORS, Prior
from sklearn_vae.random import MOST_DIMS

# Codes in front of numbers of which each gets proposals of its own, at the most.
MOST_CLASSES = 64


@serializable
@dataclass(frozen=True)
class Architecture:
    """Everything that decides the shapes of a model's weights.

    Attributes
    ----------
    n_components : int
        Latent dimensions.
    hidden_layer_sizes : tuple of int
        Widths of the encoder's hidden layers; the decoder mirrors them.
    activation : str
        Function between the layers.
    blocks : tuple of (likelihood, n_columns)
        What the columns of x are, in their order.
    prior : prior, default=StandardNormal()
        What the codes look like before a row is seen.
    n_factors : int, default=0
        Factors of the linear model that fills missing cells for the encoder, which also sees
        where they are; 0 where rows are whole.
    network : network, default=FullyConnected()
        What encoder and decoder are made of.
    posterior : posterior, default=DiagonalGaussian()
        What the encoder says of a row's code.
    n_conditions : int, default=0
        Numbers that are given with a row, after its columns, and not modelled.
    places : tuple of int, default=()
        Column of X of each column of x, where the network has to know; else none.
    """

    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    blocks: tuple[tuple[Likelihood, int], ...]
    prior: Prior = PRIORS["normal"]
    n_factors: int = 0
    network: Network = NETWORKS["mlp"]
    posterior: Posterior = POSTERIORS["gaussian"]
    n_conditions: int = 0
    places: tuple[int, ...] = ()

    def check_sizes(self, weights: Sequence[int]) -> None:
        """Check that arrays of such sizes can be its weights, before anything of them is made.

        Raises
        ------
        ValueError
            If a layer, or what a prior or a posterior consists of, is larger than they are.
        """
        counts = [
            size * n for kind, n in self.blocks for size in (1, kind.width, *kind.param_sizes)
        ]
        network, n_layers = self.network, 0
        for part in (self, self.prior, self.posterior, network, getattr(network, "base", None)):
            for name, value in {} if part is None else vars(part).items():
                own = value if isinstance(value, tuple) and name != "places" else (value,)
                sizes = [n for n in own if agrees(n, int) and name != "n_iter"]
                counts, n_layers = counts + sizes, max(n_layers, len(sizes))
        least = min(self.n_components, *self.hidden_layer_sizes, 1)
        n_weights = sum(weights)
        is_larger = max(*counts, self.n_columns) > n_weights or n_layers > len(weights)
        if least < 1 or min(counts) < 0 or is_larger:
            raise ValueError(f"{n_weights} weights cannot have the architecture's shapes")
        if self.n_components > MOST_DIMS or self.activation not in ACTIVATIONS:
            raise ValueError("the architecture is none that a model could have")
        codes = self.posterior.one_hot_block(self.n_components)
        if codes.width > self.n_components or (self.posterior.has_categorical and not codes.width):
            raise ValueError("the codes are wider than the latent space")

    @property
    def supports_padding(self) -> bool:
        """Whether members with fewer latent dimensions can ride along with others."""
        return (
            self.network.supports_padding
            and self.posterior.supports_padding
            and not self.n_conditions
        )

    @property
    def n_noise(self) -> int:
        """Normal numbers that a draw of z takes."""
        return self.posterior.n_noise(self.n_components)

    @property
    def n_codes(self) -> int | None:
        """How many codes there are, where they are so few that a score sums over all."""
        return self.posterior.n_codes(self.n_components)

    @property
    def decodes_per_row(self) -> bool:
        """Whether p(x|z) depends on the row: by conditions, or by an autoregressive decoder."""
        return bool(self.n_conditions) or self.network.row_structure.is_autoregressive

    @property
    def n_columns(self) -> int:
        """Columns of x: the numbers by which the model sees a row."""
        return sum(n * kind.width for kind, n in self.blocks)

    @property
    def n_seen(self) -> int:
        """Numbers that the encoder sees of a row."""
        return (2 if self.n_factors else 1) * self.n_columns + self.n_conditions

    @property
    def layout(self) -> Layout:
        """Widths of the networks, and the columns of X of their inputs and outputs."""
        return Layout(
            blocks=[(n, kind.width, kind.decoded_sizes) for kind, n in self.blocks],
            column_indices=self.places,
            n_components=self.n_components,
            n_conditions=self.n_conditions,
            n_posterior_params=self.posterior.n_params(self.n_components),
            has_missing=self.n_factors > 0,
            hidden_layer_sizes=self.hidden_layer_sizes,
            activation=self.activation,
        )

    @property
    def proposal_scale(self) -> float:
        """How many times as wide as q(z|x) the draws of the score are.

        An encoder covers too little rather than too much: wider draws halve the bound's
        gap (benchmarks/score_draws.py). The price adds up over latent dimensions, so
        the more there are, the less wide. Classes have no width.
        """
        n_real = self.n_components - self.posterior.one_hot_block(self.n_components).width
        return math.sqrt(1 + 1 / math.sqrt(n_real)) if n_real else 1.0

    @property
    def has_density(self) -> bool:
        """Whether p(z|x) has slopes everywhere, by which a score finds other proposals."""
        return not self.posterior.has_categorical

    @property
    def has_slopes(self) -> bool:
        """Whether p(z|x) has slopes along some dimensions of a code."""
        return self.n_components > self.posterior.one_hot_block(self.n_components).width

    @property
    def n_classes(self) -> int | None:
        """How many codes stand before numbers, where a score takes each by itself."""
        codes = self.posterior.one_hot_block(self.n_components)
        if self.has_density or not self.has_slopes:
            return None
        n_variables, n_classes = codes
        few = n_variables * math.log(max(n_classes, 1)) <= math.log(MOST_CLASSES)
        return n_classes**n_variables if few else None

    @property
    def widest(self) -> int:
        """Numbers per row and draw in the widest layer."""
        return max(self.network.max_width(self.layout), self.n_columns, self.prior.n_rows, 1)

    @property
    def layers(self) -> list[int]:
        """About how many products each layer of encoder and decoder takes, per row."""
        return 2 * self.network.multiplications(self.layout)
