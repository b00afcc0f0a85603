"""Hosts that are in redis: looked up once, kept, and asked for again when redis says that they have changed.

The redis is a real one, except where a test needs one that does the wrong thing at the right moment. What a test does
to the sets takes effect when redis's word of it arrives, so a test waits for the effect, up to IN_FORCE.
"""

import contextlib
import pathlib
import random
import re
import ssl
import time

import pytest
import trustme

from support.harness import Command, Proxy, check_one_line, run_briefly
from support.peers import (
    HOST,
    LONG_PATIENCE,
    Backend,
    Client,
    FakeRedis,
    Site,
    ask,
    connect_by_tls,
    free_port,
    hello_bytes,
    invalidation,
    member,
    pattern,
    receive_answer,
    request_text,
    set_reply,
    wait_until,
    wait_until_still,
)
from support.peers.fake_redis import NOTHING

behaviour = pytest.mark.behaviour
pytestmark = pytest.mark.needs("redis-server")

IN_FORCE = 2  # seconds that a change may take on a busy machine; it takes milliseconds
NO_NETWORK = "127.255.255.255"  # a broadcast address, to which no connection can be made, whoever listens where


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


def wait_for(proxy, host, expected):
    """Wait until a host answers with this site, or, if it is a number, with this status; return the seconds."""
    start = time.monotonic()

    def is_there():
        answer = ask(proxy, host)
        return (answer.status if isinstance(expected, int) else answer.site) == expected

    wait_until(is_there, f"{host} answers with {expected}", IN_FORCE)
    return time.monotonic() - start


def alert_of(client):
    """Return what a fatal alert that ends a connection says, or None when something else comes."""
    data = client.receive_all()
    return data[6] if len(data) == 7 and data[:6] == b"\x15\x03\x01\x00\x02\x02" or data[:1] == b"\x15" else None


# --- which backends a host has -----------------------------------------------------------------------


@behaviour("follows redis")
def test_a_host_that_stands_in_no_table_is_looked_up(start_redis, redis, one, two):
    """Its name is compared as ever: without case, port or a last dot."""
    redis.set_backends("one.test", one)
    redis.set_backends("two.test", two)
    proxy = start_redis(redis, tracks=False)
    for host, site in {"one.test": "one", "TWO.Test": "two", "one.test:8000": "one", "two.test.": "two"}.items():
        assert ask(proxy, host).site == site, host
    answer = ask(proxy, "three.test")
    assert (answer.status, answer.fields["connection"]) == (404, "close")
    assert proxy.errors() == ""


@behaviour("follows redis")
def test_a_host_of_the_config_comes_first(start_redis, redis, one, two):
    """redis is not even asked; nor for names that a star stands for."""
    for host in ("one.test", "x.star.test"):
        redis.set_backends(host, two)
    proxy = start_redis(redis, {"one.test": one, "*.star.test": one}, tracks=False)
    assert [ask(proxy, host).site for host in ("one.test", "x.star.test")] == ["one", "one"]
    assert redis.calls() == 0
    redis.set_backends("star.test", two)
    assert ask(proxy, "star.test").site == "two"


@behaviour("follows redis")
def test_backends_of_a_set_share_the_clients(start_redis, redis, one, two):
    """In turn, as where nothing else is said."""
    redis.set_backends("both.test", one, two)
    proxy = start_redis(redis)
    sites = "".join(ask(proxy, "both.test").site[0] for _ in range(6))
    assert sites in ("ototot", "tototo")


@behaviour("follows redis")
@pytest.mark.parametrize("tls", [False, True], ids=["HTTP", "TLS"])
def test_without_a_port_a_member_is_at_the_usual_one(start_redis, redis, tls):
    """80, or 443 for TLS. There is no connecting to this address: the log says what was tried."""
    redis.set_backends("usual.test", NO_NETWORK)
    redis.set_backends("other.test", f"{NO_NETWORK}:8080")
    redis.set_backends("six.test", "::1", "[::2]", "[::3]:99")
    proxy = start_redis(redis, tls=tls, connectTimeout=500)
    for host in ("usual.test", "other.test", "six.test"):
        if tls:
            with Client(proxy.tls_port) as client:
                client.send(hello_bytes(host))
                assert client.receive_all()[:1] == b"\x15", host
        else:
            assert ask(proxy, host).status in (502, 504), host
    port = 443 if tls else 80
    assert f"Couldn't connect to backend {NO_NETWORK}:{port}: " in proxy.errors()
    assert f"Couldn't connect to backend {NO_NETWORK}:8080: " in proxy.errors()
    assert "Couldn't connect to backend ::3:99: " in proxy.errors()
    assert f"Couldn't connect to backend ::2:{port}: " in proxy.errors()


