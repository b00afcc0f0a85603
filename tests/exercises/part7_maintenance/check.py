"""Checks that one key in redis sends a site's visitors to the page that says sorry, and no other clients."""

import contextlib

from by_name import ask_for, brief
from by_redis import AT_ONCE, running_redis, start_with_redis, timed, who_serves
from ordinary import life_goes_on
from several import backends_called
from support.peers import wait_until
from work import TooLate

SHOP, KEY, STAFF = "shop.localhost", "maintenance:shop.localhost", "127.0.0.2"
SHORT = 300  # milliseconds for which the key exists
NAMELESS = b"GET / HTTP/1.0\r\n\r\n"


@contextlib.contextmanager
def started(work):
    """Yield redis and the student's proxy, on config.lua and three backends."""
    with running_redis() as redis, backends_called("ABC") as backends:
        proxy = start_with_redis(work, "config.lua", redis, *backends)
        yield redis, proxy
        log = [line for line in proxy.errors().splitlines() if "redis at" not in line]
        assert not log, f"in the log: {log[0]}. Hint: what is nil here, that is not nil elsewhere?"


def expect(work, proxy, host, expected, hint, **options):
    """Ask for a host; raise AssertionError unless it is served by this backend."""
    work.sent(f"a request for {host}, from {options.get('source', '127.0.0.1')}")
    letter, seconds = timed(proxy, host, **options)
    work.came_back(f"{letter} after {seconds:.1f} s")
    assert letter == expected, f"not {expected}. Hint: {hint}"
    return seconds


def closed(work):
    """While there is a key maintenance:shop.localhost, whatever its value, requests for shop.localhost get C. Before,
    and when it has been deleted, or has expired, they get A."""
    with started(work) as (redis, proxy):
        expect(work, proxy, SHOP, "A", "there is no such key yet, and EXISTS says 0. What is true in Lua?")
        for value in ("", "back at nine"):
            redis.client.set(KEY, value)
            expect(
                work, proxy, SHOP, "C", "`exists` tells whether there is a key, and `route` returns the name of a host"
            )
        redis.client.delete(KEY)
        expect(work, proxy, SHOP, "A", "ask again for each request")
        redis.client.set(KEY, "a moment", px=SHORT)
        expect(work, proxy, SHOP, "C", "ask again for each request")
        wait_until(lambda: not redis.client.exists(KEY), "the key has expired")
        expect(work, proxy, SHOP, "A", "ask again for each request")


def others(work):
    """All others are served as before: blog.localhost gets B, an unknown name gets 404, and so does a request
    of HTTP/1.0 without a Host."""
    with started(work) as (redis, proxy):
        redis.client.set(KEY, "")
        redis.client.set("maintenance:", "")
        expect(work, proxy, "blog.localhost", "B", "the key has the name of the host in it")
        expect(work, proxy, "nobody.localhost", "404", "nil leaves the choice as it is")
        work.sent("GET / HTTP/1.0, without a Host")
        came_back = brief(ask_for(proxy.port, NAMELESS))
        work.came_back(came_back)
        assert came_back == "404", "not 404. Hint: `request.host` is nil then; what is nil in a text?"


def staff(work):
    """Addresses in the set maintenance:staff see the shop all the same: 127.0.0.2 gets A as soon as it is in the set,
    and C as soon as it is not."""
    with started(work) as (redis, proxy):
        redis.client.set(KEY, "")
        for is_member, letter in ((False, "C"), (True, "A"), (False, "C")):
            (redis.client.sadd if is_member else redis.client.srem)("maintenance:staff", STAFF)
            expect(work, proxy, SHOP, letter, "SISMEMBER tells whether an address is in a set: 1 or 0", source=STAFF)
            expect(work, proxy, SHOP, "C", "only the addresses in the set")


def without_redis(work):
    """When redis has been killed, the shop is open, without a wait: A, at once. When it is stopped (kill -STOP), A
    comes after one second, not two, for those in the set and for all others."""
    with started(work) as (redis, proxy):
        redis.client.set(KEY, "")
        redis.client.sadd("maintenance:staff", STAFF)
        with redis.stopped():
            for source in ("127.0.0.1", STAFF):
                seconds = expect(
                    work, proxy, SHOP, "A", "without an answer, it is nil; leave the choice as it is", source=source
                )
                if seconds > 1 + AT_ONCE:
                    raise TooLate("too slow. Hint: which of the two questions is superfluous, most of the time?")
        assert who_serves(proxy, SHOP) == "C", "after that, C was to come. Hint: ask again for each request"
        redis.kill()
        wait_until(lambda: "No connection to redis" in proxy.errors(), "the proxy has noticed")
        seconds = expect(work, proxy, SHOP, "A", "without an answer, it is nil; leave the choice as it is")
        if seconds > AT_ONCE:
            raise TooLate("too slow. Hint: there is no answer to wait for; what does it do instead?")


@contextlib.contextmanager
def open_shop(work, backend):
    """Yield the student's proxy, on config.lua; all three backends are the same."""
    with running_redis() as redis:
        yield start_with_redis(work, "config.lua", redis, backend, backend, backend)


TASKS = [closed, others, staff, without_redis, life_goes_on(open_shop, host=SHOP)]
