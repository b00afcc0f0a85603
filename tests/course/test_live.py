"""The live page: what it shows is what the proxy and its peers really did, and its scenes judge by that."""

import asyncio
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from support.left_out import ON_REQUEST
from support.peers import free_port, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIVE = ROOT / "tests" / "live"
PROGRAM = LIVE / "live.py"
PATIENCE = 60  # seconds that a scene may take on a busy machine
NEEDS_CHROMIUM = pytest.mark.needs("chromium", "chromedriver")
NOT_RUN = (
    "Not run: nine scenes of the live page, and what is recorded of them. For those: "
    "pytest tests/course/test_live.py --all-scenes"
)
ALL_SCENES = pytest.mark.on_request("--all-scenes")

# What this machine's live modules are called; they are programs, and import each other by name.
sys.path.append(str(LIVE))
from scenes import SCENES, play  # noqa: E402
from stage import OrderError  # noqa: E402

import live  # noqa: E402  (after the path)

NAMES = list(SCENES)


def run(make_task):
    """Run a coroutine, and end everything that it has started."""
    return asyncio.run(asyncio.wait_for(make_task, PATIENCE))


async def played(scene):
    """Play a scene to its end without a browser; return all messages."""
    show = live.Show(["4"])
    try:
        await play(show, scene, answered=True)
        return list(show.messages)
    finally:
        await show.stop()


async def shown(choice, script, backends=None):
    """Run a script (a coroutine function that gets the Show) on a part; return all messages."""
    show = live.Show([choice])
    try:
        await show.start(backends=backends)
        await script(show)
        return list(show.messages)
    finally:
        await show.stop()


async def seen(show, what, patience=20):
    """Wait until a message is as wanted; return it, or fail."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        for message in list(show.messages):
            if what(message):
                return message
        await asyncio.sleep(0.05)
    raise AssertionError("no such message came")


def last_peers(messages, stage=0):
    """Return the last report of a stage's peers."""
    return [message for message in messages if message["kind"] == "peers" and message["stage"] == stage][-1]


def last_lanes(messages, stage=0):
    """Return the last frame's lanes of a stage, by who and number."""
    frame = [message for message in messages if "lanes" in message and message["stage"] == stage][-1]
    return {(lane["who"], lane["number"]): lane for lane in frame["lanes"]}


# --- figures -----------------------------------------------------------------------------------------


def test_every_figure_is_the_peers_own_count():
    """After a download: what the proxy read is what the backend sent, and what it sent is what the client got."""

    async def script(show):
        await show.do({"do": "client", "kind": "download", "count": 3_000_000})
        await seen(show, lambda m: m["kind"] == "peers" and m["clients"] and m["clients"][0]["body"] == 3_000_000)
        await asyncio.sleep(0.5)

    messages = run(shown("4", script))
    lanes, peers = last_lanes(messages), last_peers(messages)
    (connection,) = [c for backend in peers["backends"] for c in backend["connections"]]
    (client,) = peers["clients"]
    assert lanes["backend", 1]["read"] == connection["sent"]
    assert lanes["client", 1]["sent"] == client["received"] == connection["sent"]
    assert lanes["client", 1]["read"] == client["sent"] == lanes["backend", 1]["sent"] == connection["received"]
    assert lanes["client", 1]["lost"] == lanes["backend", 1]["lost"] == 0


def test_a_stalled_download_is_all_accounted_for():
    """Wherever the bytes are, in two kernels and in the write buffer: the sum is what the backend has sent."""

    async def script(show):
        await show.do({"do": "client", "kind": "download", "count": 30_000_000, "rate": 0})
        await seen(show, lambda m: "lanes" in m and any(lane["input"] == "paused" for lane in m["lanes"]))
        await asyncio.sleep(1.5)

    messages = run(shown("4", script))
    lanes, peers = last_lanes(messages), last_peers(messages)
    (connection,) = [c for backend in peers["backends"] for c in backend["connections"]]
    (client,) = peers["clients"]
    near, far = lanes["client", 1], lanes["backend", 1]
    # SIOCOUTQ counts what is not acknowledged, and acknowledgements may wait for a moment.
    waiting = client["received"] + client["inq"] + near["outq"] + near["buffer"] + far["inq"] + connection["outq"]
    assert 0 < near["buffer"] <= live.description(ROOT / "part4_buffering" / "rsp.py")["limit"]
    assert abs(waiting - connection["sent"]) <= 0.02 * connection["sent"], (lanes, peers)
    assert far["read"] == near["sent"] + near["buffer"]


