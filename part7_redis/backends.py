"""Several backends: which one gets the next client, and which ones are left out for now.

A BackendSet knows which of its backends are usable, and leaves the choice among these to a balance (see balance.py). It
touches no socket: a pair asks it where to connect, and tells it how that went.

There is no counterpart in the posts' C: this is the "multiple-backend handling stuff I was planning" of "pause to
regroup". The rules are nginx's: max_fails, fail_timeout, backup and weight of its ngx_http_upstream_module.
"""

import logging
import math
import os
import time

from balance import pick_other
from epollinterface import Deadlines
from netutils import OUR_OWN_SHORTAGES, Backend
from pair import Pair

QUIET_SECONDS = 1  # between two log lines about connections that one backend has broken
SHORTAGE_QUIET_SECONDS = 10  # between two log lines about what this machine has run out of


class BalancedBackend(Backend):
    """One backend of a set, and how it is doing."""

    def __init__(self, host, port, weight=1, backup=False):
        """Look the name up, as Backend does; raises OSError with a line that names the backend."""
        super().__init__(host, port)
        self.name = f"{host}:{port}"  # for the log
        self.weight = weight  # its share: twice the weight, twice the clients
        self.backup = backup  # gets clients only when no other backend is usable
        self.active = 0  # connections that are open, or being opened
        self.up = True  # what the health checks say
        self.usable = True  # up, and not left out for its fails
        self.fails = 0  # connects that failed since the last one that worked, or since `fails_since`
        self.fails_since = 0  # when the first of them failed (seconds, time.monotonic)
        self.left_out_until = 0  # when the next client may try it, after too many fails (seconds)
        self.warn_again_at = 0  # when the next connection that it ends may be logged (seconds)
        self.set = None  # the BackendSet that it is in


class BackendSet:
    """The backends that share the clients of one proxy."""

    warn_again_at = 0  # when the next shortage may be logged (seconds); it is the machine's, so all sets share this

    def __init__(self, backends, balance, max_fails=1, fail_timeout=10, connect_timeout=2):
        """Share clients among BalancedBackends, a list; a balance chooses among the usable ones: see balance.py.

        After max_fails failed connects within fail_timeout (seconds), a backend is left out for as long. A connect
        that takes longer than connect_timeout (seconds) has failed.
        """
        self.balancer = balance
        self.follow_load = getattr(balance, "follow_load", None)
        self.max_fails = max_fails
        self.fail_timeout = fail_timeout
        self.deadlines = Deadlines(connect_timeout, Pair.on_late_connect)  # of the pairs that are connecting
        self.family = backends[0].family  # that a fresh socket most likely needs
        self.replace(backends)

    def replace(self, backends):
        """Share the clients among these from now on; a client that is connected to another one stays there.

        One that is connecting goes on to one of these when that fails. A backend that stays keeps what is known of it.
        """
        self.backends = backends
        self.too_many = self.max_fails if self.max_fails and len(backends) > 1 else 1  # fails, for the log
        for backend in backends:
            backend.set = self
        self.update_usable(time.monotonic(), changed=True)

    def attempts(self, client_address):
        """Yield the backends for one client, each at most once, as pairs: backend, and one of its addresses.

        When asking for the next one, send the number of the error that the last one has failed with.
        """
        tried = set()  # names
        while backend := self.choose(client_address, tried):
            tried.add(backend.name)
            self.add_connection(backend)
            for address in backend.addresses:
                error_number = yield backend, address
            self.remove_connection(backend)
            self.note_failure(backend, error_number)

    def choose(self, client_address, tried):
        """Return the next backend for a client that has tried some already; None when it has tried them all."""
        now = time.monotonic()
        if now >= self.look_again_at:
            self.update_usable(now)
        if tried:  # seldom, so it may take its time
            rest = candidates([backend for backend in self.backends if backend.name not in tried])
            return pick_other(self.balancer, client_address, rest) if rest else None
        backend = self.balancer.pick(client_address)
        if self.has_failed_too_often(backend):  # this one client may try it; the next one has to wait as long again
            backend.left_out_until = now + self.fail_timeout
            self.update_usable(now)
        return backend

    def has_failed_too_often(self, backend):
        """Return True if a backend has failed too often. One backend alone is never left out for that."""
        return backend.fails >= self.max_fails > 0 and len(self.backends) > 1

    def update_usable(self, now, changed=False):
        """See which backends are usable now, tell the balance if that has changed, and note when to look again."""
        self.look_again_at = math.inf
        for backend in self.backends:
            left_out = self.has_failed_too_often(backend) and now < backend.left_out_until
            if left_out:
                self.look_again_at = min(self.look_again_at, backend.left_out_until)
            usable = backend.up and not left_out
            changed = changed or usable != backend.usable
            backend.usable = usable
        if changed:
            self.balancer.use(self.backends, candidates(self.backends))

    def add_connection(self, backend):
        """Count a connection that a backend has got."""
        backend.active += 1
        if self.follow_load:
            self.follow_load(backend)

    def remove_connection(self, backend):
        """Count a connection that a backend has lost."""
        backend.active -= 1
        if self.follow_load:
            self.follow_load(backend)

    def note_failure(self, backend, error_number):
        """Note that a client could not connect to a backend; log it when that changes anything."""
        now = time.monotonic()
        if error_number in OUR_OWN_SHORTAGES:
            self.note_shortage(backend, error_number, now)
            return
        if now - backend.fails_since > self.fail_timeout and backend.fails < self.max_fails:
            backend.fails = 0
        if not backend.fails:
            backend.fails_since = now
        backend.fails += 1
        backend.left_out_until = now + self.fail_timeout
        if backend.fails == self.too_many:
            rest = f". It is left out for {self.fail_timeout:g} s" if self.has_failed_too_often(backend) else ""
            reason = os.strerror(error_number)
            logging.error("Couldn't connect to backend %s: %s%s", backend.name, reason, rest)
            self.update_usable(now)

    def note_shortage(self, backend, error_number, now):
        """Log that this machine has run out of something, which is not the backend's fault."""
        if now >= BackendSet.warn_again_at:
            reason = os.strerror(error_number)
            logging.error("Couldn't connect to backend %s: %s. The shortage is our own", backend.name, reason)
            BackendSet.warn_again_at = now + SHORTAGE_QUIET_SECONDS

    def note_success(self, backend):
        """Note that a client could connect to a backend."""
        if backend.fails:
            if backend.fails >= self.too_many:
                logging.error("Backend %s takes connections again", backend.name)
            backend.fails = 0
            self.update_usable(time.monotonic())

    def note_loss(self, backend, error_number):
        """Note that a backend has broken a connection; when many break at once, one log line says so."""
        now = time.monotonic()
        if now >= backend.warn_again_at:
            logging.error("Lost the backend %s: %s", backend.name, os.strerror(error_number))
            backend.warn_again_at = now + QUIET_SECONDS

    def note_health(self, backend, up):
        """Note what the health checks have found, when it is something new."""
        backend.up = up
        self.update_usable(time.monotonic())


def candidates(backends):
    """Return the backends, out of some, that may get the next client: usable ones, else backups, else any."""
    some = [backend for backend in backends if backend.usable] or backends
    return [backend for backend in some if not backend.backup] or some
