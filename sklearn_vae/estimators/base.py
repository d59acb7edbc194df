"""What the estimators share: rows in, a trained model, its density, its samples."""

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils.validation import check_is_fitted

from sklearn_vae.data.arrays import as_array, has_missing_values
from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.data.schema import Schema
from sklearn_vae.device import device_to_score_on
from sklearn_vae.estimators.checks import (
    CONSTRAINTS,
    check_compatible_parts,
    check_does_not_follow,
    check_ends,
    check_one_member,
    check_random_state,
    check_shapes,
    network_of,
    objective_of,
    positive_integer,
    posterior_of,
    prior_of,
    restore_on_error,
    widths_of,
)
from sklearn_vae.estimators.conditional import ConditionalEstimator
from sklearn_vae.estimators.robust import trusted
from sklearn_vae.estimators.table import (
    FEWEST_ROWS_TO_VALIDATE,
    FEWEST_STEPS,
    ITERATIONS_OF_SMALL_TABLES,
)
from sklearn_vae.inference.decoder_correction import fit_decoder_correction
from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.initialization.factor_analysis import n_imputation_factors
from sklearn_vae.initialization.n_factors import n_factors
from sklearn_vae.initialization.regression import ConditionRegression
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives import Checked, Constant, Schedule
from sklearn_vae.random import Stream, draw_seed, make_generator
from sklearn_vae.training import (
    Dataset,
    TrainingConfig,
    TrainingJob,
    TrainingResult,
    add_mask_inputs,
    make_trainer,
    threads_for_jobs,
)

# n_components="auto" takes so many, where columns and rows suffice.
USUAL_COMPONENTS = 8
ROWS_PER_COMPONENT = 20
# Rows in which factors are looked for.
ROWS_FOR_FACTORS = 1 << 17
# Rows drawn from a model of whole rows, to learn from them what fills missing cells.
ROWS_FOR_FILLER = 2048
# Weighted codes per row by which holes are filled.
IMPUTE_DRAWS = 256


# Training and validation rows by number of validation rows and seed.
Splits = dict[tuple[int, int], tuple[Dataset, Dataset | None]]


