"""Hosts whose backends redis knows: `hostnames:NAME:backends`, as in the post on SNI, and hipache's `frontend:NAME`.

A name is asked for once, however many clients wait for it, and the answer is kept until redis says that it has changed,
or for as long as there is no redis to ask. The backends of a set that changes keep what is known about them. No sockets
here: questions go through redis_connection.py.
"""

import collections
import functools
import ipaddress
import logging
import math
import time

from backends import BalancedBackend
from hosts import Host
from netutils import leads_back
from redis_connection import NoAnswer, hiredis

MOST_NAMES = 10_000  # that are kept with backends; and as many without
MOST_MEMBERS = 1000  # backends of one name
MOST_ASKED = str(MOST_MEMBERS + 1)  # of them; the last one tells that there are more
WARN_PAUSE = 10  # seconds between log lines about the same key
MOST_WARNINGS = 1000  # keys that have had one
PREFIXES = ["hostnames:", "frontend:"]  # of the keys that matter


class CachedHost:
    """What redis has said about a name."""

    __slots__ = ("host", "is_fresh", "old_at")

    def __init__(self, host, seconds=math.inf):
        """The Host is None for a name without backends; after so many seconds redis drops what it has said."""
        self.host = host
        self.is_fresh = True  # nothing has been heard of a change
        self.old_at = time.monotonic() + seconds

    def is_good(self):
        """Return True if redis would give the same answer now, as far as we know."""
        return self.is_fresh and time.monotonic() < self.old_at


