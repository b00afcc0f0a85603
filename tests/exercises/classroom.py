"""What a teacher does: make a copy of the course without the solutions, and check the directories of a whole class."""

import concurrent.futures
import csv
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field

from cards import AFTER_SUCCESS, BUNDLE_MARK, HERE, LETTERS, Exercise, names
from records import FILE, Record
from support.parts import PARTS, ROOT

COURSE = [  # the whole course: anything else in the top directory is the teacher's
    "README.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "config.lua", "requirements.txt", "ruff.toml", ".gitignore",
    ".ci", ".github", *PARTS.values(), "notebooks", "book", "tests",
]  # fmt: skip
MARK_TEXT = "A copy for a class, without solutions. Made by: python tests/exercises/exercise.py bundle DIR\n"
# What a copy for a class leaves out of its pages.
FOR_TEACHERS = re.compile(r"<!-- for teachers -->\n.*?<!-- /for teachers -->\n\n?", re.DOTALL)
DEPTH = 3  # levels below a directory in which we look for students' directories
AT_A_TIME = 2  # students
MARK = "RSP_STARTED_BY"  # in the environment of all that a command starts, and of what that starts


def bundle(directory):
    """Copy the course into a new directory, without the solutions and without what only the teacher reads."""
    directory = directory.resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(f"{directory} exists already and is not empty. Name a new directory.")
    if directory.is_relative_to(ROOT):
        raise LookupError(f"{directory} is inside the course itself. Name a directory outside it")
    patterns = (ROOT / ".gitignore").read_text().split()
    left_out = shutil.ignore_patterns(*[pattern.strip("/") for pattern in patterns])
    for name in COURSE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, symlinks=True, ignore=left_out)
        elif source.exists():
            directory.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, directory / name)
    cut(directory)
    print(f"A copy without solutions is in {directory}. Try it there: make test")


def cut(directory):
    """Remove from a copy of the course its solutions, the teacher's pages, and what refers to them."""
    exercises = directory / HERE.relative_to(ROOT)
    for name in names():
        exercise = Exercise(name)
        kept = [f"**{field}.** {exercise.field(field)}\n" for field in AFTER_SUCCESS]
        (exercises / name / "after_success.md").write_text("\n".join(kept))
    for path in [*exercises.glob("part*/solution.patch"), *exercises.glob("part*/teacher.md")]:
        path.unlink()
    for path in [*exercises.glob("part*/wrong"), *exercises.glob("part*/right")]:
        shutil.rmtree(path)
    shutil.rmtree(exercises / "teacher", ignore_errors=True)  # a copy of a copy has none
    for page in directory.rglob("*.md"):
        page.write_text(FOR_TEACHERS.sub("", page.read_text()))
    (exercises / BUNDLE_MARK.name).write_text(MARK_TEXT)


@dataclass
class Result:
    """The result of checking one student's directory."""

    directory: str
    exercise: str = ""
    tasks: dict = field(default_factory=dict)  # a task's letter -> "ok", "no", or "" if it was not reached
    first: dict = field(default_factory=dict)  # a task's letter -> the student's first answer
    seconds: float = 0
    note: str = ""  # why it could not be checked, or not to its end

    @property
    def done(self):
        """How many tasks are done, of how many."""
        return f"{list(self.tasks.values()).count('ok')} of {len(self.tasks)}" if self.tasks else ""


def students_directories(directory):
    """Return the directories that start has made, in this one or below it; if there are none, the directory itself."""
    if not directory.is_dir():
        raise FileNotFoundError(f"No such directory: {directory}. Name the ones that students work in")
    found = [path.parent for depth in range(DEPTH + 1) for path in directory.glob("*/" * depth + FILE)]
    return sorted(found) or [directory]


