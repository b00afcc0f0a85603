"""Checks that SIGHUP has the config read again."""

import contextlib
import pathlib
import signal
import time

from ordinary import life_goes_on
from support.harness import CONFIG
from support.peers import HOST, EchoBackend, wait_until

ANOTHER_HOST = "127.0.0.2"  # an address of this machine, too


def reload(work, proxy, port, backend_host=HOST, addition=""):
    """Write another config, and send SIGHUP."""
    settings = {"port": proxy.port, "backend_host": backend_host, "backend_port": port}
    pathlib.Path(proxy.words[-1]).write_text(CONFIG.format(**settings) + addition)
    proxy.process.send_signal(signal.SIGHUP)
    work.sent(f"a config with the backend {backend_host}:{port} {addition}, and SIGHUP")


def say_hello(client):
    """Get an echo."""
    client.send(b"hello")
    assert client.receive_exactly(5) == b"hello"


def is_served_by(proxy, backend):
    """Return True if a new client reaches this backend."""
    before = len(backend.connections)
    with contextlib.suppress(AssertionError), proxy.connect() as client:
        say_hello(client)
    return len(backend.connections) > before


def new_backend(work):
    """After SIGHUP a new client is served by the new backend, and a connected one stays where it is."""
    with EchoBackend() as old, EchoBackend(host=ANOTHER_HOST) as new:
        proxy = work.start(old)
        with proxy.connect() as connected:
            say_hello(connected)
            reload(work, proxy, new.port, ANOTHER_HOST)
            with contextlib.suppress(AssertionError):  # not yet
                wait_until(lambda: not proxy.is_alive() or is_served_by(proxy, new), "the new backend is used", 2)
            work.came_back(f"{len(old.connections)} connections to the old backend, {len(new.connections)} to the new")
            assert proxy.is_alive(), "SIGHUP has ended the proxy. Hint: signal.signal(signal.SIGHUP, …)"
            assert new.connections, (
                "the new backend is not used. Hint: which object knows the backend's address and port?"
            )
            say_hello(connected)
        assert is_served_by(proxy, new)
        proxy.check_unharmed()


def check_kept(work, word, **changes):
    """Raise AssertionError unless a bad config costs one line that has the word, and nothing else."""
    with EchoBackend() as backend, EchoBackend() as other:
        proxy = work.start(backend)
        for count in (1, 2):
            reload(work, proxy, other.port, **changes)
            with contextlib.suppress(AssertionError):
                wait_until(lambda n=count: not proxy.is_alive() or len(proxy.errors().splitlines()) >= n, "a line", 2)
        time.sleep(0.1)
        work.came_back(f"the log, after two of them: {proxy.errors()}")
        assert proxy.is_alive(), "it has ended the proxy. Hint: ConfigError can be caught"
        proxy.check_unharmed()
        assert proxy.errors(), (
            "the log says nothing. Hint: who notices the mistake, and when? Look it up, as at the start"
        )
        assert len(proxy.errors().splitlines()) == 2, "not one line in the log for each. Hint: logging.error"
        assert word in proxy.errors(), f"the log does not say {word!r}. Hint: log the reason"
        assert is_served_by(proxy, backend), "the backend has changed. Hint: check everything, then change anything"


def broken_config(work):
    """A config with a mistake in it costs one line in the log, and everything stays as it was."""
    check_kept(work, "unexpected symbol", addition="backendPort = = 1")


def unknown_backend(work):
    """The same for a config that names a backend which can't be found."""
    check_kept(work, "no-such-name.invalid", backend_host="no-such-name.invalid")


def reloaded(work, backend):
    """Return the student's proxy, when it has read its config a second time."""
    proxy = work.start(backend)
    reload(work, proxy, backend.port)
    return proxy


TASKS = [new_backend, broken_config, unknown_backend, life_goes_on(reloaded)]
