"""The classroom's commands: list the exercises, start one, check one, and prove that all of them are sound.

    python tests/exercises/exercise.py list
    python tests/exercises/exercise.py start NAME DIR
    python tests/exercises/exercise.py check NAME DIR
    python tests/exercises/exercise.py gate [NAME ...]
    python tests/exercises/exercise.py museum BUG TEST_FILE

An exercise is a directory beside this file: card.md is what the student reads, check.py holds its tasks, starter/ is
laid over a copy of the part, solution.patch leads from there to a solution.
"""

import argparse
import ast
import concurrent.futures
import contextlib
import importlib.util
import os
import pathlib
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent
MUSEUM = HERE / "museum"

try:
    from support.harness import ARGUMENTS, Command, Proxy, part_command, run_briefly
    from support.parts import PARTS, ROOT
    from support.patches import apply_patch, need_git
except ImportError as missing:
    sys.exit(f"{missing.name} is missing. Install what the tests need: pip install -r requirements.txt")

KINDS = ["predict", "break", "fix", "extend"]
FIELDS = ["Objective", "Kind", "File", "Task", "You will see", "Check", "Size", "Teaches", "Often wrong"]
LETTERS = "abcdefgh"  # a task's name
ATTACK_PATIENCE = 20  # seconds that a student's client may run
SUITE_PATIENCE = 120  # seconds that a selection of the shared suite may run
INTERRUPTED = 130  # the exit status of a program that Ctrl-C has ended: 128, and the signal's number
SKIPPED = "skipped: "  # how the reason begins when a test was not run to its end
COMMAND = "python tests/exercises/exercise.py"
MADE_FOR = ".exercise"  # a file in a student's directory, with the exercise's name
LEFT_OUT = shutil.ignore_patterns("__pycache__", "README.md")  # of a part, when a student's copy is made


