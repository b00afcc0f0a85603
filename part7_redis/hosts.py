"""Virtual hosts: several sites behind one address, each with its own backends.

Sites is what a pair asks: a name goes in, and the Host comes out. It knows no sockets and no pairs. A HostTable finds
the Host of a name; a Route is a Lua function of the config that may name another. There is no counterpart in the posts'
C: the post on SNI has it, in Go, and nginx calls it server_name.
"""

import functools
import logging
import socket
import time
from dataclasses import dataclass

from backends import BackendSet
from config import LuaError, make_room, reason_of
from names import LONGEST_NAME, host_name
from redis_connection import NoAnswer

WARN_PAUSE = 10  # seconds between log lines about a route that fails
LONGEST_KEY = len("*.") + LONGEST_NAME  # characters of a key of `hosts`; a longer name finds none
DEFAULT = "default"  # the key of the host for names that no other has


@dataclass(eq=False)
class Host:
    """One site, or all the sites whose names end alike."""

    name: str  # its key in the config: "site1.localhost", "*.site2.localhost" or "default"
    backends: BackendSet
    proxy_protocol: str | None  # "v1" or "v2": what tells the backends who the client is


class HostTable:
    """The hosts of the config: a name itself comes before the longest "*." that fits it; last comes the default."""

    def __init__(self, hosts):
        """Index the Hosts, a list."""
        self.hosts = {host.name: host for host in hosts}
        self.has_stars = any(name.startswith("*.") for name in self.hosts)
        self.default = self.hosts.get(DEFAULT)
        self.family = hosts[0].backends.family if hosts else socket.AF_INET  # that a fresh socket most likely needs

    def named(self, name):
        """Return the Host that has this name, or a "*." that fits; None if there is none, not the default."""
        if len(name) > LONGEST_KEY:  # what a route returns may be anything
            return None
        host = self.hosts.get(name)
        while host is None and self.has_stars and "." in name:
            _, _, name = name.partition(".")  # "*" stands for any number of labels
            host = self.hosts.get(f"*.{name}")
        return host


class RouteError(Exception):
    """The config's route function has failed; that has been logged."""

    status, cause = 500, "the proxy's own route function failed"  # for the client


class Sites:
    """Where a client is sent: to the host of the name that it asks for, unless the config's route names another."""

    def __init__(self, hosts, route=None, redis_hosts=None):
        """Look in a HostTable, then in RedisHosts, if there are any, after asking a Route, if there is one."""
        self.hosts = hosts
        self.route = route
        self.redis_hosts = redis_hosts
        self.family = hosts.family  # that a fresh socket most likely needs

    def find(self, address, name, request, found):
        """Look for the Host of a client (its address) that asks for a name (None: it gives none).

        The request is None on TLS, where it can't be read. At once, or when redis has answered, one of these is called:
        found(host), found(None) if there is none, found(None, error) with a RouteError or NoAnswer.
        """
        self.go_on(self.search(address, name, request), found)

    def go_on(self, search, found, answer=None):
        """Go a step further in a search: redis has answered, or it begins."""
        try:
            ask = search.send(answer)
        except StopIteration as end:
            result = (end.value,)
        except (RouteError, NoAnswer) as error:
            result = (None, error)
        else:
            ask(functools.partial(self.go_on, search, found))
            return
        found(*result)

    def search(self, address, name, request):
        """Return the Host, or None: a generator that yields each question, a function that takes a callback.

        Raises RouteError, NoAnswer.
        """
        other = (yield from self.route.ask(address, name, request)) if self.route else None
        if other is not None:  # the default is not for the names that a route returns
            host = self.hosts.named(other)
            if host is None and self.redis_hosts and host_name(other) == other:
                host = yield from self.redis_hosts.named(other)
            return host
        host = name and self.hosts.named(name)
        if not host and self.redis_hosts:
            host = yield from self.redis_hosts.find(name)
        return host or self.hosts.default


# Runs inside Lua, as a coroutine. redis.get(key) yields the command, and goes on with the reply when it has come: for
# the config it looks as if it had waited. What route returns comes out as a text, nil for no choice, or false for
# nonsense. So no Lua object can play a trick on us, and no Python object gets to where a config could
# reach it.
CALL_FROM_LUA = """
local route, redis, commands = ...
local gsub, byte, char = string.gsub, string.byte, string.char
-- lupa takes texts for UTF-8. Lua's are bytes: let each come out as the character of its number, as in latin-1.
local function as_character(one)
    return byte(one) < 192 and "\\194" .. one or "\\195" .. char(byte(one) - 64)
end
local function as_text(bytes)
    local text = gsub(bytes, "[\\128-\\255]", as_character)
    return type(text) == "string" and text or error("string.gsub does not return a string any more")
end
for _, command in ipairs(commands) do
    if redis then
        rawset(redis, command, function(...)
            local words = {...}
            for number = 1, select("#", ...) do
                local word = tostring(words[number])  -- which a metatable may answer with anything
                if type(word) ~= "string" then error("a key must be a string", 2) end
                words[number] = as_text(word)
            end
            return coroutine.yield("ask", command, (unpack or table.unpack)(words))
        end)
    end
end
return function(address, tls, host, method, target, headers)
    local name = route({address = address, tls = tls, host = host, method = method, target = target, headers = headers})
    if name == nil then return "name", nil end
    return "name", type(name) == "string" and as_text(name)
end
"""
# The commands that a route may give: the ones that only look something up.
COMMANDS = "get exists hget hexists hgetall smembers sismember scard lrange lindex llen".split()
MOST_QUESTIONS = 100  # that one route may ask
LARGEST_REPLY = 262_144  # bytes that the answer to one may have
ENTRY_OVERHEAD = 64  # bytes that each entry of a list takes, besides its content


