"""Threads: how many compute a step of a training, or the rows of a table."""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache, partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch

from sklearn_vae.system.blas import one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")

# Below so many multiplications a step ends before a second thread has joined in; and on a
# busy machine, waiting for one can cost a hundred times the work.
MIN_PRODUCTS_FOR_THREADS = 1 << 25
# Items that are computed at the same time, at most: each needs memory.
MAX_THREADS = 16


def _free_mkl_buffers() -> None:
    """Free what MKL keeps for threads that have ended: a forked process may wait for it forever."""
    if (free := _mkl_function("mkl_serv_free_buffers")) is not None:
        free()


if hasattr(os, "register_at_fork"):
    # a forked process would wait for threads that only its parent has
    one_thread_in_child = partial(torch.set_num_threads, 1)
    os.register_at_fork(before=_free_mkl_buffers, after_in_child=one_thread_in_child)


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
    bits, whatever their number. Threads that share the small operations of one item would wait for
    each other. A function that is not thread-safe has one item at a time, and all threads for it.

    Items are computed ahead of the results that were taken. Close the generator to end it early.
    """
    if not is_thread_safe:
        yield from map(function, items)
        return
    n_threads = min(torch.get_num_threads(), len(items), MAX_THREADS)
    errors = np.geterr()  # of the calling thread; part of the context from numpy 2 on only

    def compute(item: Item) -> Result:
        with np.errstate(**errors), threads_for(1):
            return function(item)

    if n_threads <= 1:
        yield from map(compute, items)
        return
    executor = ThreadPoolExecutor(n_threads)
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
    for path in (Path(torch.__file__).parent / "lib").glob("*torch_cpu*"):
        try:
            return cast(Callable[..., int], getattr(ctypes.CDLL(str(path)), name))
        except (AttributeError, OSError):
            continue
    return None
