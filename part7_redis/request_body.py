"""The bodies of requests, read as they come (RFC 9112, section 6): by their length, or in chunks.

No sockets and no pairs here: a body gets pieces of any size, and returns what the backend gets of them. One with a
length is passed on as it comes. A chunked one is read chunk by chunk (section 7.1), and passed on in the same chunks,
but without their extensions, and without trailers.
"""

import re

from request_head import BadRequest

MAX_LINE = 4096  # bytes of the line before a chunk, and of all the trailers of a body

CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*;[\t -~\x80-\xff]*)?")  # the size, and maybe an extension
TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class LengthBody:
    """A body of a known length."""

    def __init__(self, length):
        """Begin a body of so many bytes."""
        self.bytes_left = length

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been read."""
        return not self.bytes_left

    def read(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Read from a position in the data on; return what the backend gets, and the position that it came to."""
        piece = data[start : start + self.bytes_left]
        self.bytes_left -= len(piece)
        return piece, start + len(piece)


class ChunkedBody:
    """A body in chunks: line, data, empty line; the last chunk has the size 0, and trailers may follow it."""

    def __init__(self):
        """Begin before the first chunk."""
        self.line = b""  # the line that is being read, as far as it has come
        self.bytes_left = 0  # of the chunk; among trailers: that they may still take
        self.step = ChunkedBody.read_chunk_line  # reads the next bytes; None: all of it has been read
        self.output = []  # bytes for the backend, while read() is at work
        self.error = None  # a BadRequest that was met after sound chunks

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been read."""
        return self.step is None

    def read(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Read from a position in the data on; return what the backend gets, and the position that it came to.

        Raises BadRequest; sound chunks before the bad place are returned first, and the next call raises it.
        """
        # For speed: all there is, not one chunk. With tiny chunks, an event for each was 26 % slower.
        try:
            if self.error:
                raise self.error
            while self.step and start < len(data):
                start = self.step(self, data, start)
        except BadRequest as error:
            if not self.output:
                raise
            self.error = error
        output = b"".join(self.output)
        self.output.clear()
        return output, start

    # Each of the following methods reads from a position in the data on, and returns the position that it came to.

    def read_chunk_line(self, data, start):
        """Read the line before a chunk; the last chunk has the size 0."""
        line, end = self.read_line(data, start)
        if line is not None:
            found = CHUNK_LINE.fullmatch(line)
            if not found:
                raise BadRequest(400, "a chunk does not begin with its size")
            self.bytes_left = int(found[1], 16)
            if self.bytes_left:
                self.output.append(b"%x\r\n" % self.bytes_left)
                self.step = ChunkedBody.read_chunk
            else:
                self.bytes_left = MAX_LINE
                self.step = ChunkedBody.read_trailer
        return end

    def read_chunk(self, data, start):
        """Pass on some of a chunk."""
        piece = data[start : start + self.bytes_left]
        self.output.append(piece)
        self.bytes_left -= len(piece)
        if not self.bytes_left:
            self.step = ChunkedBody.read_chunk_end
        return start + len(piece)

    def read_chunk_end(self, data, start):
        """Read the end of the line after a chunk."""
        line, end = self.read_line(data, start, longest=2)
        if line is not None:
            self.output.append(b"\r\n")
            self.step = ChunkedBody.read_chunk_line
        return end

    def read_trailer(self, data, start):
        """Read a line after the last chunk, and drop it: what comes so late has not been checked by anything."""
        line, end = self.read_line(data, start, longest=self.bytes_left)
        if line:
            self.bytes_left -= len(line) + 2
            if not TRAILER.fullmatch(line):
                raise BadRequest(400, "a trailer that is not a header")
        elif line is not None:
            self.output.append(b"0\r\n\r\n")
            self.bytes_left = 0
            self.step = None
        return end

    def read_line(self, data, start, longest=MAX_LINE):
        """Read a line of so many bytes; return it without its end, or None if that has not come, and the position."""
        room = longest - len(self.line)
        newline = data.find(b"\n", start, start + room)
        piece = data[start : start + room if newline < 0 else newline + 1]
        self.line += piece
        if newline < 0:
            if len(self.line) == longest:
                raise BadRequest(400, "a chunk, or its line, or trailers that are too long")
            return None, start + len(piece)
        line, self.line = self.line, b""
        if not line.endswith(b"\r\n"):
            raise BadRequest(400, "a line in a chunked body that does not end with CRLF")
        return line[:-2], start + len(piece)
