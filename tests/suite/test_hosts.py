"""Virtual hosts: several sites behind one address, by the name that each request asks for.

The first test of a row that is a "no" for the earlier parts is asked of these, too: they are told of the first site
alone.
"""

import contextlib
import pathlib
import socket
import threading
import time

import pytest

from support.configs import backend_text, host_text, hosts_text
from support.harness import Command, Proxy, check_one_line, check_quiet, run_briefly
from support.peers import (
    HOST,
    LONG_PATIENCE,
    PATIENCE,
    Client,
    EchoBackend,
    HttpBackend,
    Site,
    ask,
    checksum,
    free_port,
    pattern,
    receive_answer,
    request_text,
    send_byte_by_byte,
    wait_until,
    wait_until_still,
)
from support.peers.sites import SWITCH
from support.servers import NGINX_PATHS, Server, nginx_words

behaviour = pytest.mark.behaviour
needs_hosts = pytest.mark.needs_hosts


@pytest.fixture
def one():
    """A site."""
    with Site("one") as site:
        yield site


@pytest.fixture
def two():
    """Another one."""
    with Site("two") as site:
        yield site


def check_no_harm(proxy):
    """Raise AssertionError unless the proxy is well, and its log empty: clients alone make no lines there."""
    proxy.check_unharmed()
    assert proxy.errors() == "", f"the log: {proxy.errors()}"


# --- each host has its own backends ------------------------------------------------------------------


@behaviour("by host")
def test_each_host_reaches_its_own_backend(start_hosts, one, two):
    """The same address and port, and two sites: the Host header of the request says which."""
    proxy = start_hosts({"one.localhost": one, "two.localhost": two})
    for name in ("one", "two", "two", "one"):
        assert ask(proxy, f"{name}.localhost").site == name
    assert (len(one.seen), len(two.seen)) == (2, 2)
    check_no_harm(proxy)


@behaviour("by host")
@needs_hosts
@pytest.mark.parametrize("way", ["at once", "after the answer", "behind a body"])
def test_another_host_on_the_same_connection_never_reaches_the_first_ones_backend(start_hosts, one, two, way):
    """It may get to its own; if it gets an answer from the proxy, that is 421, and it comes after the earlier ones."""
    proxy = start_hosts({"one.localhost": one, "two.localhost": two})
    body = pattern(0, 100_000) if way == "behind a body" else b""
    requests = [request_text("one.localhost", "/1", method="POST", body=body) for _ in range(3)]
    requests.append(request_text("two.localhost", "/secret"))
    with proxy.connect() as client:
        if way == "at once":
            client.send(b"".join(requests))
        for request in requests:
            if way != "at once":
                client.send(request)
            answer = receive_answer(client)
            assert answer.site == "one" or request is requests[-1], f"an earlier request got {answer}"
        assert (answer.status, answer.site) in ((421, None), (200, "two")), answer
        if answer.status == 421:
            assert answer.fields["connection"] == "close"
            client.expect_end()
    assert b"/secret" not in one.stream, "the request for two.localhost got to one.localhost's backend"
    assert len(one.seen) == 3
    check_no_harm(proxy)


@behaviour("by host")
@needs_hosts
def test_an_answer_that_takes_its_time_comes_before_the_421(start_hosts, one, two):
    """The first request is not yet answered when another host is asked for."""
    proxy = start_hosts({"one.localhost": one, "two.localhost": two})
    with proxy.connect() as client:
        client.send(request_text("one.localhost", "/slow") + request_text("two.localhost", "/secret"))
        wait_until(lambda: one.seen, "the first request has arrived")
        time.sleep(0.1)
        one.go.set()
        assert receive_answer(client).site == "one"
        answer = receive_answer(client)
        assert (answer.status, answer.site) in ((421, None), (200, "two")), answer
    assert b"/secret" not in one.stream


# --- which host a name stands for --------------------------------------------------------------------


@behaviour("host names")
def test_the_exact_name_comes_before_the_longest_star_and_that_before_the_default(start_hosts):
    """Any number of labels may stand for the star, but not none. Case, a port and one dot at the end don't matter."""
    with contextlib.ExitStack() as stack:
        names = [
            "a.localhost",
            "*.a.localhost",
            "*.b.a.localhost",
            "x.b.a.localhost",
            "*.LOCALHOST",
            "default",
            "[::1]",
        ]
        sites = {name: stack.enter_context(Site(name)) for name in names}
        proxy = start_hosts(sites)
        for host, name in {
            "a.localhost": "a.localhost",
            "A.LocalHost": "a.localhost",
            "a.localhost.": "a.localhost",
            "a.localhost:8080": "a.localhost",
            "a.localhost:": "a.localhost",
            "a.localhost.:000080": "a.localhost",
            "a.LOCALHOST.:80": "a.localhost",
            "b.a.localhost": "*.a.localhost",
            "x.y.z.a.localhost": "*.a.localhost",
            "x.b.a.localhost": "x.b.a.localhost",
            "y.b.a.localhost:1": "*.b.a.localhost",
            "x.x.b.a.localhost": "*.b.a.localhost",
            "ba.localhost": "*.LOCALHOST",
            "localhost": "default",
            "localhost.a": "default",
            "127.0.0.1:8000": "default",
            "default": "default",
            "under_score.example": "default",
            "[::1]": "[::1]",
            "[0:0::1]:8000": "[::1]",
            "[::1]:": "[::1]",
            "[::2]": "default",
        }.items():
            answer = ask(proxy, host)
            assert answer.site == name, f"{host} got to {answer.site} ({answer.status}), not to {name}"
        check_no_harm(proxy)


@behaviour("host names")
def test_http_1_0_may_leave_the_host_out_and_gets_the_default(start_hosts, one, two):
    """Host came with HTTP/1.1, where it has to be there."""
    proxy = start_hosts({"one.localhost": one, "default": two})
    assert ask(proxy, None, version="1.0").site == "two"
    assert ask(proxy, "one.localhost", version="1.0").site == "one"
    assert ask(proxy, None).status == 400


@behaviour("host names")
def test_a_target_in_absolute_form_names_the_host_too(start_hosts, one, two):
    """As a client writes it that thinks it speaks to its own proxy; the backend gets the path."""
    proxy = start_hosts({"one.localhost": one, "default": two})
    assert ask(proxy, "ONE.localhost:80", "http://one.localhost:80/page?x=1").site == "one"
    assert ask(proxy, None, "http://one.localhost", version="1.0").site == "one"
    assert [request.line.split()[1] for request in one.seen] == [b"/page?x=1", b"/"]
    for host, target in [
        ("one.localhost", "http://two.localhost/"),
        ("two.localhost", "http://one.localhost/"),
        ("one.localhost", "http://user@one.localhost/"),
        ("one.localhost", "ftp://one.localhost/"),
    ]:
        assert ask(proxy, host, target).status == 400, f"Host: {host}, target {target}"
    assert len(one.seen) == 2 and not two.seen


