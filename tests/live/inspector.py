"""Shows the inside of a proxy while it works: what each turn of its loop brought, did, and left where.

    python inspector.py DESCRIPTOR path/to/rsp.py ARGUMENTS...

It runs rsp.py as the notebooks' recorder does: with its own sockets and epoll in place of Python's. The program notices
nothing, and its files know nothing of this. DESCRIPTOR is one end of a Unix socket. What happens goes out there, one
JSON object a line: a frame for each turn of the loop, and another when a kernel's queue has changed between two turns.
Orders that say how fast the loop may turn come in the same way.

The loop is held between two turns, inside epoll's poll. The kernel knows nothing of that: its queues go on filling.
"""

import array
import contextlib
import fcntl
import json
import os
import pathlib
import runpy
import select
import socket
import sys
import termios
import time

import recorder
from recorder import RecordedEpoll, RecordedSocket, event_names

SAMPLE_SECONDS = 0.1  # between two looks at the kernel's queues while nothing happens
LONG_ROUND = 0.3  # seconds; a turn of the loop that takes longer keeps everybody waiting
STUCK_SECONDS = 1.0  # a side that could read on, and doesn't for so long, has been forgotten
IDLE_TURNS = 50  # turns in a row, in which the loop is woken and makes no call, that are no accident
IDLE_TURNS_SECONDS = 2.0  # the time in which they have to come
MOST_CALLS = 400  # of one turn, in a frame

# The rules that settle follows are told apart by the name of the step, and for `finish` by whether the side is lost.
STEPS = {
    "finish": "finish",
    "reset": "reset the peer",
    "reset_when_delivered": "-> RESETTING",
    "end_output": "end of file -> ENDED",
    "resume": "-> READING",
}


def queue(fd, request):
    """Return how many bytes one of the kernel's two queues of a socket has; 0 for one that has none."""
    count = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, request, count)
    return count[0]


class Side:
    """What is known of one end of a connection: its bytes so far, and what epoll watches for."""

    def __init__(self, sock, who, number):
        """Begin when the connection does."""
        self.who = who  # client or backend
        self.number = number  # of the connection, from 1
        self.socket = sock
        self.fd = sock.fileno()
        self.read = 0  # bytes that the proxy has read from it
        self.sent = 0  # bytes that its kernel has taken from the proxy
        self.lost = 0  # bytes that were read for it, and went nowhere
        self.gaps = []  # where in its bytes: [from, to], in the order of the answer or request
        self.armed = None  # the events that epoll watches for; None: it knows nothing of this socket
        self.port = None  # the other end is found by this
        self.closed = False
        self.stuck_since = None  # when it was first seen to be able to read on, without doing so


