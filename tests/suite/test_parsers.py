"""What part 6 reads before it chooses: requests, ClientHellos; and what it writes for the backend: PROXY headers.

The judges are others: h11, httptools and a strict little reader for requests, the ssl module for hellos.

The modules are loaded into this process, since a program for each of some thousand cases would take minutes. They are
taken off the list of loaded modules at once, so that they are nobody else's config or hosts.
"""

import contextlib
import importlib
import ipaddress
import itertools
import random
import re
import ssl
import sys
import time
import tracemalloc

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.parts import PARTS, ROOT
from support.peers import read_proxy_header

CASES = settings(max_examples=150, deadline=None, database=None, derandomize=True)
ADDRESS = "192.0.2.7"  # the client's


def load(*names):
    """Return modules of the part."""
    sys.path.insert(0, str(ROOT / PARTS[6]))
    before = set(sys.modules)
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.pop(0)
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / PARTS[6])):
                del sys.modules[name]


names, request_head, request_reader, upgrade_answer, client_hello, proxy_protocol = load(
    "names", "request_head", "request_reader", "upgrade_answer", "client_hello", "proxy_protocol"
)
BadRequest, HelloError, MORE = request_head.BadRequest, client_hello.HelloError, client_hello.MORE


def cut(data, places):
    """Return data in the pieces that lie between some places."""
    places = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def bytes_of(data):
    """Return data as pieces of one byte."""
    return [data[place : place + 1] for place in range(len(data))]


# Names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("WWW.Example.com", "www.example.com"),
        ("www.example.com.", "www.example.com"),
        ("www.example.com.:8080", "www.example.com"),
        ("under_score.example", "under_score.example"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[0:0::1]:65535", "[::1]"),
        ("a:", "a"),
        ("A.example.:000080", "a.example"),
        ("a:" + "0" * 5000 + "65535", "a"),
        ("[::1]:", "[::1]"),
        (".".join(["a" * 63] * 3) + "." + "a" * 62, None),
        (".".join(["a" * 63] * 3) + "." + "a" * 61 + ".", ".".join(["a" * 63] * 3) + "." + "a" * 61),
    ]
    + [(text, None) for text in ("", ".", "a..", "a..b", ".a", "a b", "a/b", "a,b", "u@a", "a\0b", "a\n", "a" * 64)]
    + [
        (text, None)
        for text in (
            ":",
            "a::",
            "a:x",
            "a:65536",
            "a:" + "9" * 5000,
            "a:000065536",
            "a:+1",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[fe80::1%lo]",
        )
    ]
    + [(text, None) for text in ("münchen.example", "\u212a.example", "a\u0663.example", "a:\u0663")],
)
def test_host_names_are_compared_without_case_port_or_last_dot(text, name):
    """host_name makes one name of all the ways to write it, and None of what is no name."""
    assert names.host_name(text) == name


# Requests: what comes of them


class Pulled:
    """A RequestReader from which all is pulled that it has, and what the backend gets."""

    def __init__(self, on_request=lambda request: None, trusted=False, address=ADDRESS):
        """Begin a connection; on_request(request) is called before anything of the request is in the output."""
        self.on_request = on_request
        self.address = address.encode()
        self.reader = request_reader.RequestReader(trusted)
        self.output = []
        self.waits = False  # for the answer to an upgrade

    def feed(self, data):
        """Read a piece; raises BadRequest."""
        self.reader.feed(data)
        self.pull()

    def pull(self):
        """Take all that there is, unless the answer to an upgrade has to come first."""
        while not self.waits and (event := self.reader.next_event()) is not request_reader.NEED_DATA:
            if isinstance(event, request_head.Request):
                self.on_request(event)
                self.output.append(event.to_bytes(self.address))
                self.waits = event.upgrade
            else:
                self.output.append(event)

    def take(self):
        """Return the output, and forget it."""
        output = b"".join(self.output)
        self.output.clear()
        return output

    def go_on(self):
        """Read on: the backend has not agreed to an upgrade. Raises BadRequest."""
        self.waits = False
        self.pull()

    @property
    def in_head(self):
        """Whether a head has begun, and not come to its end."""
        return self.reader.in_head

    @property
    def idle(self):
        """Whether the next byte would begin a request."""
        reader = self.reader
        return not (self.waits or reader.is_last or reader.body or reader.request or reader.in_head)


class Outcome:
    """What came of a client's bytes."""

    def __init__(self, pieces, trusted=False, address=ADDRESS):
        """Feed the pieces, until there are no more or a request is refused."""
        self.requests = []  # as they came out of the reader
        self.places = []  # where the head of each begins in the output
        self.refused = None  # a BadRequest
        self.output = b""
        self.reader = Pulled(self.note, trusted, address)
        try:
            for piece in pieces:
                self.reader.feed(piece)
                self.output += self.reader.take()
        except BadRequest as error:
            self.refused = error
        self.output += self.reader.take()

    def note(self, request):
        """Note a request, before any of it is in the output."""
        self.output += self.reader.take()
        self.requests.append(request)
        self.places.append(len(self.output))

    def for_judges(self, show):
        """Return the output without bytes above 127 in targets, and with one method to show in place of all others."""
        output = self.output
        for place, request in reversed([*zip(self.places, self.requests, strict=True)]):
            line = b"%b %b HTTP/" % (request.method, request.target)
            if output[place:].startswith(line):  # the last one may have been refused
                shown = b"%b %b HTTP/" % (show or request.method, as_ascii(request.target))
                output = output[:place] + shown + output[place + len(line) :]
        return output


def as_ascii(target):
    """Return a target with an "x" for each byte above 127."""
    return re.sub(rb"[\x80-\xff]", b"x", target)


def passed(data, **options):
    """Return what the backend gets for data; fail when it is refused."""
    outcome = Outcome([data], **options)
    assert outcome.refused is None, f"refused: {outcome.refused.status}, {outcome.refused}: {data[:200]}"
    return outcome.output


def request(*lines, body=b"", start=b"GET / HTTP/1.1", host=b"Host: a.example"):
    """Return a request: a first line, a Host, more header lines, a body."""
    return b"\r\n".join(line for line in (start, host, *lines, b"", body) if line is not None)


GET = request()
FORWARDED = b"X-Forwarded-For: 192.0.2.7"


def judged_by_h11(data, to_the_end=True):
    """Return the requests in data as h11 sees them: method, target, headers, body, and whether it is complete.

    Behind a last request there must be nothing, unless to_the_end is false.
    """
    judge = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
    judge.receive_data(data)
    seen = []
    while True:
        event = judge.next_event()
        if isinstance(event, h11.Request):
            seen.append([event.method, event.target, list(event.headers), b"", False])
        elif isinstance(event, h11.Data):
            seen[-1][3] += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            seen[-1][4] = True
            judge.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            judge.send(h11.EndOfMessage())
            if judge.our_state is h11.MUST_CLOSE:
                assert not (to_the_end and judge.trailing_data[0]), "there is something behind a last request"
                return seen
            judge.start_next_cycle()
        else:
            return seen


class Listener:
    """What httptools calls."""

    def __init__(self):
        """Begin with nothing."""
        self.seen = []

    def on_url(self, piece):
        """Begin a request."""
        self.seen.append([piece, b"", False])

    def on_body(self, piece):
        """Add to its body."""
        self.seen[-1][1] += piece

    def on_message_complete(self):
        """End it."""
        self.seen[-1][2] = True


def judged_by_httptools(data):
    """Return the requests in data as httptools sees them: target, body, and whether it is complete."""
    listener = Listener()
    with contextlib.suppress(httptools.HttpParserUpgrade):
        httptools.HttpRequestParser(listener).feed_data(data)
    return listener.seen


HEAD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([!-~\x80-\xff]+) HTTP/1\.[01]")
HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)")
CHUNK = re.compile(rb"([1-9a-f][0-9a-f]*|0)\r\n")


