"""What `make hosts` starts: sites answer by name, the chat chats, TLS works, in a real browser too; then all ends."""

import asyncio
import contextlib
import http.client
import os
import pathlib
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time

import psutil
import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from support.browser import Browser
from support.harness import START_PATIENCE, check_one_line, family, is_listening, run_briefly
from support.output import with_output
from support.parts import ROOT
from support.peers import HOST, PATIENCE, EchoBackend, RedisServer, free_port, wait_until
from support.programs import find

COMMAND = [sys.executable, str(ROOT / "tests" / "demo" / "many_sites.py")]
CLIENT = "127.0.0.9"  # a client that is not where the proxy is: every address that begins with 127 is this machine
BROWSER_PATIENCE = 20  # seconds that a page may take in a browser on a busy machine
NEEDS_CHROMIUM = pytest.mark.needs("chromium", "chromedriver")


class Demo:
    """A running demo."""

    def __init__(self, directory, **more):
        """Start it on free ports, from a directory that isn't the course's, and wait until it says what to open.

        `more` goes into its environment.
        """
        self.port, self.tls_port = free_port(), free_port()
        self.output = directory / "output"
        ports = {"RSP_LISTEN_PORT": str(self.port), "RSP_LISTEN_TLS_PORT": str(self.tls_port)}
        environment = {**os.environ, **ports, "TMPDIR": str(directory), **more}
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                COMMAND, cwd=directory, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            wait_until(
                lambda: "Ctrl-C" in self.printed() or not self.is_alive(), "it says what to open", START_PATIENCE
            )
            assert self.is_alive(), with_output("the demo has ended", self.printed())
        except BaseException:
            self.kill()
            raise

    def printed(self):
        """Return what it has printed, wherever."""
        return self.output.read_text()

    def is_alive(self):
        """Return True if it still runs."""
        return self.process.poll() is None

    def kill(self):
        """End it and the proxy that it has started, whatever state they are in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def commands(self):
        """Return the commands that it prints for a terminal."""
        return re.findall("^  (curl .*)", self.printed(), re.MULTILINE)

    def authority(self):
        """Return the path of the certificate that the TLS site's own can be checked with."""
        return next(words[2] for words in map(shlex.split, self.commands()) if words[1] == "--cacert")

    def ask(self, name, method="GET", path="/", **headers):
        """Return the answer to a request for a site by name, and its text; the client is at CLIENT."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE, source_address=(CLIENT, 0))
        return answer_to(connection, method, path, Host=f"{name}:{self.port}", **headers)

    def ask_securely(self, version, **headers):
        """Return the answer of the TLS site in a version of TLS, and its text; the client is at CLIENT."""
        context = ssl.create_default_context(cafile=self.authority())
        context.minimum_version = context.maximum_version = version
        connection = http.client.HTTPConnection("secure.localhost", self.tls_port)
        plain = socket.create_connection((HOST, self.tls_port), PATIENCE, source_address=(CLIENT, 0))
        connection.sock = context.wrap_socket(plain, server_hostname="secure.localhost")
        return answer_to(connection, "GET", "/", **headers)


def answer_to(connection, method, path, **headers):
    """Send a request, and return the answer and its text; the connection is closed."""
    with contextlib.closing(connection):
        connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read().decode()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A running demo, for all the tests that only look at it."""
    running = Demo(tmp_path_factory.mktemp("hosts demo"))
    yield running
    running.kill()


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, backend",
    [
        ("site1.localhost", "blue|green"),
        ("WWW.Site1.localhost.", "blue|green"),
        ("blog.site2.localhost", "site2"),
        ("any.thing.site2.localhost", "site2"),
        ("chat.localhost", "chat"),
        ("localhost", "front"),
        ("site2.localhost", "front"),
        ("no-such-site.example", "front"),
    ],
)
def test_each_name_leads_to_its_site(demo, name, backend):
    """By the Host header, whatever its case; `www.site1.localhost` by the config's route; others to the front page."""
    answer, text = demo.ask(name)
    assert answer.status == 200
    assert re.search(rf"^The backend ({backend}), at 127\.0\.0\.1:\d+, answers\.$", text, re.MULTILINE), text
    assert f"You asked for {name}." in text


