"""Checks that whoever comes to the wrong port is told so in their own protocol."""

import contextlib

from by_name import ask_for, brief, exchange, start_hosts
from ordinary import life_goes_on
from several import LetterBackend
from support.peers import Client, hello_bytes, request_text

NAME = "site1.localhost"
NONSENSE = b"\0\1\2\3 nonsense \r\n\r\n"


@contextlib.contextmanager
def both_ports(work):
    """Yield the HTTP port and the TLS port of the student's proxy, in front of a backend called A."""
    with LetterBackend("A") as backend:
        proxy, tls_port = start_hosts(work, {NAME: backend})
        yield proxy.port, tls_port
        proxy.check_unharmed()


def check_page(answer):
    """Raise AssertionError unless an answer is the page for who speaks HTTP at the TLS port."""
    text = answer.decode("latin-1").lower()
    assert brief(answer) == "400", "no page with status 400. Hint: which byte tells a request from a TLS record?"
    head, _, body = text.partition("\r\n\r\n")
    assert "\r\nconnection: close" in head, "it does not say Connection: close. Hint: `error_page` does all of that"
    assert "https" in body, f"it does not say https: {body.strip()}. Hint: tell people what to type"


def plain_at_tls(work):
    """A plain request at the TLS port gets a page: status 400, with Connection: close, and a text that says https."""
    work.sent(f"GET / HTTP/1.1, Host: {NAME}, to the TLS port")
    with both_ports(work) as (_, tls_port):
        answer = ask_for(tls_port, request_text(NAME))
        work.came_back(brief(answer))
        check_page(answer)


def at_once(work):
    """It gets it as soon as its first byte has come, and whatever its method is."""
    with both_ports(work) as (_, tls_port):
        for method in (b"GET", b"POST", b"PROPFIND"):
            work.sent(f"{method[:1].decode()}, the first byte of {method.decode()} / HTTP/1.1, to the TLS port")
            answer = ask_for(tls_port, method[:1])
            work.came_back(brief(answer))
            check_page(answer)


def tls_at_plain(work):
    """A TLS client at the HTTP port gets a fatal alert as soon as its first byte has come."""
    data = hello_bytes(NAME)
    with both_ports(work) as (port, _):
        for pieces, words in ([data], "a ClientHello"), ([data[:1]], "its first byte alone"):
            work.sent(f"{words}, to the HTTP port")
            answer = ask_for(port, *pieces)
            work.came_back(brief(answer))
            fatal = answer[:2] == b"\x15\3" and answer[3:6] == b"\0\2\2" and len(answer) == 7
            assert fatal, "no fatal alert. Hint: `alert` makes one; which number fits is up to you"


def others(work):
    """All others are treated as before: at the TLS port unknown names, and bytes that are neither HTTP nor TLS,
    get an alert; at the HTTP port such bytes get a page; and whoever has come to the right door is served."""
    body = b"\x16\3\1 looks like TLS"
    with both_ports(work) as (port, tls_port):
        for what, door, pieces, expected in [
            ("a hello for another name, to the TLS port", tls_port, [hello_bytes("other.localhost")], "alert 112"),
            ("bytes that are neither, to the TLS port", tls_port, [NONSENSE], "alert 50"),
            ("bytes that are neither, to the HTTP port", port, [NONSENSE], "400"),
            (f"a hello for {NAME}, to the TLS port", tls_port, [hello_bytes(NAME)], "A"),
            ("the same, byte by byte", tls_port, [bytes([byte]) for byte in hello_bytes(NAME)], "A"),
            (f"a request for {NAME}, to the HTTP port", port, [request_text(NAME)], "A"),
        ]:
            work.sent(what)
            came_back = brief(ask_for(door, *pieces))
            work.came_back(came_back)
            assert came_back == expected, f"not {expected}. Hint: ask for HTTP, or for TLS, not for what it is not"
        work.sent("a request, and then its body, which begins with the byte 22")
        head = request_text(NAME, headers=[f"Content-Length: {len(body)}"])
        with Client(port) as client:
            answers = exchange(client, head), exchange(client, body)
        work.came_back(" and ".join(map(brief, answers)))
        assert answers[1] == b"A", "the body is not passed on. Hint: only a connection's first byte says what it is"


def one_site(work, backend):
    """Return the student's proxy, with both ports and one site."""
    return start_hosts(work, {NAME: backend})[0]


TASKS = [plain_at_tls, at_once, tls_at_plain, others, life_goes_on(one_site, host=NAME)]
