"""Checks that part 2 runs with the selectors module, where there is no epoll, and loses no behaviour."""

import ast
import pathlib
import sys

from ordinary import life_goes_on
from suite.test_behaviours import test_four_slow_answers_come_at_the_same_time as four_slow_answers
from support.harness import ARGUMENTS, Command

PROGRAM = pathlib.Path(__file__).parent / "starter" / "without_epoll.py"
ROWS = (  # what part 2 can do, and a selector can break: words of tests' names
    "a_request_gets or vanish or stream_at_full_speed or pieces or one_connection or both_sides_talk"
    " or no_file_descriptor or costs_no_cpu or stops_cleanly"
)


def epoll_names(path):
    """Return what a file takes from the module select that has epoll in its name."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    used = [node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "select"]
    used += [alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
             if node.module == "select"]  # fmt: skip
    return {name for name in used if "epoll" in name.lower()}


def no_epoll(work):
    """No file uses select.epoll or a constant that begins with EPOLL."""
    found = {path.name: names for path in work.directory.glob("*.py") if (names := epoll_names(path))}
    work.sent("nothing: this is about the text")
    work.came_back("; ".join(f"{name}: {', '.join(sorted(names))}" for name, names in found.items()) or "none of them")
    assert not found, "these are Linux's. Hint: selectors.EVENT_READ is the only event that part 2 needs"


def without_epoll(work):
    """Where there is no epoll, four answers of 1 second each come within 2 seconds."""
    work.sent("GET /slow?seconds=1 from four clients at once; without_epoll.py runs rsp.py")
    command = Command([sys.executable, str(PROGRAM), str(work.directory / "rsp.py"), *ARGUMENTS])
    work.run_test(four_slow_answers, command=command)


def keeps_its_behaviours(work):
    """What part 2 could do before, it still can."""
    work.sent("eleven tests of the shared suite, from rows that are a yes for part 2")
    work.run_suite(ROWS)


TASKS = [no_epoll, without_epoll, keeps_its_behaviours, life_goes_on()]
