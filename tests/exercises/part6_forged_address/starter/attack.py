"""A request in somebody else's name: python attack.py PORT."""

import socket
import sys

PORT = int(sys.argv[1])

# Your lines: one request to 127.0.0.1, for shop.localhost; then print the answer.
