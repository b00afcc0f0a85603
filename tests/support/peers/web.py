"""A backend that speaks HTTP, with a page for whatever a test needs."""

import contextlib
import hashlib
import http.server
import json
import threading
import time
import urllib.parse

from support.peers.pattern import pattern, pattern_chunks
from support.peers.sockets import HOST, free_port, reset_after_delivery
from support.peers.waiting import LONG_PATIENCE


class HttpHandler(http.server.BaseHTTPRequestHandler):
    """The pages of HttpBackend."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = LONG_PATIENCE

    def do_GET(self):
        """Answer /, /slow, /health, /port, /bytes, /chunked, /status and /die; their numbers are in the query."""
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
        with self.server.counting():
            time.sleep(float(query["seconds"]))
        self.answer(b"Sorry for the wait.\n")

    def get_health(self, query):
        """Say whether the backend is well: 200, or 503."""
        self.answer(b"well\n" if self.server.healthy else b"not well\n", status=200 if self.server.healthy else 503)

    def get_port(self, query):
        """Say which backend this is: its port."""
        self.answer(b"%d" % self.server.server_port)

    def get_bytes(self, query):
        """Send `count` bytes of the pattern."""
        count = int(query["count"])
        self.send_response(200)
        self.send_header("Content-Length", str(count))
        self.end_headers()
        for data in pattern_chunks(count):
            self.wfile.write(data)

    def get_chunked(self, query):
        """Send `count` bytes of the pattern as a chunked response (RFC 9112, section 7.1)."""
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
    """The library's server, with a longer backlog, and silent about clients that vanish."""

    request_queue_size = 1024
    daemon_threads = True
    healthy = True  # what /health says

    def __init__(self, *arguments):
        """Listen at once."""
        self.lock = threading.Lock()
        self.at_once = 0  # requests for /slow that are being thought about
        self.most_at_once = 0
        super().__init__(*arguments)

    @contextlib.contextmanager
    def counting(self):
        """Count one more request for /slow, during the with-block."""
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield
        finally:
            with self.lock:
                self.at_once -= 1

    def handle_error(self, request, client_address):
        """Say nothing: a client that vanishes is nothing unusual here."""

    def shutdown_request(self, request):
        """Close a connection, without a FIN before a reset that was asked for."""
        self.close_request(request)


class HttpBackend:
    """A web server with a page for whatever a test needs; see HttpHandler."""

    def __init__(self, port=0, handler=HttpHandler):
        """Serve at once, on its own port or on a given one."""
        self.server = HttpServer((HOST, port or free_port()), handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        """Return the backend."""
        return self

    def __exit__(self, *_):
        """Stop it."""
        self.close()

    @property
    def most_at_once(self):
        """How many requests for /slow it has been thinking about at the same time, at most."""
        return self.server.most_at_once

    @property
    def healthy(self):
        """Whether /health says that all is well."""
        return self.server.healthy

    @healthy.setter
    def healthy(self, healthy):
        self.server.healthy = healthy

    def close(self):
        """Stop listening; connections that are being served go on."""
        self.server.shutdown()
        self.server.server_close()
