"""The client's side of a proxied pair: what it sends goes to its own connection to the backend.

Mirrors client_socket.c of the posts.
"""

import logging
import select
import socket

from backend_socket import create_backend_socket_handler
from epollinterface import add_epoll_handler, remove_epoll_handler
from netutils import find_backend, make_socket_non_blocking

BUFFER_SIZE = 4096  # bytes read per event, at most


class ClientSocketHandler:
    """Reads from a client, writes to its backend."""

    def __init__(self, client_socket):
        """Wrap an accepted, non-blocking socket."""
        self.socket = client_socket  # closed by close_client_socket
        self.fd = client_socket.fileno()  # the loop's key for this handler
        self.backend_handler = None  # where the bytes go; set as soon as the backend is connected

    def handle_client_socket_event(self, events):
        """Pass on one read of the request, or close both sockets when the client has gone."""
        if events & select.EPOLLIN:
            buffer = b""
            try:
                buffer = self.socket.recv(BUFFER_SIZE)
                if buffer:
                    # Simplified: pretend that the backend's socket takes every byte. How many it took is
                    # what send returns, and we never check.
                    self.backend_handler.socket.send(buffer)
                    return
            except BlockingIOError:
                # Simplified: pretend that this is always recv, with nothing to read after all. When it is
                # send, the backend's socket was full, and the bytes are lost.
                return
            except OSError as error:
                # A client that disconnects is nothing unusual. But once its bytes have been read, it was the backend.
                if buffer:
                    logging.error("Lost the backend: %s", error.strerror)
            self.backend_handler.close_backend_socket()
            self.close_client_socket()

        elif events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
            self.backend_handler.close_backend_socket()
            self.close_client_socket()

    handle = handle_client_socket_event  # the name that the loop knows

    def close_client_socket(self):
        """Close this side only; the caller closes the backend too."""
        remove_epoll_handler(self)
        self.socket.close()


def connect_to_backend(client_handler, epoll, backend_host, backend_port):
    """Return the handler of a new connection to the backend; raise OSError when no address answers."""
    for family, kind, protocol, _, address in find_backend(backend_host, backend_port):
        try:
            backend_socket = socket.socket(family, kind, protocol)
        except OSError as error:
            reason = error.strerror
            continue
        try:
            # Simplified: connect blocks, and all clients wait. Pretend that backends are always near and awake.
            backend_socket.connect(address)
            break
        except OSError as error:
            backend_socket.close()
            reason = error.strerror
    else:
        raise OSError(f"Couldn't connect to backend {backend_host}:{backend_port}: {reason}")

    backend_handler = create_backend_socket_handler(backend_socket, client_handler)
    add_epoll_handler(epoll, backend_handler, select.EPOLLIN | select.EPOLLRDHUP)
    return backend_handler


def create_client_socket_handler(client_socket, epoll, backend_host, backend_port):
    """Return a handler for a client, connected to the backend; raise OSError if it can't connect."""
    make_socket_non_blocking(client_socket)
    client_handler = ClientSocketHandler(client_socket)
    client_handler.backend_handler = connect_to_backend(client_handler, epoll, backend_host, backend_port)
    return client_handler
