"""What the other modules need to know about sockets and addresses.

Mirrors netutils.c of the posts, and gathers here the getaddrinfo calls that the C repeats where it needs them.
"""

import errno
import os
import socket
import struct

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # "any address": to a connect, it is this machine
# What this machine may run out of: descriptors, memory, its own ports. Says nothing about the other machine.
OUR_OWN_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EADDRNOTAVAIL}
NON_BLOCKING_STREAM = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)  # a TCP socket whose calls never wait


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


own_addresses = []  # where this program listens, as getsockname(2) would say it


class Backend:
    """A server that requests are passed on to."""

    def __init__(self, host, port):
        """Look the name up, once: that blocks. Raises OSError with a line that names the backend."""
        self.host = host  # a name or an address
        self.port = port  # a string, as getaddrinfo(3) takes it
        self.addresses = find_backend(host, port)  # as getaddrinfo(3) lists them, tried in this order
        self.family = self.addresses[0][0]  # of the address that is tried first


def find_backend(backend_host, backend_port):
    """Return the backend's addresses; raise OSError with a line that names the backend."""
    try:
        addresses = find_addresses(backend_host, backend_port)
        # ::1 is no use where IPv6 is switched off: keep what this machine can make a socket for.
        addresses = [address for address in addresses if is_usable(address[0])]
        if not addresses:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return addresses
    except OSError as error:
        line = f"Couldn't find backend {backend_host}:{backend_port}: {error.strerror}. Check the name and the port."
        raise OSError(line) from None


def is_usable(family):
    """Return True if this machine has sockets of an address family: IPv4 or IPv6."""
    try:
        create_backend_socket(family).close()
    except OSError as error:  # any other error says that there is none just now
        return error.errno != errno.EAFNOSUPPORT
    return True


def note_own_address(host, port):
    """Remember where this program is going to listen: at the first address that it has sockets for."""
    try:
        found = find_addresses(host, port, socket.AI_PASSIVE)
    except OSError:  # the attempt to listen there will say why
        return
    own_addresses.extend([address for family, _, _, _, address in found if is_usable(family)][:1])


def leads_back(backend):
    """Return True if a connect to one of the backend's addresses would reach this program itself."""
    for family, _, _, _, address in backend.addresses:
        host = WILDCARDS.get(address[0], address[0]).removeprefix("::ffff:")
        for own_host, own_port, *_ in own_addresses:
            is_covered = own_host in (host, "::") or own_host == "0.0.0.0" and ":" not in host
            if address[1] == own_port and is_covered and is_local(family, address):
                return True
    return False


def is_local(family, address):
    """Return True if an address is one of this machine's: no other can be bound to."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError:
        return False
    return True


def is_silent(sock, seconds):
    """Return True if for this long no byte has been sent or received on a TCP socket."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)  # struct tcp_info in linux/tcp.h
    since_sent, _, since_received = struct.unpack_from("III", info, 44)  # milliseconds
    return min(since_sent, since_received) > 1000 * seconds


def without_mapping(address):
    """Return a client's address; one of IPv4 that has come in by an IPv6 socket, ::ffff:192.0.2.1, as one of IPv4."""
    return (address[0][7:], address[1]) if address[0].startswith("::ffff:") else address


def make_socket_non_blocking(sock):
    """Make calls on a socket fail with BlockingIOError where they would have had to wait."""
    sock.setblocking(False)


def create_backend_socket(family):
    """Return a new non-blocking TCP socket of an address family; raise OSError when it can't be made."""
    # For speed: the bare socket, without makefile() and `with`; 5 % of the instructions that a client costs.
    backend_socket = socket.SocketType(family, NON_BLOCKING_STREAM)
    send_at_once(backend_socket)
    notice_silence(backend_socket)
    return backend_socket


def send_at_once(sock):
    """Switch Nagle's algorithm off: it makes small messages wait for the acknowledgement of earlier ones.

    A listening socket hands this on to the ones that it accepts. See TCP_NODELAY in tcp(7).
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def notice_silence(sock):
    """Have the kernel ask a peer that has long been silent whether it is still there, and end the connection if not.

    Otherwise one that vanishes without a word keeps its descriptors for ever. "Long" is two hours, unless the system
    says otherwise (tcp_keepalive_time). A listening socket hands this on, too. See SO_KEEPALIVE in socket(7).
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
