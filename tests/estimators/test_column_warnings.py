"""Warnings of columns that a model would misread."""

import numpy as np
import pytest

from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer
from tests.conftest import slow

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.usefixtures("few_steps")

SMALL = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}
X = np.random.default_rng(0).normal(size=(40, 3))
ESTIMATORS = [VAETransformer(2, **SMALL), VAEDensity(2, **SMALL), VAEOutlierDetector(**SMALL)]


def test_identifier_columns_are_warned_of():
    """A column of strings that hardly any two rows share is an identifier; one warning for all."""
    names = [f"person {i}" for i in range(40)]
    frame = pd.DataFrame(X).rename(columns=str).assign(name=names, town=["a", "b"] * 20)
    message = r"most of the rows.*: 'name' \(40 in 40 rows\)\. .*parse it if it holds dates"
    with pytest.warns(UserWarning, match=message):
        VAETransformer(2, **SMALL).fit(frame)
    VAETransformer(2, **SMALL).fit(frame.drop(columns="name"))  # a warning would be an error

    more = frame.assign(**{f"code {i}": names for i in range(6)})
    with pytest.warns(UserWarning, match=r"'code 3' \(40 in 40 rows\) and 2 more\.") as warnings:
        VAETransformer(2, **SMALL).fit(more)
    assert sum("different string" in str(warning.message) for warning in warnings) == 1


DATE_FORMS = ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%y", "%d %b %Y", "%B %d, %Y"]


@pytest.mark.parametrize("form", [*DATE_FORMS[:3], *slow(*DATE_FORMS[3:])])
def test_dates_as_strings_are_warned_of(form):
    """As classes they have no order; read_csv leaves them as strings. Longer codes are classes."""
    days = pd.Series(pd.date_range("2024-01-01", periods=60))
    table = pd.DataFrame({"day": days.dt.strftime(form), "x": np.arange(60.0) % 7})
    table["machine"] = [f"2024-{i % 25}-{i % 25}-{i % 25}" for i in range(60)]
    with pytest.warns(UserWarning, match=r"dates or times as strings, .*: 'day'\. Convert"):
        VAETransformer(1, **SMALL).fit(table)

    VAETransformer(1, **SMALL).fit(table.assign(day=days))
    table.loc[[3, 50], "day"] = ["?", "unknown"]  # also beside texts for missing values
    with pytest.warns(
        UserWarning, match=r"or times as strings, .*: 'day' \(beside '\?', 'unknown'\)"
    ):
        VAETransformer(1, **SMALL).fit(table)


@pytest.mark.parametrize(
    ("form", "step"),
    [("%H:%M", "25min"), ("%I:%M %p", "25min"), ("%H:%M:%S", "25min"), ("%Y-%m", "MS")],
)
def test_times_and_months_as_strings_are_warned_of(form, step):
    """In a long table they are fewer than half of the rows, and no identifiers."""
    moments = pd.date_range("2020-01-01", periods=50, freq=step).strftime(form)
    table = pd.DataFrame({"when": np.repeat(moments, 3), "x": np.arange(150.0) % 7})

    with pytest.warns(UserWarning, match=r"dates or times as strings, .*: 'when'\. Convert"):
        VAETransformer(1, **SMALL).fit(table)


def test_numbers_with_many_units_are_classes():
    """Such as "12 Main Street": they are no numbers."""
    texts = [f"{i} {'abcd'[i % 4]} street" for i in range(40)] * 3
    VAETransformer(1, **SMALL).fit(pd.DataFrame({"a": texts, "x": np.arange(120.0) % 7}))


