"""What the other modules need to know about sockets and addresses.

Mirrors netutils.c of the posts, and gathers here the getaddrinfo calls that the C repeats where it needs them.
"""

import errno
import socket


def find_addresses(host, port, flags=0):
    """Return what getaddrinfo(3) finds for a host and a TCP port; raise OSError if that is nothing."""
    is_name = port[:1].isalpha()  # of a service, as in /etc/services
    is_number = port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536
    if not is_name and not is_number:
        # glibc would quietly keep the low 16 bits, so that 99999 became 34463, and take "" to mean any port.
        raise OSError(errno.EINVAL, "a port is a number from 1 to 65535")
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except ValueError:  # Python encodes the name first, and rejects labels of more than 63 letters
        raise OSError(errno.EINVAL, "not a name that can be looked up") from None


def find_backend(backend_host, backend_port):
    """Return the backend's addresses; raise OSError with a line that names the backend."""
    try:
        return find_addresses(backend_host, backend_port)
    except OSError as error:
        line = f"Couldn't find backend {backend_host}:{backend_port}: {error.strerror}. Check the name and the port."
        raise OSError(line) from None


def make_socket_non_blocking(sock):
    """Make calls on a socket fail with BlockingIOError where they would have had to wait."""
    sock.setblocking(False)
