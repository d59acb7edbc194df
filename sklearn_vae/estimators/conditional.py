"""Base of an estimator of p(x|y): encodes y beside the rows, and averages over its classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sklearn_vae._compat import num_samples
from sklearn_vae.data.arrays import as_array
from sklearn_vae.data.conditions import ConditionEncoder, split_columns
from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.data.fields import Name
from sklearn_vae.estimators.base import FULLY_CONNECTED, DensityEstimator
from sklearn_vae.estimators.checks import check_is_table
from sklearn_vae.inference.class_marginal import ClassMarginal
from sklearn_vae.inference.log_density import SCORE_DRAWS
from sklearn_vae.networks import Network
from sklearn_vae.persistence.validation import check_count
from sklearn_vae.random import RandomState


class ConditionalDensityEstimator(DensityEstimator):
    """Base of an estimator of p(x), or with ``conditional=True`` of p(x|y)."""

    conditional: bool
    condition_encoder_: ConditionEncoder | None = None

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.target_tags.required = bool(self.conditional)
        return tags

    # -- conditions to numbers ---------------------------------------------------------

    def _check_rows(
        self,
        X: Any,
        sample_weight: Any,
        network: Network = FULLY_CONNECTED,
        y: Any = None,
        *,
        reset: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Validate training rows, and append the columns of their conditions, if any."""
        if self.conditional:
            check_is_table(X, "conditional=True")
        rows, weight = super()._check_rows(X, sample_weight, network, reset=reset)
        if not reset and self.conditional != (self.condition_encoder_ is not None):
            raise ValueError(
                f"The 'conditional' parameter must be {not self.conditional}, as in the fit that "
                f"this one goes on from. Got {self.conditional} instead."
            )
        if not self.conditional:
            self.condition_encoder_ = None
            return rows, weight
        columns = self._condition_columns(y, num_samples(X))
        if len(rows) < len(columns[0]):
            is_positive = np.asarray(as_array(sample_weight)) > 0
            columns = [column[is_positive] for column in columns]
        if reset or self.condition_encoder_ is None:
            self.condition_encoder_ = ConditionEncoder.fit(columns, weight)
        codes = self.condition_encoder_.transform(columns).astype(rows.dtype)
        return np.hstack([rows, codes]), weight

    def _fit_encoder(
        self, rows: Any, weight: np.ndarray | None, *args: Any, **kwargs: Any
    ) -> TableEncoder:
        if self.condition_encoder_ is None:
            return super()._fit_encoder(rows, weight, *args, **kwargs)
        encoder = super()._fit_encoder(rows[:, : self.n_features_in_], weight, *args, **kwargs)
        return replace(encoder, conditions=self.condition_encoder_.encoder)

    def _condition_columns(self, y: Any, n_rows: int) -> list[np.ndarray]:
        """Split y into columns (n_rows,), and refuse None."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: with "
                f"conditional=True it is a model of p(x|y)."
            )
        return split_columns(y, n_rows)

    def _encode_conditions(self, y: Any, n_rows: int, dtype: np.dtype) -> np.ndarray | None:
        """Encode y as codes and numbers (n_rows, n_y); None for a model without conditions."""
        if self.condition_encoder_ is None:
            return None
        columns = self._condition_columns(y, n_rows)
        return self.condition_encoder_.transform(columns).astype(dtype)

    def _check_y_is_used(self, y: Any, method: str) -> None:
        """Refuse a y that the model would ignore."""
        if y is not None and self.condition_encoder_ is None:
            raise ValueError(
                f"{method} takes y where the model is one of p(x|y), and this one was fitted with "
                f"conditional=False. Fit {type(self).__name__}(conditional=True) to X and y."
            )

    def _validate_with_conditions(
        self, X: Any, y: Any = None, columns: np.ndarray | None = None
    ) -> np.ndarray:
        rows = self._validate(X, reset=False, columns=columns)
        codes = self._encode_conditions(y, len(rows), rows.dtype)
        return rows if codes is None else np.hstack([rows, codes])

    # -- densities and samples ---------------------------------------------------------

    def _rows_and_model(
        self, X: Any, y: Any = None, columns: np.ndarray | None = None
    ) -> tuple[np.ndarray, Any]:
        """Validate rows, and return them with the model of p(x|y), or of p(x) if y is None."""
        if self.condition_encoder_ is None or y is not None:
            return self._validate_with_conditions(X, y, columns), self._fitted()
        return self._validate(X, reset=False, columns=columns), self._marginal_model()

    def _marginal_model(self) -> Any:
        """Return the model of p(x), averaged over the classes y."""
        encoder = self.condition_encoder_
        if encoder is None or not len(encoder.class_prior):
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: it was "
                f"fitted to a y of numbers or of several columns, over which no mean can be taken. "
                f"(A y of integers, strings or truth values is one of classes.)"
            )
        return ClassMarginal(self._fitted(), encoder.class_prior)

    def score_samples(
        self,
        X: Any,
        y: Any = None,
        *,
        columns: Iterable[Name] | None = None,
        given: Iterable[Name] | None = None,
        n_draws: int = SCORE_DRAWS,
        return_std: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Log-density of each row, in nats and in X's own units.

        It is log p(x) by importance sampling, whatever objective trained the model, so it can
        be compared between models, with ``GaussianMixture``,
        ``KernelDensity`` and ``PCA``. All rows share the same Sobol points: a
        row's score is deterministic and does not depend on the other rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score, or a source of batches as in ``fit``.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the condition of the rows: the score is then log p(x|y).
            Without y it is log p(x): p(x|y) is averaged over the classes, weighted by their
            frequencies in ``fit``, and VAEDensity integrates out classes and numbers.
        columns : list of str or int, default=None
            Columns that are scored, by name, or by position if X has no names: the score is their
            marginal log-density, the other columns integrated out. A data frame X needs no
            others. By default, all columns that are not ``given``.
        given : list of str or int, default=None
            Columns that the score is conditional on: it is log p(columns | given).
        n_draws : int, default=64
            Points in latent space per row; a power of two is best. Rows whose importance weights
            are uneven get more.
        return_std : bool, default=False
            Whether to return the standard error of the scores, too: their spread over 8
            independent scramblings of the points, for 9 times the work.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Nats per row. Binary and constant columns count as probabilities.
        std : ndarray of shape (n_samples,)
            Only with ``return_std=True``.
        """
        return self._score_samples(X, y, n_draws, return_std, columns, given)

    def sample(
        self,
        n_samples: int = 1,
        random_state: RandomState = None,
        *,
        y: Any = None,
        given: Mapping[Name, Any] | None = None,
        rules: Sequence[Any] | None = None,
    ) -> Any:
        """Draw rows from the model, with the decoder's noise.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; None takes the estimator's own.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the condition: one value for all rows, or one for each.
            Without y, rows are drawn from p(x), of classes by their frequencies in ``fit``.
        given : dict, default=None
            Values by name of the column, or by position if X had no names in ``fit``: rows are
            drawn from the conditional distribution given these values. Dates without a time
            zone are in UTC.
        rules : list of str or callable, default=None
            Rules that all rows fulfil; rows that break one are drawn again. A rule is a
            function of a table of samples that returns a boolean for each row, in pandas also an
            expression of ``DataFrame.eval`` such as ``"tip <= total"``, and in polars an
            expression.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features)
            Rows in X's own units; a data frame, if X was one in ``fit``, with its columns,
            types and categories.

        Raises
        ------
        ValueError
            If there is no such column, a column cannot have a given value, or too few of 100
            draws per row (at least 16384 draws) fulfil the rules.
        """
        check_is_fitted(self)
        n_samples = check_count("n_samples", n_samples)
        self._check_y_is_used(y, "sample")
        if self.condition_encoder_ is None:
            return self._sample(self._fitted(), n_samples, random_state, given, rules)
        if y is None:
            return self._sample(self._marginal_model(), n_samples, random_state, given, rules)
        codes = self._encode_conditions(y, n_samples, self.dtype_)
        return self._sample(self._fitted(), n_samples, random_state, given, rules, codes)

    # -- fitted attributes -------------------------------------------------------------

    def _validate_fitted(self) -> None:
        super()._validate_fitted()
        if self.condition_encoder_ is not None:
            self.condition_encoder_.check()
        elif self.columns_.n_conditions:
            raise ValueError("there are conditions, and no encoder of y")
