"""Starts proxies as programs, and observes them from outside: what they print, use and do.

A Command says which program, and how it takes its port and its backend; a Proxy is one run of it.
"""

import contextlib
import itertools
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time

from support.output import MISTAKE, TRACEBACK, with_output
from support.packages import packages_needed
from support.parts import PARTS, ROOT
from support.peers import HOST, PATIENCE, Backend, Client, free_port, wait_until
from support.peers.talk import Talk

with packages_needed():
    import psutil

START_PATIENCE = 15  # seconds that a program may take to start, or to say why it does not
PROBE_PATIENCE = 5  # seconds that a program may take to say how it is used
LOOK = 0.02  # seconds between two looks whether a proxy sleeps
ALWAYS = 0.9  # the share of these looks at which an endless loop is seen running
START_LINE = "Started.  Listening on port {port}."
CONFIG = 'listenPort = "{port}"\nbackendAddress = "{backend_host}"\nbackendPort = "{backend_port}"\n'
CONFIG_BY_HOST = (
    'listenPort = "{port}"\nhosts = {default = {backends = {{address = "{backend_host}", port = "{backend_port}"}}}}\n'
)
# What a client says first to a proxy that reads HTTP, so that it may then send any bytes it likes: they are the body of
# this request, which is longer than any of them will ever be. The answer may be any bytes, too: it is not read.
OPENING = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % 10**15


class Command:
    """How to start a proxy: a list of words, with {port}, {backend_host}, {backend_port} or {config} among them."""

    def __init__(self, words: list[str], config: str = CONFIG, forgiving: bool = False, by_host: bool = False):
        """The words stay as they are; `config` is the config file's text, with the same words in braces.

        A `forgiving` one is a student's, and may write what it likes into its log. With a config that is `by_host`,
        the proxy reads HTTP: see Proxy.
        """
        self.words = words
        self.config = config
        self.forgiving = forgiving
        self.by_host = by_host

    @property
    def takes_config(self):
        """Whether the settings come from a config file."""
        return any("{config}" in word for word in self.words)

    @property
    def program(self):
        """The words without the settings."""
        return [word for word in self.words if "{" not in word]

    def fill_in(self, port: int, backend_host: str, backend_port: int, directory) -> list[str]:
        """Return the words for one run; writes the config file, if there is one, into the directory."""
        config = pathlib.Path(directory, "config.lua")
        settings = {"port": port, "backend_host": backend_host, "backend_port": backend_port}
        config.write_text(fill(self.config, settings))
        return [fill(word, settings | {"config": config}) for word in self.words]


class CommandByRedis(Command):
    """How to start a part that finds its backend in redis, as that of the default host."""

    databases = itertools.cycle(range(16))  # of a redis-server: for each run the next, so that runs don't meet

    def __init__(self, words: list[str], redis):
        """The words are as in Command; the redis is a RedisServer."""
        super().__init__(words, by_host=True)
        self.redis = redis

    def fill_in(self, port: int, backend_host: str, backend_port: int, directory) -> list[str]:
        """Return the words for one run; puts the backend into redis."""
        database = next(self.databases)
        client = self.redis.make_client(db=database)
        client.flushdb()
        client.sadd("hostnames:httpDefault:backends", f"{backend_host}:{backend_port}")
        client.close()
        self.config = f'listenPort = "{{port}}"\nredis = {{address = "{HOST}", port = "{self.redis.port}", '
        self.config += f"database = {database}}}\n"
        return super().fill_in(port, backend_host, backend_port, directory)


def fill(text: str, settings: dict) -> str:
    """Return a text with each {name} of the settings replaced; other braces stay, since Lua has its own."""
    for name, value in settings.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


