"""Checkpoints of training: a fit that was killed resumes from its file, to the bit.

Random streams depend on the seed, their purpose and the epoch only. A checkpoint therefore holds
numbers: parameters, moments of the optimizer, the scheduler's state and the records. The same
fit in another process initializes its models as before and then restores the saved state.
"""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor

from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.persistence.checkpoint import CheckpointFile
from sklearn_vae.persistence.file_format import PathLike
from sklearn_vae.training.jobs import TrainingConfig, TrainingResult
from sklearn_vae.training.rows import CHUNK_ROWS, EncodedRows
from sklearn_vae.training.trainer import Trainer

# Maximum fraction of the time spent on writing.
MAX_WRITING_FRACTION = 0.05


class Checkpoint(Callback):
    """Saves the state of a fit's trainers at the end of epochs, and restores it.

    Parameters
    ----------
    path : str or path-like
        File to write. If it exists, the fit resumes from it.
    """

    def __init__(self, path: PathLike):
        self.file = CheckpointFile(path, "fit")
        self.saved: list[dict[str, Any]] = self.file.read().get("trainers", [])
        self.trainers: list[dict[str, Any]] = []
        self.next_write = 0.0

    def on_train_begin(self, net: Trainer, **kwargs: Any) -> None:
        """Restore the state of a trainer, if the file has it."""
        fingerprint = fingerprint_of(net)
        index = len(self.trainers)
        self.trainers.append({"fingerprint": fingerprint})
        if index < len(self.saved):
            saved = self.saved[index]
            self.file.check_digests(fingerprint, saved["fingerprint"])
            restore(net, saved)
            self.trainers[-1] |= saved

    def on_epoch_end(self, net: Trainer, **kwargs: Any) -> None:
        """Write the file, unless that would take too large a fraction of the time."""
        started = time.monotonic()
        if started < self.next_write:
            return
        self.trainers[-1] |= state_of(net)
        self.file.write(trainers=self.trainers)
        finished = time.monotonic()
        self.next_write = started + (finished - started) / MAX_WRITING_FRACTION

    def on_train_end(self, net: Trainer, **kwargs: Any) -> None:
        """Write the results of a trainer that has finished."""
        if len(net.results_) == len(net.configs):
            self.trainers[-1] |= {"results": _results(net), "state": None}
            self.file.write(trainers=self.trainers)


def state_of(net: Trainer) -> dict[str, Any]:
    """Return all that determines how training continues, between two epochs."""
    state = {
        "members": net.members_,
        "params": _array(net.module_.flat),
        "ema": None if net.ema_ is None else _array(net.ema_.average),
        "optimizer": net.optimizer_.state_dict(),
        "scheduler": {name: _array(value) for name, value in vars(net.scheduler_).items()},
        "records": {
            name: np.stack([record[name] for record in net.records_]) for name in net.records_[-1]
        },
        "history": [dict(row) for row in net.history],
    }
    return {"state": state, "results": _results(net)}


def restore(net: Trainer, saved: dict[str, Any]) -> None:
    """Restore the saved state in a trainer before its first epoch."""
    results = {member: TrainingResult(**values) for member, values in saved["results"]}
    state = saved["state"]
    remaining = [] if state is None else state["members"].tolist()
    # this stores results of the initial parameters, which the saved ones replace
    net.remove_finished(~np.isin(net.members_, remaining))
    net.results_ = results
    if state is None:
        return
    with torch.no_grad():
        _copy(net.module_.flat, state["params"])
        if net.ema_ is not None:
            _copy(net.ema_.average, state["ema"])
        for name, value in vars(net.scheduler_).items():
            if isinstance(value, Tensor):
                _copy(value, state["scheduler"][name])
            else:
                setattr(net.scheduler_, name, state["scheduler"][name].copy())
    net.optimizer_.load_state_dict(state["optimizer"])
    records = state["records"]
    rows = zip(*records.values(), strict=True)
    net.records_.extend(dict(zip(records, row, strict=True)) for row in rows)
    net.history_.extend(state["history"])


def _results(net: Trainer) -> list[tuple[int, dict[str, Any]]]:
    return [(member, vars(result)) for member, result in net.results_.items()]


def _array(value: Tensor | np.ndarray) -> np.ndarray:
    return value.cpu().numpy().copy() if isinstance(value, Tensor) else value.copy()


def _copy(target: Tensor, values: np.ndarray) -> None:
    if target.shape != values.shape:
        raise ValueError(f"a checkpoint has {values.shape} numbers in place of {target.shape}")
    target.copy_(torch.as_tensor(values))


# -- fingerprint -----------------------------------------------------------------------


def fingerprint_of(net: Trainer) -> dict[str, str]:
    """Return digests of all that determines training: rows, settings and initial parameters."""
    datasets = [net.train_] if net.valid_ is None else [net.train_, net.valid_]
    return {
        "rows": _digest(
            getattr(dataset, field.name) for dataset in datasets for field in fields(dataset)
        ),
        "settings": _digest([*map(_settings, net.configs), net.criterion_]),
        "starting weights (of the model, or by random_state)": _digest(
            [net.module_.architecture, net.module_.sizes, net.module_.flat]
        ),
    }


def _settings(config: TrainingConfig) -> dict[str, Any]:
    """Return a configuration with the values of its schedule: functions cannot be compared."""
    epochs = range(config.first_epoch, config.first_epoch + config.max_iter)
    return {**vars(config), "beta": [config.beta(epoch) for epoch in epochs]}


def _digest(values: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, EncodedRows):
            chunks = batches(len(value), CHUNK_ROWS)
            digest.update(_digest(value[rows] for rows in chunks).encode())
        elif isinstance(value, Tensor | np.ndarray):
            array = value.cpu().numpy() if isinstance(value, Tensor) else value
            digest.update(f"{array.dtype.str} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        else:
            digest.update(f"{value!r} ".encode())
    return digest.hexdigest()
