"""What a proxy with virtual hosts refuses, and how: what could be smuggled, what takes too long, what leads nowhere.

A request that could be read in two ways is one that a backend may read in another way than the proxy: smuggled. So it
is refused, and a refusal is an answer, which the client gets to read, whatever it is doing meanwhile.
"""

import contextlib
import json
import random
import socket
import struct
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.configs import host_text
from support.harness import check_quiet
from support.peers import (
    LONG_PATIENCE,
    PATIENCE,
    SMALL_BUFFER,
    Client,
    EchoBackend,
    FullBackend,
    SilentBackend,
    Site,
    ask,
    checksum,
    free_port,
    hello_bytes,
    pattern,
    receive_answer,
    request_text,
    reset_after_delivery,
    send_byte_by_byte,
    send_pattern_in_background,
    wait_until,
    wait_until_still,
)

behaviour = pytest.mark.behaviour
needs_hosts = pytest.mark.needs_hosts

MEGABYTE = 1_000_000  # bytes
MEMORY_GROWTH = 16 * MEGABYTE  # bytes
SOUND = request_text("a", "/sound")
HANDSHAKE = ["Upgrade: websocket", "Connection: Upgrade"]


@pytest.fixture
def site():
    """A site."""
    with Site("one") as site:
        yield site


# --- what could be smuggled --------------------------------------------------------------------------


def get(*lines, first="GET /bad HTTP/1.1", host="Host: a", end="\r\n"):
    """Return a request with these header lines."""
    return "".join(f"{line}{end}" for line in [first, *([host] if host else []), *lines, ""]).encode("latin-1")


def post(*lines, body=b"5\r\nhello\r\n0\r\n\r\n"):
    """Return a POST request with these header lines, and a body."""
    return get(*lines, first="POST /bad HTTP/1.1") + body


def chunks(body):
    """Return a POST request with a chunked body of these bytes."""
    return post("Transfer-Encoding: chunked", body=body)


