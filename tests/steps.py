"""Lays out the steps of a part, one at a time for a reader, or all of them for whoever changes them.

    python tests/steps.py lay-out 4.3 my_step     step 3 of part 4, a whole proxy, in a directory of your own
    python tests/steps.py unpack 4 DIR            all the steps, in DIR/1, DIR/2 and so on; DIR/0 is the part before
    python tests/steps.py pack 4 DIR              makes the patches again from there; their heads stay
    python tests/steps.py pages [4]               brings the hunks that the pages show up to date
    python tests/steps.py draft 4.3               begins a step's page: its sections, and all its hunks

What a step is: support/steps.py. `python tests/carry.py` takes a change of a part through the steps.
"""

import pathlib
import shlex
import sys

from support import pages
from support.parts import PARTS, ROOT
from support.steps import (
    COMMAND,
    StepError,
    chain_of,
    existing_part,
    find_step,
    parts_with_steps,
    read_files,
    steps_of,
    write_files,
    write_patches,
)

USAGE = f"""Usage: {COMMAND} lay-out <step, such as 4.3> <directory>
       {COMMAND} unpack <part> <directory>
       {COMMAND} pack <part> <directory>
       {COMMAND} pages [<part>]
       {COMMAND} draft <step>"""


def lay_out(name, directory):
    """Write the files of a step into a directory: a new one, an empty one, or an unchanged step."""
    step = find_step(name)
    files = chain_of(step.part)[step.number]
    place = pathlib.Path(directory)
    if place.exists():
        clear(place)
    write_files(place, files)
    shown = directory.rstrip("/")
    program, config = shlex.quote(f"{shown}/rsp.py"), "config.lua"
    if config in files:
        config = shlex.quote(f"{shown}/{config}")
    page = step.page if step.page.exists() else step.patch
    print(f"{directory} is step {step.number} of part {step.part}: {step.title}")
    print(f"What is new:  {page.relative_to(ROOT)}")
    print(f"Run it:       python {program} {config}")
    print(f"Check it:     pytest tests --proxy {program}")
    if step.number > 1:
        print(f"Beside it:    {COMMAND} lay-out {step.part}.{step.number - 1} my_step{step.number - 1}")


def clear(directory):
    """Empty a directory that holds a step and no work of the reader's; raise StepError for any other."""
    if not directory.is_dir():
        raise StepError(f"{directory} is a file. Name a new directory.")
    names = {path.name for path in directory.iterdir()} - {"__pycache__"}
    files = read_files(directory)
    if names != files.keys() or files and not any(has_step(part, files) for part in parts_with_steps()):
        raise StepError(f"{directory} is there already, and not empty. Name a new directory.")
    for name in names:
        (directory / name).unlink()


def has_step(part, files):
    """Return True if these are the files of a step of a part; one that no longer applies has no files."""
    try:
        return files in chain_of(part)
    except StepError:
        return False


def unpack(part, directory):
    """Write the part before into directory/0, and each step into a directory with its number."""
    if directory.exists():
        raise StepError(f"{directory} is there already. Name a new directory.")
    for number, files in enumerate(chain_of(part)):
        write_files(directory / str(number), files)
    print(f"The steps are in {directory}. When each is as it should be: {COMMAND} pack {part} {directory}")


def pack(part, directory):
    """Make the patches again from a directory that unpack has made, and bring the pages up to date."""
    steps = steps_of(part)
    chain = [read_files(directory / str(number)) for number in range(len(steps) + 1)]
    for number, files in enumerate(chain):
        if not files:
            raise StepError(f"{directory / str(number)} has no Python files. Make it: {COMMAND} unpack {part} DIR")
    if (directory / str(len(steps) + 1)).exists():
        place = f"{PARTS[part]}/steps/{len(steps) + 1}_name.patch"
        raise StepError(f"There is no patch for {directory / str(len(steps) + 1)}. Write its title into {place}")
    write_patches(steps, chain)
    for number, original in ((0, PARTS[part - 1]), (len(steps), PARTS[part])):
        present = read_files(ROOT / original)
        names = [name for name in chain[number].keys() | present if chain[number].get(name) != present.get(name)]
        if names:
            print(f"{directory / str(number)} is not {original} yet: {', '.join(sorted(names))}")
    bring_pages_up_to_date(part)


def bring_pages_up_to_date(part):
    """Renew the hunks that the pages of a part's steps show, and say what is left to do."""
    try:
        print("".join(f"{line}\n" for line in pages.bring_up_to_date(part)), end="")
    except StepError as error:
        print(f"Part {part}: {error}", file=sys.stderr)


def draft(name):
    """Write a page for a step that has none."""
    step = find_step(name)
    if step.page.exists():
        raise StepError(f"{step.page.relative_to(ROOT)} is there already. Its hunks: {COMMAND} pages {step.part}")
    step.page.write_text(pages.draft(step, *chain_of(step.part)[step.number - 1 : step.number + 1]))
    print(f"The page to fill in: {step.page.relative_to(ROOT)}")


def main():
    """Do what the command line says; a mistake there is one line, and exit status 1."""
    command, *words = sys.argv[1:] or [""]
    try:
        if command == "lay-out" and len(words) == 2:
            lay_out(*words)
        elif command == "unpack" and len(words) == 2:
            unpack(existing_part(words[0]), pathlib.Path(words[1]))
        elif command == "pack" and len(words) == 2:
            pack(existing_part(words[0]), pathlib.Path(words[1]))
        elif command == "pages" and len(words) < 2:
            for part in [existing_part(word) for word in words] or parts_with_steps():
                bring_pages_up_to_date(part)
        elif command == "draft" and len(words) == 1:
            draft(words[0])
        else:
            sys.exit(USAGE)
    except StepError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"Couldn't read or write {error.filename}: {error.strerror}.")


if __name__ == "__main__":
    main()
