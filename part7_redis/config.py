"""The config file: a program in Lua that is run once, and the settings that it leaves behind.

Mirrors what rsp.c does with luaL_dofile and get_config_opt since the post "Lua-based configuration".
"""

try:
    try:  # LuaJIT, the engine of the original and of OpenResty
        from lupa.luajit21 import LuaError, LuaRuntime, lua_type
    except ImportError:  # lupa was built without it: its own default, a plain Lua; any from 5.2 on works
        from lupa import LuaError, LuaRuntime, lua_type
except ImportError:
    LuaRuntime = LuaError = None  # read_config_file says so

MAX_MEMORY = 64 * 1024 * 1024  # bytes that the config, and the functions that it leaves behind, may use
LONGEST_SHOWN = 60  # characters of a text that a message shows
LONGEST_REASON = 500  # characters of an error's message that are logged
ROOM = 1024 * 1024  # bytes of it that must be left before a function is called: far more than any arguments need

# Lua gives a program its global names as a table, and this is the one that a config gets. It computes values; it has
# no business in Python, in files, in other programs or in C, so what could lead there (io, require, load, debug,
# python, most of os) is not in the table: the config can't see it.
ENVIRONMENT = """
local environment = {
    math = math, string = string, table = table, os = {getenv = os.getenv},
    assert = assert, error = error, pcall = pcall, xpcall = xpcall, print = print,
    ipairs = ipairs, next = next, pairs = pairs, select = select, unpack = unpack or table.unpack,
    tonumber = tonumber, tostring = tostring, type = type, _VERSION = _VERSION,
    getmetatable = getmetatable, setmetatable = setmetatable,
    rawequal = rawequal, rawget = rawget, rawset = rawset,
}
environment._G = environment
return environment
"""


class ConfigError(Exception):
    """Something is wrong with the config; str() of it is the whole line for the user."""


def describe(value):
    """Return a value from Lua as a message shows it: in one line, and not too long."""
    if isinstance(value, str):
        shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in value[:LONGEST_SHOWN])
        return f'"{shown}..."' if len(value) > LONGEST_SHOWN else f'"{shown}"'
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.14g}" if isinstance(value, (int, float)) else f"a {lua_type(value)}"


def is_table(value):
    """Return True if a value from Lua is a table."""
    return lua_type(value) == "table"


def is_function(value):
    """Return True if a value from Lua is a function."""
    return lua_type(value) == "function"


def make_room(lua):
    """Make sure that there is memory left for the arguments of a call; raise LuaError when there is not.

    lupa makes strings and tables for Lua outside of the call that they are for. If one did not fit, Lua would have
    no caller to tell, and would end the whole program.
    """
    if lua.get_memory_used() > MAX_MEMORY - ROOM:
        lua.gccollect()
        if lua.get_memory_used() > MAX_MEMORY - ROOM:
            raise LuaError("it took more memory than it may have")


def reason_of(error):
    """Return why a function of the config has failed, in one line; the error is what the call has raised."""
    if isinstance(error, MemoryError):
        return "it took more memory than it may have"
    if isinstance(error, UnicodeDecodeError):
        return "it has a text that is not UTF-8"
    return str(error).partition("\n")[0][:LONGEST_REASON] or "it called error() without a message"


class Settings:
    """What a config has left behind when it has run."""

    def __init__(self, path, lua, table):
        """Wrap the Lua state and the table that was the config's environment."""
        self.path = path  # of the config file, for messages
        self.lua = lua  # the LuaRuntime, for functions that the config has left behind
        self.table = table  # a Lua table: what the config has set, among the names of ENVIRONMENT
        self.given = frozenset(table.keys())  # what is there before the config runs
        self.rawget = lua.globals().rawget  # reads a table without its metatable, which could run the config's code

    def get(self, name):
        """Return a global of the config as lupa hands it over; None if it is not set, or not valid UTF-8."""
        try:
            return self.rawget(self.table, name)
        except UnicodeDecodeError:
            return None

    def names(self):
        """Return the names of the globals that the config has set."""
        return [name for name in self.to_dict(self.table, "a global") if name not in self.given]

    def to_dict(self, table, name):
        """Return a Lua table as a dictionary; raise ConfigError when a text in it is not UTF-8."""
        try:
            return dict(table.items())  # without its metatable, as Lua's own next does
        except UnicodeDecodeError:
            raise ConfigError(f"Error parsing config file: {name} has a text that is not UTF-8.") from None


def read_config_file(path):
    """Run a config file, and return its Settings; raise ConfigError when it can't be read or run."""
    if LuaRuntime is None:
        raise ConfigError(
            "The config file is a Lua program, and lupa, which runs it, is missing. Install it: pip install lupa"
        )
    lua = LuaRuntime(max_memory=MAX_MEMORY)
    environment = lua.execute(ENVIRONMENT)
    settings = Settings(path, lua, environment)
    name = "@" + path.encode(errors="replace").decode()  # "@" marks a file's name for Lua's messages
    try:
        with open(path, "rb") as config_file:
            source = config_file.read()
        # "t": text only. Bytecode need not be what a compiler writes, and could get out of any environment.
        program = lua.globals().load(source, name, "t", environment)
        if not isinstance(program, tuple):
            program()
            make_room(lua)  # for the settings, and for what is to call its functions
            return settings
        _, reason = program  # nil and a message
        if source.startswith(b"\x1b"):
            reason = f"{path}: this is bytecode; the config must be text"
    except OSError as error:
        reason = f"cannot open {path}: {error.strerror}. Name a file that can be read."
    except UnicodeDecodeError:
        reason = f"{path}: its error message is not UTF-8"
    except MemoryError:  # lupa's is a LuaError too
        reason = f"{path}: it takes more than {MAX_MEMORY >> 20} MiB of memory"
    except LuaError as error:
        reason = str(error).partition("stack traceback:")[0].strip()
        reason = reason or f"{path}: it called error() without a message"
    raise ConfigError("Error parsing config file: " + reason.split("\n")[0])


def get_config_opt(settings, name, instead=""):
    """Return one of the settings, a string; raise ConfigError when it is something else.

    The message also names what may be set instead.
    """
    value = settings.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.14g}"  # a number works too, written as Lua writes it
    if not isinstance(value, str):
        given = "" if value is None else f", not {describe(value)}"
        more = instead and f", or set {instead}"
        raise ConfigError(f'{name} must be a string{given}. Set it in {settings.path}, like this: {name} = "..."{more}')
    return value