def entries_of(reply):
    """Return what redis's reply consists of, as a list."""
    if isinstance(reply, dict):
        return [*reply.keys(), *reply.values()]
    return reply if isinstance(reply, list) else [reply]


def size_of(reply):
    """Return the bytes that redis's reply takes in Lua, roughly."""
    return sum(ENTRY_OVERHEAD + (len(entry) if isinstance(entry, bytes) else 0) for entry in entries_of(reply))


def is_fit_for_lua(entry):
    """Return True if Lua can have this as a value and as a key: NaN, as a key, would end the whole program."""
    return entry is None or isinstance(entry, bytes) or isinstance(entry, int | float) and -(2**63) <= entry < 2**63


class Route:
    """The host that a Lua function of the config names: function route(request).

    The function gets a table: address (the client's), tls (true or false), host (the name that was asked for, nil if
    none was), and, where they can be read, method, target and headers (a table; names in lower case). Where the config
    has redis, the function may ask it: redis.get(key) returns the value, or nil and what is wrong, "no answer" for one.
    (OpenResty: lua-resty-redis.)
    """

    def __init__(self, lua, function, redis=None, connection=None):
        """Wrap the config's function and its LuaRuntime; with redis, also the config's table and the connection."""
        self.lua = lua
        self.connection = connection
        self.call = lua.execute(CALL_FROM_LUA, function, redis, lua.table_from(COMMANDS))
        self.warn_again_at = 0  # when the next complaint may be logged (seconds, time.monotonic)

    def ask(self, address, host, request):
        """Return the name of a host, or None for no choice; the request is None on TLS.

        A generator: it yields what there is to wait for, see Sites.go_on. Raises RouteError.
        """
        method = target = headers = None
        if request is not None:
            method, target, headers = request.method, request.target, request.headers
        start = functools.partial(self.start, address, request is None, host, method, target, headers)
        coroutine, (kind, *words) = self.run_lua(start)
        questions = 0
        while kind != "name":
            questions += 1
            if questions > MOST_QUESTIONS:
                raise self.fail(f"it asked redis more than {MOST_QUESTIONS} questions")
            replies = None
            if self.connection.is_ready():
                replies = yield functools.partial(self.send, words)
            kind, *words = self.run_lua(self.resume, coroutine, replies)
        name = words[0] if words else None
        if name is False:
            raise self.fail("it returned neither the name of a host nor nil")
        return name and (host_name(name) or name)

    def start(self, address, tls, host, method, target, headers):
        """Let the function run up to its end or its first question; return the coroutine, and what it says."""
        headers = headers and self.make_headers(headers)
        coroutine = self.call.coroutine(address, tls, host, method, target, headers)
        return coroutine, coroutine.send(None)

    def resume(self, coroutine, replies):
        """Let the function run up to its end or its next question; return "name" or "ask", and what belongs to it."""
        return coroutine.send(self.to_lua(replies))

    def run_lua(self, step, *arguments):
        """Return what a step in Lua returns; log what goes wrong there, and raise RouteError."""
        try:
            make_room(self.lua)
            return step(*arguments)
        except (LuaError, UnicodeDecodeError) as error:
            raise self.fail(reason_of(error)) from None

    def send(self, words, tell):
        """Ask redis; tell(replies) is called when it has answered."""
        self.connection.ask(tell, tuple(word.encode("latin-1") for word in words))

    def to_lua(self, replies):
        """Return what the function gets of redis's replies, or of None: the value, or nil and what is wrong."""
        if replies is None:
            return None, "no answer"
        (reply,) = replies
        if isinstance(reply, Exception):
            return None, str(reply)[:1000]
        if not all(map(is_fit_for_lua, entries_of(reply))):
            return None, "an odd reply"
        if size_of(reply) > LARGEST_REPLY:  # lupa has to find room for it, see make_room
            return None, f"a reply of more than {LARGEST_REPLY} bytes"
        return (self.lua.table_from(reply) if isinstance(reply, list | dict) else reply,)

    def make_headers(self, headers):
        """Return a Lua table of a request's headers, pairs of bytes; one that comes twice is joined by a comma."""
        joined = {}
        for name, value in headers:
            name = name.lower()
            joined[name] = joined[name] + b", " + value if name in joined else value
        return self.lua.table_from(joined)

    def fail(self, what):
        """Log what is wrong with the function, unless that was done a moment ago; return the RouteError."""
        now = time.monotonic()
        if now >= self.warn_again_at:
            logging.error("The function route failed, and its clients are turned away: %s", what)
            self.warn_again_at = now + WARN_PAUSE
        return RouteError(what)
