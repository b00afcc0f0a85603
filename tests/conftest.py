"""Runs every behaviour against every part, or against the program that --proxy names, which gets a report card."""
import collections

import pytest
from behaviours import BEHAVIOURS, BY_NAME, PARTS, verdict
from harness import Proxy, any_command, part_command

YOURS = "yours"  # in place of a part's number: the program that --proxy names


def pytest_addoption(parser):
    """Add --proxy."""
    parser.addoption(
        "--proxy",
        metavar="COMMAND",
        help="run every behaviour on this program, with no expectations, and print a report card: a program, or a "
        "whole command with {port}, {backend_host}, {backend_port} or {config} in it",
    )


def pytest_configure(config):
    """Keep each row's outcomes for the report card."""
    config.outcomes = collections.defaultdict(list)  # row's name -> "passed", "failed" or "skipped"
    config.without_base = set()  # parts (or YOURS) that don't even serve one request
    config.proxy_command = None
    if text := config.getoption("--proxy"):
        try:
            config.proxy_command = any_command(text)
        except OSError as error:
            raise pytest.UsageError(f"--proxy: can't run {text}: {error.strerror}") from None


def row_of(definition):
    """Return the Behaviour that a test belongs to, or None."""
    mark = definition.get_closest_marker("behaviour")
    return mark and BY_NAME[mark.args[0]]


def pytest_generate_tests(metafunc):
    """Run a behaviour's test once for each part that it applies to; a "no" is a strict expected failure."""
    row = row_of(metafunc.definition)
    if row is None:
        return
    if metafunc.config.proxy_command:
        metafunc.parametrize("part", [YOURS])
        return
    parameters = []
    for part, cell in row.parts.items():
        marks = []
        if cell == "no":
            marks.append(pytest.mark.xfail(strict=True, raises=AssertionError, reason=row.reasons[part]))
        if cell != "–":
            parameters.append(pytest.param(part, marks=marks, id=PARTS[part]))
    metafunc.parametrize("part", parameters)


def pytest_collection_modifyitems(config, items):
    """Put base tests first, so that one cause gives one failure; with --proxy leave out what is about the parts."""
    items.sort(key=lambda item: item.get_closest_marker("base") is None)
    if config.proxy_command:
        about_parts = [item for item in items if row_of(item) is None]
        config.hook.pytest_deselected(items=about_parts)
        items[:] = [item for item in items if row_of(item) is not None]


def pytest_runtest_setup(item):
    """Skip what depends on a base test that has failed."""
    if row_of(item) and item.callspec.params["part"] in item.config.without_base:
        pytest.skip("the proxy does not pass on a single request yet: begin with that one")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Note each outcome for the report card."""
    report = yield
    row = row_of(item)
    if row and (report.when == "call" or report.outcome != "passed"):
        item.config.outcomes[row.name].append(report.outcome)
        if report.outcome == "failed" and item.get_closest_marker("base"):
            item.config.without_base.add(item.callspec.params["part"])
    return report


@pytest.fixture
def command(part, request):
    """The Command that starts the proxy under test."""
    return request.config.proxy_command or part_command(part)


@pytest.fixture
def start_proxy(command):
    """A function that starts the proxy under test in front of a backend; all are ended after the test."""
    running = []

    def start(backend, **options):
        running.append(Proxy(command, backend if isinstance(backend, int) else backend.port, **options))
        return running[-1]

    yield start
    for proxy in running:
        proxy.stop()


def pytest_terminal_summary(terminalreporter, config):
    """Print the report card."""
    if not config.proxy_command or not config.outcomes:
        return
    write = terminalreporter.write_line
    terminalreporter.section("report card")
    reached = {name for name, outcomes in config.outcomes.items() if set(outcomes) == {"passed"}}
    for row in BEHAVIOURS:
        outcomes = config.outcomes.get(row.name, [])
        passed = outcomes.count("passed")
        word = "yes" if row.name in reached else "no " if outcomes else "–  "
        count = f"  ({passed} of {len(outcomes)})" if outcomes and row.name not in reached else ""
        write(f"{word}  {row.text}{count}")
    write("")
    write(verdict(reached, set(config.outcomes)))
