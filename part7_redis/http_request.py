"""The requests of one client: read, checked, and rewritten for the backend (HTTP/1.x, RFC 9112).

What could be read in two ways is refused, never guessed: a backend must not see another request than we do. httptools
(llhttp, the parser of Node.js, in its strict mode) reads the heads; the rest is up to us:

* Where a head ends, and how long it may be.
* Methods that llhttp does not know, and targets with bytes above 127: it is shown others in their place.
* What llhttp lets through: two Hosts or none, "Transfer-Encoding: gzip, chunked", lengths beyond 63 bits, HTTP/2.0.
* Bodies. One with a length is counted, and passed on as it comes. A chunked one is read chunk by chunk (section 7.1),
  and passed on in the same chunks, but without their extensions, and without trailers.

Nothing here knows about sockets. Bytes come in by feed(), in pieces of any size, and the pieces make no difference.
"""

import functools
import re

from names import host_name

try:
    import httptools
except ImportError:
    httptools = None  # a config with hosts is told so


MAX_HEAD = 32768  # bytes of a request's head, the empty line included
MAX_HEADERS = 128  # lines of a head; each takes much more memory than the few bytes that it may be
MAX_CONNECTION = 1024  # bytes that all Connection headers have; each name in them is looked for in each header
MAX_LINE = 4096  # bytes of the line before a chunk, and of all the trailers of a body
MAX_LENGTH = 2**63 - 1  # bytes of a body; more would not fit a signed number of 64 bits
MAX_HELD = 131072  # bytes after the handshake of a WebSocket; a client has no reason to send any before the answer

LINE_ENDS = re.compile(rb"[\r\n]+")
METHOD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})( ?)")  # any token (RFC 9110, section 9.1), but not endless
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*;[\t -~\x80-\xff]*)?")  # the size, and maybe an extension
TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")

LONGEST_STATUS = 13  # bytes of an answer within which its status code has come
SWITCHED = re.compile(rb"HTTP/1\.1 101[ \r\n]")
INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")  # it comes before the answer (RFC 9110, section 15.2)
HEAD_END = re.compile(rb"\n\r?\n")  # of an answer; backends may be as careless as their clients allow

SHOWN_AS_IT_IS = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ")  # methods that llhttp knows
SHOWN_INSTEAD = b"POST"  # of any other; what llhttp makes of the headers doesn't depend on it
ALL_ASCII = bytes(byte if byte < 128 else ord("x") for byte in range(256))  # a table for bytes.translate
HAVE_BODIES = {b"POST", b"PUT", b"PATCH"}  # methods whose bodies all backends expect

