"""What parameters and fitted attributes are made of, as plain values and back.

Plain is what JSON can say, and arrays of numbers. Objects become their names and their
fields, if they are registered: nothing else is ever made of plain values, whatever
they say.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
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

from sklearn_vae.persistence.registry import find, is_serializable
from sklearn_vae.persistence.validation import agrees, check_annotated, check_array

# A dict of which a key begins so stands for something else.
MARK = "@"
# Arrays of fewer bytes are not compared with those that were met before.
WORTH_COMPARING = 256
# What arrays may hold: truth values, integers, floating-point numbers.
NUMBERS = "biuf"
# Bytes that what is made of a file's contents may take: so many, and so many for each of its own.
ROOM, ROOM_PER_BYTE = 24 << 20, 10
# About what Python takes for a dict, for one of its entries, and for an array beside its numbers.
DICT, ENTRY, ARRAY = 200, 50, 150
# Keys of a dict that are numbers are numbers of columns.
LARGEST_KEY = 1 << 31
# A state of numpy's generator: 624 numbers, and the place of the next one.
STATE = 624


class NotPlainError(TypeError):
    """A value that has no plain form."""


class Serializer:
    """Turns values into plain ones; arrays of equal contents become one array.

    Parameters
    ----------
    keeps_others : bool, default=False
        Whether a value that has no plain form stays what it is, or is an error.
    """

    def __init__(self, *, keeps_others: bool = False):
        self.keeps_others = keeps_others
        self.seen: dict[Any, np.ndarray] = {}

    @singledispatchmethod
    def pack(self, value: Any) -> Any:
        """Give the plain form of a value, or raise ``NotPlainError``."""
        name = type(value).__name__
        if is_dataclass(value) and is_serializable(type(value)):
            if hasattr(value, "to_dict"):
                return {"@told": name, "state": self.pack(value.to_dict())}
            own = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
            return {"@object": name, **{key: self.pack(part) for key, part in own.items()}}
        return (
            value.as_plain(self) if hasattr(value, "as_plain") else self._module(value, type(value))
        )

    def _other(self, value: Any) -> Any:
        if self.keeps_others:
            return value
        raise NotPlainError(f"{value!r} has no plain form")

    @pack.register(type(None))
    @pack.register(str)
    def _(self, value: str | None) -> Any:
        return value if value is None else str(value)

    @pack.register(bool)
    @pack.register(np.bool_)
    def _(self, value: bool) -> bool:
        return bool(value)

    @pack.register(Integral)
    def _(self, value: Integral) -> int:
        return int(value)

    @pack.register(Real)
    def _(self, value: Real) -> float:
        return float(value)

    @pack.register(FunctionType)
    def _(self, value: FunctionType) -> Any:
        return {"@function": value.__name__} if is_serializable(value) else self._other(value)

    @pack.register(type)
    def _(self, value: type) -> Any:
        return self._module(value, value)

    @pack.register(partial)
    def _(self, value: partial[Any]) -> Any:
        if self.keeps_others:
            return value
        return {"@partial": self.pack(value.func), "arguments": self.pack(value.keywords)}

    def _module(self, value: Any, own: type) -> Any:
        """Name a torch module's class, which whoever reads this has to have."""
        if self.keeps_others or not hasattr(own, "state_dict"):
            return self._other(value)
        return {"@module": name_of(own)}

    @pack.register(np.dtype)
    def _(self, value: np.dtype) -> Any:
        return {"@dtype": value.str} if value.kind in NUMBERS else self._other(value)

    @pack.register(np.random.RandomState)
    def _(self, value: np.random.RandomState) -> dict[str, Any]:
        return {"@random_state": self.pack(list(value.get_state(legacy=True)))}

    @pack.register(np.ndarray)
    def _(self, value: np.ndarray) -> Any:
        if value.dtype == object and all(isinstance(name, str) for name in value.flat):
            return {"@names": value.tolist()}
        if value.dtype.kind == "U":
            return {"@text": value.tolist()}
        if value.dtype.kind not in NUMBERS or type(value) not in (np.ndarray, np.memmap):
            return self._other(value)
        if value.nbytes < WORTH_COMPARING:
            return value
        digest = blake2b(np.ascontiguousarray(value).tobytes()).digest()
        return self.seen.setdefault((value.dtype.str, value.shape, digest), value)

    @pack.register(tuple)
    def _(self, value: tuple[Any, ...]) -> dict[str, Any]:
        return {"@tuple": [self.pack(part) for part in value]}

    @pack.register(Mapping)
    def _(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        if all(isinstance(key, str) and not key.startswith(MARK) for key in value):
            return {key: self.pack(part) for key, part in value.items()}
        return {"@dict": [[self.pack(key), self.pack(part)] for key, part in value.items()]}

    @pack.register(list)
    def _(self, value: list[Any]) -> Any:
        if _are_records(value):
            return {"@records": [_columnar(rows) for rows in _alike(value)]}
        if _are_weights(value):
            return {"@stack": {key: np.stack([own[key] for own in value]) for key in value[0]}}
        return [self.pack(part) for part in value]


def _are_records(rows: list[Any]) -> bool:
    """Whether these are dicts of numbers, which take less room as columns."""
    return len(rows) > 0 and all(
        isinstance(row, dict)
        and len(row) > 0
        and all(isinstance(key, str) and not key.startswith(MARK) for key in row)
        and all(isinstance(value, Real | np.bool_) for value in row.values())
        for row in rows
    )


def _alike(rows: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    """Divide records where their names change."""
    return (list(part) for _, part in groupby(rows, key=list))


def _columnar(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Records of the same names as a table, beside it the columns of one value."""
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    first, *_ = columns  # it is in the table always, which tells how many records there are
    same = {key: own[0].item() for key, own in columns.items() if key != first and _is_one(own)}
    table = [own for key, own in columns.items() if key not in same]
    kinds = {key: "" if key in same else own.dtype.kind for key, own in columns.items()}
    return {"kinds": kinds, "same": same, "table": np.stack(table, axis=1).astype(np.float64)}


def _is_one(column: np.ndarray) -> bool:
    return column.tobytes() == column[:1].tobytes() * len(column)


def _are_weights(parts: list[Any]) -> bool:
    """Whether these are dicts of arrays, of the same names and shapes."""
    shapes = [
        {key: (own.dtype, own.shape) for key, own in part.items()}
        for part in parts
        if isinstance(part, dict) and all(isinstance(own, np.ndarray) for own in part.values())
    ]
    return len(shapes) == len(parts) > 1 and all(own == shapes[0] for own in shapes)


# -- and back ------------------------------------------------------------------------


class Room:
    """Memory that the contents of a file may take beyond its own bytes.

    Parameters
    ----------
    n_bytes : int
        Size of the file.
    """

    def __init__(self, n_bytes: int):
        self.left = ROOM + ROOM_PER_BYTE * n_bytes

    def take(self, n_bytes: int) -> None:
        """Count what is about to be made; refuse it if it is too large."""
        self.left -= n_bytes
        if self.left < 0:
            raise ValueError("its contents would take far more memory than the file is large")


# The room of the file that is being read; a pickle, which is trusted, has none.
IN_ROOM: ContextVar[Room | None] = ContextVar("room", default=None)


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """Unpack the contents of a file of so many bytes, and make nothing that is much larger."""
    before = IN_ROOM.set(Room(n_bytes))
    try:
        yield
    finally:
        IN_ROOM.reset(before)


def _take(n_bytes: int) -> None:
    room = IN_ROOM.get()
    if room is not None:
        room.take(n_bytes)


def unpack(plain: Any) -> Any:
    """Make of plain values what they stand for.

    Raises
    ------
    ValueError
        If they stand for nothing that is known.
    """
    if isinstance(plain, list):
        return [unpack(part) for part in plain]
    if not isinstance(plain, dict):
        return plain
    mark = next(iter(plain), "")
    if not mark.startswith(MARK):
        return {key: unpack(part) for key, part in plain.items()}
    if mark not in MEANINGS:
        raise ValueError(f"{mark!r} stands for nothing that this version of sklearn_vae knows")
    return MEANINGS[mark](plain[mark], **{key: own for key, own in plain.items() if key != mark})


# What JSON has no word for.
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
# What the columns of records held.
_KINDS = {"b": bool, "i": int, "f": float}
# The types of rows.
DTYPES = ("<f4", "<f8", ">f4", ">f8")


def _float(name: str) -> float:
    return _FLOATS[name]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.100} is no list")
    return value


def _texts(value: Any) -> list[str]:
    if not all(isinstance(own, str) for own in _list(value)):
        raise ValueError("a list of names holds something else")
    return list(value)


def _checked(made: Any) -> Any:
    """Give an object; of a file, one whose fields are what its class says they may be."""
    if IN_ROOM.get() is None:
        return made
    check_annotated(made, [part.name for part in fields(made) if part.init])
    if hasattr(made, "check"):
        made.check()
    return made


def _object(name: str, /, **parts: Any) -> Any:
    made = find(name)
    if not (isinstance(made, type) and is_dataclass(made)):
        raise ValueError(f"{name!r} is no dataclass")
    return _checked(made(**{key: unpack(part) for key, part in parts.items()}))


def _told(name: str, state: Any) -> Any:
    return _checked(find(name).from_dict(unpack(state)))


def _function(name: str) -> Any:
    found = find(name)
    if not isinstance(found, FunctionType):
        raise ValueError(f"{name!r} is no function")
    return found


def name_of(module: Any) -> str:
    """Name a class, or that of an object, in full."""
    own = module if isinstance(module, type) else type(module)
    return f"{own.__module__}.{own.__qualname__}"


# Modules that whoever reads a file has at hand, by the full names of their classes.
AT_HAND: ContextVar[dict[str, Any]] = ContextVar("modules at hand", default={})  # noqa: B039


def _module(name: str) -> Any:
    if name not in AT_HAND.get():
        raise ValueError(
            f"it needs the module {name}, which no file can hold: give it as load(path, "
            f"modules=[...])"
        )
    return AT_HAND.get()[name]


def _partial(made_by: Any, arguments: Any) -> Any:
    return partial(unpack(made_by), **unpack(arguments))


def _dtype(name: str) -> np.dtype:
    if name not in DTYPES:
        raise ValueError(f"{name!r} is no type of numbers")
    return np.dtype(name)


def _random_state(state: list[Any]) -> np.random.RandomState:
    name, key, place, has_gauss, gauss = _list(state)
    check_array("key", key, "u", (STATE,))
    is_possible = agrees(place, int) and 0 <= place <= STATE and has_gauss in (0, 1)
    if name != "MT19937" or not is_possible or not math.isfinite(gauss):
        raise ValueError("the state of a generator is none")
    made = np.random.RandomState()
    made.set_state((name, key, place, has_gauss, gauss))
    return made


def _names(names: Any) -> np.ndarray:
    return np.array(_texts(names), dtype=object)


def _text(texts: Any) -> np.ndarray:
    longest = max(map(len, _texts(texts)), default=0)
    _take(4 * longest * len(texts))
    return np.array(texts, dtype=str)


def _records(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for columns in _list(groups) for row in _rows(**columns)]


def _rows(kinds: dict[str, str], same: dict[str, Any], table: Any) -> list[dict[str, Any]]:
    if not (isinstance(table, np.ndarray) and table.dtype.kind == "f" and table.ndim == 2):
        raise ValueError("records that are no table of numbers")
    if not table.shape[1] or not all(isinstance(own, Real) for own in same.values()):
        raise ValueError(f"records in a table of shape {table.shape}")
    _take(len(table) * (DICT + ENTRY * len(kinds)))
    values = iter(table.T)
    lists = [
        next(values).astype(_KINDS[kind]).tolist() if kind else [same[key]] * len(table)
        for key, kind in kinds.items()
    ]
    return [dict(zip(kinds, row, strict=True)) for row in zip(*lists, strict=True)]


def _stack(weights: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    if not all(isinstance(own, np.ndarray) and own.ndim for own in weights.values()):
        raise ValueError("a stack holds something else than arrays")
    length = min(map(len, weights.values()), default=0)
    _take(length * (DICT + (ENTRY + ARRAY) * len(weights)))
    parts = zip(*weights.values(), strict=True)
    return [dict(zip(weights, part, strict=True)) for part in parts]


def _tuple(parts: list[Any]) -> tuple[Any, ...]:
    return tuple(map(unpack, _list(parts)))


def _dict(pairs: list[list[Any]]) -> dict[Any, Any]:
    made = [(unpack(key), unpack(value)) for key, value in map(_list, _list(pairs))]
    for key, _ in made:
        if not isinstance(key, str) and not (agrees(key, int) and abs(key) < LARGEST_KEY):
            raise ValueError(f"{key!r:.100} is no key")
    return dict(made)


# What the marks stand for; estimators are added where they are known.
MEANINGS: dict[str, Callable[..., Any]] = {
    "@object": _object,
    "@told": _told,
    "@function": _function,
    "@dtype": _dtype,
    "@module": _module,
    "@partial": _partial,
    "@random_state": _random_state,
    "@names": _names,
    "@text": _text,
    "@tuple": _tuple,
    "@dict": _dict,
    "@records": _records,
    "@stack": _stack,
    "@float": _float,
}

# -- JSON and arrays -----------------------------------------------------------------


def detach(plain: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """Put the arrays of plain values into ``arrays``, and their names in their places."""
    if isinstance(plain, np.ndarray):
        for known_as, own in arrays.items():
            if own is plain:
                return {"@array": known_as}
        arrays[name] = plain
        return {"@array": name}
    if isinstance(plain, list):
        return [detach(part, arrays, f"{name}.{place}") for place, part in enumerate(plain)]
    if isinstance(plain, dict):
        return {key: detach(own, arrays, f"{name}.{key}") for key, own in plain.items()}
    if isinstance(plain, float) and not math.isfinite(plain):
        return {"@float": str(plain)}
    return plain


def attach(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Put arrays in the places of their names."""
    if isinstance(tree, list):
        return [attach(part, arrays) for part in tree]
    if isinstance(tree, dict):
        if tree.keys() == {"@array"}:
            return arrays[tree["@array"]]
        return {key: attach(own, arrays) for key, own in tree.items()}
    return tree
