"""Labels that follow from codes, many to one: samples and imputations agree."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAETransformer
from sklearn_vae.data.relations import find_followers, find_many_to_one
from tests.conftest import assert_file_agrees, slow

pd = pytest.importorskip("pandas")

SEEDS = [0, *slow(1, 2)]


def made(seed, n_rows=400, holes=0.1):
    """Cities, their states and countries, an unrelated class and a number, with holes."""
    rng = np.random.default_rng(seed)
    n_cities = int(rng.integers(6, 20))
    state_of = np.append(np.arange(4), rng.integers(4, size=n_cities - 4))
    city = rng.choice(n_cities, n_rows, p=rng.dirichlet(np.full(n_cities, 2.0)))
    table = pd.DataFrame(
        {
            "country": np.array(["X", "Y"])[state_of[city] // 2],
            "city": [f"c{k}" for k in city],
            "size": state_of[city] + rng.normal(size=n_rows),
            "state": [f"s{k}" for k in state_of[city]],
            "other": rng.choice(["a", "b", "c"], n_rows),
        }
    )
    labels = {f"c{k}": f"s{state}" for k, state in enumerate(state_of)}
    return table.mask(rng.random(table.shape) < holes), labels


def disagree(table, labels):
    """Rows in which a city has another state, or a state another country."""
    country = table["state"].map({"s0": "X", "s1": "X", "s2": "Y", "s3": "Y"})
    is_other = table["city"].map(labels) != table["state"]
    return int((is_other | (country != table["country"])).sum())


def complete(model):
    """Relations of which each code has its labels."""
    return [each for each in model.columns_.many_to_one if not each.is_partial]


def density():
    return VAEDensity(2, mixtures=[(2, "diag")], max_iter=0, random_state=0)


def transformer():
    return VAETransformer(2, max_iter=2, random_state=0)


@pytest.fixture(scope="module")
def fitted():
    table, labels = made(0)
    return density().fit(table), table, labels


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", [density, transformer])
def test_samples_and_imputations_agree(make, seed):
    """In every row, whichever of the columns are missing; observed cells are kept."""
    table, labels = made(seed)
    model = make().fit(table)
    tables = [model.sample(300, random_state=seed), model.impute(table)]
    tables += model.impute(table, 2, random_state=seed)
    for state in "s0", "s3":
        drawn = model.sample(100, given={"state": state}, random_state=seed)
        assert set(drawn["state"]) == {state}
        tables.append(drawn)

    assert [disagree(each, labels) for each in tables] == [0] * len(tables)
    for each in tables[1:4]:
        pd.testing.assert_frame_equal(each.where(table.notna()), table.where(table.notna()))


def test_given_labels_that_contradict_are_warned_of(fitted):
    """All sampled rows have them; an agreeing label is given without a word."""
    model, _, labels = fitted
    other = next(state for state in labels.values() if state != labels["c0"])
    model.sample(1, given={"city": "c0", "state": labels["c0"]})

    with pytest.warns(UserWarning, match="no row had together in fit.*'city', 'state'"):
        drawn = model.sample(5, given={"city": "c0", "state": other, "size": 1.0}, random_state=0)
    assert set(drawn["state"]) == {other}


@pytest.mark.parametrize("seed", SEEDS)
def test_other_columns_are_not_changed(seed):
    """Only labels that are drawn or imputed, and codes where a label is given.

    Densities are divided by the probability of rows that agree, where their labels are known.
    """
    table, _ = made(seed)
    model = density().fit(table)
    with_labels = model.sample(200, random_state=0), model.impute(table)
    scores = model.score_samples(table)
    known, log_kept = (
        table[["country", "city", "state"]].notna().all(axis=1),
        model.columns_.log_kept,
    )
    model.columns_.many_to_one.clear()
    without = model.sample(200, random_state=0), model.impute(table)

    np.testing.assert_allclose(model.score_samples(table), scores + log_kept * known)
    for some, others in zip(with_labels, without, strict=True):
        pd.testing.assert_frame_equal(some[["size", "other"]], others[["size", "other"]])
    pd.testing.assert_series_equal(with_labels[0]["city"], without[0]["city"])


def test_one_contradiction_refuses_a_label():
    table, _ = made(0, holes=0)
    row = table.index[table["state"] == "s0"][0]
    table.loc[row, "state"] = "s1"
    found = density().fit(table).columns_.many_to_one

    of_city = [each for each in found if table.columns[each.code] == "city"]
    assert "state" not in {
        table.columns[j] for each in of_city if not each.is_partial for j in each.labels
    }


@pytest.mark.parametrize("n_levels", [5, 60, 200])
@pytest.mark.parametrize("share", [0.5, 0.02])
def test_nothing_follows_by_chance(n_levels, share, rng):
    """Also from codes that few rows repeat, and to labels of which one is rare."""
    for _ in range(200):
        X = np.column_stack([rng.integers(n_levels, size=200), rng.random(200) < share])
        followers = [
            find_followers(X.astype(float), j, np.array([1 - j]), np.ones(len(X))) for j in (0, 1)
        ]
        assert find_many_to_one(followers, np.arange(2)) == []


def test_two_codes_of_one_label_agree(rng):
    """The coarser code follows where the finer one is drawn, and is kept where it is given."""
    label = rng.integers(3, size=900)
    names = {"model": 3 * rng.integers(5, size=900) + label,
             "engine": 3 * rng.integers(3, size=900) + label, "brand": label}  # fmt: skip
    table = pd.DataFrame({name: values.astype(str) for name, values in names.items()})
    model = transformer().fit(table)
    for given in ({}, {"engine": "4"}, {"brand": "2"}):
        drawn = model.sample(300, given=given, random_state=0)
        model_, engine, brand = (drawn[name].astype(int) for name in names)
        assert (model_ % 3 == brand).all()
        assert (engine % 3 == brand).all()
        assert all((drawn[name] == value).all() for name, value in given.items())


EDGES, BANDS = [0, 29, 59, 99], ["young", "middle", "old"]


def bands(n_rows=300, holes=0.1):
    """Ages and their bands, shops with a region and a price, incomes and whether they are high."""
    rng = np.random.default_rng(0)
    age, shop = rng.integers(18, 90, n_rows), rng.integers(100, 130, n_rows)
    income = np.exp(10 + 0.5 * rng.normal(size=n_rows)).round(2)
    table = pd.DataFrame(
        {"age": age, "shop": shop, "region": np.array(list("nesw"))[shop % 4],
         "price": shop % 7 + 0.25, "decade": age // 10 * 10, "income": income,
         "is_rich": income > 22000}
    )  # fmt: skip
    table["band"] = pd.cut(age, EDGES, labels=BANDS)
    return table.mask(rng.random(table.shape) < holes)


@pytest.mark.parametrize("make", [density, transformer])
def test_labels_of_numbers_agree(make):
    """Bands of ages, and what belongs to a number that names something, as the region of a shop."""
    table = bands()
    model = make().fit(table)
    for rows in model.sample(300, random_state=0), model.impute(table):
        age, shop = rows["age"], rows["shop"]
        assert (rows["band"] == pd.cut(age, EDGES, labels=BANDS)).all()
        assert (rows["decade"] == age // 10 * 10).all()
        assert (rows["region"] == np.array(list("nesw"))[shop.astype(int) % 4]).all()
        assert (rows["price"] == shop % 7 + 0.25).all()
        assert ((rows["income"] > 22000) == rows["is_rich"].astype(bool)).mean() > 0.99
    given = model.sample(100, given={"band": "old"}, random_state=0)
    assert (given["age"] > 59).all()


def test_identifiers_keep_what_their_labels_tell(rng):
    """Five visits of 120 persons, whose number says nothing by its size."""
    person = np.repeat(np.arange(120), 5)
    arm, age = rng.choice(["A", "B"], 120)[person], rng.integers(30, 80, 120)[person]
    visit = np.tile(np.arange(5.0), 120)
    pressure = 120 + 0.5 * age - 5 * visit * (arm == "A") + rng.normal(0, 4, 600)
    table = pd.DataFrame(
        {"person": person, "arm": arm, "age": age, "visit": visit, "pressure": pressure.round(1)}
    )
    model = VAETransformer(max_iter=20, random_state=0).fit(table)
    assert [each.is_identifier for each in complete(model)] == [True]
    samples = model.sample(3000, random_state=0)
    known = table.drop_duplicates("person").set_index("person").loc[samples["person"]]

    assert (known["arm"].to_numpy() == samples["arm"]).all()
    assert (known["age"].to_numpy() == samples["age"]).all()
    assert samples["person"].nunique() > 100
    assert samples["age"].corr(samples["pressure"]) > 0.6 * np.corrcoef(age, pressure)[0, 1]
    mean = samples.groupby(["arm", "visit"])["pressure"].mean()
    assert mean["A", 4] - mean["A", 0] < -12
    assert abs(mean["B", 4] - mean["B", 0]) < 6


@pytest.mark.parametrize("make", [density, transformer])
def test_grades_of_totals_agree(make, rng):
    """Where the number is itself derived from others, as the score of a questionnaire."""
    table = pd.DataFrame(rng.integers(0, 5, (300, 4)), columns=list("abcd"))
    table["total"] = table.sum(axis=1)
    table["grade"] = pd.cut(table["total"], [-1, 5, 10, 20], labels=["mild", "some", "severe"])
    model = make().fit(table)
    holed = table.mask(rng.random(table.shape) < 0.3)
    for rows in (
        model.sample(300, random_state=0),
        model.sample(100, given={"grade": "severe"}, random_state=0),
        model.impute(holed),
    ):
        assert (rows["total"] == rows[list("abcd")].sum(axis=1)).all()
        grades = pd.cut(rows["total"], [-1, 5, 10, 20], labels=["mild", "some", "severe"])
        assert (rows["grade"] == grades).all()


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_labels_that_depend_on_a_number_do_not_follow_from_it(noise, rng):
    """Also where the number is rounded, so that many rows repeat one with the same label."""
    for decimals in (0, 1, 6):
        x = rng.normal(size=300)
        table = pd.DataFrame(
            {"x": x.round(decimals), "label": x + noise * rng.normal(size=300) > 1, "z": x**2}
        )
        assert complete(transformer().fit(table)) == []


@pytest.mark.parametrize("is_weighted", [True, False])
def test_copies_of_rows_are_no_evidence(is_weighted, rng):
    """As of a class that was sampled more often: nothing follows from a number of its rows."""
    x = rng.normal(size=200)
    table = pd.DataFrame(
        {"x": x, "pay": np.exp(8 + x).round(2), "label": x + rng.normal(size=200) > 0}
    )
    times = np.where(table["label"], 9, 1)
    if is_weighted:
        model = transformer().fit(table, sample_weight=times)
    else:
        model = transformer().fit(table.loc[table.index.repeat(times)])
    share = model.sample(1000, random_state=0)["label"].mean()

    assert complete(model) == []
    assert share == pytest.approx(np.average(table["label"], weights=times), abs=0.05)


def test_labels_of_small_counts_agree(rng):
    """Rows of few values are copies by chance, and evidence."""
    children = rng.poisson(0.8, 300)
    table = pd.DataFrame(
        {
            "adults": 1 + rng.binomial(2, 0.5, 300),
            "children": children,
            "family": np.select([children == 0, children < 3], ["none", "small"], "large"),
        }
    )

    (relation,) = complete(transformer().fit(table))
    assert (relation.code, relation.labels.tolist()) == (1, [2])


@pytest.mark.parametrize("seed", SEEDS)
def test_one_number_with_a_label_of_its_own_is_no_evidence(seed):
    """As an amount of 0, which is paid by nothing: others are paid in any way.

    That is a label of one code, and a code of one label.
    """
    rng = np.random.default_rng(seed)
    amount = np.where(rng.random(100) < 0.3, 0, np.exp(rng.normal(3, 1, 100)))
    paid_by = np.where(amount == 0, "nothing", rng.choice(["card", "cash", "bill"], 100))
    table = pd.DataFrame({"amount": amount, "paid_by": paid_by, "age": rng.normal(size=100)})

    model = transformer().fit(table)
    assert complete(model) == []
    assert len(model.columns_.many_to_one) == 2
    drawn = model.sample(500, random_state=0)
    assert ((drawn["amount"] == 0) == (drawn["paid_by"] == "nothing")).all()


def survey(n_rows=500, seed=0):
    """Smokers and their cigarettes, men and women and their pregnancies, and their heights."""
    rng = np.random.default_rng(seed)
    smokes, sex = rng.choice(["never", "former", "daily"], n_rows), rng.choice(["m", "f"], n_rows)
    return pd.DataFrame(
        {"smokes": smokes, "sex": sex, "height": rng.normal(165, 6, n_rows) + 12 * (sex == "m"),
         "cigarettes": np.where(smokes == "daily", 1 + rng.poisson(10, n_rows), 0),
         "pregnancies": np.where(sex == "f", rng.poisson(1.2, n_rows), 0)}
    )  # fmt: skip


def contradicts(rows):
    """Rows that smoke and do not, and men with pregnancies."""
    is_smoker = (rows["smokes"] != "daily") & (rows["cigarettes"] > 0)
    return is_smoker | ((rows["sex"] == "m") & (rows["pregnancies"] > 0))


@pytest.mark.parametrize("make", [density, transformer])
def test_labels_of_some_codes_agree(make, tmp_path):
    """In samples, imputations and where labels are given; a row that contradicts scores low."""
    table = survey()
    model = make().fit(table)
    holed = table.mask(np.random.default_rng(1).random(table.shape) < 0.3)
    for rows in (
        model.sample(1000, random_state=0),
        model.sample(200, given={"cigarettes": 20}, random_state=0),
        model.sample(200, given={"sex": "m"}, random_state=0),
        model.impute(holed),
        *model.impute(holed, 2, random_state=0),
    ):
        assert not contradicts(rows).any()
    wrong = table[table["sex"] == "m"].assign(pregnancies=1)
    right = table[table["sex"] == "f"].assign(pregnancies=1)
    assert model.score(wrong) < model.score(right) - 4
    assert_file_agrees(model, table[:60], tmp_path)


def independent():
    return VAEDensity(2, mixtures=[(1, "diag")], max_iter=0, random_state=0)


@pytest.mark.parametrize("make", [independent, density, transformer])
def test_densities_of_rows_that_agree_sum_to_one(make, rng):
    """But for the probability of those that do not, also where the model knows nothing of it."""
    a = rng.choice(["x", "y", "z"], 400, p=[0.5, 0.3, 0.2])
    b = np.where(a == "x", "u", rng.choice(["u", "v", "w"], 400))
    c = rng.choice(["p", "q"], 400)
    model = make().fit(pd.DataFrame({"a": a, "b": b, "c": c}))
    every = pd.DataFrame(
        [(x, y, z) for x in "xyz" for y in "uvw" for z in "pq"], columns=["a", "b", "c"]
    )
    is_broken = (every["a"] == "x") & (every["b"] != "u")
    p = np.exp(model.score_samples(every))
    assert model.columns_.log_kept < (-0.1 if make is independent else 0)
    assert p[~is_broken].sum() == pytest.approx(1, abs=0.02)
    assert p[is_broken].sum() < 0.01


def test_files(fitted, tmp_path):
    model, table, labels = fitted
    rows = assert_file_agrees(model, table, tmp_path).impute(table)
    assert disagree(rows, labels) == 0
