"""Files with values, types and shapes that nobody would save, and a right checksum.

A mutant starts as a file that ``save`` has written. A few of its values or arrays become
others, the checksum is computed anew, and the file is loaded and used: ``ValueError`` is the
only answer that it may get. To read a million of them::

    python tests/persistence/fuzz_load.py 1000000

Every mutant follows from its number: ``1 --first NUMBER`` reads a single one.
"""

import argparse
import copy
import hashlib
import json
import resource
import runpy
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy as safetensors

import sklearn_vae
from sklearn_vae.persistence import file_format

GOLDEN = Path(__file__).parent / "golden"
FRAME, DIGEST = struct.Struct("<8sIIQ"), 32
# What a file may cost: bytes beside those of its size, how many times its size, CPU seconds.
BASE, TIMES, SECONDS = 64 << 20, 20, 1.0

# Rows that a model is used with: one with missing cells, if it takes any, and one without.
SOME = slice(5, 7)

INTEGERS = [
    *(-1, 0, 1, 2, 3, 7, 255, 1 << 15, 1 << 16, 10**5, 10**6, 10**8, 10**9, 2_000_000_000),
    *(1 << 31, 1 << 32, 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 64, 10**12, 10**30, -(1 << 31)),
]
REALS = [0.0, -0.0, 1e-320, 1e-3, 0.5, 1.5, -1.0, 1e30, 1e308, -1e308]
TEXTS = [
    *("", "a", "codes", "\x00", "é", "x" * 1000, "cuda:3", "nan", "pandas", "knn", "z"),
    *("int9999999999", "float16", "2020-01-01", "datetime64[s]", "category[object]", "Enum"),
    *("Decimal128(99)", "<f2", "O", "relu", "gaussian", "MT19937", "missing", "error"),
]
# What numpy raises of numbers that an array cannot hold; numpy 1 warns, which is an error in tests.
UNFIT = OverflowError, ValueError, DeprecationWarning
EXTREMES = [np.nan, np.inf, -np.inf, 0, -1, 1, 2, 1e-320, 1e30, 1e308, 1e9, -1e9, 0.5, 255]
MODEL_METHODS = [
    *("transform", "predict", "predict_proba", "p_values", "explain", "impute"),
    *("score_samples", "sample"),
]
TYPES = ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d"]


# -- files as trees --------------------------------------------------------------------


