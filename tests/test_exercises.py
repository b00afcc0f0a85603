"""The exercises are sound: every starter fails its check, every solution passes it, every card has its parts.

Needs git, which puts the solutions in place, and lupa for what runs part 3 or 4.
"""
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "exercises"))

import exercise  # noqa: E402

NAMES = exercise.names()
PATIENCE = 60  # seconds that one command may take
HINT = "Hint: see tests/exercises/README.md, and run: python tests/exercises/exercise.py gate"


def run(*words):
    """Return what became of a command of exercise.py, run from the top directory."""
    command = [sys.executable, "tests/exercises/exercise.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


def test_there_are_four_exercises_a_part_and_all_four_kinds():
    """At least sixteen in all; in each part at least one to predict, to break, to fix and to extend."""
    assert len(NAMES) >= 16, f"{len(NAMES)} exercises: {NAMES}. {HINT}"
    for part in exercise.PARTS:
        kinds = [each.kind for each in map(exercise.Exercise, NAMES) if each.part == part]
        assert len(kinds) >= 4, f"part {part} has {len(kinds)} exercises. {HINT}"
        missing = set(exercise.KINDS) - set(kinds)
        assert not missing, f"part {part} has nothing to {', '.join(sorted(missing))}. {HINT}"


@pytest.fixture(scope="module")
def findings(request):
    """A function that returns what is wrong with an exercise, as a list; it may be asked about those chosen to run."""
    if shutil.which("git") is None:
        pytest.skip("git is missing: install it to have the solutions checked")
    if hasattr(request.config, "workerinput"):  # pytest-xdist gives this process only some of the tests
        return lambda name: list(exercise.wrong_with(exercise.Exercise(name)))
    chosen = [item.callspec.params["name"] for item in request.session.items if "findings" in item.fixturenames]
    exercises = [exercise.Exercise(name) for name in chosen]
    return {each.name: complaints for each, complaints, _ in exercise.examine_all(exercises)}.get


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_is_sound(name, findings):
    """Its starter fails, its solution passes and is as small as the card says, and the card is complete."""
    if exercise.Exercise(name).part > 2 and importlib.util.find_spec("lupa") is None:
        pytest.skip("lupa is missing: pip install lupa")
    complaints = findings(name)
    assert not complaints, "\n".join([f"{name}:", *complaints, HINT])


def test_the_list_names_every_exercise():
    """One line for each, with its part, its kind, its length, and what it teaches."""
    listing = run("list")
    assert listing.returncode == 0, listing.stderr
    lines = {line.split()[2]: line for line in listing.stdout.splitlines()[1:]}
    assert list(lines) == NAMES
    for each in map(exercise.Exercise, NAMES):
        for words in (str(each.part), each.kind, str(each.size), each.one_line("Teaches")):
            assert words in lines[each.name], f"{words!r} is missing in: {lines[each.name]}"


def test_the_teachers_table_is_the_cards_own():
    """The table in the teacher's page is made of the cards."""
    text = (exercise.HERE / "README.md").read_text()
    shown = text.partition("<!-- exercises -->\n")[2].partition("\n<!-- /exercises -->")[0]
    assert shown == exercise.markdown_table(), (
        "tests/exercises/README.md: the table between <!-- exercises --> and <!-- /exercises --> is not up to date. "
        "Hint: paste what this prints: python tests/exercises/exercise.py list --markdown"
    )


def test_the_teachers_page_names_exercises_that_exist():
    """The plans for a lesson and for a course send nobody to a card that is not there."""
    text = (exercise.HERE / "README.md").read_text().partition("<!-- exercises -->")[0]
    unknown = set(re.findall(r"\bpart[1-4]_\w+", text)) - set(NAMES)
    assert not unknown, f"tests/exercises/README.md names {sorted(unknown)}. Hint: was an exercise renamed?"


def test_a_student_starts_fails_and_succeeds(tmp_path):
    """The way of a student: start, a check that says what is missing, the work, a check that says what is next."""
    directory = tmp_path / "mine"
    started = run("start", "part1_big_request", directory)
    assert started.returncode == 0, started.stderr
    assert f"check part1_big_request {directory}" in started.stdout, f"no next step in: {started.stdout}"

    first = run("check", "part1_big_request", directory)
    assert first.returncode == 1, first.stdout
    for words in ("(a) not yet: ", "came back: ", "hint: ", "Next: task (a)"):
        assert words in first.stdout, f"{words!r} is missing in:\n{first.stdout}"

    (directory / "answers.py").write_text('a = 4096\nb = 100\nc = "reset"\n')
    second = run("check", "part1_big_request", directory)
    assert second.returncode == 0, second.stdout
    for words in ("(a) ok: ", "sent: ", "came back: ", "All done.", "Next: "):
        assert words in second.stdout, f"{words!r} is missing in:\n{second.stdout}"


def test_a_broken_program_is_a_task_not_done(tmp_path):
    """A syntax error in the student's file is shown under the task, without a traceback of the checker's own."""
    (tmp_path / "rsp.py").write_text("import sys\nprint('hello'\n")
    checked = run("check", "part1_request_head", tmp_path)
    assert checked.returncode == 1 and not checked.stderr, checked.stderr
    assert "SyntaxError" in checked.stdout and "(d) not yet: " in checked.stdout, checked.stdout


@pytest.mark.parametrize(
    "words, expected",
    [
        (["check", "part9_nothing", "{}"], "There is no exercise part9_nothing. See: .* list"),
        (["start", "../exercises", "{}"], "There is no exercise ../exercises. See: .* list"),
        (["gate", "part9_nothing"], "There is no exercise part9_nothing. See: .* list"),
        (["check", "part1_threads", "{}/nowhere"], ".*nowhere has no rsp.py. Make the directory: .* start part1_.*"),
        (["start", "part1_threads", "{}"], ".* is there already, and not empty. Name a new directory."),
    ],
    ids=["check", "start", "gate", "nothing there", "not empty"],
)
def test_a_mistake_is_one_clear_line(words, expected, tmp_path):
    """It names what is wrong and what to do, and the exit status is 1."""
    (tmp_path / "something.txt").write_text("mine")
    result = run(*[word.format(tmp_path) for word in words])
    assert result.returncode == 1, result.stdout
    assert re.fullmatch(expected, result.stderr.strip()), f"{result.stderr!r} is not {expected!r}"
