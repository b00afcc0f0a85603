"""What is compared: the parts, and what people really put in front of a web server; one worker each, on loopback.

Each contender listens on a port of its own and passes everything on to the same backend, an nginx that serves files.
"""

import contextlib
import functools
import importlib.util
import pathlib
import sys

import psutil

from support.harness import ARGUMENTS, Command, part_command
from support.parts import PARTS
from support.patches import patched_part
from support.peers import HOST, free_port
from support.programs import STREAM_MODULE, find, install_command, missing
from support.servers import NGINX_PATHS, Server, nginx_words

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = ["ab", "wrk", "nginx", STREAM_MODULE, "haproxy"]

NGINX_LIMITS = """
worker_rlimit_nofile {descriptors};
events {{ worker_connections {connections}; }}
"""
NGINX_BACKEND = (
    NGINX_LIMITS
    + """
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    client_max_body_size 100m;
    client_body_buffer_size 1m;  # with its 16k, the backend has more to do in an upload than any proxy
    client_header_timeout 600s;
    {paths}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {directory}/site;
        location /upload/ {{ dav_methods PUT; }}
        location /pieces/ {{ alias {directory}/site/; tcp_nopush off; }}
    }}
}}
"""
)
NGINX_STREAM = (
    NGINX_LIMITS
    + """
stream {{
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_pass 127.0.0.1:{backend_port};
    }}
}}
"""
)
HAPROXY = """
global
    nbthread 1
    maxconn {connections}
defaults
    mode tcp
    timeout connect 10s
    timeout client 600s
    timeout server 600s
listen proxy
    bind 127.0.0.1:{port} backlog 4096
    server backend 127.0.0.1:{backend_port}
"""

# What part 5 is told in `--backends`. All the entries lead to the one backend that the others have too, so that the set
# is the only difference: with more addresses to connect to, the kernel would find a free port sooner.
BACKEND_SET = """
listenPort = "{port}"
backends = {}
for number = 1, COUNT do backends[number] = {address = "{backend_host}", port = "{backend_port}"} end
"""
IN_TURN_IN_LUA = """
local turn = 0
function balance(client, backends)
  turn = turn % #backends + 1
  return backends[turn]
end
"""
BACKEND_SETS = {  # contender -> how many backends, and the rest of the config
    "part5-3": (3, ""),
    "part5-100": (100, ""),
    "part5-least-100": (100, 'balance = "least_conn"'),
    "part5-lua-3": (3, IN_TURN_IN_LUA),
    "part5-lua-100": (100, IN_TURN_IN_LUA),
}


def need_tools(tools=TOOLS):
    """End the program when a load generator or a server is missing, and say what installs it."""
    if lacking := missing(tools):
        sys.exit(f"These are missing: {', '.join(lacking)}. Install them: {install_command(lacking)}")


class Direct:
    """No program at all, just the backend's port: what everything else is compared to."""

    name = "direct"
    process = None

    def __init__(self, port):
        """Take the backend's port."""
        self.port = port

    def __enter__(self):
        """Return the contender."""
        return self

    def __exit__(self, *_):
        """There is nothing to end."""

    def memory(self):
        """There is nothing that could use memory."""

    def processor_time(self):
        """There is nothing that could compute."""

    def open_files(self):
        """There is nothing that could open files."""


class Contender(Server):
    """A running program; it ends the benchmark when it does not start."""

    def __init__(self, name, port, words):
        """Start the program, and wait until it listens."""
        try:
            super().__init__(name, port, words)
        except AssertionError as error:
            sys.exit(str(error))
        self.known = psutil.Process(self.process.pid)  # what the system knows of the program

    def memory(self):
        """Return the program's resident memory, in bytes."""
        return self.known.memory_info().rss

    def processor_time(self):
        """Return the seconds that the program has computed, itself and in the kernel."""
        return list(self.known.cpu_times()[:2])

    def open_files(self):
        """Return the number of the program's open descriptors."""
        return self.known.num_fds()


