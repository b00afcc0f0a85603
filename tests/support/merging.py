"""Merging a change of one file into another version of it, three ways; and through the steps of a part."""

import pathlib
import tempfile

from support import pages
from support.parts import PARTS, ROOT
from support.steps import StepError, chain_from, git, part_before, read_files, steps_of, write_patches
from support.versions import pieces

MARK = "<<<<<<<"  # git's, where a conflict begins


def merge_text(name, mine, base, theirs, *words):
    """Return my text with the change from base to theirs in it, and how many places are in conflict.

    A definition that mine has as it was is replaced whole. git would see a conflict where the line below it is one
    that mine has changed. The words are git's, and say what to do about conflicts.
    """
    past, present = (pieces(version, name) for version in (base, theirs))
    for piece, here in pieces(mine, name).items():
        was, new = past.get(piece), present.get(piece)
        if was and new and here in (was, new) and base.count(was) == mine.count(here) == 1:
            base, mine = base.replace(was, new), mine.replace(here, new)
    with tempfile.TemporaryDirectory() as directory:
        for side, text in (("mine", mine), ("base", base), ("theirs", theirs)):
            pathlib.Path(directory, side).write_text(text)
        merged, conflicts = git("merge-file", "-p", "-q", *words, "mine", "base", "theirs", directory=directory)
    return merged, conflicts


def merge_files(mine, base, theirs):
    """Return my files with the changes from base to theirs where they fit, and the names of those where some don't."""
    merged, kept = dict(mine), []
    for name in sorted(base.keys() | theirs.keys()):
        versions = base.get(name), theirs.get(name), mine.get(name)
        if versions[0] == versions[2]:
            merged[name] = versions[1]
        elif versions[0] != versions[1]:
            if None in versions:
                kept.append(name)
                continue
            _, conflicts = merge_text(name, mine[name], base[name], theirs[name])
            merged[name], _ = merge_text(name, mine[name], base[name], theirs[name], "--ours")
            kept += [name] * bool(conflicts)
    return {name: text for name, text in merged.items() if text is not None}, kept


def carry_through_steps(part, before_then):
    """Carry what has changed in a part, and in the one before, through the steps between; return lines about it.

    `before_then` has the files of the part before as they were. Its change goes forwards from step to step, the part's
    own backwards from the last one. A step that has other lines where something has changed keeps them.
    """
    steps, before, after = steps_of(part), part_before(part), read_files(ROOT / PARTS[part])
    if any(MARK in text for text in [*before.values(), *after.values()]):
        return [f"The steps of part {part} wait: there are conflicts to resolve first."]
    chain = chain_then(steps, before, before_then)
    if chain[0] == before and chain[-1] == after:
        return []
    chain, forwards = carry_forwards(chain, before)
    chain, backwards = carry_backwards(chain, after)
    keeps = "Step {}.{} and {} keep their own {} where part {} has changed."
    lines = [keeps.format(part, number, "later ones", name, part - 1) for number, name in forwards]
    lines += [keeps.format(part, number, "earlier ones", name, part) for number, name in backwards]
    if lines:
        lines.append(f"    Right where a step has no such lines yet. If not: python tests/steps.py unpack {part} DIR")
    write_patches(steps, chain)
    return [f"{PARTS[part]}/steps: carried through.", *lines, *pages.bring_up_to_date(part)]


def carry_forwards(chain, before):
    """Return the steps' files from a changed part before on, and where a step keeps lines: its number and the file."""
    new, keeps = [before], []
    for number in range(1, len(chain)):
        files, kept = merge_files(chain[number], chain[number - 1], new[-1])
        new.append(files)
        keeps += [(number, name) for name in kept]
    return new, keeps


def carry_backwards(chain, after):
    """Return the steps' files up to a changed part, and where a step keeps lines: its number and the file."""
    new, keeps = [*chain[:-1], after], []
    for number in range(len(chain) - 2, 0, -1):
        was = chain[number + 1]
        now = {name: text for name, text in new[number + 1].items() if name in was}  # a new file is the last step's
        new[number], kept = merge_files(chain[number], was, now)
        keeps += [(number, name) for name in kept]
    return new, keeps


def chain_then(steps, before, before_then):
    """Return the files before the steps and after each: from the part before as it is, or if need be as it was."""
    try:
        return chain_from(before, steps)
    except StepError as error:
        try:
            return chain_from(before_then, steps)
        except StepError:
            hint = "Name an earlier commit: python tests/carry.py --since COMMIT"
            raise StepError(f"{str(error).partition('. Carry')[0]}, and did not before the change. {hint}") from None
