"""One side of a proxied pair, client or backend: reads what its socket has, writes what its peer has read.

Rules
- Every byte read from one side is written to the other: in order, and once.
- At most WRITE_BUFFER_LIMIT bytes wait for a side. While its buffer is full, the peer is not read.
- The end of one side's bytes is passed on after its last byte: end of file as end of file, a reset as a reset.
- The pair is closed when the ends of both directions have been passed on, or one side's reset to the other.
- The exception to all that: a side that sends on and on to one that is gone, DISCARD_LIMIT bytes, is reset at once.

How it works
What the peer has read is sent at once. What the socket does not take waits in the write buffer, and EPOLLOUT
says when there is room again: the post's fix. When the buffer is empty, flush() does what had to wait for
that: it passes on the end, or lets the peer be read again. Neither side ever waits inside a call.

Traps
- Edge-triggered: news comes once. A handler that stops early must arrange for its own continuation.
- A write past a non-empty buffer would overtake the bytes in it.
- Closing early loses bytes twice over: those in the write buffer, and, on a reset, those that the kernel
  has taken but not delivered.
- Any send or recv may find that the socket has been reset, and may take the pair down on the way. Whoever
  calls one looks afterwards whether there is still somebody to talk to.

Mirrors connection.c, the place where the original's author ended up after the posts; see tcp(7), epoll(7).
"""

import array
import errno
import fcntl
import logging
import os
import socket
import struct
import termios
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP

from epollinterface import (
    add_epoll_handler,
    close_after_round,
    remove_epoll_handler,
    repeat_epoll_event,
    timers,
)
from netutils import create_backend_socket

BUFFER_SIZE = 65536  # bytes that one read takes at most
WRITE_BUFFER_LIMIT = 262144  # bytes that may wait for one side
FULL = WRITE_BUFFER_LIMIT - BUFFER_SIZE  # with more than that, there may not be room for another read
DISCARD_LIMIT = 67108864  # bytes that are read for nothing, for a side that is gone, before the other is reset
READS_PER_EVENT = 8  # then it is another connection's turn

EVENT_MASK = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET
READ_EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR  # a read tells what it is: bytes, an end, an error
MORE_BEHIND = EPOLLRDHUP | EPOLLPRI  # behind the bytes to be read may stand an end, or a byte marked urgent by MSG_OOB
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, with 0 seconds: close drops what is queued and sends a reset

# Bytes are in here only between a recv and the send that follows, so one buffer serves all connections.
read_buffer = memoryview(bytearray(BUFFER_SIZE))


