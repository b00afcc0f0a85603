"""The config's Lua asks redis: redis.get(key) looks as if it waited for the answer, and holds up no client."""

import contextlib
import time

import pytest

from support.peers import (
    LONG_PATIENCE,
    Client,
    Site,
    ask,
    hello_bytes,
    receive_answer,
    request_text,
    wait_until,
    wait_until_still,
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


ALIAS = """
    function route(request)
      local name = redis.get("alias:" .. (request.host or "nobody"))
      return name or request.host
    end
"""


@behaviour("Lua asks redis")
def test_route_asks_redis_for_an_alias(start_redis, redis, one, two):
    """What is not there is nil. The name may be in the config or in redis; a change takes effect at once."""
    redis.set_backends("two.test", two)
    proxy = start_redis(redis, {"one.test": one}, more=ALIAS)
    assert ask(proxy, "one.test").site == "one"
    assert ask(proxy, "two.test").site == "two"
    assert ask(proxy, "a.test").status == 404
    for name, site in (("one.test", "one"), ("TWO.test:80", "two")):
        redis.client.set("alias:a.test", name)
        assert ask(proxy, "a.test").site == site
    redis.client.set("alias:a.test", "nobody.test")
    assert ask(proxy, "a.test").status == 404
    redis.client.set("alias:a.test", "a b")
    assert ask(proxy, "a.test").status == 404
    redis.client.set("alias:a.test", b"\xff\x80\xc3")
    assert ask(proxy, "a.test").status == 404
    assert proxy.errors() == ""
    redis.client.delete("alias:a.test")
    redis.client.set("alias:nobody", "two.test")
    assert ask(proxy, None, version="1.0").site == "two"
    proxy.check_unharmed()


@behaviour("Lua asks redis")
def test_route_asks_redis_on_tls_too(start_redis, redis):
    """An alias that leads nowhere is an alert: unrecognized_name; one that leads to a backend that is down, another."""
    redis.set_backends("down.test", "127.255.255.255:9")
    redis.client.set("alias:a.test", "down.test")
    proxy = start_redis(redis, more=ALIAS, tls=True)
    for name, alert in {"a.test": 80, "b.test": 112}.items():
        with Client(proxy.tls_port) as client:
            client.send(hello_bytes(name))
            assert client.receive_all()[-1] == alert, name


@behaviour("Lua asks redis")
def test_every_kind_of_reply_is_a_value_of_lua(start_redis, redis, one):
    """Texts, numbers, tables; nil and a message for an error."""
    client = redis.client
    client.set("text", b"a\xff\x00b")
    client.set("empty", "")
    client.hset("hash", mapping={"field": "value", "other": "2"})
    client.sadd("set", "a", "b")
    client.rpush("list", "x", "y", "z")
    more = """
        function route(request)
          local function same(what, found, expected)
            if found ~= expected then error(what .. ": " .. tostring(found)) end
          end
          same("get", redis.get("text"), "a\\255\\000b")
          same("get of nothing", redis.get("absent"), nil)
          same("an empty text", redis.get("empty"), "")
          same("exists", redis.exists("text"), 1)
          same("hget", redis.hget("hash", "field"), "value")
          same("hget of nothing", redis.hget("hash", "absent"), nil)
          same("hexists", redis.hexists("hash", "other"), 1)
          same("hgetall", redis.hgetall("hash").other, "2")
          local members = redis.smembers("set")
          table.sort(members)
          same("smembers", table.concat(members, " "), "a b")
          same("smembers of nothing", #redis.smembers("absent"), 0)
          same("sismember", redis.sismember("set", "a"), 1)
          same("scard", redis.scard("set"), 2)
          same("lrange", table.concat(redis.lrange("list", 0, -1), ""), "xyz")
          same("lindex", redis.lindex("list", 1), "y")
          same("llen", redis.llen("list"), 3)
          local value, problem = redis.get("list")
          same("get of a list", value, nil)
          if not problem:find("WRONGTYPE") then error("the message: " .. problem) end
          value, problem = redis.get()
          same("get of no key", value, nil)
          if not problem:find("wrong number") then error("the message: " .. problem) end
          return "one.test"
        end
    """
    proxy = start_redis(redis, {"one.test": one}, more=more)
    assert ask(proxy, "a.test").site == "one", proxy.errors()


@behaviour("Lua asks redis")
def test_a_key_is_bytes_and_so_is_a_value(start_redis, redis, one, two):
    """Every byte there is, from a client's header into a key, and from a value into the next key."""
    every = bytes(byte for byte in range(1, 256) if chr(byte) not in "\r\n")
    printable = bytes(byte for byte in every if byte > 32 and byte != 127)
    redis.client.set(b"by:" + printable, b"\0" + every)
    redis.client.hset(b"then", b"\0" + every, "two.test")
    more = """
        function route(request)
          local value = redis.get("by:" .. (request.headers["x-any"] or ""))
          return value and redis.hget("then", value)
        end
    """
    proxy = start_redis(redis, {"one.test": one, "two.test": two}, more=more)
    head = request_text("one.test", headers=["X-Any: ANY"])
    for value, site in ((printable, "two"), (b"\xff\xfe", "one"), (b"", "one")):
        with proxy.connect() as client:
            client.send((head if isinstance(head, bytes) else head.encode()).replace(b"ANY", value))
            answer = receive_answer(client)
            assert answer.site == site, f"sent X-Any: {value!r:.60}, got {answer}. The log: {proxy.errors()}"
    assert proxy.errors() == ""


@behaviour("Lua asks redis")
def test_a_route_may_ask_a_hundred_questions(start_redis, redis, one):
    """One after another; README.md says so."""
    redis.client.rpush("list", *range(99), "one.test")
    more = """
        function route(request)
          for number = 0, 98 do
            if redis.lindex("list", number) ~= tostring(number) then error(number) end
          end
          return redis.lindex("list", 99)
        end
    """
    proxy = start_redis(redis, {"one.test": one}, more=more)
    assert ask(proxy, "a.test").site == "one", proxy.errors()


@behaviour("Lua asks redis")
def test_a_reply_that_is_too_big_for_lua_is_an_error(start_redis, redis, one):
    """A megabyte is no route. Nothing is left of it, however often it is asked for."""
    redis.client.set("big", "x" * 1_000_000)
    redis.client.sadd("many", *range(20_000))
    more = """
        function route(request)
          for _, value in ipairs({"big", "many"}) do
            local reply, problem = (value == "big" and redis.get or redis.smembers)(value)
            if reply ~= nil or not problem then error(value) end
          end
          return "one.test"
        end
    """
    proxy = start_redis(redis, {"one.test": one}, more=more)
    for _ in range(10):
        assert ask(proxy, "a.test").site == "one", proxy.errors()
    before = proxy.memory()
    for _ in range(50):
        assert ask(proxy, "a.test").site == "one"
    assert proxy.memory() - before < 20_000_000


@behaviour("Lua asks redis")
def test_without_an_answer_route_goes_on_with_nil(start_redis, redis, one):
    """And a message, "no answer": after a second when redis is silent, at once when it is known to be away."""
    more = """
        function route(request)
          local name, problem = redis.get("alias")
          if problem == "no answer" then return "one.test" end
          return name
        end
    """
    proxy = start_redis(redis, {"one.test": one}, more=more)
    assert ask(proxy, "one.test").site == "one"
    with redis.stopped():
        start = time.monotonic()
        assert ask(proxy, "a.test").site == "one"
        assert 0.5 < time.monotonic() - start < 2.5
    redis.kill()
    wait_until(lambda: "redis" in proxy.errors(), "it has noticed")
    start = time.monotonic()
    for _ in range(5):
        assert ask(proxy, "a.test").site == "one"
    assert time.monotonic() - start < 2.5
    redis.start()
    redis.wait_for_proxies()
    wait_until(lambda: ask(proxy, "a.test").status == 404, "redis is asked again", LONG_PATIENCE)


@behaviour("Lua asks redis")
def test_with_redis_away_the_example_serves_the_requests_own_host(start_redis, redis, one, two):
    """Known from the config, or from redis while it was there."""
    redis.set_backends("two.test", two)
    proxy = start_redis(redis, {"one.test": one}, more=ALIAS)
    assert [ask(proxy, host).site for host in ("one.test", "two.test")] == ["one", "two"]
    redis.kill()
    wait_until(lambda: "redis" in proxy.errors(), "it has noticed")
    assert [ask(proxy, host).site for host in ("one.test", "two.test")] == ["one", "two"]
    assert ask(proxy, "three.test").status == 503


@behaviour("Lua asks redis")
def test_while_one_waits_the_others_are_served(start_redis, redis, one, two):
    """The first asks a redis that is silent; the others are served meanwhile, and it gets its answer in the end."""
    redis.client.set("alias", "two.test")
    more = 'function route(request) if request.target == "/ask" then return redis.get("alias") end end'
    proxy = start_redis(redis, {"one.test": one, "two.test": two}, more=more)
    with proxy.connect() as waiting:
        with redis.stopped():
            waiting.send(request_text("one.test", "/ask"))
            start = time.monotonic()
            for _ in range(20):
                assert ask(proxy, "one.test").site == "one"
            seconds = time.monotonic() - start
        answer = receive_answer(waiting)
        assert answer.site == ("two" if seconds < 0.9 else answer.site)
        if seconds < 0.5:
            assert answer.site == "two"
    assert seconds < 0.9, f"20 requests took {seconds:.2f} s: did they wait, too?"


@behaviour("Lua asks redis")
def test_everybody_gets_the_answer_to_their_own_question(start_redis, redis, one, two):
    """A hundred ask at once, each two questions; the second depends on the first answer."""
    for number in range(100):
        redis.client.set(f"alias:h{number}.test", f"step:{number}")
        redis.client.set(f"step:{number}", ("one.test", "two.test")[number % 3 == 0])
    more = 'function route(request) return redis.get(redis.get("alias:" .. request.host)) end'
    proxy = start_redis(redis, {"one.test": one, "two.test": two}, more=more)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect(timeout=LONG_PATIENCE)) for _ in range(100)]
        redis.client.client_pause(100)
        for number, client in enumerate(clients):
            client.send(request_text(f"h{number}.test"))
        for number, client in enumerate(clients):
            assert receive_answer(client).site == ("one", "two")[number % 3 == 0], number
    proxy.check_unharmed()


