"""Devices: names become torch devices that exist."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from sklearn_vae.system.blas import one_thread
from sklearn_vae.system.warnings import warn


@contextmanager
def default_modes() -> Iterator[None]:
    """Compute as without the user's inference mode, automatic mixed precision or default device.

    Gradients are on, and afterwards as before: Ctrl-C may leave torch's ``no_grad`` on.
    """
    cpu = torch.device("cpu")
    with ExitStack() as stack:  # each mode takes time to enter
        stack.enter_context(one_thread("blas"))
        stack.enter_context(torch.enable_grad())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device != cpu:
            stack.enter_context(cpu)
        yield


def resolve_device(device: str) -> torch.device:
    """Convert the ``device`` parameter to a torch device that exists.

    ``"auto"`` is the first CUDA device, or the CPU; other names are torch's.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"The 'device' parameter must be 'auto', 'cpu', 'cuda', 'cuda:<index>' or 'mps'. "
            f"Got {device!r} instead."
        ) from error
    exists = {
        "cpu": True,
        "cuda": (resolved.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not exists.get(resolved.type, False):
        raise ValueError(
            f"The 'device' parameter is {device!r}, but torch finds no such device on this "
            f"machine; 'auto' takes a GPU where there is one and the CPU elsewhere."
        )
    return resolved


def device_to_score_on(device: str) -> torch.device:
    """Convert the ``device`` of a model, maybe of another machine, to one that exists."""
    try:
        return resolve_device(device)
    except ValueError as error:
        warn(f"The CPU is used instead, for {error} set_params(device='auto') does so in silence.")
        return torch.device("cpu")


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error means that memory has run out, on any device."""
    words = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in words)
    )
