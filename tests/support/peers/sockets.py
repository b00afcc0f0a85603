"""What clients and backends have in common: the address, free ports, ending a connection with a reset."""

import array
import collections
import contextlib
import fcntl
import os
import pathlib
import random
import socket
import struct
import tempfile
import termios

from support.peers.waiting import LONG_PATIENCE, wait_until

HOST = "127.0.0.1"
FIRST_PORT = 10_000  # the lowest that a test may use
SMALL_BUFFER = 16384  # bytes; a receive buffer so small that its owner counts as slow


class ReservedPorts:
    """The ports that this process has picked, and that no other process of the tests may pick while it runs.

    A free port could be picked twice before the first one listens on it. And a port without a listener, for a backend
    that is down, has to stay without one. So each port is a byte of one file, and picking it locks that byte: see
    fcntl(2), "Advisory record locking". When the process ends, the kernel lets go of its locks.
    """

    MOST = 1000  # ports; then the one picked longest ago is given back

    def __init__(self):
        self.file = None  # opened for the first port
        self.ports = collections.deque()

    def reserve(self, port: int) -> bool:
        """Return True if the port is now this process's own, and False if it was picked before."""
        if self.file is None:
            path = pathlib.Path(tempfile.gettempdir()) / f"rsp-tests-ports-{os.getuid()}"
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if port in self.ports:
            return False
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self.ports.append(port)
        if len(self.ports) > self.MOST:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, self.ports.popleft())
        return True


reserved_ports = ReservedPorts()


def free_port() -> int:
    """Return a TCP port that is not in use, and that no other process of the tests gets meanwhile.

    It is below the range from which the kernel picks a client's port, or some client might get it a moment later.
    """
    return free_ports(1)[0]


def free_ports(count: int) -> list:
    """Return so many free TCP ports, one after another."""
    end = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first_port = FIRST_PORT if end > FIRST_PORT + 10 * count else end
    while True:
        first = random.SystemRandom().randrange(first_port, max(end, first_port + 10_000) - count)
        ports = list(range(first, first + count))
        if all(is_free(port) and reserved_ports.reserve(port) for port in ports):
            return ports


def is_free(port: int) -> bool:
    """Return True if a socket can be bound to a port at the moment."""
    with contextlib.suppress(OSError), socket.socket() as sock:
        sock.bind((HOST, port))
        return True
    return False


def wait_until_acknowledged(sock: socket.socket, patience: float = LONG_PATIENCE):
    """Wait until the other end's kernel has everything that was sent; see SIOCOUTQ in tcp(7)."""

    def unacknowledged():
        count = array.array("i", [0])
        fcntl.ioctl(sock, termios.TIOCOUTQ, count)
        return count[0]

    wait_until(lambda: unacknowledged() == 0, "everything sent is acknowledged", patience)


def set_reset_on_close(sock: socket.socket):
    """Have close(2) send a reset (RST) instead of an end of file (FIN)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_after_delivery(sock: socket.socket):
    """Reset a connection when the other end's kernel has everything that was sent."""
    wait_until_acknowledged(sock)  # a reset overtakes what the kernel has not sent yet
    set_reset_on_close(sock)
    sock.close()
