"""VAEOutlierDetector."""

import os
import pickle
import signal
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import kstwobign, norm, rankdata
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_blobs
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAEOutlierDetector, VAETransformer
from sklearn_vae.anomaly.attribution import conditional_nll
from sklearn_vae.anomaly.scores import METHODS, TailDistribution, score_in_batches
from sklearn_vae.data.columns.numbers import PositiveColumns
from sklearn_vae.estimators.estimator_base import called
from tests.conftest import as_table, reread, slow

pd = pytest.importorskip("pandas")

QUICK = {"max_iter": 1, "random_state": 0}
ALL_METHODS = ["auto", "neighbors", *METHODS]


def in_one_setting(methods):
    """Run a test for each method, with and without novelty in turn; the others are slow."""
    pairs = [
        pytest.param(method, novelty, marks=() if novelty == place % 2 else pytest.mark.slow)
        for place, method in enumerate(methods)
        for novelty in (False, True)
    ]
    return pytest.mark.parametrize(("method", "novelty"), pairs)


@pytest.fixture(scope="module")
def wine():
    return load_wine(as_frame=True).data


@pytest.fixture(scope="module")
def fitted(wine):
    return VAEOutlierDetector(**QUICK).fit(wine)


@pytest.fixture(scope="module")
def factors():
    """Function that draws rows of a linear factor model: ten columns, two factors."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(2, 10))

    def draw(n):
        return rng.normal(size=(n, 2)) @ loadings + 0.3 * rng.normal(size=(n, 10))

    return draw


@pytest.mark.parametrize("novelty", [False, *slow(True)])
def test_rows_that_break_a_relation_between_columns_are_outliers(factors, novelty):
    """Each value is frequent in its column; isolation forests find fewer of them."""
    rng = np.random.default_rng(1)
    broken = rng.permuted(factors(80), axis=0)
    normal = factors(500)
    train = normal if novelty else np.vstack([normal, broken[:40]])
    detector = VAEOutlierDetector(novelty=novelty, max_iter=30, random_state=0).fit(train)
    test, truth = np.vstack([factors(300), broken[40:]]), np.repeat([0, 1], [300, 40])
    forest = IsolationForest(random_state=0).fit(train)

    auc = roc_auc_score(truth, -detector.score_samples(test))
    assert auc > 0.85
    assert auc > roc_auc_score(truth, -forest.score_samples(test))


@in_one_setting(ALL_METHODS)
def test_scores_are_finite_and_distant_rows_are_outliers(wine, method, novelty):
    """At 1e2 to 1e300 times a training row; the proportion in training is the contamination."""
    X = wine.to_numpy() + 1e-6 * np.random.default_rng(0).random(wine.shape)
    detector = VAEOutlierDetector(method=method, novelty=novelty, contamination=0.1, **QUICK).fit(X)
    scores = detector.score_samples(X)
    with np.errstate(over="ignore"):
        far = np.vstack([sign * np.logspace(2, 300, 20)[:, None] * X[:1] for sign in (1, -1)])
    far = np.clip(far, -1e300, 1e300)
    found = detector.score_samples(far)

    assert np.isfinite(found).all()
    assert found.max() < scores.min()
    assert (detector.predict(far) == -1).all()
    assert abs((detector.predict(X) == -1).sum() - 17.8) <= 1


def test_the_score_by_neighbors_equals_a_few_lines_of_scikit_learn(wine):
    """Mean distances to half of the rows, in standard deviations or normal scores.

    Columns that are log-normal count by their logarithms.
    """
    X = np.unique(wine.to_numpy(), axis=0)
    detector = VAEOutlierDetector(method="neighbors", **QUICK).fit(X)
    is_log = detector.distance_encoder_.mask(PositiveColumns)
    assert 0 < is_log.sum() < X.shape[1]
    Z = StandardScaler().fit_transform(np.where(is_log, np.log(X), X))
    quantiles = norm.ppf((rankdata(X, axis=0) - 0.5) / len(X))
    scale, from_middle = quantiles.std(axis=0), np.abs(quantiles)
    is_middle = from_middle <= from_middle.min(axis=0) + 1e-9  # one value or two
    low, high = (
        np.array(
            [choose(values, axis=0, where=is_middle, initial=start) for values in (Z, quantiles)]
        )
        for choose, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    median, middle = (low + high) / 2

    def deviations(std):
        in_units, in_scores = (Z - median) / std, (quantiles - middle) / scale
        return np.where(np.abs(in_units) > np.abs(in_scores), in_units, in_scores)

    rows = deviations([np.delete(Z, i, axis=0).std(axis=0) for i in range(len(Z))])
    distances = np.linalg.norm(rows[:, None] - deviations(1), axis=2)
    np.fill_diagonal(distances, np.inf)
    distance = np.sort(distances, axis=1)[:, : len(X) // 2].mean(axis=1)
    expected = -TailDistribution.fit(distance).negative_log_survival(distance)

    np.testing.assert_allclose(detector.score_samples(X), expected)


def test_an_unseen_value_of_a_constant_column_lowers_the_score(wine):
    """Its negative log-probability is log(n + 2), by Laplace's rule of succession."""
    table = wine.assign(year=1990)
    detector = VAEOutlierDetector(novelty=True, **QUICK).fit(table)
    later = table.assign(year=1991)

    assert detector.score_samples(later).max() < detector.score_samples(table).min()
    fitted = detector.estimator_._predictor()
    np.testing.assert_allclose(conditional_nll(fitted, later.to_numpy(float))[:, 13], np.log(180))
    assert (conditional_nll(fitted, table.to_numpy(float))[:, 13] == 0).all()
    seen, unseen = (detector.explain(each).iloc[:, 13] for each in (table, later))
    assert (unseen > seen).all()


