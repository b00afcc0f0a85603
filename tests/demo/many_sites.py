"""What `make hosts` starts: several small sites, and part 7 in front of them, which tells them apart by name.

    python tests/demo/many_sites.py

The sites listen on free ports, and hosts.lua, the proxy's config, gets these from the environment. One of them has its
route in redis: in the one that REDIS=127.0.0.1:6379 names, or else in one that is started here, where redis-server is
installed. Ctrl-C, or SIGTERM, ends everything.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main is there to see to it: the imports take a moment

import asyncio
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import types

HERE = pathlib.Path(__file__).resolve().parent
PROXY = HERE.parents[1] / "part7_redis" / "rsp.py"
ADDRESS = "127.0.0.1"  # of all the backends: nobody but this machine is to reach them

MOVING = "  {moving:<40} its route is in redis: a button moves it to another backend\n"
NO_REDIS = "  (no moving.localhost, whose route is in redis: redis-server is not installed)\n"
WHERE_TO_LOOK = """
Open in a browser (Chrome, Edge and Firefox know that every name under .localhost is this machine):
  {front:<40} the way in, with links to all the others
  {site1:<40} two backends in turn: reload it
  {blog:<40} any name under site2.localhost leads here
  {chat:<40} a chat, over a WebSocket: open it in two tabs
{moving_line}  {secure:<40} TLS; your browser will warn you, as nobody vouches for this certificate

Or in another terminal:
  curl {site1:<64} # twice: each backend in turn
  curl -H 'Host: site1.localhost' {anywhere:<37} # the same: the name is all that counts
  curl --interface 127.0.0.9 {site1:<42} # as another client
  curl -H 'X-Forwarded-For: 192.0.2.1' {site1:<32} # a lie, which is not passed on
  curl --cacert {authority} {secure}

Ctrl-C stops it."""


def find_port(variable, default):
    """Return the port that the proxy is to listen on; end the program when it can't, and say how to choose another."""
    port = os.environ.get(variable) or default
    try:
        socket.create_server(("", int(port))).close()
    except OSError as error:
        way_out = f"{os.strerror(error.errno)}. Free it, or choose another"
    except (OverflowError, ValueError):
        way_out = "no such port. Choose another"
    else:
        return port
    sys.exit(f"Couldn't listen on port {port}: {way_out}: make hosts {variable}=8888")


def find_places():
    """Return the addresses to open, by name."""
    port = find_port("RSP_LISTEN_PORT", "8000")
    tls_port = find_port("RSP_LISTEN_TLS_PORT", "8443")
    names = {"front": "localhost", "site1": "site1.localhost", "blog": "blog.site2.localhost"}
    names |= {
        "moving": "moving.localhost",
        "shop": "any.thing.site2.localhost",
        "chat": "chat.localhost",
        "anywhere": "127.0.0.1",
    }
    places = {place: f"http://{name}:{port}/" for place, name in names.items()}
    secure = f"https://secure.localhost:{tls_port}/"
    return types.SimpleNamespace(**places, secure=secure, tls_port=tls_port, to_move="", moving_line=NO_REDIS)


def find_redis(directory):
    """Return redis's address and port, and the process if we have started it; Nones when there is no redis here."""
    from moving_site import start_redis

    given = os.environ.get("REDIS")
    if not given:
        process, port = start_redis(directory)
        return ADDRESS, port, process
    address, _, port = given.rpartition(":")
    if not address or not port.isdigit():
        sys.exit(f"REDIS={given} is no address and port. Give both: make hosts REDIS=127.0.0.1:6379")
    return address, port, None


def make_moving_sites(places, address, port):
    """Return the two backends of the site whose route is in redis, and its Route."""
    import redis

    from moving_site import BACKENDS, KEY, Route, moving_application

    route = Route(address, port)
    try:
        route.redis.ping()
    except redis.RedisError as error:
        reason = str(error).rstrip(".")
        sys.exit(f"redis at {address}:{port} does not answer: {reason}. Start it, or leave REDIS out.")
    places.moving_line = MOVING.format(moving=places.moving)
    places.to_move = f"redis-cli -h {address} -p {port} smembers {KEY}"
    return {name.upper(): moving_application(name, route, places) for name in BACKENDS}, route


def make_sites(places):
    """Return the plain sites, by the names that hosts.lua has for their backends."""
    from chat import ChatSocket
    from sites import application

    return {
        "BLUE": application("blue", "site1.html", places),
        "GREEN": application("green", "site1.html", places),
        "SITE2": application("site2", "site2.html", places),
        "CHAT": application("chat", "chat.html", places, [(r"/socket", ChatSocket)]),
        "FRONT": application("front", "front.html", places),
    }


def start_sites(places, directory, more):
    """Start all the sites, in threads that end with the program; return the ports of their backends, by name.

    `more` are some besides those of make_sites.
    """
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    from secure_site import SecureServer

    secure = SecureServer((ADDRESS, 0), places, directory)  # 0: any port that is free
    plain = {name: (bind_sockets(0, ADDRESS), site) for name, site in (make_sites(places) | more).items()}

    async def serve():
        for sockets, site in plain.values():
            HTTPServer(site).add_sockets(sockets)
        await asyncio.Event().wait()  # for ever

    for run in (secure.serve_forever, lambda: asyncio.run(serve())):
        threading.Thread(target=run, daemon=True).start()
    ports = {name: sockets[0].getsockname()[1] for name, (sockets, _) in plain.items()}
    return ports | {"SECURE": secure.server_port}


def start_proxy(ports, redis_place):
    """Start part 7 with hosts.lua."""
    environment = os.environ | {f"RSP_DEMO_{name}": str(port) for name, port in ports.items()}
    environment["RSP_DEMO_REDIS"] = redis_place
    program = [sys.executable, PROXY, HERE / "hosts.lua"]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True)


def main():
    """Start the sites and the proxy, say where to look, wait for Ctrl-C."""
    if len(sys.argv) != 1:
        sys.exit(f"Usage: {sys.argv[0]}, without arguments. Ports: RSP_LISTEN_PORT=8080 RSP_LISTEN_TLS_PORT=8444")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # raises KeyboardInterrupt
    proxy = redis = route = None
    try:
        with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
            places = find_places()
            address, port, redis = find_redis(directory)
            moving, route = make_moving_sites(places, address, port) if port else ({}, None)
            ports = start_sites(places, directory, moving)
            if route:
                route.places = {name: f"{ADDRESS}:{ports[name.upper()]}" for name in ("east", "west")}
                route.move("east")
            proxy = start_proxy(ports, f"{address}:{port}" if port else "")
            start_lines = [proxy.stdout.readline() for _ in range(2)]  # one for each port
            if not all(start_lines):  # it has said why, on stderr
                sys.exit(proxy.wait())
            print(*start_lines, sep="", end="")
            print(WHERE_TO_LOOK.format(authority=shlex.quote(f"{directory}/ca.pem"), **vars(places)), flush=True)
            sys.exit(proxy.wait())
    except ImportError as error:
        name = error.name.partition(".")[0]
        sys.exit(
            f"The Python package {name} is not installed here. Type: make hosts, which installs it; or: make ready"
        )
    except KeyboardInterrupt:
        print()
    finally:
        for process in filter(None, (proxy, redis)):
            process.terminate()
            process.wait()
        if route and not redis:  # it is somebody else's
            route.forget()


if __name__ == "__main__":
    main()
