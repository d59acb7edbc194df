"""A fitted VAEClassifier in numpy."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_vae.numerics.array_api import log_softmax
from sklearn_vae.runtime.table import GenerativeModel


@dataclass(eq=False, repr=False)
class ClassifierModel:
    """A fitted :class:`~sklearn_vae.VAEClassifier` that computes with numpy; see :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    classes_ : ndarray of shape (n_classes,)
        Sorted classes.
    """

    model: GenerativeModel
    classes_: np.ndarray
    priors: np.ndarray
    n_draws: int

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X."""
        return self.model.n_features_in_

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
        return self.log_probabilities(self.model.read(X))

    def log_probabilities(self, rows: np.ndarray) -> np.ndarray:
        """Log-probabilities of the classes of rows of numbers: (n, n_classes)."""
        return log_softmax(self.model.joint_log_density(rows, self.priors, self.n_draws))

    def predict_proba(self, X: Any) -> np.ndarray:
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

    def predict(self, X: Any) -> np.ndarray:
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
        return self.classes_[self.predict_log_proba(X).argmax(axis=1)]
