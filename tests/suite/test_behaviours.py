"""What a proxy can do, row by row of the table in behaviours.py."""

import contextlib
import signal
import socket
import threading
import time

import pytest
import requests

from support.harness import (
    START_LINE,
    START_PATIENCE,
    Command,
    Proxy,
    check_complaint,
    check_one_line,
    check_quiet,
    has_unread_bytes,
    is_connecting_to,
    is_listening,
    request,
    run_briefly,
    waiting_clients,
)
from support.output import TRACEBACK
from support.peers import (
    HOST,
    LONG_PATIENCE,
    PATIENCE,
    SMALL_BUFFER,
    CollectingBackend,
    EchoBackend,
    FullBackend,
    HttpBackend,
    PushingBackend,
    StreamingBackend,
    check_pattern,
    connect_and_be_turned_away,
    free_port,
    pattern,
    send_byte_by_byte,
    send_pattern_in_background,
    wait_until,
    wait_until_acknowledged,
    wait_until_still,
)

MEGABYTE = 1_000_000  # bytes


def behaviour(name):
    """Return the mark that puts a test into a row of the table."""
    return pytest.mark.behaviour(name)


# --- serves requests ---------------------------------------------------------------------------------


@pytest.mark.base
@behaviour("serves requests")
def test_a_request_gets_its_answer(start_proxy):
    """Connect to the backend for each client, pass on the request, and pass the answer back."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        answer = proxy.get("/")
        assert (answer.status_code, answer.text) == (200, "Hello from the backend.\n")


@behaviour("serves requests")
def test_requests_are_served_one_after_another(start_proxy):
    """After one client comes the next: accept again."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        for _ in range(20):
            assert proxy.get("/").text == "Hello from the backend.\n"


@behaviour("serves requests")
@pytest.mark.parametrize("code", [404, 414, 500, 503])
def test_an_error_response_is_relayed_like_any_other(start_proxy, code):
    """What the backend answers is none of the proxy's business."""
    with HttpBackend() as backend:
        answer = start_proxy(backend).get(f"/status?code={code}")
        assert (answer.status_code, answer.text) == (code, "as you wished")


@behaviour("serves requests")
def test_a_chunked_response_arrives_whole(start_proxy):
    """A response of unknown length is no different: read until the backend closes."""
    with HttpBackend() as backend:
        answer = start_proxy(backend).get("/chunked?count=300000")
        assert answer.headers["Transfer-Encoding"] == "chunked"
        check_pattern(answer.content, 0)
        assert len(answer.content) == 300_000


@behaviour("serves requests")
def test_every_byte_value_passes_in_both_directions(start_proxy):
    """Bytes are not text: don't decode them, don't look for line ends, don't stop at a zero."""
    every_byte = bytes(range(256))
    with EchoBackend() as backend, start_proxy(backend).connect() as client:
        client.send(every_byte)
        assert client.receive_exactly(256) == every_byte


# --- several at once ---------------------------------------------------------------------------------


@behaviour("several clients")
def test_four_slow_answers_come_at_the_same_time(start_proxy):
    """Four requests that the backend thinks about for 1 s each are answered in under 2 s."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        for _ in range(3):  # a busy machine may hold up a client for a second, but not each time
            seconds = seconds_for_four(proxy)
            most = backend.most_at_once
            if most == 1 or most == 4 and seconds < 2:
                break
    hints = {1: "they were served one after another", 4: "the backend had them all at once; what came later?"}
    hint = hints.get(most, f"the backend had {most} of them at once; what did another one wait for?")
    assert most == 4 and seconds < 2, f"four answers of 1 s each took {seconds:.1f} s. Hint: {hint}"


def seconds_for_four(proxy):
    """Return how long four clients need to get their slow answers."""
    with contextlib.ExitStack() as stack:
        clients = []
        start = time.monotonic()
        for _ in range(4):
            clients.append(stack.enter_context(proxy.connect(timeout=10)))
            clients[-1].send(b"GET /slow?seconds=1 HTTP/1.0\r\n\r\n")
            # Some accept queues have room for two. A client that finds it full tries again a second later.
            with contextlib.suppress(AssertionError):
                wait_until_acknowledged(clients[-1].socket, PATIENCE)  # now it is in the queue, or has left it
                wait_until(lambda: not waiting_clients(proxy.port), "the proxy has accepted the client")
        for client in clients:
            answer = client.receive_all()
            assert answer.endswith(b"Sorry for the wait.\n"), f"one of four clients got {answer!r}"
        return time.monotonic() - start


@behaviour("idle client")
def test_an_idle_client_holds_up_no_other_client(start_proxy):
    """A client that connects and says nothing must not keep others from being served."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        with proxy.connect():
            assert proxy.get("/").status_code == 200


