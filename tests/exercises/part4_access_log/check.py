"""Checks the access log of part 4."""

import re
import time

from ordinary import life_goes_on
from support.peers import EchoBackend, HttpBackend, connect_and_be_reset, free_port, pattern, wait_until

LINE = re.compile(r"127\.0\.0\.1 port (\d+): (\d+) bytes up, (\d+) down, (\d+\.\d+) s$", re.MULTILINE)
LOOK = "Hint: 127.0.0.1 port 50000: 12 bytes up, 345 down, 0.07 s"


def entries(work, proxy, count):
    """Wait for `count` lines of the access log; return their numbers: port, up, down, seconds."""
    what = f"{count} lines that look as they should. {LOOK}"
    try:
        wait_until(lambda: len(LINE.findall(proxy.errors())) >= count, what, 2)
    finally:
        work.came_back(f"the log: {proxy.errors()}")
    time.sleep(0.1)
    proxy.check_unharmed()
    found = [tuple(map(float, entry)) for entry in LINE.findall(proxy.errors())]
    assert len(found) == count, f"{len(found)} lines for {count} pairs. Hint: which side logs, and when?"
    return found


def ends_well(work):
    """A pair that ends well leaves one line, with the right numbers."""
    work.sent("a request of 35 bytes that takes 0.3 s")
    with HttpBackend() as backend:
        proxy = work.start(backend)
        start = time.monotonic()
        with proxy.connect() as client:
            port = client.socket.getsockname()[1]
            client.send(b"GET /slow?seconds=0.3 HTTP/1.0\r\n\r\n\n")
            down = len(client.receive_all())
        [(logged_port, up, logged_down, seconds)] = entries(work, proxy, 1)
        longest = time.monotonic() - start
    assert logged_port == port, f"the client's port was {port}. Hint: which side's address is it?"
    assert (up, logged_down) == (35, down), f"35 bytes went up and {down} down. Hint: count what recv_into returns"
    assert 0.25 < seconds < longest + 0.1, f"{seconds} s is not how long it took. Hint: time.monotonic() at the start"


def ends_badly(work):
    """So does one in which a client vanishes, and one whose backend is down: 0 bytes down."""
    work.sent("a download that is cut short; then a request, while nothing listens on the backend's port")
    with HttpBackend() as backend:
        proxy = work.start(backend)
        with proxy.connect() as client:
            client.send(b"GET /bytes?count=50000000 HTTP/1.0\r\n\r\n")
            client.receive_exactly(100_000)
            client.reset()
        [(_, up, down, _)] = entries(work, proxy, 1)
        assert up == 38 and 100_000 <= down < 50_000_000, f"{up:.0f} up, {down:.0f} down? Hint: 38 bytes went up"
    proxy = work.start(free_port())
    connect_and_be_reset(proxy.port)
    [(_, up, down, _)] = entries(work, proxy, 1)
    assert down == 0, f"{down:.0f} bytes down, without a backend. Hint: each side counts what it reads"


def ten_at_once(work):
    """Ten clients at once leave ten lines, each with its own numbers."""
    work.sent("ten clients at once; number n sends 1000 n bytes, and gets them back")
    with EchoBackend() as backend:
        proxy = work.start(backend)
        clients = [proxy.connect() for _ in range(10)]
        for number, client in enumerate(clients):
            client.send(pattern(0, 1000 * (number + 1)))
        for number, client in enumerate(clients):
            client.receive_pattern(1000 * (number + 1))
            client.close()
        found = entries(work, proxy, 10)
    counts = sorted((up, down) for _, up, down, _ in found)
    wanted = [(1000 * number, 1000 * number) for number in range(1, 11)]
    assert counts == wanted, f"bytes up and down: {counts}. Hint: what is counted belongs to one connection"


TASKS = [ends_well, ends_badly, ten_at_once, life_goes_on()]
