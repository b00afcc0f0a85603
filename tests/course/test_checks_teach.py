"""What a student is told: a hint, a better one, and never the solution; and the checks name the student's own slips."""

import json
import re
import socket
import subprocess
import sys

import pytest

import cards
import commands
from records import FILE, Record, same_answer
from support.output import at_most
from support.parts import ROOT
from support.peers import Client
from work import TooBusy, TooLate, Work

PREDICT = "part1_big_request"  # a quick one
RIGHT = 'a = "4,096 bytes"\nb = 100\nc = "Reset"\n'
PATIENCE = 200  # seconds that one command may take


def run(*words):
    """Return what became of a command of exercise.py, run from the top directory."""
    command = [sys.executable, "tests/exercises/exercise.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture
def answers(tmp_path):
    """A function that writes answers.py into a student's directory, checks it, and returns what was printed."""
    directory = tmp_path / "mine"
    assert run("start", PREDICT, directory).returncode == 0

    def check(text):
        """Check these answers."""
        (directory / "answers.py").write_text(text)
        checked = run("check", PREDICT, directory)
        assert not checked.stderr, checked.stderr
        return checked.stdout

    check.directory = directory
    return check


def below(letter, shown):
    """Return what a check printed below a task."""
    return shown.partition(f"\n({letter}) ")[2].partition("\n(")[0].partition("\n\n")[0]


def test_a_wrong_prediction_gets_a_hint_then_a_better_one_and_never_the_solution(answers):
    """The same answer again is no new try. What came back is told when the answer is right."""
    better = cards.Exercise(PREDICT).task_hints()["b"].split()[:4]
    for guess, more in [(300, False), (300, False), (200, True), (50, True)]:
        shown = below("b", answers(f"b = {guess}\n"))
        assert "hint: " in shown and f"you said:  {guess}" in shown, shown
        assert ("more: " in shown) == more, f"{guess}: {shown}"
        assert not more or " ".join(better) in shown, shown
        assert "the backend got" not in shown, f"that is the solution: {shown}"
    assert "the backend got 100 bytes" in below("b", answers("b = 100\n"))


def test_first_answers_are_kept(answers):
    """Whatever comes later, the teacher sees what was said first; and so does the student, when all is done."""
    answers('a = 5000\nb = 300\nc = "end of file"\n')
    shown = answers(RIGHT)
    assert "All done." in shown and "Often wrong: " in shown, shown
    assert "What you said first: (a) 5000, (b) 300, (c) end of file" in shown, shown
    kept = json.loads((answers.directory / FILE).read_text())
    assert {letter: given[0] for letter, given in kept["answers"].items()} == {"a": 5000, "b": 300, "c": "end of file"}


@pytest.mark.parametrize(
    "answer, really, same",
    [
        ("Yes", "yes", True),
        (True, "yes", True),
        (False, "yes", False),
        ("no", "yes", False),
        ("2", 2, True),
        (2.0, 2, True),
        ("2 sockets", 2, True),
        ("4,096", 4096, True),
        ("about 2", 2, False),
        ("End of  file.", "end of file", True),
        (70008, "70008", True),
        ("70008.0", "70008", False),
        ([1], 1, False),
        ("A B-, c", "AB-C", True),
        ("AB", "A", False),
        ("A B", "B", False),
    ],
)
def test_what_means_the_same_is_the_same(answer, really, same):
    """Capitals, quotes, blanks and units are no reason to be wrong; a number that is asked for as a text is one."""
    assert same_answer(answer, really) == same


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("a = 1\nb = yes\n", 2, "b = yes"),
        ('a = 1\n\nc = "reset\n', 3, "unterminated string literal"),
        ("a = 1 b = 2\n", 1, "invalid syntax"),
        ("print(3)\n", 1, "print(3)"),
        ("a = 5,000\n", 1, "a = 5,000"),
    ],
    ids=["no quotes", "half a quote", "two on a line", "a call", "a comma"],
)
def test_a_slip_in_the_answers_is_named_with_its_line(answers, text, line, words):
    """The line's number, what is wrong or the line itself, and no traceback."""
    shown = answers(text)
    assert f"answers.py, line {line}: " in below("a", shown) and words in below("a", shown), shown
    assert "Traceback" not in shown, shown


def test_a_slip_is_told_once_and_is_no_wrong_answer(answers):
    """It concerns all tasks alike; what was wrong before it is no reason for a better hint."""
    for text in ("a = 1\n", "a = 2\n", "a = two\n"):
        shown = answers(text)
    assert shown.count("answers.py, line 1: a = two\n") == 1 and "more: " not in shown, shown
    assert below("b", shown).strip().endswith("as above"), shown


def test_another_kind_of_answer_is_no_accident(answers):
    """A list, a text where a number is wanted, an answer with its type noted: they are just wrong, or right."""
    shown = answers('a = [4096]\nb = "about a hundred"\nc: str = "reset"\n')
    assert "(a) not yet" in shown and "(b) not yet" in shown and "(c) ok" in shown, shown
    assert "Error" not in shown, shown


