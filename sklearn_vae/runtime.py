"""Saved models without PyTorch: scores, codes, reconstructions and imputed values, in numpy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sklearn_vae.anomaly.calibration import ScoreLabels
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import Scorer, score_in_batches
from sklearn_vae.data.arrays import as_array, cells_of, replace_by_nan
from sklearn_vae.data.conditions import ConditionEncoder, read_conditions
from sklearn_vae.data.fields import Field, check_column_names, rounded_columns, without_unknown
from sklearn_vae.data.reading import TableReader
from sklearn_vae.data.schema import Schema
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.imputation import AveragedImputation
from sklearn_vae.inference.class_marginal import ClassMarginal, ClassPredictions
from sklearn_vae.inference.decoder_correction import check_range
from sklearn_vae.inference.fitted_models import FittedMixture, FittedModel, FittedVAE
from sklearn_vae.inference.log_density import MEAN_DRAWS, SCORE_DRAWS
from sklearn_vae.numerics.array_api import log_softmax
from sklearn_vae.numerics.random import MAX_DRAWS
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.serialization import Reader, open_model
from sklearn_vae.persistence.validation import check_array, check_count

__all__ = [
    "ClassifierModel",
    "DensityModel",
    "ImputerModel",
    "OutlierModel",
    "TransformerModel",
    "load",
]

# Parts of models and scores that need PyTorch, by the names of their classes.
NEED_TORCH = {
    *("ConvNet", "CustomNetwork", "GRUNet"),
    *("RelaxedCategorical", "ReconstructionProbability"),
}
Y_IS_MISSING = "y must be passed to a model that was fitted with conditional=True."


def check_shape(shape: tuple[int, ...], n_columns: int) -> None:
    """Raise an error unless there are rows, of so many columns."""
    if len(shape) != 2 or shape[1] != n_columns or not shape[0]:
        raise ValueError(
            f"X must be of shape (n_samples, {n_columns}), with 1 sample or more. "
            f"Got shape {shape} instead."
        )


@dataclass(eq=False, repr=False)
class DensityModel:
    """A fitted :class:`~sklearn_vae.VAEDensity` that computes with numpy; see :func:`load`.

    Rows are arrays of numbers, with NaN for missing values. If the model was fitted to a data
    frame with categories or dates, rows are lists, object arrays or data frames of these. So are
    the rows of the other models.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    """

    predictor: FittedVAE | FittedMixture
    schema: Schema
    conditions: ConditionEncoder | None
    # "error", "infrequent" or "missing": treatment of values without a probability
    handle_unknown: str = "infrequent"

    @property
    def columns(self) -> TableEncoder:
        """Encoder and decoder of rows."""
        return self.predictor.columns

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X."""
        return self.columns.n_features

    def read(self, X: Any) -> np.ndarray:
        """Convert rows to numbers, with codes for categories: (n, n_features)."""
        table = TableReader(as_array(X))
        if table.names is not None:
            check_column_names("X", table.names, self.columns.names, "X in fit")
        check_shape(table.shape, self.n_features_in_)
        rows = self.schema.transform(table, handle_unknown=self.handle_unknown)
        for j in np.flatnonzero(np.isinf(rows).any(axis=0)):
            raise ValueError(f"X contains infinity, in column {self.columns.names[j]!r}.")
        return self.columns.check_values(rows, self.schema.fields, self.handle_unknown)

    def write(self, rows: np.ndarray, observed: np.ndarray | bool = False) -> np.ndarray:
        """Convert numbers to values of the columns' types; dates with a time zone are in UTC.

        Cells of the mask ``observed`` are not computed.
        """
        if all(field.is_real for field in self.schema.fields):
            return rows
        rows = self.schema.nearest_possible(rows, self.columns.is_positive, observed)
        return self.schema.to_objects(rows)

    def write_imputed(self, imputed: np.ndarray, rows: np.ndarray, X: Any) -> np.ndarray:
        """Convert imputed rows (n, n_features), with texts of X that were not in fit."""
        observed = ~np.isnan(rows[:, : self.n_features_in_])
        if self.schema.container != "array":
            imputed = np.where(observed, imputed, self.columns.on_steps(imputed))
        table = self.write(imputed, observed)
        is_text = np.array([field.holds_any_text for field in self.schema.fields])
        unknown = np.nonzero(is_text & (rows[:, : self.n_features_in_] < 0))
        if len(unknown[0]):
            table[unknown] = cells_of(X, *(indices.tolist() for indices in unknown))
        return table

    def codes_of(self, y: Any, n_rows: int) -> np.ndarray:
        """Encode y as codes of classes and numbers: (n_rows, n_y)."""
        if self.conditions is None:
            raise ValueError("y is given, and the model was fitted with conditional=False.")
        return self.conditions.transform(read_conditions(y, n_rows), np.dtype(np.float64))

    def rows_and_model(self, X: Any, y: Any) -> tuple[np.ndarray, Any]:
        """Convert rows, with codes of y if any behind; the model of p(x|y), or of p(x) without."""
        rows = self.read(X)
        if y is not None:
            return np.hstack([rows, self.codes_of(y, len(rows))]), self.predictor
        if isinstance(self.predictor, FittedMixture) or self.conditions is None:
            return rows, self.predictor
        if not len(self.conditions.class_prior):
            raise ValueError(Y_IS_MISSING)
        return rows, ClassMarginal(self.predictor, self.conditions.class_prior)

    def score_samples(self, X: Any, y: Any = None, n_draws: int = SCORE_DRAWS) -> np.ndarray:
        """Log-density of each row in nats and X's units, as the estimator's ``score_samples``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows. A missing value is integrated out.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the condition of the rows: the score is then log p(x|y).
            Without y it is log p(x), as that of the estimator.
        n_draws : int, default=128
            Draws per row; rows with uneven weights get more.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log-densities.
        """
        n_draws = check_count("n_draws", n_draws, maximum=MAX_DRAWS)
        rows, model = self.rows_and_model(X, y)
        return model.log_density(rows, n_draws)

    def impute(self, X: Any, y: Any = None) -> np.ndarray:
        """Replace missing values by their means, or likeliest classes, given the observed ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows without missing values; objects if the model was fitted to categories.
        """
        rows, model = self.rows_and_model(X, y)
        if isinstance(model, ClassMarginal):
            raise ValueError(Y_IS_MISSING)
        return self.write_imputed(self.imputations(rows)[0], rows, X)

    @property
    def is_rounded(self) -> np.ndarray:
        """Mask of the columns whose type holds no means: all but those of real numbers."""
        return rounded_columns(self.schema.fields, self.n_features_in_)

    def imputations(self, rows: np.ndarray) -> np.ndarray:
        """Impute rows of numbers, with codes of y if any, as a table alone: (1, n, n_features)."""
        rows = without_unknown(rows, self.schema.fields)
        return self.predictor.impute(rows, MEAN_DRAWS, self.is_rounded)[None]