BAD = {  # what -> a request that is answered with 400
    "both lengths": post("Content-Length: 15", "Transfer-Encoding: chunked"),
    "both lengths, the other way round": post("Transfer-Encoding: chunked", "Content-Length: 15"),
    "two lengths": post("Content-Length: 15", "Content-Length: 14"),
    "two equal lengths": post("Content-Length: 15", "Content-Length: 15"),
    "two lengths in one line": post("Content-Length: 15, 15"),
    "a length with a sign": post("Content-Length: +15"),
    "a negative length": post("Content-Length: -15"),
    "a length in hexadecimal": post("Content-Length: 0xf"),
    "a length with a blank in it": post("Content-Length: 1 5"),
    "a length of a superscript": post("Content-Length: ²"),
    "an empty length": post("Content-Length:"),
    "a length of 63 bits and one": post(f"Content-Length: {2**63}"),
    "a length of 64 bits and 15": post(f"Content-Length: {2**64 + 15}"),
    "gzip, chunked": post("Transfer-Encoding: gzip, chunked"),
    "identity, chunked": post("Transfer-Encoding: identity, chunked"),
    "chunked, identity": post("Transfer-Encoding: chunked, identity"),
    "chunked twice": post("Transfer-Encoding: chunked, chunked"),
    "chunked in two lines": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "xchunked": post("Transfer-Encoding: xchunked"),
    "chunked after a control character": post("Transfer-Encoding: \x0bchunked"),
    "chunked with a parameter": post("Transfer-Encoding: chunked;x=1"),
    "identity": post("Transfer-Encoding: identity"),
    "an empty encoding": post("Transfer-Encoding:"),
    "chunked in 1.0": get("Transfer-Encoding: chunked", first="POST /bad HTTP/1.0") + b"0\r\n\r\n",
    "a blank before a colon": post("Content-Length : 15"),
    "a blank before the host's colon": get(host="Host : a"),
    "a folded line": get("X-Folded: one", " two"),
    "a folded host": get(host="Host:\r\n a"),
    "bare LF": get(end="\n"),
    "one bare LF": get("X-One: 1\nX-Two: 2"),
    "a bare CR": get("X-One: 1\rX-Two: 2"),
    "no Host": get(host=None),
    "an empty Host": get(host="Host:"),
    "two Hosts": get("Host: b"),
    "two equal Hosts": get("hOST: a"),
    "a Host with a path": get(host="Host: a/b"),
    "a list of Hosts": get(host="Host: a, b"),
    "a Host with a user": get(host="Host: b@a"),
    "a Host with a blank": get(host="Host: a b"),
    "a Host with no port that is one": get(host="Host: a:b"),
    "a Host with a port too many": get(host="Host: a:80:80"),
    "a Host with port 65536": get(host="Host: a:65536"),
    "a Host with two dots": get(host="Host: a..b"),
    "a Host of a dot": get(host="Host: ."),
    "a Host with a star": get(host="Host: *.a"),
    "a Host with half a bracket": get(host="Host: [::1"),
    "a Host in Latin-1": get(host="Host: ä"),
    "a Host of 300 letters": get(host="Host: " + ".".join(["abc"] * 75)),
    "a NUL in a value": get("X-One: a\0b"),
    "a control character in a value": get("X-One: a\x01b"),
    "a control character in the target": get(first="GET /bad\x01 HTTP/1.1"),
    "a NUL in a name": get("X\0One: a"),
    "a blank in a name": get("X One: a"),
    "brackets in a name": get("(X): a"),
    "an empty name": get(": a"),
    "a line without a colon": get("X-One"),
    "CONNECT": get(first="CONNECT a:80 HTTP/1.1"),
    "a target that is none": get(first="GET bad HTTP/1.1"),
    "a target with a fragment": get(first="GET /bad#x HTTP/1.1"),
    "a target for another host": get(first="GET http://b/bad HTTP/1.1"),
    "two blanks": get(first="GET  /bad HTTP/1.1"),
    "a tab": get(first="GET\t/bad HTTP/1.1"),
    "a blank at the end": get(first="GET /bad HTTP/1.1 "),
    "a version in lower case": get(first="GET /bad http/1.1"),
    "a method that is none": get(first="G(T /bad HTTP/1.1"),
    "a method with a byte above 127": get(first="GÉT /bad HTTP/1.1"),
    "a method of 65 letters": get(first=f"{'X' * 65} /bad HTTP/1.1"),
    "a target with a byte above 127 and a DEL": get(first="GET /bad\xe9\x7f HTTP/1.1"),
    "a target with a byte above 127 and a control character": get(first="GET /bad\xe9\x01 HTTP/1.1"),
    "a target with a byte above 127 and a blank": get(first="GET /bad\xe9 /bad HTTP/1.1"),
    "another protocol": get(first="GET /bad RTSP/1.0"),
    "TLS": hello_bytes("a"),
    "a chunk without a size": chunks(b"\r\nhello\r\n0\r\n\r\n"),
    "a chunk of size x": chunks(b"x\r\nhello\r\n0\r\n\r\n"),
    "a chunk of a negative size": chunks(b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk of size 0x5": chunks(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a blank and no extension": chunks(b"5 \r\nhello\r\n0\r\n\r\n"),
    "a blank before a chunk's size": chunks(b" 5\r\nhello\r\n0\r\n\r\n"),
    "a chunk of 65 bits": chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "a chunk that is too long": chunks(b"5\r\nhello!\r\n0\r\n\r\n"),
    "a chunk with LF after its size": chunks(b"5\nhello\r\n0\r\n\r\n"),
    "a chunk with LF after it": chunks(b"5\r\nhello\n0\r\n\r\n"),
    "a chunk with LF in its extension": chunks(b"5;x\ny\r\nhello\r\n0\r\n\r\n"),
    "a chunk with CR in its extension": chunks(b"5;x\ry\r\nhello\r\n0\r\n\r\n"),
    "an extension of 20 KB": chunks(b"5;" + bytes(20_000).replace(b"\0", b"x") + b"\r\nhello\r\n0\r\n\r\n"),
    "a trailer of 20 KB": chunks(b"0\r\nX: " + bytes(20_000).replace(b"\0", b"x") + b"\r\n\r\n"),
    "many trailers": chunks(b"0\r\n" + 2000 * b"X: abcdef\r\n" + b"\r\n"),
    "a trailer that is none": chunks(b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    "a trailer with LF": chunks(b"0\r\nX: a\n\r\n"),
}
OTHERS = {  # what -> a request, and the status that it is answered with
    "HTTP/2 in the clear": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "no version": (get(first="GET /bad"), 505),
    "HTTP/2.0": (get(first="GET /bad HTTP/2.0"), 505),
    "a head of 40 KB in one line": (get(f"X-Long: {'x' * 40_000}"), 431),
    "a head of 40 KB in many lines": (get(*(f"X-{number}: {'x' * 900}" for number in range(44))), 431),
    "a target of 40 KB": (get(first=f"GET /bad{'x' * 40_000} HTTP/1.1"), 431),
}


def refused(proxy, data, status):
    """Return what is wrong with the answer to a bad request, alone and then after a sound one; None if nothing is."""
    for before in (b"", SOUND):
        with proxy.connect() as client:
            try:
                with contextlib.suppress(AssertionError):  # it may be refused before it has all been sent
                    client.send(before + data)
                if before:
                    assert receive_answer(client).site == "one", "the sound request before it got no answer"
                answer = receive_answer(client)
                if (answer.status, answer.site) != (status, None):
                    return f"{answer.status}, not {status}"
                assert answer.fields["connection"] == "close" and str(status).encode() in answer.body, str(answer)
                client.expect_end()
            except AssertionError as error:
                return f"{'after a sound request: ' if before else ''}{error}"
    return None


@behaviour("smuggling")
def test_what_could_be_smuggled_is_refused(start_hosts, site):
    """Every one of these, as the first request of a connection and as a later one; the backend gets none of them."""
    proxy = start_hosts({"default": site})
    complaints = []
    for what, (data, status) in ({what: (data, 400) for what, data in BAD.items()} | OTHERS).items():
        if complaint := refused(proxy, data, status):
            complaints.append(f"{what}: {complaint}")
        assert len(complaints) < 3, "\n".join(complaints)
    assert not complaints, "\n".join(complaints)
    assert {request.line for request in site.seen} == {b"GET /sound HTTP/1.1"}
    assert b"/smuggled" not in site.stream and not site.complaints
    proxy.check_unharmed()
    assert proxy.errors() == "", "clients alone make no lines in the log"


@behaviour("smuggling")
@needs_hosts
def test_what_is_only_unusual_is_not_refused(start_hosts, site):
    """Each is one request for the backend, and the next one on the connection is answered, too."""
    proxy = start_hosts({"default": site})
    unusual = {
        "empty lines before it": b"\r\n\r\n" + get(),
        "a value of 9,000 bytes": get(f"X-Long: {'x' * 9000}"),
        "a hundred headers": get(*(f"X-{number}: {number}" for number in range(100))),
        "three cookies of 6 KB, as single sign-on has them": get(*["Cookie: " + "x" * 6000] * 3),
        "the longest head": get(f"X-Long: {'x' * (32768 - len(get('X-Long: ')))}"),
        "no blank after a colon": get("X-One:1", host="Host:a"),
        "many blanks and tabs": get("X-One: \t  1 \t ", host="Host:   a  "),
        "a length with zeros": post("Content-Length: 0005", body=b"hello"),
        "chunked in capitals": post("Transfer-Encoding: CHUNKED"),
        "chunk sizes in capitals, with zeros": chunks(b"000A\r\nhellohello\r\n0\r\n\r\n"),
        "blanks before an extension": chunks(b"5 ;x=y\r\nhello\r\n0\t ; x\r\n\r\n"),
        "extensions": chunks(b'5;a=b;c="d e;f"\r\nhello\r\n000;x\r\n\r\n'),
        "trailers": chunks(b"5\r\nhello\r\n0\r\nX-One: 1\r\nContent-Length: 5\r\n\r\n"),
        "a value in UTF-8": get("X-One: ä"),
        "an empty value": get("X-One:"),
        "all that a name may be made of": get("!#$%&'*+-.^_`|~09azAZ: 1"),
        "a query with anything": get(first="GET /bad?a[]=b|c&d='e'%00 HTTP/1.1"),
        "a path in UTF-8, as curl sends what one types": get(first="GET /bad/caf\xc3\xa9 HTTP/1.1"),
        "a path and a query with any byte above 127": get(
            first=f"GET /bad{bytes(range(128, 256)).decode('latin-1')}?\x80\xff HTTP/1.1"
        ),
        "an absolute target with a path in UTF-8": get(first="GET http://a/bad/caf\xc3\xa9 HTTP/1.1"),
        "a Host with no port after its colon": get(host="Host: a:"),
        "a Host with a port with zeros": get(host="Host: a:000080"),
        "an unknown method": get(first="LIST /bad HTTP/1.1"),
        "OPTIONS of all": get(first="OPTIONS * HTTP/1.1"),
    }
    for what, data in unusual.items():
        before = len(site.seen)
        with proxy.connect() as client:
            client.send(data + SOUND)
            for _ in range(2):
                answer = receive_answer(client)
                assert answer.site == "one", f"{what}: {answer}"
        assert len(site.seen) == before + 2 and not site.complaints, f"{what}: {site.seen[before:]} {site.complaints}"
        sent, _, _ = data.lstrip(b"\r\n").replace(b"http://a/", b"/").partition(b"\r\n")
        assert site.seen[before].line == sent, f"{what}: the backend got {site.seen[before].line}"
    assert not any(request.values("Content-Length") and request.values("X-One") for request in site.seen)


@behaviour("smuggling")
@needs_hosts
@pytest.mark.parametrize("last", ["Connection: close", "Connection: x, Close", "HTTP/1.0"])
def test_what_comes_behind_a_last_request_is_dropped(start_hosts, site, last):
    """The backend may or may not read it: so it does not get it."""
    proxy = start_hosts({"default": site})
    first = get(first="GET /last HTTP/1.0") if last == "HTTP/1.0" else get(last, first="GET /last HTTP/1.1")
    with proxy.connect() as client:
        client.send(first + get(first="GET /smuggled HTTP/1.1"))
        assert receive_answer(client).site == "one"
        client.half_close()
        client.expect_end()
    assert b"/smuggled" not in site.stream


@behaviour("smuggling")
@needs_hosts
def test_hop_by_hop_headers_are_not_passed_on(start_hosts, site):
    """They concern the client's connection, and not the backend's; a CGI program would misunderstand one of them."""
    dropped = ["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: trailers", "Proxy: http://evil.example/"]
    proxy = start_hosts({"default": site})
    dropped.append("X-Mine: named by Connection")
    assert ask(proxy, "a", headers=[*dropped, "X-Kept: yes", "Connection: Keep-Alive, X-Mine, Host"]).site == "one"
    (request,) = site.seen
    for line in dropped:
        assert not request.values(line.partition(":")[0]), request.fields
    assert request.values("X-Kept") == ["yes"] and request.values("Host"), request.fields


@behaviour("smuggling")
@needs_hosts
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "LIST"])
def test_a_body_that_a_backend_does_not_read_is_no_request(start_hosts, method):
    """Some servers look for no body there, and would take it for the next request: so it has to be the last one."""
    lines = []

    class Careless(EchoBackend):
        def serve(self, connection):
            stream = connection.makefile("rb")
            while line := stream.readline():
                lines.append(line)
                headers = [*iter(stream.readline, b"\r\n")]
                self.send(connection, b"HTTP/1.1 204 No Content\r\n\r\n")
                if b"Connection: close\r\n" in headers:
                    return

    smuggled = get("X-Forwarded-For: 192.0.2.1", first="GET /smuggled HTTP/1.1")
    with Careless() as backend:
        proxy = start_hosts({"a": backend})
        for body in (b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled), smuggled):
            length = f"Content-Length: {len(body)}" if body is smuggled else "Transfer-Encoding: chunked"
            with proxy.connect() as client:
                client.send(get(length, first=f"{method} /bad HTTP/1.1") + body + get())
                client.receive_all()
    assert [line.split()[1] for line in lines] == [b"/bad", b"/bad"], f"the backend served {lines}"


