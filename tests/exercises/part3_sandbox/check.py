"""Runs a student's config in a Lua with its sandbox open, and in part 3 as it is."""

import pathlib
import re
import secrets
import shutil
import sys
import tempfile

from support.harness import part_command
from support.parts import ROOT

PART = ROOT / "part3_lua"


def run_attack(work, program, directory):
    """Run attack.lua in a directory that holds a secret; return the secret, and what became of the proxy."""
    attack = work.directory / "attack.lua"
    assert attack.exists(), "there is no attack.lua. Hint: the starter has one; change that"
    secret = "word-" + secrets.token_hex(4)
    pathlib.Path(directory, "secret.txt").write_text(secret + "\n")
    words = [*program, str(attack)]
    work.sent(f"rsp.py attack.lua, in a directory with a secret.txt: {secret}")
    return secret, work.run_to_its_end(words, cwd=directory)


def open_program(directory):
    """Return the words that start part 3 with its sandbox open: a config's environment is all that Lua has."""
    copy = pathlib.Path(directory, "open")
    shutil.copytree(PART, copy, ignore=shutil.ignore_patterns("__pycache__"))
    source = (copy / "config.py").read_text()
    opened, count = re.subn(r'^ENVIRONMENT = """.*?"""', 'ENVIRONMENT = "return _G"', source, flags=re.M | re.S)
    assert count == 1, "part3_lua/config.py has no ENVIRONMENT any more"
    (copy / "config.py").write_text(opened)
    return [sys.executable, str(copy / "rsp.py")]


def reads_a_file(work):
    """The proxy complains about a backend that it can't find, and its name is the word in secret.txt."""
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        secret, run = run_attack(work, open_program(directory), directory)
    assert f"Couldn't find backend {secret}" in run.stderr, "no secret in it. Hint: backendAddress may be computed"


def starts_a_program(work):
    """There is a new file called owned, and it was made by a program that your config has started."""
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        program = open_program(directory)
        run_attack(work, program, directory)
        assert pathlib.Path(directory, "owned").exists(), "there is no file owned. Hint: what starts a program in Lua?"
    attack = (work.directory / "attack.lua").read_text()
    assert re.search(r"execute|popen", attack), "no program was started for it. Hint: a shell can touch a file"


def is_refused(work):
    """Part 3 as it is refuses the same config, in one line, and no file owned is made."""
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        _, run = run_attack(work, open_program(directory), directory)
    assert run.stderr.startswith("Couldn't find backend "), "no config, even with the sandbox open. Hint: see (a)"
    with tempfile.TemporaryDirectory(prefix="rsp-") as directory:
        _, run = run_attack(work, part_command(3).program, directory)
        assert not pathlib.Path(directory, "owned").exists(), "the file owned was made. Hint: report this, please"
    assert run.stderr.startswith("Error parsing config file: "), "that is no attack. Hint: use what ENVIRONMENT lacks"
    assert len(run.stderr.splitlines()) == 1, "more than one line. Hint: the config should not print anything itself"


TASKS = [reads_a_file, starts_a_program, is_refused]
