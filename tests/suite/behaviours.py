"""What each part can do: the one table that the tests, the README's table and the milestones all come from.

A test says which row it belongs to with `@pytest.mark.behaviour("name of the row")`. It then runs against
every part that has a word in that row: "yes" is expected to pass, "no" is expected to fail, strictly and for the
reason given here. For your own proxy, each row is a milestone, and its number in this list the milestone's.
"""

from dataclasses import dataclass

from support.parts import PARTS


@dataclass(frozen=True)
class Behaviour:
    """One row of the table."""

    name: str  # what a test's mark says
    text: str  # the README's words
    parts: dict  # part number -> "yes", "no" or "–" (not asked of this part)
    effort: str  # how hard it is for somebody who writes a proxy, and how many minutes it takes
    missing: str  # the report card's words for a proxy that can't do it, after "Next: "
    config: bool  # it can only be asked of a program that takes a config file
    reasons: dict  # part number -> why this part can't do it, for each "no"


def row(name, text, cells, effort, missing, config=False, **reasons):
    """Return a row from its cells, one a part, in one string; reasons are given as part1="…" and so on."""
    cells = dict(zip(PARTS, cells.split(), strict=True))
    reasons = {int(part[-1]): reason for part, reason in reasons.items()}
    assert set(reasons) == {part for part, cell in cells.items() if cell == "no"}, name
    return Behaviour(name, text, cells, effort, missing, config, reasons)


ONE_AT_A_TIME = "part 1 serves one client at a time, and this one has to wait its turn"
ONE_READ = "part 1 reads a request once, and never looks at the client again"
SHORT_WRITES = "what the socket does not take is lost, because what send returned is never checked"
END_IS_GONE = "a client that has finished sending is taken to have gone, and both sockets are closed"
BLOCKING_CONNECT = "connect blocks, and with it everything else"
ONE_BACKEND = "one backend is all it knows"
ONE_SITE = "it sends all clients to the same backends, whatever they ask for"
NO_HTTP = "it passes bytes on, and reads no HTTP"
NO_DESCRIPTORS = "with no descriptor left, a client is turned away or the program ends"

EARLY = ["part1", "part2", "part3", "part4", "part5"]  # the ones that know nothing about hosts

