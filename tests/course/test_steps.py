"""The steps of the parts: each applies, each shows what it is for, and the last is the part.

What takes long runs for the steps that are named: pytest tests/course/test_steps.py --step 5.3 (or 5, or all).
What carries a change through the steps needs git; test_carry.py has more about that.
"""

import ast
import functools
import re
import shutil
import signal
import subprocess
import sys

import pytest
from test_readmes import appears_in

from behaviours import BY_NAME
from pytest_runs import SUITE, outcomes
from support.harness import Command, Proxy
from support.left_out import ON_REQUEST
from support.pages import FENCE
from support.parts import PARTS, ROOT
from support.peers import free_port, free_ports
from support.shell import renumber, run
from support.steps import (
    all_steps,
    chain_of,
    file_diffs,
    parts_with_steps,
    read_files,
    steps_of,
    write_files,
)

STEPS = all_steps()
FEW_LINES = 145  # that a step adds or takes away, where that can be: two screens and a half
MOST_LINES = 180  # that it may
PATIENCE = 900  # seconds that the tests of a step may take
NOT_RUN = "Not run: what each step is the first to pass. On request: pytest tests/course/test_steps.py --step all"
TRIES = 4  # of what the step before is to fail
LONGER = [4, 8]  # seconds instead of one, when a page is tried again
SECONDS = re.compile(r"\b(sleep |timeout |curl (?:-s )?-m )1( |$)", re.MULTILINE)
ROOM = "no row turns to yes"  # in the page of a step that only makes room for the next ones
PORT = re.compile(r"\b(?:80[0-9]{2}|84[0-9]{2}|63[0-9]{2})\b(?!/)")  # what the pages use, and run on others here


def command(*words, top=ROOT):
    """Return what became of a reader's command."""
    words = [sys.executable, top / "tests" / "steps.py", *map(str, words)]
    return subprocess.run(words, cwd=top, capture_output=True, text=True, timeout=60)


@functools.cache
def files_after(step):
    """Return the files of a step."""
    return chain_of(step.part)[step.number]


def each(steps):
    """Return steps as a test's parameters."""
    return [pytest.param(step, id=step.name) for step in steps]


# --- the patches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", parts_with_steps())
def test_the_steps_lead_from_the_part_before_to_the_part(part, request, record_property):
    """Each applies to the one before and changes something; the last has the part's files, byte for byte."""
    if not request.config.getoption("--step"):
        record_property(ON_REQUEST, NOT_RUN)
    steps, chain = steps_of(part), chain_of(part)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1)), "two steps have a number, or none has"
    for step, before, after in zip(steps, chain[:-1], chain[1:], strict=True):
        assert before != after, f"step {step.name} changes nothing"
        assert step.head.startswith(f"Step {step.number}: "), f"{step.patch.name} does not begin with its title"
    present = read_files(ROOT / PARTS[part])
    other = [name for name in chain[-1].keys() | present if chain[-1].get(name) != present.get(name)]
    assert not other, f"{other} are not part {part}'s. Hint: carry the change through the steps: python tests/carry.py"


@pytest.mark.parametrize("part", parts_with_steps())
def test_every_row_that_a_part_adds_is_some_steps(part):
    """What the part before can't do, and the part can, is claimed once."""
    added = [row.name for row in BY_NAME.values() if row.parts[part - 1] != "yes" and row.parts[part] == "yes"]
    claimed = [row for step in steps_of(part) for row in step.claims("rows")]
    assert sorted(claimed) == sorted(added), (
        f"claimed: {sorted(claimed)}; part {part} adds {sorted(added)}. Hint: correct the patches' heads"
    )


@pytest.mark.parametrize("step", each(STEPS))
def test_what_a_step_claims_is_in_the_suite(step):
    """Each row and each test that the head of its patch names is there."""
    unknown = [claim for claim, tests in shown_by(step).items() if not tests]
    assert not unknown, f"the suite has no {unknown}. Hint: was it renamed? Correct the head of the step's patch"


@pytest.mark.parametrize("step", each(STEPS))
def test_a_step_is_short(step):
    """One idea a step: what it changes can be read in one go. Empty lines don't count."""
    lines = [line for each in file_diffs(step.diff) for _, hunk in each.hunks for line in hunk]
    changed = sum(line[:1] in "+-" and bool(line[1:].strip()) for line in lines)
    assert changed <= MOST_LINES, f"{step.patch.name} changes {changed} lines. Hint: is part of it another step?"


# --- on request --------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc):
    """Run what takes long for the steps that --step names."""
    if "chosen" in metafunc.fixturenames:
        named = [step for steps in metafunc.config.getoption("--step") for step in steps]
        metafunc.parametrize("chosen", each(dict.fromkeys(named)))