@behaviour("busy stream")
def test_a_stream_at_full_speed_leaves_room_for_a_small_request(start_proxy):
    """While one client takes all it can get, another gets its first 100,000 bytes."""
    with StreamingBackend(10**12) as stream_backend:
        proxy = start_proxy(stream_backend)
        with proxy.connect() as greedy, proxy.connect() as modest:
            greedy.send(b"everything, please")
            taking = threading.Event()
            threading.Thread(target=take_until_closed, args=(greedy, taking), daemon=True).start()
            assert taking.wait(PATIENCE), "the stream did not begin"
            modest.send(b"a little, please")
            modest.receive_pattern(100_000)
            greedy.reset()


def take_until_closed(client, taking):
    """Read as fast as possible until the connection is closed."""
    try:
        while client.receive():
            taking.set()
    except AssertionError:
        pass


@behaviour("request in pieces")
def test_a_request_may_arrive_in_two_pieces(start_proxy):
    """TCP is a stream: what was sent with one call may need several reads."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            wait_until(lambda: not has_unread_bytes(proxy.port), "the proxy has read the first piece")
            client.send(b"Connection: close\r\n\r\n")
            assert client.receive_all().endswith(b"Hello from the backend.\n")


@behaviour("request in pieces")
def test_a_request_may_arrive_byte_by_byte(start_proxy):
    """The same, taken to the extreme."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(b"G")
            wait_until(lambda: not has_unread_bytes(proxy.port), "the proxy has read the first byte")
            send_byte_by_byte(client, b"ET / HTTP/1.0\r\n\r\n")
            assert client.receive_all().endswith(b"Hello from the backend.\n")


@behaviour("both directions")
def test_one_connection_serves_many_requests(start_proxy):
    """Keep-alive: the connection stays open after a complete answer, and the next request goes through it."""
    with HttpBackend() as backend, requests.Session() as session:
        proxy = start_proxy(backend)
        for _ in range(30):
            answer = request(f"http://{HOST}:{proxy.port}/", session=session)
            assert answer.text == "Hello from the backend.\n"


@behaviour("both directions")
def test_an_echo_answers_again_and_again(start_proxy):
    """Neither side closes; each message is answered before the next one is sent."""
    with EchoBackend() as backend, start_proxy(backend).connect() as client:
        for number in range(50):
            message = b"message %d" % number
            client.send(message)
            assert client.receive_exactly(len(message)) == message


@behaviour("both directions")
def test_both_sides_talk_at_once(start_proxy):
    """WebSocket-like: the backend sends whenever it likes, and so does the client."""
    message = b"tick " * 10
    with PushingBackend(100, message) as backend, start_proxy(backend).connect() as client:
        for _ in range(100):
            client.send(b"tock " * 10)
            time.sleep(0.001)
        assert client.receive_exactly(100 * len(message)) == 100 * message
        wait_until(lambda: backend.received == 5000, "the backend has all of the client's messages")


# --- slow sides --------------------------------------------------------------------------------------


@behaviour("slow client")
def test_a_slow_client_gets_every_byte(start_proxy):
    """20 MB for a client that doesn't start reading until everything has come to a standstill."""
    count = 20 * MEGABYTE
    with StreamingBackend(count) as backend:
        proxy = start_proxy(backend)
        with proxy.connect(receive_buffer=SMALL_BUFFER) as client:
            client.send(b"20 MB, please")
            wait_until(lambda: backend.sent > 0, "the backend has begun to send")
            wait_until_still(lambda: backend.sent)
            client.receive_pattern(count)
            client.expect_end()


