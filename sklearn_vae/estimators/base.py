"""Base classes of the estimators: the template of ``fit``, validation and encoding of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import signature
from itertools import pairwise
from operator import is_not
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

import narwhals as nw
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import check_is_fitted

from sklearn_vae._compat import num_samples
from sklearn_vae.data.arrays import Rows, Table, Target, Weights, as_array
from sklearn_vae.data.conditions import ConditionEncoder, Conditions, read_conditions
from sklearn_vae.data.fields import Field, check_column_names, rounded_columns
from sklearn_vae.data.fit import fit_encoder
from sklearn_vae.data.reading import TableReader
from sklearn_vae.data.schema import Schema
from sklearn_vae.data.sources import SourceRows, as_source, check_is_table, sample_of
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.estimators.checks import (
    CONSTRAINTS,
    check_callbacks,
    check_network,
    check_row_lengths,
    check_weights,
    fit_schema,
    resolve_widths,
    with_column_names,
)
from sklearn_vae.estimators.column_warnings import warn_of_columns, warn_of_conditions
from sklearn_vae.estimators.estimator_base import (
    EstimatorBase,
    FitRows,
    ValidatedRows,
    caller_name,
    copy_columns,
    has_caller,
    resolve,
    restore_on_error,
    validate_columns,
)
from sklearn_vae.inference.fitted_models import FittedModel
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.networks import Network, RowStructure
from sklearn_vae.numerics.random import MAX_DIMS, Stream, make_generator, stream_seed
from sklearn_vae.numerics.rows import small_batches
from sklearn_vae.persistence.validation import invalid_parameter
from sklearn_vae.system import warn
from sklearn_vae.system.compute import device_to_score_on, resolve_device
from sklearn_vae.training.interruption import keyboard, raise_interruption

if TYPE_CHECKING:
    from sklearn_vae.training.dataset import Dataset
    from sklearn_vae.training.jobs import TrainingJob, TrainingResult

# Columns of a single row have no variance.
MIN_ROWS = 2
# Minimum number of rows for early_stopping="auto" to set validation rows aside.
MIN_ROWS_TO_VALIDATE = 100
# Objects made of estimators' fitted attributes, and these attributes.
Cache = WeakKeyDictionary[BaseEstimator, tuple[list[object], Any]]

# Fitted models with their torch modules, of which neither pickles nor clones have a copy.
_PREDICTORS: Cache = WeakKeyDictionary()

PredictorT = TypeVar("PredictorT", bound=FittedModel)
# What ``_make_jobs`` knows of the rows, for ``_select`` and ``_set_results``.
RowsT = TypeVar("RowsT")
Cached = TypeVar("Cached")


def cached(
    cache: Cache, estimator: BaseEstimator, make: Callable[[], Cached], *others: object
) -> Cached:
    """Return an estimator's object, made anew if a fitted attribute or another object changed."""
    attributes = [value for name, value in vars(estimator).items() if name.endswith("_")]
    attributes += others
    old_attributes, value = cache.get(estimator, ([], None))
    if len(attributes) != len(old_attributes) or any(map(is_not, attributes, old_attributes)):
        value = make()
        cache[estimator] = attributes, value
    return value


