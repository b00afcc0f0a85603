"""Lays out one step of the way from part 3 to part 4, a whole proxy, in a directory of your own.

    python part4_buffering/steps/lay_out.py 3 my_step3

A step is a patch: N_name.patch holds a title, the rows of the table of behaviours that it turns to "yes", other tests
that it is the first to pass, and the diff to the step before; the one before step 1 is part 3. A patch is applied
strictly: each line that it leaves or takes away must be where it says.
"""

import pathlib
import re
import shlex
import sys

HERE = pathlib.Path(__file__).resolve().parent
PART_BEFORE = HERE.parent.parent / "part3_lua"
PATCHES = sorted(HERE.glob("[1-9]*_*.patch"), key=lambda patch: int(patch.name.partition("_")[0]))  # one a step
COMMAND = "python part4_buffering/steps/lay_out.py"
GONE = "/dev/null"  # a diff's name for no file
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")  # first line and number of lines, before and after


class StepError(Exception):
    """A step that can't be laid out; str() of it is the whole line for the user."""


def read_patch(text):
    """Return the head of a patch, a dict of what it says by label, and the diff."""
    start = text.index("\n--- ") + 1
    title, *lines = text[:start].strip().splitlines()
    head = dict(line.split(": ", 1) for line in lines if ": " in line)
    return {"title": title} | head, text[start:]


def read_files(directory):
    """Return the Python files of a directory: a dict of name -> text."""
    return {path.name: path.read_text() for path in sorted(directory.glob("*.py"))}


def apply_patch(diff, files):
    """Return the files as they are after a diff; raise StepError where they are not what it expects.

    A file that is gone needs no lines taken away: the diff names it, and that is all.
    """
    files = dict(files)
    for part in re.split(r"^(?=--- )", diff, flags=re.MULTILINE)[1:]:
        before, after, *lines = part.splitlines(keepends=True)
        old, new = (line.split()[1].partition("/")[2] if GONE not in line else None for line in (before, after))
        if old is not None and old not in files:
            raise StepError(f"there is no {old} to change")
        text = files.pop(old, "")
        if new is not None:
            files[new] = change(new, text.splitlines(keepends=True), lines)
    return files


def change(name, old, diff):
    """Return the text of one file with the hunks of a diff applied to its old lines."""
    new = []
    done = 0  # lines of the old file that are in the new one, or have been taken away
    for line in diff:
        if hunk := HUNK.match(line):
            start = int(hunk[1]) - (hunk[2] != "0")  # a hunk that takes no line away names the line before it
            new += old[done:start]
            done = start
        elif line[0] == "+":
            new.append(line[1:])
        else:
            if old[done : done + 1] != [line[1:]]:
                raise StepError(f"line {done + 1} of {name} is not what it was: {line[1:].strip()!r}")
            new += [line[1:]] * (line[0] == " ")
            done += 1
    return "".join(new + old[done:])


def step(number):
    """Return the files of a step; step 0 is part 3."""
    if not PART_BEFORE.is_dir():
        raise StepError(f"The steps begin with part 3, and it is not there: {PART_BEFORE}. Lay them out in the course.")
    files = read_files(PART_BEFORE)
    for patch in PATCHES[:number]:
        try:
            files = apply_patch(read_patch(patch.read_text())[1], files)
        except StepError as error:
            raise StepError(f"{patch.name} no longer applies: {error}. See steps/README.md, at its end.") from None
    return files


def lay_out(number, directory):
    """Write the files of a step into a directory, which must be new or empty."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise StepError(f"{directory} is there already, and not empty. Name a new directory.")
    files = step(number)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def main():
    """Do what the command line says; a mistake there is one line, and exit status 1."""
    numbers = [str(number) for number in range(1, len(PATCHES) + 1)]
    if len(sys.argv) != 3 or sys.argv[1] not in numbers:
        sys.exit(f"Usage: {COMMAND} <step, {numbers[0]} to {numbers[-1]}> <directory>")
    number, directory = int(sys.argv[1]), sys.argv[2]
    try:
        lay_out(number, pathlib.Path(directory))
    except StepError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"Couldn't write into {directory}: {error.strerror}. Name another directory.")
    patch = PATCHES[number - 1]
    head, _ = read_patch(patch.read_text())
    program = shlex.quote(f"{directory.rstrip('/')}/rsp.py")
    print(f"{directory} is s{head['title'][1:]}")
    print(f"What is new:  less part4_buffering/steps/{patch.name}")
    print(f"Run it:       python {program} config.lua")
    print(f"Check it:     pytest tests --proxy {shlex.quote(program)}")
    if number > 1:
        print(f"Beside it:    {COMMAND} {number - 1} my_step{number - 1}")


if __name__ == "__main__":
    main()