class BaseVAE(ConditionalEstimator):
    """A variational autoencoder as an estimator: fit, density, samples.

    The parameters are documented where users meet them, in the subclasses.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS
    _takes_holes: ClassVar[bool] = True

    architecture_: Architecture
    seed_: int
    state_dict_: dict[str, np.ndarray]
    optimizer_state_: dict[str, np.ndarray] | None
    decoder_correction_: np.ndarray | None = None  # in the middle of a fit there is none yet
    code_range_: np.ndarray | None = None
    history_: list[dict[str, Any]]
    n_steps_: int

    def __init__(
        self,
        n_components: int | str,
        network: Any,
        hidden_layer_sizes: Any,
        activation: str,
        encoder: Any,
        decoder: Any,
        likelihood: Any,
        handle_unknown: str,
        conditional: bool,
        prior: Any,
        posterior: Any,
        objective: Any,
        robust: bool,
        beta: Any,
        free_bits: float,
        scale_prior_strength: float,
        max_iter: int,
        batch_size: int,
        learning_rate: float,
        weight_decay: float,
        early_stopping: Any,
        validation_fraction: float,
        n_iter_no_change: int,
        tol: float,
        refit: bool,
        n_init: int,
        ensemble: bool,
        callbacks: Any,
        checkpoint: Any,
        warm_start: bool,
        device: str,
        random_state: Any,
        verbose: Any,
    ):
        self.n_components = n_components
        self.network = network
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.handle_unknown = handle_unknown
        self.conditional = conditional
        self.prior = prior
        self.posterior = posterior
        self.objective = objective
        self.robust = robust
        self.beta = beta
        self.free_bits = free_bits
        self.scale_prior_strength = scale_prior_strength
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.refit = refit
        self.n_init = n_init
        self.ensemble = ensemble
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -------------------------------------------------------------------------

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Pass once over the rows of X, going on from what was learned before.

        The first call settles what the columns are, their units and the model's start;
        later chunks must have the same columns.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A chunk of rows.
        y : array-like of shape (n_samples,), default=None
            With ``conditional=True``, what they are given; the first chunk has to have all
            classes. Otherwise ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with restore_on_error(self, keep=True):
            is_fitted = hasattr(self, "state_dict_")
            seed = self.seed_ if is_fitted else None
            (job, *_), _ = self._make_jobs(
                X, y, sample_weight, warm_start=True, seed=seed, validates=False
            )
            n_iter = len(self.history_) if is_fitted else 0
            config = replace(
                job.config,
                min_steps_per_epoch=1,
                max_iter=1,
                n_iter_per_stage=(1, 0, 0),
                beta=Constant(self._schedule()(n_iter)),
                first_epoch=n_iter,
            )
            job = replace(job, config=config)
            if is_fitted:
                previous = TrainingResult({}, history=self.history_, n_steps=self.n_steps_)
                job = replace(job, previous=previous)
            with threads_for_jobs([job]):
                trainer = make_trainer([job], callbacks=self.callbacks, verbose=int(self.verbose))
                optimizer_state = self.optimizer_state_ if is_fitted else None
                (result,) = trainer.train(job.train, optimizer_state=optimizer_state)
            self._set_results([job], [job.finish(result)], None)
            if not result.diverged:  # moments of a training that diverged are large
                self.optimizer_state_ = trainer.optimizer_.state_dict()
            self.interrupted_ = False
        return self

    def _make_jobs(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        warm_start: bool | None = None,
        seed: int | None = None,
        validates: bool = True,
        cache: dict[Hashable, tuple[TableEncoder, Dataset, Splits]] | None = None,
    ) -> tuple[list[TrainingJob], Dataset]:
        """Validate and encode the rows, and make a job for each start.

        Parameters
        ----------
        X, y, sample_weight : array-like
            Rows, their conditions, and how often each row counts.
        warm_start : bool, optional
            Whether to train the weights of the last fit further, if there is one; by default,
            the parameter decides.
        seed : int, optional
            Seed of all draws; by default, ``random_state`` decides.
        validates : bool, default=True
            Whether rows may be set aside for validation.
        cache : dict, optional
            Encoded tables of this very X and their splits, by the parameters that they depend on;
            several estimators may share it.
        """
        warm_start = self.warm_start if warm_start is None else warm_start
        self._validate_params()
        check_compatible_parts(self)
        if warm_start:
            check_one_member(self)
        is_resumed = bool(warm_start) and hasattr(self, "state_dict_")
        if self.robust and validates and not is_resumed:
            sample_weight = as_array(sample_weight)
            self.support_ = trusted(self, X, y, sample_weight)
            counts = 1.0 if sample_weight is None else np.asarray(sample_weight)
            sample_weight, cache = np.where(self.support_, counts, 0.0), None
        rows, weight = self._check_rows(X, sample_weight, reset=not is_resumed, y=y)
        self.seed_ = draw_seed(self.random_state) if seed is None else seed
        if is_resumed:
            if hasattr(self, "support_"):  # of other rows
                del self.support_
            check_shapes(self, self.architecture_)
            table = self._to_table(rows, weight)
            splits: Splits = {}
            if not self.architecture_.n_factors and self.columns_.is_incomplete(rows).any():
                self._begin_to_take_missing_cells(table)
        else:
            cache = {} if cache is None else cache
            network = network_of(self, self.n_features_in_)
            structure = network.row_structure
            structure.check_missing(rows[:, : self.n_features_in_])
            units = structure.shared_scale, structure.values_per_step
            asked = repr(self.likelihood), self.conditional, units
            allows_missing = not (structure.variable_length or structure.is_autoregressive)
            key = (id(X), *asked, allows_missing, len(rows) <= self.batch_size, self.device)
            if key not in cache:
                self.columns_ = self._learn_columns(
                    rows,
                    weight,
                    self.likelihood,
                    point_masses=not structure.shared_scale,
                    period=structure.values_per_step if structure.shared_scale else None,
                    allows_missing=allows_missing,
                )
                cache[key] = self.columns_, self._to_table(rows, weight), {}
            self.columns_, table, splits = cache[key]
            n_rows = round(float(table.total_weight[0]))
            n_factors = n_imputation_factors(n_rows, self.columns_.n_columns)
            self.architecture_ = Architecture(
                self._n_components(table),
                widths_of(self),
                self.activation,
                self.columns_.blocks,
                prior_of(self),
                n_factors if self.columns_.has_missing else 0,
                network,
                posterior_of(self),
                n_conditions=self.columns_.n_conditions,
                places=tuple(self.columns_.order.tolist()) if structure.shared_scale else (),
            )
            self.dtype_ = rows.dtype
        n_valid = self._n_valid(table) if validates else 0
        if (n_valid, self.seed_) not in splits:
            splits[n_valid, self.seed_] = self._split(table, n_valid)
        train, valid = splits[n_valid, self.seed_]
        job = TrainingJob(
            architecture=self.architecture_,
            config=self._config(round(float(table.total_weight[0]))),
            train=train,
            valid=valid,
            free_bits=self.free_bits,
            scale_prior_strength=self.scale_prior_strength,
            # the first member of an ensemble is the best one
            weights={name: w[:1] for name, w in self.state_dict_.items()} if is_resumed else None,
        )
        return job.starts(1 if is_resumed else self.n_init, ensemble=self.ensemble), table

    def _select(
        self, jobs: list[TrainingJob], results: list[TrainingResult], rows: Dataset
    ) -> tuple[list[TrainingResult], list[TrainingJob]]:
        order = np.argsort([result.loss for result in results], kind="stable")
        kept = order if self.ensemble else order[:1]
        best = [results[index] for index in kept]
        if not self.refit or jobs[0].valid is None:
            return best, []
        return best, [jobs[index].refit(results[index], rows) for index in kept]

    def _begin_to_take_missing_cells(self, table: Dataset) -> None:
        """Widen a model of whole rows, to go on with a table of which cells are missing."""
        n_factors = n_imputation_factors(ROWS_FOR_FILLER, self.columns_.n_columns)
        if not n_factors:  # all columns are constant
            return
        chosen = torch.arange(ROWS_FOR_FILLER, device=table.x.device) % len(table)
        given = table.x[chosen][:, self.columns_.n_columns :]
        model = self._fitted().module(self.dtype_, n_members=1)
        drawn = model.sample(
            ROWS_FOR_FILLER,
            make_generator(self.seed_, Stream.SAMPLE),
            F.pad(given, (self.columns_.n_columns, 0)).to(model.free) if given.shape[1] else None,
        )
        rows = Dataset.from_x(torch.cat([drawn.to(given), given], 1), None, ROWS_FOR_FILLER, 0.0)
        self.architecture_ = replace(self.architecture_, n_factors=n_factors)
        job = TrainingJob(self.architecture_, self._config(len(rows)), rows)
        self.state_dict_ = add_mask_inputs(job, self.state_dict_)
        self.columns_ = replace(self.columns_, has_missing=True)
        self.optimizer_state_ = None

    def _learn_schema(self, X: Any) -> Schema | None:
        schema = super()._learn_schema(X)
        if schema is None:
            return schema
        structure = network_of(self, len(schema.fields)).row_structure
        if not structure.shared_scale:
            return schema
        return schema.shared_categories(structure.values_per_step)

    def _possible(self, rows: np.ndarray) -> np.ndarray:
        rows = super()._possible(rows)
        check_ends(self.architecture_, rows)
        return rows

    def _set_results(
        self, jobs: list[TrainingJob], results: list[TrainingResult], rows: Dataset | None
    ) -> None:
        """Set the fitted attributes; without rows, there is no decoder correction."""
        best = results[0]
        self.state_dict_ = {
            name: np.concatenate([result.weights[name] for result in results])
            for name in best.weights
        }
        self.decoder_correction_ = self.code_range_ = None
        # least squares need whole rows
        if rows is not None and not self.architecture_.n_factors:
            x, _ = rows.arrays()
            predictor = self._fitted()
            self.decoder_correction_, self.code_range_ = fit_decoder_correction(
                predictor.module(x.dtype, n_members=1),
                x,
                rows.sample_weight(),
                predictor.rows_per_chunk(),
            )
        self.optimizer_state_ = None  # partial_fit sets its own
        self.history_ = best.history
        self.n_iter_ = len(best.history)
        self.n_steps_ = best.n_steps
        if any(result.diverged for result in results):
            self._warn_of_divergence(self.learning_rate)

    # -- parts of rows ---------------------------------------------------------------

    def impute(
        self,
        X: Any,
        n_draws: int | None = None,
        *,
        random_state: Any = None,
        y: Any = None,
    ) -> Any:
        """Fill missing cells, given what is known of their rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, missing cells of which are NaN (or None, or ``pandas.NA``).
        n_draws : int, default=None
            Number of completed tables to draw, whose spread is that of what is not known.
            None fills in means, and in columns of classes the likeliest one.
        random_state : int, RandomState instance or None, default=None
            What decides the draws; None takes the estimator's own.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, what is given with the rows.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features)
            X without holes, of the kind that X had in ``fit``. With ``n_draws``, an
            array of shape (n_draws, n_samples, n_features), or a list of data frames.

        References
        ----------
        .. [1] P.-A. Mattei and J. Frellsen, "MIWAE: Deep Generative Modelling and
           Imputation of Incomplete Data Sets", ICML 2019.
        """
        check_is_fitted(self)
        self._refuse_y(y, "impute")
        rows = self._validate_given(X, y)
        if n_draws is None:
            return self._give_back(self._imputed(rows)[0], like=X)
        n_draws = positive_integer("n_draws", n_draws)
        check_random_state(random_state, caller=f"{type(self).__name__}.impute")
        drawn = self._imputed(rows, n_draws, random_state)
        if self.schema_ is None:
            return drawn
        return [self._give_back(own, like=X) for own in drawn]

    def _imputed(
        self, rows: np.ndarray, n_draws: int | None = None, random_state: Any = None
    ) -> np.ndarray:
        """Rows of numbers without holes, by means or by draws: (n_draws or 1, n, n_features)."""
        check_does_not_follow(self, "impute")
        rows = self._unknown_as_missing(rows)
        holes = has_missing_values(rows)
        filled = np.repeat(rows[None, :, : self.n_features_in_], n_draws or 1, axis=0)
        if not holes.any():
            return filled
        if n_draws is None:
            filled[0, holes] = self._fitted().impute(rows[holes], IMPUTE_DRAWS)
            return filled
        seed = draw_seed(self.random_state if random_state is None else random_state)
        filled[:, holes] = self._fitted().sample_missing(rows[holes], n_draws, IMPUTE_DRAWS, seed)
        return filled

    # -- what a fit decides ----------------------------------------------------------

    def _n_components(self, table: Dataset) -> int:
        if self.n_components != "auto":
            return int(self.n_components)
        return posterior_of(self).default_n_components(self._n_factors(table))

    def _n_factors(self, table: Dataset) -> int:
        rows_suffice_for = max(2, round(float(table.total_weight[0])) // ROWS_PER_COMPONENT)
        n_columns = self.columns_.n_columns
        most = min(USUAL_COMPONENTS, max(n_columns, 1), rows_suffice_for)
        if self.columns_.has_missing:
            return most
        (x, weight), some = table.arrays(), slice(ROWS_FOR_FACTORS)
        counts = None if weight is None else table.sample_weight()[some]
        x = ConditionRegression.fit(x[some], counts, n_columns).residuals(x[some])
        return n_factors(x.astype(np.float64), counts, most) or most

    def _config(self, n_rows: int) -> TrainingConfig:
        max_iter, beta = self.max_iter, self._schedule()
        if self.early_stopping == "auto" and n_rows < FEWEST_ROWS_TO_VALIDATE:
            max_iter = min(max_iter, ITERATIONS_OF_SMALL_TABLES)
            beta = Constant(beta(self.max_iter - 1))  # there is no time to warm up
        return TrainingConfig(
            seed=self.seed_,
            max_iter=max_iter,
            min_steps_per_epoch=FEWEST_STEPS,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            beta=beta,
            patience=self.n_iter_no_change,
            tol=self.tol,
            objective=objective_of(self),
        )

    def _schedule(self) -> Schedule:
        return Checked(self.beta) if callable(self.beta) else Constant(float(self.beta))

    @property
    def module_(self) -> VAE:
        """The torch module, built anew from the fitted weights at every call."""
        check_is_fitted(self)
        return self._fitted().module(self.dtype_)

    def _fitted(self) -> Predictor:
        return Predictor(
            self.columns_,
            self.architecture_,
            self.state_dict_,
            self.seed_,
            device_to_score_on(self.device),
            self.decoder_correction_,
            self.code_range_,
        )

    def _check_learned(self) -> None:
        super()._check_learned()
        if self.optimizer_state_ is not None:
            n_weights = sum(w[0].size for w in self.state_dict_.values())
            if any(
                np.size(self.optimizer_state_[name]) > n_weights
                for name in ("mean", "square", "count")
            ):
                raise ValueError("there are more moments than weights")