class Inspector:
    """Takes the place of the notebooks' Recorder: gathers what a turn of the loop does, and sends it as one frame."""

    def __init__(self, channel, program):
        """Use a connected Unix socket; `program` is the path of rsp.py."""
        self.channel = channel
        self.directory = str(pathlib.Path(program).resolve().parent)
        self.start = time.monotonic()
        self.sockets = {}  # descriptor -> RecordedSocket; the recorder's sockets enter themselves
        self.clients = 0  # accepted so far
        self.wakeups = 0
        self.sides = {}  # (who, number) -> Side, of connections that are open or were a moment ago
        self.calls, self.events, self.rules, self.choices = [], [], [], []  # of this turn
        self.began = self.start  # this turn
        self.handled = 0.0  # seconds that the last turn took
        self.pace, self.delay, self.steps = "live", 0.0, 0  # how the loop may turn
        self.received = b""  # orders that have not come whole
        self.last_queues = None
        self.idle_turns = []  # when the latest turns were in which nothing was done
        self.has_loop = False  # a program without epoll turns with each of its calls
        self.warned = {}  # what has been warned of -> when

    # --- what the recorder's classes call ---------------------------------------------------------------

    def call(self, sock, name, function, *arguments, **details):
        """Make a call on a socket, note its result, and return that."""
        if not self.has_loop and name != "close":
            self.hold_before()
        if (not self.has_loop and name != "close") or name == "connect":  # it may have to wait
            self.tell_waiting(sock, name)
        try:
            return recorder.Recorder.call(self, sock, name, function, *arguments, **details)
        finally:
            if not self.has_loop:
                self.end_turn()

    def write(self, fd, call, started, **details):
        """Note one call, or one event."""
        if call == "wake-up":
            return
        sock = self.sockets.get(fd)
        file, line, function = self.place()
        if sock is not None and sock.who == "backend" and file == "health.py":
            sock.who, sock.number = "check", None  # it belongs to no client
        key = (sock.who, sock.number) if sock else None
        if call in ("accept", "register", "modify") or key is None or key[0] not in ("client", "backend"):
            side = None
        else:
            side = self.side_of(sock)
        if call in ("register", "modify"):
            if sock is not None and sock.who in ("client", "backend"):
                self.side_of(sock).armed = details["events"]
        elif side is not None:
            self.count(side, call, details)
        if len(self.calls) < MOST_CALLS:
            details |= {"call": call, "took": round(time.monotonic() - started, 6)}
            details |= {"who": key and key[0], "number": key and key[1]}
            self.calls.append(details | {"file": file, "line": line, "function": function})

    def count(self, side, call, details):
        """Add what a call has moved to the side's figures."""
        taken = details.get("taken") or 0
        if call in ("recv", "recv_into"):
            side.read += taken
        elif call in ("send", "sendall"):
            side.sent += details["asked"] if call == "sendall" and "error" not in details else taken
        elif call == "close":
            side.closed = True

    def side_of(self, sock):
        """Return the Side of a socket; made when it is first seen."""
        key = (sock.who, sock.number)
        side = self.sides.get(key)
        if side is None or side.socket is not sock:
            before = side
            side = self.sides[key] = Side(sock, *key)
            if before is not None:  # a new socket for the next address: what was read stays read
                side.read, side.sent, side.lost = before.read, before.sent, before.lost
        if side.port is None:
            with contextlib.suppress(OSError, IndexError):
                side.port = (sock.getpeername() if sock.who == "client" else sock.getsockname())[1] or None
        return side

    def number_at(self, port):
        """Return the number of the client that comes from a port; the latest, when it has not said anything yet."""
        for side in self.sides.values():
            if side.who == "client" and side.port == port:
                return side.number
        return self.clients

    def place(self):
        """Return file, line and name of the program's own function that is running."""
        frame = sys._getframe(2)
        while frame is not None and os.path.dirname(frame.f_code.co_filename) != self.directory:
            frame = frame.f_back
        if frame is None:
            return None, None, None
        return os.path.basename(frame.f_code.co_filename), frame.f_lineno, frame.f_code.co_name

    # --- turns ------------------------------------------------------------------------------------------

    def end_turn(self):
        """Send a frame about the turn that has ended."""
        now = time.monotonic()
        self.handled = now - self.began
        frame = {
            "kind": "round",
            "turn": self.wakeups,
            "time": round(now - self.start, 4),
            "took": round(self.handled, 6),
            "events": self.events,
            "calls": self.calls,
            "rules": self.rules,
            "choices": self.choices,
            "lanes": self.lanes(),
            "backends": backend_states(),
        }
        frame["warnings"] = self.warnings(frame, now)
        self.calls, self.events, self.rules, self.choices = [], [], [], []
        self.send(frame)
        for key in [key for key, side in self.sides.items() if side.closed and not self.has_handler(side)]:
            del self.sides[key]

    def has_handler(self, side):
        """Return True if the loop still knows the side's handler."""
        return any(getattr(h, "socket", None) is side.socket for h in handlers().values())

    def lanes(self):
        """Return what is known of each side, with the kernel's queues as they are now."""
        by_socket = {id(getattr(handler, "socket", None)): handler for handler in handlers().values()}
        for handler in list(handlers().values()):
            self.number_after_pair(handler)
        lanes = []
        for side in self.sides.values():
            handler = by_socket.get(id(side.socket))
            waiting = len(getattr(handler, "write_buffer", b""))
            self.find_loss(side, waiting)
            lanes.append(
                {
                    "who": side.who,
                    "number": side.number,
                    "fd": side.fd,
                    "port": side.port,
                    "armed": side.armed,
                    "input": getattr(handler, "input", None),
                    "output": getattr(handler, "output", None),
                    "buffer": waiting if hasattr(handler, "write_buffer") else None,
                    "read": side.read,
                    "sent": side.sent,
                    "lost": side.lost,
                    "gaps": side.gaps[-200:],
                    "inq": 0 if side.closed else queue(side.fd, termios.FIONREAD),
                    "outq": 0 if side.closed else queue(side.fd, termios.TIOCOUTQ),
                    "closed": side.closed,
                }
            )
        return lanes

    def number_after_pair(self, handler):
        """Give a backend's socket the number of its client, when the handler knows both; a retry comes late."""
        pair = getattr(handler, "pair", None)
        client = getattr(getattr(pair, "client", None), "socket", None)
        backend = getattr(getattr(pair, "backend", None), "socket", None)
        if client is None or backend is None or getattr(client, "number", None) is None:
            return
        if getattr(backend, "number", None) != client.number:
            side = self.sides.get((backend.who, backend.number))
            backend.who, backend.number = "backend", client.number
            if side is not None and side.socket is backend:
                self.sides = {key: other for key, other in self.sides.items() if other is not side}
                side.who, side.number = "backend", client.number
                self.sides["backend", client.number] = side

    def find_loss(self, side, waiting):
        """Compare what was read from the peer with what was sent or waits: the difference is lost."""
        peer = self.sides.get(("backend" if side.who == "client" else "client", side.number))
        if peer is None or not self.has_loop or side.closed:
            return
        lost = peer.read - side.sent - waiting
        if lost > side.lost:
            gap = [peer.read - waiting - (lost - side.lost), peer.read - waiting]
            if side.gaps and side.gaps[-1][1] == gap[0]:
                side.gaps[-1][1] = gap[1]
            else:
                side.gaps.append(gap)
            side.lost = lost

    def warnings(self, frame, now):
        """Return, in words, what should not be: each once in a while."""
        found = []
        if frame["took"] >= LONG_ROUND and self.has_loop:
            found.append(("long", f"One round took {1000 * frame['took']:.0f} ms. All other clients waited."))
        for lane in frame["lanes"]:
            name = f"{lane['who']} {lane['number']}"
            armed = lane["armed"] or ()
            if "EPOLLOUT" in armed and "EPOLLET" not in armed and not lane["buffer"] and lane["output"] == "open":
                found.append(
                    (
                        f"room {name}",
                        f"Asked for room at {name}, with nothing to write: epoll reports it again and again.",
                    )
                )
        if self.has_loop and frame["events"] and not frame["calls"]:
            self.idle_turns = [when for when in self.idle_turns if now - when < IDLE_TURNS_SECONDS] + [now]
            if len(self.idle_turns) >= IDLE_TURNS:
                turns = f"{len(self.idle_turns)} rounds in {IDLE_TURNS_SECONDS:.0f} s without a call"
                found.append(("idle", f"Woken, and nothing to do: {turns}."))
        found += self.forgotten(frame["lanes"], now)
        fresh = [(key, text) for key, text in found if now - self.warned.get(key, -10) > 5]
        self.warned.update({key: now for key, _ in fresh})
        return [text for _, text in fresh]

    def forgotten(self, lanes, now):
        """Return a warning for each side that is paused although its peer has nothing left to write."""
        by_key = {(lane["who"], lane["number"]): lane for lane in lanes}
        found = []
        for lane in lanes:
            side = self.sides[lane["who"], lane["number"]]
            peer = by_key.get(("backend" if lane["who"] == "client" else "client", lane["number"]))
            stuck = lane["input"] == "paused" and peer and peer["buffer"] == 0 and peer["output"] == "open"
            side.stuck_since = (side.stuck_since or now) if stuck else None
            if stuck and now - side.stuck_since > STUCK_SECONDS:
                name = f"{lane['who']} {lane['number']}"
                found.append(
                    (
                        f"paused {name}",
                        f"The reading of {name} is paused, although nothing waits any more: it was never resumed.",
                    )
                )
        return found

    # --- the other end ----------------------------------------------------------------------------------

    def send(self, frame):
        """Send one frame; when the other end has gone, the program ends."""
        try:
            self.channel.sendall(json.dumps(frame).encode() + b"\n")
        except OSError:
            os._exit(0)

    def obey(self, seconds):
        """Wait this long for an order, and follow it; return True if there was one."""
        if not select.select([self.channel], [], [], seconds)[0]:
            return False
        data = self.channel.recv(65536)
        if not data:
            os._exit(0)
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            self.pace, self.delay = order.get("pace", self.pace), order.get("delay", self.delay)
            self.steps += order.get("steps", 0)
        return bool(lines)

    def hold(self):
        """Return when the loop may turn again, and show meanwhile what the kernel's queues do."""
        until = time.monotonic() + (self.delay if self.pace == "slow" else 0)
        while self.obey(0):
            pass
        while self.pace == "pause" or time.monotonic() < until:
            if self.steps:
                self.steps -= 1
                return
            self.obey(SAMPLE_SECONDS if self.pace == "pause" else max(0, min(SAMPLE_SECONDS, until - time.monotonic())))
            self.sample(held=self.pace == "pause")
        self.steps = 0

    def tell_waiting(self, sock, name):
        """Send a frame that says in which call the program is, and may have to wait."""
        if sock.who in ("client", "backend"):
            self.side_of(sock)
        file, line, function = self.place()
        place = {"call": name, "file": file, "line": line, "function": function, "waits": True}
        self.sample(waiting=place | {"who": sock.who, "number": sock.number})

    def hold_before(self):
        """Hold a program without a loop before one of its calls."""
        self.hold()
        self.wakeups += 1
        self.began = time.monotonic()

    def sample(self, held=False, waiting=None):
        """Send the kernel's queues, if they have changed since the last frame or sample."""
        now = time.monotonic()
        lanes = self.lanes()
        queues = held, [(lane["who"], lane["number"], lane["inq"], lane["outq"]) for lane in lanes]
        warnings = self.warnings({"took": 0, "lanes": lanes, "events": (), "calls": ()}, now)
        if queues != self.last_queues or warnings or waiting:
            self.last_queues = queues
            self.send(
                {
                    "kind": "sample",
                    "turn": self.wakeups,
                    "time": round(now - self.start, 4),
                    "held": held,
                    "waiting": waiting,
                    "lanes": lanes,
                    "backends": backend_states(),
                    "warnings": warnings,
                }
            )


