"""The glossary is in order, each term is used in the part that it names, and that part's README leads to it."""

import functools
import json
import re

import pytest

from support.parts import PARTS, ROOT
from support.prose import long_paragraphs, prose_of, wide_lines

GLOSSARY = ROOT / "book" / "glossary.md"
ENTRY = re.compile(r"^## (.+)\n\n((?:.+\n)+)\nFirst in \[part (\d)\]\(\.\./(\w+)/README\.md\)\.\n", re.MULTILINE)
SENTENCES = (2, 4)  # the fewest and the most that explain a term


@functools.cache
def entries():
    """Return the glossary: {term: (explanation, part)}."""
    return {term: (text, int(part)) for term, text, part, _ in ENTRY.findall(GLOSSARY.read_text())}


def anchor(term):
    """Return what follows the # in a link to a term, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", term.lower()).replace(" ", "-")


def words_paragraph(part):
    """Return the paragraph of a part's README that names the new words; "" where there is none yet."""
    found = re.search(r"^\*\*Words\.\*\*.*?\n\n", (ROOT / PARTS[part] / "README.md").read_text(), re.M | re.S)
    return found[0] if found else ""


@functools.cache
def texts(part):
    """Return all that a student reads in a part: README, figure, steps, code, notebook; not its list of new words."""
    directory = ROOT / PARTS[part]
    paths = [path for suffix in ("md", "py", "lua", "svg") for path in directory.rglob(f"*.{suffix}")]
    cells = json.loads((ROOT / "notebooks" / f"part{part}.ipynb").read_text())["cells"]
    text = "\n".join([path.read_text() for path in paths] + ["".join(cell["source"]) for cell in cells])
    return " ".join(text.replace(words_paragraph(part), "").split())


def explanations(part):
    """Return the prose in which a part's README explains things: from its goal up to its exercises, without links."""
    page = prose_of((ROOT / PARTS[part] / "README.md").read_text())
    return re.sub(r"\]\([^)]*\)", "]", page.partition("\n## Goal\n")[2].partition("\n## Exercises\n")[0])


def pattern(term):
    """Return the pattern that finds a term in a text: in the plural, too, or the sign itself where it is one."""
    if sign := re.search("`(.+)`", term):
        return rf"(?<![^\s`(]){re.escape(sign[1])}(?![^\s`).,])"
    word = re.escape(term.partition(",")[0]).replace(r"\ ", r"[\s-]").removesuffix("ing")
    return rf"\b{word}\w{{0,3}}\b"


def test_every_entry_has_the_same_form():
    """A head, two to four sentences, and the part in which the term is first met; sorted."""
    text = GLOSSARY.read_text()
    terms = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert terms == list(entries()), f"another form: {set(terms) ^ set(entries())}. Hint: look at the other entries."
    in_order = sorted(terms, key=lambda term: term.strip("`").lower())
    assert terms == in_order, f"not sorted. Hint: {in_order}"
    for term, directory in ((each[0], each[3]) for each in ENTRY.findall(text)):
        explanation, part = entries()[term]
        assert directory == PARTS[part], f"{term}: part {part} is not {directory}"
        count = len(re.findall(r"[.?!]\W*(?=\s)", explanation))
        assert SENTENCES[0] <= count <= SENTENCES[1], f"{term} is explained in {count} sentences, not in {SENTENCES}"
    assert not wide_lines(text) and not long_paragraphs(text), (wide_lines(text), long_paragraphs(text))


@pytest.mark.parametrize("part", PARTS)
def test_a_term_is_used_in_the_part_that_it_names(part):
    """An earlier part's README explains nothing with it: a term is explained where it first appears."""
    for term, (_, first) in entries().items():
        if first == part:
            assert re.search(pattern(term), texts(part), re.IGNORECASE), (
                f"{term}: part {part} has no such word. Hint: which one has?"
            )
        elif first > part:
            found = re.search(rf".*{pattern(term)}.*", explanations(part), re.IGNORECASE)
            assert not found, f"{term}, first in part {first}, is in part {part}'s README: {found[0]}"


@pytest.mark.parametrize("part", [part for part in PARTS if words_paragraph(part)])
def test_a_part_lists_its_new_words(part):
    """The paragraph **Words.** leads to each term that the part is the first to use, and perhaps to some old ones."""
    linked = set(re.findall(r"\]\(\.\./book/glossary\.md#([^)]*)\)", words_paragraph(part)))
    missing = {anchor(term) for term, (_, first) in entries().items() if first == part} - linked
    assert not missing, f"part {part} does not list {sorted(missing)}. Hint: the glossary says that they are its words."
    unknown = linked - {anchor(term) for term in entries()}
    assert not unknown, f"part {part} lists {sorted(unknown)}. Hint: the glossary has no such entry."
