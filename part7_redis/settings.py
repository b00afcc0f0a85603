"""The settings of hosts and of backends: read from the config's tables, and checked before anything starts.

What is wrong is a ConfigError that gives the setting's full name, such as backends[2].port, and says what it may be.
Times in a config are milliseconds, as in the posts' "check interval=3000 rise=2 fall=5 timeout=1000"; in the program
they are seconds.
"""

import contextlib
import difflib
import functools
import ipaddress
import os
import socket

from backends import BackendSet, BalancedBackend
from balance import BALANCERS, LuaBalance
from config import ConfigError, describe, get_config_opt, is_function, is_table
from health import Check, Checker
from hosts import DEFAULT, Host, HostTable, Route, Sites
from http_pair import HttpPair
from names import host_name
from netutils import Backend, leads_back, note_own_address
from proxy_protocol import own_check_header
from redis_connection import RedisConnection, hiredis, unix_address
from redis_hosts import PREFIXES, RedisHosts
from request_head import httptools
from services import LookingService, PlainService
from tls_pair import TlsPair

LONGEST = 3_600_000  # milliseconds that a time may be: an hour
HEAVIEST = 100  # that a weight may be
LONGEST_SEND = 4096  # bytes that check.send may be; this many fit into the buffer of every fresh socket
MOST_BACKENDS = 1000
PORT = "a port, a number from 1 to 65535"
MOST_HOSTS = 10_000
LONGEST_PATH = 107  # bytes that the path of a Unix socket may have: see unix(7)

# What a config may set. Its other globals are its own business, unless they look like a slip.
NAMES = ["listenPort", "backendAddress", "backendPort", "backends", "balance", "check", "maxFails", "failTimeout"]
NAMES += ["connectTimeout", "hosts", "listenTlsPort", "listenAddress", "trustedProxies", "route", "headTimeout"]
NAMES += ["redis"]
NEED_HOSTS = ["listenTlsPort", "trustedProxies", "route", "headTimeout"]
# What a host may set for itself; for most of it, the config's globals are the defaults.
INHERITED = ["balance", "check", "maxFails", "failTimeout", "connectTimeout"]
OF_A_HOST = ["backends", *INHERITED, "sendProxyProtocol"]


def refuse(name, what, given):
    """Raise ConfigError: the setting of this full name must be something other than what was given: see not_this()."""
    raise ConfigError(f"Error parsing config file: {name} must be {what}, {given}.")


def not_this(value):
    """Return what a message says about a wrong value; None is one that is missing."""
    return "and it is missing" if value is None else f"not {describe(value)}"


def check_names(names, known, prefix=""):
    """Raise ConfigError for a name that is not known, or, among the globals, only for one that looks like a slip."""
    for name in names:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.8 if not prefix else 0.6)
        if near or prefix:
            inner = f".{name}" if isinstance(name, str) and name.isidentifier() else f"[{describe(name)}]"
            full_name = prefix + inner if prefix else name
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
            raise ConfigError(f"Error parsing config file: unknown setting {full_name}: {hint}")


def read_whole_number(value, name, low, high):
    """Return a whole number between two others; a text of digits is one, as everywhere in Lua."""
    number = value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        number = int(value)
    if not is_number(number) or number != number // 1 or not low <= number <= high:
        refuse(name, f"a whole number from {low} to {high}", not_this(value))
    return int(number)


