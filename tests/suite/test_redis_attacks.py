"""What once ended the proxy, or held something for ever: sets that change at the worst moment, and mad replies."""

import pytest

from support.peers import (
    FakeRedis,
    FullBackend,
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


@behaviour("follows redis")
def test_a_backend_that_hangs_is_taken_out_while_a_client_tries_it(start_redis, redis, one):
    """That client goes on to the other one; least_conn, which counts it, is not confused."""
    with FullBackend() as hanging:
        hanging.fill()
        redis.set_backends("a.test", hanging, one)
        proxy = start_redis(redis, balance="least_conn", connectTimeout=700)
        clients = [proxy.connect() for _ in range(2)]  # one of them gets the backend that hangs
        for client in clients:
            client.send(request_text("a.test"))
        wait_until(lambda: one.connections, "the other one has got a client")
        redis.set_backends("a.test", one)
        assert [receive_answer(client).site for client in clients] == ["one", "one"]
        for client in clients:
            assert ask(proxy, "a.test").site == "one"
            client.close()
        assert [ask(proxy, "a.test").site for _ in range(4)] == 4 * ["one"]
        proxy.check_unharmed()


@behaviour("follows redis")
def test_after_an_answer_that_was_overtaken_the_balance_still_works(start_redis, one):
    """A second backend comes and goes again within one look-up."""
    both = set_reply(member(one), f"127.0.0.2:{free_port()}")
    just_one = set_reply(member(one))
    replies = iter([just_one, invalidation("a.test") + both, just_one])
    with FakeRedis({"SMEMBERS hostnames:a.test:backends": lambda words: next(replies, just_one)}) as fake:
        proxy = start_redis(fake, balance="least_conn")
        assert ask(proxy, "a.test").site == "one"
        fake.push(invalidation("a.test"))
        wait_until(lambda: ask(proxy, "a.test").site and fake.asked("hostnames:a.test:backends") > 1, "it asks anew")
        assert [ask(proxy, "a.test").site for _ in range(6)] == 6 * ["one"]
        proxy.check_unharmed()


@behaviour("Lua asks redis")
def test_a_number_that_lua_cannot_have_is_an_error(start_redis, one):
    """NaN can't be a key in Lua, and it would end the whole program."""
    more = 'function route(request) local _, why = redis.get("x"); return why == "an odd reply" and "one.test" end'
    with FakeRedis({"get x": b"%1\r\n,nan\r\n:1\r\n"}) as fake:
        proxy = start_redis(fake, {"one.test": one}, more=more)
        wait_until(lambda: ask(proxy, "any.test").site == "one", "route is told")
        proxy.check_unharmed()
