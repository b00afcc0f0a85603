"""rsp, Really Simple Proxy, part 7: routes from redis, that change while it runs.

Builds where the author's own story ends: "nginx's built-in lua scripting support is now at a level where you can store
your routing config in redis" (the post on SNI). The keys are those of his proxy in Go, and of hipache.

Unlike part 6:
- A host that the config does not know is looked up in redis; the answer is kept, and redis says when it changes.
- The config's Lua may ask redis, too: it looks as if it waited, and no other client has to.
- Several proxies may share one redis: a change reaches all of them.

Still missing:
- It never gives up on a connection that is only silent, once its first request has come.
- It uses one core. To change the config, it has to be restarted.
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
from server_socket import create_server_socket_handler
from settings import read_address, read_settings


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
        server_address = read_address(settings)
        ports, starters = read_settings(settings)
        raise_descriptor_limit()
        event_mask = select.EPOLLIN | select.EPOLLET
        server_handlers = [
            create_server_socket_handler(server_address, port, event_mask, service) for port, service in ports
        ]
        epoll_init()
        for server_handler in server_handlers:
            add_epoll_handler(server_handler, event_mask)
        for starter in starters:
            starter.start()
        add_epoll_handler(SignalHandler(signal.SIGINT, signal.SIGTERM), select.EPOLLIN)
    except (ConfigError, OSError) as error:
        sys.exit(str(error))

    try:
        lines = [f"Started.  Listening on port {ports[0][0]}."]
        lines += [f"Listening on port {port} for TLS." for port, _ in ports[1:]]
        os.write(1, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:  # stdout is closed or full: serve all the same
        logging.error("Couldn't write the start line to stdout: %s", error.strerror)
    do_reactor_loop()


if __name__ == "__main__":
    main()
