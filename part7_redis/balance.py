"""Ways to spread clients over backends: in turn, by load, at random, by address, or as a Lua function says.

Each is made of a list of usable backends, and has a method pick(client_address) that returns one of them, in a time
that hardly depends on how many there are. One that has to know how many connections each backend has also has a
method follow_load(backend), called whenever that has changed.
"""

import bisect
import hashlib
import heapq
import itertools
import logging
import math
import random
import time

from config import LuaError, make_room

POINTS_PER_WEIGHT = 160  # of a backend on the ring of IpHash, as in nginx; more of them spread the clients more evenly
ENTRIES_PER_BACKEND = 16  # that LeastConn's heap may have before it is made anew
COMPLAINT_PAUSE = 60  # seconds between two log lines about the Lua function


class RoundRobin:
    """Smooth weighted round robin, in nginx's order: with weights 5, 1, 1 it is a a b a c a a.

    For each turn, every backend gets its weight added to its credit; the one with the most is chosen, and pays the
    sum of all weights. The order repeats itself, so it is worked out once.
    """

    def __init__(self, backends):
        """Begin the order anew."""
        self.backends = backends
        self.credits = [0] * len(backends)
        self.total = sum(backend.weight for backend in backends)
        self.period = self.total // math.gcd(*(backend.weight for backend in backends))  # turns until it repeats itself
        self.turns = []  # the order, as far as it is known
        self.position = 0  # of the next turn

    def pick(self, client_address):
        """Return the backend whose turn it is."""
        if self.position == self.period:
            self.position = 0
        if self.position == len(self.turns):
            self.turns.append(self.work_out_turn())
        self.position += 1
        return self.turns[self.position - 1]

    def work_out_turn(self):
        """Return the backend of the next turn in the order."""
        self.credits = [credit + backend.weight for credit, backend in zip(self.credits, self.backends, strict=True)]
        best = self.credits.index(max(self.credits))
        self.credits[best] -= self.total
        return self.backends[best]


class LeastConn:
    """The backend with the fewest connections for its weight; among equals, the one that is behind in its share.

    A heap has the least loaded one in front. Loads change with every connection, so that an entry may be out of date:
    it is thrown away when it comes to the front.
    """

    def __init__(self, backends):
        """Enter all of them."""
        self.shares = dict.fromkeys(backends, 0)  # turns taken, divided by the weight
        self.make_heap()

    def make_heap(self):
        """Enter each backend once, with its load as it is."""
        self.order = itertools.count()  # so that no two entries are equal, and backends need not be compared
        self.heap = []
        for backend in self.shares:
            self.follow_load(backend)

    def follow_load(self, backend):
        """Enter a backend whose load has changed."""
        if backend in self.shares:
            load = backend.active / backend.weight
            heapq.heappush(self.heap, (load, self.shares[backend], next(self.order), backend))
            if len(self.heap) > ENTRIES_PER_BACKEND * len(self.shares):
                self.make_heap()

    def pick(self, client_address):
        """Return the least loaded backend, without an entry until follow_load is called, for the client it now has."""
        while True:
            load, share, _, backend = heapq.heappop(self.heap)
            if load == backend.active / backend.weight and share == self.shares[backend]:
                self.shares[backend] += 1 / backend.weight
                return backend


class RandomOfTwo:
    """Of two backends, chosen at random by weight, the one with fewer connections for its weight."""

    def __init__(self, backends):
        """Add the weights up, which is what random.choices wants."""
        self.backends = backends
        self.cumulative_weights = list(itertools.accumulate(backend.weight for backend in backends))

    def pick(self, client_address):
        """Return the better of two."""
        one, other = random.choices(self.backends, cum_weights=self.cumulative_weights, k=2)
        return one if one.active * other.weight <= other.active * one.weight else other


