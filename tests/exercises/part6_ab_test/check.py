"""Checks that a config shows the new shop to visitors who want it, and to a quarter of the others."""

import contextlib
import random

from by_name import ask_for, brief, start_by_name
from ordinary import life_goes_on
from several import backends_called
from support.peers import hello_bytes, request_text

SHOP = "shop.localhost"
COUNT = 100  # addresses
FEWEST, MOST = 15, 35  # of them that may be shown the new shop
NOT_THEIRS = ("retry=new", "try=newer")  # cookies that are neither try=new nor try=old


def some_addresses():
    """Return addresses from all over this machine's network, 127.0.0.0/8, always the same.

    Their last numbers are spread evenly, so that each honest quarter of them is one. Their lengths are not, so that the
    length of an address is no quarter.
    """
    numbers = random.Random(122)
    addresses = []
    for count in range(COUNT):
        address = ""
        while len(address) not in (12, 13):
            address = f"127.{int(256 * numbers.random())}.{int(256 * numbers.random())}.{1 + 5 * count // 2}"
        addresses.append(address)
    return addresses


ADDRESSES = some_addresses()


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
        for cookies in NOT_THEIRS:
            letters = [who_serves(work, port, SHOP, cookies, source) for source in ADDRESSES[::5]]
            assert "A" in letters, (
                f"all addresses get the new shop with {cookies}. Hint: where does a cookie begin and end?"
            )
    work.sent(f"try=new, alone and among others; then {' and '.join(NOT_THEIRS)}, from {len(ADDRESSES[::5])} addresses")
    work.came_back(f"B each time with try=new; A from {letters.count('A')} addresses with {cookies}")


def by_address(work):
    """Of 100 addresses from all of 127.x.x.x without such a cookie, 15 to 35 get B, and each gets the same one every
    time. With the cookie try=old all of them get A."""
    with ports(work) as (port, _):
        first, second = ([who_serves(work, port, SHOP, source=source) for source in ADDRESSES] for _ in range(2))
        work.sent(f"requests for the shop from {COUNT} addresses, such as {ADDRESSES[7]}, twice")
        count = first.count("B")
        work.came_back(f"{count} addresses get B, {first.count('A')} get A")
        changed = [source for source, one, other in zip(ADDRESSES, first, second, strict=True) if one != other]
        assert not changed, f"{changed[0]} got another one the second time. Hint: nothing but the address should count"
        assert FEWEST <= count <= MOST, (
            "that is no quarter. Hint: a quarter of the numbers that an address may end in, not of its length"
        )
        for source, letter in zip(ADDRESSES, first, strict=True):
            if letter == "B":
                answer = who_serves(work, port, SHOP, "try=old", source)
                assert answer == "A", "not the old shop. Hint: they have chosen"
    work.sent(f"requests for the shop from {COUNT} addresses, twice; then with try=old from the ones that got B")
    work.came_back(f"{count} addresses get B, {first.count('A')} get A; with try=old all get A")


def others(work):
    """Others are served as before: C gets the clients that ask for it, with the cookie too; TLS clients of the shop,
    whose cookies can't be read, all get A; and the log stays empty."""
    with ports(work) as (port, tls_port):
        for source in ADDRESSES[::8]:
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
