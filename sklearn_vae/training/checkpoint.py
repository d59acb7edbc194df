"""Training that is written down on its way, and goes on from there after the process has died.

All randomness is named by what it is for and by the number of its iteration, so what is
written down is only what numbers there are: weights, moments, the course, the records.
The same fit in another process begins as the first one did, and is then set forward to
where that one stood.
"""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import groupby
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor

from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.serialization import (
    Serializer,
    attach,
    detach,
    room_for,
    unpack,
)
from sklearn_vae.training.config import TrainingConfig
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.run import RunResult
from sklearn_vae.training.trainer import Trainer

KIND = "checkpoint"
# Share of the time that is spent on writing, at the most.
MOST_TIME_WRITING = 0.05


@contextmanager
def checkpoint_at(path: file_format.PathLike | None) -> Iterator[list[Callback]]:
    """Give the callbacks that write a fit down; remove the file when it is over.

    Parameters
    ----------
    path : str, path-like or None
        Where to write; None writes nothing.
    """
    if path is None:
        yield []
        return
    checkpoint = Checkpoint(path)
    yield [checkpoint]
    checkpoint.remove()


class Checkpoint(Callback):
    """Writes the trainings of one fit down, and sets those forward that were before.

    Parameters
    ----------
    path : str or path-like
        Where to write.
    """

    def __init__(self, path: file_format.PathLike):
        self.path = os.fspath(path)
        self.written: list[dict[str, Any]] = []
        if os.path.exists(self.path):
            header, arrays = file_format.read(self.path)
            if header.get("kind") != KIND:
                raise ValueError(f"{self.path}: it holds no checkpoint, but other data.")
            with room_for(os.path.getsize(self.path)):
                self.written = unpack(attach(header["trainings"], arrays))
        self.trainings: list[dict[str, Any]] = []
        self.next_time = 0.0

    def on_train_begin(self, net: Trainer, X: Dataset, **kwargs: Any) -> None:
        """Set a training forward to where it was, if it was anywhere."""
        origin = origin_of(net)
        number = len(self.trainings)
        self.trainings.append({"origin": origin})
        if number < len(self.written):
            before = self.written[number]
            self._check_origin(origin, before["origin"])
            restore(net, before)
            self.trainings[-1] |= before

    def _check_origin(self, found: dict[str, str], expected: dict[str, str]) -> None:
        other = [name for name, digest in expected.items() if found[name] != digest]
        if other:
            raise ValueError(
                f"The file of the 'checkpoint' parameter, {self.path!r}, is of another fit: it "
                f"began with other {' and other '.join(other)}. Remove it to begin anew, or name "
                f"another one."
            )

    def on_epoch_end(self, net: Trainer, **kwargs: Any) -> None:
        """Write everything down, unless that was only just done."""
        started = time.monotonic()
        if started < self.next_time:
            return
        self.trainings[-1] |= state_of(net)
        self._write()
        took = time.monotonic() - started
        self.next_time = started + took / MOST_TIME_WRITING

    def on_train_end(self, net: Trainer, **kwargs: Any) -> None:
        """Write down what a training has led to."""
        if len(net.outcomes_) == len(net.configs):
            self.trainings[-1] |= {"outcomes": _outcomes(net), "state": None}
            self._write()

    def _write(self) -> None:
        arrays: dict[str, np.ndarray] = {}
        trainings = detach(Serializer().pack(self.trainings), arrays, "trainings")
        file_format.write(self.path, {"kind": KIND, "trainings": trainings}, arrays)

    def remove(self) -> None:
        """Remove the file of a fit that is over."""
        if os.path.exists(self.path):
            os.unlink(self.path)


