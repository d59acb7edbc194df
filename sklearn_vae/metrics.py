"""Metrics of fitted estimators: collapse and calibration; and the quality of sampled tables.

Importing them does not import PyTorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import narwhals as nw
import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_vae.data.arrays import Rows, Table, Target, as_narwhals
from sklearn_vae.data.fields import Name, check_column_names, shown_name
from sklearn_vae.data.schema import Schema
from sklearn_vae.data.sources import check_is_table
from sklearn_vae.numerics.random import MAX_DRAWS, RandomState, Stream, stream_seed
from sklearn_vae.persistence.validation import check_count, check_number
from sklearn_vae.system import one_thread, show_progress, warn

if TYPE_CHECKING:
    from sklearn_vae.estimators.density_estimator import DensityEstimator
    from sklearn_vae.estimators.transformer import VAETransformer

__all__ = ["active_units", "kl_per_dimension", "pit_calibration", "quality_report"]

# Methods that a whole Pipeline has to have, not its last step alone.
CODES = ("transform", "inverse_transform")


def kl_per_dimension(estimator: "VAETransformer", X: Rows, y: Target = None) -> np.ndarray:
    """How much each latent dimension is used: the KL of q(z|x) from the standard normal.

    Parameters
    ----------
    estimator : VAETransformer, or a search or Pipeline that ends with one
        A fitted estimator. An ensemble is represented by its best member.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if the estimator is conditional.

    Returns
    -------
    ndarray of shape (n_components,)
        Nats, averaged over the rows. Their sum is the KL: that of a dimension holds what it shares
        with those before it. A categorical latent variable is one dimension, whatever its number of
        classes; its KL is that from equal probabilities.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics import kl_per_dimension
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> kl_per_dimension(vae, X).shape
    (2,)
    """
    estimator, X = final_step(estimator, X, "kl_per_dimension", ("impute", "transform"))
    rows = estimator._validate_with_conditions(X, y)
    return estimator._predictor().kl_per_dimension(rows).mean(axis=0)


def active_units(
    estimator: "VAETransformer", X: Rows, y: Target = None, *, threshold: float = 0.1
) -> np.ndarray:
    """Mask of the latent dimensions whose mean KL exceeds a threshold; warn if they are few.

    The criterion is the KL, not the variance of the codes [1]_: in a linear model with two
    factors and more than two dimensions, the variance criterion counts more than two.

    Parameters
    ----------
    estimator : VAETransformer, or a search or Pipeline that ends with one
        A fitted estimator.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if the estimator is conditional.
    threshold : float, default=0.1
        Mean KL above which a dimension is active, in nats.

    Returns
    -------
    ndarray of bool of shape (n_components,)
        Its sum is the number of active dimensions.

    Warns
    -----
    ConvergenceWarning
        If no dimension is active (posterior collapse), or fewer than half of them, with advice.

    References
    ----------
    .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted
       Autoencoders", ICLR 2016.
    """
    check_number("active_units", "threshold", threshold)
    estimator, X = final_step(estimator, X, "active_units", ("impute", "transform"))
    active = kl_per_dimension(estimator, X, y) > threshold
    n_active, n_components = int(active.sum()), len(active)
    if n_active >= n_components / 2:
        return active
    if n_active == 0:
        advice = (
            "The posterior has collapsed: codes carry no information about their rows. Lower beta "
            f"(now {estimator.beta!r}), anneal it with LinearWarmup, or try "
            f"objective=ELBO(free_bits=0.2) (now {estimator.objective!r})"
        )
    else:
        advice = (
            f"The inactive dimensions carry no information. If {n_active} are enough, set "
            f"n_components={n_active}; if not, lower beta (now {estimator.beta!r}) or try "
            f"objective=ELBO(free_bits=0.2) (now {estimator.objective!r})"
        )
    warn(
        f"{n_active} of {n_components} latent dimensions have a mean KL above {threshold} nats. "
        f"{advice}.",
        ConvergenceWarning,
    )
    return active


class PITCalibration(NamedTuple):
    """Probability integral transforms, tested for uniformity column by column.

    Attributes
    ----------
    pit : ndarray of shape (n_samples, n_features)
        Probability integral transforms, from 0 to 1; NaN in constant columns and missing cells.
    statistic : ndarray of shape (n_features,)
        Kolmogorov-Smirnov distance of each column's transforms from the uniform distribution, by
        the observed cells; NaN if there are none.
    pvalue : ndarray of shape (n_features,)
        p-value of the statistic under the hypothesis that the model is calibrated.
    """

    pit: np.ndarray
    statistic: np.ndarray
    pvalue: np.ndarray


def pit_calibration(
    estimator: "DensityEstimator", X: Rows, y: Target = None, *, n_draws: int = 4096
) -> PITCalibration:
    r"""Test whether predicted distributions of held-out values are right, column by column.

    The transform of a value is the predicted cumulative probability :math:`F_j(x_j)`. The
    transforms of a calibrated model are uniform between 0 and 1. An excess near 0 and 1 means
    that the model is overconfident, an excess in the middle that it is underconfident [1]_. The
    jumps of :math:`F_j` in discrete columns are filled in uniformly at random.

    Parameters
    ----------
    estimator : VAETransformer or VAEDensity, or a search or Pipeline that ends with one
        A fitted estimator, whose columns are those of its last step.
    X : array-like of shape (n_samples, n_features)
        Held-out rows, in the units of the training rows.
    y : scalar or array-like of shape (n_samples,), default=None
        Conditions of the rows, if a VAETransformer is conditional: the predicted distribution is
        that of rows with these conditions.
    n_draws : int, default=4096
        Samples that the predicted distribution of a column is estimated from, by the estimator's
        ``random_state``.

    Returns
    -------
    PITCalibration
        Transforms, and each column's Kolmogorov-Smirnov test of uniformity.

    Raises
    ------
    ValueError
        If ``n_draws`` is invalid.

    References
    ----------
    .. [1] A. P. Dawid, "Present Position and Potential Developments: Some Personal
       Views: Statistical Theory: The Prequential Approach", Journal of the Royal
       Statistical Society A 147, 1984.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> from sklearn_vae.metrics import pit_calibration
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X[::2])
    >>> pit_calibration(vae, X[1::2], n_draws=64).pit.shape
    (75, 4)
    """
    estimator, X = final_step(estimator, X, "pit_calibration", ("impute",))
    n_draws = check_count("n_draws", n_draws, maximum=MAX_DRAWS)
    rows, fitted = estimator._validate_with_conditions(X, y), estimator._predictor()
    n_features = fitted.columns.n_features
    values, conditions = rows[:, :n_features], rows[np.arange(n_draws) % len(rows), n_features:]
    args = (conditions,) if conditions.shape[1] else ()
    with show_progress("Sampling", n_draws, estimator.verbose):
        samples = np.sort(fitted.sample(n_draws, fitted.seed, rows.dtype, *args), axis=0)
    generator = np.random.default_rng(stream_seed(fitted.seed, Stream.CALIBRATION))
    pit, uniform = np.full(values.shape, np.nan), generator.random(values.shape)
    statistic, pvalue = np.full((2, n_features), np.nan)
    for j in fitted.columns.order.tolist():
        observed = ~np.isnan(values[:, j])
        if observed.any():
            below = np.searchsorted(samples[:, j], values[observed, j], "left")
            up_to = np.searchsorted(samples[:, j], values[observed, j], "right")
            # the rank of the value among the samples and itself
            rank = below + uniform[observed, j] * (up_to - below + 1)
            pit[observed, j] = rank / (n_draws + 1)
            statistic[j], pvalue[j] = stats.kstest(pit[observed, j], "uniform")
    return PITCalibration(pit, statistic, pvalue)


def final_step(
    estimator: BaseEstimator,
    X: Any,
    caller: str,
    requires: tuple[str, ...],
    such_as: str = "VAETransformer",
) -> tuple[BaseEstimator, Any]:
    """Return the fitted model that a search or Pipeline ends in, and the rows that it gets.

    It raises a TypeError without the attributes ``requires``, which ``such_as`` has.
    """
    check_is_fitted(estimator)
    final = estimator
    while isinstance(final, Pipeline) or hasattr(final, "best_estimator_"):
        if isinstance(final, Pipeline):
            X = final[:-1].transform(X) if X is not None and len(final) > 1 else X
            final = final[-1]
        else:
            final = final.best_estimator_
    if not all(hasattr(estimator if name in CODES else final, name) for name in requires):
        raise TypeError(
            f"{caller} needs an estimator with {', '.join(requires)}, such as {such_as}. Got "
            f"{type(final).__name__} instead."
        )
    return final, X


# -- quality of sampled tables ---------------------------------------------------------------

# Folds of the classifier two-sample test.
N_FOLDS = 5
# Code of a missing cell.
MISSING = -2.0


@dataclass(frozen=True, repr=False)
class QualityReport:
    """Similarity of a sampled table to a real one, from 0 to 1 (indistinguishable).

    Attributes
    ----------
    shapes : dict of float
        Similarity of each column: 1 minus the Kolmogorov-Smirnov statistic of numbers, or the
        total variation distance of classes.
    trends : dict of float
        Similarity of each pair of columns: 1 minus half the difference of Spearman's
        correlations of numbers, or the total variation distance of contingency tables, in
        which numbers are in ten bins.
    c2st : float
        Classifier two-sample test: 1 - (2 AUC - 1), or 1 if the cross-validated AUC is
        below 0.5. It is 1 if the classifier cannot tell samples from real rows.
    distance : float or None
        Median distance of sampled rows to the nearest real row; None without held-out rows.
        Numbers are divided by their standard deviations, and different classes are 1 apart.
    held_out_distance : float or None
        The same of held-out rows.
    share_nearer : float or None
        Fraction of sampled rows that are nearer to a real row than the median held-out row: 0.5
        if samples are as far from the real rows as new ones.
    """

    shapes: dict[Name, float]
    trends: dict[tuple[Name, Name], float]
    c2st: float
    distance: float | None = None
    held_out_distance: float | None = None
    share_nearer: float | None = None

    @property
    def shape(self) -> float:
        """Mean similarity of columns."""
        return float(np.mean(list(self.shapes.values())))

    @property
    def trend(self) -> float:
        """Mean similarity of pairs of columns; 1 if there is one column."""
        return float(np.mean(list(self.trends.values()))) if self.trends else 1.0

    def __repr__(self) -> str:
        lines = [
            f"shape of columns  {self.shape:.3f}{_lowest(self.shapes)}",
            f"trend of pairs    {self.trend:.3f}{_lowest(self.trends)}",
            f"c2st              {self.c2st:.3f}  1 if no classifier tells samples from real rows",
        ]
        if self.distance is not None:
            lines += [
                f"distance          {self.distance:.3f}  of a sample to the nearest real row; "
                f"of a held-out row {self.held_out_distance:.3f}",
                f"share_nearer      {self.share_nearer:.3f}  nearer than held-out rows; "
                f"far above 0.5 if samples are copies",
            ]
        return "\n".join(lines)


def quality_report(
    real: Table, sample: Table, *, held_out: Table | None = None, random_state: RandomState = 0
) -> QualityReport:
    """Quality of a sampled table, by comparison with a real one.

    All similarities are 1 for tables of the same distribution, but for the error of finite
    tables. The columns' mean similarity says least, and the classifier two-sample test most [1]_.

    Parameters
    ----------
    real : DataFrame or array-like of shape (n_samples, n_features)
        Real rows, for instance the training rows.
    sample : DataFrame or array-like of shape (m_samples, n_features)
        Sampled rows, with the same columns.
    held_out : DataFrame or array-like of shape (k_samples, n_features), default=None
        Real rows that were not in training, with ``real`` the training rows: samples that lie
        nearer to training rows than held-out rows do are partly copies. The reverse proves no
        privacy: a sample may still disclose rare rows or values.
    random_state : int, RandomState instance or None, default=0
        Seed of the classifier and its folds.

    Returns
    -------
    QualityReport
        The similarities; prints as a short text.

    Warns
    -----
    UserWarning
        If cells of ``real`` are missing and none of ``sample`` are.

    References
    ----------
    .. [1] D. Lopez-Paz and M. Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_vae.metrics import quality_report
    >>> X = np.random.default_rng(0).normal(size=(600, 2))
    >>> report = quality_report(X[:300], X[300:] + [0, 9])
    >>> {name: round(shape, 1) for name, shape in report.shapes.items()}
    {0: 0.9, 1: 0.0}
    >>> report.c2st < 0.01
    True
    """
    tables = {"real": real, "sample": sample}
    if held_out is not None:
        tables["held_out"] = held_out
    for name, rows in tables.items():
        as_narwhals(rows, name)  # refuses columns of one name
        check_is_table(rows, f"The '{name}' parameter of quality_report")
    schema = Schema.fit(real)
    names = [field.name for field in schema.fields]
    is_class = np.array([field.categories is not None for field in schema.fields])
    X, S, *others = (_as_numbers(name, rows, schema) for name, rows in tables.items())
    _warn_of_complete_sample(X, S, names)
    columns = range(len(names))
    nearness: tuple[float, ...] = ()
    if others:
        of_sample, of_held_out = _nearest_distances(X, [S, *others], is_class)
        median = float(np.median(of_held_out))
        # where many rows are equal, half of the ties count
        fraction = 0.5 * ((of_sample < median).mean() + (of_sample <= median).mean())
        nearness = float(np.median(of_sample)), median, float(fraction)
    return QualityReport(
        {names[j]: _shape(X[:, j], S[:, j], is_class=bool(is_class[j])) for j in columns},
        {
            (names[i], names[j]): _trend(X[:, [i, j]], S[:, [i, j]], is_class[[i, j]])
            for i, j in combinations(columns, 2)
        },
        _c2st(X, S, is_class, random_state),
        *nearness,
    )


def _as_numbers(name: str, rows: Any, schema: Schema) -> np.ndarray:
    """Numbers, and codes of classes, of a table with the columns of the real one: (n, d)."""
    names, frame = [field.name for field in schema.fields], as_narwhals(rows)
    if isinstance(frame, nw.DataFrame):
        check_column_names(name, frame.columns, names, "real")
    if np.shape(rows)[1:] != (len(names),):
        raise ValueError(
            f"{name} must have the {len(names)} columns of real. Got {np.shape(rows)} values."
        )
    table = schema.transform(rows, handle_unknown="infrequent").astype(np.float64)
    if len(table) < N_FOLDS:
        raise ValueError(f"{name} must have at least {N_FOLDS} rows. Got {len(table)} instead.")
    if np.isinf(table).any():
        raise ValueError(f"{name} holds infinite values.")
    return table


def _warn_of_complete_sample(X: np.ndarray, S: np.ndarray, names: list[Name]) -> None:
    """Warn if missing cells alone tell the real table from the sample, which has none."""
    fraction = np.isnan(X).mean(axis=0)
    if not fraction.any() or np.isnan(S).any():
        return
    order = np.argsort(-fraction, kind="stable")[:3].tolist()
    columns = [f"{names[j]!r} ({fraction[j]:.1%})" for j in order if fraction[j] > 0]
    warn(
        f"real has missing cells, most of them in {', '.join(columns)}, and sample has none, which "
        f"alone tells them apart. Hide cells of the sample as in rows of real, or compare it with "
        f"complete rows."
    )


def _shape(x: np.ndarray, s: np.ndarray, *, is_class: bool) -> float:
    """Similarity of a column in two tables: (n,), (m,)."""
    if is_class:
        codes = (np.nan_to_num(values, nan=MISSING)[:, None] for values in (x, s))
        return 1 - _total_variation(*codes)
    # a missing number is below all others
    x, s = (np.where(np.isnan(values), -np.inf, values) for values in (x, s))
    return 1 - float(stats.ks_2samp(x, s, method="asymp").statistic)


def _trend(X: np.ndarray, S: np.ndarray, is_class: np.ndarray) -> float:
    """Similarity of a pair of columns in two tables: (n, 2), (m, 2), (2,)."""
    if not is_class.any():
        return 1 - abs(_rank_correlation(X) - _rank_correlation(S)) / 2
    codes = [
        np.column_stack([_classes(T[:, j], X[:, j], is_class=is_class[j]) for j in range(2)])
        for T in (X, S)
    ]
    return 1 - _total_variation(*codes)


def _rank_correlation(X: np.ndarray) -> float:
    """Spearman's correlation of a pair of columns where both are observed; 0 of a constant."""
    ranks = stats.rankdata(X[~np.isnan(X).any(axis=1)], axis=0)
    if len(ranks) < 2 or (np.ptp(ranks, axis=0) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks.T)[0, 1])