@behaviour("slow backend")
def test_a_slow_backend_gets_every_byte_of_an_upload(start_proxy):
    """20 MB for a backend that doesn't start reading until everything has come to a standstill."""
    count = 20 * MEGABYTE
    with CollectingBackend(count, stalled=True, receive_buffer=SMALL_BUFFER) as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            send_pattern_in_background(client, count)
            wait_until(lambda: client.sent > 0, "the client has begun to send")
            wait_until_still(lambda: client.sent)
            backend.go.set()
            assert backend.done.wait(LONG_PATIENCE), "the backend is still reading"
            assert backend.complaint is None, backend.complaint
            assert client.receive_all() == b"%d bytes" % count


@behaviour("half-closed client")
def test_a_half_closed_client_still_gets_its_answer(start_proxy):
    """A client may say that it has sent everything, and still wait for the answer."""
    with HttpBackend() as backend, start_proxy(backend).connect() as client:
        client.send(b"GET /slow?seconds=0.5 HTTP/1.0\r\n\r\n")
        client.half_close()
        answer = client.receive_all()
        assert answer.endswith(b"Sorry for the wait.\n"), (
            f"the answer was {answer!r}. Hint: the end of what the client sends is not the end of the connection"
        )


@behaviour("bounded memory")
def test_memory_stays_bounded_while_a_client_stalls_in_200_mb(start_proxy):
    """The proxy must stop reading what it can't pass on, and go on when the client does."""
    count = 200 * MEGABYTE
    with StreamingBackend(count) as backend:
        proxy = start_proxy(backend)
        before = proxy.memory()
        with proxy.connect(receive_buffer=SMALL_BUFFER, timeout=LONG_PATIENCE) as client:
            client.send(b"200 MB, please")
            wait_until(lambda: backend.sent > 0, "the backend has begun to send")
            wait_until_still(lambda: backend.sent)
            growth = proxy.memory() - before
            assert growth < 16 * MEGABYTE, f"it grew by {growth:,} bytes, unread by the client. Hint: stop reading"
            client.receive_pattern(count)
            client.expect_end()


@behaviour("silent connect")
def test_a_backend_that_does_not_accept_holds_up_nobody_else(start_proxy):
    """A connect that no backend answers must not keep the proxy from the clients that are connected already."""
    with FullBackend() as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as connected:
            connected.send(b"hello")
            connected.receive_exactly(5)
            backend.fill()
            with proxy.connect() as hopeless:
                hopeless.send(b"is anybody there?")
                wait_until(lambda: is_connecting_to(backend.port), "the proxy tries to connect for a second client")
                for _ in range(3):
                    connected.send(b"are you still there?")
                    assert connected.receive_exactly(20) == b"are you still there?"


@behaviour("out of descriptors")
def test_a_client_waits_while_descriptors_have_run_out(start_proxy):
    """With all descriptors in use, the next client waits in the queue, and is served once some are free again."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        assert proxy.get("/").status_code == 200
        proxy.limit_open_files(proxy.open_files() + 35)
        crowd = [start_connecting(proxy.port) for _ in range(60)]
        time.sleep(0.5)  # let the proxy take as many as it can
        last = start_connecting(proxy.port)
        time.sleep(0.2)
        for sock in crowd:
            sock.close()
        last.settimeout(LONG_PATIENCE)
        try:
            last.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: last.recv(4096), b""))
        except OSError as error:
            raise AssertionError(f"the waiting client got: {error}. Hint: who accepted it, and with what?") from None
        finally:
            last.close()
        assert answer.endswith(b"Hello from the backend.\n"), f"the waiting client got {answer!r}"
        proxy.check_unharmed()


def start_connecting(port):
    """Return a socket that is connecting, or about to be, whether or not there is room in the accept queue."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((HOST, port))
    time.sleep(0.002)  # so that they come one by one
    sock.setblocking(True)
    return sock


# --- accidents ---------------------------------------------------------------------------------------


@behaviour("survives")
@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_may_vanish_in_the_middle_of_its_answer(start_proxy, way):
    """Writing to a client that has gone fails; that is the end of that client, and of nothing else."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        for _ in range(3):
            with proxy.connect() as client:
                client.send(b"GET /bytes?count=20000000 HTTP/1.0\r\n\r\n")
                client.receive_exactly(100_000)
                getattr(client, way)()
            assert proxy.get("/").status_code == 200
        proxy.check_unharmed()


@behaviour("survives")
def test_a_client_may_leave_without_a_word(start_proxy):
    """Connecting and closing at once, as port scanners and health checks do, is no reason to stop."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        for way in ("close", "reset", "close"):
            with proxy.connect() as client:
                getattr(client, way)()
        assert proxy.get("/").status_code == 200
        proxy.check_unharmed()


