"""Parameters and fitted attributes as JSON and arrays of numbers, and back.

A value that JSON does not have is an object whose first key is a tag: ``{"@tuple": [...]}``. An
object of a class is stored as the name of the class and its fields. Only registered classes are
read, see ``validation``; their fields are checked against annotations and by ``check``.
"""

import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.file_format import NUMERIC_TYPES, Json, PathLike
from sklearn_vae.persistence.validation import (
    LONGEST_TEXT,
    check_annotations,
    check_hashes,
    find,
    is_serializable,
)

# Types of floating-point rows.
DTYPES = ("<f4", "<f8", ">f4", ">f8")


def _pandas() -> ModuleType:
    return import_module("pandas")  # may not be installed


# Types that names and categories may have: what is stored of a value, and what makes it again.
VALUES: dict[str, tuple[Callable[[Any], object], Callable[..., object]]] = {
    "date": (date.isoformat, date.fromisoformat),
    "datetime": (datetime.isoformat, datetime.fromisoformat),
    "Decimal": (str, Decimal),
    "Timestamp": (
        lambda value: [value.isoformat(), value.unit],
        lambda text, unit: _pandas().Timestamp(text).as_unit(unit),
    ),
    "Period": (
        lambda value: [str(value), value.freqstr],
        lambda text, unit: _pandas().Period(text, unit),
    ),
    "Interval": (
        lambda value: [value.left, value.right, value.closed],
        lambda *parts: _pandas().Interval(*parts),
    ),
    "NaTType": (str, lambda _: _pandas().NaT),
    "NAType": (str, lambda _: _pandas().NA),
}


class NotSerializableError(TypeError):
    """A value that a file of data cannot hold."""


