"""Regression test of numerical results: record them at one commit and compare at another.

    python benchmarks/regression.py --record before.npz    # at the old commit
    python benchmarks/regression.py --compare before.npz   # at the new one

Both fit the same small models to the same seeded rows, in about a minute on one core. ``--compare``
prints which configurations have equal bits and the largest difference of all others, and exits with
1 if a relative difference exceeds 1e-6 or a result is missing. ``--only NAME,NAME`` selects some.

A relative difference is the largest difference within a column divided by the largest absolute
value of that column. Absolute differences below 1e-12 are ignored. Compare on one machine, with
the same versions of numpy and torch.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before numpy is imported

import inspect
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import options, tell
from scipy import sparse
from torch import Tensor, nn

from sklearn_vae import (
    VAEClassifier,
    VAEDensity,
    VAEImputer,
    VAEOutlierDetector,
    VAETransformer,
    load,
)
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.networks import ConvNet, CustomNetwork, GRUNet
from sklearn_vae.objectives import (
    ELBO,
    IWAE,
    MMD,
    LinearWarmup,
    TotalCorrelation,
)
from sklearn_vae.posteriors import RelaxedCategorical
from sklearn_vae.priors import MixturePrior, VampPrior

TOLERANCE = 1e-6
NEGLIGIBLE = 1e-12  # rounding errors of numbers that should be 0
N_SCORED, N_SAMPLES = 20, 5
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
# on small tables, early stopping returns the initial parameters
vae = partial(VAETransformer, 2, batch_size=64, early_stopping=False, **SMALL)
density = partial(VAEDensity, 2, **SMALL)
detector = partial(VAEOutlierDetector, **SMALL)


# -- rows ------------------------------------------------------------------------------


def codes(n_rows: int = 120) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng, rng.normal(size=(n_rows, 2))


def real(n_rows: int = 120, n_columns: int = 5) -> np.ndarray:
    """A noisy curved sheet: (n_rows, n_columns)."""
    rng, z = codes(n_rows)
    curved = np.tanh(z @ rng.normal(size=(2, n_columns)))
    return 10.0 + 3.0 * curved + 0.3 * rng.normal(size=curved.shape)


def binary() -> np.ndarray:
    rng, z = codes()
    return (z @ rng.normal(size=(2, 6)) + rng.normal(size=(120, 6)) > 0).astype(float)


def ordered() -> np.ndarray:
    """Three columns of the classes 0, 1 and 2, in an order."""
    rng, z = codes()
    return np.digitize(z @ rng.normal(size=(2, 3)) + rng.normal(size=(120, 3)), [-0.7, 0.7]) * 1.0


def counts() -> np.ndarray:
    rng, z = codes()
    return rng.poisson(np.exp(1.0 + 0.5 * z @ rng.normal(size=(2, 4)))).astype(float)


def incomplete(n_rows: int = 120) -> np.ndarray:
    X = real(n_rows)
    X[np.random.default_rng(1).random(X.shape) < 0.15] = np.nan
    return X


def numbers() -> np.ndarray:
    """A number per row, which the rows depend on."""
    return codes()[1][:, 0]


def classes() -> np.ndarray:
    """A class per row, which the rows depend on: 0, 1 or 2."""
    return np.digitize(numbers(), [-0.5, 0.5])


def frame() -> pd.DataFrame:
    """A table of columns of all types, with missing cells."""
    rng, z = codes()
    a, b = z.T
    day = np.timedelta64(1, "D")
    table = pd.DataFrame(
        {
            "number": 3.0 * a + rng.normal(size=120),
            "positive": np.exp(2.0 * b + 0.3 * rng.normal(size=120)),
            "count": rng.poisson(np.exp(1.0 + 0.5 * a)),
            "colour": pd.Categorical(np.array(["red", "green", "blue"])[classes()]),
            "size": pd.Categorical.from_codes(np.digitize(b, [-0.5, 0.5]), list("SML"), True),
            "text": np.where(a + b > 0, "yes", "no").astype(object),
            "flag": a - b > 0,
            "date": np.datetime64("2020-01-01") + (100.0 * (b + 3.0)).astype(int) * day,
        }
    )
    table.loc[::7, "number"] = np.nan
    table.loc[::11, ["colour", "text"]] = None
    table.loc[::13, "date"] = pd.NaT
    return table


# -- configurations --------------------------------------------------------------------


class Gated(nn.Module):
    """A user's network."""

    def __init__(self, n_in: int, n_out: int, width: int = 6):
        super().__init__()
        self.first, self.gate = nn.Linear(n_in, width), nn.Linear(n_in, width)
        self.last = nn.Linear(width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * torch.sigmoid(self.gate(x)))


