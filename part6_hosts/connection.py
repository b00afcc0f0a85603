"""One side of a proxied pair, client or backend: reads what its socket has, writes what its peer has read.

Rules
- Every byte read from one side is written to the other: in order, and once.
- At most WRITE_BUFFER_LIMIT bytes wait for a side, and what a gate adds to requests of one read. While its buffer is
  full, the peer is not read.
- The end of one side's bytes is passed on after its last byte: end of file as end of file, a reset as a reset.
- The pair is closed when both directions have ended, or when one side's reset has been passed on to the other.
- A client with a gate (see gates.py) has its bytes looked at first: the gate chooses the backend, or refuses.

States
    input     READING -> ENDED              there will be no more bytes to read
              READING <-> PAUSED            the peer's write buffer is full; nobody reads until it has drained
              READING -> HELD -> PAUSED     the gate waits for what the backend says; it ends that
              HELD -> ENDED                 the client has sent its end of file, and nothing that would be held
    output    CONNECTING -> OPEN -> ENDED   the end of file has been sent
              UNCHOSEN -> CONNECTING        the backend has been chosen; until then, the socket is not in epoll
              any -> LOST                   the socket is gone, or never connected; bytes for it are dropped
              not LOST -> RESETTING         the peer is lost; when everything is delivered, this side is reset
              any -> REFUSED                no backend for this client: it gets an answer of our own
              any -> CLOSED                 the socket is closed, or will be at the end of this round

What follows from them (next_step looks, settle does)
    this side                                            step
    it failed, and no read will say so                   -> LOST
    LOST, and the peer is LOST                           close both
    LOST, and the peer has sent DROP_LIMIT bytes         reset the peer, close both
    PAUSED, and the peer's write buffer is empty         -> READING, and read
    HELD, and the peer's input has ENDED                 the gate goes on without an answer
    the peer's input has ENDED, no byte waits here, and
      this side is UNCHOSEN                              the gate refuses, or closes both
      this side is REFUSED, the peer is no longer OPEN   close both
      this side's gate has seen no byte of an answer     the gate refuses
      the peer is LOST, this side is not                 -> RESETTING
      this side is OPEN, and its client is to be refused say so, peer -> REFUSED, and read what is to be dropped
      this side is OPEN, the peer's output has ENDED     close both, which also sends the end of file
      this side is OPEN                                  send the end of file -> ENDED

How it works
What the peer has read is sent at once. What the socket does not take waits in the write buffer, and EPOLLOUT says
when there is room again: the post's fix. read, write, flush and lose only make their system call and set states;
settle, at the end of each event, draws the conclusions. Nothing else ends or closes a connection.

Traps
- Edge-triggered: news comes once. Whoever stops early must arrange for its own continuation.
- A write past a non-empty buffer would overtake the bytes in it.
- Closing early loses what waits here and, if it is by a reset, what the kernel has taken but not delivered.

Mirrors connection.c, the place where the original's author ended up after the posts; see tcp(7), epoll(7).
"""

import contextlib
import errno
import fcntl
import socket
import struct
import termios
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP

from epollinterface import add_epoll_handler, call_later, close_after_round, remove_epoll_handler, repeat_epoll_event
from netutils import create_backend_socket

BUFFER_SIZE = 131072  # bytes per read, at most
WRITE_BUFFER_LIMIT = 262144  # bytes that may wait for one side
FULL = WRITE_BUFFER_LIMIT - BUFFER_SIZE  # with more than that, there may not be room for another read
DROP_LIMIT = 67108864  # bytes that are read only to be dropped, before their sender is reset
READS_PER_EVENT = 8  # then it is another connection's turn

READING, PAUSED, HELD = "reading", "paused", "held"  # states of the input
CONNECTING, OPEN, RESETTING, LOST, CLOSED = "connecting", "open", "resetting", "lost", "closed"  # of the output
UNCHOSEN, REFUSED = "unchosen", "refused"  # of a backend's output
ENDED = "ended"  # of both

EVENT_MASK = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET
READ_EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR  # a read tells what it is: bytes, an end, an error
MORE_BEHIND = EPOLLRDHUP | EPOLLPRI  # behind the bytes to be read may stand an end, or a byte marked urgent by MSG_OOB
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, with 0 seconds: close drops what is queued and sends a reset

# Bytes are in here only between a recv and the send that follows, so one buffer serves all connections.
read_buffer = memoryview(bytearray(BUFFER_SIZE))


