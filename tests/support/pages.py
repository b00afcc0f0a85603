"""The page of a step: its hunks are those of its patch, each shown once; a command brings them up to date.

A hunk is a fenced block whose first line ends with "diff FILE". Its lines begin with " ", "+" or "-". Context may be
left out; a line " …" marks the place. Blocks may come in any order. A definition that has only moved from one file to
another need not be shown: a line "Moved, nothing new: `FILE: NAME`." names it.
"""

import ast
import collections
import difflib
import itertools
import re
from dataclasses import dataclass

from support.parts import ROOT
from support.steps import chain_of, file_diffs, sequence, steps_of

HEADS = ["What is missing", "The idea", "The change", "Try it", "Still wrong", "Two questions"]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HUNK = re.compile(
    r"((?:\A|\n)\n?)(?:\*\*[^*\n]+\*\*\n\n)?(```diff ([^\n]+)\n)"
)  # with the file's name above it, or not
GAP = "…"
MOVED = re.compile(r"^Moved, nothing new: ((?:`[^`]+`,?\s*)+)", re.MULTILINE)
MOST_SHOWN = 40  # lines of a block
WORDS_A_LINE = 1.5  # of explanation, for each changed line, at least
NEAR = 3  # lines of context between two changed lines that a new block shows
START = re.compile(r" *(?:async )?(?:def|class) ")


@dataclass
class Change:
    """What a step does to one file."""

    lines: list  # all lines of the file, before and after, as pairs of a sign and the line
    to_show: list  # places in it: the changed lines that the page has to show


@dataclass
class Block:
    """A hunk as a page shows it."""

    file: str
    lines: list
    start: int  # where the lines begin in the page
    end: int

    @property
    def changed(self):
        """The changed lines, without empty ones."""
        return [line for line in self.lines if is_changed(line)]


def is_changed(line):
    """Return True if a block's line is one that the step adds or takes away, and not empty."""
    return line[:1] in ("+", "-") and bool(line[1:].strip())


def blocks_of(text):
    """Return the hunks that a page shows."""
    return [
        Block(match[1].partition(" ")[2].strip(), match[2].splitlines(), *match.span(2))
        for match in FENCE.finditer(text)
        if match[1].startswith("diff ")
    ]


def changes_of(step, before, after, text=""):
    """Return the Change of each file of a step: a dict by name. The page's text says what has only moved."""
    moved, changes = moved_in(text), {}
    for diff in file_diffs(step.diff):
        if diff.new is None:
            continue
        lines = sequence(diff.new, before.get(diff.old, ""), diff)
        hidden = set()
        for sign, files in (("-", before), ("+", after)):
            ranges = definitions(files.get(diff.new, ""), diff.new, moved[diff.new])
            numbers = itertools.count(1)
            counted = [(place, next(numbers)) for place, (here, _) in enumerate(lines) if here in (" ", sign)]
            hidden |= {place for place, number in counted if lines[place][0] == sign and number in ranges}
        changed = [place for place, (sign, line) in enumerate(lines) if sign != " " and line.strip()]
        changes[diff.new] = Change(lines, [place for place in changed if place not in hidden])
    return changes


def moved_in(text):
    """Return the definitions that a page names as moved: file -> names."""
    moved = collections.defaultdict(list)
    for match in MOVED.finditer(text):
        for named in re.findall(r"`([^`]+)`", match[1]):
            file, _, name = named.partition(": ")
            moved[file].append(name)
    return moved


def definitions(text, file, names):
    """Return the numbers of the lines of these functions, methods (by name or Class.name) and classes."""
    numbers, lines = set(), text.splitlines()
    if not names or not file.endswith(".py"):
        return numbers

    def look(body, owner):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                if node.name in names or owner + node.name in names:
                    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                    while first > 1 and lines[first - 2].lstrip().startswith("#"):
                        first -= 1
                    numbers.update(range(first, node.end_lineno + 1))
                look(node.body, f"{owner}{node.name}.")

    look(ast.parse(text, file).body, "")
    return numbers


# --- what is wrong with a page's hunks ---------------------------------------------------------------


