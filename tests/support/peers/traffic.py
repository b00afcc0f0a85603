"""Clients that never stop asking, so that a test can see whether anything that it does costs one of them its answer."""

import threading
import time

from support.peers.waiting import LONG_PATIENCE, wait_until


class Traffic:
    """Clients that go on asking for pages in a with-block, from a thread each, and keep what they got."""

    def __init__(self, ask, hosts):
        """Ask for the pages of hosts, in a thread each; the function asks for one and returns an Answer."""
        self.ask = ask
        self.hosts = hosts
        self.answers = []  # (seconds it took, status, site)
        self.failures = []  # what went wrong: texts
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(host,), daemon=True) for host in hosts]

    def __enter__(self):
        """Begin, and return when every host has been answered once."""
        for thread in self.threads:
            thread.start()
        self.go_on(len(self.hosts))
        return self

    def __exit__(self, *_):
        """Come to an end."""
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self, host):
        """Ask again and again."""
        while not self.over.is_set():
            start = time.monotonic()
            try:
                answer = self.ask(host)
            except AssertionError as error:
                self.failures.append(f"{host}: {error}")
            else:
                if answer.status != 200:
                    self.failures.append(f"{host}: {answer.status} {answer.body!r}")
                self.answers.append((time.monotonic() - start, answer.status, answer.site))
            self.over.wait(0.002)

    def go_on(self, count=50):
        """Wait until so many more answers, or failures, have come."""
        enough = len(self.answers) + len(self.failures) + count
        wait_until(lambda: len(self.answers) + len(self.failures) >= enough, f"{count} more answers", LONG_PATIENCE)

    def check(self):
        """Raise AssertionError if any request has failed."""
        failures = len(self.failures)
        assert not failures, f"{failures} of {failures + len(self.answers)} requests failed; first: {self.failures[0]}"