class Connection:
    """A socket, and the states of its two directions."""

    __slots__ = (
        "socket fd role address peer pass_on gate refusal write_buffer addresses backend most input output changed "
        "thorough failed dropped"
    ).split()

    def __init__(self, sock, role, address, output):
        """Take over a non-blocking socket, for good: close() closes it."""
        self.socket = sock
        self.fd = sock.fileno()  # the loop's key for this handler
        self.role = role  # "client" or "backend", for the log
        self.address = address  # whom the socket is connected to
        self.peer = None  # the Connection at the other end of the pair
        self.pass_on = None  # gets what is read: the peer's write, or a gate that looks at it first
        self.gate = None  # a client's side: what chooses its backend, where it is not chosen already
        self.refusal = None  # what the client is told, instead of being served
        self.write_buffer = bytearray()  # what the socket has not taken yet
        self.addresses = None  # while connecting: an iterator over the backends and addresses left to try
        self.backend = None  # a backend's side: the BalancedBackend that it is connected to
        self.most = BUFFER_SIZE  # bytes that a read asks for; a gate that has to look closely takes fewer at a time
        self.input = READING  # its states, and the output's, are listed at the head of this module
        self.output = output
        self.changed = False  # something has happened from which settle has to draw conclusions
        self.thorough = False  # even a read that returns little may have left something behind
        self.failed = False  # EPOLLERR was seen; bytes that came before may still be there to read
        self.dropped = 0  # bytes that came for this side when it was lost

    def handle(self, events):
        """Do what the events call for: first write, which may make room, then read; then settle what follows."""
        if self.output is CONNECTING and not self.finish_connecting(events):
            events = 0  # they were the old socket's
        if events & MORE_BEHIND:
            self.thorough = True
        if events & EPOLLERR:
            self.failed = self.changed = True
        if events & EPOLLOUT and self.write_buffer:
            self.flush()
        if events & READ_EVENTS and self.input is READING:
            self.read()
        if self.input is HELD and self.thorough and self.gate.has_all():  # nobody reads, so only a look finds an end
            self.end_input()
        if self.changed or self.peer.changed:
            self.settle()

    def read(self):
        """Pass on what has arrived, until there is no more, the peer's buffer is full, or our turn is over."""
        peer = self.peer
        for _ in range(READS_PER_EVENT):
            if len(peer.write_buffer) > FULL:
                self.input = PAUSED
                return
            try:
                most = self.most
                count = self.socket.recv_into(read_buffer, most)
            except BlockingIOError:
                return
            except OSError as error:
                self.end_input()
                self.lose(error.errno)
                return
            if count == 0:
                self.end_input()
                return
            self.pass_on(read_buffer[:count])
            # Less than we asked for was all there was, says epoll(7). Not so when the end of file has been reported
            # already: it may stand right behind these bytes. Nor with urgent data, before which reads stop, see tcp(7).
            if count < most and not self.thorough or self.input is not READING:
                return
        repeat_epoll_event(self, EVENT_MASK)

    def end_input(self):
        """Note that all the bytes there will ever be have been read."""
        self.input = ENDED
        self.changed = True

    def write(self, data):
        """Send the peer's bytes; keep those that the socket does not take now."""
        sent = 0
        if self.output is OPEN and not self.write_buffer:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self.lose(error.errno)
        if self.output is LOST:  # the peer is still read, since it may have to write before it reads what waits for it
            self.dropped += len(data)
            self.changed = True
        elif sent < len(data):
            self.write_buffer += data[sent:]

    def flush(self):
        """Write what waits, now that there is room."""
        try:
            sent = self.socket.send(self.write_buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(error.errno)
            return
        del self.write_buffer[:sent]  # if some is left, the socket is full again, so there will be another edge
        if not self.write_buffer and self.peer.input is not READING:
            self.changed = True

    def lose(self, error_number=None):
        """Note that this side is gone, by a given error or the socket's own: what is sent to it now would be lost."""
        error_number = error_number or self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ENOTCONN
        if self.backend and self.peer.output is not LOST:  # a client that leaves is nothing unusual
            self.backend.set.note_loss(self.backend, error_number)
        self.output = LOST
        self.changed = True
        self.write_buffer.clear()
        if self.input is READING:  # a send told us; bytes that came before the end may still be there to read
            repeat_epoll_event(self, EVENT_MASK)
        elif self.input is HELD:
            self.end_input()

    def settle(self):
        """Take the steps that follow from the states of both sides, one after another, until none is due."""
        peer = self.peer
        # This side first: if it has failed, its end of file must not be passed on as a clean one before that is known.
        while self.output is not CLOSED and (step := self.next_step() or peer.next_step()):
            step()
        self.changed = peer.changed = False

    def next_step(self):
        """Return the method that is due on this side, or None: the table at the head of this module."""
        peer, output = self.peer, self.output
        if output is LOST:
            if peer.output is LOST:
                return self.close_pair
            if self.dropped > DROP_LIMIT:
                return peer.reset
        elif self.failed and output is not REFUSED and (self.input is not READING or peer.output is LOST):
            return self.lose
        elif peer.input is ENDED and not self.write_buffer:
            if output is UNCHOSEN:
                return peer.gate.give_up
            if output is REFUSED:
                return self.close_pair if peer.output is not OPEN else None
            if self.gate and self.gate.unanswered:
                return self.gate.find_no_answer
            if peer.output is LOST and output is not RESETTING:
                return self.reset_when_delivered
            if output is OPEN and self.refusal:
                return self.tell_refusal
            if output is OPEN:
                return self.close_pair if peer.output is ENDED else self.end_output
            if self.input is HELD:
                return self.gate.go_on
        if self.input is PAUSED and not peer.write_buffer:
            return self.resume
        return None

    def resume(self):
        """Read again, after a pause."""
        self.input = READING
        self.read()

    def end_output(self):
        """Send the end of file that shutdown(2) makes, and keep reading."""
        self.output = ENDED
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # ENOTCONN, of which the socket knows the reason
            self.lose()

    def reset_when_delivered(self, seconds=0.01):
        """Reset this side once everything sent to it has been acknowledged.

        A reset discards what is still in the kernel's send queue: bytes that the other kernel has not *acknowledged*.
        SIOCOUTQ, the same number as TIOCOUTQ, counts them. No event says when none are left: poll, ever less often.
        """
        # Simplified: Linux hands out what has arrived even after a reset; other systems may not.
        if self.output in (LOST, CLOSED):  # while the timer ran
            return
        self.output = RESETTING
        (unacknowledged,) = struct.unpack("i", fcntl.ioctl(self.fd, termios.TIOCOUTQ, bytes(4)))
        if unacknowledged:
            call_later(seconds, self.reset_when_delivered, min(2 * seconds, 1))
        else:
            self.reset()

    def reset(self):
        """Reset this side, and close the pair."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.close_pair()

    def fail(self):
        """Reset both sides, after an exception that leaves the pair in no state at all: the loop calls this."""
        if self.output is not CLOSED:
            for connection in (self, self.peer):
                with contextlib.suppress(OSError):  # its socket may be closed, between two addresses
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.close_pair()

    def close_pair(self):
        """Close both sides, when all the events of this round have been handled."""
        for connection in (self, self.peer):
            connection.input, connection.output = ENDED, CLOSED
            remove_epoll_handler(connection)
            close_after_round(connection)

    def close(self):
        """Close the socket, and let go of the peer: the loop calls this at the end of the round."""
        self.socket.close()
        self.peer = self.pass_on = None
        if self.gate:
            self.gate.close()
        if self.backend:
            self.backend.set.let_go(self)

    def connect_to_backend(self, addresses, family):
        """Start connecting, with a fresh socket of a family, to one after another of the addresses (an iterator).

        It yields pairs: a backend, and one of its addresses, as BackendSet.attempts does.
        A connect on a non-blocking socket only begins; EPOLLOUT says when it has finished, see connect(2).
        """
        self.start_connecting(addresses, family)
        if self.changed:
            self.settle()

    def start_connecting(self, addresses, family):
        """Do what connect_to_backend does, in the middle of an event, at the end of which settle is called anyway."""
        self.addresses = addresses
        self.output = CONNECTING
        self.try_next_address(fresh_family=family)

    def time_out(self):
        """Give an address up that has not answered in time."""
        if self.output is CONNECTING:
            self.try_next_address(errno.ETIMEDOUT)
        if self.changed:
            self.settle()

    def try_next_address(self, error_number=None, fresh_family=None):
        """Go on to the next address, with a fresh socket or after an error; with none left, lose this side."""
        if self.backend:
            self.backend.error_number = error_number
            self.backend.set.deadlines.stop(self)
        for backend, (family, _, _, _, address) in self.addresses:
            self.backend, self.address = backend, address
            try:
                if family != fresh_family:
                    self.replace_socket(family)
                fresh_family = None
                error_number = self.socket.connect_ex(address)
                if error_number in (0, errno.EINPROGRESS):
                    add_epoll_handler(self, EVENT_MASK)
                    backend.set.deadlines.start(self)
                    return
            except OSError as error:
                error_number = error.errno
            backend.error_number = error_number
        self.backend = None  # all of them have let it go
        self.output = LOST
        self.write_buffer.clear()
        self.end_input()
        if self.peer.gate:
            self.peer.gate.find_no_backend(error_number)

    def refuse(self, answer):
        """Read no more for the backend. When it has answered what it got before, tell the client why (bytes)."""
        self.refusal = answer
        self.end_input()
        if self.peer.output in (UNCHOSEN, LOST):
            self.peer.output = REFUSED
            self.peer.end_input()

    def tell_refusal(self):
        """Tell the client why it is not served, and read on what it may be sending: a close would reset it instead."""
        answer, self.refusal = self.refusal, None
        self.peer.output = REFUSED
        self.peer.write_buffer.clear()
        self.input, self.pass_on = READING, ignore
        repeat_epoll_event(self, EVENT_MASK)
        self.write(answer)
        self.gate.linger()

    def replace_socket(self, family):
        """Replace a socket that is used up, or of the wrong address family, by a new one."""
        remove_epoll_handler(self)
        self.socket.close()  # at once, so that its descriptor is free; of this round's events, it has had its one
        self.socket = create_backend_socket(family)
        self.fd = self.socket.fileno()

    def finish_connecting(self, events):
        """Tell whether the connect has worked; if it has not, go on to the next address."""
        error_number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & EPOLLERR else 0
        if error_number not in (0, errno.ECONNRESET, errno.EPIPE):
            self.try_next_address(error_number)
            return False
        self.output, self.addresses = OPEN, None
        self.backend.set.note_success(self)
        self.changed = self.peer.input is not READING  # what it waits for may have come true
        if error_number:  # it had connected, and was reset before we came to look
            self.lose(error_number)
        return True


def ignore(data):
    """Drop what a client sends that has been refused."""