@pytest.mark.parametrize("forged", [{}, {"X_Forwarded_For": "192.0.2.1"}], ids=["honest", "forged"])
@pytest.mark.parametrize("name", ["site1.localhost", "blog.site2.localhost", "chat.localhost", "127.0.0.1"])
def test_each_page_shows_where_the_client_is(demo, name, forged):
    """The client's own address, as X-Forwarded-For tells the backend, and not the one that a client claims."""
    answer, page = demo.ask(name, Accept="text/html", **forged)
    assert answer.getheader("Content-Type") == "text/html; charset=UTF-8"
    assert f'<strong id="client">{CLIENT}</strong>' in page and f"X-Forwarded-For: {CLIENT}" in page
    assert f"<h1>{name}</h1>" in page and f"Host: {name}:{demo.port}" in page
    assert "192.0.2.1" not in page
    assert not re.search(r'(src|href)="(?!http://[\w.]*localhost:|https://secure\.localhost:|/"|data:)', page)


@pytest.mark.parametrize("name", ["site1.localhost", "127.0.0.1"])
def test_a_page_shows_headers_in_their_own_spelling(demo, name):
    """As the backend got them: the server that makes the page would have written X-Odd-Name."""
    _, page = demo.ask(name, Accept="text/html", x_ODD_name="1", **{"x-hello": "<b>"})
    assert "\nx-ODD-name: 1\n" in page and "\nx-hello: &lt;b&gt;\n" in page, page


def test_two_backends_take_turns(demo):
    """Every load of the page is a new connection, so it changes its colour, though a browser would keep the old one."""
    answers = [demo.ask("site1.localhost", Accept="text/html") for _ in range(4)]
    colours = [re.search('<html lang="en" class="(.*)">', page)[1] for _, page in answers]
    assert colours in (["blue", "green"] * 2, ["green", "blue"] * 2)
    assert all(answer.getheader("Connection") == "close" for answer, _ in answers)


def test_a_host_that_is_no_name_does_not_get_into_a_page(demo):
    """The proxy refuses it before any backend sees it."""
    answer, page = demo.ask("<b>site1</b>.localhost", Accept="text/html")
    assert answer.status == 400 and "<b>" not in page


@pytest.mark.needs("redis-server")
def test_a_button_moves_a_site_while_everything_runs(demo):
    """What it writes into redis holds for the very next request; whoever pressed it is shown the result."""

    def backend():
        return re.search("^The backend (east|west),", demo.ask("moving.localhost")[1], re.MULTILINE)[1]

    before = backend()
    assert "Move it" in demo.ask("moving.localhost", Accept="text/html")[1]
    answer, _ = demo.ask("moving.localhost", method="POST", path="/move")
    assert (answer.status, answer.getheader("Location")) == (303, "/")
    assert {before, backend()} == {"east", "west"}
    demo.ask("moving.localhost", method="POST", path="/move")
    assert backend() == before


@pytest.mark.needs("redis-server")
def test_the_button_says_why_when_redis_has_gone(tmp_path):
    """The site stays where it is, and so does everything else; Ctrl-C still ends it all, without a traceback."""
    with RedisServer() as redis:
        demo = Demo(tmp_path, REDIS=f"{HOST}:{redis.port}")
        try:
            processes = list(family(demo.process.pid))
            before = demo.ask("moving.localhost")[1].splitlines()[-1]
            redis.kill()
            answer, page = demo.ask("moving.localhost", method="POST", path="/move", Accept="text/html")
            assert answer.status == 503 and "It has not moved" in page and "Connection refused" in page
            assert demo.ask("moving.localhost")[1].splitlines()[-1] == before
            os.killpg(demo.process.pid, signal.SIGINT)
            assert demo.process.wait(PATIENCE) == 0
            assert not any(map(psutil.pid_exists, processes))
            assert "Traceback" not in demo.printed()
        finally:
            demo.kill()


@pytest.mark.needs("redis-server")
def test_a_redis_that_hangs_holds_up_no_other_site(tmp_path):
    """Who has pressed the button waits; the pages of the other sites come meanwhile."""
    with RedisServer() as redis:
        demo = Demo(tmp_path, REDIS=f"{HOST}:{redis.port}")
        try:
            demo.ask("moving.localhost")  # known from now on
            with redis.stopped(), socket.create_connection((HOST, demo.port), PATIENCE) as button:
                button.sendall(b"POST /move HTTP/1.1\r\nHost: moving.localhost\r\nContent-Length: 0\r\n\r\n")
                begin = time.monotonic()
                assert all(demo.ask("site1.localhost")[0].status == 200 for _ in range(10))
                assert time.monotonic() - begin < 1, "the other sites have waited for the button's time limit, 2 s"
                assert button.recv(12) == b"HTTP/1.1 503"
        finally:
            demo.kill()


