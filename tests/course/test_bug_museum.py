"""Every bug of exercises/museum/ is caught by the shared suite, by the tests that its patch names.

git applies the patches.
"""

import ast
import re
import subprocess
import sys

import pytest

from behaviours import BY_NAME
from bugs import MUSEUM, Bug, bug_names, list_bugs, try_test
from pytest_runs import SUITE, outcomes
from support.parts import ROOT

BUGS = bug_names()
FILES = sorted(SUITE.glob("test_*.py"))
MARK = re.compile(r"behaviour\(['\"](.+?)['\"]\)")
NEEDS_GIT = pytest.mark.needs("git")
NEEDS_OF_PART = {7: [pytest.mark.needs("redis-server")]}  # without it, the tests of the suite are left out


def needs(bug):
    """Return the marks for what a bug's tests need; one without a patch is another test's business."""
    return NEEDS_OF_PART.get(Bug(bug).part, []) if (MUSEUM / f"{bug}.patch").exists() else []


def files_with(names):
    """Return the files of the suite that have tests of these names."""
    return [path for path in FILES if any(f"\ndef {name}(" in path.read_text() for name in names)]


@NEEDS_GIT
@pytest.mark.parametrize("bug", [pytest.param(bug, marks=needs(bug)) for bug in BUGS])
def test_a_bug_is_caught(bug, tmp_path):
    """A test that passes on the sound part fails, by an assertion, on the one with the bug."""
    names = Bug(bug).caught_by
    tests = outcomes(Bug(bug).put(tmp_path / "part"), "-x", "-k", " or ".join(names), *files_with(names))
    assert any(test.is_assertion for test in tests), (
        f"{bug}: not caught by {names}: {tests}. Hint: sharpen the test, or write one into test_caught_bugs.py"
    )


def rows_of_tests():
    """Return which row of the table each test of the suite belongs to: by its own mark, or by that of its file."""
    rows = {}
    for path in FILES:
        of_file = None
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node).startswith("pytestmark"):
                of_file = MARK.search(ast.unparse(node))
            elif isinstance(node, ast.FunctionDef):
                marks = [*(MARK.search(ast.unparse(each)) for each in node.decorator_list), of_file]
                if mark := next(filter(None, marks), None):
                    rows[node.name] = mark[1]
    return rows


def test_the_suite_asks_the_same_of_the_sound_part():
    """What catches a bug is a test that the suite itself expects the bug's part as it is to pass."""
    rows = rows_of_tests()
    for bug in map(Bug, BUGS):
        unknown = [name for name in bug.caught_by if name not in rows]
        assert not unknown, f"{bug.name}: no tests of the suite: {unknown}. Hint: correct caught_by: in the patch"
        cells = {name: BY_NAME[rows[name]].parts[bug.part] for name in bug.caught_by}
        assert set(cells.values()) == {"yes"}, f"{bug.name}: {cells} for part {bug.part}. Hint: is part: missing?"


def test_every_bug_has_a_story_and_every_story_a_bug():
    """museum/README.md tells of each patch, in a list entry that begins with its name."""
    patches = sorted(path.stem for path in MUSEUM.glob("*.patch"))
    assert sorted(BUGS) == patches, f"told: {sorted(BUGS)}, patches: {patches}. Hint: one entry a bug"


@pytest.mark.parametrize("bug", BUGS)
def test_every_bug_says_how_long_it_takes_and_has_two_hints(bug):
    """A first hint and a better one, and as many minutes in the story as in the patch."""
    assert len(Bug(bug).hints()) == 2, f"{bug}.patch has not two hints. Hint: two lines that begin with hint:"
    told = re.search(rf"\*\*{bug}\.\*\* (\d+) minutes\.", (MUSEUM / "README.md").read_text())
    assert told and int(told[1]) == Bug(bug).minutes > 0, f"{bug}.patch says {Bug(bug).minutes} minutes, the story not"


