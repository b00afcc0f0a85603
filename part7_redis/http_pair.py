"""A pair that looks at every request of its client; the first request's host is where the connection leads.

It pulls requests out of a RequestReader, which has checked them, and writes them to the backend; answers pass as they
come. A later request for another host is refused: its answer would have to wait for the first one's. A client that asks
for a WebSocket is WAITING until the backend has agreed or not; after a 101, bytes are just bytes, in both directions.

What follows, before the tables of looking_pair.py and pair.py
    the backend's input has ENDED, it has not said a
      byte (is_unanswered), there is no refusal yet,
      and the client is OPEN                             on_no_answer: refuse
    WAITING for THE_ANSWER, and
      the backend's input has ENDED                      on_answer: go on without one
      the end of file may be next (read_until_empty),
        the reader has nothing left, a peek finds it     the client's input -> ENDED

The backend hears of such an end at once; after other bytes, the end has to wait until these may be passed on.

The status codes are those of RFC 9110 and RFC 6585.
"""

import errno
from http import HTTPStatus
from socket import MSG_PEEK

from connection import BUFFER_SIZE, ENDED, OPEN
from looking_pair import LOOKING, LookingPair
from request_head import BadRequest, Request
from request_reader import NEED_DATA, RequestReader
from upgrade_answer import UpgradeAnswer

HEAD_READ_SIZE = 1024  # bytes of a client's requests in one read, unless they are known to belong to a body
THE_ANSWER = "the answer to an upgrade"  # that a pair may be waiting_for


