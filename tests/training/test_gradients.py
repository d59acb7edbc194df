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
    LogNormal,
    NegativeBinomial,
    OneHot,
    Ordinal,
    Poisson,
    ZeroInflated,
)
from sklearn_vae.models.architecture import INPUT_CLIP, Architecture
from sklearn_vae.models.mixture_vae import MixtureArchitecture, MixtureVAE
from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives import ELBO, IWAE, MMD, Minibatch
from sklearn_vae.posteriors import FullCovarianceGaussian, RelaxedCategorical
from sklearn_vae.priors import MixturePrior, VampPrior
from sklearn_vae.training import gradients
from sklearn_vae.training.gradients import LossGradient

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
    "fixed scales, and logarithms": [(Gaussian(0.5), 2), (LogNormal(), 2)],
    "classes, counts and both kinds of scale": [
        (Categorical(3), 2),
        (Gaussian("per_row"), 2),
        (Ordinal(4), 1),
        (NegativeBinomial(), 1),
        (Gaussian("per_column"), 1),
        (Bernoulli(), 2),
    ],
    "point masses, and counts of several units": [
        (ZeroInflated(1), 2),
        (NegativeBinomial(unit=2.0), 2),
        (ZeroInflated(3), 1),
        (Poisson(), 1),
    ],
    "columns that exclude each other": [
        (OneHot(3, has_none=True), 6),
        (OneHot(2, has_none=False), 2),
        (Gaussian("per_row"), 1),
    ],
}


def disturbed(
    blocks,
    *,
    n_members=1,
    hidden=(6, 5),
    n_factors=0,
    n_conditions=0,
    n_components=2,
    **parts,
):
    """A model in double precision with weights of all sizes."""
    torch.manual_seed(0)
    architecture = Architecture(
        n_components,
        hidden,
        tuple(blocks),
        n_factors=n_factors,
        n_conditions=n_conditions,
        **parts,
    )
    model = VAE(architecture, n_members).double()
    model.flatten()
    if n_factors:
        for buffer in model.filler.buffers():
            buffer.uniform_(0.3, 1.3)
    with torch.no_grad():
        model.flat.normal_(0, 0.4)
    return model


def possible_values(kind, x):
    """Values of this kind of column, from normal numbers (M, B, n * width)."""
    if isinstance(kind, OneHot):
        groups = x.unflatten(-1, (-1, kind.n_columns))
        is_one = groups == groups.amax(-1, keepdim=True)
        return (is_one & ((groups > -0.5) | (not kind.has_none))).double().flatten(-2)
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


def batch(model, *, weighted=False, n_rows=9):
    """Rows, weights and noise for it."""
    n_members = len(model.flat)
    x = torch.randn(n_members, n_rows, model.likelihood.n_columns).double()
    parts = [
        possible_values(kind, own)
        for (kind, _), own in zip(
            model.likelihood.blocks, model.likelihood.split_blocks(x), strict=True
        )
    ]
    noise = torch.randn(n_members, 1, n_rows, model.architecture.n_components).double()
    return torch.cat(parts, -1), torch.rand(n_members, n_rows).double() if weighted else None, noise


def assert_same_gradient(model, objective, x, weight, noise, beta=(0.5, 1.0, 2.0), atol=1e-8):
    """Each member has a beta of its own."""
    model.flat_grad.zero_()
    beta = torch.as_tensor(beta).double()[: len(x)]
    expected = objective(model, Minibatch(x, weight, noise), beta)
    expected.loss.sum().backward()
    gradient = model.flat_grad.clone()
    for param in model.parameters():
        param.grad.fill_(7.0)  # what stood there before does not count
    kind = LossGradient(model, objective).hand_written
    ours = kind(model, objective, x.shape[1])
    with torch.no_grad():
        ours(Minibatch(x.flip(1), weight, noise), beta)  # nor does the batch before
        actual = ours(Minibatch(x, weight, noise), beta)

    scale = gradient.abs().max().clamp(min=1e-12)
    torch.testing.assert_close(model.flat_grad / scale, gradient / scale, rtol=1e-6, atol=atol)
    torch.testing.assert_close(actual, torch.stack(expected).detach(), rtol=1e-9, atol=1e-9)


# models beside those of whole rows: hidden layers, priors, missing values and conditions
MODELS = {
    "usual": {},
    "linear": {"hidden": ()},
    "one hidden layer": {"hidden": (7,)},
    "missing values": {"n_factors": 2},  # inputs may be imputed in advance
    "mixture prior": {"prior": MixturePrior(3)},  # the KL is by Monte Carlo
    "mixture prior and missing values": {"prior": MixturePrior(3), "n_factors": 2},
    "full covariance": {"posterior": FullCovarianceGaussian(), "n_components": 4},
    "full covariance of one dimension": {"posterior": FullCovarianceGaussian(), "n_components": 1},
    "full covariance, mixture prior and missing values": {
        "posterior": FullCovarianceGaussian(),
        "prior": MixturePrior(3),
        "n_components": 3,
        "n_factors": 2,
    },
    "conditions": {"n_conditions": 3},  # they reach the decoder, and have no gradient themselves
}


