"""A pair that looks before it chooses: what the client sends first decides which backends it is for.

Rules
- No backend is connected before the host is known. What can't be understood is refused, never guessed.
- A refused client is told why, in its own protocol, after the answers to what came before; it gets time to read that.

States of the pair
    LOOKING -> PASSING      the host is known: from now on, this is a pair as in pair.py
    LOOKING -> REFUSING     the client has been told why; what it still sends is dropped
    PASSING -> LOOKING      no backend could be reached, or it gave no answer: there is only the refusal left
    PASSING -> REFUSING     a later request is refused, and the backend has answered the earlier ones
and one more state of the client's input
    READING -> WAITING -> PAUSED    the client is not read while `waiting_for` something; the pair ends that

What follows from them, before the table of pair.py, which is for PASSING only
    LOOKING or REFUSING, and the client is LOST          finish
    LOOKING, and there is a refusal                      send it -> REFUSING
    LOOKING, and the client's input has ENDED            on_early_end: refuse, or finish
    REFUSING, no byte waits for the client, and
      its output is OPEN                                 send the end of file -> ENDED
      its input has ENDED                                finish
    PASSING, there is a refusal, the backend's input has ENDED, its output is not LOST,
      the client is OPEN, and no byte waits for it       send it -> REFUSING
    PASSING, and the client is WAITING, but LOST         give up waiting: its input -> ENDED

A backend that is LOST in the middle of an answer resets its client, as in pair.py: a page after half an answer would be
taken for the rest of it.
"""

from connection import ENDED, EVENT_MASK, LOST, OPEN, PAUSED, READING
from epollinterface import remove_epoll_handler, repeat_epoll_event
from pair import Pair
from proxy_protocol import proxy_header

LOOKING, PASSING, REFUSING = "looking", "passing", "refusing"  # states of the pair
WAITING = "waiting"  # a state of the client's input


class LookingPair(Pair):
    """What HttpPair and TlsPair have in common.

    Each of them has on_read(data), on_early_end(), on_no_backend(error_number), and timeout_page(), which returns
    bytes.
    """

    __slots__ = "service host phase refusal waiting_for".split()

    def __init__(self, client_socket, client_address, backend_socket, service):
        """Look for a LookingService; the rest is as in Pair."""
        super().__init__(client_socket, client_address, backend_socket)
        self.service = service
        self.host = None  # the Host that the client is connected to
        self.phase = LOOKING  # see the head of this module
        self.refusal = None  # bytes: what the client is told instead of being served
        self.waiting_for = None  # what, while the client is WAITING
        self.client.on_read = self.on_read

    def connect_to_host(self, host):
        """Connect to one of a host's backends."""
        self.host = host
        self.phase = PASSING
        if host.proxy_protocol:
            server = self.client.socket.getsockname()
            self.backend.write(proxy_header(host.proxy_protocol, self.client.address, server))  # which waits there
        self.connect_to_backend(host.backends.attempts(self.client.address))

    def wait_for(self, what):
        """Have the client not read until stop_waiting is called."""
        self.waiting_for = what
        self.client.input = WAITING

    def stop_waiting(self):
        """Have the client read again, unless its input has ended."""
        self.waiting_for = None
        if self.client.input is WAITING:
            self.client.input = PAUSED
            self.needs_settling = True

    def give_up_waiting(self):
        """Stop waiting, and reading: the client is lost."""
        self.waiting_for = None
        self.client.end_input()

    def refuse(self, answer):
        """Read no more from the client; send it an answer (bytes), once the backend has answered what came before."""
        self.service.head_deadlines.stop(self)
        self.refusal = answer
        self.waiting_for = None
        self.client.end_input()
        if self.chosen is None:  # its backends could not be reached; "CONNECTING" is true of a used one as well
            self.phase = LOOKING

    def send_refusal(self):
        """Tell the client why it is not served, and read what it may still be sending: a close would be a reset."""
        client, backend = self.client, self.backend
        self.phase = REFUSING
        remove_epoll_handler(backend)
        backend.write_buffer.clear()
        client.input, client.on_read = READING, ignore
        repeat_epoll_event(client, EVENT_MASK)
        client.write(self.refusal)
        self.service.linger_deadlines.start(self)

    def on_late_head(self):
        """Refuse a client that takes too long to say what it wants."""
        if self.finished:
            return
        if self.client.input is PAUSED:  # it is we who don't read
            self.service.head_deadlines.start(self)
        else:
            self.refuse(self.timeout_page())
            self.settle()

    def on_linger_end(self):
        """Close the connection of a client that has had its time to read why."""
        if not self.finished:
            self.finish()

    def next_step(self):
        """Return the method that is due, or None: the table at the head of this module, then that of pair.py."""
        client, backend = self.client, self.backend
        if self.phase is not PASSING:
            return self.next_step_without_backend(client)
        if self.refusal and backend.input is ENDED and backend.output is not LOST:
            if client.output is OPEN and not client.write_buffer:
                return self.send_refusal
        if client.input is WAITING and client.output is LOST:
            return self.give_up_waiting
        # For speed: not by super(), which would cost 4 % of the connections.
        return self.next_step_of(client, backend) or self.next_step_of(backend, client)

    def next_step_without_backend(self, client):
        """Return the method that is due while LOOKING or REFUSING, or None."""
        if client.output is LOST:
            return self.finish
        if self.phase is LOOKING:
            if self.refusal:
                return self.send_refusal
            if client.input is ENDED:
                return self.on_early_end
        elif not client.write_buffer:
            if client.output is OPEN:
                return client.end_output
            if client.input is ENDED:
                return self.finish
        return None

    def close(self):
        """Close both sides, and forget the time limits."""
        super().close()
        self.service.head_deadlines.stop(self)
        if self.refusal:
            self.service.linger_deadlines.stop(self)


def ignore(data):
    """Drop what a client sends after it has been refused."""
