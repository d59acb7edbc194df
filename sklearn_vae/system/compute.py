"""What is computed on: devices, and numbers of threads for a training step or for rows.

PyTorch is not imported before a device or a fit needs it.
"""

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from sklearn_vae.system import has_torch, one_thread, warn

Item = TypeVar("Item")
Result = TypeVar("Result")


def _torch() -> Any:
    """PyTorch, if it has been imported."""
    return sys.modules.get("torch")


def _compute_on_one_thread() -> None:
    """Have torch compute on one thread: a forked process would wait for its parent's others."""
    if (torch := _torch()) is not None:
        torch.set_num_threads(1)


def _free_mkl_buffers() -> None:
    """Free what MKL keeps for threads that have ended: a forked process may wait for it forever."""
    if _torch() is not None and (free := _mkl_function("mkl_serv_free_buffers")) is not None:
        free()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_free_mkl_buffers, after_in_child=_compute_on_one_thread)


@contextmanager
def default_modes() -> Iterator[None]:
    """Compute as without the user's inference mode, automatic mixed precision or default device.

    Gradients are on, and afterwards as before: Ctrl-C may leave torch's ``no_grad`` on.
    """
    torch = _torch()
    with ExitStack() as stack:  # each mode takes time to enter
        stack.enter_context(one_thread("blas"))
        if torch is None:
            yield
            return
        stack.enter_context(torch.enable_grad())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def resolve_device(device: str) -> str:
    """Convert the ``device`` parameter to the name of a torch device that exists."""
    if device == "cpu" or (device == "auto" and not has_torch()):
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
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
    return str(resolved)


def device_to_score_on(device: str) -> str:
    """Convert the ``device`` of a model, maybe of another machine, to one that exists."""
    try:
        return resolve_device(device)
    except (ModuleNotFoundError, ValueError) as error:
        warn(f"The CPU is used instead, for {error} set_params(device='auto') does so in silence.")
        return "cpu"


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error means that memory has run out, on any device."""
    words = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in words)
    )


def n_threads() -> int:
    """Number of torch's threads; one without torch."""
    torch = _torch()
    return 1 if torch is None else torch.get_num_threads()


@contextmanager
def threads_for(n_products: int) -> Iterator[None]:
    """Compute on one thread while the steps are small: they end before a second has joined in.

    On a busy machine, waiting for one can cost a hundred times the work.
    The limit is that of the calling Python thread; ``torch.set_num_threads`` would reach others.
    ``n_products`` are the multiplications in one pass through the networks.
    """
    if n_threads() == 1 or n_products >= 1 << 25:
        yield
        return
    # torch sets MKL's own number of threads, too, and MKL then ignores OpenMP's limit
    set_mkl_threads = _mkl_function("MKL_Set_Num_Threads_Local")
    with one_thread("openmp"):
        before = None if set_mkl_threads is None else set_mkl_threads(1)
        try:
            yield
        finally:
            if set_mkl_threads is not None:
                set_mkl_threads(before)


def map_on_threads(
    function: Callable[[Item], Result], items: Sequence[Item], *, is_thread_safe: bool = True
) -> Generator[Result, None, None]:
    """Yield the results of a function in the order of the items.

    Items are computed at the same time, each on one of torch's threads, so a result has the same
    bits, whatever their number. A function that is not thread-safe has one item at a time, and all
    threads for it. Close the generator to end it early: items are computed ahead.
    """
    if not is_thread_safe:
        yield from map(function, items)
        return
    n_items = min(n_threads(), len(items), 16)  # each needs memory
    errors = np.geterr()  # of the calling thread; part of the context from numpy 2 on only

    def compute(item: Item) -> Result:
        with np.errstate(**errors), threads_for(1):
            return function(item)

    if n_items <= 1:
        yield from map(compute, items)
        return
    executor = ThreadPoolExecutor(n_items)
    try:
        # with the context variables of the calling thread
        futures = deque(executor.submit(copy_context().run, compute, item) for item in items)
        while futures:  # a result that was taken is not kept
            yield futures.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


@cache
def _mkl_function(name: str) -> Callable[..., int] | None:
    """Find a function of MKL in torch's library; None where torch has no MKL."""
    for path in (Path(_torch().__file__).parent / "lib").glob("*torch_cpu*"):
        try:
            return cast(Callable[..., int], getattr(ctypes.CDLL(str(path)), name))
        except (AttributeError, OSError):
            continue
    return None
