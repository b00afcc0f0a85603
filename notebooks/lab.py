"""What the notebooks share: starting the parts, recording what they do, and plots that survive a projector.

The parts are started as programs, as the tests do it; no notebook has a copy of their code. The recorder is
this file again, run as a program of its own:

    python lab.py RECORDING path/to/rsp.py ARGUMENTS...

It puts its own classes in the place of Python's sockets and select.epoll, then runs rsp.py, which notices nothing. Each
wake-up and each call on a socket becomes one line of JSON in the file RECORDING.
"""

import errno
import json
import os
import pathlib
import runpy
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent

# --- the recorder, which runs inside of the proxy's process ---

EVENTS = ("EPOLLIN", "EPOLLOUT", "EPOLLRDHUP", "EPOLLERR", "EPOLLHUP", "EPOLLET")


class Recorder:
    """Writes down what happens, one line of JSON each, flushed, so that it can be read while the proxy runs."""

    def __init__(self, path):
        """Begin a recording; times count from here."""
        self.file = open(path, "w", buffering=1)
        self.start = time.monotonic()
        self.sockets = {}  # file descriptor -> RecordedSocket
        self.clients = 0  # how many have been accepted
        self.wakeups = 0  # how many times epoll has returned

    def write(self, fd, call, started, **details):
        """Write one line: when it began (seconds), how long it took (seconds), whose it was, what it was."""
        sock = self.sockets.get(fd)
        line = {
            "time": round(started - self.start, 6),
            "took": round(time.monotonic() - started, 6),
            "fd": fd,
            "who": sock.who if sock else None,
            "number": sock.number if sock else None,
            "call": call,
        }
        self.file.write(json.dumps(line | details) + "\n")

    def call(self, sock, name, function, *arguments, **details):
        """Make a call on a socket and write down what it took, or which exception it raised."""
        started = time.monotonic()
        fd = sock.fileno()  # by now: close takes it away
        try:
            result = function(*arguments)
        except OSError as error:
            self.write(fd, name, started, **details, error=type(error).__name__)
            raise
        if name in ("recv", "recv_into", "send"):
            details["taken"] = len(result) if isinstance(result, bytes) else result
        elif name == "connect_ex" and result:
            details["error"] = errno.errorcode[result]
        self.write(fd, name, started, **details)
        return result


recorder = None  # the Recorder, in a process that is being recorded
RealSocket = socket.socket
RealEpoll = select.epoll


class RecordedSocket(RealSocket):
    """A socket that tells the recorder of the calls that move bytes or change a connection.

    `who` is "server", "client" or "backend"; client 1 and backend 1 are the two ends of the first connection.
    """

    def __init__(self, *arguments, fileno=None, **options):
        """Make a socket that is nobody's yet, or, for a descriptor that was accepted, the latest client's."""
        super().__init__(*arguments, fileno=fileno, **options)
        self.who = self.number = None
        if fileno is not None:
            self.who, self.number = "client", recorder.clients
        recorder.sockets[self.fileno()] = self

    def listen(self, *arguments):
        """Who listens is the server."""
        self.who = "server"
        return super().listen(*arguments)

    def _accept(self):
        """Who has been accepted is a client, the next one. Every accept, of the library's or a part's, calls this."""
        accepted = recorder.call(self, "accept", super()._accept)
        recorder.clients += 1
        return accepted

    def connect(self, address):
        """Who is connected to is the backend, for the client that came last."""
        self.who, self.number = "backend", recorder.clients
        return recorder.call(self, "connect", super().connect, address)

    def connect_ex(self, address):
        """The same, with an error number for a result; a connect that has only begun is noted as EINPROGRESS."""
        self.who, self.number = "backend", recorder.clients
        return recorder.call(self, "connect_ex", super().connect_ex, address)

    def recv(self, count, *flags):
        """Note how many bytes were asked for, and how many came."""
        return recorder.call(self, "recv", super().recv, count, *flags, asked=count)

    def recv_into(self, buffer, count=0, *flags):
        """The same, into a buffer of the caller's."""
        asked = count or len(buffer)
        return recorder.call(self, "recv_into", super().recv_into, buffer, count, *flags, asked=asked)

    def send(self, data, *flags):
        """Note how many bytes were offered, and how many were taken."""
        return recorder.call(self, "send", super().send, data, *flags, asked=len(data))

    def sendall(self, data, *flags):
        """Note how many bytes were sent; it returns when all of them are."""
        return recorder.call(self, "sendall", super().sendall, data, *flags, asked=len(data))

    def shutdown(self, how):
        """Note the end of file that is sent."""
        return recorder.call(self, "shutdown", super().shutdown, how)

    def close(self):
        """Note the end of the socket, once."""
        if self.fileno() >= 0:
            recorder.call(self, "close", super().close)


