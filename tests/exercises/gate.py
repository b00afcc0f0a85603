"""The gate: is an exercise sound? Its starter fails, its solution passes, its texts are complete and no giveaway."""

import ast
import concurrent.futures
import pathlib
import re
import tempfile
import textwrap
import time

from cards import AFTER_SUCCESS, BUNDLE_MARK, COMMAND, KINDS, Exercise, names, task_text
from solutions import put_solution
from support.patches import need_git
from work import Work

FIELDS = ["Objective", "Kind", "File", "Task", "You will see", "Check", "Size"]
FIELDS_FOR_TEACHERS = [*AFTER_SUCCESS, "Ask", "Listen for"]
AT_A_TIME = 3  # exercises: most of it is waiting


def wrong_with_card(exercise, tasks):
    """Yield what is wrong with what an exercise says."""
    if not exercise.card.startswith("# "):
        yield "card.md has no title. Begin it with: # Title"
    for field in FIELDS:
        if f"**{field}.**" not in exercise.card or not exercise.field(field):
            yield f"card.md has no **{field}.**"
    for field in AFTER_SUCCESS if BUNDLE_MARK.exists() else FIELDS_FOR_TEACHERS:
        if f"**{field}.**" in exercise.card:
            yield f"card.md has **{field}.**, which gives something away. Move it to teacher.md"
        if not exercise.field(field):
            yield f"teacher.md has no **{field}.**"
        elif exercise.one_line(field) in " ".join(exercise.card.split()):
            yield f"card.md has what teacher.md says under **{field}.** Leave it out: it comes after success"
    if exercise.kind not in KINDS:
        yield f"card.md: the kind is {exercise.kind!r}, not one of {', '.join(KINDS)}"
    if not exercise.size or not exercise.minutes:
        yield 'card.md: **Size.** does not say "roughly N lines, M minutes"'
    if "```" not in exercise.field("You will see"):
        yield "card.md: **You will see.** has no fenced block"
    if f"exercise.py check {exercise.name} " not in exercise.field("Check"):
        yield f"card.md: **Check.** is not {COMMAND} check {exercise.name} DIR"
    if "<details>" in exercise.card:
        yield "card.md has a folded hint, which a terminal shows unfolded. Move it to hints.md"
    yield from wrong_with_transcript(exercise)
    yield from differing_tasks(exercise, tasks)
    yield from wrong_with_hints(exercise, tasks)


def wrong_with_transcript(exercise):
    """Yield where a predict card shows a wrong answer otherwise than a check does."""
    shown = exercise.field("You will see")
    if exercise.kind == "predict" and re.search(r"^\(\w\) not yet", shown, re.MULTILINE):
        if "you said: " not in shown or "came back: something else." not in shown:
            yield "card.md: after a wrong answer a check prints `you said: …` and `came back: something else.`"


def wrong_with_hints(exercise, tasks):
    """Yield where hints are missing, or are the answer."""
    if len(exercise.hints()) != 2:
        yield f"hints.md has {len(exercise.hints())} hints for the exercise, not two: a first one, and a better one"
    if missing := tasks.keys() - exercise.task_hints().keys():
        yield f"hints.md has no hint for task ({'), ('.join(sorted(missing))})"
    transcript = exercise.field("You will see")
    shown = re.sub(r"^(\(\w\)| *sent:).*$", "", transcript, flags=re.MULTILINE)  # without what repeats the task
    texts = {"card.md": f"{exercise.field('Objective')}\n{shown}", "hints.md": exercise.text("hints.md")}
    for name, answer in answers_of(exercise).items():
        for file, text in texts.items():
            if gives_away(answer, text):
                yield f"{file} has the answer to ({name}) in it: {answer}"


def answers_of(exercise):
    """Return the answers that a solution of a predict exercise gives; none for the other kinds, or without one."""
    lines = re.findall(r"^\+(\w+) = (.*)$", exercise.text("solution.patch"), re.MULTILINE)
    return {name: ast.literal_eval(value) for name, value in lines} if exercise.kind == "predict" else {}


