"""For the exercises of part 5: a proxy in front of several backends that say who they are, and clients who ask them."""

import contextlib
import socket

from support.configs import config_text
from support.harness import Command
from support.peers import HOST, PATIENCE, Backend


class LetterBackend(Backend):
    """Answers whatever it gets with its letter."""

    def __init__(self, letter, port=0):
        """Be called by a letter."""
        self.letter = letter
        super().__init__(port)

    def serve(self, connection):
        """Say who we are, again and again."""
        while self.receive(connection):
            self.send(connection, self.letter.encode())


@contextlib.contextmanager
def backends_called(letters):
    """Yield a list of backends, one for each letter."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(LetterBackend(letter)) for letter in letters]


def start_backends(work, *backends, **settings):
    """Return the student's proxy in front of some backends; arguments as for config_text."""
    return work.start_command(Command(work.command().words, config_text(*backends, **settings)), 0)


def start_config(work, name, *backends, **environment):
    """Return the student's proxy, started on a config of the student's, in front of some backends.

    The config takes its ports from the environment: RSP_LISTEN_PORT, and RSP_BACKEND_A, RSP_BACKEND_B and so on.
    """
    path = work.directory / name
    assert path.exists(), f"there is no {name}. Hint: the starter has one; change that"
    ports = [f"RSP_BACKEND_{letter}={backend.port}" for letter, backend in zip("ABCDE", backends, strict=False)]
    ports += [f"{variable}={value}" for variable, value in environment.items()]
    words = ["env", "RSP_LISTEN_PORT={port}", *ports, *work.command().program, str(path)]
    return work.start_command(Command(words), 0)


def ask(sock, patience=PATIENCE):
    """Ask over a connection who serves it; return the letter, "" for an end or a reset, None for no answer in time."""
    sock.settimeout(patience)
    try:
        sock.sendall(b"?")
        return sock.recv(1).decode()
    except TimeoutError:
        return None
    except OSError:
        return ""


def connect(proxy, source=HOST):
    """Return a connection to a proxy, from an address of this machine; the kernel makes it, if need be."""
    return socket.create_connection((HOST, proxy.port), PATIENCE, source_address=(source, 0))


def who_serves(proxy, count, source=HOST, hold=None):
    """Ask on `count` connections, one after another; return the letters.

    The sockets go into the list `hold`, if there is one, and stay open; otherwise each is closed at once.
    """
    letters = ""
    for _ in range(count):
        try:
            sock = connect(proxy, source)
        except OSError:  # the end may come during the connect
            letter = ""
        else:
            letter = ask(sock)
            if hold is None or not letter:
                sock.close()
            else:
                hold.append((letter, sock))
        assert letter, (
            f"after {letters or 'no answer'}, a client was {'kept waiting' if letter is None else 'turned away'}"
        )
        letters += letter
    return letters


@contextlib.contextmanager
def held_connections():
    """Yield a list for who_serves to hold connections in: pairs of a letter and a socket, closed in the end."""
    held = []
    yield held
    for _, sock in held:
        sock.close()