def test_lost_bytes_are_those_that_are_missing():
    """Part 3 and a slow client: what the page calls lost is what the backend sent and the client never gets."""

    async def script(show):
        await show.do({"do": "client", "kind": "download", "count": 12_000_000, "rate": 0})
        await asyncio.sleep(1.0)
        await show.do({"do": "rate", "number": 1, "rate": None})
        stage = show.stages[0]

        def drained():
            lanes, peers = last_lanes(show.messages), last_peers(show.messages)
            (connection,) = [c for backend in peers["backends"] for c in backend["connections"]]
            all_read = lanes["backend", 1]["read"] == connection["sent"] == connection["asked"] > 0
            return all_read and stage.clients[1].received == lanes["client", 1]["sent"]

        until = time.monotonic() + 40
        while not drained() and time.monotonic() < until:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)

    messages = run(shown("3", script))
    lanes, peers = last_lanes(messages), last_peers(messages)
    (connection,) = [c for backend in peers["backends"] for c in backend["connections"]]
    lost = lanes["client", 1]["lost"]
    assert lost > 0, "nothing was lost. Hint: part 3 loses what send does not take"
    assert lost == connection["sent"] - peers["clients"][0]["received"]
    assert sum(end - start for start, end in lanes["client", 1]["gaps"]) == lost


@pytest.mark.needs("strace")
def test_the_calls_are_in_the_order_that_strace_sees(tmp_path, monkeypatch):
    """Every recv and send of a download, with its result: the inspector's list is the kernel's."""
    trace = tmp_path / "trace"
    words = f"strace -o {trace} -e trace=recvfrom,sendto -e signal=none".split()
    monkeypatch.setattr("stage.PREFIX", words)

    async def script(show):
        await show.do({"do": "client", "kind": "download", "count": 2_000_000, "rate": 1_000_000})
        await seen(show, lambda m: m["kind"] == "peers" and m["clients"] and m["clients"][0]["body"] == 2_000_000)
        await asyncio.sleep(0.5)

    messages = run(shown("4", script))
    names = {"recv_into": "recvfrom", "recv": "recvfrom", "send": "sendto"}
    calls = [call for m in messages if m["kind"] == "round" for call in m["calls"] if call["call"] in names]
    mine = [(names[call["call"]], -1 if "error" in call else call["taken"]) for call in calls]
    lanes = {lane["fd"] for m in messages if "lanes" in m for lane in m["lanes"]}
    found = re.findall(r"^(recvfrom|sendto)\((\d+), .*= (-?\d+)", trace.read_text(errors="replace"), re.MULTILINE)
    kernels = [(name, int(result)) for name, fd, result in found if int(fd) in lanes]
    assert mine and kernels[: len(mine)] == mine


# --- scenes ------------------------------------------------------------------------------------------


def clients_of(messages, stage=0):
    """Return the clients of the last report, by number."""
    return {client["number"]: client for client in last_peers(messages, stage)["clients"]}


def truth(name, messages):
    """Return the right choice, worked out from the peers' last counts alone."""
    if name in ("turns", "turns_epoll"):
        peers = [m for m in messages if m["kind"] == "peers"]
        left = next(m["at"] for m in messages if m["kind"] == "action" and m["order"]["do"] == "close")
        at = next(m["at"] for m in peers for c in m["clients"] if c["number"] == 2 and c["received"])
        return "at once" if at < left else "later"
    if name in ("slow_client", "half_close"):
        whole = [
            clients_of(messages, stage)[1]["body"] == clients_of(messages, stage)[1]["expected"] for stage in (0, 1)
        ]
        return {(True, True): "both", (False, True): "second", (False, False): "none"}[tuple(whole)]
    (connection, *_) = [c for b in last_peers(messages)["backends"] for c in b["connections"] if c["asked"]]
    if name == "back_pressure":
        return "some" if 0 < connection["sent"] < connection["asked"] else "all"
    if name == "reset":
        return "reset" if connection["ended"] not in (None, "end of file") else connection["ended"]
    if name == "one_dies":
        clients = clients_of(messages)
        lost = [
            n for n in range(1, 6) if clients[n]["body"] < clients[n]["expected"] and clients[n]["state"] != "connected"
        ]
        return "its own" if lost and all(clients[n]["received"] for n in (6, 7, 8)) else "nobody"
    return {"stops_reading": "client", "room_again": "EPOLLOUT", "slow_connect": "second"}[name]