@behaviour("follows redis")
def test_a_name_without_a_set_gets_the_default_one(start_redis, redis, one, two):
    """hostnames:httpDefault:backends, before the config's default; no client gets it by asking for httpDefault."""
    proxy = start_redis(redis, {"default": two}, tracks=False)
    assert ask(proxy, "a.test").site == "two"
    redis.set_backends("httpDefault", one)
    wait_for(proxy, "a.test", "one")
    assert ask(proxy, None, version="1.0").site == "one"
    redis.set_backends("b.test", two)
    wait_for(proxy, "b.test", "two")
    redis.set_backends("httpdefault", two)
    wait_for(proxy, "httpDefault", "two")
    assert ask(proxy, "c.test").site == "one"
    redis.set_backends("httpDefault")
    wait_for(proxy, "a.test", "two")


@behaviour("follows redis")
def test_tls_has_a_default_of_its_own(start_redis, redis, one):
    """hostnames:httpsDefault:backends. A name without backends gets an alert: unrecognized_name."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("one.test", "other.test").configure_cert(context)
    with Site("secure", context=context) as site:
        redis.set_backends("one.test", site)
        redis.set_backends("httpDefault", one)
        proxy = start_redis(redis, tls=True)
        with connect_by_tls(proxy.tls_port, "one.test", authority) as client:
            client.send(request_text("one.test"))
            assert receive_answer(client).site == "secure"
        for name in ("other.test", None):
            with Client(proxy.tls_port) as client:
                client.send(hello_bytes(name))
                assert client.receive_all()[-1] == 112
        redis.set_backends("httpsDefault", site)

        def is_served():
            with contextlib.suppress(AssertionError), connect_by_tls(proxy.tls_port, "other.test", authority) as client:
                client.send(request_text("other.test"))
                return receive_answer(client).site == "secure"

        wait_until(is_served, "the default set is used", IN_FORCE)
        assert ask(proxy, "other.test").site == "one"


@behaviour("follows redis")
def test_hipaches_lists_are_understood(start_redis, redis, one, two):
    """frontend:NAME, whose first entry is a name and no backend; the others are URLs. A set comes before a list."""
    redis.client.rpush("frontend:a.test", "a", f"http://{HOST}:{one.port}")
    redis.client.rpush("frontend:b.test", "b", f"http://{HOST}:{one.port}/", member(two))
    redis.client.rpush("frontend:c.test", "c")
    redis.client.rpush("frontend:d.test", member(one))
    redis.client.rpush("frontend:e.test", "e", member(one))
    redis.set_backends("e.test", two)
    proxy = start_redis(redis, tracks=False)
    assert ask(proxy, "a.test").site == "one"
    assert {ask(proxy, "b.test").site for _ in range(2)} == {"one", "two"}
    assert [ask(proxy, host).status for host in ("c.test", "d.test")] == [404, 404]
    assert ask(proxy, "e.test").site == "two"
    redis.client.rpush("frontend:c.test", f"http://{HOST}:{two.port}")
    wait_for(proxy, "c.test", "two")
    redis.client.delete("frontend:a.test")
    wait_for(proxy, "a.test", 404)
    assert proxy.errors() == ""


RUBBISH = [
    "localhost:80",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "127.0.0.1:http",
    "127.0.0.1:",
    "127.0.0.1:80 ",
    " 127.0.0.1",
    "127.0.0.1:+80",
    "127.0.0.1:1_000",
    "127.0.0.1:٣",
    "127.0.0.1:80:80",
    "127.1",
    "1",
    "",
    ":80",
    "http://127.0.0.1:80",
    "[127.0.0.1:80",
    "[::1",
    "::g",
    "fe80::1%no-such-device",
    "two\nlines",
    "\0",
    b"\xff\xfe",
    "x" * 100_000,
]


@behaviour("follows redis")
def test_rubbish_in_a_set_is_one_log_line_and_the_good_members_are_used(start_redis, redis, one):
    """The line names the key; there is not one for each request, and not one for each change."""
    proxy = start_redis(redis)
    for number, rubbish in enumerate(RUBBISH):
        host = f"h{number}.test"
        redis.client.sadd(f"hostnames:{host}:backends", rubbish, member(one))
        for _ in range(2):
            assert ask(proxy, host).site == "one", f"{rubbish!r:.80} is in its set"
    for number in range(len(RUBBISH)):
        redis.client.sadd(f"hostnames:h{number}.test:backends", "rubbish")
        ask(proxy, f"h{number}.test")
    lines = proxy.errors().splitlines()
    for number, rubbish in enumerate(RUBBISH):
        about = [line for line in lines if f"hostnames:h{number}.test:backends" in line]
        assert len(about) == 1, f"{rubbish!r:.80}: {about}"
    assert len(lines) == len(RUBBISH) and max(map(len, lines)) < 400, "\n".join(lines)
    redis.client.sadd("hostnames:none.test:backends", "rubbish")
    assert ask(proxy, "none.test").status == 404
    proxy.check_unharmed()


@behaviour("follows redis")
def test_a_key_of_the_wrong_type_is_no_set_and_one_log_line(start_redis, redis, one):
    """The line names the key. A list of hipache's may take its place."""
    redis.client.set("hostnames:text.test:backends", member(one))
    redis.client.rpush("hostnames:list.test:backends", member(one))
    redis.client.sadd("frontend:set.test", "set", member(one))
    redis.client.hset("hostnames:hash.test:backends", "a", member(one))
    redis.client.rpush("frontend:hash.test", "hash", member(one))
    proxy = start_redis(redis, tracks=False)
    for _ in range(3):
        assert [ask(proxy, f"{kind}.test").status for kind in ("text", "list", "set")] == [404, 404, 404]
        assert ask(proxy, "hash.test").site == "one"
    lines = proxy.errors().splitlines()
    keys = ["hostnames:text.test:backends", "hostnames:list.test:backends", "frontend:set.test"]
    for key in [*keys, "hostnames:hash.test:backends"]:
        assert sum(key in line for line in lines) == 1, f"{key}: {lines}"
    assert len(lines) == 4
    redis.set_backends("text.test", one)
    wait_for(proxy, "text.test", "one")


