"""Base of the estimators that fit a model of rows, ``estimator_``, and work by it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from sklearn_vae._typing import Rows, Target, Weights
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.estimators.density_estimator import DensityEstimator
from sklearn_vae.estimators.estimator_base import EstimatorBase, called, restore_on_error
from sklearn_vae.numerics.random import RandomState
from sklearn_vae.training.callbacks import raise_interruption


class MetaEstimator(EstimatorBase):
    """Base of an estimator that fits another one to the rows, and is the one that messages name."""

    estimator: DensityEstimator | None
    random_state: RandomState
    estimator_: DensityEstimator
    n_features_in_: int

    @property
    def columns_(self) -> TableEncoder:
        """Distribution of each column in the model."""
        check_is_fitted(self)
        return self.estimator_.columns_

    @property
    def n_components_(self) -> int:
        """Number of latent dimensions of the model."""
        check_is_fitted(self)
        return self.estimator_.n_components_

    @property
    def n_iter_(self) -> int:
        """Number of iterations of the model's training."""
        check_is_fitted(self)
        return self.estimator_.n_iter_

    def _clone(self, estimator: DensityEstimator) -> DensityEstimator:
        """Return an unfitted copy, with this estimator's seed unless it has one."""
        model: DensityEstimator = clone(estimator)
        if model.random_state is None:
            model.random_state = self.random_state  # a subclass may have fewer parameters
        return model

    def _fit(self, X: Rows, y: Target, sample_weight: Weights) -> None:
        with called(self), restore_on_error(self):
            self._validate_params()
            self._train(X, y, sample_weight)
        if self.estimator_.interrupted_:
            raise_interruption(
                f"{type(self).__name__}.fit was interrupted. It keeps what was fitted by then: "
                f"estimator_ has n_iter_={self.estimator_.n_iter_}, and its interrupted_ is True."
            )

    def _train(self, X: Rows, y: Target, sample_weight: Weights) -> None:
        """Set the fitted attributes."""
        raise NotImplementedError

    @contextmanager
    def _keep_interrupted(self) -> Iterator[None]:
        """Go on after Ctrl-C with ``estimator_`` as it is, if its training came to anything."""
        try:
            yield
        except KeyboardInterrupt:
            if not hasattr(self.estimator_, "n_iter_"):
                raise
            self.estimator_.interrupted_ = True

    def _validate(self, X: Rows) -> np.ndarray:
        with called(self):
            return self.estimator_._validate(X)

    def _check_wrapped(self, model: DensityEstimator) -> None:
        """Validate the model that was fitted, and that its columns are this estimator's."""
        model._validate_fitted()
        self._check_annotations()
        names = [getattr(each, "feature_names_in_", np.array([])) for each in (self, model)]
        is_same = type(names[0]) is type(names[1]) and np.array_equal(names[0], names[1])
        if self.n_features_in_ != model.n_features_in_ or not is_same:
            raise ValueError("the columns are not those of the model")