class TableEstimator(EstimatorBase, Generic[PredictorT, RowsT]):
    """Base of the estimators: validates and encodes a table, and trains models on it.

    A subclass defines ``_make_jobs``, ``_select``, ``_set_results`` and ``_make_predictor``.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS
    _max_components: ClassVar[int] = MAX_DIMS
    # maximum number of iterations on a table without validation rows: more gain a tenth of a nat on
    # some tables and lose several on others (docs/research/models.md)
    _iterations_of_small_tables: ClassVar[int] = 1
    # Whether a fit warns of values so far out that they alone decide the scale of a column.
    _warns_of_extremes: bool = True

    # values of parameters in estimators that do not have them
    handle_unknown: str = "infrequent"
    network: str | Network = "mlp"

    architecture_: Architecture
    columns_: TableEncoder
    condition_encoder_: ConditionEncoder | None = None
    schema_: Schema | None = None
    dtype_: np.dtype
    n_features_in_: int
    n_iter_: int
    history_: list[dict[str, Any]]
    interrupted_: bool
    seed_: int
    state_dict_: dict[str, np.ndarray]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = bool(self.conditional)
        return tags

    # -- the fitted model ------------------------------------------------------------

    @property
    def n_components_(self) -> int:
        """Number of latent dimensions."""
        check_is_fitted(self)
        return self.architecture_.n_components

    def _predictor(self) -> PredictorT:
        """Return the fitted model, whose torch modules serve until an attribute is set."""
        return cached(
            _PREDICTORS,
            self,
            lambda: self._make_predictor(device_to_score_on(self.device)),
            self.device,
            *self.state_dict_.values(),
        )

    def _make_predictor(self, device: str) -> PredictorT:
        """Make a predictor of the fitted attributes."""
        raise NotImplementedError

    def _validate_fitted(self) -> None:
        """Validate fitted attributes that were read from a file."""
        self._check_annotations()
        self._predictor().check()
        n_features = self.columns_.n_features
        if self.n_features_in_ != n_features or self.dtype_.kind != "f":
            raise ValueError(f"the model does not have {n_features} floating-point features")
        if len(self._fields) not in (0, n_features):
            raise ValueError(f"the schema has {len(self._fields)} columns and not {n_features}")
        names = getattr(self, "feature_names_in_", None)
        if names is not None and np.shape(names) != (n_features,):
            raise ValueError(f"feature_names_in_ must have {n_features} names. Got {names!r:.100}.")
        if self.columns_.n_conditions and self.condition_encoder_ is None:
            raise ValueError("there are conditions, and no encoder of y")

    # -- fit -------------------------------------------------------------------------

    def _fit(self, X: FitRows, y: Target, sample_weight: Weights) -> dict[int, TrainingResult]:
        """Train and set the fitted attributes, after Ctrl-C to the results so far.

        Return the results of the first training.
        """
        from sklearn_vae.training.stacked import train

        with keyboard.listen(), restore_on_error(self):
            jobs, rows = self._make_jobs(X, y, sample_weight)
            self.interrupted_ = False
            first: dict[int, TrainingResult] = {}
            try:
                params: dict[str, Any] = {"callbacks": self.callbacks, "verbose": int(self.verbose)}
                results, next_jobs = self._select(jobs, train(jobs, first, **params), rows)
                results = train(next_jobs, **params) if next_jobs else results
                self._set_results(results, rows)
            except KeyboardInterrupt:
                started = [index for index in sorted(first) if first[index].history]
                if not started:
                    raise
                self.interrupted_ = True
                results = [first[index] for index in started]
                results, _ = self._select([jobs[index] for index in started], results, rows)
                self._set_results(results, rows)
        if self.interrupted_ and has_caller():
            raise KeyboardInterrupt  # the caller warns
        if self.interrupted_:
            raise_interruption(
                f"{type(self).__name__}.fit was interrupted. The estimator is what training had "
                f"come to by then (n_iter_={self.n_iter_}), and interrupted_ is True."
            )
        return first

    def _make_jobs(
        self, X: FitRows, y: Target, sample_weight: Weights
    ) -> tuple[list[TrainingJob], RowsT]:
        """Make the jobs of the first training, and rows for ``_select`` and ``_set_results``."""
        raise NotImplementedError

    def _select(
        self, jobs: list[TrainingJob], results: list[TrainingResult], rows: RowsT
    ) -> tuple[list[TrainingResult], list[TrainingJob]]:
        """Select the members to keep: their results, and jobs of their second training, if any."""
        raise NotImplementedError

    def _set_results(self, results: list[TrainingResult], rows: RowsT) -> None:
        """Set the fitted attributes."""
        raise NotImplementedError

    def _condition_on_relations(self) -> None:
        """Divide densities by the probability that the model's rows keep orders and labels."""
        if len(self.columns_.related) and self.columns_.conditions is None:
            log_kept = self._predictor().log_kept(self.seed_)
            self.columns_ = replace(self.columns_, log_kept=log_kept)

    def _validate_params(self) -> None:
        check_network(self)
        super()._validate_params()
        check_callbacks(self)
        if self.n_components != "auto" and self.n_components > self._max_components:
            expected = (
                f"be at most {self._max_components}, the number of dimensions of Sobol's sequence, "
                f"whose points scores use"
            )
            raise invalid_parameter(self, "n_components", expected, self.n_components)

    def _check_rows(
        self, X: FitRows, y: Target, sample_weight: Weights, *, reset: bool
    ) -> tuple[np.ndarray | SourceRows, np.ndarray | None]:
        """Validate training rows, and append the columns of their conditions, if any."""
        if isinstance(X, ValidatedRows):
            self.schema_ = X.validated_by.schema_
            copy_columns(X.validated_by, self)
            return X.rows, None
        if self.conditional:
            check_is_table(X, "conditional=True")
        rows, weight = self._check_table(X, sample_weight, reset=reset)
        if not reset and self.conditional != (self.condition_encoder_ is not None):
            raise ValueError(
                f"The 'conditional' parameter must be {not self.conditional}, as in the fit that "
                f"this one goes on from. Got {self.conditional} instead."
            )
        if not self.conditional:
            self.condition_encoder_ = None
            return rows, weight
        if np.isscalar(y) or getattr(as_array(y, "y"), "ndim", 1) == 0:
            raise ValueError(f"y must have a value for each row of X in fit. Got {y!r} instead.")
        conditions = self._read_conditions(y, num_samples(X))
        if len(rows) < num_samples(X):
            is_positive = np.asarray(as_array(sample_weight)) > 0
            conditions = {name: column[is_positive] for name, column in conditions.items()}
        if reset:
            if not has_caller():  # a classifier's classes are numbered
                warn_of_conditions(conditions)
            self.condition_encoder_ = ConditionEncoder.fit(conditions, weight)
        codes = cast(ConditionEncoder, self.condition_encoder_).transform(conditions, rows.dtype)
        return np.hstack([sample_of(rows), codes]), weight

    def _read_conditions(self, y: Target, n_rows: int) -> Conditions:
        """Split y into columns (n_rows,), and refuse None."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: with "
                f"conditional=True it is a model of p(x|y)."
            )
        return read_conditions(y, n_rows)

    def _check_table(
        self, X: Rows, sample_weight: Weights, *, reset: bool
    ) -> tuple[np.ndarray | SourceRows, np.ndarray | None]:
        """Validate training rows, and leave out those of weight 0; of a long source, the sample."""
        weight = None
        if sample_weight is not None:
            X, weight = check_weights(X, sample_weight, MIN_ROWS if reset else 1)
            # of a smaller mean, they are hardly meant as numbers of copies
            if (total := weight.sum()) < 0.25 * len(weight):
                warn(
                    f"sample_weight is the number of times that each row counts, and its sum makes "
                    f"a table of {total:.3g} rows of the {len(weight)} with a weight above 0. "
                    f"Divide it by its mean to have each row count once on average."
                )
        source = as_source(X)
        if source is not None:
            X, n_rows = source.sample()
        X = as_array(X)
        if reset:
            self.schema_ = fit_schema(X, resolve("network", self.network))
            X = self._to_numbers(X, reset=True)
            warn_of_columns(X, self._fields, of_extremes=self._warns_of_extremes)
        else:
            X = self._validate(X)
            if descriptions := self.columns_.describe_unseen(X, self._fields):
                warn(
                    f"The columns' likelihoods were chosen by the rows of the first fit, and later "
                    f"rows have other values: {'; '.join(descriptions)}. These values keep a low "
                    f"score, and the model is not fitted to them. Begin with rows of all values."
                )
        if source is not None and n_rows > len(X):
            structure = self._row_structure

            def to_numbers(batch: Table) -> np.ndarray:
                rows = self._to_numbers(batch, reset=False).astype(X.dtype, copy=False)
                structure.check_missing(rows)
                return rows

            return SourceRows(X, source.map(to_numbers), n_rows), None
        return X, weight

    def _validate(self, X: Rows, columns: np.ndarray | None = None) -> np.ndarray:
        """Validate rows for a fitted model, and convert them to numbers.

        With ``columns`` (indices), the others become missing, and a data frame may lack them.
        """
        rows = self._to_numbers(X, reset=False, columns=columns)
        rows = self.columns_.check_values(rows, self._fields, self.handle_unknown)
        if self.architecture_.variable_length:
            check_row_lengths(self.architecture_, rows, self.columns_.is_empty)
        if columns is None:
            return rows
        rows = np.where(np.isin(np.arange(rows.shape[1]), columns), rows, np.nan)
        self.columns_.check_sources(rows)
        return rows

    def _to_numbers(self, X: Rows, *, reset: bool, columns: np.ndarray | None = None) -> np.ndarray:
        """Convert rows, with ``reset`` those of a first fit, to numbers: codes, NaN if missing."""
        if type(X) is not np.ndarray:
            check_is_table(X, caller_name(self))
            X = as_array(X)
        if self.schema_ is None:
            check = partial(validate_columns, self, reset=reset)
        else:
            check = partial(check_array, estimator=caller_name(self), input_name="X")
            if columns is not None and nw.dependencies.is_into_dataframe(X):
                X = self.schema_.transform_columns(X, columns, handle_unknown=self.handle_unknown)
            else:
                table = TableReader(X)  # refuses what is no table, of which scikit-learn says less
                if not reset and table.names is not None:
                    are_texts = all(isinstance(name, str) for name in table.names)
                    if not (are_texts and hasattr(self, "feature_names_in_")):
                        # scikit-learn checks names of text only
                        names = [field.name for field in self.schema_.fields]
                        check_column_names("X", table.names, names, "X in fit")
                validate_columns(self, X, reset=reset, skip_check_array=True)
                X = self.schema_.transform(table, handle_unknown=self.handle_unknown)
        try:
            with np.errstate(invalid="ignore"):  # scikit-learn sums values of 1e308
                return check(
                    X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan",
                    ensure_min_samples=MIN_ROWS if reset else 1,
                )  # fmt: skip
        except ValueError as error:
            names = [field.name for field in self._fields]
            raise with_column_names(error, X, names) from None

    def _restore_table(
        self,
        X: np.ndarray,
        like: object = None,
        columns: np.ndarray | None = None,
        observed: np.ndarray | bool = False,
    ) -> Any:
        """Convert rows of numbers to an array or data frame of the type that X had in ``fit``.

        The rows of a pandas frame get the index of ``like``. ``columns`` are the indices of X's
        columns, if they are not all. Cells of the mask ``observed`` are not computed.
        """
        if self.schema_ is None:
            return X
        columns = np.arange(self.n_features_in_) if columns is None else columns
        schema, is_positive = self.schema_.select(columns), self.columns_.is_positive[columns]
        X = schema.nearest_possible(X, is_positive, observed)
        return schema.inverse_transform(X, like=like)

    def _restore_imputed(self, imputed: np.ndarray, missing: np.ndarray, like: object) -> Any:
        """Convert imputed rows to a table as X was in ``fit``, with the other cells of ``like``."""
        if self.schema_ is not None:  # means of whole numbers become whole, as the others are
            imputed = np.where(missing, self.columns_.on_steps(imputed), imputed)
        table = self._restore_table(imputed, like, observed=~missing)
        return table if self.schema_ is None else self.schema_.keep_observed(table, like, missing)

    @property
    def _fields(self) -> tuple[Field, ...]:
        """Schema of each column; empty if X is an array of numbers."""
        return () if self.schema_ is None else self.schema_.fields

    @property
    def _is_rounded(self) -> np.ndarray:
        """Mask of the columns whose dtype holds no means: all but those of real numbers."""
        return rounded_columns(self._fields, self.n_features_in_)

    # -- encoding --------------------------------------------------------------------

    @property
    def _row_structure(self) -> RowStructure:
        """Structure of the rows on which the network relies."""
        network: Network = resolve("network", self.network)
        return network.for_n_features(self.n_features_in_).row_structure

    def _fit_encoder(
        self,
        X: np.ndarray,
        weight: np.ndarray | None,
        likelihood: object,
        *,
        is_plain: bool = False,
    ) -> TableEncoder:
        """Fit the table encoder: likelihoods by the columns' values and, in a data frame, types.

        With ``is_plain``, numbers are standardized and no more.
        """
        structure = self._row_structure
        encoder = fit_encoder(
            X[:, : self.n_features_in_],
            weight,
            likelihood,
            fields=self._fields,
            is_plain=is_plain,
            period=structure.period,
            allows_missing=structure.n_steps is None,
        )
        if encoder.is_empty.all():
            raise ValueError("Every cell of X is missing: there is nothing to learn from.")
        if self.condition_encoder_ is not None:
            encoder = replace(encoder, conditions=self.condition_encoder_.encoder)
        return encoder

    def _encode(self, X: np.ndarray | SourceRows, weight: np.ndarray | None) -> Dataset:
        """Encode the rows and move them to the device, once; those of a source to a file.

        The columns then know whether values are missing.
        """
        import torch

        from sklearn_vae.training.dataset import Dataset

        device = resolve_device(self.device)
        generator = np.random.default_rng(stream_seed(0, Stream.DEQUANTIZE))
        dequantize = partial(self.columns_.joint.dequantize, generator=generator)
        n_columns = self.columns_.n_columns + self.columns_.n_conditions
        if isinstance(X, SourceRows):
            n_rows, log_det = len(X), 0.0

            def encode(rows: np.ndarray) -> np.ndarray:
                nonlocal log_det
                rows = dequantize(rows)
                log_det += self.columns_.log_abs_det_jacobian(rows).sum() / n_rows
                return self.columns_.transform(rows)

            table = Dataset.from_file(X.shuffle(encode, n_columns), -log_det, device)
        else:
            X = dequantize(X)
            dtype = self._training_dtype(X, weight)
            encoded, offset = np.empty((len(X), n_columns), dtype), np.empty(len(X))
            for rows in small_batches(X):
                encoded[rows] = self.columns_.transform(X[rows])
                offset[rows] = -self.columns_.log_abs_det_jacobian(X[rows])
            relative = None
            if weight is not None:
                relative = torch.as_tensor((weight / weight.mean()).astype(dtype)).to(device)
            x = torch.as_tensor(encoded).to(device)
            total_weight = float(len(X) if weight is None else weight.sum())
            is_same = bool((offset == offset[0]).all())
            loss_offset = float(offset[0]) if is_same else offset
            table = Dataset.from_x(x, relative, total_weight, loss_offset)
        has_missing = self.columns_.has_missing or table.has_missing
        self.columns_ = replace(self.columns_, has_missing=has_missing)
        return table

    def _training_dtype(self, X: np.ndarray | SourceRows, weight: np.ndarray | None) -> np.dtype:
        """Return the precision of training: X's own for few rows in a small network.

        The default network is small up to 50 rows of 8 columns. Single precision takes .9 of the
        time there, and .5 to .7 in ``VAEDensity``.
        """
        hidden = resolve_widths(self.hidden_layer_sizes, type(self).__name__)
        widths = X.shape[1], *hidden, X.shape[1]
        # a row of weight k trains as k rows; weights that are no counts may sum to less
        n_rows = len(X) if weight is None else max(len(X), float(weight.sum()))
        n_products = n_rows * sum(a * b for a, b in pairwise(widths))
        return X.dtype if n_products <= 1 << 18 else np.dtype(np.float32)

    # -- validation split ------------------------------------------------------------

    def _has_rows_to_validate(self, n_rows: int) -> bool:
        """Return True if ``early_stopping="auto"`` holds rows out."""
        return n_rows >= MIN_ROWS_TO_VALIDATE

    def _n_validation_rows(self, table: Dataset) -> int:
        """Return the number of validation rows, by weight; 0 if all rows are trained on."""
        n_rows = table.n_weighted_rows
        has_validation = self.early_stopping
        if has_validation == "auto":
            has_validation = self._has_rows_to_validate(n_rows)
            parameter = signature(type(self)).parameters.get("max_iter")  # a subclass may lack it
            is_requested = parameter is not None and self.max_iter > parameter.default
            is_requested = is_requested and not has_caller()  # which has no such parameter
            if not has_validation and is_requested:
                warn(
                    f"max_iter={self.max_iter} is not reached: with early_stopping='auto', a table "
                    f"of fewer than {MIN_ROWS_TO_VALIDATE} rows (here {n_rows}) gets "
                    f"{self._iterations_of_small_tables} of them. Set early_stopping=False to "
                    f"train for max_iter iterations, or True to set rows aside."
                )
        if not has_validation:
            return 0
        n_valid = max(round(self.validation_fraction * n_rows), 1)
        if table.rows_per_window is not None:  # of rows on disk, these are held in memory
            n_valid = min(n_valid, 1 << 15)
        if n_rows - n_valid < MIN_ROWS:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} with validation_fraction="
                f"{self.validation_fraction} leaves {n_rows - n_valid} of {n_rows} rows to train "
                f"on; at least {MIN_ROWS} are needed."
            )
        return n_valid

    def _split(self, table: Dataset, n_valid: int) -> tuple[Dataset, Dataset | None]:
        """Split a dataset into training rows and ``n_valid`` validation rows, if any."""
        if not n_valid:
            return table, None
        return table.split(n_valid, make_generator(self.seed_, Stream.SPLIT))

    def _warn_of_divergence(self, results: list[TrainingResult]) -> None:
        """Warn if the training loss of a member rose without bounds, or was never finite."""
        diverged = [result for result in results if result.diverged]
        if not all(result.starts_finite for result in diverged):
            warn(
                "Training had no effect, as the loss was not finite before its first step. Causes "
                "may be a huge beta, or a module of your own that returns NaN.",
                ConvergenceWarning,
            )
        elif diverged:
            advice = f"a learning_rate smaller than {self.learning_rate} avoids this"
            if has_caller():  # which may have no such parameter
                advice = "errors among the largest values of X may be the cause"
            warn(
                f"Training diverged (the loss rose without bounds). The last good weights were "
                f"kept; {advice}.",
                ConvergenceWarning,
            )