def test_the_museum_begins_with_three_easy_bugs(capsys):
    """In order of difficulty, and none of the others is easier; the list has them in this order."""
    minutes = [Bug(bug).minutes for bug in BUGS]
    assert minutes[:3] == sorted(minutes[:3]), f"the first three take {minutes[:3]} minutes. Hint: the easiest first"
    assert max(minutes[:3]) <= 15 and max(minutes[:3]) <= min(minutes[3:]), f"{minutes[:3]}, then {min(minutes[3:])}"
    list_bugs()
    shown = capsys.readouterr().out
    listed = [line.split()[0] for line in shown.splitlines()[1:-1]]
    assert listed[:3] == BUGS[:3] and sorted(listed) == sorted(BUGS), shown
    assert [Bug(bug).minutes for bug in listed] == sorted(minutes), shown


def run_museum(bug, test_file):
    """Run the command that students use; return what became of it."""
    words = [sys.executable, ROOT / "tests" / "exercises" / "exercise.py", "museum", bug, test_file]
    return subprocess.run(words, capture_output=True, text=True, timeout=100)


@NEEDS_GIT
@pytest.mark.parametrize("bug, told", [("never_resumed", True), ("busy", False)])
def test_the_example_tells_its_bug_from_the_sound_part(bug, told):
    """The command that students use says of the example what is true: it notices its bug, and not another one."""
    run = run_museum(bug, MUSEUM / "example_test.py")
    assert ("Your test tells them apart, 3 times out of 3." in run.stdout, run.returncode) == (
        told,
        0 if told else 1,
    ), run.stdout


EASY_TESTS = """
import pytest

from support.peers import EchoBackend, connect_and_be_turned_away, free_port, wait_until

pytestmark = pytest.mark.behaviour("hard use")


def test_as_text(start_proxy):
    with EchoBackend() as backend, start_proxy(backend).connect() as client:
        client.send(bytes(range(256)))
        assert client.receive_exactly(256) == bytes(range(256))


def test_backend_down(start_proxy):
    port = free_port()
    proxy = start_proxy(port)
    connect_and_be_turned_away(proxy.port)
    with EchoBackend(port), proxy.connect() as client:
        client.send(b"hello")
        assert client.receive_exactly(5) == b"hello"


def test_left_open(start_proxy):
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        before = proxy.open_files()
        for _ in range(20):
            with proxy.connect() as client:
                client.send(b"hello")
                client.receive_exactly(5)
        wait_until(lambda: proxy.open_files() <= before + 2, "the sockets are closed")
"""


@NEEDS_GIT
@pytest.mark.parametrize("bug", BUGS[:3])
def test_the_better_hints_lead_to_a_test(bug, tmp_path, capsys):
    """What the hints for the three easy bugs say is enough: a test made of nothing else tells the two apart."""
    head, *tests = EASY_TESTS.split("\n\n\n")
    (tmp_path / "my_test.py").write_text(head + "\n\n\n" + next(test for test in tests if f"test_{bug}(" in test))
    assert try_test(Bug(bug), tmp_path / "my_test.py"), capsys.readouterr().out


NOT_ALL_PASS = """
import pytest

pytestmark = pytest.mark.behaviour("hard use")


@pytest.mark.parametrize("number", [1, 2])
def test_a_number(start_proxy, number):
    assert number == 2


def test_another(start_proxy):
    pytest.skip("not today")
"""


@NEEDS_GIT
def test_each_parameter_counts_and_a_skip_is_no_pass(tmp_path, capsys):
    """A test that fails with one parameter and passes with the next, and one that is skipped: one test has passed."""
    path = tmp_path / "test_mine.py"
    path.write_text(NOT_ALL_PASS)
    assert not try_test(Bug("busy"), path)
    shown = capsys.readouterr().out
    expected = "sound part 4: 1 test passed, test_a_number[1] failed, test_another was skipped"
    assert expected in shown and "line 9: " in shown and "Not yet: " in shown, shown


