"""Starts proxies as programs, and observes them from outside: what they print, use and do.

A Command says which program, and how it takes its port and its backend; a Proxy is one run of it.
"""

import contextlib
import itertools
import os
import pathlib
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import psutil

from support.parts import PARTS, ROOT
from support.peers import HOST, PATIENCE, Client, free_port, wait_until

START_PATIENCE = 15  # seconds that a program may take to start, or to say why it does not
START_LINE = "Started.  Listening on port {port}."
CONFIG = 'listenPort = "{port}"\nbackendAddress = "{backend_host}"\nbackendPort = "{backend_port}"\n'


class Command:
    """How to start a proxy: a list of words, with {port}, {backend_host}, {backend_port} or {config} among them."""

    def __init__(self, words, config=CONFIG):
        """Take the words as they are; `config` is the config file's text, with the same words in braces."""
        self.words = words
        self.config = config

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
        config.write_text(fill(self.config, settings))
        return [fill(word, settings | {"config": config}) for word in self.words]


def fill(text, settings):
    """Return a text with each {name} of the settings replaced; other braces stay, since Lua has its own."""
    for name, value in settings.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


ARGUMENTS = ["{port}", "{backend_host}", "{backend_port}"]


def part_command(part):
    """Return the Command for one of the parts."""
    program = [sys.executable, str(ROOT / PARTS[part] / "rsp.py")]
    return Command(program + (ARGUMENTS if part < 3 else ["{config}"]))


def any_command(text):
    """Return the Command for what --proxy was given: a whole command with placeholders, or just a program.

    A program that says "config" when it is started without arguments is taken to want a config file, any other the
    port, the backend's address and its port. Raises ValueError or OSError, with the reason, for what is no command.
    """
    words = shlex.split(text)
    if not words:
        raise ValueError("it names no program")
    placeholders = re.findall(r"\{\w*\}", text)
    if unknown := [name for name in placeholders if name not in (*ARGUMENTS, "{config}")]:
        raise ValueError(f"there is no {unknown[0]}; what can be filled in: {', '.join(ARGUMENTS)}, {{config}}")
    if placeholders:
        return Command(words)
    if words[0].endswith(".py"):
        words = [sys.executable, os.path.abspath(words[0]), *words[1:]]
    elif os.path.exists(words[0]):
        words[0] = os.path.abspath(words[0])
    try:
        usage = run_briefly(words)
        wants_config = "config" in (usage.stdout + usage.stderr).lower()
    except AssertionError:  # it does something, with no arguments at all
        wants_config = False
    return Command(words + (["{config}"] if wants_config else ARGUMENTS))


def run_briefly(words, **options):
    """Run a program that should exit at once; return a CompletedProcess with what it printed.

    Raises AssertionError, and ends the program, if it keeps running. Options as for subprocess.Popen.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **options
    ) as process:
        try:
            output, errors = process.communicate(timeout=START_PATIENCE)
            return subprocess.CompletedProcess(words, process.returncode, output, errors)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed = "".join(process.communicate()).strip()
            raise AssertionError(
                f"after {START_PATIENCE} s it still runs, and has printed {printed or 'nothing'!r}. "
                "Hint: this is a bad start; say in one line why, and exit with status 1"
            ) from None
        except BaseException:  # Ctrl-C too must leave no process behind
            os.killpg(process.pid, signal.SIGKILL)
            raise


def check_one_line(run, *words):
    """Raise AssertionError unless a program ended with status 1 and just one line, on stderr, that has these words.

    Returns the line.
    """
    assert run.returncode == 1, f"exit status {run.returncode}, not 1; stderr: {run.stderr!r}"
    assert len(run.stderr.splitlines()) == 1, f"not one line on stderr: {run.stderr!r}"
    for word in words:
        assert word in run.stderr, f"{word!r} is missing in {run.stderr!r}"
    assert run.stdout == "", f"on stdout: {run.stdout!r}. Hint: complain on stderr; say nothing before it is true"
    return run.stderr


def tcp_queues():
    """Yield local port, remote port, state, unacknowledged and unread bytes of each TCP socket; see proc(5).

    Sockets in TIME_WAIT (06), which a benchmark leaves behind by the thousand, no longer belong to anybody: left out.
    """
    for line in lines_of_tables():
        if " 06 " not in line:
            _, local, remote, state, queues, *_ = line.split()
            ports = (int(address.rpartition(":")[2], 16) for address in (local, remote))
            yield *ports, state, *(int(queue, 16) for queue in queues.split(":"))


def lines_of_tables(listening=False):
    """Yield the lines of the kernel's two tables of TCP sockets, or only those of sockets that are `listening`.

    These stand at the beginning of a table, and the kernel makes the rest of it only if somebody reads that far.
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


