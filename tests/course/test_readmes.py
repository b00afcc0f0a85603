"""What the READMEs print is true: commands, output, code, names, paths, tables and counts.

Each ```sh block of a part's README is run as it is, on free ports,
and the ```text block below it is its output. A ```console block holds commands after "$ ", each with its output.
A line "…" stands for any number of lines.

A part's README looks like this; part1_single/README.md is the model:

    # Part 1: its title
    the posts, in a paragraph or two, and the links
    After this part, you can:                         and three bullets
    **Time.** 45 minutes, …                           as in the top README's table
    **Before you start.** …                           what one should know
    **Notebook.** [Its title](../notebooks/part1.ipynb) …
    **Words.** … the [glossary](../book/glossary.md) …
    ![Where can a byte be? …](where_can_a_byte_be.svg)
    ## Goal
    ## Break the part before
    ## Run it
    ## The steps                                      where the part has a directory steps/
    ## The whole                                      in the order in which the first byte meets it
    ## C beside Python                                from part 5 on: Beside others
    ## Exercises
    ## Still wrong
    ## You can now                                    and, as the last line:
    Previous: [part 0](…) · Next: [part 2](…)         beside the first and the last part: [the course](../README.md)

A section "### … in ten lines" is a program of ten lines, in Python or in Lua, with the ```text that it prints.
"""

import ast
import builtins
import difflib
import filecmp
import importlib
import re
import socket
import subprocess
import sys

import pytest

from behaviours import BEHAVIOURS, markdown_table
from support.parts import PARTS, ROOT
from support.peers import free_port, free_ports
from support.programs import PACKAGES, STREAM_MODULE
from support.prose import FENCE, MAX_CODE_COLUMNS, MAX_COLUMNS, MAX_WORDS, long_paragraphs, prose_of, wide_lines
from support.shell import renumber, run

README = ROOT / "README.md"
PART_READMES = [ROOT / directory / "README.md" for directory in PARTS.values()]
READMES = [README, *PART_READMES]
PAGES = [*READMES, ROOT / "CONTRIBUTING.md"]
FIRST_WITHOUT_C = 5  # from this part on, there is no C to compare with
FIGURE = "where_can_a_byte_be.svg"  # in each part
MAX_LINES = 149
TOP_LEVEL = {  # the first component of every path in the repository
    "README.md", "config.lua", "requirements.txt", "Makefile", "LICENSE", "CONTRIBUTING.md", "ruff.toml", ".gitignore",
    ".ci", ".github",
    *PARTS.values(), "notebooks", "book", "tests",
}  # fmt: skip
PATIENCE = 200  # seconds that a block of commands may take


def short(path):
    """Return a path as a reader of the repository would write it."""
    return str(path.relative_to(ROOT))


def fences(readme, *languages):
    """Return the fenced blocks of a README in these languages, as pairs of language and text."""
    found = FENCE.findall(readme.read_text())
    return [(language, text) for language, text in found if not languages or language in languages]


def prose(readme):
    """Return a README without its fenced blocks."""
    return prose_of(readme.read_text())


def section(readme, head):
    """Return what is below a second-level head, up to the next one."""
    return readme.read_text().split(f"\n## {head}\n")[1].split("\n## ")[0]


def part_of(readme):
    """Return the number of the part that a README belongs to."""
    return int(readme.parent.name[4])


def comparison(readme):
    """Return the head of the table that compares a part with other programs."""
    return "C beside Python" if part_of(readme) < FIRST_WITHOUT_C else "Beside others"


def heads_of_a_part(readme):
    """Return the second-level heads that a part's README has, in their order."""
    steps = ["The steps"] if (readme.parent / "steps").is_dir() else []
    start = ["Goal", "Break the part before", "Run it", *steps, "The whole"]
    return [*start, comparison(readme), "Exercises", "Still wrong", "You can now"]


def way_on(part):
    """Return the last line of a part's README: the links to the part before and to the next one."""
    links = [
        f"[part {other}](../{PARTS[other]}/README.md)" if other in PARTS else "[the course](../README.md)"
        for other in (part - 1, part + 1)
    ]
    return f"Previous: {links[0]} · Next: {links[1]}"


