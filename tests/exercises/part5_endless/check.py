"""Checks that a Lua function stops all clients, and that one that fails stops none."""

import contextlib
import signal

from several import ask, backends_called, connect, start_config, who_serves

PAUSE = 1  # seconds without an answer that count as none
ENDLESS, FAILING = "127.0.0.2", "127.0.0.3"  # the addresses for which the function goes wrong


@contextlib.contextmanager
def started(work):
    """Yield the student's proxy, on attack.lua and two backends."""
    with backends_called("AB") as backends:
        yield start_config(work, "attack.lua", *backends)


def others_are_served(work):
    """As long as no client comes from 127.0.0.2 or 127.0.0.3, all clients are served, by both backends."""
    work.sent("four clients, from 127.0.0.1")
    with started(work) as proxy:
        letters = who_serves(proxy, 4)
        work.came_back(f"answers of {letters}")
        assert set(letters) == {"A", "B"}, "not by both. Hint: return nil, and they take turns"
        proxy.check_unharmed()


def everybody_waits(work):
    """A client from 127.0.0.2 comes, and for a second no client is served: not that one, not a new client from
    127.0.0.1, and not one who has been connected before. Not even SIGTERM ends the proxy."""
    work.sent("a client from 127.0.0.2, while one from 127.0.0.1 is connected, and another one comes")
    with started(work) as proxy, connect(proxy) as connected:
        assert ask(connected), "the client from 127.0.0.1 got no answer. Hint: it is for 127.0.0.2 only"
        with connect(proxy, ENDLESS) as culprit, connect(proxy) as late:
            answers = {"127.0.0.2": ask(culprit, PAUSE), "the new one": ask(late, PAUSE)}
            answers["the connected one"] = ask(connected, PAUSE)
        work.came_back(", ".join(f"{who}: {what or 'nothing'}" for who, what in answers.items()))
        served = [who for who, what in answers.items() if what is not None]
        assert not served, f"not stopped: {', '.join(served)}. Hint: what is in the loop's way for as long as it runs?"
        with contextlib.suppress(AssertionError):
            proxy.signal_and_wait(signal.SIGTERM)
        assert proxy.is_alive(), "SIGTERM has ended it. Hint: the function has to run for longer than a few seconds"


def an_error_stops_nobody(work):
    """For a client from 127.0.0.3 the same function raises an error: that client is served all the same, so are all
    others, and the log has one line with your message."""
    work.sent("two clients from 127.0.0.3, and two from 127.0.0.1")
    with started(work) as proxy:
        letters = who_serves(proxy, 2, source=FAILING) + who_serves(proxy, 2)
        log = proxy.errors()
        work.came_back(f"answers of {letters}; the log: {log or 'empty'}")
        assert "The function balance failed" in log, "no complaint. Hint: Lua's own function for this takes a message"
        assert "it returned" not in log, "it has returned something wrong. Hint: raise an error, with a message"
        assert len(log.splitlines()) == 1, "more than one line. Hint: leave the printing to the proxy"


TASKS = [others_are_served, everybody_waits, an_error_stops_nobody]
