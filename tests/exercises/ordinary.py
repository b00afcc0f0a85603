"""The last task of every exercise that changes a proxy: with the new feature in it, ordinary life goes on.

A feature is soon tried with the clients that it is for. What breaks it is an ordinary day: a client leaves in the
middle of a download, and a timer, a table or a thread still counts on it.
"""

import contextlib
import re
import time

from support.harness import Proxy
from support.output import MISTAKE, TRACEBACK, at_most
from support.peers import HttpBackend, HttpHandler, wait_until
from work import Work

REQUEST = "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
BIG = 20_000_000  # bytes of an answer that no client waits for
THINKING = 0.2  # seconds that the backend thinks about an answer for a client that leaves before it comes
CLOSING = 5  # seconds that a proxy has for closing a pair
MOST_GROWTH = 10e6  # bytes of memory; a whole answer that is kept for a client that has left is more than that
PLACE = re.compile(r'File "(?:.*/)?([^/"]+)", line (\d+)')


def life_goes_on(start=Work.start, wait=0.3, host="localhost", **options):
    """Return the task, for a check's TASKS.

    start(work, backend, **options) returns the student's proxy with its feature switched on, or a context manager that
    yields it. After `wait` seconds, whatever timers the feature has are over. The clients ask for `host`.
    """

    def task(work):
        """Life goes on: clients come and go, some leave in the middle of an answer, some are reset. The next one is
        served, and nothing stays open."""
        work.sent("a day of ordinary clients, one after another")
        with HttpBackend(handler=Counting) as backend, contextlib.ExitStack() as stack:
            backend.server.asked = 0
            proxy = start(work, backend, **options)
            if not isinstance(proxy, Proxy):
                proxy = stack.enter_context(proxy)
            Day(proxy, backend, host).pass_by(wait)
        work.came_back(
            f"all were served or gone; {wait:.1f} s later nothing was left of them, and the next one was served"
        )

    return task


class Counting(HttpHandler):
    """Counts the requests that it thinks about."""

    def get_slow(self, query):
        """Count one, and answer after some seconds."""
        self.server.asked += 1
        super().get_slow(query)


class Day:
    """What ordinary clients do to a proxy, and how it is afterwards."""

    def __init__(self, proxy, backend, host):
        """Begin with nothing known of the proxy's usual state: the first clients show it."""
        self.proxy = proxy
        self.backend = backend  # an HttpBackend
        self.host = host  # that the clients ask for
        self.usual = None  # open descriptors with no client

    def pass_by(self, wait):
        """Have every kind of client come; wait past the timers; have one more served."""
        kinds = [self.asks, self.says_nothing, self.leaves_early, self.leaves_in_the_middle, self.is_reset]
        self.asks()
        self.look("had its answer")
        self.look(self.leaves_in_the_middle())  # from then on, the memory has what one such client takes
        memory = self.proxy.memory()
        for kind in kinds:
            self.look(kind())
        time.sleep(wait)
        self.look(
            f"had left, {wait:.1f} s had passed", "what still counts on a client that has left: a timer, a table?"
        )
        self.asks("after all of them")
        growth = self.proxy.memory() - memory
        assert growth < MOST_GROWTH, (
            f"{growth / 1e6:.0f} MB more than before, although all clients have left. "
            "Hint: who still reads an answer whose client has gone, and keeps it?"
        )

    def connect(self, path):
        """Return a client that has asked for a page."""
        client = self.proxy.connect()
        client.send(REQUEST.format(path=path, host=self.host).encode())
        return client

    def asks(self, when="as the first one"):
        """Get a page."""
        with self.connect("/") as client:
            answer = client.receive_all()
        assert answer.endswith(b"Hello from the backend.\n"), (
            f"a client that came {when} got {answer[:40]!r}. Hint: it asked for a page, like any other client"
        )
        return "had its answer"

    def says_nothing(self):
        """Connect, be accepted, and leave."""
        with self.proxy.connect(), contextlib.suppress(AssertionError):  # it may serve one client after another
            wait_until(lambda: self.is_broken() or self.proxy.open_files() > self.usual, "the client is accepted", 1)
        return "left without a word"

    def leaves_early(self):
        """Leave before the answer comes."""
        with self.wait_for_answer():
            pass
        return "left before its answer came"

    def leaves_in_the_middle(self):
        """Leave in the middle of a big answer, with most of it unread."""
        with self.connect(f"/bytes?count={BIG}") as client:
            client.receive_exactly(10_000)
        return "left in the middle of its answer"

    def is_reset(self):
        """Vanish before the answer comes."""
        self.wait_for_answer().reset()
        return "was reset before its answer came"

    def wait_for_answer(self):
        """Return a client whose request the backend thinks about."""
        before = self.backend.server.asked
        client = self.connect(f"/slow?seconds={THINKING}")
        wait_until(
            lambda: self.is_broken() or self.backend.server.asked > before, "the backend has the request", CLOSING
        )
        return client

    def look(self, what, hint="where does your code count on a client that may have left?"):
        """Raise AssertionError when a client has left something behind, or has ended the proxy."""
        try:
            wait_until(lambda: self.is_broken() or self.is_as_usual(), "the sockets are closed", CLOSING)
        except AssertionError:
            more = self.proxy.open_files() - self.usual
            complaint = f"a client {what}, and {more} descriptors more than before stay open. Hint: who closes them?"
            raise AssertionError(complaint) from None
        assert not self.is_broken(), f"a client {what}, and the proxy crashed: {self.error()}. Hint: {hint}"

    def is_as_usual(self):
        """Return True when no more descriptors are open than after the first client."""
        if self.usual is None:
            self.usual = min(self.open_files_soon() for _ in range(10))
        return self.proxy.is_alive() and self.proxy.open_files() <= self.usual

    def open_files_soon(self):
        """Return how many descriptors are open in a moment; health checks come and go."""
        time.sleep(0.03)
        return self.proxy.open_files() if self.proxy.is_alive() else 0

    def is_broken(self):
        """Return True when the proxy has ended, or has logged an exception."""
        errors = self.proxy.errors()
        return not self.proxy.is_alive() or TRACEBACK in errors or MISTAKE in errors

    def error(self):
        """Return the error that the proxy has printed, and its line; or how it has ended."""
        lines = at_most(self.proxy.errors()).splitlines()
        places = PLACE.findall("\n".join(lines))
        if places and lines[-1]:
            file, number = places[-1]
            return f"{lines[-1]} ({file}, line {number})"
        return f"it has ended, with exit status {self.proxy.process.poll()}"
