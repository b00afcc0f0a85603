"""The stage of the live page: one real proxy, its backends, and the clients that the page makes.

A Stage starts the proxy under the inspector and passes its frames on. It looks at what the peers have: each client and
each backend counts its own bytes, and the kernel's table of connections has their queues.
"""

import array
import asyncio
import contextlib
import fcntl
import json
import os
import pathlib
import signal
import socket
import struct
import sys
import tempfile
import termios

from support.peers.sockets import HOST, free_ports

HERE = pathlib.Path(__file__).resolve().parent
START_SECONDS = 10  # that a proxy may take to start
PEERS_SECONDS = 0.1  # between two looks at the peers
MOST_CLIENTS = 20  # at a time; the picture has to fit
MOST_BYTES = 200_000_000  # of one download or upload
PIECE = 65536  # bytes that a client reads or writes at a time
PREFIX = []  # words before the proxy's command; a test puts strace there
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, with 0 seconds


class OrderError(Exception):
    """An order that can't be followed; str() of it says why."""


class LiveClient:
    """One client: its socket, how fast it reads, and what it has received."""

    def __init__(self, number, port):
        """Be client `number` of the proxy on a port; start() connects."""
        self.number = number
        self.proxy_port = port
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.port = None  # its own
        self.sent = self.received = self.expected = self.to_send = 0  # bytes
        self.body = 0  # of those received, the ones after the answer's head
        self.head = b""  # of the answer, as long as it isn't whole
        self.head_is_whole = False
        self.state = "connecting"
        self.rate = None  # bytes a second that it reads at; None: as fast as they come
        self.going = asyncio.Event()  # it reads
        self.going.set()
        self.tasks = []
        self.kind = "silent"

    async def start(self, kind, count):
        """Connect, and say what this kind of client says."""
        loop = asyncio.get_running_loop()
        self.kind = kind
        try:
            await loop.sock_connect(self.socket, (HOST, self.proxy_port))
        except OSError as error:
            self.state = f"could not connect: {os.strerror(error.errno)}"
            return
        self.port = self.socket.getsockname()[1]
        self.state = "connected"
        self.tasks.append(asyncio.create_task(self.read()))
        if kind != "silent":
            self.tasks.append(asyncio.create_task(self.ask(kind, count)))

    async def ask(self, kind, count):
        """Send one request of this kind, and its body."""
        head = {
            "small": "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "download": f"GET /bytes/{count} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "late": f"GET /bytes/{count}/after/1500 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "upload": f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {count}\r\n\r\n",
        }[kind].encode()
        self.to_send += len(head) + (count if kind == "upload" else 0)
        self.expected += count if kind in ("download", "late") else 0
        with contextlib.suppress(OSError):
            await self.send(head)
            left = count if kind == "upload" else 0
            while left:
                left -= await self.send(bytes(min(PIECE, left)))

    async def send(self, data):
        """Send all of it, and return how much that was."""
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        while view:
            try:
                sent = self.socket.send(view)
            except BlockingIOError:
                room = loop.create_future()
                loop.add_writer(self.socket, lambda room=room: room.done() or room.set_result(None))
                try:
                    await room
                finally:
                    loop.remove_writer(self.socket)
                continue
            self.sent += sent
            view = view[sent:]
        return len(data)

    async def read(self):
        """Read, as fast as it may, until the end."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self.going.wait()
                size = PIECE if self.rate is None else max(1, min(PIECE, self.rate // 10))
                data = await loop.sock_recv(self.socket, size)
                if not data:
                    self.state = "got an end of file"
                    return
                self.received += len(data)
                self.count_body(data)
                await asyncio.sleep(0 if self.rate is None else size / self.rate)
        except ConnectionResetError:
            self.state = "was reset"
        except OSError as error:
            self.state = os.strerror(error.errno)

    def count_body(self, data):
        """Add what has come after the head of the answer."""
        if self.head_is_whole:
            self.body += len(data)
            return
        self.head += data
        _, end, rest = self.head.partition(b"\r\n\r\n")
        if end:
            self.head_is_whole, self.head = True, b""
            self.body = len(rest)

    def set_rate(self, rate):
        """Read at this many bytes a second; 0: not at all, None: as fast as they come."""
        self.rate = rate or None
        (self.going.clear if rate == 0 else self.going.set)()

    async def leave(self, how):
        """Half-close, close, or reset."""
        if how == "half-close":
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            self.state = "has finished sending"
            return
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if how == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.socket.close()
        self.state = {"reset": "has reset the connection", "close": "has left"}[how]

    @property
    def is_open(self):
        """Whether it still has its socket."""
        return self.socket.fileno() >= 0

    def report(self):
        """Return what the page shows of it."""
        inq, outq = (
            queue(self.socket, request) if self.is_open and self.port else 0
            for request in (termios.FIONREAD, termios.TIOCOUTQ)
        )
        names = "number port kind state sent received body expected to_send rate".split()
        known = {name: getattr(self, name) for name in names}
        return known | {"reads": self.going.is_set(), "inq": inq, "outq": outq, "open": self.is_open}


class LiveBackends:
    """The backends of one stage, each a process that can be stopped, killed and revived."""

    def __init__(self, count):
        """Choose ports for so many; start() starts them."""
        self.ports = free_ports(count)
        self.processes = [None] * count
        self.connections = [{} for _ in range(count)]
        self.stopped = [False] * count
        self.full = [[] for _ in range(count)]  # connections that fill the accept queue
        self.tasks = []

    async def start(self, index):
        """Start one; return when it listens."""
        words = [sys.executable, str(HERE / "backend.py"), str(self.ports[index]), "ABCDEFGH"[index]]
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(*words, **pipes, limit=2**22, start_new_session=True)
        self.processes[index] = process
        self.stopped[index] = False
        self.connections[index] = {}
        self.note(index, await process.stdout.readline())
        self.tasks.append(asyncio.create_task(self.listen(index, process)))

    async def listen(self, index, process):
        """Note what a backend tells, until it ends."""
        while line := await process.stdout.readline():
            self.note(index, line)
        await process.wait()

    def note(self, index, line):
        """Keep what one line tells."""
        if line:
            self.connections[index] = json.loads(line)["connections"]

    async def order(self, index, what):
        """Kill, stop, continue, revive or fill one."""
        process = self.processes[index]
        if what in ("kill", "stop", "continue"):
            if process.returncode is None:
                names = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "continue": signal.SIGCONT}
                process.send_signal(names[what])
                self.stopped[index] = what == "stop"
                if what == "kill":
                    await process.wait()
        elif what == "revive" and process.returncode is not None:
            await self.start(index)
        elif what == "fill":
            self.tell(index, accept=False)
            await asyncio.sleep(0.2)
            for _ in range(3):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex((HOST, self.ports[index]))
                self.full[index].append(sock)
            await asyncio.sleep(0.2)
        elif what == "drain":
            self.tell(index, accept=True)
            while self.full[index]:
                self.full[index].pop().close()

    def tell(self, index, **order):
        """Send a backend an order."""
        if self.processes[index].returncode is None:
            self.processes[index].stdin.write(json.dumps(order).encode() + b"\n")

    def report(self):
        """Return what the page shows of them. One that is stopped can't tell its queues: the kernel does."""
        queues = kernel_queues() if any(self.stopped) else {}
        for index, stopped in enumerate(self.stopped):
            for client, known in self.connections[index].items() if stopped else ():
                known["inq"], known["outq"] = queues.get((self.ports[index], int(client)), (0, 0))
        return [
            {
                "name": "ABCDEFGH"[index],
                "port": port,
                "alive": process.returncode is None,
                "stopped": self.stopped[index],
                "full": bool(self.full[index]),
                "connections": [known | {"port": int(client)} for client, known in self.connections[index].items()],
            }
            for index, (port, process) in enumerate(zip(self.ports, self.processes, strict=True))
        ]

    async def stop(self):
        """End all of them."""
        for index, process in enumerate(self.processes):
            for sock in self.full[index]:
                sock.close()
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Stage:
    """One proxy with all around it."""

    def __init__(self, program, takes_config, backends=1):
        """Show a program, the path of an rsp.py; `tell` is set by whoever wants its frames."""
        self.program = pathlib.Path(program)
        self.takes_config = takes_config
        self.backends = LiveBackends(backends)
        (self.port,) = free_ports(1)
        self.clients = {}
        self.numbers = 0
        self.tell = lambda frame: None
        self.tasks = []
        self.errors = []  # lines of the proxy's stderr
        self.process = None
        self.last_peers = None
        self.directory = tempfile.TemporaryDirectory(prefix="rsp-live-")

    def words(self):
        """Return the proxy's arguments; writes its config."""
        if not self.takes_config:
            return [str(self.port), HOST, str(self.backends.ports[0])]
        config = pathlib.Path(self.directory.name, "config.lua")
        text = f'listenPort = "{self.port}"\n'
        if len(self.backends.ports) == 1:
            text += f'backendAddress = "{HOST}"\nbackendPort = "{self.backends.ports[0]}"\n'
        else:
            rows = "".join(f'  {{address = "{HOST}", port = "{port}"}},\n' for port in self.backends.ports)
            text += f"backends = {{\n{rows}}}\ncheck = {{interval = 1000, rise = 2, fall = 2, timeout = 500}}\n"
        config.write_text(text)
        return [str(config)]

    async def start(self):
        """Start backends and proxy; raise OrderError with what the proxy says when it does not start."""
        for index in range(len(self.backends.ports)):
            await self.backends.start(index)
        ours, theirs = socket.socketpair()
        words = [
            *PREFIX,
            sys.executable,
            str(HERE / "inspector.py"),
            str(theirs.fileno()),
            str(self.program),
            *self.words(),
        ]
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        self.process = await asyncio.create_subprocess_exec(
            *words, **pipes, pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()
        ours.setblocking(False)
        self.reader, self.writer = await asyncio.open_connection(sock=ours, limit=2**24)
        self.set_pace("live")
        self.tasks += [asyncio.create_task(self.read_errors()), asyncio.create_task(self.read_frames())]
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), START_SECONDS)
        except TimeoutError:
            line = b""
        if b"Listening" not in line:
            await asyncio.sleep(0.3)
            said = self.errors[-1] if self.errors else "it said nothing"
            raise OrderError(f"{self.program} did not start: {said}")
        self.tasks.append(asyncio.create_task(self.watch_peers()))

    async def read_errors(self):
        """Pass on what the proxy writes to stderr, line by line."""
        while line := await self.process.stderr.readline():
            self.errors.append(line.decode(errors="replace").rstrip())
            self.tell({"kind": "log", "text": self.errors[-1]})

    async def read_frames(self):
        """Pass on the proxy's frames."""
        while line := await self.reader.readline():
            self.tell(json.loads(line))
        self.tell({"kind": "log", "text": f"The proxy has ended, with status {await self.process.wait()}."})

    async def watch_peers(self):
        """Tell what has changed with the peers, several times a second."""
        while True:
            self.tell_peers()
            await asyncio.sleep(PEERS_SECONDS)

    def tell_peers(self):
        """Tell what the peers have, if that has changed."""
        clients = [client.report() for client in self.clients.values()]
        peers = {"clients": clients, "backends": self.backends.report()}
        if peers != self.last_peers:
            self.last_peers = peers
            self.tell({"kind": "peers"} | peers)

    def set_pace(self, pace, delay=0.0, steps=0):
        """Have the loop turn live, slowly, or one turn at a time."""
        order = {"pace": pace, "delay": delay, "steps": steps}
        self.writer.write(json.dumps(order).encode() + b"\n")

    async def client(self, kind, count=0, rate=None):
        """Make one more client."""
        if sum(client.is_open for client in self.clients.values()) >= MOST_CLIENTS:
            raise OrderError(f"{MOST_CLIENTS} clients are enough: let some leave first")
        if not 0 <= count <= MOST_BYTES:
            raise OrderError(f"a client asks for 0 to {MOST_BYTES:,} bytes")
        self.numbers += 1
        client = self.clients[self.numbers] = LiveClient(self.numbers, self.port)
        if rate is not None:
            client.set_rate(rate)
        await client.start(kind, count)
        for number in [number for number, other in self.clients.items() if not other.is_open][:-MOST_CLIENTS]:
            del self.clients[number]

    def find_client(self, number):
        """Return a client by its number."""
        client = self.clients.get(number)
        if client is None or not client.is_open:
            raise OrderError(f"there is no client {number} any more")
        return client

    async def stop(self):
        """End everything that was started."""
        for client in self.clients.values():
            if client.is_open:
                await client.leave("reset")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.process is not None and self.process.returncode is None:
            self.writer.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # its own group, since start_new_session
            await self.process.wait()
        await self.backends.stop()
        self.directory.cleanup()


def queue(sock, request):
    """Return how many bytes one of the kernel's two queues of a socket has; see tcp(7)."""
    count = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(sock, request, count)
    return count[0]


def kernel_queues():
    """Return the bytes in both queues of each connection: (local port, remote port) -> (receive, send); see proc(5)."""
    found = {}
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "06":  # TIME_WAIT
            continue
        sent, received = (int(number, 16) for number in words[4].split(":"))
        local, remote = (int(address.rpartition(":")[2], 16) for address in words[1:3])
        found[local, remote] = received, sent
    return found


def takes_config(program):
    """Return True if a program wants a config file, as its usage line says."""
    text = pathlib.Path(program).read_text(errors="replace")
    return "config_file" in text
