"""The two ends that a proxy stands between: clients and backends, most of them badly behaved.

They are plain blocking sockets with a time limit on every call, one thread for each connection of a backend, so that
each can be read on its own. What goes wrong is raised as AssertionError, with what was sent, what came back, and
a hint: tests, notebooks and exercises show it as it is. Everything happens on 127.0.0.1.

    with EchoBackend() as backend:
        with Client(backend.port) as client:
            client.send(b"hello")
            client.receive_exactly(5)
"""

import array
import fcntl
import hashlib
import http.server
import json
import random
import select
import socket
import struct
import termios
import threading
import time
import urllib.parse

HOST = "127.0.0.1"
PATIENCE = 3  # seconds that a small answer may take; it takes milliseconds unless somebody has to wait in line
LONG_PATIENCE = 30  # seconds between two pieces of a big transfer
SMALL_BUFFER = 16384  # bytes; a receive buffer so small that its owner counts as slow
CHUNK = 65536  # bytes

# A block of random bytes, repeated, makes transfers in which every missing or misplaced byte shows. Its
# length is a prime number, so that no buffer's size is a multiple of it.
PERIOD = 1_000_003
_BLOCK = random.Random(2013).randbytes(PERIOD)
_TWO_BLOCKS = _BLOCK + _BLOCK