EXPECTED = {  # what the course teaches; each is seen on every run
    "turns": "later",
    "turns_epoll": "at once",
    "slow_client": "second",
    "stops_reading": "client",
    "back_pressure": "some",
    "room_again": "EPOLLOUT",
    "half_close": "second",
    "slow_connect": "second",
    "reset": "reset",
    "one_dies": "its own",
}


@NEEDS_CHROMIUM
def test_a_scene_is_judged_by_what_happened(browser, tmp_path):
    """It is played, recorded, and played again from one file: the page's verdict is what the counts say."""
    check_scene("turns", browser, tmp_path)


@NEEDS_CHROMIUM
@ALL_SCENES
@pytest.mark.parametrize("name", NAMES)
def test_every_scene_is_judged_by_what_happened(name, browser, tmp_path):
    """The same for each of them."""
    check_scene(name, browser, tmp_path)


def check_scene(name, browser, tmp_path):
    """Play a scene, hold it against what it is to show, record it, and have the page judge it."""
    messages = run(played(SCENES[name]))
    assert truth(name, messages) == EXPECTED[name], last_peers(messages)
    page = tmp_path / "scene.html"
    page.write_text(live.one_file(live.thinned(messages), SCENES[name]))
    browser.get(page.as_uri())
    answer(browser, EXPECTED[name])
    wait_until(lambda: verdict(browser).get_attribute("data-choice"), "the verdict comes", PATIENCE)
    assert verdict(browser).get_attribute("data-choice") == EXPECTED[name], verdict(browser).text
    assert verdict(browser).text.startswith("Yes."), verdict(browser).text
    errors = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert not errors, errors


def verdict(browser):
    """Return the element in which a scene is judged."""
    return browser.find_element("id", "verdict")


def answer(browser, choice):
    """Choose an answer as soon as the page asks, and press the button."""
    wait_until(lambda: browser.find_element("id", "question").is_displayed(), "the page asks", PATIENCE)
    browser.find_element("css selector", f"#choices input[value='{choice}']").click()
    browser.find_element("css selector", "#question button").click()


def test_each_scene_has_what_a_scene_needs(request, record_property):
    """A title, a question with choices that include the expected one, and a judge that exists."""
    if not request.config.getoption("--all-scenes"):
        record_property(ON_REQUEST, NOT_RUN)
    functions = re.findall(r"function (\w+)\(messages\)", (LIVE / "page" / "judges.js").read_text())
    assert len(SCENES) >= 8 and EXPECTED.keys() == SCENES.keys()
    for name, scene in SCENES.items():
        assert EXPECTED[name] in scene["choices"] and len(scene["choices"]) == 3, name
        assert scene["judge"] in functions, f"{name}: judges.js has no {scene['judge']}"
        assert scene["question"].endswith("?") and scene["explain"], name


# --- warnings ----------------------------------------------------------------------------------------


async def slow_download(show):
    """A client that reads slowly, and waits."""
    await show.do({"do": "client", "kind": "download", "count": 12_000_000, "rate": 4_000_000})


async def nothing_more(show):
    """A client that says nothing."""
    await show.do({"do": "client", "kind": "silent"})


async def stopped_backend(show):
    """A backend that accepts a check, and does not answer it."""
    await show.do({"do": "stop", "backend": 0})


WARNINGS = [
    ("busy", nothing_more, "nothing to do"),
    ("busy", nothing_more, "Asked for room at client 1, with nothing to write"),
    ("never_resumed", slow_download, "never resumed"),
    ("long_round", nothing_more, "One round took"),
]


@pytest.mark.needs("git")
@pytest.mark.parametrize("bug, script, words", WARNINGS, ids=["idle", "room", "paused", "long"])
def test_a_warning_is_what_a_bug_looks_like(bug, script, words, tmp_path):
    """A part with this bug gets this warning; the sound part 4, with the same client, gets none."""
    choice = f"bug:{bug}" if bug != "long_round" else str(slow_part(tmp_path))

    async def until_warned(show):
        await script(show)
        await seen(show, lambda m: any(words in warning for warning in m.get("warnings", ())))

    run(shown(choice, until_warned))


def slow_part(tmp_path):
    """Return a copy of part 4 in which accepting takes 0.4 s."""
    import shutil

    directory = tmp_path / "slow"
    shutil.copytree(ROOT / "part4_buffering", directory, ignore=shutil.ignore_patterns("__pycache__", "steps"))
    path = directory / "server_socket.py"
    text = path.read_text()
    line = "        client_socket, client_address = self.socket.accept()\n"
    assert line in text
    path.write_text(text.replace(line, line + "        time.sleep(0.4)\n"))
    return directory


