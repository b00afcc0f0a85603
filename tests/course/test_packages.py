"""With nothing installed a student still sees the list, starts and gets hints; the rest says what to type."""

import os
import re
import subprocess
import sys

import pytest

from support.packages import packages_needed, what_to_type
from support.parts import ROOT

PATIENCE = 60  # seconds that one command may take
BARE = [sys.executable, "-S"]  # without the directory in which packages are
MISSING = r"The Python package \w+ is not installed here\. Type: make ready, then: source \.venv/bin/activate"
INACTIVE = r"The virtual environment is not active in this terminal\. Type: source \.venv/bin/activate"
LINE = f"{MISSING}|{INACTIVE}"  # the second where .venv has the package, and this Python is another one


def run_bare(*words):
    """Return what became of a program of the course, run from the top directory by a Python without packages."""
    words = [*BARE, *map(str, words)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


def run_exercise(*words):
    """Return what became of a command of exercise.py, run in the same way."""
    return run_bare("tests/exercises/exercise.py", *words)


def test_a_bare_python_has_no_packages():
    """Otherwise this file would prove nothing."""
    assert "ModuleNotFoundError" in run_bare("-c", "import psutil").stderr


@pytest.mark.parametrize(
    "words", [["list"], ["hint", "part1_threads"], ["hint", "busy"], ["museum"]], ids=lambda words: " ".join(words)
)
def test_looking_around_needs_nothing(words):
    """The list, hints and the bugs of the museum are there before anything is installed."""
    result = run_exercise(*words)
    assert result.returncode == 0 and result.stdout, result.stderr


def test_an_exercise_can_be_started_with_nothing_installed(tmp_path):
    """The copy is there; the check, which runs and watches programs, says what to type."""
    started = run_exercise("start", "part1_big_request", tmp_path / "mine")
    assert started.returncode == 0 and (tmp_path / "mine" / "rsp.py").exists(), started.stderr
    checked = run_exercise("check", "part1_big_request", tmp_path / "mine")
    assert checked.returncode == 1 and re.fullmatch(LINE, checked.stderr.strip()), checked.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["tests/exercises/exercise.py", "museum", "busy", "tests/exercises/museum/example_test.py"],
        ["tests/exercises/exercise.py", "peers"],
        ["tests/exercises/exercise.py", "gate", "part1_threads"],
        ["tests/benchmarks/bench.py", "--quick"],
        ["tests/benchmarks/million.py"],
        ["tests/benchmarks/choose.py"],
        ["tests/backend.py", "http"],
        ["notebooks/experiments.py"],
        ["notebooks/plots.py"],
        ["notebooks/vhosts.py"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_needs_packages_says_what_to_type(words):
    """One line that names what is missing, no traceback, exit status 1."""
    result = run_bare(*words)
    assert result.returncode == 1 and re.fullmatch(LINE, result.stderr.strip()), result.stderr


def test_a_new_terminal_is_told_to_activate_and_not_to_install_again(tmp_path):
    """Once .venv has the package, one command is enough; an empty .venv, or one without this package, needs two."""
    error = ModuleNotFoundError(name="hiredis.reader")
    assert re.fullmatch(MISSING, what_to_type(error, tmp_path))
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (packages / "hiredis_other").mkdir()
    assert re.fullmatch(MISSING, what_to_type(error, tmp_path))
    (packages / "hiredis").mkdir()
    assert re.fullmatch(INACTIVE, what_to_type(error, tmp_path))


def test_another_error_is_not_taken_for_a_missing_package():
    """What an imported module does wrong itself is shown as it is."""
    with pytest.raises(ImportError, match="cannot import"), packages_needed():
        from support.parts import PARTZ  # noqa: F401


@pytest.mark.needs("make")
def test_make_ready_installs_and_runs_nothing():
    """It asks for what the tests need, as make test does, and ends with what to type next."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not under make test
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, "env": alone}
    plan = subprocess.run(["make", "-n", "ready"], cwd=ROOT, **options).stdout
    assert "source .venv/bin/activate" in plan.splitlines()[-1] and "pytest" not in plan, plan
    assert re.search(r"^ready: \.venv/ready-to-test$", (ROOT / "Makefile").read_text(), re.MULTILINE)
