"""Runs every behaviour against every part, or against the program that --proxy names, which gets a report card.

With workers (pytest -n 2) each collects and runs on its own. What they need to know about each other goes through a
directory; what the report card needs travels with the tests' reports to the process that prints it.
"""

import os
import pathlib
import resource
import tempfile
import time

import pytest

from behaviours import BEHAVIOURS, BY_NAME, askable, milestone
from report_card import ReportCard, note_failure
from support.configs import hosts_text, redis_text
from support.harness import Command, CommandByRedis, Proxy, any_command, is_listening, part_command
from support.left_out import WITHOUT_IPV6, LeftOut, has_ipv6
from support.parts import PARTS
from support.peers import RedisServer, free_port, wait_until
from support.steps import StepError, all_steps, existing_part, find_step, steps_of

YOURS = "yours"  # instead of a part's number: the program that --proxy names
FIRST_WITH_HOSTS = 6  # a part
FIRST_WITH_REDIS = 7
# The same for a part that has virtual hosts, and is to pass all on through one of them: another path through its code.
BY_HOST = {f"{directory} by host": part for part, directory in PARTS.items() if part >= FIRST_WITH_HOSTS}
# And for one that finds its backends in redis: the rows that say the most for their time.
BY_REDIS = {f"{directory} by redis": part for part, directory in PARTS.items() if part >= FIRST_WITH_REDIS}
ROWS_BY_REDIS = ["serves requests", "both directions", "slow client", "half-closed client", "survives"]
DESCRIPTORS = 4096  # that a process with tests may have; 500 clients and their backend's ends make 1,016
WORKERS = 4  # tests at a time of a student's own proxy; most of it is waiting
BASE_PATIENCE = 60  # seconds that a worker waits for a base test that another one runs


def pytest_addoption(parser):
    """Add --proxy, and what asks for more than a plain run: --step, --all-scenes, --all-tries."""
    parser.addoption(
        "--proxy",
        metavar="COMMAND",
        help="run every behaviour on this program, with no expectations, and print a report card: a program, or a "
        "whole command with {port}, {backend_host}, {backend_port} or {config} in it; four tests at "
        "a time, unless -n says otherwise",
    )
    parser.addoption("--milestones", action="store_true", help="with --proxy: one row after another, to the first no")
    parser.addoption("--milestone", metavar="NUMBER", type=int, help="with --proxy: this one row, and all about it")
    parser.addoption(
        "--step",
        metavar="STEP",
        action="append",
        type=steps_named,
        help="run what these steps are the first to pass, and what their pages print: 5.3, 5 for all of part 5, or all",
    )
    parser.addoption("--book", action="store_true", help="test the book as a site, after make book")
    parser.addoption("--all-scenes", action="store_true", help="play every scene of the live page, in a browser")
    parser.addoption("--all-tries", action="store_true", help="judge every wrong and right solution of the exercises")


def steps_named(text):
    """Return the steps that --step names; raise UsageError when there are none."""
    try:
        if text == "all":
            return all_steps()
        return [find_step(text)] if "." in text else steps_of(existing_part(text))
    except StepError as error:
        raise pytest.UsageError(f"--step: {error}") from None


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """With --proxy run several tests at a time, unless -n has said how many, or it is about some few of them."""
    if hasattr(config, "workerinput") or "PYTEST_XDIST_WORKER" in os.environ:
        return  # a worker gets here too, and neither it nor what it starts may start its own workers
    option = config.option
    few = option.keyword or option.milestones or option.milestone
    if option.proxy and not few and getattr(option, "numprocesses", 0) is None:
        option.numprocesses = min(WORKERS, 2 * (os.cpu_count() or 1))
        option.dist = "worksteal"


