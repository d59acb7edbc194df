"""VAETransformer: encodes rows, decodes codes, samples rows and scores their density."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted

from sklearn_vae._compat import StrOptions
from sklearn_vae.data.arrays import Rows, Table, Target, Weights, as_array, as_row
from sklearn_vae.data.fields import Name
from sklearn_vae.data.sources import SourceRows, accepts_source, check_is_table, sample_of
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.estimators.checks import CONSTRAINTS
from sklearn_vae.estimators.config import (
    ModelParts,
    check_same_architecture,
    make_architecture,
    make_config,
)
from sklearn_vae.estimators.density_estimator import DensityEstimator
from sklearn_vae.estimators.estimator_base import FitRows, restore_on_error
from sklearn_vae.inference.decoder_correction import check_range, fit_decoder_correction
from sklearn_vae.inference.fitted_models import FittedVAE
from sklearn_vae.likelihoods import Likelihood
from sklearn_vae.networks import Network
from sklearn_vae.numerics.random import RandomState, draw_seed
from sklearn_vae.numerics.rows import aligned, rows_in_cache
from sklearn_vae.objectives import KLWeight, Objective, Schedule
from sklearn_vae.persistence.validation import check_count, invalid_parameter, serializable
from sklearn_vae.posteriors import Posterior
from sklearn_vae.priors import Prior
from sklearn_vae.system.compute import default_modes

if TYPE_CHECKING:
    from skorch.callbacks import Callback

    from sklearn_vae.models.vae import VAE
    from sklearn_vae.training.dataset import Dataset
    from sklearn_vae.training.jobs import TrainingJob, TrainingResult

# Minimum number of rows for early_stopping="auto" to set some aside, if columns are half as many.
MIN_WIDE_ROWS_TO_VALIDATE = 40
# Training and validation rows by number of validation rows and seed.
Splits = dict[tuple[int, int], "tuple[Dataset, Dataset | None]"]
# Encoded rows and splits of them, by the table X and the parameters that they depend on.
TableCache = dict[Hashable, "tuple[TableEncoder, Dataset, Splits]"]


@serializable
class VAETransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityEstimator[FittedVAE, "Dataset"]
):
    """Compress rows of a table to a few numbers, score and draw rows, fill in missing values.

    It has the methods of ``PCA`` and ``GaussianMixture``. Give columns of any type in their own
    units, with or without missing values: nothing needs encoding or scaling.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Length of a code. ``"auto"`` chooses it by the columns and rows; see ``n_components_``. Set
        2 for a picture, more for better reconstructions.
    network : {"mlp", "conv", "gru"} or network, default="mlp"
        Network for tables, images (``"conv"``) or sequences (``"gru"``). Give an object to set its
        parameters, such as ``GRUNet(n_units=32)``, or to use your own modules,
        ``CustomNetwork(encoder=..., decoder=...)``.
    hidden_layer_sizes : int or array-like of int, default=(64, 64)
        Widths of the encoder's hidden layers, which the decoder mirrors. Smaller ones are faster
        and overfit less; empty for a linear model.
    likelihood : str, likelihood, list or dict, default="auto"
        Distribution of each column: one for all, a list, or a dict by name or index.
        ``"gaussian"``, ``"lognormal"``, ``"zero_inflated"``, ``"bernoulli"``,
        ``"categorical"``, ``"ordinal"``, ``"poisson"``, ``"negative_binomial"``, or objects.
        ``"auto"`` chooses by the values; look at ``columns_``, and set those that you know better.
    handle_unknown : {"infrequent", "missing", "error"}, default="infrequent"
        Treatment of values that ``fit`` did not see: a small probability, a missing value, or
        an error.
    conditional : bool, default=False
        True to model p(x|y) for a y of classes or numbers. By default, y is ignored.
    prior : {"auto", "mixture", "normal", "vamp"} or prior, default="auto"
        Prior of the codes. ``"auto"`` is ``"mixture"``, which has clusters, or ``"normal"`` where
        another parameter needs it; see ``prior_``.
    posterior : {"auto", "full", "gaussian", "categorical"} or posterior, default="auto"
        Distribution of a code given its row: normal with correlations (``"full"``) or without
        (``"gaussian"``), or ``n_components`` classes, to cluster rows. ``"auto"`` is ``"full"``,
        or ``"gaussian"`` where another parameter needs it; see ``posterior_``.
    objective : {"elbo", "iwae", "tc", "mmd"} or objective, default="elbo"
        Function to maximize. ``"iwae"`` is for a higher density and slower, ``"tc"`` is for
        independent dimensions, ``"mmd"`` for informative codes. Give an object to set its
        parameters, such as ``ELBO(free_bits=0.2)`` if dimensions are not used.
    beta : float or callable, default=1.0
        Weight of the KL. Below 1, reconstructions are better; above 1, fewer dimensions are
        used. A function of the iteration, such as :class:`LinearWarmup`, changes it.
    max_iter : int, default=200
        Most iterations of the training. Early stopping seldom needs so many; lower it for millions
        of rows.
    batch_size : int or "auto", default="auto"
        Rows in a gradient step, seldom to be changed. ``"auto"`` is 128 up to 3,200 rows, else 256.
    learning_rate : float, default=1e-2
        Size of the first steps. Lower it if training diverges.
    weight_decay : float, default=0.01
        Decay of the weights. Raise it to 1 if the model overfits.
    early_stopping : bool or "auto", default="auto"
        Whether held-out rows end the training. ``"auto"`` holds rows out from 100 rows on, or from
        40 if there is more than one column per two rows. Smaller tables are trained for one
        iteration; False trains them for ``max_iter``.
    validation_fraction : float, default=0.15
        Fraction of the rows to hold out. Seldom needs a change.
    n_iter_no_change : int, default=8
        Iterations without progress after which the learning rate falls; later, training stops. Set
        5 for speed.
    refit : bool, default=True
        Whether to train further on all rows, the held-out ones included. Set False for speed.
    n_init : int or "auto", default="auto"
        Number of initializations, of which the best is kept. ``"auto"`` is one, two if rows may lie
        on a curved surface, or five of an ensemble. Set 3 to 5 for curved surfaces.
    ensemble : bool, default=False
        True to keep the models of all initializations as one density.
    callbacks : list of skorch callbacks, default=None
        Called at every iteration, to watch or to stop training.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``. ``"auto"`` is the first CUDA device, if
        there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed. Give an integer for the same result at every fit.
    verbose : bool or int, default=False
        True to print a line per iteration.

    Attributes
    ----------
    n_components_ : int
        Length of a code.
    prior_, posterior_ : prior, posterior
        Prior and posterior of the codes.
    columns_ : TableEncoder
        Distribution of each column, as a small table.
    condition_encoder_ : ConditionEncoder or None
        Classes of y and their frequencies, with ``conditional=True``.
    history_ : list of dict
        Losses of each iteration in nats per row, for ``pandas.DataFrame`` or
        :class:`~sklearn_vae.inspection.LossCurveDisplay`.
    n_iter_, n_steps_ : int
        Iterations and gradient steps of the training.
    beta_ : float
        Weight of the KL in the last iteration.
    module_ : torch.nn.Module
        A new torch module with the fitted weights.
    state_dict_ : dict of ndarray
        The weights by name, with an axis of members in front.
    interrupted_ : bool
        Whether Ctrl-C ended the fit early. The best weights until then are kept.
    n_features_in_, feature_names_in_ : int, ndarray of shape (``n_features_in_``,)
        Number of columns of X, and their names, where X has any.

    See Also
    --------
    VAEDensity : Higher densities and better samples, without codes.
    sklearn.decomposition.PCA : The linear model before training.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAETransformer
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> vae.transform(X).shape, vae.score_samples(X).shape, vae.sample(3).shape
    ((150, 2), (150,), (3, 4))
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "batch_size": [StrOptions({"auto"}), *CONSTRAINTS["batch_size"]],
    }

    beta_: float
    optimizer_state_: dict[str, np.ndarray] | None
    decoder_correction_: np.ndarray | None = None  # in the middle of a fit there is none yet
    code_range_: np.ndarray | None = None
    n_steps_: int
    # Whether models of two halves of the rows are trained first, for the number of iterations.
    _holds_out_halves: bool = False

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        network: str | Network = "mlp",
        hidden_layer_sizes: int | Sequence[int] | np.ndarray = (64, 64),
        likelihood: str | Likelihood | Sequence[object] | Mapping[Name, object] = "auto",
        handle_unknown: str = "infrequent",
        conditional: bool = False,
        prior: str | Prior = "auto",
        posterior: str | Posterior = "auto",
        objective: str | Objective = "elbo",
        beta: float | Schedule = 1.0,
        max_iter: int = 200,
        batch_size: int | str = "auto",
        learning_rate: float = 1e-2,
        weight_decay: float = 0.01,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.15,
        n_iter_no_change: int = 8,
        refit: bool = True,
        n_init: int | str = "auto",
        ensemble: bool = False,
        callbacks: Sequence[Callback | tuple[str, Callback]] | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: bool | int = False,
    ):
        self.n_components = n_components
        self.network = network
        self.hidden_layer_sizes = hidden_layer_sizes
        self.likelihood = likelihood
        self.handle_unknown = handle_unknown
        self.conditional = conditional
        self.prior = prior
        self.posterior = posterior
        self.objective = objective
        self.beta = beta
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.refit = refit
        self.n_init = n_init
        self.ensemble = ensemble
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # -- fit ---------------------------------------------------------------------------

    def fit_transform(self, X: Rows, y: Target = None, **fit_params: Any) -> Any:
        """Fit, and return the codes of the rows.

        With classes y, codes are those of ``transform(X)``, so that the next step of a Pipeline is
        trained on codes that do not tell y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows; otherwise ignored.
        **fit_params : dict
            For ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes.
        """
        encoder = self.fit(X, y, **fit_params).condition_encoder_
        return self.transform(X, None if encoder is None or len(encoder.class_prior) else y)

    def partial_fit(self, X: Rows, y: Target = None, sample_weight: Weights = None) -> Self:
        """Train the model further by one pass over a chunk of rows.

        Begin with a chunk that is large and representative: it decides the distributions of the
        columns. The learning rate falls with the number of steps, to a tenth.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A chunk of rows, or a source of chunks as in ``fit``.
        y : array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows; the first chunk must have all
            classes. Otherwise ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of times that each row counts.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is invalid, or with ``ensemble=True``.
        """
        from sklearn_vae.training.jobs import TrainingResult
        from sklearn_vae.training.optimizer import STAGES
        from sklearn_vae.training.stacked import make_initializer, make_trainer, threads_for_jobs

        with default_modes(), restore_on_error(self, keep=True):
            is_fitted = hasattr(self, "state_dict_")
            (job, *_), _ = self._make_jobs(X, y, sample_weight, is_partial=True)
            history, done = (self.history_, self.n_steps_) if is_fitted else ([], 0)  # steps
            config = replace(
                job.config,
                # from 100 steps on it falls, to that of a fit's last stage
                learning_rate=self.learning_rate * np.clip(100 / (done + 1), STAGES[-1], 1),
                min_steps_per_epoch=1,
                max_iter=1,
                n_iter_per_stage=(1, 0, 0),
                beta=KLWeight(ModelParts.of(self).beta(len(history))),
                first_epoch=len(history),
            )
            previous = TrainingResult({}, history=history, n_steps=done)
            job = replace(job, config=config, previous=previous)
            with threads_for_jobs([job]):
                options = {"callbacks": self.callbacks, "verbose": int(self.verbose)}
                trainer = make_trainer([job], make_initializer(), **options)
                (result,) = trainer.train(self.optimizer_state_ if is_fitted else None)
            self._set_results([result], None)
            if not result.diverged:  # moments of a training that diverged are large
                self.optimizer_state_ = trainer.optimizer_.state_dict()
            self.interrupted_ = False
        return self

    def _make_jobs(
        self,
        X: FitRows,
        y: Target,
        sample_weight: Weights,
        *,
        is_partial: bool = False,
        cache: TableCache | None = None,
    ) -> tuple[list[TrainingJob], Dataset]:
        """Validate and encode the rows, and make a training job for each initialization.

        That of ``partial_fit`` goes on from the last one, and sets no rows aside for validation.
        """
        from sklearn_vae.training.jobs import TrainingJob
        from sklearn_vae.training.stacked import make_starts

        self._validate_params()
        parts = ModelParts.of(self)
        if is_partial and self.ensemble:
            expected = "be False in partial_fit, which trains one model further"
            raise invalid_parameter(self, "ensemble", expected, value=True)
        is_resumed = is_partial and hasattr(self, "state_dict_")
        rows, weight = self._check_rows(X, y, sample_weight, reset=not is_resumed)
        parts = replace(parts, network=parts.network.for_n_features(self.n_features_in_))
        splits: Splits = {}
        if is_resumed:
            table = self._encode_further_rows(rows, weight, parts)
        else:
            self.seed_ = draw_seed(self.random_state)
            self.columns_, table, splits = self._encode_first_rows(
                rows, weight, id(X), {} if cache is None else cache
            )
            self.architecture_ = make_architecture(self, parts, table)
            self.dtype_ = rows.dtype
        n_valid = 0 if is_partial else self._n_validation_rows(table)
        if (n_valid, self.seed_) not in splits:
            splits[n_valid, self.seed_] = self._split(table, n_valid)
        train, valid = splits[n_valid, self.seed_]
        job = TrainingJob(
            architecture=self.architecture_,
            config=make_config(self, parts, table),
            train=train,
            valid=valid,
            steps=self.columns_.recording_steps,
            # the first member of an ensemble is the best one
            weights={name: w[:1] for name, w in self.state_dict_.items()} if is_resumed else None,
        )
        if self._holds_out_halves and not is_partial:
            return job.halve(table), table
        return make_starts(job, 1 if is_partial else self.n_init, ensemble=self.ensemble), table

    def _encode_first_rows(
        self, rows: np.ndarray | SourceRows, weight: np.ndarray | None, X_id: int, cache: TableCache
    ) -> tuple[TableEncoder, Dataset, Splits]:
        """Fit the table encoder and encode the rows, unless the cache has them by their table."""
        X, structure = sample_of(rows), self._row_structure
        structure.check_missing(X[:, : self.n_features_in_])
        dtype = self._training_dtype(rows, weight)
        key = X_id, repr(self.likelihood), self.conditional, structure, dtype, self.device
        if key not in cache:
            self.columns_ = self._fit_encoder(X, weight, self.likelihood)
            table = self._encode(rows, weight)  # which may change the columns
            cache[key] = self.columns_, table, {}
        return cache[key]

    def _encode_further_rows(
        self, rows: np.ndarray | SourceRows, weight: np.ndarray | None, parts: ModelParts
    ) -> Dataset:
        """Encode rows to train a fitted model further, which gets mask inputs for missing cells."""
        check_same_architecture(self, parts, self.architecture_)
        table = self._encode(rows, weight)
        if table.has_missing and not self.architecture_.n_factors:
            from sklearn_vae.training.jobs import TrainingJob
            from sklearn_vae.training.stacked import add_mask_inputs

            job = TrainingJob(self.architecture_, make_config(self, parts, table), table)
            self.architecture_, self.state_dict_ = add_mask_inputs(job, self.state_dict_)
            self.optimizer_state_ = None
        return table

    def _has_rows_to_validate(self, n_rows: int) -> bool:
        # networks overfit rows of many cells at once, and few of these rows tell so
        is_wide = n_rows >= MIN_WIDE_ROWS_TO_VALIDATE and 2 * self.n_features_in_ > n_rows
        return is_wide or super()._has_rows_to_validate(n_rows)

    def _select(
        self, jobs: list[TrainingJob], results: list[TrainingResult], rows: Dataset
    ) -> tuple[list[TrainingResult], list[TrainingJob]]:
        order = np.argsort([result.loss for result in results], kind="stable")
        kept = order if self.ensemble else order[:1]
        best = [results[index] for index in kept]
        if self._holds_out_halves:
            return best, [jobs[0].join(results, rows)]
        if not self.refit or jobs[0].valid is None:
            return best, []
        return best, [jobs[index].refit(results[index], rows) for index in kept]

    def _set_results(self, results: list[TrainingResult], rows: Dataset | None) -> None:
        """Set the fitted attributes; without rows, there is no decoder correction."""
        from sklearn_vae.models.build import build
        from sklearn_vae.training.jobs import stack_weights

        best = results[0]
        self.state_dict_ = stack_weights(results)
        self.decoder_correction_ = self.code_range_ = None
        if rows is not None:
            model = build(self.architecture_).to(rows.like)
            model.load(best.weights)
            x, weight = rows.arrays(10_000)
            n_rows = rows_in_cache(max(self.architecture_.widest, self.n_features_in_))
            self.decoder_correction_, self.code_range_ = fit_decoder_correction(
                model, x, weight, n_rows
            )
        self.optimizer_state_ = None  # partial_fit sets its own
        self.history_ = best.history
        self.beta_ = best.history[-1]["beta"] if best.history else 1.0
        self.n_iter_ = len(best.history)
        self.n_steps_ = best.n_steps
        self._condition_on_relations()
        self._warn_of_divergence(results)

    # -- codes -------------------------------------------------------------------------

    @accepts_source
    def transform(self, X: Rows, y: Target = None) -> np.ndarray:
        """Compress rows to codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows, or a source of chunks as in ``fit``.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows. Classes may be left out.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes, the means of q(z|x); with classes as codes, their probabilities.
        """
        check_is_fitted(self)
        rows, model = self._rows_and_model(X, y)
        return model.codes(rows)

    def inverse_transform(self, X: Table, y: Target = None) -> np.ndarray:
        """Decode codes of ``transform``, or codes between them, to rows.

        To draw new rows, use ``sample``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the conditions of the rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Means of the rows in X's own units; a data frame, if X was one in ``fit``.
        """
        check_is_fitted(self)
        self._check_y_is_used(y, "inverse_transform")
        check_is_table(X, "inverse_transform")
        Z = check_array(as_array(X), dtype=[np.float64, np.float32], input_name="X")
        n_components = self.architecture_.n_components
        if Z.shape[1] != n_components:
            raise ValueError(
                f"X has {Z.shape[1]} columns, but this {type(self).__name__} was fitted with "
                f"n_components={n_components}."
            )
        check_range(Z)
        conditions = self._encode_conditions(y, len(Z), Z.dtype)
        return self._restore_table(self._predictor().decode(Z, conditions), like=X)

    def interpolate(
        self, x0: Target, x1: Target, n_steps: int = 10, *, y: Target = None
    ) -> np.ndarray:
        """Make rows on the way from one row to another, by codes on a straight line.

        Parameters
        ----------
        x0, x1 : array-like of shape (n_features,) or (1, n_features)
            First and last row, in the units of the training rows.
        n_steps : int, default=10
            Number of rows, both ends included.
        y : scalar, default=None
            With ``conditional=True``, the condition of all rows.

        Returns
        -------
        ndarray of shape (n_steps, n_features)
            Decoded rows.
        """
        check_is_fitted(self)
        n_steps = check_count("n_steps", n_steps)
        self._check_y_is_used(y, "interpolate")
        ends = []
        for name, x in (("x0", x0), ("x1", x1)):
            try:
                ends.append(self._validate_with_conditions(as_row(x), y))
            except ValueError as error:
                raise ValueError(f"{name} must be one row: {error}") from error
            if len(ends[-1]) != 1:
                raise ValueError(f"{name} must be one row. Got {len(ends[-1])} instead.")
        start, end = self._predictor().codes(np.vstack(ends))
        t = np.linspace(0, 1, n_steps, dtype=start.dtype)[:, None]
        return self.inverse_transform((1 - t) * start + t * end, y)

    # -- fitted attributes -------------------------------------------------------------

    @property
    def prior_(self) -> Prior:
        """Prior of the codes."""
        check_is_fitted(self)
        return self.architecture_.prior

    @property
    def posterior_(self) -> Posterior:
        """Posterior of the codes."""
        check_is_fitted(self)
        return self.architecture_.posterior

    @property
    def module_(self) -> VAE:
        """A new torch module with the fitted weights."""
        check_is_fitted(self)
        return self._predictor().build_module(self.dtype_)

    def _make_predictor(self, device: str) -> FittedVAE:
        parts = self.columns_, self.architecture_, dict(self.state_dict_), self.seed_
        return FittedVAE(*parts, self.decoder_correction_, self.code_range_, device=device)

    @property
    def _n_features_out(self) -> int:
        return self.architecture_.n_components

    def _validate_fitted(self) -> None:
        super()._validate_fitted()
        if self.optimizer_state_ is not None:
            n_most = aligned(sum(w[0].size for w in self.state_dict_.values()))
            if any(
                np.size(self.optimizer_state_[name]) > n_most
                for name in ("mean", "square", "count")
            ):
                raise ValueError("the optimizer's state is larger than the weights")
