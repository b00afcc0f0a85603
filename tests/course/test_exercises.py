"""The exercises are sound: every starter fails its check, every solution passes it, every card has its parts.

git puts the solutions in place.
"""

import contextlib
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

import cards
from commands import what_is_next
from gate import gate, wrong_with
from records import Record
from support.harness import any_command
from support.parts import PARTS, ROOT
from support.peers import wait_until

NAMES = cards.names()
GATED = "part1_big_request"  # a quick one, on which the commands are tried
PATIENCE = 200  # seconds that one command may take
HINT = "Hint: see tests/exercises/teacher/README.md, and run: python tests/exercises/exercise.py gate"
NEEDS_GIT = pytest.mark.needs("git")
NEEDS_REDIS = pytest.mark.needs("redis-server")  # part 7 does, and so do its exercises
NEEDS_SOLUTIONS = pytest.mark.skipif(cards.BUNDLE_MARK.exists(), reason="this copy for a class has no solutions")


def command(*words):
    """Return the words that start a command of exercise.py from the top directory."""
    return [sys.executable, "tests/exercises/exercise.py", *map(str, words)]


def run(*words, **options):
    """Return what became of a command of exercise.py, run from the top directory."""
    return subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, **options)


def test_there_are_four_exercises_a_part_and_all_four_kinds():
    """At least sixteen in all; in each part at least one to predict, to break, to fix and to extend."""
    assert len(NAMES) >= 16, f"{len(NAMES)} exercises: {NAMES}. {HINT}"
    for part in PARTS:
        kinds = [each.kind for each in map(cards.Exercise, NAMES) if each.part == part]
        assert len(kinds) >= 4, f"part {part} has {len(kinds)} exercises. {HINT}"
        missing = set(cards.KINDS) - set(kinds)
        assert not missing, f"part {part} has nothing to {', '.join(sorted(missing))}. {HINT}"


@NEEDS_GIT
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[NEEDS_REDIS] * name.startswith("part7_")) for name in NAMES if name != GATED],
)
def test_an_exercise_is_sound(name):
    """Its starter fails, its solution passes and is as small as the card says, and all its texts are complete."""
    each = cards.Exercise(name)
    complaints = list(wrong_with(each))
    assert not complaints, "\n".join([f"{name}:", *complaints, HINT])


@NEEDS_GIT
def test_the_gate_lets_a_sound_exercise_pass():
    """The command says ok, and its exit status is 0; this is one exercise's test that it is sound, too."""
    result = run("gate", GATED)
    assert result.returncode == 0, f"{result.stdout}{result.stderr}{HINT}"
    assert re.fullmatch(rf"ok +{GATED} +[0-9.]+ s", result.stdout.strip()), result.stdout


@NEEDS_GIT
@NEEDS_SOLUTIONS
def test_the_gate_stops_an_unsound_exercise(tmp_path, monkeypatch, capsys):
    """A hint that is the answer, a starter that has the answers already, a solution that does not apply to it."""
    unsound = tmp_path / GATED
    shutil.copytree(cards.HERE / GATED, unsound, ignore=cards.LEFT_OUT)
    often_wrong = cards.Exercise(GATED).field("Often wrong")
    card = (unsound / "card.md").read_text().replace("(a) A client", "(a) Your client").replace("10 minutes", "")
    card = card.replace("you said:  300", "came back: 100").replace("**Size.**", f"{often_wrong}\n\n**Size.**")
    (unsound / "card.md").write_text(f"{card}\n**Teaches.** A stream.\n<details>Ask me.</details>\n")
    hints = (unsound / "hints.md").read_text().replace("2. ", "").replace("(b) ", "Or 4,096? ")
    (unsound / "hints.md").write_text(hints)
    (unsound / "starter" / "answers.py").write_text('a = 4096\nb = 100\nc = "reset"\n')
    monkeypatch.setattr(cards, "HERE", tmp_path)
    assert not gate([GATED])
    shown = capsys.readouterr().out
    for words in (
        f"WRONG {GATED}",
        "**Size.** does not say",
        "card.md has **Teaches.**",
        "card.md has what teacher.md says under **Often wrong.**",
        "after a wrong answer a check prints `you said: …`",
        "folded hint",
        "task (a) reads 'Your client",
        "hints.md has 1 hints for the exercise",
        "hints.md has no hint for task (b)",
        "hints.md has the answer to (a) in it: 4096",
        "nothing to do",
        "does not apply",
    ):
        assert words in shown, f"{words!r} is missing in:\n{shown}"


