"""Regression test of numerical results: record them at one commit and compare at another.

    python benchmarks/regression.py record before.npz    # at the old commit
    python benchmarks/regression.py compare before.npz   # at the new one

Both commands fit the same small models to the same seeded rows, in about a minute on one core.
``record`` stores the results. ``compare`` prints which results are bit-identical and the
differences of all others, and exits with 1 if a relative difference exceeds 1e-6 or a result is
missing. ``--only NAME ...`` selects configurations.

A relative difference is the largest difference within a column divided by the largest absolute
value of that column. Absolute differences below 1e-12 are ignored. Compare on one machine, with
the same versions of numpy and torch.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import inspect
import pickle
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
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
from sklearn_vae.likelihoods import Gaussian, StudentT
from sklearn_vae.metrics import (
    active_units,
    decompose_uncertainty,
    disentanglement_scores,
    kl_per_dimension,
    mutual_information_gap,
    pit_calibration,
    total_correlation,
)
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.networks import ConvNet, GRUNet, ResidualMLP
from sklearn_vae.objectives import (
    IWAE,
    MMD,
    CapacityELBO,
    LinearWarmup,
    TotalCorrelation,
    TrimmedELBO,
)
from sklearn_vae.posteriors import (
    FullCovarianceGaussian,
    GaussianCategorical,
    RelaxedCategorical,
)
from sklearn_vae.priors import MixturePrior, VampPrior

Results = dict[str, np.ndarray]

TOLERANCE = 1e-6
# Smaller absolute differences are ignored: they are rounding errors of numbers that should be 0.
NEGLIGIBLE = 1e-12
# Number of rows that are encoded and scored, and of samples.
N_SCORED = 20
N_SAMPLES = 5
VERSIONS = "versions"
CONFIGURATIONS: dict[str, Callable[[], Results]] = {}


# -- models ----------------------------------------------------------------------------


def vae(**params: Any) -> VAETransformer:
    """VAETransformer with several batches per epoch, which trains fast.

    Without early stopping, which on small tables returns the initial parameters.
    """
    defaults = {
        "early_stopping": False,
        "n_components": 2,
        "hidden_layer_sizes": (8,),
        "max_iter": 3,
        "batch_size": 64,
        "random_state": 0,
    }
    return VAETransformer(**(defaults | params))


def density(**params: Any) -> VAEDensity:
    defaults = {"n_components": 2, "hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
    return VAEDensity(**(defaults | params))


def detector(**params: Any) -> VAEOutlierDetector:
    defaults = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
    return VAEOutlierDetector(**(defaults | params))


def imputer(**params: Any) -> VAEImputer:
    return VAEImputer(vae(), random_state=1, **params)


# -- rows ------------------------------------------------------------------------------


def codes(n_rows: int = 120) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng, rng.normal(size=(n_rows, 2))


def real_rows(n_rows: int = 120, n_columns: int = 5) -> np.ndarray:
    """A noisy curved sheet: (n_rows, n_columns)."""
    rng, z = codes(n_rows)
    curved = np.tanh(z @ rng.normal(size=(2, n_columns)))
    return 10.0 + 3.0 * curved + 0.3 * rng.normal(size=curved.shape)


def binary_rows() -> np.ndarray:
    rng, z = codes()
    return (z @ rng.normal(size=(2, 6)) + rng.normal(size=(120, 6)) > 0).astype(float)


def class_rows() -> np.ndarray:
    """Three columns of the classes 0, 1 and 2, in an order."""
    rng, z = codes()
    return np.digitize(z @ rng.normal(size=(2, 3)) + rng.normal(size=(120, 3)), [-0.7, 0.7]) * 1.0


def count_rows() -> np.ndarray:
    rng, z = codes()
    return rng.poisson(np.exp(1.0 + 0.5 * z @ rng.normal(size=(2, 4)))).astype(float)


def zero_inflated_rows() -> np.ndarray:
    X = real_rows()
    X[X < 9.0] = 0.0
    return X


def incomplete_rows(n_rows: int = 120) -> np.ndarray:
    X = real_rows(n_rows)
    X[np.random.default_rng(1).random(X.shape) < 0.15] = np.nan
    return X


def classes() -> np.ndarray:
    """A class per row, which the rows depend on: 0, 1 or 2."""
    return np.digitize(codes()[1][:, 0], [-0.5, 0.5])


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
    if isinstance(value, list) and value and isinstance(value[0], pd.DataFrame):
        return np.stack([as_numbers(table) for table in value])
    value = np.asarray(value)
    if value.dtype.kind in "OU":
        value = np.array([text_as_number(cell) for cell in value.ravel()]).reshape(value.shape)
    return value.astype(np.float64)


def text_as_number(value: Any) -> float:
    """First six bytes of a string, which a float represents exactly; numbers are unchanged."""
    if not isinstance(value, str):
        return float(value)
    return float(int.from_bytes(value.encode()[:6].ljust(6), "big"))


def history_of(model: Any) -> dict[str, Any]:
    """Losses by iteration; NaN if not recorded."""
    names = ("loss", "reconstruction_loss", "kl_loss", "val_loss", "learning_rate")
    records = model.history_
    return {
        f"history {name}": [float(record.get(name, np.nan)) for record in records]
        for name in names
        if any(name in record for record in records)
    }


def call(model: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method, with ``n_draws`` if it has this parameter."""
    function = getattr(model, method)
    if "n_draws" not in inspect.signature(function).parameters:
        kwargs.pop("n_draws", None)
    return function(*args, **kwargs)