def suite_tests():
    """Return the rows and tests of the suite: pairs of a row's name, or None, and a test as pytest takes it."""
    for path in sorted(SUITE.glob("test_*.py")):
        tree = ast.parse(path.read_text()).body
        for_all = [ast.unparse(node) for node in tree if ast.unparse(node).startswith("pytestmark = ")]
        for node in tree:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = " ".join([*map(ast.unparse, node.decorator_list), *for_all])
                row = re.search(r"behaviour\('([^']*)'\)", marks)
                yield row and row[1], f"{path}::{node.name}"


def shown_by(step):
    """Return what shows each claim of a step: a dict of tests. A row is shown by those of its tests that are named."""
    everything = list(suite_tests())
    named = {name: [test for _, test in everything if where(test) == name] for name in step.claims("tests")}
    tests = [test for tests in named.values() for test in tests]
    rows = {name: [test for row, test in everything if row == name] for name in step.claims("rows")}
    return named | {name: found for name, found in rows.items() if not found or not set(found) & set(tests)}


def where(name):
    """Return a test's name without its file and its parameters."""
    return name.rpartition("::")[2].partition("[")[0]


def results_of(files, directory, tests):
    """Return what becomes of these tests on a step that is laid out in a directory: a list of Outcomes."""
    write_files(directory, files)
    proxy = Command([sys.executable, str(directory / "rsp.py"), "{config}"])
    results = outcomes(proxy, *tests, patience=PATIENCE)
    for result in results:
        if result.is_skip and "not installed" in result.why:
            pytest.skip(result.why)
    return results


@pytest.mark.timeout(PATIENCE)
@pytest.mark.on_request("--step")
def test_a_step_passes_what_it_is_for(chosen, tmp_path):
    """It serves requests, and passes the rows and tests that its patch's head names, and those of the steps before."""
    wanted = [test for row, test in suite_tests() if row == "serves requests"][:1]
    for step in steps_of(chosen.part)[: chosen.number]:
        wanted += [test for tests in shown_by(step).values() for test in tests]
    results = results_of(files_after(chosen), tmp_path / "step", dict.fromkeys(wanted))
    assert {where(test.name) for test in results} == set(map(where, wanted))
    for test in results:
        assert test.passed, f"step {chosen.name} does not pass {test.name}: {test.why}"


@pytest.mark.timeout(PATIENCE)
@pytest.mark.on_request("--step")
def test_the_step_before_fails_it(chosen, tmp_path):
    """Of each row that a step is the first to pass, the one before fails a test, and each test that is named."""
    claims = shown_by(chosen)
    if not claims:
        page = chosen.page.read_text() if chosen.page.exists() else ""
        assert ROOM in " ".join(page.split()), (
            f"step {chosen.name} shows nothing. Hint: name a test, or say in its page: {ROOM}"
        )
        return
    files = chain_of(chosen.part)[chosen.number - 1]
    for attempt in range(TRIES):  # what the step before can't do may go well once, by luck
        wanted = [test for tests in claims.values() for test in tests]
        results = results_of(files, tmp_path / f"before {attempt}", wanted)
        about = {name: [r for r in results if where(r.name) in map(where, tests)] for name, tests in claims.items()}
        claims = {name: claims[name] for name, found in about.items() if not any(test.is_assertion for test in found)}
        if not claims:
            return
    outcomes_told = "; ".join(f"{test.name}: {test.why or 'passed'}" for test in results)
    raise AssertionError(f"{list(claims)} are to show step {chosen.name}; before it: {outcomes_told}")


def blocks_to_run(step):
    """Return the commands on a step's page, each with the output that is shown."""
    text = step.page.read_text() if step.page.exists() else ""
    blocks = [(match[1], match[2]) for match in FENCE.finditer(text) if match[1] in ("sh", "text")]
    return [(block[1], shown[1]) for block, shown in zip(blocks, blocks[1:], strict=False) if block[0] == "sh"]


def top_in(directory):
    """Return a new directory that looks like the top one, for what a reader lays out there."""
    directory = directory / "top"
    directory.mkdir(parents=True)
    for path in ROOT.iterdir():
        if not path.name.startswith((".git", "my_")):
            (directory / path.name).symlink_to(path)
    return directory


