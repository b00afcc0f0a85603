"""Putting a patch in place: a solution, a bug of the museum, a thing that the benchmark switches off."""

import os
import pathlib
import shutil
import subprocess


def need_git():
    """Raise LookupError when there is no git to apply a patch with."""
    if shutil.which("git") is None:
        raise LookupError("git is missing, which puts a patch in place. Install it: sudo apt install git")


def apply_patch(patch, directory):
    """Change the files in a directory by a patch; return git's complaint, or ""."""
    need_git()
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(pathlib.Path(directory).resolve().parent)}
    words = ["git", "apply", "--whitespace=nowarn", str(patch)]
    run = subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, timeout=30)
    return run.stderr.strip()