def is_number(value):
    """Return True if a value from Lua is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_seconds(value, name, default, low=1):
    """Return a time in seconds, given in milliseconds, as is the default."""
    return read_whole_number(default if value is None else value, name, low, LONGEST) / 1000


def read_text(value, name, what="a string that is not empty"):
    """Return a string that is not empty; a number counts as one."""
    text = f"{value:.14g}" if is_number(value) else value
    if not isinstance(text, str) or not text:
        refuse(name, what, not_this(value))
    return text


def read_port(value, name):
    """Return a port as a string: a number, or the name of a service that this machine knows."""
    text = read_text(value, name, PORT)
    is_port = text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536
    if not is_port and text[:1].isalpha():  # as in /etc/services
        with contextlib.suppress(OSError, ValueError):
            is_port = bool(socket.getservbyname(text, "tcp"))
    if not is_port:
        refuse(name, PORT, not_this(value))
    return text


def read_own_port(settings, name):
    """Return a port that is a global of the config."""
    get_config_opt(settings, name)
    return read_port(settings.get(name), name)


def read_flag(value, name):
    """Return a boolean; nil is false."""
    if value is not None and not isinstance(value, bool):
        refuse(name, "true or false", not_this(value))
    return bool(value)


def read_table(settings, value, name, fields):
    """Return a Lua table as a dictionary; raise ConfigError if it isn't one, or has an unknown field."""
    if not is_table(value):
        refuse(name, f"a table: {{{', '.join(fields)}}}", not_this(value))
    table = settings.to_dict(value, name)
    check_names(table, fields, prefix=name)
    return table


def read_list(settings, value, name, what):
    """Return a Lua table with the keys 1, 2, 3 and so on as a list; raise ConfigError when it is something else."""
    if not is_table(value):
        refuse(name, f"a list of {what}", not_this(value))
    table = settings.to_dict(value, name)
    numbers = range(1, len(table) + 1)
    for key in table:
        if not is_number(key) or key not in numbers:
            refuse(name, f"a list of {what}, without gaps and without names", f"not a table with [{describe(key)}]")
    return [table[number] for number in numbers]


def check_elsewhere(backend, name):
    """Raise ConfigError if a backend is this proxy itself; the name is the full one of its port."""
    if leads_back(backend):
        refuse(name, "another server's", f"not {backend.host}:{backend.port}, where this proxy itself listens")


def read_backend(settings, value, name):
    """Return a BalancedBackend, looked up; raise ConfigError, or OSError when it can't be found."""
    table = read_table(settings, value, name, ["address", "port", "weight", "backup"])
    backend = BalancedBackend(
        read_text(table.get("address"), f"{name}.address", "a name or an address"),
        read_port(table.get("port"), f"{name}.port"),
        read_whole_number(table.get("weight", 1), f"{name}.weight", 1, HEAVIEST),
        read_flag(table.get("backup"), f"{name}.backup"),
    )
    check_elsewhere(backend, f"{name}.port")
    return backend


class Scope:
    """Where settings are looked up: among the config's globals, or in a host's table, then among the globals."""

    def __init__(self, settings, table=None, prefix=""):
        """Look in the Settings; for a host, in its table (a dictionary) first. Its full names begin with the prefix."""
        self.settings = settings
        self.table = table or {}
        self.prefix = prefix

    def get(self, name):
        """Return the setting as lupa hands it over, or None, and its full name."""
        if name in self.table:
            return self.table[name], self.prefix + name
        if not self.prefix or name in INHERITED:
            return self.settings.get(name), name
        return None, self.prefix + name


def read_backends(scope):
    """Return the list of backends: the ones in `backends`, or the one at backendAddress and backendPort."""
    settings = scope.settings
    value, full_name = scope.get("backends")
    if value is None and not scope.prefix:
        get_config_opt(settings, "backendAddress", instead="backends, hosts or redis")
        address = read_text(settings.get("backendAddress"), "backendAddress", "a name or an address")
        backend = BalancedBackend(address, read_own_port(settings, "backendPort"))
        check_elsewhere(backend, "backendPort")
        return [backend]
    if not scope.prefix and (settings.get("backendAddress") is not None or settings.get("backendPort") is not None):
        raise ConfigError(
            "Error parsing config file: set either backends, or backendAddress and backendPort, not both."
        )
    values = read_list(settings, value, full_name, "tables: {{address = ..., port = ...}, ...}")
    if not 1 <= len(values) <= MOST_BACKENDS:
        refuse(full_name, f"a list of 1 to {MOST_BACKENDS} backends", f"not {len(values)}")
    backends = [read_backend(settings, value, f"{full_name}[{number}]") for number, value in enumerate(values, 1)]
    if all(backend.backup for backend in backends):
        refuse(full_name, "a list with at least one that is not a backup", "not backups alone")
    return backends


