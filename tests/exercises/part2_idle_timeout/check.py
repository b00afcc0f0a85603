"""Checks that part 2 closes connections on which nothing has been said for some time."""

import contextlib
import pathlib
import sys
import threading
import time

from ordinary import life_goes_on
from support.harness import ARGUMENTS, Command, check_quiet
from support.peers import Backend, EchoBackend, wait_until, wait_until_still
from work import TooBusy, TooLate

SECONDS = 1  # of silence, until a connection is closed
ENVIRONMENT = {"RSP_IDLE_SECONDS": str(SECONDS)}
LIMIT = 4  # seconds that a client waits for the end
PAUSE = 0.2  # seconds between two words
USUAL_SECONDS = 60  # without the setting
TIMES = 25  # as fast goes the clock with which that is tried
FAST_CLOCK = pathlib.Path(__file__).parents[1] / "fast_clock.py"


class TickingBackend(Backend):
    """Says something every 0.2 s, eight times, whatever the client does."""

    def serve(self, connection):
        """Tick."""
        self.words = []  # when each is said
        for _ in range(8):
            time.sleep(PAUSE)
            self.words.append(time.monotonic())
            self.send(connection, b"tick")


def complain(words, complaint):
    """Raise AssertionError for a connection that was closed, or TooBusy when the words themselves came late."""
    pauses = [later - word for word, later in zip(words, words[1:], strict=False)]
    raise (TooBusy if max(pauses, default=0) > 2 * PAUSE else AssertionError)(complaint)


@contextlib.contextmanager
def talking(client):
    """Have a client say something every 0.2 s meanwhile."""
    over = threading.Event()

    def talk():
        with contextlib.suppress(AssertionError, OSError):  # it is not the one that is judged
            while not over.wait(PAUSE):
                client.send(b"word")

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def expect_end(client, words, hint):
    """Wait until a client's connection is ended."""
    try:
        assert not client.socket.recv(1), "some byte came, and none was sent"
    except TimeoutError:
        raise AssertionError(f"no end after {LIMIT} s{words}. Hint: {hint}") from None


def seconds_until_the_end(proxy, count, words="", hint="what if a client never has an event at all?"):
    """Have some silent clients connect; return after how many seconds the first one and its backend are closed."""
    before = wait_until_still(proxy.open_files, still=0.2)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect(timeout=LIMIT)) for _ in range(count)]
        expect_end(clients[0], words, hint)
        seconds = time.monotonic() - start
        for client in clients[1:]:
            expect_end(client, words, hint)
        try:
            wait_until(lambda: proxy.open_files() <= before, "the backends' sockets are closed")
        except AssertionError:
            proxy.check_unharmed()
            fact = f"the client was closed after {seconds:.0f} s, the backend's connection is still open"
            raise AssertionError(f"{fact}. Hint: close both sides of the pair") from None
    proxy.check_unharmed()
    return seconds


def silent_client(work):
    """With RSP_IDLE_SECONDS=1 a pair on which nothing is said is closed after 1 second, or soon after, whatever
    others say."""
    work.sent(f"RSP_IDLE_SECONDS={SECONDS}; two silent connections; then one, and a neighbour who talks all the time")
    with EchoBackend() as backend:
        proxy = work.start(backend, environment=ENVIRONMENT)
        alone = seconds_until_the_end(proxy, 2)
        with proxy.connect() as neighbour, talking(neighbour):
            hint = "time has to be looked at after each event too, not only when `poll` returns nothing"
            beside = seconds_until_the_end(proxy, 1, " while a neighbour talks", hint)
    work.came_back(f"the end, after {alone:.2f} s, and after {beside:.2f} s")
    for seconds in alone, beside:
        assert seconds > SECONDS - 0.05, "that was too early. Hint: count from the last event, not from the start"
        if seconds > SECONDS + 0.5:
            raise TooLate("that was late. Hint: how long may poll wait at most?")


def talking_client(work):
    """A client that says something every 0.2 seconds stays, and so does one that only listens to such a backend."""
    work.sent(f"RSP_IDLE_SECONDS={SECONDS}; a word every 0.2 s, eight times: from the client, then from the backend")
    with EchoBackend() as backend, work.start(backend, environment=ENVIRONMENT).connect() as client:
        words = []
        try:
            for _ in range(8):
                words.append(time.monotonic())
                client.send(b"still here")
                client.receive_exactly(10)
                time.sleep(PAUSE)
        except AssertionError:
            complain(words, f"closed after {len(words) - 1} words. Hint: what the client says is activity")
    with TickingBackend() as backend, work.start(backend, environment=ENVIRONMENT).connect() as client:
        heard = client.receive_all()
        work.came_back(f"each word was answered; then {len(heard) // 4} of the backend's 8 words")
        if heard != 8 * b"tick":
            complain(backend.words, "not all of them. Hint: what the backend says is activity too")


def sixty_seconds(work):
    """Without the setting it is 60 seconds, and meanwhile the proxy uses next to no processor time."""
    work.sent(f"a connection, and then nothing; the proxy's clock goes {TIMES} times as fast")
    words = [sys.executable, str(FAST_CLOCK), str(TIMES), str(work.directory / "rsp.py"), *ARGUMENTS]
    with EchoBackend() as backend:
        proxy = work.start_command(Command(words), backend)
        start = time.monotonic()
        with proxy.connect(timeout=3 * USUAL_SECONDS / TIMES) as client:
            check_quiet(proxy, seconds=1, most=0.1)
            try:
                client.expect_end()
            except AssertionError:
                raise AssertionError(
                    f"no end after {3 * USUAL_SECONDS} s. Hint: what if RSP_IDLE_SECONDS is not set?"
                ) from None
            seconds = (time.monotonic() - start) * TIMES
        proxy.check_unharmed()
    work.came_back(f"next to no processor time, and the end after {seconds:.0f} s of the proxy's clock")
    assert seconds > USUAL_SECONDS - 2, "that was too early. Hint: what if RSP_IDLE_SECONDS is not set?"
    if seconds > 1.5 * USUAL_SECONDS:
        raise TooLate("that was late. Hint: what if RSP_IDLE_SECONDS is not set?")


TASKS = [silent_client, talking_client, sixty_seconds, life_goes_on(wait=SECONDS + 0.4, environment=ENVIRONMENT)]
