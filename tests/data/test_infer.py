"""Columns of further kinds: heavy tails, positive numbers, classes and counts; scipy as oracle."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sklearn_vae import VAETransformer
from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.data.infer import ColumnHint
from sklearn_vae.likelihoods import (
    NAMED,
    Bernoulli,
    Categorical,
    Columnwise,
    Gaussian,
    LogNormal,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    ZeroInflated,
)

pd = pytest.importorskip("pandas")

KINDS = [
    StudentT(),
    StudentT("per_column"),
    LogNormal(),
    Categorical(3),
    Ordinal(4),
    Poisson(unit=2.0),
    NegativeBinomial(unit=0.5),
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=repr)
and_spiked = pytest.mark.parametrize("kind", [*KINDS, ZeroInflated(2)], ids=repr)
N = 3


def draw(*shape, seed=0):
    """Random numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def draw_params(kind, *shape):
    """Random parameters of N columns; those that do not depend on z have one row for all."""
    return [
        draw(*(shape if depends else [1] * len(shape)), N * size, seed=k)
        for k, (depends, size) in enumerate(zip(kind.depends_on_z, kind.param_sizes, strict=True))
    ]


def as_scipy(kind, params):
    """The same distribution of each value, as scipy has it: values in X's own units."""
    params = [param.numpy() for param in params]
    if isinstance(kind, StudentT):
        scale = np.exp(7 * np.tanh(params[1] / 7))
        return stats.t(np.exp(1.5 + 4.5 * np.tanh(params[2] / 4.5)), params[0], scale)
    if isinstance(kind, LogNormal):  # of logarithms
        return stats.norm(params[0], np.exp(7 * np.tanh(params[1] / 7)))
    rate = kind.unit**2 * np.exp(12 * np.tanh(params[0] / 12))
    if isinstance(kind, Poisson):
        return stats.poisson(rate)
    shape = np.exp(7 * np.tanh(params[1] / 7))
    return stats.nbinom(shape, shape / (shape + rate))


def probabilities(kind, params):
    """Of every class, from the formulas: (..., N, K)."""
    if isinstance(kind, Categorical):
        logits = params[0].numpy().reshape(*params[0].shape[:-1], N, -1)
        exp = np.exp(logits - logits.max(-1, keepdims=True))
        return exp / exp.sum(-1, keepdims=True)
    raw = params[1].numpy().reshape(*params[1].shape[:-1], N, -1)
    gaps = np.log1p(np.exp(raw[..., 1:])) + 1e-3
    steps = np.concatenate([raw[..., :1], gaps], axis=-1).cumsum(-1)
    up_to = stats.logistic.cdf(steps - params[0].numpy()[..., None])
    ends = [np.zeros_like(up_to[..., :1]), up_to, np.ones_like(up_to[..., :1])]
    return np.diff(np.concatenate(ends, axis=-1), axis=-1)


def is_classes(kind):
    return isinstance(kind, Categorical | Ordinal)


def as_seen(kind, values):
    """Values in X's units as the model sees them."""
    if isinstance(kind, Categorical):
        return torch.as_tensor(np.eye(kind.n_classes)[values].reshape(*values.shape[:-1], -1))
    if isinstance(kind, Ordinal):
        return torch.as_tensor(values / (kind.n_classes - 1))
    if isinstance(kind, Poisson | NegativeBinomial):
        return torch.as_tensor(np.sqrt(values) / kind.unit)
    return torch.as_tensor(values)


def draw_values(kind, shape, rng):
    """Values in X's units that columns can have."""
    if is_classes(kind):
        return rng.integers(kind.n_classes, size=(*shape, N))
    if isinstance(kind, ZeroInflated):  # as the model sees them: a third of the cells at each
        place = rng.integers(3, size=(*shape, N))
        number = np.where(place == 2, rng.standard_normal((*shape, N)), 0)
        return np.stack([place == 0, place == 1, number], axis=-1).reshape(*shape, -1)
    if isinstance(kind, Poisson | NegativeBinomial):
        return rng.poisson(2.0, size=(*shape, N)).astype(float)
    return 3 * rng.standard_normal((*shape, N))


