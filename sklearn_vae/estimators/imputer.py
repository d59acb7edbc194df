"""VAEImputer: missing cells imputed by a variational autoencoder, given the observed cells."""

from functools import partial
from itertools import compress
from numbers import Integral
from typing import Annotated, Any, ClassVar

import narwhals as nw
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_vae._compat import Interval, MissingValues, check_feature_names_in, get_output_config
from sklearn_vae.data.arrays import Rows, Table, Target, Weights, as_array, replace_by_nan
from sklearn_vae.data.fields import shorten, without_unknown
from sklearn_vae.data.sources import as_source, check_is_table
from sklearn_vae.estimators.averaging import MAX_ROWS_TO_IMPUTE, AverageFitter
from sklearn_vae.estimators.base import MIN_ROWS
from sklearn_vae.estimators.checks import check_not_autoregressive, check_weights
from sklearn_vae.estimators.density import VAEDensity
from sklearn_vae.estimators.estimator_base import MetaEstimator, resolve
from sklearn_vae.estimators.transformer import VAETransformer
from sklearn_vae.imputation import AveragedImputation, BoostedTrees
from sklearn_vae.initialization.factor_analysis import n_imputation_factors
from sklearn_vae.networks import Network
from sklearn_vae.numerics.random import MAX_DRAWS, RandomState, draw_seed
from sklearn_vae.persistence.validation import invalid_parameter, serializable
from sklearn_vae.system import warn