@behaviour("host names")
def test_without_a_default_an_unknown_host_is_a_404(start_hosts, one):
    """Also the names that are nearly right."""
    proxy = start_hosts({"one.localhost": one, "*.two.localhost": one})
    for host in ("localhost", "one.localhost.evil.example", "evil-one.localhost", "two.localhost", "x.one.localhost"):
        answer = ask(proxy, host)
        assert (answer.status, answer.fields["connection"]) == (404, "close"), f"{host}: {answer}"
        assert b"name" in answer.body or b"host" in answer.body
    assert ask(proxy, None, version="1.0").status == 404
    assert not one.seen
    check_no_harm(proxy)


@behaviour("host names")
def test_names_under_one_star_share_a_connection(start_hosts, one):
    """They are the same host; the backend reads in the Host header, which stays, what was asked for."""
    proxy = start_hosts({"*.localhost": one})
    with proxy.connect() as client:
        for host in ("a.localhost", "B.a.localhost:80"):
            client.send(request_text(host))
            assert receive_answer(client).site == "one"
    assert [request.values("Host") for request in one.seen] == [["a.localhost"], ["B.a.localhost:80"]]
    assert len(one.connections) == 1


@behaviour("host names")
def test_each_host_has_its_own_balance(start_hosts):
    """One takes turns, another always the first that has the fewest connections; and turns are counted for each."""
    with contextlib.ExitStack() as stack:
        a, b, c, d = (stack.enter_context(Site(name)) for name in "abcd")
        heavy = backend_text(a, weight=2)
        proxy = start_hosts(
            {
                "turns.localhost": host_text(heavy, b),
                "lua.localhost": host_text(c, d, more="balance = function() return 2 end"),
            }
        )
        answers = []
        for _ in range(6):
            answers.append(ask(proxy, "turns.localhost").site)
            assert ask(proxy, "lua.localhost").site == "d"
        assert "".join(answers) in ("abaaba", "baabaa", "aabaab")


@behaviour("host names")
def test_a_backend_that_is_down_in_one_host_is_nothing_to_another(start_hosts, one, two):
    """Marks are a host's own, also where hosts share a backend; each gets an answer, or is told that there is none."""
    down = free_port()
    proxy = start_hosts(
        {
            "both.localhost": host_text(down, one),
            "down.localhost": host_text(down),
            "two.localhost": two,
        },
        failTimeout=60_000,
    )
    for _ in range(3):
        assert ask(proxy, "both.localhost").site == "one"
        assert ask(proxy, "down.localhost").status == 502
        assert ask(proxy, "two.localhost").site == "two"
    with Site("back", port=down):
        assert ask(proxy, "down.localhost").site == "back"
        assert {ask(proxy, "both.localhost").site for _ in range(4)} == {"one"}, "it is left out for 60 s"


@behaviour("host names")
def test_each_host_has_its_own_checks(start_hosts, two):
    """One host's backends are asked for their health, the other's only have to take a connection."""
    with HttpBackend() as sick:
        sick.healthy = False
        check = 'check = {interval = 50, rise = 1, fall = 2, timeout = 1000, type = "http", '
        check += 'send = "GET /health HTTP/1.0\\r\\n\\r\\n"}'
        proxy = start_hosts({"a.localhost": host_text(sick.port, two, more=check), "b.localhost": sick.port})
        wait_until(lambda: "is down" in proxy.errors(), "the check has found out", LONG_PATIENCE)
        assert {ask(proxy, "a.localhost").site for _ in range(4)} == {"two"}
        with proxy.connect() as client:
            client.send(request_text("b.localhost"))
            assert receive_answer(client).body == b"Hello from the backend.\n"


MANY_HOSTS = """
    hosts = {}
    for number = 1, 5000 do
      hosts["h" .. number .. ".localhost"] = {backends = {
        {address = "127.0.0.1", port = "%d"}, {address = "127.0.0.1", port = "%d"}}}
    end
    hosts["other.localhost"] = {backends = hosts["h1.localhost"].backends, check = {interval = 60000}}
    check = {interval = 100, rise = 1, fall = 2, timeout = 5000}
"""


@behaviour("host names")
def test_an_address_of_many_hosts_is_checked_once(start_hosts, one):
    """5,000 hosts share two backends: they start soon, cost two checks at a time, and all hear what these find."""
    with Site("dies") as dies:
        proxy = start_hosts({"first.localhost": one}, more=MANY_HOSTS % (dies.port, one.port))
        assert {ask(proxy, "h4999.localhost").site for _ in range(2)} == {"one", "dies"}
        count, start = len(dies.connections), time.monotonic()
        time.sleep(2)
        checks = len(dies.connections) - count
        assert checks <= 5 + 10 * (time.monotonic() - start), f"{checks} checks in 2 s, where one in 100 ms is due"
        name = f"{HOST}:{dies.port}"
    wait_until(lambda: f"{name} is down" in proxy.errors(), "the check has found out", LONG_PATIENCE)
    for number in range(1, 5001, 250):
        assert ask(proxy, f"h{number}.localhost").site == "one", number
    lines = [line for line in proxy.errors().splitlines() if f"{name} is down" in line]
    assert len(lines) == 1, f"{len(lines)} lines for one cause: {lines[:3]}"
    proxy.check_unharmed()
    proxy.process.terminate()
    proxy.process.wait(LONG_PATIENCE)


@behaviour("host names")
def test_it_listens_on_the_address_it_is_told(start_hosts, one, by_ipv6):
    """On "::" both IPv6 and IPv4 come in, and who comes by IPv4 has a plain IPv4 address; without, IPv4 alone."""
    proxy = start_hosts({"default": one}, listenAddress="::" if by_ipv6 else "127.0.0.1")
    for address in [HOST, *by_ipv6]:
        with Client(proxy.port, address=address) as client:
            client.send(request_text("localhost"))
            assert receive_answer(client).site == "one"
        assert one.seen[-1].values("X-Forwarded-For") == [address]
    plain = start_hosts({"default": one})
    assert ask(plain, "localhost").site == "one"
    for address in by_ipv6:
        with pytest.raises(AssertionError, match="refused"):
            Client(plain.port, address=address)
    local = start_hosts({"default": one}, listenAddress="127.0.0.2")
    with Client(local.port, address="127.0.0.2") as client:
        client.send(request_text("localhost"))
        assert receive_answer(client).site == "one"
    with pytest.raises(AssertionError, match="refused"):
        Client(local.port)


# Any token is a method (RFC 9110, section 9.1): WebDAV's, Vault's, Exchange's, Varnish's, other protocols', nobody's.
METHODS = ["PROPFIND", "VERSION-CONTROL", "LIST", "RPC_IN_DATA", "BAN", "SOURCE", "M-SEARCH", "DESCRIBE", "TRACE"]
METHODS += ["QUERY", "get", "GETS", "P", "CONNECTED", "!#$%&'*+-.^_`|~", "X" * 64]


