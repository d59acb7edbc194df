"""Recurrent networks, for rows that are sequences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_vae.networks.autoregressive import Autoregressive
from sklearn_vae.networks.base import Layout, check_positive_ints
from sklearn_vae.networks.blocks import stack, zero_init_
from sklearn_vae.networks.per_member import PerMember
from sklearn_vae.networks.scatter import Gather, Scatter
from sklearn_vae.persistence.validation import check_integer


@dataclass(frozen=True)
class GRUNet:
    r"""Gated recurrent units, for rows that are sequences; ``network="gru"``.

    The encoder reads a row step by step, and its last state says q(z|x). The decoder tells a row
    step by step: what it says of a step depends on the code and on the steps before,

    .. math:: p(x|z) = \prod_t p(x_t \mid z, x_1, \ldots, x_{t-1}).

    What neighbouring steps have in common need not be in the code, which is then free for
    what the whole sequence has. Layers of ``hidden_layer_sizes`` lie between the encoder's last
    state and the code, and in reverse between the code and the decoder.

    A row may end early: steps at its end whose values are all missing (NaN) are not there. The
    encoder then stops before them, and the score is the density of what is there, given how
    long the row is. Other holes are refused. ``sample`` draws rows of full length, and
    ``inverse_transform`` goes from step to step by means and by the likeliest classes.

    Values are alike in all steps: Gaussian ones have the unit of their place in a step, and
    columns of classes the classes of all of them.

    Parameters
    ----------
    sequence_shape : tuple of int, default=None
        (steps, values per step) of the rows, the values of a step side by side. None stands
        for one value per step.
    n_units : int, default=64
        Width of the state.
    autoregressive : bool, default=True
        Whether the decoder is given the steps before. If not, all that a row's steps have in
        common is in the code.
    word_dropout : float, default=0.0
        Share of the steps that are hidden from the decoder in training, drawn anew every time.
        A decoder that has to do without some words asks the code: without it, and with a KL
        that has its full weight from the beginning, the code of symbols is often left unused. The
        other means is ``beta=LinearWarmup()``.

    Raises
    ------
    ValueError
        If a parameter is none of these, and in ``fit``, if rows are no such sequences.

    References
    ----------
    .. [1] K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for
       Statistical Machine Translation", EMNLP 2014.
    .. [2] S. R. Bowman et al., "Generating Sentences from a Continuous Space", CoNLL 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_vae.networks import GRUNet
    >>> from sklearn_vae import VAETransformer
    >>> X = np.random.default_rng(0).normal(size=(120, 6)).cumsum(axis=1)
    >>> X[:40, 4:] = np.nan  # shorter ones
    >>> network = GRUNet(sequence_shape=(6, 1), n_units=8)
    >>> vae = VAETransformer(2, network=network, hidden_layer_sizes=8, max_iter=1, refit=False)
    >>> vae.fit(X).score_samples(X[:3]).shape
    (3,)
    """

    sequence_shape: tuple[int, ...] | None = None
    n_units: int = 64
    autoregressive: bool = True
    word_dropout: float = 0.0

    supports_padding = False
    shared_scale = True
    variable_length = True

    def __post_init__(self) -> None:
        check_integer(self, "n_units", self.n_units)
        if not isinstance(self.autoregressive, bool):
            raise ValueError(
                "The 'autoregressive' parameter of GRUNet must be True or False. "
                f"Got {self.autoregressive!r} instead."
            )
        is_share = isinstance(self.word_dropout, Real) and 0 <= float(self.word_dropout) <= 1
        if not is_share or (self.word_dropout and not self.autoregressive):
            raise ValueError(
                "The 'word_dropout' parameter of GRUNet must be a number from 0 to 1, and 0 "
                f"with autoregressive=False. Got {self.word_dropout!r} instead."
            )
        if self.sequence_shape is None:
            return
        shape = check_positive_ints(self, "sequence_shape", self.sequence_shape)
        if len(shape) != 2:
            raise ValueError(
                "The 'sequence_shape' parameter of GRUNet must be (steps, values per step). "
                f"Got {self.sequence_shape!r} instead."
            )
        object.__setattr__(self, "sequence_shape", shape)

    @property
    def _shape(self) -> tuple[int, int]:
        n_steps, n_values = self.sequence_shape or (1, 1)
        return n_steps, n_values

    @property
    def n_values(self) -> int:
        """Values per step."""
        return self._shape[1]

    @property
    def is_autoregressive(self) -> bool:
        """Whether the decoder is given the steps before."""
        return self.autoregressive

    def for_n_features(self, n_features: int) -> "GRUNet":
        """Give the kind for rows of so many columns, with their sequence's shape."""
        if self.sequence_shape is None:
            return replace(self, sequence_shape=(n_features, 1))
        n_steps, n_values = self._shape
        if n_steps * n_values != n_features:
            raise ValueError(
                f"The 'sequence_shape' parameter of GRUNet is {self.sequence_shape}, which are "
                f"{n_steps * n_values} numbers, but X has {n_features} columns."
            )
        return self

    def check_holes(self, X: np.ndarray) -> None:
        """Refuse rows (n, n_features) whose missing values are not whole steps at their end."""
        missing = np.isnan(X)
        n_there = (~missing.reshape(len(X), *self._shape).all(axis=2)).cumsum(axis=1)[:, ::-1]
        n_steps = self._shape[0] - (n_there == n_there[:, :1]).sum(axis=1) + 1
        n_steps[n_there[:, 0] == 0] = 0
        inside = np.arange(X.shape[1]) < n_steps[:, None] * self.n_values
        if (missing & inside).any():
            row, column = np.argwhere(missing & inside)[0].tolist()
            raise ValueError(
                f"Sequences may end early, but have no holes: X is missing in row {row}, column "
                f"{column}, though the row goes on until column {n_steps[row] * self.n_values - 1}."
            )

    def encoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> PerMember:
        """Make encoders."""
        make = partial(SequenceEncoder, self, layout, tuple(hidden_layer_sizes), activation)
        return PerMember(n_members, layout.n_seen, layout.n_posterior_params, make)

    def decoder(
        self, n_members: int, layout: Layout, hidden_layer_sizes: Sequence[int], activation: str
    ) -> PerMember:
        """Make decoders, which follow what comes before if they are autoregressive."""
        make = partial(SequenceDecoder, self, layout, tuple(hidden_layer_sizes[::-1]), activation)
        sizes = n_members, layout.n_decoder_inputs, len(layout.param)
        if not self.autoregressive:
            return PerMember(*sizes, make)
        return Autoregressive(
            *sizes, make, layout.column // self.n_values, float(self.word_dropout)
        )

    def layers(
        self, n_seen: int, n_decoder_inputs: int, hidden_layer_sizes: Sequence[int]
    ) -> list[int]:
        """About how many products each layer of one end takes, per row."""
        n_steps, units = self._shape[0], self.n_units
        dense = [units * width for width in (*hidden_layer_sizes, n_decoder_inputs)]
        return [3 * units * n_seen, 3 * units**2 * n_steps, *dense, n_seen * n_decoder_inputs]

    def widest(self, hidden_layer_sizes: Sequence[int]) -> int:
        """Numbers per row in the widest hidden layer."""
        return max(3 * self.n_units * self._shape[0], *hidden_layer_sizes, 1)