def fitted(X: Any, y: Any = None, weight: Any = None, **params: Any) -> Any:
    """Fit a `vae` with parameters."""
    return vae().set_params(**params).fit(X, y, sample_weight=weight)


def in_parts(X: np.ndarray) -> VAETransformer:
    model = vae()
    for i in range(4):
        model.partial_fit(X[i % 2 :: 2])
    return model.partial_fit(incomplete())


def search(X: np.ndarray, **params: Any) -> VAESearchCV:
    grid = {"n_components": [1, 2], "beta": [0.5, 1.0, 2.0]}
    model = vae(max_iter=4, early_stopping="auto" if not params else False)
    return VAESearchCV(model, grid, cv=3, **params).fit(X)


def saved(model: Any) -> Any:
    """What a file makes of a fitted model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.vae"
        model.save(path)
        return load(path)


gru = partial(GRUNet, sequence_shape=(6, 1), n_units=6)
stopped = {"early_stopping": "auto", "max_iter": 6}
WEIGHT = np.arange(120) % 4 / 1.5
# Parameters of VAETransformer, by the rows that it is fitted to.
PARAMS: dict[Callable[[], Any], list[dict[str, Any]]] = {
    real: [
        {},
        {"beta": 2.0, "objective": ELBO(free_bits=0.2)},
        stopped,
        {"early_stopping": True, "refit": False},
        {"hidden_layer_sizes": (8, 6)},
        {"hidden_layer_sizes": ()},
        {"batch_size": 256},
        {"weight_decay": 0.1},
        {"beta": LinearWarmup(0.5, 2), "max_iter": 4},
        *({"likelihood": Gaussian(scale)} for scale in ("per_row", "per_column", 0.3)),
        {"likelihood": "lognormal"},
        {"likelihood": ["gaussian", "gaussian", "lognormal", "auto", "gaussian"]},
        {"prior": MixturePrior(3)},
        {"prior": VampPrior(3)},
        {"posterior": "gaussian"},
        {"posterior": RelaxedCategorical(n_variables=2), "n_components": 6},
        {"objective": IWAE(3)},
        {"objective": IWAE(3), **stopped},
        {"objective": TotalCorrelation(weight=3.0)},
        {"objective": MMD(weight=3.0)},
        {"network": CustomNetwork(Gated, partial(Gated, width=4))},
        {"n_init": 3, "early_stopping": "auto"},
        {"n_init": 3, "ensemble": True},
    ],
    partial(real, 60): [{"early_stopping": "auto"}],
    partial(real, 200, 8): [{"n_components": "auto", "early_stopping": "auto"}],
    partial(real, 120, 64): [{"network": ConvNet(image_shape=(8, 8), channels=(2, 4))}],
    partial(real, 120, 6): [
        {"network": network}
        for network in (gru(), gru(autoregressive=False), gru(word_dropout=0.3))
    ],
    # products that are large enough for the routine of large ones
    partial(real, 2000, 16): [{"hidden_layer_sizes": (128, 64), "batch_size": 1024, "max_iter": 1}],
    binary: [{}],
    ordered: [{"likelihood": "categorical"}, {"likelihood": "ordinal"}],
    counts: [{"likelihood": "poisson"}, {"likelihood": "negative_binomial"}],
    incomplete: [{}, stopped, {"posterior": "gaussian"}],
    frame: [{}, {"prior": VampPrior(3)}],
}
# Other fits: rows, a function of them that returns a fitted model, and conditions if any.
OTHERS: dict[str, tuple] = {
    "float32": (lambda: real().astype(np.float32), fitted),
    "zero-inflated": (lambda: np.where(real() < 9.0, 0.0, real()), fitted),
    "sparse": (lambda: sparse.csr_matrix(counts()), fitted),
    "weights": (real, partial(fitted, weight=WEIGHT)),
    "given classes": (real, lambda X: fitted(X, classes(), conditional=True), classes()),
    "given numbers": (incomplete, lambda X: fitted(X, numbers(), conditional=True), numbers()),
    "partial_fit": (real, in_parts),
    "file": (frame, lambda X: saved(fitted(X))),
    "density": (partial(real, 200), lambda X: density().fit(X)),
    "density, one full": (real, lambda X: density(mixtures=[(1, "full")]).fit(X)),
    "density, binary": (lambda: np.hstack([real(), binary()]), lambda X: density().fit(X)),
    "density, not stopped": (real, lambda X: density(early_stopping=False).fit(X)),
    "density, frame, file": (frame, lambda X: saved(density().fit(X))),
    "density, weights": (
        real,
        lambda X: density(mixtures=[(2, "diag"), (3, "full")]).fit(X, sample_weight=WEIGHT),
    ),
    "detector": (real, lambda X: detector().fit(X)),
    "detector, novelty": (real, lambda X: detector(novelty=True).fit(X)),
    "detector, frame": (frame, lambda X: detector(calibration="conformal", novelty=True).fit(X)),
    "detector, weights": (real, lambda X: detector().fit(X, sample_weight=np.arange(120) % 3)),
    **{
        f"detector, {method}": (real, lambda X, method=method: detector(method=method).fit(X))
        for method in ("neighbors", "log_likelihood", "reconstruction_probability")
    },
    "imputer": (incomplete, lambda X: VAEImputer(vae(), add_indicator=True).fit(X)),
    "imputer, frame": (frame, lambda X: VAEImputer(vae(), n_imputations=1, random_state=1).fit(X)),
    "classifier": (incomplete, lambda X: VAEClassifier(vae(), n_draws=8).fit(X, classes())),
    "search": (partial(real, 200), search),
    "search, random": (partial(real, 200), partial(search, n_iter=3, random_state=0)),
}
CONFIGURATIONS = {
    f"{' '.join(map(str, [getattr(rows, 'func', rows).__name__, *getattr(rows, 'args', ())]))}, "
    f"{params}": (rows, lambda X, params=params: fitted(X, **params))
    for rows, all_params in PARAMS.items()
    for params in all_params
} | OTHERS


# -- results ---------------------------------------------------------------------------


def as_numbers(value: Any) -> np.ndarray:
    """Any output of an estimator as float64; strings by their first six bytes."""
    if sparse.issparse(value):
        value = value.toarray()
    if isinstance(value, pd.DataFrame):
        return np.column_stack([as_numbers(value[name]) for name in value])
    if isinstance(value, pd.Series):
        if pd.api.types.is_datetime64_any_dtype(value):
            value = (value - pd.Timestamp(0)) / pd.Timedelta(1, "D")
        value = value.to_numpy(dtype=object, na_value=np.nan)
    value = np.asarray(value)
    if value.dtype.kind in "OU":
        cells = [
            int.from_bytes(cell.encode()[:6].ljust(6), "big") if isinstance(cell, str) else cell
            for cell in value.ravel()
        ]
        value = np.array(cells, dtype=float).reshape(value.shape)
    return value.astype(np.float64)


def results(model: Any, X: Any, y: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Outputs of all methods that a fitted model has, for the first rows."""
    model, X = getattr(model, "best_estimator_", model), X[:N_SCORED]
    y = None if y is None else y[:N_SCORED]
    outputs: dict[str, Any] = {}

    def call(method: str, *args: Any, **kwargs: Any) -> None:
        function = getattr(model, method, None)
        if function is not None:
            known = inspect.signature(function).parameters
            outputs[method] = function(*args, **{k: v for k, v in kwargs.items() if k in known})

    call("transform", X, y=y)
    call("score_samples", X, y=y, n_draws=8)
    call("sample", N_SAMPLES, random_state=1, y=None if y is None else y[:N_SAMPLES])
    call("inverse_transform", outputs.get("transform"), y=y)
    if not sparse.issparse(X) and pd.isna(X).any(axis=None):
        call("impute", X, y=y)
    for method in ("predict", "predict_proba", "decision_function", "p_values", "explain"):
        call(method, X)
    history = getattr(getattr(model, "estimator_", model), "history_", [])
    for name in ("loss", "reconstruction_loss", "kl_loss", "val_loss", "learning_rate"):
        outputs[name] = [float(row.get(name, np.nan)) for row in history]
    return {name: as_numbers(value) for name, value in outputs.items()}


