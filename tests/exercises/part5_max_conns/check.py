"""Checks that a backend has no more connections than it may have."""

import contextlib
import time

from ordinary import life_goes_on
from several import ask, backends_called, connect, held_connections, start_backends, who_serves
from support.configs import backend_text, config_text
from support.peers import wait_until


def say(work, letters):
    """Note who has answered."""
    work.came_back(f"answers of {letters}")
    return letters


def goes_elsewhere(work):
    """A may have 2, and B takes turns with A: of 8 clients who stay, A gets 2, and B all the others."""
    work.sent("A has maxConns = 2; 8 clients come and stay")
    with backends_called("AB") as (one, other), held_connections() as held:
        proxy = start_backends(work, backend_text(one, maxConns=2), other)
        letters = say(work, who_serves(proxy, 8, hold=held))
        assert letters.count("A") == 2, f"A got {letters.count('A')} of them. Hint: what does `active` count?"
        proxy.check_unharmed()


def gets_one_again(work):
    """When one of A's two leaves, A gets another one, but not two. It has not failed: nothing is logged, and it is not
    left out."""
    work.sent("the same; then one of A's clients leaves, and 4 more come")
    with backends_called("AB") as (one, other), held_connections() as held:
        proxy = start_backends(work, backend_text(one, maxConns=2), other)
        who_serves(proxy, 6, hold=held)
        next(sock for letter, sock in held if letter == "A").close()
        wait_until(lambda: one.ends == 1, "A has seen the end")
        time.sleep(0.1)  # until the proxy has closed the pair
        letters = say(work, who_serves(proxy, 4, hold=held))
        assert letters.count("A") == 1, f"A got {letters.count('A')} of the 4. Hint: full is not failed"
        assert proxy.errors() == "", f"it has logged: {proxy.errors()}. Hint: full is not failed"


def backup_and_none(work):
    """A may have 1, its backup B 2: the backup helps out when A is full. When both are, a client is turned away at
    once; when one has left, the next client is served."""
    work.sent(
        "A has maxConns = 1, the backup B maxConns = 2; 3 clients stay, one more comes; one leaves, and one comes"
    )
    with backends_called("AB") as (one, other), held_connections() as held:
        proxy = start_backends(work, backend_text(one, maxConns=1), backend_text(other, maxConns=2, backup=True))
        letters = say(work, who_serves(proxy, 3, hold=held))
        assert letters == "ABB", "not ABB. Hint: a full backend is passed over, and candidates looks for a backup"
        answer = ""
        with contextlib.suppress(ConnectionResetError), connect(proxy) as late:  # a reset may come during the connect
            answer = ask(late)
        work.came_back(f"answers of {letters}; the one more: {'no answer' if answer is None else answer or 'an end'}")
        assert answer == "", "not turned away. Hint: when attempts yields nothing, the client is lost"
        held[0][1].close()
        wait_until(lambda: one.ends == 1, "A has seen the end")
        time.sleep(0.1)
        letters = say(work, who_serves(proxy, 1))
        assert letters == "A", "not by A. Hint: count who leaves, too"


def wrong_values(work):
    """maxConns = 0 is refused, and so is "many": the line begins with backends[1].maxConns. Without maxConns
    there is no limit."""
    for value in (0, "many"):
        with backends_called("AB") as (one, other):  # B has the port on which the proxy would listen: it ends at once
            text = config_text(backend_text(one, maxConns=value)).replace("{port}", str(other.port))
            work.sent(f"maxConns = {value!r}")
            run = work.run_on_config(text)
        right = run.returncode == 1 and "backends[1].maxConns must be a whole number from 1" in run.stderr
        assert right, "no complaint, or another one. Hint: see how read_backend reads the weight"
    work.sent("40 clients who stay, and no maxConns")
    with backends_called("A") as (one,), held_connections() as held:
        say(work, who_serves(start_backends(work, one), 40, hold=held))


def limited(work, backend):
    """Return the student's proxy, in front of a backend that may have two connections."""
    return start_backends(work, backend_text(backend, maxConns=2))


TASKS = [goes_elsewhere, gets_one_again, backup_and_none, wrong_values, life_goes_on(limited)]
