"""Augmentation of batches in training: dropped words."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor

from sklearn_vae.models.stacked import StackedModule
from sklearn_vae.networks import PerMember
from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.training.jobs import TrainingConfig


class Augmentation:
    """Adds random noise to the batches of all members; members with equal seeds share it.

    Parameters
    ----------
    configs : sequence of TrainingConfig
        Each member's configuration.
    model : StackedModule
        The model, which has the dtype and the device of the rows.

    Attributes
    ----------
    seeds : list of int
        Distinct seeds of the members, S in number.
    seed_indices : Tensor of shape (M,)
        Index of each member's seed in ``seeds``.
    """

    def __init__(self, configs: Sequence[TrainingConfig], model: StackedModule):
        self.model = model
        self.member_seeds = [config.seed for config in configs]
        self.seeds = list(dict.fromkeys(self.member_seeds))
        self.seed_indices = torch.tensor([self.seeds.index(seed) for seed in self.member_seeds])

    def drop_words(self, x: Tensor) -> Tensor:
        """Drop words of rows (M, B, n_columns), for a decoder with word dropout."""
        decoder = cast(PerMember, self.model.decoder)
        is_dropped = decoder.word_dropout_mask(self._draw(torch.rand, Stream.WORDS, x))
        return x.masked_fill(is_dropped, 0)

    @contextmanager
    def epoch(self, number: int) -> Iterator[None]:
        """Start an epoch's random streams, which depend on the seed and its number only.

        Within the block, networks with dropout have a generator per member.
        """
        self.number = number
        self.generators: dict[Stream, list[torch.Generator]] = {}
        networks = self.model.encoder, self.model.decoder
        for side, network in enumerate(networks):
            if network.has_dropout:
                network.dropout_generators = [
                    make_generator(seed, Stream.DROPOUT, number, side) for seed in self.member_seeds
                ]
        try:
            yield
        finally:
            for network in networks:
                network.dropout_generators = None

    def _draw(self, distribution: Callable[..., Tensor], stream: Stream, x: Tensor) -> Tensor:
        """Draw random numbers of the shape of rows x (M, B, n_columns), one set per seed."""
        if stream not in self.generators:
            self.generators[stream] = [
                make_generator(seed, stream, self.number) for seed in self.seeds
            ]
        draws = [
            distribution(x.shape[1:], generator=generator, dtype=x.dtype)
            for generator in self.generators[stream]
        ]
        return torch.stack(draws)[self.seed_indices].to(x.device)
