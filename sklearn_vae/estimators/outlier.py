"""VAEOutlierDetector: outlier and novelty detection."""

from collections.abc import Iterable, Sequence
from numbers import Real
from os import PathLike
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from sklearn_vae._compat import Interval, StrOptions
from sklearn_vae.anomaly.attribution import AttributionBaseline, conditional_means
from sklearn_vae.anomaly.base import Scorer, score_in_batches
from sklearn_vae.anomaly.calibration import (
    ScoreLabels,
    conformal_threshold,
    margins,
    split_calibration,
)
from sklearn_vae.anomaly.methods import METHODS, find_scorer
from sklearn_vae.anomaly.reference import CountedRows, are_often_repeated
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.data.fields import Name
from sklearn_vae.data.sources import as_source
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.estimators.base import MIN_ROWS, Cache, ValidatedRows, cached
from sklearn_vae.estimators.caller import called, copy_columns
from sklearn_vae.estimators.checks import CONSTRAINTS, check_run
from sklearn_vae.estimators.given import column_indices
from sklearn_vae.estimators.meta_estimator import MetaEstimator
from sklearn_vae.estimators.source_methods import accepts_source
from sklearn_vae.estimators.transformer import VAETransformer
from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.numerics.random import RandomState, Stream, draw_seed, make_generator
from sklearn_vae.numerics.row_subsets import spread_out
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array
from sklearn_vae.system.warnings import warn

# Largest number of reference rows, to which the model is fitted; of more training rows, so many are
# drawn at random.
MAX_REFERENCE_ROWS = 20_000
# Largest number of reference rows after Ctrl-C, so that calibration takes little time.
MAX_INTERRUPTED_ROWS = 250
# Least number of rows of which halves are fitted, and the largest number of iterations.
MIN_ROWS_TO_SPLIT = 20
MAX_ITER_OF_HALVES = 10
# contamination="auto", of training rows that may contain outliers and of clean ones.
AUTO_CONTAMINATION, AUTO_CONTAMINATION_OF_CLEAN = 0.1, 0.05
# Reference rows of detectors, of which neither pickles nor clones have a copy.
_REFERENCES: Cache = WeakKeyDictionary()


