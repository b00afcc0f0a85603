"""Checks that part 4 gives up a connect that gets no answer."""

import contextlib
import time

from ordinary import life_goes_on
from support.peers import Client, EchoBackend, FullBackend, HttpBackend, wait_until, wait_until_still
from work import TooLate

SECONDS = 0.5  # that a connect may take
ENVIRONMENT = {"RSP_CONNECT_SECONDS": str(SECONDS)}


@contextlib.contextmanager
def taken_backend(work):
    """Yield a backend that has one place, a proxy with a limit, and the client that has the place."""
    with FullBackend() as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        with proxy.connect() as connected:
            connected.send(b"hello")
            connected.receive_exactly(5)
            yield backend, proxy, connected
        proxy.check_unharmed()


def hopeless(backend, proxy):
    """Be a client that the backend does not accept; return after how many seconds it was reset."""
    backend.fill()
    start = time.monotonic()
    with Client(proxy.port) as client:
        client.send(b"is anybody there?")
        client.expect_reset()
    return time.monotonic() - start


def is_reset(work):
    """With RSP_CONNECT_SECONDS=0.5 the client of a backend that does not accept is reset after half a second."""
    work.sent(f"RSP_CONNECT_SECONDS={SECONDS}; a request, while the backend does not accept")
    with taken_backend(work) as (backend, proxy, connected):
        seconds = hopeless(backend, proxy)
        work.came_back(f"a reset, after {seconds:.2f} s")
        assert seconds > SECONDS - 0.05, f"not after {SECONDS} s, but before. Hint: call_later(CONNECT_SECONDS, …)"
        if seconds > SECONDS + 1:
            raise TooLate(f"not after {SECONDS} s. Hint: call_later(CONNECT_SECONDS, …)")
        try:
            connected.send(b"still there?")
            connected.receive_exactly(12)
        except AssertionError:
            hint = "when a timer goes off, its connect may have worked long ago"
            raise AssertionError(f"and one who had been connected before was cut off. Hint: {hint}") from None


def is_logged(work):
    """The log says so, in one line: Connection timed out. Nothing stays open."""
    work.sent(f"RSP_CONNECT_SECONDS={SECONDS}; three requests, while the backend does not accept")
    with taken_backend(work) as (backend, proxy, _):
        before = wait_until_still(proxy.open_files, still=0.2)
        for _ in range(3):
            hopeless(backend, proxy)
        wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before")
        lines = [line for line in proxy.errors().splitlines() if "connect" in line]
        work.came_back(proxy.errors())
    assert len(lines) == 3, (
        f"{len(lines)} such lines for three clients. Hint: a connect that fails has its line already"
    )
    for line in lines:
        assert "Connection timed out" in line, f"not in this one: {line}. Hint: errno.ETIMEDOUT"


def others(work):
    """A backend that accepted in time may think for longer than that, and a second client is not in its way."""
    work.sent(f"RSP_CONNECT_SECONDS={SECONDS}; a request that takes 1 s, and others that don't")
    with HttpBackend() as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        with proxy.connect() as client:
            client.send(b"GET /slow?seconds=1 HTTP/1.0\r\n\r\n")
            for _ in range(5):
                assert proxy.get("/").status_code == 200
            answer = client.receive_all()
        proxy.check_unharmed()
        assert answer.endswith(b"Sorry for the wait.\n"), f"{answer!r}. Hint: once connected, the limit is off"
    with EchoBackend() as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        for _ in range(3):  # closed before the timer goes off
            with proxy.connect() as client:
                client.send(b"hello")
                client.receive_exactly(5)
        time.sleep(SECONDS + 0.3)
        proxy.check_unharmed()
    work.came_back("all answers; and a timer that found its pair closed did no harm")


TASKS = [is_reset, is_logged, others, life_goes_on(wait=SECONDS + 0.4, environment=ENVIRONMENT)]
