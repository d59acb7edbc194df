"""VAEOutlierDetector: outlier and novelty detection."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from numbers import Real
from os import PathLike
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from sklearn_vae._compat import Interval, StrOptions
from sklearn_vae.anomaly.attribution import AttributionBaseline, conditional_means
from sklearn_vae.anomaly.autoencoders import make_jobs, trimmed_job
from sklearn_vae.anomaly.base import Scorer, score_in_batches
from sklearn_vae.anomaly.calibration import (
    ScoreLabels,
    conformal_threshold,
    margins,
    out_of_fold_mask,
    split_calibration,
)
from sklearn_vae.anomaly.presets import METHODS, Preset, find_preset, find_scorer
from sklearn_vae.anomaly.reference import CountedRows, are_often_repeated
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.data.fields import Name
from sklearn_vae.data.sources import as_source
from sklearn_vae.estimators.base import MIN_ROWS, Cache, TableEstimator, cached
from sklearn_vae.estimators.checks import CONSTRAINTS
from sklearn_vae.estimators.given import column_indices
from sklearn_vae.estimators.parts import resolve_widths
from sklearn_vae.estimators.source_methods import accepts_source
from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.initialization.factor_analysis import n_imputation_factors
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.numerics.random import Stream, draw_seed, make_generator, start_seeds
from sklearn_vae.numerics.row_subsets import spread_out
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array
from sklearn_vae.system.warnings import warn
from sklearn_vae.training import TrainingJob, TrainingResult

# Largest number of reference rows, on which the autoencoders are trained; of more training rows,
# so many are drawn at random.
MAX_REFERENCE_ROWS = 20_000
# Largest number of factors by which missing values are imputed in the encoder's input.
MAX_FACTORS = 4
# Largest number of reference rows after Ctrl-C, so that calibration takes little time.
MAX_INTERRUPTED_ROWS = 250
# Reference rows of detectors, of which neither pickles nor clones have a copy.
_REFERENCES: Cache = WeakKeyDictionary()


@serializable
class VAEOutlierDetector(ScoreLabels, OutlierMixin, TableEstimator[Predictor]):
    """Outlier and novelty detection by variational autoencoders and nearest neighbours.

    In *outlier detection* (``novelty=False``) the training rows may contain outliers. The anomaly
    score is a weighted sum of negative log tail probabilities. Two are of the mean distance to a
    tenth of the training rows, the nearest ones: in standard deviations, and in standard
    deviations or normal scores [5]_, whichever is larger. In a table with classes the third, with
    half the weight, is of the surprisal of the row's classes given its other columns [6]_; in
    other tables, with a quarter of the weight, of the frequency of its values in their columns.
    The autoencoders are trained with masked inputs and a trimmed ELBO, which leaves out the rows
    of each batch with the largest loss.

    In *novelty detection* (``novelty=True``) the training rows are clean. The anomaly score is
    a weighted sum of negative log tail probabilities of three quantities. Two are distances: the
    Manhattan distance to the nearest training row, and the distance to the hyperplane through
    the eight nearest training rows [1]_. Both are measured among standardized rows and among
    their normal scores [5]_. The third, with half the weight, is the frequency of the row's
    values in their columns.

    The autoencoders explain the score, and have scores of their own (``method``).

    New rows can be scored in both settings. The data do not show which setting applies.

    Columns may be numbers, dates, Booleans, categories and ordered categories, and cells may be
    missing. In distances between rows, numbers are in standard deviations, two classes have a
    distance of sqrt(2), and missing cells are imputed. Autoencoders give classes probabilities,
    whose negative logarithms are their errors, and leave out missing cells.

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
        - ``"latent"``: minus the distance to nearest neighbours in standardized residuals and
          codes;
        - ``"log_likelihood"``: log p(x), in nats and X's units;
        - ``"elbo"``: the evidence lower bound, in nats and X's units;
        - ``"reconstruction_probability"``: mean of log p(x|z) over q(z|x) [4]_, in nats and X's
          units;
        - ``"reconstruction"``: minus the squared distance to the reconstruction, in standard
          deviations of the columns;
        - ``"denoising"``: the same for inputs with noise. Set ``input_noise`` to 0.3, too;
        - ``"masked"``: minus the distance between values and their predictions from the row's
          other values, in standard deviations. It needs a ``mask_fraction`` above 0.
    n_components : int or "auto", default="auto"
        Latent dimensions. ``"auto"`` is half the number of columns, or with ``novelty=True``
        that number, and at most 32.
    hidden_layer_sizes : int or sequence of int, default=(64, 32)
        Widths of the encoder's hidden layers; the decoder mirrors them.
    activation : {"identity", "logistic", "tanh", "relu", "silu", "gelu"}, default="silu"
        Activation function of the hidden layers.
    max_iter : int or "auto", default="auto"
        Number of iterations of 25 gradient steps; on a long table, as many epochs as have this
        number of steps. ``"auto"`` is 16, or 30 with ``novelty=True``.
    batch_size : int, default=128
        Rows per gradient step.
    learning_rate : float or "auto", default="auto"
        Step size of Adam. ``"auto"`` is 8e-3 with ``method="auto"``, else 2e-3, or 4e-3 with
        ``novelty=True``. There it decays to 0.3 and 0.1 of its value after one half and three
        quarters of the iterations.
    weight_decay : float, default=0.0
        Decoupled weight decay of the networks' matrices.
    input_noise : float, default=0.0
        Standard deviation of the Gaussian noise added to the encoder's input in training, in
        standard deviations of the columns.
    mask_fraction : float, default=0.3
        Fraction of the encoder's inputs that are masked in training, in [0, 1).
    trim_fraction : float or "auto", default="auto"
        Fraction of each batch, the rows with the largest loss, that the trimmed ELBO leaves
        out, in [0, 0.5]. ``"auto"`` is 0.3, or 0 with ``novelty=True``.
    n_init : int or "auto", default="auto"
        Number of autoencoders (at most 1000), whose scores are averaged (cross-fitting). Each
        one is trained without one of ``n_init`` folds of the rows and scores this fold. A single
        autoencoder is trained on all rows, so the threshold of its score is biased by overfitting.
        ``"auto"`` is 4, or 1 with ``method="auto"``, whose score it only explains.
    calibration : {None, "conformal"}, default=None
        Rows whose scores determine ``p_values`` and the threshold: by default the training
        rows, scored out of fold; with ``"conformal"``, rows held out of training. The error
        rate of conformal calibration is guaranteed for all exchangeable rows [3]_, that of
        out-of-fold scores is approximate.
    calibration_fraction : float, default=0.2
        Fraction of the rows held out by ``calibration="conformal"``. The smallest possible
        false positive rate is 1 / (1 + number of these rows).
    callbacks : list of skorch callbacks, default=None
        Called in every iteration. scikit-learn's own callbacks are set with ``set_callbacks``
        from scikit-learn 1.9 on.
    checkpoint : str or path-like, default=None
        File in which ``fit`` saves its state at the ends of iterations, for up to 5% of the
        time. The same ``fit`` in another process resumes from it with bit-identical results;
        other rows or parameters are an error. The file is removed at the end of the fit. It
        needs a ``random_state`` other than None.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; ``"auto"`` is the first CUDA device if
        there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initial parameters, batches, noise and Monte Carlo points. Global random states
        are not touched.
    verbose : bool or int, default=False
        If true, the progress of each training is printed in one line: iteration, loss, rate and
        time left. Above 1, a table with a line per iteration is printed instead.

    Attributes
    ----------
    offset_ : float
        Threshold of the score: ``predict`` labels rows with lower scores -1.
    columns_ : TableEncoder
        Standardization of the columns; prints as a small table.
    reference_samples_ : ndarray of shape (n_reference, n_features)
        Reference rows in X's units: the distinct training rows in lexicographic order, or those
        of 20,000 drawn at random. Categories are codes, missing cells NaN.
    counts_ : ndarray of shape (n_reference,) or None
        Multiplicities of the reference rows; None if each one occurs once.
    left_out_ : ndarray of shape (n_members, n_reference), bool
        Reference rows that each autoencoder was not trained on, and which it scores.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Scores of the calibration rows in ascending order, for ``p_values``.
    state_dict_ : dict of ndarray
        Parameters of the autoencoders by name, with a leading member axis.
    history_ : list of dict
        One record per iteration of an autoencoder: ``member``, ``iteration``, ``loss``,
        ``reconstruction_loss``, ``kl_loss``, ``beta``, ``learning_rate``. Losses are nats per
        row in X's units, averaged over the rows that were not trimmed.
    n_iter_ : int
        Number of iterations of each autoencoder.
    interrupted_ : bool
        True if Ctrl-C ended the fit early.
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
    .. [2] S. Han et al., "ADBench: Anomaly Detection Benchmark", NeurIPS 2022.
    .. [3] V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World",
       Springer 2005.
    .. [4] J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using
       Reconstruction Probability", SNU Data Mining Center, 2015.
    .. [5] H. Liu, J. Lafferty and L. Wasserman, "The Nonparanormal: Semiparametric Estimation of
       High Dimensional Undirected Graphs", JMLR 10, 2009.
    .. [6] E. A. Nadaraya, "On Estimating Regression", Theory of Probability and Its Applications
       9, 1964.

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
                "n_components", "hidden_layer_sizes", "activation", "batch_size", "weight_decay",
                "n_init", "callbacks", "checkpoint", "device", "random_state", "verbose",
            )
        },
        **{
            name: [*CONSTRAINTS[name], StrOptions({"auto"})]
            for name in ("max_iter", "learning_rate")
        },
        "contamination": [Interval(Real, 0, 0.5, closed="right"), StrOptions({"auto"})],
        "novelty": ["boolean"],
        "method": [StrOptions(set(METHODS))],
        "input_noise": [Interval(Real, 0, None, closed="left")],
        "mask_fraction": [Interval(Real, 0, 1, closed="left")],
        "trim_fraction": [Interval(Real, 0, 0.5, closed="both"), StrOptions({"auto"})],
        "calibration": [StrOptions({"conformal"}), None],
        "calibration_fraction": [Interval(Real, 0, 1, closed="neither")],
    }  # fmt: skip

    architecture_: Architecture
    left_out_: np.ndarray
    counts_: np.ndarray | None = None
    scorer_: Scorer
    reference_samples_: np.ndarray
    seed_: int
    attribution_baseline_: AttributionBaseline
    state_dict_: dict[str, np.ndarray]

    def __init__(
        self,
        *,
        contamination: float | str = "auto",
        novelty: bool = False,
        method: str = "auto",
        n_components: int | str = "auto",
        hidden_layer_sizes: int | Sequence[int] = (64, 32),
        activation: str = "silu",
        max_iter: int | str = "auto",
        batch_size: int = 128,
        learning_rate: float | str = "auto",
        weight_decay: float = 0.0,
        input_noise: float = 0.0,
        mask_fraction: float = 0.3,
        trim_fraction: float | str = "auto",
        n_init: int | str = "auto",
        calibration: str | None = None,
        calibration_fraction: float = 0.2,
        callbacks: Sequence[Callback | tuple[str, Callback]] | None = None,
        checkpoint: str | PathLike[str] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
    ):
        self.contamination = contamination
        self.novelty = novelty
        self.method = method
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.input_noise = input_noise
        self.mask_fraction = mask_fraction
        self.trim_fraction = trim_fraction
        self.n_init = n_init
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -------------------------------------------------------------------------

    def _make_jobs(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[list[TrainingJob], CountedRows | None]:
        """Set the reference rows and make one job per autoencoder."""
        self._validate_params()
        source = as_source(X)
        if source is not None and sample_weight is None:  # the reference rows are a sample anyway
            X, _ = source.sample()
        X, weights = self._check_rows(X, sample_weight, reset=True)
        self.dtype_ = X.dtype
        self.seed_ = draw_seed(self.random_state)
        preset = self._preset()
        X = X.astype(np.float64, copy=False)
        rows = CountedRows.from_weights(X, weights, MIN_ROWS, MAX_REFERENCE_ROWS)
        train, calibration = rows, None
        if self.calibration is not None:
            if len(rows.X) <= MAX_REFERENCE_ROWS:  # in one order, whatever the order of X
                rows = rows.unique()
            generator = make_generator(self.seed_, Stream.SPLIT)
            calibration, train = split_calibration(
                rows, self.calibration_fraction, MIN_ROWS, generator
            )
        if len(train.X) <= MAX_REFERENCE_ROWS:
            train = reference = train.unique()
        else:
            generator = make_generator(self.seed_, Stream.SPLIT, 1)
            reference = train.split(MAX_REFERENCE_ROWS, generator)[0].unique()
        self.columns_ = self._fit_encoder(*train, self._likelihoods(), is_plain=True)
        self.reference_samples_, self.counts_ = reference
        generator = make_generator(self.seed_, Stream.SPLIT, 2)
        n_rows = len(reference.X)
        self.left_out_ = out_of_fold_mask(n_rows, preset.n_init, MIN_ROWS, generator)

        table = self._encode(*reference)
        self.architecture_ = self._architecture(n_rows)
        config = preset.training_config(
            int((~self.left_out_[0]).sum()),
            seed=self.seed_,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            input_noise=self.input_noise,
            input_mask=self.mask_fraction,
        )
        jobs = make_jobs(self.architecture_, config, table, self.left_out_)
        return jobs, calibration

    def _architecture(self, n_rows: int) -> Architecture:
        """Return the architecture of the autoencoders of so many reference rows."""
        columns, n_components = self.columns_, self.n_components
        if n_components == "auto":
            n_components = self._preset().n_components(columns.n_columns)
        n_factors = n_imputation_factors(n_rows, columns.n_columns) if columns.has_missing else 0
        return Architecture(
            n_components=int(n_components),
            hidden_layer_sizes=resolve_widths(self.hidden_layer_sizes, type(self).__name__),
            activation=self.activation,
            blocks=columns.blocks,
            n_factors=min(n_factors, MAX_FACTORS),
        )

    def _select(
        self, jobs: list[TrainingJob], results: list[TrainingResult], rows: Any
    ) -> tuple[list[TrainingResult], list[TrainingJob]]:
        """Make the jobs that train all autoencoders further with the trimmed ELBO."""
        trim_fraction = float(self._preset().trim_fraction)
        if not trim_fraction:
            return results, []
        pairs = zip(jobs, results, strict=True)
        return results, [trimmed_job(job, result, trim_fraction) for job, result in pairs]

    def _set_results(
        self, jobs: list[TrainingJob], results: list[TrainingResult], rows: CountedRows | None
    ) -> None:
        """Set the fitted attributes and calibrate the score, after Ctrl-C with few rows.

        ``rows`` are held out for conformal calibration.
        """
        weights = [result.weights for result in results]
        self.state_dict_ = {name: np.concatenate([w[name] for w in weights]) for name in weights[0]}
        self.history_ = [
            {"member": member, **{k: v for k, v in record.items() if k != "refit"}}
            for member, result in enumerate(results)
            for record in result.history
        ]
        self.n_iter_ = len(self.history_) // len(results)
        self._warn_of_divergence(results, self._preset().learning_rate)
        if self.interrupted_:
            seeds = start_seeds(self.seed_, len(self.left_out_))
            members = [seeds.index(job.config.seed) for job in jobs]
            reference = CountedRows(self.reference_samples_, self.counts_)
            indices = spread_out(len(reference.X), MAX_INTERRUPTED_ROWS)
            self.reference_samples_, self.counts_ = reference.select(indices)
            self.left_out_ = self.left_out_[members][:, indices]
            if rows is not None:
                rows = rows.select(spread_out(len(rows.X), MAX_INTERRUPTED_ROWS))
        self._calibrate(rows)

    def _attributes_of(self, weights: dict[str, np.ndarray]) -> None:
        return None  # the scorer and its calibration need all autoencoders

    def _preset(self) -> Preset:
        """Values of the parameters, those of the setting's preset for "auto"."""
        preset = find_preset(self.method, novelty=self.novelty)
        params = {field.name: getattr(self, field.name, "auto") for field in fields(preset)}
        return replace(preset, **{k: v for k, v in params.items() if not isinstance(v, str)})

    def _training_dtype(self, X: np.ndarray, weight: np.ndarray | None) -> np.dtype:
        # rows are in double precision here, whatever X is
        return np.dtype(np.float32)

    def _likelihoods(self) -> Any:
        """Likelihood of each column: numbers are normal, and the types of others decide."""
        normal = Gaussian("per_column")
        if self.schema_ is None:
            return normal
        return [normal if field.categories is None else "auto" for field in self.schema_.fields]

    def _calibrate(self, calibration: CountedRows | None) -> None:
        """Fit the scorer, the threshold, the calibration scores and the attribution baseline."""
        reference = self._reference_rows()
        has_classes = len(reference.class_columns) > 0
        scorer = find_scorer(self.method, novelty=self.novelty, has_classes=has_classes)
        self.scorer_, anomaly_scores = scorer.fit_score(reference)
        scores = -reference.repeat(anomaly_scores)
        contamination = self._preset().contamination
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
        rows = CountedRows(self.reference_samples_, self.counts_)
        self.attribution_baseline_ = AttributionBaseline.fit(self._predictor(), rows, -scores)
        del _REFERENCES[self]  # which has coordinates that are in the scorer by now

    # -- scores ------------------------------------------------------------------------

    @accepts_source
    def score_samples(self, X: Any) -> np.ndarray:
        """Normality score of each row: higher is more normal.

        A row that equals one of ``reference_samples_`` is scored out of fold, by autoencoders
        that were not trained on it, and is not its own neighbour. With ``novelty=True`` and more
        than 1% of the training rows repeated, such a row is a new one instead.

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
        """Fit the model, and label its training rows by their out-of-fold scores.

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
        It is computed by the autoencoders, whatever ``method`` the score is of.

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
        return self.attribution_baseline_.attribute(self._predictor(), rows.X, scores)

    def expected_values(self, X: Any, *, columns: Iterable[Name] | None = None) -> Any:
        """Expected value of each cell given the row's other cells.

        It is the mean of p(x_j | the row's other columns), the median of ordered categories or the
        likeliest one of others, by the autoencoders: what an anomalous value might have been. Means
        are extrapolated in rows far from all others, so they may be outside the range of the
        column.

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
            names = self._names_or_indices()
            caller = f"{type(self).__name__}.expected_values"
            indices = column_indices(columns, names, "columns", caller)
        rows = self._scored_rows(self._validate(X))
        means = conditional_means(self._predictor(), rows.X, indices, self._is_rounded)
        if self.schema_ is not None:
            rows.X[:, indices] = means
            means = self.columns_.on_steps(rows.X)[:, indices]
        return self._restore_table(means, like=X, columns=indices)

    @accepts_source
    def _training_scores(self, X: Any) -> np.ndarray:
        """Normality score of each training row, out of fold for reference rows."""
        return -self._anomaly_scores(self._scored_rows(self._validate(X)))

    def _scored_rows(
        self, X: np.ndarray, counts: np.ndarray | None = None, *, are_new: bool = False
    ) -> ScoredRows:
        """Validated rows in double precision, with the values of the reference rows."""
        reference = self._reference_rows()
        X = reference.match(X.astype(np.float64, copy=False), self._fields)
        return ScoredRows(X, reference.predictor, reference, counts=counts, are_new=are_new)

    def _anomaly_scores(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row, repeated by its count: higher is more anomalous."""
        return rows.repeat(score_in_batches(self.scorer_.score, rows))

    @property
    def _are_new(self) -> bool:
        """True if rows that equal reference rows may be new ones, as in novelty detection."""
        return bool(self.novelty) and are_often_repeated(self.counts_)

    def _reference_rows(self) -> ScoredRows:
        """Reference rows, which keep what is computed of them until an attribute is set."""
        X, out_of_fold, counts = self.reference_samples_, self.left_out_, self.counts_
        rows: ScoredRows = cached(
            _REFERENCES,
            self,
            lambda: ScoredRows(X, self._predictor(), out_of_fold=out_of_fold, counts=counts),
        )
        return rows

    def _make_predictor(self, device: torch.device) -> Predictor:
        weights = dict(self.state_dict_)
        return Predictor(self.columns_, self.architecture_, weights, self.seed_, device)

    # -- persistence -------------------------------------------------------------------

    def _validate_fitted(self) -> None:
        super()._validate_fitted()
        shape = (None, self.n_features_in_)
        check_array("reference_samples_", self.reference_samples_, "f", shape, allows_nan=True)
        n_reference = len(self.reference_samples_)
        check_array("calibration_scores_", self.calibration_scores_, "f", (None,))
        baseline = self.attribution_baseline_.conditional_nll
        check_array("conditional_nll", baseline, "f", (self.n_features_in_,))
        fitted = self._predictor()
        check_array("left_out_", self.left_out_, "b", (fitted.n_members, n_reference))
        n_rows = n_reference
        if self.counts_ is not None:
            check_array("counts_", self.counts_, "i", (n_reference,))
            n_rows = int(self.counts_.sum()) if (self.counts_ > 0).all() else 0
        if n_rows < MIN_ROWS:
            raise ValueError("there are too few reference rows")
        row = self._scored_rows(self.reference_samples_[:1])
        self.attribution_baseline_.attribute(fitted, row.X, self._anomaly_scores(row))
