"""Services: what a listening port leads to. A service pairs each client with a backend, at once or after a look.

Where there are no hosts, there is nothing to look at: a PlainService connects every client to one of the same backends.
A LookingService makes pairs that look at what the client sends first. Neither reads or writes a byte.
"""

from epollinterface import Deadlines
from looking_pair import LookingPair
from pair import Pair

LINGER_SECONDS = 2  # that a refused client has to read why, before its connection is closed


class PlainService:
    """Connects every client to one of the same backends, whatever it will send."""

    def __init__(self, backends):
        """Share the clients among the backends of a BackendSet."""
        self.backends = backends
        self.family = backends.family  # of the sockets that its backends need, most likely

    def make_pair(self, client_socket, client_address, backend_socket):
        """Return a new client's Pair."""
        return Pair(client_socket, client_address, backend_socket)

    def admit(self, pair):
        """Start connecting a new client's other side."""
        pair.connect_to_backend(self.backends.attempts(pair.client.address))


class LookingService:
    """Looks at what each client sends, and then chooses a host for it."""

    def __init__(self, pair_class, sites, head_timeout, is_trusted=None):
        """Make pairs of a class, HttpPair or TlsPair, which look names up in the Sites.

        A client has head_timeout seconds for the whole of a head. is_trusted(address) returns True for a client (a
        string) that may speak for others; without it, none may.
        """
        self.pair_class = pair_class
        self.sites = sites
        self.is_trusted = is_trusted
        self.family = sites.family  # of the sockets that its backends need, most likely
        self.head_deadlines = Deadlines(head_timeout, LookingPair.on_late_head)
        self.linger_deadlines = Deadlines(LINGER_SECONDS, LookingPair.on_linger_end)

    def make_pair(self, client_socket, client_address, backend_socket):
        """Return a new client's pair."""
        return self.pair_class(client_socket, client_address, backend_socket, self)

    def admit(self, pair):
        """Give a new client its time for the first head."""
        self.head_deadlines.start(pair)
