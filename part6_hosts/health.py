"""Health checks: each backend is tried now and then, whether or not a client comes, in the same loop as all the rest.

A check has its own socket, and no pair. It connects, and that is enough; or it also sends a request, and looks at the
status of the answer (RFC 9112, section 4). A backend that accepts and then never answers is found only by the latter.
After `fall` failed checks in a row a backend is down, after `rise` good ones up again: the words of the
"tcp_proxy_module" post, and of haproxy.
"""

import errno
import logging
import os
import random
import re
import socket
from dataclasses import dataclass
from select import EPOLLIN, EPOLLOUT

from epollinterface import add_epoll_handler, call_later, remove_epoll_handler, repeat_epoll_event
from netutils import OUR_OWN_SHORTAGES, create_backend_socket

CHUNK = 65536  # bytes a read
LONGEST_STATUS_LINE = 1024  # bytes; a backend that sends more without a line's end fails the check
LONGEST_INTERIM = 16_384  # bytes that an interim answer may have
STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d\d\d)[ \r\n]")
# An interim answer is a head alone: 100, 102, 103 and the like. 101 isn't one: the connection is something else then.
INTERIM = re.compile(rb"HTTP/\d\.\d 1(?!01)\d\d[ \r\n]")
INTERIM_HEAD = re.compile(INTERIM.pattern + rb"(?s:.*?)(?<=\n)\r?\n")
LINGER_SECONDS, LINGER_BYTES = 0.2, 1_048_576  # how long, and how much, a check reads on when it knows the status


@dataclass(frozen=True)
class Check:
    """What is done to each backend, and what follows from it."""

    interval: float  # seconds from the beginning of one check to that of the next
    rise: int  # good checks in a row, and a backend that was down is up
    fall: int  # failed checks in a row, and a backend that was up is down
    timeout: float  # seconds that a connect may take, and as many for the answer
    request: bytes | None  # what to send; None: a connect is enough
    expect: range  # of status codes that are good


class Checker:
    """Checks a server again and again. A check is a connection to the first of its addresses that accepts it."""

    def __init__(self, check, backends):
        """Prepare; start() begins. The backends are all at one address: what is found holds for each of them."""
        self.check = check
        self.backends = backends
        self.up = True  # what the backends' sets have heard last
        self.passes = self.failures = 0  # checks in a row
        self.number = 0  # of the last time-out that has begun
        self.addresses = None  # an iterator over the ones left to try
        self.socket = None  # while a check is under way
        self.fd = None  # the loop's key for this handler
        self.asked = False  # the request has been sent
        self.answer = b""  # the beginning of what has come back
        self.done = False  # the status is known, and counted; the rest of the answer is read and dropped
        self.left = 0  # bytes of it that may still be read

    def start(self):
        """Begin some time within the first interval, so that the checks of many backends don't come all at once."""
        call_later(random.uniform(0, self.check.interval), self.start_check)

    def start_check(self):
        """Make one check, and schedule the next."""
        call_later(self.check.interval, self.start_check)
        if self.done:
            self.close()
        if self.socket is None:  # otherwise the timeout is longer than the interval, and a check still waits
            self.start_clock()
            self.asked, self.answer, self.done = False, b"", False
            self.addresses = iter(self.backends[0].addresses)
            self.connect(errno.EADDRNOTAVAIL)

    def connect(self, error_number):
        """Start connecting to the next address; with none left, the check has failed with this error."""
        for family, _, _, _, address in self.addresses:
            try:
                self.socket = create_backend_socket(family)
                self.fd = self.socket.fileno()
                error_number = self.socket.connect_ex(address)
                if error_number in (0, errno.EINPROGRESS):
                    add_epoll_handler(self, EPOLLOUT)
                    return
            except OSError as error:
                error_number = error.errno
            self.close()
        if error_number not in OUR_OWN_SHORTAGES:
            self.count(os.strerror(error_number))

    def handle(self, events):
        """Go on: the connect has come to its end, or some of the answer has come."""
        try:
            if self.done:
                self.read_on()
            elif self.asked:
                self.read_status()
            else:
                self.finish_connecting()
        except OSError as error:
            self.finish_check(error.strerror)

    def finish_connecting(self):
        """Ask, if there is something to be asked; after a connect that has failed, go on to the next address."""
        error_number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error_number:
            self.close()
            self.connect(error_number)
        elif self.check.request is None:
            self.finish_check(None)
        else:
            self.socket.send(self.check.request)  # a fresh socket takes that much, whole
            self.asked = True
            self.start_clock()  # the time until we came to ask is not the backend's
            repeat_epoll_event(self, EPOLLIN)

    def read_status(self):
        """Read until the status is known: that of the final answer, which interim ones may come before."""
        data = self.socket.recv(CHUNK)
        self.answer += data
        while head := INTERIM_HEAD.match(self.answer):
            self.answer = self.answer[head.end() :]
        is_interim = INTERIM.match(self.answer)
        if not is_interim and (status := STATUS_LINE.match(self.answer)):
            self.see_status(int(status[1]))
        elif not data:
            self.finish_check("it ended the connection without an answer")
        elif is_interim and len(self.answer) > LONGEST_INTERIM:
            self.finish_check(f"an interim answer of more than {LONGEST_INTERIM} bytes")
        elif not is_interim and (b"\n" in self.answer or len(self.answer) > LONGEST_STATUS_LINE):
            self.finish_check("what it answered is not HTTP")

    def start_clock(self):
        """Have the check end in time, unless it is over by then or has asked."""
        self.number += 1
        call_later(self.check.timeout, self.time_out, self.number)

    def see_status(self, status):
        """Count the check, and begin to read the rest of the answer."""
        self.done = True
        self.left = LINGER_BYTES
        call_later(LINGER_SECONDS, self.time_out, self.number)
        self.count(None if status in self.check.expect else f"it answered {status}")

    def read_on(self):
        """Read some of the rest: to close with bytes unread is a reset, which a backend may log as a failure."""
        data = self.socket.recv(CHUNK)
        self.left -= len(data)
        if not data or self.left <= 0:
            self.close()

    def time_out(self, number):
        """End a check, unless it is over, since it has taken too long."""
        if self.socket is not None and number == self.number:
            self.finish_check(f"no {'answer' if self.asked else 'connection'} in {self.check.timeout:g} s")

    def finish_check(self, complaint):
        """End a check, and count it unless that is done; the complaint is None when all was well."""
        self.close()
        if not self.done:
            self.count(complaint)

    def fail(self):
        """Give up a check after an exception: the loop calls this."""
        self.close()

    def close(self):
        """Close the socket, at once: it has had its event of this round."""
        if self.socket is not None:
            remove_epoll_handler(self)
            self.socket.close()
            self.socket = None

    def count(self, complaint):
        """Count a check that is over, and decide whether the server is up."""
        self.passes, self.failures = (self.passes + 1, 0) if complaint is None else (0, self.failures + 1)
        if self.up and self.failures == self.check.fall:
            self.tell(False, f"down: {self.failures} checks failed, the last one: {complaint}")
        elif not self.up and self.passes == self.check.rise:
            self.tell(True, f"up: {self.passes} checks succeeded")

    def tell(self, up, what):
        """Log that the server has gone down, or come up, and let the backends' sets know."""
        self.up = up
        logging.error("Backend %s is %s", self.backends[0].name, what)
        for backend in self.backends:
            backend.set.note_health(backend, up)