# Starts a Python program with a mistake in it, or a mishap: what that is, is done to its modules first.
WITH_A_MISTAKE = """
import os, runpy, sys
sys.argv[:] = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
{mistake}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def with_a_mistake(words: list[str], mistake: str) -> list[str]:
    """Return the words that start the same program after some Python that spoils it."""
    return [words[0], "-c", WITH_A_MISTAKE.replace("{mistake}", mistake), *words[1:]]


ARGUMENTS = ["{port}", "{backend_host}", "{backend_port}"]


def part_command(part: int, by_host: bool = False) -> Command:
    """Return the Command for one of the parts; `by_host`: through a virtual host, for a part that has them."""
    program = [sys.executable, str(ROOT / PARTS[part] / "rsp.py")]
    words = program + (ARGUMENTS if part < 3 else ["{config}"])
    return Command(words, CONFIG_BY_HOST if by_host else CONFIG, by_host=by_host)


def any_command(text: str) -> Command:
    """Return the Command for what --proxy was given: a whole command with placeholders, or just a program.

    A program that says "config" when it is started without arguments is taken to want a config file, any other the
    port, the backend's address and its port. Raises ValueError or OSError, with the reason, for what is no command.
    """
    words = [text] if os.path.isfile(text) else shlex.split(text)  # a path may have blanks
    if not words:
        raise ValueError("it names no program")
    placeholders = re.findall(r"\{\w*\}", text)
    if unknown := [name for name in placeholders if name not in (*ARGUMENTS, "{config}")]:
        raise ValueError(f"there is no {unknown[0]}; what can be filled in: {', '.join(ARGUMENTS)}, {{config}}")
    if placeholders:
        return Command(words, forgiving=True)
    if words[0].endswith(".py"):
        words = [sys.executable, os.path.abspath(words[0]), *words[1:]]
    elif os.path.exists(words[0]):
        words[0] = os.path.abspath(words[0])
    try:
        usage = run_briefly(words, PROBE_PATIENCE)
        wants_config = "config" in (usage.stdout + usage.stderr).lower()
    except AssertionError:  # it does something, with no arguments at all
        wants_config = False
    return Command(words + (["{config}"] if wants_config else ARGUMENTS), forgiving=True)


def run_briefly(words: list[str], patience: float = START_PATIENCE, **options) -> subprocess.CompletedProcess:
    """Run a program that should exit at once; return a CompletedProcess with what it printed.

    Raises AssertionError, and ends the program, if it runs for longer than `patience`. Options as for subprocess.Popen.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **options
    ) as process:
        try:
            output, errors = process.communicate(timeout=patience)
            return subprocess.CompletedProcess(words, process.returncode, output, errors)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            fact = f"after {patience} s it still runs. Hint: a bad start; say in one line why, and exit with status 1"
            raise AssertionError(with_output(fact, "".join(process.communicate()))) from None
        except BaseException:  # Ctrl-C too must leave no process behind
            os.killpg(process.pid, signal.SIGKILL)
            raise


def check_one_line(run: subprocess.CompletedProcess, *words: str) -> str:
    """Raise AssertionError unless a program ended with status 1 and just one line, on stderr, that has these words.

    Returns the line.
    """
    assert run.returncode == 1, with_output(f"exit status {run.returncode}, not 1", run.stderr)
    assert len(run.stderr.splitlines()) == 1, with_output("not one line on stderr", run.stderr)
    for word in words:
        assert word in run.stderr, f"{word!r} is missing in {run.stderr!r}"
    assert run.stdout == "", f"on stdout: {run.stdout!r}. Hint: complain on stderr; say nothing before it is true"
    return run.stderr


def check_complaint(run, *words):
    """Raise AssertionError unless a student's program has ended in failure, and has said one of these words.

    The contract for any proxy: any failing status, a few lines, in capitals or not, wherever.
    """
    printed = run.stdout + run.stderr
    assert run.returncode != 0, with_output("exit status 0, after a bad start. Hint: end with status 1", printed)
    assert TRACEBACK not in printed, with_output("a traceback. Hint: say in one line what is wrong", printed)
    found = any(word.lower() in printed.lower() for word in words)
    assert found, with_output(f"it does not say {' or '.join(words)}. Hint: one line on stderr", printed)


# States of TCP sockets, as in proc(5).
UNANSWERED = ("02", "03", "04", "09", "0B")  # SYN_SENT, SYN_RECV, FIN_WAIT1, LAST_ACK, CLOSING
CONNECTED = ("01", "08")  # ESTABLISHED, CLOSE_WAIT
NONE = "00000000:"  # how the queues begin where all that was sent has been acknowledged


def tcp_queues():
    """Yield local port, remote port, state, unacknowledged and unread bytes of each TCP socket; see proc(5)."""
    for _, local, remote, state, queues, *_ in fields_of_tables():
        yield port_in(local), port_in(remote), state, *(int(queue, 16) for queue in queues.split(":"))


def fields_of_tables():
    """Yield the fields of each line of the kernel's tables of TCP sockets.

    Sockets in TIME_WAIT (06) are left out: a benchmark leaves thousands, and they belong to no process any more.
    """
    return (line.split() for line in lines_of_tables() if " 06 " not in line)