@pytest.mark.parametrize("place", ["6379", "127.0.0.1:redis", "127.0.0.1:1"])
def test_a_redis_that_is_not_there_is_named(place):
    """One line that says so, and what to do; nothing is left running."""
    ports = {"RSP_LISTEN_PORT": str(free_port()), "RSP_LISTEN_TLS_PORT": str(free_port())}
    run = run_briefly(COMMAND, env={**os.environ, **ports, "REDIS": place})
    check_one_line(run, place)


def test_head_gets_the_head(demo):
    """As `curl -I` asks for it."""
    for name in ("site1.localhost", "chat.localhost"):
        answer, text = demo.ask(name, method="HEAD")
        assert answer.status == 200 and int(answer.getheader("Content-Length")) > 100 and text == ""


@pytest.mark.needs("bash", "curl")
def test_the_printed_commands_work(demo):
    """Each curl command on the screen can be pasted."""
    wanted = [
        "You asked for site1.localhost.\nThe client is at 127.0.0.1: ",
        "You asked for site1.localhost.\nThe client is at 127.0.0.1: ",
        "You asked for site1.localhost.\nThe client is at 127.0.0.9: ",
        "You asked for site1.localhost.\nThe client is at 127.0.0.1: ",
        "You asked for secure.localhost.\nThe client is at 127.0.0.1: so says the PROXY protocol.\n",
    ]
    commands = demo.commands()
    assert len(commands) == len(wanted)
    for command, words in zip(commands, wanted, strict=True):
        words_run = ["bash", "-c", command]
        run = subprocess.run(words_run, capture_output=True, text=True, timeout=PATIENCE)
        assert run.stdout.startswith(words), f"{command}: {run.stdout}{run.stderr}"


# --- the chat ----------------------------------------------------------------------------------------


class User:
    """A client of the chat."""

    def __init__(self, demo):
        """Say which demo."""
        address = f"ws://{HOST}:{demo.port}/socket"
        headers = {"Host": f"chat.localhost:{demo.port}", "Origin": f"http://chat.localhost:{demo.port}"}
        self.handshake = HTTPRequest(address, headers=headers, network_interface=CLIENT, connect_timeout=PATIENCE)

    async def enter(self):
        """Connect, and return the number that the chat gives this user."""
        self.connection = await websocket_connect(self.handshake)
        welcome = await self.next()
        assert re.fullmatch(r"Welcome, User \d+", welcome), welcome
        assert await self.next() == f"You come from {CLIENT}"
        return welcome.removeprefix("Welcome, ")

    async def next(self):
        """Return the next line from the chat."""
        return await asyncio.wait_for(self.connection.read_message(), PATIENCE)


def test_what_one_user_says_all_see(demo):
    """Two WebSockets through the proxy, by name: the welcome, the words of both, and the leaving."""

    async def talk():
        """Be two users; one leaves."""
        ann, bob = User(demo), User(demo)
        ann_number, bob_number = await ann.enter(), await bob.enter()
        assert ann_number != bob_number
        for user, number, words in [(ann, ann_number, "Is anybody here?"), (bob, bob_number, "Ünîcode, " + "x" * 3000)]:
            await user.connection.write_message(words)
            assert await ann.next() == await bob.next() == f"{number} says: {words}"
        ann.connection.close()
        assert await bob.next() == f"{ann_number} has disconnected"
        bob.connection.close()

    asyncio.run(talk())


def test_pages_of_other_sites_can_not_chat(demo):
    """The Host is passed on as it is, so the chat can tell its own page from another site's: Tornado does it."""
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    headers |= {"Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": "http://site1.localhost"}
    answer, _ = demo.ask("chat.localhost", path="/socket", **headers)
    assert answer.status == 403


# --- TLS ---------------------------------------------------------------------------------------------

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)


@VERSIONS
def test_the_tls_site_knows_its_client(demo, version):
    """The certificate is its own and is checked; the client's address comes from the PROXY line."""
    answer, text = demo.ask_securely(version)
    assert answer.status == 200
    assert f"You asked for secure.localhost.\nThe client is at {CLIENT}: so says the PROXY protocol." in text
    answer, page = demo.ask_securely(version, Accept="text/html")
    assert f'<strong id="client">{CLIENT}</strong>' in page
    assert re.search(rf'<pre id="line">PROXY TCP4 {CLIENT} 127\.0\.0\.1 \d+ {demo.tls_port}</pre>', page)
    assert '<mark id="name">secure.localhost</mark>' in page
    assert f"over <strong>{version.name.replace('_', '.')}</strong>" in page