class RecordedEpoll:
    """An epoll that tells the recorder of every event that it reports, and of what it is asked to watch for.

    It holds a real one, since select.epoll can't be subclassed.
    """

    def __init__(self, *arguments):
        """Make a real one."""
        self.real = RealEpoll(*arguments)

    def __getattr__(self, name):
        """Leave everything else to the real one."""
        return getattr(self.real, name)

    def register(self, fd, eventmask=select.EPOLLIN | select.EPOLLOUT | select.EPOLLPRI):
        """Note what is asked for."""
        started = time.monotonic()
        self.real.register(fd, eventmask)
        recorder.write(fd, "register", started, events=event_names(eventmask))

    def modify(self, fd, eventmask):
        """Note what is asked for."""
        started = time.monotonic()
        self.real.modify(fd, eventmask)
        recorder.write(fd, "modify", started, events=event_names(eventmask))

    def poll(self, *arguments, **options):
        """Wait; note each event, with the number of the wake-up that brought it."""
        found = self.real.poll(*arguments, **options)
        now = time.monotonic()
        recorder.wakeups += 1
        for fd, events in found or [(None, 0)]:  # no events: a timer was due
            recorder.write(fd, "wake-up", now, events=event_names(events), wakeup=recorder.wakeups)
        return found


def event_names(events):
    """Return the names of the events in a mask."""
    return [name for name in EVENTS if events & getattr(select, name)]


def run_recorded(recording, program, *arguments):
    """Run a program in this process as if it had been started by itself, and record it."""
    global recorder
    recorder = Recorder(recording)
    socket.socket = socket.SocketType = RecordedSocket  # with the wrapper that Python puts around sockets, or without
    select.epoll = RecordedEpoll
    sys.argv = [program, *arguments]
    sys.path[0] = str(pathlib.Path(program).parent)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    run_recorded(*sys.argv[1:])
    sys.exit()

# --- the rest is for the notebooks: first, parts and peers ---

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from support.harness import START_PATIENCE, Command, Proxy, is_listening, part_command, tcp_sockets
from support.peers import LONG_PATIENCE, Backend, Client, free_port, wait_until


def start_part(part, backend, **options):
    """Return one of the parts as a running Proxy in front of a backend; to be used in a with-block."""
    return Proxy(part_command(part), backend.port, **options)


class RecordedProxy(Proxy):
    """A running part that is being recorded."""

    def __init__(self, part, backend, **options):
        """Start the part under the recorder."""
        self.recording_directory = tempfile.TemporaryDirectory(prefix="rsp-")
        self.recording_path = pathlib.Path(self.recording_directory.name, "recording")
        python, *program = part_command(part).words
        words = [python, str(HERE / "lab.py"), str(self.recording_path), *program]
        self.lines = None  # the recording, when the proxy has ended
        super().__init__(Command(words), backend.port, **options)

    def recording(self):
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


def wakeups(recording):
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


def unread_bytes(port, client):
    """Return how many bytes from a Client lie unread at the port it is connected to."""
    client_port = client.socket.getsockname()[1]
    for local, remote, _, unread in tcp_sockets():
        if (local, remote) == (port, client_port):
            return unread
    raise AssertionError(f"port {port} has no connection from port {client_port}")


class SlowBackend(Backend):
    """Thinks about each request for some seconds, answers, and closes; notes when each request arrived."""

    def __init__(self, seconds, answer=b"HTTP/1.0 200 OK\r\n\r\ndone\n", **options):
        """Prepare to answer after so many seconds; any number of clients at once."""
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


@dataclass
class Visit:
    """What became of one client; all times in seconds since the first client of the group came."""

    name: str
    came: float  # it began to connect
    connected: float
    served: float  # its request arrived at the backend
    answered: float  # it had the whole answer


def visit(port, backend, name, start):
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


def visit_together(port, backend, count, apart=0.0):
    """Send `count` clients at once, or one every `apart` seconds; return their Visits, in that order."""
    start = time.monotonic()

    def run(number):
        time.sleep(number * apart)
        return visit(port, backend, f"client {number + 1}", start)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


