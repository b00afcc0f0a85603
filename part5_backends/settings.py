"""The settings of several backends: read from the config's tables, and checked before anything starts.

What is wrong is a ConfigError that gives the setting's full name, such as backends[2].port, and says what it may be.
Times in a config are milliseconds, as in the posts' "check interval=3000 rise=2 fall=5 timeout=1000"; in the program
they are seconds.
"""

import contextlib
import difflib
import socket

from backends import BackendSet, BalancedBackend
from balance import BALANCERS, LuaBalance
from config import ConfigError, describe, get_config_opt, is_function, is_table
from health import Check
from netutils import leads_back

LONGEST = 3_600_000  # milliseconds that a time may be: an hour
HEAVIEST = 100  # that a weight may be
LONGEST_SEND = 4096  # bytes that check.send may be; this many fit into the buffer of every fresh socket
MOST_BACKENDS = 1000
PORT = "a port, a number from 1 to 65535"

# What a config may set. Its other globals are its own business, unless they look like a slip.
NAMES = ["listenPort", "backendAddress", "backendPort", "backends", "balance", "check", "maxFails", "failTimeout"]
NAMES += ["connectTimeout"]


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


def read_backends(settings, get):
    """Return the list of backends: the ones in `backends`, or the one at backendAddress and backendPort."""
    value = get("backends")
    if value is None:
        get_config_opt(settings, "backendAddress", instead="backends")
        address = read_text(settings.get("backendAddress"), "backendAddress", "a name or an address")
        backend = BalancedBackend(address, read_own_port(settings, "backendPort"))
        check_elsewhere(backend, "backendPort")
        return [backend]
    if get("backendAddress") is not None or get("backendPort") is not None:
        raise ConfigError(
            "Error parsing config file: set either backends, or backendAddress and backendPort, not both."
        )
    values = read_list(settings, value, "backends", "tables: {{address = ..., port = ...}, ...}")
    if not 1 <= len(values) <= MOST_BACKENDS:
        refuse("backends", f"a list of 1 to {MOST_BACKENDS} backends", f"not {len(values)}")
    backends = [read_backend(settings, value, f"backends[{number}]") for number, value in enumerate(values, 1)]
    if all(backend.backup for backend in backends):
        refuse("backends", "a list with at least one that is not a backup", "not backups alone")
    return backends


def read_balance(settings, value):
    """Return a balance: see balance.py."""
    if is_function(value):
        return LuaBalance(settings.lua, value)
    if value is None:
        value = "round_robin"
    if not isinstance(value, str) or value not in BALANCERS:
        refuse("balance", f"one of {', '.join(BALANCERS)}, or a function", not_this(value))
    return BALANCERS[value]()


def read_check(settings, value):
    """Return the Check that is to be made of each backend, or None."""
    if value is None:
        return None
    table = read_table(settings, value, "check", ["interval", "rise", "fall", "timeout", "type", "send", "expect"])
    kind = table.get("type", "tcp")
    if kind not in ("tcp", "http"):
        refuse("check.type", '"tcp" or "http"', not_this(kind))
    for name in ("send", "expect"):
        if kind == "tcp" and name in table:
            raise ConfigError(f'Error parsing config file: check.{name} needs check.type = "http".')
    send = read_text(table.get("send", "GET / HTTP/1.0\r\n\r\n"), "check.send")
    if len(send.encode()) > LONGEST_SEND:
        refuse("check.send", f"at most {LONGEST_SEND} bytes", f"not {len(send.encode())}")
    return Check(
        interval=read_seconds(table.get("interval"), "check.interval", 3000, low=10),
        rise=read_whole_number(table.get("rise", 2), "check.rise", 1, 1000),
        fall=read_whole_number(table.get("fall", 5), "check.fall", 1, 1000),
        timeout=read_seconds(table.get("timeout"), "check.timeout", 1000),
        request=send.encode() if kind == "http" else None,
        expect=read_expect(settings, table.get("expect"), "check.expect"),
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


def read_settings(settings):
    """Return the BackendSet that a config describes, and its Check or None.

    Raises ConfigError for a setting that is wrong, OSError for a backend that can't be found.
    """
    get = settings.get
    check_names(settings.names(), NAMES)
    backends = read_backends(settings, get)
    check = read_check(settings, get("check"))
    backend_set = BackendSet(
        backends,
        read_balance(settings, get("balance")),
        max_fails=read_whole_number(1 if get("maxFails") is None else get("maxFails"), "maxFails", 0, 1000),
        fail_timeout=read_seconds(get("failTimeout"), "failTimeout", 10_000),
        connect_timeout=read_seconds(get("connectTimeout"), "connectTimeout", 2000),
    )
    return backend_set, check
