"""Hand-written gradients, with autograd as the oracle."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    ZeroInflated,
)
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.mixture_vae import MixtureArchitecture, MixtureVAE, pick
from sklearn_vae.models.vae import VAE
from sklearn_vae.networks import ACTIVATIONS, matmul
from sklearn_vae.numerics.model_constants import INPUT_CLIP
from sklearn_vae.objectives import (
    ELBO,
    IWAE,
    MMD,
    CapacityELBO,
    LossState,
    Minibatch,
    TotalCorrelation,
    TrimmedELBO,
)
from sklearn_vae.posteriors import FullCovarianceGaussian
from sklearn_vae.priors import PRIORS, MixturePrior, VampPrior
from sklearn_vae.training import Dataset, gradients
from sklearn_vae.training.gradients import find_gradient
from sklearn_vae.training.gradients.layers import (
    ACTIVATION_GRADIENTS,
    ACTIVATIONS_OUT,
    BFloat16Linear,
)
from sklearn_vae.training.gradients.mixture import MixtureGradient

# autograd into views of the flat gradient; said once in a process, by whichever test is first
pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

BLOCKS = {
    "a scale that is a function of z": [(Gaussian("per_row"), 4)],
    "a scale per column, and bits": [(Gaussian("per_column"), 3), (Bernoulli(), 2)],
    "bits, and both kinds of scale": [
        (Bernoulli(), 3),
        (Gaussian("per_row"), 2),
        (Gaussian("per_column"), 1),
    ],
    "no column at all": [(Gaussian("per_row"), 0)],
    "classes, counts and both kinds of scale": [
        (Categorical(3), 2),
        (Gaussian("per_row"), 2),
        (Ordinal(4), 1),
        (NegativeBinomial(), 1),
        (StudentT("per_row"), 1),
        (Gaussian("per_column"), 1),
        (Bernoulli(), 2),
    ],
    "point masses, and counts of several units": [
        (ZeroInflated(1), 2),
        (NegativeBinomial(unit=2.0), 2),
        (ZeroInflated(3), 1),
        (Poisson(), 1),
    ],
}


def disturbed(
    blocks,
    *,
    n_members=1,
    hidden=(6, 5),
    activation="silu",
    sizes=None,
    n_factors=0,
    n_conditions=0,
    prior=PRIORS["normal"],
):
    """A model in double precision with weights of all sizes."""
    torch.manual_seed(0)
    architecture = Architecture(
        2,
        hidden,
        activation,
        tuple(blocks),
        n_factors=n_factors,
        n_conditions=n_conditions,
        prior=prior,
    )
    model = VAE(architecture, n_members, sizes).double()
    model.flatten()
    if n_factors:
        for buffer in model.filler.buffers():
            buffer.uniform_(0.3, 1.3)
    with torch.no_grad():
        model.flat.normal_(0, 0.4)
        for member, size in enumerate(model.sizes):
            for name, value in model.named_parameters():
                if name in model._after_encoder:
                    value[member].unflatten(-1, (-1, 2))[..., size:] = 0
                if name in model._before_decoder:
                    value[member, size:] = 0
    return model


def possible_values(kind, x):
    """Values of this kind of column, from normal numbers (M, B, n * width)."""
    if isinstance(kind, Bernoulli):
        return (x > 0).double()
    if isinstance(kind, Categorical):
        label = x.unflatten(-1, (-1, kind.width)).argmax(-1)
        return torch.nn.functional.one_hot(label, kind.width).double().flatten(-2)
    if isinstance(kind, Ordinal):
        return (x > 0).double() / (kind.n_classes - 1)
    if isinstance(kind, ZeroInflated):
        value = x.unflatten(-1, (-1, kind.width))
        label = value.argmax(-1, keepdim=True)
        spike = torch.zeros_like(value).scatter(-1, label, 1.0)
        return torch.where(label < kind.n_spikes, spike, value * spike).flatten(-2)
    return x.abs().round() if isinstance(kind, NegativeBinomial) else x


def with_missing_values(x, blocks):
    """A third of the values are missing, each with all of its numbers."""
    observed = torch.rand(*x.shape[:2], sum(n for _, n in blocks)) > 0.3
    width = [likelihood.width for likelihood, n in blocks for _ in range(n)]
    return torch.where(observed.repeat_interleave(torch.tensor(width), -1), x, torch.nan)


def batch(model, *, n_draws=1, shared=False, weighted=False, n_rows=9):
    """Rows, weights and noise for it."""
    n_members = len(model.flat)
    x = torch.randn(n_members, n_rows, model.likelihood.n_columns).double()
    parts = [
        possible_values(kind, own)
        for (kind, _), own in zip(
            model.likelihood.blocks, model.likelihood.split_blocks(x), strict=True
        )
    ]
    noise = torch.randn(1 if shared else n_members, n_draws, 1 if shared else n_rows, 2).double()
    return torch.cat(parts, -1), torch.rand(n_members, n_rows).double() if weighted else None, noise


def assert_same_gradient(model, objective, x, weight, noise, beta=0.7, atol=1e-8, **state):
    model.flat_grad.zero_()
    beta = torch.as_tensor(beta).double().expand(len(x))
    state = LossState(beta, **state)
    expected = objective(model, Minibatch(x, weight, noise), state)
    expected.loss.sum().backward()
    gradient = model.flat_grad.clone()
    model.flat_grad.fill_(7.0)  # what stood there before does not count
    kind = find_gradient(model, objective)
    ours = kind(model, objective, x.shape[1], noise.shape[1])
    with torch.no_grad():
        ours(Minibatch(x.flip(1), weight, noise), state)  # nor does the batch before
        actual = ours(Minibatch(x, weight, noise), state)

    scale = gradient.abs().max().clamp(min=1e-12)
    torch.testing.assert_close(model.flat_grad / scale, gradient / scale, rtol=1e-6, atol=atol)
    torch.testing.assert_close(actual, expected.stacked(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("objective", [ELBO(), TrimmedELBO(0.4)])
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("n_members", [1, 3])
def test_every_kind_of_column_mask_and_weight(name, n_members, objective):
    """With own and shared noise, one draw and several, with and without weights and free bits."""
    model = disturbed(BLOCKS[name], n_members=n_members)
    for n_draws, shared, weighted, free_bits in itertools.product(
        (1, 4), (False, True), (False, True), (0.0, 0.3)
    ):
        rows = batch(model, n_draws=n_draws, shared=shared, weighted=weighted)

        assert_same_gradient(model, objective, *rows, free_bits=free_bits)


@pytest.mark.parametrize("objective", [ELBO(), TrimmedELBO(0.4)])
@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "no column at all"])
@pytest.mark.parametrize("n_members", [1, 3])
def test_missing_values_of_every_kind_of_column(name, n_members, objective):
    """The likelihood is that of the observed values; inputs may be imputed in advance."""
    model = disturbed(BLOCKS[name], n_members=n_members, n_factors=2)
    for n_draws, weighted in itertools.product((1, 4), (False, True)):
        x, *rest = batch(model, n_draws=n_draws, weighted=weighted)
        x = with_missing_values(x, model.likelihood.blocks)

        assert x.isnan().any()
        assert_same_gradient(model, objective, x, *rest)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("n_members", [1, 3])
def test_least_scales(name, n_members):
    """A scale that would be smaller has no gradient."""
    model = disturbed(BLOCKS[name], n_members=n_members)
    likelihood = model.likelihood
    least = torch.as_tensor(likelihood.least_params(np.ones(likelihood.n_columns)))
    model.least_outputs[:] = least[torch.as_tensor(likelihood.is_decoded)]
    for n_draws, shared in itertools.product((1, 4), (False, True)):
        assert_same_gradient(model, ELBO(), *batch(model, n_draws=n_draws, shared=shared))


LEARNED_PRIORS = [MixturePrior(3), VampPrior(4)]


@pytest.mark.parametrize("objective", [ELBO(), TrimmedELBO(0.4)])
@pytest.mark.parametrize("prior", LEARNED_PRIORS)
@pytest.mark.parametrize("n_members", [1, 3])
def test_learned_priors(prior, n_members, objective):
    """The KL is by Monte Carlo; the VampPrior's components have the encoder's gradient, too."""
    blocks = BLOCKS["bits, and both kinds of scale"]
    model = disturbed(blocks, n_members=n_members, prior=prior)
    for n_draws, shared, weighted in itertools.product((1, 4), (False, True), (False, True)):
        rows = batch(model, n_draws=n_draws, shared=shared, weighted=weighted)

        assert_same_gradient(model, objective, *rows)
    assert all(param.grad.any() for param in model.prior_weights.values())


@pytest.mark.parametrize("prior", LEARNED_PRIORS)
def test_learned_priors_of_incomplete_rows_and_members_of_several_sizes(prior):
    """Dimensions that a member has not have no gradient."""
    blocks = BLOCKS["bits, and both kinds of scale"]
    model = disturbed(blocks, n_members=3, sizes=[2, 1, 2], n_factors=2, prior=prior)
    x, weight, noise = batch(model, n_draws=4, weighted=True)
    x, noise = with_missing_values(x, blocks), noise * model.mask[:, None, None]

    beta = torch.tensor([0.5, 1.0, 2.0]).double()
    assert_same_gradient(model, ELBO(), x, weight, noise, beta)
    assert model.decoder.linear.weight.grad[1, 0].any()
    assert not model.encoder.last.grad[1, :, [1, 3]].any()


@pytest.mark.parametrize("prior", LEARNED_PRIORS)
@pytest.mark.parametrize(("n_components", "batch_size"), [(1, 40), (2, 1)])
def test_learned_priors_of_one_dimension_or_one_row(prior, n_components, batch_size, monkeypatch):
    """As by autograd: the codes have the same layout with either axis first."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    vae = VAETransformer(
        n_components,
        prior=prior,
        hidden_layer_sizes=(4,),
        batch_size=batch_size,
        max_iter=1,
        early_stopping=False,
        random_state=0,
    )
    ours = clone(vae).fit(X)
    monkeypatch.setattr(gradients, "HAND_WRITTEN", ())

    np.testing.assert_allclose(ours.score_samples(X), vae.fit(X).score_samples(X), atol=1e-5)


