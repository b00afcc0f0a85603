"""Runs rsp.py, and writes a line for each time that epoll's poll returns.

python count_events.py rsp.py 8000 127.0.0.1 8001
"""

import pathlib
import runpy
import select
import sys


class LoudEpoll:
    """An epoll that says when it has news."""

    def __init__(self):
        """Make the real one."""
        self.epoll = RealEpoll()

    def __getattr__(self, name):
        """Leave everything but poll to the real one."""
        return getattr(self.epoll, name)

    def poll(self, *arguments, **options):
        """Wait, and say what woke us up."""
        events = self.epoll.poll(*arguments, **options)
        print("wake-up:", ", ".join(f"descriptor {fd}, events {mask:#x}" for fd, mask in events), file=sys.stderr)
        return events


RealEpoll, select.epoll = select.epoll, LoudEpoll
del sys.argv[0]
sys.path[0] = str(pathlib.Path(sys.argv[0]).resolve().parent)  # as Python does when it starts rsp.py directly
runpy.run_path(sys.argv[0], run_name="__main__")
