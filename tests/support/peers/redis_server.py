"""The real redis, on a port of its own. It can be killed, stopped, continued and started again, as in real life."""

import contextlib
import os
import signal
import subprocess
import tempfile

from support.packages import packages_needed
from support.peers.sockets import HOST, free_port
from support.peers.waiting import PATIENCE, wait_until
from support.programs import find

with packages_needed():
    import psutil

START_PATIENCE = 15  # seconds that redis-server may take to start


class RedisServer:
    """A redis-server that keeps nothing on disk; used in a with-block, which it does not outlive."""

    def __init__(self, *options, port=None):
        """Start it, and wait until it answers; further options are those of its command line."""
        self.port = port or free_port()
        self.directory = tempfile.TemporaryDirectory(prefix="rsp-")
        self.process = self.client = None
        self.start(*options)

    def __enter__(self):
        """Return the server."""
        return self

    def __exit__(self, *_):
        """End it."""
        self.kill()
        self.directory.cleanup()

    def start(self, *options):
        """Start it at the port that it has had before, without any data."""
        words = [find("redis-server") or "redis-server", "--port", str(self.port), "--bind", HOST, "--save", ""]
        words += ["--appendonly", "no", "--dir", self.directory.name, *options]
        # Its output would tell a failing test nothing that the client does not.
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        password = options[options.index("--requirepass") + 1] if "--requirepass" in options else None
        self.client = self.make_client(password)
        try:
            wait_until(self.answers, f"redis-server answers at port {self.port}", START_PATIENCE)
        except BaseException:  # Ctrl-C too must leave no process behind
            self.kill()
            raise

    def make_client(self, password=None, **options):
        """Return a client of the package redis; each of its commands has a time limit."""
        import redis  # here, since it takes a quarter of a second, and most programs that import peers don't need it

        options = {"port": self.port, "password": password, "socket_timeout": PATIENCE} | options
        return redis.Redis(HOST, decode_responses=True, **options)

    def answers(self):
        """Tell whether it is there."""
        import redis

        if not self.is_running():
            raise AssertionError(f"redis-server has ended, with exit status {self.process.returncode}")
        with contextlib.suppress(redis.ConnectionError):
            return self.client.ping()
        return False

    def is_running(self):
        """Tell whether it has been started, and not been killed."""
        return self.process.poll() is None

    def kill(self):
        """End it at once, whatever it is doing; its clients see their connections end."""
        self.process.kill()
        self.process.wait()
        if self.client:
            self.client.close()

    @contextlib.contextmanager
    def stopped(self):
        """Stop it (SIGSTOP) for a with-block: its connections stay open, and it says nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            server = psutil.Process(self.process.pid)
            wait_until(lambda: server.status() == psutil.STATUS_STOPPED, "redis-server has stopped")
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def set_backends(self, name, *backends):
        """Make these the backends of a host, in one step: each an object with a port, a port, or a member as it is."""
        key = f"hostnames:{name}:backends"
        with self.client.pipeline(transaction=True) as steps:
            steps.delete(key)
            if backends:
                steps.sadd(key, *map(member, backends))
            steps.execute()

    def calls(self, command="srandmember"):
        """Return how often a command has been given to it since it was started."""
        return self.client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]

    def clients(self):
        """Return how many of its clients are told of every change of some keys: proxies are."""
        return sum("B" in client["flags"] for client in self.client.client_list())

    def wait_for_proxies(self, count=1):
        """Wait until so many proxies listen to its invalidations."""
        wait_until(lambda: self.clients() >= count, f"{count} of redis's clients track its keys", START_PATIENCE)


def member(backend):
    """Return what stands for a backend in a set: ADDRESS:PORT."""
    return backend if isinstance(backend, str) else f"{HOST}:{backend if isinstance(backend, int) else backend.port}"
