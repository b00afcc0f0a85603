"""Carries a change of part 3 or part 4 through the steps between them. For whoever changes these parts; needs git.

    python part4_buffering/steps/carry.py merge DIR [COMMIT]
    python part4_buffering/steps/carry.py pack DIR

`merge` lays out part 3 and all the steps in DIR/0, DIR/1, and so on. What has changed since a commit (HEAD, unless you
name another) in part 3 is carried forwards, and what has changed in part 4 backwards. `pack` makes the patches again
from these directories; their heads stay. With nothing changed in the parts, the two are the way to change a step.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from lay_out import GONE, HERE, PART_BEFORE, PATCHES, StepError, apply_patch, read_files, read_patch

PART = HERE.parent
ROOT = PART.parent
COMMAND = "python part4_buffering/steps/carry.py"
USAGE = f"Usage: {COMMAND} merge <directory> [<commit>], or {COMMAND} pack <directory>"


def git(*words, directory=ROOT):
    """Return what git prints, and its exit status; raise StepError when it fails."""
    if shutil.which("git") is None:
        raise StepError("git is missing. Install it: sudo apt install git")
    run = subprocess.run(["git", *words], cwd=directory, capture_output=True, text=True)
    if run.returncode and run.stderr:
        raise StepError(f"git {words[0]}: {run.stderr.strip().splitlines()[0]}")
    return run.stdout, run.returncode


def committed(directory, suffix, commit):
    """Return the files of a directory as they were at a commit: a dict of name -> text."""
    path = directory.relative_to(ROOT)
    names, _ = git("ls-tree", "--name-only", commit, f"{path}/")
    names = [name for name in sorted(names.splitlines(), key=in_order) if name.endswith(suffix)]
    return {pathlib.Path(name).name: git("show", f"{commit}:./{name}")[0] for name in names}


def in_order(path):
    """Return what sorts files by the number that their names begin with, 9 before 10, and others by name."""
    name = pathlib.Path(path).name
    number = name.partition("_")[0]
    return int(number) if number.isdigit() else 0, name


def steps_at(commit):
    """Return the files of part 3 and of each step, as they were at a commit: a list of dicts."""
    chain = [committed(PART_BEFORE, ".py", commit)]
    for patch in committed(HERE, ".patch", commit).values():
        chain.append(apply_patch(read_patch(patch)[1], chain[-1]))
    return chain


def merge_files(before, after, mine, complaint):
    """Return my files, with what has changed from before to after where it fits, and a complaint where it does not."""
    merged = dict(mine)
    for name in before.keys() | after.keys():
        if before.get(name) == mine.get(name):
            merged[name] = after.get(name)
        elif before.get(name) != after.get(name):
            if None in (before.get(name), after.get(name), mine.get(name)):
                fits = False
            else:
                merged[name], fits = merge_text(before[name], after[name], mine[name])
            if not fits:
                print(complaint.format(name))
    return {name: text for name, text in merged.items() if text is not None}


def merge_text(before, after, mine):
    """Return my text, with what has changed from before to after, and whether all of it fits; what does not is left."""
    with tempfile.TemporaryDirectory() as directory:
        for name, text in [("mine", mine), ("before", before), ("after", after)]:
            pathlib.Path(directory, name).write_text(text)
        words = ["merge-file", "-p", "-q", "mine", "before", "after"]
        text, conflicts = git(*words, directory=directory)
        if conflicts:
            text, _ = git(*words, "--ours", directory=directory)
    return text, not conflicts


def merge(directory, commit):
    """Lay out part 3 and every step, with the changes since a commit, and say where one does not fit."""
    if directory.exists():
        raise StepError(f"{directory} is there already. Name a new directory.")
    old = steps_at(commit)
    last = len(old) - 1
    new = [read_files(PART_BEFORE)]
    for number in range(1, last + 1):
        complaint = f"Step {number} and those after it keep lines of {{}} that part 3 has changed. Is that right?"
        new.append(merge_files(old[number - 1], new[-1], old[number], complaint))
    forwards = list(new)
    new[last] = read_files(PART)
    for number in range(last - 1, 0, -1):
        before = forwards[number + 1]
        after = {
            name: text for name, text in new[number + 1].items() if name in before
        }  # a new file is the last step's
        complaint = f"Step {number} and those before it keep lines of {{}} that part 4 has changed. Is that right?"
        new[number] = merge_files(before, after, forwards[number], complaint)
    for number, files in enumerate(new):
        place = directory / str(number)
        place.mkdir(parents=True)
        for name, text in files.items():
            (place / name).write_text(text)
    print(f"The steps are in {directory}. When each is as it should be: {COMMAND} pack {directory}")


def pack(directory):
    """Make the patches again; each keeps its head."""
    chain = [read_files(directory / str(number)) for number in range(len(PATCHES) + 1)]
    for number, files in enumerate(chain):
        if not files:
            raise StepError(f"{directory / str(number)} has no Python files. Make the directories: {COMMAND} merge DIR")
    for before, after, patch in zip(chain, chain[1:], PATCHES, strict=False):
        head = patch.read_text().partition("\n--- ")[0] + "\n"
        patch.write_text(head + "".join(diff(name, before, after) for name in sorted(before.keys() | after.keys())))


def diff(name, before, after):
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


def main():
    """Do what the command line says; a mistake there is one line, and exit status 1."""
    command, *words = sys.argv[1:] or [""]
    try:
        if command == "merge" and len(words) in (1, 2):
            merge(pathlib.Path(words[0]), *words[1:] or ["HEAD"])
        elif command == "pack" and len(words) == 1:
            pack(pathlib.Path(words[0]))
        else:
            sys.exit(USAGE)
    except (StepError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
