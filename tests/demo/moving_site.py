"""The site of `make hosts` whose route is in redis: a button on its page moves it to its other backend."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time

import redis
import tornado.web
from redis.backoff import NoBackoff
from redis.retry import Retry

from sites import PageHandler

KEY = "hostnames:moving.localhost:backends"  # what the proxy asks for when a client asks for moving.localhost
BACKENDS = ("east", "west")
START_SECONDS = 5  # that a redis-server may take to begin


class Route:
    """Where moving.localhost leads to."""

    def __init__(self, address, port):
        """Connect to redis."""
        once = Retry(NoBackoff(), 0)  # a person is waiting for the button
        self.redis = redis.Redis(address, int(port), socket_timeout=2, decode_responses=True, retry=once)
        self.places = {}  # backend -> "127.0.0.1:41234"

    def move(self, backend):
        """Make it lead to one of the backends only: both steps at once, so that it always leads somewhere."""
        with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(KEY).sadd(KEY, self.places[backend]).execute()

    def forget(self):
        """Leave redis as it was, if it is still there."""
        with contextlib.suppress(redis.RedisError):
            self.redis.delete(KEY)


class MovingHandler(PageHandler):
    """Answers with the page."""

    problem = None  # why the button did nothing

    def visit(self):
        """Return what is known about this request."""
        visit = super().visit()
        visit.chosen_by = "the name's key in redis"
        visit.problem = self.problem
        return visit


class MoveHandler(MovingHandler):
    """Answers the button."""

    def initialize(self, route, **page):
        """Keep the Route; the rest is the page's."""
        super().initialize(**page)
        self.route = route

    async def post(self):
        """Move the site to the other backend, then show it; or say why that can't be."""
        (other,) = set(BACKENDS) - {self.backend}
        try:
            await asyncio.to_thread(self.route.move, other)  # redis may hang, and the other sites must not wait for it
        except redis.RedisError as error:
            self.problem = str(error).rstrip(".")
            self.set_status(503)
            self.get()
            return
        await asyncio.sleep(0.1)  # redis tells the proxies at once; this is for the slowest of them
        self.redirect("/", status=303)


def moving_application(backend, route, places):
    """Return one of the two backends of the site."""
    page = {"backend": backend, "page": "moving.html", "places": places}
    handlers = [("/", MovingHandler, page), ("/move", MoveHandler, page | {"route": route})]
    return tornado.web.Application(handlers, log_function=lambda handler: None)


def start_redis(directory):
    """Start our own redis-server; return the process and its port, or None and None if it isn't installed."""
    program = shutil.which("redis-server") or shutil.which("redis-server", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return None, None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(directory)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            redis.Redis(port=port).ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)
    return process, port
