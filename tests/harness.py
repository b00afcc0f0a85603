"""Starts proxies as programs, and looks at them from outside: what they print, use and do.

Which program, and how it takes its port and its backend, is a Command; a Proxy is one run of it.
"""
import os
import pathlib
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import requests
from behaviours import PARTS
from peers import HOST, PATIENCE, Client, free_port, wait_until

ROOT = pathlib.Path(__file__).resolve().parent.parent
START_PATIENCE = 15  # seconds that a program may take to start, or to say why it does not
START_LINE = "Started.  Listening on port {port}."
CONFIG = 'listenPort = "{port}"\nbackendAddress = "{backend_host}"\nbackendPort = "{backend_port}"\n'


class Command:
    """How to start a proxy: a list of words, with {port}, {backend_host}, {backend_port} or {config} among them."""

    def __init__(self, words):
        """Take the words as they are."""
        self.words = words

    @property
    def takes_config(self):
        """Whether the settings come from a config file."""
        return any("{config}" in word for word in self.words)

    @property
    def program(self):
        """The words without the settings."""
        return [word for word in self.words if "{" not in word]

    def fill_in(self, port, backend_host, backend_port, directory):
        """Return the words for one run; writes the config file, if there is one, into the directory."""
        config = pathlib.Path(directory, "config.lua")
        settings = {"port": port, "backend_host": backend_host, "backend_port": backend_port}
        config.write_text(CONFIG.format(**settings))
        return [word.format(config=config, **settings) for word in self.words]


ARGUMENTS = ["{port}", "{backend_host}", "{backend_port}"]


def part_command(part):
    """Return the Command for one of the parts."""
    program = [sys.executable, str(ROOT / PARTS[part] / "rsp.py")]
    return Command(program + (ARGUMENTS if part < 3 else ["{config}"]))


def any_command(text):
    """Return the Command for what --proxy was given: a whole command with placeholders, or just a program.

    A program that says "config" when it is started without arguments is taken to want a config file, any other the
    port, the backend's address and its port.
    """
    words = shlex.split(text)
    if any("{" in word for word in words):
        return Command(words)
    if words[0].endswith(".py"):
        words = [sys.executable, os.path.abspath(words[0]), *words[1:]]
    elif os.path.exists(words[0]):
        words[0] = os.path.abspath(words[0])
    try:
        usage = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_PATIENCE)
        wants_config = "config" in (usage.stdout + usage.stderr).lower()
    except subprocess.TimeoutExpired:  # it does something, with no arguments at all
        wants_config = False
    return Command(words + (["{config}"] if wants_config else ARGUMENTS))


def tcp_sockets():
    """Yield local port, remote port, state and unread bytes of each TCP socket; see proc(5), /proc/net/tcp."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):  # no IPv6 here
            continue
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            _, local, remote, state, queues, *_ = line.split()
            ports = (int(address.rpartition(":")[2], 16) for address in (local, remote))
            yield *ports, state, int(queues.rpartition(":")[2], 16)


def is_listening(port):
    """Tell whether somebody listens on a port, without knocking."""
    return any(local == port and state == "0A" for local, _, state, _ in tcp_sockets())


def is_connecting_to(port):
    """Tell whether somebody's connect to a port is still unanswered (SYN_SENT)."""
    return any(remote == port and state == "02" for _, remote, state, _ in tcp_sockets())


def has_unread_bytes(port):
    """Tell whether bytes that were sent to a server's port have not been read yet."""
    return any(local == port and state != "0A" and unread for local, _, state, unread in tcp_sockets())


class Proxy:
    """A running proxy, seen from outside."""

    def __init__(self, command, backend_port, backend_host=HOST, wait=True, environment=None):
        """Start it on a free port; unless `wait` is false, return when it listens."""
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
        if wait:
            self.wait_until_listening()

    def wait_until_listening(self):
        """Wait until its port accepts; end it, and raise AssertionError, when that does not happen."""
        try:
            what = f"the proxy listens on port {self.port}"
            wait_until(lambda: is_listening(self.port) or not self.is_alive(), what, START_PATIENCE)
            assert self.is_alive(), f"the proxy ended at once, saying: {self.output()} {self.errors()}"
        except AssertionError:
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
        self.directory.cleanup()

    def signal_and_wait(self, number=signal.SIGTERM):
        """Send a signal; return how many seconds it took the program to end."""
        start = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{number.name} was sent, and {PATIENCE} s later it still runs") from None
        return time.monotonic() - start

    def freeze(self):
        """Stop the program where it is (SIGSTOP), and return when it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        stat = pathlib.Path(f"/proc/{self.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the proxy stands still")

    def thaw(self):
        """Let a frozen program go on."""
        self.process.send_signal(signal.SIGCONT)

    def is_alive(self):
        """Tell whether the program is still running."""
        return self.process.poll() is None

    def output(self):
        """Return what it has printed on stdout."""
        return self.output_path.read_text(errors="replace")

    def errors(self):
        """Return what it has printed on stderr."""
        return self.errors_path.read_text(errors="replace")

    def connect(self, **options):
        """Return a Client of this proxy; see peers.Client for the options."""
        return Client(self.port, **options)

    def get(self, path="/", **options):
        """Return the response to a request of its own connection; options as for requests.request."""
        return request(f"http://{HOST}:{self.port}{path}", **options)

    def check_unharmed(self):
        """Raise AssertionError when the program has ended or printed a traceback."""
        assert self.is_alive(), f"the proxy has ended, saying: {self.errors() or 'nothing'}"
        assert "Traceback" not in self.errors(), f"a traceback in the proxy's log:\n{self.errors()}"

    def memory(self):
        """Return its resident memory, in bytes; see proc(5), /proc/pid/statm."""
        pages = int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def cpu_seconds(self):
        """Return the processor time it has used; see proc(5), /proc/pid/stat."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self):
        """Return the number of its open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def limit_open_files(self, count):
        """Let it have so many file descriptors, and no more; see prlimit(2)."""
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (count, count))


def request(url, method="GET", session=None, timeout=PATIENCE, **options):
    """Return the response to an HTTP request; what goes wrong is an AssertionError.

    Without a session the request has a connection of its own, and asks for it to be closed.
    """
    own_session = session or requests.Session()
    own_session.trust_env = False  # no proxy but ours
    if session is None:
        options["headers"] = {"Connection": "close", **options.get("headers", {})}
    try:
        return own_session.request(method, url, timeout=timeout, **options)
    except requests.RequestException as error:
        raise AssertionError(
            f"{method} {url} got no whole answer: {error}. Hint: did the proxy close the connection, or is "
            "somebody else being served?"
        ) from None
    finally:
        if session is None:
            own_session.close()


def check_quiet(proxy, seconds=1.0, most=0.2):
    """Raise AssertionError when a proxy with nothing to do uses more than a share of `most` of a processor."""
    before = proxy.cpu_seconds()
    time.sleep(seconds)
    used = proxy.cpu_seconds() - before
    assert used < most * seconds, (
        f"{used:.2f} s of processor time in {seconds} s with nothing to do. "
        "Hint: which event is reported again and again, and does anybody act on it?"
    )