@pytest.mark.on_request("--step")
@pytest.mark.needs("bash", "curl")
def test_a_page_shows_what_its_commands_print(chosen, tmp_path):
    """Run its blocks one after another, as a reader would paste them, but on free ports.

    A second in a block may be too short on a busy machine; each part's README says so. So a page has more tries, in
    which its waits and time limits are longer.
    """
    blocks = blocks_to_run(chosen)
    assert blocks, f"{chosen.page.name} has no commands to paste"
    complaint = run_page(chosen, blocks, tmp_path / "first")
    for seconds in LONGER:
        if complaint:
            slower = [(SECONDS.sub(rf"\g<1>{seconds}\2", commands), shown) for commands, shown in blocks]
            complaint = run_page(chosen, slower, tmp_path / f"longer {seconds}")
    assert not complaint, complaint


def run_page(chosen, blocks, directory):
    """Run a page's blocks; return what is not as the page shows it, or None."""
    top = top_in(directory)
    every = "".join(commands for commands, _ in blocks)
    numbers = sorted(set(PORT.findall(every)) | {"8000", "8001"})
    ports = dict(zip(numbers, map(str, free_ports(len(numbers))), strict=True))
    back = {new: old for old, new in ports.items()}
    if f"lay-out {chosen.name} my_step" not in every:
        write_files(top / "my_step", files_after(chosen))
    for number, (commands, shown) in enumerate(blocks):
        place = directory / str(number)
        place.mkdir()
        variables = {"RSP_LISTEN_PORT": ports["8000"], "RSP_BACKEND_PORT": ports["8001"]}
        real = [renumber(line, back) for line in run(renumber(commands, ports), place, top=top, **variables)]
        if not appears_in(shown.splitlines(), real):
            name = chosen.page.name
            return f"{name}: these commands print something else:\n{commands}\npage: {shown}\nreally: {real}"
    return None


@pytest.mark.parametrize("number, status", [(7, -signal.SIGTERM), (8, 0)])
def test_from_step_8_of_part_4_on_it_is_the_loop_that_a_signal_ends(number, status, tmp_path):
    """So the program ends with status 0. Until then the kernel ends it, but wouldn't if it were process 1."""
    write_files(tmp_path, chain_of(4)[number])
    with Proxy(Command([sys.executable, str(tmp_path / "rsp.py"), "{config}"]), free_port()) as proxy:
        proxy.signal_and_wait(signal.SIGTERM)
        assert (proxy.process.returncode, proxy.errors()) == (status, "")


# --- the command -------------------------------------------------------------------------------------


def test_a_step_is_laid_out(tmp_path):
    """A reader gets the files, and the commands that run, check and compare the step."""
    directory = tmp_path / "my step"
    ran = command("lay-out", "4.3", directory)
    assert ran.returncode == 0, ran.stderr
    assert read_files(directory) == chain_of(4)[3]
    assert ran.stdout.splitlines() == [
        f"{directory} is step 3 of part 4: what can't be written now waits",
        "What is new:  part4_buffering/steps/3_write_buffer.md",
        f"Run it:       python '{directory}/rsp.py' config.lua",
        f"Check it:     pytest tests --proxy '{directory}/rsp.py'",
        "Beside it:    python tests/steps.py lay-out 4.2 my_step2",
    ]


@pytest.mark.parametrize("part", parts_with_steps())
def test_a_map_shows_what_the_command_prints(part, tmp_path):
    """The example at the head of steps/README.md is what a reader sees, who starts in the top directory."""
    page = (ROOT / PARTS[part] / "steps" / "README.md").read_text()
    shown = re.search(r"^```console\n\$ python tests/steps.py (lay-out \S+) (\S+)\n(.*?)^```$", page, re.M | re.DOTALL)
    assert shown, "the map shows no python tests/steps.py lay-out, with what it prints"
    ran = command(*shown[1].split(), tmp_path / shown[2])
    assert ran.stdout.replace(f"{tmp_path}/", "") == shown[3], ran.stderr


