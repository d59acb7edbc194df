"""What the estimators share: rows in, a trained model, its density, its samples."""

import warnings
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from sklearn_vae.callbacks import CallbackSupportMixin, Report, with_callbacks
from sklearn_vae.checks import (
    CONSTRAINTS,
    all_or_nothing,
    as_array,
    check_callbacks,
    check_one_member,
    check_random_state,
    check_shapes,
    check_weight_of_kl,
    naming_columns,
    objective_of,
    positive_integer,
    prior_of,
    widths_of,
)
from sklearn_vae.columns import Columns
from sklearn_vae.device import resolve_device
from sklearn_vae.factors import n_factors
from sklearn_vae.fitted import FittedVAE
from sklearn_vae.model import VAE, Architecture
from sklearn_vae.objectives import Checked, Constant, Schedule
from sklearn_vae.randomness import draw_seed
from sklearn_vae.training import (
    Fit,
    Fitted,
    Plan,
    Table,
    fit_all,
    history_of,
    launch,
    speed_for,
)

# An iteration is a pass over the rows, or this many steps where a pass has fewer.
FEWEST_STEPS = 25
# One row says nothing of how rows differ.
FEWEST_ROWS = 2
# Weights that are so small on average were hardly meant as copies of rows.
LEAST_MEAN_WEIGHT = 0.25
# early_stopping="auto" sets validation rows aside from this many rows on. Smaller tables
# get so many iterations at the most: by then they have gained what there is to gain.
FEWEST_ROWS_TO_VALIDATE = 100
ITERATIONS_OF_SMALL_TABLES = 1
# Sobol points of the score; benchmarks/score_draws.py shows bias and noise by number.
SCORE_DRAWS = 64
# Scramblings of the same points that return_std compares.
STD_SCRAMBLINGS = 8
# n_components="auto" takes so many, where columns and rows suffice.
USUAL_COMPONENTS = 8
ROWS_PER_COMPONENT = 20
# A table that is one batch of no more numbers is trained in X's own precision.
MOST_NUMBERS_IN_DOUBLE = 1 << 15
# Numbers of X that are encoded at a time.
ENCODED_AT_A_TIME = 1 << 20


