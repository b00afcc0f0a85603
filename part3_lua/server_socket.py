"""The listening socket: every client that connects becomes a pair of handlers, client and backend.

Mirrors server_socket.c of the posts.
"""

import logging
import select
import socket

from client_socket import create_client_socket_handler
from epollinterface import add_epoll_handler
from netutils import find_addresses, make_socket_non_blocking

MAX_LISTEN_BACKLOG = 4096  # established connections that the kernel queues until accept takes them


class AcceptError(Exception):
    """No client can be accepted any more; str() of it is the whole line for the user."""


def handle_client_connection(epoll, client_socket, backend_host, backend_port):
    """Connect a new client to the backend; if that fails, close this client, and no other."""
    try:
        client_handler = create_client_socket_handler(client_socket, epoll, backend_host, backend_port)
    except OSError as error:
        logging.error("%s", error)
        client_socket.close()
        return
    # EPOLLRDHUP: the other end has closed, or has at least stopped sending.
    add_epoll_handler(epoll, client_handler, select.EPOLLIN | select.EPOLLRDHUP)


class ServerSocketHandler:
    """Accepts clients."""

    def __init__(self, server_socket, epoll, backend_addr, backend_port):
        """Wrap a listening, non-blocking socket."""
        self.socket = server_socket  # open as long as the program runs
        self.fd = server_socket.fileno()  # the loop's key for this handler
        self.epoll = epoll  # where new handlers are registered
        self.backend_addr = backend_addr  # a name or an address, looked up for each client
        self.backend_port = backend_port  # a string, as getaddrinfo(3) takes it

    def handle_server_socket_event(self, events):
        """Accept every client that waits; raise AcceptError when that is no longer possible."""
        while True:
            try:
                client_socket, _ = self.socket.accept()
            except BlockingIOError:
                break
            except OSError as error:
                # Simplified: pretend that only a broken machine gets here. Running out of file descriptors
                # (EMFILE) does too, and ends the program.
                raise AcceptError(f"Could not accept: {error.strerror}") from None
            handle_client_connection(self.epoll, client_socket, self.backend_addr, self.backend_port)

    handle = handle_server_socket_event  # the name that the loop knows


def create_and_bind(server_port):
    """Return a TCP socket bound to the port, on the first address that works; raise OSError when none does."""
    # No host and AI_PASSIVE: addresses that fit for bind(2). 0.0.0.0, the first, is every IPv4 address of this machine.
    for family, kind, protocol, _, address in find_addresses(None, server_port, socket.AI_PASSIVE):
        try:
            server_socket = socket.socket(family, kind, protocol)
        except OSError as error:
            reason = error
            continue
        # Without this, the port stays taken for a minute after connections to it have closed.
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server_socket.bind(address)
            return server_socket
        except OSError as error:
            server_socket.close()
            reason = error
    raise reason


def create_server_socket_handler(epoll, server_port, backend_addr, backend_port):
    """Return a handler that listens on the port, not yet known to epoll; raise OSError with a line that says why."""
    try:
        server_socket = create_and_bind(server_port)
        make_socket_non_blocking(server_socket)
        server_socket.listen(MAX_LISTEN_BACKLOG)
    except OSError as error:
        reason = error.strerror
        raise OSError(f"Couldn't listen on port {server_port}: {reason}. Choose another port, or free it.") from None
    return ServerSocketHandler(server_socket, epoll, backend_addr, backend_port)
