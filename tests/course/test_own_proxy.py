"""Your own proxy: what the page promises, the lines to repeat a test by hand, the report card, the milestones."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys

import pytest

from behaviours import BEHAVIOURS, BY_NAME, askable, markdown_milestones, verdict
from by_hand import BY_HAND
from support.harness import START_LINE, Proxy, is_on_its_way, part_command, request
from support.parts import PARTS, ROOT
from support.peers import Backend, EchoBackend, free_port, wait_until
from support.shell import renumber, run

PAGE = ROOT / "tests" / "README.md"
ALL_PARTS = pytest.mark.parametrize("part", PARTS, ids=PARTS.get)
SCREEN = 24  # lines of a small terminal
NEEDS_LINES = pytest.mark.needs("bash", "curl", "nc")
NOT_BY_HAND = ["reads Lua"]  # the config is the line
OBVIOUS = {"it_explains_wrong_usage", "it_explains_a_port_in_use"}  # start it, and read


def test_every_test_of_a_behaviour_can_be_repeated_by_hand():
    """by_hand.py has lines for each, and none for a test that is not there."""
    text = (ROOT / "tests" / "suite" / "test_behaviours.py").read_text()
    tests = re.findall(r'^@behaviour\("([^"]+)"\)\n(?:@.*\n|    .*\n|\)\n)*def test_(\w+)', text, re.MULTILINE)
    names = {name for row, name in tests if row not in NOT_BY_HAND} - OBVIOUS
    assert names == BY_HAND.keys(), f"without lines, or without a test: {names ^ BY_HAND.keys()}. Hint: see by_hand.py"


@NEEDS_LINES
@pytest.mark.parametrize("name", BY_HAND)
def test_the_lines_to_repeat_a_test_show_what_they_should(name, tmp_path):
    """On part 4, which passes the test, the pasted lines print what they promise."""
    port, backend_port = str(free_port()), str(free_port())
    lines = renumber("\n".join(BY_HAND[name].lines(part_command(4).words)), {"8000": port, "8001": backend_port})
    lines = re.sub(r"(tests/backend.py \w+)", rf"\1 {backend_port}", lines)
    shown = run(lines, tmp_path, RSP_LISTEN_PORT=port, RSP_BACKEND_PORT=backend_port)
    assert any(BY_HAND[name].shows in line for line in shown), (
        f"{lines}\nshow, without {BY_HAND[name].shows!r}: {shown}"
    )


# --- the page ----------------------------------------------------------------------------------------


def run_suite(*words, files=("tests/suite/test_behaviours.py",), plugins="pytest_timeout"):
    """Run the behaviours from the top directory with these words; return what became of it."""
    plugins = [word for name in plugins.split() for word in ("-p", name)]
    command = [sys.executable, "-m", "pytest", *plugins, *files, "-q", *map(str, words)]
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "COLUMNS": "80",
    }  # looking for plugins takes time
    environment.pop("PYTEST_XDIST_WORKER", None)  # it is no worker, but a student who has just opened a terminal
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90)


def test_the_table_of_milestones_is_the_tests_own():
    """What the page says of them is what the tests go by."""
    shown = PAGE.read_text().partition("<!-- milestones -->\n")[2].partition("\n<!-- /milestones -->")[0]
    assert shown == markdown_milestones(), (
        "tests/README.md: the table of milestones is not up to date. "
        "Hint: paste the second table that python tests/suite/behaviours.py prints"
    )


def skeleton(language):
    """Return a program of the page."""
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize(
    "language, name, command",
    [
        pytest.param("python", "my_rsp.py", "{path}", id="Python"),
        pytest.param("javascript", "my_rsp.js", "node {path}", id="JavaScript", marks=pytest.mark.needs("node")),
    ],
)
def test_the_programs_of_the_page_reach_the_first_milestone(language, name, command, tmp_path):
    """As they are printed there; and --milestones says where they stop, and what comes next."""
    path = tmp_path / name
    path.write_text(skeleton(language))
    result = run_suite("--proxy", command.format(path=shlex.quote(str(path))), "--milestones")
    assert re.search(r"^ 1  yes 8 of 8   serves a request", result.stdout, re.MULTILINE), result.stdout
    assert re.search(r"^Milestone \d+ \(.* minutes\), and just that: pytest tests ", result.stdout, re.MULTILINE)
    assert "by hand:" in result.stdout and "sent: " in result.stdout, result.stdout


STARTED = 'print(f"Started.  Listening on port {sys.argv[1]}.", flush=True)'


@pytest.mark.parametrize(
    "old, new",
    [
        ("Started.  Listening", "Started. Listening"),
        (STARTED, "pass"),
        (STARTED, "print('listening, more or less', file=sys.stderr, flush=True)"),
        ('sys.exit(f"Usage: ', 'sys.exit(f"Hello.\\nusage:\\n'),
    ],
    ids=["one blank", "says nothing", "says something else", "usage in three lines"],
)
def test_what_the_page_tolerates_is_tolerated(old, new, tmp_path):
    """Start line, usage: a student's proxy need not use the words of the parts."""
    text = skeleton("python")
    assert old in text
    (tmp_path / "mine.py").write_text(text.replace(old, new))
    result = run_suite("--proxy", tmp_path / "mine.py", "-k", "says_when or usage")
    assert "2 passed" in result.stdout, result.stdout