class BaseVAE(CallbackSupportMixin, BaseEstimator):
    """A variational autoencoder as an estimator: fit, density, samples.

    The parameters are documented where users meet them, in the subclasses.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    architecture_: Architecture
    seed_: int
    moments_: dict[str, np.ndarray] | None
    correction_: np.ndarray | None = None  # in the middle of a fit there is none yet
    history_: list[dict[str, Any]]
    n_steps_: int

    def __init__(
        self,
        n_components: int | str,
        hidden_layer_sizes: Any,
        activation: str,
        likelihood: Any,
        prior: Any,
        objective: Any,
        beta: Any,
        free_bits: float,
        scale_prior: float,
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
        members: str,
        callbacks: Any,
        warm_start: bool,
        device: str,
        random_state: Any,
        verbose: Any,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.prior = prior
        self.objective = objective
        self.beta = beta
        self.free_bits = free_bits
        self.scale_prior = scale_prior
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
        self.members = members
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn the encoder and the decoder from the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, in their own units.
        y : None
            Ignored; here for scikit-learn's conventions.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts: a row of weight 2 is as two rows, one of weight 0 as
            if it were not there.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is not as it must be. The estimator is then as before.
        """
        with all_or_nothing(self):
            wanted = self._prepare(X, sample_weight, go_on=self.warm_start)
            # two runs, each in as many fleets as there are starts at the most
            report = Report(self, max_iterations=2 * self.max_iter * self.n_init)
            report.begin(X, y)
            callbacks = [*(self.callbacks or []), *report.callbacks()]
            (found,) = fit_all([wanted], callbacks=callbacks, verbose=int(self.verbose))
            self._take(found, wanted.table)
            report.end()
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Pass once over the rows of X, going on from what was learned before.

        The first call settles what the columns are, their units and the model's start;
        later chunks must have the same columns.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A chunk of rows.
        y : None
            Ignored; here for scikit-learn's conventions.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with all_or_nothing(self):
            go_on = hasattr(self, "weights_")
            seed = self.seed_ if go_on else None
            wanted = self._prepare(X, sample_weight, go_on=True, seed=seed, validates=False)
            before = self.history_ if go_on else []
            plan = replace(
                wanted.plan,
                fewest_steps=1,
                max_iter=1,
                stage_lengths=(1, 0, 0),
                beta=Constant(self._schedule()(len(before))),
                first_iteration=len(before),
            )
            run = wanted.run(plan, wanted.table, None)
            with speed_for([run]):
                trainer = launch([run], callbacks=self.callbacks, verbose=int(self.verbose))
                (found,) = trainer.train(run.train, moments=self.moments_ if go_on else None)
            (record,) = history_of([found])
            history = [*before, {**record, "epoch": len(before) + 1}]
            n_steps = (self.n_steps_ if go_on else 0) + plan.n_steps(len(run.train))
            self._take(Fitted(found.weights, history, n_steps, found.diverged), None)
            if not found.diverged:  # moments that led astray would lead there again
                self.moments_ = trainer.optimizer_.state_dict()
        return self

    def _prepare(
        self,
        X: Any,
        sample_weight: Any,
        *,
        go_on: bool = False,
        seed: int | None = None,
        validates: bool = True,
        known: dict[Hashable, tuple[Columns, Table]] | None = None,
    ) -> Fit:
        """Check everything, decide what the fit is made of and state what is wanted.

        Parameters
        ----------
        X, sample_weight : array-like
            Rows, and what they count.
        go_on : bool, default=False
            Whether to go on from a fit, if there is one.
        seed : int, optional
            What all draws follow from; by default, ``random_state`` decides.
        validates : bool, default=True
            Whether rows may be set aside.
        known : dict, optional
            Tables that were made of this very X before; other estimators' as well.
        """
        self._validate_params()
        check_callbacks(self)
        check_weight_of_kl(self)
        if go_on:
            check_one_member(self)
        go_on = go_on and hasattr(self, "weights_")
        rows, weight = self._check_rows(X, sample_weight, reset=not go_on)
        self.seed_ = draw_seed(self.random_state) if seed is None else seed
        if go_on:
            check_shapes(self, self.architecture_)
            table = self._to_table(rows, weight)
        else:
            known = {} if known is None else known
            key = (id(X), repr(self.likelihood), len(rows) <= self.batch_size, self.device)
            if key not in known:
                names = getattr(self, "feature_names_in_", None)
                self.columns_ = Columns.learn(rows, weight, self.likelihood, names)
                known[key] = self.columns_, self._to_table(rows, weight)
            self.columns_, table = known[key]
            self.architecture_ = Architecture(
                self._n_components(table),
                widths_of(self),
                self.activation,
                self.columns_.blocks,
                prior_of(self),
            )
            self.dtype_ = rows.dtype
        return Fit(
            architecture=self.architecture_,
            plan=self._plan(len(table)),
            table=table,
            n_valid=self._n_valid(len(table)) if validates else 0,
            refit=self.refit,
            free_bits=self.free_bits,
            scale_prior=self.scale_prior,
            n_init=1 if go_on else self.n_init,
            keeps_all=self.members == "all",
            # of several members the best is the first
            weights={name: w[:1] for name, w in self.weights_.items()} if go_on else None,
        )

    def _take(self, found: Fitted, table: Table | None) -> None:
        """Become what the training has led to; the table is that of all rows, if at hand."""
        self.weights_ = found.weights
        self.correction_ = None
        if table is not None:
            x, weight = table.arrays()
            counts = np.ones(len(x)) if weight is None else weight.astype(np.float64)
            counts *= float(table.total[0]) / counts.sum()
            self.correction_ = self._fitted().learn_correction(x, counts)
        self.moments_ = None  # partial_fit sets its own
        self.history_ = found.history
        self.n_iter_ = len(found.history)
        self.n_steps_ = found.n_steps
        if found.diverged:
            warnings.warn(
                f"Training diverged (the loss rose without bounds) with learning_rate="
                f"{self.learning_rate}. The last good weights were kept; a smaller learning_rate "
                f"avoids this.",
                ConvergenceWarning,
                stacklevel=3,
            )

    # -- what a fit decides ----------------------------------------------------------

    def _n_components(self, table: Table) -> int:
        if self.n_components != "auto":
            return int(self.n_components)
        x, weight = table.arrays()
        rows_suffice_for = max(2, round(float(table.total[0])) // ROWS_PER_COMPONENT)
        most = min(USUAL_COMPONENTS, max(x.shape[1], 1), rows_suffice_for)
        if weight is not None:
            weight = weight * (float(table.total[0]) / weight.sum())
        return n_factors(x.astype(np.float64), weight, most) or most

    def _to_table(self, X: np.ndarray, weight: np.ndarray | None) -> Table:
        """Encode the rows and move them to the device, once."""
        device = resolve_device(self.device)
        counts = np.ones(len(X)) if weight is None else weight
        # a table that is one small batch costs no more in double precision
        exact = len(X) <= self.batch_size and X.size <= MOST_NUMBERS_IN_DOUBLE
        dtype = X.dtype if exact else np.dtype(np.float32)
        encoded = np.empty((len(X), len(self.columns_.order)), dtype)
        log_measure = 0.0
        for rows in gen_batches(len(X), max(ENCODED_AT_A_TIME // X.shape[1], 1)):
            encoded[rows] = self.columns_.encode(X[rows])
            log_measure += float(self.columns_.log_measure(X[rows]) @ counts[rows])
        total = float(counts.sum())
        relative = None
        if weight is not None:
            relative = torch.as_tensor((weight / weight.mean()).astype(dtype)).to(device)
        x = torch.as_tensor(encoded).to(device)
        return Table.of(x, relative, total, -log_measure / total)

    def _plan(self, n_rows: int) -> Plan:
        max_iter, beta = self.max_iter, self._schedule()
        if self.early_stopping == "auto" and n_rows < FEWEST_ROWS_TO_VALIDATE:
            max_iter = min(max_iter, ITERATIONS_OF_SMALL_TABLES)
            beta = Constant(beta(self.max_iter - 1))  # there is no time to warm up
        return Plan(
            seed=self.seed_,
            max_iter=max_iter,
            fewest_steps=FEWEST_STEPS,
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

    def _n_valid(self, n_rows: int) -> int:
        """How many rows to validate on; 0 if all are trained on."""
        wanted = self.early_stopping
        if wanted == "auto":
            wanted = n_rows >= FEWEST_ROWS_TO_VALIDATE
        if not wanted:
            return 0
        n_valid = max(round(self.validation_fraction * n_rows), 1)
        if n_rows - n_valid < FEWEST_ROWS:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} with validation_fraction="
                f"{self.validation_fraction} leaves {n_rows - n_valid} of {n_rows} rows to train "
                f"on; at least {FEWEST_ROWS} are needed."
            )
        return n_valid

    def _check_rows(
        self, X: Any, sample_weight: Any, *, reset: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Validate rows to learn from, and leave out those that count nothing."""
        X = self._validate(X, reset=reset, ensure_min_samples=FEWEST_ROWS)
        if sample_weight is None:
            return X, None
        weight = _check_sample_weight(
            as_array(sample_weight), X, dtype=np.float64, ensure_non_negative=True
        )
        counted = weight > 0
        if counted.sum() < FEWEST_ROWS:
            raise ValueError(
                f"Too many sample weights are zero: {counted.sum()} of {len(weight)} rows have "
                f"a weight above 0, and at least {FEWEST_ROWS} are needed."
            )
        if weight.sum() < LEAST_MEAN_WEIGHT * counted.sum():
            warnings.warn(
                f"sample_weight says how many times each row is there, and its sum makes a table "
                f"of {weight.sum():.3g} rows of the {counted.sum()} with a weight above 0. Divide "
                f"it by its mean to have each row count once on average.",
                UserWarning,
                stacklevel=4,
            )
        return (X, weight) if counted.all() else (X[counted], weight[counted])

    def _validate(self, X: Any, **kwargs: Any) -> np.ndarray:
        X = as_array(X)
        try:
            return validate_data(self, X, dtype=[np.float64, np.float32], **kwargs)
        except ValueError as error:
            raise naming_columns(error, X) from None

    # -- density ---------------------------------------------------------------------

    def score_samples(
        self, X: Any, *, n_draws: int = SCORE_DRAWS, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Log-density of each row, in nats and in X's own units.

        It is the importance-weighted bound on log p(x), whatever objective trained the
        model, so it can be compared between models, with ``GaussianMixture``,
        ``KernelDensity`` and ``PCA``. The same Sobol points serve all rows: a row's
        score does not depend on its neighbours or on luck.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        n_draws : int, default=64
            Points in latent space per row. More tighten the bound; a power of two is
            best.
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
        n_draws = positive_integer("n_draws", n_draws)
        X = self._validate(X, reset=False)
        fitted = self._fitted()
        scores = fitted.log_density(X, n_draws)
        if not return_std:
            return scores
        others = [fitted.log_density(X, n_draws, 1 + s) for s in range(STD_SCRAMBLINGS)]
        return scores, np.std(others, axis=0, ddof=1)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log-density of the rows, in nats and in X's own units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        y : None
            Ignored; here for scikit-learn's conventions.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts.

        Returns
        -------
        float
            Nats per row; higher is better.
        """
        scores = self.score_samples(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                as_array(sample_weight), scores, ensure_non_negative=True
            )
        return float(np.average(scores, weights=sample_weight))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw rows from the model, with the decoder's noise.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            What decides the draws; None takes the estimator's own.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows in X's own units.
        """
        check_is_fitted(self)
        n_samples = positive_integer("n_samples", n_samples)
        check_random_state(random_state, caller=f"{type(self).__name__}.sample")
        seed = draw_seed(self.random_state if random_state is None else random_state)
        return self._fitted().sample(n_samples, seed, self.dtype_)

    @property
    def module_(self) -> VAE:
        """The torch module, built anew from the fitted weights at every call."""
        check_is_fitted(self)
        return self._fitted().module(self.dtype_)

    def _fitted(self) -> FittedVAE:
        return FittedVAE(
            self.columns_,
            self.architecture_,
            self.weights_,
            self.seed_,
            resolve_device(self.device),
            self.correction_,
        )