BEHAVIOURS = [
    row(
        "serves requests",
        "serves a request; one after another; relays an error response, a chunked response, every byte value",
        "yes yes yes yes yes yes yes",
        "easy, 20 minutes",
        "pass one request to the backend and its answer back, again and again",
    ),
    row(
        "several clients",
        "serves several clients at once (four 1 s answers in under 2 s)",
        "no yes yes yes yes yes yes",
        "medium, 30 minutes",
        "several clients at once: the second one waits for the first",
        part1=ONE_AT_A_TIME,
    ),
    row(
        "idle client",
        "an idle client holds up no other client",
        "no yes yes yes yes yes yes",
        "easy, 5 minutes",
        "a client that says nothing holds up all the others",
        part1=ONE_AT_A_TIME,
    ),
    row(
        "busy stream",
        "a stream at full speed leaves room for a small request",
        "no yes yes yes yes yes yes",
        "easy, 10 minutes",
        "one big download holds up all other clients",
        part1=ONE_AT_A_TIME,
    ),
    row(
        "request in pieces",
        "takes a request that arrives in two pieces",
        "no yes yes yes yes yes yes",
        "easy, 15 minutes",
        "when a request arrives in two pieces, the second is lost",
        part1=ONE_READ,
    ),
    row(
        "both directions",
        "keeps a connection open for many requests; carries both directions at once (echo, WebSocket-like)",
        "no yes yes yes yes yes yes",
        "medium, 30 minutes",
        "a connection is good for one request only",
        part1=ONE_READ,
    ),
    row(
        "slow client",
        "a slow client gets every byte (10 MB and up)",
        "yes no no yes yes yes yes",
        "hard, 60 minutes",
        "a slow client loses bytes",
        part2=SHORT_WRITES,
        part3=SHORT_WRITES,
    ),
    row(
        "slow backend",
        "a slow backend gets every byte of an upload",
        "no no no yes yes yes yes",
        "easy, 15 minutes",
        "a slow backend loses bytes of an upload",
        part1=ONE_READ,
        part2=SHORT_WRITES,
        part3=SHORT_WRITES,
    ),
    row(
        "half-closed client",
        "a half-closed client still gets its answer",
        "yes no no yes yes yes yes",
        "medium, 30 minutes",
        "a client that has finished sending gets no answer",
        part2=END_IS_GONE,
        part3=END_IS_GONE,
    ),
    row(
        "bounded memory",
        "memory stays bounded while a client stalls in a 200 MB answer that then arrives whole",
        "yes no no yes yes yes yes",
        "hard, 45 minutes",
        "a client that stalls in a big answer fills the memory, or loses bytes",
        part2=SHORT_WRITES,
        part3=SHORT_WRITES,
    ),
    row(
        "silent connect",
        "a backend that does not accept holds up no other client",
        "no no no yes yes yes yes",
        "medium, 30 minutes",
        "a backend that does not accept stops everything",
        part1=ONE_AT_A_TIME,
        part2=BLOCKING_CONNECT,
        part3=BLOCKING_CONNECT,
    ),
    row(
        "out of descriptors",
        "survives running out of file descriptors",
        "yes no no yes yes yes yes",
        "hard, 45 minutes",
        "running out of file descriptors turns clients away, or ends the program",
        part2=NO_DESCRIPTORS,
        part3=NO_DESCRIPTORS,
    ),
    row(
        "survives",
        "survives: client gone mid-answer, backend down, backend dying mid-answer, backend coming back",
        "yes yes yes yes yes yes yes",
        "medium, 30 minutes",
        "a client or a backend that vanishes takes the proxy with it, or the other side never hears of it",
    ),
    row(
        "frugal",
        "leaks no file descriptors; burns no CPU when idle",
        "yes yes yes yes yes yes yes",
        "medium, 20 minutes",
        "descriptors stay open, or the CPU is busy when nothing happens",
    ),
    row(
        "good manners",
        "says when it is ready; stops cleanly; explains wrong usage and a port in use",
        "yes yes yes yes yes yes yes",
        "easy, 20 minutes",
        "starting and stopping: the start line, signals, one line for a bad start",
    ),
    row(
        "reads Lua",
        "reads Lua: computed values, a number for a string; explains a missing file, a syntax error, "
        "a missing or wrong setting; cannot reach Python",
        "– – yes yes yes yes yes",
        "medium, 60 minutes",
        "settings from a Lua file",
        config=True,
    ),
    row(
        "hard use",
        "takes hard use: 100 MB each way, 500 clients, resets passed on, small turns without a stall, "
        "a random mix of everything",
        "– – – yes yes yes yes",
        "hard, 120 minutes",
        "hard use: big transfers, many clients, resets, a random mix",
    ),
    row(
        "backend down",
        "goes on when a backend refuses, dies or answers no connect: another one gets its clients, and all they sent",
        "no no no no yes yes yes",
        "medium, 60 minutes",
        "a backend that is down costs clients, even when another one could serve them",
        config=True,
        part1=ONE_BACKEND,
        part2=ONE_BACKEND,
        part3=ONE_BACKEND,
        part4=ONE_BACKEND,
    ),
    row(
        "several backends",
        "spreads clients over several backends: in turn, by weight, by the fewest connections, at random, by address; "
        "backups stand by",
        "– – – – yes yes yes",
        "hard, 120 minutes",
        "several backends, and five ways to spread clients over them",
        config=True,
    ),
    row(
        "left out",
        "leaves a failing backend out for a while, then lets one client try; never the only one; all down and back",
        "– – – – yes yes yes",
        "hard, 60 minutes",
        "a backend that fails is tried again and again",
        config=True,
    ),
    row(
        "health checks",
        "checks its backends: down after `fall`, up after `rise`; by HTTP also the ones that accept and never answer",
        "– – – – yes yes yes",
        "hard, 90 minutes",
        "health checks",
        config=True,
    ),
    row(
        "Lua chooses",
        "lets a Lua function of the config choose; round robin when it fails; it can't get out of Lua",
        "– – – – yes yes yes",
        "medium, 60 minutes",
        "a Lua function that chooses the backend",
        config=True,
    ),
    row(
        "backend settings",
        "explains a wrong setting by its full name (`backends[2].port`), and one that looks misspelt",
        "– – – – yes yes yes",
        "medium, 60 minutes",
        "wrong settings of several backends, explained",
        config=True,
    ),
    row(
        "by host",
        "sends each host to its own backends, and never a request to those of another, on the same connection either",
        "no no no no no yes yes",
        "hard, 120 minutes",
        "several sites behind one address: the Host header of each request decides",
        config=True,
        **dict.fromkeys(EARLY, ONE_SITE),
    ),
    row(
        "host names",
        "finds the host: exact before the longest `*.` before the default, whatever the case, port or last dot; "
        "each has its own balance and checks; IPv6, too",
        "– – – – – yes yes",
        "medium, 60 minutes",
        "which of its hosts a name stands for",
        config=True,
    ),
    row(
        "who the client is",
        "tells the backend who the client is, in each request's X-Forwarded-For; believes only trusted proxies",
        "no no no no no yes yes",
        "medium, 60 minutes",
        "the backend sees the proxy's address in place of the client's",
        config=True,
        **dict.fromkeys(EARLY, NO_HTTP),
    ),
    row(
        "PROXY protocol",
        "tells the backend who the client is by the PROXY protocol, v1 and v2, in one piece with what follows",
        "– – – – – yes yes",
        "medium, 45 minutes",
        "where bytes can't be changed, the PROXY protocol says who the client is",
        config=True,
    ),
    row(
        "by server name",
        "routes TLS by server name, in however many pieces and records it comes; what can't be served gets an alert",
        "– – – – – yes yes",
        "hard, 120 minutes",
        "several TLS sites behind one address: the server name in the ClientHello decides",
        config=True,
    ),
    row(
        "WebSocket by host",
        "upgrades to a WebSocket by host, with the bytes after the handshake; a refused upgrade opens no gate",
        "no no no no no yes yes",
        "hard, 90 minutes",
        "WebSockets at several hosts",
        config=True,
        **dict.fromkeys(EARLY, ONE_SITE),
    ),
    row(
        "smuggling",
        "refuses what could be smuggled: two lengths, bad chunks, two Hosts, bare LF; pieces change nothing",
        "no no no no no yes yes",
        "hard, 180 minutes",
        "requests that a backend could read in another way",
        config=True,
        **dict.fromkeys(EARLY, NO_HTTP),
    ),
    row(
        "refusals",
        "says why it refuses (404, 408, 421, 431, 500, 502, 504, 505), even to a client that is still sending; "
        "floods cost neither memory nor descriptors",
        "– – – – – yes yes",
        "hard, 120 minutes",
        "a client that is refused gets to read why",
        config=True,
    ),
    row(
        "Lua names the host",
        "lets a Lua function of the config name the host; an error in it is a 500, and it can't get out of Lua",
        "– – – – – yes yes",
        "medium, 60 minutes",
        "a Lua function that names the host",
        config=True,
    ),
    row(
        "host settings",
        'explains a wrong setting of a host by its full name (`hosts["a"].backends[1].port`)',
        "– – – – – yes yes",
        "medium, 45 minutes",
        "wrong settings of hosts, explained",
        config=True,
    ),
    row(
        "follows redis",
        "follows redis: a host that the config does not know is looked up once, and kept until redis says that it has "
        "changed; explains wrong settings (`redis.port`)",
        "– – – – – – yes",
        "hard, 180 minutes",
        "hosts that are in redis, and may change at any time",
        config=True,
    ),
    row(
        "outlives redis",
        "outlives redis: when it is not there at the start, is killed, stopped or restarted, not one request to "
        "a known host fails",
        "– – – – – – yes",
        "hard, 120 minutes",
        "redis may go away, and the hosts that are known stay",
        config=True,
    ),
    row(
        "Lua asks redis",
        "lets the config's Lua ask redis: the call looks as if it waited, and holds up no client",
        "– – – – – – yes",
        "hard, 90 minutes",
        "a Lua function that asks redis",
        config=True,
    ),
]

