"""Checks that part 2 closes connections on which nothing has been said for some time."""

import time

from ordinary import life_goes_on
from support.harness import check_quiet
from support.peers import Backend, EchoBackend, wait_until, wait_until_still

SECONDS = 0.6  # of silence, until a connection is closed
ENVIRONMENT = {"RSP_IDLE_SECONDS": str(SECONDS)}


class TickingBackend(Backend):
    """Says something every 0.2 s, eight times, whatever the client does."""

    def serve(self, connection):
        """Tick."""
        for _ in range(8):
            time.sleep(0.2)
            self.send(connection, b"tick")


def expect_end(client):
    """Wait until a client's connection is ended."""
    try:
        assert not client.socket.recv(1), "there is nobody who could have sent something"
    except TimeoutError:
        raise AssertionError("no end after 2 s. Hint: what if a client never has an event at all?") from None


def silent_client(work):
    """With RSP_IDLE_SECONDS=0.6 a pair on which nothing is said is closed after 0.6 seconds, or soon after."""
    work.sent(f"RSP_IDLE_SECONDS={SECONDS}; two connections, and nothing more")
    with EchoBackend() as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        before = wait_until_still(proxy.open_files, still=0.2)
        start = time.monotonic()
        with proxy.connect(timeout=2) as client, proxy.connect(timeout=2) as second:
            expect_end(client)
            seconds = time.monotonic() - start
            expect_end(second)
        wait_until(lambda: proxy.open_files() == before, "the backend's sockets are closed as well")
        proxy.check_unharmed()
    work.came_back(f"the end, after {seconds:.2f} s")
    assert seconds > SECONDS - 0.05, "that was too early. Hint: count from the last event, not from the start"
    assert seconds < SECONDS + 0.5, "that was late. Hint: how long may poll wait at most?"


def talking_client(work):
    """A client that says something every 0.2 seconds stays, and so does one that only listens to such a backend."""
    work.sent(f"RSP_IDLE_SECONDS={SECONDS}; a word every 0.2 s, eight times: from the client, then from the backend")
    with EchoBackend() as backend, work.start(backend, environment=ENVIRONMENT).connect() as client:
        for _ in range(8):
            client.send(b"still here")
            client.receive_exactly(10)
            time.sleep(0.2)
    with TickingBackend() as backend, work.start(backend, environment=ENVIRONMENT).connect() as client:
        heard = client.receive_all()
    work.came_back(f"each word was answered; then {len(heard) // 4} of the backend's 8 words")
    assert heard == 8 * b"tick", "not all of them. Hint: what the backend says is activity too"


def sixty_seconds(work):
    """Without the setting it is 60 seconds, and meanwhile the proxy uses no processor time."""
    work.sent("a connection, and nothing for 1 s")
    with EchoBackend() as backend:
        proxy = work.start(backend)
        with proxy.connect() as client:
            check_quiet(proxy, seconds=1, most=0.1)
            client.send(b"still here")
            client.receive_exactly(10)
    work.came_back("next to no processor time, and then an answer")


TASKS = [silent_client, talking_client, sixty_seconds, life_goes_on(wait=SECONDS + 0.4, environment=ENVIRONMENT)]
