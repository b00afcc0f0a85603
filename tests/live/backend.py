"""A backend for the live page: sends as many bytes as a request asks for, reads uploads as slowly as it is told.

    python backend.py PORT NAME

    GET /bytes/N[/after/MS]   N bytes of the tests' pattern, after so many milliseconds
    POST /                    reads the body, and answers with a line
    anything else             a line that says which backend this is

Orders come as JSON lines on stdin: {"rate": BYTES_A_SECOND}, {"accept": false}. It tells on stdout, ten times a second,
how many bytes each connection has sent and received, by the client's port.
"""

import array
import asyncio
import fcntl
import json
import re
import socket
import sys
import termios

from support.peers.pattern import pattern

PIECE = 65536  # bytes that are handed to the kernel at a time
REPORT_SECONDS = 0.1
BACKLOG = 64  # connections that wait to be accepted


class LiveBackend:
    """Serves, counts, and reports."""

    def __init__(self, port, name):
        """Serve on a port of 127.0.0.1, under a name."""
        self.name = name
        self.listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
        self.listener.setblocking(False)
        self.rate = None  # bytes a second that an upload is read at; None: as fast as they come
        self.accepting = asyncio.Event()
        self.accepting.set()
        self.connections = {}  # the client's port -> what is shown of it
        self.sockets = {}  # the client's port -> its socket

    async def run(self):
        """Serve until stdin ends."""
        loop = asyncio.get_running_loop()
        accepting = asyncio.create_task(self.accept(loop))
        reporting = asyncio.create_task(self.report())
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = json.loads(line)
            self.rate = order.get("rate", self.rate)
            if "accept" in order:
                (self.accepting.set if order["accept"] else self.accepting.clear)()
                self.listener.listen(BACKLOG if order["accept"] else 0)  # a short queue is soon full
        accepting.cancel()
        reporting.cancel()

    async def accept(self, loop):
        """Accept clients, unless told not to."""
        tasks = set()
        while True:
            await readable(loop, self.listener)
            await self.accepting.wait()
            try:
                sock, (_, port) = self.listener.accept()
            except BlockingIOError:
                continue
            sock.setblocking(False)
            known = self.connections[port] = {"sent": 0, "received": 0, "asked": 0, "inq": 0, "outq": 0, "ended": None}
            self.sockets[port] = sock
            task = asyncio.create_task(self.serve(loop, sock, known))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def serve(self, loop, sock, known):
        """Answer one request after another, and note how the connection ends."""
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    piece = await self.receive(loop, sock, known)
                    if not piece:
                        known["ended"] = known["ended"] or "end of file"
                        return
                    data += piece
                head, _, data = data.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                data = await self.read_body(loop, sock, known, data, int(length[1]) if length else 0)
                await self.answer(loop, sock, known, head)
        except ConnectionResetError:
            known["ended"] = "reset"
        except OSError as error:
            known["ended"] = error.strerror
        finally:
            sock.close()

    async def receive(self, loop, sock, known):
        """Read once, at the rate that an upload may have."""
        piece = await loop.sock_recv(sock, PIECE if self.rate is None else max(1, self.rate // 10))
        known["received"] += len(piece)
        if self.rate is not None:
            await asyncio.sleep(0.1)
        return piece

    async def read_body(self, loop, sock, known, data, length):
        """Read and drop the rest of a body; return what came after it."""
        while len(data) < length:
            length -= len(data)
            data = await self.receive(loop, sock, known)
            if not data:
                raise ConnectionResetError
        return data[length:]

    async def answer(self, loop, sock, known, head):
        """Send what was asked for."""
        asked = re.match(rb"GET /bytes/(\d+)(?:/after/(\d+))? ", head)
        if asked and asked[2]:
            await asyncio.sleep(int(asked[2]) / 1000)
        count = int(asked[1]) if asked else 0
        text = b"" if asked else f"This is backend {self.name}.\n".encode()
        reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count or len(text)) + text
        known["asked"] += len(reply) + count
        await self.send(loop, sock, known, reply)
        for start in range(0, count, PIECE):
            await self.send(loop, sock, known, pattern(start, min(PIECE, count - start)))

    async def send(self, loop, sock, known, data):
        """Send all of this, and count what the kernel has taken."""
        view = memoryview(data)
        while view:
            try:
                sent = sock.send(view)
            except BlockingIOError:
                await writable(loop, sock)
                continue
            known["sent"] += sent
            view = view[sent:]
            await asyncio.sleep(0)

    def forget(self):
        """Forget the connections that asked for nothing and have ended: health checks come for ever."""
        for port in [port for port, known in self.connections.items() if known["ended"] and not known["asked"]]:
            del self.connections[port], self.sockets[port]

    async def report(self):
        """Tell what has changed, ten times a second."""
        last = None
        while True:
            self.forget()
            for port, sock in self.sockets.items():
                for name, request in (("inq", termios.FIONREAD), ("outq", termios.TIOCOUTQ)):
                    self.connections[port][name] = queue(sock, request)
            line = json.dumps({"connections": self.connections})
            if line != last:
                print(line, flush=True)
                last = line
            await asyncio.sleep(REPORT_SECONDS)


def queue(sock, request):
    """Return how many bytes one of the kernel's two queues of a socket has; 0 when it is closed. See tcp(7)."""
    if sock.fileno() < 0:
        return 0
    count = array.array("i", [0])
    fcntl.ioctl(sock, request, count)
    return count[0]


async def readable(loop, sock):
    """Wait until a socket has something to read, or a client to accept."""
    news = loop.create_future()
    loop.add_reader(sock, lambda: news.done() or news.set_result(None))
    try:
        await news
    finally:
        loop.remove_reader(sock)


async def writable(loop, sock):
    """Wait until a socket has room."""
    room = loop.create_future()
    loop.add_writer(sock, lambda: room.done() or room.set_result(None))
    try:
        await room
    finally:
        loop.remove_writer(sock)


if __name__ == "__main__":
    asyncio.run(LiveBackend(int(sys.argv[1]), sys.argv[2]).run())