STREAMS = [  # each ends the connection
    SOUND
    + post("Content-Length: 7", body=b"\r\n\r\nabc")
    + chunks(b'4;ext="\xe4"\r\nab\r\n\r\n1\r\nx\r\n0\r\nTrailer: x\r\n\r\n')
    + get(first="HEAD /head HTTP/1.1")
    + get("Connection: close"),
    SOUND + SOUND + post("Content-Length: 3", "Content-Length: 3", body=b"abc"),
    b"\r\n" + SOUND + chunks(b"5\r\nhello\r\noops\r\n"),
    post("X-Forwarded-For: 192.0.2.1", "Content-Length: 300", body=pattern(0, 300)) + get(f"X-Long: {'x' * 33_000}"),
    get("Upgrade: websocket", "Connection: Upgrade", host="Host: ws") + b"\r\n\r\n" + pattern(5, 500) + SOUND,
    get("Upgrade: websocket", "Connection: Upgrade") + SOUND + get(first="GET /last HTTP/1.0"),
]


@behaviour("smuggling")
@needs_hosts
def test_pieces_change_nothing(start_hosts, site):
    """However a client cuts its bytes into pieces, the backend gets the same ones, and the client the same answers."""
    with Site("sockets", switch=True) as sockets:
        proxy = start_hosts({"ws": sockets, "default": site})

        def exchange(pieces):
            streams = len(site.streams), len(sockets.streams)
            with proxy.connect() as client:
                for piece in pieces:
                    client.send(piece)
                    if len(pieces) > 1:
                        time.sleep(0.001)  # so that the proxy most likely reads it alone
                client.half_close()
                answers = client.receive_all()
            passed = site.streams[streams[0] :] + sockets.streams[streams[1] :]
            return b"".join(map(bytes, passed)), answers

        whole = [exchange([stream]) for stream in STREAMS]
        assert all(b"HTTP/1.1 " in answers for _, answers in whole)
        assert [b"HTTP/1.1 400" in answers for _, answers in whole[:3]] == [False, True, True]

        @settings(
            max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(st.data())
        def check(data):
            number = data.draw(st.integers(0, len(STREAMS) - 1))
            stream = STREAMS[number]
            cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
            pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
            assert exchange(pieces) == whole[number], f"cut at {cuts}"

        check()
        for number in (0, 1, 2, 4, 5):
            short = STREAMS[number][:700]
            assert exchange([*(bytes([byte]) for byte in short), STREAMS[number][700:]]) == whole[number]
        proxy.check_unharmed()


# --- refusals are answers ----------------------------------------------------------------------------


FAILING_ROUTE = 'function route(request) if request.target == "/error" then error("as you wish") end end'


@pytest.fixture
def refusing(start_hosts, site):
    """A proxy whose hosts are `a`, a site; `down`, where no server listens; `full`, where no connect is answered."""
    with FullBackend() as full:
        hosts = {"a": site, "down": free_port(), "full": full}
        proxy = start_hosts(hosts, connectTimeout=300, headTimeout=500, more=FAILING_ROUTE)
        with proxy.connect() as first:
            first.send(request_text("full", method="POST", headers=["Content-Length: 1000"]))
            wait_until(lambda: full.connections, "the first client is connected")
            full.fill()
            yield proxy


REFUSED = {  # status -> the head of an upload that is answered with it
    400: {"host": "a b"},
    404: {"host": "nobody.example"},
    431: {"host": "a", "headers": [f"X-Long: {'x' * 40_000}"]},
    500: {"host": "a", "target": "/error"},
    502: {"host": "down"},
    504: {"host": "full"},
    505: {"host": "a", "version": "2.0"},
}


@behaviour("refusals")
@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_says_why(refusing, site, status):
    """A small page of plain text, and the end of the connection; to HEAD, without the page."""
    with refusing.connect() as client:
        client.send(request_text(**REFUSED[status]))
        answer = receive_answer(client)
        assert answer.status == status
        assert answer.fields["connection"] == "close" and answer.fields["content-type"].startswith("text/plain")
        assert answer.body.startswith(b"%d " % status) and len(answer.body) > 15, answer.body
        assert answer.body.isascii() and answer.body.endswith(b"\n")
        client.expect_end()
    if status not in (400, 431, 505):  # of these, the method may not be known
        with refusing.connect() as client:
            client.send(request_text(**REFUSED[status], method="HEAD"))
            assert receive_answer(client, "HEAD").status == status
            client.expect_end()
    assert not site.seen
    assert ask(refusing, "a").site == "one"


@behaviour("refusals")
@pytest.mark.parametrize("status", REFUSED)
def test_a_client_that_is_still_sending_gets_to_read_why(refusing, site, status):
    """It reads only when it has sent 3 MB; a proxy that closes at once would reset it, and the answer would be lost."""
    count = 3 * MEGABYTE
    options = {"headers": [], **REFUSED[status]}
    options["headers"] = [*options["headers"], f"Content-Length: {10 * count}"]
    with refusing.connect(timeout=LONG_PATIENCE) as client:
        client.send(request_text(method="POST", **options))
        check_refused_behind(client, count, status)


def check_refused_behind(client, count, status):
    """Raise AssertionError unless a client can send so many bytes first, and then reads an answer of this status."""
    sender = send_pattern_in_background(client, count)
    sender.join(LONG_PATIENCE)
    assert not sender.is_alive() and client.sent > count, f"only {client.sent:,} bytes were taken"
    assert receive_answer(client).status == status
    client.expect_end()


class Mute(EchoBackend):
    """Ends each connection as soon as it has got a request, or a part of one: by an end of file, or by a reset."""

    resets_at_once = False

    def serve(self, connection):
        """Read something, and end."""
        connection.recv(4096)
        if self.resets_at_once:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@behaviour("refusals")
@pytest.mark.parametrize("end", ["end of file", "reset"])
def test_a_backend_that_ends_without_a_byte_is_a_502(start_hosts, site, end):
    """Not an empty answer, and not a reset: the client is told, also while it is sending, and so is the log."""
    with Mute() as mute:
        mute.resets_at_once = end == "reset"
        proxy = start_hosts({"a": site, "mute": mute})
        before = settled_files(proxy)
        for method, headers in (("GET", []), ("HEAD", []), ("POST", ["Content-Length: 1000000"]), ("GET", HANDSHAKE)):
            with proxy.connect() as client:
                client.send(request_text("mute", method=method, headers=headers))
                answer = receive_answer(client, method)
                assert (answer.status, answer.fields["connection"]) == (502, "close"), f"{method}: {answer}"
                client.expect_end()
        with proxy.connect() as client:
            client.send(request_text("mute"))
            client.half_close()
            assert receive_answer(client).status == 502, "a client that has sent its end of file"
        with proxy.connect(timeout=LONG_PATIENCE) as client:
            count = 3 * MEGABYTE
            client.send(request_text("mute", method="POST", headers=[f"Content-Length: {10 * count}"]))
            check_refused_behind(client, count, 502)
        wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before", LONG_PATIENCE)
    lines = proxy.errors().splitlines()
    assert lines and all("Lost the backend" in line and str(mute.port) in line for line in lines), lines
    assert ask(proxy, "a").site == "one"
    proxy.check_unharmed()


@behaviour("refusals")
@pytest.mark.parametrize("end", ["end of file", "reset"])
@pytest.mark.parametrize(
    "begun", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"]
)
@pytest.mark.parametrize("headers", [[], HANDSHAKE], ids=["a request", "a handshake"])
def test_an_answer_that_breaks_off_is_not_followed_by_a_502(start_hosts, site, begun, end, headers):
    """The client could take it for the rest of the answer. It gets what there was, and the end."""

    class Stopping(EchoBackend):
        def serve(self, connection):
            self.receive(connection)
            self.send(connection, begun)
            if end == "reset":
                reset_after_delivery(connection)

    with Stopping() as backend:
        proxy = start_hosts({"a": backend})
        with proxy.connect() as client:
            client.send(request_text("a", headers=headers))
            assert client.receive_exactly(len(begun)) == begun
            with contextlib.suppress(AssertionError) if end == "reset" else contextlib.nullcontext():
                client.expect_end()
            assert client.received == len(begun), "there is something after the answer that was cut short"
        proxy.check_unharmed()


@behaviour("refusals")
def test_a_kept_connection_that_ends_has_no_502(start_hosts):
    """The backend has answered the first request, and ends during the second: the client gets an end, and may retry."""

    class Once(EchoBackend):
        def serve(self, connection):
            self.receive(connection)
            self.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            self.receive(connection)

    with Once() as backend, start_hosts({"a": backend}).connect() as client:
        client.send(request_text("a"))
        assert receive_answer(client).body == b"ok"
        client.send(request_text("a"))
        client.expect_end()


@behaviour("refusals")
def test_a_later_request_is_refused_as_readably(start_hosts, site):
    """Its host is another one than the connection's: 421."""
    proxy = start_hosts({"a": site, "b": free_port()})
    count = 3 * MEGABYTE
    with proxy.connect(timeout=LONG_PATIENCE) as client:
        client.send(request_text("a"))
        assert receive_answer(client).site == "one"
        client.send(request_text("b", method="POST", headers=[f"Content-Length: {10 * count}"]))
        check_refused_behind(client, count, 421)


@behaviour("refusals")
def test_a_bad_chunk_in_a_big_upload_is_answered(start_hosts, site):
    """After 10 MB: what came before it has reached the backend, which never sees the request complete."""
    proxy = start_hosts({"default": site})
    body = b"".join(b"10000\r\n%b\r\n" % pattern(start, 65536) for start in range(0, 10 * MEGABYTE, 65536))
    with proxy.connect(timeout=LONG_PATIENCE) as client:
        client.send(chunks(body + b"oops\r\n" + body))
        assert receive_answer(client).status == 400
        client.expect_end()
    assert not site.seen
    assert len(site.stream) > 10 * MEGABYTE


@behaviour("refusals")
def test_a_head_that_takes_too_long_is_answered_with_408(start_hosts, site):
    """From accept, or for a later request from its first byte. Nothing at all, half of it, one byte after the other."""
    proxy = start_hosts({"default": site}, headTimeout=600)
    with contextlib.ExitStack() as stack:
        silent, half, later, slow = clients = [stack.enter_context(proxy.connect()) for _ in range(4)]
        later.send(SOUND)
        assert receive_answer(later).site == "one"
        half.send(SOUND[:20])
        later.send(SOUND[:20])
        with contextlib.suppress(AssertionError):  # it is ended before it has sent all
            send_byte_by_byte(slow, get()[:30], pause=0.03)
        for client in clients:
            if client is slow:
                continue  # a byte that was sent too late may have reset it
            answer = receive_answer(client)
            assert (answer.status, answer.site) == (408, None), answer
            client.expect_end()
    assert len(site.seen) == 1
    assert proxy.errors() == ""


@behaviour("refusals")
def test_a_head_that_has_come_in_time_is_served_late(start_hosts, site):
    """The proxy had no processor for a while. Its clients, more than one wait reports, have kept to their time."""
    proxy = start_hosts({"default": site}, headTimeout=3000)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect(timeout=LONG_PATIENCE)) for _ in range(300)]
        wait_until(lambda: proxy.open_files() >= 2 * len(clients), "all have been accepted", LONG_PATIENCE)
        with proxy.stopped():
            clients += [stack.enter_context(proxy.connect(timeout=LONG_PATIENCE)) for _ in range(20)]
            for client in clients:
                client.send(request_text("a", headers=[f"X-Long: {'x' * 12_000}"]))
            time.sleep(max(0, start + 5 - time.monotonic()))
        statuses = [receive_answer(client).status for client in clients]
    assert statuses.count(200) == len(clients), f"{statuses.count(408)} of {len(clients)} got 408. Hint: events first"