def gives_away(answer, text):
    """Return True if a text contains an answer. Yes, no and single digits may be anywhere, for other reasons."""
    answer = str(answer)
    plain = text.replace("*", "").replace(",", "")
    return len(answer) > 1 and answer not in ("yes", "no") and bool(re.search(rf"\b{re.escape(answer)}\b", plain))


def differing_tasks(exercise, tasks):
    """Yield where the tasks of a card, or of its transcript, are not the docstrings of check.py."""
    pieces = re.split(r"^\((\w)\) ", exercise.field("Task"), flags=re.MULTILINE)
    on_card = {letter: " ".join(text.split()) for letter, text in zip(pieces[1::2], pieces[2::2], strict=True)}
    in_check = {letter: task_text(task) for letter, task in tasks.items()}
    if list(on_card) != list(in_check):
        yield f"card.md has the tasks {list(on_card)}, check.py {list(in_check)}"
    for letter in on_card.keys() & in_check.keys():
        if on_card[letter] != in_check[letter]:
            yield f"task ({letter}) reads {on_card[letter]!r} in card.md, and {in_check[letter]!r} in check.py"
    for letter, text in re.findall(r"^\((\w)\) (?:ok|not yet): (.*)$", exercise.field("You will see"), re.MULTILINE):
        if text != in_check.get(letter):
            yield f"card.md: the transcript has task ({letter}) as {text!r}, check.py as {in_check.get(letter)!r}"


def wrong_with_solution(exercise, tasks, directory):
    """Yield what is wrong with a solution: it does not apply, has another size than the card says, or fails."""
    try:
        put_solution(exercise, directory)
    except LookupError as error:
        yield str(error)
        return
    lines = exercise.text("solution.patch").splitlines()
    added = sum(line.startswith("+") and not line.startswith("+++") and line != "+" for line in lines)
    if not exercise.size / 2 <= added <= exercise.size * 1.5:
        yield f"solution.patch adds {added} lines, and the card says roughly {exercise.size}"
    for name in re.findall(r"`([^`]+)`", exercise.field("File")):
        if not (pathlib.Path(directory) / name).exists():
            yield f"card.md: **File.** names {name}, which is not there"
    work = Work(directory, exercise.part)
    for letter, task in tasks.items():
        complaint, _ = work.run_task(task)
        if complaint is not None:  # a busy machine may be late once
            complaint, _ = work.run_task(task)
        if complaint is not None:
            yield f"the solution fails task ({letter}): {complaint}"


def wrong_with(exercise):
    """Yield what is wrong with an exercise: what it says, its starter, its solution unless this copy has none."""
    tasks = exercise.tasks()
    yield from wrong_with_card(exercise, tasks)
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        exercise.copy_to(directory)
        work = Work(directory, exercise.part)
        # The first task that fails is enough, and the rest of them need not be waited for.
        if all(work.run_task(task)[0] is None for task in tasks.values()):
            yield "the starter passes its check: there is nothing to do"
        if not BUNDLE_MARK.exists():
            yield from wrong_with_solution(exercise, tasks, directory)


def examine(exercise):
    """Return what is wrong with an exercise, and how many seconds it took to find out."""
    began = time.monotonic()
    return list(wrong_with(exercise)), time.monotonic() - began


def gate(chosen):
    """Examine exercises, the chosen ones or all, and print what is wrong with each; return whether all are sound."""
    exercises = [Exercise(name) for name in chosen or names()]
    if not BUNDLE_MARK.exists():
        need_git()
    sound = True
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        for exercise, (complaints, seconds) in zip(exercises, pool.map(examine, exercises), strict=True):
            sound = sound and not complaints
            print(f"{'WRONG' if complaints else 'ok':<6}{exercise.name:<28}{seconds:5.1f} s", flush=True)
            for complaint in complaints:
                print(textwrap.indent(complaint, "      "))
    return sound
