"""Runs a student's program with a clock that goes faster: fast_clock.py TIMES rsp.py ARGUMENTS.

A time-out of 60 seconds is then tried in a few. The program sees faster clocks, and its waits are as much shorter.
"""

import runpy
import select
import signal
import sys
import time

TIMES = float(sys.argv[1])
CLOCKS = ["time", "monotonic", "perf_counter"]


def faster(clock):
    """Return a clock that shows now what the given one shows, and then goes TIMES as fast."""
    start = clock()
    return lambda: start + (clock() - start) * TIMES


def sooner(timeout):
    """Return how long to wait really; None and negative numbers mean for ever."""
    return timeout if timeout is None or timeout < 0 else timeout / TIMES


class Epoll:
    """An epoll that waits for a shorter time."""

    def __init__(self, *arguments):
        """Make a real one."""
        self.real = real_epoll(*arguments)

    def poll(self, timeout=None, maxevents=-1):
        """Wait for events."""
        return self.real.poll(sooner(timeout), maxevents)

    def __getattr__(self, name):
        """Return whatever else the real one has."""
        return getattr(self.real, name)


real_epoll, real_sleep, real_timer, real_select = select.epoll, time.sleep, signal.setitimer, select.select
for name in CLOCKS:
    setattr(time, name, faster(getattr(time, name)))
time.sleep = lambda seconds: real_sleep(seconds / TIMES)
select.epoll = Epoll
select.select = lambda reading, writing, failing, timeout=None: real_select(reading, writing, failing, sooner(timeout))
signal.setitimer = lambda which, seconds, again=0: real_timer(which, seconds / TIMES, again / TIMES)
signal.alarm = lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)

sys.argv = sys.argv[2:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
