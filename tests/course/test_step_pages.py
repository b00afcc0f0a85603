"""The pages of the steps: each shows its patch hunk by hunk, explains it in words, and names what there is.

Commands are run on request alone: see test_steps.py.
"""

import functools
import re

import pytest

from behaviours import BY_NAME
from support.pages import FENCE, HEADS, WORDS_A_LINE, changes_of, complaints, draft, renewed, with_file_names, words_in
from support.parts import PARTS, ROOT
from support.prose import long_paragraphs, wide_lines
from support.steps import all_steps, chain_of, find_step, parts_with_steps, steps_of

STEPS = [pytest.param(step, id=step.name) for step in all_steps()]
ANSWERS = 2


def prose(page):
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


chain_once = functools.cache(chain_of)


def files_around(step):
    """Return the files before and after a step."""
    return chain_once(step.part)[step.number - 1 : step.number + 1]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_has_a_page_with_the_usual_sections(step):
    """Title, links to the neighbours, what is missing, the idea, the change, try it, still wrong, two questions."""
    assert step.page.exists(), f"{step.page.name} is missing. Hint: python tests/steps.py draft {step.name}"
    title, _, links, *_ = step.page.read_text().splitlines()
    assert title == f"# Step {step.number}: {step.title}"
    neighbours = {other.number: other.page.name for other in steps_of(step.part)}
    expected = [neighbours.get(step.number - 1), "../README.md", neighbours.get(step.number + 1)]
    targets = re.findall(r"\]\(([^)]+)\)", links)
    assert targets == [target for target in expected if target], f"the third line links to {targets}, not {expected}"
    assert re.findall(r"^## (.*)$", prose(step.page), re.MULTILINE) == HEADS
    questions = step.page.read_text().partition(f"## {HEADS[-1]}")[2]
    answers = re.findall(r"<details><summary>Answer</summary>\n\n(.+?)\n\n</details>", questions, re.DOTALL)
    assert len(answers) == ANSWERS, f"two questions, with folded answers, and not {len(answers)}"


@pytest.mark.parametrize("step", STEPS)
def test_a_page_shows_each_line_of_its_patch_once(step):
    """In runs of the patch's lines, in any order, with true context; or it names what has only moved."""
    lines = complaints(step, *files_around(step), step.page.read_text())
    assert not lines, "\n".join([*lines, f"Hint: python tests/steps.py pages {step.part}"])


@pytest.mark.parametrize("step", STEPS)
def test_a_page_names_the_file_of_each_hunk(step):
    """Above it, where a reader sees it: the fence's own words are for programs."""
    text = step.page.read_text()
    assert with_file_names(text) == text, f"Hint: python tests/steps.py pages {step.part}"


@pytest.mark.parametrize("step", STEPS)
def test_a_page_explains_what_it_shows(step):
    """It has at least one word and a half for each line that the step changes."""
    text = step.page.read_text()
    changed = sum(len(change.to_show) for change in changes_of(step, *files_around(step), text).values())
    words = words_in(text)
    assert words >= WORDS_A_LINE * changed, f"{step.page.name}: {words} words for {changed} lines. Hint: explain more"


@pytest.mark.parametrize("step", STEPS)
def test_a_page_reads_well(step):
    """Lines of at most 100 columns, paragraphs of at most 80 words; a hunk is as wide as its code."""
    text = prose(step.page)
    assert not wide_lines(text), f"{step.page.name}: too wide: {wide_lines(text)}"
    assert not long_paragraphs(text), f"{step.page.name}: too many words in a paragraph: {long_paragraphs(text)}"