def test_a_slip_in_a_students_test_is_named_with_its_line(tmp_path):
    """A syntax error is one line: the file, the line, the mistake."""
    path = tmp_path / "my_test.py"
    path.write_text("import pytest\n\n\ndef test_something(start_proxy)\n    pass\n")
    run = run_museum("busy", path)
    assert (run.returncode, run.stdout) == (1, ""), run.stdout
    assert re.fullmatch(
        r".*my_test.py, line 4: expected ':': def test_something\(start_proxy\). Correct.*\n", run.stderr
    )


@NEEDS_GIT
def test_a_test_needs_no_head(tmp_path, capsys):
    """One written as the table of peers has it, imports and a function, is run as it stands."""
    path = tmp_path / "my_test.py"
    example = next(test for test in EASY_TESTS.split("\n\n\n") if "test_as_text(" in test)
    path.write_text("from support.peers import EchoBackend, wait_until\n\n" + example)
    assert try_test(Bug("as_text"), path), capsys.readouterr().out


@NEEDS_GIT
def test_a_test_that_breaks_down_is_not_one_that_fails(tmp_path, capsys):
    """A misspelt name is not about the proxy, and neither is the hint."""
    path = tmp_path / "my_test.py"
    path.write_text(NOT_ALL_PASS.partition("\n\n\ndef test_another")[0].replace("number == 2", "nummer == 2"))
    assert not try_test(Bug("busy"), path)
    shown = capsys.readouterr().out
    assert "line 9: assert nummer == 2\n      NameError: name 'nummer'" in shown, shown
    assert "the test itself breaks down. Hint: your line is above" in shown, shown


LUCKY = """
import pathlib

import pytest

pytestmark = pytest.mark.behaviour("hard use")


def test_lucky(start_proxy):
    runs = pathlib.Path({path!r})
    runs.write_text(runs.read_text() + "x")
    assert len(runs.read_text()) != 2
"""


@NEEDS_GIT
def test_once_may_be_luck(tmp_path, capsys):
    """A test is run in turn on both proxies, three times. This one fails in its second run, whatever the proxy."""
    (tmp_path / "runs").write_text("")
    (tmp_path / "my_test.py").write_text(LUCKY.format(path=str(tmp_path / "runs")))
    assert not try_test(Bug("busy"), tmp_path / "my_test.py")
    assert "Not yet: it told them apart, but not when it ran again. Hint: that was luck" in capsys.readouterr().out


@pytest.mark.parametrize("mark, line", [('behaviour("hard luck")', 5), ("behaviour()", 5)])
def test_an_unknown_mark_is_one_line(mark, line, tmp_path):
    """The file, the line, what to say instead, and no traceback."""
    path = tmp_path / "my_test.py"
    path.write_text(f"import pytest\n\n\n\n@pytest.mark.{mark}\ndef test_something(start_proxy):\n    pass\n")
    run = run_museum("busy", path)
    assert (run.returncode, run.stdout) == (1, ""), run.stdout
    assert re.fullmatch(rf".*my_test.py, line {line}: @pytest.mark.*: there is no such row. Say .*\n", run.stderr)


@NEEDS_GIT
def test_an_unknown_fixture_is_one_line(tmp_path, capsys):
    """pytest's own words take four."""
    path = tmp_path / "my_test.py"
    path.write_text("def test_something(start_proxy, backend):\n    pass\n")
    assert not try_test(Bug("busy"), path)
    shown = capsys.readouterr().out
    assert "\n      It asks for backend, and there is no such fixture. Hint: a test takes start_proxy\n" in shown, shown


ENDLESS = """
import pytest

pytestmark = pytest.mark.behaviour("hard use")


def test_something(start_proxy):
    while True:
        pass
"""


@NEEDS_GIT
def test_an_endless_loop_in_a_students_test_is_named_with_its_line(tmp_path, capsys, monkeypatch):
    """After some seconds it is ended; the line is that of the loop."""
    monkeypatch.setattr("bugs.TEST_PATIENCE", 1)
    path = tmp_path / "my_test.py"
    path.write_text(ENDLESS)
    assert not try_test(Bug("busy"), path)
    shown = capsys.readouterr().out
    assert re.search(r"line [89]: .*\n +Failed: Timeout \(>1\.0s\)", shown), shown
