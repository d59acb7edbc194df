"""What carries no information changes nothing: the reader, holes, units, order, constant columns.

Tables of all kinds of columns are read by every estimator in several forms.
"""

from decimal import Decimal
from functools import partial
from itertools import product

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from tests.conftest import as_table, slow

pd = pytest.importorskip("pandas")

QUICK = {"max_iter": 1, "random_state": 0}
DENSITIES = [VAETransformer(2, **QUICK), VAEDensity(2, mixtures=[(2, "diag")], **QUICK)]
SCORED = [*DENSITIES, VAEOutlierDetector(max_iter=2, random_state=0)]
N_ROWS = 250
densities = pytest.mark.parametrize("estimator", [DENSITIES[0], *slow(DENSITIES[1])])


@pytest.fixture(scope="module", params=[0, pytest.param(1, marks=pytest.mark.slow)])
def table(request):
    """Whole numbers, quarters, cents, amounts that are often 0, counts, reals, and a class."""
    rng = np.random.default_rng(request.param)
    skill = rng.normal(size=N_ROWS)
    return pd.DataFrame(
        {
            "age": np.clip(40 + 12 * rng.normal(size=N_ROWS), 18, 90).round(),
            "rooms": rng.choice([1, 1.25, 1.5, 2.75], N_ROWS, p=[0.1, 0.3, 0.4, 0.2]),
            "price": np.exp(3 + 0.5 * skill).round(2),
            "fine": np.where(rng.random(N_ROWS) < 0.4, 0, rng.gamma(4, 100, N_ROWS).round()),
            "visits": rng.poisson(np.exp(1 + 0.5 * skill)).astype(float),
            "real": skill + 0.5 * rng.normal(size=N_ROWS),
            "kind": rng.choice(["a", "b", "c"], N_ROWS),
        }
    )


@pytest.fixture(scope="module")
def models(table):
    """Each estimator, fitted to the table, by its class."""
    return {type(estimator): clone(estimator).fit(table) for estimator in SCORED}


WHOLE = ["age", "fine", "visits"]
STEPS = {"age": 1, "rooms": 0.25, "price": 0.01, "fine": 1, "visits": 1}


def kinds(model):
    """Likelihoods of the columns, by name."""
    return dict(zip(model.columns_.names, map(str, model.columns_.likelihoods), strict=True))


# -- readers ---------------------------------------------------------------------------------------


def as_decimals(table):
    """Cents as Python's decimals."""
    return table.assign(price=[Decimal(f"{value:.2f}") for value in table["price"]])


READERS = {
    "integers": lambda table: table.astype(dict.fromkeys(WHOLE, int)),
    "nullable integers": lambda table: table.astype(dict.fromkeys(WHOLE, "Int64")),
    "objects": lambda table: table.astype(object),
    "decimals": as_decimals,
    "polars": partial(as_table, library="polars"),
}