@behaviour("survives")
def test_a_backend_may_be_down_and_come_back(start_proxy, command):
    """While nothing listens on the backend's port, clients are turned away; once it is back, all is well again."""
    port = free_port()
    proxy = start_proxy(port)
    for _ in range(3):
        connect_and_be_turned_away(proxy.port, b"HTTP/1.1 502 " if command.by_host else b"")
    proxy.check_unharmed()
    with HttpBackend(port):
        assert proxy.get("/").status_code == 200


@behaviour("survives")
def test_a_backend_may_die_in_the_middle_of_its_answer(start_proxy):
    """The client gets what there was and sees the connection end; the next one is served."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        for _ in range(3):
            with proxy.connect() as client:
                client.send(b"GET /die HTTP/1.0\r\n\r\n")
                answer = receive_until_it_breaks_off(client)
            assert answer.endswith(pattern(0, 1000)), f"{len(answer):,} bytes came. Hint: pass on what there was"
            assert proxy.get("/").status_code == 200
        proxy.check_unharmed()


def receive_until_it_breaks_off(client):
    """Return what arrives up to an end of file or a reset."""
    data = b""
    try:
        while piece := client.socket.recv(65536):
            data += piece
    except ConnectionError:
        pass  # a reset is as good as an end
    except TimeoutError:
        raise AssertionError("the backend has gone, and the client was not told. Hint: close the client") from None
    return data


# --- costs -------------------------------------------------------------------------------------------


@behaviour("frugal")
def test_no_file_descriptor_stays_open(start_proxy):
    """After fifty requests, some of them abandoned, no more are open than before."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend)
        proxy.get("/")
        wait_until_still(proxy.open_files, still=0.2)
        before = proxy.open_files()
        for number in range(50):
            if number % 5:
                proxy.get("/")
            else:
                with proxy.connect() as client:
                    client.send(b"GET /bytes?count=1000000 HTTP/1.0\r\n\r\n")
                    client.receive_exactly(1000)
                    client.reset()
        wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before the requests")


@behaviour("frugal")
def test_nothing_to_do_costs_no_cpu(start_proxy):
    """A connection that is open and quiet must not keep the loop busy."""
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(b"hello")
            client.receive_exactly(5)
            check_quiet(proxy)


# --- good manners ------------------------------------------------------------------------------------


@behaviour("good manners")
def test_it_says_when_it_is_ready(start_proxy, strict):
    """One line on stdout, flushed, when the port accepts and not before."""
    with HttpBackend() as backend:
        proxy = start_proxy(backend, wait=False)
        line = START_LINE.format(port=proxy.port)

        def is_ready():
            if strict:
                return proxy.output() == line + "\n"
            return " ".join(line.split()) in " ".join(proxy.output().split()) or is_listening(proxy.port)

        wait_until(lambda: is_ready() or not proxy.is_alive(), f"{line!r} on stdout", START_PATIENCE)
        proxy.check_unharmed()
        assert is_listening(proxy.port), "it says so before its port accepts. Hint: listen first"


@behaviour("good manners")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_stops_cleanly(start_proxy, number, strict):
    """Ctrl-C and a kill end it within a second, without a traceback, with clients or without."""
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(b"hello")
            client.receive_exactly(5)
            seconds = proxy.signal_and_wait(number)
            assert seconds < 1, f"{seconds:.1f} s from {number.name} to its end. Hint: end the clients' connections too"
        assert TRACEBACK not in proxy.errors(), (
            f"a traceback after {number.name}. Hint: catch it, also in what serves a client, and end"
        )
        assert not strict or proxy.errors() == ""


@behaviour("good manners")
def test_it_explains_wrong_usage(command, strict):
    """Started without arguments, it says in one line what it expects."""
    run = run_briefly(command.program)
    if not strict:
        check_complaint(run, "usage:")
        return
    wanted = "<config_file>" if command.takes_config else "<server_port> <backend_addr> <backend_port>"
    check_one_line(run, "Usage: ", wanted)


