"""Checks the speed limit for each client of part 4."""

import contextlib
import threading
import time

from ordinary import life_goes_on
from support.harness import check_quiet
from support.peers import (
    LONG_PATIENCE,
    Backend,
    CollectingBackend,
    StreamingBackend,
    check_pattern,
    pattern,
    pattern_chunks,
    wait_until,
)
from work import TooLate

LIMIT = 1_000_000  # bytes a second
COUNT = 3_000_000  # bytes
AHEAD = 500_000  # bytes that a client may have too early, for a moment
FREE = 20_000_000  # bytes of a download that is not limited
FREE_UP = 6_000_000  # bytes of an upload
SLOWEST = 5.5  # seconds for COUNT bytes
ENVIRONMENT = {"RSP_BYTES_PER_SECOND": str(LIMIT)}


class AskedBackend(Backend):
    """Sends as many bytes of the pattern as it is asked for, and closes."""

    def serve(self, connection):
        """Serve one client."""
        for data in pattern_chunks(int(self.receive(connection))):
            self.send(connection, data)


class Download(threading.Thread):
    """A client that takes `count` bytes as fast as they come, and notes how they came."""

    def __init__(self, proxy, count):
        """Begin at once."""
        super().__init__(daemon=True)
        self.proxy = proxy
        self.count = count
        self.ahead = 0  # bytes, at most, that it had before the limit allows them
        self.seconds = None  # until the last byte
        self.complaint = None
        self.start()

    def run(self):
        """Ask, and take it all; check each byte."""
        try:
            with self.proxy.connect(timeout=SLOWEST) as client:
                start = time.monotonic()
                client.send(b"%d" % self.count)
                self.receive(client, start)
                self.seconds = time.monotonic() - start
                self.expect_end(client)
        except AssertionError as error:
            self.complaint = str(error)

    def receive(self, client, start):
        """Receive the bytes, and see after each piece how many should have come by now."""
        while client.received < self.count:
            position = client.received
            try:
                data = client.receive()
            except AssertionError:
                hint = "who reads on when a timer has gone off, and when no event comes any more?"
                raise AssertionError(
                    f"nothing more came after {position:,} of {self.count:,} bytes. Hint: {hint}"
                ) from None
            assert data, f"the end came after {position:,} of {self.count:,} bytes. Hint: a pause is not an end"
            check_pattern(data, position)
            self.ahead = max(self.ahead, client.received - LIMIT * (time.monotonic() - start))

    def expect_end(self, client):
        """Receive the end of file."""
        try:
            client.expect_end()
        except AssertionError:
            hint = "the end has to be read, too: does something read on after the last bytes?"
            raise AssertionError(f"every byte came, and then no end. Hint: {hint}") from None

    def check(self, too_slow):
        """Raise AssertionError if bytes or the end are missing, or came too early or too late."""
        self.join()
        assert self.complaint is None, self.complaint
        assert self.ahead < AHEAD, (
            f"too fast: {self.count:,} bytes in {self.seconds:.2f} s, up to {self.ahead:,.0f} ahead of the limit. "
            "Hint: after a read of `count` bytes, wait for count / limit seconds"
        )
        if self.seconds > SLOWEST:
            raise TooLate(f"too slow: {self.count:,} bytes in {self.seconds:.2f} s. Hint: {too_slow}")


def seconds_for(proxy, count):
    """Download `count` bytes, as fast as they come; return how many seconds that took."""
    download = Download(proxy, count)
    download.join()
    assert download.complaint is None, download.complaint
    return download.seconds


def seconds_for_one(proxy):
    """Return how many seconds a client needs that asks for one byte, whether it gets that or not."""
    start = time.monotonic()
    Download(proxy, 1).join()
    return time.monotonic() - start


def one_client(work):
    """With a limit of 1,000,000 a client gets 3 MB in about 3 seconds, every byte, and is never more than half a
    megabyte ahead of the limit."""
    work.sent(f"RSP_BYTES_PER_SECOND={LIMIT}; a request for 3 MB")
    with AskedBackend() as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        download = Download(proxy, COUNT)
        download.check("how much is read at a time, and who begins the next read?")
        proxy.check_unharmed()
    work.came_back(f"all of it, after {download.seconds:.2f} s")


def several_clients(work):
    """Two clients at once need no longer than one, and a small answer comes at once meanwhile."""
    work.sent(f"RSP_BYTES_PER_SECOND={LIMIT}; two requests for 3 MB, and five small ones")
    with AskedBackend() as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        downloads = [Download(proxy, COUNT) for _ in range(2)]
        small = sorted(seconds_for_one(proxy) for _ in range(5))[2]
        if small > 0.3:
            raise TooLate(
                f"a small one took {small:.2f} s. Hint: does the loop sleep, or do all clients share one limit?"
            )
        for download in downloads:
            download.check("does the loop sleep, or do all clients share one limit?")
        proxy.check_unharmed()
    took = ", ".join(f"{download.seconds:.2f} s" for download in downloads)
    work.came_back(f"the big ones took {took}; a small one {small:.3f} s")


def take(client):
    """Receive what comes in two seconds; what goes wrong shows elsewhere."""
    with contextlib.suppress(AssertionError):
        client.receive_pattern(2 * LIMIT)


def costs(work):
    """Meanwhile the proxy sleeps, and its memory does not grow."""
    work.sent(f"RSP_BYTES_PER_SECOND={LIMIT}; a request for 100 MB, and 2 s of it are enough")
    with StreamingBackend(100_000_000) as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        with proxy.connect() as client:
            before = proxy.memory()
            client.send(b"as fast as you can, please")
            taker = threading.Thread(target=take, args=(client,), daemon=True)
            taker.start()
            wait_until(lambda: client.received > 0, "the answer begins")
            check_quiet(proxy, seconds=1.5, most=0.15)
            taker.join(LONG_PATIENCE)
            growth = (proxy.memory() - before) / 1e6
            work.came_back(f"{growth:.1f} MB more than before")
            assert growth < 8, f"{growth:.0f} MB have piled up. Hint: don't read what may not be sent yet"
        proxy.check_unharmed()


def no_limit(work):
    """Without the setting, 20 MB take less than 2 seconds; uploads are never limited."""
    work.sent("no limit: a request for 20 MB. With the limit: an upload of 6 MB")
    with AskedBackend() as backend:
        down = seconds_for(work.start(backend), FREE)
    with CollectingBackend(FREE_UP) as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        with proxy.connect(timeout=LONG_PATIENCE) as client:
            start = time.monotonic()
            client.send(pattern(0, FREE_UP))
            client.receive_all()
            up = time.monotonic() - start
        assert backend.complaint is None, backend.complaint
    work.came_back(f"{down:.2f} s down, {up:.2f} s up")
    if down > 2:
        raise TooLate("without a limit it is slow. Hint: what if the environment says nothing?")
    if up > 2:
        raise TooLate("the upload was limited too. Hint: which of the pair's two sides is read?")


TASKS = [one_client, several_clients, costs, no_limit, life_goes_on(environment=ENVIRONMENT)]
