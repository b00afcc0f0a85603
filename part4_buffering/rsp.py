"""rsp, Really Simple Proxy, part 4: what can't be written now waits, and so does closing.

Mirrors the posts "pause to regroup: non-blocking output", "pause to regroup: fixed it!" and "part 4: Dealing with
slow writes to the network".

Unlike part 3:
- Bytes that a socket does not take wait in a write buffer until EPOLLOUT says that there is room.
- Closing waits too, until the buffer has drained. A half-closed connection goes on in its other direction.
- epoll is edge-triggered, and each socket is registered once.
- One connection.py serves both sides, in place of client_socket.py and backend_socket.py: as "fixed it!" says,
  this should have to be mended in one place only.
- Sound enough to be used: the loop never blocks, no buffer grows without limit, no connection starves the
  others, running out of file descriptors only makes clients wait, and it stops when it is told to in a container, too.

Still missing:
- It never gives up on a connection that is only silent: there are no time-outs.
- It serves one backend, and knows nothing about HTTP.
"""

import logging
import os
import resource
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


def raise_descriptor_limit():
    """Take all the file descriptors that this user may have: each client needs two."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


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
        backend_addresses = find_backend(backend_addr, backend_port)  # once: a look-up blocks
    except OSError as error:
        sys.exit(f"{error}. Check the name and the port.")

    raise_descriptor_limit()
    event_mask = select.EPOLLIN | select.EPOLLET
    server_handler = create_server_socket_handler(server_port, event_mask, backend_addresses)
    add_epoll_handler(server_handler, event_mask)

    # As process 1 of a container, a program gets only those signals that it has a handler for.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: os._exit(0))
    print(f"Started.  Listening on port {server_port}.", flush=True)
    do_reactor_loop()


if __name__ == "__main__":
    main()