def results(model: Any, X: Any, y: Any = None, prefix: str = "") -> Results:
    """Outputs of all methods that a fitted model has, for the first rows."""
    X = X[:N_SCORED]
    outputs: dict[str, Any] = {}
    y = y if getattr(model, "conditional", False) else None
    conditions = () if y is None else (y[:N_SCORED],)
    has = partial(hasattr, model)
    if has("transform"):
        outputs["transform"] = call(model, "transform", X, *conditions)
    if has("score_samples"):
        outputs["score_samples"] = call(model, "score_samples", X, *conditions, n_draws=8)
    if has("sample"):
        kwargs = {} if y is None else {"y": y[:N_SAMPLES]}
        outputs["sample"] = model.sample(N_SAMPLES, 1, **kwargs)
    if has("inverse_transform"):
        codes = outputs["transform"]
        outputs["inverse_transform"] = model.inverse_transform(codes, *conditions)
    if has("impute") and not sparse.issparse(X) and pd.isna(X).any(axis=None) and y is None:
        outputs["impute"] = model.impute(X)
        outputs["impute draws"] = model.impute(X, 3, random_state=1)
    for method in ("predict", "predict_proba", "decision_function", "p_values", "explain"):
        if has(method):
            outputs[method] = call(model, method, X)
    for attribute in ("n_iter_", "support_", "offset_"):
        if has(attribute):
            outputs[attribute] = getattr(model, attribute)
    for estimator in (model, getattr(model, "estimator_", None)):
        if hasattr(estimator, "history_"):
            outputs |= history_of(estimator)
    return {prefix + name: as_numbers(value) for name, value in outputs.items()}


# -- configurations --------------------------------------------------------------------


def configuration(function: Callable[[], Results]) -> Callable[[], Results]:
    CONFIGURATIONS[function.__name__] = function
    return function


def add(name: str, build: Callable[[], Any], rows: Callable[[], Any], y: Any = None) -> None:
    """Add a configuration of one model, which is constructed when it is run."""

    def run() -> Results:
        X, target = rows(), None if y is None else y()
        return results(build().fit(X, target), X, target)

    CONFIGURATIONS[name] = run


