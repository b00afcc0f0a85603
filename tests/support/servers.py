"""Servers that are not ours, for tests and benchmarks: nginx, and any other program that listens on a port."""

import pathlib
import shlex
import subprocess

from support.harness import START_PATIENCE, is_listening
from support.peers import wait_until
from support.programs import find, stream_module

NGINX = """
daemon off; master_process off; pid {name}.pid; error_log {name}.log crit;
"""
# Part of every http block: only root may write to nginx's defaults. These paths, the pid file and the log are relative
# to the directory that -p names.
NGINX_PATHS = """
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"""


class Server:
    """A running program that listens on a port; to be used in a with-block."""

    def __init__(self, name, port, words):
        """Start it, and wait until it listens; if it doesn't, end it and raise AssertionError."""
        self.name = name
        self.port = port
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: is_listening(port) or not self.is_alive(), f"{name} listens", START_PATIENCE)
            assert self.is_alive(), f"{name} does not start. Try it yourself: {shlex.join(map(str, words))}"
        except BaseException:  # Ctrl-C too must leave no process behind
            self.stop()
            raise

    def __enter__(self):
        """Return the server."""
        return self

    def __exit__(self, *_):
        """End the program."""
        self.stop()

    def is_alive(self):
        """Return True if the program is still running."""
        return self.process.poll() is None

    def stop(self):
        """End the program."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def nginx_words(directory, name, blocks, stream=False):
    """Write a config of these blocks, NAME.conf, and return the command that runs nginx on it, as a single process.

    What nginx writes is in the directory too. An http block needs NGINX_PATHS, a stream block needs `stream`.
    """
    module = stream_module() if stream else ""
    path = pathlib.Path(directory, f"{name}.conf")
    path.write_text((module and f"load_module {module};") + NGINX.format(name=name) + blocks)
    return [find("nginx"), "-p", str(directory), "-c", str(path), "-e", f"{name}-start.log"]
