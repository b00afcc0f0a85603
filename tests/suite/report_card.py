"""The report card: what a proxy that --proxy names can do, and what comes next."""

import collections

from behaviours import BEHAVIOURS, verdict


class ReportCard:
    """Collects each row's outcomes, those of all the workers, and prints them after the last test."""

    def __init__(self, config):
        """Begin with nothing."""
        self.config = config
        self.outcomes = collections.defaultdict(list)  # row's name -> "passed", "failed" or "skipped"

    def pytest_runtest_logreport(self, report):
        """Note a test's outcome."""
        row = dict(report.user_properties).get("behaviour")
        if row and (report.when == "call" or report.outcome != "passed"):
            self.outcomes[row].append(report.outcome)

    def pytest_terminal_summary(self, terminalreporter):
        """Print the report card."""
        if not self.config.proxy_command or not self.outcomes:
            return
        write = terminalreporter.write_line
        terminalreporter.section("report card")
        reached = {name for name, outcomes in self.outcomes.items() if set(outcomes) == {"passed"}}
        for row in BEHAVIOURS:
            outcomes = self.outcomes.get(row.name, [])
            passed = outcomes.count("passed")
            word = "yes" if row.name in reached else "no " if outcomes else "–  "
            count = f"  ({passed} of {len(outcomes)})" if outcomes and row.name not in reached else ""
            write(f"{word}  {row.text}{count}")
        write("")
        write(verdict(reached, set(self.outcomes)))