class Exercise:
    """One directory with a card, a check, perhaps a starter, and a solution."""

    def __init__(self, name):
        """Read the card; a name that there is not is a LookupError."""
        self.name = name
        self.directory = HERE / name
        if name not in names():
            raise LookupError(f"There is no exercise {name}. See: {COMMAND} list")
        self.part = int(name[4])
        self.card = (self.directory / "card.md").read_text()
        self.title = self.card.partition("\n")[0].removeprefix("# ")
        self.kind = self.field("Kind").strip(".").lower()

    def field(self, name):
        """Return a field of the card, or "" when the card has none of this name."""
        end = r"(?=^\*\*[A-Z][a-z ]+\.\*\*|^<details>|\Z)"
        found = re.search(rf"^\*\*{name}\.\*\*(.*?){end}", self.card, re.MULTILINE | re.DOTALL)
        return found[1].strip() if found else ""

    def one_line(self, name):
        """Return a field of the card as one line."""
        return " ".join(self.field(name).split())

    @property
    def size(self):
        """The number of lines that the card says a solution takes, or 0."""
        found = re.search(r"roughly (\d+) lines?", self.field("Size"))
        return int(found[1]) if found else 0

    def tasks(self):
        """Return the list of functions that check.py holds, one a task."""
        spec = importlib.util.spec_from_file_location(f"check_{self.name}", self.directory / "check.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.TASKS

    def start(self, directory):
        """Make a student's directory: a copy of the part, and the starter over it."""
        shutil.copytree(ROOT / PARTS[self.part], directory, ignore=LEFT_OUT, dirs_exist_ok=True)
        if (self.directory / "starter").exists():
            shutil.copytree(self.directory / "starter", directory, ignore=LEFT_OUT, dirs_exist_ok=True)
        pathlib.Path(directory, MADE_FOR).write_text(f"{self.name}\n")


def names():
    """Return the exercises' names in the order in which a class meets them: by part, then by kind."""

    def place(name):
        """Return what to sort by."""
        kind = re.search(r"^\*\*Kind\.\*\* (\w+)", (HERE / name / "card.md").read_text(), re.MULTILINE)
        return name[4], KINDS.index(kind[1]) if kind and kind[1] in KINDS else len(KINDS), name

    return sorted((path.parent.name for path in HERE.glob("part[1-4]_*/card.md")), key=place)


class Work:
    """What a student has made, as a task sees it: run it, talk to it, and say what was sent and what came back."""

    def __init__(self, directory, part):
        """Take a student's directory; nothing is started yet."""
        self.directory = pathlib.Path(directory).resolve()
        self.part = part  # the number of the part that it is a copy of
        self.notes = {}  # what has been said with sent() and came_back()
        self.running = []  # proxies and attacks, ended after the task

    def sent(self, text):
        """Note, for the student, what is sent."""
        self.notes["sent"] = text

    def came_back(self, text):
        """Note, for the student, what came back."""
        self.notes["came back"] = text

    def command(self):
        """Return the harness.Command that starts the student's rsp.py."""
        arguments = ARGUMENTS if self.part < 3 else ["{config}"]
        return Command([sys.executable, str(self.directory / "rsp.py"), *arguments])

    def start(self, backend, **options):
        """Return the student's proxy, started as a harness.Proxy in front of a backend or a port."""
        return self.start_command(self.command(), backend, **options)

    def start_part(self, part, backend, **options):
        """Return one of the course's own parts, started in the same way."""
        return self.start_command(part_command(part), backend, **options)

    def start_command(self, command, backend, **options):
        """Return a harness.Proxy that is ended after the task."""
        port = backend if isinstance(backend, int) else backend.port
        try:
            self.running.append(Proxy(command, port, **options))
        except AssertionError as error:
            raise AssertionError(f"{error} Hint: start it yourself, and read the last line that it prints") from None
        return self.running[-1]

    def answers(self):
        """Return what answers.py assigns, as a dict; it is read, not run."""
        path = self.directory / "answers.py"
        assert path.exists(), f"there is no {path.name}. Hint: write your answers there, a = … for task (a)"
        try:
            lines = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
            return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}
        except (SyntaxError, ValueError, AttributeError):
            raise AssertionError(
                'answers.py can\'t be read. Hint: one line for each answer, a number or a "text": a = 42'
            ) from None

    def answer(self, name):
        """Return one answer; raise AssertionError while it is still None."""
        value = self.answers().get(name)
        assert value is not None, f"no answer yet. Hint: think, then write {name} = … into answers.py, then check again"
        return value

    def compare(self, answer, really, hint):
        """Raise AssertionError, with a hint, when an answer is not what really happened."""
        assert answer == really, f"you said {answer!r}. Hint: {hint}"

    def run_on_config(self, text):
        """Run the student's rsp.py to its end, on a config of which it has to complain; return the finished process."""
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as config:
            config.write(text)
            config.flush()
            run = run_briefly([*self.command().program, config.name])
        self.came_back(run.stderr)
        return run

    def start_attack(self, port, *arguments):
        """Return the student's attack.py, started with a port, as an Attack; it is ended after the task."""
        self.running.append(Attack(self.directory / "attack.py", port, *arguments))
        return self.running[-1]

    def run_attack(self, port, *arguments):
        """Run the student's attack.py with a port to its end; return what it printed."""
        return self.start_attack(port, *arguments).wait()

    def run_test(self, test, *arguments, command=None):
        """Run one test of the shared suite that asks for start_proxy, and perhaps for more arguments, in this process.

        Faster than run_suite. Raises AssertionError with the test's docstring as a hint where it has none of its own.
        """

        def start_proxy(backend, **options):
            """Start what the test asks for."""
            return self.start_command(command or self.command(), backend, **options)

        self.notes.setdefault("sent", f'the test "{sentence(test.__name__)}": {test.__doc__}')
        try:
            test(start_proxy, *arguments)
        except AssertionError as error:
            fact = str(error) or "it was not so"
            raise AssertionError(fact if "Hint: " in fact else f"{fact}. Hint: {test.__doc__}") from None
        self.came_back(f"as it should be: {sentence(test.__name__)}")

    def run_suite(self, selection, command=None):
        """Run the tests of the shared suite that `pytest -k selection` chooses; raise AssertionError when one fails."""
        self.notes.setdefault("sent", f'what the shared suite sends: pytest tests --proxy … -k "{selection}"')
        tests = outcomes(command or self.command(), "-x", "-k", selection, TESTS / "suite" / "test_behaviours.py")
        assert tests, f"-k {selection!r} chooses no test"
        for name, what in tests:
            if what is not None:
                reason = what.removeprefix("AssertionError: ").partition("\nassert ")[0]
                raise AssertionError(f'not so: "{sentence(name)}". {reason}')
        self.came_back(f"{len(tests)} tests passed: {sentence(tests[0][0])}{', …' if tests[1:] else ''}")

    def end(self):
        """End what is still running, and forget the notes."""
        while self.running:
            self.running.pop().stop()
        self.notes = {}