# --- plots ---

# Okabe and Ito's colours: told apart by the colour-blind too. No plot relies on colour alone.
BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#999999"

plt.rcParams.update({
    "figure.figsize": (9, 4),
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 13,
    "axes.titlesize": 15,
    "axes.labelsize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "lines.linewidth": 2,
    "hatch.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
})  # fmt: skip


def timeline(clients, title):
    """Draw a bar for each Visit: grey and hatched while it waits in line, blue while it is served; return the axes."""
    _, axes = plt.subplots()
    for client in clients:
        wait = {"color": "white", "edgecolor": GREY, "hatch": "////"}
        axes.barh(client.name, client.served - client.came, left=client.came, height=0.6, **wait)
        axes.barh(client.name, client.answered - client.served, left=client.served, height=0.6, color=BLUE)
        dot = {"marker": "o", "markersize": 9, "color": VERMILION, "markeredgecolor": BLACK, "ls": ""}
        axes.plot([client.connected], [client.name], **dot, clip_on=False, zorder=5)
        axes.annotate(
            f"{client.answered:.2f} s", (client.answered, client.name), (6, 0), textcoords="offset points", va="center"
        )
    legend = [
        Patch(facecolor="white", edgecolor=GREY, hatch="////", label="waits in line"),
        Patch(color=BLUE, label="is being served"),
        Line2D([], [], **dot, label="is connected"),
    ]
    axes.figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False)
    axes.set(title=title, xlabel="time since the first client came (s)", ylabel="")
    axes.set_xlim(0, 1.15 * max(client.answered for client in clients))
    axes.invert_yaxis()  # the first client on top
    axes.grid(axis="y", visible=False)
    return axes


MARKERS = {  # events -> marker and colour; combinations beside these get a star
    ("EPOLLIN",): ("o", BLUE),
    ("EPOLLOUT",): ("^", GREEN),
    ("EPOLLIN", "EPOLLOUT"): ("D", SKY_BLUE),
    ("EPOLLIN", "EPOLLRDHUP"): ("s", ORANGE),
    ("EPOLLIN", "EPOLLOUT", "EPOLLRDHUP"): ("P", VERMILION),
}


def draw_wakeups(found, title):
    """Draw Wakeups in time, a line for each socket, with the bytes read above the markers; return the axes.

    Where markers of one socket are too close for a label each, they share one: 4,096 + 904.
    """
    _, axes = plt.subplots()
    sockets = list(dict.fromkeys(wakeup.socket for wakeup in found))
    start = found[0].time
    close = 0.02 * (found[-1].time - start)
    kinds, labels = {}, {}
    for wakeup in found:
        marker, colour = MARKERS.get(wakeup.events, ("*", PURPLE))
        point = (1000 * (wakeup.time - start), sockets.index(wakeup.socket))
        style = {"marker": marker, "color": colour, "markeredgecolor": BLACK, "markersize": 11, "ls": ""}
        axes.plot(*point, **style)
        kinds[wakeup.events] = Line2D([], [], **style, label=" + ".join(wakeup.events))
        if wakeup.received is not None:
            latest = labels.get(wakeup.socket)
            if latest and wakeup.time - latest.time < close:
                latest.set_text(f"{latest.get_text()} + {wakeup.received:,}")
            else:
                label = f"{wakeup.received:,}"
                latest = axes.annotate(label, point, (0, 9), textcoords="offset points", ha="center", fontsize=12)
            latest.time = wakeup.time
            labels[wakeup.socket] = latest
    axes.figure.legend(handles=list(kinds.values()), loc="outside lower center", ncols=3, frameon=False)
    axes.set(title=title, xlabel="time since the first wake-up (ms)", ylabel="")
    axes.set_yticks(range(len(sockets)), sockets)
    axes.set_ylim(len(sockets) - 0.5, -0.8)
    axes.margins(x=0.06)
    return axes


# --- the write buffer ---


class SteadyBackend(Backend):
    """Takes one read of request, then sends an answer at a steady speed, and closes."""

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

    A phase is: a stall (seconds), then so many bytes (None: all there are), at a speed (bytes per second; None: as fast
    as it goes). Times are seconds since the call.
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


ARRIVED, LOST = BLUE, YELLOW


