"""The bug museum: puts a bug into a copy of a part, and sees whether a student's test tells the two apart.

A bug is a patch in museum/. Above the diff stand a sentence, the part unless it is part 4, the tests of the suite that
catch it, how many minutes a good test takes, and two hints.
"""

import pathlib
import re
import sys
import tempfile
import textwrap

from cards import COMMAND, HERE
from pytest_runs import outcomes
from support.patches import patched_part

MUSEUM = HERE / "museum"
PATIENCE = 60  # seconds that a student's tests may run, on each of the two proxies
MARK = '\n\nimport pytest\n\npytestmark = pytest.mark.behaviour("hard use")\n'  # see tests/conftest.py
TEST_PATIENCE = 20  # seconds that each of them may run


class Bug:
    """One patch of the museum."""

    def __init__(self, name):
        """Read the patch; an unknown name is a LookupError."""
        self.name = name
        self.patch = MUSEUM / f"{name}.patch"
        if not self.patch.exists():
            raise LookupError(f"There is no bug {name}. Choose one: {', '.join(bug_names())}")
        self.head = self.patch.read_text().partition("\n--- ")[0]

    def lines(self, label):
        """Return what the head says after a label, a line each."""
        return re.findall(rf"^{label}: (.+)$", self.head, re.MULTILINE)

    def hints(self):
        """Return the two hints."""
        return self.lines("hint")

    @property
    def part(self):
        """The number of the part that the bug is put into."""
        return int(self.lines("part")[0]) if self.lines("part") else 4

    @property
    def minutes(self):
        """The number of minutes that a good test takes, or 0."""
        return int(self.lines("minutes")[0]) if self.lines("minutes") else 0

    @property
    def caught_by(self):
        """The names of the tests that catch it."""
        return " ".join(self.lines("caught_by")).split()

    def put(self, directory):
        """Make a copy of its part with the bug in it; return the Command that starts it."""
        from support.harness import Command  # needs packages, which the list and the hints do without

        return Command([sys.executable, str(patched_part(self.part, self.patch, directory)), "{config}"])


def bug_names():
    """Return the names of all bugs, in the order in which museum/README.md tells their stories."""
    return re.findall(r"^\d*[-.] \*\*(\w+)\.\*\*", (MUSEUM / "README.md").read_text(), re.MULTILINE)


def list_bugs():
    """Print every bug, one a line, the easiest first."""
    print(f"{'bug':<24}{'minutes':>7}  story")
    for bug in sorted(map(Bug, bug_names()), key=lambda bug: bug.minutes):
        print(f"{bug.name:<24}{bug.minutes:>7}  {story(bug.name)}")
    print(f"Next: {COMMAND} museum BUG my_test.py")


def story(name):
    """Return the first sentence of a bug's story."""
    text = (MUSEUM / "README.md").read_text()
    told = re.search(rf"^\d*[-.] \*\*{name}\.\*\*(.*?)(?=^\d*[-.] |^#|\Z)", text, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^\d+ minutes\. ", "", " ".join(told[1].split()))
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def try_test(bug, test_file):
    """Run a student's tests on a part and on the part with a bug; return whether they tell the two apart."""
    from support.harness import part_command

    check_readable(bug, test_file)
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        buggy = bug.put(pathlib.Path(directory, "buggy"))
        words = ["-p", "conftest", f"--timeout={TEST_PATIENCE}"]
        words.append(copy_marked(test_file, pathlib.Path(directory, "test_student.py")))
        found = {}
        for name, command in {f"sound part {bug.part}": part_command(bug.part), bug.name: buggy}.items():
            found[name] = outcomes(command, *words, patience=PATIENCE)
            show_tests(name, found[name])
    verdict = judge(*found.values())
    print(verdict or "Your test tells them apart.")
    return not verdict


def copy_marked(test_file, path):
    """Copy a student's tests, with the mark by which a test gets the proxy below them when they have none."""
    text = test_file.read_text()
    path.write_text(text if "mark.behaviour" in text else text + MARK)
    return path


def check_readable(bug, test_file):
    """Raise an error that names the line when a student's test is not there, or is not Python."""
    from work import place_of

    if not test_file.is_file():
        raise FileNotFoundError(f"There is no file {test_file}. Name yours: {COMMAND} museum {bug.name} my_test.py")
    try:
        compile(test_file.read_bytes(), str(test_file), "exec")
    except (SyntaxError, ValueError) as error:
        raise LookupError(f"{test_file}, {place_of(error)}. Correct it, and try again") from None


def show_tests(name, tests):
    """Print what became of a student's tests on one of the two proxies."""
    bad = [test for test in tests if not test.passed]
    passed = len(tests) - len(bad)
    words = [f"{name}: {passed} test{'s' * (passed != 1)} passed"]
    words += [f"{test.name} {'was skipped' if test.is_skip else 'failed'}" for test in bad]
    print(", ".join(words))
    for test in bad:
        place = f"line {test.line}: " if test.line else ""
        print(textwrap.indent(textwrap.fill(place + test.why, 92), "      "))


def judge(sound, buggy):
    """Return what is missing before a student's tests tell the sound proxy from the one with the bug, or ""."""
    if not sound:
        return "No test ran. Hint: its name begins with test_, and it takes start_proxy"
    if any(test.is_skip for test in sound + buggy):
        return "Not yet: a test was skipped. Hint: one that does not run has noticed nothing; take the skip out"
    if not all(test.passed or test.is_assertion for test in sound):
        return "Not yet: the test itself breaks down. Hint: the line is above, and what Python says to it"
    if not all(test.passed for test in sound):
        return "Not yet: a test fails on the sound proxy. Hint: what does it wait for, and is it sure to happen?"
    if all(test.passed for test in buggy):
        return "Not yet: the bug is not noticed. Hint: read its story again: what must happen before it shows?"
    if not any(test.is_assertion for test in buggy):
        return "Not yet: the test itself breaks down. Hint: expect what may go wrong, and say it with assert"
    return ""
