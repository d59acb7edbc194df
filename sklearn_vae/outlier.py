"""VAEOutlierDetector: which rows are unlike the others."""

from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from sklearn.base import OutlierMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_vae.architecture import Architecture
from sklearn_vae.blame import Usual
from sklearn_vae.bounds import check_array
from sklearn_vae.callbacks import Report, with_callbacks
from sklearn_vae.checks import (
    CONSTRAINTS,
    all_or_nothing,
    check_callbacks,
    check_checkpoint,
    widths_of,
)
from sklearn_vae.designs import CLEAN, CONTAMINATED, METHODS, Design
from sklearn_vae.device import device_to_score_on
from sklearn_vae.estimator import FEWEST_ROWS, FEWEST_STEPS, TableEstimator
from sklearn_vae.fitted import FittedVAE
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.model import build
from sklearn_vae.networks import MLP
from sklearn_vae.objectives import Constant, Trimmed, WarmUp
from sklearn_vae.randomness import Stream, draw_seed, make_generator, start_seeds
from sklearn_vae.strangeness import Measure, Rows
from sklearn_vae.training import (
    Outcome,
    Plan,
    Run,
    Table,
    Witness,
    checkpoint_at,
    history_of,
    train,
)

# Latent dimensions at the most, of n_components="auto".
MOST_COMPONENTS = 32
# Rows that others are compared with, and that are learned from; more are drawn from by chance.
MOST_REFERENCE_ROWS = 20_000
# Imagined rows that keep scales from collapsing.
SCALE_PRIOR = 30.0
# Rows whose surprises say what is usual.
MOST_EXPLAINED = 1000