class TransformerModel(DensityModel):
    """A fitted :class:`~sklearn_vae.VAETransformer` that computes with numpy; see :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    """

    predictor: FittedVAE

    @property
    def n_components(self) -> int:
        """Number of latent dimensions."""
        return self.predictor.architecture.n_components

    def transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Encode rows: the mean of q(z|x), as ``VAETransformer.transform``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows. Without y, codes are averaged
            over the classes.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes.
        """
        rows, model = self.rows_and_model(X, y)
        return model.codes(rows)

    def inverse_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Decode codes: the mean of p(x|z), as ``VAETransformer.inverse_transform``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows; objects if the model was fitted to categories.
        """
        z = np.asarray(X, dtype=np.float64)
        check_shape(z.shape, self.n_components)
        if not np.isfinite(z).all():
            raise ValueError("X contains NaN or infinity.")
        check_range(z)
        if y is None and self.columns.n_condition_columns:
            raise ValueError(Y_IS_MISSING)
        conditions = None if y is None else self.codes_of(y, len(z))
        return self.write(self.predictor.decode(z, conditions))


@dataclass(eq=False, repr=False)
class WrappedModel:
    """Base class of what works by a model of rows."""

    model: DensityModel

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X."""
        return self.model.n_features_in_


@dataclass(eq=False, repr=False)
class ClassifierModel(ClassPredictions, WrappedModel):
    """A fitted :class:`~sklearn_vae.VAEClassifier` that computes with numpy; see :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    classes_ : ndarray of shape (n_classes,)
        Sorted classes.
    """

    classes_: np.ndarray
    priors: np.ndarray
    n_draws: int

    def _log_proba(self, X: Any) -> np.ndarray:
        joint = ClassMarginal(self.model.predictor, self.priors)
        return log_softmax(joint.joint_log_density(self.model.read(X), self.n_draws))


@dataclass(eq=False, repr=False)
class OutlierModel(ScoreLabels, WrappedModel):
    """A fitted :class:`~sklearn_vae.VAEOutlierDetector` that computes with numpy; see :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    offset_ : float
        Threshold of the score: ``predict`` labels rows with lower scores -1.
    """

    scorer: Scorer
    reference: ScoredRows
    calibration_scores_: np.ndarray
    offset_: float
    novelty: bool

    def score_samples(self, X: Any) -> np.ndarray:
        """Normality score of each row, as ``VAEOutlierDetector.score_samples``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Scores in nats: higher is more normal.
        """
        X, fields = self.model.read(X), self.model.schema.fields
        rows = self.reference.match(X, fields, may_be_new=self.novelty)
        return -score_in_batches(self.scorer.score, rows)


@dataclass(eq=False, repr=False)
class ImputerModel(WrappedModel):
    """A fitted :class:`~sklearn_vae.VAEImputer` that computes with numpy; see :func:`load`."""

    imputation: AveragedImputation
    indicated: np.ndarray
    is_kept: np.ndarray  # mask of the columns that are not left out
    missing_values: Any

    def transform(self, X: Any) -> np.ndarray:
        """Impute the missing cells of X, as ``VAEImputer.transform``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Rows without missing cells, then columns of indicators if there are any; objects if
            the model was fitted to categories or dates.
        """
        X = replace_by_nan(as_array(X), self.missing_values)
        rows = self.model.read(X)
        imputed = self.imputation.impute(without_unknown(rows, self.model.schema.fields))
        imputed[np.isnan(rows) & self.model.columns.is_empty] = 0.0
        table = self.model.write_imputed(imputed, rows, X)[:, self.is_kept]
        return np.hstack([table, np.isnan(rows[:, self.indicated]).astype(table.dtype)])


# -- reading of files ----------------------------------------------------------------------


@dataclass
class SavedEstimator:
    """An estimator of a file, whose parameters and fitted attributes are read by name."""

    name: str
    values: dict[str, Any]
    reader: Reader

    def __getitem__(self, name: str) -> Any:
        return self.reader.read(self.values[name])

    @property
    def wrapped(self) -> Self | None:
        """The estimator that it has fitted, if it works by one."""
        if (state := self.values.get("estimator_")) is None:
            return None
        return type(self)(state["@object"], state["parameters"] | state["fitted"], self.reader)

    def read_model(self) -> Any:
        """Construct the model of the estimator that it has fitted."""
        wrapped: Any = self.wrapped
        return READERS[wrapped.name](wrapped)

    def unsupported(self) -> set[str]:
        """Return the parts that the runtime does not have."""
        names = set() if self.wrapped is None else self.wrapped.unsupported()
        names |= NEED_TORCH & {*_part_names(self.values.get("architecture_"))}
        if NEED_TORCH & {*_part_names(self.values.get("scorer_"))}:
            names.add(f"method={self.values['method']!r}")
        if self.values.get("n_imputations") is not None:
            names.add(f"n_imputations={self.values['n_imputations']!r}")
        return names


def load(path: file_format.PathLike) -> Any:
    """Read a saved estimator as a model that computes without PyTorch.

    Parameters
    ----------
    path : str or path-like
        Path of a file that ``save`` has written.

    Returns
    -------
    TransformerModel, DensityModel, OutlierModel, ImputerModel or ClassifierModel
        The model of a ``VAETransformer``, ``VAEDensity``, ``VAEOutlierDetector``, ``VAEImputer``
        or ``VAEClassifier``, with methods of the estimator.

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
    with open_model(path) as (header, reader):
        saved = SavedEstimator(header["class"], header["parameters"] | header["fitted"], reader)
        unsupported = saved.unsupported()
        model = None if unsupported else READERS[saved.name](saved)
    if unsupported:
        raise ValueError(
            f"{path}: the runtime does not support {', '.join(sorted(unsupported))}. "
            f"sklearn_vae.load reads the file."
        )
    return model


