"""Virtual hosts: several sites behind one address, each with its own backends.

Sites is what a pair asks: a name goes in, and the Host comes out. It knows no sockets and no pairs. A HostTable finds
the Host of a name; a Route is a Lua function of the config that may name another. There is no counterpart in the posts'
C: the post on SNI has it, in Go, and nginx calls it server_name.
"""

import logging
import time
from dataclasses import dataclass

from backends import BackendSet
from config import LuaError, make_room, reason_of
from names import LONGEST_NAME, host_name

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
        """Index the Hosts, a list of at least one."""
        self.hosts = {host.name: host for host in hosts}
        self.has_stars = any(name.startswith("*.") for name in self.hosts)
        self.default = self.hosts.get(DEFAULT)
        self.family = hosts[0].backends.family  # that a fresh socket most likely needs

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

    def __init__(self, hosts, route=None):
        """Look in a HostTable, after asking a Route, if there is one."""
        self.hosts = hosts
        self.route = route
        self.family = hosts.family  # that a fresh socket most likely needs

    def find(self, address, name, request=None):
        """Return the Host for a client (its address) that asks for a name (None: it gives none); None: there is none.

        The request is None on TLS, where it can't be read. Raises RouteError when the route fails.
        """
        other = self.route.ask(address, name, request) if self.route else None
        if other is not None:  # the default is not for the names that a route returns
            return self.hosts.named(other)
        host = name and self.hosts.named(name)
        return host or self.hosts.default


# Runs inside Lua: what route returns comes out as a text, nil for no choice, or false for nonsense. So no Lua object
# can play a trick on us, and no Python object gets to where a config could reach it.
CALL_FROM_LUA = """
local route = ...
local gsub, byte, char = string.gsub, string.byte, string.char
-- lupa takes texts for UTF-8. Lua's are bytes: let each come out as the character of its number, as in latin-1.
local function as_character(one)
    return byte(one) < 192 and "\\194" .. one or "\\195" .. char(byte(one) - 64)
end
local function as_text(bytes)
    local text = gsub(bytes, "[\\128-\\255]", as_character)
    return type(text) == "string" and text or error("string.gsub does not return a string any more")
end
return function(address, tls, host, method, target, headers)
    local name = route({address = address, tls = tls, host = host, method = method, target = target, headers = headers})
    if name == nil then return nil end
    return type(name) == "string" and as_text(name)
end
"""


class Route:
    """The host that a Lua function of the config names: function route(request).

    The function gets a table: address (the client's), tls (true or false), host (the name that was asked for, nil if
    none was), and, where they can be read, method, target and headers (a table; names in lower case).
    """

    def __init__(self, lua, function):
        """Wrap the config's function, and the LuaRuntime that it runs in."""
        self.lua = lua
        self.call = lua.execute(CALL_FROM_LUA, function)
        self.warn_again_at = 0  # when the next complaint may be logged (seconds, time.monotonic)

    def ask(self, address, host, request):
        """Return the name of a host, or None for no choice; the request is None on TLS. Raises RouteError."""
        method = target = headers = None
        try:
            make_room(self.lua)
            if request is not None:
                method, target, headers = request.method, request.target, self.make_headers(request.headers)
            name = self.call(address, request is None, host, method, target, headers)
        except (LuaError, UnicodeDecodeError) as error:
            raise self.fail(reason_of(error)) from None
        if name is False:
            raise self.fail("it returned neither the name of a host nor nil")
        return name and (host_name(name) or name)

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
