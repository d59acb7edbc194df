"""The pages of the guide: what they show is what comes out."""

import ast
import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from sklearn_vae import VAETransformer

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {page.name: page.read_text("utf-8") for page in sorted(DOCS.glob("*.md"))}
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RESULT = re.compile(r"^(\S.*)  # → (.*)$", re.MULTILINE)
BLOCKS = {
    name: [block for block in PYTHON.findall(text) if ">>> " not in block]
    for name, text in PAGES.items()
}


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if ">>> " in text])
def test_the_examples_of_a_page_run(page, monkeypatch, tmp_path):
    """A page whose examples fail teaches nothing."""
    monkeypatch.chdir(tmp_path)
    how = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    parser = doctest.DocTestParser()
    found = doctest.testfile(
        str(DOCS / page), module_relative=False, optionflags=how, parser=parser, encoding="utf-8"
    )

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
        for expression, result in RESULT.findall(block):
            np.testing.assert_allclose(
                eval(expression, namespace), ast.literal_eval(result), rtol=0.02, err_msg=expression
            )


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


def test_every_parameter_of_the_transformer_is_in_one_group():
    """The reference page groups the parameters; a new one needs its place there."""
    section = (
        PAGES["api.md"].split("### Parameters of VAETransformer by group")[1].split("\n## ")[0]
    )
    rows = [line for line in section.splitlines() if line.startswith("|")]
    grouped = re.findall(r"`(\w+)`", "".join(rows))

    assert sorted(grouped) == sorted(VAETransformer().get_params(deep=False))
