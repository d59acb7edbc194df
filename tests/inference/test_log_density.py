"""score_samples against an importance sampler of the test's own, whatever the model is."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from torch.distributions import Normal

from sklearn_vae import VAETransformer
from sklearn_vae.inference.importance_sampling import ImportanceSampler, WeightedCodes
from sklearn_vae.models.base import ArrayVAE
from sklearn_vae.networks import ConvNet, GRUNet
from tests.conftest import bent_cloud

# Standard deviations of the proposals about codes of a row, and of the one about zero.
WIDTHS = (0.03, 0.1, 0.3, 1.0)
WIDE = 1.3


def walks(n=300, n_steps=5):
    """Short sequences of steps that add up."""
    return np.random.default_rng(0).normal(size=(n, n_steps)).cumsum(axis=1)


TABLES = {
    "wine": lambda: load_wine().data,
    "breast_cancer": lambda: load_breast_cancer().data,
    "digits": lambda: load_digits().data[:600],
    "banana": bent_cloud,
    "walks": walks,
}


def split(table, n_test=24):
    """Rows to fit, and others to score."""
    X = np.random.default_rng(0).permutation(TABLES[table]())
    return X[n_test:], X[:n_test]


def log_p_by_wide_draws(vae, X, n_draws=1 << 14):
    """Log p(x) by plain draws from a mixture of wide normals: few dimensions only.

    The mixture has the same number of draws from normals of several widths about the encoder's
    mean, and about the best code of a first round, and from one about zero that covers the prior.
    """
    fitted = vae._predictor()
    model = fitted.module(np.dtype(np.float64))
    rows = torch.as_tensor(fitted.columns.transform(X))[None].expand(fitted.n_members, -1, -1)
    centre = model.posterior.mean(model.encode(rows)).unsqueeze(1)  # (M, 1, B, l)
    torch.manual_seed(0)
    _, best = weigh(model, rows, [centre], n_draws // 4)
    found, _ = weigh(model, rows, [centre, best], n_draws)
    return logsumexp(found, axis=0) - np.log(len(found)) + fitted.columns.log_abs_det_jacobian(X)


def weigh(model, rows, centres, n_draws):
    """Log p(x) of encoded rows by each member (M, B), and the likeliest codes."""
    proposals = [Normal(centre, width) for centre in centres for width in WIDTHS]
    proposals.append(Normal(torch.zeros_like(centres[0]), WIDE))
    drawn, joints, mixtures = [], [], []
    for proposal in proposals:
        for z in proposal.sample((n_draws,)).squeeze(2).movedim(0, 1).split(1 << 11, dim=1):
            log_prob = model.likelihood.log_prob(model.decode(z, rows), rows.unsqueeze(1))
            drawn.append(z)
            joints.append(log_prob + model.prior_distribution().log_prob(z))
            mixtures.append(torch.stack([q.log_prob(z).sum(-1) for q in proposals]).logsumexp(0))
    log_joint = torch.cat(joints, dim=1)  # (M, K, B)
    found = (log_joint - torch.cat(mixtures, dim=1)).logsumexp(1) - np.log(n_draws)
    best = log_joint.argmax(1)[:, None, :, None].expand(-1, -1, -1, drawn[0].shape[-1])
    return found.numpy(), torch.cat(drawn, dim=1).gather(1, best)  # (M, B), (M, 1, B, l)


def assert_is_log_p(vae, X, n_draws=1 << 14):
    """The mean score is within 0.05 nats, and stated errors cover what all rows share."""
    expected = log_p_by_wide_draws(vae, X, n_draws)
    score, std = vae.score_samples(X, return_std=True)
    error = score - expected

    assert abs(error.mean()) < 0.05
    assert abs(error.mean()) < 3 * std.mean() + 0.02
    assert np.abs(error).max() < 1


def test_fewer_draws_are_less_work(monkeypatch):
    """Counted as codes that are decoded; the mean score stays within .3 nats."""
    train, test = split("breast_cancer", 100)
    vae = VAETransformer(8, hidden_layer_sizes=(16,), max_iter=10, random_state=0).fit(train)
    scores, n_decoded, decode = {}, dict.fromkeys((8, 32, 128), 0), ArrayVAE.decode
    for n_draws in n_decoded:

        def count(model, z, *args, n_draws=n_draws):
            n_decoded[n_draws] += z.shape[1] * z.shape[2]
            return decode(model, z, *args)

        monkeypatch.setattr(ArrayVAE, "decode", count)
        scores[n_draws] = vae.score_samples(test, n_draws=n_draws).mean()

    assert n_decoded[8] < 0.6 * n_decoded[32] < 0.36 * n_decoded[128]
    assert abs(scores[8] - scores[128]) < 0.3
    assert abs(scores[32] - scores[128]) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.02, 0.3, 1])
@pytest.mark.parametrize(
    ("table", "how"),
    [
        ("wine", {"posterior": "full"}),
        ("banana", {"posterior": "full"}),
        ("wine", {"prior": "mixture"}),
        ("wine", {"n_init": 2, "ensemble": True}),
        ("digits", {"network": ConvNet(channels=(4, 6)), "likelihood": "gaussian"}),
        ("walks", {"network": GRUNet(n_units=6)}),
    ],
    ids=str,
)
def test_the_score_is_log_p_of_every_model(table, how, beta):
    """Networks, posteriors, priors and ensembles."""
    train, test = split(table, 16)
    fixed = {"hidden_layer_sizes": (16,), "max_iter": 12, "random_state": 0}

    assert_is_log_p(VAETransformer(2, beta=beta, **fixed, **how).fit(train), test)


def test_few_draws_rank_far_rows_as_many_draws_do():
    """The search of a far row's mode takes many steps: one that leads away from it is not taken."""
    X, test = split("wine", 60)
    vae = VAETransformer(random_state=0, max_iter=20).fit(X)
    test = test.copy()
    rows, columns = np.arange(60), np.random.default_rng(0).integers(13, size=60)
    test[rows, columns] += 6 * X.std(axis=0)[columns]
    fitted = vae._predictor()
    few, many = (fitted.log_density(test, n, refines=n > 8) for n in (8, 1024))

    assert np.median(np.abs(few - many)) < 1
    assert stats.spearmanr(few, many)[0] > 0.97


