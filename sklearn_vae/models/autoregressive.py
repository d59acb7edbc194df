"""Rows that are told step by step, each step from those before."""

from collections.abc import Callable, Sequence

from torch import Tensor

from sklearn_vae.likelihoods.base import Parameters


def decode_autoregressively(
    decode: Callable[[Tensor], Sequence[Parameters]],
    say: Callable[[Sequence[Parameters]], Tensor],
    stages: Sequence[Tensor],
    rows: Tensor,
) -> Tensor:
    """Tell rows step by step.

    Parameters
    ----------
    decode : callable
        Gives the parameters of p(x|z) at rows (M, B, n), of which each step sees those before.
    say : callable
        Makes rows (M, 1, B, n_columns) of parameters: draws or means.
    stages : sequence of Tensor
        Numbers of a row that each step holds, in their order.
    rows : Tensor of shape (M, B, n)
        Rows to begin with: zeros, and behind them what is given with each.

    Returns
    -------
    Tensor of shape (M, B, n)
        The rows.
    """
    for stage in stages:
        own = stage.to(rows.device)
        said = say(decode(rows))[:, 0].index_select(-1, own)
        rows = rows.index_copy(-1, own, said.to(rows))
    return rows