def _classes(values: np.ndarray, real: np.ndarray, *, is_class: bool) -> np.ndarray:
    """Codes of classes, or of ten bins between quantiles of the real column: (n,) -> (n,)."""
    if is_class or np.isnan(real).all():
        return np.nan_to_num(values, nan=MISSING)
    edges = np.unique(np.nanquantile(real, np.linspace(0, 1, 11)[1:-1]))
    bins = np.searchsorted(edges, values, "right").astype(float)
    return np.where(np.isnan(values), MISSING, bins)


def _total_variation(X: np.ndarray, S: np.ndarray) -> float:
    """Total variation distance of the rows' frequencies: (n, k), (m, k)."""
    _, index = np.unique(np.vstack([X, S]), axis=0, return_inverse=True)
    index = index.ravel()
    n_cells = index.max() + 1
    frequencies = [
        np.bincount(part, minlength=n_cells) / len(part) for part in np.split(index, [len(X)])
    ]
    return 0.5 * float(np.abs(np.subtract(*frequencies)).sum())


def _c2st(X: np.ndarray, S: np.ndarray, is_class: np.ndarray, random_state: RandomState) -> float:
    """Classifier two-sample test of two tables: 1 if they cannot be distinguished."""
    rows, is_sample = np.vstack([X, S]), np.repeat([0, 1], [len(X), len(S)])
    n_codes = np.max(rows, axis=0, initial=-1, where=~np.isnan(rows)) + 1
    rows = np.where(is_class & (rows < 0), n_codes, rows)  # a class that is not in the real table
    # the classifier takes no column whose values are all missing, as they may be in a fold
    is_rare = (~np.isnan(rows)).sum(axis=0) <= len(rows) / N_FOLDS
    least = np.min(rows, axis=0, initial=0, where=~np.isnan(rows))
    filling = np.where(is_class, n_codes + 1, least - 1 - np.abs(least))
    rows = np.where(np.isnan(rows) & is_rare, filling, rows)
    classifier = HistGradientBoostingClassifier(  # which takes no more classes
        categorical_features=is_class & (n_codes < 254), random_state=random_state
    )
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=random_state)
    with one_thread("openmp"):
        probability = cross_val_predict(
            classifier, rows, is_sample, cv=folds, method="predict_proba"
        )[:, 1]
    return 1 - (2 * max(float(roc_auc_score(is_sample, probability)), 0.5) - 1)


