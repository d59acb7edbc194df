"""The methods, one by one."""

import pickle

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Gaussian

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def digits():
    X = load_digits().data
    return train_test_split(X[:900], random_state=0)


@pytest.fixture(scope="module")
def vae(digits):
    return VAETransformer(4, max_iter=8, random_state=0).fit(digits[0])


def test_reconstructions_of_digits_are_better_than_those_of_pca(vae, digits):
    """The same four numbers per row, less error on rows never seen."""
    _, test = digits
    pca = PCA(4).fit(digits[0])
    linear = np.square(test - pca.inverse_transform(pca.transform(test))).mean()
    ours = np.square(test - vae.inverse_transform(vae.transform(test))).mean()

    assert ours < 0.8 * linear


def test_columns_of_incomplete_rows_stay_dependent():
    """Slopes of samples are .85 times those of the whole rows, .68 with independent dimensions."""
    ratios = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        factors, noise = rng.normal(size=(2, 300)), rng.normal(size=(4, 300))
        a = factors[0] + 0.5 * noise[0]
        b = 0.6 * factors[0] + 0.8 * factors[1] + 0.3 * noise[1]
        c = 0.5 * factors[1] + noise[2]
        whole = np.column_stack([a, b, c, 0.7 * a - 0.5 * b + 0.3 * c + 0.6 * noise[3]])
        X = whole.copy()
        for column in (0, 1, 3):
            X[rng.random(300) < special.expit(c - 0.7), column] = np.nan
        sampled = VAETransformer(random_state=seed).fit(X).sample(4000, random_state=0)
        ours, true = (
            LinearRegression().fit(rows[:, :3], rows[:, 3]).coef_[:2] for rows in (sampled, whole)
        )
        ratios.append(ours / true)

    assert 0.78 < np.mean(ratios) < 1.1