@behaviour("refusals")
def test_one_byte_now_and_then_is_no_excuse(start_hosts, site):
    """It is answered while it is still sending, and long before it would have been done."""
    proxy = start_hosts({"default": site}, headTimeout=400)
    with proxy.connect(timeout=10) as client:
        stop = threading.Event()

        def drip():
            with contextlib.suppress(AssertionError):
                for byte in get(f"X-Long: {'x' * 10_000}"):
                    if stop.wait(0.02):
                        return
                    client.send(bytes([byte]))

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        try:
            assert receive_answer(client).status == 408
            client.expect_end()
        finally:
            stop.set()
            dripping.join(PATIENCE)
    assert not site.seen


@behaviour("refusals")
def test_only_heads_have_to_hurry(start_hosts, site):
    """Idle between requests, a body that pauses, an answer that takes its time: none is cut."""
    proxy = start_hosts({"default": site}, headTimeout=300)
    with proxy.connect() as client:
        client.send(SOUND)
        assert receive_answer(client).site == "one"
        time.sleep(0.6)
        client.send(request_text("a", method="POST", headers=["Content-Length: 4"]) + b"bo")
        time.sleep(0.6)
        client.send(b"dy")
        assert receive_answer(client).site == "one"
        client.send(chunks(b"5\r\nhel"))
        time.sleep(0.6)
        client.send(b"lo\r\n0\r\n\r\n" + request_text("a", "/slow"))
        assert receive_answer(client).site == "one"
        time.sleep(0.6)
        site.go.set()
        assert receive_answer(client).site == "one"
    assert [request.body for request in site.seen] == [b"", b"body", b"hello", b""]


