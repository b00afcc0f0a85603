"""Hosts that are in redis, for the notebook on routes that change: part 7, pages that say who they are, clients.

The redis-server is a real one. Parts are started as programs, as in experiments.py, and no
notebook has a copy of their code.
"""

import contextlib
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from support.harness import Command, Proxy, part_command
from support.peers import HOST, LONG_PATIENCE, Backend, RedisServer


def start_with_redis(redis: RedisServer, more: str = "") -> Proxy:
    """Return part 7 as a running Proxy whose hosts are in redis; `more` is the rest of the config, in Lua."""
    config = f'listenPort = "{{port}}"\nredis = {{address = "{HOST}", port = "{redis.port}"}}\n{more}\n'
    before = redis.clients()
    proxy = Proxy(Command(part_command(7).words, config), 0)
    redis.wait_for_proxies(before + 1)
    return proxy


def config_hosts(**hosts) -> str:
    """Return `hosts` for a config, in Lua: a backend for each name, to which .localhost is added."""
    entries = [
        f'["{name}.localhost"] = {{backends = {{{{address = "{HOST}", port = "{backend.port}"}}}}}}'
        for name, backend in hosts.items()
    ]
    return f"hosts = {{{', '.join(entries)}}}"


class Page(Backend):
    """Answers each request with its name, and closes; for /long it takes its time."""

    def __init__(self, name: str, seconds: float = 0.0, pieces: int = 1, apart: float = 0.0):
        """Think for some seconds about each request; /long is the name so many times, with a pause before each."""
        self.name = name
        self.seconds = seconds
        self.pieces = pieces
        self.apart = apart
        super().__init__()

    def serve(self, connection):
        """Answer one request."""
        request = self.receive(connection)
        if not request:
            return
        self.send(connection, b"HTTP/1.0 200 OK\r\n\r\n")
        if request.startswith(b"GET /long "):
            for _ in range(self.pieces):
                time.sleep(self.apart)
                self.send(connection, self.name.encode())
        else:
            time.sleep(self.seconds)
            self.send(connection, self.name.encode())


def ask(port: int, host: str, path: str = "/") -> str:
    """Be a client: return the body of a page, the status when it is not 200, "" when there is no answer at all."""
    try:
        with socket.create_connection((HOST, port), LONG_PATIENCE) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            with client.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
    except ConnectionError:
        return ""
    status = head[9:12].decode()
    return body.decode() if status == "200" else status


@dataclass
class Call:
    """What became of one client; times in seconds since the first client came."""

    host: str
    came: float
    took: float
    answer: str  # as of ask


def keep_asking(port: int, hosts: Iterator[str], seconds: float, apart: float, events: dict) -> tuple[list[Call], dict]:
    """Send a client every `apart` seconds, for the next of the hosts, whether or not the last one has its answer.

    `events` has functions to be called meanwhile, each under the number of seconds after which that is to be. Returns
    the Calls, and when each event really began and was over (seconds): a dict of the same keys.
    """
    start, happened = time.monotonic(), {}

    def since():
        return time.monotonic() - start

    def ask_once(moment, host):
        time.sleep(max(0, moment - since()))
        came = since()
        answer = ask(port, host)
        return Call(host, came, since() - came, answer)

    def do_all():
        for moment, do in sorted(events.items()):
            time.sleep(max(0, moment - since()))
            began = since()
            do()
            happened[moment] = (began, since())

    doer = threading.Thread(target=do_all, daemon=True)
    doer.start()
    moments = [number * apart for number in range(int(seconds / apart))]
    with ThreadPoolExecutor(64) as pool:
        calls = list(pool.map(ask_once, moments, [next(hosts) for _ in moments]))
    doer.join()
    return calls, happened


@contextlib.contextmanager
def in_background(port: int, host: str, path: str):
    """Have a client ask for a page meanwhile; yield a function that waits for it, and returns what it got."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask, port, host, path).result


def time_in_turn(questions: dict[str, Callable[[], str]], rounds: int) -> dict[str, list[float]]:
    """Ask all questions in each round, in any order; return the times that each of them took (microseconds).

    So whatever else the machine does hits them all alike.
    """
    times = {name: [] for name in questions}
    for _ in range(rounds):
        for name in random.sample(list(questions), len(questions)):
            start = time.perf_counter()
            answer = questions[name]()
            times[name].append(1e6 * (time.perf_counter() - start))
            assert not answer.isdigit() and answer, f"{name}: {answer or 'no answer'}"
    return times


def quartiles(times: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    return tuple(statistics.quantiles(times, n=4))
