"""Where the work is done: the only place that asks what hardware there is."""

import torch


def resolve_device(device: str) -> torch.device:
    """Turn the ``device`` parameter into a torch device that exists.

    Parameters
    ----------
    device : str
        ``"auto"`` (the first CUDA device, or the CPU), or torch's name of a device:
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Returns
    -------
    torch.device
        A device on which tensors can be made.

    Raises
    ------
    ValueError
        If the name is not one of torch's, or this machine has no such device.
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


def _exists(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"
