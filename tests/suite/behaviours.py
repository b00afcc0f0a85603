"""What each part can do: the one table that the tests and the README's table both come from.

A test says which row it belongs to with `@pytest.mark.behaviour("name of the row")`. It then runs against
every part that has a word in that row: "yes" is expected to pass, "no" is expected to fail, strictly and for the
reason given here.
"""

from dataclasses import dataclass

from support.parts import PARTS


@dataclass(frozen=True)
class Behaviour:
    """One row of the table."""

    name: str  # what a test's mark says
    text: str  # the README's words
    parts: dict  # part number -> "yes", "no" or "–" (not asked of this part)
    missing: str  # the report card's words for a proxy that can't do it, after "Next: "
    reasons: dict  # part number -> why this part can't do it, for each "no"


def row(name, text, cells, missing, **reasons):
    """Return a row from its cells, one a part, in one string; reasons are given as part1="…" and so on."""
    cells = dict(zip(PARTS, cells.split(), strict=True))
    reasons = {int(part[-1]): reason for part, reason in reasons.items()}
    assert set(reasons) == {part for part, cell in cells.items() if cell == "no"}, name
    return Behaviour(name, text, cells, missing, reasons)


ONE_AT_A_TIME = "part 1 serves one client at a time, and this one has to wait its turn"
ONE_READ = "part 1 reads a request once, and never looks at the client again"
SHORT_WRITES = "what the socket does not take is lost, because nobody looks at what send returned"
END_IS_GONE = "a client that has finished sending is taken to have gone, and both sockets are closed"
BLOCKING_CONNECT = "connect blocks, and with it everything else"
ONE_BACKEND = "one backend is all it knows"
NO_DESCRIPTORS = "with no descriptor left, a client is turned away or the program ends"

