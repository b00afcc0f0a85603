"""What once ended the proxy, or held something for ever: sets that change at the worst moment, and mad replies."""

import contextlib
import time

import pytest

from support.harness import is_connecting_to
from support.peers import (
    LONG_PATIENCE,
    PATIENCE,
    FakeRedis,
    FullBackend,
    SilentBackend,
    Site,
    ask,
    free_port,
    invalidation,
    member,
    receive_answer,
    request_text,
    set_reply,
    wait_until,
)

behaviour = pytest.mark.behaviour
pytestmark = pytest.mark.needs("redis-server")


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


def change(proxy, redis, name, *backends, witness):
    """Make these the backends of a host, and wait until the proxy knows; no client asks for that host meanwhile.

    The last news comes last: it is about another host, whose one backend is the witness.
    """
    redis.set_backends(name, *backends)
    redis.set_backends(f"after.{name}", witness)
    wait_until(lambda: ask(proxy, f"after.{name}").site == witness.name, "the change is known")


@behaviour("follows redis")
def test_a_backend_that_hangs_is_taken_out_while_clients_try_it(start_redis, redis, one):
    """These clients go on to the other one; least_conn, which counts them, is not confused."""
    with FullBackend() as hanging:
        hanging.fill()
        redis.set_backends("a.test", hanging, one)
        proxy = start_redis(redis, balance="least_conn", connectTimeout=700)
        clients = [proxy.connect() for _ in range(4)]  # two of them get the backend that hangs
        for client in clients:
            client.send(request_text("a.test"))
        wait_until(lambda: len(one.seen) == 2, "the other one has got two clients")
        change(proxy, redis, "a.test", one, witness=one)
        assert ask(proxy, "a.test").site == "one", "the new set is used, and its balance made"
        assert [receive_answer(client).site for client in clients] == 4 * ["one"]
        for client in clients:
            assert ask(proxy, "a.test").site == "one"
            client.close()
        assert [ask(proxy, "a.test").site for _ in range(4)] == 4 * ["one"]
        proxy.check_unharmed()


@behaviour("follows redis")
def test_a_client_may_take_its_time_for_each_backend_though_the_set_changes_meanwhile(start_redis, redis, one):
    """Its first backend refuses after a second, the other one accepts after another; each may take 1.8 s.

    A SYN that is not answered is sent once more after a second, and that is when the answers come.
    """
    with FullBackend() as first, FullBackend() as second:
        first.fill()
        second.fill()
        redis.set_backends("a.test", first, second)
        prefer = f"for _, wanted in ipairs({{{one.port}, {first.port}}}) do for number, backend in ipairs(backends) do"
        prefer += " if tonumber(backend.port) == wanted then return number end end end"
        more = f"function balance(client, backends) {prefer} end"
        proxy = start_redis(redis, connectTimeout=1800, more=more)
        with proxy.connect() as client:
            client.send(request_text("a.test"))
            wait_until(lambda: is_connecting_to(first.port), "it waits for the first one")
            first.close()
            wait_until(lambda: is_connecting_to(second.port), "it waits for the second one")
            change(proxy, redis, "a.test", first, second, one, witness=one)
            assert ask(proxy, "a.test").site == "one", "the new set is used"
            for filler in second.fillers:
                filler.close()
            second.listener.settimeout(PATIENCE)
            answered = False
            while not answered:  # whoever fills the queue comes first
                try:
                    connection, _ = second.listener.accept()
                except TimeoutError:
                    raise AssertionError("the client's connect to the second one was given up too early") from None
                with connection:
                    if answered := connection.recv(1000):
                        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Site: second\r\nContent-Length: 0\r\n\r\n")
            assert receive_answer(client).site == "second"
        proxy.check_unharmed()


@behaviour("follows redis")
@pytest.mark.parametrize("changes", [1, 3])
def test_a_client_goes_on_to_the_backends_that_have_replaced_its_own(start_redis, redis, one, changes):
    """Its backend hangs, and the operator puts another one in its place: it is served by that, as the others are."""
    with FullBackend() as hanging:
        hanging.fill()
        redis.set_backends("a.test", hanging)
        proxy = start_redis(redis, connectTimeout=2500)
        with proxy.connect(timeout=LONG_PATIENCE) as client:
            client.send(request_text("a.test"))
            wait_until(lambda: is_connecting_to(hanging.port), "it waits for its backend")
            for number in range(changes):
                down = [f"127.1.2.{number}:{free_port()}"]  # another address each time, and one that stays
                change(proxy, redis, "a.test", *down, one, witness=one)
                assert ask(proxy, "a.test").site == "one", "the new set is used"
            answer = receive_answer(client)
        assert (answer.status, answer.site) == (200, "one"), "Hint: which set are the next attempts made on?"
        proxy.check_unharmed()


