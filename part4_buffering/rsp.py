"""rsp, Really Simple Proxy, part 4: what can't be written now waits, and so does closing.

Mirrors the posts "pause to regroup: non-blocking output", "pause to regroup: fixed it!" and "part 4: Dealing with
slow writes to the network".

Unlike part 3:
- One connection.py serves both sides, instead of client_socket.py and backend_socket.py: as "fixed it!" says,
  this should have to be fixed in one place only. A Pair, in pair.py, owns the two, and ends them.
- Bytes that a socket does not take wait in a write buffer until EPOLLOUT says that there is room. So does closing.
- A half-closed connection goes on in its other direction, and a reset is passed on as a reset.
- What waits is bounded: while a buffer is full, the other side is not read.
- The loop never blocks, not even while it connects to the backend.
- Running out of file descriptors only makes clients wait, and a signal ends the program, in a container too.
- One wait brings many events, and a turn many bytes, but not so many that a busy connection starves the others.

Still missing:
- It never gives up on a connection that is only silent: there are no time-outs.
- It serves one backend, and knows nothing about HTTP.
"""

# Ctrl-C ends a C program at once. Python would raise KeyboardInterrupt wherever it happens to be, even in an import.
try:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
except KeyboardInterrupt:
    raise SystemExit(130) from None

import logging
import os
import resource
import select
import sys

from config import ConfigError, get_config_opt, read_config_file
from epollinterface import add_epoll_handler, do_reactor_loop, epoll_init, stop_reactor_loop
from netutils import Backend, leads_back, note_own_address
from server_socket import create_server_socket_handler


class SignalHandler:
    """Ends the loop when a signal comes: Python writes the signal's number into a pipe, and the loop wakes up."""

    def __init__(self, *signal_numbers):
        """Handle these signals. As process 1 of a container, a program gets only the ones that it handles."""
        self.fd, writing_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing_end)
        for signal_number in signal_numbers:
            signal.signal(signal_number, lambda *_: None)  # a handler may run between any two steps: do nothing there

    def handle(self, events):
        """End the loop at the end of this round."""
        stop_reactor_loop()


def raise_descriptor_limit():
    """Take all the file descriptors that this user may have: each client needs two."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def main():
    """Read the config and start listening, then leave everything to the loop until a signal ends it."""
    logging.basicConfig(format="%(asctime)s %(message)s")

    if len(sys.argv) != 2:
        sys.exit(f"Usage: {sys.argv[0]} <config_file>")
    try:
        settings = read_config_file(sys.argv[1])
        server_port = get_config_opt(settings, "listenPort")
        note_own_address(None, server_port)
        backend = Backend(get_config_opt(settings, "backendAddress"), get_config_opt(settings, "backendPort"))
        if leads_back(backend):
            what = f"another server's, not {backend.host}:{backend.port}, where this proxy itself listens"
            raise ConfigError(f"Error parsing config file: backendPort must be {what}.")
        raise_descriptor_limit()
        event_mask = select.EPOLLIN | select.EPOLLET
        server_handler = create_server_socket_handler(server_port, event_mask, backend)
        epoll_init()
        add_epoll_handler(server_handler, event_mask)
        add_epoll_handler(SignalHandler(signal.SIGINT, signal.SIGTERM), select.EPOLLIN)
    except (ConfigError, OSError) as error:
        sys.exit(str(error))

    try:
        os.write(1, f"Started.  Listening on port {server_port}.\n".encode())
    except OSError as error:  # stdout is closed or full: serve all the same
        logging.error("Couldn't write the start line to stdout: %s", error.strerror)
    do_reactor_loop()


if __name__ == "__main__":
    main()
