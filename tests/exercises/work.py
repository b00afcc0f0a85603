"""What a student has made, as a task sees it: run it, talk to it, and say what was sent and what came back."""

import ast
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from pytest_runs import SUITE, outcomes, sentence
from records import number_in, same_answer
from support.harness import ARGUMENTS, START_PATIENCE, Command, Proxy, is_listening, part_command, run_briefly
from support.output import at_most, shows_a_mistake, without_output, without_start_line
from support.packages import packages_needed
from support.peers import wait_until

with packages_needed():
    import psutil

ATTACK_PATIENCE = 20  # seconds that a student's client may run
MOST_CPU = 4  # seconds of processor time, of a program that should wait: more is an endless loop
LOOK = 0.5  # seconds for which we look whether a proxy is busy
LOOKS = 20  # in that time
NOTHING = "nothing"  # what a program has printed that has not printed anything
TRIES = 2  # of a task that found something too slow: the machine may have been busy
TRIES_WHEN_BUSY = 5  # of a task that could not judge, since the machine was too busy
BUSY = 0.9  # the share of these looks at which an endless loop is running, or waits for a processor


class Work:
    """One student's directory."""

    def __init__(self, directory, part):
        """Start nothing yet."""
        self.directory = pathlib.Path(directory).resolve()
        self.part = part  # the number of the part that it is a copy of
        self.notes = {}  # what has been said with sent() and came_back()
        self.running = []  # proxies and attacks, ended after the task
        self.hopeless = {}  # a program's name -> that it is in an endless loop; each further task need not wait for it

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

    def start_command(self, command, backend, wait=True, **options):
        """Return a harness.Proxy that is ended after the task."""
        assert "rsp.py" not in self.hopeless, self.hopeless.get("rsp.py")
        port = backend if isinstance(backend, int) else backend.port
        proxy = Proxy(command, port, wait=False, **options)
        self.running.append(proxy)
        if wait:
            self.wait_until_listening(proxy)
        return proxy

    def wait_until_listening(self, proxy):
        """Wait for a proxy to be ready; raise AssertionError when it ends, hangs, or is in an endless loop instead."""

        def is_over():
            return is_listening(proxy.port) or not proxy.is_alive() or cpu_seconds(proxy) > MOST_CPU

        with contextlib.suppress(AssertionError):  # it hangs, which is said below
            wait_until(is_over, "it listens", START_PATIENCE)
        status = proxy.process.poll()
        assert status is None, f"rsp.py ended at once, with exit status {status}. Hint: start it yourself"
        if not is_listening(proxy.port):
            if cpu_seconds(proxy) > MOST_CPU or never_sleeps(proxy):
                self.give_up("rsp.py", f"{endless(proxy)}, and no open port. Hint: which loop comes before listen?")
            raise AssertionError(f"after {START_PATIENCE} s rsp.py does not listen yet. Hint: what does it wait for?")

    def answers(self):
        """Return what answers.py assigns, as a dict of names and values; it is read, not run.

        Raises AssertionError, with the line, for what is not `name = value`.
        """
        path = self.directory / "answers.py"
        assert path.exists(), f"there is no {path.name}. Hint: write your answers there, a = … for task (a)"
        answers = {}
        try:
            nodes = ast.parse(path.read_bytes()).body
        except (SyntaxError, ValueError) as error:
            raise AssertionError(f'answers.py, {place_of(error)}\nHint: a = 42 or a = "text"') from None
        for node in nodes:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # the docstring
            with contextlib.suppress(ValueError, AttributeError, TypeError):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                value = ast.literal_eval(node.value)
                if not isinstance(value, tuple):  # which is what Python makes of 5,000
                    answers[target.id.lower()] = value
                    continue
            line = path.read_text().splitlines()[node.lineno - 1].strip()
            raise AssertionError(f'answers.py, line {node.lineno}: {line}\nHint: a = 5000 or a = "text"')
        return answers

    def answer(self, name):
        """Return one answer; raise AssertionError while it is still None."""
        value = self.answers().get(name)
        assert value is not None, f"no answer yet. Hint: think, then write {name} = … into answers.py, then check again"
        self.notes["answer"] = value
        return value

    def compare(self, answer, really, hint, within=0):
        """Raise AssertionError, with a hint, when an answer is not what really happened.

        A number may be wrong by `within`. What came back would be the solution, so a wrong answer takes that back.
        """
        number = number_in(answer)
        near = within and number is not None and abs(number - really) <= within
        if not near and not same_answer(answer, really):
            self.notes.pop("came back", None)
            self.notes["you said"] = answer
            raise AssertionError(f"something else. Hint: {hint}")

    def run_on_config(self, text):
        """Run the student's rsp.py to its end, on a config that it has to refuse; return the finished process."""
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as config:
            config.write(text)
            config.flush()
            return self.run_to_its_end([*self.command().program, config.name])

    def run_to_its_end(self, words, **options):
        """Run a program that has to exit on its own, and return the finished process; what it prints has come back."""
        run = run_briefly(words, **options)
        self.came_back(at_most(run.stderr) or "nothing on stderr")
        return run

    def give_up(self, name, complaint):
        """Raise AssertionError for a program that never comes to an end, or to its point; now, and in further tasks."""
        self.hopeless[name] = complaint
        raise AssertionError(complaint)

    def start_attack(self, port, *arguments):
        """Return the student's attack.py, started with a port, as an Attack; it is ended after the task."""
        assert "attack.py" not in self.hopeless, self.hopeless.get("attack.py")
        self.running.append(Attack(self.directory / "attack.py", port, *arguments))
        return self.running[-1]

    def run_attack(self, port, *arguments):
        """Run the student's attack.py with a port to its end; return what it printed."""
        attack = self.start_attack(port, *arguments)
        try:
            return attack.wait()
        except EndlessLoop as error:
            self.give_up("attack.py", str(error))

    def run_test(self, test, *arguments, command=None):
        """Run one test of the shared suite that asks for start_proxy, and perhaps for more arguments, in this process.

        Faster than run_suite. Raises AssertionError with the test's docstring as a hint where it has no hint.
        """

        def start_proxy(backend, **options):
            """Start what the test asks for."""
            return self.start_command(command or self.command(), backend, **options)

        self.notes.setdefault("sent", f'the test "{sentence(test.__name__)}": {test.__doc__}')
        try:
            test(start_proxy, *arguments)
        except AssertionError as error:
            fact = fact_of(error)
            raise AssertionError(fact if "Hint: " in fact else f"{fact.rstrip('.')}. Hint: {test.__doc__}") from None
        self.came_back(f"as it should be: {sentence(test.__name__)}")

    def run_suite(self, selection, command=None):
        """Run the tests of the shared suite that `pytest -k selection` chooses; raise AssertionError when one fails."""
        self.notes.setdefault("sent", f'what the shared suite sends: pytest tests --proxy … -k "{selection}"')
        tests = outcomes(command or self.command(), "-x", "-k", selection, SUITE / "test_behaviours.py")
        assert tests, f"-k {selection!r} chooses no test"
        for test in tests:
            if not test.passed:
                reason = test.why.removeprefix("AssertionError: ").partition("\nassert ")[0]
                if shows_a_mistake(test.printed):
                    self.notes["printed"] = test.printed
                raise AssertionError(f'not so: "{sentence(test.name)}". {reason}')
        self.came_back(f"{len(tests)} tests passed: {sentence(tests[0].name)}{', …' if tests[1:] else ''}")

    def run_task(self, task):
        """Run one task; return None when it is done, or what is wrong, and a dict of what was sent and came back."""
        tries = 1
        complaint, notes, most_tries = self.try_task(task)
        while tries < most_tries:
            tries += 1
            complaint, notes, most_tries = self.try_task(task)
        return complaint, notes

    def try_task(self, task):
        """Run one task once; return what run_task does, and how often it may be tried."""
        complaint, most_tries = None, 1
        try:
            task(self)
        except AssertionError as error:
            complaint, most_tries = fact_of(error), getattr(error, "tries", 1)
        except Exception as error:  # an answer of the wrong type, say: no reason for a traceback
            complaint = f"{type(error).__name__}: {error}"
        finally:  # even when it is interrupted
            if complaint is not None:
                self.note_trouble(complaint)
            notes, self.notes = self.notes, {}
            while self.running:
                self.running.pop().stop()
        return complaint, notes, most_tries

    def note_trouble(self, complaint):
        """Note what a program printed that has ended or raised something, or else that one is in an endless loop."""
        for program in self.running:
            printed, status = without_start_line(program.printed()), program.process.poll()
            has_ended = status is not None and (status != 0 or isinstance(program, Proxy))  # an attack may well end
            if shows_a_mistake(printed) or has_ended and printed.strip():
                self.notes["printed"] = at_most(printed)
            elif has_ended:
                self.notes["printed"] = f"{NOTHING}; it has ended, with exit status {status}"
            elif not re.search("endless loop|processor time", complaint) and is_busy(program):
                self.notes["busy"] = "an endless loop: rsp.py uses the processor while there is nothing to do"