def complaints(step, before, after, text):
    """Return a line for each changed line that a page does not show once, and for each block that isn't the patch's."""
    changes, blocks, lines = changes_of(step, before, after, text), blocks_of(text), []
    for file in sorted({block.file for block in blocks} - changes.keys()):
        lines.append(f"the step changes no file {file!r}")
    for file, change in changes.items():
        mine = [block for block in blocks if block.file == file]
        wanted = ["".join(change.lines[place]) for place in change.to_show]
        places = tile(mine, wanted)
        if places is None:
            lines += why_not(file, mine, wanted)
            continue
        for block, start in zip(mine, places, strict=True):
            lines += wrong_context(block, change, start)
    lines += moved_wrongly(before, after, text)
    for block in blocks:
        if len(block.lines) > MOST_SHOWN:
            lines.append(f"{block.file}: a block of {len(block.lines)} lines; show at most {MOST_SHOWN} at a time")
    return lines


def tile(blocks, wanted):
    """Return where in the changed lines of a file each block begins, so that together they show each once; or None."""
    shown = [block.changed for block in blocks]

    def place(done, left):
        if done == len(wanted):
            return {} if not left else None
        for number in left:
            lines = shown[number]
            if lines and wanted[done : done + len(lines)] == lines:
                rest = place(done + len(lines), [other for other in left if other != number])
                if rest is not None:
                    return rest | {number: done}
        return None

    if any(not lines for lines in shown) or sum(map(len, shown)) != len(wanted):
        return None
    places = place(0, list(range(len(blocks))))
    return places and [places[number] for number in range(len(blocks))] if places != {} else []


def why_not(file, blocks, wanted):
    """Return why these blocks are not the changed lines of a file, each once."""
    shown = collections.Counter(line for block in blocks for line in block.changed)
    real = collections.Counter(wanted)
    lines = [f"{file}: not shown: {line!r}" for line in (real - shown).elements()]
    lines += [f"{file}: shown, but not in the patch, or more than once: {line!r}" for line in (shown - real).elements()]
    empty = [block for block in blocks if not block.changed]
    lines += [f"{file}: a block that shows no changed line: {block.lines[:1]}" for block in empty]
    return lines or [f"{file}: the blocks are no runs of the patch's lines: keep the order of its lines in each"]


def is_skipped(line):
    """Return True if a line between two that a block shows may be left out without a mark."""
    return not line[1].strip() or line[0] == "-"


def wrong_context(block, change, start):
    """Return a complaint if a block's context isn't the file's, or if something is left out without a mark."""
    runs = change.to_show[start : start + len(block.changed)]
    items = [line.rstrip() for line in block.lines if line[1:].strip()]
    first = next(number for number, line in enumerate(items) if is_changed(line))
    wrong = walk(items[first:], change, runs, step=1) or walk(items[first::-1], change, runs[:1], step=-1)
    return [f"{block.file}: {wrong}"] if wrong else []


def walk(items, change, runs, step):
    """Follow a block's lines through the file's, from its first changed line on; return what does not fit, or ""."""
    runs, at, gap = list(runs), None, False
    for item in items:
        if item.strip() == GAP:
            gap = True
            continue
        if is_changed(item) and runs:
            place = runs.pop(0)
        else:
            place = find_context(item, change, at, step)
        if place is None:
            return f"after or before {''.join(change.lines[at])!r} there is no {item!r}"
        between = [] if at is None else change.lines[min(at, place) + 1 : max(at, place)]
        if not gap and not all(map(is_skipped, between)):
            return f"{item!r}: lines are left out before or after it, and no {GAP!r} says so"
        at, gap = place, False
    return ""


def find_context(item, change, at, step):
    """Return the next place where the file has a line of context, in one direction; None when there is none."""
    place = at + step
    while 0 <= place < len(change.lines):
        sign, line = change.lines[place]
        if sign != "-" and line.rstrip() == item[1:]:
            return place
        place += step
    return None


