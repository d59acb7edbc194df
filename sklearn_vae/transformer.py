"""VAETransformer: codes, reconstructions, samples and a density in one estimator."""

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted

from sklearn_vae.base import BaseVAE


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseVAE):
    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden_layer_sizes: Any = (128, 64),
        activation: str = "silu",
        likelihood: Any = "auto",
        beta: Any = 1.0,
        free_bits: float = 0.0,
        scale_prior: float = 10.0,
        max_iter: int = 200,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        early_stopping: Any = "auto",
        validation_fraction: float = 0.15,
        n_iter_no_change: int = 10,
        tol: float = 1e-3,
        refit: bool = True,
        callbacks: Any = None,
        warm_start: bool = False,
        device: str = "auto",
        random_state: Any = None,
        verbose: Any = False,
    ):
        super().__init__(
            n_components=n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            likelihood=likelihood,
            beta=beta,
            free_bits=free_bits,
            scale_prior=scale_prior,
            max_iter=max_iter,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            refit=refit,
            callbacks=callbacks,
            warm_start=warm_start,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )

    def transform(self, X: Any) -> np.ndarray:
        """Give the mean of each row's code, with no chance in it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Mean of q(z|x).
        """
        check_is_fitted(self)
        return self._fitted().codes(self._validate(X, reset=False))

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Give the mean of p(x|z), in X's own units.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows; in a binary column, the lower value plus the probability of the upper
            one times their distance.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        n_components = self.architecture_.n_components
        if Z.shape[1] != n_components:
            raise ValueError(
                f"Z has {Z.shape[1]} columns, but this {type(self).__name__} was fitted with "
                f"n_components={n_components}."
            )
        return self._fitted().decode(Z)

    def interpolate(self, x0: Any, x1: Any, n: int = 10) -> np.ndarray:
        """Walk in a straight line between two rows' codes.

        Parameters
        ----------
        x0, x1 : array-like of shape (n_features,)
            Where the walk begins and ends.
        n : int, default=10
            Number of rows on the way, both ends included.

        Returns
        -------
        ndarray of shape (n, n_features)
            Mean of p(x|z) at evenly spaced z.
        """
        start, end = self.transform(np.vstack([np.ravel(x0), np.ravel(x1)]))
        share = np.linspace(0, 1, n, dtype=start.dtype)[:, None]
        return self.inverse_transform((1 - share) * start + share * end)

    @property
    def _n_features_out(self) -> int:
        return self.architecture_.n_components

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
