"""The figure that each part begins with is the one that tests/figures.py draws, and it can be read by all."""

import json
import re
import xml.etree.ElementTree

import pytest

import figures
from support.parts import PARTS, ROOT

SMALLEST = 12  # px, at the figure's own width
EDGE = 10  # px at the right that no text may reach into
MARK = "{http://www.w3.org/2000/svg}"
every_part = pytest.mark.parametrize("part", PARTS)


@every_part
def test_a_figure_is_what_the_program_draws(part):
    """A figure is changed in tests/figures.py, so that all of them keep the same look."""
    shown = (ROOT / PARTS[part] / figures.NAME).read_text()
    assert shown == figures.FIGURES[part](), f"part {part}: another figure. Hint: run python tests/figures.py"


@every_part
def test_a_figure_is_for_all_eyes_and_for_none(part):
    """It has a title and a description, letters that are large enough, and colours for a dark screen."""
    text = figures.FIGURES[part]()
    root = xml.etree.ElementTree.fromstring(text)
    assert root.find(MARK + "title").text.startswith(figures.TITLE)
    assert len(root.find(MARK + "desc").text.split()) > 20, "a description of a few words. Hint: say what is where"
    sizes = [float(size) for size in re.findall(r"([\d.]+)px", figures.STYLE) if float(size) > 5]
    assert len(sizes) >= 3 and min(sizes) >= SMALLEST, f"letters of {min(sizes)} px"
    assert "prefers-color-scheme: dark" in text and 'class="paper"' in text, "no dark colours, or no background"
    assert float(root.get("width")) == figures.WIDTH, "the sizes of letters are those at 800 px"


@every_part
def test_the_words_of_a_figure_stay_inside_it(part):
    """No line of text is so long that it would run out of the picture, or out of the proxy's machine."""
    for line in xml.etree.ElementTree.fromstring(figures.FIGURES[part]()).iter(MARK + "text"):
        x, words = float(line.get("x")), line.text
        width = len(words) * 6.5  # px, of a letter on the average
        end = x + (width if line.get("text-anchor") == "start" else width / 2)
        limit = 180 + 440 if 180 < x < 590 else figures.WIDTH
        assert end <= limit - EDGE / 2, f"too long, by {end - limit:.0f} px: {words!r}. Hint: fewer words, or two lines"


@every_part
def test_a_page_tells_what_its_figure_shows(part):
    """Each notebook has the figure in its first cell, each README at its head, with the figure's own description."""
    notebook = json.loads((ROOT / "notebooks" / f"part{part}.ipynb").read_text())
    pages = {f"part{part}.ipynb": "".join(notebook["cells"][0]["source"])}
    readme = (ROOT / PARTS[part] / "README.md").read_text()
    if "\n**Notebook.**" in readme:  # in the form that tests/course/test_readmes.py asks for
        pages["README.md"] = readme.partition("\n## ")[0]
    expected = f"{figures.TITLE} {figures.DESCRIPTIONS[part]}"
    for name, text in pages.items():
        alts = re.findall(rf"!\[([^]]*)\]\([^)]*{figures.NAME}\)", text)
        assert [" ".join(alt.split()) for alt in alts] == [expected], (
            f"{name} shows the figure with {alts}. Hint: paste what python tests/figures.py prints"
        )
