"""Gates: what stands between a new client and the backends until it is known which of them the client is for.

A gate gets what the client sends, looks at it, and then either chooses a host, to whose backend the bytes are passed
on, or refuses: the client is told why, in its own protocol. What can't be understood is refused, never guessed. The
looking itself is done by modules that know no sockets: http_request.py and client_hello.py.

An Entrance is what a listening port leads to; it gives each client its gate. Where there are no hosts, there is
nothing to look at: clients of an OpenEntrance are connected to a backend at once.

The status codes are those of RFC 9110 and RFC 6585, the alerts those of RFC 8446, section 6.
"""

import errno
from http import HTTPStatus
from socket import MSG_PEEK

from client_hello import DECODE_ERROR, INTERNAL_ERROR, MORE, UNRECOGNIZED_NAME, HelloError, HelloReader, alert
from connection import BUFFER_SIZE, CLOSED, ENDED, HELD, PAUSED
from epollinterface import Deadlines
from hosts import RouteError
from http_request import MAX_HEAD, BadRequest, RequestReader, after_interim, has_switched
from proxy_protocol import proxy_header

LINGER_SECONDS = 2  # that a refused client has to read why, before its connection is closed
HANDSHAKE_FAILURE = 40  # an alert
LOOKS_AT = 1024  # bytes of a client's requests in one read, unless they are known to belong to a body


class OpenEntrance:
    """Connects every client to one of the same backends, whatever it will send."""

    def __init__(self, backends):
        """Take a BackendSet."""
        self.backends = backends
        self.family = backends.family  # of the sockets that its backends need, most likely

    def admit(self, client, backend):
        """Start connecting a new client's other side."""
        backend.connect_to_backend(self.backends.attempts(client.address), self.family)


class Entrance:
    """Gives every client a gate."""

    def __init__(self, gate_class, hosts, head_timeout, route=None, is_trusted=None):
        """Take the class of the gates, a HostTable, and the seconds that a client has for the whole of a head.

        A Route may choose among the hosts; is_trusted tells of an address whether what it says of others is believed.
        """
        self.gate_class = gate_class
        self.hosts = hosts
        self.route = route
        self.is_trusted = is_trusted
        self.family = hosts.family  # of the sockets that its backends need, most likely
        self.heads = Deadlines(head_timeout)
        self.lingering = Deadlines(LINGER_SECONDS)

    def admit(self, client, backend):
        """Give a new client its gate."""
        self.gate_class(client, backend, self)


class Gate:
    """What both kinds of gates do."""

    def __init__(self, client, backend, entrance):
        """Come between the two sides of a new pair."""
        self.client = client
        self.backend = backend  # its other side, UNCHOSEN
        self.entrance = entrance
        self.host = None  # the Host that the client is sent to
        self.refused = False
        self.unanswered = False  # a backend has been chosen for a request, and has not said a byte yet
        client.gate = self
        client.pass_on = self.look
        entrance.heads.start(self)

    def find_host(self, name, request=None):
        """Return the Host of a name (None: no name was given), or None; a route of the config's may say another name.

        The request is None on TLS, where nobody can read it. Raises RouteError when the route fails.
        """
        hosts, route = self.entrance.hosts, self.entrance.route
        other = route.ask(self.client.address[0], name, request) if route else None
        return hosts.find(name) if other is None else hosts.named(other)

    def choose(self, host):
        """Connect to one of a host's backends."""
        self.host = host
        if host.proxy_protocol:
            server = self.client.socket.getsockname()
            self.backend.write_buffer += proxy_header(host.proxy_protocol, self.client.address, server)
        self.backend.start_connecting(host.backends.attempts(self.client.address), self.entrance.family)

    def refuse(self, answer):
        """Send an answer to the client instead of serving it."""
        self.refused = True
        self.unanswered = False
        self.entrance.heads.stop(self)
        self.client.refuse(answer)

    def time_out(self):
        """Refuse a client that takes too long, or close the connection of one that has been refused."""
        client = self.client
        if client.output is CLOSED:  # in this very round
            return
        if self.refused:
            client.close_pair()
        elif client.input is PAUSED:  # it is we who don't read
            self.entrance.heads.start(self)
        else:
            self.refuse(self.too_late())
            client.settle()

    def linger(self):
        """Let the client read why it is refused, but not for ever."""
        self.entrance.lingering.start(self)

    def fail(self):
        """Reset the client, after an exception that leaves the gate in no state at all: the loop calls this."""
        if self.client is not None:
            self.client.fail()

    def close(self):
        """Let go of the two sides: they are closed."""
        self.entrance.heads.stop(self)
        if self.refused:
            self.entrance.lingering.stop(self)
        self.client = self.backend = None


