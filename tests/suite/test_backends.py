"""Several backends behind one proxy: who gets the next client, who is left out, and what a Lua function may say to it.

A proxy that takes no config file can't be given more than one backend, and is not asked. The row "backend
down" is asked of all the parts: each is given the backends that it can take.
"""

import contextlib
import select
import socket
import threading
import time

import pytest

from support.configs import backend_text, config_text, lua
from support.harness import (
    Command,
    Proxy,
    check_idle_clients,
    check_one_line,
    connects_to,
    is_connecting_to,
    run_briefly,
    with_a_mistake,
)
from support.peers import (
    HOST,
    LONG_PATIENCE,
    PATIENCE,
    Backend,
    CollectingBackend,
    EchoBackend,
    FullBackend,
    HttpBackend,
    Puppet,
    SilentBackend,
    connect_and_be_turned_away,
    free_port,
    pattern,
    wait_until,
)

behaviour = pytest.mark.behaviour
MEGABYTE = 1_000_000  # bytes


@pytest.fixture
def start(command, request):
    """A function that starts the proxy under test on a config like config_text's; all are ended after the test."""
    running = request.node.proxies = []

    def start_on(*backends, **settings):
        running.append(Proxy(Command(command.words, config_text(*backends, **settings)), 0))
        return running[-1]

    yield start_on
    for proxy in running:
        proxy.stop()


def say_hello(proxy, source=HOST):
    """Connect from an address of this machine, say hello, get it back; return the socket. AssertionError otherwise."""
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    try:
        sock.bind((source, 0))
        sock.connect((HOST, proxy.port))
        sock.sendall(b"hello")
        data = sock.recv(5)
    except OSError as error:
        data = str(error)
    if data != b"hello":
        sock.close()
        raise AssertionError(f"a client said hello, and got {data!r}. Hint: is another backend there to take it?")
    return sock


def who_serves(proxy, backends, count, source=HOST, hold=None):
    """Say hello on `count` connections, one after another; return a letter for the backend of each.

    The sockets go into the list `hold`, if there is one, and stay open; otherwise each is closed at once.
    """
    letters = ""
    for _ in range(count):
        before = [len(backend.connections) for backend in backends]
        ends = sum(backend.ends for backend in backends)
        sock = say_hello(proxy, source)
        letters += next(
            letter
            for letter, backend, n in zip("ABCDE", backends, before, strict=False)
            if len(backend.connections) > n
        )
        if hold is None:
            sock.close()
            wait_until(lambda n=ends: sum(backend.ends for backend in backends) > n, "the backend has seen the end")
        else:
            hold.append(sock)
    return letters


@pytest.fixture
def three():
    """Three echoes."""
    with EchoBackend() as one, EchoBackend() as two, EchoBackend() as three:
        yield [one, two, three]


# --- who gets the next client ------------------------------------------------------------------------


@behaviour("several backends")
def test_backends_take_turns(start, three):
    """Round robin, unless the config says otherwise."""
    assert who_serves(start(*three), three, 9) == "ABCABCABC"


@behaviour("several backends")
def test_weights_are_shares_and_mixed_smoothly(start, three):
    """With weights 5, 1 and 1 the order is nginx's: the light ones come between the turns of the heavy one."""
    heavy = backend_text(three[0], weight=5)
    assert who_serves(start(heavy, *three[1:]), three, 14) == "AABACAA" * 2


@behaviour("several backends")
def test_the_backend_with_the_fewest_connections_is_next(start, three):
    """Connections that stay open are spread evenly; where some have ended, the next ones go."""
    proxy, held = start(*three, balance="least_conn"), []
    letters = who_serves(proxy, three, 9, hold=held)
    assert sorted(letters) == sorted("AAABBBCCC"), letters
    busy = [sock for sock, letter in zip(held, letters, strict=True) if letter == "B"]
    before = proxy.open_files()
    for sock in busy:
        sock.close()
    wait_until(lambda: proxy.open_files() <= before - 2 * 3, "the proxy has closed both sides of three connections")
    assert who_serves(proxy, three, 3, hold=held) == "BBB"
    for sock in held:
        sock.close()


@behaviour("several backends")
def test_fewest_connections_counts_weights(start, three):
    """Twice the weight, twice the connections."""
    proxy, held = start(backend_text(three[0], weight=2), three[1], balance="least_conn"), []
    assert sorted(who_serves(proxy, three, 9, hold=held)) == sorted("AAAAAABBB")
    for sock in held:
        sock.close()


@behaviour("several backends")
def test_at_random_the_better_of_two_gets_the_client(start, three):
    """All get clients, in no order; while connections stay open, none gets far ahead."""
    proxy, held = start(*three, balance="random"), []
    letters = who_serves(proxy, three, 90, hold=held)
    assert min(letters.count(letter) for letter in "ABC") >= 20, letters
    assert letters not in ("ABC" * 30, "ACB" * 30), "that is round robin"
    for sock in held:
        sock.close()


@behaviour("several backends")
def test_an_address_keeps_its_backend(start, three):
    """The clients' addresses are hashed: each keeps its backend, and when one goes, only its own clients move."""
    proxy = start(*three, balance="ip_hash", failTimeout=60_000)
    addresses = [f"127.0.0.{number}" for number in range(1, 25)]
    before = {address: who_serves(proxy, three, 2, source=address) for address in addresses}
    assert all(letters in ("AA", "BB", "CC") for letters in before.values()), before
    assert set(before.values()) == {"AA", "BB", "CC"}, "all addresses went to the same backend"
    three[2].close()
    after = {address: who_serves(proxy, three, 2, source=address) for address in addresses}
    for address, letters in before.items():
        assert after[address] == letters or letters == "CC", f"{address} has moved from {letters} to {after[address]}"


@behaviour("several backends")
def test_heavy_weights_hold_nobody_up(start, three):
    """Ten backends of weight 100, nine of them down: a client's address leads past those, at once."""
    down = [backend_text(free_port(), weight=100) for _ in range(9)]
    proxy = start(*down, backend_text(three[0], weight=100), balance="ip_hash", failTimeout=60_000)
    before = proxy.cpu_seconds()
    assert who_serves(proxy, three[:1], 5) == "AAAAA"
    used = proxy.cpu_seconds() - before
    assert used < 0.5, f"{used:.2f} s of processor time for 5 clients. Hint: what is worked out again at each failure?"


