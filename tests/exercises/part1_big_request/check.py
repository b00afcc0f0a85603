"""Predict which bytes of a request pass through part 1."""

from support.peers import CHUNK, SilentBackend, StreamingBackend, wait_until, wait_until_still


def bytes_that_arrive(proxy, backend, pieces):
    """Send the pieces of one request; return how many bytes of them the backend gets."""
    with proxy.connect() as client:
        sent = 0
        for piece in pieces:
            client.send(piece)
            sent += len(piece)
            wait_until(lambda: backend.received > 0, "the backend has received something")
            wait_until_still(lambda: backend.received, still=0.2)
    return backend.received


def one_piece(work):
    """A client sends 5,000 bytes with one call. How many of them does the backend get?"""
    answer = work.answer("a")
    with SilentBackend() as backend:
        really = bytes_that_arrive(work.start(backend), backend, [b"x" * 5000])
    work.sent("5,000 bytes in one piece")
    work.came_back(f"the backend got {really:,} of them")
    work.compare(answer, really, "which number is at the top of rsp.py?")


def two_pieces(work):
    """A client sends 100 bytes, waits until the backend has them, and sends 200 more. How many does the backend get?"""
    answer = work.answer("b")
    with SilentBackend() as backend:
        really = bytes_that_arrive(work.start(backend), backend, [b"x" * 100, b"x" * 200])
    work.sent("100 bytes, and a little later 200 bytes")
    work.came_back(f"the backend got {really:,} bytes")
    work.compare(answer, really, "how often does part 1 call recv on the client's socket?")


def how_it_ends(work):
    """The 5,000 bytes again; the backend answers 10 bytes and closes. The client gets these 10, and then what?
    "end of file" or "reset"."""
    answer = work.answer("c")
    with StreamingBackend(10) as backend, work.start(backend).connect() as client:
        client.send(b"x" * 5000)
        client.receive_exactly(10)
        try:
            really = "end of file" if not client.socket.recv(CHUNK) else "more bytes"
        except ConnectionResetError:
            really = "reset"
    work.sent("5,000 bytes in one piece; the backend answers 10 bytes")
    work.came_back(f"10 bytes, then: {really}")
    work.compare(answer, really, "what becomes of the bytes that part 1 has not read?")


TASKS = [one_piece, two_pieces, how_it_ends]
