"""rsp, Really Simple Proxy, part 2: many clients at once, with epoll.

Mirrors rsp.c of the post "part 2: handling multiple connections with epoll".

Unlike part 1:
- One loop waits for all the sockets at once and calls the handler of the one that is ready.
- Bytes go both ways for as long as both sides stay: requests in pieces, many requests
  on one connection (keep-alive), chats (WebSockets).

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

from epollinterface import add_epoll_handler, do_reactor_loop
from netutils import find_backend
from server_socket import AcceptError, create_server_socket_handler


def main():
    """Start listening, then leave everything to the loop."""
    logging.basicConfig(format="%(asctime)s %(message)s")

    if len(sys.argv) != 4:
        sys.exit(f"Usage: {sys.argv[0]} <server_port> <backend_addr> <backend_port>")
    server_port, backend_addr, backend_port = sys.argv[1:]

    try:
        find_backend(backend_addr, backend_port)  # a misspelt name should not wait for the first client
        epoll = select.epoll()
        server_handler = create_server_socket_handler(epoll, server_port, backend_addr, backend_port)
        add_epoll_handler(epoll, server_handler, select.EPOLLIN)
    except OSError as error:
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
