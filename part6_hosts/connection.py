"""One side of a proxied pair, client or backend: reads what its socket has, writes what its peer has read.

Rules
- Every byte read from one side is written to the other: in order, and once.
- At most WRITE_BUFFER_LIMIT bytes wait for a side, and what is added to the requests of one read. While its buffer is
  full, the peer is not read.

States
    input     READING -> ENDED              there will be no more bytes to read
              READING <-> PAUSED            the peer's write buffer is full; nothing is read until it has drained
    output    CONNECTING -> OPEN -> ENDED   the end of file has been sent
              any -> LOST                   the socket is gone, or never connected; bytes for it are dropped
              not LOST -> RESETTING         the peer is lost; when everything is delivered, this side is reset

How it works
What the peer has read is sent at once. What the socket does not take waits in the write buffer, and EPOLLOUT says
when there is room again: the post's fix. Each method only makes its system call and sets states. What follows from
these is the pair's business, which settles it at the end of each event: see the table at the head of pair.py.

Traps
- Edge-triggered: news comes once. A method that stops early must arrange to be called again.
- A write past a non-empty buffer would overtake the bytes in it.
- Closing early loses what waits here and, if it is by a reset, what the kernel has taken but not delivered.

Mirrors connection.c, the place where the original's author ended up after the posts; see tcp(7), epoll(7).
"""

import errno
import fcntl
import socket
import struct
import termios
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP

from epollinterface import add_epoll_handler, call_later, remove_epoll_handler, repeat_epoll_event
from netutils import create_backend_socket

BUFFER_SIZE = 131072  # bytes per read, at most
WRITE_BUFFER_LIMIT = 262144  # bytes that may wait for one side
PAUSE_ABOVE = WRITE_BUFFER_LIMIT - BUFFER_SIZE  # with more bytes than that, there may be no room for another read
READS_PER_EVENT = 8  # then it is another connection's turn

READING, PAUSED = "reading", "paused"  # states of the input
CONNECTING, OPEN, RESETTING, LOST = "connecting", "open", "resetting", "lost"  # of the output
ENDED = "ended"  # of both

EVENT_MASK = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET
READ_EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR  # a read tells what it is: bytes, an end, an error
END_OR_URGENT_AHEAD = EPOLLRDHUP | EPOLLPRI  # after the bytes to be read: an end, or a byte that MSG_OOB marked urgent
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, with 0 seconds: close drops what is queued and sends a reset

# Bytes are in here only between a recv and the send that follows, so one buffer serves all connections.
read_buffer = memoryview(bytearray(BUFFER_SIZE))


