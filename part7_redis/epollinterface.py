"""The event loop: epoll says which sockets are ready, and each one's handler is called.

The loop knows nothing about proxies. A handler is any object with an `fd` (a file descriptor number), a method
`handle(events)`, and, for close_after_round, a method `close()`. Mirrors epollinterface.c of the posts, with what the
original grew after them: one epoll for the whole program, and a list of what is disposed of only at the end of a
round. See epoll(7).
"""

import sched
import select
import time

MAX_EVENTS = 256  # events reported per wait, at most; the others come with the next

epoll = None  # made by epoll_init
handlers = {}  # file descriptor -> handler; C has the kernel keep a pointer to the handler instead
closed_handlers = []  # no longer in use, but not yet closed
timers = sched.scheduler(time.monotonic)  # what is to be done later; times in seconds
running = False  # do_reactor_loop goes on


def epoll_init():
    """Make the epoll that everything here uses; raise OSError when the kernel has none to give."""
    global epoll
    epoll = select.epoll()


def add_epoll_handler(handler, event_mask):
    """Have the handler called whenever one of the events in the mask happens on its descriptor.

    Raises OSError when epoll takes no more descriptors.
    """
    epoll.register(handler.fd, event_mask)
    handlers[handler.fd] = handler


def repeat_epoll_event(handler, event_mask):
    """Have the kernel report once more, in a later wait, what is true of the handler's descriptor by then."""
    epoll.modify(handler.fd, event_mask)


def remove_epoll_handler(handler):
    """Stop calling a handler; whoever calls this closes its socket, which takes it out of epoll too."""
    if handlers.get(handler.fd) is handler:  # it may never have been added, and its number be another's
        del handlers[handler.fd]


def close_after_round(handler):
    """Have a handler closed when all the events of this round have been handled.

    Until then its number can't go to a new socket, which would get an event meant for the old one.
    """
    closed_handlers.append(handler)


def call_later(seconds, function, *arguments):
    """Have the loop call a function after this many seconds."""
    timers.enter(seconds, 0, function, arguments)


class Deadlines:
    """The same time limit for many, most of whom keep to it: starting and stopping one costs next to nothing."""

    def __init__(self, seconds):
        """Allow each of them this many seconds."""
        self.seconds = seconds
        self.due = {}  # object -> when its time is over (seconds, time.monotonic); in that order
        self.watching = False  # a timer will look at the first of them

    def start(self, waiting):
        """Have waiting.time_out() called in time, unless stop() is called first."""
        self.due.pop(waiting, None)  # so that it goes to the end
        self.due[waiting] = time.monotonic() + self.seconds
        if not self.watching:
            self.watching = True
            call_later(self.seconds, self.look)

    def stop(self, waiting):
        """Forget a deadline; there need not be one."""
        self.due.pop(waiting, None)

    def look(self):
        """Call those whose time is over, and look again when that of the next one is."""
        now = time.monotonic()
        while self.due:
            waiting, due = next(iter(self.due.items()))
            if due > now:
                call_later(due - now, self.look)
                return
            del self.due[waiting]
            waiting.time_out()
        self.watching = False


def stop_reactor_loop():
    """Have do_reactor_loop return at the end of this round."""
    global running
    running = False


def do_reactor_loop():
    """Wait for events and pass each to its handler, until stop_reactor_loop is called."""
    global running
    running = True
    while running:
        timeout = timers.run(blocking=False)  # seconds until the next timer, None when there is none
        while closed_handlers:
            closed_handlers.pop().close()
        for fd, events in epoll.poll(timeout, MAX_EVENTS):
            handler = handlers.get(fd)
            if handler is not None:  # None: closed earlier in this round
                handler.handle(events)
