"""The event loop: epoll says which sockets are ready, and each one's handler is called.

The loop knows nothing about proxies. A handler is any object with an `fd` (a file descriptor number) and
a method `handle(events)`. Mirrors epollinterface.c of the posts, with what the original grew after them: one
epoll for the whole program, and a list of what is disposed of only at the end of a round. See epoll(7).
"""

import sched
import select
import time

MAX_EVENTS = 256  # events that one wait reports at most; the others come with the next

epoll = select.epoll()
handlers = {}  # file descriptor -> handler; C has the kernel keep a pointer to the handler instead
closed_sockets = []  # no longer in use, but not yet closed
timers = sched.scheduler(time.monotonic)  # what is to be done later; times in seconds


def add_epoll_handler(handler, event_mask):
    """Have the handler called whenever one of the events in the mask happens on its descriptor."""
    epoll.register(handler.fd, event_mask)
    handlers[handler.fd] = handler


def repeat_epoll_event(handler, event_mask):
    """Have the kernel report once more, in a later wait, what is true of the handler's descriptor by then."""
    epoll.modify(handler.fd, event_mask)


def remove_epoll_handler(handler):
    """Call a handler no more; whoever calls this closes its socket, by which it leaves epoll too."""
    handlers.pop(handler.fd, None)


def close_after_round(sock):
    """Close a socket when all the events of this round have been handled.

    Until then its number can't go to a new socket, which would get an event meant for the old one.
    """
    closed_sockets.append(sock)


def do_reactor_loop():
    """Wait for events and pass each to its handler, for ever."""
    while True:
        timeout = timers.run(blocking=False)  # seconds until the next timer, None when there is none
        while closed_sockets:
            closed_sockets.pop().close()
        for fd, events in epoll.poll(timeout, MAX_EVENTS):
            handler = handlers.get(fd)
            if handler is not None:  # None: closed earlier in this round
                handler.handle(events)