class HttpGate(Gate):
    """Looks at every request of a client; the first one's host is the one that the connection leads to."""

    def __init__(self, client, backend, entrance):
        """Come between the two sides of a new pair."""
        super().__init__(client, backend, entrance)
        address = client.address[0]
        trusted = entrance.is_trusted is not None and entrance.is_trusted(address)
        self.roams = trusted or entrance.route is not None  # its next request may be for another host
        client.most = LOOKS_AT
        self.reader = RequestReader(self.see_head, address, trusted)
        self.name = None  # of the host, in the first request
        self.first_method = None  # of the same
        self.method = None  # of a request as long as it is not known whether it is refused
        self.answer = b""  # the beginning of the answer to an upgrade, without interim ones

    def look(self, data):
        """Check the requests in what the client has sent, and pass on what is sound."""
        self.advance(self.reader.feed, bytes(data))
        # A megabyte of a body is soon passed on; as tiny requests, or in tiny chunks, it would take most of a second.
        left = self.reader.left
        self.client.most = LOOKS_AT if left <= LOOKS_AT else min(left, BUFFER_SIZE)

    def advance(self, step, *arguments):
        """Let the reader take a step; pass on what comes of it, and see what it waits for."""
        reader, heads = self.reader, self.entrance.heads
        bad = None
        try:
            step(*arguments)
        except BadRequest as error:
            bad = error
        if self.refused:  # no backend was to be had
            return
        if passed := reader.take():
            self.backend.write(passed)
        if bad:
            self.refuse(self.page(bad.status, str(bad), self.method))
        elif reader.waiting_for_upgrade:
            self.client.input = HELD
            self.backend.pass_on = self.see_answer
        elif reader.in_head and self not in heads.due:
            heads.start(self)

    def see_head(self, request):
        """Send a request on its way; raises BadRequest if there is none for it."""
        self.entrance.heads.stop(self)
        if self.host is not None and request.host == self.name and not self.roams:
            return
        self.method = request.method
        try:
            host = self.find_host(request.host, request)
        except RouteError:
            raise BadRequest(500, "the proxy's own route function failed") from None
        if host is None:
            raise BadRequest(404, "no site with this name here")
        if self.roams and not request.upgrade:
            request.ask_for_close()
        if self.host is None:
            self.name, self.first_method = request.host, request.method
            self.unanswered = True
            self.backend.pass_on = self.see_first_bytes
            self.choose(host)
        elif host is not self.host:
            raise BadRequest(421, "this connection leads to another host")
        self.method = None

    def see_first_bytes(self, data):
        """Note that the backend answers, and pass that on; from then on, nobody looks."""
        self.unanswered = False
        self.backend.pass_on = self.client.write
        self.client.write(data)

    def see_answer(self, data):
        """Look whether the backend has agreed to speak another protocol; until that is known, nothing else passes."""
        self.unanswered = False
        self.client.write(data)
        self.answer = after_interim(self.answer + bytes(data))[: MAX_HEAD + 1]
        if has_switched(self.answer) is not None:
            self.go_on()

    def has_all(self):
        """Tell, while the client is HELD, whether its end of file has come, and no byte between that and the handshake.

        The backend is told of such an end at once. Behind other bytes, it has to wait until they may be passed on.
        """
        try:
            return not self.reader.held and not self.client.socket.recv(1, MSG_PEEK)
        except OSError:  # nothing yet, or a reset, of which the socket's own events tell
            return False

    def go_on(self):
        """Read the client again: requests, or, if the backend has agreed, whatever both sides like."""
        client, backend = self.client, self.backend
        backend.pass_on = client.write
        if client.input is HELD:
            client.input = PAUSED
            client.changed = True
        switched, self.answer = has_switched(self.answer), b""
        if switched:
            client.pass_on = backend.write
            client.most = BUFFER_SIZE
            self.advance(self.reader.tunnel)
        else:
            self.advance(self.reader.go_on)

    def give_up(self):
        """Answer a client that has sent its end of file before it was known what it wants."""
        if self.reader.in_head:
            self.refuse(self.page(400, "the request ends in the middle of its head"))
        else:
            self.client.close_pair()

    def find_no_backend(self, error_number):
        """Answer a client for whom no backend could be reached."""
        timed_out = error_number == errno.ETIMEDOUT
        cause = "no backend answered in time" if timed_out else "no backend accepted the connection"
        self.refuse(self.page(504 if timed_out else 502, cause, self.first_method))

    def find_no_answer(self):
        """Answer a client whose backend has taken the first request, and ended the connection without a byte."""
        backend = self.backend.backend
        if self.client.input is not ENDED:  # it may have ended because the client did, and that is nothing unusual
            backend.set.note_loss(backend, errno.ENODATA)
        self.refuse(self.page(502, "the backend ended the connection without an answer", self.first_method))

    def too_late(self):
        """Return the answer for a client that has taken too long."""
        return self.page(408, "the head of the request did not come in time")

    def page(self, status, cause, method=None):
        """Return an answer that says why a request (of a method, if that is known) is refused."""
        title = f"{status} {HTTPStatus(status).phrase}"
        text = f"{title}: {cause}.\n".encode()
        head = f"HTTP/1.1 {title}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n"
        head += "Connection: close\r\n\r\n"
        return head.encode() + (b"" if method == b"HEAD" else text)


class TlsGate(Gate):
    """Looks at a client's ClientHello, in which the server's name stands in the clear; what follows is encrypted."""

    def __init__(self, client, backend, entrance):
        """Come between the two sides of a new pair."""
        super().__init__(client, backend, entrance)
        self.hello = HelloReader()

    def look(self, data):
        """Look for the name, and when it is there, send the client on its way: from then on, bytes are just bytes."""
        try:
            name = self.hello.feed(data)
            if name is MORE:
                return
            host = self.find_host(name)
        except HelloError as error:
            self.refuse(alert(error.alert))
            return
        except RouteError:
            self.refuse(alert(INTERNAL_ERROR))
            return
        if host is None:
            self.refuse(alert(UNRECOGNIZED_NAME))
            return
        self.entrance.heads.stop(self)
        self.choose(host)
        if not self.refused:
            self.client.pass_on = self.backend.write
            self.backend.write(self.hello.received)
            self.hello = None

    def give_up(self):
        """Answer a client that has sent its end of file in the middle of its hello; without a byte, it just leaves."""
        if self.hello.received:
            self.refuse(alert(DECODE_ERROR))
        else:
            self.client.close_pair()

    def find_no_backend(self, error_number):
        """Answer a client for whom no backend could be reached."""
        self.refuse(alert(INTERNAL_ERROR))

    def too_late(self):
        """Return the answer for a client that has taken too long."""
        return alert(HANDSHAKE_FAILURE)
