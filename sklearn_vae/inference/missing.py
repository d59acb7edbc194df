"""Rows of which a part is known: where their codes lie, what they weigh, and the rest of them.

An encoder has learned from whole rows, or from rows with other holes. So codes of rows with
holes are not drawn from q(z|x) alone but from normal distributions, too, that are fitted, row by
row, to the posterior of what is known, which in a linear model one equals. Where a part of a code
says which class a row is of, there are no slopes to follow: a few codes are all tried, also where
numbers stand beside them, and of many, draws are the encoder's and the prior's.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_vae.models.vae import VAE, Joint, Points
from sklearn_vae.random import sample_categorical


class PartialPosterior:
    """Weighted codes of rows with holes.

    Parameters
    ----------
    model : VAE
        The model.
    x : Tensor of shape (M, B, n_columns)
        Rows, missing cells of which are NaN.
    points : Points
        What the draws are made of.

    Attributes
    ----------
    z : Tensor of shape (M, K, B, l)
        The codes.
    log_weight : Tensor of shape (M, K, B)
        Logarithms of p(x|z) p(z) over the density that the codes were drawn from, x being
        what is known of the rows. Their sum is p(x).
    """

    z: Tensor
    log_weight: Tensor

    def __init__(self, model: VAE, x: Tensor, points: Points):
        self.model, self.likelihood = model, model.likelihood
        self.params = model.encode(model.seen(x))
        self.x = x.nan_to_num()
        if model.architecture.n_codes is not None:
            self.z = model.posterior.every(x).expand(len(x), -1, x.shape[1], -1)
            self.log_weight = Joint.of(model, x).log_prob(self.z)
        else:
            self._draw(x, points)

    def _draw(self, x: Tensor, points: Points) -> None:
        """Draw codes from as many proposals as each row needs."""
        model = self.model
        sampler, is_poor = model.sampler(self.params, x, points, model.prior_proposal(points))
        self.z, self.log_weight = sampler.z.clone(), sampler.log_weight
        for rows, refined in model.refined(sampler, is_poor, points):
            n_more = refined.z.shape[1] - self.z.shape[1]
            self.z = F.pad(self.z, (0, 0, 0, 0, 0, n_more))
            # rows that need no more draws give them no weight
            self.log_weight = F.pad(self.log_weight, (0, 0, 0, n_more), value=-math.inf)
            self.z[:, :, rows] = refined.z
            self.log_weight[:, :, rows] = refined.log_weight

    def _decode(self, z: Tensor) -> list[list[Tensor]]:
        return self.model.decode(z, self.x)

    def code(self) -> Tensor:
        """Probabilities of the classes, and numbers beside them: (M, B, l)."""
        if self.model.architecture.n_codes is None:
            return self.model.posterior.mean(self.params)
        return (self.log_weight.softmax(1).unsqueeze(-1) * self.z).sum(1)

    # -- what is said of the holes ---------------------------------------------------

    def share(self) -> Tensor:
        """Weights of the codes, those of all members together 1: (M, K, B)."""
        return self.log_weight.flatten(0, 1).softmax(0).unflatten(0, self.log_weight.shape[:2])

    def mean(self) -> Tensor:
        """Mean of each cell given what is known of its row: (B, n_columns)."""
        return self.likelihood.average_over_draws(self._decode(self.z), self.share())

    def sample(self, n_draws: int, generator: torch.Generator) -> Tensor:
        """Rows drawn given what is known of them: (n_draws, B, n_columns)."""
        share = self.share().flatten(0, 1).T.contiguous()  # (B, M K)
        # evenly spread over the codes, as their weights are
        first = torch.rand(len(share), n_draws, generator=generator, dtype=share.dtype)
        place = (torch.arange(n_draws) + first) / n_draws
        ends = share.cumsum(1)
        chosen = sample_categorical(ends, place.to(ends) * ends[:, -1:])
        order = torch.rand(len(share), n_draws, generator=generator).argsort(1)
        chosen = chosen.gather(1, order.to(chosen.device))  # no draw is likelier to come first
        n_codes = self.z.shape[1]
        member, code = chosen.T // n_codes, chosen.T % n_codes  # (m, B)
        row = torch.arange(len(share), device=chosen.device)
        z = self.z[member, code, row]  # (m, B, l)
        params = self._decode(z.unsqueeze(0).expand(len(self.z), -1, -1, -1))
        rows = self.likelihood.sample(params, generator)  # (M, m, B, n_columns)
        return rows[member, torch.arange(n_draws, device=row.device).unsqueeze(1), row]
