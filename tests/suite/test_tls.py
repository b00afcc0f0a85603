"""TLS by server name, which passes through undecrypted, and the PROXY protocol, which says who the client is.

The certificates are made for the occasion; the judge of both ends is Python's ssl module.
"""

import contextlib
import json
import re
import ssl

import pytest
import trustme

from support.configs import host_text
from support.harness import check_quiet
from support.peers import (
    HOST,
    LONG_PATIENCE,
    Client,
    FullBackend,
    Site,
    ask,
    checksum,
    connect_by_tls,
    free_port,
    hello_bytes,
    pattern,
    receive_answer,
    request_text,
    send_byte_by_byte,
    wait_until,
    wait_until_still,
)
from support.servers import NGINX_PATHS, Server, nginx_words

behaviour = pytest.mark.behaviour

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
BOTH_VERSIONS = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
MEGABYTE = 1_000_000  # bytes
HANDSHAKE_FAILURE, DECODE_ERROR, INTERNAL_ERROR, UNRECOGNIZED_NAME = 40, 50, 80, 112  # alerts (RFC 8446, section 6)


@pytest.fixture(scope="module")
def authority():
    """Who signs the certificates."""
    return trustme.CA()


@pytest.fixture(scope="module")
def context_for(authority):
    """A function that returns the SSLContext of a server of a name."""

    def make(name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return context

    return make


@pytest.fixture
def one(context_for):
    """A site that speaks TLS."""
    with Site("one", context=context_for("one.localhost")) as site:
        yield site


@pytest.fixture
def two(context_for):
    """Another one, whose certificate is good for more than one name."""
    with Site("two", context=context_for("*.two.localhost")) as site:
        yield site


@pytest.fixture
def record():
    """A site that takes what comes for HTTP, waits for the end of the head, and so only keeps it."""
    with Site("record") as site:
        yield site


def receive_alert(client):
    """Return the number of the fatal alert that a client gets, and nothing else, before the end."""
    data = client.receive_all()
    assert len(data) == 7 and data[:2] == b"\x15\x03" and data[3:6] == b"\0\2\2", f"no fatal alert, but {data!r}"
    return data[6]


def in_records(hello, *cuts):
    """Return the handshake in a ClientHello's record, in several records: cut at these places, or by a `range`."""
    message = hello[5:]
    ends = [*(cuts[0] if isinstance(cuts[0], range) else cuts), len(message)]
    pieces = [message[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces if piece)


# --- by server name ----------------------------------------------------------------------------------


@behaviour("by server name")
@BOTH_VERSIONS
def test_each_name_gets_the_certificate_and_the_pages_of_its_own_site(start_hosts, authority, one, two, version):
    """The client itself checks the name in the certificate. Upper and lower case are the same."""
    proxy = start_hosts({"one.localhost": one, "*.two.localhost": two}, tls=True)
    for name, site in {"one.localhost": one, "x.two.localhost": two, "Y.TWO.localhost": two}.items():
        with connect_by_tls(proxy.tls_port, name, authority, version) as client:
            assert client.socket.version() == version.name.replace("_", ".")
            (_, certified), *_ = client.socket.getpeercert()["subjectAltName"]
            assert certified == ("one.localhost" if site is one else "*.two.localhost")
            for number in range(2):
                client.send(request_text(name, f"/{number}"))
                assert receive_answer(client).site == site.name
    assert [len(one.seen), len(two.seen)] == [2, 4]
    assert proxy.errors() == ""


@behaviour("by server name")
@BOTH_VERSIONS
def test_20_mb_each_way_with_the_right_checksums(start_hosts, authority, one, two, version):
    """Nothing is decrypted on the way, and nothing lost."""
    proxy = start_hosts({"one.localhost": one, "default": two}, tls=True)
    body = pattern(0, 20 * MEGABYTE)
    with connect_by_tls(proxy.tls_port, "one.localhost", authority, version, timeout=LONG_PATIENCE) as client:
        client.send(request_text("one.localhost", "/sum", method="POST", body=body))
        assert json.loads(receive_answer(client).body) == checksum(body)
        client.send(request_text("one.localhost", f"/bytes?{len(body)}"))
        assert checksum(receive_answer(client).body) == checksum(body)


@behaviour("by server name")
def test_without_a_name_the_default_is_served(start_hosts, authority, one, two):
    """Old clients, and clients that were given an address, send none."""
    proxy = start_hosts({"one.localhost": one, "default": two}, tls=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.check_hostname = False
    for name in (None, HOST, "elsewhere.example"):
        with Client(proxy.tls_port) as client:
            client.socket = context.wrap_socket(client.socket, server_hostname=name)
            client.send(request_text("whatever"))
            assert receive_answer(client).site == "two", name


@behaviour("by server name")
def test_http_and_tls_are_served_side_by_side(start_hosts, authority, one, record):
    """Two ports, and the same table of names."""
    proxy = start_hosts({"one.localhost": one, "record.localhost": record}, tls=True)
    with connect_by_tls(proxy.tls_port, "one.localhost", authority) as client:
        client.send(request_text("one.localhost"))
        assert receive_answer(client).site == "one"
    assert ask(proxy, "record.localhost").site == "record"
    assert f"Listening on port {proxy.port}.\n" in proxy.output() and str(proxy.tls_port) in proxy.output()


@behaviour("by server name")
@pytest.mark.parametrize("way", ["in two pieces", "byte by byte", "in two records", "in records of one byte"])
@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2], ids=["any version", "TLSv1_2"])
def test_the_hello_may_come_in_pieces_and_reaches_the_backend_unchanged(start_hosts, one, record, way, version):
    """Where it is cut means nothing, not even in the middle of the name. What comes right after it goes along."""
    proxy = start_hosts({"loc.one.localhost": record, "localhost": one, "default": one}, tls=True)
    hello = hello_bytes("loc.one.localhost", version)
    middle = hello.index(b"one.localhost")
    if way == "in two records":
        hello = in_records(hello, middle - 5)
    if way == "in records of one byte":
        hello = in_records(hello, range(1, len(hello) - 5))
    with Client(proxy.tls_port) as client:
        if way == "byte by byte":
            send_byte_by_byte(client, hello, pause=0.0005)
            client.send(b"and more")
        elif way == "in two pieces":
            send_byte_by_byte(client, hello[:1], pause=0)
            client.send(hello[1:middle])
            wait_until(lambda: len(record.connections) == 0, "no client is connected yet")
            send_byte_by_byte(client, hello[middle : middle + 1], pause=0.05)
            client.send(hello[middle + 1 :] + b"and more")
        else:
            client.send(hello + b"and more")
        wait_until(lambda: record.stream == hello + b"and more", "the backend has got all of it, and nothing else")
    assert not one.connections


@behaviour("by server name")
@BOTH_VERSIONS
def test_a_handshake_whose_hello_is_cut_in_the_name_succeeds(start_hosts, authority, one, two, version):
    """Two records, cut in the middle of the name, and then a real handshake: haproxy 2.6 routes it by a wrong name."""
    proxy = start_hosts({"one.localhost": one, "default": two}, tls=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="one.localhost")

    with Client(proxy.tls_port) as client:
        first = True

        def exchange():
            nonlocal first
            if data := outgoing.read():
                client.send(in_records(data, data.index(b"one.localhost") - 5 + 3) if first else data)
                first = False

        def drive(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    exchange()
                    answer = client.receive()
                    assert answer, "the connection ended in the middle of the handshake"
                    incoming.write(answer)

        drive(tls.do_handshake)
        tls.write(request_text("one.localhost"))
        exchange()
        assert b"X-Site: one" in drive(lambda: tls.read(1000))


@behaviour("by server name")
def test_a_hello_of_almost_16_kib_is_served(start_hosts, one, record):
    """ALPN can make it that long; keys that withstand a quantum computer make it longer than one segment."""
    proxy = start_hosts({"long.localhost": record, "default": one}, tls=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["x" * 250] * 60)
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="long.localhost").do_handshake()
    hello = outgoing.read()
    assert 15_000 < len(hello) < 16_384
    with Client(proxy.tls_port) as client:
        client.send(hello)
        wait_until(lambda: record.stream == hello, "the backend has got it")


# --- refusals ----------------------------------------------------------------------------------------


@behaviour("by server name")
@BOTH_VERSIONS
def test_an_unknown_name_gets_an_alert_that_says_so(start_hosts, authority, one, version):
    """The client's library names the reason; no other site's certificate is shown."""
    proxy = start_hosts({"one.localhost": one}, tls=True)
    for name in ("two.localhost", "x.one.localhost", "localhost"):
        with pytest.raises(AssertionError, match="(?i)unrecognized.name"):
            connect_by_tls(proxy.tls_port, name, authority, version)
    with Client(proxy.tls_port) as client:
        client.send(hello_bytes(None))
        assert receive_alert(client) == UNRECOGNIZED_NAME
    assert not one.connections
    assert proxy.errors() == ""


HELLO = hello_bytes("one.localhost")


@behaviour("by server name")
@pytest.mark.parametrize(
    "data, alerts",
    [
        (request_text("one.localhost"), {DECODE_ERROR}),
        (b"SSH-2.0-OpenSSH_9.2\r\n", {DECODE_ERROR}),
        (b"\x80\x2e\x04\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40), {DECODE_ERROR}),
        (bytes(100), {DECODE_ERROR}),
        (b"\x17" + HELLO[1:], {DECODE_ERROR}),
        (HELLO[:5] + b"\x02" + HELLO[6:], {DECODE_ERROR}),
        (b"\x16\x03\x01\xff\xff" + HELLO[5:], {DECODE_ERROR}),
        (b"\x16\x03\x01\x00\x00" + HELLO, {DECODE_ERROR}),
        (HELLO[:6] + b"\xff" + HELLO[7:], {DECODE_ERROR}),
        (HELLO[:43] + b"\xff" + HELLO[44:], {DECODE_ERROR}),
        (b"\x16\x03\x01\x40\x00\x01\x00\x7f\xff" + bytes(16_379), {DECODE_ERROR}),
    ],
    ids=[
        *(
            "HTTP",
            "SSH",
            "SSLv2's ServerHello",
            "zeros",
            "a record of data",
            "a ServerHello",
            "a record of 65,535 bytes",
        ),
        *("an empty record", "a message of 16 MB", "a session too long", "more than 16 KiB"),
    ],
)
def test_what_is_no_hello_gets_an_alert_at_once(start_hosts, one, data, alerts):
    """Not silence, and not the default host. The client may be sending still."""
    proxy = start_hosts({"default": one}, tls=True, headTimeout=60_000)
    with Client(proxy.tls_port) as client:
        client.send(data)
        client.send(bytes(100_000))
        assert receive_alert(client) in alerts
    assert not one.connections
    assert proxy.errors() == ""


OLD_HELLO = b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + bytes(37)
NAMELESS = {  # what -> a hello that names no possible host
    name: HELLO.replace(b"one.localhost", name.encode().ljust(13, b"x"))
    for name in ("one localhost", "one\0localhost", "one..ocalhost", "..calhost/etc", "ö.localhost", "::1", "*.local")
} | {
    "an address": HELLO.replace(b"one.localhost", b"[2001:db8::1]"),
    "a port": HELLO.replace(b"one.localhost", b"local.one:443"),
    "a hello as SSL 2.0 had it": OLD_HELLO,
    "one with SSL 2.0's own version": OLD_HELLO.replace(b"\x03\x01", b"\x00\x02"),
}


@behaviour("by server name")
@pytest.mark.parametrize("case", NAMELESS)
def test_a_hello_without_a_possible_name_is_for_the_default(start_hosts, record, case):
    """Such clients know no better, and the default host may. It gets the hello as it came, byte by byte or whole."""
    proxy = start_hosts({"one.localhost": free_port(), "default": record}, tls=True, headTimeout=60_000)
    for number, send in enumerate((Client.send, send_byte_by_byte), 1):
        with Client(proxy.tls_port) as client:
            send(client, NAMELESS[case])
            wait_until(lambda n=number: record.streams == [NAMELESS[case]] * n, "the default host has got it")
    assert proxy.errors() == ""


@behaviour("by server name")
@pytest.mark.parametrize("case", NAMELESS)
def test_where_there_is_no_default_it_gets_an_alert(start_hosts, record, case):
    """As a name that no host has. The client may be sending still."""
    proxy = start_hosts({"one.localhost": record}, tls=True, headTimeout=60_000)
    with Client(proxy.tls_port) as client:
        client.send(NAMELESS[case])
        assert receive_alert(client) == UNRECOGNIZED_NAME
    assert not record.connections
    assert proxy.errors() == ""


@behaviour("by server name")
def test_half_a_hello_gets_an_alert_when_its_time_is_over(start_hosts, authority, one):
    """Nothing at all, the first half, a byte now and then: the time is counted from the beginning. Waiting is free."""
    proxy = start_hosts({"one.localhost": one}, tls=True, headTimeout=800)
    with contextlib.ExitStack() as stack:
        silent, half, slow = (stack.enter_context(Client(proxy.tls_port)) for _ in range(3))
        half.send(HELLO[: len(HELLO) // 2])
        with contextlib.suppress(AssertionError):  # it is ended before it has sent all
            send_byte_by_byte(slow, HELLO[:60], pause=0.02)
        for client in (silent, half):
            assert receive_alert(client) in (HANDSHAKE_FAILURE, DECODE_ERROR)
        with contextlib.suppress(AssertionError):  # a late byte may have met a closed connection
            assert receive_alert(slow) in (HANDSHAKE_FAILURE, DECODE_ERROR)
    assert not one.connections
    with connect_by_tls(proxy.tls_port, "one.localhost", authority) as client:  # a whole one has all the time it likes
        wait_until(lambda: one.streams, "the handshake is done")
        check_quiet(proxy)
        client.send(request_text("one.localhost"))
        assert receive_answer(client).site == "one"
    assert proxy.errors() == ""


@behaviour("by server name")
def test_half_a_hello_and_an_end_gets_an_alert(start_hosts, one):
    """The rest will never come. Who says nothing at all, and leaves, is just let go."""
    proxy = start_hosts({"default": one}, tls=True, headTimeout=60_000)
    with Client(proxy.tls_port) as client:
        client.send(HELLO[:100])
        client.half_close()
        assert receive_alert(client) == DECODE_ERROR
    with Client(proxy.tls_port) as client:
        client.half_close()
        client.expect_end()
    assert not one.connections


@behaviour("by server name")
def test_no_backend_is_an_alert_too(start_hosts, record):
    """One refuses, one does not answer: never silence, and the proxy lives on."""
    with FullBackend() as full:
        proxy = start_hosts(
            {"down.localhost": free_port(), "full.localhost": full, "default": record}, tls=True, connectTimeout=300
        )
        with Client(proxy.tls_port) as first:
            first.send(hello_bytes("full.localhost"))
            wait_until(lambda: full.connections, "the first client is connected")
            full.fill()
            for name in ("down.localhost", "full.localhost"):
                with Client(proxy.tls_port) as client:
                    client.send(hello_bytes(name))
                    assert receive_alert(client) == INTERNAL_ERROR, name
        with Client(proxy.tls_port) as client:
            client.send(HELLO)
            wait_until(lambda: record.stream == HELLO, "others are served")
        proxy.check_unharmed()


@behaviour("by server name")
def test_a_flood_of_half_hellos_holds_no_descriptors(start_hosts, one):
    """150 of them, and then none, soon after their time is over; their clients have not closed."""
    proxy = start_hosts({"default": one}, tls=True, headTimeout=500)
    for port in (proxy.port, proxy.tls_port):  # each door keeps a socket ready for the next client
        Client(port).close()
    before = wait_until_still(proxy.open_files, still=0.2)
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(Client(proxy.tls_port)).send(HELLO[:200])
        wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before", LONG_PATIENCE)
    assert not one.connections
    proxy.check_unharmed()


@behaviour("Lua names the host")
def test_on_tls_route_sees_the_name_and_nothing_else(start_hosts, authority, one, two):
    """Method, target and headers are nil: they can't be read. What it returns counts as it does for HTTP."""
    more = """
        function route(request)
          if request.host == nil then return "nobody.example" end
          if request.host == "bad.two.localhost" then error("as you wish") end
          assert(request.tls == true and request.address == "127.0.0.1")
          assert(request.method == nil and request.target == nil and request.headers == nil)
          if request.host == "x.two.localhost" then return "two.localhost" end
        end
    """
    proxy = start_hosts({"one.localhost": one, "two.localhost": two, "default": one}, tls=True, more=more)
    for name, site in {"one.localhost": "one", "x.two.localhost": "two"}.items():
        with connect_by_tls(proxy.tls_port, name, authority) as client:
            client.send(request_text(name))
            assert receive_answer(client).site == site
    assert proxy.errors() == ""
    for name, number in {None: UNRECOGNIZED_NAME, "bad.two.localhost": INTERNAL_ERROR}.items():
        for _ in range(2):
            with Client(proxy.tls_port) as client:
                client.send(hello_bytes(name))
                assert receive_alert(client) == number
    assert len(proxy.errors().splitlines()) == 1 and "as you wish" in proxy.errors()


# --- the PROXY protocol ------------------------------------------------------------------------------


BOTH_HEADERS = pytest.mark.parametrize("version", ["v1", "v2"])


def open_sites(stack, context_for, **options):
    """Return two sites that expect the PROXY protocol, the second one behind TLS."""
    plain = stack.enter_context(Site("plain", proxy_protocol=True, **options))
    return plain, stack.enter_context(Site("tls", proxy_protocol=True, context=context_for("tls.localhost")))


@behaviour("PROXY protocol")
@BOTH_HEADERS
def test_the_backend_reads_the_clients_address_before_anything_else(start_hosts, authority, context_for, version):
    """Once for a connection, however many requests it has, in one piece with what follows, by HTTP and by TLS."""
    with contextlib.ExitStack() as stack:
        plain, tls = open_sites(stack, context_for)
        hosts = {
            "plain.localhost": host_text(plain, sendProxyProtocol=version),
            "tls.localhost": host_text(tls, sendProxyProtocol=version),
        }
        proxy = start_hosts(hosts, tls=True)
        with proxy.connect(source="127.0.0.9") as client:
            for _ in range(2):
                client.send(request_text("plain.localhost"))
                assert receive_answer(client).site == "plain"
            assert [request.client for request in plain.seen] == 2 * [client.socket.getsockname()]
            port = client.socket.getsockname()[1]
        with connect_by_tls(proxy.tls_port, "tls.localhost", authority, source="127.0.0.9") as client:
            client.send(request_text("tls.localhost"))
            assert receive_answer(client).site == "tls"
            assert tls.seen[0].client == client.socket.getsockname()
        assert tls.seen[0].values("X-Forwarded-For") == [], "who can't read it, can't add to it"
        if version == "v1":
            assert plain.headers == [b"PROXY TCP4 127.0.0.9 127.0.0.1 %d %d\r\n" % (port, proxy.port)]
        for site in (plain, tls):
            (piece,), (header,) = site.first_pieces, site.headers
            assert piece.startswith(header) and len(piece) > len(header), "the header came alone"
        proxy.check_unharmed()


@behaviour("PROXY protocol")
@BOTH_HEADERS
def test_an_ipv4_client_of_an_ipv6_socket_is_one_of_ipv4(start_hosts, version, by_ipv6):
    """::ffff:127.0.0.1 is nothing that a backend should have to know. ::1 is TCP6."""
    with Site("plain", proxy_protocol=True) as site:
        everywhere = {"listenAddress": "::"} if by_ipv6 else {}
        proxy = start_hosts({"default": host_text(site, sendProxyProtocol=version)}, **everywhere)
        for address in [HOST, *by_ipv6]:
            with Client(proxy.port, address=address) as client:
                client.send(request_text("a"))
                receive_answer(client)
                assert site.seen[-1].client == client.socket.getsockname()[:2]
                if version == "v1":
                    assert site.headers[-1].startswith(b"PROXY TCP6 ::1 ::1 " if ":" in address else b"PROXY TCP4 ")


@behaviour("PROXY protocol")
@BOTH_HEADERS
def test_a_backend_that_takes_over_from_one_that_is_down_gets_the_header_too(start_hosts, version):
    """The first one refuses; nothing is lost, and nothing comes twice."""
    with Site("plain", proxy_protocol=True) as site:
        proxy = start_hosts({"default": host_text(free_port(), site, sendProxyProtocol=version, failTimeout=1)})
        for _ in range(4):
            assert ask(proxy, "a", method="POST", body=b"body").site == "plain"
        assert all(request.client[0] == HOST and request.body == b"body" for request in site.seen)
        assert len(site.headers) == 4


@behaviour("PROXY protocol")
@BOTH_HEADERS
def test_health_checks_send_a_header_of_their_own(start_hosts, version):
    """A backend that expects one would refuse a check without it: UNKNOWN in v1, LOCAL in v2."""
    check = 'check = {interval = 50, fall = 1, rise = 1, timeout = 1000, type = "http"}'
    with Site("plain", proxy_protocol=True) as site:
        proxy = start_hosts({"default": host_text(site, sendProxyProtocol=version, more=check)})
        wait_until(lambda: len(site.seen) >= 3, "three checks have been answered")
        headers = {"v1": b"PROXY UNKNOWN\r\n", "v2": b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"}
        assert site.headers[0][:13] == headers[version][:13] and site.seen[0].client is None
        assert ask(proxy, "a").site == "plain"
        assert not site.complaints and proxy.errors() == ""


NGINX_SITE = """
    server {{
        listen 127.0.0.1:{port} {how} proxy_protocol;
        {certificate}
        location / {{ return 200 "$proxy_protocol_addr $proxy_protocol_port $http_x_forwarded_for"; }}
    }}
"""


@behaviour("PROXY protocol")
@pytest.mark.needs("nginx")
@BOTH_HEADERS
def test_nginx_understands_the_header(start_hosts, authority, tmp_path, version):
    """With `listen … proxy_protocol`, by HTTP and by TLS: it knows the client's address and port."""
    plain, tls = free_port(), free_port()
    certificate = authority.issue_cert("nginx.localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "site.pem")
    files = f"ssl_certificate {tmp_path}/site.pem; ssl_certificate_key {tmp_path}/site.pem;"
    blocks = f"events {{}}\nhttp {{ access_log off; {NGINX_PATHS}"
    blocks += NGINX_SITE.format(port=plain, how="", certificate="")
    blocks += NGINX_SITE.format(port=tls, how="ssl", certificate=files) + "}"
    with Server("nginx", plain, nginx_words(tmp_path, "nginx", blocks)):
        hosts = {
            "plain.localhost": host_text(plain, sendProxyProtocol=version),
            "nginx.localhost": host_text(tls, sendProxyProtocol=version),
        }
        proxy = start_hosts(hosts, tls=True)
        with proxy.connect(source="127.0.0.9") as client:
            for _ in range(2):
                client.send(request_text("plain.localhost"))
                port = client.socket.getsockname()[1]
                assert receive_answer(client).body == b"127.0.0.9 %d 127.0.0.9" % port
        with connect_by_tls(proxy.tls_port, "nginx.localhost", authority, source="127.0.0.9") as client:
            client.send(request_text("nginx.localhost"))
            assert re.fullmatch(rb"127\.0\.0\.9 \d+ ", receive_answer(client).body)
        assert proxy.errors() == ""


@behaviour("PROXY protocol")
def test_a_websocket_gets_the_header_once(start_hosts):
    """At the beginning of the connection; what follows are the WebSocket's bytes."""
    with Site("sockets", switch=True, proxy_protocol=True) as site:
        proxy = start_hosts({"default": host_text(site, sendProxyProtocol="v1")})
        with proxy.connect() as client:
            client.send(request_text("a", headers=["Upgrade: websocket", "Connection: Upgrade"]) + b"hello")
            assert receive_answer(client).status == 101
            assert client.receive_exactly(5) == b"hello"
        assert len(site.headers) == 1 and site.seen[0].client[0] == HOST


@behaviour("PROXY protocol")
def test_a_backend_that_never_reads_the_header_is_told_no_other_way(start_hosts):
    """Without sendProxyProtocol nothing is sent that a plain server would not expect."""
    with Site("plain") as site:
        proxy = start_hosts({"default": site})
        assert ask(proxy, "a").site == "plain"
        assert site.stream.startswith(b"GET / HTTP/1.1\r\n")