class Writer:
    """Writes values as JSON, and keeps their arrays."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}  # by name

    def write(self, value: Any, name: str) -> Json:
        """Convert a value to JSON. Names of its arrays begin with the name."""
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:  # of bytes that could not be decoded
                message = f"{value!r:.100} cannot be serialized: it is no Unicode text"
                raise NotSerializableError(message) from error
            return value
        if isinstance(value, np.ndarray):
            return self._write_array(value, name)
        if isinstance(value, list):
            return self._write_list(value, name)
        if isinstance(value, tuple):
            return {"@tuple": self._write_list(value, name)}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) and not key.startswith("@") for key in value):
                return self._write_items(value, name)
            return {"@dict": self._write_list(list(value.items()), name)}
        if isinstance(value, np.dtype) and value.str in DTYPES:
            return {"@dtype": value.str}
        cls = type(value)
        if is_dataclass(value) and is_serializable(cls):
            items = {field.name: getattr(value, field.name) for field in fields(value)}
            return {"@object": cls.__name__, **self._write_items(items, name)}
        if hasattr(value, "to_file"):
            return {"@object": cls.__name__, **value.to_file(self, f"{name}.")}
        if cls.__name__ in VALUES:
            store, _ = VALUES[cls.__name__]
            return {f"@{cls.__name__}": self.write(store(value), name)}
        if hasattr(value, "state_dict"):
            return {"@module": qualified_name(value)}  # its trained weights are the model's
        reason = ", as its class has no @serializable" if is_dataclass(value) else ""
        raise NotSerializableError(f"{value!r:.100} cannot be serialized{reason}")

    def _write_list(self, values: Sequence[object], name: str) -> list[Json]:
        return [self.write(item, f"{name}.{i}") for i, item in enumerate(values)]

    def _write_items(self, items: Mapping[str, object], name: str) -> dict[str, Json]:
        return {key: self.write(item, f"{name}.{key}") for key, item in items.items()}

    def _write_array(self, value: np.ndarray, name: str) -> Json:
        kind = value.dtype.kind
        if kind == "U" or (kind == "O" and all(isinstance(text, str) for text in value.flat)):
            return {"@text" if kind == "U" else "@names": value.tolist()}
        if kind not in NUMERIC_TYPES:
            raise NotSerializableError(f"an array of the dtype {value.dtype} cannot be serialized")
        while name in self.arrays:
            name += "."
        self.arrays[name] = value
        return {"@array": name}


class Reader:
    """Reads what a ``Writer`` has written.

    The size of the file, ``n_bytes``, limits the memory of its contents.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], n_bytes: int, *, modules: Sequence[object] = ()
    ):
        self.arrays = arrays
        self.modules = {qualified_name(module): module for module in modules}
        self.budget = (24 << 20) + 10 * n_bytes

    def read(self, value: Json) -> Any:
        """Return the value of JSON."""
        if isinstance(value, list):
            return [self.read(item) for item in value]
        if not isinstance(value, dict):
            return value
        tag = next(iter(value), "")
        if not tag.startswith("@"):
            return {key: self.read(item) for key, item in value.items()}
        if tag not in READERS:
            raise ValueError(f"{tag!r:.100} is a tag that this version does not have")
        others = {key: item for key, item in value.items() if key != tag}
        return READERS[tag](self, value[tag], **others)

    def _reserve(self, n_bytes: int) -> None:
        """Subtract the memory of an array from the budget."""
        self.budget -= n_bytes
        if self.budget < 0:
            raise ValueError("the contents would take far more memory than the file")

    def _array(self, name: str) -> np.ndarray:
        array = self.arrays[name]
        self._reserve(array.nbytes)  # a model that names one array often makes as many copies
        return array

    def _object(self, name: str, /, **items: Any) -> Any:
        cls = find(name)
        items = {key: self.read(item) for key, item in items.items()}
        if hasattr(cls, "from_file"):
            return cls.from_file(**items)
        value: Any = cls(**items)
        check_annotations(value, [field.name for field in fields(cls)])
        if hasattr(value, "check"):
            value.check()
        return value

    def _text(self, value: Json) -> np.ndarray:
        texts = _strings(value)
        self._reserve(4 * max(map(len, texts), default=0) * len(texts))
        return np.array(texts, dtype=str)

    def _names(self, value: Json) -> np.ndarray:
        return np.array(_strings(value), dtype=object)

    def _tuple(self, items: Json) -> tuple[Any, ...]:
        return tuple(self.read(_list(items)))

    def _dict(self, pairs: Json) -> dict[Hashable, object]:
        items = self.read(_list(pairs))
        check_hashes(key for key, _ in items)
        return dict(items)

    def _dtype(self, name: str) -> np.dtype:
        if name not in DTYPES:
            raise ValueError(f"{name!r:.100} is not a floating-point type")
        return np.dtype(name)

    def _module(self, name: str) -> object:
        if name not in self.modules:
            raise MissingModuleError(
                f"The file needs the module {name}, which it cannot hold: pass it as load(path, "
                f"modules=[...])."
            )
        return self.modules[name]

    def _value(self, content: Json, make: Callable[..., object]) -> object:
        """Make a name or a category of what is stored of it."""
        parts = self.read(content if isinstance(content, list) else [content])
        if any(isinstance(part, str) and len(part) > LONGEST_TEXT for part in parts):
            raise ValueError(f"{content!r:.100} is too long for a name or a category")
        return make(*parts)


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.100} is not a list")
    return value


def _strings(value: Json) -> list[str]:
    strings = [string for string in _list(value) if isinstance(string, str)]
    if len(strings) < len(_list(value)):
        raise ValueError("a list of names holds something else")
    return strings


def qualified_name(module: object) -> str:
    """Module and qualified name of a class, or of an object's class."""
    cls = module if isinstance(module, type) else type(module)
    return f"{cls.__module__}.{cls.__qualname__}"


READERS: dict[str, Callable[..., Any]] = {
    "@array": Reader._array,
    "@object": Reader._object,
    "@text": Reader._text,
    "@names": Reader._names,
    "@tuple": Reader._tuple,
    "@dict": Reader._dict,
    "@dtype": Reader._dtype,
    "@module": Reader._module,
    **{f"@{name}": partial(Reader._value, make=make) for name, (_, make) in VALUES.items()},
}


@contextmanager
def open_model(
    path: PathLike, modules: Sequence[object] = ()
) -> Iterator[tuple[dict[str, Any], Reader]]:
    """Open the file of an estimator: its header and the reader of its values."""
    header, arrays = file_format.read(path)
    try:
        yield header, Reader(arrays, os.path.getsize(path), modules=modules)
    except (MemoryError, MissingModuleError, ModuleNotFoundError):
        raise
    except Exception as error:
        # with a valid checksum and invalid contents the file is forged: any statement may fail
        raise ValueError(f"{path}: the file does not hold a valid model: {error!r:.300}") from error


class MissingModuleError(ValueError):
    """A file needs a module that was not passed."""
