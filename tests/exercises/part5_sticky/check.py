"""Checks that a config keeps each address with its backend."""

import re

from ordinary import life_goes_on
from several import LetterBackend, backends_called, start_config, who_serves
from support.peers import HOST, LONG_PATIENCE, wait_until

ADDRESSES = [
    f"127.0.0.{number}" for number in range(1, 28)
]  # an odd number for each backend, so that taking turns shows
NEW_ADDRESSES = [f"127.0.1.{number}" for number in range(1, 28)]
FAILED = "The function balance failed"  # in the proxy's log
STALE = "its entry still names B: look at `up`, and replace the entry"


def first_letters(proxy, addresses, hint, times=2, when=""):
    """Have a client from each address come `times` times; return a dict of addresses and letters.

    Each round has another order: where backends take turns, the same order may bring the same letters. Raises
    AssertionError with the hint when one address has been served by two backends, or when the function fails.
    """
    orders = [addresses, addresses[::-1], addresses[1:] + addresses[:1]][:times]
    rounds = [{address: who_serves(proxy, 1, source=address) for address in order} for order in orders]
    check_no_failure(proxy)
    for address in addresses:
        letters = "".join(each[address] for each in rounds)
        assert len(set(letters)) == 1, f"{address}{when} was served by {', then '.join(letters)}. Hint: {hint}"
    return rounds[0]


def why_it_changes(work):
    """Return a hint for a config whose addresses change their backend, from how it is written."""
    text = re.sub("--.*", "", (work.directory / "config.lua").read_text(errors="replace"))
    if re.search(r"^\s*balance\s*=\s*[\"']", text, re.MULTILINE):
        return '`balance = "…"` is still there, and the last one counts: leave only the function'
    if "client.port" in text:
        return "`client.port` is another one for each connection: the key is `client.address` alone"
    if re.search(r"\[\s*client\s*\]", text):
        return "`client` is a new table at each call: the key is `client.address`"
    return "a local table above the function remembers which backend an address has"


def check_no_failure(proxy):
    """Raise AssertionError, with the proxy's log line, when the function has failed and round robin chose instead."""
    lines = [line for line in proxy.errors().splitlines() if FAILED in line]
    assert not lines, f"the proxy's log: {lines[0]}. Hint: mend what the line names; until then round robin chooses"


def shares(letters):
    """Return how many addresses each backend has, as a text."""
    counts = [list(letters.values()).count(letter) for letter in "ABC"]
    return ", ".join(f"{letter}: {count}" for letter, count in zip("ABC", counts, strict=True))


def wait_for(proxy, backend, state):
    """Wait until the checks have found a backend "up" or "down"."""
    words = f"Backend {HOST}:{backend.port} is {state}"
    wait_until(lambda: words in proxy.errors(), f"the log says: {words}. Hint: leave `check` as it is", LONG_PATIENCE)


def stays(work):
    """Clients from 27 addresses come three times each, and each address has the same backend all three times."""
    work.sent("81 clients, from 27 addresses")
    with backends_called("ABC") as backends:
        proxy = start_config(work, "config.lua", *backends)
        letters = first_letters(proxy, ADDRESSES, why_it_changes(work), times=3)
        work.came_back(f"addresses: {shares(letters)}")


def spread(work):
    """The addresses are spread: each of the three backends has at least four of the 27."""
    work.sent("27 clients, from as many addresses")
    with backends_called("ABC") as backends:
        proxy = start_config(work, "config.lua", *backends)
        letters = {address: who_serves(proxy, 1, source=address) for address in ADDRESSES}
        work.came_back(f"addresses: {shares(letters)}")
        counts = [list(letters.values()).count(letter) for letter in "ABC"]
        assert min(counts) >= 4, "that is not spread. Hint: give new addresses to the backends in turn"
        check_no_failure(proxy)


def moves(work):
    """B goes down: its addresses move, each to one other backend, all others stay where they are."""
    work.sent("clients from 27 addresses, before and after B goes down")
    with backends_called("ABC") as backends:
        proxy = start_config(work, "config.lua", *backends)
        before = first_letters(proxy, ADDRESSES, why_it_changes(work))
        backends[1].close()
        wait_for(proxy, backends[1], "down")
        after = first_letters(proxy, ADDRESSES, STALE, when=", while B is down,")
        work.came_back(f"addresses before: {shares(before)}; after: {shares(after)}")
        check_others_stay(before, after, "B")


def check_others_stay(before, after, gone):
    """Raise AssertionError when an address has moved that had no reason to."""
    moved = [address for address, letter in before.items() if letter not in (gone, after[address])]
    assert not moved, f"{moved[0]} has moved, too. Hint: is it the addresses that are counted, or the backends?"


def comes_back(work):
    """B comes back: it gets new addresses, at least four of 27, and whoever has moved stays where it is now."""
    work.sent("27 clients, when B is down; then B comes back: the same ones again, and 27 from other addresses")
    with backends_called("ABC") as backends:
        proxy = start_config(work, "config.lua", *backends)
        first_letters(proxy, ADDRESSES, why_it_changes(work), times=1)
        backends[1].close()
        wait_for(proxy, backends[1], "down")
        before = first_letters(proxy, ADDRESSES, STALE, when=", while B is down,")
        with LetterBackend("B", backends[1].port):
            wait_for(proxy, backends[1], "up")
            after = first_letters(proxy, ADDRESSES, STALE, when=", when B was back,")
            new = first_letters(proxy, NEW_ADDRESSES, why_it_changes(work), when=", new when B was back,")
        work.came_back(f"old addresses: {shares(after)}; new ones: {shares(new)}")
        check_others_stay(before, after, "B")
        assert list(new.values()).count("B") >= 4, "B has too few of them. Hint: ask `up` again for each new address"


def sticky(work, backend):
    """Return the student's proxy, on config.lua; all three backends are the same."""
    return start_config(work, "config.lua", backend, backend, backend)


TASKS = [stays, spread, moves, comes_back, life_goes_on(sticky)]