# --- changes -----------------------------------------------------------------------------------------


@behaviour("follows redis")
def test_a_change_is_in_force_within_100_ms(start_redis, redis, one, two):
    """A median over twenty changes, each until the first answer from the other backend."""
    redis.set_backends("moving.test", one)
    proxy = start_redis(redis)
    assert ask(proxy, "moving.test").site == "one"
    times = []
    for number in range(20):
        site = (two, one)[number % 2]
        redis.set_backends("moving.test", site)
        times.append(wait_for(proxy, "moving.test", site.name))
    times.sort()
    print(f"a change takes effect after {1000 * times[10]:.1f} ms (median), {1000 * times[-1]:.1f} ms at most")
    assert times[10] < 0.1


@behaviour("follows redis")
def test_an_open_connection_stays_where_it_is(start_redis, redis, one, two):
    """Its backend has left the set: in the middle of an answer, and between two requests."""
    redis.set_backends("moving.test", one)
    proxy = start_redis(redis)
    with proxy.connect() as quiet, proxy.connect() as busy:
        for client in (quiet, busy):
            client.send(request_text("moving.test"))
            assert receive_answer(client).site == "one"
        busy.send(request_text("moving.test", "/slow"))
        redis.set_backends("moving.test", two)
        wait_for(proxy, "moving.test", "two")
        for client in (quiet, busy):
            client.send(request_text("moving.test"))
        one.go.set()
        assert [receive_answer(client).site for client in (quiet, busy, busy)] == ["one", "one", "one"]
    assert ask(proxy, "moving.test").site == "two"


@behaviour("follows redis")
def test_a_set_that_is_removed_is_a_404(start_redis, redis, one, two):
    """Until it is there again. One that is renamed, moved to another database, or runs out of time is gone, too."""
    proxy = start_redis(redis)
    key, client = "hostnames:a.test:backends", redis.client
    for remove in (
        lambda: client.delete(key),
        lambda: client.srem(key, member(one)),
        lambda: client.rename(key, "hostnames:b.test:backends"),
        lambda: client.pexpire(key, 50),
        lambda: client.move(key, 7),
        lambda: client.flushdb(),
        lambda: client.flushall(),
        lambda: client.flushall(asynchronous=True),
    ):
        redis.set_backends("a.test", one)
        wait_for(proxy, "a.test", "one")
        remove()
        wait_for(proxy, "a.test", 404)
    assert proxy.errors() == ""


@behaviour("follows redis")
def test_flushall_is_a_change_of_everything(start_redis, redis, one, two):
    """In one step with new data, as a deployment would do it."""
    hosts = [f"h{number}.test" for number in range(20)]
    for host in hosts:
        redis.set_backends(host, one)
    proxy = start_redis(redis)
    assert {ask(proxy, host).site for host in hosts} == {"one"}
    with redis.client.pipeline(transaction=True) as steps:
        steps.flushall()
        for host in hosts:
            steps.sadd(f"hostnames:{host}:backends", member(two))
        steps.execute()
    wait_for(proxy, hosts[0], "two")
    assert {ask(proxy, host).site for host in hosts} == {"two"}


@behaviour("follows redis")
def test_two_proxies_share_one_redis(start_redis, redis, one, two):
    """A change reaches both."""
    redis.set_backends("a.test", one)
    proxies = [start_redis(redis) for _ in range(2)]
    for site in (one, two, one):
        redis.set_backends("a.test", site)
        for proxy in proxies:
            wait_for(proxy, "a.test", site.name)