class TooLate(AssertionError):
    """Something took too long. A busy machine may be to blame, so the task is tried again."""

    tries = TRIES


class TooBusy(AssertionError):
    """The machine was too busy for a fair judgement, so the task is tried again, several times."""

    tries = TRIES_WHEN_BUSY


class EndlessLoop(AssertionError):
    """A student's program is busy and will never come to its end."""


class Attack:
    """A run of a student's attack.py."""

    def __init__(self, path, *arguments):
        """Start it."""
        assert path.exists(), f"there is no {path.name}. Hint: it takes the proxy's port as its first argument"
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(path), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that stop() ends whatever it has started
        )

    def printed(self):
        """Return what it has printed so far, its complaints too."""
        self.output.seek(0)
        return self.output.read()

    def is_alive(self):
        """Return True if it is still running."""
        return self.process.poll() is None

    def wait(self):
        """Wait until it ends, and return what it printed; raise AssertionError when it fails or takes too long."""

        def is_over():
            return not self.is_alive() or cpu_seconds(self) > MOST_CPU

        with contextlib.suppress(AssertionError):
            wait_until(is_over, "it ends", ATTACK_PATIENCE)
        if self.is_alive():
            if cpu_seconds(self) > MOST_CPU or never_sleeps(self):
                raise EndlessLoop(f"{endless(self)}. Hint: which loop of attack.py never ends?")
            raise AssertionError(
                f"attack.py still runs after {ATTACK_PATIENCE} s. Hint: a time limit on every socket, settimeout(3)"
            )
        status = self.process.returncode
        assert status == 0, f"attack.py failed, with exit status {status}. Hint: run it yourself"
        return self.printed()

    def stop(self):
        """End it, whatever state it is in."""
        if self.is_alive():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def endless(program):
    """Return the words for a program that has used much processor time and should have used hardly any."""
    return f"an endless loop: {cpu_seconds(program):.0f} s of processor time"


def cpu_seconds(program):
    """Return the processor time that a program has used, or 0 when it has ended."""
    try:
        times = psutil.Process(program.process.pid).cpu_times()
        return times.user + times.system
    except psutil.Error:
        return 0


def is_busy(program):
    """Return True if a proxy that has no client any more never waits: it uses a processor, or would if it got one."""
    return isinstance(program, Proxy) and never_sleeps(program)


def never_sleeps(program):
    """Return True if a program is running, or waits for a processor, at nearly every look."""
    looks = []
    for _ in range(LOOKS):
        time.sleep(LOOK / LOOKS)
        with contextlib.suppress(psutil.Error):
            looks.append(psutil.Process(program.process.pid).status() == psutil.STATUS_RUNNING)
    return sum(looks) > BUSY * LOOKS


def fact_of(error):
    """Return what an AssertionError says, or the line that has raised it when it says nothing."""
    return without_output(str(error)) or f"not so: {traceback.extract_tb(error.__traceback__)[-1].line}"


def place_of(error):
    """Return where a file that can't be read as Python has its mistake, and what it is."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    return str(error)