def check_model(blocks, n_members, *, free_bits=(0.0,), **kind):
    """With and without weights; of a model with missing values, a third of them are."""
    model = disturbed(blocks, n_members=n_members, **kind)
    for weighted, bits in itertools.product((False, True), free_bits):
        x, *rest = batch(model, weighted=weighted)
        if "n_factors" in kind:
            x = with_missing_values(x, blocks)
            assert x.isnan().any()
        conditions = torch.randn(n_members, 9, kind.get("n_conditions", 0)).double()
        x = torch.cat([x, conditions], dim=-1)

        assert_same_gradient(model, ELBO(free_bits=bits), x, *rest)
    assert all(param.grad.any() for param in model.prior_weights.values())


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("n_members", [1, 3])
def test_every_kind_of_column_mask_and_weight(name, n_members):
    """With and without free bits."""
    check_model(BLOCKS[name], n_members, free_bits=(0.0, 0.3))


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "no column at all"])
@pytest.mark.parametrize("n_members", [1, 3])
def test_missing_values_of_every_kind_of_column(name, n_members):
    """The likelihood is that of the observed values."""
    check_model(BLOCKS[name], n_members, **MODELS["missing values"])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_members", [1, 3])
def test_every_kind_of_model(name, n_members):
    """Of bits and numbers."""
    check_model(BLOCKS["bits, and both kinds of scale"], n_members, **MODELS[name])


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("n_members", [1, 3])
def test_least_scales(name, n_members):
    """A scale that would be smaller has no gradient."""
    model = disturbed(BLOCKS[name], n_members=n_members)
    likelihood = model.likelihood
    least = torch.as_tensor(likelihood.least_params(np.ones(likelihood.n_values)))
    model.least_outputs[:] = least[torch.as_tensor(likelihood.is_decoded)]
    assert_same_gradient(model, ELBO(), *batch(model))


@pytest.mark.parametrize(("n_components", "batch_size"), [(1, 40), (2, 1)])
def test_mixture_priors_of_one_dimension_or_one_row(n_components, batch_size, monkeypatch):
    """As by autograd: the codes have the same layout with either axis first."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    vae = VAETransformer(
        n_components,
        prior="mixture",
        hidden_layer_sizes=(4,),
        batch_size=batch_size,
        max_iter=1,
        early_stopping=False,
        random_state=0,
    )
    ours = clone(vae).fit(X)
    monkeypatch.setattr(gradients, "HAND_WRITTEN", ())

    np.testing.assert_allclose(ours.score_samples(X), vae.fit(X).score_samples(X), atol=1e-5)


def test_what_has_no_gradient_here_is_left_to_autograd():
    """Another objective, prior, posterior or model."""
    model, mixture = disturbed(BLOCKS["no column at all"]), disturbed_mixture()

    class Other(ELBO):
        pass

    def is_written_out(model, objective):
        return LossGradient(model, objective).hand_written is not None

    assert is_written_out(model, ELBO())
    assert not is_written_out(model, Other())
    assert not is_written_out(model, MMD())
    assert not is_written_out(disturbed(BLOCKS["no column at all"], prior=VampPrior(4)), ELBO())
    assert not is_written_out(model, IWAE())
    assert is_written_out(mixture, IWAE())
    assert not is_written_out(mixture, ELBO())
    model.posterior = RelaxedCategorical()
    assert not is_written_out(model, ELBO())


# -- the mixture's importance-weighted bound


def disturbed_mixture(
    blocks=None,
    *,
    n_members=1,
    hidden=(6, 5),
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


def mixture_batch(model, *, n_draws=5, weighted=False, n_rows=9):
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
    noise = torch.randn(n_members, n_draws, n_rows, model.architecture.n_noise).double()
    return x, torch.rand(n_members, n_rows).double() if weighted else None, noise


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("n_draws", [1, 5])
def test_the_mixtures_bound(n_members, n_draws):
    """With and without weights."""
    model = disturbed_mixture(n_members=n_members)
    for weighted in (False, True):
        rows = mixture_batch(model, n_draws=n_draws, weighted=weighted)

        assert_same_gradient(model, IWAE(n_draws), *rows, beta=[1.0] * 3, atol=1e-10)


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

    assert_same_gradient(model, IWAE(), *mixture_batch(model), beta=[1.0] * 3, atol=1e-10)


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

    assert_same_gradient(model, IWAE(), *rows, beta=[1.0] * 3, atol=1e-10)


def test_the_mixtures_complete_rows_among_incomplete_ones():
    """A batch without missing values, by a model of rows that have some."""
    blocks = BLOCKS["point masses, and counts of several units"]
    model = disturbed_mixture(blocks, n_shears=0, has_missing=True)
    x, weight, noise = mixture_batch(model)

    assert_same_gradient(model, IWAE(), x.nan_to_num(), weight, noise, beta=[1.0] * 3, atol=1e-10)


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("is_mixture", [False, True])
def test_the_encoder_sees_far_values_clipped(is_mixture, n_members):
    """The likelihood and the components are of the rows as they are."""
    if is_mixture:
        model = disturbed_mixture(n_members=n_members)
        objective, (x, *rest) = IWAE(), mixture_batch(model)
        options = {"beta": [1.0] * 3, "atol": 1e-10}
    else:
        model = disturbed(BLOCKS["bits, and both kinds of scale"], n_members=n_members)
        objective, (x, *rest), options = ELBO(), batch(model), {}
    x[:, ::2] *= 20 * INPUT_CLIP

    assert_same_gradient(model, objective, x, *rest, **options)