@pytest.mark.parametrize("objective", [CapacityELBO(2.0), MMD(3.0), TotalCorrelation(2.0)])
@pytest.mark.parametrize("n_members", [1, 3])
def test_penalties_on_the_codes(objective, n_members):
    """Half of the capacity, rows of a larger table, weights, and members of several sizes."""
    sizes = [2, 1, 2][:n_members]
    model = disturbed(BLOCKS["bits, and both kinds of scale"], n_members=n_members, sizes=sizes)
    for n_draws, shared, weighted in itertools.product((1, 4), (False, True), (False, True)):
        x, weight, noise = batch(model, n_draws=n_draws, shared=shared, weighted=weighted)
        if model.mask is not None:
            noise = noise * model.mask[:, None, None]

        assert_same_gradient(model, objective, x, weight, noise, annealing=0.5, n_rows=40)


@pytest.mark.parametrize("prior", LEARNED_PRIORS)
def test_capacity_of_the_kl_from_a_learned_prior(prior):
    """It is one number per row."""
    model = disturbed(BLOCKS["bits, and both kinds of scale"], prior=prior)

    assert_same_gradient(model, CapacityELBO(2.0), *batch(model, n_draws=4, weighted=True))


def test_inputs_that_were_imputed_in_advance():
    """They take the place of those that the model computes from a batch."""
    model = disturbed(BLOCKS["bits, and both kinds of scale"], n_factors=2)
    x, weight, noise = batch(model)
    x = with_missing_values(x, model.likelihood.blocks)
    gradient = find_gradient(model, ELBO())(model, ELBO(), 9, 1)
    with torch.no_grad():
        state = LossState(torch.ones(1))
        expected = gradient(Minibatch(x, weight, noise), state).clone()
        imputed = model.encoder_input(x)
        actual = gradient(Minibatch(x, weight, noise, precomputed=imputed), state).clone()
        others = gradient(Minibatch(x, weight, noise, precomputed=imputed + 1), state)

    torch.testing.assert_close(actual, expected)
    assert not torch.allclose(others, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (6, 5)])
