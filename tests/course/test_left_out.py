"""On a bare machine the suite passes, and its last lines say what was left out; where nothing may be, a skip fails."""

import os
import subprocess
import sys

import pytest

from support.parts import ROOT

TESTS = ROOT / "tests"
EXAMPLES = """
import pytest


def test_needs_nothing():
    pass


@pytest.mark.needs("git")
@pytest.mark.parametrize("number", [1, 2])
def test_needs_git(number):
    assert number in (1, 2)


@pytest.mark.needs("ab", "git")
def test_needs_two():
    pass


@pytest.mark.xfail
def test_is_expected_to_fail():
    assert False
"""
LEFT_OUT = "Tests left out: 3. Not installed: git (3), ab (1)."
EXPECTED = '1 xfailed: a part can\'t do that yet, so the test has to fail. Each is a "no" in the table of README.md.'
INSTALL = "To install what is missing: sudo apt install apache2-utils git"


def run_tests(text, directory, *words, path, no_skips=""):
    """Run a file of tests with this PATH, as if it were in tests/; return what became of it."""
    file = directory / "test_example.py"
    file.write_text(text)
    environment = os.environ | {
        "PATH": str(path),
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS / "suite"))),  # for -p conftest
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "RSP_NO_SKIPS": no_skips,
    }
    words = ["-q", "-c", TESTS / "pytest.ini", "-p", "conftest", "-p", "pytest_timeout", *words, file]
    command = [sys.executable, "-m", "pytest", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]], ids=["no workers", "two workers"])
def test_without_the_programs_the_last_lines_say_what_was_left_out(workers, tmp_path):
    """Nothing fails, and after all that pytest prints come the programs and the command that installs them."""
    run = run_tests(EXAMPLES, tmp_path, *workers, path=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    counts, *last = run.stdout.splitlines()[-4:]
    assert counts.startswith("1 passed, 3 skipped, 1 xfailed"), run.stdout
    assert last == [EXPECTED, LEFT_OUT, INSTALL]


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]], ids=["no workers", "two workers"])
def test_where_nothing_may_be_skipped_a_missing_program_fails(workers, tmp_path):
    """With RSP_NO_SKIPS=1, as .ci/run sets it, each test that would be left out is an error that says why."""
    run = run_tests(EXAMPLES, tmp_path, *workers, path=tmp_path, no_skips="1")
    *_, counts, _, left_out, install = run.stdout.splitlines()
    assert run.returncode == 1 and "1 passed, 1 xfailed, 3 errors" in counts, run.stdout + run.stderr
    assert "not installed: git. RSP_NO_SKIPS is set, so nothing may be skipped." in run.stdout
    assert (left_out, install) == (LEFT_OUT, INSTALL)


@pytest.mark.parametrize("no_skips, status, counts", [("", 0, "1 passed, 1 skipped"), ("1", 1, "1 failed, 1 passed")])
def test_where_nothing_may_be_skipped_another_reason_does_not_count(no_skips, status, counts, tmp_path):
    """A test that skips itself fails there, too."""
    text = "import pytest\ndef test_one():\n    pytest.skip('not today')\ndef test_two():\n    pass\n"
    run = run_tests(text, tmp_path, path=os.environ["PATH"], no_skips=no_skips)
    assert run.returncode == status, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1].startswith(counts), run.stdout
    assert not no_skips or "Skipped: not today. RSP_NO_SKIPS is set" in run.stdout


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]], ids=["no workers", "two workers"])
def test_without_ipv6_the_last_line_says_so(workers, tmp_path):
    """That can't be installed, so nothing fails for it, not even where nothing may be skipped."""
    text = "import conftest\nconftest.has_ipv6 = lambda: False\ndef test_one(by_ipv6):\n    assert by_ipv6 == []\n"
    run = run_tests(text, tmp_path, *workers, path=os.environ["PATH"], no_skips="1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "No IPv6 here (no ::1): IPv4 alone was tried in 1 of the tests."