def test_an_unreadable_record_is_one_clear_line(answers):
    """Somebody has edited it: the line names the file, and what to do."""
    (answers.directory / FILE).write_text("part1_big_request\n")
    checked = run("check", PREDICT, answers.directory)
    assert checked.returncode == 1 and re.fullmatch(r".*\.exercise can't be read\. Remove it, .*\n", checked.stderr)


def test_an_untouched_start_is_no_try(tmp_path):
    """Only what the student has changed counts; the second change that fails gets the better hint."""
    (tmp_path / "rsp.py").write_text("one")
    record = Record(tmp_path)
    record.begin("part1_threads")
    record.note_failure("a")
    assert record.wrong_tries("a") == 0
    for number in (1, 2):
        (tmp_path / "rsp.py").write_text("two" * number)
        record.note_failure("a")
        record.note_failure("a")
        record.write()
        assert Record(tmp_path).wrong_tries("a") == number


def started(tmp_path, name, file, old, new):
    """Make a student's directory in which a line has been changed; return the directory."""
    directory = tmp_path / "mine"
    assert run("start", name, directory).returncode == 0
    text = (directory / file).read_text()
    assert old in text, f"{file} has no {old!r} any more"
    (directory / file).write_text(text.replace(old, new))
    return directory


def test_a_program_that_breaks_down_has_its_traceback_shown(tmp_path):
    """The lines that matter, once, with the student's own line last; no hint draws the eye away from it."""
    old = "        request = client_socket.recv(BUFFER_SIZE)\n"
    directory = started(tmp_path, "part1_threads", "rsp.py", old, "        request = client_socket.receive()\n")
    shown = run("check", "part1_threads", directory).stdout
    assert "AttributeError: 'socket' object has no attribute 'receive'" in below("a", shown), shown
    assert "printed:   Traceback (most recent call last):" in below("a", shown), shown
    assert "(as above)" in below("b", shown) and "more:" not in below("a", shown), shown


IN_TURN = """        with client_socket, contextlib.suppress(OSError):  # clients come and go: no reason for a log line
            handle_client_connection(client_socket, backend_addr, backend_port)
"""
IN_THREADS = """        def serve(client_socket=client_socket):
            with turns, client_socket, contextlib.suppress(OSError):
                handle_client_connection(client_socket, backend_addr, backend_port)
        import threading
        turns = globals().setdefault("turns", threading.Semaphore({count}))
        threading.Thread(target=serve, daemon=True).start()
"""


@pytest.mark.parametrize(
    "count, seconds, hint",
    [
        (1, 4, "they were served one after another"),
        (2, 2, "the backend had 2 of them at once; what did another one wait for?"),
        (100, None, ""),
    ],
    ids=["one", "two", "as many as come"],
)
def test_so_many_clients_at_once_are_told_apart(tmp_path, count, seconds, hint):
    """The hint names what the backend saw. Threads are enough, even with a queue in the kernel as short as part 1's."""
    directory = started(tmp_path, "part1_threads", "rsp.py", IN_TURN, IN_THREADS.format(count=count))
    shown = below("b", run("check", "part1_threads", directory).stdout)
    if seconds is None:
        assert shown.startswith("ok: "), shown
        return
    took = re.search(r"took (\d+\.\d) s", shown)
    assert took and seconds <= float(took[1]) < seconds + 2 and hint in " ".join(shown.split()), shown


@pytest.mark.parametrize("error, tries", [(AssertionError, 1), (TooLate, 2), (TooBusy, 5)])
def test_what_a_busy_machine_may_have_done_is_tried_again(error, tries, tmp_path):
    """A task that is too slow gets a second try, one that could not judge gets more; the last one counts."""
    calls = []

    def task(work):
        """Fail."""
        calls.append(work)
        raise error("It took 9 s. Hint: be quick")

    assert Work(tmp_path, 1).run_task(task)[0] == "It took 9 s. Hint: be quick"
    assert len(calls) == tries

    def slow_once(work):
        """Fail the first time."""
        calls.append(work)
        if len(calls) == tries + 1:
            raise error("It took 9 s")

    assert (Work(tmp_path, 1).run_task(slow_once)[0] is None) == (tries > 1)


def test_an_endless_loop_before_listening_is_named(tmp_path):
    """After a few seconds, not after the time-out of a test, and without a traceback of the checker's own."""
    directory = started(
        tmp_path, "part1_threads", "rsp.py", "def main():\n", "def main():\n    while True:\n        pass\n"
    )
    checked = run("check", "part1_threads", directory)
    assert "an endless loop: " in below("a", checked.stdout), checked.stdout
    assert "Traceback" not in checked.stdout + checked.stderr, checked.stdout + checked.stderr


def test_an_endless_loop_after_listening_is_named(tmp_path):
    """The proxy is ready, and then busy with itself: the hint is about the loop, not about what did not come back."""
    old = "        client_socket, _ = server_socket.accept()\n"
    directory = started(tmp_path, "part1_threads", "rsp.py", old, f"        continue\n{old}")
    shown = below("a", run("check", "part1_threads", directory).stdout)
    assert "busy:      an endless loop: " in shown and "hint:      which of its loops" in shown, shown


