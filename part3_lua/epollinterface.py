"""The event loop: epoll says which socket is ready, and that socket's handler is called.

The loop knows nothing about proxies. A handler is any object with an `fd` (a file descriptor number) and
a method `handle(events)`. Mirrors epollinterface.c of the posts; see epoll(7).
"""

handlers = {}  # file descriptor -> handler; C has the kernel keep a pointer to the handler instead


def add_epoll_handler(epoll, handler, event_mask):
    """Call the handler whenever one of the events in the mask happens on its descriptor."""
    handlers[handler.fd] = handler
    epoll.register(handler.fd, event_mask)


def remove_epoll_handler(handler):
    """Forget a handler whose socket is about to be closed; the kernel forgets it by itself on close."""
    del handlers[handler.fd]


def do_reactor_loop(epoll):
    """Wait for events and pass each to its handler, for ever."""
    while True:
        # One event per wait. With more, a handler could close a socket that has an event further down the
        # same list. What is ready and was not reported now is reported by the next wait: level-triggered.
        for fd, events in epoll.poll(maxevents=1):
            handlers[fd].handle(events)
