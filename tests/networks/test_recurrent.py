"""Sequences: ends, order, words that are hidden, and rows that are told step by step."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_vae import VAEImputer, VAETransformer
from sklearn_vae.likelihoods import Categorical, Gaussian
from sklearn_vae.likelihoods.columnwise import LOG_SCALE_BOUND
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.build import build
from sklearn_vae.networks import GRUNet
from sklearn_vae.numerics.array_api import unbounded
from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.objectives import IWAE
from tests.conftest import iwae_bound

pd = pytest.importorskip("pandas")

N_STEPS, SLOPE = 6, 0.7


def walks(n, n_steps=N_STEPS, seed=0):
    """AR(1) from its stationary distribution, with innovations of variance 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, n_steps))
    x[:, 0] /= np.sqrt(1 - SLOPE**2)
    for t in range(1, n_steps):
        x[:, t] += SLOPE * x[:, t - 1]
    return x


def log_density(x):
    """Of AR(1), in closed form: the first step and the innovations of those that are there."""
    first = -0.5 * x[:, 0] ** 2 * (1 - SLOPE**2) + 0.5 * np.log(1 - SLOPE**2)
    later = -0.5 * np.square(x[:, 1:] - SLOPE * x[:, :-1])
    parts = np.column_stack([first, later]) - 0.5 * np.log(2 * np.pi)
    return np.nansum(parts, axis=1)


def ended(x, lengths):
    x = x.copy()
    x[np.arange(x.shape[1]) >= np.asarray(lengths)[:, None]] = np.nan
    return x


X = walks(160)
SHORT = ended(X, np.random.default_rng(1).integers(2, N_STEPS + 1, 160))


def fit(rows, network=None, **params):
    usual = {"hidden_layer_sizes": 6, "max_iter": 1, "early_stopping": False, "batch_size": 64}
    network = GRUNet(n_units=5) if network is None else network
    return VAETransformer(2, network=network, random_state=0, **{**usual, **params}).fit(rows)


REAL = ((Gaussian(), N_STEPS),)


def model_of(network, blocks=REAL, n_features=N_STEPS, **params):
    """A model in double precision, its weights zero."""
    architecture = Architecture(
        2, (4,), blocks, network=network.for_n_features(n_features), **params
    )
    return build(architecture).double()


def drawn(model, scale=0.5):
    generator = torch.Generator().manual_seed(0)
    for param in model.parameters():
        param.data = scale * torch.randn(param.shape, generator=generator, dtype=torch.float64)
    return model


def ar1():
    """The model whose p(x|z) is AR(1) whatever z is: a slope beside the state, no more."""
    model = model_of(GRUNet(n_units=3))
    last = model.decoder.weights["last/weight"].data[0]  # (2, units + 1 + widths)
    last[0, 3] = SLOPE  # of the location, in the step before
    scales = torch.zeros(N_STEPS, dtype=torch.float64)
    scales[0] = -0.5 * np.log(1 - SLOPE**2)
    model.decoder.linear.bias.data[0, 0, N_STEPS:] = unbounded(scales, LOG_SCALE_BOUND)
    return model.requires_grad_(False)


# -- the density ---------------------------------------------------------------------


def test_a_decoder_that_follows_can_be_an_autoregression_exactly():
    """A density that is known in closed form, without help from the code."""
    x = torch.as_tensor(X[:20])[None]
    noise = torch.randn(1, 4, 1, 2, dtype=torch.float64)

    found = iwae_bound(ar1(), x, noise)[0]
    np.testing.assert_allclose(found.numpy(), log_density(X[:20]), rtol=1e-9)


def test_rows_sampled_step_by_step_have_the_covariance_of_the_autoregression():
    """SLOPE^|i - j| / (1 - SLOPE²); draws of all steps at once would be independent."""
    rows = ar1().sample(15_000, torch.Generator().manual_seed(0)).numpy()
    apart = np.abs(np.subtract.outer(np.arange(N_STEPS), np.arange(N_STEPS)))

    np.testing.assert_allclose(np.cov(rows.T), SLOPE**apart / (1 - SLOPE**2), atol=0.1)


def test_means_are_decoded_step_by_step():
    """From a first step of 2 each next mean is SLOPE times the one before."""
    model = ar1()
    model.decoder.linear.bias.data[0, 0, 0] = 2.0
    found = model.reconstruct(torch.zeros(1, 1, 2, dtype=torch.float64))[0, 0]

    np.testing.assert_allclose(found.detach().numpy(), 2 * SLOPE ** np.arange(N_STEPS))