def _part_names(value: Any) -> Iterator[str]:
    """Names of the classes of a header's objects."""
    if isinstance(value, dict):
        if isinstance(name := value.get("@object"), str):
            yield name
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _part_names(item)


def _read_model(
    saved: SavedEstimator, model: type[DensityModel], fitted: type[FittedModel], **options: Any
) -> Any:
    """Construct a model, and the predictor of its estimator's fitted attributes and options."""
    columns, schema, architecture = saved["columns_"], saved["schema_"], saved["architecture_"]
    if architecture.blocks not in (columns.blocks, columns.joint.blocks):
        raise ValueError("the model's columns are not those of the table")
    # a model of p(x) may have none
    conditions = saved["condition_encoder_"] if "condition_encoder_" in saved.values else None
    n_columns = 0 if conditions is None else conditions.encoder.n_features
    if n_columns != columns.n_condition_columns:
        raise ValueError("the conditions are not those of the table")
    if schema is None:
        fields = tuple(Field(name, "number", None, "float64") for name in columns.names)
        schema = Schema(fields, "array")
    if len(schema.fields) != columns.n_features:
        raise ValueError("the schema's columns are not those of the table")
    weights = saved["state_dict_"]
    for name, value in weights.items():
        check_array(name, value, "f", (None,) * np.ndim(value))
    if weights["encoder.linear.weight"].shape[-1:] != (architecture.n_posterior_params,):
        raise ValueError("the model's latent dimensions are not those of the weights")
    predictor: Any = fitted(columns, architecture, weights, saved["seed_"], **options)
    return model(predictor, schema, conditions)


