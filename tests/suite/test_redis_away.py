"""Redis may be away, wrong, slow or mad: what is known still holds, and no request to a known host fails."""

import contextlib
import functools
import socket
import time

import pytest

from support.harness import check_quiet, has_unread_bytes
from support.peers import (
    HOST,
    LONG_PATIENCE,
    Backend,
    Client,
    FakeRedis,
    RedisServer,
    Site,
    Traffic,
    ask,
    free_port,
    hello_bytes,
    invalidation,
    member,
    receive_answer,
    request_text,
    set_reply,
    wait_until,
)

behaviour = pytest.mark.behaviour
pytestmark = pytest.mark.needs("redis-server")

OK = b"+OK\r\n"
COMES_BACK = 20  # seconds until the proxy has found redis again, on a busy machine; its longest pause is 5
INTERNAL_ERROR = 80  # an alert


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


def lines_about_redis(proxy):
    """Return the lines of its log."""
    return proxy.errors().splitlines()


def wait_for(proxy, host, site):
    """Wait until redis is there again, and a host answers with this site."""
    wait_until(lambda: ask(proxy, host).site == site, f"{host} answers with {site}", COMES_BACK)


def check_turned_away(proxy, host="unknown.test"):
    """Raise AssertionError unless clients of an unknown host are turned away in about a second, on both ports."""
    start = time.monotonic()
    with Client(proxy.tls_port) as client, proxy.connect() as other:
        client.send(hello_bytes(host))
        other.send(request_text(host))
        answer = receive_answer(other)
        seconds = time.monotonic() - start
        assert (answer.status, answer.fields["connection"]) == (503, "close"), answer
        other.expect_end()
        alert = client.receive_all()
        assert alert[:1] == b"\x15" and alert[-1] == INTERNAL_ERROR, alert
    assert 0.5 < seconds < 2.5, f"after {seconds:.2f} s"


@behaviour("outlives redis")
def test_redis_may_be_down_at_the_start(start_redis, one):
    """It starts, and says so in one line; when redis comes, it works. Hosts of the config are served all the while."""
    port = free_port()
    proxy = start_redis(port, {"config.test": one}, tls=True)
    assert ask(proxy, "config.test").site == "one"
    check_turned_away(proxy)
    check_turned_away(proxy)
    lines = lines_about_redis(proxy)
    assert len(lines) == 1 and f"{HOST}:{port}" in lines[0] and "refused" in lines[0], lines
    check_quiet(proxy)
    with RedisServer(port=port) as redis:
        redis.set_backends("a.test", one)
        wait_until(lambda: "Connected" in proxy.errors(), "it has connected", COMES_BACK)
        assert ask(proxy, "a.test").site == "one"
    assert "Connected" in lines_about_redis(proxy)[1]


@behaviour("outlives redis")
def test_without_redis_an_unknown_name_is_a_503(start_redis, one):
    """Not a 404: the host may be there. A host of the config is served."""
    proxy = start_redis(free_port(), {"config.test": one})
    answer = ask(proxy, "a.test")
    assert (answer.status, answer.fields["connection"]) == (503, "close"), answer
    assert ask(proxy, "config.test").site == "one"


@behaviour("outlives redis")
def test_a_name_is_answered_when_redis_comes_in_time(start_redis, one):
    """A client that has begun to wait while redis was down gets its answer, if it takes no more than a second."""
    with contextlib.ExitStack() as stack:
        port = free_port()
        proxy = start_redis(port)
        wait_until(lambda: "redis" in proxy.errors(), "it has noticed")
        with proxy.connect() as client:
            client.send(request_text("a.test"))
            fake = stack.enter_context(FakeRedis({"SRANDMEMBER": set_reply(member(one))}, port=port))
            answer = receive_answer(client)
        assert (answer.status, answer.site) in ((200, "one"), (503, None)), answer  # its pause may have grown too long
        wait_for(proxy, "a.test", "one")
        assert fake.asked("hostnames:a.test:backends") <= 2


@pytest.fixture
def traffic(start_redis, redis, one, two):
    """A function that starts a proxy, and Traffic to two hosts that are in redis; returns the two."""
    redis.set_backends("one.test", one)
    redis.set_backends("two.test", two)

    def start():
        proxy = start_redis(redis, tls=True)
        return proxy, Traffic(functools.partial(ask, proxy), ["one.test", "two.test", "one.test"])

    return start