class InspectedEpoll(RecordedEpoll):
    """An epoll whose poll ends a turn, waits until the next one may begin, and looks at the queues meanwhile."""

    def poll(self, timeout=None, *arguments, **options):
        """Wait for events, in slices, so that what the kernel does in the meantime can be seen."""
        inspector = recorder.recorder
        if not inspector.has_loop:
            inspector.has_loop = True
            watch_modules(inspector)
        else:
            inspector.end_turn()
        inspector.hold()
        found = self.wait(inspector, timeout, arguments, options)
        inspector.wakeups += 1
        inspector.began = time.monotonic()
        for fd, events in found:
            sock = inspector.sockets.get(fd)
            who, number = (sock.who, sock.number) if sock is not None else (None, None)
            inspector.events.append({"who": who, "number": number, "fd": fd, "events": event_names(events)})
        return found

    def wait(self, inspector, timeout, arguments, options):
        """Return what the real epoll reports within the time, or nothing."""
        until = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        while True:
            left = SAMPLE_SECONDS if until is None else max(0, min(SAMPLE_SECONDS, until - time.monotonic()))
            found = self.real.poll(left, *arguments, **options)
            if found or (until is not None and time.monotonic() >= until):
                return found
            inspector.sample()
            if inspector.obey(0):
                inspector.hold()


