"""A saved model that computes with numpy, and its reading from a file."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sklearn_vae.data.arrays import has_missing_values
from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.data.fields import Field, time_type
from sklearn_vae.inference.correction import correction_at
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.registry import SUBSTITUTES
from sklearn_vae.persistence.serialization import deserialize, insert_arrays, memory_budget
from sklearn_vae.persistence.validation import check_array, check_count
from sklearn_vae.runtime.functions import normal_points
from sklearn_vae.runtime.likelihoods import LIKELIHOODS
from sklearn_vae.runtime.vae import (
    VAE,
    Architecture,
    DiagonalGaussian,
    FullyConnected,
    MixturePrior,
    StandardNormal,
    VampPrior,
)
from sklearn_vae.seeds import Stream, stream_seed

# Classes in numpy, by the names of the classes in a file.
CLASSES: dict[str, Any] = LIKELIHOODS | {
    cls.__name__: cls
    for cls in (
        Architecture,
        DiagonalGaussian,
        FullyConnected,
        MixturePrior,
        StandardNormal,
        VampPrior,
    )
}
# Fitted attributes that a model needs.
ATTRIBUTES = (
    "columns_", "architecture_", "state_dict_", "seed_", "decoder_correction_", "code_range_",
)  # fmt: skip
# Containers of numbers, of those of a schema.
ARRAYS = ("array", "sparse")
# Draws from each of the two proposals, for a score and for imputed means.
SCORE_DRAWS, IMPUTE_DRAWS = 64, 128
# Numbers in the widest array of a chunk of rows.
CHUNK_SIZE = 1 << 20


class Model:
    """A fitted :class:`~sklearn_vae.VAETransformer` that computes with numpy; see :func:`load`.

    Rows are arrays of numbers, with NaN for missing values. If the model was fitted to a data
    frame with categories, rows are lists or object arrays, with the categories themselves.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    n_components : int
        Number of latent dimensions.
    """

    def __init__(
        self,
        columns: TableEncoder,
        vae: VAE,
        seed: int,
        correction: np.ndarray | None,
        code_range: np.ndarray | None,
        fields: Sequence[Field] | None,
        handle_unknown: str,
    ):
        self.columns, self.vae, self.seed = columns, vae, seed
        self.correction, self.code_range = correction, code_range
        self.fields, self.handle_unknown = fields, handle_unknown
        self.n_features_in_ = columns.n_features
        self.n_components = vae.architecture.n_components
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    # -- methods of the estimator -----------------------------------------------------

    def transform(self, X: Any) -> np.ndarray:
        """Encode rows: the mean of q(z|x), as ``VAETransformer.transform``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes.

        Raises
        ------
        ValueError
            If values are missing, and the model was fitted to complete rows.
        """
        encoded = self.columns.transform(self._read(X))
        if not self.vae.architecture.n_factors and np.isnan(encoded).any():
            raise ValueError(
                "The numpy runtime does not encode rows with missing or unknown values by a model "
                "that was fitted to complete rows; sklearn_vae.load reads the estimator that does."
            )
        return self._map(lambda x: self.vae.encode(x[None])[0][0], encoded, 1)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Decode codes: the mean of p(x|z), as ``VAETransformer.inverse_transform``.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows; objects if the model was fitted to categories.
        """
        z = np.asarray(Z, dtype=np.float64)
        if z.ndim != 2 or z.shape[1] != self.n_components or not np.isfinite(z).all():
            raise ValueError(
                f"Z must be finite and of shape (n_samples, {self.n_components}). "
                f"Got shape {z.shape} instead."
            )
        mean = self._map(lambda z: self.vae.mean(z)[0], z, 1)
        if self.correction is not None:
            mean = mean + correction_at(z, self.correction, self.code_range)
        return self._write(self.columns.inverse_transform(mean))

    def score_samples(self, X: Any, n_draws: int = SCORE_DRAWS) -> np.ndarray:
        """Log p(x) of each row in nats and X's units, by importance sampling.

        Codes are drawn from the encoder and from the prior, as ``VAETransformer.score_samples``
        does first; the estimator goes on to better proposals where these are poor.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows. A missing value is integrated out.
        n_draws : int, default=64
            Draws from each of the two.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log-densities.
        """
        rows, points = self._read(X), self._points(check_count("n_draws", n_draws))

        def log_density(x: np.ndarray) -> np.ndarray:
            log_p = self.vae.log_evidence(x, *points)
            return np.logaddexp.reduce(log_p, axis=0) - np.log(len(log_p))

        log_p = self._map(log_density, self.columns.transform(rows), 2 * n_draws)
        return log_p + self.columns.log_abs_det_jacobian(rows)

    def impute(self, X: Any) -> np.ndarray:
        """Replace missing values by their means, or likeliest classes, given the observed ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows without missing values; objects if the model was fitted to categories.
        """
        rows, points = self._read(X).copy(), self._points(IMPUTE_DRAWS)
        if self.fields is not None:  # unknown categories, which no table can hold
            is_categorical = np.array([field.categories is not None for field in self.fields])
            rows = np.where(is_categorical & (rows < 0), np.nan, rows)
        incomplete = has_missing_values(rows)
        if incomplete.any():
            some, is_rounded = rows[incomplete], np.zeros(self.n_features_in_, dtype=bool)
            if self.fields is not None:
                is_rounded = np.array([field.logical_type != "number" for field in self.fields])
            mean = self._map(
                lambda x: self.vae.conditional_mean(x, *points),
                self.columns.transform(some),
                2 * IMPUTE_DRAWS,
            )
            rows[incomplete] = self.columns.fill_missing(some, mean, is_rounded)
        return self._write(rows)

    def sample(self, n_samples: int = 1, random_state: int | None = None) -> np.ndarray:
        """Draw rows from the model's density.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, default=None
            Seed; None takes that of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows; objects if the model was fitted to categories.
        """
        seed = self.seed if random_state is None else random_state
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        encoded = self.vae.sample(check_count("n_samples", n_samples), generator)
        return self._write(self.columns.inverse_transform(encoded, is_sample=True, seed=seed))

    # -- rows --------------------------------------------------------------------------

    def _read(self, X: Any) -> np.ndarray:
        """Convert rows to numbers, with codes for categories: (n, n_features)."""
        table = np.asarray(X, dtype=np.float64 if self.fields is None else object)
        if table.ndim != 2 or table.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X must be of shape (n_samples, {self.n_features_in_}). Got shape {table.shape} "
                f"instead."
            )
        rows = table if self.fields is None else self._read_fields(table, self.fields)
        if np.isinf(rows).any():
            raise ValueError("X contains infinity.")
        if self.handle_unknown == "infrequent":
            return rows
        is_missing = self.handle_unknown == "missing"
        return self.columns.check_values(rows, unknown_is_missing=is_missing)

    def _read_fields(self, table: np.ndarray, fields: Sequence[Field]) -> np.ndarray:
        """Convert a table of objects to numbers: None and NaN are missing values."""
        rows = np.empty(table.shape)
        for j, (field, column) in enumerate(zip(fields, table.T, strict=True)):
            is_missing = np.array([value is None or value != value for value in column], dtype=bool)
            rows[is_missing, j] = np.nan
            values = column[~is_missing].tolist()
            if field.categories is None:
                rows[~is_missing, j] = values
            else:
                codes = np.arange(len(values))
                rows[~is_missing, j] = field.recode(codes, values, self.handle_unknown)
        return rows

    def _write(self, rows: np.ndarray) -> np.ndarray:
        """Convert numbers to values of the columns' types."""
        if self.fields is None:
            return rows
        table = np.empty(rows.shape, dtype=object)
        for j, field in enumerate(self.fields):
            table[:, j] = field.decode(rows[:, j], missing=np.nan)
        return table

    def _map(self, function: Any, rows: np.ndarray, n_draws: int) -> np.ndarray:
        """Apply a function to chunks of rows, with so many draws for each."""
        architecture = self.vae.architecture
        n_members = len(self.vae.weights["free"])
        widest = max(*architecture.hidden_layer_sizes, architecture.n_columns, 1)
        step = max(CHUNK_SIZE // (widest * n_draws * n_members), 1)
        starts = range(0, max(len(rows), 1), step)
        return np.concatenate([function(rows[first : first + step]) for first in starts])

    def _points(self, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Normal draws for the encoder's proposals (K, l), and draws from the prior (M, K, l).

        Those of the default numbers are kept.
        """
        if n_draws in self._kept:
            return self._kept[n_draws]
        generator = np.random.default_rng(stream_seed(self.seed, Stream.SCORE))
        noise, prior_noise = (
            normal_points(n_draws, self.n_components, generator) for _ in range(2)
        )
        points = noise, self.vae.prior.sample(prior_noise, generator)
        if n_draws in (SCORE_DRAWS, IMPUTE_DRAWS):
            self._kept[n_draws] = points
        return points


def load(path: file_format.PathLike) -> Model:
    """Read a saved ``VAETransformer`` as a model that computes with numpy alone.

    Parameters
    ----------
    path : str or path-like
        Path of a file that ``save`` has written.

    Returns
    -------
    Model
        With the estimator's methods ``transform``, ``inverse_transform``, ``score_samples``,
        ``impute`` and ``sample``.

    Raises
    ------
    ValueError
        If the file is damaged, or holds an estimator or a part that the runtime does not support.
    OSError
        If the file cannot be read.

    See Also
    --------
    sklearn_vae.load : Read the estimator itself, which computes with torch.

    Examples
    --------
    >>> import tempfile, pathlib, sklearn_vae.runtime
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> vae = sklearn_vae.VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vae.save(pathlib.Path(folder, "iris.vae"))
    ...     model = sklearn_vae.runtime.load(pathlib.Path(folder, "iris.vae"))
    >>> bool(abs(model.transform(X) - vae.transform(X)).max() < 1e-6)
    True
    """
    header, arrays = file_format.read(path)
    if header.get("kind") != "model":
        raise ValueError(f"{path}: the file holds no estimator, but a {header.get('kind')!r}.")
    if unsupported := _unsupported(header):
        raise ValueError(
            f"{path}: the numpy runtime does not support {', '.join(sorted(unsupported))}. "
            f"sklearn_vae.load reads the file."
        )
    try:
        with memory_budget(os.path.getsize(path)), _classes_in_numpy():
            model = _read_model(header, arrays)
    except MemoryError:
        raise
    except Exception as error:
        # with a valid checksum and invalid contents the file is forged: any statement may fail
        raise ValueError(f"{path}: the file does not hold a valid model: {error!r:.300}") from error
    return model


@contextmanager
def _classes_in_numpy() -> Iterator[None]:
    """Replace classes of torch by those of numpy while a file is read."""
    token = SUBSTITUTES.set(CLASSES)
    try:
        yield
    finally:
        SUBSTITUTES.reset(token)


def _unsupported(header: dict[str, Any]) -> set[str]:
    """Return the parts of a file that the runtime does not have."""
    if header["class"] != "VAETransformer":
        return {str(header["class"])}
    fitted = header["fitted"]
    names = set(_class_names(fitted["architecture_"])) - set(CLASSES)
    if fitted["condition_encoder_"] is not None:
        names.add("conditional=True")
    if any(time_type(field.dtype) for field in _fields(header) or ()):
        names.add("dates and durations")
    return names


def _fields(header: dict[str, Any]) -> list[Field] | None:
    """Types of the columns, if rows hold anything but real numbers."""
    if (schema := header["fitted"]["schema_"]) is None or schema["state"]["container"] in ARRAYS:
        return None
    fields = [Field.from_dict(deserialize(field)) for field in schema["state"]["fields"]]
    is_real = all(field.logical_type == "number" and field.is_numeric for field in fields)
    return None if is_real else fields


def _class_names(value: Any) -> Iterator[str]:
    """Names of the classes of a header's objects."""
    if isinstance(value, dict):
        if isinstance(name := value.get("@object"), str):
            yield name
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _class_names(item)


def _read_model(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Model:
    """Construct the model of a file, and check that it scores and draws a row."""
    fitted = deserialize(
        insert_arrays({name: header["fitted"][name] for name in ATTRIBUTES}, arrays)
    )
    columns, weights = fitted["columns_"], fitted["state_dict_"]
    for name, value in weights.items():
        check_array(name, value, "f", (None,) * np.ndim(value))
        weights[name] = value.astype(np.float64)
    architecture = fitted["architecture_"]
    if architecture.blocks != columns.blocks:
        raise ValueError("the model's columns are not those of the table")
    if weights["encoder.linear.weight"].shape[-1:] != (2 * architecture.n_components,):
        raise ValueError("the model's latent dimensions are not those of the weights")
    model = Model(
        columns,
        VAE(architecture, weights, columns.limits()),
        fitted["seed_"],
        fitted["decoder_correction_"],
        fitted["code_range_"],
        _fields(header),
        header["parameters"]["handle_unknown"],
    )
    row = model.inverse_transform(np.zeros((1, model.n_components)))
    model.score_samples(row, 1)
    model.sample(1)
    return model
