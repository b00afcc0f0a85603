"""Checks that a backend that comes back gets its share little by little."""

import contextlib
import time

from ordinary import life_goes_on
from several import LetterBackend, backends_called, held_connections, start_backends, who_serves
from support.configs import backend_text, config_text
from support.peers import HOST, LONG_PATIENCE, wait_until
from work import TooBusy

SLOW_START = 3  # seconds
LATE = 0.75  # of that time: the share is then too near to all of it
VERY_SLOW = 30  # seconds: a busy machine is still at the beginning
FAIL_TIMEOUT = 300  # milliseconds for which a backend is left out
CHECK = "check = {interval = 50, rise = 1, fall = 1, timeout = 500}"
SETTINGS = {"balance": "least_conn", "maxFails": 0, "more": CHECK}
HELD = 40  # connections, before the third backend comes back


def loads(held):
    """Return how many of the held connections each backend has, as a dict."""
    letters = [letter for letter, _ in held]
    return {letter: letters.count(letter) for letter in "ABC"}


def wait_for(proxy, port, state):
    """Wait until the checks have found a backend "up" or "down"."""
    words = f"Backend {HOST}:{port} is {state}"
    wait_until(lambda: words in proxy.errors(), f"the log says: {words}", LONG_PATIENCE)


@contextlib.contextmanager
def come_back(work, slow_start=SLOW_START, weight=1):
    """Yield a proxy, a list of 40 held connections of A and B, and the moment at which C (of a weight) has come back.

    slow_start is in seconds; None leaves the setting out.
    """
    more = CHECK if slow_start is None else f"{CHECK} slowStart = {slow_start * 1000}"
    with backends_called("ABC") as backends, held_connections() as held:
        texts = backends[0], backends[1], backend_text(backends[2], weight=weight)
        proxy = start_backends(work, *texts, **SETTINGS | {"more": more})
        backends[2].close()
        wait_for(proxy, backends[2].port, "down")
        who_serves(proxy, HELD, hold=held)
        with LetterBackend("C", backends[2].port):
            wait_for(proxy, backends[2].port, "up")
            yield proxy, held, time.monotonic()
        proxy.check_unharmed()


@contextlib.contextmanager
def come_back_after_fails(work):
    """Yield a proxy without any check, and a list of 40 held connections: C was left out for failed connects, and is
    there again."""
    with backends_called("ABC") as backends, held_connections() as held:
        settings = {"balance": "least_conn", "failTimeout": FAIL_TIMEOUT, "slowStart": VERY_SLOW * 1000}
        backends[2].close()
        proxy = start_backends(work, *backends, **settings)
        who_serves(proxy, HELD, hold=held)
        with LetterBackend("C", backends[2].port):
            time.sleep(2 * FAIL_TIMEOUT / 1000)
            yield proxy, held
        proxy.check_unharmed()


def next_clients(work, proxy, count, held):
    """Have `count` clients come and stay; return how many of them C has got."""
    letters = who_serves(proxy, count, hold=held)
    work.came_back(f"the {count} got answers of {letters}")
    return letters.count("C")


def at_first(work):
    """A and B have 20 connections each, and C comes back. Of the next 8 clients, who all stay, C gets at most 2. The
    same when there is no check, and C was left out because connects to it had failed."""
    work.sent(f"balance = least_conn, slowStart = {VERY_SLOW}000; C comes back, and 8 clients come at once")
    with come_back(work, VERY_SLOW) as (proxy, held, _):
        count = next_clients(work, proxy, 8, held)
        assert count <= 2, f"C got {count} of them. Hint: weigh it less while it has been back for a short time"
    work.sent("the same without a check: C was left out after a failed connect, and is there again")
    with come_back_after_fails(work) as (proxy, held):
        count = next_clients(work, proxy, 8, held)
        assert count <= 2, f"C got {count} of them. Hint: a check is one way to notice; who decides what is usable?"


def half_way(work):
    """After half of slowStart, C has its part of the next 30 clients: at least 5, and not so many that it has as many
    as the others. With weight = 2 it gets at least 21, as half of its weight is as much as the others have."""
    for weight in (1, 2):
        work.sent(f"C has weight = {weight}; slowStart = {SLOW_START}000, and 30 clients {SLOW_START / 2:g} s later")
        with come_back(work, weight=weight) as (proxy, held, since):
            time.sleep(max(0, since + SLOW_START / 2 - time.monotonic()))
            count = next_clients(work, proxy, 30, held)
            part = (time.monotonic() - since) / SLOW_START  # of its weight, when the last one came: at least a half
        now = loads(held)
        work.came_back(f"connections: {', '.join(f'{letter}: {number}' for letter, number in now.items())}")
        if weight == 1:
            assert count >= 5, f"C got {count} of 30. Hint: its share grows with the time, and the time is half over"
            assert now["C"] <= (part + 0.3) * min(now["A"], now["B"]), (
                "C has as many as they have, or nearly. Hint: half of the time, half of the weight"
            )
        else:
            if part > LATE:
                raise TooBusy("30 clients took too long for a judgement. Hint: this machine is busy; check again")
            assert count >= 21, f"C got {count} of 30. Hint: a part of what? Of the weight that the config says"


def in_the_end(work):
    """After slowStart, C is one like the others: of the next 30 clients it gets as many as it lacks. Without
    slowStart that is so at once."""
    work.sent("slowStart = 1000, and 30 clients 1.2 s after C's return; then once more without slowStart, at once")
    for slow_start, seconds in ((1, 1.2), (None, 0)):
        with come_back(work, slow_start) as (proxy, held, since):
            time.sleep(max(0, since + seconds - time.monotonic()))
            next_clients(work, proxy, 30, held)
            now = loads(held)
            work.came_back(f"connections: {', '.join(f'{letter}: {number}' for letter, number in now.items())}")
            assert max(now.values()) - min(now.values()) <= 1, "not even. Hint: from then on its weight is its weight"


def at_the_start(work):
    """When the proxy starts, no backend has come back: 9 clients are spread evenly at once. slowStart = "soon" is
    refused."""
    work.sent('9 clients at the start; a config with slowStart = "soon"')
    more = f"{CHECK} slowStart = 60000"
    with backends_called("ABCD") as (*backends, other), held_connections() as held:
        who_serves(start_backends(work, *backends, **SETTINGS | {"more": more}), 9, hold=held)
        now = loads(held)
        work.came_back(f"connections: {', '.join(f'{letter}: {number}' for letter, number in now.items())}")
        assert set(now.values()) == {3}, "not 3 each. Hint: who has never been down has not come back"
        text = config_text(*backends, slowStart="soon").replace("{port}", str(other.port))  # taken: it ends at once
        run = work.run_on_config(text)
        right = run.returncode == 1 and "slowStart must be a whole number" in run.stderr
        assert right, "no complaint. Hint: settings.py has read_seconds; let it allow 0"


def slow(work, backend):
    """Return the student's proxy, with health checks and a short slowStart."""
    return start_backends(work, backend, balance="least_conn", more=f"{CHECK} slowStart = 200")


TASKS = [at_first, half_way, in_the_end, at_the_start, life_goes_on(slow)]
