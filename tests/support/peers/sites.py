"""Sites: small web servers that keep what they were sent, and clients that speak HTTP to the letter.

A Site is what a virtual host leads to. It reads strictly, so that a request that could be read in two ways is noticed,
and it may expect the PROXY protocol, speak TLS, or switch to another protocol, as for a WebSocket.
"""

import contextlib
import hashlib
import json
import socket
import ssl
import threading
from dataclasses import dataclass, field

from support.peers.backends import Backend
from support.peers.clients import Client
from support.peers.pattern import CHUNK, pattern_chunks
from support.peers.proxy_header import read_proxy_header
from support.peers.waiting import LONG_PATIENCE

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@dataclass
class Seen:
    """One request as a site has got it."""

    line: bytes  # such as b"GET / HTTP/1.1"
    fields: list  # of its headers, as they came: pairs of name and value (bytes)
    body: bytes
    client: tuple | None  # address and port, where the PROXY protocol says so

    def values(self, name):
        """Return the values of all headers of a name, in order, as strings."""
        return [value.decode() for key, value in self.fields if key.lower() == name.lower().encode()]


class Input:
    """What comes on a connection, to be read by the line or by the number of bytes."""

    def __init__(self, connection, record):
        """Wrap a socket; record(piece) is called for each piece."""
        self.connection = connection
        self.record = record
        self.waiting = b""

    def more(self):
        """Read a piece; raise EOFError at the end."""
        piece = self.connection.recv(CHUNK)
        if not piece:
            raise EOFError
        self.record(piece)
        self.waiting += piece

    def until(self, end):
        """Return what comes up to a delimiter, with it."""
        while end not in self.waiting:
            self.more()
        found, end, self.waiting = self.waiting.partition(end)
        return found + end

    def exactly(self, count):
        """Return so many bytes."""
        pieces = []
        while count > 0:
            if not self.waiting:
                self.more()
            pieces.append(self.waiting[:count])
            self.waiting = self.waiting[len(pieces[-1]) :]
            count -= len(pieces[-1])
        return b"".join(pieces)