@behaviour("several backends")
def test_a_weight_is_a_share_of_the_addresses(start, three):
    """With weights 90, 30 and 30, three addresses in five have the first one."""
    heavy, *light = (backend_text(backend, weight=weight) for backend, weight in zip(three, (90, 30, 30), strict=True))
    proxy = start(heavy, *light, balance="ip_hash")
    letters = "".join(who_serves(proxy, three, 1, source=f"127.0.1.{number}") for number in range(1, 251))
    assert 110 <= letters.count("A") <= 190 and min(letters.count("B"), letters.count("C")) >= 20, letters


@behaviour("several backends")
def test_a_backup_gets_clients_only_when_no_other_is_up(start, three):
    """It stands by while one of the others takes connections."""
    proxy = start(three[0], backend_text(three[1], backup=True), failTimeout=300)
    assert who_serves(proxy, three, 4) == "AAAA"
    three[0].close()
    assert who_serves(proxy, three, 4) == "BBBB"
    with EchoBackend(three[0].port) as back:
        time.sleep(0.4)
        assert who_serves(proxy, [back, three[1]], 4) == "AAAA"


# --- a backend fails ---------------------------------------------------------------------------------


def start_on_what_it_knows(command, one, other, **settings):
    """Start a proxy on two backends, or on the first alone if it does not start when it is given two; return it."""
    port = one if isinstance(one, int) else one.port
    if command.takes_config:
        with contextlib.suppress(AssertionError):  # it takes a config, and knows no list of backends
            return Proxy(Command(command.words, config_text(one, other, **settings)), port)
    return Proxy(command, port)


@behaviour("backend down")
def test_a_backend_that_refuses_costs_no_client(command):
    """No server listens on its port: each client is served by the other one, and does not notice."""
    with EchoBackend() as other, start_on_what_it_knows(command, free_port(), other) as proxy:
        for _ in range(4):
            say_hello(proxy).close()


@behaviour("backend down")
def test_a_backend_that_dies_costs_no_new_client(command):
    """It served, and is gone; whoever comes next is served by the other one."""
    with EchoBackend() as one, EchoBackend() as other, start_on_what_it_knows(command, one, other) as proxy:
        say_hello(proxy).close()
        one.close()
        for _ in range(4):
            say_hello(proxy).close()


@behaviour("backend down")
def test_a_backend_that_does_not_answer_a_connect_costs_a_moment(command):
    """After connectTimeout, 300 ms here, the other one is tried, and gets all that the client has sent meanwhile."""
    with FullBackend() as one, CollectingBackend(100_000) as other:
        with start_on_what_it_knows(command, one, other, connectTimeout=300) as proxy:
            with proxy.connect() as connected:  # the only one that is accepted
                connected.send(b"hello")
                wait_until(lambda: one.connections or other.connections, "the first client is connected")
                one.fill()
                with proxy.connect() as client:
                    client.send(pattern(0, 100_000))
                    assert client.receive_exactly(12) == b"100000 bytes"


@behaviour("several backends")
def test_what_is_needed_to_connect_is_let_go_of_when_it_is_done(start):
    """A connection that is open needs no list of other backends any more: an idle client costs less than 1.2 KB."""
    with Puppet() as backend:
        check_idle_clients(start(backend), backend, most=1200)


# --- left out, and back ------------------------------------------------------------------------------


@behaviour("left out")
def test_a_backend_that_fails_is_left_out_for_a_while(start, three):
    """Even if it is back at once, the next clients go elsewhere; when failTimeout is over, it gets its share again."""
    three[0].close()
    proxy = start(*three, failTimeout=3000)
    assert "A" not in who_serves(proxy, three, 4)
    with EchoBackend(three[0].port) as back:
        assert "A" not in who_serves(proxy, [back, *three[1:]], 4)
        wait_until(lambda: "A" in who_serves(proxy, [back, *three[1:]], 3), "it is tried again", LONG_PATIENCE)
        # In nginx's order, the turn that failed was one, too; so it may take three more before A is the next.
        assert who_serves(proxy, [back, *three[1:]], 12).count("A") >= 3
    first, second = proxy.errors().splitlines()
    assert first.endswith(f"Couldn't connect to backend {HOST}:{back.port}: Connection refused. It is left out for 3 s")
    assert second.endswith(f"Backend {HOST}:{back.port} takes connections again")


@behaviour("left out")
def test_only_one_client_tries_a_backend_that_is_left_out(start):
    """It hangs, so whoever tries it has to wait for connectTimeout. After failTimeout, that is one client of four."""
    with FullBackend() as one, EchoBackend() as other:
        proxy = start(one, other, connectTimeout=2000, failTimeout=1000)
        held = [say_hello(proxy), say_hello(proxy)]  # one at each
        one.fill()
        assert slow_hellos(proxy, one, 4) == 2, "two were sent there before anybody could know"
        time.sleep(1.1)
        assert slow_hellos(proxy, one, 4) == 1, "one tries it again"
        for sock in held:
            sock.close()


def slow_hellos(proxy, full, count):
    """Say hello on `count` connections at once; return how many wait for a backend that is full, and not for an answer.

    In the end, all of them get their answer, from another one.
    """
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect(timeout=LONG_PATIENCE)) for _ in range(count)]
        for client in clients:
            client.send(b"hello")

        def waiting():
            """Return how many connects to the full backend are unanswered, once all the other clients are served."""
            slow, served = connects_to(full.port), select.select([client.socket for client in clients], [], [], 0)[0]
            return slow if slow + len(served) == count else 0

        numbers = []
        wait_until(lambda: numbers.append(waiting()) or numbers[-1], "some clients wait, and the others are served")
        for client in clients:
            assert client.receive_exactly(5) == b"hello"
        return numbers[-1]


@behaviour("left out")
def test_after_max_fails_and_not_before(start, three):
    """With maxFails = 3, two failures change nothing."""
    three[0].close()
    proxy = start(*three[:2], maxFails=3, failTimeout=60_000)
    assert who_serves(proxy, three[:2], 4) == "BBBB"  # two of them have tried A first
    with EchoBackend(three[0].port) as back:
        assert who_serves(proxy, [back, three[1]], 4).count("A") == 2
    assert proxy.errors() == ""