@pytest.mark.parametrize("step", STEPS)
def test_a_pages_commands_name_what_there_is(step):
    """Each block of commands has its output below; its files exist, and its steps, and so do the pages it links to."""
    text = step.page.read_text()
    languages = [match[1] for match in FENCE.finditer(text) if match[1] in ("sh", "text")]
    commands = "".join(match[2] for match in FENCE.finditer(text) if match[1] == "sh")
    pairs = re.findall(r"^```sh\n.*?^```\n\n(?:[^`]*\n\n)?```text$", text, re.MULTILINE | re.DOTALL)
    assert languages.count("sh") == len(pairs) > 0, "a block of commands is followed by a ```text block: its output"
    for name in re.findall(r"lay-out (\S+) my_", commands):
        find_step(name)
    paths = [word for word in re.findall(r"[\w./-]+", commands) if re.match(r"(tests|part\d_\w+)/|config.lua$", word)]
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing, f"{step.page.name} names {missing}, which are not there"
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose(step.page)):
        assert target.startswith("https://") or (step.page.parent / target).exists(), f"no {target}"


@pytest.mark.parametrize("part", parts_with_steps())
def test_the_map_names_every_step(part):
    """steps/README.md links to each page in turn, with its title and the rows of the table that it turns to yes."""
    text = " ".join((ROOT / PARTS[part] / "steps" / "README.md").read_text().split())
    for step in steps_of(part):
        before, link, after = text.partition(f"]({step.page.name})")
        assert link, f"the map has no link to {step.page.name}, or not in its place"
        following = [f"]({other.page.name})" for other in steps_of(part) if other.number > step.number]
        entry = before[-100:] + (after.partition(following[0])[0] if following else after)
        for words in [step.title, *(BY_NAME[row].text for row in step.claims("rows"))]:
            assert words in entry, f"step {step.name}: the map does not say {words!r} next to the link to its page"
        text = after


# --- the rules themselves ----------------------------------------------------------------------------

LOST = "+        self.output = LOST\n"  # a line of page 4.3, like the others below
TRY = "\n## Try it\n"
END = "-            self.pair.finish()\n+            self.input = ENDED\n             return\n"


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        (LOST, "", f"connection.py: not shown: {LOST.strip(chr(10))!r}"),
        (LOST, LOST + LOST, f"connection.py: shown, but not in the patch, or more than once: {LOST.strip(chr(10))!r}"),
        (END, END.replace("-            self.pair.finish()\n", ""), "not shown: '-            self.pair.finish()'"),
        (END, END.replace(" return", " pass"), "there is no '             pass'"),
        (END, END.replace("             return\n", ""), "lines are left out before or after it, and no '…' says so"),
        ("```diff pair.py\n", "```diff pairs.py\n", "the step changes no file 'pairs.py'"),
        (
            "## Try it\n",
            "Moved, nothing new: `pair.py: nowhere`.\n\n## Try it\n",
            "moved: there is no nowhere in pair.py",
        ),
        (
            "## Try it\n",
            "Moved, nothing new: `pair.py: settle`.\n\n## Try it\n",
            "most lines of settle in pair.py are new",
        ),
    ],
    ids=["left out", "twice", "half", "false context", "no mark", "no such file", "no such name", "not moved"],
)
def test_what_a_page_shows_wrongly_is_named(old, new, complaint):
    """Page 4.3 with a mistake in it: the complaint says where."""
    step = find_step("4.3")
    text = step.page.read_text()
    assert old in text, f"page 4.3 has no {old!r}. Hint: take another line"
    lines = complaints(step, *files_around(step), text.replace(old, new, 1))
    assert any(complaint in line for line in lines), lines


@pytest.mark.parametrize(
    "old, new",
    [
        (END, END.replace(" return", " pass")),
        (END, END.replace("             return\n", "")),
        (LOST, "+ mine\n"),
        (LOST, ""),
    ],
    ids=["false context", "no mark", "another line", "left out"],
)
def test_a_page_is_brought_up_to_date(old, new):
    """Whatever of the code has changed since the page was written, each block shows its part of the patch again."""
    step = find_step("4.3")
    text = step.page.read_text()
    mended = renewed(step, *files_around(step), text.replace(old, new, 1))
    assert complaints(step, *files_around(step), mended) == []
    assert prose(step.page) == FENCE.sub("", mended)


@pytest.mark.parametrize("step", STEPS)
def test_a_new_page_shows_each_line(step):
    """The page that `draft` begins has all hunks, in blocks that are short enough."""
    text = draft(step, *files_around(step))
    assert complaints(step, *files_around(step), text) == []
    assert renewed(step, *files_around(step), text) == text