def modules(directory):
    """Return the Python files of a part."""
    return sorted((ROOT / directory).glob("*.py"))


def marked(cases):
    """Return test parameters of (README, commands, output), marked with the programs that the commands name."""
    parameters = []
    for number, (readme, commands, shown) in enumerate(cases, 1):
        programs = {"bash"} | PACKAGES.keys() & set(re.findall(r"[\w.-]+", commands))
        identity = f"{readme.parent.name}-{number}"
        marks = pytest.mark.needs(*sorted(programs))
        parameters.append(pytest.param(readme, commands, shown, marks=marks, id=identity))
    return parameters


# Structure


@pytest.mark.parametrize("readme", PART_READMES, ids=short)
def test_every_part_tells_its_story_under_the_same_heads(readme):
    """The same second-level heads in the same order, so that parts can be compared."""
    heads, expected = re.findall(r"^## (.*)$", prose(readme), re.MULTILINE), heads_of_a_part(readme)
    assert heads == expected, f"{short(readme)} has other heads, or another order: {heads}. Hint: make them {expected}."


@pytest.mark.parametrize("readme", PART_READMES, ids=short)
def test_a_part_begins_with_what_it_is_for(readme):
    """Objectives, minutes, what to know, notebook, glossary and figure, in this order, before the first section."""
    top = readme.read_text().partition("\n## ")[0]
    objectives = re.search(r"^After this part, you can:\n\n((?:[- ] ?.+\n)+)", top, re.MULTILINE)
    assert objectives and len(re.findall(r"^- ", objectives[1], re.MULTILINE)) == 3, (
        f"{short(readme)} names no three objectives. Hint: 'After this part, you can:', and three bullets."
    )
    marks = ["After this part, you can:", "**Time.**", "**Before you start.**", "**Notebook.**", "**Words.**", "!["]
    places = [top.find("\n" + mark) for mark in marks]
    assert -1 not in places and places == sorted(places), (
        f"{short(readme)}: these begin its paragraphs, in this order: {marks}. They are at {places}."
    )
    for target in (f"../notebooks/part{part_of(readme)}.ipynb", "../book/glossary.md", FIGURE):
        assert f"]({target}" in top, f"{short(readme)}, before its first section, does not link to {target}."


@pytest.mark.parametrize("readme", PART_READMES, ids=short)
def test_a_part_ends_with_the_way_on(readme):
    """The last line leads to the part before and to the next one."""
    last, expected = readme.read_text().splitlines()[-1], way_on(part_of(readme))
    assert last == expected, f"{short(readme)} ends with {last!r}. Hint: make its last line {expected!r}"


@pytest.mark.parametrize("readme", PART_READMES, ids=short)
def test_the_minutes_of_a_part_are_those_of_the_course(readme):
    """**Time.** in a part's README and the column "minutes" of the top README's table say the same."""
    own = re.search(r"^\*\*Time\.\*\* (\d+) minutes\b", readme.read_text(), re.MULTILINE)
    assert own, f"{short(readme)} gives no time. Hint: '**Time.** 45 minutes, without the exercises.'"
    minutes = minutes_of_the_course()[part_of(readme)]
    assert int(own[1]) == minutes, f"{short(readme)} says {own[1]} minutes, and the top README's table {minutes}."


def minutes_of_the_course():
    """Return the column "minutes" of the table of parts in the top README: a dict of part -> minutes."""
    rows = [line.split(" | ") for line in README.read_text().splitlines() if line.startswith("| ")]
    column = next(row for row in rows if row[0] == "| part").index("minutes")
    return {int(row[0][3]): int(row[column]) for row in rows if re.match(r"\| \[\d\]\(part", row[0])}


def test_the_hours_of_the_course_are_the_sum_of_its_minutes():
    """Where the top README says how long the parts take together, it is what they take one by one."""
    claimed = re.search(r"(\d+)\s+hours\s+for\s+the\s+parts", README.read_text())
    assert claimed, "README.md no longer says how many hours for the parts. Hint: say it in these words."
    hours = round(sum(minutes_of_the_course().values()) / 60)
    assert int(claimed[1]) == hours, f"README.md says {claimed[1]} hours for the parts; they add up to {hours}."


