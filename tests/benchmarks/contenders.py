"""What is compared: the parts, and what people really put in front of a web server; one worker each, on loopback.

Each contender listens on a port of its own and passes everything on to the same backend, an nginx that serves files.
"""

import contextlib
import functools
import importlib.util
import pathlib
import sys

from support.harness import ARGUMENTS, Command, part_command
from support.packages import packages_needed
from support.parts import PARTS
from support.patches import patched_part
from support.peers import HOST, free_port
from support.programs import STREAM_MODULE, find, install_command, missing
from support.servers import NGINX_PATHS, Server, nginx_words

with packages_needed():
    import psutil

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = ["ab", "wrk", "nginx", STREAM_MODULE, "haproxy"]
TLS_TOOLS = [*TOOLS, "sniproxy"]
REDIS_TOOLS = [*TOOLS, "redis-server"]

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
NGINX_TLS_BACKEND = NGINX_BACKEND.replace(
    "listen 127.0.0.1:{port}",
    "ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem; listen 127.0.0.1:{port} ssl",
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

# What is compared in `--hosts`: the same backend behind a virtual host. Clients ask for 127.0.0.1, so that is its name.
NGINX_HTTP = (
    NGINX_LIMITS
    + """
http {{
    access_log off;
    keepalive_requests 100000000;
    client_max_body_size 100m;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    {paths}
    upstream backend {{ server 127.0.0.1:{backend_port}; keepalive 100; }}
    server {{ listen 127.0.0.1:{port} backlog=4096 default_server; return 404; }}
    server {{
        listen 127.0.0.1:{port};
        server_name 127.0.0.1;
        location / {{ proxy_pass http://backend; }}
    }}
}}
"""
)
HAPROXY_HTTP = HAPROXY.replace("mode tcp", "mode http\n    option forwardfor").replace(
    "    server backend",
    "    http-request deny deny_status 404 unless {{ req.hdr(host),host_only 127.0.0.1 }}\n    server backend",
)
PART6_HTTP = """
listenPort = "{port}"
hosts = {["127.0.0.1"] = {backends = {{address = "{backend_host}", port = "{backend_port}"}}}}
"""
PART6_ROUTE = PART6_HTTP + "function route(request) return request.host end\n"

# And in `--tls`: by the server name in the ClientHello; nothing is decrypted on the way. ab asks for localhost.
NGINX_SSL_PREREAD = (
    NGINX_LIMITS
    + """
stream {{
    map $ssl_preread_server_name $chosen {{ localhost 127.0.0.1:{backend_port}; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        ssl_preread on;
        proxy_pass $chosen;
    }}
}}
"""
)
HAPROXY_SNI = HAPROXY.replace(
    "    server backend",
    "    tcp-request inspect-delay 5s\n    tcp-request content reject unless {{ req.ssl_sni -i localhost }}\n"
    "    server backend",
)
SNIPROXY = """
listener 127.0.0.1:{port} {{
    protocol tls
    table hosts
}}
table hosts {{
    localhost 127.0.0.1:{backend_port}
}}
"""
HAPROXIES = {"haproxy": HAPROXY, "haproxy-http": HAPROXY_HTTP, "haproxy-sni": HAPROXY_SNI}
PROXY_PY = [sys.executable, "-m", "proxy", "--hostname", HOST, "--port", "{port}", "--num-workers", "1"]
PROXY_PY += ["--num-acceptors", "1", "--backlog", "4096", "--log-level", "CRITICAL"]
PROXY_PY += ["--enable-reverse-proxy", "--plugins", "proxy_py.OneSite"]
PART6_TLS = """
listenTlsPort = "{port}"
hosts = {localhost = {backends = {{address = "{backend_host}", port = "{backend_port}"}}}}
"""
# And in `--redis`: the same hosts in a config, and in redis.
HOSTS = 9999
PART6_HOSTS = """
listenPort = "{port}"
hosts = {["127.0.0.1"] = {backends = {{address = "{backend_host}", port = "{backend_port}"}}}}
for number = 0, COUNT - 1 do hosts["h" .. number .. ".test"] = hosts["127.0.0.1"] end
""".replace("COUNT", str(HOSTS))
PART7_REDIS = """
listenPort = "{port}"
redis = {address = "127.0.0.1", port = "REDIS"}
"""
PART7 = {
    "part7": PART7_REDIS,
    "part7-lua": PART7_REDIS + 'function route(request) return redis.get("alias:" .. request.host) end\n',
}
PART6 = {"part6-hosts": PART6_HOSTS, "part6-http": PART6_HTTP, "part6-route": PART6_ROUTE, "part6-tls": PART6_TLS}


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
        """Return the seconds that the program and its children have computed, themselves and in the kernel."""
        times = [program.cpu_times()[:2] for program in (self.known, *self.known.children(recursive=True))]
        return [sum(column) for column in zip(*times, strict=True)]

    def open_files(self):
        """Return the number of the program's open descriptors."""
        return self.known.num_fds()


class Field:
    """All the contenders, in front of one backend; a context manager that ends what it has started."""

    def __init__(self, directory, names, extra, descriptors, tls=False, redis=False):
        """Prepare; `extra` maps names to Commands, `descriptors` is what each program may open.

        With `tls` the backend speaks it; with `redis` there is one that knows HOSTS hosts.
        """
        self.directory = pathlib.Path(directory)
        self.names = names
        self.extra = extra
        self.settings = {"descriptors": descriptors, "connections": descriptors // 2 - 100}
        self.backend_template = NGINX_TLS_BACKEND if tls else NGINX_BACKEND
        self.with_redis = redis
        self.contenders = []
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        """Start the backend and the contenders."""
        with contextlib.ExitStack() as stack:
            self.backend = self.start("backend", self.nginx_words("backend", self.backend_template))
            stack.enter_context(self.backend)
            if self.with_redis:
                self.redis = stack.enter_context(self.start("redis", self.redis_words))
                self.fill_redis()
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
        if name == "nginx-http":
            return self.nginx_words("http", NGINX_HTTP)
        if name == "nginx-sni":
            return self.nginx_words("sni", NGINX_SSL_PREREAD)
        if name in HAPROXIES:
            return self.haproxy_words(name)
        if name == "sniproxy":
            return self.sniproxy_words
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        asyncio_words = [sys.executable, str(HERE / "asyncio_proxy.py"), *ARGUMENTS]
        if name in BACKEND_SETS:
            count, rest = BACKEND_SETS[name]
            command = Command(part_command(5).words, BACKEND_SET.replace("COUNT", str(count)) + rest)
        elif name in PART7 and self.with_redis:
            command = Command(part_command(7).words, PART7[name].replace("REDIS", str(self.redis.port)))
        elif name in PART6:
            command = Command(part_command(6).words, PART6[name])
        elif name == "proxy.py":
            command = Command(["env", "RSP_BACKEND={backend_host}:{backend_port}", f"PYTHONPATH={HERE}", *PROXY_PY])
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
            return nginx_words(self.directory, name, blocks, stream="stream {{" in template)

        return words

    def haproxy_words(self, name):
        """Return the function from two ports to haproxy's command line; it writes the config."""

        def words(port, backend_port):
            path = self.directory / f"{name}.conf"
            path.write_text(HAPROXIES[name].format(port=port, backend_port=backend_port, **self.settings))
            return [find("haproxy"), "-db", "-f", str(path)]

        return words

    def redis_words(self, port, backend_port):
        """Return redis's command line; it keeps nothing on the disk."""
        return [find("redis-server"), "--port", str(port), "--save", "", "--dir", str(self.directory)]

    def fill_redis(self):
        """Tell redis the hosts, all of which have the same backend."""
        import redis  # here, since nothing else in the benchmark needs it

        with redis.Redis(port=self.redis.port) as client:
            pipeline = client.pipeline(transaction=False)
            for name in [HOST, *(f"h{number}.test" for number in range(HOSTS))]:
                pipeline.sadd(f"hostnames:{name}:backends", f"{HOST}:{self.backend.port}")
            pipeline.execute()

    def sniproxy_words(self, port, backend_port):
        """Return sniproxy's command line; writes the config."""
        path = self.directory / "sniproxy.conf"
        path.write_text(SNIPROXY.format(port=port, backend_port=backend_port))
        return [find("sniproxy"), "-f", "-c", str(path), "-n", str(self.settings["descriptors"])]


def default_names():
    """Return the contenders' names, without uvloop when it is not installed."""
    names = ["direct", *(f"part{part}" for part in PARTS if part < 6), "nginx", "haproxy", "asyncio"]
    return names + (["uvloop"] if importlib.util.find_spec("uvloop") else [])


def switched_off():
    """Return the names of the patches that switch off one thing in part 4."""
    return sorted(path.stem for path in (HERE / "switched_off").glob("*.patch"))


def part4_without(name, directory):
    """Return the rsp.py of a part 4 in a directory, less what a patch switches off."""
    copy = pathlib.Path(directory, "part4")
    program = copy / "rsp.py"
    return program if program.exists() else patched_part(4, HERE / "switched_off" / f"{name}.patch", copy)