def judged_strictly(data):
    """Return the requests in data, each a method, a target, a body; stop at one that is not complete.

    Nothing but the plainest way to write a request will do.
    """
    seen = []
    while b"\r\n\r\n" in data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        method, target = HEAD_LINE.fullmatch(first).groups()
        headers = [HEADER_LINE.fullmatch(line).groups() for line in lines]
        values = {name.lower(): value for name, value in headers}
        for name in (b"host", b"content-length", b"transfer-encoding", b"x-forwarded-for", b"connection", b"upgrade"):
            assert sum(name == other.lower() for other, _ in headers) <= 1, f"{name} stands twice in {head}"
        assert not (b"content-length" in values and b"transfer-encoding" in values), f"two lengths: {head}"
        assert values.get(b"transfer-encoding", b"chunked") == b"chunked", head
        assert b"x-forwarded-for" in values, head
        if b"transfer-encoding" in values:
            body, data = strict_chunks(data)
        else:
            length = int(values.get(b"content-length", b"0"))
            body, data = (data[:length], data[length:]) if length <= len(data) else (None, b"")
        if body is None:
            break
        seen.append((method, target, body))
    return seen


def strict_chunks(data):
    """Return the body that chunks make, None if they don't come to an end, and the rest."""
    body = b""
    while size := CHUNK.match(data):
        length = int(size[1], 16)
        chunk, data = data[size.end() :][: length + 2], data[size.end() + length + 2 :]
        assert len(chunk) < length + 2 or chunk.endswith(b"\r\n"), f"a chunk without an end: {chunk[-20:]}"
        body += chunk[:length]
        if length == 0 and chunk == b"\r\n":
            return body, data
    assert re.fullmatch(rb"[0-9a-f]*\r?", data), f"not a chunk: {data[:20]}"
    return None, b""


def check_output(outcome):
    """Check that all the judges see the very requests that were announced, and return them as h11 sees them."""
    seen = judged_by_h11(outcome.for_judges(show=None))
    heads = [[request.method, as_ascii(request.target)] for request in outcome.requests]
    assert [entry[:2] for entry in seen] == heads, "h11 sees other requests than were announced"
    assert [[entry[1], entry[3], entry[4]] for entry in seen] == judged_by_httptools(outcome.for_judges(show=b"POST"))
    complete = [(method, target, body) for method, target, _, body, complete in seen if complete]
    strictly = judged_strictly(outcome.output)
    assert [(method, as_ascii(target), body) for method, target, body in strictly] == complete
    return seen


# Requests: prior art's "Host and HTTP/1, measured", and what could be smuggled