@pytest.mark.parametrize("dtype", [int, float])
def test_dates_and_times_as_numbers_are_warned_of(dtype, rng):
    """As measurements they have gaps at the ends of months and hours; years alone have not."""
    moments = pd.Series(pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 1e6, 80), "m"))
    table = pd.DataFrame(
        {
            "x": rng.normal(size=80),
            "day": moments.dt.strftime("%Y%m%d").astype(dtype),
            "time": moments.dt.strftime("%H%M").astype(dtype),
            "year": moments.dt.year.astype(dtype),
            "amount": rng.integers(100, 2400, 80).astype(dtype),
            "weight": rng.integers(911, 947, 80).astype(dtype),  # no gaps in one hour
        }
    )
    with pytest.warns(UserWarning, match="as numbers such as") as caught:
        VAETransformer(1, **SMALL).fit(table)

    messages = sorted(str(warning.message) for warning in caught)
    assert len(messages) == 2
    assert (
        "dates as numbers such as 20190704, between which there are gaps: 'day' (%Y%m%d)."
        in messages[0]
    )
    assert (
        "times of day as numbers such as 1545, between which there are gaps: 'time'." in messages[1]
    )


FORMS = ["%d%m%Y", "%m%d%Y", "%y%m%d", "%Y%m", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"]


@pytest.mark.parametrize("form", FORMS)
def test_dates_as_numbers_of_other_formats_are_warned_of(form, rng):
    """Also with a hole, where numbers are floats, and without their leading zeros."""
    moments = pd.Timestamp("2001-01-01") + pd.to_timedelta(rng.integers(0, 4e8, 80), "s")
    when = pd.Series(moments.strftime(form).astype(float)).mask(np.arange(80) == 3)
    with pytest.warns(UserWarning, match=rf"as numbers such as .*: 'when' \({form}\)\."):
        VAETransformer(1, **SMALL).fit(pd.DataFrame({"x": rng.normal(size=80), "when": when}))


def test_other_numbers_are_no_dates(rng):
    """Amounts of as many digits, and round ones: a warning would be an error."""
    table = pd.DataFrame(
        {f"{low}": rng.integers(low, high, 80) for low, high in ((10**7, 10**8), (10**5, 10**6))}
    )
    table["near 2000"] = rng.integers(199_000, 202_000, 80)
    table["round"] = rng.integers(2, 48, 80) * 50
    table["seconds"] = 1_600_000_000 + rng.integers(0, 10**7, 80)
    VAETransformer(1, **SMALL).fit(table)


def test_a_value_that_alone_decides_the_scale_of_a_column_is_named(rng):
    """An amount that was typed with too many zeros, and a code for a missing value."""
    X = rng.gamma(3, 10, (200, 3))
    X[3, 0], X[5, 2] = 1e12, -(10.0**9)
    model = VAETransformer(1, max_iter=1, random_state=0)

    with pytest.warns(UserWarning, match=r"median as .*: 2 \(-1e\+09, of .*, 0 \(1e\+12, of "):
        model.fit(X)
    heavy = np.tan(np.pi * (rng.random((1000, 1)) - 0.5))  # Cauchy's: no warning, which is an error
    model.fit(heavy)
    VAEOutlierDetector(max_iter=1, random_state=0).fit(X)  # it looks for such values


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("code", [-999, *slow(99999.0)])
def test_codes_for_missing_values_are_warned_of(estimator, code, rng):
    """A detector does not find them, either, if they are many."""
    table = pd.DataFrame({"age": rng.integers(1, 90, 120), "x": rng.normal(size=120)})
    ages = table["age"].mask(table.index < 4, code)
    with pytest.warns(UserWarning, match=rf"nines .*: 'age' \({code:.0f} in 4 rows\)\. .* by NaN"):
        estimator.fit(table.assign(age=ages))

    # one person of 99, few nines beside a range, and two values alone: no warning, an error here
    table["age"] = table["age"].mask(table.index < 1, 99)
    estimator.fit(table.assign(switch=np.where(table.index % 2, 999, 0)))


def test_columns_that_number_the_rows_are_warned_of(rng):
    """Files that pandas wrote with their index have one; a shuffled part of the rows, too."""
    table = pd.DataFrame({"x": rng.normal(size=160), "amount": rng.integers(0, 400, 160)})
    table["customer"] = 1000 + rng.permutation(160)
    with pytest.warns(UserWarning, match=r"number the rows, .*: 'customer'\. .*index_col"):
        VAETransformer(1, **SMALL).fit(table.sample(frac=0.75, random_state=0))

    holed = table.assign(customer=table["customer"].mask(table.index == 3))  # now floats
    with pytest.warns(UserWarning, match=r"number the rows, .*: 'customer'\."):
        VAETransformer(1, **SMALL).fit(holed)

    VAETransformer(1, **SMALL).fit(table.drop(columns="customer"))
    VAETransformer(1, **SMALL).fit(table.head(60))  # too few to tell


def test_numbers_that_are_strings_because_of_a_missing_one_are_warned_of():
    """One '?' in a file makes its column text; codes with letters are classes."""
    power = [str(50 + i % 40) for i in range(120)]
    table = pd.DataFrame({"power": power, "x": np.arange(120.0) % 7})
    table.loc[[3, 50], "power"] = ["?", " n/a"]
    with pytest.warns(
        UserWarning, match=r"numbers as strings, .*: 'power' \(beside ' n/a', '\?'\)"
    ):
        VAETransformer(1, **SMALL).fit(table)

    with pytest.warns(UserWarning, match=r"numbers as strings, .*: 'power' \(beside 'nan'\)"):
        VAETransformer(1, **SMALL).fit(
            table.assign(power=[*power[:-1], "nan"])
        )  # as by astype(str)
    VAETransformer(1, **SMALL).fit(table.assign(power=power))  # postcodes may be strings
    table.loc[[3, 50], "power"] = ["V57", "E909"]
    VAETransformer(1, **SMALL).fit(table)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (np.arange(60) / 4, "numbers"),
        (np.arange("2024-01", "2024-03", dtype="M8[D]"), "dates or times"),
    ],
)
def test_typing_errors_among_numbers_and_dates_are_warned_of(texts, kind):
    """One letter in a file makes its column text, too: the detector would not see the numbers."""
    texts = texts.astype(str).astype(object)
    texts[7] = "4l.25"
    table = pd.DataFrame({"x": np.arange(60.0) % 7, "size": texts})
    with pytest.warns(UserWarning, match=rf"{kind} as strings, .*: 'size' \(beside '4l\.25'\)"):
        VAETransformer(1, **SMALL).fit(table)