# -- densities ---------------------------------------------------------------------------


def test_every_kind_has_its_oracle():
    """A new kind has to pass all tests below, or those of Gaussian and Bernoulli columns."""
    known = {type(kind) for kind in KINDS} | {Gaussian, Bernoulli, ZeroInflated}

    assert known == set(NAMED.values())


@each_kind
def test_log_prob_is_the_textbook_density(kind, rng):
    """By column, and summed over columns."""
    params, values = draw_params(kind, 2, 4), draw_values(kind, (2, 4), rng)
    if is_classes(kind):
        found = probabilities(kind, params)
        found = np.broadcast_to(found, (2, 4, N, kind.n_classes))
        expected = np.log(np.take_along_axis(found, values[..., None], axis=-1)[..., 0])
    elif isinstance(kind, Poisson | NegativeBinomial):
        expected = as_scipy(kind, params).logpmf(values)
    else:
        expected = as_scipy(kind, params).logpdf(values)

    log_prob_per_column = kind.log_prob_per_column(params, as_seen(kind, values))
    np.testing.assert_allclose(log_prob_per_column.numpy(), expected, rtol=1e-9)
    log_prob = kind.log_prob(params, as_seen(kind, values))
    np.testing.assert_allclose(log_prob.numpy(), expected.sum(-1), rtol=1e-9)


@each_kind
def test_cdf_is_the_textbook_distribution(kind, rng):
    """Less than x, and x itself."""
    params, values = draw_params(kind, 2, 4), draw_values(kind, (2, 4), rng)
    if is_classes(kind):
        found = probabilities(kind, params)
        found = np.broadcast_to(found, (2, 4, N, kind.n_classes))
        at = np.take_along_axis(found, values[..., None], axis=-1)[..., 0]
        below = np.take_along_axis(found.cumsum(-1), values[..., None], axis=-1)[..., 0] - at
    elif isinstance(kind, Poisson | NegativeBinomial):
        below = as_scipy(kind, params).cdf(values - 1)
        at = as_scipy(kind, params).pmf(values)
    else:
        below, at = as_scipy(kind, params).cdf(values), np.zeros(values.shape)

    for found, expected in zip(kind.cdf(params, as_seen(kind, values)), (below, at), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-8)


@and_spiked
def test_samples_have_the_distribution(kind, generator):
    """Kolmogorov and Smirnov for numbers, frequencies for what can be counted."""
    params = [param.expand(20_000, -1) for param in draw_params(kind, 1)]
    x = kind.sample(params, generator)
    below, at = kind.cdf(params, x)
    place = (below + torch.rand(at.shape, generator=generator) * at).numpy()

    assert x.shape == (20_000, N * kind.width)
    for column in place.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


@each_kind
def test_mean_is_that_of_many_samples(kind, generator):
    """Counts are seen as roots, and their mean as that of the counts."""
    params = draw_params(kind, 1)
    mean = kind.mean(params)[0]
    x = kind.sample([param.expand(40_000, -1) for param in params], generator)
    if isinstance(kind, Poisson | NegativeBinomial):
        x, mean = x.square(), mean.square()
    found = x.median(0).values if isinstance(kind, StudentT) else x.mean(0)

    spread = x.std(0) if not isinstance(kind, StudentT) else (7 * (params[1] / 7).tanh()).exp()
    assert ((found - mean).abs() < 0.05 * spread.clamp(min=0.1)).all()


@and_spiked
def test_the_gradient_flows_to_every_parameter(kind, rng):
    """Finite differences agree with autograd."""
    params = [param.requires_grad_() for param in draw_params(kind, 4)]
    x, scale = as_seen(kind, draw_values(kind, (4,), rng)), draw(N * kind.width).exp()

    assert torch.autograd.gradcheck(lambda *params: kind.log_prob(params, x), params)
    if not is_classes(kind) and kind.link != "root":
        assert torch.autograd.gradcheck(lambda *params: kind.log_prior(params, scale), params)
    else:
        assert (kind.log_prior(params, scale) == 0).all()