@pytest.mark.parametrize(
    ("estimator", "reader"),
    [*product(SCORED[:1], READERS), (SCORED[2], "polars"), *slow(*product(SCORED[1:2], READERS))],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_table_has_the_same_scores_by_every_reader(estimator, reader, table, models):
    """Dtypes and libraries say nothing of the values."""
    model = models[type(estimator)]
    read = READERS[reader](table)
    other = clone(estimator).fit(read)

    assert kinds(other) == kinds(model)
    np.testing.assert_allclose(
        other.score_samples(read), model.score_samples(table), rtol=1e-6, atol=1e-6
    )


# -- recording steps -------------------------------------------------------------------------------


def are_multiples(values, step):
    """Whether all values are multiples of a step, up to rounding."""
    return np.abs(values / step - np.rint(values / step)).max() < 1e-6


@densities
@pytest.mark.parametrize("n_holes", [0, 1, 60])
def test_samples_keep_to_steps_and_ranges(estimator, n_holes, table):
    """Of whole numbers, quarters and cents, also where cells are missing; no amount is negative."""
    holed = table.copy()
    for j, name in enumerate(STEPS):
        holed.loc[holed.index[j : j + n_holes], name] = np.nan
    model = clone(estimator).fit(holed)
    samples = model.sample(400, random_state=0)
    given = model.sample(50, given={"age": 30, "kind": "a"}, random_state=0)

    for drawn in (samples, given):
        for name, step in STEPS.items():
            assert are_multiples(drawn[name].to_numpy(), step), name
            assert (drawn[name] >= 0).all(), name
        assert drawn["price"].between(table["price"].min(), table["price"].max()).all()
    assert (given["age"] == 30).all()
    assert (samples["fine"] == 0).mean() == pytest.approx((table["fine"] == 0).mean(), abs=0.1)


@pytest.mark.parametrize("n_imputations", [None, 3])
def test_imputed_cells_keep_to_steps(n_imputations, table):
    """Cells of a column of whole numbers are whole, means as well as draws."""
    holed = table.copy()
    holed.loc[::9, "visits"] = np.nan
    holed.loc[4::9, "age"] = np.nan
    imputer = VAEImputer(VAETransformer(2, **QUICK), n_imputations=n_imputations, random_state=0)
    result = imputer.fit_transform(holed)
    for filled in result if n_imputations else [result]:
        for name in ("visits", "age"):
            assert are_multiples(filled[name].astype(float).to_numpy(), 1), name


# -- units, order and other columns ----------------------------------------------------------------


@densities
def test_units_move_scores_by_their_logarithms(estimator, table, models):
    """A density is per unit; classes and point masses without a step have none."""
    units = {"rooms": 4.0, "price": 0.01, "real": 1e6}
    changed = table.assign(**{name: unit * table[name] for name, unit in units.items()})
    model, other = models[type(estimator)], clone(estimator).fit(changed)
    moved = other.score_samples(changed) + np.log(list(units.values())).sum()

    assert kinds(other) == kinds(model)
    np.testing.assert_allclose(moved.mean(), model.score_samples(table).mean(), atol=0.05)


@densities
def test_the_order_of_columns_and_rows_decides_nothing(estimator, table, models):
    """Every column is read in the same way."""
    for other in (table.iloc[:, ::-1], table.sample(frac=1, random_state=0)):
        assert kinds(clone(estimator).fit(other)) == kinds(models[type(estimator)])


@densities
def test_constant_and_empty_columns_add_what_they_must(estimator, table, models):
    """The probability that a constant is seen, and nothing for an empty column."""
    model = models[type(estimator)]
    more = table.assign(currency="NOK", nothing=np.nan)
    other = clone(estimator).fit(more)
    expected = model.score_samples(table) + np.log((N_ROWS + 1) / (N_ROWS + 2))

    np.testing.assert_allclose(other.score_samples(more), expected, rtol=1e-6, atol=1e-6)
    assert np.isfinite(other.score_samples(more.assign(nothing="a text")[:5])).all()


@pytest.mark.filterwarnings("ignore:Columns of X hold a value")
@pytest.mark.parametrize("far", [1e3, 1e9])
@densities
def test_the_influence_of_one_far_value_is_bounded(estimator, far, table, models):
    """Wherever it lies, the other rows have about the scores that they had."""
    changed = table.copy()
    changed.loc[7, "real"] = far
    usual, other = models[type(estimator)], clone(estimator).fit(changed)
    rows = table.drop(index=7)
    moved = other.score_samples(rows) - usual.score_samples(rows)

    assert abs(np.median(moved)) < 0.5


@pytest.mark.parametrize("seed", [0, *slow(1, 2)])
def test_point_masses_far_away_leave_other_columns_alone(seed):
    """70 and 1,000 standard deviations: the encoder reads them next to the other numbers."""
    rng = np.random.default_rng(5)
    z, is_off = rng.normal(size=(800, 3)), rng.random(800) < 0.4
    table = pd.DataFrame(
        {
            "a": np.where(is_off, -50, 20 + z[:, 0]),
            "b": np.where(is_off, 1000, 20 + z[:, 0] + 0.2 * z[:, 1]),
            "c": np.where(is_off, 0, np.exp(3 + 0.5 * z[:, 0])),
            "d": z[:, 2],
        }
    )
    samples = VAETransformer(max_iter=30, random_state=seed).fit(table).sample(2000, random_state=0)

    assert samples["d"].std() == pytest.approx(table["d"].std(), rel=0.15)
    assert (samples["a"] == -50).mean() == pytest.approx(is_off.mean(), abs=0.06)


@pytest.mark.parametrize("code", [-1, 999])
@densities
@pytest.mark.filterwarnings("ignore:Columns of X hold a number of nines")
def test_codes_far_away_are_as_frequent_in_samples(estimator, code, table):
    """And the other values keep their own distribution."""
    coded = table.copy()
    coded.loc[:49, "age"] = code
    samples = clone(estimator).fit(coded).sample(2000, random_state=0)["age"]

    assert (samples == code).mean() == pytest.approx(50 / N_ROWS, abs=0.06)
    assert samples[samples != code].between(18, 90).all()
