"""Reads the requests of one client (HTTP/1.x, RFC 9112): bytes go in, and requests and pieces of their bodies come out.

Nothing here knows about sockets or pairs. Bytes come in by feed(), in pieces of any size, and the pieces make no
difference. next_event() returns one thing after another, when it is called, as in h11: to wait, don't call it.

httptools (llhttp, the parser of Node.js, in its strict mode) reads the heads. Where a head ends, and how long it may
be, is up to us. llhttp also rejects methods that it does not know, and bytes above 127 in a target, so it is shown
others in their place.
"""

import re

from request_body import ChunkedBody, LengthBody
from request_head import BadRequest, Request, httptools

MAX_HEAD = 32768  # bytes of a request's head, the empty line included
MAX_HEADERS = 128  # lines of a head; each takes much more memory than the few bytes that it may be

LINE_ENDS = re.compile(rb"[\r\n]+")
METHOD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})( ?)")  # any token (RFC 9110, section 9.1), but not endless
SHOWN_AS_IT_IS = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ")  # methods that llhttp knows
SHOWN_INSTEAD = b"POST"  # of any other; what llhttp makes of the headers doesn't depend on it
ALL_ASCII = bytes(byte if byte < 128 else ord("x") for byte in range(256))  # a table for bytes.translate

NEED_DATA = object()  # next_event: nothing more can be said about what was fed


class RequestReader:
    """Reads what one client sends."""

    def __init__(self, trusted):
        """Begin a connection of a client that may speak for other clients, or not."""
        self.trusted = trusted
        self.data = b""  # what was fed last
        self.position = 0  # in data, of the first byte that has not been read
        self.head = bytearray()  # of the next request, as far as it has come
        self.next_request = self.parser = None  # the next request, and httptools' parser of its head, once it has begun
        self.request = None  # the one that next_event has returned last
        self.body = None  # reads what is left of its body
        self.is_first = True  # no head has been complete yet
        self.is_last = False  # what comes after this request, and its body, is not a request any more

    @property
    def in_head(self) -> bool:
        """Whether a head has begun, and not come to its end."""
        return bool(self.head)

    @property
    def bytes_left(self) -> int:
        """How many more bytes certainly belong to a body."""
        return self.body.bytes_left if self.body else 0

    @property
    def has_rest(self) -> bool:
        """Whether something of what was fed has not been read."""
        return self.position < len(self.data)

    def feed(self, data: bytes) -> None:
        """Add a piece of what the client sends."""
        self.data = self.data[self.position :] + data if self.has_rest else data
        self.position = 0

    def take_rest(self) -> bytes:
        """Return what was fed and has not been read, and forget it."""
        rest, self.data, self.position = self.data[self.position :], b"", 0
        return rest

    def next_event(self) -> Request | bytes | object:
        """Return a Request whose head is complete, a piece of its body as the backend gets it, or NEED_DATA.

        Raises BadRequest, after which there are no more events.
        """
        if self.request:
            self.begin_body()
        try:
            while self.has_rest:
                if self.body:
                    if piece := self.read_body():
                        return piece
                elif self.is_last:
                    break
                elif self.read_head():
                    return self.request
        except BadRequest:
            self.is_last = True
            # The client may stay a while, so nothing of it is kept.
            self.head, self.next_request, self.parser, self.body = bytearray(), None, None, None
            raise
        self.data, self.position = b"", 0  # for an idle client, nothing is kept
        return NEED_DATA

    def begin_body(self):
        """See what comes after the head that was returned last; by now, it may have been asked to be the last one."""
        request, self.request = self.request, None
        self.is_last = request.closes_connection
        if request.length != 0:
            self.body = ChunkedBody() if request.length is None else LengthBody(request.length)

    def read_body(self):
        """Return the next piece of a body."""
        piece, self.position = self.body.read(self.data, self.position)
        if self.body.is_complete:
            self.body = None
        return piece

    def read_head(self):
        """Read a head, up to the empty line; return True when it is complete."""
        data, start = self.data, self.position
        if not self.head and data[start] in b"\r\n":  # empty lines before a request mean nothing (section 2.2)
            self.position = LINE_ENDS.match(data, start).end()
            return False
        tail = bytes(self.head[-3:]) if self.head else b""  # the end may have begun there; in that case start is 0
        found = (tail + data).find(b"\r\n\r\n") if tail else data.find(b"\r\n\r\n", start)
        self.position = len(data) if found < 0 else found + 4 - len(tail)
        piece = data[start : self.position]
        room = MAX_HEAD - len(self.head)
        self.parse(piece[:room])
        if len(piece) > room:
            raise BadRequest(431, f"a head of more than {MAX_HEAD} bytes")
        self.head += piece
        if found < 0:
            return False
        self.finish_head()
        return True

    def parse(self, piece):
        """Give llhttp a piece of a head, as it comes: it complains at once."""
        if self.parser is None:
            if self.head or not piece.startswith(SHOWN_AS_IT_IS):
                piece = self.read_method(bytes(self.head) + piece)
                if not piece:
                    return
            self.next_request = Request(self.trusted)
            self.parser = httptools.HttpRequestParser(self.next_request)
        if not piece.isascii() and b"\n" not in self.head:
            line, newline, rest = piece.partition(b"\n")
            piece = line.translate(ALL_ASCII) + newline + rest
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # this is how a head with Upgrade ends, and we look at that ourselves
        except httptools.HttpParserError as error:
            raise BadRequest(505 if "HTTP version" in str(error) else 400, f"malformed HTTP: {error}") from None
        has_room = len(self.head) + len(piece) <= MAX_HEADERS * len("a:\r\n")
        if not has_room and self.next_request.count_headers() > MAX_HEADERS:
            raise BadRequest(431, f"more than {MAX_HEADERS} headers")

    def read_method(self, text):
        """Return the beginning of a head as llhttp is to see it, with a method that it knows.

        It is b"" as long as the method has not come to its end. Raises BadRequest.
        """
        found = METHOD.match(text)
        if not found or not found[2] and found.end() < len(text):
            raise BadRequest(400, "malformed HTTP: the first line does not begin with a method")
        if not found[2]:
            return b""
        if found[1] == b"CONNECT":
            raise BadRequest(400, "CONNECT is for another kind of proxy")
        if found[1] == b"PRI":  # this is how HTTP/2 begins (RFC 9113, section 3.4)
            raise BadRequest(505, "HTTP/2, where only 1.0 and 1.1 are spoken")
        return SHOWN_INSTEAD + text[found.end(1) :]

    def finish_head(self):
        """Check the head that is complete now."""
        self.next_request.check(self.parser, bytes(self.head), self.is_first)
        self.request, self.next_request, self.parser, self.head = self.next_request, None, None, bytearray()
        self.is_first = False