def run(names: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """Results by configuration."""
    outputs = {}
    for name in names:
        rows, fit, *conditions = CONFIGURATIONS[name]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outputs[name] = results(fit(rows()), rows(), *conditions)
        except Exception as error:  # all other configurations are still compared
            print(f"{name} failed: {type(error).__name__}: {error}")
            outputs[name] = {}
        tell(name)
    return outputs


def difference(old: np.ndarray, new: np.ndarray) -> float:
    """Largest relative difference; infinite if shapes differ or only one is NaN."""
    if old.shape != new.shape:
        return np.inf
    with np.errstate(invalid="ignore"):
        gap = np.where((old == new) | (np.isnan(old) & np.isnan(new)), 0.0, np.abs(old - new))
    gap = np.atleast_1d(np.where(np.isnan(gap), np.inf, gap))
    size = np.atleast_1d(np.where(np.isfinite(old), np.abs(old), 0.0))
    if gap.ndim > 1:  # columns have different units
        gap, size = gap.reshape(-1, gap.shape[-1]), size.reshape(-1, size.shape[-1])
    gap, size = gap.max(axis=0, initial=0.0), size.max(axis=0, initial=0.0)
    ratios = np.divide(gap, size, out=np.full_like(gap, np.inf), where=size > 0)
    return float(np.where(gap > NEGLIGIBLE, ratios, 0).max(initial=0))


def compare(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> tuple[str, bool]:
    """Describe how the results of a configuration differ, and whether too much."""
    if not new or not old:
        return "missing" if old else "not in the record", bool(old)
    if all(k in new and old[k].tobytes() == new[k].tobytes() for k in old):
        return "equal bits", False
    gaps = {k: difference(old[k], new[k]) if k in new else np.inf for k in old}
    worst = max(gaps, key=gaps.get)
    return f"{worst} differs by {gaps[worst]:.1e}", gaps[worst] > TOLERANCE


def main() -> int:
    args = options(__doc__, record=Path(), compare=Path(), only=[""])
    outputs = run([name for name in args.only if name] or list(CONFIGURATIONS))
    if args.record.name:
        arrays = {f"{name}/{k}": v for name, own in outputs.items() for k, v in own.items()}
        np.savez_compressed(args.record, **arrays)
        return int(not all(outputs.values()))
    before: dict[str, dict[str, np.ndarray]] = {}
    with np.load(args.compare) as stored:
        for key in stored.files:
            name, _, output = key.rpartition("/")
            before.setdefault(name, {})[output] = stored[key]
    verdicts = {name: compare(before.get(name, {}), own) for name, own in outputs.items()}
    for name, (text, is_failure) in verdicts.items():
        print(f"{'FAILED ' * is_failure}{name}: {text}")
    print(f"{sum(t == 'equal bits' for t, _ in verdicts.values())} of {len(verdicts)} equal")
    return int(any(is_failure for _, is_failure in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
