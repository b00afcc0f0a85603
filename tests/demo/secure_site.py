"""The TLS site of `make hosts`. Its certificate is made when it starts, and the proxy never sees the key.

What the proxy passes on is encrypted, so it can't add X-Forwarded-For. For that reason the author gave up the SNI proxy
of his post "SNI-based reverse proxying with Go(lang)": his backends could not tell who their clients were. The PROXY
protocol is the way out. Before the first encrypted byte comes one line in the clear (version 1 of it; version 2 says
the same in binary):

    PROXY TCP4 127.0.0.9 127.0.0.1 51234 8443

It gives the client's address and the one that it has connected to, and then both ports. Any program that can connect to
the backend can say such a thing, so only the proxy may be able to reach a server that believes it.

See https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt.
"""

import http.server
import socket
import ssl
import sys

import trustme

from sites import Visit, host_name, render, wants_page

LONGEST_LINE = 107  # bytes of a PROXY line, with the end of line
HANDSHAKE = b"\x16"  # what a TLS connection begins with; a plain request begins with a letter
PATIENCE = 30  # seconds that a silent client may stay


def read_proxy_line(connection):
    """Return the line that the proxy puts in front; None, and a complaint on stderr, if something else is there.

    It is read byte by byte, since the next byte already belongs to TLS, which reads from the socket by itself. Raises
    ConnectionError if the proxy leaves in the middle of it.
    """
    line = b""
    while not line.endswith(b"\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise ConnectionError("the proxy has left")
        line += byte
        if not b"PROXY ".startswith(line[:6]) or len(line) > LONGEST_LINE:
            complaint = 'The TLS site was sent no PROXY line. Does its host in hosts.lua say sendProxyProtocol = "v1"?'
            print(complaint, file=sys.stderr, flush=True)
            return None
    return line.decode("latin-1").strip()


def client_in(line):
    """Return the client's address in a PROXY line, or None: "PROXY UNKNOWN" is allowed too."""
    words = line.split(" ")
    return words[2] if len(words) == 6 and words[1] in ("TCP4", "TCP6") else None


class Handler(http.server.BaseHTTPRequestHandler):
    """What both handlers below do."""

    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def __init__(self, connection, line, server):
        """Serve a connection to its end; `line` came before it."""
        self.proxy_line = line
        super().__init__(connection, client_in(line), server)

    def send(self, status, body, **headers):
        """Send an answer; to HEAD, only its head."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """Keep the terminal quiet."""


class SecureHandler(Handler):
    """Answers what has come through TLS."""

    def do_GET(self):
        """Say who asks, according to the PROXY line."""
        tls = self.request
        visit = Visit(
            backend="secure",
            address="{}:{}".format(*tls.getsockname()),
            host=host_name(self.headers.get("Host", "")),
            client=self.client_address,
            told_by="the PROXY protocol",
            chosen_by="the ClientHello",
            proxy="{}:{}".format(*tls.getpeername()),
        )
        if self.path.partition("?")[0] != "/":
            self.send(404, b"There is nothing here but the front page.\n", Content_Type="text/plain")
        elif wants_page(self.headers):
            facts = {"line": self.proxy_line, "server_name": tls.name_asked_for, "version": tls.version()}
            facts |= {"cipher": tls.cipher()[0], "request": self.requestline, "headers": self.headers.items()}
            page = render("secure.html", visit=visit, places=self.server.places, **facts)
            self.send(200, page, Content_Type="text/html; charset=utf-8", Cache_Control="no-store")
        else:
            self.send(200, visit.text().encode(), Content_Type="text/plain; charset=utf-8")

    do_HEAD = do_GET


class PlainHandler(Handler):
    """Sends clients that asked for this site in the clear to the TLS port."""

    def do_GET(self):
        """Say where to go."""
        self.send(308, b"", Location=self.server.places.secure + self.path.lstrip("/"))

    do_HEAD = do_GET


class SecureServer(http.server.ThreadingHTTPServer):
    """One thread a connection, which waits for the PROXY line, shakes hands, and serves."""

    daemon_threads = True  # so that none keeps the program from ending
    request_queue_size = 1024

    def __init__(self, address, places, directory):
        """Listen, with a new certificate; ca.pem, to check it with, is left in the directory."""
        self.places = places
        authority = trustme.CA()
        authority.cert_pem.write_to_path(f"{directory}/ca.pem")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 and 1.3
        self.context.sni_callback = self.note_name
        authority.issue_cert("secure.localhost").configure_cert(self.context)
        super().__init__(address, SecureHandler)

    @staticmethod
    def note_name(tls, name, context):
        """Keep the name in the ClientHello, or None."""
        tls.name_asked_for = name

    def finish_request(self, connection, address):
        """Serve a connection, in its own thread."""
        connection.settimeout(PATIENCE)
        line = read_proxy_line(connection)
        if line is None:
            return
        if connection.recv(1, socket.MSG_PEEK) != HANDSHAKE:
            PlainHandler(connection, line, self)
            return
        with self.context.wrap_socket(connection, server_side=True) as tls:
            SecureHandler(tls, line, self)

    def handle_error(self, connection, address):
        """Ignore clients that leave or don't accept the certificate; anything else is a bug, and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(connection, address)