class HttpPair(LookingPair):
    """Sends a client's requests to the host that the first one names."""

    __slots__ = "address roams reader output request name first_method is_unanswered answer".split()

    def __init__(self, client_socket, client_address, backend_socket, service):
        """Begin with nothing read."""
        super().__init__(client_socket, client_address, backend_socket, service)
        self.address = client_address[0].encode()  # for the backend
        trusted = service.is_trusted is not None and service.is_trusted(client_address[0])  # to speak for other clients
        self.roams = trusted or service.sites.route is not None  # its next request may be for another host
        self.reader = RequestReader(trusted)
        self.output = []  # bytes for the backend, from what is being read
        self.request = None  # whose host is being looked up
        self.name = None  # of the host, in the first request
        self.first_method = None  # of the same
        self.is_unanswered = False  # the first request is on its way, and the backend has not said a byte yet
        self.answer = None  # an UpgradeAnswer
        self.client.read_limit = HEAD_READ_SIZE

    def on_read(self, data):
        """Read what the client has sent, and go on."""
        self.reader.feed(bytes(data))
        self.go_on()
        # A megabyte of a body is soon passed on; as tiny requests, or in tiny chunks, it would take most of a second.
        left = self.reader.bytes_left
        self.client.read_limit = HEAD_READ_SIZE if left <= HEAD_READ_SIZE else min(left, BUFFER_SIZE)

    def go_on(self):
        """Pull requests and pieces of bodies out of the reader, until it has none, or something has to be awaited."""
        reader = self.reader
        try:
            while not (self.waiting_for or self.refusal) and (event := reader.next_event()) is not NEED_DATA:
                if isinstance(event, Request):
                    self.on_request(event)
                else:
                    self.output.append(event)
        except BadRequest as error:
            self.refuse(error_page(error.status, str(error)))
        if self.output:
            self.backend.write(b"".join(self.output))
            self.output.clear()
        if reader.in_head and not self.refusal and self not in self.service.head_deadlines.due:
            self.service.head_deadlines.start(self)

    def on_request(self, request):
        """Send a request on its way, or refuse it."""
        self.service.head_deadlines.stop(self)
        if self.host is not None and request.host == self.name and not self.roams:
            self.pass_on(request)
            return
        self.request = request
        self.find_host(request.host, request)

    def found(self, host, error=None):
        """Send a request to its host; refuse it where there is none (None), an error, or not the first one's host."""
        request, self.request = self.request, None
        if error:
            self.refuse(error_page(error.status, error.cause, request.method))
        elif host is None:
            self.refuse(error_page(404, "no site with this name here", request.method))
        elif self.host is None:
            self.name, self.first_method = request.host, request.method
            self.is_unanswered = True
            self.backend.on_read = self.on_first_bytes
            self.connect_to_host(host)
        elif host.name != self.host.name:  # by name: a set that changes moves no client
            self.refuse(error_page(421, "this connection leads to another host", request.method))
        if not self.refusal:
            self.pass_on(request)

    def pass_on(self, request):
        """Write a request to the backend; after an upgrade, wait for the answer."""
        if self.roams and not request.upgrade:
            request.ask_for_close()
        self.output.append(request.to_bytes(self.address))
        if request.upgrade:
            self.wait_for(THE_ANSWER)
            self.answer = UpgradeAnswer()
            self.backend.on_read = self.watch_for_101

    def on_first_bytes(self, data):
        """Note that the backend answers, and pass that on; from now on, it is not looked at."""
        self.is_unanswered = False
        self.backend.on_read = self.client.write
        self.client.write(data)

    def watch_for_101(self, data):
        """Pass the answer on, and look whether the backend has agreed to speak another protocol."""
        self.is_unanswered = False
        self.client.write(data)
        has_switched = self.answer.feed(bytes(data))
        if has_switched is not None:
            self.on_answer(has_switched)

    def on_answer(self, has_switched=False):
        """Read the client again: requests, or, if the backend has agreed, whatever both sides like."""
        self.backend.on_read = self.client.write
        self.answer = None
        self.stop_waiting()
        if has_switched:
            self.client.on_read, self.client.read_limit = self.backend.write, BUFFER_SIZE
            self.backend.write(self.reader.take_rest())
        else:
            self.go_on()

    def next_step(self):
        """Return the method that is due, or None: the table at the head of this module, then the others'."""
        if self.is_unanswered and not self.refusal and self.backend.input is ENDED and self.client.output is OPEN:
            return self.on_no_answer
        if self.waiting_for is THE_ANSWER:
            if self.backend.input is ENDED:
                return self.on_answer
            if self.client.read_until_empty and self.is_at_end():
                return self.client.end_input
        return LookingPair.next_step(self)  # For speed: not by super(), as in looking_pair.py

    def is_at_end(self):
        """Return True if the client's end of file is what comes next."""
        if self.client.input is ENDED or self.reader.has_rest:
            return False
        try:
            return not self.client.socket.recv(1, MSG_PEEK)
        except OSError:  # nothing yet, or a reset, which the socket's own events will report
            return False

    def on_early_end(self):
        """Answer a client that has sent its end of file before it was known what it wants."""
        if self.reader.in_head:
            self.refuse(error_page(400, "the request ends in the middle of its head"))
        else:
            self.finish()

    def on_no_backend(self, error_number):
        """Answer a client, since no backend could be reached."""
        timed_out = error_number == errno.ETIMEDOUT
        cause = "no backend answered in time" if timed_out else "no backend accepted the connection"
        self.refuse(error_page(504 if timed_out else 502, cause, self.first_method))

    def on_no_answer(self):
        """Answer a client whose backend has taken the first request, and ended the connection without a byte."""
        if self.client.input is not ENDED:  # it may have ended because the client did, and that is nothing unusual
            self.chosen.set.note_loss(self.chosen, errno.ENODATA)
        self.is_unanswered = False
        self.refuse(error_page(502, "the backend ended the connection without an answer", self.first_method))
        self.phase = LOOKING  # there will be no answer to wait for

    def timeout_page(self):
        """Return the answer for a client that has taken too long."""
        return error_page(408, "the head of the request did not come in time")


def error_page(status, cause, method=None):
    """Return an answer (bytes) that says why a request (of a method, if that is known) is refused."""
    title = f"{status} {HTTPStatus(status).phrase}"
    text = f"{title}: {cause}.\n".encode()
    head = f"HTTP/1.1 {title}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n"
    head += "Connection: close\r\n\r\n"
    return head.encode() + (b"" if method == b"HEAD" else text)