def test_a_start_line_that_comes_too_early_is_no_pass(tmp_path):
    """It may be missing; it must not be false."""
    text = skeleton("python").replace("server = ", "print(START, flush=True); import time; time.sleep(60); server = ")
    text = text.replace("START", "f'" + START_LINE.replace("{port}", "{sys.argv[1]}") + "'")
    (tmp_path / "mine.py").write_text(text)
    result = run_suite("--proxy", tmp_path / "mine.py", "-k", "says_when")
    assert "1 failed" in result.stdout and "before its port accepts" in result.stdout, result.stdout


def test_a_wrapper_is_measured_with_what_it_has_started(tmp_path):
    """A script that starts the program and waits: it stops by a signal, and a leak of its child's is seen."""
    wrapper = tmp_path / "wrapper.sh"
    program = shlex.join([sys.executable, str(ROOT / PARTS[4] / "rsp.py")])
    wrapper.write_text(
        f'#!/bin/sh\n[ $# = 1 ] || {{ echo "usage: $0 config" >&2; exit 1; }}\n{program} "$1"\nexit $?\n'
    )
    wrapper.chmod(0o755)
    result = run_suite("--proxy", wrapper, "-k", "stops_cleanly or descriptor or costs_no_cpu")
    assert "5 passed" in result.stdout, result.stdout