class Field:
    """All the contenders, in front of one backend; a context manager that ends what it has started."""

    def __init__(self, directory, names, extra, descriptors):
        """Prepare; `extra` maps names to Commands, `descriptors` is what each program may open."""
        self.directory = pathlib.Path(directory)
        self.names = names
        self.extra = extra
        self.settings = {"descriptors": descriptors, "connections": descriptors // 2 - 100}
        self.contenders = []
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        """Start the backend and the contenders."""
        with contextlib.ExitStack() as stack:
            self.backend = self.start("backend", self.nginx_words("backend", NGINX_BACKEND))
            stack.enter_context(self.backend)
            for name in self.names:
                contender = self.start_contender(name)
                contender.started_afresh = functools.partial(self.start_contender, name)
                contender.site = self.directory / "site"
                self.contenders.append(stack.enter_context(contender))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        """End them all."""
        self.stack.close()

    def start(self, name, words_for, backend_port=None):
        """Start one program on a free port; `words_for` is a function of that port and of the backend's."""
        port = free_port()
        return Contender(name, port, words_for(port, backend_port))

    def start_contender(self, name, backend_port=None):
        """Start a contender by its name, in front of the backend that all share, or of another one."""
        backend_port = backend_port or self.backend.port
        if name == "direct":
            return Direct(backend_port)
        return self.start(name, self.words_for(name), backend_port)

    def words_for(self, name):
        """Return the function from two ports, its own and the backend's, to a contender's command line."""
        if name == "nginx":
            return self.nginx_words("stream", NGINX_STREAM)
        if name == "haproxy":
            return self.haproxy_words
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        asyncio_words = [sys.executable, str(HERE / "asyncio_proxy.py"), *ARGUMENTS]
        if name in BACKEND_SETS:
            count, rest = BACKEND_SETS[name]
            command = Command(part_command(5).words, BACKEND_SET.replace("COUNT", str(count)) + rest)
        elif name.startswith("part"):
            command = part_command(int(name.removeprefix("part")))
        elif name == "asyncio":
            command = Command(asyncio_words)
        elif name == "uvloop":
            command = Command([*asyncio_words, "--uvloop"])
        elif name in switched_off():
            command = Command([sys.executable, str(part4_without(name, directory)), "{config}"])
        else:
            command = self.extra[name]
        return lambda port, backend_port: command.fill_in(port, HOST, backend_port, directory)

    def nginx_words(self, name, template):
        """Return the function from two ports to nginx's command line; it writes the config."""

        def words(port, backend_port):
            places = {"directory": self.directory, "port": port, "backend_port": backend_port, "paths": NGINX_PATHS}
            blocks = template.format(**places, **self.settings)
            return nginx_words(self.directory, name, blocks, stream=template is NGINX_STREAM)

        return words

    def haproxy_words(self, port, backend_port):
        """Return haproxy's command line; writes the config."""
        path = self.directory / "haproxy.conf"
        path.write_text(HAPROXY.format(port=port, backend_port=backend_port, **self.settings))
        return [find("haproxy"), "-db", "-f", str(path)]


def default_names():
    """Return the contenders' names, without uvloop when it is not installed."""
    names = ["direct", *(f"part{part}" for part in PARTS), "nginx", "haproxy", "asyncio"]
    return names + (["uvloop"] if importlib.util.find_spec("uvloop") else [])


def switched_off():
    """Return the names of the patches that switch off one thing in part 4."""
    return sorted(path.stem for path in (HERE / "switched_off").glob("*.patch"))


def part4_without(name, directory):
    """Return the rsp.py of a part 4 in a directory, less what a patch switches off."""
    copy = pathlib.Path(directory, "part4")
    program = copy / "rsp.py"
    return program if program.exists() else patched_part(4, HERE / "switched_off" / f"{name}.patch", copy)
