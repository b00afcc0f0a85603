"""Ways to spread clients over backends: in turn, by load, at random, by address, or as a Lua function says.

A balance knows backends and clients' addresses, no sockets and no pairs.
use(backends, candidates) gives a balance all the backends of a set, in the config's order, and the ones that may get
the next client; it is called again whenever either has changed, and the balance goes on where it has got to.
pick(client_address) returns one of the candidates, in a time that hardly depends on how many there are. A balance that
has to know how many connections each backend has also has a method follow_load(backend), called when that has changed.
"""

import bisect
import collections
import hashlib
import heapq
import itertools
import logging
import math
import random
import struct
import time
from array import array

from config import LuaError, make_room, reason_of

POINTS_PER_WEIGHT = 160  # of a backend on the ring of IpHash, as in nginx; more of them spread the clients more evenly
MOST_POINTS = 160_000  # on a ring, roughly: 1,000 backends of the same weight
SLOTS = 1023  # a mask: the bits of a point that say whose it is; so a ring has room for 1,024 backends
ENTRIES_PER_BACKEND = 16  # that LeastConn's heap may have before it is rebuilt
WARN_PAUSE = 60  # seconds between two log lines about the Lua function


class RoundRobin:
    """Smooth weighted round robin, in nginx's order: with weights 5, 1, 1 it is a a b a c a a.

    For each turn, every candidate gets its weight added to its credit; the one with the most is chosen, and pays the
    sum of all weights. The order repeats itself, so it is worked out once.
    """

    def __init__(self):
        """Begin without a backend: use() brings them."""
        self.backends = []  # the candidates
        self.total = 0  # of their weights
        self.period = 0  # turns until the order repeats itself
        self.first_credits = []  # of the candidates, before the first turn of the order
        self.credits = []  # after the last turn that is worked out
        self.set_aside = {}  # backend -> its credit, for the backends of the set that are not candidates
        self.turns = []  # the order, as far as it is known
        self.position = 0  # of the next turn

    def use(self, backends, candidates):
        """Let the candidates take turns, with the credits that they have: the one served last is not the next one."""
        before = self.set_aside | self.credits_now()
        self.backends = candidates
        self.total = sum(backend.weight for backend in candidates)
        self.period = self.total // math.gcd(*(backend.weight for backend in candidates))
        # What was paid while there were many would take some of them out for long when only few are left.
        self.credits = [max(-self.total, min(before.pop(backend, 0), self.total)) for backend in candidates]
        self.set_aside = {backend: before[backend] for backend in backends if backend in before}
        self.begin_order()

    def begin_order(self):
        """Begin with the credits as they are."""
        self.first_credits = self.credits
        self.turns = []
        self.position = 0

    def credits_now(self):
        """Return the candidates' credits before the next turn; the order may be known further than that."""
        taken = collections.Counter(self.turns[: self.position])
        return {
            backend: credit + self.position * backend.weight - self.total * taken[backend]
            for backend, credit in zip(self.backends, self.first_credits, strict=True)
        }

    def pick(self, client_address):
        """Return the backend whose turn it is."""
        if self.position == self.period:
            self.position = 0
            if self.credits != self.first_credits:  # some came from before: it does not repeat itself yet
                self.begin_order()
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

    def __init__(self):
        """Begin without a backend: use() brings them."""
        self.shares = {}  # of the candidates: turns taken, divided by the weight
        self.heap = []  # entries: load, share, number of the entry, backend
        self.order = itertools.count()  # so that no two entries are equal, and backends need not be compared

    def use(self, backends, candidates):
        """Enter the candidates. One that was away does not catch up: it is the last in line, even among equals."""
        known = {backend: self.shares[backend] for backend in candidates if backend in self.shares}
        most = max(known.values(), default=0)
        self.shares = known | dict.fromkeys((backend for backend in candidates if backend not in known), most)
        self.make_heap()

    def make_heap(self):
        """Enter each backend once, with its load as it is."""
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

    def __init__(self):
        """Begin without a backend: use() brings them."""
        self.backends = []  # the candidates
        self.cumulative_weights = []  # which is what random.choices wants

    def use(self, backends, candidates):
        """Choose among the candidates."""
        self.backends = candidates
        self.cumulative_weights = list(itertools.accumulate(backend.weight for backend in candidates))

    def pick(self, client_address):
        """Return the better of two."""
        one, other = random.choices(self.backends, cum_weights=self.cumulative_weights, k=2)
        return one if one.active * other.weight <= other.active * one.weight else other


