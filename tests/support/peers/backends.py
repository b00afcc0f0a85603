"""Backends, most of them badly behaved: a listener, and one thread for each connection, which calls serve()."""

import contextlib
import socket
import threading
import time

from support.peers.pattern import CHUNK, check_pattern, pattern_chunks
from support.peers.sockets import HOST, SMALL_BUFFER, free_port, reset_after_delivery, set_reset_on_close
from support.peers.waiting import LONG_PATIENCE, PATIENCE, wait_until


class Backend:
    """A server on its own port; each connection gets a thread, which calls serve(connection)."""

    def __init__(self, port=0, receive_buffer=None, backlog=1024, host=HOST):
        """Listen at once; `receive_buffer` (bytes) makes a slow reader."""
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.listener.bind((host, port or free_port()))
        self.listener.listen(backlog)
        self.port = self.listener.getsockname()[1]
        self.connections = []  # every socket ever accepted
        self.received = 0  # bytes, over all connections
        self.sent = 0  # bytes, over all connections
        self.resets = 0  # connections that ended in a reset
        self.ends = 0  # connections whose peer has sent an end of file
        self.skips_head = False  # each connection begins with a head of HTTP, which is not for us: see harness.Proxy
        self.closing = False
        threading.Thread(target=self.accept_forever, daemon=True).start()

    def __enter__(self):
        """Return the backend."""
        return self

    def __exit__(self, *_):
        """Close the backend and all of its connections."""
        self.close()

    def accept_forever(self):
        """Give every connection a thread."""
        while not self.closing:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                if self.closing:
                    return
                raise  # out of descriptors, say: a test that waits in vain should be told why
            connection.settimeout(LONG_PATIENCE)
            self.connections.append(connection)
            threading.Thread(target=self.serve_and_close, args=(connection,), daemon=True).start()

    def serve_and_close(self, connection):
        """Serve one connection; a client that vanishes is nothing unusual here."""
        try:
            if self.skips_head:
                skip_head(connection)
            self.serve(connection)
        except ConnectionError:
            self.resets += 1
        except OSError:  # out of time, or closed from outside
            pass
        finally:
            connection.close()

    def serve(self, connection):
        """Talk to one client; the subclasses say how."""
        raise NotImplementedError

    def receive(self, connection, most=CHUNK):
        """Return some bytes from a client, and count them."""
        data = connection.recv(most)
        self.received += len(data)
        self.ends += not data
        return data

    def send(self, connection, data):
        """Send data to a client, and count it."""
        connection.sendall(data)
        self.sent += len(data)

    def close(self):
        """Stop listening, and end every connection."""
        self.closing = True
        for sock in (self.listener, *self.connections):
            try:
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept or recv
            except OSError:
                pass
            sock.close()


def skip_head(connection):
    """Read a head of HTTP, and not a byte of what comes after it."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (byte := connection.recv(1)):
        head += byte


class EchoBackend(Backend):
    """Sends back whatever it gets, until the end of file."""

    def serve(self, connection):
        """Send back whatever comes."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := self.receive(connection):
            self.send(connection, data)


class StreamingBackend(Backend):
    """Reads once, whatever the request, then sends `count` bytes of the pattern as fast as it can, and closes.

    With `reset` it closes by a reset, as if interrupted; with `end` as well, by an end of file and then a reset.
    """

    def __init__(self, count, reset=False, end=False, **options):
        """Prepare to send `count` bytes to each client."""
        self.count = count  # bytes
        self.reset = reset
        self.end = end
        self.hold = threading.Event()  # cleared: wait before sending
        self.hold.set()
        self.finished = 0  # connections that have been closed
        super().__init__(**options)

    def serve(self, connection):
        """Stream."""
        self.receive(connection)
        self.hold.wait(LONG_PATIENCE)
        for data in pattern_chunks(self.count):
            self.send(connection, data)
        if self.end:
            connection.shutdown(socket.SHUT_WR)
        if self.reset:
            reset_after_delivery(connection)
        else:
            connection.close()
        self.finished += 1