def test_without_a_command_all_of_them_are_listed():
    """Whoever has forgotten how it goes sees it."""
    result = run()
    assert result.returncode == 1
    for name in (
        "list",
        "start NAME DIR",
        "check NAME DIR",
        "hint",
        "museum",
        "peers",
        "gate",
        "tables",
        "bundle",
        "check-all",
    ):
        assert f"exercise.py {name}" in result.stderr, f"{name!r} is missing in:\n{result.stderr}"


def test_the_list_names_every_exercise():
    """One line for each: part, kind, length, minutes, objective, and nothing that gives an answer away."""
    listing = run("list")
    assert listing.returncode == 0, listing.stderr
    *shown, museum = listing.stdout.splitlines()[1:]
    assert museum.endswith("tests/exercises/museum/README.md"), f"where is the museum? Not in: {museum}"
    lines = {line.split()[2]: line for line in shown}
    assert list(lines) == NAMES
    for each in map(cards.Exercise, NAMES):
        for words in (str(each.part), each.kind, str(each.size), str(each.minutes), each.one_line("Objective")):
            assert words in lines[each.name], f"{words!r} is missing in: {lines[each.name]}"
        assert each.one_line("Teaches") not in lines[each.name]


def test_a_student_starts_and_is_told_what_is_missing(tmp_path):
    """The way of a student: start, then a check that says of each task what was seen, and what is next."""
    directory = tmp_path / "mine"
    started = run("start", GATED, directory)
    assert started.returncode == 0, started.stderr
    assert f"check {GATED} {directory}" in started.stdout, f"no next step in: {started.stdout}"

    checked = run("check", GATED, directory)
    assert checked.returncode == 1, checked.stdout
    for words in ("(a) not yet: ", "why: ", "hint: ", "Next: task (a)"):
        assert words in checked.stdout, f"{words!r} is missing in:\n{checked.stdout}"


@NEEDS_GIT
@NEEDS_SOLUTIONS
def test_a_solved_exercise_passes_the_check_that_its_start_names(tmp_path):
    """start --solved, with a blank in the directory's name: its last line can be pasted, and all is done."""
    started = run("start", GATED, tmp_path / "my solution", "--solved")
    assert started.returncode == 0, started.stderr
    python, program, *words = shlex.split(started.stdout.splitlines()[-1].removeprefix("Next: "))
    assert (python, program) == ("python", "tests/exercises/exercise.py"), started.stdout

    checked = run(*words)
    assert checked.returncode == 0, f"{started.stdout}{checked.stdout}{checked.stderr}"
    for words in ("(a) ok: ", "sent: ", "came back: ", "All done.", "Next: "):
        assert words in checked.stdout, f"{words!r} is missing in:\n{checked.stdout}"


def test_a_broken_program_is_a_task_not_done(tmp_path):
    """A syntax error in the student's file is shown under the task, without a traceback of the checker's own."""
    (tmp_path / "rsp.py").write_text("import sys\nprint('hello'\n")
    checked = run("check", "part1_request_head", tmp_path)
    assert checked.returncode == 1 and not checked.stderr, checked.stderr
    assert "SyntaxError" in checked.stdout and "(d) not yet: " in checked.stdout, checked.stdout


def test_the_report_card_can_be_pasted(tmp_path):
    """Whatever blanks a path has: the last word, once the shell has split the line, is the path."""
    fix = cards.Exercise("part1_request_head")
    fix.copy_to(tmp_path / "my work")
    lines = what_is_next(fix, tmp_path / "my work", [], Record(tmp_path)).splitlines()
    line = next(line for line in lines if line.startswith("The report card: "))
    words = any_command(shlex.split(line)[-1]).words
    assert words[1] == str(tmp_path / "my work" / "rsp.py"), f"pytest would start {words} for: {line}"


def processes_of(directory):
    """Return the command lines of programs that run the rsp.py of a directory, or are told to."""
    lines = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            lines.append(path.read_text().replace("\0", " "))
    return [line for line in lines if f"{directory}/rsp.py" in line]