def test_every_activation_and_depth(activation, hidden):
    """The linear path alone, one hidden layer and two."""
    blocks = BLOCKS["bits, and both kinds of scale"]
    model = disturbed(blocks, hidden=hidden, activation=activation)

    assert_same_gradient(model, ELBO(), *batch(model))


def test_every_activation_has_a_gradient():
    """A new one cannot be forgotten."""
    assert ACTIVATION_GRADIENTS.keys() == ACTIVATIONS_OUT.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("weighted", [False, True])
def test_members_differ_in_size_beta_and_free_bits(weighted):
    """All that rides in one fleet; dimensions that a member has not have no gradient."""
    model = disturbed(BLOCKS["bits, and both kinds of scale"], n_members=3, sizes=[2, 1, 2])
    state = {"free_bits": torch.tensor([[0.3], [0.1], [0.0]])}
    x, weight, noise = batch(model, n_draws=4, weighted=weighted)
    noise = noise * model.mask[:, None, None]

    beta = torch.tensor([0.5, 1.0, 2.0]).double()
    assert_same_gradient(model, ELBO(), x, weight, noise, beta, **state)
    own = model.decoder.linear.weight.grad
    assert own[1, 0].any()
    assert not own[1, 1].any()
    assert not model.encoder.last.grad[1, :, [1, 3]].any()


