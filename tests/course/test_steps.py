"""The steps from part 3 to part 4: each applies, each shows what it is for, and the last is part 4.

Runs tests of the shared suite on each step, which needs lupa. What carries a change through the steps needs git.
"""

import ast
import importlib.util
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from behaviours import BY_NAME
from pytest_runs import SUITE, outcomes
from support.harness import Command, Proxy
from support.parts import PARTS, ROOT
from support.peers import free_port

STEPS = ROOT / PARTS[4] / "steps"
README = STEPS / "README.md"
PATCHES = sorted(STEPS.glob("*.patch"), key=lambda patch: int(patch.name.partition("_")[0]))
NUMBERS = range(1, len(PATCHES) + 1)
MOST_LINES = 145  # that a step may add or take away: two screens and a half
EVERYWHERE = "hard use"  # a row of many tests; a step names those of them that it is the first to pass
NEEDS_LUPA = pytest.mark.skipif(importlib.util.find_spec("lupa") is None, reason="lupa is missing: pip install lupa")


def lay_out(*words, program=STEPS / "lay_out.py"):
    """Return what became of the reader's command, or of another one beside it."""
    command = [sys.executable, program, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def laid_out(number, directory):
    """Lay out a step, and return its files: a dict of name -> bytes."""
    run = lay_out(number, directory)
    assert run.returncode == 0, run.stderr
    return python_files(directory)


def python_files(directory):
    """Return the Python files of a directory: a dict of name -> bytes."""
    return {path.name: path.read_bytes() for path in directory.glob("*.py")}


def claims(number, label):
    """Return the names that the head of a step's patch lists after a label."""
    head = PATCHES[number - 1].read_text().partition("\n--- ")[0]
    found = re.search(rf"^{label}: (.+)$", head, re.MULTILINE)
    return found[1].split(", ") if found else []


def row_tests(name):
    """Return the tests of a row, as pytest takes them."""
    path = SUITE / "test_behaviours.py"
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    mark = f"behaviour({name!r})"
    return [f"{path}::{node.name}" for node in functions if mark in map(ast.unparse, node.decorator_list)]


def named_test(name):
    """Return a test of the suite, as pytest takes it."""
    paths = [path for path in SUITE.glob("test_*.py") if f"\ndef {name}(" in path.read_text()]
    assert paths, f"the suite has no {name}. Hint: was it renamed? Correct the head of the step's patch"
    return f"{paths[0]}::{name}"


def shown_by(number):
    """Return the tests that a step is the first to pass, as pytest takes them."""
    rows = [test for row in claims(number, "rows") if row != EVERYWHERE for test in row_tests(row)]
    return rows + [named_test(name) for name in claims(number, "tests")]


# --- the patches -------------------------------------------------------------------------------------


def test_the_steps_lead_from_part_3_to_part_4(tmp_path):
    """Each applies to the one before and changes something; the last has part 4's files, byte for byte."""
    chain = [python_files(ROOT / PARTS[3])]
    for number in NUMBERS:
        chain.append(laid_out(number, tmp_path / str(number)))
        assert chain[-1] != chain[-2], f"step {number} changes nothing"
    part = python_files(ROOT / PARTS[4])
    assert chain[-1].keys() == part.keys()
    other = [name for name in part if chain[-1][name] != part[name]]
    assert not other, (
        f"{other} are not part 4's. Hint: carry the change through the steps, see steps/README.md, its end"
    )


@NEEDS_LUPA
@pytest.mark.parametrize("number", NUMBERS)
def test_a_step_shows_what_it_is_for(number, tmp_path):
    """It passes what it is the first to pass, and not yet what shows the step after it."""
    laid_out(number, tmp_path / "step")
    to_pass = row_tests("serves requests")[:1] + shown_by(number)
    to_fail = shown_by(number + 1)[:1] if number < len(PATCHES) else []
    command = Command([sys.executable, str(tmp_path / "step" / "rsp.py"), "{config}"])
    results = outcomes(command, *to_pass, *to_fail)
    assert {where(test.name) for test in results} == set(map(where, to_pass + to_fail))
    for test in results:
        if where(test.name) in map(where, to_fail):
            assert test.is_assertion, (
                f"{test.name} is to show step {number + 1}; at step {number}: {test.why or 'passed'}"
            )
        else:
            assert test.passed, f"step {number} does not pass {test.name}: {test.why}"


def where(name):
    """Return a test's name without its file and its parameters."""
    return name.rpartition("::")[2].partition("[")[0]


@NEEDS_LUPA
@pytest.mark.parametrize("number, status", [(7, -signal.SIGTERM), (8, 0)])
def test_from_step_8_on_it_is_the_loop_that_a_signal_ends(number, status, tmp_path):
    """So the program ends with status 0. Until then the kernel ends it, but wouldn't if it were process 1."""
    laid_out(number, tmp_path / "step")
    with Proxy(Command([sys.executable, str(tmp_path / "step" / "rsp.py"), "{config}"]), free_port()) as proxy:
        proxy.signal_and_wait(signal.SIGTERM)
        assert (proxy.process.returncode, proxy.errors()) == (status, "")


def test_every_row_that_part_4_adds_is_some_steps():
    """What part 3 can't do, and part 4 can, is claimed once."""
    added = [row.name for row in BY_NAME.values() if row.parts[3] != "yes" and row.parts[4] == "yes"]
    claimed = [row for number in NUMBERS for row in claims(number, "rows")]
    assert sorted(claimed) == sorted(added), (
        f"claimed: {claimed}; part 4 adds {added}. Hint: correct the patches' heads"
    )


def test_a_step_is_short():
    """One idea a step: what it changes can be read in one go. Empty lines don't count."""
    for patch in PATCHES:
        changed = len(re.findall(r"^[+-][^+\n-]", patch.read_text(), re.MULTILINE))
        assert changed <= MOST_LINES, f"{patch.name} changes {changed} lines. Hint: is part of it another step?"


# --- the page ----------------------------------------------------------------------------------------


def test_the_page_tells_of_every_step():
    """steps/README.md has a section for each patch, with its title, a link to it, and the rows that it turns to yes."""
    sections = re.split(r"^## ", README.read_text(), flags=re.MULTILINE)[1 : len(PATCHES) + 1]
    for number, (patch, section) in enumerate(zip(PATCHES, sections, strict=True), 1):
        title = patch.read_text().partition("\n")[0]
        assert re.match(r"Step (\d+): ", title)[1] == str(number) == patch.name.partition("_")[0]
        assert section.startswith(f"{title}\n"), f"{README.name} has {section[:40]!r} instead of {title!r}"
        assert f"[{patch.name}]({patch.name})" in section, f"{title!r} has no link to {patch.name}"
        texts = "; ".join(BY_NAME[row].text for row in claims(number, "rows"))
        told = re.search(r"^Starts to work: (.*?)\.$", section, re.MULTILINE | re.DOTALL)
        assert (told[1] if told else "") == texts, f"{title!r}: starts to work: {texts}"


def test_the_page_shows_what_the_command_prints(tmp_path):
    """The example is what a reader sees, who starts in the top directory."""
    shown = re.search(r"^```console\n\$ ([^\n]*)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    words = shlex.split(shown[1])
    assert words[:2] == ["python", f"{PARTS[4]}/steps/lay_out.py"]
    printed = lay_out(words[2], tmp_path / words[3]).stdout
    assert printed.replace(f"{tmp_path}/", "") == shown[2]


# --- the commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["3"], ["0", "{}/new"], ["11", "{}/new"], ["three", "{}/new"]], ids=str)
def test_a_wrong_call_shows_the_usage(words, tmp_path):
    """One line, with the range of steps, and nothing is made."""
    run = lay_out(*[word.format(tmp_path) for word in words])
    usage = f"Usage: python {PARTS[4]}/steps/lay_out.py <step, 1 to {len(PATCHES)}> <directory>\n"
    assert (run.returncode, run.stdout, run.stderr) == (1, "", usage)
    assert not list(tmp_path.iterdir())


def test_a_directory_with_something_in_it_is_left_alone(tmp_path):
    """A reader may have worked there."""
    (tmp_path / "rsp.py").write_text("mine")
    run = lay_out(1, tmp_path)
    assert (run.returncode, run.stderr) == (1, f"{tmp_path} is there already, and not empty. Name a new directory.\n")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def copy_of_the_parts(directory):
    """Make a copy of parts 3 and 4, steps included, and return its steps directory."""
    for part in (3, 4):
        shutil.copytree(ROOT / PARTS[part], directory / PARTS[part], ignore=shutil.ignore_patterns("__pycache__"))
    return directory / PARTS[4] / "steps"


def edit(path, before, after):
    """Replace the only place where a file has a text."""
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} has {before!r} {text.count(before)} times"
    path.write_text(text.replace(before, after))


def test_a_patch_that_no_longer_applies_is_one_clear_line(tmp_path):
    """Part 3 has changed, and the steps have not: the line names the patch, the file and the line."""
    steps = copy_of_the_parts(tmp_path)
    edit(tmp_path / PARTS[3] / "epollinterface.py", "def do_reactor_loop(epoll):", "def loop(epoll):")
    run = lay_out(2, tmp_path / "new", program=steps / "lay_out.py")
    assert run.returncode == 1
    expected = rf"{PATCHES[0].name} no longer applies: line \d+ of epollinterface.py .*def do_reactor_loop.*its end\.\n"
    assert re.fullmatch(expected, run.stderr), run.stderr
    assert not (tmp_path / "new").exists()


def test_without_part_3_there_are_no_steps(tmp_path):
    """Somebody may have taken part 4's directory alone."""
    steps = copy_of_the_parts(tmp_path)
    shutil.rmtree(tmp_path / PARTS[3])
    run = lay_out(2, tmp_path / "new", program=steps / "lay_out.py")
    assert run.returncode == 1
    assert re.fullmatch(rf"The steps begin with part 3, and it is not there: .*{PARTS[3]}\..*\n", run.stderr), (
        run.stderr
    )


@pytest.fixture
def committed_parts(tmp_path):
    """The steps directory of a copy of parts 3 and 4 that is committed in a repository of its own."""
    steps = copy_of_the_parts(tmp_path)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "before"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True, capture_output=True)
    return steps


