"""What was said and heard on a client's connection, for whoever has to explain a failure."""

import collections

HEAD = 72  # bytes that are kept, of what was sent and of what was received
WIDTH = 80  # characters of them that are shown

recent = collections.deque(maxlen=8)  # the last connections, the newest at the end


class Talk:
    """One connection: how many bytes were sent and received, and the first of them."""

    def __init__(self):
        """Begin with nothing."""
        self.sent = 0  # bytes
        self.received = 0  # bytes
        self.first_sent = b""
        self.first_received = b""
        recent.append(self)

    def said(self, data):
        """Count what was sent."""
        self.sent += len(data)
        self.first_sent += data[: HEAD - len(self.first_sent)]

    def heard(self, data):
        """Count what was received."""
        self.received += len(data)
        self.first_received += data[: HEAD - len(self.first_received)]

    def shown(self):
        """Return the two directions, each as one line."""
        return shown(self.first_sent, self.sent), shown(self.first_received, self.received)


def shown(head, count):
    """Return the first bytes and their number as one line."""
    if not count:
        return "nothing"
    return f"{repr(head)[:WIDTH]}{'…' if count > len(head) else ''} ({count:,} byte{'s' * (count != 1)})"