def fit_texts(form):
    """Fit a table with numbers as texts of this form."""
    numbers = np.random.default_rng(0).permutation(np.arange(120) % 40 + 971.0)
    texts = [form.format(value) for value in numbers]
    VAETransformer(1, **SMALL).fit(pd.DataFrame({"x": np.arange(120.0) % 7, "size": texts}))


@pytest.mark.parametrize(
    "form",
    ["{:.1f}", "{:.0f}%", "${:,.0f}", "{:.0f} €", "0,{:.0f}", "<{:.1f}", "{:.1f} kmpl", "{:.0f}CC"],
)
def test_numbers_as_strings_are_warned_of(form):
    """Of an array of strings, or with signs, commas and units that read_csv does not read."""
    with pytest.warns(UserWarning, match=r"numbers as strings, .*: 'size'\. Convert"):
        fit_texts(form)


@pytest.mark.parametrize(
    "form",
    ["{:.0f}", "1.{:.0f}.0", "{:.0f}-1", "v{:.1f}", "+49{:.0f}", "{:.0f}e3", "1_{:.0f}", "{:.0f}A"],
)
def test_codes_as_strings_are_classes(form):
    fit_texts(form)  # a warning would be an error


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_a_table_of_constants_is_warned_of(estimator):
    """It holds nothing to learn: most often the wrong rows or columns were read."""
    with pytest.warns(UserWarning, match=r"^Every column of X has one value .* nothing to learn"):
        estimator.fit(np.full((40, 3), [1.0, 2.0, np.nan]))