def _nearest_distances(
    X: np.ndarray, tables: list[np.ndarray], is_class: np.ndarray
) -> list[np.ndarray]:
    """Distance of each row of the tables to the nearest row of X."""
    n_rows = [len(table) for table in (X, *tables)]
    parts = []
    for j, column in enumerate(np.vstack([X, *tables]).T):
        if is_class[j]:  # two one-hot vectors are 1 apart
            codes = np.nan_to_num(column, nan=MISSING)
            parts.append((codes[:, None] == np.unique(codes)) / np.sqrt(2))
        elif not np.isnan(X[:, j]).all():
            scale = np.nanstd(X[:, j]) or 1.0
            parts.append(np.nan_to_num((column - np.nanmean(X[:, j])) / scale)[:, None])
    points = np.split(np.hstack([np.zeros((sum(n_rows), 1)), *parts]), np.cumsum(n_rows)[:-1])
    neighbors = NearestNeighbors(n_neighbors=1).fit(points[0])
    return [neighbors.kneighbors(part)[0][:, 0] for part in points[1:]]


def _lowest(similarities: Mapping[Name, float] | Mapping[tuple[Name, Name], float]) -> str:
    """Name the three lowest similarities."""
    lowest = sorted(similarities.items(), key=lambda item: item[1])[:3]
    names = [
        f"{' and '.join(map(shown_name, key if isinstance(key, tuple) else [key]))} {value:.3f}"
        for key, value in lowest
    ]
    return f"  lowest: {', '.join(names)}" if names else ""
