"""VAEOutlierDetector: outlier and novelty detection."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from numbers import Real
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from weakref import WeakKeyDictionary
from zlib import crc32

import narwhals as nw
import numpy as np
from sklearn.base import OutlierMixin, clone
from sklearn.utils.validation import check_is_fitted

from sklearn_vae._compat import Interval, StrOptions
from sklearn_vae.anomaly.attribution import N_DRAWS, AttributionBaseline, describe, largest_cells
from sklearn_vae.anomaly.calibration import conformal_p_values, conformal_threshold, margins
from sklearn_vae.anomaly.rows import Folds, ScoredRows, is_symmetric_as_logarithms
from sklearn_vae.anomaly.scores import METHODS, Scorer, find_scorer, score_in_batches
from sklearn_vae.data.arrays import Rows, Table, Target, Weights, cells_of, make_frame
from sklearn_vae.data.fields import Names
from sklearn_vae.data.sources import accepts_source, check_is_table, sample_of
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.estimators.base import MIN_ROWS, Cache, cached
from sklearn_vae.estimators.checks import CONSTRAINTS, check_callbacks, column_indices
from sklearn_vae.estimators.estimator_base import MetaEstimator, ValidatedRows
from sklearn_vae.estimators.transformer import VAETransformer
from sklearn_vae.likelihoods import Gaussian, LogNormal
from sklearn_vae.numerics.random import RandomState, Stream, draw_seed, make_generator
from sklearn_vae.numerics.rows import NUMBERS_AT_A_TIME, batches, spread_out
from sklearn_vae.persistence.validation import check_annotations, check_count, serializable
from sklearn_vae.system import warn

if TYPE_CHECKING:
    import torch
    from skorch.callbacks import Callback

    from sklearn_vae.training.jobs import TrainingResult

# Largest number of reference rows, to which the model is fitted; of more training rows, so many are
# drawn at random.
MAX_REFERENCE_ROWS = 20_000
# Minimum number of rows for models of two halves of them.
MIN_ROWS_OF_HALVES = 20
# Reference rows of detectors, of which neither pickles nor clones have a copy.
_REFERENCES: Cache = WeakKeyDictionary()


@serializable
class VAEOutlierDetector(OutlierMixin, MetaEstimator):
    """Find anomalous rows of a table, and the cells that make them so.

    Rows far from others, or with rare or contradicting values, score low. Give columns of any type
    in their own units, with or without missing values.

    Parameters
    ----------
    contamination : float or "auto", default="auto"
        Share of the training rows to flag, up to 0.5. ``"auto"`` flags 10 %, or 5 % of clean rows.
    novelty : bool, default=False
        True if the training rows are clean. By default, outliers may be among them.
    method : str, default="auto"
        Score of a row. ``"auto"``, by model and neighbours, is best for wrong cells;
        ``"neighbors"``, by neighbours alone, is best for rows of another kind among the training
        rows. ``"log_likelihood"``, ``"reconstruction_probability"`` and ``"reconstruction"`` are
        scores by the model alone.
    n_components, hidden_layer_sizes, max_iter : default="auto", (64, 64), 20
        Size and training of the model, as of :class:`VAETransformer`. Seldom need a change.
    calibration : {None, "conformal"}, default=None
        ``"conformal"`` holds rows out, so that p-values are guaranteed; None uses all rows.
    calibration_fraction : float, default=0.2
        Share of the rows to hold out. More rows make smaller p-values possible.
    callbacks, device, verbose : default=None, "auto", False
        As of :class:`VAETransformer`.
    random_state : int, RandomState instance or None, default=None
        Seed. Give an integer for the same result at every fit.

    Attributes
    ----------
    offset_ : float
        Threshold of ``score_samples``. Set it to flag fewer or more rows.
    estimator_, columns_, n_components_, n_iter_, n_features_in_, feature_names_in_
        The model and its columns, latent dimensions, iterations, number and names of columns.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_vae import VAEOutlierDetector
    >>> X = load_wine().data
    >>> int((VAEOutlierDetector(contamination=0.05, random_state=0).fit_predict(X) == -1).sum())
    9
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "contamination": [Interval(Real, 0, 0.5, closed="right"), StrOptions({"auto"})],
        "novelty": ["boolean"],
        "method": [StrOptions({"auto", "neighbors", *METHODS})],
        "calibration": [StrOptions({"conformal"}), None],
        "calibration_fraction": [Interval(Real, 0, 1, closed="neither")],
    }

    estimator_: VAETransformer
    distance_encoder_: TableEncoder
    scorer_: Scorer
    reference_samples_: Annotated[np.ndarray, "n", "n_reference", "n_columns"]
    calibration_scores_: Annotated[np.ndarray, "f", "n"]
    offset_: float
    attribution_baseline_: AttributionBaseline

    def __init__(
        self,
        *,
        contamination: float | str = "auto",
        novelty: bool = False,
        method: str = "auto",
        n_components: int | str = "auto",
        hidden_layer_sizes: int | Sequence[int] = (64, 64),
        max_iter: int = 20,
        calibration: str | None = None,
        calibration_fraction: float = 0.2,
        callbacks: Sequence[Callback | tuple[str, Callback]] | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: bool | int = False,
    ):
        self.contamination = contamination
        self.novelty = novelty
        self.method = method
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.max_iter = max_iter
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -------------------------------------------------------------------------

    def _train(self, X: Rows, y: Target, sample_weight: Weights) -> None:
        check_callbacks(self)
        seed = draw_seed(self.random_state)
        self.estimator_ = reader = VAETransformer(
            self.n_components,
            hidden_layer_sizes=self.hidden_layer_sizes,
            max_iter=self.max_iter,
            device=self.device,
            random_state=seed,
        )
        reader._warns_of_extremes = False  # which the detector finds
        rows, weights = reader._check_rows(X, None, sample_weight, reset=True)
        calibration, reference = self._choose_rows(sample_of(rows), weights, seed)
        self.estimator_ = model = clone(reader)
        model.set_params(callbacks=self.callbacks, verbose=self.verbose)
        model._holds_out_halves = len(reference) >= MIN_ROWS_OF_HALVES
        with self._keep_interrupted():
            halves = model._fit(ValidatedRows(reference, reader), None, None)
            self._calibrate(reference, calibration, self._find_folds(len(reference), halves))
        if model.interrupted_:
            # of few rows, so that calibration takes little time
            calibration, reference = (X[spread_out(len(X), 250)] for X in (calibration, reference))
            self._calibrate(reference, calibration)
        model.set_params(callbacks=None)
        del model._holds_out_halves

    def _choose_rows(
        self, X: np.ndarray, weights: np.ndarray | None, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose rows for conformal calibration, if it is requested, and the reference rows."""
        X = X.astype(np.float64, copy=False) + 0.0  # no -0.0
        if weights is not None:  # systematic resampling rounds them to counts of the same sum
            n_rows = np.clip(np.round(weights.sum()), MIN_ROWS, max(len(X), MAX_REFERENCE_ROWS))
            ends = np.round(weights.cumsum() * (n_rows / weights.sum())).astype(int)
            X = X.repeat(np.diff(ends, prepend=0), axis=0)
        if len(X) > MAX_REFERENCE_ROWS:
            X = _draw(X, MAX_REFERENCE_ROWS, make_generator(seed, Stream.SPLIT, 1))[0]
        X = X[np.lexsort(np.hstack([np.nan_to_num(X), np.isnan(X)]).T[::-1])]  # whatever X's order
        if self.calibration is None:
            return X[:0], X
        n_calibration = max(round(self.calibration_fraction * len(X)), 1)
        if len(X) - n_calibration < MIN_ROWS:
            raise ValueError(
                f"calibration='conformal' with calibration_fraction={self.calibration_fraction} "
                f"leaves {len(X) - n_calibration} of {len(X)} rows to train on; at least "
                f"{MIN_ROWS} are needed."
            )
        # by the rows, too: else those of the same ranks would be held out of every table
        rows_seed = crc32(np.nan_to_num(X).tobytes())
        return _draw(X, n_calibration, make_generator(seed, Stream.SPLIT, rows_seed))

    def _calibrate(self, X: np.ndarray, calibration: np.ndarray, folds: Folds = ()) -> None:
        """Fit scorer, threshold, calibration scores and attribution baseline to reference rows X.

        ``folds`` are models of some of the rows, which show how optimistic scores are.
        """
        model = self.estimator_
        predictor, fields = model._predictor(), model._fields
        likelihoods: list[Any] = [Gaussian("per_column")] * X.shape[1]
        if not self.novelty:  # a large amount is no gross error
            for j in np.flatnonzero(predictor.columns.is_positive).tolist():
                if is_symmetric_as_logarithms(X[:, j]):
                    likelihoods[j] = LogNormal()
        for j in (j for j, field in enumerate(fields) if field.categories is not None):
            likelihoods[j] = "auto"
        self.distance_encoder_ = model._fit_encoder(X, None, likelihoods, is_plain=True)
        self.reference_samples_ = X
        reference = ScoredRows(X, self.distance_encoder_, predictor, folds=folds)
        has_classes = len(reference.class_columns) > 0
        scorer = find_scorer(self.method, novelty=self.novelty, has_classes=has_classes)
        self.scorer_, anomaly_scores = scorer.fit_score(reference)
        default = 0.05 if self.novelty else 0.1
        contamination = default if self.contamination == "auto" else float(self.contamination)
        if not len(calibration):
            self.calibration_scores_ = np.sort(-anomaly_scores)
            self.offset_ = float(np.quantile(self.calibration_scores_, contamination))
        else:
            rows = reference.match(calibration, fields, may_be_new=bool(self.novelty))
            self.calibration_scores_ = np.sort(self._scores(rows))
            n_rows = len(self.calibration_scores_)
            smallest_rate = 1 / (1 + n_rows)
            if contamination < smallest_rate:
                warn(
                    f"contamination={contamination} is less than the smallest false positive rate "
                    f"of {n_rows} calibration rows, which predict has: 1 / (1 + {n_rows}) = "
                    f"{smallest_rate:.2g}. More rows or a larger calibration_fraction lower it."
                )
            self.offset_ = conformal_threshold(self.calibration_scores_, contamination)
        self.attribution_baseline_ = AttributionBaseline.fit(reference, anomaly_scores)

    def _find_folds(self, n_rows: int, results: dict[int, TrainingResult]) -> Folds:
        """Find the models of the halves of the rows, and the masks of all rows but theirs."""
        from sklearn_vae.training.dataset import draw_halves

        model, folds = self.estimator_, []
        if self.method == "neighbors" or not model._holds_out_halves:
            return ()  # no score by the model is corrected
        halves = draw_halves(n_rows, model.seed_)
        for half, result in zip(halves, results.values(), strict=True):
            model_of_half = copy(model)
            model_of_half.state_dict_ = result.weights
            folds.append((model_of_half._predictor(), ~np.isin(np.arange(n_rows), half)))
        return folds

    # -- scores ------------------------------------------------------------------------

    @accepts_source
    def score_samples(self, X: Rows) -> np.ndarray:
        """Score each row: higher is more normal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or a source of chunks as in ``fit``. Training rows are scored as new ones are.

        Returns
        -------
        ndarray of shape (n_samples,)
            Scores: nats, or a squared distance with ``method="reconstruction"``.
        """
        check_is_fitted(self)
        return self._scores(self._scored_rows(self._validate(X)))

    def fit_predict(self, X: Rows, y: Target = None, **params: Any) -> np.ndarray:
        """Fit, and label the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : None
            Ignored.
        **params : dict
            For ``fit``, such as ``sample_weight``.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for outliers, 1 for inliers.
        """
        self.fit(X, **params)
        return np.where(margins(self._training_scores(X), self.offset_) < 0, -1, 1)

    def decision_function(self, X: Rows) -> np.ndarray:
        """Score minus the threshold ``offset_``: negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``; 0 for rows that equal the threshold but for rounding.
        """
        return margins(self.score_samples(X), self.offset_)

    def predict(self, X: Rows) -> np.ndarray:
        """Label rows as outliers or inliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for outliers, 1 for inliers.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Rows) -> np.ndarray:
        """P-value of each row: the share of normal rows that are at least as unusual.

        With ``calibration="conformal"`` it is guaranteed: of new normal rows, at most 5 % have one
        of .05 or less. By default that holds approximately.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Fraction of the calibration rows and the row itself whose score is at most the row's,
            between 1 / (n_calibration + 1) and 1.
        """
        return conformal_p_values(self.score_samples(X), self.calibration_scores_)

    def report(self, X: Table, *, n_columns: int = 1) -> Any:
        """List the rows that ``predict`` flags, with the cells that make them anomalous.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_columns : int, default=1
            Number of cells per row, those with the largest attributions by ``explain``.

        Returns
        -------
        DataFrame
            A line per cell, the most anomalous rows first: ``row`` (its label in pandas, else its
            position), ``column``, ``value``, ``expected`` given the other cells of the row,
            ``share`` of the row's positive attributions, ``p_value`` of the row, and a
            ``sentence`` to read. It has no lines if no row is flagged. The library is that of X;
            for an array pandas, if it is installed. In polars and pyarrow, values of several types
            are texts.
        """
        check_is_fitted(self)
        check_is_table(X, "report")
        n_columns, model = check_count("n_columns", n_columns), self.estimator_
        rows = self._scored_rows(self._validate(X))
        scores = self._scores(rows)
        order = np.argsort(scores, kind="stable")
        flagged = order[margins(scores[order], self.offset_) < 0]
        baseline = self.attribution_baseline_
        attributions = baseline.attribute(rows.select(flagged), -scores[flagged])
        position, columns, shares = largest_cells(attributions, n_columns)
        unique, first, column = np.unique(columns, return_index=True, return_inverse=True)
        means = self._expected(rows.X[flagged], position, columns)
        is_listed = column[:, None] == np.arange(len(unique))
        table = np.where(is_listed, means[:, None], means[first])  # no NaN
        table = model._restore_table(table, columns=unique)
        expected = cells_of(table, range(len(table)), column.tolist())
        p_values = conformal_p_values(scores[flagged], self.calibration_scores_)[position]
        position = flagged[position]
        values = cells_of(X, position.tolist(), columns.tolist())
        names = [model.columns_.names[j] for j in columns]
        return make_frame(
            {
                "row": X.index[position] if nw.dependencies.is_pandas_dataframe(X) else position,
                "column": names,
                "value": values,
                "expected": expected,
                "share": shares,
                "p_value": p_values,
                "sentence": list(map(describe, names, values, expected, p_values)),
            },
            like=X,
        )

    def explain(self, X: Table) -> Any:
        """Attribute the anomaly score of each row to its columns.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features)
            Attributions in the units of the score; large ones make the row anomalous. They add up
            to the median score of the training rows minus the row's score. A data frame, if X was
            one in ``fit``.
        """
        check_is_fitted(self)
        check_is_table(X, "explain")
        rows = self._scored_rows(self._validate(X))
        attributions = self.attribution_baseline_.attribute(rows, -self._scores(rows))
        if (schema := self.estimator_.schema_) is None:
            return attributions
        return schema.of_numbers().inverse_transform(attributions, like=X)

    def expected_values(self, X: Table, *, columns: Names = None) -> Any:
        """Value that the other cells of its row suggest for each cell.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        columns : list of str or int, default=None
            Columns to return, by name, or by position if X has no names. Fewer take less time.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_columns)
            Means of numbers, medians of ordered categories, and the likeliest of other categories,
            in the order of X's columns. A data frame, if X was one in ``fit``.
        """
        check_is_fitted(self)
        indices = np.arange(self.n_features_in_)
        if columns is not None:
            caller = f"{type(self).__name__}.expected_values"
            indices = column_indices(columns, self.columns_.names, "columns", caller)
        check_is_table(X, "expected_values")
        rows = self._scored_rows(self._validate(X))
        row, column = np.divmod(np.arange(len(rows) * len(indices)), max(len(indices), 1))
        expected = self._expected(rows.X, row, indices[column]).reshape(len(rows), -1)
        return self.estimator_._restore_table(expected, like=X, columns=indices)

    def _expected(self, X: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Mean, or likeliest class, of cells given the others of their rows: (n_cells,).

        Of a table of numbers, ``rows`` and ``columns`` (n_cells,) are the cells' indices. Of a
        one-hot class, the other columns are not given.
        """
        model, predictor = self.estimator_, self.estimator_._predictor()
        means, is_hidden = np.empty(len(rows), X.dtype), predictor.columns.is_told_by
        for batch in batches(len(means), NUMBERS_AT_A_TIME // X.shape[1]):
            row, column = rows[batch], columns[batch]
            given = np.where(is_hidden[column], np.nan, X[row])
            imputed = predictor.impute(given, N_DRAWS, model._is_rounded)
            if model.schema_ is not None:
                imputed = predictor.columns.on_steps(imputed)
            means[batch] = imputed[np.arange(len(row)), column]
        return means

    @accepts_source
    def _training_scores(self, X: Rows) -> np.ndarray:
        """Normality score of each training row, which is no new row that equals one."""
        return self._scores(self._scored_rows(self._validate(X), may_be_new=False))

    def _scored_rows(self, X: np.ndarray, *, may_be_new: bool = True) -> ScoredRows:
        """Match validated rows; in novelty detection those that equal reference rows may be new."""
        may_be_new = may_be_new and bool(self.novelty)
        return self._reference_rows().match(X, self.estimator_._fields, may_be_new=may_be_new)

    def _scores(self, rows: ScoredRows) -> np.ndarray:
        """Normality score of each row: (n,)."""
        return -score_in_batches(self.scorer_.score, rows)

    def _reference_rows(self) -> ScoredRows:
        """Reference rows, which keep what is computed of them until an attribute is set."""
        X, columns = self.reference_samples_, self.distance_encoder_
        model = self.estimator_._predictor()
        rows: ScoredRows = cached(_REFERENCES, self, lambda: ScoredRows(X, columns, model), model)
        return rows

    # -- persistence -------------------------------------------------------------------

    def _check_settable(self) -> None:
        check_annotations(self, ["offset_"])

    def _validate_fitted(self) -> None:
        super()._validate_fitted()
        n_columns = {self.distance_encoder_.n_features, self.reference_samples_.shape[1]}
        n_columns.add(len(self.attribution_baseline_.conditional_nll))
        if n_columns != {self.n_features_in_}:
            raise ValueError("the columns of distances are not those of the model")
        if len(self.reference_samples_) < MIN_ROWS:
            raise ValueError("there are too few reference rows")
        row = self._scored_rows(self.reference_samples_[:1])
        self.attribution_baseline_.attribute(row, -self._scores(row))


def _draw(X: np.ndarray, n_drawn: int, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split rows at random into ``n_drawn`` and all others, both in order."""
    import torch

    order = torch.randperm(len(X), generator=generator).numpy()
    return X[np.sort(order[:n_drawn])], X[np.sort(order[n_drawn:])]