class Connection:
    """A socket, and the states of its two directions."""

    __slots__ = (
        "socket fd address pair peer on_read read_limit write_buffer input output read_until_empty dropped".split()
    )

    def __init__(self, sock, address, pair, output):
        """Wrap a non-blocking socket, for good: close() closes it."""
        self.socket = sock
        self.fd = sock.fileno()  # the loop's key for this handler
        self.address = address  # of the other end; None: the socket has not been used yet
        self.pair = pair  # the Pair that this is one side of
        self.peer = None  # its other side
        self.on_read = None  # gets what is read: the peer's write, or a method that looks at it first
        self.read_limit = BUFFER_SIZE  # bytes that a read asks for
        self.write_buffer = bytearray()  # what the socket has not taken yet
        self.input = READING  # its states, and the output's, are listed at the head of this module
        self.output = output
        self.read_until_empty = False  # even a read that returns little may have left something unread
        self.dropped = 0  # bytes that came for this side when it was lost

    def handle(self, events):
        """Do what the events call for: first write, which may make room, then read; then settle what follows."""
        if self.output is CONNECTING and not self.finish_connecting(events):
            events = 0  # they were the old socket's
        if events & END_OR_URGENT_AHEAD:
            self.read_until_empty = self.pair.needs_settling = True
        if events & EPOLLOUT and self.write_buffer:
            self.flush()
        if events & READ_EVENTS and self.input is READING:
            self.read()
        if events & EPOLLERR and self.input is not READING and self.output is not LOST:
            self.mark_lost()  # no read will report it
        if self.pair.needs_settling:
            self.pair.settle()

    def read(self):
        """Pass on what has arrived, until there is no more, the peer's buffer is full, or our turn is over."""
        peer = self.peer
        for _ in range(READS_PER_EVENT):
            if len(peer.write_buffer) > PAUSE_ABOVE:
                self.input = PAUSED
                return
            try:
                limit = self.read_limit
                count = self.socket.recv_into(read_buffer, limit)
            except BlockingIOError:
                return
            except OSError as error:
                self.end_input()
                self.mark_lost(error.errno)
                return
            if count == 0:
                self.end_input()
                return
            self.on_read(read_buffer[:count])
            # Less than we asked for was all there was, says epoll(7). Not so when the end of file has been reported
            # already: it may come right after these bytes. Nor with urgent data: reads stop before it, see tcp(7).
            if count < limit and not self.read_until_empty or self.input is not READING:
                return
        repeat_epoll_event(self, EVENT_MASK)

    def end_input(self):
        """Note that the last byte has been read."""
        self.input = ENDED
        self.pair.needs_settling = True

    def write(self, data):
        """Send the peer's bytes; keep the ones that the socket does not take now."""
        sent = 0
        if self.output is OPEN and not self.write_buffer:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self.mark_lost(error.errno)
        if self.output is LOST:  # the peer is still read, since it may have to write before it reads what waits for it
            self.dropped += len(data)
            self.pair.needs_settling = True
        elif sent < len(data):
            self.write_buffer += data[sent:]

    def flush(self):
        """Write what waits, now that there is room."""
        try:
            sent = self.socket.send(self.write_buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self.mark_lost(error.errno)
            return
        del self.write_buffer[:sent]  # if some is left, the socket is full again, so there will be another edge
        if not self.write_buffer and self.peer.input is not READING:
            self.pair.needs_settling = True

    def mark_lost(self, error_number=None):
        """Note that this side is gone, with a given error or the socket's own: what is sent to it now would be lost."""
        error_number = error_number or self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ENOTCONN
        self.pair.on_loss(self, error_number)
        self.output = LOST
        self.write_buffer.clear()
        self.pair.needs_settling = True
        if self.input is READING:  # a send told us; bytes that came before the end may still be there to read
            repeat_epoll_event(self, EVENT_MASK)

    def resume(self):
        """Read again, after a pause."""
        self.input = READING
        self.read()

    def end_output(self):
        """Send the end of file that shutdown(2) makes, and keep reading."""
        self.output = ENDED
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # ENOTCONN; the socket knows the reason
            self.mark_lost()

    def reset_when_delivered(self, seconds=0.01):
        """Reset this side once everything sent to it has been acknowledged.

        A reset discards what is still in the kernel's send queue: bytes that the other kernel has not *acknowledged*.
        SIOCOUTQ, the same number as TIOCOUTQ, counts them. No event says when none are left: poll, ever less often.
        """
        # Simplified: Linux hands out what has arrived even after a reset; other systems may not.
        if self.pair.finished or self.output is LOST:  # while the timer ran
            return
        self.output = RESETTING
        (unacknowledged,) = struct.unpack("i", fcntl.ioctl(self.fd, termios.TIOCOUTQ, bytes(4)))
        if unacknowledged:
            call_later(seconds, self.reset_when_delivered, min(2 * seconds, 1))
        else:
            self.reset()

    def reset(self):
        """Reset this side, which finishes the pair."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.pair.finish()

    def fail(self):
        """Give up the pair after an exception: the loop calls this."""
        self.pair.fail()

    def close(self):
        """Close the socket, and let go of the peer. The pair stays: a timer may ask whether it has finished."""
        self.socket.close()
        self.peer = self.on_read = None

    def connect(self, family, address):
        """Start connecting to an address, with a fresh socket of its family; return 0, or the error's number."""
        is_used, self.address = self.address is not None, address
        try:
            if is_used or self.socket.family != family:
                self.replace_socket(family)
            error_number = self.socket.connect_ex(address)
            if error_number not in (0, errno.EINPROGRESS):
                return error_number
            add_epoll_handler(self, EVENT_MASK)
            return 0
        except OSError as error:
            return error.errno

    def replace_socket(self, family):
        """Replace a socket that is used up, or of the wrong address family, by a new one."""
        remove_epoll_handler(self)
        self.socket.close()  # at once, so that its descriptor is free; it has had its event of this round
        self.socket = create_backend_socket(family)
        self.fd = self.socket.fileno()

    def finish_connecting(self, events):
        """Return True if the connect has worked; if it has not, go on to the next address."""
        error_number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & EPOLLERR else 0
        if error_number not in (0, errno.ECONNRESET, errno.EPIPE):
            self.pair.try_next_address(error_number)
            return False
        self.output = OPEN
        self.pair.on_connect()
        if error_number:  # it had connected, and was reset before we came to look
            self.mark_lost(error_number)
        return True

    def never_connect(self):
        """Note that there is nothing to connect to: this side is lost before it has begun."""
        self.output = LOST
        self.write_buffer.clear()
        self.end_input()
