"""One direction ends, the other goes on: your predictions, each before you run anything."""

a = None  # four letters
b = None  # sockets
c = None  # "end" or "reset"
