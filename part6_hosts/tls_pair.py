"""A pair that looks at the client's ClientHello: the server name in it decides which host the client is for.

The name can be read, since it is sent before anything is encrypted. A HelloReader looks for it; the backend gets the
hello as it came, and after it bytes are just bytes. A refusal is a fatal alert (RFC 8446, section 6).
"""

from client_hello import DECODE_ERROR, INTERNAL_ERROR, MORE, UNRECOGNIZED_NAME, HelloError, HelloReader, alert
from hosts import RouteError
from looking_pair import LookingPair

HANDSHAKE_FAILURE = 40  # an alert


class TlsPair(LookingPair):
    """Sends a TLS client to the host that it names."""

    __slots__ = ("hello",)

    def __init__(self, client_socket, client_address, backend_socket, service):
        """Begin with nothing read."""
        super().__init__(client_socket, client_address, backend_socket, service)
        self.hello = HelloReader()

    def on_read(self, data):
        """Look for the name; when it is there, find its host."""
        try:
            name = self.hello.feed(data)
            if name is MORE:
                return
            self.service.head_deadlines.stop(self)
            host = self.service.sites.find(self.client.address[0], name)
        except HelloError as error:
            self.refuse(alert(error.alert))
        except RouteError:
            self.refuse(alert(INTERNAL_ERROR))
        else:
            self.found(host)

    def found(self, host):
        """Connect to a host, or refuse where there is none (None)."""
        if host is None:
            self.refuse(alert(UNRECOGNIZED_NAME))
            return
        self.connect_to_host(host)
        if not self.refusal:
            self.client.on_read = self.backend.write
            self.backend.write(self.hello.received)
            self.hello = None

    def on_early_end(self):
        """Answer a client that has sent its end of file in the middle of its hello; without a byte, it just leaves."""
        if self.hello.received:
            self.refuse(alert(DECODE_ERROR))
        else:
            self.finish()

    def on_no_backend(self, error_number):
        """Answer a client, since no backend could be reached."""
        self.refuse(alert(INTERNAL_ERROR))

    def timeout_page(self):
        """Return the answer for a client that has taken too long."""
        return alert(HANDSHAKE_FAILURE)
