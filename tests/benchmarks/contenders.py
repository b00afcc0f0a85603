"""What is compared: the parts, and what people really put in front of a web server; one worker each, on loopback.

Each contender listens on a port of its own and passes everything on to the same backend, an nginx that serves files.
"""

import contextlib
import functools
import importlib.util
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

from support.harness import ARGUMENTS, Command, is_listening, part_command
from support.parts import PARTS, ROOT
from support.patches import apply_patch
from support.peers import HOST, free_port

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = {"ab": "apache2-utils", "wrk": "wrk", "nginx": "nginx", "haproxy": "haproxy"}  # program -> Debian package
STREAM_MODULE = "ngx_stream_module.so"
STREAM_MODULE_PLACES = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"]

NGINX = """
{load_module}
daemon off;
master_process off;
pid {directory}/{name}.pid;
error_log {directory}/{name}.log crit;
worker_rlimit_nofile {descriptors};
events {{ worker_connections {connections}; }}
"""
NGINX_BACKEND = (
    NGINX
    + """
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    client_max_body_size 100m;
    client_body_buffer_size 1m;  # with its 16k, the backend has more to do in an upload than any proxy
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    client_header_timeout 600s;
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
    NGINX
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


def missing_tools():
    """Return a line for each tool that is not there, saying which package has it."""
    lines = [f"{tool}: apt install {package}" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if shutil.which("nginx") and stream_module() is None:
        lines.append("nginx's stream module: apt install libnginx-mod-stream")
    return lines


def stream_module():
    """Return the path of nginx's stream module, "" when it is built in, or None."""
    built = subprocess.run(["nginx", "-V"], capture_output=True, text=True).stderr.split()
    if "--with-stream" in built:
        return ""
    paths = [pathlib.Path(place, STREAM_MODULE) for place in STREAM_MODULE_PLACES]
    return next((str(path) for path in paths if path.exists()), None)


class Contender:
    """A running program, or, for direct, just the backend's port."""

    def __init__(self, name, port, words=None):
        """Start the program, and wait until it listens."""
        self.name = name
        self.port = port
        self.process = None
        if words:
            self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 15
            while not is_listening(port):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{name} does not start. Try it yourself: {shlex.join(map(str, words))}")
                time.sleep(0.02)

    def __enter__(self):
        """Return the contender."""
        return self

    def __exit__(self, *_):
        """End the program."""
        self.stop()

    def stop(self):
        """End the program."""
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def memory(self):
        """Return the program's resident memory in bytes, None for direct."""
        if self.process is None:
            return None
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def processor_time(self):
        """Return the seconds that the program has computed, itself and in the kernel; None for direct."""
        if self.process is None:
            return None
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return [int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields[11:13]]

    def open_files(self):
        """Return the number of the program's open descriptors, None for direct."""
        return self.process and len(list(pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir()))


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
            return Contender(name, backend_port)
        if name == "nginx":
            return self.start(name, self.nginx_words("stream", NGINX_STREAM), backend_port)
        if name == "haproxy":
            return self.start(name, self.haproxy_words, backend_port)
        return self.start(name, self.command_words(name), backend_port)

    def command_words(self, name):
        """Return the function from two ports to the command line of a part, of asyncio, or of an extra program."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        asyncio_words = [sys.executable, str(HERE / "asyncio_proxy.py"), *ARGUMENTS]
        if name.startswith("part"):
            command = part_command(int(name[-1]))
        elif name == "asyncio":
            command = Command(asyncio_words)
        elif name == "uvloop":
            command = Command([*asyncio_words, "--uvloop"])
        elif name in switched_off():
            command = Command([sys.executable, str(part4_without(name, directory) / "rsp.py"), "{config}"])
        else:
            command = self.extra[name]
        return lambda port, backend_port: command.fill_in(port, HOST, backend_port, directory)

    def nginx_words(self, name, template):
        """Return the function from two ports to nginx's command line; it writes the config."""

        def words(port, backend_port):
            module = "" if template is NGINX_BACKEND else stream_module()
            path = self.directory / f"{name}.conf"
            path.write_text(
                template.format(
                    load_module=module and f"load_module {module};",
                    directory=self.directory,
                    name=name,
                    port=port,
                    backend_port=backend_port,
                    **self.settings,
                )
            )
            return ["nginx", "-c", str(path), "-e", str(self.directory / "nginx-start.log")]

        return words

    def haproxy_words(self, port, backend_port):
        """Return haproxy's command line; writes the config."""
        path = self.directory / "haproxy.conf"
        path.write_text(HAPROXY.format(port=port, backend_port=backend_port, **self.settings))
        return ["haproxy", "-db", "-f", str(path)]


def default_names():
    """Return the contenders' names, without uvloop when it is not installed."""
    names = ["direct", "part1", "part2", "part3", "part4", "nginx", "haproxy", "asyncio"]
    return names + (["uvloop"] if importlib.util.find_spec("uvloop") else [])


def switched_off():
    """Return the names of the patches that switch off one thing in part 4."""
    return sorted(path.stem for path in (HERE / "switched_off").glob("*.patch"))


def part4_without(name, directory):
    """Return a directory with part 4 in it, less what a patch switches off."""
    copy = pathlib.Path(directory, "part4")
    if not copy.exists():
        shutil.copytree(ROOT / PARTS[4], copy, ignore=shutil.ignore_patterns("__pycache__"))
        if complaint := apply_patch(HERE / "switched_off" / f"{name}.patch", copy):
            sys.exit(f"switched_off/{name}.patch no longer applies: {complaint}. Make it again: git diff --no-index")
    return copy
