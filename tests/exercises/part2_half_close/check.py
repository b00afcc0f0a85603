"""Checks that a client of part 2 may stop sending, and still listen."""

import contextlib

from ordinary import life_goes_on
from suite.test_behaviours import test_a_half_closed_client_still_gets_its_answer as half_closed_client
from support.harness import check_quiet
from support.peers import EchoBackend, HttpBackend, StalledBackend, wait_until, wait_until_still


def gets_its_answer(work):
    """A client that has sent its request and half-closed gets its answer, half a second later."""
    work.sent("GET /slow?seconds=0.5, and the end of what the client sends")
    work.run_test(half_closed_client)


def backend_sees_the_end(work):
    """The backend sees the end of what the client sends, and the client the end of what the backend sends."""
    work.sent('"hello" to an echo, and the end of what the client sends')
    with EchoBackend() as backend, work.start(backend).connect(timeout=2) as client:
        client.send(b"hello")
        client.half_close()
        answer = client.receive_exactly(5)
        try:
            client.expect_end()
        except AssertionError:
            who = "the backend" if not backend.ends else "the client"
            raise AssertionError(
                f"{answer!r}, and {who} saw no end. Hint: shutdown(socket.SHUT_WR) passes it on"
            ) from None
        work.came_back(f"{answer!r} and the end; the backend saw the end, too")


def is_quiet(work):
    """While a half-closed client waits for its answer, the proxy uses no processor time."""
    work.sent("GET /slow?seconds=1, and the end of what the client sends")
    with HttpBackend() as backend:
        proxy = work.start(backend)
        with proxy.connect() as client:
            client.send(b"GET /slow?seconds=1 HTTP/1.0\r\n\r\n")
            client.half_close()
            check_quiet(proxy, seconds=0.6)
            answer = client.receive_all()
            assert answer.endswith(b"Sorry for the wait.\n"), "no answer came. Hint: task (a) comes first"
    work.came_back("the answer, and next to no processor time in the meantime")


def leaves_nothing_open(work):
    """After ten half-closed clients, ten that were reset, and ten that did both, no descriptor stays open."""
    work.sent("ten times hello and a half-close, ten times hello and a reset, ten times all of that")
    with EchoBackend() as backend:
        proxy = work.start(backend)
        before = wait_until_still(proxy.open_files, still=0.2)
        for way in ["half_close", "reset"] * 10:
            with proxy.connect() as client:
                client.send(b"hello")
                client.receive_exactly(5)
                getattr(client, way)()
        wait_until(lambda: proxy.open_files() == before, f"{before} open descriptors, as before the clients came")
    with StalledBackend() as backend:
        proxy = work.start(backend)
        before = wait_until_still(proxy.open_files, still=0.2)
        for number in range(10):
            with proxy.connect() as client:
                client.send(b"hello")
                client.half_close()
                wait_until(lambda n=number: len(backend.connections) > n, "the backend has the connection")
                client.reset()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: proxy.open_files() == before, "the proxy has closed all")
        more = proxy.open_files() - before
        assert not more, f"{more} descriptors are still open. Hint: a client half-closed and was reset; who was told?"
        proxy.check_unharmed()
    work.came_back(f"{before} open descriptors before and after")


TASKS = [gets_its_answer, backend_sees_the_end, is_quiet, leaves_nothing_open, life_goes_on()]