def leave(port, data, way):
    """Connect, send something, and go."""
    client = Client(port)
    client.send(data)
    getattr(client, way)()


@behaviour("Lua asks redis")
def test_clients_that_leave_while_route_waits_are_no_trouble(start_redis, redis, one):
    """The answers to their questions are dropped, and their descriptors closed."""
    redis.client.set("alias:a.test", "one.test")
    proxy = start_redis(redis, {"one.test": one}, more=ALIAS, tls=True)
    leave(proxy.tls_port, hello_bytes("a.test"), "close")
    assert ask(proxy, "a.test").site == "one"
    before = wait_until_still(proxy.open_files, still=0.2)
    redis.client.client_pause(200)
    for port, data in ((proxy.port, request_text("a.test")), (proxy.tls_port, hello_bytes("a.test"))):
        for way in ("close", "reset"):
            for _ in range(10):
                leave(port, data, way)
    assert ask(proxy, "a.test").site == "one"
    wait_until(lambda: proxy.open_files() <= before, "their descriptors are closed", LONG_PATIENCE)
    proxy.check_unharmed()


@behaviour("Lua asks redis")
def test_route_can_only_look_things_up(start_redis, redis, one):
    """There is no command that writes, waits or runs anything; a key is a key, whatever is in it."""
    redis.client.set("kept", "safe")
    more = """
        function route(request)
          for name in ("set del flushall eval keys subscribe blpop config client shutdown call do"):gmatch("%a+") do
            if redis[name] then error(name .. " is there") end
          end
          redis.get("a\\r\\n*1\\r\\n$8\\r\\nFLUSHALL\\r\\n")
          redis.get("a", "\\r\\nFLUSHALL\\r\\n")
          redis.get("a\\0b")
          return redis.get("kept") == "safe" and "one.test" or error("kept is gone")
        end
    """
    proxy = start_redis(redis, {"one.test": one}, more=more)
    assert ask(proxy, "a.test").site == "one", proxy.errors()
    assert redis.client.get("kept") == "safe"


