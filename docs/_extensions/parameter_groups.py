"""The parameters of estimators on their pages, in the groups of the tables in api.md."""

import re
from itertools import pairwise
from pathlib import Path

API = Path(__file__).parents[1] / "api.md"
TITLE = "### Parameters of {} by group\n"
ROW = re.compile(r"^\| (\w+) \| (`.*) \|$", re.MULTILINE)
ENTRY = re.compile(r"^ +\*\*(\w+(?:, \w+)*)\*\* : ")  # as numpydoc writes a parameter


def read_groups(estimator):
    """Return the names of each group's parameters; none if the page has no table of them."""
    _, _, section = API.read_text("utf-8").partition(TITLE.format(estimator))
    table = section.split("\n##")[0]
    return {group: re.findall(r"`(\w+)`", names) for group, names in ROW.findall(table)}


def group_parameters(app, what, name, obj, options, lines):
    """Put the parameters, as numpydoc has written them, below the title of their group."""
    groups = read_groups(name.removeprefix("sklearn_vae."))
    if what != "class" or not groups:
        return
    first = lines.index(":Parameters:") + 2
    last = next(i for i in range(first, len(lines)) if lines[i].startswith(":"))
    starts = [i for i in range(first, last) if ENTRY.match(lines[i])]
    entries = {
        ENTRY.match(lines[start])[1].split(", ")[0]: lines[start:end]
        for start, end in pairwise([*starts, last])
    }
    grouped = []
    for group, names in groups.items():
        grouped += [f"    .. rubric:: {group.capitalize()}", "       :class: group", ""]
        grouped += [line for parameter in names for line in entries.pop(parameter, [])]
    if entries:
        raise ValueError(f"in no group of {API}: {', '.join(entries)}")
    lines[first:last] = grouped


def setup(app):
    app.connect("autodoc-process-docstring", group_parameters, priority=900)  # after numpydoc
    return {"parallel_read_safe": True, "parallel_write_safe": True}