@serializable
class VAEOutlierDetector(ScoreLabels, OutlierMixin, MetaEstimator):
    """Outlier and novelty detection by the density of a variational autoencoder and by neighbours.

    A :class:`VAETransformer` is fitted to the rows. It scores them, explains the scores and
    imputes missing cells in distances between rows.

    In *outlier detection* (``novelty=False``) the training rows may contain outliers. The anomaly
    score is a sum of negative log tail probabilities: of the model's -log p(x), and of the mean
    distance to a tenth of the training rows, the nearest ones, in standard deviations or normal
    scores [2]_, whichever are larger. In a table with classes, the distance has a quarter of the
    weight, and the surprisal of the row's classes given its neighbours [3]_ a half.

    In *novelty detection* (``novelty=True``) the training rows are clean. Beside -log p(x) there
    are the distances to the hyperplane through the eight nearest training rows [1]_, among
    standardized rows and among their normal scores.

    New rows can be scored in both settings. The data do not show which setting applies. Columns
    may be of any type that :class:`VAETransformer` takes, and cells may be missing.
    If ``sample_weight`` contains fractions, weights are rounded to counts of the same sum.

    Parameters
    ----------
    contamination : float or "auto", default="auto"
        Proportion of the training rows that ``predict`` labels -1, in (0, 0.5]; of more than
        20,000 rows, of as many drawn at random. With ``calibration="conformal"``, false positive
        rate among new rows from the distribution of the rows held out. ``"auto"`` is 0.1, or
        0.05 with ``novelty=True``.
    novelty : bool, default=False
        If true, the training rows are assumed to be clean.
    method : str, default="auto"
        Score of ``score_samples``; higher is more normal.

        - ``"auto"``: the score described above, in nats;
        - ``"neighbors"``: the same without the model's density;
        - ``"log_likelihood"``: log p(x), in nats and X's units;
        - ``"reconstruction_probability"``: mean of log p(x|z) over q(z|x) [5]_, in nats and X's
          units;
        - ``"reconstruction"``: minus the squared distance to the reconstruction, in the units
          of the model's columns.
    n_components : int or "auto", default="auto"
        Latent dimensions of the model, as of :class:`VAETransformer`.
    hidden_layer_sizes : int or sequence of int, default=(64, 64)
        Widths of the encoder's hidden layers; the decoder mirrors them.
    max_iter : int, default=40
        Maximum number of iterations of the training.
    calibration : {None, "conformal"}, default=None
        Rows whose scores determine ``p_values`` and the threshold: by default the training
        rows, scored as new ones; with ``"conformal"``, rows held out of training. The error
        rate of conformal calibration is guaranteed for all exchangeable rows [4]_, that of
        training rows is approximate.
    calibration_fraction : float, default=0.2
        Fraction of the rows held out by ``calibration="conformal"``. The smallest possible
        false positive rate is 1 / (1 + number of these rows).
    callbacks : list of skorch callbacks, default=None
        Called in every iteration of the training.
    checkpoint : str or path-like, default=None
        File in which ``fit`` saves the state of the training, as of :class:`VAETransformer`. It
        needs a ``random_state`` other than None.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; ``"auto"`` is the first CUDA device if
        there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of the model and of rows drawn at random. Global random states are not touched.
    verbose : bool or int, default=False
        ``verbose`` of the model.

    Attributes
    ----------
    estimator_ : VAETransformer
        Fitted model.
    offset_ : float
        Threshold of the score: ``predict`` labels rows with lower scores -1.
    columns_ : TableEncoder
        Standardization of the columns in distances; prints as a small table.
    reference_samples_ : ndarray of shape (n_reference, n_features)
        Reference rows in X's units: the distinct training rows in lexicographic order, or those
        of 20,000 drawn at random. Categories are codes, missing cells NaN.
    counts_ : ndarray of shape (n_reference,) or None
        Multiplicities of the reference rows; None if each one occurs once.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Scores of the calibration rows in ascending order, for ``p_values``.
    n_iter_ : int
        Number of iterations of the model's training.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Column names, if X has any.

    See Also
    --------
    VAEDensity : Density estimation; new rows of low density are outliers.
    sklearn.ensemble.IsolationForest : Outliers by random splits.
    sklearn.neighbors.LocalOutlierFactor : Outliers by density relative to neighbours.

    References
    ----------
    .. [1] P. Vincent and Y. Bengio, "K-Local Hyperplane and Convex Distance Nearest
       Neighbor Algorithms", NeurIPS 2001.
    .. [2] H. Liu, J. Lafferty and L. Wasserman, "The Nonparanormal: Semiparametric Estimation of
       High Dimensional Undirected Graphs", JMLR 10, 2009.
    .. [3] E. A. Nadaraya, "On Estimating Regression", Theory of Probability and Its Applications
       9, 1964.
    .. [4] V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World",
       Springer 2005.
    .. [5] J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using
       Reconstruction Probability", SNU Data Mining Center, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_vae import VAEOutlierDetector
    >>> X = load_wine().data
    >>> detector = VAEOutlierDetector(contamination=0.05, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    9
    >>> outlier = X[:1] * np.array([3.0, *[1.0] * 12])  # three times the alcohol
    >>> detector.predict(outlier)
    array([-1])
    >>> int(detector.explain(outlier).argmax())
    0
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{
            name: CONSTRAINTS[name]
            for name in (
                "n_components", "hidden_layer_sizes", "max_iter", "callbacks", "checkpoint",
                "device", "random_state", "verbose",
            )
        },
        "contamination": [Interval(Real, 0, 0.5, closed="right"), StrOptions({"auto"})],
        "novelty": ["boolean"],
        "method": [StrOptions({"auto", "neighbors", *METHODS})],
        "calibration": [StrOptions({"conformal"}), None],
        "calibration_fraction": [Interval(Real, 0, 1, closed="neither")],
    }  # fmt: skip

    estimator_: VAETransformer
    columns_: TableEncoder
    counts_: np.ndarray | None = None
    scorer_: Scorer
    reference_samples_: np.ndarray
    attribution_baseline_: AttributionBaseline

    def __init__(
        self,
        *,
        contamination: float | str = "auto",
        novelty: bool = False,
        method: str = "auto",
        n_components: int | str = "auto",
        hidden_layer_sizes: int | Sequence[int] = (64, 64),
        max_iter: int = 40,
        calibration: str | None = None,
        calibration_fraction: float = 0.2,
        callbacks: Sequence[Callback | tuple[str, Callback]] | None = None,
        checkpoint: str | PathLike[str] | None = None,
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
        self.checkpoint = checkpoint
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the model to the rows, and calibrate the score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, in their own units, or a source of batches as ``VAETransformer.fit``
            takes, of which a random sample is kept.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of times that each row counts.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If a parameter or X is invalid. The detector is then as before.
        """
        with self._watch_fit():
            self._validate_params()
            source = as_source(X)
            if source is not None and sample_weight is None:
                X, _ = source.sample()
            seed = draw_seed(self.random_state)
            # robust: of outliers it does not warn
            self.estimator_ = reader = self._make_model(seed, robust=True)
            rows, weights = reader._check_rows(X, sample_weight, reset=True)
            copy_columns(reader, self)
            reference, calibration = self._choose_rows(rows, weights, seed)
            self.estimator_ = self._make_model(
                seed, callbacks=self.callbacks, checkpoint=self.checkpoint, verbose=self.verbose
            )
            with self._keep_interrupted():
                fit_to(self.estimator_, reference, reader)
                self._calibrate(reference, calibration, reader)
            if self.estimator_.interrupted_:
                reference = reference.select(spread_out(len(reference.X), MAX_INTERRUPTED_ROWS))
                if calibration is not None:
                    few = spread_out(len(calibration.X), MAX_INTERRUPTED_ROWS)
                    calibration = calibration.select(few)
                self._calibrate(reference, calibration)
            self.estimator_.set_params(callbacks=None, checkpoint=None)
        return self

    def _make_model(self, seed: int, **params: Any) -> VAETransformer:
        """Make an unfitted model."""
        return VAETransformer(
            self.n_components,
            hidden_layer_sizes=self.hidden_layer_sizes,
            device=self.device,
            random_state=seed,
            **{"max_iter": self.max_iter, **params},
        )

    def _choose_rows(
        self, X: np.ndarray, weights: np.ndarray | None, seed: int
    ) -> tuple[CountedRows, CountedRows | None]:
        """Choose the reference rows, and hold out those of conformal calibration."""
        X = X.astype(np.float64, copy=False)
        rows = train = CountedRows.from_weights(X, weights, MIN_ROWS, MAX_REFERENCE_ROWS)
        calibration = None
        if self.calibration is not None:
            if len(rows.X) <= MAX_REFERENCE_ROWS:  # in one order, whatever the order of X
                rows = rows.unique()
            generator = make_generator(seed, Stream.SPLIT)
            calibration, train = split_calibration(
                rows, self.calibration_fraction, MIN_ROWS, generator
            )
        if len(train.X) > MAX_REFERENCE_ROWS:
            generator = make_generator(seed, Stream.SPLIT, 1)
            train = train.split(MAX_REFERENCE_ROWS, generator)[0]
        return train.unique(), calibration

    def _validate_params(self) -> None:
        super()._validate_params()
        check_run(self)

    def _calibrate(
        self,
        rows: CountedRows,
        calibration: CountedRows | None,
        reader: VAETransformer | None = None,
    ) -> None:
        """Fit the scorer, the threshold, the calibration scores and the attribution baseline.

        ``rows`` are the reference rows. With ``reader``, which has validated them, models of halves
        of the rows show how optimistic scores are.
        """
        model, (X, counts) = self.estimator_, rows
        normal: Any = Gaussian("per_column")
        if (fields := model._fields) is not None:  # the types of others decide
            normal = [normal if field.categories is None else "auto" for field in fields]
        self.columns_ = model._fit_encoder(X, counts, normal, is_plain=True)
        self.reference_samples_, self.counts_ = X, counts
        reference = self._reference_rows()
        if reader is not None and self.method != "neighbors":
            reference.folds = self._fit_folds(rows, reader)
        has_classes = len(reference.class_columns) > 0
        scorer = find_scorer(self.method, novelty=self.novelty, has_classes=has_classes)
        self.scorer_, anomaly_scores = scorer.fit_score(reference)
        scores = -reference.repeat(anomaly_scores)
        contamination = AUTO_CONTAMINATION_OF_CLEAN if self.novelty else AUTO_CONTAMINATION
        if self.contamination != "auto":
            contamination = float(self.contamination)
        if calibration is None:
            self.calibration_scores_ = np.sort(scores)
            self.offset_ = float(np.quantile(scores, contamination))
        else:
            rows_of_new = self._scored_rows(*calibration, are_new=self._are_new)
            self.calibration_scores_ = np.sort(-self._anomaly_scores(rows_of_new))
            n_rows = len(self.calibration_scores_)
            smallest_rate = 1 / (1 + n_rows)
            if self.contamination != "auto" and contamination < smallest_rate:
                warn(
                    f"contamination={contamination} is less than the smallest false positive rate "
                    f"of {n_rows} calibration rows, which predict has: 1 / (1 + {n_rows}) = "
                    f"{smallest_rate:.2g}. More rows or a larger calibration_fraction lower it."
                )
            self.offset_ = conformal_threshold(self.calibration_scores_, contamination)
        self.attribution_baseline_ = AttributionBaseline.fit(model._predictor(), rows, -scores)
        del _REFERENCES[self]  # which has coordinates that are in the scorer by now

    def _fit_folds(
        self, rows: CountedRows, reader: VAETransformer
    ) -> list[tuple[Predictor, np.ndarray]]:
        """Fit a model to each half of the rows: predictors, and masks of the other half."""
        if len(rows.X) < MIN_ROWS_TO_SPLIT:
            return []
        seed: Any = reader.random_state
        generator = make_generator(seed, Stream.SPLIT, 2)
        order = torch.randperm(len(rows.X), generator=generator).numpy()
        is_second, folds = order % 2 == 1, []
        for is_new in (is_second, ~is_second):
            max_iter = min(self.max_iter, MAX_ITER_OF_HALVES)
            half = self._make_model(seed, max_iter=max_iter, refit=False)
            fit_to(half, rows.select(np.flatnonzero(~is_new)), reader)
            folds.append((half._predictor(), is_new))
        return folds

    @property
    def n_iter_(self) -> int:
        """Number of iterations of the model's training."""
        return self.estimator_.n_iter_

    # -- scores ------------------------------------------------------------------------

    @accepts_source
    def score_samples(self, X: Any) -> np.ndarray:
        """Normality score of each row: higher is more normal.

        A row that equals one of ``reference_samples_`` is not its own neighbour, and its density
        is corrected. With ``novelty=True`` and more than 1% of the training rows repeated, such a
        row is a new one instead.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows, or a source of batches as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Scores, in the units that ``method`` determines.
        """
        check_is_fitted(self)
        rows = self._scored_rows(self._validate(X), are_new=self._are_new)
        return -self._anomaly_scores(rows)

    def fit_predict(self, X: Any, y: Any = None, **params: Any) -> np.ndarray:
        """Fit the model, and label its training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : None
            Ignored.
        **params : dict
            Parameters of ``fit``, such as ``sample_weight``.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for outliers, 1 for inliers.
        """
        self.fit(X, **params)
        return np.where(margins(self._training_scores(X), self.offset_) < 0, -1, 1)

    def explain(self, X: Any) -> np.ndarray:
        """Attribute the anomaly scores of rows to columns.

        A row's attributions add up to the mean score of the training rows less the score of the
        row. A column's attribution increases with the excess of its conditional negative
        log-density, -log p(x_j | the row's other columns), over its mean in the training rows.
        It is the model's, whatever ``method`` the score is of.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Attributions in the units of the score; the largest columns are the most anomalous.
        """
        check_is_fitted(self)
        rows = self._scored_rows(self._validate(X), are_new=self._are_new)
        scores = self._anomaly_scores(rows)
        return self.attribution_baseline_.attribute(self.estimator_._predictor(), rows.X, scores)

    def expected_values(self, X: Any, *, columns: Iterable[Name] | None = None) -> Any:
        """Expected value of each cell given the row's other cells.

        It is the mean of p(x_j | the row's other columns), the median of ordered categories or the
        likeliest one of others: what an anomalous value might have been.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.
        columns : list of str or int, default=None
            Columns whose expected values are computed, by name, or by position if X has no
            names. Time is proportional to their number. By default, all columns.

        Returns
        -------
        array-like of shape (n_samples, n_columns)
            Expected values of these columns, in the order that they have in X; a data frame of
            the type that X had in ``fit``.
        """
        check_is_fitted(self)
        indices = np.arange(self.n_features_in_)
        if columns is not None:
            names = self.estimator_._names_or_indices()
            caller = f"{type(self).__name__}.expected_values"
            indices = column_indices(columns, names, "columns", caller)
        rows = self._scored_rows(self._validate(X))
        model = self.estimator_
        means = conditional_means(model._predictor(), rows.X, indices, model._is_rounded)
        if model.schema_ is not None:
            rows.X[:, indices] = means
            means = model.columns_.on_steps(rows.X)[:, indices]
        return model._restore_table(means, like=X, columns=indices)

    @accepts_source
    def _training_scores(self, X: Any) -> np.ndarray:
        """Normality score of each training row, which is none of ``are_new``."""
        return -self._anomaly_scores(self._scored_rows(self._validate(X)))

    def _scored_rows(
        self, X: np.ndarray, counts: np.ndarray | None = None, *, are_new: bool = False
    ) -> ScoredRows:
        """Validated rows in double precision, with the values of the reference rows."""
        reference = self._reference_rows()
        X = reference.match(X.astype(np.float64, copy=False), self.estimator_._fields)
        columns, model = reference.columns, reference.model
        return ScoredRows(X, columns, model, reference, counts, are_new=are_new)

    def _anomaly_scores(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row, repeated by its count: higher is more anomalous."""
        return rows.repeat(score_in_batches(self.scorer_.score, rows))

    @property
    def _are_new(self) -> bool:
        """True if rows that equal reference rows may be new ones, as in novelty detection."""
        return bool(self.novelty) and are_often_repeated(self.counts_)

    def _validate(self, X: Any) -> np.ndarray:
        """Validate rows, and convert them to numbers."""
        with called(self):
            return self.estimator_._validate(X)

    def _reference_rows(self) -> ScoredRows:
        """Reference rows, which keep what is computed of them until an attribute is set."""
        X, columns, model = self.reference_samples_, self.columns_, self.estimator_._predictor()
        rows: ScoredRows = cached(
            _REFERENCES, self, lambda: ScoredRows(X, columns, model, counts=self.counts_), model
        )
        return rows

    # -- persistence -------------------------------------------------------------------

    def _validate_fitted(self) -> None:
        model = self.estimator_
        self._check_wrapped(model)
        shape = (None, self.n_features_in_)
        check_array("reference_samples_", self.reference_samples_, "f", shape, allows_nan=True)
        n_reference = len(self.reference_samples_)
        check_array("calibration_scores_", self.calibration_scores_, "f", (None,))
        baseline = self.attribution_baseline_.conditional_nll
        check_array("conditional_nll", baseline, "f", (self.n_features_in_,))
        if self.columns_.n_features != self.n_features_in_:
            raise ValueError("the columns of distances are not those of the model")
        n_rows = n_reference
        if self.counts_ is not None:
            check_array("counts_", self.counts_, "i", (n_reference,))
            n_rows = int(self.counts_.sum()) if (self.counts_ > 0).all() else 0
        if n_rows < MIN_ROWS:
            raise ValueError("there are too few reference rows")
        row = self._scored_rows(self.reference_samples_[:1])
        scores = self._anomaly_scores(row)
        self.attribution_baseline_.attribute(model._predictor(), row.X, scores)


def fit_to(model: VAETransformer, rows: CountedRows, reader: VAETransformer) -> None:
    """Fit a model to rows that another one has validated, with their counts as weights."""
    X, counts = rows
    weight = None if counts is None else counts.astype(np.float64)
    model.fit(ValidatedRows(X, weight, reader))
