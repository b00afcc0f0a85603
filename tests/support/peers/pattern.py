"""The bytes that are sent: a pattern in which every missing or misplaced byte shows."""

import random
from collections.abc import Iterator

CHUNK = 65536  # bytes

# A block of random bytes, repeated, makes transfers in which every missing or misplaced byte shows. Its
# length is a prime number, so that no buffer's size is a multiple of it.
PERIOD = 1_000_003
_BLOCK = random.Random(2013).randbytes(PERIOD)
_TWO_BLOCKS = _BLOCK + _BLOCK


def pattern(start: int, count: int) -> bytes:
    """Return `count` bytes of the test pattern, from byte `start` on."""
    start %= PERIOD
    if count <= PERIOD:
        return _TWO_BLOCKS[start : start + count]
    return (_BLOCK * (count // PERIOD + 2))[start : start + count]


def pattern_chunks(count: int) -> Iterator[bytes]:
    """Yield the first `count` bytes of the test pattern, in chunks."""
    for start in range(0, count, CHUNK):
        yield pattern(start, min(CHUNK, count - start))


def check_pattern(received: bytes, start: int):
    """Raise AssertionError when these are not the pattern's bytes from `start` on; say what is missing."""
    if received == pattern(start, len(received)):
        return
    expected = pattern(start, len(received))
    first = next(i for i, (got, want) in enumerate(zip(received, expected, strict=True)) if got != want)
    found = _TWO_BLOCKS.find(received[first : first + 16])
    gap = (found - start - first) % PERIOD if found >= 0 else 0
    missing = f"the next bytes are those from {gap:,} further on" if gap else "what follows is not part of the pattern"
    raise AssertionError(
        f"byte {start + first:,} is not the one that was sent: {missing}. "
        "Hint: what does send return when the socket can't take everything, and who looks at it?"
    )
