"""Says what to type when a Python package is missing: mostly, the virtual environment just isn't active."""

import contextlib
import sys


@contextlib.contextmanager
def packages_needed():
    """End the program with one clear line when an import in the with-block doesn't find its package."""
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(what_to_type(error))


def what_to_type(error):
    """Return the line for a ModuleNotFoundError: it names the package, and what brings it."""
    name = error.name.partition(".")[0]
    return f"The Python package {name} is not installed here. Type: make ready, then: source .venv/bin/activate"
