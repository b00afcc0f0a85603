"""How the parts start, well or badly, what they log, and how `make run` looks."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from support.harness import (
    START_PATIENCE,
    Command,
    Proxy,
    check_one_line,
    is_listening,
    part_command,
    request,
    run_briefly,
)
from support.parts import PARTS, ROOT
from support.peers import (
    HOST,
    PATIENCE,
    EchoBackend,
    HttpBackend,
    StreamingBackend,
    connect_and_be_reset,
    connect_and_be_turned_away,
    free_port,
    wait_until,
)

ALL_PARTS = pytest.mark.parametrize("part", PARTS, ids=PARTS.get)
FROM_PART_2 = pytest.mark.parametrize("part", list(PARTS)[1:], ids=PARTS.get)
LUA_PARTS = pytest.mark.parametrize("part", list(PARTS)[2:], ids=PARTS.get)
FROM_PART_4 = pytest.mark.parametrize("part", list(PARTS)[3:], ids=PARTS.get)


def start_badly(part, directory, port=None, backend_host=HOST, backend_port=1, **options):
    """Start a part that is expected to end at once, and return the line that it leaves on stderr."""
    words = part_command(part).fill_in(free_port() if port is None else port, backend_host, backend_port, directory)
    return ended_badly(words, **options)


def ended_badly(words, **options):
    """Run a program that is expected to end at once with status 1; return the only line on stderr."""
    return check_one_line(run_briefly(words, **options))


@contextlib.contextmanager
def started(words, directory, lines, **environment):
    """Run a program from the top directory in a with-block, which begins when these lines are on stdout."""
    path = directory / "stdout"
    with open(path, "w") as output:
        process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **environment}, stdout=output)
    try:
        what = f"{lines!r} on stdout"
        wait_until(lambda: path.read_text() == lines or process.poll() is not None, what, START_PATIENCE)
        assert path.read_text() == lines
        yield process
    finally:
        process.kill()
        process.wait()


UNKNOWN_NAMES = pytest.mark.parametrize("name", ["no-such-name.invalid", "x" * 64 + ".example", "a..b"])


@FROM_PART_2
@UNKNOWN_NAMES
def test_an_unknown_backend_name_is_named(part, name, tmp_path):
    """A misspelt backend is found at once, not when the first client comes."""
    line = start_badly(part, tmp_path, backend_host=name)
    assert line.startswith("Couldn't find backend") and name in line


@UNKNOWN_NAMES
def test_part_1_names_an_unknown_backend_to_each_client(name):
    """Part 1 looks the backend up when a client comes: one log line, and it goes on."""
    with Proxy(part_command(1), 1, backend_host=name) as proxy:
        for number in (1, 2):
            connect_and_be_turned_away(proxy.port)
            wait_until(lambda n=number: len(proxy.errors().splitlines()) == n, f"{number} lines in the log")
        assert f"Couldn't connect to backend {name}:1: " in proxy.errors()
        proxy.check_unharmed()


@ALL_PARTS
@pytest.mark.parametrize("port", ["99999", "0", "-1", "-4294949196", "+83636", "9" * 5000, "eighty", ""])
def test_an_impossible_port_is_named(part, port, tmp_path):
    """Neither side may have a port that isn't one."""
    if part == 1:
        for ports in ({"port": port}, {"backend_port": port}):
            line = start_badly(part, tmp_path, **ports)
            assert line == f"{port!r} is not a port: a port is a number from 1 to 65535.\n"
        return
    lines = [start_badly(part, tmp_path, port=port), start_badly(part, tmp_path, backend_port=port)]
    if part < 5:
        assert lines[0].startswith(f"Couldn't listen on port {port}: ")
        assert lines[1].startswith(f"Couldn't find backend {HOST}:{port}: ")
        return
    given = f'"{port}"' if len(port) < 100 else f'"{port[:60]}..."'
    for name, line in zip(["listenPort", "backendPort"], lines, strict=True):
        wrong = f"{name} must be a port, a number from 1 to 65535, not {given}."
        assert line == f"Error parsing config file: {wrong}\n"


@pytest.mark.parametrize("part", list(PARTS)[4:], ids=PARTS.get)
def test_a_port_may_be_a_service(part, tmp_path):
    """By its name, as in /etc/services: what is wrong here is something else."""
    try:
        socket.getservbyname("http", "tcp")
    except OSError:
        pytest.skip("this machine has no /etc/services")
    line = start_badly(part, tmp_path, backend_host="no-such-name.invalid", backend_port="http")
    assert line.startswith("Couldn't find backend no-such-name.invalid:http: ")


