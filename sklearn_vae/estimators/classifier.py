"""VAEClassifier: Bayes' rule applied to the densities of rows given their class."""

from dataclasses import replace
from numbers import Integral
from typing import Annotated, Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sklearn_vae._compat import Interval, num_samples
from sklearn_vae.data.arrays import Rows, Target, Weights, is_missing
from sklearn_vae.data.conditions import ConditionEncoder, as_dense
from sklearn_vae.data.sources import accepts_source, check_is_table
from sklearn_vae.estimators.density import VAEDensity
from sklearn_vae.estimators.density_estimator import DensityEstimator
from sklearn_vae.estimators.estimator_base import MetaEstimator
from sklearn_vae.estimators.transformer import VAETransformer
from sklearn_vae.inference.class_marginal import ClassMarginal
from sklearn_vae.inference.log_density import SCORE_DRAWS
from sklearn_vae.numerics.array_api import log_softmax
from sklearn_vae.numerics.random import MAX_DRAWS, RandomState
from sklearn_vae.persistence.validation import check_hashes, serializable


@serializable
class VAEClassifier(ClassifierMixin, MetaEstimator):
    """Classify rows by the density of each class, and score rows of no class.

    Give columns of any type in their own units, with or without missing values. ``estimator_`` is
    the model of rows given their class: it scores rows of no class low, and draws rows of any
    class. If missing cells tell the class, add their mask as a column: the model uses observed
    cells alone.

    Parameters
    ----------
    estimator : VAETransformer or VAEDensity, default=None
        Unfitted model. None is a VAETransformer with its defaults.
    priors : array-like of shape (n_classes,), default=None
        Probabilities of the classes in the order of ``classes_``. None takes their frequencies in
        ``fit``; set others if classes are more or less frequent in use.
    n_draws : int, default=128
        Codes drawn per row and class. More draws lower the error of the probabilities.
    random_state : int, RandomState instance or None, default=None
        Seed of the model, unless ``estimator`` has one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted classes.
    priors_ : ndarray of shape (n_classes,)
        Probabilities of the classes.
    estimator_, columns_, n_components_, n_iter_
        The model of rows given y, and its columns, latent dimensions and iterations.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Names of the columns, where X has any.

    See Also
    --------
    sklearn.discriminant_analysis.LinearDiscriminantAnalysis : The model before training.
    sklearn.naive_bayes.GaussianNB : Independent normal columns given the class.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAEClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = VAEClassifier(random_state=0).fit(X, y)
    >>> model.predict(X[:2])
    array([0, 0])
    >>> model.score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [VAETransformer, VAEDensity, None],
        "priors": ["array-like", None],
        "n_draws": [Interval(Integral, 1, MAX_DRAWS, closed="both")],
        "random_state": ["random_state"],
    }

    estimator_: DensityEstimator
    classes_: np.ndarray
    priors_: Annotated[np.ndarray, "f", "n_classes"]

    def __init__(
        self,
        estimator: DensityEstimator | None = None,
        *,
        priors: ArrayLike | None = None,
        n_draws: int = SCORE_DRAWS,
        random_state: RandomState = None,
    ):
        self.estimator = estimator
        self.priors = priors
        self.n_draws = n_draws
        self.random_state = random_state

    def _train(self, X: Rows, y: Target, sample_weight: Weights) -> None:
        check_is_table(X, type(self).__name__)
        labels: Any = as_dense(y)
        if labels is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        array = np.asarray(labels)
        if array.dtype.kind == "O" and any(map(is_missing, array.ravel())):
            raise ValueError("Input y contains missing values.")
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        labels = column_or_1d(labels, warn=True)
        if len(labels) == num_samples(X):
            classes, labels = np.unique(labels, return_inverse=True)
            if self.priors is not None and sample_weight is None:  # before a long training
                self.classes_ = classes
                self._check_priors("priors", self.priors)
        self.estimator_ = model = self._clone(self.estimator or VAETransformer())
        model.conditional = True
        with self._keep_interrupted():
            model.fit(X, labels, sample_weight=sample_weight)
        encoder = cast(ConditionEncoder, model.condition_encoder_)
        codes: Any = encoder.fields[0].categories
        self.classes_ = classes[[*codes]]  # classes of rows of positive weight
        model_classes = tuple(self.classes_.tolist())  # the model's y
        encoder.fields = [replace(encoder.fields[0], categories=model_classes)]
        self.priors_ = encoder.class_prior
        if self.priors is not None:
            self.priors_ = self._check_priors("priors", self.priors).copy()

    def _check_settable(self) -> None:
        self.priors_ = self._check_priors("priors_", self.priors_)

    def _check_priors(self, name: str, value: ArrayLike) -> np.ndarray:
        """Check and convert the priors of a parameter or attribute."""
        try:
            priors = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):  # what are no numbers
            priors = np.empty(0)
        is_valid = priors.shape == self.classes_.shape and (priors >= 0).all()
        if not is_valid or not np.isclose(priors.sum(), 1):
            raise ValueError(
                f"The '{name}' {'attribute' if name[-1] == '_' else 'parameter'} of VAEClassifier "
                f"must be {len(self.classes_)} numbers of at least 0 that sum to 1, one for each "
                f"class. Got {value!r} instead."
            )
        return priors

    @accepts_source
    def predict_log_proba(self, X: Rows) -> np.ndarray:
        """Compute the logarithms of the class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        check_is_fitted(self)
        rows = self._validate(X)
        self._check_settable()
        marginal = ClassMarginal(self.estimator_._predictor(), self.priors_)
        return log_softmax(marginal.joint_log_density(rows, int(self.n_draws)))

    def predict_proba(self, X: Rows) -> np.ndarray:
        """Compute the class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Rows) -> np.ndarray:
        """Predict the class of the highest probability.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Classes.
        """
        log_proba = self.predict_log_proba(X)  # refuses an estimator that is not fitted
        return self.classes_[log_proba.argmax(axis=1)]

    def _validate_fitted(self) -> None:
        super()._validate_fitted()
        encoder = self.estimator_.condition_encoder_
        shapes = {np.shape(self.classes_), np.shape(self.priors_)}
        if encoder is None or shapes != {np.shape(encoder.class_prior)}:
            raise ValueError("the classes are not those of the model")
        self._check_settable()
        check_hashes(self.classes_.tolist())