class SequenceEncoder(nn.Module):
    """Rows to sequences, a recurrent network, and layers to what q(z|x) takes."""

    def __init__(self, kind: GRUNet, layout: Layout, widths: Sequence[int], activation: str):
        super().__init__()
        self.n_steps, self.n_values = kind._shape
        self.n_parts = layout.n_parts
        self.has_holes = layout.has_holes
        self.spread = Scatter(layout, self.n_steps * self.n_values)
        n_in = self.n_values * self.spread.n_numbers
        self.gru = nn.GRU(n_in, kind.n_units, batch_first=True)
        widths = [kind.n_units + layout.n_conditions, *widths]
        self.dense = stack(widths, activation)
        self.last = zero_init_(nn.Linear(widths[-1], layout.n_posterior_params, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_seen) -> (B, n_recognised)."""
        placed, conditions = self.spread(x)  # (B, n_places, n_numbers)
        shape = self.n_steps, self.n_values
        states, _ = self.gru(placed.unflatten(1, shape).flatten(2))
        state = states[:, -1]
        if self.has_holes:  # what comes after the end moves no state that is asked for
            there = placed[:, :, self.n_parts :].unflatten(1, shape).amax((2, 3))
            end = (there * torch.arange(1, self.n_steps + 1).to(there)).amax(1).long()
            started = F.pad(states, (0, 0, 1, 0))
            state = started[torch.arange(len(x), device=x.device), end]
        if conditions.shape[1]:
            state = torch.cat([state, conditions], dim=1)
        return self.last(self.dense(state))


class SequenceDecoder(nn.Module):
    """Codes to sequences, each step from the code and, if it follows, from those before."""

    def __init__(self, kind: GRUNet, layout: Layout, widths: Sequence[int], activation: str):
        super().__init__()
        self.n_steps, self.n_values = kind._shape
        self.dense = stack([layout.n_decoder_inputs, *widths], activation)
        n_in = [layout.n_decoder_inputs, *widths][-1]
        self.spread: Scatter | None = None
        if kind.autoregressive:
            self.spread = Scatter(layout, self.n_steps * self.n_values, with_holes=False)
            n_in += self.n_values * layout.n_parts
        self.gru = nn.GRU(n_in, kind.n_units, batch_first=True)
        # the step before lies beside the state: what is linear in it need not be learned twice
        self.last = zero_init_(
            nn.Linear(kind.n_units + n_in, self.n_values * layout.n_params, bias=False)
        )
        self.collect = Gather(layout)

    def forward(self, z: Tensor, rows: Tensor | None = None) -> Tensor:
        """Codes (B, n_coded), and of what follows rows (B, n_columns), -> (B, n_of_z)."""
        given = self.dense(z).unsqueeze(1).expand(-1, self.n_steps, -1)
        if self.spread is not None and rows is not None:
            steps = self.spread(rows)[0].unflatten(1, (self.n_steps, self.n_values)).flatten(2)
            given = torch.cat([F.pad(steps[:, :-1], (0, 0, 1, 0)), given], dim=2)
        states, _ = self.gru(given)
        return self.collect(self.last(torch.cat([states, given], dim=2)).flatten(1))
