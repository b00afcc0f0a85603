"""A client that makes part 2 lose bytes, and counts them: python attack.py PORT COUNT.

Asks for something, gets up to COUNT bytes, and prints "missing: N", the number of bytes that did not come.
"""

import socket
import sys
import time

PORT, COUNT = map(int, sys.argv[1:])

received = 0  # bytes
# Your lines: connect to 127.0.0.1, send a word, and receive in a way that part 2 can't cope with.

print("missing:", COUNT - received)