add("plain", vae, real_rows)
add("small table", lambda: vae(early_stopping="auto"), partial(real_rows, 60))
add("auto", lambda: vae(n_components="auto", early_stopping="auto"), partial(real_rows, 200, 8))
add("beta, free bits", lambda: vae(beta=2.0, free_bits=0.2), real_rows)
add("early stopping", lambda: vae(early_stopping="auto", max_iter=6), real_rows)
add("early stopping, no refit", lambda: vae(early_stopping=True, refit=False), real_rows)
add("deep, tanh", lambda: vae(hidden_layer_sizes=(8, 6), activation="tanh"), real_rows)
add("linear", lambda: vae(hidden_layer_sizes=()), real_rows)
add("one batch", lambda: vae(batch_size=256), real_rows)
add("float32", vae, lambda: real_rows().astype(np.float32))
add(
    "wide layers",  # products that are large enough for the routine of large ones
    lambda: vae(hidden_layer_sizes=(128, 64), batch_size=1024, max_iter=1),
    partial(real_rows, 2000, 16),
)
add("weight decay", lambda: vae(weight_decay=0.1), real_rows)
add("warm-up", lambda: vae(beta=LinearWarmup(0.5, 2), max_iter=4), real_rows)

add("gaussian per row", lambda: vae(likelihood=Gaussian("per_row")), real_rows)
add("gaussian per column", lambda: vae(likelihood=Gaussian("per_column")), real_rows)
add("gaussian fixed", lambda: vae(likelihood=Gaussian(0.3)), real_rows)
add("student-t", lambda: vae(likelihood="student_t"), real_rows)
add("student-t per column", lambda: vae(likelihood=StudentT("per_column")), real_rows)
add("log-normal", lambda: vae(likelihood="lognormal"), real_rows)
add("zero-inflated", vae, zero_inflated_rows)
add("bernoulli", vae, binary_rows)
add("categorical", lambda: vae(likelihood="categorical"), class_rows)
add("ordinal", lambda: vae(likelihood="ordinal"), class_rows)
add("poisson", lambda: vae(likelihood="poisson"), count_rows)
add("negative binomial", lambda: vae(likelihood="negative_binomial"), count_rows)
add(
    "likelihood by column",
    lambda: vae(likelihood=["gaussian", "student_t", "lognormal", "auto", "gaussian"]),
    real_rows,
)

add("mixture prior", lambda: vae(prior=MixturePrior(3)), real_rows)
add("vamp prior", lambda: vae(prior=VampPrior(3)), real_rows)
add("vamp prior of a mixed table", lambda: vae(prior=VampPrior(3)), frame)

add("full posterior", lambda: vae(posterior=FullCovarianceGaussian()), real_rows)
add("full posterior, missing", lambda: vae(posterior=FullCovarianceGaussian()), incomplete_rows)
add(
    "categorical posterior",
    lambda: vae(posterior=RelaxedCategorical(n_variables=2), n_components=6),
    real_rows,
)
add(
    "mixed posterior",
    lambda: vae(posterior=GaussianCategorical(n_classes=3), n_components=5),
    real_rows,
)

add("iwae", lambda: vae(objective=IWAE(3)), real_rows)
add(
    "iwae, early stopping",
    lambda: vae(objective=IWAE(3), early_stopping="auto", max_iter=6),
    partial(real_rows, 200),
)
add(
    "iwae, plain gradient",
    lambda: vae(objective=IWAE(3, doubly_reparameterized=False)),
    real_rows,
)
add("total correlation", lambda: vae(objective=TotalCorrelation(weight=3.0)), real_rows)
add("capacity", lambda: vae(objective=CapacityELBO(2.0, gamma=3.0, n_iter=2)), real_rows)
add("mmd", lambda: vae(objective=MMD(weight=3.0)), real_rows)
add("trimmed", lambda: vae(objective=TrimmedELBO(0.1)), real_rows)


class Gated(nn.Module):
    """A user's network."""

    def __init__(self, n_in: int, n_out: int, width: int = 6):
        super().__init__()
        self.first, self.gate = nn.Linear(n_in, width), nn.Linear(n_in, width)
        self.last = nn.Linear(width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * torch.sigmoid(self.gate(x)))


