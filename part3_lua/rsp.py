"""rsp, Really Simple Proxy, part 3: the same proxy, configured in Lua.

Mirrors rsp.c of the post "part 3: Lua-based configuration".

Unlike part 2:
- The port and the backend come from a Lua program: listenPort, backendAddress and backendPort.

Still missing:
- Bytes that a slow client's or backend's socket does not take are lost.
- A client that stops sending, but still listens, is taken for one that has gone.
- Connecting to the backend blocks the loop.
- Running out of file descriptors ends the program.
"""

# Ctrl-C ends a C program at once. Python would raise KeyboardInterrupt wherever it happens to be, even in an import.
try:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
except KeyboardInterrupt:
    raise SystemExit(130) from None

import logging
import os
import select
import sys

from config import ConfigError, get_config_opt, read_config_file
from epollinterface import add_epoll_handler, do_reactor_loop
from netutils import find_backend
from server_socket import AcceptError, create_server_socket_handler


def main():
    """Read the config and start listening, then leave everything to the loop."""
    logging.basicConfig(format="%(asctime)s %(message)s")

    if len(sys.argv) != 2:
        sys.exit(f"Usage: {sys.argv[0]} <config_file>")
    try:
        settings = read_config_file(sys.argv[1])
        server_port = get_config_opt(settings, "listenPort")
        backend_addr = get_config_opt(settings, "backendAddress")
        backend_port = get_config_opt(settings, "backendPort")
        find_backend(backend_addr, backend_port)  # a misspelt name should not wait for the first client
        epoll = select.epoll()
        server_handler = create_server_socket_handler(epoll, server_port, backend_addr, backend_port)
        add_epoll_handler(epoll, server_handler, select.EPOLLIN)
    except (ConfigError, OSError) as error:
        sys.exit(str(error))

    try:
        os.write(1, f"Started.  Listening on port {server_port}.\n".encode())
    except OSError as error:  # stdout is closed or full: serve all the same
        logging.error("Couldn't write the start line to stdout: %s", error.strerror)
    try:
        do_reactor_loop(epoll)
    except AcceptError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
