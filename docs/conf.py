"""Configuration of Sphinx. Without a network, links to other projects are left out."""

import os
import re
import sys
from pathlib import Path
from urllib.request import urlopen

from sphinx_gallery.sorting import ExplicitOrder

import sklearn_vae

HERE = Path(__file__).parent
ROOT = HERE.parent
EXAMPLES = ROOT / "examples"

project = "sklearn_vae"
author = "the sklearn_vae developers"
copyright = "2026, the sklearn_vae developers"
version = release = sklearn_vae.__version__

sys.path.append(str(HERE / "_extensions"))

extensions = [
    "markdown_pages",
    "mathml",
    "myst_parser",
    "numpydoc",
    "parameter_groups",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Copied examples have neither prompts nor output.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# doctest needs an empty line at the end of an example, a reader does not.
highlight_options = {"python": {"stripnl": True}}

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_vae"
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": {"**": ["page-toc"], "gallery/index": []},
}
html_sidebars = {"index": [], "install": [], "404": [], "gallery/index": []}
html_show_sourcelink = False
html_additional_pages = {"404": "404.html"}
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
html_context = {"default_mode": "auto", "baseurl": html_baseurl}
toc_object_entries_show_parents = "hide"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_search_scorer = str(HERE / "scorer.js")
html_math_renderer = "mathml"


def reachable(projects):
    """The projects whose inventory can be read now; Sphinx warns about any other."""
    found = {}
    for name, url in projects.items():
        try:
            urlopen(url + "objects.inv", timeout=5).close()
        except OSError:
            continue
        found[name] = (url, None)
    return found


intersphinx_mapping = reachable(
    {
        "sklearn": "https://scikit-learn.org/stable/",
        "numpy": "https://numpy.org/doc/stable/",
        "torch": "https://docs.pytorch.org/docs/stable/",
        "skorch": "https://skorch.readthedocs.io/en/stable/",
    }
)

# The order of the gallery: codes, training, density, outliers, samples, networks, large tables.
GALLERY = [
    "manifold", "reconstruction", "pca", "traversal", "interpolation", "denoising", "search",
    "pipeline", "training_curves", "callbacks", "calibration", "ensemble", "anomaly_report",
    "outliers", "labels", "digit_anomaly", "imputation", "synthetic_table", "conditional",
    "convolutions", "sequences", "own_modules", "windows", "out_of_core", "dask",
]  # fmt: skip

# A gallery is made of examples/plot_*.py, once there are any.
if any(EXAMPLES.glob("plot_*.py")):
    extensions += ["sphinx_gallery.gen_gallery", "thumbnails"]
    sphinx_gallery_conf = {
        "examples_dirs": str(EXAMPLES),
        "gallery_dirs": "gallery",
        "filename_pattern": r"/plot_",
        "ignore_pattern": r"(^|/)(?!plot_)[^/]*$",
        "within_subsection_order": ExplicitOrder([*(f"plot_{name}.py" for name in GALLERY), "*"]),
        "remove_config_comments": True,
        "show_memory": False,
        "parallel": min(os.cpu_count() or 1, 4),
        "write_computation_times": False,
        "backreferences_dir": "generated/backreferences",
        "doc_module": ("sklearn_vae",),
    }


CODE = re.compile(r'(?<=<span class="pre">)[^<]+')
BREAK = re.compile(r"(?<=[._])(?=[A-Za-z])|(?<=[a-z])(?=[A-Z])")


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out what a class inherits from scikit-learn or torch: it is documented there."""
    if name in ("from_file", "to_file"):  # hooks of files
        return True
    obj = getattr(obj, "fget", None) or obj
    origin = getattr(obj, "__module__", None) or ""
    if what in ("class", "method") and callable(obj) and not origin.startswith("sklearn_vae"):
        return True
    return None  # autodoc and autosummary decide


def keep_initials(app, what, name, obj, options, lines):
    """Escape the first initial of an author, which would otherwise begin an enumerated list."""
    lines[:] = [re.sub(r"^(\s*\.\. \[\d+\] [A-Z])\. ", r"\1\\. ", line) for line in lines]


def break_names(app, pagename, templatename, context, doctree):
    """Let names in code be broken after dots and underscores, and between words."""
    if "body" in context:
        context["body"] = CODE.sub(lambda code: BREAK.sub("<wbr>", code[0]), context["body"])


def setup(app):
    app.connect("html-page-context", break_names)
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("autodoc-process-docstring", keep_initials, priority=400)  # before numpydoc
