"""Runs commands as a reader would paste them."""

import os
import re
import shlex
import signal
import subprocess
import sys

from support.parts import ROOT

PATIENCE = 60  # seconds that commands may take


def renumber(text, numbers):
    """Return a text with some of the numbers in it replaced by others."""
    return re.sub(r"\d+", lambda match: numbers.get(match[0], match[0]), text)


def run(commands, directory, **variables):
    """Run commands in bash, from the top directory, with this Python as python and python3; return what they print.

    The lines of stdout and stderr, as they come. Whatever they have started and left running is killed.
    """
    for name in ("python", "python3"):
        wrapper = directory / name
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        wrapper.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{directory}:{os.environ['PATH']}",
        "TMPDIR": str(directory),
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    process = subprocess.Popen(
        ["bash", "-c", commands], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"These commands don't end within {PATIENCE} s:\n{commands}") from None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()
    return output.splitlines()
