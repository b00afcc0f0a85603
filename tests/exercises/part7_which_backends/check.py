"""Predict who serves a request, after this and that has happened to redis."""

import contextlib
import time

from by_redis import NEWS, running_redis, start_with_redis, who_serves
from several import backends_called

CONFIG = "config.lua"
SET = "hostnames:site.localhost:backends"


@contextlib.contextmanager
def started(work):
    """Yield redis and backends A, B and C, and a function that starts the student's proxy."""
    with running_redis() as redis, backends_called("ABC") as backends:
        yield redis, backends, lambda: start_with_redis(work, CONFIG, redis, *backends)


def letters(answers):
    """Return who has answered, a letter each, and "-" for a client that was refused."""
    return "".join(word if len(word) == 1 else "-" for word in answers)


def changes(work):
    """The set of site.localhost has A, that of httpDefault has C. A request for site.localhost comes now, and one
    after each of these, in this order: SADD of B to another name's set, DEL of the set of site.localhost, SADD of B to
    it, FLUSHALL, SADD of A to it. Who serves the six? A text like "AAB-CC"."""
    answer = work.answer("a")
    with started(work) as (redis, (a, b, c), start):
        redis.set_backends("site.localhost", a)
        redis.set_backends("httpDefault", c)
        proxy = start()
        steps = [
            lambda: redis.set_backends("other.localhost", b),
            lambda: redis.client.delete(SET),
            lambda: redis.set_backends("site.localhost", b),
            redis.client.flushall,
            lambda: redis.set_backends("site.localhost", a),
        ]
        answers = [who_serves(proxy, "site.localhost")]
        for step in steps:
            step()
            time.sleep(NEWS)
            answers.append(who_serves(proxy, "site.localhost"))
    work.sent("six requests for site.localhost, and five changes between them")
    work.came_back(f"answers of {letters(answers)}")
    work.compare(
        answer, letters(answers), "what does redis know at that moment, and who is asked when it knows nothing?"
    )


def strange_keys(work):
    """The set of httpDefault has C. Five hosts are asked for: one whose set has B, and the word localhost with A's
    port; one whose set has just such a word; one whose key is a string, not a set, with B in it; one without a set,
    but with a list frontend:NAME of two entries, A and B; and shop.localhost, whose set has B. Who serves them?"""
    answer = work.answer("b")
    with started(work) as (redis, (a, b, c), start):
        redis.set_backends("httpDefault", c)
        redis.set_backends("one.localhost", b, f"localhost:{a.port}")
        redis.set_backends("two.localhost", f"localhost:{a.port}")
        redis.client.set("hostnames:three.localhost:backends", f"127.0.0.1:{b.port}")
        redis.client.rpush("frontend:four.localhost", f"http://127.0.0.1:{a.port}", f"http://127.0.0.1:{b.port}")
        redis.set_backends("shop.localhost", b)
        proxy = start()
        really = letters(who_serves(proxy, f"{name}.localhost") for name in ("one", "two", "three", "four", "shop"))
    work.sent("five requests")
    work.came_back(f"answers of {really}")
    work.compare(answer, really, "what is left of each key when all that is no address has been left out?")


def hanging(work):
    """The sets of site.localhost and new.localhost have B. site.localhost has been asked for before, new.localhost
    never. redis is stopped (kill -STOP): its connections stay open, and it says nothing. What do requests get for
    shop.localhost, site.localhost and new.localhost? Three words, such as "C C 404"."""
    answer = work.answer("c")
    with started(work) as (redis, (_, b, _), start):
        for name in ("site", "new"):
            redis.set_backends(f"{name}.localhost", b)
        proxy = start()
        who_serves(proxy, "site.localhost")
        with redis.stopped():
            really = " ".join(who_serves(proxy, f"{name}.localhost") for name in ("shop", "site", "new"))
    work.sent("three requests while redis says nothing")
    work.came_back(really)
    work.compare(answer, really, "which of the three has to be asked for, and for how long does the client wait?")


def away(work):
    """The set of site.localhost has B, and it has been asked for. redis is killed; later it is started again, without
    any data. What does a request for site.localhost get while redis is away, one for new.localhost after redis is
    back, and one for site.localhost after that? Three words."""
    answer = work.answer("d")
    with started(work) as (redis, (_, b, _), start):
        redis.set_backends("site.localhost", b)
        proxy = start()
        who_serves(proxy, "site.localhost")
        redis.kill()
        answers = [who_serves(proxy, "site.localhost")]
        redis.start()
        redis.wait_for_proxies()
        time.sleep(NEWS)
        answers += [who_serves(proxy, f"{name}.localhost") for name in ("new", "site")]
    really = " ".join(answers)
    work.sent("three requests, the first while there is no redis")
    work.came_back(really)
    work.compare(
        answer, really, "what still holds without redis, and what can a new redis know about the time between?"
    )


TASKS = [changes, strange_keys, hanging, away]