@pytest.mark.parametrize("readme", PART_READMES, ids=short)
def test_a_part_is_easy_on_the_eye(readme):
    """No line that a terminal has to wrap, and no paragraph that goes on and on."""
    wide, long = wide_lines(readme.read_text()), long_paragraphs(readme.read_text())
    assert not wide, f"{short(readme)}: over {MAX_COLUMNS} columns ({MAX_CODE_COLUMNS} in a fenced block): {wide}"
    assert not long, f"{short(readme)}: paragraphs of more than {MAX_WORDS} words: {long}. Hint: split them."


def test_the_top_readme_is_short():
    """Under 150 lines, so that it gets read. A part's page may be as long as its lesson."""
    lines = len(README.read_text().splitlines())
    assert lines <= MAX_LINES, f"{short(README)} has {lines} lines. Hint: cut {lines - MAX_LINES}."


def test_the_two_commands_come_first():
    """`make run` and `make test`, with what they print, before line 25 of the top README."""
    top = "\n".join(README.read_text().splitlines()[:24])
    for words in ("make run", "make test", "Started.  Listening on port 8000.", "passed", "Linux", "Python 3.10"):
        assert words in top, f"README.md does not say {words!r} before line 25. Hint: move it up."


@pytest.mark.parametrize("readme", PART_READMES, ids=short)
def test_every_part_has_four_exercises(readme):
    """One to predict, one to break, one to fix and one to extend, each with a check; hints open when asked for."""
    text = section(readme, "Exercises")
    exercises = re.split(r"^\d\. ", text, flags=re.MULTILINE)[1:]
    kinds = [re.match(r"\*\*(\w+)\.\*\*", exercise) for exercise in exercises]
    assert [kind and kind[1] for kind in kinds] == ["Predict", "Break", "Fix", "Extend"], (
        f"{short(readme)}: exercises are Predict, Break, Fix and Extend. Hint: number them, and begin with **Predict.**"
    )
    for exercise in exercises:
        assert "exercise.py check " in exercise, f"{short(readme)}: no check. Hint: name the command: {exercise[:50]!r}"
    assert "exercise.py hint NAME" in text, f"{short(readme)}: where are the hints? Hint: exercise.py hint NAME"
    assert "<details>" not in text, f"{short(readme)}: what is folded is open in a terminal. Hint: put it in hints.md"


def test_checks_of_exercises_choose_some_test():
    """Each `pytest … -k word` in a README selects at least one test by its name."""
    names = re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in ROOT.glob("tests/*/test_*.py")), re.M)
    words = [(readme, word) for readme in PAGES for word in re.findall(r"-k (\w+)", readme.read_text())]
    assert words, "No README has a check with -k any more. Hint: remove this test, or look at the exercises."
    for readme, word in words:
        assert any(word in name for name in names), (
            f"{short(readme)}: -k {word} selects no test. Hint: take a word from a test's name in tests/."
        )


# Names, code and paths


def names_in(tree):
    """Return every name that a module defines, imports or uses as an attribute."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def is_known_to_python(name):
    """Return True if a name is built in, or an attribute of a standard module (or of the class socket)."""
    if hasattr(builtins, name):
        return True
    module, _, attribute = name.rpartition(".")
    if module not in sys.stdlib_module_names:
        return False
    module = importlib.import_module(module)
    return hasattr(module, attribute) or hasattr(getattr(module, module.__name__, None), attribute)


@pytest.mark.parametrize("readme", PART_READMES, ids=short)
def test_every_python_name_beside_c_exists(readme):
    """The Python column of the table that compares names what is in this part's source, or in Python itself."""
    known = set()
    for path in modules(readme.parent.name):
        known |= {path.stem} | names_in(ast.parse(path.read_text()))
    rows = [line.split(" | ") for line in section(readme, comparison(readme)).splitlines() if line.startswith("| ")]
    assert len(rows) > 5, f"{short(readme)}: the table that compares is gone, or nearly. Hint: one row a function."
    for row in rows[1:]:
        assert len(row) == 3, f"{short(readme)}: a row has {len(row)} cells, not 3: {' | '.join(row)}"
        names = re.findall(r"`([^`]+)`", row[1])
        assert names, f"{short(readme)}: no name in the Python column. Hint: put one in backticks: {row[1]}"
        for name in names:
            assert name in known or is_known_to_python(name), (
                f"{short(readme)}: there is no {name} in {readme.parent.name}/*.py. Hint: was it renamed?"
            )


