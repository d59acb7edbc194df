"""Scorers of a search that one row cannot decide."""

import math
from typing import Any

import numpy as np

# Share of the rows that are left out.
TRIMMED = 0.05


def trimmed_score(estimator: Any, X: Any, y: Any = None) -> float:
    """Mean log-density of the rows, but for the lowest twentieth.

    The mean of all rows, ``score``, may be decided by one row that is far from those in ``fit``. It
    is a scorer: ``GridSearchCV(vae, grid, scoring=trimmed_score)``.

    Parameters
    ----------
    estimator : VAETransformer, VAEDensity or a Pipeline that ends with one
        A fitted estimator.
    X : array-like of shape (n_samples, n_features)
        Held-out rows.
    y : array-like of shape (n_samples,), default=None
        Conditions of an estimator with ``conditional=True``; otherwise it is ignored.

    Returns
    -------
    float
        Nats per row; higher is better.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics import trimmed_score
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> vae = VAETransformer(1, random_state=0).fit(X)
    >>> far = np.vstack([X, [1000.0, 0.0, 0.0]])
    >>> bool(vae.score(far) < trimmed_score(vae, far) - 0.3)
    True
    """
    is_conditional = getattr(estimator, "conditional", False)
    scores = np.sort(
        estimator.score_samples(X, y) if is_conditional else estimator.score_samples(X)
    )
    return float(scores[math.ceil(TRIMMED * len(scores)) :].mean())
