"""The code looks alike everywhere: ruff.toml says how, and ruff checks it, but not what a student has lying about."""

import subprocess
import sys

import pytest

from support.parts import PARTS, ROOT


@pytest.mark.parametrize("words", ["check --output-format=concise", "format --check"])
def test_ruff_has_nothing_to_say(words):
    """ruff names the file and line of each complaint; most of them it can fix on its own."""
    command = [sys.executable, "-m", "ruff", *words.split(), "--quiet", *PARTS.values(), "notebooks", "tests"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, f"ruff says:\n{run.stdout}{run.stderr}Hint: ruff check --fix . && ruff format ."
