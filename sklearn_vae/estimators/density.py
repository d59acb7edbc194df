"""VAEDensity: a density of rows, by autoencoders that are initialized at mixtures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import logsumexp
from sklearn.base import DensityMixin

from sklearn_vae._compat import Interval, StrOptions
from sklearn_vae.data.arrays import Target, Weights
from sklearn_vae.data.fields import Name
from sklearn_vae.data.sources import sample_of
from sklearn_vae.estimators.checks import CONSTRAINTS, resolve_widths
from sklearn_vae.estimators.density_estimator import DensityEstimator
from sklearn_vae.estimators.estimator_base import FitRows
from sklearn_vae.inference.fitted_models import FittedMixture
from sklearn_vae.likelihoods import Gaussian, Likelihood
from sklearn_vae.models.architecture import MixtureArchitecture
from sklearn_vae.numerics.array_api import log_mean_exp
from sklearn_vae.numerics.random import (
    MAX_DIMS,
    RandomState,
    Stream,
    draw_seed,
    make_generator,
    sobol_normal,
    start_seeds,
    stream_seed,
)
from sklearn_vae.numerics.rows import power_of_two, validation_sizes
from sklearn_vae.objectives import IWAE, KLWeight
from sklearn_vae.persistence.validation import MAX_COUNT, serializable
from sklearn_vae.system.compute import map_on_threads, threads_for

if TYPE_CHECKING:
    from skorch.callbacks import Callback
    from torch import Tensor

    from sklearn_vae.training.dataset import Dataset
    from sklearn_vae.training.jobs import TrainingJob, TrainingResult

# Gradients are clipped at so many times their root mean square: longer ones are of extreme rows.
MAX_GRAD_NORM_RATIO = 3.0
# Rows that mixtures are fitted to, at most.
ROWS_OF_MIXTURE = 20_000
# Rows of each component in mixtures="auto", at least, and maximum number of components.
ROWS_PER_COMPONENT = 10
MAX_COMPONENTS = 64
# Random splits of small tables for the weights, each of which holds out one of so many rows.
N_SPLITS = 5
COVARIANCE_TYPES = ("full", "diag")

# Encoded rows, and the members' mixtures by seed.
FittedRows = tuple["Dataset", dict[int, tuple[int, str]]]


@serializable
class VAEDensity(DensityMixin, DensityEstimator[FittedMixture, FittedRows]):
    """Estimate the density of rows of any table, draw new rows and fill in missing values.

    Its scores and samples are better than those of :class:`VAETransformer`, which has codes. Give
    columns of any type in their own units, with or without missing values.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Latent dimensions of each member, not mixture components. ``"auto"`` is 8, or 4 for fewer
        than 8 columns.
    mixtures : "auto" or sequence of (int, {"full", "diag"}), default="auto"
        Number of components and type of covariance of each member. ``"auto"`` chooses up to seven
        members by the number of rows; see ``mixtures_``. Give fewer for speed.
    hidden_layer_sizes : int or sequence of int, default=(64, 64)
        Widths of the encoder's hidden layers, which the decoder mirrors. Smaller ones are faster.
    likelihood : str, Likelihood, list or dict, default="auto"
        Distributions of the columns, as of :class:`VAETransformer`, but no ``Gaussian(scale=...)``.
    conditional : bool, default=False
        True to model p(x|y) for a y of classes or numbers. By default, y is ignored.
    max_iter : int, default=60
        Most iterations of the training; 0 keeps the initial mixtures.
    batch_size : int, default=128
        Rows in a gradient step. Seldom needs a change.
    learning_rate : float, default=1e-2
        Size of the first steps. Lower it if training diverges.
    weight_decay : float, default=0.0
        Decay of the weights. Raise it to 1 if the model overfits.
    early_stopping : bool or "auto", default="auto"
        Whether held-out rows end the training and weigh the members. ``"auto"`` holds rows out from
        100 rows on. Smaller tables are trained for two iterations; False trains them for
        ``max_iter``.
    validation_fraction : float, default=0.15
        Fraction of the rows to hold out. Seldom needs a change.
    n_iter_no_change : int, default=10
        Iterations without progress after which the training of a member stops. 5 for speed.
    refit : bool, default=True
        Whether to train further on all rows, the held-out ones included. False for speed.
    callbacks, device, verbose : default=None, "auto", False
        As of :class:`VAETransformer`.
    random_state : int, RandomState instance or None, default=None
        Seed. Give an integer for the same result at every fit.

    Attributes
    ----------
    n_components_ : int
        Latent dimensions of each member.
    columns_ : TableEncoder
        Distribution of each column, as a small table.
    mixtures_, weights_ : list of (int, str), ndarray of shape (n_members,)
        Mixtures of the members, and their weights, the largest one first.
    condition_encoder_ : ConditionEncoder or None
        Classes of y and their frequencies, with ``conditional=True``.
    history_ : list of dict
        Losses of each iteration of each ``member`` in nats per row, for ``pandas.DataFrame``.
    n_iter_ : int
        Iterations of all members together.
    state_dict_ : dict of ndarray
        The weights by name, with an axis of members in front.
    interrupted_ : bool
        Whether Ctrl-C ended the fit early. The best weights until then are kept.
    n_features_in_, feature_names_in_ : int, ndarray of shape (``n_features_in_``,)
        Number of columns of X, and their names, where X has any.

    See Also
    --------
    VAETransformer : Codes of rows, and a density.
    sklearn.mixture.GaussianMixture : A member before training, if all columns are normal.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_vae import VAEDensity
    >>> X = load_iris().data
    >>> density = VAEDensity(max_iter=10, random_state=0).fit(X)
    >>> density.score_samples(X).shape, density.sample(3).shape
    ((150,), (3, 4))
    """

    _is_joint: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "max_iter": [Interval(Integral, 0, MAX_COUNT, closed="both")],
        "mixtures": [StrOptions({"auto"}), list, tuple],
    }

    _iterations_of_small_tables: ClassVar[int] = 2
    _max_components: ClassVar[int] = MAX_DIMS - 1  # one dimension more chooses the component

    architecture_: MixtureArchitecture
    mixtures_: list[tuple[int, str]]
    weights_: np.ndarray

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        mixtures: str | Sequence[tuple[int, str]] = "auto",
        hidden_layer_sizes: int | Sequence[int] | np.ndarray = (64, 64),
        likelihood: str | Likelihood | Sequence[object] | Mapping[Name, object] = "auto",
        conditional: bool = False,
        max_iter: int = 60,
        batch_size: int = 128,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.0,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.15,
        n_iter_no_change: int = 10,
        refit: bool = True,
        callbacks: Sequence[Callback | tuple[str, Callback]] | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: bool | int = False,
    ):
        self.n_components = n_components
        self.mixtures = mixtures
        self.hidden_layer_sizes = hidden_layer_sizes
        self.likelihood = likelihood
        self.conditional = conditional
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.refit = refit
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -------------------------------------------------------------------------

    def _make_jobs(
        self, X: FitRows, y: Target, sample_weight: Weights
    ) -> tuple[list[TrainingJob], FittedRows]:
        self._validate_params()
        rows, weight = self._check_rows(X, y, sample_weight, reset=True)
        self.seed_ = draw_seed(self.random_state)
        self.columns_ = self._fit_encoder(sample_of(rows), weight, self.likelihood)
        for likelihood in self.columns_.likelihoods:
            if isinstance(likelihood, Gaussian) and likelihood.scale != Gaussian().scale:
                raise ValueError(
                    f"The 'likelihood' parameter of VAEDensity cannot hold a scale other than "
                    f"'per_row', as scales are the mixtures'. Got {likelihood!r} instead."
                )
        self.dtype_ = rows.dtype
        table = self._encode(rows, weight)
        n_valid = self._n_validation_rows(table)
        self.mixtures_ = self._mixtures(table.n_weighted_rows - n_valid)
        train, valid = self._split(table, n_valid)
        self.architecture_ = self._architecture()
        seeds = start_seeds(self.seed_, len(self.mixtures_))
        mixtures = dict(zip(seeds, self.mixtures_, strict=True))
        jobs = [self._job(mixture, seed, train, valid) for seed, mixture in mixtures.items()]
        return jobs, (table, mixtures)

    def _select(
        self, jobs: list[TrainingJob], results: list[TrainingResult], rows: FittedRows
    ) -> tuple[list[TrainingResult], list[TrainingJob]]:
        """Fit the members' weights to the validation rows, and make jobs on all rows."""
        table, mixtures = rows
        weights = self._mixture_weights(jobs, results, rows)
        order = np.argsort(-weights, kind="stable")
        kept = order[weights[order] >= 0.05 * weights.max()].tolist()  # the others hardly count
        self.mixtures_ = [mixtures[jobs[member].config.seed] for member in kept]
        self.weights_ = weights[kept] / weights[kept].sum()
        best = [results[member] for member in kept]
        if not self.refit or jobs[0].valid is None:
            return best, []
        return best, [jobs[member].continue_on(results[member], table) for member in kept]

    def _architecture(self) -> MixtureArchitecture:
        """Return the largest architecture of the members, to which all are padded."""
        sizes, types = zip(*self.mixtures_, strict=True)
        columns = self.columns_.joint
        n_components = self.n_components
        if n_components == "auto":
            n_components = 4 if self.n_features_in_ < 8 else 8
        return MixtureArchitecture(
            n_components=int(n_components),
            hidden_layer_sizes=resolve_widths(self.hidden_layer_sizes, type(self).__name__),
            blocks=columns.blocks,
            n_mixture=max(sizes),
            covariance_type="full" if "full" in types else "diag",
            n_shears=4 if 1 < self._n_real <= 100 else 0,
            steps=tuple(columns.recording_steps.tolist()),
            has_missing=self.columns_.has_missing,
        )

    def _job(
        self, mixture: tuple[int, str], seed: int, train: Dataset, valid: Dataset | None
    ) -> TrainingJob:
        """Make a member's job, which is initialized at its Gaussian mixture."""
        from sklearn_vae.models.build import build
        from sklearn_vae.models.mixture_init import EM
        from sklearn_vae.training.jobs import TrainingConfig, TrainingJob

        x, weight = train.arrays(ROWS_OF_MIXTURE)
        model = build(self.architecture_).double()
        model.reset_parameters(0, seed)
        n_class_columns = self.columns_.n_conditions if self._n_classes else 0
        with threads_for(len(x) * x.shape[1] * mixture[0]):
            em = EM(x, weight, self.architecture_, mixture[1])
            init = em.initial(mixture[0], seed, n_class_columns)
        model.initialize(0, init)
        max_iter = self.max_iter
        if self.early_stopping == "auto" and valid is None:
            max_iter = min(max_iter, self._iterations_of_small_tables)
        config = TrainingConfig(
            seed=seed,
            max_iter=max_iter,
            batch_size=min(self.batch_size, 2 * max(train.n_weighted_rows, len(train))),
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            beta=KLWeight(1.0),
            patience=self.n_iter_no_change,
            rise=0.1,  # nats
            n_iter_per_stage=(max_iter, 0, 0),
            objective=IWAE(),
            ema_decay=0.98,
            max_grad_norm_ratio=MAX_GRAD_NORM_RATIO,
        )
        return TrainingJob(self.architecture_, config, train, valid, weights=model.weights())

    def _mixture_weights(
        self, jobs: list[TrainingJob], results: list[TrainingResult], rows: FittedRows
    ) -> np.ndarray:
        """Weigh the members by validation rows or, if training is short, their starts by splits."""
        (table, mixtures), valid, n_members = rows, jobs[0].valid, len(jobs)
        if valid is not None and n_members > 1:
            return stacking_weights(self._bounds(valid, results), valid.sample_weight())
        n_rows = table.n_weighted_rows
        if n_members == 1 or self.early_stopping != "auto" or n_rows < 2 * N_SPLITS:
            return np.full(n_members, 1 / n_members)
        weights, seeds = np.zeros(n_members), [job.config.seed for job in jobs]
        for split in range(1, N_SPLITS + 1):
            generator = make_generator(self.seed_, Stream.SPLIT, split)
            train, held_out = table.split(n_rows // N_SPLITS, generator)
            starts = [self._job(mixtures[seed], seed, train, held_out) for seed in seeds]
            half = held_out.sample_weight() / 2  # rows tell of starts, less of trained members
            weights += stacking_weights(self._bounds(held_out, starts), half) / N_SPLITS
        return weights

    def _bounds(self, valid: Dataset, members: Sequence[Any]) -> np.ndarray:
        """Importance-weighted bounds of the rows, for each member: (n_members, n)."""
        import torch

        from sklearn_vae.models.build import build
        from sklearn_vae.training.jobs import stack_weights

        n_members = len(members)
        model = build(self.architecture_, n_members).to(valid.like).requires_grad_(False)
        model.load(stack_weights(members))
        seed = stream_seed(self.seed_, Stream.SCORE)
        # of code and component; fewer for rows of many columns
        n_draws = power_of_two((1 << 16) // max(self.architecture_.n_columns, 1), 64, 256)
        points = sobol_normal(n_draws, self.architecture_.n_noise, seed)
        noise = torch.as_tensor(points).to(valid.like)[None, :, None]  # (1, K, 1, l + 1)
        *_, n_together = validation_sizes(len(valid), 1, self.architecture_.widest, n_draws)

        @torch.no_grad()
        def bound(rows: Tensor) -> Tensor:
            x, _ = valid.take(rows.expand(n_members, -1))
            return log_mean_exp(model.log_weights(x, noise).log_weight, 1)  # (M, B)

        chunks = torch.arange(len(valid), device=noise.device).split(n_together)
        bounds = map_on_threads(bound, chunks, is_thread_safe=noise.device.type == "cpu")
        return torch.cat(list(bounds), 1).cpu().numpy().astype(np.float64)

    def _set_results(self, results: list[TrainingResult], rows: FittedRows) -> None:
        from sklearn_vae.training.jobs import stack_weights

        self.state_dict_ = stack_weights(results)
        self.history_ = [
            {"member": member, **record}
            for member, result in enumerate(results)
            for record in result.history
        ]
        self.n_iter_ = len(self.history_)
        self._condition_on_relations()
        self._warn_of_divergence(results)

    def _mixtures(self, n_rows: int) -> list[tuple[int, str]]:
        """Return the Gaussian mixtures that the members are initialized with, by number of rows."""
        if isinstance(self.mixtures, str):
            return self._default_mixtures(n_rows)
        pairs: Sequence[Any] = self.mixtures or [None]
        for pair in pairs:
            is_pair = isinstance(pair, Sequence) and len(pair) == 2
            is_number = is_pair and isinstance(pair[0], Integral) and not isinstance(pair[0], bool)
            if not is_number or not 1 <= pair[0] <= n_rows or pair[1] not in COVARIANCE_TYPES:
                raise ValueError(
                    f"The 'mixtures' parameter of VAEDensity must be 'auto' or hold pairs of a "
                    f"number of components, at least 1 and no more than the {n_rows} training "
                    f"rows, and a covariance type of {COVARIANCE_TYPES}, such as [(1, 'full'), "
                    f"(8, 'diag')]. Got {self.mixtures!r} instead."
                )
        return [(int(n), covariance_type) for n, covariance_type in self.mixtures]

    def _default_mixtures(self, n_rows: int) -> list[tuple[int, str]]:
        """Mixtures of ``mixtures="auto"``, by the number of training rows."""
        max_components = min(n_rows / ROWS_PER_COMPONENT, MAX_COMPONENTS)
        largest = 2 ** int(math.log2(max(max_components, 1)))
        few, smaller = max(largest // 8, 2), min(max(largest // 4, 8), largest)
        mixtures = [(1, "full"), (few, "full"), (smaller, "diag"), (largest, "diag")]
        if self._n_real == len(self.columns_.joint.order):
            mixtures.insert(1, (1, "diag"))  # independent columns
        if 0 < self._n_classes <= MAX_COMPONENTS:  # at least one component per class
            mixtures += [(self._n_classes, "full"), (self._n_classes, "diag")]
        if self._n_real > 40:
            mixtures = [pair for pair in mixtures if pair[1] == "diag"]
        unique, most = dict.fromkeys(mixtures), max(n_rows / ROWS_PER_COMPONENT, 1)
        return [(n, covariance_type) for n, covariance_type in unique if n <= most]

    @property
    def _n_classes(self) -> int:
        """Number of classes of y; 0 if it is not one column of classes."""
        return 0 if self.condition_encoder_ is None else len(self.condition_encoder_.class_prior)

    @property
    def _n_real(self) -> int:
        """Number of columns with a normal distribution."""
        blocks = self.columns_.joint.blocks
        return sum(n for likelihood, n in blocks if isinstance(likelihood, Gaussian))

    # -- the fitted model ------------------------------------------------------------

    def _make_predictor(self, device: str) -> FittedMixture:
        parts = self.columns_, self.architecture_, dict(self.state_dict_), self.seed_
        return FittedMixture(*parts, weight=self.weights_, device=device)

    # DensityMixin's score would come first, and returns None
    score = DensityEstimator.score


def stacking_weights(log_density: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
    """Fit the weights of a mixture of members by EM: (n_members, n), (n,) -> (n_members,).

    A pseudo-observation per member, which that member alone explains, keeps all weights positive.
    """
    n_members, n_rows = log_density.shape
    sample_weight = np.ones(n_rows) if sample_weight is None else sample_weight
    weights = np.full(n_members, 1 / n_members)
    for _ in range(500):
        joint = np.log(weights)[:, None] + log_density
        counts = np.exp(joint - logsumexp(joint, axis=0)) @ sample_weight  # responsibilities
        previous, weights = weights, (counts + 1 / n_members) / (sample_weight.sum() + 1)
        if np.abs(weights - previous).max() < 1e-6:
            break
    return weights
