"""rsp, Really Simple Proxy, part 1: blocking sockets, one client at a time.

A client's request goes to the backend, the backend's whole answer goes back to the client, and only
then is it the next client's turn. Mirrors rsp.c of the post "part 1: a trivial single-threaded proxy".

Still missing:
- A second client waits until the first one has been served, however long that takes.
- Only the first read of a request is passed on: up to 4096 bytes, or less if it arrives in pieces.
"""

# Ctrl-C ends a C program at once. Python would raise KeyboardInterrupt wherever it happens to be, even in an import.
try:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
except KeyboardInterrupt:
    raise SystemExit(130) from None

import contextlib
import logging
import os
import socket
import sys

MAX_LISTEN_BACKLOG = 1  # established connections that the kernel queues until accept takes them
BUFFER_SIZE = 4096  # bytes per read, at most


def read_answer(backend_socket, request):
    """Send the backend a request and yield its answer as it comes; if the backend is lost, log that."""
    try:
        backend_socket.sendall(request)
        while buffer := backend_socket.recv(BUFFER_SIZE):  # no bytes: the backend has closed
            yield buffer
    except OSError as error:
        logging.error("Lost the backend: %s", error.strerror)


def handle_client_connection(client_socket, backend_host, backend_port):
    """Pass one request to the backend and all of its answer to the client; raise OSError when the client is lost."""
    try:
        backend_socket = socket.create_connection((backend_host, backend_port))
    except (OSError, UnicodeError) as error:  # UnicodeError: not a name that can be looked up, as in a..b
        reason = getattr(error, "strerror", error)
        logging.error("Couldn't connect to backend %s:%s: %s", backend_host, backend_port, reason)
        return
    with backend_socket:
        # Simplified: whatever one read returns is taken for the whole request.
        request = client_socket.recv(BUFFER_SIZE)
        if request:  # no bytes: the client has left without a word
            for buffer in read_answer(backend_socket, request):
                client_socket.sendall(buffer)


def main():
    """Serve one client after another, for ever."""
    logging.basicConfig(format="%(asctime)s %(message)s")

    if len(sys.argv) != 4:
        sys.exit(f"Usage: {sys.argv[0]} <server_port> <backend_addr> <backend_port>")
    server_port, backend_addr, backend_port = sys.argv[1:]
    for port in (server_port, backend_port):
        if not (port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
            sys.exit(f"{port!r} is not a port: a port is a number from 1 to 65535.")

    try:
        server_socket = socket.create_server(("", int(server_port)), backlog=MAX_LISTEN_BACKLOG)
    except OSError as error:
        sys.exit(f"Couldn't listen on port {server_port}: {os.strerror(error.errno)}. Choose another port, or free it.")
    try:
        os.write(1, f"Started.  Listening on port {server_port}.\n".encode())
    except OSError as error:  # stdout is closed or full: serve all the same
        logging.error("Couldn't write the start line to stdout: %s", error.strerror)

    while True:
        client_socket, _ = server_socket.accept()
        with client_socket, contextlib.suppress(OSError):  # clients come and go: no reason for a log line
            handle_client_connection(client_socket, backend_addr, backend_port)


if __name__ == "__main__":
    main()
