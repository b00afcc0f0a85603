"""Checks a client that makes part 2 lose bytes, and reports how many."""

import re

from support.peers import StreamingBackend

COUNT = 20_000_000  # bytes that the backend sends to each client


def missing(work, port, who):
    """Run the attack on a port; return how many bytes it reports as missing."""
    work.sent(f"attack.py {port} {COUNT}, to {who}; the backend sends {COUNT:,} bytes and closes")
    output = work.run_attack(port, COUNT)
    work.came_back(f"attack.py printed: {output.strip() or 'nothing'}")
    found = re.search(r"^missing: (\d+)$", output, re.MULTILINE)
    assert found, 'there is no line with the number. Hint: print("missing:", COUNT - received)'
    return int(found[1])


def from_the_backend(work):
    """Straight from the backend, nothing is missing: attack.py reads to the end and counts right."""
    with StreamingBackend(COUNT) as backend:
        count = missing(work, backend.port, "the backend itself")
    assert count == 0, f"{count:,} bytes too few are counted. Hint: read until recv returns no bytes"


def from_part_2(work):
    """Through part 2, bytes are missing."""
    with StreamingBackend(COUNT) as backend:
        count = missing(work, work.start(backend).port, "part 2")
    assert count < COUNT, "nothing came at all. Hint: send a word first, then receive"
    assert count > 0, "every byte arrived. Hint: where do bytes wait while you don't read, and how many fit in there?"


def from_part_4(work):
    """Through part 4, nothing is missing."""
    with StreamingBackend(COUNT) as backend:
        count = missing(work, work.start_part(4, backend).port, "part 4")
    assert count == 0, f"{count:,} bytes are missing there too. Hint: be slow, but read everything, to the end of file"


TASKS = [from_the_backend, from_part_2, from_part_4]
