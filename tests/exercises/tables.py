"""The tables on the students' page and on the teacher's page: made from the cards and from the files beside them."""

import html

from cards import HERE, Exercise, names
from suite.behaviours import BY_NAME
from support.parts import PARTS

TIMES = {"Ten minutes": 10, "Up to half an hour": 30, "An hour at most": 60, "More than an hour": 10_000}  # minutes
NEEDED = {7: ", redis-server"}  # what the exercises of a part need besides what `make ready` installs
STUDENTS_PAGE = HERE / "README.md"
TEACHERS_PAGE = HERE / "teacher" / "README.md"  # not in a copy for a class, and so are the slides
SLIDES = TEACHERS_PAGE.parent / "slides.html"
SLIDE_PARTS = (1, 2, 3, 4)
SLIDE_ROWS = ["several clients", "idle client", "slow client", "half-closed client", "out of descriptors"]


def exercise_map():
    """Return the map on the students' page: every exercise, the shortest first, with what it needs."""
    exercises, lines, shortest = sorted(map(Exercise, names()), key=lambda each: each.minutes), [], 0
    for title, longest in TIMES.items():
        found = [each for each in exercises if shortest < each.minutes <= longest]
        if found:
            lines += [f"### {title}", "", "| minutes | exercise | kind | needs | objective |", "|---|---|---|---|---|"]
        for each in found:
            part = f"[part {each.part}](../../{PARTS[each.part]}/README.md){NEEDED.get(each.part, '')}"
            cells = [str(each.minutes), f"[{each.name}]({each.name}/card.md)", each.kind, part]
            lines.append(f"| {' | '.join([*cells, each.one_line('Objective')])} |")
        lines += [""] * bool(found)
        shortest = longest
    return "\n".join(lines).rstrip()


def table_for_teachers():
    """Return the table of exercises as the teacher's page has it."""
    lines = ["| exercise | kind | lines | minutes | teaches | often wrong |", "|---|---|---|---|---|---|"]
    for exercise in map(Exercise, names()):
        cells = [f"[{exercise.name}](../{exercise.name}/card.md)", exercise.kind, str(exercise.size)]
        cells += [str(exercise.minutes), exercise.one_line("Teaches"), exercise.one_line("Often wrong")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def questions_for_teachers():
    """Return the questions for a discussion as the teacher's page has them."""
    lines = ["| after | ask | listen for |", "|---|---|---|"]
    for exercise in map(Exercise, names()):
        lines.append(f"| {exercise.name} | {exercise.one_line('Ask')} | {exercise.one_line('Listen for')} |")
    return "\n".join(lines)


def slide_table():
    """Return the rows of the behaviour table that are on the last slide, in HTML."""
    heads = "".join(f"<th>part {part}</th>" for part in SLIDE_PARTS)
    lines = [f"<tr><th>behaviour</th>{heads}</tr>"]
    for row in map(BY_NAME.get, SLIDE_ROWS):
        cells = "".join(f'<td class="{row.parts[part]}">{row.parts[part]}</td>' for part in SLIDE_PARTS)
        lines.append(f"<tr><td>{html.escape(row.text)}</td>{cells}</tr>")
    return "\n".join(lines)


TABLES = {"map": (STUDENTS_PAGE, exercise_map), "exercises": (TEACHERS_PAGE, table_for_teachers)}
TABLES |= {"questions": (TEACHERS_PAGE, questions_for_teachers), "behaviours": (SLIDES, slide_table)}


def with_table(text, name, table):
    """Return a page's text with a table between the marks <!-- name --> and <!-- /name -->."""
    before, mark, rest = text.partition(f"<!-- {name} -->\n")
    return before + mark + table + "\n" + rest[rest.index(f"<!-- /{name} -->") :]


def write_tables():
    """Bring each table up to date on its page."""
    for name, (page, made) in TABLES.items():
        if page.exists():
            page.write_text(with_table(page.read_text(), name, made()))
            print(f"{name}: up to date in {page.relative_to(HERE)}")
