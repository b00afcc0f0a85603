"""The config file: a program in Lua that is run once, and the settings that it leaves behind.

Mirrors what rsp.c does with luaL_dofile and get_config_opt since the post "Lua-based configuration".
"""

try:
    try:  # LuaJIT, the engine of the original and of OpenResty
        from lupa.luajit21 import LuaError, LuaRuntime
    except ImportError:  # lupa was built without it: its own default, a plain Lua; any from 5.2 on works
        from lupa import LuaError, LuaRuntime
except ImportError:
    LuaRuntime = None  # read_config_file says so

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


class Settings:
    """What a config has left behind when it has run."""

    def __init__(self, path, lua, table):
        """Wrap the Lua state and the table that was the config's environment."""
        self.path = path  # of the config file, for messages
        self.table = table  # a Lua table: what the config has set, among the names of ENVIRONMENT
        self.rawget = lua.globals().rawget  # reads a table without its metatable, which could run the config's code

    def get(self, name):
        """Return a global of the config as lupa hands it over; None if it is not set, or not valid UTF-8."""
        try:
            return self.rawget(self.table, name)
        except UnicodeDecodeError:
            return None


def read_config_file(path):
    """Run a config file, and return its Settings; raise ConfigError when it can't be read or run."""
    if LuaRuntime is None:
        raise ConfigError(
            "The config file is a Lua program, and lupa, which runs it, is missing. Install it: pip install lupa"
        )
    lua = LuaRuntime()
    environment = lua.execute(ENVIRONMENT)
    name = "@" + path.encode(errors="replace").decode()  # "@" marks a file's name for Lua's messages
    try:
        with open(path, "rb") as config_file:
            source = config_file.read()
        # "t": text only. Bytecode need not be what a compiler writes, and could get out of any environment.
        program = lua.globals().load(source, name, "t", environment)
        if not isinstance(program, tuple):
            program()
            return Settings(path, lua, environment)
        _, reason = program  # nil and a message
        if source.startswith(b"\x1b"):
            reason = f"{path}: this is bytecode; the config must be text"
    except OSError as error:
        reason = f"cannot open {path}: {error.strerror}. Name a file that can be read."
    except UnicodeDecodeError:
        reason = f"{path}: its error message is not UTF-8"
    except LuaError as error:
        reason = str(error).partition("stack traceback:")[0].strip()
        reason = reason or f"{path}: it called error() without a message"
    raise ConfigError("Error parsing config file: " + reason.split("\n")[0])


def get_config_opt(settings, name):
    """Return one of the settings, a string; raise ConfigError when it is something else."""
    value = settings.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.14g}"  # a number works too, written as Lua writes it
    if not isinstance(value, str):
        raise ConfigError(f'{name} must be a string. Set it in {settings.path}, like this: {name} = "..."')
    return value
