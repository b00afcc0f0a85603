"""What a program has printed, cut down to what gets read: its traceback first, and never more than some ten lines."""

TRACEBACK = "Traceback (most recent call last):"
MOST_LINES = 10
PRINTED = "\nIt printed:\n"  # in an error's text, between what is wrong and what the program said


def with_output(text, printed):
    """Return an error's text with what a program has printed behind it, if it has."""
    return f"{text}{PRINTED}{at_most(printed)}" if printed.strip() else text


def without_output(text):
    """Return an error's text without what a program has printed."""
    return text.partition(PRINTED)[0]


def at_most(text, most=MOST_LINES):
    """Return the lines that matter, at most `most`: the first traceback, or else the last lines."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    starts = [number for number, line in enumerate(lines) if line.strip().startswith(TRACEBACK)]
    if starts:
        lines = lines[starts[0] :]
        end = next((number for number, line in enumerate(lines[1:], 1) if line and line[0] != " "), len(lines) - 1)
        lines = lines[: end + 1] + lines[end + 1 :][: max(0, most - end - 1)]
        if len(lines) > most:  # who called whom matters less than where it ended
            lines = [lines[0], "  …", *lines[2 - most :]]
    elif len(lines) > most:
        lines = ["…", *lines[1 - most :]]
    return "\n".join(lines)
