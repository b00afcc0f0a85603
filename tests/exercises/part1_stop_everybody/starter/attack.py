"""A client that stops part 1 for everybody: python attack.py PORT."""

import socket
import sys
import time

PORT = int(sys.argv[1])

# Your lines: one connection to 127.0.0.1 that keeps the proxy busy for 30 seconds.
