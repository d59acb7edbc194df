"""Devices and threads: the only module that queries the hardware."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from threadpoolctl import ThreadpoolController

from sklearn_vae.warnings import warn

# Below so many multiplications a step ends before a second thread has joined in; and on a
# busy machine, waiting for one can cost a hundred times the work.
MIN_PRODUCTS_FOR_THREADS = 1 << 25


def _compute_on_one_thread() -> None:
    """Have a forked process not wait for threads that only its parent has."""
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_on_one_thread)


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
    if not _exists(resolved):
        raise ValueError(
            f"The 'device' parameter is {device!r}, but torch finds no such device on this "
            f"machine; 'auto' takes a GPU where there is one and the CPU elsewhere."
        )
    return resolved


def device_to_score_on(device: str) -> torch.device:
    """Convert the ``device`` of a fitted model to a torch device that exists.

    The model may be from another machine: if this one lacks the device, the CPU replaces it,
    with a warning.
    """
    try:
        return resolve_device(device)
    except ValueError as error:
        warn(
            f"The CPU is used instead, for {error} set_params(device='auto') does so in silence.",
            UserWarning,
        )
        return torch.device("cpu")


def _exists(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error means that memory has run out, on any device."""
    words = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in words)
    )


def widest_dtype(device: torch.device) -> torch.dtype:
    """Return the device's most precise floating-point dtype: Apple's GPUs have no doubles."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def threads_for(n_products: int) -> Iterator[None]:
    """Compute on one thread while the steps are small.

    The limit is that of the calling Python thread. ``torch.set_num_threads`` would reach every
    thread that starts meanwhile, and sums in more parts have other last bits. ``n_products`` are
    the multiplications in one pass through the networks.
    """
    if torch.get_num_threads() == 1 or n_products >= MIN_PRODUCTS_FOR_THREADS:
        yield
        return
    set_mkl_threads = _mkl_threads_setter()
    with _openmp().limit(limits=1):
        before = set_mkl_threads(1)
        try:
            yield
        finally:
            set_mkl_threads(before)


@cache
def _openmp() -> ThreadpoolController:
    """Find the OpenMP libraries, whose numbers of threads belong to the calling thread."""
    return ThreadpoolController().select(user_api="openmp")


@cache
def _mkl_threads_setter() -> Callable[[int], int]:
    """Find MKL's ``mkl_set_num_threads_local`` in torch's library.

    It sets the number of threads of the calling thread and returns the one before. torch calls it
    too, and MKL then ignores OpenMP's limit. Where torch has no MKL, there is nothing to set.
    """
    for path in (Path(torch.__file__).parent / "lib").glob("*torch_cpu*"):
        try:
            return ctypes.CDLL(str(path)).MKL_Set_Num_Threads_Local
        except (AttributeError, OSError):
            continue
    return lambda n_threads: n_threads