# Headers that are not passed on just as they came; for others see Request.written_anew.
CLAIMS = {b"x-real-ip", b"forwarded"}  # who the client is, and what it asked for: believed only of a trusted one;
CLAIM = b"x-forwarded"  # and so are X-Forwarded-For, -Host, -Proto, -Port, -Ssl: all that begin like this
REWRITTEN = {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade"}
DROPPED = {
    *(b"keep-alive", b"proxy-connection", b"te", b"trailer", b"http2-settings"),  # for the next hop, and that's us
    b"proxy",  # a CGI backend makes HTTP_PROXY of it, and then uses that as its proxy
}
WATCHED = CLAIMS | REWRITTEN | DROPPED
# To CGI, all signs but letters and digits are the same in a name: for us it is "-".
AS_IN_CGI = bytes(sign if chr(sign).isalnum() and sign < 128 else ord("-") for sign in range(256))
TOKENS = {b"close", b"keep-alive", b"upgrade"}  # of Connection; others are names of headers
MISSPELT = b""  # the name of a header that only CGI takes for one that matters
VERSIONS = {b"HTTP/1.0", b"HTTP/1.1"}
NOTHING = ()  # the values of a header that is not there


class BadRequest(Exception):
    """A request that is refused."""

    def __init__(self, status, cause):
        """Take the status of the answer, and the cause in a few plain words."""
        super().__init__(cause)
        self.status = status


@functools.lru_cache(maxsize=256)  # the same few come again and again
def name_to_watch(name):
    """Return the name of a header in lower case if it needs a closer look, None if it is passed on as it is."""
    key = name.lower()
    plain = key.translate(AS_IN_CGI)
    if plain not in WATCHED and not plain.startswith(CLAIM):
        return None
    # A CGI backend takes X_Forwarded_For for X-Forwarded-For, and some take X.Forwarded.For, too: such are left out.
    return key if key == plain else MISSPELT


@functools.lru_cache(maxsize=256)
def connection_tokens(value):
    """Return what the value of a Connection header says: a tuple, in lower case. Raises BadRequest."""
    if len(value) > MAX_CONNECTION:
        raise BadRequest(431, f"a Connection header of more than {MAX_CONNECTION} bytes")
    return tuple(token.strip(b" \t") for token in value.lower().split(b","))


@functools.lru_cache(maxsize=256)
def connection_line(tokens, upgrade):
    """Return the Connection header for the backend.

    It has none but these tokens: "Connection: X-Forwarded-For" would ask the backend to drop that header.
    """
    passed_on = [token for token in (b"close", b"keep-alive", upgrade and b"upgrade") if token in tokens]
    return b"Connection: " + b", ".join(passed_on) + b"\r\n" if passed_on else b""


class Request:
    """The head of one request: httptools calls it with one part after the other, and then check() sees to the whole."""

    __slots__ = (
        *("method", "target", "version", "host", "upgrade", "length", "last"),
        *("trusted", "watched", "kept", "claims", "tokens", "complete"),
    )

    def __init__(self, trusted):
        """Begin with nothing, for a client whose claims are believed, or not."""
        self.trusted = trusted
        self.watched = {}  # a name in lower case -> the values of these headers: those that are rewritten
        self.kept = []  # what makes the lines of the others: for each, its name, b": ", its value, b"\r\n"
        self.claims = NOTHING  # the headers by which a trusted client says for whom it asks: pairs, name and value
        self.complete = False

    def on_header(self, name, value):
        """Take one header. llhttp has cut off the space before the value, but not the space after it."""
        key = name_to_watch(name)
        if key is None:
            self.kept += name, b": ", value.rstrip(b" \t"), b"\r\n"
        elif key in REWRITTEN:
            self.watched.setdefault(key, []).append(value.rstrip(b" \t"))
        elif self.trusted and (key in CLAIMS or key.startswith(CLAIM)):
            self.claims = (*self.claims, (name, value.rstrip(b" \t")))

    def on_headers_complete(self):
        """Note the end."""
        self.complete = True

    def count(self):
        """Return the number of headers so far."""
        return len(self.kept) // 4 + sum(map(len, self.watched.values())) + len(self.claims)

    @property
    def headers(self):
        """The headers, a list of pairs: name, in whatever case, and value (bytes). Those of one name are in order.

        What the backend does not get is not here either: nobody should go by what a stranger claims.
        """
        kept = self.kept_but_not_named()
        watched = [(name, value) for name, values in self.watched.items() for value in values]
        return [*zip(kept[::4], kept[2::4], strict=True), *watched, *self.claims]

    def check(self, parser, head, first):
        """Check a whole head (bytes) that a parser has read, the first of its connection or a later one.

        Raises BadRequest.
        """
        line = head[: head.index(b"\r\n")].split(b" ")
        if len(line) != 3 or line[2] not in VERSIONS or not self.complete:
            version = parser.get_http_version()
            if version not in ("1.0", "1.1"):
                raise BadRequest(505, f"HTTP/{version}, where only 1.0 and 1.1 are spoken")
            # llhttp takes more spaces, too, and RTSP/1.0
            raise BadRequest(400, "malformed HTTP: the first line is not a method, a target and a version")
        # Such as GET; /path?query or *, once find_host has had a look at it; HTTP/1.1 or HTTP/1.0.
        self.method, self.target, self.version = line
        self.length = self.find_length()  # bytes of the body; None: it comes in chunks
        self.host = self.find_host()  # a name as host_name makes it; None: HTTP/1.0 without any
        said = self.watched.get(b"connection")
        self.tokens = connection_tokens(b",".join(said)) if said else NOTHING
        # Whether what comes after it is no request any more (RFC 9112, section 9.6).
        self.last = b"close" in self.tokens or self.version == b"HTTP/1.0" and b"keep-alive" not in self.tokens
        self.upgrade = b"upgrade" in self.watched and self.is_handshake(first)  # of a WebSocket
        if self.length != 0 and self.method not in HAVE_BODIES:
            self.ask_for_close()  # there are backends that look for no body here, and take it for the next request

    def find_length(self):
        """Return the length of the body, None for chunks (RFC 9112, section 6.3)."""
        lengths, encodings = self.watched.get(b"content-length"), self.watched.get(b"transfer-encoding")
        if encodings:
            if lengths:
                raise BadRequest(400, "both Content-Length and Transfer-Encoding")
            if len(encodings) > 1 or encodings[0].lower() != b"chunked" or self.version == b"HTTP/1.0":
                raise BadRequest(400, "a Transfer-Encoding other than chunked, once, in HTTP/1.1")
            return None
        if not lengths:
            return 0
        if len(lengths) > 1:
            raise BadRequest(400, "two Content-Lengths")
        digits = lengths[0].lstrip(b"0") or b"0"
        if not lengths[0].isdigit() or len(digits) > 19 or int(digits) > MAX_LENGTH:
            raise BadRequest(400, "a Content-Length that is no number, or beyond any measure")
        return int(digits)

    def find_host(self):
        """Return the host (RFC 9112, section 3.2), and put the target into the form that any backend understands."""
        hosts = self.watched.get(b"host", NOTHING)
        if len(hosts) > 1:
            raise BadRequest(400, "two Host headers")
        host = host_name(hosts[0].decode("latin-1")) if hosts else None
        if host is None and (hosts or self.version != b"HTTP/1.0"):
            raise BadRequest(400, "a Host that is not a host name" if hosts else "no Host header")
        form = self.target[:1]
        if ord("#") in self.target or form == b"*" and (self.method, self.target) != (b"OPTIONS", b"*"):
            raise BadRequest(400, "a target that is no path")
        return host if form in (b"/", b"*") else self.find_host_in_target(host)

    def find_host_in_target(self, host):
        """Do the same for a target in absolute form (section 3.2.2), which has to agree with the Host header."""
        if self.target[:7].lower() != b"http://":
            raise BadRequest(400, "a target that is neither a path nor begins with http://")
        authority = re.match(rb"[^/?]*", self.target[7:])[0]
        name = host_name(authority.decode("latin-1"))
        if name is None:
            raise BadRequest(400, "a target without a host name")
        if host not in (name, None):
            raise BadRequest(400, "a target that is for another host than the Host header says")
        if host is None:
            self.watched[b"host"] = [authority]
        path = self.target[7 + len(authority) :]
        root = b"*" if self.method == b"OPTIONS" and not path else b"/"
        self.target = path if path.startswith(b"/") else root + path
        return name

    def is_handshake(self, first):
        """Return True if this asks for a WebSocket (RFC 6455, section 4.1); any other Upgrade is forgotten."""
        values = self.watched[b"upgrade"]
        is_plain = self.method == b"GET" and self.version == b"HTTP/1.1" and self.length == 0
        if not is_plain or [value.lower() for value in values] != [b"websocket"] or b"upgrade" not in self.tokens:
            del self.watched[b"upgrade"]
            return False
        if not first:  # Simplified: to find the answer, we would have to read all the answers before it
            raise BadRequest(400, "a WebSocket needs a new connection; this one has been used for requests already")
        return True

    def ask_for_close(self):
        """Ask the backend to end the connection after its answer."""
        self.last = True  # one after it would be lost, and a backend that closes with bytes unread resets its answer
        self.tokens = (b"close", *(token for token in self.tokens if token != b"keep-alive"))

    def kept_but_not_named(self):
        """Return what is kept, without the headers that Connection names: they are for this hop (section 7.6.1)."""
        lines = [self.kept[start : start + 4] for start in range(0, len(self.kept), 4)]
        return [piece for line in lines if line[0].lower() not in self.tokens for piece in line]

    def written_anew(self, address):
        """Return the head as the backend gets it: what concerns this hop is dropped or replaced, and the rest kept."""
        watched = self.watched
        lines = [self.method, b" ", self.target, b" ", self.version, b"\r\n"]
        if b"host" in watched:
            lines += b"Host: ", watched[b"host"][0], b"\r\n"
        lines += self.kept if TOKENS.issuperset(self.tokens) else self.kept_but_not_named()
        if self.length is None:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        elif b"content-length" in watched:
            lines.append(b"Content-Length: %d\r\n" % self.length)
        if self.tokens:
            lines.append(connection_line(self.tokens, self.upgrade))
        if self.upgrade:
            lines.append(b"Upgrade: websocket\r\n")
        if self.claims:
            mine = [value for name, value in self.claims if name.lower() == b"x-forwarded-for" and value]
            address = b", ".join([*mine, address])
            lines += [b"%b: %b\r\n" % pair for pair in self.claims if pair[0].lower() != b"x-forwarded-for"]
        lines += b"X-Forwarded-For: ", address, b"\r\n\r\n"
        return b"".join(lines)


def after_interim(answer: bytes) -> bytes:
    """Return a backend's answer without the interim ones that come first, such as 100 Continue or 103 Early Hints.

    The last of them stays as long as it has not come to its end.
    """
    while INTERIM.match(answer) and (end := HEAD_END.search(answer)):
        answer = answer[end.end() :]
    return answer


def has_switched(answer: bytes) -> bool | None:
    """Return whether a backend agrees to an upgrade, by the beginning of its answer; None while that can't be known.

    The answer is as after_interim returns it.
    """
    if INTERIM.match(answer):
        return None if len(answer) <= MAX_HEAD else False
    if len(answer) < LONGEST_STATUS and b"\n" not in answer:
        return None
    return SWITCHED.match(answer) is not None


class RequestReader:
    """Reads what one client sends, and says what the backend gets instead."""

    def __init__(self, on_head, peer_address: str, trusted: bool):
        """Begin a connection.

        on_head(request) is called for each sound request, before any of it is passed on, and tells whether that may be
        done at once; if not, everything waits for let_pass(). What it raises comes out of feed(). The client's address
        goes into X-Forwarded-For: alone, or, when the client is trusted, behind what it claims itself.
        """
        self.on_head = on_head
        self.address = (peer_address.removeprefix("::ffff:") if "." in peer_address else peer_address).encode()
        self.trusted = trusted
        self.output = []  # bytes for the backend
        self.head = bytearray()  # of the next request, as far as it has come
        self.request = self.parser = None  # the next request, and httptools' parser of its head, as soon as it begins
        self.first = True  # no head has been complete yet
        self.line = b""  # in a chunked body: a line as far as it has come
        self.left = 0  # bytes to come: of the body, or of the chunk; among trailers: that they may still take
        self.held = b""  # what came behind the handshake of a WebSocket, until tunnel() or go_on()
        # What reads the next bytes, and what does so after the body. (Bound methods would make a reference cycle.)
        self.step = self.after_body = RequestReader.read_head

    @property
    def in_head(self) -> bool:
        """Whether a head has begun, and not come to its end."""
        return bool(self.head)

    @property
    def idle(self) -> bool:
        """Whether the next byte would begin a request."""
        return self.step is RequestReader.read_head and not self.head

    @property
    def waiting_for_upgrade(self) -> bool:
        """Whether it depends on the backend's answer what comes next: see tunnel() and go_on()."""
        return self.step is RequestReader.hold

    def take(self) -> bytes:
        """Return what the backend is to get next, and forget it."""
        output = b"".join(self.output)
        self.output.clear()
        return output

    def feed(self, data: bytes) -> None:
        """Read a piece of what the client sends; raise BadRequest, after which nothing more is read.

        What came before a bad request is in the output. That is about as long as what was fed: a request grows by
        less than 100 bytes.
        """
        position = 0
        try:
            while position < len(data):
                position = self.step(self, data, position)
        except BadRequest:
            self.step = RequestReader.ignore
            self.request = self.parser = None  # the client may linger, and need not take so much memory
            self.head = bytearray()
            raise

    def tunnel(self) -> None:
        """Pass on everything from now on, as it comes: the backend has switched to the WebSocket's protocol."""
        self.step = RequestReader.pass_on
        self.release()

    def go_on(self) -> None:
        """Read requests from now on, as before: the backend has not switched. Raises BadRequest."""
        self.step = self.after_body
        self.release()

    def release(self):
        """Read what has been held."""
        held, self.held = self.held, b""
        self.feed(held)

    # Each of the following methods reads from a position in the data on, and returns the position that it came to.

    def read_head(self, data, start):
        """Read a head, up to the empty line. llhttp gets the bytes as they come, and complains at once."""
        if not self.head and data[start] in b"\r\n":  # empty lines before a request mean nothing (section 2.2)
            return LINE_ENDS.match(data, start).end()
        tail = bytes(self.head[-3:]) if self.head else b""  # the end may have begun there; in that case start is 0
        found = (tail + data).find(b"\r\n\r\n") if tail else data.find(b"\r\n\r\n", start)
        end = len(data) if found < 0 else found + 4 - len(tail)
        piece = data[start:end]
        room = MAX_HEAD - len(self.head)
        self.parse(piece[:room])
        if len(piece) > room:
            raise BadRequest(431, f"a head of more than {MAX_HEAD} bytes")
        self.head += piece
        if found >= 0:
            self.finish_head()
        return end

    def parse(self, piece):
        """Give llhttp a piece of a head."""
        if self.parser is None:
            if self.head or not piece.startswith(SHOWN_AS_IT_IS):
                piece = self.read_method(bytes(self.head) + piece)
                if not piece:
                    return
            self.request = Request(self.trusted)
            self.parser = httptools.HttpRequestParser(self.request)
        if not piece.isascii() and b"\n" not in self.head:
            line, newline, rest = piece.partition(b"\n")
            piece = line.translate(ALL_ASCII) + newline + rest
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # so ends a head with Upgrade, and we look at that ourselves
        except httptools.HttpParserError as error:
            raise BadRequest(505 if "HTTP version" in str(error) else 400, f"malformed HTTP: {error}") from None
        if len(self.head) + len(piece) > MAX_HEADERS * len("a:\r\n") and self.request.count() > MAX_HEADERS:
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
        if found[1] == b"PRI":  # so begins HTTP/2 (RFC 9113, section 3.4)
            raise BadRequest(505, "HTTP/2, where only 1.0 and 1.1 are spoken")
        return SHOWN_INSTEAD + text[found.end(1) :]

    def finish_head(self):
        """Check the head that is complete now, and pass it on."""
        parser, head, first = self.parser, self.head, self.first
        self.parser, self.head, self.first = None, bytearray(), False
        self.request.check(parser, bytes(head), first)
        if self.on_head(self.request):
            self.pass_head()
        else:
            self.step = RequestReader.hold

    def let_pass(self) -> None:
        """Pass on the request for which on_head had to wait, and read on. Raises BadRequest."""
        self.pass_head()
        self.release()

    def pass_head(self):
        """Pass on the last head, and see what is to be read behind it."""
        request, self.request = self.request, None
        self.output.append(request.written_anew(self.address))
        self.after_body = RequestReader.ignore if request.last else RequestReader.read_head
        if request.length is None:
            self.step = RequestReader.read_chunk_line
        elif request.length:
            self.left = request.length
            self.step = RequestReader.read_body
        else:
            self.step = RequestReader.hold if request.upgrade else self.after_body

    def read_body(self, data, start):
        """Pass on some of a body that has a length."""
        piece = data[start : start + self.left]
        self.output.append(piece)
        self.left -= len(piece)
        if not self.left:
            self.step = self.after_body
        return start + len(piece)

    def read_chunk_line(self, data, start):
        """Read the line before a chunk; the last chunk has the size 0."""
        line, end = self.read_line(data, start)
        if line is not None:
            found = CHUNK_LINE.fullmatch(line)
            if not found:
                raise BadRequest(400, "a chunk does not begin with its size")
            self.left = int(found[1], 16)
            if self.left:
                self.output.append(b"%x\r\n" % self.left)
                self.step = RequestReader.read_chunk
            else:
                self.left = MAX_LINE
                self.step = RequestReader.read_trailer
        return end

    def read_chunk(self, data, start):
        """Pass on some of a chunk."""
        piece = data[start : start + self.left]
        self.output.append(piece)
        self.left -= len(piece)
        if not self.left:
            self.step = RequestReader.read_chunk_end
        return start + len(piece)

    def read_chunk_end(self, data, start):
        """Read the end of the line behind a chunk."""
        line, end = self.read_line(data, start, longest=2)
        if line is not None:
            self.output.append(b"\r\n")
            self.step = RequestReader.read_chunk_line
        return end

    def read_trailer(self, data, start):
        """Read a line behind the last chunk, and drop it: what comes so late has not been checked by anybody."""
        line, end = self.read_line(data, start, longest=self.left)
        if line:
            self.left -= len(line) + 2
            if not TRAILER.fullmatch(line):
                raise BadRequest(400, "a trailer that is no header")
        elif line is not None:
            self.output.append(b"0\r\n\r\n")
            self.step = self.after_body
        return end

    def read_line(self, data, start, longest=MAX_LINE):
        """Read a line of so many bytes; return it without its end, or None if that has not come, and the position."""
        room = longest - len(self.line)
        newline = data.find(b"\n", start, start + room)
        piece = data[start : start + room if newline < 0 else newline + 1]
        self.line += piece
        if newline < 0:
            if len(self.line) == longest:
                raise BadRequest(400, "a chunk, or its line, or trailers that are too long")
            return None, start + len(piece)
        line, self.line = self.line, b""
        if not line.endswith(b"\r\n"):
            raise BadRequest(400, "a line in a chunked body that does not end with CRLF")
        return line[:-2], start + len(piece)

    def hold(self, data, start):
        """Keep what came after the handshake of a WebSocket."""
        self.held += data[start:]
        if len(self.held) > MAX_HELD:
            raise BadRequest(400, "too much after the handshake of a WebSocket")
        return len(data)

    def pass_on(self, data, start):
        """Pass on what a WebSocket is made of."""
        self.output.append(data[start:])
        return len(data)

    def ignore(self, data, start):
        """Drop what comes behind a last request, or behind a bad one."""
        return len(data)
