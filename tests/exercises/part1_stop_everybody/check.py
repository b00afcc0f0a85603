"""Checks a client that stops part 1 for all others, with one connection."""

from support.harness import tcp_sockets
from support.peers import Client, HttpBackend, wait_until

REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def connections_to(port):
    """Return how many connections a server's port has."""
    return sum(local == port and state == "01" for local, _, state, _ in tcp_sockets())


def begin_attack(work, proxy):
    """Return the attack, connected."""
    work.sent(f"attack.py {proxy.port}: one connection. Then, from another client: GET /")
    attack = work.start_attack(proxy.port)
    wait_until(lambda: connections_to(proxy.port) or not attack.is_alive(), "attack.py connects to its port")
    assert attack.is_alive(), f"attack.py has ended: {attack.wait() or 'no output'}. Hint: it has to stay, 30 s say"
    count = connections_to(proxy.port)
    assert count == 1, f"attack.py has {count} connections. Hint: one is enough"
    return attack


def ask(work, proxy):
    """Return what another client gets within a second, or None."""
    with Client(proxy.port, timeout=1) as client:
        client.send(REQUEST)
        try:
            answer = client.receive_all()
        except AssertionError:
            answer = None
    work.came_back("no answer within 1 s" if answer is None else f"an answer of {len(answer)} bytes")
    return answer


def stops_part_1(work):
    """With one connection, attack.py keeps part 1 from answering anybody else."""
    with HttpBackend() as backend:
        proxy = work.start(backend)
        begin_attack(work, proxy)
        answer = ask(work, proxy)
    assert answer is None, "the other client was served. Hint: what does part 1 wait for, and who could never send it?"


def harms_nobody_in_part_2(work):
    """The same client harms no other in part 2."""
    with HttpBackend() as backend:
        proxy = work.start_part(2, backend)
        begin_attack(work, proxy)
        answer = ask(work, proxy)
    assert answer, "no client is served in part 2 either. Hint: keep a connection, don't end the program"


def ends_with_the_attack(work):
    """When attack.py has ended, part 1 serves the next client."""
    with HttpBackend() as backend:
        proxy = work.start(backend)
        begin_attack(work, proxy).stop()
        answer = ask(work, proxy)
    assert answer, "part 1 does not recover. Hint: the attack is over when its process is"


TASKS = [stops_part_1, harms_nobody_in_part_2, ends_with_the_attack]
