"""Densities of rows given something: p(x|y), and what follows for p(x) and p(y|x)."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sklearn_vae._compat import num_samples
from sklearn_vae.data.arrays import as_array
from sklearn_vae.data.conditions import ConditionEncoder, columns_of
from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.estimators.checks import positive_integer
from sklearn_vae.estimators.table import DensityEstimator, mean_of
from sklearn_vae.inference.log_density import SCORE_DRAWS
from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.random import Stream, stream_seed


@dataclass(frozen=True)
class ClassMarginal:
    """What a model of p(x|y) says where y is not known: the mean over classes.

    Attributes
    ----------
    fitted : Predictor
        The model, of rows with the places of their classes in the last column.
    share : ndarray of shape (n_classes,)
        Probability of each class.
    """

    fitted: Predictor
    share: np.ndarray

    def by_class(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log p(x|y) + log p(y), in nats: (n, n_features) -> (n, n_classes)."""
        with np.errstate(divide="ignore"):
            log_share = np.log(self.share)
        scores = [
            self.fitted.log_density(_beside(X, place), n_draws, scrambling)
            for place in range(len(log_share))
        ]
        return np.stack(scores, axis=1) + log_share.astype(X.dtype)

    def log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log p(x), in nats: (n, n_features) -> (n,)."""
        return logsumexp(self.by_class(X, n_draws, scrambling), axis=1)

    def codes(self, X: np.ndarray) -> np.ndarray:
        """Mean of q(z|x, y) over p(y|x): (n, n_features) -> (n, l)."""
        joint = self.by_class(X, SCORE_DRAWS)
        posterior = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        given = (self.fitted.codes(_beside(X, place)) for place in range(len(self.share)))
        return sum(own * code for own, code in zip(posterior.T[..., None], given, strict=True))

    def sample(self, n_samples: int, seed: int, dtype: np.dtype) -> np.ndarray:
        """Rows drawn from p(x): (n_samples, n_features)."""
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        drawn = generator.choice(len(self.share), n_samples, p=self.share)
        return self.fitted.sample(n_samples, seed, dtype, drawn[:, None].astype(dtype))


def _beside(X: np.ndarray, place: int) -> np.ndarray:
    """Rows of one class: (n, n_features) -> (n, n_features + 1)."""
    return np.hstack([X, np.full((len(X), 1), place, X.dtype)])


class ConditionalEstimator(DensityEstimator):
    """An estimator of p(x), or with ``conditional=True`` of p(x|y)."""

    conditional: bool
    n_features_in_: int
    condition_encoder_: ConditionEncoder | None = None

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = bool(self.conditional)
        return tags

    # -- y to numbers ----------------------------------------------------------------

    def _check_rows(
        self, X: Any, sample_weight: Any, *, reset: bool, y: Any = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Validate rows to learn from, and what is given with them, which is put beside them."""
        rows, weight = super()._check_rows(X, sample_weight, reset=reset)
        if not reset and self.conditional != (self.condition_encoder_ is not None):
            raise ValueError(
                f"The 'conditional' parameter must be {not self.conditional}, as in the fit that "
                f"this one goes on from. Got {self.conditional} instead."
            )
        if not self.conditional:
            self.condition_encoder_ = None
            return rows, weight
        given = columns_of(self._needed(y), num_samples(X))
        if len(rows) < len(given[0]):
            counted = np.asarray(as_array(sample_weight)) > 0
            given = [own[counted] for own in given]
        if reset or self.condition_encoder_ is None:
            self.condition_encoder_ = ConditionEncoder.fit(given, weight)
        return np.hstack(
            [rows, self.condition_encoder_.transform(given).astype(rows.dtype)]
        ), weight

    def _learn_columns(
        self, rows: np.ndarray, weight: np.ndarray | None, likelihood: Any, **kwargs: Any
    ) -> TableEncoder:
        n_features = self.n_features_in_
        own = super()._learn_columns(rows[:, :n_features], weight, likelihood, **kwargs)
        if self.condition_encoder_ is None:
            return own
        return replace(own, conditions=self.condition_encoder_.encoder)

    def _needed(self, y: Any) -> Any:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: with "
                f"conditional=True it is a model of p(x|y)."
            )
        return y

    def _refuse_y(self, y: Any, method: str) -> None:
        """Refuse a y that nothing would be done with."""
        if y is not None and self.condition_encoder_ is None:
            raise ValueError(
                f"{method} takes y where the model is one of p(x|y), and this one was fitted with "
                f"conditional=False. Fit {type(self).__name__}(conditional=True) to X and y."
            )

    def _given(self, y: Any, n_rows: int, dtype: Any) -> np.ndarray | None:
        """Give y as numbers, if the model wants any: (n_rows, n_y)."""
        if self.condition_encoder_ is None:
            return None
        return self.condition_encoder_.transform(columns_of(self._needed(y), n_rows)).astype(dtype)

    def _validate_given(self, X: Any, y: Any = None) -> np.ndarray:
        """Check rows, and give them as numbers, with what is given beside them."""
        rows = super()._validate_given(X)
        given = self._given(y, len(rows), rows.dtype)
        return rows if given is None else np.hstack([rows, given])

    def _asked(self, X: Any, y: Any) -> tuple[np.ndarray, Any]:
        """Rows as numbers, and what answers for them: the model, or its mean over classes."""
        if self.condition_encoder_ is None or y is not None:
            return self._validate_given(X, y), self._fitted()
        return self._validate(X, reset=False), self._marginal()

    def _marginal(self) -> ClassMarginal:
        known = self.condition_encoder_
        if known is None or not len(known.class_prior):
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: it was "
                f"fitted to a y of numbers or of several columns, over which no mean can be taken. "
                f"(A y of integers, strings or truth values is one of classes.)"
            )
        return ClassMarginal(self._fitted(), known.class_prior)

    # -- what it says of rows --------------------------------------------------------

    def score_samples(
        self, X: Any, y: Any = None, *, n_draws: int = SCORE_DRAWS, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Log-density of each row, in nats and in X's own units.

        It is log p(x) by importance sampling, whatever objective trained the model, so it can
        be compared between models, with ``GaussianMixture``,
        ``KernelDensity`` and ``PCA``. The same Sobol points serve all rows: a row's
        score does not depend on its neighbours or on luck.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, what is given with the rows: the score is then
            log p(x|y). Without y it is log p(x), of a model of classes: p(x|y) is averaged
            over these, by how often they were there in ``fit``.
        n_draws : int, default=64
            Points in latent space per row; a power of two is best. Rows of which the encoder is
            a poor proposal get more, from Laplace approximations of their posterior.
        return_std : bool, default=False
            Whether to return the scores' own standard error, too: the spread over 8
            independent scramblings of the points, for 9 times the work.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Nats per row. Binary and constant columns count as probabilities.
        std : ndarray of shape (n_samples,)
            Only with ``return_std=True``.
        """
        check_is_fitted(self)
        return self._scores(*self._asked(X, y), n_draws, return_std)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log-density of the rows, in nats and in X's own units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        y : array-like of shape (n_samples,), default=None
            With ``conditional=True``, what is given with the rows, as in ``score_samples``;
            otherwise ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts.

        Returns
        -------
        float
            Nats per row; higher is better.
        """
        return mean_of(self.score_samples(X, y), sample_weight)

    def sample(self, n_samples: int = 1, random_state: Any = None, *, y: Any = None) -> Any:
        """Draw rows from the model, with the decoder's noise.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            What decides the draws; None takes the estimator's own.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, what the rows are drawn given: one value for all, or
            one for each. Without it, classes are drawn, too, as often as they were there
            in ``fit``.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features)
            Rows in X's own units; a data frame, if X was one in ``fit``, with its columns,
            types and categories.
        """
        check_is_fitted(self)
        n_samples = positive_integer("n_samples", n_samples)
        self._refuse_y(y, "sample")
        if self.condition_encoder_ is None:
            return self._drawn(self._fitted().sample, n_samples, random_state)
        if y is None:
            return self._drawn(self._marginal().sample, n_samples, random_state)
        given = self._given(y, n_samples, self.dtype_)
        return self._drawn(partial(self._fitted().sample, given=given), n_samples, random_state)

    def _check_learned(self) -> None:
        super()._check_learned()
        known = self.condition_encoder_
        if known is None:
            if self.columns_.n_conditions:
                raise ValueError("there are conditions, and nothing is known of them")
            return
        known.check()
