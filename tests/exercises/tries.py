"""Solutions that students hand in: wrong ones, that a check has to refuse, and right ones, that it has to let pass.

Each is a patch: wrong/MISTAKE.patch or right/WAY.patch in an exercise's directory. It changes the solution, or the
starter if it says `on: starter`. Above the diff stands a sentence, and in a wrong one `task:`, the letter of the task
that refuses it, and `says:`, words that a student is then shown. Some are refused by one task or another: `task: ab`.
One that says `plain: yes` is the one that a plain run of the tests judges, in place of the first task's first.
"""

import contextlib
import functools
import io
import re

from cards import HERE, Exercise
from commands import show_task
from gate import put_solution
from support.patches import apply_patch
from work import Work


class Try:
    """One patch, and how it is judged."""

    def __init__(self, path):
        """Read its head."""
        self.path = path
        self.exercise = Exercise(path.parent.parent.name)
        self.is_right = path.parent.name == "right"
        self.head = path.read_text().partition("\n--- ")[0]
        self.letters = self.field("task")
        self.says = self.field("says")

    def field(self, name):
        """Return what the head says after a name, or ""."""
        found = re.search(rf"^{name}: (.+)$", self.head, re.MULTILINE)
        return found[1] if found else ""

    def lay_out(self, directory):
        """Make a student's directory; raise LookupError when a patch does not apply."""
        self.exercise.copy_to(directory)
        if self.field("on") != "starter":
            put_solution(self.exercise, directory)
        if complaint := apply_patch(self.path, directory):
            raise LookupError(f"{self.path.relative_to(HERE)} does not apply: {complaint}")

    def refusals(self, directory, letters=None):
        """Run tasks, all of them or some, up to the first that refuses it; return its letter and what it shows.

        Both are empty when none does.
        """
        self.lay_out(directory)
        work = Work(directory, self.exercise.part)
        for letter, task in self.exercise.tasks().items():
            if letter in (letters or letter):
                complaint, notes = work.run_task(task)
                if complaint is not None:
                    return letter, shown(letter, task, complaint, notes)
        return "", ""


def shown(letter, task, complaint, notes):
    """Return what a check prints of a task, as one line."""
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        show_task(letter, task, complaint, notes)
    return " ".join(screen.getvalue().split())


@functools.cache
def all_tries():
    """Return all of them, by exercise and name."""
    return [Try(path) for way in ("wrong", "right") for path in sorted(HERE.glob(f"part[1-9]_*/{way}/*.patch"))]