FEW = 2  # rows that a verdict names one by one

BY_NAME = {behaviour.name: behaviour for behaviour in BEHAVIOURS}


def milestone(behaviour):
    """Return the number of a row among the milestones."""
    return BEHAVIOURS.index(behaviour) + 1


def markdown_table():
    """Return the table as the README has it."""
    lines = ["| behaviour | " + " | ".join(str(part) for part in PARTS) + " |", "|---" * (1 + len(PARTS)) + "|"]
    for behaviour in BEHAVIOURS:
        lines.append("| " + " | ".join([behaviour.text, *behaviour.parts.values()]) + " |")
    return "\n".join(lines)


def markdown_milestones():
    """Return the table of milestones as the page about your own proxy has it."""
    lines = ["| milestone | your proxy … | how hard | first seen in |", "|---|---|---|---|"]
    for behaviour in BEHAVIOURS:
        first = next(part for part, cell in behaviour.parts.items() if cell == "yes")
        lines.append(f"| {milestone(behaviour)} | {behaviour.text} | {behaviour.effort} | part {first} |")
    return "\n".join(lines)


def askable(takes_config):
    """Return the names of the rows that can be asked of a program, with a config file or without."""
    return frozenset(row.name for row in BEHAVIOURS if takes_config or not row.config)