@behaviour("refusals")
def test_a_client_that_ends_in_the_middle_of_a_head_is_told(start_hosts, site):
    """Without a byte, it just leaves."""
    proxy = start_hosts({"default": site})
    with proxy.connect() as client:
        client.send(SOUND[:20])
        client.half_close()
        assert receive_answer(client).status == 400
        client.expect_end()
    with proxy.connect() as client:
        client.half_close()
        client.expect_end()
    assert not site.connections
    assert proxy.errors() == ""


@behaviour("refusals")
def test_a_backend_that_is_down_is_one_log_line(start_hosts, site):
    """However many clients hear so; the backend that comes back is used again."""
    port = free_port()
    proxy = start_hosts({"default": port})
    for _ in range(5):
        assert ask(proxy, "a", method="POST", body=b"x" * 1000).status == 502
    assert len(proxy.errors().splitlines()) == 1 and str(port) in proxy.errors()
    with Site("back", port=port):
        assert ask(proxy, "a").site == "back"


# --- floods ------------------------------------------------------------------------------------------


def settled_files(proxy):
    """Return how many descriptors it has open when it has served a client, and let go of that connection."""
    ask(proxy, "a")
    return wait_until_still(proxy.open_files, still=0.2)


@behaviour("refusals")
def test_a_flood_of_half_heads_holds_no_descriptors(start_hosts, site):
    """200 of them, whose clients neither read nor close: soon after their time is over, all descriptors are free."""
    proxy = start_hosts({"default": site}, headTimeout=500)
    before = settled_files(proxy)
    with contextlib.ExitStack() as stack:
        for number in range(200):
            stack.enter_context(proxy.connect()).send(SOUND[: number % 30])
        wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before", LONG_PATIENCE)
        assert ask(proxy, "a").site == "one"
    assert len(site.connections) == 2
    proxy.check_unharmed()