def handlers():
    """Return the loop's handlers, by descriptor, in a program that has them where the parts do."""
    module = sys.modules.get("epollinterface")
    return getattr(module, "handlers", None) or {}


def watch_modules(inspector):
    """Note which rule settle follows, and which backend is chosen, in a program that has what parts 4 and 5 have."""
    pair_class = getattr(sys.modules.get("pair"), "Pair", None)
    if hasattr(pair_class, "next_step_of"):
        real = pair_class.next_step_of

        def next_step_of(pair, side, peer):
            step = real(pair, side, peer)
            if step is not None:
                who = "client" if side is pair.client else "backend"
                lost = getattr(side, "output", None) == "lost"
                inspector.rules.append({"who": who, "number": side.socket.number, "step": step.__name__, "lost": lost})
            return step

        pair_class.next_step_of = next_step_of
    set_class = getattr(sys.modules.get("backends"), "BackendSet", None)
    if hasattr(set_class, "choose"):
        real_choose = set_class.choose

        def choose(backends, client_address, tried):
            before = [(backend, backend.active, backend.usable, backend.up) for backend in backends.backends]
            chosen = real_choose(backends, client_address, tried)
            if chosen is not None:
                why = reason_for(backends, before, tried)
                number = inspector.number_at(client_address[1])
                inspector.choices.append({"backend": name_of(chosen), "number": number, "why": why})
            return chosen

        set_class.choose = choose