@pytest.mark.parametrize("novelty", [False, *slow(True)])
def test_rows_with_holes_are_flagged_like_others_in_any_unit(novelty, rng):
    """A density of fewer cells, in the units of these, is no smaller or larger for that."""
    X = rng.normal(size=(300, 1)) + rng.normal(size=(300, 8))
    X[rng.random(X.shape) < 0.15] = np.nan
    n_missing = np.isnan(X).sum(axis=1)
    detector = VAEOutlierDetector(
        contamination=0.2, novelty=novelty, max_iter=5, random_state=0
    ).fit(X)
    units = 2.0 ** np.array([-10, 10] * 4)
    in_units = clone(detector).fit(X * units)

    is_flagged = detector.fit_predict(X) == -1
    assert abs(is_flagged[n_missing == 0].mean() - is_flagged[n_missing > 0].mean()) < 0.06
    np.testing.assert_allclose(in_units.score_samples(X * units), detector.score_samples(X))


def test_the_most_extreme_row_is_held_out_as_often_as_any_other():
    """Over tables, whatever the seed: it makes p-values large, and without it they are small."""
    rng, detector = np.random.default_rng(0), VAEOutlierDetector(calibration="conformal")
    held_out = []
    for X in rng.normal(size=(400, 20, 1)):
        calibration, _ = detector._choose_rows(X, None, seed=0)
        held_out.append(X.max() in calibration)

    assert np.mean(held_out) == pytest.approx(0.2, abs=0.06)  # three standard errors


@pytest.mark.filterwarnings("ignore:contamination=0.001:UserWarning")  # the rate is 1 / 200
@pytest.mark.parametrize("contamination", [0.001, 0.1])
def test_the_false_positive_rate_of_conformal_calibration_is_the_contamination(contamination, rng):
    """A row is an outlier if its p-value is at most this rate; the smallest rate is 1 / 200."""
    detector = VAEOutlierDetector(
        novelty=True,
        contamination=contamination,
        calibration="conformal",
        calibration_fraction=0.4,
        **QUICK,
    ).fit(rng.normal(size=(498, 3)))
    new = rng.normal(size=(3000, 3))
    labels = detector.predict(new)

    least = max(contamination, 1 / 200)
    np.testing.assert_array_equal(labels == -1, detector.p_values(new) <= least)
    # the rate of one fit is Beta(200 alpha, 200 (1 - alpha))
    assert (labels == -1).mean() < least + 3 * np.sqrt(least / 200)


