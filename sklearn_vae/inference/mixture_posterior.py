"""Exact posterior of the components of ``MixtureVAE`` models that are still mixtures.

Until it is trained, p(x | z, c) does not depend on z: the posterior of member and component is
a softmax over all of them, and neither draws of z nor proposals are needed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sklearn_vae.model_constants import LOG_ZERO_WEIGHT
from sklearn_vae.models.mixture_vae import MixtureVAE, Whitening

# Components of a smaller posterior probability get none.
MIN_PROBABILITY = 1e-9


class PosteriorComponents:
    """Members and components of rows, with their joint log-densities.

    Parameters
    ----------
    models : sequence of MixtureVAE
        Models whose p(x | z, c) does not depend on z; only their first members are used.
    log_weight : Tensor of shape (M,)
        Log-weights of the models.
    x : Tensor of shape (B, n_columns)
        Encoded rows.

    Attributes
    ----------
    log_weight : Tensor of shape (K, B)
        Log p(x, component), for the K components of all models; their exponentials sum to p(x).
        -inf where the posterior probability is negligible.
    member, component : Tensor of shape (K, B)
        Indices of the models and of their components.
    params : Tensor of shape (K, 1, n_params)
        Parameters of the columns that are not real numbers.
    z : Tensor of shape (K, B, l)
        Codes 0.
    """

    def __init__(self, models: Sequence[MixtureVAE], log_weight: Tensor, x: Tensor):
        joint, params = zip(*(_log_joint(model, x) for model in models), strict=True)
        log_joint = torch.cat([part + log for part, log in zip(joint, log_weight, strict=True)])
        self.params = torch.cat(params, dim=1).movedim(0, -1)
        is_likely = log_joint.softmax(0) >= MIN_PROBABILITY
        self.log_weight = log_joint.masked_fill(~is_likely, -torch.inf)
        sizes = [model.architecture.n_mixture for model in models]
        indices = [(m, c) for m, size in enumerate(sizes) for c in range(size)]
        member, component = torch.tensor(indices, device=x.device).T.unsqueeze(-1)
        self.member = member.expand(log_joint.shape)
        self.component = component.expand(log_joint.shape)
        self.z = x.new_zeros(*log_joint.shape, models[0].architecture.n_components)


def _log_joint(model: MixtureVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Log p(x, c) of the first member's components, in nats and units of x, and its parameters.

    They are of shape (C, B) and, of the columns that are not real numbers, (n_params, C, 1).
    """
    row, n_mixture = model.split(x[None]), model.architecture.n_mixture
    chosen = torch.arange(n_mixture, device=x.device).view(1, -1, 1)
    codes = x.new_zeros(1, n_mixture, 1, model.architecture.n_components)
    *real, added = model.decode(codes, chosen)  # the same for all rows
    params = model.bounded_params(added, model.params[:1].mT.unsqueeze(-1))
    parts = model.standardise_by(
        [part.expand(-1, -1, -1, len(x)) for part in (*real, added[:, :0])],
        Whitening(model).coordinates(row)[:1],
        chosen.expand(-1, -1, len(x)),
        row.real_observed,
    )
    log_prob = model.log_prob_of(parts, row.others)
    if model.others.blocks:
        blocks = model.others.split_params(params[..., 0].mT)
        log_prob = log_prob + model.others.log_prob_by_component(
            blocks, row.others, row.others_observed
        )
    log_weight = model.mixture_logit[0, 0].log_softmax(-1)
    # padding is no component, however far a row is from the others
    log_weight = log_weight.masked_fill(log_weight <= 0.5 * LOG_ZERO_WEIGHT, -torch.inf)
    return log_prob[0] + log_weight.unsqueeze(-1), params[0]