def pattern(start, count):
    """Return `count` bytes of the test pattern, from byte `start` on."""
    start %= PERIOD
    if count <= PERIOD:
        return _TWO_BLOCKS[start : start + count]
    return (_BLOCK * (count // PERIOD + 2))[start : start + count]


def pattern_chunks(count):
    """Yield the first `count` bytes of the test pattern, in chunks."""
    for start in range(0, count, CHUNK):
        yield pattern(start, min(CHUNK, count - start))


def check_pattern(received, start):
    """Raise AssertionError when these are not the pattern's bytes from `start` on; say what is missing."""
    if received == pattern(start, len(received)):
        return
    expected = pattern(start, len(received))
    first = next(i for i, (got, want) in enumerate(zip(received, expected, strict=True)) if got != want)
    found = _TWO_BLOCKS.find(received[first : first + 16])
    gap = (found - start - first) % PERIOD if found >= 0 else 0
    missing = f"the next bytes are those from {gap:,} further on" if gap else "what follows is not of the pattern"
    raise AssertionError(
        f"byte {start + first:,} is not the one that was sent: {missing}. "
        "Hint: what does send return when the socket can't take everything, and who looks at it?"
    )


def wait_until(condition, what, timeout=PATIENCE):
    """Wait until condition() is true; raise AssertionError, saying what was waited for, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s, and still not: {what}"
        time.sleep(0.005)


def wait_until_still(number, still=0.4, timeout=LONG_PATIENCE):
    """Wait until number() has kept its value for `still` seconds, and return it."""
    deadline = time.monotonic() + timeout
    value, since = number(), time.monotonic()
    while time.monotonic() - since < still:
        assert time.monotonic() < deadline, f"after {timeout} s it is still changing: {value}"
        time.sleep(0.02)
        if number() != value:
            value, since = number(), time.monotonic()
    return value


def wait_until_acknowledged(sock):
    """Wait until the other end's kernel has everything that was sent; see SIOCOUTQ in tcp(7)."""

    def unacknowledged():
        count = array.array("i", [0])
        fcntl.ioctl(sock, termios.TIOCOUTQ, count)
        return count[0]

    wait_until(lambda: unacknowledged() == 0, "everything sent is acknowledged", LONG_PATIENCE)


def free_port():
    """Return a TCP port that nobody listens on at the moment."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return sock.getsockname()[1]


def set_reset_on_close(sock):
    """Have close(2) send a reset (RST) in place of an end of file (FIN)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_after_delivery(sock):
    """Reset a connection when the other end's kernel has everything that was sent."""
    wait_until_acknowledged(sock)  # a reset overtakes what the kernel has not sent yet
    set_reset_on_close(sock)
    sock.close()


class Client:
    """A connection to a proxy, or to anything else on this machine that listens."""

    def __init__(self, port, receive_buffer=None, timeout=PATIENCE, segment=None):
        """Connect; `receive_buffer` (bytes) makes a slow reader, `timeout` (seconds) limits every call.

        A small `segment` (bytes), which is what TCP sends at a time, keeps the kernel's queues small at both ends.
        """
        self.socket = socket.socket()
        self.sent = 0  # bytes
        self.received = 0  # bytes
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what stalls is not to be our fault
        if receive_buffer:  # before connect, since it decides the window that TCP offers
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        try:
            self.socket.connect((HOST, port))
        except OSError as error:
            self.socket.close()
            raise AssertionError(f"couldn't connect to port {port}: {error}. Hint: is it still running?") from None

    def __enter__(self):
        """Return the client."""
        return self

    def __exit__(self, *_):
        """Close the connection."""
        self.close()

    def complain(self, what, hint):
        """Raise AssertionError with what happened so far."""
        raise AssertionError(
            f"{what}, after {self.sent:,} bytes sent and {self.received:,} received. Hint: {hint}"
        ) from None

    def send(self, data):
        """Send all of the data."""
        try:
            self.socket.sendall(data)
        except TimeoutError:
            self.complain(f"{len(data):,} bytes were not taken in {self.socket.gettimeout()} s", "who reads them?")
        except OSError as error:
            self.complain(f"sending failed: {error}", "the connection was closed while the client was still sending")
        self.sent += len(data)

    def receive(self, most=CHUNK):
        """Return some bytes, at most so many; none mean end of file."""
        try:
            data = self.socket.recv(most)
        except TimeoutError:
            self.complain(
                f"nothing came back for {self.socket.gettimeout()} s",
                "is somebody else being served, or did this client's last bytes never reach the backend?",
            )
        except OSError as error:
            self.complain(f"receiving failed: {error}", "the connection was reset: the client saw it break off")
        self.received += len(data)
        return data

    def receive_exactly(self, count):
        """Return so many bytes."""
        data = bytearray()
        while len(data) < count:
            piece = self.receive(count - len(data))
            if not piece:
                self.complain(f"end of file after {len(data):,} of {count:,} bytes", "somebody closed too early")
            data += piece
        return bytes(data)

    def receive_all(self):
        """Return everything up to the end of file."""
        data = bytearray()
        while piece := self.receive():
            data += piece
        return bytes(data)

    def receive_pattern(self, count, start=0):
        """Receive so many bytes of the test pattern, from byte `start` of it on, and check each."""
        position = start
        while position < start + count:
            data = self.receive(min(CHUNK, start + count - position))
            if not data:
                self.complain(
                    f"end of file after {position - start:,} of {count:,} bytes",
                    "bytes that wait for a slow reader must not get lost when the other side closes",
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
            self.complain("waited for a reset, and nothing came", "pass on that the other side is gone")
        self.complain(
            f"expected a reset, and got {'an end of file' if not data else repr(data[:40])}",
            "a clean end looks like a complete answer; SO_LINGER with 0 seconds makes close send a reset",
        )

    def half_close(self):
        """Say that there is nothing more to send, and keep listening."""
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
    """Connect, and be reset, during the connect or soon after it; raise AssertionError when something else happens."""
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


def connect_and_be_turned_away(port):
    """Connect, ask, and see the connection end, in whichever way; raise AssertionError when it doesn't."""
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect((HOST, port))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = sock.recv(CHUNK)
        except ConnectionRefusedError:
            raise AssertionError(f"nobody listens on port {port}. Hint: is the proxy still running?") from None
        except ConnectionError:
            return
        except TimeoutError:
            raise AssertionError(f"{PATIENCE} s, and neither answer nor end. Hint: close the client") from None
    assert not data, f"there is nobody who could have sent {data!r}"


def send_byte_by_byte(client, data, pause=0.002):
    """Send each byte on its own, `pause` seconds apart."""
    for i in range(len(data)):
        client.send(data[i : i + 1])
        time.sleep(pause)


def send_pattern_in_background(client, count):
    """Send so many bytes of the test pattern from a thread; return the thread. Its errors end it silently.

    The client may be closed or reset meanwhile. A thread that waits inside a call keeps the kernel from closing the
    socket, and from sending the reset: so no wait is longer than 20 ms.
    """

    def run():
        position = 0
        try:
            room = select.poll()
            room.register(client.socket, select.POLLOUT)
            while position < count:
                if room.poll(20):  # milliseconds
                    taken = client.socket.send(pattern(position, min(CHUNK, count - position)))
                    position += taken
                    client.sent += taken
                elif client.socket.fileno() < 0:  # closed
                    return
        except (OSError, ValueError):  # ValueError: it was closed before we began
            pass  # the test sees it at the other end

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


class Backend:
    """A server on a port of its own; each connection gets a thread, which calls serve(connection)."""

    def __init__(self, port=0, receive_buffer=None, backlog=1024):
        """Listen at once; `receive_buffer` (bytes) makes a slow reader."""
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.listener.bind((HOST, port))
        self.listener.listen(backlog)
        self.port = self.listener.getsockname()[1]
        self.connections = []  # every socket ever accepted
        self.received = 0  # bytes, over all connections
        self.sent = 0  # bytes, over all connections
        self.resets = 0  # connections that ended in a reset
        self.ends = 0  # connections whose peer has sent an end of file
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
                raise  # no descriptor is left, say: a test that waits in vain needs to be told why
            connection.settimeout(LONG_PATIENCE)
            self.connections.append(connection)
            threading.Thread(target=self.serve_and_close, args=(connection,), daemon=True).start()

    def serve_and_close(self, connection):
        """Serve one connection; a client that vanishes is no accident here."""
        try:
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


class EchoBackend(Backend):
    """Sends back whatever it gets, until the end of file."""

    def serve(self, connection):
        """Send back whatever comes."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := self.receive(connection):
            self.send(connection, data)


class StreamingBackend(Backend):
    """Takes one read of request, then sends so many bytes of the pattern as fast as it can, and closes.

    With `reset` it closes by a reset, in the middle as it were; with `end` as well, by an end of file and then a reset.
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

    It begins to read when `go` is set, which it is from the start unless `stalled`. What was wrong stands
    in `complaint`.
    """

    def __init__(self, count=None, stalled=False, **options):
        """Expect `count` bytes, or, with none given, everything up to the end of file."""
        self.count = count  # bytes
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
        try:
            while self.count is None or position < self.count:
                data = self.receive(connection)
                if not data:
                    break
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
    """Does nothing by itself: the test sends and receives on its first connection.

    So it stays open after the client's end of file too, until the backend is closed.
    """

    def __init__(self):
        """Keep each connection open until the end."""
        self.over = threading.Event()
        super().__init__()

    @property
    def connection(self):
        """The first connection, once there is one."""
        wait_until(lambda: self.connections, "the proxy has connected to the backend")
        self.connections[0].settimeout(PATIENCE)
        return self.connections[0]

    def expect_end(self):
        """Receive the end of file on the first connection, and nothing before it."""
        try:
            data = self.connection.recv(CHUNK)
        except TimeoutError:
            raise AssertionError("no end of file. Hint: it has no event of its own; read on after the bytes") from None
        assert not data, f"expected the end of file, and got {data[:40]!r}"

    def serve(self, connection):
        """Leave it alone."""
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
        """Send until nothing is taken any more, then wait for the word to reset."""
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
    """WebSocket-like: sends `count` messages by itself while it reads those of the client."""

    def __init__(self, count, message, **options):
        """Prepare to send a message so many times."""
        self.count = count
        self.message = message
        super().__init__(**options)

    def serve(self, connection):
        """Push from a second thread, read in this one."""

        def push():
            for _ in range(self.count):
                self.send(connection, self.message)
                time.sleep(0.001)

        self.receive(connection)  # some word first, so that even a one-shot proxy has connected us
        threading.Thread(target=push, daemon=True).start()
        while self.receive(connection):
            pass


class DuplexBackend(Backend):
    """Sends the pattern and reads it at the same time, so many bytes each way; notes what was wrong."""

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
    """An echo that accepts one connection, and after fill() leaves everybody else knocking at the door.

    The kernel drops the SYN of a connection for which there is no room in the accept queue; who connects,
    hears nothing.
    """

    def __init__(self):
        """Listen with the shortest queue there is."""
        self.fillers = []  # connections that fill the queue
        super().__init__(backlog=0)

    def accept_forever(self):
        """Serve the first connection, and nobody else."""
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
        """Fill the accept queue, until a connect gets no answer."""
        while len(self.fillers) < 8:
            filler = socket.socket()
            filler.settimeout(0.2)
            self.fillers.append(filler)
            try:
                filler.connect((HOST, self.port))
            except TimeoutError:
                filler.close()  # or it would go on knocking itself
                return
        raise AssertionError("the accept queue took 8 connections, and is still not full")

    def close(self):
        """Close the fillers too."""
        for filler in self.fillers:
            filler.close()
        super().close()


class HttpHandler(http.server.BaseHTTPRequestHandler):
    """The pages of HttpBackend."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = LONG_PATIENCE

    def do_GET(self):
        """Answer /, /slow, /bytes, /chunked, /status and /die; each takes its numbers from the query."""
        url = urllib.parse.urlsplit(self.path)
        query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
        page = getattr(self, "get_" + (url.path[1:] or "hello"), None)
        if page is None:
            self.answer(b"no such page", status=404)
        else:
            page(query)

    def do_POST(self):
        """Answer with the body, or, at /sum, with its length and checksum."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/sum":
            body = json.dumps({"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}).encode()
        self.answer(body)

    def answer(self, body, status=200):
        """Send one whole response."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def get_hello(self, query):
        """Say hello."""
        self.answer(b"Hello from the backend.\n")

    def get_slow(self, query):
        """Answer after some seconds."""
        time.sleep(float(query["seconds"]))
        self.answer(b"Sorry for the wait.\n")

    def get_bytes(self, query):
        """Send so many bytes of the pattern."""
        count = int(query["count"])
        self.send_response(200)
        self.send_header("Content-Length", str(count))
        self.end_headers()
        for data in pattern_chunks(count):
            self.wfile.write(data)

    def get_chunked(self, query):
        """Send so many bytes of the pattern as a chunked response (RFC 9112, section 7.1)."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for data in pattern_chunks(int(query["count"])):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def get_status(self, query):
        """Answer with a status code."""
        self.answer(b"as you wished", status=int(query["code"]))

    def get_die(self, query):
        """Promise a million bytes, send a thousand, and vanish with a reset."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(pattern(0, 1000))
        self.close_connection = True
        reset_after_delivery(self.connection)

    def log_message(self, *_):
        """Keep quiet."""


class HttpServer(http.server.ThreadingHTTPServer):
    """The library's server, with a longer line at the door and no word about clients that vanish."""

    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that vanishes is no accident here."""

    def shutdown_request(self, request):
        """Close a connection; no FIN before a reset that was asked for."""
        self.close_request(request)


class HttpBackend:
    """A web server with a page for every need of a test; see HttpHandler."""

    def __init__(self, port=0):
        """Serve at once, on a port of its own or on a given one."""
        self.server = HttpServer((HOST, port), HttpHandler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        """Return the backend."""
        return self

    def __exit__(self, *_):
        """Stop it."""
        self.close()

    def close(self):
        """Stop listening; connections that are being served go on."""
        self.server.shutdown()
        self.server.server_close()
