"""rsp, Really Simple Proxy, part 5: several backends, and Lua that chooses.

Builds what the posts only planned: "the multiple-backend handling" of "pause to regroup", which is to "dynamically work
out where to send traffic as the hits come in" (part 0), and the health check of the post on tcp_proxy_module.

Unlike part 4:
- A config may list several backends; a balance spreads the clients over them, or a Lua function of the config does.
- A connect that fails, or takes too long, goes on to the next backend, and the client does not notice.
- A backend that fails often is left out for a while; health checks find out by themselves which ones are down.

Still missing:
- It never gives up on a connection that is only silent.
- It knows nothing about HTTP: all clients share the same backends.
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

from config import ConfigError, read_config_file
from epollinterface import add_epoll_handler, do_reactor_loop, epoll_init, stop_reactor_loop
from health import Checker
from netutils import note_own_address
from server_socket import create_server_socket_handler
from settings import read_own_port, read_settings


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
        server_port = read_own_port(settings, "listenPort")
        note_own_address(None, server_port)
        backends, check = read_settings(settings)
        raise_descriptor_limit()
        event_mask = select.EPOLLIN | select.EPOLLET
        server_handler = create_server_socket_handler(server_port, event_mask, backends)
        epoll_init()
        add_epoll_handler(server_handler, event_mask)
        for backend in backends.backends if check else []:
            Checker(check, [backend]).start()
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