@in_one_setting(["auto", "log_likelihood"])
def test_a_row_has_the_same_p_value_and_label_alone_and_in_a_batch(method, novelty):
    """Rows of few values have tied scores, whose rounding errors depend on the batch."""
    X = (np.random.default_rng(0).random((150, 3)) < 0.3).astype(float)
    X[::4, 2] = np.nan
    rows = pd.DataFrame(X).drop_duplicates().to_numpy()  # np.unique keeps all rows with NaN
    detector = VAEOutlierDetector(method=method, novelty=novelty, **QUICK).fit(X)
    for function in (detector.p_values, detector.predict):
        alone = np.concatenate([function(row[None]) for row in rows])

        np.testing.assert_array_equal(alone, function(rows))
        np.testing.assert_array_equal(alone, function(np.repeat(rows, 9, axis=0))[::9])


@pytest.mark.parametrize("kind", ["counts", *slow("rounded"), "classes"])
@pytest.mark.parametrize("novelty", [False, *slow(True)])
def test_scores_of_discrete_tables_do_not_depend_on_the_order(kind, novelty, rng):
    """Of rows and of columns, though many neighbours are tied and many rows are repeated.

    The model's weights depend on the order of the columns: its density is not in these scores.
    """
    codes = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 6))
    if kind == "counts":
        table = pd.DataFrame(rng.poisson(np.exp(0.5 + 0.5 * codes)).astype(float))
    else:
        table = pd.DataFrame(np.round(codes + 0.5 * rng.normal(size=codes.shape)).clip(-2, 2))
    table.columns = list("abcdef")
    table = table.astype(str) if kind == "classes" else table
    train, new = table[:300], table[300:]
    shuffled = train.iloc[rng.permutation(300)][list("ebfdac")]
    detector = VAEOutlierDetector(novelty=novelty, method="neighbors", random_state=0, max_iter=1)
    scores = clone(detector).fit(train).score_samples(new)
    reordered = clone(detector).fit(shuffled).score_samples(new[shuffled.columns])

    np.testing.assert_allclose(scores, reordered, rtol=1e-9)


def halves(table):
    """Training rows and new rows from the same distribution."""
    rng = np.random.default_rng(0)
    if table == "normal, 360 x 30":
        mixing = rng.normal(size=(30, 30))
        return rng.normal(size=(360, 30)) @ mixing, rng.normal(size=(2000, 30)) @ mixing
    if table == "normal, 80 x 6":
        return rng.normal(size=(80, 6)), rng.normal(size=(2000, 6))
    if table == "benign":
        X, y = load_breast_cancer(return_X_y=True)
        X = X[y == 1]
    else:
        X = {"wine": load_wine, "digits": load_digits}[table]().data
    X = rng.permutation(X)[:1000]
    return X[::2], X[1::2]


@pytest.mark.parametrize(
    ("novelty", "table", "max_iter"),
    [
        (False, "normal, 80 x 6", 40),
        (True, "normal, 360 x 30", 20),
        *(
            pytest.param(novelty, table, 40, marks=pytest.mark.slow)
            for table in ("wine", "benign", "digits", "normal, 360 x 30", "normal, 80 x 6")
            for novelty in (False, True)
        ),
    ],
)
def test_the_false_positive_rate_among_new_rows_is_the_contamination(novelty, table, max_iter):
    """P-values of new rows are uniform or larger, up to the sampling error of both tables.

    They are larger in the body, where models of halves of the rows are too optimistic.
    """
    train, new = halves(table)
    detector = VAEOutlierDetector(
        contamination=0.1, novelty=novelty, max_iter=max_iter, random_state=0
    ).fit(train)
    chance = np.sqrt(1 / len(train) + 1 / len(new))
    flagged = (detector.predict(new) == -1).mean()
    p = np.sort(detector.p_values(new))

    assert abs(flagged - 0.1) < 3 * 0.3 * chance + 0.01
    most_too_small = (np.arange(1, len(p) + 1) / len(p) - p).max()  # Kolmogorov and Smirnov's
    assert most_too_small < kstwobign.isf(0.001) * chance + 1 / len(train)
    assert (detector.predict(train) == -1).mean() == pytest.approx(0.1, abs=1 / len(train))


