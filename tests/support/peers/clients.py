"""Clients of a proxy, well and badly behaved: plain blocking sockets with a time limit on every call."""

import select
import socket
import threading
import time

from support.peers.pattern import CHUNK, check_pattern, pattern
from support.peers.sockets import HOST, set_reset_on_close
from support.peers.talk import Talk
from support.peers.waiting import PATIENCE

SILENCE = "is another client being served, or did this client's last bytes never reach the backend?"
NO_END = "the answer came, or a part of it, but not the end: who closes the client's socket?"


class Client:
    """A connection to a proxy, or to anything else on this machine that listens."""

    def __init__(self, port, receive_buffer=None, timeout=PATIENCE, segment=None, address=HOST, source=None):
        """Connect; `receive_buffer` (bytes) makes a slow reader, `timeout` (seconds) limits every call.

        A small `segment` (bytes), which is what TCP sends at a time, keeps the kernel's queues small at both ends. The
        `address` may be one of IPv6, and `source` is one of this machine's, to come from.
        """
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.talk = Talk()  # counts what is sent and received
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # if something stalls, it isn't our fault
        if receive_buffer:  # before connect, since it decides the window that TCP offers
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        try:
            if source:
                self.socket.bind((source, 0))
            self.socket.connect((address, port))
        except OSError as error:
            self.socket.close()
            raise AssertionError(f"couldn't connect to port {port}: {error}. Hint: is it still running?") from None

    def __enter__(self):
        """Return the client."""
        return self

    def __exit__(self, *_):
        """Close the connection."""
        self.close()

    @property
    def sent(self):
        """How many bytes it has sent."""
        return self.talk.sent

    @property
    def received(self):
        """How many bytes it has received."""
        return self.talk.received

    def complain(self, what, hint):
        """Raise AssertionError with what happened so far."""
        raise AssertionError(
            f"{what}, after {self.sent:,} bytes sent and {self.received:,} received. Hint: {hint}"
        ) from None

    def send(self, data: bytes):
        """Send all of the data."""
        try:
            self.socket.sendall(data)
        except TimeoutError:
            self.complain(f"{len(data):,} bytes were not taken within {self.socket.gettimeout()} s", "who reads them?")
        except OSError as error:
            self.complain(f"sending failed: {error}", "the connection was closed while the client was still sending")
        self.talk.said(data)

    def receive(self, most: int = CHUNK, silence=SILENCE) -> bytes:
        """Return some bytes, at most `most`; none mean end of file. `silence` is the hint for when nothing comes."""
        try:
            data = self.socket.recv(most)
        except TimeoutError:
            self.complain(f"nothing came back for {self.socket.gettimeout()} s", silence)
        except OSError as error:
            self.complain(f"receiving failed: {error}", "the connection was reset before its end")
        self.talk.heard(data)
        return data

    def receive_exactly(self, count: int) -> bytes:
        """Return exactly `count` bytes."""
        data = bytearray()
        while len(data) < count:
            piece = self.receive(count - len(data))
            if not piece:
                self.complain(f"end of file after {len(data):,} of {count:,} bytes", "it was closed too early")
            data += piece
        return bytes(data)

    def receive_all(self) -> bytes:
        """Return everything up to the end of file."""
        data = bytearray()
        while piece := self.receive(silence=NO_END if data else SILENCE):
            data += piece
        return bytes(data)

    def receive_pattern(self, count: int, start: int = 0):
        """Receive `count` bytes of the test pattern, from byte `start` on, and check each."""
        position = start
        while position < start + count:
            data = self.receive(min(CHUNK, start + count - position))
            if not data:
                self.complain(
                    f"end of file after {position - start:,} of {count:,} bytes",
                    "bytes waiting for a slow reader must not get lost when the other side closes",
                )
            check_pattern(data, position)
            position += len(data)

    def expect_end(self):
        """Receive the end of file, and nothing before it."""
        data = self.receive()
        assert not data, f"expected the end of file, and got {data[:40]!r}"

    def expect_reset(self):
        """Receive a reset, and nothing before it."""
        try:
            data = self.socket.recv(CHUNK)
        except ConnectionResetError:
            return
        except TimeoutError:
            self.complain("waited for a reset, and nothing came", "pass on that the other side has gone")
        self.complain(
            f"expected a reset, and got {'an end of file' if not data else repr(data[:40])}",
            "a clean end looks like a complete answer; SO_LINGER with 0 seconds makes close send a reset",
        )

    def half_close(self):
        """Say that there is nothing more to send, and keep reading."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.complain(f"half-closing failed: {error}", "the connection was closed while the client was sending")

    def reset(self):
        """Vanish: close with a reset, whatever is under way."""
        set_reset_on_close(self.socket)
        self.socket.close()

    def close(self):
        """Close the connection."""
        self.socket.close()


def connect_and_be_reset(port):
    """Connect, and be reset during the connect or soon after; raise AssertionError when something else happens."""
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect((HOST, port))
            data = sock.recv(CHUNK)
        except ConnectionResetError:
            return
        except OSError as error:
            raise AssertionError(f"expected a reset from port {port}, and got: {error}") from None
    raise AssertionError(f"expected a reset from port {port}, and got {data or 'a clean end'!r}. Hint: SO_LINGER")


def connect_and_be_turned_away(port, answer=b""):
    """Connect, ask, and see the connection end in one way or another; raise AssertionError if it doesn't.

    A proxy that reads HTTP says why: the beginning of its answer is to be this.
    """
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect((HOST, port))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = sock.recv(CHUNK)
        except ConnectionRefusedError:
            raise AssertionError(f"no server listens on port {port}. Hint: is the proxy still running?") from None
        except ConnectionError as error:
            data = b"" if not answer else str(error).encode()
        except TimeoutError:
            raise AssertionError(
                f"for {PATIENCE} s neither an answer nor the end. Hint: when the backend can't be reached, "
                "close the client, without trying for long"
            ) from None
    assert answer or not data, f"no client could have sent {data!r}"
    assert data.startswith(answer), f"expected an answer that begins with {answer!r}, and got {data!r}"


def send_byte_by_byte(client, data, pause=0.002):
    """Send each byte on its own, `pause` seconds apart."""
    for i in range(len(data)):
        client.send(data[i : i + 1])
        time.sleep(pause)


def send_pattern_in_background(client, count):
    """Send `count` bytes of the test pattern from a thread; return the thread. Its errors end it silently.

    The client may be closed or reset meanwhile. While a thread waits inside a call, the kernel neither closes the
    socket nor sends the reset: so no wait is longer than 20 ms.
    """

    def run():
        position = 0
        try:
            room = select.poll()
            room.register(client.socket, select.POLLOUT)
            while position < count:
                if room.poll(20):  # milliseconds
                    piece = pattern(position, min(CHUNK, count - position))
                    taken = client.socket.send(piece)
                    position += taken
                    client.talk.said(piece[:taken])
                elif client.socket.fileno() < 0:  # closed
                    return
        except (OSError, ValueError):  # ValueError: it was closed before we began
            pass  # the test sees it at the other end

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