class IpHash:
    """The same backend for the same client address, as long as it is usable: consistent hashing.

    Each backend owns points on a ring of numbers, and a client goes to the owner of the first point after the hash of
    its address, or, if that one is not a candidate, of the next one. So a backend that goes, or comes, moves only its
    own clients. (nginx: hash $remote_addr consistent.)
    """

    def __init__(self):
        """Begin without a backend: use() brings them."""
        self.candidates = set()
        self.owners = {}  # slot -> the backend that has it
        self.per_weight = None  # points for each unit of weight; never changed, since that would move all clients
        self.points = array("Q")  # the ring, in order; the low bits of each number are the slot of its owner

    def use(self, backends, candidates):
        """Choose among the candidates. All backends of the set are on the ring: one that is down keeps its points."""
        self.candidates = set(candidates)
        self.per_weight = self.per_weight or points_per_weight(backends)
        here, known = set(backends), set(self.owners.values())
        if here != known:
            gone = {slot: owner for slot, owner in self.owners.items() if owner not in here}
            self.change_ring(gone, [backend for backend in backends if backend not in known])

    def change_ring(self, gone, new):
        """Take the backends of some slots off the ring, and put new ones on it."""
        changes = []
        for slot, backend in gone.items():
            changes += self.points_of(backend, slot)
            del self.owners[slot]
        free = [slot for slot in range(SLOTS + 1) if slot not in self.owners]
        for slot, backend in zip(free, new, strict=False):
            changes += self.points_of(backend, slot)
            self.owners[slot] = backend
        changes.sort()
        self.points = changed_ring(self.points, changes) if self.points else array("Q", changes)

    def points_of(self, backend, slot):
        """Return the points that a backend has on the ring."""
        count = max(1, round(self.per_weight * backend.weight))
        return [number & ~SLOTS | slot for number in numbers_for(backend.name, count)]

    def pick(self, client_address, candidates=None):
        """Return the backend for this address, of the candidates; the client's port does not matter."""
        candidates = candidates or self.candidates
        points, owners = self.points, self.owners
        (number,) = numbers_for(client_address[0], 1)
        place = bisect.bisect(points, number) % len(points)
        while (owner := owners[points[place] & SLOTS]) not in candidates:
            place = (place + 1) % len(points)
        return owner


def points_per_weight(backends):
    """Return how many points each unit of weight is to have, which may be less than one."""
    weights = [backend.weight for backend in backends]
    divisor = math.gcd(*weights)  # weights of 100 and 200 are as good as 1 and 2
    return min(POINTS_PER_WEIGHT / divisor, MOST_POINTS / sum(weights))


def changed_ring(points, changes):
    """Return the ring: changes that are on it go, the others come; all three are in order.

    Of a thousand backends one comes or goes in a millisecond; a new ring would take a hundred times as long.
    """
    ring = array("Q")
    start = 0
    for point in changes:
        place = bisect.bisect_left(points, point, start)
        ring += points[start:place]
        start = place
        if place < len(points) and points[place] == point:
            start += 1
        else:
            ring.append(point)
    return ring + points[start:]


