"""Leaves out the tests whose programs are not installed; the last lines on the screen say so, and explain "xfailed".

A test says what it needs with `@pytest.mark.needs("curl")`. With RSP_NO_SKIPS=1 in the environment, as in continuous
integration, where everything is installed, nothing may be left out: anything skipped, for whatever reason, fails.
A machine without IPv6 can't have it installed: there, a test tries the rest, and the last lines tell of that.
That is about the course's own parts: a run on another --proxy may skip what depends on a test that has failed.
"""

import collections
import contextlib
import functools
import os
import socket

import pytest

from support.programs import install_command, missing

# Names of properties in a test's report.
MISSING = "missing program"
WITHOUT_IPV6 = "tried IPv4 alone"
EXPECTED = '{} xfailed: a part can\'t do that yet, so the test has to fail. Each is a "no" in the table of README.md.'
ON_REQUEST = "runs on request"  # its value: what a plain run leaves out, and the command that runs it


@functools.cache
def is_missing(program):
    """Return True if a program is not installed; it is looked for once in a run."""
    return bool(missing([program]))


@functools.cache
def has_ipv6():
    """Return True if this machine has the loopback address of IPv6."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


def fail_if_skipped(report, config):
    """Turn a skip into a failure where nothing may be skipped; an expected failure is no skip."""
    may_skip = config.getoption("--proxy") or not os.environ.get("RSP_NO_SKIPS")
    if not may_skip and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}. RSP_NO_SKIPS is set, so nothing may be skipped."


class LeftOut:
    """The plugin; with workers, each leaves tests out, and the process that prints counts them."""

    def __init__(self):
        """Begin with nothing."""
        self.tests = 0
        self.without_ipv6 = 0  # tests
        self.expected_failures = 0
        self.on_request = {}  # lines about what was not asked for, as keys
        self.programs = collections.Counter()  # program -> how many tests were left out for it

    def pytest_runtest_setup(self, item):
        """Skip a test that needs what is not there."""
        needed = [name for mark in item.iter_markers("needs") for name in mark.args]
        if lacking := [name for name in dict.fromkeys(needed) if is_missing(name)]:
            item.user_properties += [(MISSING, name) for name in lacking]
            pytest.skip(f"not installed: {', '.join(lacking)}")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item, call):
        """Let no test be skipped where nothing may be."""
        report = yield
        fail_if_skipped(report, item.config)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self, collector):
        """Let no file be skipped either."""
        report = yield
        fail_if_skipped(report, collector.config)
        return report

    def pytest_runtest_logreport(self, report):
        """Count what was left out."""
        lacking = [name for what, name in report.user_properties if what == MISSING]
        if lacking and report.when == "setup":
            self.tests += 1
            self.programs.update(lacking)
        self.on_request |= dict.fromkeys(value for what, value in report.user_properties if what == ON_REQUEST)
        self.expected_failures += report.skipped and hasattr(report, "wasxfail")
        if report.when == "call" and (WITHOUT_IPV6, True) in report.user_properties:
            self.without_ipv6 += 1

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session):
        """Print the summary after all other reports, the count of passed tests included."""
        result = yield
        if hasattr(session.config, "workerinput"):
            return result
        write = session.config.pluginmanager.get_plugin("terminalreporter").write_line
        for line in self.on_request:
            write(line)
        if self.expected_failures:
            write(EXPECTED.format(self.expected_failures))
        if self.without_ipv6:
            write(f"No IPv6 here (no ::1): IPv4 alone was tried in {self.without_ipv6} of the tests.")
        if self.tests:
            counts = ", ".join(f"{name} ({count})" for name, count in self.programs.most_common())
            write(f"Tests left out: {self.tests}. Not installed: {counts}.")
            write(f"To install what is missing: {install_command(self.programs)}")
        return result