class CollectingBackend(Backend):
    """Reads the pattern, checks it, and answers with the number of bytes at the end of file or after `count`.

    It begins to read when `go` is set, which it is from the start unless `stalled`. What was wrong is kept
    in `complaint`.
    """

    def __init__(self, count=None, stalled=False, with_head=False, **options):
        """Expect `count` bytes, or, with none given, all up to the end of file; after a request's head or not."""
        self.count = count  # bytes
        self.with_head = with_head
        self.complaint = None  # what the first wrong byte looked like
        self.go = threading.Event()
        self.done = threading.Event()
        if not stalled:
            self.go.set()
        super().__init__(**options)

    def serve(self, connection):
        """Read, check, answer."""
        self.go.wait(LONG_PATIENCE)
        connection.settimeout(PATIENCE)
        position = 0
        head = b""
        try:
            while self.count is None or position < self.count:
                data = self.receive(connection)
                if not data:
                    break
                if self.with_head and b"\r\n\r\n" not in head:
                    head += data
                    data = head.partition(b"\r\n\r\n")[2]
                check_pattern(data, position)
                position += len(data)
            self.send(connection, b"%d bytes" % position)
        except AssertionError as error:
            self.complaint = str(error)
        except TimeoutError:
            self.complaint = (
                f"{position:,} bytes had come, and then nothing for {PATIENCE} s. Hint: what did send return when the "
                "backend's socket was full, and who went on reading the client?"
            )
        finally:
            self.done.set()


class SilentBackend(Backend):
    """Accepts, reads, and never says a word."""

    def serve(self, connection):
        """Read until the end of file."""
        while self.receive(connection):
            pass


class Puppet(Backend):
    """Does nothing on its own: the test sends and receives on its first connection.

    So the connection stays open even after the client's end of file, until the backend is closed.
    """

    def __init__(self):
        """Keep each connection open until the end."""
        self.over = threading.Event()
        self.ready = []  # the connections that the test may use
        super().__init__()

    @property
    def connection(self):
        """The first connection, once there is one."""
        wait_until(lambda: self.ready, "the proxy has connected to the backend")
        self.ready[0].settimeout(PATIENCE)
        return self.ready[0]

    def send_some(self, data):
        """Send as much of data as is taken on the first connection; return how much, TimeoutError if it is nothing."""
        try:
            return self.connection.send(data)
        except ConnectionError as error:
            raise AssertionError(f"the backend couldn't send: {error}. Hint: who has closed its connection?") from None

    def expect(self, wanted):
        """Receive these bytes on the first connection."""
        data = b""
        try:
            while len(data) < len(wanted) and (piece := self.connection.recv(len(wanted) - len(data))):
                data += piece
        except OSError as error:  # a TimeoutError is one
            raise AssertionError(f"the backend got {data!r}, not {wanted!r}, and then: {error}") from None
        assert data == wanted, f"the backend got {data!r}, not {wanted!r}"

    def expect_end(self):
        """Receive the end of file on the first connection, and nothing before it."""
        try:
            data = self.connection.recv(CHUNK)
        except TimeoutError:
            raise AssertionError("no end of file. Hint: it may have no event; read on after the bytes") from None
        except ConnectionError as error:
            raise AssertionError(f"expected the end of file, and got: {error}") from None
        assert not data, f"expected the end of file, and got {data[:40]!r}"

    def serve(self, connection):
        """Leave it alone."""
        self.ready.append(connection)
        self.over.wait(LONG_PATIENCE)

    def close(self):
        """End the connections too."""
        self.over.set()
        super().close()


class StalledBackend(Backend):
    """Accepts, and neither reads nor writes until `go` is set; then it reads everything."""

    def __init__(self, **options):
        """Accept, with a small receive buffer."""
        self.go = threading.Event()
        super().__init__(receive_buffer=SMALL_BUFFER, **options)

    def serve(self, connection):
        """Wait, then read until the end of file."""
        self.go.wait(LONG_PATIENCE)
        while self.receive(connection):
            pass


