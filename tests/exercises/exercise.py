"""The classroom's commands.

    python tests/exercises/exercise.py list                   every exercise
    python tests/exercises/exercise.py start NAME DIR         make a directory to work in
    python tests/exercises/exercise.py check NAME DIR         each task: ok or not yet
    python tests/exercises/exercise.py hint NAME [--more]     a hint, and a better one
    python tests/exercises/exercise.py museum [BUG TEST_FILE] does a test of yours notice a bug?
    python tests/exercises/exercise.py peers                  what there is to write tests with

and for the teacher

    python tests/exercises/exercise.py gate [NAME ...]        is every exercise sound?
    python tests/exercises/exercise.py tables                 bring the tables of the pages up to date
    python tests/exercises/exercise.py bundle DIR             a copy of the course without solutions
    python tests/exercises/exercise.py check-all DIR ...      check a whole class

What an exercise consists of: cards.py. What a task may do: work.py.
"""

import argparse
import os
import pathlib
import secrets
import sys
import threading

from bugs import Bug, list_bugs, try_test
from classroom import MARK, bundle, check_all, end_all
from commands import check, hint, list_exercises, show_peers, start
from tables import write_tables

INTERRUPTED = 130  # the exit status of a program that Ctrl-C has ended: 128 and the signal's number


def parse():
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="exercise.py", description="The exercises of the course.")
    parser.set_defaults(more=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(name, text, *arguments):
        """Add a command with positional arguments: pairs of a name and options."""
        command = commands.add_parser(name, help=text)
        for argument, options in arguments:
            command.add_argument(argument, **options)
        return command

    name, directory = ("name", {"metavar": "NAME"}), ("directory", {"metavar": "DIR", "type": pathlib.Path})
    add("list", "every exercise")
    solved = {"action": "store_true", "help": "with the solution in place"}
    add("start", "make a directory to work in", name, directory, ("--solved", solved))
    unrecorded = {"action": "store_true", "help": "keep no note of this check in DIR"}
    add("check", "check the work in a directory", name, directory, ("--unrecorded", unrecorded))
    add("hint", "a hint for an exercise or a bug", name, ("--more", {"action": "store_true", "help": "a better one"}))
    add(
        "museum", "does a test of yours notice a bug? Without arguments: the bugs",
        ("bug", {"metavar": "BUG", "nargs": "?"}),
        ("test_file", {"metavar": "TEST_FILE", "nargs": "?", "type": pathlib.Path, "default": "my_test.py"}),
    )  # fmt: skip
    add("peers", "what there is to write tests with")
    add("gate", "starters fail, solutions pass, cards are complete", ("names", {"metavar": "NAME", "nargs": "*"}))
    add("tables", "bring the tables of the students' and the teacher's page up to date")
    add("bundle", "a copy of the course without solutions", directory)
    add(
        "check-all", "check the directories of a class",
        ("directories", {"metavar": "DIR", "nargs": "+", "type": pathlib.Path}),
        ("--csv", {"metavar": "FILE", "help": "write the table to a file as well"}),
        ("--seconds", {"type": int, "default": 180, "help": "for each directory at most (180)"}),
    )  # fmt: skip
    return parser.parse_args()


def run(arguments):
    """Do what the command line says; return whether all is well."""
    match arguments.command:
        case "list":
            list_exercises()
        case "start":
            start(arguments.name, arguments.directory, arguments.solved)
        case "check":
            return check(arguments.name, arguments.directory, not arguments.unrecorded)
        case "hint":
            hint(arguments.name, arguments.more)
        case "museum" if arguments.bug is None:
            list_bugs()
        case "museum":
            return try_test(Bug(arguments.bug), arguments.test_file)
        case "peers":
            show_peers()
        case "gate":
            from gate import gate  # needs packages

            return gate(arguments.names)
        case "tables":
            write_tables()
        case "bundle":
            bundle(arguments.directory)
        case "check-all":
            return check_all(arguments.directories, arguments.csv, arguments.seconds)
    return True


def main():
    """Run a command; a mistake on the command line is one line, and exit status 1."""
    arguments = parse()
    if arguments.command is None:
        sys.exit(__doc__.partition("\n\nWhat an exercise")[0])
    threading.excepthook = lambda _: None  # for a test's clients that get no answer: the task itself says so
    mark = os.environ.setdefault(MARK, secrets.token_hex(8))  # all programs that we start inherit it
    try:
        sys.exit(not run(arguments))
    except BrokenPipeError:  # our reader has gone, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (LookupError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("Interrupted; what was started has been ended.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:  # Ctrl-C may come just after a proxy has started, before it is noted; or a pytest may have been killed
        end_all(mark)


if __name__ == "__main__":
    main()