def pytest_configure(config):
    """Prepare the machine, the program that --proxy names, and the report card."""
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"  # everything is on this machine: no proxy but ours
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    config.pluginmanager.register(LeftOut())
    if hasattr(config, "workerinput"):
        config.base_directory = config.workerinput["base_directory"]
        config.proxy_command = config.workerinput["words"] and Command(config.workerinput["words"], forgiving=True)
        return
    directory = tempfile.TemporaryDirectory(prefix="rsp-")
    config.base_directory = directory.name  # part (or YOURS) -> a file: "passed" or "failed"
    config.add_cleanup(directory.cleanup)
    config.proxy_command = proxy_command(config)
    if config.proxy_command:
        config.pluginmanager.register(ReportCard(config))


def proxy_command(config):
    """Return the Command for what --proxy names, or None; raise UsageError for one that makes no sense."""
    text = config.getoption("--proxy")
    number = config.getoption("--milestone")
    if text is None:
        if number or config.getoption("--milestones"):
            raise pytest.UsageError("--milestones and --milestone are about a proxy. Name it: --proxy my_rsp.py")
        return None
    if number and not 1 <= number <= len(BEHAVIOURS):
        raise pytest.UsageError(f"there is no milestone {number}: they go from 1 to {len(BEHAVIOURS)}")
    try:
        return any_command(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        if isinstance(error, PermissionError):
            reason = f'{reason}. Name what runs it, too: --proxy "node my_rsp.js"'
        raise pytest.UsageError(f"--proxy: can't run {text!r}: {reason}") from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tell a worker of pytest-xdist what the proxy's command is, and where the outcomes of base tests are kept."""
    node.workerinput["base_directory"] = node.config.base_directory
    node.workerinput["words"] = node.config.proxy_command and node.config.proxy_command.words


def pytest_pycollect_makeitem(collector, name, obj):
    """Leave out what runs on request alone: a test of steps when no --step has named any."""
    for mark in getattr(obj, "pytestmark", []):
        if mark.name == "on_request" and not collector.config.getoption(mark.args[0]):
            return []
    return None


def row_of(definition):
    """Return the Behaviour that a test belongs to, or None."""
    mark = definition.get_closest_marker("behaviour")
    return mark and BY_NAME[mark.args[0]]


def pytest_generate_tests(metafunc):
    """Run a behaviour's test once for each part that it applies to; a "no" is a strict expected failure.

    Where there are virtual hosts, what needs no special config is run once more, by host; some of it by redis, too.
    """
    row = row_of(metafunc.definition)
    if row is None:
        return
    if metafunc.config.proxy_command:
        metafunc.parametrize("part", [YOURS])
        return
    parameters = []
    first = FIRST_WITH_HOSTS if metafunc.definition.get_closest_marker("needs_hosts") else 1
    for part, cell in row.parts.items():
        marks = []
        if cell == "no":
            marks.append(pytest.mark.xfail(strict=True, raises=AssertionError, reason=row.reasons[part]))
        if cell != "–" and part >= first:
            parameters.append(pytest.param(part, marks=marks, id=PARTS[part]))
    if not row.config and not metafunc.definition.get_closest_marker("not_by_host"):
        parameters += BY_HOST
        if row.name in ROWS_BY_REDIS:
            needs = pytest.mark.needs("redis-server")
            parameters += [pytest.param(part, marks=needs) for part in BY_REDIS]
    metafunc.parametrize("part", parameters)


def pytest_ignore_collect(collection_path, config):
    """With --proxy, ignore what is about the course itself."""
    if config.proxy_command and collection_path.name == "course":
        return True
    return None


def pytest_collection_modifyitems(config, items):
    """Put base tests first, so that one cause gives one failure; with --proxy leave out what is about the parts."""
    items.sort(key=lambda item: item.get_closest_marker("base") is None)
    if config.proxy_command:
        asked = [item for item in items if is_asked(config, row_of(item))]
        config.hook.pytest_deselected(items=[item for item in items if item not in asked])
        items[:] = asked
        if config.getoption("milestones"):
            items.sort(key=lambda item: milestone(row_of(item)))


def is_asked(config, row):
    """Return True if a proxy that --proxy names is asked a row: some only where it takes a config."""
    if row is None or row.name not in askable(config.proxy_command.takes_config):
        return False
    return config.getoption("milestone") in (None, milestone(row))


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
def pytest_runtest_protocol(item, nextitem):
    """Stop after the first milestone that is not reached."""
    result = yield
    session = item.session
    if session.config.getoption("milestones") and nextitem and row_of(nextitem) is not row_of(item):
        if session.testsfailed:
            session.shouldstop = f"milestone {milestone(row_of(item))} is not reached yet"
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Write the test's row into its report, for the report card, and keep the outcome of a base test."""
    report = yield
    if row := row_of(item):
        report.user_properties.append(("behaviour", row.name))
        if report.failed and item.config.proxy_command:
            note_failure(item, report, call.excinfo.value)
    if item.get_closest_marker("base") and (report.when == "call" or report.outcome != "passed"):
        outcome = base_outcome(item.config, item.callspec.params["part"])
        new = outcome.with_suffix(".new")
        new.write_text(report.outcome)
        new.rename(outcome)  # so that no reader sees half of it
    return report


@pytest.fixture
def command(part, request):
    """The Command that starts the proxy under test."""
    if part in BY_REDIS:
        return CommandByRedis(part_command(BY_REDIS[part]).words, request.getfixturevalue("shared_redis"))
    return request.config.proxy_command or part_command(BY_HOST.get(part, part), by_host=part in BY_HOST)


@pytest.fixture
def strict(request):
    """Whether the exact wording is required, as it is of the parts, or only what the page asks for."""
    return request.config.proxy_command is None


@pytest.fixture
def start_proxy(command, request):
    """A function that starts the proxy under test in front of a backend; all are ended after the test."""
    running = request.node.proxies = []

    def start(backend, **options):
        running.append(Proxy(command, backend, **options))
        return running[-1]

    yield start
    for proxy in running:
        proxy.stop()


@pytest.fixture
def start_hosts(command, request):
    """A function that starts the proxy under test on a config like hosts_text's; all are ended after the test.

    One that takes no hosts gets the first one's backend: it should do the right thing all the same, and
    does not. With `tls` it listens on a second port, tls_port.
    """
    running = request.node.proxies = []

    def start(hosts, tls=False, **settings):
        port = free_port() if tls else None
        more = {"listenTlsPort": str(port)} if tls else {}
        first = next(iter(hosts.values()))
        try:
            if not command.takes_config:
                raise AssertionError("it takes no config")
            proxy = Proxy(Command(command.words, hosts_text(hosts, **more, **settings)), 0)
        except AssertionError:
            if isinstance(first, str):
                raise
            proxy = Proxy(command, first)
        running.append(proxy)
        proxy.tls_port = port
        if tls:
            wait_until(lambda: is_listening(port), "it listens for TLS, too")
        return proxy

    yield start
    for proxy in running:
        proxy.stop()


@pytest.fixture
def by_ipv6(record_property):
    """A list with the loopback address of IPv6, or an empty one; then the last lines on the screen tell of that."""
    if has_ipv6():
        return ["::1"]
    record_property(WITHOUT_IPV6, True)
    return []


@pytest.fixture(scope="session")
def shared_redis():
    """A redis-server for all the tests that find their one backend there."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis():
    """A redis-server of the test's own, empty."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def start_redis(command, request):
    """A function that starts the proxy under test on a config like redis_text's; all are ended after the test.

    With `tls` it listens on a second port, tls_port. It returns when the real redis has been told what to track, unless
    the test changes nothing that the proxy has been told before, and so does without (`tracks`).
    """
    running = request.node.proxies = []

    def start(redis, *arguments, tls=False, tracks=True, **settings):
        port = free_port() if tls else None
        more = {"listenTlsPort": str(port)} if tls else {}
        text = redis_text(redis, *arguments, **more, **settings)
        proxy = Proxy(Command(command.words, text, command.forgiving), 0)
        running.append(proxy)
        proxy.tls_port = port
        if tls:
            wait_until(lambda: is_listening(port), "it listens for TLS, too")
        if tracks and isinstance(redis, RedisServer) and redis.is_running():
            redis.wait_for_proxies(len(running))
        return proxy

    yield start
    for proxy in running:
        proxy.stop()