@behaviour("outlives redis")
def test_redis_is_killed_and_started_anew_under_traffic(traffic, redis, one, two):
    """Not one request fails; the new redis has other data, and they are used."""
    proxy, requests = traffic()
    with requests:
        redis.set_backends("one.test", two)
        redis.client.save()  # what it finds when it is restarted
        redis.set_backends("one.test", one)
        requests.go_on()
        wait_for(proxy, "one.test", "one")
        redis.kill()
        requests.go_on(200)
        check_turned_away(proxy)
        assert ask(proxy, "one.test").site == "one"
        redis.start()
        wait_for(proxy, "one.test", "two")
        requests.go_on()
    requests.check()
    lines = lines_about_redis(proxy)
    assert 2 <= len(lines) <= 3 and "Connected to redis" in lines[-1], lines  # it is lost, and then not there
    redis.set_backends("two.test", one)
    wait_for(proxy, "two.test", "one")


@behaviour("outlives redis")
def test_redis_is_stopped_and_continued_under_traffic(traffic, redis, one, two):
    """It says nothing and takes nothing; a change that was made last before that is known as soon as it goes on."""
    proxy, requests = traffic()
    with requests:
        with redis.stopped():
            requests.go_on(200)
            check_turned_away(proxy)
        redis.set_backends("one.test", two)
        wait_for(proxy, "one.test", "two")
        assert ask(proxy, "unknown.test").status == 404
    requests.check()
    assert lines_about_redis(proxy) == []


@behaviour("outlives redis")
def test_a_redis_that_stays_silent_is_given_up(traffic, redis, one, two):
    """After some ten seconds; what has changed meanwhile is known when it is back."""
    proxy, requests = traffic()
    with requests, redis.stopped():
        wait_until(lambda: "no answer" in proxy.errors(), "the proxy has given redis up", LONG_PATIENCE)
        requests.go_on()
        assert {answer.site for answer in (ask(proxy, "one.test"), ask(proxy, "two.test"))} == {"one", "two"}
    requests.check()
    redis.set_backends("one.test", two)
    wait_for(proxy, "one.test", "two")


@behaviour("outlives redis")
def test_redis_pauses_under_traffic(traffic, redis, one, two):
    """CLIENT PAUSE: a short pause is a wait, a long one a 503 for names that are not known."""
    proxy, requests = traffic()
    redis.set_backends("late.test", one)
    with requests:
        redis.client.client_pause(200)
        assert ask(proxy, "late.test").site == "one"
        redis.client.client_pause(1500)
        check_turned_away(proxy)
        requests.go_on()
        wait_for(proxy, "one.test", "one")
        redis.set_backends("one.test", two)
        wait_for(proxy, "one.test", "two")
    requests.check()


@behaviour("outlives redis")
def test_its_connection_is_closed_again_and_again_under_traffic(traffic, redis, one, two):
    """CLIENT KILL: it connects again each time, and knows of changes that were made in between."""
    proxy, requests = traffic()
    with requests:
        for site in (two, one, two, one):
            redis.client.client_kill_filter(_type="normal", skipme=True)
            redis.set_backends("one.test", site)
            wait_for(proxy, "one.test", site.name)
        redis.wait_for_proxies()
        requests.go_on()
    requests.check()
    assert "it has ended the connection" in proxy.errors()


@behaviour("outlives redis")
def test_no_descriptor_is_lost_with_the_connection(traffic, redis):
    """Each time that the connection is closed, and while there is no redis to connect to."""
    proxy, _ = traffic()
    before = proxy.open_files()
    for number in range(3):
        redis.client.client_kill_filter(_type="normal", skipme=True)
        wait_until(lambda n=number: proxy.errors().count("Connected to redis") == n + 1, "it is back", COMES_BACK)
    redis.wait_for_proxies()
    assert proxy.open_files() == before
    redis.kill()
    wait_until(lambda: "refused" in proxy.errors(), "it has tried again", COMES_BACK)
    time.sleep(0.3)
    assert proxy.open_files() <= before


# --- a redis that won't have us ----------------------------------------------------------------------


def check_complaint(proxy, *words):
    """Raise AssertionError unless it logs just one line, with these words in it, however often it tries."""
    wait_until(lambda: lines_about_redis(proxy), "a line in the log")
    time.sleep(0.8)  # 0.1, 0.2 and 0.4 s: the first pauses
    lines = lines_about_redis(proxy)
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0], f"{word!r} is missing in {lines[0]!r}"
    proxy.check_unharmed()