QUESTIONS = {
    "connect": lambda proxy: proxy.connect(),
    "memory": lambda proxy: proxy.memory(),
    "processor time": lambda proxy: proxy.cpu_seconds(),
    "files": lambda proxy: proxy.open_files(),
    "limit": lambda proxy: proxy.limit_open_files(100),
    "signal": lambda proxy: proxy.signal_and_wait(),
    "stop": lambda proxy: proxy.stopped().__enter__(),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("opening", [b"", b"GET / HTTP/1.1\r\n"], ids=["plain", "by host"])
def test_whatever_is_asked_of_a_proxy_that_has_died_fails_by_an_assertion(question, opening):
    """Any other exception would be taken for a test that breaks down, and the bug not be counted as noticed."""
    with EchoBackend() as backend, Proxy(part_command(4), backend) as proxy:
        proxy.opening = opening
        proxy.signal_and_wait()
        with pytest.raises(AssertionError):
            QUESTIONS[question](proxy)


@pytest.mark.parametrize("count", [0, 10**8], ids=["nothing", "more than there is room for"])
def test_what_has_not_arrived_at_a_stopped_proxy_is_seen(count):
    """A stop ends when all that was sent to the proxy, a reset too, is in its kernel; bytes may find no room there."""
    with EchoBackend() as backend, Proxy(part_command(4), backend) as proxy, proxy.connect() as client:
        client.send(b"hello")
        client.receive_exactly(5)
        proxy.send_signal(signal.SIGSTOP)
        client.socket.setblocking(False)
        sent = client.socket.send(bytes(count)) if count else 0
        assert sent < count or not count
        for _ in range(20 if count else 0):
            assert is_on_its_way([proxy.pid])
        client.reset()
        wait_until(lambda: not is_on_its_way([proxy.pid]), "the reset has arrived")


# --- the verdict -------------------------------------------------------------------------------------


@ALL_PARTS
def test_each_part_is_told_which_part_it_is(part):
    """The verdict on what the table says of a part names this part, and what the next one adds."""
    reached = {row.name for row in BEHAVIOURS if row.parts[part] == "yes"}
    told = verdict(reached, set(BY_NAME))
    if part == 2:  # part 3 adds only the Lua file, which part 2 lacks
        assert told == "Your proxy has reached part 2. Next: a slow client loses bytes."
    assert told.startswith(f"Your proxy has reached part {part}. ")
    assert ("Nothing is missing." in told) == (part == max(PARTS))


def test_a_proxy_that_lacks_something_is_told_the_nearest_part():
    """One accident that part 2 survives, and this one does not."""
    reached = {row.name for row in BEHAVIOURS if row.parts[2] == "yes"} - {"survives"}
    told = verdict(reached, set(BY_NAME))
    assert told.startswith("Your proxy is nearest to part 2. To reach it, next: a client or a backend that vanishes")


def test_what_can_not_be_asked_counts_neither_way():
    """A program without a config that does the rest of part 4 has reached part 4; part 3 can't be told from part 2."""
    asked = askable(takes_config=False)
    assert "reads Lua" not in asked and "hard use" in asked
    assert verdict(asked, asked, asked) == "Your proxy has reached part 4. Nothing is missing."
    part_2 = {row.name for row in BEHAVIOURS if row.parts[2] == "yes"}
    assert verdict(part_2, asked, asked).startswith("Your proxy has reached part 2. Next: a slow client")
    told = verdict(asked - {"hard use"}, asked, asked)
    assert told.startswith("Your proxy has reached part 2, and of part 4's rows lacks only: hard use. Next: hard use:")


# --- the report card ---------------------------------------------------------------------------------


def card(result):
    """Return the lines of the report card, with which the output ends."""
    lines = result.stdout.rstrip().splitlines()
    return lines[next(number for number, line in enumerate(lines) if "= your report card =" in line) :]


def test_the_report_card_says_what_works_and_what_does_not():
    """Run on part 1 with two behaviours, the suite fails one of them, and says so, in short, above the card."""
    result = run_suite("-k", "idle or error_response", "--proxy", f"{PARTS[1]}/rsp.py")
    assert result.returncode == 1
    _, yes, no, _, following, again = card(result)
    assert yes.startswith(" 1  yes 4 of 4   serves a request;"), yes
    assert no == " 3  no  0 of 1   an idle client holds up no other client"
    assert following == "Next: a client that says nothing holds up all the others."
    assert again.endswith("pytest tests --proxy part1_single/rsp.py --milestone 3"), again
    above = result.stdout.partition("= your report card =")[0]
    assert "3  not yet: an idle client holds up no other client\n      fact:       GET http" in above, above
    assert "Traceback" not in above and "assert " not in above, above


LISTEN_ONLY = "import socket,sys,time; s=socket.create_server(('',int(sys.argv[1]))); time.sleep(60)"
SERVES_NOTHING = f'{sys.executable} -c "{LISTEN_ONLY}" {{port}}'


@pytest.mark.parametrize("words", [["-n", "0"], []], ids=["no workers", "as it comes"])
def test_a_proxy_that_serves_nothing_fails_once(words):
    """One cause, one failure: what depends on a first request is skipped, by all workers. The card fits on a screen."""
    result = run_suite(*words, "--proxy", SERVES_NOTHING, files=["tests"], plugins="xdist pytest_timeout")
    assert re.search(r"^1 failed, [1-9]\d* skipped(, \d+ deselected)? in", result.stdout, re.MULTILINE), result.stdout
    assert ("bringing up nodes" in result.stdout) == (not words), result.stdout
    shown = card(result)
    assert "Your proxy is nearest to part 1. To reach it, next: pass one request" in " ".join(shown), shown
    assert "It takes no config file, so these count neither way: reads Lua," in " ".join(shown), shown
    assert len(shown) <= SCREEN and all(len(line) <= 80 for line in shown[:-1]), "\n".join(shown)


DIES = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print("Started.  Listening on port", sys.argv[1], flush=True)
for number in range(100):
    print("line", number, file=sys.stderr)
client, _ = server.accept()
what = client.recv(100).no_such_thing
"""


def test_a_proxy_that_dies_has_its_traceback_shown(tmp_path):
    """Its traceback, before anything else, and no more than some ten lines."""
    (tmp_path / "mine.py").write_text(DIES)
    result = run_suite(
        "-k",
        "gets_its_answer and not half",
        "--proxy",
        f"{shlex.join([sys.executable, str(tmp_path / 'mine.py')])} {{port}}",
    )
    printed = result.stdout.partition("printed: ")[2].partition("\n\n")[0].strip().splitlines()
    assert printed[0].strip() == "Traceback (most recent call last):" and len(printed) <= 10, result.stdout
    assert printed[-1].strip().startswith("AttributeError: 'bytes' object has no attribute"), result.stdout


def test_the_milestones_stop_at_the_first_that_is_not_reached():
    """Part 1 has the first; the second is shown with bytes, and with lines to paste."""
    result = run_suite("--proxy", f"{PARTS[1]}/rsp.py", "--milestones", files=["tests"])
    assert result.returncode == 2 and "milestone 2 is not reached yet" in result.stdout, result.stdout
    _, yes, no, *_ = card(result)
    assert yes.startswith(" 1  yes 8 of 8 ") and no.startswith(" 2  no  0 of 1 "), result.stdout
    for words in (
        "wanted:     Four",
        "sent: ",
        "received: ",
        f"python {shlex.quote(str(ROOT / 'part1_single' / 'rsp.py'))} 8000 127.0.0.1 8001 & proxy=$!",
        "curl -s",
    ):
        assert words in result.stdout, f"{words!r} is missing in:\n{result.stdout}"


def test_a_milestone_names_all_that_failed():
    """The first failure in full, and of the others which they are."""
    result = run_suite("--proxy", f"{PARTS[1]}/rsp.py", "--milestone", 6)
    assert re.search(r"^6  not yet: .*, and 2 more of this row$", result.stdout, re.MULTILINE), result.stdout
    also = result.stdout.partition("      also: ")[2].partition("\n\n")[0]
    assert "both sides talk at once" in also and len(also.split(";")) == 2, result.stdout


def test_a_milestone_that_is_reached_leads_to_the_next():
    """Only its own tests run, and the last line is the command for the one after it."""
    result = run_suite("--proxy", f"{PARTS[2]}/rsp.py", "--milestone", 5)
    assert "2 passed" in result.stdout, result.stdout
    assert card(result)[-1].endswith("--milestone 6"), result.stdout


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--proxy", "rsp '{port}"], "--proxy: can't run \"rsp '{port}\": No closing quotation"),
        (
            ["--proxy", "rsp {prot}"],
            "--proxy: can't run 'rsp {prot}': there is no {prot}; "
            "what can be filled in: {port}, {backend_host}, {backend_port}, {config}",
        ),
        (["--proxy", "nosuch/rsp"], "--proxy: can't run 'nosuch/rsp': No such file or directory"),
        (
            ["--proxy", "config.lua"],
            "--proxy: can't run 'config.lua': Permission denied. Name what runs it, too: --proxy \"node my_rsp.js\"",
        ),
        (["--proxy", ""], "--proxy: can't run '': it names no program"),
        (["--proxy", f"{PARTS[1]}/rsp.py", "--milestone", "99"], "there is no milestone 99: they go from 1 to"),
        (["--milestones"], "--milestones and --milestone are about a proxy. Name it: --proxy my_rsp.py"),
    ],
    ids=["a quote too many", "an unknown word in braces", "no such program", "no program", "nothing", "99", "no proxy"],
)
def test_what_cannot_be_meant_is_one_clear_line(words, complaint):
    """What --proxy was given is shown, and what is wrong with it; nothing is run."""
    result = run_suite(*words)
    assert result.returncode == 4 and result.stderr.startswith(f"ERROR: {complaint}"), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


class HalfAnAnswer(Backend):
    """Disconnects in the middle of a chunk."""

    def serve(self, connection):
        """Say that 255 bytes follow, and send five."""
        self.receive(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello")
        connection.shutdown(socket.SHUT_WR)


def test_an_answer_that_breaks_in_its_middle_is_told_plainly():
    """The student reads what is missing, and which request it was, and not an error of the checker's own."""
    expected = "/half got no whole answer: it ended in the middle"
    with HalfAnAnswer() as backend, pytest.raises(AssertionError, match=expected):
        request(f"http://127.0.0.1:{backend.port}/half")