def read_balance(scope):
    """Return a function that makes a balance: see balance.py."""
    value, full_name = scope.get("balance")
    if is_function(value):
        return functools.partial(LuaBalance, scope.settings.lua, value)
    if value is None:
        value = "round_robin"
    if not isinstance(value, str) or value not in BALANCERS:
        refuse(full_name, f"one of {', '.join(BALANCERS)}, or a function", not_this(value))
    return BALANCERS[value]


def read_check(scope, greeting=b""):
    """Return the Check that is to be made of each backend, or None; its request is sent after a greeting (bytes)."""
    value, full_name = scope.get("check")
    if value is None:
        return None
    settings = scope.settings
    table = read_table(settings, value, full_name, ["interval", "rise", "fall", "timeout", "type", "send", "expect"])
    kind = table.get("type", "tcp")
    if kind not in ("tcp", "http"):
        refuse(f"{full_name}.type", '"tcp" or "http"', not_this(kind))
    for name in ("send", "expect"):
        if kind == "tcp" and name in table:
            raise ConfigError(f'Error parsing config file: {full_name}.{name} needs {full_name}.type = "http".')
    send = read_text(table.get("send", "GET / HTTP/1.0\r\n\r\n"), f"{full_name}.send")
    if len(send.encode()) > LONGEST_SEND:
        refuse(f"{full_name}.send", f"at most {LONGEST_SEND} bytes", f"not {len(send.encode())}")
    return Check(
        interval=read_seconds(table.get("interval"), f"{full_name}.interval", 3000, low=10),
        rise=read_whole_number(table.get("rise", 2), f"{full_name}.rise", 1, 1000),
        fall=read_whole_number(table.get("fall", 5), f"{full_name}.fall", 1, 1000),
        timeout=read_seconds(table.get("timeout"), f"{full_name}.timeout", 1000),
        request=greeting + send.encode() if kind == "http" else None,
        expect=read_expect(settings, table.get("expect"), f"{full_name}.expect"),
    )


def read_expect(settings, value, name):
    """Return the range of status codes that are good."""
    if value is None:
        return range(200, 400)
    codes = read_list(settings, value, name, "two status codes: {200, 399}")
    codes = [read_whole_number(code, f"{name}[{number}]", 100, 599) for number, code in enumerate(codes, 1)]
    if len(codes) != 2 or codes[0] > codes[1]:
        given = ", ".join(map(str, codes[:3])) + (", ..." if len(codes) > 3 else "")
        refuse(name, "two status codes, the lowest and the highest: {200, 399}", f"not {{{given}}}")
    return range(codes[0], codes[1] + 1)


def read_backend_set(scope, checkers, greeting=b""):
    """Return the BackendSet that a scope describes; add the Checkers of its backends, a dictionary: see add_checks."""
    backends = read_backends(scope)
    check = read_check(scope, greeting)
    backend_set = read_set_maker(scope)(backends)
    if check is not None:
        add_checks(checkers, check, backends)
    return backend_set


def add_checks(checkers, check, backends):
    """Have backends checked; an address that has a Checker already, by the same rules, is not checked twice."""
    for backend in backends:
        checker = checkers.setdefault((check, backend.name), Checker(check, []))
        checker.backends.append(backend)


