"""Predict what stalled clients cost part 4."""

import contextlib
import time

from support.peers import LONG_PATIENCE, SMALL_BUFFER, StreamingBackend, wait_until, wait_until_still

MEGABYTE = 1_000_000  # bytes
COUNT = 200 * MEGABYTE  # bytes that each client asks for


@contextlib.contextmanager
def stalled_clients(work, count):
    """Yield a proxy, its clients, which never read, and by how much its memory has grown, in MB."""
    with StreamingBackend(COUNT) as backend, contextlib.ExitStack() as clients:
        proxy = work.start(backend)
        before = proxy.memory()
        options = {"receive_buffer": SMALL_BUFFER, "timeout": LONG_PATIENCE}
        stalled = [clients.enter_context(proxy.connect(**options)) for _ in range(count)]
        for client in stalled:
            client.send(b"200 MB, please")
        wait_until(lambda: len(backend.connections) == count and backend.sent > 0, "the backend sends")
        wait_until_still(lambda: backend.sent)
        work.sent(f"{'a request' if count == 1 else f'{count} requests'} for 200 MB, and nothing is read")
        yield proxy, stalled, (proxy.memory() - before) / MEGABYTE


def compare_memory(work, name, clients, choices, hint):
    """Compare an answer with the choice that is nearest to what was measured."""
    answer = work.answer(name)
    with stalled_clients(work, clients) as (_, _, growth):
        work.came_back(f"{growth:.1f} MB more than before")
    nearest = min(choices, key=lambda choice: abs(choice - growth))
    work.compare(answer, nearest, hint)


def one(work):
    """When everything has come to a standstill, by about how many MB has the proxy's memory grown: 1, 20 or 200?"""
    compare_memory(work, "a", 1, (1, 20, 200), "how much may wait for one side?")


def ten(work):
    """And with ten such clients at once: 5, 20 or 2000?"""
    compare_memory(work, "b", 10, (5, 20, 2000), "ten times what one may have waiting, and no more")


def processor(work):
    """How much of its processor does the proxy use while all of them stall, in percent: 0, 10 or 100?"""
    answer = work.answer("c")
    with stalled_clients(work, 10) as (proxy, _, _):
        before = proxy.cpu_seconds()
        time.sleep(1)
        percent = 100 * (proxy.cpu_seconds() - before)
    work.came_back(f"{percent:.0f} % of a processor, for a second")
    nearest = min((0, 10, 100), key=lambda choice: abs(choice - percent))
    work.compare(answer, nearest, "which event would wake it up?")


def goes_on(work):
    """One of the ten begins to read. Does it get all of its 200 MB, "yes" or "no"?"""
    answer = work.answer("d")
    with stalled_clients(work, 10) as (_, clients, _):
        clients[0].receive_pattern(COUNT)
        clients[0].expect_end()
        work.came_back(f"{clients[0].received:,} bytes, and the end")
    work.compare(answer, "yes", "who has the bytes in the meantime?")


TASKS = [one, ten, processor, goes_on]