def recurrent(**params: Any) -> VAETransformer:
    return vae(network=GRUNet(sequence_shape=(6, 1), n_units=6, **params))


add("residual", lambda: vae(network=ResidualMLP(n_units=8)), real_rows)
add(
    "convolution",
    lambda: vae(network=ConvNet(image_shape=(8, 8), channels=(2, 4))),
    partial(real_rows, 120, 64),
)
add("recurrent", recurrent, partial(real_rows, 120, 6))
add(
    "recurrent, not autoregressive",
    lambda: recurrent(autoregressive=False),
    partial(real_rows, 120, 6),
)
add("recurrent, input dropout", lambda: recurrent(word_dropout=0.3), partial(real_rows, 120, 6))
add("own networks", lambda: vae(encoder=Gated, decoder=partial(Gated, width=4)), real_rows)

add("missing values", vae, incomplete_rows)
add(
    "missing values, early stopping",
    lambda: vae(early_stopping="auto", max_iter=6),
    partial(incomplete_rows, 200),
)
add("data frame", vae, frame)
add("sparse", vae, lambda: sparse.csr_matrix(count_rows()))
add("several starts", lambda: vae(n_init=3, early_stopping="auto"), real_rows)
add("conditional on classes", lambda: vae(conditional=True), real_rows, classes)
add(
    "conditional on numbers",
    lambda: vae(conditional=True),
    incomplete_rows,
    lambda: codes()[1][:, 0],
)


@configuration
def ensemble() -> Results:
    X = real_rows()
    model = vae(n_init=3, ensemble=True).fit(X)
    parts = decompose_uncertainty(model, X[:N_SCORED], n_draws=8)
    return results(model, X) | {name: as_numbers(v) for name, v in parts._asdict().items()}


@configuration
def sample_weights() -> Results:
    X, weight = real_rows(), np.arange(120) % 4 / 1.5
    return results(vae().fit(X, sample_weight=weight), X)


@configuration
def class_means() -> Results:
    """A conditional model that scores rows without their classes."""
    X = real_rows()
    model = vae(conditional=True).fit(X, classes())
    outputs = {
        "transform": model.transform(X[:N_SCORED]),
        "score_samples": model.score_samples(X[:N_SCORED], n_draws=8),
        "sample": model.sample(N_SAMPLES, 1),
    }
    return {name: as_numbers(value) for name, value in outputs.items()}


@configuration
def warm_start() -> Results:
    X = real_rows()
    model = vae(warm_start=True).fit(X)
    return results(model, X, prefix="first ") | results(model.fit(X), X, prefix="second ")


@configuration
def partial_fit() -> Results:
    X, model = real_rows(), vae()
    for i in range(4):
        model.partial_fit(X[i % 2 :: 2])
    return results(model, X)


@configuration
def partial_fit_with_missing_cells() -> Results:
    X, model = incomplete_rows(), vae()
    return results(model.partial_fit(real_rows()).partial_fit(X), X)


@configuration
def save_and_load() -> Results:
    outputs = {}
    for name, model, X in (("vae", vae(), frame()), ("density", density(), real_rows())):
        model.fit(X)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.vae"
            model.save(path)
            outputs |= results(load(path), X, prefix=f"{name}, file: ")
        outputs |= results(pickle.loads(pickle.dumps(model)), X, prefix=f"{name}, pickle: ")
    return outputs


@configuration
def interpolate() -> Results:
    X = real_rows()
    return {"interpolate": as_numbers(vae().fit(X).interpolate(X[0], X[1], 4))}


@configuration
def diagnostics() -> Results:
    X = real_rows()
    model, labels = vae().fit(X), np.column_stack([classes(), np.arange(120) % 3])
    Z = model.transform(X)
    marginal = pit_calibration(model, X[:N_SCORED], n_draws=32)
    conditional = pit_calibration(model, X[:N_SCORED], n_draws=32, distribution="conditional")
    scores = disentanglement_scores(Z, labels)
    outputs = {
        "kl_per_unit": kl_per_dimension(model, X),
        "active_units": active_units(model, X),
        "total_correlation": total_correlation(model, X),
        "calibration": marginal.pit,
        "calibration given others": conditional.pit,
        "mutual_information_gap": mutual_information_gap(Z, labels),
        "disentanglement": [scores.disentanglement, scores.completeness, scores.informativeness],
    }
    return {name: as_numbers(value) for name, value in outputs.items()}


