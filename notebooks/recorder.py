"""Records what a proxy does, from inside its process: each wake-up of its epoll, each call on one of its sockets.

    python recorder.py RECORDING path/to/rsp.py ARGUMENTS...

It puts its own classes in place of Python's sockets and select.epoll, then runs rsp.py, which notices nothing. Each
wake-up and each call becomes one line of JSON in the file RECORDING. RecordedProxy, in experiments.py, starts it and
reads that.
"""

import errno
import json
import pathlib
import runpy
import select
import socket
import sys
import time

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
        """Make a socket that no client has yet, or, for a descriptor that was accepted, the latest client's."""
        super().__init__(*arguments, fileno=fileno, **options)
        self.who = self.number = None
        if fileno is not None:
            self.who, self.number = "client", recorder.clients
        recorder.sockets[self.fileno()] = self

    def listen(self, *arguments):
        """Note that this socket listens: it is the server."""
        self.who = "server"
        return super().listen(*arguments)

    def _accept(self):
        """Note which client it accepts: the next one. Every accept, the library's or a part's, calls this."""
        accepted = recorder.call(self, "accept", super()._accept)
        recorder.clients += 1
        return accepted

    def connect(self, address):
        """Note that this socket connects: it is the backend of the latest client."""
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
    """Run a program in this process as if it had been started on its own, and record it."""
    global recorder
    recorder = Recorder(recording)
    socket.socket = socket.SocketType = RecordedSocket  # SocketType: the bare one, for code that wants no more
    select.epoll = RecordedEpoll
    sys.argv = [program, *arguments]
    # What Python does for a program that it starts, and its own pdb and profile do for one that they run:
    sys.path[0] = str(pathlib.Path(program).resolve().parent)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    run_recorded(*sys.argv[1:])