@pytest.mark.slow
@pytest.mark.parametrize("n_columns", [2, 100])
def test_the_false_positive_rate_of_few_rows_is_the_contamination(n_columns):
    """Means of five tables; with training rows ranked among themselves it is .2 in 100 columns.

    Models of halves of the rows are more optimistic than that of all: fewer rows are flagged.
    """
    flagged = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        train, new = rng.normal(size=(80, n_columns)), rng.normal(size=(400, n_columns))
        detector = VAEOutlierDetector(
            contamination=0.1, novelty=True, max_iter=1, random_state=seed
        ).fit(train)
        flagged.append((detector.predict(new) == -1).mean())
    chance = 0.3 * np.sqrt((1 / 80 + 1 / 400) / 5)

    assert 0.1 - 3 * chance - 0.03 < np.mean(flagged) < 0.1 + 3 * chance


@pytest.mark.usefixtures("two_threads")
def test_scores_take_bounded_memory(rng):
    """For any number of rows; the rows themselves are 2 MiB here."""
    detector = VAEOutlierDetector(method="log_likelihood", hidden_layer_sizes=8, **QUICK)
    detector.fit(rng.normal(size=(100, 12)))
    rows = rng.normal(size=(20_000, 12))
    tracemalloc.start()
    detector.score_samples(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 64 << 20


@pytest.mark.parametrize("novelty", [False, True])
def test_ctrl_c_during_calibration_restarts_it_with_few_rows(novelty, monkeypatch):
    """Which takes little time."""
    n_rows = []

    def press_once(score, rows):
        n_rows.append(len(rows))
        if len(n_rows) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return score_in_batches(score, rows)

    monkeypatch.setattr("sklearn_vae.anomaly.scores.score_in_batches", press_once)
    X, _ = make_blobs(1200, 3, random_state=0)
    detector = VAEOutlierDetector(novelty=novelty, **QUICK)
    with (
        pytest.warns(ConvergenceWarning, match="fit was interrupted"),
        pytest.raises(KeyboardInterrupt),
    ):
        detector.fit(X)

    assert n_rows[0] > 600
    assert len(detector.reference_samples_) == 250
    assert max(n_rows[1:]) <= 400  # 100 rows, whole and without each column
    assert detector.estimator_.interrupted_
    assert np.isfinite(detector.decision_function(X)).all()


@pytest.mark.parametrize(
    ("method", "calibration", "novelty"),
    [
        ("auto", None, False),
        ("neighbors", "conformal", True),
        *slow(("auto", "conformal", True), ("log_likelihood", None, False)),
    ],
)
def test_integer_weights_equal_repeated_rows(wine, method, calibration, novelty, rng):
    """In any order of the rows; rows of weight 0 are left out."""
    X = wine.to_numpy()[::3]
    weight = rng.integers(4, size=len(X))
    detector = VAEOutlierDetector(method=method, calibration=calibration, novelty=novelty, **QUICK)
    weighted = clone(detector).fit(X, sample_weight=weight)
    repeated = clone(detector).fit(rng.permutation(X.repeat(weight, axis=0)))

    X = X[:9]  # of weights of 0 and more
    np.testing.assert_allclose(weighted.decision_function(X), repeated.decision_function(X))
    np.testing.assert_array_equal(weighted.p_values(X), repeated.p_values(X))
    np.testing.assert_allclose(weighted.explain(X), repeated.explain(X))


@pytest.mark.parametrize("novelty", [False, *slow(True)])
def test_expected_values_are_those_of_the_exact_normal(factors, novelty):
    """Means of each value given the row's others, by the precision matrix."""
    train, rows = factors(1000), factors(60)
    detector = VAEOutlierDetector(novelty=novelty, max_iter=5, random_state=0).fit(train)
    precision = np.linalg.inv(np.cov(train.T))
    centred = rows - train.mean(axis=0)
    expected = rows - centred @ precision / precision.diagonal()
    error = (detector.expected_values(rows) - expected) / train.std(axis=0)

    assert np.sqrt(np.square(error).mean()) < 0.15


@in_one_setting(["auto", "log_likelihood", "reconstruction"])
def test_attributions_add_up_to_the_score_below_the_median(wine, method, novelty):
    """For training rows, distant rows and a row with one extreme value."""
    X = wine.to_numpy()
    detector = VAEOutlierDetector(method=method, novelty=novelty, **QUICK).fit(X)
    rows = np.vstack([X[:50], X[:5] * 3, np.where(np.arange(13) == 4, 1e100, X[:1])])
    scores = detector.score_samples(rows)
    parts = detector.explain(rows)

    assert np.isfinite(parts).all()
    np.testing.assert_allclose(
        parts.sum(axis=1), np.median(detector.score_samples(X)) - scores, rtol=1e-9, atol=1e-9
    )
    assert parts[-1].argmax() == 4


def test_conditional_log_densities_are_those_of_the_exact_normal(rng):
    """Whose conditional densities follow from the precision matrix."""
    covariance = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    X = rng.multivariate_normal(np.zeros(3), covariance, size=3000)
    detector = VAEOutlierDetector(
        n_components=1, hidden_layer_sizes=8, max_iter=30, random_state=0
    ).fit(X)
    new = rng.multivariate_normal(np.zeros(3), covariance, size=200)
    precision = np.linalg.inv(covariance)
    exact = 0.5 * (new @ precision) ** 2 / np.diag(precision) - 0.5
    baseline = detector.attribution_baseline_.conditional_nll
    found = conditional_nll(detector.estimator_._predictor(), new) - baseline

    assert np.abs(found - exact).mean() < 0.15
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("novelty", [False, True])
@pytest.mark.parametrize("n_rows", [2, 3, 9])
def test_few_rows_have_finite_scores(n_rows, novelty):
    """A new one and those of training."""
    X = np.random.default_rng(0).normal(size=(n_rows + 1, 2))
    detector = VAEOutlierDetector(novelty=novelty, **QUICK).fit(X[1:])

    assert np.isfinite(detector.score_samples(X)).all()


def test_conformal_calibration_needs_enough_rows():
    X = np.random.default_rng(0).normal(size=(3, 2))
    with pytest.raises(ValueError, match="leaves 1 of 3 rows to train on"):
        VAEOutlierDetector(calibration="conformal", calibration_fraction=0.6).fit(X)
    whole = VAEOutlierDetector(calibration="conformal", calibration_fraction=0.5, **QUICK).fit(
        np.random.default_rng(0).normal(size=(40, 2))
    )

    assert len(whole.calibration_scores_) == len(whole.reference_samples_) == 20


@pytest.mark.parametrize("contamination", ["auto", 0.05])
def test_a_rate_that_few_calibration_rows_cannot_have_is_warned_of(contamination, rng):
    """Also of the default: eight rows allow no rate below a ninth."""
    detector = VAEOutlierDetector(
        contamination=contamination, novelty=True, calibration="conformal", **QUICK
    )
    with pytest.warns(UserWarning, match=r"contamination=0\.05 is less than .* 1 / \(1 \+ 8\)"):
        detector.fit(rng.normal(size=(40, 3)))


@pytest.mark.parametrize("library", ["pandas", "polars", *slow("pyarrow")])
def test_a_report_names_the_wrong_cell_in_a_sentence(library, wine):
    """A table in the library of X, for a reader who knows the columns and nothing else."""
    wrong = wine.copy()
    wrong.loc[7, "alcohol"] = 3.5
    detector = VAEOutlierDetector(contamination=0.02, random_state=0, max_iter=3).fit(wrong)
    X = as_table(wrong, library)
    table = detector.report(X)
    assert type(table) is type(X)
    report = table if library == "pandas" else table.to_pandas()
    flagged = np.flatnonzero(detector.predict(wrong) == -1)
    scores = detector.score_samples(wrong)

    names = ["row", "column", "value", "expected", "share", "p_value", "sentence"]
    assert [*report.columns] == names
    assert report["share"].between(0, 1).all()
    assert report["share"].idxmax() == report["row"].tolist().index(7)  # others are rare wines
    assert report["row"].tolist() == flagged[np.argsort(scores[flagged])].tolist()
    np.testing.assert_allclose(report["p_value"], detector.p_values(wrong)[report["row"]])
    (cell,) = report[report["row"] == 7].to_dict("records")
    assert cell["column"] == "alcohol"
    assert float(cell["value"]) == 3.5
    assert 10 < float(cell["expected"]) < 15
    one_in = round(1 / cell["p_value"])
    assert cell["sentence"].startswith("alcohol is 3.5, where the rest of the row suggests 1")
    assert cell["sentence"].endswith(f" About 1 in {one_in} rows is as unusual.")


def test_a_gross_error_leaves_other_flagged_rows_their_cells(wine):
    """Its score is a thousand times theirs."""
    rng = np.random.default_rng(0)
    table = wine.assign(cellar=rng.choice(["north", "south"], len(wine)))
    table.loc[3, "alcohol"] *= 1000
    detector = VAEOutlierDetector(contamination=0.05, random_state=0, max_iter=3).fit(table)
    report = detector.report(table)

    assert len(report) > 5
    assert (report["share"] > 0).all()


def test_a_report_has_several_columns_per_row_by_their_attributions(fitted, wine):
    """As many as asked for, and rows by their labels."""
    X = wine.set_axis([f"wine {i}" for i in range(len(wine))])
    report = fitted.report(X, n_columns=3)
    names = fitted.explain(X).loc[report["row"].iloc[0]].nlargest(3).index

    assert report["column"].iloc[:3].tolist() == names.tolist()
    assert (report.groupby("row").size() == 3).all()
    every = fitted.report(X, n_columns=99).groupby("row")["share"].sum()
    np.testing.assert_allclose(every, 1.0)
    assert fitted.report(X, n_columns=99).groupby("row").size().max() <= 13
    with pytest.raises(ValueError, match="n_columns must be an integer"):
        fitted.report(X, n_columns=0)


def test_a_report_computes_the_cells_that_it_lists_alone(fitted, wine, monkeypatch):
    """All columns that occur, of all rows, took a hundred times as long in a wide table."""
    n_computed = []

    def counted(self, X, rows, columns):
        n_computed.append(len(rows))
        return expect(self, X, rows, columns)

    expect = VAEOutlierDetector._expected
    monkeypatch.setattr(VAEOutlierDetector, "_expected", counted)
    report = fitted.report(wine[::4], n_columns=2)

    assert n_computed == [len(report)]
    expected = fitted.expected_values(wine[::4])
    cells = zip(report["row"], report["column"], strict=True)
    np.testing.assert_allclose(report["expected"], [expected.at[cell] for cell in cells])


def test_a_report_has_constant_columns_only_where_they_differ(wine):
    """A value that all rows have makes none of them anomalous."""
    detector = VAEOutlierDetector(**QUICK).fit(wine.assign(year=2020))
    report = detector.report(wine.assign(year=2020), n_columns=99)
    (other,) = detector.report(wine[:1].assign(year=1920)).to_dict("records")

    assert "year" not in set(report["column"])
    assert (other["column"], other["value"], other["expected"]) == ("year", 1920, 2020)


def test_gross_errors_of_one_kind_are_named():
    """Four heights in metres, which the model has learned."""
    rng = np.random.default_rng(0)
    sex = rng.choice(["f", "m"], 100)
    height = (np.where(sex == "m", 177, 165) + rng.normal(0, 6.5, 100)).round()
    table = pd.DataFrame({"sex": sex, "height": height})
    table["weight"] = ((height - 100) * np.exp(rng.normal(0, 0.15, 100))).round(1)
    table["temp"] = (37 + rng.normal(0, 0.4, 100)).round(1)
    table["systolic"] = (130 + rng.normal(0, 15, 100)).round()
    table["ward"] = rng.choice(["a", "b", "c"], 100)
    table.loc[:3, "height"] /= 100
    detector = VAEOutlierDetector(max_iter=10, random_state=0).fit(table)

    assert (detector.explain(table[:4]).idxmax(axis=1) == "height").all()


def test_a_report_of_an_array_numbers_rows_and_columns():
    """They have no names."""
    X = np.random.default_rng(0).normal(size=(100, 3))
    X[5, 1] = 30.0
    report = VAEOutlierDetector(contamination=0.02, **QUICK).fit(X).report(X)

    assert report.iloc[0][["row", "column", "value"]].tolist() == [5, 1, 30.0]
    assert report.iloc[0]["sentence"].startswith("Column 1 is 30, where ")


@pytest.mark.parametrize("library", ["pandas", "polars", *slow("pyarrow")])
def test_attributions_are_a_frame_with_the_columns_of_fit(library, wine):
    """Named columns need no positions; an array has an array."""
    wine = wine[::3].rename_axis("id").assign(kind=pd.Categorical(["a", "b"] * 30))
    plain = VAEOutlierDetector(**QUICK).fit(wine)
    expected = plain.explain(wine[:3])
    assert expected.index.equals(wine.index[:3])
    table, found = as_table(wine, library), expected
    if library != "pandas":
        found = VAEOutlierDetector(**QUICK).fit(table).explain(table[:3])
        assert type(found) is type(table)
        found = found.to_pandas()

    assert [*found.columns] == [*wine.columns]
    assert (found.dtypes == np.float64).all()
    np.testing.assert_allclose(found, expected)


def test_the_threshold_can_be_set(fitted, wine, tmp_path):
    """As to the value that labels, or a budget for inspections, suggest; the file keeps it."""
    detector = pickle.loads(pickle.dumps(fitted))
    detector.offset_ = np.quantile(detector.score_samples(wine), 0.5)

    assert (detector.predict(wine) == -1).sum() == 89
    copy = reread(detector, tmp_path)
    np.testing.assert_array_equal(copy.predict(wine), detector.predict(wine))
    detector.offset_ = -np.inf
    with pytest.raises(
        ValueError, match=r"'offset_' .* must be a finite number\. Got -inf instead"
    ):
        detector.save(tmp_path / "other.vae")


def test_warnings_name_parameters_that_the_detector_has(wine):
    """It has neither learning_rate nor early_stopping, by which a VAETransformer is advised."""
    detector, model = VAEOutlierDetector(max_iter=300, random_state=0), VAETransformer()
    detector.fit(wine[:50])  # a warning would be an error
    diverged = [SimpleNamespace(diverged=True, starts_finite=True)]
    with called(detector), pytest.warns(ConvergenceWarning, match="errors among the largest"):
        model._warn_of_divergence(diverged)

    with pytest.warns(ConvergenceWarning, match=r"a learning_rate smaller than 0\.01 avoids"):
        model._warn_of_divergence(diverged)


@pytest.mark.parametrize(
    ("novelty", "dtype"), [(False, "f4"), (True, "f8"), *slow((False, "f8"), (True, "f4"))]
)
def test_training_rows_are_known_behind_steps_that_round(novelty, dtype):
    """A PCA rounds otherwise in ``fit_transform``: training rows were taken for new ones.

    Each then was its own neighbour, and contamination=0.1 flagged .03 of them.
    """
    X = load_wine().data[:60].astype(dtype)
    detector = VAEOutlierDetector(max_iter=1, novelty=novelty, random_state=0)
    pipeline = make_pipeline(StandardScaler(), PCA(4, svd_solver="full"), detector).fit(X)
    expected = pipeline[-1].calibration_scores_
    alone = [pipeline.score_samples(row[None])[0] for row in X]

    np.testing.assert_allclose(np.sort(pipeline.score_samples(X)), expected, atol=1e-3)
    np.testing.assert_allclose(np.sort(alone), expected, atol=1e-3)
