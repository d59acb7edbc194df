"""The pages of the guide: what they show is what comes out."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(page.name for page in DOCS.glob("*.md") if ">>> " in page.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
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
