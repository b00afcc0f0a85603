"""The event loop: epoll says which sockets are ready, and each one's handler is called.

The loop knows nothing about proxies. A handler is any object with an `fd` (a file descriptor number), a method
`handle(events)`, and, for close_after_round, a method `close()`. If one raises an exception, its method `fail()` is
called, if it has one, and the loop goes on. Mirrors epollinterface.c of the posts, with what the original grew after
them: one epoll for the whole program, and a list of what is disposed of only at the end of a round. See epoll(7).
"""

import heapq
import itertools
import logging
import math
import os
import select
import sys
import time
import traceback

MAX_EVENTS = 256  # events reported per wait, at most; the others come with the next
TIMERS_PER_ROUND = 64  # then it is the events' turn
ROUNDS_TO_CATCH_UP = 8  # before timers run; what one handler left for its next turn needs some more of them
WARN_PAUSE = 10  # between log lines about exceptions at the same place

epoll = None  # made by epoll_init
handlers = {}  # file descriptor -> handler; C has the kernel keep a pointer to the handler instead
caught_up_to = 0  # what had arrived by then has been handled (seconds, time.monotonic)
closed_handlers = []  # no longer in use, but not yet closed
timers = []  # what is to be done later, a heap: when (seconds, time.monotonic), a number, a function, its arguments
timer_numbers = itertools.count()  # of two timers for the same moment, the older one goes first
warn_again_at = {}  # file and line of an exception -> when the next one there may be logged (seconds)
running = False  # do_reactor_loop goes on


def epoll_init():
    """Make the epoll that everything here uses; raise OSError when the kernel has none to give."""
    global epoll
    epoll = select.epoll()


def add_epoll_handler(handler, event_mask):
    """Call the handler whenever one of the events in the mask happens on its descriptor.

    Raises OSError when epoll takes no more descriptors.
    """
    epoll.register(handler.fd, event_mask)
    handlers[handler.fd] = handler


def repeat_epoll_event(handler, event_mask):
    """Have the kernel report once more, in a later wait, what is true of the handler's descriptor by then."""
    epoll.modify(handler.fd, event_mask)


def remove_epoll_handler(handler):
    """Stop calling a handler; the caller closes its socket, which takes it out of epoll too."""
    if handlers.get(handler.fd) is handler:  # it may never have been added, and its number be another's
        del handlers[handler.fd]


def close_after_round(handler):
    """Close a handler when all the events of this round have been handled.

    Until then its number can't go to a new socket, which would get an event meant for the old one.
    """
    closed_handlers.append(handler)


def call_later(seconds, function, *arguments):
    """Have the loop call a function after this many seconds."""
    heapq.heappush(timers, (time.monotonic() + seconds, next(timer_numbers), function, arguments))


class Deadlines:
    """The same time limit for many, and most keep to it: starting and stopping one costs next to nothing."""

    def __init__(self, seconds, function):
        """Allow each of them this many seconds; then function(waiting) is called."""
        self.seconds = seconds
        self.function = function
        self.due = {}  # object -> when its time is over (seconds, time.monotonic); in that order
        self.watching = False  # a timer will look at the first of them

    def start(self, waiting):
        """Have the function called with it in time, unless stop() is called first."""
        self.due.pop(waiting, None)  # so that it goes to the end
        self.due[waiting] = time.monotonic() + self.seconds
        if not self.watching:
            self.watching = True
            call_later(self.seconds, self.expire_due)

    def stop(self, waiting):
        """Forget a deadline; there need not be one."""
        self.due.pop(waiting, None)

    def expire_due(self):
        """Call the function for the overdue ones, a bounded number of them, and look again when the next one is due."""
        for _ in range(TIMERS_PER_ROUND):
            waiting, due = next(iter(self.due.items()), (None, math.inf))
            if due > caught_up_to:
                break
            del self.due[waiting]
            try:
                self.function(waiting)
            except Exception:
                outlive_error(waiting)
        self.watching = bool(self.due)
        if self.watching:
            due = next(iter(self.due.values()))
            call_later(max(due - time.monotonic(), 0), self.expire_due)


def stop_reactor_loop():
    """Have do_reactor_loop return at the end of this round."""
    global running
    running = False


def outlive_error(owner):
    """Log the exception being handled, in one line, and have the object that raised it give up what it was doing.

    An exception that gets here is a mistake in this program. It costs one connection, and never the loop.
    """
    log_error()
    fail = getattr(owner, "fail", None)
    if fail is not None:
        try:
            fail()
        except Exception:
            log_error()


def log_error():
    """Log the exception that is being handled, and where it was raised, unless that was done a moment ago."""
    _, error, frames = sys.exc_info()
    *_, (frame, line) = traceback.walk_tb(frames)
    place, now = (frame.f_code.co_filename, line), time.monotonic()
    if now >= warn_again_at.get(place, 0):
        warn_again_at[place] = now + WARN_PAUSE
        logging.error("A mistake in this program, in %s, line %s: %r", os.path.basename(place[0]), line, error)


def handle_events(seconds):
    """Wait for events, this long at most (None: for ever), and pass each to its handler; return how many there were."""
    while closed_handlers:
        handler = closed_handlers.pop()
        try:
            handler.close()
        except Exception:
            log_error()
    round_of_events = epoll.poll(seconds, MAX_EVENTS)
    for fd, events in round_of_events:
        handler = handlers.get(fd)
        if handler is not None:  # None: closed earlier in this round
            try:
                handler.handle(events)
            except Exception:
                outlive_error(handler)
    return len(round_of_events)


def run_timers(now):
    """Call what is due by now (seconds), a bounded number of functions, after all the events that had come by then.

    The order matters after this program has had no processor for a while. What a timer would complain about has
    arrived meanwhile, and only waits to be read.
    """
    global caught_up_to
    for _ in range(ROUNDS_TO_CATCH_UP + len(handlers) // MAX_EVENTS):  # bounded: a busy loop always has more of them
        if not handle_events(0):
            break
    caught_up_to = now
    for _ in range(TIMERS_PER_ROUND):
        if not timers or timers[0][0] > now:
            break
        _, _, function, arguments = heapq.heappop(timers)
        try:
            function(*arguments)
        except Exception:
            outlive_error(getattr(function, "__self__", None))


def do_reactor_loop():
    """Wait for events and pass each to its handler, until stop_reactor_loop is called."""
    global running
    running = True
    while running:
        if not timers:
            handle_events(None)
        elif timers[0][0] > (now := time.monotonic()):
            handle_events(timers[0][0] - now)
        else:
            run_timers(now)