@pytest.mark.parametrize("readme", PART_READMES, ids=short)
def test_python_code_stands_in_the_source(readme):
    """Every ```python block is a run of lines of one of the part's files, give or take its indentation."""
    sources = [path.read_text() for path in modules(readme.parent.name)]
    programs = [code for _, _, code, _ in in_ten_lines()]
    blocks = [text for _, text in fences(readme, "python") if text not in programs]
    assert blocks, f"{short(readme)} shows no code. Hint: quote some where you explain it."
    for block in blocks:
        shifted = (
            "".join(" " * spaces + line if line.strip() else line for line in block.splitlines(keepends=True))
            for spaces in range(0, 24, 4)
        )
        assert any("\n" + text in "\n" + source for text in shifted for source in sources), (
            f"{short(readme)} shows code that is not in {readme.parent.name}/. Hint: copy it again:\n{block}"
        )


@pytest.mark.parametrize("readme", PAGES, ids=short)
def test_every_link_leads_somewhere(readme):
    """A relative link is a file that exists; a link by a label has its address below."""
    text = prose(readme)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not re.match(r"https?://", target):
            exists = (readme.parent / target.split("#")[0]).exists()
            assert exists, f"{short(readme)} links to {target}, which is not there. Hint: correct the path."
    used = set(re.findall(r"\]\[([^\]]+)\]", text))
    defined = set(re.findall(r"^\[([^\]]+)\]: https://\S+$", text, re.MULTILINE))
    assert used == defined, f"{short(readme)}: labels used and not defined, or the reverse: {used ^ defined}"


def paths_in(text):
    """Return the words that look like paths of the repository, without the student's own ones (my_…)."""
    words = re.findall(r"(?<![\w/.~$-])[.\w][\w./-]*", text)
    for word in words:
        word = word.rstrip(".")
        first = word.split("/")[0]
        if first.startswith("my_"):
            continue
        if first in TOP_LEVEL or word.endswith((".py", ".lua", ".md", ".txt")):
            yield word


@pytest.mark.parametrize("readme", PAGES, ids=short)
def test_every_path_exists(readme):
    """A path in backticks or in a command exists, seen from the top directory or from the README's own."""
    text = prose(readme)
    texts = re.findall(r"`([^`\n]+)`", text) + re.findall(r"<code>(.*?)</code>", text)
    texts += [text for _, text in fences(readme, "sh")]
    paths = {path for text in texts for path in paths_in(text)}
    assert paths, f"{short(readme)} names no file. Hint: is the pattern of this test still right?"
    missing = [path for path in paths if not (ROOT / path).exists() and not (readme.parent / path).exists()]
    assert not missing, f"{short(readme)} names {missing}, which are not there. Hint: correct the paths."


# Tables and counts


def test_the_table_of_behaviours_is_the_tests_own():
    """What README.md says that each part can do is what the tests expect."""
    text = README.read_text()
    shown = text.partition("<!-- behaviours -->\n")[2].partition("\n<!-- /behaviours -->")[0]
    assert shown == markdown_table(), (
        "README.md: the table between the marks <!-- behaviours --> and <!-- /behaviours --> is not up to date. "
        "Hint: paste what python3 tests/suite/behaviours.py prints."
    )


