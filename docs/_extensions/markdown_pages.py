"""Markdown copies of the user's pages beside their HTML, and llms.txt, the list of them."""

import re
from pathlib import Path

LINK = re.compile(r"\]\((\w+\.md)")
FIGURE = re.compile(r"^```\{figure\} gallery/(images/\S+)\n:alt: ([^\n]*)\n.*?^```$", re.M | re.S)
DIRECTIVE = re.compile(r"^```\{(?:index|toctree|eval-rst)\}.*?^```\n+", re.M | re.S)
TERM = re.compile(r"\{term\}`([^`<]*?)(?: <[^`]*>)?`")


def plain(page):
    """Return a page without what only Sphinx reads."""
    page = DIRECTIVE.sub("", page)
    page = FIGURE.sub(lambda found: f"![{found[2]}](_{found[1]})".replace("/images", ""), page)
    page = re.sub(r"\((gallery/\w+)\)", r"(\1.html)", page)
    return TERM.sub(r"\1", page)


def write_markdown(app, exception):
    """Write the copies and llms.txt; the lists of the user guide say what each page is about."""
    if exception or app.builder.format != "html":
        return
    pages, site = Path(app.srcdir), Path(app.outdir)
    guide = plain((pages / "user_guide.md").read_text("utf-8"))
    for name in {"install.md", "user_guide.md", *LINK.findall(guide)}:
        (site / name).write_text(plain((pages / name).read_text("utf-8")), "utf-8")
    summary = (pages / "index.md").read_text("utf-8").split("\n\n")[1].replace("\n", " ")
    lists = guide[guide.index("## ") :].strip()
    start = f"# sklearn_vae\n\n> {summary}\n\n## Start\n\n- [Installation](install.md)\n"
    (site / "llms.txt").write_text(f"{start}\n{lists}\n", "utf-8")


def setup(app):
    app.connect("build-finished", write_markdown)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
