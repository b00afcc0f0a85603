"""Checks that a route goes by redis's last answer when redis has none, and by nothing else."""

import contextlib
import time

from by_redis import AT_ONCE, running_redis, timed, wait_until_known, who_serves
from ordinary import life_goes_on
from several import backends_called
from support.configs import hosts_text
from support.harness import Command
from support.peers import HOST
from work import TooLate

FOLLOW_ALIASES = """
redis = {{address = "{address}", port = "{port}"}}
function route(request)
  if hosts[request.host] then return nil end
  if redis.exists("closed:" .. request.host) == 1 then return "closed" end
  local name, what = redis.get("alias:" .. request.host)
  if what == "no answer" then return "default" end
  return name or "nobody"
end
"""
ALIAS = "alias:www.localhost"
KILLED = 3  # seconds in which the proxy has noticed that redis has gone; it takes milliseconds


@contextlib.contextmanager
def started(work):
    """Yield redis and the student's proxy, in front of A (shop.localhost), B (blog.localhost) and C (the default)."""
    with running_redis() as redis, backends_called("ABC") as backends:
        redis.client.set(ALIAS, "shop.localhost")
        hosts = dict(zip(("shop.localhost", "blog.localhost", "default"), backends, strict=True))
        route = FOLLOW_ALIASES.format(address=HOST, port=redis.port)
        proxy = work.start_command(Command(work.command().words, hosts_text(hosts, more=route)), 0)
        wait_until_known(redis)
        yield redis, proxy
        assert "route failed" not in proxy.errors(), f"{proxy.errors()}. Hint: what did the function get?"


def kill(redis, proxy):
    """Kill redis, and wait until the proxy has noticed."""
    redis.kill()
    end = time.monotonic() + KILLED
    while "No connection to redis" not in proxy.errors() and time.monotonic() < end:
        time.sleep(0.01)


def expect(work, proxy, host, expected, hint):
    """Ask for a host; raise AssertionError unless it is served by this backend, or refused with this status."""
    work.sent(f"a request for {host}")
    letter, seconds = timed(proxy, host)
    work.came_back(f"{letter} after {seconds:.1f} s")
    assert letter == expected, f"not {expected}. Hint: {hint}"
    return seconds


def without_redis(work):
    """www.localhost, an alias of shop.localhost, has been asked for. When redis is killed, it still gets A, at
    once."""
    with started(work) as (redis, proxy):
        expect(work, proxy, "www.localhost", "A", "with redis all was well before")
        kill(redis, proxy)
        seconds = expect(work, proxy, "www.localhost", "A", "what did redis say last?")
        if seconds > AT_ONCE:
            raise TooLate("slow. Hint: there is no answer to wait for")


def hanging(work):
    """While redis is stopped (kill -STOP), it still gets A, when redis has not answered in time."""
    with started(work) as (redis, proxy):
        expect(work, proxy, "www.localhost", "A", "with redis all was well before")
        with redis.stopped():
            expect(work, proxy, "www.localhost", "A", "None is told to who asked when time is up; what then?")


def changes_count(work):
    """As long as redis answers, what it says counts: when the alias is changed to blog.localhost, www.localhost gets B
    at once; when it is deleted, 404, and so it does when redis is killed then."""
    with started(work) as (redis, proxy):
        expect(work, proxy, "www.localhost", "A", "with redis all was well before")
        redis.client.set(ALIAS, "blog.localhost")
        expect(work, proxy, "www.localhost", "B", "ask as long as redis answers")
        redis.client.delete(ALIAS)
        expect(work, proxy, "www.localhost", "404", "ask as long as redis answers")
        kill(redis, proxy)
        expect(work, proxy, "www.localhost", "404", "that there is no such key is an answer, too: keep it")


def never_asked(work):
    """What has never been answered is still "no answer": with redis killed, new.localhost gets C, as the function has
    it; with another redis in its place, without any data, www.localhost gets 404."""
    with started(work) as (redis, proxy):
        assert who_serves(proxy, "www.localhost") == "A", "A was to come. Hint: with redis all was well before"
        kill(redis, proxy)
        expect(work, proxy, "new.localhost", "C", "which answer belongs to which question?")
        redis.start()
        wait_until_known(redis)
        expect(work, proxy, "www.localhost", "404", "the new redis answers; what it says counts")


@contextlib.contextmanager
def an_alias(work, backend):
    """Yield the student's proxy, in front of a site that the clients ask for by its alias."""
    with running_redis() as redis:
        redis.client.set(ALIAS, "shop.localhost")
        hosts = {"shop.localhost": backend, "default": backend}
        route = FOLLOW_ALIASES.format(address=HOST, port=redis.port)
        proxy = work.start_command(Command(work.command().words, hosts_text(hosts, more=route)), 0)
        wait_until_known(redis)
        yield proxy


TASKS = [without_redis, hanging, changes_count, never_asked, life_goes_on(an_alias, host="www.localhost")]
