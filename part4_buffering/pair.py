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
import logging
import os
import socket

from connection import CONNECTING, ENDED, LOST, OPEN, PAUSED, READING, RESET_ON_CLOSE, RESETTING, Connection
from epollinterface import close_after_round, remove_epoll_handler

DROP_LIMIT = 67108864  # bytes that are read only to be dropped, before their sender is reset


class Pair:
    """Both sides of one proxied connection."""

    __slots__ = "client backend addresses needs_settling finished".split()

    def __init__(self, client_socket, client_address, backend_socket):
        """Pair a client's socket with a fresh one for its backend; both non-blocking, and closed by close()."""
        self.client = Connection(client_socket, client_address, self, OPEN)
        self.backend = Connection(backend_socket, None, self, CONNECTING)
        self.client.peer, self.backend.peer = self.backend, self.client
        self.addresses = None  # while connecting: an iterator over the addresses left to try
        self.needs_settling = False  # something that a rule looks at has changed
        self.finished = False  # both sockets are closed, or will be at the end of this round

    def connect_to_backend(self, addresses):
        """Start connecting to one after another of the addresses, as getaddrinfo(3) lists them.

        A connect on a non-blocking socket only begins; EPOLLOUT says when it has finished, see connect(2).
        """
        self.addresses = iter(addresses)
        self.try_next_address()

    def try_next_address(self, error_number=None):
        """Go on to the next address after this error on the last one, or give up when none is left."""
        for family, _, _, _, address in self.addresses:
            error_number = self.backend.connect(family, address)
            if not error_number:
                return
        self.on_no_backend(error_number)

    def on_no_backend(self, error_number):
        """Do without a backend: none of the addresses could be reached."""
        where = self.backend.address[:2]
        logging.error("Couldn't connect to backend %s:%s: %s", *where, os.strerror(error_number))
        self.backend.never_connect()

    def on_connect(self):
        """Note that the backend is there."""
        self.addresses = None
        if self.client.input is not READING:  # what it waits for may have come true
            self.needs_settling = True

    def on_loss(self, side, error_number):
        """Log that a side is gone. A client that leaves is nothing unusual, nor is a backend's end after that."""
        is_usual = side is self.client or self.client.output is LOST
        role = "client" if side is self.client else "backend"
        where = side.address[:2]
        level = logging.INFO if is_usual else logging.ERROR
        logging.log(level, "Lost the %s %s port %s: %s", role, *where, os.strerror(error_number))

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
