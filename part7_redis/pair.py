"""A proxied pair: a client and its backend, what follows from the states of both, and how it ends.

Rules
- The end of one side's bytes is passed on after its last byte: end of file as end of file, a reset as a reset.
- The pair is finished when both directions have ended, or when one side's reset has been passed on to the other.
- Nothing but a step of `settle` ends, resets or closes anything.

What follows from the states (next_step_of looks at a side and its peer, for each of the two; settle acts)
    this side                                            step
    LOST, and so is the peer                             finish
    LOST, and the peer has sent DROP_LIMIT bytes         reset the peer, finish
    not LOST, the peer's input has ENDED, no byte waits here, and
      the peer is LOST, this side is not RESETTING       -> RESETTING; reset it when all is delivered, finish
      this side is OPEN, the peer's output has ENDED     finish, which also sends the end of file
      this side is OPEN                                  send the end of file -> ENDED
    PAUSED, and the peer's write buffer is empty         -> READING, and read

The states are the ones of connection.py. Its methods only make a system call and set states; one that changes what a
rule looks at sets needs_settling.

Mirrors `struct proxy_data` at the head of the original's repository, where its author ended up after the posts.
"""

import contextlib
import errno
import socket

from connection import CONNECTING, ENDED, LOST, OPEN, PAUSED, READING, RESET_ON_CLOSE, RESETTING, Connection
from epollinterface import close_after_round, remove_epoll_handler

DROP_LIMIT = 67108864  # bytes that are read only to be dropped, before their sender is reset


class Pair:
    """Both sides of one proxied connection."""

    __slots__ = "client backend attempts chosen needs_settling finished".split()

    def __init__(self, client_socket, client_address, backend_socket):
        """Pair a client's socket with a fresh one for its backend; both non-blocking, and closed by close()."""
        self.client = Connection(client_socket, client_address, self, OPEN)
        self.backend = Connection(backend_socket, None, self, CONNECTING)
        self.client.peer, self.backend.peer = self.backend, self.client
        self.client.on_read, self.backend.on_read = self.backend.write, self.client.write
        self.attempts = None  # while connecting: what yields backends and addresses, see BackendSet.attempts
        self.chosen = None  # the BalancedBackend that the backend's side is connected to, or may soon be
        self.needs_settling = False  # something that a rule looks at has changed
        self.finished = False  # both sockets are closed, or will be at the end of this round

    def connect_to_backend(self, attempts):
        """Start connecting to one address after another, as BackendSet.attempts yields them, each with its backend.

        A connect on a non-blocking socket only begins; EPOLLOUT says when it has finished, see connect(2).
        """
        self.attempts = attempts
        self.try_next_address()

    def try_next_address(self, error_number=None):
        """Go on to the next address after this error on the last one, or give up when none is left."""
        if self.chosen:
            self.chosen.set.deadlines.stop(self)
        try:
            while True:
                self.chosen, (family, _, _, _, address) = self.attempts.send(error_number)
                error_number = self.backend.connect(family, address)
                if not error_number:
                    self.chosen.set.deadlines.start(self)
                    return
        except StopIteration:
            self.chosen = None
            self.on_no_backend(error_number)

    def on_late_connect(self):
        """Give up an address that has not answered in time."""
        if self.finished or self.backend.output is not CONNECTING:
            return
        self.try_next_address(errno.ETIMEDOUT)
        if self.needs_settling:
            self.settle()

    def on_no_backend(self, error_number):
        """Do without a backend: none could be reached, the last one because of this error."""
        self.backend.never_connect()

    def on_connect(self):
        """Note that the backend is there."""
        self.chosen.set.deadlines.stop(self)
        self.chosen.set.note_success(self.chosen)
        self.attempts = None  # kept for as long as the connection, it would be half a kilobyte
        if self.client.input is not READING:  # what it waits for may have come true
            self.needs_settling = True

    def on_loss(self, side, error_number):
        """Note that a side is gone. A client that leaves is nothing unusual, nor is a backend's end after that."""
        if side is self.backend and self.client.output is not LOST:
            self.chosen.set.note_loss(self.chosen, error_number)

    def settle(self):
        """Take the steps that follow from the states of both sides, one after another, until none is due."""
        while not self.finished and (step := self.next_step()):
            step()
        self.needs_settling = False

    def next_step(self):
        """Return the method that is due, or None."""
        client, backend = self.client, self.backend
        return self.next_step_of(client, backend) or self.next_step_of(backend, client)

    def next_step_of(self, side, peer):
        """Return the method that is due for one side, or None: the table at the head of this module."""
        if side.output is LOST:
            if peer.output is LOST:
                return self.finish
            if side.dropped > DROP_LIMIT:
                return peer.reset
        elif peer.input is ENDED and not side.write_buffer:
            if peer.output is LOST and side.output is not RESETTING:
                return side.reset_when_delivered
            if side.output is OPEN:
                return self.finish if peer.output is ENDED else side.end_output
        if side.input is PAUSED and not peer.write_buffer:
            return side.resume
        return None

    def finish(self):
        """Have both sides closed, when all the events of this round have been handled."""
        self.finished = True
        remove_epoll_handler(self.client)
        remove_epoll_handler(self.backend)
        close_after_round(self)

    def fail(self):
        """Reset both sides, after an exception that leaves the pair in an unknown state: the loop calls this."""
        if not self.finished:
            for side in (self.client, self.backend):
                with contextlib.suppress(OSError):  # its socket may be closed, between two addresses
                    side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.finish()

    def close(self):
        """Close both sockets, and let go of both sides: the loop calls this at the end of the round."""
        self.client.close()
        self.backend.close()
        self.client = self.backend = None
        if self.chosen:
            self.chosen.set.deadlines.stop(self)
            self.chosen.set.remove_connection(self.chosen)
