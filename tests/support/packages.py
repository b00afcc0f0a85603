"""Says what to type when a Python package is missing: mostly, the virtual environment just isn't active."""

import contextlib
import pathlib
import sys

VENV = pathlib.Path(__file__).resolve().parents[2] / ".venv"


@contextlib.contextmanager
def packages_needed():
    """End the program with one clear line when an import in the with-block doesn't find its package."""
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(what_to_type(error))


def what_to_type(error, venv=VENV):
    """Return the line for a ModuleNotFoundError: what is missing, and what brings it."""
    name = error.name.partition(".")[0]
    if (venv / "bin" / "python").exists() and has_package(venv, name):
        return "The virtual environment is not active in this terminal. Type: source .venv/bin/activate"
    return f"The Python package {name} is not installed here. Type: make ready, then: source .venv/bin/activate"


def has_package(venv, name):
    """Return True if a virtual environment has a package, as a directory or a single file."""
    return any(venv.glob(f"lib/python*/site-packages/{name}")) or any(venv.glob(f"lib/python*/site-packages/{name}.*"))