@behaviour("Lua asks redis")
def test_with_redis_too_route_cannot_get_out_of_lua(start_redis, redis, one):
    """Nothing about redis.get or its answers leads to Python, nor to the coroutines that make it wait."""
    redis.client.hset("hash", "field", "value")
    ways = [
        "redis.get.__class__",
        "redis.get.__globals__",
        "redis.get.__self__",
        "redis.__class__",
        "getmetatable(redis)",
        "getmetatable(redis.hgetall('hash'))",
        "redis.hgetall('hash').__class__",
        "redis.get('absent').__class__",
        "redis.connection",
        "coroutine",
        "coroutine.yield",
        "python",
        "debug",
    ]
    tests = "\n".join(
        f"  works, found = pcall(function() return {way} end)\n"
        f"  if works and found ~= nil then error([[{way} is there]]) end"
        for way in ways
    )
    more = f"function route(request)\n  local works, found\n{tests}\n  return 'one.test'\nend"
    proxy = start_redis(redis, {"one.test": one}, more=more)
    assert ask(proxy, "a.test").site == "one", proxy.errors()


@behaviour("Lua asks redis")
@pytest.mark.parametrize(
    "body, complaint",
    [
        ("redis.get('a') error('no idea')", "no idea"),
        ("redis.get('a') return 7", "neither"),
        ("while true do redis.get('a') end", "100 questions"),
        ("redis.get(setmetatable({}, {__tostring = function() error('odd key') end}))", "odd key"),
        ("redis.get(setmetatable({}, {__tostring = function() return {} end}))", "a key must be a string"),
        ("return redis.get('a').b.c", "nil value"),
        ("return redis.set('a', 'b')", "set"),
        ("redis.get('\\255\\254') error('after it')", "after it"),
        ("redis.get(string.rep('x', 1000000)) error('after it')", ""),
    ],
)
def test_when_route_fails_behind_a_question_it_is_a_500_and_one_log_line(start_redis, redis, one, body, complaint):
    """As before its first question; the next client is served by another run of it."""
    more = f"function route(request) if request.target == '/fail' then {body} end end"
    proxy = start_redis(redis, {"one.test": one}, more=more)
    for _ in range(3):
        answer = ask(proxy, "one.test", "/fail")
        assert (answer.status, answer.fields["connection"]) == (500, "close"), answer
        assert ask(proxy, "one.test").site == "one"
    lines = proxy.errors().splitlines()
    assert len(lines) == 1 and "route" in lines[0] and complaint in lines[0], lines
    proxy.check_unharmed()


