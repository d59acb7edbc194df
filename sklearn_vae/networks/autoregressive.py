"""Paths from a code to a row that tell it place by place, each knowing what comes before it."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_vae.networks.per_member import PerMember


class Autoregressive(PerMember):
    """A module that is given a code and a row, of which it sees in each step what comes before.

    Parameters
    ----------
    n_members, n_in, n_out : int
        Number of members, width of the input and of the output.
    make : callable
        Makes the module, its weights drawn from torch's global generator.
    step : ndarray of shape (n_columns,)
        Step to which each number of a row belongs.
    word_dropout : float, default=0.0
        Share of the steps that are not shown to it in training.

    Attributes
    ----------
    stages : list of Tensor
        Numbers of a row that each step holds, in their order.
    """

    def __init__(
        self,
        n_members: int,
        n_in: int,
        n_out: int,
        make: Callable[[], nn.Module],
        step: np.ndarray,
        word_dropout: float = 0.0,
    ):
        super().__init__(n_members, n_in, n_out, make, is_autoregressive=True)
        found, first, which = np.unique(step, return_index=True, return_inverse=True)
        self.stages = [torch.as_tensor(np.flatnonzero(step == own)) for own in found]
        self.decides = torch.as_tensor(first[which])  # a step is hidden as its first number is
        self.word_dropout = word_dropout

    def hidden(self, chance: Tensor) -> Tensor:
        """Which numbers training hides, of rows and what follows them: (M, B, n) -> (M, B, n)."""
        decides = self.decides.to(chance.device)
        hidden = chance.index_select(-1, decides) < self.word_dropout
        return F.pad(hidden, (0, chance.shape[-1] - len(decides)))