@behaviour("left out")
def test_one_backend_alone_is_never_left_out(start):
    """Its clients are turned away while it is down, and served at once when it is back."""
    port = free_port()
    proxy = start(port, failTimeout=60_000)
    for _ in range(3):
        connect_and_be_turned_away(proxy.port)
    with EchoBackend(port):
        say_hello(proxy).close()
    assert len(proxy.errors().splitlines()) == 2, proxy.errors()


@behaviour("left out")
def test_one_backend_alone_has_only_so_long_to_answer_a_connect(start):
    """After connectTimeout, its client is turned away, and the log says why."""
    with FullBackend() as backend:
        proxy = start(backend, connectTimeout=300, failTimeout=60_000)
        with proxy.connect() as connected:
            connected.send(b"hello")
            wait_until(lambda: backend.connections, "the first client is connected")
            backend.fill()
            with proxy.connect() as client:
                client.send(b"hello")
                client.expect_reset()
            assert "Connection timed out" in proxy.errors(), proxy.errors()


@behaviour("left out")
def test_all_down_and_back(start, three):
    """When all are left out, all are tried: a client is turned away at once, and served as soon as one is back."""
    for backend in three:
        backend.close()
    proxy = start(*three, failTimeout=60_000)
    for _ in range(3):
        connect_and_be_turned_away(proxy.port)
    with EchoBackend(three[1].port):
        for _ in range(3):
            say_hello(proxy).close()
    wait_until(
        lambda: len(proxy.errors().splitlines()) == 4, "three lines for three backends, and one that one is back"
    )


@behaviour("left out")
def test_a_backend_that_refuses_is_not_tried_again_for_the_same_client(start, three):
    """It has the fewest connections, and with maxFails = 0 it is never left out: each client gets to the other."""
    three[0].close()
    held = []
    assert who_serves(start(*three[:2], balance="least_conn", maxFails=0), three[:2], 5, hold=held) == "BBBBB"
    for sock in held:
        sock.close()


# --- health checks -----------------------------------------------------------------------------------


def check_text(**fields):
    """Return the setting `check`, fast enough for a test; fields that are lists are written as they are."""
    fields = {"interval": 50, "rise": 2, "fall": 3, "timeout": 1000} | fields
    pairs = [f"{name} = {value if name == 'expect' else lua(value)}" for name, value in fields.items()]
    return f"check = {{{', '.join(pairs)}}}"


def wait_for_log(proxy, *words):
    """Wait until one line of the proxy's log has all of these words; AssertionError shows the log as it is by then."""

    def logged():
        return any(all(word in line for word in words) for line in proxy.errors().splitlines())

    try:
        wait_until(logged, f"a log line with {' and '.join(words)}", LONG_PATIENCE)
    except AssertionError as error:
        raise AssertionError(f"{error}. The log: {proxy.errors() or 'empty'}") from None


@behaviour("health checks")
def test_a_backend_goes_down_after_fall_checks_and_up_after_rise(start, three):
    """No client has to find out: they all go elsewhere meanwhile. Each change is one log line."""
    proxy = start(*three[:2], more=check_text(), failTimeout=60_000)
    name = f"{HOST}:{three[0].port}"
    say_hello(proxy).close()
    three[0].close()
    wait_for_log(proxy, f"Backend {name} is down: 3 checks failed, the last one: Connection refused")
    assert "A" not in who_serves(proxy, three[:2], 4)
    with EchoBackend(three[0].port) as back:
        wait_for_log(proxy, f"Backend {name} is up: 2 checks succeeded")
        time.sleep(0.2)
        served = [len(three[1].connections), len(back.connections)]
        for _ in range(4):
            say_hello(proxy).close()
        assert len(three[1].connections) > served[0] and len(back.connections) > served[1]
    down = [line for line in proxy.errors().splitlines() if name in line and "is down" in line]
    assert len(down) <= 2, proxy.errors()  # the second one when the with-block has ended


@behaviour("health checks")
@pytest.mark.parametrize("balance", ["round_robin", "least_conn", "a function"])
def test_while_one_backend_comes_and_goes_the_others_share_the_clients(start, balance):
    """At each change the balance goes on where it was; if it began again, the first one would get all clients."""
    more = check_text(interval=30, rise=1, fall=1, timeout=5000, type="http", send="GET /health HTTP/1.0\\r\\n\\r\\n")
    if balance == "a function":
        more, balance = f"{more}\nfunction balance() return nil end", None
    with HttpBackend() as one, HttpBackend() as two, HttpBackend() as unsteady:
        settings = {"balance": balance} if balance else {}
        proxy = start(one, two, unsteady, more=more, **settings)
        served = dict.fromkeys((one.port, two.port, unsteady.port), 0)
        for changes in range(1, 13):
            unsteady.healthy = not unsteady.healthy
            wait_until(lambda n=changes: proxy.errors().count("\n") >= n, "the checks have noticed", LONG_PATIENCE)
            served[int(proxy.get("/port").text)] += 1
    assert max(served.values()) <= 8, f"of 12 clients, the backends at these ports got so many: {served}"


@behaviour("health checks")
@pytest.mark.parametrize("balance", ["round_robin", "least_conn"])
def test_a_backend_that_has_just_come_back_is_not_the_next_one_each_time(start, balance):
    """It is the first in the config, and between any two clients it is away for a moment."""
    more = check_text(interval=30, rise=1, fall=1, timeout=5000, type="http", send="GET /health HTTP/1.0\\r\\n\\r\\n")
    with HttpBackend() as unsteady, HttpBackend() as one, HttpBackend() as two:
        proxy = start(unsteady, one, two, more=more, balance=balance)
        served = []
        for changes in range(1, 17):
            unsteady.healthy = not unsteady.healthy
            wait_until(lambda n=changes: proxy.errors().count("\n") >= n, "the checks have noticed", LONG_PATIENCE)
            if unsteady.healthy:
                served.append(int(proxy.get("/port").text))
    assert served.count(unsteady.port) <= 4, (
        f"of 8 clients, it got {served.count(unsteady.port)}. Hint: who is first among equals?"
    )


