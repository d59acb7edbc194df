"""A fitted model as data: arrays and plain values, from which torch is built inside a call."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from sklearn_vae.columns import Columns
from sklearn_vae.device import onednn_for
from sklearn_vae.model import VAE, Architecture
from sklearn_vae.posteriors import log_mean_exp
from sklearn_vae.randomness import Stream, make_generator, sobol_normal, stream_seed

# Numbers in the widest layer of a chunk of rows: what fits the cache.
CHUNK = 1 << 19


@dataclass(frozen=True)
class FittedVAE:
    """Everything that inference needs; rows come in and go out in X's own units.

    Attributes
    ----------
    columns : Columns
        The border between X and the model.
    architecture : Architecture
        Shapes of the weights.
    weights : dict of ndarray
        Parameters, by name.
    seed : int
        What the score's points follow from.
    device : torch.device
        Where to compute.
    """

    columns: Columns
    architecture: Architecture
    weights: dict[str, np.ndarray]
    seed: int
    device: torch.device

    @property
    def n_members(self) -> int:
        """Number of models whose densities are averaged."""
        return len(next(iter(self.weights.values())))

    def module(self, dtype: np.dtype, n_members: int | None = None) -> VAE:
        """Build the torch module in one precision, with all members or with the first ones."""
        n_members = n_members or self.n_members
        model = self.architecture.build(n_members).to(
            self.device, getattr(torch, np.dtype(dtype).name)
        )
        model.load({name: value[:n_members] for name, value in self.weights.items()})
        return model.requires_grad_(False)

    def codes(self, X: np.ndarray) -> np.ndarray:
        """Mean of q(z|x): (n, n_features) -> (n, l)."""
        return self._map(X, lambda model, x: model.posterior.mean(model.encode(x))[0], n_members=1)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Mean of p(x|z): (n, l) -> (n, n_features)."""
        model = self.module(z.dtype, n_members=1)
        rows = torch.as_tensor(np.require(z, requirements="W")).to(self.device)
        with torch.no_grad():
            chunks = [model.reconstruct(rows[own][None])[0] for own in self.chunks(len(z))]
        return self.columns.decode(torch.cat(chunks).cpu().numpy())

    def log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Importance-weighted bound on log p(x) in nats: (n, n_features) -> (n,).

        The same Sobol points serve all rows; ``scrambling`` is the number of their set.
        """
        seed = stream_seed(self.seed, Stream.SCORE, scrambling)
        points = sobol_normal(n_draws, self.architecture.n_noise, seed).astype(X.dtype)
        noise = torch.as_tensor(points).to(self.device)[None, :, None, :]  # (1, K, 1, l)
        width = self.architecture.widening
        scores = self._map(
            X, lambda model, x: log_mean_exp(model.log_likelihood(x, noise, width), 0), n_draws
        )
        for rows in self.chunks(len(X)):
            scores[rows] += self.columns.log_measure(X[rows])
        return scores

    def sample(self, n_samples: int, seed: int, dtype: np.dtype) -> np.ndarray:
        """Rows drawn from the model, with the decoder's noise: (n_samples, n_features)."""
        model = self.module(dtype)
        generator = make_generator(seed, Stream.SAMPLE)
        with torch.no_grad():
            chunks = [
                model.sample(own.stop - own.start, generator) for own in self.chunks(n_samples)
            ]
        return self.columns.decode(torch.cat(chunks).cpu().numpy())

    def chunks(self, n_rows: int, n_draws: int = 1) -> Iterator[slice]:
        """Cut rows so that a layer's output for all draws of a chunk fits the cache."""
        widest = max(self.architecture.widest, len(self.columns.kinds))
        size = max(CHUNK // (widest * n_draws), 1)
        for start in range(0, n_rows, size):
            yield slice(start, min(start + size, n_rows))

    def _map(
        self,
        X: np.ndarray,
        function: Callable[[VAE, Tensor], Tensor],
        n_draws: int = 1,
        n_members: int | None = None,
    ) -> np.ndarray:
        """Apply a function of (model, encoded rows) to X, a chunk at a time."""
        model = self.module(X.dtype, n_members)
        together = len(model.sizes)
        n_draws = n_draws * together
        chunk_rows = next(self.chunks(len(X), n_draws), slice(0, 0)).stop * n_draws
        layers = self.architecture.layers
        with torch.no_grad(), onednn_for(self.device, chunk_rows * sum(layers) / len(layers)):
            chunks = [
                function(
                    model,
                    torch.as_tensor(self.columns.encode(X[rows]))
                    .to(self.device)
                    .expand(together, -1, -1),
                )
                for rows in self.chunks(len(X), n_draws)
            ]
        return torch.cat(chunks).cpu().numpy()


@dataclass(frozen=True)
class FittedStack:
    """Fitted models whose densities are averaged, each with a weight of its own.

    Attributes
    ----------
    members : tuple of FittedVAE
        The models.
    weight : ndarray of shape (n_members,)
        Their shares, which sum to 1.
    """

    members: tuple[FittedVAE, ...]
    weight: np.ndarray

    def log_density(self, X: np.ndarray, n_draws: int, scrambling: int = 0) -> np.ndarray:
        """Log of the weighted mean of the members' densities: (n, n_features) -> (n,)."""
        scores = [member.log_density(X, n_draws, scrambling) for member in self.members]
        together = logsumexp(np.stack(scores), axis=0, b=self.weight[:, None])
        return together.astype(X.dtype, copy=False)

    def sample(self, n_samples: int, seed: int, dtype: np.dtype) -> np.ndarray:
        """Rows drawn from the members, each as often as its weight: (n_samples, n_features)."""
        generator = np.random.default_rng(stream_seed(seed, Stream.SAMPLE))
        chosen = generator.choice(len(self.members), n_samples, p=self.weight)
        X = np.empty((n_samples, len(self.members[0].columns.kinds)), dtype)
        for number, member in enumerate(self.members):
            own = chosen == number
            if own.any():
                X[own] = member.sample(
                    int(own.sum()), stream_seed(seed, Stream.SAMPLE, number), dtype
                )
        return X
