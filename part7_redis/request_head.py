"""The head of a request: checked, and rewritten for the backend (HTTP/1.x, RFC 9112).

No sockets and no pairs here: a Request gets the parts of a head, and to_bytes() returns the head for the backend.

What could be read in two ways is refused, never guessed: a backend must not see another request than we do. httptools
(llhttp, the parser of Node.js, in its strict mode) takes a head apart, for request_reader.py; what it lets through is
checked here: two Hosts or none, "Transfer-Encoding: gzip, chunked", lengths beyond 63 bits, HTTP/2.0.
"""

import functools
import re

from names import host_name

try:
    import httptools
except ImportError:
    httptools = None  # settings.py says so when a config has hosts

MAX_CONNECTION = 1024  # bytes that all Connection headers have; each name in them is looked for in each header
MAX_LENGTH = 2**63 - 1  # bytes of a body; more would not fit a signed number of 64 bits

HAVE_BODIES = {b"POST", b"PUT", b"PATCH"}  # methods whose bodies all backends expect

# Headers that are not passed on just as they came; for others see Request.to_bytes.
CLIENT_HEADERS = {b"x-real-ip", b"forwarded"}  # who the client is, and what it asked for: believed if it is trusted;
CLIENT_PREFIX = b"x-forwarded"  # and so are X-Forwarded-For, -Host, -Proto, -Port, -Ssl: all that begin like this
REWRITTEN = {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade"}
DROPPED = {
    *(b"keep-alive", b"proxy-connection", b"te", b"trailer", b"http2-settings"),  # for the next hop, and that's us
    b"proxy",  # a CGI backend makes HTTP_PROXY of it, and then uses that as its proxy
}
SPECIAL_HEADERS = CLIENT_HEADERS | REWRITTEN | DROPPED
# To CGI, all signs but letters and digits are the same in a name: for us it is "-".
AS_IN_CGI = bytes(sign if chr(sign).isalnum() and sign < 128 else ord("-") for sign in range(256))
KNOWN_CONNECTION_OPTIONS = {b"close", b"keep-alive", b"upgrade"}  # of Connection; others are names of headers
MISSPELT = b""  # the name of a header that only CGI takes for one that matters
VERSIONS = {b"HTTP/1.0", b"HTTP/1.1"}
NOTHING = ()  # the values of a header that is not there


class BadRequest(Exception):
    """A request that is refused."""

    def __init__(self, status, cause):
        """Keep the status of the answer, and the cause in a few plain words."""
        super().__init__(cause)
        self.status = status


@functools.lru_cache(maxsize=256)  # For speed: the same few come again and again; all caches together save 26 %
def special_name(name):
    """Return the name of a header in lower case if it needs a closer look, None if it is passed on as it is."""
    key = name.lower()
    plain = key.translate(AS_IN_CGI)
    if plain not in SPECIAL_HEADERS and not plain.startswith(CLIENT_PREFIX):
        return None
    # A CGI backend takes X_Forwarded_For for X-Forwarded-For, and some take X.Forwarded.For, too: these are left out.
    return key if key == plain else MISSPELT


@functools.lru_cache(maxsize=256)  # For speed
def connection_tokens(value):
    """Return what the value of a Connection header says: a tuple, in lower case. Raises BadRequest."""
    if len(value) > MAX_CONNECTION:
        raise BadRequest(431, f"a Connection header of more than {MAX_CONNECTION} bytes")
    return tuple(token.strip(b" \t") for token in value.lower().split(b","))


@functools.lru_cache(maxsize=256)  # For speed
def connection_line(tokens, upgrade):
    """Return the Connection header for the backend.

    It has none but these tokens: "Connection: X-Forwarded-For" would ask the backend to drop that header.
    """
    passed_on = [token for token in (b"close", b"keep-alive", upgrade and b"upgrade") if token in tokens]
    return b"Connection: " + b", ".join(passed_on) + b"\r\n" if passed_on else b""


class Request:
    """The head of one request: httptools calls it with one part after the other; then check() looks at the whole."""

    __slots__ = (
        *("method", "target", "version", "host", "upgrade", "length", "closes_connection"),
        *("trusted", "special", "kept", "claims", "tokens", "complete"),
    )

    def __init__(self, trusted):
        """Begin with nothing, for a client whose claims are believed, or not."""
        self.trusted = trusted
        self.special = {}  # a name in lower case -> the values of these headers, which are rewritten
        # What makes the lines of the others: for each, its name, b": ", its value, b"\r\n". For speed: one flat list;
        # with a list of pairs, a head costs 6 % more.
        self.kept = []
        self.claims = NOTHING  # a trusted client's headers about the client that it asks for: pairs, name and value
        self.complete = False

    def on_header(self, name, value):
        """Note one header. llhttp has cut off the space before the value, but not the space after it."""
        key = special_name(name)
        if key is None:
            self.kept += name, b": ", value.rstrip(b" \t"), b"\r\n"
        elif key in REWRITTEN:
            self.special.setdefault(key, []).append(value.rstrip(b" \t"))
        elif self.trusted and (key in CLIENT_HEADERS or key.startswith(CLIENT_PREFIX)):
            self.claims = (*self.claims, (name, value.rstrip(b" \t")))

    def on_headers_complete(self):
        """Note the end."""
        self.complete = True

    def count_headers(self):
        """Return how many lines of headers there are so far."""
        return len(self.kept) // 4 + sum(map(len, self.special.values())) + len(self.claims)

    @property
    def headers(self):
        """The headers, a list of pairs: name, in whatever case, and value (bytes). For each name, they are in order.

        What the backend does not get is not here either: no route should go by what a stranger claims.
        """
        kept = self.end_to_end_headers()
        special = [(name, value) for name, values in self.special.items() for value in values]
        return [*zip(kept[::4], kept[2::4], strict=True), *special, *self.claims]

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
        said = self.special.get(b"connection")
        self.tokens = connection_tokens(b",".join(said)) if said else NOTHING
        # Whether what comes after it is not a request any more (RFC 9112, section 9.6).
        self.closes_connection = (
            b"close" in self.tokens or self.version == b"HTTP/1.0" and b"keep-alive" not in self.tokens
        )
        self.upgrade = b"upgrade" in self.special and self.is_handshake(first)  # of a WebSocket
        if self.length != 0 and self.method not in HAVE_BODIES:
            self.ask_for_close()  # some backends look for no body here, and take it for the next request

    def find_length(self):
        """Return the length of the body, None for chunks (RFC 9112, section 6.3)."""
        lengths, encodings = self.special.get(b"content-length"), self.special.get(b"transfer-encoding")
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
            raise BadRequest(400, "a Content-Length that is not a number, or too large")
        return int(digits)

    def find_host(self):
        """Return the host (RFC 9112, section 3.2), and put the target into the form that any backend understands."""
        hosts = self.special.get(b"host", NOTHING)
        if len(hosts) > 1:
            raise BadRequest(400, "two Host headers")
        host = host_name(hosts[0].decode("latin-1")) if hosts else None
        if host is None and (hosts or self.version != b"HTTP/1.0"):
            raise BadRequest(400, "a Host that is not a host name" if hosts else "no Host header")
        form = self.target[:1]
        if ord("#") in self.target or form == b"*" and (self.method, self.target) != (b"OPTIONS", b"*"):
            raise BadRequest(400, "a target that is not a path")
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
            self.special[b"host"] = [authority]
        path = self.target[7 + len(authority) :]
        root = b"*" if self.method == b"OPTIONS" and not path else b"/"
        self.target = path if path.startswith(b"/") else root + path
        return name

    def is_handshake(self, first):
        """Return True if this asks for a WebSocket (RFC 6455, section 4.1); any other Upgrade is forgotten."""
        values = self.special[b"upgrade"]
        is_plain = self.method == b"GET" and self.version == b"HTTP/1.1" and self.length == 0
        if not is_plain or [value.lower() for value in values] != [b"websocket"] or b"upgrade" not in self.tokens:
            del self.special[b"upgrade"]
            return False
        if not first:  # Simplified: to find the answer, we would have to read all the answers before it
            raise BadRequest(400, "a WebSocket needs a new connection; this one has been used for requests already")
        return True

    def ask_for_close(self):
        """Ask the backend to end the connection after its answer."""
        # A request after it would be lost, and a backend that closes with bytes unread resets its answer.
        self.closes_connection = True
        self.tokens = (b"close", *(token for token in self.tokens if token != b"keep-alive"))

    def end_to_end_headers(self):
        """Return what is kept, without the headers that Connection names: they are for this hop (section 7.6.1)."""
        lines = [self.kept[start : start + 4] for start in range(0, len(self.kept), 4)]
        return [piece for line in lines if line[0].lower() not in self.tokens for piece in line]

    def to_bytes(self, address):
        """Return the head as the backend gets it: what concerns this hop is dropped or replaced, and the rest kept."""
        special = self.special
        lines = [self.method, b" ", self.target, b" ", self.version, b"\r\n"]
        if b"host" in special:
            lines += b"Host: ", special[b"host"][0], b"\r\n"
        lines += self.kept if KNOWN_CONNECTION_OPTIONS.issuperset(self.tokens) else self.end_to_end_headers()
        if self.length is None:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        elif b"content-length" in special:
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