def test_what_has_no_gradient_here_is_left_to_autograd():
    """Another objective, posterior or model."""
    model, mixture = disturbed(BLOCKS["no column at all"]), disturbed_mixture()

    class Other(ELBO):
        pass

    def is_written_out(model, objective):
        return find_gradient(model, objective) is not None

    assert is_written_out(model, ELBO())
    assert not is_written_out(model, Other())
    assert is_written_out(model, TrimmedELBO())
    assert not is_written_out(model, IWAE())
    assert is_written_out(mixture, IWAE())
    assert not is_written_out(mixture, ELBO())
    model.posterior = FullCovarianceGaussian().distribution(2)
    assert not is_written_out(model, ELBO())


@pytest.mark.parametrize("n_members", [1, 3])
def test_the_encoder_sees_far_values_clipped(n_members):
    """The likelihood is of the rows as they are."""
    model = disturbed(BLOCKS["bits, and both kinds of scale"], n_members=n_members)
    x, weight, noise = batch(model)
    x[:, ::2] *= 20 * INPUT_CLIP

    assert_same_gradient(model, ELBO(), x, weight, noise)


# -- the mixture's importance-weighted bound


def disturbed_mixture(
    blocks=None,
    *,
    n_members=1,
    hidden=(6, 5),
    activation="silu",
    n_mixture=3,
    covariance_type="full",
    n_shears=2,
    steps=(),
    has_missing=False,
):
    """A model in double precision, far from its start."""
    torch.manual_seed(0)
    architecture = MixtureArchitecture(
        2,
        hidden,
        activation,
        tuple(blocks or [(Gaussian("per_row"), 3), (Bernoulli(), 2)]),
        n_mixture=n_mixture,
        covariance_type=covariance_type,
        n_shears=n_shears,
        steps=steps,
        has_missing=has_missing,
    )
    model = MixtureVAE(architecture, n_members).double()
    model.flatten()
    with torch.no_grad():
        model.flat.normal_(0, 0.4)
        model.loc.normal_()
        model.whiten.normal_(0, 0.5)
        root = model.whiten.diagonal(dim1=-2, dim2=-1) if model.whiten.ndim == 4 else model.whiten
        root.abs_().add_(0.3)
        if model.whiten.ndim == 4:
            model.whiten.copy_(model.whiten.tril())
        model.log_det.copy_(root.log().sum(-1))
        model.params.normal_()
    return model