ENDLESS = {
    "an endless head": (SOUND[:-2] + b"X-Endless: ", b"x" * 65536),
    "endless headers": (SOUND[:-2], b"X-Endless: 1\r\n" * 5000),
    "an endless target": (b"GET /", b"x" * 65536),
    "an endless extension": (chunks(b"5;x="), b"x" * 65536),
    "an endless trailer": (chunks(b"0\r\nX: "), b"x" * 65536),
    "endless trailers": (chunks(b"0\r\n"), b"X: 1\r\n" * 10_000),
    "endless empty lines": (b"", b"\r\n" * 30_000),
    "a WebSocket that does not wait": (
        request_text("a", "/silent", headers=HANDSHAKE),
        b"x" * 65536,
    ),
}


@behaviour("refusals")
@pytest.mark.parametrize("what", ENDLESS)
def test_200_clients_that_never_come_to_an_end_fill_no_memory(start_hosts, site, what):
    """Each sends as much as is taken, up to 300 KB. What is kept of it is bounded."""
    proxy = start_hosts({"default": site}, headTimeout=800)
    assert ask(proxy, "a").site == "one"
    before = proxy.memory()
    begin, rest = ENDLESS[what]
    most = 0
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(200)]
        for client in clients:
            client.send(begin)
            client.socket.setblocking(False)
        for _ in range(5):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.socket.send(rest)
            most = max(most, proxy.memory() - before)
        time.sleep(0.2)
        most = max(most, proxy.memory() - before)
        assert most < MEMORY_GROWTH, f"it grew by {most:,} bytes: {most / 200:,.0f} for each client"
        assert ask(proxy, "a").site == "one"
    proxy.check_unharmed()


TEDIOUS = {
    "chunks of one byte": (chunks(b""), b"1\r\nx\r\n"),
    "tiny requests": (b"", b"GET / HTTP/1.1\r\nHost:sink\r\n\r\n"),
    "requests with many headers": (b"", b"GET / HTTP/1.1\r\nHost:sink\r\n" + 100 * b"a:\r\n" + b"\r\n"),
    "tiny chunks after big ones": (chunks(b""), b"40000\r\n" + bytes(0x40000) + b"\r\n" + 20_000 * b"1\r\nx\r\n"),
}


