"""What a program has printed, cut down to what gets read: its traceback first, and never more than some ten lines."""

import itertools
import re

TRACEBACK = "Traceback (most recent call last):"
MISTAKE = "A mistake in this program"  # what parts 4 and later log instead, and go on
ERROR = re.compile(r"[A-Za-z_][\w.]*(:|$)")  # how a traceback's last line begins: "ValueError: …", "KeyboardInterrupt"
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")  # another one follows
MOST_LINES = 10
PRINTED = "\nIt printed:\n"  # in an error's text, between what is wrong and what the program said


def with_output(text, printed):
    """Return an error's text with what a program has printed after it, if it has."""
    return f"{text}{PRINTED}{at_most(printed)}" if printed.strip() else text


def shows_a_mistake(printed):
    """Return True if a program has printed a traceback, or has logged an exception that it outlived."""
    return TRACEBACK in printed or MISTAKE in printed


def without_output(text):
    """Return an error's text without what a program has printed."""
    return text.partition(PRINTED)[0]


def without_start_line(text):
    """Return what a program has printed without the line that says it is ready."""
    return re.sub(r"^Started\..*$", "", text, flags=re.MULTILINE)


def at_most(text, most=MOST_LINES):
    """Return the lines that matter, at most `most`: the first traceback up to its error, or the last lines."""
    lines = repeated_once(line.rstrip() for line in text.strip().splitlines())
    starts = [number for number, line in enumerate(lines) if line.strip().startswith(TRACEBACK)]
    if starts:
        lines = first_traceback(lines[starts[0] :])
        if len(lines) > most:  # the calls matter less than where they ended
            lines = [lines[0], "  …", *lines[2 - most :]]
    elif len(lines) > most:
        lines = ["…", *lines[1 - most :]]
    return "\n".join(lines)


def repeated_once(lines):
    """Return lines with one in place of the ones that come again and again, and how often it came."""
    groups = [(line, len(list(group))) for line, group in itertools.groupby(lines)]
    return [f"{line} ({count} times)" if line and count > 1 else line for line, count in groups]


def first_traceback(lines):
    """Return lines that begin with a traceback up to its error, without what other threads have printed in between.

    Of a chain of exceptions, the last one's: that is the one that was not caught.
    """
    found = lines[:1]
    for number, line in enumerate(lines[1:], 1):
        if line.startswith(" "):
            found.append(line)
        elif ERROR.match(line):
            _, chained, _, *following = lines[number + 1 :] + [""] * 3
            return first_traceback(following) if chained.startswith(CHAINED) else [*found, line]
    return found
