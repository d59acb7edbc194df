"""The metadata of the package: what is said twice agrees."""

import re
import tomllib
from pathlib import Path

import pytest

import sklearn_vae

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RECIPE = (ROOT / "conda" / "recipe.yaml").read_text("utf-8")


def test_the_conda_recipe_has_the_dependencies_of_the_wheel():
    """With their lower limits; conda calls torch pytorch."""
    (run,) = re.findall(r"^  run:\n((?:    - .*\n)+)", RECIPE, re.MULTILINE)
    of_recipe = {line.removeprefix("    - ").replace(" ", "") for line in run.splitlines()}
    python = "python>=${{python_min}}"
    of_wheel = {name.replace("torch>", "pytorch>") for name in PROJECT["dependencies"]}

    assert of_recipe == of_wheel | {python}
    assert f'python_min: "{PROJECT["requires-python"].removeprefix(">=")}"' in RECIPE


@pytest.mark.parametrize(
    ("path", "line"), [("conda/recipe.yaml", "  version: {}"), ("CITATION.cff", "version: {}")]
)
def test_the_version_is_that_of_the_package(path, line):
    """A release changes all of them."""
    lines = (ROOT / path).read_text("utf-8").splitlines()

    assert line.format(sklearn_vae.__version__) in lines


def test_the_versions_of_the_installation_page_are_those_of_the_package():
    """The oldest ones that it takes."""
    table = (ROOT / "docs" / "install.md").read_text("utf-8")
    floors = {"Python": PROJECT["requires-python"].removeprefix(">=")}
    floors |= dict(requirement.split(">=") for requirement in PROJECT["dependencies"])
    stated = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", table, re.MULTILINE))

    assert stated == {name.replace("torch", "PyTorch"): floor for name, floor in floors.items()}


def test_the_architecture_page_names_what_exists():
    """A reader who follows its table finds the definition in the file."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = page.partition("## Where to find")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+) \| (`[^|]+) \|$", section, re.MULTILINE)

    assert len(rows) >= 18
    for _, names, files in rows:
        names_by_file = [re.findall("`(.+?)`", part) for part in names.split(";")]
        for names_of_file, file in zip(names_by_file, re.findall("`(.+?)`", files), strict=True):
            text = (ROOT / "sklearn_vae" / file).read_text("utf-8")
            for part in (part for name in names_of_file for part in name.split(".")):
                assert re.search(rf"^ *(class |def )?{part}\b[(:\[]", text, re.MULTILINE), part


def test_the_contributing_page_names_files_that_exist():
    """Its recipes go from file to file; some are named by the end of their path."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`([\w./-]+\.(?:md|py|toml|txt|yaml|yml))`", page))
    missing = [name for name in named if not (ROOT / name).exists()]
    inside = [path for folder in ("sklearn_vae", "tests") for path in (ROOT / folder).rglob("*.py")]

    assert len(named) > 40
    assert [n for n in missing if not any(p.as_posix().endswith(f"/{n}") for p in inside)] == []