add("density", density, partial(real_rows, 200))
add("density, one full", lambda: density(mixtures=[(1, "full")]), real_rows)
add("density of binary columns", density, lambda: np.hstack([real_rows(), binary_rows()]))
add("density, no early stopping", lambda: density(early_stopping=False), real_rows)
add("density, small table", density, partial(real_rows, 60))


@configuration
def density_weights() -> Results:
    X, weight = real_rows(), np.arange(120) % 4 / 1.5
    model = density(mixtures=[(2, "diag"), (3, "full")], refit=False)
    return results(model.fit(X, sample_weight=weight), X)


METHODS = ("neighbors", "log_likelihood", "reconstruction_probability", "reconstruction")


@configuration
def detector_methods() -> Results:
    X, outputs = real_rows(), {}
    for method in METHODS:
        model = detector(method=method).fit(X)
        outputs |= results(model, X, prefix=f"{method}: ")
    return outputs


@configuration
def detector_weights() -> Results:
    X, weight = real_rows(), np.arange(120) % 3
    return results(detector().fit(X, sample_weight=weight), X)


add("detector", detector, real_rows)
add("detector, novelty", lambda: detector(novelty=True), real_rows)
add(
    "detector, conformal",
    lambda: detector(calibration="conformal", novelty=True, contamination=0.1),
    real_rows,
)


add("imputer", lambda: imputer(add_indicator=True), incomplete_rows)
add("imputer, draws", lambda: imputer(n_imputations=3), incomplete_rows)
add("imputer of a data frame", lambda: imputer(n_imputations=1), frame)
add(
    "classifier",
    lambda: VAEClassifier(vae(), priors=[0.2, 0.3, 0.5], n_draws=8),
    incomplete_rows,
    lambda: np.array(["a", "b", "c"])[classes()],
)


def searched(early_stopping: Any, **options: Any) -> Results:
    """Test scores of a search, and outputs of its best estimator."""
    X, grid = real_rows(200), {"n_components": [1, 2], "beta": [0.5, 1.0, 2.0]}
    model = vae(max_iter=4, early_stopping=early_stopping)
    search = VAESearchCV(model, grid, cv=3, **options).fit(X)
    table = search.cv_results_
    outputs = {name: table[name] for name in table if name.endswith("_test_score")}
    outputs["best_params_"] = [search.best_params_[name] for name in sorted(grid)]
    for name in ("n_candidates_", "n_resources_"):
        if hasattr(search, name):
            outputs[name] = getattr(search, name)
    outputs = {name: as_numbers(value) for name, value in outputs.items()}
    return outputs | results(search.best_estimator_, X)


@configuration
def search_grid() -> Results:
    return searched("auto")


@configuration
def search_halving() -> Results:
    return searched(False, factor=2)


@configuration
def search_random() -> Results:
    return searched(False, n_iter=3, random_state=0)


# -- recording and comparing -----------------------------------------------------------


