"""A backend's answer to a request for a WebSocket: does it agree to speak another protocol (RFC 9110, section 15.2)?

Bytes go in, and yes or no comes out; no sockets here. Interim answers, such as 100 Continue or 103 Early Hints, may
come first, and decide nothing.
"""

import re

MAX_INTERIM = 32768  # bytes that one interim answer may have
STATUS_LENGTH = 13  # bytes; after that many of an answer, its status code has come

SWITCHED = re.compile(rb"HTTP/1\.1 101[ \r\n]")
INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")
HEAD_END = re.compile(rb"\n\r?\n")  # backends may be as careless as their clients allow


class UpgradeAnswer:
    """Reads the beginning of the answer, which may come in any pieces."""

    def __init__(self):
        """Begin with nothing."""
        self.beginning = b""  # of the answer, after what was interim

    def feed(self, data: bytes) -> bool | None:
        """Return True if the backend agrees, False if it doesn't, None as long as that can't be known."""
        answer = self.beginning + data
        while INTERIM.match(answer) and (end := HEAD_END.search(answer)):
            answer = answer[end.end() :]
        self.beginning = answer[: MAX_INTERIM + 1]
        if INTERIM.match(answer):
            return None if len(answer) <= MAX_INTERIM else False
        if len(answer) < STATUS_LENGTH and b"\n" not in answer:
            return None
        return SWITCHED.match(answer) is not None
