"""Every bug of exercises/museum/ is caught by the shared suite, by the tests that its patch names.

git applies the patches.
"""

import re
import subprocess
import sys

import pytest

from behaviours import BEHAVIOURS
from exercise import MUSEUM, is_assertion, museum, outcomes, put_bug
from support.parts import ROOT

BUGS = sorted(path.stem for path in MUSEUM.glob("*.patch"))
SUITE = [ROOT / "tests" / "suite" / name for name in ("test_behaviours.py", "test_hard_use.py", "test_caught_bugs.py")]
NEEDS_GIT = pytest.mark.needs("git")


def caught_by(bug):
    """Return the names of the tests that a patch's head names."""
    names = re.search(r"^caught_by: (.+)$", (MUSEUM / f"{bug}.patch").read_text(), re.MULTILINE)
    assert names, f"{bug}.patch does not say by which test it is caught. Hint: a line in its head, caught_by: test_…"
    return names[1].split()


def files_with(names):
    """Return the files of the suite that have tests of these names."""
    return [path for path in SUITE if any(f"\ndef {name}(start_proxy" in path.read_text() for name in names)]


@NEEDS_GIT
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_caught(bug, tmp_path):
    """A test that passes on the sound part 4 fails, by an assertion, on the one with the bug."""
    names = caught_by(bug)
    tests = outcomes(put_bug(bug, tmp_path / "part"), "-x", "-k", " or ".join(names), *files_with(names))
    assert any(is_assertion(what) for _, what in tests), (
        f"{bug}: not caught by {names}: {tests}. Hint: sharpen the test, or write one into test_caught_bugs.py"
    )


def test_the_suite_asks_the_same_of_the_sound_part():
    """What catches a bug is a test that the suite itself expects part 4 as it is to pass."""
    assert all(row.parts[4] == "yes" for row in BEHAVIOURS), "the table has a no for part 4"
    unknown = {bug: [name for name in caught_by(bug) if not files_with([name])] for bug in BUGS}
    assert not any(unknown.values()), f"no tests of the suite: {unknown}. Hint: correct caught_by: in the patch"


def test_every_bug_has_a_story_and_every_story_a_bug():
    """museum/README.md tells of each patch, in a list entry that begins with its name."""
    told = re.findall(r"^- \*\*(\w+)\.\*\*", (MUSEUM / "README.md").read_text(), re.MULTILINE)
    assert sorted(told) == BUGS, f"told: {sorted(told)}, patches: {BUGS}. Hint: one entry a bug"


@NEEDS_GIT
@pytest.mark.parametrize("bug, told", [("never_resumed", True), ("busy", False)])
def test_the_example_tells_its_bug_from_the_sound_part(bug, told):
    """The command that students use says of the example what is true: it notices its bug, and not another one."""
    words = [sys.executable, ROOT / "tests" / "exercises" / "exercise.py", "museum", bug, MUSEUM / "example_test.py"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert ("Your test tells them apart." in run.stdout, run.returncode) == (told, 0 if told else 1), run.stdout


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
    assert not museum("busy", path)
    shown = capsys.readouterr().out
    expected = "sound part 4: 1 test passed, test_a_number[1] failed, test_another was skipped"
    assert expected in shown and "Not yet: " in shown, shown