def test_the_sound_part_gets_no_warning():
    """A slow client, a silent one, an upload: nothing to warn of."""

    async def script(show):
        await nothing_more(show)
        await slow_download(show)
        await show.do({"do": "client", "kind": "upload", "count": 2_000_000})
        await asyncio.sleep(4)

    messages = run(shown("4", script))
    # A machine that is very busy may hold up a round; that is a true warning, and no fault of part 4.
    warnings = [text for m in messages for text in m.get("warnings", ()) if "One round took" not in text]
    assert not warnings, warnings


# --- the loop is held --------------------------------------------------------------------------------


def test_a_pause_holds_the_loop_and_not_the_kernel():
    """While it is held, no round ends, and what a client sends waits in the kernel's queue; one round reads it."""

    async def script(show):
        await show.do({"do": "client", "kind": "silent"})
        await seen(show, lambda m: "lanes" in m and m["lanes"])
        await show.do({"do": "pace", "pace": "pause"})
        await asyncio.sleep(0.5)
        turns = max(m["turn"] for m in show.messages if m["kind"] == "round")
        await show.stages[0].clients[1].send(b"x" * 1000)
        held = await seen(
            show, lambda m: m["kind"] == "sample" and m["held"] and any(lane["inq"] == 1000 for lane in m["lanes"])
        )
        assert held["turn"] <= turns + 1
        assert max(m["turn"] for m in show.messages if m["kind"] == "round") <= turns + 1
        await show.do({"do": "pace", "pace": "pause", "steps": 2})
        await seen(
            show,
            lambda m: "lanes" in m and any(lane["who"] == "client" and lane["read"] == 1000 for lane in m["lanes"]),
        )

    run(shown("4", script))


@pytest.mark.parametrize("part", ["1", "2", "3", "4", "5"])
def test_each_part_can_be_shown(part):
    """A small request is served, and its rounds name calls in the part's own files."""

    async def script(show):
        await show.do({"do": "client", "kind": "small"})
        await seen(show, lambda m: m["kind"] == "peers" and m["clients"] and m["clients"][0]["received"])
        await asyncio.sleep(0.3)

    messages = run(shown(part, script))
    files = {call["file"] for m in messages if m["kind"] == "round" for call in m["calls"]}
    directory = next(ROOT.glob(f"part{part}_*"))
    assert files - {None} and all((directory / name).exists() for name in files - {None}), files


def test_the_choice_of_a_backend_has_a_reason():
    """Part 5: the page says which backend a client gets, and why."""

    async def script(show):
        for _ in range(3):
            await show.do({"do": "client", "kind": "small"})
        await seen(show, lambda m: len([c for r in show.messages if r["kind"] == "round" for c in r["choices"]]) >= 3)

    messages = run(shown("5", script))
    choices = [choice for m in messages if m["kind"] == "round" for choice in m["choices"]]
    assert [choice["number"] for choice in choices] == [1, 2, 3]
    assert len({choice["backend"] for choice in choices}) == 3 and all(
        "its turn" in choice["why"] for choice in choices
    )


# --- the server --------------------------------------------------------------------------------------


