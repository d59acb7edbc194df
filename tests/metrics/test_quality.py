"""Quality report of sampled tables: tables whose similarity is known."""

import numpy as np
import pytest
from scipy import stats

from sklearn_vae.metrics import quality_report

pd = pytest.importorskip("pandas")


def table(n, seed):
    """Dependent columns of every kind, with missing cells."""
    rng = np.random.default_rng(seed)
    group = rng.integers(3, size=n)
    frame = pd.DataFrame(
        {
            "size": np.where(rng.random(n) < 0.1, np.nan, rng.normal(4 * group, 1)),
            "weight": rng.normal(4 * group, 1),
            "count": rng.poisson(1 + 4 * group),
            "color": np.array(["red", "green", "blue"])[group],
            "alive": rng.random(n) < 0.1 + 0.4 * group,
        }
    )
    frame.loc[rng.random(n) < 0.1, "color"] = None
    return frame


@pytest.fixture(scope="module")
def real():
    return table(1000, 0)


def test_a_table_of_the_same_distribution_cannot_be_told_apart(real):
    report = quality_report(real, table(1000, 1), held_out=table(1000, 2))

    assert min(report.shapes.values()) > 0.93
    assert min(report.trends.values()) > 0.85
    assert report.c2st > 0.85
    assert report.share_nearer == pytest.approx(0.5, abs=0.08)
    assert report.distance == pytest.approx(report.held_out_distance, rel=0.15)
    lines = [line.split()[0] for line in repr(report).splitlines()]
    assert lines == ["shape", "trend", "c2st", "distance", "share_nearer"]


def test_columns_shuffled_one_by_one_have_shapes_and_no_trends(real, rng):
    """The judge sees that nothing depends on anything any more."""
    shuffled = real.apply(lambda column: column.to_numpy()[rng.permutation(len(real))])
    report = quality_report(real, shuffled.astype(real.dtypes))

    assert list(report.shapes.values()) == pytest.approx([1.0] * 5)
    assert report.trend < 0.75
    assert report.c2st < 0.15
    assert report.distance is report.held_out_distance is report.share_nearer is None


def test_copies_of_training_rows_are_nearer_than_held_out_rows(real):
    report = quality_report(real, real.sample(frac=1, random_state=0), held_out=table(500, 2))

    assert report.distance == 0
    assert report.held_out_distance > 0.05
    assert report.share_nearer > 0.95


def test_similarities_are_known_statistics(rng):
    """scipy's Kolmogorov-Smirnov statistic and correlation, and shares of classes by hand."""
    X, S = rng.normal(size=(300, 2)), rng.normal(0.5, 1, (200, 2))
    X[:, 1] += X[:, 0]
    report = quality_report(X, S)
    for j in range(2):
        assert report.shapes[j] == pytest.approx(1 - stats.ks_2samp(X[:, j], S[:, j]).statistic)
    rho = stats.spearmanr(X).statistic, stats.spearmanr(S).statistic
    assert report.trends[0, 1] == pytest.approx(1 - abs(rho[0] - rho[1]) / 2)

    a = pd.DataFrame({"k": list("aabb") * 5, "l": list("xyxy") * 5})
    b = pd.DataFrame({"k": list("aaab") * 5, "l": list("xyxy") * 5})
    report = quality_report(a, b)
    assert report.shapes == pytest.approx({"k": 0.75, "l": 1.0})
    assert report.trends == pytest.approx({("k", "l"): 0.75})  # ax .25 .5, ay .25 .25, bx .25 0


def test_classes_that_the_real_table_lacks_differ(real):
    changed = real.assign(color="pink")
    report = quality_report(real, changed)

    assert report.shapes["color"] == 0
    assert report.c2st < 0.01
    assert "color 0.000" in repr(report)
    assert repr(report).startswith("shape of columns")


def test_missing_cells_count_as_values(real):
    """A sample without missing cells differs by their share."""
    report = quality_report(real, real.dropna(subset=["size"]))

    assert report.shapes["size"] == pytest.approx(1 - real["size"].isna().mean(), abs=1e-9)


def test_a_complete_sample_of_an_incomplete_table_is_warned_of(real):
    """As ``sample`` draws it: similarities are then low because of the missing cells alone."""
    with pytest.warns(UserWarning, match=r"'color' \(\d+\.\d%\), 'size' \(\d+\.\d%\).*Hide"):
        quality_report(real, table(1000, 1).dropna())


def test_columns_of_few_values_are_compared(real):
    """Where nobody answered, in the table or in a fold of the classifier; none is a difference."""
    size = np.where(np.arange(len(real)) < 3, 5.0, np.nan)
    color = pd.Categorical([None] * len(real), categories=["red"])
    rare = real.assign(size=size, weight=np.nan, color=color)
    full = rare.assign(weight=1.0)

    report = quality_report(rare, rare.sample(frac=1, random_state=0), held_out=rare)
    assert report.c2st > 0.85
    assert report.shape == report.trend == 1
    assert quality_report(rare, full).c2st < 0.01


def test_tables_that_cannot_be_compared_are_refused(real):
    with pytest.raises(ValueError, match="at least 5 rows"):
        quality_report(real, real[:3])
    with pytest.raises(ValueError, match="sample must have the columns of real"):
        quality_report(real, real[["size"]])
    numbers = real[["size", "weight"]].to_numpy()
    with pytest.raises(ValueError, match="sample must have the 2 columns of real"):
        quality_report(numbers, numbers[:, :1])
    doubled = real.set_axis(["size"] * real.shape[1], axis=1)
    with pytest.raises(ValueError, match="sample has several columns of one name"):
        quality_report(real, doubled)


def test_columns_without_names_are_columns():
    """A number alone would be read as a similarity."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    first, second, *_ = str(quality_report(X[:30], X[30:])).splitlines()

    assert "lowest: column " in first
    assert " and column " in second
