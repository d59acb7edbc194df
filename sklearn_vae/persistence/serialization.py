"""Parameters and fitted attributes as JSON values and arrays, and back.

A serialized value consists of JSON values and arrays of numbers. An object is stored as the name
of its class and its fields. Only registered classes and functions are deserialized, see
``registry``.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from functools import partial, singledispatchmethod
from hashlib import blake2b
from itertools import groupby
from numbers import Integral, Real
from types import FunctionType
from typing import Any

import numpy as np

from sklearn_vae.persistence.file_format import NUMERIC_TYPES
from sklearn_vae.persistence.registry import find, is_serializable
from sklearn_vae.persistence.validation import check_annotations, check_array, check_hashes, matches
from sklearn_vae.persistence.values import WRITERS, NotSerializableError, from_json, to_json

# A dict whose first key begins with this character is a tagged value, like {"@tuple": [...]}.
TAG = "@"
# Arrays with fewer bytes are not deduplicated.
MIN_DEDUPLICATED_BYTES = 256
# Memory that a file's contents may take: a constant, and a multiple of the file's size.
BUDGET, BUDGET_PER_BYTE = 24 << 20, 10
# Approximate bytes of a Python dict, of one of its entries, and of an ndarray's header.
DICT_BYTES, ENTRY_BYTES, ARRAY_BYTES = 200, 50, 150
# Numbers that are keys of a dict are columns' indices or names.
MAX_KEY = 1 << 31
# Words in the state of numpy's Mersenne Twister.
MT19937_WORDS = 624


class Serializer:
    """Serializes values; equal arrays become one array.

    Parameters
    ----------
    keep_unserializable : bool, default=False
        If true, a value that cannot be serialized is returned as it is, as in a pickle.
        Otherwise it raises ``NotSerializableError``.
    """

    def __init__(self, *, keep_unserializable: bool = False):
        self.keep_unserializable = keep_unserializable
        self.arrays: dict[Any, np.ndarray] = {}

    @singledispatchmethod
    def serialize(self, value: Any) -> Any:
        """Serialize a value."""
        name = type(value).__name__
        if is_dataclass(value) and is_serializable(type(value)):
            if hasattr(value, "to_dict"):
                return self._from_dict(name, value)
            names = [field.name for field in fields(value) if field.init]
            return {
                "@object": name,
                **{field: self.serialize(getattr(value, field)) for field in names},
            }
        if hasattr(value, "serialize"):
            return value.serialize(self)
        if name in WRITERS:
            return {"@value": self.serialize(to_json(value))}
        return self._module(value, type(value))

    def _from_dict(self, name: str, value: Any) -> Any:
        try:
            return {"@from_dict": name, "state": self.serialize(value.to_dict())}
        except NotSerializableError:
            if not self.keep_unserializable:
                raise
            return value

    def _refuse(self, value: object) -> Any:
        if self.keep_unserializable:
            return value
        reason = ", as its class has no @serializable" if is_dataclass(value) else ""
        raise NotSerializableError(f"{value!r} cannot be serialized{reason}")

    @serialize.register(type(None))
    @serialize.register(str)
    def _(self, value: str | None) -> Any:
        return value if value is None else str(value)

    @serialize.register(bool)
    @serialize.register(np.bool_)
    def _(self, value: bool) -> bool:
        return bool(value)

    @serialize.register(Integral)
    def _(self, value: Integral) -> int:
        return int(value)

    @serialize.register(Real)
    def _(self, value: Real) -> float:
        return float(value)

    @serialize.register(FunctionType)
    def _(self, value: FunctionType) -> Any:
        return {"@function": value.__name__} if is_serializable(value) else self._refuse(value)

    @serialize.register(type)
    def _(self, value: type) -> Any:
        return self._module(value, value)

    @serialize.register(partial)
    def _(self, value: partial[Any]) -> Any:
        if self.keep_unserializable or value.args:
            return self._refuse(value)
        return {"@partial": self.serialize(value.func), "arguments": self.serialize(value.keywords)}

    def _module(self, value: object, cls: type) -> Any:
        """Serialize a user's torch module as the name of its class, with what is not trained."""
        if self.keep_unserializable or not hasattr(cls, "state_dict"):
            return self._refuse(value)
        state = None
        if value is not cls:
            untrained = untrained_state(value)
            state = {name: tensor.numpy(force=True) for name, tensor in untrained.items()}
        return {"@module": qualified_name(cls), "state": self.serialize(state)}

    @serialize.register(np.dtype)
    def _(self, value: np.dtype) -> Any:
        return {"@dtype": value.str} if value.kind in NUMERIC_TYPES else self._refuse(value)

    @serialize.register(np.random.RandomState)
    def _(self, value: np.random.RandomState) -> dict[str, Any]:
        return {"@random_state": self.serialize(list(value.get_state(legacy=True)))}

    @serialize.register(np.ndarray)
    def _(self, value: np.ndarray) -> Any:
        if value.dtype == object and all(isinstance(name, str) for name in value.flat):
            return {"@names": value.tolist()}
        if value.dtype.kind == "U":
            return {"@text": value.tolist()}
        if value.dtype.kind not in NUMERIC_TYPES or type(value) not in (np.ndarray, np.memmap):
            return self._refuse(value)
        if value.nbytes < MIN_DEDUPLICATED_BYTES:
            return value
        digest = blake2b(np.ascontiguousarray(value).tobytes()).digest()
        return self.arrays.setdefault((value.dtype.str, value.shape, digest), value)

    @serialize.register(tuple)
    def _(self, value: tuple[Any, ...]) -> dict[str, Any]:
        return {"@tuple": [self.serialize(item) for item in value]}

    @serialize.register(Mapping)
    def _(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        if all(isinstance(key, str) and not key.startswith(TAG) for key in value):
            return {key: self.serialize(item) for key, item in value.items()}
        return {"@dict": [[self._key(key), self.serialize(item)] for key, item in value.items()]}

    def _key(self, key: Any) -> Any:
        return self.serialize(key) if _is_key(key) else self._refuse(key)

    @serialize.register(list)
    def _(self, value: list[Any]) -> Any:
        if _are_records(value):
            groups = groupby(value, key=list)  # consecutive records with the same keys
            return {"@records": [_columnar(list(rows)) for _, rows in groups]}
        if _are_state_dicts(value):
            return {"@stack": {key: np.stack([item[key] for item in value]) for key in value[0]}}
        return [self.serialize(item) for item in value]


def _are_records(rows: list[Any]) -> bool:
    """True for a list of dicts of numbers, which is stored by columns."""
    return len(rows) > 0 and all(
        isinstance(row, dict)
        and len(row) > 0
        and all(isinstance(key, str) and not key.startswith(TAG) for key in row)
        and all(isinstance(value, Real | np.bool_) for value in row.values())
        for row in rows
    )


def _columnar(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Store records with the same keys as a table; constant columns are stored once."""
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    first, *_ = columns  # always in the table, which gives the number of records
    constant = {
        key: column[0].item()
        for key, column in columns.items()
        if key != first and column.tobytes() == column[:1].tobytes() * len(column)
    }
    table = [column for key, column in columns.items() if key not in constant]
    dtypes = {key: "" if key in constant else column.dtype.kind for key, column in columns.items()}
    return {
        "dtypes": dtypes,
        "constant": constant,
        "table": np.stack(table, axis=1).astype(np.float64),
    }


def _are_state_dicts(values: list[Any]) -> bool:
    """True for a list of dicts of arrays with the same names, dtypes and shapes."""
    shapes = [
        {key: (array.dtype, array.shape) for key, array in value.items()}
        for value in values
        if isinstance(value, dict) and all(isinstance(item, np.ndarray) for item in value.values())
    ]
    return len(shapes) == len(values) > 1 and all(item == shapes[0] for item in shapes)


# -- deserialization -----------------------------------------------------------------


# Bytes that the contents of the file may still take. A pickle, which is trusted, has no limit.
_REMAINING: ContextVar[int | None] = ContextVar("memory budget", default=None)


@contextmanager
def memory_budget(n_bytes: int) -> Iterator[None]:
    """Limit the memory of objects that are deserialized from a file of this size."""
    token = _REMAINING.set(BUDGET + BUDGET_PER_BYTE * n_bytes)
    try:
        yield
    finally:
        _REMAINING.reset(token)


def _reserve(n_bytes: int) -> None:
    """Subtract an object's size from the budget before it is allocated, or refuse the object."""
    remaining = _REMAINING.get()
    if remaining is None:
        return
    if n_bytes > remaining:
        raise ValueError("the contents would take far more memory than the file")
    _REMAINING.set(remaining - n_bytes)


def deserialize(value: object) -> Any:
    """Undo ``Serializer.serialize``."""
    if isinstance(value, list):
        return [deserialize(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if not tag.startswith(TAG):
        return {key: deserialize(item) for key, item in value.items()}
    if tag not in DESERIALIZERS:
        raise ValueError(f"{tag!r} is a tag that this version of sklearn_vae does not have")
    return DESERIALIZERS[tag](value[tag], **{key: value[key] for key in value if key != tag})


# Numbers that JSON does not support.
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
# Types of numbers in records, by the kind of their dtype.
_TYPES = {"b": bool, "i": int, "f": float}
# Types of floating-point rows.
DTYPES = ("<f4", "<f8", ">f4", ">f8")


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.100} is not a list")
    return value


def _strings(value: object) -> list[str]:
    strings = _list(value)
    if not all(isinstance(string, str) for string in strings):
        raise ValueError("a list of names holds something else")
    return strings


def _validated(value: Any) -> Any:
    """Check the fields of an object from a file against the annotations of its class."""
    if _REMAINING.get() is None:
        return value
    check_annotations(value, [field.name for field in fields(value) if field.init])
    if hasattr(value, "check"):
        value.check()
    return value


def _object(name: str, /, **fields_: object) -> Any:
    cls = find(name)
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise ValueError(f"{name!r} is not a dataclass")
    return _validated(cls(**{field: deserialize(value) for field, value in fields_.items()}))


def _from_dict(name: str, state: object) -> Any:
    return _validated(find(name).from_dict(deserialize(state)))


def _function(name: str) -> Any:
    function = find(name)
    if not isinstance(function, FunctionType):
        raise ValueError(f"{name!r} is not a function")
    return function


def qualified_name(module: object) -> str:
    """Module and qualified name of a class, or of an object's class."""
    cls = module if isinstance(module, type) else type(module)
    return f"{cls.__module__}.{cls.__qualname__}"


# The user's torch modules that were passed to ``load``, by qualified name.
MODULES: ContextVar[dict[str, Any]] = ContextVar("modules", default={})  # noqa: B039


def untrained_state(module: Any) -> dict[str, Any]:
    """Return the buffers and frozen parameters of a torch module, by name."""
    frozen = {name: w for name, w in module.named_parameters() if not w.requires_grad}
    return {**dict(module.named_buffers()), **frozen}


def _module(name: str, state: Any) -> Any:
    if name not in MODULES.get():
        raise ValueError(
            f"it needs the module {name}, which a file cannot hold: pass it as load(path, "
            f"modules=[...])"
        )
    module = MODULES.get()[name]
    state = {} if state is None else dict[str, Any](deserialize(state))
    if not state or isinstance(module, type):
        if state:
            raise ValueError(
                f"it has an instance of {name}, whose {', '.join(state)} are not trained: pass an "
                f"instance as load(path, modules=[{name.rpartition('.')[2]}(...)])"
            )
        return module
    module = copy.deepcopy(module)
    values = untrained_state(module)
    shapes = {key: np.shape(value) for key, value in state.items()}
    if shapes != {key: tuple(value.shape) for key, value in values.items()}:
        raise ValueError(
            f"the buffers and frozen parameters of {name} are {shapes}, and those of the module "
            f"in load(path, modules=[...]) are not"
        )
    for key, value in state.items():
        values[key].data.copy_(values[key].new_tensor(value))
    return module


def _partial(function: object, arguments: object) -> Any:
    return partial(deserialize(function), **deserialize(arguments))


def _dtype(name: str) -> np.dtype:
    if name not in DTYPES:
        raise ValueError(f"{name!r} is not a floating-point type")
    return np.dtype(name)


def _random_state(state: object) -> np.random.RandomState:
    name, key, position, has_gauss, gauss = _list(state)
    check_array("key", key, "u", (MT19937_WORDS,))
    is_possible = matches(position, int) and 0 <= position <= MT19937_WORDS and has_gauss in (0, 1)
    if name != "MT19937" or not is_possible or not math.isfinite(gauss):
        raise ValueError("the state of a random generator is invalid")
    random_state = np.random.RandomState()
    random_state.set_state((name, key, position, has_gauss, gauss))
    return random_state


def _names(names: object) -> np.ndarray:
    return np.array(_strings(names), dtype=object)


def _text(value: object) -> np.ndarray:
    strings = _strings(value)
    longest = max(map(len, strings), default=0)
    _reserve(4 * longest * len(strings))
    return np.array(strings, dtype=str)


def _records(groups: object) -> list[dict[str, Any]]:
    return [row for columns in _list(groups) for row in _rows(**columns)]


def _rows(dtypes: dict[str, str], constant: dict[str, Any], table: object) -> list[dict[str, Any]]:
    if not (isinstance(table, np.ndarray) and table.dtype.kind == "f" and table.ndim == 2):
        raise ValueError("the table of records is not a matrix of numbers")
    constant = deserialize(constant)  # JSON has no NaN, such as the losses of a fit that diverged
    if not table.shape[1] or not all(isinstance(value, Real) for value in constant.values()):
        raise ValueError(f"the table of records has the shape {table.shape}")
    _reserve(len(table) * (DICT_BYTES + ENTRY_BYTES * len(dtypes)))
    columns = iter(table.T)
    lists = [
        next(columns).astype(_TYPES[dtype]).tolist() if dtype else [constant[key]] * len(table)
        for key, dtype in dtypes.items()
    ]
    return [dict(zip(dtypes, row, strict=True)) for row in zip(*lists, strict=True)]


def _stack(stacked: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    if not all(isinstance(array, np.ndarray) and array.ndim for array in stacked.values()):
        raise ValueError("a stack holds something other than arrays")
    length = min(map(len, stacked.values()), default=0)
    _reserve(length * (DICT_BYTES + (ENTRY_BYTES + ARRAY_BYTES) * len(stacked)))
    return [
        dict(zip(stacked, arrays, strict=True)) for arrays in zip(*stacked.values(), strict=True)
    ]


def _value(value: object) -> Any:
    return from_json(deserialize(value))


def _tuple(items: object) -> tuple[Any, ...]:
    return tuple(map(deserialize, _list(items)))


def _dict(pairs: object) -> dict[Any, Any]:
    items = [(deserialize(key), deserialize(value)) for key, value in map(_list, _list(pairs))]
    for key, _ in items:
        if not _is_key(key):
            raise ValueError(f"{key!r:.100} is not a valid key")
    check_hashes(key for key, _ in items)
    return dict(items)


def _is_key(key: Any) -> bool:
    """Return whether a file may have the key: a text, a tuple, or a number that is not large."""
    is_number = isinstance(key, Real) and not isinstance(key, bool)
    return isinstance(key, str | tuple) or (is_number and abs(key) < MAX_KEY)


# Deserializers by tag; ``estimators`` adds its own.
DESERIALIZERS: dict[str, Callable[..., Any]] = {
    "@object": _object,
    "@from_dict": _from_dict,
    "@function": _function,
    "@dtype": _dtype,
    "@module": _module,
    "@partial": _partial,
    "@random_state": _random_state,
    "@names": _names,
    "@text": _text,
    "@value": _value,
    "@tuple": _tuple,
    "@dict": _dict,
    "@records": _records,
    "@stack": _stack,
    "@float": _FLOATS.__getitem__,
}

# -- JSON and arrays -----------------------------------------------------------------


def extract_arrays(value: object, arrays: dict[str, np.ndarray], name: str) -> Any:
    """Move the arrays of a serialized value to ``arrays`` and leave their names."""
    if isinstance(value, np.ndarray):
        for known_name, array in arrays.items():
            if array is value:
                return {"@array": known_name}
        arrays[name] = value
        return {"@array": name}
    if isinstance(value, list):
        return [extract_arrays(item, arrays, f"{name}.{i}") for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: extract_arrays(item, arrays, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"@float": str(value)}
    return value


def insert_arrays(value: object, arrays: Mapping[str, np.ndarray]) -> Any:
    """Undo ``extract_arrays``."""
    if isinstance(value, list):
        return [insert_arrays(item, arrays) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"@array"}:
            array = arrays[value["@array"]]
            _reserve(array.nbytes)  # a model that names one array often makes as many copies
            return array
        return {key: insert_arrays(item, arrays) for key, item in value.items()}
    return value