@behaviour("outlives redis")
@pytest.mark.parametrize("password", [None, "wrong"])
def test_without_the_right_password_one_line_says_so(start_redis, one, password):
    """The hosts of the config are served; the password is not in the log."""
    with RedisServer("--requirepass", "right") as redis:
        proxy = start_redis(redis.port, {"config.test": one}, {"password": password} if password else {})
        check_complaint(proxy, "NOAUTH" if password is None else "WRONGPASS", f"{HOST}:{redis.port}")
        assert password is None or password not in proxy.errors().replace("WRONGPASS", "")
        assert ".." not in proxy.errors(), "redis's own message ends with a full stop, or not"
        assert ask(proxy, "config.test").site == "one"
        assert ask(proxy, "a.test").status == 503


@behaviour("outlives redis")
@pytest.mark.parametrize("password", ["right", "with a \r\n$3\r\n in it, and ü"])
def test_with_the_right_password_it_works(start_redis, one, password):
    """Whatever is in it."""
    with RedisServer("--requirepass", password) as redis:
        redis.set_backends("a.test", one)
        text = '"' + "".join(f"\\{byte}" if byte < 32 else chr(byte) for byte in password.encode("latin-1")) + '"'
        text = text.encode().decode()
        proxy = start_redis(redis.port, more=f"redis.password = {text}")
        wait_for(proxy, "a.test", "one")


@behaviour("outlives redis")
def test_it_works_as_an_acl_user(start_redis, redis, one):
    """One that may do just what the README lists; with another password, one line says so."""
    commands = "-@all +hello +client|tracking +ping +select +srandmember +lrange +pttl".split()
    redis.client.acl_setuser("proxy", enabled=True, passwords=["+secret"], keys=["*"], commands=commands)
    redis.set_backends("a.test", one)
    proxy = start_redis(redis, None, {"user": "proxy", "password": "secret"})
    assert ask(proxy, "a.test").site == "one", proxy.errors()
    assert proxy.errors() == ""
    wrong = start_redis(redis.port, {"config.test": one}, {"user": "proxy", "password": "wrong"})
    check_complaint(wrong, "WRONGPASS", f"{HOST}:{redis.port}")


@behaviour("outlives redis")
def test_redis_may_be_at_a_unix_socket(start_redis, one, tmp_path):
    """Its path stands in for address and port: also in the log, and while there is no redis yet."""
    path = tmp_path / "redis.sock"
    proxy = start_redis(0, {"config.test": one}, more=f'redis = {{path = "{path}"}}')
    wait_until(lambda: lines_about_redis(proxy), "a line in the log")
    (line,) = lines_about_redis(proxy)
    assert f"No connection to redis at {path}: No such file or directory" in line, line
    with RedisServer("--unixsocket", str(path)) as redis:
        redis.set_backends("a.test", one)
        wait_for(proxy, "a.test", "one")
        redis.set_backends("a.test")
        wait_until(lambda: ask(proxy, "a.test").status == 404, "a change takes effect")


@behaviour("outlives redis")
def test_a_redis_before_6_is_named_in_one_line(start_redis, one):
    """It knows neither HELLO nor the RESP3 that comes with it."""
    replies = {"HELLO": b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"}
    replies["CLIENT"] = b"-ERR Unknown subcommand or wrong number of arguments for 'TRACKING'\r\n"
    with FakeRedis(replies) as fake:
        proxy = start_redis(fake, {"config.test": one})
        check_complaint(proxy, "older than redis 6")
        assert ask(proxy, "config.test").site == "one"
        assert ask(proxy, "a.test").status == 503


class Talker(Backend):
    """Says always the same, whenever a client connects, or says something."""

    def __init__(self, text, **options):
        """The text is bytes; None: end the connection."""
        self.text = text
        super().__init__(**options)

    def serve(self, connection):
        """Speak."""
        while self.text is not None and self.receive(connection):
            self.send(connection, self.text)


NONSENSE = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "zeros": bytes(1000),
    "random bytes": bytes(range(256)) * 10,
    "the end": None,
    "unasked replies": b"+OK\r\n" * 100,
    "a half of a reply": b"$100\r\nabc",
    "a push of nothing": b">0\r\n",
    "a push of another kind": b">2\r\n$7\r\nmessage\r\n$1\r\na\r\n",
    "a push without keys": b">1\r\n$10\r\ninvalidate\r\n",
    "a push of a number": b">2\r\n$10\r\ninvalidate\r\n:7\r\n",
    "a push of numbers": b">2\r\n$10\r\ninvalidate\r\n*2\r\n:7\r\n_\r\n",
    "a push of lists": b">2\r\n*0\r\n*1\r\n*0\r\n",
    "a map by lists": b"%1\r\n*0\r\n*0\r\n",
    "a deep list": b"*1\r\n" * 1000 + b":1\r\n",
    "a big number": b"$99999999999999999999\r\n",
}