@pytest.mark.parametrize("library", [np, torch])
@pytest.mark.parametrize("n_rows", [0, 1, 3])
def test_weights_of_a_row_sum_to_1_over_the_codes_of_all_members(n_rows, library):
    """In torch and in numpy, also where a part of a table has no rows."""
    log_weight = library.asarray(np.random.default_rng(0).normal(size=(2, 5, n_rows)))

    weight = WeightedCodes(log_weight[..., None], log_weight).weight
    assert weight.shape == log_weight.shape
    np.testing.assert_allclose(weight.sum((0, 1)), np.ones(n_rows))


@pytest.mark.parametrize("network", ["mlp", GRUNet(n_units=4)], ids=["MLP", "GRU"])
def test_a_row_has_the_score_that_it_has_alone(network):
    """Complete rows beside incomplete ones, in more dimensions than draws of the prior fill."""
    X = walks(200, 6)
    X[::3, 5] = np.nan
    vae = VAETransformer(4, network=network, max_iter=3, random_state=0).fit(X)
    X = X[:6]
    alone = [vae.score_samples(x) for x in X[:, None]]
    by_column = vae._predictor().log_conditionals
    alone_by_column = [by_column(x, 32) for x in X[:, None]]

    np.testing.assert_allclose(vae.score_samples(X), np.concatenate(alone), atol=1e-6)
    np.testing.assert_allclose(by_column(X, 32), np.concatenate(alone_by_column), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_without_any_finite_weight_is_uneven(dtype):
    sampler = ImportanceSampler(None)
    sampler.z = torch.zeros(1, 8, 3, 2, dtype=dtype)
    sampler.log_mixture = torch.zeros(1, 8, 3, dtype=dtype)
    sampler.log_joint = torch.zeros(1, 8, 3, dtype=dtype)
    sampler.log_joint[..., 1], sampler.log_joint[..., 2] = -torch.inf, torch.nan

    assert sampler.is_uneven().tolist() == [[False, True, True]]
