"""Rows with missing cells: fits, scores, codes, and what is put in the holes."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis
from torch import nn

from sklearn_vae import VAEDensity, VAEImputer, VAETransformer
from sklearn_vae.initialization.factor_analysis import FactorModel
from sklearn_vae.models.vae import ImputationLayer
from sklearn_vae.networks import CustomNetwork
from tests.conftest import bent_rows, condition_normal, slow

pd = pytest.importorskip("pandas")


def hide(X, share, rng):
    """Some cells hidden at random, at least one left in each row."""
    holes = rng.random(X.shape) < share
    holes[holes.all(axis=1), 0] = False
    return np.where(holes, np.nan, X)


class Linear:
    """Linear-Gaussian data, of which every conditional distribution is known."""

    def __init__(self, n_columns=8, n_factors=2, seed=0):
        rng = np.random.default_rng(seed)
        loadings = rng.normal(size=(n_factors, n_columns))
        noise = rng.uniform(0.2, 0.6, n_columns)
        self.loc = 3 * rng.normal(size=n_columns)
        self.covariance = loadings.T @ loadings + np.diag(noise)

    def draw(self, n, seed):
        return np.random.default_rng(seed).multivariate_normal(self.loc, self.covariance, n)

    def filled(self, X):
        """Exact conditional means in the holes."""
        X = X.copy()
        for row in X:
            row[np.isnan(row)] = condition_normal(self.loc, self.covariance, row)[1]
        return X

    def log_prob(self, X):
        """Exact log-density of what is there."""
        return np.array([condition_normal(self.loc, self.covariance, row)[0] for row in X])


@pytest.fixture(scope="module")
def linear():
    return Linear()


@pytest.fixture(scope="module", params=["whole", "with holes"])
def fitted(request, linear):
    """A model of linear-Gaussian rows, learned from whole rows or from rows with holes."""
    X = linear.draw(800, 1)
    if request.param == "with holes":
        X = hide(X, 0.4, np.random.default_rng(2))
    return VAETransformer(2, max_iter=15, random_state=0).fit(X)


@pytest.fixture(scope="module")
def asked(linear):
    """Fresh rows, and the same with 40 % of the cells hidden."""
    X = linear.draw(300, 3)
    return X, hide(X, 0.4, np.random.default_rng(4))


# -- the linear model --------------------------------------------------------------------


def test_factor_analysis_of_whole_rows_is_scikit_learns(linear):
    """Without holes there is an oracle."""
    X = linear.draw(2000, 5)
    model = FactorModel.fit(X, np.ones(len(X)), 2)
    oracle = FactorAnalysis(2, tol=1e-4).fit(X)
    covariance = model.loadings.T @ model.loadings + np.diag(model.residual**2)

    np.testing.assert_allclose(model.loc, X.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(covariance, oracle.get_covariance(), atol=0.03)


def test_factor_analysis_of_rows_with_holes_finds_the_truth(linear):
    """What is missing is integrated out; means of what is there would shrink the covariance."""
    X = hide(linear.draw(4000, 5), 0.4, np.random.default_rng(0))
    model = FactorModel.fit(X, np.ones(len(X)), 2)
    covariance = model.loadings.T @ model.loadings + np.diag(model.residual**2)

    np.testing.assert_allclose(covariance, linear.covariance, rtol=0.1, atol=0.1)


def test_holes_are_filled_with_the_models_conditional_means(linear, asked):
    """As the formula for the normal distribution has them."""
    X, holey = asked
    model = FactorModel.fit(X, np.ones(len(X)), 2)
    filler = ImputationLayer(1, 2, X.shape[1]).double()
    filler.initialize(0, (model.loc, model.loadings, 1 / model.residual**2))
    rows = torch.as_tensor(holey)[None]
    found = filler(rows, ~rows.isnan())[0].numpy()
    exact = Linear()
    exact.loc = model.loc
    exact.covariance = model.loadings.T @ model.loadings + np.diag(model.residual**2)

    np.testing.assert_allclose(found, exact.filled(holey), rtol=1e-9)


# -- scores and imputations --------------------------------------------------------------


def test_scores_of_parts_are_near_the_truth(fitted, linear, asked):
    """Marginal log-density of what is there, within 0.15 nats."""
    _, holey = asked

    assert fitted.score(holey) == pytest.approx(linear.log_prob(holey).mean(), abs=0.15)


def test_imputation_errs_little_more_than_the_exact_conditional_mean(fitted, linear, asked):
    """Within 8 % of what nobody can do better."""
    X, holey = asked
    holes = np.isnan(holey)
    best = np.square(linear.filled(holey) - X)[holes].mean()
    filled = fitted.impute(holey)

    np.testing.assert_array_equal(filled[~holes], X[~holes])
    assert np.square(filled - X)[holes].mean() < 1.08 * best


def test_intervals_of_the_draws_cover_what_was_hidden(fitted, asked):
    """90 % of the cells lie in 90 % intervals, give or take 3 %."""
    X, holey = asked
    holes = np.isnan(holey)
    draws = fitted.impute(holey, n_imputations=200, random_state=0)
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)

    assert draws.shape == (200, *X.shape)
    np.testing.assert_array_equal(draws[:, ~holes], np.repeat(X[None], 200, axis=0)[:, ~holes])
    assert ((low <= X) & (high >= X))[holes].mean() == pytest.approx(0.9, abs=0.035)


def test_a_row_is_filled_alike_alone(fitted, asked):
    """Neither neighbours nor luck decide."""
    _, holey = asked

    np.testing.assert_allclose(
        fitted.impute(holey[:20])[:1], fitted.impute(holey[:1]), rtol=1e-9, atol=1e-9
    )


def test_a_row_of_which_nothing_is_known_has_log_density_zero(fitted):
    """The density of nothing at all is 1, and its filling the mean."""
    nothing = np.full((1, 8), np.nan)

    assert fitted.score_samples(nothing)[0] == pytest.approx(0, abs=0.05)
    expected = fitted.sample(20_000, random_state=0).mean(axis=0)
    np.testing.assert_allclose(fitted.impute(nothing)[0], expected, atol=0.25)


@pytest.mark.parametrize("prior", ["normal", *slow("mixture"), "vamp"])
def test_the_density_of_one_column_integrates_to_one(prior, rng):
    """Codes are drawn from the whole posterior, also where it has two modes."""
    X = np.repeat([[-2.0, -2.0, 1.0], [2.0, 1.0, -1.0]], 150, axis=0)
    X += 0.3 * rng.standard_normal(X.shape)
    vae = VAETransformer(2, prior=prior, max_iter=8, random_state=0).fit(X)
    grid = np.full((51, 3), np.nan)
    grid[:, 1] = np.linspace(-5, 5, 51)
    density = np.exp(vae.score_samples(grid, n_draws=512))

    assert density.sum() * (grid[1, 1] - grid[0, 1]) == pytest.approx(1, abs=0.04)


def test_the_density_of_one_of_many_columns_integrates_to_one(rng):
    """Of eight clusters in five dimensions the default draws found .95 to .98."""
    X = rng.normal(size=(8, 5))[rng.integers(8, size=300)]
    X += 0.2 * rng.standard_normal(X.shape)
    vae = VAETransformer(5, max_iter=20, random_state=0).fit(X)
    grid = np.linspace(-3.5, 3.5, 60)
    rows = np.where(np.eye(5, dtype=bool).repeat(60, axis=0), np.tile(grid, 5)[:, None], np.nan)
    density = np.exp(vae.score_samples(rows)).reshape(5, 60)

    np.testing.assert_allclose(density.sum(axis=1) * (grid[1] - grid[0]), 1, atol=0.015)


# -- objectives, priors, members, chunks -------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"objective": "iwae"}, {"objective": "tc"}, {"objective": "mmd"}, {"prior": "mixture"},
        {"prior": "vamp"}, {"n_init": 2, "ensemble": True}, {"hidden_layer_sizes": ()},
        {"n_components": 1}, {"early_stopping": False},
    ],
    ids=str,
)  # fmt: skip
def test_every_way_of_training_takes_holes(params, linear, asked):
    """Importance weights are those of MIWAE; a pseudo-input has no holes."""
    X = hide(linear.draw(300, 6), 0.3, np.random.default_rng(0))
    vae = VAETransformer(**{"n_components": 2, "max_iter": 1, "random_state": 0, **params}).fit(X)
    holey = asked[1][:50]

    assert abs(vae.score(holey) - linear.log_prob(holey).mean()) < 1.5
    assert np.isfinite(vae.impute(holey)).all()
    assert np.isfinite(vae.impute(holey[:3], n_imputations=2)).all()


@pytest.mark.parametrize("model", [VAETransformer(2, max_iter=2), *slow(VAEDensity(1, max_iter=1))])
def test_means_of_binary_columns_are_rounded_in_data_frames(model):
    """An array gets shares, which err least; data frames one of the two values, by any dtype."""
    rng = np.random.default_rng(0)
    upper = np.where(rng.random(300) < 0.3, 7.0, 3.0)
    X = np.column_stack([upper, rng.normal(size=(300, 2))])
    X[200:, 0] = np.nan
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    imputer = VAEImputer(model, random_state=0)

    filled = imputer.fit_transform(X)[200:, 0]
    np.testing.assert_allclose(filled.mean(), upper[:200].mean(), atol=0.3)
    assert not set(filled) & {3.0, 7.0}
    for frame in (table, table.astype({"a": "Int64"})):
        assert set(imputer.fit_transform(frame)["a"][200:]) <= {3, 7}


@pytest.mark.filterwarnings("ignore:Every column of X has one value")
def test_constant_columns_with_holes_leave_nothing_to_fill_from():
    """What is there of them is one value, and a table of nothing else is a table, too."""
    X = np.array([[0.0, 1.0], [np.nan, 1.0], [0.0, np.nan]])
    vae = VAETransformer(random_state=0).fit(X)

    np.testing.assert_array_equal(vae.impute(X), [[0.0, 1.0]] * 3)
    assert np.isfinite(vae.score_samples(X)).all()


BEGIN_WHOLE = {
    "a mixture": {"prior": "vamp"},
    "full covariances": {"posterior": "full"},
    "linear": {"hidden_layer_sizes": ()},
    "conditional": {"conditional": True},
    "classes": {"n_components": 3, "posterior": "categorical"},
}


@pytest.mark.parametrize("name", BEGIN_WHOLE)
def test_a_model_of_whole_rows_goes_on_with_missing_cells(name, rng):
    """The loss is a number, and learning nothing leaves the scores of whole rows as they were."""
    X = bent_rows(200)
    y = np.where(X[:, 0] > 0, "right", "left")
    still = {"learning_rate": 1e-12, "weight_decay": 0.0}
    params = {"n_components": 2, "hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 2}
    vae = VAETransformer(**{**params, **BEGIN_WHOLE[name]}).fit(X, y).set_params(**still)
    asked = (X, y) if vae.conditional else (X,)
    before = vae.score_samples(*asked)
    vae.partial_fit(hide(X, 0.3, rng), y)

    assert all(np.isfinite(record["loss"]) for record in vae.history_)
    np.testing.assert_allclose(vae.score_samples(*asked), before, atol=1e-3)
    assert np.isfinite(vae.transform(hide(X, 0.3, rng), *asked[1:])).all()


def test_an_encoder_that_cannot_see_missing_cells_says_so_and_stays(rng):
    """Before anything has changed, and with what to do instead."""
    X = bent_rows(200)
    vae = VAETransformer(2, network=CustomNetwork(nn.Linear), max_iter=1, random_state=0).fit(X)
    before = vae.score(X)
    with pytest.raises(ValueError, match=r"missing cells.*had none.*Fit rows with missing cells"):
        vae.partial_fit(hide(X, 0.3, rng))

    assert vae.score(X) == before
    assert not vae.columns_.has_missing


GAP = (-1.0, 1.0)


def two_clusters(n, seed):
    """Rows whose second column is about -2 or 2, of which the others say little."""
    rng = np.random.default_rng(seed)
    side = np.where(rng.random(n) < 0.35, -1.0, 1.0)
    a = 0.3 * side + rng.normal(size=n)
    b = 2 * side + 0.3 * rng.normal(size=n)
    return np.column_stack([a, b, 0.5 * a + 0.4 * rng.normal(size=n)])


def shares_by_a_grid(vae, rows):
    """How much of p(x_1 | the row's others) lies below the gap and in it: (2, n).

    The model's own posterior of two latent dimensions, added up over a grid; values beyond the
    column's bounds are never drawn.
    """
    fitted = vae._predictor()
    columns, model = fitted.columns, fitted.module(np.dtype(np.float64))
    x = torch.as_tensor(columns.transform(rows))[None]
    axis = torch.linspace(-8, 8, 321, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)[None, :, None]  # (1, K, 1, 2)
    with torch.no_grad():
        observed = model.likelihood.observed(x).unsqueeze(1)
        params = model.decode(z)
        log_prob = model.likelihood.log_prob(params, x.nan_to_num().unsqueeze(1), observed)
        weight = (log_prob + model.prior_distribution().log_prob(z))[0].softmax(0)  # (K, n)
        column = columns.order.tolist().index(1)
        low, high = (bound[column] for bound in columns.limits()[:2])
        ends = [columns.transform(np.array([[0, end, 0]]))[0, column] for end in GAP]
        values = torch.as_tensor([low, *ends, high]).clamp(-50, 50)[:, None]
        loc, raw = (part[0, :, 0, column] for part in params[0])
        scale = (7 * torch.tanh(raw / 7)).exp()
        cdf = torch.special.ndtr((values - loc) / scale)  # (4, K)
        parts = ((cdf[1:3] - cdf[:2]) / (cdf[3] - cdf[0])).nan_to_num()  # 0 / 0 far out
        return (parts @ weight).numpy()


@pytest.mark.parametrize("holes", [*slow(0.0), 0.2], ids=["whole", "with holes"])
def test_draws_lie_in_two_modes_as_often_as_the_model_says(holes):
    """Neither between them nor all in the nearer one."""
    X = hide(two_clusters(500, 0), holes, np.random.default_rng(1))
    how = {"max_iter": 40, "n_iter_no_change": 20, "learning_rate": 3e-3, "random_state": 0}
    rows = two_clusters(16, 2)
    rows[:, 1] = np.nan
    rows[:4, 0] = np.nan
    imputer = VAEImputer(VAETransformer(2, **how), n_imputations=2000, random_state=0).fit(X)
    drawn = imputer.transform(rows)[:, :, 1]
    below, between = shares_by_a_grid(imputer.estimator_, rows)

    np.testing.assert_allclose((drawn < GAP[0]).mean(axis=0), below, atol=0.05)
    np.testing.assert_allclose(
        ((drawn > GAP[0]) & (drawn < GAP[1])).mean(axis=0), between, atol=0.03
    )
    assert 0.1 < below.mean() < 0.6
