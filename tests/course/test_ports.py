"""The ports that tests pick: two processes never get the same one while both run."""

import pathlib
import subprocess
import sys

from support.peers.sockets import ReservedPorts, free_port, free_ports

TESTS = pathlib.Path(__file__).parents[1]

OTHER_PROCESS = """
import sys
from support.peers.sockets import reserved_ports
print(reserved_ports.reserve(int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_a_port_is_one_process_own_until_it_ends():
    """Another process can have it only when the first one has gone, however that ended."""
    mine = ReservedPorts()
    port = 9_999  # below the ones that tests pick
    command = [sys.executable, "-c", OTHER_PROCESS, str(port)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=TESTS, **pipes) as other:
        assert other.stdout.readline() == "True\n"
        assert not mine.reserve(port), "two processes have the same port"
        other.kill()
    assert mine.reserve(port), "the port is still taken, although the process that had it has ended"
    assert not mine.reserve(port), "one process picked the same port twice"


def test_ports_are_never_picked_twice():
    """Single ports and rows of ports come from one place."""
    picked = [free_port() for _ in range(20)] + free_ports(5) + free_ports(5)
    assert len(set(picked)) == len(picked)
    assert picked[-5:] == list(range(picked[-5], picked[-5] + 5)), "not one after another"
