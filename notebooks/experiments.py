"""What the notebooks try out, and with what: parts under a recorder, slow backends, clients that look at the clock.

The parts are started as programs, as the tests do it; no notebook has a copy of their code.
"""

import datetime
import json
import pathlib
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from support.harness import Command, Proxy, part_command, tcp_sockets
from support.parts import ROOT
from support.patches import patched_part
from support.peers import HOST, LONG_PATIENCE, Backend, Client, free_port
from support.programs import find
from support.servers import NGINX_PATHS, Server, nginx_words

MUSEUM = ROOT / "tests" / "exercises" / "museum"
RECORDER = pathlib.Path(__file__).resolve().parent / "recorder.py"

# Parts, and what they do


def start_part(part: int, backend: Backend, **options) -> Proxy:
    """Return one of the parts as a running Proxy in front of a backend; to be used in a with-block."""
    return Proxy(part_command(part), backend.port, **options)


def start_with_backends(*backends: Backend, more: str = "") -> Proxy:
    """Return part 5 as a running Proxy in front of several backends; `more` is the rest of the config, in Lua."""
    entries = ", ".join(f'{{address = "{HOST}", port = "{backend.port}"}}' for backend in backends)
    config = f'listenPort = "{{port}}"\nbackends = {{{entries}}}\n{more}\n'
    return Proxy(Command(part_command(5).words, config), backends[0].port)


def with_bug(bug: str, directory: str) -> Command:
    """Make a copy of part 4 with one of the museum's bugs, in a directory; return the Command that starts it."""
    program = patched_part(4, MUSEUM / f"{bug}.patch", pathlib.Path(directory, bug))
    return Command([sys.executable, str(program), "{config}"])


class RecordedProxy(Proxy):
    """A running part that is being recorded."""

    def __init__(self, part: int | Command, backend: Backend, **options):
        """Start a part, or what a Command starts, under the recorder."""
        self.recording_directory = tempfile.TemporaryDirectory(prefix="rsp-")
        self.recording_path = pathlib.Path(self.recording_directory.name, "recording")
        python, *program = (part if isinstance(part, Command) else part_command(part)).words
        words = [python, str(RECORDER), str(self.recording_path), *program]
        self.lines = None  # the recording, when the proxy has ended
        super().__init__(Command(words), backend.port, **options)

    def recording(self) -> list[dict]:
        """Return what was written down so far: a list of dictionaries, one for each wake-up or call.

        Each has time and took (seconds), fd, who, number and call; what else there is depends on the call: asked
        and taken (bytes), error (the exception's name), events (a list of names), wakeup (its number).
        """
        if self.lines is not None:
            return self.lines
        whole_lines = self.recording_path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in whole_lines]

    def stop(self):
        """End the program, and keep what was written down."""
        if self.lines is None:
            self.process.kill()
            self.process.wait()
            self.lines = self.recording()
            self.recording_directory.cleanup()
        super().stop()


@dataclass
class Wakeup:
    """One event that the loop was woken up for."""

    time: float  # seconds since the recording began
    socket: str  # "server", "client 1", "backend 1" and so on
    events: tuple  # names
    received: int | None  # bytes that were then read; None when nothing was, or the read failed


def wakeups(recording: list[dict]) -> list[Wakeup]:
    """Return the Wakeups of a recording, in order."""
    found, latest = [], {}
    for line in recording:
        if line["call"] == "wake-up" and line["fd"] is not None:
            name = " ".join(str(part) for part in (line["who"], line["number"]) if part is not None)
            latest[line["fd"]] = Wakeup(line["time"], name, tuple(line["events"]), None)
            found.append(latest[line["fd"]])
        elif line["call"] in ("recv", "recv_into") and "taken" in line and line["fd"] in latest:
            wakeup = latest[line["fd"]]
            wakeup.received = (wakeup.received or 0) + line["taken"]
    return found


def show_calls(lines: list[dict]):
    """Print lines of a recording: milliseconds since the first of them, whose socket, the call, what became of it."""
    for line in lines:
        what = line["call"]
        if "asked" in line:
            what += f" {line['asked']:,} bytes" if what.startswith("send") else f" up to {line['asked']:,} bytes"
        result = line.get("error") or ", ".join(line.get("events", ()))
        if "taken" in line:
            result = f"{line['taken']:,} bytes" if line["taken"] else "0 bytes: end of file"
        print(f"{1000 * (line['time'] - lines[0]['time']):7.2f} ms  {line['who'] or '':8} {what:30} {result}".rstrip())