class IpHash:
    """The same backend for the same client address, as long as it is usable: consistent hashing.

    Each backend owns points on a ring of numbers, and a client goes to the owner of the first point after the hash of
    its address. So a backend that goes, or comes, moves only its own clients. (nginx: hash $remote_addr consistent.)
    """

    def __init__(self, backends):
        """Put each backend's points on the ring."""
        points = sorted((point, index) for index, backend in enumerate(backends) for point in points_of(backend))
        self.numbers = [number for number, _ in points]
        self.owners = [backends[index] for _, index in points]

    def pick(self, client_address):
        """Return the backend for this address; the client's port does not matter."""
        place = bisect.bisect(self.numbers, number_for(client_address[0]))
        return self.owners[place % len(self.owners)]


def points_of(backend):
    """Return a backend's points on the ring; they are worked out once."""
    if backend.points is None:
        backend.points = [number_for(f"{backend.name} {n}") for n in range(POINTS_PER_WEIGHT * backend.weight)]
    return backend.points


def number_for(text):
    """Return a number of 64 bits that looks random, and is always the same for the same text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


# Runs inside Lua, so that what the config's function returns never has to be anything but a number for us: of the
# backend, 0 for none, -1 for nonsense. And so that no Python object gets where a config could lay hands on it.
CALL_FROM_LUA = """
local balance, backends = ...
local numbers = {}
for number, backend in ipairs(backends) do numbers[backend] = number end
return function(address, port)
    local chosen = balance({address = address, port = port}, backends)
    if chosen == nil then return 0 end
    return numbers[chosen] or backends[chosen] and chosen or -1
end
"""


class LuaBalance:
    """The backend that a Lua function of the config returns: function balance(client, backends).

    The function gets tables: the client has address and port; each backend, in the config's order, address, port,
    weight, backup, up (it is usable) and active (connections). It returns one of the backends, or its number. For nil,
    nonsense, an error or a backend that is not usable, round robin takes over. (OpenResty: balancer_by_lua.)
    """

    quiet_until = 0  # when the next complaint of any of them may be logged (seconds, time.monotonic)

    def __init__(self, lua, function, backends):
        """Take the LuaRuntime of the config, its function, and all the backends."""
        self.lua = lua
        self.backends = backends
        self.function = function
        self.tables = {}  # backend -> what the function gets of it; made when the first client comes
        self.stale = set()  # backends whose tables are out of date
        self.call = None  # what calls the function

    def prepare(self):
        """Make the tables, and what calls the function with them; in Lua's memory, where there has to be room."""
        self.tables = {backend: self.make_table(backend) for backend in self.backends}
        self.call = self.lua.execute(CALL_FROM_LUA, self.function, self.lua.table_from(self.tables.values()))

    def make_table(self, backend):
        """Return a Lua table that describes a backend."""
        known = {"address": backend.host, "port": backend.port, "weight": backend.weight, "backup": backend.backup}
        return self.lua.table_from(known | {"up": True, "active": 0})

    def __call__(self, usable):
        """Return this balance, with another list of usable backends."""
        self.round_robin = RoundRobin(usable)
        self.stale.update(self.backends)
        return self

    def follow_load(self, backend):
        """Note that a backend's table is out of date."""
        self.stale.add(backend)

    def pick(self, client_address):
        """Return the backend that the Lua function chooses."""
        try:
            make_room(self.lua)
            if self.call is None:
                self.prepare()
            while self.stale:
                backend = self.stale.pop()
                self.tables[backend]["up"] = backend.usable
                self.tables[backend]["active"] = backend.active
            number = self.call(*client_address[:2])
        except (LuaError, UnicodeDecodeError) as error:
            self.lua.gccollect()  # it may have run out of memory
            number = self.complain(str(error).partition("\n")[0] or "it took more memory than it may have")
        if number < 0:
            number = self.complain("it returned neither a backend, nor a backend's number, nor nil")
        if number and self.backends[number - 1].usable:
            return self.backends[number - 1]
        return self.round_robin.pick(client_address)

    def complain(self, what):
        """Log what is wrong with the function, unless that was done a moment ago; return 0, for no choice."""
        now = time.monotonic()
        if now >= self.quiet_until:
            logging.error("The function balance failed, and round robin chooses: %s", what)
            LuaBalance.quiet_until = now + COMPLAINT_PAUSE
        return 0


BALANCES = {"round_robin": RoundRobin, "least_conn": LeastConn, "random": RandomOfTwo, "ip_hash": IpHash}
