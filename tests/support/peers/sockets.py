"""What clients and backends have in common: the address, free ports, ending a connection with a reset."""

import array
import contextlib
import fcntl
import pathlib
import random
import socket
import struct
import termios

from support.peers.waiting import LONG_PATIENCE, wait_until

HOST = "127.0.0.1"
FIRST_PORT = 10_000  # the lowest that a test may use
SMALL_BUFFER = 16384  # bytes; a receive buffer so small that its owner counts as slow


def free_port() -> int:
    """Return a TCP port that nobody is using at the moment.

    It is below the range from which the kernel picks a client's port, or some client might get it a moment later.
    """
    end = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(FIRST_PORT, end) if end > FIRST_PORT else 0
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind((HOST, port))
            return sock.getsockname()[1]


def free_ports(count: int) -> list:
    """Return so many free TCP ports, one after another."""
    while True:
        first = free_port()
        ports = list(range(first, first + count))
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in ports:
                stack.enter_context(socket.socket()).bind((HOST, port))
            return ports


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
