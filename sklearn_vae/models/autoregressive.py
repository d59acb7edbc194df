"""Autoregressive decoding: each time step given the steps before it."""

from collections.abc import Callable, Sequence

from torch import Tensor

from sklearn_vae.likelihoods.base import Parameters


def decode_autoregressively(
    decode: Callable[[Tensor], Sequence[Parameters]],
    function: Callable[[Sequence[Parameters]], Tensor],
    time_steps: Sequence[Tensor],
    rows: Tensor,
) -> Tensor:
    """Decode rows time step by time step.

    Parameters
    ----------
    decode : callable
        Parameters of p(x|z), each time step given the previous ones of rows (M, B, n).
    function : callable
        Rows (M, 1, B, n_columns) of these parameters: draws or modes.
    time_steps : sequence of Tensor
        Column indices of each time step, in order.
    rows : Tensor of shape (M, B, n)
        Zeros, and the conditions behind them.

    Returns
    -------
    Tensor of shape (M, B, n)
        The rows.
    """
    for time_step in time_steps:
        columns = time_step.to(rows.device)
        values = function(decode(rows))[:, 0].index_select(-1, columns)
        rows = rows.index_copy(-1, columns, values.to(rows))
    return rows