@pytest.mark.parametrize(
    "words, complaint",
    [
        ([], "Usage: python tests/steps.py lay-out <step, such as 4.3> <directory>"),
        (["lay-out", "4.3"], "Usage: python tests/steps.py lay-out"),
        (["lay-out", "4", "{}/new"], "'4' is not a step: name the part and the step, such as 4.3"),
        (["lay-out", "4.0", "{}/new"], "part 4 has no step '0': its steps are 4.1 to 4.10"),
        (["lay-out", "3.1", "{}/new"], "part 3 has no steps. The parts with steps: {parts}"),
        (["lay-out", "four.1", "{}/new"], "'four' is not a part. The parts with steps: {parts}"),
        (["unpack", "4", "{}"], "{} is there already. Name a new directory."),
        (["pack", "4", "{}/new"], "{}/new/0 has no Python files. Make it: python tests/steps.py unpack 4 DIR"),
        (["draft", "4.1"], "part4_buffering/steps/1_one_epoll.md is there already. Its hunks: "),
        (["pages", "2"], "part 2 has no steps. The parts with steps: {parts}"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_is_explained(words, complaint, tmp_path):
    """What is wrong, and what to do; and nothing is made."""
    ran = command(*[word.format(tmp_path) for word in words])
    assert (ran.returncode, ran.stdout) == (1, "")
    parts = ", ".join(map(str, parts_with_steps()))
    assert ran.stderr.startswith(complaint.format(tmp_path, parts=parts)), ran.stderr
    assert "Usage" in complaint or len(ran.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_only_an_unchanged_step_gives_way_to_another(tmp_path):
    """A reader who pastes on need not clear up; a reader who has worked in a directory loses nothing."""
    assert command("lay-out", "4.2", tmp_path).returncode == 0
    ran = command("lay-out", "4.1", tmp_path)
    assert (ran.returncode, read_files(tmp_path)) == (0, chain_of(4)[1]), ran.stderr
    with (tmp_path / "rsp.py").open("a") as file:
        file.write("# mine\n")
    mine = read_files(tmp_path)
    ran = command("lay-out", "4.2", tmp_path)
    assert (ran.returncode, ran.stderr) == (1, f"{tmp_path} is there already, and not empty. Name a new directory.\n")
    assert read_files(tmp_path) == mine


@pytest.fixture
def copy(tmp_path):
    """A copy of parts 3 and 4, steps included, and of the command."""
    leave_out = shutil.ignore_patterns("__pycache__")
    for name in (PARTS[3], PARTS[4], "tests/support"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=leave_out)
    shutil.copy(ROOT / "tests" / "steps.py", tmp_path / "tests")
    return tmp_path


def test_a_patch_that_no_longer_applies_is_one_clear_line(copy):
    """Part 3 has changed, and the steps have not: the line names the patch, the file and the line."""
    path = copy / PARTS[3] / "epollinterface.py"
    path.write_text(path.read_text().replace("def do_reactor_loop(epoll):", "def loop(epoll):"))
    ran = command("lay-out", "4.2", copy / "new", top=copy)
    expected = r"1_one_epoll.patch no longer applies: line \d+ of epollinterface.py .*def do_reactor_loop.*carry.py\n"
    assert ran.returncode == 1 and re.fullmatch(expected, ran.stderr), ran.stderr
    assert not (copy / "new").exists()


def test_without_the_part_before_there_are_no_steps(copy):
    """Part 4's directory may have been taken alone."""
    shutil.rmtree(copy / PARTS[3])
    ran = command("lay-out", "4.2", copy / "new", top=copy)
    expected = rf"The steps of part 4 begin with part 3, and it is not there: .*{PARTS[3]}\..*\n"
    assert ran.returncode == 1 and re.fullmatch(expected, ran.stderr), ran.stderr


@pytest.mark.needs("git")
def test_a_step_is_changed_where_it_is_unpacked(copy):
    """Packing makes the patches again, the heads stay, and says which directory is not yet its part."""
    before = {path.name: path.read_text() for path in (copy / PARTS[4] / "steps").glob("*.patch")}
    assert command("unpack", "4", copy / "work", top=copy).returncode == 0
    assert command("pack", "4", copy / "work", top=copy).stdout == ""
    assert before == {path.name: path.read_text() for path in (copy / PARTS[4] / "steps").glob("*.patch")}
    path = copy / "work" / "10" / "pair.py"
    path.write_text(path.read_text().replace("DROP_LIMIT = ", "LIMIT_OF_DROPS = "))
    said = command("pack", "4", copy / "work", top=copy).stdout
    assert f"{copy}/work/10 is not part4_buffering yet: pair.py" in said, said
    changed = (copy / PARTS[4] / "steps" / "10_fast_and_fair.patch").read_text()
    assert "+LIMIT_OF_DROPS = " in changed and changed.startswith("Step 10: fast, and fair\nrows: hard use\n")
    shutil.copytree(copy / "work" / "10", copy / "work" / "11")
    said = command("pack", "4", copy / "work", top=copy).stderr
    assert said.endswith("Write its title into part4_buffering/steps/11_name.patch\n"), said


def test_a_diff_of_lua_comments_is_not_taken_for_the_next_file():
    """A comment that is taken away begins with three dashes, as the name of a file does."""
    from support.steps import apply_diff

    diff = "--- a/config.lua\n+++ b/config.lua\n@@ -1,2 +1,1 @@\n--- a comment\n x = 1\n"
    assert apply_diff(diff, {"config.lua": "-- a comment\nx = 1\n"}) == {"config.lua": "x = 1\n"}