def mixture_batch(model, *, n_draws=5, shared=False, weighted=False, n_rows=9):
    """Rows, of which some lie farther out than the encoder sees, weights and noise."""
    n_members, n_columns = len(model.flat), model.architecture.n_columns
    x = 3 * torch.randn(n_members, n_rows, n_columns).double()
    parts = zip(
        model.others.likelihoods, model.split(x).others.split(model.others.widths, -1), strict=True
    )
    x[..., model.other_columns] = torch.cat(
        [x[..., :0], *(possible_values(likelihood, part) for likelihood, part in parts)], -1
    )
    if model.architecture.has_missing:
        x = with_missing_values(x, model.architecture.blocks)
    shape = (1, n_draws, 1) if shared else (n_members, n_draws, n_rows)
    noise = torch.randn(*shape, model.architecture.n_noise).double()
    return x, torch.rand(n_members, n_rows).double() if weighted else None, noise


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_mixtures_rows_that_were_whitened_in_advance(covariance_type):
    """They take the place of those that the model computes from a batch."""
    model = disturbed_mixture(n_members=2, covariance_type=covariance_type, has_missing=True)
    x, weight, noise = mixture_batch(model)
    gradient = find_gradient(model, IWAE())(model, IWAE(), 9, 5)
    rows = Dataset.stack([Dataset.from_x(own, None, 9, 0) for own in x])
    precomputed = MixtureGradient.precompute(model, rows).take(torch.arange(9).expand(2, -1))[0]
    with torch.no_grad():
        expected = gradient(Minibatch(x, weight, noise), torch.ones(2)).clone()
        actual = gradient(Minibatch(x, weight, noise, precomputed=precomputed), torch.ones(2))
        torch.testing.assert_close(actual, expected)
        others = gradient(Minibatch(x, weight, noise, precomputed=-precomputed), torch.ones(2))

    assert not torch.allclose(others, expected)


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("doubly_reparameterized", [False, True])
@pytest.mark.parametrize("n_draws", [1, 5])
def test_the_mixtures_bound(n_members, doubly_reparameterized, n_draws):
    """With one set of draws and two, own and shared noise, with and without weights."""
    objective = IWAE(n_draws, doubly_reparameterized)
    model = disturbed_mixture(n_members=n_members)
    for n_sets, shared, weighted in itertools.product((1, 2), (False, True), (False, True)):
        rows = mixture_batch(model, n_draws=n_draws * n_sets, shared=shared, weighted=weighted)

        assert_same_gradient(model, objective, *rows, beta=1.0, atol=1e-10)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
@pytest.mark.parametrize(
    ("blocks", "n_shears"),
    [
        ([(Gaussian("per_row"), 4)], 4),
        ([(Gaussian("per_row"), 4)], 0),
        ([(Gaussian("per_row"), 1)], 0),
        ([(Bernoulli(), 3)], 0),
        ([(Bernoulli(), 1), (Gaussian("per_row"), 2)], 1),
    ],
)
@pytest.mark.parametrize("n_mixture", [1, 4])
def test_the_mixtures_kinds_of_columns_and_components(covariance_type, blocks, n_shears, n_mixture):
    """Full and diagonal covariances, with and without shears and bits, for several members."""
    model = disturbed_mixture(
        blocks, n_members=2, n_mixture=n_mixture, covariance_type=covariance_type, n_shears=n_shears
    )

    assert_same_gradient(model, IWAE(), *mixture_batch(model), beta=1.0, atol=1e-10)