def test_a_plain_request_for_the_tls_site_is_sent_there(demo):
    """Who types http instead of https gets the right address."""
    for path in ("/", "/any/page?x=1"):
        answer, _ = demo.ask("secure.localhost", path=path)
        assert (answer.status, answer.getheader("Location")) == (308, f"https://secure.localhost:{demo.tls_port}{path}")


def test_the_tls_site_survives_bad_clients(demo):
    """One that leaves, one that speaks no TLS, and one that does not trust its certificate."""
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"):
        with socket.create_connection((HOST, demo.tls_port), PATIENCE) as client:
            client.sendall(data)
    with pytest.raises(ssl.SSLCertVerificationError):
        with socket.create_connection((HOST, demo.tls_port), PATIENCE) as client:
            ssl.create_default_context().wrap_socket(client, server_hostname="secure.localhost")
    assert demo.ask_securely(ssl.TLSVersion.TLSv1_3)[0].status == 200
    assert demo.printed().endswith("Ctrl-C stops it.\n"), with_output("more than that is printed", demo.printed())


def test_the_tls_site_misses_its_proxy_line(tmp_path):
    """The page says so when sendProxyProtocol is removed from hosts.lua."""
    demo = Demo(tmp_path)
    try:
        _, text = demo.ask_securely(ssl.TLSVersion.TLSv1_3)
        port = int(re.search(r"secure, at 127\.0\.0\.1:(\d+)", text)[1])
        with socket.create_connection((HOST, port), PATIENCE) as plain, pytest.raises(OSError):
            ssl.create_default_context(cafile=demo.authority()).wrap_socket(plain, server_hostname="secure.localhost")
        line = 'The TLS site was sent no PROXY line. Does its host in hosts.lua say sendProxyProtocol = "v1"?\n'
        wait_until(lambda: demo.printed().endswith(line), f"{line!r} on the screen")
        assert demo.ask_securely(ssl.TLSVersion.TLSv1_3)[0].status == 200
    finally:
        demo.kill()


# --- in a browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium without a window."""
    with Browser(tmp_path_factory.mktemp("chromium")) as driver:
        driver.set_page_load_timeout(BROWSER_PATIENCE)
        yield driver


def text_of(browser, selector):
    """Return the text of what a CSS selector finds on the page, "" while there is nothing."""
    return "\n".join(element.text for element in browser.find_elements("css selector", selector))


def wait_for(browser, selector, words):
    """Wait until there are words on the page, and return all the text at that place."""
    wait_until(lambda: words in text_of(browser, selector), f"{words!r} on the page", BROWSER_PATIENCE)
    return text_of(browser, selector)


def enter_chat(browser, demo):
    """Open the chat in the current tab, and return the number that it gives us."""
    browser.get(f"http://chat.localhost:{demo.port}/")
    assert text_of(browser, "#client") == "127.0.0.1"
    text = wait_for(browser, "#messages", "You come from 127.0.0.1")
    return re.search(r"Welcome, (User \d+)", text)[1]


def say(browser, words):
    """Type something into the chat, and press Return."""
    browser.find_element("id", "message").send_keys(words + "\n")


@NEEDS_CHROMIUM
def test_two_tabs_of_a_browser_chat(demo, browser):
    """What is typed in one is there to read in the other, as text and not as HTML."""
    first, ann = browser.current_window_handle, enter_chat(browser, demo)
    browser.switch_to.new_window("tab")
    second, bob = browser.current_window_handle, enter_chat(browser, demo)
    assert ann != bob
    say(browser, "Hello from the <b>second</b> tab")
    assert wait_for(browser, ".mine", "Hello") == f"{bob} says:\nHello from the <b>second</b> tab"
    browser.switch_to.window(first)
    assert wait_for(browser, ".theirs", "Hello") == f"{bob} says:\nHello from the <b>second</b> tab"
    say(browser, "And from the first")
    browser.switch_to.window(second)
    assert wait_for(browser, ".theirs", "And") == f"{ann} says:\nAnd from the first"
    browser.close()
    browser.switch_to.window(first)
    wait_for(browser, "#messages", f"{bob} has disconnected")


@NEEDS_CHROMIUM
def test_a_browser_opens_the_tls_site_by_name(demo, browser):
    """The name in its ClientHello leads it there, and the page shows its address, from the PROXY line."""
    browser.get(f"https://secure.localhost:{demo.tls_port}/")
    assert text_of(browser, "h1") == text_of(browser, "#name") == "secure.localhost"
    assert text_of(browser, "#client") == "127.0.0.1"
    assert re.fullmatch(rf"PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ {demo.tls_port}", text_of(browser, "#line"))