@behaviour("follows redis")
@pytest.mark.parametrize("moment", ["before the first reply", "between the replies", "all keys"])
def test_an_answer_that_a_change_has_overtaken_is_used_and_not_kept(start_redis, one, two, moment):
    """It was true when it was asked for; the next client asks again."""
    sites = iter([one, two, two])

    def answer(command):
        reply = set_reply(member(next(sites)))
        if fake.asked("frontend:a.test"):  # the second time all is well
            return reply
        change = invalidation() if moment == "all keys" else invalidation("a.test")
        return reply + change if moment == "between the replies" else change + reply

    with FakeRedis({"SRANDMEMBER hostnames:a.test:backends": answer}) as fake:
        proxy = start_redis(fake)
        assert [ask(proxy, "a.test").site for _ in range(4)] == ["one", "two", "two", "two"]
        assert fake.asked("hostnames:a.test:backends") == 2


@behaviour("follows redis")
def test_a_change_while_an_answer_is_under_way_does_not_get_lost(start_redis, one, two):
    """The fake redis has answered, then says that the key has changed, all in one piece: the answer is old."""
    replies = iter([set_reply(member(one)), set_reply(member(two))])
    with FakeRedis(
        {
            "SRANDMEMBER hostnames:a.test:backends": lambda command: next(replies),
            "LRANGE frontend:a.test": lambda command: NOTHING + invalidation("a.test"),
        }
    ) as fake:
        proxy = start_redis(fake)
        assert [ask(proxy, "a.test").site for _ in range(2)] == ["one", "two"]


@behaviour("follows redis")
@pytest.mark.parametrize("kind", ["set", "list"])
def test_a_route_lives_no_longer_than_its_key(start_redis, one, two, kind):
    """An expired key is news only when redis finds out, maybe much later. This redis says nothing, and is asked."""
    key = {"set": "hostnames:a.test:backends", "list": "frontend:a.test"}[kind]
    question = f"{'SRANDMEMBER' if kind == 'set' else 'LRANGE'} {key}"
    name = [] if kind == "set" else ["a.test"]
    with FakeRedis({question: set_reply(*name, member(one)), f"PTTL {key}": b":1000\r\n"}) as fake:
        proxy = start_redis(fake)
        start = time.monotonic()
        answers = [ask(proxy, "a.test").site for _ in range(5)]
        if time.monotonic() - start < 1:
            assert answers == 5 * ["one"] and fake.asked(key) == 1, "it is kept until then"
        fake.replies |= {question: set_reply(*name, member(two)), f"PTTL {key}": b":-1\r\n"}
        wait_until(lambda: ask(proxy, "a.test").site == "two", "the key's time is over", LONG_PATIENCE)
        asked = fake.asked(key)
        time.sleep(1.1)
        assert ask(proxy, "a.test").site == "two" and fake.asked(key) == asked, "this one has no end"


@behaviour("follows redis")
def test_a_route_whose_time_is_over_is_used_while_redis_is_away(start_redis, one):
    """Better an old answer than none: as after any other change that could not be heard about."""
    replies = {"SRANDMEMBER hostnames:a.test:backends": set_reply(member(one)), "PTTL": b":100\r\n"}
    with FakeRedis(replies) as fake:
        proxy = start_redis(fake)
        assert ask(proxy, "a.test").site == "one"
    wait_until(lambda: "redis" in proxy.errors(), "it has noticed")
    time.sleep(0.2)
    assert ask(proxy, "a.test").site == "one"


@behaviour("follows redis")
def test_expiry_in_a_real_redis_ends_a_route(start_redis, redis, one):
    """PEXPIRE, as a site that renews its own entry uses it."""
    redis.set_backends("a.test", one)
    proxy = start_redis(redis)
    assert ask(proxy, "a.test").site == "one"
    redis.client.pexpire("hostnames:a.test:backends", 300)
    wait_until(lambda: ask(proxy, "a.test").status == 404, "the key's time is over", LONG_PATIENCE)


@behaviour("follows redis")
def test_after_swapdb_a_cut_connection_brings_the_new_routes(start_redis, redis, one, two):
    """redis tells no client about SWAPDB; README.md has the command that helps."""
    redis.set_backends("a.test", one)
    redis.make_client(db=3).sadd("hostnames:a.test:backends", member(two))
    proxy = start_redis(redis)
    assert ask(proxy, "a.test").site == "one"
    redis.client.swapdb(0, 3)
    redis.client.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: ask(proxy, "a.test").site == "two", "the proxy has asked again", LONG_PATIENCE)


# --- what a look-up costs ----------------------------------------------------------------------------