@pytest.mark.parametrize(("covariance_type", "n_shears"), [("full", 2), ("diag", 2), ("diag", 0)])
@pytest.mark.parametrize("has_missing", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_mixtures_likelihoods_and_missing_values(name, has_missing, covariance_type, n_shears):
    """Every likelihood beside real columns, with weights, some of whose values are missing."""
    model = disturbed_mixture(
        BLOCKS[name] + [(Gaussian("per_row"), 2)],
        n_members=2,
        covariance_type=covariance_type,
        n_shears=n_shears,
        has_missing=has_missing,
    )
    with torch.no_grad():
        model.flat.mul_(0.5)  # of well-conditioned covariances
    rows = mixture_batch(model, weighted=True)
    assert rows[0].isnan().any() == has_missing

    assert_same_gradient(model, IWAE(), *rows, beta=1.0, atol=1e-10)


def test_the_mixtures_complete_rows_among_incomplete_ones():
    """A batch without missing values, by a model of rows that have some."""
    blocks = BLOCKS["point masses, and counts of several units"]
    model = disturbed_mixture(blocks, n_shears=0, has_missing=True)
    x, weight, noise = mixture_batch(model)

    assert_same_gradient(model, IWAE(), x.nan_to_num(), weight, noise, beta=1.0, atol=1e-10)


def test_the_mixtures_least_scales_beside_point_masses():
    """Nothing moves a scale that is the least one."""
    blocks = [(ZeroInflated(2), 2), (StudentT("per_row"), 1)]
    model = disturbed_mixture(blocks, n_shears=0, steps=(6.0, 0.0, 6.0))
    with torch.no_grad():
        added = torch.randn(1, model.others.n_params, 1, 60).double()
        start = model.params.mT.unsqueeze(-1)[:, :, :1]
        is_held = model.bounded_params(added, start) != start + added
    assert 0.1 < is_held[:, model.scale_params].double().mean() < 0.9

    assert_same_gradient(model, IWAE(), *mixture_batch(model), beta=1.0, atol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(7,), (6, 5)])
def test_the_mixtures_activations_and_depths(activation, hidden):
    """One hidden layer and two."""
    model = disturbed_mixture(activation=activation, hidden=hidden)

    assert_same_gradient(model, IWAE(), *mixture_batch(model), beta=1.0, atol=1e-10)


def test_the_mixtures_encoder_sees_far_values_clipped():
    """The likelihood and the components are of the rows as they are."""
    model = disturbed_mixture(n_members=2)
    x, weight, noise = mixture_batch(model)
    x[:, ::2] *= 20 * INPUT_CLIP

    assert_same_gradient(model, IWAE(), x, weight, noise, beta=1.0, atol=1e-10)


def log_scales(model, z, chosen):
    """Log-scales of real columns, of a model without padding: (M, d, K, B)."""
    first = len(model.loc[0]) * torch.arange(len(chosen)).view(-1, 1, 1)
    _, log_scale, *_ = model.ensemble().decode_codes(z.flatten(0, 2), (first + chosen).flatten())
    return log_scale.unflatten(1, chosen.shape).movedim(1, 0)


@pytest.mark.parametrize("n_members", [1, 2])
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_mixtures_least_scales(covariance_type, n_members):
    """Where a column's scale is the least that its recording step allows, nothing moves it."""
    model = disturbed_mixture(
        n_members=n_members, covariance_type=covariance_type, steps=(0.0, 6.0, 6.0, 0.0, 0.0)
    )
    rows = mixture_batch(model)
    z, chosen = torch.randn(n_members, 1, 60, 2).double(), torch.arange(60).view(1, 1, -1) % 3
    with torch.no_grad():
        chosen = chosen.expand(n_members, -1, -1)
        log_scale = log_scales(model, z, chosen)  # (M, d, 1, 60)
        is_held = log_scale == pick(model.least_log_scale, chosen)
    assert not is_held[:, 0].any()
    assert 0.1 < is_held[:, 1:].double().mean() < 0.9

    assert_same_gradient(model, IWAE(), *rows, beta=1.0, atol=1e-10)


