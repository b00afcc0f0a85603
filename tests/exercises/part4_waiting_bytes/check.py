"""Checks that part 4 says, on SIGUSR1, what waits in its write buffers."""

import contextlib
import re
import signal

from ordinary import life_goes_on
from support.peers import LONG_PATIENCE, SMALL_BUFFER, StreamingBackend, wait_until, wait_until_still

LINE = re.compile(r"(\d+) bytes wait in (\d+) of (\d+) write buffers?$", re.MULTILINE)
LIMIT = 262144  # bytes that may wait for one side
ENDED = "SIGUSR1 has ended the proxy. Hint: what wakes the loop, and what does SignalHandler do then?"
COUNT = 20_000_000  # bytes of an answer


def ask(work, proxy):
    """Send SIGUSR1; return the three numbers of the line that comes: bytes, buffers with bytes, buffers."""
    before = len(LINE.findall(proxy.errors()))
    proxy.process.send_signal(signal.SIGUSR1)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not proxy.is_alive() or len(LINE.findall(proxy.errors())) > before, "a line on stderr", 2)
    work.came_back(f"on stderr: {proxy.errors()}")
    assert proxy.is_alive(), ENDED
    assert len(LINE.findall(proxy.errors())) > before, "no such line. Hint: 0 bytes wait in 0 of 0 write buffers"
    return tuple(map(int, LINE.findall(proxy.errors())[-1]))


def check_serves(proxy):
    """Raise AssertionError unless the proxy still has a client served."""
    try:
        with proxy.connect() as client:
            client.send(b"20 MB, please")
            client.receive_exactly(1)
    except AssertionError:
        raise AssertionError(ENDED) from None


def no_client(work):
    """No client is connected: 0 bytes wait in 0 of 0 write buffers."""
    work.sent("SIGUSR1, with no client")
    with StreamingBackend(COUNT) as backend:
        proxy = work.start(backend)
        numbers = ask(work, proxy)
        check_serves(proxy)
        proxy.check_unharmed()
    assert numbers == (0, 0, 0), f"the numbers are {numbers}. Hint: the listening socket is no connection"


@contextlib.contextmanager
def three_clients(work):
    """Yield a proxy and a client that stalls in a big answer, while two others say nothing."""
    with StreamingBackend(COUNT) as backend:
        proxy = work.start(backend)
        options = {"receive_buffer": SMALL_BUFFER, "timeout": LONG_PATIENCE}
        with proxy.connect(), proxy.connect(), proxy.connect(**options) as stalled:
            wait_until(lambda: len(backend.connections) == 3, "all three are connected to the backend")
            stalled.send(b"20 MB, please")
            wait_until(lambda: backend.sent > 0, "the backend sends")
            wait_until_still(lambda: backend.sent)
            yield proxy, stalled


def one_stalls(work):
    """Three clients are connected, one of them stalls in a big answer: some bytes wait in 1 of 6, and no more than the
    limit."""
    work.sent("SIGUSR1, with three clients, one of them stalled")
    with three_clients(work) as (proxy, _):
        count, waiting, buffers = ask(work, proxy)
        proxy.check_unharmed()
    assert (waiting, buffers) == (1, 6), f"in {waiting} of {buffers}, not 1 of 6. Hint: each client has a backend"
    assert 0 < count <= LIMIT, f"{count} bytes can't be. Hint: the length of each write_buffer"


def goes_on(work):
    """When the stalled client has read everything, 0 bytes wait again; the signal has cost no client a byte."""
    work.sent("SIGUSR1 while a client stalls, ten times while it reads on, and when it has everything")
    with three_clients(work) as (proxy, stalled):
        ask(work, proxy)
        for tenth in range(10):
            stalled.receive_pattern(COUNT // 10, start=tenth * (COUNT // 10))
            proxy.process.send_signal(signal.SIGUSR1)
        stalled.expect_end()
        wait_until_still(lambda: len(proxy.errors()), still=0.2)
        count, waiting, _ = ask(work, proxy)
        proxy.check_unharmed()
    assert (count, waiting) == (0, 0), f"{count} bytes in {waiting} buffers are left. Hint: count again each time"


TASKS = [no_client, one_stalls, goes_on, life_goes_on()]