def port_in(address):
    """Return the port in an address of these tables."""
    return int(address.rpartition(":")[2], 16)


def lines_of_tables(listening=False):
    """Yield the lines of the kernel's two tables of TCP sockets, or only those of sockets that are `listening`.

    These are at the beginning of a table, and the kernel makes the rest of it only for a reader that gets that far.
    psutil.net_connections reads all of it, and every process's descriptors, to say whose each is: with 68,000 sockets
    in TIME_WAIT it took 1.7 s, and this 23 ms.
    """
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(path) as table:  # no IPv6 here
            next(table)
            yield from itertools.takewhile(lambda line: " 0A " in line, table) if listening else table


def tcp_sockets():
    """Yield local port, remote port, state and unread bytes of each TCP socket."""
    for local, remote, state, _, unread in tcp_queues():
        yield local, remote, state, unread


def tcp_timers():
    """Yield local port, remote port, state and timer of each TCP socket; "02" is that of SO_KEEPALIVE. See proc(5)."""
    for line in lines_of_tables():
        _, local, remote, state, _, timer, *_ = line.split()
        ports = (int(address.rpartition(":")[2], 16) for address in (local, remote))
        yield *ports, state, timer.partition(":")[0]


def is_listening(port):
    """Return True if something listens on a port, without connecting to it."""
    return any(f":{port:04X} " in line for line in lines_of_tables(listening=True))


def is_connecting_to(port):
    """Return True if a connect to a port is still unanswered."""
    return connects_to(port) > 0


def connects_to(port):
    """Return how many connects to a port are still unanswered (SYN_SENT)."""
    return sum(remote == port and state == "02" for _, remote, state, _ in tcp_sockets())


def waiting_clients(port):
    """Return how many connections to a port are waiting in its accept queue; see proc(5)."""
    rows = (line.split() for line in lines_of_tables(listening=True))
    return sum(int(row[4].partition(":")[2], 16) for row in rows if port_in(row[1]) == port)


def is_somebody_waiting(port):
    """Return True if a connection to a port has not been accepted yet: a listening socket's "unread" counts these."""
    return any(local == port and state == "0A" and unread for local, _, state, unread in tcp_sockets())


def has_unread_bytes(port):
    """Return True if bytes that were sent to a server's port have not been read yet."""
    return any(local == port and state != "0A" and unread for local, _, state, unread in tcp_sockets())