def read_set_maker(scope):
    """Return a function that makes a BackendSet of some backends; what else a scope says is read now, for all sets."""
    make_balance = read_balance(scope)
    max_fails, full_name = scope.get("maxFails")
    fail_timeout, connect_timeout = scope.get("failTimeout"), scope.get("connectTimeout")
    values = {
        "max_fails": read_whole_number(1 if max_fails is None else max_fails, full_name, 0, 1000),
        "fail_timeout": read_seconds(*fail_timeout, 10_000),
        "connect_timeout": read_seconds(*connect_timeout, 2000),
    }
    return lambda backends: BackendSet(backends, make_balance(), **values)


def read_host_name(key, full_name):
    """Return a key of `hosts` in the form that names are compared in."""
    if not isinstance(key, str):
        refuse(full_name, 'under a name: ["site1.localhost"] = {backends = ...}', f"not under {describe(key)}")
    if key == DEFAULT:
        return key
    star, rest = ("*.", key[2:]) if key.startswith("*.") else ("", key)
    name = host_name(f"{rest}:80")  # which it is not, when it has a port already
    if name is None:
        what = '"default", or the name of a host, without a port, or "*." and the end of such names'
        raise ConfigError(f"Error parsing config file: {full_name} must be {what}.")
    return star + name


def read_hosts(settings, checkers):
    """Return the HostTable that `hosts` describes; add the Checkers of all the backends to a dictionary."""
    value = settings.get("hosts")
    if value is None:  # all of them are in redis
        return HostTable([])
    if not is_table(value):
        refuse("hosts", 'a table: {["site1.localhost"] = {backends = ...}, ...}', not_this(value))
    table = settings.to_dict(value, "hosts")
    if not 1 <= len(table) <= MOST_HOSTS:
        refuse("hosts", f"a table of 1 to {MOST_HOSTS} hosts", f"not {len(table)}")
    hosts = {}
    for key, value in table.items():
        full_name = f"hosts[{describe(key)}]"
        name = read_host_name(key, full_name)
        if name in hosts:
            raise ConfigError(
                f"Error parsing config file: {full_name} is there twice: names are compared in lower case."
            )
        fields = read_table(settings, value, full_name, OF_A_HOST)
        version = fields.get("sendProxyProtocol")
        if version not in (None, "v1", "v2"):
            refuse(f"{full_name}.sendProxyProtocol", '"v1" or "v2"', not_this(version))
        scope = Scope(settings, fields, f"{full_name}.")
        greeting = own_check_header(version) if version else b""
        hosts[name] = Host(name, read_backend_set(scope, checkers, greeting), version)
    return HostTable(list(hosts.values()))


def read_address(settings):
    """Return the address to listen on, or None, which stands for all of IPv4."""
    value = settings.get("listenAddress")
    return None if value is None else read_text(value, "listenAddress", 'an address, such as "::"')


def read_networks(settings):
    """Return a function that tells whether an address (a string) is in one of trustedProxies; None without these."""
    value = settings.get("trustedProxies")
    if value is None:
        return None
    what = 'addresses or networks: {"10.0.0.0/8", "192.0.2.1"}'
    networks = []
    for number, text in enumerate(read_list(settings, value, "trustedProxies", what), 1):
        try:
            networks.append(ipaddress.ip_network(text if isinstance(text, str) else ""))
        except ValueError:
            refuse(f"trustedProxies[{number}]", 'an address or a network, such as "10.0.0.0/8"', not_this(text))

    def is_trusted(address):
        """Return True if what this client says about others is believed."""
        address = ipaddress.ip_address(address.partition("%")[0])
        return any(address in network for network in networks)

    return is_trusted


def read_redis(settings):
    """Return the RedisConnection that `redis` describes, or None; OSError when its address can't be found."""
    value = settings.get("redis")
    if value is None:
        return None
    if hiredis is None:
        raise ConfigError(
            "redis needs hiredis, which reads its replies, and it is missing. Install it: pip install hiredis"
        )
    table = read_table(settings, value, "redis", ["address", "port", "path", "user", "password", "database"])
    name, addresses = read_redis_place(table)
    user = read_text(table.get("user", "default"), "redis.user")
    password = table.get("password")
    if password is not None:
        password = read_text(password, "redis.password")
    elif "user" in table:
        raise ConfigError("Error parsing config file: redis.user needs redis.password.")
    database = read_whole_number(table.get("database", 0), "redis.database", 0, 1_000_000)
    return RedisConnection(name, addresses, user, password, database, PREFIXES)


