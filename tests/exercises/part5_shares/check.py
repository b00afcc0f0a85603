"""Predict who of several backends gets how many clients."""

from several import backends_called, held_connections, start_backends, who_serves
from support.configs import backend_text
from support.peers import wait_until

ADDRESSES = [f"127.0.0.{number}" for number in range(1, 25)]


def in_turn(work):
    """In turn, with the weights 3, 1 and 2: who serves the first six clients? A text like "ABCABC"."""
    answer = work.answer("a")
    with backends_called("ABC") as backends:
        weighed = [backend_text(each, weight=weight) for each, weight in zip(backends, (3, 1, 2), strict=True)]
        really = who_serves(start_backends(work, *weighed), 6)
    work.sent("six clients, one after another")
    work.came_back(f"answers of {really}")
    work.compare(answer, really, "add the weights to each one's credit; the first of the richest pays 6")


def one_down(work):
    """A and B take turns, C is their backup, and A is not running. Who serves the first four clients?"""
    answer = work.answer("b")
    with backends_called("ABC") as (one, other, backup):
        one.close()
        really = who_serves(start_backends(work, one, other, backend_text(backup, backup=True)), 4)
    work.sent("four clients, one after another; nothing listens on A's port")
    work.came_back(f"answers of {really}")
    work.compare(answer, really, "what does candidates return while one that is no backup is usable?")


def least_connections(work):
    """With least_conn and the weights 2, 1 and 1, eight clients come and stay. One of B's leaves, and both of C's.
    Seven more come and stay. How many of the seven get A?"""
    answer = work.answer("c")
    with backends_called("ABC") as backends, held_connections() as held:
        proxy = start_backends(work, backend_text(backends[0], weight=2), *backends[1:], balance="least_conn")
        who_serves(proxy, 8, hold=held)
        leaving = [sock for letter, sock in held if letter == "B"][:1] + [
            sock for letter, sock in held if letter == "C"
        ]
        for sock in leaving:
            sock.close()
        wait_until(lambda: [each.ends for each in backends] == [0, 1, 2], "three clients have left")
        letters = who_serves(proxy, 7, hold=held)
    really = letters.count("A")
    work.sent("eight clients that stay; three of them leave; seven more that stay")
    work.came_back(f"the seven got answers of {letters}")
    work.compare(answer, really, "write down active / weight of each, and give each client to the lowest")


def by_address(work):
    """With ip_hash, clients come from 24 addresses. Then C is stopped. Does any client that A or B served get
    another backend, "yes" or "no"?"""
    answer = work.answer("d")
    with backends_called("ABC") as backends:
        proxy = start_backends(work, *backends, balance="ip_hash", failTimeout=60_000)
        before = {address: who_serves(proxy, 1, source=address) for address in ADDRESSES}
        backends[2].close()
        moved = [
            address
            for address, letter in before.items()
            if letter != who_serves(proxy, 1, source=address) and letter != "C"
        ]
    really = "yes" if moved else "no"
    work.sent("a client from each of 24 addresses, before and after C is stopped")
    work.came_back(f"{len(moved)} clients of A or B have moved")
    work.compare(answer, really, "whose points are passed over, and which clients did they serve?")


TASKS = [in_turn, one_down, least_connections, by_address]
