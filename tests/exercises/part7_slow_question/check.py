"""Checks that a route which asks redis too much makes all clients wait while redis hangs, and that one need not."""

import concurrent.futures
import contextlib
import time

from by_name import exchange
from by_redis import AT_ONCE, running_redis, start_with_redis, timed, who_serves
from several import backends_called
from support.peers import Client, request_text
from work import TooLate

SITES = {"shop.localhost": "A", "blog.localhost": "B"}
LONG = 3  # seconds that clients are to wait
PIECES = 5  # of the upload


@contextlib.contextmanager
def started(work, name):
    """Yield redis, in which www.localhost is an alias of shop.localhost, and the student's proxy on a config."""
    with running_redis() as redis, backends_called("AB") as backends:
        redis.client.set("alias:www.localhost", "shop.localhost")
        proxy = start_with_redis(work, name, redis, *backends)
        yield redis, proxy
        assert "route failed" not in proxy.errors(), f"{proxy.errors()}. Hint: how many questions may a route ask?"


def ask_together(proxy, *hosts):
    """Send a request for each host, all at once; return a dict of the host and what timed returns."""
    with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
        return dict(zip(hosts, pool.map(lambda host: timed(proxy, host), hosts), strict=True))


def told(answers):
    """Return in words which backend served each site, and when."""
    return ", ".join(f"{host}: {letter} after {seconds:.1f} s" for host, (letter, seconds) in answers.items())


def nobody_notices(work):
    """With attack.lua, as long as redis is well, shop.localhost gets A and blog.localhost gets B, both at once."""
    work.sent("a request for each of the two sites")
    with started(work, "attack.lua") as (_, proxy):
        answers = ask_together(proxy, *SITES)
        work.came_back(told(answers))
        for host, (letter, seconds) in answers.items():
            assert letter == SITES[host], f"not {SITES[host]}. Hint: return nil, and the choice is left as it is"
            if seconds > AT_ONCE:
                raise TooLate("slow already. Hint: a question takes less than a millisecond; how many are there?")


def everybody_waits(work):
    """While redis is stopped (kill -STOP), requests for both sites take longer than three seconds; then they are
    served as before."""
    work.sent("a request for each of the two sites, at once, while redis says nothing")
    with started(work, "attack.lua") as (redis, proxy):
        with redis.stopped():
            answers = ask_together(proxy, *SITES)
        work.came_back(told(answers))
        for host, (letter, seconds) in answers.items():
            assert letter == SITES[host], f"not {SITES[host]}. Hint: return nil, and the choice is left as it is"
            assert seconds > LONG, "too soon. Hint: what does one question cost when no answer comes?"


def the_loop_goes_on(work):
    """Meanwhile an upload that had begun before goes on: the backend answers each of five pieces at once."""
    work.sent("the head of an upload; then redis stops, a request for the other site comes, and the five pieces")
    with started(work, "attack.lua") as (redis, proxy), Client(proxy.port) as client:
        exchange(client, request_text("shop.localhost", method="POST", headers=[f"Content-Length: {PIECES}"]))
        with redis.stopped(), concurrent.futures.ThreadPoolExecutor(1) as pool:
            other = pool.submit(timed, proxy, "blog.localhost")
            slowest = 0
            for number in range(PIECES):
                start = time.monotonic()
                letter = exchange(client, b"x")
                slowest = max(slowest, time.monotonic() - start)
                assert letter == b"A", (
                    f"piece {number + 1} got {letter!r}. Hint: does the function wait, or does it loop?"
                )
                time.sleep(0.1)
            waited = not other.done()
        work.came_back(
            f"the slowest piece took {1000 * slowest:.0f} ms; the other request took {other.result()[1]:.1f} s"
        )
        assert waited, "the other request did not have to wait. Hint: task (b) comes first"
        if slowest > AT_ONCE:
            raise TooLate("the upload had to wait. Hint: only the clients whose request asks redis should")


def need_not_be(work):
    """With config.lua www.localhost gets A as long as redis is well, by alias:www.localhost. While redis is stopped,
    requests for both sites are served at once, and one for www.localhost is refused within three seconds."""
    with started(work, "config.lua") as (redis, proxy):
        work.sent("a request for www.localhost")
        letter = who_serves(proxy, "www.localhost")
        work.came_back(letter)
        assert letter == "A", "the alias is not followed. Hint: redis.get returns the name, or nil; return that"
        work.sent("requests for all three names, at once, while redis says nothing")
        with redis.stopped():
            answers = ask_together(proxy, *SITES, "www.localhost")
        work.came_back(told(answers))
        for host, letter in SITES.items():
            assert answers[host][0] == letter, f"{host} is not served by {letter}. Hint: it is in the config"
            if answers[host][1] > AT_ONCE:
                raise TooLate(f"{host} has to wait. Hint: which names can't be an alias?")
        letter, seconds = answers["www.localhost"]
        assert letter in ("404", "503"), (
            "www.localhost is served. Hint: which backend could it be, while the alias is unknown?"
        )
        assert seconds < LONG, "www.localhost waits too long. Hint: one question about it is enough"


TASKS = [nobody_notices, everybody_waits, the_loop_goes_on, need_not_be]