@ALL_PARTS
@pytest.mark.parametrize("words", [[], ["8000"], ["1", "2", "3", "4"]], ids=len)
def test_a_wrong_number_of_arguments_is_explained(part, words):
    """The usage, and nothing else."""
    if len(words) == 1 and part >= 3:
        words = ["8000", HOST, "8001"]
    program = part_command(part).program
    wanted = "<server_port> <backend_addr> <backend_port>" if part < 3 else "<config_file>"
    assert ended_badly(program + words) == f"Usage: {program[1]} {wanted}\n"


@LUA_PARTS
def test_an_unreadable_config_is_named(part, tmp_path):
    """A directory can't be read as a file, whoever tries."""
    line = ended_badly([*part_command(part).program, str(tmp_path)])
    assert line == f"Error parsing config file: cannot open {tmp_path}: Is a directory. Name a file that can be read.\n"


@LUA_PARTS
def test_a_config_of_bytecode_is_refused(part, tmp_path):
    """Bytecode made by hand could get out of any sandbox, so even honest bytecode is not run."""
    lupa = pytest.importorskip("lupa.luajit21", reason="the package lupa is missing, or lacks LuaJIT: pip install lupa")
    make = lupa.LuaRuntime(encoding=None).eval("function(s) return string.dump((loadstring or load)(s)) end")
    (tmp_path / "config.lua").write_bytes(make(b"listenPort, backendAddress, backendPort = '0', '127.0.0.1', '9'"))
    line = ended_badly([*part_command(part).program, str(tmp_path / "config.lua")])
    assert "config.lua: this is bytecode" in line