class JammedBackend(Backend):
    """Sends as much as it can, reads nothing, and resets its connections when `go` is set."""

    def __init__(self, **options):
        """Accept, with a small receive buffer."""
        self.go = threading.Event()
        super().__init__(receive_buffer=SMALL_BUFFER, **options)

    def serve(self, connection):
        """Send until no more is taken, then wait for `go` and reset."""
        connection.settimeout(0.5)
        try:
            for data in pattern_chunks(10**12):
                self.send(connection, data)
        except TimeoutError:
            pass
        self.go.wait(LONG_PATIENCE)
        set_reset_on_close(connection)


class TurnBackend(Backend):
    """Answers every request of `size` bytes with as many, in two writes, as a careless program does."""

    def __init__(self, size, **options):
        """Expect requests of `size` bytes."""
        self.size = size  # bytes
        super().__init__(**options)

    def serve(self, connection):
        """Answer in two pieces; the kernel must not hold back the second one here, only the proxy might."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting = 0
        while data := self.receive(connection):
            waiting += len(data)
            while waiting >= self.size:
                waiting -= self.size
                self.send(connection, b"x" * 4)
                self.send(connection, b"x" * (self.size - 4))


class PushingBackend(Backend):
    """WebSocket-like: sends `count` messages unasked while it reads those of the client."""

    def __init__(self, count, message, pause=0.001, **options):
        """Prepare to send a message `count` times, with a pause (seconds) after each."""
        self.count = count
        self.message = message
        self.pause = pause
        super().__init__(**options)

    def serve(self, connection):
        """Push from a second thread, read in this one."""

        def push():
            with contextlib.suppress(OSError):  # the client has left
                for _ in range(self.count):
                    self.send(connection, self.message)
                    time.sleep(self.pause)

        self.receive(connection)  # something first, so that even a one-shot proxy has connected us
        threading.Thread(target=push, daemon=True).start()
        while self.receive(connection):
            pass


class DuplexBackend(Backend):
    """Sends the pattern and reads it at the same time, `count` bytes each way; notes what was wrong."""

    def __init__(self, count, **options):
        """Prepare for `count` bytes each way."""
        self.count = count  # bytes
        self.complaint = None  # what the first wrong byte looked like
        super().__init__(**options)

    def serve(self, connection):
        """Send from a second thread, read in this one."""

        def stream():
            try:
                for data in pattern_chunks(self.count):
                    self.send(connection, data)
                connection.shutdown(socket.SHUT_WR)
            except OSError as error:
                self.complaint = f"sending failed: {error}"

        sender = threading.Thread(target=stream, daemon=True)
        sender.start()
        position = 0
        try:
            while data := self.receive(connection):
                check_pattern(data, position)
                position += len(data)
        except AssertionError as error:
            self.complaint = str(error)
        sender.join(LONG_PATIENCE)


class FullBackend(EchoBackend):
    """An echo that accepts one connection; after fill(), no other connect is answered.

    The kernel drops the SYN of a connection that finds no room in the accept queue; the client
    hears nothing.
    """

    def __init__(self, port=0):
        """Listen with the shortest queue there is."""
        self.fillers = []  # connections that fill the queue
        super().__init__(port, backlog=0)

    def accept_forever(self):
        """Serve the first connection, and no other."""
        try:
            connection, _ = self.listener.accept()
        except OSError:
            if self.closing:
                return
            raise
        connection.settimeout(LONG_PATIENCE)
        self.connections.append(connection)
        self.serve_and_close(connection)

    def fill(self):
        """Fill the accept queue until a connect gets no answer."""
        while len(self.fillers) < 8:
            filler = socket.socket()
            filler.settimeout(0.2)
            self.fillers.append(filler)
            try:
                filler.connect((HOST, self.port))
                wait_until(lambda: self.connections, "the first one is accepted, which leaves room for another")
            except TimeoutError:
                filler.close()  # or it would keep trying
                return
        raise AssertionError("the accept queue took 8 connections, and is still not full")

    def close(self):
        """Close the fillers too."""
        for filler in self.fillers:
            filler.close()
        super().close()