@pytest.fixture
def page():
    """`make live`, without a window: its address; ended by Ctrl-C, which has to be enough."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, PROGRAM, "4", "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert line == f"Open http://127.0.0.1:{port}/ - Ctrl-C stops it.\n", (
            process.stderr.read() if not line else line
        )
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=15)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.wait()


def ask(address, data=None, **headers):
    """Return the status and the text of an answer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, data=data, headers=names)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_only_the_page_itself_gives_orders(page):
    """Another Host, no token, a wrong one, GET: all refused. With the token, a wrong order says what is wrong."""
    status, text = ask(page)
    token = re.search(r'name="token" content="([^"]+)"', text)[1]
    order = json.dumps({"do": "dance"}).encode()
    assert status == 200
    assert ask(page, Host="evil.example")[0] == 403
    assert ask(page + "/do", order)[0] == 403
    assert ask(page + "/do", order, X_Token="guess")[0] == 403
    assert ask(page + "/do")[0] == 405
    assert ask(page + "/do", order, X_Token=token) == (400, '{"error": "unknown order \'dance\'"}')
    big = json.dumps({"do": "client", "kind": "download", "count": 10**12}).encode()
    assert ask(page + "/do", big, X_Token=token)[0] == 400
    assert ask(page + "/../live.py")[0] == 404 and ask(page + "/nothing.js")[0] == 404


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["9"], "PART=9: parts 1 to 5 can be shown, and steps such as 4.3\n"),
        (["/nowhere"], "PART=/nowhere: neither a part, a step, nor a directory with an rsp.py\n"),
        (["--record", "x.html"], "--record needs a scene: --scene NAME\n"),
    ],
    ids=["part", "directory", "record"],
)
def test_a_wrong_call_is_one_clear_line(words, complaint):
    """On stderr, with status 1, no traceback."""
    result = subprocess.run(
        [sys.executable, PROGRAM, *words, "--port", str(free_port())], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (1, complaint)


def test_a_program_that_does_not_start_says_why(tmp_path):
    """Your own directory, with a mistake in it: the last line of its traceback."""
    (tmp_path / "rsp.py").write_text("# config_file\nimport nothing_like_that\n")
    with pytest.raises(OrderError, match="did not start: ModuleNotFoundError"):
        run(shown(str(tmp_path), nothing_more))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium without a window."""
    from support.browser import Browser

    with Browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@NEEDS_CHROMIUM
def test_the_page_works_by_hand_and_is_accessible(page, browser):
    """A client by a button, a pause and one round by keys, back by the slider; axe finds nothing wrong."""
    from support.browser import accessibility_faults

    browser.get(page)
    press = browser.find_element("css selector", "[data-client=download]").click
    wait_until(lambda: browser.find_elements("css selector", "[data-scene]"), "the scenes are listed", PATIENCE)
    press()
    wait_until(lambda: browser.find_elements("css selector", ".lane"), "the client has a lane", PATIENCE)
    wait_until(
        lambda: "20.0 MB of 20.0 MB" in browser.find_element("css selector", ".lanes").text, "it has all", PATIENCE
    )
    body = browser.find_element("css selector", "body")
    body.send_keys("p")
    paused = browser.find_element("css selector", "[data-pace=pause]")
    wait_until(lambda: paused.get_attribute("aria-pressed") == "true", "the key pauses", PATIENCE)
    browser.find_element("css selector", "[data-client=silent]").click()
    body.send_keys("n")
    slider = browser.find_element("id", "slider")
    wait_until(lambda: int(slider.get_attribute("max")) > 3, "there are rounds to go back to", PATIENCE)
    browser.execute_script("arguments[0].value = 1; arguments[0].dispatchEvent(new Event('input'))", slider)
    wait_until(lambda: browser.find_element("id", "moment").text.startswith("round"), "it goes back", PATIENCE)
    body.send_keys("b")
    assert browser.find_element("css selector", "html").get_attribute("class") == "big"
    assert not (found := accessibility_faults(browser)), json.dumps(found, indent=1)


# --- recordings --------------------------------------------------------------------------------------

RECORDINGS = sorted((LIVE / "recordings").glob("*.html"))


def test_eight_scenes_are_kept_recorded_and_small():
    """Each is one file that loads nothing, made from the page as it is now."""
    assert len(RECORDINGS) >= 8
    assert sum(path.stat().st_size for path in RECORDINGS) < 1_500_000
    scripts = [(LIVE / "page" / name).read_text() for name in ("judges.js", "live.js", "live.css")]
    for path in RECORDINGS:
        text = path.read_text()
        assert path.stem in SCENES
        assert not re.search(r"(src|href)=[\"'](?!#)", text.partition('id="recording"')[0]), path.name
        assert all(script in text for script in scripts), (
            f"{path.name} is older than the page. Hint: python tests/live/live.py --record-all"
        )


@NEEDS_CHROMIUM
@ALL_SCENES
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_kept_recording_plays(path, browser):
    """Without a proxy: it asks, shows, and judges."""
    browser.get(path.as_uri())
    answer(browser, EXPECTED[path.stem])
    wait_until(lambda: verdict(browser).get_attribute("data-choice"), "the verdict comes", PATIENCE)
    assert verdict(browser).text.startswith("Yes."), verdict(browser).text


def test_environment_is_clean():
    """No proxy and no backend of an earlier test is left."""
    mine = str(os.getpid())
    result = subprocess.run(["ps", "--ppid", mine, "-o", "args="], capture_output=True, text=True)
    left = [line for line in result.stdout.splitlines() if "live/" in line]
    assert not left, left