def _read_transformer(saved: SavedEstimator) -> TransformerModel:
    options = {"correction": saved["decoder_correction_"], "code_range": saved["code_range_"]}
    model = _read_model(saved, TransformerModel, FittedVAE, **options)
    y = np.zeros((1, model.columns.n_condition_columns))
    row = model.predictor.decode(np.zeros((1, model.n_components)), y)
    model.read(model.write(row))
    model.predictor.log_density(np.hstack([row, y]), 1)
    # not before: the means of some columns are none of their values
    model.handle_unknown = saved["handle_unknown"]
    return model


def _read_density(saved: SavedEstimator) -> DensityModel:
    weight = saved["weights_"]
    model = _read_model(saved, DensityModel, FittedMixture, weight=weight)
    check_array("weights_", weight, "f", (model.predictor.n_members,))
    row = np.full((1, model.n_features_in_), np.nan)
    model.read(model.write(model.imputations(row)[0]))
    model.predictor.log_density(row, 1)
    return model


def _read_outlier(saved: SavedEstimator) -> OutlierModel:
    model, columns = saved.read_model(), saved["distance_encoder_"]
    rows, scores = saved["reference_samples_"], saved["calibration_scores_"]
    check_array("reference_samples_", rows, "n", (None, columns.n_features))
    check_array("calibration_scores_", scores, "f", (None,))
    reference, novelty = ScoredRows(rows, columns, model.predictor), bool(saved["novelty"])
    scorer, offset = saved["scorer_"], float(saved["offset_"])
    detector = OutlierModel(model, scorer, reference, scores, offset, novelty)
    detector.score_samples(model.write(rows[:1]))
    return detector


def _read_imputer(saved: SavedEstimator) -> ImputerModel:
    model = saved.read_model()
    imputation = AveragedImputation(
        model.imputations,
        model.columns,
        model.is_rounded,
        trees=saved["trees_"],
        trees_weight=float(saved["trees_weight_"]),
    )
    imputation.check()
    indicated = saved["indicated_"]
    check_array("indicated_", indicated, "i", (None,))
    is_kept = bool(saved["keep_empty_features"]) | ~model.columns.is_empty
    imputer = ImputerModel(model, imputation, indicated, is_kept, saved["missing_values"])
    imputer.transform(model.write(np.full((1, model.n_features_in_), np.nan)))
    return imputer


def _read_classifier(saved: SavedEstimator) -> ClassifierModel:
    model, classes, priors = saved.read_model(), saved["classes_"], saved["priors_"]
    check_array("priors_", priors, "f", (len(classes),))
    n_draws = check_count("n_draws", saved["n_draws"], maximum=MAX_DRAWS)
    classifier = ClassifierModel(model, classes, priors, n_draws)
    classifier.predict_log_proba(model.write(np.full((1, model.n_features_in_), np.nan)))
    return classifier


# Constructors of models by class of the estimator, which check that the model computes.
READERS: dict[str, Callable[[SavedEstimator], Any]] = {
    "VAETransformer": _read_transformer,
    "VAEDensity": _read_density,
    "VAEOutlierDetector": _read_outlier,
    "VAEImputer": _read_imputer,
    "VAEClassifier": _read_classifier,
}