class Connection:
    """A socket, and what is known of each of its two directions."""

    __slots__ = (
        "socket", "fd", "role", "address", "peer", "write_buffer", "addresses",
        "never_short", "failing", "paused", "read_ended", "write_ended", "was_reset",
        "discarded",
    )  # fmt: skip

    def __init__(self, sock, role, address):
        """Take over a non-blocking socket; close_pair closes it."""
        self.socket = sock
        self.fd = sock.fileno()  # the loop's key for this handler
        self.role = role  # "client" or "backend", for the log
        self.address = address  # whom the socket is connected to
        self.peer = None  # the Connection at the other end of the pair; None again when closed
        self.write_buffer = bytearray()  # what the socket has not taken yet
        self.addresses = None  # while connecting: an iterator over the addresses left to try
        self.never_short = False  # a read that returns little may have left something behind
        self.failing = False  # EPOLLERR was seen; bytes that came before may still be there to read
        self.paused = False  # the peer's write buffer was full; when it is empty, flush reads again
        self.read_ended = False  # all the bytes there will ever be have been read
        self.write_ended = False  # no bytes will be written any more
        self.was_reset = False  # this side is gone, and not by a clean end
        self.discarded = 0  # bytes that came for it since then

    def handle(self, events):
        """Do what the events call for: first write, which may make room, then read."""
        if self.addresses is not None and not self.finish_connecting(events):
            return
        if events & MORE_BEHIND:
            self.never_short = True
        if events & EPOLLERR:
            self.failing = True
        if events & EPOLLOUT and self.write_buffer:
            self.flush()
        if events & READ_EVENTS and self.peer is not None:  # None: flush has closed the pair
            self.read()
        if self.failing and not self.was_reset and self.peer is not None:
            if self.read_ended or self.paused or self.peer.was_reset:  # no read will tell us, or not soon
                self.lose(self.pending_error())

    def read(self):
        """Pass on what has arrived, until there is no more, the peer's buffer is full, or our turn is over."""
        peer = self.peer
        for _ in range(READS_PER_EVENT):
            if self.read_ended or self.peer is None:
                return
            if len(peer.write_buffer) > FULL:
                self.paused = True  # and peer.flush() will call again
                return
            try:
                count = self.socket.recv_into(read_buffer)
            except BlockingIOError:
                return
            except OSError as error:
                self.read_ended = True
                self.lose(error.errno)
                return
            if count == 0:
                self.end_input()
                return
            peer.write(read_buffer[:count])
            # Less than we asked for was all there was, says epoll(7). Not so when the end of file has
            # been reported already: it may stand right behind these bytes, and has no edge of its own.
            # Nor with urgent data, before which every read stops, see tcp(7).
            if count < BUFFER_SIZE and not self.never_short:
                return
        repeat_epoll_event(self, EVENT_MASK)

    def end_input(self):
        """Note that this side has sent its last byte, and pass that on."""
        self.read_ended = True
        if self.failing:  # an end of file, and then a reset: one event told of both
            self.lose(self.pending_error())
        else:
            self.peer.end_output()

    def write(self, data):
        """Send the peer's bytes; keep those that the socket does not take now."""
        if self.was_reset:
            self.discard(len(data))
            return
        sent = 0
        if not self.write_buffer and self.addresses is None:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self.lose(error.errno)
                return
        if sent < len(data):
            self.write_buffer += data[sent:]

    def discard(self, count):
        """Count bytes for which there is no reader any more; reset their sender when it never comes to an end.

        They are read at all since their sender may not read, before it has written, what is still to be
        delivered to it.
        """
        self.discarded += count
        if self.discarded > DISCARD_LIMIT:
            self.peer.reset_now()

    def flush(self):
        """Write what waits, now that there is room; when nothing waits any more, do what waited for that."""
        if self.write_buffer:
            try:
                sent = self.socket.send(self.write_buffer)
            except BlockingIOError:
                return
            except OSError as error:
                self.lose(error.errno)
                return
            del self.write_buffer[:sent]
            if self.write_buffer:  # the socket is full again, so there will be another edge
                return
        if self.peer.read_ended:
            self.end_output()
        elif self.peer.paused:
            self.peer.paused = False
            self.peer.read()

    def end_output(self):
        """Pass on the end of the peer's bytes; as long as some of them wait, leave that to flush."""
        if self.write_buffer:
            return
        if self.peer.was_reset:
            self.reset_when_delivered()
        elif not self.write_ended and self.addresses is None:
            self.write_ended = True
            if self.peer.write_ended:
                self.close_pair()
            else:
                self.shut_down_output()

    def shut_down_output(self):
        """Send the end of file that shutdown(2) makes, and keep reading."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:  # ENOTCONN, of which the socket knows the reason
            self.lose(self.pending_error() or error.errno)

    def pending_error(self):
        """Return the number of the error that the socket has not told us yet, 0 for none."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def lose(self, error_number):
        """This side is gone. What had arrived from it is still delivered, and then its peer is reset too."""
        if not self.was_reset:
            host, port = self.address[:2]
            logging.error("Lost the %s %s port %s: %s", self.role, host, port, os.strerror(error_number))
        self.was_reset = True
        self.write_ended = True
        self.write_buffer.clear()
        if self.peer.was_reset:  # nobody is left
            self.close_pair()
            return
        if self.peer.paused:  # there is room enough now: see discard
            self.peer.paused = False
            repeat_epoll_event(self.peer, EVENT_MASK)
        if self.read_ended:
            self.peer.end_output()
        elif not self.paused:  # a send told us; bytes that came before the reset may still be there to read
            repeat_epoll_event(self, EVENT_MASK)

    def reset_when_delivered(self, seconds=0.01):
        """Reset this side once everything sent to it has been acknowledged, and close the pair.

        A reset discards what is still in the kernel's send queue, and no event tells when that is empty.
        So ask, less and less often. SIOCOUTQ counts what is not sent or not acknowledged (linux/sockios.h) and
        has the same number as TIOCOUTQ. (To *acknowledge* bytes is to tell their sender that they have arrived.)
        """
        # Simplified: acknowledged means that the other kernel has the bytes. Linux hands them out even after
        # a reset; other systems may not.
        if self.peer is None:  # closed while the timer ran
            return
        unacknowledged = array.array("i", [0])  # bytes
        fcntl.ioctl(self.fd, termios.TIOCOUTQ, unacknowledged)
        if unacknowledged[0] and not self.failing:
            timers.enter(seconds, 0, self.reset_when_delivered, (min(2 * seconds, 1),))
        else:
            self.reset_now()

    def reset_now(self):
        """Reset this side, and close the pair."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.close_pair()

    def close_pair(self):
        """Close both sides."""
        for connection in (self, self.peer):
            remove_epoll_handler(connection)
            close_after_round(connection.socket)
            connection.peer = None

    def connect_to_backend(self, error_number=None):
        """Start connecting to the next of the backend's addresses; with none left, give the client up.

        A connect on a non-blocking socket only begins; EPOLLOUT says when it has finished, see connect(2).
        The error number, if any, is that of the address before.
        """
        for family, _, _, _, address in self.addresses:
            self.address = address
            try:
                if error_number is not None:  # a socket whose connect has failed is used up
                    self.replace_socket(family)
                error_number = self.socket.connect_ex(address)
            except OSError as error:
                error_number = error.errno
            if error_number in (0, errno.EINPROGRESS):
                return
        host, port = self.address[:2]
        logging.error("Couldn't connect to backend %s:%s: %s", host, port, os.strerror(error_number))
        self.was_reset = self.read_ended = True
        self.lose(error_number)

    def finish_connecting(self, events):
        """Tell whether the connect has worked; if it has not, go on to the next address."""
        error_number = 0
        if events & EPOLLERR:
            error_number = self.pending_error()
        if error_number not in (0, errno.ECONNRESET, errno.EPIPE):
            self.connect_to_backend(error_number)
            return False
        self.addresses = None
        if error_number:  # it had connected, and was reset before we came to look
            self.lose(error_number)
        else:
            self.flush()  # what the client has sent meanwhile, its end included
        return self.peer is not None

    def replace_socket(self, family):
        """Close the socket and take a new one of an address family.

        Closed at once, so that its descriptor is there for the new one. No other event for this number can be
        waiting in this round: it has had its one, or, when connect failed at once, was made in this round.
        """
        remove_epoll_handler(self)
        self.socket.close()
        self.socket = create_backend_socket(family)
        self.fd = self.socket.fileno()
        add_epoll_handler(self, EVENT_MASK)


def create_connection(sock, role, address=None):
    """Return a Connection for a non-blocking socket, registered with epoll once and for all."""
    connection = Connection(sock, role, address)
    add_epoll_handler(connection, EVENT_MASK)
    return connection


def create_pair(client_socket, client_address, backend_socket, backend_addresses):
    """Join a client's socket and a backend's fresh one, and start connecting the latter.

    Raises OSError when epoll takes no more sockets; both are the caller's then.
    """
    client = create_connection(client_socket, "client", client_address)
    try:
        backend = create_connection(backend_socket, "backend")
    except OSError:
        remove_epoll_handler(client)
        raise
    client.peer, backend.peer = backend, client
    backend.addresses = iter(backend_addresses)
    backend.connect_to_backend()