BALANCES = {
    "RoundRobin": "it is its turn (round_robin)",
    "LeastConn": "it has the fewest connections for its weight (least_conn)",
    "RandomOfTwo": "the less busy of two, picked at random (random)",
    "IpHash": "the client's address hashes to it (ip_hash)",
    "LuaBalance": "the config's Lua function says so",
}


def name_of(backend):
    """Return a backend's address and port in one text."""
    return f"{backend.host}:{backend.port}"


def reason_for(backends, before, tried):
    """Return in words why a set of backends has chosen one; `before` is how they were, `tried` who failed."""
    if tried:
        return f"the next one, since {' and '.join(sorted(tried))} did not accept"
    balance = type(getattr(backends, "balancer", None)).__name__
    words = [BALANCES.get(balance, "the first that is usable")]
    words += [f"{name_of(backend)} is down" for backend, _, _, up in before if not up]
    words += [f"{name_of(backend)} is left out, it failed" for backend, _, usable, up in before if up and not usable]
    return "; ".join(words)


def backend_states():
    """Return what a program with several backends knows of each: up or down, connections, failures."""
    module = sys.modules.get("backends")
    sets = getattr(module, "BackendSet", None)
    if sets is None:
        return []
    server = next((h for h in handlers().values() if hasattr(h, "backends")), None)
    found = getattr(getattr(server, "backends", None), "backends", [])
    return [
        {
            "name": name_of(backend),
            "usable": getattr(backend, "usable", True),
            "up": getattr(backend, "up", True),
            "active": getattr(backend, "active", 0),
            "weight": getattr(backend, "weight", 1),
            "backup": getattr(backend, "backup", False),
            "fails": getattr(backend, "fails", 0),
        }
        for backend in found
    ]


def run_inspected(descriptor, program, *arguments):
    """Run a program in this process as if it had been started on its own, and show its inside."""
    channel = socket.socket(fileno=int(descriptor))
    recorder.recorder = Inspector(channel, program)
    recorder.recorder.obey(5)  # the first order says how fast to begin
    socket.socket = socket.SocketType = RecordedSocket
    select.epoll = InspectedEpoll
    sys.argv = [program, *arguments]
    sys.path[0] = str(pathlib.Path(program).resolve().parent)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    run_inspected(*sys.argv[1:])