class Attack:
    """A run of a student's attack.py."""

    def __init__(self, path, *arguments):
        """Start it."""
        assert path.exists(), f"there is no {path.name}. Hint: it takes the proxy's port as its only argument"
        words = [sys.executable, str(path), *map(str, arguments)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,  # so that stop() ends whatever it has started
        )  # fmt: skip

    def is_alive(self):
        """Tell whether it is still running."""
        return self.process.poll() is None

    def wait(self):
        """Wait until it ends, and return what it printed; raise AssertionError when it fails or takes too long."""
        try:
            output, _ = self.process.communicate(timeout=ATTACK_PATIENCE)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(
                f"attack.py still runs after {ATTACK_PATIENCE} s. Hint: a time limit on every socket, settimeout(3)"
            ) from None
        assert self.process.returncode == 0, f"attack.py failed, saying: {output.strip()}"
        return output

    def stop(self):
        """End it, whatever state it is in."""
        if self.is_alive():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


def run_pytest(words):
    """Run pytest with these words, and return what it printed."""
    # Plugins that happen to be installed are of no use here, and looking for them takes a second.
    path = os.pathsep.join(map(str, (TESTS, TESTS / "suite")))  # -p conftest looks there, before pytest reads its file
    environment = os.environ | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = [sys.executable, "-m", "pytest", "-p", "pytest_timeout", "-q", *map(str, words)]
    try:
        run = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=SUITE_PATIENCE)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"pytest still runs after {SUITE_PATIENCE} s. Hint: which call waits for ever?") from None
    return run.stdout + run.stderr


def outcomes(command, *words):
    """Run pytest with these words on a proxy; return a list of each test's name, and None or why it has not passed.

    A skipped test has not passed. The parameters of a test stand in brackets after its name.
    """
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        report = pathlib.Path(directory, "report.xml")
        proxy = shlex.join(command.words)
        output = run_pytest(["-c", TESTS / "pytest.ini", "--proxy", proxy, f"--junitxml={report}", *words])
        if not report.exists():
            raise LookupError(f"pytest did not run: {output}")
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    return [(name_of(case), why_not_passed(case)) for case in cases]


def name_of(case):
    """Return the name of a test in pytest's report, without the parameter that says it is run on --proxy."""
    return re.sub(r"\[yours-?", "[", case.get("name")).removesuffix("[]") or "the file"


def why_not_passed(case):
    """Return what pytest's report says of a test that has not passed, or None."""
    for child in case:
        if child.get("message") == "collection failure":  # a mistake in the file, say; the text tells which
            return child.text.strip().splitlines()[-1].removeprefix("E").strip()
        if child.tag in ("failure", "error"):
            return child.get("message")
        if child.tag == "skipped":
            return SKIPPED + child.get("message")
    return None


def sentence(name):
    """Return a test's name as a sentence."""
    return name.partition("[")[0].removeprefix("test_").replace("_", " ")


def run_task(task, work):
    """Run one task; return None when it is done, or what is wrong, and a dict of what was sent and came back."""
    try:
        task(work)
        complaint = None
    except AssertionError as error:
        complaint = str(error) or "an assertion failed"
    except Exception as error:  # an answer of the wrong type, say: no reason for a traceback
        complaint = f"{type(error).__name__}: {error}"
    finally:  # even when it is interrupted
        notes = work.notes
        work.end()
    return complaint, notes


def show(label, text):
    """Print one labelled paragraph below a task."""
    lines = [line for paragraph in str(text).strip().splitlines()[-6:] for line in textwrap.wrap(paragraph, 92)]
    for number, line in enumerate(lines):
        print(f"      {label + ':' if not number else '':<11}{line}")


def show_task(letter, task, complaint, notes):
    """Print how one task went: ok or not yet, what was sent, what came back, a hint."""
    text = " ".join(task.__doc__.split())
    print(f"({letter}) {'ok' if complaint is None else 'not yet'}: {text}")
    if complaint is not None:
        fact, _, hint = complaint.partition("Hint: ")
        notes["came back"] = fact if "came back" not in notes else f"{notes['came back']}\n{fact}"
        notes["hint"] = hint or "read the card's hint"
    for label in ("sent", "came back", "hint"):
        if label in notes:
            show(label, notes[label])