@behaviour("good manners")
def test_it_explains_a_port_in_use(command, tmp_path, strict):
    """If something else is listening on the port, it exits with a line that names the port."""
    with socket.create_server(("", free_port())) as taken:
        port = taken.getsockname()[1]
        run = run_briefly(command.fill_in(port, HOST, free_port(), tmp_path))
    if strict:
        check_one_line(run, str(port))
    else:
        check_complaint(run, str(port), "in use", "EADDRINUSE")


# --- Lua ---------------------------------------------------------------------------------------------


NO_CONFIG = "it takes no config file. Hint: read the settings from a Lua file"


def run_config(command, directory, config):
    """Run a proxy with a config of this text, and return what became of it; it must not start."""
    assert command.takes_config, NO_CONFIG
    return run_briefly(Command(command.words, config).fill_in(free_port(), HOST, free_port(), directory))


GOOD_CONFIG = 'listenPort = "8000"\nbackendAddress = "127.0.0.1"\nbackendPort = "9"\n'


@behaviour("reads Lua")
def test_a_config_computes_its_values_and_may_use_numbers(command):
    """The config is a program: arithmetic, functions, tables, the environment. A number serves as a string."""
    assert command.takes_config, NO_CONFIG
    config = (
        "local ports = {front = {port} - 100, back = {backend_port}}\n"
        "local function join(...) return table.concat({...}, '.') end\n"
        "listenPort = ports.front + 100\n"
        "backendAddress = join('127', '0', '0', '1')\n"
        "backendPort = tostring(ports.back):rep(1) .. (os.getenv('NO_SUCH_NAME') or '')\n"
    )
    with HttpBackend() as backend, Proxy(Command(command.words, config), backend.port) as proxy:
        assert proxy.get("/").status_code == 200


@behaviour("reads Lua")
def test_it_explains_a_missing_config_file(command, tmp_path):
    """The message names the file that isn't there."""
    assert command.takes_config, NO_CONFIG
    words = command.fill_in(free_port(), HOST, free_port(), tmp_path)
    path = tmp_path / "config.lua"
    path.unlink()
    check_one_line(run_briefly(words), "Error parsing config file: ", str(path))


@behaviour("reads Lua")
@pytest.mark.parametrize(
    "config, words",
    [
        ("listenPort = = 8000", ["config.lua:1:", "unexpected symbol"]),
        ("-- fine so far\nlistenPort = nil + 1", ["config.lua:2:", "arithmetic"]),
        ("error('no backend today')", ["config.lua:1:", "no backend today"]),
        ("\x1bLJ\x02", ["config.lua"]),
    ],
    ids=["syntax error", "run-time error", "error called", "bytecode"],
)
def test_it_explains_a_broken_config(command, tmp_path, config, words):
    """Lua's own message, with file and line, in one line."""
    run = run_config(command, tmp_path, config)
    check_one_line(run, "Error parsing config file: ", *words)


@behaviour("reads Lua")
@pytest.mark.parametrize("name", ["listenPort", "backendAddress", "backendPort"])
@pytest.mark.parametrize("value", ["nil", "{}", "true", "function() end"])
def test_it_explains_a_missing_or_wrong_setting(command, tmp_path, name, value):
    """A setting that is missing, or is neither a string nor a number, is named."""
    run = run_config(command, tmp_path, GOOD_CONFIG + f"{name} = {value}\n")
    check_one_line(run, f"{name} must be a string")


@behaviour("reads Lua")
@pytest.mark.parametrize(
    "way",
    [
        "python.eval('1')",
        "python.builtins.open('/dev/null')",
        "require('python').none.__class__",
        "package.loaded.python.none.__class__",
        "debug.getregistry()._LOADED.python.none.__class__",
        "require('ffi').C.getpid()",
        "package.loadlib('libc.so.6', 'getpid')()",
        "io.open('/dev/null')",
        "os.execute('true')",
        "loadstring(string.dump(function() end))()",
    ],
)
def test_a_config_cannot_get_out_of_lua(command, tmp_path, way):
    """Not to Python, not to C, not to files or other programs."""
    run = run_config(command, tmp_path, f"local found = {way}\n{GOOD_CONFIG}")
    check_one_line(run, "Error parsing config file: ", "config.lua:1:", "nil value")
