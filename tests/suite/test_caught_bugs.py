"""Accidents that need two things at the same moment, or bytes waiting inside the proxy: lessons of the bug museum.

Each of these tests catches a bug of exercises/museum/ that no other test is sure to catch. "At the same moment" is done
by stopping the proxy (SIGSTOP) while both things happen. "Inside the proxy" is found by counting: bytes that were sent
and are in none of the kernel's queues must be there.
"""

import contextlib
import socket
import time

import pytest

from support.harness import check_quiet, tcp_queues, with_a_mistake
from support.peers import (
    SMALL_BUFFER,
    EchoBackend,
    Puppet,
    pattern,
    reset_after_delivery,
    set_reset_on_close,
    wait_until,
    wait_until_acknowledged,
)

pytestmark = pytest.mark.behaviour("hard use")

SMALL_SEGMENT = 536  # bytes, the least that every TCP must take
STEP = 60_000  # bytes; far less than a proxy may hold back, so that its buffer gets neither empty nor full
SIP = 15_000  # bytes; what a slow client takes in one go
FIRST_STEP = 300_000  # bytes; the kernel's queues take more
MOST = 10_000_000  # bytes; then give up
SOON = 2  # seconds


def narrow_client(proxy, backend):
    """Return a client with small buffers in the kernel, connected to a Puppet that has received its "hello"."""
    client = proxy.connect(receive_buffer=SMALL_BUFFER, segment=SMALL_SEGMENT)
    client.send(b"hello")
    backend.expect(b"hello")
    return client


def bytes_in_the_kernel(*ports):
    """Return how many bytes wait in sockets of these ports, to be acknowledged or to be read."""
    count = 0
    for local, remote, state, unacknowledged, unread in tcp_queues():
        if state != "0A" and (local in ports or remote in ports):
            count += unacknowledged + unread
    return count


def fill_until_bytes_wait(proxy, backend):
    """Send the pattern until some of it, and not too much, waits inside the proxy; return how much was sent."""
    sent = waiting = 0
    with contextlib.suppress(TimeoutError):  # this proxy keeps nothing inside, and stops the backend at once
        while waiting < STEP / 2 and sent < MOST:
            sent += backend.send_some(pattern(sent, STEP if sent else FIRST_STEP))
            time.sleep(0.05)
            waiting = sent - bytes_in_the_kernel(proxy.port, backend.port)
    return sent


def check_serving(proxy, backend):
    """Raise AssertionError unless the proxy has survived and serves the next client."""
    time.sleep(0.1)  # it may be about to crash
    proxy.check_unharmed()
    before = len(backend.connections)
    with proxy.connect() as client:
        client.send(b"next, please")
        wait_until(lambda: len(backend.connections) > before, "the proxy connects the next client to the backend")
    proxy.check_unharmed()


# --- bytes that wait ---------------------------------------------------------------------------------


def test_new_bytes_stay_behind_those_that_wait(start_proxy):
    """The socket has a little room again, but no event has said so yet: the next bytes must not slip in."""
    with Puppet() as backend:
        proxy = start_proxy(backend)
        with narrow_client(proxy, backend) as client:
            sent = fill_until_bytes_wait(proxy, backend)
            for start in range(0, 10 * SIP, SIP):  # at some point there is enough room for a send, not for an EPOLLOUT
                client.receive_pattern(SIP, start)
                try:
                    sent += backend.send_some(pattern(sent, 1000))
                except TimeoutError:  # this proxy takes no more for now, so nothing can slip in
                    break
                time.sleep(0.01)
            client.receive_pattern(sent - start - SIP, start=start + SIP)
        check_serving(proxy, backend)


@pytest.mark.parametrize("client_has", ["not ended", "ended"])
def test_an_end_of_file_stays_behind_the_bytes_that_wait(start_proxy, client_has):
    """The backend ends while its last bytes wait inside the proxy. They come first, and then the end."""
    with Puppet() as backend:
        proxy = start_proxy(backend)
        with narrow_client(proxy, backend) as client:
            if client_has == "ended":
                client.half_close()
                backend.expect_end()
            sent = fill_until_bytes_wait(proxy, backend)
            backend.connection.shutdown(socket.SHUT_WR)
            time.sleep(0.1)
            client.receive_pattern(sent)
            client.expect_end()
            if client_has == "not ended":
                client.send(b"thanks")
                backend.expect(b"thanks")
        check_serving(proxy, backend)


