"""The listening socket: every client that connects becomes a pair of connections, client and backend.

Mirrors server_socket.c of the posts.
"""

import logging
import socket
import time

from connection import EVENT_MASK, RESET_ON_CLOSE, Connection
from epollinterface import add_epoll_handler, call_later, handlers, outlive_error, repeat_epoll_event
from netutils import (
    create_backend_socket,
    find_addresses,
    is_silent,
    make_socket_non_blocking,
    notice_silence,
    send_at_once,
    without_mapping,
)

MAX_LISTEN_BACKLOG = 4096  # established connections that the kernel queues until accept takes them
ACCEPTS_PER_EVENT = 64  # then it is the connections' turn
RETRY_SECONDS = 0.1  # between attempts to accept while that fails
STUCK_SECONDS = 5  # that accept fails, while most connections are silent: then clients are turned away


def handle_client_connection(client_socket, client_address, backend_socket, service):
    """Pair a new client's socket with a fresh one for a backend, and leave it to the service which backend that is.

    Raises OSError when epoll takes no more sockets; both are the caller's then.
    """
    make_socket_non_blocking(client_socket)
    pair = service.make_pair(client_socket, client_address, backend_socket)
    add_epoll_handler(pair.client, EVENT_MASK)
    try:
        service.admit(pair)
        if pair.needs_settling:
            pair.settle()
    except Exception:  # it costs this pair, and not the clients that wait to be accepted
        outlive_error(pair)


class ServerSocketHandler:
    """Accepts clients."""

    def __init__(self, server_socket, event_mask, service):
        """Wrap a listening, non-blocking socket."""
        self.socket = server_socket  # open as long as the program runs
        self.fd = server_socket.fileno()  # the loop's key for this handler
        self.event_mask = event_mask  # as registered with epoll
        self.service = service  # what the clients find at this port: see services.py
        self.backend_socket = None  # for the next client; see accept_client
        self.accept_fails = False  # a timer will try again
        self.reserve = socket.socket()  # a descriptor for turn_one_away
        self.stuck_at = 0  # when to look whether anything moves, if accept still fails (seconds, time.monotonic)
        self.turns_away = False  # the log knows that clients are being turned away

    def handle_server_socket_event(self, events):
        """Accept the clients that wait, unless that fails: then a timer will try again."""
        if not self.accept_fails:
            self.accept_clients()

    handle = handle_server_socket_event  # the name that the loop knows

    def accept_clients(self):
        """Accept the clients that wait, a bounded number of them."""
        for _ in range(ACCEPTS_PER_EVENT):
            try:
                self.accept_client()
            except BlockingIOError:
                self.accept_fails = False
                return
            except OSError as error:
                self.retry_later(error)
                return
            self.accept_fails = False
        repeat_epoll_event(self, self.event_mask)

    def accept_client(self):
        """Accept one client; raise OSError if there is none, or too few descriptors for two sockets.

        The backend's socket comes first, and is kept when there turns out to be no client. So a client
        that has been accepted can always be served, and the others wait in the kernel's queue.
        """
        if self.backend_socket is None:
            self.backend_socket = create_backend_socket(self.service.family)
        client_socket, client_address = self.socket.accept()
        backend_socket, self.backend_socket = self.backend_socket, None
        try:
            handle_client_connection(client_socket, without_mapping(client_address), backend_socket, self.service)
        except OSError:
            client_socket.close()
            backend_socket.close()
            raise

    def retry_later(self, error):
        """Leave the clients in the queue for a moment: most likely, we are out of file descriptors."""
        now = time.monotonic()
        if not self.accept_fails:
            logging.error("Could not accept: %s. Trying again every %s s.", error.strerror, RETRY_SECONDS)
            self.accept_fails, self.turns_away = True, False
            self.stuck_at = now + STUCK_SECONDS
        elif now >= self.stuck_at:
            if mostly_silent():
                self.turn_one_away()
            else:
                self.stuck_at = now + STUCK_SECONDS
        call_later(RETRY_SECONDS, self.accept_clients)

    def turn_one_away(self):
        """Reset the client that has waited longest, by means of the descriptor in reserve.

        If a backend leads back here, perhaps by way of another proxy, each connection waits for the next one, and the
        last waits in our queue. It came when the descriptors ran out, so it is first there, and its reset frees all.
        """
        self.reserve.close()
        try:
            client_socket, _ = self.socket.accept()
            client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            client_socket.close()
            if not self.turns_away:
                logging.error(
                    "No descriptor for %s s, and most connections are silent: turning waiting clients away. "
                    "Does a backend lead back to this proxy?",
                    STUCK_SECONDS,
                )
                self.turns_away = True
        except OSError:  # no client waits
            pass
        self.reserve = socket.socket()

    def fail(self):
        """Go on accepting in a moment, after an exception: the loop calls this."""
        call_later(RETRY_SECONDS, self.accept_clients)


def mostly_silent():
    """Return True if most connections have not moved a byte for STUCK_SECONDS."""
    silent = [is_silent(side.socket, STUCK_SECONDS) for side in handlers.values() if isinstance(side, Connection)]
    return 2 * sum(silent) >= len(silent)


class ListeningSocket(socket.socket):
    """A listening socket that remembers its family and its kind.

    For speed: accept() asks for both, for every client, and the library makes names of the numbers each time. That is a
    tenth of the instructions that a client costs.
    """

    family = type = None  # instead of the library's properties; create_and_bind sets them


def create_and_bind(server_address, server_port):
    """Return a TCP socket bound to an address (None: all of IPv4) and a port; raise OSError when there is none.

    The address may be a name, which may stand for several: the first one that works is taken.
    """
    # No host and AI_PASSIVE: addresses that fit for bind(2). 0.0.0.0, the first, is every IPv4 address of this machine.
    for family, kind, protocol, _, address in find_addresses(server_address, server_port, socket.AI_PASSIVE):
        try:
            server_socket = ListeningSocket(family, kind, protocol)
        except OSError as error:
            reason = error
            continue
        server_socket.family, server_socket.type = family, kind
        # Without this, the port stays taken for a minute after connections to it have closed.
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" is every address of this machine, IPv4 included; some systems have that switched off.
            server_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            server_socket.bind(address)
            return server_socket
        except OSError as error:
            server_socket.close()
            reason = error
    raise reason


def create_server_socket_handler(server_address, server_port, event_mask, service):
    """Return a handler that listens on the address and port, not yet known to epoll; raise OSError when it can't."""
    try:
        server_socket = create_and_bind(server_address, server_port)
        make_socket_non_blocking(server_socket)
        send_at_once(server_socket)
        notice_silence(server_socket)
        server_socket.listen(MAX_LISTEN_BACKLOG)
    except OSError as error:
        where = f"port {server_port}" + (f" of {server_address}" if server_address else "")
        raise OSError(f"Couldn't listen on {where}: {error.strerror}. Choose another port, or free it.") from None
    return ServerSocketHandler(server_socket, event_mask, service)