@pytest.mark.parametrize(
    "name, count", [("part1_threads", 1), ("part2_selectors", 2)], ids=["a proxy", "pytest and its proxy"]
)
def test_an_interrupted_check_leaves_nothing_running(name, count, tmp_path):
    """Ctrl-C costs one line and ends the proxies, those too that a pytest has started for a task."""
    assert run("start", name, tmp_path).returncode == 0
    checking = subprocess.Popen(
        command("check", name, tmp_path), cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background may ignore it
    )  # fmt: skip
    with checking:
        wait_until(lambda: len(processes_of(tmp_path)) == count, "the check has started a proxy", PATIENCE)
        checking.send_signal(signal.SIGINT)
        _, errors = checking.communicate(timeout=PATIENCE)
    wait_until(lambda: not processes_of(tmp_path), f"these have ended: {processes_of(tmp_path)}")
    assert checking.returncode == 130, f"exit status {checking.returncode}, saying: {errors}"
    assert re.fullmatch(r"Interrupted.*\n", errors), f"not one line: {errors}"


def test_a_directory_serves_one_exercise(tmp_path):
    """Its check says so when it is asked about another one, and names the command that makes the other's directory."""
    directory = tmp_path / "mine"
    assert run("start", "part1_threads", str(directory)).returncode == 0
    result = run("check", "part2_half_close", str(directory))
    expected = ".*mine was made for part1_threads. Make another directory: .* start part2_half_close my_half_close"
    assert result.returncode == 1 and re.fullmatch(expected, result.stderr.strip()), result.stderr


@pytest.mark.parametrize(
    "words, expected",
    [
        (["check", "part9_nothing", "{}"], "Unknown exercise: part9_nothing. To see them all: .* list"),
        (["start", "../exercises", "{}"], "Unknown exercise: ../exercises. To see them all: .* list"),
        (["gate", "part9_nothing"], "Unknown exercise: part9_nothing. To see them all: .* list"),
        (["check", "part1_threads", "{}/nowhere"], ".*nowhere has no rsp.py. Make the directory: .* start part1_.*"),
        (["start", "part1_threads", "{}"], ".* exists already and is not empty. Name a new directory."),
        (["check", "part1_threads", "{}/a b"], ".* start part1_threads '.*/a b'"),
        (["museum", "busy", "{}/none.py"], "There is no file .*none.py. Name yours: .* museum busy my_test.py"),
        (["museum", "lazy", "{}/something.txt"], "There is no bug lazy. Choose one: .*accept_forgotten.*"),
        (["hint", "part9_nothing"], "Unknown exercise: part9_nothing. To see them all: .* list"),
        (["bundle", "{}"], ".* exists already and is not empty. Name a new directory."),
        (["bundle", "my_copy"], ".*my_copy is inside the course itself. Name a directory outside it"),
        (["check-all", "{}/nowhere"], "No such directory: .*nowhere. Name the ones that students work in"),
    ],
    ids=[
        "check",
        "start",
        "gate",
        "nothing there",
        "not empty",
        "blank",
        "no test file",
        "no bug",
        "no hint",
        "bundle",
        "bundle inside",
        "check-all",
    ],
)
def test_a_mistake_is_one_clear_line(words, expected, tmp_path):
    """It names what is wrong and what to do, and the exit status is 1."""
    (tmp_path / "something.txt").write_text("mine")
    result = run(*[word.format(tmp_path) for word in words])
    assert result.returncode == 1, result.stdout
    assert re.fullmatch(expected, result.stderr.strip()), f"{result.stderr!r} is not {expected!r}"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["start", GATED, "{}/new", "--solved"], id="start", marks=NEEDS_SOLUTIONS),
        pytest.param(["gate", GATED], id="gate", marks=NEEDS_SOLUTIONS),
        pytest.param(["museum", "busy", "{}/mine.py"], id="museum"),
    ],
)
def test_a_missing_git_is_one_clear_line(words, tmp_path):
    """It says what to install, and nothing is begun."""
    (tmp_path / "mine.py").write_text("")
    result = run(*[word.format(tmp_path) for word in words], env={"PATH": str(tmp_path)})
    assert result.returncode == 1 and not result.stdout, result.stdout
    assert re.fullmatch("git, .* is missing. Install it: .*git", result.stderr.strip()), result.stderr
    assert not (tmp_path / "new").exists(), "there is a directory without its solution, that a second try stumbles over"
