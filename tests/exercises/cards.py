"""What is in an exercise's directory: the card, the hints, what the teacher reads, the tasks, the starter.

The student reads card.md. hints.md opens only on request: two hints for the whole exercise, and one for each task,
which a check adds after the second wrong try. teacher.md has what a student sees after success, and what only the
teacher's page shows; a copy for a class has the first half alone, as after_success.md. check.py holds the tasks,
starter/ is laid over a copy of the part, and solution.patch leads from there to a solution.
"""

import importlib.util
import pathlib
import re
import shlex
import shutil

from support.parts import PARTS, ROOT

HERE = pathlib.Path(__file__).resolve().parent
BUNDLE_MARK = HERE / "bundle.txt"  # present in a copy for a class: no solutions, nothing for the teacher alone
KINDS = ["predict", "break", "fix", "extend"]
AFTER_SUCCESS = ["Teaches", "Often wrong"]  # the fields of teacher.md that a student sees when all tasks are done
LETTERS = "abcdefgh"  # the tasks' names
COMMAND = "python tests/exercises/exercise.py"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "README.md", "*.svg", "steps")  # of a part, in a student's copy


class Exercise:
    """One directory with a card, a check, hints, perhaps a starter, and a solution."""

    def __init__(self, name):
        """Read the card; an unknown name is a LookupError."""
        if name not in names():
            raise LookupError(f"Unknown exercise: {name}. To see them all: {COMMAND} list")
        self.name = name
        self.directory = HERE / name
        self.part = int(name[4])
        self.card = self.text("card.md")
        self.title = self.card.partition("\n")[0].removeprefix("# ")
        self.kind = self.field("Kind").strip(".").lower()

    def text(self, name):
        """Return the text of one of its files, or "" if the file is missing."""
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    def field(self, name):
        """Return a field of the card or of teacher.md, or "" if neither has it."""
        text = f"{self.card}\n{self.text('teacher.md')}\n{self.text('after_success.md')}"
        found = re.search(rf"^\*\*{name}\.\*\*(.*?)(?=^\*\*[A-Z][a-z ]+\.\*\*|\Z)", text, re.MULTILINE | re.DOTALL)
        return found[1].strip() if found else ""

    def one_line(self, name):
        """Return a field as one line."""
        return " ".join(self.field(name).split())

    @property
    def size(self):
        """The number of lines that the card says a solution takes, or 0."""
        return self.number_before("line")

    @property
    def minutes(self):
        """The number of minutes that the card says a student needs, or 0."""
        return self.number_before("minute")

    def number_before(self, word):
        """Return the number before a word in the card's size, or 0."""
        found = re.search(rf"(\d+) {word}s?\b", self.field("Size"))
        return int(found[1]) if found else 0

    def hints(self):
        """Return the hints for the whole exercise: the first, and the better one."""
        entries = re.findall(r"^\d\. (.*?)(?=^\d\. |^\(\w\) |\Z)", self.text("hints.md"), re.MULTILINE | re.DOTALL)
        return [" ".join(text.split()) for text in entries]

    def task_hints(self):
        """Return a dict of each task's letter and the hint that a check adds after the second wrong try."""
        entries = re.findall(r"^\((\w)\) (.*?)(?=^\(\w\) |\Z)", self.text("hints.md"), re.MULTILINE | re.DOTALL)
        return {letter: " ".join(text.split()) for letter, text in entries}

    def tasks(self):
        """Return a dict of each task's letter and its function in check.py."""
        spec = importlib.util.spec_from_file_location(f"check_{self.name}", self.directory / "check.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return dict(zip(LETTERS, module.TASKS, strict=False))

    def copy_to(self, directory):
        """Make a student's directory: a copy of the part, and the starter over it."""
        shutil.copytree(ROOT / PARTS[self.part], directory, ignore=LEFT_OUT, dirs_exist_ok=True)
        if (self.directory / "starter").exists():
            shutil.copytree(self.directory / "starter", directory, ignore=LEFT_OUT, dirs_exist_ok=True)


def names():
    """Return the exercises' names in the order of the course: by part, then by kind."""

    def place(name):
        """Return what to sort by."""
        kind = re.search(r"^\*\*Kind\.\*\* (\w+)", (HERE / name / "card.md").read_text(), re.MULTILINE)
        return name[4], KINDS.index(kind[1]) if kind and kind[1] in KINDS else len(KINDS), name

    return sorted((path.parent.name for path in HERE.glob("part[1-9]_*/card.md")), key=place)


def command_for(*words):
    """Return a command of exercise.py as it can be pasted, whatever spaces a path contains."""
    return f"{COMMAND} {shlex.join(map(str, words))}"


def task_text(task):
    """Return a task's text: the docstring of its function, as one line."""
    return " ".join((task.__doc__ or "").split())