def test_a_client_may_reset_while_bytes_wait_for_it(start_proxy):
    """One event brings room, a reset and something to read: the write that it calls for fails, and that is the end."""
    with Puppet() as backend:
        proxy = start_proxy(backend)
        with narrow_client(proxy, backend) as client:
            fill_until_bytes_wait(proxy, backend)
            client.reset()
        check_serving(proxy, backend)


def test_both_sides_may_reset_while_bytes_wait(start_proxy):
    """The backend resets, and its last bytes still wait for a client that resets too: the pair is closed once."""
    with Puppet() as backend:
        proxy = start_proxy(backend)
        with narrow_client(proxy, backend) as client:
            fill_until_bytes_wait(proxy, backend)
            with contextlib.suppress(AssertionError):  # where the proxy takes no more for now, the rest is lost
                wait_until_acknowledged(backend.connection, SOON)
            set_reset_on_close(backend.connection)
            backend.connection.close()
            time.sleep(0.1)
            client.reset()
        check_serving(proxy, backend)


# --- at the same moment -------------------------------------------------------------------------------


def test_the_last_bytes_and_the_end_of_file_may_come_together(start_proxy):
    """One event tells of both: first the bytes are read, then the end, and both are passed on."""
    with Puppet() as backend:
        proxy = start_proxy(backend)
        with narrow_client(proxy, backend) as client:
            with proxy.stopped():
                client.send(b"goodbye")
                client.half_close()
            backend.expect(b"goodbye")
            backend.expect_end()


def test_a_client_may_reset_before_it_is_accepted(start_proxy):
    """It has gone, and the same round brings the news that its backend has answered."""
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        for _ in range(3):
            with proxy.stopped(), proxy.connect() as client:
                client.reset()
        check_serving(proxy, backend)


def test_both_sides_may_reset_at_the_same_moment(start_proxy):
    """One round brings both resets: the first one ends the pair, and nobody is left for the second."""
    with Puppet() as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(b"hello")
            backend.expect(b"hello")
            wait_until(lambda: not bytes_in_the_kernel(proxy.port, backend.port), "the kernel has nothing to pass on")
            with proxy.stopped():
                set_reset_on_close(backend.connection)
                backend.connection.close()
                client.reset()
        check_serving(proxy, backend)


def test_a_client_gets_its_answer_when_another_leaves_at_that_moment(start_proxy):
    """The new client's socket may get the number that the old one had; what is meant for one is not for the other."""
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        for _ in range(3):
            with proxy.connect() as leaving:
                leaving.send(b"hello")
                leaving.receive_exactly(5)
                with proxy.stopped():
                    leaving.reset()
                    coming = proxy.connect()
                    coming.send(b"here I am")
            with coming:
                assert coming.receive_exactly(9) == b"here I am"


def test_a_half_closed_client_may_reset_while_its_answer_comes(start_proxy):
    """After an end of file, a reset makes the next send fail with EPIPE, not with ECONNRESET."""
    with Puppet() as backend:
        proxy = start_proxy(backend)
        with narrow_client(proxy, backend) as client:
            client.half_close()
            backend.expect_end()
            with proxy.stopped():
                backend.connection.sendall(b"the answer")
                wait_until_acknowledged(backend.connection)
                client.reset()
        check_serving(proxy, backend)


def test_a_client_may_reset_while_a_reset_waits_for_it(start_proxy):
    """The backend has gone, then the client, which read nothing; nothing is left to be closed later."""
    with Puppet() as backend:
        proxy = start_proxy(backend)
        with narrow_client(proxy, backend) as client:
            client.half_close()
            backend.expect_end()
            backend.connection.sendall(pattern(0, 100_000))
            reset_after_delivery(backend.connection)
            time.sleep(0.3)
            client.reset()
        time.sleep(0.7)
        check_serving(proxy, backend)


