"""Images as flat rows of a table."""

import math
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import check_is_fitted, validate_data


class FlattenImages(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Transformer that flattens images to rows, for Pipelines that are fitted to images.

    Pixels are in C order, as :class:`~sklearn_vae.networks.ConvNet` requires. A
    two-dimensional X is returned unchanged.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of one image: (height, width) or (height, width, channels).
    n_features_in_ : int
        Length of the first axis of an image.

    See Also
    --------
    sklearn_vae.networks.ConvNet : Convolutional network for such rows.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_vae.preprocessing import FlattenImages
    >>> images = load_digits().images  # (1797, 8, 8)
    >>> flatten = FlattenImages().fit(images)
    >>> flatten.transform(images).shape
    (1797, 64)
    >>> flatten.inverse_transform(flatten.transform(images)).shape
    (1797, 8, 8)
    """

    image_shape_: tuple[int, ...]

    def fit(self, X: Any, y: Any = None) -> Self:
        """Record the shape of the images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, height, width, channels)
            Images.
        y : None
            Ignored; here for scikit-learn's conventions.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        self.image_shape_ = self._validate(X, reset=True).shape[1:]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Flatten each image to a row.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, height, width, channels)
            Images.

        Returns
        -------
        ndarray of shape (n_samples, n_pixels)
            Pixels in C order.

        Raises
        ------
        ValueError
            If the shape of the images differs from that in ``fit``.
        """
        check_is_fitted(self)
        shape = np.asarray(X).shape[1:]
        if shape != self.image_shape_ and max(len(shape), len(self.image_shape_)) > 1:
            raise ValueError(
                f"X holds images of shape {shape}, but this FlattenImages was fitted to images of "
                f"shape {self.image_shape_}."
            )
        X = self._validate(X, reset=False)
        return X.reshape(len(X), -1)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Reshape each row to an image.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels)
            Images.

        Raises
        ------
        ValueError
            If the number of columns is not that of pixels.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=None, ensure_all_finite="allow-nan")
        if X.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {X.shape[1]} columns, but images of shape {self.image_shape_} have "
                f"{self._n_features_out} numbers."
            )
        return X.reshape(len(X), *self.image_shape_)

    def _validate(self, X: Any, *, reset: bool) -> np.ndarray:
        X = validate_data(
            self, X, reset=reset, dtype="numeric", allow_nd=True, ensure_all_finite="allow-nan"
        )
        if X.ndim > 4:
            raise ValueError(
                f"X must be (n_samples, height, width) or (n_samples, height, width, channels). "
                f"Got an array of shape {X.shape} instead."
            )
        return X

    @property
    def _n_features_out(self) -> int:
        return math.prod(self.image_shape_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
