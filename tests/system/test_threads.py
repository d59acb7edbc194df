"""Threads: small steps use one, and items of a computation are spread over all."""

import threading

import numpy as np
import pytest
import torch

from sklearn_vae.system.compute import map_on_threads, threads_for

pytestmark = pytest.mark.usefixtures("two_threads")


def test_small_steps_limit_the_threads_of_their_own_thread_only():
    """A thread that starts meanwhile computes on as many as it would have: the same bits."""
    seen = {}
    with threads_for(1):
        seen["here"] = torch.get_num_threads()
        other = threading.Thread(target=lambda: seen.update(there=torch.get_num_threads()))
        other.start()
        other.join()
    seen["after"] = torch.get_num_threads()

    assert seen == {"here": 1, "there": 2, "after": 2}


def test_results_come_in_the_order_of_the_items():
    """Whichever item is ready first."""
    is_second_done = threading.Event()

    def compute(item):
        if item == 0:
            is_second_done.wait(60)
        else:
            is_second_done.set()
        return item

    assert list(map_on_threads(compute, range(5))) == [0, 1, 2, 3, 4]


def test_items_are_computed_at_the_same_time_each_on_one_thread():
    """Two items that wait for each other end, and torch has one thread for each."""
    both = threading.Barrier(2, timeout=60)

    def compute(_):
        both.wait()
        return threading.get_ident(), torch.get_num_threads()

    (first, n_first), (second, n_second) = map_on_threads(compute, range(2))

    assert first != second
    assert (n_first, n_second) == (1, 1)


def test_the_calling_thread_computes_what_must_not_be_shared():
    """Items of a computation that is on one thread already, and of a function that is not safe."""

    def compute(_):
        return threading.get_ident(), torch.get_num_threads()

    with threads_for(1):
        small = set(map_on_threads(compute, range(3)))
    unsafe = set(map_on_threads(compute, range(3), is_thread_safe=False))

    assert (small, unsafe) == ({(threading.get_ident(), 1)}, {(threading.get_ident(), 2)})


def test_settings_of_the_calling_thread_hold_for_the_items():
    """numpy's handling of errors belongs to a thread, and its warnings are errors here."""
    with np.errstate(divide="ignore"):
        values = list(map_on_threads(np.log, [np.zeros(1), np.ones(1)]))

    assert [value.item() for value in values] == [-np.inf, 0]


def test_an_error_is_raised_and_the_items_behind_it_are_not_computed():
    """The first error is that of the first item that fails; no thread is left."""
    computed = []

    def compute(item):
        computed.append(item)
        raise ValueError(f"item {item}")

    before = threading.active_count()
    with pytest.raises(ValueError, match="item 0"):
        list(map_on_threads(compute, range(1000)))

    assert len(computed) < 1000
    assert threading.active_count() == before