@behaviour("follows redis")
def test_no_backend_is_tried_twice_though_its_set_is_replaced_and_put_back(start_redis, redis, one):
    """Its backend hangs, is taken out, and comes back: for this client, it has had its chance."""
    with FullBackend() as hanging:
        hanging.fill()
        redis.set_backends("a.test", hanging)
        proxy = start_redis(redis, connectTimeout=2500)
        with proxy.connect(timeout=LONG_PATIENCE) as client:
            start = time.monotonic()
            client.send(request_text("a.test"))
            wait_until(lambda: is_connecting_to(hanging.port), "it waits for its backend")
            change(proxy, redis, "a.test", one, witness=one)
            assert ask(proxy, "a.test").site == "one", "the new set is used"
            change(proxy, redis, "a.test", hanging, witness=one)
            with proxy.connect(timeout=LONG_PATIENCE) as other:
                other.send(request_text("a.test"))  # so that the change is known
                assert receive_answer(client).status == 504
        assert time.monotonic() - start < 5, "it has waited twice for the same one"
        proxy.check_unharmed()


@behaviour("follows redis")
@pytest.mark.parametrize("balance", ["round_robin", "least_conn", "a function"])
def test_turns_go_on_though_the_set_changes_with_each_client(start_redis, redis, one, two, balance):
    """If the order began again at each change, the same backend, or the newest one, would get every client."""
    more, settings = "function balance() return nil end", {}
    if balance != "a function":
        more, settings = "", {"balance": balance}
    proxy = start_redis(redis, more=more, **settings)
    with Site("three") as three, Site("four") as four:
        # The proxy has the members of a set in this order: let the new one always come first.
        *new, other, last = sorted((one, two, three, four), key=lambda site: str(site.port))
        sites = []
        for number in range(12):
            change(proxy, redis, "a.test", new[number % 2], other, last, witness=one)
            sites.append(ask(proxy, "a.test").site)
    shares = [sites.count(site.name) for site in (other, last)]
    assert 2 <= min(shares) <= max(shares) <= 8, (
        f"12 clients: {' '.join(sites)}. Hint: what begins again with a new set?"
    )


@behaviour("follows redis")
def test_a_change_of_a_thousand_backends_holds_nobody_up(start_redis, redis, one):
    """By the clients' addresses: one of them goes and another comes, and all takes effect in a moment."""
    with Site("thousand", host="0.0.0.0") as site:
        members = [f"127.2.{number >> 8}.{number & 255}:{site.port}" for number in range(1001)]
        redis.set_backends("a.test", *members[:-1])
        proxy = start_redis(redis, balance="ip_hash")
        assert ask(proxy, "a.test").site == "thousand"
        before = proxy.cpu_seconds()
        for number in range(10):
            redis.client.srem("hostnames:a.test:backends", members[number - 1])
            redis.client.sadd("hostnames:a.test:backends", members[number])
            change(proxy, redis, "b.test", one, witness=one)
            assert ask(proxy, "a.test").site == "thousand"
        used = (proxy.cpu_seconds() - before) / 10
    print(f"a change took {1000 * used:.0f} ms of processor time")
    assert used < 0.1, f"a change took {used:.2f} s. Hint: what of the ring is the same as before?"


@behaviour("follows redis")
def test_a_client_of_the_set_before_does_not_see_to_the_backends_of_the_new_one(start_redis, redis, one):
    """A backend is left out, by both sets; the client of the old one notices first that it may be tried again."""
    down = free_port()
    with FullBackend() as hanging, contextlib.ExitStack() as stack:
        hanging.fill()
        redis.set_backends("a.test", hanging, down, one)
        proxy = start_redis(redis, connectTimeout=1500, failTimeout=700)
        clients = [stack.enter_context(proxy.connect()) for _ in range(3)]  # each gets another backend
        for client in clients:
            client.send(request_text("a.test"))
        wait_until(lambda: "left out" in proxy.errors(), "it has noticed that a backend is down")
        change(proxy, redis, "a.test", down, one, witness=one)
        assert ask(proxy, "a.test").site == "one", "the new set is used"
        stack.enter_context(Site("back", port=down))
        assert {receive_answer(client).site for client in clients} <= {"one", "back"}  # one of them waits for 1.5 s
        wait_until(lambda: ask(proxy, "a.test").site == "back", "the one that was left out gets clients again")
        proxy.check_unharmed()


