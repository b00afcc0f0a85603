"""Checks that silent clients keep an honest one from part 4."""

import contextlib

from support.peers import Client, HttpBackend, SilentBackend, wait_until

DESCRIPTORS = 60  # that the proxy may have
PAUSE = 1  # seconds without an answer that count as none


@contextlib.contextmanager
def attacked(work, backend):
    """Yield a proxy with few descriptors, and the student's attack, when it has done what it can."""
    proxy = work.start(backend)
    proxy.limit_open_files(DESCRIPTORS)
    before = proxy.open_files()
    attack = work.start_attack(proxy.port)
    wait_until(lambda: proxy.open_files() > before or not attack.is_alive(), "attack.py has connected")
    full = DESCRIPTORS - 1
    try:
        wait_until(lambda: proxy.open_files() >= full or not attack.is_alive(), "all descriptors are in use", 2)
    except AssertionError:
        complaint = f"the proxy still had descriptors. Hint: it has {DESCRIPTORS}, and a client costs it two"
        raise AssertionError(complaint) from None
    yield proxy, attack


def no_answer(work):
    """While the attack runs, an honest client is connected, and gets no answer."""
    work.sent("python attack.py PORT, then GET / from another client")
    with HttpBackend() as backend, attacked(work, backend) as (proxy, attack):
        with Client(proxy.port, timeout=PAUSE) as honest:
            honest.send(b"GET / HTTP/1.0\r\n\r\n")
            try:
                answer = honest.receive()
            except AssertionError:
                answer = None
        work.came_back(f"{answer!r}" if answer else f"nothing for {PAUSE} s")
        assert attack.is_alive(), "attack.py has ended already. Hint: hold the sockets for about 3 s"
    assert not answer, f"the proxy still had descriptors. Hint: it has {DESCRIPTORS}, and a client costs it two"


def cheap(work):
    """The attack sends nothing, and makes at most 40 connections."""
    work.sent("python attack.py PORT")
    with SilentBackend() as backend, attacked(work, backend) as (_, attack):
        attack.wait()
        work.came_back(f"{len(backend.connections)} connections, {backend.received} bytes")
        assert not backend.received, "it has sent something. Hint: connecting is enough"
        assert 20 <= len(backend.connections) <= 40, "Hint: at most 40, and enough to use up all descriptors"


def afterwards(work):
    """When the attack has ended, the honest client has its answer."""
    work.sent("python attack.py PORT, GET / from another client, and then the attack ends")
    with HttpBackend() as backend, attacked(work, backend) as (proxy, attack):
        with Client(proxy.port, timeout=10) as honest:
            honest.send(b"GET / HTTP/1.0\r\n\r\n")
            attack.wait()
            answer = honest.receive_all()
        proxy.check_unharmed()
    work.came_back(f"{answer[-24:]!r}")
    assert answer.endswith(b"Hello from the backend.\n"), "that is no answer. Hint: let the attack exit on its own"


TASKS = [no_answer, cheap, afterwards]