def test_an_endless_loop_in_an_attack_is_named(tmp_path):
    """The same for a client that the student writes."""
    directory = tmp_path / "mine"
    assert run("start", "part2_lost_bytes", directory).returncode == 0
    (directory / "attack.py").write_text("while True:\n    pass\n")
    checked = run("check", "part2_lost_bytes", directory)
    assert "an endless loop: " in below("a", checked.stdout), checked.stdout
    assert "Traceback" not in checked.stdout + checked.stderr, checked.stdout + checked.stderr


def test_an_attack_that_fails_has_its_traceback_shown(tmp_path):
    """Its last line says why."""
    directory = tmp_path / "mine"
    assert run("start", "part2_lost_bytes", directory).returncode == 0
    (directory / "attack.py").write_text("import sys\nint(sys.argv[1:])\n")
    shown = run("check", "part2_lost_bytes", directory).stdout
    assert "TypeError: int() argument" in below("a", shown) and "line 2" in below("a", shown), shown


def test_an_attack_that_ends_as_it_should_has_not_broken_down(tmp_path):
    """It has done its work, and missed its aim: the hint is about that."""
    directory = tmp_path / "mine"
    assert run("start", "part2_lost_bytes", directory).returncode == 0
    (directory / "attack.py").write_text('print("missing: 0")\n')
    shown = below("b", run("check", "part2_lost_bytes", directory).stdout)
    assert "      printed: " not in shown and "hint:      where do bytes wait" in shown, shown


def test_a_program_that_ends_without_a_word_is_said_to_have_ended(tmp_path):
    """There is no last line to read."""
    old = "        client_socket, _ = server_socket.accept()\n"
    directory = started(tmp_path, "part1_threads", "rsp.py", old, "        os._exit(3)\n")
    shown = below("a", run("check", "part1_threads", directory).stdout)
    assert "hint:      which of its lines ends it?" in shown and "exit status 3" in shown, shown


def test_a_traceback_comes_first_and_is_short():
    """Of many lines the traceback's, of a long traceback its beginning and its end, of no traceback the last lines."""
    first_line = "Traceback (most recent call last):"
    frames = [f'  File "rsp.py", line {number}, in f' for number in range(50)]
    assert at_most("too many\n" * 30 + "enough\n") == "too many (30 times)\nenough"
    long = ["noise"] * 30 + [first_line, *frames, "ValueError: no", "more noise"]
    lines = at_most("\n".join(long)).splitlines()
    assert (lines[0], lines[-1], len(lines)) == (first_line, "ValueError: no", 10)
    assert at_most("\n".join(map(str, range(30)))).splitlines()[-1] == "29"
    chain = [first_line, "KeyError: 1", "", "During handling of the above exception, another exception occurred:", ""]
    assert at_most("\n".join([*chain, first_line, "ValueError: 2"])).splitlines() == [first_line, "ValueError: 2"]
    first = [first_line, '  File "rsp.py", line 1, in f', "KeyError: 1"]
    second = [
        "Exception in thread Thread-2 (f):",
        "Traceback (most recent call last):",
        "    self.run()",
        "KeyError: 2",
    ]
    mixed = [first[0], second[0], second[1], first[1], second[2], first[2], second[3]]
    lines = at_most("\n".join(mixed)).splitlines()
    assert lines[0] == first[0] and lines[-1] == first[-1] and "Exception in thread" not in str(lines), lines
    assert at_most("  \n") == ""


@pytest.mark.parametrize("fact", ["exit status 3", "exit status 3.", "exit status 3\n", "exit status 3.\n"])
def test_a_facts_full_stop_is_never_alone_on_a_line(fact, capsys):
    """A fact that quotes a program may end in a newline, and its full stop comes after that."""

    def task(work):
        """It exits."""

    commands.show_task("a", task, f"{fact}. Hint: look", {})
    assert re.search(r"why: +exit status 3\.\n +hint: +look$", capsys.readouterr().out.strip())


@pytest.mark.parametrize("answer, hint", [(b"", "is another client being served"), (b"all of it", "but not the end")])
def test_silence_after_an_answer_is_told_from_silence(answer, hint):
    """Where the end was expected, what is missing is a close."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with Client(server.getsockname()[1], timeout=0.5) as client, server.accept()[0] as accepted:
            accepted.sendall(answer)
            with pytest.raises(AssertionError, match=rf"and {len(answer)} received\. Hint: .*{hint}"):
                client.receive_all()


def test_hints_open_only_when_asked():
    """One, and with --more the better one; a bug of the museum has its own."""
    for name in (PREDICT, "as_text"):
        first, better = run("hint", name), run("hint", name, "--more")
        assert first.returncode == better.returncode == 0, first.stderr + better.stderr
        assert first.stdout.splitlines()[-1] == f"A better one: {cards.COMMAND} hint {name} --more"
        assert first.stdout.splitlines()[0] not in better.stdout


def test_what_there_is_to_write_tests_with_fits_on_a_screen():
    """The table of clients and backends, without a browser or an editor."""
    shown = run("peers").stdout
    assert "EchoBackend" in shown and "wait_until" in shown and len(shown.splitlines()) <= 50, shown