def unread_bytes(port: int, client: Client) -> int:
    """Return how many bytes from a Client lie unread at the port it is connected to."""
    client_port = client.socket.getsockname()[1]
    for local, remote, _, unread in tcp_sockets():
        if (local, remote) == (port, client_port):
            return unread
    raise AssertionError(f"port {port} has no connection from port {client_port}")


class MemoryWatch:
    """Looks every few milliseconds at how much memory a Proxy has, in a thread, as long as the with-block lasts."""

    def __init__(self, proxy, pause=0.01):
        """Prepare to look every `pause` seconds."""
        self.proxy = proxy
        self.pause = pause
        self.times = []  # seconds since the watch began
        self.growth = []  # bytes more than in the beginning
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        """Begin."""
        self.thread.start()
        return self

    def __exit__(self, *_):
        """End."""
        self.done.set()
        self.thread.join()

    def watch(self):
        """Look, and look again."""
        start, before = time.monotonic(), self.proxy.memory()
        while not self.done.wait(self.pause):
            self.times.append(time.monotonic() - start)
            self.growth.append(self.proxy.memory() - before)


# Backends and clients


class SlowBackend(Backend):
    """Thinks about each request for some seconds, answers, and closes; notes when each request arrived."""

    def __init__(self, seconds, answer=b"HTTP/1.0 200 OK\r\n\r\ndone\n", **options):
        """Prepare to answer after `seconds`; any number of clients at once."""
        self.seconds = seconds
        self.answer = answer
        self.arrivals = {}  # what was asked for -> time.monotonic() of its arrival
        super().__init__(**options)

    def serve(self, connection):
        """Read a request, note it, think, answer."""
        request = self.receive(connection)
        if request:
            self.arrivals[request.split()[1].decode()] = time.monotonic()
            time.sleep(self.seconds)
            self.send(connection, self.answer)


class BusyBackend(SlowBackend):
    """A SlowBackend that works on `slots` requests at a time, as if it had that many processes; the rest wait.

    It answers with its name, and notes how many requests it has at hand, waiting or not.
    """

    def __init__(self, name, seconds, slots, **options):
        """Prepare for `slots` requests at a time."""
        self.name = name
        self.slots = threading.Semaphore(slots)
        self.lock = threading.Lock()
        self.at_hand = [(time.monotonic(), 0)]  # times, and how many requests from then on
        super().__init__(seconds, b"HTTP/1.0 200 OK\r\n\r\n" + name.encode(), **options)

    def serve(self, connection):
        """Read a request, wait for a slot, think, answer."""
        if self.receive(connection):
            self.count(1)
            try:
                with self.slots:
                    time.sleep(self.seconds)
                self.send(connection, self.answer)
            finally:
                self.count(-1)

    def count(self, change):
        """Note a request that has come (1), or that is over (-1)."""
        with self.lock:
            self.at_hand.append((time.monotonic(), self.at_hand[-1][1] + change))


@dataclass
class Visit:
    """What became of one client; all times in seconds since the first client of the group came."""

    name: str
    came: float  # it began to connect
    connected: float
    served: float  # its request arrived at the backend
    answered: float  # it had the whole answer


def visit(port: int, backend: SlowBackend, name: str, start: float) -> Visit:
    """Be one client: connect, ask, read the answer. Returns a Visit, with times counted from `start`."""
    path = "/" + name.replace(" ", "-")
    came = time.monotonic()
    with Client(port, timeout=LONG_PATIENCE) as client:
        connected = time.monotonic()
        client.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        client.receive_all()
        answered = time.monotonic()
    times = (came, connected, backend.arrivals[path], answered)
    return Visit(name, *(moment - start for moment in times))


def visit_together(port: int, backend: SlowBackend, count: int, apart: float = 0.0) -> list[Visit]:
    """Send `count` clients at once, or one every `apart` seconds; return their Visits, in that order."""
    start = time.monotonic()

    def run(number):
        time.sleep(number * apart)
        return visit(port, backend, f"client {number + 1}", start)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@dataclass
class Call:
    """What became of one client of a proxy with several backends."""

    came: float  # seconds since the first client came
    took: float  # seconds until it had its answer, or knew that there would be none
    answer: str  # the name of the backend; "" when there was no answer


def ask(port: int, source: str = HOST) -> str:
    """Be a client from an address of this machine; return the answer without its head, "" when there is none."""
    try:
        with socket.create_connection((HOST, port), LONG_PATIENCE, (source, 0)) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with client.makefile("rb") as answer:
                return answer.read().partition(b"\r\n\r\n")[2].decode()
    except ConnectionError:
        return ""


