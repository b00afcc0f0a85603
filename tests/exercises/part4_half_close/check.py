"""Predict what happens after a client's half-close."""

import threading
import time

from support.peers import Backend, set_reset_on_close, wait_until, wait_until_still

THINKING = 0.5  # seconds


class ThinkingBackend(Backend):
    """Reads a request to its end, thinks, answers, closes; or, with `reset`, resets instead of answering."""

    def __init__(self, reset=False):
        """Note when things happen."""
        self.reset = reset
        self.request_ended = threading.Event()
        self.times = {}  # a letter of task (a) -> when it happened
        super().__init__()

    def serve(self, connection):
        """Serve one client."""
        while self.receive(connection):
            pass
        self.times["D"] = time.monotonic()
        self.request_ended.set()
        time.sleep(THINKING)
        self.times["C"] = time.monotonic()
        if self.reset:
            set_reset_on_close(connection)
        else:
            self.send(connection, b"the answer")


def ask(client):
    """Send a request, and its end."""
    client.send(b"a question")
    client.half_close()


def order(work):
    """In which order? A: the client sees the end of the answer. B: the client has the answer. C: the backend sends its
    answer. D: the backend sees the end of the request. A text like "ABCD"."""
    answer = work.answer("a")
    with ThinkingBackend() as backend, work.start(backend).connect() as client:
        ask(client)
        client.receive_exactly(10)
        backend.times["B"] = time.monotonic()
        client.expect_end()
        backend.times["A"] = time.monotonic()
    really = "".join(sorted(backend.times, key=backend.times.get))
    first = backend.times[really[0]]
    work.sent("a request, and the end of it")
    work.came_back(", ".join(f"{letter} after {backend.times[letter] - first:.2f} s" for letter in really))
    work.compare(answer, really, "does the end of the request wait for anything?")


def sockets(work):
    """While the backend thinks, how many sockets has the proxy open for this pair?"""
    answer = work.answer("b")
    with ThinkingBackend() as backend:
        proxy = work.start(backend)
        with proxy.connect() as client:
            ask(client)
            assert backend.request_ended.wait(3), "the backend has not seen the end of the request"
            thinking = proxy.open_files()
            client.receive_all()
            wait_until(lambda: proxy.open_files() < thinking, "the proxy has closed the pair")
            really = thinking - wait_until_still(proxy.open_files, still=0.2)
    work.sent("a request, and the end of it")
    work.came_back(f"{really} descriptors fewer when the pair was closed")
    work.compare(answer, really, "who closes a socket here, and when?")


def reset(work):
    """The same again, but the backend resets instead of answering. What does the client see, "end" or "reset"?"""
    answer = work.answer("c")
    with ThinkingBackend(reset=True) as backend, work.start(backend).connect() as client:
        ask(client)
        try:
            really = "end" if not client.socket.recv(100) else "bytes"
        except ConnectionResetError:
            really = "reset"
    work.sent("a request, and the end of it; then the backend resets")
    work.came_back(f"the client saw: {really}")
    work.compare(answer, really, "what would a clean end make of an answer that was cut short?")


TASKS = [order, sockets, reset]
