"""Fitted estimators in numpy."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_vae.anomaly.calibration import ScoreLabels
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import Scorer, score_in_batches
from sklearn_vae.data.arrays import as_array, cells_of, replace_by_nan
from sklearn_vae.data.conditions import ConditionEncoder, read_conditions
from sklearn_vae.data.fields import check_column_names, rounded_columns, without_unknown
from sklearn_vae.data.reading import TableReader
from sklearn_vae.data.schema import Schema
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.imputation.average import AveragedImputation
from sklearn_vae.inference.class_marginal import ClassMarginal, ClassPredictions
from sklearn_vae.inference.decoder_correction import check_range
from sklearn_vae.inference.fitted_models import FittedMixture, FittedVAE
from sklearn_vae.inference.log_density import MEAN_DRAWS, SCORE_DRAWS
from sklearn_vae.numerics.array_api import log_softmax
from sklearn_vae.numerics.random import MAX_DRAWS
from sklearn_vae.persistence.validation import check_count

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

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Compute the logarithms of the class probabilities, as the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
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
