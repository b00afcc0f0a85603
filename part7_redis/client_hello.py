"""The server name in a TLS ClientHello: which site a client wants, said before anything is encrypted.

A client begins with handshake records (RFC 8446, section 5.1). Their contents, put together, are a ClientHello (section
4.1.2), and the server_name extension in it (RFC 6066, section 3) has the name. Where records and TCP segments are cut
means nothing: a record may end within the name. No sockets here: bytes go in, and the name comes out.

The name is a hint, not a right: any client can send any name, and with Encrypted Client Hello it is a decoy.
"""

import re

from names import dns_name

MORE = object()  # the answer as long as the ClientHello is not all there
MAX_HELLO = 16384  # bytes, record headers included
MAX_RECORD = 16384  # bytes that a record may hold (RFC 8446, section 5.1)
HANDSHAKE, CLIENT_HELLO, SERVER_NAME, HOST_NAME = 22, 1, 0, 0  # a record, a message, an extension, a kind of name

OLD_HELLO = re.compile(rb"[\x80-\xff].\x01(\x00\x02|\x03[\x00-\x03])", re.DOTALL)  # of SSL 2.0 (RFC 5246, E.2)

DECODE_ERROR, INTERNAL_ERROR, UNRECOGNIZED_NAME = 50, 80, 112  # alerts (RFC 8446, section 6)


class HelloError(Exception):
    """What a client sent is not a ClientHello that we understand."""

    def __init__(self, alert, cause):
        """Keep the number of the TLS alert to answer with, and the cause, one line."""
        super().__init__(cause)
        self.alert = alert


class HelloReader:
    """Reads one ClientHello, which may come in any number of pieces.

    Each piece costs only what is new in it: 16 KiB, byte by byte and in records of one byte, take some 40 ms in all.
    """

    def __init__(self):
        """Begin with nothing."""
        self.received = bytearray()  # all of it, as it came
        self.position = 0  # in `received`, of the first record that is not whole yet
        self.message = bytearray()  # what the whole records hold

    def feed(self, data: bytes) -> str | None | object:
        """Return the server name, normalized; None when the client names none; MORE when that can't be known yet.

        Raises HelloError. What comes after the ClientHello is kept in `received`, and not looked at.
        """
        self.received += data
        if self.received[:1] >= b"\x80":
            return self.read_old_hello()
        while self.take_record():
            if len(self.message) >= 4:
                end = 4 + int.from_bytes(self.message[1:4], "big")
                if self.message[0] != CLIENT_HELLO or end > MAX_HELLO or end < len(self.message):
                    raise HelloError(DECODE_ERROR, "not a ClientHello, or one that is too long")
                if end == len(self.message):
                    return name_in_hello(memoryview(self.message)[4:])
        return MORE

    def read_old_hello(self):
        """Return None for a hello as SSL 2.0 had it, which some old clients begin TLS with: it can name no server."""
        if len(self.received) < 5:
            return MORE
        if not OLD_HELLO.match(self.received):
            raise HelloError(DECODE_ERROR, "not a TLS handshake")
        return None

    def take_record(self) -> bool:
        """Add the contents of one more record to the message; return False when it is not all there."""
        header = self.received[self.position : self.position + 5]  # type, version (3, something), length
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\3"):
            raise HelloError(DECODE_ERROR, "not a TLS handshake")
        if len(header) < 5:
            return False
        start = self.position + 5
        end = start + int.from_bytes(header[3:], "big")
        if not start < end <= min(start + MAX_RECORD, MAX_HELLO):  # so this is known before the record has come
            raise HelloError(DECODE_ERROR, f"an empty record, or a ClientHello of more than {MAX_HELLO} bytes")
        if len(self.received) < end:
            return False
        self.message += self.received[start:end]
        self.position = end
        return True


def server_name(data: bytes) -> str | None | object:
    """Return what HelloReader makes of a ClientHello in one piece."""
    return HelloReader().feed(data)


def name_in_hello(body):
    """Return the server name in the body of a ClientHello, normalized, or None; raise HelloError."""
    _, body = split_vector(body[34:], 1)  # after the version and 32 random bytes: the session
    _, body = split_vector(body, 2)  # the cipher suites
    _, body = split_vector(body, 1)  # the compression methods
    extensions = []
    if body:  # SSL 3.0 has no extensions
        body, rest = split_vector(body, 2)
        check_empty(rest)
    while body:
        kind = int.from_bytes(body[:2], "big")
        extension, body = split_vector(body[2:], 2)
        if kind == SERVER_NAME:
            extensions.append(extension)
    if len(extensions) > 1:
        raise HelloError(DECODE_ERROR, "two server_name extensions")
    return name_in_extension(extensions[0]) if extensions else None


def name_in_extension(extension):
    """Return the first host name of a server_name extension, normalized, or None; raise HelloError.

    What can't be the name of a host (an address, "site:443", "*.site", UTF-8) is not the name of one of ours: None.
    """
    entries, rest = split_vector(extension, 2)
    check_empty(rest)
    names = []
    while entries:  # there is only one kind of name so far; others would have the same shape
        kind = entries[0]
        name, entries = split_vector(entries[1:], 2)
        if kind == HOST_NAME:
            names.append(bytes(name))
    return dns_name(names[0].decode("latin-1")) if names else None


def split_vector(data, size):
    """Return the vector at the beginning of data, with its length in `size` bytes before it, and what comes after."""
    end = size + int.from_bytes(data[:size], "big")
    if len(data) < end:
        raise HelloError(DECODE_ERROR, "a length in the ClientHello is wrong")
    return data[size:end], data[end:]


def check_empty(rest):
    """Raise HelloError when there is something where nothing should be."""
    if rest:
        raise HelloError(DECODE_ERROR, "a length in the ClientHello is wrong")


def alert(number: int) -> bytes:
    """Return a record with a fatal alert (RFC 8446, section 6).

    Its version is 3.1, TLS 1.0, as in a first ClientHello: clients that have not agreed on a version yet
    accept it, whatever they want to speak.
    """
    return bytes([21, 3, 1, 0, 2, 2, number])