def test_interpolation_begins_and_ends_at_the_reconstructions_of_the_rows(vae, digits):
    """Both ends are the rows' reconstructions, and the steps between are even in z."""
    a, b = digits[1][:2]
    walk = vae.interpolate(a, b, 5)
    ends = vae.inverse_transform(vae.transform(np.stack([a, b])))

    assert walk.shape == (5, 64)
    np.testing.assert_allclose(walk[[0, -1]], ends, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n", [0, 2.5, "many", True, 10**30])
def test_n_samples_and_n_draws_must_be_positive_integers(vae, digits, n):
    """n_samples and n_draws are whole numbers above 0."""
    with pytest.raises(ValueError, match="n_samples must be an integer between 1 and 2147483647"):
        vae.sample(n)
    with pytest.raises(ValueError, match="n_draws must be an integer between 1 and 65536"):
        vae.score_samples(digits[1], n_draws=n)


@pytest.mark.parametrize("random_state", [-1, 2**32, 1.5, "luck"])
def test_the_random_state_of_samples_is_checked_like_the_estimators(vae, random_state):
    """The message names it, the value and what is allowed."""
    with pytest.raises(
        ValueError, match=r"'random_state' parameter of VAETransformer\.sample"
    ) as e:
        vae.sample(2, random_state=random_state)

    assert repr(random_state) in str(e.value)
    assert "an int in the range [0, 4294967295]" in str(e.value)


def test_codes_of_another_number_of_columns_are_refused(vae):
    """The message names both widths."""
    with pytest.raises(ValueError, match=r"X has 3 columns.*n_components=4"):
        vae.inverse_transform(np.zeros((2, 3)))


def test_partial_fit_on_chunks_lowers_the_loss():
    """Each call passes once over its rows and lowers the loss; the first settles the units."""
    X = StandardScaler().fit_transform(load_breast_cancer().data)
    vae = VAETransformer(4, batch_size=32, random_state=0)
    for _ in range(4):
        for chunk in np.array_split(X, 4):
            vae.partial_fit(chunk)
    first, last = vae.history_[0]["loss"], vae.history_[-1]["loss"]

    assert vae.n_iter_ == 16
    assert vae.n_steps_ == 4 * sum(-(-len(chunk) // 32) for chunk in np.array_split(X, 4))
    assert last < first - 1
    with pytest.raises(ValueError, match="features"):
        vae.partial_fit(X[:, :3])


def test_further_rows_do_not_undo_a_fit(rng):
    """A pass at the rate of the first steps would cost nats."""
    X = np.tanh(rng.normal(size=(600, 2)) @ rng.normal(size=(2, 6)))
    X += 0.1 * rng.normal(size=X.shape)
    vae = VAETransformer(2, max_iter=30, random_state=0).fit(X[:200])
    before = vae.score(X[400:])

    assert vae.partial_fit(X[200:400]).score(X[400:]) > before


@pytest.mark.filterwarnings("ignore:Training diverged")
def test_partial_fit_recovers_from_a_chunk_that_diverged():
    """Moments that are not finite would make every later step so."""
    X = load_breast_cancer().data[:, :3]
    vae = VAETransformer(2, random_state=0, batch_size=20).partial_fit(X)
    vae.set_params(learning_rate=1e30).partial_fit(X)
    vae.set_params(learning_rate=1e-3).partial_fit(X)

    assert np.isfinite(vae.history_[-1]["loss"])
    assert np.isfinite(vae.score(X))


def test_codes_are_decoded_by_the_name_of_pca_s_argument(vae):
    """So that nothing but y is asked for by metadata routing."""
    codes = np.zeros((2, vae.architecture_.n_components))

    assert vae.inverse_transform(X=codes).shape == (2, vae.n_features_in_)
    assert not hasattr(vae, "set_inverse_transform_request")


def test_module_is_the_torch_model(vae, digits):
    """Who wants torch gets the module, in inference's state."""
    x = torch.as_tensor(vae.columns_.transform(digits[1]))[None]
    codes = vae.module_.posterior.mean(vae.module_.encode(x))[0]

    np.testing.assert_allclose(codes, vae.transform(digits[1]), rtol=1e-6, atol=1e-6)


def test_reconstructions_keep_the_index_of_codes():
    """pandas aligns by index: X minus a reconstruction numbered from 0 would be NaN."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 3)), columns=list("abc"))
    frame.index = [f"row {i}" for i in range(120)]
    vae = VAETransformer(max_iter=1, random_state=0).set_output(transform="pandas").fit(frame)
    codes = vae.transform(frame[5:8])

    assert list(vae.inverse_transform(codes).index) == ["row 5", "row 6", "row 7"]
    assert list(vae.inverse_transform(codes.to_numpy()).index) == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 3),
        ("hidden_layer_sizes", (7,)),
        ("likelihood", Gaussian(scale="per_column")),
        ("likelihood", [Gaussian(scale="per_column"), "auto", "auto", "auto"]),
    ],
)
def test_further_training_refuses_other_shapes(name, value):
    """Weights of one model cannot go on in another; the message names the parameter."""
    X = np.random.default_rng(0).normal(size=(120, 4))
    vae = VAETransformer(2, max_iter=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match=f"'{name}' parameter must be"):
        vae.set_params(**{name: value}).partial_fit(X)
    with pytest.raises(ValueError, match="features"):
        vae.partial_fit(X[:, :3])


def test_interpolation_checks_its_arguments(vae):
    """Both by name."""
    with pytest.raises(ValueError, match="n_steps must be an integer between 1 and 2147483647"):
        vae.interpolate(np.zeros(64), np.zeros(64), 0)
    with pytest.raises(ValueError, match="x0 must be one row: X has 3 features"):
        vae.interpolate(np.zeros(3), np.zeros(64))
    with pytest.raises(ValueError, match=r"x1 must be one row\. Got 2"):
        vae.interpolate(np.zeros(64), np.zeros((2, 64)))
    with pytest.raises(ValueError, match=r"x1 must be one row: .* infinity .*, in column 3"):
        vae.interpolate(np.zeros(64), np.where(np.arange(64) == 3, np.inf, 0))


# -- several starts --------------------------------------------------------------------------


def moons(n=240, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.column_stack([a, a**2, rng.integers(0, 2, n)]) + 0.2 * rng.normal(size=(n, 3))


def members(vae):
    """A model of each member alone."""
    for member in range(len(vae.state_dict_["free"])):
        one = pickle.loads(pickle.dumps(vae))
        one.state_dict_ = {name: value[[member]] for name, value in vae.state_dict_.items()}
        yield one


def starts(**params):
    few = {"n_components": 1, "max_iter": 8, "hidden_layer_sizes": (8,), "random_state": 0}
    return VAETransformer(**{**few, **params})


def test_n_init_is_1_by_default():
    """n_init=1 is the fit as it is without it, to the bit; an ensemble of one is the same."""
    X = moons()
    expected = starts().fit(X).score_samples(X)

    np.testing.assert_array_equal(starts(n_init=1).fit(X).score_samples(X), expected)
    one = starts(n_init=1, ensemble=True).fit(X)
    np.testing.assert_array_equal(one.score_samples(X), expected)


def test_an_ensemble_has_five_members_by_default():
    """One model is none."""
    vae = starts(ensemble=True, max_iter=1).fit(moons())

    assert {len(value) for value in vae.state_dict_.values()} == {5}


def test_the_initialization_of_the_lowest_validation_loss_is_kept():
    """Not the one with the lowest training loss; the history is its own."""
    X = moons()

    def best(n_init):
        history = starts(n_init=n_init, refit=False, max_iter=50, random_state=2).fit(X).history_
        return min(row["val_loss"] for row in history)

    bests = [best(n_init) for n_init in (1, 4)]

    assert bests == sorted(bests, reverse=True)
    assert bests[-1] < bests[0]


def test_the_density_of_an_ensemble_is_the_mean_of_the_members_densities():
    """log-mean-exp of the members' scores, each computed by a model of that member alone."""
    X = moons()
    vae = starts(n_init=3, ensemble=True).fit(X)
    alone = [one.score_samples(X) for one in members(vae)]
    expected = special.logsumexp(alone, axis=0) - np.log(3)

    assert len({scores.mean() for scores in alone}) == 3
    # rows that need more draws for one member get them for all
    np.testing.assert_allclose(vae.score_samples(X), expected, atol=2e-2)
    scores, std = vae.score_samples(X, return_std=True)
    np.testing.assert_allclose(scores, expected, atol=2e-2)
    assert (std > 0).all()


def test_codes_of_an_ensemble_are_the_best_members():
    """A mean of codes of different models would mean nothing."""
    X = moons()
    every = starts(n_init=3, ensemble=True, random_state=1).fit(X)
    best = starts(random_state=1).fit(X)  # this seed's first start is the best of the three
    Z = best.transform(X)

    assert all(len(value) == 3 for value in every.state_dict_.values())
    np.testing.assert_allclose(every.transform(X), Z, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        every.inverse_transform(Z), best.inverse_transform(Z), rtol=1e-7, atol=1e-9
    )
    assert [row["iteration"] for row in every.history_] == [
        row["iteration"] for row in best.history_
    ]


def test_samples_of_an_ensemble_have_the_moments_of_the_mixture():
    """Means are those of the members' means, variances also hold the distances between them."""
    X = moons()
    vae = starts(n_init=2, ensemble=True, max_iter=2, learning_rate=3e-2).fit(X)
    parts = [one.sample(20000, random_state=k) for k, one in enumerate(members(vae))]
    expected = np.vstack(parts)
    rows = vae.sample(40000, random_state=5)

    assert np.abs((rows.mean(0) - expected.mean(0)) / expected.std(0)).max() < 0.03
    assert np.linalg.norm(np.cov(rows.T) - np.cov(expected.T)) < 0.08 * np.linalg.norm(
        np.cov(expected.T)
    )
    np.testing.assert_array_equal(vae.sample(7, random_state=5), vae.sample(7, random_state=5))


@pytest.mark.parametrize("n_init", [1, 2])
def test_an_ensemble_refuses_further_training(n_init):
    """Refused from the first call on, so that nobody finds out at the second."""
    vae = starts(n_init=n_init, ensemble=True, max_iter=1)
    for _ in range(2):
        with pytest.raises(ValueError, match="'ensemble' parameter of VAETransformer must be"):
            vae.partial_fit(moons())
        vae.fit(moons())


@pytest.mark.parametrize("n_rows", [90, 200])
def test_training_does_not_undo_a_precise_start(n_rows):
    """Columns that follow from three factors up to a hundredth: a plain step is far too long."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n_rows + 300, 3)) @ rng.normal(size=(3, 40))
    rows += 0.01 * rng.normal(size=rows.shape)
    train, test = rows[:n_rows], rows[n_rows:]
    vae = VAETransformer(3, likelihood="gaussian", random_state=0).fit(train)

    assert vae.score(test) > PCA(3).fit(train).score(test) - 10  # of 108; a plain step loses 41


def test_few_wide_rows_are_not_overfitted():
    """Of rows with more cells than the table has rows, a few that are held out end the training."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(360, 2)) @ rng.normal(size=(2, 150)) + rng.normal(size=(360, 150))
    vae = VAETransformer(random_state=0).fit(rows[:60])

    assert "val_loss" in vae.history_[0]
    assert vae.n_components_ == 6
    assert vae.score(rows[60:]) > PCA(6).fit(rows[:60]).score(rows[60:])
    assert "val_loss" not in VAETransformer(random_state=0).fit(rows[:39, :6]).history_[0]
