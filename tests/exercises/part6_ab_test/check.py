"""Checks that a config shows the new shop to those who want it, and to a quarter of the others."""

import contextlib

from by_name import ask_for, brief, start_by_name
from ordinary import life_goes_on
from several import backends_called
from support.peers import hello_bytes, request_text

SHOP = "shop.localhost"
ADDRESSES = [f"127.0.0.{number}" for number in range(1, 41)]


@contextlib.contextmanager
def ports(work):
    """Yield the HTTP port and the TLS port of the student's proxy, on config.lua and three backends."""
    with backends_called("ABC") as backends:
        proxy, tls_port = start_by_name(work, "config.lua", *backends)
        yield proxy.port, tls_port
        log = proxy.errors()
        assert not log, f"in the log: {log.splitlines()[0]}. Hint: what is nil here, that is not nil elsewhere?"


def who_serves(work, port, host, cookies=None, source=ADDRESSES[0]):
    """Send a request, with cookies or without; return the letter of who has answered, or the status."""
    work.sent(f"Host: {host}, {f'Cookie: {cookies}' if cookies else 'no cookie'}, from {source}")
    headers = [f"Cookie: {cookies}"] if cookies else []
    letter = brief(ask_for(port, request_text(host, headers=headers), source=source))
    work.came_back(letter)
    return letter


def by_cookie(work):
    """A request for shop.localhost gets B with the cookie try=new, wherever it stands among others: id=7; try=new;
    lang=de. With retry=new or try=newer it does not."""
    with ports(work) as (port, _):
        for cookies in ("try=new", "id=7; try=new; lang=de", "id=7; try=new", "try=new; lang=de"):
            for source in ADDRESSES[:4]:
                assert who_serves(work, port, SHOP, cookies, source) == "B", (
                    "not the new shop. Hint: see `request.headers.cookie`"
                )
        for cookies in ("retry=new", "try=newer"):
            letters = {who_serves(work, port, SHOP, cookies, source) for source in ADDRESSES}
            assert "A" in letters, (
                f"everybody gets the new shop, with {cookies}. Hint: where does a cookie begin and end?"
            )


def by_address(work):
    """Of 40 addresses without such a cookie, 6 to 14 get B, and each gets the same one every time. With the cookie
    try=old all of them get A."""
    with ports(work) as (port, _):
        rounds = [[who_serves(work, port, SHOP, source=source) for source in ADDRESSES] for _ in range(3)]
        work.sent("requests for the shop from 40 addresses, three times")
        work.came_back(f"answers of {''.join(rounds[0])}, {''.join(rounds[1])} and {''.join(rounds[2])}")
        assert rounds[0] == rounds[1] == rounds[2], "they change. Hint: nothing but the address should count"
        count = rounds[0].count("B")
        assert 6 <= count <= 14, f"{count} of them get B. Hint: a quarter of the numbers that an address may end in"
        for source in ADDRESSES:
            assert who_serves(work, port, SHOP, "try=old", source) == "A", "not the old shop. Hint: they have chosen"


def others(work):
    """Others are served as before: C gets those who ask for it, with the cookie too; TLS clients of the shop, whose
    cookies nobody can read, all get A; and the log stays empty."""
    with ports(work) as (port, tls_port):
        for source in ADDRESSES[:8]:
            for cookies in (None, "try=new"):
                letter = who_serves(work, port, "other.localhost", cookies, source)
                assert letter == "C", "not the other site. Hint: which `request.host` is your business?"
            work.sent(f"a hello for {SHOP}, to the TLS port, from {source}")
            came_back = brief(ask_for(tls_port, hello_bytes(SHOP), source=source))
            work.came_back(came_back)
            assert came_back == "A", "not the old shop. Hint: `request.tls` tells, and `request.headers` is nil"


def shop(work, backend):
    """Return the student's proxy, on config.lua; all three backends are the same."""
    return start_by_name(work, "config.lua", backend, backend, backend)[0]


TASKS = [by_cookie, by_address, others, life_goes_on(shop, host=SHOP)]
