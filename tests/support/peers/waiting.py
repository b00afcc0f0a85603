"""Waiting for something to become true, with a time limit, instead of sleeping."""

import time
from collections.abc import Callable

PATIENCE = 3  # seconds that a small answer may take; it takes milliseconds unless something has to wait its turn
LONG_PATIENCE = 30  # seconds between two pieces of a big transfer


def wait_until(condition: Callable[[], object], what: str, timeout: float = PATIENCE):
    """Wait until condition() is true; raise AssertionError, saying what was waited for, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s, and still not: {what}"
        time.sleep(0.005)


def wait_until_still(number: Callable[[], float], still: float = 0.4, timeout: float = LONG_PATIENCE) -> float:
    """Wait until number() has kept its value for `still` seconds, and return it."""
    deadline = time.monotonic() + timeout
    value, since = number(), time.monotonic()
    while time.monotonic() - since < still:
        assert time.monotonic() < deadline, f"after {timeout} s it is still changing: {value}"
        time.sleep(0.02)
        if number() != value:
            value, since = number(), time.monotonic()
    return value