class VAEOutlierDetector(OutlierMixin, TableEstimator):
    """Outliers, by variational autoencoders and by neighbours that these have chosen.

    There are two settings, and data do not tell them apart. In *outlier detection*
    (``novelty=False``) the training rows may hold outliers themselves. The autoencoders see rows
    with values hidden, and learn from those of each batch that they explain best. The
    two fifths of the rows are left out whose codes lie farthest from others and whose values
    their others foretell worst. The score is a sum of two surprises: mean distance to the
    nearest of the rows that are left, and distance of a row's values to what the others
    foretell. In *novelty detection* (``novelty=True``) the training rows are taken to be clean.
    The score is a sum of four surprises: distances to the nearest training row in two metrics,
    the distance to the plane through the five nearest ones, and what autoencoders that were
    trained to remove noise leave unexplained. New rows can be scored in both.

    Parameters
    ----------
    contamination : float or "auto", default="auto"
        Share of the training rows that ``predict`` gives -1, in (0, 0.5]; with
        ``calibration="conformal"``, the rate of false alarms among fresh rows like those held
        out. ``"auto"`` is 0.1, or 0.05 with ``novelty=True``.
    novelty : bool, default=False
        Whether the training rows are clean. This is for the user to know.
    method : str, default="auto"
        What ``score_samples`` gives, always the higher the more normal. ``"auto"`` is the
        score described above, minus a number of nats, and ``"neighbours"`` the same without the
        autoencoders (a distance with ``novelty=False``). Of autoencoders with neighbours:
        ``"latent"``, minus a distance in standardised residuals and codes. Of the autoencoders
        alone, in nats and in X's units: ``"log_likelihood"``; ``"elbo"``, the
        evidence lower bound; ``"reconstruction_probability"``, the mean of log p(x|z). And
        in standard deviations of the columns: ``"reconstruction"``, minus the squared
        distance to the reconstruction; ``"denoising"``, the same for rows with noise;
        ``"masked"``, minus the distance of each value to what the row's others foretell, which
        calls for a ``mask_fraction`` above 0.
    n_components : int or "auto", default="auto"
        Latent dimensions. ``"auto"`` is half the number of columns, or with
        ``novelty=True`` that number, and 32 at the most.
    hidden_layer_sizes : int, sequence of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. ``"auto"`` is
        (64, 32), or (128, 64) with ``novelty=True``.
    activation : {"identity", "logistic", "tanh", "relu", "silu", "gelu"}, default="silu"
        Function between the layers.
    max_iter : int or "auto", default="auto"
        Iterations of 25 gradient steps; on a long table, so many passes over the rows as
        have these steps. ``"auto"`` is 16, or 120 with ``novelty=True``.
    batch_size : int, default=128
        Rows in a gradient step.
    learning_rate : float or "auto", default="auto"
        Adam's step size. ``"auto"`` is 2e-3, or 6e-3 with ``novelty=True``, where it falls
        to 0.3 and 0.1 of itself after one half and three quarters of the iterations.
    weight_decay : float, default=0.0
        Decoupled weight decay of the networks' matrices.
    input_noise : float or "auto", default="auto"
        Standard deviation of the noise that the encoder sees in training, in those of the
        columns. ``"auto"`` is 0, or 0.3 with ``novelty=True``.
    mask_fraction : float or "auto", default="auto"
        Share of the values that are hidden from the encoder in training, in [0, 1).
        ``"auto"`` is 0.3, or 0 with ``novelty=True``.
    trim_fraction : float or "auto", default="auto"
        Share of each batch that is left out, the worst explained rows, in [0, 0.5].
        ``"auto"`` is 0.3, or 0 with ``novelty=True``.
    n_init : int or "auto", default="auto"
        Number of autoencoders, which are trained side by side and averaged. ``"auto"``
        is 4, or 2 with ``novelty=True``.
    calibration : {None, "conformal"}, default=None
        What ``p_values`` and the threshold come from: the training rows, or rows that are held
        out of training for it. With ``novelty=True`` autoencoders know the training rows
        better than fresh ones, of which more than ``contamination`` lie below a
        threshold that comes from training rows.
    calibration_fraction : float, default=0.2
        Share of the rows that ``calibration="conformal"`` holds out. The rate of false alarms
        cannot be chosen below 1 / (1 + their number).
    callbacks : list of skorch callbacks, default=None
        Told of every iteration. scikit-learn's own callbacks are set with
        ``set_callbacks`` from scikit-learn 1.9 on.
    checkpoint : str or path-like, default=None
        A file in which ``fit`` writes down where it stands, at the ends of iterations as far
        as 5% of the time allow. The same ``fit`` in another process goes on from there, and
        ends as one that was not interrupted, to the last bit; one of other rows or parameters
        is an error. The file is removed when the fit is over. ``random_state`` must not be
        None.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; ``"auto"`` takes the first
        CUDA device or the CPU.
    random_state : int, RandomState instance or None, default=None
        What weights, order of rows, noise and the score's points follow from. The
        global random states are never touched.
    verbose : bool or int, default=False
        Whether to print a line per iteration.

    Attributes
    ----------
    offset_ : float
        The score below which ``predict`` gives -1.
    columns_ : Columns
        How the columns are scaled; prints as a small table.
    reference_ : ndarray of shape (n_reference, n_features)
        Rows that others are compared with, in X's units: those that were learned from, or
        20,000 of them.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Scores that ``p_values`` compares with, in order.
    weights_ : dict of ndarray
        The autoencoders' parameters by name, with a leading member axis.
    history_ : list of dict
        One record per iteration of an autoencoder: ``member``, ``iteration``, ``loss``,
        ``reconstruction_loss``, ``kl_loss``, ``beta``, ``learning_rate``. Losses are nats per
        row in X's own units, of the rows that were not left out.
    n_iter_ : int
        Iterations done by each autoencoder.
    interrupted_ : bool
        Whether Ctrl-C ended the fit: the estimator is then what training had come to.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Names of the columns, where X has any.

    See Also
    --------
    VAEDensity : A density whose unlikely rows are outliers in the sense of probability.
    sklearn.ensemble.IsolationForest : Outliers by random splits.
    sklearn.neighbors.LocalOutlierFactor : Outliers by density relative to neighbours.

    References
    ----------
    .. [1] P. Vincent and Y. Bengio, "K-Local Hyperplane and Convex Distance Nearest
       Neighbor Algorithms", NeurIPS 2001.
    .. [2] S. Han et al., "ADBench: Anomaly Detection Benchmark", NeurIPS 2022.
    .. [3] V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World",
       Springer 2005, for the p-values.
    .. [4] J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using
       Reconstruction Probability", SNU Data Mining Center, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_vae import VAEOutlierDetector
    >>> X = load_wine().data
    >>> detector = VAEOutlierDetector(contamination=0.05, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    9
    >>> strange = X[:1] * np.array([3.0, *[1.0] * 12])  # three times the alcohol
    >>> detector.predict(strange)
    array([-1])
    >>> int(detector.explain(strange).argmax())
    0
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{
            name: CONSTRAINTS[name]
            for name in (
                "n_components", "activation", "batch_size", "weight_decay", "callbacks",
                "checkpoint",                 "device", "random_state", "verbose",
            )
        },
        **{
            name: [*CONSTRAINTS[name], StrOptions({"auto"})]
            for name in ("hidden_layer_sizes", "max_iter", "learning_rate", "n_init")
        },
        "contamination": [Interval(Real, 0, 0.5, closed="right"), StrOptions({"auto"})],
        "novelty": ["boolean"],
        "method": [StrOptions(set(METHODS))],
        "input_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "mask_fraction": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        "trim_fraction": [Interval(Real, 0, 0.5, closed="both"), StrOptions({"auto"})],
        "calibration": [StrOptions({"conformal"}), None],
        "calibration_fraction": [Interval(Real, 0, 1, closed="neither")],
    }  # fmt: skip

    architecture_: Architecture
    calibration_scores_: np.ndarray
    measure_: Measure
    offset_: float
    reference_: np.ndarray
    seed_: int
    usual_: Usual
    weights_: dict[str, np.ndarray]

    def __init__(
        self,
        *,
        contamination: Any = "auto",
        novelty: bool = False,
        method: str = "auto",
        n_components: int | str = "auto",
        hidden_layer_sizes: Any = "auto",
        activation: str = "silu",
        max_iter: int | str = "auto",
        batch_size: int = 128,
        learning_rate: float | str = "auto",
        weight_decay: float = 0.0,
        input_noise: float | str = "auto",
        mask_fraction: float | str = "auto",
        trim_fraction: float | str = "auto",
        n_init: int | str = "auto",
        calibration: str | None = None,
        calibration_fraction: float = 0.2,
        callbacks: Any = None,
        checkpoint: Any = None,
        device: str = "auto",
        random_state: Any = None,
        verbose: Any = False,
    ):
        self.contamination = contamination
        self.novelty = novelty
        self.method = method
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.input_noise = input_noise
        self.mask_fraction = mask_fraction
        self.trim_fraction = trim_fraction
        self.n_init = n_init
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what usual rows are like.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, in their own units.
        y : None
            Ignored; here for scikit-learn's conventions.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is not as it must be. The estimator is then as before.
        """
        witness = Witness()
        with witness.watch(self), all_or_nothing(self):
            self._validate_params()
            check_callbacks(self)
            check_checkpoint(self)
            rows, _ = self._check_rows(X, None, reset=True)
            self.dtype_ = rows.dtype
            rows = rows.astype(np.float64, copy=False)
            self.seed_ = draw_seed(self.random_state)
            learned, held_out = self._hold_out(rows)
            self.columns_ = self._learn_columns(learned, None, Gaussian("column"), numbers=True)
            self.reference_ = learned
            if len(learned) > MOST_REFERENCE_ROWS:
                generator = make_generator(self.seed_, Stream.SPLIT, 1)
                self.reference_ = learned[_drawn(len(learned), MOST_REFERENCE_ROWS, generator)]

            n_iter, plan = self._plan(len(self.reference_))
            # each autoencoder may be trained alone; its stages share its iterations
            n_alone = n_iter * int(self._wish("n_init"))
            report = Report(self, max_iterations=n_alone)
            report.begin(X, y)
            try:
                with checkpoint_at(self.checkpoint) as written:
                    callbacks = [*(self.callbacks or []), *report.callbacks(), witness, *written]
                    self._train(n_iter, plan, callbacks=callbacks, verbose=int(self.verbose))
            except KeyboardInterrupt:
                self._take([tuple(own) for own in witness.outcomes().values()])
            measure = METHODS[self.method][0 if self.novelty else 1]
            self.measure_ = measure.learn(self._reference_rows())
            self._calibrate(rows, held_out)
            report.end()
        return self

    def _hold_out(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows to learn from, and rows to calibrate p-values with if they are others."""
        if self.calibration is None:
            return rows, None
        n_held_out = max(round(self.calibration_fraction * len(rows)), 1)
        if len(rows) - n_held_out < FEWEST_ROWS:
            raise ValueError(
                f"calibration='conformal' with calibration_fraction={self.calibration_fraction} "
                f"leaves {len(rows) - n_held_out} of {len(rows)} rows to train on; at least "
                f"{FEWEST_ROWS} are needed."
            )
        chosen = _drawn(len(rows), n_held_out, make_generator(self.seed_, Stream.SPLIT))
        return np.delete(rows, chosen, axis=0), rows[chosen]

    def _plan(self, n_rows: int) -> tuple[int, Plan]:
        """Iterations, and how each autoencoder is trained."""
        # every row has noise of its own, which a batch of the whole table would not have
        batch_size = min(self.batch_size, -(-n_rows // 2))
        n_steps = max(-(-n_rows // batch_size), FEWEST_STEPS)
        n_iter = max(round(self._wish("max_iter") * FEWEST_STEPS / n_steps), 1)
        warm_up = round(self._design.warm_up * n_iter)
        plan = Plan(
            seed=self.seed_,
            max_iter=n_iter,
            fewest_steps=FEWEST_STEPS,
            batch_size=batch_size,
            learning_rate=self._wish("learning_rate"),
            weight_decay=self.weight_decay,
            beta=WarmUp(1.0, warm_up) if warm_up > 1 else Constant(1.0),
            patience=n_iter,
            tol=0.0,
            stage_lengths=None if self._design.anneals else (n_iter, 0, 0),
            input_noise=self._wish("input_noise"),
            input_mask=self._wish("mask_fraction"),
        )
        return n_iter, plan

    def _train(self, n_iter: int, plan: Plan, **kwargs: Any) -> None:
        """Train the autoencoders side by side: on all rows, then on those explained best."""
        table = self._to_table(self.reference_, None)
        table = replace(table, x=cast(torch.Tensor, table.x).float())
        share = self._design.components_per_column
        usual = min(max(round(share * table.x.shape[1]), 1), MOST_COMPONENTS)
        self.architecture_ = Architecture(
            n_components=usual if self.n_components == "auto" else int(self.n_components),
            hidden_layer_sizes=self._widths(),
            activation=self.activation,
            blocks=self.columns_.blocks,
        )
        trim = float(self._wish("trim_fraction"))
        n_plain = round(self._design.plain * n_iter) if trim else n_iter
        stages = [replace(plan, stage_lengths=(n_plain, 0, 0))] if trim else [plan]
        if trim:
            later = (n_iter - n_plain, 0, 0)
            stages.append(
                replace(plan, stage_lengths=later, first_iteration=n_plain, objective=Trimmed(trim))
            )
        seeds = start_seeds(self.seed_, int(self._wish("n_init")))
        starts = [self._start(seed) for seed in seeds]
        found: list[list[Outcome]] = []
        for stage in stages:
            weights = [outcome.weights for outcome in found[-1]] if found else starts
            runs = [
                self._run(replace(stage, seed=seed), table, own)
                for seed, own in zip(seeds, weights, strict=True)
            ]
            found.append(train(runs, **kwargs))
        self._take(list(zip(*found, strict=True)))

    def _start(self, seed: int) -> dict[str, np.ndarray]:
        """Weights drawn by chance.

        At probabilistic PCA, where other estimators start, outliers in the training rows
        would have principal axes of their own, along which it tells them well.
        """
        model = build(self.architecture_)
        model.draw(0, seed)
        for side, network in enumerate(cast(list[MLP], [model.encoder, model.decoder])):
            matrix = network.linear.weight if network.last is None else network.last
            generator = make_generator(seed, Stream.WEIGHTS, side, len(network.layers))
            drawn = torch.randn(matrix.shape, generator=generator) / matrix.shape[1] ** 0.5
            matrix.data.copy_(drawn)
        return model.weights()

    def _run(self, plan: Plan, table: Table, weights: dict[str, np.ndarray]) -> Run:
        prior_rows = SCALE_PRIOR / len(table)
        return Run(self.architecture_, plan, table, None, 0.0, prior_rows, weights)

    def _take(self, members: list[tuple[Outcome, ...]]) -> None:
        """Become what the training has led to."""
        last = [outcomes[-1].weights for outcomes in members]
        self.weights_ = {name: np.concatenate([own[name] for own in last]) for name in last[0]}
        self.history_ = [
            {"member": member, **{k: v for k, v in row.items() if k != "refit"}}
            for member, outcomes in enumerate(members)
            for row in history_of(outcomes)
        ]
        self.n_iter_ = len(self.history_) // len(members)
        if any(outcome.diverged for outcomes in members for outcome in outcomes):
            self._warn_of_divergence(self._wish("learning_rate"))

    def _calibrate(self, rows: np.ndarray, held_out: np.ndarray | None) -> None:
        """Find the threshold, and the scores that p-values come from."""
        scores = self._score_rows(rows)
        contamination = self._wish("contamination")
        if held_out is None:
            self.calibration_scores_ = np.sort(scores)
            self.offset_ = float(np.quantile(scores, contamination))
        else:
            self.calibration_scores_ = np.sort(self._score_rows(held_out))
            # below it, p-values are at most the contamination
            place = max(int(contamination * (len(held_out) + 1)), 1) - 1
            self.offset_ = float(self.calibration_scores_[place])
        self.usual_ = Usual.of(self._fitted(), self.reference_[:MOST_EXPLAINED], -scores)

    # -- what "auto" stands for --------------------------------------------------------

    @property
    def _design(self) -> Design:
        return CLEAN if self.novelty else CONTAMINATED

    def _wish(self, name: str) -> Any:
        """Give a number that the user has, or that the setting suggests."""
        value = getattr(self, name)
        return getattr(self._design, name) if isinstance(value, str) else value

    def _widths(self) -> tuple[int, ...]:
        if isinstance(self.hidden_layer_sizes, str):
            return self._design.hidden_layer_sizes
        return widths_of(self)

    # -- scores ------------------------------------------------------------------------

    def score_samples(self, X: Any) -> np.ndarray:
        """How normal rows are: the higher, the more normal.

        A row that equals one of ``reference_`` is compared with the others, as in training.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            In the units that ``method`` says.
        """
        check_is_fitted(self)
        return self._score_rows(self._validate(X, reset=False))

    def decision_function(self, X: Any) -> np.ndarray:
        """Score less ``offset_``: negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Tell outliers from inliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for outliers, 1 for inliers.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> np.ndarray:
        """How rarely a usual row is so strange.

        With ``calibration="conformal"``, the rows that were held out and a fresh row of the
        same origin are in any order by chance, so that the fresh row's p-value is at most
        alpha with a probability of at most alpha, whatever the model is like. Without,
        the training rows' own scores are taken, for which this holds roughly. With outliers
        among the rows, p-values are too large rather than too small.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Share of the calibration rows and the row itself that are at least as strange,
            between 1 / (n_calibration + 1) and 1.
        """
        scores = self.score_samples(X)
        n_stranger = np.searchsorted(self.calibration_scores_, scores, side="right")
        return (1 + n_stranger) / (1 + len(self.calibration_scores_))

    def explain(self, X: Any) -> np.ndarray:
        """How much each column has to do with a row's score.

        A row's parts add up to how far its score lies below the training rows' mean score. They
        are shared out by the autoencoders' conditional densities: by how much more surprising
        a value is, -log p(x_j | the row's other columns), than that column's usually are. A
        column with a larger such excess has a larger part, whatever ``method`` the score
        is of.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In the units of the score, nats where ``method`` says so; the largest are to blame.
        """
        check_is_fitted(self)
        rows = self._validate(X, reset=False).astype(np.float64, copy=False)
        return self.usual_.parts(self._fitted(), rows, -self._score_rows(rows))

    # -- what was learned --------------------------------------------------------------

    def _score_rows(self, X: np.ndarray) -> np.ndarray:
        rows = Rows(X.astype(np.float64, copy=False), self._fitted(), self._reference_rows())
        return -self.measure_.of(rows)

    def _reference_rows(self) -> Rows:
        return Rows(self.reference_, self._fitted())

    def _check_learned(self) -> None:
        super()._check_learned()
        check_array("reference_", self.reference_, "f", (None, self.n_features_in_))
        check_array("calibration_scores_", self.calibration_scores_, "f", (None,))
        check_array("surprise", self.usual_.surprise, "f", (self.n_features_in_,))
        if len(self.reference_) < FEWEST_ROWS:
            raise ValueError("the reference rows are too few")
        first = self.reference_[:1]
        self.usual_.parts(self._fitted(), first, -self._score_rows(first))

    def _fitted(self) -> FittedVAE:
        device = device_to_score_on(self.device)
        return FittedVAE(self.columns_, self.architecture_, self.weights_, self.seed_, device)


def _drawn(n_rows: int, n_drawn: int, generator: torch.Generator) -> np.ndarray:
    """Numbers of rows that are drawn by chance, in order."""
    return torch.randperm(n_rows, generator=generator)[:n_drawn].sort().values.numpy()
