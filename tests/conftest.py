"""Runs every behaviour against every part, or against the program that --proxy names, which gets a report card.

With workers (pytest -n 2) each collects and runs by itself. What they have to know of each other goes through a
directory; what the report card needs travels with the tests' reports to the process that prints it.
"""

import os
import pathlib
import resource
import tempfile
import time

import pytest

from behaviours import BY_NAME
from report_card import ReportCard
from support.harness import Proxy, any_command, part_command
from support.left_out import LeftOut
from support.parts import PARTS

YOURS = "yours"  # in place of a part's number: the program that --proxy names
DESCRIPTORS = 4096  # that a process with tests may have; 500 clients and their backend's ends make 1,016
BASE_PATIENCE = 60  # seconds that a worker waits for a base test that another one runs


def pytest_addoption(parser):
    """Add --proxy."""
    parser.addoption(
        "--proxy",
        metavar="COMMAND",
        help="run every behaviour on this program, with no expectations, and print a report card: a program, or a "
        "whole command with {port}, {backend_host}, {backend_port} or {config} in it",
    )


def pytest_configure(config):
    """Prepare the machine, the program that --proxy names, and the report card."""
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"  # everything is on this machine: no proxy but ours
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    config.pluginmanager.register(LeftOut())
    config.proxy_command = None
    text = config.getoption("--proxy")
    if text is not None:
        try:
            config.proxy_command = any_command(text)
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--proxy: can't run {text!r}: {getattr(error, 'strerror', error)}") from None
    if hasattr(config, "workerinput"):
        config.base_directory = config.workerinput["base_directory"]
    else:
        directory = tempfile.TemporaryDirectory(prefix="rsp-")
        config.base_directory = directory.name  # part (or YOURS) -> a file: "passed" or "failed"
        config.add_cleanup(directory.cleanup)
        config.pluginmanager.register(ReportCard(config))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tell a worker of pytest-xdist where the outcomes of base tests are kept."""
    node.workerinput["base_directory"] = node.config.base_directory


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


def pytest_collection_finish(session):
    """See whether any base test is left after -k and the like: without one there is nothing to wait for."""
    session.config.has_base = any(item.get_closest_marker("base") for item in session.items)


def base_outcome(config, part):
    """Return the file that tells how the base test of a part went."""
    return pathlib.Path(config.base_directory, str(part))


def pytest_runtest_setup(item):
    """Skip what depends on a base test that has failed."""
    if row_of(item) is None or item.get_closest_marker("base"):
        return
    outcome = base_outcome(item.config, item.callspec.params["part"])
    if item.config.proxy_command and item.config.has_base:  # another worker may be at it
        deadline = time.monotonic() + BASE_PATIENCE
        while not outcome.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    if outcome.exists() and outcome.read_text() == "failed":
        pytest.skip("the proxy does not pass on a single request yet: begin with that one")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Write the test's row into its report, for the report card, and keep the outcome of a base test."""
    report = yield
    if row := row_of(item):
        report.user_properties.append(("behaviour", row.name))
    if item.get_closest_marker("base") and (report.when == "call" or report.outcome != "passed"):
        outcome = base_outcome(item.config, item.callspec.params["part"])
        new = outcome.with_suffix(".new")
        new.write_text(report.outcome)
        new.rename(outcome)  # so that nobody reads half of it
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