@serializable
class VAEImputer(TransformerMixin, MetaEstimator):
    """Fill in missing values by what the other values of their rows suggest.

    Fit it to the incomplete rows, with columns of any type in their own units. Numbers get their
    mean, or their median in a positive column. Ordered classes get the median, and other classes
    the likeliest one.

    Parameters
    ----------
    estimator : VAETransformer or VAEDensity, default=None
        Unfitted model. None is a VAETransformer, combined with boosted trees where they help. Give
        your own to change its parameters; it is used without trees.
    n_imputations : int, default=None
        Number of tables to draw, for multiple imputation; None makes one table of means. More than
        one make an array of shape (n_imputations, n_samples, n_features), or a list of data frames.
    missing_values : int, float, str, None or pandas.NA, default=nan
        Value of missing cells, in addition to NaN.
    add_indicator : bool, default=False
        True to add a column of 0 and 1 for each column with missing cells in ``fit``.
    keep_empty_features : bool, default=False
        True to keep columns without any value and to fill them by 0, False, ``"missing_value"`` or
        the first category. By default, they are left out.
    random_state : int, RandomState instance or None, default=None
        Seed of the fit, unless ``estimator`` has one, and of the draws.
    verbose : bool or int, default=False
        True to print a line per iteration of the default fit.

    Attributes
    ----------
    estimator_, columns_, n_components_, n_iter_
        The model and its columns, latent dimensions and iterations.
    trees_, trees_weight_ : BoostedTrees or None, float
        Boosted trees and their weight, in tables of at least 100 rows and at most 50 columns.
    spread_ : ndarray of shape (``n_features_in_``,) or None
        Factor of the spread of draws in each column, chosen so that intervals cover hidden cells.
    indicated_ : ndarray of shape (n_indicators,)
        Indices of the columns with missing cells in ``fit``, with ``add_indicator=True``.
    n_features_in_, feature_names_in_ : int, ndarray of shape (``n_features_in_``,)
        Number of columns of X, and their names, where X has any.

    See Also
    --------
    sklearn.impute.IterativeImputer : Regressions of each column on the others, in turn.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAEImputer
    >>> X = load_iris().data
    >>> X[::7, 2] = np.nan
    >>> filled = VAEImputer(random_state=0).fit_transform(X)
    >>> bool(np.isnan(filled).any())
    False
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [VAETransformer, VAEDensity, None],
        "n_imputations": [Interval(Integral, 1, MAX_DRAWS, closed="both"), None],
        "missing_values": [MissingValues()],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    estimator_: VAETransformer | VAEDensity
    trees_: BoostedTrees | None
    trees_weight_: float
    spread_: np.ndarray | None
    indicated_: Annotated[np.ndarray, "i", "n_indicators"]

    def __init__(
        self,
        estimator: VAETransformer | VAEDensity | None = None,
        *,
        n_imputations: int | None = None,
        missing_values: object = np.nan,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        random_state: RandomState = None,
        verbose: bool | int = False,
    ):
        self.estimator = estimator
        self.n_imputations = n_imputations
        self.missing_values = missing_values
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state
        self.verbose = verbose

    def _train(self, X: Rows, y: Target, sample_weight: Weights) -> None:
        if self.add_indicator and not self._is_one_table:
            expected = f"be False with n_imputations={self.n_imputations}, for several tables"
            raise invalid_parameter(self, "add_indicator", expected, value=True)
        weight = None
        if sample_weight is not None:
            X, weight = check_weights(X, sample_weight, MIN_ROWS)
        if (source := as_source(X)) is not None:
            source = source.map(partial(replace_by_nan, missing_values=self.missing_values))
            table, n_rows = source.sample()
            fitted: Any = table if table.shape[0] == n_rows else source
        else:
            fitted = table = replace_by_nan(as_array(X), self.missing_values)
        model = self._model(table, weight)
        self.estimator_, self.trees_, self.trees_weight_, self.spread_ = model, None, 0.0, None
        with self._keep_interrupted():
            if self.estimator is None:
                first = model._fit(fitted, None, weight)
            else:  # a subclass may have a fit of its own
                model.fit(fitted, sample_weight=weight)
            empty = [*compress(self.columns_.names, self.columns_.is_empty)]
            if empty and not self.keep_empty_features:
                warn(
                    f"Columns of X hold no value, and imputed rows are without them: "
                    f"{shorten(empty)}. With keep_empty_features=True they are kept."
                )
            if self.estimator is None and fitted is table:
                best = min(first.values(), key=lambda result: result.loss)
                AverageFitter(self, best.weights, model._validate(table), weight).fit()
        self.indicated_ = np.array([], dtype=int)
        if self.add_indicator:
            batches = [table] if fitted is table else fitted
            rows = (model._validate(batch) for batch in batches)
            is_missing = np.any([np.isnan(batch).any(axis=0) for batch in rows], axis=0)
            self.indicated_ = np.flatnonzero(is_missing)
            self._check_indicator_names()

    def _check_indicator_names(self) -> None:
        """Refuse indicators that would replace columns of their names."""
        names = self.get_feature_names_out().tolist()
        n_imputed = len(names) - len(self.indicated_)
        if both := set(names[:n_imputed]) & set(names[n_imputed:]):
            raise ValueError(
                f"The 'add_indicator' parameter of VAEImputer must be False, or X have no column "
                f"{min(both)!r}, which is the name of an indicator. Got True instead; rename the "
                f"column."
            )

    def _model(self, X: Any, weight: np.ndarray | None) -> VAETransformer | VAEDensity:
        """Make the unfitted model, with more components than a VAETransformer chooses."""
        table = X if hasattr(X, "shape") else np.asarray(X)
        n_rows, n_columns = (*table.shape, 0, 0)[:2]  # the model's fit refuses what is no table
        n_rows = n_rows if weight is None else round(weight.sum())
        n_components = n_imputation_factors(n_rows, n_columns + 1)
        if self.estimator is None:
            is_large = n_rows > MAX_ROWS_TO_IMPUTE
            return VAETransformer(
                n_components,
                batch_size=512 if is_large else "auto",  # faster, and draws are as good
                refit=not is_large,  # a refit to more rows gains nothing
                random_state=self.random_state,
                verbose=self.verbose,
            )
        model: VAETransformer | VAEDensity = self._clone(self.estimator)
        if model.conditional:
            raise invalid_parameter(self, "estimator", "have conditional=False", self.estimator)
        network = resolve("network", model.network)
        if isinstance(network, Network):  # others are refused by the model's fit
            check_not_autoregressive(network, "VAEImputer")
        is_free = getattr(model, "posterior", None) in ("auto", "gaussian", "full")
        if is_free and model.n_components == "auto":
            model.n_components = n_components
        return model

    @property
    def _imputation(self) -> AveragedImputation:
        model, trees = self.estimator_, (self.trees_, self.trees_weight_)
        parts = model._impute, model.columns_, model._is_rounded
        return AveragedImputation(*parts, *trees, self.spread_)

    def fit_transform(self, X: Table, y: Target = None, **fit_params: Any) -> Any:
        """Fit, and impute the missing cells of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, in memory.
        y : None
            Ignored.
        **fit_params : dict
            For ``fit``, such as ``sample_weight``.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_out)
            As of ``transform``.
        """
        self._check_transformable(X, "fit_transform")  # before a long training
        return super().fit_transform(X, y, **fit_params)

    def transform(self, X: Table) -> Any:
        """Impute the missing cells of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_out)
            Rows without missing cells, of the type that X had in ``fit``. With more than one
            imputation, an array of shape (n_imputations, n_samples, n_features_out), or a list of
            data frames.
        """
        check_is_fitted(self)
        self._check_transformable(X, "transform")
        X = replace_by_nan(as_array(X), self.missing_values)
        model = self.estimator_
        rows = self._validate(X)
        imputed = self._impute(without_unknown(rows, model._fields))
        missing = np.isnan(rows)
        imputed[:, missing & self.columns_.is_empty] = 0.0
        tables = [model._restore_imputed(table, missing, X) for table in imputed]
        tables = [self._select_columns(table, rows) for table in tables]
        if not self._is_one_table:
            return tables if model.schema_ is not None else np.stack(tables)
        frame = nw.from_native(tables[0], pass_through=True)
        # not by ``set_output``, whose conversion loses dtypes
        is_pandas = get_output_config("transform", self)["dense"] == "pandas"
        return frame.to_pandas() if is_pandas and isinstance(frame, nw.DataFrame) else tables[0]

    @property
    def _is_one_table(self) -> bool:
        return self.n_imputations is None or self.n_imputations == 1

    def _check_transformable(self, X: Table, method: str) -> None:
        """Refuse a source of batches, and several tables where the user wants one data frame."""
        if not self._is_one_table and get_output_config("transform", self)["dense"] != "default":
            expected = "be 1 or None with set_output, which makes one table"
            raise invalid_parameter(self, "n_imputations", expected, self.n_imputations)
        check_is_table(X, method)

    def _impute(self, rows: np.ndarray) -> np.ndarray:
        """Impute missing cells of validated rows: (n_imputations or 1, n, n_features)."""
        if self.n_imputations is None:
            return self._imputation.impute(rows)[None]
        random_state = self.random_state
        if random_state is None:
            random_state = self.estimator_.random_state
        return self._imputation.draw(rows, self.n_imputations, draw_seed(random_state))

    def _validate_fitted(self) -> None:
        super()._validate_fitted()
        self._imputation.check()
        if not np.isin(self.indicated_, np.arange(self.estimator_.n_features_in_)).all():
            raise ValueError("an indicator is of a column that does not exist")

    def _select_columns(self, table: Any, rows: np.ndarray) -> Any:
        """Leave empty columns out, unless they are kept, and append indicators of missing cells."""
        is_kept = self.keep_empty_features | ~self.columns_.is_empty
        is_missing = np.isnan(rows[:, self.indicated_])
        if isinstance(table, np.ndarray):
            return np.hstack([table[:, is_kept], is_missing.astype(table.dtype)])
        positions = np.flatnonzero(is_kept).tolist()  # a name may be no text
        table = nw.from_native(table).select(nw.nth(*positions)).to_native()
        if not len(self.indicated_):
            return table
        names = self.get_feature_names_out().tolist()
        is_pandas = nw.dependencies.is_pandas_dataframe(table)
        if is_pandas and not all(isinstance(name, str) for name in table.columns):
            table = table.set_axis(names[: table.shape[1]], axis=1)
        names, frame = names[-len(self.indicated_) :], nw.from_native(table)
        indicators = [
            nw.new_series(name, is_missing[:, j], backend=frame.implementation)
            for j, name in enumerate(names)
        ]
        return nw.to_native(frame.with_columns(*indicators))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Names of the output columns of ``transform``.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of X; by default those of ``fit``.

        Returns
        -------
        ndarray of str
            Names of the imputed columns, then of the indicators.
        """
        check_is_fitted(self)
        names = check_feature_names_in(self, input_features)
        imputed = names if self.keep_empty_features else names[~self.columns_.is_empty]
        indicators = [f"missingindicator_{name}" for name in names[self.indicated_]]
        return np.array([*imputed, *indicators], dtype=object)
