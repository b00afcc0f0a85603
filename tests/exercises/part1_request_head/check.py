"""Checks that part 1 reads a whole request head: up to the blank line that ends it."""

import contextlib

from ordinary import life_goes_on
from suite.test_behaviours import test_a_request_may_arrive_in_two_pieces as in_two_pieces
from support.harness import has_unread_bytes
from support.peers import HttpBackend, wait_until

REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def two_pieces(work):
    """A request head that arrives in two pieces gets its answer, wherever it is cut."""
    work.sent("two lines of a GET /, and, when the proxy has read them, the rest")
    work.run_test(in_two_pieces)
    work.sent("GET /, up to the middle of the blank line; when the proxy has read that, the last byte")
    with HttpBackend() as backend:
        proxy = work.start(backend)
        with proxy.connect(timeout=2) as client:
            client.send(REQUEST[:-1])
            wait_until(lambda: not has_unread_bytes(proxy.port), "the proxy has read these bytes")
            client.send(REQUEST[-1:])
            with contextlib.suppress(AssertionError):
                answer = client.receive_all()
                work.came_back(f"{answer[:15]!r}… {answer[-24:]!r}")
                return
    raise AssertionError("no answer. Hint: the blank line may be split, so look for it in all that has come")


def long_head(work):
    """A request head of 10,000 bytes gets its answer."""
    head = b"GET / HTTP/1.0\r\nX-Long: " + b"x" * 9_972 + b"\r\n\r\n"
    with HttpBackend() as backend, work.start(backend).connect() as client:
        work.sent(f"a head of {len(head):,} bytes, {head[:30]!r}…")
        client.send(head)
        answer = client.receive_all()
    work.came_back(f"{answer[:15]!r}… {answer[-24:]!r}")
    assert answer.endswith(b"Hello from the backend.\n"), "not the backend's page. Hint: read on to the blank line"


def left_in_the_middle(work):
    """A client that leaves in the middle of its head harms no other client: the next one is served."""
    work.sent('"GET / HT", and the end. Then, from another client: GET /')
    with HttpBackend() as backend:
        proxy = work.start(backend)
        with proxy.connect() as client:
            client.send(b"GET / HT")
            wait_until(lambda: not has_unread_bytes(proxy.port), "the proxy has read these bytes")
        answer = proxy.get("/", timeout=2)
    work.came_back(f"{answer.status_code} {answer.text!r}")
    proxy.check_unharmed()


def is_cut_off(client, count):
    """Send this many bytes; tell whether the other side ends the connection because of them."""
    try:
        client.socket.sendall(b"x" * count)
        return not client.socket.recv(1)
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def head_without_end(work):
    """A head that never ends is given up after 64 KiB, so that it can't fill the memory."""
    work.sent("1,000,000 bytes without a blank line. Then, from another client: GET /")
    with HttpBackend() as backend:
        proxy = work.start(backend)
        with proxy.connect(timeout=2) as client:
            ended = is_cut_off(client, 1_000_000)
            work.came_back(f"the proxy {'ended the connection' if ended else 'waits for still more'}")
            assert ended, "no end after 1,000,000 bytes. Hint: count what you have, and return when it is too much"
        assert proxy.get("/", timeout=2).status_code == 200


TASKS = [two_pieces, long_head, left_in_the_middle, head_without_end, life_goes_on()]