def is_listening(port):
    """Tell whether something listens on a port, without connecting to it."""
    return any(f":{port:04X} " in line for line in lines_of_tables(listening=True))


def is_connecting_to(port):
    """Tell whether a connect to a port is still unanswered (SYN_SENT)."""
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
        self.kept = None  # what it has printed on stdout and stderr, once it has been ended
        if wait:
            self.wait_until_listening()

    def wait_until_listening(self):
        """Wait until its port accepts; end it, and raise AssertionError, when that does not happen."""
        try:
            what = f"the proxy listens on port {self.port}"
            wait_until(lambda: is_listening(self.port) or not self.is_alive(), what, START_PATIENCE)
            assert self.is_alive(), f"the proxy ended at once, saying: {self.output()} {self.errors()}"
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

    def signal_and_wait(self, number=signal.SIGTERM):
        """Send a signal; return how many seconds it took the program to end."""
        start = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{number.name} was sent, and {PATIENCE} s later it still runs") from None
        return time.monotonic() - start

    @contextlib.contextmanager
    def stopped(self):
        """Stop the program (SIGSTOP) for a with-block: what happens meanwhile reaches it all at once, in order."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: self.known().status() == psutil.STATUS_STOPPED, "the proxy has stopped")
            yield
            time.sleep(0.05)  # for the kernel to pass on what was sent last
        finally:
            os.killpg(self.pid, signal.SIGCONT)

    def is_alive(self):
        """Tell whether the program is still running."""
        return self.process.poll() is None

    def output(self):
        """Return what it has printed on stdout."""
        return self.output_path.read_text(errors="replace") if self.kept is None else self.kept[0]

    def errors(self):
        """Return what it has printed on stderr."""
        return self.errors_path.read_text(errors="replace") if self.kept is None else self.kept[1]

    def connect(self, **options):
        """Return a Client of this proxy; see peers.Client for the options."""
        return Client(self.port, **options)

    def get(self, path="/", **options):
        """Return the response to a request on a connection of its own; options as for requests.request."""
        return request(f"http://{HOST}:{self.port}{path}", **options)

    def check_alive(self):
        """Raise AssertionError when the program has ended."""
        assert self.is_alive(), f"the proxy has ended, saying: {self.errors() or 'nothing'}"

    def check_unharmed(self):
        """Raise AssertionError when the program has ended or printed a traceback."""
        self.check_alive()
        assert "Traceback" not in self.errors(), f"a traceback in the proxy's log:\n{self.errors()}"

    def known(self):
        """Return what the system knows of it, as a psutil.Process."""
        self.check_alive()
        return psutil.Process(self.pid)

    def memory(self):
        """Return its resident memory, in bytes."""
        return self.known().memory_info().rss

    def cpu_seconds(self):
        """Return the processor time it has used, itself and in the kernel."""
        times = self.known().cpu_times()
        return times.user + times.system

    def open_files(self):
        """Return the number of its open file descriptors."""
        return self.known().num_fds()

    def limit_open_files(self, count):
        """Let it have this many file descriptors and no more; see prlimit(2)."""
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (count, count))


def request(url, method="GET", session=None, timeout=PATIENCE, **options):
    """Return the response to an HTTP request; what goes wrong is an AssertionError.

    Without a session the request has a connection of its own, and asks for it to be closed.
    """
    import requests  # here, since it takes a third of a second, and most programs that import this file ask for nothing

    own_session = session or requests.Session()
    own_session.trust_env = False  # no proxy but ours
    if session is None:
        options["headers"] = {"Connection": "close", **options.get("headers", {})}
    try:
        return own_session.request(method, url, timeout=timeout, **options)
    except requests.RequestException as error:
        raise AssertionError(
            f"{method} {url} got no whole answer: {plain_reason(error, timeout)}. "
            "Hint: did the proxy close the connection, or is somebody else being served?"
        ) from None
    finally:
        if session is None:
            own_session.close()


def plain_reason(error, timeout):
    """Return in a few words why a request failed; requests has many."""
    reasons = {
        "timed out": f"nothing came for {timeout} s",
        "Connection refused": "nobody listens at that port",
        "reset by peer": "the connection was reset",
        "without response": "the connection was closed without a word",
    }
    return next((plain for words, plain in reasons.items() if words in str(error)), str(error))


def check_quiet(proxy, seconds=1.0, most=0.2):
    """Raise AssertionError when a proxy with nothing to do uses more than a share of `most` of a processor."""
    before = proxy.cpu_seconds()
    time.sleep(seconds)
    used = proxy.cpu_seconds() - before
    assert used < most * seconds, (
        f"{used:.2f} s of processor time in {seconds} s with nothing to do. "
        "Hint: which event is reported again and again, and does anybody act on it?"
    )