@NEEDS_CHROMIUM
def test_a_browser_gets_another_backend_at_each_load(demo, browser):
    """And fetches nothing but the page: each further request would have taken a turn."""
    browser.get(f"http://localhost:{demo.port}/")
    browser.find_element("link text", "site1.localhost").click()
    seen = []
    for _ in range(4):
        seen.append(text_of(browser, "#backend"))
        browser.refresh()
    assert seen in (["blue", "green"] * 2, ["green", "blue"] * 2)


# --- its start and its end ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_everything(number, tmp_path):
    """The sites, the proxy and the certificate, while a chat is open; no traceback."""
    demo = Demo(tmp_path)
    try:
        processes = list(family(demo.process.pid))
        authority = pathlib.Path(demo.authority())
        assert len(processes) == (3 if find("redis-server") else 2) and authority.exists()
        with socket.create_connection((HOST, demo.port), PATIENCE) as chat:
            chat.sendall(b"GET / HTTP/1.1\r\nHost: chat.localhost\r\n\r\n")
            assert chat.recv(12) == b"HTTP/1.1 200"
            if number == signal.SIGINT:
                os.killpg(demo.process.pid, number)  # a terminal tells the proxy too
            else:
                demo.process.send_signal(number)
            assert demo.process.wait(PATIENCE) == 0
        assert not any(map(psutil.pid_exists, processes))
        assert not is_listening(demo.port) and not is_listening(demo.tls_port)
        assert not authority.parent.exists()
        assert demo.printed().endswith("Ctrl-C stops it.\n\n")
    finally:
        demo.kill()


def test_a_proxy_that_dies_ends_the_demo(tmp_path):
    """With the proxy's status; no process is left to wait for it."""
    demo = Demo(tmp_path)
    try:
        (proxy,) = (pid for pid in family(demo.process.pid) if "rsp.py" in " ".join(psutil.Process(pid).cmdline()))
        os.kill(proxy, signal.SIGKILL)
        assert demo.process.wait(PATIENCE) != 0
    finally:
        demo.kill()


def run_badly(**environment):
    """Run a demo that is expected to end at once; return the line that it leaves on stderr."""
    ports = {"RSP_LISTEN_PORT": str(free_port()), "RSP_LISTEN_TLS_PORT": str(free_port())}
    run = run_briefly(COMMAND, env={**os.environ, **ports, **environment})
    return check_one_line(run)


@pytest.mark.parametrize("busy", ["RSP_LISTEN_PORT", "RSP_LISTEN_TLS_PORT"])
def test_a_busy_port_is_named(busy):
    """Whichever of its two ports is taken, one line says so."""
    with EchoBackend() as taken:
        line = run_badly(**{busy: str(taken.port)})
    assert line.startswith(f"Couldn't listen on port {taken.port}: Address already in use.")
    assert f"make hosts {busy}=" in line


@pytest.mark.parametrize("port", ["99999", "-1", "eighty"])
def test_an_impossible_port_is_named(port):
    """It names the port, and the variable that has it."""
    line = run_badly(RSP_LISTEN_TLS_PORT=port)
    assert f"port {port}: no such port" in line and "RSP_LISTEN_TLS_PORT" in line


NEEDED = ["tornado", "trustme", "httptools", "lupa", "redis"]
HIREDIS = pytest.param("hiredis", marks=pytest.mark.needs("redis-server"))  # the proxy needs it when there is a redis


@pytest.mark.parametrize("package", [*NEEDED, HIREDIS])
def test_a_missing_package_is_named(package, tmp_path):
    """Whoever imports it, the demo or the proxy, says what to install."""
    (tmp_path / f"{package}.py").write_text("raise ModuleNotFoundError('not here', name=__name__)\n")
    line = run_badly(PYTHONPATH=str(tmp_path))
    assert re.search(rf"pip install .*\b{package}\b|package {package} .*Type: make hosts\b.*make ready", line), line


def test_make_hosts_starts_this():
    """The Makefile's target runs this program, and installs what it imports."""
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^hosts: \.venv/ready-to-hosts\n\t(.*)$", makefile, re.MULTILINE)[1]
    program = shlex.split(recipe.removeprefix("@"))[-1]
    assert str(ROOT / program) == COMMAND[-1]
    pattern = re.search(r"grep -E '(.*)' requirements\.txt", makefile)[1]
    installed = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if re.match(pattern, line)]
    assert sorted(re.split(r"\W", line)[0] for line in installed) == [
        *("hiredis", "httptools", "lupa", "redis", "tornado", "trustme")
    ]