@behaviour("outlives redis")
@pytest.mark.parametrize("after_greeting", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("kind", NONSENSE)
def test_a_redis_that_speaks_nonsense_does_no_harm(start_redis, one, kind, after_greeting):
    """It says so, tries again, and goes on. Known hosts are served; when redis is itself again, so are the others."""
    text = NONSENSE[kind]
    port = free_port()
    if after_greeting:
        peer = FakeRedis({"SRANDMEMBER": text}, port=port)
    else:
        peer = Talker(text, port=port)
    with peer:
        proxy = start_redis(port, {"config.test": one})
        wait_until(lambda: peer.connections, "it has connected")
        answer = ask(proxy, "a.test")
        assert answer.status in (404, 503), answer
        assert ask(proxy, "config.test").site == "one"
        proxy.check_unharmed()
        # Each attempt is a connection, and two lines at most; the pauses between them grow, to 0.8 s with the fifth.
        assert len(peer.connections) < 8
        assert len(lines_about_redis(proxy)) <= 2 * len(peer.connections) + 2, lines_about_redis(proxy)
    with FakeRedis({"SRANDMEMBER": set_reply(member(one))}, port=port):
        wait_for(proxy, "a.test", "one")
    proxy.check_unharmed()


ODD_REPLIES = [b":1\r\n", b"_\r\n", b"$-1\r\n", b"*-1\r\n", b"+OK\r\n", b"#t\r\n", b",1.5\r\n", b"$3\r\nabc\r\n"]
ODD_REPLIES += [b"*2\r\n:1\r\n:2\r\n", b"*2\r\n*0\r\n*0\r\n", b"*2\r\n$-1\r\n_\r\n", b"%1\r\n+a\r\n+b\r\n"]
ODD_REPLIES += [b"*2\r\n-ERR no\r\n-ERR no\r\n"]


@behaviour("outlives redis")
@pytest.mark.parametrize("question", ["SRANDMEMBER", "LRANGE"])
def test_a_reply_of_an_odd_kind_does_no_harm(start_redis, one, question):
    """A number, a text, a list of lists in place of a set: no backends, or no answer. Other hosts are served on."""
    with FakeRedis() as fake:
        proxy = start_redis(fake)
        for number, reply in enumerate(ODD_REPLIES):
            key = f"hostnames:h{number}.test:backends" if question == "SRANDMEMBER" else f"frontend:h{number}.test"
            fake.replies |= {
                f"{question} {key}": reply,
                f"SRANDMEMBER hostnames:good{number}.test:backends": set_reply(member(one)),
            }
            assert ask(proxy, f"h{number}.test").status in (404, 503), reply
            assert ask(proxy, f"good{number}.test").site == "one", reply
        assert 1 <= len(lines_about_redis(proxy)) <= len(ODD_REPLIES), lines_about_redis(proxy)
        proxy.check_unharmed()


@behaviour("outlives redis")
@pytest.mark.parametrize("error", ["LOADING Redis is loading the dataset in memory", "BUSY Redis is busy", "NOPERM no"])
def test_an_error_that_is_not_about_the_key_is_no_answer(start_redis, one, error):
    """A redis that still loads its data, or is busy with a script: what was known still holds; else it is a 503."""
    with FakeRedis({"SRANDMEMBER hostnames:a.test:backends": set_reply(member(one))}) as fake:
        proxy = start_redis(fake)
        assert ask(proxy, "a.test").site == "one"
        good = fake.replies.copy()
        fake.replies.update(
            dict.fromkeys(["SRANDMEMBER", "SRANDMEMBER hostnames:a.test:backends", "LRANGE"], f"-{error}\r\n".encode())
        )
        fake.push(invalidation())
        for _ in range(3):
            assert ask(proxy, "b.test").status == 503
            assert ask(proxy, "a.test").site == "one"
        assert 1 <= len(lines_about_redis(proxy)) <= 4, lines_about_redis(proxy)
        assert any(error in line for line in lines_about_redis(proxy))
        del fake.replies["SRANDMEMBER"], fake.replies["LRANGE"]
        fake.replies.update(good)
        wait_until(lambda: ask(proxy, "b.test").status == 404, "redis's answers count again")
        assert ask(proxy, "a.test").site == "one"


@behaviour("outlives redis")
def test_a_greeting_that_is_never_answered_is_given_up(start_redis, one):
    """After two seconds; then it connects again."""
    with FakeRedis({"HELLO": None}) as fake:
        proxy = start_redis(fake, {"config.test": one})
        wait_until(lambda: len(fake.connections) > 1, "it has connected again", LONG_PATIENCE)
        assert ask(proxy, "config.test").site == "one"
        fake.replies["HELLO"] = b"%0\r\n"
        fake.replies["SRANDMEMBER"] = set_reply(member(one))
        wait_for(proxy, "a.test", "one")


class CutsOff(FakeRedis):
    """A redis that ends each connection: after the greeting, or when told to; it notes when each one began."""

    def __init__(self, replies=None, at_once=False, **options):
        """Say these replies; `ends` says whether connections end right after the greeting."""
        self.began = []  # seconds
        self.at_once = at_once
        super().__init__({"CLIENT": self.greeted, **(replies or {})}, **options)

    def greeted(self, words):
        """Answer the last command of the greeting; end the connection, perhaps."""
        self.began.append(time.monotonic())
        if self.at_once:
            self.send(self.connections[-1], OK)
            raise ConnectionError
        return OK

    def cut(self):
        """End the connection that was made last; return the seconds until the proxy is back."""
        number, start = len(self.began), time.monotonic()
        self.connections[-1].shutdown(socket.SHUT_RDWR)
        wait_until(lambda: len(self.began) > number, "the proxy has connected again", COMES_BACK)
        return self.began[-1] - start


@behaviour("outlives redis")
def test_after_a_connection_that_worked_the_pauses_are_short_again(start_redis, one):
    """Cut off seven times, each time after an answer: the proxy is back just as soon as after the first time."""
    with CutsOff({"SRANDMEMBER": set_reply(member(one))}) as fake:
        proxy = start_redis(fake)
        pauses = []
        for number in range(7):
            wait_for(proxy, f"h{number}.test", "one")
            pauses.append(fake.cut())
        told = ", ".join(f"{pause:.1f}" for pause in pauses)
        assert min(pauses[-3:]) < 0.6, f"pauses of {told} s. Hint: what makes a pause short again?"
        proxy.check_unharmed()


@behaviour("outlives redis")
def test_a_connection_that_stays_quiet_counts_as_one_that_worked(start_redis, one):
    """No client asks anything; a ping shows that redis is there."""
    with CutsOff() as fake:
        proxy = start_redis(fake, {"config.test": one})
        pauses = []
        for _ in range(5):
            pings = sum(command == ["PING"] for command in fake.commands)
            wait_until(lambda n=pings: sum(c == ["PING"] for c in fake.commands) > n, "a ping", LONG_PATIENCE)
            pauses.append(fake.cut())
        assert min(pauses[-2:]) < 0.6, f"pauses of {', '.join(f'{pause:.1f}' for pause in pauses)} s"
        assert ask(proxy, "config.test").site == "one"


@behaviour("outlives redis")
def test_a_redis_that_greets_and_ends_the_connection_is_not_hammered(start_redis, one):
    """The pauses grow, from 0.1 s on: in two seconds it is tried five times, or six."""
    with CutsOff(at_once=True) as fake:
        proxy = start_redis(fake, {"config.test": one})
        wait_until(lambda: fake.began, "it has connected")
        time.sleep(2)
        assert len(fake.began) <= 6, f"connected {len(fake.began)} times in 2 s"
        assert ask(proxy, "config.test").site == "one"


@behaviour("outlives redis")
def test_a_reply_that_has_come_in_time_is_used_late(start_redis, redis, one):
    """It came while the proxy had no processor; when it goes on, the second that redis has is over."""
    redis.set_backends("a.test", one)
    proxy = start_redis(redis)
    with proxy.connect() as client:
        with contextlib.ExitStack() as stack:
            with redis.stopped():
                client.send(request_text("a.test"))
                wait_until(lambda: has_unread_bytes(redis.port), "redis has been asked")
                stack.enter_context(proxy.stopped())
            time.sleep(1.3)
        answer = receive_answer(client)
    assert (answer.status, answer.site) == (200, "one"), answer