class RedisHosts:
    """The hosts of one port, by name."""

    def __init__(self, connection, port, default, make_set):
        """Ask a RedisConnection; the port is for backends that give none, `default` is the name of the default set.

        make_set(backends) returns a BackendSet of BalancedBackends.
        """
        self.connection = connection
        self.port = port
        self.default = default  # "httpDefault" or "httpsDefault"; clients' names are in lower case
        self.make_set = make_set
        self.known = collections.OrderedDict()  # name -> CachedHost with a host; the least used first
        self.unknown = (
            collections.OrderedDict()
        )  # name -> CachedHost without one, so that these can't displace the others
        self.asked = {}  # name -> what waits for the answer: functions of a CachedHost, or of None
        self.stale_in_flight = set()  # names whose answer is on its way, and out of date already
        self.warn_again_at = collections.OrderedDict()  # what is ignored -> when the log may say so again (seconds)
        connection.listeners.append(self)

    def find(self, name):
        """Return the Host of a name, or the default one, or None; a generator: see Sites.go_on. Raises NoAnswer."""
        return name and (yield from self.named(name)) or (yield from self.named(self.default))

    def named(self, name):
        """Return the Host of a name, or None; a generator that yields what there is to wait for. Raises NoAnswer."""
        entry = self.known.get(name) or self.unknown.get(name)
        if entry is None or not entry.is_good() and self.connection.is_ready():
            answer = yield functools.partial(self.wait, name)
            entry = answer or entry
            if entry is None:
                raise NoAnswer
        kept = self.known if entry.host else self.unknown
        if name in kept:
            kept.move_to_end(name)
        return entry.host

    def wait(self, name, tell):
        """Have tell(entry) called when redis has answered; tell(None) when it has not."""
        if name in self.asked:
            self.asked[name].append(tell)
            return
        self.asked[name] = [tell]
        # As SMEMBERS does, SRANDMEMBER returns the whole set; but of one that is too big, only as many as we ask for.
        of_set = "SRANDMEMBER", f"hostnames:{name}:backends", MOST_ASKED
        of_list = "LRANGE", f"frontend:{name}", "0", MOST_ASKED
        # First how long they have to live: one that expires between two commands is then empty, not kept for ever.
        lives = [("PTTL", key) for _, key, *_ in (of_set, of_list)]
        self.connection.ask(functools.partial(self.learn, name), *lives, of_set, of_list)

    def learn(self, name, replies):
        """Keep what redis has said about a name, and tell the ones that wait."""
        entry = None
        try:
            if replies is not None and self.are_answers(replies[2:]):
                # It tells us when a key has expired, but only when it finds out itself, which may take seconds.
                lives = [reply / 1000 for reply in replies[:2] if isinstance(reply, int) and reply >= 0]
                entry = CachedHost(self.make_host(name, *replies[2:]), min(lives, default=math.inf))
                entry.is_fresh = name not in self.stale_in_flight
                if entry.is_fresh or entry.host:  # a set that has changed is the same one, with other backends
                    self.keep(name, entry)
        finally:  # whatever has happened, no client is left waiting
            self.stale_in_flight.discard(name)
            for tell in self.asked.pop(name):
                tell(entry)

    def are_answers(self, replies):
        """Return True if redis has answered: what is there, or that a key has the wrong type. It may be unable to."""
        for reply in replies:
            error = isinstance(reply, hiredis.ReplyError) and not str(reply).startswith("WRONGTYPE")
            if error or not isinstance(reply, list | hiredis.ReplyError):
                self.warn("redis's answer", str(reply) if error else "it is not a list")
                return False
        return True

    def keep(self, name, entry):
        """Keep what is known of a name."""
        kept, other = (self.known, self.unknown) if entry.host else (self.unknown, self.known)
        other.pop(name, None)
        kept[name] = entry
        kept.move_to_end(name)
        if len(kept) > MOST_NAMES:
            kept.popitem(last=False)

    def changed(self, key):
        """Note that a key has changed; None: all of them have."""
        if key is None:
            self.stale_in_flight.update(self.asked)
            self.make_stale()
            return
        name = name_in(key)
        if name in self.asked:
            self.stale_in_flight.add(name)
        self.unknown.pop(name, None)
        if name in self.known:
            self.known[name].is_fresh = False

    def connected(self):
        """Note that redis is back: we have missed what has changed meanwhile."""
        self.make_stale()

    def make_stale(self):
        """Ask for every name again, when it is next needed; without an answer, what was known still holds."""
        self.unknown.clear()
        for entry in self.known.values():
            entry.is_fresh = False

    def make_host(self, name, members, frontend):
        """Return the Host that redis's replies describe, or None."""
        places = self.read_members(f"hostnames:{name}:backends", members)
        places = places or self.read_members(f"frontend:{name}", frontend, hipache=True)
        if not places:
            return None
        old = self.known.get(name)
        before = {backend.name: backend for backend in old.host.backends.backends} if old else {}
        if before.keys() == {f"{address}:{port}" for address, port in places}:
            return old.host
        backends = []
        for address, port in places:
            try:
                backend = before.get(f"{address}:{port}") or BalancedBackend(address, port)
            except OSError as error:  # an address of IPv6, say, on a machine without it
                self.warn(f"{name}'s {address}", str(error))
                continue
            if leads_back(backend):
                self.warn(f"{name}'s {address}:{port}", "that is where this proxy itself listens")
            else:
                backends.append(backend)
        if old and backends:
            old.host.backends.replace(backends)
            return old.host
        return Host(name, self.make_set(backends), None) if backends else None

    def read_members(self, key, reply, hipache=False):
        """Return the addresses and ports in a reply, sorted; log what is neither."""
        if isinstance(reply, hiredis.ReplyError):
            self.warn(f"redis key {key}", str(reply))
            return []
        places = set()
        for member in reply[1:] if hipache else reply:  # hipache's lists begin with an identifier
            text = member.decode("latin-1") if isinstance(member, bytes) else f"{type(member)}"
            place = read_place(text.removeprefix("http://").rstrip("/") if hipache else text, self.port)
            if place is None:
                self.warn(f"a member of redis key {key}", f"{text[:100]!r} is neither ADDRESS nor ADDRESS:PORT")
            elif len(places) < MOST_MEMBERS:
                places.add(place)
            else:
                self.warn(f"members of redis key {key}", f"it has more than {MOST_MEMBERS}")
        return sorted(places)

    def warn(self, what, why):
        """Log what is ignored, and why, unless that was done a moment ago."""
        now = time.monotonic()
        if now >= self.warn_again_at.get(what, 0):
            logging.error("ignoring %s: %s", what, why)
            self.warn_again_at[what] = now + WARN_PAUSE
            if len(self.warn_again_at) > MOST_WARNINGS:
                self.warn_again_at.popitem(last=False)


def name_in(key):
    """Return the name in one of redis's keys (bytes), or None."""
    text = key.decode("latin-1")
    if text.startswith("hostnames:") and text.endswith(":backends"):
        return text.removeprefix("hostnames:").removesuffix(":backends")
    return text.removeprefix("frontend:") if text.startswith("frontend:") else None


def read_place(text, port):
    """Return address and port, two strings, of a member of a set; None if it is rubbish. The port may be missing.

    An address, not a name: looking a name up would hold up all clients.
    """
    address, colon, own_port = text.rpartition(":")
    if not colon or text.endswith("]") or text.count(":") > 1 and not text.startswith("["):
        address, own_port = text, port
    in_brackets = address.startswith("[") and address.endswith("]")
    try:
        address = ipaddress.ip_address(address[1:-1] if in_brackets else address)
    except ValueError:
        return None
    if getattr(address, "scope_id", None):  # it names a device of one machine
        return None
    is_port = own_port.isascii() and own_port.isdigit() and len(own_port) < 6 and 0 < int(own_port) < 65536
    return (str(address), own_port) if is_port else None