@behaviour("follows redis")
def test_a_new_set_needs_no_room_in_luas_memory(start_redis, redis, one):
    """The config's function has filled it, when a host comes; round robin serves that, and one line says why."""
    redis.set_backends("a.test", one)
    redis.set_backends("b.test", one)
    more = """
        local chain, count = {}, 0
        local function grow(size)
            count = count + 1
            chain = {chain, string.rep(string.format("%8d", count), size / 8)}
        end
        function balance(client, backends)
            for exponent = 20, 3, -1 do
                while pcall(grow, 2^exponent) do end
            end
        end
    """
    proxy = start_redis(redis, more=more)
    for host in ("a.test", "b.test", "b.test"):
        assert ask(proxy, host).site == "one"
    (line,) = proxy.errors().splitlines()
    assert "balance" in line and "memory" in line
    proxy.check_unharmed()


HUGE = """
    local rubbish = string.rep("x", 92)
    for number = 1, 200000 do redis.call(ARGV[1], KEYS[1], rubbish .. string.format("%08d", number)) end
"""


@behaviour("follows redis")
def test_a_huge_set_is_no_trouble_to_the_others(start_redis, redis, one):
    """200,000 members, 20 MB, and a list of as many: it is ignored, one line says so, and redis stays connected."""
    redis.set_backends("a.test", one)
    redis.client.eval(HUGE, 1, "hostnames:set.test:backends", "sadd")
    redis.client.eval(HUGE, 1, "frontend:list.test", "rpush")
    proxy = start_redis(redis)
    for _ in range(3):
        assert [ask(proxy, host).status for host in ("set.test", "list.test", "a.test")] == [404, 404, 200]
    lines = proxy.errors().splitlines()
    assert len(lines) == 2, lines
    assert "hostnames:set.test:backends" in lines[0] and "frontend:list.test" in lines[1]


@behaviour("outlives redis")
def test_what_had_too_long_a_reply_is_not_asked_once_more(start_redis, one):
    """17 MB for an address: the connection is given up for that. The next one is for the others."""
    huge = set_reply(17_000_000 * "x")
    with FakeRedis(
        {
            "SRANDMEMBER hostnames:a.test:backends": set_reply(member(one)),
            "SRANDMEMBER hostnames:huge.test:backends": huge,
        }
    ) as fake:
        proxy = start_redis(fake)
        wait_until(lambda: ask(proxy, "a.test").site == "one", "it has connected")
        assert ask(proxy, "huge.test").status == 503
        wait_until(lambda: "Connected to redis" in proxy.errors(), "it has connected again")
        assert ask(proxy, "a.test").site == "one"
        assert fake.asked("hostnames:huge.test:backends") == 1
        assert len(proxy.errors().splitlines()) == 2


@behaviour("follows redis")
def test_a_thousand_backends_that_are_down_are_soon_tried(start_redis, redis, one):
    """Each once, for each client; and the others are served meanwhile."""
    port = free_port()
    redis.set_backends("a.test", one)
    redis.set_backends("down.test", *(f"127.1.{number >> 8}.{number & 255}:{port}" for number in range(1000)))
    proxy = start_redis(redis)
    before = proxy.cpu_seconds()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect(timeout=LONG_PATIENCE)) for _ in range(3)]
        for client in clients:
            client.send(request_text("down.test"))
        assert ask(proxy, "a.test").site == "one"
        assert [receive_answer(client).status for client in clients] == [502, 502, 502]
    used = proxy.cpu_seconds() - before
    print(f"3,000 attempts took {used:.2f} s of processor time")
    assert used < 5


@behaviour("follows redis")
def test_a_function_that_changes_a_global_changes_no_setting(start_redis, redis, one):
    """A `local` that is missing makes nonsense of the setting of the same name, when the next set is made."""
    redis.set_backends("a.test", one)
    redis.set_backends("b.test", one)
    more = """
        function balance(client, backends)
            balance, maxFails, failTimeout, connectTimeout = backends[1], client, false, "x"
            return balance
        end
    """
    proxy = start_redis(redis, more=more)
    assert [ask(proxy, host).site for host in ("a.test", "a.test", "b.test", "b.test")] == 4 * ["one"]
    assert proxy.errors() == ""


@behaviour("follows redis")
def test_a_balance_function_that_fails_is_one_line_for_all_the_sets(start_redis, redis, one, two):
    """Not one for each, nor for each change of one."""
    for host in ("a.test", "b.test", "c.test"):
        redis.set_backends(host, one)
    proxy = start_redis(redis, more="function balance(client, backends) error('no idea') end")
    assert [ask(proxy, host).site for host in ("a.test", "b.test", "c.test")] == 3 * ["one"]
    for backends in ([two], [one, two]):
        change(proxy, redis, "a.test", *backends, witness=one)
        assert ask(proxy, "a.test").site in [backend.name for backend in backends]
    (line,) = proxy.errors().splitlines()
    assert "no idea" in line


