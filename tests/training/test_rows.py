"""Rows that are encoded window by window."""

import numpy as np
import pytest
import torch

from sklearn_vae.data import sources
from sklearn_vae.data.sources import BatchSource
from sklearn_vae.training.rows import WindowedRows

X = np.arange(1000.0)[:, None] * [1, -1, 2]


@pytest.fixture
def raw(monkeypatch):
    """Rows on disk, in windows of 100."""
    for name in ("SAMPLE", "WINDOW"):
        monkeypatch.setattr(sources, f"{name}_NUMBERS", 300)
        monkeypatch.setattr(sources, f"MIN_{name}_ROWS", 1)
    return BatchSource(lambda: [X]).write(np.asarray, 1000, X[:9])


def windowed(raw, encode=np.sqrt):
    return WindowedRows(raw, lambda x: encode(np.abs(x)), 3, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    "rows",
    [
        [5, 3, 3, 99],
        [99, 100, 199, 0],
        [950, 999],
        [899, 901, 900],
        [0, 500, 999],
        list(range(1000)),
    ],
)
def test_rows_of_any_windows_are_encoded(rows, raw):
    """Of one window, of two neighbours, and of several."""
    expected = np.sqrt(np.abs(raw[np.array(rows)])).astype(np.float32)

    np.testing.assert_array_equal(
        expected, windowed(raw).index_select(0, torch.tensor(rows)).numpy()
    )


def test_a_pass_in_order_encodes_each_window_once(raw):
    """Also where batches span two windows."""
    encoded = []
    x = windowed(raw, lambda rows: encoded.append(len(rows)) or rows)
    for rows in torch.arange(1000).split(70):
        x.index_select(0, rows)
    x._executor.shutdown()

    assert encoded[:10] == [100] * 10
    assert len(encoded) <= 11  # the first window of the next pass


def test_rows_after_the_first_ones_have_windows_of_their_own(raw):
    rest = windowed(raw).after(950)

    assert rest.shape == (50, 3)
    np.testing.assert_array_equal(
        windowed(raw)[950:].numpy(), rest.index_select(0, torch.arange(50)).numpy()
    )


def test_an_error_of_the_background_thread_is_raised(raw):
    def fails(rows):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        windowed(raw, fails).index_select(0, torch.tensor([1, 2]))