@each_kind
def test_start_is_near_the_linear_model(kind):
    """At z = 0 the mean is the linear model's, and moves the way that it does."""
    loadings = 0.05 * draw(2, N * kind.width)
    if isinstance(kind, Categorical):
        loc = torch.tensor([0.2, 0.5, 0.3] * N).double()
        loadings = loadings - loadings.unflatten(1, (N, 3)).mean(2).repeat_interleave(3, 1)
    else:
        loc = torch.tensor([0.4, 0.5, 0.6]).double()
    start = kind.initialize(loadings, loc, torch.full_like(loc, 0.3))

    def mean(z):
        params = [z @ slope + offset for slope, offset in start]
        return kind.mean(params)

    zero = torch.zeros(2).double()
    slope = torch.autograd.functional.jacobian(mean, zero).T
    torch.testing.assert_close(mean(zero), loc, rtol=0.1, atol=0.03)
    torch.testing.assert_close(slope, loadings, rtol=0.25, atol=0.01)


def test_a_student_t_with_many_degrees_of_freedom_is_normal():
    """And its prior keeps a scale from collapsing, as a Gaussian's does."""
    params = [torch.zeros(1, 1), torch.zeros(1, 1), torch.full((1, 1), 60.0)]
    x = torch.linspace(-3, 3, 7).unsqueeze(1)

    expected = stats.norm.logpdf(x.numpy())
    np.testing.assert_allclose(
        StudentT().log_prob_per_column(params, x).numpy(), expected, atol=0.05
    )
    narrow = [torch.zeros(1, 1), torch.full((1, 1), -6.0), torch.zeros(1, 1)]
    assert StudentT().log_prior(narrow, torch.ones(1)) < StudentT().log_prior(params, torch.ones(1))


def test_a_value_far_out_costs_a_student_t_a_logarithm_and_stays_finite():
    """Squares would overflow in single precision."""
    params = [torch.zeros(1, 1)] * 3
    x = torch.tensor([[1e5], [1e10], [1e30]])
    costs = StudentT().log_prob_per_column(params, x)[:, 0]

    assert costs.isfinite().all()
    assert (costs[0] - costs[1]) / 5 == pytest.approx(float(costs[1] - costs[2]) / 20, rel=1e-3)


@pytest.mark.parametrize("kind", [Poisson(), NegativeBinomial()], ids=repr)
def test_probabilities_of_counts_sum_to_one(kind):
    """Scores of models can be compared only if each spends a mass of one."""
    params = [torch.full((1, 1), 0.7).double()] * len(kind.depends_on_z)
    counts = torch.arange(400.0).double().unsqueeze(1)

    assert kind.log_prob_per_column(params, counts.sqrt()).exp().sum().item() == pytest.approx(
        1, abs=1e-6
    )


def test_what_is_missing_does_not_count():
    """The density of a row with holes is that of its other cells."""
    kinds = Columnwise([(Gaussian(), 2), (Categorical(3), 1), (Poisson(), 1)])
    depends_on_z, free = draw(4, kinds.n_decoder_outputs), draw(1, kinds.n_free)
    x = torch.cat([draw(4, 2), torch.eye(3).double()[[0, 1, 2, 0]], torch.ones(4, 1)], dim=1)
    holes = x.clone()
    holes[0, 1] = holes[1, 2:5] = holes[2, 5] = torch.nan
    observed = kinds.observed(holes)
    params = kinds.split(depends_on_z, free)
    log_prob_per_column = kinds.log_prob_per_column(params, x)
    expected = log_prob_per_column.sum(-1) - (log_prob_per_column * ~observed).sum(-1)

    assert observed.tolist() == [
        [True, False, True, True],
        [True, True, False, True],
        [True, True, True, False],
        [True, True, True, True],
    ]
    torch.testing.assert_close(kinds.log_prob(params, holes.nan_to_num(), observed), expected)


# -- common values -----------------------------------------------------------------------