BEHAVIOURS = [
    row(
        "serves requests",
        "serves a request; one after another; relays an error response, a chunked response, every byte value",
        "yes yes yes yes yes",
        "pass one request to the backend and its answer back, again and again",
    ),
    row(
        "several clients",
        "serves several clients at once (four 1 s answers in under 2 s)",
        "no yes yes yes yes",
        "several clients at once: the second one waits for the first",
        part1=ONE_AT_A_TIME,
    ),
    row(
        "idle client",
        "an idle client holds up nobody",
        "no yes yes yes yes",
        "a client that says nothing holds up all the others",
        part1=ONE_AT_A_TIME,
    ),
    row(
        "busy stream",
        "a stream at full speed leaves room for a small request",
        "no yes yes yes yes",
        "one big download holds up everybody else",
        part1=ONE_AT_A_TIME,
    ),
    row(
        "request in pieces",
        "takes a request that arrives in two pieces",
        "no yes yes yes yes",
        "when a request arrives in two pieces, the second is lost",
        part1=ONE_READ,
    ),
    row(
        "both directions",
        "keeps a connection open for many requests; carries both directions at once (echo, WebSocket-like)",
        "no yes yes yes yes",
        "a connection is good for one request only",
        part1=ONE_READ,
    ),
    row(
        "slow client",
        "a slow client gets every byte (10 MB and up)",
        "yes no no yes yes",
        "a slow client loses bytes",
        part2=SHORT_WRITES,
        part3=SHORT_WRITES,
    ),
    row(
        "slow backend",
        "a slow backend gets every byte of an upload",
        "no no no yes yes",
        "a slow backend loses bytes of an upload",
        part1=ONE_READ,
        part2=SHORT_WRITES,
        part3=SHORT_WRITES,
    ),
    row(
        "half-closed client",
        "a half-closed client still gets its answer",
        "yes no no yes yes",
        "a client that has finished sending gets no answer",
        part2=END_IS_GONE,
        part3=END_IS_GONE,
    ),
    row(
        "bounded memory",
        "memory stays bounded while a client stalls in a 200 MB answer that then arrives whole",
        "yes no no yes yes",
        "a client that stalls in a big answer fills the memory, or loses bytes",
        part2=SHORT_WRITES,
        part3=SHORT_WRITES,
    ),
    row(
        "silent connect",
        "a backend that does not accept holds up nobody else",
        "no no no yes yes",
        "a backend that does not accept stops everything",
        part1=ONE_AT_A_TIME,
        part2=BLOCKING_CONNECT,
        part3=BLOCKING_CONNECT,
    ),
    row(
        "out of descriptors",
        "survives running out of file descriptors",
        "yes no no yes yes",
        "running out of file descriptors turns clients away, or ends the program",
        part2=NO_DESCRIPTORS,
        part3=NO_DESCRIPTORS,
    ),
    row(
        "survives",
        "survives: client gone mid-answer, backend down, backend dying mid-answer, backend coming back",
        "yes yes yes yes yes",
        "a client or a backend that vanishes takes the proxy with it",
    ),
    row(
        "frugal",
        "leaks no file descriptors; burns no CPU when idle",
        "yes yes yes yes yes",
        "descriptors stay open, or the CPU is busy when nothing happens",
    ),
    row(
        "good manners",
        "says when it is ready; stops cleanly; explains wrong usage and a port in use",
        "yes yes yes yes yes",
        "starting and stopping: the start line, signals, one line for a bad start",
    ),
    row(
        "reads Lua",
        "reads Lua: computed values, a number for a string; explains a missing file, a syntax error, "
        "a missing or wrong setting; cannot reach Python",
        "– – yes yes yes",
        "settings from a Lua file",
    ),
    row(
        "hard use",
        "takes hard use: 100 MB each way, 500 clients, resets passed on, small turns without a stall, "
        "a random mix of everything",
        "– – – yes yes",
        "hard use: big transfers, many clients, resets, a random mix",
    ),
    row(
        "backend down",
        "goes on when a backend refuses, dies or answers no connect: another one gets its clients, and all they sent",
        "no no no no yes",
        "a backend that is down costs clients, even when another one could serve them",
        part1=ONE_BACKEND,
        part2=ONE_BACKEND,
        part3=ONE_BACKEND,
        part4=ONE_BACKEND,
    ),
    row(
        "several backends",
        "spreads clients over several backends: in turn, by weight, by the fewest connections, at random, by address; "
        "backups stand by",
        "– – – – yes",
        "several backends, and five ways to spread clients over them",
    ),
    row(
        "left out",
        "leaves a failing backend out for a while, then lets one client try; never the only one; all down and back",
        "– – – – yes",
        "a backend that fails is tried again and again",
    ),
    row(
        "health checks",
        "checks its backends: down after `fall`, up after `rise`; by HTTP also those that accept and never answer",
        "– – – – yes",
        "health checks",
    ),
    row(
        "Lua chooses",
        "lets a Lua function of the config choose; round robin when it fails; it can't get out of Lua",
        "– – – – yes",
        "a Lua function that chooses the backend",
    ),
    row(
        "backend settings",
        "explains a wrong setting by its full name (`backends[2].port`), and one that looks misspelt",
        "– – – – yes",
        "wrong settings of several backends, explained",
    ),
]

BY_NAME = {behaviour.name: behaviour for behaviour in BEHAVIOURS}


def markdown_table():
    """Return the table as the README has it."""
    lines = ["| behaviour | " + " | ".join(str(part) for part in PARTS) + " |", "|---" * (1 + len(PARTS)) + "|"]
    for behaviour in BEHAVIOURS:
        lines.append("| " + " | ".join([behaviour.text, *behaviour.parts.values()]) + " |")
    return "\n".join(lines)


def verdict(reached, tried):
    """Return, in one sentence or two, what a proxy amounts to that has reached these rows of those that were tried."""
    missing = [row for row in BEHAVIOURS if row.name in tried - reached]
    if len(tried) < len(BEHAVIOURS):
        return f"Next: {missing[0].missing}." if missing else "All that was tried works. Now run the whole suite."
    for part in reversed(PARTS):
        if all(row.name in reached for row in BEHAVIOURS if row.parts[part] == "yes"):
            coming = f"Next: {missing[0].missing}." if missing else "Nothing is missing."
            return f"Your proxy has reached part {part}. {coming}"

    def likeness(part):
        return sum((row.parts[part] == "yes") == (row.name in reached) for row in BEHAVIOURS)

    nearest = max(PARTS, key=likeness)
    missing = [row for row in missing if row.parts[nearest] == "yes"]
    return f"Your proxy is nearest to part {nearest}. To reach it, next: {missing[0].missing}."


if __name__ == "__main__":
    print(markdown_table())