def ask_together(proxy, host, count):
    """Have so many clients ask for a host at the same moment; return their Answers."""
    with contextlib.ExitStack() as stack:
        with proxy.stopped():
            clients = [stack.enter_context(proxy.connect(timeout=LONG_PATIENCE)) for _ in range(count)]
            for client in clients:
                client.send(request_text(host))
        return [receive_answer(client) for client in clients]


@behaviour("follows redis")
def test_a_hundred_clients_of_one_unknown_name_are_one_look_up(start_redis, redis, one):
    """They come at once, while redis takes 0.2 s to answer. After that, no client makes another."""
    redis.set_backends("a.test", one)
    proxy = start_redis(redis)
    redis.client.client_pause(200)
    assert {answer.site for answer in ask_together(proxy, "a.test", 100)} == {"one"}
    assert redis.calls() == 1
    assert {answer.site for answer in ask_together(proxy, "a.test", 100)} == {"one"}
    with proxy.connect() as client:
        client.send(request_text("a.test") * 100)
        for _ in range(100):
            assert receive_answer(client).site == "one"
    assert redis.calls() == 1


@behaviour("follows redis")
def test_a_name_that_nobody_has_is_asked_for_once_too(start_redis, redis, one):
    """And the default with it. A name that is changed elsewhere costs nothing either."""
    redis.set_backends("a.test", one)
    proxy = start_redis(redis)
    assert ask(proxy, "a.test").site == "one"
    calls = redis.calls()
    assert {answer.status for answer in ask_together(proxy, "nobody.test", 50)} == {404}
    assert redis.calls() == calls + 2
    for number in range(10):
        redis.set_backends(f"other{number}.test", one)
    redis.set_backends("b.test", one)
    wait_for(proxy, "b.test", "one")
    calls = redis.calls()
    assert [ask(proxy, host).status for host in ("nobody.test", "a.test", "b.test")] == [404, 200, 200]
    assert redis.calls() == calls


@behaviour("follows redis")
def test_ten_thousand_hosts_are_as_good_as_one(start_redis, redis, one, two):
    """A look at a few at random."""
    with redis.client.pipeline(transaction=False) as steps:
        for number in range(10_000):
            steps.sadd(f"hostnames:h{number}.test:backends", member((one, two)[number % 2]))
        steps.execute()
    proxy = start_redis(redis)
    for number in random.Random(7).sample(range(10_000), 50):
        assert ask(proxy, f"h{number}.test").site == ("one", "two")[number % 2]
    redis.set_backends("h77.test", one, two)
    redis.set_backends("h77.test", one)
    wait_for(proxy, "h77.test", "one")


