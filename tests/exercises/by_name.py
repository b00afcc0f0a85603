"""For the exercises of part 6: a proxy that chooses by name, and clients who ask it for one."""

import contextlib

from several import start_config
from support.configs import hosts_text
from support.harness import Command, is_listening
from support.peers import CHUNK, Client, free_port, wait_until

TLS_PATIENCE = 5  # seconds in which a proxy that has its first port has its second, too


def start_by_name(work, name, *backends):
    """Do what start_config does, with a port for TLS as well, RSP_LISTEN_TLS_PORT; return the proxy and that port."""
    tls_port = free_port()
    return with_tls(start_config(work, name, *backends, RSP_LISTEN_TLS_PORT=tls_port), tls_port)


def start_hosts(work, hosts):
    """Return the student's proxy, started with hosts as for hosts_text, and its port for TLS."""
    tls_port = free_port()
    text = hosts_text(hosts, listenTlsPort=str(tls_port))
    return with_tls(work.start_command(Command(work.command().words, text), 0), tls_port)


def with_tls(proxy, tls_port):
    """Return a proxy that has its first port, and its port for TLS, which it has by then, too, or the tasks say so."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: is_listening(tls_port) or not proxy.is_alive(), "it listens for TLS", TLS_PATIENCE)
    return proxy, tls_port


def ask_for(port, *pieces, **options):
    """Send some bytes on a new connection, piece by piece; return what exchange returns."""
    with Client(port, **options) as client:
        for piece in pieces[:-1]:
            client.send(piece)
        return exchange(client, pieces[-1])


def exchange(client, data):
    """Send bytes; return the letter of the backend that has answered, or all of the proxy's own answer, as bytes."""
    answer = b""
    try:
        client.socket.sendall(data)
        answer = client.socket.recv(1)
        while answer[:1] in (b"H", b"\x15") and (more := client.socket.recv(CHUNK)):
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