class Site(Backend):
    """A web site that answers with its name, and keeps every request.

    Pages: /sum answers with the length and checksum of the body, /bytes?COUNT with so many bytes of the pattern, /slow
    waits for `go` to be set, /silent never answers. A request to upgrade is answered with 101, and what follows is
    echoed, or, where the site does not `switch`, like any other request.
    """

    def __init__(self, name, switch=False, proxy_protocol=False, context=None, **options):
        """The PROXY protocol may come first; with an SSLContext, the site speaks TLS."""
        self.name = name
        self.switch = switch
        self.proxy_protocol = proxy_protocol
        self.context = context
        self.seen = []  # a Seen for each request, in order
        self.streams = []  # for each connection, all the bytes that came, after TLS
        self.first_pieces = []  # for each connection, what its first read brings, before TLS
        self.headers = []  # for each connection, the header of the PROXY protocol (bytes)
        self.complaints = []  # what made no sense as HTTP
        self.go = threading.Event()
        super().__init__(**options)

    @property
    def stream(self):
        """All the bytes that have come on all connections."""
        return b"".join(map(bytes, self.streams))

    def serve(self, connection):
        """Serve one connection."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = None
        with contextlib.suppress(EOFError):
            if self.proxy_protocol:
                try:
                    header, client = skip_proxy_header(connection, self.first_pieces)
                except ValueError as error:
                    self.complaints.append(str(error))
                    return
                self.headers.append(header)
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                self.serve_requests(connection, client)

    def serve_requests(self, connection, client):
        """Answer one request after another."""
        stream = bytearray()
        self.streams.append(stream)
        source = Input(connection, stream.extend)
        while True:
            try:
                request = read_request(source, client)
            except ValueError as error:
                self.complaints.append(f"{error}, in {bytes(stream[:200])!r}")
                return
            self.seen.append(request)
            if self.switch and request.values("Upgrade"):
                self.send(connection, SWITCH)
                self.echo(connection, source)
                return
            self.answer(connection, request)
            if "close" in request.values("Connection"):
                return

    def echo(self, connection, source):
        """Send back whatever comes."""
        while True:
            if source.waiting:
                self.send(connection, source.waiting)
                source.waiting = b""
            source.more()

    def answer(self, connection, request):
        """Send the page."""
        method, target, _ = request.line.split(b" ")
        page, _, query = target.partition(b"?")
        if page == b"/silent":
            return
        if page == b"/slow":
            self.go.wait(LONG_PATIENCE)
        head = b"HTTP/1.1 200 OK\r\nX-Site: %b\r\nContent-Length: %d\r\n\r\n"
        if page == b"/bytes":
            self.send(connection, head % (self.name.encode(), int(query)))
            for data in pattern_chunks(int(query)):
                self.send(connection, data)
            return
        body = f"{self.name}\n".encode()
        if page == b"/sum":
            body = json.dumps(checksum(request.body)).encode()
        text = head % (self.name.encode(), len(body)) + (b"" if method == b"HEAD" else body)
        self.send(connection, text)


def checksum(body):
    """Return what /sum says of a body."""
    return {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def read_request(source, client):
    """Read a request, strictly; raise ValueError for what is none, EOFError at the end."""
    line, *lines = source.until(b"\r\n\r\n")[:-4].split(b"\r\n")
    fields = [tuple(text.split(b": ", 1)) for text in lines]
    if len(line.split(b" ")) != 3 or any(len(pair) != 2 for pair in fields):
        raise ValueError("not a head of HTTP")
    request = Seen(line, fields, b"", client)
    lengths, encodings = request.values("Content-Length"), request.values("Transfer-Encoding")
    if len(lengths) + len(encodings) > 1:
        raise ValueError("a body of two lengths")
    if lengths:
        request.body = source.exactly(int(lengths[0]))
    elif encodings:
        request.body = read_chunks(source)
    return request


def read_chunks(source):
    """Read a body that comes in chunks (RFC 9112, section 7.1), without extensions or trailers."""
    pieces = []
    while size := int(source.until(b"\r\n"), 16):
        pieces.append(source.exactly(size))
        if source.exactly(2) != b"\r\n":
            raise ValueError("a chunk that is longer than it says")
    if source.exactly(2) != b"\r\n":
        raise ValueError("a trailer")
    return b"".join(pieces)


def skip_proxy_header(connection, first_pieces):
    """Read a header of the PROXY protocol, and no more; return it, and the client's address and port, or None.

    What the first read would have brought goes into a list. Raises EOFError, or ValueError for what is no header.
    """
    data = connection.recv(CHUNK, socket.MSG_PEEK)
    first_pieces.append(data)
    header = b""
    while True:
        if not data:
            raise EOFError
        try:
            found = read_proxy_header(header + data)
        except AssertionError as error:
            raise ValueError(str(error)) from None
        header += connection.recv(len(data) - len(found[2] if found else b""))
        if found:
            return header, found[0]
        data = connection.recv(CHUNK, socket.MSG_PEEK)


# --- clients -----------------------------------------------------------------------------------------


@dataclass
class Answer:
    """One answer as a client has got it."""

    status: int
    fields: dict = field(default_factory=dict)  # the headers; names in lower case
    body: bytes = b""

    @property
    def site(self):
        """The name of the site that has answered, or None: the proxy itself."""
        return self.fields.get("x-site")


def request_text(host, target="/", method="GET", version="1.1", headers=(), body=b""):
    """Return a request's bytes; the headers are lines without their ends."""
    lines = [f"{method} {target} HTTP/{version}", *([f"Host: {host}"] if host is not None else []), *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def receive_answer(client, method="GET") -> Answer:
    """Receive one answer: its head, and its body by Content-Length."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.receive_exactly(1)
    line, *lines = head[:-4].decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    answer = Answer(int(line.split()[1]), fields)
    if method != "HEAD" and answer.status >= 200:
        answer.body = client.receive_exactly(int(fields["content-length"]))
    return answer


def ask(proxy, host, target="/", method="GET", headers=(), **options) -> Answer:
    """Ask for a page on its own connection, which is to be closed after the answer; return that."""
    if not any(line.lower().startswith("connection:") for line in headers):
        headers = [*headers, "Connection: close"]
    with proxy.connect() as client:
        client.send(request_text(host, target, method, headers=headers, **options))
        return receive_answer(client, method)


def hello_bytes(name, version=None):
    """Return a ClientHello of the ssl module's; the name may be None. The version is an ssl.TLSVersion."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def connect_by_tls(port, name, authority, version=None, **options) -> Client:
    """Return a Client that speaks TLS with the site of a name, whose certificate it checks: trustme's `authority`."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if version:
        context.minimum_version = context.maximum_version = version
    client = Client(port, **options)
    try:
        client.socket = context.wrap_socket(client.socket, server_hostname=name)
    except OSError as error:
        client.close()
        raise AssertionError(f"no TLS with {name}: {error}") from None
    return client