@behaviour("host names")
def test_every_method_and_body_passes(start_hosts, one):
    """Bodies by length and in chunks, none, one of no bytes; extensions and trailers are dropped, chunks stay."""
    proxy = start_hosts({"default": one})
    body = pattern(0, 300_000)
    chunked = b"POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
    for start in range(0, len(body), 9999):
        piece = body[start : start + 9999]
        chunked += b'%x;name="value"\r\n%b\r\n' % (len(piece), piece)
    chunked += b"0\r\nTrailer-Field: late\r\n\r\n"
    with proxy.connect() as client:
        client.send(request_text("a", "/sum", method="PUT", body=body) + chunked)
        for _ in range(2):
            assert receive_answer(client).body.decode() == str(checksum(body)).replace("'", '"')
        for method, headers in [
            ("GET", []),
            ("HEAD", []),
            ("OPTIONS", []),
            ("DELETE", ["Content-Length: 0"]),
            ("PATCH", ["Content-Length: 000"]),
            ("POST", []),
            *((method, []) for method in METHODS),
        ]:
            client.send(request_text("a", "/", method=method, headers=headers))
            assert receive_answer(client, method).site == "one", method
            assert one.seen[-1].line == method.encode() + b" / HTTP/1.1"
    assert not one.complaints
    assert len(one.connections) == 1
    check_no_harm(proxy)


@behaviour("host names")
def test_expect_100_continue_passes_both_ways(start_hosts):
    """The client waits for the backend's word before it sends the body; answers are nobody's business on the way."""

    class Patient(EchoBackend):
        def serve(self, connection):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1)
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = connection.recv(5)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    with Patient() as backend, start_hosts({"default": backend}).connect() as client:
        client.send(request_text("a", method="POST", headers=["Expect: 100-continue", "Content-Length: 5"]))
        assert receive_answer(client).status == 100
        client.send(b"hello")
        assert receive_answer(client).body == b"hello"


# --- who the client is -------------------------------------------------------------------------------


@behaviour("who the client is")
def test_every_request_of_a_connection_tells_the_clients_address(start_hosts, one):
    """Not only the first one: a backend sees no difference between them."""
    proxy = start_hosts({"default": one})
    with proxy.connect(source="127.0.0.5") as client:
        for number in range(3):
            client.send(request_text("a", method="POST", body=b"x" * number))
            receive_answer(client)
        client.send(2 * request_text("a"))
        receive_answer(client)
        receive_answer(client)
    assert [request.values("X-Forwarded-For") for request in one.seen] == 5 * [["127.0.0.5"]]


FAMILY = ["Host", "Proto", "Port", "Ssl", "Scheme", "Protocol", "Prefix", "Server", "By", "Client-Cert"]
FORGED = [
    "X-Forwarded-For: 192.0.2.1",
    "x-forwarded-for:192.0.2.1",
    "X-FORWARDED-FOR: 192.0.2.1, 192.0.2.2",
    "X_Forwarded_For: 192.0.2.1",
    "X-Forwarded_For: 192.0.2.1",
    "X-Real-IP: 192.0.2.1",
    "Forwarded: for=192.0.2.1",
    "Connection: X-Forwarded-For",
    "Connection: keep-alive, x-forwarded-for",
    "X-Forwarded: for=192.0.2.1",
    "X_FORWARDED_PROTO: 192.0.2.1",
    "X.Forwarded-Host: 192.0.2.1",
    *(f"X-Forwarded-{name}: 192.0.2.1" for name in FAMILY),
]


@behaviour("who the client is")
@needs_hosts
@pytest.mark.parametrize("request_number", [1, 2])
def test_what_a_client_claims_of_itself_is_dropped(start_hosts, one, request_number):
    """In whatever spelling, more than once, and by way of Connection, which could have the true one dropped."""
    proxy = start_hosts({"default": one})
    for forged in [*([line] for line in FORGED), FORGED]:
        with proxy.connect() as client:
            for _ in range(request_number - 1):
                client.send(request_text("a"))
                receive_answer(client)
            client.send(request_text("a", headers=forged))
            receive_answer(client)
        request = one.seen[-1]
        assert request.values("X-Forwarded-For") == ["127.0.0.1"], f"{forged}: {request.fields}"
        rest = b"".join(b"".join(pair) for pair in request.fields).lower()
        assert b"192.0.2." not in rest and rest.count(b"forwarded") == 1, f"{forged}: {request.fields}"


@behaviour("who the client is")
@needs_hosts
def test_what_a_trusted_proxy_says_is_kept_and_added_to(start_hosts, one):
    """trustedProxies has addresses and networks. Another client's word is still worth nothing."""
    proxy = start_hosts({"default": one}, more='trustedProxies = {"127.0.0.8/30", "127.0.1.1", "2001:db8::/32"}')
    says = ["X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"]
    says += [f"X-Forwarded-{name}: yes" for name in FAMILY] + ["X_Forwarded_Proto: no", "x-forwarded_host: no"]
    for source, expected in {
        "127.0.0.8": "192.0.2.1, 192.0.2.2, 127.0.0.8",
        "127.0.0.11": "192.0.2.1, 192.0.2.2, 127.0.0.11",
        "127.0.1.1": "192.0.2.1, 192.0.2.2, 127.0.1.1",
        "127.0.0.12": "127.0.0.12",
        "127.0.0.7": "127.0.0.7",
    }.items():
        with proxy.connect(source=source) as client:
            client.send(request_text("a", headers=says))
            receive_answer(client)
        request = one.seen[-1]
        assert ", ".join(request.values("X-Forwarded-For")) == expected
        believed = expected != source
        assert bool(request.values("X-Real-IP")) == believed
        for name in FAMILY:
            assert request.values(f"X-Forwarded-{name}") == ["yes"] * believed, f"{source}: {request.fields}"
        assert not request.values("X_Forwarded_Proto") and not request.values("x-forwarded_host")


@behaviour("who the client is")
@needs_hosts
def test_a_trusted_proxys_next_request_may_be_for_any_site(start_hosts, one, two):
    """It keeps connections for all its clients, and each request asks to be the last one: nobody gets a 421."""
    hosts = {"one.localhost": one, "two.localhost": two}
    proxy = start_hosts(hosts, more='trustedProxies = {"127.0.0.8"}')
    for source, connection in (("127.0.0.8", ["close"]), ("127.0.0.7", [])):
        for name, site in (("one", one), ("two", two)):
            with proxy.connect(source=source) as client:
                client.send(request_text(f"{name}.localhost"))
                assert receive_answer(client).site == name
                if connection:
                    client.expect_end()
            assert site.seen[-1].values("Connection") == connection, f"from {source}: {site.seen[-1].fields}"
    check_no_harm(proxy)


NGINX_IN_FRONT = """events {{}}
http {{
    access_log off; {paths}
    upstream rsp {{ server 127.0.0.1:{to}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://rsp; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
}}
"""