def opened(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Take a file apart: what JSON says, and arrays by name, in order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(data)
        header, arrays = file_format.read(path)
        return header, dict(sorted(arrays.items()))


def sealed(header: bytes, arrays: bytes) -> bytes:
    """Put a file together, with lengths and a checksum that are right."""
    whole = (
        FRAME.pack(file_format.MAGIC, file_format.VERSION, len(header), len(arrays))
        + header
        + arrays
    )
    return whole + hashlib.sha256(whole).digest()


# -- mutations ---------------------------------------------------------------------------


class Mutator:
    """Changes values, types and shapes inside files.

    Parameters
    ----------
    files : list of bytes
        Files as ``save`` writes them.
    """

    def __init__(self, files: list[bytes]):
        self.files = files
        self.trees = [opened(data) for data in files]
        self.texts = [json.dumps(header) for header, _ in self.trees]  # quicker than a deep copy

    def mutant(self, rng: np.random.Generator) -> tuple[int, bytes]:
        """Number of the file that it comes from, and a file with a few changes."""
        number = int(rng.integers(len(self.files)))
        if rng.random() < 0.05:
            return number, mutated(self.files[number], rng)
        header, arrays = json.loads(self.texts[number]), dict(self.trees[number][1])
        self.donor = self.trees[int(rng.integers(len(self.trees)))]
        for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
            if arrays and rng.random() < 0.35:
                self._change_arrays(arrays, rng)
            else:
                self._change_tree(header, arrays, rng)
        text, body = json.dumps(header).encode(), safetensors.save(arrays)
        if rng.random() < 0.03:
            text = mutated(text, rng)
        if rng.random() < 0.03:
            body = mutated(body, rng)
        return number, sealed(text, body)

    def _change_tree(self, header: Any, arrays: dict[str, Any], rng: np.random.Generator) -> None:
        spots = [*_spots({part: header.get(part) for part in ("parameters", "fitted")})]
        if rng.random() < 0.01:
            spots = [*_spots(header)]
        if not spots:
            return
        holder, key = spots[int(rng.integers(len(spots)))]
        if rng.random() < 0.06:
            del holder[key]
        elif rng.random() < 0.05 and isinstance(holder, dict):
            other = TEXTS[int(rng.integers(len(TEXTS)))]
            holder[other] = holder.pop(key)
        elif rng.random() < 0.05 and isinstance(holder, list):
            holder.insert(int(rng.integers(len(holder) + 1)), copy.deepcopy(holder[key]))
        else:
            holder[key] = self._other(holder[key], spots, arrays, rng)

    def _other(
        self, value: Any, spots: list[Any], arrays: dict[str, Any], rng: np.random.Generator
    ) -> Any:
        """Another value in the place of one, of the same type most of the time."""
        if rng.random() < 0.7:
            if isinstance(value, bool):
                return not value
            if isinstance(value, int):
                near = [value - 1, value + 1, 2 * value, -value]
                return _one_of(near if rng.random() < 0.3 else INTEGERS, rng)
            if isinstance(value, float):
                special = _one_of([np.nan, np.inf, -np.inf], rng)
                return special if rng.random() < 0.3 else _one_of([*REALS, -value], rng)
            if isinstance(value, str):
                texts = [own for holder, key in spots if isinstance(own := holder[key], str)]
                return _one_of(TEXTS if rng.random() < 0.5 else texts, rng)
            if isinstance(value, list) and value:
                return _one_of(
                    [[], value[:-1], value[::-1], [*value, *value], [value], value[:1] * 200], rng
                )
            if isinstance(value, dict) and "@array" in value and arrays:
                return {"@array": _one_of(list(arrays), rng)}
        if rng.random() < 0.5:
            return copy.deepcopy(_picked(spots, rng))
        if rng.random() < 0.5:
            return copy.deepcopy(_picked([*_spots(self.donor[0])], rng))
        name = _one_of(list(arrays) or ["x"], rng)
        return copy.deepcopy(_one_of(
            [
                None, True, [], {}, _one_of(INTEGERS, rng), _one_of(REALS, rng),
                _one_of(TEXTS, rng), {"@array": name}, {"@tuple": {"@array": name}},
                {"@tuple": [1, 2]}, {"@names": ["a", ["b"]]}, {"@names": {"@array": name}},
                {"@text": ["a", "b" * 1000]}, {"@text": {"@array": name}},
                {"@dict": [[0, 1], [np.nan, 2]]}, {"@dict": {"@array": name}},
                {"@dict": [{"@array": name}]}, {"@dtype": "<f2"}, {"@dtype": "(9,9)f8"},
                {"@Timestamp": ["2020", "ns"]}, {"@Timestamp": {"@array": name}},
                {"@Decimal": "1e999999999"}, {"@Period": ["2020", "M"]}, {"@NaTType": "x"},
                {"@Interval": [0, 1, "left"]}, {"@date": "2020-01-01"}, {"@datetime": 7},
                {"@object": "Gaussian"}, {"@object": "Categorical", "n_classes": 10**8},
                {"@object": "Ordinal", "n_classes": 1}, {"@object": "ZeroInflated", "n_spikes": 0},
                {"@object": "Poisson", "unit": 0.0}, {"@object": "Bernoulli"},
                {"@object": "NegativeLogLikelihood", "n_draws": 10**9}, {"@function": "codes"},
                {"@object": "VAETransformer", "parameters": {}, "fitted": {}},
            ],
            rng,
        ))  # fmt: skip

    def _change_arrays(self, arrays: dict[str, np.ndarray], rng: np.random.Generator) -> None:
        names = list(arrays)
        if rng.random() < 0.05:  # no members, or more of them
            n = int(rng.choice([0, 2, 3]))
            for name in names:
                if arrays[name].ndim and "state_dict_" in name:
                    arrays[name] = np.repeat(arrays[name][:1], n, axis=0)
            return
        name = _one_of(names, rng)
        value = arrays[name]
        match int(rng.integers(9)):
            case 0:
                with np.errstate(all="ignore"):
                    arrays[name] = value.astype(_one_of(TYPES, rng))
            case 1:
                arrays[name] = np.asarray(_reshaped(value, rng))
            case 2:
                del arrays[name]
            case 3:
                arrays[name] = arrays[_one_of(names, rng)]
            case 4 | 5 | 6 | 7 if value.size:
                value = value.copy()
                flat, n = value.reshape(-1), 1 if rng.random() < 0.7 else value.size
                with np.errstate(all="ignore"), suppress(*UNFIT):
                    flat[rng.integers(flat.size, size=n)] = _one_of(EXTREMES, rng)
                arrays[name] = value
            case _ if value.ndim and value.size:
                order = rng.permutation(value.shape[0])
                arrays[name] = value[order] if rng.random() < 0.5 else value[::-1]


def _reshaped(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    huge, axis = int(rng.choice([10**6, 10**12])), int(rng.integers(max(value.ndim, 1)))
    return _one_of(
        [
            value.reshape(-1), value.T, value[None], value[..., None], value[:-1] if value.ndim
            else value, np.repeat(value, 2, axis) if value.ndim and value.size else value,
            np.empty((huge, 0), value.dtype), np.empty((0, huge), value.dtype),
            np.empty((0, *value.shape[1:]), value.dtype), np.empty(0, value.dtype),
            value.reshape(-1)[:1].reshape(()) if value.size else value,
            np.empty((huge, *value.shape[1:], 0), value.dtype),
        ],
        rng,
    )  # fmt: skip


def _one_of(values: Any, rng: np.random.Generator) -> Any:
    return values[int(rng.integers(len(values)))]


def _picked(spots: list[Any], rng: np.random.Generator) -> Any:
    holder, key = _one_of(spots, rng)
    return holder[key]


def _spots(tree: Any) -> Any:
    """All places of a tree, as what holds a value and its key."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _spots(tree[key])


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with a few of them changed, put in, left out, repeated or exchanged."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        place, length = int(rng.integers(len(changed) + 1)), int(rng.integers(1, 9))
        match int(rng.integers(6)):
            case 0 if place < len(changed):
                changed[place] ^= 1 << int(rng.integers(8))
            case 1:
                changed[place : place + length] = rng.bytes(length)
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length]
            case 4:
                words = [b"null", b"-1", b"1e999", b"[]", b"{}", b'"@object"', b"9" * 30, b"true"]
                changed[place : place + length] = _one_of(words, rng)
            case _:
                digits = [spot for spot, byte in enumerate(changed) if 48 <= byte <= 57]
                if digits:
                    changed[_one_of(digits, rng)] = int(rng.integers(48, 58))
    return bytes(changed)


# -- what is done with a file ---------------------------------------------------------------


@contextmanager
def answers() -> Iterator[None]:
    """Take a ValueError for an answer, and that X has columns of other types than the model's."""
    try:
        yield
    except ValueError:
        pass
    except TypeError as error:
        if "in fit, and has" not in str(error):
            raise


def use(model: Any, X: Any, number: int | None = None) -> None:
    """Call all methods of a model, or the one that a number chooses."""
    methods = [name for name in MODEL_METHODS if hasattr(model, name)]
    if number is not None:
        methods = [methods[number % len(methods)]]
    for name in methods:
        for random_state in (0, None) if name == "sample" else (0,):
            with answers():
                if name == "sample":
                    model.sample(3, random_state=random_state)
                    continue
                found = getattr(model, name)(X)
                if name == "transform" and hasattr(model, "inverse_transform"):
                    model.inverse_transform(found)
    if hasattr(model, "get_feature_names_out"):
        with answers():
            model.get_feature_names_out()
    repr(model), str(getattr(model, "columns_", ""))


def read(path: Path, X: Any, number: int | None = None) -> str:
    """Load a file and use it; return what came of it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            model = sklearn_vae.load(path)
        except ValueError as error:
            if str(path) not in str(error):
                raise
            return "refused"
        use(model, X, number)
    return "used"


def golden() -> list[tuple[bytes, Any]]:
    """The golden files, each with rows for it."""
    rows = runpy.run_path(str(GOLDEN / "make.py"))["ROWS"]
    return [
        (path.read_bytes(), rows[path.stem.split("-")[0]]()[SOME])
        for path in sorted(GOLDEN.glob("*.vae"))
    ]


def saved(model: Any, X: Any) -> tuple[bytes, Any]:
    """Save a fitted model; its file, and rows for it."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(Path(folder, "model"))
        return Path(folder, "model").read_bytes(), X


def mixed_frame(n: int = 60) -> Any:
    """Columns of every kind, with holes."""
    import pandas as pd

    rng = np.random.default_rng(0)
    gain = np.where(rng.random(n) < 0.5, 0.0, rng.normal(5, 1, n))
    frame = pd.DataFrame(
        {
            "real": rng.normal(size=n),
            "positive": np.exp(rng.normal(size=n)),
            "count": rng.poisson(3, n),
            "colour": pd.Categorical(rng.choice(["red", "green", "blue"], n)),
            "size": pd.Categorical(rng.choice(["s", "m", "l"], n), ["s", "m", "l"], ordered=True),
            "yes": rng.random(n) < 0.4,
            "when": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 99, n), "D"),
            "gain": gain,
            "same": 7.0,
        }
    )
    frame.loc[:5, ["real", "colour"]] = None
    return frame


