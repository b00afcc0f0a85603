"""Runs one of the suite's backends, to repeat by hand what a test does: python tests/backend.py KIND [PORT]

    http     a web server: / /slow?seconds= /bytes?count= /chunked?count= /status?code= /die, and POST /sum
    slow     the same, but it waits for two seconds before it reads what is posted
    echo     sends back what it gets
    push     sends "tick" ten times a second, whatever it gets
    full     an echo for its first client; all others get no answer, not even to the connect

The port is 8001, or what RSP_BACKEND_PORT in the environment says, unless you name another. Ctrl-C, or kill, ends it.
"""

import os
import pathlib
import signal
import socket
import sys
import time

from support.peers import HOST, SMALL_BUFFER, EchoBackend, FullBackend, HttpBackend, HttpHandler, PushingBackend


class SlowHandler(HttpHandler):
    """Thinks for two seconds before it reads what is posted."""

    def do_POST(self):
        """Let the bytes pile up, then read them."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        time.sleep(2)
        super().do_POST()


class FullFromTheStart(FullBackend):
    """Accepts one client, and then no more."""

    def serve(self, connection):
        """Fill the queue, then be an echo."""
        self.fill()
        super().serve(connection)


KINDS = {
    "http": HttpBackend,
    "slow": lambda port: HttpBackend(port, SlowHandler),
    "echo": EchoBackend,
    "push": lambda port: PushingBackend(10**6, b"tick\n", pause=0.1, port=port),
    "full": FullFromTheStart,
}
USUAL_PORT = os.environ.get("RSP_BACKEND_PORT", "8001")


def main():
    """Run a backend until a signal ends it; a mistake on the command line is one line."""
    kind, port = (*sys.argv[1:], USUAL_PORT)[:2] if len(sys.argv) in (2, 3) else ("", "")
    if kind not in KINDS or not port.isdecimal():
        sys.exit(f"Usage: python {pathlib.Path(sys.argv[0])} {'|'.join(KINDS)} [PORT]")
    try:
        with KINDS[kind](int(port)):
            signal.sigwait([signal.SIGINT, signal.SIGTERM])
    except OSError as error:
        sys.exit(f"Couldn't listen on {HOST}:{port}: {error.strerror}. Choose another port, or free it.")


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])  # the threads inherit it
    main()
