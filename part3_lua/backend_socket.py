"""The backend's side of a proxied pair: what it sends goes to the client.

Mirrors backend_socket.c of the posts.
"""

import logging
import select

from epollinterface import remove_epoll_handler
from netutils import make_socket_non_blocking

BUFFER_SIZE = 4096  # bytes read per event, at most


class BackendSocketHandler:
    """Reads from a backend, writes to its client."""

    def __init__(self, backend_socket, client_handler):
        """Wrap a connected, non-blocking socket."""
        self.socket = backend_socket  # closed by close_backend_socket
        self.fd = backend_socket.fileno()  # the loop's key for this handler
        self.client_handler = client_handler  # where the bytes go

    def handle_backend_socket_event(self, events):
        """Pass on one read of the answer, or close both sockets when there is no more to come."""
        if events & select.EPOLLIN:
            buffer = b""
            try:
                buffer = self.socket.recv(BUFFER_SIZE)
                if buffer:
                    # Simplified: pretend that the client's socket takes every byte. How many it took is
                    # what send returns, and we never check.
                    self.client_handler.socket.send(buffer)
                    return
            except BlockingIOError:
                # Simplified: pretend that this is always recv, with nothing to read after all. When it is
                # send, the client's socket was full, and the bytes are lost.
                return
            except OSError as error:
                # A client that disconnects is nothing unusual. But if nothing has been read, it was the backend.
                if not buffer:
                    logging.error("Lost the backend: %s", error.strerror)
            self.client_handler.close_client_socket()
            self.close_backend_socket()

        elif events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
            self.client_handler.close_client_socket()
            self.close_backend_socket()

    handle = handle_backend_socket_event  # the name that the loop knows

    def close_backend_socket(self):
        """Close this side only; the caller closes the client too."""
        remove_epoll_handler(self)
        self.socket.close()


def create_backend_socket_handler(backend_socket, client_handler):
    """Return a handler for a freshly connected backend, not yet known to epoll."""
    make_socket_non_blocking(backend_socket)
    return BackendSocketHandler(backend_socket, client_handler)