def state_of(net: Trainer) -> dict[str, Any]:
    """Give what decides how a training goes on, between two iterations."""
    state = {
        "members": net.members_,
        "flat": _array(net.module_.flat),
        "average": None if net.average_ is None else _array(net.average_),
        "moments": net.optimizer_.state_dict(),
        "course": {name: _array(value) for name, value in vars(net.course_).items()},
        "records": _stacked(net.records_),
        "history": [_plain_row(row) for row in net.history],
    }
    return {"state": state, "outcomes": _outcomes(net)}


def restore(net: Trainer, before: dict[str, Any]) -> None:
    """Set a training that has just begun forward to where one like it stood."""
    outcomes = {number: RunResult(**own) for number, own in before["outcomes"]}
    state = before["state"]
    staying = [] if state is None else state["members"].tolist()
    # those that had left go as they are; what became of them is known
    net.leave(~np.isin(net.members_, staying))
    net.outcomes_ = outcomes
    if state is None:
        return
    with torch.no_grad():
        _fill(net.module_.flat, state["flat"])
        if net.average_ is not None:
            _fill(net.average_, state["average"])
        for name, value in vars(net.course_).items():
            if isinstance(value, Tensor):
                _fill(value, state["course"][name])
            else:
                setattr(net.course_, name, state["course"][name].copy())
    net.optimizer_.load_state_dict(state["moments"])
    net.records_.extend(_unstacked(state["records"]))
    net.history_.extend({**row, "batches": []} for row in state["history"])


def _outcomes(net: Trainer) -> list[tuple[int, dict[str, Any]]]:
    return [
        (number, {**vars(own), "history": [_plain_row(row) for row in own.history]})
        for number, own in net.outcomes_.items()
    ]


def _plain_row(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "batches"}


def _array(value: Any) -> np.ndarray:
    return value.cpu().numpy().copy() if isinstance(value, Tensor) else value.copy()


def _fill(place: Tensor, values: np.ndarray) -> None:
    if place.shape != values.shape:
        raise ValueError(f"a checkpoint has {values.shape} numbers in place of {place.shape}")
    place.copy_(torch.as_tensor(values))


Records = Sequence[tuple[np.ndarray, dict[str, np.ndarray]]]


def _stacked(records: Records) -> list[dict[str, Any]]:
    """Records of neighbouring iterations with the same members and names as one."""
    groups = groupby(records, key=lambda record: (record[0].tolist(), list(record[1])))
    return [
        {
            "members": np.array(members),
            "values": {name: np.stack([own[1][name] for own in rows]) for name in names},
        }
        for (members, names), rows in ((key, list(part)) for key, part in groups)
    ]


def _unstacked(groups: list[dict[str, Any]]) -> Records:
    return [
        (group["members"], dict(zip(group["values"], row, strict=True)))
        for group in groups
        for row in zip(*group["values"].values(), strict=True)
    ]


# -- what a training began with --------------------------------------------------------


def origin_of(net: Trainer) -> dict[str, str]:
    """Give digests of all that decides a training: rows, settings, and where it starts."""
    tables = [net.train_] if net.valid_ is None else [net.train_, net.valid_]
    return {
        "rows": _digest(part for table in tables for part in _parts(table)),
        "settings": _digest([*map(_settings, net.configs), *_loss(net)]),
        "starting weights (of the model, or by random_state)": _digest(
            [net.module_.architecture, net.module_.sizes, net.module_.flat]
        ),
    }


def _loss(net: Trainer) -> list[Any]:
    return [net.criterion_, net.loss_state_.free_bits, net.loss_state_.pseudo_observations]


def _parts(table: Dataset) -> list[Any]:
    return [getattr(table, part.name) for part in fields(table)]


def _settings(config: TrainingConfig) -> list[Any]:
    """All numbers of a plan; a schedule is what it says, as functions cannot be compared."""
    schedule = [config.beta(config.first_epoch + place) for place in range(config.max_iter)]
    return [{**vars(config), "beta": schedule}]


def _digest(parts: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            part = part.cpu().numpy()
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str} {part.shape} ".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(f"{part!r} ".encode())
    return digest.hexdigest()
