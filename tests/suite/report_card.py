"""What the author of the proxy that --proxy names gets to read: in short, what failed, and last the report card.

The tests run in workers; what is known of a failure travels with the test's report to the process that prints.
"""

import collections
import shlex
import shutil
import textwrap

from behaviours import BEHAVIOURS, BY_NAME, askable, milestone, verdict
from by_hand import BY_HAND
from support.output import PRINTED as PRINTED_BELOW
from support.output import at_most, without_start_line
from support.peers import talk

FAILURE = "failure"  # the name of a property in a test's report: what is known of it, as a dict
PRINTED = "printed"  # the same for what the proxy has printed, by itself, since exercises read it
NAMED = 3  # rows that were not asked, by name; more of them are only counted
LABEL = 11  # characters, "received:" and the like, before a paragraph
WIDTH = 100  # characters of a line, at most; less where the terminal has less


def note_failure(item, report, error):
    """Put into a report what there is to say of a failure: a fact, a hint, the bytes, what the proxy has printed."""
    text, _, said = str(error).partition(PRINTED_BELOW)
    fact, _, hint = text.partition("\nassert ")[0].partition("Hint: ")
    if not isinstance(error, AssertionError):
        fact = f"{type(error).__name__}: {fact}"
    printed = "".join(proxy.printed() for proxy in getattr(item, "proxies", [])) or said
    name = item.originalname.removeprefix("test_")
    sent, received = talk.recent[-1].shown() if talk.recent else ("nothing", "nothing")
    command = item.config.proxy_command
    wanted = " ".join((item.function.__doc__ or "").split())
    known = {
        "test": f"{name.replace('_', ' ')}{f' ({item.callspec.id[6:]})' if item.callspec.id[6:] else ''}",
        "fact": fact.strip() or "it was not so",
        "hint": hint or wanted,
        "wanted": wanted if hint else "",  # a hint that comes from a client or a backend knows nothing of the test
        "sent": sent,
        "received": received,
        "by hand": "\n".join(BY_HAND[name].lines(command.words)) if name in BY_HAND else "",
        "should show": BY_HAND[name].shows if name in BY_HAND else "",
    }
    report.user_properties.append((FAILURE, known))
    report.user_properties.append((PRINTED, at_most(without_start_line(printed))))


class ReportCard:
    """Collects each row's outcomes, those of all the workers, and prints them when pytest has said its last word."""

    def __init__(self, config):
        """Begin with nothing."""
        self.config = config
        self.outcomes = collections.defaultdict(list)  # row's name -> "passed", "failed" or "skipped"
        self.failures = {}  # row's name -> what is known of its first failure, and "also": the names of all that failed
        self.asked = askable(config.proxy_command.takes_config)
        self.write = None  # prints a line, as soon as pytest has a terminal
        self.width = min(WIDTH, shutil.get_terminal_size().columns)

    def pytest_sessionstart(self):
        """Replace pytest's words by our own, unless somebody asks for its tracebacks."""
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        self.write = terminal.write_line
        if not any(word.startswith("--tb") for word in self.config.invocation_params.args):
            self.config.option.tbstyle = "no"
            terminal.reportchars = ""

    def pytest_collectreport(self, report):
        """Have pytest say what is wrong with a file of tests that can't be read."""
        if report.failed:
            self.config.option.tbstyle = "short"

    def pytest_runtest_logreport(self, report):
        """Note a test's outcome, and the first failure of its row."""
        properties = dict(report.user_properties)
        row = properties.get("behaviour")
        if row and (report.when == "call" or report.outcome != "passed"):
            self.outcomes[row].append(report.outcome)
            if FAILURE in properties:
                known = properties[FAILURE] | {PRINTED: properties[PRINTED]}
                self.failures.setdefault(row, known | {"also": []})["also"].append(known["test"])

    def reached(self):
        """Return the names of the rows all of whose tests have passed."""
        return {name for name, outcomes in self.outcomes.items() if set(outcomes) == {"passed"}}

    def pytest_unconfigure(self):
        """Print the failures, and the card below them."""
        if not self.outcomes:
            return
        for row in BEHAVIOURS:
            if row.name in self.failures:
                self.write_failure(row.name)
        self.write("")
        self.write(" your report card ".center(min(self.width, 80), "="))
        for row in BEHAVIOURS:
            if self.is_shown(row):
                line = self.line(row)
                self.write(line if len(line) < self.width else f"{line[: self.width - 2]}…")
        self.write("")
        for line in self.verdict():
            self.write(line)

    def is_shown(self, row):
        """Return True if a row is on the card: after a whole run each that can be asked, otherwise what was tried."""
        return self.is_whole() and row.name in self.asked or row.name in self.outcomes

    def is_whole(self):
        """Return True if every row has been tried that can be asked of this proxy."""
        return self.asked <= self.outcomes.keys()

    def line(self, row):
        """Return the card's line for a row: yes or no, how many of its tests have passed, and what it is about."""
        outcomes = self.outcomes.get(row.name, [])
        word = "yes" if row.name in self.reached() else "no"
        count = f"{outcomes.count('passed')} of {len(outcomes)}"
        return f"{milestone(row):>2}  {word:<4}{count:<9}{row.text}"

    def verdict(self):
        """Yield the last lines: what the proxy amounts to, what comes next, and how to try just that."""
        reached, tried = self.reached(), set(self.outcomes)
        yield from textwrap.wrap(verdict(reached, tried, self.asked), self.width - 1)
        not_asked = [row.name for row in BEHAVIOURS if row.name not in self.asked]
        if not_asked and self.is_whole():
            more = f" and {len(not_asked) - NAMED} more" if len(not_asked) > NAMED else ""
            text = f"It takes no config file, so these count neither way: {', '.join(not_asked[:NAMED])}{more}."
            yield from textwrap.wrap(text, self.width - 1)
        following = [row for row in BEHAVIOURS if row.name in tried - reached]
        if not following and self.config.getoption("milestone"):
            following = [row for row in BEHAVIOURS if milestone(row) > self.config.getoption("milestone")]
        if following:
            row = following[0]
            yield f"Milestone {milestone(row)} ({row.effort}), and just that: {self.again(row)}"

    def again(self, row):
        """Return the command that tries one milestone."""
        return f"pytest tests --proxy {shlex.quote(self.config.getoption('proxy'))} --milestone {milestone(row)}"

    def write_failure(self, name):
        """Print what is known of a row's first failure; all of it when it is about milestones."""
        known = self.failures[name]
        failed = len(self.outcomes[name]) - self.outcomes[name].count("passed")
        more = f", and {failed - 1} more of this row" if failed > 1 else ""
        self.write("")
        self.write(f"{milestone(BY_NAME[name])}  not yet: {known['test']}{more}")
        labels = ["fact", "hint", PRINTED]
        if self.config.getoption("milestones") or self.config.getoption("milestone"):
            labels = ["wanted", "fact", "hint", "sent", "received", PRINTED, "by hand", "should show", "also"]
        for label in labels:
            self.write_paragraph(label, "; ".join(known["also"][1:]) if label == "also" else known[label])

    def write_paragraph(self, label, text):
        """Print a paragraph with its label; what a program printed, and what is to be pasted, keeps its lines."""
        lines = text.splitlines() if label in (PRINTED, "by hand") else textwrap.wrap(text, self.width - LABEL - 8)
        for number, line in enumerate(lines):
            self.write(f"      {label + ':' if not number else '':<{LABEL}} {line}")
