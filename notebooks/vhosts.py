"""Sites behind one address, for the notebook on virtual hosts: part 6, backends that note what they see, TLS.

Parts are started as programs, as in experiments.py, and no notebook has a copy of their code.
"""

import re
import socket
import ssl
import statistics
import time

from support.harness import Command, Proxy, has_unread_bytes, is_listening, part_command
from support.packages import packages_needed
from support.peers import (
    HOST,
    LONG_PATIENCE,
    Backend,
    HttpBackend,
    HttpHandler,
    Site,
    free_port,
    request_text,
    wait_until,
)

with packages_needed():
    import trustme

# The proxy, and plain clients


def start_with_hosts(hosts: dict, more: str = "") -> Proxy:
    """Return part 6 as a running Proxy, on two ports: .port for HTTP, .tls_port for TLS; to be used in a with-block.

    `hosts` has a backend under each name, `more` is what each host has besides its backend, in Lua.
    """
    tls_port = free_port()
    entries = [
        f'["{name}"] = {{backends = {{{{address = "{HOST}", port = "{backend.port}"}}}}, {more}}}'
        for name, backend in hosts.items()
    ]
    config = f'listenPort = "{{port}}"\nlistenTlsPort = "{tls_port}"\nhosts = {{{", ".join(entries)}}}\n'
    proxy = Proxy(Command(part_command(6).words, config), next(iter(hosts.values())).port)
    wait_until(lambda: is_listening(tls_port), f"the proxy listens on port {tls_port}")
    proxy.tls_port = tls_port
    return proxy


def send_raw(port: int, *pieces: bytes, source: str = HOST) -> bytes:
    """Connect from an address of this machine, send some pieces, return all that comes back.

    Each but the first waits for the answer to the one before, or at least for its beginning.
    """
    answer = b""
    with socket.create_connection((HOST, port), LONG_PATIENCE, (source, 0)) as client:
        for number, piece in enumerate(pieces):
            client.sendall(piece)
            if number < len(pieces) - 1:
                answer += client.recv(65536)
        while data := client.recv(65536):
            answer += data
    return answer


def statuses(answers: bytes) -> list[str]:
    """Return the first line of each answer in what came back, without the version."""
    return [line.decode() for line in re.findall(rb"^HTTP/1\.[01] (\d+ [^\r]*)", answers, re.MULTILINE)]


# Backends that note what they see


class NotingHandler(HttpHandler):
    """Notes each request, and answers with the Host that it was for."""

    def do_GET(self):
        """Note, and answer."""
        host, claim = self.headers["Host"], self.headers["X-Forwarded-For"]
        self.server.seen.append((f"{self.command} {self.path}", host, claim))
        self.answer(f"{host}\n".encode())

    def do_POST(self):
        """Read the body first: in chunks, if it says so, as RFC 9112 (section 6.3) has it; else by its length."""
        if self.headers["Transfer-Encoding"]:
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()


class NotingBackend(HttpBackend):
    """A web server for any number of sites, which notes what it is asked."""

    def __init__(self):
        """Serve at once."""
        super().__init__(handler=NotingHandler)
        self.server.seen = []

    @property
    def seen(self) -> list[tuple]:
        """What it was asked so far: the request's method and path, its Host, its X-Forwarded-For or None."""
        return self.server.seen


AUTHORITY = trustme.CA()  # signs the certificates here; real ones come from Let's Encrypt and the like


class LoggingSite(Site):
    """A site behind TLS, with a certificate of its own; it keeps an access log, one line for each request.

    With `proxy_protocol` it expects the header of the PROXY protocol first, and believes it.
    """

    def __init__(self, name: str, proxy_protocol: bool = False):
        """Serve at once."""
        self.log = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert(name).configure_cert(context)
        super().__init__(name, proxy_protocol=proxy_protocol, context=context)

    def answer(self, connection, request):
        """Note who asks, for what, and send the page."""
        address, _ = request.client or connection.getpeername()
        self.log.append(f'{address} - "{request.line.decode()}" 200')
        super().answer(connection, request)


def visit_by_tls(port: int, name: str, source: str) -> str:
    """Be a browser: connect by TLS from an address of this machine, check the certificate, return the page."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    plain = socket.create_connection((HOST, port), LONG_PATIENCE, (source, 0))
    with plain, context.wrap_socket(plain, server_hostname=name) as tls:
        tls.sendall(request_text(name, headers=["Connection: close"]))
        with tls.makefile("rb") as answer:
            return answer.read().partition(b"\r\n\r\n")[2].decode().strip()


# The bytes of a ClientHello


def make_hello(name: str) -> bytes:
    """Return the ClientHello that this Python's ssl sends when it wants a site."""
    context = ssl.create_default_context()
    context.set_ecdh_curve("prime256v1")  # one kind of key; else newest versions send a kilobyte of them
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:  # it wants the server's answer
        pass
    return outgoing.read()


def hello_fields(hello: bytes) -> list[tuple[str, int, int]]:
    """Return the fields of a ClientHello in one record, in order: a label, its first byte, and the one behind it."""

    def number(start, size):
        return int.from_bytes(hello[start : start + size], "big")

    ends = [("header of the record", 5), ("header of the message", 9), ("version and random number", 43)]
    for label, size in (("session", 1), ("cipher suites", 2), ("compression", 1)):
        ends.append((label, ends[-1][1] + size + number(ends[-1][1], size)))
    position = ends[-1][1] + 2
    ends[-1] = ("compression, length of the extensions", position)
    while position < len(hello):
        kind, end = number(position, 2), position + 4 + number(position + 2, 2)
        if kind == 0:
            ends += [("server_name: its kind and lengths", position + 9), ("the name", end)]
        else:
            label = "padding" if kind == 21 else "other extensions"
            ends[-1:] = [(label, end)] if ends[-1][0] == label else [ends[-1], (label, end)]
        position = end
    return [(label, start, end) for (label, end), start in zip(ends, [0, *(end for _, end in ends)], strict=False)]


def in_records(hello: bytes, *cuts: int) -> bytes:
    """Return a ClientHello in several records, cut at these places (counted in the hello as it was, in one record)."""
    places = [5, *cuts, len(hello)]
    contents = [hello[start:end] for start, end in zip(places, places[1:], strict=False)]
    return b"".join(hello[:3] + len(content).to_bytes(2, "big") + content for content in contents)


def send_until_chosen(proxy: Proxy, backend: Backend, pieces: list[bytes]) -> int:
    """Send pieces to a proxy's TLS port, one after another; return how many bytes it had when it chose the backend.

    After each piece it is given time to read it, and a moment to act.
    """
    before, sent = len(backend.connections), 0
    with socket.create_connection((HOST, proxy.tls_port), LONG_PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
            sent += len(piece)
            wait_until(lambda: not has_unread_bytes(proxy.tls_port), "the proxy has read the piece")
            time.sleep(0.02)
            if len(backend.connections) > before:
                return sent
        wait_until(lambda: len(backend.connections) > before, "the proxy chooses the backend")
        return sent


# Speed


def time_requests(client: socket.socket, request: bytes, size: int, count: int) -> float:
    """Make requests on an open connection, one after another; return the median of their times, in microseconds.

    Each answer has `size` bytes.
    """
    times = []
    for _ in range(count):
        start = time.perf_counter()
        client.sendall(request)
        left = size
        while left:
            left -= len(client.recv(left))
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)