@pytest.mark.parametrize("readme", [README, ROOT / "tests" / "README.md"], ids=short)
def test_the_sample_report_card_is_in_the_report_cards_words(readme):
    """The rows and the verdict that a page shows are made of the words in tests/suite/behaviours.py."""
    card = next(text for _, text in fences(readme, "text") if "Your proxy has reached" in text)
    rows = re.findall(r"^ ?(\d+)  (?:yes|no ) (?:\d+ of \d+) +(.*?)…?$", card, re.MULTILINE)
    assert rows, f"{short(readme)}: the sample card has no rows. Hint: copy some from a report card."
    for number, text in rows:
        row = BEHAVIOURS[int(number) - 1]
        assert row.text.startswith(text), f"{short(readme)}: row {number} reads {row.text!r}, not {text!r}."
    part, missing = re.search(r"^Your proxy has reached part (\d)\. Next: (.*)\.$", card, re.MULTILINE).groups()
    first = next(row for row in BEHAVIOURS if row.parts[int(part)] == "no")
    assert missing == first.missing, f"{short(readme)}: after part {part} comes {first.missing!r}, not {missing!r}."


def test_claimed_line_counts_are_true():
    """Where README.md gives the length of part 1, it is the length of part 1."""
    claimed = re.search(r"a blocking loop of (\d+) lines", README.read_text())
    assert claimed, "README.md no longer gives part 1's length. Hint: remove this test, or say it in the same words."
    lines = len((ROOT / "part1_single" / "rsp.py").read_text().splitlines())
    assert int(claimed[1]) == lines, f"README.md says {claimed[1]} lines; part1_single/rsp.py has {lines}."


def test_the_claimed_number_of_tests_is_near():
    """The last line of `make test` in README.md adds up to the number of tests, give or take a twentieth."""
    claimed = re.search(r"^=+ (\d+) passed, (\d+) xfailed in ", README.read_text(), re.MULTILINE)
    assert claimed, "README.md does not show how `make test` ends. Hint: copy its last line."
    command = [sys.executable, "-m", "pytest", "tests", "--collect-only", "-q"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE).stdout
    collected = int(re.search(r"^(\d+) tests collected", listing, re.MULTILINE)[1])
    assert abs(int(claimed[1]) + int(claimed[2]) - collected) <= collected / 20, (
        f"README.md says {claimed[1]} passed and {claimed[2]} xfailed; there are {collected} tests. "
        "Hint: copy the last line of `make test` again."
    )


def test_the_optional_programs_are_named():
    """README.md names each program that some test is left out for."""
    paragraph = README.read_text().partition("need neither root")[2].partition("\n\n")[0]
    programs = PACKAGES.keys() - {
        "bash",
        "diff",
        "make",
        STREAM_MODULE,
    }  # on every Debian, or there anyway; a part of nginx
    unnamed = [name for name in programs if not re.search(rf"\b{name}\b", paragraph)]
    assert not unnamed, f"README.md, below the two commands, does not name {sorted(unnamed)}. Hint: they are optional."


# The diffs between the parts


def test_part_3_differs_from_part_2_by_a_config_and_little_else():
    """config.py is new; rsp.py (and page and figure) differ, by some 28 lines as in the post; the rest is the same."""
    two, three = ROOT / PARTS[2], ROOT / PARTS[3]
    names = [{path.name for path in directory.iterdir() if path.is_file()} for directory in (two, three)]
    assert names[1] - names[0] == {"config.py"} and not names[0] - names[1], (
        f"Only config.py is new in part 3, not: {names[0] ^ names[1]}. Hint: copy or remove."
    )
    _, differing, errors = filecmp.cmpfiles(two, three, names[0], shallow=False)
    assert (set(differing) - {"README.md", FIGURE}, errors) == ({"rsp.py"}, []), (
        f"Between parts 2 and 3 these differ: {sorted(differing)}. Hint: only rsp.py, README.md and the figure may; "
        "change a shared module in both."
    )
    lines = difflib.ndiff(*[(part / "rsp.py").read_text().splitlines() for part in (two, three)])
    changed = [line for line in lines if line.startswith(("+ ", "- "))]
    assert len(changed) <= 30, f"rsp.py differs by {len(changed)} lines. Hint: the post had 28. One idea a part."