def run(names: list[str]) -> tuple[dict[str, Results], dict[str, str]]:
    """Return results and error messages by configuration."""
    outputs, failed = {}, {}
    for name in names:
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outputs[name] = CONFIGURATIONS[name]()
        except Exception as error:  # all other configurations are still compared
            failed[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return outputs, failed


def versions() -> str:
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("numpy", "scipy", "sklearn", "torch"):
        versions[name] = import_module(name).__version__
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def difference(old: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """Return the largest absolute and relative difference; infinite if only one is NaN."""
    if old.shape != new.shape:
        return np.inf, np.inf
    with np.errstate(invalid="ignore"):
        gap = np.where((old == new) | (np.isnan(old) & np.isnan(new)), 0.0, np.abs(old - new))
    gap = np.atleast_1d(np.where(np.isnan(gap), np.inf, gap))
    size = np.atleast_1d(np.where(np.isfinite(old), np.abs(old), 0.0))
    if gap.ndim > 1:  # columns have different units
        gap, size = gap.reshape(-1, gap.shape[-1]), size.reshape(-1, size.shape[-1])
    gap, size = gap.max(axis=0, initial=0.0), size.max(axis=0, initial=0.0)
    ratios = np.divide(gap, size, out=np.full_like(gap, np.inf), where=size > 0)
    return float(gap.max(initial=0.0)), float(np.where(gap > NEGLIGIBLE, ratios, 0).max(initial=0))


def verdict(old: np.ndarray | None, new: np.ndarray | None) -> tuple[str, bool]:
    """Return a description of the difference, and whether it exceeds the tolerance."""
    if old is None:
        return "not in the record", False
    if new is None:
        return "missing", True
    if old.shape == new.shape and old.tobytes() == new.tobytes():
        return "equal bits", False
    if old.shape != new.shape:
        return f"shape {old.shape} is now {new.shape}", True
    absolute, relative = difference(old, new)
    return f"differs by {absolute:.1e}, relative {relative:.1e}", relative > TOLERANCE


def record(path: Path, names: list[str]) -> int:
    """Store all results, unless a configuration fails."""
    outputs, failed = run(names)
    for name, error in failed.items():
        print(f"{name} failed: {error}")
    if failed:
        return 1
    arrays = {f"{name}/{key}": value for name in outputs for key, value in outputs[name].items()}
    np.savez_compressed(path, **{VERSIONS: np.array(versions())}, **arrays)
    print(f"{len(outputs)} configurations, {len(arrays)} results: {path}")
    return 0


def compare(path: Path, names: list[str]) -> int:
    """Print the differences from the stored results; return 1 if one exceeds the tolerance."""
    with np.load(path) as stored:
        if str(stored[VERSIONS]) != versions():
            print(f"Recorded with {stored[VERSIONS]}; this is {versions()}.\n")
        before: dict[str, Results] = {}
        for key in stored.files:
            if key != VERSIONS:
                name, title = key.split("/", 1)
                before.setdefault(name, {})[title] = stored[key]
    outputs, failed = run(names)
    if len(names) == len(CONFIGURATIONS):
        names = list(dict.fromkeys([*names, *before]))
    n_equal = n_results = 0
    worst = []
    print("| configuration | results | |\n| --- | --- | --- |")
    for name in names:
        if name in failed:
            worst.append(name)
            print(f"| {name} | all | **failed**: {failed[name]} |")
            continue
        old, new = before.get(name, {}), outputs.get(name, {})
        groups: dict[tuple[str, bool], list[str]] = {}
        for title in {**old, **new}:
            groups.setdefault(verdict(old.get(title), new.get(title)), []).append(title)
        for (text, is_failure), titles in groups.items():
            n_results += len(titles)
            n_equal += len(titles) * (text == "equal bits")
            if is_failure:
                worst += [f"{name}/{title}" for title in titles]
            mark = f"**{text}**" if is_failure else text
            listed = "all " * (len(groups) == 1) + str(len(titles))
            if text != "equal bits":
                listed += f": {', '.join(titles)}"
            print(f"| {name} | {listed} | {mark} |")
    print(f"\n{n_equal} of {n_results} results have equal bits; {len(worst)} fail.")
    for name in worst:
        print(f"  {name}")
    return int(bool(worst))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="configurations to run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = args.only or list(CONFIGURATIONS)
    if unknown := set(names) - set(CONFIGURATIONS):
        parser.error(f"no configuration is called {', '.join(sorted(unknown))}")
    if args.file.suffix != ".npz":
        parser.error("FILE must end in .npz")
    return (record if args.command == "record" else compare)(args.file, names)


if __name__ == "__main__":
    sys.exit(main())
