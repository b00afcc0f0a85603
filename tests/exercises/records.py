"""What is kept in a student's directory: which exercise it was made for, every answer, and how often a task has failed.

It is one file of JSON, so that a teacher can read it. The first answer to each question of a predict exercise stays
there, whatever comes later.
"""

import contextlib
import hashlib
import json
import pathlib
import re

FILE = ".exercise"  # in the student's directory


class Record:
    """The record of one directory."""

    def __init__(self, directory):
        """Read it; a directory without one has an empty record."""
        self.path = pathlib.Path(directory, FILE)
        self.exercise = None  # the exercise's name
        self.begun = None  # a fingerprint of the directory when it was made
        self.answers = {}  # a task's letter -> the answers that were given, the first one first
        self.failed = {}  # a task's letter -> fingerprints of what has failed it
        if self.path.exists():
            try:
                kept = json.loads(self.path.read_text())
                self.exercise, self.begun = kept["exercise"], kept["begun"]
                self.answers, self.failed = kept["answers"], kept["failed"]
            except (ValueError, KeyError, TypeError):
                raise LookupError(f"{self.path} can't be read. Remove it, and check again") from None

    def write(self):
        """Write it; where nothing can be written, leave it."""
        kept = {key: value for key, value in vars(self).items() if key != "path"}
        with contextlib.suppress(OSError):
            self.path.write_text(json.dumps(kept, indent=1) + "\n")

    def begin(self, exercise):
        """Note what the directory was made for, and what it looks like untouched."""
        self.exercise, self.begun = exercise, fingerprint(self.path.parent)
        self.write()

    def note_answer(self, letter, answer):
        """Keep an answer, if it has not been given before."""
        given = self.answers.setdefault(letter, [])
        if plain(answer) not in map(plain, given):
            given.append(answer)

    def note_failure(self, letter):
        """Keep that the directory as it is fails a task; an untouched one, or one that was seen, is no new try."""
        now = fingerprint(self.path.parent)
        tries = self.failed.setdefault(letter, [])
        if now != self.begun and now not in tries:
            tries.append(now)

    def wrong_tries(self, letter):
        """Return how many different tries at a task were wrong, when the last one was."""
        return len(self.answers[letter] if letter in self.answers else self.failed.get(letter, []))


def fingerprint(directory):
    """Return a short text that changes when a file of the student's changes."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(directory).rglob("*")):
        if path.is_file() and path.name != FILE and "__pycache__" not in path.parts:
            digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def same_answer(answer, really):
    """Return True if an answer means what is really so.

    "Yes" is "yes", and so is True; "4,096 bytes" is 4096, "2" is 2; "A B C" is "ABC".
    """
    if isinstance(really, (int, float)):
        return number_in(answer) == really
    if re.fullmatch("[A-Z-]{2,}", really):  # letters, one after another: who was served, say
        answer = re.sub(r"[\s,]", "", str(answer))
    return plain(answer) == plain(really)


def number_in(answer):
    """Return the number that an answer is, with or without a unit after it; None if it is no number."""
    found = re.fullmatch(r"([+-]?\d[\d,_]*(?:\.\d+)?)( ?[a-z%]+)?", plain(answer))
    return float(re.sub("[,_]", "", found[1])) if found else None


def plain(answer):
    """Return an answer as a text in small letters, without blanks and dots around it."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return " ".join(str(answer).lower().split()).strip(" .\"'")