def draw_maps(maps, total, title):
    """Draw 100 x 100 cells for each part's answer of `total` bytes, dark where its bytes arrived; return the axes.

    `maps` holds, for each name, the arrived runs of bytes as pairs of position and length.
    """
    cell = total // 10_000  # bytes
    figure, axes = plt.subplots(1, len(maps), figsize=(5.4 * len(maps), 6), squeeze=False)
    colours = LinearSegmentedColormap.from_list("arrived", [LOST, ARRIVED])
    for panel, (name, runs) in zip(axes[0], maps.items(), strict=True):
        arrived = np.zeros(total, bool)
        for position, length in runs:
            arrived[position : position + length] = True
        share = arrived[: cell * 10_000].reshape(100, 100, cell).mean(axis=2)
        box = (0, cell * 100 / 1000, total / 1e6, 0)  # the first byte is at the top left
        panel.imshow(share, cmap=colours, vmin=0, vmax=1, extent=box, aspect="auto", interpolation="nearest")
        panel.set(title=name, xlabel="position in the row (kB)")
        panel.grid(visible=False)
    axes[0][0].set_ylabel("position of the row in the answer (MB)")
    legend = [
        Patch(facecolor=ARRIVED, edgecolor=BLACK, label="arrived"),
        Patch(facecolor=LOST, edgecolor=BLACK, label="never arrived"),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title, fontsize=15)
    return axes[0]


def draw_stalls(axes, stalls):
    """Shade the times in which the client does not read; return a handle for the legend."""
    for begin, end in stalls:
        axes.axvspan(begin, end, facecolor="#eeeeee", edgecolor=GREY, hatch="..", linewidth=0, zorder=0)
    return Patch(facecolor="#eeeeee", edgecolor=GREY, hatch="..", linewidth=0, label="the client does not read")


def show(lines):
    """Print lines of a recording: milliseconds since the first of them, whose socket, the call, what became of it."""
    for line in lines:
        what = line["call"]
        if "asked" in line:
            what += f" {line['asked']:,} bytes" if what.startswith("send") else f" up to {line['asked']:,} bytes"
        result = line.get("error") or ", ".join(line.get("events", ()))
        if "taken" in line:
            result = f"{line['taken']:,} bytes" if line["taken"] else "0 bytes: end of file"
        print(f"{1000 * (line['time'] - lines[0]['time']):7.2f} ms  {line['who'] or '':8} {what:30} {result}".rstrip())


NGINX_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {directory}/pid; error_log {directory}/errors;
events {{ worker_connections 8192; }}
http {{
    access_log off; client_body_temp_path {directory}/1; proxy_temp_path {directory}/2;
    fastcgi_temp_path {directory}/3; uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{body}"; }} }}
}}
"""

SMALL_SERVER = """
import selectors, socket, sys
port, body = int(sys.argv[1]), sys.argv[2].encode()
answer = b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body)
listener = socket.create_server(("127.0.0.1", port), backlog=4096)
selector = selectors.DefaultSelector()
selector.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fileobj is listener:
            selector.register(listener.accept()[0], selectors.EVENT_READ)
            continue
        selector.unregister(key.fileobj)
        try:
            if key.fileobj.recv(4096):
                key.fileobj.sendall(answer)
        except ConnectionError:
            pass
        key.fileobj.close()
"""


class WebServer:
    """A fast web server in a process of its own, with one small page: nginx, or without it a few lines of Python."""

    def __init__(self, size=512):
        """Start it; the page has `size` bytes."""
        self.directory = tempfile.TemporaryDirectory(prefix="rsp-")
        body = "x" * size
        path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"  # where nginx is, and root only looks
        for name, program in (("nginx", shutil.which("nginx", path=path)), ("Python", sys.executable)):
            if not program:
                continue
            self.name, self.port = name, free_port()
            config = pathlib.Path(self.directory.name, "nginx.conf")
            config.write_text(NGINX_CONFIG.format(directory=self.directory.name, port=self.port, body=body))
            if name == "nginx":
                words = [program, "-p", self.directory.name, "-c", str(config)]
            else:
                words = [program, "-c", SMALL_SERVER, str(self.port), body]
            self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(self.is_settled, f"{name} listens on port {self.port}", START_PATIENCE)
            if self.process.poll() is None:
                return
        self.directory.cleanup()
        raise AssertionError("no web server could be started")

    def is_settled(self):
        """Tell whether it listens, or has ended."""
        return is_listening(self.port) or self.process.poll() is not None

    def __enter__(self):
        """Return the server."""
        return self

    def __exit__(self, *_):
        """End it."""
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()
