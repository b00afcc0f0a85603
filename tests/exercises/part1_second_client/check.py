"""Predict what the second client of part 1 sees while the first one says nothing."""

import socket
import time

from support.peers import HOST, Client, HttpBackend, wait_until

SILENCE = 1.0  # seconds that the first client says nothing
TRIES = 5  # further clients
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def can_connect(port):
    """Return a socket that is connected within a quarter of a second, or None."""
    sock = socket.socket()
    sock.settimeout(0.25)
    try:
        sock.connect((HOST, port))
        return sock
    except TimeoutError:  # no answer to the SYN, the first word of a connection
        sock.close()


def start_with_a_silent_client(work, backend):
    """Return the proxy and a client that it has accepted, and that says nothing."""
    proxy = work.start(backend)
    silent = proxy.connect()
    # Three descriptors that every program has, the listening socket, the client's, the backend's.
    wait_until(lambda: proxy.open_files() >= 6, "the proxy has accepted the silent client")
    return proxy, silent


def connects(work):
    """Client 1 connects and says nothing. Does client 2's connect succeed meanwhile? "yes" or "no"."""
    answer = work.answer("a")
    with HttpBackend() as backend:
        proxy, silent = start_with_a_silent_client(work, backend)
        second = can_connect(proxy.port)
        really = "yes" if second else "no"
        work.sent("client 1: connect, and nothing more. Client 2: connect")
        work.came_back(f"client 2 is connected: {really}")
        silent.close()
        if second:
            second.close()
    work.compare(answer, really, "who completes a connection, the program or the kernel?")


def waits(work):
    """Client 1 leaves after 1 second of silence. Client 2 has sent its request at once. After how many seconds does
    its answer come?"""
    answer = work.answer("b")
    with HttpBackend() as backend:
        proxy, silent = start_with_a_silent_client(work, backend)
        with Client(proxy.port) as second:
            start = time.monotonic()
            second.send(REQUEST)
            time.sleep(SILENCE)
            silent.close()
            second.receive_all()
            seconds = time.monotonic() - start
    work.sent(f"client 1: nothing for {SILENCE} s, then the end. Client 2: GET /")
    work.came_back(f"client 2 had its answer after {seconds:.2f} s")
    work.compare(answer, seconds, "in which call does the program stand still?", within=0.4)


def queue(work):
    """Client 1 is silent again, and 5 more clients try to connect. How many of the 5 are connected a little later?"""
    answer = work.answer("c")
    with HttpBackend() as backend:
        proxy, silent = start_with_a_silent_client(work, backend)
        connected = [sock for sock in [can_connect(proxy.port) for _ in range(TRIES)] if sock]
        for sock in connected:
            sock.close()
        silent.close()
    work.sent(f"client 1: connect. Then {TRIES} clients: connect, with a time limit")
    work.came_back(f"{len(connected)} of them are connected, the others are still trying")
    work.compare(answer, len(connected), "what is listen told, and which of the clients are in that queue?")


TASKS = [connects, waits, queue]
