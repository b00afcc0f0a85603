"""How a page of the course may look: lines that a terminal shows whole, paragraphs that are read in one breath."""

import re

MAX_COLUMNS = 100  # of prose
MAX_CODE_COLUMNS = 120  # of a fenced block: as wide as the code may be
MAX_WORDS = 80  # of a paragraph, or of an entry of a list
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
UNBREAKABLE = re.compile(r"\||\[[^\]]+\]: |<!--")  # rows of a table, definitions of links, comments: one line each
ENTRY = re.compile(r"^\s*(?:[-*]|\d+\.) ", re.MULTILINE)  # of a list


def prose_of(text):
    """Return a page without its fenced blocks."""
    return FENCE.sub("", text)


def wide_lines(text):
    """Return the lines of a page that are too long; rows of tables and definitions of links can't be broken."""
    wide = [line for line in prose_of(text).splitlines() if len(line) > MAX_COLUMNS and not UNBREAKABLE.match(line)]
    blocks = [line for _, block in FENCE.findall(text) for line in block.splitlines()]
    return wide + [line for line in blocks if len(line) > MAX_CODE_COLUMNS]


def long_paragraphs(text):
    """Return (number of words, first words) of each paragraph, or entry of a list, that has too many words."""
    found = []
    for block in re.split(r"\n\s*\n", prose_of(text)):
        if not UNBREAKABLE.match(block):
            for paragraph in ENTRY.split(block):
                words = words_of(paragraph)
                if len(words) > MAX_WORDS:
                    found.append((len(words), " ".join(words[:6])))
    return found


def words_of(text):
    """Return the words of some prose: no addresses of links, no tags, no marks that are not part of a word."""
    text = re.sub(r"<[^>]+>|\]\([^)]*\)|\]\[[^\]]*\]", " ", text)
    return [word for word in text.split() if re.search(r"\w", word)]
