"""Checks the speed limit for each client of part 4."""

import threading
import time

from ordinary import life_goes_on
from support.harness import check_quiet
from support.peers import LONG_PATIENCE, CollectingBackend, HttpBackend, StreamingBackend, pattern, wait_until

LIMIT = 1_000_000  # bytes a second
COUNT = 2_000_000  # bytes
ENVIRONMENT = {"RSP_BYTES_PER_SECOND": str(LIMIT)}


def seconds_for(proxy, count):
    """Download `count` bytes, check each, and return how long that took."""
    with proxy.connect(timeout=LONG_PATIENCE) as client:
        start = time.monotonic()
        client.send(b"as fast as you can, please")
        client.receive_pattern(count)
        client.expect_end()
        return time.monotonic() - start


def one_client(work):
    """With a limit of 1,000,000, a client needs 1.5 to 3 seconds for 2 MB, and gets every byte."""
    work.sent(f"RSP_BYTES_PER_SECOND={LIMIT}; a request for 2 MB")
    with StreamingBackend(COUNT) as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        seconds = seconds_for(proxy, COUNT)
        proxy.check_unharmed()
    work.came_back(f"all of it, after {seconds:.2f} s")
    assert seconds > 1.5, "that was too fast. Hint: after a read, wait for count / limit seconds"
    assert seconds < 3, "that was too slow. Hint: how much is read at a time, and who begins the next read?"


def several_clients(work):
    """Two clients at once need no longer than one, and a small answer comes at once meanwhile."""
    work.sent(f"RSP_BYTES_PER_SECOND={LIMIT}; two requests for 2 MB, and five small ones")
    with HttpBackend() as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        seconds = []

        def download():
            start = time.monotonic()
            try:
                if len(proxy.get(f"/bytes?count={COUNT}", timeout=LONG_PATIENCE).content) == COUNT:
                    seconds.append(time.monotonic() - start)
            except AssertionError:
                pass  # it is missing in the list

        threads = [threading.Thread(target=download) for _ in range(2)]
        for thread in threads:
            thread.start()
        start = time.monotonic()
        for _ in range(5):
            assert proxy.get("/").status_code == 200
        small = (time.monotonic() - start) / 5
        for thread in threads:
            thread.join()
        proxy.check_unharmed()
    work.came_back(f"the big ones took {', '.join(f'{s:.2f} s' for s in seconds)}; a small one {small:.3f} s")
    assert len(seconds) == 2, "not both came whole. Hint: does somebody read again when the timer has gone off?"
    assert all(1.5 < s < 3.3 for s in seconds), "Hint: the limit is for each client, not for all of them"
    assert small < 0.3, "the small ones had to wait. Hint: never sleep in the loop"


def costs(work):
    """Meanwhile the proxy sleeps, and its memory does not grow."""
    work.sent(f"RSP_BYTES_PER_SECOND={LIMIT}; a request for 100 MB, of which 2 s are enough")
    with StreamingBackend(100_000_000) as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        with proxy.connect() as client:
            before = proxy.memory()
            client.send(b"as fast as you can, please")
            taker = threading.Thread(target=client.receive_pattern, args=(COUNT,), daemon=True)
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
    work.sent("no limit: a request for 20 MB. With the limit: an upload of 20 MB")
    with StreamingBackend(10 * COUNT) as backend:
        down = seconds_for(work.start(backend), 10 * COUNT)
    with CollectingBackend(10 * COUNT) as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        with proxy.connect(timeout=LONG_PATIENCE) as client:
            start = time.monotonic()
            client.send(pattern(0, 10 * COUNT))
            client.receive_all()
            up = time.monotonic() - start
        assert backend.complaint is None, backend.complaint
    work.came_back(f"{down:.2f} s down, {up:.2f} s up")
    assert down < 2, "without a limit it is slow. Hint: what if the environment says nothing?"
    assert up < 2, "the upload was limited too. Hint: which of the pair's two sides is read?"


TASKS = [one_client, several_clients, costs, no_limit, life_goes_on(environment=ENVIRONMENT)]
