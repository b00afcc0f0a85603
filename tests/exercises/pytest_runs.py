"""Runs pytest on a proxy, in a separate process, and reads from its report what became of each test."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from dataclasses import dataclass

from support.parts import ROOT

TESTS = ROOT / "tests"
SUITE = TESTS / "suite"
PATIENCE = 120  # seconds that a selection of the shared suite may run
SKIPPED = "skipped: "  # how the reason begins when a test was not run to its end


@dataclass
class Outcome:
    """What became of one test."""

    name: str  # with its parameters in brackets
    why: str | None  # it has not passed, or None
    line: int  # of the test's file, where it has failed, or 0
    printed: str  # by the proxy, when it has failed

    @property
    def passed(self):
        """Return True if it has passed; a skipped test has not."""
        return self.why is None

    @property
    def is_assertion(self):
        """Return True if it has failed by an assertion, and not by some other exception."""
        return self.why is not None and self.why.startswith(("AssertionError", "assert "))

    @property
    def is_skip(self):
        """Return True if it has not failed, but was skipped, or was expected to fail."""
        return self.why is not None and self.why.startswith(SKIPPED)


def run_pytest(words, patience=PATIENCE):
    """Run pytest with these words, and return what it printed; TimeoutError when it doesn't end."""
    # Plugins that happen to be installed are not needed here, and looking for them takes a second.
    path = os.pathsep.join(map(str, (TESTS, SUITE)))  # -p conftest looks there, before pytest reads its file
    environment = os.environ | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = [sys.executable, "-m", "pytest", "-p", "pytest_timeout", "-q", *map(str, words)]
    try:
        run = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=patience)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"pytest still runs after {patience} s. Hint: which call waits for ever?") from None
    return run.stdout + run.stderr


def outcomes(command, *words, patience=PATIENCE):
    """Run pytest with these words on a proxy; return a list of Outcomes."""
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        report = pathlib.Path(directory, "report.xml")
        proxy = shlex.join(command.words)
        words = ["-c", TESTS / "pytest.ini", "--tb=short", "--proxy", proxy, f"--junitxml={report}", *words]
        output = run_pytest(words, patience)
        if not report.exists():
            raise LookupError(f"pytest did not run: {output}")
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    return [Outcome(name_of(case), why_not_passed(case), line_of(case), printed_in(case)) for case in cases]


def name_of(case):
    """Return the name of a test in pytest's report, without the parameter that says it is run on --proxy."""
    return re.sub(r"\[yours-?", "[", case.get("name")).removesuffix("[]") or "the file"


def why_not_passed(case):
    """Return what pytest's report says of a test that has not passed, or None."""
    for child in case:
        if child.get("message") == "collection failure":  # a mistake in the file, say; the text tells which
            return child.text.strip().splitlines()[-1].removeprefix("E").strip()
        if child.tag in ("failure", "error"):
            return child.get("message")
        if child.tag == "skipped":
            return SKIPPED + child.get("message")
    return None


def line_of(case):
    """Return the line of the test function at which a test has failed or was skipped, or 0."""
    text = "\n".join(child.text or "" for child in case)
    lines = re.findall(r"\.py:(\d+): in test_", text) or re.findall(r"\.py:(\d+): ", text)
    return int(lines[-1]) if lines else 0


def printed_in(case):
    """Return what the proxy had printed when a test failed, as conftest.py has put it into the report."""
    found = case.findall("properties/property[@name='printed']")
    return found[-1].get("value") if found else ""


def sentence(name):
    """Return a test's name as a sentence."""
    return name.partition("[")[0].removeprefix("test_").replace("_", " ")
