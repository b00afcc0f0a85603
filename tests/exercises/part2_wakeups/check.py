"""Predict how often part 2 wakes up; count_events.py counts it."""

import pathlib
import sys

from support.harness import ARGUMENTS, Command
from support.peers import SilentBackend, StreamingBackend, wait_until_still

PROGRAM = pathlib.Path(__file__).parent / "starter" / "count_events.py"


def start_counting(work, backend):
    """Return the student's proxy, which writes a line to stderr for each wake-up."""
    words = [sys.executable, str(PROGRAM), str(work.directory / "rsp.py"), *ARGUMENTS]
    return work.start_command(Command(words), backend)


def wake_ups(proxy):
    """Return how often the proxy has woken up so far, when that has stopped changing."""
    return wait_until_still(lambda: proxy.errors().count("wake-up"), still=0.3)


def compare(work, answer, really, hint):
    """Note what was counted, and compare it with the answer."""
    work.came_back(f"{really} wake-up{'s' if really != 1 else ''}")
    work.compare(answer, really, hint)


def silence(work):
    """A client connects and says nothing. How often does poll return?"""
    answer = work.answer("a")
    work.sent("a connection, and nothing more")
    with SilentBackend() as backend:
        proxy = start_counting(work, backend)
        with proxy.connect():
            compare(work, answer, wake_ups(proxy), "which descriptor is ready when a client is waiting?")


def ten_thousand(work):
    """Now the client sends 10,000 bytes with one call. How many more times?"""
    answer = work.answer("b")
    work.sent("10,000 bytes in one piece")
    with SilentBackend() as backend:
        proxy = start_counting(work, backend)
        with proxy.connect() as client:
            before = wake_ups(proxy)
            client.send(b"x" * 10_000)
            compare(work, answer, wake_ups(proxy) - before, "how much does one event read, and what is left over?")


def whole_exchange(work):
    """A new client connects and sends 20 bytes; the backend answers 10,000 and closes. How many times in all?"""
    answer = work.answer("c")
    work.sent("20 bytes; the backend answers 10,000 bytes, and closes")
    with StreamingBackend(10_000) as backend:
        proxy = start_counting(work, backend)
        with proxy.connect() as client:
            client.send(b"x" * 20)
            client.receive_exactly(10_000)
            compare(work, answer, wake_ups(proxy), "the waiting client, its request, the answer, and the end of file")


TASKS = [silence, ten_thousand, whole_exchange]