def test_the_mixtures_small_components():
    """Their scales are not lowered."""
    model = disturbed_mixture()
    model.min_log_scale[:, 1] = -0.001
    z, chosen = torch.randn(1, 1, 60, 2).double(), (torch.arange(60) % 3).view(1, 1, -1)
    log_scale = log_scales(model, z, chosen)[0, :, 0]  # (d, 60)
    assert (log_scale[:, 1::3] >= -0.001).all()
    assert (log_scale < -0.001).any()

    assert_same_gradient(model, IWAE(), *mixture_batch(model), beta=1.0, atol=1e-10)


@pytest.mark.parametrize("n_members", [1, 2])
@pytest.mark.parametrize("has_numbers", [False, True])
def test_wide_layers_have_gradients_in_bfloat16_and_outputs_of_classes(
    has_numbers, n_members, monkeypatch
):
    """Autograd in double precision is the oracle; masked dimensions keep gradients of 0.

    With real columns, losses are as in single precision.
    """
    monkeypatch.setattr(matmul, "_has_bfloat16", lambda: True)
    numbers = [(Gaussian("per_column"), 200)] if has_numbers else []
    blocks = [*numbers, (Bernoulli(), 100 if has_numbers else 300)]
    model = disturbed(blocks, n_members=n_members, hidden=(300,))
    with torch.no_grad():
        model.flat.mul_(0.1)
    x, _, noise = batch(model, n_rows=120)
    state = LossState(torch.ones(n_members).double())
    expected = ELBO()(model, Minibatch(x, None, noise), state)
    expected.loss.sum().backward()
    gradient = model.flat_grad.clone()
    single = disturbed(blocks, n_members=n_members, hidden=(300,)).float()
    single.flatten()
    with torch.no_grad():
        single.flat.copy_(model.flat)
    state = LossState(torch.ones(n_members))
    ours = find_gradient(single, ELBO())(single, ELBO(), 120, 1)
    terms = ours(Minibatch(x.float(), None, noise.float()), state)

    losses = expected.stacked().double()
    rtol = 1e-5 if has_numbers else 2**-9
    torch.testing.assert_close(terms.double(), losses, rtol=rtol, atol=1e-4)
    assert has_numbers or not torch.allclose(terms.double(), losses, rtol=1e-7)
    error = (single.flat_grad - gradient).norm(dim=1) / gradient.norm(dim=1)
    assert (error < 2**-8).all()
    assert (error > 1e-5).all()


@pytest.mark.parametrize("rounds_output", [False, True])
@pytest.mark.parametrize("n_members", [1, 3])
def test_rounding_errors_of_a_layer_in_bfloat16(n_members, rounds_output):
    """Half a unit in the last of 8 bits, for both factors and the product."""
    x, weight, grad = (torch.randn(n_members, *shape) for shape in [(50, 40), (50, 30), (30, 40)])
    layer = BFloat16Linear(x, 20, weight, torch.empty_like(weight), rounds_output=rounds_output)
    weight_t = weight.mT

    for found, a, b in [
        (layer.forward(), weight_t, x),
        (layer.backward(grad), weight[:, :20], grad),
        (layer.grad_weight, x, grad.mT),
    ]:
        exact = a.double() @ b.double()
        bound = 2**-9 * (2 * a.abs().double() @ b.abs().double() + exact.abs()) * 1.01
        error = (found.double() - exact).abs()
        is_rounded = rounds_output or found is not layer.out
        assert (error <= (bound if is_rounded else 2**-10 * bound)).all()
        assert error.square().mean() < (2**-8) ** 2 * exact.square().mean()


def test_layers_in_bfloat16_do_not_depend_on_other_members():
    """Bit for bit."""
    x, weight, grad = (torch.randn(3, *shape) for shape in [(50, 40), (50, 30), (30, 40)])

    def results(members):
        layer = BFloat16Linear(
            x[members], 50, weight[members], torch.empty_like(weight[members]), rounds_output=True
        )
        return layer.forward(), layer.backward(grad[members]), layer.grad_weight

    for alone, together in zip(results(slice(1, 2)), results(slice(0, 3)), strict=True):
        assert torch.equal(alone[0], together[1])
