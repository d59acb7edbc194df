"""Devices: names become devices that exist, or an error that says which do."""

import pytest
import torch

from sklearn_vae.system.compute import resolve_device


def pretend(monkeypatch, n_gpus):
    """Make torch say that there are so many GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)


@pytest.mark.parametrize(
    ("name", "n_gpus", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda"),
        *((name, n_gpus, name) for name, n_gpus in [("cpu", 0), ("cuda:0", 1), ("cuda:1", 2)]),
    ],
)
def test_a_name_is_the_device_of_that_name(name, n_gpus, expected, monkeypatch):
    """Without a word: where there is no GPU, a warning would be an error here."""
    pretend(monkeypatch, n_gpus)

    assert resolve_device(name) == expected


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "CPU", "cuda:-1", "cpu cuda"])
def test_a_name_that_torch_does_not_know_is_refused(name):
    """A typing error is told with the parameter, the value and what is allowed."""
    with pytest.raises(ValueError, match="'device' parameter must be 'auto', 'cpu', 'cuda'") as e:
        resolve_device(name)

    assert repr(name) in str(e.value)


@pytest.mark.parametrize(("name", "n_gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_that_is_not_there_is_refused(name, n_gpus, monkeypatch):
    """Asking for a GPU and silently computing on the CPU would hide a broken installation."""
    pretend(monkeypatch, n_gpus)

    with pytest.raises(ValueError, match=f"'device' parameter is '{name}', but torch finds no"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["mps", "meta"])
def test_a_device_that_computes_nothing_here_is_refused(name, monkeypatch):
    """torch has devices without numbers, such as 'meta'."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    with pytest.raises(ValueError, match=f"'device' parameter is '{name}'"):
        resolve_device(name)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_tensors_can_be_made_on_the_gpu(name):
    """The resolved device is one that works, not only one that torch can name."""
    tensor = torch.ones(3, device=resolve_device(name))

    assert tensor.device.type == "cuda"
    assert tensor.sum().item() == 3