def test_a_spiked_column_has_probabilities_at_its_common_values_and_a_density_elsewhere(rng):
    """By the formula, with scipy's normal density."""
    kind = ZeroInflated(2)
    params, x = draw_params(kind, 5), torch.as_tensor(draw_values(ZeroInflated(2), (5,), rng))
    logits = np.concatenate([params[0].numpy().reshape(5, N, 2), np.zeros((5, N, 1))], axis=-1)
    share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    cells = x.numpy().reshape(5, N, 3)
    scale = np.exp(7 * np.tanh(params[2].numpy() / 7))
    number = share[..., 2] * stats.norm.pdf(cells[..., 2], params[1].numpy(), scale)
    expected = np.where(cells[..., 0] == 1, share[..., 0], number)
    expected = np.where(cells[..., 1] == 1, share[..., 1], expected)

    np.testing.assert_allclose(kind.log_prob_per_column(params, x).exp().numpy(), expected)


def test_a_spiked_column_is_found_and_comes_back(rng):
    """Zeros and forties among integers of a data frame, where they gain enough."""
    hours = np.where(rng.random(500) < 0.5, 40, rng.normal(40, 12, 500).round())
    gains = np.where(rng.random(500) < 0.9, 0, np.exp(rng.normal(8, 1, 500)).round())
    X = np.column_stack([hours, gains, rng.normal(40, 12, 500).round()])
    X[::9, 0] = np.nan
    signs = [ColumnHint(j, is_integer=True) for j in range(3)]
    columns = TableEncoder.fit(X, None, "auto", None, signs)
    encoded = columns.transform(X)

    assert [type(kind) for kind in columns.likelihoods] == [ZeroInflated, ZeroInflated, Gaussian]
    assert 40 in columns.classes[0]
    assert columns.classes[1].tolist() == [0]
    # without a type, hours are a scale of a few levels, and gains are amounts
    assert TableEncoder.fit(X, None, "auto", None).likelihoods == [
        Gaussian(),
        ZeroInflated(1),
        Gaussian(),
    ]
    np.testing.assert_allclose(columns.inverse_transform(encoded), X, rtol=1e-9, atol=1e-9)
    assert encoded[gains == 0, columns.likelihoods[0].width].tolist() == [1.0] * (gains == 0).sum()


def test_the_mean_of_a_spiked_column_is_that_of_its_rows(rng):
    """Decoded, frequencies times values, and the others' mean."""
    X = np.where(rng.random((4000, 1)) < 0.6, 0, rng.normal(5, 1, (4000, 1)))
    vae = VAETransformer(1, likelihood="zero_inflated", max_iter=3, random_state=0).fit(X)

    rebuilt = vae.inverse_transform(vae.transform(X))
    drawn = vae.sample(4000, random_state=0)
    assert rebuilt.mean() == pytest.approx(X.mean(), rel=0.25)
    assert (drawn == 0).mean() == pytest.approx(0.6, abs=0.05)
    oracle = np.where(X == 0, np.log(0.6), np.log(0.4) + stats.norm.logpdf(X, 5, 1))
    assert vae.score(X) == pytest.approx(oracle.mean(), abs=0.05)


def test_a_spiked_column_starts_at_its_frequencies_and_moments():
    """So that the first state is a sensible model of the table."""
    loc = torch.tensor([0.5, 0.2, 0.6]).double()  # the others are 0.3 of the rows, 2 on average
    start = ZeroInflated(2).initialize(torch.zeros(1, 3).double(), loc, torch.full_like(loc, 0.3))
    mean = ZeroInflated(2).mean([offset[None] for _, offset in start])[0]

    torch.testing.assert_close(mean, torch.tensor([0.5, 0.2, 2.0]).double())


# -- the rules ---------------------------------------------------------------------------


def learn(values, likelihood="auto", **signs):
    """What one column is."""
    X = np.asarray(values, dtype=float).reshape(-1, 1)
    return TableEncoder.fit(X, None, likelihood, ["a"], [ColumnHint("a", **signs)]).likelihoods[0]