def names_of_files(pids):
    """Return what the open files of these processes are called, such as socket:[INODE]; see proc(5)."""
    names = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            names |= {os.readlink(path) for path in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
    return names


def has_listener(pids):
    """Return True if one of these processes listens on some port."""
    names = names_of_files(pids)
    return any(f"socket:[{line.split()[9]}]" in names for line in lines_of_tables(listening=True))


def is_on_its_way(pids):
    """Return True if something sent to these processes has not arrived: a connect, bytes, an end of file or a reset.

    The kernel passes on at once what is sent on this machine, but not while it has much else to do.
    """
    names = names_of_files(pids)
    rows = list(fields_of_tables())
    ports = {port_in(local) for _, local, *_, inode in (row[:10] for row in rows) if f"socket:[{inode}]" in names}
    sockets = {(port_in(local), port_in(remote)): (state, queues) for _, local, remote, state, queues, *_ in rows}
    for (local, remote), (state, queues) in sockets.items():
        if remote in ports and (state in UNANSWERED or not queues.startswith(NONE)):
            return True
        if local in ports and state in CONNECTED and (remote, local) not in sockets:  # the other end has been reset
            return True
    return False


class Proxy:
    """A running proxy, seen from outside."""

    def __init__(self, command, backend, backend_host=HOST, wait=True, environment=None):
        """Start it in front of a backend, or a port, on its own port; unless `wait` is false, until it listens.

        If it reads HTTP, and the backend doesn't, connect() makes clients that send an opening first, which the
        backend skips: to both, the connection looks as if nothing in between read it.
        """
        backend_port = backend if isinstance(backend, int) else backend.port
        self.opening = b""
        if command.by_host and isinstance(backend, Backend):
            self.opening, backend.skips_head = OPENING, True
        self.directory = tempfile.TemporaryDirectory(prefix="rsp-")
        self.port = free_port()
        self.output_path = pathlib.Path(self.directory.name, "stdout")
        self.errors_path = pathlib.Path(self.directory.name, "stderr")
        self.words = command.fill_in(self.port, backend_host, backend_port, self.directory.name)
        with open(self.output_path, "wb") as output, open(self.errors_path, "wb") as errors:
            self.process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # so that stop() ends whatever the program itself has started
            )
        self.pid = self.process.pid
        self.forgiving = command.forgiving
        self.kept = None  # what it has printed on stdout and stderr, once it has been ended
        if wait:
            self.wait_until_listening()

    def wait_until_listening(self):
        """Wait until its port accepts; end it, and raise AssertionError, when that does not happen."""
        try:
            what = f"the proxy listens on port {self.port}"
            wait_until(lambda: is_listening(self.port) or not self.is_alive(), what, START_PATIENCE)
            self.check_alive()
        except BaseException:  # Ctrl-C too must leave no process behind
            self.stop()
            raise

    def __enter__(self):
        """Return the proxy."""
        return self

    def __exit__(self, *_):
        """End it."""
        self.stop()

    def stop(self):
        """End the program, whatever state it is in."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.kept = self.output(), self.errors()
        self.directory.cleanup()

    def send_signal(self, number):
        """Send a signal, as a terminal does, to all that the command started; raise AssertionError if it has ended."""
        self.check_alive()
        os.killpg(self.pid, number)

    def signal_and_wait(self, number=signal.SIGTERM):
        """Send a signal, as send_signal() does; return the seconds until it ends."""
        start = time.monotonic()
        self.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{number.name} was sent, and {PATIENCE} s later it still runs") from None
        return time.monotonic() - start

    @contextlib.contextmanager
    def stopped(self):
        """Stop the program (SIGSTOP) for a with-block: what happens meanwhile reaches it all at once, in order."""
        self.send_signal(signal.SIGSTOP)
        try:
            stopped = psutil.STATUS_STOPPED
            wait_until(lambda: not self.total(lambda process: process.status() != stopped), "the proxy has stopped")
            yield
            pids = list(family(self.pid))
            with contextlib.suppress(AssertionError):  # a peer may have sent more than the kernel has room for
                wait_until(lambda: not is_on_its_way(pids), "all that was sent has arrived")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGCONT)

    def is_alive(self):
        """Return True if the program is still running."""
        return self.process.poll() is None

    def output(self):
        """Return what it has printed on stdout."""
        return self.output_path.read_text(errors="replace") if self.kept is None else self.kept[0]

    def errors(self):
        """Return what it has printed on stderr."""
        return self.errors_path.read_text(errors="replace") if self.kept is None else self.kept[1]

    def connect(self, **options):
        """Return a Client of this proxy; see peers.Client for the options."""
        client = Client(self.port, **options)
        try:
            client.socket.sendall(self.opening)
        except OSError as error:
            client.close()
            raise AssertionError(with_output(f"a new client couldn't send: {error}", self.printed())) from None
        return client

    def get(self, path="/", **options):
        """Return the response to a request on its own connection; options as for requests.request."""
        return request(f"http://{HOST}:{self.port}{path}", **options)

    def check_alive(self):
        """Raise AssertionError when the program has ended."""
        status = self.process.poll()
        assert status is None, with_output(f"the proxy has ended, with exit status {status}", self.printed())

    def check_unharmed(self):
        """Raise AssertionError when it has ended or logged an exception; a traceback is allowed in a student's."""
        self.check_alive()
        assert MISTAKE not in self.errors(), with_output("an exception in the proxy's log", self.errors())
        assert self.forgiving or TRACEBACK not in self.errors(), with_output(
            "a traceback in the proxy's log", self.errors()
        )

    def printed(self):
        """Return what it has printed, wherever."""
        return self.output() + self.errors()

    def known(self):
        """Return what the system knows of it and of all that it has started, as a list of psutil.Process."""
        self.check_alive()
        processes = []
        for pid in family(self.pid):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                processes.append(psutil.Process(pid))
        return processes

    def total(self, figure):
        """Return the sum of figure(process) over it and all that it has started, without what ends meanwhile.

        Raises AssertionError when the program itself has ended.
        """
        total = 0
        for process in self.known():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += figure(process)
        self.check_alive()
        return total

    def memory(self) -> int:
        """Return its resident memory, in bytes."""
        return self.total(lambda process: process.memory_info().rss)

    def cpu_seconds(self) -> float:
        """Return the processor time it has used, itself and in the kernel."""
        return self.total(lambda process: process.cpu_times().user + process.cpu_times().system)

    def open_files(self) -> int:
        """Return the number of its open file descriptors."""
        return self.total(lambda process: process.num_fds())

    def limit_open_files(self, count: int):
        """Let it have this many file descriptors and no more; see prlimit(2)."""
        more = count - self.open_files()
        for process in self.known():
            limit = process.num_fds() + more
            process.rlimit(psutil.RLIMIT_NOFILE, (limit, limit))

    @contextlib.contextmanager
    def without_descriptors(self):
        """Let it open no file descriptor for a with-block, not even in place of one that it closes."""
        limits = {process: process.rlimit(psutil.RLIMIT_NOFILE) for process in self.known()}
        for process, (_, hard) in limits.items():
            process.rlimit(psutil.RLIMIT_NOFILE, (0, hard))
        yield
        for process, limit in limits.items():
            process.rlimit(psutil.RLIMIT_NOFILE, limit)