def check_all(directories, csv_file, seconds):
    """Check the directories of a class, each for at most `seconds`; print a table, and write it as CSV."""
    found = [path for directory in directories for path in students_directories(directory)]
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        results = list(pool.map(lambda path: check_one(path, seconds), found))
    width = max(len(result.directory) for result in results) + 2
    print(f"{'student':<{width}}{'exercise':<22}{'done':<8}tasks")
    for result in results:
        tasks = " ".join(f"({letter}) {word or '–':<3}" for letter, word in result.tasks.items())
        first = ", ".join(f"({letter}) {answer}" for letter, answer in result.first.items())
        rest = "; ".join(filter(None, [first and f"said first: {first}", result.note]))
        print(f"{result.directory:<{width}}{result.exercise:<22}{result.done:<8}{tasks} {rest}".rstrip())
    if csv_file:
        write_csv(csv_file, results)
        print(f"The table is in {csv_file}.")
    return all(result.exercise for result in results)


def check_one(directory, seconds):
    """Return the Result of one directory; the student's programs get `seconds` at most."""
    result = Result(os.path.relpath(directory))
    try:
        record = Record(directory)
        tasks = Exercise(record.exercise or "").tasks() if record.exercise else {}
    except LookupError as error:
        result.note = str(error)
        return result
    if not tasks:
        result.note = f"no exercise: it has no file {FILE}, which start makes"
        return result
    result.exercise = record.exercise
    result.first = {letter: given[0] for letter, given in record.answers.items()}
    began = time.monotonic()
    output, result.note = run_check(record.exercise, directory, seconds)
    result.seconds = time.monotonic() - began
    seen = dict(re.findall(r"^\((\w)\) (ok|not yet): ", output, re.MULTILINE))
    if not seen and not result.note:  # it didn't get as far as the tasks, and says why
        result.note = output.strip().splitlines()[-1] if output.strip() else "the check said nothing"
    result.note = result.note or trouble_in(output)
    words = {"ok": "ok", "not yet": "no"}
    result.tasks = {letter: words.get(seen.get(letter), "") for letter in tasks}
    return result


def trouble_in(output):
    """Return why a check got nowhere: a program crashed or runs for ever, or a slip in answers.py; or ""."""
    if slip := re.search(r"^ {6}why: +(answers\.py, .*)", output, re.MULTILINE):
        return slip[1]
    if printed := re.search(r"^ {6}printed: +(.*(?:\n {17}.*)*)", output, re.MULTILINE):
        return f"it crashed: {printed[1].splitlines()[-1].strip()}"
    return "an endless loop" if re.search(r"^ {6}[a-z ]+: +an endless loop: ", output, re.MULTILINE) else ""


def run_check(name, directory, seconds):
    """Run a check in its own process; return what it printed, and a note if it did not end in time."""
    words = [sys.executable, str(HERE / "exercise.py"), "check", name, str(directory), "--unrecorded"]
    mark = secrets.token_hex(8)
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, env=os.environ | {MARK: mark, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=seconds)
            note = ""
        except subprocess.TimeoutExpired:
            end_all(mark)
            output, _ = process.communicate()
            note = f"stopped after {seconds} s"
    return output, note


def end_all(mark):
    """Kill every other program that has inherited a mark, in any session."""
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                os.kill(int(path.parent.name), 9)
        except OSError:  # it has ended meanwhile, or belongs to another user
            pass


def write_csv(path, results):
    """Write one line for each student's directory."""
    letters = LETTERS[: max(len(result.tasks) for result in results)]
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        first = [f"first {letter}" for letter in letters]
        table.writerow(["student", "exercise", "done", "of", *letters, *first, "seconds", "note"])
        for result in results:
            done = list(result.tasks.values()).count("ok")
            tasks = [result.tasks.get(letter, "") for letter in letters]
            said = [result.first.get(letter, "") for letter in letters]
            row = [result.directory, result.exercise, done, len(result.tasks), *tasks, *said]
            table.writerow([*row, f"{result.seconds:.0f}", result.note])
