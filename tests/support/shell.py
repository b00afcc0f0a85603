"""Runs commands as a reader would paste them.

A reader waits a second for the programs that the commands have started; a busy machine may need more. So, in here, each
sleep first asks us, through a named pipe, to wait until those programs listen.
"""

import contextlib
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

from support.harness import START_PATIENCE, family, has_listener
from support.parts import ROOT
from support.peers import wait_until

PATIENCE = 60  # seconds that commands may take
SERVER = re.compile(rb"http\.server|rsp\.py|backend\.py|redis-server|nc\0-l")  # in the words that start one
ASKED, ANSWERED = "rsp-asked", "rsp-answered"  # the names of the pipes
OVER = "over\n"  # instead of numbers of processes
SLEEP = """sleep() {{
  [ $BASHPID != $$ ] || {{ echo $(jobs -p) >{asked}; read <{answered}; }}
  command sleep "$@"
}}
"""


def renumber(text, numbers):
    """Return a text with some of the numbers in it replaced by others."""
    return re.sub(r"\d+", lambda match: numbers.get(match[0], match[0]), text)


def run(commands, directory, top=ROOT, **variables):
    """Run commands in bash, with this Python as python and python3, from the top directory; return what they print.

    The lines of stdout and stderr, as they come. Whatever they have started and left running is killed. `top` may be
    another directory that looks like the top one.
    """
    for name in ("python", "python3"):
        wrapper = directory / name
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        wrapper.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{directory}:{os.environ['PATH']}",
        "TMPDIR": str(directory),
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    with waiting_for_servers(directory) as sleep:
        process = subprocess.Popen(
            ["bash", "-c", sleep + commands], cwd=top, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"These commands don't end within {PATIENCE} s:\n{commands}") from None
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.communicate()
    return output.splitlines()


@contextlib.contextmanager
def waiting_for_servers(directory):
    """Make a sleep for bash that also waits for servers, and return its text; it works in the with-block."""
    paths = [directory / ASKED, directory / ANSWERED]
    for path in paths:
        os.mkfifo(path)
    asked, answered = (os.open(path, os.O_RDWR) for path in paths)  # both ways: an open for one waits for the other end

    def answer_all():
        """Wait for the servers among the processes that are named, each time that some are."""
        with open(asked) as lines, open(answered, "w") as answers:
            while (line := lines.readline()) != OVER:
                wait_for_servers(list(map(int, line.split())))
                print("go on", file=answers, flush=True)

    thread = threading.Thread(target=answer_all)
    thread.start()
    try:
        yield SLEEP.format(asked=shlex.quote(str(paths[0])), answered=shlex.quote(str(paths[1])))
    finally:
        paths[0].write_text(OVER)
        thread.join()


def is_starting(pid):
    """Return True if a process is a server that does not listen yet, or may become one; see proc(5)."""
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it has ended
        return False
    if not words:  # it has ended, and is not waited for yet; or its program is being loaded
        return state != "Z"
    if words.startswith(b"bash\0"):  # with the whole script among its words: it has yet to start its program
        children = list(family(pid))[1:]
        return not children or any(map(is_starting, children))
    return SERVER.search(words) and not has_listener(family(pid))


def wait_for_servers(pids):
    """Wait, but not for ever, until those of these processes that are servers listen.

    A program that has to find another tries again, after pauses that double; so it gets the same time once more.
    """
    start = time.monotonic()
    if any(map(is_starting, pids)):
        with contextlib.suppress(AssertionError):  # what the commands print will show it
            wait_until(lambda: not any(map(is_starting, pids)), "the servers listen", START_PATIENCE)
        time.sleep(time.monotonic() - start)