def test_types_say_what_values_cannot(rng):
    """Categories, their order and integers are told by a data frame."""
    assert learn([0, 1, 2] * 10, n_classes=3) == Categorical(3)
    assert learn([0, 1, 2] * 10, n_classes=4) == Categorical(4)
    assert learn([0, 1, 2] * 10, n_classes=3, is_ordered=True) == Ordinal(3)
    assert learn([0, 1] * 10, n_classes=2) == Bernoulli()
    assert learn([0, 1, 2] * 10) == Gaussian()
    assert learn([2] * 10, n_classes=3) is None
    assert isinstance(learn(rng.poisson(2, 500), is_integer=True), Poisson)
    assert isinstance(learn(rng.negative_binomial(1, 0.2, 500), is_integer=True), NegativeBinomial)
    assert learn(rng.normal(50, 3, 500).round(), is_integer=True) == Gaussian()
    assert learn(rng.poisson(2, 500)) == Gaussian()
    assert learn(rng.poisson(2, 500) - 1, is_integer=True) == Gaussian()


def test_values_over_orders_of_magnitude_are_positive(rng):
    """A normal distribution of the logarithms is far better, and only then."""
    assert learn(np.exp(2 * rng.standard_normal(500))) == LogNormal()
    assert learn(np.exp(0.5 * rng.standard_normal(500))) == Gaussian()
    assert learn(-np.exp(2 * rng.standard_normal(500))) == Gaussian()
    assert learn(np.exp(2 * rng.standard_normal(500)) * 1e300 / 1e5) == LogNormal()


@pytest.mark.parametrize(
    ("likelihood", "values", "message"),
    [
        ("lognormal", [0.0, 1.0, 2.0], "column 'a' to have values above 0, but it has 0.0"),
        ("poisson", [0.0, 1.5, 2.0], "column 'a' to have whole numbers of 0 or more, but .* 1.5"),
        ("negative_binomial", [-1.0, 1.0, 2.0], "whole numbers of 0 or more, but it has -1.0"),
        ("bernoulli", [0.0, 1.0, 2.0], "two values, but it has 0.0, 1.0 and 2.0"),
        (Categorical(4), [0.0, 1.0, 2.0], "to have 4 classes, but it has 3"),
    ],
)
def test_a_wish_that_values_contradict_is_refused(likelihood, values, message):
    """The message names the column, the value and the way out."""
    with pytest.raises(ValueError, match=message):
        learn(values, likelihood)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_kind_can_be_asked_for_by_name(name):
    """likelihood='poisson' and so on, and in a dict by column."""
    values = [1.0, 2.0] * 5 if name == "bernoulli" else [1.0, 2.0, 3.0, 2.0] * 5

    assert isinstance(learn(values, name), NAMED[name])
    assert isinstance(learn(values, {"a": name}), NAMED[name])


def test_numbers_can_be_classes():
    """Their values are kept, whatever they are, and others refused."""
    X = np.array([[10.0], [20.0], [40.0]] * 5)
    columns = TableEncoder.fit(X, None, "categorical", None)

    assert columns.likelihoods == [Categorical(3)]
    assert columns.transform(X[:3]).tolist() == np.eye(3).tolist()
    assert columns.inverse_transform(columns.transform(X)).tolist() == X.tolist()
    with pytest.raises(ValueError, match=r"Column 0 has the value 30.0.*10.0, 20.0, 40.0"):
        columns.check_values(np.array([[30.0]]))
    assert np.isnan(columns.check_values(np.array([[30.0]]), unknown_is_missing=True)).all()


# -- there and back ----------------------------------------------------------------------


@pytest.fixture
def table(rng):
    """A column of every kind, some cells missing: (60, 7)."""
    X = np.column_stack(
        [
            rng.normal(100, 5, 60),
            np.exp(3 * rng.standard_normal(60)),
            rng.integers(3, size=60),
            rng.integers(5, size=60),
            rng.poisson(30, size=60),
            rng.choice([3.0, 7.0], size=60),
            np.full(60, 2.5),
        ]
    )
    X[::7, :6] = np.nan
    X[::3, 2] = np.nan
    return X


KINDS_OF_TABLE = ["gaussian", "auto", "categorical", "ordinal", "poisson", "auto", "auto"]