@behaviour("refusals")
@pytest.mark.parametrize("what", TEDIOUS)
def test_what_is_tedious_to_read_holds_up_nobody_else(start_hosts, site, what):
    """Three clients send it as fast as it is taken; a megabyte of it at a stretch would take most of a second."""
    with SilentBackend() as sink:
        proxy = start_hosts({"sink": sink, "a": site})
        begin, unit = TEDIOUS[what]
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(proxy.connect(timeout=LONG_PATIENCE))
                client.send(begin.replace(b"Host: a", b"Host: sink"))
                stack.callback(send_for_ever(client, unit * max(1, 500_000 // len(unit))))
            wait_until(lambda: sink.received > 3000, "the flood has begun")
            slowest = 0
            for _ in range(10):
                start = time.monotonic()
                assert ask(proxy, "a").site == "one"
                slowest = max(slowest, time.monotonic() - start)
            assert slowest < 2, f"a small request took {slowest:.1f} s. Hint: how much is read of one client in a turn?"


def send_for_ever(client, data):
    """Send the same data again and again from a thread; return what ends that."""

    def run():
        with contextlib.suppress(AssertionError):
            while True:
                client.send(data)

    threading.Thread(target=run, daemon=True).start()
    return client.reset


@behaviour("refusals")
def test_a_client_that_asks_for_ever_and_reads_nothing_fills_no_memory(start_hosts):
    """Its answers stop the backend, the backend stops the proxy, and that stops the client."""
    with Site("one", receive_buffer=SMALL_BUFFER) as site:
        proxy = start_hosts({"a": site})
        ask(proxy, "a")
        before = proxy.memory()
        with proxy.connect(receive_buffer=SMALL_BUFFER, timeout=LONG_PATIENCE) as client:
            stop = send_for_ever(client, 1000 * request_text("a", "/bytes?20000"))
            wait_until(lambda: len(site.seen) > 1, "the backend answers")
            wait_until_still(lambda: (len(site.seen), client.sent), still=1)
            assert proxy.memory() - before < MEMORY_GROWTH
            check_quiet(proxy, seconds=0.5)
            stop()
        assert ask(proxy, "a").site == "one"


@behaviour("refusals")
def test_500_refused_clients_leave_no_descriptors(start_hosts, site):
    """Refused for every reason, well behaved or not."""
    proxy = start_hosts({"a": site, "down": free_port()})
    before = settled_files(proxy)
    kinds = [get(host="Host: b"), get(host=None), get(host="Host: down"), chunks(b"x\r\n"), b"\x16\x03\x01"]
    for number in range(500):
        with proxy.connect() as client:
            client.send(kinds[number % len(kinds)])
            if number % 3 == 0:
                assert receive_answer(client).status in (400, 404, 502)
            elif number % 3 == 1:
                client.reset()
    wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before", LONG_PATIENCE)
    proxy.check_unharmed()


@behaviour("refusals")
def test_a_refused_client_that_stays_is_closed_all_the_same(start_hosts, site):
    """It reads nothing, closes nothing, and goes on sending: two seconds, or somewhat more, and its time is over."""
    proxy = start_hosts({"a": site})
    before = settled_files(proxy)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(20)]
        for client in clients:
            client.send(request_text("b", method="POST", headers=["Content-Length: 1000000000"]))

        def send_on():
            for client in clients:
                with contextlib.suppress(AssertionError):
                    client.send(b"x" * 100)

        deadline = time.monotonic() + LONG_PATIENCE
        while proxy.open_files() > before:
            assert time.monotonic() < deadline, f"{proxy.open_files() - before} descriptors are still open"
            send_on()
            time.sleep(0.05)
    proxy.check_unharmed()


STATES = {  # what a client may be in the middle of -> what it has sent by then
    "nothing sent": b"",
    "half a head": SOUND[:20],
    "half a body": request_text("a", method="POST", headers=["Content-Length: 10"]) + b"half",
    "half a chunk": chunks(b"10\r\nhalf"),
    "waiting for an answer": request_text("a", "/silent"),
    "waiting for two": 2 * request_text("a", "/silent"),
    "a handshake without an answer": request_text("a", "/silent", headers=HANDSHAKE),
    "bytes after a handshake": request_text("a", "/slow", headers=HANDSHAKE) + b"x" * 1000,
    "idle": SOUND,
    "refused": get(host=None),
    "refused after an answer": SOUND + get(host=None),
    "refused after one that does not come": request_text("a", "/silent") + get(host=None),
    "refused in the middle of a body": request_text("b", method="POST", headers=["Content-Length: 10"]) + b"half",
    "no connect is answered": request_text("full", method="POST", headers=["Content-Length: 10"]) + b"half",
    "no server listens": request_text("down"),
}


@behaviour("refusals")
@pytest.mark.parametrize("moment", ["later", "at once"])
def test_clients_may_vanish_in_the_middle_of_anything(start_hosts, site, moment):
    """Closed, reset, half-closed and then reset: nothing is left of them. At once: all is news at the same time."""
    with FullBackend() as full:
        hosts = {"a": site, "full": full, "down": free_port()}
        proxy = start_hosts(hosts, connectTimeout=1000)
        with proxy.connect() as first:
            first.send(request_text("full", method="POST", headers=["Content-Length: 1000"]))
            wait_until(lambda: full.connections, "the first client is connected")
            full.fill()
            ask(proxy, "down")
            before = settled_files(proxy)
            for way in ("close", "reset", "half_close and reset"):
                for what, data in STATES.items():
                    with (
                        proxy.stopped() if moment == "at once" else contextlib.nullcontext(),
                        proxy.connect() as client,
                    ):
                        client.send(data)
                        if moment == "later":
                            time.sleep(0.01)
                        if way == "half_close and reset":
                            with contextlib.suppress(AssertionError):  # it may have been refused, and closed
                                client.half_close()
                        (client.close if way == "close" else client.reset)()
                    assert proxy.is_alive(), f"{what}, {way}: {proxy.errors()}"
            check_quiet(proxy, seconds=0.5)
            site.go.set()  # what comes after a handshake, its end included, waits for the answer to that
            wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before")
        assert ask(proxy, "a").site == "one"
        proxy.check_unharmed()
        lines = proxy.errors().splitlines()
        assert len(lines) <= 2, f"more than a line for each of the two backends that can't be reached: {lines}"


@behaviour("refusals")
def test_it_stops_cleanly_whatever_its_clients_are_doing(start_hosts, site):
    """Within a second, and without a traceback."""
    proxy = start_hosts({"a": site, "down": free_port()}, connectTimeout=1000)
    with contextlib.ExitStack() as stack:
        for data in STATES.values():
            stack.enter_context(proxy.connect()).send(data)
        ask(proxy, "a")
        seconds = proxy.signal_and_wait()
        assert seconds < 1, f"{seconds:.1f} s"
    assert "Traceback" not in proxy.errors()


@behaviour("refusals")
def test_what_comes_while_one_backend_is_tried_reaches_the_next_one_whole(start_hosts, site):
    """A megabyte of a body, and another request after it; the first backend does not answer the connect."""
    with FullBackend() as full:
        host = host_text(full, site, connectTimeout=400, sendProxyProtocol="v1")
        site.proxy_protocol = True
        proxy = start_hosts({"a": host})
        with proxy.connect() as first, proxy.connect(timeout=LONG_PATIENCE) as client:
            first.send(request_text("a", method="POST", headers=["Content-Length: 1000"]))
            wait_until(lambda: full.connections, "the first client is connected")
            full.fill()
            ask(proxy, "a")  # the turn of the other one
            body = pattern(0, MEGABYTE)
            client.send(request_text("a", "/sum", method="POST", body=body) + SOUND)
            assert json.loads(receive_answer(client).body) == checksum(body)
            assert receive_answer(client).site == "one"
        assert not site.complaints


@behaviour("refusals")
def test_both_doors_wait_for_descriptors(start_hosts, site):
    """A crowd at one has taken them all; a client at the other is served as soon as some are free again."""
    proxy = start_hosts({"default": site}, tls=True)
    hello = hello_bytes("a")
    for port in (proxy.port, proxy.tls_port):  # each door keeps a socket ready for the next client
        Client(port).close()
    wait_until_still(proxy.open_files, still=0.2)
    proxy.limit_open_files(proxy.open_files() + 20)
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(proxy.connect())
        time.sleep(0.3)  # let the proxy take as many as it can
        late = stack.enter_context(Client(proxy.tls_port, timeout=LONG_PATIENCE))
        late.send(hello)
        check_quiet(proxy, seconds=0.5)
        assert hello not in site.stream
    with Client(proxy.tls_port, timeout=LONG_PATIENCE) as late:
        late.send(hello)
        wait_until(lambda: hello in site.stream, "a client at the other door is served", LONG_PATIENCE)
    assert ask(proxy, "a").site == "one"
    proxy.check_unharmed()


@behaviour("refusals")
def test_waiting_costs_no_cpu(start_hosts, site):
    """For a head, for the client to read why it was refused, for the backend to answer before that, for nothing."""
    proxy = start_hosts({"a": site}, more="headTimeout = 60000")
    with contextlib.ExitStack() as stack:

        def client_that_sends(data):
            client = stack.enter_context(proxy.connect())
            client.send(data)
            return client

        client_that_sends(b"")
        client_that_sends(SOUND[:20])
        client_that_sends(SOUND[:20]).half_close()
        client_that_sends(chunks(b"5\r\nhel"))
        client_that_sends(chunks(b"5\r\nhel")).half_close()
        client_that_sends(SOUND[:-2].replace(b"/sound", b"/slow") + b"\r\n" + get(host=None))
        client_that_sends(SOUND[:-2].replace(b"/sound", b"/slow") + b"Connection: close\r\n\r\n" + bytes(1000))
        refused = client_that_sends(request_text("b", method="POST", headers=["Content-Length: 1000"]))
        wait_until(lambda: len(site.seen) == 2, "two are waiting for the backend's answer")
        assert receive_answer(refused).status == 404
        refused.send(b"x")
        check_quiet(proxy)
        site.go.set()
    proxy.check_unharmed()


class Dying(EchoBackend):
    """Ends each connection in some other way, mostly in the middle of an answer."""

    ENDS = [b"", b"HTTP/1.1 2", b"HTTP/1.1 101 Switching", b"HTTP/1.1 101 Switching Protocols\r\n\r\nhi", b"\r\n\r\n"]

    def serve(self, connection):
        """Read something, say something, and end, every other time by a reset."""
        number = len(self.connections)
        connection.recv(1 + number % 300)
        connection.sendall(self.ENDS[number % len(self.ENDS)])
        if number % 3 == 0:
            connection.shutdown(socket.SHUT_WR)
            time.sleep(0.1)
        if number % 2 == 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


MIX = [
    *(request_text("mix"), request_text("mix") * 5, request_text("mix") + request_text("good")),
    *(request_text("mix", headers=HANDSHAKE), request_text("mix", headers=HANDSHAKE) + b"behind" * 100),
    request_text("mix", headers=HANDSHAKE) + request_text("mix") * 3,
    *(request_text("mix", method="POST", body=pattern(0, 300_000)), chunks(b"5\r\nhello\r\nx")),
    *(SOUND[:9], request_text("mix") + SOUND[:20], get(host="Host: nobody"), request_text("mix") + b"\0", b"\r\n", b""),
]


class Troublemaker(threading.Thread):
    """A client who does random things for a few seconds."""

    def __init__(self, proxy, seed, seconds):
        """Prepare."""
        super().__init__(daemon=True)
        self.proxy = proxy
        self.random = random.Random(seed)
        self.deadline = time.monotonic() + seconds

    def run(self):
        """Do one thing after another; the results don't matter here."""
        while time.monotonic() < self.deadline:
            with contextlib.suppress(AssertionError), self.proxy.connect(timeout=0.5) as client:
                self.trouble(client)

    def trouble(self, client):
        """Send something, whole, in two pieces or byte by byte; then leave in some way, at some time."""
        data = self.random.choice(MIX)
        if len(data) < 300 and self.random.random() < 0.3:
            send_byte_by_byte(client, data, pause=0.0002)
        else:
            cut = self.random.randint(0, len(data))
            client.send(data[:cut])
            time.sleep(self.random.choice([0, 0.01]))
            client.send(data[cut:])
        time.sleep(self.random.choice([0, 0, 0.01, 0.1, 0.4]))
        leave = self.random.choice([client.close, client.reset, client.half_close, client.receive, lambda: None])
        leave()
        if leave == client.half_close:
            client.receive_all()


@behaviour("refusals")
def test_a_random_mix_of_troublemakers_leaves_nothing_behind(start_hosts, site):
    """Eight of them, for three seconds, and dying, dead and hanging backends; good clients get whole answers.

    Afterwards there are as many descriptors as before, and no backend's `active` counts anybody, says a Lua balance.
    """
    seed = random.randrange(10**6)
    balance = """
        function balance(client, backends)
          if client.address ~= "127.0.0.9" then return nil end
          local active = 0
          for _, backend in ipairs(backends) do active = active + backend.active end
          error("active: " .. active)
        end
    """
    with Dying() as dying, FullBackend() as hanging, Site("good") as good:
        hanging.fill()
        proxy = start_hosts(
            {"mix": host_text(site, dying, free_port(), hanging), "good": good},
            more=balance,
            headTimeout=600,
            connectTimeout=200,
            failTimeout=100,
        )
        assert ask(proxy, "good").site == "good"
        before = settled_files(proxy)
        troublemakers = [Troublemaker(proxy, seed + number, seconds=3) for number in range(8)]
        for troublemaker in troublemakers:
            troublemaker.start()
        answers = 0
        while any(troublemaker.is_alive() for troublemaker in troublemakers):
            answer = ask(proxy, "good", f"/bytes?{300_000 + answers}", method="POST", body=pattern(0, 100_000))
            assert answer.body == pattern(0, 300_000 + answers), f"seed {seed}"
            answers += 1
            time.sleep(0.01)
        assert answers > 5
        hanging.close()  # one connect or other may have got into its queue, where no server answers
        wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before (seed {seed})", 8)
        check_quiet(proxy, seconds=0.3)
        with proxy.connect(source="127.0.0.9") as client:
            client.send(request_text("mix"))
            wait_until(lambda: "active: " in proxy.errors(), "the Lua function has told")
    assert "active: 0" in proxy.errors(), f"seed {seed}: {proxy.errors()[-300:]}"
    proxy.check_unharmed()
