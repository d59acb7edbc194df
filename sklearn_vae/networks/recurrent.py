"""Gated recurrent units, for rows that are sequences."""

from dataclasses import dataclass, replace
from functools import partial
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_vae.networks.base import Layout, Network, RowStructure, check_size
from sklearn_vae.networks.per_member import (
    Dropout,
    Gather,
    PerMember,
    Scatter,
    fully_connected,
    zero_init_,
)
from sklearn_vae.persistence.validation import (
    check_integer,
    check_positive_ints,
    invalid_parameter,
    serializable,
)


@serializable
@dataclass(frozen=True)
class GRUNet(Network):
    r"""Gated recurrent units, for rows that are sequences; ``network="gru"``.

    The encoder maps the last state of a gated recurrent unit (GRU) to q(z|x). The decoder is
    autoregressive: its density of a time step depends on the code and on the steps before,

    .. math:: p(x|z) = \prod_t p(x_t \mid z, x_1, \ldots, x_{t-1}).

    The code then need not hold local correlations, only features of the whole sequence.
    Fully connected layers of ``hidden_layer_sizes`` lie between the encoder's last state and the
    code, and in reverse between the code and the decoder.

    Rows have variable length: steps at the end whose values are all missing (NaN) are padding.
    The encoder stops before them, and the score is the density of the steps before them, given
    the length of the row. Other missing values are refused. ``sample`` draws rows of full
    length, and ``inverse_transform`` decodes step by step, by means and by the likeliest classes.

    Columns at the same position of a step share one scale and one list of categories.

    Parameters
    ----------
    sequence_shape : tuple of int, default=None
        (steps, values per step) of the rows, the values of a step in neighbouring columns. None
        stands for one value per step.
    n_units : int, default=64
        Width of the state.
    autoregressive : bool, default=True
        Whether the decoder reads the steps before, in training those of the row (teacher forcing).
        If not, steps are independent given the code.
    word_dropout : float, default=0.0
        Probability that training hides a time step from the decoder. Without word dropout, the
        decoder of text often ignores the code (posterior collapse) [2]_. The other remedy is to
        anneal the KL: ``beta=LinearWarmup()``.

    Raises
    ------
    ValueError
        If a parameter is invalid, and in ``fit``, if rows do not have the sequence's length.

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
    >>> X[:40, 4:] = np.nan  # shorter sequences
    >>> network = GRUNet(sequence_shape=(6, 1), n_units=8)
    >>> vae = VAETransformer(2, network=network, hidden_layer_sizes=8, max_iter=1, refit=False)
    >>> vae.fit(X).score_samples(X[:3]).shape
    (3,)
    """

    sequence_shape: tuple[int, int] | None = None
    n_units: int = 64
    autoregressive: bool = True
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_integer(self, "n_units", self.n_units)
        if not isinstance(self.autoregressive, bool):
            raise invalid_parameter(self, "autoregressive", "be True or False", self.autoregressive)
        is_rate = isinstance(self.word_dropout, Real) and 0 <= float(self.word_dropout) <= 1
        if not is_rate or (self.word_dropout and not self.autoregressive):
            expected = "be a number from 0 to 1, and 0 with autoregressive=False"
            raise invalid_parameter(self, "word_dropout", expected, self.word_dropout)
        if self.sequence_shape is None:
            return
        shape = check_positive_ints(self, "sequence_shape", self.sequence_shape)
        if len(shape) != 2:
            expected = "be (steps, values per step)"
            raise invalid_parameter(self, "sequence_shape", expected, self.sequence_shape)
        object.__setattr__(self, "sequence_shape", shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of steps, and of values per step."""
        return self.sequence_shape or (1, 1)

    @property
    def row_structure(self) -> RowStructure:
        """A sequence of variable length, read by an autoregressive decoder if asked for."""
        n_steps, values_per_step = self.shape
        return RowStructure(values_per_step, n_steps, self.autoregressive)

    def for_n_features(self, n_features: int) -> "GRUNet":
        """Return the network with the shape of sequences of ``n_features`` numbers."""
        if self.sequence_shape is None:
            return replace(self, sequence_shape=(n_features, 1))
        check_size(self, "sequence_shape", self.sequence_shape, n_features)
        return self

    def build(self, n_members: int, layout: Layout) -> tuple[PerMember, PerMember]:
        """Build encoder and decoder."""
        make_encoder = partial(SequenceEncoder, self, layout)
        make_decoder = partial(SequenceDecoder, self, layout)
        encoder = PerMember(n_members, layout.encoder_sizes, make_encoder)
        decoder = PerMember(n_members, layout.decoder_sizes, make_decoder)
        if self.autoregressive:
            step = torch.as_tensor(layout.input_positions[:, 0] // self.shape[1])
            decoder.time_steps = [(step == each).nonzero()[:, 0] for each in step.unique()]
        return encoder, decoder

    def layers(self, layout: Layout) -> list[tuple[int, int]]:
        """Width of each layer of the encoder and its multiplications per row, roughly."""
        n_steps, units = self.shape[0], self.n_units
        n_encoded, n_components = layout.n_encoded, layout.n_components
        gates = 3 * units * n_steps, 3 * units * (n_encoded + units * n_steps)
        dense = [(width, units * width) for width in (*layout.hidden_layer_sizes, n_components)]
        return [gates, *dense, (n_components, n_encoded * n_components)]


class SequenceEncoder(nn.Module):
    """A GRU over the steps of a row and fully connected layers, to the parameters of q(z|x)."""

    def __init__(self, network: GRUNet, layout: Layout):
        super().__init__()
        self.shape, self.has_missing = network.shape, layout.has_missing
        n_steps, values_per_step = self.shape
        self.scatter = Scatter(layout, n_steps * values_per_step)
        n_in = values_per_step * self.scatter.n_channels
        self.gru = nn.GRU(n_in, network.n_units, batch_first=True)
        widths = [network.n_units + layout.n_conditions, *layout.hidden_layer_sizes]
        self.dense = fully_connected(widths)
        self.last = zero_init_(nn.Linear(widths[-1], layout.n_posterior_params, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, n_in) -> parameters of q(z|x) (B, n_out)."""
        columns, conditions = self.scatter(x)  # (B, n_columns, n_channels)
        states, _ = self.gru(columns.unflatten(1, self.shape).flatten(2))
        state = states[:, -1]
        if self.has_missing:  # the state after the last observed step, or zero if there is none
            mask = columns[:, :, self.scatter.width :].unflatten(1, self.shape).amax((2, 3))
            length = (mask * torch.arange(1, self.shape[0] + 1).to(mask)).amax(1).long()
            state = F.pad(states, (0, 0, 1, 0))[torch.arange(len(x), device=x.device), length]
        if conditions.shape[1]:
            state = torch.cat([state, conditions], dim=1)
        return self.last(self.dense(state))


class WordDropout(Dropout):
    """Hides whole time steps with probability p, for training alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Set time steps (B, n_steps, n) to zero."""
        if self.generator is None:
            return x
        uniform = torch.rand(*x.shape[:2], 1, generator=self.generator, dtype=x.dtype)
        return x.masked_fill(uniform.to(x.device) < self.p, 0)


class SequenceDecoder(nn.Module):
    """A GRU from a code, and the steps before if autoregressive, to the parameters of p(x|z)."""

    def __init__(self, network: GRUNet, layout: Layout):
        super().__init__()
        self.shape, self.gather = network.shape, Gather(layout)
        n_steps, values_per_step = self.shape
        widths = [layout.decoder_sizes[0], *layout.hidden_layer_sizes[::-1]]
        self.dense, n_in = fully_connected(widths), widths[-1]
        self.scatter: Scatter | None = None
        if network.autoregressive:
            self.scatter = Scatter(layout, n_steps * values_per_step, with_mask=False)
            rate = float(network.word_dropout)
            self.word_dropout = WordDropout(rate) if rate else nn.Identity()
            n_in += values_per_step * self.scatter.n_channels
        self.gru = nn.GRU(n_in, network.n_units, batch_first=True)
        # the last layer reads the GRU's input too: a linear autoregression needs no state
        n_out = values_per_step * self.gather.n_channels
        self.last = zero_init_(nn.Linear(network.n_units + n_in, n_out, bias=False))

    def forward(self, z: Tensor, rows: Tensor | None = None) -> Tensor:
        """Codes (B, n_in), encoded rows (B, n) -> parameters of p(x|z) (B, n_out)."""
        inputs = self.dense(z).unsqueeze(1).expand(-1, self.shape[0], -1)
        if self.scatter is not None and rows is not None:
            steps = self.word_dropout(self.scatter(rows)[0].unflatten(1, self.shape).flatten(2))
            inputs = torch.cat([F.pad(steps[:, :-1], (0, 0, 1, 0)), inputs], dim=2)
        states, _ = self.gru(inputs)
        return self.gather(self.last(torch.cat([states, inputs], dim=2)).flatten(1))
