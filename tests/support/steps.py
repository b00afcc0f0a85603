"""The steps of a part: patches that lead to it from the part before, one idea each.

partN_name/steps/K_name.patch holds a title, the rows of the table of behaviours that the step is the first to pass,
other tests of this kind, and the diff to the step before; step 0 is the part before. A patch is applied strictly: each
line that it leaves or takes away must be where it says.
"""

import pathlib
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property

from support.parts import PARTS, ROOT

COMMAND = "python tests/steps.py"
GONE = "/dev/null"  # a diff's name for no file
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")  # first line and number of lines, before and after


class StepError(Exception):
    """A step that can't be laid out, made or carried; str() of it is the whole line for the user."""


@dataclass(frozen=True)
class Step:
    """One step of a part."""

    part: int
    patch: pathlib.Path

    @cached_property
    def number(self):
        """Its place among the steps of its part, from 1."""
        return int(self.patch.name.partition("_")[0])

    @property
    def name(self):
        """The step as a command names it: 4.3."""
        return f"{self.part}.{self.number}"

    @property
    def page(self):
        """The file with its explanation."""
        return self.patch.with_suffix(".md")

    @property
    def head(self):
        """The lines of the patch before the diff: a title, and what the step is the first to pass."""
        return self.patch.read_text().partition("\n--- ")[0].rstrip("\n") + "\n"

    @property
    def title(self):
        """The first line, without its "Step K: "."""
        return self.head.splitlines()[0].partition(": ")[2]

    @property
    def diff(self):
        """The diff to the step before."""
        _, start, rest = self.patch.read_text().partition("\n--- ")
        return start[1:] + rest

    def claims(self, label):
        """Return the names that the head lists after a label, rows or tests."""
        found = re.search(rf"^{label}: (.+)$", self.head, re.MULTILINE)
        return found[1].split(", ") if found else []


@dataclass
class FileDiff:
    """What a diff says about one file."""

    old: str | None  # its name before, None for a new file
    new: str | None  # its name after, None for a file that is gone
    hunks: list  # pairs: the number of old lines that come before it, and its lines with their signs


# --- what is there -----------------------------------------------------------------------------------


def steps_of(part):
    """Return the steps of a part, in their order."""
    patches = (ROOT / PARTS[part] / "steps").glob("[1-9]*_*.patch")
    return sorted((Step(part, patch) for patch in patches), key=lambda step: step.number)


def all_steps():
    """Return the steps of all parts, in their order."""
    return [step for part in PARTS for step in steps_of(part)]


def parts_with_steps():
    """Return the numbers of the parts that have steps."""
    return sorted({step.part for step in all_steps()})


def existing_part(text):
    """Return the number of a part that has steps; raise StepError for any other text."""
    with_steps = parts_with_steps()
    if not text.isdigit() or int(text) not in with_steps:
        parts = ", ".join(map(str, with_steps)) or "none"
        known = text.isdigit() and int(text) in PARTS
        what = f"part {text} has no steps" if known else f"{text!r} is not a part"
        raise StepError(f"{what}. The parts with steps: {parts}")
    return int(text)


def find_step(text):
    """Return the step that a user names, such as 4.3; raise StepError when there is none."""
    part, dot, number = text.partition(".")
    if not dot:
        raise StepError(f"{text!r} is not a step: name the part and the step, such as 4.3")
    steps = steps_of(existing_part(part))
    for step in steps:
        if str(step.number) == number:
            return step
    raise StepError(f"part {part} has no step {number!r}: its steps are {steps[0].name} to {steps[-1].name}")


def read_files(directory):
    """Return the files of a part or a step that belong to the program: a dict of name -> text."""
    if not directory.is_dir():
        return {}
    return {path.name: path.read_text() for path in sorted(directory.iterdir()) if path.suffix in (".py", ".lua")}


def write_files(directory, files):
    """Write files into a directory, and make it if it isn't there."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def part_before(part):
    """Return the files of the part that the steps of a part begin with; raise StepError when it isn't there."""
    directory = ROOT / PARTS[part - 1]
    if not directory.is_dir():
        raise StepError(
            f"The steps of part {part} begin with part {part - 1}, and it is not there: {directory}. "
            "Lay them out in a complete copy of the course."
        )
    return read_files(directory)