@pytest.mark.parametrize("hidden", [0, 3, 5])
def test_no_step_depends_on_later_steps(hidden):
    """Were it otherwise, scores would be no densities: the value would give itself away."""
    model = drawn(model_of(GRUNet(n_units=5)))
    z, x = torch.randn(1, 1, 3, 2, dtype=torch.float64), torch.as_tensor(X[:3])[None]
    other = x.clone()
    other[..., hidden] += 1
    ((before, _),), ((after, _),) = model.decode(z, x), model.decode(z, other)

    torch.testing.assert_close(before[..., : hidden + 1], after[..., : hidden + 1])
    assert (before[..., hidden + 1 :] != after[..., hidden + 1 :]).all()


# -- ends ----------------------------------------------------------------------------


def test_the_encoder_is_torchs_network_of_the_part_that_is_there(generator):
    """What lies behind the end must not matter, whatever stands there."""
    kind = GRUNet(n_units=5)
    layout = Architecture(2, (), ((Gaussian(), N_STEPS),), n_factors=1)
    encoder = kind.for_n_features(N_STEPS).build(1, layout)[0].double()
    for param in encoder.weights.values():
        param.data = torch.randn(param.shape, generator=generator, dtype=torch.float64)
    gru = nn.GRU(2, 5, batch_first=True).double()
    names = [name for name in encoder.weights if name.startswith("gru")]
    gru.load_state_dict({name[4:]: encoder.weights[name][0] for name in names})
    last = encoder.weights["last/weight"][0]
    lengths = [0, 1, 4, N_STEPS]
    x = torch.randn(4, N_STEPS, dtype=torch.float64, generator=generator)
    there = torch.arange(N_STEPS) < torch.tensor(lengths)[:, None]
    found = encoder(torch.cat([x, there.double()], dim=1)[None])[0]
    for row, length in enumerate(lengths):
        state = torch.zeros(5, dtype=torch.float64)
        if length:
            own = torch.stack([x[row, :length], torch.ones(length)], dim=1)
            state = gru(own[None].double())[0][0, -1]
        torch.testing.assert_close(found[row], state @ last.T)


def test_scores_of_ended_rows_are_those_of_their_part():
    """The exact density of as many steps is met about as well as that of whole rows."""
    rows = ended(walks(600, seed=2), np.random.default_rng(0).integers(1, N_STEPS + 1, 600))
    test = ended(walks(300, seed=3), np.full(300, 3))
    vae = fit(rows, GRUNet(n_units=8), max_iter=8, learning_rate=1e-2)

    assert vae.score(test) == pytest.approx(log_density(test).mean(), abs=0.15)
    assert np.isfinite(vae.transform(test)).all()


def test_a_hole_inside_is_refused_by_row_and_column():
    """Only ends are known: what a GRU would make of a hole is not what the score says."""
    rows = SHORT.copy()
    rows[:, -1] = X[:, -1]
    rows[7, 2] = np.nan
    rows[:7] = X[:7]
    with pytest.raises(ValueError, match=r"missing in row 7, column 2.* until column 5"):
        fit(rows)
    vae = fit(SHORT)
    with pytest.raises(ValueError, match="missing in row 7, column 2"):
        vae.score_samples(rows)
    rows = ended(X, np.where(np.arange(160) == 1, 3, N_STEPS))
    with pytest.raises(ValueError, match=r"in row 1, column 3, .* until column 3"):  # half a step
        fit(rows, GRUNet((3, 2), n_units=4))


def test_ends_that_no_row_had_in_fit_are_refused():
    """The encoder of whole rows is not told of ends."""
    vae = fit(X)
    with pytest.raises(ValueError, match="Row 1 of X ends early"):
        vae.transform(ended(X[:3], [6, 4, 6]))


def test_steps_beyond_all_rows_in_fit_change_little():
    """Training rows of one length score as without the padding, which the encoder reads as 0."""
    padded = np.hstack([X, np.full((len(X), 2), np.nan)])
    scores = fit(padded).score_samples(padded)

    np.testing.assert_allclose(scores, fit(X).score_samples(X), atol=0.05)


# -- words ---------------------------------------------------------------------------


def sentences(n=120, seed=0):
    rng = np.random.default_rng(seed)
    return rng.choice(list("abc"), (n, 5)).astype(object)


def test_columns_of_symbols_have_all_the_same_symbols():
    """A symbol is the same wherever it stands; sample gives symbols back."""
    table = pd.DataFrame(sentences())
    table[0] = np.where(table[0] == "c", "a", table[0])  # a column of two
    table[4] = np.where(table[4] == "a", "d", table[4])
    table.columns = [f"letter {j}" for j in range(5)]
    vae = fit(table)

    assert vae.columns_.blocks == ((Categorical(4), 5),)
    assert set(np.unique(vae.sample(50).to_numpy().astype(str))) <= set("abcd")
    assert np.isfinite(vae.score_samples(table)).all()


