"""What `make run` starts: a small backend worth looking at, and part 4 in front of it.

    python tests/demo/one_site.py config.lua

The backend listens where the config says that the proxy looks for it. Ctrl-C, or SIGTERM, ends both.
"""

import functools
import html
import http.server
import itertools
import math
import os
import pathlib
import signal
import socket
import string
import struct
import subprocess
import sys
import threading
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 1600, 900  # of the picture, in pixels
ROWS_AT_A_TIME = 20  # rows of the picture that are sent in one piece
DOWNLOAD_SIZE = 100_000_000  # bytes

PAGES = pathlib.Path(__file__).resolve().parent / "pages"
PAGE = string.Template((PAGES / "one_site.html").read_text())
STYLE = (PAGES / "style.css").read_text()


class DemoHandler(http.server.BaseHTTPRequestHandler):
    """The pages of the demo; HEAD (curl -I) gets their headers only."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer with the page, the picture or the download."""
        pages = {"/": self.send_page, "/picture.png": self.send_picture, "/download": self.send_download}
        try:
            pages.get(self.path.partition("?")[0], self.send_not_found)()
        except ConnectionError:  # the browser has gone elsewhere
            self.close_connection = True

    do_HEAD = do_GET

    def send_body(self, pieces):
        """Send a body in pieces; to HEAD, none of them."""
        if self.command != "HEAD":
            for piece in pieces:
                self.wfile.write(piece)

    def send_whole(self, status, body):
        """Send a page whose length is known."""
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.send_body([body])

    def send_page(self):
        """Say who answered, and what the request looked like from here."""
        request = f"{self.requestline}\n{self.headers}".strip()
        host = html.escape(self.headers.get("Host", "127.0.0.1"))
        page = PAGE.substitute(
            style=STYLE,
            host=host,
            backend="{}:{}".format(*self.server.server_address),
            client="{}:{}".format(*self.client_address),
            pid=os.getpid(),
            request=html.escape(request),
            url=f"http://{host}/",
            width=WIDTH,
            height=HEIGHT,
            megabytes=DOWNLOAD_SIZE // 1_000_000,
        )
        self.send_whole(200, page.encode())

    def send_not_found(self):
        """There is nothing else here."""
        self.send_whole(404, b"<p>No page here. Try <a href='/'>the front page</a>.</p>")

    def send_picture(self):
        """Send a PNG while it is being computed, as a chunked response."""
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pieces = itertools.chain(picture(), [b""])  # an empty one is the end
        self.send_body(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)

    def send_download(self):
        """Send many bytes."""
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(DOWNLOAD_SIZE))
        self.end_headers()
        block = bytes(range(250)) * 400
        self.send_body(itertools.repeat(block, DOWNLOAD_SIZE // len(block)))

    def log_message(self, *_):
        """Keep the terminal quiet."""


class DemoServer(http.server.ThreadingHTTPServer):
    """One thread for each connection; no thread keeps the program from ending."""

    daemon_threads = True
    request_queue_size = 1024


def picture():
    """Yield a PNG in pieces, some rows each; see the PNG specification, https://www.w3.org/TR/png/."""

    def block(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def shade(index, phase):
        return int(140 + 110 * math.cos(2 * math.pi * (index / 256 + phase)))

    palette = bytes(shade(index, phase) for index in range(256) for phase in (0.05, 0.35, 0.6))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)  # 8 bits a pixel, an index into the palette
    yield b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"PLTE", palette)
    columns = [(x - WIDTH // 2) ** 2 for x in range(WIDTH)]
    compressor = zlib.compressobj(6)
    for top in range(0, HEIGHT, ROWS_AT_A_TIME):
        rows = bytearray()
        for y in range(top, min(top + ROWS_AT_A_TIME, HEIGHT)):
            row = (y - HEIGHT // 2) ** 2
            rows.append(0)  # no filter
            rows += bytes((column + row >> 9) & 255 for column in columns)
        yield block(b"IDAT", compressor.compress(bytes(rows)) + compressor.flush(zlib.Z_SYNC_FLUSH))
    yield block(b"IDAT", compressor.flush()) + block(b"IEND", b"")


def read_places(config_path):
    """Return the proxy's and the backend's address and port, or None and None when the proxy will complain."""
    try:
        from lupa import LuaError, LuaRuntime  # its own default Lua is good enough to read three settings
    except ImportError:
        sys.exit("The Python package lupa is not installed here. Type: make run, which brings it; or: make ready")
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    try:
        lua.execute(pathlib.Path(config_path).read_bytes())
        settings = lua.globals()
        return ("", int(settings.listenPort)), (str(settings.backendAddress), int(settings.backendPort))
    except (OSError, LuaError, TypeError, ValueError):
        return None, None


def listen(make_server, address, who, choice):
    """Return what `make_server` makes at an address; end the program when the port is taken, and say what to do."""
    try:
        return make_server(address)
    except OSError as error:
        way_out = f"{os.strerror(error.errno)}. Free it, or choose another"
    except OverflowError:
        way_out = "no such port. Choose another"
    sys.exit(f"{who} can't listen on port {address[1]}: {way_out}: make run {choice}")


def start_backend(address):
    """Serve the demo's pages from a thread."""
    make_server = functools.partial(DemoServer, RequestHandlerClass=DemoHandler)
    server = listen(make_server, address, "The demo's backend", "RSP_BACKEND_PORT=8002")
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main():
    """Start both, say where to look, wait for Ctrl-C."""
    if len(sys.argv) != 2:
        sys.exit(f"Usage: {sys.argv[0]} <config_file>")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # raises KeyboardInterrupt
    proxy = None
    try:
        front, backend = read_places(sys.argv[1])
        if backend:
            listen(socket.create_server, front, "The proxy", "RSP_LISTEN_PORT=8080").close()  # it has a try itself next
            start_backend(backend)
        program = [sys.executable, ROOT / "part4_buffering" / "rsp.py", sys.argv[1]]
        proxy = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        start_line = proxy.stdout.readline()
        if not start_line:  # it has said why, on stderr
            sys.exit(proxy.wait())
        print(start_line, end="")
        port = start_line.rstrip(".\n").rpartition(" ")[2]
        print(f"Open http://127.0.0.1:{port}/ - Ctrl-C stops it.", flush=True)
        sys.exit(proxy.wait())
    except KeyboardInterrupt:
        print()
    finally:
        if proxy:
            proxy.terminate()
            proxy.wait()


if __name__ == "__main__":
    main()
