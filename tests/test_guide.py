"""The pages of the guide: what they show is what comes out."""

import doctest
import pkgutil
import re
from contextlib import suppress
from importlib import import_module
from inspect import isclass, signature
from pathlib import Path

import pytest

import sklearn_vae
from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {page.name: page.read_text("utf-8") for page in sorted(DOCS.glob("*.md"))}
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DECIMAL = re.compile(r"-?\d+\.(\d+)")
# Arguments that the guide names and that other packages have.
OF_OTHER_PACKAGES = {
    *("chunksize", "format", "index_col", "na_values", "parse_dates", "skipinitialspace"),
    *("gap", "monitor", "pos_label", "reg_param", "sample_posterior"),
}
BLOCKS = {
    name: [block for block in PYTHON.findall(text) if ">>> " not in block]
    for name, text in PAGES.items()
}


class Rounded(doctest.OutputChecker):
    """Decimal numbers may differ by 2 %, or by one in the last digit shown."""

    def check_output(self, want, got, optionflags):
        pairs = list(zip(DECIMAL.finditer(want), DECIMAL.finditer(got), strict=False))
        for expected, actual in reversed(pairs):
            value, last_digit = float(expected[0]), 10 ** -len(expected[1])
            if abs(value - float(actual[0])) < max(0.02 * abs(value), 1.01 * last_digit):
                got = got[: actual.start()] + expected[0] + got[actual.end() :]
        return super().check_output(want, got, optionflags)


@pytest.mark.parametrize(
    ("got", "passes"), [("-1.51 2.1", True), ("-1.56 2.0", False), ("-1.52 2", False)]
)
def test_shown_numbers_may_differ_a_little_only(got, passes):
    """A checker that accepts anything would let the pages say anything."""
    assert Rounded().check_output("-1.52 2.0", got, 0) is passes


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if ">>> " in text])
def test_the_examples_of_a_page_run(page, monkeypatch, tmp_path):
    """A page whose examples fail teaches nothing."""
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(PAGES[page], {}, page, page, 0)
    how = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    found = doctest.DocTestRunner(Rounded(), optionflags=how).run(examples)

    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, blocks in BLOCKS.items() if blocks])
def test_the_blocks_of_a_page_run_one_after_the_other(page, monkeypatch, tmp_path):
    """A reader types them in from the top of the page."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(BLOCKS[page]):
        exec(compile(block, f"{page}, block {number}", "exec"), namespace)


def test_reliability_names_tests_that_exist():
    """Each promise has the test that holds it."""
    tests = Path(__file__).parent
    sources = {path.name: path.read_text("utf-8") for path in tests.rglob("test_*.py")}
    defined = re.findall(r"def (test_\w+)", "".join(sources.values()))
    named = re.findall(r"\b(test_\w+)(\.py|\.\.\.)?", PAGES["reliability.md"])

    assert len(named) > 50
    for name, suffix in named:
        if suffix == ".py":
            assert name + suffix in sources
        else:
            assert any(test.startswith(name) if suffix else test == name for test in defined), name


def test_arguments_that_the_guide_names_exist():
    """A reader who types them in must not meet a TypeError."""
    known = set(OF_OTHER_PACKAGES)
    for found in pkgutil.walk_packages(sklearn_vae.__path__, "sklearn_vae."):
        with suppress(ImportError):  # of optional packages
            for value in vars(import_module(found.name)).values():
                for called in (value, *(vars(value).values() if isclass(value) else ())):
                    with suppress(TypeError, ValueError):  # neither function nor class
                        known.update(signature(called).parameters)
    prose = {name: re.sub(r"(?ms)^```.*?^```$", "", text) for name, text in PAGES.items()}
    named = {
        (page, argument)
        for page, text in prose.items()
        for code in re.findall(r"`([^`\n]+)`", text)
        for argument in re.findall(r"\b([a-z_]+)=(?!=)", code)
    }

    assert len(named) > 100
    assert [pair for pair in sorted(named) if pair[1] not in known] == []


def test_no_code_is_wider_than_the_page():
    """A desktop shows 100 columns beside both sidebars; a longer line has to be scrolled."""
    block = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    wide = [
        (name, line)
        for name, text in PAGES.items()
        for language, code in block.findall(text)
        for line in code.splitlines()
        if language in ("", "python") and len(line) > 100
    ]

    assert wide == []


@pytest.mark.parametrize("estimator", [VAETransformer, VAEDensity, VAEOutlierDetector])
def test_every_parameter_is_in_one_group(estimator):
    """The reference pages group the parameters; a new one needs its place there."""
    title = f"### Parameters of {estimator.__name__} by group\n"
    section = PAGES["api.md"].split(title)[1].split("\n##")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    grouped = re.findall(r"`(\w+)`", "".join(rows))

    assert sorted(grouped) == sorted(estimator().get_params(deep=False))
