"""Plain English: habits that make correct sentences read as translated don't come back.

Each habit has a pattern, what to say instead, and an example. The patterns are narrow: "a server behind a proxy" is
right, "the bytes behind the request" is not. Where one is still too wide, the line is in ALLOWED.
"""

import json
import re

import pytest

from support.parts import PARTS, ROOT

TEXTS = (".html", ".ipynb", ".lua", ".md", ".patch", ".py")
# What a space in a pattern stands for: also the end of a line, and how the next one begins in a comment or a patch.
SPACE = r"[\s\"'>#+*|\\-]+"

HEADS = "handshakes?|headers?|heads?|requests?|body|bodies|hello|greeting|version|colon|chunks?|size|field|answers?"
OWNERS = "redis|lua|python|nginx|hiredis|httptools|the config|the proxy|the part|the program"
THEN = "and|or|as|that|which|is|are|was|has|may|can|to|in|on|with|for|from|takes?|gets?|comes?"
STAND = r"st(?:and|ands|ood)(?:(?<=\bstand)|(?<=\bstands)|(?<=\bstood))"
PLACES = "in (?!for )|at |on |there|here|first|last|before|after|once|twice|below|above|beside|inside"
COME = r"c(?:ome|omes|ame)(?:(?<=\bcome)|(?<=\bcomes)|(?<=\bcame))"
SOME = ("one", "all", "each", "both", "most", "many", "none", "some")
NOT_SOME = "".join(rf"(?<!{word}\sof\swhich)" for word in SOME)
PEOPLE = "(?:(?<=nobody)|(?<=everybody)|(?<=somebody)|(?<=anybody))"
VERBS = "waits?|waited|looks?|listens?|answers?|tells?|told|reads?|asks?|has asked|checks?|connects?|is served"

# A habit: its pattern in lower case, what to say instead, and an example. For speed: a pattern begins with letters, not
# with \b, so that Python looks for these first. That makes all of it ten times as fast.
HABITS = [
    (rf"behind (?:(?:the|an?|its|this|that|last|sound) )*(?:{HEADS})\b", "after", "the bytes behind the handshake"),
    (r"c(?:omes?|ame) behind\b", "after", "and what comes behind"),
    (r"right behind\b", "after", "the bytes right behind it"),
    (r"those (?:that|who|whom|whose|which)\b", "the ones that, or the noun", "the backends, and those that are down"),
    (r"of (?:its|their|her|one's|(?:no|some|any)body's) own\b", "its own port", "on a port of its own"),
    (rf"of (?:{OWNERS})'s(?: own)?(?:[.,:;)]| (?:{THEN})\b)", "redis's answer", "an answer of redis's that is late"),
    (rf"{STAND} (?:{PLACES})\b", "is, appears", "the name stands in the first record"),
    (r"anew\b", "again, or a word such as restarted", "it is started anew"),
    (r"w(?:ill|ould) do(?=[.,:;!?)]| for\b| here\b)", "is enough, works", "any number will do."),
    (r"whom\b", "end with the preposition, or split the sentence", "the client for whom it waits"),
    (r"by which\b", "end with the preposition, or split the sentence", "the name by which it is known"),
    (rf"of which\b{NOT_SOME}", "end with the preposition, or split the sentence", "two bytes, of which one is lost"),
    (r"se(?:es?|en) to (?:it|the|its|that|this)\b", "handles, makes sure", "the loop sees to the rest, and to it"),
    (rf"{COME} of (?:it|this|that|them)\b", "results, becomes", "nothing came of it"),
    (r"the conclusion\b", "decides, concludes", "the proxy draws the conclusion"),
    (r"told of\b", "hears about, knows", "the backend is told of the end"),
    (r"br(?:eaks?|oke|oken|eaking)(?: [a-z]+){0,2} off\b", "disconnects, is cut short", "a client that breaks off"),
    (r"in force\b", "holds, takes effect", "the new set is in force"),
    (r"up (?:no|every|any|some)body\b", "what it is: holds up no other client", "a slow client holds up everybody"),
    (rf"body{PEOPLE} (?:else )?(?:{VERBS})\b", "what it is: no client waits", "a port where nobody listens"),
    (r"def __init__\([^)]*\)[^\n]*:\s+\"{3}take\b", "Wrap a socket", 'def __init__(self):\n """Take a socket."""'),
    (r"\"tells? whether\b", "Return True if", 'def f():\n    """Tell whether it is up."""'),
    (r"there is no such host here\b", "no site with this name here", "404: there is no such host here"),
    (r"no backend takes the connection\b", "no backend accepted the connection", "no backend takes the connection"),
    (r"is no setting\b", "unknown setting", "colour is no setting"),
    (r"of no use\b", "useless, or what happens: ignoring redis key ...", "a list is of no use here"),
]
RIGHT = """
A server behind a proxy, a site behind one address; a process is left behind. Of those with a name, one is down.
As it stands, it stands for any host, stands in for another, and must withstand more. On its own, it becomes of use.
Two, each of which is up, would do the same? It will do it; nobody can say why. Tell whether it is up, if you can.
"""

# Where the words are right: a file, and a piece of the line, in lower case.
ALLOWED = [
    ("tests/suite/report_card.py", "unless somebody asks for its tracebacks"),
    ("tests/live/inspector.py", "in place of python's."),
]


def texts():
    """Yield (name, text) for each file of the course; of a notebook, only what its cells say."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("*.lua")]
    for top in (*PARTS.values(), "notebooks", "tests"):
        paths += (path for path in (ROOT / top).rglob("*") if path.suffix in TEXTS)
    for path in sorted({path.resolve() for path in paths}):
        name = str(path.relative_to(ROOT))
        if re.search("/(results|recordings|my_[^/]*)/", name) or name == "tests/course/test_words.py":
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        yield name, text


def find(pattern, text):
    """Yield (number, line) where a habit begins in a text."""
    for match in re.finditer(pattern.replace(" ", SPACE), text.lower()):
        number = text.count("\n", 0, match.start()) + 1
        yield number, text.split("\n")[number - 1].strip()


def is_allowed(name, line):
    """Return True if the list says that this line is right."""
    return any(name == file and piece in line.lower() for file, piece in ALLOWED)


def test_no_sentence_reads_as_translated():
    """A failure names the file, the line and the better words; in a notebook, lines are counted over all its cells."""
    found = [
        f'{name}, line {number}: "{line}". Say: {better}.'
        for name, text in texts()
        for pattern, better, _ in HABITS
        for number, line in find(pattern, text)
        if not is_allowed(name, line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("pattern, example", [(pattern, example) for pattern, _, example in HABITS])
def test_a_habit_is_found(pattern, example):
    """On one line, and where the line ends in the middle of it, in a docstring or in a comment of a patch."""
    assert list(find(pattern, example)), example
    before, _, last = example.rpartition(" ")
    assert list(find(pattern, f"+    # {before}\n+    # {last}")) or "\n" in example, example


def test_right_sentences_are_left_alone():
    """The patterns are narrow."""
    assert [match for pattern, _, _ in HABITS for match in find(pattern, RIGHT)] == []


def test_what_is_allowed_is_still_there():
    """A line that has gone leaves the list, too."""
    all_texts = dict(texts())
    gone = [(name, piece) for name, piece in ALLOWED if piece not in all_texts.get(name, "").lower()]
    assert not gone, f"no longer there: {gone}"