def small() -> list[tuple[bytes, Any]]:
    """A few models that are fitted in a second, and the golden files."""
    from sklearn_vae import VAEClassifier, VAEDensity, VAEImputer, VAETransformer

    base = {"hidden_layer_sizes": (3,), "max_iter": 1, "random_state": 0}
    X = mixed_frame()
    y = np.where(np.arange(len(X)) % 2, "b", "a")
    kinds = {"count": "poisson", "gain": "zero_inflated", "positive": "lognormal"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vae = VAETransformer(2, likelihood=kinds, **base).fit(X)
        given = VAETransformer(2, conditional=True, **base)
        classifier = VAEClassifier(given, n_draws=8).fit(X, y)
        imputer = VAEImputer(VAETransformer(2, **base)).fit(X.iloc[:, :4])
        density = VAEDensity(2, mixtures=[(2, "full")], conditional=True, **base)
        density.fit(X.iloc[:, :4], y)
    some = X.iloc[SOME]
    return [*golden(), saved(vae, some), saved(classifier, some),
            saved(imputer, some.iloc[:, :4]), saved(density, some.iloc[:, :4])]  # fmt: skip


def many() -> list[tuple[bytes, Any]]:
    """Models of every network, posterior, prior and method."""
    from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
    from sklearn_vae.anomaly.scores import METHODS
    from sklearn_vae.networks import ConvNet, GRUNet
    from sklearn_vae.posteriors import RelaxedCategorical
    from sklearn_vae.priors import VampPrior

    base = {"hidden_layer_sizes": (3,), "max_iter": 1, "random_state": 0}
    rng = np.random.default_rng(1)
    X, images = rng.normal(size=(40, 4)), rng.normal(size=(20, 64))
    X[:, 3] = X[:, 3] > 0
    sequences = rng.normal(size=(30, 4))
    sequences[:6, 3:] = np.nan
    conv, gru = ConvNet((8, 8), (2,)), GRUNet((4, 1), 3)
    words = RelaxedCategorical(1, 3)
    found = [
        (VAETransformer(2, network=conv, **base), images),
        (VAETransformer(2, network=gru, **base), sequences),
        (VAETransformer(2, posterior="full", **base), X),
        (VAETransformer(3, posterior=words, **base), X),
        (VAETransformer(2, prior=VampPrior(3), n_init=2, ensemble=True, **base), X),
        (VAEDensity(2, mixtures=[(2, "full")], **base), X),
        (VAEOutlierDetector(calibration="conformal", **base), X),
        *(
            (VAEOutlierDetector(method=method, novelty=method == "auto", **base), X)
            for method in ("auto", "neighbors", *METHODS)
        ),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [*small(), *(saved(model.fit(rows), rows[SOME]) for model, rows in found)]


# -- a long run --------------------------------------------------------------------------


def peak() -> int:
    """Bytes of memory that were held at the most since ``forget_peak``."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def forget_peak() -> int:
    """Count the peak from now on; bytes that are held now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return peak()


def measured(path: Path, X: Any, number: int) -> tuple[str, float, int]:
    """Read a file: what came of it, CPU seconds, bytes beyond 20 times its size."""
    before, started = forget_peak(), time.process_time()
    try:
        found = read(path, X, number)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        found = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
    seconds = time.process_time() - started
    extra = peak() - before - TIMES * path.stat().st_size
    if found in ("refused", "used") and (seconds > SECONDS or extra > BASE):
        found = "slow" if seconds > SECONDS else "large"
    return found, seconds, extra


def main() -> int:
    """Read many mutants, and say what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    originals, counts = many(), Counter[str]()
    mutator = Mutator([data for data, _ in originals])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mutant")
        for data, X in originals:  # what is imported and kept with the first use
            path.write_bytes(data)
            read(path, X)
        for number in range(asked.first, asked.first + asked.count):
            original, data = mutator.mutant(np.random.default_rng([asked.seed, number]))
            path.write_bytes(data)
            found, seconds, extra = measured(path, originals[original][1], number)
            counts[found] += 1
            if found not in ("refused", "used"):
                print(f"{number}: {found} ({seconds:.2f} s, {extra >> 20} MiB)", flush=True)
    print(f"{asked.count} mutants of {len(originals)} files: {dict(counts)}")
    return int(any(found not in ("refused", "used") for found in counts))


if __name__ == "__main__":
    sys.exit(main())