@pytest.mark.needs("git")
def test_a_change_of_the_parts_is_carried_through_the_steps(committed_parts, tmp_path):
    """One that both parts have, one that only part 4 has, and one in a line that no earlier step has."""
    for part in (3, 4):
        edit(tmp_path / PARTS[part] / "netutils.py", '"a port is a number', '"any port is a number')
    edit(tmp_path / PARTS[4] / "connection.py", "news comes once.", "news comes once, and no more.")
    edit(tmp_path / PARTS[4] / "connection.py", "READS_PER_EVENT = 8", "READS_PER_EVENT = 9")
    merged = lay_out("merge", tmp_path / "work", program=committed_parts / "carry.py")
    told = re.findall(r"^Step (\d) and those before it keep lines of connection.py", merged.stdout, re.MULTILINE)
    assert (merged.returncode, told) == (0, ["9", "2"]), f"{merged.stdout}{merged.stderr}"
    packed = lay_out("pack", tmp_path / "work", program=committed_parts / "carry.py")
    assert packed.returncode == 0, packed.stderr
    for number in NUMBERS:
        step = tmp_path / str(number)
        run = lay_out(number, step, program=committed_parts / "lay_out.py")
        assert run.returncode == 0, run.stderr
        assert "any port is" in (step / "netutils.py").read_text(), f"step {number}"
        if number > 1:  # the first has no connection.py yet
            assert ("once, and no more." in (step / "connection.py").read_text()) == (number > 2), f"step {number}"
    assert python_files(step) == python_files(tmp_path / PARTS[4])


@pytest.mark.needs("git")
@pytest.mark.parametrize(
    "words, complaint",
    [
        ([], "Usage: python part4_buffering/steps/carry.py merge .*"),
        (["merge", "{}"], ".* is there already. Name a new directory."),
        (["merge", "{}/new", "nowhere"], "git ls-tree: fatal: Not a valid object name nowhere"),
        (["pack", "{}/new"], ".*new/0 has no Python files. Make the directories: .* merge DIR"),
    ],
    ids=["nothing", "not empty", "no such commit", "nothing to pack"],
)
def test_a_wrong_call_of_carry_is_one_clear_line(words, complaint, committed_parts, tmp_path):
    """And the patches stay as they are."""
    before = [path.read_bytes() for path in committed_parts.glob("*.patch")]
    run = lay_out(*[word.format(tmp_path) for word in words], program=committed_parts / "carry.py")
    assert run.returncode == 1 and re.fullmatch(complaint, run.stderr.strip()), run.stderr
    assert before == [path.read_bytes() for path in committed_parts.glob("*.patch")]