def read_redis_place(table):
    """Return where redis is: its name for the log, and its addresses."""
    if "path" not in table:
        backend = Backend(
            read_text(table.get("address"), "redis.address", "a name or an address (or set redis.path)"),
            read_port(table.get("port", "6379"), "redis.port"),
        )
        return f"{backend.host}:{backend.port}", backend.addresses
    for name in ("address", "port"):
        if name in table:
            raise ConfigError(f"Error parsing config file: set either redis.path, or redis.{name}, not both.")
    what = f"the path of a Unix socket, at most {LONGEST_PATH} bytes"
    path = read_text(table["path"], "redis.path", what)
    if len(os.fsencode(path)) > LONGEST_PATH or "\0" in path:
        refuse("redis.path", what, not_this(path))
    return path, [unix_address(path)]


def read_route(settings, redis):
    """Return the Route that the config's function makes, or None; it may ask redis, a RedisConnection or None."""
    value = settings.get("route")
    if value is None:
        return None
    if not is_function(value):
        refuse("route", "a function: function route(request) return ... end", not_this(value))
    return Route(settings.lua, value, redis and settings.get("redis"), redis)


def read_settings(settings):
    """Return what a config describes: the ports to listen on, as pairs of port and service, and what is to be started.

    The latter have a method start(): Checkers, and the connection to redis.

    Raises ConfigError for a setting that is wrong, OSError for a backend that can't be found.
    """
    check_names(settings.names(), NAMES)
    for name in ("listenPort", "listenTlsPort"):
        if settings.get(name) is not None:
            note_own_address(read_address(settings), read_own_port(settings, name))
    checkers = {}
    if settings.get("hosts") is None and settings.get("redis") is None:
        for name in NEED_HOSTS:
            if settings.get(name) is not None:
                raise ConfigError(f"Error parsing config file: {name} needs hosts, or redis.")
        port = read_own_port(settings, "listenPort")
        return [(port, PlainService(read_backend_set(Scope(settings), checkers)))], checkers.values()
    for name in ("backends", "backendAddress", "backendPort"):
        if settings.get(name) is not None:
            raise ConfigError(f"Error parsing config file: set either hosts or redis, or {name}, not both.")
    if httptools is None:
        name = "redis" if settings.get("hosts") is None else "hosts"
        raise ConfigError(
            f"{name} needs httptools, which reads the requests, and it is missing. Install it: pip install httptools"
        )
    redis = read_redis(settings)
    hosts, route = read_hosts(settings, checkers), read_route(settings, redis)
    head_timeout = read_seconds(settings.get("headTimeout"), "headTimeout", 10_000)
    make_set = read_set_maker(Scope(settings))
    sites = Sites(hosts, route, redis and RedisHosts(redis, "80", "httpDefault", make_set))
    services = {"listenPort": LookingService(HttpPair, sites, head_timeout, read_networks(settings))}
    if settings.get("listenTlsPort") is not None:
        sites = Sites(hosts, route, redis and RedisHosts(redis, "443", "httpsDefault", make_set))
        services["listenTlsPort"] = LookingService(TlsPair, sites, head_timeout)
        if settings.get("listenPort") is None:  # TLS alone
            del services["listenPort"]
    ports = {name: read_own_port(settings, name) for name in services}
    if len(set(ports.values())) < len(ports):
        refuse("listenTlsPort", "another port than listenPort", f"not {ports['listenPort']} too")
    starters = [*([redis] if redis else []), *checkers.values()]
    return [(ports[name], service) for name, service in services.items()], starters