def test_encoding_and_decoding_are_inverse_to_one_another(table):
    """Holes stay holes, whole numbers whole."""
    columns = TableEncoder.fit(table, None, KINDS_OF_TABLE, None)
    encoded = columns.transform(table)

    assert encoded.shape == (60, columns.n_columns) == (60, 8)
    np.testing.assert_allclose(columns.inverse_transform(encoded), table, rtol=1e-12)
    np.testing.assert_allclose(
        columns.inverse_transform(columns.transform(table.astype(np.float32)), rounds=True)[:, 2:],
        table[:, 2:],
    )


def test_units_come_from_the_cells_that_are_there(table):
    """Means and spreads as numpy's functions for NaN have them."""
    columns = TableEncoder.fit(table, None, KINDS_OF_TABLE, None)
    encoded = columns.transform(table)

    np.testing.assert_allclose(np.nanmean(encoded[:, :2], axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(encoded[:, :2], axis=0), 1)


def test_the_measure_is_that_of_the_cells_that_are_there(table):
    """Change of variables: only what was scaled, and of logarithms their slope."""
    columns = TableEncoder.fit(table, None, KINDS_OF_TABLE, None)
    scale = columns.scale * 2.0**columns.exponent
    there = ~np.isnan(table)
    expected = -np.log(scale[0]) * there[:, 0]
    logs = np.nan_to_num(np.log(table[:, 1]))
    expected -= (np.log(scale[1]) + logs) * there[:, 1]
    # the constant column, and those that keep some probability for values never seen
    expected += np.log1p(-1 / 62) * (1 + there[:, 1:6].sum(axis=1))

    np.testing.assert_allclose(columns.log_abs_det_jacobian(table), expected, rtol=1e-9)


def test_a_column_without_any_value_is_constant(rng):
    """Nothing is to be learned of it, and it stays missing."""
    X = rng.standard_normal((20, 2))
    X[:, 1] = np.nan
    columns = TableEncoder.fit(X, None, "auto", None)

    assert columns.likelihoods == [Gaussian(), None]
    assert np.isnan(columns.inverse_transform(columns.transform(X))[:, 1]).all()
    assert np.isfinite(columns.log_abs_det_jacobian(X)).all()


# -- fits --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("student_t", stats.t(3, 5, 2)),
        ("lognormal", stats.lognorm(1.5, scale=3)),
        ("poisson", stats.poisson(3)),
        ("negative_binomial", stats.nbinom(2, 0.2)),
        ("gaussian", stats.norm(2, 3)),
        ("bernoulli", stats.bernoulli(0.3)),
        ("ordinal", stats.binom(4, 0.4)),
        ("categorical", stats.rv_discrete(values=([0, 1, 2], [0.2, 0.5, 0.3]))),
    ],
)
def test_a_column_alone_is_scored_as_the_truth_scores_it(name, oracle):
    """Held-out mean log-density within 0.03 nats of scipy's."""
    train, test = (
        oracle.rvs(size=(2000, 1), random_state=np.random.default_rng(seed)).astype(float)
        for seed in (0, 1)
    )
    vae = VAETransformer(1, likelihood=name, max_iter=8, random_state=0).fit(train)
    log_prob = oracle.logpdf if hasattr(oracle, "pdf") else oracle.logpmf
    try:
        expected = log_prob(test).mean()
    except AttributeError:
        expected = oracle.logpmf(test).mean()

    assert vae.score(test) == pytest.approx(expected, abs=0.03)


@pytest.fixture(scope="module")
def mixed():
    """Columns that depend on a hidden class, as a data frame, and the truth's log-density."""

    def make(n, seed):
        rng = np.random.default_rng(seed)
        hidden = rng.integers(2, size=n)
        return pd.DataFrame(
            {
                "bit": rng.random(n) < np.array([0.2, 0.8])[hidden],
                "class": pd.Categorical.from_codes(
                    [rng.choice(3, p=P[h]) for h in hidden], ["x", "y", "z"]
                ),
                "count": rng.poisson(np.array([2.0, 6.0])[hidden]),
                "real": rng.normal(np.array([-1.0, 2.0])[hidden], 1.0),
            }
        )

    P = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])

    def truth(df):
        parts = [
            np.log(0.5)
            + stats.bernoulli.logpmf(df["bit"], (0.2, 0.8)[h])
            + np.log(P[h][df["class"].cat.codes])
            + stats.poisson.logpmf(df["count"], (2.0, 6.0)[h])
            + stats.norm.logpdf(df["real"], (-1.0, 2.0)[h], 1.0)
            for h in (0, 1)
        ]
        return np.logaddexp(*parts)

    return make, truth