REFUSED = {
    "two equal Hosts": (400, request(b"Host: a.example")),
    "two Hosts that differ": (400, request(b"Host: b.example")),
    "HTTP/1.1 without a Host": (400, request(host=None)),
    "an empty Host": (400, request(host=b"Host:")),
    "an obs-fold in Host": (400, request(host=b"Host: a.example\r\n b.example")),
    "an obs-fold in any header": (400, request(b"X: 1\r\n\t2")),
    "a first header that begins with a space": (400, request(host=b" Host: a.example")),
    "a space before the colon of Host": (400, request(host=b"Host : a.example")),
    "a space before the colon of Transfer-Encoding": (400, request(b"Transfer-Encoding : chunked")),
    "a Host with a slash": (400, request(host=b"Host: a.example/b")),
    "a Host with a comma": (400, request(host=b"Host: a.example, b.example")),
    "a Host with a user": (400, request(host=b"Host: u@a.example")),
    "a Host with two dots": (400, request(host=b"Host: a..example")),
    "a Host with a port beyond 65535": (400, request(host=b"Host: a.example:65536")),
    "a Host with bytes beyond ASCII": (400, request(host=b"Host: m\xc3\xbcnchen.example")),
    "two Hosts in HTTP/1.0": (400, request(b"Host: a.example", start=b"GET / HTTP/1.0")),
    "an absolute target with another Host": (400, request(start=b"GET http://b.example/ HTTP/1.1")),
    "an absolute target without a host": (400, request(start=b"GET http:///x HTTP/1.1")),
    "an absolute target with a user": (400, request(start=b"GET http://u@a.example/ HTTP/1.1")),
    "an absolute target that is https": (400, request(start=b"GET https://a.example/ HTTP/1.1")),
    "an absolute target without a Host in HTTP/1.1": (400, request(start=b"GET http://a.example/ HTTP/1.1", host=None)),
    "a target with a fragment": (400, request(start=b"GET /#x HTTP/1.1")),
    "a target that is * for anything but OPTIONS": (400, request(start=b"GET * HTTP/1.1")),
    "a target that is a bare word": (400, request(start=b"GET admin HTTP/1.1")),
    "a target with a control character": (400, request(start=b"GET /\x01 HTTP/1.1")),
    "a target with a DEL": (400, request(start=b"GET /\x7f HTTP/1.1")),
    "a target with a tab": (400, request(start=b"GET /\t HTTP/1.1")),
    "a target with an e-acute and a NUL": (400, request(start=b"GET /\xc3\xa9\0 HTTP/1.1")),
    "a target with an e-acute and a DEL": (400, request(start=b"GET /\xc3\xa9\x7f HTTP/1.1")),
    "a target with an e-acute and a blank": (400, request(start=b"GET /\xc3\xa9 x HTTP/1.1")),
    "a target with an e-acute and a CR": (400, request(start=b"GET /\xc3\xa9\rx HTTP/1.1")),
    "a target with an e-acute, and bare LFs": (400, request(start=b"GET /\xc3\xa9 HTTP/1.1").replace(b"\r\n", b"\n")),
    "a target that begins with an e-acute": (400, request(start=b"GET \xc3\xa9 HTTP/1.1")),
    "an absolute target with an e-acute in its host": (400, request(start=b"GET http://a.example\xc3\xa9/ HTTP/1.1")),
    "no blank but U+0085 before the version": (505, request(start=b"GET /\x85HTTP/1.1")),
    "a version with a byte above 127": (400, request(start=b"GET / HTTP/1\xae1")),
    "a header's name with a byte above 127": (400, request(b"\xc3\xa9: 1", start=b"GET /\xc3\xa9 HTTP/1.1")),
    "both lengths": (400, request(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "both lengths the other way round": (400, request(b"Transfer-Encoding: chunked", b"Content-Length: 4")),
    "two lengths that differ": (400, request(b"Content-Length: 2", b"Content-Length: 3", body=b"abc")),
    "two equal lengths": (400, request(b"Content-Length: 2", b"Content-Length: 2", body=b"ab")),
    "two lengths in one line": (400, request(b"Content-Length: 2, 2", body=b"ab")),
    "a length with a sign": (400, request(b"Content-Length: +2", body=b"ab")),
    "a negative length": (400, request(b"Content-Length: -2", body=b"ab")),
    "a hexadecimal length": (400, request(b"Content-Length: 0x2", body=b"ab")),
    "an empty length": (400, request(b"Content-Length:")),
    "a length that does not fit 63 bits": (400, request(b"Content-Length: 9223372036854775808")),
    "a length that does not fit 64 bits": (400, request(b"Content-Length: 18446744073709551616")),
    "Transfer-Encoding: xchunked": (400, request(b"Transfer-Encoding: xchunked")),
    "Transfer-Encoding: gzip, chunked": (400, request(b"Transfer-Encoding: gzip, chunked")),
    "Transfer-Encoding: identity, chunked": (400, request(b"Transfer-Encoding: identity, chunked")),
    "Transfer-Encoding: chunked, identity": (400, request(b"Transfer-Encoding: chunked, identity")),
    "Transfer-Encoding: identity": (400, request(b"Transfer-Encoding: identity")),
    "an empty Transfer-Encoding": (400, request(b"Transfer-Encoding:")),
    "chunked twice": (400, request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    "chunked behind a vertical tab": (400, request(b"Transfer-Encoding: \x0bchunked")),
    "Transfer-Encoding in HTTP/1.0": (400, request(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0")),
    "CONNECT": (400, request(start=b"CONNECT a.example:443 HTTP/1.1")),
    "CONNECT with a path": (400, request(start=b"CONNECT / HTTP/1.1")),
    "the preface of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "the preface's method in a request": (505, request(start=b"PRI / HTTP/1.1")),
    "HTTP/2.0": (505, request(start=b"GET / HTTP/2.0")),
    "HTTP/3.0": (505, request(start=b"GET / HTTP/3.0")),
    "HTTP/1.2": (505, request(start=b"GET / HTTP/1.2")),
    "HTTP/0.9": (505, b"GET /\r\n\r\n"),
    "a version of other digits": (400, request(start=b"GET / HTTP/1.10")),
    "another protocol's name": (400, request(start=b"OPTIONS / RTSP/1.0")),
    "a method with a bracket": (400, request(start=b"G(T / HTTP/1.1")),
    "a method with a byte above 127": (400, request(start=b"G\xc9T / HTTP/1.1")),
    "a method with a tab": (400, request(start=b"GET\t/ HTTP/1.1")),
    "a method with a NUL": (400, request(start=b"LIST\0 / HTTP/1.1")),
    "a method of 65 bytes": (400, request(start=b"X" * 65 + b" / HTTP/1.1")),
    "a method without an end": (400, b"X" * 65),
    "a method and the end of the line": (400, b"LIST\r\nHost: a.example\r\n\r\n"),
    "no method": (400, request(start=b" / HTTP/1.1")),
    "a method that llhttp does not know, and another protocol": (400, request(start=b"LIST / RTSP/1.0")),
    "a method that is another protocol's": (400, request(start=b"SOURCE / ICE/1.0")),
    "a method that llhttp does not know, and HTTP/2.0": (505, request(start=b"LIST / HTTP/2.0")),
    "a method that llhttp does not know, and HTTP/0.9": (505, b"LIST /\r\n\r\n"),
    "two spaces in the first line": (400, request(start=b"GET  / HTTP/1.1")),
    "two spaces before the version": (400, request(start=b"GET /  HTTP/1.1")),
    "a space behind the version": (400, request(start=b"GET / HTTP/1.1 ")),
    "bare LFs": (400, GET.replace(b"\r\n", b"\n")),
    "a bare LF behind a header": (400, b"GET / HTTP/1.1\r\nHost: a.example\nX: 1\r\n\r\n"),
    "a bare LF for the empty line": (400, b"GET / HTTP/1.1\r\nHost: a.example\r\n\n"),
    "a bare CR in a header": (400, request(b"X: 1\rY: 2")),
    "a NUL in a header": (400, request(b"X: 1\x002")),
    "an escape in a header": (400, request(b"X: \x1b[0m")),
    "a DEL in a header": (400, request(b"X: \x7f")),
    "a header without a colon": (400, request(b"GET /admin HTTP/1.1")),
    "a header without a name": (400, request(b": x")),
    "a TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "a head of more than 32 KiB": (431, request(b"X: " + b"x" * 32768)),
    "many headers, of more than 32 KiB in all": (431, request(*[b"X: " + b"x" * 1000] * 40)),
    "more than 32 KiB of a head without an end": (431, b"GET / HTTP/1.1\r\nX: " + b"x" * 33000),
    "more than 32 KiB of a target without an end": (431, b"GET /" + b"x" * 33000),
    "a Connection header of more than 1 KiB": (431, request(b"Connection: " + b"a," * 513)),
    "Connection headers of more than 1 KiB in all": (431, request(*[b"Connection: " + b"a," * 300] * 2)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    """What could be read in two ways is refused, in one piece or byte by byte, and nothing of it is passed on."""
    status, data = REFUSED[case]
    for pieces in ([data], bytes_of(data)):
        outcome = Outcome(pieces)
        assert outcome.refused is not None, f"{case}: this went through:\n{outcome.output.decode('latin-1')}"
        assert outcome.refused.status == status, f"{case}: {outcome.refused.status}, {outcome.refused}"
        assert "\n" not in str(outcome.refused)
        assert outcome.output == b"" and outcome.requests == []


CHUNKED = request(b"Transfer-Encoding: chunked", start=b"POST /first HTTP/1.1")
BAD_CHUNKS = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n",
    "a size behind a space": b" 5\r\nhello\r\n0\r\n\r\n",
    "a size before a space": b"5 \r\nhello\r\n0\r\n\r\n",
    "a size before a space and more": b"5 x\r\nhello\r\n0\r\n\r\n",
    "a bare CR before an extension": b"5\r;x\r\nhello\r\n0\r\n\r\n",
    "an extension of blanks without an end": b"5" + b" " * 20000,
    "a size beyond 60 bits": b"10000000000000000\r\nhello",
    "a size with a bare LF": b"5\nhello\r\n0\r\n\r\n",
    "a chunk that ends with a bare LF": b"5\r\nhello\n0\r\n\r\n",
    "a chunk that is longer than its size": b"5\r\nhello, world\r\n0\r\n\r\n",
    "a chunk that is shorter than its size": b"7\r\nhello\r\n0\r\n\r\n",
    "a bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "an extension of 20 KB": b"5;" + b"a" * 20000 + b"\r\nhello\r\n0\r\n\r\n",
    "an extension without an end": b"5;" + b"a" * 20000,
    "trailers of 20 KB": b"0\r\n" + b"X: y\r\n" * 4000 + b"\r\n",
    "a trailer of 20 KB": b"0\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
    "a trailer without an end": b"0\r\nX: " + b"y" * 20000,
    "a request for a trailer": b"0\r\nGET /second HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "a trailer with a space before the colon": b"0\r\nX : y\r\n\r\n",
    "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "a bare LF behind the last chunk": b"0\r\n\n",
    "a bare LF in a trailer": b"0\r\nX: y\nZ: 1\r\n\r\n",
}


@pytest.mark.parametrize("case", BAD_CHUNKS)
def test_refused_in_a_chunked_body(case):
    """A body in bad chunks is refused; what went before is only the beginning of one request."""
    outputs = set()
    for pieces in ([CHUNKED + BAD_CHUNKS[case] + GET], bytes_of(CHUNKED + BAD_CHUNKS[case] + GET)):
        outcome = Outcome(pieces)
        assert outcome.refused is not None, f"this went through:\n{outcome.output.decode('latin-1')}"
        assert outcome.refused.status == 400
        assert [entry[4] for entry in check_output(outcome)] == [False]
        outputs.add(outcome.output)
    assert len(outputs) == 1


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_nothing_is_read_behind_a_bad_request(pieces):
    """What came before it is passed on, and what comes later is dropped."""
    data = GET + request(host=None)
    outcome = Outcome([data] if pieces == "whole" else bytes_of(data))
    outcome.reader.feed(GET)
    assert outcome.refused.status == 400
    assert outcome.reader.take() == b""
    assert outcome.output == passed(GET)


def test_the_host_is_the_same_however_it_is_written():
    """Case, a port, and a last dot make no other host; the backend gets the header's text as it came."""
    outcome = Outcome([request(host=b"hOsT: A.Example.:8080")])
    assert [request.host for request in outcome.requests] == ["a.example"]
    assert b"\r\nHost: A.Example.:8080\r\n" in outcome.output


def test_http_1_0_may_have_no_host():
    """Then it is for the default host, and stays HTTP/1.0."""
    outcome = Outcome([b"GET / HTTP/1.0\r\n\r\n"])
    assert [request.host for request in outcome.requests] == [None]
    assert outcome.output == b"GET / HTTP/1.0\r\n" + FORWARDED + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "becomes"),
    [
        (b"GET http://A.example:80/x?y HTTP/1.1", b"GET /x?y HTTP/1.1"),
        (b"GET HTTP://a.example HTTP/1.1", b"GET / HTTP/1.1"),
        (b"GET http://a.example?x HTTP/1.1", b"GET /?x HTTP/1.1"),
        (b"OPTIONS http://a.example HTTP/1.1", b"OPTIONS * HTTP/1.1"),
        (b"OPTIONS * HTTP/1.1", b"OPTIONS * HTTP/1.1"),
        (b"GET //b.example/ HTTP/1.1", b"GET //b.example/ HTTP/1.1"),
    ],
)
def test_an_absolute_target_becomes_a_path(start, becomes):
    """Whoever looks at the target, a route or a backend, sees the same path."""
    outcome = Outcome([request(start=start)])
    assert outcome.refused is None and outcome.output.startswith(becomes + b"\r\nHost: a.example\r\n")
    assert b"%b %b" % (outcome.requests[0].method, outcome.requests[0].target) in becomes


def test_an_absolute_target_in_http_1_0_names_the_host():
    """It becomes a Host header."""
    outcome = Outcome([b"GET http://a.example:81/x HTTP/1.0\r\n\r\n"])
    assert outcome.requests[0].host == "a.example"
    assert outcome.output == b"GET /x HTTP/1.0\r\nHost: a.example:81\r\n" + FORWARDED + b"\r\n\r\n"


def test_empty_lines_before_a_request_mean_nothing():
    """Some clients send one behind a body (RFC 9112, section 2.2)."""
    assert passed(b"\r\n\r\n" + GET + b"\r\n" + GET) == passed(GET) * 2
    outcome = Outcome([b"\r\n"] * 10000)
    assert outcome.reader.idle and not outcome.reader.in_head and outcome.output == b""


def test_half_a_host_is_no_host():
    """The head has to be whole before anything is said of it."""
    outcome = Outcome([b"GET / HTTP/1.1\r\nHost: exam"])
    assert outcome.requests == [] and outcome.output == b"" and outcome.refused is None
    assert outcome.reader.in_head and not outcome.reader.idle


def test_a_head_of_32_kib_passes():
    """As in nginx, for cookies of single sign-on. One byte more does not."""
    exact = request(b"X: " + b"x" * (32768 - len(request(b"X: "))))
    longer = exact.replace(b"X: ", b"X: x")
    for data in (exact, GET + exact + GET):
        assert passed(data).count(FORWARDED) == data.count(b"GET")
    for pieces in ([longer], bytes_of(longer), [GET + longer]):
        assert Outcome(pieces).refused.status == 431


def test_a_big_header_is_no_trouble():
    """haproxy takes 9,000 bytes, nginx does not; single sign-on has cookies of 6 KB, and often three of them."""
    for headers in ([b"X: " + b"x" * 9000], [b"Cookie: " + b"x" * 6000] * 3):
        assert passed(request(*headers)).count(headers[0]) == len(headers)


def test_a_head_byte_by_byte_costs_no_more_than_its_bytes():
    """Twice the bytes, twice the time: 32 KiB take some 50 ms; reading all again each time would take minutes."""
    for data in (
        request(b"X: " + b"x" * 32000),
        request(b"X: " + b"\xe9" * 32000),
        request(start=b"LIST /" + b"\xe9" * 32000 + b" HTTP/1.1"),
        request(*[b"X: " + b"y" * 240] * 120),
        CHUNKED + b"5;" + b"a" * 4000,
    ):
        pieces = bytes_of(data)
        began = time.process_time()
        outcome = Outcome(pieces)
        assert outcome.refused is None
        assert time.process_time() - began < 1.5


def test_headers_are_passed_on_in_their_order_and_their_spelling():
    """Only space around a value goes. Host comes first, and what the proxy adds last."""
    data = request(b"b:  2 \t", b"A: \xff", b"b: 1", b"Cookie: a=b; c", b"Empty:", b"Expect: 100-continue")
    lines = [b"Host: a.example", b"b: 2", b"A: \xff", b"b: 1", b"Cookie: a=b; c", b"Empty: ", b"Expect: 100-continue"]
    assert passed(data).split(b"\r\n") == [b"GET / HTTP/1.1", *lines, FORWARDED, b"", b""]


# Requests: who the client is


FORGED = {
    "X-Forwarded-For": [b"X-Forwarded-For: 10.0.0.1"],
    "X-Forwarded-For in other letters": [b"x-FORWARDED-for: 10.0.0.1"],
    "X-Forwarded-For twice": [b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-For: 10.0.0.1"],
    "X_Forwarded_For": [b"X_Forwarded_For: 10.0.0.1"],
    "X-Forwarded_For": [b"X-Forwarded_For: 10.0.0.1"],
    "X-Real-IP": [b"X-Real-IP: 10.0.0.1"],
    "Forwarded": [b"Forwarded: for=10.0.0.1"],
}


@pytest.mark.parametrize("case", FORGED)
def test_a_client_does_not_say_who_it_is(case):
    """The backend gets the client's address from the proxy, on every request, and only that."""
    output = passed(GET + request(*FORGED[case]) * 2)
    assert output == passed(GET) * 3
    assert output.count(FORWARDED + b"\r\n") == 3 and b"10.0.0.1" not in output


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_connection_can_drop_no_header(version):
    """Of Connection, only close and keep-alive remain: a backend drops what it names."""
    lines = [b"Connection: X-Forwarded-For, Keep-Alive ,\tHost", b"Connection: upgrade,cookie"]
    output = passed(request(*lines, start=b"GET / HTTP/" + version))
    assert output.endswith(b"\r\nConnection: keep-alive\r\n" + FORWARDED + b"\r\n\r\n")
    assert output.count(b"Connection") == 1


def test_what_a_trusted_proxy_says_is_kept_and_added_to():
    """All its values make one line, and its own address comes last; X_Forwarded_For is nobody's."""
    lines = [b"X-Forwarded-For: 10.0.0.1, 10.0.0.2", b"X_Forwarded_For: 1", b"x-forwarded-for:", b"X-Real-IP: 10.0.0.1"]
    output = passed(request(*lines, b"X-Forwarded-For: 10.0.0.3"), trusted=True)
    assert output.endswith(b"\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7\r\n\r\n")
    assert output.lower().count(b"for:") == 1 and b"\r\nX-Real-IP: 10.0.0.1\r\n" in output
    assert passed(GET, trusted=True) == passed(GET)


def test_an_ipv6_address_is_written_as_it_is():
    """Without brackets, as everybody does."""
    assert passed(GET, address="2001:db8::1").endswith(b"X-Forwarded-For: 2001:db8::1\r\n\r\n")


def test_what_is_meant_for_the_next_hop_goes_no_further():
    """The next hop is the proxy. Proxy would become HTTP_PROXY in a CGI backend; TE asks for trailers."""
    hop = [b"Keep-Alive: 5", b"Proxy-Connection: x", b"TE: trailers", b"Trailer: X", b"Proxy: x", b"HTTP2-Settings: x"]
    assert passed(request(*hop)) == passed(GET)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_what_connection_names_goes_no_further(version):
    """Such a header is for this hop (RFC 9110, section 7.6.1). Host, and what the proxy adds, can't be dropped so."""
    lines = [
        b"Connection: x-mine, keep-alive",
        b"Connection: Host,X-Forwarded-For",
        b"A: b",
        b"X-Mine: 1",
        b"x-mine: 2",
    ]
    start = b"GET / HTTP/" + version
    assert passed(request(*lines, start=start)) == passed(request(b"Connection: keep-alive", b"A: b", start=start))
    with_body = passed(request(*lines, b"Content-Length: 2", body=b"hi", start=start))  # of a GET: it is the last one
    assert b"mine" not in with_body.lower() and b"\r\nConnection: close\r\n" in with_body


@pytest.mark.parametrize("spelling", [b"Transfer_Encoding: chunked", b"Content_Length: 5", b"HTTP2_Settings: x"])
def test_no_header_hides_behind_an_underscore(spelling):
    """A CGI backend takes "_" for "-", so such a spelling of a header that matters is dropped."""
    assert passed(request(spelling)) == passed(GET)
    assert b"\r\napi_key: 1\r\n" in passed(request(b"api_key: 1"))


# Requests: bodies, and one after the other


def test_a_length_is_written_as_a_plain_number():
    """0 in front means octal to some; the body is what it was."""
    output = passed(request(b"Content-Length: 0000000000000000000000000005 ", start=b"PUT / HTTP/1.1", body=b"hello"))
    assert b"\r\nContent-Length: 5\r\n" in output and output.endswith(b"\r\n\r\nhello")


def test_the_longest_length_passes():
    """It fits 63 bits, and as much as has come is passed on."""
    outcome = Outcome([request(b"Content-Length: 9223372036854775807", body=b"hello")])
    assert outcome.output.endswith(b"hello") and outcome.reader.reader.bytes_left == 2**63 - 1 - 5
    assert not outcome.reader.idle and not outcome.reader.in_head


def test_chunks_are_rewritten():
    """Their sizes are plain numbers; extensions and trailers are dropped."""
    body = b'005;name="value"\r\nhello\r\nA\r\n, everyone\r\n0;x\r\nX-Forwarded-For: 10.0.0.1\r\nB: c\r\n\r\n'
    output = passed(CHUNKED.replace(b"chunked", b"ChunKED") + body + GET)
    written = b"Transfer-Encoding: chunked\r\n" + FORWARDED + b"\r\n\r\n5\r\nhello\r\na\r\n, everyone\r\n0\r\n\r\n"
    assert output.endswith(written + passed(GET))


def test_many_small_chunks_are_one_event():
    """What was fed at once is passed on at once: an event for each line would be slow."""
    reader = request_reader.RequestReader(trusted=False)
    reader.feed(CHUNKED + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n")
    assert isinstance(reader.next_event(), request_head.Request)
    assert reader.next_event() == b"1\r\na\r\n" * 1000 + b"0\r\n\r\n"
    assert reader.next_event() is request_reader.NEED_DATA


def test_sound_chunks_before_a_bad_one_are_passed_on():
    """Then comes the refusal, however often it is asked for."""
    reader = request_reader.RequestReader(trusted=False)
    reader.feed(CHUNKED + b"1\r\na\r\nx\r\n")
    assert isinstance(reader.next_event(), request_head.Request)
    assert reader.next_event() == b"1\r\na\r\n"
    with pytest.raises(BadRequest, match="does not begin with its size"):
        reader.next_event()


def test_trailers_of_4_kib_and_extensions_of_4_kib_pass():
    """Both are bounded there, whatever the pieces."""
    extension = b"5;" + b"a" * (4096 - 4) + b"\r\nhello\r\n"
    trailer = b"X: " + b"y" * (4096 - 7) + b"\r\n\r\n"
    good = CHUNKED + extension + b"0\r\n" + trailer
    for pieces in ([good], bytes_of(good)):
        assert check_output(Outcome(pieces))[0][3:] == [b"hello", True]
    for bad in (extension.replace(b"aa", b"aaa", 1), b"0\r\n" + trailer.replace(b"yy", b"yyy", 1)):
        assert Outcome([CHUNKED + bad]).refused.status == Outcome(bytes_of(CHUNKED + bad)).refused.status == 400


def test_bodies_stream_through_in_constant_memory():
    """50 MB by length, and 50 MB in one chunk: no more than a few pieces are there at a time."""
    piece = bytes(64 * 1024)
    count = 800
    size = count * len(piece)
    for head in (request(b"Content-Length: %d" % size), CHUNKED + b"%x\r\n" % size):
        reader = Pulled()
        reader.feed(head)
        reader.take()
        tracemalloc.start()
        total = 0
        for _ in range(count):
            reader.feed(piece)
            total += len(reader.take())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == size and peak < 1_000_000, f"{total} of {size} bytes, {peak} bytes of memory"


def test_pipelined_requests_are_each_announced_in_turn():
    """Each comes out of the reader after all that was before it, and before any of its body."""
    output, announced = [], []

    def on_request(request):
        announced.append((request.target, request.host))
        output.append(reader.take())

    reader = Pulled(on_request)
    post = request(b"Content-Length: 2", start=b"POST /b HTTP/1.1", host=b"Host: b.example", body=b"hi")
    reader.feed(GET + post + GET)
    output.append(reader.take())
    assert announced == [(b"/", "a.example"), (b"/b", "b.example"), (b"/", "a.example")]
    assert output == [b"", passed(GET), passed(post), passed(GET)]


def test_not_asking_is_waiting():
    """Who does not ask for the next event has not read the next request either."""
    reader = request_reader.RequestReader(trusted=False)
    reader.feed(GET + request(host=None))
    assert reader.next_event().host == "a.example"
    assert reader.has_rest and not reader.in_head
    with pytest.raises(BadRequest):
        reader.next_event()


def test_an_idle_client_holds_no_bytes():
    """When all has been asked for, what was fed last is let go of."""
    reader = Pulled()
    reader.feed(GET + b"GET /")
    assert reader.reader.data == b"" and bytes(reader.reader.head) == b"GET /"


@pytest.mark.parametrize(
    "last",
    [
        request(b"Connection: close"),
        request(b"Connection: keep-alive, Close"),
        request(b"Connection: close", b"Content-Length: 2", body=b"hi"),
        CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"2\r\nhi\r\n0\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
def test_nothing_is_read_behind_a_last_request(last):
    """RFC 9112, section 9.6: what comes behind Connection: close is no request, however much it looks like one."""
    outcome = Outcome([last + GET, GET])
    assert outcome.output == passed(last) and len(outcome.requests) == 1 and outcome.refused is None
    assert not outcome.reader.idle and not outcome.reader.in_head


def test_http_1_0_may_keep_the_connection():
    """As ab -k does."""
    data = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
    assert passed(data * 3) == passed(data) * 3
    assert b"\r\nConnection: keep-alive\r\n" in passed(data)


# Requests: upgrades


HANDSHAKE = request(b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade", b"Sec-WebSocket-Key: x")


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_a_websocket_waits_for_the_backend(pieces):
    """What comes right behind the handshake is held; when the backend has agreed, all is passed on as it is."""
    data = HANDSHAKE + b"\0\1\2GET"
    outcome = Outcome([data] if pieces == "whole" else bytes_of(data))
    reader = outcome.reader
    lines = [b"Connection: keep-alive, upgrade", b"Upgrade: websocket", FORWARDED]
    assert sorted(outcome.output.split(b"\r\n")[3:-2]) == sorted(lines)
    assert [request.upgrade for request in outcome.requests] == [True]
    assert reader.waits and reader.reader.has_rest and not reader.in_head and not reader.idle
    assert reader.reader.take_rest() == b"\0\1\2GET" and not reader.reader.has_rest


def test_a_refused_upgrade_smuggles_nothing_past():
    """Requests are checked as before, also the ones that came right after the handshake."""
    outcome = Outcome([HANDSHAKE + GET * 2])
    outcome.reader.go_on()
    assert outcome.reader.take() == passed(GET) and len(outcome.requests) == 3  # of the output, note has taken the rest
    assert [request.upgrade for request in outcome.requests] == [True, False, False]
    assert not outcome.reader.waits
    bad = Outcome([HANDSHAKE + request(host=None)])
    with pytest.raises(BadRequest):
        bad.reader.go_on()
    assert bad.reader.take() == b""


@pytest.mark.parametrize("before", [GET, HANDSHAKE], ids=["a request", "a refused handshake"])
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_a_handshake_on_a_used_connection_is_told_to_come_on_a_new_one(before, pieces):
    """Its answer could not be found among the others. The words of the refusal say what to do."""
    outcome = run_through([before + HANDSHAKE + GET] if pieces == "whole" else bytes_of(before + HANDSHAKE + GET))
    assert outcome.refused is not None, "the handshake has been passed on"
    assert outcome.refused.status == 400 and "WebSocket needs a new connection" in str(outcome.refused)
    assert outcome.output == passed(before) and len(outcome.requests) == 1


# Answers to an upgrade


INTERIM_ANSWERS = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
    b"HTTP/1.0 199\n\n",
    b"HTTP/1.1 102 Processing\r\nX: HTTP/1.1 200 OK\r\n\r\n",
]
FINAL_ANSWERS = {
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n": True,
    b"HTTP/1.1 101\r\n\r\n": True,
    b"HTTP/1.0 101 Switching Protocols\r\n\r\n": False,
    b"HTTP/1.1 1010 No\r\n\r\n": False,
    b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n": False,
    b"<h1>HTTP/1.1 101 </h1>": False,
    b"HTTP/1.1\r\n": False,
}


def read_answer(pieces):
    """Return whether an answer agrees to an upgrade, and after how many of its pieces that was known."""
    answer = upgrade_answer.UpgradeAnswer()
    for number, piece in enumerate(pieces, 1):
        if (switched := answer.feed(piece)) is not None:
            return switched, number
    return None, len(pieces)


@CASES
@given(st.lists(st.sampled_from(INTERIM_ANSWERS), max_size=4), st.sampled_from([*FINAL_ANSWERS]), st.data())
def test_interim_answers_come_before_the_answer_to_an_upgrade(interim, final, data):
    """100 Continue or 103 Early Hints say nothing about it, in however many pieces they come."""
    sent = b"".join(interim)
    places = data.draw(st.lists(st.integers(0, len(sent + final)), max_size=8))
    for pieces in ([sent + final], bytes_of(sent + final), cut(sent + final, places)):
        assert read_answer(pieces)[0] is FINAL_ANSWERS[final], f"{pieces}"
    needed = read_answer(bytes_of(sent + final))[1] - len(sent)
    assert 0 < needed <= 13, f"known {needed} bytes into the answer itself"
    assert read_answer(bytes_of(sent))[0] is None


def test_an_interim_answer_without_an_end_is_no_upgrade():
    """More than 32 KiB of it are not kept."""
    for pieces in (
        [b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 40_000],
        [b"HTTP/1.1 103 A\r\n"] + 5000 * [b"X: abcdef"],
    ):
        assert read_answer(pieces)[0] is False


@pytest.mark.parametrize(
    "data",
    [
        request(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk"),
        request(b"Upgrade: websocket, h2c", b"Connection: Upgrade"),
        request(b"Upgrade: websocket", b"Upgrade: h2c", b"Connection: Upgrade"),
        request(b"Upgrade: websocket"),
        request(b"Upgrade: websocket", b"Connection: Upgrade", start=b"GET / HTTP/1.0"),
        request(b"Upgrade: websocket", b"Connection: Upgrade", start=b"POST / HTTP/1.1"),
        request(b"Connection: Upgrade"),
    ],
)
def test_any_other_upgrade_is_just_a_request(data):
    """h2c would open a tunnel that nobody checks. The header is dropped, and requests go on."""
    outcome = Outcome([data.replace(b"HTTP/1.0\r\n", b"HTTP/1.0\r\nConnection: keep-alive\r\n") + GET])
    assert [request.upgrade for request in outcome.requests] == [False, False]
    assert b"upgrade" not in outcome.output.lower() and b"http2" not in outcome.output.lower()
    assert len(judged_strictly(outcome.output)) == len(judged_by_httptools(outcome.output)) == 2


# Requests: whatever comes, in whatever pieces


UNKNOWN_METHODS = [
    b"LIST",
    b"RPC_IN_DATA",
    b"VERSION-CONTROL",
    b"get",
    b"DESCRIBE",
    b"SOURCE",
    b"M-SEARCH",
    b"CONNECTS",
]
UNKNOWN_METHODS += [b"P", b"X" * 64, b"!#$%&'*+-.^_`|~09azAZ", b"GETS", b"POS"]  # to llhttp, most of them
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH", *UNKNOWN_METHODS])
METHODS_WITH_BODIES = st.sampled_from([b"POST", b"PUT", b"PATCH"])  # after which others follow
TARGETS = st.sampled_from(
    [b"/", b"/a?b=c", b"//x/", b"/%00", b"http://a.example/x", b"http://A.example:80", b"http://a.example:/"]
    + [b"/caf\xc3\xa9", b"/?\x80\x85\xa0\xff", b"http://a.example/\xe9"]
)
HEADERS = st.sampled_from(
    [b"A: b", b"X-Forwarded-For: 1.2.3.4", b"Connection: X-Forwarded-For", b"Connection: keep-alive", b"B:", b"c:\t d "]
    + [b"Upgrade: websocket", b"Connection: upgrade", b"Expect: 100-continue", b"TE: trailers", b"X_Forwarded_For: 1"]
)
BODIES = st.one_of(st.binary(max_size=40), st.sampled_from([GET, b"0\r\n\r\n", b"\r\n\r\n", b"\r\n"]))
ENDINGS = st.sampled_from([b"0\r\n\r\n", b"000;x=y\r\n\r\n", b"0\r\nA: b\r\nC: d\r\n\r\n"])


@st.composite
def requests(draw):
    """Make a request; return its bytes, and method and body."""
    kind = draw(st.sampled_from(["none", "length", "chunks"]))
    method, body = draw(METHODS if kind == "none" else METHODS_WITH_BODIES), draw(BODIES)
    start = b"%b %b HTTP/1.1" % (method, draw(TARGETS))
    lines = draw(st.lists(HEADERS, max_size=4))
    if kind == "none":
        return request(*lines, start=start), method, b""
    if kind == "length":
        return request(*lines, b"Content-Length: %d" % len(body), start=start, body=body), method, body
    pieces = [piece for piece in cut(body, draw(st.lists(st.integers(0, len(body)), max_size=3))) if piece]
    extension = draw(st.sampled_from([b"", b";a=b", b';a="b;c"', b" ;a", b"\t ; a = b"]))
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces) + draw(ENDINGS)
    return request(*lines, b"Transfer-Encoding: chunked", start=start, body=chunks), method, body


def asks_to_upgrade(text):
    """Return True if a request is the handshake of a WebSocket."""
    head = text.partition(b"\r\n\r\n")[0]
    asks = head.count(b"Upgrade: websocket") == 1 and b"Connection: upgrade" in head
    return asks and head.startswith(b"GET ") and b"Transfer-Encoding" not in head and b"Content-Length" not in head


@CASES
@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_any_pieces_give_the_same_bytes(made, data):
    """However requests are cut into pieces, the backend gets the same bytes, and in them the same requests."""
    made = [made[0], *itertools.takewhile(lambda one: not asks_to_upgrade(one[0]), made[1:])]  # later ones may not
    sent = b"".join(text for text, _, _ in made)
    places = data.draw(st.lists(st.integers(0, len(sent)), max_size=12))
    outcomes = [run_through(pieces) for pieces in ([sent], bytes_of(sent), cut(sent, places))]
    for outcome in outcomes:
        assert outcome.refused is None, f"{outcome.refused}: {sent}"
        assert outcome.output == outcomes[0].output
    seen = check_output(outcomes[0])
    assert [(entry[0], entry[3]) for entry in seen] == [(method, body) for _, method, body in made]
    for entry in seen:
        assert entry[4] and dict(entry[2])[b"x-forwarded-for"] == ADDRESS.encode()


def run_through(pieces):
    """Return the Outcome for pieces, where a backend refuses to upgrade as soon as it is asked."""
    outcome = Outcome([])
    try:
        for piece in pieces:
            outcome.reader.feed(piece)
            if outcome.reader.waits:
                outcome.reader.go_on()
    except BadRequest as error:
        outcome.refused = error
    outcome.output += outcome.reader.take()
    return outcome


FRAGMENTS = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"0",
    b"1",
    b"\r\n\r\n",
    b"Content-Length: 3\r\n",
    b",",
    b";",
]
FRAGMENTS += [
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b.example\r\n",
    b"chunked",
    b"HTTP/1.0",
    b"0\r\n\r\n",
    GET,
    b"\xff",
]
FRAGMENTS += [
    b"Transfer-Encoding",
    b"Connection: close\r\n",
    b"\x0b",
    b"\x0c",
    b"\x85",
    b"_",
    b"-",
    b"http://b.example",
]


@st.composite
def mutated(draw):
    """Make some requests, and damage them."""
    data = b"".join(text for text, _, _ in draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 2, 5, 20])))
        data = data[:start] + draw(st.sampled_from([b"", *FRAGMENTS])) + data[end:]
    return data


@settings(CASES, max_examples=500)
@given(mutated(), st.data())
def test_a_damaged_request_is_refused_or_understood_by_all_alike(sent, data):
    """The backend never sees two requests where one was announced, nor another than that; pieces make no difference."""
    outcome = run_through([sent])
    check_output(outcome)
    other = run_through(cut(sent, data.draw(st.lists(st.integers(0, len(sent)), max_size=8))))
    assert other.output == outcome.output
    assert (other.refused and other.refused.status) == (outcome.refused and outcome.refused.status)
    try:
        judged = judged_by_h11(sent.lstrip(b"\r\n"), to_the_end=False)
    except h11.RemoteProtocolError:  # such as empty lines between requests; h11 knows none
        return
    if not outcome.refused:
        seen = judged_by_h11(outcome.for_judges(show=None))
        if outcome.requests and outcome.requests[-1].closes_connection:  # h11 reads on behind a GET with a body
            judged = judged[: len(seen)]
        assert [(entry[0], entry[3], entry[4]) for entry in judged] == [(e[0], e[3], e[4]) for e in seen], sent


@settings(CASES, max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([*FRAGMENTS, b"GET / HTTP/1.1\r\n"])), max_size=12))
def test_rubbish_is_refused_or_waited_for(pieces):
    """Nothing but BadRequest comes out of feed, and what the backend gets is sound."""
    check_output(run_through(pieces))


# ClientHellos


@contextlib.contextmanager
def quiet():
    """Keep the ssl module from printing a traceback for each name that is not ASCII."""
    old, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        yield
    finally:
        sys.unraisablehook = old


def real_hello(name, version=ssl.TLSVersion.TLSv1_3, protocols=()):
    """Return what the ssl module sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


class SslJudge:
    """A server of the ssl module, which is asked for the name and gets no further."""

    def __init__(self):
        """Make the context, once."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = lambda connection, name, context: self.names.append(name)

    def names_in(self, data):
        """Return a list: of the name, or of None for no name; an empty list: the hello is not all there, or bad."""
        self.names = []
        incoming = ssl.MemoryBIO()
        incoming.write(data)
        with contextlib.suppress(ssl.SSLError), quiet():
            self.context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
        return self.names


def in_records(message, size):
    """Return a handshake message in records that hold so many bytes each."""
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def vector(size, data):
    """Return data with its length, in so many bytes, before it."""
    return len(data).to_bytes(size, "big") + data


def message(*extensions, tail=b""):
    """Return a ClientHello of our own: pairs of a number and what is in that extension."""
    body = b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    if extensions:
        body += vector(2, b"".join(kind.to_bytes(2, "big") + vector(2, data) for kind, data in extensions))
    return b"\1" + vector(3, body + tail)


def sni(*entries):
    """Return a server_name extension: of names, or of pairs of a kind of name and a name."""
    pairs = [entry if isinstance(entry, tuple) else (0, entry) for entry in entries]
    return 0, vector(2, b"".join(bytes([kind]) + vector(2, name) for kind, name in pairs))


def read_hello(pieces):
    """Return what a HelloReader answers to the last of these pieces; to those before, it has to be MORE."""
    reader = client_hello.HelloReader()
    for number, piece in enumerate(pieces, 1):
        answer = reader.feed(piece)
        if answer is not MORE:
            assert number == len(pieces), f"{answer} was known after {number} of {len(pieces)} pieces"
    assert reader.received == b"".join(pieces)
    return answer


def alert_for(pieces):
    """Return the number of the alert for a hello in pieces that is refused."""
    reader = client_hello.HelloReader()
    with pytest.raises(HelloError) as refused:
        for piece in pieces:
            reader.feed(piece)
    assert "\n" not in str(refused.value) and str(refused.value)
    return refused.value.alert


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_real_hello_names_its_server(version):
    """In one piece, in two segments, in twenty, byte by byte; in one record, in two, in records of one byte."""
    hello = real_hello("site1.localhost", version)
    inside_the_name = hello.index(b"site1.localhost") + 5
    bare = hello[5:]
    for data in (hello, in_records(bare, inside_the_name - 5), in_records(bare, 26), in_records(bare, 1)):
        twenty = range(len(data) // 20, len(data), len(data) // 20)
        for pieces in ([data], cut(data, [inside_the_name]), cut(data, list(twenty)[:19]), bytes_of(data)):
            assert read_hello(pieces) == "site1.localhost"
        assert client_hello.server_name(data) == "site1.localhost"
        assert client_hello.server_name(data[:-1]) is MORE


def test_a_hello_without_a_name_has_none():
    """Also when the client was told an address, when it is so old that there are no extensions, or lists no names."""
    for data in (real_hello(None), real_hello("127.0.0.1"), in_records(message((10, b"x")), 99)):
        assert read_hello([data]) is None
        assert set(SslJudge().names_in(data)) <= {None}
    assert read_hello([in_records(message(), 99)]) is read_hello([in_records(message(sni()), 9)]) is None


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ([b"WWW.Example.com"], "www.example.com"),
        ([b"www.example.com."], "www.example.com"),
        ([b"a_b.example"], "a_b.example"),
        ([b"127.0.0.1"], "127.0.0.1"),
        ([(1, b"other"), b"a.example"], "a.example"),
        ([(1, b"other")], None),
        ([b"a.example", b"b.example"], "a.example"),
    ],
)
def test_the_name_is_the_first_host_name_in_its_plain_form(entries, name):
    """Lower case, without the last dot; other kinds of names are skipped."""
    assert read_hello([in_records(message((10, b"x"), sni(*entries), (13, b"y")), 99)]) == name


@pytest.mark.parametrize(
    "name",
    [b"", b".", b"a b.example", b"a\0.example", b"m\xc3\xbcnchen.example", b"::1", b"[::1]", b"a..b", b"a:443", b"*.a"]
    + [b"a/b", b"a\n", b"x" * 64, b"x." * 126 + b"xx"],
)
def test_what_can_be_no_host_name_is_no_name(name):
    """Only letters, digits, "-", "." and "_" can be in one: it goes into look-ups and logs. The default gets others."""
    assert read_hello([in_records(message(sni(name)), 999)]) is None


@pytest.mark.parametrize("version", [b"\0\2", b"\3\0", b"\3\1", b"\3\3"])
def test_a_hello_of_the_old_kind_has_no_name(version):
    """SSL 2.0's, which some old clients begin TLS with: a length, a 1, a version. Five bytes are enough to know it."""
    hello = b"\x80\x2e\1" + version + b"\0\x15\0\0\0\x10" + bytes(40)
    for pieces in ([hello], bytes_of(hello[:5]), cut(hello, [3])):
        assert read_hello(pieces) is None


GOOD = message(sni(b"a.example"))
BAD_HELLOS = {
    "a ServerHello of SSL 2.0": b"\x80\x1c\x04\x03\x01" + bytes(25),
    "a version that never was, in a hello of SSL 2.0": b"\x80\x1c\x01\x02\x00" + bytes(25),
    "bytes above 127": b"\xff" * 30,
    "HTTP": GET,
    "an alert": b"\x15\x03\x01\x00\x02\x01\x00",
    "application data": b"\x17\x03\x03\x00\x05hello",
    "a record of version 2": b"\x16\x02\x01" + vector(2, GOOD),
    "an empty record": b"\x16\x03\x01\x00\x00",
    "an empty record within": in_records(GOOD, 20)[:25] + b"\x16\x03\x01\x00\x00",
    "an alert within": in_records(GOOD, 20)[:25] + b"\x15\x03\x01\x00\x02\x01\x00",
    "a record of 65535 bytes, of which nothing has come": b"\x16\x03\x01\xff\xff",
    "a record of 16385 bytes": b"\x16\x03\x01\x40\x01",
    "another message": b"\x16\x03\x03" + vector(2, b"\x02" + GOOD[1:]),
    "more in the record than the message": in_records(GOOD + b"\0", 999),
    "a message of 20,000 bytes": in_records(b"\1" + vector(3, bytes(20000)), 999),
    "a message of 16 MB, of which four bytes have come": in_records(b"\1\xff\xff\xff", 999),
    "something behind the extensions": in_records(message(sni(b"a.example"), tail=b"\0"), 999),
    "two server_name extensions": in_records(message(sni(b"a.example"), sni(b"b.example")), 999),
    "no list in server_name": in_records(message((0, b"")), 999),
    "something behind the list": in_records(message((0, sni(b"a.example")[1] + b"\0")), 999),
    "a name that is shorter than its length": in_records(message((0, b"\0\x0c\0\0\x0aa.example")), 999),
    "a list that is shorter than its length": in_records(message((0, b"\0\x0d\0\0\x09a.example")), 999),
    "half an extension": in_records(
        message((10, b"x"), sni(b"a.example")).replace(b"\0\x0a\0\1x", b"\0\x0a\xff\1x"), 999
    ),
    "a session that is too long": in_records(b"\1" + vector(3, b"\3\3" + bytes(32) + b"\xff" + bytes(40)), 999),
    "nothing but a version": in_records(b"\1" + vector(3, b"\3\3"), 999),
}


@pytest.mark.parametrize("case", BAD_HELLOS)
def test_a_bad_hello_is_a_decode_error(case):
    """However it comes, and as soon as it can be known: a length that lies must not make anybody wait."""
    assert alert_for([BAD_HELLOS[case]]) == alert_for(bytes_of(BAD_HELLOS[case])) == 50
    assert SslJudge().names_in(BAD_HELLOS[case]) in ([], [None], ["a.example"])


def test_a_hello_of_16_kib_passes():
    """15,000 and 16,000 bytes, and 16,384 with the records' headers, but not one more; what comes behind is its own."""
    for count in (120, 128):
        hello = real_hello("a.example", protocols=["x" * 120 + str(number) for number in range(count)])
        assert 14_500 < len(hello) <= 16_384 and read_hello([hello]) == "a.example"
    room = 16384 - 5 - len(message(sni(b"a.example"), (21, b"")))
    exact, longer = (in_records(message(sni(b"a.example"), (21, bytes(room + more))), 16384) for more in (0, 1))
    assert len(exact) == 16384 and len(longer) == 16385
    for pieces in ([exact], bytes_of(exact), [exact + bytes(50000)]):
        assert read_hello(pieces) == "a.example"
    for pieces in ([longer], bytes_of(longer), bytes_of(in_records(exact[5:], 2000))):
        assert alert_for(pieces) == 50
    assert alert_for([real_hello("a.example", protocols=["x" * 200] * 100)]) == 50


def test_a_hello_byte_by_byte_costs_no_more_than_its_bytes():
    """16 KiB in records of one byte take some 40 ms; if all were read again each time, it would be many seconds."""
    data = in_records(message(sni(b"a.example"), (21, bytes(2600))), 1)
    assert 15_000 < len(data) < 16384
    began = time.process_time()
    assert read_hello(bytes_of(data)) == "a.example"
    assert time.process_time() - began < 1.5


@CASES
@given(
    st.sampled_from(
        [
            real_hello(name, version)
            for name in ("A.Example", None)
            for version in ssl.TLSVersion
            if version in (771, 772)
        ]
    ),
    st.integers(1, 600),
    st.data(),
)
def test_any_records_and_pieces_name_the_same_server(hello, size, data):
    """Where a hello is cut means nothing."""
    sent = in_records(hello[5:], size)
    places = data.draw(st.lists(st.integers(0, len(sent) - 1), max_size=12))
    assert read_hello(cut(sent, places)) == client_hello.server_name(hello)


def test_a_damaged_hello_names_no_other_server_than_ssl_says():
    """Of 4,000 hellos, damaged in a few bytes or cut into other records, both say the same name, or one refuses it."""
    dice = random.Random(6066)
    judge = SslJudge()
    whole = [real_hello("site1.example", version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
    whole += [real_hello(None), in_records(message(sni(b"site1.example"), (10, b"\0\2\0\x1d")), 999)]
    agreed = 0
    for _ in range(4000):
        damaged = bytearray(dice.choice(whole)[5:])
        near = max(damaged.find(b"site1"), 60)
        for _ in range(dice.choice([0, 1, 1, 2, 4])):
            place = min(
                dice.choice([dice.randrange(len(damaged)), dice.randrange(near - 20, near + 20)]), len(damaged) - 1
            )
            damaged[place] = dice.choice([dice.randrange(256), damaged[place] ^ 1, 0, 46])
        if dice.random() < 0.2:
            damaged.insert(dice.randrange(len(damaged)), dice.randrange(256))
        sent = in_records(bytes(damaged), dice.choice([16384, 300, 90, 30]))
        try:
            ours = client_hello.server_name(sent)
        except HelloError:
            continue
        theirs = judge.names_in(sent)
        if ours is not MORE and theirs:
            assert ours == (theirs[0] and names.dns_name(theirs[0])), f"{ours!r}, ssl says {theirs}: {sent.hex()}"
            agreed += 1
    assert agreed > 1000


def test_an_alert_is_one_that_ssl_understands():
    """A client of the ssl module says which alert it was."""
    assert client_hello.alert(112) == bytes.fromhex("15030100020270")
    for number, words in ((50, "DECODE_ERROR"), (112, "UNRECOGNIZED_NAME")):
        incoming = ssl.MemoryBIO()
        incoming.write(client_hello.alert(number))
        client = ssl.create_default_context().wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="a.example")
        with pytest.raises(ssl.SSLError, match=words):
            client.do_handshake()


# PROXY headers


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("client", "server", "as_read"),
    [
        (("192.0.2.1", 1025), ("192.0.2.2", 65535), ("192.0.2.1", "192.0.2.2")),
        (("2001:db8::1", 1025, 0, 0), ("::1", 65535, 0, 0), ("2001:db8::1", "::1")),
        (("::ffff:192.0.2.1", 1025, 0, 0), ("::ffff:192.0.2.2", 65535, 0, 0), ("192.0.2.1", "192.0.2.2")),
        (("::ffff:192.0.2.1", 1025, 0, 0), ("192.0.2.2", 65535), ("192.0.2.1", "192.0.2.2")),
        (("fe80::1%lo", 1025, 0, 1), ("fe80::2", 65535, 0, 1), ("fe80::1", "fe80::2")),
        (("192.0.2.1", 1025), ("::1", 65535, 0, 0), ("::ffff:c000:201", "::1")),
    ],
)
def test_a_proxy_header_says_who_the_client_is(version, client, server, as_read):
    """An independent reader finds the two ends in it, and what comes behind; cut short, it waits for more."""
    header = proxy_protocol.proxy_header(version, client, server)
    *ends, rest = read_proxy_header(header + b"hello\r\n")
    assert rest == b"hello\r\n"
    assert [(plain(address), port) for address, port in ends] == [(plain(as_read[0]), 1025), (plain(as_read[1]), 65535)]
    assert all(read_proxy_header(header[:length]) is None for length in range(len(header)))


def plain(address):
    """Return an address as bytes, since Pythons differ in how they write ::ffff:192.0.2.1."""
    return ipaddress.ip_address(address).packed


def test_proxy_headers_are_as_haproxy_has_them():
    """The examples of doc/proxy-protocol.txt, section 2.1, and the bytes of section 2.2."""
    ends = ("::ffff:255.255.255.255", 65535, 0, 0), ("255.255.255.255", 65535)
    assert proxy_protocol.proxy_header("v1", *ends) == b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"
    expected = "0d0a0d0a000d0a515549540a" + "21 11 000c" + "ffffffff" * 2 + "ffff" * 2
    assert proxy_protocol.proxy_header("v2", *ends) == bytes.fromhex(expected)


def test_a_connection_of_our_own_has_no_client():
    """UNKNOWN and LOCAL: a health check is nobody's."""
    assert proxy_protocol.own_check_header("v1") == b"PROXY UNKNOWN\r\n"
    assert proxy_protocol.own_check_header("v2") == bytes.fromhex("0d0a0d0a000d0a515549540a 20 00 0000")
    for version in ("v1", "v2"):
        assert read_proxy_header(proxy_protocol.own_check_header(version) + b"x") == (None, None, b"x")


# What attackers tried


@pytest.mark.parametrize("separator", sorted("!#$%&'*+.^_`|~"))
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Content-Length", "Transfer-Encoding"])
def test_no_sign_makes_a_second_name_of_a_header(name, separator):
    """To CGI, X_Forwarded_For is X-Forwarded-For; to some servers, X.Forwarded.For is, too, and all such names."""
    name = name.replace("-", separator)
    reader = Pulled()
    reader.feed(f"GET / HTTP/1.1\r\nHost: a\r\n{name}: 6\r\nX{separator}Y: kept\r\n\r\n".encode())
    written = reader.take().decode()
    assert f"X{separator}Y: kept" in written
    assert name not in written


@pytest.mark.parametrize("line", ["OPTIONS *x", "GET *", "GET */", "OPTIONS *?x", "GET *http://a/"])
def test_a_star_is_no_path(line):
    """OPTIONS * asks about the whole server; nothing else may begin with a star."""
    reader = Pulled()
    with pytest.raises(BadRequest, match="not a path"):
        reader.feed(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


@pytest.mark.parametrize("ended", [True, False])
def test_a_head_of_many_headers_takes_no_more_memory_than_others(ended):
    """Sixteen kilobytes that make thousands of headers are refused long before, and forgotten."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"aa:bb\r\n" * 2300 + b"\r\n" * ended
    reader = Pulled()
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest) as caught:
            for start in range(0, len(head), 1000):
                reader.feed(head[start : start + 1000])
        size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.status == 431
    assert peak < 100_000 and size < 50_000, (peak, size)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("headers", [[], [b"Upgrade: websocket", b"Connection: keep-alive, Upgrade"]], ids=len)
def test_a_body_where_none_is_expected_is_the_last_of_its_connection(method, headers):
    """Some backends do not read it, but take it for the next request: so they have to close."""
    inner = request(b"X-Forwarded-For: 6.6.6.6", start=b"GET /smuggled HTTP/1.1")
    for framing, body in (
        (b"Content-Length: %d" % len(inner), inner),
        (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)),
    ):
        outcome = Outcome([request(*headers, framing, start=method + b" / HTTP/1.1", body=body) + GET])
        assert [(asked.upgrade, asked.closes_connection) for asked in outcome.requests] == [(False, True)]
        assert b"Connection: close\r\n" in outcome.output and b"pgrade" not in outcome.output
        assert outcome.output.endswith(body) and outcome.refused is None
    assert b"close" not in passed(request(b"Content-Length: 0", start=method + b" / HTTP/1.1") + GET)
