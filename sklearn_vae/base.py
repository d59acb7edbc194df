"""What the estimators share: rows in, a trained model, its density, its samples."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from sklearn_vae.callbacks import CallbackSupportMixin, IterationReporter, with_callbacks
from sklearn_vae.columns import Columns
from sklearn_vae.device import resolve_device
from sklearn_vae.likelihoods import Bernoulli, Gaussian
from sklearn_vae.model import VAE, Architecture
from sklearn_vae.networks import ACTIVATIONS
from sklearn_vae.objectives import ELBO, Constant
from sklearn_vae.randomness import (
    Stream,
    draw_seed,
    make_generator,
    sobol_normal,
    stream_seed,
)
from sklearn_vae.start import probabilistic_pca
from sklearn_vae.training import Plan, Table, Trainer

# An iteration is a pass over the rows, or this many steps where a pass has fewer.
FEWEST_STEPS = 25
# early_stopping="auto" sets validation rows aside from this many rows on. Smaller tables
# get so many iterations at the most: by then they have gained what there is to gain.
FEWEST_ROWS_TO_VALIDATE = 100
ITERATIONS_OF_SMALL_TABLES = 2
# Sobol points of the score; benchmarks/score_draws.py shows bias and noise by number.
SCORE_DRAWS = 64
# Scramblings of the same points that return_std compares.
STD_SCRAMBLINGS = 8
# Numbers in the widest layer of a chunk in inference: what fits the cache.
CHUNK = 1 << 18


class BaseVAE(CallbackSupportMixin, BaseEstimator):
    """A variational autoencoder as an estimator: fit, density, samples.

    The parameters are documented where users meet them, in the subclasses.
    """

    _parameter_constraints: dict[str, Any] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "likelihood": [
            StrOptions({"auto", "gaussian", "bernoulli"}), Gaussian, Bernoulli, list, tuple, Mapping
        ],
        "beta": [Interval(Real, 0, None, closed="left"), callable],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        "scale_prior": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "refit": ["boolean"],
        "callbacks": [list, tuple, None],
        "warm_start": ["boolean"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }  # fmt: skip

    def __init__(
        self,
        n_components: int,
        hidden_layer_sizes: Any,
        activation: str,
        likelihood: Any,
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
            What each row counts; a row of weight 0 is as if it were not there.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is not as it must be. The estimator is then as before.
        """
        self._validate_params()
        context = self._init_callback_context(max_subtasks=2 * self.max_iter)
        with all_or_nothing(self):
            X, weight = self._check_rows(X, sample_weight)
            if context is not None:
                context.call_on_fit_task_begin(estimator=self, X=X, y=y)
            go_on = self.warm_start and hasattr(self, "weights_")
            if not go_on:
                self._learn_columns(X, weight)
            table = self._encode(X, weight)
            self._train(table, go_on, context)
            if context is not None:
                context.call_on_fit_task_end(
                    estimator=self, X=X, y=y, reconstruction_attributes=lambda: fitted(self)
                )
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
        self._validate_params()
        with all_or_nothing(self):
            go_on = hasattr(self, "weights_")
            X, weight = self._check_rows(X, sample_weight, reset=not go_on)
            if not go_on:
                self._learn_columns(X, weight)
                self._moments_, self.history_, self.n_iter_, self.n_steps_ = None, [], 0, 0
            table = self._encode(X, weight)
            model = self._model_to_train(table, go_on)
            plan = replace(
                self._plan(len(table)), n_steps=-(-len(table) // self.batch_size), max_iter=1,
                stage_lengths=(1, 0, 0), beta=Constant(self._schedule()(self.n_iter_)),
                first_iteration=self.n_iter_,
            )  # fmt: skip
            trainer = self._trainer(model, plan, None, table)
            trainer.train(table, moments=getattr(self, "_moments_", None))
            self.weights_ = model.weights()
            self._moments_ = trainer.optimizer_.state_dict()
            self._record(self.history_, [trainer], plan.n_steps)
        return self

    def _train(self, table: Table, go_on: bool, context: Any) -> None:
        """Train with validation rows and again on all of them, or once without."""
        plan = self._plan(len(table))
        rows, held_out = self._split(len(table))
        if held_out is None:
            trainers = [self._run(table, None, plan, go_on, context)]
        else:
            train, valid = subset(table, rows), subset(table, held_out)
            plan = replace(
                plan, n_steps=self._n_steps(len(train)), shares_noise=self._is_small(len(train))
            )
            trainers = [self._run(train, valid, plan, go_on, context)]
            if self.refit:
                way = tuple(trainers[0].course_.best_path[0].tolist())
                again = replace(plan, stage_lengths=way, shares_noise=self._is_small(len(table)))
                trainers.append(self._run(table, None, again, go_on, context))
        self.weights_ = trainers[-1].module_.weights()
        self._moments_ = None
        self.n_iter_, self.n_steps_ = 0, 0
        self._record([], trainers, plan.n_steps)

    def _run(
        self, train: Table, valid: Table | None, plan: Plan, go_on: bool, context: Any
    ) -> Trainer:
        model = self._model_to_train(train, go_on)
        trainer = self._trainer(model, plan, context, train)
        trainer.train(train, valid)
        return trainer

    def _trainer(self, model: VAE, plan: Plan, context: Any, table: Table) -> Trainer:
        callbacks = list(self.callbacks or [])
        if context is not None:
            callbacks.append(IterationReporter(self, context, self._fitted_so_far))
        return Trainer(
            model,
            plan,
            ELBO(self.free_bits, self.scale_prior / table.total),
            callbacks=callbacks,
            verbose=int(self.verbose),
        )

    def _fitted_so_far(self, trainer: Trainer) -> dict[str, Any]:
        """Attributes of the estimator, did the fit stop here."""
        history = history_of(trainer)
        return {
            **fitted(self),
            "weights_": trainer.module_.weights(),
            "history_": history,
            "n_iter_": len(history),
            "n_steps_": len(history) * trainer.plan.n_steps,
        }

    def _record(
        self, history: list[dict[str, Any]], trainers: list[Trainer], n_steps: int
    ) -> None:
        for trainer in trainers:
            is_refit = len(trainers) > 1 and trainer is trainers[-1]
            for row in history_of(trainer):
                history.append({**row, "epoch": len(history) + 1, "refit": is_refit})
                self.n_steps_ += n_steps
        self.history_ = history
        self.n_iter_ = len(history)

    # -- the parts of a fit ----------------------------------------------------------

    def _learn_columns(self, X: np.ndarray, weight: np.ndarray | None) -> None:
        names = getattr(self, "feature_names_in_", None)
        self.columns_ = Columns.learn(X, weight, self.likelihood, names)
        hidden = self.hidden_layer_sizes
        widths = (hidden,) if isinstance(hidden, Integral) else tuple(hidden)
        for width in widths:
            if not isinstance(width, Integral) or width < 1:
                raise ValueError(
                    f"The 'hidden_layer_sizes' parameter of {type(self).__name__} must hold "
                    f"integers >= 1. Got {hidden!r} instead."
                )
        self.architecture_ = Architecture(
            int(self.n_components), tuple(map(int, widths)), self.activation, self.columns_.blocks
        )
        self.seed_ = draw_seed(self.random_state)
        self._dtype_ = X.dtype

    def _encode(self, X: np.ndarray, weight: np.ndarray | None) -> Table:
        """Move the encoded rows to the device, once."""
        # a table that is one batch costs no more in double precision, and is then exact
        dtype = X.dtype if self._is_small(len(X)) else np.dtype(np.float32)
        encoded = np.empty((len(X), len(self.columns_.order)), dtype)
        measure = 0.0
        for rows in gen_batches(len(X), self._chunk(1)):
            encoded[rows] = self.columns_.encode(X[rows])
            own = None if weight is None else weight[rows]
            measure += self.columns_.log_measure(X[rows]) @ (np.ones(len(X[rows])) if own is None else own)
        total = len(X) if weight is None else weight.sum()
        device = resolve_device(self.device)
        if weight is not None:
            weight = torch.as_tensor((weight / weight.mean()).astype(dtype)).to(device)
        return Table(torch.as_tensor(encoded).to(device), weight, offset=-float(measure / total), total=float(total))

    def _model_to_train(self, table: Table, go_on: bool) -> VAE:
        """Make a model with drawn hidden layers that starts at probabilistic PCA, or goes on."""
        model = VAE(self.architecture_).to(table.x)
        model.flatten()
        if go_on:
            model.load(self.weights_)
            return model
        model.draw(0, self.seed_)
        x = table.x.cpu().numpy().astype(np.float64)
        weight = None if table.weight is None else table.weight.cpu().numpy().astype(np.float64)
        loc = np.average(x, axis=0, weights=weight)
        x -= loc
        scale = np.sqrt(np.average(np.square(x), axis=0, weights=weight))
        scale[scale < 1e-6] = 1.0
        x /= scale
        start = probabilistic_pca(x, weight, self.architecture_.n_components)
        model.start_at(0, start, loc, scale)
        return model

    def _plan(self, n_rows: int) -> Plan:
        max_iter = self.max_iter
        if self.early_stopping == "auto" and n_rows < FEWEST_ROWS_TO_VALIDATE:
            max_iter = min(max_iter, ITERATIONS_OF_SMALL_TABLES)
        return Plan(
            seed=self.seed_,
            max_iter=max_iter,
            n_steps=self._n_steps(n_rows),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            beta=self._schedule(),
            patience=self.n_iter_no_change,
            tol=self.tol,
            shares_noise=self._is_small(n_rows),
        )

    def _n_steps(self, n_rows: int) -> int:
        return max(-(-n_rows // self.batch_size), FEWEST_STEPS)

    def _schedule(self) -> Callable[[int], float]:
        return self.beta if callable(self.beta) else Constant(float(self.beta))

    def _is_small(self, n_rows: int) -> bool:
        """Whether every step sees the whole table."""
        return n_rows <= self.batch_size

    def _split(self, n_rows: int) -> tuple[Tensor | None, Tensor | None]:
        """Rows to train on and rows to validate on; None for both if all are trained on."""
        wanted = self.early_stopping
        if wanted == "auto":
            wanted = n_rows >= FEWEST_ROWS_TO_VALIDATE
        if not wanted:
            return None, None
        n_valid = max(round(self.validation_fraction * n_rows), 1)
        if n_rows - n_valid < 2:
            raise ValueError(
                f"early_stopping=True with validation_fraction={self.validation_fraction} leaves "
                f"{n_rows - n_valid} of {n_rows} rows to train on; at least 2 are needed."
            )
        order = torch.randperm(n_rows, generator=make_generator(self.seed_, Stream.SPLIT))
        return order[n_valid:].sort().values, order[:n_valid].sort().values

    def _check_rows(
        self, X: Any, sample_weight: Any, reset: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Validate rows to learn from, and leave out those that count nothing."""
        X = self._validate(X, reset=reset, ensure_min_samples=2)
        if sample_weight is None:
            return X, None
        weight = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
        counted = weight > 0
        if counted.sum() < 2:
            raise ValueError(
                f"Sample weights must not be zero for all rows but one: {counted.sum()} of "
                f"{len(weight)} rows have a weight above 0, and at least 2 are needed."
            )
        return (X, weight) if counted.all() else (X[counted], weight[counted])

    def _validate(self, X: Any, **kwargs: Any) -> np.ndarray:
        return validate_data(self, as_array(X), dtype=[np.float64, np.float32], **kwargs)

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
        if not isinstance(n_draws, Integral) or n_draws < 1:
            raise ValueError(f"n_draws must be an integer >= 1. Got {n_draws!r} instead.")
        X = self._validate(X, reset=False)
        scores = self._log_density(X, int(n_draws), scrambling=0)
        if not return_std:
            return scores
        others = [self._log_density(X, int(n_draws), 1 + s) for s in range(STD_SCRAMBLINGS)]
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
            sample_weight = _check_sample_weight(sample_weight, scores)
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
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be an integer >= 1. Got {n_samples!r} instead.")
        seed = draw_seed(self.random_state if random_state is None else random_state)
        generator = make_generator(seed, Stream.SAMPLE)
        model = self._build(self._dtype_)
        with torch.no_grad():
            chunks = [
                model.sample(len(range(n_samples)[rows]), generator).cpu().numpy()
                for rows in gen_batches(int(n_samples), self._chunk(1))
            ]
        return self.columns_.decode(np.concatenate(chunks))

    @property
    def module_(self) -> VAE:
        """The torch module, built anew from the fitted weights."""
        check_is_fitted(self)
        return self._build(self._dtype_)

    def _log_density(self, X: np.ndarray, n_draws: int, scrambling: int) -> np.ndarray:
        seed = stream_seed(self.seed_, Stream.SCORE, scrambling)
        points = sobol_normal(n_draws, self.architecture_.n_components, seed)
        noise = torch.as_tensor(points.astype(X.dtype))[None, :, None, :]  # (1, K, 1, l)
        noise = noise.to(resolve_device(self.device))
        scores = self._map(lambda model, x: model.log_likelihood(x, noise)[0], X, n_draws)
        measure = [self.columns_.log_measure(X[rows]) for rows in gen_batches(len(X), CHUNK)]
        return scores + np.concatenate(measure).astype(scores.dtype)

    # -- inference -------------------------------------------------------------------

    def _map(
        self, function: Callable[[VAE, Tensor], Tensor], X: np.ndarray, n_draws: int = 1
    ) -> np.ndarray:
        """Apply a function of (model, encoded rows) to X, a chunk that fits the cache at a time."""
        model = self._build(X.dtype)
        device = model.flat.device
        with torch.no_grad():
            chunks = [
                function(model, torch.as_tensor(self.columns_.encode(X[rows])).to(device)[None])
                for rows in gen_batches(len(X), self._chunk(n_draws))
            ]
            return torch.cat(chunks).cpu().numpy()

    def _build(self, dtype: np.dtype) -> VAE:
        model = VAE(self.architecture_)
        model = model.to(resolve_device(self.device), getattr(torch, np.dtype(dtype).name))
        model.flatten()
        model.load(self.weights_)
        return model.requires_grad_(False)

    def _chunk(self, n_draws: int) -> int:
        widest = max(*self.architecture_.hidden_layer_sizes, len(self.columns_.kinds), 1)
        return max(CHUNK // (widest * n_draws), 1)


@contextmanager
def all_or_nothing(estimator: BaseEstimator) -> Iterator[None]:
    """Put the fitted attributes back as they were if anything goes wrong."""
    before = fitted(estimator)
    try:
        yield
    except BaseException:
        for name in fitted(estimator):
            delattr(estimator, name)
        vars(estimator).update(before)
        raise


def fitted(estimator: BaseEstimator) -> dict[str, Any]:
    """Attributes that a fit leaves, by name."""
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def history_of(trainer: Trainer) -> list[dict[str, Any]]:
    """Give skorch's record as plain dicts, one per iteration."""
    return [
        {key: value for key, value in row.items() if key != "batches"} for row in trainer.history
    ]


def subset(table: Table, rows: Tensor) -> Table:
    """Some rows of a table."""
    rows = rows.to(table.x.device)
    weight = None if table.weight is None else table.weight[rows]
    if weight is None:
        return Table(table.x[rows], None, table.offset, table.total*len(rows)/len(table))
    mean = weight.mean()
    return Table(table.x[rows], weight/mean, table.offset, table.total*float(mean)*len(rows)/len(table))


def as_array(X: Any) -> Any:
    """Bring a torch tensor back from its graph and device; leave all else as it is."""
    if isinstance(X, Tensor):
        X = X.detach().cpu()
        return (X.float() if X.dtype == torch.bfloat16 else X).numpy()
    return X