def on_the_way(part, last, reached, asked):
    """Return how far a proxy is on the way from a part that it has reached to the last one, or ""."""
    more = [row.name for row in BEHAVIOURS if row.parts[part] != "yes" and row.parts[last] == "yes"]
    more = [name for name in more if name in asked]
    lacking = [name for name in more if name not in reached]
    if len(lacking) == len(more):
        return ""
    if len(lacking) <= FEW:
        return f", and of part {last}'s rows lacks only: {', '.join(lacking)}"
    return f", and has {len(more) - len(lacking)} of the {len(more)} rows from there to part {last}"


def verdict(reached, tried, asked=frozenset(BY_NAME)):
    """Return, in one sentence or two, what a proxy amounts to that has reached these rows of the ones tried.

    Rows that are not among the ones that can be `asked` of it (Lua, where it takes no config) count neither way.
    """
    missing = [row for row in BEHAVIOURS if row.name in tried - reached]
    coming = f"Next: {missing[0].missing}." if missing else "Nothing is missing."
    if not asked <= tried:
        return coming if missing else "All that was tried works. Now run the whole suite."
    yes = {part: {row.name for row in BEHAVIOURS if row.parts[part] == "yes"} & asked for part in PARTS}
    # A part is not reached, but passed by, when nothing new can be asked of it.
    tellable = [part for part in PARTS if yes[part] - yes.get(part - 1, set())]
    for part in reversed(tellable):
        if yes[part] <= reached:
            return f"Your proxy has reached part {part}{on_the_way(part, tellable[-1], reached, asked)}. {coming}"

    def likeness(part):
        return sum((row.parts[part] == "yes") == (row.name in reached) for row in BEHAVIOURS if row.name in asked)

    nearest = max(tellable, key=likeness)
    missing = [row for row in missing if row.parts[nearest] == "yes"]
    return f"Your proxy is nearest to part {nearest}. To reach it, next: {missing[0].missing}."


if __name__ == "__main__":
    print(f"{markdown_table()}\n\n{markdown_milestones()}")
