"""For the exercises of part 7: a redis-server of the task's own, and a proxy whose hosts are in it."""

import contextlib
import time

from by_name import ask_for, brief
from several import start_config
from support.harness import tcp_sockets
from support.peers import LONG_PATIENCE, RedisServer, request_text, wait_until
from support.programs import find

NEWS = 0.3  # seconds in which a proxy has heard what redis says; it takes milliseconds
AT_ONCE = 0.7  # seconds for an answer that came without a wait; who asks redis in vain waits for 1


@contextlib.contextmanager
def running_redis():
    """Yield a RedisServer, empty."""
    assert find("redis-server"), "redis-server is missing. Hint: install it: sudo apt install redis-server"
    with RedisServer() as redis:
        yield redis


def start_with_redis(work, name, redis, *backends, **environment):
    """Do what start_config does, with redis's port, RSP_REDIS_PORT; return the proxy when it knows redis."""
    proxy = start_config(work, name, *backends, RSP_REDIS_PORT=redis.port, **environment)
    wait_until_known(redis)
    return proxy


def wait_until_known(redis):
    """Wait until a proxy has greeted redis, and has read the answer: from then on it asks."""
    redis.wait_for_proxies()

    def has_read():
        return not any(remote == redis.port and unread for _, remote, _, unread in tcp_sockets())

    wait_until(has_read, "the proxy has read redis's answer to its greeting")


def who_serves(proxy, host, **options):
    """Return the letter of the backend that answers a request for a host, or the status of the refusal."""
    return brief(ask_for(proxy.port, request_text(host), timeout=LONG_PATIENCE, **options))


def timed(proxy, host, **options):
    """Return what who_serves returns, and how many seconds that took."""
    start = time.monotonic()
    return who_serves(proxy, host, **options), time.monotonic() - start