@behaviour("follows redis")
def test_a_client_that_leaves_while_its_host_is_looked_up_is_noticed(start_redis, redis, one):
    """Its end of file comes before anybody knows that its request is a handshake for a backend that says nothing."""
    handshake = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    with SilentBackend() as silent:
        redis.set_backends("ws.test", silent)
        proxy = start_redis(redis, {"a.test": one})
        redis.client.client_pause(300)
        with proxy.connect() as client:
            client.send(request_text("ws.test", headers=handshake))
        wait_until(lambda: silent.received, "the handshake has arrived")
        wait_until(lambda: silent.ends, "the backend hears of the end")
        proxy.check_unharmed()


@behaviour("follows redis")
def test_after_an_answer_that_was_overtaken_the_balance_still_works(start_redis, one):
    """A second backend comes and goes again within one look-up."""
    both = set_reply(member(one), f"127.0.0.2:{free_port()}")
    just_one = set_reply(member(one))
    replies = iter([just_one, invalidation("a.test") + both, just_one])
    with FakeRedis({"SRANDMEMBER hostnames:a.test:backends": lambda words: next(replies, just_one)}) as fake:
        proxy = start_redis(fake, balance="least_conn")
        assert ask(proxy, "a.test").site == "one"
        fake.push(invalidation("a.test"))
        wait_until(lambda: ask(proxy, "a.test").site and fake.asked("hostnames:a.test:backends") > 1, "it asks again")
        assert [ask(proxy, "a.test").site for _ in range(6)] == 6 * ["one"]
        proxy.check_unharmed()


ODD_NUMBERS = {
    "NaN": b"%1\r\n,nan\r\n:1\r\n",
    "infinity": b",inf\r\n",
    "10 to the 300": b"*1\r\n,1e300\r\n",
}


@behaviour("Lua asks redis")
@pytest.mark.parametrize("kind", ODD_NUMBERS)
def test_a_number_that_lua_cannot_have_is_an_error(start_redis, one, kind):
    """NaN can't be a key in Lua, and it would end the whole program; nor can a number be that has more than 64 bits."""
    more = 'function route(request) local _, why = redis.get("x"); return why == "an odd reply" and "one.test" end'
    with FakeRedis({"get x": ODD_NUMBERS[kind]}) as fake:
        proxy = start_redis(fake, {"one.test": one}, more=more)
        wait_until(lambda: ask(proxy, "any.test").site == "one", "route is told")
        proxy.check_unharmed()


@behaviour("Lua asks redis")
def test_a_message_that_is_too_long_for_lua_is_cut(start_redis, one):
    """15 MB of it: the function gets the beginning."""
    more = """
        function route(request)
            local _, why = redis.get("x")
            if why and why:find("ERR no") and #why <= 1000 then return "one.test" end
        end
    """
    with FakeRedis({"get x": b"-ERR no%b\r\n" % (15_000_000 * b"!")}) as fake:
        proxy = start_redis(fake, {"one.test": one}, more=more)
        wait_until(lambda: ask(proxy, "any.test").site == "one", "route is told")
        proxy.check_unharmed()


@behaviour("Lua asks redis")
def test_what_route_has_made_goes_with_the_client_that_it_waits_for(start_redis, redis, one):
    """They leave while redis takes its time; what the function keeps for each, 2 MB, is Lua's again."""
    more = """
        local count = 0
        function route(request)
            count = count + 1
            local big = string.rep(string.format("%8d", count), 2^18)
            redis.get("x")
            return #big > 0 and "one.test"
        end
    """
    proxy = start_redis(redis, {"one.test": one}, more=more)
    for _ in range(8):
        redis.client.client_pause(150)
        for _ in range(6):
            client = proxy.connect()
            client.send(request_text("any.test"))
            client.reset()
        assert ask(proxy, "any.test").site == "one", proxy.errors()
    assert proxy.errors() == ""


@behaviour("Lua asks redis")
def test_what_the_config_has_done_to_the_table_redis_keeps_no_function_out(start_redis, redis, one):
    """Its own metatable, which objects to whatever is new."""
    redis.client.set("x", "one.test")
    more = """
        setmetatable(redis, {__newindex = function() error("no more settings") end})
        function route(request) return redis.get("x") end
    """
    proxy = start_redis(redis, {"one.test": one}, more=more)
    assert ask(proxy, "any.test").site == "one"
