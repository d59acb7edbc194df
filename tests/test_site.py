"""The site that `make docs` built, in a browser: Chromium is CHROME, or the one on the PATH."""

import os
import re
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote, unquote

import pytest

pytestmark = pytest.mark.slow

SITE = Path(__file__).resolve().parents[1] / "docs" / "_build" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROME = os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)
DESKTOP, PHONE = 1400, 400
FACTS = """() => ({
    wide: [document.documentElement, ...document.querySelectorAll("main, article, section, dl, p")]
        .filter(e => e.scrollWidth > e.clientWidth + 4)
        .map(e => `${e.tagName} ${e.id} ${e.className}`),
    empty: [...document.querySelectorAll("main section")]
        .filter(section => ![...section.children].some(child =>
            !/^(H[1-6]|SPAN)$/.test(child.tagName)
            && (child.textContent.trim() || child.matches("img") || child.querySelector("img"))))
        .map(section => section.id),
    outside: [...document.querySelectorAll("script[src], link[rel=stylesheet], img")]
        .map(e => e.src || e.href)
        .filter(source => !source.startsWith(location.origin) && !source.startsWith("data:")),
    initials: [...document.querySelectorAll(".citation ol")].map(list => list.innerText),
    ids: [...document.querySelectorAll("[id], [name]")].map(e => e.id || e.name),
    links: [...document.querySelectorAll("a[href]")].map(a => a.href),
})"""


class Server(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def address():
    if not (SITE / "index.html").exists():
        pytest.skip("the site is not built: `make docs`")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=SITE)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium(address):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROME is None:
        pytest.skip("there is no Chromium: set CHROME to its path")
    with playwright.sync_playwright() as context:
        browser = context.chromium.launch(executable_path=CHROME, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(chromium, address, width, errors):
    """Open a page that reads nothing from elsewhere and writes its errors to a list."""
    page = chromium.new_page(viewport={"width": width, "height": 900})
    page.route(lambda url: not url.startswith(address), lambda route: route.fulfill(body=""))
    page.on("pageerror", lambda error: errors.append((page.url, str(error))))
    page.on("console", lambda said: said.type == "error" and errors.append((page.url, said.text)))
    return page


@pytest.fixture(scope="module", params=[DESKTOP, PHONE])
def site(request, chromium, address):
    """Return what the browser sees of each page, and the errors of all of them."""
    errors = []
    page = open_page(chromium, address, request.param, errors)
    facts = {}
    for path in sorted(SITE.rglob("*.html")):
        name = path.relative_to(SITE).as_posix()
        if not name.startswith("_static/"):
            page.goto(address + name)
            facts[name] = page.evaluate(FACTS)
    page.close()
    return facts, errors


@pytest.mark.parametrize("fault", ["wide", "empty", "outside", "initials"])
def test_no_page_has_this_fault(site, fault):
    """Text is as wide as the screen, and sections are not empty; all is there without a network.

    reStructuredText reads "D. Kingma" as the fourth item of a list, and leaves out the D.
    """
    facts, _ = site

    assert {name: fact[fault] for name, fact in facts.items() if fact[fault]} == {}


def test_no_page_writes_an_error_to_the_console(site):
    """Scripts run as they should."""
    _, errors = site

    assert errors == []


def test_no_internal_link_is_dead(site, address):
    """The page, or file, exists, and so does the place on it."""
    facts, _ = site
    links = {(name, link) for name, fact in facts.items() for link in fact["links"]}
    dead = []
    for name, link in links:
        if link.startswith(address):
            target, _, place = unquote(link.removeprefix(address)).partition("#")
            target = target.partition("?")[0] or "index.html"
            ids = facts[target]["ids"] if target in facts else []
            if not (SITE / target).is_file() or (place and place not in ids):
                dead.append((name, link))

    assert dead == []


def test_every_page_of_the_guide_is_there_as_markdown(address):
    """llms.txt lists the copies; they hold no directive that only Sphinx reads."""
    listed = re.findall(r"\]\((\w+\.md)\)", (SITE / "llms.txt").read_text("utf-8"))

    assert len(listed) > 25
    for name in listed:
        page = (SITE / name).read_text("utf-8")
        assert "```{index}" not in page, name
        assert all((SITE / image).is_file() for image in re.findall(r"!\[.*\]\((.*)\)", page)), name


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("outlier", "outliers"),
        ("missing values", "missing_values"),
        ("save model", "saving"),
        ("threshold", "outliers_with_labels"),
        ("n_components", "beta_and_latent_size"),
        ("labels", "outliers_with_labels"),
    ],
)
def test_search_finds_the_page_of_the_guide_first(words, first, chromium, address):
    """The words are index entries of the page."""
    errors = []
    page = open_page(chromium, address, PHONE, errors)
    page.goto(f"{address}search.html?q={quote(words)}")
    results = page.locator("#search-results li a")
    results.first.wait_for()
    page.get_by_text("Search finished").wait_for()
    addresses = [result.get_attribute("href") for result in results.all()]
    page.close()

    assert addresses[0].startswith(f"{first}.html")
    assert errors == []
