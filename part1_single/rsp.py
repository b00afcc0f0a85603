"""rsp, Really Simple Proxy, part 1: blocking sockets, one client at a time.

A client's request goes to the backend, the backend's whole answer goes back to the client, and only
then is it the next client's turn. Mirrors rsp.c of the post "part 1: a trivial single-threaded proxy".

Still missing:
- A second client waits until the first one has been served, however long that takes.
- Only the first read of a request is passed on: up to 4096 bytes, or less if it arrives in pieces.
"""

import errno
import logging
import signal
import socket
import sys

MAX_LISTEN_BACKLOG = 1  # established connections that the kernel keeps in line until accept takes them
BUFFER_SIZE = 4096  # bytes that one read takes at most


def find_addresses(host, port, flags=0):
    """Return what getaddrinfo(3) knows of a host and a TCP port; raise OSError when that is nothing."""
    is_name = port[:1].isalpha()  # of a service, as in /etc/services
    is_number = port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536
    if not is_name and not is_number:
        # glibc would quietly keep the low 16 bits, 99999 would become 34463, and take no port for any port.
        raise OSError(errno.EINVAL, "a port is a number from 1 to 65535")
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except ValueError:  # Python encodes a name before it asks, and does not take a label over 63 letters
        raise OSError(errno.EINVAL, "not a name that can be looked up") from None


def find_backend(backend_host, backend_port):
    """Return the backend's addresses; raise OSError with a line that names the backend."""
    try:
        return find_addresses(backend_host, backend_port)
    except OSError as error:
        raise OSError(f"Couldn't find backend {backend_host}:{backend_port}: {error.strerror}") from None


def connect_to_backend(backend_host, backend_port):
    """Return a socket connected to the first address that answers; raise OSError when none does."""
    for family, kind, protocol, _, address in find_backend(backend_host, backend_port):
        try:
            backend_socket = socket.socket(family, kind, protocol)
        except OSError as error:
            reason = error.strerror
            continue
        try:
            backend_socket.connect(address)
            return backend_socket
        except OSError as error:
            backend_socket.close()
            reason = error.strerror
    raise OSError(f"Couldn't connect to backend {backend_host}:{backend_port}: {reason}")


def handle_client_connection(client_socket, backend_host, backend_port):
    """Pass one request to the backend and all of its answer to the client.

    Closes the backend's socket; the client's is the caller's. Raises OSError when either side is lost.
    """
    with connect_to_backend(backend_host, backend_port) as backend_socket:
        # Simplified: whatever one read returns is taken for the whole request.
        buffer = client_socket.recv(BUFFER_SIZE)
        if not buffer:  # the client left without a word: nothing to ask the backend
            return
        backend_socket.sendall(buffer)

        while buffer := backend_socket.recv(BUFFER_SIZE):  # no bytes: the backend has closed
            client_socket.sendall(buffer)


def create_and_bind(server_port):
    """Return a TCP socket bound to the port, on the first address that works; raise OSError when none does."""
    # No host and AI_PASSIVE: addresses that fit for bind(2). 0.0.0.0, the first, is every IPv4 address of this machine.
    for family, kind, protocol, _, address in find_addresses(None, server_port, socket.AI_PASSIVE):
        try:
            server_socket = socket.socket(family, kind, protocol)
        except OSError as error:
            reason = error
            continue
        # Without this, the port stays taken for a minute after connections to it have closed.
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server_socket.bind(address)
            return server_socket
        except OSError as error:
            server_socket.close()
            reason = error
    raise reason


def main():
    """Serve one client after another, for ever."""
    # Ctrl-C ends a C program at once. Python would raise KeyboardInterrupt, wherever it happens to be.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.basicConfig(format="%(asctime)s %(message)s")

    if len(sys.argv) != 4:
        sys.exit(f"Usage: {sys.argv[0]} <server_port> <backend_addr> <backend_port>")
    server_port, backend_addr, backend_port = sys.argv[1:]

    try:
        find_backend(backend_addr, backend_port)  # a misspelt name should not wait for the first client
    except OSError as error:
        sys.exit(f"{error}. Check the name and the port.")

    try:
        server_socket = create_and_bind(server_port)
        server_socket.listen(MAX_LISTEN_BACKLOG)
    except OSError as error:
        sys.exit(f"Couldn't listen on port {server_port}: {error.strerror}. Choose another port, or free it.")
    print(f"Started.  Listening on port {server_port}.", flush=True)

    while True:
        try:
            client_socket, _ = server_socket.accept()
        except OSError as error:
            sys.exit(f"Could not accept: {error.strerror}")
        try:
            handle_client_connection(client_socket, backend_addr, backend_port)
        except OSError as error:
            logging.error("%s", error)
        client_socket.close()


if __name__ == "__main__":
    main()