@behaviour("Lua asks redis")
def test_a_config_may_catch_what_goes_wrong_around_a_question(start_redis, redis, one):
    """A call that waits may be inside pcall, and in the config's own functions."""
    redis.client.set("alias", "one.test")
    more = """
        local function look(key) return redis.get(key) end
        function route(request)
          local works, name = pcall(look, "alias")
          local fails = pcall(function() redis.get("x") error("on purpose") end)
          return works and not fails and name
        end
    """
    proxy = start_redis(redis, {"one.test": one}, more=more)
    assert ask(proxy, "a.test").site == "one", proxy.errors()


@behaviour("Lua asks redis")
def test_a_config_may_do_what_it_likes_to_the_methods_of_strings(start_redis, redis, one):
    """Even take them away: what belongs to the proxy does without."""
    redis.client.set("alias", "one.test")
    more = "function route(request) return redis.get('alias') end getmetatable('').__index = error string.gmatch = nil"
    proxy = start_redis(redis, {"one.test": one}, more=more)
    assert ask(proxy, "a.test").site == "one", proxy.errors()


@behaviour("Lua asks redis")
@pytest.mark.parametrize("place", ["while the config runs", "in balance"])
def test_redis_can_be_asked_in_route_alone(command, start_redis, redis, one, two, place):
    """Where nothing could wait for the answer, there is nothing to call, and one line says so, or it has no effect."""
    redis.set_backends("a.test", one, two)
    if place == "in balance":
        proxy = start_redis(redis, more="function balance(backends) return redis.get('a') end")
        assert {ask(proxy, "a.test").status for _ in range(4)} == {200}, "round robin takes over"
        proxy.check_unharmed()
        return
    with pytest.raises(AssertionError) as failure:
        start_redis(redis, more="local name = redis.get('a')")
    assert "Error parsing config file: " in str(failure.value) and "Traceback" not in str(failure.value)