def test_modules_never_name_a_part():
    """Only rsp.py says which part it is, so that the other modules can stay identical."""
    found = []
    for directory in PARTS.values():
        for path in modules(directory):
            if path.name != "rsp.py" and re.search(r"\bpart[ _]?\d", path.read_text(), re.IGNORECASE):
                found.append(short(path))
    assert not found, f"These name a part: {found}. Hint: say it in rsp.py's head instead."


def definitions(path):
    """Return the names of a module's functions, classes and methods, in their order."""
    tree = ast.walk(ast.parse(path.read_text()))
    nodes = [node for node in tree if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return [node.name for node in sorted(nodes, key=lambda node: node.lineno)]


@pytest.mark.parametrize("part", list(PARTS)[1:])
def test_definitions_keep_their_order_from_part_to_part(part):
    """What a file defines in one part and in the next comes in the same order in both, so that the diff reads well."""
    before, after = ROOT / PARTS[part - 1], ROOT / PARTS[part]
    names = {path.name for path in before.glob("*.py")} & {path.name for path in after.glob("*.py")}
    assert "rsp.py" in names, f"{short(before)} and {short(after)} should both have an rsp.py."
    for name in sorted(names):
        orders = [definitions(before / name), definitions(after / name)]
        shared = set(orders[0]) & set(orders[1])
        first, second = ([name for name in order if name in shared] for order in orders)
        assert shared, f"{name}: parts {part - 1} and {part} share no definition. Hint: was everything renamed?"
        assert first == second, (
            f"{name} has another order in part {part} than in part {part - 1}. Hint: keep {first}, not {second}."
        )


# Commands and their output


def same(shown, real):
    """Return True if a printed line is real: seconds roughly, big counts not at all, curl's error by its number."""
    if shown.startswith("curl: ("):
        return real.startswith(shown.split(")")[0] + ")")
    seconds = re.compile(r"\d+\.\d+(?= s$)")
    if seconds.search(shown) and seconds.search(real):
        near = abs(float(seconds.search(shown)[0]) - float(seconds.search(real)[0])) < 0.8
        return near and seconds.sub("", shown) == seconds.sub("", real)
    return shown == real


def appears_in(shown, real):
    """Return True if the printed lines are the real ones, where a line "…" stands for any number of them."""
    if not shown:
        return not real
    if shown[0] == "…":
        return any(appears_in(shown[1:], real[start:]) for start in range(len(real) + 1))
    return bool(real) and same(shown[0], real[0]) and appears_in(shown[1:], real[1:])


def shell_fences(readme):
    """Return the ```sh and ```text blocks of a README, but not what a program in ten lines prints."""
    printed = [output for page, _, _, output in in_ten_lines() if page == readme]
    return [each for each in fences(readme, "sh", "text") if each[1] not in printed]


def in_ten_lines():
    """Yield (README, language, code, output) of each section "### … in ten lines"."""
    for readme in PART_READMES:
        for text in re.split(r"^### .* in ten lines$", readme.read_text(), flags=re.MULTILINE)[1:]:
            (language, code), (_, output) = FENCE.findall(text)[:2]
            yield readme, language, code, output


def scripts():
    """Return each ```sh block of a part's README with the ```text block below it."""
    for readme in PART_READMES:
        blocks = shell_fences(readme)
        for (language, commands), (_, output) in zip(blocks, blocks[1:], strict=False):
            if language == "sh":
                yield readme, commands, output.splitlines()


def transcripts():
    """Return each command of a ```console block with its output."""
    for readme in READMES:
        for _, text in fences(readme, "console"):
            for entry in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, *output = entry.splitlines()
                yield readme, command, output


@pytest.mark.parametrize("readme", PART_READMES, ids=short)
def test_every_script_shows_its_output(readme):
    """A ```sh block of a part's README is followed by a ```text block: no command without its result."""
    languages = [language for language, _ in shell_fences(readme)]
    assert languages and languages == ["sh", "text"] * (len(languages) // 2), (
        f"{short(readme)}: ```sh and ```text blocks do not alternate: {languages}. Hint: show what each script prints."
    )


@pytest.mark.parametrize(("readme", "commands", "shown"), marked(scripts()))
def test_a_script_prints_what_the_readme_shows(readme, commands, shown, tmp_path):
    """Run a block of commands as a reader would, but on free ports, and compare what it prints."""
    proxy_port, (backend_port, *others) = str(free_port()), map(str, free_ports(3))
    ports = dict.fromkeys(re.findall(r'\bport = "(\d+)"', commands))  # the ones that a config in the commands names
    ports = {port: str(free_port()) for port in ports} | {"8000": proxy_port, "8001": backend_port}
    ports |= dict(zip(("8002", "8003"), others, strict=True))  # configs of the parts have ports one after another
    real = run(renumber(commands, ports), tmp_path, RSP_LISTEN_PORT=proxy_port, RSP_BACKEND_PORT=backend_port)
    back = {own: printed for printed, own in ports.items()}
    real = [renumber(line, back) for line in real]
    assert appears_in(shown, real), (
        f"{short(readme)}: these commands print something else:\n{commands}\nREADME: {shown}\nreally: {real}\n"
        "Hint: run them yourself; if they are right, correct the README."
    )


@pytest.mark.parametrize(
    ("language", "code", "output"),
    [pytest.param(language, code, output, id=readme.parent.name) for readme, language, code, output in in_ten_lines()],
)
def test_a_program_in_ten_lines_prints_what_is_below_it(language, code, output):
    """Ten lines, not counting blank ones and comments; run on a free port, it prints what the page shows."""
    lines = [line for line in code.splitlines() if line.strip() and not line.strip().startswith(("#", "--"))]
    assert len(lines) == 10, f"{len(lines)} lines. Hint: there should be ten."
    if language == "lua":
        code = f"from lupa.luajit21 import LuaRuntime\nLuaRuntime().execute({code!r})"
    else:
        code = renumber(code, {"8000": str(free_port())})
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert run.stdout + run.stderr == output, f"It prints:\n{run.stdout + run.stderr}Hint: paste that into the page."


SLOW_SERVER = """python3 -c 'import http.server as h, time; time.sleep(1.5)
h.HTTPServer(("127.0.0.1", 8001), h.SimpleHTTPRequestHandler).serve_forever()' 2>/dev/null & backend=$!
sleep 0.1
curl -sS -o /dev/null http://127.0.0.1:8001/ && echo it listens
kill $backend
"""


@pytest.mark.needs("bash", "curl")
def test_commands_wait_for_a_server_that_starts_slowly(tmp_path):
    """A sleep is longer here than a reader's, if what was started does not listen yet."""
    shown = run(renumber(SLOW_SERVER, {"8001": str(free_port())}), tmp_path)
    assert shown == ["it listens"], f"{shown}. Hint: see is_starting in tests/support/shell.py"


@pytest.mark.needs("bash", "curl", "redis-server")
def test_a_redis_that_cannot_listen_says_so(tmp_path):
    """The commands of part 7 take a port that is not redis's usual one; a line says if it is in use, too."""
    _, commands, _ = next(each for each in scripts() if "redis-server" in each[1])
    start = next(line for line in commands.splitlines() if line.startswith("redis-server"))
    with socket.create_server(("", free_port())) as taken:
        (port,) = re.findall(r"--port (\d+)", start)
        shown = run(renumber(f"{start}\nwait $redis", {port: str(taken.getsockname()[1])}), tmp_path)
    assert port != "6379" and "Failed listening" in "".join(shown), f"port {port} was in use, and it printed: {shown}"


@pytest.mark.parametrize(("readme", "command", "shown"), marked(transcripts()))
def test_a_command_prints_what_the_readme_shows(readme, command, shown, tmp_path):
    """Run a command that exits on its own, and compare what it prints."""
    real = run(command, tmp_path)
    assert appears_in(shown, real), (
        f"{short(readme)}: this command prints something else: {command}\nREADME: {shown}\nreally: {real[:20]}\n"
        "Hint: run it yourself; if it is right, correct the README."
    )