def test_the_next_step_reads_the_likeliest_class():
    """A decoder that says the next class after each: 0, 1, 2, 0, from the first one on."""
    network = GRUNet(n_units=3)
    model = model_of(network, ((Categorical(3), 4),), 4)
    last = model.decoder.weights["last/weight"].data[0]  # (3, units + 3 classes + widths)
    for own in range(3):
        last[(own + 1) % 3, 3 + own] = 5.0
    model.decoder.linear.bias.data[0, 0, 0] = 1.0
    z = torch.zeros(1, 2, 2, dtype=torch.float64)
    found = model.reconstruct(z).detach().view(2, 4, 3)

    assert found.argmax(-1).tolist() == [[0, 1, 2, 0]] * 2
    rows = model._decode_rows(z, model.likelihood.mode, None)
    assert set(rows.flatten().tolist()) == {0.0, 1.0}


def test_word_dropout_hides_whole_steps_at_its_rate():
    """Half a word would give the other half away."""
    network = GRUNet((4, 2), word_dropout=0.3)
    model = model_of(network, ((Categorical(3), 8),), 8)
    dropout = model.decoder.module.word_dropout
    dropout.generator = make_generator(0, Stream.DROPOUT)
    hidden = dropout(torch.ones(4000, 4, 6)) == 0

    assert (hidden.all(-1) == hidden.any(-1)).all()
    assert hidden.double().mean().item() == pytest.approx(0.3, abs=0.01)


def test_hidden_words_are_hidden_from_the_decoder_alone():
    """The encoder reads all of them, and the likelihood is that of all of them."""
    model = drawn(model_of(GRUNet(n_units=4, word_dropout=1.0)))
    x = torch.as_tensor(X[:5])[None]
    noise = torch.zeros(1, 1, 5, 2, dtype=torch.float64)
    with model.decoder.dropout([0], 0, 1):
        log_prob, kl = model.elbo_terms(x, noise)
    q = model.encode(x)
    params = model.decode(model.posterior.rsample(q, noise), torch.zeros_like(x))

    torch.testing.assert_close(kl, model.posterior.kl(q))
    torch.testing.assert_close(log_prob, model.likelihood.log_prob(params, x.unsqueeze(1)).mean(1))


def test_word_dropout_is_for_training_alone():
    """Validation and scores are of the rows as they are."""
    plain, dropped = (
        fit(X, GRUNet(n_units=5, word_dropout=share), learning_rate=1e-14) for share in (0.0, 0.9)
    )

    np.testing.assert_allclose(plain.score_samples(X), dropped.score_samples(X), rtol=1e-9)


# -- what is refused, and what works -------------------------------------------------


def test_values_of_a_step_have_units_of_their_own():
    """Two values per step, of which one is a thousand times the other."""
    rows = np.empty((160, 6))
    rows[:, ::2], rows[:, 1::2] = X[:, :3], 1000 * X[:, 3:]
    (group,) = fit(rows, GRUNet((3, 2), n_units=4)).columns_.groups
    unit = group.scale * 2.0**group.exponent

    np.testing.assert_allclose(unit[::2], unit[0])
    np.testing.assert_allclose(unit[1::2], unit[1])
    assert unit[1] == pytest.approx(1000 * X[:, 3:].std(), rel=1e-6)


@pytest.mark.parametrize(
    "asked",
    [
        lambda vae: vae.impute(SHORT),
        lambda vae: VAEImputer(vae).fit(SHORT),  # before the training
        lambda vae: VAEImputer(VAETransformer(network="gru")).fit(SHORT),
    ],
    ids=["impute", "VAEImputer", "VAEImputer by name"],
)
def test_what_steps_that_follow_on_one_another_cannot_do_is_said(asked):
    """These need columns that are independent given the code."""
    with pytest.raises(ValueError, match=r"independent given a code.*autoregressive=False"):
        asked(fit(SHORT))


def test_objectives_that_ask_for_scales_at_codes_alone_are_refused():
    """Before anything is fitted."""
    with pytest.raises(ValueError, match=r"'objective' parameter.*'elbo'"):
        fit(X, objective=IWAE(2))


def test_steps_that_are_independent_given_the_code_can_be_imputed():
    """autoregressive=False leaves p(x|z) a product."""
    vae = fit(SHORT, GRUNet(n_units=5, autoregressive=False))
    filled = vae.impute(SHORT)

    np.testing.assert_array_equal(filled[~np.isnan(SHORT)], SHORT[~np.isnan(SHORT)])
    assert not np.isnan(filled).any()
