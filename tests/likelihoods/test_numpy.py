"""Likelihoods of arrays of numpy are those of tensors."""

import numpy as np
import pytest
import torch

from sklearn_vae.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Columnwise,
    Gaussian,
    Limits,
    LogNormal,
    NegativeBinomial,
    Ordinal,
    Poisson,
    ZeroInflated,
)

# Columns of one likelihood, members, draws of z, rows.
N, MEMBERS, DRAWS, ROWS = 3, 2, 4, 5
OBJECTS = [
    Bernoulli(), Categorical(4), Gaussian(), Gaussian("per_column"), Gaussian(0.5), LogNormal(),
    NegativeBinomial(), NegativeBinomial(4.0), Ordinal(2), Ordinal(5), Poisson(), Poisson(0.5),
    ZeroInflated(1), ZeroInflated(3),
]  # fmt: skip


def random_params(likelihood, n_rows=ROWS, seed=0):
    """Parameters of N columns, as torch's tensors: (M, K, B, N * size), or shared by draws."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(
            *((MEMBERS, DRAWS, n_rows) if depends else (MEMBERS, 1, 1)), N * size,
            generator=generator, dtype=torch.float64,
        )
        for size, depends in zip(likelihood.param_sizes, likelihood.depends_on_z, strict=True)
    ]  # fmt: skip


def arrays(tensors):
    return [tensor.numpy() for tensor in tensors]


def test_every_likelihood_is_compared():
    """Its formulas are written for both libraries."""
    assert {type(likelihood) for likelihood in OBJECTS} == set(LIKELIHOODS.values())


@pytest.mark.parametrize("likelihood", OBJECTS, ids=repr)
def test_log_densities_and_means_are_those_of_torch(likelihood):
    """One formula in two libraries: torch's results have their own tests."""
    params = random_params(likelihood)
    x = likelihood.sample(params, torch.Generator().manual_seed(1), None)
    weights = torch.rand(MEMBERS, DRAWS, ROWS, generator=torch.Generator().manual_seed(2)).double()
    weights /= weights.sum((0, 1))

    for actual, expected in (
        (
            likelihood.log_prob_per_column(arrays(params), x.numpy()),
            likelihood.log_prob_per_column(params, x),
        ),
        (likelihood.mean(arrays(params)), likelihood.mean(params)),
        (likelihood.residual(arrays(params), x.numpy()), likelihood.residual(params, x)),
        (
            likelihood.average_over_draws(arrays(params), weights.numpy()),
            likelihood.average_over_draws(params, weights),
        ),
    ):
        np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("likelihood", OBJECTS, ids=repr)
def test_gradients_and_fisher_features_are_those_of_torch(likelihood):
    """Of parameters that all depend on the row, as in a mixture."""
    if getattr(likelihood, "scale", "per_row") != "per_row":
        pytest.skip("a scale per row in every component")
    columns = Columnwise([(likelihood, N)])
    generator = torch.Generator().manual_seed(3)
    params = torch.randn(ROWS, columns.n_params, generator=generator, dtype=torch.float64)
    slopes = torch.randn(2, *params.shape, generator=generator, dtype=torch.float64)
    x = columns.sample(columns.split_params(params), generator)
    all_params = params.clone().requires_grad_()
    log_prob = columns.log_prob(columns.split_params(all_params), x)
    (gradient,) = torch.autograd.grad(log_prob.sum(), all_params)
    blocks = columns.split_params(params), columns.split_params(slopes)
    features = columns.fisher_features(*blocks).numpy()
    params, slopes = (columns.split_params(part.numpy()) for part in (params, slopes))
    x = x.numpy()

    actual, of_params = columns.value_and_gradient(params, x)
    np.testing.assert_allclose(actual, log_prob.detach().numpy(), rtol=1e-9)
    actual = np.concatenate([part for block in of_params for part in block], axis=-1)
    np.testing.assert_allclose(actual, gradient.numpy(), rtol=1e-6, atol=1e-7)
    observed = np.arange(ROWS * N).reshape(ROWS, N) % 3 > 0
    (gradient,) = torch.autograd.grad(
        columns.log_prob(columns.split_params(all_params), torch.as_tensor(x),
                         torch.as_tensor(observed)).sum(), all_params)  # fmt: skip
    _, of_params = columns.value_and_gradient(params, x, observed)
    actual = np.concatenate([part for block in of_params for part in block], axis=-1)
    np.testing.assert_allclose(actual, gradient.numpy(), rtol=1e-6, atol=1e-7)
    actual = columns.fisher_features(params, slopes)
    np.testing.assert_allclose(actual, features, rtol=1e-8, atol=1e-8)
    _, actual, _ = columns.expand(params, slopes, x, observed)
    expected = np.einsum("lbn,bn->lb", np.concatenate(slopes[0], -1), gradient.numpy())
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("likelihood", OBJECTS, ids=repr)
@pytest.mark.parametrize("has_missing", [False, True])
def test_densities_in_components_are_those_of_torch(likelihood, has_missing):
    """Of observed values, if some are missing."""
    params = [part.expand(MEMBERS, DRAWS, ROWS, -1)[:, :, 0] for part in random_params(likelihood)]
    x = likelihood.sample(random_params(likelihood), torch.Generator().manual_seed(1), None)[:, 0]
    observed = torch.arange(MEMBERS * ROWS * N).reshape(MEMBERS, ROWS, N) % 4 > 0
    x = x * observed.repeat_interleave(likelihood.width, -1) if has_missing else x
    masks = (observed.numpy(), observed) if has_missing else (None, None)
    actual = likelihood.log_prob_by_component(arrays(params), x.numpy(), masks[0])
    expected = likelihood.log_prob_by_component(params, x, masks[1]).numpy()

    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("likelihood", [Gaussian(), ZeroInflated(2)], ids=repr)
def test_samples_keep_to_limits(likelihood):
    """Bounds, and values that are point masses."""
    limits = (np.full(N, -1.0), np.full(N, 1.2), np.full((N, 1), 0.1), np.full(N, 0.05))
    params = [0.3 * part[:1, :1] for part in random_params(likelihood, n_rows=1)]
    params = [part.expand(1, 4000, 1, -1) for part in params]
    limits = Limits(*map(torch.as_tensor, limits))
    drawn = likelihood.sample(params, torch.Generator().manual_seed(1), limits).numpy()
    numbers = drawn[..., likelihood.width - 1 :: likelihood.width]

    assert numbers.min() >= -1.0
    assert numbers.max() <= 1.2
    assert not (np.abs(numbers - 0.1) <= 0.05).any()
