"""What a student does: see the list, start an exercise, check it, ask for a hint, look the peers up."""

import os
import re
import shlex
import textwrap

from bugs import MUSEUM, Bug, bug_names
from cards import COMMAND, Exercise, command_for, names, task_text
from records import Record
from solutions import need_solutions, put_solution

WIDTH = 92  # characters of a paragraph below a task
AS_ABOVE = "as above"
LABELS = [
    "sent",
    "you said",
    "came back",
    "why",
    "busy",
    "printed",
    "hint",
    "more",
]  # of those paragraphs, in their order


def list_exercises():
    """Print every exercise, one a line, and where the museum is."""
    print(f"{'part':<5}{'kind':<9}{'exercise':<22}{'lines':>5}{'minutes':>8}  objective")
    for exercise in map(Exercise, names()):
        columns = f"{exercise.part:<5}{exercise.kind:<9}{exercise.name:<22}{exercise.size:>5}{exercise.minutes:>8}"
        print(f"{columns}  {exercise.one_line('Objective')}")
    print(f"When you have done these: the bug museum, {os.path.relpath(MUSEUM / 'README.md')}")


def start(name, directory, solved):
    """Make a student's directory for an exercise, with the solution in place if it is to be `solved`."""
    exercise = Exercise(name)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(f"{directory} exists already and is not empty. Name a new directory.")
    if solved:
        need_solutions()  # before anything is there
    exercise.copy_to(directory)
    if solved:
        put_solution(exercise, directory)
    Record(directory).begin(name)
    card = os.path.relpath(exercise.directory / "card.md")
    print(f"{exercise.title}: your copy of part {exercise.part} is in {directory}")
    print(f"Read {card}, then {'see' if solved else 'change'}: {exercise.one_line('File').replace('`', '')}")
    print(f"Stuck? {command_for('hint', name)}")
    print(f"Next: {command_for('check', name, directory)}")


def check(name, directory, recorded=True):
    """Run the tasks of an exercise on a student's directory; return whether all are done.

    What was answered and what failed is kept in the directory, unless `recorded` is false.
    """
    from work import Work  # needs packages, which list, start and hint do without

    exercise = Exercise(name)
    if not (directory / "rsp.py").exists():
        command = command_for("start", name, directory)
        raise FileNotFoundError(f"{directory} has no rsp.py. Make the directory: {command}")
    record = Record(directory)
    if record.exercise not in (None, name):
        command = command_for("start", name, f"my_{name.partition('_')[2]}")
        raise LookupError(f"{directory} was made for {record.exercise}. Make another directory: {command}")
    record.exercise = name
    print(f"{exercise.title}\n")
    work = Work(directory, exercise.part)
    open_tasks, seen = [], set()
    for letter, task in exercise.tasks().items():
        complaint, notes = work.run_task(task)
        keep(record, exercise, letter, complaint, notes)
        if complaint is not None:
            open_tasks.append(letter)
            is_try = exercise.kind != "predict" or "answer" in notes
            if is_try and record.wrong_tries(letter) > 1:
                notes["more"] = exercise.task_hints().get(letter, "")
            complaint = say_once(complaint, notes, seen)
        show_task(letter, task, complaint, notes)
        if recorded:
            record.write()
    print("\n" + what_is_next(exercise, directory, open_tasks, record))
    return not open_tasks


def keep(record, exercise, letter, complaint, notes):
    """Put into the record what was answered, or that the work as it is has failed a task."""
    if exercise.kind != "predict":
        if complaint is not None:
            record.note_failure(letter)
    elif "answer" in notes:
        record.note_answer(letter, notes["answer"])


def say_once(complaint, notes, seen):
    """Return a complaint, short when it was heard before and nothing was sent; shorten also what a program printed."""
    if "printed" in notes:
        last_line = notes["printed"].splitlines()[-1]
        if last_line in seen:
            notes["printed"] = f"{last_line} (as above)"
        seen.add(last_line)
    elif "sent" not in notes:  # a slip in answers.py
        if complaint in seen:
            return AS_ABOVE
        seen.add(complaint)
    return complaint


def show_task(letter, task, complaint, notes):
    """Print how one task went: ok or not yet, what was sent, what came back, a hint."""
    from work import NOTHING

    print(f"({letter}) {'ok' if complaint is None else 'not yet'}: {task_text(task)}")
    if complaint is not None:
        fact, _, hint = complaint.partition("Hint: ")
        fact = re.sub(r"(?<!\.)\.?\s*\.$", ".", fact.rstrip())  # a newline, or another full stop, may come before it
        label = "came back" if "sent" in notes or "came back" in notes else "why"
        notes[label] = fact if label not in notes else f"{notes[label]}\n{fact}"
        notes["hint"] = hint or ("" if complaint == AS_ABOVE else "read the card again")
        if "busy" in notes:
            notes["hint"], notes["more"] = (
                "which of its loops waits for nothing, or for an event that comes again and again?",
                "",
            )
        if "printed" in notes:
            read, look = "it crashed: read the last line that it printed", "which of its lines ends it?"
            notes["hint"], notes["more"] = look if notes["printed"].startswith(NOTHING) else read, ""
    for label in LABELS:
        if notes.get(label):
            show(label, notes[label])


def show(label, text):
    """Print one labelled paragraph below a task; what a program printed keeps its lines."""
    lines = str(text).strip().splitlines()
    if label != "printed":
        lines = [line for paragraph in lines[-6:] for line in textwrap.wrap(paragraph, WIDTH)]
    for number, line in enumerate(lines):
        print(f"      {label + ':' if not number else '':<11}{line}".rstrip(), flush=True)


def what_is_next(exercise, directory, open_tasks, record):
    """Return the last lines of a check."""
    if open_tasks:
        return f"Next: task ({open_tasks[0]}), then the same command again. Stuck? {command_for('hint', exercise.name)}"
    lines = [f"All done. {exercise.one_line('Teaches')}", f"Often wrong: {exercise.one_line('Often wrong')}"]
    if record.answers:
        lines.append(f"What you said first: {first_answers(record)}")
    if exercise.kind in ("fix", "extend"):
        lines.append(f"The report card: pytest tests --proxy {shlex.quote(f'{directory}/rsp.py')}")
    later = names()[names().index(exercise.name) + 1 :]
    lines.append(f"Next: {COMMAND} start {later[0]} DIR" if later else f"Next: {COMMAND} museum")
    return "\n".join(lines)


def first_answers(record):
    """Return the first answers of a record in one line."""
    return ", ".join(f"({letter}) {given[0]}" for letter, given in record.answers.items())


def hint(name, more):
    """Print the first hint for an exercise or a bug of the museum, or the better one."""
    hints = (Bug(name) if name in bug_names() else Exercise(name)).hints()
    print(textwrap.fill(hints[1 if more else 0], WIDTH))
    if not more:
        print(f"A better one: {command_for('hint', name, '--more')}")


def show_peers():
    """Print what there is to write tests with."""
    import support.peers

    print(support.peers.__doc__)
