"""Checks that the config chooses a backend for each client."""

from ordinary import life_goes_on
from support.harness import Command
from support.peers import EchoBackend, connect_and_be_turned_away, wait_until

HEAD = 'listenPort = "{port}"\nbackendAddress = "{backend_host}"\n'


def start(work, backend, config):
    """Return the student's proxy with a config, below its usual head."""
    work.sent(config)
    return work.start_command(Command(work.command().words, HEAD + config), backend)


def say_hello(proxy):
    """Be a client that gets an echo."""
    with proxy.connect() as client:
        client.send(b"hello")
        client.receive_exactly(5)


def in_turn(work):
    """A config whose backendPort counts sends two clients in turn to two backends."""
    with EchoBackend() as first, EchoBackend() as second:
        config = f'local ports, calls = {{"{first.port}", "{second.port}"}}, 0\n'
        config += "function backendPort() calls = calls + 1; return ports[calls % 2 + 1] end"
        proxy = start(work, first, config)
        for _ in range(6):
            say_hello(proxy)
        counts = [len(first.connections), len(second.connections)]
        work.came_back(f"of 6 clients, {counts[0]} were sent to one backend and {counts[1]} to the other")
        assert counts == [3, 3], "not in turn. Hint: call the function once for each client"


def without_hint(error):
    """Return what an error says, without its hint."""
    return str(error).partition(". Hint: ")[0]


def by_address(work):
    """The function gets the client's address, and a plain string or number works as before."""
    with EchoBackend() as backend:
        function = "function backendPort(address) if address == '127.0.0.1' then return {backend_port} end end"
        for config in (function, 'backendPort = "{backend_port}"', "backendPort = {backend_port}"):
            try:
                say_hello(start(work, backend, config))
            except AssertionError as error:
                hint = "call it with the client's address, a string" if config == function else "as it was before"
                raise AssertionError(f"no echo: {without_hint(error)}. Hint: {hint}") from None
        work.came_back("an echo, with each of the three")


def failing(work):
    """A function that fails, or returns nothing, costs that client, and one line in the log; the next one is
    served."""
    config = """local calls = 0
function backendPort()
    calls = calls + 1
    if calls == 1 then error("no backend today") end
    if calls == 3 then return "{backend_port}" end
end"""
    with EchoBackend() as backend:
        proxy = start(work, backend, config)
        for count in (1, 2):
            connect_and_be_turned_away(proxy.port)
            wait_until(lambda n=count: len(proxy.errors().splitlines()) >= n, f"{count} lines in the log")
        say_hello(proxy)
        work.came_back(f"the log: {proxy.errors()}")
        proxy.check_unharmed()
        assert len(proxy.errors().splitlines()) == 2, "not one line a client. Hint: a LuaError's first line will do"
        assert "no backend today" in proxy.errors(), "the config's own words are missing. Hint: str(error)"


def chosen(work, backend):
    """Return the student's proxy, with a function that chooses the backend's port."""
    return start(work, backend, "function backendPort(address) return {backend_port} end")


TASKS = [in_turn, by_address, failing, life_goes_on(chosen)]
