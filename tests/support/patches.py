"""Applying a patch: a solution, a bug of the museum, something that the benchmark switches off."""

import os
import pathlib
import shutil
import subprocess

from support.parts import PARTS, ROOT


def need_git():
    """Raise LookupError when there is no git to apply a patch with."""
    if shutil.which("git") is None:
        raise LookupError("git, which applies a patch, is missing. Install it: sudo apt install git")


def apply_patch(patch, directory):
    """Change the files in a directory by a patch; return git's complaint, or ""."""
    need_git()
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(pathlib.Path(directory).resolve().parent)}
    words = ["git", "apply", "--whitespace=nowarn", str(patch)]
    run = subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, timeout=30)
    return run.stderr.strip()


def patched_part(part, patch, directory):
    """Lay out a part in a directory that is not there yet, change it by a patch, and return its rsp.py.

    Raises LookupError when the patch no longer applies, or when there is no git.
    """
    need_git()  # before anything is there
    shutil.copytree(
        ROOT / PARTS[part], directory, ignore=shutil.ignore_patterns("__pycache__", "README.md", "*.svg", "steps")
    )
    if complaint := apply_patch(patch, directory):
        raise LookupError(
            f"{patch.parent.name}/{patch.name} no longer applies: {complaint}. Make it again: git diff --no-index"
        )
    return pathlib.Path(directory, "rsp.py")