def markdown_table():
    """Return the table of exercises as README.md has it."""
    lines = ["| exercise | kind | lines | teaches | often wrong |", "|---|---|---|---|---|"]
    for exercise in map(Exercise, names()):
        cells = [f"[{exercise.name}]({exercise.name}/card.md)", exercise.kind, str(exercise.size)]
        cells += [exercise.one_line("Teaches"), exercise.one_line("Often wrong")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def list_exercises(markdown):
    """Print every exercise, one a line, and where the museum is."""
    if markdown:
        print(markdown_table())
        return
    print(f"{'part':<5}{'kind':<9}{'exercise':<28}{'lines':>5}  teaches")
    for exercise in map(Exercise, names()):
        columns = f"{exercise.part:<5}{exercise.kind:<9}{exercise.name:<28}{exercise.size:>5}"
        print(f"{columns}  {exercise.one_line('Teaches')}")
    print(f"And when you are through: the bug museum, {os.path.relpath(MUSEUM / 'README.md')}")


def start(name, directory, solved):
    """Make a student's directory for an exercise, with the solution in place if it is to be `solved`."""
    exercise = Exercise(name)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(f"{directory} is there already, and not empty. Name a new directory.")
    if solved:
        need_git()  # before anything is there
    exercise.start(directory)
    if solved:
        put_solution(exercise, directory)
    card = os.path.relpath(exercise.directory / "card.md")
    print(f"{exercise.title}: your copy of part {exercise.part} is in {directory}")
    print(f"Read {card}, then {'see' if solved else 'change'}: {exercise.one_line('File').replace('`', '')}")
    print(f"Next: {command_for('check', name, directory)}")


def command_for(*words):
    """Return a command of this program as it can be pasted, whatever blanks a path has."""
    return f"{COMMAND} {shlex.join(map(str, words))}"


def check(name, directory):
    """Run the tasks of an exercise on a student's directory; return whether all are done."""
    exercise = Exercise(name)
    if not (directory / "rsp.py").exists():
        command = command_for("start", name, directory)
        raise FileNotFoundError(f"{directory} has no rsp.py. Make the directory: {command}")
    made_for = directory / MADE_FOR
    if made_for.exists() and made_for.read_text().strip() != name:
        command = command_for("start", name, f"my_{name.partition('_')[2]}")
        raise LookupError(f"{directory} was made for {made_for.read_text().strip()}. Make another directory: {command}")
    print(f"{exercise.title}\n")
    work = Work(directory, exercise.part)
    open_tasks = []
    for letter, task in zip(LETTERS, exercise.tasks(), strict=False):
        complaint, notes = run_task(task, work)
        show_task(letter, task, complaint, notes)
        if complaint is not None:
            open_tasks.append(letter)
    print("\n" + what_is_next(exercise, directory, open_tasks))
    return not open_tasks


def what_is_next(exercise, directory, open_tasks):
    """Return the last line of a check."""
    if open_tasks:
        return f"Next: task ({open_tasks[0]}), then the same command again."
    later = names()[names().index(exercise.name) + 1 :]
    following = f"Next: {COMMAND} start {later[0]} DIR" if later else "That was the last exercise."
    if exercise.kind in ("fix", "extend"):
        program = shlex.quote(f"{directory}/rsp.py")  # for pytest, which splits it once more than the shell does
        following = f"The report card: pytest tests --proxy {shlex.quote(program)}\n{following}"
    return f"All done. {exercise.one_line('Teaches')}\n{following}"


def missing_from_card(exercise, tasks):
    """Yield what is wrong with a card."""
    if not exercise.card.startswith("# "):
        yield "card.md has no title. Begin it with: # Title"
    for field in FIELDS:
        if not exercise.field(field):
            yield f"card.md has no **{field}.**"
    if exercise.kind not in KINDS:
        yield f"card.md: the kind is {exercise.kind!r}, not one of {', '.join(KINDS)}"
    if not exercise.size:
        yield 'card.md: **Size.** does not say "roughly N lines"'
    if not re.search(r"<details><summary>Hint</summary>.*\S.*</details>", exercise.card, re.DOTALL):
        yield "card.md has no folded hint: <details><summary>Hint</summary>…</details>"
    if "```" not in exercise.field("You will see"):
        yield "card.md: **You will see.** has no fenced block"
    if f"exercise.py check {exercise.name} " not in exercise.field("Check"):
        yield f"card.md: **Check.** is not {COMMAND} check {exercise.name} DIR"
    yield from differing_tasks(exercise, tasks)


def differing_tasks(exercise, tasks):
    """Yield where the tasks of a card, or of its transcript, are not the docstrings of check.py."""
    pieces = re.split(r"^\((\w)\) ", exercise.field("Task"), flags=re.MULTILINE)
    on_card = {letter: " ".join(text.split()) for letter, text in zip(pieces[1::2], pieces[2::2], strict=True)}
    in_check = {letter: " ".join((task.__doc__ or "").split()) for letter, task in zip(LETTERS, tasks, strict=False)}
    if list(on_card) != list(in_check):
        yield f"card.md has the tasks {list(on_card)}, check.py {list(in_check)}"
    for letter in on_card.keys() & in_check.keys():
        if on_card[letter] != in_check[letter]:
            yield f"task ({letter}) reads {on_card[letter]!r} in card.md, and {in_check[letter]!r} in check.py"
    for letter, text in re.findall(r"^\((\w)\) (?:ok|not yet): (.*)$", exercise.field("You will see"), re.MULTILINE):
        if text != in_check.get(letter):
            yield f"card.md: the transcript has task ({letter}) as {text!r}, check.py as {in_check.get(letter)!r}"


def put_solution(exercise, directory):
    """Turn a starter into the solution; a patch that does not apply is a LookupError."""
    if complaint := apply_patch(exercise.directory / "solution.patch", directory):
        raise LookupError(f"solution.patch does not apply: {complaint}. Make it again with: git diff --no-index")


def wrong_with_solution(exercise, directory):
    """Yield what is wrong with a solution: it does not apply, has another size than the card says, or fails."""
    try:
        put_solution(exercise, directory)
    except LookupError as error:
        yield str(error)
        return
    lines = (exercise.directory / "solution.patch").read_text().splitlines()
    added = sum(line.startswith("+") and not line.startswith("+++") and line != "+" for line in lines)
    if not exercise.size / 2 <= added <= exercise.size * 1.5:
        yield f"solution.patch adds {added} lines, and the card says roughly {exercise.size}"
    for name in re.findall(r"`([^`]+)`", exercise.field("File")):
        if not (pathlib.Path(directory) / name).exists():
            yield f"card.md: **File.** names {name}, which is not there"
    work = Work(directory, exercise.part)
    for letter, task in zip(LETTERS, exercise.tasks(), strict=False):
        complaint, _ = run_task(task, work)
        if complaint is not None:  # a busy machine may be late once
            complaint, _ = run_task(task, work)
        if complaint is not None:
            yield f"the solution fails task ({letter}): {complaint}"


def wrong_with(exercise):
    """Yield what is wrong with an exercise: its card, its starter, its solution."""
    tasks = exercise.tasks()
    yield from missing_from_card(exercise, tasks)
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        exercise.start(directory)
        work = Work(directory, exercise.part)
        # The first task that fails is enough, and the rest of them need not be waited for.
        if all(run_task(task, work)[0] is None for task in tasks):
            yield "the starter passes its check: there is nothing to do"
        yield from wrong_with_solution(exercise, directory)


def examine(exercise):
    """Return what is wrong with an exercise, and how many seconds it took to find out."""
    began = time.monotonic()
    return list(wrong_with(exercise)), time.monotonic() - began


def examine_all(exercises):
    """Yield each exercise with what is wrong with it, and the seconds; three at a time, since most of it is waiting."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for exercise, (complaints, seconds) in zip(exercises, pool.map(examine, exercises), strict=True):
            yield exercise, complaints, seconds


def gate(chosen):
    """Check each exercise; return whether all are sound."""
    need_git()
    sound = True
    for exercise, complaints, seconds in examine_all([Exercise(name) for name in chosen or names()]):
        sound = sound and not complaints
        print(f"{'WRONG' if complaints else 'ok':<6}{exercise.name:<28}{seconds:5.1f} s", flush=True)
        for complaint in complaints:
            print(textwrap.indent(complaint, "      "))
    return sound


def put_bug(bug, directory):
    """Make a copy of part 4 with one of the museum's bugs in it; return the Command that starts it."""
    patch = MUSEUM / f"{bug}.patch"
    if not patch.exists():
        bugs = sorted(path.stem for path in MUSEUM.glob("*.patch"))
        raise LookupError(f"There is no bug {bug}. Choose one: {', '.join(bugs)}")
    shutil.copytree(ROOT / PARTS[4], directory, ignore=LEFT_OUT)
    if complaint := apply_patch(patch, directory):
        raise LookupError(f"{patch.name} no longer applies: {complaint}. Refresh it: see museum/README.md, at its end")
    return Command([sys.executable, str(directory / "rsp.py"), "{config}"])


def museum(bug, test_file):
    """Run a student's tests on part 4 and on part 4 with a bug; return whether they tell the two apart."""
    if not test_file.is_file():
        raise FileNotFoundError(f"There is no file {test_file}. Name yours: {COMMAND} museum {bug} my_test.py")
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        buggy = put_bug(bug, pathlib.Path(directory, "buggy"))
        words = ["-p", "conftest", shutil.copy(test_file, pathlib.Path(directory, "test_student.py"))]
        found = {"sound part 4": outcomes(part_command(4), *words), bug: outcomes(buggy, *words)}
    for name, tests in found.items():
        bad = [(test, what) for test, what in tests if what is not None]
        passed = len(tests) - len(bad)
        words = [f"{name}: {passed} test{'s' * (passed != 1)} passed"]
        words += [f"{test} {'was skipped' if is_skip(what) else 'failed'}" for test, what in bad]
        print(", ".join(words))
        for _, what in bad:
            print(textwrap.indent(textwrap.fill(what, 92), "      "))
    sound, buggy = ([what for _, what in tests] for tests in found.values())
    if not sound:
        print('No test ran. Hint: it needs the mark, pytestmark = pytest.mark.behaviour("hard use")')
    elif any(map(is_skip, sound + buggy)):
        print("Not yet: a test was skipped. Hint: one that does not run has noticed nothing; take the skip out")
    elif any(what is not None for what in sound):
        print("Not yet: a test fails on the sound proxy. Hint: what does it wait for, and is it sure to happen?")
    elif all(what is None for what in buggy):
        print("Not yet: the bug is not noticed. Hint: read its story again: what must happen before it shows?")
    elif not any(map(is_assertion, buggy)):
        print("Not yet: the test itself breaks down. Hint: expect what may go wrong, and say it with assert")
    else:
        print("Your test tells them apart.")
        return True
    return False


def is_assertion(what):
    """Tell whether a test has failed by an assertion, and not by some other exception."""
    return what is not None and what.startswith(("AssertionError", "assert "))


def is_skip(what):
    """Tell whether a test has not failed, but was skipped, or was expected to fail."""
    return what is not None and what.startswith(SKIPPED)


def end_all(mark):
    """End every program that has inherited a mark, whoever started it and in whichever session."""
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
            if mark.encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def main():
    """Do what the command line says; a mistake there is one line, and exit status 1."""
    parser = argparse.ArgumentParser(prog="exercise.py", description="The exercises of the course.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | start | check | gate | museum")
    command = commands.add_parser("list", help="every exercise: part, kind, length, what it teaches")
    command.add_argument("--markdown", action="store_true", help="as the table in the teacher's page")
    for word, text in [("start", "make a directory to work in"), ("check", "check the work in a directory")]:
        command = commands.add_parser(word, help=text)
        command.add_argument("name", metavar="NAME")
        command.add_argument("directory", metavar="DIR", type=pathlib.Path)
    commands.choices["start"].add_argument("--solved", action="store_true", help="with the solution in place")
    command = commands.add_parser("gate", help="starters fail, solutions pass, cards are complete")
    command.add_argument("names", metavar="NAME", nargs="*")
    command = commands.add_parser("museum", help="does a test of yours notice one of the bugs in museum/?")
    command.add_argument("bug", metavar="BUG")
    command.add_argument("test_file", metavar="TEST_FILE", type=pathlib.Path)
    arguments = parser.parse_args()
    threading.excepthook = lambda _: None  # a test's clients, when they get no answer; the task says so itself
    os.environ["RSP_STARTED_BY"] = mark = secrets.token_hex(8)  # what is started inherits it, and who that starts
    try:
        if arguments.command == "list":
            list_exercises(arguments.markdown)
        elif arguments.command == "start":
            start(arguments.name, arguments.directory, arguments.solved)
        elif arguments.command == "check":
            sys.exit(not check(arguments.name, arguments.directory))
        elif arguments.command == "museum":
            sys.exit(not museum(arguments.bug, arguments.test_file))
        else:
            sys.exit(not gate(arguments.names))
    except (LookupError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("Interrupted; what was started has been ended.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:  # Ctrl-C may come when a proxy runs, and nobody has noted it yet; and a pytest may have been ended
        end_all(mark)


if __name__ == "__main__":
    main()