ENGINES = {"LuaJIT": "", "plain Lua": "sys.modules['lupa.luajit21'] = None; "}  # as where lupa was built without it
GUARD = "setmetatable(_G, {__index = function() error('guard') end, __newindex = function() error('guard') end})"
HOSTILE = [
    (b"load('x = 1')()", "nil value"),
    (b"getfenv(0).x = 1", "nil value"),
    (b"setfenv(print, {})", "nil value"),
    (b"newproxy(true)", "nil value"),
    (b"coroutine.wrap(print)()", "nil value"),
    (b"getmetatable('').__index.rep = tostring; ('x'):rep(2); io.open('x')", "nil value"),
    (b"\xef\xbb\xbf\x1bLJ\x02", "Error parsing config file: "),
    (b"error({})", "config.lua: it called error() without a message"),
    (b"error(setmetatable({}, {__tostring = function() error('no') end}))", "without a message"),
    (b"error('', 0)", "config.lua: it called error() without a message"),
    (b"error('\xff')", "config.lua: its error message is not UTF-8"),
    (b"error('two\\nlines')", "config.lua:1: two"),
    (b"local function f() return 1 + f() end f()", "stack overflow"),
    (b"x = " + b"{" * 300, "Error parsing config file: "),
    (GUARD.encode(), "listenPort must be a string"),
    (b"setmetatable(_G, {__index = function() return '80' end})", "listenPort must be a string"),
    (b"listenPort = '\xff'", "listenPort must be a string"),
    (b"listenPort = setmetatable({}, {__tostring = function() return '80' end})", "listenPort must be a string"),
    (b"local G, set = _G, rawset; for name in pairs(G) do set(G, name, nil) end", "listenPort must be a string"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("config, words", HOSTILE, ids=[config[:40] for config, _ in HOSTILE])
def test_a_hostile_config_is_one_line(engine, config, words, tmp_path):
    """Whatever a config tries, in either Lua: one line, and none of it is Python's."""
    program = part_command(3).program[-1]
    start = f"import runpy, sys; {ENGINES[engine]}sys.argv[:] = sys.argv[1:]; sys.path[0] = {str(ROOT / PARTS[3])!r}; "
    (tmp_path / "config.lua").write_bytes(config)
    words_to_run = [sys.executable, "-c", start + "runpy.run_path(sys.argv[0], run_name='__main__')"]
    assert words in ended_badly([*words_to_run, program, str(tmp_path / "config.lua")])


@LUA_PARTS
def test_without_lupa_it_says_what_to_install(part, tmp_path):
    """A machine without lupa is told the command that installs it."""
    (tmp_path / "lupa.py").write_text("raise ImportError('no lupa here')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    line = ended_badly([*part_command(part).program, "config.lua"], env=environment)
    assert "pip install lupa" in line


def test_without_hiredis_it_says_what_to_install(tmp_path):
    """Part 7 needs it only where the config has redis."""
    (tmp_path / "hiredis.py").write_text("raise ImportError('no hiredis here')\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    command = Command(part_command(7).words, 'listenPort = "{port}"\nredis = {address = "127.0.0.1"}\n')
    line = ended_badly(command.fill_in(free_port(), HOST, 1, tmp_path), env={**os.environ, **environment})
    assert "redis needs hiredis" in line and "pip install hiredis" in line
    with HttpBackend() as backend, Proxy(part_command(7, by_host=True), backend, environment=environment) as proxy:
        assert proxy.get("/").status_code == 200


@pytest.mark.parametrize("part, name", [(6, "hosts"), (7, "hosts"), (7, "redis")])
def test_without_httptools_it_says_what_to_install(part, name, tmp_path):
    """Parts 6 and 7 need it where the config has hosts, or redis, which knows some."""
    (tmp_path / "httptools.py").write_text("raise ImportError('no httptools here')\n")
    value = {
        "hosts": '{default = {backends = {{address = "127.0.0.1", port = "9"}}}}',
        "redis": '{address = "127.0.0.1"}',
    }
    command = Command(part_command(part).words, f'listenPort = "{{port}}"\n{name} = {value[name]}\n')
    line = ended_badly(command.fill_in(free_port(), HOST, 1, tmp_path), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert f"{name} needs httptools" in line and "pip install httptools" in line


@LUA_PARTS
def test_the_config_in_the_top_directory_is_good(part, tmp_path):
    """`python part4_buffering/rsp.py config.lua` works as written, from the top directory."""
    port = free_port()
    command = [sys.executable, f"{PARTS[part]}/rsp.py", "config.lua"]
    with started(command, tmp_path, f"Started.  Listening on port {port}.\n", RSP_LISTEN_PORT=str(port)):
        assert is_listening(port)


@ALL_PARTS
def test_it_runs_from_any_directory(part, tmp_path, monkeypatch):
    """A part imports only what is beside it, wherever it is started."""
    monkeypatch.chdir(tmp_path)
    with HttpBackend() as backend, Proxy(part_command(part), backend.port) as proxy:
        assert proxy.get("/").status_code == 200


@ALL_PARTS
def test_a_backend_given_by_name_is_found(part):
    """Names work like addresses; localhost may have an IPv6 address that nobody listens at, which is skipped."""
    with EchoBackend() as backend, Proxy(part_command(part), backend.port, backend_host="localhost") as proxy:
        with proxy.connect() as client:
            client.send(b"hello")
            assert client.receive_exactly(5) == b"hello"


@pytest.mark.parametrize("part", [1, 2, 3, 4], ids=PARTS.get)
def test_a_backend_that_is_down_costs_a_log_line_a_client(part):
    """Each line names the address and the reason."""
    port = free_port()
    with Proxy(part_command(part), port) as proxy:
        for number in range(1, 4):
            connect_and_be_turned_away(proxy.port)
            wait_until(lambda n=number: len(proxy.errors().splitlines()) == n, f"{number} lines in the log")
        for line in proxy.errors().splitlines():
            assert line.endswith(f"Couldn't connect to backend {HOST}:{port}: Connection refused"), line


@pytest.mark.parametrize("part", list(PARTS)[4:], ids=PARTS.get)
def test_a_backend_that_is_down_costs_one_log_line(part):
    """However many clients find it down: the line names the address and the reason. Another says that it is back."""
    port = free_port()
    with Proxy(part_command(part), port) as proxy:
        for _ in range(5):
            connect_and_be_turned_away(proxy.port)
        with HttpBackend(port):
            assert proxy.get("/").status_code == 200
        down, back = proxy.errors().splitlines()
        assert down.endswith(f"Couldn't connect to backend {HOST}:{port}: Connection refused"), down
        assert back.endswith(f"Backend {HOST}:{port} takes connections again"), back


@ALL_PARTS
def test_a_client_that_leaves_costs_no_log_line(part):
    """Leaving without a word, or by a reset before, during or after an answer, is nothing unusual."""
    with HttpBackend() as backend, Proxy(part_command(part), backend.port) as proxy:
        for way in ("close", "reset"):
            with proxy.connect() as client:
                getattr(client, way)()
            for count in (0, 100_000):
                with proxy.connect() as client:
                    client.send(b"GET /bytes?count=50000000 HTTP/1.0\r\n\r\n")
                    client.receive_exactly(count)
                    getattr(client, way)()
            assert proxy.get("/").status_code == 200
        time.sleep(0.2)
        assert proxy.errors() == ""


@ALL_PARTS
def test_a_backend_that_breaks_off_costs_one_log_line(part):
    """A backend that resets a connection in the middle of its answer has failed: that is worth a line, and only one."""
    with StreamingBackend(100_000, reset=True) as backend, Proxy(part_command(part), backend.port) as proxy:
        for _ in range(2):
            with proxy.connect() as client:
                client.send(b"some bytes, please")
                with contextlib.suppress(ConnectionError):
                    while client.socket.recv(65536):
                        pass
        expected = 2 if part < 5 else 1  # from part 5 on, one a second for each backend
        wait_until(lambda: len(proxy.errors().splitlines()) >= expected, f"{expected} lines in the log")
        time.sleep(0.2)
        lines = proxy.errors().splitlines()
        assert len(lines) == expected, lines
        for line in lines:
            assert " Lost the backend" in line and line.endswith(": Connection reset by peer"), line


@ALL_PARTS
def test_ctrl_c_while_it_still_imports_leaves_no_traceback(part, tmp_path):
    """SIGINT arrives in the middle of an import: the program ends by it, and says nothing."""
    (tmp_path / "logging.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    run = run_briefly(part_command(part).program, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, "", "")


@ALL_PARTS
@pytest.mark.parametrize("stdout", [">/dev/full", ">&-", "| true"], ids=["full", "closed", "nobody reads"])
def test_it_serves_even_if_its_stdout_takes_nothing(part, stdout):
    """A start line that nobody can read is worth one line on stderr; the proxy serves all the same."""
    command = part_command(part)
    words = ["sh", "-c", f'trap "" INT; "$0" "$@" {stdout}', *command.words]
    with HttpBackend() as backend, Proxy(Command(words), backend.port) as proxy:
        assert proxy.get("/").status_code == 200
        os.killpg(proxy.pid, signal.SIGINT)  # the shell goes on, and ends when the proxy has
        proxy.process.wait(PATIENCE)
        lines = proxy.errors().splitlines()
        assert len(lines) == 1 or not lines and stdout == "| true", lines  # true may take the line, and end
        assert all("Couldn't write the start line to stdout: " in line for line in lines), lines


@FROM_PART_4
def test_many_refused_clients_cost_nothing_that_lasts(part):
    """A backend that stays down does not use the proxy up."""
    with Proxy(part_command(part), free_port()) as proxy:
        connect_and_be_reset(proxy.port)
        before = proxy.open_files()
        for _ in range(300):
            connect_and_be_reset(proxy.port)
        wait_until(lambda: proxy.open_files() <= before, "as many open descriptors as before")


# --- make run ----------------------------------------------------------------------------------------


def check_heads(address):
    """Raise AssertionError unless HEAD gets each page's headers and no body, on one connection that stays open."""
    import requests  # here, since it takes a third of a second, and the other tests can do without

    with requests.Session() as session:
        for page, name, value in [
            ("", "Content-Type", "text/html; charset=utf-8"),
            ("picture.png", "Transfer-Encoding", "chunked"),
            ("download", "Content-Length", "100000000"),
            ("", "Content-Type", "text/html; charset=utf-8"),
        ]:
            answer = request(address + page, method="HEAD", session=session)
            assert (answer.status_code, answer.headers[name], answer.content) == (200, value, b""), page


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_demo_serves_a_page_through_the_proxy_and_stops_both(number, tmp_path):
    """What `make run` starts: one line with the address, a page, a picture, a download; then nothing is left."""
    port, backend_port = free_port(), free_port()
    address = f"http://127.0.0.1:{port}/"
    lines = f"Started.  Listening on port {port}.\nOpen {address} - Ctrl-C stops it.\n"
    command = [sys.executable, "tests/demo/one_site.py", "config.lua"]
    ports = {"RSP_LISTEN_PORT": str(port), "RSP_BACKEND_PORT": str(backend_port)}
    with started(command, tmp_path, lines, **ports) as process:
        try:
            page = request(address, headers={"X-Hello": "<world>"}).text
            assert f"127.0.0.1:{backend_port}" in page and "X-Hello: &lt;world&gt;" in page
            picture = request(address + "picture.png", timeout=10)
            assert picture.headers["Transfer-Encoding"] == "chunked"
            assert picture.content.startswith(b"\x89PNG") and picture.content.endswith(b"IEND\xae\x42\x60\x82")
            assert len(request(address + "download", timeout=10).content) == 100_000_000
            assert request(address + "nothing").status_code == 404
            check_heads(address)
        finally:
            process.send_signal(number)
            process.wait(PATIENCE)
    assert not is_listening(port) and not is_listening(backend_port)


@pytest.mark.parametrize("busy", ["RSP_LISTEN_PORT", "RSP_BACKEND_PORT"])
def test_the_demo_explains_a_busy_port(busy):
    """Whichever of its two ports is taken, one line says so."""
    with EchoBackend() as taken:
        ports = {"RSP_LISTEN_PORT": str(free_port()), "RSP_BACKEND_PORT": str(free_port()), busy: str(taken.port)}
        command = [sys.executable, "tests/demo/one_site.py", "config.lua"]
        line = ended_badly(command, cwd=ROOT, env={**os.environ, **ports})
    assert f"listen on port {taken.port}: Address already in use" in line and f"make run {busy}=" in line


def test_the_demo_without_lupa_says_what_to_install(tmp_path):
    """One line names the package and what to type."""
    (tmp_path / "lupa.py").write_text("raise ImportError('no lupa here')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    line = ended_badly([sys.executable, "tests/demo/one_site.py", "config.lua"], cwd=ROOT, env=environment)
    assert "package lupa" in line and "make run" in line and "make ready" in line