def family(pid):
    """Yield the number of a process and of the ones that it has started; a command may be a wrapper. See proc(5)."""
    yield pid
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            for child in path.read_text().split():
                yield from family(int(child))


def request(url, method="GET", session=None, timeout=PATIENCE, **options):
    """Return the response to an HTTP request; what goes wrong is an AssertionError.

    Without a session the request has its own connection, and asks for it to be closed.
    """
    import requests  # here, since it takes a third of a second, and most programs that import this file ask for nothing

    own_session = session or requests.Session()
    own_session.trust_env = False  # no proxy but ours
    if session is None:
        options["headers"] = {"Connection": "close", **options.get("headers", {})}
    talk = Talk()
    try:
        response = own_session.request(method, url, timeout=timeout, **options)
        note_request(talk, response.request)
        talk.heard(f"HTTP/1.1 {response.status_code} {response.reason}\r\n".encode())
        talk.heard(response.content)
        return response
    except requests.RequestException as error:
        whole = requests.Request(method, url, options.get("headers"), data=options.get("data"))
        note_request(talk, error.request or whole.prepare())  # an answer that breaks in its middle comes without
        raise AssertionError(
            f"{method} {url} got no whole answer: {plain_reason(error, timeout)}. "
            "Hint: did the proxy close the connection, or is another client being served?"
        ) from None
    finally:
        if session is None:
            own_session.close()


def note_request(talk, prepared):
    """Note what a request of requests looks like on the line, the head and the body."""
    head = [f"{prepared.method} {prepared.path_url} HTTP/1.1", *map(": ".join, prepared.headers.items()), "\r\n"]
    talk.said("\r\n".join(head).encode())
    talk.said(prepared.body or b"")


def plain_reason(error, timeout):
    """Return in a few words why a request failed; requests has many."""
    reasons = {
        "timed out": f"nothing came for {timeout} s",
        "Connection refused": "no server listens on that port",
        "reset by peer": "the connection was reset",
        "without response": "the connection was closed without a word",
        "Connection broken": "it ended in the middle, or was damaged on its way",
    }
    return next((plain for words, plain in reasons.items() if words in str(error)), str(error))


def check_quiet(proxy, seconds=1.0, most=0.2):
    """Raise AssertionError when a proxy with nothing to do uses more than a share of `most` of a processor.

    On a busy machine, an endless loop gets less than that. But whenever one looks, it is running, or would like to.
    """
    before = proxy.cpu_seconds()
    deadline = time.monotonic() + seconds
    looks = []
    while time.monotonic() < deadline:
        time.sleep(LOOK)
        looks.append(proxy.total(lambda process: process.status() == psutil.STATUS_RUNNING) > 0)
    used = proxy.cpu_seconds() - before
    assert used < most * seconds and sum(looks) < ALWAYS * len(looks), (
        f"{used:.2f} s of processor time in {seconds} s with nothing to do; awake {sum(looks)} of {len(looks)} times. "
        "Hint: which event is reported again and again, and does anybody act on it?"
    )


def check_idle_clients(proxy, backend, most):
    """Raise AssertionError when a silent client costs more memory than `most` bytes; the backend is a Puppet.

    A hundred come first, so that what the proxy sets up once is there before it counts.
    """
    clients = []
    for count in (100, 500):
        before = proxy.memory()
        clients += [proxy.connect() for _ in range(count - len(clients))]
        wait_until(lambda n=count: len(backend.ready) == n, "the backend has them all", 4 * PATIENCE)
    growth = (proxy.memory() - before) / 400
    for client in clients:
        client.close()
    assert growth < most, f"{growth:,.0f} bytes for each idle client. Hint: less than {most:,}; what is kept for it?"