def keep_asking(port: int, seconds: float, apart: float, events: dict) -> tuple[list[Call], float]:
    """Send a client every `apart` seconds, for some seconds, whether or not the last one has its answer.

    `events` has functions to be called meanwhile, each under the number of seconds after which that is to be.
    Returns the Calls, and when the first client came (seconds since the epoch, as in a log).
    """
    start, first = time.monotonic(), time.time()

    def run(moment):
        time.sleep(max(0, start + moment - time.monotonic()))
        if moment in events:
            events[moment]()
        came = time.monotonic()
        answer = ask(port)
        return Call(came - start, time.monotonic() - came, answer)

    moments = sorted({number * apart for number in range(int(seconds / apart))} | set(events))
    with ThreadPoolExecutor(64) as pool:
        return list(pool.map(run, moments)), first


def log_times(proxy: Proxy, start: float) -> list[tuple[float, str]]:
    """Return what a proxy has logged: for each line its time, in seconds since `start`, and its text."""
    lines = [line.split(" ", 2) for line in proxy.errors().splitlines()]
    when = [datetime.datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S,%f").timestamp() for day, clock, _ in lines]
    return [(moment - start, text) for moment, (_, _, text) in zip(when, lines, strict=True)]


class SteadyBackend(Backend):
    """Reads once, whatever the request, then sends an answer at a steady speed, and closes."""

    def __init__(self, answer, speed, **options):
        """Prepare to send the answer's bytes at `speed` bytes per second, or more slowly if they are not taken."""
        self.answer = answer
        self.speed = speed  # bytes per second
        super().__init__(**options)

    def serve(self, connection):
        """Send 500 pieces a second, or whatever number of them makes up the answer."""
        self.receive(connection)
        piece = max(1, self.speed // 500)  # bytes
        start = time.monotonic()
        for position in range(0, len(self.answer), piece):
            time.sleep(max(0, start + position / self.speed - time.monotonic()))
            self.send(connection, self.answer[position : position + piece])


def read_in_phases(client, phases):
    """Read as the phases say, up to the end of file; return what came, and when each stall began and ended.

    A phase is: a stall (seconds), then a number of bytes (None: all there are), at a speed (bytes per second; None: as
    fast as it goes). Times are seconds since the call.
    """
    data, stalls, begin = bytearray(), [], time.monotonic()
    for stall, count, speed in phases:
        if stall:
            now = time.monotonic() - begin
            stalls.append((now, now + stall))
            time.sleep(stall)
        start, first = time.monotonic(), len(data)
        while count is None or len(data) < first + count:
            piece = client.receive(16384 if count is None else min(16384, first + count - len(data)))
            if not piece:
                return bytes(data), stalls
            data += piece
            if speed:
                time.sleep(max(0, start + (len(data) - first) / speed - time.monotonic()))
    return bytes(data), stalls


SMALL_PAGE = """
events {{ worker_connections 8192; }}
http {{
    access_log off;
    {paths}
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{body}"; }} }}
}}
"""

SMALL_SERVER = """
import selectors, socket, sys
port, body = int(sys.argv[1]), sys.argv[2].encode()
answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body)
listener = socket.create_server(("127.0.0.1", port), backlog=4096)
selector = selectors.DefaultSelector()
selector.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fileobj is listener:
            selector.register(listener.accept()[0], selectors.EVENT_READ)
            continue
        try:
            request = key.fileobj.recv(4096)
            if request:
                key.fileobj.sendall(answer)
            if b" HTTP/1.1" in request:
                continue
        except ConnectionError:
            pass
        selector.unregister(key.fileobj)
        key.fileobj.close()
"""


class WebServer(Server):
    """A fast web server in its own process, with one small page: nginx, or without it a few lines of Python."""

    def __init__(self, size=512):
        """Start it; the page has `size` bytes."""
        self.directory = tempfile.TemporaryDirectory(prefix="rsp-")
        port, body = free_port(), "x" * size
        if find("nginx"):
            page = SMALL_PAGE.format(paths=NGINX_PATHS, port=port, body=body)
            super().__init__("nginx", port, nginx_words(self.directory.name, "small", page))
        else:
            super().__init__("Python", port, [sys.executable, "-c", SMALL_SERVER, str(port), body])

    def stop(self):
        """End it."""
        super().stop()
        self.directory.cleanup()