# --- applying ----------------------------------------------------------------------------------------


def file_diffs(diff):
    """Return what a diff says about each file, as FileDiffs."""
    lines, found = diff.splitlines(), []
    while lines:
        names = [lines.pop(0).split()[1] for _ in range(2)]
        old, new = (None if name == GONE else name.partition("/")[2] for name in names)
        found.append(FileDiff(old, new, []))
        while lines and (head := HUNK.match(lines[0])):
            before, removed, _, added = (1 if number is None else int(number) for number in head.groups())
            count = 1
            while removed > 0 or added > 0:
                removed -= lines[count][:1] != "+"
                added -= lines[count][:1] != "-"
                count += 1
            found[-1].hunks.append((before - (head[2] != "0"), lines[1:count]))  # "-3,0": after line 3
            del lines[:count]
    return found


def sequence(name, text, diff):
    """Return all lines of a file before and after a diff, as pairs of a sign (" ", "+" or "-") and the line."""
    old, lines, done = text.splitlines(), [], 0
    for before, hunk in diff.hunks:
        lines += [(" ", line) for line in old[done:before]]
        done = before
        for line in hunk:
            sign, rest = line[:1] or " ", line[1:]
            if sign != "+":
                if old[done : done + 1] != [rest]:
                    raise StepError(f"line {done + 1} of {name} is not what it was: {rest.strip()!r}")
                done += 1
            lines.append((sign, rest))
    return lines + [(" ", line) for line in old[done:]]


def apply_diff(diff, files):
    """Return the files as they are after a diff; raise StepError where they are not what it expects.

    A file that is gone needs no lines taken away: the diff names it, and that is all.
    """
    files = dict(files)
    for each in file_diffs(diff):
        if each.old is not None and each.old not in files:
            raise StepError(f"there is no {each.old} to change")
        text = files.pop(each.old, "")
        if each.new is not None:
            lines = sequence(each.new, text, each)
            files[each.new] = "".join(f"{line}\n" for sign, line in lines if sign != "-")
    return files


def chain_from(files, steps):
    """Return the files before the first of these steps, and those after each of them: a list of dicts."""
    chain = [files]
    for step in steps:
        try:
            chain.append(apply_diff(step.diff, chain[-1]))
        except StepError as error:
            hint = "Carry the change through the steps: python tests/carry.py"
            raise StepError(f"{step.patch.name} no longer applies: {error}. {hint}") from None
    return chain


def chain_of(part):
    """Return the files of the part before, and those of each step of a part: a list of dicts."""
    return chain_from(part_before(part), steps_of(part))


# --- making ------------------------------------------------------------------------------------------


def git(*words, directory=ROOT):
    """Return what git prints, and its exit status; raise StepError when it fails."""
    if shutil.which("git") is None:
        raise StepError("git is missing. Install it: sudo apt install git")
    run = subprocess.run(["git", *words], cwd=directory, capture_output=True, text=True)
    if run.returncode and run.stderr:
        raise StepError(f"git {words[0]}: {run.stderr.strip().splitlines()[0]}")
    return run.stdout, run.returncode


def write_patches(steps, chain):
    """Make the patches of these steps again, from the files before the first and after each; the heads stay."""
    for step, before, after in zip(steps, chain[:-1], chain[1:], strict=True):
        names = sorted(before.keys() | after.keys())
        step.patch.write_text(f"{step.head}\n" + "".join(make_diff(name, before, after) for name in names))


def make_diff(name, before, after):
    """Return the diff of one file; of a file that is gone, its name is enough."""
    if before.get(name) == after.get(name):
        return ""
    names = [f"{letter}/{name}" if name in files else GONE for letter, files in (("a", before), ("b", after))]
    head = f"--- {names[0]}\n+++ {names[1]}\n"
    if name not in after:
        return head
    with tempfile.TemporaryDirectory() as directory:
        for side, files in (("before", before), ("after", after)):
            pathlib.Path(directory, side).write_text(files.get(name, ""))
        text, _ = git("diff", "--no-index", "--histogram", "-U2", "before", "after", directory=directory)
    return head + text[text.index("@@ ") :]
