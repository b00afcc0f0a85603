"""rsp, Really Simple Proxy, part 3: the same proxy, configured in Lua.

Mirrors rsp.c of the post "part 3: Lua-based configuration".

Unlike part 2:
- The port and the backend come from a Lua program: listenPort, backendAddress and backendPort.

Still missing:
- Bytes that a slow client's or backend's socket does not take are lost.
- A client that stops sending, but still listens, is taken for one that has gone.
- Connecting to the backend blocks the loop.
- Running out of file descriptors ends the program.
"""

import logging
import select
import signal
import sys

from epollinterface import add_epoll_handler, do_reactor_loop
from netutils import find_backend
from server_socket import create_server_socket_handler

try:
    try:  # LuaJIT, the engine of the original and of OpenResty
        from lupa.luajit21 import LuaError, LuaRuntime
    except ImportError:  # lupa was built without it: its own default, a plain Lua
        from lupa import LuaError, LuaRuntime
except ImportError:
    sys.exit("The config file is a Lua program, and lupa, which runs it, is missing. Install it: pip install lupa")

# A config computes its values; it has no business in Python, in the file system or in C. The original opens
# none of Lua's libraries at all. Here string, table, math and os.getenv stay, among others.
SANDBOX = """
os = {getenv = os.getenv}
debug = {traceback = debug.traceback}
python, require, package, module, io, jit, load, loadstring, loadfile, dofile = nil
"""


def read_config_file(path):
    """Return the Lua state that is left when the config has run; end the program when it can't be run."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute(SANDBOX)
    name = "@" + path.encode(errors="replace").decode()  # "@" marks a file's name for Lua's messages
    try:
        with open(path, "rb") as config_file:
            source = config_file.read()
        # Bytecode could crash the engine. lupa has mode="t" to refuse it, without effect in LuaJIT.
        if source.startswith(b"\x1b"):
            sys.exit(f"Error parsing config file: {path}: this is bytecode; the config must be text")
        lua.execute(source, name=name)
    except OSError as error:
        sys.exit(f"Error parsing config file: cannot open {path}: {error.strerror}. Name a file that can be read.")
    except UnicodeDecodeError:
        sys.exit(f"Error parsing config file: {path}: its error message is not UTF-8")
    except LuaError as error:
        reason = str(error).removeprefix("error loading code: ").split("\n")[0]
        sys.exit(f"Error parsing config file: {reason or path + ': it called error() without a message'}")
    return lua


def get_config_opt(lua, name):
    """Return one of the settings, a string; end the program when it is something else."""
    try:
        value = lua.globals()[name]
    except (LuaError, UnicodeDecodeError):  # a guarded table of globals; a string that is not text
        value = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.14g}"  # a number will do, written as Lua writes it
    if not isinstance(value, str):
        sys.exit(f'{name} must be a string. Set it in {sys.argv[1]}, like this: {name} = "..."')
    return value


def main():
    """Read the config and start listening, then leave everything to the loop."""
    # Ctrl-C ends a C program at once. Python would raise KeyboardInterrupt, wherever it happens to be.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.basicConfig(format="%(asctime)s %(message)s")

    if len(sys.argv) != 2:
        sys.exit(f"Usage: {sys.argv[0]} <config_file>")
    lua = read_config_file(sys.argv[1])
    server_port = get_config_opt(lua, "listenPort")
    backend_addr = get_config_opt(lua, "backendAddress")
    backend_port = get_config_opt(lua, "backendPort")

    try:
        find_backend(backend_addr, backend_port)  # a misspelt name should not wait for the first client
    except OSError as error:
        sys.exit(f"{error}. Check the name and the port.")

    epoll = select.epoll()
    server_handler = create_server_socket_handler(epoll, server_port, backend_addr, backend_port)
    add_epoll_handler(epoll, server_handler, select.EPOLLIN)

    print(f"Started.  Listening on port {server_port}.", flush=True)
    do_reactor_loop(epoll)


if __name__ == "__main__":
    main()