def moved_wrongly(before, after, text):
    """Return a complaint for each definition that is named as moved, and isn't there, or is mostly new."""
    earlier = {line.strip() for content in before.values() for line in content.splitlines()}
    lines = []
    for file, names in moved_in(text).items():
        for name in names:
            numbers = definitions(after.get(file, ""), file, [name])
            numbers_before = definitions(before.get(file, ""), file, [name])
            if not numbers | numbers_before:
                lines.append(f"moved: there is no {name} in {file}")
            content = after.get(file, "").splitlines()
            body = [content[number - 1].strip() for number in numbers if content[number - 1].strip()]
            if 2 * sum(line in earlier for line in body) < len(body):
                lines.append(f"moved: most lines of {name} in {file} are new; show them")
    return lines


def words_in(text):
    """Return how many words a page has outside its fenced blocks, and without the addresses of its links."""
    text = re.sub(r"\]\([^)]*\)|<[^>]+>", "", FENCE.sub("", text))
    return len(re.findall(r"\w[\w'’.-]*", text))


# --- up to date --------------------------------------------------------------------------------------


def bring_up_to_date(part):
    """Renew the hunks in the pages of a part's steps; return lines about what has been done and what is left to do."""
    chain, said = chain_of(part), []
    for step in steps_of(part):
        if step.page.exists():
            old, name = step.page.read_text(), step.page.relative_to(ROOT)
            new = renewed(step, *chain[step.number - 1 : step.number + 1], old)
            if new != old:
                step.page.write_text(new)
                said.append(f"{name}: hunks brought up to date. Do its sentences still fit them?")
            said += [f"{name}: {line}" for line in complaints(step, *chain[step.number - 1 : step.number + 1], new)]
    return said


def renewed(step, before, after, text):
    """Return a page with its hunks as the patch has them now; what was shown together stays together."""
    changes, replaced = changes_of(step, before, after, text), []
    for file, change in changes.items():
        mine = [block for block in blocks_of(text) if block.file == file]
        wanted = ["".join(change.lines[place]) for place in change.to_show]
        places = tile(mine, wanted)
        if places is None:
            spans = aligned(mine, wanted)
        else:
            spans = [(start, start + len(block.changed)) for block, start in zip(mine, places, strict=True)]
        for block, (start, end) in zip(mine, spans, strict=True):
            if start < end and (block.changed != wanted[start:end] or wrong_context(block, change, start)):
                replaced.append((block, rendered(change, change.to_show[start:end], block.lines)))
    for block, lines in sorted(replaced, key=lambda pair: -pair[0].start):
        text = text[: block.start] + "".join(f"{line}\n" for line in lines) + text[block.end :]
    return with_file_names(text)


def with_file_names(text):
    """Return a page with the name of its file above each hunk: GitHub does not show what comes after ```diff."""
    return HUNK.sub(lambda match: f"{match[1]}**{match[3]}**\n\n{match[2]}", text)


def aligned(blocks, wanted):
    """Return the run of changed lines that each block is to show now, where the blocks show other lines."""
    order = in_patch_order(blocks, wanted)
    shown = [line for number in order for line in blocks[number].changed]
    opcodes = difflib.SequenceMatcher(None, shown, wanted, autojunk=False).get_opcodes()
    edges, done = [0], 0
    for number in order[:-1]:
        done += len(blocks[number].changed)
        moved = [min(j1 + done - i1, j2) for _, i1, i2, j1, j2 in opcodes if i1 <= done < i2]
        edges.append(max(edges[-1], *moved, 0))
    found = dict(zip(order, itertools.pairwise([*edges, len(wanted)]), strict=True))
    return [found[number] for number in range(len(blocks))]


def in_patch_order(blocks, wanted):
    """Return the numbers of the blocks in the order of the patch; the longest match is the most certain place."""
    free, places = list(wanted), {}
    while len(places) < len(blocks):
        matches = [
            (-match.size, number, match)
            for number, block in enumerate(blocks)
            if number not in places
            and (match := difflib.SequenceMatcher(None, block.changed, free, autojunk=False).find_longest_match())
        ]
        _, number, match = min(matches)
        places[number] = match.b - match.a if match.size else len(wanted)
        free[match.b : match.b + match.size] = [None] * match.size
    return sorted(places, key=places.get)