class Terse(Backend):
    """Answers every request with nothing at all, as fast as it can."""

    def serve(self, connection):
        """Count the ends of heads."""
        rest = b""
        while data := self.receive(connection):
            data = rest + data
            self.send(connection, data.count(b"\r\n\r\n") * b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            rest = data[-3:] if not data.endswith(b"\r\n\r\n") else b""


FLOOD, PIPELINE = 20_000, 100  # names, and how many requests are sent at once
EMPTY_ANSWER = len(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def flood(proxy, names):
    """Ask for all these names on one connection."""
    with proxy.connect(timeout=LONG_PATIENCE) as client:
        for start in range(0, len(names), PIPELINE):
            some = names[start : start + PIPELINE]
            client.send(b"".join(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % name.encode() for name in some))
            client.receive_exactly(EMPTY_ANSWER * len(some))


@behaviour("follows redis")
def test_a_flood_of_invented_hosts_fills_no_memory_and_displaces_nobody(start_redis, redis, one):
    """20,000 names of 250 letters: the oldest are forgotten, hosts that are known are not, also when redis goes."""
    label = ".".join(["x" * 58] * 4)
    with Terse() as backend:
        redis.set_backends("httpDefault", backend)
        redis.set_backends("known.test", one)
        proxy = start_redis(redis)
        assert ask(proxy, "known.test").site == "one"
        names = [f"{number:05}{label}" for number in range(FLOOD)]
        flood(proxy, names[: FLOOD // 2])
        before = proxy.memory()
        flood(proxy, names[FLOOD // 2 :])
        grown = proxy.memory() - before
        print(f"10,000 names more: {grown:,} bytes more")
        assert grown < 3_000_000
        calls = redis.calls()
        flood(proxy, names[-5000:])
        assert redis.calls() == calls, "the newest names are known"
        flood(proxy, names[:100])
        assert redis.calls() == calls + 100, "the oldest names have been forgotten"
        assert ask(proxy, "known.test").site == "one"
        redis.kill()
        assert ask(proxy, "known.test").site == "one"


@behaviour("follows redis")
def test_only_names_of_hosts_get_into_redis(start_redis, redis, one):
    """Whatever is in the Host header; redis's own MONITOR is the witness."""
    proxy = start_redis(redis)
    monitored = redis.make_client()
    with monitored.monitor() as monitor:
        for host in (
            "a*b",
            "a b",
            "../a",
            "a\tb",
            "a:b",
            "a::",
            "hostnames:a",
            "a\\",
            'a"b',
            "é.test",
            "x" * 254,
            "a..b",
        ):
            ask(proxy, host)
            ask(proxy, "a.test", f"http://{host}/") if " " not in host and host.isascii() else None
        ask(proxy, "*.test")
        ask(proxy, "ONE.test.:80")
        with Client(proxy.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n")
            receive_answer(client)
        redis.client.echo("the end")
        commands = []
        while "ECHO" not in (command := monitor.next_command()["command"]):
            commands.append(command)
    allowed = {f"hostnames:{name}:backends" for name in ("one.test", "a.test", "httpDefault")}
    allowed |= {f"frontend:{name}" for name in ("one.test", "a.test", "httpDefault")}
    keys = {command.split()[1] for command in commands if command.split()[0] in ("SRANDMEMBER", "LRANGE")}
    assert keys <= allowed, keys - allowed
    assert {"hostnames:one.test:backends", "frontend:one.test"} <= keys


# --- waiting clients ---------------------------------------------------------------------------------


@behaviour("follows redis")
def test_all_that_a_waiting_client_sends_arrives(start_redis, redis, one):
    """Its body, its next request, its end; the look-up takes 0.2 s."""
    redis.set_backends("a.test", one)
    proxy = start_redis(redis)
    body = pattern(0, 1_000_000)
    redis.client.client_pause(200)
    with proxy.connect() as client:
        client.send(request_text("a.test", "/sum", method="POST", body=body) + request_text("a.test", "/next"))
        client.half_close()
        assert b'"length": 1000000' in receive_answer(client).body
        assert receive_answer(client).site == "one"
        client.expect_end()
    assert one.seen[0].body == body and one.seen[1].line == b"GET /next HTTP/1.1"
    assert redis.calls() == 1


@behaviour("follows redis")
def test_while_some_wait_for_redis_the_others_are_served(start_redis, one):
    """Five clients of five unknown names wait for a redis that is silent; those of the config's host need not."""
    with FakeRedis({"SRANDMEMBER": None}) as fake, contextlib.ExitStack() as stack:
        proxy = start_redis(fake, {"config.test": one})
        assert ask(proxy, "config.test").site == "one"
        for number in range(5):
            stack.enter_context(proxy.connect()).send(request_text(f"h{number}.test"))
        wait_until(lambda: any(command[0] == "SRANDMEMBER" for command in fake.commands), "redis has been asked")
        start = time.monotonic()
        assert ask(proxy, "config.test").site == "one"
        seconds = time.monotonic() - start
    assert seconds < 2.5, f"it took {seconds:.1f} s. Hint: one after the other, the five would wait for 5 s"


@behaviour("follows redis")
def test_clients_that_leave_while_they_wait_are_no_trouble(start_redis, redis, one):
    """By an end of file, a reset; their descriptors are closed, and redis's answer is not lost on the others."""
    redis.set_backends("a.test", one)
    proxy = start_redis(redis, {"b.test": one}, tls=True)
    for port, hello in ((proxy.port, request_text("b.test")), (proxy.tls_port, hello_bytes("b.test"))):
        with Client(port) as client:
            client.send(hello)
    wait_until(lambda: len(one.connections) == 2, "both ports have served a client")
    before = wait_until_still(proxy.open_files, still=0.2)
    redis.client.client_pause(300)
    with proxy.connect() as patient:
        patient.send(request_text("a.test"))
        for port, hello in ((proxy.port, request_text("a.test")), (proxy.tls_port, hello_bytes("a.test"))):
            for way in ("close", "reset", "half_close"):
                client = Client(port)
                client.send(hello)
                getattr(client, way)()
                client.close()
        assert receive_answer(patient).site == "one"
    wait_until(lambda: proxy.open_files() <= before, "their descriptors are closed", LONG_PATIENCE)
    assert ask(proxy, "a.test").site == "one"
    proxy.check_unharmed()


# --- what part 5 knows of backends holds for those in redis ------------------------------------------


@behaviour("follows redis")
def test_the_configs_balance_holds_for_sets(start_redis, redis, one, two):
    """A name of one, or a function, which gets the backends in the order of their addresses and ports."""
    redis.set_backends("a.test", one, two)
    last = max((one, two), key=lambda site: str(site.port)).name
    more = "function balance(client, backends) return #backends end"
    proxy = start_redis(redis, more=more)
    assert [ask(proxy, "a.test").site for _ in range(4)] == 4 * [last], proxy.errors()
    proxy = start_redis(redis, balance="ip_hash")
    assert len({ask(proxy, "a.test").site for _ in range(6)}) == 1


@behaviour("follows redis")
def test_a_backend_that_is_left_out_stays_so_through_changes_of_its_set(start_redis, redis, one, two):
    """The marks go with the address; a set that lost it and gets it back has forgotten them."""
    down = free_port()
    redis.set_backends("a.test", down, one)
    proxy = start_redis(redis, failTimeout=60_000)
    assert {ask(proxy, "a.test").site for _ in range(4)} == {"one"}
    assert proxy.errors().count("Couldn't connect to backend") == 1
    with Site("back", port=down) as back:
        redis.set_backends("a.test", back, two)
        wait_for(proxy, "a.test", "two")
        assert {ask(proxy, "a.test").site for _ in range(6)} == {"two"}, "it is left out for 60 s"
        redis.set_backends("a.test", back, one, two)
        wait_for(proxy, "a.test", "one")
        assert {ask(proxy, "a.test").site for _ in range(6)} == {"one", "two"}
        redis.set_backends("a.test", two)
        wait_until(lambda: {ask(proxy, "a.test").site for _ in range(3)} == {"two"}, "one is out of the set")
        redis.set_backends("a.test", back)
        wait_for(proxy, "a.test", "back")


@behaviour("follows redis")
def test_a_refusing_backend_of_a_set_costs_no_client(start_redis, redis, one):
    """Its clients go to another one; when there is none, it is a 502."""
    redis.set_backends("a.test", free_port(), one, free_port())
    redis.set_backends("down.test", free_port())
    proxy = start_redis(redis)
    assert [ask(proxy, "a.test").site for _ in range(6)] == 6 * ["one"]
    assert ask(proxy, "down.test").status == 502


# --- settings ----------------------------------------------------------------------------------------


@behaviour("follows redis")
def test_the_config_names_the_database(start_redis, redis, one, two):
    """As redis-cli -n 3 does."""
    redis.set_backends("a.test", one)
    redis.make_client(db=3).sadd("hostnames:a.test:backends", member(two))
    proxy = start_redis(redis, None, {"database": 3}, tracks=False)
    assert ask(proxy, "a.test").site == "two"
    redis.make_client(db=3).delete("hostnames:a.test:backends")
    wait_for(proxy, "a.test", 404)


@behaviour("follows redis")
@pytest.mark.parametrize(
    "config, words",
    [
        (
            "redis = 'localhost'",
            ["redis", 'must be a table: {address, port, path, user, password, database}, not "localhost".'],
        ),
        ("redis = {}", ["redis.address must be a name or an address (or set redis.path), and it is missing."]),
        ("redis = {address = true}", ["redis.address must be a name or an address (or set redis.path), not true."]),
        (
            "redis = {address = 'no-such-name.invalid'}",
            [
                "Couldn't find backend no-such-name.invalid:6379",
                ". Check the name and the port.",  # why, is for the resolver to say
            ],
        ),
        (
            "redis = {address = '127.0.0.1', port = 'x'}",
            ['redis.port must be a port, a number from 1 to 65535, not "x".'],
        ),
        (
            "redis = {address = '127.0.0.1', port = {}}",
            ["redis.port must be a port, a number from 1 to 65535, not a table."],
        ),
        (
            "redis = {address = '127.0.0.1', port = 65536}",
            ["redis.port must be a port, a number from 1 to 65535, not 65536."],
        ),
        (
            "redis = {address = '127.0.0.1', password = true}",
            ["redis.password must be a string that is not empty, not true."],
        ),
        (
            "redis = {address = '127.0.0.1', password = ''}",
            ['redis.password must be a string that is not empty, not "".'],
        ),
        (
            "redis = {address = '127.0.0.1', database = 'x'}",
            ['redis.database must be a whole number from 0 to 1000000, not "x".'],
        ),
        (
            "redis = {address = '127.0.0.1', database = -1}",
            ["redis.database must be a whole number from 0 to 1000000, not -1."],
        ),
        (
            "redis = {address = '127.0.0.1', database = 1.5}",
            ["redis.database must be a whole number from 0 to 1000000, not 1.5."],
        ),
        ("redis = {adress = '127.0.0.1'}", ["unknown setting redis.adress: did you mean address?"]),
        ("redis = {address = '127.0.0.1', passwrod = 'x'}", ["unknown setting redis.passwrod: did you mean password?"]),
        (
            "redis = {address = '127.0.0.1'} backends = {{address = '127.0.0.1', port = '9'}}",
            ["set either hosts or redis, or backends, not both."],
        ),
        (
            "redis = {address = '127.0.0.1'} balance = 'mine'",
            ["balance must be one of round_robin, least_conn, random, ip_hash, or a function", 'not "mine".'],
        ),
        ("redis = {address = '127.0.0.1'} maxFails = -1", ["maxFails must be a whole number from 0 to 1000, not -1."]),
        (
            "redis = {address = '127.0.0.1'} failTimeout = 0",
            ["failTimeout must be a whole number from 1 to 3600000, not 0."],
        ),
        (
            "redis = {address = '127.0.0.1'} connectTimeout = 'x'",
            ['connectTimeout must be a whole number from 1 to 3600000, not "x".'],
        ),
        (
            "redsi = {address = '127.0.0.1'} backendAddress = '127.0.0.1' backendPort = '9'",
            ["unknown setting redsi: did you mean redis?"],
        ),
        (
            "x = 1",
            [
                "backendAddress must be a string. Set it in ",
                ', like this: backendAddress = "...", or set backends, hosts or redis',
            ],
        ),
        ('redis = {path = "/x", address = "127.0.0.1"}', ["set either redis.path, or redis.address, not both."]),
        ('redis = {path = "/x", port = "127.0.0.1"}', ["set either redis.path, or redis.port, not both."]),
        ('redis = {path = ""}', ['redis.path must be the path of a Unix socket, at most 107 bytes, not "".']),
        (
            'redis = {path = ("x"):rep(108)}',
            [
                "redis.path must be the path of a Unix socket, at most 107 bytes",
                'not "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...".',
            ],
        ),
        ('redis = {path = "/x", user = "u"}', ["redis.user needs redis.password."]),
        (
            'redis = {address = "127.0.0.1", port = "70000"}',
            ['redis.port must be a port, a number from 1 to 65535, not "70000".'],
        ),
    ],
)
def test_it_explains_a_wrong_setting_of_redis(command, tmp_path, config, words):
    """The line gives the setting's full name, and says what it may be."""
    text = f'listenPort = "{{port}}"\n{config}\n'
    run = run_briefly(Command(command.words, text).fill_in(free_port(), HOST, free_port(), tmp_path))
    check_one_line(run, *words)


@behaviour("follows redis")
def test_the_parts_own_config_works_with_redis(command, strict, redis, one, two):
    """As it is beside the program, with other ports; so does what is only a comment in it."""
    if not strict:
        return
    text = pathlib.Path(command.program[-1]).with_name("config.lua").read_text()
    text = text.replace("8000", "{port}").replace("6379", str(redis.port)).replace("8009", str(two.port))
    redis.set_backends("site1.localhost", one)
    with Proxy(Command(command.words, text), 0) as proxy:
        assert ask(proxy, "site1.localhost").site == "one"
        assert ask(proxy, "admin.localhost").status == 404
    more = re.sub(r"(?m)^-- (hosts = |function |  (local|return) |end$)", r"\1", text)
    assert more.count("\nhosts = ") == more.count("\nfunction route") == 1
    redis.client.set("alias:www.localhost", "site1.localhost")
    with Proxy(Command(command.words, more), 0) as proxy:
        for host, site in {"site1.localhost": "one", "admin.localhost": "two", "www.localhost": "one"}.items():
            assert ask(proxy, host).site == site
        assert proxy.errors() == ""


@behaviour("follows redis")
def test_a_member_that_is_the_proxy_itself_is_left_out(start_redis, redis, one):
    """Anybody's slip in redis; the other members serve. One log line says why, and it takes effect when put right."""
    proxy = start_redis(redis, tls=True, tracks=False)
    redis.client.sadd("hostnames:a.test:backends", f"{HOST}:{proxy.port}", f"127.9.9.9:{proxy.tls_port}", member(one))
    redis.client.sadd("hostnames:b.test:backends", f"{HOST}:{proxy.port}")
    for _ in range(6):
        assert ask(proxy, "a.test").site == "one"
        assert ask(proxy, "b.test").status == 404
    lines = proxy.errors().splitlines()
    for words in (("a.test", str(proxy.port)), ("a.test", str(proxy.tls_port)), ("b.test", str(proxy.port))):
        about = [line for line in lines if all(word in line for word in words) and "itself" in line]
        assert len(about) == 1, proxy.errors()
    redis.set_backends("b.test", one)
    wait_until(lambda: ask(proxy, "b.test").site == "one", "b.test is served", IN_FORCE)
    proxy.check_unharmed()


@behaviour("follows redis")
def test_what_a_shortage_of_our_own_has_spoilt_is_not_kept(start_redis, redis, one):
    """No descriptor is free while a host is looked up: that says nothing about the host, then or later."""
    redis.set_backends("a.test", one)
    redis.set_backends("b.test", one)
    proxy = start_redis(redis)
    assert ask(proxy, "b.test").site == "one"
    with proxy.connect() as client:
        wait_until_still(proxy.open_files, still=0.2)
        with proxy.without_descriptors():
            client.send(request_text("a.test"))
            assert receive_answer(client).site == "one", proxy.errors()
    assert ask(proxy, "a.test").site == "one"
    assert "a.test" not in proxy.errors(), proxy.errors()
