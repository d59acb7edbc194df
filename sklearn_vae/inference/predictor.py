"""A fitted model as data: arrays and plain values, from which torch is built inside a call."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.utils import gen_batches
from torch import Tensor

from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.device import is_out_of_memory
from sklearn_vae.inference.decoder_correction import Correction, decay
from sklearn_vae.inference.missing import PartialPosterior
from sklearn_vae.likelihoods import Gaussian, Limits
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.laplace import WidthCheck
from sklearn_vae.models.mixture_posterior import log_density
from sklearn_vae.models.mixture_vae import MixtureArchitecture, MixtureVAE
from sklearn_vae.models.vae import VAE, Points, build
from sklearn_vae.persistence.validation import check_array, check_integer
from sklearn_vae.random import MOST_SEED, Stream, make_generator, sobol_normal, stream_seed
from sklearn_vae.warnings import warn

# Sobol points of the score; benchmarks/score_draws.py shows bias and noise by number.
SCORE_DRAWS = 64
# Numbers in the widest layer of a chunk of rows: what fits the cache.
CHUNK = 1 << 19
# Further proposals that a row's score gets at the most, and the fewest draws from each.
MOST_PROPOSALS = 6
FEWEST_DRAWS = 128
# Numbers of a kind that exist at once where a row needs many draws.
CELLS = 1 << 22
# Rows of a stack that are computed at a time, at the most.
STACK_ROWS = 1 << 9


@dataclass(frozen=True)
class Predictor:
    """Everything that inference needs; rows come in and go out in X's own units.

    Attributes
    ----------
    columns : TableEncoder
        The border between X and the model.
    architecture : Architecture
        Shapes of the weights.
    weights : dict of ndarray
        Parameters, by name.
    seed : int
        What the score's points follow from.
    device : torch.device
        Where to compute.
    correction : ndarray of shape (1 + l, n_columns) or None
        What is added to the mean of p(x|z) where z is a code, offset and slopes.
    code_range : ndarray of shape (2, l) or None
        Smallest and largest codes that the correction was learned from.
    """

    columns: TableEncoder
    architecture: Architecture
    weights: dict[str, np.ndarray]
    seed: int
    device: torch.device
    correction: np.ndarray | None = None
    code_range: np.ndarray | None = None

    @property
    def n_members(self) -> int:
        """Number of models whose densities are averaged."""
        return len(next(iter(self.weights.values())))

    def check(self) -> None:
        """Check that all this can be one model, as when it comes from a file.

        Raises
        ------
        ValueError
            If shapes, kinds of columns or numbers contradict each other.
        """
        columns, architecture = self.columns, self.architecture
        for name, value in self.weights.items():
            check_array(name, value, "f", (None,) * np.ndim(value))
        members = {value.shape[:1] for value in self.weights.values()}
        if len(members) != 1 or not min(members) or not self.n_members:
            raise ValueError("the weights are not those of the same members")
        check_integer(self, "seed", self.seed, 0, MOST_SEED)
        architecture.check_sizes([value.size for value in self.weights.values()])
        if architecture.blocks != columns.blocks:
            raise ValueError("the model's columns are not those of the table")
        if architecture.n_conditions != columns.n_conditions:
            raise ValueError("the model's conditions are not those of the table")
        architecture.network.for_n_features(len(columns.likelihoods))
        if architecture.places and architecture.places != tuple(columns.order.tolist()):
            raise ValueError("the model's places are not those of the table")
        # without members, no weight takes any memory, whatever the architecture says
        expected = build(architecture, 0).state_dict()
        if expected.keys() != self.weights.keys():
            raise ValueError("the names of the weights are not the architecture's")
        for name, value in self.weights.items():
            if value.dtype.kind != "f" or value.shape != (
                self.n_members,
                *expected[name].shape[1:],
            ):
                raise ValueError(
                    f"weights {name!r} are {value.dtype} of shape {value.shape}, but the "
                    f"architecture's {self.n_members} times {tuple(expected[name].shape[1:])}"
                )
        if self.correction is not None:
            shape = (1 + architecture.n_components, architecture.n_columns)
            check_array("correction", self.correction, "f", shape)
        if self.code_range is not None:
            shape = (2, architecture.n_components)
            check_array("range of the codes", self.code_range, "f", shape)
        self._try()

    def _try(self) -> None:
        """Have a row scored and drawn: what has been read answers, or it is refused."""
        columns = self.columns
        with np.errstate(all="ignore"):
            row = columns.inverse_transform(np.zeros((1, self.architecture.n_columns)))
            row = np.pad(row, [(0, 0), (0, columns.n_given)])
            given = row[:, len(columns.likelihoods) :] if columns.n_given else None
            self.log_density(row, 1)
            if type(self.architecture) is Architecture:  # a mixture has no codes to decode
                self.decode(self.codes(row), given)
            self.sample(1, self.seed, row.dtype, given)

    def module(self, dtype: np.dtype, n_members: int | None = None) -> VAE:
        """Build the torch module in one precision, with all members or with the first ones."""
        n_members = n_members or self.n_members
        model = build(self.architecture, n_members).to(
            self.device, getattr(torch, np.dtype(dtype).name)
        )
        model.load({name: value[:n_members] for name, value in self.weights.items()})
        if (limits := self.columns.limits()) is not None:
            like = next(model.parameters())
            model.limit_draws(Limits(*(torch.as_tensor(part).to(like) for part in limits)))
        return model.requires_grad_(False)

    def codes(self, X: np.ndarray) -> np.ndarray:
        """Mean of q(z|x): (n, n_features) -> (n, l).

        Of a row with holes that the encoder has not learned to see, the likeliest code.
        """
        holes = self.columns.is_incomplete(X)
        if self.architecture.n_factors or not holes.any():
            return self._map(
                X, lambda model, x: model.posterior.mean(model.encode(x))[0], n_members=1
            )
        found = np.empty((len(X), self.architecture.n_components), X.dtype)
        if not holes.all():
            found[~holes] = self.codes(X[~holes])
        if self.architecture.has_density:
            rows_per_chunk = self.rows_per_chunk(4 * self.architecture.n_components)
            found[holes] = self._map(
                X[holes],
                lambda model, x: model.mode(x)[0],
                n_members=1,
                rows_per_chunk=rows_per_chunk,
            )
        else:
            found[holes] = self._complete(X[holes], lambda own: own.code()[0], 1, n_members=1)
        return found

    def reconstruct(
        self,
        X: np.ndarray,
        shift: np.ndarray | None = None,
        hidden: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each member makes of rows, in the model's units.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
            Rows.
        shift : ndarray of shape (n_columns,), optional
            What is added to encoded rows before the encoder sees them.
        hidden : ndarray of shape (M, n_columns), bool, optional
            Columns that each member's encoder sees as 0.

        Returns
        -------
        codes : ndarray of shape (M, n, l)
            Means of q(z|x).
        residuals : ndarray of shape (M, n, n_columns)
            Rows minus the mean of p(x|z) at their codes.
        """
        n_components = self.architecture.n_components
        added = None if shift is None else torch.as_tensor(shift.astype(X.dtype)).to(self.device)
        mask = None if hidden is None else torch.as_tensor(hidden[:, None]).to(self.device)

        def both(model: VAE, x: Tensor) -> Tensor:
            shown = x if added is None else x + added
            shown = shown if mask is None else shown.masked_fill(mask, 0)
            z = model.posterior.mean(model.encode(shown))
            return torch.cat([z, x - model.reconstruct(z)], dim=2).movedim(0, 1)

        found = np.moveaxis(self._map(X, both), 1, 0)
        return found[..., :n_components], found[..., n_components:]

    def kl(self, X: np.ndarray) -> np.ndarray:
        """KL of q(z|x) from its usual prior in nats, by unit: (n, n_features) -> (n, units)."""
        return self._map(
            X, lambda model, x: model.posterior.kl(model.encode(model.seen(x)))[0], n_members=1
        )

    def draws(self, X: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes drawn from q(z|x), and its location and log-scale: (K, n, l), (n, l), (n, l).

        Every row has points of its own: all draws together are as even as they can be.
        """
        both = self._map(
            X,
            lambda model, x: torch.cat(model.posterior.split(model.encode(x)), -1)[0],
            n_members=1,
        )
        loc, log_scale = np.split(both.astype(np.float64), 2, axis=1)
        points = sobol_normal(
            n_draws * len(loc), loc.shape[1], stream_seed(self.seed, Stream.SCORE)
        )
        return loc + np.exp(log_scale) * points.reshape(n_draws, *loc.shape), loc, log_scale

    def decode(self, z: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
        """Rows that codes stand for, given (n, n_y): (n, l) -> (n, n_features)."""
        model = self.module(z.dtype, n_members=1)
        rows = torch.as_tensor(np.require(z, requirements="W")).to(self.device)
        x = None if given is None else self._conditions(given, z.dtype)
        with torch.no_grad():
            chunks = [
                model.reconstruct(rows[own][None], None if x is None else x[own][None])[0]
                for own in self.chunks(len(z))
            ]
        encoded = torch.cat(chunks).cpu().numpy()
        if self.correction is not None:
            added = self.correction[0].astype(z.dtype) + z @ self.correction[1:].astype(z.dtype)
            if self.code_range is not None:
                added *= decay(z, self.code_range.astype(z.dtype))
            encoded += added
        return self.columns.inverse_transform(encoded)

    def learn_correction(
        self, x: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Find what the codes of encoded rows lack, in Gaussian columns, and the codes' range.

        (1 + l, n_columns) and (2, l). A decoder that follows lacks nothing of the kind: None.
        """
        model = self.module(x.dtype, n_members=1)
        if model.decoder.is_autoregressive:
            return None, None
        is_gaussian = np.repeat(
            [isinstance(kind, Gaussian) for kind, _ in self.architecture.blocks],
            [n * kind.width for kind, n in self.architecture.blocks],
        ).astype(bool)
        n_columns = len(is_gaussian)
        found = Correction(self.architecture.n_components, n_columns)
        with torch.no_grad():
            for rows in self.chunks(len(x)):
                own = torch.as_tensor(x[rows]).to(self.device)[None]
                z = model.posterior.mean(model.encode(own))
                residual = (own[..., :n_columns] - model.reconstruct(z, own))[0].cpu().numpy()
                found.add(z[0].cpu().numpy(), np.where(is_gaussian, residual, 0), weight[rows])
        return found.solve(), found.code_range

    def log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log p(x) in nats, estimated by importance sampling: (n, n_features) -> (n,).

        The same Sobol points serve all rows; ``scrambling`` is the number of their set.
        """
        scores = self.per_member(X, n_draws, scrambling)
        return logsumexp(scores, axis=0) - np.log(self.n_members, dtype=X.dtype)

    def per_member(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """As ``log_density``, of each member: (n, n_features) -> (M, n)."""
        estimate = self._estimate(n_draws, scrambling, X.dtype)
        # an encoder of rows of variable length treats a short row like any other
        structure = self.architecture.network.row_structure
        holes = self.columns.is_incomplete(X) & (not structure.variable_length)
        scores = np.empty((len(X), self.n_members), X.dtype)
        for own in (~holes, holes):
            if own.any():
                scores[own] = self._map(X[own], estimate)
        for rows in self.chunks(len(X)):
            scores[rows] += self.columns.log_abs_det_jacobian(X[rows])[:, None]
        return scores.T

    def _estimate(
        self, n_draws: int, scrambling: int, dtype: np.dtype
    ) -> Callable[[VAE, Tensor], Tensor]:
        """Make the function that estimates log p(x) of encoded rows: (M, B, n) -> (B, M)."""
        # rows are encoded many at a time: of those that are decoded with all their draws,
        # there are few in a chunk
        n_codes = self.architecture.n_codes
        rows_per_chunk = self.rows_per_chunk((n_codes or n_draws) * self.n_members)
        if n_codes is not None:
            cells = n_codes * self.n_members * self.architecture.n_columns

            def sum_of_codes(model: VAE, x: Tensor) -> Tensor:
                n_rows = rows_per_chunk if model.decodes_apart else max(CELLS // cells, 1)
                return model.log_sum_of_codes(x, n_rows).T

            return sum_of_codes
        if isinstance(self.architecture, MixtureArchitecture):
            noise = self._noise(n_draws, scrambling, dtype)[0, :, 0]

            def alone(model: Any, x: Tensor) -> Tensor:
                return log_density([model], x.new_zeros(1), x[0], noise)[:, None]

            return alone
        points = self._points(n_draws, scrambling, dtype)
        return lambda model, x: model.log_evidence(x, points, rows_per_chunk).T

    def _points(self, n_draws: int, scrambling: int, dtype: np.dtype) -> Points:
        """What the draws of a score are made of."""
        first = self._noise(n_draws, scrambling, dtype)
        n_later = max(n_draws, FEWEST_DRAWS)
        later = [self._noise(n_later, scrambling, dtype, 2 + k) for k in range(MOST_PROPOSALS)]
        prior = self._noise(n_draws, scrambling, dtype, 1)
        seed = self.seed, Stream.PARTS, scrambling
        width = self.architecture.posterior.codes(self.architecture.n_components).width
        check = WidthCheck(first[..., width:] if self.architecture.has_slopes else first)
        return Points(first, later, prior, seed, self.architecture.proposal_scale, check)

    def _noise(self, n_draws: int, scrambling: int, dtype: np.dtype, proposal: int = 0) -> Tensor:
        """Sobol points of one of the score's proposals, made normal: (1, K, 1, l)."""
        seed = stream_seed(self.seed, Stream.SCORE, scrambling, proposal)
        points = sobol_normal(n_draws, self.architecture.n_noise, seed).astype(dtype)
        return torch.as_tensor(points).to(self.device)[None, :, None, :]

    def impute(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Rows whose holes hold means, or likeliest classes, given the rest: (n, n_features)."""
        encoded = self._complete(X, lambda own: own.mean(), n_draws)
        X = X[:, : len(self.columns.likelihoods)]
        return np.where(np.isnan(X), self.columns.inverse_transform(encoded, rounds=True), X)

    def imputations(self, X: np.ndarray, n_each: int, n_draws: int, seed: int) -> np.ndarray:
        """Rows whose holes hold draws given the rest: (n_each, n, n_features)."""
        generator = make_generator(seed, Stream.SAMPLE)
        encoded = self._complete(
            X, lambda own: own.sample(n_each, generator).movedim(0, 1), n_draws
        )  # (n, n_each, n_columns)
        drawn = self.columns.inverse_transform(
            encoded.reshape(-1, encoded.shape[2]), is_sample=True
        )
        drawn = np.moveaxis(drawn.reshape(len(X), n_each, -1), 1, 0)
        X = X[:, : len(self.columns.likelihoods)]
        return np.where(np.isnan(X), drawn, X)

    def _complete(
        self,
        X: np.ndarray,
        function: Callable[[PartialPosterior], Tensor],
        n_draws: int,
        *,
        scrambling: int = 0,
        n_members: int | None = None,
    ) -> np.ndarray:
        """Apply a function of weighted codes of rows with holes, a chunk at a time."""
        points = self._points(n_draws, scrambling, X.dtype)
        n_each = max(self.architecture.n_draws(n_draws), 4 * self.architecture.n_components)
        return self._map(
            X,
            lambda model, x: function(PartialPosterior(model, x, points)),
            n_members,
            rows_per_chunk=self.rows_per_chunk(n_each * (n_members or self.n_members)),
        )

    def bound(self, X: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Both parts of each member's evidence lower bound in nats, averaged over draws.

        Returns
        -------
        log_prob : ndarray of shape (M, n)
            log p(x|z) where z is drawn from q(z|x), in X's own units.
        kl : ndarray of shape (M, n)
            KL of q(z|x) from the prior.
        """
        noise = self._noise(n_draws, 0, X.dtype)
        rows_per_chunk = self.rows_per_chunk(n_draws * self.n_members)

        def parts(model: VAE, x: Tensor) -> Tensor:
            found = (model.elbo_terms(own, noise)[:2] for own in x.split(rows_per_chunk, 1))
            by_row = [torch.stack([log_prob, kl.sum(-1)]) for log_prob, kl in found]
            return torch.cat(by_row, 2).movedim(2, 0)  # (B, 2, M)

        log_prob, kl = np.moveaxis(self._map(X, parts), 0, 2)
        return log_prob + self.columns.log_abs_det_jacobian(X), kl

    def marginals(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Transforms of each value by its column's distribution: (n, n_columns)."""
        model = self.module(X.dtype)
        generator = make_generator(self.seed, Stream.CALIBRATION)
        with torch.no_grad():
            z = model.prior_distribution().sample(
                self.n_members, n_draws, self.architecture.n_components, generator, model.free.dtype
            )
            z = z.to(self.device)
            if not model.n_conditions:
                params = model.decode(z.unsqueeze(2))  # (M, K, 1, d)
            cells = n_draws * self.n_members * max(self.columns.n_columns, 1)
            size = max(CELLS // cells, 1)
            chunks = []
            for first in range(0, len(X), size):
                x = self._encoded(X[first : first + size])
                if model.n_conditions:
                    every = z.unsqueeze(2).expand(-1, -1, x.shape[1], -1)
                    params = model.decode(every, x.expand(self.n_members, -1, -1))
                below, at = model.likelihood.cdf(params, x)  # (M, K, B, d)
                chunks.append(torch.stack([below.mean((0, 1)), at.mean((0, 1))]))
        return self._transformed(chunks)

    def conditionals(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Transforms of each value by its distribution given the row's others: (n, n_columns)."""
        chunks = []
        for likelihood, params, x, _, others in self._given_others(X, n_draws):
            share = torch.softmax(others, dim=0)  # (M K, B, d)
            below, at = (part.flatten(0, 1) for part in likelihood.cdf(params, x))
            chunks.append(torch.stack([(share * below).sum(0), (share * at).sum(0)]))
        return self._transformed(chunks)

    def log_conditionals(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Log-density of each value given the row's others, in nats: (n, n_columns).

        In the model's units and its order of columns.
        """
        chunks = [
            torch.logsumexp(others + log_prob_per_column, 0) - torch.logsumexp(others, 0)
            for *_, log_prob_per_column, others in self._given_others(X, n_draws)
        ]
        return torch.cat(chunks).cpu().numpy()

    def _given_others(self, X: np.ndarray, n_draws: int) -> Iterator[tuple[Any, ...]]:
        """Yield, for chunks of rows, codes that explain each value's neighbours in the row.

        The likelihood, its parameters at the draws, the rows (1, 1, B, d), their
        log-densities by column (M K, B, d), and the log-weights that the draws have by all
        columns but one (M K, B, d).
        """
        model = self.module(X.dtype)
        points = self._points(n_draws, 0, X.dtype)
        n_made = self.architecture.n_draws(n_draws)
        cells = n_made * self.n_members * max(*self.architecture.hidden_layer_sizes, 1, X.shape[1])
        size = max(CELLS // cells, 1)
        with torch.no_grad():
            for first in range(0, len(X), size):
                x = self._encoded(X[first : first + size])  # (1, B, d)
                every = x.expand(self.n_members, -1, -1)
                drawn = PartialPosterior(model, every, points)
                params = model.decode(drawn.z, every)
                log_prob_per_column = model.likelihood.log_prob_per_column(
                    params, x.unsqueeze(1)
                )  # (M, K, B, d)
                others = drawn.log_weight.unsqueeze(-1) - log_prob_per_column
                flat = log_prob_per_column.flatten(0, 1), others.flatten(0, 1)
                yield model.likelihood, params, x.unsqueeze(1), *flat

    def _encoded(self, X: np.ndarray) -> Tensor:
        return torch.as_tensor(self.columns.transform(X)).to(self.device)[None]

    def _transformed(self, chunks: Sequence[Tensor]) -> np.ndarray:
        """Fill the jumps of distribution functions in by chance: parts (2, B, d) -> (n, d)."""
        below, at = torch.cat(list(chunks), dim=1).double().cpu()
        generator = make_generator(self.seed, Stream.CALIBRATION, 1)
        uniform = torch.rand(at.shape, generator=generator, dtype=at.dtype)
        return (below + uniform * at).numpy()

    def _conditions(self, given: np.ndarray, dtype: np.dtype) -> Tensor:
        """Encoded rows of which no more than what is given (n, n_y) is known: (n, ...)."""
        nothing = np.zeros((len(given), len(self.columns.likelihoods)))
        return self._encoded(np.hstack([nothing, given]).astype(dtype))[0]

    def sample(
        self, n_samples: int, seed: int, dtype: np.dtype, given: np.ndarray | None = None
    ) -> np.ndarray:
        """Rows drawn from the model, with the decoder's noise: (n_samples, n_features).

        What is given, (n_samples, n_y), is that of each of them.
        """
        model = self.module(dtype)
        generator = make_generator(seed, Stream.SAMPLE)
        x = None if given is None else self._conditions(given, dtype)
        with torch.no_grad():
            chunks = [
                model.sample(own.stop - own.start, generator, *([] if x is None else [x[own]]))
                for own in self.chunks(n_samples)
            ]
        return self.columns.inverse_transform(torch.cat(chunks).cpu().numpy(), is_sample=True)

    def rows_per_chunk(self, n_draws: int = 1) -> int:
        """How many rows to compute at a time, with so many draws of each, or members."""
        widest = max(self.architecture.widest, len(self.columns.likelihoods))
        return max(CHUNK // (widest * n_draws), 1)

    def chunks(self, n_rows: int, n_draws: int = 1) -> Iterator[slice]:
        """Cut rows so that a layer's output for all draws of a chunk fits the cache."""
        size = self.rows_per_chunk(n_draws)
        for start in range(0, n_rows, size):
            yield slice(start, min(start + size, n_rows))

    def _map(
        self,
        X: np.ndarray,
        function: Callable[[VAE, Tensor], Tensor],
        n_members: int | None = None,
        rows_per_chunk: int | None = None,
    ) -> np.ndarray:
        """Apply a function of (model, encoded rows) to X, a chunk at a time."""
        model = self.module(X.dtype, n_members)
        together = len(model.sizes)
        with torch.no_grad():
            chunks = [
                chunk
                for rows in gen_batches(len(X), rows_per_chunk or self.rows_per_chunk(together))
                for chunk in self._in_memory(model, function, X[rows])
            ]
        return np.concatenate(chunks)

    def _in_memory(
        self, model: VAE, function: Callable[[VAE, Tensor], Tensor], X: np.ndarray
    ) -> Iterator[np.ndarray]:
        """Apply a function to a chunk, or to parts of it where memory runs out."""
        waiting = [X]
        while waiting:
            rows = waiting.pop()
            try:
                x = torch.as_tensor(self.columns.transform(rows)).to(self.device)
                yield function(model, x.expand(len(model.sizes), -1, -1)).cpu().numpy()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(rows) == 1:
                    raise MemoryError(f"There is no memory for one row: {error}") from error
                if len(rows) == len(X):
                    warn(
                        "Memory has run out: half as many rows are computed at a time.",
                        UserWarning,
                    )
                middle = len(rows) // 2
                waiting += [rows[middle:], rows[:middle]]


@dataclass(frozen=True)
class EnsemblePredictor:
    """Fitted models whose densities are averaged, each with a weight of its own.

    Attributes
    ----------
    members : tuple of Predictor
        The models.
    weight : ndarray of shape (n_members,)
        Their shares, which sum to 1.
    """

    members: tuple[Predictor, ...]
    weight: np.ndarray

    def log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log of the weighted mean of the members' densities: (n, n_features) -> (n,).

        All members together get ``n_draws`` draws per row; the same Sobol points serve all rows.
        """
        first = self.members[0]
        models = cast(list[MixtureVAE], [member.module(X.dtype) for member in self.members])
        noise = first._noise(n_draws, scrambling, X.dtype)[0, :, 0]
        weight = torch.as_tensor(np.log(self.weight).astype(X.dtype)).to(first.device)
        scores = first._map(
            X,
            lambda _, x: log_density(models, weight, x[0], noise),
            rows_per_chunk=self._at_once(n_draws),
        )
        for rows in first.chunks(len(X)):
            scores[rows] += self.columns.log_abs_det_jacobian(X[rows])
        return scores

    def _at_once(self, n_draws: int) -> int:
        """How many rows to compute at a time: with all their draws, and in each component."""
        architecture = cast(MixtureArchitecture, self.members[0].architecture)
        n_codes = max(n_draws, architecture.n_mixture) * architecture.n_columns
        return max(min(CELLS // max(n_codes, 1), STACK_ROWS), 1)

    def check(self) -> None:
        """Check that all this can be one model, as when it comes from a file."""
        if self.weight.shape != (len(self.members),) or not abs(self.weight.sum() - 1) < 1e-6:
            raise ValueError("there are not as many shares as members, which sum to 1")
        for member in self.members:
            member.check()

    @property
    def columns(self) -> TableEncoder:
        """The border between X and the models, which is the same for all."""
        return self.members[0].columns

    def marginals(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        """Transforms of each value by its column's distribution among draws: (n, n_columns)."""
        seed, order = self.members[0].seed, self.columns.order
        drawn = np.sort(self.sample(n_draws, seed, X.dtype)[:, order], axis=0)
        uniform = np.random.default_rng(stream_seed(seed, Stream.CALIBRATION)).random(
            (len(X), len(order))
        )
        found = np.empty_like(uniform)
        for j, values in enumerate(X[:, order].T):
            below, up_to = (
                np.searchsorted(drawn[:, j], values, side) for side in ("left", "right")
            )
            # a draw more than there are, somewhere: a new value's rank among all of them
            found[:, j] = (below + uniform[:, j] * (up_to - below + 1)) / (n_draws + 1)
        return found

    def sample(self, n_samples: int, seed: int, dtype: np.dtype) -> np.ndarray:
        """Rows drawn from the members, each as often as its weight: (n_samples, n_features)."""
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        chosen = generator.choice(len(self.members), n_samples, p=self.weight)
        X = np.empty((n_samples, len(self.columns.likelihoods)), dtype)
        for number, member in enumerate(self.members):
            own = chosen == number
            if own.any():
                X[own] = member.sample(
                    int(own.sum()), stream_seed(seed, Stream.SAMPLE, number), dtype
                )
        return X
