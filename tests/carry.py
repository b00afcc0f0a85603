"""Carries a change of one part through the parts after it, by a three-way merge for each file and each part.

    python tests/carry.py                         what has changed since the last commit, in any part
    python tests/carry.py --since HEAD~1          what has changed since another commit
    python tests/carry.py part3_lua/config.py     the changes of one file, or of one directory, from that part on
    python tests/carry.py --accept part4_buffering    the part's differences from the part before are intended

Each part gets what the part before has changed: base is the earlier part's file as it was, one side is what it is now,
the other is the later part's file. Conflicts are left in the file, marked and named. The steps from part to part get
the change as well, and their pages: see support/steps.py. Nothing is committed.
"""

import argparse
import io
import pathlib
import subprocess
import sys
import tarfile

from support.merging import MARK, carry_through_steps, merge_text
from support.parts import PARTS, ROOT
from support.patches import need_git
from support.steps import StepError, parts_with_steps
from support.versions import PAIRS, WHOLE_FILE, all_differences, differences, files, pieces, read_list, write_list


def git(*words):
    """Run git at the top of the repository, and return what it prints, bytes; end the program with its complaint."""
    run = subprocess.run(["git", *words], cwd=ROOT, capture_output=True)
    if run.returncode != 0:
        sys.exit(f"git {words[0]}: {run.stderr.decode().strip()}")
    return run.stdout


def read_past(commit):
    """Return the files of all parts as they were in a commit: {"part2_epoll/rsp.py": text}."""
    listing = git("ls-tree", "-r", "--name-only", commit, "--", *PARTS.values()).decode().splitlines()
    wanted = [file for file in listing if file.count("/") == 1 and file.endswith((".py", ".lua"))]
    archive = tarfile.open(fileobj=io.BytesIO(git("archive", commit, "--", *wanted)))
    return {file: archive.extractfile(file).read().decode() for file in wanted}


def starts(paths):
    """Return where to start, as pairs of a part's number and the name of a file, or None for all its files."""
    numbers = {directory: part for part, directory in PARTS.items()}
    found = []
    for path in paths or [PARTS[1]]:
        full = pathlib.Path(path).resolve()
        directory, name = (full.parent.name, full.name) if full.suffix else (full.name, None)
        if directory not in numbers:
            sys.exit(f"{path} is not a part, nor a file of one. The parts are: {', '.join(numbers)}.")
        found.append((numbers[directory], name))
    return found


def merge(before, after, name, base, theirs):
    """Merge a change (base to theirs, texts) into the later part's file; return how many places are in conflict."""
    target = ROOT / after / name
    labels = [word for label in (after, "before the change", "the change") for word in ("-L", label)]
    text, conflicts = merge_text(f"{before}/{name}", target.read_text(), base, theirs, "--diff3", *labels)
    target.write_text(text)
    return conflicts


def note(before, after, name, old, new):
    """Renew the digests of what the change has touched, in a file that took it without a conflict."""
    listed, file = read_list(), f"{after}/{name}"
    real = differences(before, after, name)
    past, present = pieces(old, name), pieces(new, name)
    here = {piece: fingerprint for piece, fingerprint in listed.get(file, {}).items() if piece in real}
    here |= {piece: real[piece] for piece in here if piece == WHOLE_FILE or past.get(piece) != present.get(piece)}
    write_list(listed | {file: here})


def carry_file(before, after, name, old, new):
    """Carry the change of one file into the next part; return whether to go on, and a line that says what was done.

    `old` and `new` are the earlier part's file, None where there is none.
    """
    target = ROOT / after / name
    if new is None:
        return False, f"{before}/{name} is gone. Remove {after}/{name} as well, or accept that it stays."
    if not target.exists() and old is None:
        target.write_text(new)
        return True, f"{after}/{name}: copied, it is new."
    if not target.exists():
        return False, f"{after} has no {name}: see whether the change belongs into another file there."
    present = target.read_text()
    if present == new:
        return True, None
    if MARK in present:
        return False, f"{after}/{name} still has conflicts marked in it. Resolve them first."
    if conflicts := merge(before, after, name, old or "", new):
        places = "1 place is" if conflicts == 1 else f"{conflicts} places are"
        return False, f"{after}/{name}: CONFLICT, {places} marked {MARK}"
    note(before, after, name, old or "", new)
    return True, f"{after}/{name}: merged." if target.read_text() != present else None


def carry(commit, paths):
    """Carry what has changed since a commit from part to part; return whether everything went through."""
    past, start, stopped = read_past(commit), starts(paths), set()
    for part, (before, after) in enumerate(PAIRS, 1):
        present = set(files(before)) | {pathlib.Path(file).name for file in past if file.startswith(f"{before}/")}
        for name in sorted(present):
            path = ROOT / before / name
            old, new = past.get(f"{before}/{name}"), path.read_text() if path.exists() else None
            chosen = any(first <= part and only in (None, name) for first, only in start)
            if not chosen or old == new or name in stopped:
                continue
            goes_on, line = carry_file(before, after, name, old, new)
            if not goes_on:
                stopped.add(name)
            if line:
                print(line)
            if line and "CONFLICT" in line:
                since = "" if commit == "HEAD" else f"--since {commit} "
                print("    Resolve it by hand. Then say so, and go on from there:")
                print(f"    python tests/carry.py --accept {after}/{name}")
                print(f"    python tests/carry.py {since}{after}/{name}")
    for part in parts_with_steps():
        before = {file.split("/")[1]: text for file, text in past.items() if file.startswith(f"{PARTS[part - 1]}/")}
        print("".join(f"{line}\n" for line in carry_through_steps(part, before)), end="")
    return not stopped


def accept(paths):
    """List what the parts have changed, as it is now, in the parts or files that are named."""
    listed, real, start = read_list(), all_differences(), starts(paths)
    for file in sorted(listed.keys() | real.keys()):
        directory, name = file.split("/")
        if any(PARTS[part] == directory and only in (None, name) for part, only in start):
            was, now = listed.get(file, {}), real.get(file, {})
            changes = [piece for piece in sorted(was.keys() | now.keys()) if was.get(piece) != now.get(piece)]
            if changes:
                print(f"{file}: accepted {', '.join(changes)}")
            listed[file] = now
    write_list(listed)


def main():
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python tests/carry.py", description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a part, or a file of one; otherwise all of them")
    parser.add_argument("--since", default="HEAD", metavar="COMMIT", help="carry what has changed since; default: HEAD")
    parser.add_argument("--accept", action="store_true", help="carry nothing; accept the differences as intended")
    options = parser.parse_args()
    try:
        need_git()
        if options.accept:
            accept(options.paths or PARTS.values())
        elif not carry(options.since, options.paths):
            sys.exit(1)
    except (LookupError, StepError) as error:
        sys.exit(str(error))
    except SyntaxError as error:
        sys.exit(f"{error.filename}, line {error.lineno}: {error.msg}. Correct it first.")


if __name__ == "__main__":
    main()