def rendered(change, run, old=None):
    """Return the lines of a block that shows a run of changed lines, with the context that the old block had."""
    lines, first, last = change.lines, run[0], run[-1]
    kept = set() if old is None else {line[1:].rstrip() for line in old if line[:1] == " "}
    shown = set(run)
    for start, end in itertools.pairwise(run):
        between = [place for place in range(start + 1, end) if not is_skipped(lines[place])]
        wanted = [place for place in between if lines[place][1].rstrip() in kept]
        shown |= set(between if len(between) <= NEAR and (old is None or not wanted) else wanted)
    if old is None:
        near = (place for place in (first - 1, last + 1) if 0 <= place < len(lines))
        shown |= {place for place in near if lines[place][0] == " " and lines[place][1].strip()}
        shown |= enclosing(lines, first)
    else:
        shown |= kept_around(lines, first, old, -1) | kept_around(lines, last, old, 1)
    return with_gaps(lines, shown, set(run))


def enclosing(lines, place):
    """Return the place of the definition that a changed line is in, as a set, which may be empty."""
    sign, line = lines[place]
    depth = len(line) - len(line.lstrip())
    if START.match(line) or not depth:
        return set()
    for above in range(place - 1, -1, -1):
        sign, line = lines[above]
        if sign != "-" and START.match(line) and len(line) - len(line.lstrip()) < depth:
            return {above}
    return set()


def kept_around(lines, place, old, step):
    """Return the places of the context that a block had before its first, or after its last changed line."""
    found = set()
    for line in old[::-step] if step < 0 else old[::-1]:
        if is_changed(line):
            break
        found |= set() if line.strip() in ("", GAP) else {line[1:].rstrip()}
    shown = set()
    while found and 0 <= (place := place + step) < len(lines):
        sign, line = lines[place]
        if sign != "-" and line.rstrip() in found:
            shown.add(place)
            found.discard(line.rstrip())
    return shown


def with_gaps(lines, shown, run):
    """Return the lines at these places as a block shows them, with a mark where some are left out.

    A line that another block shows as added is context here.
    """
    block, done = [], None
    for place in sorted(shown):
        sign, line = lines[place][0] if place in run else " ", lines[place][1]
        if done is not None:
            between = lines[done + 1 : place]
            if any(not is_skipped(other) for other in between):
                block.append(f" {GAP}")
            elif blank := [other[0] for other in between if not other[1].strip() and other[0] != "-"]:
                block.append("+" if "+" in blank else "")
        block.append(f"{sign}{line}")
        done = place
    return block


# --- a new page --------------------------------------------------------------------------------------


def draft(step, before, after):
    """Return a page to fill in: its sections, and every hunk of the patch."""
    steps = steps_of(step.part)
    names = {other.number: f"[Step {other.number}]({other.page.name})" for other in steps}
    links = [names.get(step.number - 1), f"[Part {step.part}](../README.md)", names.get(step.number + 1)]
    hunks = []
    for file, change in changes_of(step, before, after).items():
        for run in runs_of(change):
            lines = "\n".join(rendered(change, run))
            hunks.append(f"```diff {file}\n{lines}\n```\n")
    sections = dict.fromkeys(HEADS, "") | {"The change": "\n".join(hunks)}
    details = "<details><summary>Answer</summary>\n\n\n\n</details>\n"
    sections["Two questions"] = f"1. \n\n{details}\n2. \n\n{details}"
    text = f"# Step {step.number}: {step.title}\n\n{' · '.join(filter(None, links))}\n"
    return with_file_names(text + "".join(f"\n## {head}\n\n{content}" for head, content in sections.items()))


def runs_of(change):
    """Return the changed lines of a file in runs that are short enough for a block each; most are one definition."""
    runs = []
    for place in change.to_show:
        since = change.lines[runs[-1][-1] + 1 : place + 1] if runs else []
        far = sum(not is_skipped(line) for line in since) > NEAR
        starts = any(START.match(line) for sign, line in since if sign != "-" or change.lines[place][0] == "-")
        head_of_class = runs and len(runs[-1]) <= NEAR and "class " in change.lines[runs[-1][0]][1]
        replaces = runs and START.match(change.lines[runs[-1][-1]][1])
        if not runs or far or (starts and not head_of_class and not replaces) or len(runs[-1]) >= MOST_SHOWN - NEAR:
            runs.append([])
        runs[-1].append(place)
    return runs