def numbers_for(text, count):
    """Return numbers of 64 bits that look random, and are always the same for the same text."""
    digests = (hashlib.blake2b(f"{text} {n}".encode()).digest() for n in range(-(-count // 8)))  # of 64 bytes each
    return [number for digest in digests for number in struct.unpack(">8Q", digest)][:count]


def pick_other(balance, client_address, candidates):
    """Return one of the candidates, for a client whose connect to another backend has failed; it may take its time."""
    if isinstance(balance, IpHash):  # the next one on the ring: always the same, too
        return balance.pick(client_address, set(candidates))
    balance = RandomOfTwo()
    balance.use(candidates, candidates)
    return balance.pick(client_address)


# Runs inside Lua, where an error is caught. The function gets a list that it may change as it likes: what it returns is
# looked up in a table that it never sees, and comes out as a number: of a backend, 0 for none, -1 for nonsense. The
# fields are written with rawset, past any metatable. So no table of the config can play a trick on us, and no Python
# object gets to where a config could reach it.
CALL_FROM_LUA = """
local balance, rawset = ..., rawset
local backends, tables, numbers = {}, {}, {}
local function add(number, address, port, weight, backup)
    local backend = {address = address, port = port, weight = weight, backup = backup}
    backends[number], tables[number], numbers[number], numbers[backend] = backend, backend, number, number
end
local function update(number, up, active)
    rawset(tables[number], "up", up)
    rawset(tables[number], "active", active)
end
local function choose(address, port)
    local chosen = balance({address = address, port = port}, backends)
    if chosen == nil then return 0 end
    return numbers[chosen] or -1
end
return add, update, choose
"""


class LuaBalance:
    """The backend that a Lua function of the config returns: function balance(client, backends).

    The function gets tables: the client has address and port; each backend, in the config's order, address, port,
    weight, backup, up (it is usable) and active (connections). It returns one of the backends, or its number. For nil,
    nonsense, an error or a backend that is not usable, round robin takes over. (OpenResty: balancer_by_lua.)
    """

    warn_again_at = 0  # when the next complaint of any of them may be logged (seconds, time.monotonic)

    def __init__(self, lua, function):
        """Wrap the config's function, and the LuaRuntime that it runs in."""
        self.lua = lua
        self.function = function
        self.round_robin = RoundRobin()
        self.backends = []  # all of the set, in the config's order
        self.numbers = {}  # backend -> its number in Lua, from 1
        self.stale = set()  # backends whose tables are out of date
        self.update = self.choose = None  # functions in Lua; made when the first client comes

    def use(self, backends, candidates):
        """Tell the function which backends are usable, when it is next called."""
        self.round_robin.use(backends, candidates)
        if backends is not self.backends:
            self.backends = backends
            self.numbers = {backend: number for number, backend in enumerate(backends, 1)}
            self.choose = None
        self.stale = set(backends)

    def follow_load(self, backend):
        """Note that a backend's table is out of date."""
        if backend in self.numbers:
            self.stale.add(backend)

    def make_tables(self):
        """Make what the function gets of each backend, and what calls the function with it."""
        add, self.update, choose = self.lua.execute(CALL_FROM_LUA, self.function)
        for backend, number in self.numbers.items():
            add(number, backend.host, backend.port, backend.weight, backend.backup)
        self.choose = choose

    def pick(self, client_address):
        """Return the backend that the Lua function chooses."""
        try:
            make_room(self.lua)
            if self.choose is None:
                self.make_tables()
            while self.stale:
                backend = self.stale.pop()
                self.update(self.numbers[backend], backend.usable, backend.active)
            number = self.choose(*client_address[:2])
        except (LuaError, UnicodeDecodeError) as error:
            number = self.warn(reason_of(error))
        if number < 0:
            number = self.warn("it returned neither a backend, nor a backend's number, nor nil")
        if number and self.backends[number - 1].usable:
            return self.backends[number - 1]
        return self.round_robin.pick(client_address)

    def warn(self, what):
        """Log what is wrong with the function, unless that was done a moment ago; return 0, for no choice."""
        now = time.monotonic()
        if now >= self.warn_again_at:
            logging.error("The function balance failed, and round robin chooses: %s", what)
            LuaBalance.warn_again_at = now + WARN_PAUSE
        return 0


BALANCERS = {"round_robin": RoundRobin, "least_conn": LeastConn, "random": RandomOfTwo, "ip_hash": IpHash}