@behaviour("who the client is")
@needs_hosts
@pytest.mark.needs("nginx")
def test_nginx_in_front_keeps_its_connections_for_all_sites(start_hosts, one, two, tmp_path):
    """Forty requests for two sites, through an upstream with keepalive: each is answered by its own site."""
    proxy = start_hosts({"one.localhost": one, "two.localhost": two}, more=f'trustedProxies = {{"{HOST}"}}')
    port = free_port()
    blocks = NGINX_IN_FRONT.format(paths=NGINX_PATHS, to=proxy.port, port=port)
    with Server("nginx", port, nginx_words(tmp_path, "nginx", blocks)), Client(port) as client:
        for number in range(40):
            name = "one" if number % 2 else "two"
            client.send(request_text(f"{name}.localhost"))
            answer = receive_answer(client)
            assert answer.site == name, f"request {number}: {answer}. Hint: which host is nginx's next request for?"
    assert one.seen[-1].values("X-Forwarded-Proto") == ["https"]
    check_no_harm(proxy)


# --- WebSockets --------------------------------------------------------------------------------------


HANDSHAKE = ["Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
SMUGGLED = b"POST /smuggled HTTP/1.1\r\nHost: ws.localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def socket_site():
    """A site that switches to another protocol, and then sends back what it gets."""
    with Site("sockets", switch=True) as site:
        yield site


@behaviour("WebSocket by host")
def test_a_websocket_opens_at_its_host(start_hosts, one, socket_site):
    """The chat is at one host, a page at another."""
    proxy = start_hosts({"one.localhost": one, "ws.localhost": socket_site})
    with proxy.connect() as client:
        client.send(request_text("ws.localhost", "/chat", headers=HANDSHAKE))
        assert receive_answer(client).status == 101
        for message in (b"one", b"two"):
            client.send(message)
            assert client.receive_exactly(3) == message


@behaviour("WebSocket by host")
@needs_hosts
@pytest.mark.parametrize("behind", [0, 1, 5000], ids="{} bytes behind the handshake".format)
def test_a_websocket_carries_any_bytes_both_ways(start_hosts, one, socket_site, behind):
    """Those that came right behind the handshake too; what looks like a bad request is none any more."""
    proxy = start_hosts({"one.localhost": one, "ws.localhost": socket_site})
    with proxy.connect() as client:
        data = (SMUGGLED + pattern(0, behind))[:behind]
        client.send(request_text("ws.localhost", "/chat", headers=HANDSHAKE) + data)
        answer = receive_answer(client)
        assert (answer.status, answer.fields["upgrade"].lower()) == (101, "websocket")
        assert client.receive_exactly(behind) == data
        for message in (SMUGGLED, b"\0\xff\r\n\r\n", pattern(7, 500_000), request_text("one.localhost", "/secret")):
            client.send(message)
            assert client.receive_exactly(len(message)) == message
        client.half_close()
        client.expect_end()
    assert not one.seen
    assert socket_site.seen[0].values("X-Forwarded-For") == ["127.0.0.1"]
    assert socket_site.seen[0].values("Sec-WebSocket-Key") == ["dGhlIHNhbXBsZSBub25jZQ=="]
    check_no_harm(proxy)


@behaviour("WebSocket by host")
@needs_hosts
def test_a_handshake_may_come_byte_by_byte(start_hosts, one, socket_site):
    """And the answer, too, as soon as it has been given."""
    proxy = start_hosts({"one.localhost": one, "ws.localhost": socket_site})
    with proxy.connect() as client:
        send_byte_by_byte(client, request_text("ws.localhost", "/chat", headers=HANDSHAKE) + b"hello", pause=0.0005)
        assert receive_answer(client).status == 101
        assert client.receive_exactly(5) == b"hello"


@behaviour("WebSocket by host")
@needs_hosts
def test_the_backend_may_speak_first(start_hosts, one):
    """Bytes that come in one piece with the 101 are the WebSocket's already."""

    class Eager(EchoBackend):
        def serve(self, connection):
            self.receive(connection)
            for byte in b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n":
                connection.sendall(bytes([byte]))
            self.send(connection, b"\r\n\0\1\2" + pattern(0, 100_000))
            super().serve(connection)

    with Eager() as backend:
        proxy = start_hosts({"one.localhost": one, "ws.localhost": backend})
        with proxy.connect() as client:
            client.send(request_text("ws.localhost", headers=HANDSHAKE))
            assert receive_answer(client).status == 101
            assert client.receive_exactly(3) == b"\0\1\2"
            client.receive_pattern(100_000)
            client.send(b"\r\n\r\n")
            assert client.receive_exactly(4) == b"\r\n\r\n"


@behaviour("WebSocket by host")
@needs_hosts
@pytest.mark.parametrize("way", ["at once", "after the answer"])
def test_a_refused_upgrade_smuggles_nothing_past(start_hosts, one, two, way):
    """The backend answers 200, and does not switch: what follows are requests, and are checked like any other."""
    proxy = start_hosts({"one.localhost": one, "two.localhost": two})
    with proxy.connect() as client:
        handshake = request_text("two.localhost", "/page", headers=HANDSHAKE)
        sound = request_text("two.localhost", "/sound")
        client.send(handshake + (sound + SMUGGLED if way == "at once" else b""))
        assert receive_answer(client).site == "two"
        if way != "at once":
            client.send(sound + SMUGGLED)
        assert receive_answer(client).site == "two"
        assert receive_answer(client).status == 400
    assert b"/smuggled" not in two.stream
    assert two.seen[1].values("X-Forwarded-For") == ["127.0.0.1"]
    check_no_harm(proxy)


@behaviour("WebSocket by host")
@needs_hosts
def test_nothing_passes_before_the_backend_has_answered(start_hosts, one, two):
    """A request behind the handshake waits until it is known what it is. Waiting costs nothing."""
    proxy = start_hosts({"one.localhost": one, "two.localhost": two})
    with proxy.connect() as client:
        client.send(request_text("two.localhost", "/slow", headers=HANDSHAKE))
        wait_until(lambda: two.seen, "the handshake has arrived")
        send_byte_by_byte(client, request_text("two.localhost", "/next"))
        check_quiet(proxy, seconds=0.5)
        assert b"/next" not in two.stream
        two.go.set()
        assert [receive_answer(client).site for _ in range(2)] == ["two", "two"]
    assert two.seen[1].line == b"GET /next HTTP/1.1"


@behaviour("WebSocket by host")
@needs_hosts
def test_a_later_handshake_is_told_to_come_on_a_new_connection(start_hosts, one, socket_site):
    """Its answer could not be found among the others. The page says what to do; nothing of it gets to the backend."""
    proxy = start_hosts({"one.localhost": one, "ws.localhost": socket_site})
    with proxy.connect() as client:
        client.send(request_text("ws.localhost", "/first"))
        assert receive_answer(client).site == "sockets"
        client.send(request_text("ws.localhost", "/second", headers=HANDSHAKE) + SMUGGLED)
        answer = receive_answer(client)
        assert (answer.status, answer.site) == (400, None), answer
        assert b"WebSocket" in answer.body and b"new connection" in answer.body, answer
        client.expect_end()
    assert b"/smuggled" not in socket_site.stream and b"/second" not in socket_site.stream
    check_no_harm(proxy)


@behaviour("WebSocket by host")
@needs_hosts
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_interim_answers_come_before_the_answer_to_a_handshake(start_hosts, one, pieces):
    """100 Continue and 103 Early Hints are passed on, and the 101 after them opens the WebSocket all the same."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"

    class Hinting(EchoBackend):
        def serve(self, connection):
            self.receive(connection)
            for data in [early + SWITCH] if pieces == "whole" else [bytes([byte]) for byte in early + SWITCH]:
                self.send(connection, data)
            super().serve(connection)

    with Hinting() as backend:
        proxy = start_hosts({"one.localhost": one, "ws.localhost": backend})
        with proxy.connect() as client:
            client.send(request_text("ws.localhost", headers=HANDSHAKE) + b"early")
            assert [receive_answer(client).status for _ in range(3)] == [100, 103, 101]
            assert client.receive_exactly(5) == b"early"
            client.send(SMUGGLED)
            assert client.receive_exactly(len(SMUGGLED)) == SMUGGLED, "is the 101 after a 103 seen?"
        check_no_harm(proxy)


@behaviour("WebSocket by host")
@needs_hosts
@pytest.mark.parametrize(
    "headers",
    [
        ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"],
        ["Upgrade: websocket, h2c", "Connection: Upgrade"],
        ["Upgrade: h2c", "Upgrade: websocket", "Connection: Upgrade"],
        ["Upgrade: TLS/1.0", "Connection: Upgrade"],
        ["Upgrade: websocket"],
        ["Upgrade: websocket", "Connection: close"],
        ["Upgrade: websocket", "Connection: Upgrade", "Content-Length: 4"],
        ["Upgrade: websocket", "Connection: Upgrade", "Transfer-Encoding: chunked"],
    ],
    ids=lambda headers: ", ".join(line.partition(": ")[2] for line in headers[:2]) + f" and {len(headers) - 2}",
)
def test_no_other_upgrade_opens_a_gate(start_hosts, one, socket_site, headers):
    """Such a header is dropped, and the request answered as it stands."""
    proxy = start_hosts({"one.localhost": one, "ws.localhost": socket_site})
    body = b"body" if "Content-Length: 4" in headers else b""
    body = b"4\r\nbody\r\n0\r\n\r\n" if "Transfer-Encoding: chunked" in headers else body
    with proxy.connect() as client:
        client.send(request_text("ws.localhost", "/page", headers=headers) + body)
        assert receive_answer(client).site == "sockets"
        if "Connection: close" in headers or body:  # behind a GET with a body, nothing more is read either
            client.expect_end()
        else:
            client.send(SMUGGLED)
            assert receive_answer(client).status == 400
    request = socket_site.seen[0]
    assert not request.values("Upgrade") and not request.values("HTTP2-Settings")
    assert all(value in ("close", "keep-alive") for value in request.values("Connection"))
    assert b"/smuggled" not in socket_site.stream


@behaviour("WebSocket by host")
@needs_hosts
@pytest.mark.parametrize("behind", [b"", b"held bytes"])
def test_a_backend_that_ends_without_an_answer_to_a_handshake_is_a_502(start_hosts, one, behind):
    """Held bytes don't keep the client from being told."""

    class Rude(EchoBackend):
        def serve(self, connection):
            self.receive(connection)

    with Rude() as backend:
        proxy = start_hosts({"one.localhost": one, "ws.localhost": backend})
        with proxy.connect() as client:
            client.send(request_text("ws.localhost", headers=HANDSHAKE) + behind)
            assert receive_answer(client).status == 502
            client.expect_end()
        proxy.check_unharmed()


# --- Lua ---------------------------------------------------------------------------------------------


@behaviour("Lua names the host")
def test_route_names_the_host(start_hosts, one, two):
    """A name of the table, in any case; nil leaves the request's own; an unknown one is a 404, whatever the default."""
    more = """
        local answers = {["/two"] = "two.localhost", ["/caps"] = "TWO.localhost.", ["/star"] = "x.star.localhost",
            ["/unknown"] = "nobody.example", ["/default"] = "default", ["/key"] = "*.star.localhost"}
        function route(request) return answers[request.target] end
    """
    proxy = start_hosts(
        {"one.localhost": one, "two.localhost": two, "*.star.localhost": two, "default": one}, more=more
    )
    for target, site in {"/": "one", "/two": "two", "/caps": "two", "/star": "two", "/default": "one"}.items():
        assert ask(proxy, "one.localhost", target).site == site, target
    assert ask(proxy, "one.localhost", "/unknown").status == 404
    assert ask(proxy, "nobody.example", "/").site == "one"
    check_no_harm(proxy)


@behaviour("Lua names the host")
def test_route_sees_the_request(start_hosts, one, two):
    """Its address, tls, host, method, target; and headers, a table, by their names in lower case."""
    more = """
        function route(request)
          local headers = request.headers
          local text = table.concat({request.address, tostring(request.tls), tostring(request.host), request.method,
            request.target, headers["x-one"], headers["x-two"], headers.cookie, tostring(headers["X-One"]),
            tostring(headers.absent)}, " ")
          local expected = "127.0.0.6 false one.localhost PUT /a?b=c 1 2, \\195\\164 c=d nil nil"
          return text == expected and "two.localhost" or error(text)
        end
    """
    proxy = start_hosts({"one.localhost": one, "two.localhost": two}, more=more)
    headers = ["X-One: 1", "x-TWO: 2", "Cookie: c=d", "X-Two: ä"]
    with proxy.connect(source="127.0.0.6") as client:
        client.send(request_text("ONE.localhost:80", "/a?b=c", method="PUT", headers=headers))
        assert receive_answer(client).site == "two", proxy.errors()


@behaviour("Lua names the host")
def test_route_sees_a_plain_address(start_hosts, one, by_ipv6):
    """A client that comes by IPv4 has an IPv4 address, although the socket that listens is one of IPv6."""
    more = 'function route(request) assert(not request.address:find("ffff")) end'
    proxy = start_hosts({"default": one}, listenAddress="::" if by_ipv6 else HOST, more=more)
    for address in [HOST, *by_ipv6]:
        with Client(proxy.port, address=address) as client:
            client.send(request_text("localhost"))
            assert receive_answer(client).site == "one", "route has seen another address"


@behaviour("Lua names the host")
def test_route_sees_every_byte_of_a_header(start_hosts, one, two):
    """They need be no text in UTF-8."""
    value = bytes(byte for byte in range(33, 256) if byte != 127)
    text = "".join(f"\\{byte}" for byte in value)
    more = f'function route(request) return request.headers["x-any"] == "{text}" and "two.localhost" or nil end'
    proxy = start_hosts({"one.localhost": one, "two.localhost": two}, more=more)
    with proxy.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: one.localhost\r\nX-Any: " + value + b"\r\n\r\n")
        assert receive_answer(client).site == "two", proxy.errors()


@behaviour("Lua names the host")
@needs_hosts
def test_route_does_not_see_what_is_dropped(start_hosts, one, two):
    """Who goes by X-Forwarded-For would be fooled by a stranger. What a trusted proxy says is there."""
    more = """
        trustedProxies = {"127.0.0.8"}
        function route(request)
          local seen = {}
          for name in pairs(request.headers) do
            if name:find("forwarded") or name:find("real") or name:find("proxy") or name:find("mine") then
              seen[#seen + 1] = name
            end
          end
          table.sort(seen)
          local trusted = table.concat(seen, " ") == "forwarded x-forwarded-for x-forwarded-proto x-real-ip"
          return trusted and "two.localhost" or #seen == 0 and "one.localhost" or error(table.concat(seen, " "))
        end
    """
    proxy = start_hosts({"one.localhost": one, "two.localhost": two}, more=more)
    claims = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Real-IP: 192.0.2.1", "Forwarded: for=a"]
    claims += ["X_Forwarded_For: 192.0.2.1", "Proxy: a", "X-Mine: for this hop", "Connection: x-mine"]
    for source, name in (("127.0.0.7", "one"), ("127.0.0.8", "two")):
        with proxy.connect(source=source) as client:
            client.send(request_text("a.localhost", headers=claims))
            assert receive_answer(client).site == name, proxy.errors()


@behaviour("Lua names the host")
@needs_hosts
def test_route_sees_a_method_and_a_target_as_they_came(start_hosts, one, two):
    """Whatever llhttp was shown in their place."""
    more = """
        function route(request)
          local seen = request.method .. " " .. request.target
          return seen == "LIST /caf\\195\\169" and "two.localhost" or error(seen)
        end
    """
    proxy = start_hosts({"one.localhost": one, "two.localhost": two}, more=more)
    with proxy.connect() as client:
        client.send(request_text("one.localhost", "/café", method="LIST"))
        assert receive_answer(client).site == "two", proxy.errors()
    assert two.seen[0].line == "LIST /café HTTP/1.1".encode()


@behaviour("Lua names the host")
def test_where_route_decides_each_request_has_a_connection_of_its_own(start_hosts, one, two):
    """It may send the next one elsewhere; so the backend is asked to close, and the client knows to come again."""
    proxy = start_hosts(
        {"one.localhost": one, "two.localhost": two},
        more='function route(request) if request.target == "/two" then return "two.localhost" end end',
    )
    for target, site in (("/", one), ("/two", two)):
        ask(proxy, "one.localhost", target)
        assert site.seen[-1].values("Connection") == ["close"]
    with proxy.connect() as client:
        client.send(request_text("one.localhost", headers=["Connection: keep-alive, x-forwarded-for"]))
        receive_answer(client)
    assert one.seen[-1].values("Connection") == ["close"]


@behaviour("Lua names the host")
def test_route_is_asked_for_each_request(start_hosts, one, two):
    """It may keep state between calls."""
    more = """
        local calls = 0
        function route(request)
          calls = calls + 1
          return calls == 3 and "two.localhost" or nil
        end
    """
    proxy = start_hosts({"one.localhost": one, "two.localhost": two}, more=more)
    assert [ask(proxy, "one.localhost").site for _ in range(3)] == ["one", "one", "two"]


@behaviour("Lua names the host")
@pytest.mark.parametrize(
    "body, complaint",
    [
        ("error('no idea')", "no idea"),
        ("return 7", "neither"),
        ("return {}", "neither"),
        ("return true", "neither"),
        ("return false", "neither"),
        ("return print", "neither"),
        ("error({})", "without a message"),
        ("error(setmetatable({}, {__tostring = error}))", "without a message"),
        ("return setmetatable({}, {__eq = error, __index = error, __tostring = error})", "neither"),
        ("local list = {} for n = 1, 7000 do list[n] = {} end return unpack(list)", "neither"),
        ("getmetatable('').__index = error return ('').x", ""),
        ("return ('x'):rep(10000000)", None),
        ("error('\\255')", ""),
        ("return '\\255\\128\\195'", None),
        ("return ''", None),
        ("return 'a\\r\\nb'", None),
        ("return nil + 1", "arithmetic"),
        ("local function again() return 1 + again() end return again()", "stack overflow"),
        ("local hoard = {} while true do hoard[#hoard + 1] = ('x'):rep(1000) .. #hoard end", "memory"),
    ],
)
def test_when_route_fails_it_is_a_500_and_one_log_line(start_hosts, one, body, complaint):
    """Not a line for each request. A text that is no name is a name that nobody has: 404."""
    proxy = start_hosts({"default": one}, more=f"function route(request) {body} end")
    statuses = {ask(proxy, "a").status for _ in range(3)}
    lines = proxy.errors().splitlines()
    if complaint is None:
        assert statuses == {404} and not lines, f"{statuses}, {lines}"
    else:
        assert statuses == {500}, statuses
        assert len(lines) == 1 and "route" in lines[0] and complaint in lines[0], lines
    assert not one.seen
    proxy.check_unharmed()


@behaviour("Lua names the host")
def test_route_cannot_get_out_of_lua(start_hosts, one, two):
    """Nothing that the function can lay hands on leads to Python, or to files and other programs."""
    ways = """
        python  request.__class__  request.headers.__class__  request.headers.__globals__  getmetatable(request)
        getmetatable(request.headers)  debug  require  getfenv  loadstring  load  dofile  io  package  os.execute
        route.__globals__  python.eval  request.method.__class__  string.dump and loadstring
    """.split("  ")
    tests = "\n".join(
        f"  works, found = pcall(function() return {way.strip()} end)\n"
        f"  if works and found ~= nil then error([[{way.strip()} is there]]) end"
        for way in ways
        if way.strip()
    )
    more = f"function route(request)\n  local works, found\n{tests}\n  return 'two.localhost'\nend"
    proxy = start_hosts({"one.localhost": one, "two.localhost": two}, more=more)
    assert ask(proxy, "one.localhost").site == "two", proxy.errors()


# --- wrong settings ----------------------------------------------------------------------------------


GOOD = "{address = '127.0.0.1', port = '9'}"
A_HOST = f"a = {{backends = {{{GOOD}}}}}"


@behaviour("host settings")
@pytest.mark.parametrize(
    "config, words",
    [
        ("hosts = 'a'", ['hosts must be a table: {["site1.localhost"] = {backends = ...}, ...}, not "a".']),
        ("hosts = {}", ["hosts must be a table of 1 to 10000 hosts, not 0."]),
        (
            f"hosts = {{{GOOD}}}",
            ['hosts[1] must be under a name: ["site1.localhost"] = {backends = ...}', "not under 1."],
        ),
        (
            "hosts = {a = 'b'}",
            [
                'hosts["a"]',
                "must be a table: {backends, balance, check, ",
                ', sendProxyProtocol}, not "b".',
            ],
        ),
        (
            "hosts = {a = {}}",
            ['hosts["a"].backends must be a list of tables: {{address = ..., port = ...}, ...}, and it is missing.'],
        ),
        ("hosts = {a = {backends = {}}}", ['hosts["a"].backends must be a list of 1 to 1000 backends, not 0.']),
        (
            "hosts = {a = {backends = {{address = 'x'}}}}",
            ['hosts["a"].backends[1].port must be a port, a number from 1 to 65535, and it is missing.'],
        ),
        (
            f"hosts = {{a = {{backends = {{{GOOD}, {{address = '127.0.0.1', port = true}}}}}}}}",
            ['hosts["a"].backends[2].port must be a port, a number from 1 to 65535, not true.'],
        ),
        (
            "hosts = {a = {backends = {{address = '127.0.0.1', port = '9', wieght = 2}}}}",
            ['unknown setting hosts["a"].backends[1].wieght: did you mean weight?'],
        ),
        (
            f"hosts = {{a = {{backends = {{{GOOD}}}, blance = 'random'}}}}",
            ['unknown setting hosts["a"].blance: did you mean balance?'],
        ),
        (
            f"hosts = {{a = {{backends = {{{GOOD}}}, balance = 'mine'}}}}",
            [
                'hosts["a"].balance must be one of round_robin, least_conn, random, ip_hash, or a function',
                'not "mine".',
            ],
        ),
        (
            f"hosts = {{a = {{backends = {{{GOOD}}}, check = {{rise = 0}}}}}}",
            ['hosts["a"].check.rise must be a whole number from 1 to 1000, not 0.'],
        ),
        (
            f"hosts = {{a = {{backends = {{{GOOD}}}, maxFails = -1}}}}",
            ['hosts["a"].maxFails must be a whole number from 0 to 1000, not -1.'],
        ),
        (
            f"hosts = {{a = {{backends = {{{GOOD}}}, sendProxyProtocol = 'v3'}}}}",
            ['hosts["a"].sendProxyProtocol must be "v1" or "v2", not "v3".'],
        ),
        (
            f"hosts = {{a = {{backends = {{{GOOD}}}, sendProxyProtocol = 1}}}}",
            ['hosts["a"].sendProxyProtocol must be "v1" or "v2", not 1.'],
        ),
        (
            f"hosts = {{['a b'] = {{backends = {{{GOOD}}}}}}}",
            [
                'hosts["a b"] must be "default", or the name of a host',
                'without a port, or "*." and the end of such names.',
            ],
        ),
        (
            f"hosts = {{['a:80'] = {{backends = {{{GOOD}}}}}}}",
            [
                'hosts["a:80"] must be "default", or the name of a host',
                'without a port, or "*." and the end of such names.',
            ],
        ),
        (
            f"hosts = {{['a.*'] = {{backends = {{{GOOD}}}}}}}",
            [
                'hosts["a.*"] must be "default", or the name of a host',
                'without a port, or "*." and the end of such names.',
            ],
        ),
        (
            f"hosts = {{['*'] = {{backends = {{{GOOD}}}}}}}",
            [
                'hosts["*"] must be "default", or the name of a host',
                'without a port, or "*." and the end of such names.',
            ],
        ),
        (
            f"hosts = {{a = {{backends = {{{GOOD}}}}}, A = {{backends = {{{GOOD}}}}}}}",
            ['hosts["', '"] is there twice: names are compared in lower case.'],
        ),
        (f"hosts = {{{A_HOST}}} backends = {{{GOOD}}}", ["set either hosts", "or backends, not both."]),
        (f"hosts = {{{A_HOST}}} backendAddress = 'x'", ["set either hosts", "or backendAddress, not both."]),
        (
            f"hosts = {{{A_HOST}}} listenTlsPort = {{}}",
            ["listenTlsPort must be a string, not a table. Set it in ", ', like this: listenTlsPort = "..."'],
        ),
        (
            f"hosts = {{{A_HOST}}} listenTlsPort = '99999'",
            ['listenTlsPort must be a port, a number from 1 to 65535, not "99999".'],
        ),
        (
            f"hosts = {{{A_HOST}}} listenTlsPort = listenPort",
            ["listenTlsPort must be another port than listenPort, not ", " too."],
        ),
        (
            f"hosts = {{{A_HOST}}} listenAddress = {{}}",
            ['listenAddress must be an address, such as "::", not a table.'],
        ),
        (f"hosts = {{{A_HOST}}} listenAddress = '192.0.2.1'", ["192.0.2.1", "listen"]),
        (
            f"hosts = {{{A_HOST}}} trustedProxies = '10.0.0.0/8'",
            [
                'trustedProxies must be a list of addresses or networks: {"10.0.0.0/8", "192.0.2.1"}',
                'not "10.0.0.0/8".',
            ],
        ),
        (
            f"hosts = {{{A_HOST}}} trustedProxies = {{'127.0.0.1', '10.0.0.1/8'}}",
            ['trustedProxies[2] must be an address or a network, such as "10.0.0.0/8"', 'not "10.0.0.1/8".'],
        ),
        (
            f"hosts = {{{A_HOST}}} route = 'a'",
            ['route must be a function: function route(request) return ... end, not "a".'],
        ),
        (f"hosts = {{{A_HOST}}} headTimeout = 0", ["headTimeout must be a whole number from 1 to 3600000, not 0."]),
        (f"hosts = {{{A_HOST}}} headTimeuot = 5", ["unknown setting headTimeuot: did you mean headTimeout?"]),
        (
            f"hsots = {{{A_HOST}}} backendAddress = '127.0.0.1' backendPort = '9'",
            ["unknown setting hsots: did you mean hosts?"],
        ),
        ("listenTlsPort = '8443' backendAddress = '127.0.0.1' backendPort = '9'", ["listenTlsPort needs hosts"]),
        ("route = function() end backendAddress = '127.0.0.1' backendPort = '9'", ["route needs hosts"]),
        (f"backends = {{{GOOD}}} trustedProxies = {{}}", ["trustedProxies needs hosts"]),
        (f"backends = {{{GOOD}}} headTimeout = 3", ["headTimeout needs hosts"]),
        (
            "x = 1",
            ["backendAddress must be a string. Set it in ", ', like this: backendAddress = "...", or set backends'],
        ),
        (
            f'hosts = {{a = {{backends = {{{GOOD}, {{address = "127.0.0.1", port = "70000"}}}}}}}}',
            ['hosts["a"].backends[2].port must be a port, a number from 1 to 65535', 'not "70000".'],
        ),
        (
            f'hosts = {{a = {{backends = {{{GOOD}}}}}}} listenTlsPort = "eight"',
            ['listenTlsPort must be a port, a number from 1 to 65535, not "eight".'],
        ),
        (
            f"hosts = {{a = {{backends = {{{GOOD}}}}}}} trustedProxies = {{true}}",
            ['trustedProxies[1] must be an address or a network, such as "10.0.0.0/8"', "not true."],
        ),
        (
            f'hosts = {{[("a"):rep(300)] = {{backends = {{{GOOD}}}}}}}',
            [
                f'hosts["{60 * "a"}..."] must be "default", or the name of a host, ',
                'without a port, or "*." and the end of such names.',
            ],
        ),
        (
            f"hosts = {{[true] = {{backends = {{{GOOD}}}}}}}",
            ['hosts[true] must be under a name: ["site1.localhost"] = {backends = ...}', "not under true."],
        ),
        (
            f'hosts = {{["a\\nb"] = {{backends = {{{GOOD}}}}}}}',
            [
                'hosts["a\\nb"] must be "default", or the name of a host',
                'without a port, or "*." and the end of such names.',
            ],
        ),
    ],
)
def test_it_explains_a_wrong_setting_of_a_host(command, tmp_path, config, words):
    """The line gives the setting's full name, and says what it may be."""
    text = f'listenPort = "{{port}}"\n{config}\n'
    run = run_briefly(Command(command.words, text).fill_in(free_port(), HOST, free_port(), tmp_path))
    check_one_line(run, *words)


@behaviour("host settings")
def test_it_explains_a_tls_port_in_use(command, tmp_path):
    """The second port is as important as the first one."""
    with socket.create_server(("", free_port())) as taken:
        port = taken.getsockname()[1]
        text = f'listenPort = "{{port}}"\nlistenTlsPort = "{port}"\nhosts = {{{A_HOST}}}\n'
        run = run_briefly(Command(command.words, text).fill_in(free_port(), HOST, free_port(), tmp_path))
        check_one_line(run, str(port))


@behaviour("host settings")
def test_the_parts_own_config_works(command, strict, one, two):
    """As it stands beside the program, with other ports."""
    if not strict:
        return
    text = pathlib.Path(command.program[-1]).with_name("config.lua").read_text()
    if "\nhosts = {" not in text:  # they are in redis: see test_redis.py
        return
    text = text.replace("8000", "{port}").replace("8001", str(one.port)).replace("first + 1", str(two.port))
    with Proxy(Command(command.words, text), 0) as proxy:
        assert ask(proxy, "site1.localhost").site == "one"
        assert ask(proxy, "x.site2.localhost").site == "two"
        assert ask(proxy, "elsewhere.example").site == "one"


# --- what attackers tried ----------------------------------------------------------------------------


@behaviour("WebSocket by host")
@needs_hosts
@pytest.mark.parametrize("way", ["with the handshake", "a moment later"])
def test_a_client_that_leaves_before_its_handshake_is_answered_is_noticed(start_hosts, one, way):
    """The backend learns that it has gone, and need not answer; nobody's descriptors wait for that."""

    gone = threading.Event()

    class Speechless(EchoBackend):
        def serve(self, connection):
            while self.receive(connection):
                pass
            gone.set()

    with Speechless() as backend:
        proxy = start_hosts({"one.localhost": one, "ws.localhost": backend})
        assert ask(proxy, "one.localhost").site == "one"
        before = wait_until_still(proxy.open_files, still=0.2)
        with proxy.connect() as client:
            client.send(request_text("ws.localhost", headers=HANDSHAKE))
            if way == "a moment later":
                wait_until(lambda: backend.connections, "the handshake has arrived")
                check_quiet(proxy, seconds=0.2)
        assert gone.wait(PATIENCE), "the backend has not been told"
        wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before")
    check_no_harm(proxy)


@behaviour("WebSocket by host")
@needs_hosts
def test_a_client_that_ends_its_side_behind_a_handshake_still_gets_the_answer(start_hosts, one, socket_site):
    """And what it sent behind the handshake still gets to the backend, before the end."""
    proxy = start_hosts({"one.localhost": one, "ws.localhost": socket_site})
    for behind in (b"", b"hello"):
        with proxy.connect() as client:
            client.send(request_text("ws.localhost", headers=HANDSHAKE) + behind)
            client.half_close()
            assert receive_answer(client).status == 101
            assert client.receive_exactly(len(behind)) == behind
            client.expect_end()
    check_no_harm(proxy)


@behaviour("refusals")
@needs_hosts
def test_a_refusal_behind_head_has_a_body_of_its_own(start_hosts, one):
    """What is refused is not the HEAD before it; only the answer to a HEAD has no body."""
    proxy = start_hosts({"one.localhost": one}, headTimeout=300)
    for bad, status in ((b"GET /", 408), (b"\0", 400), (request_text("two.localhost"), 404)):
        with proxy.connect() as client:
            client.send(request_text("one.localhost", method="HEAD"))
            assert receive_answer(client, "HEAD").status == 200
            client.send(bad)
            answer = receive_answer(client)
            assert (answer.status, str(status) in answer.body.decode()) == (status, True), answer
    with proxy.connect() as client:
        client.send(request_text("two.localhost", method="HEAD"))
        assert receive_answer(client, "HEAD").status == 404
        client.expect_end()
    check_no_harm(proxy)


@behaviour("Lua names the host")
@needs_hosts
def test_a_route_that_hoards_memory_does_not_take_the_proxy_with_it(start_hosts, one):
    """It fills all that Lua may have, and keeps it: the next request's headers would be some texts too many."""
    fill = "for _, size in ipairs({1000, 10, 1}) do "
    fill += "pcall(function() while true do hoard[#hoard + 1] = ('x'):rep(size) .. #hoard end end) end"
    proxy = start_hosts({"default": one}, more=f"hoard = {{}}\nfunction route(request) {fill} end")
    headers = [f"X-{number}: {number}" for number in range(100)]
    statuses = []
    for _ in range(4):
        with proxy.connect() as client:
            client.send(request_text("a.localhost", headers=headers))
            statuses.append(receive_answer(client).status)
    assert statuses[1:] == [500, 500, 500], statuses
    assert proxy.errors().count("\n") == 1 and "memory" in proxy.errors(), proxy.errors()
    proxy.check_unharmed()


@behaviour("host settings")
@pytest.mark.parametrize(
    "address, backend, tls, refused",
    [
        ("127.0.0.1", "127.0.0.1", False, True),
        ("127.0.0.1", "0.0.0.0", False, True),
        ("127.0.0.1", "127.0.0.2", False, False),
        (None, "127.0.0.2", True, True),
        ("::", "127.0.0.1", False, True),
        ("::", "::1", True, True),
    ],
)
def test_a_backend_that_is_one_of_our_own_addresses_is_refused(
    command, by_ipv6, tmp_path, address, backend, tls, refused
):
    """It depends on where the proxy listens: the same port of an address that it does not listen at is another's."""
    if ":" in f"{address}{backend}" and not by_ipv6:
        pytest.skip("no IPv6 here")
    port, tls_port = free_port(), free_port()
    more = {"listenTlsPort": str(tls_port)} | ({"listenAddress": address} if address else {})
    own = tls_port if tls else port
    text = hosts_text({"a.test": host_text(backend_text(own, address=backend))}, **more)
    words = Command(command.words, text).fill_in(port, HOST, port, tmp_path)
    if refused:
        line = check_one_line(run_briefly(words), 'hosts["a.test"].backends[1].port must be', f"{backend}:{own}")
        assert line.startswith("Error parsing config file: "), line
    else:
        with pytest.raises(AssertionError, match="it still runs"):
            run_briefly(words, patience=2)
