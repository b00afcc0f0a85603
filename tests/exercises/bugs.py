"""The bug museum: puts a bug into a copy of a part, and sees whether a student's test tells the two apart.

A bug is a patch in museum/. Above the diff stand a sentence, the part unless it is part 4, the tests of the suite that
catch it, how many minutes a good test takes, and two hints.
"""

import ast
import pathlib
import re
import sys
import tempfile
import textwrap

from cards import COMMAND, HERE
from pytest_runs import outcomes
from suite.behaviours import BY_NAME
from support.patches import patched_part

MUSEUM = HERE / "museum"
PATIENCE = 60  # seconds that a student's tests may run, on each of the two proxies
MARK = '\n\nimport pytest\n\npytestmark = pytest.mark.behaviour("hard use")\n'  # see tests/conftest.py
TIMES = 3  # that a test has to tell the two apart
BREAKS_DOWN = "Not yet: the test itself breaks down. Hint: your line is above, with what Python says about it"
LUCK = "Hint: that was luck. Wait for what has to happen first, don't hope that it has happened"
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
    """Run a student's tests on a part and on the part with a bug; return whether they tell the two apart.

    They have to do so three times: once may be luck.
    """
    from support.harness import part_command

    check_readable(bug, test_file)
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        buggy = bug.put(pathlib.Path(directory, "buggy"))
        proxies = {f"sound part {bug.part}": part_command(bug.part), bug.name: buggy}
        copy = copy_marked(test_file, pathlib.Path(directory, "test_student.py"))
        for number in range(TIMES):
            words = ["-p", "conftest", f"--timeout={TEST_PATIENCE}", copy]
            found = {name: outcomes(command, *words, patience=PATIENCE) for name, command in proxies.items()}
            verdict = judge(*found.values())
            if verdict or not number:
                for name, tests in found.items():
                    show_tests(name, tests, test_file)
            if verdict:
                break
    if verdict and number:
        verdict = f"Not yet: it told them apart, but not when it ran again. {LUCK}"
    print(verdict or f"Your test tells them apart, {TIMES} times out of {TIMES}.")
    return not verdict


def copy_marked(test_file, path):
    """Copy a student's tests, followed by the mark that gives a test the proxy, unless they have one."""
    text = test_file.read_text()
    path.write_text(text if "mark.behaviour" in text else text + MARK)
    return path


def check_readable(bug, test_file):
    """Raise an error that names the line when a student's test is not there, is not Python, or has an unknown mark."""
    from work import place_of

    if not test_file.is_file():
        raise FileNotFoundError(f"There is no file {test_file}. Name yours: {COMMAND} museum {bug.name} my_test.py")
    try:
        tree = ast.parse(test_file.read_bytes(), str(test_file))
    except (SyntaxError, ValueError) as error:
        raise LookupError(f"{test_file}, {place_of(error)}. Correct it, and try again") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.behaviour":
            row = ast.unparse(node.args[0]) if node.args else "none"
            if row.strip("'") not in BY_NAME:
                line = test_file.read_text().splitlines()[node.lineno - 1].strip()
                hint = 'Say behaviour("hard use"), or leave the mark out'
                raise LookupError(f"{test_file}, line {node.lineno}: {line}: there is no such row. {hint}")


def show_tests(name, tests, test_file):
    """Print what became of a student's tests on one of the two proxies, with the lines at which they failed."""
    lines = test_file.read_text().splitlines()
    bad = [test for test in tests if not test.passed]
    passed = len(tests) - len(bad)
    words = [f"{name}: {passed} test{'s' * (passed != 1)} passed"]
    words += [f"{test.name} {'was skipped' if test.is_skip else 'failed'}" for test in bad]
    print(", ".join(words))
    for test in bad:
        if 0 < test.line <= len(lines):
            print(f"      line {test.line}: {lines[test.line - 1].strip()}")
        print(textwrap.indent(textwrap.fill(reason(test), 92), "      "))


def reason(test):
    """Return why a test has not passed, without what pytest adds."""
    if unknown := re.search(r"fixture '(\w+)' not found", test.why):
        return f"It asks for {unknown[1]}, and there is no such fixture. Hint: a test takes start_proxy"
    return re.split(r"\s*\n? \+  ?where |\nassert ", test.why)[0]


def judge(sound, buggy):
    """Return what is missing before a student's tests tell the sound proxy from the one with the bug, or ""."""
    if not sound:
        return "No test ran. Hint: its name begins with test_, and it takes start_proxy"
    if any(test.is_skip for test in sound + buggy):
        return "Not yet: a test was skipped. Hint: one that does not run has noticed nothing; take the skip out"
    if not all(test.passed or test.is_assertion for test in sound):
        return BREAKS_DOWN
    if not all(test.passed for test in sound):
        return "Not yet: a test fails on the sound proxy. Hint: what does it wait for, and is it sure to happen?"
    if all(test.passed for test in buggy):
        return "Not yet: the bug is not noticed. Hint: read its story again: what must happen before it shows?"
    if not any(test.is_assertion for test in buggy):
        return f"{BREAKS_DOWN}. Expect what may go wrong there, and say it with assert"
    return ""
