"""The book: all pages are in it, and none is dead, bare or from elsewhere."""

import html.parser
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest

from support.left_out import ON_REQUEST

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
SITE = BOOK / "_build" / "html"
NOT_RUN = "Not run: the tests of the book as a site. For those: make book && pytest tests/course/test_book.py --book"
BUILT = pytest.mark.on_request("--book")
TEN = [
    "book/index.html",
    "README.html",
    "part1_single/README.html",
    "part2_epoll/README.html",
    "part4_buffering/README.html",
    "part4_buffering/steps/README.html",
    "part4_buffering/steps/3_write_buffer.html",
    "notebooks/part4.html",
    "tests/exercises/part1_threads/card.html",
    "book/glossary.html",
]
PAGES = """
import json, pages
names = pages.sources()
texts = {name: (pages.ROOT / name).read_text() for name in names if name.endswith(".md")}
drawn = {pages.digest(code): (pages.DRAWINGS / f"{pages.digest(code)}.svg").exists()
         for text in texts.values() for code in pages.MERMAID.findall(text)}
kept = sorted(path.stem for path in pages.DRAWINGS.glob("*.svg"))
print(json.dumps({"names": names, "drawn": drawn, "kept": kept}))
"""


@pytest.fixture(scope="module")
def pages():
    """What the book says of its pages; in its own process, since its module has a common name."""
    run = subprocess.run(
        [sys.executable, "-c", PAGES], cwd=BOOK, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(run.stdout)


def test_every_page_is_in_the_book(pages, request, record_property):
    """READMEs, steps, notebooks, cards, the teacher's pages: all but what the checks tell by and by."""
    if not request.config.getoption("--book"):
        record_property(ON_REQUEST, NOT_RUN)
    listed = subprocess.run(["git", "ls-files", "*.md", "*.ipynb"], cwd=ROOT, capture_output=True, text=True).stdout
    if not listed:
        pytest.skip("this copy is no git repository: there is no list to compare with")
    hidden = re.compile(r"tests/exercises/part\d_\w+/(hints|teacher)\.md$")
    wanted = {name for name in listed.split() if not hidden.search(name)}
    assert set(pages["names"]) == wanted, "not in the book, or in the book alone. Hint: see book/pages.py"


def test_every_picture_in_mermaid_is_drawn(pages):
    """The book is built without Node or a browser, so each is kept as SVG; and no other is kept."""
    missing = [name for name, there in pages["drawn"].items() if not there]
    assert not missing, "some Mermaid picture has changed. Hint: python book/draw.py"
    assert set(pages["kept"]) == set(pages["drawn"]), "pictures that no page has. Hint: python book/draw.py"


class Reader(html.parser.HTMLParser):
    """What a page has: its ids, links, pictures, headings, and whatever it loads."""

    def __init__(self, path):
        """Read a page."""
        super().__init__()
        self.ids, self.links, self.loads, self.bare, self.heads = set(), [], [], [], 0
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        """Note one element."""
        found = dict(attributes)
        self.ids.add(found.get("id"))
        self.heads += tag == "h1"
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe", "source") and found.get("src"):
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(found["href"])
        if tag == "img" and not found.get("alt", "").strip():
            self.bare.append(found.get("src"))


@pytest.fixture(scope="module")
def site():
    """All pages of the site, by path."""
    assert SITE.is_dir(), "the book is not built. Hint: make book"
    own = {"genindex.html", "search.html", "index.html"}
    found = [path for path in SITE.rglob("*.html") if "_static" not in path.parts and "_downloads" not in path.parts]
    return {path: Reader(path) for path in found if str(path.relative_to(SITE)) not in own}


@BUILT
def test_no_link_is_dead_and_nothing_comes_from_elsewhere(site):
    """Every link inside the book leads to a page, and to a place in it; what a page loads is the book's own."""
    dead, foreign = [], []
    for path, page in site.items():
        for target in page.links:
            place, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", place):
                continue
            there = (path.parent / urllib.parse.unquote(place)).resolve() if place else path
            if not there.exists() or (anchor and there in site and urllib.parse.unquote(anchor) not in site[there].ids):
                dead.append(f"{path.relative_to(SITE)}: {target}")
        foreign += [f"{path.relative_to(SITE)}: {target}" for target in page.loads if re.match(r"[a-z]+:|//", target)]
    assert not dead, dead
    assert not [one for one in foreign if ": data:" not in one], foreign


@BUILT
def test_every_page_has_one_head_and_words_for_its_pictures(site):
    """One h1 a page, and a text alternative for each picture."""
    assert {str(path.relative_to(SITE)): page.heads for path, page in site.items() if page.heads != 1} == {}
    assert {str(path.relative_to(SITE)): page.bare for path, page in site.items() if page.bare} == {}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium without a window."""
    from support.browser import Browser

    with Browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@BUILT
@pytest.mark.needs("chromium", "chromedriver")
@pytest.mark.parametrize("name", TEN)
def test_a_page_is_accessible_and_fits_a_telephone(name, browser):
    """axe finds nothing, in a wide window; in a narrow one, the page itself does not scroll sideways."""
    from support.browser import accessibility_faults

    browser.set_window_size(1280, 900)
    browser.get((SITE / name).as_uri())
    assert not (found := accessibility_faults(browser)), json.dumps(found, indent=1)
    browser.set_window_size(500, 900)  # the narrowest that Chromium makes a window
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth + 1")