@pytest.mark.parametrize(
    ("n", "max_iter", "error"),
    [(2000, 10, 0.15), pytest.param(4000, 200, 0.05, marks=pytest.mark.slow)],
)
def test_a_mixed_table_is_scored_as_the_truth_scores_it(n, max_iter, error, mixed):
    """Bits, classes, counts and numbers that depend on a hidden class."""
    make, truth = mixed
    train, test = make(n, 0), make(2000, 1)
    vae = VAETransformer(2, max_iter=max_iter, random_state=0).fit(train)

    assert [type(kind) for kind in vae.columns_.likelihoods] == [
        Bernoulli,
        Categorical,
        NegativeBinomial,
        Gaussian,
    ]
    assert vae.score(test) == pytest.approx(truth(test).mean(), abs=error)


def test_columns_that_do_not_depend_on_one_another_are_scored_as_the_truth_scores_them():
    """A bit, three classes, a count and a number: within 0.05 nats."""
    shares = [0.5, 0.3, 0.2]

    def make(n, seed):
        rng = np.random.default_rng(seed)
        return pd.DataFrame(
            {
                "bit": rng.random(n) < 0.3,
                "class": pd.Categorical.from_codes(rng.choice(3, n, p=shares), list("xyz")),
                "count": rng.poisson(2.0, n),
                "real": rng.normal(5, 2, n),
            }
        )

    train, test = make(2000, 0), make(2000, 1)
    vae = VAETransformer(2, max_iter=10, random_state=0).fit(train)
    expected = (
        stats.bernoulli.logpmf(test["bit"], 0.3)
        + np.log(np.array(shares)[test["class"].cat.codes])
        + stats.poisson.logpmf(test["count"], 2.0)
        + stats.norm.logpdf(test["real"], 5, 2)
    )

    assert vae.score(test) == pytest.approx(expected.mean(), abs=0.05)


def test_what_comes_out_is_what_came_in(mixed):
    """Samples and reconstructions have the columns, types and categories of the table."""
    make, _ = mixed
    train = make(300, 0)
    vae = VAETransformer(2, max_iter=2, random_state=0).fit(train)
    for table in (vae.sample(50), vae.inverse_transform(vae.transform(train))):
        assert isinstance(table, pd.DataFrame)
        pd.testing.assert_series_equal(table.dtypes, train.dtypes)
        assert not table.isna().any().any()


def test_a_density_of_logarithms_integrates_to_one(rng):
    """In X's own units, as scores are."""
    X = np.exp(2 * rng.standard_normal((300, 1)))
    vae = VAETransformer(1, max_iter=3, random_state=0).fit(X)

    def density(log_x):
        return np.exp(vae.score_samples(np.exp([[log_x]]))[0] + log_x)

    assert vae.columns_.likelihoods == [LogNormal()]
    mass, _ = integrate.quad(density, -15, 15, limit=200)
    assert mass == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("values", [None, ["low", "middle", "high"]])
def test_an_imputed_ordinal_cell_is_the_likeliest_class_and_not_the_mean_one(values, rng):
    """Two ends that are common and a middle that is rare: nobody is in the middle."""
    place = rng.choice(3, 300, p=[0.5, 0.1, 0.4])
    X, likelihood = np.column_stack([place, rng.normal(size=300)]).astype(float), "auto"
    if values is None:
        likelihood = {0: "ordinal"}
        X[:20, 0] = np.nan
    else:
        steps = pd.Series(pd.Categorical.from_codes(place, values, ordered=True)).mask(
            np.arange(300) < 20
        )
        X = pd.DataFrame({"steps": steps, "number": X[:, 1]})
    vae = VAETransformer(1, likelihood=likelihood, max_iter=5, random_state=0).fit(X)
    filled = np.asarray(vae.impute(X))[:20, 0]

    assert set(filled) <= ({0.0, 2.0} if values is None else {"low", "high"})
