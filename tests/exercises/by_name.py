"""For the exercises of part 6: a proxy that chooses by name, and clients who ask it for one."""

import socket
import ssl

from several import start_config
from suite.test_backends import backend_text
from support.harness import Command
from support.peers import HOST, PATIENCE, free_port


def start_by_name(work, name, *backends):
    """Do what start_config does, with a port for TLS as well, RSP_LISTEN_TLS_PORT; return the proxy and that port."""
    tls_port = free_port()
    return start_config(work, name, *backends, RSP_LISTEN_TLS_PORT=tls_port), tls_port


def hosts_text(tls_port, hosts):
    """Return the text of a config with hosts: a dict of names and, for each, its backend, or that and more settings."""
    entries = []
    for name, value in hosts.items():
        backend, *more = value if isinstance(value, tuple) else (value,)
        fields = ", ".join([f"backends = {{{backend_text(backend)}}}", *more])
        entries.append(f'["{name}"] = {{{fields}}}')
    tls = f'listenTlsPort = "{tls_port}"\n' if tls_port else ""
    return f'listenPort = "{{port}}"\n{tls}hosts = {{{", ".join(entries)}}}\n'


def start_hosts(work, tls_port, hosts):
    """Return the student's proxy, started with virtual hosts; arguments as for hosts_text."""
    return work.start_command(Command(work.command().words, hosts_text(tls_port, hosts)), 0)


def request(host, *headers, target="/"):
    """Return a request, as bytes."""
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", *headers, "\r\n"]).encode()


def hello(name):
    """Return the first message of a TLS client, as bytes; a name of None is not mentioned in it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:  # it has said hello, and waits
        return outgoing.read()


def ask_for(port, *pieces, source=HOST):
    """Send some bytes on a connection of their own, piece by piece; return what exchange returns."""
    with connect_to(port, source) as sock:
        for piece in pieces[:-1]:
            sock.sendall(piece)
        return exchange(sock, pieces[-1])


def connect_to(port, source=HOST):
    """Return a connection to a port, from an address of this machine, that sends each piece by itself."""
    sock = socket.create_connection((HOST, port), PATIENCE, source_address=(source, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def exchange(sock, data):
    """Send bytes; return the letter of the backend that has answered, or all of the proxy's own answer, as bytes."""
    answer = b""
    try:
        sock.sendall(data)
        answer = sock.recv(1)
        while answer[:1] in (b"H", b"\x15") and (more := sock.recv(65536)):
            answer += more
    except TimeoutError:
        return answer or b"nothing"
    except OSError:
        return answer or b"a reset"
    return answer or b"an end"


def brief(answer):
    """Return an answer in a word: a backend's letter, an HTTP status, or what kind of alert of TLS's it is."""
    if answer.startswith(b"HTTP/"):
        return answer[9:12].decode("latin-1")
    if answer.startswith(b"\x15"):
        return f"alert {answer[6] if len(answer) == 7 else answer!r}"
    return answer.decode("latin-1")
