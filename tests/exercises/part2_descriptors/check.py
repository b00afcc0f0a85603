"""Predict how many file descriptors part 2 has open."""

import contextlib

from support.peers import EchoBackend, StreamingBackend, wait_until_still


def settled(proxy):
    """Return the number of the proxy's open descriptors when it has stopped changing."""
    return wait_until_still(proxy.open_files, still=0.15)


def compare(work, answer, really, hint):
    """Note what was counted, and compare it with the answer."""
    work.came_back(f"{really} open descriptors")
    work.compare(answer, really, hint)


def no_client(work):
    """The proxy has started, and no client has connected yet. How many descriptors has it open?"""
    answer = work.answer("a")
    work.sent("nothing")
    with EchoBackend() as backend:
        compare(work, answer, settled(work.start(backend)), "three that every program has; what did main open?")


def three_clients(work):
    """Three clients have connected, and say nothing. How many now?"""
    answer = work.answer("b")
    work.sent("three times connect, and nothing more")
    with EchoBackend() as backend, contextlib.ExitStack() as clients:
        proxy = work.start(backend)
        for _ in range(3):
            clients.enter_context(proxy.connect())
        compare(work, answer, settled(proxy), "when does part 2 connect to the backend, and how often?")


def answered(work):
    """A client has sent its request; the backend has answered and closed. The client has not closed. How many now?"""
    answer = work.answer("c")
    work.sent("a request; the backend answers 10 bytes, and closes its connection")
    with StreamingBackend(10) as backend:
        proxy = work.start(backend)
        with proxy.connect() as client:
            client.send(b"10 bytes, please")
            client.receive_exactly(10)
            compare(work, answer, settled(proxy), "what does handle_backend_socket_event do at the end of file?")


TASKS = [no_client, three_clients, answered]