# --- descriptors -------------------------------------------------------------------------------------


def test_waiting_clients_are_served_as_soon_as_there_are_descriptors(start_proxy):
    """The proxy needs no further client to remind it of those that it could not accept."""
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        proxy.limit_open_files(proxy.open_files() + 10)
        clients = [proxy.connect() for _ in range(20)]
        for client in clients:
            client.send(b"hello")
        time.sleep(0.3)  # let the proxy take as many as it can
        for client in clients[:10]:
            client.reset()
        for client in clients[10:]:
            assert client.receive_exactly(5) == b"hello"
            client.reset()
        proxy.check_unharmed()


# --- a mistake in the program itself ------------------------------------------------------------------

IN_A_WRITE = """
import connection
sound = connection.Connection.write
def write(self, data):
    return sound(self, data) if b"trouble" not in bytes(data) else 1 / 0
connection.Connection.write = write
"""
IN_ACCEPT = """
import server_socket
sound, calls = server_socket.make_socket_non_blocking, []
def make_socket_non_blocking(sock):
    calls.append(sock)
    return sound(sock) if len(calls) != 3 else 1 / 0
server_socket.make_socket_non_blocking = make_socket_non_blocking
"""
IN_A_TIMER = """
import epollinterface
sound = epollinterface.epoll_init
def trouble():
    epollinterface.call_later(0.05, trouble)
    return 1 / 0
def epoll_init():
    sound()
    epollinterface.call_later(0.05, trouble)
epollinterface.epoll_init = epoll_init
"""


@pytest.fixture
def start_with(command, start_proxy):
    """A function that starts a part with a mistake in it, in front of a backend; not asked of anybody's own proxy."""
    if command.forgiving or not command.takes_config:
        pytest.skip("only where we know what is inside")

    def start(mistake, backend):
        command.words = with_a_mistake(command.words, mistake)
        return start_proxy(backend)

    return start


def check_one_log_line(proxy):
    """Raise AssertionError unless the log says once what went wrong, and where."""
    lines = proxy.errors().splitlines()
    assert len(lines) == 1 and "ZeroDivisionError" in lines[0] and "line" in lines[0], proxy.errors()


def test_a_mistake_costs_one_pair_and_one_log_line(start_with):
    """A handler raises what no one expects. Its client is reset, so that it can tell; all the others are served."""
    with EchoBackend() as backend:
        proxy = start_with(IN_A_WRITE, backend)
        with proxy.connect() as other:
            other.send(b"hello")
            assert other.receive_exactly(5) == b"hello"
            before = proxy.open_files()
            for number in range(1, 4):
                with proxy.connect() as client:
                    client.send(b"trouble")
                    client.expect_reset()
                wait_until(lambda number=number: backend.resets >= number, "the backend's side is reset as well")
            wait_until(lambda: proxy.open_files() <= before, "the descriptors of the pairs are free")
            other.send(b"still here")
            assert other.receive_exactly(10) == b"still here"
        check_one_log_line(proxy)


def test_a_mistake_while_accepting_costs_one_client(start_with):
    """The listening socket goes on; those in the queue after the unlucky one are served without another reminder."""
    with EchoBackend() as backend:
        proxy = start_with(IN_ACCEPT, backend)
        with proxy.stopped():
            clients = [proxy.connect() for _ in range(5)]
            for client in clients:
                client.send(b"hello")
        answers = []
        for client in clients:
            with client, contextlib.suppress(AssertionError):
                answers.append(client.receive_exactly(5))
        assert answers == [b"hello"] * 4, f"{len(answers)} of 5 clients were served, not 4"
        check_one_log_line(proxy)


def test_a_mistake_in_a_timer_costs_that_timer(start_with):
    """Over and over again: the loop goes on, and the log has one line."""
    with EchoBackend() as backend:
        proxy = start_with(IN_A_TIMER, backend)
        time.sleep(0.5)
        with proxy.connect() as client:
            client.send(b"hello")
            assert client.receive_exactly(5) == b"hello"
        check_one_log_line(proxy)
        check_quiet(proxy)