@behaviour("health checks")
def test_a_backend_that_is_found_down_keeps_its_connections(start):
    """Clients that are already connected carry on."""
    with HttpBackend() as one, HttpBackend() as other:
        check = check_text(type="http", send="GET /health HTTP/1.0\\r\\n\\r\\n")
        proxy = start(one, other, more=check)
        with proxy.connect() as client:  # the first turn is the first backend's
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.receive_exactly(10)
            one.healthy = False
            wait_for_log(proxy, f"{HOST}:{one.port} is down", "it answered 503")
            client.send(b"GET /status?code=418 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while b"418" not in answer:
                answer += client.receive()
        one.healthy = True
        wait_for_log(proxy, f"{HOST}:{one.port} is up")


@behaviour("health checks")
def test_only_an_http_check_finds_a_backend_that_accepts_and_never_answers(start):
    """To a connect all looks well; clients would go on waiting there."""
    with SilentBackend() as silent, HttpBackend() as other:
        name = f"{HOST}:{silent.port}"
        blind = start(silent, other, more=check_text())
        time.sleep(0.5)
        assert blind.errors() == ""
        proxy = start(silent, other, more=check_text(type="http", timeout=300))
        wait_for_log(proxy, f"Backend {name} is down", "no answer in 0.3 s")
        for _ in range(4):
            assert proxy.get("/").status_code == 200


@behaviour("health checks")
def test_a_check_that_waits_holds_up_nobody(start):
    """One backend is asked, and keeps silent for 3 s; the other one's echoes need not wait for that."""
    with SilentBackend() as silent, EchoBackend() as echo:
        check = check_text(type="http", interval=1000, timeout=3000, fall=100)
        proxy = start(echo, backend_text(silent, backup=True), more=check)
        with proxy.connect(timeout=LONG_PATIENCE) as client:
            wait_until(lambda: silent.received, "the silent one is asked", LONG_PATIENCE)
            for number in range(1, 51):
                client.send(b"hello")
                client.receive_exactly(5)
                over = silent.ends + silent.resets
                assert not over, f"echo {number} came after the check. Hint: what does the loop do while a check waits?"


@behaviour("health checks")
@pytest.mark.parametrize("expect, well", [("{200, 399}", False), ("{500, 599}", True)])
def test_the_status_has_to_be_between_two(start, expect, well):
    """The answer is 503: whether that is good is for the config to say."""
    with HttpBackend() as one, HttpBackend() as other:
        one.healthy = False
        send = "GET /health HTTP/1.0\\r\\n\\r\\n"
        proxy = start(one, other, more=check_text(type="http", send=send, expect=expect))
        name = other.port if well else one.port
        wait_for_log(proxy, f"{HOST}:{name} is down", f"it answered {200 if well else 503}")


class Says(Backend):
    """Answers each request with the same pieces, a moment apart, and ends the connection, unless it keeps it open."""

    def __init__(self, *pieces, keeps=False):
        """The pieces are bytes."""
        self.pieces = pieces
        self.keeps = keeps
        self.seconds = []  # that each connection has lasted
        super().__init__()

    def serve(self, connection):
        """Answer, and wait for the end."""
        start = time.monotonic()
        self.receive(connection)
        for piece in self.pieces:
            self.send(connection, piece)
            time.sleep(0.01)
        if not self.keeps:
            connection.shutdown(socket.SHUT_WR)
        while self.receive(connection):
            pass
        self.seconds.append(time.monotonic() - start)


EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload" + b"\r\nX-Long: " + 2000 * b"x" + b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK_PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@behaviour("health checks")
@pytest.mark.parametrize(
    "pieces",
    [
        [CONTINUE + OK_PAGE],
        [EARLY_HINTS, OK_PAGE],
        [CONTINUE, EARLY_HINTS, CONTINUE[:-2], CONTINUE[-2:-1], CONTINUE[-1:] + OK_PAGE[:5], OK_PAGE[5:]],
        [b"HTTP/1.1 100\n\n" + OK_PAGE],
    ],
    ids=["100", "103", "in pieces", "no phrase"],
)
def test_an_interim_answer_does_not_decide_a_check(start, pieces):
    """100 or 103 comes before the final status (RFC 9110, section 15.2): that one counts."""
    late = [CONTINUE, b"HTTP/1.1 503 Service Unavailable\r\n\r\n"]
    with Says(*pieces) as good, Says(*late) as bad:
        proxy = start(good, bad, more=check_text(type="http", fall=1))
        wait_for_log(proxy, f"{HOST}:{bad.port} is down", "it answered 503")
        wait_until(lambda: len(good.seconds) >= 3, "three checks of the good one", LONG_PATIENCE)
        assert f"{HOST}:{good.port} is down" not in proxy.errors(), proxy.errors()


@behaviour("health checks")
@pytest.mark.parametrize("answer", [EARLY_HINTS.replace(b"xx", 20 * b"xx"), CONTINUE, b"HTTP/1.1 101 Go\r\n\r\n"])
def test_an_interim_answer_alone_is_a_failed_check(start, answer):
    """One that is far too long, one that nothing follows; and 101, which is final: no page comes after it."""
    with Says(answer) as bad, HttpBackend() as good:
        proxy = start(bad, good, more=check_text(type="http", fall=1))
        wait_for_log(proxy, f"{HOST}:{bad.port} is down")


@behaviour("health checks")
def test_a_check_of_a_large_page_is_no_reset_to_the_backend(start):
    """The status is enough for the check, but the rest is read, up to a megabyte, before the connection is closed."""
    page = b"HTTP/1.0 200 OK\r\n\r\n" + 300_000 * b"x"
    with Says(page, 300_000 * b"x", 300_000 * b"x") as large, HttpBackend() as other:
        proxy = start(large, other, more=check_text(type="http", interval=500))
        wait_until(lambda: len(large.connections) >= 6, "six checks", LONG_PATIENCE)
        told = f"{large.resets} of {len(large.connections)} checks ended in a reset"
        assert large.resets <= 2, (
            f"{told}. Hint: what does close() do with bytes that have not been read?"
        )  # a busy machine
        assert proxy.errors() == ""


@behaviour("health checks")
def test_a_check_does_not_read_for_ever(start):
    """Neither a page without an end, nor on a connection that stays open after the page; the next checks do come."""
    with (
        Says(*[b"HTTP/1.0 200 OK\r\n\r\n", *100_000 * [65536 * b"x"]]) as endless,
        Says(OK_PAGE, keeps=True) as open_end,
    ):
        proxy = start(endless, open_end, more=check_text(type="http", interval=1500, timeout=1400))
        wait_until(lambda: len(open_end.seconds) >= 2 and endless.resets >= 2, "two checks of each", LONG_PATIENCE)
        assert min(open_end.seconds) < 1, f"a check held its connection for {open_end.seconds} s"
        assert endless.sent < 100_000_000
        assert proxy.errors() == ""


# --- Lua chooses -------------------------------------------------------------------------------------


@behaviour("Lua chooses")
@pytest.mark.parametrize("returned", ["backends[2]", "2"])
def test_a_lua_function_chooses(start, three, returned):
    """It returns one of the backends, or its number."""
    proxy = start(*three, more=f"function balance(client, backends) return {returned} end")
    assert who_serves(proxy, three, 4) == "BBBB"
    assert proxy.errors() == ""


@behaviour("Lua chooses")
def test_it_may_keep_state_between_calls(start, three):
    """The function is called once for each connection."""
    more = "local calls = 0 function balance(client, backends) calls = calls + 1 return calls % 2 + 1 end"
    assert who_serves(start(*three, more=more), three, 6) == "BABABA"


@behaviour("Lua chooses")
def test_it_sees_the_client_and_the_backends(start, three):
    """Tables with plain values: who comes, and how each backend fares."""
    more = (
        "function balance(client, backends)\n"
        "  local busiest = backends[1]\n"
        "  for _, backend in ipairs(backends) do\n"
        "    if type(backend.address) ~= 'string' or type(backend.port) ~= 'string' then error('no address') end\n"
        "    if backend.active > busiest.active then busiest = backend end\n"
        "  end\n"
        "  if client.address == '127.0.0.2' and client.port > 0 then return busiest end\n"
        "  for _, backend in ipairs(backends) do if backend.weight == 7 and backend.up then return backend end end\n"
        "  return 1\n"
        "end"
    )
    proxy, held = start(three[0], backend_text(three[1], weight=7), three[2], more=more, failTimeout=60_000), []
    assert who_serves(proxy, three, 3, hold=held) == "BBB"
    assert who_serves(proxy, three, 2, source="127.0.0.2") == "BB"
    assert proxy.errors() == ""
    three[1].close()
    assert "B" not in who_serves(proxy, [three[0], three[1], three[2]], 1)  # it has found out
    assert who_serves(proxy, three, 2) == "AA", "the function sees that the second one is not up"
    for sock in held:
        sock.close()


@behaviour("Lua chooses")
@pytest.mark.parametrize(
    "body, complaint",
    [
        ("return nil", None),
        ("error('no idea')", "no idea"),
        ("return 4", "neither a backend"),
        ("return {}", "neither a backend"),
        ("return 'first'", "neither a backend"),
        ("return 1.5", "neither a backend"),
        ("return 0/0", "neither a backend"),
        ("return 1e300", "neither a backend"),
        ("return true", "neither a backend"),
        ("error({})", "without a message"),
        ("error(setmetatable({}, {__tostring = error}))", "without a message"),
        ("error(('x'):rep(100000))", "xxx"),
        ("local list = {} for n = 1, 7000 do list[n] = {} end return unpack(list)", "neither a backend"),
        ("return ('x'):rep(10000000)", "neither a backend"),
        ("return setmetatable({}, {__eq = error, __index = error, __tostring = error})", "neither a backend"),
        ("error('\\255')", ""),
        ("local function again() return 1 + again() end return again()", "stack overflow"),
        ("local hoard = {} while true do hoard[#hoard + 1] = ('x'):rep(1000) .. #hoard end", "memory"),
    ],
)
def test_when_it_fails_round_robin_takes_over(start, three, body, complaint):
    """Errors and nonsense cost one log line, not one for each connection; nil costs none."""
    proxy = start(*three, more=f"function balance(client, backends) {body} end")
    assert who_serves(proxy, three, 6) == "ABCABC"
    lines = proxy.errors().splitlines()
    assert len(lines) == (complaint is not None), lines
    assert complaint is None or complaint in lines[0], lines
    assert all(len(line) < 1000 for line in lines), "a message of 100,000 characters is in the log"
    assert proxy.memory() < 200 * MEGABYTE


@behaviour("Lua chooses")
@pytest.mark.parametrize(
    "body, letters, complaint",
    [
        # To give one of them a double share, say; the list is the same one each time, and grows.
        ("table.insert(backends, backends[1]) return #backends", "ABCABC", "neither a backend"),
        ("table.insert(backends, backends[2]) return backends[#backends]", "BBBBBB", None),
        ("backends[4] = 'D' return 4", "ABCABC", "neither a backend"),
        ("backends[1.5] = backends[2] return 1.5", "ABCABC", "neither a backend"),
        ("backends.first = backends[1] return 'first'", "ABCABC", "neither a backend"),
        ("backends[2] = {port = '1'} return backends[2]", "ABCABC", "neither a backend"),
        ("for number = 1, 3 do backends[number] = nil end return 2", "BBBBBB", None),
        ("table.sort(backends, function(a, b) return a.weight > b.weight end) return backends[1]", "CCCCCC", None),
        ("table.sort(backends, function(a, b) return a.weight > b.weight end) return 1", "AAAAAA", None),
        ("setmetatable(backends, {__index = error, __newindex = error, __len = error}) return 3", "CCCCCC", None),
        (
            "local b = backends[1] b.up = nil setmetatable(b, {__newindex = error, __index = error}) return b",
            "AAAAAA",
            None,
        ),
        ("backends[1].active = {} backends[1].up = 'no' return backends[1]", "AAAAAA", None),
        ("setmetatable(client, {__index = error}) return 2", "BBBBBB", None),
        ("getmetatable('').__index = error return 2", "BBBBBB", None),
        ("rawset, ipairs, tostring, type, string.format = nil return 2", "BBBBBB", None),
    ],
)
def test_what_it_does_to_its_tables_harms_nobody(start, three, body, letters, complaint):
    """What it was given is a backend, whatever it did to it; a number is one of the config's order; the rest is not."""
    weighted = [backend_text(backend, weight=number) for number, backend in enumerate(three, 1)]
    backends = three if letters == "ABCABC" else weighted
    proxy = start(*backends, more=f"function balance(client, backends) {body} end")
    assert who_serves(proxy, three, 6) == letters
    lines = proxy.errors().splitlines()
    assert len(lines) == (complaint is not None), lines
    assert complaint is None or complaint in lines[0], lines
    proxy.check_unharmed()


@behaviour("Lua chooses")
def test_a_function_that_hoards_memory_does_not_take_the_proxy_with_it(start, three):
    """It fills all that Lua may have, and keeps it: the next client's address would be one text too many."""
    fill = "for _, size in ipairs({1000, 10, 1}) do "
    fill += "pcall(function() while true do hoard[#hoard + 1] = ('x'):rep(size) .. #hoard end end) end"
    proxy = start(*three, more=f"hoard = {{}}\nfunction balance(client, backends) {fill} end")
    assert "".join(who_serves(proxy, three, 1, f"127.0.{n}.{n}") for n in range(1, 7)) == "ABCABC"
    complaint = proxy.errors()
    assert "memory" in complaint and complaint.count("\n") == 1, complaint


@behaviour("Lua chooses")
@pytest.mark.parametrize(
    "way",
    [
        "python",
        "client.__class__",
        "backends[1].__class__",
        "backends.__class__",
        "getmetatable(client)",
        "getmetatable(backends)",
        "debug",
        "require",
        "getfenv",
        "loadstring or load or dofile",
        "io or package or os.execute",
        "balance.__globals__",
    ],
)
def test_it_cannot_get_out_of_lua(start, three, way):
    """Nothing that the function can lay hands on leads to Python, or to files and other programs."""
    more = (
        "function balance(client, backends)\n"
        f"  local works, found = pcall(function() return {way} end)\n"
        "  if works and found ~= nil then return 2 end\n"
        "  return 1\n"
        "end"
    )
    assert who_serves(start(*three, more=more), three, 2) == "AA", f"{way} is there"


# --- wrong settings ----------------------------------------------------------------------------------


GOOD = "{address = '127.0.0.1', port = '9'}"
# All that Lua may have, but for less than any text takes that we could add.
FILLED = """
    hoard, count = {}, 0
    for number = 1, 70000 do hoard[number] = false end
    local function fill(size) while true do count = count + 1 hoard[count] = ("x"):rep(size) .. count end end
    pcall(fill, 1000) pcall(fill, 10)
"""


def check_explained(command, tmp_path, config, *words):
    """Check that a config with these lines is refused, in one line that has these words."""
    if not command.takes_config:
        pytest.skip("it takes no config, so it can't be given several backends")
    text = f'listenPort = "{{port}}"\n{config}\n'
    run = run_briefly(Command(command.words, text).fill_in(free_port(), HOST, free_port(), tmp_path))
    check_one_line(run, *words)


@behaviour("backend settings")
@pytest.mark.parametrize(
    "config, words",
    [
        ("backends = 'two'", ["backends must be a list of tables: {{address = ..., port = ...}, ...}", 'not "two".']),
        ("backends = {}", ["backends must be a list of 1 to 1000 backends, not 0."]),
        (
            f"backends = {{{GOOD}, [3] = {GOOD}}}",
            [
                "backends must be a list of tables: {{address = ..., port = ...}, ...}",
                "without gaps and without names, not a table with [3].",
            ],
        ),
        (
            f"backends = {{{GOOD}, {{address = '127.0.0.1'}}}}",
            ["backends[2].port must be a port, a number from 1 to 65535, and it is missing."],
        ),
        (
            f"backends = {{{GOOD}, {{address = '127.0.0.1', port = {{}}}}}}",
            ["backends[2].port must be a port, a number from 1 to 65535, not a table."],
        ),
        (
            f"backends = {{{GOOD}, {{address = '127.0.0.1', port = '99999'}}}}",
            ['backends[2].port must be a port, a number from 1 to 65535, not "99999".'],
        ),
        ("backends = {{port = '9'}}", ["backends[1].address must be a name or an address, and it is missing."]),
        (
            f"backends = {{{GOOD}}} backendPort = '9'",
            ["set either backends, or backendAddress and backendPort, not both."],
        ),
        (
            "backends = {{address = '127.0.0.1', port = '9', ['\\255'] = 1}}",
            ["backends[1] has a text that is not UTF-8."],
        ),
        (
            'listenPort = "99999" backendAddress = "127.0.0.1" backendPort = "9"',
            ['listenPort must be a port, a number from 1 to 65535, not "99999".'],
        ),
        (
            'listenPort = 8000.5 backendAddress = "127.0.0.1" backendPort = "9"',
            ["listenPort must be a port, a number from 1 to 65535, not 8000.5."],
        ),
        (
            'listenPort = {} backendAddress = "127.0.0.1" backendPort = "9"',
            ["listenPort must be a string, not a table. Set it in ", ', like this: listenPort = "..."'],
        ),
        ("listenPort = nil", ["listenPort must be a string. Set it in ", ', like this: listenPort = "..."']),
        (
            'backendAddress = "127.0.0.1" backendPort = "eight"',
            ['backendPort must be a port, a number from 1 to 65535, not "eight".'],
        ),
        (
            'backendAddress = "127.0.0.1"',
            ["backendPort must be a string. Set it in ", ', like this: backendPort = "..."'],
        ),
        ('backendAddress = "" backendPort = 9', ['backendAddress must be a name or an address, not "".']),
        (
            "backendAddress = true backendPort = 9",
            [
                "backendAddress must be a string, not true. Set it in ",
                ', like this: backendAddress = "...", or set backends',
            ],
        ),
        (
            "x = 1",
            ["backendAddress must be a string. Set it in ", ', like this: backendAddress = "...", or set backends'],
        ),
        (
            'backends = {{address = "127.0.0.1", port = "70000"}}',
            ['backends[1].port must be a port, a number from 1 to 65535, not "70000".'],
        ),
        (
            'backends = {{address = "127.0.0.1", port = ("9"):rep(5000)}}',
            [
                "backends[1].port must be a port, a number from 1 to 65535",
                'not "999999999999999999999999999999999999999999999999999999999999...".',
            ],
        ),
        (
            'backends = {{address = "127.0.0.1", port = "a\\nb\\r\'\\""}}',
            ['backends[1].port must be a port, a number from 1 to 65535, not "a\\nb\\r\'"".'],
        ),
        (
            'backends = {{address = "127.0.0.1", port = 1/0}}',
            ["backends[1].port must be a port, a number from 1 to 65535, not inf."],
        ),
        (
            'backends = {{address = "127.0.0.1", port = function() end}}',
            ["backends[1].port must be a port, a number from 1 to 65535, not a function."],
        ),
        (
            f"backends = {{{GOOD}, x = 1}}",
            [
                "backends must be a list of tables: {{address = ..., port = ...}, ...}",
                'without gaps and without names, not a table with ["x"].',
            ],
        ),
        ('backends = {{address = {}, port = "9"}}', ["backends[1].address must be a name or an address, not a table."]),
    ],
)
def test_it_explains_a_wrong_list_of_backends(command, tmp_path, config, words):
    """The line gives the setting's full name, and says what it may be."""
    check_explained(command, tmp_path, config, *words)


@behaviour("backend settings")
@pytest.mark.parametrize(
    "config, words",
    [
        ("backedns = {" + GOOD + "}", ["unknown setting backedns: did you mean backends?"]),
        (
            "backends = {{adress = '127.0.0.1', port = '9'}}",
            ["unknown setting backends[1].adress: did you mean address?"],
        ),
    ],
)
def test_it_explains_a_misspelt_name(command, tmp_path, config, words):
    """The line shows the name as it was written, and the one that was meant."""
    check_explained(command, tmp_path, config, *words)


@behaviour("backend settings")
@pytest.mark.parametrize(
    "config, words",
    [
        (f"backends = {{{GOOD}, 'x'}}", ['backends[2] must be a table: {address, port, weight, backup}, not "x".']),
        (
            "backends = {{address = '127.0.0.1', port = '9', weight = 0}}",
            ["backends[1].weight must be a whole number from 1 to 100, not 0."],
        ),
        (
            "backends = {{address = '127.0.0.1', port = '9', weight = 1.5}}",
            ["backends[1].weight must be a whole number from 1 to 100, not 1.5."],
        ),
        (
            "backends = {{address = '127.0.0.1', port = '9', wieght = 2}}",
            ["unknown setting backends[1].wieght: did you mean weight?"],
        ),
        (
            "backends = {{address = '127.0.0.1', port = '9', backup = 'yes'}}",
            ['backends[1].backup must be true or false, not "yes".'],
        ),
        (
            "backends = {{address = '127.0.0.1', port = '9', backup = true}}",
            ["backends must be a list with at least one that is not a backup, not backups alone."],
        ),
        (
            'backends = {{address = "127.0.0.1", port = "9", ["a b"] = 1}}',
            ['unknown setting backends[1]["a b"]: there are address, port, weight, backup.'],
        ),
        (
            'backends = {{address = "127.0.0.1", port = "9", [{}] = 1}}',
            ["unknown setting backends[1][a table]: there are address, port, weight, backup."],
        ),
        (
            'backends = {{address = "127.0.0.1", port = "9", colour = 1}}',
            ["unknown setting backends[1].colour: there are address, port, weight, backup."],
        ),
        (
            'backends = {{address = "127.0.0.1", port = "9", backup = 0}}',
            ["backends[1].backup must be true or false, not 0."],
        ),
    ],
)
def test_it_explains_a_wrong_weight_or_backup(command, tmp_path, config, words):
    """They are fields of a backend, so the line says which backend it is."""
    check_explained(command, tmp_path, config, *words)


@behaviour("backend settings")
@pytest.mark.parametrize(
    "config, words",
    [
        (
            f"backends = {{{GOOD}}} balance = 'sometimes'",
            ["balance must be one of round_robin, least_conn, random, ip_hash, or a function", 'not "sometimes".'],
        ),
        (
            f"backends = {{{GOOD}}} balance = 3",
            ["balance must be one of round_robin, least_conn, random, ip_hash, or a function", "not 3."],
        ),
        (
            f"backends = {{{GOOD}}} check = true",
            ["check", "must be a table: {interval, rise, fall, timeout, type, send, expect}, not true."],
        ),
        (
            f"backends = {{{GOOD}}} check = {{interval = 'soon'}}",
            ['check.interval must be a whole number from 10 to 3600000, not "soon".'],
        ),
        (f"backends = {{{GOOD}}} check = {{rise = 0}}", ["check.rise must be a whole number from 1 to 1000, not 0."]),
        (f"backends = {{{GOOD}}} check = {{tiemout = 5}}", ["unknown setting check.tiemout: did you mean timeout?"]),
        (f"backends = {{{GOOD}}} check = {{type = 'ftp'}}", ['check.type must be "tcp" or "http", not "ftp".']),
        (f"backends = {{{GOOD}}} check = {{send = 'x'}}", ['check.send needs check.type = "http".']),
        (
            f"backends = {{{GOOD}}} check = {{type = 'http', expect = {{200}}}}",
            ["check.expect must be two status codes, the lowest and the highest: {200, 399}", "not {200}."],
        ),
        (
            f"backends = {{{GOOD}}} check = {{type = 'http', expect = {{20, 399}}}}",
            ["check.expect[1] must be a whole number from 100 to 599, not 20."],
        ),
        (f"backends = {{{GOOD}}} maxFails = -1", ["maxFails must be a whole number from 0 to 1000, not -1."]),
        (f"backends = {{{GOOD}}} failTimeout = 0", ["failTimeout must be a whole number from 1 to 3600000, not 0."]),
        (
            f"backends = {{{GOOD}}} connectTimeout = 0/0",
            ["connectTimeout must be a whole number from 1 to 3600000, not nan."],
        ),
        (f"backends = {{{GOOD}}} maxFail = 3", ["unknown setting maxFail: did you mean maxFails?"]),
        (f"backends = {{{GOOD}}} ballance = 'random'", ["unknown setting ballance: did you mean balance?"]),
        (
            f'backends = {{{GOOD}}} check = {{type = "http", expect = {{399, 200}}}}',
            ["check.expect must be two status codes, the lowest and the highest: {200, 399}", "not {399, 200}."],
        ),
        (
            f'backends = {{{GOOD}}} check = {{type = "http", expect = {{200, 201, 202, 203}}}}',
            [
                "check.expect must be two status codes, the lowest and the highest: {200, 399}",
                "not {200, 201, 202, ...}.",
            ],
        ),
        (
            f'backends = {{{GOOD}}} check = {{type = "http", expect = 200}}',
            ["check.expect must be a list of two status codes: {200, 399}, not 200."],
        ),
        (
            f'backends = {{{GOOD}}} check = {{type = "http", send = ("x"):rep(5000)}}',
            ["check.send must be at most 4096 bytes, not 5000."],
        ),
        (
            f"backends = {{{GOOD}}} balance = {{}}",
            ["balance must be one of round_robin, least_conn, random, ip_hash, or a function", "not a table."],
        ),
        (f"backends = {{{GOOD}}} function balance() return 1 end {FILLED}", ["Error parsing config file", "memory"]),
    ],
)
def test_it_explains_a_wrong_setting(command, tmp_path, config, words):
    """What is said of all the backends: the balance, the checks, the times."""
    check_explained(command, tmp_path, config, *words)


@behaviour("backend settings")
def test_a_global_of_its_own_is_the_configs_business(start, three):
    """A config is a program, and may have its own names that no setting is like."""
    proxy = start(*three, more="colour = 'blue' function shout(text) return text:upper() end limits = {1, 2}")
    say_hello(proxy).close()


# --- late, and short of something --------------------------------------------------------------------


@behaviour("health checks")
def test_many_checks_at_once_leave_room_for_clients(start):
    """A thousand backends, to be checked every 10 ms: more than there is time for. Clients and signals come first."""
    with EchoBackend() as echo:
        down = backend_text(free_port(), backup=True)
        proxy = start(echo, *[down] * 999, more=check_text(interval=10, fall=1000))
        for _ in range(20):
            say_hello(proxy).close()
        proxy.signal_and_wait()


class LateBackend(EchoBackend):
    """An echo whose accept queue is full until `go` is set: then the kernel answers the next connect, or the repeated.

    The kernel of whoever connects repeats its SYN after a second.
    """

    def __init__(self):
        """Listen, and fill the queue."""
        self.go = threading.Event()
        super().__init__(backlog=0)
        self.filler = socket.create_connection((HOST, self.port))

    def accept_forever(self):
        """Begin to accept in time."""
        self.go.wait(LONG_PATIENCE)
        super().accept_forever()

    def close(self):
        """Close the filler too."""
        self.go.set()
        self.filler.close()
        super().close()

    def has_connected(self):
        """Return True if a connection from elsewhere has been accepted."""
        return len(self.connections) > 1

    def serve(self, connection):
        """Send back what comes; to a check, that it is well."""
        data = self.receive(connection)
        self.send(connection, b"HTTP/1.0 200 OK\r\n\r\n" if data.startswith(b"GET") else data)


@behaviour("left out")
def test_a_connect_that_has_worked_in_time_is_no_failure(start):
    """It worked while the proxy had no processor. When it goes on, connectTimeout is over, yet no backend was late."""
    with LateBackend() as late, EchoBackend() as other:
        proxy = start(late, backend_text(other, backup=True), connectTimeout=3000)
        with proxy.connect() as client:
            client.send(b"hello")
            wait_until(lambda: is_connecting_to(late.port), "it connects to the backend")
            with proxy.stopped():
                late.go.set()
                wait_until(late.has_connected, "the backend has accepted", LONG_PATIENCE)
                time.sleep(3)
            assert client.receive_exactly(5) == b"hello"
        assert not other.connections, "the client went elsewhere"
        assert proxy.errors() == ""


@behaviour("health checks")
@pytest.mark.parametrize("what", ["the answer", "the connect"])
def test_a_check_whose_answer_has_come_is_no_failure(start, what):
    """It came while the proxy had no processor; the time that it takes to come back to it is not the backend's."""
    with Puppet() if what == "the answer" else LateBackend() as backend:
        check = check_text(type="http", interval=12_000, timeout=4000, fall=1)
        proxy = start(backend, free_port(), more=check)
        if what == "the answer":
            wait_until(lambda: backend.connections, "a check comes", LONG_PATIENCE)
            assert backend.connection.recv(3) == b"GET"
            with proxy.stopped():
                backend.connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                time.sleep(4.2)
        else:
            wait_until(lambda: is_connecting_to(backend.port), "a check connects", LONG_PATIENCE)
            with proxy.stopped():
                backend.go.set()
                wait_until(backend.has_connected, "the backend has accepted", LONG_PATIENCE)
                time.sleep(4)
        time.sleep(0.3)
        assert f"{HOST}:{backend.port} is down" not in proxy.errors(), proxy.errors()


@behaviour("left out")
def test_our_own_shortage_is_not_held_against_a_backend(start):
    """No descriptor is left for a connection to the second one; as soon as there is one, it gets its clients."""
    with FullBackend() as full, EchoBackend() as echo:
        proxy = start(full, echo, connectTimeout=2500, failTimeout=60_000)
        held = [say_hello(proxy), say_hello(proxy)]  # one at each
        full.fill()
        with proxy.connect() as client:
            client.send(b"hello")
            wait_until(lambda: is_connecting_to(full.port), "it connects to the first one")
            with proxy.without_descriptors():
                client.expect_reset()
        for _ in range(3):
            say_hello(proxy).close()
        for sock in held:
            sock.close()
        about_echo = [line for line in proxy.errors().splitlines() if f"{HOST}:{echo.port}" in line]
        assert len(about_echo) == 1 and "Too many open files" in about_echo[0], proxy.errors()
        assert "left out" not in about_echo[0], about_echo


OUT_OF_PORTS = """
import errno, netutils, socket
class Socket(socket.SocketType):
    def connect_ex(self, address):
        return errno.EADDRNOTAVAIL
sound = netutils.create_backend_socket
def create_backend_socket(family):
    return Socket(family, netutils.NON_BLOCKING_STREAM)
netutils.create_backend_socket = create_backend_socket
"""


@behaviour("health checks")
def test_a_machine_that_has_run_out_of_ports_says_nothing_about_its_backends(command):
    """EADDRNOTAVAIL, "Cannot assign requested address": neither a check nor a client's connect counts as failed."""
    if command.forgiving or not command.takes_config:
        pytest.skip("only where we know what is inside")
    with EchoBackend() as one, EchoBackend() as other:
        words = with_a_mistake(command.words, OUT_OF_PORTS)
        with Proxy(Command(words, config_text(one, other, more=check_text(fall=1))), 0) as proxy:
            for _ in range(3):
                connect_and_be_turned_away(proxy.port)
            time.sleep(0.3)
            lines = proxy.errors().splitlines()
            assert len(lines) == 1 and "Cannot assign requested address" in lines[0], proxy.errors()
            assert "left out" not in lines[0], lines
